"""Fixtures of the plugin's tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from forked_commands import ForkedCommands
from nerfstudio.utils import profiler, writer

from page4d_hf import Page4DConfig, Page4DImageProcessor, Page4DModel


@pytest.fixture(scope="session")
def commands() -> Iterator[ForkedCommands]:
    """nerfstudio's commands, each in a process of its own, without each waiting for nerfstudio's import."""
    forked = ForkedCommands()
    yield forked
    forked.close()


@pytest.fixture(scope="session", autouse=True)
def cache_of_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is read from or left in the user's own cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PAGE4D_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a PAGE-4D of 4 layers and random weights; not to be changed."""
    torch.manual_seed(0)
    config = Page4DConfig(
        hidden_size=16, encoder_num_hidden_layers=1, encoder_num_attention_heads=1, num_hidden_layers=4,
        num_attention_heads=1, mask_layer=1, masked_layers=[2], mask_hidden_size=8, head_layers=[0, 1, 2, 3],
        camera_num_hidden_layers=1, camera_num_attention_heads=1, dense_hidden_size=8, dense_channels=[4, 4, 8, 8],
        dense_output_channels=4, image_size=70,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("models") / "tiny"
    Page4DModel(config).save_pretrained(folder)
    Page4DImageProcessor().save_pretrained(folder)
    return folder


@pytest.fixture
def fresh_nerfstudio() -> Iterator[None]:
    """nerfstudio's commands expect a process of their own: what they leave in its modules is put back."""
    yield
    writer.EVENT_WRITERS.clear()
    writer.EVENT_STORAGE.clear()
    writer.GLOBAL_BUFFER.clear()
    profiler.PROFILER.clear()
