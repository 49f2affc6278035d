"""The transformer layer that the encoder, the aggregator and the camera head are made of."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, TypeVar, cast

import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .configuration_page4d import Page4DConfig

# The attention implementations that add a bias to the logits. Flash kernels cannot.
IMPLEMENTATIONS_WITH_BIAS = ("eager", "sdpa")

Module = TypeVar("Module", bound=nn.Module)


class Page4DFloat32Module(nn.Module):
    """A module that stays in float32 (or finer) when the model is cast to a half precision.

    `from_pretrained(dtype=...)` learns this from `_keep_in_fp32_modules_strict`; `.to(torch.bfloat16)`, `.half()` and
    the like only ever reach `_apply`.
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Page4DFloat32Module:
        def apply_but_keep_precision(tensor: Tensor) -> Tensor:
            out = fn(tensor)
            if out.is_floating_point() and out.dtype.itemsize < 4 <= tensor.dtype.itemsize:
                return tensor.to(out.device)
            return out

        super()._apply(apply_but_keep_precision, recurse)  # type: ignore[no-untyped-call]  # of the library
        return self


def in_full(module: Module) -> Module:
    """A new module in float32 (or finer), as the library may build models under another default dtype."""
    return module.to(torch.promote_types(torch.get_default_dtype(), torch.float32))


def no_autocast(tensor: Tensor) -> AbstractContextManager[Any]:
    """A context in which no autocast lowers the precision of what is computed on the tensor's device."""
    device_type = tensor.device.type
    if torch.amp.is_autocast_available(device_type):
        return torch.autocast(device_type, enabled=False)
    return nullcontext()  # the meta device has none


def is_static(size: int) -> bool:
    """Whether a size is a number: in a graph of `torch.compile` or `torch.export` it may stand for many."""
    if not torch.compiler.is_compiling():
        return True
    from torch.fx.experimental.symbolic_shapes import has_static_value

    return has_static_value(size)


def for_every_frame(tokens: Tensor, num_frames: int) -> Tensor:
    """Parameters `[1, 2, ...]` for S frames, `[1, S, ...]`: entry 0 for the first frame, entry 1 for every other."""
    # Chosen rather than expanded: in a graph with any number of frames, the others may be one or many.
    is_first = torch.arange(num_frames, device=tokens.device) == 0
    return torch.where(is_first.view(-1, *[1] * (tokens.ndim - 2)), tokens[:, :1], tokens[:, 1:])


class Page4DRotaryTables(NamedTuple):
    """Cosines and signed sines of the 2-D rotary embedding, for the tokens of one frame."""

    cos: Tensor  # [P, head_dim]
    sin: Tensor  # [P, head_dim], negative where the partner is subtracted


def rotary_tables(
    height: int,
    width: int,
    num_special_tokens: int,
    head_dim: int,
    theta: float,
    device: torch.device,
    dtype: torch.dtype,
) -> Page4DRotaryTables:
    """Tables of the 2-D rotary position embedding (RoFormer, arXiv 2104.09864, one half of a head for each axis).

    Patches have positions (y, x) that start at 1. Special tokens come first and are at (0, 0): they are not rotated.

    Args:
        height, width: the patch grid.
        num_special_tokens: how many tokens of a frame come before the patches.
        head_dim: width of a head, a multiple of 4: the first half turns by y, the second by x.
        theta: base of the frequencies.
        device, dtype: of the tables; they are computed in float32.

    Returns:
        Tables of shape `[num_special_tokens + height * width, head_dim]`.
    """
    half = head_dim // 2
    frequencies = theta ** (-torch.arange(0, half, 2, device=device, dtype=torch.float32) / half)  # [D/4]
    y = torch.arange(1, height + 1, device=device, dtype=torch.float32)[:, None] * frequencies
    x = torch.arange(1, width + 1, device=device, dtype=torch.float32)[:, None] * frequencies
    angles = torch.stack((y[:, None].expand(-1, width, -1), x[None].expand(height, -1, -1)), dim=2)  # [h, w, 2, D/4]
    angles = torch.nn.functional.pad(angles.flatten(0, 1), (0, 0, 0, 0, num_special_tokens, 0))  # [P, 2, D/4]
    cos, sin = angles.cos(), angles.sin()
    # Channel i of a half is paired with channel i + D/4: (a, b) turns to (a cos - b sin, b cos + a sin).
    return Page4DRotaryTables(
        torch.stack((cos, cos), dim=2).flatten(1).to(dtype), torch.stack((-sin, sin), dim=2).flatten(1).to(dtype)
    )


