"""How all programs end where something is wrong with what they were given, and how they print commands."""

from __future__ import annotations

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

    Args:
        name: of the program, which the sentence begins with.
        interrupted: what to say when the user interrupts, with exit code 130. Without it the interrupt passes.
    """
    try:
        yield
    except Page4DError as error:
        print(f"{name}: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        if interrupted is None:
            raise
        print(f"{name}: interrupted; {interrupted}", file=sys.stderr)
        sys.exit(130)
