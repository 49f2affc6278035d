"""A small network on a sequence's frames."""

from __future__ import annotations

import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluator.inference import Inference
from evaluator.metrics.scores import EvaluationError
from evaluator.predict import EvaluatedModel, Mask, SquashingProcessor, load_evaluated_model, predict
from evaluator.predictions import PredictionsError, check_predictions
from evaluator.sequences import EvaluatedSequence
from small_networks import small_network
from small_tum import NAME

from page4d_hf.captures import PinholeFrames, as_pinhole
from page4d_hf.errors import CheckpointError
from page4d_hf.geometry import unproject_depth
from page4d_hf.weights.identity import fingerprint

COUNT = 4
SMALL = Inference(resolution=28)


@pytest.fixture(scope="module")
def masked(tiny_model: Path) -> EvaluatedModel:
    return load_evaluated_model(str(tiny_model), mask="on", device="cpu", dtype="auto")


@pytest.fixture(scope="module")
def unmasked(tiny_model: Path) -> EvaluatedModel:
    return load_evaluated_model(str(tiny_model), mask="off", device="cpu", dtype="auto")


def test_predictions_fit_their_sequence(sequence: EvaluatedSequence, masked: EvaluatedModel) -> None:
    predictions = predict(sequence, masked, Inference(28, points="depth"))
    check_predictions(predictions, "here")
    assert predictions.frame_ids == sequence.frames.capture.frame_ids
    assert predictions.depth.shape == (COUNT, 28, 28)  # type: ignore[union-attr]  # 60 / 80 of 28 is 21, nearest 28
    for name in ("extrinsics", "intrinsics", "points", "motion"):
        assert getattr(predictions, name) is not None


def test_intrinsics_are_in_pixels_of_the_images(sequence: EvaluatedSequence, masked: EvaluatedModel) -> None:
    """The network's principal point is the middle of its input, which is the middle of the image."""
    for fit in ("crop", "squash"):
        intrinsics = predict(sequence, masked, Inference(28, fit=fit)).intrinsics  # type: ignore[arg-type]
        np.testing.assert_allclose(intrinsics[:, :2, 2], [[40, 30]] * COUNT, atol=1e-4)  # type: ignore[index]


def test_points_are_depth_lifted_by_the_predicted_cameras(sequence: EvaluatedSequence, masked: EvaluatedModel) -> None:
    predictions = predict(sequence, masked, Inference(28, fit="squash", points="depth"))
    scaled = torch.tensor(predictions.intrinsics) * torch.tensor([[28 / 80], [28 / 60], [1.0]])
    lifted = unproject_depth(
        torch.tensor(predictions.depth, dtype=torch.float64),
        torch.tensor(predictions.extrinsics),
        scaled,
        pixel_center=0.5,
    )
    np.testing.assert_allclose(predictions.points, lifted, rtol=1e-4, atol=1e-4)


def test_points_of_the_point_head_are_others(sequence: EvaluatedSequence, masked: EvaluatedModel) -> None:
    lifted, own = (predict(sequence, masked, Inference(28, points=source)).points for source in ("depth", "world"))  # type: ignore[arg-type]
    assert not np.allclose(lifted, own, atol=1e-2)  # type: ignore[arg-type]


def test_without_the_mask_cameras_differ_and_nothing_is_said_of_motion(
    sequence: EvaluatedSequence, masked: EvaluatedModel, unmasked: EvaluatedModel
) -> None:
    on, off = predict(sequence, masked, SMALL), predict(sequence, unmasked, SMALL)
    assert np.abs(on.extrinsics - off.extrinsics).max() > 1e-6  # type: ignore[operator]
    assert on.motion is not None
    assert off.motion is None


def test_frames_one_by_one_know_nothing_of_each_other(sequence: EvaluatedSequence, masked: EvaluatedModel) -> None:
    alone = predict(sequence, masked, Inference(28, one_by_one=True))
    again = predict(
        EvaluatedSequence(NAME, as_pinhole(sequence.frames.capture.select([2]))),
        masked,
        Inference(28, one_by_one=True),
    )
    np.testing.assert_array_equal(alone.depth[2], again.depth[0])  # type: ignore[index]
    assert alone.extrinsics is None
    assert len(alone) == COUNT


