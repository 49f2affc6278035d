"""Experiments on the global attention of PAGE-4D: whom moving patches are hidden from, and how much they are looked at.

Both are forward pre-hooks on the attention of the aggregator's global layers, set for the length of a `with` block.
They work with any attention implementation: what is measured is computed anew from queries and keys, some queries at a
time, so that no matrix of attention weights is ever whole in memory, let alone those of all layers.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from page4d_hf import Page4DModel

from ..metrics.scores import EvaluationError

# From whom patches are hidden. "cameras": from the queries of camera and register tokens, the pose branch, which are
# those that PAGE-4D's mask acts on; "patches": from the others, the geometry branch; "both": from all.
HiddenFrom = Literal["none", "both", "cameras", "patches"]

# Which queries look: the camera token and the register tokens of all frames, patches that stand still, patches that
# move.
QUERIES = ("camera", "register", "static", "moving")

WEIGHTS_AT_ONCE = 1 << 24  # attention weights in memory at once: 64 MiB in float32


@contextmanager
def hidden_patches(
    model: Page4DModel, patches: Tensor, hidden_from: HiddenFrom, layers: Collection[int] | None = None
) -> Iterator[None]:
    """Hide patches as keys of the global attention: their logits are minus infinity, their weights zero.

    What a mask head does comes on top. Special tokens are never hidden, so that there is always something to attend to.

    Args:
        model: whose forward passes in the block are changed.
        patches: `[B, S, h, w]` bool, which to hide, on the patch grid of the images that the model is given.
        hidden_from: which queries do not see them.
        layers: global layers in which they are hidden, from 0; by default all.
    """
    bias = torch.zeros(patches.shape, device=patches.device).masked_fill(patches.bool(), -math.inf).flatten(2)

    def hide(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict]:
        call = _Call(*args, **kwargs)
        added = _over_all_tokens(bias, call)
        if hidden_from in ("both", "cameras"):
            call.key_bias = added if call.key_bias is None else call.key_bias + added
        if hidden_from in ("both", "patches"):
            call.patch_key_bias = added if call.patch_key_bias is None else call.patch_key_bias + added
        return (), vars(call)

    with ExitStack() as hooks:
        for index in _chosen_layers(model, layers) if hidden_from != "none" else ():
            handle = _attention(model, index).register_forward_pre_hook(hide, with_kwargs=True)
            hooks.callback(handle.remove)
        yield


@dataclass
class LookedAt:
    """Attention that every patch receives in one global layer.

    `weights[queries]` is `[B, S, h, w]` float32: the attention weight that a patch gets as a key, mean over all heads
    and over all queries of a kind (see `QUERIES`) of all frames. What is missing to a sum of 1 goes to special tokens.
    A kind of which there are no queries has NaN.
    """

    weights: dict[str, Tensor]
    num_tokens: int  # of all frames, special ones included


@dataclass
class Measurement:
    """Attention measured in the model's last forward pass."""

    layers: dict[int, LookedAt] = field(default_factory=dict)


@contextmanager
def measured_attention(
    model: Page4DModel, moving: Tensor, layers: Collection[int] | None = None
) -> Iterator[Measurement]:
    """Measure who looks at which patches in the global attention of the forward passes in the block.

    The forward pass itself is left as it is. Within `hidden_patches` or with a mask it is the attention after hiding
    and masking that is measured.

    Args:
        model: that runs in the block.
        moving: `[B, S, h, w]` bool, which patches move.
        layers: global layers to measure, from 0; by default all.

    Yields:
        What will have been measured, by layer, on the model's device.
    """
    measurement = Measurement()

    def measure(index: int, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        with torch.no_grad():
            measurement.layers[index] = _looked_at(module, _Call(*args, **kwargs), moving)

    with ExitStack() as hooks:
        for index in _chosen_layers(model, layers):
            handle = _attention(model, index).register_forward_pre_hook(partial(measure, index), with_kwargs=True)
            hooks.callback(handle.remove)
        yield measurement


@dataclass
class _Call:
    """The arguments of `Page4DAttention.forward`, whichever way they were passed."""

    hidden_states: Tensor
    rotary: Any = None
    key_bias: Tensor | None = None
    num_special_tokens: int = 0
    context: Tensor | None = None
    patch_key_bias: Tensor | None = None


def _attention(model: Page4DModel, layer: int) -> nn.Module:
    return model.aggregator.global_layers[layer].get_submodule("attention")


def _chosen_layers(model: Page4DModel, layers: Collection[int] | None) -> list[int]:
    count = model.config.num_hidden_layers
    chosen = sorted(range(count) if layers is None else set(layers))
    if chosen and not 0 <= chosen[0] <= chosen[-1] < count:
        raise EvaluationError(f"The model has global layers 0 to {count - 1}; there is no {chosen[-1]} or {chosen[0]}.")
    return chosen


def _over_all_tokens(per_patch: Tensor, call: _Call) -> Tensor:
    """`[B, S, h * w]` with the special tokens of every frame put before, as 0: `[B, S, P]`."""
    tokens = nn.functional.pad(per_patch, (call.num_special_tokens, 0))
    if tokens.shape[0] != call.hidden_states.shape[0] or tokens[0].numel() != call.hidden_states.shape[1]:
        batch, frames, patches = per_patch.shape
        raise EvaluationError(
            f"The images do not have the patches that were given, {batch} sequences of {frames} frames of {patches} "
            f"patches: the model has {call.hidden_states.shape[0]} sequences of {call.hidden_states.shape[1]} tokens, "
            f"{call.num_special_tokens} of each frame special."
        )
    return tokens.to(call.hidden_states.device)


def _looked_at(attention: Any, call: _Call, moving: Tensor) -> LookedAt:
    """Mean attention weights by kind of query."""
    batch, frames, height, width = moving.shape
    special = call.num_special_tokens
    # The kind of every token: 0 camera, 1 register, 2 a patch that stands still, 3 one that moves.
    kinds = _over_all_tokens(moving.flatten(2).long() + 2, call)
    kinds[:, :, 1:special] = 1
    kinds = kinds.flatten(1)  # [B, N]

    query, key, _ = attention.project(call.hidden_states, call.rotary)
    query, key = query.transpose(1, 2) * attention.scaling, key.transpose(1, 2)  # [B, heads, N, head_dim]
    heads, count = query.shape[1:3]
    is_special = (torch.arange(count, device=query.device) % (count // frames)) < special
    sums = torch.zeros(batch, len(QUERIES), count, device=query.device)
    step = max(1, WEIGHTS_AT_ONCE // (batch * heads * count))
    for bias, chosen in ((call.key_bias, is_special), (call.patch_key_bias, ~is_special)):
        for rows in chosen.nonzero().flatten().split(step):
            logits = (query[:, :, rows] @ key.transpose(-1, -2)).float()
            if bias is not None:
                logits = logits + bias.flatten(1)[:, None, None]
            weights = logits.softmax(dim=-1).mean(dim=1)  # [B, rows, N]
            of_kind = nn.functional.one_hot(kinds[:, rows], len(QUERIES)).to(weights.dtype)  # [B, rows, kinds]
            sums += of_kind.transpose(1, 2) @ weights
    number = torch.stack([(kinds == kind).sum(dim=1) for kind in range(len(QUERIES))], dim=1)
    # 0 / 0 is NaN: no queries of that kind.
    means = (sums / number[..., None]).view(batch, len(QUERIES), frames, -1)[..., special:]
    maps = means.unflatten(-1, (height, width)).unbind(dim=1)
    return LookedAt(dict(zip(QUERIES, maps, strict=True)), count)
