"""The making of page4d-tiny, with stages of a few steps, and what `page4d pull tiny` makes of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import held_out
import pytest
import tiny
import torch
from evaluator.studies.study_clips import Synthetic
from finetuning import processes
from finetuning.options import from_json
from finetuning.reports import held_out_clips
from finetuning.tiny_card import Stage, clips_of_card, tiny_card
from huggingface_hub import ModelCard, ModelCardData
from safetensors.torch import load_file
from small_training import CONSTANT, NETWORK, history, small_network, train, write_options
from transformers import AutoImageProcessor, AutoModel

from page4d_hf import Page4DConfig, cli
from page4d_hf.errors import Page4DError
from page4d_hf.synthetic import SyntheticOptions
from page4d_hf.utils.folders import MANIFEST, check_output_folder
from page4d_hf.utils.locks import is_held
from page4d_hf.weights import shipped
from page4d_hf.weights.identity import fingerprint

ROOT = Path(__file__).resolve().parents[2]
SCENES = {"bodies": [2, 3], "still_share": 0.0}


def write_stages(folder: Path) -> Path:
    """Two stages: still scenes with the mask off, then moving ones with the mask on."""
    recipes = folder / "recipes"
    recipes.mkdir()
    common: dict[str, Any] = {"max_train_steps": 2, "train": ["all"], "checkpointing_steps": 1}
    still = {**common, "output": str(folder / "runs" / "still"), "scenes": {**SCENES, "still_share": 1.0}}
    path = write_options(folder / "options", {**CONSTANT, "mask_strength": 0.0}, **still)
    values = json.loads(path.read_text())
    (recipes / "1-still.json").write_text(json.dumps(values))
    del values["network"]
    changes = {"model": values["output"], "output": str(folder / "runs" / "moving"), "scenes": SCENES}
    (recipes / "2-moving.json").write_text(json.dumps({**values, **changes, "mask_strength": 1.0}))
    return recipes


def train_here(path: Path, accelerate: Path | None) -> None:
    """What `processes.train` does, in this process: to import everything takes longer than these trainings."""
    train(from_json(path))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the program has been run to its end; `tiny` in it is what is to be shipped."""
    folder = tmp_path_factory.mktemp("tiny")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tiny, "train", train_here)
        arguments = ["--recipes", write_stages(folder), "--output", folder / "tiny", "--clips", "2", "--frames", "3"]
        tiny.main([str(argument) for argument in arguments])
    return folder


# Making it


@pytest.mark.slow
def test_each_stage_goes_on_from_the_one_before_and_the_last_is_shipped(made):
    still, moving = made / "runs" / "still", made / "runs" / "moving"
    assert [len([line for line in history(run) if "loss" in line]) for run in (still, moving)] == [2, 2]
    assert Page4DConfig.from_pretrained(still).mask_strength == 0
    assert Page4DConfig.from_pretrained(made / "tiny").mask_strength == 1
    shipped_weights = load_file(made / "tiny" / "model.safetensors")
    trained = load_file(moving / "model.safetensors")
    assert all(torch.equal(shipped_weights[name], value) for name, value in trained.items())
    assert {path.name for path in (made / "tiny").iterdir()} == {
        MANIFEST, "README.md", "config.json", "model.safetensors", "preprocessor_config.json",
    }  # fmt: skip


def test_what_somebody_put_beside_the_shipped_model_is_refused_by_name_before_a_stage_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(tiny, "train", lambda *arguments: pytest.fail("a stage ran"))
    shutil.copytree(shipped.TINY, tmp_path / "tiny")
    (tmp_path / "tiny" / "notes.txt").write_text("mine")
    options = tiny.Options(recipes=write_stages(tmp_path), output=tmp_path / "tiny")
    with pytest.raises(Page4DError, match=r"page4d did not write notes\.txt"):
        tiny.make(options)


