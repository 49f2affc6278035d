"""The network that a run starts from, and what options change of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from finetuning.network import starting_network
from finetuning.options import OptionsError
from finetuning.parameters import MASK_HEAD, freeze_all_but
from safetensors.torch import load_file, save_file
from small_training import CONSTANT, NETWORK, begin, history, labels_of, small_network, small_options, train, weights
from transformers import AutoModel

from page4d_hf import Page4DModel


def saved(folder: Path, **changes: Any) -> str:
    """A folder with the small network without a schedule, its mask off."""
    small_network(**{**CONSTANT, "mask_strength": 0.0, **changes}).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def base(tmp_path: Path) -> str:
    return saved(tmp_path / "base")


def options_from(folder: Path, model: str, **changes: Any) -> Any:
    """Options that start from a model instead of from the network's configuration."""
    return replace(small_options(folder, **changes), network=None, model=model)


@pytest.mark.slow
def test_the_mask_s_strength_is_the_option_s_and_not_the_model_s(tmp_path, base):
    run = train(options_from(tmp_path / "run", base, mask_strength=1.0, max_train_steps=1))
    folder = run.options.output

    assert Page4DModel.from_pretrained(base).config.mask_strength == 0
    assert run.network.config.mask_strength == 1
    assert json.loads((folder / "run.json").read_text())["mask_strength"] == 1
    assert json.loads((folder / "config.json").read_text())["mask_strength"] == 1
    assert AutoModel.from_pretrained(folder).config.mask_strength == 1
    # The mask acts: its head learns.
    before, after = weights(base), run.network.state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before if name.startswith(MASK_HEAD))


def test_by_default_the_mask_s_strength_is_the_model_s(tmp_path, base):
    assert starting_network(options_from(tmp_path / "run", base)).config.mask_strength == 0


