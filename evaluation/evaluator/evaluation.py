"""A run of evaluation: options to sequences, predictions, scores, tables; in one process or shared out over many."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic_core import to_jsonable_python

from page4d_hf.errors import CaptureError, Page4DError
from page4d_hf.package_version import versions_of
from page4d_hf.reconstruction.network import resolve_resolution
from page4d_hf.utils.folders import check_output_folder, folder_of_all_processes, whole_folder
from page4d_hf.utils.progress import Progress, progress_bar

from .digests import data_digest, file_digest
from .inference import Inference, PointSource
from .metrics.depth import DepthLimits
from .metrics.scores import EvaluationError, ExclusionError, SequenceScores
from .predict import EvaluatedModel, load_evaluated_model, predict
from .predictions import (
    Predictions,
    PredictionsError,
    load_predictions,
    match_predictions,
    predictions_path,
    save_predictions,
)
from .protocols import PROTOCOLS, DepthProtocol, PointsProtocol, PoseProtocol
from .reporting.tables import write_tables
from .run_folder import RUN, VERSIONS, RunFolder
from .sequences import Dataset, EvaluatedSequence, choose_sequences, load_sequence, select
from .tasks import average, score
from .trivial import trivial_predictions

PATIENCE = timedelta(days=7)  # for which processes that are done wait for the others


@dataclass
class EvaluationOptions:
    """Options of a run: data set, model or predictions, protocol."""

    dataset: Dataset
    """Data set, in the layout in which it is published."""
    data_root: Path
    """The data set's folder."""
    output: Path
    """Folder of the run. A run that is in it goes on where it stopped."""
    model: str | None = None
    """PAGE-4D or VGGT: a folder for from_pretrained, or a Hub id."""
    predictions: Path | None = None
    """Or: a folder of any method's predictions, DIR/<sequence>.npz (docs/evaluation.md), which are scored instead."""
    protocol: Literal["page4d", "cut3r"] = "page4d"
    """Which frames, alignment, limits and averages."""
    split: str | None = None
    """Part of the data set; for Sintel the pass, final or clean. By default the protocol's."""
    sequences: tuple[str, ...] = ()
    """Only these sequences. By default those of the protocol."""
    frames: int | None = None
    """At most so many of the protocol's frames of each sequence, spread evenly."""
    resolution: int | None = None
    """Width of the network's input, in pixels. By default what the model's image processor says, which of the published
    weights is the protocol's 518."""
    mask: Literal["on", "off"] = "on"
    """Run the model with its dynamics-aware mask, as strong as its configuration says, or without, which makes it VGGT
    with other weights."""
    points: PointSource = "depth"
    """Points of the task `points`: depth lifted by the predicted cameras, or the point head's."""
    trivial: bool = False
    """Or: no model at all, but the same depth everywhere and a camera that stands still, as a row to compare with."""
    method: str | None = None
    """The method's name in tables. By default that of the model's or the predictions' folder."""
    keep_predictions: bool = False
    """Keep what the model says of each sequence, in OUTPUT/predictions, in the format that --predictions reads."""
    plots: bool = False
    """Draw trajectories, errors, depth and motion of each sequence, in OUTPUT/plots."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:<number>. Several processes take a GPU each."""
    dtype: str = "auto"
    """Precision of the network: auto, float32, bfloat16 or float16."""

    def __post_init__(self) -> None:
        if [self.model is not None, self.predictions is not None, self.trivial].count(True) != 1:
            raise EvaluationError(
                "Give one of --model, to run it, --predictions, to score what is there, and --trivial."
            )
        if self.model is None:
            options = {
                "--mask off": self.mask == "off",
                "--resolution": self.resolution is not None,
                "--points": self.points != "depth",
                "--dtype": self.dtype != "auto",
                "--keep-predictions": self.keep_predictions,
            }
            wrong = [name for name, is_given in options.items() if is_given]
            if wrong:
                raise EvaluationError(f"{' and '.join(wrong)} only say how --model is run.")
        if self.predictions is not None and not self.predictions.is_dir():
            raise EvaluationError(f"There is no folder of predictions {self.predictions}.")


