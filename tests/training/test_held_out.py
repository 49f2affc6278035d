"""Figures of held-out clips, where they are known in closed form."""

from __future__ import annotations

import json
import math
import sys

import numpy as np
import pytest
import torch
from finetuning.held_out import LABELS, clip_figures, mean_figures
from finetuning.run import print_table
from scipy.spatial.transform import Rotation
from small_training import EVALUATION, begin, small_options
from torch import Tensor

from page4d_hf.errors import Page4DError
from page4d_hf.geometry import cameras_to_pose_encoding, unproject_depth
from page4d_hf.labels_page4d import normalize_labels
from page4d_hf.modeling_page4d import Page4DOutput

SIZE = (6, 8)
FRAMES = 4


@pytest.fixture
def labels() -> dict[str, Tensor]:
    """Two clips in worlds and scales of their own, with cameras that move and turn."""
    generator = np.random.default_rng(0)
    turns = Rotation.from_rotvec(generator.normal(scale=0.2, size=(2 * FRAMES, 3))).as_matrix()
    extrinsics = np.concatenate((turns, generator.normal(scale=0.5, size=(2 * FRAMES, 3, 1))), axis=-1)
    intrinsics = np.array([[7.0, 0, 4], [0, 7.0, 3], [0, 0, 1]])
    return {
        "extrinsics": torch.tensor(extrinsics, dtype=torch.float32).unflatten(0, (2, FRAMES)),
        "intrinsics": torch.tensor(intrinsics, dtype=torch.float32).expand(2, FRAMES, 3, 3),
        "depth": torch.tensor(generator.uniform(1, 4, (2, FRAMES, *SIZE)), dtype=torch.float32),
        "motion_mask": torch.tensor(generator.random((2, FRAMES, *SIZE)) < 0.3),
    }


def perfect(labels: dict[str, Tensor]) -> Page4DOutput:
    """An output that is the labels, as the network would give them."""
    targets = normalize_labels(labels, SIZE)
    return Page4DOutput(
        pose_enc=cameras_to_pose_encoding(targets.extrinsics, targets.intrinsics, SIZE),
        depth=targets.depth[..., None],
        dynamics_mask=labels["motion_mask"].float() if "motion_mask" in labels else None,
    )


def figures(output: Page4DOutput, labels: dict[str, Tensor]) -> dict[str, float]:
    return mean_figures(clip_figures(output, labels, SIZE))


def test_a_perfect_prediction_has_no_error(labels):
    found = figures(perfect(labels), labels)

    for name in ("abs_rel", "center_error", "ate"):
        assert found[name] == pytest.approx(0, abs=1e-5), name
    # Quaternions are in float32.
    assert found["rotation_error"] == pytest.approx(0, abs=1e-3)
    assert found["delta"] == found["motion_auroc"] == 1


def test_depth_is_compared_after_a_scale_of_its_own_for_every_clip(labels):
    output = perfect(labels)
    output.depth = output.depth * torch.tensor([3.0, 0.2])[:, None, None, None, None]
    found = figures(output, labels)
    assert found["abs_rel"] == pytest.approx(0, abs=1e-5)
    assert found["delta"] == 1


