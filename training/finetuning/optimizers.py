"""The optimizers of a run: AdamW, or Muon for the matrices of transformer layers and AdamW for the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.overrides import TorchFunctionMode

from .machine import fastest_precision
from .options import Options
from .parameters import parameter_groups, schedule_of

# With it, an update has the root mean square of AdamW's, and one learning rate serves both (arXiv 2502.16982).
OF_ADAMW_SIZE = "match_rms_adamw"


def make_optimizers(
    trained: dict[str, nn.Parameter], options: Options, device: torch.device
) -> tuple[list[torch.optim.Optimizer], list[LambdaLR]]:
    """The optimizers of trained parameters, each with a schedule of its learning rates."""
    matrices = hidden_matrices(trained) if options.optimizer == "muon" else {}
    optimizers: list[torch.optim.Optimizer] = []
    schedules: list[LambdaLR] = []
    for is_muon, members in (
        (False, {name: parameter for name, parameter in trained.items() if name not in matrices}),
        (True, matrices),
    ):
        groups, group_options = parameter_groups(members, options, options.mask_head)
        if groups:
            optimizers.append(
                Muon(groups, adjust_lr_fn=OF_ADAMW_SIZE)
                if is_muon
                else torch.optim.AdamW(groups, fused=device.type == "cuda")
            )
            schedules.append(
                LambdaLR(optimizers[-1], [schedule_of(group, options.max_train_steps) for group in group_options])
            )
    return optimizers, schedules


class Muon(torch.optim.Muon):
    """Muon, whose Newton-Schulz iterations are in float32 where the device has no units for bfloat16.

    PyTorch's are always in bfloat16, which then is emulated: on a CPU with AVX2 they take half of a small network's
    step.
    """

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; returns what `closure` does."""
        if fastest_precision(self.param_groups[0]["params"][0].device) == "bf16":
            return super().step(closure)
        with _Float32():
            return super().step(closure)


class _Float32(TorchFunctionMode):
    """Where tensors are asked for in bfloat16, they are copied in float32."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is Tensor.bfloat16:
            return args[0].to(torch.float32, copy=True)
        return func(*args, **(kwargs or {}))


def hidden_matrices(trained: dict[str, nn.Parameter]) -> dict[str, nn.Parameter]:
    """Those that Muon is made for, by name: the matrices of transformer layers, from hidden states to hidden states."""
    return {
        name: parameter
        for name, parameter in trained.items()
        if parameter.ndim == 2 and (".attention." in name or ".mlp." in name)
    }
