"""The ablation of what is tuned, at a few steps: what its arms train, that it goes on, and its table."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ablation
import numpy as np
import pytest
import torch
from finetuning.options import from_json
from finetuning.reports import Report, read_report, report_on_held_out
from small_training import CONSTANT, small_network, train, weights, write_options

from page4d_hf import Page4DImageProcessor, Page4DModel
from page4d_hf.errors import Page4DError
from page4d_hf.utils.folders import LOCK
from page4d_hf.utils.locks import is_held

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
MIDDLE = {f"aggregator.{kind}_layers.{layer}." for kind in ("frame", "global") for layer in (2, 3)}
HEAD = "aggregator.mask_head."


def save_base(folder: Path, **changes: Any) -> Path:
    small_network(**{**CONSTANT, "mask_strength": 0.0, **changes}).save_pretrained(folder)
    Page4DImageProcessor(size=28).save_pretrained(folder)
    return folder


def options_in(folder: Path, base: Path, **changes: Any) -> ablation.Options:
    scenes = {"moving_share": 1.0}
    recipe = write_options(folder / "recipe", max_train_steps=2, gradient_accumulation_steps=1, scenes=scenes)
    values: dict[str, Any] = {"seeds": (0, 1), "accelerate": None, "clips": 2, "frames": 3, "recipe": recipe}
    return ablation.Options(base, folder / "out", **{**values, **changes})


class Here:
    """Trainings and reports in this process, counted; one of the trainings may be told to be killed.

    To import everything takes longer than these trainings.
    """

    def __init__(self, killed_at: int | None = None) -> None:
        self.trained: list[str] = []
        self.reported: list[str] = []
        self.killed_at = killed_at

    def train(self, path: Path, accelerate: Path | None) -> None:
        if len(self.trained) == self.killed_at:
            raise KeyboardInterrupt
        self.trained.append(path.stem)
        assert train(from_json(path)).options.output.name == path.stem

    def report(self, model: Path, output: Path, *options: Any) -> Report:
        self.reported.append(output.name)
        return report_on_held_out(model, output, *options)

    def instead(self, patched: pytest.MonkeyPatch) -> Here:
        patched.setattr(ablation, "train", self.train)
        patched.setattr(ablation, "report_on_held_out", self.report)
        return self


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("base") / "base")


@pytest.fixture(scope="module")
def done(base, tmp_path_factory: pytest.TempPathFactory) -> ablation.Options:
    """An ablation of two seeds that is through; it was interrupted once, in the middle."""
    options = options_in(tmp_path_factory.mktemp("ablation"), base)
    with pytest.MonkeyPatch.context() as patched:
        first = Here(killed_at=3).instead(patched)
        with pytest.raises(KeyboardInterrupt):
            ablation.run(options)
        second = Here().instead(patched)
        ablation.run(options)
    assert first.trained == ["all-0", "middle-0", "middle-release-0"]
    assert first.reported == ["base", *first.trained]
    # Runs that are through find themselves at their end; reports are not made again.
    assert second.trained == [f"{arm}-{seed}" for seed in (0, 1) for arm in ablation.ARMS]
    assert second.reported == ["middle-paper-0", *(f"{arm}-1" for arm in ablation.ARMS)]
    return options


@pytest.fixture(scope="module")
def result(done) -> dict[str, Any]:
    return json.loads((done.output / "result.json").read_text())


@pytest.mark.parametrize(
    ("arm", "is_tuned", "form", "strength"),
    [
        ("all", lambda name: not name.startswith(HEAD), "release", 0.0),
        ("middle", lambda name: name.startswith(tuple(MIDDLE)), "release", 0.0),
        ("middle-release", lambda name: name.startswith((*MIDDLE, HEAD)), "release", 1.0),
        ("middle-paper", lambda name: name.startswith((*MIDDLE, HEAD)), "paper", 1.0),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_arm_tunes_what_its_name_says_and_nothing_else(
    done, base, arm: str, is_tuned: Callable[[str], bool], form: str, strength: float
):
    before, after = weights(base), weights(done.output / f"{arm}-0")
    changed = {name for name, value in after.items() if name not in before or not torch.equal(value, before[name])}
    config = Page4DModel.from_pretrained(done.output / f"{arm}-0").config

    assert changed
    assert all(map(is_tuned, changed))
    # Weights that no gradient reaches in two steps aside, each module that shall be tuned is.
    module = {name.rpartition(".")[0] for name in after if is_tuned(name) and "norm" not in name}
    missed = module - {name.rpartition(".")[0] for name in changed}
    assert all(name.startswith(("encoder.embeddings", "track_head")) for name in missed), missed
    assert (config.mask_form, config.mask_strength) == (form, strength)


def test_all_arms_see_the_same_clips_with_one_seed_and_others_with_another(done):
    told = [json.loads((done.output / f"{arm}-{s}" / "run.json").read_text()) for s in (0, 1) for arm in ablation.ARMS]

    assert [each["seed"] for each in told] == [0] * 4 + [1] * 4
    for name in ("max_train_steps", "sampling", "scenes", "learning_rate", "gradient_accumulation_steps"):
        assert all(each[name] == told[0][name] for each in told), name


def test_the_table_has_mean_and_standard_deviation_over_seeds(done, result):
    found = {
        arm: [read_report(done.output / "held-out" / f"{arm}-{seed}").means["abs_rel"]["model"] for seed in (0, 1)]
        for arm in ablation.ARMS
    }
    table = re.sub(" +", " ", (done.output / "table.md").read_text())
    for arm, values in found.items():
        row = result["rows"][arm]["abs_rel"]
        assert row["mean"] == pytest.approx(np.mean(values))
        assert row["spread"] == pytest.approx(np.std(values, ddof=1))
        assert f"| {ablation.TITLES[arm]} | 2 | {row['mean']:.4g} ± {row['spread']:.2g} |" in table
    difference = result["differences"]["all"]["abs_rel"]
    assert difference["mean"] == pytest.approx(np.mean(np.subtract(found["all"], found["middle"])))
    assert difference["spread"] == pytest.approx(np.std(np.subtract(found["all"], found["middle"]), ddof=1))
    assert set(result["differences"]) == set(ablation.ARMS) - {"middle"}
    assert result["rows"]["base"]["abs_rel"]["mean"] == pytest.approx(
        read_report(done.output / "held-out" / "base").means["abs_rel"]["model"]
    )


def test_only_arms_with_a_mask_are_said_to_tell_what_moves(result):
    assert {arm for arm, row in result["rows"].items() if "motion_auroc" in row} == {
        "trivial", "middle-release", "middle-paper",
    }  # fmt: skip
    assert not any("motion_auroc" in figures for figures in result["differences"].values())


def test_an_ablation_that_is_through_gives_the_same_table_without_a_training(done, monkeypatch):
    before = {name: (done.output / name).read_bytes() for name in ("result.json", "table.md")}
    held: list[bool] = []
    monkeypatch.setattr(ablation, "train", lambda *_: held.append(is_held(done.output / LOCK)))
    monkeypatch.setattr(ablation, "report_on_held_out", lambda *_: pytest.fail("a report was made again"))
    ablation.run(done)

    assert {name: (done.output / name).read_bytes() for name in before} == before
    assert held == [True] * 8  # no other process has been let in


def test_a_base_without_a_mask_is_tuned_with_and_without_one(tmp_path, monkeypatch):
    options = options_in(tmp_path, save_base(tmp_path / "base", mask_form=None), seeds=(0,))
    base = Page4DModel.from_pretrained(options.base).config
    recipe = from_json(options.recipe)
    middle, masked = (ablation.run_options(options, recipe, base, arm, 0) for arm in ("middle", "middle-release"))

    assert (middle.mask_form, middle.mask_strength) == (None, None)
    assert (masked.mask_form, masked.mask_strength) == ("release", 1)


def test_the_mask_head_s_own_loss_is_of_the_arms_with_a_mask_alone(tmp_path, base):
    options = options_in(tmp_path, base)
    recipe = from_json(write_options(tmp_path / "with", mask_loss_weight=0.5))
    config = Page4DModel.from_pretrained(base).config
    chosen = [ablation.run_options(options, recipe, config, arm, 0).mask_loss_weight for arm in ablation.ARMS]

    assert chosen == [0, 0, 0.5, 0.5]


def test_a_folder_of_another_base_is_refused(done, tmp_path):
    other = save_base(tmp_path / "other", initializer_range=0.3)
    with pytest.raises(Page4DError, match="holds an ablation of another base"):
        ablation.run(ablation.Options(other, done.output))


@pytest.mark.parametrize(
    ("network", "changes", "message"),
    [
        ({"mask_hold_start": 5, "mask_hold_end": 9}, {}, r"has a schedule for the mask \(mask_hold_start 5\)"),
        ({"mask_strength": 1.0}, {}, r"The mask of .* was trained \(mask_strength 1, mask_loss_weight 0 in"),
        ({"mask_loss_weight": 0.2}, {}, r"The mask of .* was trained \(mask_strength 0, mask_loss_weight 0.2 in"),
        ({"mask_form": None, "masked_layers": [7]}, {}, "names no middle layers"),
        ({}, {"seeds": (1, 1)}, "--seeds must name at least one, and none twice; got 1, 1"),
        ({}, {"arms": ()}, "--arms must name at least one"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_trained(tmp_path, network, changes, message):
    options = options_in(tmp_path, save_base(tmp_path / "base", **network), **changes)
    with pytest.raises(Page4DError, match=message):
        ablation.run(options)

    assert not options.output.exists()


@pytest.mark.parametrize("content", ["[]", '{"base": 3}', "{"])
def test_a_damaged_record_of_an_ablation_is_named(tmp_path, base, content):
    options = options_in(tmp_path, base)
    options.output.mkdir()
    (options.output / "ablation.json").write_text(content)
    with pytest.raises(Page4DError, match=r"ablation\.json .*; name another --output\."):
        ablation.run(options)


def test_what_the_reports_take_is_missed_before_anything_is_trained(tmp_path, base, monkeypatch):
    monkeypatch.setattr("finetuning.reports.find_spec", lambda name: None)
    options = options_in(tmp_path, base)
    with pytest.raises(Page4DError, match=r"evo, which is not installed; `pip install .*\[training,evaluation\]"):
        ablation.run(options)

    assert not options.output.exists()


def test_a_folder_with_something_else_is_refused(tmp_path, base, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(SystemExit):
        ablation.main(["--base", str(base), "--output", str(tmp_path / "out")])

    assert "holds something else (it has no ablation.json)" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["ablation.json", "ablation-large-motion.json"])
def test_the_ready_recipes_fit_the_small_model(name):
    recipe = from_json(ROOT / "training" / "recipes" / name)
    network = json.loads((ROOT / "training" / "recipes" / "tiny-network.json").read_text())

    assert recipe.sampling.patch_size == network["patch_size"]
    assert recipe.scenes.still_share == 0
    assert network["training"]["mask_hold_start"] is None
