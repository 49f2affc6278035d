"""Camera paths through a trained scene with a time for each frame, as `ns-render camera-path` reads them.

Of nerfstudio's renderings, `interpolate` drops the cameras' times and `spiral` takes no data manager of whole images;
a path that is written out says both, where the camera is and when.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import torch
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from scipy.spatial.transform import Rotation, Slerp

from page4d_hf.captures.pinhole import pinhole_intrinsics
from page4d_hf.errors import Page4DError
from page4d_hf.utils.folders import whole_file

from . import PathKind
from .run_config import building, read_config


class CameraPathError(Page4DError):
    """A path that the views of a training do not give."""


class Views(NamedTuple):
    """The views of one split in the order of time, in the training's world, as cameras of square pixels.

    A path and a page have one focal length a view: where fx and fy differ, as of undistorted images, the width does.
    """

    poses: npt.NDArray[Any]  # [V, 3, 4] float64, camera to world, OpenGL axes
    times: npt.NDArray[Any]  # [V] float64, ascending
    fov: npt.NDArray[Any]  # [V] float64, vertical, degrees
    sizes: npt.NDArray[Any]  # [V, 2] int: width, height in pixels
    points: npt.NDArray[Any] | None  # [P, 3] float64: the seed points, where the data have any
    only_time: float | None = None  # of the training, where the data have no times; `times` then are an order alone

    @classmethod
    def of(cls, outputs: DataparserOutputs, only_time: float = 0.0) -> Views:
        """The views that a dataparser gives; where it gives no times, they are evenly spaced, and all is trained at
        the only time."""
        cameras = outputs.cameras
        count = len(cameras)
        times = np.linspace(0, 1, count) if cameras.times is None else cameras.times.reshape(-1).double().numpy()
        order = np.argsort(times, kind="stable")
        points = outputs.metadata.get("points3D_xyz")
        widths, heights = (values.reshape(-1).double().numpy()[order] for values in (cameras.width, cameras.height))
        fx, fy = _undistorted_focals(cameras).T[:, order]
        sizes = np.stack([np.round(widths * fy / fx), heights], axis=1).astype(int)
        return cls(
            cameras.camera_to_worlds.double().numpy()[order],
            times[order],
            np.degrees(2 * np.arctan(heights / (2 * fy))),
            np.maximum(sizes // 2 * 2, 2),  # video has no odd sides
            None if points is None else points.double().numpy(),
            only_time if cameras.times is None else None,
        )


def _undistorted_focals(cameras: Cameras) -> npt.NDArray[Any]:
    """fx and fy [V, 2] of the images that are trained on: nerfstudio takes a lens's distortion out of them when it
    reads them, by OpenCV's rule, as `pinhole_intrinsics` does."""
    lenses = torch.cat([cameras.fx, cameras.fy, cameras.cx, cameras.cy, cameras.width, cameras.height], dim=-1)
    focals = lenses[:, :2].double().numpy().copy()
    if cameras.distortion_params is None:
        return focals
    distorted = (cameras.distortion_params != 0).any(dim=-1) & (
        cameras.camera_type[:, 0] == CameraType.PERSPECTIVE.value
    )
    chosen = np.flatnonzero(distorted.numpy())
    different, which = np.unique(
        torch.cat([lenses, cameras.distortion_params], dim=-1).double().numpy()[chosen], axis=0, return_inverse=True
    )
    for number, (fx, fy, cx, cy, width, height, k1, k2, k3, _, p1, p2) in enumerate(different):
        source = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
        pinhole = pinhole_intrinsics(source, np.array([k1, k2, p1, p2, k3, 0, 0, 0]), (int(width), int(height)))
        focals[chosen[which.reshape(-1) == number]] = pinhole[0, 0], pinhole[1, 1]
    return focals


def read_views(config_path: Path, split: Literal["train", "val"]) -> Views:
    """The views that a training was, or is being, run on; no checkpoint is needed."""
    pipeline: Any = read_config(config_path).pipeline
    manager = pipeline.datamanager
    with building(config_path):
        if manager.data is not None:
            manager.dataparser.data = Path(manager.data)
        outputs = manager.dataparser.setup().get_dataparser_outputs(split=split)
        return Views.of(outputs, pipeline.model.only_time)


