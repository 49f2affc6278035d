"""Tracks of what moves: windows of the moving region, each followed by an affine motion.

Corners are rare on moving things, and windows at their borders are pulled by the background. Here points lie on a grid
over the whole moving region, and each carries the image around it as a template in colour, of which only the moving
part counts. Templates are aligned by Gauss-Newton (Lucas and Kanade, 1981; Baker and Matthews, 2004) from where dense
flow says they go. Neighbours are held to one motion where the image alone does not tell it. A template stays with its
track, so that errors do not add up, until it looks too different.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from .dense_flow import DenseFlow
from .tracks import FINEST_FLOW_SCALE, REFERENCE_WIDTH, Tracks, as_gray, joined_tracks, sampled

# Lengths are in pixels of images that are at most `REFERENCE_WIDTH` wide.
SPACING = 4.0  # of points
MOST_AT_ONCE = 800  # points in a frame: of a large region they are farther apart
HALF_WINDOW, SIGMA = 6, 3.5
BLUR = 0.6  # standard deviation, before images are sampled between their pixels
STEPS = 8  # of alignment
LONGEST_STEP = 1.5
NOISE = 3.0  # levels of grey
NEIGHBOURS = 6
AGREEMENT = 1.0  # squared deviations from the neighbours' motion count as much as those of one pixel's noise
SHADE = 4.0  # levels of grey: templates that are off by less need not correlate
LIKENESS, RENEWED_BELOW = 0.8, 0.93  # correlation with the template: below it a track ends, or takes a new one
STRETCH, RENEWED_BEYOND = 2.2, 1.5  # of a template, or its inverse: likewise
MASK = 0.3  # of the moving region, smoothed, that a point may be at
MERGED = 0.35  # spacings between two tracks, of which the younger ends

Floats = npt.NDArray[np.float32]
_OFFSETS = np.stack(np.meshgrid(*2 * (np.arange(-HALF_WINDOW, HALF_WINDOW + 1, dtype=np.float32),)), axis=-1).reshape(
    -1, 2
)  # [P, 2]
_GAUSSIAN = np.exp(-(_OFFSETS**2).sum(axis=1) / (2 * SIGMA**2))
_BASIS = np.concatenate((np.ones_like(_OFFSETS[:, :1]), _OFFSETS / HALF_WINDOW), axis=1)  # [P, 3] of an affine motion
_SQUARES = (_BASIS[:, :, None] * _BASIS[:, None]).reshape(-1, 9)


class _Image(NamedTuple):
    gray: npt.NDArray[np.uint8]  # [H, W]
    color: Floats  # [H, W, 3]
    across: Floats  # [H, W, 3] slopes
    down: Floats
    moving: Floats  # [H, W] 0 to 1


class _Points(NamedTuple):
    number: npt.NDArray[np.int64]  # [N] of the track, rising with its first frame
    xy: Floats  # [N, 2]
    affine: Floats  # [N, 2, 2], of offsets in the template
    template: Floats  # [N, P, 3], of weighted mean 0
    weight: Floats  # [N, P], of sum 1

    def select(self, kept: npt.NDArray[Any]) -> _Points:
        return _Points(*(values[kept] for values in self))

    def and_others(self, others: _Points) -> _Points:
        pairs: Iterable[Any] = zip(self, others, strict=True)
        return _Points(*map(np.concatenate, pairs))


def track_motion(
    images: Sequence[npt.NDArray[Any]],
    moving: Sequence[npt.NDArray[np.bool_]],
    *,
    progress: Callable[[int], None] = lambda done: None,
) -> Tracks:
    """Follow the points of a clip's moving region, `(H, W)` bool of each frame, on a grid; gives tracks of at least
    three frames.

    Images are `(H, W, 3)` uint8, of one size; two are held at a time.
    """
    height, width = images[0].shape[:2]
    shrink = min(1.0, REFERENCE_WIDTH / width)
    size = round(width * shrink), max(1, round(height * shrink))
    scale = np.array(size, np.float32) / (width, height)  # by axis: sides are whole numbers
    spacing = max(SPACING, shrink * (max(mask.sum() for mask in moving) / MOST_AT_ONCE) ** 0.5)
    observed: list[tuple[npt.NDArray[Any], npt.NDArray[Any]]] = []
    points, count, before = None, 0, None
    flow = DenseFlow(FINEST_FLOW_SCALE if width >= REFERENCE_WIDTH else 1)
    for frame, image in enumerate(images):
        now = _prepared(image, moving[frame], size)
        if points is not None and before is not None and len(points.xy):
            there = points.xy + sampled(flow.calc(before.gray, now.gray), points.xy)
            points = _renewed(_followed(now, points, there, spacing), now)
        seeds = _grid(now, np.zeros((0, 2)) if points is None else points.xy, spacing)
        new = _new_points(now, count + np.arange(len(seeds)), seeds)
        points = new if points is None else points.and_others(new)
        count += len(seeds)
        observed.append((points.number, points.xy / scale))
        before = now
        progress(frame + 1)
    return joined_tracks(observed)


def _prepared(image: npt.NDArray[Any], moving: npt.NDArray[np.bool_], size: tuple[int, int]) -> _Image:
    mask: npt.NDArray[Any] = moving.astype(np.float32)
    if size[0] < image.shape[1]:
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        mask = cv2.resize(mask, size, interpolation=cv2.INTER_AREA)
    color: Any = cv2.GaussianBlur(image[..., :3].astype(np.float32), (0, 0), BLUR)
    across: Any = cv2.Scharr(color, cv2.CV_32F, 1, 0, scale=1 / 32)
    down: Any = cv2.Scharr(color, cv2.CV_32F, 0, 1, scale=1 / 32)
    smooth: Any = cv2.blur(mask, (3, 3))
    return _Image(as_gray(image), color, across, down, smooth)


def _grid(now: _Image, taken: npt.NDArray[Any], spacing: float) -> Floats:
    """Points [N, 2] of the moving region that are a spacing apart, those at the strongest slopes first."""
    free, radius = (now.moving > 0.5).astype(np.uint8), round(spacing) - 1
    for x, y in taken.astype(int):
        cv2.circle(free, (int(x), int(y)), radius, (0,), -1)
    rows, columns = np.nonzero(free)
    strength = (np.abs(now.across) + np.abs(now.down)).sum(axis=2)[rows, columns]
    points = []
    for place in np.argsort(-strength, kind="stable"):
        x, y = int(columns[place]), int(rows[place])
        if free[y, x]:
            points.append((x + 0.5, y + 0.5))
            cv2.circle(free, (x, y), radius, (0,), -1)
    return np.array(points, np.float32).reshape(-1, 2)


def _new_points(now: _Image, number: npt.NDArray[Any], xy: Floats) -> _Points:
    places = xy[:, None] + _OFFSETS
    weight = sampled(now.moving, places) * _GAUSSIAN
    weight /= weight.sum(axis=1, keepdims=True) + np.float32(1e-9)
    affine = np.tile(np.eye(2, dtype=np.float32), (len(xy), 1, 1))
    return _Points(number, xy, affine, _without_mean(sampled(now.color, places), weight), weight)


def _renewed(points: _Points, now: _Image) -> _Points:
    """Points with a new template where theirs has become too different."""
    patch, _ = _patches(now, points)
    stretch = np.linalg.svd(points.affine, compute_uv=False)
    old = (_likeness(patch, points) < RENEWED_BELOW) | (stretch[:, 0] > RENEWED_BEYOND)
    old |= stretch[:, 1] < 1 / RENEWED_BEYOND
    new = _new_points(now, points.number[old], points.xy[old])
    pairs: Iterable[Any] = zip(points, new, strict=True)
    for values, renewed in pairs:
        values[old] = renewed
    return points


def _followed(now: _Image, points: _Points, there: Floats, spacing: float) -> _Points:
    """Those points that are found in the next frame, from the places [N, 2] where they may be."""
    height, width = now.gray.shape
    found = _aligned(now, points, there, spacing)
    patch, _ = _patches(now, found)
    stretch = np.linalg.svd(found.affine, compute_uv=False)
    good = (_likeness(patch, found) > LIKENESS) & (stretch[:, 0] < STRETCH) & (stretch[:, 1] > 1 / STRETCH)
    good &= ((found.xy > 1) & (found.xy < (width - 1, height - 1))).all(axis=1)
    good &= sampled(now.moving, found.xy) > MASK
    kept = np.flatnonzero(good)
    for pair in cKDTree(found.xy[kept]).query_pairs(MERGED * spacing):
        good[kept[max(pair)]] = False
    return found.select(good)


def _aligned(now: _Image, points: _Points, there: Floats, spacing: float) -> _Points:
    """Points moved to where their templates fit, and their neighbours go along."""
    start, start_affine = points.xy.astype(np.float64), points.affine.astype(np.float64)
    distance, near = cKDTree(start).query(start, k=min(NEIGHBOURS + 1, len(start)))
    distance, near = (each.reshape(len(start), -1)[:, 1:] for each in (distance, near))
    closeness = np.exp(-distance / (3 * spacing))
    xy, affine = there.astype(np.float64), start_affine
    for _ in range(STEPS):
        moved = points._replace(xy=xy.astype(np.float32), affine=affine.astype(np.float32))
        patch, places = _patches(now, moved)
        error = patch - points.template
        usual = NOISE + 1.5 * np.median(np.abs(error), axis=(1, 2), keepdims=True)
        weight = points.weight[..., None] / (NOISE**2 * (1 + (error / usual) ** 2))
        slopes = sampled(now.across, places), sampled(now.down, places)
        # 1. The image: of x and y each a constant and two slopes.
        gradient = np.concatenate([(weight * slope * error).sum(axis=2) @ _BASIS for slope in slopes], axis=1)
        hessian = np.zeros((len(xy), 6, 6))
        for i, j in ((0, 0), (0, 1), (1, 1)):
            block = ((weight * slopes[i] * slopes[j]).sum(axis=2) @ _SQUARES).reshape(-1, 3, 3)
            hessian[:, 3 * i : 3 * i + 3, 3 * j : 3 * j + 3] = block
            hessian[:, 3 * j : 3 * j + 3, 3 * i : 3 * i + 3] = block
        # 2. The neighbours' motion, robustly.
        if near.shape[1]:
            change = affine @ np.linalg.inv(start_affine)
            predicted = (xy - start)[near] + np.einsum(
                "nkij,nkj->nki", change[near] - np.eye(2), start[:, None] - start[near]
            )
            apart = np.linalg.norm(predicted - np.median(predicted, axis=1, keepdims=True), axis=2)
            share = closeness / (1 + apart**2)
            share /= share.sum(axis=1, keepdims=True)
            off = xy - start - np.einsum("nk,nki->ni", share, predicted)
            bent = (affine - np.einsum("nk,nkij->nij", share, change[near]) @ start_affine) * HALF_WINDOW
            gradient += AGREEMENT * np.concatenate((off[:, :, None], bent), axis=2).reshape(-1, 6)
            hessian += AGREEMENT * np.eye(6)
        step = np.linalg.solve(hessian + 1e-3 * np.eye(6), gradient[..., None]).reshape(-1, 2, 3)
        step = step.clip(-LONGEST_STEP, LONGEST_STEP)
        xy, affine = xy - step[:, :, 0], affine - step[:, :, 1:] / HALF_WINDOW
    return points._replace(xy=xy.astype(np.float32), affine=affine.astype(np.float32))


def _patches(now: _Image, points: _Points) -> tuple[Floats, Floats]:
    """What the image shows where the templates are, [N, P, 3] of weighted mean 0, and the places [N, P, 2]."""
    places = points.xy[:, None] + np.einsum("nij,pj->npi", points.affine, _OFFSETS)
    return _without_mean(sampled(now.color, places), points.weight), places


def _without_mean(values: Floats, weight: Floats) -> Floats:
    centred: Floats = values - np.einsum("np,npc->nc", weight, values)[:, None]
    return centred


def _likeness(patch: Floats, points: _Points) -> npt.NDArray[Any]:
    """Correlation [N] of patches and templates; 1 where they hardly differ."""

    def product(one: Floats, other: Floats) -> npt.NDArray[Any]:
        total: npt.NDArray[Any] = np.einsum("np,npc,npc->n", points.weight, one, other)
        return total

    both = product(patch, points.template) / np.sqrt(
        product(patch, patch) * product(points.template, points.template) + 1e-9
    )
    error = patch - points.template
    return np.where(product(error, error) < 3 * SHADE**2, 1.0, both)
