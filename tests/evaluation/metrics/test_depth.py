"""Depth is compared as its figures are defined."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from evaluator.metrics.alignment import AlignmentName, l1_scale_and_shift
from evaluator.metrics.depth import (
    FIGURES,
    DepthLimits,
    compare_depth,
    depth_in_first_camera,
    resize_depth,
    score_depth,
)
from evaluator.metrics.scores import EvaluationError, ExclusionError

from page4d_hf.geometry import project_points, unproject_depth

ANY = DepthLimits()
# In the order of the reference's array, in which the constant "delta < 1" is the fifth and the pixels the last.
REFERENCE_PLACES = (0, 1, 2, 3, 5, 6, 7)
PUBLISHED = FIGURES[:7]  # the scripts have no mean absolute error


def reference_cases() -> list[tuple[str, AlignmentName, DepthLimits]]:
    below_70, clipped = DepthLimits(70), DepthLimits(70, 70)
    return [
        ("median_max70_clip70", "median", clipped),
        ("median_max70", "median", below_70),
        ("median_maxNone", "median", ANY),
        ("scale_max70_clip70", "scale", clipped),
        ("scale_max70", "scale", below_70),
        ("lad2_max70_clip70", "scale&shift", clipped),
        ("lad2_max70", "scale&shift", below_70),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("copy", ["mono", "video"])
@pytest.mark.parametrize(("case", "alignment", "limits"), reference_cases())
def test_figures_equal_the_release(
    case: str, alignment: AlignmentName, limits: DepthLimits, copy: str, shared: Path
) -> None:
    with np.load(shared / "reference" / "depth_metrics.npz") as values:
        predicted, truth, expected = values["pred"], values["gt"], values[f"{copy}/{case}/metrics"]
    floor = 0.0 if copy == "video" and alignment == "scale&shift" else None
    scores = score_depth(predicted, truth, alignment, limits, floor=floor)
    assert scores.pixels["pixels"] == expected[-1]
    tolerance = 1e-4 if alignment == "scale&shift" else 1e-5
    found = [scores.figures[name] for name in PUBLISHED]
    np.testing.assert_allclose(found, expected[list(REFERENCE_PLACES)], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("copy", "floor"), [("mono", None), ("video", 0.0)])
def test_a_faster_fit_stops_at_the_same_step_as_the_release(copy: str, floor: float | None, shared: Path) -> None:
    with np.load(shared / "reference" / "depth_metrics.npz") as values:
        predicted, truth = values["pred"], values["gt"]
        expected = values[f"{copy}/lad2_max70_lr1e-2/metrics"]
    counts = DepthLimits(70).count(truth)
    found = torch.tensor(predicted[counts])
    if floor is not None:
        found = found.clamp(min=floor)
    fitted = l1_scale_and_shift(found, truth[counts], learning_rate=1e-2)
    figures = compare_depth(fitted.apply(found), truth[counts])
    np.testing.assert_allclose(
        [figures[name] for name in PUBLISHED], expected[list(REFERENCE_PLACES)], rtol=1e-4, atol=1e-4
    )


def test_resizing_equals_the_release(shared: Path) -> None:
    with np.load(shared / "reference" / "depth_metrics.npz") as values:
        small, expected = values["resize/in"], values["resize/out"]
    np.testing.assert_allclose(resize_depth(small, expected.shape[::-1]), expected, rtol=0, atol=1e-6)


def test_figures_of_a_map_that_is_ten_percent_too_deep() -> None:
    truth = np.array([1.0, 2, 5])
    figures = compare_depth(truth * 1.1, truth)
    assert figures["abs_rel"] == pytest.approx(0.1)
    assert figures["sq_rel"] == pytest.approx(0.01 * truth.mean())
    assert figures["rmse"] == pytest.approx(0.1 * np.sqrt((truth**2).mean()))
    assert figures["log_rmse"] == pytest.approx(np.log(1.1))
    assert figures["delta_1.25"] == 1


@pytest.mark.parametrize("factor", [1.3, 1 / 1.3])
def test_ratios_count_either_way(factor: float) -> None:
    figures = compare_depth(np.full(4, 2 * factor), np.full(4, 2.0))
    assert figures["delta_1.25"] == 0
    assert figures["delta_1.25^2"] == 1


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_depth_of_zero_and_below_counts_as_wrong(value: float) -> None:
    figures = compare_depth(np.array([2.0, value]), np.array([2.0, 2.0]))
    assert figures["delta_1.25^3"] == 0.5
    assert figures["abs_rel"] == pytest.approx((2 - value) / 2 / 2)


@pytest.mark.parametrize("unknown", [0.0, -1.0, np.nan, np.inf, 70.0, 90.0])
def test_true_depth_beyond_the_limits_does_not_count(unknown: float) -> None:
    truth = np.array([[1.0, 2.0], [3.0, unknown]])
    scores = score_depth(np.array([[1.0, 2.0], [3.0, 999.0]]), truth, "scale", DepthLimits(70))
    assert scores.pixels == {"pixels": 3}
    assert scores.figures["abs_rel"] == pytest.approx(0, abs=1e-6)


def test_predictions_are_clipped_after_they_are_aligned() -> None:
    predicted, truth = np.array([1.0, 1.0, 90.0]), np.array([2.0, 2.0, 60.0])
    everything = {"static": np.ones(3, bool)}
    clipped = score_depth(predicted, truth, "median", DepthLimits(70, clip=70), regions=everything)
    assert clipped.figures["rmse"] == clipped.figures["rmse_static"] == pytest.approx(10 / np.sqrt(3))


def test_regions_share_one_alignment_and_make_up_the_whole() -> None:
    draw = np.random.default_rng(0)
    truth = draw.uniform(1, 5, (12, 16))
    predicted = truth * draw.lognormal(0, 0.1, truth.shape)
    moving = np.zeros(truth.shape, bool)
    moving[:, 9:] = True
    predicted[moving] *= 2
    scores = score_depth(predicted, truth, "median", ANY, regions={"static": ~moving, "dynamic": moving})
    assert scores.pixels == {"pixels": 192, "pixels_static": 108, "pixels_dynamic": 84}
    assert scores.figures["abs_rel_dynamic"] > 2 * scores.figures["abs_rel_static"]
    whole = (108 * scores.figures["abs_rel_static"] + 84 * scores.figures["abs_rel_dynamic"]) / 192
    assert scores.figures["abs_rel"] == pytest.approx(whole)


def test_a_region_without_pixels_has_no_figures() -> None:
    truth = np.ones((3, 4))
    scores = score_depth(truth, truth, "median", ANY, regions={"dynamic": truth > 2})
    assert scores.pixels["pixels_dynamic"] == 0
    assert set(scores.figures) == set(FIGURES)


def test_truth_without_a_valid_pixel_is_refused() -> None:
    with pytest.raises(ExclusionError, match="No pixel"):
        score_depth(np.ones((3, 4)), np.zeros((3, 4)), "median", ANY)


def test_predictions_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ExclusionError, match="of 1 of 12 pixels is not finite"):
        score_depth(np.where(np.eye(3, 4) * np.arange(4) == 2, np.nan, 1.0), np.ones((3, 4)), "median", ANY)


def test_maps_of_different_shapes_are_refused() -> None:
    with pytest.raises(EvaluationError, match=r"\(3, 4\) and \(4, 3\)"):
        score_depth(np.ones((3, 4)), np.ones((4, 3)), "median", ANY)


def test_what_is_interpolated_from_nothing_is_nothing() -> None:
    depth = np.ones((8, 8), np.float32)
    depth[0, 0] = np.nan
    larger = resize_depth(depth, (16, 16))
    assert np.isnan(larger[:3, :3]).all()
    assert (larger[6:, 6:] == 1).all()


def moving_cameras() -> tuple[np.ndarray, np.ndarray]:
    """World-to-camera `(3, 3, 4)`, the first not the world's own, and intrinsics `(3, 3, 3)` of maps of 9x7 pixels."""
    extrinsics = np.zeros((3, 3, 4))
    for i in range(3):
        extrinsics[i, :, :3] = cv2.Rodrigues(np.array([0.1, 0.3 * i - 0.2, 0.05 * i]))[0]
        extrinsics[i, :, 3] = [0.2 * i, -0.1, 0.4 - 0.3 * i]
    return extrinsics, np.tile([[8.0, 0, 4.4], [0, 7.0, 3.2], [0, 0, 1]], (3, 1, 1))


