"""Sequences are scored as the protocol says, and whatever does not count is named and counted."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from evaluator.metrics.depth import FIGURES, DepthLimits, resize_depth, score_depth
from evaluator.metrics.scores import SequenceScores
from evaluator.predictions import Predictions
from evaluator.protocols import PROTOCOLS, DepthProtocol, PointsProtocol
from evaluator.sequences import EvaluatedSequence
from evaluator.tasks import _predicted_points, average, score

from page4d_hf.captures import Capture, as_pinhole
from page4d_hf.geometry import Similarity

HEIGHT, WIDTH, FRAMES = 12, 16, 5
VIDEO, VIDEO_OWN = PROTOCOLS["page4d"]["video-depth"], PROTOCOLS["cut3r"]["video-depth"]
MONO, POSE, POINTS = (PROTOCOLS["page4d"][task] for task in ("mono-depth", "pose", "points"))


@dataclass
class Truth:
    """What the frames of a sequence see; change it, then ask for the sequence."""

    depth: list[np.ndarray | None]  # (HEIGHT, WIDTH)
    masks: list[np.ndarray | None]
    extrinsics: np.ndarray
    layout: str = "sintel"

    @property
    def intrinsics(self) -> np.ndarray:
        return np.tile([[14.0, 0, 8.5], [0, 13.0, 5.5], [0, 0, 1]], (FRAMES, 1, 1))

    def sequence(self) -> EvaluatedSequence:
        paths: list[Path | None] = [Path(str(i)) for i in range(FRAMES)]

        def read(values: list[np.ndarray | None]) -> list[Path | None]:
            return [None if value is None else path for value, path in zip(values, paths, strict=True)]

        def depth_of(path: Path, intrinsics: np.ndarray) -> np.ndarray:
            return np.asarray(self.depth[int(path.name)])

        capture = Capture(
            layout=self.layout,
            root=Path(),
            frame_ids=[f"frame_{i}" for i in range(FRAMES)],
            image_paths=[Path(f"{i}.png") for i in range(FRAMES)],
            extrinsics=self.extrinsics,
            intrinsics=self.intrinsics,
            distortion=np.zeros((FRAMES, 5)),
            image_sizes=np.tile([WIDTH, HEIGHT], (FRAMES, 1)),
            time_ids=np.arange(FRAMES),
            camera_ids=np.zeros(FRAMES, np.int64),
            depth_paths=read(self.depth),
            motion_mask_paths=read(self.masks),
            read_depth_file=depth_of,
            read_motion_mask_file=lambda path: np.asarray(self.masks[int(path.name)]),
        )
        return EvaluatedSequence("final/small", as_pinhole(capture))

    def predictions(self, scale: float = 1.0) -> Predictions:
        """The truth in another scale; of frames without depth, a depth of 1."""
        depth = [np.ones((HEIGHT, WIDTH)) if value is None else value for value in self.depth]
        extrinsics = self.extrinsics.copy()
        extrinsics[:, :, 3] *= scale
        return Predictions(
            [f"frame_{i}" for i in range(FRAMES)],
            depth=(np.stack(depth) * scale).astype(np.float32),
            extrinsics=extrinsics,
            intrinsics=self.intrinsics,
        )


@pytest.fixture
def truth() -> Truth:
    """A camera that moves and turns; depth is noise from 1 to 5, and the left quarter moves in all frames but one."""
    draw = np.random.default_rng(0)
    extrinsics = np.zeros((FRAMES, 3, 4))
    for i in range(FRAMES):
        extrinsics[i, :, :3] = cv2.Rodrigues(0.1 * draw.normal(size=3))[0]
        extrinsics[i, :, 3] = draw.normal(size=3)
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[:, :4] = True
    return Truth(
        [draw.uniform(1, 5, (HEIGHT, WIDTH)).astype(np.float32) for _ in range(FRAMES)],
        [mask] * (FRAMES - 1) + [None],
        extrinsics,
    )


def noisy(predictions: Predictions) -> Predictions:
    assert predictions.depth is not None
    noise = np.random.default_rng(1).lognormal(0, 0.2, predictions.depth.shape)
    return replace(predictions, depth=(predictions.depth * noise).astype(np.float32))


# --------------------------------------------------------------------------------------------------------------------
# Depth


@pytest.mark.parametrize("protocol", [VIDEO_OWN, MONO], ids=["video", "mono"])
def test_true_depth_in_another_scale_makes_no_error(protocol: DepthProtocol, truth: Truth) -> None:
    scores = score(protocol, truth.predictions(scale=0.1), truth.sequence())
    assert scores.excluded is None
    assert scores.figures["abs_rel"] == pytest.approx(0, abs=1e-5)
    assert scores.figures["delta_1.25"] == 1
    assert scores.weight == scores.counts["pixels"] == FRAMES * HEIGHT * WIDTH
    assert (scores.counts["frames"], scores.counts["frames_left_out"]) == (FRAMES, 0)
    assert scores.notes == []


def test_video_depth_has_figures_for_both_alignments(truth: Truth) -> None:
    figures = score(VIDEO_OWN, noisy(truth.predictions()), truth.sequence()).figures
    names = {f"{name}{region}" for name in FIGURES for region in ("", "_static", "_dynamic")}
    assert set(figures) == names | {f"scale&shift/{name}" for name in names}


def test_video_depth_is_one_alignment_of_all_frames(truth: Truth) -> None:
    predictions = noisy(truth.predictions(scale=0.5))
    assert predictions.depth is not None
    expected = score_depth(predictions.depth, np.stack(truth.depth), "scale", DepthLimits(70, 70))  # type: ignore[arg-type]
    found = score(VIDEO_OWN, predictions, truth.sequence()).figures
    assert {name: found[name] for name in FIGURES} == pytest.approx(expected.figures)


def test_mono_depth_aligns_each_frame_and_averages_them_by_pixels(truth: Truth) -> None:
    assert truth.depth[0] is not None
    truth.depth[0][:, 3:] = 0  # this frame has fewer pixels that count
    predictions = noisy(truth.predictions())
    assert predictions.depth is not None
    predictions.depth *= np.arange(1, FRAMES + 1, dtype=np.float32)[:, None, None]  # each frame in a scale of its own
    by_frame = [
        score_depth(found, expected, "median", DepthLimits(70, 70))
        for found, expected in zip(predictions.depth, truth.depth, strict=True)  # type: ignore[arg-type]
    ]
    pixels = [frame.pixels["pixels"] for frame in by_frame]
    expected = np.average([frame.figures["rmse"] for frame in by_frame], weights=pixels)
    scores = score(MONO, predictions, truth.sequence())
    assert scores.figures["rmse"] == pytest.approx(expected)
    assert scores.counts["pixels"] == sum(pixels)


def test_mono_depth_holds_the_pixels_of_one_frame(truth: Truth, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays: list[weakref.ref[np.ndarray]] = []
    most = []

    def watched(depth: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        most.append(sum(array() is not None for array in arrays))
        return resize_depth(depth, size)

    def scored(predicted: np.ndarray, *rest: Any, **options: Any) -> Any:
        arrays.append(weakref.ref(predicted))
        return score_depth(predicted, *rest, **options)

    monkeypatch.setattr("evaluator.tasks.resize_depth", watched)
    monkeypatch.setattr("evaluator.tasks.score_depth", scored)
    score(MONO, truth.predictions(), truth.sequence())
    assert len(arrays) == len(most) == FRAMES
    assert max(most) <= 1


def test_page4d_measures_video_depth_in_the_first_camera(truth: Truth) -> None:
    # Right in every frame's own camera, and wrong against it where depth is measured in the first.
    right = truth.predictions()
    assert score(VIDEO_OWN, right, truth.sequence()).figures["abs_rel"] == pytest.approx(0, abs=1e-6)
    assert score(VIDEO, right, truth.sequence()).figures["abs_rel"] > 0.05
    truth.extrinsics[:] = truth.extrinsics[0]  # a camera that stands still sees all in the first camera
    figures = score(VIDEO, truth.predictions(), truth.sequence()).figures
    assert figures["abs_rel"] == pytest.approx(0, abs=1e-5)


@pytest.mark.slow
def test_predictions_behind_the_first_camera_are_raised_for_scale_and_shift_alone(truth: Truth) -> None:
    predictions = truth.predictions()
    assert predictions.depth is not None
    predictions.depth[:, :2] = 0.01  # some of them behind the first camera
    raised, as_they_are = (
        score(replace(VIDEO, shift_floor=floor), predictions, truth.sequence()).figures for floor in (0.0, None)
    )
    assert {name: raised[name] for name in FIGURES} == {name: as_they_are[name] for name in FIGURES}
    assert raised["scale&shift/abs_rel"] != as_they_are["scale&shift/abs_rel"]


@pytest.mark.slow
def test_maps_of_another_size_see_the_same_in_the_first_camera(truth: Truth) -> None:
    truth.depth = [np.full((HEIGHT, WIDTH), 3.0, np.float32)] * FRAMES
    full = truth.predictions()
    half = replace(full, depth=np.full((FRAMES, HEIGHT // 2, WIDTH // 2), 3, np.float32))
    found, expected = (score(VIDEO, each, truth.sequence()).figures for each in (half, full))
    # Cubic interpolation extends the edges flat, where depth in the first camera is a plane.
    assert found["abs_rel"] == pytest.approx(expected["abs_rel"], rel=0.02)


def test_depth_without_cameras_is_scored_where_the_protocol_needs_none(truth: Truth) -> None:
    alone = replace(truth.predictions(), extrinsics=None, intrinsics=None)
    assert score(VIDEO_OWN, alone, truth.sequence()).excluded is None
    excluded = score(VIDEO, alone, truth.sequence()).excluded
    assert excluded is not None
    assert "no cameras" in excluded


@pytest.mark.parametrize("protocol", [VIDEO_OWN, MONO], ids=["video", "mono"])
@pytest.mark.parametrize("nothing", [None, 0.0, np.nan])
def test_frames_without_true_depth_are_left_out_and_counted(
    protocol: DepthProtocol, nothing: float | None, truth: Truth
) -> None:
    truth.depth[2] = None if nothing is None else np.full((HEIGHT, WIDTH), nothing, np.float32)
    scores = score(protocol, truth.predictions(), truth.sequence())
    assert scores.counts["frames_left_out"] == 1
    assert scores.counts["pixels"] == (FRAMES - 1) * HEIGHT * WIDTH
    assert scores.notes == ["1 of 5 frames have no true depth that counts."]


@pytest.mark.parametrize("protocol", [VIDEO_OWN, MONO, POINTS], ids=["video", "mono", "points"])
def test_a_sequence_without_true_depth_is_excluded(protocol: DepthProtocol, truth: Truth) -> None:
    truth.depth = [np.full((HEIGHT, WIDTH), 80, np.float32) for _ in range(FRAMES)]
    scores = score(protocol, truth.predictions(), truth.sequence())
    assert scores.excluded == "None of its 5 frames has a pixel with true depth above 0 and below 70."
    assert (scores.figures, scores.weight) == ({}, 0)


@pytest.mark.parametrize("protocol", [VIDEO_OWN, MONO], ids=["video", "mono"])
@pytest.mark.parametrize("nothing", [0.0, -1.0, np.nan, np.inf])
def test_pixels_without_predicted_depth_are_counted(protocol: DepthProtocol, nothing: float, truth: Truth) -> None:
    predictions = truth.predictions()
    assert predictions.depth is not None
    predictions.depth[1, :3] = nothing
    scores = score(protocol, predictions, truth.sequence())
    assert scores.figures["abs_rel"] == pytest.approx(0, abs=1e-5)
    assert scores.counts["pixels_without_prediction"] == 3 * WIDTH
    assert scores.counts["pixels"] == FRAMES * HEIGHT * WIDTH - 3 * WIDTH
    assert scores.notes == ["5.00% of the pixels that count have no predicted depth and are left out."]


@pytest.mark.parametrize("protocol", [VIDEO_OWN, MONO, VIDEO], ids=["video", "mono", "first camera"])
@pytest.mark.parametrize("nothing", [0.0, np.nan])
def test_a_sequence_without_predicted_depth_is_excluded(protocol: DepthProtocol, nothing: float, truth: Truth) -> None:
    predictions = replace(truth.predictions(), depth=np.full((FRAMES, HEIGHT, WIDTH), nothing, np.float32))
    scores = score(protocol, predictions, truth.sequence())
    assert scores.excluded == (
        "No pixel that has true depth has predicted depth: all of it is 0, negative or not finite."
    )
    assert scores.counts["frames_left_out"] == FRAMES


def test_static_and_dynamic_regions_are_apart_where_there_are_masks(truth: Truth) -> None:
    predictions = truth.predictions()
    assert predictions.depth is not None
    predictions.depth[:, :, :4] *= 1.5  # what moves
    scores = score(VIDEO_OWN, predictions, truth.sequence())
    assert scores.counts["pixels_dynamic"] == 4 * HEIGHT * (FRAMES - 1)  # the last frame has no mask
    assert scores.counts["pixels_static"] == 12 * HEIGHT * (FRAMES - 1)
    # Ten steps of Weiszfeld end within a thousandth of the scale of what stands still, which is most.
    assert scores.figures["abs_rel_static"] < 1e-3
    assert scores.figures["abs_rel_dynamic"] == pytest.approx(0.5, rel=1e-3)


def test_without_masks_there_are_no_regions(truth: Truth) -> None:
    truth.masks = [None] * FRAMES
    figures = score(MONO, truth.predictions(), truth.sequence()).figures
    assert set(figures) == set(FIGURES)


# --------------------------------------------------------------------------------------------------------------------
# Poses


def test_the_true_trajectory_in_another_scale_makes_no_error(truth: Truth) -> None:
    scores = score(POSE, truth.predictions(scale=7), truth.sequence())
    assert scores.figures == pytest.approx({"ate": 0, "rpe_translation": 0, "rpe_rotation": 0}, abs=1e-5)
    assert (scores.weight, scores.counts) == (1, {"frames": FRAMES})


def test_trajectories_that_cannot_be_aligned_are_counted_apart(truth: Truth) -> None:
    truth.extrinsics[:] = truth.extrinsics[0]
    scores = score(POSE, truth.predictions(), truth.sequence())
    assert scores.excluded is not None
    assert "does not move" in scores.excluded
    assert scores.counts == {"frames": FRAMES, "degenerate": 1}
    assert scores.figures == {}


def test_predictions_without_poses_are_excluded(truth: Truth) -> None:
    scores = score(POSE, replace(truth.predictions(), extrinsics=None), truth.sequence())
    assert scores.excluded == "The predictions have no extrinsics."
    assert "degenerate" not in scores.counts


# --------------------------------------------------------------------------------------------------------------------
# Points


def moved(predictions: Predictions) -> Predictions:
    """The same in another world, scale included."""
    similarity = Similarity(0.4, cv2.Rodrigues(np.array([0.5, 2.0, -1.0]))[0], np.array([1.0, -5, 3]))
    assert predictions.extrinsics is not None
    assert predictions.depth is not None
    return replace(
        predictions,
        extrinsics=similarity.apply_to_extrinsics(predictions.extrinsics),
        depth=predictions.depth * np.float32(0.4),
    )


def test_true_points_in_another_world_make_no_error(truth: Truth) -> None:
    scores = score(POINTS, moved(truth.predictions()), truth.sequence())
    assert scores.excluded is None
    assert all(value == pytest.approx(0, abs=1e-5) for value in scores.figures.values())
    assert scores.counts["points"] == FRAMES * HEIGHT * WIDTH
    assert scores.counts["points_dynamic"] == 4 * HEIGHT * (FRAMES - 1)
    assert scores.weight == 1


def test_given_points_are_taken_before_those_of_depth_and_cameras(truth: Truth) -> None:
    predictions = truth.predictions()
    draw = np.random.default_rng(2)
    points = draw.normal(size=(FRAMES, HEIGHT, WIDTH, 3)).astype(np.float32)
    scores = score(POINTS, replace(predictions, points=points), truth.sequence())
    assert scores.figures["accuracy_mean"] > 0.1


def test_points_of_smaller_maps_are_those_of_the_nearest_pixel(truth: Truth) -> None:
    numbered = np.stack(np.broadcast_arrays(np.arange(3)[:, None], np.arange(6)[None], 0), axis=-1)
    predictions = replace(truth.predictions(), points=numbered[None].astype(np.float32))
    found = _predicted_points(predictions, truth.sequence(), 0, np.arange(5), np.arange(5, 10), (5, 10))
    assert found[:, :2].tolist() == [[0, 3], [0, 3], [1, 4], [2, 5], [2, 5]]


def test_depth_of_half_the_size_gives_points_a_part_of_a_pixel_away(truth: Truth) -> None:
    # Depth that is the same in blocks of 2x2 pixels loses nothing in maps of half the size but the place in the block.
    block = np.random.default_rng(3).uniform(2, 4, (FRAMES, HEIGHT // 2, WIDTH // 2)).astype(np.float32)
    truth.depth = list(np.kron(block, np.ones((2, 2), np.float32)))
    half = replace(truth.predictions(), depth=block)
    scores = score(POINTS, half, truth.sequence())
    # A quarter of a block away at most, in x and in y: 0.5 pixels of 4 / 13 at a depth of 4.
    assert 0 < scores.figures["completion_mean"] < np.hypot(0.5 * 4 / 13, 0.5 * 4 / 14)


def test_points_are_sampled_evenly_up_to_a_number(truth: Truth) -> None:
    assert isinstance(POINTS, PointsProtocol)
    scores = score(replace(POINTS, max_points=100), truth.predictions(), truth.sequence())
    assert scores.counts["points"] == 100
    assert scores.figures["overall_mean"] == pytest.approx(0, abs=1e-5)


def test_pixels_without_a_predicted_point_are_counted_and_make_the_cloud_incomplete(truth: Truth) -> None:
    predictions = truth.predictions()
    assert predictions.depth is not None
    predictions.depth[0] = 0
    scores = score(POINTS, predictions, truth.sequence())
    assert scores.counts["points_without_prediction"] == HEIGHT * WIDTH
    assert scores.figures["accuracy_mean"] == pytest.approx(0, abs=1e-5)
    assert scores.figures["completion_mean"] > 0.01
    assert scores.notes == ["20.00% of the points have no prediction and lack accuracy."]


def test_predictions_without_points_and_depth_are_excluded(truth: Truth) -> None:
    scores = score(POINTS, replace(truth.predictions(), depth=None), truth.sequence())
    assert scores.excluded is not None
    assert "no points" in scores.excluded


# --------------------------------------------------------------------------------------------------------------------
# Averages


def test_depth_is_averaged_by_pixels_and_regions_by_their_own() -> None:
    scores = [
        SequenceScores("a", {"abs_rel": 0.1, "abs_rel_dynamic": 0.5}, 300, {"pixels": 300, "pixels_dynamic": 10}),
        SequenceScores("b", {"abs_rel": 0.2, "abs_rel_dynamic": 0.3}, 100, {"pixels": 100, "pixels_dynamic": 90}),
        SequenceScores("c", {"abs_rel": 0.2}, 100, {"pixels": 100, "pixels_dynamic": 0}),
        SequenceScores("d", {}, 0, {}, excluded="no depth"),
    ]
    found = average(VIDEO, scores)
    assert found == pytest.approx({"abs_rel": 0.14, "abs_rel_dynamic": 0.32})


def test_poses_are_averaged_one_by_one() -> None:
    scores = [SequenceScores(name, {"ate": value}, 1, {}) for name, value in (("a", 0.1), ("b", 0.4))]
    assert average(POSE, scores) == pytest.approx({"ate": 0.25})
