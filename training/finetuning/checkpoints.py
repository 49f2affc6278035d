"""Checkpoints that are whole or not there: written under another name, made durable, then renamed.

output/
    run.json                options and versions; what a run that goes on is compared with
    history.jsonl           a line for each step: losses, learning rates, gradient norm; evaluations
    checkpoint-500/         after 500 optimizer steps: a folder for from_pretrained, and in it
        state/              optimizer, schedule, random states, of accelerate
    config.json, model.safetensors, ...     the trained model, once the run is through
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accelerate.accelerator import Accelerator
from pydantic import ConfigDict, Field
from torch import nn

from page4d_hf import Page4DImageProcessor
from page4d_hf.errors import Page4DError
from page4d_hf.package_version import versions_of
from page4d_hf.utils.folders import FULL, check_working_folder, failed_write, make_durable, whole_file
from page4d_hf.utils.json_files import Record, parse_json, read_json

from .options import Options, check_same_run, to_json

RUN_FILE = "run.json"
HISTORY_FILE = "history.jsonl"
STATE = "state"
PACKAGES = ("page4d", "torch", "transformers", "accelerate", "datasets", "numpy")  # what computes
NOT_WRITTEN = (*FULL, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
TORCH_SAVE = ("unexpected pos", "file write failed", "iostream error")  # what its zip writer says of any of them
CHECKPOINT = re.compile(r"checkpoint-(\d+)")


class RunFolderError(Page4DError):
    """A folder of a run that is in the way, damaged, or cannot be written."""


class RunRecord(Record):
    """`run.json`: the options, under their names, and what was beside them."""

    model_config = ConfigDict(extra="allow")

    configuration: dict[str, Any] = Field(default_factory=dict)


class HistoryLine(Record):
    """A line of `history.jsonl`: of a step or, with `held_out`, of an evaluation."""

    model_config = ConfigDict(extra="allow")

    step: int
    loss: float | None = None
    frames: int = 0
    seconds: float = 0.0
    held_out: dict[str, float] | None = None


def enter_run_folder(options: Options, configuration: dict[str, Any]) -> int:
    """Begin a run's folder, or find how many steps the newest checkpoint of the run in it has behind it.

    `configuration` has the network's values that decide what it computes.
    """
    folder, path = options.output, options.output / RUN_FILE
    check_working_folder(folder, RUN_FILE)
    if path.is_file():
        old = read_json(path, RunRecord, error=RunFolderError, remedy="name another --output")
        check_same_run(old.model_dump(), options, configuration, path)
    else:
        values = to_json(options) | {"configuration": configuration, "versions": versions_of(PACKAGES)}
        with whole_file(path) as partial:
            partial.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    steps = checkpoints(folder)
    return max(steps) if steps else 0


def checkpoints(folder: Path) -> dict[int, Path]:
    """The checkpoints of a run, by their step."""
    return {
        int(found[1]): path for path in folder.iterdir() if path.is_dir() and (found := CHECKPOINT.fullmatch(path.name))
    }


def save_model(accelerator: Accelerator, model: nn.Module, folder: Path, processor: Page4DImageProcessor) -> None:
    """Write a folder for from_pretrained: weights, configuration, code for `trust_remote_code`, the image processor.

    To be called by all processes: sharded weights are gathered.
    """
    weights = accelerator.get_state_dict(model)
    if accelerator.is_main_process:
        network: Any = accelerator.unwrap_model(model, keep_torch_compile=False)
        network.save_pretrained(folder, state_dict=weights)
        processor.save_pretrained(folder)


def save_checkpoint(
    accelerator: Accelerator,
    model: nn.Module,
    folder: Path,
    step: int,
    *,
    processor: Page4DImageProcessor,
    keep: int | None,
) -> None:
    """Write `checkpoint-<step>`, all or nothing, and remove all but the newest so many, unless `keep` is None.

    To be called by all processes.
    """
    final = folder / f"checkpoint-{step}"
    partial = _under_another_name(final)
    with telling_of_a_full_disk(f"{final} could not be written", folder, clean=partial):
        if accelerator.is_main_process:
            shutil.rmtree(partial, ignore_errors=True)
            (partial / STATE).mkdir(parents=True)
        accelerator.wait_for_everyone()
        save_model(accelerator, model, partial, processor)
        accelerator.save_state(str(partial / STATE))
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            make_durable(partial, deep=True)
            if final.exists():
                shutil.rmtree(final)
            partial.rename(final)
            make_durable(folder)
            if keep:
                found = checkpoints(folder)
                for old in sorted(found)[:-keep]:
                    # Under another name first: what is left of one that is half removed is no checkpoint.
                    shutil.rmtree(found[old].rename(_under_another_name(found[old])))
    accelerator.wait_for_everyone()


def _under_another_name(path: Path) -> Path:
    """The same in all processes, and of those that `working_folder` removes."""
    return path.with_name(f".{path.name}.partial-checkpoint")


def what_is_left(folder: Path) -> str:
    """Half a sentence about what a run that stops can go on from."""
    last = max(checkpoints(folder), default=None)
    return "There is no checkpoint yet" if last is None else f"checkpoint-{last} is intact"


def load_weights_apart(accelerator: Accelerator) -> None:
    """Keep accelerate from writing the weights a second time: a checkpoint has them as `from_pretrained` reads them.

    Sharded weights (FSDP) stay with accelerate.
    """
    from safetensors.torch import load_file

    def drop(models: list[nn.Module], weights: list[dict[str, Any]], folder: str) -> None:
        weights.clear()

    def load(models: list[nn.Module], folder: str) -> None:
        while models:
            network: Any = accelerator.unwrap_model(models.pop(), keep_torch_compile=False)
            tensors: dict[str, Any] = {}
            for path in sorted(Path(folder).parent.glob("*.safetensors")):
                tensors |= load_file(path)
            network.load_state_dict(tensors)

    from accelerate.utils import DistributedType

    if accelerator.distributed_type != DistributedType.FSDP:
        accelerator.register_save_state_pre_hook(drop)
        accelerator.register_load_state_pre_hook(load)


@contextmanager
def telling_of_a_full_disk(what: str, folder: Path, *, clean: Path | None = None) -> Iterator[None]:
    """Say in a sentence, which begins with `what` could not be done, that the disk is full or cannot be written.

    That reaches us as many kinds of exception: safetensors, torch.save and TensorBoard wrap it in their own. The folder
    `clean` is removed then.
    """
    try:
        yield
    except Page4DError:
        raise
    except Exception as error:
        reason = disk_error(error)
        if reason is None:
            raise
        if clean is not None:
            shutil.rmtree(clean, ignore_errors=True)
        raise RunFolderError(
            f"{what} ({reason}). {what_is_left(folder)}; make room and run the same command again."
        ) from error


@contextmanager
def quiet_threads() -> Iterator[None]:
    """Have no traceback of a full disk from another thread: TensorBoard's raises it again in the one that writes."""
    usual = threading.excepthook
    threading.excepthook = lambda told: None if disk_error(told.exc_value) else usual(told)
    try:
        yield
    finally:
        threading.excepthook = usual


