"""Micro-batches of a training run: each is a pure function of the run's seed and its index.

`MicroBatches` makes the batch of an index from mapped data sets, streamed ones and synthetic scenes;
`micro_batch_loader` gives a process its share of them, in order, made by any number of workers.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from ..errors import ClipError, Page4DError, SamplingError
from ..synthetic import SyntheticOptions
from .augmentation import AugmentationConfig, AugmentedClip, augment_clip, jitter_colors
from .lanes import Lanes
from .reading import clip_header, decode_frames, load_clips
from .rendered import random_clips
from .sampling import (
    SYNTHETIC,
    ClipTable,
    MicroBatchShape,
    SamplePlan,
    SamplingConfig,
    Source,
    SourceConfig,
    check_long_enough,
    draw_window,
    keyed_generator,
    plan_sample,
    plan_shape,
    shorter_clips,
    source_weights,
)

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

TRIES = 32  # clips that are drawn for one sample before its source counts as broken


class MicroBatches(Dataset[dict[str, Any]]):
    """The micro-batches of a training run, by index, without end.

    `micro_batches[i]` is complete as it comes, S frames of H x W pixels in each of B samples:

    - **pixel_values** `(B, S, 3, H, W)` float32 in [0, 1].
    - **labels**, a dict, in each clip's own world and scale:
        - **extrinsics** `(B, S, 3, 4)` float32, world-to-camera; identities where the clip has none.
        - **intrinsics** `(B, S, 3, 3)` float32 in pixels, first pixel's centre at (0.5, 0.5); identities likewise.
        - **depth** `(B, S, H, W)` float32, z-depth, 0 where it is not known.
        - **motion_mask** `(B, S, H, W)` bool, true where something moves, false where it is not known; absent if no
          sample has one.
        - **has_pose**, **has_depth**, **has_motion** `(B,)` bool; the last where there is `motion_mask`.
    - **clip_ids**: for each sample, its clip and the ids of its frames, for messages.
    - **skips**: clips that were drawn and could not be used, one sentence each. Others of the same source took their
      places. Where lengths are known beforehand, clips that are too short are not drawn; `notes` counts them.

    Args:
        sources: where samples come from.
        sampling: frames and sizes.
        augmentation: random changes of the samples.
        seed: of the run, not negative.
        scenes: what synthetic scenes are made of.
        labels: the columns of which a clip needs one at least, as the loss learns from these: `depth`, `extrinsics`,
            `motion_mask`. Others count as clips that cannot be used.
        scene_device: where they are rendered. Batches are on the CPU all the same; a GPU can render only where the
            batches are made in the process itself, without workers.
    """

    def __init__(
        self,
        sources: Sequence[SourceConfig],
        sampling: SamplingConfig | None = None,
        augmentation: AugmentationConfig | None = None,
        seed: int = 0,
        scenes: SyntheticOptions | None = None,
        scene_device: torch.device | str = "cpu",
        labels: Sequence[str] = ("depth", "extrinsics"),
    ) -> None:
        if seed < 0:
            raise SamplingError(f"The seed must not be negative, got {seed}.")
        self.sampling = sampling or SamplingConfig()
        self.augmentation = augmentation or AugmentationConfig()
        self.seed = seed
        self.scenes = scenes or SyntheticOptions()
        self.scene_device = torch.device(scene_device)
        self.labels = tuple(labels)
        self._weights = source_weights(sources)
        self._clips: list[datasets.Dataset | Lanes | None] = []  # None: synthetic
        self._sources: list[Source] = []
        self.notes: list[str] = []  # sentences on the sources
        for config in sources:
            table: ClipTable | None = None
            if config.path == SYNTHETIC:
                self._clips.append(None)
            elif config.streaming:
                streamed = load_clips(config.path, config.split, streaming=True)
                self._clips.append(Lanes(cast("datasets.IterableDataset", streamed), config.lanes, config.title))
            else:
                clips = cast("datasets.Dataset", load_clips(config.path, config.split))
                table = _table_of(clips, config.title)
                check_long_enough(config, table, self.sampling.frames_max)
                if note := shorter_clips(config, table, self.sampling.frames_max):
                    self.notes.append(note)
                self._clips.append(clips.with_format("arrow"))
            self._sources.append(Source(config, table))
        # For each streamed source and lane: a micro-batch of that lane, and how many rows those before it take.
        self._taken: dict[tuple[int, int], tuple[int, int]] = {}

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Make a micro-batch."""
        shape = self._shape(index)
        skips: list[str] = []
        # [number of samples]
        samples: list[tuple[str, AugmentedClip] | None] = [None] * len(shape.sources)
        synthetic: dict[int, SamplePlan] = {}
        streamed: dict[int, _LaneRows] = {}
        for number, source in enumerate(shape.sources.tolist()):
            clips = self._clips[source]
            if clips is None:
                synthetic[number] = plan_sample(self.seed, index, number, 0, shape.num_frames, source, self._sources)
                continue
            if isinstance(clips, Lanes) and source not in streamed:
                streamed[source] = self._lane_rows(clips, source, index, shape)
            samples[number] = self._load(index, number, source, shape, streamed.get(source), skips)
        if synthetic:
            for number, sample in zip(synthetic, self._render(list(synthetic.values()), shape), strict=True):
                samples[number] = sample
        batch = _assemble([sample for sample in samples if sample is not None])
        return {**batch, "skips": skips}

    def _shape(self, index: int) -> MicroBatchShape:
        return plan_shape(self.seed, index, self.sampling, self._weights)

    def _load(
        self,
        index: int,
        number: int,
        source: int,
        shape: MicroBatchShape,
        lane_rows: _LaneRows | None,
        skips: list[str],
    ) -> tuple[str, AugmentedClip]:
        """A sample from a data set; the clips that could not be used are added to `skips`."""
        config = self._sources[source].config
        for attempt in range(TRIES):
            plan = plan_sample(self.seed, index, number, attempt, shape.num_frames, source, self._sources)
            generator = keyed_generator(plan.seed)
            frames = plan.frames
            row: pa.Table
            if lane_rows is None:
                row = cast("datasets.Dataset", self._clips[source])[plan.row]
            else:
                row = lane_rows.next(again=attempt > 0)
            try:
                header = clip_header(row)
                if not any(row[name][0].is_valid for name in self.labels):
                    raise ClipError(_without_labels(header.clip_id, row, self.labels))
                if lane_rows is not None:
                    length, wanted = header.num_frames, shape.num_frames
                    if length < wanted:
                        raise ClipError(f"Clip {header.clip_id} has {length} frames, too few for {wanted}.")
                    frames = draw_window(generator, length, wanted, config, ordered=header.ordered)
                clip = decode_frames(row, frames)
                augmented = augment_clip(
                    clip, shape.image_size, self.augmentation, generator, depth_percentile=config.depth_percentile
                )
            except ClipError as error:
                skips.append(str(error))
                continue
            return _name(clip.clip_id, augmented.frame_ids), augmented
        raise ClipError(
            f"{TRIES} clips of {config.title} that were drawn one after the other cannot be used; the last: {skips[-1]}"
        )

    def _lane_rows(self, lanes: Lanes, source: int, index: int, shape: MicroBatchShape) -> _LaneRows:
        """The rows that this micro-batch takes from a streamed source."""
        lane = index % len(lanes)
        at, taken = self._taken.get((source, lane), (lane, 0))
        if at > index:
            at, taken = lane, 0
        for before in range(at, index, len(lanes)):
            taken += int((self._shape(before).sources == source).sum())
        self._taken[source, lane] = (index, taken)
        return _LaneRows(lanes, lane, taken, int((shape.sources == source).sum()))

    def _render(self, plans: Sequence[SamplePlan], shape: MicroBatchShape) -> Iterator[tuple[str, AugmentedClip]]:
        """Synthetic samples, rendered all at once."""
        seeds = [plan.seed for plan in plans]
        clips = random_clips(seeds, shape.num_frames, shape.image_size, device=self.scene_device, options=self.scenes)
        # One copy of each, not one a clip.
        images = clips.images.movedim(2, -1).contiguous().cpu().numpy()
        depth, motion_mask = clips.depth.cpu().numpy(), clips.motion_mask.cpu().numpy()
        intrinsics, extrinsics = clips.intrinsics.cpu().numpy(), clips.extrinsics.cpu().numpy()
        for i, plan in enumerate(plans):
            generator = keyed_generator(plan.seed)
            # Fields of view and motions are the scene's own draws already; colours are changed as those of any clip.
            jitter_colors(images[i], self.augmentation, generator)
            sample = AugmentedClip(
                images=torch.from_numpy(images[i]).permute(0, 3, 1, 2),
                depth=depth[i],
                motion_mask=motion_mask[i],
                intrinsics=intrinsics[i],
                extrinsics=extrinsics[i],
                frame_ids=[str(frame) for frame in range(shape.num_frames)],
            )
            yield _name(f"{SYNTHETIC}/{plan.seed}", sample.frame_ids), sample


