"""The loss against the authors' numbers, its invariances, and labels of which something is missing or wrong."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor

from page4d_hf import Page4DConfig, Page4DOutput
from page4d_hf.errors import Page4DError
from page4d_hf.geometry import cameras_to_pose_encoding, project_points, quaternion_to_matrix
from page4d_hf.loss_page4d import check_labels, normalize_labels, page4d_loss

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
DENSE_TERMS = [
    f"{kind}_{term}"
    for kind, last in (("depth", "gradient"), ("points", "normal"))
    for term in ("confidence", "error", last)
]
HEIGHT, WIDTH = 28, 42
Labels = dict[str, Any]


def make_labels(batch_size: int = 2, num_frames: int = 3, seed: int = 0, dtype: torch.dtype = torch.float32) -> Labels:
    """Wavy surfaces seen by cameras that have moved and turned a little, in a world that is none of theirs."""
    rng = torch.Generator().manual_seed(seed)
    shape = (batch_size, num_frames)
    quaternion = 0.2 * torch.randn(*shape, 4, generator=rng, dtype=torch.float64) + torch.tensor([0.0, 0, 0, 1])
    translation = torch.randn(*shape, 3, 1, generator=rng, dtype=torch.float64)
    intrinsics = torch.tensor([[40.0, 0, WIDTH / 2], [0, 40, HEIGHT / 2], [0, 0, 1]]).repeat(*shape, 1, 1)
    phase = 6 * torch.rand(*shape, 1, 1, generator=rng)
    v, u = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    return {
        "extrinsics": torch.cat((quaternion_to_matrix(quaternion), translation), -1).to(dtype),
        "intrinsics": intrinsics.to(dtype),
        "depth": (4 + torch.sin(u / 6 + phase) + torch.cos(v / 5 - phase)).to(dtype),
    }


def perfect(labels: Labels, confidence: float = 2.0) -> Page4DOutput:
    """What a network that knows everything predicts; the leaves of its graph are its fields."""
    targets = normalize_labels(labels, (HEIGHT, WIDTH))
    pose_enc = cameras_to_pose_encoding(targets.extrinsics, targets.intrinsics, (HEIGHT, WIDTH))
    conf = torch.full(targets.depth.shape, confidence)
    output = Page4DOutput()
    output.pose_enc = pose_enc.requires_grad_()
    output.depth, output.depth_conf = targets.depth[..., None].requires_grad_(), conf.clone().requires_grad_()
    output.world_points, output.world_points_conf = targets.world_points.requires_grad_(), conf.requires_grad_()
    return output


def wrong(labels: Labels, seed: int = 1, amount: float = 0.1) -> Page4DOutput:
    """What a network that does not quite know predicts."""
    rng = torch.Generator().manual_seed(seed)
    output = perfect(labels)
    for name, value in output.items():
        noise = torch.randn(value.shape, generator=rng)
        output[name] = (value.detach() + amount * (noise.abs() if "conf" in name else noise)).requires_grad_()
    return output


def part_of(values: Any, index: slice) -> Any:
    """Some samples of a batch of labels, or of predictions."""
    if isinstance(values, Page4DOutput):
        return Page4DOutput(**{name: value.detach()[index].requires_grad_() for name, value in values.items()})
    return {name: value[index] for name, value in values.items()}


def terms_of(output: Page4DOutput, labels: Labels, config: Page4DConfig) -> dict[str, float]:
    return {name: term.item() for name, term in page4d_loss(output, labels, config).terms.items()}


def gradients(output: Page4DOutput, loss: Tensor) -> dict[str, Tensor]:
    return dict(zip(output, torch.autograd.grad(loss, list(output.values())), strict=True))


@pytest.fixture(scope="module")
def config(tiny_config: Callable[..., Page4DConfig]) -> Page4DConfig:
    return tiny_config()


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
    losses = page4d_loss(reference_output, reference_labels, Page4DConfig())

    for theirs, ours in REFERENCE_TERMS.items():
        torch.testing.assert_close(losses.terms[ours], reference[f"out/{theirs}"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(losses.total, reference["out/objective"], rtol=1e-5, atol=1e-6)


def test_every_gradient_is_that_of_the_release(reference, reference_labels, reference_output):
    page4d_loss(reference_output, reference_labels, Page4DConfig()).total.backward()

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
        }
    )

    assert torch.equal(targets.depth_valid, valid)
    assert torch.equal(targets.points_valid, valid)
    torch.testing.assert_close(targets.extrinsics, raw["out/extrinsics"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(targets.depth[valid], raw["out/depths"][valid], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(targets.world_points[valid], raw["out/world_points"][valid], rtol=1e-5, atol=1e-6)


# The ground truth's world and scale


def test_the_first_camera_becomes_the_world():
    targets = normalize_labels(make_labels())

    assert torch.allclose(targets.extrinsics[:, 0], torch.eye(3, 4), atol=1e-6)


def test_the_mean_distance_of_valid_points_becomes_1():
    labels = make_labels()
    labels["depth"][:, :, :, ::3] = 0

    targets = normalize_labels(labels)

    for points, valid in zip(targets.world_points, targets.points_valid, strict=True):
        assert float(points[valid].norm(dim=-1).mean()) == pytest.approx(1, rel=1e-5)


def test_points_are_where_the_centres_of_pixels_see_them():
    """The first pixel's centre being (0.5, 0.5)."""
    targets = normalize_labels(make_labels())

    pixels, depth = project_points(targets.world_points.flatten(2, 3), targets.extrinsics, targets.intrinsics)

    v, u = torch.meshgrid(torch.arange(HEIGHT) + 0.5, torch.arange(WIDTH) + 0.5, indexing="ij")
    torch.testing.assert_close(pixels, torch.stack((u, v), -1).flatten(0, 1).expand_as(pixels), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(depth, targets.depth.flatten(2), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), -1.0, 0.0])
