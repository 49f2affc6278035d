"""Videos as clips for training: each is reconstructed, and kept where its own report bears it out."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache
from typing import Any

from ..clips.annotated import Trust, clips_of_reconstruction
from ..clips.encoding import EncodedClip, Skip
from ..clips.workers import start_worker
from ..errors import Page4DError
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


def annotate_video(annotation: Annotation, path: str, name: str) -> list[EncodedClip]:
    """A video to its clips; whatever is wrong with it becomes the reason why there is none."""
    try:
        model, image_processor = _loaded(annotation.model)
        scene = reconstruct(
            path,
            model,
            image_processor=image_processor,
            fps=annotation.fps,
            max_frames=annotation.max_frames,
        )
        return clips_of_reconstruction(
            scene,
            SOURCE,
            name,
            frames_per_clip=annotation.frames_per_clip,
            confidence_percentile=annotation.confidence_percentile,
            trust=annotation.trust,
        )
    except Page4DError as error:
        return [_left_out(name, str(error))]
    except Exception as error:  # one video in thousands must not end the run
        return [_left_out(name, f"{type(error).__name__}: {error}")]


class Annotator:
    """Annotates one video after the other, in a process that may die of one: the next has a new one."""

    work = staticmethod(annotate_video)

    def __init__(self, annotation: Annotation) -> None:
        self._annotation = annotation
        self._process: ProcessPoolExecutor | None = None

    def __call__(self, path: str | os.PathLike[str], name: str) -> list[EncodedClip]:
        """The clips of a video, or the reason why there is none."""
        for _ in range(ATTEMPTS):
            if self._process is None:
                context = multiprocessing.get_context("spawn")
                self._process = ProcessPoolExecutor(1, mp_context=context, initializer=start_worker)
            try:
                return self._process.submit(self.work, self._annotation, os.fspath(path), name).result()
            except BrokenProcessPool:
                self._process.shutdown()
                self._process = None
        why = (
            f"its process died {ATTEMPTS} times, probably because memory ran out; fewer --workers or --max-frames help"
        )
        return [_left_out(name, why)]


@cache
def _loaded(model: str) -> tuple[Any, Any]:
    return load_model(model)


def _left_out(name: str, reason: str) -> EncodedClip:
    full = f"{SOURCE}/{name}"
    return EncodedClip(f"{full}/0000", None, [Skip("sequence", full, " ".join(reason.split()))])
