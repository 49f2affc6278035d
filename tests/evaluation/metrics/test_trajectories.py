"""Trajectories are aligned and compared; those that cannot be are refused."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from evaluator.metrics.scores import EvaluationError, ExclusionError
from evaluator.metrics.trajectories import DegenerateTrajectoryError, score_still_camera, score_trajectory
from scipy.spatial.transform import Rotation

from page4d_hf.geometry import Similarity


def extrinsics_of(camera_to_world: np.ndarray) -> np.ndarray:
    """World-to-camera `(S, 3, 4)` of poses `(S, 4, 4)`."""
    return np.linalg.inv(camera_to_world)[:, :3]


def trajectory(centers: np.ndarray, seed: int = 0) -> np.ndarray:
    """World-to-camera `(S, 3, 4)` of cameras at the centres `(S, 3)`, turned at random."""
    poses = np.tile(np.eye(4), (len(centers), 1, 1))
    poses[:, :3, :3] = Rotation.random(len(centers), random_state=seed).as_matrix()
    poses[:, :3, 3] = centers
    return extrinsics_of(poses)


@pytest.fixture
def truth() -> np.ndarray:
    return trajectory(np.random.default_rng(0).normal(size=(12, 3)))


@pytest.mark.parametrize("case", ["n50", "n10", "n90_noisy"])
def test_figures_equal_the_release(case: str, shared: Path) -> None:
    with np.load(shared / "reference" / "trajectory_metrics.npz") as values:
        truth, predicted = values[f"{case}/gt_c2w"], values[f"{case}/pred_c2w"]
        expected = values[f"{case}/ate_rpet_rper"]
    figures = score_trajectory(extrinsics_of(predicted), extrinsics_of(truth))
    assert list(figures) == ["ate", "rpe_translation", "rpe_rotation"]
    np.testing.assert_allclose(list(figures.values()), expected, rtol=0, atol=1e-6)


def poses_of_rows(rows: np.ndarray) -> np.ndarray:
    """Camera-to-world `(S, 4, 4)` of rows x y z qw qx qy qz."""
    poses = np.tile(np.eye(4), (len(rows), 1, 1))
    poses[:, :3, :3] = Rotation.from_quat(rows[:, [4, 5, 6, 3]]).as_matrix()
    poses[:, :3, 3] = rows[:, :3]
    return poses


def test_sintels_cameras_are_taken_as_the_release_takes_them(shared: Path) -> None:
    with np.load(shared / "reference" / "trajectory_metrics.npz") as values:
        extrinsics, rows = values["sintel/E_w2c"], values["sintel/eval_pred_tum_xyz_wxyz"]
        expected = values["sintel/eval_ate_rpet_rper"]
    figures = score_trajectory(extrinsics_of(poses_of_rows(rows)), extrinsics)
    np.testing.assert_allclose(list(figures.values()), expected, rtol=0, atol=1e-6)


def test_another_world_makes_no_error(truth: np.ndarray) -> None:
    moved = Similarity(0.3, Rotation.from_rotvec([0.5, -1, 2]).as_matrix(), np.array([4.0, 5, -6]))
    figures = score_trajectory(moved.apply_to_extrinsics(truth), truth)
    assert figures["ate"] == pytest.approx(0, abs=1e-12)
    assert figures["rpe_translation"] == pytest.approx(0, abs=1e-12)
    assert figures["rpe_rotation"] == pytest.approx(0, abs=1e-5)


def test_a_turned_camera_is_an_error_of_rotation_alone(truth: np.ndarray) -> None:
    # Every second camera is turned by 10 degrees about its centre: each motion from one to the next is off by that.
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_rotvec([0, 0, 10], degrees=True).as_matrix()
    predicted = truth.copy()
    predicted[::2] = turn[:3, :3] @ predicted[::2]
    figures = score_trajectory(predicted, truth)
    assert figures["ate"] == pytest.approx(0, abs=1e-9)
    assert figures["rpe_rotation"] == pytest.approx(10, abs=1e-5)


@pytest.mark.parametrize("poses", [0, 1, 2])
def test_fewer_than_three_poses_are_refused(poses: int, truth: np.ndarray) -> None:
    with pytest.raises(DegenerateTrajectoryError, match=f"has {poses} poses"):
        score_trajectory(truth[:poses], truth[:poses])


def degenerate(kind: str, count: int, offset: float) -> np.ndarray:
    along = np.random.default_rng(1).normal(size=(count, 1)) if kind == "moves along one line" else np.zeros((count, 1))
    return trajectory(along * np.array([[1.0, 2, 3]]) + offset)


@pytest.mark.parametrize("offset", [0.0, 5.0])
@pytest.mark.parametrize("kind", ["does not move", "moves along one line"])
@pytest.mark.parametrize("whose", ["true", "predicted"])
def test_degenerate_trajectories_are_refused(kind: str, whose: str, offset: float, truth: np.ndarray) -> None:
    line = degenerate(kind, len(truth), offset)
    pair = (line, truth) if whose == "predicted" else (truth, line)
    with pytest.raises(DegenerateTrajectoryError, match=f"of the {whose} trajectory {kind}"):
        score_trajectory(*pair)


def test_what_moves_by_rounding_alone_does_not_move(truth: np.ndarray) -> None:
    still = degenerate("does not move", len(truth), 5.0).astype(np.float32)
    with pytest.raises(DegenerateTrajectoryError, match="does not move"):
        score_trajectory(still.astype(np.float64), truth)


def test_a_camera_that_moves_in_a_plane_is_aligned(truth: np.ndarray) -> None:
    planar = trajectory(np.random.default_rng(2).normal(size=(12, 3)) * [1, 1, 0])
    assert score_trajectory(planar, planar)["ate"] == pytest.approx(0, abs=1e-12)


def test_a_mirrored_trajectory_is_not_matched_by_a_mirror() -> None:
    centers = np.random.default_rng(3).normal(size=(20, 3))
    figures = score_trajectory(trajectory(centers * [1, 1, -1]), trajectory(centers))
    assert figures["ate"] > 0.1


def test_poses_that_are_not_finite_are_refused(truth: np.ndarray) -> None:
    broken = truth.copy()
    broken[3, 0, 3] = np.nan
    with pytest.raises(ExclusionError, match="1 of 12 poses"):
        score_trajectory(broken, truth)


def test_trajectories_of_different_lengths_are_refused(truth: np.ndarray) -> None:
    with pytest.raises(EvaluationError, match=r"\(11, 3, 4\) and \(12, 3, 4\)"):
        score_trajectory(truth[:-1], truth)


def test_coordinates_too_large_to_square_are_refused(truth: np.ndarray) -> None:
    huge = truth.copy()
    huge[:, :, 3] *= 1e200
    with np.errstate(all="ignore"), pytest.raises(DegenerateTrajectoryError, match="cannot be aligned"):
        score_trajectory(huge, truth)


def test_says_what_to_install_without_evo(truth: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "evo.core.metrics", None)
    with pytest.raises(EvaluationError, match=r"evo, .*\[evaluation\]"):
        score_trajectory(truth, truth)


def test_a_still_camera_is_as_far_off_as_the_true_one_spreads_and_moves(truth: np.ndarray) -> None:
    poses = np.linalg.inv(np.concatenate((truth, np.tile([[[0, 0, 0, 1.0]]], (len(truth), 1, 1))), axis=1))
    centers, rotations = poses[:, :3, 3], Rotation.from_matrix(poses[:, :3, :3])
    figures = score_still_camera(truth)
    assert figures["ate"] == pytest.approx(np.sqrt(centers.var(axis=0).sum()))
    steps = np.linalg.norm(np.diff(centers, axis=0), axis=1)
    assert figures["rpe_translation"] == pytest.approx(np.sqrt((steps**2).mean()))
    angles = np.degrees((rotations[:-1].inv() * rotations[1:]).magnitude())
    assert figures["rpe_rotation"] == pytest.approx(np.sqrt((angles**2).mean()))


def test_a_still_camera_beside_one_that_stands_still_in_truth_is_refused_as_any_other() -> None:
    with pytest.raises(DegenerateTrajectoryError, match="true trajectory does not move"):
        score_still_camera(trajectory(np.ones((5, 3))))
