"""Camera trajectories against ground truth, by evo.

The predicted trajectory is carried onto the true one by the Sim(3) of least squared distance between camera centres
(Umeyama, TPAMI 1991). Then (Sturm et al., IROS 2012), each as the root of the mean square:

    ate               distance between camera centres, in the unit of the ground truth
    rpe_translation   translation by which the motion from a frame to the next differs, in that unit
    rpe_rotation      angle by which that motion differs, in degrees

Without any alignment:

    rotation_error    angle between rotations relative to the first frame, a mean, in degrees

Where centres lie in one place or on one line, a rotation (and in one place the scale) is free and Umeyama's solution is
arbitrary: such trajectories are refused.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.spatial.transform import Rotation

from page4d_hf.geometry import invert_extrinsics
from page4d_hf.utils.programs import not_installed

from .scores import EvaluationError, ExclusionError

FEWEST_POSES = 3
# How far centres must be from one place or one line, as a root mean square, relative to their coordinates; below, the
# difference may be rounding of single precision.
RESOLUTION = 1e-6


class DegenerateTrajectoryError(ExclusionError):
    """A trajectory that does not determine its alignment: too few poses, no motion, or motion along one line."""


def score_trajectory(predicted: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Align a trajectory and compare; motion is compared from each frame to the next.

    Args:
        predicted: `(S, 3, 4)` world-to-camera, OpenCV axes, in any world and scale.
        truth: `(S, 3, 4)` world-to-camera of the same frames.

    Returns:
        "ate", "rpe_translation" and "rpe_rotation".

    Raises:
        DegenerateTrajectoryError: fewer than three poses; or one of the two stands still or moves along one line.
        ExclusionError: a pose is not finite.
    """
    evo = evo_core()
    if predicted.shape != truth.shape or predicted.shape[1:] != (3, 4):
        raise EvaluationError(
            f"Predicted and true cameras must both be (S, 3, 4), got {predicted.shape} and {truth.shape}."
        )
    found, expected = camera_to_world(predicted), camera_to_world(truth)
    check_trajectory(expected[:, :3, 3], "true")
    check_trajectory(found[:, :3, 3], "predicted")
    found_path, true_path = _path(found), _path(expected)
    try:
        *_, scale = found_path.align(true_path, correct_scale=True)
    except (evo.geometry.GeometryException, np.linalg.LinAlgError) as error:
        raise DegenerateTrajectoryError(
            f"The predicted trajectory cannot be aligned with the true one ({error})."
        ) from error
    if not (np.isfinite(scale) and scale > 0):
        raise DegenerateTrajectoryError(
            f"The predicted trajectory cannot be aligned with the true one: its scale came out as {scale:.3g}."
        )
    return _figures(found_path, true_path)


def score_still_camera(truth: np.ndarray) -> dict[str, float]:
    """The "ate", "rpe_translation" and "rpe_rotation" of a camera that stands still, at the mean of the true centres:
    a floor under any method's.

    No Sim(3) can be fitted to it, but where it stands its ATE is least, and motion from a frame to the next does not
    depend on where it stands. It raises what `score_trajectory` does, so that both leave out the same sequences.
    """
    expected = camera_to_world(truth)
    check_trajectory(expected[:, :3, 3], "true")
    found = np.tile(np.eye(4), (len(truth), 1, 1))
    found[:, :3, 3] = expected[:, :3, 3].mean(axis=0)
    return _figures(_path(found), _path(expected))


def camera_figures(found: np.ndarray, expected: np.ndarray) -> dict[str, float]:
    """The figures of `score_trajectory`, and `rotation_error`, of cameras `[S, 3, 4]`, world-to-camera.

    Raises:
        ExclusionError: there are fewer than 3, or one of the paths is on a line or in a place, so that no Sim(3) is
            determined.
    """
    figures = score_trajectory(found, expected)
    return {"rotation_error": rotation_error(found, expected), **figures}


def rotation_error(found: np.ndarray, expected: np.ndarray) -> float:
    """Mean angle in degrees between the rotations of cameras `[S, 3, 4]`, S >= 2, each relative to the first frame."""
    turned, true_turned = (e[1:, :, :3] @ e[:1, :, :3].transpose(0, 2, 1) for e in (found, expected))
    between = Rotation.from_matrix(turned.transpose(0, 2, 1) @ true_turned)
    return float(np.degrees(between.magnitude()).mean())


def _figures(found: Any, expected: Any) -> dict[str, float]:
    """Figures of two evo paths in one world."""
    metrics, steps = evo_core().metrics, {"delta": 1.0, "all_pairs": True}
    relation, frames = metrics.PoseRelation, metrics.Unit.frames
    figures = {}
    for name, metric in {
        "ate": metrics.APE(relation.translation_part),
        "rpe_translation": metrics.RPE(relation.translation_part, delta_unit=frames, **steps),
        "rpe_rotation": metrics.RPE(relation.rotation_angle_deg, delta_unit=frames, **steps),
    }.items():
        metric.process_data((expected, found))
        figures[name] = float(metric.get_statistic(metrics.StatisticsType.rmse))
    return figures


def _path(poses: np.ndarray) -> Any:
    """Camera-to-world `(S, 4, 4)` as evo's path."""
    return evo_core().trajectory.PosePath3D(poses_se3=list(poses))


def evo_core() -> Any:
    """The package `evo.core`; other tasks do without."""
    try:
        import evo.core.geometry
        import evo.core.metrics
        import evo.core.trajectory
    except ImportError as error:
        raise EvaluationError(not_installed("Trajectories are compared by evo", "evaluation")) from error
    return evo.core


def camera_to_world(extrinsics: np.ndarray) -> npt.NDArray[np.float64]:
    """The inverse of world-to-camera `(S, 3, 4)` as matrices `(S, 4, 4)`."""
    poses = np.tile(np.eye(4), (len(extrinsics), 1, 1))
    poses[:, :3] = invert_extrinsics(torch.as_tensor(extrinsics, dtype=torch.float64)).numpy()
    return poses


def check_trajectory(centers: np.ndarray, whose: str) -> None:
    """Refuse camera centres `(S, 3)` that no Sim(3) can be fitted to; `whose` they are is for the message.

    Raises:
        DegenerateTrajectoryError: there are fewer than three, or they lie in one place or on one line.
        ExclusionError: one is not finite.
    """
    if len(centers) < FEWEST_POSES:
        raise DegenerateTrajectoryError(
            f"The {whose} trajectory has {len(centers)} poses; at least {FEWEST_POSES} are needed to align it."
        )
    if not np.isfinite(centers).all():
        broken = int((~np.isfinite(centers).all(axis=1)).sum())
        raise ExclusionError(f"The {whose} trajectory has {broken} of {len(centers)} poses that are not finite.")
    # Root mean squares of the distances from the mean along the principal axes, the largest first.
    spread = np.linalg.svd(centers - centers.mean(axis=0), compute_uv=False) / np.sqrt(len(centers))
    resolution = RESOLUTION * float(np.abs(centers).max())
    if spread[0] <= resolution:
        raise DegenerateTrajectoryError(f"The camera of the {whose} trajectory does not move: it cannot be aligned.")
    if spread[1] <= resolution:
        raise DegenerateTrajectoryError(
            f"The camera of the {whose} trajectory moves along one line: the rotation about it is not determined."
        )
