"""The model that comes with the package, through every program of evaluation: nothing is downloaded."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import evaluate as program
import held_out
import mask_study
import numpy as np
import pytest
from evaluator.predictions import Predictions, save_predictions
from evaluator.sequences import Selection, load_sequence
from table_text import squeezed

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
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one capture of 8 frames of 56x42 pixels, as the command makes it."""
    folder = tmp_path_factory.mktemp("scenes")
    size = ["--width", "56", "--height", "42", "--num-points", "50"]
    page4d(["synth", str(folder / "room"), "--num-frames", str(NUM_FRAMES), *size])
    return folder


def result_of(task: str, method: list[str], data: list[str], output: Path) -> dict[str, Any]:
    program.main([task, *method, *data, "--device", "cpu", "--output", str(output)])
    result: dict[str, Any] = json.loads((output / "result.json").read_text())
    return result


@pytest.mark.parametrize("task", TASKS)
def test_it_is_better_than_no_model_on_a_synthetic_capture(task: str, tiny: Path, scenes: Path, tmp_path: Path) -> None:
    data, figure = ["--dataset", "nerfies", "--data-root", str(scenes)], TASKS[task]
    trivial = result_of(task, ["--trivial"], data, tmp_path / "trivial")["averages"]
    result = result_of(task, ["--model", str(tiny)], data, tmp_path / "tiny")
    assert result["averages"][figure] < trivial[figure]
    (sequence,) = result["sequences"]
    assert (sequence["name"], sequence["counts"]["frames"]) == ("room/0", NUM_FRAMES)
    if task != "pose":  # the capture has depth and motion masks of all frames
        assert {figure, f"{figure}_static", f"{figure}_dynamic"} <= result["averages"].keys()
    table = squeezed((tmp_path / "tiny/table.md").read_text())
    rows = [line.split(" |")[0] for line in table.splitlines() if line.endswith("1 of 1 |")]
    assert rows == ["| page4d, mask on, 112 pixels wide", "| trivial"]
    assert "(m)" not in table.split("\n- ")[0]


def test_the_truth_of_the_capture_has_no_error(scenes: Path, tmp_path: Path) -> None:
    """Its depth, cameras and scale fit each other: depth in the first camera, lifted points and trajectory agree."""
    frames = load_sequence("nerfies", scenes, "room/0", Selection())[0].frames
    depth = np.stack([frames.load_depth(i) for i in range(len(frames))])  # type: ignore[arg-type]
    truth = Predictions(frames.capture.frame_ids, depth, frames.capture.extrinsics, frames.intrinsics)
    save_predictions(tmp_path / "truth/room/0.npz", truth)
    method, data = ["--predictions", str(tmp_path / "truth")], ["--dataset", "nerfies", "--data-root", str(scenes)]
    for task, figure in TASKS.items():
        averages = result_of(task, method, [*data, "--protocol", "cut3r"], tmp_path / task)["averages"]
        assert averages[figure] == pytest.approx(0, abs=1e-6)


def test_it_runs_on_real_frames(tiny: Path, shared: Path, tmp_path: Path) -> None:
    data = ["--dataset", "tum", "--data-root", str(shared / "data"), "--sequences", TUM_SAMPLE]
    found = result_of("points", ["--model", str(tiny)], data, tmp_path / "tiny")["averages"]
    assert all(math.isfinite(found[figure]) for figure in ("accuracy_mean", "completion_mean", "overall_mean"))
    assert "1 of 1" in (tmp_path / "tiny/table.md").read_text()


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


def test_what_its_mask_does_is_studied_on_captures_that_can_be_read(tiny: Path, scenes: Path, tmp_path: Path) -> None:
    for name in ("room", "broken"):
        shutil.copytree(scenes / "room", tmp_path / "scenes" / name)
    (tmp_path / "scenes/broken/scene.json").write_text("{")
    data = ["--dataset", "nerfies", "--data-root", str(tmp_path / "scenes"), "--frames", "6"]
    options = [*data, "--study.min-share", "0.1", "--device", "cpu"]
    mask_study.main(["--model", str(tiny), *options, "--output", str(tmp_path / "study")])
    study = json.loads((tmp_path / "study/study.json").read_text())
    assert [study["counts"][name] for name in ("clips", "excluded", "frames")] == [1, 1, 6]
    assert study["dynamic_excess"]
    assert len(list((tmp_path / "study").glob("*.png"))) == 3
    (reason,) = [clip["excluded"] for clip in study["clips"] if clip["excluded"]]
    assert reason.startswith("broken/0: broken/scene.json cannot be read")