def apply_rotary(states: Tensor, tables: Page4DRotaryTables) -> Tensor:
    """Rotate queries or keys `[B, N, heads, head_dim]` by the tables of one frame, whose P tokens N is a multiple of:
    all frames share positions."""
    frames = states.unflatten(1, (-1, tables.cos.shape[0]))  # [B, N / P, P, heads, head_dim]
    partners = frames.unflatten(-1, (2, 2, -1)).flip(-2).flatten(-3)
    cos, sin = tables.cos[:, None], tables.sin[:, None]  # [P, 1, head_dim]
    return torch.addcmul(frames * cos, partners, sin).flatten(1, 2)


def eager_attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, Tensor]:
    """Attention with its weights in memory.

    Args:
        query, key, value: `[B, heads, N, head_dim]`.
        attention_mask: added to the logits, broadcastable to `[B, heads, N_query, N_key]`.
        scaling: factor on the products.

    Returns:
        `[B, N_query, heads, head_dim]` and the weights `[B, heads, N_query, N_key]`.
    """
    logits = (query * scaling) @ key.transpose(-1, -2)
    if attention_mask is not None:
        logits = logits + attention_mask
    # Kernels compute a half precision's softmax in float32 and round once. To ask for float32 here would give the same
    # weights, by way of two more copies of them: twice the time of a training step's attention on CPUs.
    weights = logits.softmax(dim=-1)
    return (weights @ value).transpose(1, 2).contiguous(), weights


