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
import os
import re
import shutil
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from torch import nn

from page4d_hf.errors import Page4DError

from .options import Options, check_same_run, to_json

RUN_FILE = "run.json"
HISTORY_FILE = "history.jsonl"
STATE = "state"
CHECKPOINT = re.compile(r"checkpoint-(\d+)")


class RunFolderError(Page4DError):
    """A folder of a run that is in the way, damaged, or cannot be written."""


def versions() -> dict[str, str]:
    """The versions of what computes."""
    from importlib.metadata import version

    return {name: version(name) for name in ("page4d", "torch", "transformers", "accelerate", "datasets", "numpy")}


def enter_run_folder(options: Options) -> int:
    """Begin a run's folder, or find where the run in it stopped.

    Returns:
        The number of optimizer steps that its newest checkpoint has behind it; 0 for a run that begins.

    Raises:
        OptionsError: the folder holds a run with other options.
        RunFolderError: the folder holds something else, or cannot be written.
    """
    folder, path = options.output, options.output / RUN_FILE
    if folder.exists() and not folder.is_dir():
        raise RunFolderError(f"{folder} is a file; --output names the folder of a run.")
    if path.is_file():
        try:
            old = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise RunFolderError(f"{path} is damaged ({error}); name another --output.") from error
        check_same_run(old, options, path)
    elif folder.is_dir() and any(folder.iterdir()):
        raise RunFolderError(f"{folder} is not empty and holds no run (no {RUN_FILE}); name another --output.")
    else:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(path, json.dumps(to_json(options) | {"versions": versions()}, indent=2) + "\n")
        except OSError as error:
            raise RunFolderError(f"{folder} cannot be written ({error.strerror}).") from error
    for partial in folder.glob("*.partial"):
        shutil.rmtree(partial) if partial.is_dir() else partial.unlink()
    steps = checkpoints(folder)
    return max(steps) if steps else 0


def checkpoints(folder: Path) -> dict[int, Path]:
    """The checkpoints of a run, by their step."""
    return {
        int(found[1]): path
        for path in folder.iterdir()
        if path.is_dir() and (found := CHECKPOINT.fullmatch(path.name))
    }


def save_model(accelerator: Accelerator, model: nn.Module, folder: Path) -> None:
    """Write a folder for from_pretrained: weights, configuration, code for `trust_remote_code`, image processor.

    To be called by all processes: sharded weights are gathered.
    """
    from page4d_hf import Page4DImageProcessor

    weights = accelerator.get_state_dict(model)
    if accelerator.is_main_process:
        network: Any = accelerator.unwrap_model(model, keep_torch_compile=False)
        network.save_pretrained(folder, state_dict=weights)
        side, patch = network.config.image_size, network.config.patch_size
        Page4DImageProcessor(size={"height": side, "width": side}, patch_size=patch).save_pretrained(folder)


def save_checkpoint(accelerator: Accelerator, model: nn.Module, folder: Path, step: int, keep: int) -> None:
    """Write `checkpoint-<step>`, all or nothing, and remove the oldest that are too many.

    To be called by all processes.

    Raises:
        RunFolderError: it cannot be written, as on a full disk; those before it are untouched.
    """
    final = folder / f"checkpoint-{step}"
    partial = final.with_name(final.name + ".partial")
    try:
        if accelerator.is_main_process:
            shutil.rmtree(partial, ignore_errors=True)
            (partial / STATE).mkdir(parents=True)
        accelerator.wait_for_everyone()
        save_model(accelerator, model, partial)
        accelerator.save_state(str(partial / STATE))
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            make_durable(partial)
            if final.exists():
                shutil.rmtree(final)
            partial.rename(final)
            make_durable(folder, deep=False)
            if keep:
                found = checkpoints(folder)
                for old in sorted(found)[:-keep]:
                    shutil.rmtree(found[old])
    except Exception as error:
        # A full disk reaches us as many kinds of exception: safetensors and torch.save wrap it in their own.
        if not is_disk_error(error):
            raise
        shutil.rmtree(partial, ignore_errors=True)
        last = max(checkpoints(folder), default=None)
        raise RunFolderError(
            f"{final} could not be written ({error}). "
            + (f"checkpoint-{last} is intact" if last is not None else "There is no earlier checkpoint")
            + "; make room and run the same command again."
        ) from error
    accelerator.wait_for_everyone()


def load_weights_apart(accelerator: Accelerator) -> None:
    """Keep accelerate from writing the weights a second time: they are in the checkpoint as `from_pretrained` reads them.

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


def is_disk_error(error: BaseException | None) -> bool:
    """Whether an exception, or one that it came from, says that a file could not be written."""
    codes = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
    words = tuple(os.strerror(code).lower() for code in codes[:3])
    while error is not None:
        if isinstance(error, OSError) and error.errno in codes:
            return True
        text = str(error).lower()
        # torch.save on a full disk: "unexpected pos", from its zip writer.
        if any(word in text for word in words) or "unexpected pos" in text or "file write failed" in text:
            return True
        error = error.__cause__ or error.__context__
    return False


def write_whole(path: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def make_durable(path: Path, *, deep: bool = True) -> None:
    """Have a folder, and with `deep` all within it, on the disk and not only in the system's memory."""
    for one in [*path.rglob("*"), path] if deep else [path]:
        handle = os.open(one, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


class History:
    """`history.jsonl`: what happened at each step. One process writes it."""

    def __init__(self, folder: Path, step: int) -> None:
        """Open it, without the lines of steps that a resumed run makes again.

        Args:
            folder: of the run.
            step: optimizer steps that the run has behind it.
        """
        path = folder / HISTORY_FILE
        if path.exists():
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            write_whole(path, "".join(line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step))
        self._file = path.open("a", encoding="utf-8")

    def add(self, entry: dict[str, Any]) -> None:
        """Append a line; `entry["step"]` counts from 1."""
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
