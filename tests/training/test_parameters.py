"""What is trained, what that costs in memory, and how learning rates go."""

from __future__ import annotations

import math
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from finetuning.options import GroupOptions, OptionsError
from finetuning.parameters import (
    MASK_HEAD,
    expand,
    freeze_all_but,
    learning_rate,
    masked_stage,
    parameter_groups,
    schedule_of,
)
from finetuning.run import enable_checkpointing
from small_training import MIDDLE, labels_of, small_network
from torch import Tensor, nn

from page4d_hf import Page4DConfig, Page4DModel

GROUP = GroupOptions(learning_rate=1e-3, weight_decay=0.01, warmup_steps=0.1, warmup_lr=1e-6, min_lr=1e-5)


# ---------------------------------------------------------------------------------------------------------------
# Names


def test_the_default_trains_as_many_parameters_of_the_full_network_as_the_authors_did():
    with torch.device("meta"):
        model = Page4DModel(Page4DConfig())
    trained = freeze_all_but(model, masked_stage(model.config))

    assert sum(parameter.numel() for parameter in trained.values()) == 252_243_457
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 252_243_457
    where = {".".join(name.split(".")[: 2 if "mask_head" in name else 3]) for name in trained}
    blocks = {f"aggregator.{kind}_layers.{i}" for kind in ("frame", "global") for i in range(10, 20)}
    assert where == blocks | {MASK_HEAD}


def test_by_default_a_network_of_another_size_or_without_a_mask_trains_its_own_masked_layers():
    config = Page4DConfig(num_hidden_layers=6, mask_layer=1, masked_layers=[2, 4], head_layers=[1, 2, 4, 5])
    layers = [f"aggregator.{kind}_layers.{i}" for kind in ("frame", "global") for i in (2, 4)]

    assert masked_stage(config) == (*layers, MASK_HEAD)
    assert masked_stage(Page4DConfig(mask_form=None)) == (
        "aggregator.frame_layers.10-19", "aggregator.global_layers.10-19",
    )  # fmt: skip
    config.masked_layers = []
    with pytest.raises(OptionsError, match=r"no masked layers.*--train"):
        masked_stage(config)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("depth_head", ["depth_head"]),
        ("a.9-11.b", ["a.9.b", "a.10.b", "a.11.b"]),
        ("a.0-1.b.3-4", ["a.0.b.3", "a.0.b.4", "a.1.b.3", "a.1.b.4"]),
        ("a.3-3", ["a.3"]),
    ],
)
def test_a_range_stands_for_the_numbers_in_it(pattern, names):
    assert expand(pattern) == names


def test_a_name_covers_what_is_below_it_and_not_what_begins_alike():
    model = small_network(num_hidden_layers=12, head_layers=[0, 3, 7, 11])
    trained = freeze_all_but(model, ["aggregator.frame_layers.1", "camera_head.norm.bias"])

    below = {name for name, _ in model.named_parameters() if name.startswith("aggregator.frame_layers.1.")}
    assert set(trained) == below | {"camera_head.norm.bias"}
    assert {name for name, p in model.named_parameters() if p.requires_grad} == set(trained)


@pytest.mark.parametrize(
    ("patterns", "named"),
    [
        (("aggregator.frame_blocks.1",), "aggregator.frame_blocks.1"),
        (("aggregator.frame_layers.3-6",), "aggregator.frame_layers.5, aggregator.frame_layers.6"),
        (("depth_head", "depth"), "under depth,"),
    ],
)
def test_a_name_that_the_model_does_not_have_is_refused(patterns, named):
    with pytest.raises(OptionsError, match=named) as raised:
        freeze_all_but(small_network(), patterns)
    assert "its modules are encoder, aggregator, camera_head, depth_head" in str(raised.value)


def test_a_range_that_ends_before_it_begins_is_refused():
    with pytest.raises(OptionsError, match=r"The range 4-3 in aggregator\.frame_layers\.4-3"):
        freeze_all_but(small_network(), ["aggregator.frame_layers.4-3"])


