"""The dynamics-aware mask: what it does to attention, whom it leaves alone, and how it is trained."""

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
import torch
from small_networks import NUM_SPECIAL as SPECIAL
from small_networks import PREDICTIONS, assert_alike, images, predict
from torch.nn import functional as F
from transformers import AttentionInterface

from page4d_hf import Page4DModel
from page4d_hf.errors import Page4DError
from page4d_hf.modeling_page4d_aggregator import Page4DMask, Page4DMaskSchedule
from page4d_hf.modeling_page4d_layers import apply_rotary, rotary_tables

FORMS = ["release", "paper"]
NUM_FRAMES, HEIGHT, WIDTH = 3, 2, 3
PER_FRAME = SPECIAL + HEIGHT * WIDTH


def random_tokens(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def random_key_bias(strength: float = 20.0) -> torch.Tensor:
    """A bias `[1, S, P]` as a mask head gives it: none for special tokens."""
    bias = strength * (torch.rand(1, NUM_FRAMES, PER_FRAME, generator=torch.Generator().manual_seed(1)) - 0.5)
    bias[:, :, :SPECIAL] = 0
    return bias


def predict_mask(model: Page4DModel, patch_tokens: torch.Tensor, height: int, width: int) -> Page4DMask:
    with torch.no_grad():
        return model.aggregator.mask_head(patch_tokens, height, width)


def register_kernel(name: str, record: Callable[..., None]) -> None:
    """Register an attention that knows no bias; `record` is called with its query, key, value and bias."""

    def kernel(module, query, key, value, attention_mask, scaling, dropout=0.0, **kwargs):
        record(query, key, value, attention_mask)
        return F.scaled_dot_product_attention(query, key, value, scale=scaling).transpose(1, 2).contiguous(), None

    AttentionInterface.register(name, kernel)


@pytest.fixture
def tables():
    return rotary_tables(HEIGHT, WIDTH, SPECIAL, 8, 100.0, torch.device("cpu"), torch.float32)


# Attention under the mask


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_the_mask_never_changes_patch_queries(tiny_model, tables, implementation):
    model = tiny_model(attn_implementation=implementation)
    tokens = random_tokens(1, NUM_FRAMES * PER_FRAME, 16)
    with torch.no_grad():
        plain, _ = model.aggregator.global_layers[2](tokens, tables)
        masked, _ = model.aggregator.global_layers[2](tokens, tables, random_key_bias(), SPECIAL)
    change = (masked - plain).abs().amax(dim=-1).view(NUM_FRAMES, PER_FRAME)

    assert (change[:, SPECIAL:] <= 1e-6).all()
    assert (change[:, :SPECIAL] > 1e-3).all()


def test_masked_attention_is_the_published_rank_one_form(tiny_model, tables):
    """Equation 6 with a bias r_i c_j, computed as the paper does: in one more channel of queries and keys."""
    attention = tiny_model().aggregator.global_layers[2].attention
    tokens = random_tokens(1, NUM_FRAMES * PER_FRAME, 16)
    bias = random_key_bias()
    with torch.no_grad():
        found, _ = attention(tokens, tables, bias, SPECIAL)

        split = [project(tokens).unflatten(-1, (2, 8)) for project in (attention.q_proj, attention.k_proj)]
        query = apply_rotary(attention.q_norm(split[0]), tables).transpose(1, 2)
        key = apply_rotary(attention.k_norm(split[1]), tables).transpose(1, 2)
        value = attention.v_proj(tokens).unflatten(-1, (2, 8)).transpose(1, 2)
        head_dim = 8
        is_special = torch.arange(PER_FRAME).repeat(NUM_FRAMES) < SPECIAL
        r = is_special.float().view(1, 1, -1, 1).expand(*query.shape[:3], 1)
        c = bias.view(1, 1, -1, 1).expand(*key.shape[:3], 1)
        wider = head_dim + 1
        query = torch.cat((query * math.sqrt(wider / head_dim), r * math.sqrt(wider)), dim=-1)
        key = torch.cat((key, c), dim=-1)
        attended = F.scaled_dot_product_attention(query, key, F.pad(value, (0, 1)))[..., :head_dim]
        expected = attention.o_proj(attended.transpose(1, 2).flatten(2))

    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_strength_zero_is_exactly_no_mask(tiny_model, form):
    with_head = tiny_model(mask_form=form)
    without_head = tiny_model(mask_form=None)
    without_head.load_state_dict(with_head.state_dict(), strict=False)
    pixel_values = images(1, 3, 3, 28, 42)
    off, never = predict(with_head, pixel_values, mask_strength=0.0), predict(without_head, pixel_values)

    assert_alike(off, never, PREDICTIONS[:-1], rtol=0, atol=0)
    assert off.dynamics_mask is not None
    assert never.dynamics_mask is None


@pytest.mark.parametrize("form", FORMS)
def test_a_strength_may_be_a_tensor(tiny_model, form):
    model, pixel_values = tiny_model(mask_form=form), images(1, 3, 3, 28, 28)
    with torch.no_grad():
        number, tensor = model(pixel_values, mask_strength=0.4), model(pixel_values, mask_strength=torch.tensor(0.4))

    assert_alike(number, tensor)


@pytest.mark.parametrize("strength", [-0.1, 1.5, float("nan"), np.float32(1.5), Fraction(3, 2)])
def test_a_strength_out_of_range_is_refused(tiny_model, strength):
    with pytest.raises(Page4DError, match=r"it must lie in \[0, 1\]"):
        tiny_model()(images(1, 1, 3, 28, 28), mask_strength=strength)


@pytest.mark.parametrize("strength", [1.0, torch.tensor(0.5)])
def test_a_strength_of_a_mask_that_is_not_there_is_refused(tiny_model, strength):
    model, pixel_values = tiny_model(mask_form=None), images(1, 1, 3, 28, 28)
    with pytest.raises(Page4DError, match="mask_strength needs a mask, and this model was built with mask_form=None"):
        model(pixel_values, mask_strength=strength)


def test_the_configured_strength_is_used_at_inference(tiny_model):
    model, pixel_values = tiny_model(mask_strength=0.3), images(1, 3, 3, 28, 28)
    with torch.no_grad():
        configured, passed = model(pixel_values), model(pixel_values, mask_strength=0.3)
        model.config.mask_strength = 1.0
        changed = model(pixel_values)

    assert torch.equal(configured.pose_enc, passed.pose_enc)
    assert not torch.allclose(changed.pose_enc, passed.pose_enc)


@pytest.mark.parametrize("form", FORMS)
def test_the_mask_acts_in_the_global_blocks_of_its_layers_and_not_before(tiny_model, form):
    model = tiny_model(mask_form=form, masked_layers=[3])
    pixel_values = images(1, 3, 3, 28, 28)
    off = predict(model, pixel_values, mask_strength=0.0, output_hidden_states=True).hidden_states
    on = predict(model, pixel_values, mask_strength=1.0, output_hidden_states=True).hidden_states

    for layer in range(3):
        assert torch.equal(on[layer], off[layer])
    (frame_off, global_off), (frame_on, global_on) = off[3].chunk(2, dim=-1), on[3].chunk(2, dim=-1)
    assert torch.equal(frame_on, frame_off)
    change = (global_on - global_off).abs().amax(dim=-1)[0]  # [S, P]
    assert (change[:, :SPECIAL] > 1e-5).all()
    assert (change[:, SPECIAL:] <= 1e-5 * global_off.abs().max()).all()


def test_kernels_that_know_no_bias_are_never_given_one(tiny_model):
    """They get the queries of patches, and of all tokens where nothing is masked."""
    calls = []
    register_kernel("no_bias_kernel", lambda query, key, value, bias: calls.append((query.shape[2], bias)))
    model = tiny_model().to(torch.bfloat16)
    pixel_values = images(1, NUM_FRAMES, 3, 28, 42)
    with torch.no_grad():
        expected = model(pixel_values)
        model.set_attn_implementation("no_bias_kernel")
        found = model(pixel_values)

    assert all(bias is None for _, bias in calls)
    lengths = [length for length, _ in calls]
    assert lengths.count(NUM_FRAMES * HEIGHT * WIDTH) == 2  # patch queries of the two masked layers
    assert lengths.count(NUM_FRAMES * PER_FRAME) == 3  # the other global blocks
    assert_alike(found, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("name", "in_full"), [("my_kernel", True), ("my_flash_kernel", False)])
def test_only_flash_kernels_are_never_asked_in_full_precision(tiny_model, name, in_full, dtype):
    """The heads are always in full precision, and the rest here too or not."""
    calls = []
    register_kernel(name, lambda query, key, value, bias: calls.append(query.dtype))
    model = tiny_model().to(dtype)
    model.config._attn_implementation = name  # the library would look for a flash kernel of that name
    predict(model, images(1, 1, 3, 28, 28))

    assert set(calls) == {torch.float32, dtype} - (set() if in_full else {torch.float32})


def test_flash_kernels_are_asked_in_the_half_precision_of_autocast(tiny_model):
    """Autocast leaves queries and keys in float32 after their norms."""
    calls = []
    register_kernel("my_flash_kernel", lambda *tensors: calls.append(tuple(tensor.dtype for tensor in tensors[:3])))
    model = tiny_model()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = model(images(1, 1, 3, 28, 28))
        model.config._attn_implementation = "my_flash_kernel"
        found = model(images(1, 1, 3, 28, 28))

    assert set(calls) == {(torch.bfloat16,) * 3}
    # Each layer of the encoder, each frame block, each global block, and patch queries of masked ones.
    assert len(calls) == model.config.encoder_num_hidden_layers + 2 * model.config.num_hidden_layers
    torch.testing.assert_close(found.pose_enc, expected.pose_enc)


# Pixels that the user hides


def half_hidden() -> torch.Tensor:
    """`[1, 3, 28, 42]`, false in the right two of three columns of patches in the first two frames."""
    visible = torch.ones(1, NUM_FRAMES, 28, 42, dtype=torch.bool)
    visible[:, :2, :, 14:] = False
    return visible


@pytest.mark.parametrize("form", [*FORMS, None])
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_what_hidden_patches_hold_does_not_reach_camera_tokens_through_a_masked_layer(
    tiny_model, tables, implementation, form
):
    model = tiny_model(mask_form=form, attn_implementation=implementation)
    tokens = random_tokens(1, NUM_FRAMES * PER_FRAME, 16).unflatten(1, (NUM_FRAMES, PER_FRAME))
    visible = torch.rand(1, NUM_FRAMES, HEIGHT * WIDTH, generator=torch.Generator().manual_seed(2)) < 0.5
    other = tokens.clone()
    other[:, :, SPECIAL:][~visible] = 3 * random_tokens(int((~visible).sum()), 16, seed=3)
    with torch.no_grad():
        mask = None if form is None else model.aggregator.mask_head(tokens[:, :, SPECIAL:], HEIGHT, WIDTH)
        bias = model.aggregator._key_bias(mask, 1.0, visible)
        seen = [
            model.aggregator.global_layers[2](each.flatten(1, 2), tables, bias, SPECIAL)[0].view(tokens.shape)
            for each in (tokens, other)
        ]

    assert torch.equal(seen[0][:, :, :SPECIAL], seen[1][:, :, :SPECIAL])
    assert not torch.allclose(seen[0][:, :, SPECIAL:], seen[1][:, :, SPECIAL:])


@pytest.mark.slow
@pytest.mark.parametrize("form", ["release", None])
def test_hiding_pixels_changes_cameras_alike_in_all_kinds_of_attention_and_hiding_none_changes_nothing(
    tiny_model, form
):
    pixel_values = images(1, NUM_FRAMES, 3, 28, 42)
    with torch.no_grad():
        eager, sdpa = (
            tiny_model(mask_form=form, attn_implementation=each)(pixel_values, visible=half_hidden())
            for each in ("eager", "sdpa")
        )
        plain, whole = (
            tiny_model(mask_form=form)(pixel_values, visible=visible)
            for visible in (None, torch.ones_like(half_hidden()))
        )

    assert not torch.allclose(plain.pose_enc, sdpa.pose_enc, rtol=1e-3, atol=1e-3)
    for found, expected in ((eager, sdpa), (whole, plain)):
        assert_alike(found, expected, PREDICTIONS if form else PREDICTIONS[:-1], rtol=1e-4, atol=1e-5)


def test_a_patch_is_hidden_where_less_than_half_of_it_is_visible(tiny_model):
    pixel_values, model = images(1, 1, 3, 28, 28), tiny_model()
    visible = torch.ones(3, 1, 28, 28, dtype=torch.bool)
    visible[0, :, :7, :14] = False  # half of a patch
    visible[1, :, :8, :14] = False
    visible[2, :, :14, :14] = False
    half, more, whole = (predict(model, pixel_values, visible=each).pose_enc for each in visible)

    assert torch.equal(more, whole)
    assert not torch.equal(half, whole)


@pytest.mark.parametrize(
    ("visible", "told"),
    [(torch.ones(1, 3, 28, 28), "torch.float32"), (torch.ones(1, 2, 28, 28, dtype=torch.bool), r"\(1, 2, 28, 28\)")],
)
def test_hidden_pixels_that_do_not_fit_the_images_are_refused(tiny_model, visible, told):
    with pytest.raises(Page4DError, match=rf"visible must be bool.*\(1, 3, 28, 28\); it is .*{told}"):
        tiny_model()(images(1, 3, 3, 28, 28), visible=visible)


# What the mask heads predict


def test_the_releases_mask_suppresses_above_one_half_and_favours_below(tiny_model):
    model = tiny_model(mask_scale=64.0)
    mask = predict_mask(model, random_tokens(2, 4, 30, 16), 5, 6)

    torch.testing.assert_close(mask.key_bias, 64 * (0.5 - mask.dynamics.flatten(2)))
    assert mask.key_bias.min() < 0 < mask.key_bias.max()


def test_the_papers_mask_is_equation_5_and_only_ever_suppresses(tiny_model):
    model = tiny_model(mask_form="paper")
    head, tokens = model.aggregator.mask_head, random_tokens(1, 2, 30, 16)
    torch.nn.init.constant_(head.tau_logit, 0.7)
    torch.nn.init.constant_(head.alpha_logit, 2.0)
    mask = predict_mask(model, tokens, 5, 6)

    with torch.no_grad():
        projected = (tokens @ head.projection.weight.T + head.projection.bias).view(2, 5, 6, 8).permute(0, 3, 1, 2)
        logits = head.output(F.gelu(head.depthwise(projected))).view(1, 2, 30)
    tau, alpha = math.log1p(math.exp(0.7)), math.log1p(math.exp(2.0))
    torch.testing.assert_close(mask.key_bias, -alpha * torch.sigmoid(logits / tau), rtol=1e-4, atol=1e-5)
    assert (mask.key_bias < 0).all()


def test_no_weight_is_a_scalar_which_sharded_training_does_not_take(tiny_model):
    for form in FORMS:
        assert not [name for name, weight in tiny_model(mask_form=form).named_parameters() if weight.ndim == 0]


def test_the_releases_mask_does_not_depend_on_the_scale_and_offset_of_the_tokens(tiny_model):
    model, tokens = tiny_model(), random_tokens(1, 2, 30, 16)
    moved = predict_mask(model, 3 * tokens + random_tokens(1, 2, 1, 16, seed=1), 5, 6)

    torch.testing.assert_close(moved.dynamics, predict_mask(model, tokens, 5, 6).dynamics, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_a_frame_of_one_patch_has_a_finite_mask(tiny_model, form):
    mask = predict_mask(tiny_model(mask_form=form), random_tokens(1, 2, 1, 16), 1, 1)

    assert mask.key_bias.isfinite().all()
    assert mask.dynamics.isfinite().all()


def test_the_mask_of_a_frame_does_not_depend_on_other_frames(tiny_model):
    model, tokens = tiny_model(), random_tokens(1, 3, 30, 16)

    torch.testing.assert_close(
        predict_mask(model, tokens[:, 1:2], 5, 6).dynamics, predict_mask(model, tokens, 5, 6).dynamics[:, 1:2]
    )


def test_a_model_without_a_mask_has_neither_its_weights_nor_its_schedule(tiny_model):
    parts = {name.split(".")[1] for name in tiny_model(mask_form=None).state_dict()}

    assert "frame_layers" in parts
    assert not parts & {"mask_head", "mask_schedule"}


# Learning


@pytest.mark.parametrize("form", FORMS)
def test_no_gradient_reaches_the_backbone_through_the_mask(tiny_model, form):
    model = tiny_model(mask_form=form).train()
    model(images(1, 2, 3, 28, 28)).dynamics_mask.square().sum().backward()

    learning = {name for name, weight in model.named_parameters() if weight.grad is not None}
    assert learning
    assert all(name.startswith("aggregator.mask_head.") for name in learning)


@pytest.mark.parametrize("form", FORMS)
def test_the_mask_head_learns_from_the_cameras(tiny_model, form):
    model = tiny_model(mask_form=form)
    model(images(1, 2, 3, 28, 28)).pose_enc.square().sum().backward()

    assert all(weight.grad.abs().max() > 0 for weight in model.aggregator.mask_head.parameters())


@pytest.mark.parametrize(
    ("step", "strength"),
    [(0, 1.0), (6000, 1.0), (7000, 0.5 + math.sqrt(0.5) / 2), (8000, 0.5), (10000, 0.0), (10**6, 0.0)],
)
def test_the_strength_in_training_is_held_and_then_falls_by_a_half_cosine(step, strength):
    schedule = Page4DMaskSchedule(6000, 10000)
    schedule.step.fill_(step)

    assert schedule().item() == pytest.approx(strength, abs=1e-6)


def test_training_follows_the_schedule_and_inference_does_not(tiny_model):
    model, pixel_values = tiny_model(mask_strength=1.0), images(1, 2, 3, 28, 28)
    model.set_training_step(8000)
    with torch.no_grad():
        half, full = model(pixel_values, mask_strength=0.5).pose_enc, model(pixel_values, mask_strength=1.0).pose_enc
        inference, training = model(pixel_values).pose_enc, model.train()(pixel_values).pose_enc

    assert not torch.allclose(half, full)
    torch.testing.assert_close(training, half)
    torch.testing.assert_close(inference, full)


def test_training_without_a_schedule_uses_the_configured_strength(tiny_model):
    model = tiny_model(mask_hold_start=None, mask_hold_end=None, mask_strength=0.3)
    model.set_training_step(10**6)
    pixel_values = images(1, 2, 3, 28, 28)
    with torch.no_grad():
        torch.testing.assert_close(model.train()(pixel_values).pose_enc, model.eval()(pixel_values).pose_enc)


def test_the_count_of_training_steps_is_saved_and_does_not_suffer_from_a_half_precision(tiny_model, tmp_path):
    model = tiny_model()
    model.set_training_step(8123)
    model.save_pretrained(tmp_path)

    assert model.to(torch.bfloat16).aggregator.mask_schedule.step.item() == 8123
    for dtype in (torch.float32, torch.bfloat16):
        assert Page4DModel.from_pretrained(tmp_path, dtype=dtype).aggregator.mask_schedule.step.item() == 8123


@pytest.mark.parametrize("form", FORMS)
def test_the_dynamics_are_the_sigmoid_of_their_logits(tiny_model, form):
    mask = predict_mask(tiny_model(mask_form=form), random_tokens(1, 2, 30, 16), 5, 6)

    torch.testing.assert_close(torch.sigmoid(mask.dynamics_logits), mask.dynamics)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_a_loss_of_its_own_teaches_the_mask_head_and_nothing_else_where_the_mask_is_off(tiny_model, form):
    """With the mask off no other loss reaches the head, so that the two gradients add up to one of the whole."""
    labels = {
        "extrinsics": torch.eye(3, 4).repeat(1, 2, 1, 1),
        "intrinsics": torch.tensor([[30.0, 0, 14], [0, 30, 14], [0, 0, 1]]).repeat(1, 2, 1, 1),
        "depth": torch.ones(1, 2, 28, 28),
        "motion_mask": (torch.arange(28) < 14).expand(1, 2, 28, 28),
    }
    off = {"mask_form": form, "mask_strength": 0.0, "mask_hold_start": None, "mask_hold_end": None}
    gradients = []
    for weight in (0.0, 1.0):
        model = tiny_model(**off, mask_loss_weight=weight).train()
        model(images(1, 2, 3, 28, 28), labels=labels).loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    without, with_it = gradients

    head = {name for name in with_it if name.startswith("aggregator.mask_head.")}
    assert set(with_it) - set(without) == head
    assert any(with_it[name].abs().max() > 0 for name in head)
    assert all(torch.equal(with_it[name], gradient) for name, gradient in without.items())