def test_depth_that_is_no_positive_number_is_not_known(bad):
    labels = make_labels()
    labels["depth"][0, 1, 2, 3] = bad

    targets = normalize_labels(labels)

    assert not targets.depth_valid[0, 1, 2, 3]
    assert not targets.points_valid[0, 1, 2, 3]
    assert targets.depth_valid.sum() == targets.depth.numel() - 1
    assert targets.depth.isfinite().all()
    assert targets.world_points.isfinite().all()


def test_points_may_be_given_instead_of_depth(config):
    labels = make_labels()
    targets = normalize_labels(labels)
    output = wrong(labels)
    points = targets.world_points.clone()
    points[0, 1, 2, 3] = torch.nan

    losses = page4d_loss(
        output, labels | {"depth": None, "world_points": points, "extrinsics": targets.extrinsics}, config
    )

    expected = labels | {"depth": labels["depth"].clone()}
    expected["depth"][0, 1, 2, 3] = 0
    reference = page4d_loss(output, expected, config)
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

    found, expected = (page4d_loss(output, world, everything_kept) for world in (moved, labels))

    torch.testing.assert_close(found.terms, expected.terms, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("factor", [1e-3, 7.0, 1e4])
def test_another_scale_of_the_labels_world_changes_nothing(everything_kept, factor):
    labels = make_labels()
    scaled = labels | {"depth": factor * labels["depth"], "extrinsics": labels["extrinsics"].clone()}
    scaled["extrinsics"][..., 3] *= factor
    output = wrong(labels)

    found, expected = (page4d_loss(output, world, everything_kept) for world in (scaled, labels))

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

    found, expected = (page4d_loss(output, labels, with_config).terms for with_config in (config, everything_kept))

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

    losses = page4d_loss(output, labels, config)

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
    config = tiny_config(camera_loss_weight=2.0, depth_loss_weight=3.0, point_loss_weight=0.5)

    losses = page4d_loss(output, labels, config)

    terms = losses.terms
    torch.testing.assert_close(losses.total, 2 * terms["camera"] + 3 * terms["depth"] + 0.5 * terms["points"])


def test_fields_of_view_are_weighted_as_configured(tiny_config):
    labels = make_labels()
    terms = page4d_loss(wrong(labels), labels, tiny_config(fov_loss_weight=0.125)).terms

    parts = terms["camera_translation"] + terms["camera_rotation"] + 0.125 * terms["camera_fov"]
    assert terms["camera_fov"] > 0
    torch.testing.assert_close(terms["camera"], parts)


# Partial labels


@pytest.mark.parametrize(
    ("missing", "dropped"),
    [
        ("has_pose", ["camera", "camera_translation", "camera_rotation", "camera_fov", "points", *DENSE_TERMS[3:]]),
        ("has_depth", ["depth", "points", *DENSE_TERMS]),
    ],
)
def test_a_sequence_without_a_label_leaves_the_terms_of_the_others_as_they_are(config, missing, dropped):
    labels = make_labels()
    output = wrong(labels)

    terms = page4d_loss(output, labels | {missing: torch.tensor([True, False])}, config).terms

    alone = page4d_loss(part_of(output, slice(1)), part_of(labels, slice(1)), config).terms
    for name in dropped:
        torch.testing.assert_close(terms[name], alone[name], rtol=1e-6, atol=1e-7, msg=name)


def test_what_a_sequence_does_have_still_counts(config):
    labels = make_labels()
    without_pose = labels | {"has_pose": torch.tensor([True, False])}
    without_depth = labels | {"has_depth": torch.tensor([True, False])}

    for partial, kept in ((without_pose, "depth"), (without_depth, "pose_enc")):
        output = wrong(labels)
        found = gradients(output, page4d_loss(output, partial, config).total)
        assert (found[kept][1] != 0).any()
        assert not found["world_points"][1].any()
        assert not found["pose_enc" if kept == "depth" else "depth"][1].any()


@pytest.mark.parametrize("flag", ["has_pose", "has_depth"])
def test_what_a_label_that_is_said_to_be_missing_holds_is_not_looked_at(config, flag):
    labels = make_labels() | {flag: torch.tensor([True, False])}
    output = wrong(make_labels())
    expected = page4d_loss(output, labels, config)
    for name in ("extrinsics", "intrinsics") if flag == "has_pose" else ("depth",):
        for garbage in (0.0, float("nan")):
            labels[name] = labels[name].clone()
            labels[name][1] = garbage

            torch.testing.assert_close(page4d_loss(output, labels, config).terms, expected.terms, rtol=0, atol=0)


@pytest.mark.parametrize(("absent", "flag"), [(("extrinsics", "intrinsics"), "has_pose"), (("depth",), "has_depth")])
def test_a_batch_without_a_label_is_one_of_which_no_sequence_has_it(config, absent, flag):
    labels = make_labels()
    output = wrong(labels)

    found = page4d_loss(output, {name: value for name, value in labels.items() if name not in absent}, config)

    expected = page4d_loss(output, labels | {flag: torch.tensor([False, False])}, config)
    torch.testing.assert_close(found.terms, expected.terms, rtol=0, atol=0)


def test_depth_of_zeros_is_no_depth(config):
    labels = make_labels()
    zeros = labels | {"depth": torch.zeros_like(labels["depth"])}
    output = wrong(labels)

    found = page4d_loss(output, zeros, config)

    expected = page4d_loss(output, labels | {"depth": None}, config)
    torch.testing.assert_close(found.terms, expected.terms, rtol=0, atol=0)
    assert found.terms["camera"] > 0


@pytest.mark.parametrize("factor", [0.1, 30.0])
def test_poses_alone_are_compared_up_to_scale(config, factor):
    labels = make_labels()
    del labels["depth"]
    output = perfect(labels)
    output.pose_enc = output.pose_enc * torch.tensor([factor] * 3 + [1.0] * 6)

    assert terms_of(output, labels, config)["camera"] == pytest.approx(0, abs=1e-5 * factor)


@pytest.mark.parametrize("factor", [0.1, 30.0])
def test_depth_alone_is_compared_up_to_scale(config, factor):
    labels = {"depth": make_labels()["depth"]}
    output = perfect(labels, confidence=1.0)
    output.depth = output.depth * factor

    assert terms_of(output, labels, config)["depth"] == pytest.approx(0, abs=1e-5 * factor)


@pytest.mark.parametrize("present", [("depth",), ("extrinsics", "intrinsics")])
def test_shrinking_is_no_way_to_improve_where_the_scale_is_not_known(config, present):
    """The gradient has no part along the predictions themselves."""
    labels = make_labels()
    output = wrong(labels, amount=0.5)
    labels = {name: labels[name] for name in present}

    found = gradients(output, page4d_loss(output, labels, config).total)

    for sample in range(2):
        if "depth" in present:
            gradient, value = found["depth"][sample], output.depth[sample]
        else:
            gradient, value = found["pose_enc"][sample, :, :3], output.pose_enc[sample, :, :3]
        along = (gradient * value).sum() / (gradient.norm() * value.norm())
        assert gradient.norm() > 0
        assert along.item() == pytest.approx(0, abs=1e-5)


def test_sparse_depth_teaches_its_own_pixels_only(config):
    labels = make_labels()
    known = torch.rand(labels["depth"].shape, generator=torch.Generator().manual_seed(3)) < 0.2
    labels["depth"] = labels["depth"] * known
    output = wrong(labels)

    found = gradients(output, page4d_loss(output, labels, config).total)

    for name in ("depth", "depth_conf", "world_points", "world_points_conf"):
        assert found[name].isfinite().all()
        assert not found[name][~known].any()
        assert found[name][known].any()


def test_a_prediction_that_is_not_finite_does_not_matter_where_nothing_is_labelled(config):
    labels = make_labels()
    labels["depth"][:, :, 5, 5] = 0
    output = wrong(labels)
    expected = page4d_loss(output, labels, config)
    for name in ("depth", "depth_conf", "world_points", "world_points_conf"):
        output[name] = output[name].detach().clone()
        output[name][:, :, 5, 5] = torch.inf
        output[name].requires_grad_()

    losses = page4d_loss(output, labels, config)

    assert torch.equal(losses.total, expected.total)
    assert all(gradient.isfinite().all() for gradient in gradients(output, losses.total).values())


def test_where_nothing_is_labelled_the_loss_and_its_gradients_are_zero(config):
    labels = make_labels() | {
        "has_pose": torch.zeros(2, dtype=torch.bool),
        "has_depth": torch.zeros(2, dtype=torch.bool),
    }
    output = wrong(labels)

    losses = page4d_loss(output, labels, config)

    assert losses.total == 0
    assert not any(losses.terms.values())
    # Every prediction stays part of the graph: distributed training waits for every gradient.
    assert not any(gradient.any() for gradient in gradients(output, losses.total).values())


def test_one_frame_is_enough(config):
    labels = make_labels(num_frames=1)

    losses = page4d_loss(wrong(labels), labels, config)

    assert losses.total.isfinite()


def test_cameras_that_stand_still_without_depth_are_still_cameras(config):
    labels = make_labels()
    labels = {name: labels[name][:, :1].repeat(1, 3, 1, 1) for name in ("extrinsics", "intrinsics")}
    output = perfect(labels)
    output.pose_enc = (output.pose_enc.detach() + 0.25).requires_grad_()

    losses = page4d_loss(output, labels, config)

    assert losses.terms["camera_translation"].item() == pytest.approx(0.25, rel=1e-4)
    # At rest is at rest in any scale.
    assert (gradients(output, losses.total)["pose_enc"][..., :3] > 0).all()


# Precision


def test_bfloat16_autocast_does_not_reach_the_loss(config):
    labels = make_labels()
    output = wrong(labels)
    expected = page4d_loss(output, labels, config)

    with torch.autocast("cpu", torch.bfloat16):
        found = page4d_loss(output, labels, config)

    assert found.total.dtype == torch.float32
    torch.testing.assert_close(found.terms, expected.terms, rtol=0, atol=0)


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

        loss = page4d_loss(fake_output, fake_labels, config).total

    assert loss.device.type == "cuda"
    assert loss.requires_grad


# Bad labels


def without(labels: Labels, *names: str) -> Labels:
    return {name: value for name, value in labels.items() if name not in names}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda labels: labels | {"depths": labels["depth"]}, "no label called depths"),
        (lambda labels: without(labels, "intrinsics"), "extrinsics and no intrinsics"),
        (lambda labels: without(labels, "depth", "extrinsics"), "nothing to learn from"),
        (lambda labels: {}, "nothing to learn from"),
        (lambda labels: labels["depth"], "must be a dict"),
        (lambda labels: labels | {"depth": labels["depth"].numpy()}, "must be a tensor"),
        (lambda labels: labels | {"depth": labels["depth"][:, :2]}, r"\(2, 3, 28, 42\).*it is \(2, 2, 28, 42\)"),
        (lambda labels: labels | {"depth": labels["depth"][..., None]}, r"it is \(2, 3, 28, 42, 1\)"),
        (lambda labels: labels | {"depth": labels["depth"].long()}, "floating point, it is torch.int64"),
        (lambda labels: labels | {"extrinsics": labels["extrinsics"][:, :2]}, r"\(2, 3, 3, 4\).*\(2, 2, 3, 4\)"),
        (lambda labels: labels | {"extrinsics": torch.eye(4).repeat(2, 3, 1, 1)}, r"it is \(2, 3, 4, 4\)"),
        (lambda labels: labels | {"has_pose": torch.ones(2)}, "must be bool, it is torch.float32"),
        (lambda labels: labels | {"has_pose": torch.ones(3, dtype=torch.bool)}, r"it is \(3,\)"),
        (
            lambda labels: without(labels, "depth") | {"has_depth": torch.ones(2, dtype=torch.bool)},
            "has_depth and no depth or world_points",
        ),
        (
            lambda labels: {"depth": labels["depth"], "world_points": torch.ones(2, 3, 28, 42, 3)},
            "world_points and no extrinsics",
        ),
    ],
)
def test_labels_that_cannot_be_are_named(change, message):
    with pytest.raises(Page4DError, match=message):
        check_labels(change(make_labels()), (2, 3, HEIGHT, WIDTH))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("extrinsics", lambda matrix: matrix * torch.nan, "extrinsics.*sequence 1, frame 2.*not finite"),
        ("extrinsics", lambda matrix: matrix * 0, "sequence 1, frame 2, have no rotation"),
        ("extrinsics", lambda matrix: matrix * 1.1, "sequence 1, frame 2, have no rotation"),
        ("extrinsics", lambda matrix: -matrix, "sequence 1, frame 2, have no rotation"),
        ("intrinsics", lambda matrix: matrix * 0, "focal length"),
        ("intrinsics", lambda matrix: matrix * torch.inf, "not finite"),
    ],
)
def test_a_camera_that_is_none_is_named(name, change, message):
    labels = make_labels()
    labels[name][1, 2] = change(labels[name][1, 2])

    with pytest.raises(Page4DError, match=message):
        normalize_labels(labels)


