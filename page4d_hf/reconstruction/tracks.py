"""Point tracks: where the same point of a scene is seen in consecutive frames.

Corners (Shi and Tomasi, 1994) are carried from frame to frame by dense optical flow (DIS, Kroeger et al., 2016) at a
quarter of the resolution, and set to a fraction of a pixel by Lucas-Kanade at the full one. A track ends where tracking
backwards does not return to its start. Where nearly all would end, at a flash, a black or a blurred frame, they are
looked for in the frames behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ..errors import Page4DError
from ..scene.tracks import PointTracks
from .dense_flow import DenseFlow

# Lengths in pixels are for images of this width, and grow with them.
REFERENCE_WIDTH = 320
ROUND_TRIP = 0.3  # pixels: how far forth and back may lead from the start; never less than half of it
SPACING = 5  # pixels between corners
_COLUMNS = 1 << 14  # that are resampled at once: cv2.remap bears no more than 32,767
FINEST_FLOW_SCALE = 2  # DIS stops at a quarter of the resolution: Lucas-Kanade does the rest, in a tenth of the time
WINDOW = 9  # pixels, side of Lucas-Kanade's window; larger ones are pulled by what moves behind a corner
CORNER_QUALITY = 0.005  # of the best corner's
MOST_CORNERS = 1500  # in one frame
FEWEST_FRAMES = 3  # of a track that is of use
BROKEN = 0.2  # of a frame's tracks: where fewer are followed, the next frame is another, or shows nothing
LONGEST_GAP = 5  # frames that may show nothing until tracks are given up
MOST_CELLS = 10_000_000  # tracks times frames, of those that are kept beside a scene
LIKENESS = 0.8  # of the difference that images have in one place, that they may have along a track
NOISE = 4.0  # levels of grey, that a difference may always have
_LK: dict[str, Any] = {
    "winSize": (WINDOW, WINDOW),
    "maxLevel": 0,
    "criteria": (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 20, 0.003),
    "flags": cv2.OPTFLOW_USE_INITIAL_FLOW,
}


@dataclass(frozen=True)
class Corners:
    """Options of corner detection. The defaults are for cameras, which need few but reliable corners."""

    quality: float = CORNER_QUALITY
    spacing: float = SPACING
    most: int = MOST_CORNERS


@dataclass(frozen=True)
class Tracks:
    """Observations of tracked points, in the order of frames."""

    track: npt.NDArray[Any]  # [O] int, from 0 to count - 1
    frame: npt.NDArray[Any]  # [O] int, rising
    xy: npt.NDArray[Any]  # [O, 2] float32 in pixels, the first pixel's centre at (0.5, 0.5)
    count: int

    def __len__(self) -> int:
        return self.count

    def select(self, kept: npt.NDArray[Any]) -> Tracks:
        """Those tracks of `kept` [count] bool, numbered anew."""
        rows = kept[self.track]
        numbers = np.cumsum(kept) - 1
        return Tracks(numbers[self.track[rows]], self.frame[rows], self.xy[rows], int(kept.sum()))

    def lengths(self) -> npt.NDArray[Any]:
        """In how many frames each track is seen, [count]."""
        return np.bincount(self.track, minlength=self.count)

    def first_rows(self) -> npt.NDArray[Any]:
        """For each observation the first one of its track, [O]."""
        _, first, numbers = np.unique(self.track, return_index=True, return_inverse=True)  # in the order of frames
        rows: npt.NDArray[Any] = first[numbers]
        return rows

    def rows_of_frames(self, num_frames: int) -> list[slice]:
        """The observations of each frame."""
        edges = np.searchsorted(self.frame, np.arange(num_frames + 1))
        return [slice(int(start), int(end)) for start, end in pairwise(edges)]

    def medians(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The median over each track's observations of `values` [O] or [O, C]; NaN where one is, or there is none."""
        if not len(values):
            return np.full((self.count, *values.shape[1:]), np.nan)
        lengths, columns = self.lengths(), values.reshape(len(values), -1)
        first = np.cumsum(lengths) - lengths
        low, high = (np.maximum(lengths, 1) - 1) // 2, lengths // 2
        medians = np.full((self.count, columns.shape[1]), np.nan)
        seen = lengths > 0
        for number, column in enumerate(columns.T):
            ranked = column[np.lexsort((column, self.track))]  # not a number comes last
            middle = (ranked[(first + low)[seen]].astype(np.float64) + ranked[(first + high)[seen]]) / 2
            medians[seen, number] = np.where(np.isnan(ranked[(first + lengths - 1)[seen]]), np.nan, middle)
        return medians.reshape(self.count, *values.shape[1:])


