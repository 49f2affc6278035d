"""The progress bar of all programs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

Progress = Callable[[str, int, int], None]
"""Called as `progress(stage, done, total)`; a stage begins with `done` at 0 and ends with `done == total`."""

SECONDS_BETWEEN_LINES = 60  # where stderr is no terminal


class Report(Protocol):
    """A `Progress` that also takes a note, which stands behind the numbers."""

    def __call__(self, stage: str, done: int, total: int, note: str = "", /) -> None:
        """Say that `done` of `total` steps of a stage are done."""


@contextmanager
def progress_bar(*, shown: bool = True) -> Iterator[Report]:
    """A bar on stderr for each stage, in the order in which stages begin; in a file, a line at most every minute.

    Gives what is to be called with what is done. A stage that begins again starts its bar again. Not `shown` are those
    of all processes of a distributed run but the first.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("{task.description:<20}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        TimeElapsedColumn(),
    )
    with RichProgress(*columns, console=Console(stderr=True), disable=not shown) as progress:
        tasks: dict[str, TaskID] = {}
        told = time.monotonic()

        def report(stage: str, done: int, total: int, note: str = "", /) -> None:
            nonlocal told
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage, total=total, completed=done, note=note)
            progress.update(tasks[stage], completed=done, total=total, note=note)
            if shown and not progress.console.is_terminal and time.monotonic() - told >= SECONDS_BETWEEN_LINES:
                told = time.monotonic()
                progress.console.print(f"{stage} {done}/{total} {note}".rstrip(), markup=False, highlight=False)

        yield report
