"""Colours of all pixels of many scenes, by the same arithmetic: each pixel brings the numbers of its own material.

A pattern (stripes, checks, bricks, ...) in two coordinates of the surface, noise (sums of plane waves in space) in five
octaves, three colours. All detail fades where a pixel covers more than about half its wavelength, so that one sample a
pixel does not alias.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .random_materials import COLUMNS, PATTERNS

# Plane waves of the noise: five octaves of three, and wavelengths that have no common multiple. What part of the sum a
# material shows, how stretched and in which of its mirror images, is random.
OCTAVES = (1.0, 2.7, 6.9, 17.0, 43.0)  # wave numbers as multiples of the material's frequency


def _wave_vectors() -> list[list[tuple[float, float, float]]]:
    """Of each octave, in cycles per cycle of the material's frequency: at right angles, lest the noise looks combed."""
    octaves = []
    for octave, number in enumerate(OCTAVES):
        turn, lean = 0.7 + 2.399963 * octave, 0.5 + 0.35 * octave
        (c, s), (d, e) = (math.cos(turn), math.sin(turn)), (math.cos(lean), math.sin(lean))
        axes = ((c * d, e, s * d), (-c * e, d, -s * e), (-s, 0.0, c))
        # Between the axes, so that no wave is square to a floor.
        mixed = [tuple((axes[i][k] + axes[i - 1][k] - 0.5 * axes[i - 2][k]) / 1.5 for k in range(3)) for i in range(3)]
        octaves.append(
            [(x * f, y * f, z * f) for (x, y, z), f in zip(mixed, (0.8 * number, number, 1.27 * number), strict=True)]
        )
    return octaves


WAVE_VECTORS = _wave_vectors()


def albedo(
    material: Tensor,
    position: list[Tensor],
    surface: tuple[Tensor, Tensor],
    stretch: tuple[Tensor, Tensor],
    footprint: Tensor,
) -> list[Tensor]:
    """Colours of points on surfaces.

    Args:
        material: `(NUM_COLUMNS, ...)` of each point.
        position: three components `(...)`, metres, on the body at rest.
        surface: two coordinates of the point on its surface, `(...)`: metres, or turns.
        stretch: how many of these there are in a metre, `(...)`.
        footprint: the size of a pixel on the surface, metres.

    Returns:
        Three components, `(...)`, linear RGB in [0, 1].
    """
    column = {name: material[rows].unbind() for name, rows in COLUMNS.items()}
    low, middle, fine, patchy = _noise(column, position, footprint)
    pattern, shade = _pattern(column, surface, stretch, footprint, low, middle)

    patches = torch.sigmoid((patchy - 0.55) * 6) * column["patches"][0]
    bright = 1 + middle * column["mottle"][0] + fine * column["grain"][0]
    bright = bright.addcmul_(shade, column["variety"][0]).clamp_min_(0.15)
    colors = []
    for first, second, third in zip(column["color"], column["second_color"], column["third_color"], strict=True):
        color = torch.lerp(first, second, pattern)
        colors.append(torch.lerp(color, third, patches).mul_(bright).clamp_(0, 1))
    return colors


