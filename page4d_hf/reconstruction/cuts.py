"""Where a clip cuts from one shot to another, which no camera path leads across.

A cut is where the image changes much more than around it, flow does not lead from one side to the other, and no matches
of features (SIFT) follow one geometry across it. A flash, an occlusion or a jerk of the camera has the same scene on
both sides. Dissolves and fades are not recognised.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ..frames import Frames, Source, read_frames
from .dense_flow import DenseFlow

WIDTH = 240  # pixels of the images that are compared
AROUND = 8  # frames on each side, that say how much the image usually changes
FEWEST_AROUND = 2  # of them, or nothing is usual
LEAST_CHANGE = 6.0  # levels, the mean over a thumbnail
CHANGE_FACTOR = 2.5  # times as much as usual
THUMBNAIL = (32, 18)  # pixels
MOST_CONSISTENT = 0.4  # share of pixels that flow leads to and back from
ROUND_TRIP = 1.5  # pixels that the way back may be off
STEPS = ((1, 0), (1, 1), (2, 0), (1, 3), (3, 3), (1, 6), (6, 1))  # frames before and after a cut, compared by features
FEWEST_MATCHES = 12  # that follow one geometry,
LEAST_AGREEMENT = 0.35  # this share of all,
LEAST_SPREAD = 0.08  # and spread over the width with so large a deviation: a logo's do not

Report = dict[str, Any]


def find_cuts(images: Iterable[npt.NDArray[Any]], *, progress: Callable[[int], None] = lambda done: None) -> list[int]:
    """The first frame of each shot but the first, of images `(H, W, 3 or 4)` uint8, of any sizes, gone through once."""
    # Of each frame the image, its thumbnail, and how much that differs from the last one's.
    recent: deque[tuple[npt.NDArray[Any], npt.NDArray[Any], float]] = deque(maxlen=2 * AROUND + 1)
    cuts: list[int] = []

    def look(place: int, frame: int) -> None:
        if _differs([each[2] for each in recent], place) and _unrelated([each[0] for each in recent], place):
            cuts.append(frame)

    number = -1
    for number, image in enumerate(images):
        small = _small(image)
        thumbnail = cv2.resize(small, THUMBNAIL, interpolation=cv2.INTER_AREA).astype(np.float32)
        change = float(np.abs(thumbnail - recent[-1][1]).mean()) if recent else 0.0
        recent.append((small, thumbnail, change))
        if number >= AROUND:
            look(len(recent) - 1 - AROUND, number - AROUND)
        progress(number + 1)
    for after in range(min(AROUND, number + 1) - 1, -1, -1):
        look(len(recent) - 1 - after, number - after)
    return [cut for cut in cuts if cut]


def split_at_cuts(
    source: Source,
    *,
    fps: float | None = None,
    max_frames: int | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Frames]:
    """The shots of a clip, in order, each of which `reconstruct` takes as it is.

    ```python
    >>> scenes = [reconstruct(shot, "page4d") for shot in split_at_cuts("film.mp4")]
    ```

    Args:
        source: a video, a folder of images, a glob, image files, PIL images or arrays; see `read_frames`.
        fps: frames per second to take of a video. By default all of them.
        max_frames: at most so many frames, spread evenly over the clip.
        progress: told how many frames are done.
    """
    frames = read_frames(source, fps=fps, max_frames=max_frames)
    edges = [0, *find_cuts(frames.images, progress=progress), len(frames)]
    return [frames.take(np.arange(start, end)) for start, end in pairwise(edges)]


def longest_shot(
    frames: Frames, *, progress: Callable[[int], None] = lambda done: None
) -> tuple[Frames, Report | None]:
    """The shot with the most frames, and where the clip cuts: None where it does not.

    The report has the first frames of the later shots (`frames`), their `seconds` where the clip tells the time, the
    first frame of the shot that is taken and the one after its last (`taken`), and a sentence for the user (`note`).
    """
    cuts = find_cuts(frames.images, progress=progress)
    if not cuts:
        return frames, None
    edges = np.array([0, *cuts, len(frames)])
    longest = int(np.diff(edges).argmax())
    start, end = edges[longest : longest + 2].tolist()
    seconds = frames.times[cuts].tolist() if frames.in_seconds else None
    places = [f"{frames.names[cut]} ({frames.times[cut]:.2f} s)" if seconds else frames.names[cut] for cut in cuts]
    listed = places[0] if len(places) == 1 else f"{', '.join(places[:-1])} and {places[-1]}"
    note = (
        f"The clip cuts at {listed}: only the longest shot is taken, {frames.names[start]} to {frames.names[end - 1]}."
    )
    report: Report = {"frames": cuts, "seconds": seconds, "taken": [start, end], "note": note}
    return frames.take(np.arange(start, end)), report


def _small(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    height, width = image.shape[:2]
    size = (WIDTH, max(round(WIDTH * height / width), 16))
    return cv2.resize(np.ascontiguousarray(image[..., :3]), size, interpolation=cv2.INTER_AREA)


def _differs(changes: list[float], place: int) -> bool:
    """Whether the image changes much more than around."""
    first, last = max(place - AROUND, 1), place + AROUND + 1
    around = [change for number, change in enumerate(changes[:last]) if first <= number != place]
    if len(around) < FEWEST_AROUND:
        return False
    return changes[place] > max(LEAST_CHANGE, CHANGE_FACTOR * float(np.median(around)))


def _unrelated(images: list[npt.NDArray[Any]], place: int) -> bool:
    """Whether neither flow nor features lead from the images before a place to those from it on."""
    gray = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in images]
    before, after = gray[place - 1 : place + 1]
    # Images of a folder may differ in size: flow does not go from one to the other, and features do.
    if before.shape == after.shape and _consistent(before, after) > MOST_CONSISTENT:
        return False
    features: dict[int, tuple[npt.NDArray[Any], npt.NDArray[Any]]] = {}

    def of(number: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        if number not in features:
            points, described = cv2.SIFT.create(500, contrastThreshold=0.02).detectAndCompute(gray[number], None)  # type: ignore[call-overload]
            at = np.array([point.pt for point in points], np.float32).reshape(-1, 2)
            features[number] = at, described if len(at) else np.zeros((0, 128), np.float32)
        return features[number]

    pairs = [(place - before, place + after) for before, after in STEPS]
    return not any(_match(of(i), of(j)) for i, j in pairs if i >= 0 and j < len(images))


def _consistent(before: npt.NDArray[Any], after: npt.NDArray[Any]) -> float:
    """Share of pixels that flow carries to another image and back."""
    flow = DenseFlow(preset=cv2.DISOPTICAL_FLOW_PRESET_FAST)
    before, after = cv2.equalizeHist(before), cv2.equalizeHist(after)
    there, back = flow.calc(before, after), flow.calc(after, before)
    grid = np.stack(np.meshgrid(np.arange(before.shape[1]), np.arange(before.shape[0])), axis=-1).astype(np.float32)
    target = grid + there
    returned = there + cv2.remap(back, target, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]
    inside = ((target >= 0) & (target < before.shape[::-1])).all(axis=-1)
    return float((inside & (np.linalg.norm(returned, axis=-1) < ROUND_TRIP)).mean())


def _match(one: tuple[npt.NDArray[Any], npt.NDArray[Any]], other: tuple[npt.NDArray[Any], npt.NDArray[Any]]) -> bool:
    """Whether enough features of two images follow one geometry."""
    if min(len(one[0]), len(other[0])) < FEWEST_MATCHES:
        return False
    pairs = cv2.BFMatcher(cv2.NORM_L2).knnMatch(one[1], other[1], k=2)
    good = [best for best, second in pairs if best.distance < 0.75 * second.distance]
    if len(good) < FEWEST_MATCHES:
        return False
    here = one[0][[match.queryIdx for match in good]]
    there = other[0][[match.trainIdx for match in good]]
    _, inlier = cv2.findFundamentalMat(here, there, cv2.FM_RANSAC, 1.0, 0.99)
    if inlier is None:
        return False
    agrees = inlier.ravel().astype(bool)
    enough = agrees.sum() >= max(FEWEST_MATCHES, LEAST_AGREEMENT * len(good))
    return bool(enough and min(here[agrees, 0].std(), there[agrees, 0].std()) > LEAST_SPREAD * WIDTH)
