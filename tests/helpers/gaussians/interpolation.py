"""Interpolation on a grid, by its formula."""

import torch

from page4d_nerfstudio.gaussians.deformation import RobustBox

UNIT_BOX = RobustBox(torch.zeros(3), torch.ones(3))


def interpolate(plane: torch.Tensor, x: float, y: float) -> torch.Tensor:
    """[F] of a plane [F, H, W] at x along W and y along H in [-1, 1], borders on the first and last sample."""
    _, height, width = plane.shape
    column, row = (x + 1) / 2 * (width - 1), (y + 1) / 2 * (height - 1)
    left, top = min(int(column), width - 2), min(int(row), height - 2)
    u, v = column - left, row - top
    corners = plane[:, top : top + 2, left : left + 2]
    return (
        corners[:, 0, 0] * (1 - u) * (1 - v)
        + corners[:, 0, 1] * u * (1 - v)
        + (corners[:, 1, 0] * (1 - u) * v + corners[:, 1, 1] * u * v)
    )
