"""What is asked of depth, and of the planes of the HexPlane field besides being useful: smooth, and idle in rest.

The three penalties on planes are those of K-Planes (Fridovich-Keil et al., CVPR 2023, section 3.2), which HexPlane (Cao
and Johnson, CVPR 2023) and 4DGS (Wu et al., CVPR 2024, section 4.3) share. Planes come in batches, one penalty is the
sum over the batch: `planes` is [P, F, height, width], P planes of F features.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def relative_depth_error(depth: Tensor, expected: Tensor, counts: Tensor) -> Tensor:
    """The mean of |d - e| / e over the pixels that count and whose depth is known.

    Args:
        depth: `(H, W, 1)` rendered z-depth d.
        expected: `(H, W, 1)` e in the same unit; 0 where it is not known.
        counts: `(H, W, 1)` bool.

    Returns:
        A scalar; 0 where no pixel is left.
    """
    counts = counts & (expected > 0)
    error = torch.where(counts, (depth - expected).abs() / torch.where(counts, expected, 1.0), 0.0)
    return error.sum() / counts.sum().clamp_min(1)


def total_variation(planes: Tensor) -> Tensor:
    """Spatial smoothness of `planes` [P, F, H, W] whose two axes are both of space.

    For each plane, the mean over features and cells of |p[i, j] - p[i-1, j]|^2 plus that of |p[i, j] - p[i, j-1]|^2
    (K-Planes, total variation in space), each mean over the pairs that there are.
    """
    mean: Tensor = _SquaredDifferences.apply(planes, (2, 3), 1)
    return planes.shape[0] * mean


def acceleration(planes: Tensor) -> Tensor:
    """Acceleration along axis 2 of `planes` [P, F, T, R]: time, in planes of time.

    For each plane, the mean of |p[t-1] - 2 p[t] + p[t+1]|^2 (K-Planes, smoothness in time: the second difference
    approximates the second derivative). 0 with fewer than three samples.
    """
    if planes.shape[2] < 3:
        return planes.new_zeros(())
    mean: Tensor = _SquaredDifferences.apply(planes, (2,), 2)
    return planes.shape[0] * mean


def time_sparsity(planes: Tensor) -> Tensor:
    """Distance of `planes` [P, F, T, R] from 1, the value at which time changes nothing in a product of planes.

    For each plane, the mean of |1 - p| (K-Planes, sparse transients).
    """
    return planes.shape[0] * (1.0 - planes).abs().mean()


class _SquaredDifferences(torch.autograd.Function):
    """Sum over some axes of the mean of squared first or second differences, with the gradient written out.

    On a CPU these penalties cost more than rendering does: the planes have millions of cells, and autograd would walk
    over them, and over temporaries of the same size, about three times as often as is needed.
    """

    @staticmethod
    def forward(ctx: Any, planes: Tensor, axes: tuple[int, ...], order: int) -> Tensor:
        total = planes.new_zeros(())
        saved = []
        for axis in axes:
            differences = planes
            for _ in range(order):
                n = differences.shape[axis]
                differences = torch.sub(differences.narrow(axis, 1, n - 1), differences.narrow(axis, 0, n - 1))
            flat = differences.view(-1)
            total = total + torch.dot(flat, flat) / flat.numel()
            saved.append(differences)
        ctx.save_for_backward(*saved)
        ctx.axes, ctx.order, ctx.shape = axes, order, planes.shape
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        # The gradient is the transposed difference operator, with these coefficients, applied to the differences.
        coefficients = (-1.0, 1.0) if ctx.order == 1 else (1.0, -2.0, 1.0)
        gradient = grad_outputs[0].new_zeros(ctx.shape)
        for axis, differences in zip(ctx.axes, ctx.saved_tensors, strict=True):
            for offset, coefficient in enumerate(coefficients):
                alpha = 2.0 * coefficient / differences.numel()
                gradient.narrow(axis, offset, differences.shape[axis]).add_(differences, alpha=alpha)
        return gradient.mul_(grad_outputs[0]), None, None
