"""The folder of a run: what it was made by, a file for each sequence, and the result.

    run.json                    task, data set, protocol, model and versions: all that decides a figure
    sequences/<sequence>.json   scores of one sequence
    predictions/<sequence>.npz  with --keep-predictions
    plots/<sequence>/           with --plots
    result.json                 run.json's values, the averages, the sequences, the exclusions
    table.md, table.tex

Every file is whole or absent, and a sequence's scores carry digests of `run.json`, of the data that they were made on
and of themselves: what is of other data, or was left half-written, is found out and made again. None of the files holds
a time or the folder's own place, so that the same run gives the same bytes.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from textwrap import shorten
from typing import Any

from pydantic import ConfigDict, Field

from page4d_hf.utils.folders import check_output_folder, check_working_folder, whole_file, working_folder
from page4d_hf.utils.json_files import Record, parse_json, read_json

from .digests import json_digest
from .metrics.scores import EvaluationError, SequenceScores
from .predictions import predictions_path

RUN, RESULT = "run.json", "result.json"
VERSIONS = ("page4d", "torch", "transformers", "numpy", "scipy", "opencv-python-headless", "evo")


class Kept(Record):
    """A sequence's stored scores."""

    run: str  # digest of what the run was begun with
    digest: str  # of the rest
    scores: SequenceScores
    source: dict[str, str]  # digests of what was scored: "data", and "predictions" if they were read from a file
    again: bool  # to be tried again when the run goes on, as what excluded the sequence may be repaired

    def digest_of_rest(self) -> str:
        """The value of `digest` in an unedited file."""
        return json_digest(self.model_dump(include={"scores", "source", "again"}))


class RunFolder:
    """A run's folder on disk."""

    def __init__(self, root: Path, identity: Mapping[str, Any]) -> None:
        """Of a folder that `enter` makes; `identity` is all that decides the run's figures, as JSON values."""
        self.root = root
        self.identity: dict[str, Any] = json.loads(json.dumps(identity))
        self.key = json_digest(self.identity)

    def enter(self) -> None:
        """Begin the run's folder, or check that it holds this run."""
        path = self.root / RUN
        check_working_folder(self.root, RUN)
        if not path.is_file():
            with whole_file(path) as partial:
                partial.write_text(_dumps(self.identity), encoding="utf-8")
            return
        remedy = "so it is not known what this run is; name another --output"
        old = read_json(path, dict[str, Any], error=EvaluationError, remedy=remedy)
        differing = _differences(old, self.identity)
        if "task" in differing:  # then all the rest differs too
            differing = {"task": differing["task"]}
        # What is put into words is mostly there as values too, which are shorter.
        differing = {name: how for name, how in differing.items() if not name.endswith(".text")} or differing
        if differing:
            words = "; ".join(f"{name} ({how})" for name, how in differing.items())
            raise EvaluationError(
                f"{self.root} holds a run with other options: {words}. Go on with those, or name another --output."
            )

    def predictions(self) -> Path:
        """The folder of kept predictions."""
        return self.root / "predictions"

    def plots(self, name: str) -> Path:
        """The folder of a sequence's plots."""
        return self.root / "plots" / name

    def forget(self, name: str) -> None:
        """Remove what is kept of a sequence: its scores, predictions and plots, which would be of other data."""
        check_output_folder(self.plots(name), overwrite=True)
        self._path(name).unlink(missing_ok=True)  # first, so that whatever is left is of no scores
        predictions_path(self.predictions(), name).unlink(missing_ok=True)
        shutil.rmtree(self.plots(name), ignore_errors=True)

    def save(self, scores: SequenceScores, source: Mapping[str, str], *, again: bool = False) -> None:
        """Keep the scores of a sequence, with digests of what was scored, and whether it is to be tried again."""
        path = self._path(scores.name)
        record = {"run": self.key, "digest": "", "scores": asdict(scores), "source": dict(source), "again": again}
        kept = parse_json(_dumps(record), Kept, path, error=EvaluationError)
        with whole_file(path, overwrite=True) as partial:
            whole = {**kept.model_dump(), "digest": kept.digest_of_rest()}
            partial.write_text(_dumps(whole), encoding="utf-8")

    def load(self, name: str) -> Kept | None:
        """A sequence's stored scores; None where the file is incomplete, edited, or of another run."""
        try:
            kept: Kept = read_json(self._path(name), Kept, error=EvaluationError)
        except EvaluationError:
            return None
        whole = kept.run == self.key and kept.digest == kept.digest_of_rest() and kept.scores.name == name
        return kept if whole else None

    def finished(self, name: str, source: Mapping[str, str]) -> SequenceScores | None:
        """The scores of a sequence that need not be run again."""
        kept = self.load(name)
        return kept.scores if kept is not None and kept.source == source and not kept.again else None

    def _path(self, name: str) -> Path:
        return self.root / "sequences" / f"{name}.json"

    def write_result(
        self, scores: list[SequenceScores], averages: Mapping[str, float], sources: Mapping[str, Mapping[str, str]]
    ) -> dict[str, Any]:
        """Write `result.json`, with the scores of sequences that were excluded too and the digests of what was scored;
        gives what was written.
        """
        result = {
            **self.identity,
            **{
                kind: {name: source[kind] for name, source in sources.items() if kind in source}
                for kind in ("data", "predictions")
            },
            "averages": dict(averages),
            "sequences": [
                {name: value for name, value in asdict(each).items() if name != "excluded"}
                for each in scores
                if each.excluded is None
            ],
            "excluded": {each.name: each.excluded for each in scores if each.excluded is not None},
        }
        with whole_file(self.root / RESULT, overwrite=True) as partial:
            partial.write_text(_dumps(result), encoding="utf-8")
        return json.loads(_dumps(result))


