"""Commands, printed before they run: one after the other, or several series of them side by side."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from threading import Event

from rich.console import Console

from page4d_hf.utils.progress import progress_bar

Command = Sequence[object]
LAST_LINES = 20  # of a log, shown where its command failed
POLL = 0.2  # seconds between two looks at whether another series has failed

console = Console()


class CommandFailed(Exception):
    """A command ended with an exit code other than 0. The message names it, and where its last lines are."""


def run(*command: object) -> None:
    """Print a command and run it, with the programs of this Python's environment found first."""
    words = _print(command)
    code = subprocess.run(words, env=_environment(), check=False).returncode
    if code != 0:
        raise CommandFailed(f"`{shlex.join(words)}` ended with exit code {code}; its last lines above say why.")


def run_side_by_side(series: Mapping[str, Sequence[Command]], logs: Path, at_once: int) -> None:
    """Run series of commands, so many of them at once, in the order of their names: within a series one command after
    the other.

    What commands say goes to a log for each series, as it would be mixed up in the terminal. One that fails ends all,
    by a `CommandFailed`, and the end of its log is printed.
    """
    logs.mkdir(parents=True, exist_ok=True)
    environment = _environment(share=min(at_once, len(series)))
    stop = Event()

    def run_series(name: str) -> None:
        log = logs / f"{name}.log"
        total = len(series[name])
        for done, command in enumerate(series[name]):
            report(name, done, total)
            if stop.is_set():
                return
            words = _print(command, f" > {log}")
            with open(log, "a", encoding="utf-8") as output:
                process = subprocess.Popen(words, env=environment, stdout=output, stderr=output)
                while (code := _exit_code(process)) is None:
                    if stop.is_set():
                        process.terminate()
            if code != 0 and not stop.is_set():
                stop.set()  # before this thread begins another series
                console.print("\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:]))
                raise CommandFailed(f"`{shlex.join(words)}` ended with exit code {code}; {log} says why.")
        report(name, total, total)

    with progress_bar() as report, ThreadPoolExecutor(at_once) as pool:
        futures = [pool.submit(run_series, name) for name in series]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            stop.set()  # an interruption from the keyboard ends here too
        for future in futures:
            future.result()


def _print(command: Command, behind: str = "") -> list[str]:
    """Print a command, and return its words."""
    words = [str(word) for word in command]
    console.print(f"[bold]$ {shlex.join(words)}[/bold]{behind}", soft_wrap=True, highlight=False)
    return words


def _exit_code(process: subprocess.Popen[bytes]) -> int | None:
    """The exit code, or None where the process still runs after a moment."""
    try:
        return process.wait(POLL)
    except subprocess.TimeoutExpired:
        return None


def _environment(share: int = 1) -> dict[str, str]:
    """The environment of a command that has one in so many shares of the cores."""
    variables = dict(os.environ)
    variables["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), variables.get("PATH", "")))
    # Threads that wait for each other by spinning make small operations many times slower on a busy machine.
    variables.setdefault("OMP_WAIT_POLICY", "passive")
    if share > 1:
        variables.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // share)))
    return variables
