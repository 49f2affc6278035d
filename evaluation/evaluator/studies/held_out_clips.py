"""How well a network does on synthetic clips that it was not trained on, beside a predictor that looks at nothing.

The trivial predictor says the same depth everywhere, which its alignment makes the median; that the camera stands
still and sees 60 degrees across the longer side of its images; and nothing of what moves.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import torch
from pydantic import ConfigDict

from page4d_hf import Page4DModel
from page4d_hf.utils.json_files import Record, parse_json
from page4d_hf.utils.ranking import auroc

from ..metrics.depth import REGIONS, depth_figures, regions_of
from ..metrics.point_maps import lifted_points, score_points
from ..metrics.scores import EvaluationError, ExclusionError, not_excluded
from ..metrics.trajectories import camera_figures
from ..predictions import Predictions
from ..reporting.formats import markdown_table, spread
from ..trivial import UNKNOWN_MOTION, still_camera_figures, trivial_predictions
from .study_clips import StudyClip, Synthetic
from .study_reports import left_out

FIGURES = {
    "abs_rel": "depth Abs Rel ↓",
    "delta_1.25": "depth δ < 1.25 ↑",
    "ate": "ATE (m) ↓",
    "rpe_translation": "RPE translation (m) ↓",
    "rpe_rotation": "RPE rotation (°) ↓",
    "rotation_error": "rotation to the first frame (°) ↓",
    "point_error": "point error (m) ↓",
    "accuracy_mean": "points, accuracy (m) ↓",
    "completion_mean": "points, completion (m) ↓",
    "motion_auroc": "AUROC of dynamics_mask ↑",
}
PROTOCOL = (
    "All frames of a clip go through the network at once. Depth: after one scale for the clip, the ratio of the "
    "medians (of an even number of pixels the lower of the middle two). Cameras: ATE and RPE from each frame to the "
    "next, root mean squares, after the Sim(3) of least squared distance between the camera centres (Umeyama); the "
    "rotation to the first frame is a mean angle without alignment. Points: of every pixel, the point head's or, of a "
    "network without, depth lifted by the predicted cameras; after the Sim(3) between the points of the same pixels, "
    "the mean distance to the true point of the pixel (point error), of a predicted point to the nearest true one "
    "(accuracy) and of a true one to the nearest predicted one (completion), in metres. AUROC: how often a moving "
    "pixel has a higher dynamics_mask than one that stands still, within a clip. Figures of what moves and of what "
    "stands still are those of the same alignment over the pixels of the region. Means are over clips, each of weight "
    "1, ± their standard error; the trivial predictor's over the same clips."
)
TRIVIAL = (
    "Trivial: the median depth everywhere; a camera that stands still and sees 60 degrees across the longer side of "
    "its images, at the mean of the true centres for ATE."
)


@dataclass
class ClipScores:
    """Figures of one clip, by name (`FIGURES`, those of regions with `_static` and `_dynamic` after them)."""

    name: str
    model: dict[str, float]
    trivial: dict[str, float]
    excluded: str | None = None  # why the clip does not count; both are empty then
    notes: list[str] = field(default_factory=list)


@torch.no_grad()
def predict_clip(model: Page4DModel, clip: StudyClip, mask_strength: float | None = None) -> Predictions:
    """A network's predictions for a clip, at a mask strength that defaults to the model's.

    Raises:
        EvaluationError: it has no camera head or no depth head.
        ExclusionError: depth, cameras or points that are not finite.
    """
    if model.camera_head is None or model.depth_head is None:
        raise EvaluationError("The clips are scored by cameras and depth, and this model was built without.")
    output = model(clip.pixel_values[None].to(model.device), mask_strength=mask_strength)
    size = (clip.pixel_values.shape[-2], clip.pixel_values.shape[-1])
    extrinsics, intrinsics = (cameras[0].double().cpu().numpy() for cameras in output.cameras(size))
    depth = output.depth[0, ..., 0].float().cpu().numpy()
    points = None if output.world_points is None else output.world_points[0].float().cpu().numpy()
    said = (depth, extrinsics, intrinsics, *(() if points is None else (points,)))
    if not all(np.isfinite(values).all() for values in said):
        raise ExclusionError(f"{clip.name}: the network's depth, cameras or points are not finite.")
    return Predictions(
        _frame_ids(clip),
        depth=depth,
        extrinsics=extrinsics,
        intrinsics=intrinsics,
        points=points,
        motion=None if output.dynamics_mask is None else output.dynamics_mask[0].float().cpu().numpy(),
    )


def trivial_predictions_of(clip: StudyClip) -> Predictions:
    """The trivial predictor's predictions for a clip."""
    count, height, width = clip.depth.shape
    unknown = np.full(clip.depth.shape, UNKNOWN_MOTION)
    return replace(trivial_predictions(_frame_ids(clip), [(width, height)] * count), motion=unknown)


