"""Point clouds against ground truth: how near each is to the other.

    accuracy     distance from a predicted point to the nearest true one
    completion   distance from a true point to the nearest predicted one
    overall      mean of the two figures

each as mean and median over points (Aanaes et al., IJCV 2016; the median of "overall" is the mean of the two medians).
Distances are in the unit of the ground truth. Two samples of one surface are apart by their spacing: figures near that
say nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy.spatial import cKDTree

from page4d_hf.geometry import Similarity, align_sim3, unproject_depth

from .scores import EvaluationError, ExclusionError

STATISTICS: dict[str, Callable[[np.ndarray], np.floating]] = {"mean": np.mean, "median": np.median}


class PointScores(NamedTuple):
    """Distances between two point clouds."""

    figures: dict[str, float]  # "accuracy_mean", ..., "overall_median", those of a region with "_<region>" after them
    points: dict[str, int]  # "points" and "points_<region>": the true ones
    alignment: Similarity | None  # carries the predicted points onto the true ones; None where nothing was fitted


def score_points(
    predicted: np.ndarray,
    truth: np.ndarray,
    alignment: Literal["sim3", "none"] = "sim3",
    *,
    regions: Mapping[str, np.ndarray] | None = None,
) -> PointScores:
    """Align the points of some pixels and compare them as clouds.

    Args:
        predicted: `(N, 3)`, in any world and scale; not finite where nothing is predicted.
        truth: `(N, 3)` of the same pixels.
        alignment: "sim3": carry the predicted points onto the true ones of the same pixels with the least squared
            distance (Umeyama, TPAMI 1991); "none": compare as they are.
        regions: masks `(N,)`; each's figures are over its own points, with neighbours among all.

    Raises:
        ExclusionError: no point is predicted, or the predicted or true points lie in one place or on one line.
    """
    if predicted.shape != truth.shape or truth.ndim != 2 or truth.shape[1] != 3:
        raise EvaluationError(f"Predicted and true points must both be (N, 3), got {predicted.shape}, {truth.shape}.")
    if not np.isfinite(truth).all():
        raise EvaluationError("A true point is not finite; leave such pixels out.")
    found, expected = predicted.astype(np.float64), truth.astype(np.float64)
    given = np.isfinite(found).all(axis=1)
    if not given.any():
        raise ExclusionError("No pixel has a true and a predicted point.")
    found = found[given]
    similarity = None
    if alignment == "sim3":
        try:
            similarity = align_sim3(found, expected[given])
        except ValueError as error:
            raise ExclusionError(f"The predicted points cannot be aligned with the true ones: {error}") from error
        found = similarity.apply_to_points(found)
    # Points of a camera that stands still coincide by the hundred, and a tree of such takes minutes.
    distinct, places = np.unique(found, axis=0, return_inverse=True)
    accuracy = nearest_distances(distinct, expected)[places.reshape(-1)]
    completion = nearest_distances(expected, distinct)
    figures, points = summarize(accuracy, completion), {"points": len(expected)}
    for name, region in (regions or {}).items():
        inside = np.asarray(region, bool)
        points[f"points_{name}"] = int(inside.sum())
        if inside[given].any():
            of_region = summarize(accuracy[inside[given]], completion[inside])
            figures |= {f"{figure}_{name}": value for figure, value in of_region.items()}
    return PointScores(figures, points, similarity)


def lifted_points(depth: np.ndarray, extrinsics: np.ndarray, intrinsics: np.ndarray) -> npt.NDArray[np.float64]:
    """World points `(..., H, W, 3)` of z-depth `(..., H, W)`, the first pixel's centre at (0.5, 0.5)."""
    values = (torch.as_tensor(value, dtype=torch.float64) for value in (depth, extrinsics, intrinsics))
    return np.asarray(unproject_depth(*values, pixel_center=0.5).numpy(), np.float64)


def nearest_distances(points: np.ndarray, others: np.ndarray) -> npt.NDArray[np.float64]:
    """From each point `(N, 3)` to the nearest of the others `(M, 3)`: `(N,)`."""
    distances, _ = cKDTree(others).query(points)
    return np.asarray(distances, np.float64)


def summarize(accuracy: np.ndarray, completion: np.ndarray) -> dict[str, float]:
    """Mean and median of distances `(N,)` and `(M,)`, and of the two together."""
    figures = {
        f"{name}_{statistic}": float(reduce(distances))
        for name, distances in (("accuracy", accuracy), ("completion", completion))
        for statistic, reduce in STATISTICS.items()
    }
    for statistic in STATISTICS:
        figures[f"overall_{statistic}"] = (figures[f"accuracy_{statistic}"] + figures[f"completion_{statistic}"]) / 2
    return figures
