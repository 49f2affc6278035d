"""Labels of which something is missing, or wrong."""

from __future__ import annotations

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from loss_labels import (
    DENSE_TERMS,
    HEIGHT,
    WIDTH,
    gradients,
    loss_of,
    make_labels,
    part_of,
    perfect,
    targets_of,
    terms_of,
    without,
    wrong,
)

from page4d_hf.errors import Page4DError
from page4d_hf.labels_page4d import check_labels

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

    terms = loss_of(output, labels | {missing: torch.tensor([True, False])}, config).terms

    alone = loss_of(part_of(output, slice(1)), part_of(labels, slice(1)), config).terms
    for name in dropped:
        torch.testing.assert_close(terms[name], alone[name], rtol=1e-6, atol=1e-7, msg=name)


def test_what_a_sequence_does_have_still_counts(config):
    labels = make_labels()
    without_pose = labels | {"has_pose": torch.tensor([True, False])}
    without_depth = labels | {"has_depth": torch.tensor([True, False])}

    for partial, kept in ((without_pose, "depth"), (without_depth, "pose_enc")):
        output = wrong(labels)
        found = gradients(output, loss_of(output, partial, config).total)
        assert (found[kept][1] != 0).any()
        assert not found["world_points"][1].any()
        assert not found["pose_enc" if kept == "depth" else "depth"][1].any()


@pytest.mark.parametrize("flag", ["has_pose", "has_depth"])
def test_what_a_label_that_is_said_to_be_missing_holds_is_not_looked_at(config, flag):
    labels = make_labels() | {flag: torch.tensor([True, False])}
    output = wrong(make_labels())
    expected = loss_of(output, labels, config)
    for name in ("extrinsics", "intrinsics") if flag == "has_pose" else ("depth",):
        for garbage in (0.0, float("nan")):
            labels[name] = labels[name].clone()
            labels[name][1] = garbage

            torch.testing.assert_close(loss_of(output, labels, config).terms, expected.terms, rtol=0, atol=0)


@pytest.mark.parametrize(("absent", "flag"), [(("extrinsics", "intrinsics"), "has_pose"), (("depth",), "has_depth")])
def test_a_batch_without_a_label_is_one_of_which_no_sequence_has_it(config, absent, flag):
    labels = make_labels()
    output = wrong(labels)

    found = loss_of(output, {name: value for name, value in labels.items() if name not in absent}, config)

    expected = loss_of(output, labels | {flag: torch.tensor([False, False])}, config)
    torch.testing.assert_close(found.terms, expected.terms, rtol=0, atol=0)


def test_depth_of_zeros_is_no_depth(config):
    labels = make_labels()
    zeros = labels | {"depth": torch.zeros_like(labels["depth"])}
    output = wrong(labels)

    found = loss_of(output, zeros, config)

    expected = loss_of(output, labels | {"depth": None}, config)
    torch.testing.assert_close(found.terms, expected.terms, rtol=0, atol=0)
    assert found.terms["camera"] > 0


@pytest.mark.parametrize("sentinel", [1e10, torch.finfo(torch.float32).max, 1e300])
@pytest.mark.parametrize("kind", ["depth", "world_points", "depth alone"])
def test_what_is_farther_than_anything_is_not_known(config, sentinel, kind):
    name = kind.split()[0]
    labels = make_labels(dtype=torch.float64)
    output = wrong(labels)
    if kind == "world_points":
        labels["world_points"] = targets_of(labels).world_points.double()
    elif kind == "depth alone":
        labels = {"depth": labels["depth"]}
    unknown, far = labels[name].clone(), labels[name].clone()
    unknown[0, 0, 3, 3], far[0, 0, 3, 3] = torch.nan, sentinel

    found = loss_of(output, labels | {name: far}, config)

    expected = loss_of(output, labels | {name: unknown}, config)
    torch.testing.assert_close(found.terms, expected.terms, rtol=0, atol=0)
    found_gradients = torch.autograd.grad(found.total, list(output.values()), allow_unused=True)
    assert all(gradient.isfinite().all() for gradient in found_gradients if gradient is not None)


@pytest.mark.parametrize("factor", [0.1, 30.0])
def test_poses_alone_and_depth_alone_are_compared_up_to_scale(config, factor):
    poses, depth = without(make_labels(), "depth"), {"depth": make_labels()["depth"]}
    larger, farther = perfect(poses), perfect(depth, confidence=1.0)
    larger.pose_enc = larger.pose_enc * torch.tensor([factor] * 3 + [1.0] * 6)
    farther.depth = farther.depth * factor

    for output, labels, term in ((larger, poses, "camera"), (farther, depth, "depth")):
        assert terms_of(output, labels, config)[term] == pytest.approx(0, abs=1e-5 * factor)


def test_sparse_depth_teaches_its_own_pixels_only(config):
    labels = make_labels()
    known = torch.rand(labels["depth"].shape, generator=torch.Generator().manual_seed(3)) < 0.2
    labels["depth"] = labels["depth"] * known
    output = wrong(labels)

    found = gradients(output, loss_of(output, labels, config).total)

    for name in ("depth", "depth_conf", "world_points", "world_points_conf"):
        assert found[name].isfinite().all()
        assert not found[name][~known].any()
        assert found[name][known].any()


def test_a_prediction_that_is_not_finite_does_not_matter_where_nothing_is_labelled(config):
    labels = make_labels()
    labels["depth"][:, :, 5, 5] = 0
    output = wrong(labels)
    expected = loss_of(output, labels, config)
    for name in ("depth", "depth_conf", "world_points", "world_points_conf"):
        output[name] = output[name].detach().clone()
        output[name][:, :, 5, 5] = torch.inf
        output[name].requires_grad_()

    losses = loss_of(output, labels, config)

    assert torch.equal(losses.total, expected.total)
    assert all(gradient.isfinite().all() for gradient in gradients(output, losses.total).values())


def test_where_nothing_is_labelled_the_loss_and_its_gradients_are_zero(config):
    labels = make_labels() | {
        "has_pose": torch.zeros(2, dtype=torch.bool),
        "has_depth": torch.zeros(2, dtype=torch.bool),
    }
    output = wrong(labels)

    losses = loss_of(output, labels, config)

    assert losses.total == 0
    assert not any(losses.terms.values())
    # Every prediction stays part of the graph: distributed training waits for every gradient.
    assert not any(gradient.any() for gradient in gradients(output, losses.total).values())


def test_one_frame_is_enough(config):
    labels = make_labels(num_frames=1)

    losses = loss_of(wrong(labels), labels, config)

    assert losses.total.isfinite()


def test_cameras_that_stand_still_without_depth_are_still_cameras(config):
    labels = make_labels()
    labels = {name: labels[name][:, :1].repeat(1, 3, 1, 1) for name in ("extrinsics", "intrinsics")}
    output = perfect(labels)
    output.pose_enc = (output.pose_enc.detach() + 0.25).requires_grad_()

    losses = loss_of(output, labels, config)

    assert losses.terms["camera_translation"].item() == pytest.approx(0.25, rel=1e-4)
    # At rest is at rest in any scale.
    assert (gradients(output, losses.total)["pose_enc"][..., :3] > 0).all()


# Bad labels


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
        targets_of(labels)


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
