"""Evaluate PAGE-4D, or any method's saved predictions, on published data sets.

    python evaluation/evaluate.py video-depth --model page4d --dataset sintel --data-root sintel/ --output runs/sintel
    accelerate launch evaluation/evaluate.py pose --model page4d --dataset tum --data-root tum/ --output runs/tum
    python evaluation/evaluate.py pose --predictions monst3r/ --dataset tum --data-root tum/ --output runs/monst3r

The same command again goes on after an interruption. docs/evaluation.md says what is written.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import tyro
from evaluator.evaluation import Evaluation, EvaluationOptions
from evaluator.reporting.tables import latex, make_table, markdown

from page4d_hf.errors import Page4DError
from page4d_hf.utils.programs import input_errors_end_the_program

Flat = tyro.conf.OmitArgPrefixes[EvaluationOptions]


def video_depth(options: Flat) -> None:
    """Depth of videos, one scale (and shift) for each: the paper's Tables 1 and 5."""
    _evaluate("video-depth", options)


def mono_depth(options: Flat) -> None:
    """Depth of single frames: the paper's Table 1, below."""
    _evaluate("mono-depth", options)


def pose(options: Flat) -> None:
    """Cameras' trajectories: the paper's Table 2."""
    _evaluate("pose", options)


def points(options: Flat) -> None:
    """Point maps: the paper's Table 3."""
    _evaluate("points", options)


def table(
    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN ...", help_behavior_hint="")],
    output: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Put finished runs of one task, data set and protocol into one table.

    Args:
        runs: the runs' folders.
        output: a file to write, .md or .tex; by default Markdown is printed.
        overwrite: replace a file that is there.
    """
    from evaluator.run_folder import read_result

    from page4d_hf.utils.folders import whole_file

    if not runs:
        raise Page4DError("table needs the folder of at least one run.")
    if output is not None and output.suffix not in (".md", ".tex"):
        raise Page4DError(f"--output must end in .md or .tex, got {output}.")
    made = make_table([read_result(run) for run in runs])
    if output is None:
        print(markdown(made), end="")
        return
    with whole_file(output, overwrite=overwrite) as partial:
        partial.write_text(latex(made) if output.suffix == ".tex" else markdown(made), encoding="utf-8")
    print(f"Wrote {output}.")


COMMANDS: dict[str, Callable[..., Any]] = {
    "video-depth": video_depth,
    "mono-depth": mono_depth,
    "pose": pose,
    "points": points,
    "table": table,
}


def _evaluate(task: str, options: EvaluationOptions) -> None:
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    result = Evaluation(task, options).run()
    if result:
        print((options.output / "table.md").read_text(encoding="utf-8"), end="")


def main(arguments: list[str] | None = None) -> None:
    """Entry point: errors about the input are one sentence on stderr and exit code 1."""
    with input_errors_end_the_program("evaluate", "the same command goes on with what is left."):
        tyro.extras.subcommand_cli_from_dict(COMMANDS, prog="evaluate.py", description=__doc__, args=arguments)


if __name__ == "__main__":
    main()