def test_depth_in_the_first_camera_is_where_that_camera_sees_the_points() -> None:
    extrinsics, intrinsics = moving_cameras()
    depth = np.random.default_rng(0).uniform(1, 4, (3, 7, 9)).astype(np.float32)
    seen = depth_in_first_camera(depth, extrinsics, intrinsics)
    np.testing.assert_allclose(seen[0], depth[0], rtol=1e-6)  # the first camera's own
    points = unproject_depth(
        torch.tensor(depth, dtype=torch.float64), torch.tensor(extrinsics), torch.tensor(intrinsics), pixel_center=0.5
    )
    _, expected = project_points(points[2].flatten(0, 1), torch.tensor(extrinsics[0]), torch.tensor(intrinsics[0]))
    np.testing.assert_allclose(seen[2].ravel(), expected.numpy(), rtol=1e-5)


def test_depth_in_the_first_camera_does_not_depend_on_the_world() -> None:
    extrinsics, intrinsics = moving_cameras()
    depth = np.random.default_rng(0).uniform(1, 4, (3, 7, 9)).astype(np.float32)
    turn = np.eye(4)
    turn[:3, :3], turn[:3, 3] = cv2.Rodrigues(np.array([1.0, -0.4, 2.0]))[0], [3, -1, 2]
    np.testing.assert_allclose(
        depth_in_first_camera(depth, extrinsics @ turn, intrinsics),
        depth_in_first_camera(depth, extrinsics, intrinsics),
        rtol=1e-5,
    )
