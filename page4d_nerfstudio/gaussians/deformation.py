"""Where Gaussians are at a time: a HexPlane field over (x, y, z, t) and small heads that read offsets from it.

    positions [N, 3], time t
        RobustBox      world to the grid's [-1, 1], the bulk of the points in its inner part, the far rest in its rim
        HexPlane       six planes xy, xz, yz, xt, yt, zt at several resolutions -> features [N, F * scales]
        heads          features -> offsets of position, log scale, rotation (and opacity, colour)

The field is that of HexPlane (Cao and Johnson, CVPR 2023) in the form of K-Planes (Fridovich-Keil et al., CVPR 2023),
used for Gaussians as 4DGS does (Wu et al., CVPR 2024). Some things differ from 4DGS. The grid spans a robust box and
not the extremes of the cloud, which a few stray points stretch. Time spans the whole of its axis. The heads' output
layers start at zero, so that deformation starts as the identity, and there is no layer between planes and heads.
`published.py` has all of them as in 4DGS.

The network works in units of the box's size: offsets of position come out times `extent`. A learning rate of planes
and heads therefore moves Gaussians by itself times the scene's extent, as 4DGS has it, while the network's own numbers
do not depend on the unit of the world. In 4DGS offsets are in the world's unit, and the learning rates are multiplied.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from nerfstudio.configs.base_config import PrintableConfig
from torch import Tensor, nn

from page4d_hf.errors import Page4DError
from page4d_hf.utils.ranges import FINITE, check_ranges

from .scaffold import MotionScaffold

# The two axes of each plane, of (x, y, z).
SPACE_PLANES = ((0, 1), (0, 2), (1, 2))

# The part of the grid, from its centre, that the robust box takes; the rest holds everything outside of the box.
INNER = 0.9


MOST_PARAMETERS = 10**9  # of the planes: 4 GB, and three times that with Adam's moments; the default has 7 million
SIZES = {
    "features": (1, 4096),
    "resolution": (1, 2**16),
    "time_resolution": (1, 2**20),
    "multires": (1, 2**16),
    "width": (1, 2**14),
    "frames_per_sample": (0, FINITE),
}
HEADS = ("position", "scale", "rotation", "opacity", "color")


class DeformationError(Page4DError):
    """Points or options that no deformation field can be built from."""


@dataclass
class DeformationConfig(PrintableConfig):
    """The deformation field: HexPlane and heads. Defaults are those of 4DGS for HyperNeRF captures."""

    features: int = 16
    """Features per plane and resolution."""
    resolution: int = 64
    """Samples along x, y and z of the coarsest planes."""
    time_resolution: int = 150
    """Maximum number of samples along time; see frames_per_sample."""
    frames_per_sample: float = 2.0
    """Training instants per sample along time, which keeps the field from memorising single frames. 4DGS sets the
    number of samples by hand, to about half the number of frames. 0 uses time_resolution samples for every capture."""
    multires: tuple[int, ...] = (1, 2, 4)
    """Multiples of the spatial resolution, whose features are concatenated. (1, 2) is faster."""
    width: int = 128
    """Width of the hidden layer of each head."""
    position: bool = True
    """Whether positions change over time."""
    scale: bool = True
    """Whether scales change over time."""
    rotation: bool = True
    """Whether rotations change over time."""
    opacity: bool = False
    """Whether opacities change over time, for things that appear and vanish (4DGS: on for DyNeRF)."""
    color: bool = False
    """Whether colours change over time (4DGS: on for DyNeRF)."""
    box_quantile: float = 0.02
    """Share of the points that may lie outside the box at each end of each axis."""
    box_margin: float = 0.1
    """Margin of the box at each end of an axis, as a share of its side."""

    def check(self) -> None:
        """Raises DeformationError where a size is out of range, or the planes would hold more than MOST_PARAMETERS."""
        check_ranges(self, SIZES, "--pipeline.model.deformation.", DeformationError)
        sides = [self.resolution * multiple for multiple in self.multires]
        parameters = sum(3 * self.features * side * (side + self.time_resolution) for side in sides)
        if parameters > MOST_PARAMETERS:
            raise DeformationError(
                f"The deformation's planes would hold {parameters:.3g} numbers, and at most {MOST_PARAMETERS:.0e} are "
                "allowed; take fewer features, or a lower resolution, time_resolution or multires."
            )

    def build(self, box: RobustBox, n_training_frames: int, sh_bases: int) -> DeformationField:
        """The field with these options; see `DeformationField`."""
        return DeformationField(self, box, n_training_frames, sh_bases)


class RobustBox(NamedTuple):
    """An axis-aligned box around the bulk of a cloud, `centre` and `half_extent` both [3], in the cloud's unit."""

    centre: Tensor
    half_extent: Tensor

    @classmethod
    def around(cls, points: Tensor, quantile: float, margin: float) -> RobustBox:
        """The box between two quantiles of `points` [N, 3] along each axis, and a margin around it.

        Args:
            points: The cloud.
            quantile: Share of the points that may be outside at each end of each axis, in [0, 0.5).
            margin: By how much of its side the box grows at each end.

        Raises:
            DeformationError: a number out of range, no points, or points that are not finite.
        """
        if not 0.0 <= quantile < 0.5:
            raise DeformationError(f"box_quantile must be at least 0 and below 0.5, got {quantile}.")
        if margin < 0.0:
            raise DeformationError(f"box_margin can't be negative, got {margin}.")
        cloud = points.detach().cpu().numpy()
        if len(cloud) == 0 or not np.isfinite(cloud).all():
            raise DeformationError(
                f"A scene's box needs finite points, got {len(cloud)} points, "
                f"{int((~np.isfinite(cloud)).any(axis=-1).sum())} of them with NaN or infinity."
            )
        lower, upper = np.quantile(cloud, (quantile, 1.0 - quantile), axis=0)
        half = (0.5 + margin) * (upper - lower)
        # A flat or single-point cloud still gets a box with an inside.
        half = np.maximum(half, max(1e-3 * half.max(), 1e-6))
        to_tensor = torch.as_tensor
        return cls(to_tensor((lower + upper) / 2, dtype=torch.float32), to_tensor(half, dtype=torch.float32))

    @property
    def extent(self) -> float:
        """Half of the diagonal: the radius of the scene."""
        return float(self.half_extent.norm())


