"""Trainings as processes of their own, as a user starts them from the command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from page4d_hf.errors import Page4DError

REPOSITORY = Path(__file__).resolve().parents[2]
FINETUNE = REPOSITORY / "training" / "finetune.py"
TWO_PROCESSES = REPOSITORY / "training" / "accelerate" / "cpu.yaml"


class ProcessError(Page4DError):
    """A program that did not come to its end."""


def train(options: Path, accelerate: Path | None = None) -> None:
    """Run `finetune.py` to its end, alone or by `accelerate launch`; what an earlier call did is not done again."""
    command = [sys.executable]
    if accelerate is not None:
        # Port 0: any that is free.
        command += ["-m", "accelerate.commands.launch", "--config_file", str(accelerate), "--main_process_port", "0"]
    command += [str(FINETUNE), "--options", str(options)]
    status = subprocess.run(command, check=False).returncode
    if status:
        raise ProcessError(
            f"The training of {options} stopped (status {status}); what it said stands above. The same command goes on "
            "from its newest checkpoint."
        )
