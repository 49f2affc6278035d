"""Networks that are small enough to test with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from page4d_hf import Page4DConfig, Page4DImageProcessor, Page4DModel, Page4DOutput
from page4d_hf.configuration_page4d import GROUPS

NUM_SPECIAL = 5  # camera and register tokens of a frame
NUM_LAYERS = 5
PREDICTIONS = ["pose_enc", "depth", "depth_conf", "world_points", "world_points_conf", "dynamics_mask"]
# All parts of the published network, a few numbers wide. Its weights are large and its layer scale is 1, so that every
# part has an effect that a test can see.
NETWORK: dict[str, Any] = {
    "image_size": 28,
    "hidden_size": 16,
    "initializer_range": 0.2,
    "encoder_num_hidden_layers": 2,
    "encoder_num_attention_heads": 2,
    "num_hidden_layers": NUM_LAYERS,
    "num_attention_heads": 2,
    "initialization": {"layerscale_value": 1.0},
    "mask_layer": 1,
    "masked_layers": [2, 3],
    "mask_hidden_size": 8,
    "head_layers": [0, 2, 3, 4],
    "camera_num_hidden_layers": 2,
    "camera_num_attention_heads": 2,
    "dense_hidden_size": 16,
    "dense_channels": [8, 8, 16, 16],
    "dense_output_channels": 8,
    "track_hidden_size": 8,
    "track_transformer_size": 16,
    "track_num_hidden_layers": 2,
    "track_num_attention_heads": 2,
    "track_num_virtual_tracks": 4,
    "track_corr_levels": 3,
    "track_corr_radius": 2,
}


def small_config(**overrides: Any) -> Page4DConfig:
    """The configuration; keywords override its values, those of its groups by their names."""
    values = {**NETWORK, **overrides}
    for group, members in GROUPS.items():
        own = {name: values.pop(name) for name in members.__annotations__ if name in values}
        values[group] = {**NETWORK.get(group, {}), **own, **overrides.get(group, {})}
    return Page4DConfig(**values)


def small_network(seed: int = 0, **overrides: Any) -> Page4DModel:
    """A network for inference with random weights, the same for a seed; keywords override its configuration."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Page4DModel(small_config(**overrides)).eval()


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    """Random images of some shape `[..., 3, H, W]`."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def predict(model: Page4DModel, *inputs: torch.Tensor, **options: Any) -> Page4DOutput:
    """What a network makes of images, without gradients."""
    with torch.no_grad():
        output: Page4DOutput = model(*inputs, **options)
    return output


def assert_alike(
    found: Mapping[str, Any], expected: Mapping[str, Any], names: Iterable[str] = PREDICTIONS, **tolerance: float
) -> None:
    """Compare two outputs as `torch.testing.assert_close` does."""
    for name in names:
        torch.testing.assert_close(found[name], expected[name], msg=lambda text, n=name: f"{n}: {text}", **tolerance)


def save_small_network(folder: Path, **overrides: Any) -> Path:
    """Write a network with the usual starting weights and the image processor to a folder, and return that; keywords
    override its configuration."""
    small_network(image_size=70, initializer_range=0.02, layerscale_value=0.01, **overrides).save_pretrained(folder)
    Page4DImageProcessor().save_pretrained(folder)
    return folder
