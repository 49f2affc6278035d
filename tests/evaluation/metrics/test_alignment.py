"""Scale and shift are fitted as their definitions say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from evaluator.metrics.alignment import (
    PIXELS_AT_ONCE,
    AbsoluteDifferences,
    align,
    l1_scale,
    l1_scale_and_shift,
    median_scale,
)
from evaluator.metrics.scores import ExclusionError
from scipy.optimize import minimize_scalar


@pytest.fixture
def truth() -> np.ndarray:
    return np.random.default_rng(0).uniform(1, 9, 501)


@pytest.mark.parametrize("name", ["median", "scale"])
def test_undoes_a_scale(name: str, truth: np.ndarray) -> None:
    fitted = align(name, truth / 2.5, truth)  # type: ignore[arg-type]
    assert fitted.scale == pytest.approx(2.5, rel=1e-5)
    assert fitted.shift == pytest.approx(0, abs=1e-4)


def test_the_median_of_an_even_number_is_the_lower_of_the_middle_two() -> None:
    assert median_scale(np.array([1.0, 2, 4, 9]), np.array([3.0, 6, 7, 50])).scale == pytest.approx(6 / 2)


def test_ten_steps_of_weiszfeld_come_near_to_the_least_sum_of_absolute_differences(truth: np.ndarray) -> None:
    noisy = truth / 2 * np.random.default_rng(1).lognormal(0, 0.2, truth.shape)

    def total(scale: float) -> float:
        return float(np.abs(scale * noisy - truth).sum())

    least = minimize_scalar(total, bounds=(1, 4), method="bounded", options={"xatol": 1e-9}).fun
    found = total(l1_scale(noisy, truth).scale)
    assert least <= found <= least * 1.005
    assert found < total(truth.mean() / noisy.mean())


def test_absolute_differences_are_robust_where_means_are_not(truth: np.ndarray) -> None:
    spoilt = truth / 2
    spoilt[:50] *= 3
    assert l1_scale(spoilt, truth).scale == pytest.approx(2, rel=1e-4)
    assert truth.mean() / spoilt.mean() < 1.7


def test_scale_and_shift_stop_where_the_sum_of_differences_rests(truth: np.ndarray) -> None:
    # Adam's first step is as large as its learning rate; with a tolerance that any change meets, there are two.
    fitted = l1_scale_and_shift(truth / 2 + 0.1, truth, learning_rate=1e-3, tolerance=1e9)
    start = median_scale(truth / 2 + 0.1, truth).scale
    assert abs(fitted.scale - start) == pytest.approx(2e-3, rel=1e-2)


def by_gradients(predicted: np.ndarray, truth: np.ndarray, rate: float, steps: int) -> tuple[float, float]:
    """Scale and shift after so many steps of Adam, whose gradients autograd finds."""
    found = torch.tensor(predicted, dtype=torch.float32)
    scale = torch.tensor([median_scale(found, truth).scale], dtype=torch.float32, requires_grad=True)
    shift = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.Adam([scale, shift], lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        (scale * found + shift - torch.tensor(truth)).abs().sum().backward()
        optimizer.step()
    return scale.item(), shift.item()


def test_adams_gradients_are_those_of_the_sum_of_absolute_differences(truth: np.ndarray) -> None:
    predicted = truth / 2 + 0.1
    fitted = l1_scale_and_shift(predicted, truth, learning_rate=1e-2, steps=40, tolerance=0)
    assert fitted == by_gradients(predicted, truth, 1e-2, 40)


def test_sums_in_which_most_pixels_are_linear_equal_sums_over_all() -> None:
    generator = np.random.default_rng(4)
    truth = torch.from_numpy(generator.gamma(2, 6, 3 * PIXELS_AT_ONCE + 5))
    predicted = (truth / 12 * torch.from_numpy(generator.lognormal(0, 0.3, len(truth)))).float()
    predicted[:9] = -predicted[:9]
    differences = AbsoluteDifferences(predicted, truth, radius=0.05)
    for step in range(12):  # of which every other one leaves the radius
        scale, shift = 11 + 0.03 * step, -0.02 * step
        plain = scale * predicted.double() + shift - truth
        expected = (plain.abs().sum(), (plain.sign() * predicted).sum(), plain.sign().sum())
        assert differences.at(scale, shift) == pytest.approx([each.item() for each in expected], rel=1e-6)
    assert sum(len(found) for found, _ in differences._near) < 0.05 * len(truth)


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.3, 0.002])
def test_a_fit_over_many_pixels_takes_the_steps_that_it_would_over_all(noise: float) -> None:
    """With little noise it comes to the minimum, where signs decide, and stays about there."""
    generator = np.random.default_rng(5)
    truth = generator.uniform(1, 9, PIXELS_AT_ONCE + 999)
    predicted = truth / 5 * generator.lognormal(0, noise, len(truth)) + 0.001
    fitted = l1_scale_and_shift(predicted, truth, steps=300)
    assert fitted == pytest.approx(by_gradients(predicted, truth, 1e-4, 300), abs=2e-6)


@pytest.mark.parametrize("name", ["median", "scale", "scale&shift"])
def test_depth_that_is_zero_everywhere_cannot_be_scaled(name: str, truth: np.ndarray) -> None:
    with pytest.raises(ExclusionError, match="cannot be aligned"):
        align(name, np.zeros_like(truth), truth)  # type: ignore[arg-type]


def test_no_pixels_cannot_be_aligned() -> None:
    with pytest.raises(ExclusionError, match="No pixel"):
        median_scale(np.zeros(0), np.zeros(0))


@pytest.mark.slow
@pytest.mark.parametrize("copy", ["mono", "video"])
def test_scale_and_shift_equal_the_release(copy: str, shared: Path) -> None:
    with np.load(shared / "reference" / "depth_metrics.npz") as values:
        predicted, truth, expected = values["pred"], values["gt"], values[f"{copy}/lad2_st"]
    counts = (truth > 0) & (truth < 70)
    # The release's program for videos raises what is below 0 before it fits a shift; its program for images does not.
    found = predicted[counts].clip(min=0) if copy == "video" else predicted[counts]
    np.testing.assert_allclose(l1_scale_and_shift(found, truth[counts]), expected, rtol=0, atol=1e-6)