def test_frames_one_by_one_are_in_memory_one_by_one(
    monkeypatch: pytest.MonkeyPatch, sequence: EvaluatedSequence, masked: EvaluatedModel
) -> None:
    images: list[weakref.ref[np.ndarray]] = []
    most = []
    load = PinholeFrames.load_image

    def watched(frames: PinholeFrames, index: int) -> np.ndarray:
        most.append(sum(image() is not None for image in images))
        image = load(frames, index).copy()
        images.append(weakref.ref(image))
        return image

    monkeypatch.setattr(PinholeFrames, "load_image", watched)
    predict(sequence, masked, Inference(28, one_by_one=True))
    assert len(most) == COUNT
    assert max(most) <= 1


def test_squashing_stretches_what_the_processor_gives() -> None:
    """A ramp across the image stays a ramp, over a square; the image's box is all of it."""
    ramp = np.broadcast_to(np.arange(84, dtype=np.uint8)[None, :, None], (42, 84, 3)).copy()
    squashed = SquashingProcessor().preprocess([ramp], size=84, return_tensors="pt")
    assert squashed["pixel_values"].shape == (1, 1, 3, 84, 84)
    np.testing.assert_allclose(squashed["pixel_values"][0, 0, 0, 50] * 255, np.arange(84), atol=1e-3)
    assert squashed["image_boxes"][0, 0].tolist() == [0, 0, 84, 84]


def test_the_facts_of_a_model_name_its_weights(tiny_model: Path, masked: EvaluatedModel) -> None:
    assert masked.facts == {
        "name": "tiny",
        "revision": f"weights {fingerprint(tiny_model)}",
        "mask": "on",
        "device": "cpu",
        "dtype": "float32",
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "strength", "mask", "words"),
    [("release", 1.0, "on", "on"), ("release", 0.0, "on", "off"), ("release", 0.4, "on", "at strength 0.4"),
     ("paper", 1.0, "off", "off"), (None, 1.0, "on", "none")],
)  # fmt: skip
def test_the_facts_say_how_strong_the_mask_is_and_not_what_was_asked_for(
    tmp_path: Path, form: str | None, strength: float, mask: Mask, words: str
) -> None:
    small_network(mask_form=form, mask_strength=strength).save_pretrained(tmp_path)

    assert load_evaluated_model(str(tmp_path), mask=mask, device="cpu", dtype="auto").facts["mask"] == words


def test_a_network_that_runs_out_of_memory_stops_the_run(
    sequence: EvaluatedSequence, masked: EvaluatedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(masked.model, "forward", full)
    with pytest.raises(EvaluationError, match="does not hold 4 frames") as caught:
        predict(sequence, masked, SMALL)
    assert not isinstance(caught.value, PredictionsError)


def test_cameras_that_are_not_finite_exclude_the_sequence(sequence: EvaluatedSequence, tiny_model: Path) -> None:
    broken = load_evaluated_model(str(tiny_model), mask="on", device="cpu", dtype="auto")
    with torch.no_grad():
        for parameter in broken.model.camera_head.parameters():  # type: ignore[union-attr]
            parameter.fill_(torch.nan)
    with pytest.raises(PredictionsError, match="no finite camera for 4 of 4 frames"):
        predict(sequence, broken, SMALL)


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="No model folder"):
        load_evaluated_model(str(tmp_path / "none"), mask="on", device="cpu", dtype="auto")


@pytest.mark.slow
@pytest.mark.parametrize("one_by_one", [False, True])
def test_a_model_without_a_mask_head_is_run_and_says_nothing_of_motion(
    tmp_path: Path, sequence: EvaluatedSequence, one_by_one: bool
) -> None:
    small_network(mask_form=None).save_pretrained(tmp_path)
    evaluated = load_evaluated_model(str(tmp_path), mask="on", device="cpu", dtype="auto")
    predictions = predict(sequence, evaluated, Inference(28, one_by_one=one_by_one))
    assert len(predictions) == COUNT
    assert predictions.motion is None


def test_the_network_alone_is_scored(
    monkeypatch: pytest.MonkeyPatch, sequence: EvaluatedSequence, masked: EvaluatedModel
) -> None:
    """Its cameras are not refined, and its motion is not combined with what optical flow shows."""

    def unwanted(*_: object, **__: object) -> None:
        raise AssertionError("something else than the network is at work")

    monkeypatch.setattr("page4d_hf.reconstruction.cameras.refinement.refine", unwanted)
    monkeypatch.setattr("page4d_hf.reconstruction.motion.geometric_motion", unwanted)
    assert predict(sequence, masked, SMALL).motion is not None
