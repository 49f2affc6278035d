"""Results as tables, in Markdown and LaTeX, with the paper's figures beside them.

A table is of one task on one data set under one protocol, which it prints, and names every sequence that it leaves out.
Runs that differ in protocol or in what they were made on never share a table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from page4d_hf.utils.folders import whole_file
from page4d_hf.utils.programs import counted

from .. import trivial
from ..inference import Inference
from ..metrics.scores import EvaluationError
from ..run_folder import RESULT, read_result
from .formats import NOTHING, latex_table, latex_text, markdown_table, spread
from .paper_figures import REMARKS, paper_rows

PAPER = "paper"  # instead of sequences that count, in rows of published figures
PAPERS_PROTOCOL = "page4d"
IN_OWN_UNITS = ("nerfies",)  # data sets that are not in metres
TASK_TITLES = {
    "video-depth": "Video depth",
    "mono-depth": "Monocular depth",
    "pose": "Camera pose",
    "points": "Point maps",
}
DATASET_TITLES = {
    "sintel": "MPI Sintel",
    "bonn": "Bonn RGB-D dynamic",
    "tum": "TUM RGB-D",
    "dycheck": "DyCheck",
    "point-odyssey": "PointOdyssey",
    "nerfies": "Nerfies",
}
# What a result must share with another to stand in its table.
SHARED = ("task", "dataset", "protocol", "selection")


@dataclass(frozen=True)
class Column:
    """A figure as a column."""

    key: str  # in `SequenceScores.figures`
    title: str
    decimals: int = 3


_DEPTH = tuple(
    Column(f"{prefix}{figure}{region}", f"{title}{region.replace('_', ', ')}{alignment} {better}")
    for region in ("", "_static", "_dynamic")
    for prefix, alignment in (("", ""), ("scale&shift/", ", scale&shift"))
    for figure, title, better in (("abs_rel", "Abs Rel", "↓"), ("delta_1.25", "δ<1.25", "↑"))
)
# Those that the paper prints, and static and moving regions apart; all others are in `result.json`.
COLUMNS: dict[str, tuple[Column, ...]] = {
    "video-depth": _DEPTH,
    "mono-depth": _DEPTH,
    "pose": (
        Column("ate", "ATE (m) ↓"),
        Column("rpe_translation", "RPE trans (m) ↓"),
        Column("rpe_rotation", "RPE rot (°) ↓"),
    ),
    "points": tuple(
        Column(f"{figure}_{kind}{region}", f"{title} {kind}{region.replace('_', ', ')} ↓")
        for region in ("", "_static", "_dynamic")
        for figure, title in (("accuracy", "Acc"), ("completion", "Comp"), ("overall", "Overall"))
        for kind in ("mean", "median")
    ),
}


@dataclass(frozen=True)
class Row:
    """A method's figures."""

    method: str
    figures: dict[str, float]
    sequences: str  # how many count, of how many; "paper" for published figures


@dataclass(frozen=True)
class Table:
    """A table, ready to be written in any format."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    per_sequence: tuple[Row, ...]  # of the first run; its column of sequences counts frames
    notes: tuple[str, ...]


def write_tables(folder: Path, result: dict[str, Any]) -> None:
    """Write `table.md` and `table.tex` into a run's folder.

    Other runs in the folders beside it stand in the same table where they evaluate the same under the same protocol,
    such as the same weights with the mask off.
    """
    table = make_table([result, *results_beside(folder, result)])
    for name, text in (("table.md", markdown(table)), ("table.tex", latex(table))):
        with whole_file(folder / name, overwrite=True) as partial:
            partial.write_text(text, encoding="utf-8")


def results_beside(folder: Path, result: dict[str, Any]) -> list[dict[str, Any]]:
    """Results in the folders beside one that may share its table, in the order of the folders' names."""
    place = folder.resolve()
    found: list[dict[str, Any]] = []
    for path in sorted(place.parent.glob(f"*/{RESULT}")):
        if path.parent != place:
            try:
                other = read_result(path.parent)
            except EvaluationError:
                continue  # of another program, or damaged: its own command says so
            if not _differing(result, other) and other not in (result, *found):  # the same run again is no other row
                found.append(other)
    return found