class HexPlane(nn.Module):
    """Features of points in space and time: product over six planes, concatenated over resolutions.

    f(x, y, z, t) = concat over scales s of the product over planes c of P_{c,s} at the two coordinates of c
    (K-Planes, eq. 1 and its multi-scale form), each plane interpolated bilinearly between samples that lie on the
    grid's borders too.
    """

    centre: Tensor
    half_extent: Tensor

    def __init__(
        self,
        box: RobustBox,
        features: int = 16,
        resolution: int = 64,
        time_resolution: int = 150,
        multires: tuple[int, ...] = (1, 2, 4),
    ) -> None:
        super().__init__()
        if resolution < 2 or time_resolution < 2 or features < 1 or not multires or min(multires) < 1:
            raise DeformationError(
                "The planes need at least 2 samples along each axis, 1 feature and 1 resolution, got "
                f"resolution={resolution}, time_resolution={time_resolution}, features={features}, multires={multires}."
            )
        self.register_buffer("centre", box.centre.clone())
        self.register_buffer("half_extent", box.half_extent.clone())
        # The planes of a kind and scale have one shape and make one tensor: fewer, larger calls. A product of six
        # factors starts as the product of the space planes, and time starts without influence.
        self.space = nn.ParameterList(  # per scale: [3 (xy, xz, yz), F, R (second axis), R (first axis)]
            torch.empty(3, features, resolution * m, resolution * m).uniform_(0.1, 0.5) for m in multires
        )
        self.time = nn.ParameterList(  # per scale: [3 (xt, yt, zt), F, T, R]
            torch.ones(3, features, time_resolution, resolution * m) for m in multires
        )
        self.n_features = features * len(multires)

    def to_grid(self, positions: Tensor) -> Tensor:
        """World positions [N, 3] to the grid's coordinates in (-1, 1) [N, 3].

        With u the coordinate in units of the box's half side: 0.9 u inside, and outside sign(u) (1 - 0.1 / |u|), a
        contraction like that of mip-NeRF 360 (Barron et al., CVPR 2022, eq. 10) by axis. So all of space has a place
        on the grid, and however far out strays are, they cost no more than its rim.
        """
        u = (positions - self.centre) / self.half_extent
        outside = u.abs() > 1.0
        # The value inside of the box stands in for |u| below 1, where 1 / |u| has no use and no finite gradient.
        distance = torch.where(outside, u.abs(), 1.0)
        return torch.where(outside, u.sign() * (1.0 - (1.0 - INNER) / distance), INNER * u)

    def forward(self, positions: Tensor, time: float) -> Tensor:
        """Features [N, F * scales] of world positions [N, 3] at a time in [0, 1], the full range of the time axis."""
        # On a CPU the gradient of grid_sample at NaN writes outside of the planes. A position stays NaN when a finite
        # offset is added to it, for those to find that look for such.
        grid = self.to_grid(positions).nan_to_num()
        pairs = torch.stack([grid[:, pair] for pair in SPACE_PLANES])[:, :, None]  # [3, N, 1, 2]
        # All points share the time, so each time plane is first interpolated to a line along space.
        lines = torch.stack([torch.stack((grid[:, i], torch.zeros_like(grid[:, i])), dim=-1) for i in range(3)])
        lines = lines[:, :, None]  # [3, N, 1, 2]
        scales = []
        for space, time_planes in zip(self.space, self.time, strict=True):
            in_space = _sample(space, pairs)  # [3, F, N]
            in_time = _sample(_line_at(time_planes, time), lines)  # [3, F, N]
            xyz = in_space * in_time
            scales.append(xyz[0] * xyz[1] * xyz[2])
        return torch.cat(scales).T


def _sample(planes: Tensor, coordinates: Tensor) -> Tensor:
    """Planes [P, F, H, W] at coordinates [P, N, 1, 2] in [-1, 1] (x along W, y along H), as [P, F, N]."""
    return F.grid_sample(planes, coordinates, mode="bilinear", padding_mode="border", align_corners=True)[..., 0]


