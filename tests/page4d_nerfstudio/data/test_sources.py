"""Each kind of source is read with options of its own, whoever asks."""

import ast
from pathlib import Path

import numpy as np
import pytest
from small_captures import write_capture

import page4d_nerfstudio
from page4d_nerfstudio.data.capture_source import CaptureOptions, frames_of_capture, open_capture
from page4d_nerfstudio.data.starting_points import SeedOptions

PACKAGE = Path(page4d_nerfstudio.__file__).parent


def no_reconstruction(read, digest):
    raise AssertionError("nothing asked for PAGE-4D")


def test_a_capture_is_read_without_a_dataparser(tmp_path):
    capture = open_capture(write_capture(tmp_path / "capture", points=30), "nerfies", None)

    frames = frames_of_capture(capture, CaptureOptions(SeedOptions(max_points=20)), no_reconstruction)

    assert len(frames.points) == 20
    np.testing.assert_array_equal(frames.extrinsics, capture.extrinsics)
    assert set(frames.train).isdisjoint(frames.evaluation)


@pytest.mark.parametrize(
    ("room", "above"),
    [
        ("engine", ["configs", "commands"]),
        ("viewing", ["configs", "commands", "engine"]),
        ("data", ["configs", "commands", "engine", "viewing"]),
        ("gaussians", ["configs", "commands", "engine", "viewing", "data"]),
        ("rasterization", ["configs", "commands", "engine", "viewing", "data", "gaussians"]),
    ],
)
def test_no_room_imports_one_above_it(room, above):
    """Imports for types and inside functions count too."""
    for file in sorted((PACKAGE / room).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert (node.module or "").split(".")[0] not in above or node.level < 2, f"{file}: {node.module}"
