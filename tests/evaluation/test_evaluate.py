"""Runs of evaluation, from options to tables, with a small network or with saved predictions."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import evaluate as program
import numpy as np
import pytest
import small_sintel
import small_tum
from evaluator.evaluation import Evaluation, EvaluationOptions
from evaluator.metrics.scores import EvaluationError
from evaluator.predictions import Predictions, PredictionsError, load_predictions, save_predictions
from evaluator.sequences import Selection, load_sequence
from file_limits import largest_file
from launching import AS_COMMAND, REPOSITORY, launched
from PIL import Image
from table_text import squeezed

from page4d_hf.errors import Page4DError

SECOND = "rgbd_dataset_freiburg3_walking_rpy"
NAMES = sorted((small_tum.NAME, SECOND))


@pytest.fixture
def tum(tmp_path: Path) -> Path:
    """Two sequences of four frames, whose cameras don't stand on one line."""
    for name in NAMES:
        sequence = small_tum.SmallSequence(tmp_path / "made")
        for pose in sequence.poses:
            pose[1] += 0.3 * pose[0] ** 2
        sequence.write_poses()
        (tmp_path / "tum").mkdir(exist_ok=True)
        sequence.folder.rename(tmp_path / "tum" / name)
    return tmp_path / "tum"


def options(root: Path, output: Path, **changes: Any) -> EvaluationOptions:
    values = {"dataset": "tum", "resolution": 28, "device": "cpu", "frames": 4, "split": None, **changes}
    if not {"model", "resolution"} & changes.keys():
        del values["resolution"]
    return EvaluationOptions(data_root=root, output=output, **values)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def all_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """The protocols take every frame: the sequences have only four."""
    monkeypatch.setattr("evaluator.evaluation.select", lambda *_, **__: Selection(tuple(NAMES), published=False))


pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("all_frames")]


def save_truth(root: Path, folder: Path, scale: float = 2.0) -> None:
    """The ground truth as predictions, in another scale."""
    for name in NAMES:
        frames = load_sequence("tum", root, name, Selection())[0].frames
        depth = np.stack([frames.load_depth(i) for i in range(len(frames))])  # type: ignore[arg-type]
        extrinsics = frames.capture.extrinsics.copy()
        extrinsics[:, :, 3] *= scale
        predictions = Predictions(frames.capture.frame_ids, scale * depth, extrinsics, frames.intrinsics)
        save_predictions(folder / f"{name}.npz", predictions)


# --------------------------------------------------------------------------------------------------------------------
# A model


@pytest.mark.parametrize("task", ["video-depth", "mono-depth", "pose", "points"])
@pytest.mark.parametrize("protocol", ["page4d", "cut3r"])
def test_every_task_runs_to_its_tables(tum: Path, tmp_path: Path, tiny_model: Path, task: str, protocol: str) -> None:
    output = tmp_path / "run"
    result = Evaluation(task, options(tum, output, model=str(tiny_model), protocol=protocol)).run()
    assert [each["name"] for each in result["sequences"]] + list(result["excluded"]) == NAMES
    assert result == json.loads((output / "result.json").read_text())
    assert (output / "table.md").read_text().startswith("## ")
    assert r"\begin{table}" in (output / "table.tex").read_text()