@contextmanager
def entered_folder(root: Path, identity: Mapping[str, Any]) -> Iterator[int]:
    """Begin the folder of a run, or go on with it, and keep other processes out of it for the length of the block.

    Gives the lock's descriptor, see `page4d_hf.utils.folders.working_folder`.
    """
    with working_folder(root, RUN) as lock:
        RunFolder(root, identity).enter()
        yield lock


class _Open(Record):
    """A record of which more is kept than is looked at here."""

    model_config = ConfigDict(extra="allow")


class _Protocol(_Open):
    name: str
    text: str


class _Selection(_Open):
    text: str
    published: bool


class _Inference(_Open):
    text: str
    resolution: int


class _Model(_Open):
    name: str
    revision: str
    mask: str
    device: str
    dtype: str


class _Scored(_Open):
    name: str
    figures: dict[str, float]
    counts: dict[str, int]
    notes: list[str]


class _Result(_Open):
    task: str
    dataset: str
    method: str
    trivial: bool = False
    protocol: _Protocol
    selection: _Selection
    inference: _Inference | None
    model: _Model | None
    averages: dict[str, float]
    sequences: list[_Scored]
    excluded: dict[str, str]
    data: dict[str, str] = Field(default_factory=dict)


def read_result(folder: Path) -> dict[str, Any]:
    """The `result.json` of a finished run."""
    if not (folder / RESULT).exists():
        raise EvaluationError(f"{folder} holds no finished run (no {RESULT}); run it first.")
    result: _Result = read_json(folder / RESULT, _Result, error=EvaluationError, remedy="run it again")
    return result.model_dump(exclude_unset=True)


def _dumps(value: Any) -> str:
    return json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def _differences(old: Any, new: Any, where: str = "") -> dict[str, str]:
    """Differences between two JSON values, by name: `model.mask`: `was "on", now "off"`."""
    if isinstance(old, dict) and isinstance(new, dict):
        found: dict[str, str] = {}
        for name in {**old, **new}:
            found |= _differences(old.get(name), new.get(name), f"{where}.{name}" if where else name)
        return found
    return {} if old == new else {where: f"was {_brief(old)}, now {_brief(new)}"}


def _brief(value: Any) -> str:
    """A JSON value, of a long one the beginning."""
    return shorten(json.dumps(value, ensure_ascii=False), 120, placeholder=" ...")
