"""Which checkpoint a training goes on from, and how one is put in its place."""

from __future__ import annotations

import os
import re
from pathlib import Path

from page4d_hf.errors import CheckpointError

CHECKPOINT = re.compile(r"step-(\d+)\.ckpt")


def saved_steps(folder: Path) -> list[int]:
    """The steps that a folder holds checkpoints of, in order; none where it is not there."""
    if not folder.is_dir():
        return []
    return sorted(int(match[1]) for path in folder.iterdir() if (match := CHECKPOINT.fullmatch(path.name)))


def step_to_load(folder: Path, step: int | None) -> int:
    """The step asked for, or without one the latest of a folder.

    Raises:
        CheckpointError: the folder has no such checkpoint, or none at all.
    """
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


def publish(finished: Path, place: Path) -> None:
    """Move a finished file to where it is looked for, at once and for good; whatever was there is replaced.

    Args:
        finished: On the same file system as `place`.
        place: In a folder that exists.
    """
    # The bytes first, then the name: after a power cut too there is never a name without its bytes.
    with finished.open("rb+") as file:
        os.fsync(file.fileno())
    finished.replace(place)
    if hasattr(os, "O_DIRECTORY"):
        folder = os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