def test_a_run_that_was_killed_goes_on_and_gives_the_same_files(
    tum: Path, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut = tmp_path / "a/run", tmp_path / "b/run"
    Evaluation("video-depth", options(tum, whole, model=str(tiny_model))).run()

    with monkeypatch.context() as patch:
        patch.setattr("evaluator.evaluation.score", _killed_at(2))
        with pytest.raises(KeyboardInterrupt):
            Evaluation("video-depth", options(tum, cut, model=str(tiny_model))).run()
    (first,) = (cut / "sequences").glob("*.json")
    written = first.stat().st_mtime_ns
    (cut / "sequences" / f"{NAMES[1]}.json").write_bytes(b'{"run": "')  # half-written
    Evaluation("video-depth", options(tum, cut, model=str(tiny_model))).run()
    assert first.stat().st_mtime_ns == written  # what was finished has not been run again
    assert files_of(cut) == files_of(whole)


def test_a_sequence_that_the_network_fails_on_is_not_run_again(
    tum: Path, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from evaluator.predict import predict

    failed = []

    def fails_on_the_first(sequence: Any, *arguments: Any, **more: Any) -> Any:
        if sequence.name == NAMES[0]:
            failed.append(sequence.name)
            raise PredictionsError("The network gave no finite camera for 4 of 4 frames.")
        return predict(sequence, *arguments, **more)

    monkeypatch.setattr("evaluator.evaluation.predict", fails_on_the_first)
    first, second = (Evaluation("pose", options(tum, tmp_path / "run", model=str(tiny_model))).run() for _ in range(2))

    assert failed == [NAMES[0]]
    assert first == second
    assert list(first["excluded"]) == [NAMES[0]]


def _killed_at(count: int) -> Any:
    from evaluator.tasks import score

    calls = []

    def killed(*arguments: Any, **more: Any) -> Any:
        calls.append(1)
        if len(calls) == count:
            raise KeyboardInterrupt
        return score(*arguments, **more)

    return killed


def test_the_record_names_weights_versions_and_the_whole_protocol(tum: Path, tmp_path: Path, tiny_model: Path) -> None:
    result = Evaluation("pose", options(tum, tmp_path / "run", model=str(tiny_model))).run()
    assert re.fullmatch("weights [0-9a-f]{16}", result["model"]["revision"])
    assert {"torch", "numpy", "evo"} <= set(result["versions"])
    assert "Sim(3)" in result["protocol"]["text"]
    assert result["inference"]["resolution"] == 28
    assert str(tmp_path) not in json.dumps(result)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"mask": "off"}, 'model.mask (was "on", now "off")'),
        ({"protocol": "cut3r"}, 'protocol.name (was "page4d", now "cut3r")'),
        ({"resolution": 42}, "inference.resolution (was 28, now 42)"),
        ({"sequences": (SECOND,)}, "selection.sequences"),
        ({"dtype": "bfloat16"}, 'model.dtype (was "float32", now "bfloat16")'),
    ],
)
def test_options_that_differ_from_the_runs_are_refused_by_name(
    tum: Path, tmp_path: Path, tiny_model: Path, changes: dict[str, Any], named: str
) -> None:
    Evaluation("pose", options(tum, tmp_path / "run", model=str(tiny_model)))
    with pytest.raises(EvaluationError, match="holds a run with other options") as caught:
        Evaluation("pose", options(tum, tmp_path / "run", model=str(tiny_model), **changes))
    assert named in str(caught.value)
    assert "text (" not in str(caught.value)  # the same in many more words


def test_sequences_may_be_named_in_any_order(tum: Path, tmp_path: Path) -> None:
    first, second = (
        Evaluation("pose", options(tum, tmp_path / "run", trivial=True, sequences=names))
        for names in ((*NAMES,), (*reversed(NAMES), NAMES[0]))
    )
    assert first.selection == second.selection
    assert first.names == second.names == NAMES


def test_a_run_of_another_task_is_refused_by_its_task_alone(tum: Path, tmp_path: Path, tiny_model: Path) -> None:
    Evaluation("pose", options(tum, tmp_path / "run", model=str(tiny_model)))
    with pytest.raises(EvaluationError, match=r'other options: task \(was "pose", now "points"\)\. Go on'):
        Evaluation("points", options(tum, tmp_path / "run", model=str(tiny_model)))


def test_kept_predictions_score_the_same_as_the_model_that_made_them(
    tum: Path, tmp_path: Path, tiny_model: Path
) -> None:
    ran = Evaluation(
        "video-depth", options(tum, tmp_path / "a", model=str(tiny_model), keep_predictions=True, protocol="cut3r")
    ).run()
    again = Evaluation(
        "video-depth", options(tum, tmp_path / "b", predictions=tmp_path / "a/predictions", protocol="cut3r")
    ).run()
    assert again["averages"] == ran["averages"]
    assert again["excluded"] == ran["excluded"] == {}


def test_predictions_and_plots_that_are_wanted_later_are_made_then(tum: Path, tmp_path: Path, tiny_model: Path) -> None:
    plain = options(tum, tmp_path / "run", model=str(tiny_model), sequences=(SECOND,))
    before = Evaluation("video-depth", plain).run()
    assert not (tmp_path / "run/plots").exists()
    more = options(tum, tmp_path / "run", model=str(tiny_model), sequences=(SECOND,), plots=True, keep_predictions=True)
    assert Evaluation("video-depth", more).run() == before
    assert (tmp_path / f"run/plots/{SECOND}/errors.png").is_file()
    assert len(load_predictions(tmp_path / f"run/predictions/{SECOND}.npz")) == 4


