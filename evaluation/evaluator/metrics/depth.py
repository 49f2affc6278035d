"""Depth against ground truth: alignment, limits, and the figures of the field.

Figures (d predicted and aligned, g true, means over the pixels that count; Eigen et al., NeurIPS 2014):

    abs_rel      mean of |d - g| / g
    sq_rel       mean of (d - g)^2 / g
    rmse         square root of the mean of (d - g)^2
    log_rmse     square root of the mean of (ln d - ln g)^2
    delta_1.25   share of pixels with max(d / g, g / d) < 1.25; delta_1.25^2 and delta_1.25^3 alike
    abs_error    mean of |d - g|, in the unit of the ground truth; the published scripts do not have it

The published scripts also print the share below 1, which is 0 by definition.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from page4d_hf.geometry import unproject_depth

from .alignment import AlignmentName, align, as_pair
from .scores import ExclusionError

FIGURES = ("abs_rel", "sq_rel", "rmse", "log_rmse", "delta_1.25", "delta_1.25^2", "delta_1.25^3", "abs_error")
REGIONS = ("static", "dynamic")
FIGURES_BY_REGION = ("abs_rel", "delta_1.25", "abs_error")  # what `depth_figures` gives
SMALLEST_DEPTH = 1e-5  # what logarithms and ratios take instead of less


@dataclass(frozen=True)
class DepthLimits:
    """The range of true depth that counts and the bound of predictions, in the ground truth's unit."""

    max_depth: float | None = None  # pixels with 0 < true depth < max_depth count; None: all above 0
    clip: float | None = None  # aligned predictions are no larger than this

    def __str__(self) -> str:
        return self.words_of_truth() + ("" if self.clip is None else f", aligned predictions clipped at {self.clip:g}")

    def words_of_truth(self) -> str:
        """Which pixels count, in words."""
        return "true depth above 0" + ("" if self.max_depth is None else f" and below {self.max_depth:g}")

    def count(self, truth: np.ndarray) -> npt.NDArray[np.bool_]:
        """Mask of the pixels that count in a map of true depth of any shape; NaN and infinity do not."""
        counts = np.isfinite(truth) & (truth > 0)
        return counts if self.max_depth is None else counts & (truth < self.max_depth)


class DepthScores(NamedTuple):
    """Figures of one alignment."""

    figures: dict[str, float]  # `FIGURES`, and with "_<region>" after each name those of the regions that have pixels
    pixels: dict[str, int]  # "pixels", "pixels_<region>"


def score_depth(
    predicted: np.ndarray | Tensor,
    truth: np.ndarray | Tensor,
    alignment: AlignmentName,
    limits: DepthLimits,
    *,
    floor: float | None = None,
    regions: Mapping[str, np.ndarray] | None = None,
) -> DepthScores:
    """Align a predicted map, or all maps of a video by one alignment, and compare.

    Args:
        predicted: depth of any shape, in any scale. Values of 0 and below count as they are.
        truth: true depth, the same shape.
        alignment: how scale and shift are fitted, over all pixels that count.
        limits: which pixels count.
        floor: predictions below are raised to it before scale and shift are fitted; None leaves them.
        regions: masks of the same shape, whose figures are wanted too, after the one alignment.

    Raises:
        ExclusionError: no pixel counts, a prediction among those that count is not finite, or nothing can be fitted.
    """
    found, expected = as_pair(predicted, truth)
    counts = torch.from_numpy(limits.count(expected.numpy()))
    found, expected = found[counts], expected[counts]
    if not found.isfinite().all():
        raise ExclusionError(
            f"The predicted depth of {int((~found.isfinite()).sum())} of {len(found)} pixels is not finite."
        )
    if floor is not None:
        found = found.clamp(min=floor)
    aligned = align(alignment, found, expected).apply(found)
    figures, pixels = compare_depth(aligned, expected, clip=limits.clip), {"pixels": len(found)}
    for name, region in (regions or {}).items():
        inside = torch.from_numpy(np.asarray(region, bool).ravel())[counts]
        pixels[f"pixels_{name}"] = int(inside.sum())
        if inside.any():
            of_region = compare_depth(aligned[inside], expected[inside], clip=limits.clip)
            figures |= {f"{figure}_{name}": value for figure, value in of_region.items()}
    return DepthScores(figures, pixels)


