"""Captures of moving scenes to a data set of clips for training.

    python training/prepare.py SOURCE --root ... --output ...

A clip is a row with images, depth, cameras and motion masks (docs/datasets.md); the data set is a folder of Parquet
shards that `training/finetune.py` and `datasets.load_dataset` read. A run that was interrupted goes on where it was
when the same command is given again.
"""

from __future__ import annotations

import fnmatch
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from page4d_hf.errors import CaptureError, Page4DError
from page4d_hf.synthetic import SyntheticOptions
from page4d_hf.utils.programs import command, counted, input_errors_end_the_program
from page4d_hf.utils.progress import progress_bar
from page4d_hf.utils.ranges import check_ranges

if TYPE_CHECKING:
    from page4d_hf.captures import Capture
    from page4d_hf.clips.encoding import ClipPlan, Skip
    from page4d_hf.clips.writing import ClipWriter

Source = Literal[
    "point-odyssey",
    "dynamic-replica",
    "kubric",
    "spring",
    "co3d",
    "sintel",
    "tum",
    "bonn",
    "dycheck",
    "nerfies",
    "capture",
    "synthetic",
]
RANGES = {
    "frames_per_clip": (2, 100_000),
    "stride": (1, 100_000),
    "max_side": (14, 100_000),
    "depth_tolerance": (0, 0.1),
    "validation_share": (0, 0.9),
    "seed": (0, 2**31 - 1),
    "shard_megabytes": (1, 100_000),
    "workers": (0, 1024),
    "num_clips": (1, 10**6),
    "width": (14, 8192),
    "height": (14, 8192),
}
SYNTHETIC_BATCH = 8  # clips that are rendered together, if they are not too large for it


def prepare(
    source: Annotated[Source, tyro.conf.Positional],
    output: Path,
    root: Path | None = None,
    split: str | None = None,
    sequences: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")] = (),
    frames_per_clip: int | None = None,
    stride: int = 1,
    max_side: int | None = None,
    depth_tolerance: float = 2.0**-11,
    validation_share: float = 0.0,
    seed: int = 0,
    shard_megabytes: int = 256,
    workers: int | None = None,
    num_clips: int = 1000,
    width: int = 224,
    height: int = 168,
    scenes: SyntheticOptions = SyntheticOptions(),  # noqa: B008 - frozen
) -> None:
    """Make a data set of clips from captures on disk, or from synthetic scenes.

    The same options and data give the same files, whatever the number of workers. Run the command again to go on after
    an interruption. What is broken is left out, named in OUTPUT/skipped.txt and counted at the end.

    Args:
        source: the data set, in its published layout; capture is a single folder of any layout that page4d reads, and
            synthetic renders random scenes.
        output: the folder to write; absent, empty, or begun by the same command.
        root: the folder of the data set, or of the capture.
        split: of the source: only its sequences (of a capture: its frames). By default all that there is to train on,
            of a capture all frames but those that its splits hold out; `--split all` takes these too.
        sequences: only these sequences of the source; names may have wildcards, as in 'rgbd_bonn_ball*'.
        frames_per_clip: at most so many frames a clip. By default 128, and 16 for synthetic.
        stride: take every so many-th frame of a sequence.
        max_side: scale larger images down until their longer side has so many pixels; cameras, depth and masks too.
        depth_tolerance: the largest relative error of a depth in a 16-bit file; what would err more becomes a float32
            file. 0 keeps all depth as it is.
        validation_share: the share of the scenes that becomes the split validation, with all sequences that show
            them: both eyes of a stereo pair, all cameras of a rig.
        seed: draws the scenes for validation, the order of rows, and the synthetic scenes.
        shard_megabytes: about how large a Parquet file becomes.
        workers: processes that read and encode. By default one for each core, at most 8. 0 works in this process.
        num_clips: synthetic only: how many clips.
        width: synthetic only: of the images, in pixels.
        height: synthetic only: of the images, in pixels.
        scenes: synthetic only: what the scenes are made of.
    """
    started = time.perf_counter()
    if frames_per_clip is None:
        frames_per_clip = 16 if source == "synthetic" else 128
    if workers is None:
        workers = min(len(os.sched_getaffinity(0)), 8)
    check_ranges(locals(), RANGES)
    options: dict[str, Any] = {
        "source": source,
        "frames_per_clip": frames_per_clip,
        "depth_tolerance": depth_tolerance,
        "validation_share": validation_share,
        "seed": seed,
        "shard_megabytes": shard_megabytes,
    }
    work: CaptureWork | SyntheticWork
    if source == "synthetic":
        if root is not None or split is not None or sequences or max_side is not None or stride != 1:
            raise Page4DError("synthetic takes no --root, --split, --sequences, --stride or --max-side.")
        options |= {"num_clips": num_clips, "width": width, "height": height, "scenes": asdict(scenes)}
        work = SyntheticWork(num_clips, frames_per_clip, (height, width), seed, scenes, depth_tolerance)
    else:
        if root is None:
            raise Page4DError(f"Name the folder of {source} with --root.")
        work = CaptureWork(source, root, split, sequences, frames_per_clip, stride, max_side, depth_tolerance)
        options |= {"root": str(root.resolve()), "split": split, "sequences": sorted(sequences)}
        options |= {"stride": stride, "max_side": max_side}
    parts = divide_sequences(work.names, validation_share, seed, work.scene_of)

    from page4d_hf.clips.workers import in_order
    from page4d_hf.clips.writing import ClipWriter

    with ClipWriter(
        output, options=options, sequences=parts, seed=seed, max_shard_bytes=shard_megabytes * 10**6
    ) as writer:
        if writer.complete:
            print(f"Nothing to do: {output} is whole, with {_counts(writer)}.")
            return
        if writer.num_clips:
            print(f"Going on with {output}, which has {counted(writer.num_clips, 'clip')}.", flush=True)
        done = {part: sum(map(writer.sequence_is_done, names)) for part, names in parts.items()}

        def tell(part: str) -> None:
            clips = writer.splits[part].clips + writer.pending
            note = f"sequences, {counted(clips, 'clip')}, {writer.num_skipped:,} skipped"
            report(part, done[part], len(parts[part]), note)

        with progress_bar() as report:
            for part in parts:
                tell(part)
            for (part, ended), clips in in_order(work.encode, work.tasks(parts, writer), workers):
                writer.take(part, clips, ended)
                done[part] += len(ended)
                tell(part)
        if not writer.num_clips:
            first = writer.skipped[0] if writer.skipped else "nothing was found"
            raise Page4DError(f"No clip of {source} could be written: {writer.num_skipped} skipped, the first {first}")
        writer.finish(f"Clips of {source}")
    print_summary(writer, output, time.perf_counter() - started)


