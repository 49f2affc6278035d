"""The model that comes with the package, through every program of evaluation: nothing is downloaded."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import evaluate as program
import held_out
import mask_study
import pytest

from page4d_hf.cli import main as page4d

pytestmark = pytest.mark.slow

TASKS = {"video-depth": "abs_rel", "mono-depth": "abs_rel", "pose": "ate", "points": "accuracy_mean"}
NUM_FRAMES = 8
TUM_SAMPLE = "tum-walking-halfsphere"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights") / "page4d"
    page4d(["pull", "tiny", "--output", str(folder)])
    return folder


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one capture of 8 frames of 56x42 pixels."""
    folder = tmp_path_factory.mktemp("scenes")
    size = ["--width", "56", "--height", "42", "--num-points", "50"]
    page4d(["synth", str(folder / "room"), "--num-frames", str(NUM_FRAMES), *size])
    return folder


def averages(task: str, method: list[str], data: list[str], output: Path) -> dict[str, Any]:
    program.main([task, *method, *data, "--device", "cpu", "--output", str(output)])
    result: dict[str, Any] = json.loads((output / "result.json").read_text())["averages"]
    return result


@pytest.mark.parametrize("task", TASKS)
def test_it_is_better_than_no_model_on_a_synthetic_capture(task: str, tiny: Path, room: Path, tmp_path: Path) -> None:
    data = ["--dataset", "nerfies", "--data-root", str(room)]
    found = averages(task, ["--model", str(tiny)], data, tmp_path / "tiny")
    trivial = averages(task, ["--trivial"], data, tmp_path / "trivial")
    assert found[TASKS[task]] < trivial[TASKS[task]]


def test_it_runs_on_real_frames(tiny: Path, shared: Path, tmp_path: Path) -> None:
    data = ["--dataset", "tum", "--data-root", str(shared / "data"), "--sequences", TUM_SAMPLE]
    found = averages("points", ["--model", str(tiny)], data, tmp_path / "tiny")
    assert all(math.isfinite(found[figure]) for figure in ("accuracy_mean", "completion_mean", "overall_mean"))
    table = (tmp_path / "tiny/table.md").read_text()
    assert "1 of 1" in table


def test_it_is_better_than_no_model_on_held_out_clips(tiny: Path, tmp_path: Path) -> None:
    """Other clips than those of its card, fewer, and so within bounds that are wider than what the card says."""
    clips = ["--clips.clips", "8", "--clips.seed", "2000000"]
    held_out.main(["--model", str(tiny), *clips, "--device", "cpu", "--output", str(tmp_path / "report")])
    means = json.loads((tmp_path / "report/held-out.json").read_text())["means"]
    ratios = {name: means[name]["model"] / means[name]["trivial"] for name in ("abs_rel", "ate", "point_error")}
    assert ratios["abs_rel"] < 0.75
    assert ratios["ate"] < 0.55
    assert ratios["point_error"] < 0.8
    assert means["motion_auroc"]["model"] > 0.6


def test_what_its_mask_does_can_be_studied(tiny: Path, room: Path, tmp_path: Path) -> None:
    data = ["--dataset", "nerfies", "--data-root", str(room), "--study.min-share", "0.1"]
    mask_study.main(["--model", str(tiny), *data, "--device", "cpu", "--output", str(tmp_path / "study")])
    study = json.loads((tmp_path / "study/study.json").read_text())
    assert study["counts"]["frames"] == NUM_FRAMES
    assert study["counts"]["excluded"] == 0
