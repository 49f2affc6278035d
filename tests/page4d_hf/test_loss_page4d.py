"""The loss against the authors' numbers, its invariances, its terms and its precision."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from loss_labels import HEIGHT, WIDTH, Labels, gradients, loss_of, make_labels, perfect, targets_of, terms_of, wrong
from torch import Tensor
from torch._dynamo.testing import CompileCounter

from page4d_hf import Page4DConfig, Page4DOutput
from page4d_hf.geometry import project_points, quaternion_to_matrix
from page4d_hf.labels_page4d import normalize_labels
from page4d_hf.loss_page4d import _normal_error

# The reference's names of terms, and ours.
REFERENCE_TERMS = {
    "loss_camera": "camera",
    "loss_T": "camera_translation",
    "loss_R": "camera_rotation",
    "loss_FL": "camera_fov",
    "loss_conf_depth": "depth_confidence",
    "loss_reg_depth": "depth_error",
    "loss_grad_depth": "depth_gradient",
    "loss_conf_point": "points_confidence",
    "loss_reg_point": "points_error",
    "loss_grad_point": "points_normal",
}


@pytest.fixture(scope="module")
def everything_kept(tiny_config: Callable[..., Page4DConfig]) -> Page4DConfig:
    """Without the quantile, of which pixel falls to which side rounding would decide."""
    return tiny_config(loss_quantile=1.0)


# The authors' numbers


@pytest.fixture(scope="module")
def reference(shared: Path) -> dict[str, Tensor]:
    with np.load(shared / "reference" / "losses.npz") as file:
        return {name: torch.tensor(file[name]) for name in file}


@pytest.fixture(scope="module")
def reference_labels(reference: dict[str, Tensor]) -> Labels:
    return {
        "extrinsics": reference["in_batch/extrinsics"],
        "intrinsics": reference["in_batch/intrinsics"],
        "depth": reference["in_batch/depths"] * reference["in_batch/point_masks"],
        "world_points": reference["in_batch/world_points"],
    }


@pytest.fixture
def reference_output(reference: dict[str, Tensor]) -> Page4DOutput:
    maps = {
        name: reference[f"in_pred/{name}"].clone().requires_grad_()
        for name in ("depth", "depth_conf", "world_points", "world_points_conf")
    }
    stages = tuple(reference[f"in_pred/pose_enc_list/{i}"].clone().requires_grad_() for i in range(4))
    return Page4DOutput(pose_enc=stages[-1], pose_enc_stages=stages, **maps)


def test_every_term_is_that_of_the_release(reference, reference_labels, reference_output):
    losses = loss_of(reference_output, reference_labels, Page4DConfig())

    for theirs, ours in REFERENCE_TERMS.items():
        torch.testing.assert_close(losses.terms[ours], reference[f"out/{theirs}"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(losses.total, reference["out/objective"], rtol=1e-5, atol=1e-6)


def test_every_gradient_is_that_of_the_release(reference, reference_labels, reference_output):
    loss_of(reference_output, reference_labels, Page4DConfig()).total.backward()

    found = {f"pose_enc_list/{i}": stage.grad for i, stage in enumerate(reference_output.pose_enc_stages)}
    found |= {
        name: reference_output[name].grad for name in ("depth", "depth_conf", "world_points", "world_points_conf")
    }
    assert set(found) == {name.removeprefix("grad/") for name in reference if name.startswith("grad/")}
    for name, gradient in found.items():
        expected = reference[f"grad/{name}"]
        # Single gradients are as small as 1e-9: what counts is their error over the largest.
        torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()), msg=name)


def test_labels_are_normalised_as_in_the_release(shared):
    with np.load(shared / "reference" / "normalization.npz") as file:
        raw = {name: torch.tensor(file[name]) for name in file}
    valid = raw["point_masks"]

    targets = normalize_labels(
        {
            "extrinsics": raw["extrinsics"],
            "intrinsics": raw["intrinsics"],
            "depth": raw["depths"] * valid,
            "world_points": raw["world_points"],
        },
        tuple(valid.shape[2:]),
    )

    assert torch.equal(targets.depth_valid, valid)
    assert torch.equal(targets.points_valid, valid)
    torch.testing.assert_close(targets.extrinsics, raw["out/extrinsics"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(targets.depth[valid], raw["out/depths"][valid], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(targets.world_points[valid], raw["out/world_points"][valid], rtol=1e-5, atol=1e-6)


# The ground truth's world and scale


def test_the_first_camera_becomes_the_world():
    targets = targets_of(make_labels())

    assert torch.allclose(targets.extrinsics[:, 0], torch.eye(3, 4), atol=1e-6)


def test_the_mean_distance_of_valid_points_becomes_1():
    labels = make_labels()
    labels["depth"][:, :, :, ::3] = 0

    targets = targets_of(labels)

    for points, valid in zip(targets.world_points, targets.points_valid, strict=True):
        assert float(points[valid].norm(dim=-1).mean()) == pytest.approx(1, rel=1e-5)


def test_points_are_where_the_centres_of_pixels_see_them():
    """The first pixel's centre being (0.5, 0.5)."""
    targets = targets_of(make_labels())

    pixels, depth = project_points(targets.world_points.flatten(2, 3), targets.extrinsics, targets.intrinsics)

    v, u = torch.meshgrid(torch.arange(HEIGHT) + 0.5, torch.arange(WIDTH) + 0.5, indexing="ij")
    torch.testing.assert_close(pixels, torch.stack((u, v), -1).flatten(0, 1).expand_as(pixels), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(depth, targets.depth.flatten(2), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), -1.0, 0.0])
