"""What each micro-batch of a training run is made of: a pure function of the run's seed and the micro-batch's index.

Every draw comes from a generator that is keyed by (seed, index of the micro-batch, sample, attempt), so nothing depends
on what was drawn before, on the number of workers or of processes. A run that goes on at micro-batch k needs to know
nothing but k.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import ClipError, SamplingError

SYNTHETIC = "synthetic"  # the path of the source whose clips are made as they are needed
MOST_FRAMES = 10_000  # of a sample, and in a micro-batch
MOST_ASPECT = 100.0
MOST_PIXELS = 500_000_000  # of a micro-batch; with labels, they take 16 GB
PUBLISHED_SIZES = (518, 14)  # width of the images and patch size of the published network

# --------------------------------------------------------------------------------------------------------------------
# Settings


@dataclass(frozen=True)
class SourceConfig:
    """One source of clips and how windows are cut from them."""

    path: str = ""
    """Folder or Hub id of a data set of clips, or "synthetic" for random scenes, rendered as they are needed."""
    name: str = ""
    """What messages call the source. Its path by default."""
    split: str = "train"
    """The data set's split."""
    weight: float = 1.0
    """How often a sample comes from this source, relative to the weights of the others."""
    stride_min: int = 1
    """Smallest distance between consecutive frames of a window."""
    stride_max: int = 4
    """Largest distance between consecutive frames of a window. A clip that is too short for the distance drawn gets the
    largest that fits, down to 1."""
    ordered: bool | None = None
    """Whether windows follow time at a fixed stride (True) or are any distinct frames in random order (False). By
    default as each clip says of itself."""
    depth_percentile: float = 98.0
    """Depth beyond this percentile of a frame's valid depth counts as unknown: sky, and outliers of reconstructions.
    100 keeps all, as is always done with synthetic clips: their depth is exact."""
    streaming: bool = False
    """Read the shards front to back instead of at random: nothing is copied to the disk first. Every sample then reads
    a whole row, so write short clips for it."""
    lanes: int = 8
    """With streaming: lane l of L reads the shards l, l + L, ..., and micro-batch i takes from lane i % L. Which clips
    come depends on this number and not on workers or processes; reading is cheapest where it is a multiple of
    processes * workers. At most the number of shards."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.weight) and self.weight >= 0):
            raise SamplingError(f"The weight of {self.title} must be a number >= 0, got {self.weight}.")
        if not 1 <= self.stride_min <= self.stride_max:
            raise SamplingError(
                f"Strides of {self.title} must satisfy 1 <= stride_min <= stride_max, "
                f"got {self.stride_min} and {self.stride_max}."
            )
        if not 0 < self.depth_percentile <= 100:
            raise SamplingError(f"depth_percentile of {self.title} must be in (0, 100], got {self.depth_percentile}.")
        if self.lanes < 1:
            raise SamplingError(f"{self.title} needs at least one lane, got {self.lanes}.")

    @property
    def title(self) -> str:
        """Name of the source in messages."""
        return self.name or self.path or "the source"


# Mixing weights (in per cent) and strides that PAGE-4D was trained with. Waymo has no reader here: its terms of use ask
# for an account; a data set of clips made from it by its users finds its place.
PAPER_SOURCES: dict[str, SourceConfig] = {
    source.name: source
    for source in (
        SourceConfig(name="point-odyssey", weight=14.6, stride_max=8),
        SourceConfig(name="dynamic-replica", weight=22.9, stride_max=4),
        SourceConfig(name="kubric", weight=10.4, stride_max=1),
        SourceConfig(name="spring", weight=10.4, stride_max=3),
        SourceConfig(name="co3d", weight=20.8, ordered=False),
        SourceConfig(name="waymo", weight=20.8, stride_max=4),
    )
}


def source_named(name: str, path: str) -> SourceConfig:
    """The settings of one of `PAPER_SOURCES`, or the defaults, with the place where its clips lie."""
    return replace(PAPER_SOURCES.get(name, SourceConfig(name=name)), path=path)


@dataclass(frozen=True)
class SamplingConfig:
    """Number and size of a micro-batch's frames."""

    frames_min: int = 2
    """Fewest frames of a sample. The number is drawn uniformly for each micro-batch; all its samples share it."""
    frames_max: int = 16
    """Most frames of a sample."""
    frame_budget: int = 32
    """Frames of a micro-batch, all samples together: S frames a sample make floor(frame_budget / S) samples, and at
    least one. What memory allows; 32 in the paper's release."""
    width: int | None = None
    """Width of the images in pixels, a multiple of the patch size. By default that of the model's image processor: 518
    of the published network."""
    aspect_min: float = 0.33
    """Smallest height / width of the images, drawn uniformly for each micro-batch; the height is rounded to a multiple
    of the patch size."""
    aspect_max: float = 1.0
    """Largest height / width of the images."""
    patch_size: int | None = None
    """Patch size, which must be the model's, and is so by default: 14 of the published network."""

    def __post_init__(self) -> None:
        if not 1 <= self.frames_min <= self.frames_max <= MOST_FRAMES:
            raise SamplingError(
                f"Expected 1 <= frames_min <= frames_max <= {MOST_FRAMES}, got {self.frames_min!r:.40} and "
                f"{self.frames_max!r:.40}."
            )
        for name, high in (("frame_budget", MOST_FRAMES), ("width", 2**15), ("patch_size", 2**15)):
            value = getattr(self, name)
            if value is not None and not 1 <= value <= high:
                raise SamplingError(f"{name} must be from 1 to {high}, got {value!r:.40}.")
        if self.width is not None and self.patch_size is not None and self.width % self.patch_size:
            raise SamplingError(f"The width must be a multiple of the patch size {self.patch_size}, got {self.width}.")
        if not 0 < self.aspect_min <= self.aspect_max <= MOST_ASPECT:
            raise SamplingError(
                f"Expected 0 < aspect_min <= aspect_max <= {MOST_ASPECT:g}, got {self.aspect_min} and "
                f"{self.aspect_max}."
            )
        frames, (height, width) = max(self.frames_max, self.frame_budget), self.image_size(self.aspect_max)
        if frames * height * width > MOST_PIXELS:
            raise SamplingError(
                f"A micro-batch of {frames} frames of {width}x{height} has more than the {MOST_PIXELS:,} pixels "
                "that are allowed; lower frames_max, frame_budget, width or aspect_max."
            )

    @property
    def sizes(self) -> tuple[int, int]:
        """Width and patch size; the published network's, where they are left open."""
        width, patch_size = PUBLISHED_SIZES
        return self.width or width, self.patch_size or patch_size

    def image_size(self, aspect: float) -> tuple[int, int]:
        """Height and width in pixels of images whose height / width is about `aspect`, of whole patches."""
        width, patch_size = self.sizes
        return max(round(width * aspect / patch_size), 1) * patch_size, width


