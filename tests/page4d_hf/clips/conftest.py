"""Rows of small clips, and a cache of data sets that ends with the tests."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_datasets_cache(datasets_cache: Path) -> None:
    """Every test here maps data sets into a cache of its own."""
