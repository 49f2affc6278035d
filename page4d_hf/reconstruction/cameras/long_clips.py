"""Bundle adjustment of clips of any length, in time that grows no faster than the number of frames.

An adjustment takes time by the number of pairs of frames that share a point. Of a long clip only keyframes are
adjusted, with a bounded number of tracks in each. First overlapping parts are adjusted separately, so that a start that
drifts or fails in places does no harm. Parts are then joined by the points they share and adjusted together. The frames
between keyframes are located by the keyframes' points.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation, Slerp

from ...geometry import Similarity, align_sim3_robustly, camera_centers, extrinsics_at
from ..tracks import FEWEST_FRAMES, REFERENCE_WIDTH, Tracks
from .bundle_adjustment import (
    FEWEST_OBSERVATIONS,
    LOSS_SCALES,
    Adjusted,
    adjust,
    adjust_once,
    colmap_camera,
    depths,
    reprojection_errors,
    triangulated,
    without_outliers,
)
from .mapping import locate_by_points, map_tracks

MOST_AT_ONCE = 100  # frames of a clip that is adjusted as it is
SURVIVORS = 0.7  # of a keyframe's tracks: where fewer are left, the next keyframe is due,
DISPLACEMENT = 10.0  # or where they have moved so far, in pixels for images of the reference width
PART, SHARED = 24, 8  # keyframes of a part, and those of them that are the last one's too
CELLS = 8  # across the image, of which each has its share of the tracks
TRACKS_PER_CELL = 10  # of a keyframe, if it has so many
TRUSTED = 0.6  # share of observations that an adjusted part must explain, or else it is mapped anew
LOST = 0.3  # share of its observations that an adjusted keyframe must explain, or else it is located by points
EXPLAINED = 1.0  # pixels, for images of the reference width
FEWEST_SHARED = 10  # points by which parts are joined


def adjust_clip(
    tracks: Tracks,
    start: Adjusted,
    image_size: tuple[int, int],
    *,
    hold_focal: bool = False,
    hold_poses: bool = False,
    in_parts: bool = True,
) -> Adjusted:
    """`adjust` for clips of any length; up to `MOST_AT_ONCE` frames, and where poses are held, it is the same.

    With `in_parts`, keyframes of long clips are adjusted in parts first, for which points must not be too far off.
    """
    if hold_poses or len(start.extrinsics) <= MOST_AT_ONCE:
        return adjust(tracks, start, image_size, hold_focal=hold_focal, hold_poses=hold_poses)
    frames = keyframes(tracks.select(start.used), len(start.extrinsics), image_size)
    chosen = _thinned(_of_frames(tracks, frames), start.used, image_size)
    seen, solution = _of_frames(tracks, frames), replace(start, extrinsics=start.extrinsics[frames], used=chosen)
    if in_parts:
        solution = _joined(list(_parts(seen, solution, image_size, hold_focal)), solution)
    solution = adjust(seen, solution, image_size, hold_focal=hold_focal)
    solution = _with_lost_ones_located(seen, solution, image_size)
    whole = replace(solution, extrinsics=poses_between(frames, solution.extrinsics, len(start.extrinsics)))
    whole = _locate_the_others(tracks, whole, frames, image_size)
    points = triangulated(
        tracks, replace(whole, points=np.where(whole.used[:, None], whole.points, np.nan)), image_size
    ).points
    points = np.where(whole.used[:, None], whole.points, points)
    return without_outliers(tracks, replace(whole, points=points, used=start.used), image_size)


def keyframes(tracks: Tracks, num_frames: int, image_size: tuple[int, int]) -> npt.NDArray[Any]:
    """Numbers of frames between which the image moves far enough to tell depth and enough tracks survive; the first and
    the last that see enough tracks to be adjusted are among them."""
    most = DISPLACEMENT * image_size[1] / REFERENCE_WIDTH
    since, there = np.full(len(tracks), -1), np.zeros((len(tracks), 2))
    chosen: list[int] = []
    begun = 0
    rows = tracks.rows_of_frames(num_frames)
    seeing = [frame for frame in range(num_frames) if rows[frame].stop - rows[frame].start >= FEWEST_OBSERVATIONS]
    for frame in seeing:
        seen, xy = tracks.track[rows[frame]], tracks.xy[rows[frame]]
        left = since[seen] == chosen[-1] if chosen else np.zeros(len(seen), bool)
        due = left.sum() < SURVIVORS * begun or (
            left.any() and np.median(np.linalg.norm(xy - there[seen], axis=1)[left]) > most
        )
        if due or frame in (seeing[0], seeing[-1]):
            chosen.append(frame)
            since[seen], there[seen], begun = frame, xy, len(seen)
    return np.array(chosen if len(chosen) > 1 else [0, num_frames - 1])


def _of_frames(tracks: Tracks, frames: npt.NDArray[Any]) -> Tracks:
    """What some frames, in rising order, see of the same tracks; frames are numbered anew."""
    place = np.searchsorted(frames, tracks.frame).clip(0, len(frames) - 1)
    rows = frames[place] == tracks.frame
    return Tracks(tracks.track[rows], place[rows], tracks.xy[rows], len(tracks))


def _thinned(tracks: Tracks, used: npt.NDArray[Any], image_size: tuple[int, int]) -> npt.NDArray[Any]:
    """Of tracks in use [T] bool, the longest that fill the cells of the frames' images evenly."""
    cell = (tracks.xy * (CELLS / image_size[1])).astype(np.int64)
    down = int(cell[:, 1].max(initial=0)) + 1
    place = (tracks.frame * down + cell[:, 1]) * CELLS + cell[:, 0].clip(0, CELLS - 1)
    lengths = tracks.lengths()
    order = np.argsort(tracks.track, kind="stable")
    ends = np.cumsum(lengths)
    taken, kept = np.zeros(place.max(initial=0) + 1, np.int64), np.zeros(len(tracks), bool)
    for track in np.argsort(-lengths, kind="stable"):
        if lengths[track] < FEWEST_FRAMES:
            break
        cells = place[order[ends[track] - lengths[track] : ends[track]]]
        if used[track] and 2 * (taken[cells] < TRACKS_PER_CELL).sum() >= len(cells):
            np.add.at(taken, cells, 1)
            kept[track] = True
    return kept


