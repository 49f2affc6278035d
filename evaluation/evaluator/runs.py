"""The folder of a run: what it was made by, a file for each sequence, and the result.

    run.json                    task, data set, protocol, model and versions: all that decides a figure
    sequences/<sequence>.json   scores of one sequence
    predictions/<sequence>.npz  with --keep-predictions
    plots/<sequence>/           with --plots
    result.json                 run.json's values, the averages, the sequences, the exclusions
    table.md, table.tex

Every file is whole or absent, and a sequence's scores carry digests of `run.json` and of themselves: what a killed run
or a full disk left half-written is found out and made again. None of the files holds a time or the folder's own place,
so that the same run gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from textwrap import shorten
from typing import Any

from page4d_hf.folders import whole_file

from .scores import EvaluationError, SequenceScores

RUN, RESULT = "run.json", "result.json"
VERSIONS = ("page4d", "torch", "transformers", "numpy", "scipy", "opencv-python-headless", "evo")


class RunFolder:
    """A run's folder on disk."""

    def __init__(self, root: Path, identity: Mapping[str, Any]) -> None:
        """
        Args:
            root: the folder; `enter` makes it.
            identity: all that decides the run's figures, as JSON values.
        """
        self.root = root
        self.identity: dict[str, Any] = json.loads(json.dumps(identity))
        self.key = _digest(self.identity)

    def enter(self) -> None:
        """Begin the run's folder, or check that it holds this run.

        Raises:
            EvaluationError: it holds a run that differs, each difference named, or something else.
            Page4DError: it cannot be written.
        """
        path = self.root / RUN
        if self.root.exists() and not self.root.is_dir():
            raise EvaluationError(f"The output {self.root} is a file; name a folder.")
        if not path.is_file():
            if self.root.is_dir() and any(self.root.iterdir()):
                raise EvaluationError(
                    f"The output folder {self.root} holds something else (it has no {RUN}); name another one."
                )
            with whole_file(path) as partial:
                partial.write_text(_dumps(self.identity), encoding="utf-8")
            return
        try:
            old = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise EvaluationError(
                f"{path} cannot be read ({error}), so it is not known what this run is; name another --output."
            ) from error
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

    def save(self, scores: SequenceScores, *, source: str | None = None, again: bool = False) -> None:
        """Keep the scores of a sequence.

        Args:
            scores: of one sequence.
            source: a digest of what was scored, if it was read from a file.
            again: the sequence is to be tried again when the run goes on, as what excluded it may be repaired.

        Raises:
            Page4DError: the file cannot be written.
        """
        body = {"scores": asdict(scores), "source": source, "again": again}
        record = {"run": self.key, "digest": _digest(body), **body}
        with whole_file(self._path(scores.name), overwrite=True) as partial:
            partial.write_text(_dumps(record), encoding="utf-8")

    def load(self, name: str, *, source: str | None = None) -> SequenceScores | None:
        """The scores of a sequence, or None where there are none that are whole and of this run.

        Args:
            name: the sequence.
            source: the digest of what would be scored now.
        """
        record = self._read(name)
        if record is None or record["source"] != source:
            return None
        return _scores(record)

    def is_finished(self, name: str, *, source: str | None = None) -> bool:
        """Whether a sequence need not be run again."""
        record = self._read(name)
        return record is not None and record["source"] == source and not record["again"]

    def _path(self, name: str) -> Path:
        return self.root / "sequences" / f"{name}.json"

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            record = json.loads(self._path(name).read_text(encoding="utf-8"))
            body = {key: record[key] for key in ("scores", "source", "again")}
            whole = record["run"] == self.key and record["digest"] == _digest(body)
            return record if whole and record["scores"]["name"] == name else None
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def write_result(
        self, scores: list[SequenceScores], averages: Mapping[str, float], sources: Mapping[str, str]
    ) -> dict[str, Any]:
        """Write `result.json`.

        Args:
            scores: of all sequences, those excluded too.
            averages: over those that are not.
            sources: digests of the predictions, by sequence, where they were read from files.

        Returns:
            What was written.

        Raises:
            EvaluationError: a figure is not finite.
            Page4DError: the file cannot be written.
        """
        for owner, figures in [("The average", averages), *((each.name, each.figures) for each in scores)]:
            broken = [name for name, figure in figures.items() if not math.isfinite(figure)]
            if broken:
                raise EvaluationError(f"{owner} has no finite {', '.join(broken)}; exclude a sequence that has none.")
        result = {
            **self.identity,
            "predictions": dict(sources),
            "averages": dict(averages),
            "sequences": [_without_reason(each) for each in scores if each.excluded is None],
            "excluded": {each.name: each.excluded for each in scores if each.excluded is not None},
        }
        with whole_file(self.root / RESULT, overwrite=True) as partial:
            partial.write_text(_dumps(result), encoding="utf-8")
        return json.loads(_dumps(result))


def read_result(folder: Path) -> dict[str, Any]:
    """The `result.json` of a finished run.

    Args:
        folder: the run's folder.

    Raises:
        EvaluationError: there is none, or it is no result.
    """
    path = folder / RESULT
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise EvaluationError(f"{folder} holds no finished run (no {RESULT}); run it first.") from error
    except (OSError, ValueError) as error:
        raise EvaluationError(f"{path} cannot be read ({error}); run it again.") from error
    needed = ("task", "dataset", "protocol", "averages", "sequences", "excluded")
    lacking = [name for name in needed if not isinstance(result, dict) or name not in result]
    if lacking:
        raise EvaluationError(f"{path} is no result of an evaluation: it lacks {', '.join(lacking)}.")
    return result


def versions() -> dict[str, str]:
    """Versions of what decides figures; of what is not installed there is none."""
    found = {}
    for name in VERSIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def plain(value: Any) -> Any:
    """Dataclasses, tuples and paths as JSON values."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value


def _scores(record: dict[str, Any]) -> SequenceScores:
    return SequenceScores(**record["scores"])


def _without_reason(scores: SequenceScores) -> dict[str, Any]:
    values = asdict(scores)
    del values["excluded"]
    return values


def _dumps(value: Any) -> str:
    return json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _differences(old: Any, new: Any, where: str = "") -> dict[str, str]:
    """What differs between two JSON values: by its name, as `model.mask`, how, as `was "on", now "off"`."""
    if isinstance(old, dict) and isinstance(new, dict):
        found: dict[str, str] = {}
        for name in {**old, **new}:
            found |= _differences(old.get(name), new.get(name), f"{where}.{name}" if where else name)
        return found
    return {} if old == new else {where: f"was {_brief(old)}, now {_brief(new)}"}


def _brief(value: Any) -> str:
    """A JSON value, of a long one the beginning."""
    return shorten(json.dumps(value, ensure_ascii=False), 120, placeholder=" ...")
