"""Muon beside AdamW: which parameters each has, at which rates, and that a run which was stopped goes on the same."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import pytest
import torch
from accelerate import DistributedType
from finetuning import run
from finetuning.optimizers import Muon, hidden_matrices, make_optimizers
from finetuning.options import OptionsError
from finetuning.parameters import freeze_all_but
from small_training import begin, small_network, small_options, steps, train

CPU = torch.device("cpu")


def test_muon_has_the_matrices_of_transformer_layers_and_nothing_else():
    trained = freeze_all_but(small_network(), ["all"])
    names = set(hidden_matrices(trained))

    for layer in ("encoder.layers.1", "aggregator.global_layers.4", "camera_head.layers.0"):
        for matrix in ("attention.q_proj", "attention.o_proj", "mlp.fc1", "mlp.fc2"):
            assert f"{layer}.{matrix}.weight" in names
    assert not any("pose_" in name or "depth_head" in name or "mask_head" in name for name in names)


def test_every_trained_parameter_is_in_one_optimizer(tmp_path):
    options = small_options(tmp_path, optimizer="muon", train=["all"])
    trained = freeze_all_but(small_network(), options.train)
    optimizers, schedules = make_optimizers(trained, options, CPU)

    assert [type(optimizer).__name__ for optimizer in optimizers] == ["AdamW", "Muon"]
    assert len(schedules) == 2
    found = [id(p) for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]
    assert sorted(found) == sorted(id(p) for p in trained.values())


@pytest.mark.parametrize(("module", "expected"), [("depth_head", "AdamW"), ("encoder.layers.0.mlp.fc1.weight", "Muon")])
def test_an_optimizer_without_parameters_is_left_out(tmp_path, module, expected):
    options = small_options(tmp_path, optimizer="muon", train=[module])
    optimizers, _ = make_optimizers(freeze_all_but(small_network(), options.train), options, CPU)
    assert [type(optimizer).__name__ for optimizer in optimizers] == [expected]


@pytest.mark.slow
def test_both_optimizers_follow_the_schedule(tmp_path):
    layers = {"learning_rate": 1e-3, "weight_decay": 0.01, "warmup_steps": 0.5, "warmup_lr": 1e-6, "min_lr": 1e-5}
    run = begin(small_options(tmp_path, max_train_steps=5, optimizer="muon", train=["all"], **layers))
    seen: list[tuple[float, ...]] = []
    run.optimizers[-1].optimizer.register_step_pre_hook(
        lambda *_: seen.append(tuple(o.param_groups[0]["lr"] for o in run.optimizers))
    )
    run.run()
    expected = [1e-6, (1e-6 + 1e-3) / 2, 1e-3, (1e-3 + 1e-5) / 2, 1e-5]
    assert seen == [pytest.approx((rate, rate)) for rate in expected]


def test_a_step_of_muon_is_as_large_as_its_learning_rate_says(tmp_path):
    # All singular values of an orthogonalised update are about 1; with AdamW's size, times .2 sqrt(max(A, B)).
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(32, 64))
    before = weight.detach().clone()
    options = small_options(tmp_path, optimizer="muon", learning_rate=1e-2, weight_decay=0.0)
    (optimizer,), _ = make_optimizers({"a.mlp.weight": weight}, options, CPU)
    weight.grad = torch.randn(32, 64)
    optimizer.step()
    sizes = torch.linalg.svdvals((weight.detach() - before) / (1e-2 * 0.2 * 8))
    assert sizes.min() > 0.5
    assert sizes.max() < 1.5


def newton_schulz(matrix: torch.Tensor) -> torch.Tensor:
    """Muon's five quintic iterations (Jordan et al. 2024), in double precision."""
    a, b, c = 3.4445, -4.775, 2.0315
    x = matrix.double() / matrix.double().norm()
    for _ in range(5):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


@pytest.mark.parametrize(("units", "error"), [(False, 1e-5), (True, 3e-2)])
def test_muon_iterates_in_float32_where_bfloat16_has_no_units(monkeypatch, units, error):
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: units)
    generator = torch.Generator().manual_seed(0)
    gradient = torch.randn(24, 60, generator=generator)
    parameter = torch.nn.Parameter(torch.zeros(24, 60))
    parameter.grad = gradient.clone()
    Muon([parameter], lr=1.0, weight_decay=0.0, momentum=0.0, nesterov=True).step()
    found = (parameter.detach() + newton_schulz(gradient)).abs().max()
    assert found < error
    assert units == (found > 1e-4)
    torch.testing.assert_close(parameter.grad, gradient)


@pytest.mark.slow
def test_a_run_with_muon_that_goes_on_equals_one_that_was_not_stopped(tmp_path, one_thread):
    options = small_options(
        tmp_path,
        max_train_steps=6,
        checkpointing_steps=3,
        checkpoints_total_limit=None,
        optimizer="muon",
        train=["all"],
    )
    folder = train(options).options.output
    whole = steps(folder)
    weights = (folder / "model.safetensors").read_bytes()
    shutil.rmtree(folder / "checkpoint-6")
    (folder / "model.safetensors").unlink()

    again = begin(options)
    assert again.step == 3
    again.run()

    assert steps(folder) == whole
    assert (folder / "model.safetensors").read_bytes() == weights


def test_muon_is_refused_with_fp16(tmp_path, monkeypatch):
    """CPUs have no fp16: what accelerate says where there is stands in for it."""
    half = SimpleNamespace(distributed_type=DistributedType.NO, num_processes=1, mixed_precision="fp16")
    monkeypatch.setattr(run, "make_accelerator", lambda options: half)
    with pytest.raises(OptionsError, match="muon is a pair of optimizers, which fp16 cannot scale; use bf16"):
        run.Finetuning(small_options(tmp_path, optimizer="muon"))


def test_muon_is_refused_where_matrices_are_sharded(tmp_path, monkeypatch):
    """No processor here can shard: what accelerate says of one that does stands in for it."""
    sharded = SimpleNamespace(distributed_type=DistributedType.FSDP, num_processes=1, mixed_precision="no")
    monkeypatch.setattr(run, "make_accelerator", lambda options: sharded)
    with pytest.raises(OptionsError, match="muon needs whole matrices, and FSDP shards them; use adamw"):
        run.Finetuning(small_options(tmp_path, optimizer="muon", train=["all"]))
