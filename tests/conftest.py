"""Fixtures that all tests share."""

import os
import sys
from pathlib import Path

import pytest

os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what is marked `gpu` where there is none."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device, and PyTorch finds none"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference values and real captures that may lie beside the project."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip(f"the reference values and captures are not beside the project (no folder {folder.name}/)")
    return folder


@pytest.fixture
def light_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that multiprocessing starts do not wait for transformers, like the command `page4d`."""
    monkeypatch.setattr(sys, "argv", ["page4d"])


@pytest.fixture
def datasets_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where `datasets` copies what it maps: a cache that ends with the test."""
    import datasets

    cache = tmp_path / "datasets-cache"
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)
    return cache
