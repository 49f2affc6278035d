"""Networks with a mask head that are small enough to test with."""

from __future__ import annotations

from typing import Any

import torch

from page4d_hf import Page4DConfig, Page4DModel

NUM_SPECIAL = 5  # camera and register tokens of a frame
NUM_LAYERS = 5


def masked_network(seed: int = 0, **overrides: Any) -> Page4DModel:
    """A random network, the same for a seed, with weights so large that every part has an effect that a test sees.

    Args:
        seed: of the weights.
        overrides: values of the configuration.
    """
    sizes: dict[str, Any] = {
        "image_size": 28,
        "hidden_size": 16,
        "initializer_range": 0.2,
        "encoder_num_hidden_layers": 1,
        "encoder_num_attention_heads": 2,
        "num_hidden_layers": NUM_LAYERS,
        "num_attention_heads": 2,
        "initialization": {"layerscale_value": 1.0},
        "mask_layer": 1,
        "masked_layers": [2, 3],
        "mask_hidden_size": 8,
        "head_layers": [0, 2, 3, 4],
        "camera_num_hidden_layers": 1,
        "camera_num_attention_heads": 2,
        "dense_hidden_size": 16,
        "dense_channels": [8, 8, 16, 16],
        "dense_output_channels": 8,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Page4DModel(Page4DConfig(**(sizes | overrides))).eval()
