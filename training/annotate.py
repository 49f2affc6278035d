"""Videos to a data set of clips for training: each is reconstructed, and kept where its own report bears it out.

    python training/annotate.py videos/ --model page4d --output clips/mine

The work is spread over GPUs, or the cores of a CPU, by Ray Data: on this machine, or on a cluster (`--address auto`) of
which all nodes see the videos and the model under the same paths and have page4d installed. The clips are the same
whatever the number of workers. A run that was interrupted goes on where it was when the same command is given again.
"""

from __future__ import annotations

import logging
import os
import pickle
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import tyro
from prepare import divide_sequences, print_summary

from page4d_hf.clips.annotated import Trust
from page4d_hf.errors import Page4DError
from page4d_hf.frames import GREATEST_FPS, VIDEO_SUFFIXES
from page4d_hf.utils.programs import counted, first_line, input_errors_end_the_program, not_installed
from page4d_hf.utils.progress import progress_bar
from page4d_hf.utils.ranges import check_ranges

if TYPE_CHECKING:
    from page4d_hf.reconstruction.annotation import Annotation, Outcome

RANGES = {
    "fps": (1e-4, GREATEST_FPS),
    "max_frames": (3, 100_000),  # of fewer, nothing can be refined
    "frames_per_clip": (2, 100_000),
    "confidence_percentile": (0, 99.9),
    "shard_megabytes": (0.001, 100_000),
    "workers": (1, 10_000),
}


class RayAnnotator:
    """An `Annotator` on rows of Ray Data, on the device that Ray gives it."""

    def __init__(self, annotation: Annotation) -> None:
        from page4d_hf.reconstruction.annotation import Annotator

        self.annotator = Annotator(annotation)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """`index`, `path` and `name` of a video to its index and, pickled, what became of it or what ends the run."""
        try:
            outcome: Outcome | Page4DError = self.annotator(row["path"], row["name"])
        except Page4DError as error:
            outcome = error
        return {"index": row["index"], "outcome": pickle.dumps(outcome)}


def annotate(
    videos: Annotated[
        tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="VIDEOS ...", help_behavior_hint="")
    ],
    model: str,
    output: Path,
    fps: float | None = None,
    max_frames: int | None = None,
    frames_per_clip: int = 128,
    confidence_percentile: float = 20.0,
    trust: Trust = Trust(),  # noqa: B008 - frozen
    seed: int = 0,
    shard_megabytes: float = 16,
    workers: int | None = None,
    address: str | None = None,
) -> None:
    """Make a data set of clips from videos, with the cameras, depth and motion that PAGE-4D sees in them.

    Run the command again to go on after an interruption. What is broken, or not borne out by its own report, is left
    out, named in OUTPUT/skipped.txt and counted at the end. Videos for which memory ran out are tried once more, one at
    a time.

    Args:
        videos: video files, or folders of them (with all folders below).
        model: folder of the weights, or their repository on the Hub.
        output: the folder to write; absent, empty, or begun by the same command.
        fps: take so many frames a second of a video; by default all.
        max_frames: take at most so many frames of a video, spread evenly; at least 3, for cameras to be refined.
        frames_per_clip: at most so many frames a clip.
        confidence_percentile: percentage of a frame's pixels, from the least confident, whose depth is left out.
        trust: what a reconstruction must show to be kept.
        seed: draws the order of the videos and of rows.
        shard_megabytes: about how large a Parquet file becomes. What is in no whole file is done again after an
            interruption.
        workers: videos at a time. By default one for each GPU, or for each core where there is no GPU.
        address: of a Ray cluster: auto, or ray://HOST:PORT. By default this machine alone.
    """
    started = time.perf_counter()
    check_ranges(locals(), RANGES)
    found = find_videos(videos)

    from page4d_hf.clips.writing import ClipWriter
    from page4d_hf.reconstruction.annotation import Annotation
    from page4d_hf.weights.identity import fingerprint
    from page4d_hf.weights.loading import load_config

    load_config(model)  # what is wrong with it is told before anything is written
    if Path(model).expanduser().is_dir():
        model = str(Path(model).expanduser().resolve())  # a worker's working folder is another
    annotation = Annotation(model, fps, max_frames, frames_per_clip, confidence_percentile, trust)
    options = {**asdict(annotation), "model": fingerprint(model), "seed": seed, "shard_megabytes": shard_megabytes}
    parts = divide_sequences(list(found), 0.0, seed)
    order = parts["train"]
    with ClipWriter(
        output, options=options, sequences=parts, seed=seed, max_shard_bytes=int(shard_megabytes * 1e6)
    ) as writer:
        if writer.complete:
            print(f"Nothing to do: {output} is whole, with {counted(writer.num_clips, 'clip')}.")
            return
        todo = [name for name in order if not writer.sequence_is_done(name)]
        if len(todo) < len(order):
            print(f"Going on with {output}: {len(order) - len(todo):,} of {len(order):,} videos are done.", flush=True)
        # Those for which memory ran out: one at a time, they may find enough.
        again: list[str] = []
        done = len(order) - len(todo)
        with progress_bar() as report:
            # All may be done: a run can stop between its last file and its record.
            for names, at_once in ((todo, workers), (again, 1)):
                annotated = run_on_ray([(n, found[n]) for n in names], annotation, at_once, address) if names else ()
                for name, outcome in annotated:
                    if outcome.memory_ran_out and at_once != 1:
                        again.append(name)
                        continue
                    writer.take("train", outcome.clips, [(name, [])])
                    done += 1
                    note = f"{counted(writer.num_clips, 'clip')}, {writer.num_skipped:,} skipped"
                    report("videos", done, len(order), note)
        if not writer.num_clips:
            raise Page4DError(f"No video gave a clip: {len(writer.skipped)} skipped, the first {writer.skipped[0]}")
        writer.finish("Clips of videos, annotated by PAGE-4D")
    print_summary(writer, output, time.perf_counter() - started)


