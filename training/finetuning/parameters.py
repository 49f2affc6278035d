"""Trained parameters, their groups, and the learning rate schedule of each group."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import nn

from page4d_hf import Page4DConfig, Page4DModel

from .options import GroupOptions, OptionsError

ALL = "all"
MASK_HEAD = "aggregator.mask_head"
RANGE = re.compile(r"(\d+)-(\d+)")


def expand(pattern: str) -> list[str]:
    """The names of modules that a pattern stands for: `a.10-12.b` is `a.10.b`, `a.11.b` and `a.12.b`."""
    names = [""]
    for part in pattern.split("."):
        found = RANGE.fullmatch(part)
        if found and int(found[1]) > int(found[2]):
            raise OptionsError(f"The range {part} in {pattern}, which --train names, ends before it begins.")
        parts: Iterable[Any] = range(int(found[1]), int(found[2]) + 1) if found else (part,)
        names = [f"{name}.{one}" if name else str(one) for name in names for one in parts]
    return names


def masked_layers(config: Page4DConfig) -> tuple[str, ...]:
    """The frame and global layers of the masked stage, which are the paper's middle layers."""
    layers = sorted(config.masked_layers)
    if not layers:
        raise OptionsError("The model has no masked layers, which are trained by default; say what is, with --train.")
    contiguous = layers == list(range(layers[0], layers[-1] + 1)) and len(layers) > 1
    numbers = [f"{layers[0]}-{layers[-1]}"] if contiguous else [str(layer) for layer in layers]
    return tuple(f"aggregator.{kind}_layers.{number}" for kind in ("frame", "global") for number in numbers)


def masked_stage(config: Page4DConfig) -> tuple[str, ...]:
    """The modules that PAGE-4D fine-tunes: the masked layers, and the mask head if there is one."""
    return (*masked_layers(config), *([] if config.mask_form is None else [MASK_HEAD]))


def without_gradient(model: Page4DModel) -> tuple[str, ...]:
    """Names of what the loss never reaches. Processes that average gradients would wait for them for ever."""
    # Of DINOv2's own training; and there is no loss on tracks.
    names = ["encoder.embeddings.mask_token", "track_head"]
    training = model.config.training
    weights = {
        "camera": training.camera_loss_weight,
        "depth": training.depth_loss_weight,
        "point": training.point_loss_weight,
    }
    names += [f"{head}_head" for head, weight in weights.items() if weight == 0]
    biased = model.aggregator.mask_schedule is not None or model.config.mask_strength != 0
    if not (biased and model.config.masked_layers):
        # No attention is ever biased by it. A loss of its own is on its dynamics, without their factor.
        names.append(f"{MASK_HEAD}.alpha_logit" if training.mask_loss_weight else MASK_HEAD)
    return tuple(names)


def freeze_all_but(model: Page4DModel, patterns: Sequence[str]) -> dict[str, nn.Parameter]:
    """Let gradients flow to some of a model's parameters alone.

    Modules stay in training mode whether they are frozen or not: gradient checkpointing runs in training mode only.
    Nothing before the first trained layer is recorded, as autograd keeps activations for gradients alone.

    Args:
        model: the network.
        patterns: names of modules or parameters, with ranges (see `expand`), or `all`. What the loss does not reach
            stays frozen (see `without_gradient`).

    Returns:
        The parameters that are trained, by name.
    """
    wanted = [] if ALL in patterns else [name for pattern in patterns for name in expand(pattern)]
    trained: dict[str, nn.Parameter] = {}
    used: set[str] = set()
    unreached = without_gradient(model)
    for name, parameter in model.named_parameters():
        covering = [prefix for prefix in wanted if _is_in(name, prefix)]
        used.update(covering)
        reached = not any(_is_in(name, prefix) for prefix in unreached)
        parameter.requires_grad_(reached and (ALL in patterns or bool(covering)))
        if parameter.requires_grad:
            trained[name] = parameter
    if missing := [name for name in wanted if name not in used]:
        known = ", ".join(name for name, _ in model.named_children())
        raise OptionsError(
            f"The model has no parameters under {', '.join(missing)}, which --train names; its modules are {known}."
        )
    return trained


def _is_in(name: str, module: str) -> bool:
    return name == module or name.startswith(module + ".")


def parameter_groups(
    trained: dict[str, nn.Parameter], layers: GroupOptions, mask_head: GroupOptions
) -> tuple[list[dict[str, Any]], list[GroupOptions]]:
    """An optimizer's groups and their options: the mask head, and all else; a group without parameters is left out."""
    groups: list[dict[str, Any]] = []
    options: list[GroupOptions] = []
    for title, option, is_mask in (("layers", layers, False), ("mask_head", mask_head, True)):
        members = [p for name, p in trained.items() if _is_in(name, MASK_HEAD) == is_mask]
        if members:
            groups.append(
                {"params": members, "name": title, "lr": option.learning_rate, "weight_decay": option.weight_decay}
            )
            options.append(option)
    return groups, options


def learning_rate(step: int, steps: int, group: GroupOptions) -> float:
    """The rate of a step, 0 ... steps - 1: linear from `warmup_lr` to `learning_rate`, then a cosine to `min_lr`."""
    warmup = round(group.warmup_steps * (steps if group.warmup_steps < 1 else 1))
    if step < warmup:
        return group.warmup_lr + (group.learning_rate - group.warmup_lr) * step / warmup
    progress = min((step - warmup) / max(steps - 1 - warmup, 1), 1.0)
    return group.min_lr + (group.learning_rate - group.min_lr) * 0.5 * (1 + math.cos(math.pi * progress))


def schedule_of(group: GroupOptions, steps: int) -> Callable[[int], float]:
    """The factor to the group's learning rate, for PyTorch's LambdaLR."""
    if group.learning_rate == 0:
        return lambda step: 0.0
    return lambda step: learning_rate(step, steps, group) / group.learning_rate
