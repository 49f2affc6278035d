"""MPI Sintel in small, in its published layout."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from ball_on_plane import View, cast, colors, pixel_rays, views, world_to_camera
from PIL import Image

from page4d_hf.captures import Capture
from page4d_hf.captures.layouts.sintel import PASSES, read_sintel

NAME = "alley_2"
SIZE = (64, 28)
FOCAL = 50.0
MOTION = 3.0  # pixels by which the ball moves to the right


def write_floats(path: Path, values: np.ndarray) -> None:
    """Depth `(H, W)` or flow `(H, W, 2)`."""
    height, width = values.shape[:2]
    path.write_bytes(struct.pack("<fii", 202021.25, width, height) + values.astype("<f4").tobytes())


def write_camera(path: Path, intrinsics: np.ndarray, extrinsics: np.ndarray) -> None:
    numbers = [*np.ravel(intrinsics), *np.ravel(extrinsics)]
    path.write_bytes(struct.pack("<f21d", 202021.25, *numbers))


class SmallSintel:
    """One sequence of 4 frames, unpacked into one folder, in which the ball moves across the image."""

    # The middle of the image, where the first pixel's centre is at 0: 31.5 and 13.5, as 511.5 and 217.5 in the film.
    intrinsics = np.array([[FOCAL, 0, (SIZE[0] - 1) / 2], [0, FOCAL, (SIZE[1] - 1) / 2], [0, 0, 1]])

    def __init__(self, root: Path) -> None:
        self.root, self.training = root, root / "training"
        self.folder = self.training
        self.views = views(5)
        self.balls = []
        for kind in (*PASSES, "depth", "camdata_left", "flow", "occlusions", "invalid"):
            (self.training / kind / NAME).mkdir(parents=True)
        for i, view in enumerate(self.views[:4]):
            directions = pixel_rays(view, (FOCAL, FOCAL), (SIZE[0] / 2, SIZE[1] / 2), SIZE)
            depth, ball = cast(view.centre, directions)
            self.balls.append(ball)
            points = view.centre + depth[..., None] * directions
            for render_pass in PASSES:
                Image.fromarray(colors(points)).save(self.path(render_pass, i, ".png"))
            write_floats(self.path("depth", i, ".dpt"), np.where(np.isfinite(depth), depth, 1e10))
            write_camera(self.path("camdata_left", i, ".cam"), self.intrinsics, world_to_camera(view)[:3])
            if i < 3:  # the last frame has no next
                write_floats(
                    self.path("flow", i, ".flo"), self.flow(points, self.views[i + 1]) + MOTION * ball[..., None]
                )
                Image.fromarray(np.zeros(SIZE[::-1], np.uint8)).save(self.path("invalid", i, ".png"))

    def path(self, kind: str, i: int, suffix: str) -> Path:
        return self.training / kind / NAME / f"frame_{i + 1:04d}{suffix}"

    def flow(self, points: np.ndarray, next_view: View) -> np.ndarray:
        """Flow of points of the world that stand still."""
        matrix = world_to_camera(next_view)
        seen = points @ matrix[:3, :3].T + matrix[:3, 3]
        x, y = FOCAL * seen[..., 0] / seen[..., 2] + 31.5, FOCAL * seen[..., 1] / seen[..., 2] + 13.5
        v, u = np.indices(points.shape[:2])
        return np.stack((x - u, y - v), axis=-1)

    def read(self) -> Capture:
        return read_sintel(self.root, NAME)