def test_cameras_alone_need_the_images_size():
    labels = without(make_labels(), "depth")

    with pytest.raises(Page4DError, match="size of the images"):
        normalize_labels(labels)
    assert normalize_labels(labels, (HEIGHT, WIDTH)).depth.shape == (2, 3, HEIGHT, WIDTH)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("camera_loss", "l2"),
        ("camera_huber_delta", 0.0),
        ("camera_loss_weight", -1.0),
        ("depth_loss_weight", float("nan")),
        ("point_loss_weight", float("inf")),
        ("fov_loss_weight", -0.5),
        ("loss_quantile", 0.0),
        ("loss_quantile", 1.5),
    ],
)
def test_a_configuration_of_no_loss_is_refused(tiny_config, field, value):
    with pytest.raises(StrictDataclassError, match=field):
        tiny_config(**{field: value})


def test_the_loss_is_configured_on_disk_too(tiny_config, tmp_path):
    tiny_config(camera_loss="huber", point_loss_weight=0.25).save_pretrained(tmp_path)

    config = Page4DConfig.from_pretrained(tmp_path)

    assert (config.camera_loss, config.point_loss_weight, config.loss_quantile) == ("huber", 0.25, 0.98)


# In the model


def images(batch_size: int = 2, num_frames: int = 3) -> Tensor:
    rng = torch.Generator().manual_seed(5)
    return torch.rand(batch_size, num_frames, 3, HEIGHT, WIDTH, generator=rng)


