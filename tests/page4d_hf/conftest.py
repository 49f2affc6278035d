"""A network small enough to test with."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from page4d_hf import Page4DConfig, Page4DModel

# All parts of the published network, a few numbers wide. Its weights are large and its layer scale is 1, so that every
# part has an effect that a test can see.
TINY: dict[str, Any] = {
    "image_size": 28,
    "hidden_size": 16,
    "initializer_range": 0.2,
    "encoder_num_hidden_layers": 2,
    "encoder_num_attention_heads": 2,
    "num_hidden_layers": 5,
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


@pytest.fixture(scope="session")
def tiny_config() -> Callable[..., Page4DConfig]:
    """Makes a configuration of the tiny network; keywords override its values, those of its groups by their names."""
    from page4d_hf import Page4DConfig
    from page4d_hf.configuration_page4d import GROUPS

    def make(**overrides: Any) -> Page4DConfig:
        values = {**TINY, **overrides}
        for group, members in GROUPS.items():
            own = {name: values.pop(name) for name in members.__annotations__ if name in values}
            values[group] = {**TINY.get(group, {}), **own, **overrides.get(group, {})}
        return Page4DConfig(**values)

    return make


@pytest.fixture(scope="session")
def config(tiny_config: Callable[..., Page4DConfig]) -> Page4DConfig:
    """The tiny network's configuration."""
    return tiny_config()


@pytest.fixture(scope="session")
def tiny_model(tiny_config: Callable[..., Page4DConfig]) -> Callable[..., Page4DModel]:
    """Makes a tiny network for inference, the same at every call; keywords override values of its configuration."""
    import torch

    from page4d_hf import Page4DModel

    def make(seed: int = 0, **overrides: Any) -> Page4DModel:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return Page4DModel(tiny_config(**overrides)).eval()

    return make
