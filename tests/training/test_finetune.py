"""`training/finetune.py`: runs in this process, and a few as a user starts them."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import finetune
import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.state import AcceleratorState
from accelerate.utils import LoggerType
from finetuning import processes
from finetuning.hub import HubError, push
from finetuning.machine import make_accelerator, run_folder
from finetuning.options import Options, OptionsError, from_json, to_json
from finetuning.run import TrainingError
from launching import CONFIGURATIONS, environment, launched
from small_hub import small_hub
from small_training import (
    EVALUATION,
    GROUP,
    MIDDLE,
    NETWORK,
    PROGRAM,
    REPOSITORY,
    SAMPLING,
    Changed,
    begin,
    history,
    poison,
    small_network,
    small_options,
    steps,
    train,
    weights,
    write_clips,
    write_options,
)
from transformers import AutoImageProcessor, AutoModel

from page4d_hf import Page4DImageProcessor

pytestmark = pytest.mark.slow


def told(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one sentence with which the program refuses to go on."""
    with pytest.raises(SystemExit) as ended:
        finetune.main([str(argument) for argument in arguments])
    assert ended.value.code == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("finetune: ")]
    assert len(lines) == 1
    return lines[0]


# ---------------------------------------------------------------------------------------------------------------
# Killed and started again, on two processes, sharded


def test_a_run_that_is_killed_and_started_again_equals_one_that_was_not_and_is_uploaded(
    tmp_path, one_thread, monkeypatch, capsys
):
    """First the launcher is killed, which leaves the training alive and its folder held, then the training."""
    changes: dict[str, Any] = {
        "max_train_steps": 9,
        "checkpointing_steps": 3,
        "report_to": ["tensorboard"],
        "dataloader_num_workers": 1,
    }
    whole = train(small_options(tmp_path / "whole", **changes, mixed_precision="no")).options.output
    options = write_options(tmp_path / "killed", **changes)
    folder = tmp_path / "killed" / "run"
    step = 4  # after a checkpoint and before the next

    launcher = subprocess.Popen(
        [sys.executable, "-m", "accelerate.commands.launch", PROGRAM, "--options", options],
        env=environment(),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while launcher.poll() is None:
        if (folder / "history.jsonl").exists() and len(history_lines(folder)) >= step:
            os.killpg(launcher.pid, signal.SIGSTOP)
            break
        time.sleep(0.002)
    launcher.kill()
    assert launcher.wait() == -signal.SIGKILL, f"the run ended before it could be killed at step {step}"
    try:
        sentence = told(capsys, "--options", options)
    finally:
        os.killpg(launcher.pid, signal.SIGKILL)
    found = re.search(rf"run is being written by process (\d+) \({PROGRAM} --options {options}\); wait", sentence)
    assert found
    assert int(found[1]) != launcher.pid
    while True:  # the system takes a moment to end it
        with suppress(OptionsError), run_folder(folder):
            break
    with small_hub() as hub:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.endpoint)
        AcceleratorState._reset_state(True)
        finetune.main(["--options", str(options), "--push-to-hub", "--hub-model-id", "me/small"])

    assert steps(folder) == steps(whole), f"killed at step {step}"
    asked = hub.repositories["me/small"]
    assert asked.get("visibility", "private" if asked.get("private") else "public") == "private"
    uploaded = {name.removeprefix("me/small/"): content for name, content in hub.files.items()}
    assert {"model.safetensors", "config.json", "preprocessor_config.json"} <= set(uploaded)
    assert not [name for name in uploaded if name.startswith(("checkpoint", "logs", "run.json", "history"))]
    assert not [name for name, content in uploaded.items() if str(tmp_path).encode() in content]
    (tmp_path / "pulled").mkdir()
    for name in ("model.safetensors", "config.json"):
        (tmp_path / "pulled" / name).write_bytes(uploaded[name])
    expected, found = weights(whole), weights(tmp_path / "pulled")
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_a_folder_that_the_first_process_cannot_have_is_refused_in_all(tmp_path, monkeypatch):
    def told_by_the_first(values: list[str | None]) -> None:
        values[0] = "run is being written by process 7 (finetune.py)"

    monkeypatch.setattr("finetuning.machine.PartialState", lambda **_: SimpleNamespace(is_main_process=False))
    monkeypatch.setattr("accelerate.utils.broadcast_object_list", told_by_the_first)
    with pytest.raises(OptionsError, match=r"process 7") as raised, run_folder(tmp_path / "run"):
        pass
    assert raised.value.in_all_processes
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["{}/file/run", "/proc/page4d/run", "{}/" + "x" * 300, "{}/kept"])
def test_an_output_that_cannot_be_used_is_refused_before_the_network_is_built(tmp_path, monkeypatch, capsys, name):
    (tmp_path / "file").touch()
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "notes.txt").touch()
    path = write_options(tmp_path, output=name.format(tmp_path))
    monkeypatch.setattr("finetuning.run.starting_network", lambda *_: pytest.fail("builds a network"))
    sentence = told(capsys, "--options", path)
    assert re.search("Cannot write|cannot be a name|holds something else", sentence)


