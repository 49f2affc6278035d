"""The files for a Hugging Face Space: what they start, and what they pin."""

import re
import runpy
from pathlib import Path

import pytest

import page4d_hf.app.launch
from page4d_hf.app.page import Limits

ROOT = Path(__file__).resolve().parents[3]
SPACE = ROOT / "examples" / "space"


def test_the_space_serves_the_small_model_to_everybody(monkeypatch):
    given = []
    monkeypatch.setattr(page4d_hf.app.launch, "launch", lambda *arguments: given.append(arguments))
    runpy.run_path(str(SPACE / "app.py"), run_name="__main__")
    ((models, limits, host, port),) = given
    assert (models, host, port) == (["tiny"], "0.0.0.0", 7860)
    assert isinstance(limits, Limits)


def test_the_spaces_gradio_is_the_one_that_is_tested():
    pinned = re.search(r"^gradio==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    said = re.search(r"^sdk_version: (.+)$", (SPACE / "README.md").read_text(), re.MULTILINE)
    if pinned is None or said is None:
        pytest.fail("constraints.txt or the Space's README.md names no version of gradio")
    assert pinned[1] == said[1]
