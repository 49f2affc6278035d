"""Digests of data: what changes them, and what does not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from evaluator.digests import data_digest, file_digest
from evaluator.sequences import Selection, load_sequence
from small_sintel import SmallSintel

NAME = "final/alley_2"


def digest_of(root: Path, **chosen: int) -> str:
    return data_digest(load_sequence("sintel", root, NAME, Selection(**chosen))[0])  # type: ignore[arg-type]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return SmallSintel(tmp_path / "data").root


def test_the_same_data_have_the_same_digest_wherever_they_lie(root: Path, tmp_path: Path) -> None:
    assert digest_of(root) == digest_of(Path(shutil.copytree(root, tmp_path / "elsewhere")))


@pytest.mark.parametrize("kind", ["final", "depth", "flow", "invalid", "camdata_left"])
def test_every_file_that_figures_come_from_counts(root: Path, kind: str) -> None:
    """Motion masks are made of depth, flow, what the flow does not know, and cameras."""
    before = digest_of(root)
    path = min(path for path in root.rglob("*") if path.is_file() and kind in path.parts and "alley_2" in path.parts)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert digest_of(root) != before


def test_other_frames_have_another_digest_and_other_sequences_do_not_count(root: Path) -> None:
    before = digest_of(root)
    assert digest_of(root, first=2) != before
    for path in list(root.rglob("*")):
        if path.is_file() and "alley_2" not in path.parts:
            path.unlink()
    assert digest_of(root) == before


def test_a_file_that_cannot_be_read_has_a_digest_too(tmp_path: Path) -> None:
    assert file_digest(tmp_path) == file_digest(tmp_path / "nothing") == "missing"