@pytest.mark.slow
def test_the_card_says_how_it_was_made_and_how_good_it_is(made):
    card = ModelCard.load(made / "tiny" / "README.md")
    report = json.loads((made / "runs" / "held-out" / "held-out.json").read_text())

    parameters = sum(p.numel() for p in small_network(**CONSTANT).parameters())
    assert f"{parameters:,} parameters" in card.text
    assert "| 1-still | random weights | 2 |" in card.text
    assert "| 2-moving | still | 2 |" in card.text
    abs_rel = report["means"]["abs_rel"]
    row = f"{abs_rel['model']:.4g} ± {abs_rel['standard_error']:.2g} | {abs_rel['trivial']:.4g} |"
    assert row in " ".join(card.text.split())  # columns are padded
    assert "What it is not for" in card.text
    assert report["model"]["weights"] == fingerprint(made / "tiny")
    assert report["model"]["parameters"] == parameters


@pytest.mark.slow
def test_the_report_comes_out_again_from_what_is_shipped(made, tmp_path):
    """By the program that a user has."""
    held_out.main(["--model", str(made / "tiny"), "--output", str(tmp_path / "again")])
    for name in ("held-out.json", "held-out.md"):
        assert (tmp_path / "again" / name).read_bytes() == (made / "runs" / "held-out" / name).read_bytes()


@pytest.mark.slow
def test_made_again_nothing_is_trained_again(made, monkeypatch):
    """Of the two stages each is started, and finds itself at its end."""
    started: list[str] = []

    def note(path: Path, accelerate: Path | None) -> None:
        started.append(path.stem)
        assert (from_json(path).output / "checkpoint-2").is_dir()
        assert is_held(made / ".tiny.lock")

    monkeypatch.setattr(tiny, "train", note)
    monkeypatch.setattr(tiny, "report_on_held_out", lambda *_: {})
    before = (made / "tiny" / "README.md").read_bytes()
    tiny.make(tiny.Options(made / "recipes", made / "tiny", None, clips=2, frames=3))

    assert started == ["1-still", "2-moving"]
    assert (made / "tiny" / "README.md").read_bytes() == before


@pytest.mark.slow
def test_a_model_that_is_too_large_leaves_what_is_shipped_alone(made, monkeypatch):
    monkeypatch.setattr(tiny, "train", lambda *_: None)
    monkeypatch.setattr(tiny, "LARGEST", 10_000)
    before = {path.name: path.read_bytes() for path in (made / "tiny").iterdir()}
    with pytest.raises(Page4DError, match=r"The model has 0\.\d MB, of which 0 at most may be shipped"):
        tiny.make(tiny.Options(made / "recipes", made / "tiny", None, clips=2, frames=3))

    assert {path.name: path.read_bytes() for path in (made / "tiny").iterdir()} == before