def _parts(
    tracks: Tracks, start: Adjusted, size: tuple[int, int], hold_focal: bool
) -> Iterator[tuple[slice, Adjusted]]:
    """Cameras and points of each part, in a world of its own."""
    count = len(start.extrinsics)
    number = max(1, int(np.ceil((count - SHARED) / (PART - SHARED))))
    for first in np.linspace(0, max(count - PART, 0), number).round().astype(int):
        span = slice(int(first), int(min(first + PART, count)))
        frames = np.arange(span.start, span.stop)
        seen = _of_frames(tracks, frames)
        chosen = start.used & (seen.lengths() >= FEWEST_FRAMES)
        local = seen.select(chosen)
        everything = np.ones(len(local), bool)
        begun = replace(start, extrinsics=start.extrinsics[span], points=start.points[chosen], used=everything)
        found = adjust(local, begun, size, hold_focal=True)
        if _explained(local, found, size) < TRUSTED:
            mapped = map_tracks(local, begun, depths(local, begun), size, hold_focal=hold_focal)
            if mapped is not None:
                mapped = adjust(local, mapped, size, hold_focal=True)
                if _explained(local, mapped, size) > _explained(local, found, size):
                    found = mapped
        points, used = np.full(start.points.shape, np.nan), np.zeros(len(start.used), bool)
        points[chosen], used[chosen] = found.points, found.used
        yield span, replace(found, points=points, used=used)


def _explained(tracks: Tracks, solution: Adjusted, size: tuple[int, int]) -> float:
    fits = _fits(tracks, solution, size)
    return float(fits.mean()) if len(fits) else 0.0


def _fits(tracks: Tracks, solution: Adjusted, size: tuple[int, int]) -> npt.NDArray[Any]:
    """Which observations [O] bool the cameras and points explain."""
    return reprojection_errors(tracks, solution, size) < EXPLAINED * size[1] / REFERENCE_WIDTH