class _LaneRows:
    """The rows of a lane that one micro-batch takes, and those that stand in for rows that cannot be used.

    Substitutes are the rows that follow, which the lane's next micro-batch begins with all the same: where a
    micro-batch begins must not depend on what was wrong with the clips before it.
    """

    def __init__(self, lanes: Lanes, lane: int, start: int, count: int) -> None:
        self._lanes, self._lane, self._start = lanes, lane, start
        self._own, self._substitutes = iter(range(start, start + count)), itertools.count(start + count)

    def next(self, *, again: bool) -> pa.Table:
        position = next(self._substitutes if again else self._own)
        return self._lanes.row(self._lane, position, self._start)


def _table_of(clips: datasets.Dataset, title: str) -> ClipTable:
    names = ("num_frames", "ordered", "clip_id")
    for name in names:
        if clips.data.column(name).null_count:
            raise ClipError(f"The column {name!r} of {title} lacks values; write the clips again.")
    try:
        columns = [clips.data.column(name).to_pylist() for name in names]
    except UnicodeDecodeError as error:
        raise ClipError(f"The column 'clip_id' of {title} is not UTF-8 ({error}); write the clips again.") from error
    return ClipTable(np.array(columns[0], np.int64), np.array(columns[1], np.bool_), columns[2])


