"""Finds Gaussians that were taken for static but move, by what images say against them.

A static Gaussian takes the colour that suits it best over all times. Where it really is static, what is left of its
error is noise and detail finer than it, and averages out over its footprint in each view. Where something moves, the
colour of the whole footprint is wrong now in one direction and then in another. So the error of a Gaussian in a view is
the mean of (truth - render) over the pixels that it shows in, each weighted by how much of the pixel it makes up, and
its mark is the mean square of that over views. Marks far above the median of the static Gaussians speak of motion.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from nerfstudio.configs.base_config import PrintableConfig
from torch import Tensor

from page4d_hf.errors import Page4DError

from ..rasterization import Backend, rasterize
from .schedule import Schedule, scale_steps

# Weight, in pixels over all sampled views, below which a Gaussian was seen too little to judge it.
LEAST_WEIGHT = 1.0


@dataclass
class ReconsiderConfig(PrintableConfig):
    """Whether Gaussians that were taken for static may turn out to move."""

    every: int = 0
    """Steps (of a run of 17,000) from one judgement to the next, once images of all times are seen; 0: flags stay."""
    sample_every: int = 5
    """Steps, whatever the length of the run, from one view whose errors are gathered to the next: each costs another
    rasterisation."""
    share: float = 0.02
    """Most Gaussians that change at one judgement, as a share of the static ones: the worst of them."""
    factor: float = 4.0
    """Only those change whose mean squared error is more than so many times the median of the static ones."""


@dataclass(frozen=True)
class Reconsideration:
    """When errors are gathered and flags judged, in steps of the actual run."""

    first: int  # the first step that may see all times: before, a part of them would stand for all
    every: int  # 0: never
    sample_every: int

    @classmethod
    def of(cls, options: ReconsiderConfig, schedule: Schedule, run_length: int) -> Reconsideration:
        """Raises Page4DError where a number of the options is out of range."""
        if options.every < 0 or options.sample_every < 1:
            raise Page4DError(
                "Steps between judgements can't be negative, and those between samples are 1 or more, got "
                f"reconsider.every={options.every} and reconsider.sample_every={options.sample_every}."
            )
        if not 0.0 < options.share <= 1.0 or options.factor < 1.0:
            raise Page4DError(
                "reconsider.share is a share in (0, 1] and reconsider.factor is 1 or more, got "
                f"{options.share} and {options.factor}."
            )
        every = max(1, scale_steps(options.every, run_length)) if options.every else 0
        return cls(schedule.all_times_from, every, options.sample_every)

    def samples(self, step: int) -> bool:
        """Whether a step gathers the errors of its views."""
        return self.every > 0 and step >= self.first and step % self.sample_every == 0

    def due(self, step: int) -> bool:
        """Whether flags are judged after a step."""
        return self.every > 0 and step > self.first and (step - self.first) % self.every == 0


def footprint_errors(view: dict[str, Any], error: Tensor, backend: Backend = "auto") -> tuple[Tensor, Tensor]:
    """Mean error of an image over the footprint of each Gaussian, and the weight of the footprint.

    Compositing is linear in the Gaussians' features: pixel p is sum_i w_ip f_i. So the gradient of
    sum_p <e_p, pixel_p> with respect to f_i is sum_p w_ip e_p.

    Args:
        view: Arguments of `rasterize` for one camera, but for colours. Nothing gets a gradient.
        error: Truth minus render, colour values in [0, 1]. [H, W, 3]
        backend: What rasterises.

    Returns:
        sum_p w_ip e_p / sum_p w_ip [N, 3], 0 where nothing shows; and sum_p w_ip [N], in pixels.
    """
    fixed: dict[str, Any] = {
        name: value.detach() if isinstance(value, Tensor) else value for name, value in view.items()
    }
    pulled = torch.cat([error.detach(), torch.ones_like(error[..., :1])], dim=-1)
    with torch.enable_grad():
        features = fixed["means"].new_zeros(len(fixed["means"]), 4).requires_grad_()
        render, _, _ = rasterize(**fixed, colors=features, backend=backend)
        (sums,) = torch.autograd.grad(render[0], features, pulled)
    weight = sums[:, 3]
    return sums[:, :3] / weight.clamp_min(1e-12)[:, None], weight


def gather(state: dict[str, Any], errors: Tensor, weight: Tensor) -> None:
    """Add a view to the tensors `error` and `error_weight` [N] of density control's state, which index as it does.

    Args:
        state: Of the strategy.
        errors: Mean errors over footprints. [N, 3]
        weight: Weights of the footprints, in pixels. [N]
    """
    if state.get("error") is None:
        state["error"] = torch.zeros_like(weight)
        state["error_weight"] = torch.zeros_like(weight)
    state["error"] += errors.square().sum(dim=-1) * weight
    state["error_weight"] += weight


def judge(state: dict[str, Any], share: float, factor: float) -> int:
    """Let the static Gaussians move whose errors say so, and begin anew; returns how many.

    Args:
        state: Of the strategy, with `dynamic` [N] bool, which changes, and what `gather` gathered.
        share: Most that change, as a share of the static ones.
        factor: By how much the mean squared error must exceed the median of the static ones.
    """
    if state.get("error") is None:
        return 0
    seen = ~state["dynamic"] & (state["error_weight"] > LEAST_WEIGHT)
    candidates = torch.where(seen)[0]
    marks = state["error"][candidates] / state["error_weight"][candidates]
    state["error"].zero_()
    state["error_weight"].zero_()
    if len(candidates) == 0:
        return 0
    most = max(1, int(share * int((~state["dynamic"]).sum())))
    worst, order = marks.sort(descending=True)
    chosen = candidates[order[:most][worst[:most] > factor * marks.median()]]
    state["dynamic"] = state["dynamic"].index_fill(0, chosen, True)
    return len(chosen)