# --------------------------------------------------------------------------------------------------------------------
# The work of a source: its sequences, and tasks in an order that depends on the options alone

Ended = list[tuple[str, list["Skip"]]]  # sequences of which all clips have come, with what was left out of each


class CaptureWork:
    """The sequences of a data set, or a single capture. A task is one clip."""

    def __init__(
        self,
        source: str,
        root: Path,
        split: str | None,
        patterns: Sequence[str],
        frames_per_clip: int,
        stride: int,
        max_side: int | None,
        depth_tolerance: float,
    ) -> None:
        from page4d_hf.clips.encoding import encode_clips, plan_clips

        self.source, self.root, self.split = source, root, split
        self.plan = partial(plan_clips, frames_per_clip=frames_per_clip, stride=stride, max_side=max_side)
        self.encode = partial(encode_clips, depth_tolerance=depth_tolerance)
        self.scene_of: Callable[[str], str] = str
        if source == "capture":
            self.capture = _read_single_capture(root)
            if split is None:
                self.capture = _without_held_out(self.capture)
            self.split = None if split == "all" else split
            found = [self.capture.sequence or root.resolve().name]
        else:
            from page4d_hf.captures import DATASETS, find_sequences

            self.scene_of = DATASETS[source].scene
            found = find_sequences(source, root, split)
        self.names = _choose(found, patterns, root)

    def tasks(
        self, parts: Mapping[str, Sequence[str]], writer: ClipWriter
    ) -> Iterator[tuple[tuple[str, Ended], list[ClipPlan]]]:
        """Clips that are not done, with the sequences that end with them."""
        for part, names in parts.items():
            for name in names:
                if writer.sequence_is_done(name):
                    continue
                plans, skipped = self._plan(name)
                plans = [plan for plan in plans if not writer.is_done(plan.clip_id)]
                for plan in plans[:-1]:
                    yield (part, []), [plan]
                yield (part, [(name, skipped)]), plans[-1:]

    def _plan(self, name: str) -> tuple[list[ClipPlan], list[Skip]]:
        from page4d_hf.clips.encoding import Skip

        if self.source == "capture":
            # The only one: what is wrong with it is wrong with the command.
            return self.plan(self.capture, self.capture.layout, name, split=self.split)
        from page4d_hf.captures import read_sequence

        try:
            capture = read_sequence(self.source, self.root, name)
            return self.plan(capture, self.source, name)
        except CaptureError as error:
            return [], [Skip("sequence", f"{self.source}/{name}", str(error))]


def _read_single_capture(root: Path) -> Capture:
    """A capture of any known layout, without the frames that are broken where its reader can leave them out."""
    from page4d_hf.captures import detect_layout, read_capture
    from page4d_hf.captures.layouts.dycheck import read_dycheck_folder
    from page4d_hf.captures.layouts.nerfies import read_nerfies

    # These two leave out a broken frame if they are told to. Those of TUM and Bonn always do, the other ones refuse a
    # capture of which an image is missing.
    layout = detect_layout(root)
    if layout == "nerfies":
        return read_nerfies(root, skip_broken=True)
    if layout == "dycheck":
        return read_dycheck_folder(root, skip_broken=True)
    return read_capture(root)


def _without_held_out(capture: Capture) -> Capture:
    import numpy as np

    held_out = [frames for split, frames in capture.splits.items() if split != "train"]
    kept = np.setdiff1d(np.arange(len(capture)), np.concatenate(held_out)) if held_out else np.arange(len(capture))
    if not len(kept):
        raise CaptureError(f"The splits of {capture.root} hold out all of its frames; --split all takes them.")
    return capture.select(kept)