def find_videos(given: Sequence[Path]) -> dict[str, Path]:
    """Video files by name: relative to the folder that was given, with its suffix."""
    if not given:
        raise Page4DError("Name video files, or folders of them, as VIDEOS.")
    found: dict[str, Path] = {}
    for path in given:
        if path.is_dir():
            files = [file for file in path.rglob("*") if file.is_file() and file.suffix.lower() in VIDEO_SUFFIXES]
            named = {file.relative_to(path).as_posix(): file for file in files}
        elif path.is_file():
            named = {path.name: path}
        else:
            raise Page4DError(f"Expected a video or a folder of videos; there is no {path}.")
        if both := sorted(found.keys() & named):
            raise Page4DError(f"Two videos are named {both[0]}; give the folder above them both.")
        found |= {name: path.resolve() for name, path in named.items()}
    if not found:
        kinds = ", ".join(sorted(VIDEO_SUFFIXES))
        raise Page4DError(f"Found no video in {', '.join(map(str, given))}; videos are files that end in {kinds}.")
    return found


def run_on_ray(
    videos: Sequence[tuple[str, Path]], annotation: Annotation, workers: int | None, address: str | None
) -> Iterator[tuple[str, Outcome]]:
    """Names of videos, and what became of each, in their order, whatever the number of `workers`: processes, each with
    one GPU or, where there is none, one core. Without an address, Ray is started on this machine.

    Raises:
        Page4DError: Ray does not start or gives up, or the model cannot be loaded.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # no warning: as Ray's next version does
    if address:  # not 20 tries of half a minute, where `auto` finds the address of a cluster that has ended
        os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "1")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise Page4DError(not_installed("Annotation needs Ray", "scale")) from error
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # its progress is ours
    try:
        if address is not None and (at := urlsplit(address if "//" in address else f"//{address}")).port:
            socket.create_connection((at.hostname or "", at.port), timeout=30).close()  # Ray would wait for minutes
        local = {"address": "local", "include_dashboard": False}
        ray.init(**({"address": address} if address else local), log_to_driver=False, logging_level="ERROR")
    except Exception as error:  # Ray raises no kind of its own
        where = f"Found no Ray cluster at {address}" if address else "Ray could not be started on this machine"
        raise Page4DError(f"{where} ({first_line(error)}).") from error
    try:
        resources = ray.cluster_resources()
        gpus = int(resources.get("GPU", 0))
        context = ray.data.DataContext.get_current()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = False
        rows = [{"index": i, "name": name, "path": str(path)} for i, (name, path) in enumerate(videos)]
        annotated = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            RayAnnotator,
            fn_constructor_args=(annotation,),
            compute=ray.data.ActorPoolStrategy(size=min(workers or gpus or int(resources["CPU"]), len(rows))),
            # One thread: sums in the same order, and so the same clips, however many workers there are.
            num_cpus=1,
            num_gpus=1 if gpus else 0,
        )
        # `iter_rows` has threads that may ask something of Ray after its end, which ends this process without a word.
        bundles = annotated.iter_internal_ref_bundles()
        for bundle in bundles:
            for block in ray.get(bundle.block_refs):
                for row in block.to_pylist():
                    outcome = pickle.loads(row["outcome"])
                    if isinstance(outcome, Page4DError):
                        raise outcome
                    yield videos[row["index"]][0], outcome
    except ray.exceptions.RayError as error:  # no worker could begin, or the cluster is gone
        raise Page4DError(f"Ray gave up ({str(error).strip().splitlines()[-1]}); run the command again.") from error
    finally:
        bundles = None  # ends the thread that hands out the work
        ray.shutdown()


def main(args: list[str] | None = None) -> None:
    """Errors about the input are one sentence on stderr and exit code 1."""
    with input_errors_end_the_program("annotate", "whole shards are kept, and the same command goes on from them."):
        tyro.cli(annotate, prog="annotate.py", args=args)


if __name__ == "__main__":
    main()
