"""Novel views: which trainings a table is made of, how their figures are gathered, and what is said of missing ones."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from evaluator.compare import variants as compared
from evaluator.compare.novel_views import NovelViews, markdown, run
from evaluator.metrics.scores import EvaluationError
from table_text import squeezed

pytest.importorskip("nerfstudio")

from evaluator.compare import comparison as comparing
from evaluator.compare.comparison_tables import rows_of
from evaluator.compare.training_run import Result

from page4d_hf.errors import Page4DError


class Trainings:
    """Stands in for `compare`: a figure of its own for every scene, row and seed."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.status: dict[tuple[str, str, int], tuple[str, str]] = {}
        self.without_lpips: set[str] = set()
        self.exact: set[tuple[str, int]] = set()

    def compare(self, variants, output, seeds, steps, kind):
        self.calls.append((variants, output, seeds, steps, kind))
        output.mkdir(parents=True, exist_ok=True)
        results = []
        for place, variant in enumerate(variants):
            for seed in seeds:
                status, reason = self.status.get((output.name, variant.name, seed), ("done", ""))
                figures = {"psnr": 10.0 * len(self.calls) + place + seed, "ssim": 0.5, "lpips": 0.25, "fps": 3.0}
                if output.name in self.without_lpips:
                    del figures["lpips"]
                if (output.name, seed) in self.exact:
                    figures["psnr"] = math.inf
                done = status == "done"
                results.append(Result(variant, seed, status, reason, figures if done else {}))
        return rows_of(variants, results)


@pytest.fixture
def trainings(monkeypatch) -> Trainings:
    stub = Trainings()
    monkeypatch.setattr(comparing, "compare", stub.compare)
    return stub


@pytest.fixture
def scenes(tmp_path: Path) -> tuple[Path, ...]:
    folders = (tmp_path / "data" / "broom", tmp_path / "data" / "curls")
    for folder in folders:
        folder.mkdir(parents=True)
    return folders


def options(scenes: tuple[Path, ...], tmp_path: Path, **values) -> NovelViews:
    defaults = {"initialisations": ("capture", "random"), "cameras": ("capture",), "seeds": (0, 1), "steps": 20}
    return NovelViews(scenes, tmp_path / "out", **(defaults | values))


def test_every_scene_is_a_comparison_of_all_initialisations(trainings, scenes, tmp_path):
    run(options(scenes, tmp_path, data_options="--downscale 4", train_options="--a '1 2'", method="page4d-4dgs-dnerf"))

    assert [call[1] for call in trainings.calls] == [tmp_path / "out" / "broom", tmp_path / "out" / "curls"]
    for (variants, _, seeds, steps, kind), scene in zip(trainings.calls, scenes, strict=True):
        assert (seeds, steps, kind) == ((0, 1), 20, "initialisations")
        assert [variant.name for variant in variants] == ["capture-cameras-capture", "capture-cameras-random"]
        for variant in variants:
            assert variant.data == scene
            assert variant.method == "page4d-4dgs-dnerf"
            assert variant.data_options[:2] == ("--downscale", "4")
            assert variant.training_options == ("--pipeline.model.lpips-network", "vgg", "--a", "1 2")


def test_figures_are_means_over_seeds_and_then_over_scenes(trainings, scenes, tmp_path):
    result = run(options(scenes, tmp_path))

    points, chance = result["rows"]
    assert points["labels"] == {"cameras": "the capture's", "initialisation": "the capture's points"}
    assert points["scenes"]["broom"]["psnr"] == pytest.approx({"mean": 10.5, "std": 0.5**0.5, "runs": 2})
    assert chance["scenes"]["curls"]["psnr"]["mean"] == pytest.approx(21.5)
    assert chance["average"] == pytest.approx({"psnr": 16.5, "ssim": 0.5, "lpips": 0.25})
    assert result["notes"] == []


def test_the_table_has_the_papers_rows_and_says_that_its_scenes_differ(trainings, scenes, tmp_path):
    run(options(scenes, tmp_path))
    table = squeezed((tmp_path / "out" / "table.md").read_text())

    assert "| - | PAGE-4D (paper) | - | - | - | - | - | - | 17.593 | 0.485 | 0.449 |" in table
    assert "| the capture's | random points | 11.500 | 0.500 | 0.250 | 21.500 | 0.500 | 0.250 | 16.500 |" in table
    assert "are not the public Nerfies scenes" in table
    assert "20 steps, 2 seeds (0, 1)" in table
    assert len({line.count("|") for line in table.splitlines() if line.startswith("|")}) == 1


def test_by_default_the_protocol_is_the_papers() -> None:
    text = str(NovelViews((), Path()))
    assert "page4d-4dgs from the initialisation named, 14,000 steps, 3 seeds (0, 1, 2)" in text
    assert "LPIPS (of VGG16)" in text


