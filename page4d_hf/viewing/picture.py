"""A picture of a scene, for papers and issues: no browser, no GPU."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ..scene.drawing import (
    Line,
    Poster,
    camera_corners,
    camera_lines,
    draw,
    frustum_depth,
    frustum_lines,
    overview,
    path_lines,
)
from ..utils.evenly import evenly
from .display import TRACK, Display, Palette
from .viewed_scene import ViewedScene

FRUSTUMS = 24  # of all times, at most
POSTER_WIDTH = 512  # pixels
CURRENT = (255, 120, 0)
LARGEST_POINT = 8  # pixels
TRACK_WIDTH = 1.5  # pixels


def picture_of(scene: ViewedScene, display: Display, instant: int, size: tuple[int, int]) -> npt.NDArray[Any]:
    """Points, path, cameras and tracks from behind and above, `(height, width, 3)` RGB uint8; `size` is (width,
    height).

    The cameras of the instant, a place among the scene's, are orange, and show their images; others run from blue at
    the first time to red at the last.
    """
    everything = scene.everything.points
    depth = frustum_depth(scene.extrinsics, everything)
    corners = camera_corners(scene.extrinsics, scene.intrinsics, scene.image_sizes, depth)
    look = overview(scene.extrinsics, everything, size[0] / size[1], corners)
    shown = Palette(scene).shown(display, instant)
    side = scene.point_size * look.focal * size[1] / look.distance

    some = evenly(len(scene), FRUSTUMS)
    devices = [scene.camera_ids == device for device in np.unique(scene.camera_ids)]
    lines = [
        *(line for of in devices for line in path_lines(scene.extrinsics[of], scene.times[of])),
        *camera_lines(scene.extrinsics[some], corners[some], scene.times[some]),
    ]
    current = scene.frames_at(instant)
    posters = [Poster(_shrunk(scene.load_image(int(frame))), corners[frame]) for frame in current]
    for edges in frustum_lines(scene.extrinsics[current], corners[current]):
        lines += [Line(edge, CURRENT, 2.5) for edge in edges]
    if display.tracks:
        lines += [Line(segment, TRACK, TRACK_WIDTH) for segment in scene.trails(instant)]
    return draw(
        look,
        size,
        shown.points,
        shown.colors,
        posters=posters,
        lines=lines,
        point_size=int(np.clip(round(side), 1, LARGEST_POINT)),
    )


def _shrunk(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    scale = POSTER_WIDTH / image.shape[1]
    return image if scale >= 1 else cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
