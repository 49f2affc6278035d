"""Results of a comparison as a table for people and as CSV for programs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from page4d_hf.errors import Page4DError

from ..reporting.formats import NOTHING, markdown_table, pandas_library
from .training_run import Result
from .variants import Variant

NO_LPIPS = "LPIPS is left out: ns-eval gives none of these images, and eval.log of each run says why"
FACTS = ("seed_points", "train_frames", "held_out_frames", "path_error")  # of the data, that the CSV has


@dataclass(frozen=True)
class Column:
    """A number that each run has, or does not."""

    key: str  # in the CSV; of ns-eval's figures, or of `Result`
    title: str
    decimals: int
    scale: float = 1.0  # from the run's unit to the table's

    def of(self, result: Result) -> float | None:
        """The number of a run."""
        return vars(result).get(self.key, result.figures.get(self.key))


COLUMNS = (
    Column("psnr", "PSNR", 2),
    Column("ssim", "SSIM", 3),
    Column("lpips", "LPIPS", 3),
    Column("psnr_moving", "PSNR, moving", 2),
    Column("ssim_moving", "SSIM, moving", 3),
    Column("lpips_moving", "LPIPS, moving", 3),
    Column("psnr_static", "PSNR, static", 2),
    Column("seconds", "minutes", 1, 1 / 60),
    Column("steps_per_second", "steps/s", 1),
    Column("gaussians", "Gaussians", 0),
    Column("static_share", "static", 2),
)


@dataclass(frozen=True)
class Row:
    """A variant's runs together."""

    variant: Variant
    results: tuple[Result, ...]

    @property
    def done(self) -> list[Result]:
        """The runs that came to an end."""
        return [result for result in self.results if result.status == "done"]

    def summary(self, column: Column) -> tuple[float, float] | None:
        """Mean and sample standard deviation over the runs that have the figure, in the run's unit.

        None where no run has it.
        """
        values = [value for result in self.done if (value := column.of(result)) is not None]
        if not values:
            return None
        return fmean(values), deviation(values)


def deviation(values: Sequence[float]) -> float:
    """Sample standard deviation of some runs' figures.

    NaN of a single one, and where one is infinite, as the PSNR of pixels that are exactly right.
    """
    return stdev(values) if len(values) > 1 and all(map(math.isfinite, values)) else math.nan


def rows_of(variants: Sequence[Variant], results: Sequence[Result]) -> list[Row]:
    """The results by variant, in the variants' order."""
    return [Row(variant, tuple(r for r in results if r.variant.name == variant.name)) for variant in variants]


def markdown(rows: Sequence[Row]) -> str:
    """A Markdown table, with what it lacks explained underneath."""
    labels = list(rows[0].variant.labels)
    table = markdown_table(
        [*labels, *(column.title for column in COLUMNS), "runs"],
        [
            [*row.variant.labels.values(), *(_cell(row, column) for column in COLUMNS), str(len(row.done))]
            for row in rows
        ],
        labels=len(labels),
    )
    notes = _notes(rows)
    return f"{table}\n" + ("\n" + "\n".join(f"- {note}" for note in notes) + "\n" if notes else "")


def _cell(row: Row, column: Column) -> str:
    summary = row.summary(column)
    if summary is None:
        return NOTHING
    mean, deviation = (value * column.scale for value in summary)
    words = f"{mean:,.{column.decimals}f}"
    return words if math.isnan(deviation) else f"{words} ± {deviation:,.{column.decimals}f}"


def why_missing(row: Row) -> list[str]:
    """Why runs of a row have no figures, a sentence for each."""
    notes = []
    for result in row.results:
        if result.status == "refused":
            notes.append(f"{row.variant.title}: unavailable: {result.reason}")
        elif result.status == "failed":
            notes.append(f"{row.variant.title}, seed {result.seed}: failed: {result.reason}")
    return notes


def check_outcome(rows: Iterable[Row], table: Path) -> None:
    """Refuse to call a comparison a success whose runs failed, or of which nothing came; `table` has all rows."""
    statuses = [result.status for row in rows for result in row.results]
    if set(statuses) <= {"refused"}:
        raise Page4DError(f"None of the rows is available; why is said under the table (also in {table}).")
    failed = statuses.count("failed")
    if failed:
        raise Page4DError(
            f"{failed} of {len(statuses)} runs failed, see under the table (also in {table}); the same command again "
            "tries them once more."
        )


def _notes(rows: Sequence[Row]) -> list[str]:
    notes = []
    for row in rows:
        notes += why_missing(row)
        errors = {result.facts.get("path_error") for result in row.done} - {None}
        notes += [f"{row.variant.title}: after Sim(3), PAGE-4D's camera path is off by {e:.1%}" for e in errors]
    done = [result for row in rows for result in row.done]
    if any(len(row.done) > 1 for row in rows):
        notes.append("± is the sample standard deviation over seeds")
    if done:
        notes.append("minutes: ns-train from its start to its end, without PAGE-4D's reconstruction")
    if not all("lpips" in result.figures for result in done):
        notes.append(NO_LPIPS)
    if not all(result.facts.get("knows_motion", True) for result in done):
        notes.append("moving: a capture without motion masks of its held-out frames has no such figures")
    return list(dict.fromkeys(notes))


def runs_csv(rows: Sequence[Row]) -> str:
    """One line for each run, with all figures of its ns-eval, digit for digit."""
    results = [result for row in rows for result in row.results]
    figures = sorted({name for result in results for name in result.figures})
    own = ("seed", "status", "reason", "seconds", "steps_per_second", "gaussians", "static_share")
    return _csv(
        {
            **result.variant.labels,
            "method": result.variant.method,
            **{name: getattr(result, name) for name in own},
            **{name: result.facts.get(name) for name in FACTS},
            **{name: result.figures.get(name) for name in figures},
        }
        for result in results
    )


def means_csv(rows: Sequence[Row]) -> str:
    """One line for each variant: means, and sample standard deviations over seeds, empty for a single run."""
    names = [(column, column.key, f"{column.key}_std") for column in COLUMNS]
    return _csv(
        {
            **row.variant.labels,
            "runs": len(row.done),
            **{
                name: value
                for column, *both in names
                for name, value in zip(both, row.summary(column) or (None, None), strict=True)
            },
        }
        for row in rows
    )


def _csv(records: Iterable[dict[str, object]]) -> str:
    # As objects: numbers are written as Python has them, and a missing one makes no float of its column.
    frame = pandas_library().DataFrame(list(records), dtype=object)
    text: str = frame.to_csv(index=False, lineterminator="\n")
    return text
