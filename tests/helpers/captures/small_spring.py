"""Spring in small, in its published layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from ball_on_plane import cast, colors, pixel_rays, shifted, views, world_to_camera
from PIL import Image

from page4d_hf.captures.layouts.spring import read_spring

SIZE = (64, 36)
FOCAL, PRINCIPAL = (60.0, 61.0), (33.0, 17.0)
COUNT = 3
BALL_MOVES = np.array([0.2, 0.1, 0.0])  # each frame, in the flow alone


def write_hdf5(path: Path, key: str, values: np.ndarray) -> None:
    """Values of each pixel at twice the size; what lies between them is not to be read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    doubled = np.full((2 * values.shape[0], 2 * values.shape[1], *values.shape[2:]), 1e4, np.float32)
    doubled[::2, ::2] = values
    with h5py.File(path, "w") as file:
        file.create_dataset(key, data=doubled, compression="gzip")


def write_map(path: Path, mask: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((mask * 255).astype(np.uint8)).save(path)


def project(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    in_camera = points @ matrix[:3, :3].T + matrix[:3, 3]
    return in_camera[..., :2] / in_camera[..., 2:] * FOCAL + PRINCIPAL


class Scene:
    """Three stereo frames, the ball being what moves, and sky along the upper edge."""

    def __init__(self, root: Path, maps: str = "maps/", marked: str = "moving", moves: bool = True) -> None:
        self.root, self.folder = root, root / "train" / "0007"
        left_views = views(COUNT)
        self.on_ball: dict[str, list[np.ndarray]] = {"left": [], "right": []}
        for eye in ("left", "right"):
            eye_views = [view if eye == "left" else shifted(view, 0.065) for view in left_views]
            (self.folder / f"frame_{eye}").mkdir(parents=True)
            for number, view in enumerate(eye_views, start=1):
                rays = pixel_rays(view, FOCAL, PRINCIPAL, SIZE)
                depth, on_ball = cast(view.centre, rays)
                points = view.centre + depth[..., None] * rays
                on_ball &= moves
                Image.fromarray(colors(points)).save(self.folder / f"frame_{eye}/frame_{eye}_{number:04d}.png")
                disparity = FOCAL[0] * 0.065 / depth
                disparity[1, :3] = [np.nan, 0, -1]
                write_hdf5(self.folder / f"disp1_{eye}/disp1_{eye}_{number:04d}.dsp5", "disparity", disparity)
                sky = np.zeros(depth.shape, bool)
                sky[0] = True
                write_map(self.folder / f"{maps}skymap_{eye}/skymap_{eye}_{number:04d}.png", sky)
                way = "FW" if number < COUNT else "BW"
                shown = on_ball if marked == "moving" else ~on_ball
                write_map(self.folder / f"{maps}rigidmap_{way}_{eye}/rigidmap_{way}_{eye}_{number:04d}.png", shown)
                if number < COUNT:
                    after = project(points + on_ball[..., None] * BALL_MOVES, world_to_camera(eye_views[number]))
                    u, v = np.meshgrid(np.arange(SIZE[0]) + 0.5, np.arange(SIZE[1]) + 0.5)
                    flow = after - np.stack((u, v), axis=-1)
                    write_hdf5(self.folder / f"flow_FW_{eye}/flow_FW_{eye}_{number:04d}.flo5", "flow", flow)
                self.on_ball[eye].append(on_ball)
        (self.folder / "cam_data").mkdir()
        self.extrinsics = [world_to_camera(view).ravel() for view in left_views]
        self.intrinsics = [[*FOCAL, *PRINCIPAL]] * COUNT
        self.save()

    def save(self) -> None:
        for name, rows in (("intrinsics", self.intrinsics), ("extrinsics", self.extrinsics)):
            text = "\n".join(" ".join(f"{value:.17g}" for value in row) for row in rows)
            (self.folder / "cam_data" / f"{name}.txt").write_text(text + "\n")

    def remove(self, pattern: str) -> None:
        for path in self.folder.glob(pattern):
            path.unlink()

    def read(self) -> Any:
        return read_spring(self.root, "train/0007/left")