# --------------------------------------------------------------------------------------------------------------------
# Plans


@dataclass(frozen=True)
class ClipTable:
    """Lengths and ids of a source's clips, which plans are drawn from."""

    num_frames: npt.NDArray[np.int64]  # [N]
    ordered: npt.NDArray[np.bool_]  # [N]
    clip_ids: Sequence[str]  # [N], for messages


class Source(NamedTuple):
    """A source as the plan sees it."""

    config: SourceConfig
    table: ClipTable | None = None  # None: its clips are not known beforehand (streamed or synthetic)


@dataclass(frozen=True)
class SamplePlan:
    """The clip, frames and seed of one sample."""

    source: int  # index into the sources
    row: int | None  # the clip; None where the source's clips are not known beforehand
    frames: tuple[int, ...]  # of the clip, in the sample's order; empty where the clip is not known beforehand
    seed: int  # below 2^63, of all that is drawn later: the augmentation, the synthetic scene, a streamed clip's window


class MicroBatchShape(NamedTuple):
    """The part of a micro-batch that depends on no clip; cheap to compute for all micro-batches before an index."""

    num_frames: int
    image_size: tuple[int, int]  # (height, width)
    sources: npt.NDArray[np.int64]  # [number of samples], index of each sample's source


def keyed_generator(seed: int, *key: int) -> np.random.Generator:
    """A generator of its own for each seed and key of non-negative integers.

    Philox streams of numpy's `SeedSequence` are the same on every machine. numpy may change how its distributions use
    them from one release to another.
    """
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=key)))


