"""The ball above a plane, as a scene to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_scene import ball_folder


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scene's folder."""
    return ball_folder(tmp_path_factory.mktemp("viewed") / "ball")


@pytest.fixture(scope="session")
def scene(folder: Path) -> Any:
    """The scene with all that there is to see."""
    from page4d_hf.viewing.opening import open_input

    return open_input(str(folder), max_frames=100, max_points=10**6)
