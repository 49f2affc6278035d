"""The spherical harmonics in which Gaussians, and the files of them, have their colours by direction."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def spherical_harmonics(directions: Tensor, degree: int) -> Tensor:
    """Real spherical harmonics of unit vectors [P, 3] up to `degree`: [P, (degree + 1)^2].

    With the Condon-Shortley phase, ordered by degree and then by order from -l to l, as 3D Gaussian Splatting and its
    files have them. Written as polynomials: Sloan, "Efficient Spherical Harmonic Evaluation", JCGT 2013, appendix A.
    """
    x, y, z = directions.unbind(dim=-1)
    bases = [torch.full_like(x, 0.5 * math.sqrt(1 / math.pi))]
    if degree >= 1:
        c1 = math.sqrt(3 / (4 * math.pi))
        bases += [-c1 * y, c1 * z, -c1 * x]
    if degree >= 2:
        c2 = 0.5 * math.sqrt(15 / math.pi)
        bases += [
            c2 * x * y,
            -c2 * y * z,
            0.25 * math.sqrt(5 / math.pi) * (3 * z * z - 1),
            -c2 * x * z,
            0.5 * c2 * (x * x - y * y),
        ]
    if degree >= 3:
        c33, c32 = 0.25 * math.sqrt(35 / (2 * math.pi)), 0.25 * math.sqrt(105 / math.pi)
        c31, c30 = 0.25 * math.sqrt(21 / (2 * math.pi)), 0.25 * math.sqrt(7 / math.pi)
        bases += [
            -c33 * y * (3 * x * x - y * y),
            2 * c32 * x * y * z,
            -c31 * y * (5 * z * z - 1),
            c30 * z * (5 * z * z - 3),
            -c31 * x * (5 * z * z - 1),
            c32 * z * (x * x - y * y),
            -c33 * x * (x * x - 3 * y * y),
        ]
    if degree >= 4:
        c44, c43 = 3 / 16 * math.sqrt(35 / math.pi), 3 / 4 * math.sqrt(35 / (2 * math.pi))
        c42, c41 = 3 / 8 * math.sqrt(5 / math.pi), 3 / 4 * math.sqrt(5 / (2 * math.pi))
        bases += [
            4 * c44 * x * y * (x * x - y * y),
            -c43 * y * z * (3 * x * x - y * y),
            2 * c42 * x * y * (7 * z * z - 1),
            -c41 * y * z * (7 * z * z - 3),
            3 / 16 * math.sqrt(1 / math.pi) * (35 * z**4 - 30 * z * z + 3),
            -c41 * x * z * (7 * z * z - 3),
            c42 * (x * x - y * y) * (7 * z * z - 1),
            -c43 * x * z * (x * x - 3 * y * y),
            c44 * (x * x * (x * x - 3 * y * y) - y * y * (3 * x * x - y * y)),
        ]
    return torch.stack(bases, dim=-1)
