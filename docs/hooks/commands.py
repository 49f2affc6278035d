"""Fills reference/commands.md with what each command says of itself, so that the page is never behind the program."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Any

MARK = re.compile(r"^<!-- help: (.+) -->$", re.M)


def on_page_markdown(markdown: str, **_: Any) -> str:
    return MARK.sub(lambda found: f"```text\n{help_of(found[1])}\n```", markdown)


def help_of(command: str) -> str:
    """What `page4d COMMAND --help` prints.

    Raises:
        subprocess.CalledProcessError: there is no such command.
    """
    words = [] if command == "page4d" else command.removeprefix("page4d ").split()
    environment = {**os.environ, "COLUMNS": "110", "NO_COLOR": "1", "TERM": "dumb"}
    program = [sys.executable, "-m", "page4d_hf.cli", *words, "--help"]
    done = subprocess.run(program, capture_output=True, text=True, check=True, env=environment)
    return done.stdout.strip()
