"""What a user reads beside nerfstudio's own messages."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from nerfstudio.utils.rich_utils import CONSOLE

from page4d_hf.errors import Page4DError


@contextmanager
def input_errors_end_the_command() -> Iterator[None]:
    """End the program with exit code 1 and the error's sentence where the block raises a `Page4DError`.

    For nerfstudio's border only: nerfstudio itself ends its commands in this way, and has no handler that a plugin
    could leave an error to. What lies underneath raises, for those who use it as a library.
    """
    try:
        yield
    except Page4DError as error:
        CONSOLE.rule("Error", style="red")
        _say(str(error))
        sys.exit(1)


class EndsTheCommand:
    """Stands for a value that is not to be had: whoever uses it ends the program with a sentence and exit code 1.

    Nerfstudio's viewer reads all attributes of a model, so a property of it cannot refuse by itself.
    """

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        with input_errors_end_the_command():
            raise Page4DError(self._reason)


def note(message: str) -> None:
    """Say something about the data that a user should know and that stops nothing."""
    _say(f"page4d: {message}")


def _say(message: str) -> None:
    # A path may hold square brackets, which rich would take for markup; and it is copied whole, not in lines.
    CONSOLE.print(message, markup=False, highlight=False, soft_wrap=True)
