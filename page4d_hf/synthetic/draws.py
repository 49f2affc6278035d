"""Random numbers for many scenes at once, of which each has a generator of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


class Draws:
    """Draws in float64 on the CPU, with the scenes along the first dimension.

    What a scene gets depends on its seed and on what was drawn before, not on the other scenes.
    """

    def __init__(self, seeds: Sequence[int], stream: int = 0) -> None:
        """Begin one of the independent streams of numbers of each seed."""
        self.seeds = seeds
        self.generators = [np.random.default_rng([int(seed), stream] if stream else int(seed)) for seed in seeds]

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """`(B, *shape)` in [low, high)."""
        drawn = np.stack([generator.random(shape) for generator in self.generators])
        return torch.from_numpy(drawn) * (high - low) + low

    def choice(self, count: int, *shape: int) -> Tensor:
        """`(B, *shape)` int64 from 0 to count - 1."""
        return self.uniform(0, count, *shape).long()

    def either(self, *shape: int) -> Tensor:
        """`(B, *shape)` of -1 and 1."""
        return self.choice(2, *shape).double() * 2 - 1

    def directions(self, *shape: int) -> Tensor:
        """Unit vectors `(B, *shape, 3)`, evenly over the sphere."""
        height = self.uniform(-1, 1, *shape)
        azimuth = self.uniform(0, 2 * math.pi, *shape)
        radius = (1 - height.square()).sqrt()
        return torch.stack((radius * torch.cos(azimuth), height, radius * torch.sin(azimuth)), dim=-1)
