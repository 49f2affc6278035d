"""Clouds are compared as closed forms say."""

from __future__ import annotations

import numpy as np
import pytest
from evaluator.metrics.point_maps import score_points
from evaluator.metrics.scores import EvaluationError, ExclusionError
from scipy.spatial.transform import Rotation

from page4d_hf.geometry import Similarity

FIGURES = [f"{name}_{kind}" for name in ("accuracy", "completion", "overall") for kind in ("mean", "median")]


def plane(side: int = 30) -> np.ndarray:
    """Points `(side^2, 3)` on a grid of spacing 1 in z = 0."""
    x, y = np.meshgrid(np.arange(side), np.arange(side))
    return np.stack((x, y, np.zeros_like(x)), axis=-1).reshape(-1, 3).astype(np.float64)


def sphere(radius: float, count: int = 20_000) -> np.ndarray:
    """Points `(count, 3)` spread evenly over a sphere: a Fibonacci lattice."""
    i = np.arange(count) + 0.5
    z, turn = 1 - 2 * i / count, np.pi * (1 + 5**0.5) * i
    across = np.sqrt(1 - z * z)
    return radius * np.stack((across * np.cos(turn), across * np.sin(turn), z), axis=-1)


@pytest.mark.parametrize("distance", [0.0, 0.25, 3.0])
def test_planes_that_are_shifted_are_apart_by_the_shift(distance: float) -> None:
    figures = score_points(plane() + np.array([0, 0, distance]), plane(), "none").figures
    assert list(figures) == FIGURES
    assert list(figures.values()) == pytest.approx([distance] * 6)


def test_points_between_those_of_a_plane_are_half_a_spacing_away() -> None:
    figures = score_points(plane() + np.array([0.5, 0, 0]), plane(), "none").figures
    assert list(figures.values()) == pytest.approx([0.5] * 6)


@pytest.mark.slow
def test_concentric_spheres_are_apart_by_the_difference_of_their_radii() -> None:
    # Directions of one lattice, turned; the nearest point is off the radial one by at most the spacing of 0.03.
    turned = sphere(1.2) @ Rotation.from_rotvec([0.3, 1, -0.5]).as_matrix().T
    figures = score_points(turned, sphere(1.0), "none").figures
    assert list(figures.values()) == pytest.approx([0.2] * 6, rel=0.01)


def test_a_part_is_accurate_but_not_complete() -> None:
    # Predicted: the left third of a plane of 30 columns. A true point k columns to its right is k away.
    whole = plane()
    part = np.where(whole[:, :1] < 10, whole, np.nan)
    figures = score_points(part, whole, "none").figures
    assert figures["accuracy_mean"] == 0
    assert figures["completion_mean"] == pytest.approx(np.arange(1, 21).sum() / 30)
    assert figures["completion_median"] == pytest.approx(5.5)
    assert figures["overall_mean"] == pytest.approx(figures["completion_mean"] / 2)


def test_outliers_move_the_mean_and_not_the_median() -> None:
    predicted = plane()
    predicted[:9] += [0, 0, 100]
    figures = score_points(predicted, plane(), "none").figures
    assert figures["accuracy_mean"] == pytest.approx(100 * 9 / 900)
    assert figures["accuracy_median"] == 0


def test_alignment_undoes_any_other_world() -> None:
    truth = np.random.default_rng(0).normal(size=(400, 3))
    moved = Similarity(0.2, Rotation.from_rotvec([1, 2, -1]).as_matrix(), np.array([3.0, -1, 7]))
    scores = score_points(moved.apply_to_points(truth), truth)
    assert list(scores.figures.values()) == pytest.approx([0] * 6, abs=1e-9)
    assert scores.alignment is not None
    assert scores.alignment.scale == pytest.approx(5)


def test_regions_have_figures_of_their_own_points() -> None:
    whole = plane()
    moving = whole[:, 0] >= 20
    predicted = whole + np.where(moving[:, None], [0, 0, 0.25], 0)
    scores = score_points(predicted, whole, "none", regions={"static": ~moving, "dynamic": moving})
    assert scores.points == {"points": 900, "points_static": 600, "points_dynamic": 300}
    assert scores.figures["accuracy_mean_static"] == 0
    assert scores.figures["accuracy_mean_dynamic"] == pytest.approx(0.25)
    assert scores.figures["accuracy_mean"] == pytest.approx(0.25 / 3)


def test_a_region_without_predicted_points_has_no_figures() -> None:
    whole = plane()
    moving = whole[:, 0] >= 20
    predicted = np.where(moving[:, None], np.nan, whole)
    scores = score_points(predicted, whole, "none", regions={"dynamic": moving})
    assert list(scores.figures) == FIGURES
    assert scores.points["points_dynamic"] == 300


def test_no_predicted_points_are_refused() -> None:
    with pytest.raises(ExclusionError, match="No pixel"):
        score_points(np.full((9, 3), np.nan), np.ones((9, 3)))


def test_points_in_one_place_cannot_be_aligned() -> None:
    with pytest.raises(ExclusionError, match="cannot be aligned"):
        score_points(np.ones((900, 3)), plane())


def test_clouds_of_different_shapes_are_refused() -> None:
    with pytest.raises(EvaluationError, match=r"\(9, 3\), \(8, 3\)"):
        score_points(np.ones((9, 3)), np.ones((8, 3)))