def track_points(
    images: Iterable[npt.NDArray[Any]],
    *,
    choice: Corners | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Tracks:
    """Track corners, by default those that are good for cameras, through a clip; gives tracks of at least three frames.

    Images are `(H, W, 3)` uint8, of one size; no more than three are held at a time.
    """
    flow = DenseFlow(FINEST_FLOW_SCALE)
    xy, number, count = np.zeros((0, 2), np.float32), np.zeros(0, np.int64), 0
    observed: list[tuple[npt.NDArray[Any], npt.NDArray[Any]]] = []
    before: npt.NDArray[Any] | None = None
    # The last image before one that hardly any track leads to, with its points and their numbers; and when it was.
    lost: tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]] | None = None
    lost_at = 0
    for frame, image in enumerate(images):
        gray = as_gray(image)
        if before is not None and before.shape != gray.shape:
            raise Page4DError("Tracks need frames of one size; these differ.")
        if before is not None and len(xy):
            there, followed = _follow_in_any_light(flow, before, gray, xy)
            if lost is None and followed.mean() < BROKEN:
                lost, lost_at = (before, xy, number), frame
            xy, number = there[followed], number[followed]
        if lost is not None and frame > lost_at:
            there, followed = _follow_in_any_light(flow, lost[0], gray, lost[1])
            if followed.mean() >= BROKEN:
                followed &= ~np.isin(lost[2], number)
                xy, number = np.concatenate((xy, there[followed])), np.concatenate((number, lost[2][followed]))
                lost = None
            elif frame - lost_at >= LONGEST_GAP:
                lost = None
        corners = new_corners(gray, xy, choice or Corners())
        xy = np.concatenate((xy, corners))
        number = np.concatenate((number, np.arange(count, count + len(corners))))
        count += len(corners)
        observed.append((number, xy))
        before = gray
        progress(frame + 1)
    return joined_tracks(observed)


def joined_tracks(observed: Sequence[tuple[npt.NDArray[Any], npt.NDArray[Any]]]) -> Tracks:
    """Tracks of at least three frames, of which each frame sees some numbers [N] at positions [N, 2]."""
    frames = np.repeat(np.arange(len(observed)), [len(numbers) for numbers, _ in observed])
    names, track = np.unique(np.concatenate([numbers for numbers, _ in observed]), return_inverse=True)
    tracks = Tracks(track, frames, np.concatenate([xy for _, xy in observed]).astype(np.float32), len(names))
    return tracks.select(tracks.lengths() >= FEWEST_FRAMES)


def without_hidden(tracks: Tracks, visible: Iterable[npt.NDArray[Any] | None]) -> Tracks:
    """Tracks without what is observed in pixels where `visible`, `(H, W)` bool of each frame, is false; None hides
    nothing."""
    seen = np.ones(len(tracks.track), bool)
    observed = tracks.rows_of_frames(int(tracks.frame.max(initial=-1)) + 1)
    for rows, mask in zip(observed, visible, strict=False):  # the last frames may have no observations
        if mask is None:
            continue
        height, width = mask.shape
        column, row = tracks.xy[rows].astype(int).T
        seen[rows] = mask[row.clip(0, height - 1), column.clip(0, width - 1)]
    kept = Tracks(tracks.track[seen], tracks.frame[seen], tracks.xy[seen], len(tracks))
    return kept.select(kept.lengths() >= FEWEST_FRAMES)