def plan_shape(seed: int, index: int, sampling: SamplingConfig, weights: npt.NDArray[np.float64]) -> MicroBatchShape:
    """Size of a micro-batch and the source of each of its samples, by the sources' weights, not negative."""
    generator = keyed_generator(seed, index)
    num_frames = int(generator.integers(sampling.frames_min, sampling.frames_max + 1))
    aspect = generator.uniform(sampling.aspect_min, sampling.aspect_max)
    shares = np.cumsum(weights)
    drawn = generator.random(max(sampling.frame_budget // num_frames, 1)) * shares[-1]
    # The last source of positive weight ends at the sum, which rounding may let a draw reach.
    sources = np.minimum(np.searchsorted(shares, drawn, side="right"), np.flatnonzero(weights)[-1])
    return MicroBatchShape(num_frames, sampling.image_size(aspect), sources)


def plan_sample(
    seed: int, index: int, sample: int, attempt: int, num_frames: int, source: int, sources: Sequence[Source]
) -> SamplePlan:
    """Draw the clip and the window of one sample of micro-batch `index`.

    `attempt` counts the clips that were drawn for it and could not be used. `source` is the index of its source, which
    stays the same over attempts, so that bad clips do not change the mixture.
    """
    generator = keyed_generator(seed, index, sample, attempt)
    sample_seed = int(generator.integers(2**63))
    config, table = sources[source]
    if table is None:
        return SamplePlan(source, None, (), sample_seed)
    check_long_enough(config, table, num_frames)
    long_enough = np.flatnonzero(table.num_frames >= num_frames)
    row = int(long_enough[generator.integers(len(long_enough))])
    frames = draw_window(generator, int(table.num_frames[row]), num_frames, config, ordered=bool(table.ordered[row]))
    return SamplePlan(source, row, frames, sample_seed)


def draw_window(
    generator: np.random.Generator, clip_length: int, num_frames: int, config: SourceConfig, *, ordered: bool
) -> tuple[int, ...]:
    """Draw frames of one clip that is long enough: a window of fixed stride, or any distinct frames of an unordered
    clip.

    `ordered` says whether the clip's frames follow each other in time; that of `config` overrides it.
    """
    if not (ordered if config.ordered is None else config.ordered):
        return tuple(int(frame) for frame in generator.choice(clip_length, num_frames, replace=False))
    stride = int(generator.integers(config.stride_min, config.stride_max + 1))
    steps = num_frames - 1
    if steps:
        stride = min(stride, (clip_length - 1) // steps)
    start = int(generator.integers(clip_length - steps * stride))
    return tuple(range(start, start + steps * stride + 1, stride))


def source_weights(configs: Sequence[SourceConfig]) -> npt.NDArray[np.float64]:
    """The sources' mixing weights."""
    weights = np.array([config.weight for config in configs], np.float64)
    if not weights.sum() > 0:
        raise SamplingError("Expected at least one source of clips with a weight above 0; add one.")
    return weights


def check_long_enough(config: SourceConfig, table: ClipTable, num_frames: int) -> None:
    """Raise a `ClipError` where no clip of a source has `num_frames` frames."""
    longest = int(table.num_frames.max(initial=0))
    if longest < num_frames:
        raise ClipError(
            f"No clip of {config.title} has {num_frames} frames, the longest has {longest}; lower frames_max to "
            f"{longest}, or write longer clips."
        )


def shorter_clips(config: SourceConfig, table: ClipTable, num_frames: int) -> str | None:
    """A sentence on the clips of a source that have fewer than `num_frames` frames, if there are any."""
    count = int((table.num_frames < num_frames).sum())
    if not count:
        return None
    have = "clip has" if count == 1 else "clips have"
    return (
        f"{count:,} {have} fewer than {num_frames} frames, of the {len(table.num_frames):,} of {config.title}: samples "
        "of more frames come from the others."
    )
