"""Folders of runs: checkpoints that are whole or not there, and runs that go on with nothing but themselves."""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from file_limits import largest_file
from finetuning.checkpoints import History, RunFolderError, disk_error, read_history
from finetuning.machine import run_folder
from finetuning.options import OptionsError
from small_training import GROUP, MIDDLE, Changed, begin, history, small_options, steps, stop, train, weights

pytestmark = pytest.mark.slow


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def stopped_at(folder: Path, step: int, **changes: object) -> Path:
    """The folder of a run that was stopped while it made a step, counted from 1."""
    run = begin(small_options(folder, **changes))
    run.data = Changed(run.data, (step - 1) * run.options.gradient_accumulation_steps, stop)
    with pytest.raises(KeyboardInterrupt):
        run.run()
    return run.options.output


# ---------------------------------------------------------------------------------------------------------------
# What is written


def test_a_checkpoint_is_a_model_for_from_pretrained(tmp_path):
    group = {**GROUP, "min_lr": 1e-3}
    run = train(small_options(tmp_path, max_train_steps=2, checkpointing_steps=1, **group, mask_head=group))
    last = weights(run.options.output / "checkpoint-2")

    assert all(torch.equal(value, last[name]) for name, value in run.network.state_dict().items())
    assert all(torch.equal(value, last[name]) for name, value in weights(run.options.output).items())
    earlier = weights(run.options.output / "checkpoint-1")
    changed = {name for name in last if not torch.equal(last[name], earlier[name])}
    # What is trained has changed, as has the count of steps; nothing else has.
    assert changed == set(run.trained) | {"aggregator.mask_schedule.step"}
    assert not list((run.options.output / "checkpoint-2" / "state").glob("*.safetensors"))


@pytest.mark.parametrize(("limit", "kept"), [(2, (2, 3)), (None, (1, 2, 3))])
def test_the_newest_checkpoints_or_all_are_kept(tmp_path, limit, kept):
    run = train(replace(small_options(tmp_path, checkpointing_steps=1), checkpoints_total_limit=limit))
    assert {name for name in names(run.options.output) if "checkpoint" in name} == {f"checkpoint-{i}" for i in kept}


# ---------------------------------------------------------------------------------------------------------------
# Going on


def test_a_run_that_goes_on_equals_one_that_was_never_stopped(tmp_path, one_thread):
    """Losses, gradients, learning rates and the mask's strength, to the last bit; weights too."""
    changes = {"max_train_steps": 5, "checkpointing_steps": 2, "mask_hold_start": 1, "mask_hold_end": 4}
    whole = train(small_options(tmp_path / "whole", **changes)).options.output
    # Stopped in step 4, with checkpoint-2 as the newest: step 3 is made twice.
    folder = stopped_at(tmp_path / "stopped", 4, **changes)
    assert [entry["step"] for entry in steps(folder)] == [1, 2, 3]
    train(small_options(tmp_path / "stopped", **changes))

    assert steps(folder) == steps(whole)
    expected = weights(whole)
    assert all(torch.equal(value, expected[name]) for name, value in weights(folder).items())


def test_a_run_without_a_checkpoint_begins_again(tmp_path, one_thread):
    whole = train(small_options(tmp_path / "whole", max_train_steps=2)).options.output
    folder = stopped_at(tmp_path / "stopped", 2, max_train_steps=2)
    train(small_options(tmp_path / "stopped", max_train_steps=2))
    assert steps(folder) == steps(whole)


def test_a_finished_run_is_left_as_it_is(tmp_path):
    folder = train(small_options(tmp_path, max_train_steps=2)).options.output
    before, lines = weights(folder), history(folder)
    train(small_options(tmp_path, max_train_steps=2))
    assert history(folder) == lines
    assert all(torch.equal(value, before[name]) for name, value in weights(folder).items())


def test_what_an_interrupted_checkpoint_left_is_removed(tmp_path):
    folder = stopped_at(tmp_path, 3, checkpointing_steps=1)
    partial = folder / ".checkpoint-3.partial-checkpoint"
    shutil.copytree(folder / "checkpoint-2", partial)
    assert begin(small_options(tmp_path, checkpointing_steps=1)).step == 2
    with run_folder(folder):
        assert not partial.exists()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"max_train_steps": 4}, [r"max_train_steps \(was 3, now 4\)"]),
        (
            {"seed": 1, "gradient_accumulation_steps": 4},
            [r"gradient_accumulation_steps \(was 2, now 4\)", r"seed \(was 0, now 1\)"],
        ),
        ({"train": [*MIDDLE, "depth_head"]}, ["train", "depth_head"]),
        ({"sampling": {"width": 28, "aspect_min": 1.0, "aspect_max": 1.0}}, ["sampling"]),
        ({"mixed_precision": "bf16"}, [r'mixed_precision \(was "no", now "bf16"\)']),
        # The same file of the network with other values in it.
        ({"network": {"rope_theta": 50.0}}, [r"the network's rope_theta \(was 100\.0, now 50\.0\)"]),
    ],
    ids=str,
)
def test_a_run_of_another_configuration_is_refused_with_the_options_that_differ(tmp_path, changes, named):
    begin(small_options(tmp_path))
    with pytest.raises(OptionsError) as raised:
        begin(small_options(tmp_path, **changes))
    for pattern in named:
        raised.match(pattern)
    raised.match("name another --output")


