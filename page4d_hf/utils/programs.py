"""How all programs end where something is wrong with what they were given, and how they print commands."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import Page4DError


def command(*words: object) -> str:
    """A command to print, for a shell to take as it is: words with spaces and the like in quotes."""
    return shlex.join(map(str, words))


@contextmanager
def input_errors_end_the_program(name: str, interrupted: str | None = None) -> Iterator[None]:
    """End the program where the block raises a `Page4DError`: one sentence on stderr, exit code 1.

    An error that all processes of a training meet alike (`in_all_processes`) is told by the first of them.

    Args:
        name: of the program, which the sentence begins with.
        interrupted: what to say when the user interrupts, with exit code 130. Without it the interrupt passes.
    """
    try:
        yield
    except Page4DError as error:
        if os.environ.get("RANK", "0") == "0" or not getattr(error, "in_all_processes", False):
            print(f"{name}: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
        sys.exit(1)
    except KeyboardInterrupt:
        if interrupted is None:
            raise
        print(f"{name}: interrupted; {interrupted}", file=sys.stderr)
        sys.exit(130)
