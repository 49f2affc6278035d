"""Videos as clips for training: each is reconstructed, and kept where its own report bears it out."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from ..clips.annotated import Trust, clips_of_reconstruction
from ..clips.encoding import EncodedClip, Skip
from ..clips.workers import start_worker
from ..errors import Page4DError
from ..utils.measuring import memory_ran_out
from ..weights.loading import load_model
from .reconstruct import reconstruct

SOURCE = "videos"  # the data set's name in its rows
ATTEMPTS = 3  # at a video whose process dies


@dataclass(frozen=True)
class Annotation:
    """What is done with a video."""

    model: str  # folder of the weights, or their repository on the Hub
    fps: float | None
    max_frames: int | None
    frames_per_clip: int
    confidence_percentile: float
    trust: Trust


class Outcome(NamedTuple):
    """What became of a video."""

    clips: list[EncodedClip]  # or one without a row, with the reason why there is none
    memory_ran_out: bool = False  # which other videos may have taken: no clip can still mean that there will be some


def load(annotation: Annotation) -> None:
    """Load the model, once in each process."""
    _loaded(annotation.model)


def annotate_video(annotation: Annotation, path: str, name: str) -> Outcome:
    """A video to its clips; whatever is wrong with it becomes the reason why there is none.

    Raises:
        Page4DError: the model cannot be loaded, of which the video is innocent.
    """
    model, image_processor = _loaded(annotation.model)
    try:
        scene = reconstruct(
            path,
            model,
            image_processor=image_processor,
            fps=annotation.fps,
            max_frames=annotation.max_frames,
        )
        clips = clips_of_reconstruction(
            scene,
            SOURCE,
            name,
            frames_per_clip=annotation.frames_per_clip,
            confidence_percentile=annotation.confidence_percentile,
            trust=annotation.trust,
        )
    except Exception as error:  # one video in thousands must not end the run
        kind = "" if isinstance(error, Page4DError) else f"{type(error).__name__}: "
        return Outcome(_left_out(name, f"{kind}{error}"), memory_ran_out(error))
    return Outcome(clips)


class Annotator:
    """Annotates one video after the other, in a process that may die of one: the next has a new one."""

    load = staticmethod(load)
    work = staticmethod(annotate_video)

    def __init__(self, annotation: Annotation) -> None:
        self._annotation = annotation
        self._process: ProcessPoolExecutor | None = None

    def __call__(self, path: str | os.PathLike[str], name: str) -> Outcome:
        """The clips of a video, or the reason why there is none.

        Raises:
            Page4DError: the model cannot be loaded.
        """
        for _ in range(ATTEMPTS):
            loaded = self._process is not None
            try:
                if self._process is None:
                    context = multiprocessing.get_context("spawn")
                    self._process = ProcessPoolExecutor(1, mp_context=context, initializer=start_worker)
                    self._process.submit(self.load, self._annotation).result()
                    loaded = True
                return self._process.submit(self.work, self._annotation, os.fspath(path), name).result()
            except BrokenProcessPool:
                assert self._process is not None
                self._process.shutdown()
                self._process = None
        why = f"died {ATTEMPTS} times, probably because memory ran out; fewer --workers"
        if not loaded:
            raise Page4DError(f"A process that loads the model {self._annotation.model} {why} help.")
        return Outcome(_left_out(name, f"its process {why} or --max-frames help"), memory_ran_out=True)


@cache
def _loaded(model: str) -> tuple[Any, Any]:
    return load_model(model)


def _left_out(name: str, reason: str) -> list[EncodedClip]:
    full = f"{SOURCE}/{name}"
    return [EncodedClip(f"{full}/0000", None, [Skip("sequence", full, " ".join(reason.split()))])]
