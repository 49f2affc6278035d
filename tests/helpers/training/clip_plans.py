"""What micro-batches are made of, before any clip is opened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from page4d_hf.clips.batches import MicroBatches
from page4d_hf.clips.sampling import SamplePlan, SamplingConfig, Source, plan_sample, plan_shape, source_weights


class Plan(NamedTuple):
    num_frames: int
    image_size: tuple[int, int]  # (height, width)
    samples: tuple[SamplePlan, ...]


def plan_micro_batch(seed: int, index: int, sampling: SamplingConfig, sources: Sequence[Source]) -> Plan:
    """The plan of micro-batch `index`; clips that cannot be used change it yet."""
    shape = plan_shape(seed, index, sampling, source_weights([source.config for source in sources]))
    samples = [
        plan_sample(seed, index, number, 0, shape.num_frames, int(source), sources)
        for number, source in enumerate(shape.sources)
    ]
    return Plan(shape.num_frames, shape.image_size, tuple(samples))


def plan_of(dataset: MicroBatches, index: int) -> Plan:
    """`plan_micro_batch` of a data set's own."""
    return plan_micro_batch(dataset.seed, index, dataset.sampling, dataset._sources)
