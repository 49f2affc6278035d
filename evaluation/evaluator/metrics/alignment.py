"""Scale and shift that align predicted depth with true depth.

Depth from images has no scale of its own, so a protocol fits one, and perhaps a shift, to the ground truth. The fits
work as the published scripts do, in the same precision: predictions are float32, the ground truth is float64. Sums of
absolute differences are flat near their minimum and the number of steps is limited, so another precision or another
optimiser gives other figures in the third digit.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .scores import EvaluationError, ExclusionError

AlignmentName = Literal["median", "scale", "scale&shift"]
WEISZFELD_STEPS = 10
WEISZFELD_EPSILON = 1e-8  # keeps the weight of a pixel without error finite
SMALLEST_SCALE = 1e-3
LEARNING_RATE = 1e-4
ADAM_STEPS = 1000
PIXELS_AT_ONCE = 2**16  # what a step makes of them stays in a processor's cache, which is five times as fast
STEPS_BETWEEN_PARTITIONS = 128  # more often costs passes over all pixels, more rarely leaves more of them to each step
ADAM_TOLERANCE = 1e-6  # of the sum of absolute differences, from one step to the next


class Alignment(NamedTuple):
    """`aligned = scale * depth + shift`."""

    scale: float
    shift: float = 0.0

    def apply(self, depth: Tensor) -> Tensor:
        """Align depth of any shape."""
        return depth * self.scale + self.shift


def as_pair(predicted: np.ndarray | Tensor, truth: np.ndarray | Tensor) -> tuple[Tensor, Tensor]:
    """The two maps, of any one shape, as float32 and float64 tensors `(N,)`.

    Raises:
        ExclusionError: there are no pixels.
    """
    if tuple(predicted.shape) != tuple(truth.shape):
        raise EvaluationError(
            f"Predicted and true depth must have one shape, got {tuple(predicted.shape)} and {tuple(truth.shape)}."
        )
    if 0 in predicted.shape:
        raise ExclusionError("No pixel has true and predicted depth.")
    return torch.as_tensor(predicted, dtype=torch.float32).flatten(), torch.as_tensor(
        truth, dtype=torch.float64
    ).flatten()


def align(name: AlignmentName, predicted: np.ndarray | Tensor, truth: np.ndarray | Tensor) -> Alignment:
    """Fit an alignment, by its name, of predicted depth `(N,)` to the true one of the same pixels, which is above 0.

    Raises:
        ExclusionError: there are no pixels, or the fit has no finite scale above 0.
    """
    fits = {"median": median_scale, "scale": l1_scale, "scale&shift": l1_scale_and_shift}
    return fits[name](predicted, truth)


def median_scale(predicted: np.ndarray | Tensor, truth: np.ndarray | Tensor) -> Alignment:
    """The ratio of the medians; of an even number of pixels, the median is the lower of the middle two.

    Args, raises: see `align`.
    """
    predicted, truth = as_pair(predicted, truth)
    return Alignment(_positive(truth.median() / predicted.median()))


def l1_scale(predicted: np.ndarray | Tensor, truth: np.ndarray | Tensor) -> Alignment:
    """The scale of least absolute differences, by Weiszfeld's iteration (Tohoku Math. J. 43, 1937).

    Starting from the ratio of the means, it solves ten times for the scale of least squares in which each pixel is
    weighted by the inverse of its present absolute difference. The result is at least 1e-3.

    Args, raises: see `align`.
    """
    predicted, truth = as_pair(predicted, truth)
    scale = truth.mean() / predicted.mean()
    for _ in range(WEISZFELD_STEPS):
        weights = 1 / ((scale * predicted - truth).abs() + WEISZFELD_EPSILON)
        weighted = weights * predicted
        scale = (weighted * truth).sum() / (weighted * predicted).sum()
    return Alignment(_positive(scale.clamp(min=SMALLEST_SCALE)))


def l1_scale_and_shift(
    predicted: np.ndarray | Tensor,
    truth: np.ndarray | Tensor,
    *,
    learning_rate: float = LEARNING_RATE,
    steps: int = ADAM_STEPS,
    tolerance: float = ADAM_TOLERANCE,
) -> Alignment:
    """Scale and shift that lessen the sum of absolute differences, by Adam (Kingma and Ba, ICLR 2015).

    It starts from the ratio of the medians and the shift 0. With the usual learning rate of 1e-4 it cannot go further
    than about 0.1 from there: what it finds depends on the unit of the ground truth, and is the published figures'
    scale and shift, not the minimum.

    Args:
        predicted, truth: see `align`.
        learning_rate: Adam's.
        steps: at most so many.
        tolerance: stop where the sum changes by less than this from one step to the next.
    """
    predicted, truth = as_pair(predicted, truth)
    start = _positive(truth.median() / predicted.median())
    scale, shift = predicted.new_tensor([start]), predicted.new_zeros(1)
    optimizer = torch.optim.Adam([scale, shift], lr=learning_rate)
    differences = AbsoluteDifferences(predicted, truth, radius=STEPS_BETWEEN_PARTITIONS * learning_rate)
    before = math.inf
    for _ in range(steps):
        loss, by_scale, by_shift = differences.at(scale.item(), shift.item())
        scale.grad, shift.grad = scale.new_tensor([by_scale]), shift.new_tensor([by_shift])
        optimizer.step()
        if abs(before - loss) < tolerance:
            break
        before = loss
    return Alignment(scale.item(), shift.item())


class AbsoluteDifferences:
    """The sum of |scale * predicted + shift - truth| and its gradient, for many scales and shifts near each other.

    Where a difference cannot change its sign within a radius of some scale and shift, it is linear there. Such pixels,
    which are nearly all of them, are summed once, and again only when that radius is left.
    """

    def __init__(self, predicted: Tensor, truth: Tensor, radius: float) -> None:
        """
        Args:
            predicted: `(N,)` float32.
            truth: `(N,)` float64.
            radius: how far scale and shift may move, each, before pixels are gone through again.
        """
        self.parts = list(zip(predicted.split(PIXELS_AT_ONCE), truth.split(PIXELS_AT_ONCE), strict=True))
        self.radius = radius
        self._center: tuple[float, float] | None = None
        self._near = self.parts  # pixels whose sign may change; where all fit in a cache there is nothing to gain
        self._far = (0.0, 0.0, 0.0)  # of the others: sums of sign * predicted, of signs, of sign * truth

    def at(self, scale: float, shift: float) -> tuple[float, float, float]:
        """The sum, and its derivatives by scale and by shift."""
        if len(self.parts) > 1 and not self._is_within(scale, shift):
            self._partition(scale, shift)
        by_scale, by_shift, of_truth = self._far
        loss = scale * by_scale + shift * by_shift - of_truth
        for found, expected in self._near:
            difference = scale * found + shift - expected
            # The gradient of a sum of absolute differences is a sum of signs: written out, it needs no graph.
            sign = difference.sign().to(found.dtype)
            loss += difference.abs().sum().item()
            by_scale += (sign * found).sum().item()
            by_shift += sign.sum().item()
        return loss, by_scale, by_shift

    def _is_within(self, scale: float, shift: float) -> bool:
        return self._center is not None and max(abs(scale - self._center[0]), abs(shift - self._center[1])) < (
            self.radius
        )

    def _partition(self, scale: float, shift: float) -> None:
        near: list[tuple[Tensor, Tensor]] = []
        by_scale, by_shift, of_truth = 0.0, 0.0, 0.0
        for found, expected in self.parts:
            difference = scale * found + shift - expected
            # What a move by the radius changes, and more than the rounding of the products in single precision.
            reach = self.radius * (1 + found.abs()) + 1e-6 * (expected.abs() + difference.abs())
            is_near = difference.abs() <= reach
            near.append((found[is_near], expected[is_near]))
            sign = difference.sign().masked_fill(is_near, 0)
            by_scale += (sign * found).sum().item()
            by_shift += sign.sum().item()
            of_truth += (sign * expected).sum().item()
        found, expected = (torch.cat(arrays) for arrays in zip(*near, strict=True))
        self._near = list(zip(found.split(PIXELS_AT_ONCE), expected.split(PIXELS_AT_ONCE), strict=True))
        self._far = (by_scale, by_shift, of_truth)
        self._center = (scale, shift)


def _positive(scale: Tensor) -> float:
    value = float(scale)
    if not (math.isfinite(value) and value > 0):
        raise ExclusionError(
            f"The predicted depth cannot be aligned: its scale came out as {value:.3g}. Most of it must be above 0."
        )
    return value