def _line_at(planes: Tensor, time: float) -> Tensor:
    """Time planes [P, F, T, R] at a place in [0, 1], as [P, F, 1, R]: 0 is the first sample and 1 is the last."""
    last = planes.shape[2] - 1
    place = min(max(time, 0.0), 1.0) * last
    before = min(int(place), last - 1)
    fraction = place - before
    weights = planes.new_tensor((1.0 - fraction, fraction))
    return (planes.narrow(2, before, 2) * weights[:, None]).sum(dim=2, keepdim=True)


class Offsets(NamedTuple):
    """What to add to Gaussians at a time; None where that does not change."""

    position: Tensor | None  # [N, 3], in the world's unit
    scale: Tensor | None  # [N, 3], to the logarithm
    rotation: Tensor | None  # [N, 4], to the normalised quaternion, wxyz, once it is turned
    opacity: Tensor | None  # [N, 1], to the logit
    color: Tensor | None  # [N, K, 3], to the coefficients of the spherical harmonics
    turn: Tensor | None = None  # [N, 4] wxyz, a rotation, of the normalised quaternion


class DeformationField(nn.Module):
    """Offsets of Gaussians as a function of their canonical position and the time.

    Each head is one hidden layer of `width` and one linear layer that starts at zero.
    """

    planes_class: type[HexPlane] = HexPlane
    # Whether offsets of positions are in units of the box. Otherwise they are in the world's, and learning rates of
    # planes and heads have to be in units of the scene's extent.
    in_units_of_box = True

    def __init__(self, config: DeformationConfig, box: RobustBox, n_training_frames: int, sh_bases: int) -> None:
        """
        `scaffold` may be set afterwards: offsets are then in addition to its motions.

        Args:
            config: Sizes, and what deforms.
            box: Around the Gaussians that move.
            n_training_frames: Instants of the training images; bounds the samples along time.
            sh_bases: Spherical harmonics per colour channel, K.

        Raises:
            DeformationError: a size that is too small, or nothing to deform.
        """
        super().__init__()
        self.scaffold: MotionScaffold | None = None
        self.sh_bases = sh_bases
        self.hexplane = self.planes_class(
            box,
            config.features,
            config.resolution,
            samples_along_time(config, n_training_frames),
            config.multires,
        )
        sizes = {"position": 3, "scale": 3, "rotation": 4, "opacity": 1, "color": 3 * sh_bases}
        self.outputs = {name: size for name, size in sizes.items() if getattr(config, name)}
        if not self.outputs:
            raise DeformationError(
                "A deformation needs something to deform: switch on one of position, scale, rotation, opacity, color, "
                "or set use_deformation to False."
            )
        self._make_layers(self.hexplane.n_features, config.width)
        self._start()

    def _make_layers(self, n_inputs: int, width: int) -> None:
        # The hidden layers of all heads as one matrix product: [features] -> [heads * width].
        self.hidden = nn.Linear(n_inputs, width * len(self.outputs))
        self.last = nn.ModuleDict({name: nn.Linear(width, size) for name, size in self.outputs.items()})

    def _start(self) -> None:
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)

    def plane_parameters(self) -> list[nn.Parameter]:
        """The planes of all scales."""
        return list(self.hexplane.parameters())

    def head_parameters(self) -> list[nn.Parameter]:
        """Weights and biases of all heads."""
        return [*self.hidden.parameters(), *self.last.parameters()]

    def features(self, positions: Tensor, time: float) -> Tensor:
        """What the heads read of positions [N, 3] at a time in [0, 1]: [N, features]."""
        features: Tensor = self.hexplane(positions, time)
        return features

    def forward(self, positions: Tensor, time: float) -> Offsets:
        """Offsets of Gaussians with canonical positions [N, 3] (world) at a time in [0, 1]."""
        hidden = F.relu(self.hidden(self.features(positions, time)))  # [N, heads * width]
        by_head = hidden.chunk(len(self.outputs), dim=-1)
        offsets = {name: self.last[name](h) for name, h in zip(self.outputs, by_head, strict=True)}
        position, color = offsets.get("position"), offsets.get("color")
        if position is not None and self.in_units_of_box:
            position = position * self.hexplane.half_extent.norm()
        turn = None
        if self.scaffold is not None:
            moved, turn = self.scaffold(positions, time)
            position = moved - positions if position is None else moved - positions + position
        return Offsets(
            position=position,
            scale=offsets.get("scale"),
            rotation=offsets.get("rotation"),
            opacity=offsets.get("opacity"),
            color=None if color is None else color.view(-1, self.sh_bases, 3),
            turn=turn,
        )


def samples_along_time(config: DeformationConfig, n_training_frames: int) -> int:
    """Samples along time for a capture: one for each `frames_per_sample` instants, within [2, time_resolution]."""
    if config.frames_per_sample == 0.0:
        return config.time_resolution
    return max(2, min(config.time_resolution, round(n_training_frames / config.frames_per_sample)))
