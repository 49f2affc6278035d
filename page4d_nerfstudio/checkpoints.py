"""Which checkpoint a training goes on from, how one is read, and how one is put in its place."""

from __future__ import annotations

import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from page4d_hf.errors import CheckpointError
from page4d_hf.utils.folders import make_durable
from page4d_hf.utils.programs import one_line

ESCAPES = re.compile(r"\x1b\[[0-9;]*m")  # colours in PyTorch's messages
CHECKPOINT = re.compile(r"step-(\d+)\.ckpt")

# What comes of loading a file that is no checkpoint, half of one, or one of another training.
UNREADABLE = (
    *(OSError, EOFError, RuntimeError, KeyError, IndexError, ValueError, TypeError, AttributeError),
    *(NotImplementedError, OverflowError, pickle.UnpicklingError, zipfile.BadZipFile),
)


def saved_steps(folder: Path) -> list[int]:
    """The steps that a folder holds checkpoints of, in order; none where it is not there."""
    if not folder.is_dir():
        return []
    return sorted(int(match[1]) for path in folder.iterdir() if (match := CHECKPOINT.fullmatch(path.name)))


def step_to_load(folder: Path, step: int | None) -> int:
    """The step asked for, or without one the latest of a folder."""
    steps = saved_steps(folder)
    if not steps:
        raise CheckpointError(
            f"There is no checkpoint in --load-dir {folder}: name the folder nerfstudio_models of a training."
        )
    if step is not None and step not in steps:
        raise CheckpointError(
            f"There is no checkpoint of step {step} in --load-dir {folder}; it has: {', '.join(map(str, steps))}."
        )
    return steps[-1] if step is None else step


def check_checkpoint(path: Path) -> None:
    """Refuse a file that is no archive as `torch.save` writes it: whole, and not compressed."""
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > path.stat().st_size:
            raise zipfile.BadZipFile(f"it unpacks to {unpacked:,} bytes, more than the file has")
    except UNREADABLE as error:
        raise _broken(path, error) from error


def read_checkpoint(path: Path, *, mmap: bool = False) -> dict[str, Any]:
    """A checkpoint of nerfstudio's, on the CPU or, with `mmap`, left on the disk: `pipeline`, its state, and `step`."""
    import torch

    check_checkpoint(path)
    # nerfstudio's schedulers leave learning rates as NumPy's numbers, which PyTorch refuses unless told.
    number: Any = np.float64(0)
    try:
        with torch.serialization.safe_globals([number.__reduce__()[0], np.dtype, type(number.dtype)]):
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
        if not isinstance(state["pipeline"], dict) or not isinstance(state["step"], int):
            raise TypeError("its pipeline is no state, or its step no number")
    except UNREADABLE as error:
        raise _broken(path, error) from error
    return state


def _broken(path: Path, error: Exception) -> CheckpointError:
    why = ESCAPES.sub("", one_line(error))
    return CheckpointError(
        f"The checkpoint {path} is broken ({why:.200}); remove it, and an older one is read if there is one."
    )


def publish(finished: Path, place: Path) -> None:
    """Move a finished file to its place on the same file system, at once and for good; what was there is replaced."""
    # The bytes first, then the name: after a power cut too there is never a name without its bytes.
    make_durable(finished)
    finished.replace(place)
    make_durable(place.parent)
