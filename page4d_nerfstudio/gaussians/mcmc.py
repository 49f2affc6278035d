"""Density control by sampling, for Gaussians some of which move: 3D Gaussian splatting as Markov chain Monte Carlo.

After Kheradmand et al., "3D Gaussian Splatting as Markov Chain Monte Carlo" (NeurIPS 2024, arXiv:2404.09591), which
takes Gaussians for samples: none is split or pruned by rule; faint ones go where others are opaque, new ones come until
the cap is reached, and noise keeps all of them looking around. gsplat has the method too, but its relocation is a CUDA
kernel; this one runs wherever PyTorch does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from gsplat.strategy.base import Strategy
from gsplat.strategy.ops import _update_param_with_optimizer
from gsplat.utils import normalized_quat_to_rotmat
from torch import Tensor

from .strategy import all_finite

# A Gaussian never becomes more than this many at once, as in the authors' code: the sum of eq. 9 has terms of
# alternating signs that grow like 2^N.
MOST_COPIES = 51

# Noise of a Gaussian fades as its opacity comes to 1 - NOISE_FROM, over about 1 / NOISE_SLOPE (section 3.2).
NOISE_SLOPE, NOISE_FROM = 100.0, 0.995


def relocated(opacities: Tensor, scales: Tensor, copies: Tensor) -> tuple[Tensor, Tensor]:
    """What N Gaussians at one place must be to look like the one that was there.

    With o and s the old opacity and scales (eq. 9 of the paper):

        o' = 1 - (1 - o)^(1/N)
        s' = s o / D,   D = sum_{i=1..N} sum_{k=0..i-1} C(i-1, k) (-1)^k o'^(k+1) / sqrt(k+1)

    The outer sum is of binomials of one column of Pascal's triangle, so D = sum_{j=1..N} C(N, j) (-1)^(j-1) o'^j /
    sqrt(j). It makes the integrals of both along any line through the centre agree.

    Args:
        opacities: o in (0, 1). [M]
        scales: s, standard deviations in any unit. [M, 3]
        copies: N, 1 or more; more than 51 count as 51. [M]

    Returns:
        o' [M] and s' [M, 3], of the types given.
    """
    n = copies.clamp(1, MOST_COPIES).double()[:, None]
    old = opacities.double()[:, None].clamp(1e-12, 1.0 - 1e-7)
    new = -torch.expm1(torch.log1p(-old) / n)
    j = torch.arange(1, MOST_COPIES + 1, device=opacities.device, dtype=torch.float64)
    binomials = torch.lgamma(n + 1) - torch.lgamma(j + 1) - torch.lgamma((n - j).clamp_min(0) + 1)
    signs = 1.0 - 2.0 * ((j - 1) % 2)
    terms = torch.where(j <= n, signs * torch.exp(binomials + j * new.log()) / j.sqrt(), 0.0)
    factor = old / terms.sum(dim=-1, keepdim=True)
    return new[:, 0].to(opacities.dtype), (factor * scales.double()).to(scales.dtype)


@dataclass
class MotionAwareMCMC(Strategy):  # type: ignore[misc]  # gsplat's classes have no types
    """Density control of 3DGS-MCMC, with which Gaussians move in its state.

    Each `refine_every` steps, Gaussians whose opacity is at most `min_opacity`, or that are not finite, are moved to
    others, drawn in proportion to opacity; then there are up to `growth` more, drawn in the same way, as far as
    `max_gaussians` allows. What is moved or new moves if the Gaussian does that it was drawn from. After each step
    noise is added to positions, and to nothing else.

    Args:
        refine_start_iter: Refine after this step ...
        refine_stop_iter: ... and before this one.
        refine_every: Steps between refinements.
        min_opacity: Opacity up to which a Gaussian counts as dead, and the least that one has after a refinement.
        max_gaussians: The cap.
        growth: Share by which the number grows at each refinement.
        noise_lr: Noise, in units of the learning rate of positions and of a Gaussian's covariance.
    """

    refine_start_iter: int = 500
    refine_stop_iter: int = 25_000
    refine_every: int = 100
    min_opacity: float = 0.005
    max_gaussians: int = 360_000
    growth: float = 0.05
    noise_lr: float = 5e5

    def initialize_state(self, scene_scale: float, in_motion: Tensor) -> dict[str, Any]:
        """The running state: `in_motion` [N] bool, which Gaussians move."""
        return {"scene_scale": scene_scale, "in_motion": in_motion}

    @torch.no_grad()
    def step_post_backward(
        self,
        params: dict[str, torch.nn.Parameter] | torch.nn.ParameterDict,
        optimizers: dict[str, torch.optim.Optimizer],
        state: dict[str, Any],
        step: int,
        views: list[dict[str, Any]],
        hidden: Tensor | None = None,
    ) -> None:
        """Relocate and add where the schedule says so, and add noise; whatever the views.

        `hidden` [N] bool: Gaussians that no image has shown so far. They stay as they are, and nothing comes from them.
        """
        if self.refine_start_iter < step < self.refine_stop_iter and step % self.refine_every == 0:
            self._relocate(params, optimizers, state, hidden)
            n_added = self._add(params, optimizers, state, hidden)
            if hidden is not None:
                hidden = torch.cat([hidden, hidden.new_zeros(n_added)])
        self._add_noise(params, optimizers["means"].param_groups[0]["lr"], hidden)

    def _relocate(self, params: Any, optimizers: Any, state: dict[str, Any], hidden: Tensor | None) -> None:
        """Move dead Gaussians to living ones."""
        finite = all_finite(params)
        opacities = params["opacities"].flatten().sigmoid()
        dead = ~finite | (opacities <= self.min_opacity)
        if hidden is not None:
            dead &= ~hidden | ~finite
        targets = torch.where(dead)[0]
        sources = self._draw(torch.where(dead, 0.0, opacities), len(targets), hidden)
        self._copy(params, optimizers, state, sources, targets)

    def _add(self, params: Any, optimizers: Any, state: dict[str, Any], hidden: Tensor | None) -> int:
        """Add Gaussians where there are opaque ones, within the cap; returns how many."""
        n = len(params["means"])
        room = min(self.max_gaussians, int((1.0 + self.growth) * n)) - n
        sources = self._draw(params["opacities"].flatten().sigmoid(), max(room, 0), hidden)
        self._copy(params, optimizers, state, sources, None)
        return len(sources)

    def _copy(
        self, params: Any, optimizers: Any, state: dict[str, Any], sources: Tensor, targets: Tensor | None
    ) -> None:
        """Have those at `targets` [M], or M new ones, share the places of those at `sources` [M], which may repeat."""
        if len(sources) == 0:
            return
        values = self._shared_values(params, sources)

        def shared(value: Tensor, given: Tensor) -> Tensor:
            value = value.clone()
            value[sources] = given
            if targets is None:
                return torch.cat([value, given])
            value[targets] = given
            return value

        def parameter(name: str, value: Tensor) -> Tensor:
            return torch.nn.Parameter(shared(value, values[name]))

        def forgotten(_: str, moments: Tensor) -> Tensor:
            return shared(moments, torch.zeros_like(moments[sources]))

        _update_param_with_optimizer(parameter, forgotten, params, optimizers)
        for name, value in state.items():
            if isinstance(value, Tensor):
                state[name] = shared(value, value[sources])

    @staticmethod
    def _draw(opacities: Tensor, n: int, hidden: Tensor | None) -> Tensor:
        """Indices [n] drawn in proportion to opacity, with replacement; none where no Gaussian is there to draw."""
        weights = torch.nan_to_num(opacities) if hidden is None else torch.nan_to_num(opacities) * ~hidden
        if n == 0 or not bool((weights > 0).any()):
            return torch.empty(0, dtype=torch.long, device=weights.device)
        if len(weights) > 1 << 24:  # more than torch.multinomial takes
            total = weights.double().cumsum(0)
            return torch.searchsorted(total, torch.rand(n, device=weights.device, dtype=total.dtype) * total[-1])
        return torch.multinomial(weights, n, replacement=True)

    def _shared_values(self, params: Any, sources: Tensor) -> dict[str, Tensor]:
        """Parameters [M, ...] of each Gaussian of `sources` [M] once it shares its place with all that come from it."""
        values = {name: value[sources] for name, value in params.items()}
        copies = torch.bincount(sources, minlength=len(params["means"]))[sources] + 1
        logits = values["opacities"]
        opacities, scales = relocated(logits.flatten().sigmoid(), values["scales"].exp(), copies)
        opacities = opacities.clamp(self.min_opacity, 1.0 - torch.finfo(torch.float32).eps)
        return values | {"opacities": opacities.logit().view_as(logits), "scales": scales.log()}

    def _add_noise(self, params: Any, lr: float, hidden: Tensor | None) -> None:
        """Noise of covariance shape on positions, the more the fainter a Gaussian is (eq. 8 of the paper)."""
        visible_through = 1.0 - params["opacities"].flatten().sigmoid()  # [N]
        strength = self.noise_lr * lr * torch.sigmoid(NOISE_SLOPE * (visible_through - NOISE_FROM))
        if hidden is not None:
            strength = strength * ~hidden
        rotations = normalized_quat_to_rotmat(F.normalize(params["quats"], dim=-1))  # [N, 3, 3]
        noise = torch.randn_like(params["means"]) * strength[:, None]
        # Covariance times noise: R diag(s^2) R^T n.
        along = torch.einsum("nji,nj->ni", rotations, noise) * (2.0 * params["scales"]).exp()
        params["means"].add_(torch.einsum("nij,nj->ni", rotations, along))
