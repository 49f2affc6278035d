"""Things keep their size: what moves neither grows nor shrinks, as a whole, between canonical space and any time.

One moving camera sees each instant once, which leaves open how far away a moving thing is: near and small looks the
same as far and large. What decides is that few things grow or shrink. Dynamic 3D Gaussians (Luiten et al., 3DV 2024,
section 3.3) hold the distance of each pair of neighbours, which also forbids to bend and to stretch. Here it is the
mean over a neighbourhood that is held: what gets longer one way and thinner the others keeps its size, as jelly and
skin do.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from scipy.spatial import cKDTree
from torch import Tensor

# Neighbours of each Gaussian, out of one in so many of all: next to a Gaussian lie those that split from it, which say
# nothing of the size of the thing that they are part of.
NEIGHBOURS = 16
ONE_IN = 8

# Steps for which neighbours stay the same, unless Gaussians come or go.
KEPT_FOR = 100

# Most Gaussians whose neighbourhoods are looked at, which bounds what a step costs.
MOST = 20_000

# Neighbours that are closer than this share of the scene's extent count as if they were so far apart.
LEAST_DISTANCE = 0.01

# A change of size by less than this costs little: neighbourhoods are samples, and pictures are not exact.
SMALL_CHANGE = 0.05


class Neighbourhoods:
    """Who is whose neighbour among Gaussians, found anew every so often.

    They are part of a checkpoint (`state`): a training that resumes goes on with those that it had.
    """

    def __init__(self) -> None:
        # The neighbourhoods, and for how many Gaussians and when they were found.
        self.state: tuple[Tensor | None, tuple[int, int] | None] = (None, None)

    def forget(self) -> None:
        """Find them anew when they are next asked for."""
        self.state = (None, None)

    def of(self, positions: Tensor, step: int) -> Tensor:
        """Neighbourhoods of Gaussians.

        Args:
            positions: `(M, 3)` in canonical space.
            step: of the training; also draws which Gaussians may be neighbours.

        Returns:
            `(A, 1 + K)` int64, on the device of `positions`: in each row a Gaussian and K neighbours of it. No rows
            with fewer than two Gaussians.
        """
        # Density control ends the step that it comes in: the next one sees other Gaussians.
        key = (len(positions), (step - 1) // KEPT_FOR)
        found, found_for = self.state
        if found is None or key != found_for:
            cloud = positions.detach().cpu().numpy()
            finite = np.flatnonzero(np.isfinite(cloud).all(axis=1))  # density control removes what is not
            found = torch.from_numpy(finite[_neighbourhoods(cloud[finite], np.random.default_rng(step))])
        found = found.to(positions.device)
        self.state = found, key
        return found


def _neighbourhoods(positions: npt.NDArray[Any], rng: np.random.Generator) -> npt.NDArray[Any]:
    order = rng.permutation(len(positions))
    partners = order[: max(len(positions) // ONE_IN, NEIGHBOURS + 1)]
    if len(partners) < 2:
        return np.zeros((0, 1), np.int64)
    centres = order[:MOST]
    # One more than asked for: a Gaussian among the partners finds itself, where the last one is left out otherwise.
    _, found = cKDTree(positions[partners]).query(positions[centres], k=min(NEIGHBOURS + 1, len(partners)))
    found = partners[found]
    is_itself = found == centres[:, None]
    is_itself[~is_itself.any(axis=1), -1] = True
    return np.column_stack((centres, found[~is_itself].reshape(len(found), -1)))


def change_of_size(canonical: Tensor, deformed: Tensor, neighbourhoods: Tensor, extent: float) -> Tensor:
    """How much neighbourhoods grow or shrink: the mean over them of h(g), g the mean of log(|x_i - x_j| / r_ij).

    The mean is over the neighbours j of i, x are places at a time and r_ij is the distance in canonical space, which
    gets no gradient of its own: nothing should shrink in order to be deformed less. h is Huber's loss, divided so that
    its slope is 1 for large changes: h(g) = g^2 / 2d up to d = `SMALL_CHANGE`, |g| - d/2 beyond. |g| alone would keep
    things where they are: it pulls as strongly against the first, uneven beginnings of a motion as against any tearing.

    Args:
        canonical: `(M, 3)`.
        deformed: `(M, 3)` the same Gaussians at a time.
        neighbourhoods: `(A, 1 + K)` indices, as `Neighbourhoods.of` gives them. Those with a Gaussian whose place is
            not finite do not count.
        extent: radius of the scene, the unit of `LEAST_DISTANCE`.

    Returns:
        A scalar; 0 without neighbourhoods.
    """
    if len(neighbourhoods) == 0:
        return deformed.new_zeros(())
    least = LEAST_DISTANCE * extent
    before = _distances(canonical.detach(), neighbourhoods).clamp_min(least)
    now = _distances(deformed, neighbourhoods).clamp_min(least)
    growth = (now / before).log().mean(dim=1)
    finite = (canonical.isfinite() & deformed.isfinite()).all(dim=-1)
    counts = finite[neighbourhoods].all(dim=1)
    penalties = F.huber_loss(growth, torch.zeros_like(growth), reduction="none", delta=SMALL_CHANGE) / SMALL_CHANGE
    return (penalties * counts).sum() / counts.sum().clamp_min(1)


def _distances(positions: Tensor, neighbourhoods: Tensor) -> Tensor:
    """From each Gaussian to its neighbours, `(A, K)`; of places that are not finite some number, without a gradient."""
    members = torch.where(positions.isfinite(), positions, 0.0)[neighbourhoods]
    distances: Tensor = (members[:, 1:] - members[:, :1]).norm(dim=-1)
    return distances
