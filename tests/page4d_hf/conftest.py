"""A network small enough to test with."""

from __future__ import annotations

from collections.abc import Callable
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