def _with_lost_ones_located(tracks: Tracks, solution: Adjusted, size: tuple[int, int]) -> Adjusted:
    """The same, adjusted once more with cameras located by the points where they explained hardly one.

    A camera that starts too far off ends in a place of its own, and the points stay where the others have them.
    """
    rows = solution.used[tracks.track]
    fits = _fits(tracks, solution, size)[rows]
    seen, fitting = (
        np.bincount(tracks.frame[rows], weights=each, minlength=len(solution.extrinsics)) for each in (None, fits)
    )
    lost = (seen >= FEWEST_OBSERVATIONS) & (fitting < LOST * seen)
    if not lost.any() or lost.all():
        return solution
    extrinsics = np.where(lost[:, None, None], np.nan, solution.extrinsics)
    points = np.where(solution.used[:, None], solution.points, np.nan)
    locate_by_points(extrinsics, points, tracks, colmap_camera(solution.focal, size, solution.radial))
    # The first camera is the world's, also where it was lost.
    change = Similarity.between(extrinsics[0], solution.extrinsics[0])
    moved = replace(solution, extrinsics=extrinsics).carried(change)
    located = adjust(tracks, moved, size, scales=LOSS_SCALES[2:], hold_focal=True)
    return located if _explained(tracks, located, size) > _explained(tracks, solution, size) else solution


def _joined(parts: list[tuple[slice, Adjusted]], start: Adjusted) -> Adjusted:
    """Parts in the world of the first, each carried to the last by the points and cameras that they share."""
    extrinsics, points = start.extrinsics.copy(), np.full(start.points.shape, np.nan)
    used, reached = np.zeros(len(start.used), bool), 0
    for span, part in parts:
        if reached:
            part = part.carried(_onto(span, part, reached, Adjusted(extrinsics, start.focal, points, used)))
        # Of the shared keyframes each part gives those that are further from its end.
        new = slice(span.start + (reached - span.start) // 2 if reached else 0, span.stop)
        extrinsics[new] = part.extrinsics[new.start - span.start :]
        points, used, reached = np.where(part.used[:, None], part.points, points), used | part.used, span.stop
    focal = float(np.median([part.focal for _, part in parts]))
    return replace(start, extrinsics=extrinsics, focal=focal, points=points, used=used)


def _onto(span: slice, part: Adjusted, reached: int, whole: Adjusted) -> Similarity:
    shared = part.used & whole.used
    centers = [
        camera_centers(each)
        for each in (part.extrinsics[: reached - span.start], whole.extrinsics[span.start : reached])
    ]
    distance = np.linalg.norm(whole.points[shared] - centers[1].mean(axis=0), axis=1)
    typical = np.full(len(centers[0]), np.median(distance) if len(distance) else 1.0)
    groups = [(centers[0], centers[1], typical, 0.5)]
    if shared.sum() >= FEWEST_SHARED:
        groups.append((part.points[shared], whole.points[shared], distance, 0.5))
    try:
        return align_sim3_robustly(groups)
    except ValueError:  # cameras in one place, and hardly a point: as the first shared camera has it
        return Similarity.between(part.extrinsics[0], whole.extrinsics[span.start])


def poses_between(frames: npt.NDArray[Any], extrinsics: npt.NDArray[Any], num_frames: int) -> npt.NDArray[Any]:
    """Poses of all frames `(S, 3, 4)` from those of some `(K, 3, 4)`: on a line and with even turns between them, and
    those of the first and the last before and behind."""
    every = np.arange(num_frames).clip(frames[0], frames[-1])
    rotation = Slerp(frames, Rotation.from_matrix(extrinsics[:, :, :3]))(every).as_matrix()
    centers = np.stack([np.interp(every, frames, axis) for axis in camera_centers(extrinsics).T], axis=1)
    return extrinsics_at(rotation, centers)


def _locate_the_others(tracks: Tracks, solution: Adjusted, frames: npt.NDArray[Any], size: tuple[int, int]) -> Adjusted:
    """Cameras between keyframes, by the points that these know."""
    held = np.isin(np.arange(len(solution.extrinsics)), frames)
    for scale in LOSS_SCALES[-2:]:
        solution = adjust_once(tracks, solution, size, scale * size[1] / REFERENCE_WIDTH, hold_points=True, held=held)
    return solution
