"""What makes a run's steps: AdamW, or Muon for the matrices of transformer layers and AdamW for the rest."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from .options import Options
from .parameters import parameter_groups, schedule_of

# With it, an update has the root mean square of AdamW's, and one learning rate serves both (arXiv 2502.16982).
OF_ADAMW_SIZE = "match_rms_adamw"


def make_optimizers(
    trained: dict[str, nn.Parameter], options: Options, device: torch.device
) -> tuple[list[torch.optim.Optimizer], list[LambdaLR]]:
    """The optimizers of a run, each with a schedule of its learning rates.

    Args:
        trained: parameters by name, at least one.
        options: of the run.
        device: where they are.
    """
    matrices = hidden_matrices(trained) if options.optimizer == "muon" else {}
    optimizers: list[torch.optim.Optimizer] = []
    schedules: list[LambdaLR] = []
    for is_muon, members in (
        (False, {name: parameter for name, parameter in trained.items() if name not in matrices}),
        (True, matrices),
    ):
        groups, group_options = parameter_groups(members, options.layers, options.mask_head)
        if groups:
            optimizers.append(
                torch.optim.Muon(groups, adjust_lr_fn=OF_ADAMW_SIZE)
                if is_muon
                else torch.optim.AdamW(groups, fused=device.type == "cuda")
            )
            schedules.append(LambdaLR(optimizers[-1], [schedule_of(group, options.steps) for group in group_options]))
    return optimizers, schedules


def hidden_matrices(trained: dict[str, nn.Parameter]) -> dict[str, nn.Parameter]:
    """Those that Muon is made for, by name: the matrices of transformer layers, from hidden states to hidden states."""
    return {
        name: parameter
        for name, parameter in trained.items()
        if parameter.ndim == 2 and (".attention." in name or ".mlp." in name)
    }


__all__ = ["hidden_matrices", "make_optimizers"]
