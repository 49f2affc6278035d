"""PointOdyssey in small, in its published layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from ball_on_plane import cast, colors, pixel_rays, views, world_to_camera
from PIL import Image

from page4d_hf.captures import as_pinhole
from page4d_hf.captures.layouts.point_odyssey import read_point_odyssey

SIZE = (64, 36)
FOCAL, PRINCIPAL = (60.0, 60.0), (32.0, 18.0)
COUNT = 4
BALL_COLOR, BLOCK_COLOR = (200, 30, 90), (10, 220, 60)
BLOCK = (slice(30, 36), slice(0, 12))  # where the image shows an instance that stands still


class Sequence:
    """Four frames: the ball moves by its tracks, a block does not, the rest is background."""

    def __init__(self, root: Path, name: str = "train/ani") -> None:
        self.root, self.name, self.folder = root, name, root / name
        for part in ("rgbs", "depths", "masks"):
            (self.folder / part).mkdir(parents=True)
        rng = np.random.default_rng(0)
        pixels, places = [], []
        for i, view in enumerate(views(COUNT)):
            rays = pixel_rays(view, FOCAL, PRINCIPAL, SIZE)
            depth, on_ball = cast(view.centre, rays)
            points = view.centre + depth[..., None] * rays
            Image.fromarray(colors(points)).save(self.folder / f"rgbs/rgb_{i:05d}.jpg", quality=95, subsampling=0)
            stored = np.minimum(depth / 1000 * 65535, 65535)
            stored[0, :3] = [65535, 0, 65534]
            Image.fromarray(np.round(stored).astype(np.uint16)).save(self.folder / f"depths/depth_{i:05d}.png")
            mask = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
            mask[on_ball] = BALL_COLOR
            mask[BLOCK] = BLOCK_COLOR
            Image.fromarray(mask).save(self.folder / f"masks/mask_{i:05d}.png")
            # Tracks: 30 on the ball, 20 on the block, 50 on the background. Only the ball's change their place.
            on = [np.argwhere(mask[..., 0] == color) for color in (BALL_COLOR[0], BLOCK_COLOR[0], 0)]
            chosen = np.concatenate([rng.choice(found, n) for found, n in zip(on, (30, 20, 50), strict=True)])
            pixels.append(chosen[:, ::-1] + 0.5)
            places.append(np.concatenate((np.full((30, 3), 0.1 * i), np.ones((70, 3)))))
            self.on_ball = on_ball & (mask[..., 0] == BALL_COLOR[0])
        matrix = np.array([[FOCAL[0], 0, PRINCIPAL[0]], [0, FOCAL[1], PRINCIPAL[1]], [0, 0, 1]])
        self.arrays: dict[str, Any] = {
            "intrinsics": np.stack([matrix] * COUNT).astype(np.float32),
            "extrinsics": np.stack([world_to_camera(view) for view in views(COUNT)]).astype(np.float32),
            "trajs_2d": np.stack(pixels).astype(np.float32),
            "trajs_3d": np.stack(places).astype(np.float32),
            "valids": np.ones((COUNT, 100), bool),
            "visibs": np.ones((COUNT, 100), bool),
        }
        self.save()

    def save(self, name: str = "anno.npz", compressed: bool = True) -> None:
        (np.savez_compressed if compressed else np.savez)(self.folder / name, **self.arrays)

    def read(self) -> Any:
        return read_point_odyssey(self.root, self.name)

    def mask(self, index: int = COUNT - 1) -> np.ndarray | None:
        return as_pinhole(self.read()).load_motion_mask(index)