@pytest.mark.slow
def test_a_schedule_goes_before_the_strength_in_training(tmp_path):
    run = train(small_options(tmp_path, max_train_steps=1, mask_strength=0.25, mask_hold_start=5, mask_hold_end=9))

    assert history(run.options.output)[0]["mask_strength"] == 1
    assert run.network.config.mask_strength == 0.25


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask_strength": -0.1}, "at mask_strength: it should be greater than or equal to 0, got -0.1"),
        ({"mask_strength": 1.5}, "at mask_strength: it should be less than or equal to 1, got 1.5"),
        ({"mask_strength": float("nan")}, "at mask_strength: it should be a finite number, got nan"),
        ({"mask_loss_weight": -1.0}, r"at mask_loss_weight: it should be greater than or equal to 0, got -1\.0"),
    ],
    ids=str,
)
def test_numbers_of_the_mask_outside_of_their_range_are_refused(tmp_path, changes, message):
    with pytest.raises(OptionsError, match=message):
        replace(small_options(tmp_path), **changes)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ({"no_such": 1, "hiden_size": 16}, r"has values that no configuration of Page4D has: hiden_size, no_such\."),
        ({"hidden_size": 0}, "hidden_size is 0; it must be at least 1"),
        ({"hidden_size": "16"}, "'hidden_size' expected int, got str"),
        ({"hidden_size": 10**400}, "is no configuration of Page4D"),
        ([1], r"network\.json does not hold what it should: it should be an object, got \[1\]"),
        ("[" * 100_000, r"network\.json cannot be read as JSON \(recursion limit exceeded"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_network_that_cannot_be_is_refused_in_one_sentence(tmp_path, network, message):
    options = small_options(tmp_path)
    text = json.dumps({**NETWORK, **network} if isinstance(network, dict) else network)
    options.network.write_text(network if isinstance(network, str) else text)
    with pytest.raises(OptionsError, match=message):
        starting_network(options)


def test_a_saved_configuration_is_a_network_too(tmp_path):
    options = small_options(tmp_path)
    small_network().save_pretrained(tmp_path / "saved")
    options.network.write_bytes((tmp_path / "saved" / "config.json").read_bytes())
    assert starting_network(options).config.hidden_size == NETWORK["hidden_size"]


def test_a_strength_for_a_network_without_a_mask_is_refused(tmp_path):
    with pytest.raises(OptionsError, match="--mask-strength says how a mask acts, and the network has none"):
        begin(small_options(tmp_path, network={"mask_form": None}, mask_strength=1.0))


@pytest.mark.slow
def test_attention_is_computed_as_the_option_says_and_the_model_does_not_remember_it(tmp_path, base):
    run = train(options_from(tmp_path / "run", base, attn_implementation="eager", max_train_steps=1))

    assert run.network.config._attn_implementation == "eager"
    assert AutoModel.from_pretrained(run.options.output).config._attn_implementation == "sdpa"


@pytest.mark.parametrize("name", ["nowhere", "flex_attention"])
def test_attention_that_the_model_cannot_compute_is_refused_by_its_name(tmp_path, base, name):
    with pytest.raises(OptionsError, match=f"--attn-implementation {name} cannot be used: "):
        starting_network(options_from(tmp_path / "run", base, attn_implementation=name))


def test_weights_that_lack_some_of_the_network_are_refused_rather_than_drawn_at_random(tmp_path, base):
    path = Path(base) / "model.safetensors"
    tensors = load_file(path)
    left_out = next(name for name in tensors if "global_layers" in name)
    save_file({name: value for name, value in tensors.items() if name != left_out}, path, {"format": "pt"})

    with pytest.raises(OptionsError, match=rf"cannot be loaded.*lack 1 tensors of the network, such as {left_out}"):
        starting_network(options_from(tmp_path / "run", base))


def test_quantized_weights_are_refused_as_they_cannot_be_trained(tmp_path, base):
    path = Path(base) / "config.json"
    quantized = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    path.write_text(json.dumps({**json.loads(path.read_text()), "quantization_config": quantized}))

    with pytest.raises(OptionsError, match="base is quantized, and quantized weights cannot be trained; give the"):
        starting_network(options_from(tmp_path / "run", base))


def test_a_model_of_another_kind_is_refused(tmp_path):
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text('{"model_type": "bert"}')

    with pytest.raises(OptionsError, match="holds a model of type bert, not page4d"):
        starting_network(options_from(tmp_path / "run", str(tmp_path / "bert")))


@pytest.mark.slow
@pytest.mark.parametrize("old", [None, "release"])
def test_a_mask_of_another_form_begins_anew_and_all_else_is_the_model_s(tmp_path, old):
    model = saved(tmp_path / "base", mask_form=old)
    network = starting_network(options_from(tmp_path / "run", model, mask_form="paper", mask_strength=1.0))

    assert network.config.mask_form == "paper"
    before, after = weights(model), network.state_dict()
    rest = {name for name in after if not name.startswith(MASK_HEAD)}
    assert rest == {name for name in before if not name.startswith(MASK_HEAD)}
    assert all(torch.equal(before[name], after[name]) for name in rest)
    assert float(network.aggregator.mask_head.projection.weight.detach().std()) > 0


def test_a_mask_of_the_same_form_keeps_its_weights(tmp_path, base):
    network = starting_network(options_from(tmp_path / "run", base, mask_form="release"))
    before = weights(base)

    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize(("weight", "trained"), [(0.0, False), (1.0, True)])
def test_the_head_of_a_mask_that_is_off_is_trained_by_its_own_loss_alone(tmp_path, weight, trained):
    network = {**CONSTANT, "mask_strength": 0.0}
    run = train(small_options(tmp_path, network=network, mask_loss_weight=weight, max_train_steps=1))

    assert any(name.startswith(MASK_HEAD) for name in run.trained) is trained
    assert ("mask" in history(run.options.output)[0]) is trained
    assert any(name.startswith(MASK_HEAD) for name in freeze_all_but(run.network, ["all"])) is trained


@pytest.mark.parametrize("form", ["release", "paper"])
@pytest.mark.parametrize(("strength", "weight"), [(0.0, 1.0), (1.0, 0.0), (1.0, 1.0)])
def test_all_that_is_trained_of_a_mask_head_has_a_gradient(form, strength, weight):
    """Processes that average gradients would wait for ever for one that never comes."""
    model = small_network(**{**CONSTANT, "mask_form": form, "mask_strength": strength, "mask_loss_weight": weight})
    trained = freeze_all_but(model, [MASK_HEAD])
    pixel_values = torch.rand(1, 2, 3, 28, 28)
    labels = {**labels_of(pixel_values), "motion_mask": pixel_values[:, :, 0] > 0.8}
    model(pixel_values, labels=labels).loss.backward()

    assert trained
    assert [name for name, parameter in trained.items() if parameter.grad is None] == []


def test_a_run_of_another_network_is_refused(tmp_path):
    begin(small_options(tmp_path))
    with pytest.raises(OptionsError, match=r"the network's mask_loss_weight \(was 0\.0, now 2\.0\)"):
        begin(small_options(tmp_path, {"mask_loss_weight": 2.0}))
