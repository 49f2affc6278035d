"""Longer tracks: points are searched for wherever the adjusted cameras see them.

Tracks that are followed from frame to frame are short under fast cameras, drift a little with each frame, and end when
their point leaves the image. Here the image around a point in the middle of its track is a template. It is matched to
all frames by inverse compositional alignment (Baker and Matthews, 2004), starting at the point's projection, and warped
as a plane that faces the template's camera.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ..tracks import FEWEST_FRAMES, REFERENCE_WIDTH, Tracks, as_gray, sampled
from .bundle_adjustment import Adjusted

HALF_WINDOW = 4  # pixels around a template's middle
BLUR = 0.6  # pixels: standard deviation, before images are sampled between their pixels
REACH = 3.0  # pixels, for images of the reference width: how far from where cameras see a point it is looked for
LIKENESS = 0.9  # correlation of a template and what it is found in
LARGEST_ZOOM = 1.6  # of the template, or its inverse
STEPS = 8  # of alignment
STANDSTILL = 0.05  # pixels: a last step that is longer has not converged
MOST_IN_A_FRAME = 1000  # of the longest tracks: adjustment takes time in proportion to observations

Floats = npt.NDArray[Any]


def relink(
    images: Sequence[npt.NDArray[Any]],
    tracks: Tracks,
    solution: Adjusted,
    intrinsics: npt.NDArray[Any],
    visible: Sequence[npt.NDArray[Any]] | None = None,
) -> Tracks:
    """Look for the points of tracks in all frames.

    Args:
        images: S frames `(H, W, 3)` uint8; each is looked at twice, and one is held at a time.
        tracks: in pixels of the images.
        solution: cameras and points; those of its `used` tracks are looked for.
        intrinsics: `(S, 3, 3)` in pixels of the images.
        visible: `(H, W)` bool of each frame, false where nothing is looked for.

    Returns:
        As many tracks in the same order. Those that were found again have the places where they were found, and no
        others; the rest are as they were.
    """
    wanted = np.flatnonzero(solution.used & np.isfinite(solution.points).all(axis=1))
    if not len(wanted):
        return tracks
    lengths = tracks.lengths()
    middle = np.argsort(tracks.track, kind="stable")[np.cumsum(lengths) - lengths // 2 - 1][wanted]
    home = tracks.frame[middle]
    grid = np.arange(-HALF_WINDOW, HALF_WINDOW + 1, dtype=np.float32)
    offsets = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2)  # [P, 2]
    weight = np.exp(-(offsets**2).sum(axis=1) / HALF_WINDOW**2)
    template, slope = _templates(images, home, tracks.xy[middle], offsets)
    hessian = np.einsum("p,npi,npj->nij", weight, slope, slope) + 1e-3 * np.eye(2)
    step_of = np.einsum("nij,p,npj->nip", np.linalg.inv(hessian), weight, slope).astype(np.float32)
    norm = np.linalg.norm(template, axis=1)

    points, pose = solution.points[wanted], solution.extrinsics
    depth_at_home = np.einsum("nj,nj->n", pose[home, 2, :3], points) + pose[home, 2, 3]
    found = []
    for frame, image in enumerate(images):
        height, width = image.shape[:2]
        reach = REACH * max(width / REFERENCE_WIDTH, 0.5)
        # 1. Which points the camera sees, and where.
        there = points @ pose[frame, :, :3].T + pose[frame, :, 3]
        with np.errstate(divide="ignore", invalid="ignore"):
            plane = there[:, :2] / there[:, 2:]
            zoom = depth_at_home / there[:, 2]
            expected = (plane @ intrinsics[frame, :2, :2].T + intrinsics[frame, :2, 2]).astype(np.float32)
            inside = (expected > HALF_WINDOW).all(axis=1) & (
                expected < (width - HALF_WINDOW, height - HALF_WINDOW)
            ).all(axis=1)
            inside &= (there[:, 2] > 0) & (zoom > 1 / LARGEST_ZOOM) & (zoom < LARGEST_ZOOM)
        chosen = np.flatnonzero(inside)
        if len(chosen) > MOST_IN_A_FRAME:
            chosen = chosen[np.argsort(-lengths[wanted[chosen]], kind="stable")[:MOST_IN_A_FRAME]]
        # 2. The warp of a template, and its place by Gauss-Newton.
        turn = pose[frame, :, :3] @ np.swapaxes(pose[home[chosen], :, :3], 1, 2)
        warp = zoom[chosen, None, None] * (turn[:, :2, :2] - plane[chosen, :, None] * turn[:, 2:, :2])
        warp = (intrinsics[frame, :2, :2] @ warp @ np.linalg.inv(intrinsics[home[chosen], :2, :2])).astype(np.float32)
        window = np.einsum("nij,pj->npi", warp, offsets)
        gray, place, step = _blurred(image), expected[chosen], np.zeros((len(chosen), 2), np.float32)
        for _ in range(STEPS):
            difference = _patches(gray, place[:, None] + window) - template[chosen]
            step = np.einsum("nij,njp,np->ni", warp, step_of[chosen], difference, optimize=True).clip(-1, 1)
            place = place - step
        # 3. Which of them are found.
        patch = _patches(gray, place[:, None] + window)
        alike = (patch * template[chosen]).sum(axis=1) > LIKENESS * norm[chosen] * np.linalg.norm(patch, axis=1)
        alike &= np.linalg.norm(place - expected[chosen], axis=1) < reach
        alike &= np.linalg.norm(step, axis=1) < STANDSTILL
        alike &= (place > 1).all(axis=1) & (place < (width - 1, height - 1)).all(axis=1)
        if visible is not None:
            column, row = place.astype(int).T
            alike &= visible[frame][row.clip(0, height - 1), column.clip(0, width - 1)]
        found.append((wanted[chosen[alike]], place[alike]))
    return _joined(tracks, found)


def _templates(
    images: Sequence[npt.NDArray[Any]], home: npt.NDArray[Any], xy: npt.NDArray[Any], offsets: Floats
) -> tuple[Floats, Floats]:
    """The image around points [N, 2], each in its own frame: [N, P] float32 of mean 0, and its slope [N, P, 2]."""
    template = np.zeros((len(xy), len(offsets)), np.float32)
    slope = np.zeros((*template.shape, 2), np.float32)
    order = np.argsort(home, kind="stable")
    edges = np.searchsorted(home[order], np.arange(len(images) + 1))
    for frame, image in enumerate(images):
        own = order[edges[frame] : edges[frame + 1]]
        gray, window = _blurred(image), xy[own, None] + offsets
        template[own] = _patches(gray, window)
        for axis, half in enumerate(np.eye(2, dtype=np.float32) / 2):
            slope[own, :, axis] = _patches(gray, window + half) - _patches(gray, window - half)
    return template, slope


def _blurred(image: npt.NDArray[Any]) -> Floats:
    return np.asarray(cv2.GaussianBlur(as_gray(image), (0, 0), BLUR), np.float32)


def _patches(gray: Floats, places: Floats) -> Floats:
    """What an image shows at places `(N, P, 2)`, the first pixel's centre at (0.5, 0.5), less the mean: `(N, P)`."""
    values = sampled(gray, places, cv2.INTER_CUBIC)
    return np.asarray(values - values.mean(axis=1, keepdims=True))


def _joined(tracks: Tracks, found: list[tuple[npt.NDArray[Any], npt.NDArray[Any]]]) -> Tracks:
    """Tracks with what was found of them in each frame, the numbers [n] and places [n, 2], in place of what they had;
    those found in fewer than three frames as they were."""
    numbers = np.concatenate([each for each, _ in found])
    again = np.bincount(numbers, minlength=len(tracks)) >= FEWEST_FRAMES
    kept, new = ~again[tracks.track], again[numbers]
    number = np.concatenate((tracks.track[kept], numbers[new]))
    frame = np.concatenate((tracks.frame[kept], np.repeat(np.arange(len(found)), [len(n) for n, _ in found])[new]))
    xy = np.concatenate((tracks.xy[kept], np.concatenate([place for _, place in found])[new]))
    order = np.lexsort((number, frame))
    return Tracks(number[order], frame[order], xy[order], len(tracks))
