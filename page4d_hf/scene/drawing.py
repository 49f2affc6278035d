"""Pictures of points and cameras without a browser or a GPU: projected and drawn by NumPy and OpenCV.

Cameras are world-to-camera with OpenCV axes; pixels count from 0 at the left upper corner, the first centre at 0.5.
Images are RGB, uint8.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt

from ..geometry import camera_centers

FRUSTUM_SHARE = 0.1  # of the scene's radius, that a frustum is deep
SUPERSAMPLING = 2
PALE = (246, 246, 246)
NEAR = 1e-3  # of the distance to what is looked at: nearer lines are cut off


@dataclass(frozen=True)
class Look:
    """The camera that a picture is drawn by."""

    extrinsics: npt.NDArray[Any]  # [3, 4] world-to-camera
    focal: float  # in image heights
    distance: float  # to what is looked at


@dataclass(frozen=True)
class Line:
    """A line through places of the world."""

    places: npt.NDArray[Any]  # [n, 3]
    color: tuple[int, int, int]
    width: float = 2.0  # pixels


@dataclass(frozen=True)
class Poster:
    """An image on a rectangle in the world."""

    image: npt.NDArray[Any]  # [h, w, 3]
    corners: npt.NDArray[Any]  # [4, 3], clockwise from the image's left upper corner


def camera_corners(
    extrinsics: npt.NDArray[Any], intrinsics: npt.NDArray[Any], sizes: npt.NDArray[Any], depth: float
) -> npt.NDArray[Any]:
    """Corners of cameras' images at a depth, `[N, 4, 3]` in the world, clockwise from each image's left upper one.

    The cameras are `[N, 3, 4]`, `[N, 3, 3]` and `[N, 2]`: (width, height).
    """
    sides = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * sizes[:, None]
    pixels = np.concatenate((sides, np.ones((len(sizes), 4, 1))), axis=2)
    seen = depth * pixels @ np.linalg.inv(intrinsics).swapaxes(1, 2)
    return cast(npt.NDArray[Any], (seen - extrinsics[:, None, :, 3]) @ extrinsics[:, :, :3])


def frustum_lines(extrinsics: npt.NDArray[Any], corners: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The edges of frustums as segments, `[N, 8, 2, 3]`: from the centre to the corners, and around the image."""
    centers = np.broadcast_to(camera_centers(extrinsics)[:, None], corners.shape)
    around = np.roll(corners, -1, axis=1)
    return np.stack((np.concatenate((centers, corners), axis=1), np.concatenate((corners, around), axis=1)), axis=2)


def scene_radius(extrinsics: npt.NDArray[Any], points: npt.NDArray[Any]) -> float:
    """How far most of a scene reaches from its middle: its cameras `[N, 3, 4]` and nine in ten of its points `[M, 3]`.

    A single camera without points has the radius 1.
    """
    centers = camera_centers(extrinsics)
    radius = np.linalg.norm(centers - centers.mean(axis=0), axis=1).max()
    if len(points):
        radius = max(radius, np.percentile(np.linalg.norm(points - np.median(points, axis=0), axis=1), 90))
    return float(radius) if radius > 0 else 1.0


def frustum_depth(extrinsics: npt.NDArray[Any], points: npt.NDArray[Any]) -> float:
    """Depth of the frustums that are drawn, in the world's unit."""
    return FRUSTUM_SHARE * scene_radius(extrinsics, points)


def colored(values: npt.NDArray[Any], low: float, high: float, palette: int = cv2.COLORMAP_TURBO) -> npt.NDArray[Any]:
    """Colours `(..., 3)` uint8 of values `(...)`, from `low` to `high` along a palette of OpenCV; grey where NaN."""
    known = np.isfinite(values)
    share = np.where(known, (np.nan_to_num(values) - low) / max(high - low, 1e-12), 0).clip(0, 1)
    bgr = cv2.applyColorMap(np.arange(256, dtype=np.uint8), palette)[:, 0]
    colors = bgr[np.round(255 * share).astype(np.uint8), ::-1]
    colors[~known] = 128
    return colors


