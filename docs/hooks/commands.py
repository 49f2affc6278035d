"""Fills reference/commands.md with what each command says of itself, so that the page is never behind the program."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from page4d_hf.cli import COMMANDS, added_commands

MARK = "<!-- the help of every command takes the place of what follows -->"  # for readers of the file itself
ROOT = Path(__file__).resolve().parents[2]
OTHERS = (
    *("ns-train page4d-4dgs", "ns-train page4d-4dgs page4d-data"),
    *(f"python training/{name}.py" for name in ("prepare", "finetune", "annotate", "ablation", "tiny")),
    # The options of a run are those of all tasks.
    *(f"python evaluation/evaluate.py {name}" for name in ("pose", "table")),
    *(f"python evaluation/compare.py {name}" for name in ("methods", "initialisations", "tracks", "novel-views")),
    *(f"python evaluation/{name}.py" for name in ("held_out", "mask_study", "benchmark")),
)


def on_page_markdown(markdown: str, **_: Any) -> str:
    if MARK not in markdown:
        return markdown
    commands = ["page4d", *(f"page4d {name}" for name in {**COMMANDS, **added_commands()}), *OTHERS]
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        helps = list(threads.map(help_of, commands))
    sections = (f"## {name}\n\n```text\n{text}\n```" for name, text in zip(commands, helps, strict=True))
    return markdown.partition(MARK)[0] + "\n\n".join(sections)


def help_of(command: str) -> str:
    """What a command prints with --help.

    Raises:
        subprocess.CalledProcessError: there is no such command.
    """
    environment = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb", "OMP_NUM_THREADS": "1"}
    program, *words = command.split()
    programs = {"page4d": [sys.executable, "-m", "page4d_hf.cli"], "python": [sys.executable]}
    start = programs.get(program) or [str(Path(sys.executable).parent / program)]
    run = [*start, *words, "--help"]
    done = subprocess.run(run, capture_output=True, text=True, check=True, env=environment, cwd=ROOT)
    return done.stdout.strip()
