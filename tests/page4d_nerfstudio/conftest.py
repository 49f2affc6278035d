"""Fixtures of the plugin's tests."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nerfstudio.utils import profiler, writer
from small_captures import write_capture
from small_networks import save_small_network


@pytest.fixture(scope="session", autouse=True)
def cache_of_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is read from or left in the user's own cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PAGE4D_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small PAGE-4D and random weights; not to be changed."""
    return save_small_network(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    """A capture of 8 frames, the fourth of them held out."""
    return write_capture(tmp_path / "capture")


@pytest.fixture
def page4d(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capture: Path) -> Any:
    """A PAGE-4D that sees the capture's cameras."""
    from perfect_page4d import PerfectPage4D  # and with it the dataparser, which tests of Gaussians do without

    return PerfectPage4D(monkeypatch, tmp_path, capture)


@pytest.fixture
def fresh_nerfstudio() -> Iterator[None]:
    """nerfstudio's commands expect a process of their own: what they leave in its modules is put back."""
    yield
    writer.EVENT_WRITERS.clear()
    writer.EVENT_STORAGE.clear()
    writer.GLOBAL_BUFFER.clear()
    profiler.PROFILER.clear()