def test_sequences_are_shared_out_over_processes(tum: Path, tmp_path: Path, tiny_model: Path) -> None:
    """Each process runs its share; then the main one gathers what it did not run itself."""
    evaluations = []
    for process in (1, 0):
        evaluation = Evaluation("pose", options(tum, tmp_path / "run", model=str(tiny_model)))
        evaluation.state = _State(process, 2)  # type: ignore[assignment]
        evaluations.append(evaluation)
    shares = []
    for evaluation in evaluations:
        before = set((tmp_path / "run").rglob("*.json"))
        try:
            evaluation.run()
        except EvaluationError:
            pytest.fail("the main process did not find what the other one made")
        shares.append({path.stem for path in set((tmp_path / "run/sequences").glob("*.json")) - before})
    assert [len(share) for share in shares] == [1, 1]
    assert set.union(*shares) == set(NAMES)


@pytest.mark.usefixtures("quick_programs", "one_thread")  # launched processes have one thread each
def test_processes_that_accelerate_launches_on_cpus_make_one_table(tum: Path, tmp_path: Path, tiny_model: Path) -> None:
    words = ["mono-depth", "--model", tiny_model, "--dataset", "tum", "--data-root", tum, "--frames", "4"]
    words += ["--sequences", *NAMES, "--output", tmp_path / "launched"]
    done = launched(REPOSITORY / "evaluation" / "evaluate.py", *words, config="cpu.yaml")
    told = done.stdout + done.stderr
    assert done.returncode == 0, told
    Evaluation("mono-depth", options(tum, tmp_path / "alone", model=str(tiny_model), frames=4)).run()

    assert done.stdout.count("## Monocular depth") == 1, told
    both, alone = (json.loads((tmp_path / name / "result.json").read_text()) for name in ("launched", "alone"))
    assert both["averages"] == alone["averages"], told
    assert [each["name"] for each in both["sequences"]] == NAMES, told


class _State:
    """Accelerate's state in one of several processes."""

    def __init__(self, process_index: int, num_processes: int) -> None:
        self.process_index, self.num_processes = process_index, num_processes
        self.is_main_process = process_index == 0

    def wait_for_everyone(self) -> None:
        """The processes of this test run one after the other."""


# --------------------------------------------------------------------------------------------------------------------
# Saved predictions


def test_a_sequence_without_predictions_is_excluded_by_name(tum: Path, tmp_path: Path) -> None:
    save_truth(tum, tmp_path / "truth")
    (tmp_path / f"truth/{SECOND}.npz").unlink()
    result = Evaluation("pose", options(tum, tmp_path / "run", predictions=tmp_path / "truth")).run()
    assert [each["name"] for each in result["sequences"]] == [small_tum.NAME]
    assert list(result["excluded"]) == [SECOND]
    assert "1 of 2" in (tmp_path / "run/table.md").read_text()
    assert f"1 excluded: {SECOND} ({SECOND}.npz is missing" in (tmp_path / "run/table.md").read_text()


def test_what_could_not_be_read_is_tried_again_once_it_is_repaired(tum: Path, tmp_path: Path) -> None:
    save_truth(tum, tmp_path / "truth")
    poses = tum / SECOND / "groundtruth.txt"
    kept = poses.read_text()
    poses.write_text("")
    given = options(tum, tmp_path / "run", predictions=tmp_path / "truth")
    assert "groundtruth.txt" in Evaluation("pose", given).run()["excluded"][SECOND]
    poses.write_text(kept)
    assert Evaluation("pose", given).run()["excluded"] == {}


def test_predictions_that_changed_are_scored_again(tum: Path, tmp_path: Path) -> None:
    save_truth(tum, tmp_path / "truth")
    given = options(tum, tmp_path / "run", predictions=tmp_path / "truth", protocol="cut3r")
    before = Evaluation("video-depth", given).run()
    path = tmp_path / f"truth/{SECOND}.npz"
    changed = load_predictions(path)
    changed.depth[:, :30] *= 1.5  # type: ignore[index]
    save_predictions(path, changed)
    after = Evaluation("video-depth", given).run()
    assert after["predictions"][SECOND] != before["predictions"][SECOND]
    assert after["averages"]["abs_rel"] > before["averages"]["abs_rel"] + 0.01