def test_the_model_gives_the_loss_of_its_own_output(tiny_model):
    model, labels = tiny_model(), make_labels()

    output = model(images(), labels=labels)

    assert output[0] is output.loss
    assert len(output.pose_enc_stages) == model.config.camera_num_iterations
    expected = page4d_loss(output, labels, model.config)
    torch.testing.assert_close(output.loss, expected.total)
    assert set(output.loss_terms) == set(expected.terms)
    assert not any(term.requires_grad for term in output.loss_terms.values())


def test_predictions_do_not_depend_on_labels(tiny_model):
    model = tiny_model()

    with torch.no_grad():
        found, expected = model(images(), labels=make_labels()), model(images())

    assert expected.loss is None
    assert expected.loss_terms is None
    assert torch.equal(found.depth, expected.depth)
    assert torch.equal(found.pose_enc, expected.pose_enc)


def test_every_weight_of_the_heads_learns_from_full_labels(tiny_model):
    model = tiny_model()

    model(images(), labels=make_labels()).loss.backward()

    for name, weight in model.named_parameters():
        if "head" in name:
            assert weight.grad is not None, name
            assert weight.grad.isfinite().all(), name


def test_one_sequence_may_come_without_the_batch_dimension(tiny_model):
    model, labels = tiny_model(), make_labels(batch_size=1)

    with torch.no_grad():
        found = model(images(1)[0], labels={name: value[0] for name, value in labels.items()})
        expected = model(images(1), labels=labels)

    assert torch.equal(found.loss, expected.loss)