def test_what_the_report_takes_is_missed_before_anything_is_trained(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("finetuning.reports.find_spec", lambda name: None)
    monkeypatch.setattr(tiny, "train", lambda *_: pytest.fail("trains"))
    with pytest.raises(SystemExit):
        tiny.main(["--recipes", str(write_stages(tmp_path)), "--output", str(tmp_path / "tiny")])

    said = capsys.readouterr().err
    assert "evo, which is not installed; `pip install " in said
    assert "[training,evaluation]" in said


def test_a_stage_that_stops_ends_the_making_in_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(processes, "FINETUNE", tmp_path / "no-such-program.py")
    with pytest.raises(SystemExit):
        tiny.main(
            ["--recipes", str(write_stages(tmp_path)), "--output", str(tmp_path / "tiny"), "--accelerate", "None"]
        )

    error = capsys.readouterr().err
    assert "1-still.json stopped (status 2)" in error
    assert "goes on from its newest checkpoint" in error
    assert not (tmp_path / "tiny").exists()


def test_what_is_shipped_can_be_made_again():
    """Its manifest is that of its files as they are; else `make tiny` would train for hours and then refuse."""
    check_output_folder(shipped.TINY, overwrite=True)


def test_a_stage_that_starts_from_elsewhere_is_refused(tmp_path):
    recipes = write_stages(tmp_path)
    values = json.loads((recipes / "2-moving.json").read_text())
    (recipes / "2-moving.json").write_text(json.dumps({**values, "model": "elsewhere"}))
    with pytest.raises(Page4DError, match=r"2-moving\.json starts from elsewhere; it must be .*still"):
        tiny.stages_in(recipes)
    with pytest.raises(Page4DError, match="There are no stages in"):
        tiny.stages_in(tmp_path / "runs")


def test_the_ready_stages_fit_each_other_and_the_network():
    stages = [options for _, options in tiny.stages_in(ROOT / "training" / "recipes" / "tiny")]

    network = json.loads((ROOT / stages[0].network).read_text())
    assert all(options.sampling.patch_size == network["patch_size"] for options in stages)
    assert stages[0].scenes.still_share == 1
    assert stages[0].seed != stages[1].seed  # not the same rooms again
    assert network["mask_strength"] == 0
    assert stages[-1].mask_strength == 1


def test_what_is_tried_are_clips_of_the_last_stage_s_scenes_and_shape(tmp_path):
    options = from_json(write_options(tmp_path / "options", scenes=SCENES))
    clips = held_out_clips(options, clips=3, frames=4)

    assert clips == Synthetic(3, 4, (28, 28), scenes=SyntheticOptions(bodies=(2, 3)))
    assert clips_of_card(clips)["scenes"] == {"bodies": [2, 3]}


def test_clips_that_a_card_names_are_read_from_it(tmp_path):
    clips = Synthetic(3, 4, (28, 42), 9, SyntheticOptions(bodies=(2, 3), light=0.5))
    card = ModelCard(f"---\n{ModelCardData(held_out_clips=clips_of_card(clips)).to_yaml()}\n---\n")
    card.save(tmp_path / "README.md")

    assert held_out.options_from(["--model", str(tmp_path), "--output", "out"]).clips == clips


@pytest.mark.slow
def test_the_card_says_so_where_a_stage_had_lifelike_scenes(made):
    told = Stage.of("moving", made / "runs" / "moving")
    told.options["scenes"]["lifelike"] = 0.5
    card = tiny_card(made / "tiny", [told], Synthetic(1, 3, (28, 28)), "")
    assert "nothing but rendered rooms, halls, streets and country" in card
    assert "lifelike 0.5" in card


# Taking it out of the package


@pytest.fixture
def in_package(made, monkeypatch) -> Path:
    monkeypatch.setattr(shipped, "TINY", made / "tiny")
    return made / "tiny"


@pytest.mark.slow
def test_tiny_is_pulled_without_a_network_and_loaded_by_the_auto_classes(in_package, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = tmp_path / "my page4d"
    cli.main(["pull", "tiny", "--output", str(folder)])

    pulled = AutoModel.from_pretrained(folder)
    expected = load_file(in_package / "model.safetensors")
    found = pulled.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert AutoImageProcessor.from_pretrained(folder).size["width"] == NETWORK["image_size"]
    assert (folder / "README.md").read_bytes() == (in_package / "README.md").read_bytes()
    # The code for those who do not have this package.
    assert (folder / "modeling_page4d.py").is_file()
    assert str(in_package) not in (folder / "config.json").read_text()
    assert f"page4d reconstruct VIDEO --model '{folder}'" in capsys.readouterr().out


@pytest.mark.slow
def test_tiny_is_pulled_in_another_precision(in_package, tmp_path):
    cli.main(["pull", "tiny", "--output", str(tmp_path / "page4d"), "--dtype", "bfloat16"])
    weights = load_file(tmp_path / "page4d" / "model.safetensors")

    assert weights["aggregator.special_tokens.camera"].dtype == torch.bfloat16
    assert weights["camera_head.empty_pose"].dtype == torch.float32


def test_a_revision_of_what_the_package_holds_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["pull", "tiny", "--output", str(tmp_path / "page4d"), "--revision", "main"])

    error = capsys.readouterr().err.strip()
    assert ended.value.code == 1
    assert len(error.splitlines()) == 1
    assert "--revision is of repositories on the Hub" in error
    assert not (tmp_path / "page4d").exists()
