"""What tests of evaluation share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a PAGE-4D of a few numbers and random weights, large enough for its mask to matter."""
    import torch

    from page4d_hf import Page4DConfig, Page4DImageProcessor, Page4DModel

    config = Page4DConfig(
        hidden_size=16, initializer_range=0.2, initialization={"layerscale_value": 1.0}, encoder_num_hidden_layers=1,
        encoder_num_attention_heads=1, num_hidden_layers=4, num_attention_heads=1, mask_layer=1, masked_layers=[2],
        mask_hidden_size=8, head_layers=[0, 1, 2, 3], camera_num_hidden_layers=1, camera_num_attention_heads=1,
        dense_hidden_size=8, dense_channels=[4, 4, 8, 8], dense_output_channels=4, image_size=28,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("models") / "tiny"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        Page4DModel(config).save_pretrained(folder)
    Page4DImageProcessor(size=28).save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def accelerator_state() -> Iterator[None]:
    """Accelerate's state, which a process has once, as new."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(True)
    yield
    AcceleratorState._reset_state(True)
