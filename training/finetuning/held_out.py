"""How well a model does on clips that it was not trained on, beside predictors that look at nothing.

The trivial predictors: each clip's depth is its median everywhere, and the camera stands still. Depth is compared after
a scale per clip (the ratio of medians), camera centres after a Sim(3) (ATE) and as the network gives them, in units of
the mean distance of the points (`normalize_labels`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from page4d_hf.geometry import align_sim3, invert_extrinsics
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


class Means:
    """Sums and counts of figures, which add over processes."""

    def __init__(self) -> None:
        self.sums: dict[str, list[float]] = {}
        self.left_out = 0  # clips

    def add(self, figures: Mapping[str, float]) -> None:
        """Count one clip's figures, or leave the clip out if one of them is not finite.

        So the model and the trivial predictors are averaged over the same clips.
        """
        if not all(map(math.isfinite, figures.values())):
            self.left_out += 1
            return
        for name, value in figures.items():
            total = self.sums.setdefault(name, [0.0, 0.0])
            total[0] += value
            total[1] += 1

    def merge(self, others: Iterable[Means]) -> None:
        """Add what other processes counted."""
        for other in others:
            self.left_out += other.left_out
            for name, (value, count) in other.sums.items():
                total = self.sums.setdefault(name, [0.0, 0.0])
                total[0] += value
                total[1] += count

    def result(self) -> dict[str, float]:
        """Mean of each figure over the clips that have it."""
        return {name: value / count for name, (value, count) in sorted(self.sums.items()) if count}


@torch.no_grad()
def add_figures(means: Means, output: Page4DOutput, labels: dict[str, Tensor], image_size: tuple[int, int]) -> None:
    """Count the figures of every clip of a batch; a clip whose depth or cameras are not finite is left out.

    Args:
        means: where they are counted; those of the trivial predictors as `trivial/<name>`.
        output: the model's, on the CPU or elsewhere.
        labels: as the loss takes them.
        image_size: (H, W) in pixels.
    """
    targets = normalize_labels(labels, image_size)
    if output.loss is not None and bool(output.loss.isfinite()):
        means.add({"loss": float(output.loss)})
    for clip in range(len(targets.depth)):
        figures: dict[str, float] = {}
        if output.depth is not None and bool(targets.depth_valid[clip].any()):
            valid = targets.depth_valid[clip]
            expected = targets.depth[clip][valid].double()
            for name, found in (
                ("", output.depth[clip, ..., 0][valid].double()),
                (f"{TRIVIAL}/", torch.ones_like(expected)),
            ):
                found = found * (expected.median() / found.median())
                figures[f"{name}abs_rel"] = float(((found - expected).abs() / expected).mean())
                ratio = torch.maximum(found / expected, expected / found)
                figures[f"{name}delta"] = float((ratio < 1.25).double().mean())
        if output.pose_enc is not None and bool(targets.has_pose[clip]):
            found = output.cameras(image_size)[0][clip].double().cpu()
            expected = targets.extrinsics[clip].double().cpu()
            figures |= _camera_figures(found, expected, bool(targets.has_scale[clip]))
        if output.dynamics_mask is not None and targets.moving is not None and bool(targets.has_motion[clip]):
            area = auroc(output.dynamics_mask[clip].float().cpu(), targets.moving[clip].cpu())
            if area is not None:
                figures |= {"motion_auroc": area, f"{TRIVIAL}/motion_auroc": 0.5}
        means.add(figures)


def _camera_figures(found: Tensor, expected: Tensor, has_scale: bool) -> dict[str, float]:
    """Centres and rotations `[S, 3, 4]` of one clip, the first frame left out of the means: it is the world."""
    if len(expected) < 2:
        return {}
    if not bool(found.isfinite().all()):
        return {"rotation_error": math.nan}
    figures: dict[str, float] = {}
    centers, true_centers = invert_extrinsics(found)[..., 3], invert_extrinsics(expected)[..., 3]
    # Relative to the first predicted camera, as the labels are to theirs.
    relative = found[:, :, :3] @ found[:1, :, :3].transpose(-1, -2)
    still = torch.eye(3, dtype=torch.float64).expand_as(relative)
    for name, turned, placed in (("", relative, centers), (f"{TRIVIAL}/", still, torch.zeros_like(centers))):
        figures[f"{name}rotation_error"] = _mean_angle(turned[1:], expected[1:, :, :3])
        if has_scale:
            figures[f"{name}center_error"] = float((placed - true_centers)[1:].norm(dim=-1).mean())
    if not has_scale or len(expected) < 3:
        return figures
    # What a camera that stands still, at the best place, gets.
    spread = (true_centers - true_centers.mean(0)).square().sum(-1).mean().sqrt()
    try:
        aligned = align_sim3(centers.numpy(), true_centers.numpy()).apply_to_points(centers.numpy())
    except ValueError:
        return figures  # a trajectory on a line or in a place: no Sim(3) is determined, and the clip does not count
    figures["ate"] = float(np.sqrt(((aligned - true_centers.numpy()) ** 2).sum(-1).mean()))
    figures[f"{TRIVIAL}/ate"] = float(spread)
    return figures


def _mean_angle(found: Tensor, expected: Tensor) -> float:
    """Mean angle in degrees between rotations `[N, 3, 3]`."""
    between = Rotation.from_matrix((found.transpose(1, 2) @ expected).numpy())
    return float(np.degrees(between.magnitude()).mean())


__all__ = ["LABELS", "TRIVIAL", "Means", "add_figures"]
