"""Dynamic Replica in small, in its published layout."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ball_on_plane import View, cast, colors, shifted, views
from PIL import Image

from page4d_hf.captures.layouts.dynamic_replica import read_dynamic_replica

SIZE = (64, 36)
NAME = "009850-3_obj"
LEFT, RIGHT = f"{NAME}_source_left", f"{NAME}_source_right"
FOCAL, PRINCIPAL = (2.2, 2.2), (0.1, -0.06)


def viewpoint(
    view: View, kind: str, focal: Sequence[float] = FOCAL, principal: Sequence[float] = PRINCIPAL
) -> dict[str, Any]:
    """PyTorch3D multiplies rows and its axes are left, up and forward: they are the columns of R."""
    rotation = np.stack((-view.right, -view.down, view.forward), axis=1)
    return {
        "R": rotation.tolist(),
        "T": (-view.centre @ rotation).tolist(),
        "focal_length": list(focal),
        "principal_point": list(principal),
        "intrinsics_format": kind,
    }


def rays(view: View, kind: str, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Directions of PyTorch3D's pixels: NDC is +1 at the left and upper edge, of the shorter side if isotropic."""
    j, i = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    x, y = 1 - 2 * (j + 0.5) / size[0], 1 - 2 * (i + 0.5) / size[1]
    if kind == "ndc_isotropic":
        x, y = x * size[0] / min(size), y * size[1] / min(size)
    x, y = (x - PRINCIPAL[0]) / FOCAL[0], (y - PRINCIPAL[1]) / FOCAL[1]
    return x[..., None] * -view.right + y[..., None] * -view.down + view.forward


def write_depth(path: Path, depth: np.ndarray) -> None:
    """float16 as the bits of a 16-bit PNG."""
    Image.fromarray(depth.astype("<f2").view("<u2")).save(path)


class Folder:
    """Three frames of a stereo sequence."""

    def __init__(self, root: Path, folder: str = "train", split: str = "train", kind: str = "ndc_isotropic") -> None:
        self.root, self.base, self.folder = root, root / folder, root / folder
        self.annotation_file = self.folder / f"frame_annotations_{split}.jgz"
        self.entries: list[dict[str, Any]] = []
        for eye in ("left", "right"):
            name = f"{NAME}_source_{eye}"
            for part in ("images", "depths", "masks"):
                (self.folder / name / part).mkdir(parents=True, exist_ok=True)
            for i, left in enumerate(views(3)):
                view = left if eye == "left" else shifted(left, 0.3)
                directions = rays(view, kind)
                depth, on_ball = cast(view.centre, directions)  # the directions have z = 1
                paths = {
                    "image": f"{name}/images/{name}-{i:04d}.png",
                    "depth": f"{name}/depths/{name}_{i:04d}.geometric.png",
                    "mask": f"{name}/masks/{name}_{i:04d}.png",
                }
                image = colors(view.centre + depth[..., None] * directions)
                Image.fromarray(image).save(self.folder / paths["image"])
                depth[0, :4] = [np.inf, np.nan, 0, -1]
                write_depth(self.folder / paths["depth"], depth)
                Image.fromarray((on_ball * 255).astype(np.uint8)).save(self.folder / paths["mask"])
                self.entries.append(
                    {
                        "sequence_name": NAME,
                        "camera_name": eye,
                        "frame_number": i,
                        "frame_timestamp": 2 + i / 30,
                        "image": {"path": paths["image"], "size": [SIZE[1], SIZE[0]]},
                        "depth": {"path": paths["depth"]},
                        "mask": {"path": paths["mask"]},
                        "flow_forward": {"path": None},
                        "viewpoint": viewpoint(view, kind),
                    }
                )
        self.on_ball = on_ball
        self.save()

    def save(self) -> None:
        # The order of the entries says nothing.
        with gzip.open(self.annotation_file, "wt") as file:
            json.dump(self.entries[::-1], file)

    def read(self) -> Any:
        return read_dynamic_replica(self.root, f"train/{LEFT}")
