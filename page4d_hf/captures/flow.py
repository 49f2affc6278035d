"""The optical flow that a moving camera alone causes, by which layouts tell what moves."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def still_flow(
    depth: npt.NDArray[Any],
    camera: tuple[npt.NDArray[Any], npt.NDArray[Any]],
    next_camera: tuple[npt.NDArray[Any], npt.NDArray[Any]],
) -> npt.NDArray[np.float64]:
    """The optical flow of points that stand still while the camera moves.

    Args:
        depth: `(H, W)` z-depth.
        camera: extrinsics `(3, 4)` and intrinsics `(3, 3)` with the first pixel's centre at (0, 0).
        next_camera: those of the next frame.

    Returns:
        `(H, W, 2)` in pixels; NaN where depth is not known or the point is behind the next camera.
    """
    (extrinsics, intrinsics), (next_extrinsics, next_intrinsics) = camera, next_camera
    height, width = depth.shape
    pixels = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(np.float64)
    known = np.isfinite(depth) & (depth > 0)
    rays = np.concatenate((pixels, np.ones((height, width, 1))), axis=-1) @ np.linalg.inv(intrinsics).T
    in_camera = rays * np.where(known, depth, 1)[..., None]
    in_world = (in_camera - extrinsics[:, 3]) @ extrinsics[:, :3]
    in_next = in_world @ next_extrinsics[:, :3].T + next_extrinsics[:, 3]
    seen = known & (in_next[..., 2] > 0)
    projected = in_next @ next_intrinsics.T
    moved = projected[..., :2] / np.where(seen, projected[..., 2], 1)[..., None] - pixels
    return np.where(seen[..., None], moved, np.nan)
