"""The report on held-out clips: figures that are known in closed form, defaults, and the whole program."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import held_out as program
import huggingface_hub
import numpy as np
import pytest
import torch
from evaluator.metrics.scores import EvaluationError
from evaluator.metrics.trajectories import camera_figures
from evaluator.predictions import Predictions
from evaluator.studies.held_out_clips import (
    CARD_KEY,
    FIGURES,
    ClipScores,
    depth_and_motion_figures,
    point_figures,
    score_clip,
    settings_of_card,
    summarise,
    trivial_predictions_of,
)
from evaluator.studies.study_clips import StudyClip, Synthetic, synthetic_clips
from huggingface_hub import ModelCardData
from huggingface_hub.errors import EntryNotFoundError
from small_networks import small_network

from page4d_hf import Page4DImageProcessor
from page4d_hf.errors import Page4DError
from page4d_hf.synthetic import SyntheticOptions
from page4d_hf.utils.folders import MANIFEST
from page4d_hf.utils.ranking import auroc

SIZE = (28, 42)


@pytest.fixture(scope="module")
def clip() -> StudyClip:
    return next(synthetic_clips(Synthetic(1, 4, seed=3, scenes=SyntheticOptions(moving_share=1.0)), SIZE))


def truth_of(clip: StudyClip) -> Predictions:
    return Predictions(
        trivial_predictions_of(clip).frame_ids,
        depth=clip.depth.numpy(),
        extrinsics=clip.extrinsics,
        intrinsics=clip.intrinsics,
        motion=clip.moving.numpy().astype(np.float32),
    )


# Figures


def test_the_truth_has_no_error(clip):
    figures = depth_and_motion_figures(truth_of(clip), clip) | point_figures(truth_of(clip), clip)

    for name, value in figures.items():
        assert value == pytest.approx(1 if name.startswith(("delta", "motion")) else 0, abs=1e-6), name
    assert {name.removesuffix("_static").removesuffix("_dynamic") for name in figures} | set(
        camera_figures(clip.extrinsics, clip.extrinsics)
    ) == set(FIGURES)


def test_the_points_of_a_point_head_go_before_lifted_depth(clip):
    said = truth_of(clip)
    points = np.random.default_rng(0).normal(size=(*clip.depth.shape, 3)).astype(np.float32)

    assert point_figures(replace(said, points=points), clip)["point_error"] > 0.1


def test_the_trivial_depth_is_the_median(clip):
    depth = clip.depth.double()
    median = depth.flatten().median()
    figures = depth_and_motion_figures(trivial_predictions_of(clip), clip)

    assert figures["abs_rel"] == pytest.approx(float(((median - depth).abs() / depth).mean()), rel=1e-5)
    assert figures["motion_auroc"] == 0.5


def test_a_network_is_scored_beside_the_trivial_on_the_same_clips(clip):
    scores = score_clip(small_network(), clip)

    assert scores.excluded is None
    assert set(scores.model) == set(scores.trivial)
    means = summarise([scores, ClipScores("other", {"abs_rel": 0.5}, {"abs_rel": 1.0})])
    assert means["abs_rel"]["clips"] == 2
    assert means["abs_rel"]["trivial"] == pytest.approx((scores.trivial["abs_rel"] + 1) / 2)
    assert means["ate"]["clips"] == 1


def test_a_network_whose_depth_is_not_finite_is_excluded(clip):
    model = small_network()
    with torch.no_grad():
        for parameter in model.depth_head.parameters():
            parameter.fill_(torch.nan)
    scores = score_clip(model, clip)

    assert "depth, cameras or points are not finite" in scores.excluded
    with pytest.raises(EvaluationError, match="None of the 1 clips can be scored"):
        summarise([scores])


def test_the_area_under_the_curve_counts_pairs():
    rng = np.random.default_rng(0)
    values, truth = rng.integers(0, 5, 60), rng.random(60) < 0.4
    pairs = values[truth][:, None] - values[~truth]

    assert auroc(values, truth) == pytest.approx(((pairs > 0) + 0.5 * (pairs == 0)).mean())
    assert auroc(values, np.ones(60, bool)) is None


# The program


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose card names the clips that it is to be tried on."""
    folder = tmp_path_factory.mktemp("held-out") / "model"
    small_network().save_pretrained(folder)
    Page4DImageProcessor(size=28).save_pretrained(folder)
    settings = {"clips": 2, "frames": 3, "image_size": [28, 42], "seed": 11, "scenes": {"bodies": [3, 4]}}
    (folder / "README.md").write_text(f"---\n{ModelCardData(**{CARD_KEY: settings}).to_yaml()}\n---\n\n# A model\n")
    return folder


