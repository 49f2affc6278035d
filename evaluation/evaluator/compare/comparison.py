"""Runs a comparison: what is not done yet is checked, trained and evaluated; the table is written after each run."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from page4d_hf.errors import Page4DError
from page4d_hf.utils.folders import whole_file
from page4d_hf.utils.progress import progress_bar

from ..reporting.formats import pandas_library
from ..run_folder import entered_folder
from .comparison_tables import Row, markdown, means_csv, rows_of, runs_csv
from .training_run import Result, RunFailed, TrainingRun, program
from .variant_data import Facts, check
from .variants import Variant

Kind = Literal["initialisations", "methods", "tracks"]
TABLE, RUNS, MEANS = "table.md", "runs.csv", "means.csv"


def compare(
    variants: Sequence[Variant],
    output: Path,
    seeds: Sequence[int],
    steps: int,
    kind: Kind,
) -> list[Row]:
    """Train and evaluate each variant with each seed, leave out what is done, and write the tables.

    A folder that an interrupted comparison left is gone on with. Rows and seeds may be added; other settings, and
    another kind of comparison, are refused.
    """
    if steps < 1:
        raise Page4DError(f"--steps must be at least 1, got {steps}.")
    if not seeds or len(set(seeds)) < len(seeds) or not all(0 <= seed < 2**32 for seed in seeds):
        raise Page4DError(
            f"--seeds must name at least one seed from 0 to 2^32 - 1, and none of them twice, got {list(seeds)}."
        )
    for name in ("ns-train", "ns-eval"):
        program(name)
    pandas_library()  # refused now if it is missing, not after the first training
    # The lock is for the commands that are started: as long as one of them runs on, its program killed, nothing else
    # may write where it writes.
    with entered_folder(output, {"task": f"compare {kind}"}) as lock:
        output = Path(os.path.realpath(output))
        # Seed by seed: one that is interrupted has compared something.
        runs = [TrainingRun(output, variant, seed, steps) for seed in seeds for variant in variants]
        results = {run.folder: result for run in runs if (result := run.finished()) is not None}
        left = [run for run in runs if run.folder not in results]
        facts = check(list({run.variant.name: run.variant for run in left}.values()), _say_facts)

        def collected() -> list[Row]:
            rows = rows_of(variants, [results[run.folder] for run in runs if run.folder in results])
            for name, text in ((TABLE, markdown(rows)), (RUNS, runs_csv(rows)), (MEANS, means_csv(rows))):
                with whole_file(output / name, overwrite=True) as partial:
                    partial.write_text(text, "utf8")
            return rows

        for run in left:
            if refused := facts[run.variant.name].refused:
                results[run.folder] = Result(run.variant, run.seed, "refused", refused)
        collected()
        with progress_bar() as report:
            report("runs", len(results), len(runs))
            for run in left:
                if run.folder not in results:
                    results[run.folder] = result = _result_of(run, steps, facts[run.variant.name], report, lock)
                    report("runs", len(results), len(runs))
                    print(_sentence(result), file=sys.stderr)
                    collected()
        return collected()


def _result_of(
    run: TrainingRun, steps: int, facts: Facts, report: Callable[[str, int, int], None], lock: int
) -> Result:
    try:
        kept = {name: value for name, value in facts._asdict().items() if name != "refused"}
        return run.execute(kept, lambda step: report("steps", step, steps), (lock,))
    except (RunFailed, Page4DError) as error:
        return Result(run.variant, run.seed, "failed", str(error))


def _say_facts(variant: Variant, facts: Facts) -> None:
    words = facts.refused or f"{facts.train_frames} frames to train on, {facts.seed_points:,} points"
    print(f"{variant.title}: {words}", file=sys.stderr)


def _sentence(result: Result) -> str:
    start = f"{result.variant.title}, seed {result.seed}: "
    if result.status != "done":
        return f"{start}{result.reason}"
    psnr = result.figures.get("psnr")
    figure = "no PSNR" if psnr is None else f"PSNR {psnr:.2f}"
    return f"{start}{figure} after {(result.seconds or 0) / 60:.1f} minutes"
