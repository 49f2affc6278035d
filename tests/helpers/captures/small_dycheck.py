"""DyCheck's iPhone captures in small, in their published layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from ball_on_plane import cast, colors, pixel_rays, views, world_to_camera
from PIL import Image

from page4d_hf.captures import Capture
from page4d_hf.captures.layouts.dycheck import read_dycheck

FULL_SIZE = (48, 64)
FOCAL, CENTER = 47.9, (23.7, 32.6)
SCALE, SCENE_CENTER = 0.27, [-0.2, 0.17, -1.17]
IDS = ["0_00000", "0_00001", "0_00002", "1_00000", "1_00002", "2_00001"]  # of each phone that stands still, some
TRAIN, VAL = IDS[:3], IDS[3:]


class SmallCapture:
    """A capture named paper-windmill, ray-cast, in metres: 3 frames of phone 0, 2 of phone 1 and 1 of phone 2."""

    def __init__(self, root: Path) -> None:
        self.root, self.folder = root, root / "paper-windmill"
        self.views = dict(zip(IDS, views(6), strict=True))
        self.no_return = np.zeros(FULL_SIZE[::-1], bool)
        self.no_return[50:, :9] = True
        for name in ("camera", "splits", "rgb/1x", "rgb/2x", "depth/1x", "depth/2x", "covisible/2x/val"):
            (self.folder / name).mkdir(parents=True)
        for frame_id, view in self.views.items():
            camera = {
                "orientation": world_to_camera(view)[:3, :3].tolist(),
                "position": view.centre.tolist(),
                "focal_length": FOCAL,
                "principal_point": list(CENTER),
                "image_size": list(FULL_SIZE),
            }
            self.write(f"camera/{frame_id}.json", camera)
            for factor in (1, 2):
                self.write_frame(frame_id, factor)
            if frame_id in VAL:
                Image.fromarray(np.full((32, 24), 255, np.uint8)).save(
                    self.folder / "covisible" / "2x" / "val" / f"{frame_id}.png"
                )
        self.write("dataset.json", {"count": 6, "num_exemplars": 3, "ids": IDS, "train_ids": TRAIN, "val_ids": VAL})
        self.write(
            "metadata.json",
            {i: {"appearance_id": int(i[2:]), "camera_id": int(i[0]), "warp_id": int(i[2:])} for i in IDS},
        )
        self.write("scene.json", {"scale": SCALE, "center": SCENE_CENTER, "near": 0.1, "far": 0.5})
        self.write("extra.json", {"factor": 2, "fps": 30.0, "bbox": [[-1, -1, -1], [1, 1, 1]]})
        for name, ids in (("train", TRAIN), ("val", VAL)):
            self.write_split(name, ids, [int(i[2:]) for i in ids], [int(i[0]) for i in ids])

    def write(self, name: str, value: Any) -> None:
        (self.folder / name).write_text(json.dumps(value))

    def write_split(self, name: str, ids: list[str], time_ids: list[int], camera_ids: list[int]) -> None:
        self.write(f"splits/{name}.json", {"camera_ids": camera_ids, "frame_names": ids, "time_ids": time_ids})

    def write_frame(self, frame_id: str, factor: int) -> None:
        view, size = self.views[frame_id], (FULL_SIZE[0] // factor, FULL_SIZE[1] // factor)
        directions = pixel_rays(view, (FOCAL / factor,) * 2, [c / factor for c in CENTER], size)
        depth, _ = cast(view.centre, directions)
        image = np.full((*size[::-1], 4), 255, np.uint8)
        image[..., :3] = colors(view.centre + depth[..., None] * directions)
        if frame_id in TRAIN:
            image[self.no_return[::factor, ::factor], 3] = 0
            stored = np.where(depth < 12, depth, 0).astype(np.float32)[..., None]
            np.save(self.folder / "depth" / f"{factor}x" / f"{frame_id}.npy", stored)
        Image.fromarray(image).save(self.folder / "rgb" / f"{factor}x" / f"{frame_id}.png")

    def read(self) -> Capture:
        return read_dycheck(self.root, "paper-windmill/0")
