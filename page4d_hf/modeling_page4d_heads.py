"""What reads the aggregator's tokens: the camera head, and the dense head of depth and of points."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from .configuration_page4d import Page4DConfig
from .modeling_page4d_layers import Page4DFloat32Module, Page4DLayer, Page4DMLP, is_static, no_autocast

POSE_ENCODING_SIZE = 9  # translation 3, quaternion 4, fields of view 2: see geometry.py


class Page4DCameraHead(Page4DFloat32Module):
    """Refines the camera of every frame from the camera tokens, in a few iterations.

    Each iteration embeds the encoding so far (a learned one at first), modulates the tokens by it as DiT does
    (arXiv 2212.09748, adaptive layer norm with a gate), lets the frames attend to each other, and adds what it reads
    off to the encoding.
    """

    def __init__(self, config: Page4DConfig):
        super().__init__()
        hidden_size = 2 * config.hidden_size
        self.num_iterations = config.camera_num_iterations
        self.token_norm = nn.LayerNorm(hidden_size, eps=config.layer_norm_eps)
        self.empty_pose = nn.Parameter(torch.zeros(1, 1, POSE_ENCODING_SIZE))
        self.pose_embedding = nn.Linear(POSE_ENCODING_SIZE, hidden_size)
        self.modulation = nn.Linear(hidden_size, 3 * hidden_size)
        self.modulated_norm = nn.LayerNorm(hidden_size, elementwise_affine=False, eps=1e-6)
        self.layers = nn.ModuleList(
            Page4DLayer(
                config,
                hidden_size,
                config.camera_num_attention_heads,
                layer_norm_eps=config.layer_norm_eps,
                layerscale_value=config.initialization.layerscale_value,
            )
            for _ in range(config.camera_num_hidden_layers)
        )
        self.norm = nn.LayerNorm(hidden_size, eps=config.layer_norm_eps)
        self.pose_mlp = Page4DMLP(hidden_size, hidden_size // 2, POSE_ENCODING_SIZE)

    def forward(self, camera_tokens: Tensor) -> tuple[Tensor, ...]:
        """Predict cameras from tokens `[B, S, 2 C]` of the last layer: the pose encoding `[B, S, 9]` after every
        iteration, the last one being the best. Quaternions are of any norm, fields of view not negative."""
        with no_autocast(camera_tokens):
            tokens = self.token_norm(camera_tokens.to(self.token_norm.weight.dtype))
            normalised = self.modulated_norm(tokens)
            pose: Tensor | None = None
            stages = []
            for _ in range(self.num_iterations):
                # An iteration learns from its own error alone: what it embeds and adds to has no gradient.
                previous = None if pose is None else pose.detach()
                embedded = self.empty_pose.expand(*tokens.shape[:2], -1) if previous is None else previous
                condition = nn.functional.silu(self.pose_embedding(embedded))
                shift, scale, gate = self.modulation(condition).chunk(3, dim=-1)
                hidden_states = tokens + gate * (normalised * (1 + scale) + shift)
                for layer in self.layers:
                    hidden_states, _ = layer(hidden_states)
                delta = self.pose_mlp(self.norm(hidden_states))
                pose = delta if previous is None else previous + delta
                stages.append(torch.cat((pose[..., :7], nn.functional.relu(pose[..., 7:])), dim=-1))
            return tuple(stages)


class Page4DResidualUnit(nn.Module):
    """Two convolutions and a skip."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """Refine `[N, C, h, w]`."""
        # The skip carries relu(x) and not x, unlike in other DPTs: the published weights were trained with an
        # in-place ReLU before it.
        features = nn.functional.relu(features)
        refined: Tensor = self.conv2(nn.functional.relu(self.conv1(features), inplace=True))
        return features + refined


class Page4DFusionLayer(nn.Module):
    """Adds a finer level to the fused coarser ones, and brings the sum to the size of the next level."""

    def __init__(self, channels: int, has_skip: bool):
        super().__init__()
        self.skip_unit = Page4DResidualUnit(channels) if has_skip else None
        self.unit = Page4DResidualUnit(channels)
        self.projection = nn.Conv2d(channels, channels, 1)

    def forward(self, fused: Tensor | None, level: Tensor, size: tuple[int, int]) -> Tensor:
        """Fuse `[N, C, h, w]` with a level of the same shape (or start from it), to `[N, C, *size]`."""
        if self.skip_unit is not None:
            fused = fused + self.skip_unit(level)
        else:
            fused = level
        # A 1x1 convolution and a bilinear resampling, whose weights sum to 1, commute: it costs a quarter before it.
        return resize(self.projection(self.unit(fused)), size)


class Page4DDenseHead(Page4DFloat32Module):
    """A dense prediction transformer (DPT, arXiv 2103.13413): from four layers' patch tokens to a map of the image.

    Args:
        config: sizes.
        hidden_size: channels in which the levels are fused.
        out_channels: channels of the map, confidence included. `None` for a head that gives features instead, of
            `hidden_size` channels at half the resolution of the image, and that knows no positions.
    """

    _gradient_checkpointing_func: Callable[..., Tensor]  # set together with `gradient_checkpointing`

    def __init__(self, config: Page4DConfig, hidden_size: int, out_channels: int | None):
        super().__init__()
        self.patch_size = config.patch_size
        self.num_special_tokens = 1 + config.num_register_tokens
        self.frames_per_chunk = config.dense_frames_per_chunk
        self.norm = nn.LayerNorm(2 * config.hidden_size, eps=config.layer_norm_eps)
        channels = config.dense_channels
        self.projections = nn.ModuleList(nn.Conv2d(2 * config.hidden_size, c, 1) for c in channels)
        # Levels at 4, 2, 1 and 1/2 times the patch grid.
        self.resize_layers = nn.ModuleList(
            (
                nn.ConvTranspose2d(channels[0], channels[0], 4, stride=4),
                nn.ConvTranspose2d(channels[1], channels[1], 2, stride=2),
                nn.Identity(),
                nn.Conv2d(channels[3], channels[3], 3, stride=2, padding=1),
            )
        )
        self.level_convs = nn.ModuleList(nn.Conv2d(c, hidden_size, 3, padding=1, bias=False) for c in channels)
        self.fusion_layers = nn.ModuleList(Page4DFusionLayer(hidden_size, has_skip=level < 3) for level in range(4))
        self.predicts_features = out_channels is None
        # Set by `gradient_checkpointing_enable`; a chunk's activations are several times as large as a layer's.
        self.gradient_checkpointing = False
        if out_channels is None:
            self.output_conv1 = nn.Conv2d(hidden_size, hidden_size, 3, padding=1)
        else:
            self.output_conv1 = nn.Conv2d(hidden_size, hidden_size // 2, 3, padding=1)
            self.output_conv2 = nn.Conv2d(hidden_size // 2, config.dense_output_channels, 3, padding=1)
            self.output_conv3 = nn.Conv2d(config.dense_output_channels, out_channels, 1)

    def forward(self, features: Sequence[tuple[Tensor, Tensor]], image_size: tuple[int, int]) -> Tensor:
        """Predict a map for every frame.

        Args:
            features: of four layers, from early to late, the outputs of the frame block and of the global block,
                `[B, S, P, C]` each.
            image_size: (H, W) in pixels.

        Returns:
            `[B, S, out_channels, H, W]` before any activation; or features `[B, S, hidden_size, H / 2, W / 2]`.
        """
        batch = features[0][0].shape[:2]
        # One list, as reentrant checkpointing finds only those tensors that are arguments themselves.
        levels = [tokens.flatten(0, 1) for pair in features for tokens in pair]  # [B * S, P, C] each
        chunks = []
        with no_autocast(levels[0]):
            for chunk in in_chunks(levels, self.frames_per_chunk):
                if self.gradient_checkpointing and self.training:
                    chunks.append(self._gradient_checkpointing_func(self._predict, image_size, *chunk))
                else:
                    chunks.append(self._predict(image_size, *chunk))
        maps: Tensor = chunks[0] if len(chunks) == 1 else torch.cat(chunks)
        return maps.view(*batch, *maps.shape[1:])

    def _predict(self, image_size: tuple[int, int], *levels: Tensor) -> Tensor:
        """The map of a chunk of frames, from features `[N, P, C]`: of each level the frame and the global block's."""
        height, width = image_size[0] // self.patch_size, image_size[1] // self.patch_size
        aspect_ratio = image_size[1] / image_size[0]
        maps = []
        modules = (self.projections, self.resize_layers, self.level_convs)
        pairs = zip(levels[::2], levels[1::2], strict=True)
        for pair, projection, resize_layer, conv in zip(pairs, *modules, strict=True):
            tokens = torch.cat([tokens[:, self.num_special_tokens :] for tokens in pair], dim=-1)
            level = (
                self.norm(tokens.to(self.norm.weight.dtype)).transpose(1, 2).unflatten(-1, (height, width))
            )  # [N, 2 C, h, w]
            level = projection(level)
            if not self.predicts_features:
                level = add_positions(level, aspect_ratio)
            maps.append(conv(resize_layer(level)))

        fused = None
        for index in (3, 2, 1, 0):
            finer = maps[index - 1].shape[-2:] if index > 0 else (8 * height, 8 * width)
            fused = self.fusion_layers[index](fused, maps[index], finer)
        fused = self.output_conv1(fused)
        if self.predicts_features:
            return resize(fused, (image_size[0] // 2, image_size[1] // 2))
        fused = add_positions(resize(fused, image_size), aspect_ratio)
        return cast(Tensor, self.output_conv3(nn.functional.relu(self.output_conv2(fused), inplace=True)))


def in_chunks(tensors: Sequence[Tensor], size: int | None) -> list[tuple[Tensor, ...]]:
    """Cut tensors alike along their first axis, into chunks of at most `size`, or none where it is `None`.

    A graph that stands for every length has no loop over chunks: under `torch.compile` and `torch.export`, tensors of a
    dynamic length stay whole.
    """
    if size is None or not is_static(tensors[0].shape[0]):
        return [tuple(tensors)]
    return list(zip(*(tensor.split(size) for tensor in tensors), strict=True))


def resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear resampling of `[N, C, h, w]` that keeps the corners' centres."""
    return nn.functional.interpolate(maps, size=size, mode="bilinear", align_corners=True)


def add_positions(maps: Tensor, aspect_ratio: float) -> Tensor:
    """Tell features where in the image they are, in place: one half of the channels by x, the other by y.

    The image is centred and its diagonal has length 2. A coordinate u becomes 0.1 sin(w_k u) and 0.1 cos(w_k u) with
    w_k = 100^(-k / n), k = 0 ... n - 1, n being a quarter of the channels.

    Args:
        maps: `[N, C, h, w]`, C a multiple of 4.
        aspect_ratio: width over height of the image, which need not be that of the maps.

    Returns:
        `maps`.
    """
    channels, height, width = maps.shape[1:]
    diagonal = (1 + aspect_ratio**2) ** 0.5
    count = channels // 4
    frequencies = 100.0 ** (-torch.arange(count, device=maps.device, dtype=torch.float32) / count)

    def waves(extent: float, size: int) -> Tensor:  # [C / 2, size]
        # The extent is that of the pixels, and what counts is their centre.
        if is_static(size):
            last = extent * (size - 1) / size
            centres = torch.linspace(-last, last, size, device=maps.device)
        else:  # the same, of a size that linspace does not take
            centres = (2 * torch.arange(size, device=maps.device) - (size - 1)) * (extent / size)
        angles = frequencies[:, None] * centres
        return 0.1 * torch.cat((angles.sin(), angles.cos()))

    maps[:, : 2 * count] += waves(aspect_ratio / diagonal, width)[:, None, :]
    maps[:, 2 * count :] += waves(1 / diagonal, height)[:, :, None]
    return maps
