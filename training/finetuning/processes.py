"""Trainings as processes of their own, as a user starts them from the command line."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from page4d_hf.errors import Page4DError

REPOSITORY = Path(__file__).resolve().parents[2]
FINETUNE = REPOSITORY / "training" / "finetune.py"
TWO_PROCESSES = REPOSITORY / "training" / "accelerate" / "cpu.yaml"


class ProcessError(Page4DError):
    """A program that did not come to its end."""


def train(options: Path, output: Path, accelerate: Path | None = None) -> None:
    """Run `finetune.py` to its end; what an earlier call has done of it is not done again.

    Args:
        options: JSON file of the run.
        output: the run's folder, as the options name it.
        accelerate: configuration for `accelerate launch`; without one the run is a single process.

    Raises:
        ProcessError: the run stopped, or an earlier one is still at it.
    """
    command = [sys.executable]
    if accelerate is not None:
        # Port 0: any that is free.
        command += ["-m", "accelerate.commands.launch", "--config_file", str(accelerate), "--main_process_port", "0"]
    command += [str(FINETUNE), "--options", str(options)]
    with _alone(output) as lock:
        status = subprocess.run(command, pass_fds=(lock,), check=False).returncode
    if status:
        raise ProcessError(
            f"The training of {options} stopped (status {status}); what it said stands above. The same command goes on "
            "from its newest checkpoint."
        )


@contextmanager
def _alone(output: Path) -> Iterator[int]:
    """Keep others from training into a folder.

    A training outlives the program that started it if that one is killed, and two of them would spoil the folder. The
    lock is of the open file, which the training inherits, and so is held as long as either lives.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    path = output.parent / f".{output.name}.lock"
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ProcessError(
                f"{output} is being trained already, perhaps by what is left of a command that was killed; end that "
                "process, or wait for it."
            ) from error
        yield lock
    finally:
        os.close(lock)


__all__ = ["REPOSITORY", "TWO_PROCESSES", "ProcessError", "train"]
