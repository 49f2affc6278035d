"""The track head: follows points of the first frame through the sequence.

It is VGGT's, after CoTracker (arXiv 2307.07635). The authors of PAGE-4D leave it untrained, so that its published
weights are VGGT's too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .configuration_page4d import Page4DConfig
from .modeling_page4d_heads import Page4DDenseHead, in_chunks
from .modeling_page4d_layers import Page4DAttention, Page4DFloat32Module, Page4DMLP, for_every_frame, no_autocast

FEATURE_STRIDE = 2  # the tracked features have half the resolution of the image
DISPLACEMENT_SCALE = 518.0  # displacements are told to the transformer in units of so many feature pixels


class Page4DTracks(NamedTuple):
    """Where the points are seen in every frame."""

    points: Tensor  # [B, S, N, 2], (x, y) in pixels of the image
    visibility: Tensor  # [B, S, N], probability that the point is not occluded
    confidence: Tensor  # [B, S, N], probability that the track is right


class Page4DTrackBlock(nn.Module):
    """Attention and an MLP, either among tokens or from tokens to a context.

    The residual branch starts from the normalised tokens, not from the tokens: the published weights expect it.
    """

    def __init__(self, config: Page4DConfig, has_context: bool = False):
        super().__init__()
        hidden_size = config.track_transformer_size
        self.norm1 = nn.LayerNorm(hidden_size)
        self.context_norm = nn.LayerNorm(hidden_size) if has_context else None
        self.attention = Page4DAttention(config, hidden_size, config.track_num_attention_heads, qk_norm=False)
        self.norm2 = nn.LayerNorm(hidden_size)
        self.mlp = Page4DMLP(hidden_size, int(hidden_size * config.mlp_ratio), hidden_size)

    def forward(self, tokens: Tensor, context: Tensor | None = None) -> Tensor:
        """Map tokens `[N, K, C]`, and a context `[N, M, C]` if the block has one, to `[N, K, C]`."""
        tokens = self.norm1(tokens)
        if self.context_norm is not None:
            context = self.context_norm(context)
        attended, _ = self.attention(tokens, context=context)
        tokens = tokens + attended
        return tokens + cast(Tensor, self.mlp(self.norm2(tokens)))


class Page4DTrackSpaceLayer(nn.Module):
    """Lets the tracks of a frame exchange information through a few virtual ones, at a cost linear in the tracks."""

    def __init__(self, config: Page4DConfig):
        super().__init__()
        self.gather = Page4DTrackBlock(config, has_context=True)
        self.mix = Page4DTrackBlock(config)
        self.scatter = Page4DTrackBlock(config, has_context=True)

    def forward(self, points: Tensor, virtual: Tensor) -> tuple[Tensor, Tensor]:
        """Update the tokens of tracks `[B * S, N, C]` and of virtual tracks `[B * S, V, C]`."""
        virtual = self.mix(self.gather(virtual, points))
        return self.scatter(points, virtual), virtual


class Page4DTrackTransformer(nn.Module):
    """Attends along every track and, through virtual tracks, across the tracks of every frame."""

    def __init__(self, config: Page4DConfig, in_features: int, out_features: int):
        super().__init__()
        self.input_norm = nn.LayerNorm(in_features)
        self.input_projection = nn.Linear(in_features, config.track_transformer_size)
        self.virtual_tracks = nn.Parameter(
            torch.zeros(1, config.track_num_virtual_tracks, 1, config.track_transformer_size)
        )
        layers = range(config.track_num_hidden_layers)
        self.time_layers = nn.ModuleList(Page4DTrackBlock(config) for _ in layers)
        self.space_layers = nn.ModuleList(Page4DTrackSpaceLayer(config) for _ in layers)
        self.output_norm = nn.LayerNorm(config.track_transformer_size)
        self.output_projection = nn.Linear(config.track_transformer_size, out_features)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map `[B, N, S, in_features]` to `[B, N, S, out_features]`."""
        batch_size, num_points, num_frames = inputs.shape[:3]
        embedded = self.input_projection(self.input_norm(inputs))
        tokens = torch.cat((embedded, self.virtual_tracks.expand(batch_size, -1, num_frames, -1)), dim=1)
        for time_layer, space_layer in zip(self.time_layers, self.space_layers, strict=True):
            tokens = time_layer(tokens.flatten(0, 1)).unflatten(0, (batch_size, -1))
            by_frame = tokens.transpose(1, 2).flatten(0, 1)  # [B * S, N + V, C]
            points, virtual = space_layer(by_frame[:, :num_points], by_frame[:, num_points:])
            tokens = torch.cat((points, virtual), dim=1).unflatten(0, (batch_size, -1)).transpose(1, 2)
        return cast(Tensor, self.output_projection(self.output_norm(tokens[:, :num_points] + embedded)))


