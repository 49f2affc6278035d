"""A small capture, written file by file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

from page4d_hf.captures import Capture


def stored_capture(
    folder: Path, count: int = 6, size: tuple[int, int] = (32, 24), *, suffix: str = ".png", **others: Any
) -> Capture:
    """A capture of noise: `count` images of (width, height), with cameras, depth in 1/5000 and motion masks.

    Keywords replace fields of the capture.
    """
    generator = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    width, height = size
    images, depths, masks = [], [], []
    for i in range(count):
        images.append(folder / f"image{i}{suffix}")
        Image.fromarray(generator.integers(0, 256, (height, width, 3), np.uint8)).save(images[-1])
        depths.append(folder / f"depth{i}.npy")
        np.save(depths[-1], generator.integers(0, 50_000, (height, width)).astype(np.uint16))
        masks.append(folder / f"mask{i}.png")
        Image.fromarray(generator.integers(0, 2, (height, width), np.uint8) * 255).save(masks[-1])
    rotations = Rotation.random(count, random_state=1).as_matrix()
    intrinsics = np.array([[30.1, 0, 15.7], [0, 29.3, 12.9], [0, 0, 1]])
    fields: dict[str, Any] = {
        "layout": "test",
        "root": folder,
        "sequence": "noise",
        "frame_ids": [f"frame{i}" for i in range(count)],
        "image_paths": images,
        "extrinsics": np.concatenate((rotations, generator.normal(size=(count, 3, 1))), axis=-1),
        "intrinsics": np.tile(intrinsics, (count, 1, 1)),
        "distortion": np.zeros((count, 5)),
        "image_sizes": np.tile(np.array(size), (count, 1)),
        "time_ids": np.arange(count),
        "camera_ids": np.zeros(count, np.int64),
        "depth_paths": depths,
        "motion_mask_paths": masks,
        "depth_scale": 1 / 5000,
        "scale": "metres",
    }
    return Capture(**{**fields, **others})
