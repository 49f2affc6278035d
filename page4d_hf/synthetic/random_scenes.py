"""Random scenes, many at once: a place, things in it of which some move, a camera on a path, and lamps.

There are two kinds: rooms with bodies (`random_bodies`), and places that are laid out like life (`random_places`). All
is drawn and worked out on the CPU in float64, from generators of each scene: a scene depends on nothing but its seed,
the options, the number of frames and the size of the images. What is per scene, per body or per frame is small; only
what is per pixel, in `batched_raycast`, is worth a GPU.

World: y up, metres, the origin at the centre of the room.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..geometry import invert_extrinsics
from .draws import Draws
from .layouts import SLOTS
from .options import SyntheticOptions
from .props import CYLINDER
from .random_bodies import ABSENT, ABSENT_SIZE, clearance, draw_bodies, num_ellipsoids, without
from .random_cameras import CameraPaths, draw_focal_lengths, stand_in_room
from .random_materials import NUM_COLUMNS, draw_body_materials, draw_room_materials, light_of
from .random_places import draw_places

CAMERA_TO_SURFACE = 0.12  # metres: no camera comes closer to a body
KIND_STREAM = 4  # of random numbers: which kind of scene a seed gives


@dataclass(frozen=True)
class RandomScenes:
    """B scenes over S frames. Number 0 is the room, 1 to N are the bodies: E ellipsoids, boxes, then T turned solids.

    A point of a body that lies at `q` at rest lies at `linear @ q + center` in the world. A body at rest is the unit
    sphere, the cube [-1, 1]^3, or x^2 + z^2 = a + b y + c y^2 with |y| <= 1, times `half_sizes`. The room is a cube
    seen from inside, which never moves; in the open air all of it but the floor is the sky.
    """

    times: Tensor  # [B, S] in [0, 1] over the clip
    extrinsics: Tensor  # [B, S, 3, 4] world-to-camera, OpenCV axes
    intrinsics: Tensor  # [B, S, 3, 3] in pixels, first pixel's centre at (0.5, 0.5)
    linear: Tensor  # [B, S, N + 1, 3, 3]
    center: Tensor  # [B, S, N + 1, 3] metres
    half_sizes: Tensor  # [B, N + 1, 3] metres
    moves: Tensor  # [B, N + 1] bool
    profile: Tensor  # [B, T, 3] (a, b, c) of the turned solids
    present: Tensor  # [B, N] bool: which of the bodies the scene has
    shades: Tensor  # [B, N] bool: which of them throw shadows
    open_air: Tensor  # [B] bool
    materials: Tensor  # [B, 6 + N, K]: the walls -x, +x, the floor, the ceiling, the walls -z, +z, and the bodies
    lamps: Tensor  # [B, 2, 3] metres; the second one fills the first one's shadows
    lamp_colors: Tensor  # [B, 2, 3] radiance at the distance of `lamp_reach`
    lamp_reach: Tensor  # [B] metres
    ambient: Tensor  # [B, 3] light from all sides
    num_ellipsoids: int


def moved(tensors: Mapping[str, Tensor], device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
    """Tensors on a device, those of a floating point type in another."""
    return {
        name: tensor.to(device=device, dtype=dtype if tensor.is_floating_point() else None)
        for name, tensor in tensors.items()
    }


def draw_scenes(
    seeds: Sequence[int], num_frames: int, image_size: tuple[int, int], options: SyntheticOptions
) -> RandomScenes:
    """Draw one scene for each seed.

    Args:
        seeds: not negative.
        num_frames: at equal steps over the clip, whose motions do not depend on how many there are.
        image_size: (height, width).
        options: what to draw.

    Returns:
        Scenes in float64 on the CPU.
    """
    times = torch.linspace(0, 1, num_frames, dtype=torch.float64)
    slots = _slots(options)
    lifelike = Draws(seeds, KIND_STREAM).uniform(0, 1) < options.lifelike
    whole: dict[str, Tensor] = {}
    for wanted, draw, own in (
        (False, _draw_rooms_with_bodies, _slots(replace(options, lifelike=0.0))),
        (True, draw_places, SLOTS),
    ):
        rows = (lifelike == wanted).nonzero().squeeze(1)
        if not len(rows):
            continue
        drawn = draw([seeds[row] for row in rows], times, image_size, options)
        for name, values in _in_slots(drawn, own, slots).items():
            if name not in whole:
                whole[name] = values.new_zeros(len(seeds), *values.shape[1:])
            whole[name][rows] = values
    count = len(seeds)
    present = (whole["half_sizes"] != ABSENT_SIZE).any(-1)
    room = {  # number 0 of the bodies
        "linear": (2, torch.eye(3, dtype=torch.float64).expand(count, num_frames, 1, 3, 3)),
        "center": (2, torch.zeros(count, num_frames, 1, 3, dtype=torch.float64)),
        "half_sizes": (1, whole.pop("room")[:, None]),
        "moves": (1, torch.zeros(count, 1, dtype=torch.bool)),
        "materials": (1, whole.pop("faces")),
    }
    whole |= {name: torch.cat((own, whole[name]), dim) for name, (dim, own) in room.items()}
    whole |= {"times": times.expand(count, num_frames), "present": present, "shades": whole["shades"] & present}
    return RandomScenes(**whole, num_ellipsoids=slots[0])


def _slots(options: SyntheticOptions) -> tuple[int, int, int]:
    """How many ellipsoids, boxes and turned solids scenes have places for."""
    ellipsoids = num_ellipsoids(options)
    bodies = (ellipsoids, options.bodies[1] - ellipsoids, 0)
    if not options.lifelike:
        return bodies
    a, b, c = (max(one, two) for one, two in zip(bodies, SLOTS, strict=True))
    return a, b, c


def _in_slots(drawn: dict[str, Tensor], own: tuple[int, int, int], slots: tuple[int, int, int]) -> dict[str, Tensor]:
    """Scenes that have places for `own` bodies of each shape, with places for more."""
    place = torch.cat([torch.arange(have) + sum(slots[:i]) for i, have in enumerate(own)])  # [N]
    absent = {
        "linear": (2, torch.eye(3, dtype=torch.float64)),
        "center": (2, torch.tensor(ABSENT, dtype=torch.float64)),
        "half_sizes": (1, torch.full((3,), ABSENT_SIZE, dtype=torch.float64)),
        "moves": (1, torch.tensor(False)),
        "shades": (1, torch.tensor(False)),
        "materials": (1, torch.zeros(NUM_COLUMNS, dtype=torch.float64)),
    }  # dimension of the bodies, and what a body is that is not there
    result = dict(drawn)
    for name, (dim, filler) in absent.items():
        wider = filler.expand(*drawn[name].shape[:dim], sum(slots), *filler.shape).clone()
        result[name] = wider.index_copy_(dim, place, drawn[name])
    profile = torch.tensor(CYLINDER, dtype=torch.float64).expand(len(drawn["room"]), slots[2], 3).clone()
    profile[:, : own[2]] = drawn["profile"]
    return {**result, "profile": profile}


def _draw_rooms_with_bodies(
    seeds: Sequence[int], times: Tensor, image_size: tuple[int, int], options: SyntheticOptions
) -> dict[str, Tensor]:
    """Draw one room for each seed, without what `draw_scenes` adds."""
    draws = Draws(seeds)
    room = torch.stack((draws.uniform(1.9, 3.8), draws.uniform(1.25, 1.8), draws.uniform(1.9, 3.8)), dim=-1)  # [B, 3]
    focal = draw_focal_lengths(draws, image_size, options)
    camera = CameraPaths(draws, *stand_in_room(draws, room), focal, room, image_size, options)
    extrinsics = camera.extrinsics(times)
    linear, center, half_sizes, moves = draw_bodies(draws, room, camera, times, options)

    # Bodies that would come too close to a camera are left out.
    eye = invert_extrinsics(extrinsics)[..., 3]  # [B, S, 3]
    ellipsoids = num_ellipsoids(options)
    close = clearance(eye, linear, center, half_sizes, ellipsoids).amin(1) < CAMERA_TO_SURFACE  # [B, N]
    linear, center, half_sizes, moves = without(close, linear, center, half_sizes, moves)
    return {
        "extrinsics": extrinsics,
        "intrinsics": camera.intrinsics(len(times)),
        "room": room,
        "linear": linear,
        "center": center,
        "half_sizes": half_sizes,
        "profile": torch.zeros(len(seeds), 0, 3, dtype=torch.float64),
        "moves": moves,
        "shades": torch.ones_like(moves),
        "open_air": torch.zeros(len(seeds), dtype=torch.bool),
        "faces": draw_room_materials(draws),
        "materials": draw_body_materials(draws, half_sizes, ellipsoids),
        **_draw_lamps(draws, room, options),
    }


def _draw_lamps(draws: Draws, room: Tensor, options: SyntheticOptions) -> dict[str, Tensor]:
    """Two lamps under the ceiling, and light from all sides."""
    warm = draws.uniform(-0.6, 1.0)
    place = draws.uniform(-0.75, 0.75, 2, 3) * room[:, None]
    place[..., 1] = (room[:, 1] - 0.08)[:, None]
    tint = torch.stack((1 + 0.12 * warm, torch.ones_like(warm), 1 - 0.15 * warm), dim=-1)  # [B, 3]
    exposure = torch.exp(draws.uniform(-0.35, 0.35))
    main, fill = options.light * draws.uniform(0.7, 1.3), options.light * draws.uniform(0, 0.4)
    ambient = draws.uniform(0.3, 0.6) + 0.7 * (1 - options.light)
    return light_of(place, room.mean(-1), tint, exposure, main, fill, ambient)
