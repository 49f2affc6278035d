"""The `page4d` command: `convert`, `pull`, `reconstruct` and `synth`.

One function a subcommand; tyro makes the options from its signature and the help from its docstring. Imports that
take seconds (torch, transformers) stand inside the functions, so that `page4d --help` answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import tyro

from .errors import Page4DError

COMMANDS: dict[str, Callable[..., Any]] = {}


def main(args: list[str] | None = None) -> None:
    """Entry point of the console script: errors about the input are one sentence on stderr and exit code 1."""
    try:
        tyro.extras.subcommand_cli_from_dict(COMMANDS, prog="page4d", description=__doc__, args=args)
    except Page4DError as error:
        print(f"page4d: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("page4d: interrupted; nothing was kept of what was being written.", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
