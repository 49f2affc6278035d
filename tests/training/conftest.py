"""What tests of training share: no state of one run is left to the next."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_datasets_cache(datasets_cache: Path) -> None:
    """Every test here maps data sets into a cache of its own."""


@pytest.fixture(autouse=True)
def accelerator_state() -> Iterator[None]:
    """Accelerate's state, which a process has once, as new."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(True)
    yield
    AcceleratorState._reset_state(True)