def disk_error(error: BaseException | None) -> str | None:
    """Why a file could not be written, in a few words, if an exception, or one that it came from, says that."""
    reason = None
    while error is not None:
        number = failed_write(error)
        if number in NOT_WRITTEN:
            reason = os.strerror(number)
        elif any(word in str(error).lower() for word in TORCH_SAVE):
            reason = reason or "the disk may be full"
        error = error.__cause__ or error.__context__
    return reason


def read_history(folder: Path) -> list[HistoryLine]:
    """The lines of a run's history."""
    path = folder / HISTORY_FILE
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise RunFolderError(f"{path} cannot be read: {error.strerror}; train again.") from error
    return [
        parse_json(line, HistoryLine, f"Line {number} of {path}", error=RunFolderError, remedy="train again")
        for number, line in enumerate(lines, 1)
    ]


def _step_of(line: bytes) -> float:
    """The step of a line of the history; infinity for one that was not written to its end."""
    try:
        return parse_json(line, HistoryLine, HISTORY_FILE).step if line.endswith(b"\n") else math.inf
    except Page4DError:
        return math.inf


class History:
    """`history.jsonl`: what happened at each step. One process writes it."""

    def __init__(self, folder: Path, step: int) -> None:
        """Open it, without the lines of steps that a resumed run makes again."""
        path = folder / HISTORY_FILE
        if path.exists():
            lines = path.read_bytes().splitlines(keepends=True)
            with whole_file(path, overwrite=True) as partial:
                partial.write_bytes(b"".join(line for line in lines if _step_of(line) <= step))
        self._file = path.open("a", encoding="utf-8")

    def add(self, entry: dict[str, Any]) -> None:
        """Append a line; `entry["step"]` counts from 1."""
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()

    def make_durable(self) -> None:
        """Have all of it on the disk: a checkpoint must not be ahead of the history."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()
