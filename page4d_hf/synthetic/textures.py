"""Colours of surfaces as smooth functions of where on the body a point lies.

A texture is tied to the body's own coordinates, so it moves, turns and stretches with the body. All detail is a few
centimetres wide or more and edges are soft: a few samples a pixel are enough for pictures without aliasing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

EDGE = 0.03  # metres over which a soft edge goes from a tenth to nine tenths
NUM_WAVES = 10  # of a field; more make it less regular


@dataclass(frozen=True)
class Texture:
    """A pattern with its colours and a random field of plane waves that makes it uneven."""

    pattern: str  # a key of PATTERNS
    palette: Tensor  # [P, 3] linear RGB in [0, 1]
    waves: Tensor  # [K, 3] wave vectors, radians per metre
    phases: Tensor  # [K] radians

    def color(self, position: Tensor, half_sizes: Tensor) -> Tensor:
        """Albedo `(3, N)`, linear RGB in [0, 1], of points `(3, N)` of a body at rest, in metres from its centre."""
        return PATTERNS[self.pattern](self, position, half_sizes).clamp(0, 1)

    def field(self, position: Tensor) -> Tensor:
        """A smooth random field `(N,)` of mean 0 and variance 1: a sum of plane waves."""
        return torch.cos(self.waves @ position + self.phases[:, None]).sum(0) * math.sqrt(2 / len(self.phases))


def random_texture(pattern: str, palette: list[str], generator: torch.Generator, wavelength: float = 0.5) -> Texture:
    """A texture with waves of random directions and of lengths up to 1.7 times longer or shorter than `wavelength`.

    Args:
        pattern: a key of `PATTERNS`.
        palette: sRGB colours as "#rrggbb".
        generator: of the CPU.
        wavelength: metres.
    """
    srgb = torch.tensor(
        [[int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)] for color in palette], dtype=torch.float64
    )
    directions = torch.nn.functional.normalize(
        torch.randn(NUM_WAVES, 3, generator=generator, dtype=torch.float64), dim=-1
    )
    spread = torch.rand(NUM_WAVES, 1, generator=generator, dtype=torch.float64) * 2 - 1
    phases = torch.rand(NUM_WAVES, generator=generator, dtype=torch.float64) * 2 * math.pi
    return Texture(pattern, srgb**2.2, directions * (2 * math.pi / wavelength) * 1.7**spread, phases)


# --------------------------------------------------------------------------------------------------------------------
# Building blocks


def soft_step(distance: Tensor, width: float = EDGE) -> Tensor:
    """From 0 to 1 over about `width` around a distance of 0."""
    return torch.sigmoid(distance * (4.4 / width))


def mix(first: Tensor, second: Tensor, weight: Tensor) -> Tensor:
    """`first` where the weight `(N,)` is 0 and `second` where it is 1; colours are `(3, N)` or one color, `(3,)`."""
    first, second = (color[:, None] if color.ndim == 1 else color for color in (first, second))
    return first + (second - first) * weight


def soft_stripes(position: Tensor, period: float) -> Tensor:
    """Alternately 0 and 1 along `position` `(N,)`, each half a period wide."""
    # The slope of the sine at its zeros turns its value into the distance to the edge.
    return soft_step(torch.sin(position * (2 * math.pi / period)) * (period / (2 * math.pi)))


def in_rectangle(a: Tensor, b: Tensor, half_a: float, half_b: float) -> Tensor:
    """1 inside the rectangle |a| < half_a, |b| < half_b and 0 outside."""
    return soft_step(half_a - a.abs()) * soft_step(half_b - b.abs())


def largest_component(vectors: Tensor) -> Tensor:
    """The axis `(N,)` along which vectors `(3, N)` reach farthest to either side; the first of equal ones.

    The same as `vectors.abs().argmax(0)`, which is ten times slower.
    """
    x, y, z = vectors.abs()
    return torch.where((x >= y) & (x >= z), 0, torch.where(y >= z, 1, 2))


def face_axis(position: Tensor, half_sizes: Tensor) -> Tensor:
    """Which axis `(N,)` the face of a box is square to, for points `(3, N)` on its surface."""
    return largest_component(position / half_sizes[:, None])


# --------------------------------------------------------------------------------------------------------------------
# Patterns: `(texture, position (3, N), half_sizes (3,)) -> (3, N)`


def _marbled(texture: Texture, position: Tensor, half_sizes: Tensor) -> Tensor:
    """Three colours in rounded patches."""
    field = texture.field(position)
    color = mix(texture.palette[0], texture.palette[1], torch.sigmoid(5 * (field + 0.4)))
    return mix(color, texture.palette[2], torch.sigmoid(5 * (field - 0.9)))


def _plain(texture: Texture, position: Tensor, half_sizes: Tensor) -> Tensor:
    """One colour, lighter and darker here and there."""
    return texture.palette[0][:, None] * (1 + 0.12 * texture.field(position))


def _bands(texture: Texture, position: Tensor, half_sizes: Tensor) -> Tensor:
    """Wavy horizontal bands of two colours."""
    height = position[1] + 0.03 * texture.field(position)
    return mix(texture.palette[0], texture.palette[1], soft_stripes(height, 0.24))


def _panels(texture: Texture, position: Tensor, half_sizes: Tensor) -> Tensor:
    """A beach ball: panels of three colours with light ones between, and light caps."""
    light, panels = texture.palette[0], texture.palette[1:4]
    azimuth = torch.atan2(position[2], position[0])
    which = torch.floor(azimuth * (3 / (2 * math.pi))).long() % 3  # changes in the middle of a light panel
    radius = torch.hypot(position[0], position[2])
    colored = soft_step(-torch.cos(3 * azimuth) * radius / 3)  # about the arc to the panel's edge
    return mix(light, panels[which].T, colored * soft_step(radius - 0.25 * half_sizes[0]))


def _toy_block(texture: Texture, position: Tensor, half_sizes: Tensor) -> Tensor:
    """A toy block: each pair of faces has a colour, for its frame and for a shape in its middle."""
    axis = face_axis(position, half_sizes)
    a = torch.where(axis == 0, position[1], position[0])
    b = torch.where(axis == 2, position[1], position[2])
    side = half_sizes.min()
    inside = soft_step(0.74 * side - torch.maximum(a.abs(), b.abs()))
    # Disc, ring, diamond: each axis has a shape too, so that a face is known without its colour.
    disc = soft_step(0.42 * side - torch.hypot(a, b))
    ring = soft_step(0.16 * side - (torch.hypot(a, b) - 0.4 * side).abs())
    diamond = soft_step(0.55 * side - (a.abs() + b.abs()))
    shape = torch.where(axis == 0, disc, torch.where(axis == 1, ring, diamond))
    light = texture.palette[0][:, None] * (1 + 0.06 * texture.field(position))
    return mix(texture.palette[1:4][axis].T, light, inside * (1 - shape))


def _cabinet(texture: Texture, position: Tensor, half_sizes: Tensor) -> Tensor:
    """Wood, with two doors and their knobs on the front (+z) and the back."""
    x, y, _ = position
    flattened = texture.field(position * position.new_tensor([[0.4], [1.0], [0.4]]))
    wood = mix(
        texture.palette[0], texture.palette[1], 0.5 + 0.35 * torch.sin(2 * math.pi * (y / 0.12 + 0.35 * flattened))
    )
    door_x = x.abs() - half_sizes[0] / 2
    reach_x, reach_y = float(half_sizes[0]) / 2 - 0.07, float(half_sizes[1]) - 0.08
    seam = in_rectangle(door_x, y, reach_x, reach_y) * (1 - in_rectangle(door_x, y, reach_x - 0.045, reach_y - 0.045))
    knob = soft_step(0.035 - torch.hypot(x.abs() - 0.14, y))
    on_front = (face_axis(position, half_sizes) == 2).to(position.dtype)
    color = mix(wood, texture.palette[1] * 0.45, seam * on_front)
    return mix(color, texture.palette[2], knob * on_front)


def _room(texture: Texture, position: Tensor, half_sizes: Tensor) -> Tensor:
    """A living room from inside: planks with a rug, papered walls with two pictures on the one behind (-z), a ceiling.

    Palette: two of the planks, two of the wallpaper, the skirting, the ceiling, two of the rug, three of the pictures.
    """
    axis = face_axis(position, half_sizes)
    color = torch.empty_like(position)
    parts = (
        ((axis == 1) & (position[1] < 0), _room_floor),
        ((axis == 1) & (position[1] > 0), _room_ceiling),
        (axis == 0, _room_wall),
        ((axis == 2) & (position[2] > 0), _room_wall),
        ((axis == 2) & (position[2] < 0), _room_wall_with_pictures),
    )
    for chosen, pattern in parts:
        index = chosen.nonzero().squeeze(1)
        if len(index):
            color[:, index] = pattern(texture, position[:, index], half_sizes)
    return color


def _room_floor(texture: Texture, position: Tensor, half_sizes: Tensor) -> Tensor:
    """Planks along z, each of its own shade, with soft joints; a checked rug with a border lies on them."""
    dark, bright = texture.palette[0:2]
    border, checks = texture.palette[7], texture.palette[6:8]
    x, _, z = position
    across = x / 0.36
    plank = torch.floor(across)
    shade = 0.5 + 0.5 * torch.sin(plank * 12.9898 + 1.7)  # as good as random from plank to plank
    grain = torch.sin(2 * math.pi * x / 0.09 + 0.8 * texture.field(position))
    joint = soft_step(0.016 - ((across - plank - 0.5).abs() - 0.5).abs() * 0.36, 0.024)
    wood = mix(dark, bright, 0.65 * shade + 0.12 * grain) * (1 - 0.55 * joint)
    z = z - 0.15 * half_sizes[2]
    checked = soft_step(torch.sin(x * (math.pi / 0.29)) * torch.sin(z * (math.pi / 0.29)) * 0.09)
    rug = mix(border, mix(checks[0], checks[1], 0.7 * checked), in_rectangle(x, z, 1.3, 0.8))
    return mix(wood, rug, in_rectangle(x, z, 1.45, 0.95))


def _room_ceiling(texture: Texture, position: Tensor, half_sizes: Tensor) -> Tensor:
    return texture.palette[5][:, None] * (1 + 0.02 * texture.field(position))


def _room_wall(texture: Texture, position: Tensor, half_sizes: Tensor) -> Tensor:
    """Striped paper above a skirting board."""
    x, y, z = position
    # One of the two does not change along a wall.
    stripes = 0.8 * soft_stripes(x + z, 0.5) + 0.12 * texture.field(position)
    paper = mix(texture.palette[2], texture.palette[3], stripes)
    return mix(texture.palette[4], paper, soft_step(y + half_sizes[1] - 0.16))


PICTURES = ((-1.35, 0.55, 0.42, 0.3, 1.0), (0.75, 0.5, 0.55, 0.42, 0.7))  # x, y, half width, half height, detail


def _room_wall_with_pictures(texture: Texture, position: Tensor, half_sizes: Tensor) -> Tensor:
    color = _room_wall(texture, position, half_sizes)
    sky, land, accent = texture.palette[8:11]
    for center_x, center_y, half_x, half_y, detail in PICTURES:
        a, b = position[0] - center_x, position[1] - center_y
        index = ((a.abs() < half_x + EDGE) & (b.abs() < half_y + EDGE)).nonzero().squeeze(1)
        if not len(index):
            continue
        a, b = a[index], b[index]
        field = texture.field(position[:, index] * (1.9 * detail) + center_x)
        painted = mix(sky, land, torch.sigmoid(4 * field + 4 * b / half_y))
        painted = mix(painted, accent, torch.sigmoid(4 * (field - 1.0)))
        framed = mix(texture.palette[1] * 0.35, painted, in_rectangle(a, b, half_x - 0.07, half_y - 0.07))
        color[:, index] = mix(color[:, index], framed, in_rectangle(a, b, half_x, half_y))
    return color


PATTERNS: dict[str, Callable[[Texture, Tensor, Tensor], Tensor]] = {
    "marbled": _marbled,
    "plain": _plain,
    "bands": _bands,
    "panels": _panels,
    "toy block": _toy_block,
    "cabinet": _cabinet,
    "room": _room,
}