@pytest.mark.slow
def test_the_same_options_give_the_same_bytes_and_the_card_s_clips(folder, tmp_path, capsys):
    for name in "ab":
        program.main(["--model", str(folder), "--output", str(tmp_path / name)])
    printed = capsys.readouterr().out

    assert {path.name for path in (tmp_path / "a").iterdir()} == {
        f"{program.NAME}.json",
        f"{program.NAME}.md",
        MANIFEST,
    }
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    record = json.loads((tmp_path / "a" / f"{program.NAME}.json").read_text())
    assert [each["name"] for each in record["clips"]] == ["synthetic-11", "synthetic-12"]
    assert record["settings"]["scenes"]["bodies"] == [3, 4]
    assert "2 of 3 frames of 42x28 pixels, seeds from 11" in printed
    assert record["means"]["abs_rel"]["clips"] == 2
    assert f"{record['means']['abs_rel']['trivial']:.4g}" in printed


def test_options_go_before_what_the_card_says(folder):
    arguments = ["--model", str(folder), "--output", "out", "--clips.frames", "5", "--clips.scenes.light", "0.5"]
    options = program.options_from(arguments)

    assert options.clips == Synthetic(2, 5, (28, 42), 11, SyntheticOptions(bodies=(3, 4), light=0.5))


def test_a_model_without_a_card_is_tried_on_squares_as_wide_as_its_image_processor_says(tmp_path):
    options = program.options_from(["--model", str(tmp_path), "--output", "out"])

    assert options.clips == Synthetic(clips=64)
    assert options.clips.size_for(Page4DImageProcessor(size=28), 14) == (28, 28)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ("{lamps: 3}", "held_out_clips.lamps"),
        ('{clips: "2"}', "clips: it should be a valid integer, got '2'"),
        ("{clips: 2.5}", "clips: it should be a valid integer"),
        ("{scenes: [1]}", "scenes"),
        ("{scenes: {light: 3}}", "The option light must be from 0 to 1, got 3"),
        ("{image_size: [28]}", "image_size"),
        ("2020-01-01", "metadata"),
        ("[" * 2000, "metadata"),
        ("{[}", "metadata"),
    ],
)
def test_a_card_that_names_no_clips_that_can_be_made_is_refused(tmp_path, settings, reason):
    (tmp_path / "README.md").write_text(f"---\n{CARD_KEY}: {settings}\n---\n")
    with pytest.raises(EvaluationError, match=reason) as caught:
        settings_of_card(str(tmp_path))
    assert str(tmp_path / "README.md") in str(caught.value)


def test_the_card_of_a_model_on_the_hub_names_its_clips_too(tmp_path, monkeypatch):
    fetched = {("someone/small", "README.md"): tmp_path / "README.md"}
    (tmp_path / "README.md").write_text(f"---\n{CARD_KEY}:\n  frames: 5\n  scenes:\n    light: 0.5\n---\n")

    def fetch(repository: str, name: str) -> str:
        if (repository, name) not in fetched:
            raise EntryNotFoundError(name)
        return str(fetched[repository, name])

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    assert settings_of_card("someone/small") == Synthetic(frames=5, scenes=SyntheticOptions(light=0.5))
    assert settings_of_card("someone/else") is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--clips.frames", "2"], "at least 1 clip of at least 3 frames"),
        (["--mask-strength", "2"], "must be from 0 to 1, got 2.0"),
        (["--clips.image-size", "28", "30"], "multiple of the patch size 14, got 30"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(folder, tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit):
        program.main(["--model", str(folder), "--output", str(tmp_path / "out"), *arguments])

    error = capsys.readouterr().err.strip()
    assert error.startswith("held_out: ")
    assert message in error.splitlines()[-1]
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_strength_of_the_mask_is_an_option(folder, tmp_path):
    common = {"model": str(folder), "clips": settings_of_card(str(folder))}
    off, on = (
        program.run(program.HeldOutOptions(output=tmp_path / str(strength), mask_strength=strength, **common))
        for strength in (0.0, 1.0)
    )
    assert off["model"]["mask"] == "release, strength 0"
    assert off["means"]["rotation_error"]["model"] != on["means"]["rotation_error"]["model"]
    assert issubclass(EvaluationError, Page4DError)
