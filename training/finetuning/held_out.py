"""Evaluation on held-out clips, beside trivial predictors.

Figures and trivial predictors are those of evaluation: depth after a scale per clip (the ratio of medians), camera
centres after a Sim(3) (ATE) and as the network gives them, in units of the mean distance of the points
(`normalize_labels`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from contextlib import suppress

import numpy as np
import torch
from evaluator.metrics.depth import depth_figures
from evaluator.metrics.scores import ExclusionError
from evaluator.metrics.trajectories import (
    DegenerateTrajectoryError,
    camera_to_world,
    rotation_error,
    score_still_camera,
    score_trajectory,
)
from evaluator.trivial import still_camera, trivial_depth
from torch import Tensor

from page4d_hf.labels_page4d import normalize_labels
from page4d_hf.modeling_page4d import Page4DOutput
from page4d_hf.utils.ranking import auroc

TRIVIAL = "trivial"

LABELS = {
    "loss": "loss",
    "abs_rel": "depth Abs Rel",
    "delta": "depth delta < 1.25",
    "center_error": "camera centre error (units of the mean point distance)",
    "rotation_error": "camera rotation error (degrees)",
    "ate": "ATE after Sim(3) (units of the mean point distance)",
    "motion_auroc": "AUROC of dynamics_mask against moving pixels",
}


def mean_figures(clips: Iterable[Mapping[str, float] | None]) -> dict[str, float]:
    """Mean of each figure over the clips that have it."""
    values: dict[str, list[float]] = {}
    for figures in clips:
        for name, value in (figures or {}).items():
            values.setdefault(name, []).append(value)
    return {name: sum(of_name) / len(of_name) for name, of_name in sorted(values.items())}


@torch.no_grad()
def clip_figures(
    output: Page4DOutput, labels: dict[str, Tensor], image_size: tuple[int, int]
) -> list[dict[str, float] | None]:
    """The figures of every clip of a batch, those of the trivial predictors as `trivial/<name>`; the batch's loss is an
    entry of its own.

    A clip of which one figure is not finite is None, so that the model and the trivial predictors are averaged over
    the same clips.
    """
    targets = normalize_labels(labels, image_size)
    found: list[dict[str, float] | None] = []
    if output.loss is not None and bool(output.loss.isfinite()):
        found.append({"loss": float(output.loss)})
    for clip in range(len(targets.depth)):
        figures: dict[str, float] = {}
        try:
            if output.depth is not None and bool(targets.depth_valid[clip].any()):
                valid = targets.depth_valid[clip].cpu()
                expected = targets.depth[clip].cpu()[valid].numpy()
                predicted = output.depth[clip, ..., 0].cpu()[valid].numpy()
                for name, depth in (("", predicted), (f"{TRIVIAL}/", trivial_depth(expected.shape))):
                    scores = depth_figures(depth, expected)
                    figures |= {f"{name}abs_rel": scores["abs_rel"], f"{name}delta": scores["delta_1.25"]}
            if output.pose_enc is not None and bool(targets.has_pose[clip]):
                predicted = output.cameras(image_size)[0][clip].double().cpu().numpy()
                expected = targets.extrinsics[clip].double().cpu().numpy()
                figures |= _camera_figures(predicted, expected, bool(targets.has_scale[clip]))
        except ExclusionError:
            found.append(None)
            continue
        if output.dynamics_mask is not None and targets.moving is not None and bool(targets.has_motion[clip]):
            area = auroc(output.dynamics_mask[clip].float().cpu(), targets.moving[clip].cpu())
            if area is not None:
                figures |= {"motion_auroc": area, f"{TRIVIAL}/motion_auroc": 0.5}
        found.append(figures if all(map(math.isfinite, figures.values())) else None)
    return found


def _camera_figures(found: np.ndarray, expected: np.ndarray, has_scale: bool) -> dict[str, float]:
    """Of cameras `[S, 3, 4]` of one clip; the first frame is the world and left out of the means.

    Raises:
        ExclusionError: they are not finite.
    """
    if len(expected) < 2:
        return {}
    if not np.isfinite(found).all():
        raise ExclusionError("The predicted cameras are not finite.")
    figures: dict[str, float] = {}
    still = still_camera(len(expected))
    true_centers = camera_to_world(expected)[1:, :3, 3]
    for name, cameras in (("", found), (f"{TRIVIAL}/", still)):
        figures[f"{name}rotation_error"] = rotation_error(cameras, expected)
        if has_scale:
            distances = np.linalg.norm(camera_to_world(cameras)[1:, :3, 3] - true_centers, axis=-1)
            figures[f"{name}center_error"] = float(distances.mean())
    if has_scale:
        # A trajectory on a line or in a place determines no Sim(3): it has no ATE.
        with suppress(DegenerateTrajectoryError):
            ate = {"ate": score_trajectory(found, expected)["ate"]}
            figures |= ate | {f"{TRIVIAL}/ate": score_still_camera(expected)["ate"]}
    return figures