def test_depth_that_is_no_positive_number_is_not_known(bad):
    labels = make_labels()
    labels["depth"][0, 1, 2, 3] = bad

    targets = targets_of(labels)

    assert not targets.depth_valid[0, 1, 2, 3]
    assert not targets.points_valid[0, 1, 2, 3]
    assert targets.depth_valid.sum() == targets.depth.numel() - 1
    assert targets.depth.isfinite().all()
    assert targets.world_points.isfinite().all()


def test_points_may_be_given_instead_of_depth(config):
    labels = make_labels()
    targets = targets_of(labels)
    output = wrong(labels)
    points = targets.world_points.clone()
    points[0, 1, 2, 3] = torch.nan

    losses = loss_of(output, labels | {"depth": None, "world_points": points, "extrinsics": targets.extrinsics}, config)

    expected = labels | {"depth": labels["depth"].clone()}
    expected["depth"][0, 1, 2, 3] = 0
    reference = loss_of(output, expected, config)
    torch.testing.assert_close(losses.terms["points"], reference.terms["points"], rtol=1e-3, atol=0)
    assert losses.terms["depth"] == 0


def test_a_rigid_move_of_the_labels_world_changes_nothing(everything_kept):
    labels = make_labels(dtype=torch.float64)
    rotation = quaternion_to_matrix(torch.tensor([0.3, -0.5, 0.2, 0.7], dtype=torch.float64))
    moved = dict(labels)
    # x_new = R x + t, so that [Q | s] becomes [Q R^T | s - Q R^T t]; a thousand kilometres off.
    turned = labels["extrinsics"][..., :3] @ rotation.T
    offset = torch.tensor([1e6, -2e5, 3e5], dtype=torch.float64)
    moved["extrinsics"] = torch.cat((turned, labels["extrinsics"][..., 3:] - (turned @ offset)[..., None]), -1)
    output = wrong(labels)

    found, expected = (loss_of(output, world, everything_kept) for world in (moved, labels))

    torch.testing.assert_close(found.terms, expected.terms, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("factor", [1e-3, 7.0, 1e4])
def test_another_scale_of_the_labels_world_changes_nothing(everything_kept, factor):
    labels = make_labels()
    scaled = labels | {"depth": factor * labels["depth"], "extrinsics": labels["extrinsics"].clone()}
    scaled["extrinsics"][..., 3] *= factor
    output = wrong(labels)

    found, expected = (loss_of(output, world, everything_kept) for world in (scaled, labels))

    torch.testing.assert_close(found.terms, expected.terms, rtol=1e-5, atol=1e-6)


# What the terms do


def test_a_perfect_prediction_has_no_error(config):
    labels = make_labels()

    for name, term in terms_of(perfect(labels, confidence=1.0), labels, config).items():
        assert term == pytest.approx(0, abs=1e-6), name


def test_huber_is_square_below_delta_and_runs_beside_l1_above(tiny_config):
    labels, delta, factor = make_labels(), 0.1, 5.0
    huber = tiny_config(camera_loss="huber", camera_huber_delta=delta)

    for error, expected in ((0.02, 0.02**2 / (2 * delta)), (factor, factor - delta / 2)):
        output = perfect(labels)
        output.pose_enc = output.pose_enc + error
        terms = terms_of(output, labels, huber)
        for name in ("camera_translation", "camera_rotation", "camera_fov"):
            assert terms[name] == pytest.approx(expected, rel=1e-3), (name, error)


def test_a_translation_that_ran_away_is_clamped(config):
    labels = make_labels()
    output = perfect(labels)
    output.pose_enc = output.pose_enc + torch.tensor([1e6] * 3 + [0.0] * 6)

    assert terms_of(output, labels, config)["camera_translation"] == 100


def test_the_largest_errors_are_left_out_where_there_are_enough(config, everything_kept):
    labels = make_labels()
    output, with_outliers = wrong(labels), wrong(labels)
    flat = with_outliers.depth.detach().flatten()
    flat[::100] += 50.0  # 1 % of the pixels; the filter takes 2 %
    with_outliers.depth = flat.view_as(output.depth).requires_grad_()

    found, expected = (terms_of(out, labels, config)["depth_error"] for out in (with_outliers, output))
    kept = terms_of(with_outliers, labels, everything_kept)["depth_error"]

    assert found == pytest.approx(expected, rel=0.05)
    assert kept > 0.4


def test_few_errors_are_all_kept(config, everything_kept):
    labels = make_labels()
    labels["depth"].view(-1)[1000:] = 0
    output = wrong(labels)

    found, expected = (loss_of(output, labels, with_config).terms for with_config in (config, everything_kept))

    assert torch.equal(found["depth_error"], expected["depth_error"])


def test_an_error_counts_100_at_most(everything_kept):
    labels = make_labels()
    output = perfect(labels)
    output.depth = output.depth + 1e5

    terms = terms_of(output, labels, everything_kept)

    assert terms["depth_error"] == pytest.approx(100)
    assert terms["depth_confidence"] == pytest.approx(100)


@pytest.mark.parametrize("factor", [0.0, 1e-12, 1e12, 1e30])
def test_predictions_that_ran_away_or_fell_together_have_a_finite_loss_and_gradient(config, factor):
    labels = make_labels()
    output = wrong(labels)
    for name in ("depth", "world_points"):
        output[name] = (output[name].detach() * factor).requires_grad_()

    losses = loss_of(output, labels, config)

    assert losses.total.isfinite()
    assert all(gradient.isfinite().all() for gradient in gradients(output, losses.total).values())


@pytest.mark.parametrize(("pixels", "counts"), [(99, False), (100, True)])
def test_geometry_counts_from_100_valid_pixels(config, pixels, counts):
    labels = make_labels()
    labels["depth"].view(-1)[pixels:] = 0

    terms = terms_of(wrong(labels), labels, config)

    for name in ("depth_error", "depth_gradient", "points_error", "points_normal"):
        assert (terms[name] != 0) == counts, name


@pytest.mark.parametrize(("pixels", "counts"), [(100, False), (101, True)])
def test_cameras_of_a_sequence_with_depth_count_from_101_valid_pixels_of_the_first_frame(config, pixels, counts):
    labels = make_labels()
    labels["depth"][:, 0].flatten(1)[:, pixels:] = 0

    assert (terms_of(wrong(labels), labels, config)["camera"] != 0) == counts


def test_terms_are_weighted_as_configured(tiny_config):
    labels = make_labels()
    output = wrong(labels)
    config = tiny_config(camera_loss_weight=2.0, depth_loss_weight=3.0, point_loss_weight=0.5, fov_loss_weight=0.125)

    losses = loss_of(output, labels, config)

    terms = losses.terms
    torch.testing.assert_close(losses.total, 2 * terms["camera"] + 3 * terms["depth"] + 0.5 * terms["points"])
    parts = terms["camera_translation"] + terms["camera_rotation"] + 0.125 * terms["camera_fov"]
    assert terms["camera_fov"] > 0
    torch.testing.assert_close(terms["camera"], parts)


# Precision


def test_bfloat16_autocast_does_not_reach_the_loss(config):
    labels = make_labels()
    output = wrong(labels)
    expected = loss_of(output, labels, config)

    with torch.autocast("cpu", torch.bfloat16):
        found = loss_of(output, labels, config)

    assert found.total.dtype == torch.float32
    torch.testing.assert_close(found.terms, expected.terms, rtol=0, atol=0)


@pytest.mark.slow
def test_the_loss_waits_for_no_value(config):
    """A fake tensor has none to give."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    labels = make_labels() | {"has_pose": torch.tensor([True, False]), "has_depth": torch.tensor([True, True])}
    output = wrong(make_labels())
    detached = {name: value.detach() for name, value in output.items()}
    with FakeTensorMode() as mode:
        fake_labels = {name: mode.from_tensor(value).to("cuda") for name, value in labels.items()}
        fake_output = Page4DOutput(
            **{name: mode.from_tensor(value).to("cuda").requires_grad_() for name, value in detached.items()}
        )

        loss = loss_of(fake_output, fake_labels, config).total

    assert loss.device.type == "cuda"
    assert loss.requires_grad


@pytest.mark.slow
def test_the_normals_compile_into_one_graph_for_every_number_of_frames():
    """What is computed again for the gradient is what torch.compile could not trace."""
    counter = CompileCounter()
    compiled = torch.compile(_normal_error, dynamic=True, fullgraph=True, backend=counter)
    for num_frames in (2, 5):
        generator = torch.Generator().manual_seed(0)
        points, expected = (torch.randn(1, num_frames, 6, 7, 3, generator=generator) for _ in range(2))
        arguments = (points.requires_grad_(), expected, torch.ones(1, num_frames, 6, 7, dtype=torch.bool))
        torch.testing.assert_close(compiled(*arguments), _normal_error(*arguments))

    assert counter.frame_count == 1


@pytest.mark.slow
def test_predictions_of_heads_on_different_devices_meet_where_the_labels_are(tiny_config):
    """A fake tensor needs no such devices."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    labels = make_labels() | {"motion_mask": torch.zeros(2, 3, HEIGHT, WIDTH, dtype=torch.bool)}
    predictions = {name: value.detach() for name, value in wrong(make_labels()).items()}
    with FakeTensorMode() as mode:
        fake_labels = {name: mode.from_tensor(value).to("cuda:0") for name, value in labels.items()}
        fake_output = Page4DOutput()
        for name, value in predictions.items():
            device = {"p": "cuda:1", "d": "cuda:2", "w": "cuda:3"}[name[0]]  # cameras, depth and points
            fake_output[name] = mode.from_tensor(value).to(device)
        logits = mode.from_tensor(torch.zeros(2, 3, 2, 3)).to("cuda:4")

        loss = loss_of(fake_output, fake_labels, tiny_config(mask_loss_weight=1.0), dynamics_logits=logits).total

    assert loss.device == torch.device("cuda:0")
