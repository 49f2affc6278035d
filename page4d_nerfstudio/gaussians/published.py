"""4DGS as it was published (Wu et al., CVPR 2024), to compare with: all that it does otherwise than page4d-4dgs.

The field: the grid spans the extremes of the cloud, and what is outside of it shares the places of its border; the
planes are read from -1 to 1 at times from 0 to 1, so that half of the time axis is used; all heads read a layer that
they share and start at random; there are 150 samples along time; offsets are in the world's unit.

The training: every Gaussian moves and none is hidden, images are of all times from the start, things may grow and
shrink, planes are smoothed by second differences along one axis at each step, density control adds up the gradients of
a step's views, the scene's radius is that of the cameras, and learning rates start anew with the deformation.

Seed points, cameras, rasteriser and the rule by which a run stretches are the same as those of the other methods.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import losses
from .deformation import DeformationConfig, DeformationField, HexPlane, RobustBox
from .model import Page4DGaussiansModel, Page4DGaussiansModelConfig

# Its learning rates take 20,000 steps of each stage, which are never reached: they end at 70 % of the decay.
DECAY_UNTIL = 3_000 + 20_000


class PublishedHexPlane(HexPlane):
    """Planes that know the box alone, up to their border at 1."""

    def to_grid(self, positions: Tensor) -> Tensor:
        return (positions - self.centre) / self.half_extent


class PublishedDeformationField(DeformationField):
    """The field of 4DGS: see the module."""

    planes_class = PublishedHexPlane
    in_units_of_box = False

    def _make_layers(self, n_inputs: int, width: int) -> None:
        self.shared = nn.Linear(n_inputs, width)
        super()._make_layers(width, width)

    @torch.no_grad()
    def _start(self) -> None:
        """Weights of every layer by Xavier's uniform initialisation (Glorot and Bengio, 2010), each head by itself."""
        heads = self.hidden.weight.split(self.shared.out_features)
        for weight in (self.shared.weight, *heads, *(layer.weight for layer in self.last.values())):
            fan_out, fan_in = weight.shape
            weight.uniform_(-1.0, 1.0).mul_(math.sqrt(6.0 / (fan_in + fan_out)))

    def head_parameters(self) -> list[nn.Parameter]:
        return [*self.shared.parameters(), *super().head_parameters()]

    def plane_features(self, positions: Tensor, time: float) -> Tensor:
        """Features of the planes at a time in [0, 1]: [N, features]."""
        return super().features(positions, (1.0 + time) / 2.0)

    def features(self, positions: Tensor, time: float) -> Tensor:
        return F.relu(self.shared(self.plane_features(positions, time)))


@dataclass
class PublishedDeformationConfig(DeformationConfig):
    """The deformation field of 4DGS: HexPlane and heads."""

    def build(self, box: RobustBox, n_training_frames: int, sh_bases: int) -> DeformationField:
        return PublishedDeformationField(self, box, n_training_frames, sh_bases)


class PublishedGaussiansModel(Page4DGaussiansModel):
    """4DGS as published."""

    space_penalty = staticmethod(losses.acceleration)


@dataclass
class PublishedModelConfig(Page4DGaussiansModelConfig):
    """4DGS as published. Numbers of steps are for a run of 17,000 steps, and scale with --max-num-iterations."""

    _target: type = field(default_factory=lambda: PublishedGaussiansModel)


def published() -> PublishedModelConfig:
    """4DGS with its settings for HyperNeRF captures."""
    return PublishedModelConfig(
        deformation=PublishedDeformationConfig(frames_per_sample=0.0, box_quantile=0.0, box_margin=0.0),
        hide_motion_at_first=False,
        time_growth=0.0,
        motion_threshold=float("-inf"),
        regularize_every=1,
        size_weight=0.0,
        use_tracks=False,
        densify_gradient="step",
        extent_from="cameras",
    )
