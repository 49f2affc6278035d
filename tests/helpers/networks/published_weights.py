"""State dicts as PAGE-4D and VGGT publish them: names and shapes written down by hand, at any size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Sizes:
    """Of a network; the defaults are small, but for the depth, which is the published one."""

    width: int = 24
    heads: int = 3
    patch: int = 7
    grid: int = 5
    encoder_depth: int = 2
    encoder_registers: int = 3
    depth: int = 24
    registers: int = 2
    mlp_ratio: int = 2
    mask_hidden: int = 10
    camera_depth: int = 1
    dense: int = 40
    dense_channels: tuple[int, int, int, int] = (4, 8, 12, 16)
    dense_output: int = 6
    track: int = 20
    track_width: int = 32
    track_depth: int = 1
    virtual_tracks: int = 9
    correlation_levels: int = 3


FULL_SIZE = Sizes(
    width=1024, heads=16, patch=14, grid=37, encoder_depth=24, encoder_registers=4, depth=24, registers=4, mlp_ratio=4,
    mask_hidden=256, camera_depth=4, dense=256, dense_channels=(256, 512, 1024, 1024), dense_output=32, track=128,
    track_width=384, track_depth=6, virtual_tracks=64, correlation_levels=7,
)  # fmt: skip

Shapes = Iterator[tuple[str, tuple[int, ...]]]


def linear(name: str, inputs: int, outputs: int) -> Shapes:
    yield f"{name}.weight", (outputs, inputs)
    yield f"{name}.bias", (outputs,)


def norm(name: str, width: int) -> Shapes:
    yield f"{name}.weight", (width,)
    yield f"{name}.bias", (width,)


def conv(name: str, inputs: int, outputs: int, size: int, bias: bool = True) -> Shapes:
    yield f"{name}.weight", (outputs, inputs, size, size)
    if bias:
        yield f"{name}.bias", (outputs,)


def block(name: str, width: int, mlp_ratio: int, head_dim: int | None = None) -> Shapes:
    yield from norm(f"{name}.norm1", width)
    yield from linear(f"{name}.attn.qkv", width, 3 * width)
    if head_dim is not None:
        yield from norm(f"{name}.attn.q_norm", head_dim)
        yield from norm(f"{name}.attn.k_norm", head_dim)
    yield from linear(f"{name}.attn.proj", width, width)
    yield f"{name}.ls1.gamma", (width,)
    yield from norm(f"{name}.norm2", width)
    yield from linear(f"{name}.mlp.fc1", width, mlp_ratio * width)
    yield from linear(f"{name}.mlp.fc2", mlp_ratio * width, width)
    yield f"{name}.ls2.gamma", (width,)


def aggregator(s: Sizes, mask: bool) -> Shapes:
    encoder = "aggregator.patch_embed"
    yield f"{encoder}.cls_token", (1, 1, s.width)
    yield f"{encoder}.pos_embed", (1, s.grid**2 + 1, s.width)
    yield f"{encoder}.register_tokens", (1, s.encoder_registers, s.width)
    yield f"{encoder}.mask_token", (1, s.width)
    yield from conv(f"{encoder}.patch_embed.proj", 3, s.width, s.patch)
    for i in range(s.encoder_depth):
        yield from block(f"{encoder}.blocks.{i}", s.width, s.mlp_ratio)
    yield from norm(f"{encoder}.norm", s.width)
    yield "aggregator.camera_token", (1, 2, 1, s.width)
    yield "aggregator.register_token", (1, 2, s.registers, s.width)
    for kind in ("frame", "global"):
        for i in range(s.depth):
            yield from block(f"aggregator.{kind}_blocks.{i}", s.width, s.mlp_ratio, s.width // s.heads)
    if mask:
        head = "aggregator.spatial_mask_head.head0"
        yield from conv(f"{head}.0", 1, s.width, 3)
        yield from conv(f"{head}.2", s.width, s.mask_hidden, 1)
        yield from conv(f"{head}.4", s.mask_hidden, 1, 1)


def camera_head(s: Sizes) -> Shapes:
    width = 2 * s.width
    yield "camera_head.empty_pose_tokens", (1, 1, 9)
    yield from linear("camera_head.embed_pose", 9, width)
    yield from linear("camera_head.poseLN_modulation.1", width, 3 * width)
    for i in range(s.camera_depth):
        yield from block(f"camera_head.trunk.{i}", width, s.mlp_ratio)
    yield from norm("camera_head.token_norm", width)
    yield from norm("camera_head.trunk_norm", width)
    yield from linear("camera_head.pose_branch.fc1", width, width // 2)
    yield from linear("camera_head.pose_branch.fc2", width // 2, 9)


def dense_head(name: str, s: Sizes, features: int, outputs: int | None) -> Shapes:
    c = s.dense_channels
    yield from norm(f"{name}.norm", 2 * s.width)
    for i in range(4):
        yield from conv(f"{name}.projects.{i}", 2 * s.width, c[i], 1)
    yield from conv(f"{name}.resize_layers.0", c[0], c[0], 4)
    yield from conv(f"{name}.resize_layers.1", c[1], c[1], 2)
    yield from conv(f"{name}.resize_layers.3", c[3], c[3], 3)
    for i in range(4):
        yield from conv(f"{name}.scratch.layer{i + 1}_rn", c[i], features, 3, bias=False)
    for i in (1, 2, 3, 4):
        refinenet = f"{name}.scratch.refinenet{i}"
        for unit in ("resConfUnit1", "resConfUnit2") if i < 4 else ("resConfUnit2",):
            yield from conv(f"{refinenet}.{unit}.conv1", features, features, 3)
            yield from conv(f"{refinenet}.{unit}.conv2", features, features, 3)
        yield from conv(f"{refinenet}.out_conv", features, features, 1)
    if outputs is None:
        yield from conv(f"{name}.scratch.output_conv1", features, features, 3)
    else:
        yield from conv(f"{name}.scratch.output_conv1", features, features // 2, 3)
        yield from conv(f"{name}.scratch.output_conv2.0", features // 2, s.dense_output, 3)
        yield from conv(f"{name}.scratch.output_conv2.2", s.dense_output, outputs, 1)


def track_head(s: Sizes) -> Shapes:
    tracker, width = "track_head.tracker", s.track_width
    token = 3 * s.track + 4
    yield from dense_head("track_head.feature_extractor", s, s.track, None)
    yield from norm(f"{tracker}.fmap_norm", s.track)
    yield from norm(f"{tracker}.ffeat_norm", s.track)
    yield from linear(f"{tracker}.corr_mlp.fc1", s.correlation_levels * 9 * 9, width)
    yield from linear(f"{tracker}.corr_mlp.fc2", width, s.track)
    yield f"{tracker}.query_ref_token", (1, 2, token)
    yield from linear(f"{tracker}.ffeat_updater.0", s.track, s.track)
    yield from linear(f"{tracker}.vis_predictor.0", s.track, 1)
    yield from linear(f"{tracker}.conf_predictor.0", s.track, 1)
    former = f"{tracker}.updateformer"
    yield from norm(f"{former}.input_norm", token)
    yield from linear(f"{former}.input_transform", token, width)
    yield from norm(f"{former}.output_norm", width)
    yield from linear(f"{former}.flow_head", width, s.track + 2)
    yield f"{former}.virual_tracks", (1, s.virtual_tracks, 1, width)
    for i in range(s.track_depth):
        for kind in ("time", "space_virtual", "space_point2virtual", "space_virtual2point"):
            crosses = "2" in kind
            name = f"{former}.{kind}_blocks.{i}"
            attention = f"{name}.{'cross_attn' if crosses else 'attn'}"
            for which in ("norm1", "norm_context", "norm2") if crosses else ("norm1", "norm2"):
                yield from norm(f"{name}.{which}", width)
            yield f"{attention}.in_proj_weight", (3 * width, width)
            yield f"{attention}.in_proj_bias", (3 * width,)
            yield from linear(f"{attention}.out_proj", width, width)
            yield from linear(f"{name}.mlp.fc1", width, s.mlp_ratio * width)
            yield from linear(f"{name}.mlp.fc2", s.mlp_ratio * width, width)


def published_shapes(s: Sizes | None = None, *, mask: bool = True, track: bool = False) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all weights."""
    s = s or Sizes()
    shapes = [*aggregator(s, mask), *camera_head(s), *dense_head("depth_head", s, s.dense, 2)]
    shapes += dense_head("point_head", s, s.dense, 4)
    if track:
        shapes += track_head(s)
    return dict(shapes)


def published_weights(
    s: Sizes | None = None, *, mask: bool = True, track: bool = False, device: str = "cpu"
) -> dict[str, Tensor]:
    """Random weights under those names; on the meta device they take no memory."""
    generator = torch.Generator(device).manual_seed(0) if device != "meta" else None
    return {
        name: torch.randn(shape, generator=generator, device=device)
        for name, shape in published_shapes(s, mask=mask, track=track).items()
    }