class Page4DTrackHead(Page4DFloat32Module):
    """Tracks points by correlating their features with every frame, and refining.

    Each iteration correlates a track's feature with windows around where it is thought to be, at several scales, and
    a transformer over tracks and frames updates place and feature.
    """

    def __init__(self, config: Page4DConfig):
        super().__init__()
        hidden_size = config.track_hidden_size
        self.num_iterations = config.track_num_iterations
        self.num_levels = config.track_corr_levels
        self.radius = config.track_corr_radius
        self.frames_per_chunk = config.dense_frames_per_chunk
        self.feature_extractor = Page4DDenseHead(config, hidden_size, out_channels=None)
        self.feature_norm = nn.LayerNorm(hidden_size)
        correlations = self.num_levels * (2 * self.radius + 1) ** 2
        self.correlation_mlp = Page4DMLP(correlations, config.track_transformer_size, hidden_size)
        # Displacement (waves, and twice as it is), correlation and feature.
        self.input_size = hidden_size + 4 + hidden_size + hidden_size
        self.frame_tokens = nn.Parameter(torch.zeros(1, 2, self.input_size))  # of the first frame, of the others
        self.transformer = Page4DTrackTransformer(config, self.input_size, 2 + hidden_size)
        self.update_norm = nn.LayerNorm(hidden_size)
        self.update_projection = nn.Linear(hidden_size, hidden_size)
        self.visibility = nn.Linear(hidden_size, 1)
        self.confidence = nn.Linear(hidden_size, 1)

    def forward(
        self, features: Sequence[tuple[Tensor, Tensor]], image_size: tuple[int, int], query_points: Tensor
    ) -> Page4DTracks:
        """Track points.

        Args:
            features: of the aggregator, as for `Page4DDenseHead`.
            image_size: (H, W) in pixels.
            query_points: `[B, N, 2]`, (x, y) in pixels of the first frame, the first pixel's centre being 0.
        """
        with no_autocast(query_points):
            maps = self.feature_extractor(features, image_size)  # [B, S, C, h, w]
            maps = self.feature_norm(maps.movedim(2, -1)).movedim(-1, 2)
            return self._track(maps, query_points.to(maps.dtype) / FEATURE_STRIDE)

    def _track(self, maps: Tensor, queries: Tensor) -> Page4DTracks:
        num_frames = maps.shape[1]
        height, width = maps.shape[-2:]
        pyramid = self._pyramid(maps)
        track_features = sample_at(maps[:, 0], queries, "border")[:, :, None].expand(-1, -1, num_frames, -1)
        points = queries[:, :, None].expand(-1, -1, num_frames, -1)  # [B, N, S, 2]
        frame_tokens = for_every_frame(self.frame_tokens, num_frames)
        # Where a track starts, and which frame is the first: [B, N, S, D].
        context = sampled_position_waves(queries, self.input_size, height, width)[:, :, None] + frame_tokens[:, None]

        is_first = torch.arange(num_frames, device=points.device) == 0
        for _ in range(self.num_iterations):
            points = points.detach()
            displacement = points - points[:, :, :1]
            inputs = (
                displacement_waves(displacement, track_features.shape[-1] // 2),
                displacement / DISPLACEMENT_SCALE,
                displacement / DISPLACEMENT_SCALE,
                self.correlation_mlp(self._correlate(pyramid, track_features, points)),
                track_features,
            )
            delta = self.transformer(torch.cat(inputs, dim=-1) + context)
            track_features = track_features + F.gelu(self.update_projection(self.update_norm(delta[..., 2:])))
            # In the first frame the points are where they were asked for.
            points = torch.where(is_first[:, None], queries[:, :, None], points + delta[..., :2])
        visibility, confidence = self.visibility(track_features), self.confidence(track_features)
        return Page4DTracks(
            FEATURE_STRIDE * points.transpose(1, 2),
            visibility.sigmoid().squeeze(-1).mT,
            confidence.sigmoid().squeeze(-1).mT,
        )

    def _pyramid(self, maps: Tensor) -> list[Tensor]:
        """The maps `[B * S, C, h, w]` at every level, each half the size of the one before but never empty."""
        levels = [maps.flatten(0, 1)]
        while len(levels) < self.num_levels:
            kernel = (min(2, levels[-1].shape[-2]), min(2, levels[-1].shape[-1]))
            levels.append(F.avg_pool2d(levels[-1], kernel, stride=kernel))
        return levels

    def _correlate(self, pyramid: list[Tensor], track_features: Tensor, points: Tensor) -> Tensor:
        """Correlate the tracks' features `[B, N, S, C]` with windows around points `[B, N, S, 2]`.

        Sampling is linear, so features are sampled first and multiplied then: the correlation with the whole map never
        exists.

        Returns:
            `[B, N, S, levels * window]`.
        """
        batch_size = track_features.shape[0]
        targets = track_features.transpose(1, 2).flatten(0, 1)  # [B * S, N, C]
        centres = points.transpose(1, 2).flatten(0, 1)  # [B * S, N, 2]
        steps = torch.arange(-self.radius, self.radius + 1, device=points.device, dtype=points.dtype)
        # The published weights expect windows in which x varies slowest.
        window = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), dim=-1).flatten(0, 1)  # [window, 2]
        correlations = []
        for level, maps in enumerate(pyramid):
            places = centres[:, :, None] / 2**level + window  # [B * S, N, window, 2]
            chunks = []
            for of_maps, at, to in in_chunks((maps, places, targets), self.frames_per_chunk):
                sampled = sample_at(of_maps, at.flatten(1, 2), "zeros").unflatten(1, at.shape[1:3])
                chunks.append((sampled @ to[..., None]).squeeze(-1))  # [chunk, N, window, C] by [chunk, N, C, 1]
            correlations.append(torch.cat(chunks))
        scaled = torch.cat(correlations, dim=-1) / math.sqrt(targets.shape[-1])
        return cast(Tensor, scaled.unflatten(0, (batch_size, -1))).transpose(1, 2)


