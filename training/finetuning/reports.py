"""Reports of evaluation/held_out.py on what has been trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic_core import to_jsonable_python

from page4d_hf.synthetic import SyntheticOptions
from page4d_hf.utils.json_files import Record, read_json

from .options import Options
from .processes import ProcessError

RESULT, TABLE = "held-out.json", "held-out.md"
FIRST_SEED = 1_000_000


class Tried(Record):
    """The model that a report is on."""

    weights: str  # their fingerprint


class Report(Record):
    """Fields of a report's `held-out.json` that are read."""

    model: Tried
    settings: dict[str, Any]  # of the clips
    means: dict[str, dict[str, float]]  # of a figure, those of the model and the trivial
    protocol: str


@dataclass(frozen=True)
class HeldOut:
    """Synthetic clips that a model is tried on."""

    clips: int
    frames: int
    image_size: tuple[int, int]  # height and width
    scenes: SyntheticOptions
    seed: int = FIRST_SEED  # of the first clip

    @classmethod
    def of(cls, options: Options, clips: int, frames: int) -> HeldOut:
        """Clips of the scenes, width and aspect that a run evaluates on."""
        return cls(clips, frames, options.sampling.image_size(options.evaluation.aspect), options.scenes)

    def metadata(self) -> dict[str, Any]:
        """As `evaluation/held_out.py` reads them from a model's card; of the scenes, what differs from the defaults."""
        usual = to_jsonable_python(SyntheticOptions())
        scenes = {name: value for name, value in to_jsonable_python(self.scenes).items() if value != usual[name]}
        return {**self.settings(), "scenes": scenes}

    def settings(self) -> dict[str, Any]:
        """As a report has them."""
        values: dict[str, Any] = to_jsonable_python(self)
        return values

    def arguments(self) -> list[str]:
        """As options of that program."""
        settings = self.settings()
        scenes = settings.pop("scenes")
        named = {**settings, **{f"scenes.{name}": value for name, value in scenes.items()}}
        words: list[str] = []
        for name, value in named.items():
            words += [f"--clips.{name.replace('_', '-')}", *map(str, value if isinstance(value, list) else [value])]
        return words


def check_reports() -> None:
    """Refuse to begin what ends in a report that cannot be made."""
    if find_spec("evo") is None:
        raise ProcessError(
            "The report on held-out clips compares camera paths by evo, which is not installed; pip install "
            "'page4d[training,evaluation]'."
        )


def report_on_held_out(model: Path, output: Path, arguments: Sequence[str] = ()) -> Report:
    """Do what `evaluation/held_out.py` does, without its table on the terminal: what calls this shows its own.

    Args:
        model: folder of the model.
        output: the folder to make; an earlier report in it is replaced.
        arguments: more of the program's options.
    """
    import held_out

    held_out.run(held_out.options_from(["--model", str(model), "--output", str(output), "--overwrite", *arguments]))
    return read_report(output)


def read_report(folder: Path) -> Report:
    """The report in a folder."""
    return read_json(folder / RESULT, Report, error=ProcessError, remedy="remove it, to have it made again")
