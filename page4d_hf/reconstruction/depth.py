"""The network's depth brought to adjusted cameras: to their scale, and corrected where tracks know it."""

from __future__ import annotations

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter

from .bundle_adjustment import Adjusted
from .tracks import Tracks

SMOOTHING = 0.1  # of the image's width: how far a track's depth reaches
PRIOR_WEIGHT = 0.5  # of the frame's median against tracks, as a number of them at no distance
GRID_WIDTH = 80  # cells across the image
LARGEST_FACTOR = 4.0  # from the frame's median; tracks that say more are taken for wrong


def sample_maps(maps: list[np.ndarray], tracks: Tracks, image_size: tuple[int, int]) -> np.ndarray:
    """Values of maps `(h, w)` float32 that cover images, one of each frame, at the tracks' observations, [O]."""
    height, width = image_size
    values = np.empty(len(tracks.track), np.float32)
    for frame, rows in enumerate(tracks.rows_of_frames(len(maps))):
        field = np.ascontiguousarray(maps[frame], dtype=np.float32)
        x, y = (tracks.xy[rows] * (field.shape[1] / width, field.shape[0] / height) - 0.5).astype(np.float32).T
        if len(x):
            values[rows] = cv2.remap(field, x[None], y[None], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[0]
    return values


def correct_depth(
    depth: list[np.ndarray], tracks: Tracks, solution: Adjusted, image_size: tuple[int, int]
) -> list[np.ndarray]:
    """Depth maps that agree with adjusted cameras and points.

    The logarithm of the ratio between a point's depth and the map's, at each observation of a frame, is smoothed over
    the image with Gaussian weights; far from all tracks it is the frame's median.

    Args:
        depth: z-depth of each frame, `(h, w)` float32 over exactly the image; NaN where it is not known.
        tracks, solution: what the cameras were adjusted to. Tracks that were left out count for nothing.
        image_size: (height, width).
    """
    pose = solution.extrinsics[tracks.frame]
    points = solution.points[tracks.track]
    z = np.einsum("oj,oj->o", pose[:, 2, :3], points) + pose[:, 2, 3]
    known = sample_maps(depth, tracks, image_size)
    good = solution.used[tracks.track] & (z > 0) & (known > 0) & np.isfinite(known)
    ratios = np.log(np.where(good, z / np.where(good, known, 1), 1))
    overall = float(np.median(ratios[good])) if good.any() else 0.0
    corrected = []
    for frame, rows in enumerate(tracks.rows_of_frames(len(depth))):
        chosen = np.flatnonzero(good[rows]) + rows.start
        middle = float(np.median(ratios[chosen])) if len(chosen) else overall
        chosen = chosen[np.abs(ratios[chosen] - middle) < np.log(LARGEST_FACTOR)]
        field = _smoothed(tracks.xy[chosen], ratios[chosen] - middle, image_size)
        field = cv2.resize(field, depth[frame].shape[::-1], interpolation=cv2.INTER_LINEAR)
        corrected.append((depth[frame] * np.exp(middle + field)).astype(np.float32))
    return corrected


def _smoothed(xy: np.ndarray, values: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    """Values at points, smoothed over a grid of the image; towards 0 where there are none."""
    height, width = image_size
    cell = width / GRID_WIDTH
    rows, columns = max(1, round(height / cell)), GRID_WIDTH
    row, column = (xy[:, ::-1] / cell).astype(int).clip(0, (rows - 1, columns - 1)).T
    total, weight = np.zeros((rows, columns)), np.zeros((rows, columns))
    np.add.at(total, (row, column), values)
    np.add.at(weight, (row, column), 1.0)
    sigma = SMOOTHING * GRID_WIDTH
    scale = 2 * np.pi * sigma**2  # so that a point at no distance weighs 1
    total, weight = (gaussian_filter(each, sigma, mode="constant") * scale for each in (total, weight))
    return (total / (weight + PRIOR_WEIGHT)).astype(np.float32)