class Page4DAttention(nn.Module):
    """Multi-head attention with optional qk-norm, rotary embedding and bias for the special queries."""

    def __init__(self, config: Page4DConfig, hidden_size: int, num_heads: int, qk_norm: bool):
        super().__init__()
        self.config = config
        self.num_heads = num_heads
        self.head_dim = hidden_size // num_heads
        self.scaling = self.head_dim**-0.5
        self.is_causal = False
        self.q_proj = nn.Linear(hidden_size, hidden_size)
        self.k_proj = nn.Linear(hidden_size, hidden_size)
        self.v_proj = nn.Linear(hidden_size, hidden_size)
        self.o_proj = nn.Linear(hidden_size, hidden_size)
        self.q_norm = nn.LayerNorm(self.head_dim, eps=config.layer_norm_eps) if qk_norm else nn.Identity()
        self.k_norm = nn.LayerNorm(self.head_dim, eps=config.layer_norm_eps) if qk_norm else nn.Identity()

    def forward(
        self,
        hidden_states: Tensor,
        rotary: Page4DRotaryTables | None = None,
        key_bias: Tensor | None = None,
        num_special_tokens: int = 0,
        context: Tensor | None = None,
        patch_key_bias: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Let tokens attend to each other, or to a context.

        Args:
            hidden_states: `[B, N, C]`.
            rotary: tables for P tokens, N being a multiple of P.
            key_bias: `[B, S, P]` with S * P = N, a bias on the attention logits that depends on the key, for the
                special queries of every frame only.
            num_special_tokens: the first so many tokens of every frame are special.
            context: `[B, M, C]`, the tokens that are attended to if not the same.
            patch_key_bias: the same as `key_bias` for the patch queries. The network itself never has one: it is for
                experiments, which pass it in a forward pre-hook.

        Returns:
            `[B, N, C]`, and with eager attention the weights `[B, heads, N, N or M]`, otherwise `None`.
        """
        query, key, value = self.project(hidden_states, rotary, context)
        key, value = key.transpose(1, 2), value.transpose(1, 2)  # [B, heads, N, head_dim]

        if key_bias is None and patch_key_bias is None:
            attended, weights = self._attend(query.transpose(1, 2), key, value, None)
        else:
            # A bias r_i c_j with r = 0 for every patch query is two plain attentions over the same keys: the patch
            # queries without a bias, and the few special queries with one row over the keys. Nothing is padded, and no
            # bias of N x N exists.
            num_frames = next(bias.shape[1] for bias in (key_bias, patch_key_bias) if bias is not None)
            frames = query.unflatten(1, (num_frames, -1))  # [B, S, P, heads, head_dim]
            special = frames[:, :, :num_special_tokens].flatten(1, 2).transpose(1, 2)
            patches = frames[:, :, num_special_tokens:].flatten(1, 2).transpose(1, 2)
            from_special, special_weights = self._attend(special, key, value, _one_row(key_bias, query.dtype))
            from_patches, patches_weights = self._attend(patches, key, value, _one_row(patch_key_bias, query.dtype))
            attended, weights = _join_queries(from_special, from_patches, num_frames, dim=1), None
            if special_weights is not None and patches_weights is not None:
                weights = _join_queries(special_weights, patches_weights, num_frames, dim=2)
        return self.o_proj(attended.flatten(-2)), weights

    def project(
        self, hidden_states: Tensor, rotary: Page4DRotaryTables | None = None, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries `[B, N, heads, head_dim]`, keys and values of tokens, as they meet: normalised and rotated."""
        heads = (-1, self.head_dim)
        query = self.q_norm(self.q_proj(hidden_states).unflatten(-1, heads))
        attended_to = hidden_states if context is None else context
        key = self.k_norm(self.k_proj(attended_to).unflatten(-1, heads))
        value = self.v_proj(attended_to).unflatten(-1, heads)
        if rotary is not None:
            query, key = apply_rotary(query, rotary), apply_rotary(key, rotary)
        return query, key, value

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Attention of `[B, heads, N, head_dim]` by the implementation that is set, to `[B, N_query, heads, head_dim]`.

        Kernels that know no bias leave it to sdpa, and flash kernels, which know only half precisions, the others too.
        Under autocast values are in a half precision, and normalised or rotated queries and keys in float32.
        """
        implementation = self.config._attn_implementation
        no_bias = implementation not in IMPLEMENTATIONS_WITH_BIAS
        only_halves = "flash" in (implementation or "")
        if (no_bias and bias is not None) or (only_halves and value.dtype.itemsize > 2):
            implementation = "sdpa"
        elif only_halves:
            query, key = query.to(value.dtype), key.to(value.dtype)
        attention = ALL_ATTENTION_FUNCTIONS.get_interface(implementation, eager_attention_forward)
        attended: tuple[Tensor, Tensor | None] = attention(
            self, query, key, value, bias, dropout=0.0, scaling=self.scaling
        )
        return attended


def _one_row(key_bias: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """A bias of keys `[B, S, P]` as one row for all queries and heads, `[B, 1, 1, N]`."""
    return None if key_bias is None else key_bias.flatten(1)[:, None, None].to(dtype)


def _join_queries(special: Tensor, patches: Tensor, num_frames: int, dim: int) -> Tensor:
    """Put what special and patch queries gave back into the order of the sequence, frame by frame."""
    frames = (special.unflatten(dim, (num_frames, -1)), patches.unflatten(dim, (num_frames, -1)))
    return torch.cat(frames, dim=dim + 1).flatten(dim, dim + 1)


class Page4DMLP(nn.Module):
    """Two linear maps with an activation between them."""

    def __init__(self, in_features: int, hidden_features: int, out_features: int, hidden_act: str = "gelu"):
        super().__init__()
        self.fc1 = nn.Linear(in_features, hidden_features)
        self.activation = ACT2FN[hidden_act]
        self.fc2 = nn.Linear(hidden_features, out_features)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Map `[..., in_features]` to `[..., out_features]`."""
        hidden_states = self.activation(self.fc1(hidden_states))
        return cast(Tensor, self.fc2(hidden_states))


class Page4DLayer(GradientCheckpointingLayer):
    """A pre-norm transformer layer with layer scale."""

    def __init__(
        self,
        config: Page4DConfig,
        hidden_size: int,
        num_heads: int,
        *,
        layer_norm_eps: float,
        layerscale_value: float,
        qk_norm: bool = False,
    ):
        super().__init__()
        self.layerscale_value = layerscale_value
        self.starts_at_same_place = self.starts_with_changes = False  # see initialization_page4d.py
        self.norm1 = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.attention = Page4DAttention(config, hidden_size, num_heads, qk_norm)
        self.layer_scale1 = nn.Parameter(torch.full((hidden_size,), float(layerscale_value)))
        self.norm2 = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.mlp = Page4DMLP(hidden_size, int(hidden_size * config.mlp_ratio), hidden_size, config.hidden_act)
        self.layer_scale2 = nn.Parameter(torch.full((hidden_size,), float(layerscale_value)))

    def forward(
        self,
        hidden_states: Tensor,
        rotary: Page4DRotaryTables | None = None,
        key_bias: Tensor | None = None,
        num_special_tokens: int = 0,
    ) -> tuple[Tensor, Tensor | None]:
        """Map `[B, N, C]` to `[B, N, C]`, and to the attention weights `[B, heads, N, N]` where attention is eager."""
        attended, weights = self.attention(self.norm1(hidden_states), rotary, key_bias, num_special_tokens)
        hidden_states = torch.addcmul(hidden_states, attended, self.layer_scale1)
        hidden_states = torch.addcmul(hidden_states, self.mlp(self.norm2(hidden_states)), self.layer_scale2)
        return hidden_states, weights
