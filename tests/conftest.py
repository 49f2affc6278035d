"""Fixtures that all tests share."""

import gc
import multiprocessing.spawn
import os
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest
from forked_python import ForkedPython

os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
os.environ["no_proxy"] = os.environ["NO_PROXY"] = "127.0.0.1,localhost"  # the servers of tests are no proxy's business


def pytest_configure() -> None:
    gc.disable()  # until all is imported: millions of objects that stay, and would be looked at again and again


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: no process waits at the end for one that has just begun with such a file.

    What is marked `gpu` is skipped where there is none.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
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


@pytest.fixture(scope="session")
def forking_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkedPython]:
    """A Python, and console scripts, whose processes have the imports behind them; all workers of a run share it."""
    base = tmp_path_factory.getbasetemp()
    python = ForkedPython((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "forking")
    yield python
    python.close()


@pytest.fixture
def quick_programs(forking_python: ForkedPython, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs that start by `sys.executable` or by name, and processes, have the imports behind them."""
    monkeypatch.setattr(sys, "executable", str(forking_python.executable))
    monkeypatch.setattr(multiprocessing.spawn, "_python_exe", os.fsencode(forking_python.executable))
    monkeypatch.setenv("PATH", f"{forking_python.folder}{os.pathsep}{os.environ['PATH']}")
    get_path = sysconfig.get_path
    scripts = {"scripts": str(forking_python.folder)}
    monkeypatch.setattr(sysconfig, "get_path", lambda name, **how: scripts.get(name) or get_path(name, **how))


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Sums in the same order in every process: results can be compared to the last bit."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def datasets_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where `datasets` copies what it maps: a cache that ends with the test."""
    import datasets

    cache = tmp_path / "datasets-cache"
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)
    return cache