def loss_of(model: Page4DModel) -> Tensor:
    """The loss of two clips, the same for equal networks."""
    pixel_values = torch.rand(2, 2, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    return model(pixel_values, labels=labels_of(pixel_values)).loss


@pytest.mark.slow
@pytest.mark.parametrize(
    "configuration",
    [
        {},
        {"mask_form": "paper"},
        {"mask_form": None},
        {"mask_strength": 0.0, "mask_hold_start": None, "mask_hold_end": None},
        {"masked_layers": []},
        {"enable_track": True, "track_hidden_size": 8, "track_transformer_size": 16, "track_num_attention_heads": 2},
        {"enable_point": True},
    ],
    ids=str,
)
def test_all_trains_exactly_what_the_loss_reaches(configuration):
    model = small_network(**configuration)
    trained = freeze_all_but(model, ["all"])
    loss_of(model).backward()

    assert [name for name, parameter in trained.items() if parameter.grad is None] == []
    # Those left out get none even if they could.
    for parameter in model.parameters():
        parameter.requires_grad_(True).grad = None
    loss_of(model).backward()
    assert {name for name, parameter in model.named_parameters() if parameter.grad is None} == {
        name for name, _ in model.named_parameters() if name not in trained
    }


# ---------------------------------------------------------------------------------------------------------------
# Memory and recomputation


class Held:
    """A tensor that the backward pass will want, for as long as it is held."""

    def __init__(self, tensor: Tensor, module: str) -> None:
        self.tensor, self.module = tensor, module


@contextmanager
def watched(model: nn.Module) -> Iterator[tuple[Callable[[], Counter[str]], Counter[str]]]:
    """Bytes that are held for the backward pass, and how often a module computes, each by the module's name."""
    held: weakref.WeakSet[Held] = weakref.WeakSet()
    calls: Counter[str] = Counter()
    stack = ["loss"]

    def enter(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, arguments: Any) -> None:
            calls[name] += 1
            stack.append(name)

        return hook

    def leave(*_: Any) -> None:
        stack.pop()

    handles = []
    for name, module in model.named_modules():
        if name:
            handles += [
                module.register_forward_pre_hook(enter(name)),
                module.register_forward_hook(leave, always_call=True),
            ]
    parameters = {parameter.data_ptr() for parameter in model.parameters()}

    def pack(tensor: Tensor) -> Held:
        entry = Held(tensor, stack[-1])
        if tensor.data_ptr() not in parameters:  # these are there anyway
            held.add(entry)
        return entry

    def kept() -> Counter[str]:
        total: Counter[str] = Counter()
        for entry in held:
            total[entry.module] += entry.tensor.nbytes
        return total

    try:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda entry: entry.tensor):
            yield kept, calls
    finally:
        for handle in handles:
            handle.remove()


def below(counts: Counter[str], prefixes: Sequence[str]) -> dict[str, int]:
    """Of those modules that are in one of some others."""
    return {n: c for n, c in counts.items() if any(n == prefix or n.startswith(prefix + ".") for prefix in prefixes)}


BEFORE = ["encoder", *expand("aggregator.frame_layers.0-1"), *expand("aggregator.global_layers.0-1")]


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", [False, True])
def test_frozen_layers_before_the_first_trained_one_hold_no_activations(checkpointing):
    model = small_network()
    freeze_all_but(model, MIDDLE)
    if checkpointing:
        enable_checkpointing(model)
    with watched(model) as (kept, _):
        loss = loss_of(model)
        # The mask head is in the second layer, and looks at it without moving it.
        assert below(kept(), BEFORE) == {}
        trained = [*expand("aggregator.frame_layers.2-3"), *expand("aggregator.global_layers.2-3"), MASK_HEAD]
        assert all(below(kept(), [layer]) for layer in trained)
        loss.backward()

    # The same, unfrozen, do hold some: this is not for want of looking.
    freeze_all_but(model, ["all"])
    with watched(model) as (kept, _):
        loss = loss_of(model)
        assert all(below(kept(), [layer]) for layer in BEFORE)
        loss.backward()


def test_checkpointing_computes_again_what_needs_gradients_and_nothing_else():
    """Freezing must not switch it off, as a frozen module in evaluation mode would."""
    gradients, memory = [], []
    for checkpointing in (False, True):
        model = small_network()
        trained = freeze_all_but(model, MIDDLE)
        if checkpointing:
            enable_checkpointing(model)
        with watched(model) as (kept, calls):
            loss = loss_of(model)
            once = Counter(calls)
            memory.append(sum(kept().values()))
            loss.backward()
        again = {name for name in calls if calls[name] == 2 * once[name]}
        assert {name for name in calls if calls[name] != once[name]} == again
        if checkpointing:
            layers = [f"aggregator.{kind}_layers.{i}.mlp" for kind in ("frame", "global") for i in (2, 3, 4)]
            heads = ["camera_head.layers.0.mlp", "depth_head.norm", "depth_head.output_conv3"]
            assert again >= {*layers, *heads}
            assert not below(Counter(again), BEFORE)
        else:
            assert again == set()
        gradients.append({name: parameter.grad for name, parameter in trained.items()})

    assert memory[1] < 0.5 * memory[0]
    plain, recomputed = gradients
    for name, gradient in plain.items():
        assert torch.equal(gradient, recomputed[name]), name