def _noise(
    column: dict[str, tuple[Tensor, ...]], position: list[Tensor], footprint: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Noise of about unit variance of long, middle and short waves, and what the patches follow."""
    frequency, phase, warp = column["frequency"], column["phase"], column["warp"][0]
    straight = [torch.addcmul(p, q, f) for p, q, f in zip(phase, position, frequency, strict=True)]
    # Squared cycles of the lowest octave in a pixel. The steepest direction counts.
    highest = torch.maximum(torch.maximum(frequency[0].abs(), frequency[1].abs()), frequency[2].abs())
    cycles = (highest * footprint).square_()
    sums: list[Tensor] = []
    for octave, vectors in enumerate(WAVE_VECTORS):
        x, y, z = straight
        if octave == 1:  # bent: veins and swirls. Finer waves would be drawn out to streaks.
            x, y, z = (torch.addcmul(v, sums[0], warp, value=s) for v, s in ((x, 1.0), (y, -0.7), (z, 0.8)))
        first, second, third = (
            (x * (2 * math.pi * a)).add_(y, alpha=2 * math.pi * b).add_(z, alpha=2 * math.pi * c).sin_()
            for a, b, c in vectors
        )
        # As seen through a Gaussian of the width of a pixel or so.
        seen = torch.exp(cycles * (-5.0 * OCTAVES[octave] ** 2))
        sums.append(first.add_(second).add_(third).mul_(seen).mul_(math.sqrt(2 / 3)))
    fine = sums[2].add_(sums[3], alpha=0.8).add_(sums[4], alpha=0.7)
    return sums[0], sums[1], fine, torch.add(sums[0], sums[1], alpha=0.4)


def _pattern(
    column: dict[str, tuple[Tensor, ...]],
    surface: tuple[Tensor, Tensor],
    stretch: tuple[Tensor, Tensor],
    footprint: Tensor,
    low: Tensor,
    middle: Tensor,
) -> tuple[Tensor, Tensor]:
    """How much of the second colour a point has, in [0, 1], and how bright its cell of the pattern is, in [-1, 1]."""
    kind = column["pattern"][0]
    a, b = surface
    to_p, to_q = column["across"], column["along"]
    p = torch.addcmul(to_p[2], to_p[0], a).addcmul_(to_p[1], b)  # cycles
    q = torch.addcmul(to_q[2], to_q[0], a).addcmul_(to_q[1], b)
    # Cycles in a pixel.
    across, along = stretch
    width_p = (to_p[0].abs() * across).addcmul_(to_p[1].abs(), along).mul_(footprint)
    width_q = (to_q[0].abs() * across).addcmul_(to_q[1].abs(), along).mul_(footprint)
    fade_p, fade_q = _fade(width_p), _fade(width_q)

    plain, stripes, checks, bricks, dotted, pictures, plaid = (kind == number for number in range(len(PATTERNS)))
    row = torch.floor(q)
    # Every other course of bricks is half a brick farther.
    staggered = torch.where(bricks, p + torch.remainder(row, 2) * 0.5, p)
    cell = torch.floor(staggered)
    shade = torch.sin(row * 12.9898 + cell * 78.233)  # as good as random from cell to cell
    in_p, in_q = (staggered - cell).sub_(0.5), (q - row).sub_(0.5)  # in [-0.5, 0.5] from the middle of the cell
    soft_p, soft_q = (width_p * 0.7).clamp_min_(0.02), (width_q * 0.7).clamp_min_(0.02)
    # From -1 to 1 across an edge; the slope of the sine at its zeros turns its value into the distance to the edge.
    wave_p = (torch.sin(p * (2 * math.pi)) / (soft_p * (2 * math.pi))).clamp_(-1, 1)
    wave_q = (torch.sin(q * (2 * math.pi)) / (soft_q * (2 * math.pi))).clamp_(-1, 1)
    both = fade_p * fade_q

    value = torch.zeros_like(p)
    value = torch.where(stripes, (wave_p * fade_p).mul_(0.5).add_(0.5), value)
    value = torch.where(checks, (wave_p * wave_q).mul_(both).mul_(0.5).add_(0.5), value)
    crossed = (wave_p * fade_p).mul_(0.25).add_(wave_q * fade_q, alpha=0.25).add_(0.5)
    value = torch.where(plaid, crossed, value)
    # Joints are dark lines of 6 % of a cell.
    from_joint = torch.minimum((0.5 - in_p.abs()) / soft_p, (0.5 - in_q.abs()) / soft_q)
    joint = ((1.5 - from_joint).clamp_(0, 1)).mul_(both)
    value = torch.where(bricks, joint, value)
    radius = torch.hypot(in_p, in_q)
    dots = ((0.3 - radius) / torch.maximum(soft_p, soft_q)).add_(0.5).clamp_(0, 1).mul_(both)
    value = torch.where(dotted, dots, value)
    # A picture fills the middle of its cell; what it shows is noise. Its own cell's number bends it.
    frame = torch.minimum((0.36 - in_p.abs()) / soft_p, (0.33 - in_q.abs()) / soft_q)
    inside, border = frame.clamp(0, 1), (frame - 1.6).clamp_(0, 1)
    painted = torch.sigmoid((low + middle * 1.5 + in_q * 5 + shade * 2) * 2.5).mul_(border)
    value = torch.where(pictures, torch.maximum(painted, (inside - border) * 0.7), value)
    shade = torch.where(pictures, inside * (shade.abs() * 1.5 - 0.5), shade * both)
    return value, shade.masked_fill_(plain, 0.0)


def _fade(width: Tensor) -> Tensor:
    """From 1, where a pixel covers a tenth of a cycle, to 0, where it covers seven tenths."""
    return ((0.7 - width) * (1 / 0.6)).clamp_(0, 1)
