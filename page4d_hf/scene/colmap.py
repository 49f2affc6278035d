"""Scenes as COLMAP models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..frames import read_frames
from ..utils.evenly import one_of_each_stretch
from .folder import Scene
from .tracks import PointTracks

# Of COLMAP's camera models, how many numbers they have.
PARAMETERS = {"PINHOLE": 4, "OPENCV": 8, "OPENCV_FISHEYE": 8, "FULL_OPENCV": 12}


def write_colmap(
    target: Path, scene: Scene, names: Sequence[str], tracks: PointTracks | None, max_points: int | None
) -> tuple[int, int]:
    """Write a binary model, `sparse/0`: a camera for each device, an image for each frame, and points.

    Points come from tracks, with the pixels that they were seen at, and from the scene's own points. The latter have no
    track: nothing but the depth map of one frame says that they were seen. Of more than `max_points`, those with tracks
    come first. Gives the number of points, and of those with tracks.
    """
    import pycolmap

    model = pycolmap.Reconstruction()
    lens = _lens(scene)
    ids: dict[bytes, int] = {}  # of cameras, by what they are
    visible, xy, points = _triangulated(tracks, len(scene), max_points)
    for i, name in enumerate(names):
        intrinsics, distortion, size = scene.intrinsics[i], scene.distortion[i], scene.image_sizes[i]
        key = intrinsics.tobytes() + distortion.tobytes() + size.tobytes()
        if key not in ids:
            ids[key] = len(ids) + 1
            (fx, _, cx), (_, fy, cy), _ = intrinsics
            width, height = (int(side) for side in size)
            params = [fx, fy, cx, cy, *distortion, 0, 0, 0][: PARAMETERS[lens]]
            model.add_camera_with_trivial_rig(
                pycolmap.Camera(model=lens, width=width, height=height, params=params, camera_id=ids[key])
            )
        keypoints = xy[visible[:, i], i].astype(np.float64)
        image = pycolmap.Image(name=name, keypoints=keypoints, camera_id=ids[key], image_id=i + 1)
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(scene.extrinsics[i]))

    place = np.cumsum(visible, axis=0) - 1  # of each observation among those of its image
    for row, color in enumerate(_colors(scene, visible, xy)):
        elements = pycolmap.Track()
        for i in np.flatnonzero(visible[row]):
            elements.add_element(int(i) + 1, int(place[row, i]))
        model.add_point3D(points[row].astype(np.float64), elements, color)
    model.update_point_3d_errors()
    if scene.points is not None and scene.point_colors is not None:
        limit = None if max_points is None else max_points - len(points)
        for i in evenly_drawn(len(scene.points), limit):
            model.add_point3D(scene.points[i].astype(np.float64), pycolmap.Track(), scene.point_colors[i])
    target.mkdir(parents=True)
    model.write(str(target))
    return model.num_points3D(), len(points)


def evenly_drawn(count: int, limit: int | None) -> npt.NDArray[Any]:
    """Indices of at most `limit` of `count` things, the same at every call."""
    return one_of_each_stretch(count, count if limit is None else limit, np.random.default_rng(0))


def _lens(scene: Scene) -> str:
    """The simplest camera model that holds all lenses of a scene; many programs want a single one."""
    if scene.fisheye is not None:  # of all frames: their file names one model
        return "OPENCV_FISHEYE"
    if not scene.distortion.any():
        return "PINHOLE"
    return "FULL_OPENCV" if scene.distortion[:, 4].any() else "OPENCV"


def _triangulated(
    tracks: PointTracks | None, frames: int, limit: int | None
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Of the tracks with a point that two frames see: `visible` [T, S], `xy` [T, S, 2], `points` [T, 3]."""
    if tracks is None:
        return np.zeros((0, frames), bool), np.zeros((0, frames, 2), np.float32), np.zeros((0, 3), np.float32)
    used = np.flatnonzero(np.isfinite(tracks.points).all(axis=1) & (tracks.visible.sum(axis=1) >= 2))
    used = used[evenly_drawn(len(used), limit)]
    return tracks.visible[used], tracks.xy[used], tracks.points[used]


def _colors(scene: Scene, visible: npt.NDArray[Any], xy: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The colour of each track where it is first seen, `[T, 3]` uint8."""
    colors = np.zeros((len(visible), 3), np.uint8)
    first = visible.argmax(axis=1)
    for i in np.unique(first):
        image = read_frames([scene.image_paths[i]]).images[0]
        rows = np.flatnonzero(first == i)
        column, line = np.floor(xy[rows, i]).astype(np.int64).T
        colors[rows] = image[line.clip(0, image.shape[0] - 1), column.clip(0, image.shape[1] - 1), :3]
    return colors
