"""Checks that end a hopeless training: NaN, emptied scenes, more Gaussians than the cap."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from page4d_hf.errors import Page4DError

from ..gaussians.model import Page4DGaussiansModel


class TrainingError(Page4DError):
    """A training that cannot go on."""


def check_losses(losses: Mapping[str, Tensor], model: torch.nn.Module, step: int) -> None:
    """Raises TrainingError where a term of the loss is not finite, before any parameter learns from it."""
    values = {name: torch.as_tensor(value).detach().float() for name, value in losses.items()}
    if not values or bool(torch.stack([value.isfinite().all() for value in values.values()]).all()):
        return
    broken = [f"{name} is {float(value)}" for name, value in values.items() if not value.isfinite().all()]
    cause = _not_finite(model)
    raise TrainingError(
        f"The loss is not finite at step {step}: {', '.join(broken)}"
        + (f"; parameters that are not: {cause}." if cause else ", though all parameters are.")
    )


def check_count(model: Page4DGaussiansModel, step: int) -> None:
    """Raises TrainingError where there are no Gaussians, or more than the cap."""
    count, cap = model.num_points, model.config.max_gaussians
    if count == 0:
        raise TrainingError(f"The scene has emptied: after step {step} no Gaussian is left.")
    if count > cap:
        raise TrainingError(
            f"There are {count} Gaussians at step {step}, more than --pipeline.model.max-gaussians {cap} allows: raise "
            "it."
        )


def check_parameters(model: Page4DGaussiansModel, step: int) -> None:
    """Raises TrainingError where a parameter is not finite, or all Gaussians are too faint to be seen."""
    broken = _not_finite(model)
    if broken:
        raise TrainingError(f"Parameters are not finite after step {step}: {broken}.")
    check_count(model, step)
    faintest = model.config.cull_alpha_thresh
    if float(model.opacities.detach().max().sigmoid()) < faintest:
        raise TrainingError(
            f"The scene has emptied: after step {step} all {model.num_points} Gaussians are fainter than an opacity of "
            f"{faintest:g}."
        )


def _not_finite(model: torch.nn.Module) -> str:
    """Names of the parameters that are not finite, and how much of them is not; "" where all are."""
    found = []
    for name, parameter in model.named_parameters():
        broken = ~parameter.detach().isfinite()
        if not bool(broken.any()):
            continue
        if name.startswith("gauss_params."):
            count = int(broken.flatten(1).any(dim=-1).sum())
            found.append(f"{name.removeprefix('gauss_params.')} of {count} of {len(parameter)} Gaussians")
        else:
            found.append(f"{int(broken.sum())} of {parameter.numel()} values of {name}")
    return ", ".join(found)
