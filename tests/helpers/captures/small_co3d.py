"""CO3D in small, in its published layout."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
from ball_on_plane import cast, colors, pixel_rays, views, world_to_camera
from PIL import Image
from small_dynamic_replica import viewpoint

from page4d_hf.captures.layouts.co3d import read_co3d

SIZE = (36, 64)
NAME = "110_13051_23361"
FOCAL, PRINCIPAL = (1.9, 1.9), (-0.05, 0.08)  # ndc_isotropic
FILES = (1, 4, 9)  # numbers in the files' names; the frames' own numbers are 0, 1, 2
UNIT = min(SIZE) / 2
PIXEL_FOCAL = (FOCAL[0] * UNIT, FOCAL[1] * UNIT)
PIXEL_PRINCIPAL = (SIZE[0] / 2 - PRINCIPAL[0] * UNIT, SIZE[1] / 2 - PRINCIPAL[1] * UNIT)


def write_jgz(path: Path, value: Any) -> None:
    with gzip.open(path, "wt") as file:
        json.dump(value, file)


class Category:
    """Sequences of three frames of one category."""

    def __init__(self, root: Path, name: str = "apple", sequences: tuple[str, ...] = (NAME,)) -> None:
        self.root, self.base, self.folder, self.name = root, root, root / name, name
        self.entries: list[dict[str, Any]] = []
        self.sequences = [{"sequence_name": sequence, "viewpoint_quality_score": 0.9} for sequence in sequences]
        for sequence in sequences:
            for part in ("images", "depths", "depth_masks", "masks"):
                (self.folder / sequence / part).mkdir(parents=True)
            for number, (file, view) in enumerate(zip(FILES, views(3), strict=True)):
                rays = pixel_rays(view, PIXEL_FOCAL, PIXEL_PRINCIPAL, SIZE)
                depth, _ = cast(view.centre, rays)
                paths = {
                    "image": f"{name}/{sequence}/images/frame{file:06d}.jpg",
                    "depth": f"{name}/{sequence}/depths/frame{file:06d}.jpg.geometric.png",
                    "depth_mask": f"{name}/{sequence}/depth_masks/frame{file:06d}.png",
                }
                image = colors(view.centre + depth[..., None] * rays)
                Image.fromarray(image).save(root / paths["image"], quality=95, subsampling=0)
                Image.fromarray(depth.astype("<f2").view("<u2")).save(root / paths["depth"])
                mask = np.full(depth.shape, 255, np.uint8)
                mask[0, :4] = [0, 128, 129, 200]
                Image.fromarray(mask).save(root / paths["depth_mask"])
                self.entries.append(
                    {
                        "sequence_name": sequence,
                        "frame_number": number,
                        "frame_timestamp": -1.0,
                        "image": {"path": paths["image"], "size": [SIZE[1], SIZE[0]]},
                        "depth": {"path": paths["depth"], "scale_adjustment": 1.0, "mask_path": paths["depth_mask"]},
                        "mask": {"path": paths["image"].replace("images", "masks")},
                        "viewpoint": viewpoint(view, "ndc_isotropic", FOCAL, PRINCIPAL),
                    }
                )
        self.save()

    def save(self) -> None:
        write_jgz(self.folder / "frame_annotations.jgz", self.entries[::-1])
        write_jgz(self.folder / "sequence_annotations.jgz", self.sequences)

    def write_set_list(self, subset: str, **parts: list[str]) -> None:
        (self.folder / "set_lists").mkdir(exist_ok=True)
        lists = {part: [[name, 0, "path"] for name in parts.get(part, [])] for part in ("train", "val", "test")}
        (self.folder / "set_lists" / f"set_lists_{subset}.json").write_text(json.dumps(lists))

    def to_second_form(self, folder: Path, split: str = "train", shift: float = 0.0) -> dict[str, Any]:
        """Replace the annotations by those of VGGT and PAGE-4D."""
        mapping: dict[str, Any] = {}
        for i, frame in enumerate(self.entries):
            matrix = world_to_camera(views(3)[i % 3])[:3]
            focal, principal = PIXEL_FOCAL, PIXEL_PRINCIPAL
            mapping.setdefault(frame["sequence_name"], []).append(
                {
                    "filepath": frame["image"]["path"],
                    "extri": matrix.tolist(),
                    "intri": [[focal[0], 0, principal[0]], [0, focal[1], principal[1]], [0, 0, 1]],
                }
            )
        for path in self.folder.glob("*.jgz"):
            path.unlink()
        folder.mkdir(exist_ok=True)
        write_jgz(folder / f"{self.name}_{split}.jgz", mapping)
        return mapping

    def read(self) -> Any:
        return read_co3d(self.root, f"{self.name}/{NAME}")
