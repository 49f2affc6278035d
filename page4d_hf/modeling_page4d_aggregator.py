"""The dynamics-aware aggregator: frame and global attention in turn, in three stages, with a mask in the second."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .configuration_page4d import Page4DConfig
from .modeling_page4d_layers import (
    Page4DFloat32Module,
    Page4DLayer,
    for_every_frame,
    in_full,
    no_autocast,
    rotary_tables,
)


class Page4DMask(NamedTuple):
    """A mask head's output for every patch."""

    key_bias: Tensor  # [B, S, h * w], added at full strength to the logits of a patch as key; negative suppresses it
    dynamics: Tensor  # [B, S, h, w] in (0, 1): low = static, high = dynamic
    dynamics_logits: Tensor  # [B, S, h, w], of which the dynamics are the sigmoid


class Page4DReleaseMaskHead(Page4DFloat32Module):
    """The mask of the published checkpoint.

    A patch has the mask value `c = sigmoid(m + mean over channels of z) - 1/2` in (-1/2, 1/2), where z are the tokens,
    standardised over the patches of their frame, and m a small convolutional network of z. The bias is `mask_scale *
    c`: negative values suppress the patch and positive values favour it. The dynamics are `1/2 - c`.
    """

    def __init__(self, config: Page4DConfig):
        super().__init__()
        self.scale = config.mask_scale
        self.depthwise = nn.Conv2d(config.hidden_size, config.hidden_size, 3, padding=1, groups=config.hidden_size)
        self.pointwise = nn.Conv2d(config.hidden_size, config.mask_hidden_size, 1)
        self.output = nn.Conv2d(config.mask_hidden_size, 1, 1)

    def forward(self, patch_tokens: Tensor, height: int, width: int) -> Page4DMask:
        """Predict the mask from patch tokens `[B, S, h * w, C]`."""
        with no_autocast(patch_tokens):
            tokens = patch_tokens.to(self.depthwise.weight.dtype)
            # A frame of a single patch has no spread: its standardised tokens are 0, not NaN.
            correction = 1 if height * width > 1 else 0
            std, mean = torch.std_mean(tokens, dim=2, correction=correction, keepdim=True)
            tokens = (tokens - mean) / std.clamp(min=1e-6)
            maps = tokens.flatten(0, 1).transpose(1, 2).unflatten(-1, (height, width))  # [B * S, C, h, w]
            hidden = nn.functional.gelu(self.pointwise(nn.functional.gelu(self.depthwise(maps))))
            logits = self.output(hidden).squeeze(1) + maps.mean(dim=1)  # [B * S, h, w]
            key = torch.sigmoid(logits) - 0.5
            mask = ((self.scale * key).flatten(1), 0.5 - key, -logits)
            return Page4DMask(*[values.unflatten(0, patch_tokens.shape[:2]) for values in mask])


class Page4DPaperMaskHead(Page4DFloat32Module):
    """The mask of the paper's Section 3.2.1.

    Equation 5: `M = alpha * sigmoid(m / tau)`, with logits m from a linear projection and a depthwise convolutional
    head, and learned alpha and tau. The bias is -M. Equation 6 adds M, which as M > 0 would draw attention to dynamic
    patches; the text around it says that they are suppressed, and so they are here. The dynamics are `M / alpha`.
    """

    epsilon = 1e-6

    def __init__(self, config: Page4DConfig):
        super().__init__()
        hidden_size = config.mask_hidden_size
        self.projection = nn.Linear(config.hidden_size, hidden_size)
        self.depthwise = nn.Conv2d(hidden_size, hidden_size, 3, padding=1, groups=hidden_size)
        self.output = nn.Conv2d(hidden_size, 1, 1)
        # Of shape (1,), as sharded training (FSDP) takes no scalars.
        self.tau_logit = nn.Parameter(torch.zeros(1))
        self.alpha_logit = nn.Parameter(torch.zeros(1))

    def forward(self, patch_tokens: Tensor, height: int, width: int) -> Page4DMask:
        """Predict the mask from patch tokens `[B, S, h * w, C]`."""
        with no_autocast(patch_tokens):
            tokens = patch_tokens.to(self.projection.weight.dtype)
            maps = self.projection(tokens).flatten(0, 1).transpose(1, 2).unflatten(-1, (height, width))
            logits = self.output(nn.functional.gelu(self.depthwise(maps))).squeeze(1)  # [B * S, h, w]
            tau = nn.functional.softplus(self.tau_logit) + self.epsilon
            alpha = nn.functional.softplus(self.alpha_logit) + self.epsilon
            logits = logits / tau
            dynamics = torch.sigmoid(logits)
            mask = ((-alpha * dynamics).flatten(1), dynamics, logits)
            return Page4DMask(*[values.unflatten(0, patch_tokens.shape[:2]) for values in mask])