def _frame_ids(clip: StudyClip) -> list[str]:
    return [f"{frame:05d}" for frame in range(len(clip.depth))]


# --------------------------------------------------------------------------------------------------------------------
# Figures


def score_clip(model: Page4DModel, clip: StudyClip, mask_strength: float | None = None) -> ClipScores:
    """Run a network, in evaluation mode, with camera and depth heads, on a clip; score it and the trivial predictor."""
    scores = ClipScores(clip.name, {}, {})
    try:
        said = predict_clip(model, clip, mask_strength)
        figures = depth_and_motion_figures(said, clip)
        point_scores = point_figures(said, clip)
    except ExclusionError as error:
        return ClipScores(clip.name, {}, {}, excluded=str(error))
    trivial = trivial_predictions_of(clip)
    scores.model = figures | point_scores
    scores.trivial = depth_and_motion_figures(trivial, clip) | point_figures(trivial, clip)
    assert said.extrinsics is not None
    try:
        scores.model |= camera_figures(said.extrinsics, clip.extrinsics)
        scores.trivial |= still_camera_figures(clip.extrinsics)
    except ExclusionError as error:
        scores.notes.append(f"{clip.name} has no figures of its cameras: {error}")
    return scores


def depth_and_motion_figures(said: Predictions, clip: StudyClip) -> dict[str, float]:
    """`abs_rel`, `delta_1.25` and those of the regions; `motion_auroc` where something moves and something does not.

    Raises:
        ExclusionError: the depth cannot be aligned.
    """
    assert said.depth is not None
    moving = clip.moving.numpy()
    scored = depth_figures(said.depth, clip.depth.numpy(), moving)
    figures = {name: value for name, value in scored.items() if not name.startswith("abs_error")}
    area = None if said.motion is None else auroc(said.motion, moving)
    return figures if area is None else figures | {"motion_auroc": area}


def point_figures(said: Predictions, clip: StudyClip) -> dict[str, float]:
    """`point_error`, `accuracy_mean`, `completion_mean` and those of the regions, in the unit of the clip.

    Raises:
        ExclusionError: the points cannot be aligned.
    """
    assert said.depth is not None
    assert said.extrinsics is not None
    assert said.intrinsics is not None
    if clip.intrinsics is None:
        raise EvaluationError(f"{clip.name} has no true intrinsics, without which pixels have no true points.")
    known = clip.depth.numpy() > 0
    expected = lifted_points(clip.depth.numpy(), clip.extrinsics, clip.intrinsics)[known]
    points = said.points
    found = (lifted_points(said.depth, said.extrinsics, said.intrinsics) if points is None else points)[known]
    regions = regions_of(clip.moving.numpy()[known])
    scores = score_points(found, expected, regions=regions)
    assert scores.alignment is not None
    distance = np.linalg.norm(scores.alignment.apply_to_points(found.astype(np.float64)) - expected, axis=1)
    figures = {"point_error": float(distance.mean())}
    figures |= {
        f"point_error_{name}": float(distance[inside].mean()) for name, inside in regions.items() if inside.any()
    }
    return figures | {
        name: value for name, value in scores.figures.items() if name.startswith(("accuracy_mean", "completion_mean"))
    }


