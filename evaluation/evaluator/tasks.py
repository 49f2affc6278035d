"""A protocol applied: from predictions and a sequence to figures, and from sequences to averages.

Whatever is left out is counted. A frame without usable true depth is left out of its sequence; a sequence that gives no
figures is excluded, with the reason; no figure is NaN.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from page4d_hf.geometry import resized_intrinsics
from page4d_hf.utils.evenly import evenly

from .metrics.alignment import AlignmentName
from .metrics.depth import (
    REGIONS,
    DepthLimits,
    DepthScores,
    depth_in_first_camera,
    regions_of,
    resize_depth,
    score_depth,
)
from .metrics.point_maps import lifted_points, score_points
from .metrics.scores import ExclusionError, SequenceScores
from .metrics.trajectories import DegenerateTrajectoryError, score_still_camera, score_trajectory
from .predictions import Predictions
from .protocols import DepthProtocol, PointsProtocol, PoseProtocol, Protocol
from .sequences import EvaluatedSequence


def score(
    protocol: Protocol, predictions: Predictions, sequence: EvaluatedSequence, *, still_camera: bool = False
) -> SequenceScores:
    """Score what a method says of a sequence's frames, in its order (see `match_predictions`).

    Where there can be no figures, `excluded` has the reason: nothing predicted, no true depth, a trajectory that cannot
    be aligned (then `counts["degenerate"]` is 1). A predicted camera that stands still would be, unless it does so on
    purpose: `still_camera`, see `trajectories.score_still_camera`.
    """
    counts = {"frames": len(sequence.frames)}
    scores = SequenceScores(sequence.name, {}, 0.0, counts)
    try:
        if isinstance(protocol, DepthProtocol):
            _score_depth(protocol, predictions, sequence, scores)
        elif isinstance(protocol, PoseProtocol):
            _score_pose(predictions, sequence, scores, still_camera)
        else:
            _score_points(protocol, predictions, sequence, scores)
        broken = [name for name, value in scores.figures.items() if not math.isfinite(value)]
        if broken:
            raise ExclusionError(f"{broken[0]} came out as {scores.figures[broken[0]]}: the predictions are too large.")
    except ExclusionError as error:
        if isinstance(error, DegenerateTrajectoryError):
            counts["degenerate"] = 1
        scores.figures, scores.weight, scores.excluded = {}, 0.0, str(error)
    return scores


def average(protocol: Protocol, scores: Sequence[SequenceScores]) -> dict[str, float]:
    """Averages of each figure over the sequences that are not excluded.

    Depth is weighted as `SequenceScores.weight` says; figures of a region by the region's pixels. A figure that only
    some sequences have, such as those of what moves, is averaged over these.
    """
    counted = [each for each in scores if each.excluded is None]
    averages = {}
    for name in dict.fromkeys(name for each in counted for name in each.figures):
        having = [each for each in counted if name in each.figures]
        weights = [_weight(protocol, name, each) for each in having]
        total = math.fsum(weights)
        averages[name] = math.fsum(w * each.figures[name] for w, each in zip(weights, having, strict=True)) / total
    return averages


def _weight(protocol: Protocol, figure: str, scores: SequenceScores) -> float:
    region = figure.rpartition("_")[2]
    if isinstance(protocol, DepthProtocol) and region in REGIONS:
        return float(scores.counts[f"pixels_{region}"])
    return scores.weight


# --------------------------------------------------------------------------------------------------------------------
# Depth


def _score_depth(
    protocol: DepthProtocol, predictions: Predictions, sequence: EvaluatedSequence, scores: SequenceScores
) -> None:
    depth = _wanted(predictions.depth, "depth")
    depth = np.where(np.isfinite(depth) & (depth > 0), depth, np.nan)
    if protocol.camera == "first":
        if predictions.extrinsics is None or predictions.intrinsics is None:
            raise ExclusionError(
                f"The predictions have no cameras, and the protocol {protocol.name} measures depth in the first one; "
                "cut3r does without."
            )
        depth = depth_in_first_camera(depth, predictions.extrinsics, _intrinsics_of_maps(predictions, sequence, depth))
    limits = protocol.limits_of(sequence.frames.capture.layout)
    names: tuple[AlignmentName, ...] = (protocol.alignment, *protocol.more_alignments)
    frames: list[_DepthFrame] = []
    scored: list[list[DepthScores]] = []

    def add(group: _Group) -> None:
        by_alignment = _scored(group, names, limits, protocol.shift_floor, scores)
        if by_alignment is not None:
            scored.append(by_alignment)

    for i in range(len(depth)):
        frame = _DepthFrame(depth[i], sequence, i, limits)
        frames.append(frame)
        if protocol.aligned == "frame" and frame.count:
            add(frame.pixels)
            del frame.pixels  # those of all frames would take gigabytes
    usable = [frame for frame in frames if frame.count]
    if protocol.aligned == "sequence" and usable:
        add(_joined(usable))
    scores.counts["frames_left_out"] = len(frames) - (len(usable) if protocol.aligned == "sequence" else len(scored))
    scores.counts["pixels_without_prediction"] = sum(frame.missing for frame in frames)
    _note_what_is_missing(frames, scores)
    if not scored:
        raise ExclusionError(_why_nothing_counts(frames, limits, scores))
    pixels: Counter[str] = Counter()
    sums: defaultdict[str, float] = defaultdict(float)
    for by_alignment in scored:
        pixels.update(by_alignment[0].pixels)
        for name, result in zip(names, by_alignment, strict=True):
            for figure, value in result.figures.items():
                sums[_figure_name(protocol, name, figure)] += value * result.pixels[_pixels_name(figure)]
    scores.figures = {name: total / pixels[_pixels_name(name)] for name, total in sums.items()}
    scores.counts |= pixels
    scores.weight = float(pixels["pixels"])


class _DepthFrame:
    """The pixels of a frame that have both true and predicted depth."""

    def __init__(self, predicted: np.ndarray, sequence: EvaluatedSequence, index: int, limits: DepthLimits) -> None:
        self.count, self.missing, self.has_truth = 0, 0, False
        truth = sequence.frames.load_depth(index)
        if truth is None:
            return
        counts = limits.count(truth)
        self.has_truth = bool(counts.any())
        resized = resize_depth(predicted, (truth.shape[1], truth.shape[0]))
        given = counts & np.isfinite(resized)
        self.missing = int(counts.sum() - given.sum())
        self.count = int(given.sum())
        mask = sequence.frames.load_motion_mask(index)
        self.pixels: _Group = resized[given], truth[given].astype(np.float64), None if mask is None else mask[given]


_Group = tuple[np.ndarray, np.ndarray, np.ndarray | None]  # predicted, truth, moving; each (N,)


def _joined(frames: list[_DepthFrame]) -> _Group:
    """All frames as one; regions are known where all or some of the frames have a mask: see `regions_of`."""
    predicted, truth, masks = zip(*(frame.pixels for frame in frames), strict=True)
    return np.concatenate(predicted), np.concatenate(truth), _motion_labels(masks, predicted)


def _scored(
    group: _Group,
    names: tuple[AlignmentName, ...],
    limits: DepthLimits,
    shift_floor: float | None,
    scores: SequenceScores,
) -> list[DepthScores] | None:
    """A group under each alignment; None, with a note, where one of them cannot be made."""
    predicted, truth, moving = group
    try:
        return [
            score_depth(
                predicted,
                truth,
                name,
                limits,
                floor=shift_floor if name == "scale&shift" else None,
                regions=regions_of(moving),
            )
            for name in names
        ]
    except ExclusionError as error:
        if str(error) not in scores.notes:
            scores.notes.append(str(error))
        return None


def _figure_name(protocol: DepthProtocol, alignment: AlignmentName, figure: str) -> str:
    return figure if alignment == protocol.alignment else f"{alignment}/{figure}"


def _pixels_name(figure: str) -> str:
    region = figure.rpartition("_")[2]
    return f"pixels_{region}" if region in REGIONS else "pixels"


def _note_what_is_missing(frames: list[_DepthFrame], scores: SequenceScores) -> None:
    without_truth = sum(not frame.has_truth for frame in frames)
    if without_truth:
        scores.notes.append(f"{without_truth} of {len(frames)} frames have no true depth that counts.")
    missing = sum(frame.missing for frame in frames)
    if missing:
        total = missing + sum(frame.count for frame in frames)
        scores.notes.append(f"{missing / total:.2%} of the pixels that count have no predicted depth and are left out.")


def _why_nothing_counts(frames: list[_DepthFrame], limits: DepthLimits, scores: SequenceScores) -> str:
    if not any(frame.has_truth for frame in frames):
        return f"None of its {len(frames)} frames has a pixel with {limits.words_of_truth()}."
    if not any(frame.count for frame in frames):
        return "No pixel that has true depth has predicted depth: all of it is 0, negative or not finite."
    return scores.notes[0]


# --------------------------------------------------------------------------------------------------------------------
# Poses


def _score_pose(
    predictions: Predictions, sequence: EvaluatedSequence, scores: SequenceScores, still_camera: bool
) -> None:
    truth = sequence.frames.capture.extrinsics
    if still_camera:
        scores.figures = score_still_camera(truth)
    else:
        scores.figures = score_trajectory(_wanted(predictions.extrinsics, "extrinsics"), truth)
    scores.weight = 1.0


# --------------------------------------------------------------------------------------------------------------------
# Points


def _score_points(
    protocol: PointsProtocol, predictions: Predictions, sequence: EvaluatedSequence, scores: SequenceScores
) -> None:
    limits = protocol.limits_of(sequence.frames.capture.layout)
    truths = [sequence.frames.load_depth(i) for i in range(len(sequence.frames))]
    counting = [np.empty(0, np.int64) if t is None else np.flatnonzero(limits.count(t)) for t in truths]
    sizes = np.array([len(places) for places in counting])
    scores.counts["frames_left_out"] = int((sizes == 0).sum())
    if not sizes.sum():
        raise ExclusionError(f"None of its {len(truths)} frames has a pixel with {limits.words_of_truth()}.")
    if not sizes.all():
        scores.notes.append(f"{int((sizes == 0).sum())} of {len(truths)} frames have no true depth that counts.")
    sampled = evenly(int(sizes.sum()), protocol.max_points)
    starts = np.concatenate(([0], np.cumsum(sizes)))
    found, expected, masks = [], [], []
    for i, truth in enumerate(truths):
        inside = sampled[(sampled >= starts[i]) & (sampled < starts[i + 1])] - starts[i]
        if truth is None or not len(inside):
            continue
        rows, columns = np.unravel_index(counting[i][inside], truth.shape)
        world = lifted_points(truth, sequence.frames.capture.extrinsics[i], sequence.frames.intrinsics[i])
        expected.append(world[rows, columns])
        found.append(_predicted_points(predictions, sequence, i, rows, columns, truth.shape))
        mask = sequence.frames.load_motion_mask(i)
        masks.append(None if mask is None else mask[rows, columns])
    predicted, true = np.concatenate(found), np.concatenate(expected)
    missing = int((~np.isfinite(predicted).all(axis=1)).sum())
    scores.counts["points_without_prediction"] = missing
    if missing:
        scores.notes.append(f"{missing / len(predicted):.2%} of the points have no prediction and lack accuracy.")
    result = score_points(predicted, true, protocol.alignment, regions=regions_of(_motion_labels(masks, found)))
    scores.figures, scores.weight = result.figures, 1.0
    scores.counts |= result.points


def _predicted_points(
    predictions: Predictions,
    sequence: EvaluatedSequence,
    index: int,
    rows: np.ndarray,
    columns: np.ndarray,
    size: tuple[int, ...],
) -> np.ndarray:
    """Points `(N, 3)` of the pixels of the predicted map that are nearest to those named of an image of `size`."""
    if predictions.points is not None:
        points = predictions.points[index]
    else:
        if predictions.depth is None or predictions.extrinsics is None or predictions.intrinsics is None:
            raise ExclusionError("The predictions have no points, and no depth with cameras that would give them.")
        depth = predictions.depth[index]
        points = lifted_points(
            np.where(np.isfinite(depth) & (depth > 0), depth, np.nan),
            predictions.extrinsics[index],
            _intrinsics_of_maps(predictions, sequence, predictions.depth)[index],
        )
    height, width = points.shape[:2]
    return points[(2 * rows + 1) * height // (2 * size[0]), (2 * columns + 1) * width // (2 * size[1])]


# --------------------------------------------------------------------------------------------------------------------
# Both


def _motion_labels(masks: Sequence[np.ndarray | None], pixels: Sequence[np.ndarray]) -> np.ndarray | None:
    """Labels `(N,)` of all pixels of frames, of each its own: 0 static, 1 moving, 2 not known, as of the last frame of
    a sequence of Sintel, which has no mask. None where no frame has a mask.
    """
    if all(mask is None for mask in masks):
        return None
    return np.concatenate(
        [
            np.full(len(of_frame), 2, np.uint8) if mask is None else mask.astype(np.uint8)
            for mask, of_frame in zip(masks, pixels, strict=True)
        ]
    )


def _wanted(array: np.ndarray | None, name: str) -> np.ndarray:
    if array is None:
        raise ExclusionError(f"The predictions have no {name}.")
    return array


def _intrinsics_of_maps(predictions: Predictions, sequence: EvaluatedSequence, maps: np.ndarray) -> np.ndarray:
    """Predicted intrinsics `(S, 3, 3)` in pixels of maps `(S, h, w)` instead of the sequence's images."""
    assert predictions.intrinsics is not None
    return resized_intrinsics(
        predictions.intrinsics, np.array([maps.shape[2], maps.shape[1]]) / sequence.frames.image_sizes
    )
