"""The loss of a model on its own output, and that of its mask head."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from loss_labels import HEIGHT, WIDTH, Labels, gradients, loss_of, make_labels, perfect, without, wrong
from torch import Tensor

from page4d_hf import Page4DConfig
from page4d_hf.errors import Page4DError

# In the model


def images(batch_size: int = 2, num_frames: int = 3) -> Tensor:
    rng = torch.Generator().manual_seed(5)
    return torch.rand(batch_size, num_frames, 3, HEIGHT, WIDTH, generator=rng)


def test_the_model_gives_the_loss_of_its_own_output(tiny_model):
    model, labels = tiny_model(), make_labels()

    output = model(images(), labels=labels)

    assert output[0] is output.loss
    assert len(output.pose_enc_stages) == model.config.camera_num_iterations
    expected = loss_of(output, labels, model.config)
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


@pytest.mark.parametrize(
    ("options", "heads"),
    [
        ({}, ()),
        ({"camera_loss_weight": 0, "depth_loss_weight": 0, "point_loss_weight": 0}, None),
        ({"enable_camera": False, "enable_point": False, "depth_loss_weight": 0}, None),
        ({"depth_loss_weight": 0}, ("depth",)),
    ],
)
def test_labels_that_no_head_learns_from_by_its_weight_or_by_those_that_run_are_refused(tiny_model, options, heads):
    model = tiny_model(**options).train()

    with pytest.raises(Page4DError, match="heads= leaves out learns, nor in training one whose loss weighs 0"):
        model(images(), labels=make_labels(), heads=heads)


def test_the_mask_head_learns_alone_from_labels_of_what_moves(tiny_model):
    weights = {"camera_loss_weight": 0, "depth_loss_weight": 0, "point_loss_weight": 0, "mask_loss_weight": 2}
    model = tiny_model(enable_camera=False, mask_form="release", **weights).train()
    moving = torch.rand(*make_labels()["depth"].shape) > 0.5
    output = model(images(), labels={**make_labels(), "motion_mask": moving})

    assert output.loss_terms.keys() == {"mask"}
    assert output.loss == 2 * output.loss_terms["mask"] > 0


def test_a_head_whose_loss_weighs_nothing_has_its_terms_in_evaluation(tiny_model):
    model = tiny_model(enable_camera=False, enable_point=False, depth_loss_weight=0).eval()
    output = model(images(), labels=make_labels())

    assert output.loss == 0
    assert output.loss_terms["depth"] > 0


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
    return loss_of(perfect(labels), labels, config, dynamics_logits=logits).terms["mask"]


def test_without_a_weight_motion_masks_change_neither_loss_nor_gradients(config):
    labels = make_labels()
    output = wrong(labels)
    logits = torch.randn(2, 3, 2, 3, requires_grad=True)
    plain = loss_of(output, labels, config)
    before = gradients(output, plain.total)
    losses = loss_of(output, moving_labels(some_motion()), config, dynamics_logits=logits)

    assert losses.total.item() == plain.total.item()
    assert losses.terms.keys() == plain.terms.keys()
    *after, of_logits = torch.autograd.grad(losses.total, [*output.values(), logits], allow_unused=True)
    assert of_logits is None
    assert all(torch.equal(found, expected) for found, expected in zip(after, before.values(), strict=True))


def test_the_mask_head_s_loss_is_the_cross_entropy_of_what_moves_and_what_stands_still_half_and_half(with_mask_loss):
    rng = torch.Generator().manual_seed(0)
    logits, moving = torch.randn(2, 3, 2, 3, generator=rng), torch.rand(2, 3, HEIGHT, WIDTH, generator=rng) < 0.1
    found = mask_term(logits, moving, with_mask_loss)

    # Pixel by pixel, each with the value of its patch.
    value = torch.sigmoid(logits.double()).repeat_interleave(14, 2).repeat_interleave(14, 3)
    expected = (-value[moving].log().mean() - (1 - value[~moving]).log().mean()) / 2
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_mask_head_s_loss_counts_with_its_weight(with_mask_loss, config):
    labels, logits = moving_labels(some_motion()), torch.randn(2, 3, 2, 3)
    output = wrong(labels)
    losses = loss_of(output, labels, with_mask_loss, dynamics_logits=logits)
    plain = loss_of(output, labels, config)

    assert losses.total.item() == pytest.approx(plain.total.item() + 0.5 * losses.terms["mask"].item(), rel=1e-6)


@pytest.mark.parametrize("value", [True, False])
def test_a_batch_in_which_everything_or_nothing_moves_has_a_finite_loss_of_the_mask_head(with_mask_loss, value):
    logits = torch.tensor(300.0 if value else -300.0).expand(2, 3, 2, 3)
    moving = torch.full((2, 3, HEIGHT, WIDTH), value)

    assert mask_term(logits, moving, with_mask_loss).item() == 0
    assert mask_term(-logits, moving, with_mask_loss).item() == pytest.approx(150)


def test_a_sequence_without_a_motion_mask_leaves_the_mask_head_s_loss_to_the_others(with_mask_loss):
    labels, logits = moving_labels(some_motion()), torch.randn(2, 3, 2, 3, requires_grad=True)
    alone = {name: value[:1] for name, value in labels.items()}
    expected = loss_of(perfect(alone), alone, with_mask_loss, dynamics_logits=logits[:1]).terms["mask"]
    labels["has_motion"] = torch.tensor([True, False])
    found = loss_of(perfect(labels), labels, with_mask_loss, dynamics_logits=logits).terms["mask"]

    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    gradient = torch.autograd.grad(found, logits)[0]
    assert gradient[0].count_nonzero() == gradient[0].numel()
    assert gradient[1].count_nonzero() == 0


def test_what_says_whether_motion_is_known_needs_a_motion_mask(config):
    labels = {**make_labels(), "has_motion": torch.tensor([True, False])}
    with pytest.raises(Page4DError, match="has_motion and no motion_mask"):
        loss_of(perfect(make_labels()), labels, config)


def test_labels_without_a_motion_mask_give_the_mask_head_a_gradient_of_zero(with_mask_loss):
    labels, logits = make_labels(), torch.randn(2, 3, 2, 3, requires_grad=True)
    losses = loss_of(perfect(labels), labels, with_mask_loss, dynamics_logits=logits)

    assert losses.terms["mask"].item() == 0
    assert torch.autograd.grad(losses.total, logits)[0].count_nonzero() == 0