# --------------------------------------------------------------------------------------------------------------------
# All clips together


def summarise(scores: Sequence[ClipScores]) -> dict[str, dict[str, float]]:
    """Means over the clips that have a figure, by name.

    Returns:
        Of each figure: `model`, `trivial` (over the same clips), `clips`, and `standard_error` of the model's where
        there is more than one.
    """
    counted = not_excluded(scores, "scored")
    names = [f"{name}{region}" for name in FIGURES for region in ("", *(f"_{each}" for each in REGIONS))]
    means = {}
    for name in names:
        having = [each for each in counted if name in each.model]
        if not having:
            continue
        values = [each.model[name] for each in having]
        means[name] = {
            "model": fmean(values),
            "trivial": fmean(each.trivial[name] for each in having),
            "clips": len(values),
        }
        if len(values) > 1:
            means[name]["standard_error"] = stdev(values) / len(values) ** 0.5
    return means


def markdown(record: Mapping[str, Any]) -> str:
    """The report as a table, with what decides its figures and what was left out underneath."""
    means, rows = record["means"], []
    for name, title in FIGURES.items():
        for region in ("", *REGIONS):
            figure = means.get(f"{name}_{region}" if region else name)
            if figure is None:
                continue
            # Of errors; shares that shall be high are near 1, or far from each other near 0.
            has_ratio = title.endswith("↓") and figure["trivial"] > 0
            rows.append(
                [
                    f"{title[:-2]}, {region}{title[-2:]}" if region else title,  # the arrow last
                    spread(figure["model"], deviation=figure.get("standard_error")),
                    spread(figure["trivial"]),
                    f"{figure['model'] / figure['trivial']:.2f}" if has_ratio else "",
                    str(figure["clips"]),
                ]
            )
    table = markdown_table(["", "network", "trivial", "ratio", "clips"], rows)
    lines = ["# Held-out clips", "", record["clips_are"], "", table]
    lines += ["", record["protocol"], "", *left_out(record["clips"])]
    return "\n".join(lines)


def record_of(
    scores: Sequence[ClipScores], clips: Synthetic, size: tuple[int, int], model: Mapping[str, Any]
) -> dict[str, Any]:
    """The report as JSON values."""
    return {
        "clips_are": clips.words(size),
        "settings": {**asdict(clips), "image_size": list(size)},
        "protocol": f"{PROTOCOL} {TRIVIAL}",
        "model": dict(model),
        "means": summarise(scores),
        "clips": [asdict(each) for each in scores],
    }


# --------------------------------------------------------------------------------------------------------------------
# What a model's card says that it is to be tried on

CARD_KEY = "held_out_clips"


class _Card(Record):
    """The metadata of a model's card that are read."""

    model_config = ConfigDict(extra="forbid")  # a setting that is not known would be left out in silence

    held_out_clips: Synthetic


def settings_of_card(model: str) -> Synthetic | None:
    """The clips that a model's card names under `held_out_clips` in its metadata; `None` where it names none."""
    from huggingface_hub import ModelCard, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError
    from yaml import YAMLError

    path = Path(model).expanduser() / "README.md"
    if not path.parent.is_dir() and model.count("/") == 1:  # a Hub repository is named owner/name
        try:
            path = Path(hf_hub_download(model, path.name))
        except (EntryNotFoundError, OSError, ValueError):
            return None  # a model that is not there either is told when it is loaded
    if not path.is_file():
        return None
    try:
        values = ModelCard.load(path, ignore_metadata_errors=True).data.to_dict().get(CARD_KEY)
        text = json.dumps({CARD_KEY: values})
    except (OSError, ValueError, TypeError, RecursionError, YAMLError) as error:
        raise EvaluationError(f"The metadata of {path} cannot be read: {error!s:.200}; correct them.") from error
    if values is None:
        return None
    card: _Card = parse_json(text, _Card, path, error=EvaluationError, remedy="correct the model's card")
    return card.held_out_clips
