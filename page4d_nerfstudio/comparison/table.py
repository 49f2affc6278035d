"""Results of a comparison as a table for people and as CSV for programs."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from .runs import Result
from .variants import Variant

NOTHING = "-"


@dataclass(frozen=True)
class Column:
    """A number that each run has, or does not."""

    key: str  # in the CSV
    title: str
    decimals: int
    of: Callable[[Result], float | None]
    scale: float = 1.0  # from the run's unit to the table's


def _figure(name: str) -> Callable[[Result], float | None]:
    return lambda result: result.figures.get(name)


COLUMNS = (
    Column("psnr", "PSNR", 2, _figure("psnr")),
    Column("ssim", "SSIM", 3, _figure("ssim")),
    Column("lpips", "LPIPS", 3, _figure("lpips")),
    Column("psnr_moving", "PSNR, moving", 2, _figure("psnr_moving")),
    Column("ssim_moving", "SSIM, moving", 3, _figure("ssim_moving")),
    Column("lpips_moving", "LPIPS, moving", 3, _figure("lpips_moving")),
    Column("seconds", "minutes", 1, lambda result: result.seconds, 1 / 60),
    Column("gaussians", "Gaussians", 0, lambda result: result.gaussians),
    Column("static_share", "static", 2, lambda result: result.static_share),
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

        None where no run has it; a single run has a deviation of NaN.
        """
        values = [value for result in self.done if (value := column.of(result)) is not None]
        if not values:
            return None
        return fmean(values), stdev(values) if len(values) > 1 else math.nan


def rows_of(variants: Sequence[Variant], results: Sequence[Result]) -> list[Row]:
    """The results by variant, in the variants' order."""
    return [Row(variant, tuple(r for r in results if r.variant.name == variant.name)) for variant in variants]


def markdown(rows: Sequence[Row]) -> str:
    """A Markdown table, with what it lacks explained underneath."""
    labels = list(rows[0].variant.labels)
    lines = [
        _line([*labels, *(column.title for column in COLUMNS), "runs"]),
        _line(["---"] * len(labels) + ["---:"] * (len(COLUMNS) + 1)),
    ]
    for row in rows:
        words = [row.variant.labels[label] for label in labels]
        cells = [_cell(row, column) for column in COLUMNS] if row.done else [NOTHING] * len(COLUMNS)
        lines.append(_line([*words, *cells, str(len(row.done))]))
    notes = list(_notes(rows))
    return "\n".join(lines) + "\n" + ("\n" + "\n".join(f"- {note}" for note in notes) + "\n" if notes else "")


def _cell(row: Row, column: Column) -> str:
    summary = row.summary(column)
    if summary is None:
        return NOTHING
    mean, spread = (value * column.scale for value in summary)
    words = f"{mean:,.{column.decimals}f}"
    return words if math.isnan(spread) else f"{words} ± {spread:,.{column.decimals}f}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _notes(rows: Sequence[Row]) -> list[str]:
    notes = []
    for row in rows:
        for result in row.results:
            if result.status == "refused":
                notes.append(f"{row.variant.title}: not to be had: {result.reason}")
            elif result.status == "failed":
                notes.append(f"{row.variant.title}, seed {result.seed}: failed: {result.reason}")
        errors = {result.facts.get("path_error") for result in row.done} - {None}
        notes += [f"{row.variant.title}: after Sim(3), PAGE-4D's camera path is off by {e:.1%}" for e in errors]
    done = [result for row in rows for result in row.done]
    if any(len(row.done) > 1 for row in rows):
        notes.append("± is the sample standard deviation over seeds")
    if done:
        notes.append("minutes: ns-train from its start to its end, without PAGE-4D's reconstruction")
    if done and not all("lpips" in result.figures for result in done):
        why = next((result.without_lpips for result in done if result.without_lpips), "")
        notes.append(why or "LPIPS is left out: ns-eval gives none of these images (they may be too small for it)")
    if done and not all(result.facts.get("knows_motion", True) for result in done):
        notes.append("moving: a capture without motion masks of its held-out frames has no such figures")
    return list(dict.fromkeys(notes))


def runs_csv(rows: Sequence[Row]) -> str:
    """One line for each run, with all figures of its ns-eval, digit for digit."""
    results = [result for row in rows for result in row.results]
    labels = list(rows[0].variant.labels)
    figures = sorted({name for result in results for name in result.figures})
    facts = ["seed_points", "train_frames", "held_out_frames", "path_error"]
    own = ("method", "seed", "status", "reason", "seconds", "gaussians", "static_share")
    table: list[list[object]] = [[*labels, *own, *facts, *figures]]
    for result in results:
        head = [*result.variant.labels.values(), result.variant.method, result.seed, result.status, result.reason]
        numbers = [result.seconds, result.gaussians, result.static_share, *(result.facts.get(name) for name in facts)]
        table.append([*head, *map(_number, numbers), *(_number(result.figures.get(name)) for name in figures)])
    return _csv(table)


def means_csv(rows: Sequence[Row]) -> str:
    """One line for each variant: means, and sample standard deviations over seeds, empty for a single run."""
    keys = [name for column in COLUMNS for name in (column.key, f"{column.key}_std")]
    table: list[list[object]] = [[*rows[0].variant.labels, "runs", *keys]]
    for row in rows:
        numbers = [number for column in COLUMNS for number in (row.summary(column) or (None, None))]
        table.append([*row.variant.labels.values(), len(row.done), *map(_number, numbers)])
    return _csv(table)


def _number(value: float | None) -> str:
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else repr(value)


def _csv(table: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(table)
    return text.getvalue()
