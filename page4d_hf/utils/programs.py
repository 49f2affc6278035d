"""How all programs end where something is wrong with what they were given, and how they print errors and commands."""

from __future__ import annotations

import atexit
import gc
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from ..errors import Page4DError

_goes_on_by_itself = ContextVar("goes on by itself", default=False)


def command(*words: object) -> str:
    """A command to print, for a shell to take as it is: words with spaces and the like in quotes."""
    return shlex.join(map(str, words))


def say_next(*words: object, say: Callable[[str], object] = print) -> None:
    """Say which command to type next, but where the program `goes_on_by_itself`."""
    if not _goes_on_by_itself.get():
        say(f"Next: {command(*words)}")


@contextmanager
def goes_on_by_itself() -> Iterator[None]:
    """A block whose steps each end in a next one, which the program runs itself."""
    token = _goes_on_by_itself.set(True)
    try:
        yield
    finally:
        _goes_on_by_itself.reset(token)


def install_command(*extras: str) -> str:
    """The command that installs extras of this package, from where the package itself came.

    That is its checkout, or the file or address that pip noted. An index is asked for it only where it came from one.
    """
    wanted = f"[{','.join(extras)}]"
    checkout = Path(__file__).parents[2]
    constraints = checkout / "constraints.txt"
    if constraints.is_file():
        return command("pip", "install", "-c", constraints, "-e", f"{checkout}{wanted}")
    try:
        noted = json.loads(distribution("page4d").read_text("direct_url.json") or "{}")
    except PackageNotFoundError:
        noted = {}
    if "url" in noted:
        source, from_vcs = noted["url"], noted.get("vcs_info")
        if from_vcs:
            source = f"{from_vcs['vcs']}+{source}@{from_vcs['commit_id']}"
        wanted += f" @ {source}"
    return command("pip", "install", f"page4d{wanted}")


def not_installed(need: str, *extras: str) -> str:
    """What to say where the package that the words `need` end with is missing, which these extras bring."""
    return f"{need}, which is not installed; `{install_command(*extras)}` brings it."


def one_line(error: BaseException) -> str:
    """An error's message on one line; its kind where it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def first_line(error: BaseException) -> str:
    """The first line of an error's message; its kind where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def counted(number: int, noun: str) -> str:
    """So many of them: "1 clip", "2 clips"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


@cache  # once, although nerfstudio's border is crossed with every image
def _end_without_a_search_for_garbage() -> None:
    """Python, as it ends, would look for garbage in all that was imported, for seconds."""
    atexit.register(gc.freeze)


@contextmanager
def input_errors_end_the_program(
    name: str, interrupted: str | None = None, *, say: Callable[[str], object] | None = None
) -> Iterator[None]:
    """End the program where the block raises a `Page4DError`: one sentence on stderr, exit code 1.

    Of several processes (`accelerate launch`) each says what it alone met; what all meet alike, errors that have
    `in_all_processes` and interrupts, the first says for them.

    Args:
        name: of the program, which the sentence begins with.
        interrupted: what to say when the user interrupts, with exit code 130; a `KeyboardInterrupt` with a message of
            its own has that said instead. Without it the interrupt passes.
        say: prints the sentence. By default it goes to stderr, behind the name.
    """
    _end_without_a_search_for_garbage()
    say = say or (lambda sentence: print(f"{name}: {sentence}", file=sys.stderr, flush=True))
    is_first = os.environ.get("RANK", "0") == "0"
    try:
        yield
    except Page4DError as error:
        if is_first or not getattr(error, "in_all_processes", False):
            say(one_line(error))
        sys.exit(1)
    except KeyboardInterrupt as error:
        if interrupted is None:
            raise
        if is_first:
            say(f"interrupted; {error.args[0] if error.args else interrupted}")
        sys.exit(130)