def _follow_in_any_light(
    flow: DenseFlow, before: npt.NDArray[Any], after: npt.NDArray[Any], xy: npt.NDArray[Any]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """`_follow`, where hardly a point is found once more without what exposure changes: it keeps the order of greys."""
    followed = _follow(flow, before, after, xy)
    if followed[1].mean() >= BROKEN:
        return followed
    equalized = _follow(flow, cv2.equalizeHist(before), cv2.equalizeHist(after), xy)
    return max(followed, equalized, key=lambda each: each[1].sum())


def _follow(
    flow: DenseFlow, before: npt.NDArray[Any], after: npt.NDArray[Any], xy: npt.NDArray[Any]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Positions [N, 2] of one image's points in the next, and which were found, [N] bool."""
    height, width = after.shape
    unit = width / REFERENCE_WIDTH
    guess = xy + sampled(flow.calc(before, after), xy)
    there, found = _lucas_kanade(before, after, xy, guess)
    back, found_back = _lucas_kanade(after, before, there, there + sampled(flow.calc(after, before), there))
    found &= found_back
    found &= np.linalg.norm(there - guess, axis=1) < 2 * max(unit, 1)
    found &= np.linalg.norm(back - xy, axis=1) < ROUND_TRIP * max(unit, 0.5)
    found &= (there > 1).all(axis=1) & (there < (width - 1, height - 1)).all(axis=1)
    return there, found


def _lucas_kanade(
    before: npt.NDArray[Any], after: npt.NDArray[Any], xy: npt.NDArray[Any], guess: npt.NDArray[Any]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    half = np.float32(0.5)  # OpenCV's first pixel is at 0
    there, status, _ = cv2.calcOpticalFlowPyrLK(before, after, xy - half, guess - half, **_LK)
    return there + half, status.ravel().astype(bool)


def as_gray(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return cv2.cvtColor(np.ascontiguousarray(image[..., :3]), cv2.COLOR_RGB2GRAY)


def sampled(field: npt.NDArray[Any], xy: npt.NDArray[Any], interpolation: int = cv2.INTER_LINEAR) -> npt.NDArray[Any]:
    """A field `(H, W)` or `(H, W, C)` at points [..., 2], the first pixel's centre at 0.5: [...] or [..., C]."""
    x, y = (xy.reshape(-1, 2) - 0.5).astype(np.float32).T[:, None]
    values = [np.zeros((0, *field.shape[2:]), field.dtype)] + [
        cv2.remap(
            field, x[:, k : k + _COLUMNS], y[:, k : k + _COLUMNS], interpolation, borderMode=cv2.BORDER_REPLICATE
        )[0]
        for k in range(0, x.size, _COLUMNS)
    ]
    return np.concatenate(values).reshape(*xy.shape[:-1], *field.shape[2:])


def new_corners(gray: npt.NDArray[Any], taken: npt.NDArray[Any], choice: Corners) -> npt.NDArray[Any]:
    """Corners [N, 2] of an image `(H, W)` uint8 where no track is near."""
    room = choice.most - len(taken)
    if room <= 0:
        return np.zeros((0, 2), np.float32)
    spacing = max(3, round(choice.spacing * gray.shape[1] / REFERENCE_WIDTH))
    free = np.full(gray.shape, 255, np.uint8)
    for x, y in taken.astype(int):
        cv2.circle(free, (int(x), int(y)), spacing, (0,), -1)
    corners = cv2.goodFeaturesToTrack(gray, room, choice.quality, spacing, mask=free)
    return np.zeros((0, 2), np.float32) if corners is None else corners[:, 0] + np.float32(0.5)


def as_point_tracks(tracks: Tracks, points: npt.NDArray[Any], num_frames: int) -> PointTracks:
    """Tracks as a table of tracks and frames, with their points [T, 3].

    Of a long clip's, as many of each starting frame as `MOST_CELLS` leaves room for: the longest.
    """
    kept, lengths = np.ones(len(tracks), bool), tracks.lengths()
    most = max(1, MOST_CELLS // num_frames)
    if len(tracks) > most:
        starts = np.full(len(tracks), num_frames)
        np.minimum.at(starts, tracks.track, tracks.frame)
        order = np.lexsort((-lengths, starts))
        first = np.searchsorted(starts[order], starts[order])
        rank = np.empty(len(tracks), np.int64)
        rank[order] = np.arange(len(tracks)) - first  # among those that start with it
        kept[np.argsort(rank, kind="stable")[most:]] = False
    chosen = tracks.select(kept)
    xy = np.zeros((len(chosen), num_frames, 2), np.float32)
    visible = np.zeros((len(chosen), num_frames), bool)
    xy[chosen.track, chosen.frame] = chosen.xy
    visible[chosen.track, chosen.frame] = True
    return PointTracks(xy, visible, points[kept].astype(np.float32))


def check_number_of_frames(given: PointTracks, count: int) -> None:
    """Refuse a user's tracks through another number of frames than a clip has."""
    if given.visible.shape[1] != count:
        raise Page4DError(
            f"Expected tracks through the clip's {count} frames, got {given.visible.shape[1]}; track the frames that "
            "are reconstructed."
        )


def checked_tracks(
    given: PointTracks, images: Sequence[npt.NDArray[Any]], *, progress: Callable[[int], None] = lambda done: None
) -> Tracks:
    """A user's tracks, where they fit the images `(H, W, 3)` uint8, of one size, of which two are held at a time."""
    check_number_of_frames(given, len(images))
    height, width = images[0].shape[:2]
    frame, track = np.nonzero(given.visible.T)
    tracks = Tracks(track, frame, given.xy[track, frame], len(given))
    outside = int(((tracks.xy < 0) | (tracks.xy > (width, height))).any(axis=1).sum())
    if outside:
        raise Page4DError(
            f"{outside} of {len(track)} visible positions of the tracks are outside of the images, which are "
            f"{width}x{height}; give positions in pixels of the images, and mark what left them as not visible."
        )
    tracks = tracks.select(tracks.lengths() >= FEWEST_FRAMES)
    if not len(tracks):
        raise Page4DError(f"No track is visible in {FEWEST_FRAMES} frames; give longer ones, or leave out --tracks.")
    # Along a track images look alike, and more so than where the point first was.
    first_xy, first_value = np.zeros((len(tracks), 2), np.float32), np.full(len(tracks), np.nan, np.float32)
    along, staying = [], []
    for number, rows in enumerate(tracks.rows_of_frames(len(images))):
        gray = cv2.GaussianBlur(as_gray(images[number]), (0, 0), 1.5).astype(np.float32)
        seen, xy = tracks.track[rows], tracks.xy[rows]
        if len(seen):
            value = sampled(gray, xy)
            along.append(np.abs(value - first_value[seen]))
            staying.append(np.abs(sampled(gray, first_xy[seen]) - first_value[seen]))
            new = np.isnan(first_value[seen])
            first_xy[seen[new]], first_value[seen[new]] = xy[new], value[new]
        progress(number + 1)
    differs, usual = (float(np.nanmean(np.concatenate(each))) for each in (along, staying))
    if differs > max(LIKENESS * usual, NOISE):
        raise Page4DError(
            "The tracks are of another clip, or of other frames of it: images differ along them as much as where "
            "nothing is followed."
        )
    return tracks
