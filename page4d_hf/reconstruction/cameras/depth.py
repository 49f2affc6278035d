"""Depth correction: the network's depth in the scale of adjusted cameras, corrected near tracks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast

import cv2
import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from ...utils.evenly import evenly
from ..tracks import Tracks, sampled
from .bundle_adjustment import Adjusted, depths

SMOOTHING = 0.1  # of the image's width: how far a track's depth reaches
PRIOR_WEIGHT = 5.0  # of the frame's median against tracks, as a number of them at no distance
GRID_WIDTH = 80  # cells across the image
LARGEST_FACTOR = 4.0  # from the frame's median; tracks that say more are taken for wrong
BLOCKS = 4  # across the image, whose tracks are held out together
FRAMES_HELD_OUT = 32  # that corrections are compared in
LEAST_GAIN = 0.02  # of the held-out error, that a finer correction must bring
POOR = 0.2  # of depth, mean held-out error: where it is larger, depth is not wrong smoothly and no field mends it

Correction = Literal["scale", "scale of each frame", "field"]


@dataclass(frozen=True)
class CorrectedDepth:
    """Depth maps that agree with adjusted cameras, and how well by tracks that were held out."""

    depth: list[npt.NDArray[Any]]  # [h, w] float32 each
    correction: Correction
    errors: dict[Correction, float]  # mean |log(z / depth)| at held-out tracks, by correction; empty where untold


def sample_maps(maps: list[npt.NDArray[Any]], tracks: Tracks, image_size: tuple[int, int]) -> npt.NDArray[Any]:
    """Values of maps `(h, w)` float32 that cover images, one of each frame, at the tracks' observations, [O]."""
    height, width = image_size
    values = np.empty(len(tracks.track), np.float32)
    for frame, rows in enumerate(tracks.rows_of_frames(len(maps))):
        field = np.ascontiguousarray(maps[frame], dtype=np.float32)
        values[rows] = sampled(field, tracks.xy[rows] * (field.shape[1] / width, field.shape[0] / height))
    return values


def correct_depth(
    depth: list[npt.NDArray[Any]], tracks: Tracks, solution: Adjusted, image_size: tuple[int, int]
) -> CorrectedDepth:
    """Bring depth maps to the scale of adjusted cameras and points, as finely as held-out tracks confirm.

    By one factor; by one of each frame; or by a field: the logarithm of the ratio between a point's depth and the
    map's, at each observation of a frame, smoothed over the image with Gaussian weights, and the frame's median far
    from all tracks. Whole blocks of the image are held out in turn, since most pixels have no track nearby.

    Args:
        depth: z-depth of each frame, `(h, w)` float32 over exactly the image; NaN where it is not known.
        tracks, solution: what the cameras were adjusted to. Tracks that were left out count for nothing.
        image_size: (height, width).
    """
    z = depths(tracks, solution)
    known = sample_maps(depth, tracks, image_size)
    good = solution.used[tracks.track] & (z > 0) & (known > 0) & np.isfinite(known)
    ratios = np.log(np.where(good, z / np.where(good, known, 1), 1))
    overall = float(np.median(ratios[good])) if good.any() else 0.0
    rows = [np.flatnonzero(good[each]) + each.start for each in tracks.rows_of_frames(len(depth))]
    errors = _held_out_errors([(tracks.xy[each], ratios[each]) for each in rows], overall, image_size)
    correction = _finest_that_helps(errors)
    corrected = []
    for frame, chosen in enumerate(rows):
        factor: float | npt.NDArray[Any] = overall
        if correction != "scale" and len(chosen):
            factor = float(np.median(ratios[chosen]))
        if correction == "field":
            field = _field(tracks.xy[chosen], ratios[chosen], float(factor), image_size)
            factor = factor + cv2.resize(field, depth[frame].shape[::-1], interpolation=cv2.INTER_LINEAR)
        corrected.append((depth[frame] * np.exp(factor)).astype(np.float32))
    return CorrectedDepth(corrected, correction, errors)


def _finest_that_helps(errors: dict[Correction, float]) -> Correction:
    best: Correction = "scale"
    for finer in ("scale of each frame", "field"):
        if finer in errors and errors[finer] < (1 - LEAST_GAIN) * errors[best]:
            best = finer
    return "scale" if best == "field" and errors["field"] > POOR else best


def _held_out_errors(
    frames: list[tuple[npt.NDArray[Any], npt.NDArray[Any]]], overall: float, image_size: tuple[int, int]
) -> dict[Correction, float]:
    """Mean error of each correction at tracks that it was not made of; `frames` has positions and ratios of each."""
    off: dict[Correction, list[npt.NDArray[Any]]] = {"scale": [], "scale of each frame": [], "field": []}
    for xy, ratios in (frames[i] for i in evenly(len(frames), FRAMES_HELD_OUT)):
        column, row = (xy * (BLOCKS / image_size[1])).astype(int).T
        fold = (column + 2 * row) % 4  # neighbours above, below and beside are of other folds
        for number in range(4):
            held = fold == number
            if held.all() or not held.any():
                continue
            middle = float(np.median(ratios[~held]))
            field = _field(xy[~held], ratios[~held], middle, image_size)
            place = _cells(xy[held], image_size)
            off["scale"].append(np.abs(ratios[held] - overall))
            off["scale of each frame"].append(np.abs(ratios[held] - middle))
            off["field"].append(np.abs(ratios[held] - middle - field[place]))
    return {name: float(np.concatenate(each).mean()) for name, each in off.items() if each}


def _cells(xy: npt.NDArray[Any], image_size: tuple[int, int]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Row and column in the grid of a field."""
    cell = image_size[1] / GRID_WIDTH
    row, column = (xy[:, ::-1] / cell).astype(int).clip(0, (_grid_height(image_size) - 1, GRID_WIDTH - 1)).T
    return row, column


def _grid_height(image_size: tuple[int, int]) -> int:
    return max(1, round(image_size[0] * GRID_WIDTH / image_size[1]))


def _field(
    xy: npt.NDArray[Any], ratios: npt.NDArray[Any], middle: float, image_size: tuple[int, int]
) -> npt.NDArray[Any]:
    """Ratios at points, less the middle, smoothed over a grid of the image; towards 0 where there are none."""
    kept = np.abs(ratios - middle) < np.log(LARGEST_FACTOR)
    shape = _grid_height(image_size), GRID_WIDTH
    cells = _cells(xy[kept], image_size)
    total, weight = np.zeros(shape), np.zeros(shape)
    np.add.at(total, cells, ratios[kept] - middle)
    np.add.at(weight, cells, 1.0)
    sigma = SMOOTHING * GRID_WIDTH
    scale = 2 * np.pi * sigma**2  # so that a point at no distance weighs 1
    total, weight = (gaussian_filter(each, sigma, mode="constant") * scale for each in (total, weight))
    return cast(npt.NDArray[Any], (total / (weight + PRIOR_WEIGHT)).astype(np.float32))