class Evaluation:
    """One task on one data set. From its making to the end of `run`, other programs are kept out of its folder."""

    def __init__(self, task: str, options: EvaluationOptions) -> None:
        """Find the sequences, enter the run's folder, load the model."""
        from accelerate.state import PartialState

        self.task, self.options = task, options
        if task not in PROTOCOLS[options.protocol]:
            known = ", ".join(PROTOCOLS[options.protocol])
            raise EvaluationError(f"The protocol {options.protocol} has no task {task}; it has {known}.")
        protocol = PROTOCOLS[options.protocol][task]
        self.selection = select(options.protocol, task, options.dataset, split=options.split, frames=options.frames)
        # What this run takes stands by itself; the record need not repeat what it takes of other data sets.
        self.protocol = replace(protocol, selections={})
        if not isinstance(self.protocol, PoseProtocol):
            limits: dict[str, DepthLimits] = {options.dataset: self.protocol.limits_of(options.dataset)}
            self.protocol = replace(self.protocol, limits=limits)
        self.names, self.missing = choose_sequences(
            options.dataset, options.data_root, self.selection, options.sequences
        )
        if options.sequences:
            self.selection = self.selection.only(tuple(self.names))
        # Processes on CPUs that are not told so take themselves for single ones, and would all do the same.
        on_cpu = options.device == "cpu" or not torch.accelerator.is_available()
        self.state = PartialState(cpu=on_cpu, timeout=PATIENCE)
        with ExitStack() as stack:
            stack.enter_context(folder_of_all_processes(self.state, options.output, RUN))
            self.evaluated: EvaluatedModel | None = None
            self.inference = self.protocol.inference
            if options.model is not None:
                device = options.device
                if device == "auto" and self.state.num_processes > 1 and not on_cpu:
                    device = str(self.state.device)  # a GPU for each process
                self.evaluated = load_evaluated_model(
                    options.model, mask=options.mask, device=device, dtype=options.dtype
                )
                self.inference = inference_of(self.protocol, options, self.evaluated)
            self.folder = RunFolder(options.output, self._identity())
            with self.state.main_process_first():  # one process begins the folder, the others find it begun
                self.folder.enter()
            for name in self.names:
                check_output_folder(self.folder.plots(name), overwrite=True)
            self._held = stack.pop_all()

    def _identity(self) -> dict[str, Any]:
        """All that decides a figure, as JSON values."""
        evaluated = self.evaluated

        def told(part: Any) -> dict[str, Any]:
            return {"text": str(part), **to_jsonable_python(part)}

        return {
            "task": self.task,
            "dataset": self.options.dataset,
            "method": self.options.method or _default_method(self.options),
            "trivial": self.options.trivial,
            "protocol": told(self.protocol),
            "selection": told(self.selection),
            "inference": None if evaluated is None else told(self.inference),
            "model": None if evaluated is None else evaluated.facts,
            "versions": versions_of(VERSIONS),
        }

    # ----------------------------------------------------------------------------------------------------------------
    # Running

    def run(self) -> dict[str, Any]:
        """Evaluate what is left to do, and write result and tables.

        Returns:
            The result, as `result.json` has it. In processes but the main one it is empty.
        """
        # Shared out by their places, whatever is finished: another process may be done with its first one by now.
        mine = self.names[self.state.process_index :: self.state.num_processes]
        with self._held:
            with progress_bar(shown=self.state.is_main_process) as report:
                for done, name in enumerate(mine):
                    report("sequences", done, len(mine))
                    self._evaluate(name, report)
                report("sequences", len(mine), len(mine))
            self.state.wait_for_everyone()
            return self._gather() if self.state.is_main_process else {}

    def _evaluate(self, name: str, report: Progress) -> None:
        """Score a sequence, if it is not scored yet as its files are now."""
        source: dict[str, str] = {}
        try:
            sequence, notes = load_sequence(self.options.dataset, self.options.data_root, name, self.selection)
            source = self._source(sequence)
            if self._is_finished(name, source):
                return None
            self.folder.forget(name)
            scores = self._score(sequence, report)
            scores.notes[:0] = notes
        except (CaptureError, ExclusionError) as error:
            # What could not be read may be there the next time; the same weights or file say the same again.
            scores = SequenceScores(name, {}, 0.0, {}, excluded=_sentence(error, self.options))
            self.folder.forget(name)
            return self.folder.save(scores, source, again=not isinstance(error, PredictionsError))
        return self.folder.save(scores, source)

    def _source(self, sequence: EvaluatedSequence) -> dict[str, str]:
        """Digests of what is scored, and of the truth: where one of them is another, the sequence is scored anew."""
        source = {"data": data_digest(sequence)}
        if self.options.predictions is not None:
            source["predictions"] = file_digest(predictions_path(self.options.predictions, sequence.name))
        return source

    def _is_finished(self, name: str, source: dict[str, str]) -> bool:
        scores = self.folder.finished(name, source)
        if scores is None:
            return False
        if scores.excluded is not None:
            return True
        if self.options.keep_predictions and not predictions_path(self.folder.predictions(), name).is_file():
            return False
        return not self.options.plots or self.folder.plots(name).is_dir()

    def _score(self, sequence: EvaluatedSequence, report: Progress) -> SequenceScores:
        """Predict a sequence, or read its predictions, and score it; keep predictions and plots where asked for."""
        options, name = self.options, sequence.name
        predictions = self._predictions(sequence, report)
        if options.keep_predictions:
            save_predictions(predictions_path(self.folder.predictions(), name), predictions)
        report("scoring", 0, 1)
        scores = score(self.protocol, predictions, sequence, still_camera=options.trivial)
        report("scoring", 1, 1)
        if options.plots and scores.excluded is None:
            from .reporting.plots import draw_sequence

            report("plots", 0, 1)
            with whole_folder(self.folder.plots(name), overwrite=True) as partial:
                draw_sequence(partial, sequence, predictions)
            report("plots", 1, 1)
        return scores

    def _predictions(self, sequence: EvaluatedSequence, report: Progress) -> Predictions:
        if self.evaluated is not None:
            return predict(sequence, self.evaluated, self.inference, progress=report)
        if self.options.predictions is None:
            return trivial_predictions(sequence.frames.capture.frame_ids, sequence.frames.image_sizes)
        path = predictions_path(self.options.predictions, sequence.name)
        return match_predictions(load_predictions(path), sequence, path.name)

    # ----------------------------------------------------------------------------------------------------------------
    # The result

    def _gather(self) -> dict[str, Any]:
        scores, sources = [], {}
        for name in self.names:
            kept = self.folder.load(name)
            if kept is None:
                raise EvaluationError(f"The scores of {name} are gone or changed meanwhile; start the run again.")
            scores.append(kept.scores)
            sources[name] = kept.source
        for name in self.missing:
            where = f"the data set's folder has no {self.selection.split or ''} sequence of this name"
            scores.append(SequenceScores(name, {}, 0.0, {}, excluded=" ".join(where.split())))
        counted = [each for each in scores if each.excluded is None]
        averages = average(self.protocol, counted)
        result = self.folder.write_result(scores, averages, sources)
        write_tables(self.folder.root, result)
        if not counted:
            raise EvaluationError(
                f"None of {len(scores)} sequences could be scored; the first, {scores[0].name}: {scores[0].excluded}"
            )
        return result


def inference_of(
    protocol: DepthProtocol | PoseProtocol | PointsProtocol, options: EvaluationOptions, evaluated: EvaluatedModel
) -> Inference:
    """The protocol's inference settings, with the options' resolution and source of points."""
    width = resolve_resolution(options.resolution, evaluated.processor, evaluated.model.config.patch_size)
    inference = replace(protocol.inference, resolution=width)
    return inference if inference.points is None else replace(inference, points=options.points)


def _default_method(options: EvaluationOptions) -> str:
    if options.trivial:
        return "trivial"
    source = options.model if options.model is not None else str(options.predictions)
    path = Path(source).expanduser()
    return path.resolve().name if path.is_dir() else source


def _sentence(error: Page4DError, options: EvaluationOptions) -> str:
    """The error without places on this machine, which would make two equal runs differ."""
    sentence = str(error)
    for place in (options.data_root, options.predictions):
        sentence = sentence if place is None else sentence.replace(f"{place}/", "")
    return " ".join(sentence.split())
