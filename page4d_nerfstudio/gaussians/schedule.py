"""One rule for every number of steps: it is given for a run of 17,000 steps, and stretches with the run.

17,000 is 4DGS's run on HyperNeRF captures: 3,000 coarse (static) and 14,000 fine (deforming) steps. A run of a tenth of
that length spends a tenth of it in each stage, densifies for a tenth of the time and decays its learning rates ten
times as fast, so that a short run is a small picture of a long one and not the start of it.
"""

from __future__ import annotations

from dataclasses import dataclass

REFERENCE_STEPS = 17_000

# The time, in [0, 1], at which Gaussians are where their canonical positions say, as far as training has a choice: the
# middle, from which the way to both ends is shortest.
CANONICAL_TIME = 0.5

# The half width of the span of times around it that the deforming stage starts with.
FIRST_SPAN = 0.06


def scale_steps(steps: int, run_length: int) -> int:
    """`steps` of a run of 17,000 steps, as steps of a run of `run_length`."""
    return round(steps * run_length / REFERENCE_STEPS)


@dataclass(frozen=True)
class Schedule:
    """When each part of the training happens, in steps of the actual run."""

    coarse_steps: int  # the first step that deforms
    all_times_from: int  # the first step that may see any time; from coarse_steps to here times grow from the middle
    densify_from: int  # Gaussians are split and cloned after this step ...
    densify_until: int  # ... and before this one
    screen_size_until: int  # until this step also those are split that are large on the screen
    sh_degree_interval: int  # one more degree of the spherical harmonics each so many steps
    resolution_interval: int  # one halving less of the images each so many steps

    @property
    def times_grow(self) -> bool:
        """Whether the deforming stage starts with a part of all times."""
        return self.coarse_steps < self.all_times_from

    def span_at(self, step: int) -> float:
        """Half the width of the span of times, around `CANONICAL_TIME`, that a training step takes its images from.

        All times in the static stage, whose parts do not move. Then a short span that grows steadily to all times, so
        that each instant is learned from its neighbour: what moved by more than its own size since the canonical time
        has no gradient that would lead there.
        """
        if not self.coarse_steps <= step < self.all_times_from:
            return 0.5
        progress = (step - self.coarse_steps) / (self.all_times_from - self.coarse_steps)
        return FIRST_SPAN + (0.5 - FIRST_SPAN) * progress
