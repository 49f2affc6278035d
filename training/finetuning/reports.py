"""Reports of evaluation/held_out.py on what has been trained."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from evaluator.studies.study_clips import Synthetic

from page4d_hf.utils.json_files import Record, read_json
from page4d_hf.utils.programs import not_installed

from .options import Options
from .processes import ProcessError

RESULT, TABLE = "held-out.json", "held-out.md"


class Tried(Record):
    """The model that a report is on."""

    weights: str  # their fingerprint


class Report(Record):
    """Fields of a report's `held-out.json` that are read."""

    model: Tried
    settings: dict[str, Any]  # of the clips
    means: dict[str, dict[str, float]]  # of a figure, those of the model and the trivial
    protocol: str


def held_out_clips(options: Options, clips: int, frames: int) -> Synthetic:
    """Synthetic clips of the scenes, width and aspect that a run evaluates on."""
    return Synthetic(clips, frames, options.sampling.image_size(options.evaluation.aspect), scenes=options.scenes)


def check_reports() -> None:
    """Refuse to begin what ends in a report that cannot be made."""
    if find_spec("evo") is None:
        raise ProcessError(
            not_installed("The report on held-out clips compares camera paths by evo", "training", "evaluation")
        )


def report_on_held_out(model: Path, output: Path, clips: Synthetic, mask_strength: float | None = None) -> Report:
    """Do what `evaluation/held_out.py` does, which replaces an earlier report in the folder `output`."""
    from held_out import HeldOutOptions, run

    run(HeldOutOptions(str(model), output, overwrite=True, clips=clips, mask_strength=mask_strength))
    return read_report(output)


def read_report(folder: Path) -> Report:
    """The report in a folder."""
    return read_json(folder / RESULT, Report, error=ProcessError, remedy="remove it, to have it made again")