_LABELS = {"depth": "depth", "extrinsics": "cameras", "motion_mask": "motion masks"}


def _without_labels(clip_id: str, row: pa.Table, labels: Sequence[str]) -> str:
    """The message about a clip without any label that the loss uses."""
    found = ["images", *(words for name, words in _LABELS.items() if row[name][0].is_valid)]
    return (
        f"Clip {clip_id} has {' and '.join(found)}, but none of what the loss learns from: "
        f"{', '.join(_LABELS[name] for name in labels)}."
    )


def _name(clip_id: str, frame_ids: Sequence[str]) -> str:
    return f"{clip_id} (frames {', '.join(frame_ids)})"


def _assemble(samples: Sequence[tuple[str, AugmentedClip]]) -> dict[str, Any]:
    """One batch of samples of equal size."""
    first = samples[0][1].images
    count, (num_frames, _, height, width) = len(samples), first.shape
    pixel_values = torch.empty(count, *first.shape)
    labels = {
        "extrinsics": torch.eye(3, 4).repeat(count, num_frames, 1, 1),
        "intrinsics": torch.eye(3).repeat(count, num_frames, 1, 1),
        "depth": torch.zeros(count, num_frames, height, width),
        "has_pose": torch.tensor([sample.extrinsics is not None for _, sample in samples]),
        "has_depth": torch.tensor([sample.depth is not None for _, sample in samples]),
    }
    has_motion = torch.tensor([sample.motion_mask is not None for _, sample in samples])
    if has_motion.any():
        labels["motion_mask"] = torch.zeros(count, num_frames, height, width, dtype=torch.bool)
        labels["has_motion"] = has_motion
    for i, (_, sample) in enumerate(samples):
        pixel_values[i] = sample.images
        for name in ("extrinsics", "intrinsics", "depth", "motion_mask"):
            values = getattr(sample, name)
            if values is not None and name in labels:
                labels[name][i] = torch.from_numpy(values)
    return {"pixel_values": pixel_values, "labels": labels, "clip_ids": [name for name, _ in samples]}