def test_the_model_s_images_are_as_wide_as_those_it_was_trained_on(tmp_path):
    run = train(small_options(tmp_path, max_train_steps=1, network={**NETWORK, "image_size": 56}))

    assert run.network.config.image_size == 56
    assert AutoImageProcessor.from_pretrained(run.options.output).size == {"height": 28, "width": 28}


def test_a_trained_model_sees_images_as_its_base_does(tmp_path):
    small_network().save_pretrained(tmp_path / "base")
    Page4DImageProcessor(mode="balanced", resample=2, size=56).save_pretrained(tmp_path / "base")
    options = replace(small_options(tmp_path, max_train_steps=1), network=None, model=str(tmp_path / "base"))
    output = train(options).options.output

    for folder in (output, output / "checkpoint-1"):
        processor = AutoImageProcessor.from_pretrained(folder)
        assert (processor.mode, processor.resample, processor.size["width"]) == ("balanced", 2, 28)


def history_lines(folder: Path) -> list[bytes]:
    """Lines that are whole, of a history that is being written."""
    return [line for line in (folder / "history.jsonl").read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]


@pytest.mark.usefixtures("quick_programs")
def test_two_processes_give_the_result_of_one(tmp_path, one_thread, monkeypatch, capfd):
    clips = write_clips(tmp_path / "clips", depth_scale=unusable_of_the_seventh)
    changes: dict[str, Any] = {
        "dataset": ["synthetic", str(clips)],
        "train": ["all"],
        "gradient_accumulation_steps": 4,
        "mask_hold_start": 1,
        "mask_hold_end": 3,
        "evaluation": {**EVALUATION, "steps": 2, "micro_batches": 3},
    }
    alone = train(small_options(tmp_path / "one", **changes)).options.output
    for name in os.environ.keys() - environment().keys():
        monkeypatch.delenv(name)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    processes.train(write_options(tmp_path / "two", **changes), processes.TWO_PROCESSES)

    assert "on 2 process(es)" in capfd.readouterr().out
    together = tmp_path / "two" / "run"
    assert any("skipped" in entry for entry in history(alone))
    for one, two in zip(history(alone), history(together), strict=True):
        assert one.pop("skipped", None) == two.pop("skipped", None)
        one, two = (entry.get("held_out", entry) for entry in (one, two))
        assert one.keys() == two.keys()
        for name in one:
            if "seconds" not in name:
                # Of these, rounding may move a pixel to the other side.
                counts = name in ("delta", "motion_auroc")
                assert two[name] == pytest.approx(one[name], rel=1e-5, abs=1e-3 if counts else 1e-7), name
    expected = weights(alone)
    for name, value in weights(together).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("quick_programs")