MASK_HEADS = {"release": Page4DReleaseMaskHead, "paper": Page4DPaperMaskHead}


class Page4DMaskSchedule(nn.Module):
    """The strength of the mask in training: 1, then a half cosine down to 0.

    The count of optimizer steps is a buffer: it is saved and restored with the weights, and no step of the training
    recompiles or waits for the device.
    """

    step: Tensor

    def __init__(self, hold_start: int, hold_end: int):
        super().__init__()
        self.hold_start = hold_start
        self.hold_end = hold_end
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def forward(self) -> Tensor:
        """The strength at `step`, a scalar in [0, 1]."""
        progress = ((self.step - self.hold_start) / (self.hold_end - self.hold_start)).clamp(0, 1)
        return 0.5 * (1 + torch.cos(math.pi * progress))


class Page4DSpecialTokens(nn.Module):
    """The learned camera and register tokens of a frame.

    The first frame has its own: it is the one whose camera is the world.
    """

    def __init__(self, config: Page4DConfig):
        super().__init__()
        self.camera = nn.Parameter(torch.zeros(1, 2, 1, config.hidden_size))
        self.register = nn.Parameter(torch.zeros(1, 2, config.num_register_tokens, config.hidden_size))

    def forward(self, patch_tokens: Tensor) -> Tensor:
        """Put the special tokens before the patch tokens: `[B, S, h * w, C]` to `[B, S, P, C]`."""
        batch_size, num_frames = patch_tokens.shape[:2]
        tokens = torch.cat((self.camera, self.register), dim=2)  # [1, 2, 1 + registers, C]
        special = for_every_frame(tokens, num_frames).expand(batch_size, -1, -1, -1)
        return torch.cat((special.to(patch_tokens.dtype), patch_tokens), dim=2)


class Page4DAggregatorOutput(NamedTuple):
    """The aggregator's output, which the heads read.

    A layer's output is a pair, of the frame block and of the global block, `[B, S, P, C]` each: the heads read the two
    side by side, and joining them only where they are read keeps one copy of each.
    """

    features: dict[int, tuple[Tensor, Tensor]]  # by layer, of the layers that were asked for
    hidden_states: tuple[Tensor, ...]  # of every layer the pair side by side, where they were asked for
    mask: Page4DMask | None  # of a network with a mask head
    attentions: tuple[Tensor, ...]  # of every frame block and global block in turn, where they were asked for


