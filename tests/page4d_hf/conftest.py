"""A network small enough to test with."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from page4d_hf import Page4DConfig, Page4DModel


@pytest.fixture(scope="session")
def tiny_config() -> Callable[..., Page4DConfig]:
    """Makes a configuration of the small network, see `small_networks`."""
    from small_networks import small_config

    return small_config


@pytest.fixture(scope="session")
def config(tiny_config: Callable[..., Page4DConfig]) -> Page4DConfig:
    """The small network's configuration."""
    return tiny_config()


@pytest.fixture(scope="session")
def tiny_model() -> Callable[..., Page4DModel]:
    """Makes a small network for inference, see `small_networks`."""
    from small_networks import small_network

    return small_network


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small network as `save_pretrained` writes it, with its image processor."""
    from small_networks import save_small_network

    return save_small_network(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def library_log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What is logged by way of transformers, which hands nothing on to the root logger."""
    logger = logging.getLogger("transformers")
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


@pytest.fixture
def own_model_folder(model_folder: Path, tmp_path: Path) -> Path:
    """A copy of `model_folder` to damage."""
    return shutil.copytree(model_folder, tmp_path / "model")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A folder of twelve images, 50x30."""
    from image_folders import write_images
    from plane_model import make_frames

    return write_images(tmp_path / "clip", make_frames(((30, 50),) * 12).images)
