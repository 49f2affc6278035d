"""All programs of evaluation, one after the other, on a capture that `page4d synth` makes: nothing is downloaded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import benchmark
import evaluate as program
import mask_study
import numpy as np
import pytest
from table_text import squeezed

from page4d_hf.cli import main as page4d

pytestmark = pytest.mark.slow

NUM_FRAMES = 6


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one capture of 6 frames of 56x42 pixels, as the command makes it."""
    folder = tmp_path_factory.mktemp("scenes")
    size = ["--width", "56", "--height", "42", "--supersampling", "1", "--num-points", "50"]
    page4d(["synth", str(folder / "room"), "--num-frames", str(NUM_FRAMES), *size])
    return folder


FIRST_FIGURES = {"video-depth": "abs_rel", "mono-depth": "abs_rel", "pose": "ate", "points": "accuracy_mean"}


@pytest.mark.parametrize("task", FIRST_FIGURES)
def test_every_task_makes_a_table_with_the_model_and_without(
    scenes: Path, tmp_path: Path, tiny_model: Path, task: str
) -> None:
    data = ["--dataset", "nerfies", "--data-root", str(scenes), "--device", "cpu"]
    program.main([task, "--trivial", *data, "--output", str(tmp_path / "trivial")])
    network = ["--model", str(tiny_model), "--resolution", "28"]
    program.main([task, *network, *data, "--output", str(tmp_path / "tiny")])
    result = json.loads((tmp_path / "tiny/result.json").read_text())
    (sequence,) = result["sequences"]
    assert (sequence["name"], sequence["counts"]["frames"]) == ("room/0", NUM_FRAMES)
    figure = FIRST_FIGURES[task]
    if task != "pose":  # the capture has depth and motion masks of all frames
        assert {figure, f"{figure}_static", f"{figure}_dynamic"} <= result["averages"].keys()
    table = squeezed((tmp_path / "tiny/table.md").read_text())
    rows = [line.split(" |")[0] for line in table.splitlines() if line.endswith("1 of 1 |")]
    assert rows == ["| tiny, mask on, 28 pixels wide", "| trivial"]
    assert "(m)" not in table.split("\n- ")[0]


def test_the_truth_of_the_capture_has_no_error(scenes: Path, tmp_path: Path) -> None:
    """Its depth, cameras and scale fit each other: depth in the first camera, lifted points and trajectory agree."""
    from evaluator.predictions import Predictions, save_predictions
    from evaluator.sequences import Selection, load_sequence

    frames = load_sequence("nerfies", scenes, "room/0", Selection())[0].frames
    depth = np.stack([frames.load_depth(i) for i in range(len(frames))])  # type: ignore[arg-type]
    truth = Predictions(frames.capture.frame_ids, depth, frames.capture.extrinsics, frames.intrinsics)
    save_predictions(tmp_path / "truth/room/0.npz", truth)
    data = ["--dataset", "nerfies", "--data-root", str(scenes), "--predictions", str(tmp_path / "truth")]
    for task, figure in FIRST_FIGURES.items():
        program.main([task, *data, "--protocol", "cut3r", "--output", str(tmp_path / task)])
        averages = json.loads((tmp_path / task / "result.json").read_text())["averages"]
        assert averages[figure] == pytest.approx(0, abs=1e-6)


def test_the_mask_is_studied_on_the_capture(scenes: Path, tmp_path: Path, tiny_model: Path) -> None:
    data = ["--dataset", "nerfies", "--data-root", str(scenes), "--resolution", "56", "--study.min-share", "0.1"]
    mask_study.main(["--model", str(tiny_model), *data, "--output", str(tmp_path / "study"), "--device", "cpu"])
    study = json.loads((tmp_path / "study/study.json").read_text())
    assert study["counts"]["frames"] == NUM_FRAMES
    assert study["dynamic_excess"]
    assert len(list((tmp_path / "study").glob("*.png"))) == 3


def test_a_capture_that_cannot_be_read_is_left_out_of_the_study_by_name(
    scenes: Path, tmp_path: Path, tiny_model: Path
) -> None:
    for name in ("room", "broken"):
        shutil.copytree(scenes / "room", tmp_path / "scenes" / name)
    (tmp_path / "scenes/broken/scene.json").write_text("{")
    data = ["--dataset", "nerfies", "--data-root", str(tmp_path / "scenes"), "--resolution", "56", "--pictures", "0"]
    options = [*data, "--study.min-share", "0.1", "--study.hidden-from", "none", "--frames", "3"]
    mask_study.main(["--model", str(tiny_model), *options, "--output", str(tmp_path / "study"), "--device", "cpu"])
    study = json.loads((tmp_path / "study/study.json").read_text())
    assert (study["counts"]["clips"], study["counts"]["excluded"]) == (1, 1)
    (reason,) = [clip["excluded"] for clip in study["clips"] if clip["excluded"]]
    assert reason.startswith("broken/0: broken/scene.json cannot be read")


def test_the_network_is_timed_on_the_captures_frames(scenes: Path, tiny_model: Path) -> None:
    images = str(scenes / "room/rgb/1x/0_*.png")
    row = benchmark.measure(
        2, benchmark.BenchmarkOptions(str(tiny_model), images=images, resolution=28, repeats=1, device="cpu")
    )
    assert row.facts is not None
    assert row.facts["image_size"] == [28, 28]  # 21 rows become two patches
    assert len(row.seconds or ()) == 1
