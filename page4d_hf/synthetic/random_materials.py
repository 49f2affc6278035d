"""Random materials: colours and patterns for the faces of rooms and for bodies; and the light on them.

A material is a row of numbers (`COLUMNS`), so that all pixels of all scenes can be coloured by the same arithmetic.
`batched_textures` says what the numbers do.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .draws import Draws

PATTERNS = ("plain", "stripes", "checks", "bricks", "dots", "pictures", "plaid")

COLUMNS = {
    "color": slice(0, 3),  # linear RGB
    "second_color": slice(3, 6),  # of the pattern
    "third_color": slice(6, 9),  # of patches, and in pictures
    "pattern": slice(9, 10),  # index into PATTERNS
    "across": slice(10, 13),  # cycles of the pattern's first coordinate for each unit of the surface's two, and at 0
    "along": slice(13, 16),  # the same of its second
    "frequency": slice(16, 19),  # of the noise: cycles per metre along x, y and z of its longest waves, of either sign
    "phase": slice(19, 22),  # where in the noise the body's centre lies, in cycles
    "patches": slice(22, 23),  # how far the third colour comes through, in [0, 1]
    "mottle": slice(23, 24),  # amplitude of the noise of middle wavelengths, of the albedo
    "grain": slice(24, 25),  # amplitude of the fine noise, of the albedo
    "warp": slice(25, 26),  # how far the noise is bent by its own longest waves, in cycles
    "variety": slice(26, 27),  # how much one cell of the pattern is darker than another, of the albedo
    "glow": slice(27, 28),  # light that comes from the surface itself, as if as much fell on it
}
NUM_COLUMNS = 28

# How often a surface has each of PATTERNS.
WALLS = (0.1, 0.13, 0.15, 0.0, 0.04, 0.48, 0.1)
FLOORS = (0.12, 0.04, 0.28, 0.44, 0.02, 0.0, 0.1)
CEILINGS = (0.4, 0.15, 0.1, 0.35, 0.0, 0.0, 0.0)
BODIES = (0.18, 0.18, 0.2, 0.12, 0.16, 0.0, 0.16)


def draw_room_materials(draws: Draws) -> Tensor:
    """Materials `(B, 6, NUM_COLUMNS)` of the walls -x, +x, the floor, the ceiling, the walls -z, +z."""
    faces = ((WALLS, 2), (FLOORS, 1), (CEILINGS, 1), (WALLS, 2))
    table = torch.cat([_patterns(draws, shares, count) for shares, count in faces], dim=1)
    pattern = table[..., 9].long()
    walls, floor, ceiling = [0, 1, 4, 5], 2, 3

    # All walls have about one colour, but for one in some rooms.
    hue, value = draws.uniform(0, 1), draws.uniform(0.45, 0.95)
    saturation = draws.uniform(0, 0.7) * draws.uniform(0, 0.8)  # mostly pale
    wall_hue = hue[:, None] + draws.uniform(-0.03, 0.03, 4)
    other = draws.uniform(0, 1, 4) < 0.15
    wall_hue = torch.where(other, draws.uniform(0, 1, 4), wall_hue)
    wall_value = (value[:, None] + draws.uniform(-0.06, 0.06, 4)).clamp(0, 1)
    wall = linear_rgb(wall_hue, saturation[:, None].expand(-1, 4), wall_value)
    wall_second = linear_rgb(
        wall_hue + draws.uniform(-0.15, 0.15, 4),
        (saturation[:, None] + draws.uniform(-0.2, 0.3, 4)).clamp(0, 0.7),
        (wall_value * draws.uniform(0.5, 0.9, 4)).clamp(0, 1),
    )
    # Pictures have vivid colours of their own.
    vivid = [
        linear_rgb(draws.uniform(0, 1, 4), draws.uniform(0.15, 0.85, 4), draws.uniform(0.15, 0.95, 4)) for _ in "12"
    ]
    pictures = (pattern[:, walls] == PATTERNS.index("pictures"))[..., None]
    table[:, walls, COLUMNS["color"]] = wall
    table[:, walls, COLUMNS["second_color"]] = torch.where(pictures, vivid[0], wall_second)
    table[:, walls, COLUMNS["third_color"]] = torch.where(pictures, vivid[1], wall_second)
    wooden = (draws.uniform(0, 1) < 0.6)[:, None]
    floor_hue = torch.where(wooden, draws.uniform(0.04, 0.11, 1), draws.uniform(0, 1, 1))
    floor_saturation = torch.where(wooden, draws.uniform(0.3, 0.65, 1), draws.uniform(0, 0.35, 1))
    floor_value = draws.uniform(0.3, 0.8, 1)
    for name, darker in (("color", 1.0), ("second_color", 0.6), ("third_color", 0.75)):
        value = floor_value * darker * draws.uniform(0.85, 1.1, 1)
        table[:, floor, COLUMNS[name]] = linear_rgb(floor_hue, floor_saturation, value)[:, 0]
        value = draws.uniform(0.75, 0.97, 1) * (1.0 if darker == 1 else 0.88)
        table[:, ceiling, COLUMNS[name]] = linear_rgb(hue[:, None], draws.uniform(0, 0.12, 1), value)[:, 0]

    # Metres in a cycle, first sideways, then up (walls) or the other way (floor and ceiling).
    sideways, up = draws.uniform(0.25, 0.8, 6), draws.uniform(0.25, 0.8, 6)
    square = torch.isin(pattern, torch.tensor([PATTERNS.index("checks"), PATTERNS.index("dots")]))
    up = torch.where(square, sideways, up)
    pictured = pattern == PATTERNS.index("pictures")
    sideways = torch.where(pictured, draws.uniform(1.0, 1.9, 6), sideways)
    up = torch.where(pictured, draws.uniform(1.1, 2.4, 6), up)
    planks = (pattern == PATTERNS.index("bricks")) & (draws.uniform(0, 1, 6) < 0.6)
    sideways, up = torch.where(planks, sideways * 2.2, sideways), torch.where(planks, up * 0.35, up)
    # Floors and ceilings may be laid askew.
    angle = draws.uniform(0, 1, 6) * (draws.uniform(0, 1, 6) < 0.4) * 1.57
    angle[:, walls] = 0.0
    _set_grid(table, 1 / sideways, 1 / up, angle, draws.uniform(0, 1, 2, 6))

    table[..., COLUMNS["frequency"]] = draws.either(6, 3) * torch.exp(draws.uniform(-0.4, 0.5, 6, 3)) * 0.45
    table[..., COLUMNS["phase"]] = draws.uniform(-40, 40, 6, 3)
    table[..., 22] = draws.uniform(0, 0.8, 6) * (draws.uniform(0, 1, 6) < 0.6)
    table[..., 23] = draws.uniform(0.04, 0.22, 6)
    table[..., 24] = draws.uniform(0.04, 0.22, 6)
    table[..., 25] = draws.uniform(0, 0.25, 6)
    table[..., 26] = draws.uniform(0.05, 0.35, 6)
    return table


def draw_body_materials(draws: Draws, half_sizes: Tensor, ellipsoids: int) -> Tensor:
    """Materials `(B, N, NUM_COLUMNS)` of bodies of half sizes `(B, N, 3)`, of which the first are ellipsoids."""
    n = half_sizes.shape[1]
    table = _patterns(draws, BODIES, n)
    hue, saturation, value = draws.uniform(0, 1, n), draws.uniform(0.1, 0.9, n), draws.uniform(0.25, 0.97, n)
    table[..., COLUMNS["color"]] = linear_rgb(hue, saturation, value)
    # The second is lighter or darker, so that the pattern shows in grey, too.
    second = torch.where(value > 0.62, value - draws.uniform(0.25, 0.5, n), value + draws.uniform(0.25, 0.5, n))
    table[..., COLUMNS["second_color"]] = linear_rgb(
        hue + draws.uniform(-0.5, 0.5, n), draws.uniform(0.0, 0.9, n), second.clamp(0.05, 1)
    )
    table[..., COLUMNS["third_color"]] = linear_rgb(
        draws.uniform(0, 1, n), draws.uniform(0.2, 0.9, n), draws.uniform(0.2, 0.95, n)
    )
    radius = half_sizes.prod(-1) ** (1 / 3)
    grid_frequency = draws.uniform(0.6, 1.7, 2, n) / radius[:, None]  # of boxes: cycles per metre
    angle = draws.uniform(0, 1.57, n) * (draws.uniform(0, 1, n) < 0.5)
    _set_grid(table, grid_frequency[:, 0], grid_frequency[:, 1], angle, draws.uniform(0, 1, 2, n))
    # Of ellipsoids: an even number of cycles around the vertical, so that they close, and from pole to pole.
    around = 2.0 * draws.choice(4, n) + 2
    twist = draws.uniform(-2.5, 2.5, n) * (draws.uniform(0, 1, n) < 0.35)
    zero = torch.zeros_like(twist)
    grid = torch.stack((around, twist, zero, zero, draws.uniform(1.5, 5, n), draws.uniform(0, 1, n)), dim=-1)
    round_body = (torch.arange(n) < ellipsoids)[:, None]
    table[..., 10:16] = torch.where(round_body, grid, table[..., 10:16])

    frequency = torch.exp(draws.uniform(-0.5, 0.5, n, 3)) * 0.28 / radius[..., None]
    table[..., COLUMNS["frequency"]] = frequency * draws.either(n, 3)
    table[..., COLUMNS["phase"]] = draws.uniform(-40, 40, n, 3)
    table[..., 22] = draws.uniform(0, 1, n) * (draws.uniform(0, 1, n) < 0.6)
    table[..., 23] = draws.uniform(0.05, 0.25, n)
    table[..., 24] = draws.uniform(0.05, 0.25, n)
    table[..., 25] = draws.uniform(0, 0.3, n)
    table[..., 26] = torch.where(twist == 0, draws.uniform(0, 0.35, n), 0.0)
    return table


def _patterns(draws: Draws, shares: tuple[float, ...], count: int) -> Tensor:
    """A table `(B, count, NUM_COLUMNS)` with patterns in it and nothing else."""
    drawn = draws.uniform(0, sum(shares), count)
    table = torch.zeros(*drawn.shape, NUM_COLUMNS, dtype=torch.float64)
    bounds = torch.tensor(shares, dtype=torch.float64).cumsum(0)
    table[..., 9] = torch.searchsorted(bounds, drawn, right=True).clamp_max(len(shares) - 1).double()
    return table


def _set_grid(table: Tensor, across: Tensor, along: Tensor, angle: Tensor, phase: Tensor) -> None:
    """Lay the patterns' coordinates: cycles per metre `(B, M)`, turned by an angle, with phases `(B, 2, M)`."""
    cosine, sine = torch.cos(angle), torch.sin(angle)
    table[..., 10:13] = torch.stack((across * cosine, -across * sine, phase[:, 0]), dim=-1)
    table[..., 13:16] = torch.stack((along * sine, along * cosine, phase[:, 1]), dim=-1)


def light_of(
    lamps: Tensor, reach: Tensor, tint: Tensor, exposure: Tensor, main: Tensor, fill: Tensor, ambient: Tensor
) -> dict[str, Tensor]:
    """The light of two lamps of a tint `(B, 3)`, the second of its opposite, and from all sides, as `RandomScenes` has
    it."""
    colors = torch.stack((main[:, None] * tint, fill[:, None] * tint.flip(-1)), dim=1) * exposure[:, None, None]
    ambient = ambient[:, None] * exposure[:, None] * (0.5 + 0.5 * tint)
    return {"lamps": lamps, "lamp_colors": colors, "lamp_reach": reach, "ambient": ambient}


def linear_rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """Linear RGB `(..., 3)` of colours in hue (in turns), saturation and value, which are those of sRGB."""
    turned = (hue[..., None] * 6 + torch.tensor([5.0, 3.0, 1.0], dtype=torch.float64)) % 6
    share = torch.minimum(turned, 4 - turned).clamp(0, 1)
    return (value[..., None] * (1 - saturation[..., None] * share)).clamp(0, 1) ** 2.2
