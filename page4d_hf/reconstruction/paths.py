"""Paths of moving points in the world: tracks lifted by depth, smoothed, and completed at every frame.

Depth is noisy along the ray, and a track ends where it is hidden. Paths are therefore smoothed over time (Whittaker,
1923; with the weights of a robust fit), tracks that keep their distance to no other are left out, and what no frame
shows follows the motion of the nearest tracks, rigid where they turn (after Sorkine and Alexa, "As-Rigid-As-Possible
Surface Modeling", 2007).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from scipy.linalg import solveh_banded
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from ..scene.folder import MOVES
from ..scene.tracks import PointTracks
from ..utils.evenly import evenly
from ..utils.lazy_images import LazyImages
from .moving_tracks import track_motion
from .tracks import as_point_tracks, sampled, without_hidden

FEWEST_FRAMES = 3  # that a path is known in
MOST_PATHS = 800  # their pairs are compared in each frame
NEIGHBOURS = 8
SMOOTHING = 3.0  # of the squared second difference: averages about five frames
ROUNDS = 3  # of the robust fit
RIGID = 4.0  # deviations, in which the distance of two tracks may change, count as much as the distance itself
OUTLIER = 3.0  # times the usual deviation from its neighbours, above which a track is left out
LEAST_DEVIATION = 0.01  # of the spread of all paths, which is no reason to leave one out
TURNING = 0.5  # of the squared deviations from going along, which a rotation is to explain
EDGE = 0.1  # of depth: tracks where it varies by more within a pixel are not lifted there


class FrameCameras(NamedTuple):
    """The cameras of S frames, or without the first axis of one."""

    extrinsics: npt.NDArray[Any]  # [S, 3, 4] world-to-camera, OpenCV axes
    intrinsics: npt.NDArray[Any]  # [S, 3, 3] in pixels of the images
    image_sizes: npt.NDArray[Any]  # [S, 2] (width, height)

    def of(self, frame: int) -> FrameCameras:
        """The camera of one frame."""
        return FrameCameras(*(each[frame] for each in self))


def tracks_of_motion(
    images: Sequence[npt.NDArray[Any]],
    motion: Sequence[npt.NDArray[Any]],
    tracks: PointTracks,
    *,
    dense: bool = True,
    visible: Sequence[npt.NDArray[Any]] | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[PointTracks, npt.NDArray[np.bool_]]:
    """The tracks of a clip, with many more of what moves.

    Args:
        images: S frames, `(H, W, 3)` uint8, of one size.
        motion: their motion masks `(h, w)`, 0 static to 1 moving.
        tracks: K tracks through them.
        dense: whether to track what moves, rather than to take the tracks as they are.
        visible: `(H, W)` bool of each frame, false where nothing is to be followed.
        progress: told how many frames are done.

    Returns:
        The tracks, those that were given first; and where each of them is seen on something that moves, [K, S].
    """
    height, width = images[0].shape[:2]

    def enlarged(masks: Sequence[npt.NDArray[Any]]) -> Iterator[npt.NDArray[np.bool_]]:
        for mask in masks:
            moves = (mask > MOVES).astype(np.uint8)
            yield cv2.resize(moves, (width, height), interpolation=cv2.INTER_NEAREST_EXACT) > 0

    moving = LazyImages([(height, width)] * len(motion), motion, enlarged)  # few are held of a long clip
    if dense and any(mask.any() for mask in moving):
        found = track_motion(images, moving, progress=progress)
        found = found if visible is None else without_hidden(found, visible)
        more = as_point_tracks(found, np.full((len(found), 3), np.nan), len(images))
        tracks = PointTracks(
            np.concatenate((tracks.xy, more.xy)),
            np.concatenate((tracks.visible, more.visible)),
            np.concatenate((tracks.points, more.points)),
        )
    inside = np.zeros_like(tracks.visible)
    for frame, mask in enumerate(moving):
        column, row = tracks.xy[:, frame].astype(int).clip(0, (width - 1, height - 1)).T
        inside[:, frame] = tracks.visible[:, frame] & mask[row, column]
    moves = 2 * inside.sum(axis=1) > tracks.visible.sum(axis=1)
    return tracks, inside & moves[:, None]


def lift_tracks(
    tracks: PointTracks, depth: Iterable[npt.NDArray[Any] | None], cameras: FrameCameras
) -> npt.NDArray[np.float32]:
    """Where tracks are in the world, by the depth of each frame in which they are visible.

    Args:
        tracks: K tracks through S frames.
        depth: z-depth of each frame over exactly its image, `(h, w)`; 0, NaN or None where it is unknown. Gone through
            once.
        cameras: of the frames.

    Returns:
        `(K, S, 3)` float32; NaN where a track is not visible, depth is unknown, or an edge of it is within a pixel.
    """
    paths = np.full((*tracks.visible.shape, 3), np.nan, np.float32)
    for frame, z_map in enumerate(depth):
        seen = np.flatnonzero(tracks.visible[:, frame])
        if z_map is None or not len(seen):
            continue
        xy = tracks.xy[seen, frame].astype(np.float64)
        pose, matrix, image_size = cameras.of(frame)
        scale = np.array(z_map.shape[::-1]) / image_size
        known = np.where(np.isfinite(z_map) & (z_map > 0), z_map, 0).astype(np.float32)
        kernel = np.ones((3, 3), np.uint8)
        nearest, farthest, z = (
            sampled(values, xy * scale, interpolation)
            for values, interpolation in (
                (cv2.erode(known, kernel), cv2.INTER_NEAREST),
                (cv2.dilate(known, kernel), cv2.INTER_NEAREST),
                (known, cv2.INTER_LINEAR),
            )
        )
        ray = np.linalg.solve(matrix, np.concatenate((xy, np.ones((len(xy), 1))), axis=1).T).T
        points = (ray * z[:, None] - pose[:, 3]) @ pose[:, :3]
        points[(nearest <= 0) | (farthest - nearest > EDGE * z)] = np.nan
        paths[seen, frame] = points
    return paths


def complete_paths(paths: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Paths `(K, S, 3)` in the world, NaN where unknown, that agree with their neighbours, smoothed and known in every
    frame.

    They are `(k, S, 3)`, at most `MOST_PATHS` of those that are known in three frames and keep their distance to some
    others. None of them may be left.
    """
    paths = np.asarray(paths, np.float64)
    known = np.isfinite(paths).all(axis=2)
    usable = np.flatnonzero(known.sum(axis=1) >= FEWEST_FRAMES)
    usable = usable[evenly(len(usable), MOST_PATHS)]
    paths, known = paths[usable], known[usable]
    least = LEAST_DEVIATION * (float(np.linalg.norm(paths[known].std(axis=0))) if known.any() else 0.0)
    for _ in range(2):  # what is left out may have been the neighbour of others
        neighbours, deviation = _neighbours(paths, known)
        told = deviation[np.isfinite(deviation)]  # by enough neighbours
        usual = float(np.median(told)) if len(told) else 0.0
        kept = deviation <= max(OUTLIER * usual, least)
        paths, known = paths[kept], known[kept]
    neighbours, _ = _neighbours(paths, known)
    if not len(paths):
        return paths.astype(np.float32)
    paths, known = _smoothed(paths, known)
    return _filled(paths, known, neighbours).astype(np.float32)


