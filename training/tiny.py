"""Make page4d-tiny: train its stages one after the other, try it on held-out clips, and put it into the package.

    python training/tiny.py

Stages are the options in training/recipes/tiny, in the order of their names; each but the first starts from the model
of one before it. Killed and started again, it goes on from the newest checkpoint. What is trained is left alone; what
is in the package is replaced.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tyro
from finetuning.network import sampling_for
from finetuning.options import Options as StageOptions
from finetuning.options import from_json
from finetuning.processes import REPOSITORY, TWO_PROCESSES, train
from finetuning.reports import TABLE, check_reports, held_out_clips, report_on_held_out
from finetuning.tiny_card import Stage, tiny_card

from page4d_hf.errors import Page4DError
from page4d_hf.utils.folders import claimed_folder, make_readable, whole_folder
from page4d_hf.utils.json_files import read_json
from page4d_hf.utils.programs import input_errors_end_the_program
from page4d_hf.weights.loading import load_config
from page4d_hf.weights.shipped import TINY

LARGEST = 25_000_000  # bytes, of all files together
CONFIGURATIONS = ("config.json", "preprocessor_config.json")


@dataclass
class Options:
    """Options of the training."""

    recipes: Path = REPOSITORY / "training" / "recipes" / "tiny"
    """Folder with the options of each stage."""
    output: Path = TINY
    """The folder to make."""
    accelerate: Path | None = TWO_PROCESSES
    """Configuration for `accelerate launch`; None trains in a single process."""
    clips: int = 64
    """Held-out clips that the model is tried on, for its card."""
    frames: int = 8
    """Frames of each held-out clip."""


def stages_in(folder: Path) -> list[tuple[Path, StageOptions]]:
    """The stages of a folder of recipes, in order."""
    stages = [(path, from_json(path)) for path in sorted(folder.glob("*.json"))]
    if not stages:
        raise Page4DError(f"There are no stages in {folder}: JSON files of options for training/finetune.py.")
    made: list[str] = []
    for path, options in stages:
        if made and options.model not in made:
            raise Page4DError(f"{path} starts from {options.model or options.network}; it must be {' or '.join(made)}.")
        made.append(str(options.output))
    return stages


def make(options: Options) -> None:
    """Train what is left to train, and write the folder."""
    check_reports()
    stages = stages_in(options.recipes)
    with claimed_folder(options.output, overwrite=True):
        _make(options, stages)


def _make(options: Options, stages: list[tuple[Path, StageOptions]]) -> None:
    for number, (path, stage) in enumerate(stages, 1):
        print(f"Stage {number} of {len(stages)}: {path.stem}, in {stage.output}", flush=True)
        train(path, options.accelerate)
    last = stages[-1][1]
    # Sizes that its options leave open are those that it was trained with.
    last = replace(last, sampling=sampling_for(last.sampling, load_config(last.output), last.output))
    held_out = held_out_clips(last, options.clips, options.frames)
    with whole_folder(options.output, overwrite=True) as folder:
        copy_model(last.output, folder)
        check_size(folder)
        told = [Stage.of(path.stem, stage.output) for path, stage in stages]
        print(f"Trying it on {held_out.clips} held-out clips", flush=True)
        reports = last.output.parent / "held-out"
        report_on_held_out(folder, reports, held_out)
        table = (reports / TABLE).read_text(encoding="utf-8")
        # It names the clips, so that anybody gets the same report by evaluation/held_out.py.
        (folder / "README.md").write_text(tiny_card(folder, told, held_out, table), encoding="utf-8")
        size = check_size(folder)
    print(table)
    print(f"Wrote {options.output}, {size / 1e6:.1f} MB. Next: page4d pull tiny --output page4d")


def copy_model(model: Path, folder: Path) -> None:
    """Copy weights and configurations, without the code that a run keeps beside them: the package is that code."""
    weights = sorted(model.glob("*.safetensors*"))
    if not weights or not all((model / name).is_file() for name in CONFIGURATIONS):
        raise Page4DError(f"{model} holds no trained model (weights, {', '.join(CONFIGURATIONS)}).")
    for path in weights:
        make_readable(Path(shutil.copy(path, folder)))
    for name in CONFIGURATIONS:
        values = read_json(model / name, dict[str, Any], error=Page4DError, remedy="train again")
        values.pop("auto_map", None)
        (folder / name).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def check_size(folder: Path) -> int:
    """Bytes of all files of a folder."""
    size = sum(path.stat().st_size for path in folder.iterdir())
    if size > LARGEST:
        raise Page4DError(f"The model has {size / 1e6:.1f} MB, of which {LARGEST / 1e6:.0f} at most may be shipped.")
    return size


def main(arguments: list[str] | None = None) -> None:
    """Entry point: errors about the input are one sentence on stderr and exit code 1."""
    with input_errors_end_the_program("tiny", "the same command goes on from the newest checkpoint."):
        make(tyro.cli(Options, args=arguments, description=__doc__))


if __name__ == "__main__":
    main()
