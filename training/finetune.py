"""Fine-tune PAGE-4D, or train a network of its kind from random weights.

    accelerate launch training/finetune.py --model page4d --dataset clips/odyssey clips/tum --output runs/mine

The same command again goes on after an interruption, exactly where the last checkpoint was. `--options FILE` starts
from the options in a JSON file, such as a run's `run.json` or one of training/recipes; others override them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import tyro

from page4d_hf.errors import Page4DError


def main(arguments: list[str] | None = None) -> None:
    """Entry point: errors about the input are one sentence on stderr and exit code 1."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        from finetuning.options import Options, from_json

        default = None
        if "--options" in arguments:
            place = arguments.index("--options")
            if place + 1 == len(arguments):
                raise Page4DError("--options needs the path of a JSON file.")
            default = from_json(Path(arguments[place + 1]))
            arguments = arguments[:place] + arguments[place + 2 :]
        options = tyro.cli(Options, args=arguments, description=__doc__, default=default)
        from finetuning.run import Finetuning

        Finetuning(options).run()
    except Page4DError as error:
        print(f"finetune: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