class Page4DAggregator(nn.Module):
    """Alternates attention within frames and over the whole sequence.

    Layers up to `mask_layer` are the first stage. There, between the frame block and the global block, the mask head
    looks at the patch tokens (detached: it learns, but does not move the tokens it looks at). In the second stage, the
    `masked_layers`, the camera and register queries of every frame attend globally under its bias; patch queries
    attend without, so that geometry keeps the motion. The third stage is like the first.

    Patches that the user hides have a bias of minus infinity there, with or without a mask head.
    """

    def __init__(self, config: Page4DConfig):
        super().__init__()
        self.config = config
        self.head_dim = config.hidden_size // config.num_attention_heads
        self.rope_theta = config.rope_theta
        self.num_special_tokens = 1 + config.num_register_tokens
        self.special_tokens = Page4DSpecialTokens(config)
        self.frame_layers = nn.ModuleList(self._layer(config) for _ in range(config.num_hidden_layers))
        self.global_layers = nn.ModuleList(self._layer(config) for _ in range(config.num_hidden_layers))

        if config.initialization.global_attention == "same_place":
            # Camera tokens have no place, and see no patches where all attend to their own. What a mask keeps from
            # cameras they must have seen.
            end = min(config.masked_layers, default=0) if config.mask_form is not None else len(self.global_layers)
            for index, layer in enumerate(self.global_layers[:end]):
                assert isinstance(layer, Page4DLayer)
                layer.starts_at_same_place = True
                layer.starts_with_changes = index == 0

        self.mask_layer = config.mask_layer
        self.masked_layers = frozenset(config.masked_layers)
        self.mask_head: nn.Module | None = None
        self.mask_schedule: Page4DMaskSchedule | None = None
        if config.mask_form is not None:
            self.mask_head = in_full(MASK_HEADS[config.mask_form](config))
            training = config.training
            if training.mask_hold_start is not None:
                self.mask_schedule = Page4DMaskSchedule(training.mask_hold_start, training.mask_hold_end)

    @staticmethod
    def _layer(config: Page4DConfig) -> Page4DLayer:
        return Page4DLayer(
            config,
            config.hidden_size,
            config.num_attention_heads,
            layer_norm_eps=config.layer_norm_eps,
            layerscale_value=config.initialization.layerscale_value,
            qk_norm=True,
        )

    def forward(
        self,
        patch_tokens: Tensor,
        height: int,
        width: int,
        kept_layers: Collection[int],
        mask_strength: float | Tensor | None = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
        visible: Tensor | None = None,
    ) -> Page4DAggregatorOutput:
        """Aggregate the tokens of a sequence.

        Args:
            patch_tokens: `[B, S, h * w, C]`.
            height, width: the patch grid.
            kept_layers: whose output to give. The others are not kept in memory.
            mask_strength: in [0, 1], a number or a scalar tensor. `None` for the schedule's in training, and the
                configuration's otherwise.
            output_hidden_states: whether to join every layer's pair and keep it.
            output_attentions: whether to keep the attention weights, which only eager attention has.
            visible: `[B, S, h * w]` bool, false of patches that the special queries shall not see in the masked layers.
        """
        if mask_strength is None:
            if self.training and self.mask_schedule is not None:
                mask_strength = self.mask_schedule()
            else:
                mask_strength = self.config.mask_strength
        tokens = self.special_tokens(patch_tokens)  # [B, S, P, C]
        shape = tokens.shape
        rotary = rotary_tables(
            height, width, self.num_special_tokens, self.head_dim, self.rope_theta, tokens.device, tokens.dtype
        )
        features: dict[int, tuple[Tensor, Tensor]] = {}
        hidden_states: list[Tensor] = []
        attentions: list[Tensor] = []
        mask, key_bias = None, self._key_bias(None, 0, visible)
        for index, (frame_layer, global_layer) in enumerate(zip(self.frame_layers, self.global_layers, strict=True)):
            tokens, weights = frame_layer(tokens.view(-1, *shape[2:]), rotary)  # [B * S, P, C]
            tokens = tokens.view(shape)
            frame_tokens = tokens
            if output_attentions:
                attentions.append(weights)
            if index == self.mask_layer and self.mask_head is not None:
                mask = self.mask_head(tokens[:, :, self.num_special_tokens :].detach(), height, width)
                key_bias = self._key_bias(mask, mask_strength, visible)

            masked = key_bias if index in self.masked_layers else None
            tokens, weights = global_layer(tokens.view(shape[0], -1, shape[3]), rotary, masked, self.num_special_tokens)
            tokens = tokens.view(shape)
            if output_attentions:
                attentions.append(weights)
            if output_hidden_states:
                # What follows reads the joined tensor, so that gradients reach it.
                hidden_states.append(side_by_side(frame_tokens, tokens))
                frame_tokens, tokens = hidden_states[-1].chunk(2, dim=-1)
            if index in kept_layers:
                features[index] = (frame_tokens, tokens)
        return Page4DAggregatorOutput(features, tuple(hidden_states), mask, tuple(attentions))

    def _key_bias(self, mask: Page4DMask | None, strength: float | Tensor, visible: Tensor | None) -> Tensor | None:
        """The bias of every token as a key, `[B, S, P]`: 0 for special tokens. `None` if there is none."""
        bias = None
        if mask is not None and (isinstance(strength, Tensor) or strength != 0):
            bias = strength * mask.key_bias
        if visible is not None:
            # Special tokens are always seen, so that no query is left without a key.
            bias = torch.zeros_like(visible, dtype=torch.float32) if bias is None else bias
            bias = bias.masked_fill(~visible.to(bias.device), -math.inf)
        return None if bias is None else nn.functional.pad(bias, (self.num_special_tokens, 0))


def side_by_side(frame_tokens: Tensor, global_tokens: Tensor) -> Tensor:
    """A layer's two outputs as one; the blocks may lie on different devices."""
    return torch.cat((frame_tokens.to(global_tokens.device), global_tokens), dim=-1)