def sample_at(maps: Tensor, points: Tensor, padding_mode: str) -> Tensor:
    """Sample maps bilinearly.

    Args:
        maps: `[N, C, h, w]`.
        points: `[N, K, 2]`, (x, y) in pixels of the map, the first pixel's centre being 0. Along a side of one pixel
            they all lie at its centre: the published weights expect it of the coarsest level of small images.
        padding_mode: what lies outside, `"zeros"` or `"border"`.

    Returns:
        `[N, K, C]`.
    """
    height, width = maps.shape[-2:]
    x, y = points[..., 0] * min(width - 1, 1), points[..., 1] * min(height - 1, 1)
    grid = torch.stack(((2 * x + 1) / width - 1, (2 * y + 1) / height - 1), dim=-1)
    sampled = F.grid_sample(maps, grid[:, :, None], padding_mode=padding_mode, align_corners=False)  # [N, C, K, 1]
    return sampled.squeeze(-1).transpose(1, 2)


def displacement_waves(displacement: Tensor, channels: int) -> Tensor:
    """Sines and cosines `[..., 2 * channels]` of displacements `[..., 2]` in pixels: those of x, then those of y, sine
    and cosine of a frequency beside each other. The frequencies are multiples of 2000 / channels."""
    steps = torch.arange(0, channels, 2, device=displacement.device, dtype=displacement.dtype)
    angles = displacement[..., None] * (steps * (1000.0 / channels))  # [..., 2, channels / 2]
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-3)


def sampled_position_waves(points: Tensor, channels: int, height: int, width: int) -> Tensor:
    """Sines and cosines `[..., channels]` of places `[..., 2]`, (x, y) in pixels of a map, known at whole pixels and
    interpolated between them. Half of the channels, a multiple of 4, are for x and half for y; points outside the map
    count as on its border."""
    count = channels // 4
    frequencies = 10000.0 ** (-torch.arange(count, device=points.device, dtype=points.dtype) / count)
    waves = []
    for place, size in ((points[..., 0], width), (points[..., 1], height)):
        place = place.clamp(0, size - 1)
        lower = place.floor()
        ends = []
        for pixel in (lower, (lower + 1).clamp(max=size - 1)):
            angles = pixel[..., None] * frequencies
            ends.append(torch.cat((angles.sin(), angles.cos()), dim=-1))
        waves.append(torch.lerp(ends[0], ends[1], (place - lower)[..., None]))
    return torch.cat(waves, dim=-1)
