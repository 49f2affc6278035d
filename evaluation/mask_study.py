"""What the mask does: depth where something moves, attention to it, and what hiding it does to cameras and depth.

    python evaluation/mask_study.py --model page4d --output mask-study
    python evaluation/mask_study.py --model page4d --dataset sintel --data-root sintel --output mask-study-sintel

By default on synthetic clips, whose motion masks are exact; or on a data set with motion masks. See
docs/evaluation.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro
from evaluator.sequences import Dataset
from evaluator.studies.mask_study import MaskStudy
from evaluator.studies.study_clips import Synthetic

from page4d_hf.errors import CaptureError, Page4DError
from page4d_hf.utils.programs import input_errors_end_the_program

if TYPE_CHECKING:
    from evaluator.studies.mask_study import ClipResult, Picture
    from evaluator.studies.study_clips import StudyClip

    from page4d_hf import Page4DImageProcessor, Page4DModel

RESULT = "study.json"


@dataclass
class MaskStudyOptions:
    """What to study, and on what."""

    model: str
    """A folder for from_pretrained, or a name on the Hub."""
    output: Path
    """The folder to make: study.json, study.md, attention.png, errors.png, and a picture of each of the first clips."""
    dataset: Dataset | None = None
    """A data set with motion masks, such as sintel; by default synthetic clips."""
    data_root: Path | None = None
    """Its folder."""
    sequences: tuple[str, ...] = ()
    """Of the data set; by default those of the protocol's video depth."""
    frames: int = 10
    """At most so many of each sequence, spread evenly."""
    resolution: int | None = None
    """Width of the network's input in pixels, for a data set. By default what the model's image processor says."""
    synthetic: Synthetic = field(default_factory=Synthetic)
    """Synthetic clips, where no data set is named."""
    study: MaskStudy = field(default_factory=MaskStudy)
    pictures: int = 3
    """Clips of which a picture is drawn, from the first."""
    device: str = "auto"
    """Where to run."""
    dtype: str = "auto"
    """Precision of the encoder and the aggregator."""
    overwrite: bool = False
    """Replace the folder of an earlier study."""


def run(options: MaskStudyOptions) -> dict[str, Any]:
    """Make the study and write its folder.

    Returns:
        What study.json holds. The same options give the same file.

    Raises:
        Page4DError: no such model or data set, no clip that can be studied, or a folder that is in the way, cannot be
            written or is being written by another process.
    """
    from page4d_hf.utils.folders import claimed_folder

    with claimed_folder(options.output, overwrite=options.overwrite):
        return _study(options)


def _study(options: MaskStudyOptions) -> dict[str, Any]:
    from evaluator.predict import load_evaluated_model
    from evaluator.studies.mask_figures import draw_attention, draw_errors, draw_picture, markdown
    from evaluator.studies.mask_study import study_clips, summarise

    from page4d_hf.cli import progress_bar
    from page4d_hf.utils.folders import whole_folder

    evaluated = load_evaluated_model(options.model, mask="on", device=options.device, dtype=options.dtype)
    model, processor = evaluated.model, evaluated.processor
    count, words, clips = _clips(options, model, processor)
    protocol = f"{words} {options.study}"
    results: list[ClipResult] = []
    pictures: list[Picture] = []
    with progress_bar() as report:
        report("clips", 0, count)
        for result, picture in study_clips(model, clips, options.study):
            results.append(result)
            report("clips", len(results), count)
            if picture is not None and len(pictures) < options.pictures:
                pictures.append(picture)
    summary = summarise(results)
    record = {
        "protocol": protocol,
        "model": {**evaluated.facts, "mask_form": model.config.mask_form},  # it is run without its mask too
        **summary,
        "clips": [vars(result) for result in results],
    }
    with whole_folder(options.output, overwrite=options.overwrite) as folder:
        (folder / RESULT).write_text(json.dumps(record, indent=1, allow_nan=False), "utf8")
        (folder / "study.md").write_text(markdown(summary, results, protocol), "utf8")
        draw_attention(summary, folder / "attention.png")
        draw_errors(summary, folder / "errors.png")
        for picture in pictures:
            draw_picture(picture, folder / f"picture-{picture.clip.name.replace('/', '-')}.png")
    return record


def _clips(
    options: MaskStudyOptions, model: Page4DModel, processor: Page4DImageProcessor
) -> tuple[int, str, Iterator[StudyClip | ClipResult]]:
    """How many clips there will be, what they are in words, and the clips."""
    from evaluator.studies.study_clips import synthetic_clips

    config = model.config
    if options.dataset is None:
        made = options.synthetic
        size = made.size_for(processor, config.patch_size)
        return made.clips, made.words(size), synthetic_clips(made.clips, made.frames, size, made.seed, made.scenes)
    if options.data_root is None:
        raise Page4DError(f"--dataset {options.dataset} needs its folder: --data-root.")
    from evaluator.sequences import choose_sequences, select

    from page4d_hf.reconstruction.reconstruct import resolve_resolution

    resolution = resolve_resolution(options.resolution, processor, config.patch_size)
    selection = select("page4d", "video-depth", options.dataset, frames=options.frames)
    if options.sequences:
        selection = selection.only(options.sequences)
    names, missing = choose_sequences(options.dataset, options.data_root, selection, options.sequences)
    words = f"{options.dataset}: {selection} Images {resolution} pixels wide ({processor.mode})."
    if missing:
        words += f" Not there: {', '.join(missing)}."
    return len(names), words, _clips_of_sequences(options, selection, names, processor, resolution, config.patch_size)


def _clips_of_sequences(
    options: MaskStudyOptions,
    selection: Any,
    names: list[str],
    processor: Page4DImageProcessor,
    resolution: int,
    patch_size: int,
) -> Iterator[StudyClip | ClipResult]:
    from evaluator.scores import ExclusionError
    from evaluator.sequences import load_sequence
    from evaluator.studies.mask_study import ClipResult
    from evaluator.studies.study_clips import clip_of_sequence

    assert options.dataset is not None
    assert options.data_root is not None
    for name in names:
        try:
            sequence, _ = load_sequence(options.dataset, options.data_root, name, selection)
            yield clip_of_sequence(sequence, processor, resolution, patch_size)
        except (CaptureError, ExclusionError) as error:
            reason = str(error).replace(f"{options.data_root}/", "")
            yield ClipResult(name, {}, excluded=reason if name in reason else f"{name}: {reason}")


def main(arguments: list[str] | None = None) -> None:
    """Entry point: errors about the input are one sentence on stderr and exit code 1."""
    with input_errors_end_the_program("mask_study"):
        options = tyro.cli(MaskStudyOptions, args=arguments, description=__doc__)
        run(options)
    print((options.output / "study.md").read_text("utf8"))
    print(f"Wrote {options.output}.")


if __name__ == "__main__":
    main()
