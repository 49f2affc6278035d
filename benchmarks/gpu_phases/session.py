"""What a phase is told, and where it leaves its figures: a line of JSON for each, written as soon as it is known."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

# Nothing but the standard library: it is imported before anything has been installed.


class OutOfTime(Exception):
    """There is no time left for what was to be done next; the message names it."""


@dataclass(frozen=True)
class Session:
    """One phase of one run."""

    phase: str
    output: str  # folder of the run
    deadline: float  # as time.time() has it; the phase is killed then
    device: str  # "cuda", or "cpu" for a toy run
    toy: bool
    data: str | None  # a capture to train on; None makes a synthetic one

    @property
    def folder(self) -> Path:
        """A folder of its own for whatever the phase makes."""
        path = Path(self.output) / "work" / self.phase
        path.mkdir(parents=True, exist_ok=True)
        return path

    def seconds_left(self) -> float:
        """Until the phase is killed."""
        return self.deadline - time.time()

    def needs(self, seconds: float, what: str) -> None:
        """Raise OutOfTime where fewer seconds are left than `what` is expected to take."""
        left = self.seconds_left()
        if left < seconds:
            raise OutOfTime(f"{what} would take about {seconds:.0f} s, {max(left, 0):.0f} s were left")

    def row(self, name: str) -> dict[str, Any] | None:
        """The row of that name, of this run or an earlier one, if it was left whole."""
        rows = [row for row in rows_of(self.output, self.phase) if row["name"] == name and not row.get("cut short")]
        return rows[-1] if rows else None

    def has(self, name: str) -> bool:
        """Whether there is such a row."""
        return self.row(name) is not None

    def add(self, name: str, **figures: Any) -> None:
        """Leave a row; names of figures are the columns' titles."""
        row = {"name": name, **figures}
        add_rows(self.output, self.phase, [row])
        print(row, flush=True)

    def as_json(self) -> str:
        return json.dumps(asdict(self))


def rows_of(output: str | Path, phase: str) -> list[dict[str, Any]]:
    """The rows that a phase has left so far, in their order; a line that is not whole yet is left out."""
    path = _rows_file(output, phase)
    lines = path.read_text("utf-8").split("\n")[:-1] if path.is_file() else []
    return [json.loads(line) for line in lines]


def add_rows(output: str | Path, phase: str, rows: list[dict[str, Any]]) -> None:
    """Add rows to what a phase has left."""
    with open(_rows_file(output, phase), "a", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def _rows_file(output: str | Path, phase: str) -> Path:
    return Path(output) / f"{phase}.jsonl"
