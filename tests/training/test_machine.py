"""What the machine decides: precision and attention that are left to it."""

from __future__ import annotations

import json

import pytest
import torch
from accelerate.state import AcceleratorState
from finetuning.machine import fastest_attention, fastest_precision, make_accelerator, run_folder
from finetuning.options import OptionsError
from small_training import begin, small_options

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(("units", "precision", "attention"), [(True, "bf16", "eager"), (False, "no", "sdpa")])
def test_what_is_left_to_the_machine_is_what_it_computes_fastest(tmp_path, monkeypatch, units, precision, attention):
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: units)
    run = begin(small_options(tmp_path, mixed_precision="auto", attn_implementation="auto"))
    assert run.accelerator.mixed_precision == precision
    assert run.network.config._attn_implementation == attention
    kept = json.loads((run.options.output / "run.json").read_text())
    assert (kept["mixed_precision"], kept["attn_implementation"]) == (precision, attention)


@pytest.mark.parametrize(("units", "precision"), [(True, "bf16"), (False, "no")])
def test_a_gpu_that_would_emulate_bfloat16_computes_in_float32(monkeypatch, units, precision):
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation: units)
    assert fastest_precision(CUDA) == precision
    assert fastest_attention(CUDA, precision) == "sdpa"


@pytest.mark.parametrize(("told", "device"), [("true", "cpu"), ("false", "meta")])
def test_accelerate_s_word_keeps_an_accelerator_out_of_it(tmp_path, monkeypatch, told, device):
    monkeypatch.setenv("ACCELERATE_USE_CPU", told)
    monkeypatch.setattr("torch.accelerator.is_available", lambda: True)
    # Stands for a GPU.
    monkeypatch.setattr("accelerate.state.PartialState.default_device", torch.device("meta"))
    AcceleratorState._reset_state(True)
    accelerator = make_accelerator(small_options(tmp_path, mixed_precision="auto"))
    assert accelerator.device == torch.device(device)


@pytest.mark.parametrize("name", ["deepspeed", "megatron_lm"])
def test_sharding_that_is_not_supported_is_refused_before_it_is_set_up(tmp_path, monkeypatch, name):
    monkeypatch.setenv(f"ACCELERATE_USE_{name.upper()}", "true")
    with pytest.raises(OptionsError, match=f"without --use_{name}; shard weights by --use_fsdp"):
        run_folder(tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("installed", "there_are"), [([], "none"), (["wandb"], "wandb")])
def test_curves_that_cannot_be_drawn_are_refused_with_what_to_install(tmp_path, monkeypatch, installed, there_are):
    monkeypatch.setattr("finetuning.machine.get_available_trackers", lambda: installed)
    with pytest.raises(OptionsError, match=rf"there are: {there_are}.*pip install .*\[training\]"):
        make_accelerator(small_options(tmp_path, report_to=("tensorboard",)))


def test_a_device_of_another_kind_computes_in_float32():
    assert fastest_precision(torch.device("mps")) == "no"
    assert fastest_attention(CPU, "no") == "sdpa"