def test_how_a_run_is_carried_out_may_change(tmp_path):
    begin(small_options(tmp_path))
    begin(
        small_options(
            tmp_path,
            dataloader_num_workers=1,
            checkpointing_steps=7,
            checkpoints_total_limit=5,
            report_to=["tensorboard"],
        )
    )


@pytest.mark.parametrize("file", ["model.safetensors", "state/optimizer.bin", "state/scheduler.bin"])
@pytest.mark.parametrize("damage", ["cut", "missing"])
def test_a_damaged_newest_checkpoint_is_named(tmp_path, file, damage):
    folder = stopped_at(tmp_path, 3, checkpointing_steps=1)
    path = folder / "checkpoint-2" / file
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:100])
    else:
        path.unlink()
    with pytest.raises(RunFolderError, match=r"checkpoint-2 cannot be read .* Remove it to go on"):
        begin(small_options(tmp_path, checkpointing_steps=1))

    shutil.rmtree(folder / "checkpoint-2")
    assert begin(small_options(tmp_path, checkpointing_steps=1)).step == 1


# ---------------------------------------------------------------------------------------------------------------
# Folders in the way


@pytest.mark.parametrize("content", ["{", "3", "null", '{"configuration": [1]}', "[" * 100_000, "1" * 5000, b"\xff"])
def test_damaged_options_of_a_run_are_named(tmp_path, content):
    options = small_options(tmp_path)
    options.output.mkdir()
    (options.output / "run.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(RunFolderError, match=r"run\.json .*; name another --output\."):
        begin(options)


# ---------------------------------------------------------------------------------------------------------------
# Full disks


@pytest.mark.parametrize("file", ["model.safetensors", "state/optimizer.bin"])
def test_a_full_disk_leaves_the_last_checkpoint_and_the_same_command_goes_on(tmp_path, file):
    # Trained are few weights or all: either they or AdamW's moments make the largest file.
    patterns = ["camera_head.norm"] if file == "model.safetensors" else ["all"]
    changes = {"train": patterns, "max_train_steps": 3, "checkpointing_steps": 1}
    folder = stopped_at(tmp_path / "full", 3, **changes)
    limit = (folder / "checkpoint-2" / file).stat().st_size - 1000
    assert limit > 10_000

    with largest_file(limit), pytest.raises(RunFolderError) as raised:
        train(small_options(tmp_path / "full", **changes))

    sentence = str(raised.value)
    said = os.strerror(errno.EFBIG) if file == "model.safetensors" else "the disk may be full"
    assert f"checkpoint-3 could not be written ({said})" in sentence
    assert "checkpoint-2 is intact; make room and run the same command again." in sentence
    assert {name for name in names(folder) if "checkpoint" in name} == {"checkpoint-1", "checkpoint-2"}
    assert weights(folder / "checkpoint-2")

    train(small_options(tmp_path / "full", **changes))
    assert [entry["step"] for entry in steps(folder)] == [1, 2, 3]


def test_a_full_disk_under_the_history_is_told_too(tmp_path):
    folder = stopped_at(tmp_path, 3, checkpointing_steps=1)
    with (
        largest_file((folder / "history.jsonl").stat().st_size + 10),
        pytest.raises(RunFolderError, match="cannot write its files") as raised,
    ):
        train(small_options(tmp_path, checkpointing_steps=1))
    raised.match("checkpoint-2 is intact; make room")


def test_a_full_disk_under_the_curves_is_told_in_one_sentence(tmp_path, monkeypatch):
    """TensorBoard writes in a thread of its own, whose exception Python would print with a traceback."""
    printed: list[object] = []
    monkeypatch.setattr(threading, "excepthook", printed.append)
    run = begin(small_options(tmp_path, report_to=["tensorboard"]))
    with largest_file(50), pytest.raises(RunFolderError, match=r"cannot write its files \(File too large\)"):
        run.run()
    assert not printed


def raised_by(action: Callable[[], object]) -> BaseException:
    with pytest.raises(Exception) as caught:  # noqa: PT011
        action()
    return caught.value


def test_errors_that_come_of_a_full_disk_are_recognised_and_no_others():
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def wrapped() -> None:
        try:
            raise full
        except OSError as error:
            raise RuntimeError("the writer failed") from error

    assert disk_error(full) == disk_error(raised_by(wrapped)) == "No space left on device"
    assert disk_error(RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"))
    assert not disk_error(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not disk_error(FileNotFoundError(errno.ENOENT, "No such file or directory"))


# ---------------------------------------------------------------------------------------------------------------
# The history


def test_the_history_loses_the_steps_that_are_made_again_and_what_was_not_written_to_its_end(tmp_path):
    entries = [
        {"step": 1, "loss": 1.0},
        {"step": 2, "loss": 2.0},
        {"step": 2, "held_out": {}},
        {"step": 3, "loss": 3.0},
    ]
    path = tmp_path / "history.jsonl"
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries) + '{"step": 4, "lo')
    written = History(tmp_path, 2)
    written.add({"step": 3, "loss": 3.5})
    written.close()
    assert history(tmp_path) == [*entries[:3], {"step": 3, "loss": 3.5}]


@pytest.mark.parametrize("line", ["[1]", '{"step": "2"}', '{"step": 2, "held_out": {"loss": []}}', "{", ""])
def test_a_damaged_line_of_the_history_is_named_by_its_number(tmp_path, line):
    (tmp_path / "history.jsonl").write_text(f'{{"step": 1, "loss": 1.0}}\n{line}\n')
    with pytest.raises(RunFolderError, match=r"Line 2 of .*history\.jsonl .*; train again\."):
        read_history(tmp_path)