@pytest.mark.parametrize(
    ("head", "prefix"), [("enable_camera", "camera"), ("enable_depth", "depth"), ("enable_point", "points")]
)
def test_a_model_without_a_head_has_none_of_its_terms(tiny_model, head, prefix):
    losses = tiny_model(**{head: False})(images(), labels=make_labels())

    assert losses.loss.isfinite()
    assert losses.loss_terms
    assert not any(name.startswith(prefix) for name in losses.loss_terms)


def test_labels_that_no_head_learns_from_are_refused(tiny_model):
    model = tiny_model(enable_camera=False, enable_point=False)

    with pytest.raises(Page4DError, match="no head that learns from labels of extrinsics, intrinsics"):
        model(images(), labels=without(make_labels(), "depth"))


def test_cameras_alone_train_a_model_of_cameras_alone(tiny_model):
    model = tiny_model(enable_depth=False, enable_point=False)

    assert model(images(), labels=without(make_labels(), "depth")).loss > 0


def test_labels_of_other_images_are_refused_before_the_network_runs(tiny_model, monkeypatch):
    model = tiny_model()
    monkeypatch.setattr(model, "encoder", None)

    with pytest.raises(Page4DError, match=r"2 x 2 images.*it is \(2, 3, 3, 4\)"):
        model(images(num_frames=2), labels=make_labels())