def test_a_run_in_which_nothing_can_be_scored_fails_after_its_table(tum: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(EvaluationError, match="None of 2 sequences could be scored"):
        Evaluation("pose", options(tum, tmp_path / "run", predictions=tmp_path / "none")).run()
    assert "0 of 2" in (tmp_path / "run/table.md").read_text()


def test_depth_that_is_the_same_everywhere_is_the_median_of_each_frame(tum: Path, tmp_path: Path) -> None:
    result = Evaluation("mono-depth", options(tum, tmp_path / "run", trivial=True)).run()
    frames = load_sequence("tum", tum, NAMES[0], Selection())[0].frames
    errors: list[float] = []
    for i in range(len(frames)):
        depth = frames.load_depth(i)
        assert depth is not None
        true = np.sort(depth[depth > 0].astype(np.float64))
        errors += list(np.abs(true[(len(true) - 1) // 2] - true) / true)
    assert result["sequences"][0]["figures"]["abs_rel"] == pytest.approx(np.mean(errors), rel=1e-5)


# --------------------------------------------------------------------------------------------------------------------
# Data that are others than before


def further_away(root: Path, name: str) -> None:
    """The true depth of a sequence one and a half times as far, in files of the same time."""
    for path in sorted((root / name / "depth").iterdir()):
        status = path.stat()
        depth = np.asarray(Image.open(path)).astype(np.uint32)
        depth[:, :40] = depth[:, :40] * 3 // 2
        Image.fromarray(depth.astype(np.uint16)).save(path)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_sequence_whose_files_were_repaired_is_scored_again_and_no_other(tum: Path, tmp_path: Path) -> None:
    save_truth(tum, tmp_path / "truth")
    given = options(tum, tmp_path / "run", predictions=tmp_path / "truth", protocol="cut3r")
    before = Evaluation("video-depth", given).run()
    written = (tmp_path / f"run/sequences/{small_tum.NAME}.json").stat().st_mtime_ns
    further_away(tum, SECOND)
    after = Evaluation("video-depth", given).run()

    assert before["averages"]["abs_rel"] == pytest.approx(0, abs=2e-5)
    assert after["averages"]["abs_rel"] > 0.01
    assert {name for name in NAMES if before["data"][name] != after["data"][name]} == {SECOND}
    assert (tmp_path / f"run/sequences/{small_tum.NAME}.json").stat().st_mtime_ns == written


def test_predictions_that_were_kept_of_other_data_do_not_stay(tum: Path, tmp_path: Path, tiny_model: Path) -> None:
    given = {"model": str(tiny_model), "sequences": (SECOND,)}
    Evaluation("pose", options(tum, tmp_path / "run", keep_predictions=True, **given)).run()
    further_away(tum, SECOND)
    Evaluation("pose", options(tum, tmp_path / "run", **given)).run()
    assert not (tmp_path / f"run/predictions/{SECOND}.npz").exists()


# --------------------------------------------------------------------------------------------------------------------
# The output


HOLDER = f"""
{AS_COMMAND}
import time
from page4d_hf.utils.folders import whole_file, working_folder
with working_folder(sys.argv[1]), whole_file(sys.argv[1] + "/sequences/a.json") as partial:
    print(partial, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tum: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process in the middle of a run in `tmp_path / "run"`."""
    Evaluation("pose", options(tum, tmp_path / "run", trivial=True))  # begins it
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()


def test_a_run_in_a_folder_where_another_works_is_refused_before_its_model_is_loaded(
    tum: Path, tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    with pytest.raises(Page4DError, match=f"run is being written by process {holder.pid} "):
        Evaluation("pose", options(tum, tmp_path / "run", model="nowhere"))


@pytest.mark.parametrize("output", ["/proc/run", "{}/file/run", "{}/" + "x" * 300])
def test_an_output_that_cannot_be_written_is_refused_before_its_model_is_loaded(
    tum: Path, tmp_path: Path, output: str
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Page4DError, match=r"Cannot write|cannot be a name"):
        Evaluation("pose", options(tum, Path(output.format(tmp_path)), model="nowhere"))


def test_a_file_of_somebody_else_among_the_plots_is_named_before_the_network_runs(tum: Path, tmp_path: Path) -> None:
    Evaluation("pose", options(tum, tmp_path / "run", trivial=True))
    place = tmp_path / f"run/plots/{SECOND}/notes.txt"
    place.parent.mkdir(parents=True)
    place.write_text("mine")
    with pytest.raises(Page4DError, match=r"did not write notes\.txt"):
        Evaluation("pose", options(tum, tmp_path / "run", trivial=True, plots=True))
    assert place.read_text() == "mine"


@pytest.mark.parametrize("size", [100, 3000])
def test_a_disk_that_is_full_is_told_in_a_sentence_and_the_run_goes_on_later(
    tum: Path, tmp_path: Path, size: int
) -> None:
    given = options(tum, tmp_path / "run", trivial=True, plots=True)
    with largest_file(size), pytest.raises(Page4DError, match="A file grew past the limit of its size"):
        Evaluation("video-depth", given).run()
    assert not list(tmp_path.rglob(".*"))
    assert Evaluation("video-depth", given).run()["excluded"] == {}


# --------------------------------------------------------------------------------------------------------------------
# Options and the command


def test_a_table_replaces_no_file_unless_it_is_asked_to(
    tum: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Evaluation("pose", options(tum, tmp_path / "run", trivial=True)).run()
    (tmp_path / "notes.md").write_text("mine")
    words = ["table", str(tmp_path / "run"), "--output", str(tmp_path / "notes.md")]
    with pytest.raises(SystemExit) as ended:
        program.main(words)
    assert ended.value.code == 1
    assert "notes.md exists; name another one, or pass --overwrite" in capsys.readouterr().err
    assert (tmp_path / "notes.md").read_text() == "mine"
    program.main([*words, "--overwrite"])
    assert "trivial" in (tmp_path / "notes.md").read_text()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, "Give one of --model"),
        ({"model": "a", "predictions": Path("b")}, "Give one of --model"),
        ({"model": "a", "trivial": True}, "Give one of --model"),
        ({"predictions": Path("."), "mask": "off"}, "--mask off only say how --model is run"),
        ({"predictions": Path("."), "keep_predictions": True}, "--keep-predictions only say how"),
        ({"trivial": True, "resolution": 28}, "--resolution only say how"),
        ({"trivial": True, "points": "world", "dtype": "float16"}, "--points and --dtype only say how"),
        ({"predictions": Path("/nothing")}, "no folder of predictions"),
    ],
)
def test_options_that_do_not_fit_each_other_are_refused(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(EvaluationError, match=reason):
        options(tmp_path, tmp_path / "run", **changes)


def test_images_are_as_wide_as_the_model_s_image_processor_says_unless_another_resolution_is_asked_for(
    tum: Path, tmp_path: Path, tiny_model: Path
) -> None:
    found = {
        name: Evaluation("pose", options(tum, tmp_path / name, model=str(tiny_model), resolution=width)).run()
        for name, width in (("default", None), ("asked", 42))
    }

    assert found["default"]["inference"]["resolution"] == 28
    assert found["asked"]["inference"]["resolution"] == 42


def test_a_resolution_that_is_no_whole_number_of_patches_is_refused(
    tum: Path, tmp_path: Path, tiny_model: Path
) -> None:
    with pytest.raises(Page4DError, match="multiple of the patch size 14"):
        Evaluation("pose", options(tum, tmp_path / "run", model=str(tiny_model), resolution=30))
    assert not (tmp_path / "run").exists()


def test_the_command_prints_its_table(tum: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_truth(tum, tmp_path / "truth")
    arguments = ["--predictions", str(tmp_path / "truth"), "--dataset", "tum", "--data-root", str(tum)]
    program.main(["pose", *arguments, "--output", str(tmp_path / "run"), "--method", "the truth"])
    assert "| the truth | 0.000 |" in squeezed(capsys.readouterr().out)
    program.main(["table", str(tmp_path / "run"), "--output", str(tmp_path / "both.tex")])
    assert "the truth" in (tmp_path / "both.tex").read_text()


def test_the_command_says_in_one_sentence_what_is_wrong(
    tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--data-root", str(tmp_path / "nothing"), "--output", str(tmp_path / "run")]
    with pytest.raises(SystemExit) as caught:
        program.main(["pose", "--model", str(tiny_model), "--dataset", "sintel", *where])
    assert caught.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith("evaluate: The folder")
    assert "http://sintel.is.tue.mpg.de" in error
    assert error.count("\n") == 1


def test_sintels_missing_sequences_are_in_the_table(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    small_sintel.SmallSintel(tmp_path / "sintel")
    given = options(tmp_path / "sintel", tmp_path / "run", dataset="sintel", model=str(tiny_model), split="clean")
    result = Evaluation("video-depth", given).run()
    assert [each["name"] for each in result["sequences"]] == ["clean/alley_2"]
    assert len(result["excluded"]) == 21
    text = (tmp_path / "run/table.md").read_text()
    assert "1 of 22" in text
    assert "21 excluded: " in text
    assert {"abs_rel_static", "abs_rel_dynamic"} <= set(result["averages"])
