"""How far Gaussians go over the clip. None of it costs anything in training."""

from __future__ import annotations

import operator

import torch
from torch import Tensor

from .deformation import DeformationField

# Instants of the clip between which a Gaussian's places are compared.
MOTION_SAMPLES = 24


class ClipMotion:
    """How far each Gaussian goes over the clip; kept until the model has changed."""

    def __init__(self) -> None:
        self._sources: tuple[Tensor, ...] = ()  # held, so that none of their identities is another's
        self._state: tuple[int, ...] = ()
        self._motion: Tensor | None = None

    @torch.no_grad()
    def of(self, field: DeformationField | None, means: Tensor, in_motion: Tensor, step: int) -> Tensor:
        """The largest distance between any two places of each Gaussian's centre in the clip.

        Args:
            field: the deformation; None where nothing is deformed.
            means: canonical positions, [N, 3].
            in_motion: which pass the deformation, [N] bool.
            step: of the training.

        Returns:
            [N] in the unit of `means`; 0 for what does not move.
        """
        if field is None:
            return means.new_zeros(len(means))
        sources = (means, in_motion, *field.parameters())
        state = (step, *(source._version for source in sources))
        same = len(sources) == len(self._sources) and all(map(operator.is_, sources, self._sources))
        if self._motion is None or not same or state != self._state:
            motion = means.new_zeros(len(means))
            if in_motion.any():
                motion[in_motion] = path_diameter(field, means[in_motion])
            self._sources, self._state, self._motion = sources, state, motion
        return self._motion


def path_diameter(field: DeformationField, positions: Tensor, samples: int = MOTION_SAMPLES) -> Tensor:
    """The largest distance [M] between two of the places that a field gives `positions` [M, 3] at `samples` instants.

    Unlike the length of the path, it does not grow with jitter, and unlike the distance from the canonical position it
    does not depend on where that happens to be.
    """
    offsets = [field(positions, index / (samples - 1)).position for index in range(samples)]
    largest = positions.new_zeros(len(positions))
    for index, one in enumerate(offsets):
        for other in offsets[index + 1 :]:
            if one is not None and other is not None:
                largest = torch.maximum(largest, (one - other).norm(dim=-1))
    return largest
