"""One rule for every number of steps: it is given for a run of 17,000 steps, and stretches with the run.

17,000 is 4DGS's run on HyperNeRF captures: 3,000 coarse (static) and 14,000 fine (deforming) steps. A run of a tenth of
that length spends a tenth of it in each stage, densifies for a tenth of the time and decays its learning rates ten
times as fast, so that a short run is a small picture of a long one and not the start of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .model import Page4DGaussiansModelConfig

REFERENCE_STEPS = 17_000


def scale_steps(steps: int, run_length: int) -> int:
    """`steps` of a run of 17,000 steps, as steps of a run of `run_length`."""
    return round(steps * run_length / REFERENCE_STEPS)


@dataclass(frozen=True)
class Schedule:
    """When each part of the training happens, in steps of the actual run."""

    coarse_steps: int  # the first step that deforms
    densify_from: int  # Gaussians are split and cloned after this step ...
    densify_until: int  # ... and before this one
    sh_degree_interval: int  # one more degree of the spherical harmonics each so many steps
    resolution_interval: int  # one halving less of the images each so many steps

    @classmethod
    def of(cls, config: Page4DGaussiansModelConfig) -> Schedule:
        """The schedule of a model's configuration, scaled to its `run_length`."""
        return cls(
            coarse_steps=scale_steps(config.coarse_steps, config.run_length),
            densify_from=scale_steps(config.warmup_length, config.run_length),
            densify_until=scale_steps(config.stop_split_at, config.run_length),
            sh_degree_interval=max(1, scale_steps(config.sh_degree_interval, config.run_length)),
            resolution_interval=max(1, scale_steps(config.resolution_schedule, config.run_length)),
        )