def test_the_trivial_depth_is_the_clip_s_median(labels):
    found = figures(perfect(labels), labels)
    errors, within = [], []
    for depth in labels["depth"]:
        # torch's median of an even number of values is the lower of the two in the middle.
        median = float(depth.flatten().sort().values[(depth.numel() - 1) // 2])
        errors.append(float(((median - depth).abs() / depth).mean()))
        within.append(float((torch.maximum(median / depth, depth / median) < 1.25).float().mean()))
    assert found["trivial/abs_rel"] == pytest.approx(np.mean(errors), rel=1e-5)
    assert found["trivial/delta"] == pytest.approx(np.mean(within), rel=1e-5)


def test_a_network_that_predicts_the_trivial_has_the_trivial_figures(labels):
    output = perfect(labels)
    output.depth = torch.full_like(output.depth, 2.0)
    still = torch.eye(3, 4).expand(2, FRAMES, 3, 4)
    output.pose_enc = cameras_to_pose_encoding(still, labels["intrinsics"], SIZE)
    output.dynamics_mask = torch.full_like(output.dynamics_mask, 0.5)
    found = figures(output, labels)

    for name in ("abs_rel", "delta", "center_error", "rotation_error", "motion_auroc"):
        assert found[name] == pytest.approx(found[f"trivial/{name}"], rel=1e-5), name
    # Centres in one place determine no Sim(3).
    assert "ate" not in found


def test_a_known_rotation_is_the_rotation_error(labels):
    output, angle = perfect(labels), 7.0
    targets = normalize_labels(labels, SIZE)
    turn = torch.tensor(Rotation.from_rotvec([0, np.deg2rad(angle), 0]).as_matrix(), dtype=torch.float32)
    extrinsics = targets.extrinsics.clone()
    extrinsics[:, 1:, :, :3] = turn @ extrinsics[:, 1:, :, :3]
    output.pose_enc = cameras_to_pose_encoding(extrinsics, targets.intrinsics, SIZE)
    assert figures(output, labels)["rotation_error"] == pytest.approx(angle, abs=1e-3)


def test_rotations_are_compared_relative_to_the_first_camera(labels):
    """A network that turned its whole world has its first camera turned, and no relative rotation wrong."""
    output = perfect(labels)
    targets = normalize_labels(labels, SIZE)
    world = torch.tensor(Rotation.from_rotvec([0.3, -0.2, 0.5]).as_matrix(), dtype=torch.float32)
    extrinsics = targets.extrinsics.clone()
    extrinsics[..., :3] = extrinsics[..., :3] @ world
    output.pose_enc = cameras_to_pose_encoding(extrinsics, targets.intrinsics, SIZE)
    assert figures(output, labels)["rotation_error"] == pytest.approx(0, abs=1e-3)


def test_a_still_camera_is_off_by_the_distance_to_the_first(labels):
    targets = normalize_labels(labels, SIZE)
    rotation, translation = targets.extrinsics[..., :3], targets.extrinsics[..., 3:]
    centers = -(rotation.mT @ translation).squeeze(-1)
    angles = [
        np.rad2deg(np.linalg.norm(Rotation.from_matrix(one.numpy()).as_rotvec()))
        for one in rotation[:, 1:].flatten(0, 1)
    ]
    found = figures(perfect(labels), labels)
    assert found["trivial/center_error"] == pytest.approx(float(centers[:, 1:].norm(dim=-1).mean()), rel=1e-4)
    assert found["trivial/rotation_error"] == pytest.approx(np.mean(angles), rel=1e-4)


def test_lengths_are_in_units_of_the_mean_distance_of_the_points(labels):
    """A hundredfold of the world changes no figure."""
    larger = {**labels, "depth": labels["depth"] * 100}
    larger["extrinsics"] = torch.cat((labels["extrinsics"][..., :3], labels["extrinsics"][..., 3:] * 100), -1)
    assert figures(perfect(labels), larger) == pytest.approx(figures(perfect(labels), labels), abs=1e-4)
    points = unproject_depth(labels["depth"], labels["extrinsics"], labels["intrinsics"], pixel_center=0.5)
    first = labels["extrinsics"][:, :1, None, None]
    distance = ((first[..., :3] @ points[..., None]).squeeze(-1) + first[..., 3]).norm(dim=-1).mean((1, 2, 3))
    assert torch.allclose(normalize_labels(labels, SIZE).scale, distance, rtol=1e-5)


def test_the_ate_is_what_is_left_after_a_sim3(labels):
    output = perfect(labels)
    targets = normalize_labels(labels, SIZE)
    extrinsics = targets.extrinsics.clone()
    extrinsics[..., 3] *= 5  # a trajectory of another scale: a Sim(3) away
    output.pose_enc = cameras_to_pose_encoding(extrinsics, targets.intrinsics, SIZE)
    found = figures(output, labels)
    assert found["ate"] == pytest.approx(0, abs=1e-5)
    assert found["center_error"] > 1


def test_a_mask_that_is_turned_around_has_an_auroc_of_0_and_a_flat_one_of_a_half(labels):
    output = perfect(labels)
    output.dynamics_mask = 1 - output.dynamics_mask
    assert figures(output, labels)["motion_auroc"] == 0
    output.dynamics_mask = torch.full_like(output.dynamics_mask, 0.3)
    assert figures(output, labels)["motion_auroc"] == 0.5


def test_clips_without_a_motion_mask_do_not_count_in_its_auroc(labels):
    output = perfect(labels)
    output.dynamics_mask[1] = 1 - output.dynamics_mask[1]
    assert figures(output, labels)["motion_auroc"] == 0.5
    labels["has_motion"] = torch.tensor([True, False])
    assert figures(output, labels)["motion_auroc"] == 1


def test_what_is_not_labelled_is_not_counted(labels):
    found = figures(perfect(labels), {"depth": labels["depth"]})
    assert set(found) == {"abs_rel", "delta", "trivial/abs_rel", "trivial/delta"}
    posed = {name: labels[name] for name in ("extrinsics", "intrinsics")}
    output = perfect(labels)
    assert "abs_rel" not in figures(output, posed)
    # Without points the unit of length is not known, only rotations are.
    assert set(figures(output, posed)) == {"rotation_error", "trivial/rotation_error"}


def test_a_figure_is_the_mean_over_the_clips_that_have_it(labels):
    labels["has_depth"] = torch.tensor([True, False])
    both = figures(perfect(labels), labels)
    alone = {name: value[:1] for name, value in labels.items()}
    assert both["trivial/abs_rel"] == pytest.approx(figures(perfect(alone), alone)["trivial/abs_rel"])


def test_means_of_several_processes_are_those_of_one(labels):
    parts = [{name: value[i : i + 1] for name, value in labels.items()} for i in range(2)]
    gathered = [figures for part in parts for figures in clip_figures(perfect(part), part, SIZE)]
    assert mean_figures(gathered) == pytest.approx(figures(perfect(labels), labels), abs=1e-6)


@pytest.mark.parametrize("name", ["depth", "pose_enc"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_clip_that_is_not_finite_is_left_out_for_model_and_trivial_alike(labels, name, value):
    output = perfect(labels)
    output[name][1, 2] = value
    clips = clip_figures(output, labels, SIZE)
    alone = {name: value[:1] for name, value in labels.items()}
    assert mean_figures(clips) == pytest.approx(figures(perfect(alone), alone), abs=1e-6)
    assert clips.count(None) == 1


def test_a_run_with_held_out_clips_is_refused_at_its_start_where_nothing_compares_trajectories(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "evo.core.metrics", None)  # as if it were not installed
    with pytest.raises(Page4DError, match="evo, which is not installed"):
        begin(small_options(tmp_path, evaluation=EVALUATION))


def test_the_table_has_the_last_figures_beside_the_trivial_ones(tmp_path, capsys):
    lines = [
        {"step": 1, "loss": 1.0},
        {"step": 1, "held_out": {"abs_rel": 0.9}},
        {"step": 2, "held_out": {"abs_rel": 0.25, "trivial/abs_rel": 0.5, "loss": 1.5}},
    ]
    (tmp_path / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    print_table(tmp_path)
    shown = capsys.readouterr().out
    assert "after 2 steps" in shown
    row = next(line for line in shown.splitlines() if LABELS["abs_rel"] in line)
    assert [cell.strip() for cell in row.replace("┃", "│").split("│")[1:-1]] == [LABELS["abs_rel"], "0.2500", "0.5000"]
