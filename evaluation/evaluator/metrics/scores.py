"""Scores of a sequence, and the errors of evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from page4d_hf.errors import Page4DError


class EvaluationError(Page4DError):
    """An evaluation that cannot be made as asked: the caller has something to correct."""


class ExclusionError(EvaluationError):
    """A sequence that has no figures under a protocol, for the reason that the message gives.

    `tasks.score` turns it into `SequenceScores.excluded`, so that the sequence is counted and named; whoever calls a
    metric by itself sees it raised.
    """


@dataclass
class SequenceScores:
    """Figures of one sequence, or why it has none."""

    name: str
    figures: dict[str, float]  # "abs_rel", "delta_1.25", "abs_rel_static", "ate", "accuracy_mean", ...; finite
    weight: float  # of this sequence in averages, as its protocol says: its valid pixels, or 1
    counts: dict[str, int]  # "frames", "frames_left_out", "pixels", ...
    excluded: str | None = None  # why the sequence does not count; figures is then empty
    notes: list[str] = field(default_factory=list)


class ClipOutcome(Protocol):
    """The outcome of a clip."""

    @property
    def excluded(self) -> str | None:
        """Reason for excluding the clip; None where it counts."""


OutcomeT = TypeVar("OutcomeT", bound=ClipOutcome)


def not_excluded(outcomes: Sequence[OutcomeT], done: str) -> list[OutcomeT]:
    """Those that count; `done` is what cannot be done to the clips where none counts, for the message: "scored"."""
    counted = [each for each in outcomes if each.excluded is None]
    if not counted:
        reasons = "; ".join(each.excluded or "" for each in outcomes[:3])
        raise EvaluationError(f"None of the {len(outcomes)} clips can be {done}: {reasons}")
    return counted
