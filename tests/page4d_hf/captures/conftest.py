"""A small capture to read, and to damage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

FULL_SIZE = (48, 32)
CENTER = [0.5, -1.0, 2.0]
SCALE = 0.25


class SmallCapture:
    """A Nerfies capture of 8 frames on disk: two cameras, four instants."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ids = [f"{side}_{instant:03d}" for side in ("left", "right") for instant in range(4)]
        self.cameras = {frame_id: self._camera(i) for i, frame_id in enumerate(self.ids)}
        self.points = np.random.default_rng(1).normal(size=(20, 3)).astype(np.float32)
        (root / "camera").mkdir(parents=True)
        for frame_id, camera in self.cameras.items():
            self.write(f"camera/{frame_id}.json", camera)
        self.write(
            "dataset.json",
            {"count": 8, "num_exemplars": 4, "ids": self.ids, "train_ids": self.ids[:4], "val_ids": self.ids[4:]},
        )
        self.write(
            "metadata.json",
            {
                frame_id: {"warp_id": 10 + i % 4, "appearance_id": i, "camera_id": i // 4}
                for i, frame_id in enumerate(self.ids)
            },
        )
        self.write("scene.json", {"scale": SCALE, "center": CENTER, "near": 0.1, "far": 2.0})
        np.save(root / "points.npy", self.points)
        self.write_images("rgb/1x", FULL_SIZE)

    def _camera(self, i: int) -> dict[str, Any]:
        return {
            "orientation": Rotation.from_euler("xyz", (0.1 * i, -0.2, 0.05 * i)).as_matrix().tolist(),
            "position": [0.1 * i, 1.0 - i, 3.0],
            "focal_length": 40.0,
            "principal_point": [25.0, 15.0],
            "skew": 0.5,
            "pixel_aspect_ratio": 1.25,
            "radial_distortion": [0.01, -0.02, 0.03],
            "tangential_distortion": [0.001, -0.002],
            "image_size": list(FULL_SIZE),
        }

    def write(self, name: str, value: Any) -> None:
        """Write a JSON file."""
        (self.root / name).write_text(json.dumps(value))

    def edit(self, name: str, **changes: Any) -> None:
        """Change the values of some keys of a JSON file."""
        self.write(name, {**json.loads((self.root / name).read_text()), **changes})

    def drop(self, name: str, key: str) -> None:
        """Remove a key from a JSON file."""
        value = json.loads((self.root / name).read_text())
        del value[key]
        self.write(name, value)

    def write_images(self, folder: str, size: tuple[int, int], suffix: str = ".png") -> None:
        """Write an image of noise for each frame."""
        (self.root / folder).mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(0)
        for frame_id in self.ids:
            pixels = rng.integers(0, 256, (size[1], size[0], 3), np.uint8)
            Image.fromarray(pixels).save(self.root / folder / f"{frame_id}{suffix}")


@pytest.fixture
def small_capture(tmp_path: Path) -> SmallCapture:
    """A capture of 8 frames of 48x32 pixels."""
    return SmallCapture(tmp_path / "capture")
