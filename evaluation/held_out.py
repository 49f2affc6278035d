"""How good a network is on synthetic clips that it was not trained on, beside a predictor that looks at nothing.

    python evaluation/held_out.py --model page4d --output held-out

The clips are those that the model's card names, or 64 of 8 frames; the same options give the same files. See
docs/evaluation.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import tyro
from evaluator.studies.study_clips import Synthetic, synthetic_clips
from evaluator.studies.study_reports import StudyOptions, StudyReport, run_program, with_progress, write_report

from page4d_hf.errors import Page4DError

NAME = "held-out"  # of the files that are written


@dataclass
class HeldOutOptions(StudyOptions):
    """What is tried, and on what."""

    clips: Synthetic = field(default_factory=lambda: Synthetic(clips=64))
    """By default as the model's card says."""
    mask_strength: float | None = None
    """Strength of the mask, from 0 to 1. By default the model's."""


@dataclass
class ModelOption:
    """The one option that decides the defaults of others."""

    model: str | None = None


def run(options: HeldOutOptions) -> dict[str, Any]:
    """Score the network on the clips and write the folder.

    Returns:
        What held-out.json holds.
    """
    made = options.clips
    if options.mask_strength is not None and not 0 <= options.mask_strength <= 1:
        raise Page4DError(f"The strength of the mask must be from 0 to 1, got {options.mask_strength}.")
    if made.clips < 1 or made.frames < 3 or made.seed < 0:
        raise Page4DError(
            "The report needs at least 1 clip of at least 3 frames, without which no trajectory can be aligned, and a "
            f"seed that is not negative; got {made.clips}, {made.frames} and {made.seed}."
        )
    return write_report(options, NAME, _report)


def _report(options: HeldOutOptions) -> StudyReport:
    from evaluator.studies.held_out_clips import markdown, record_of, score_clip
    from transformers.utils import logging as transformers_logging

    from page4d_hf.weights.identity import fingerprint
    from page4d_hf.weights.loading import load_model

    made = options.clips
    transformers_logging.disable_progress_bar()
    model, processor = load_model(options.model, device=options.device, dtype=options.dtype)
    config = model.config
    size = made.size_for(processor, config.patch_size)
    strength = config.mask_strength if options.mask_strength is None else options.mask_strength
    facts = {
        "weights": fingerprint(options.model) or getattr(config, "_commit_hash", None),
        "parameters": model.num_parameters(),
        "mask": "none" if config.mask_form is None else f"{config.mask_form}, strength {strength:g}",
        "device": model.device.type,
        "dtype": str(next(model.aggregator.parameters()).dtype).removeprefix("torch."),
    }
    clips = synthetic_clips(made, size)
    scores = list(with_progress((score_clip(model, clip, options.mask_strength) for clip in clips), made.clips))
    record = record_of(scores, made, size, facts)
    return StudyReport(record, markdown(record))


def options_from(arguments: list[str]) -> HeldOutOptions:
    """HeldOutOptions of a command line, with the clips that the card of its model names as the defaults."""
    from evaluator.studies.held_out_clips import settings_of_card

    named, _ = tyro.cli(ModelOption, args=[a for a in arguments if a not in ("-h", "--help")], return_unknown_args=True)
    of_card = None if named.model is None else settings_of_card(named.model)
    if of_card is None:
        return tyro.cli(HeldOutOptions, args=arguments, description=__doc__)
    missing: Any = tyro.MISSING
    default = HeldOutOptions(model=missing, output=missing, clips=of_card)
    return tyro.cli(HeldOutOptions, args=arguments, description=__doc__, default=default)


def main(arguments: list[str] | None = None) -> None:
    """Entry point: errors about the input are one sentence on stderr and exit code 1."""
    run_program("held_out", NAME, arguments, options_from, run)


if __name__ == "__main__":
    main()
