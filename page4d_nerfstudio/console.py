"""What a user reads beside nerfstudio's own messages."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from nerfstudio.utils.rich_utils import CONSOLE

from page4d_hf.errors import Page4DError
from page4d_hf.utils.programs import input_errors_end_the_program


def input_errors_end_the_command() -> AbstractContextManager[None]:
    """End nerfstudio's command where the block raises a `Page4DError`, as nerfstudio ends its own: see
    `input_errors_end_the_program`.

    For nerfstudio's border only, which has no handler that a plugin could leave an error to. What lies underneath
    raises, for those who use it as a library.
    """
    return input_errors_end_the_program("page4d", say=_error)


class EndsTheCommand:
    """Stands for a value that is unavailable: whoever uses it ends the program with a sentence and exit code 1.

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
    say(f"page4d: {message}")


def _error(sentence: str) -> None:
    CONSOLE.rule("Error", style="red")
    say(sentence)


def say(message: str) -> None:
    """Print a line as it is."""
    # A path may hold square brackets, which rich would take for markup; and it is copied whole, not in lines.
    CONSOLE.print(message, markup=False, highlight=False, soft_wrap=True)
