"""Hiding patches from the global attention, and measuring how much they are looked at."""

from __future__ import annotations

import pytest
import torch
from evaluator.metrics.scores import EvaluationError
from evaluator.studies import global_attention
from evaluator.studies.global_attention import QUERIES, hidden_patches, measured_attention
from small_networks import NUM_LAYERS, small_network
from small_networks import NUM_SPECIAL as SPECIAL

BATCH, FRAMES, HEIGHT, WIDTH = 2, 3, 2, 3
OUTPUTS = ["pose_enc", "depth", "world_points"]


@pytest.fixture
def pixel_values() -> torch.Tensor:
    shape = (BATCH, FRAMES, 3, 14 * HEIGHT, 14 * WIDTH)
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def moving() -> torch.Tensor:
    moving = torch.rand(BATCH, FRAMES, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1)) < 0.4
    moving[:, 0, 0, 0], moving[:, 0, 0, 1] = True, False
    return moving


@torch.no_grad()
def attention_by_eager(model, pixel_values, **options):
    """Weights of the global layers `[B, heads, S, P, S, P]`, as eager attention gives them."""
    attentions = model(pixel_values, output_attentions=True, **options).attentions[1::2]
    shape = (FRAMES, SPECIAL + HEIGHT * WIDTH)
    return [weights.unflatten(3, shape).unflatten(2, shape) for weights in attentions]


@pytest.mark.parametrize("strength", [0.0, 1.0])
@pytest.mark.parametrize(
    ("hidden_from", "special_see", "patches_see"),
    [("none", True, True), ("both", False, False), ("cameras", False, True), ("patches", True, False)],
)
def test_hidden_patches_get_no_attention_from_those_they_are_hidden_from(
    pixel_values, moving, hidden_from, special_see, patches_see, strength
):
    model = small_network(attn_implementation="eager")
    with hidden_patches(model, moving, hidden_from):
        layers = attention_by_eager(model, pixel_values, mask_strength=strength)

    hidden = moving.flatten(2)[:, None, None, None].expand(-1, 2, FRAMES, 1, -1, -1)
    for weights in layers:
        to_patches = weights[..., SPECIAL:]
        for queries, see in ((slice(0, SPECIAL), special_see), (slice(SPECIAL, None), patches_see)):
            seen = to_patches[:, :, :, queries]
            assert ((seen[hidden.expand_as(seen)] > 0) == see).all()
        torch.testing.assert_close(weights.sum(dim=(-2, -1)), torch.ones_like(weights[..., 0, 0]))


@pytest.mark.parametrize("hidden_from", ["both", "cameras", "patches"])
@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_hiding_does_the_same_with_every_attention_implementation(pixel_values, moving, hidden_from, strength):
    outputs = []
    for implementation in ("eager", "sdpa"):
        model = small_network(attn_implementation=implementation)
        with torch.no_grad(), hidden_patches(model, moving, hidden_from):
            outputs.append(model(pixel_values, mask_strength=strength))

    for name in OUTPUTS:
        torch.testing.assert_close(outputs[0][name], outputs[1][name], rtol=1e-4, atol=1e-4)


def test_what_is_hidden_does_not_reach_those_that_do_not_see_it(pixel_values, moving):
    """The global layers' outputs at tokens that stay are those of a sequence without the hidden keys."""
    model = small_network(mask_form=None)
    attention = model.aggregator.global_layers[1].attention
    tokens = torch.randn(1, FRAMES * (SPECIAL + HEIGHT * WIDTH), 16, generator=torch.Generator().manual_seed(2))
    hidden = moving[:1]
    stays = torch.nn.functional.pad(~hidden.flatten(2), (SPECIAL, 0), value=True).flatten()
    with torch.no_grad():
        expected, _ = attention(tokens[:, stays])
        with hidden_patches(model, hidden, "both"):
            found, _ = attention(tokens, None, None, SPECIAL)

    torch.testing.assert_close(found[:, stays], expected)