def test_a_bfloat16_model_has_a_float32_loss(tiny_model):
    model = tiny_model().to(torch.bfloat16)

    loss = model(images(), labels=make_labels()).loss
    loss.backward()

    assert loss.dtype == torch.float32
    assert loss.isfinite()


def test_bfloat16_autocast_trains(tiny_model):
    model = tiny_model().train()

    with torch.autocast("cpu", torch.bfloat16):
        loss = model(images(), labels=make_labels()).loss
    loss.backward()

    assert loss.dtype == torch.float32
    assert all(weight.grad.isfinite().all() for weight in model.parameters() if weight.grad is not None)


# The mask head


@pytest.fixture(scope="module")
def with_mask_loss(tiny_config: Callable[..., Page4DConfig]) -> Page4DConfig:
    return tiny_config(mask_loss_weight=0.5)


def moving_labels(moving: Tensor) -> Labels:
    return {**make_labels(), "motion_mask": moving}


def some_motion() -> Tensor:
    """A quarter of the first patch of every frame."""
    moving = torch.zeros(2, 3, HEIGHT, WIDTH, dtype=torch.bool)
    moving[..., :7, :7] = True
    return moving


def mask_term(logits: Tensor, moving: Tensor, config: Page4DConfig) -> Tensor:
    labels = moving_labels(moving)
    return page4d_loss(perfect(labels), labels, config, dynamics_logits=logits).terms["mask"]


