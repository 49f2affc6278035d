"""Fills reference/commands.md with what each command says of itself, so that the page is never behind the program."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from page4d_hf.cli import COMMANDS, added_commands

MARK = "<!-- the help of every command -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    if MARK not in markdown:
        return markdown
    commands = ["page4d", *(f"page4d {name}" for name in {**COMMANDS, **added_commands()})]
    return markdown.replace(MARK, "\n\n".join(f"## {name}\n\n```text\n{help_of(name)}\n```" for name in commands))


def help_of(command: str) -> str:
    """What `page4d COMMAND --help` prints.

    Raises:
        subprocess.CalledProcessError: there is no such command.
    """
    environment = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}
    program = [sys.executable, "-m", "page4d_hf.cli", *command.split()[1:], "--help"]
    done = subprocess.run(program, capture_output=True, text=True, check=True, env=environment)
    return done.stdout.strip()
