"""Runs a comparison: what is not done yet is checked, trained and evaluated; the table is written after each run."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from page4d_hf.errors import Page4DError
from page4d_hf.utils.folders import is_unused, whole_file, working_folder
from page4d_hf.utils.json_files import Record, read_json

from .checks import Facts, check
from .runs import Result, Run, RunFailed, program
from .table import Row, markdown, means_csv, rows_of, runs_csv
from .variants import Variant

MARK = "comparison.json"  # what makes a folder one of a comparison
TABLE, RUNS, MEANS = "table.md", "runs.csv", "means.csv"


def compare(
    variants: Sequence[Variant],
    output: Path,
    seeds: Sequence[int],
    steps: int,
    kind: Literal["initialisations", "methods"],
) -> list[Row]:
    """Train and evaluate each variant with each seed, leave out what is done, and write the tables.

    Args:
        variants: the rows of the table.
        output: the folder of the comparison. One that an interrupted comparison left is gone on with; rows and seeds
            may be added, other settings are refused.
        seeds: nerfstudio's --machine.seed of each run.
        steps: of each training.
        kind: what is compared; a folder holds one kind.

    Returns:
        The rows, with all that came out.

    Raises:
        Page4DError: the folder holds something else, runs with other settings, or another comparison that is under
            way; or an option is wrong. A run that fails raises nothing: its row says so.
    """
    if steps < 1:
        raise Page4DError(f"--steps must be at least 1, got {steps}.")
    if not seeds or len(set(seeds)) < len(seeds) or not all(0 <= seed < 2**32 for seed in seeds):
        raise Page4DError(
            f"--seeds must name at least one seed from 0 to 2^32 - 1, and none of them twice, got {list(seeds)}."
        )
    for name in ("ns-train", "ns-eval"):
        program(name)
    console = Console(stderr=True)
    with _folder_of_one(output, kind) as lock:
        output = Path(os.path.realpath(output))
        # Seed by seed: one that is interrupted has compared something.
        runs = [Run(output, variant, seed, steps) for seed in seeds for variant in variants]
        results = {run.folder: result for run in runs if (result := run.finished()) is not None}
        left = [run for run in runs if run.folder not in results]
        facts = _check(list({run.variant.name: run.variant for run in left}.values()), console)

        def collected() -> list[Row]:
            rows = rows_of(variants, [results[run.folder] for run in runs if run.folder in results])
            _write(output, rows)
            return rows

        for run in left:
            if facts[run.variant.name].refused:
                reason = facts[run.variant.name].refused
                results[run.folder] = Result(run.variant, run.seed, "refused", reason)
        collected()
        with _progress(console) as progress:
            overall = progress.add_task("runs", total=len(runs), completed=len(results))
            for run in left:
                if run.folder in results:
                    continue
                results[run.folder] = result = _run(run, steps, facts[run.variant.name], progress, lock)
                progress.advance(overall)
                progress.console.print(_sentence(result), markup=False, highlight=False, soft_wrap=True)
                collected()
        return collected()


def _run(run: Run, steps: int, facts: Facts, progress: Progress, lock: int) -> Result:
    task = progress.add_task(f"{run.variant.title}, seed {run.seed}", total=steps)
    try:
        kept = {name: value for name, value in facts._asdict().items() if name != "refused"}
        return run.execute(kept, lambda step: progress.update(task, completed=step), (lock,))
    except (RunFailed, Page4DError) as error:
        return Result(run.variant, run.seed, "failed", str(error))
    finally:
        progress.remove_task(task)


def _check(variants: Sequence[Variant], console: Console) -> dict[str, Facts]:
    def said(variant: Variant, facts: Facts) -> None:
        words = facts.refused or f"{facts.train_frames} frames to train on, {facts.seed_points:,} points"
        console.print(f"{variant.title}: {words}", markup=False, highlight=False, soft_wrap=True)

    return check(variants, said)


def _sentence(result: Result) -> str:
    start = f"{result.variant.title}, seed {result.seed}: "
    if result.status != "done":
        return f"{start}{result.reason}"
    psnr = result.figures.get("psnr")
    figure = "no PSNR" if psnr is None else f"PSNR {psnr:.2f}"
    return f"{start}{figure} after {(result.seconds or 0) / 60:.1f} minutes"


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console)


def _write(output: Path, rows: Sequence[Row]) -> None:
    for name, text in ((TABLE, markdown(rows)), (RUNS, runs_csv(rows)), (MEANS, means_csv(rows))):
        with whole_file(output / name, overwrite=True) as partial:
            partial.write_text(text, "utf8")


class _Mark(Record):
    """What a folder of a comparison holds."""

    compares: Literal["initialisations", "methods"]


@contextmanager
def _folder_of_one(output: Path, kind: str) -> Iterator[int]:
    """Make the folder, or go on with an earlier one, and keep other comparisons out of it.

    Yields:
        The descriptor of its lock, for the commands that are started: as long as one of them runs on, its program
        killed, nothing else may write where it writes.
    """
    _check_mark(output, kind)  # a folder of somebody else is not even locked
    with working_folder(output) as lock:
        _check_mark(output, kind)
        with whole_file(output / MARK, overwrite=True) as partial:
            partial.write_text(json.dumps({"compares": kind}), "utf8")
        yield lock


def _check_mark(output: Path, kind: str) -> None:
    try:
        if output.is_file() or is_unused(output):
            return
    except (OSError, ValueError):
        return  # `working_folder` says what is wrong with the name
    if not (output / MARK).is_file():
        raise Page4DError(f"The output folder {output} holds something else; name another one.")
    found = read_json(output / MARK, _Mark, error=Page4DError, remedy="name another --output").compares
    if found != kind:
        raise Page4DError(f"The output folder {output} holds a comparison of {found}, not {kind}; name another one.")