@pytest.mark.parametrize("head", ["camera", "depth", "point"])
def test_a_head_whose_loss_weighs_nothing_is_not_trained(head):
    model = small_network(enable_point=True, **{f"{head}_loss_weight": 0.0})
    trained = freeze_all_but(model, ["all"])
    assert {name.split("_head")[0] for name in trained if name.partition(".")[0].endswith("_head")} == {
        "camera",
        "depth",
        "point",
    } - {head}
    # Processes that average gradients wait for each of them.
    images = torch.rand(1, 2, 3, 28, 28)
    model(images, labels=labels_of(images)).loss.backward()
    assert [name for name, parameter in trained.items() if parameter.grad is None] == []


def test_a_dense_head_whose_loss_weighs_nothing_is_run_in_use_alone():
    model = small_network(depth_loss_weight=0.0)
    images = torch.rand(1, 2, 3, 28, 28)
    assert model(images, labels=labels_of(images)).depth is None
    assert model.eval()(images, labels=labels_of(images)).depth is not None
    assert model.train()(images).depth is not None


# ---------------------------------------------------------------------------------------------------------------
# Groups and learning rates


def test_the_mask_head_is_a_group_of_its_own():
    trained = freeze_all_but(small_network(), MIDDLE)
    layers, mask = GROUP, replace(GROUP, learning_rate=2e-3, weight_decay=0.02)
    groups, options = parameter_groups(trained, layers, mask)

    assert [group["name"] for group in groups] == ["layers", "mask_head"]
    assert [group["lr"] for group in groups] == [1e-3, 2e-3]
    assert [group["weight_decay"] for group in groups] == [0.01, 0.02]
    assert options == [layers, mask]
    of_mask_head = {id(p) for name, p in trained.items() if name.startswith(MASK_HEAD)}
    assert {id(p) for p in groups[1]["params"]} == of_mask_head
    assert len(groups[0]["params"]) + len(groups[1]["params"]) == len(trained)


def test_a_group_without_parameters_is_left_out():
    trained = freeze_all_but(small_network(), ["depth_head"])
    groups, options = parameter_groups(trained, GROUP, GROUP)
    assert [group["name"] for group in groups] == ["layers"]
    assert len(options) == 1


def test_the_learning_rate_has_its_stated_values_at_the_corners():
    steps, warmup = 1000, 100
    assert learning_rate(0, steps, GROUP) == 1e-6
    assert learning_rate(warmup // 2, steps, GROUP) == pytest.approx((1e-6 + 1e-3) / 2)
    assert learning_rate(warmup, steps, GROUP) == pytest.approx(1e-3)
    assert learning_rate(steps - 1, steps, GROUP) == pytest.approx(1e-5)
    # A third of the cosine: 0.5 (1 + cos(pi / 3)) = 0.75.
    third = warmup + (steps - 1 - warmup) / 3
    assert learning_rate(third, steps, GROUP) == pytest.approx(1e-5 + 0.75 * (1e-3 - 1e-5))
    assert learning_rate(steps + 5, steps, GROUP) == pytest.approx(1e-5)


@pytest.mark.parametrize("warmup_steps", [0.25, 25])
def test_a_warm_up_is_a_number_of_steps_or_their_share(warmup_steps):
    group = replace(GROUP, warmup_steps=warmup_steps)
    assert learning_rate(24, 100, group) < learning_rate(25, 100, group) == pytest.approx(1e-3)


@pytest.mark.parametrize(("steps", "warmup"), [(1, 0.0), (1, 0.9), (2, 0.5), (2, 0.0), (3, 0.99)])
def test_the_shortest_runs_have_learning_rates_too(steps, warmup):
    group = replace(GROUP, warmup_steps=warmup)
    rates = [learning_rate(step, steps, group) for step in range(steps)]
    assert all(math.isfinite(rate) and 0 < rate <= 1e-3 for rate in rates)


def test_a_learning_rate_of_zero_stays_zero():
    assert schedule_of(replace(GROUP, learning_rate=0.0), 10)(5) == 0