def regions_of(moving: np.ndarray | None) -> dict[str, npt.NDArray[np.bool_]]:
    """Masks of `REGIONS`, of motion of any shape: 0 or False static, 1 or True moving, else not known."""
    return {} if moving is None else {"static": moving == 0, "dynamic": moving == 1}


def depth_figures(found: np.ndarray, expected: np.ndarray, moving: np.ndarray | None = None) -> dict[str, float]:
    """Errors of depth, whole, where nothing moves (`_static`) and where something does (`_dynamic`).

    Args:
        found: `[S, H, W]` positive z-depth of any scale.
        expected: `[S, H, W]` z-depth, 0 where it is not known.
        moving: `[S, H, W]` bool; None: regions are not told apart.

    Returns:
        `abs_rel`, `delta_1.25` and `abs_error` (mean absolute error in the unit of `expected`) of each region that has
        pixels, after one scale, the ratio of the medians over all known pixels.

    Raises:
        ExclusionError: no depth is known, or what is found is not finite or mostly not above 0.
    """
    figures = score_depth(found, expected, "median", DepthLimits(), regions=regions_of(moving)).figures
    names = [f"{name}{region}" for name in FIGURES_BY_REGION for region in ("", *(f"_{each}" for each in REGIONS))]
    return {name: figures[name] for name in names if name in figures}


def compare_depth(
    aligned: np.ndarray | Tensor, truth: np.ndarray | Tensor, *, clip: float | None = None
) -> dict[str, float]:
    """`FIGURES` of aligned depth `(N,)` against true depth above 0; predictions larger than `clip` become this.

    Raises:
        ExclusionError: there are no pixels.
    """
    found, expected = as_pair(aligned, truth)
    if clip is not None:
        found = found.clamp(max=clip)
    difference = found - expected  # float64, as the truth is
    squared = difference.square()
    above_zero = found.clamp(min=SMALLEST_DEPTH)
    logarithmic = above_zero.log() - expected.log()
    ratio = torch.maximum(above_zero / expected, expected / above_zero)
    return {
        "abs_rel": (difference.abs() / expected).mean().item(),
        "sq_rel": (squared / expected).mean().item(),
        "rmse": squared.mean().sqrt().item(),
        "log_rmse": logarithmic.square().mean().sqrt().item(),
        "delta_1.25": (ratio < 1.25).double().mean().item(),
        "delta_1.25^2": (ratio < 1.25**2).double().mean().item(),
        "delta_1.25^3": (ratio < 1.25**3).double().mean().item(),
        "abs_error": difference.abs().mean().item(),
    }


def resize_depth(depth: np.ndarray, size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Bring a map `(h, w)` to a (width, height) by cubic interpolation (OpenCV's).

    NaN spreads to all pixels that are interpolated from such ones.
    """
    depth = np.asarray(depth, np.float32)
    if depth.shape == (size[1], size[0]):
        return depth
    return np.asarray(cv2.resize(depth, size, interpolation=cv2.INTER_CUBIC), np.float32)


def depth_in_first_camera(depth: np.ndarray, extrinsics: np.ndarray, intrinsics: np.ndarray) -> npt.NDArray[np.float32]:
    """z of each map's points in the first camera.

    Args:
        depth: `(S, h, w)` z-depth in each frame's own camera.
        extrinsics: `(S, 3, 4)` world-to-camera, OpenCV axes, in the unit of the depth.
        intrinsics: `(S, 3, 3)` in pixels of the map, the first pixel's centre at (0.5, 0.5).

    Returns:
        `(S, h, w)`; below 0 behind the first camera, NaN where the depth is.
    """
    first = torch.as_tensor(extrinsics[0], dtype=torch.float64)
    seen = np.empty(depth.shape, np.float32)
    for i in range(len(depth)):  # one map at a time: points are six times as large
        points = unproject_depth(
            torch.as_tensor(depth[i], dtype=torch.float64),
            torch.as_tensor(extrinsics[i], dtype=torch.float64),
            torch.as_tensor(intrinsics[i], dtype=torch.float64),
            pixel_center=0.5,
        )  # [h, w, 3]
        seen[i] = (points @ first[2, :3] + first[2, 3]).numpy()
    return seen
