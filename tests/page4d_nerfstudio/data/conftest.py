"""A capture of 8 frames, the fourth of them held out, and a PAGE-4D that sees its cameras."""

import pytest
from perfect_page4d import PerfectPage4D
from small_captures import write_capture


@pytest.fixture
def capture(tmp_path):
    return write_capture(tmp_path / "capture")


@pytest.fixture
def page4d(monkeypatch, tmp_path, capture):
    return PerfectPage4D(monkeypatch, tmp_path, capture)