def test_a_run_that_failed_leaves_a_named_gap_and_no_average(trainings, scenes, tmp_path, capsys):
    """One of two seeds is enough for the scene's figure; none is not."""
    for seed in (0, 1):
        trainings.status["curls", "capture-cameras-random", seed] = ("failed", "the light went out")
    trainings.status["broom", "capture-cameras-capture", 1] = ("failed", "the light went out")
    with pytest.raises(Page4DError, match="3 of 8 runs failed"):
        run(options(scenes, tmp_path))

    result = json.loads((tmp_path / "out" / "result.json").read_text())
    points, chance = result["rows"]
    assert points["scenes"]["broom"]["psnr"] == {"mean": 10.0, "runs": 1}
    assert chance["average"] == {}
    table = squeezed(capsys.readouterr().out)
    assert "curls: cameras: the capture's, initialisation: random points, seed 1: failed: the light went out" in table
    assert "Avg: over all 2 scenes, or not at all" in table


def test_a_row_that_cannot_be_had_says_why(trainings, scenes, tmp_path):
    trainings.status["broom", "capture-cameras-capture", 0] = ("refused", "the capture has no points")
    result = run(options(scenes[:1], tmp_path, seeds=(0,)))

    assert any("unavailable: the capture has no points" in note for note in result["notes"])
    assert "unavailable" in markdown(result)


def test_a_missing_lpips_is_explained(trainings, scenes, tmp_path):
    trainings.without_lpips.add("broom")
    result = run(options(scenes, tmp_path))

    assert "lpips" not in result["rows"][0]["scenes"]["broom"]
    assert "lpips" not in result["rows"][0]["average"]
    assert "psnr" in result["rows"][0]["average"]
    assert any(note.startswith("broom: LPIPS is left out") for note in result["notes"])


def test_an_image_that_is_exactly_right_leaves_a_mean_without_a_deviation(trainings, scenes, tmp_path):
    trainings.exact.add(("broom", 1))
    result = run(options(scenes, tmp_path))

    assert result["rows"][0]["scenes"]["broom"]["psnr"] == {"mean": math.inf, "runs": 2}
    assert "std" in result["rows"][0]["scenes"]["curls"]["psnr"]


def test_after_each_scene_there_is_a_table_of_what_there_is(trainings, scenes, tmp_path, monkeypatch):
    def interrupted(variants, output, *rest):
        if output.name == "curls":
            raise KeyboardInterrupt
        return trainings.compare(variants, output, *rest)

    monkeypatch.setattr(comparing, "compare", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(options(scenes, tmp_path))

    table = squeezed((tmp_path / "out" / "table.md").read_text())
    assert "curls: not run yet" in table
    assert "| 10.500 |" in table


def test_without_weights_the_rows_that_need_them_are_refused(trainings, scenes, tmp_path):
    run(options(scenes[:1], tmp_path, initialisations=("page4d", "unmasked"), cameras=("page4d",)))

    [(variants, *_)] = trainings.calls
    assert all("pass --model" in variant.refused for variant in variants)


def test_two_scenes_of_one_name_are_refused(trainings, scenes, tmp_path):
    other = tmp_path / "other" / "broom"
    other.mkdir(parents=True)
    with pytest.raises(EvaluationError, match="Two captures are called broom"):
        run(options((*scenes, other), tmp_path))


def test_a_scene_that_is_not_there_is_refused_before_any_training(trainings, scenes, tmp_path):
    with pytest.raises(Page4DError, match=r"There is no .*nowhere; name a scene folder, a capture"):
        run(options((*scenes, tmp_path / "nowhere"), tmp_path))
    assert trainings.calls == []


def test_a_table_without_any_figure_is_an_error_after_the_table(trainings, scenes, tmp_path, capsys):
    for name in ("broom", "curls"):
        for seed in (0, 1):
            trainings.status[name, "capture-cameras-capture", seed] = ("refused", "no points")
    with pytest.raises(Page4DError, match="None of the rows is available"):
        run(options(scenes, tmp_path, initialisations=("capture",)))
    assert "unavailable: no points" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("table.md", "my notes", r"holds something else \(it has no run\.json\)"),
        ("run.json", '{"task": "pose"}', 'other options: task .was "pose", now "novel-views"'),
        ("run.json", "[]", "run.json does not hold what it should"),
    ],
)
def test_a_folder_of_something_else_is_refused_and_left_as_it_is(trainings, scenes, tmp_path, name, content, reason):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text(content)
    with pytest.raises(Page4DError, match=reason):
        run(options(scenes, tmp_path))
    assert [path.name for path in (tmp_path / "out").iterdir()] == [name]
    assert (tmp_path / "out" / name).read_text() == content
    assert trainings.calls == []


def test_an_output_that_cannot_be_written_is_refused_before_any_training(trainings, scenes):
    with pytest.raises(Page4DError, match="Cannot write /proc/views"):
        run(NovelViews(scenes, Path("/proc/views")))
    assert trainings.calls == []


def test_no_scene_is_refused(trainings, tmp_path):
    with pytest.raises(EvaluationError, match="at least one capture"):
        run(options((), tmp_path))


def test_without_nerfstudio_it_says_what_to_install(scenes, tmp_path, monkeypatch):
    monkeypatch.setattr(compared, "find_spec", lambda name: None)
    with pytest.raises(EvaluationError, match=r"pip install .*\[nerfstudio\]"):
        run(options(scenes, tmp_path))
