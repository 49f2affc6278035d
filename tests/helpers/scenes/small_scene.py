"""A scene folder of the ball above a plane, with exact cameras, depth, motion, points and tracks: the ball moves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from ball_on_plane import BALL, cast, colors, pixel_rays, render, views, world_to_camera

from page4d_hf.frames import Frames
from page4d_hf.geometry import camera_centers
from page4d_hf.scene import PointTracks, Reconstruction, write_scene

SIZE = (48, 36)  # width, height
FOCAL, PRINCIPAL = (50.0, 52.0), (25.5, 17.0)
STEP = 4  # a point for each so many pixels along both axes


def ball_scene(count: int = 4, **changes: Any) -> Reconstruction:
    """A reconstruction without error; keywords replace its fields."""
    seen = views(count)
    depth, motion, points, times, moving = [], [], [], [], []
    for i, view in enumerate(seen):
        rays = pixel_rays(view, FOCAL, PRINCIPAL, SIZE)
        z, on_ball = cast(view.centre, rays)
        z = np.where(z < 1e3, z, np.nan)
        depth.append(z.astype(np.float32))
        motion.append(on_ball.astype(np.float32))
        places = (view.centre + z[..., None] * rays)[STEP // 2 :: STEP, STEP // 2 :: STEP].reshape(-1, 3)
        known = np.isfinite(places).all(axis=1)
        points.append(places[known])
        times.append(np.full(known.sum(), i / max(count - 1, 1)))
        moving.append(on_ball[STEP // 2 :: STEP, STEP // 2 :: STEP].reshape(-1)[known])
    cloud = np.concatenate(points).astype(np.float32)
    intrinsics = np.array([[FOCAL[0], 0, PRINCIPAL[0]], [0, FOCAL[1], PRINCIPAL[1]], [0, 0, 1]])
    extrinsics = np.stack([world_to_camera(view)[:3] for view in seen])
    images = [render(view, FOCAL, PRINCIPAL, SIZE) for view in seen]
    values: dict[str, Any] = {
        "extrinsics": extrinsics,
        "intrinsics": np.tile(intrinsics, (count, 1, 1)),
        "depth": depth,
        "depth_conf": [np.full_like(z, 2) for z in depth],
        "motion": motion,
        "points": cloud,
        "point_colors": colors(cloud),
        "point_times": np.concatenate(times).astype(np.float32),
        "point_motion": np.concatenate(moving).astype(np.float32),
        "point_confidence": np.linspace(1, 3, len(cloud), dtype=np.float32),
        "frames": Frames(images, [f"shot {i}" for i in range(count)], np.arange(float(count)), None, "a video"),
        "tracks": _tracks(extrinsics, intrinsics, cloud[np.concatenate(moving) == 0][::3]),
        "info": {"model": "m"},
    }
    return Reconstruction(**{**values, **changes})


def ball_folder(folder: Path, count: int = 4, **changes: Any) -> Path:
    """Write `ball_scene` as a scene folder."""
    return write_scene(folder, ball_scene(count, **changes))


def projected(points: np.ndarray, extrinsics: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    """Pixels `(N, 2)` of points `(N, 3)` by a world-to-camera `(3, 4)` and intrinsics `(3, 3)`."""
    seen = (points @ extrinsics[:, :3].T + extrinsics[:, 3]) @ intrinsics.T
    return seen[:, :2] / seen[:, 2:]


def grid_pixels(index: int, scene: Any) -> tuple[np.ndarray, np.ndarray]:
    """Of frame `index`, the pixels `(n, 2)` that its points were lifted from, and the points `(n, 3)`."""
    of_frame = np.isclose(scene.point_times, scene.times[index], atol=1e-6)
    x, y = np.meshgrid(np.arange(STEP // 2, SIZE[0], STEP) + 0.5, np.arange(STEP // 2, SIZE[1], STEP) + 0.5)
    pixels = np.stack((x, y), axis=-1).reshape(-1, 2)
    view = views(len(scene))[index]
    hits = cast(view.centre, pixel_rays(view, FOCAL, PRINCIPAL, SIZE))[0][STEP // 2 :: STEP, STEP // 2 :: STEP]
    return pixels[hits.reshape(-1) < 1e3], scene.points[of_frame]


def _tracks(extrinsics: np.ndarray, intrinsics: np.ndarray, points: np.ndarray) -> PointTracks:
    """Tracks of points of the plane: seen where they are inside the image and not behind the ball."""
    xy = np.stack([projected(points, pose, intrinsics) for pose in extrinsics], axis=1)
    visible = ((xy > 0) & (xy < SIZE)).all(axis=2)
    centers = camera_centers(extrinsics)
    for s, center in enumerate(centers):
        visible[:, s] &= cast(center, points - center)[0] > 0.999
    assert not (np.linalg.norm(points - BALL, axis=1) < 0.69).any()
    return PointTracks(xy.astype(np.float32), visible, points.astype(np.float32))
