"""Things keep their size: neighbours among the Gaussians that move stay as far apart as in canonical space.

One moving camera sees each instant once, which leaves open how far away a moving thing is: near and small looks the
same as far and large. What decides is that few things grow or shrink. So the distances between neighbours at the time
that is rendered are held to those in canonical space, which is the local isometry of Dynamic 3D Gaussians (Luiten et
al., 3DV 2024, section 3.3) as a share of the distance.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy.spatial import cKDTree
from torch import Tensor

# Neighbours of each Gaussian, out of one in so many of all: next to a Gaussian lie those that split from it, which say
# nothing of the size of the thing that they are part of.
NEIGHBOURS = 8
ONE_IN = 4

# Steps for which neighbours stay the same, unless Gaussians come or go.
KEPT_FOR = 100

# Most Gaussians whose neighbours are looked at, which bounds what a step costs.
MOST = 20_000

# Pairs that are closer than this share of the scene's extent count as if they were so far apart.
LEAST_DISTANCE = 0.01

# Changes of a distance by less than this share of it cost little: things bend, and pictures are not exact.
SMALL_STRAIN = 0.1


class Neighbours:
    """Pairs of neighbouring Gaussians, found anew every so often.

    They are part of a checkpoint (`state`): a training that resumes goes on with the pairs that it had.
    """

    def __init__(self) -> None:
        self._pairs: Tensor | None = None
        self._found_for: tuple[int, int] | None = None

    @property
    def state(self) -> tuple[Tensor | None, tuple[int, int] | None]:
        """The pairs, and for how many Gaussians and when they were found."""
        return self._pairs, self._found_for

    @state.setter
    def state(self, state: tuple[Tensor | None, tuple[int, int] | None]) -> None:
        self._pairs, self._found_for = state

    def of(self, positions: Tensor, step: int) -> Tensor:
        """Which Gaussians are neighbours.

        Args:
            positions: `(M, 3)` in canonical space.
            step: of the training; also draws which Gaussians may be neighbours.

        Returns:
            `(2, P)` int64, on the device of `positions`; P is 0 with fewer than two Gaussians.
        """
        # Density control ends the step that it comes in: the next one sees other Gaussians.
        key = (len(positions), (step - 1) // KEPT_FOR)
        if self._pairs is None or key != self._found_for:
            pairs = _neighbours(positions.detach().cpu().numpy(), np.random.default_rng(step))
            self._pairs, self._found_for = torch.from_numpy(pairs), key
        self._pairs = self._pairs.to(positions.device)
        return self._pairs


def _neighbours(positions: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    order = rng.permutation(len(positions))
    partners = order[: max(len(positions) // ONE_IN, NEIGHBOURS + 1)]
    if len(partners) < 2:
        return np.zeros((2, 0), np.int64)
    anchors = order[:MOST]
    # One more than asked for, as a Gaussian among the partners is its own nearest.
    _, found = cKDTree(positions[partners]).query(positions[anchors], k=min(NEIGHBOURS + 1, len(partners)))
    pairs = np.stack((np.repeat(anchors, found.shape[1]), partners[found.ravel()]))
    return pairs[:, pairs[0] != pairs[1]]


def strain(canonical: Tensor, deformed: Tensor, pairs: Tensor, extent: float) -> Tensor:
    """By what share of itself the distance of neighbours changes: the mean of h(s), s = (|x_i - x_j| - r) / r.

    Here x are places at a time and r the distance of the two in canonical space, which gets no gradient of its own:
    nothing should shrink in order to be deformed less. h is Huber's loss, divided so that its slope for large strains
    is 1: h(s) = s^2 / 2d up to d = `SMALL_STRAIN`, |s| - d/2 beyond. |s| alone would keep things where they are: its
    pull is as strong against the first, uneven beginnings of a motion as against any tearing.

    Args:
        canonical: `(M, 3)`.
        deformed: `(M, 3)` the same Gaussians at a time.
        pairs: `(2, P)` indices.
        extent: radius of the scene; r is at least `LEAST_DISTANCE` of it where it divides.

    Returns:
        A scalar; 0 without pairs.
    """
    if pairs.shape[1] == 0:
        return deformed.new_zeros(())
    first, second = pairs
    rest = (canonical[first] - canonical[second]).detach().norm(dim=-1)
    now = (deformed[first] - deformed[second]).norm(dim=-1)
    strains = (now - rest) / rest.clamp_min(LEAST_DISTANCE * extent)
    return F.huber_loss(strains, torch.zeros_like(strains), delta=SMALL_STRAIN) / SMALL_STRAIN