class SyntheticWork:
    """Random scenes, a sequence and a clip each. A task is several of them, which are rendered together."""

    def __init__(
        self,
        num_clips: int,
        num_frames: int,
        image_size: tuple[int, int],
        seed: int,
        scenes: SyntheticOptions,
        depth_tolerance: float,
    ) -> None:
        from page4d_hf.clips.encoding import encode_synthetic_clips
        from page4d_hf.clips.rendered import MOST_FRAMES, MOST_PIXELS, check_size

        check_size(1, num_frames, image_size)
        most = min(MOST_FRAMES // num_frames, MOST_PIXELS // (num_frames * image_size[0] * image_size[1]))
        self.batch = min(SYNTHETIC_BATCH, most)
        self.encode = partial(
            encode_synthetic_clips,
            num_frames=num_frames,
            image_size=image_size,
            scenes=scenes,
            depth_tolerance=depth_tolerance,
        )
        self.scene_of: Callable[[str], str] = str
        # Scenes of different seeds have none in common.
        self.names = [str(seed * 10**7 + i) for i in range(num_clips)]

    def tasks(
        self, parts: Mapping[str, Sequence[str]], writer: ClipWriter
    ) -> Iterator[tuple[tuple[str, Ended], list[int]]]:
        """Seeds of scenes that are not done, with the sequences that end with them."""
        for part, names in parts.items():
            missing = [name for name in names if not writer.sequence_is_done(name)]
            for start in range(0, len(missing), self.batch):
                batch = missing[start : start + self.batch]
                yield (part, [(name, []) for name in batch]), [int(name) for name in batch]


def divide_sequences(
    names: Sequence[str], validation_share: float, seed: int, scene_of: Callable[[str], str] = str
) -> dict[str, list[str]]:
    """Sequences for training and validation, each in a random order: no scene is in both.

    Sequences of one folder follow each other, and it is the folders that are in a random order: data sets that are
    annotated by the folder (CO3D) are read many times faster so.

    Args:
        names: of all sequences.
        validation_share: of their scenes, for validation: at least one scene, unless the share is 0.
        seed: of the order.
        scene_of: the scene that a sequence shows. What another eye or camera saw of it would give it away.
    """
    import numpy as np

    names = sorted(names)
    shuffled = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
    folders: dict[str, list[str]] = {}
    for name in shuffled:
        folders.setdefault(name.rpartition("/")[0], []).append(name)
    order = [name for folder in folders.values() for name in folder]
    if validation_share == 0:
        return {"train": order}
    scenes = list(dict.fromkeys(map(scene_of, shuffled)))
    if len(scenes) < 2:
        raise Page4DError(f"--validation-share takes whole scenes, and there is only {scenes[0]}; leave it out.")
    held_out = set(scenes[: min(max(round(validation_share * len(scenes)), 1), len(scenes) - 1)])
    return {
        "train": [name for name in order if scene_of(name) not in held_out],
        "validation": [name for name in order if scene_of(name) in held_out],
    }


def _choose(found: Sequence[str], patterns: Sequence[str], root: Path) -> list[str]:
    """The sequences that one of the patterns names; all where there is no pattern."""
    for pattern in patterns:
        if not fnmatch.filter(found, pattern):
            raise Page4DError(
                f"{root} has no sequence {pattern!r}; it has {len(found)}, for example {', '.join(found[:3])}."
            )
    return [name for name in found if not patterns or any(fnmatch.fnmatchcase(name, p) for p in patterns)]


# --------------------------------------------------------------------------------------------------------------------
# What is told


def _counts(writer: ClipWriter) -> str:
    return "; ".join(
        f"{part}: {counted(counts.clips, 'clip')}, {counted(counts.frames, 'frame')}, "
        f"{counted(counts.shards, 'Parquet file')}"
        for part, counts in writer.splits.items()
    )


def print_summary(writer: ClipWriter, output: Path, seconds: float) -> None:
    size = sum(path.stat().st_size for path in (output / "data").glob("*.parquet"))
    print(f"Wrote {output} in {seconds:.1f} s, {size / 1e6:,.1f} MB. {_counts(writer)}.")
    if writer.skipped:
        kinds = Counter(skip.kind for skip in writer.skipped)
        words = ", ".join(counted(count, kind) for kind, count in kinds.items())
        print(f"Left out: {words}; all are named in {output / 'skipped.txt'}. The first: {writer.skipped[0]}")
    finetune = command("training/finetune.py", "--dataset", output, "--model", "page4d", "--output", "finetuned")
    print(f"Next: accelerate launch {finetune}")


def main(args: list[str] | None = None) -> None:
    """Errors about the input are one sentence on stderr and exit code 1."""
    with input_errors_end_the_program("prepare", "whole shards are kept, and the same command goes on from them."):
        tyro.cli(prepare, prog="prepare.py", args=args)


if __name__ == "__main__":
    main()
