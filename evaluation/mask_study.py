"""What the mask does: depth where something moves, attention to it, and what hiding it does to cameras and depth.

    python evaluation/mask_study.py --model page4d --output mask-study
    python evaluation/mask_study.py --model page4d --dataset sintel --data-root sintel --output mask-study-sintel

By default on synthetic clips, whose motion masks are exact; or on a data set with motion masks. See
docs/mask-study.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro
from evaluator.metrics.scores import ExclusionError
from evaluator.sequences import Dataset, choose_sequences, load_sequence, select
from evaluator.studies.mask_study import ClipResult, MaskStudy, Picture
from evaluator.studies.study_clips import StudyClip, Synthetic, clip_of_sequence, synthetic_clips
from evaluator.studies.study_reports import StudyOptions, StudyReport, run_program, with_progress, write_report

from page4d_hf.errors import CaptureError, Page4DError
from page4d_hf.reconstruction.network import resolve_resolution

if TYPE_CHECKING:
    from page4d_hf import Page4DImageProcessor, Page4DModel

NAME = "study"  # of the files that are written, beside pictures


@dataclass
class MaskStudyOptions(StudyOptions):
    """What to study, and on what."""

    dataset: Dataset | None = None
    """A data set with motion masks, such as sintel; by default synthetic clips."""
    data_root: Path | None = None
    """Its folder."""
    sequences: tuple[str, ...] = ()
    """Only these sequences of the data set. By default those of the protocol's video depth."""
    frames: int = 10
    """At most so many frames of each sequence, spread evenly."""
    resolution: int | None = None
    """Width of the network's input in pixels, for a data set. By default what the model's image processor says."""
    synthetic: Synthetic = field(default_factory=Synthetic)
    """Synthetic clips, where no data set is named."""
    study: MaskStudy = field(default_factory=MaskStudy)
    """What is hidden, and from which queries."""
    pictures: int = 3
    """Clips of which a picture is drawn, from the first."""

    def __post_init__(self) -> None:
        if self.dataset is None and self.resolution is not None:
            raise Page4DError("--resolution is that of a --dataset; of synthetic clips, give --synthetic.image-size.")


def run(options: MaskStudyOptions) -> dict[str, Any]:
    """Make the study and write its folder.

    Returns:
        What study.json holds.
    """
    return write_report(options, NAME, _study)


def _study(options: MaskStudyOptions) -> StudyReport:
    from evaluator.predict import load_evaluated_model
    from evaluator.studies.mask_figures import draw_attention, draw_errors, draw_picture, markdown
    from evaluator.studies.mask_study import study_clips, summarise

    evaluated = load_evaluated_model(options.model, mask="on", device=options.device, dtype=options.dtype)
    model = evaluated.model
    count, words, clips = _clips(options, model, evaluated.processor)
    protocol = f"{words} {options.study}"
    results: list[ClipResult] = []
    pictures: list[Picture] = []
    for result, picture in with_progress(study_clips(model, clips, options.study), count):
        results.append(result)
        if picture is not None and len(pictures) < options.pictures:
            pictures.append(picture)
    summary = summarise(results)
    record = {
        "protocol": protocol,
        "model": {**evaluated.facts, "mask_form": model.config.mask_form},  # it is run without its mask too
        **summary,
        "clips": [vars(result) for result in results],
    }

    def draw(folder: Path) -> None:
        draw_attention(summary, folder / "attention.png")
        draw_errors(summary, folder / "errors.png")
        for picture in pictures:
            draw_picture(picture, folder / f"picture-{picture.clip.name.replace('/', '-')}.png")

    return StudyReport(record, markdown(summary, results, protocol), draw)


def _clips(
    options: MaskStudyOptions, model: Page4DModel, processor: Page4DImageProcessor
) -> tuple[int, str, Iterator[StudyClip | ClipResult]]:
    """How many clips there will be, what they are in words, and the clips."""
    dataset, root, patch_size = options.dataset, options.data_root, model.config.patch_size
    if dataset is None:
        made = options.synthetic
        size = made.size_for(processor, patch_size)
        return made.clips, made.words(size), synthetic_clips(made, size)
    if root is None:
        raise Page4DError(f"--dataset {dataset} needs its folder: --data-root.")
    resolution = resolve_resolution(options.resolution, processor, patch_size)
    selection = select("page4d", "video-depth", dataset, frames=options.frames)
    if options.sequences:
        selection = selection.only(options.sequences)
    names, missing = choose_sequences(dataset, root, selection, options.sequences)
    words = f"{dataset}: {selection} Images {resolution} pixels wide (crop)."
    if missing:
        words += f" Not there: {', '.join(missing)}."

    def clip_of(name: str) -> StudyClip | ClipResult:
        try:
            sequence, _ = load_sequence(dataset, root, name, selection)
            return clip_of_sequence(sequence, processor, resolution, patch_size)
        except (CaptureError, ExclusionError) as error:
            reason = str(error).replace(f"{root}/", "")
            return ClipResult(name, {}, excluded=reason if name in reason else f"{name}: {reason}")

    return len(names), words, map(clip_of, names)


def options_from(arguments: list[str]) -> MaskStudyOptions:
    """Options of a command line."""
    return tyro.cli(MaskStudyOptions, args=arguments, description=__doc__)


def main(arguments: list[str] | None = None) -> None:
    """Entry point: errors about the input are one sentence on stderr and exit code 1."""
    run_program("mask_study", NAME, arguments, options_from, run)


if __name__ == "__main__":
    main()