def test_hiding_from_cameras_leaves_the_patches_of_that_layer_alone(pixel_values, moving):
    model = small_network()
    with torch.no_grad():
        plain = model(pixel_values, output_hidden_states=True).hidden_states
        with hidden_patches(model, moving, "cameras", layers=[2]):
            hidden = model(pixel_values, output_hidden_states=True).hidden_states

    change = [(a - b).abs().amax(dim=-1) for a, b in zip(plain, hidden, strict=True)]
    assert max(change[0].max(), change[1].max()) == 0
    assert (change[2][:, :, :SPECIAL] > 1e-5).all()
    assert change[2][:, :, SPECIAL:].max() <= 1e-5 * plain[2].abs().max()


def test_after_the_block_the_model_is_as_before(pixel_values, moving):
    model = small_network()
    with torch.no_grad():
        before = model(pixel_values)
        with hidden_patches(model, moving, "both"), measured_attention(model, moving):
            model(pixel_values)
        with pytest.raises(RuntimeError, match="boom"), hidden_patches(model, moving, "both"):
            raise RuntimeError("boom")
        after = model(pixel_values)

    assert all(torch.equal(before[name], after[name]) for name in OUTPUTS)


def test_measuring_changes_nothing(pixel_values, moving):
    model = small_network()
    with torch.no_grad():
        expected = model(pixel_values)
        with measured_attention(model, moving):
            found = model(pixel_values)

    assert all(torch.equal(expected[name], found[name]) for name in OUTPUTS)


@pytest.mark.parametrize("weights_at_once", [1, 1 << 24])
@pytest.mark.parametrize(("hidden_from", "strength"), [("none", 0.0), ("none", 1.0), ("cameras", 1.0)])
def test_measured_weights_are_those_of_eager_attention(
    pixel_values, moving, hidden_from, strength, weights_at_once, monkeypatch
):
    monkeypatch.setattr(global_attention, "WEIGHTS_AT_ONCE", weights_at_once)
    model = small_network(attn_implementation="eager")
    with hidden_patches(model, moving, hidden_from):
        by_eager = attention_by_eager(model, pixel_values, mask_strength=strength)
    model.set_attn_implementation("sdpa")
    with torch.no_grad(), hidden_patches(model, moving, hidden_from), measured_attention(model, moving) as measured:
        model(pixel_values, mask_strength=strength)

    queries = torch.zeros(BATCH, FRAMES, SPECIAL + HEIGHT * WIDTH, dtype=torch.long)
    queries[:, :, 1:SPECIAL] = 1
    queries[:, :, SPECIAL:] = 2 + moving.flatten(2)
    assert sorted(measured.layers) == list(range(NUM_LAYERS))
    for layer, weights in enumerate(by_eager):
        for kind, name in enumerate(QUERIES):
            for clip in range(BATCH):
                expected = weights[clip].mean(dim=0)[queries[clip] == kind].mean(dim=0)[:, SPECIAL:]
                found = measured.layers[layer].weights[name][clip].flatten(1)
                torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_where_nothing_moves_there_are_no_queries_that_move(pixel_values):
    model = small_network()
    still = torch.zeros(BATCH, FRAMES, HEIGHT, WIDTH, dtype=torch.bool)
    with torch.no_grad(), measured_attention(model, still, layers=[0]) as measured:
        model(pixel_values)

    assert measured.layers[0].weights["moving"].isnan().all()
    assert measured.layers[0].weights["static"].isfinite().all()


def test_half_precision_is_measured_too(pixel_values, moving):
    model = small_network().to(torch.bfloat16)
    with torch.no_grad(), hidden_patches(model, moving, "both"), measured_attention(model, moving) as measured:
        output = model(pixel_values, mask_strength=1.0)

    assert output.depth.isfinite().all()
    assert measured.layers[4].weights["camera"][moving].abs().max() == 0


def test_patches_of_another_grid_are_refused(pixel_values, moving):
    model = small_network()
    with hidden_patches(model, moving[:, :2], "both"), pytest.raises(EvaluationError, match="2 frames of 6 patches"):
        model(pixel_values)


def test_a_layer_that_is_not_there_is_refused(moving):
    with (
        pytest.raises(EvaluationError, match="global layers 0 to 4"),
        hidden_patches(small_network(), moving, "both", [5]),
    ):
        pass
