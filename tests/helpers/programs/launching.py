"""Programs of the project as a user starts them: as processes, by `accelerate launch`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
CONFIGURATIONS = REPOSITORY / "training" / "accelerate"

# The first line of a program that needs no Auto class: like the command `page4d`, it does not wait for transformers.
AS_COMMAND = "import sys; sys.argv[0] = 'page4d'\n"


def environment(**changes: str) -> dict[str, str]:
    """Of a process that a user would start, without what Accelerate may have left in this one's."""
    clean = {n: v for n, v in os.environ.items() if not n.startswith(("ACCELERATE_", "FSDP_", "HF_", "MASTER_"))}
    clean.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="0", **changes)
    return clean


def launched(*arguments: object, config: str | None = None, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run `accelerate launch` to its end."""
    command = [sys.executable, "-m", "accelerate.commands.launch"]
    if config is not None:
        command += ["--config_file", str(CONFIGURATIONS / config), "--main_process_port", "0"]
    command += list(map(str, arguments))
    return subprocess.run(command, env=environment(**changes), capture_output=True, text=True, check=False)


def dies_at(name: str) -> str:
    """The first lines of a program that is killed at the moment when a file gets its name."""
    return f"""
import os, runpy, signal, sys
from page4d_hf.utils import folders

class Deadly:
    def __getattr__(self, name):
        return getattr(os, name)

    def replace(self, source, target):
        if str(target).endswith({name!r}):
            os.kill(os.getpid(), signal.SIGKILL)
        os.replace(source, target)

folders.os = Deadly()
"""
