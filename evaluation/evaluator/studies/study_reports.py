"""Options, progress and output folder that the study programs share."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from page4d_hf.utils.folders import claimed_folder, whole_folder
from page4d_hf.utils.programs import input_errors_end_the_program
from page4d_hf.utils.progress import progress_bar


@dataclass
class StudyOptions:
    """Options of a study: the network, and the folder of the report."""

    model: str
    """A folder for from_pretrained, or a name on the Hub."""
    output: Path
    """The folder to make."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:<number>."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of the encoder and the aggregator."""
    overwrite: bool = False
    """Replace the folder of an earlier report."""


@dataclass
class StudyReport:
    """A study's results."""

    record: dict[str, Any]  # the JSON
    text: str  # the tables
    draw: Callable[[Path], None] = lambda folder: None  # writes the pictures


OptionsT = TypeVar("OptionsT", bound=StudyOptions)
ClipT = TypeVar("ClipT")


def write_report(options: OptionsT, name: str, study: Callable[[OptionsT], StudyReport]) -> dict[str, Any]:
    """Claim the folder, make the study, and write `name.json`, `name.md` and the pictures.

    Returns:
        What the JSON holds; the same options give the same.
    """
    with claimed_folder(options.output, overwrite=options.overwrite):
        report = study(options)
        with whole_folder(options.output, overwrite=options.overwrite) as folder:
            (folder / f"{name}.json").write_text(json.dumps(report.record, indent=1, allow_nan=False) + "\n", "utf8")
            (folder / f"{name}.md").write_text(report.text, "utf8")
            report.draw(folder)
    return report.record


def with_progress(clips: Iterable[ClipT], count: int) -> Iterator[ClipT]:
    """What is done with each of `count` clips, and a progress bar meanwhile."""
    with progress_bar() as report:
        report("clips", 0, count)
        for done, each in enumerate(clips, 1):
            yield each
            report("clips", done, count)


def left_out(clips: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a report says, line by line, of clips that were excluded, and what is to be known of the others."""
    excluded = [clip["excluded"] for clip in clips if clip["excluded"] is not None]
    notes = [note for clip in clips for note in clip["notes"]]
    lines = [f"Excluded, {len(excluded)} of {len(clips)} clips:", "", *(f"- {reason}" for reason in excluded), ""]
    return lines * bool(excluded) + [*(f"- {note}" for note in notes), ""] * bool(notes)


def run_program(
    program: str,
    name: str,
    arguments: Sequence[str] | None,
    options_from: Callable[[list[str]], OptionsT],
    run: Callable[[OptionsT], object],
) -> None:
    """Parse the options, run, and print the tables; errors about the input end in one sentence and exit code 1."""
    with input_errors_end_the_program(program):
        options = options_from(sys.argv[1:] if arguments is None else list(arguments))
        run(options)
    print((options.output / f"{name}.md").read_text("utf8"))
    print(f"Wrote {options.output}.")
