"""Fine-tune PAGE-4D, or train a network of its kind from random weights.

    accelerate launch training/finetune.py --model page4d --dataset clips/odyssey clips/tum --output runs/mine

The same command again goes on after an interruption, exactly where the last checkpoint was. `--options FILE` starts
from the options in a JSON file, such as a run's `run.json` or one of training/recipes; others override them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import tyro

from page4d_hf.errors import Page4DError
from page4d_hf.utils.programs import input_errors_end_the_program


def main(arguments: list[str] | None = None) -> None:
    """Entry point: errors about the input are one sentence on stderr and exit code 1."""
    arguments = sys.argv[1:] if arguments is None else arguments
    with input_errors_end_the_program("finetune", "the same command goes on from the newest checkpoint."):
        from finetuning.options import Options, defaults_from_json

        path, arguments = taken_out(arguments)
        defaults: Any = None
        if path is not None:
            given = {argument.partition("=")[0] for argument in arguments}
            # A training starts from one of the two: that of the command line replaces that of the file.
            starts = {"--model": "network", "--network": "model"}
            defaults = defaults_from_json(path, [other for start, other in starts.items() if start in given])
        options = tyro.cli(Options, args=arguments, description=__doc__, default=defaults)
        from finetuning.machine import run_folder

        with run_folder(options.output):
            from finetuning.run import Finetuning

            Finetuning(options).run()


def taken_out(arguments: list[str]) -> tuple[Path | None, list[str]]:
    """The value of `--options`, and the arguments without it."""
    for place, argument in enumerate(arguments):
        if argument == "--options":
            if place + 1 == len(arguments):
                raise Page4DError("--options needs the path of a JSON file.")
            return Path(arguments[place + 1]), arguments[:place] + arguments[place + 2 :]
        if argument.startswith("--options="):
            return Path(argument.partition("=")[2]), arguments[:place] + arguments[place + 1 :]
    return None, arguments


if __name__ == "__main__":
    main()