def _neighbours(paths: npt.NDArray[Any], known: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Of each track the others that are near and keep their distance, [K, N], and the median deviation of that, [K]."""
    count = len(paths)
    if count < 2:
        return np.zeros((count, 0), np.int64), np.full(count, np.inf)
    shared, mean, deviation = _distances(paths, known)
    score = np.where(shared >= FEWEST_FRAMES, mean + RIGID * deviation, np.inf)
    np.fill_diagonal(score, np.inf)
    neighbours = np.argsort(score, axis=1)[:, :NEIGHBOURS][:, : count - 1]
    of_them = np.where(
        np.isfinite(np.take_along_axis(score, neighbours, 1)), np.take_along_axis(deviation, neighbours, 1), np.inf
    )
    return neighbours, np.median(of_them, axis=1)


def _distances(
    points: npt.NDArray[Any], known: npt.NDArray[Any]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Of each pair of tracks [K, S, 3] the number of frames that know both, and mean and deviation of their distance
    over these, [K, K] each."""
    shared, total, squares = (np.zeros((len(points), len(points))) for _ in range(3))
    for frame in range(points.shape[1]):
        seen = np.flatnonzero(known[:, frame])
        place = np.ix_(seen, seen)
        values = cdist(points[seen, frame], points[seen, frame])
        shared[place] += 1
        total[place] += values
        squares[place] += values**2
    mean = total / np.maximum(shared, 1)
    return shared, mean, np.sqrt(np.maximum(squares / np.maximum(shared, 1) - mean**2, 0))


def _smoothed(paths: npt.NDArray[Any], known: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Paths smoothed between the first and the last frame in which each is known, and where that is, [K, S]."""
    smooth, within = np.full_like(paths, np.nan), np.zeros_like(known)
    for number, (path, seen) in enumerate(zip(paths, known, strict=True)):
        frames = np.flatnonzero(seen)
        first, last = frames[0], frames[-1] + 1
        measured, weight = np.where(seen[:, None], path, 0)[first:last], seen[first:last].astype(float)
        robust = weight
        for _ in range(ROUNDS):
            fitted = _whittaker(measured, robust)
            off = np.linalg.norm(fitted - measured, axis=1)
            usual = 1.5 * np.median(off[weight > 0]) + 1e-9
            robust = weight / (1 + (off / usual) ** 2)
        smooth[number, first:last], within[number, first:last] = fitted, True
    return smooth, within


def _whittaker(values: npt.NDArray[Any], weight: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The curve [S, C] that minimises sum of w |curve - values|^2 + SMOOTHING |its second differences|^2."""
    count = len(values)
    bands = np.zeros((3, count))  # of the symmetric matrix, diagonal first
    for offset, coefficient in enumerate((1.0, -2.0, 1.0)):
        bands[0, offset : offset + count - 2] += SMOOTHING * coefficient**2
    bands[1, : count - 2] += SMOOTHING * -2.0
    bands[1, 1 : count - 1] += SMOOTHING * -2.0
    bands[2, : count - 2] += SMOOTHING
    bands[0] += weight + 1e-9
    curve: npt.NDArray[Any] = solveh_banded(bands, weight[:, None] * values, lower=True)
    return curve


def _filled(paths: npt.NDArray[Any], known: npt.NDArray[Any], neighbours: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Paths before and after they are known, carried from frame to frame by the rigid motion of their neighbours."""
    filled, frames = paths.copy(), np.arange(paths.shape[1])
    for order in (frames, frames[::-1]):
        have = np.isfinite(filled).all(axis=2)
        for before, after in pairwise(order):
            lost = np.flatnonzero(have[:, before] & ~have[:, after])
            if not len(lost):
                continue
            others, seen = neighbours[lost], np.flatnonzero(have[:, before] & known[:, after])
            told = have[others, before] & known[others, after]
            alone = np.flatnonzero(told.sum(axis=1) < FEWEST_FRAMES)
            if len(alone) and len(seen):  # their neighbours are lost too: then those that happen to be near
                _, near = cKDTree(filled[seen, before]).query(filled[lost[alone], before], k=others.shape[1])
                others, told = others.copy(), told.copy()
                told[alone], others[alone] = near < len(seen), seen[np.minimum(near, len(seen) - 1)]
            filled[lost, after] = _carried(filled[lost, before], filled[others, before], filled[others, after], told)
            have[lost, after] = True
    return filled


def _carried(
    points: npt.NDArray[Any], before: npt.NDArray[Any], after: npt.NDArray[Any], told: npt.NDArray[Any]
) -> npt.NDArray[Any]:
    """Points [M, 3] moved as their neighbours [M, N, 3] were, of which those count that are `told` [M, N].

    Rigidly where a rotation tells most of what three or more do besides going along, else as their mean; where there is
    none, not at all. A rotation that is noise grows from frame to frame.
    """
    weight = told[..., None].astype(float)
    count = np.maximum(weight.sum(axis=1), 1)
    before, after = np.where(told[..., None], before, 0), np.where(told[..., None], after, 0)
    center, target = before.sum(axis=1) / count, after.sum(axis=1) / count
    rotation = rotations_between((before - center[:, None]) * weight, after - target[:, None])
    apart = after - target[:, None]
    left, along = (
        (weight * (apart - turned) ** 2).sum(axis=(1, 2))
        for turned in (np.einsum("mij,mnj->mni", rotation, before - center[:, None]), before - center[:, None])
    )
    rotation[(told.sum(axis=1) < 3) | (left > (1 - TURNING) * along)] = np.eye(3)
    moved = np.einsum("mij,mj->mi", rotation, points - center) + target
    return np.where(told.any(axis=1)[:, None], moved, points)


def rotations_between(before: npt.NDArray[Any], after: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Rotations [..., 3, 3] that turn centred, weighted points [..., N, 3] best onto others (Kabsch, 1976)."""
    left, _, right = np.linalg.svd(np.swapaxes(after, -1, -2) @ before)
    sign = np.ones(left.shape[:-1])
    sign[..., 2] = np.sign(np.linalg.det(left @ right))
    rotations: npt.NDArray[Any] = (left * sign[..., None, :]) @ right
    return rotations