# --------------------------------------------------------------------------------------------------------------------
# The loader


def micro_batch_loader(
    dataset: Dataset[dict[str, Any]],
    start: int = 0,
    process_index: int = 0,
    num_processes: int = 1,
    micro_batches: int = 1,
    workers: int = 0,
    prefetch: int = 2,
    pin_memory: bool = False,
) -> Iterator[dict[str, Any]]:
    """The micro-batches of one process from index `start` on, in order, without end.

    Micro-batch t * `micro_batches` + m belongs to step t and to process m % `num_processes`, so that a step sees the
    same data however many processes share it. Neither workers nor prefetching change what comes.

    Args:
        dataset: `MicroBatches`, or any other that makes a batch of an index.
        start: the first index, counted over all processes; `step * micro_batches` to go on at a step.
        process_index: which process this is.
        num_processes: how many processes share the micro-batches.
        micro_batches: micro-batches of an optimizer step, over all processes; a multiple of `num_processes`.
        workers: processes that make batches ahead of time; 0 makes them as they are asked for. Batches travel through
            shared memory (/dev/shm), about 4 MB per frame of 518x518 with its labels.
        prefetch: batches that each worker keeps ready.
        pin_memory: put the tensors into page-locked memory, from which a GPU takes them faster.

    Raises:
        SamplingError: at once, where processes cannot share the micro-batches.
        Page4DError: what making a batch raises, when that batch's turn comes, whichever process made it.
    """
    if not 0 <= process_index < num_processes:
        raise SamplingError(f"Expected a process from 0 to {num_processes - 1}, got {process_index}.")
    if micro_batches < 1 or micro_batches % num_processes:
        raise SamplingError(
            f"{micro_batches} micro-batches of a step cannot be shared by {num_processes} processes; set "
            f"micro_batches to a multiple of {num_processes}."
        )
    if start < 0:
        raise SamplingError(f"The first micro-batch must not be negative, got {start}.")
    # micro_batches is a multiple of num_processes, so m % num_processes is the index % num_processes.
    first = start + (process_index - start) % num_processes
    loader = DataLoader(
        _ErrorsAsItems(dataset),
        batch_size=None,
        sampler=range(first, sys.maxsize, num_processes),
        num_workers=workers,
        prefetch_factor=prefetch if workers else None,
        pin_memory=pin_memory,
        # A loader without a generator of its own draws from torch's global one, which the training may be using.
        generator=torch.Generator().manual_seed(0),
    )
    return _raise_errors(loader)


class _ErrorsAsItems(Dataset[dict[str, Any] | Page4DError]):
    """Errors about the input as items: raised in a worker, one would come wrapped into the text of a traceback."""

    def __init__(self, dataset: Dataset[dict[str, Any]]) -> None:
        self.dataset = dataset

    def __getitem__(self, index: int) -> dict[str, Any] | Page4DError:
        try:
            return self.dataset[index]
        except Page4DError as error:
            return error


def _raise_errors(loader: DataLoader[Any]) -> Iterator[dict[str, Any]]:
    for item in loader:
        if isinstance(item, Page4DError):
            raise item
        yield item