def inverse_depth(depth: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """1 / depth, of which differences are what one sees; NaN where there is none."""
    return np.divide(1, depth, out=np.full_like(depth, np.nan), where=np.isfinite(depth) & (depth > 0))


def range_of(values: npt.NDArray[Any]) -> tuple[float, float]:
    """From where to where most values are; NaN of none."""
    known = values[np.isfinite(values)]
    if not len(known):
        return np.nan, np.nan
    low, high = np.percentile(known, (2, 98))
    return float(low), float(high)


def camera_lines(extrinsics: npt.NDArray[Any], corners: npt.NDArray[Any], times: npt.NDArray[Any]) -> list[Line]:
    """Frustums of cameras `[N, 3, 4]` with their `corners` `[N, 4, 3]`, blue at time 0 to red at time 1."""
    frustums, colors = frustum_lines(extrinsics, corners), colored(times, 0, 1).tolist()
    return [Line(edge, tuple(color), 1.2) for edges, color in zip(frustums, colors, strict=True) for edge in edges]


def path_lines(extrinsics: npt.NDArray[Any], times: npt.NDArray[Any]) -> list[Line]:
    """The path through the centres of cameras in the order of `times` in [0, 1], blue at 0 to red at 1."""
    order = np.argsort(times, kind="stable")
    centers, colors = camera_centers(extrinsics)[order], colored(times[order], 0, 1).tolist()
    return [Line(centers[i : i + 2], tuple(colors[i])) for i in range(len(centers) - 1)]


# ---------------------------------------------------------------------------------------------------------------
# Where to look from


def mean_axes(extrinsics: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Right, down and forward of cameras `[N, 3, 4]` in their mean, orthonormal, `[3, 3]` in rows."""
    forward = extrinsics[:, 2, :3].mean(axis=0)
    down = extrinsics[:, 1, :3].mean(axis=0)
    forward = forward if np.linalg.norm(forward) > 1e-6 else extrinsics[0, 2, :3]
    forward = forward / np.linalg.norm(forward)
    down = down - (down @ forward) * forward
    if np.linalg.norm(down) < 1e-6:  # cameras all around, or rolled in all ways
        down = np.cross(forward, np.eye(3)[np.abs(forward).argmin()])
    down = down / np.linalg.norm(down)
    return np.stack((np.cross(down, forward), down, forward))


def overview(extrinsics: npt.NDArray[Any], points: npt.NDArray[Any], aspect: float, corners: npt.NDArray[Any]) -> Look:
    """Look from behind, beside and above the cameras, so that they, nine in ten of the points and all `corners` `[N,
    4, 3]` of their frustums are in the picture. `aspect` is its width over its height.
    """
    right, down, forward = mean_axes(extrinsics)
    places = np.concatenate((camera_centers(extrinsics), *corners))
    return _framing(forward + 0.55 * down - 0.6 * right, down, points, places, aspect, focal=1.1)


def from_above(
    extrinsics: npt.NDArray[Any], points: npt.NDArray[Any], aspect: float, corners: npt.NDArray[Any]
) -> Look:
    """Look down on cameras and points, nearly without perspective; the cameras look up in the picture."""
    _, down, forward = mean_axes(extrinsics)
    places = np.concatenate((camera_centers(extrinsics), *corners))
    return _framing(down, -forward, points, places, aspect, focal=40.0)


def _framing(
    direction: npt.NDArray[Any],
    down: npt.NDArray[Any],
    points: npt.NDArray[Any],
    places: npt.NDArray[Any],
    aspect: float,
    focal: float,
) -> Look:
    forward = direction / np.linalg.norm(direction)
    right = np.cross(down, forward)
    right /= np.linalg.norm(right)
    axes = np.stack((right, np.cross(forward, right), forward))
    shown = _without_far(points) if len(points) else points
    seen = np.concatenate((shown.astype(np.float64), places)) @ axes.T
    middle = (seen.min(axis=0) + seen.max(axis=0)) / 2
    around = seen - middle
    # In the picture is what has |x| focal / z < aspect / 2 and |y| focal / z < 1 / 2, with z = distance + its depth.
    needed = np.maximum(2 * focal * np.abs(around[:, 0]) / aspect, 2 * focal * np.abs(around[:, 1])) - around[:, 2]
    radius = max(float(np.linalg.norm(around, axis=1).max()), 1e-6)
    distance = max(1.06 * float(needed.max()), 1.05 * float(-around[:, 2].min()), 0.1 * radius)
    middle[2] -= distance
    return Look(np.column_stack((axes, -middle)), focal, distance)


def _without_far(points: npt.NDArray[Any]) -> npt.NDArray[Any]:
    distances = np.linalg.norm(points - np.median(points, axis=0), axis=1)
    return cast(npt.NDArray[Any], points[distances <= np.percentile(distances, 90)])


# ---------------------------------------------------------------------------------------------------------------
# Drawing


def draw(
    look: Look,
    size: tuple[int, int],
    points: npt.NDArray[Any],
    colors: npt.NDArray[Any],
    *,
    posters: list[Poster] | None = None,
    lines: list[Line] | None = None,
    point_size: int = 3,
) -> npt.NDArray[Any]:
    """A picture of points, images and lines, `(height, width, 3)`; `size` is (width, height).

    Points, squares of `point_size` pixels, hide what lies behind them among themselves; posters lie over points, and
    lines over both.
    """
    width, height = (SUPERSAMPLING * side for side in size)
    picture = np.full((height, width, 3), PALE, np.uint8)
    _draw_points(picture, look, points, colors, SUPERSAMPLING * point_size)
    for poster in sorted(posters or [], key=lambda poster: -_in_view(look, poster.corners)[:, 2].mean()):
        _draw_poster(picture, look, poster)
    for line in lines or []:
        _draw_line(picture, look, line)
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def _in_view(look: Look, points: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return cast(npt.NDArray[Any], points @ look.extrinsics[:, :3].T + look.extrinsics[:, 3])


def _pixels(picture: npt.NDArray[Any], look: Look, seen: npt.NDArray[Any]) -> npt.NDArray[Any]:
    height, width = picture.shape[:2]
    return cast(npt.NDArray[Any], look.focal * height * seen[:, :2] / seen[:, 2:] + np.array([width / 2, height / 2]))


def _draw_points(
    picture: npt.NDArray[Any], look: Look, points: npt.NDArray[Any], colors: npt.NDArray[Any], side: int
) -> None:
    """Draw points as squares. Each pixel shows the nearest point whose square covers it: of the points whose left upper
    corner lies within a square to the left and above, the one that comes first in the order of depth."""
    height, width = picture.shape[:2]
    seen = _in_view(look, points.astype(np.float64))
    front = np.flatnonzero(seen[:, 2] > NEAR * look.distance)
    corner = np.floor(_pixels(picture, look, seen[front]) - side / 2 + 0.5)
    inside = ((corner > -side) & (corner < [width, height])).all(axis=1)
    corner, front = corner[inside].astype(np.int64) + side, front[inside]
    order = np.argsort(seen[front, 2], kind="stable")
    rank = np.full((height + 2 * side, width + 2 * side), len(front), np.float32)  # exact up to 2 ** 24 points
    far_first = order[::-1]  # of points at one pixel the last one stays
    rank[corner[far_first, 1], corner[far_first, 0]] = np.arange(len(front))[::-1]
    nearest = cv2.erode(rank, np.ones((side, side), np.uint8), anchor=(side - 1, side - 1))
    nearest = nearest[side : side + height, side : side + width].astype(np.int64)
    drawn = nearest < len(front)
    picture[drawn] = colors[front[order[nearest[drawn]]]]


def _draw_poster(picture: npt.NDArray[Any], look: Look, poster: Poster) -> None:
    seen = _in_view(look, poster.corners)
    if (seen[:, 2] <= NEAR * look.distance).any():
        return
    height, width = poster.image.shape[:2]
    edges = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    # OpenCV counts from the first pixel's centre.
    to_picture = cv2.getPerspectiveTransform(edges - 0.5, (_pixels(picture, look, seen) - 0.5).astype(np.float32))
    shape = picture.shape[1::-1]
    cover = cv2.warpPerspective(np.ones((height, width), np.float32), to_picture, shape)[..., None]
    image = cv2.warpPerspective(poster.image, to_picture, shape, borderMode=cv2.BORDER_REPLICATE)
    np.copyto(picture, np.round(cover * image + (1 - cover) * picture).astype(np.uint8))


def _draw_line(picture: npt.NDArray[Any], look: Look, line: Line) -> None:
    seen = _in_view(look, line.places)
    near = NEAR * look.distance
    starts, ends = seen[:-1], seen[1:]
    kept = (starts[:, 2] > near) | (ends[:, 2] > near)
    starts, ends = starts[kept], ends[kept]
    if not len(starts):
        return
    ends, starts = _cut(starts, ends, near), _cut(ends, starts, near)
    shift = 4
    corners = np.stack((_pixels(picture, look, starts), _pixels(picture, look, ends)), axis=1) - 0.5
    corners = corners.clip(-1e6, 1e6)
    thickness = max(round(SUPERSAMPLING * line.width), 1)
    segments = list(np.round(corners * 2**shift).astype(np.int32))
    cv2.polylines(picture, segments, False, line.color, thickness, cv2.LINE_AA, shift)


def _cut(kept: npt.NDArray[Any], cut: npt.NDArray[Any], near: float) -> npt.NDArray[Any]:
    """The ends `cut` of segments from `kept`, brought before the plane at `near`."""
    behind = cut[:, 2] <= near
    share = np.where(behind, (near - kept[:, 2]) / np.where(behind, cut[:, 2] - kept[:, 2], 1), 1)[:, None]
    return cast(npt.NDArray[Any], kept + share * (cut - kept))
