"""The folder of a run: whole, resumable, and of one run alone."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from broken_json import broken_json
from evaluator.metrics.scores import EvaluationError, SequenceScores
from evaluator.reporting.tables import latex, make_table, markdown
from evaluator.run_folder import RESULT, RUN, RunFolder, read_result
from file_limits import largest_file

from page4d_hf.errors import Page4DError

IDENTITY: dict[str, Any] = {
    "task": "pose",
    "dataset": "tum",
    "method": "page4d",
    "trivial": False,
    "protocol": {"name": "page4d", "text": "Sim(3).", "alignment": "sim3"},
    "selection": {"text": "all frames.", "published": False},
    "inference": {"text": "at once.", "resolution": 518},
    "model": {"name": "page4d", "revision": "weights 12", "mask": "on", "device": "cpu", "dtype": "float32"},
}
SOURCE = {"data": "abc"}


def scores(name: str = "final/alley_2", **changes: Any) -> SequenceScores:
    values = {"figures": {"ate": 0.1}, "weight": 1.0, "counts": {"frames": 4}, "notes": ["It is short."], **changes}
    return SequenceScores(name, **values)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(tmp_path / "run", IDENTITY)
    made.enter()
    return made


def test_what_is_saved_is_loaded(folder: RunFolder) -> None:
    folder.save(scores(), SOURCE)
    kept = folder.load("final/alley_2")
    assert kept is not None
    assert (kept.scores, kept.source) == (scores(), SOURCE)
    assert folder.finished("final/alley_2", SOURCE)
    assert not folder.finished("final/alley_1", SOURCE)


@pytest.mark.parametrize("kept", [0, 1, 40, -3])
def test_a_half_written_file_is_found_out(folder: RunFolder, kept: int) -> None:
    folder.save(scores(), SOURCE)
    path = folder.root / "sequences/final/alley_2.json"
    path.write_bytes(path.read_bytes()[:kept])
    assert not folder.finished("final/alley_2", SOURCE)
    assert folder.load("final/alley_2") is None


def test_a_figure_that_was_changed_by_hand_is_found_out(folder: RunFolder) -> None:
    folder.save(scores(), SOURCE)
    path = folder.root / "sequences/final/alley_2.json"
    path.write_text(path.read_text().replace("0.1", "0.2"))
    assert not folder.finished("final/alley_2", SOURCE)


def test_a_file_of_another_run_or_sequence_is_not_taken(folder: RunFolder, tmp_path: Path) -> None:
    other = RunFolder(tmp_path / "other", {**IDENTITY, "task": "points"})
    other.enter()
    other.save(scores(), SOURCE)
    folder.save(scores("final/alley_1"), SOURCE)
    place = folder.root / "sequences/final"
    (place / "alley_2.json").write_bytes((tmp_path / "other/sequences/final/alley_2.json").read_bytes())
    (place / "alley_3.json").write_bytes((place / "alley_1.json").read_bytes())
    assert not folder.finished("final/alley_2", SOURCE)
    assert not folder.finished("final/alley_3", SOURCE)


@pytest.mark.parametrize("other", [{"data": "def"}, {"data": "abc", "predictions": "123"}, {}])
def test_scores_of_other_data_or_predictions_are_made_again(folder: RunFolder, other: dict[str, str]) -> None:
    folder.save(scores(), SOURCE)
    assert not folder.finished("final/alley_2", other)


def test_the_same_run_may_be_entered_again(folder: RunFolder) -> None:
    before = (folder.root / RUN).read_bytes()
    RunFolder(folder.root, IDENTITY).enter()
    assert (folder.root / RUN).read_bytes() == before


def test_a_run_that_differs_is_refused_by_name(folder: RunFolder) -> None:
    other = {**IDENTITY, "model": {**IDENTITY["model"], "revision": "weights 13", "mask": "off"}}
    with pytest.raises(EvaluationError) as caught:
        RunFolder(folder.root, other).enter()
    assert 'model.revision (was "weights 12", now "weights 13"); model.mask (was "on", now "off")' in str(caught.value)
    assert "task" not in str(caught.value)


@pytest.mark.parametrize("now", [None, {"name": "other"}])
def test_an_option_that_came_or_went_is_a_difference(folder: RunFolder, now: Any) -> None:
    with pytest.raises(EvaluationError, match=r"model[.\w]* \(was .*, now null\)"):
        RunFolder(folder.root, {**IDENTITY, "model": now}).enter()


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [("notes.txt", "mine", "holds something else"), (RUN, '{"task": "po', "cannot be read")],
)
def test_a_folder_that_holds_no_run_is_refused(tmp_path: Path, name: str, content: str, reason: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(Page4DError, match=reason):
        RunFolder(tmp_path, IDENTITY).enter()


@pytest.mark.parametrize(
    "content", ["[" * 100_000, "[]", "null", '{"task": ' + "9" * 5000 + "}", '{"task": "\\ud800"}']
)
def test_a_record_of_another_shape_is_refused_in_a_sentence(tmp_path: Path, content: str) -> None:
    (tmp_path / RUN).write_text(content)
    with pytest.raises(
        EvaluationError, match=r"run\.json .*so it is not known what this run is; name another --output"
    ):
        RunFolder(tmp_path, IDENTITY).enter()


def test_a_full_disk_is_told_in_a_sentence_and_keeps_what_was_there(folder: RunFolder) -> None:
    folder.save(scores(), SOURCE)
    with largest_file(100), pytest.raises(Page4DError, match="A file grew past the limit of its size"):
        folder.save(scores(notes=["Others."]), SOURCE)
    kept = folder.load("final/alley_2")
    assert kept is not None
    assert kept.scores == scores()
    assert len(list((folder.root / "sequences/final").iterdir())) == 1


def test_what_is_forgotten_takes_predictions_and_plots_with_it_but_nobody_else_s_files(folder: RunFolder) -> None:
    folder.save(scores(), SOURCE)
    kept = folder.predictions() / "final/alley_2.npz"
    kept.parent.mkdir(parents=True)
    kept.touch()
    mine = folder.plots("final/alley_2") / "mine.txt"
    mine.parent.mkdir(parents=True)
    mine.touch()
    with pytest.raises(Page4DError, match=r"did not write mine\.txt"):
        folder.forget("final/alley_2")
    assert folder.finished("final/alley_2", SOURCE)
    mine.unlink()
    folder.forget("final/alley_2")
    assert folder.load("final/alley_2") is None
    assert not kept.exists()


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(Page4DError, match="is a file"):
        RunFolder(tmp_path / "run", IDENTITY).enter()


# --------------------------------------------------------------------------------------------------------------------
# The result


def test_the_result_has_the_protocol_each_sequence_and_each_exclusion(folder: RunFolder) -> None:
    each = [scores(), scores("final/cave_2", figures={}, excluded="the camera stands still")]
    written = folder.write_result(each, {"ate": 0.1}, {})
    assert read_result(folder.root) == written
    assert written["protocol"] == IDENTITY["protocol"]
    assert [one["name"] for one in written["sequences"]] == ["final/alley_2"]
    assert written["sequences"][0]["notes"] == ["It is short."]
    assert written["excluded"] == {"final/cave_2": "the camera stands still"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "holds no finished run"),
        ("{", "cannot be read"),
        ("[]", "does not hold what it should"),
        ('{"task": "pose"}', "lacks"),
    ],
)
def test_what_is_no_result_is_refused(tmp_path: Path, content: str | None, reason: str) -> None:
    if content is not None:
        (tmp_path / RESULT).write_text(content)
    with pytest.raises(EvaluationError, match=reason):
        read_result(tmp_path)


def test_the_record_is_json_that_anyone_reads(folder: RunFolder) -> None:
    assert json.loads((folder.root / RUN).read_text()) == IDENTITY


@pytest.mark.parametrize(
    "changes", [{"averages": {"ate": "0.1"}}, {"sequences": {}}, {"protocol": None}, {"excluded": []}]
)
def test_a_result_of_another_shape_is_refused_by_name(folder: RunFolder, changes: dict[str, Any]) -> None:
    written = folder.write_result([scores()], {"ate": 0.1}, {"final/alley_2": SOURCE})
    (folder.root / RESULT).write_text(json.dumps({**written, **changes}))
    with pytest.raises(EvaluationError, match=rf"result\.json does not hold what it should at {next(iter(changes))}"):
        read_result(folder.root)


@pytest.mark.slow
def test_whatever_is_in_a_run_s_files_is_taken_or_refused_in_a_sentence(folder: RunFolder) -> None:
    each = [scores(), scores("final/cave_2", figures={}, excluded="the camera stands still")]
    folder.write_result(each, {"ate": 0.1}, {"final/alley_2": SOURCE})
    folder.save(scores(), SOURCE)
    record = folder.root / "sequences/final/alley_2.json"
    whole = {path: json.loads(path.read_bytes()) for path in (folder.root / RUN, folder.root / RESULT, record)}
    rng, refused = random.Random(0), 0
    for _ in range(120):
        for path, value in whole.items():
            path.write_bytes(broken_json(value, rng))
        try:
            RunFolder(folder.root, IDENTITY).enter()
        except Page4DError:
            refused += 1
        kept = folder.load("final/alley_2")
        assert kept is None or kept.scores == scores()
        try:
            table = make_table([read_result(folder.root)])
        except Page4DError:
            refused += 1
        else:
            assert markdown(table)
            assert latex(table)
    assert 100 < refused < 240
