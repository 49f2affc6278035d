"""How good a network is on synthetic clips that it was not trained on, beside a predictor that looks at nothing.

    python evaluation/held_out.py --model page4d --output held-out

The clips are those that the model's card names, or 64 of 8 frames; the same options give the same files. See
docs/evaluation.md.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tyro
from evaluator.studies.study_clips import Synthetic

from page4d_hf.errors import Page4DError
from page4d_hf.utils.programs import input_errors_end_the_program

RESULT = "held-out.json"
REPORT = "held-out.md"


@dataclass
class HeldOutOptions:
    """What is tried, and on what."""

    model: str
    """A folder for from_pretrained, or a name on the Hub."""
    output: Path
    """The folder to make: held-out.json and held-out.md."""
    clips: Synthetic = field(default_factory=lambda: Synthetic(clips=64))
    """By default as the model's card says."""
    mask_strength: float | None = None
    """Strength of the mask, from 0 to 1. By default the model's."""
    device: str = "auto"
    """Where to run."""
    dtype: str = "auto"
    """Precision of the encoder and the aggregator."""
    overwrite: bool = False
    """Replace the folder of an earlier report."""


@dataclass
class Named:
    """The one option that decides the defaults of others."""

    model: str | None = None


def run(options: HeldOutOptions) -> dict[str, Any]:
    """Score the network on the clips and write the folder.

    Returns:
        What held-out.json holds.

    Raises:
        Page4DError: options out of their range, no such model, no clip that can be scored, or a folder that is in the
            way, cannot be written or is being written by another process.
    """
    from page4d_hf.utils.folders import claimed_folder

    made = options.clips
    if options.mask_strength is not None and not 0 <= options.mask_strength <= 1:
        raise Page4DError(f"The strength of the mask must be from 0 to 1, got {options.mask_strength}.")
    if made.clips < 1 or made.frames < 3 or made.seed < 0:
        raise Page4DError(
            "The report needs at least 1 clip of at least 3 frames, without which no trajectory can be aligned, and a "
            f"seed that is not negative; got {made.clips}, {made.frames} and {made.seed}."
        )
    with claimed_folder(options.output, overwrite=options.overwrite):
        return _report(options)


def _report(options: HeldOutOptions) -> dict[str, Any]:
    from evaluator.studies.held_out_clips import markdown, record_of, score_clips
    from evaluator.studies.study_clips import synthetic_clips
    from transformers.utils import logging as transformers_logging

    from page4d_hf.cli import progress_bar
    from page4d_hf.reconstruction.reconstruct import fingerprint, load_model
    from page4d_hf.utils.folders import whole_folder

    made = options.clips
    transformers_logging.disable_progress_bar()
    model, processor = load_model(options.model, device=options.device, dtype=options.dtype)
    config = model.config
    size = made.size_for(processor, config.patch_size)
    if options.mask_strength is not None:
        config.mask_strength = options.mask_strength
    facts = {
        "weights": fingerprint(options.model) or getattr(config, "_commit_hash", None),
        "parameters": model.num_parameters(),
        "mask": "none" if config.mask_form is None else f"{config.mask_form}, strength {config.mask_strength:g}",
        "device": model.device.type,
        "dtype": str(next(model.aggregator.parameters()).dtype).removeprefix("torch."),
    }
    scores = []
    with progress_bar() as report:
        report("clips", 0, made.clips)
        clips = synthetic_clips(made.clips, made.frames, size, made.seed, made.scenes)
        for each in score_clips(model, clips):
            scores.append(each)
            report("clips", len(scores), made.clips)
    record = record_of(scores, made, size, facts)
    with whole_folder(options.output, overwrite=options.overwrite) as folder:
        (folder / RESULT).write_text(json.dumps(record, indent=1, allow_nan=False) + "\n", "utf8")
        (folder / REPORT).write_text(markdown(record), "utf8")
    return record


def options_from(arguments: list[str]) -> HeldOutOptions:
    """HeldOutOptions of a command line, with the clips that the card of its model names as the defaults.

    Raises:
        EvaluationError: the card names clips that cannot be made.
    """
    from evaluator.studies.held_out_clips import settings_of_card

    named, _ = tyro.cli(Named, args=[a for a in arguments if a not in ("-h", "--help")], return_unknown_args=True)
    of_card = None if named.model is None else settings_of_card(named.model)
    if of_card is None:
        return tyro.cli(HeldOutOptions, args=arguments, description=__doc__)
    missing: Any = tyro.MISSING
    default = HeldOutOptions(model=missing, output=missing, clips=of_card)
    return tyro.cli(HeldOutOptions, args=arguments, description=__doc__, default=default)


def main(arguments: list[str] | None = None) -> None:
    """Entry point: errors about the input are one sentence on stderr and exit code 1."""
    with input_errors_end_the_program("held_out"):
        options = options_from(sys.argv[1:] if arguments is None else arguments)
        run(options)
    print((options.output / REPORT).read_text("utf8"))
    print(f"Wrote {options.output}.")


if __name__ == "__main__":
    main()
