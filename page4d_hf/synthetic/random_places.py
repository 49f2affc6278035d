"""Random scenes that are laid out like life (`layouts`), many at once: their cameras, materials and light."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..geometry import invert_extrinsics
from . import layouts
from .draws import Draws
from .options import SyntheticOptions
from .random_cameras import CameraPaths, draw_focal_lengths
from .random_materials import COLUMNS, NUM_COLUMNS, PATTERNS, draw_room_materials, light_of, linear_rgb

STREAM = 1  # of random numbers: these scenes draw apart from those of rooms with bodies
SHADING = 8  # of each shape, the largest ones throw shadows
NEAREST = 0.22  # metres: no part comes closer to a camera
# Half sizes of rooms of each layout, metres: least and greatest width, height and depth.
ROOMS = torch.tensor(
    [
        [[1.5, 3.2], [1.15, 1.5], [1.7, 4.0]],
        [[3.5, 8.0], [1.3, 3.5], [4.0, 11.0]],
        [[1.5, 3.5], [1.15, 1.6], [1.5, 4.0]],
        [[60.0, 80.0], [30.0, 40.0], [60.0, 80.0]],
        [[60.0, 80.0], [30.0, 40.0], [60.0, 80.0]],
    ],
    dtype=torch.float64,
)
# Of what the camera looks at: least and greatest distance and height above the floor, metres.
TARGETS = torch.tensor(
    [
        [[1.2, 3.5], [0.3, 1.4]],
        [[1.5, 6.0], [0.3, 1.7]],
        [[0.45, 1.3], [0.45, 0.9]],
        [[4.0, 20.0], [0.3, 2.5]],
        [[2.5, 12.0], [0.2, 2.0]],
    ],
    dtype=torch.float64,
)
EYES = torch.tensor([[0.8, 1.9], [0.9, 2.1], [0.25, 0.7], [0.9, 2.2], [0.6, 2.2]], dtype=torch.float64)  # of heights


def draw_places(
    seeds: Sequence[int], times: Tensor, image_size: tuple[int, int], options: SyntheticOptions
) -> dict[str, Tensor]:
    """Draw one place for each seed, as `random_scenes` puts it together."""
    draws = Draws(seeds, STREAM)
    frames = len(times)
    kind = torch.searchsorted(torch.tensor(layouts.SHARES).cumsum(0).double(), draws.uniform(0, 1)).clamp_max(
        len(layouts.SHARES) - 1
    )
    room = _between(ROOMS[kind], draws.uniform(0, 1, 3))  # [B, 3]
    camera = _cameras(draws, kind, room, image_size, options)
    extrinsics = camera.extrinsics(times)
    eyes = invert_extrinsics(extrinsics)[..., 3]
    still = draws.uniform(0, 1) < options.still_share

    places = []
    for i, rng in enumerate(draws.generators):
        forward = extrinsics[i, frames // 2, 2, :3]
        view = layouts.View(
            int(kind[i]),
            room[i].numpy(),
            eyes[i].numpy(),
            math.atan2(float(forward[0]), float(forward[2])),
            math.atan(float(camera.half_extent[i, 0])) * 1.1,
            camera.target[i].numpy(),
        )
        places.append(
            layouts.furnish(
                rng,
                view,
                times.numpy(),
                still=bool(still[i]),
                speed=options.body_motion,
                crowd=options.moving_share / 0.4,
                near=NEAREST * (0.5 if view.kind == 2 else 1.0),
            )
        )
    part = {name: torch.from_numpy(np.stack([getattr(place, name) for place in places])) for name in vars(places[0])}
    outdoors = torch.isin(kind, torch.tensor(layouts.OUTDOORS))
    faces, materials = _materials(draws, part.pop("material"), part["half_sizes"], outdoors)
    rank = torch.cat([torch.arange(slots) for slots in layouts.SLOTS])
    return {
        **part,
        "extrinsics": extrinsics,
        "intrinsics": camera.intrinsics(frames),
        "room": room,
        "profile": part["profile"][:, -layouts.SLOTS[2] :],
        "shades": (rank < SHADING).expand(len(seeds), -1),
        "open_air": outdoors,
        "faces": faces,
        "materials": materials,
        **_lights(draws, room, outdoors, options),
    }


def _between(bounds: Tensor, share: Tensor) -> Tensor:
    """From `bounds[..., 0]` to `bounds[..., 1]`, evenly in the logarithm."""
    return bounds[..., 0] * (bounds[..., 1] / bounds[..., 0]) ** share


def _cameras(
    draws: Draws, kind: Tensor, room: Tensor, image_size: tuple[int, int], options: SyntheticOptions
) -> CameraPaths:
    """Cameras somewhere in their rooms, mostly with more of the room before than behind them."""
    focal = draw_focal_lengths(draws, image_size, options)
    place = draws.uniform(-0.85, 0.85, 2)
    eye_x, eye_z = place[:, 0] * room[:, 0], place[:, 1] * room[:, 2]
    # Towards the middle of the room, give or take 80 degrees.
    heading = torch.atan2(-eye_x, -eye_z) + draws.uniform(-1.4, 1.4)
    street = kind == 3
    eye_x = torch.where(street, draws.uniform(-5, 5), torch.where(kind == 4, eye_x * 0.3, eye_x))
    eye_z = torch.where(kind >= 3, eye_z * 0.3, eye_z)
    heading = torch.where(street, draws.uniform(-0.5, 0.5), heading)
    bounds = TARGETS[kind]
    distance = _between(bounds[:, 0], draws.uniform(0, 1))
    height = _between(bounds[:, 1], draws.uniform(0, 1))
    eye_height = _between(EYES[kind], draws.uniform(0, 1)) + torch.where(kind == 2, height, 0.0)
    eye_height = torch.minimum(eye_height, 2 * room[:, 1] - 0.3)
    eye = torch.stack((eye_x, eye_height - room[:, 1], eye_z), dim=-1)
    target = torch.stack(
        (eye_x + distance * torch.sin(heading), height - room[:, 1], eye_z + distance * torch.cos(heading)), dim=-1
    )
    inside = room - 0.3
    target = torch.minimum(torch.maximum(target, -inside), inside)
    paths = CameraPaths(draws, eye, target, focal, room, image_size, options)
    # Now and then far around, or a wide pan: up to 60 degrees from end to end.
    wide = torch.where(draws.uniform(0, 1) < 0.2, draws.uniform(1, 4), 1.0)
    paths.pan[:, 1] *= wide
    paths.arc = (paths.arc * wide.clamp_max(2.5)).clamp(-0.52, 0.52)
    paths.pan = paths.pan.clamp(-0.52, 0.52)
    return paths


# --------------------------------------------------------------------------------------------------------------------
# Materials and light


def _materials(draws: Draws, index: Tensor, half_sizes: Tensor, outdoors: Tensor) -> tuple[Tensor, Tensor]:
    """Materials of the room's faces `(B, 6, NUM_COLUMNS)`, and of the parts `(B, N, NUM_COLUMNS)`, which share those of
    their scene."""
    room = draw_room_materials(draws)
    m = layouts.MATERIALS
    pool = torch.zeros(len(index), m, NUM_COLUMNS, dtype=torch.float64)
    hue, value = draws.uniform(0, 1, m), draws.uniform(0.03, 1.0, m)
    # Most things are wood, white, grey or black; some are vivid.
    wooden, grey = draws.uniform(0, 1, m) < 0.3, draws.uniform(0, 1, m) < 0.45
    hue = torch.where(wooden, draws.uniform(0.05, 0.11, m), hue)
    saturation = torch.where(grey, draws.uniform(0, 0.1, m), draws.uniform(0.1, 0.85, m))
    special = {
        layouts.SKIN: (0.03, 0.07, 0.3, 0.6, 0.35, 0.95),
        layouts.HAIR: (0.02, 0.1, 0.1, 0.6, 0.03, 0.5),
        layouts.LEAVES: (0.18, 0.38, 0.3, 0.8, 0.1, 0.6),
        layouts.GLOW: (0.0, 1.0, 0.0, 0.12, 0.85, 1.0),
    }
    for row, bounds in special.items():
        for values, low, high in zip((hue, saturation, value), bounds[::2], bounds[1::2], strict=True):
            values[:, row] = draws.uniform(low, high)
    pattern = draws.choice(len(PATTERNS), m)
    pattern = torch.where(pattern == PATTERNS.index("pictures"), 0, pattern)
    plain = (draws.uniform(0, 1, m) < 0.6) | (torch.arange(m) < len(special))
    pool[..., 9] = torch.where(plain, 0, pattern).double()
    second = torch.where(value > 0.5, value - draws.uniform(0.1, 0.45, m), value + draws.uniform(0.1, 0.45, m))
    pool[..., COLUMNS["color"]] = linear_rgb(hue, saturation, value)
    pool[..., COLUMNS["second_color"]] = linear_rgb(
        hue + draws.uniform(-0.2, 0.2, m),
        (saturation + draws.uniform(-0.3, 0.3, m)).clamp(0, 0.9),
        second.clamp(0.03, 1),
    )
    pool[..., COLUMNS["third_color"]] = linear_rgb(
        hue + draws.uniform(-0.1, 0.1, m), saturation, (value * draws.uniform(0.6, 1.2, m)).clamp(0, 1)
    )
    frequency = torch.exp(draws.uniform(-1.2, 1.8, m))  # cycles per metre
    pool[..., COLUMNS["frequency"]] = (
        frequency[..., None] * torch.exp(draws.uniform(-0.5, 0.5, m, 3)) * draws.either(m, 3)
    )
    strength = draws.uniform(0, 1, m).square()  # many are as good as without texture
    pool[..., 22] = draws.uniform(0, 1, m) * (draws.uniform(0, 1, m) < 0.35)
    pool[..., 23], pool[..., 24] = 0.25 * strength, draws.uniform(0, 0.3, m) * strength
    pool[..., 25], pool[..., 26] = draws.uniform(0, 0.3, m), draws.uniform(0, 0.3, m)
    pool[:, layouts.GLOW, COLUMNS["glow"]] = draws.uniform(0.6, 3.0, 1)

    parts = pool.gather(1, index[..., None].expand(-1, -1, NUM_COLUMNS))  # [B, N, K]
    n = index.shape[1]
    radius = half_sizes.prod(-1) ** (1 / 3)
    cycles = draws.uniform(0.5, 2.5, 2, n) / radius[:, None]
    zero = torch.zeros_like(radius)
    flat = torch.stack((cycles[:, 0], zero, draws.uniform(0, 1, n), zero, cycles[:, 1], draws.uniform(0, 1, n)), dim=-1)
    # Around a vertical axis an even number of cycles, so that they close.
    around = 2.0 * draws.choice(4, n) + 2
    turned = torch.stack((around, zero, zero, zero, draws.uniform(1, 5, n), draws.uniform(0, 1, n)), dim=-1)
    slots = torch.arange(n)
    box = (slots >= layouts.SLOTS[0]) & (slots < layouts.SLOTS[0] + layouts.SLOTS[1])
    parts[..., 10:16] = torch.where(box[:, None], flat, turned)
    parts[..., COLUMNS["phase"]] = draws.uniform(-40, 40, n, 3)

    # Indoors, walls are plainer than those of rooms with bodies: half of them have no pattern at all.
    bare = draws.uniform(0, 1, 6) < 0.5
    room[..., 9] = torch.where(bare, 0.0, room[..., 9])
    room[..., 22:25] *= torch.where(bare, draws.uniform(0, 0.6, 6), 1.0)[..., None]
    sky, ground = room[:, [0, 1, 3, 4, 5]].clone(), room[:, 2:3].clone()
    _paint_sky(draws, sky)
    _paint_ground(draws, ground)
    outside = outdoors[:, None, None]
    room[:, [0, 1, 3, 4, 5]] = torch.where(outside, sky, room[:, [0, 1, 3, 4, 5]])
    room[:, 2:3] = torch.where(outside, ground, room[:, 2:3])
    return room, parts


def _paint_sky(draws: Draws, table: Tensor) -> None:
    """Clear, cloudy or grey, the same on all faces `(B, 5, K)`."""
    table.zero_()
    blue = draws.uniform(0, 0.7) * (draws.uniform(0, 1) < 0.6)
    value = draws.uniform(0.7, 1.0)
    sky, cloud = linear_rgb(draws.uniform(0.54, 0.62), blue, value), linear_rgb(draws.uniform(0, 1), 0 * blue, value)
    table[..., COLUMNS["color"]] = table[..., COLUMNS["second_color"]] = sky[:, None]
    table[..., COLUMNS["third_color"]] = cloud[:, None]
    table[..., COLUMNS["frequency"]] = (draws.uniform(0.01, 0.05, 3) * torch.tensor([1.0, 2.0, 1.0]))[:, None]
    table[..., COLUMNS["phase"]] = draws.uniform(-40, 40, 3)[:, None]
    table[..., 22] = draws.uniform(0, 1)[:, None]
    table[..., 25] = 0.2
    table[..., COLUMNS["glow"]] = draws.uniform(0.5, 2.0, 1)[:, None]


def _paint_ground(draws: Draws, table: Tensor) -> None:
    """Grass, asphalt, sand or earth `(B, 1, K)`."""
    hue, saturation = draws.uniform(0.06, 0.32, 1), draws.uniform(0.0, 0.6, 1)
    value = draws.uniform(0.15, 0.7, 1)
    table[..., COLUMNS["color"]] = linear_rgb(hue, saturation, value)
    table[..., COLUMNS["second_color"]] = linear_rgb(hue, saturation, value * 0.8)
    table[..., COLUMNS["third_color"]] = linear_rgb(
        hue + draws.uniform(-0.08, 0.08, 1), saturation, value * draws.uniform(0.6, 1.2, 1)
    )
    table[..., 9] = torch.where(draws.uniform(0, 1, 1) < 0.7, 0.0, table[..., 9])
    table[..., 10:16] *= 0.4
    table[..., COLUMNS["frequency"]] = torch.exp(draws.uniform(-1.6, 0.7, 1, 1)) * draws.either(1, 3)
    table[..., 23:25] = draws.uniform(0.05, 0.3, 1, 2)


def _lights(draws: Draws, room: Tensor, outdoors: Tensor, options: SyntheticOptions) -> dict[str, Tensor]:
    """Two lamps and light from all sides; outdoors the first lamp is the sun, or what a cloud leaves of it."""
    place = draws.uniform(-0.8, 0.8, 2, 3) * room[:, None]
    place[..., 1] = torch.where(outdoors[:, None], room[:, None, 1] - 1, (room[:, None, 1] - 0.08))
    warm = draws.uniform(-0.8, 1.0)
    tint = torch.stack((1 + 0.15 * warm, torch.ones_like(warm), 1 - 0.2 * warm), dim=-1)
    exposure = torch.exp(draws.uniform(-0.6, 0.8))
    main = options.light * draws.uniform(0.1, 1.5)
    fill = options.light * draws.uniform(0, 0.5) * ~outdoors
    ambient = draws.uniform(0.3, 0.9) + 0.7 * (1 - options.light)
    return light_of(place, room.mean(-1), tint, exposure, main, fill, ambient)