def test_sharded_weights_give_the_loss_and_gradients_of_whole_ones(tmp_path):
    done = launched(
        *("--num_machines", 1, "--num_processes", 2),
        *(REPOSITORY / "tests" / "helpers" / "training" / "sharded_training.py", tmp_path),
        config="fsdp.yaml",
        PYTHONPATH=os.pathsep.join([str(REPOSITORY / "training"), str(REPOSITORY / "tests/helpers/networks")]),
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    layers = [f"aggregator.{kind}_layers.{i}" for kind in ("frame", "global") for i in range(5)]
    for precision, found in results.items():
        assert found["loss"][0] == pytest.approx(found["loss"][1], rel=1e-6), precision
        assert found["same names"]
        assert found["gradients"] < 1e-6
        assert found["norm"][0] == pytest.approx(found["norm"][1], rel=1e-6)
        assert found["saved"]
        assert {*layers, "encoder.layers.0", "encoder.layers.1", "camera_head.layers.0", ""} <= set(found["units"])
        # All but those with fewer rows than there are processes.
        assert found["sharded"] > 0.9 * found["parameters"]
    assert results["no"]["loss"] != results["bf16"]["loss"]


@pytest.mark.parametrize("path", sorted(CONFIGURATIONS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_ready_configurations_are_such_for_accelerate(path):
    config = load_config_from_file(str(path))
    assert config.num_processes == {"one-gpu": 1, "cpu": 2, "ddp": 8, "fsdp": 16}[path.stem]
    assert config.mixed_precision == ("no" if path.stem == "cpu" else "bf16")
    assert config.use_cpu == (path.stem == "cpu")
    # What accelerate hides GPUs by: `use_cpu` alone does not reach several processes.
    assert config.gpu_ids == ("-1,-1" if path.stem == "cpu" else None)


def test_micro_batches_that_the_processes_cannot_share_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("accelerate.Accelerator.num_processes", 4)
    with pytest.raises(
        OptionsError, match="--gradient-accumulation-steps 6 cannot be shared by 4 processes; set it to a multiple of 4"
    ):
        begin(small_options(tmp_path, gradient_accumulation_steps=6))


# ---------------------------------------------------------------------------------------------------------------
# Steps


def test_an_iteration_is_one_step_of_clipped_gradients_at_the_scheduled_rates(tmp_path):
    layers = {**GROUP, "warmup_steps": 0.5, "warmup_lr": 1e-6, "min_lr": 1e-5}
    run = begin(small_options(tmp_path, max_train_steps=5, gradient_accumulation_steps=4, max_grad_norm=0.01, **layers))
    seen: list[tuple[float, float]] = []

    def look(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"]]
        seen.append((float(torch.nn.utils.get_total_norm(gradients)), optimizer.param_groups[0]["lr"]))

    run.optimizers[0].optimizer.register_step_pre_hook(look)
    run.run()

    lines = steps(run.options.output)
    assert len(seen) == len(lines) == 5
    assert all(line["gradient_norm"] > 0.01 for line in lines)
    assert [norm for norm, _ in seen] == pytest.approx([0.01] * 5, rel=1e-4)
    # Warm-up of two steps, then a cosine over the three that are left.
    expected = [1e-6, (1e-6 + 1e-3) / 2, 1e-3, (1e-3 + 1e-5) / 2, 1e-5]
    assert [rate for _, rate in seen] == pytest.approx(expected)
    assert [line["learning_rate/layers"] for line in lines] == pytest.approx(expected)
    assert all(line["learning_rate/mask_head"] <= 1e-3 for line in lines)


def test_the_mask_follows_optimizer_steps_and_not_micro_batches(tmp_path):
    run = train(
        small_options(tmp_path, max_train_steps=5, gradient_accumulation_steps=3, mask_hold_start=1, mask_hold_end=4)
    )
    strength = [0.5 * (1 + math.cos(math.pi * x)) for x in (0, 0, 1 / 3, 2 / 3, 1)]
    assert [line["mask_strength"] for line in steps(run.options.output)] == pytest.approx(strength, abs=1e-6)
    saved = AutoModel.from_pretrained(run.options.output / "checkpoint-5")
    assert int(saved.aggregator.mask_schedule.step) == 4


def test_accumulated_micro_batches_are_the_mean_of_their_losses(tmp_path):
    """A step on two micro-batches has the mean of the gradients of two steps' worth of one."""
    run = begin(small_options(tmp_path, max_train_steps=1))
    batches = [run.data[0], run.data[1]]
    loss = torch.stack([run.network(b["pixel_values"], labels=b["labels"]).loss for b in batches]).mean()
    loss.backward()
    gradients = [p.grad.clone() for p in run.trained.values()]
    run.optimizers[0].zero_grad()
    run.run()
    line = steps(run.options.output)[0]
    assert line["loss"] == pytest.approx(loss.item(), rel=1e-6)
    assert line["gradient_norm"] == pytest.approx(float(torch.nn.utils.get_total_norm(gradients)), rel=1e-5)


def test_bfloat16_trains_too(tmp_path):
    run = train(small_options(tmp_path, mixed_precision="bf16", gradient_checkpointing=True))
    lines = steps(run.options.output)
    assert len(lines) == 3
    assert all(math.isfinite(line["loss"]) and math.isfinite(line["gradient_norm"]) for line in lines)
    assert {p.dtype for p in run.network.parameters()} == {torch.float32}
    assert json.loads((run.options.output / "run.json").read_text())["mixed_precision"] == "bf16"


# ---------------------------------------------------------------------------------------------------------------
# Losses that are not finite


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_clip(tmp_path):
    run = begin(small_options(tmp_path, checkpointing_steps=1))
    spoilt = run.data[5]["clip_ids"]  # the second micro-batch of the third step
    run.data = Changed(run.data, 5, poison)
    with pytest.raises(TrainingError) as raised:
        run.run()

    sentence = str(raised.value)
    assert "Step 3 was not made, because its loss is nan" in sentence
    # Of two clips the second is the one.
    assert spoilt[1] in sentence
    assert spoilt[0] not in sentence
    assert "checkpoint-2 is intact" in sentence
    folder = run.options.output
    assert [line["step"] for line in steps(folder)] == [1, 2]
    last = weights(folder / "checkpoint-2")
    assert all(torch.equal(value, last[name]) for name, value in run.network.named_parameters())
    # And what is mended goes on.
    train(small_options(tmp_path, checkpointing_steps=1))
    assert [line["step"] for line in steps(folder)] == [1, 2, 3]


def test_weights_that_explode_are_not_kept(tmp_path):
    # The second step is the first after the warm-up.
    group = {**GROUP, "learning_rate": 1e30, "warmup_steps": 0.34, "warmup_lr": 1e-4}
    run = begin(small_options(tmp_path, checkpointing_steps=1, **group, mask_head=group, evaluation=EVALUATION))
    with pytest.raises(
        TrainingError, match=r"after step 2 are not finite: the learning rate is too high\. checkpoint-1 is"
    ):
        run.run()
    last = weights(run.options.output / "checkpoint-1")
    assert all(bool(value.isfinite().all()) for value in last.values())
    assert not (run.options.output / "checkpoint-2").exists()


# ---------------------------------------------------------------------------------------------------------------
# Evaluation, curves, options


def test_the_history_has_the_mask_head_s_loss_where_motion_is_labelled_alone(tmp_path):
    clips = write_clips(tmp_path / "clips", motion_mask=lambda row: None)
    entries = {
        name: steps(train(small_options(tmp_path / name, dataset=[dataset], mask_loss_weight=0.5)).options.output)
        for name, dataset in (("labelled", "synthetic"), ("unlabelled", str(clips)))
    }

    assert all(entry["mask"] > 0 for entry in entries["labelled"])
    assert not any("mask" in entry for entry in entries["unlabelled"])


def test_the_mask_head_s_loss_is_the_mean_over_micro_batches_with_labels(tmp_path):
    changes = {"mask_loss_weight": 0.5, "max_train_steps": 1}
    alone = train(small_options(tmp_path / "alone", gradient_accumulation_steps=1, **changes)).options.output
    run = begin(small_options(tmp_path / "two", gradient_accumulation_steps=2, **changes))
    run.data = Changed(run.data, 1, lambda batch: [batch["labels"].pop(name) for name in ("motion_mask", "has_motion")])
    run.run()

    assert steps(run.options.output)[0]["mask"] == pytest.approx(steps(alone)[0]["mask"])


def test_held_out_clips_are_evaluated_during_training_beside_the_trivial(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    evaluation = {**EVALUATION, "steps": 2, "micro_batches": 2}
    run = train(small_options(tmp_path, evaluation=evaluation, report_to=["tensorboard"]))
    folder = run.options.output

    evaluated = {line["step"]: line["held_out"] for line in history(folder) if "held_out" in line}
    assert sorted(evaluated) == [2, 3]  # every second step, and the last
    for name in ("abs_rel", "delta", "center_error", "rotation_error"):
        assert evaluated[3][f"trivial/{name}"] == evaluated[2][f"trivial/{name}"] != evaluated[3][name]
    assert 0 < evaluated[3]["trivial/abs_rel"] < 1
    curves = EventAccumulator(str(folder / "logs")).Reload()
    loss = [line["loss"] for line in steps(folder)]
    assert [event.value for event in curves.Scalars("train/loss")] == pytest.approx(loss)
    assert [event.step for event in curves.Scalars("held_out/abs_rel")] == [2, 3]
    assert {"train/learning_rate/layers", "train/gradient_norm", "train/mask_strength"} <= set(curves.Tags()["scalars"])


class Wandb(SimpleNamespace):
    """Stands for wandb, and notes what it is begun with; it starts if it has a key."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, has_key: bool = True) -> None:
        super().__init__(begun=[], has_key=has_key, config=SimpleNamespace(update=lambda *_, **__: None))
        monkeypatch.setattr("accelerate.tracking._available_trackers", [LoggerType.TENSORBOARD, LoggerType.WANDB])
        monkeypatch.setitem(sys.modules, "wandb", self)

    def init(self, **given: Any) -> Any:
        if not self.has_key:
            raise RuntimeError("no API key configured")
        self.begun.append(given)
        return SimpleNamespace(log=lambda *_, **__: None, finish=lambda: None)


def test_curves_of_all_trackers_are_named_for_the_project_and_the_run(tmp_path, monkeypatch):
    wandb = Wandb(monkeypatch)
    run = train(small_options(tmp_path, max_train_steps=1, report_to=["all"]))

    assert wandb.begun == [{"project": "page4d", "name": "run"}]
    assert list((run.options.output / "logs").glob("events.*"))


def test_a_tracker_that_does_not_start_is_told_in_one_sentence(tmp_path, monkeypatch, capsys):
    Wandb(monkeypatch, has_key=False)
    sentence = told(capsys, "--options", write_options(tmp_path, report_to=["wandb"]))
    assert "--report-to wandb: one does not start (RuntimeError: no API key configured)" in sentence


def test_a_gradient_that_fp16_skips_has_no_norm_in_the_history(tmp_path, monkeypatch):
    run = begin(small_options(tmp_path, max_train_steps=2, checkpointing_steps=1))
    norms = iter([torch.tensor(math.inf), torch.tensor(0.5)])
    monkeypatch.setattr(run.accelerator, "clip_grad_norm_", lambda *_: next(norms))
    monkeypatch.setattr("accelerate.Accelerator.mixed_precision", "fp16")
    run.run()

    assert [entry.get("gradient_norm") for entry in history(run.options.output)] == [None, 0.5]


def test_processes_that_find_different_checkpoints_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("finetuning.run.gather_object", lambda values: [*values, 500])
    with pytest.raises(
        OptionsError, match=r"after steps 0, 500\): --output must be on storage that all machines share"
    ):
        begin(small_options(tmp_path))


def test_evaluating_does_not_change_the_training(tmp_path, one_thread):
    with_it = train(small_options(tmp_path / "with", evaluation=EVALUATION)).options.output
    without = train(small_options(tmp_path / "without")).options.output
    assert steps(with_it) == steps(without)


def test_the_split_validation_is_held_out_if_there_is_one(tmp_path, capsys):
    clips = write_clips(tmp_path / "clips")
    changes: dict[str, Any] = {"dataset": [str(clips)], "max_train_steps": 1, "evaluation": EVALUATION}
    train(small_options(tmp_path / "without", **changes))
    assert "none of the datasets has a split `validation`" in capsys.readouterr().out
    write_clips(clips, "validation")
    run = train(small_options(tmp_path / "with", **changes))
    assert "abs_rel" in history(run.options.output)[-1]["held_out"]
    assert (run.held_out[0]["labels"]["depth"] > 0).all()  # all that is known is scored
    assert not (run.data[0]["labels"]["depth"] > 0).all()  # and trained on without what is farthest


def test_clips_that_are_held_out_as_a_whole_are_evaluated_in_their_only_split(tmp_path, capsys):
    clips = write_clips(tmp_path / "clips")
    changes: dict[str, Any] = {"held_out": [str(clips)], "max_train_steps": 1, "evaluation": EVALUATION}
    run = train(small_options(tmp_path / "other", **changes))
    assert "abs_rel" in history(run.options.output)[-1]["held_out"]
    for same in (str(clips), f"{clips}/", f"point-odyssey={tmp_path}/./clips"):
        sentence = told(capsys, "--options", write_options(tmp_path / "same", dataset=[same], **changes))
        assert "has no split validation, only train, which is trained on" in sentence
    write_clips(clips, "test")
    sentence = told(capsys, "--options", write_options(tmp_path / "two", **changes))
    assert "has no split 'validation'; it has: train, test" in sentence


def test_clips_of_no_weight_are_not_held_out(tmp_path, capsys):
    clips = write_clips(tmp_path / "clips")
    write_clips(clips, "validation")
    other = write_clips(tmp_path / "other")
    changes = {"dataset": [str(clips), str(other)], "weights": [0, 1], "max_train_steps": 1}
    train(small_options(tmp_path, **changes, evaluation=EVALUATION))
    assert "none of the datasets has a split `validation`" in capsys.readouterr().out


def test_a_run_s_options_are_kept_and_read_again(tmp_path):
    changes = {"sampling": {**SAMPLING, "frames_max": 4}, "weights": [2.0], "train": ["depth_head"], "seed": 3}
    options = small_options(tmp_path, **changes)
    run = begin(options)
    kept = from_json(options.output / "run.json")
    assert to_json(kept) == {**to_json(run.options), "mixed_precision": "no"}
    assert to_json(run.options)["sampling"] == {**to_json(options)["sampling"], "patch_size": 14}
    assert (kept.weights, kept.train, kept.seed) == ((2.0,), ("depth_head",), 3)
    assert (
        json.loads((options.output / "run.json").read_text())["configuration"]["hidden_size"] == NETWORK["hidden_size"]
    )
    assert begin(kept).step == run.step == 0


@pytest.fixture
def begun_with(monkeypatch) -> list[Options]:
    """Options that the program would have begun a run with."""
    begun: list[Options] = []
    monkeypatch.setattr("finetuning.run.Finetuning", lambda options: begun.append(options) or SimpleNamespace(run=int))
    return begun


def test_a_file_of_options_may_leave_to_the_command_line_what_a_run_needs(tmp_path, begun_with):
    (tmp_path / "some.json").write_text(json.dumps({"max_train_steps": 10, "sampling": {"frames_max": 4}}))
    arguments = ["--output", str(tmp_path / "run"), "--dataset", "synthetic", "--model", "page4d"]
    finetune.main(["--options", str(tmp_path / "some.json"), *arguments])

    [options] = begun_with
    assert (options.output, options.dataset, options.model) == (tmp_path / "run", ("synthetic",), "page4d")
    assert (options.max_train_steps, options.sampling.frames_max) == (10, 4)


def test_options_have_the_names_of_trainer_and_of_accelerate_s_examples(tmp_path, begun_with):
    words = """
        --dataset synthetic --model page4d --max-train-steps 10 --gradient-accumulation-steps 4 --learning-rate 1e-4
        --warmup-steps 3 --weight-decay 0.1 --max-grad-norm 2 --checkpointing-steps 5 --checkpoints-total-limit None
        --report-to none --dataloader-num-workers 0 --seed 3 --push-to-hub --hub-model-id me/mine"""
    finetune.main(["--output", str(tmp_path / "run"), *words.split()])

    [options] = begun_with
    assert (options.max_train_steps, options.gradient_accumulation_steps) == (10, 4)
    assert (options.learning_rate, options.warmup_steps, options.weight_decay) == (1e-4, 3, 0.1)
    assert options.mask_head == Options.__dataclass_fields__["mask_head"].default_factory()
    assert (options.checkpoints_total_limit, options.push_to_hub, options.hub_model_id) == (None, True, "me/mine")
    assert not make_accelerator(options).trackers


def test_a_model_on_the_command_line_takes_the_place_of_the_network_of_a_file(tmp_path, begun_with):
    finetune.main(["--options", str(write_options(tmp_path)), "--model=page4d"])

    assert (begun_with[0].model, begun_with[0].network) == ("page4d", None)


def test_what_options_leave_open_is_as_the_model_has_it(tmp_path, monkeypatch):
    small_network().save_pretrained(tmp_path / "base")
    Page4DImageProcessor(size=56).save_pretrained(tmp_path / "base")
    monkeypatch.setenv("HOME", str(tmp_path))
    sampling = {name: value for name, value in SAMPLING.items() if name != "width"}
    path = write_options(tmp_path / "options", model="~/base", sampling=sampling, train=None)
    path.write_text(json.dumps({**json.loads(path.read_text()), "network": None}))
    options = from_json(path)
    run = begin(options)

    assert run.options.sampling.sizes == (56, 14)
    assert run.data[0]["pixel_values"].shape[-2:] == (56, 56)
    assert run.options.train == MIDDLE
    assert from_json(options.output / "run.json").train == MIDDLE


def test_options_on_the_command_line_come_over_those_of_the_file(tmp_path, capsys):
    path = write_options(tmp_path)
    sentence = told(capsys, f"--options={path}", "--train", "aggregator.frame_layers.1", "no.such.layer")
    assert "no parameters under no.such.layer" in sentence
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_train_steps": 0}, "at max_train_steps: it should be greater than or equal to 1, got 0"),
        ({"model": "page4d"}, "either --model .* or --network"),
        ({"report_to": ["paper"]}, "--report-to paper is not installed or unknown"),
        ({"sampling": 3}, "at sampling: it should be an object, got 3"),
        ({"sampling": {**SAMPLING, "patch_size": 7}}, "--sampling.patch-size is 7, the model's is 14"),
        ({"no_such": 1}, r"options\.json has no_such, which does not exist"),
        ({"optimizer": "Muon"}, "at optimizer: it should be 'adamw' or 'muon', got 'Muon'"),
        ({"max_train_steps": 10**400}, "at max_train_steps: it should be less than or equal to 1000000000, got 1000"),
        ({"scenes": {"bodies": [3]}}, r"lacks scenes\.bodies\.1"),
        ({"sampling": {"width": 2**14, "patch_size": 16}}, "more than the 500,000,000 pixels that are allowed"),
        ({"warmup_steps": -0.5}, "at warmup_steps: it should be greater than or equal to 0, got -0.5"),
        ({"evaluation": {"frames": 0}}, r"at evaluation\.frames: it should be greater than or equal to 1, got 0"),
        ({"weights": [1.0, 2.0]}, "2 values for 1 datasets"),
        ({"seed": 5, "evaluation": {"seed": 5}}, "held-out scenes would be those of the training"),
        ({"train": ["aggregator.frame_layers.9"]}, "no parameters under aggregator.frame_layers.9"),
        ({"network": None, "model": "no/such/folder"}, "--model no/such/folder cannot be loaded"),
    ],
    ids=str,
)
def test_options_that_cannot_be_are_refused_in_one_sentence(tmp_path, capsys, changes, message):
    path = write_options(tmp_path)
    values = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({name: value for name, value in values.items() if value is not None}))
    assert re.search(message, told(capsys, "--options", path))


# ---------------------------------------------------------------------------------------------------------------
# Data


def without_depth(row: dict[str, Any]) -> list[float]:
    return [0.0] * row["num_frames"]  # scales: no depth is above 0


def singular(row: dict[str, Any]) -> list[Any]:
    return [[[1.0, 0, 0, 0], [1.0, 0, 0, 0], [0, 0, 1.0, 0]]] * row["num_frames"]


@pytest.mark.parametrize(
    ("changes", "messages"),
    [
        ({"extrinsics": None}, ["has no column 'extrinsics'"]),
        ({"width": "28"}, ["The column 'width' of", "must be int32, got string"]),
        ({"frames": 1}, ["has 2 frames, the longest has 1"]),
        ({"depth_scale": without_depth}, ["32 clips", "drawn one after the other cannot be used", "depth"]),
        ({"extrinsics": singular}, ["32 clips", "cannot be used", "singular matrix"]),
        (
            dict.fromkeys(("depth", "depth_scale", "intrinsics", "extrinsics"), lambda row: None),
            ["has images and motion masks, but none of what the loss learns from: depth, cameras."],
        ),
    ],
    ids=["no column", "other type", "too short", "no depth", "singular", "nothing to learn"],
)
def test_clips_that_cannot_be_used_are_told_in_one_sentence(tmp_path, capsys, changes, messages):
    clips = write_clips(tmp_path / "clips", **changes)
    sentence = told(capsys, "--options", write_options(tmp_path, dataset=[str(clips)]))
    for message in messages:
        assert message in sentence


def test_a_loss_that_weighs_nothing_is_refused(tmp_path, capsys):
    path = write_options(tmp_path, {"camera_loss_weight": 0.0, "depth_loss_weight": 0.0})
    assert "The loss has no part that weighs anything" in told(capsys, "--options", path)


def unusable_of_the_seventh(row: dict[str, Any]) -> list[float]:
    return without_depth(row) if row["clip_id"].endswith("7") else row["depth_scale"]


def test_one_clip_that_cannot_be_used_is_counted_and_another_takes_its_place(tmp_path):
    clips = write_clips(tmp_path / "clips", depth_scale=unusable_of_the_seventh)
    run = train(small_options(tmp_path, dataset=[str(clips)]))
    lines = steps(run.options.output)
    skipped = [sentence for line in lines for sentence in line.get("skipped", [])]
    assert len(lines) == 3
    assert skipped
    assert all("synthetic-00000007" in sentence for sentence in skipped)


def test_held_out_clips_that_cannot_be_used_are_counted_too(tmp_path):
    clips = write_clips(tmp_path / "clips")
    write_clips(clips, "validation", depth_scale=unusable_of_the_seventh)
    evaluation = {**EVALUATION, "micro_batches": 4, "frames": 2}
    run = train(small_options(tmp_path, dataset=[str(clips)], max_train_steps=1, evaluation=evaluation))

    skipped = history(run.options.output)[-1]["skipped"]
    assert skipped
    assert all("synthetic-00000007" in sentence for sentence in skipped)


def test_clips_that_are_too_short_for_some_samples_are_counted_at_the_start_and_not_again(tmp_path, capfd):
    clips = write_clips(tmp_path / "clips", num_frames=lambda row: 2 if row["clip_id"].endswith("7") else 3)
    sampling = {**SAMPLING, "frames_min": 3, "frames_max": 3}
    run = train(small_options(tmp_path, dataset=[str(clips)], sampling=sampling))
    told = f"1 clip has fewer than 3 frames, of the 2 of {clips}: samples of more frames come from the others."
    assert capfd.readouterr().out.splitlines().count(told) == 1
    assert not any("skipped" in line for line in steps(run.options.output))


def test_held_out_clips_that_are_too_short_are_told_with_their_option(tmp_path, capsys):
    clips = write_clips(tmp_path / "clips")
    evaluation = {"steps": 1, "frames": 5}
    sentence = told(capsys, "--options", write_options(tmp_path, held_out=[f"noise={clips}"], evaluation=evaluation))
    assert "--evaluation.frames 5" in sentence


# ---------------------------------------------------------------------------------------------------------------
# The Hub


def test_a_hub_that_refuses_is_told_before_the_training(tmp_path, monkeypatch, capsys):
    with small_hub() as hub:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.endpoint)
        hub.refuses = True
        sentence = told(capsys, "--options", write_options(tmp_path), "--push-to-hub", "--hub-model-id", "me/small")
    assert "--hub-model-id me/small: the repository cannot be used" in sentence
    assert not (tmp_path / "run" / "history.jsonl").exists()


def test_an_upload_that_fails_is_told_with_what_to_do(tmp_path, monkeypatch):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    with small_hub() as hub:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.endpoint)
        push(tmp_path, "me/small")
        assert hub.files == {"me/small/model.safetensors": b"weights"}
        hub.refuses = True
        with pytest.raises(HubError, match="The same command uploads it without training again"):
            push(tmp_path, "me/small")