def along(views: Views, frames: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Poses [F, 3, 4] and fields of view [F] from the first view to the last, as fast as their times pass: rotations
    slerp, the rest is linear.

    With times that run from the first view's to the last one's, the camera is where it was when they were filmed.
    """
    times, first = np.unique(views.times, return_index=True)  # of a rig's views at one instant, one
    if len(times) < 2:
        raise CameraPathError("All views are of one instant, which makes no path; take --path circle or still.")
    at = np.linspace(times[0], times[-1], frames)
    poses = np.empty((frames, 3, 4))
    poses[:, :, :3] = Slerp(times, Rotation.from_matrix(views.poses[first, :, :3]))(at).as_matrix()
    for axis in range(3):
        poses[:, axis, 3] = np.interp(at, times, views.poses[first, axis, 3])
    return poses, np.interp(at, times, views.fov[first])


def circle(views: Views, view: int, radius: float, frames: int) -> npt.NDArray[Any]:
    """Poses [F, 3, 4] on a circle around a view's centre, in its image plane, looking at what the view looks at.

    That is the point ahead at the median depth of the seed points in the view; the radius is in units of that depth.
    The last frame leads to the first.
    """
    pose = views.poses[view]
    right, up, back, centre = pose.T
    depth = median_depth(views, view)
    focus = centre - depth * back
    angles = 2 * math.pi * np.arange(frames) / frames
    centres = centre + radius * depth * (np.cos(angles)[:, None] * right + np.sin(angles)[:, None] * up)
    backs = _unit(centres - focus)
    rights = _unit(np.cross(up, backs))
    return np.stack([rights, np.cross(backs, rights), backs, centres], axis=-1)


def median_depth(views: Views, view: int) -> float:
    """Median depth of the seed points in a view."""
    if views.points is None:
        raise CameraPathError(
            "The data have no seed points, which say how far away is what a circle looks at; take --path training, "
            "held-out or still."
        )
    right, up, back, centre = views.poses[view].T
    points = views.points - centre
    depth = -points @ back
    ahead = depth > 0
    height = math.tan(math.radians(views.fov[view]) / 2) * depth
    width = height * views.sizes[view, 0] / views.sizes[view, 1]
    inside = ahead & (np.abs(points @ up) < height) & (np.abs(points @ right) < width)
    if not inside.any():
        raise CameraPathError(f"View {view} sees none of the seed points; take another --view.")
    return float(np.median(depth[inside]))


def _unit(vectors: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return cast(npt.NDArray[Any], vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))


def make_path(
    views: Views,
    kind: PathKind,
    times: tuple[float, float] | None,
    seconds: float,
    fps: float,
    view: int,
    radius: float,
) -> dict[str, Any]:
    """The content of a camera path's file: for each frame a pose, a field of view and a time.

    Args:
        views: of the split that the path is made of.
        kind: training and held-out: along the views; circle and still: at one of them.
        times: of the first and of the last frame; between them it runs evenly. The same twice: time stands still. By
            default as the path was filmed, from the first of the views to the last; of circle and still, from 0 to 1;
            of views without times, the only one.
        seconds: how long the video is.
        fps: its frames a second.
        view: the place of circle and still, in the order of time; all paths have its size.
        radius: of the circle, in units of the depth of what is seen.
    """
    frames = max(1, round(seconds * fps))
    if times is None and views.only_time is not None:
        times = (views.only_time, views.only_time)
    elif times is None:
        times = (0.0, 1.0) if kind in ("circle", "still") else (float(views.times[0]), float(views.times[-1]))
    fov = views.fov[view].repeat(frames)
    if kind == "circle":
        poses = circle(views, view, radius, frames)
    elif kind == "still":
        poses = views.poses[view][None].repeat(frames, axis=0)
    else:
        poses, fov = along(views, frames)
    width, height = views.sizes[view].tolist()
    bottom = [0.0, 0.0, 0.0, 1.0]
    return {
        "camera_type": "perspective",
        "render_width": width,
        "render_height": height,
        "fps": fps,
        "seconds": frames / fps,
        "camera_path": [
            {
                "camera_to_world": [*pose.reshape(-1).tolist(), *bottom],
                "fov": angle,
                "aspect": width / height,
                "render_time": time,
            }
            for pose, angle, time in zip(poses, fov.tolist(), np.linspace(*times, frames).tolist(), strict=True)
        ],
    }


def write_path(path: Path, content: dict[str, Any], *, overwrite: bool = False) -> None:
    """Write a camera path's file, which is whole or absent."""
    with whole_file(path, overwrite=overwrite) as partial:
        partial.write_text(json.dumps(content, indent=1), "utf8")