def test_without_a_weight_motion_masks_change_neither_loss_nor_gradients(config):
    labels = make_labels()
    output = wrong(labels)
    logits = torch.randn(2, 3, 2, 3, requires_grad=True)
    plain = page4d_loss(output, labels, config)
    before = gradients(output, plain.total)
    losses = page4d_loss(output, moving_labels(some_motion()), config, dynamics_logits=logits)

    assert losses.total.item() == plain.total.item()
    assert losses.terms.keys() == plain.terms.keys()
    after = gradients(output, losses.total)
    assert all(torch.equal(after[name], before[name]) for name in before)
    losses = page4d_loss(output, moving_labels(some_motion()), config, dynamics_logits=logits)
    assert torch.autograd.grad(losses.total, logits, allow_unused=True) == (None,)


def test_the_mask_head_s_loss_is_the_cross_entropy_of_what_moves_and_what_stands_still_half_and_half(with_mask_loss):
    rng = torch.Generator().manual_seed(0)
    logits, moving = torch.randn(2, 3, 2, 3, generator=rng), torch.rand(2, 3, HEIGHT, WIDTH, generator=rng) < 0.1
    found = mask_term(logits, moving, with_mask_loss)

    # Pixel by pixel, each with the value of its patch.
    value = torch.sigmoid(logits.double()).repeat_interleave(14, 2).repeat_interleave(14, 3)
    expected = (-value[moving].log().mean() - (1 - value[~moving]).log().mean()) / 2
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_mask_head_that_says_the_same_everywhere_does_best_to_say_a_half(with_mask_loss):
    terms = [
        mask_term(torch.full((2, 3, 2, 3), value), some_motion(), with_mask_loss).item() for value in (-0.5, 0.0, 0.5)
    ]
    assert terms[1] == pytest.approx(math.log(2), rel=1e-6)
    assert min(terms) == terms[1]


def test_the_mask_head_s_loss_counts_with_its_weight(with_mask_loss, config):
    labels, logits = moving_labels(some_motion()), torch.randn(2, 3, 2, 3)
    output = wrong(labels)
    losses = page4d_loss(output, labels, with_mask_loss, dynamics_logits=logits)
    plain = page4d_loss(output, labels, config)

    assert losses.total.item() == pytest.approx(plain.total.item() + 0.5 * losses.terms["mask"].item(), rel=1e-6)


@pytest.mark.parametrize("value", [True, False])
def test_a_batch_in_which_everything_or_nothing_moves_has_a_finite_loss_of_the_mask_head(with_mask_loss, value):
    logits = torch.tensor(300.0 if value else -300.0).expand(2, 3, 2, 3)
    moving = torch.full((2, 3, HEIGHT, WIDTH), value)

    assert mask_term(logits, moving, with_mask_loss).item() == 0
    assert mask_term(-logits, moving, with_mask_loss).item() == pytest.approx(150)


def test_labels_without_a_motion_mask_give_the_mask_head_a_gradient_of_zero(with_mask_loss):
    labels, logits = make_labels(), torch.randn(2, 3, 2, 3, requires_grad=True)
    losses = page4d_loss(perfect(labels), labels, with_mask_loss, dynamics_logits=logits)

    assert losses.terms["mask"].item() == 0
    assert torch.autograd.grad(losses.total, logits)[0].count_nonzero() == 0