def _differing(result: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """In what two results differ that must be the same for one table."""
    return [name for name in SHARED if result.get(name) != other.get(name)]


def make_table(results: Sequence[dict[str, Any]]) -> Table:
    """The table of some results, with the paper's rows above them."""
    first = results[0]
    for other in results[1:]:
        if differing := _differing(first, other):
            raise EvaluationError(
                f"Results of different {' and '.join(differing)} don't go into one table: {_name(first)} and "
                f"{_name(other)}."
            )
    task, dataset, protocol = first["task"], first["dataset"], first["protocol"]["name"]
    published = paper_rows(task, dataset)
    rows = [Row(method, figures, PAPER) for method, figures in published.items()]
    for result in results:
        counted, left_out = len(result["sequences"]), len(result["excluded"])
        rows.append(Row(_name(result), result["averages"], f"{counted} of {counted + left_out}"))
    per_sequence = [
        Row(each["name"], each["figures"], str(each["counts"].get("frames", NOTHING))) for each in first["sequences"]
    ]
    present = {key for row in rows for key in row.figures}
    columns = tuple(column for column in COLUMNS.get(task, ()) if column.key in present)
    if dataset in IN_OWN_UNITS:
        columns = tuple(replace(column, title=column.title.replace(" (m)", "")) for column in columns)
    title = f"{TASK_TITLES.get(task, task)} on {DATASET_TITLES.get(dataset, dataset)}, protocol {protocol}"
    return Table(title, columns, tuple(rows), tuple(per_sequence), tuple(_notes(results, bool(published))))


def _name(result: dict[str, Any]) -> str:
    model = result.get("model")
    if model is None:
        return str(result.get("method"))
    words = [
        str(result.get("method")),
        "which has no mask" if model["mask"] == "none" else f"mask {model['mask']}",
    ]
    width = result["inference"]["resolution"]
    if width != Inference.resolution:
        words.append(f"{width} pixels wide")  # not as the protocol has it
    return ", ".join(words)


def _notes(results: Sequence[dict[str, Any]], has_paper: bool) -> list[str]:
    first = results[0]
    notes = [*first["protocol"]["text"].splitlines(), f"Frames: {first['selection']['text']}"]
    if has_paper:
        is_theirs = first["protocol"]["name"] == PAPERS_PROTOCOL
        notes.append(
            "Rows marked paper are as published in arXiv 2510.17568v6, and not measured by this program. "
            + (
                "The protocol is theirs as far as paper and release tell it."
                if is_theirs
                else f"They were not made under this protocol ({PAPERS_PROTOCOL} is theirs), and cannot be compared to "
                "the others."
            )
        )
        if is_theirs and not first["selection"]["published"]:
            notes.append("These are not the paper's sequences and frames: its rows cannot be compared to the others.")
        if any(result["excluded"] for result in results):
            notes.append(
                "Averages over some of the sequences alone cannot be compared to the paper's, which are over all."
            )
    notes += REMARKS.get((first["task"], first["dataset"]), ())
    for number, result in enumerate(results, start=1):
        name, model = _name(result), result.get("model")
        others = _of_other_data(first, result)
        if others:
            notes.append(
                f"Row {number}, {name}: not to be compared with row 1, {_name(first)}, as it was made on other files "
                f"of {counted(len(others), 'sequence')} ({others[0]} the first); run it again."
            )
        if model is not None:
            notes.append(
                f"{name}: {model['name']}, {model['revision']}, {model['dtype']} on {model['device']}. "
                f"{result['inference']['text']}"
            )
        elif result.get("trivial"):
            notes.append(f"{name}: {trivial.WORDS}" + (f" {trivial.WORDS_OF_POSE}" if result["task"] == "pose" else ""))
        else:
            notes.append(f"{name}: scored from saved predictions.")
        excluded = result["excluded"]
        if excluded:
            notes.append(f"{name}: {len(excluded)} excluded: {_reasons(excluded)}")
        told = [f"{each['name']}: {note}" for each in result["sequences"] for note in each["notes"]]
        notes += [f"{name}: {sentence}" for sentence in told]
    return list(dict.fromkeys(notes))


def _of_other_data(result: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Sequences that two results have in common, but with other frames, cameras, images, depth or masks."""
    digests = result.get("data", {})
    return [name for name, digest in other.get("data", {}).items() if digests.get(name, digest) != digest]


def _reasons(excluded: dict[str, str]) -> str:
    by_reason: dict[str, list[str]] = {}
    for name, reason in excluded.items():
        by_reason.setdefault(reason, []).append(name)
    return "; ".join(f"{', '.join(names)} ({reason.rstrip('.')})" for reason, names in by_reason.items()) + "."


# --------------------------------------------------------------------------------------------------------------------
# Formats


def markdown(table: Table) -> str:
    """The table in Markdown, with the sequences' own figures and the notes below."""
    parts = [f"## {table.title}", "", markdown_table(_head(table, "method", "sequences"), _body(table, table.rows))]
    if table.per_sequence:
        own = next(row.method for row in table.rows if row.sequences != PAPER)
        lines = markdown_table(_head(table, "sequence", "frames"), _body(table, table.per_sequence))
        parts += ["", f"### {own}, each sequence", "", lines]
    return "\n".join([*parts, "", *(f"- {' '.join(note.split())}" for note in table.notes)]) + "\n"


def latex(table: Table) -> str:
    """The table in LaTeX, for the package booktabs; the notes are in its caption."""
    lines = latex_table(_head(table, "Method", "Sequences"), _body(table, table.rows)).splitlines()
    published = sum(row.sequences == PAPER for row in table.rows)
    if 0 < published < len(table.rows):
        lines.insert(lines.index(r"\midrule") + 1 + published, r"\midrule")  # the paper's rows stand first
    caption = latex_text(" ".join([f"{table.title}.", *(" ".join(note.split()) for note in table.notes)]))
    return "\n".join([r"\begin{table}", r"\centering", *lines, rf"\caption{{{caption}}}", r"\end{table}", ""])


def _head(table: Table, first: str, last: str) -> list[str]:
    return [first, *(column.title for column in table.columns), last]


def _body(table: Table, rows: Sequence[Row]) -> list[list[str]]:
    return [
        [
            row.method,
            *(spread(row.figures.get(each.key), f".{each.decimals}f") for each in table.columns),
            row.sequences,
        ]
        for row in rows
    ]
