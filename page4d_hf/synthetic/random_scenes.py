"""Random scenes, many at once: a room, bodies that stand, float, move and deform, a camera on a path, and lamps.

All is drawn and worked out on the CPU in float64, from one generator for each scene: a scene depends on nothing but its
seed, the options, the number of frames and the size of the images. What is per scene, per body or per frame is small;
only what is per pixel, in `batched_raycast`, is worth a GPU.

World: y up, metres, the origin at the centre of the room.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from ..errors import Page4DError
from .draws import Draws
from .random_materials import draw_materials
from .scene import rotation_about

CAMERA_TO_SURFACE = 0.12  # metres: no camera comes closer to a body
CAMERA_TO_WALL = 0.25  # metres
ABSENT = (0.0, -100.0, 0.0)  # where the bodies lie that a scene does not have: under its floor, too small to be met
ABSENT_SIZE = 0.01  # metres


@dataclass(frozen=True)
class SyntheticOptions:
    """What random scenes are made of. The defaults are for training; a curriculum may begin with still scenes."""

    bodies: tuple[int, int] = (5, 9)
    """Fewest and most bodies in a scene. Two of three are ellipsoids, the rest are boxes."""
    still_share: float = 0.0
    """Share of the scenes in which no body moves, from 0 to 1. With 1, only the camera moves."""
    moving_share: float = 0.4
    """Share of the bodies that move, from 0 to 1, in the scenes that are not still; at least one does."""
    body_motion: float = 1.0
    """How far bodies travel, bounce and turn: a factor. At 1 a body crosses a fifth to a half of the image."""
    deformation: float = 1.0
    """How much bodies stretch and lean: a factor. At 1 half of the moving bodies change their length by 10 to 35 %."""
    camera_motion: float = 1.0
    """How far the camera travels and turns: a factor. At 1 it travels 0.1 to 0.3 of the way to what it looks at; 0.2 is
    a small motion, and 0 leaves the trembling of a hand unless that is switched off too."""
    hand_held: float = 1.0
    """How much the camera trembles: a factor. At 1 by about a centimetre and a degree."""
    field_of_view: tuple[float, float] = (42.0, 85.0)
    """Least and greatest field of view across the image's longer side, in degrees."""
    light: float = 1.0
    """Contrast of the light, from 0 (the same from all sides, no shadows) to 1 (lamps and their shadows)."""

    def __post_init__(self) -> None:
        for name in ("still_share", "moving_share", "light"):
            if not 0 <= getattr(self, name) <= 1:
                raise Page4DError(f"The option {name} must be from 0 to 1, got {getattr(self, name)}.")
        for name, high in (("body_motion", 3), ("deformation", 2), ("camera_motion", 3), ("hand_held", 5)):
            if not 0 <= getattr(self, name) <= high:
                raise Page4DError(f"The option {name} must be from 0 to {high}, got {getattr(self, name)}.")
        fewest, most = self.bodies
        if not 1 <= fewest <= most <= 64:
            raise Page4DError(
                f"The option bodies must be two numbers from 1 to 64, the lesser first, got {self.bodies}."
            )
        least, greatest = self.field_of_view
        if not 5 <= least <= greatest <= 140:
            raise Page4DError(
                f"The option field_of_view must be two angles from 5 to 140 degrees, the lesser first, got "
                f"{self.field_of_view}."
            )


@dataclass(frozen=True)
class RandomScenes:
    """B scenes over S frames. Number 0 is the room, 1 to N are the bodies, ellipsoids first.

    A point of a body that lies at `q` at rest lies at `linear @ q + center` in the world. A body at rest is the unit
    sphere, or the cube [-1, 1]^3, times `half_sizes`; so is the room, which never moves.
    """

    times: Tensor  # [B, S] in [0, 1] over the clip
    extrinsics: Tensor  # [B, S, 3, 4] world-to-camera, OpenCV axes
    intrinsics: Tensor  # [B, S, 3, 3] in pixels, first pixel's centre at (0.5, 0.5)
    linear: Tensor  # [B, S, N + 1, 3, 3]
    center: Tensor  # [B, S, N + 1, 3] metres
    half_sizes: Tensor  # [B, N + 1, 3] metres
    moves: Tensor  # [B, N + 1] bool
    present: Tensor  # [B, N] bool: which of the bodies the scene has
    materials: Tensor  # [B, 6 + N, K]: the walls -x, +x, the floor, the ceiling, the walls -z, +z, and the bodies
    lamps: Tensor  # [B, 2, 3] metres; the second one fills the first one's shadows
    lamp_colors: Tensor  # [B, 2, 3] radiance at the distance of `lamp_reach`
    lamp_reach: Tensor  # [B] metres
    ambient: Tensor  # [B, 3] light from all sides
    num_ellipsoids: int

    def to(self, device: torch.device | str, dtype: torch.dtype) -> RandomScenes:
        """The same scenes elsewhere, in another floating point type."""
        moved = {}
        for part in fields(self):
            value = getattr(self, part.name)
            if isinstance(value, Tensor):
                value = value.to(device=device, dtype=dtype if value.is_floating_point() else None)
            moved[part.name] = value
        return RandomScenes(**moved)


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
    draws = Draws(seeds)
    times = torch.linspace(0, 1, num_frames, dtype=torch.float64)
    room = torch.stack((draws.uniform(1.9, 3.8), draws.uniform(1.25, 1.8), draws.uniform(1.9, 3.8)), dim=-1)  # [B, 3]
    camera = _Camera(draws, room, image_size, options)
    extrinsics = camera.extrinsics(times)
    linear, center, half_sizes, moves = _draw_bodies(draws, room, camera, times, options)

    # Bodies that would come too close to a camera are left out.
    eye = -(extrinsics[..., :3].transpose(-1, -2) @ extrinsics[..., 3:]).squeeze(-1)  # [B, S, 3]
    ellipsoids = num_ellipsoids(options)
    close = _clearance(eye, linear, center, half_sizes, ellipsoids).amin(1) < CAMERA_TO_SURFACE  # [B, N]
    linear, center, half_sizes, moves = _without(close, linear, center, half_sizes, moves)

    count = len(half_sizes)
    identity = torch.eye(3, dtype=torch.float64).expand(count, num_frames, 1, 3, 3)
    materials, warm = draw_materials(draws, half_sizes, ellipsoids)
    lamps, lamp_colors, lamp_reach, ambient = _draw_lamps(draws, room, warm, options)
    return RandomScenes(
        times=times.expand(count, num_frames),
        extrinsics=extrinsics,
        intrinsics=camera.intrinsics(num_frames),
        linear=torch.cat((identity, linear), dim=2),
        center=torch.cat((torch.zeros(count, num_frames, 1, 3, dtype=torch.float64), center), dim=2),
        half_sizes=torch.cat((room[:, None], half_sizes), dim=1),
        moves=torch.cat((torch.zeros(count, 1, dtype=torch.bool), moves), dim=1),
        present=(half_sizes != ABSENT_SIZE).any(-1),
        materials=materials,
        lamps=lamps,
        lamp_colors=lamp_colors,
        lamp_reach=lamp_reach,
        ambient=ambient,
        num_ellipsoids=ellipsoids,
    )


def num_ellipsoids(options: SyntheticOptions) -> int:
    """How many of the bodies' places are for ellipsoids."""
    return math.ceil(options.bodies[1] * 2 / 3)


# --------------------------------------------------------------------------------------------------------------------
# The camera


class _Camera:
    """A camera on a path through its room, looking at a place of its own. One for each scene."""

    def __init__(self, draws: Draws, room: Tensor, image_size: tuple[int, int], options: SyntheticOptions) -> None:
        self.room, self.image_size = room, image_size
        height, width = image_size
        least, greatest = (math.radians(angle) for angle in options.field_of_view)
        self.focal = max(image_size) / 2 / torch.tan(draws.uniform(least, greatest) / 2)  # [B] pixels
        self.half_extent = torch.stack((width / 2 / self.focal, height / 2 / self.focal), dim=-1)  # [B, 2] at depth 1

        azimuth = draws.uniform(0, 2 * math.pi)
        across, along = torch.cos(azimuth), torch.sin(azimuth)
        inside = room - CAMERA_TO_WALL
        to_wall = torch.minimum(inside[:, 0] / across.abs(), inside[:, 2] / along.abs())
        distance = to_wall * draws.uniform(0.5, 0.95)
        eye_height = draws.uniform(0.55, 1.0) * (room[:, 1] * 2 - 0.4).clamp_max(2.2) - room[:, 1]
        self.eye = torch.stack((across * distance, eye_height, along * distance), dim=-1)  # [B, 3]
        # What it looks at lies beyond the middle of the room, to one side, and mostly lower than the camera.
        reach, aside = -to_wall * draws.uniform(-0.1, 0.5), to_wall * draws.uniform(-0.25, 0.25)
        target_height = draws.uniform(0.25, 1.25) - room[:, 1]
        self.target = torch.stack(
            (across * reach - along * aside, target_height, along * reach + across * aside), dim=-1
        )
        # Of the path: right, up and forward in horizontal axes, each a drift and a sway, and an arc about the target.
        kind = draws.choice(5)
        drift = torch.tensor(
            # sway, arc, dolly, track, almost still
            [[0.1, 0.05, 0.1], [0.0, 0.15, 0.1], [0.15, 0.15, 1.0], [1.0, 0.25, 0.2], [0.0, 0.0, 0.0]],
            dtype=torch.float64,
        )[kind]
        sway = torch.tensor(
            [[0.8, 0.3, 0.35], [0.1, 0.1, 0.1], [0.1, 0.08, 0.0], [0.0, 0.1, 0.2], [0.04, 0.02, 0.02]],
            dtype=torch.float64,
        )[kind]
        amount = options.camera_motion * draws.uniform(0.08, 0.22) * (self.target - self.eye).norm(dim=-1)  # [B]
        self.drift = drift * draws.either(3) * amount[:, None]
        self.sway = sway * draws.either(3) * amount[:, None]
        self.sway_rate, self.sway_phase = draws.uniform(0.4, 1.3, 3), draws.uniform(0, 1, 3)
        self.arc = (kind == 1) * draws.either() * draws.uniform(0.12, 0.4) * options.camera_motion  # radians
        # Turns: down, right and clockwise. A slow pan, a tilted horizon, and the hand.
        hand = options.hand_held * draws.uniform(0.2, 1.0)
        self.pan = draws.uniform(-0.12, 0.12, 3) * options.camera_motion * (kind != 4)[:, None]
        self.tilt = draws.uniform(-1, 1, 3) * torch.tensor([0.03, 0.05, 0.08], dtype=torch.float64)
        waves = torch.tensor([1.0, 0.5], dtype=torch.float64)[:, None]  # the faster, the smaller
        self.tremble = draws.uniform(-0.012, 0.012, 2, 3) * hand[:, None, None] * waves
        self.shake = draws.uniform(-0.014, 0.014, 2, 3) * hand[:, None, None] * waves
        rates = torch.stack((draws.uniform(0.6, 1.6, 6), draws.uniform(1.8, 3.5, 6)), dim=1)
        self.hand_rate, self.hand_phase = rates, draws.uniform(0, 1, 2, 6)  # [B, 2, 6]

    def extrinsics(self, times: Tensor) -> Tensor:
        """World-to-camera `(B, S, 3, 4)`, OpenCV axes, at times `(S,)` in [0, 1]."""
        t = times[None, :, None]  # [1, S, 1]
        up = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
        forward = (self.target - self.eye) * torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)
        forward = torch.nn.functional.normalize(forward, dim=-1)
        axes = torch.stack((torch.linalg.cross(forward, up.expand_as(forward)), up.expand_as(forward), forward), dim=1)
        waves = torch.sin(2 * math.pi * (self.sway_rate[:, None] * t + self.sway_phase[:, None]))  # [B, S, 3]
        hand = torch.sin(
            2 * math.pi * (self.hand_rate[:, None] * t[..., None] + self.hand_phase[:, None])
        )  # [B, S, 2, 6]
        moved = self.drift[:, None] * (2 * t - 1) + self.sway[:, None] * waves
        moved = moved + (self.tremble[:, None] * hand[..., :3]).sum(2)
        # About the target's vertical.
        angle = self.arc[:, None] * (2 * times - 1)  # [B, S]
        from_target = self.eye - self.target
        cosine, sine = torch.cos(angle), torch.sin(angle)
        x, y, z = (component[:, None] for component in from_target.unbind(-1))
        around = torch.stack((cosine * x + sine * z, y.expand_as(angle), cosine * z - sine * x), dim=-1)
        eye = self.target[:, None] + around + moved @ axes
        inside = (self.room - CAMERA_TO_WALL)[:, None]
        eye = torch.minimum(torch.maximum(eye, -inside), inside)  # [B, S, 3]

        look = torch.nn.functional.normalize(self.target[:, None] - eye, dim=-1)
        right = torch.nn.functional.normalize(torch.linalg.cross(look, up.expand_as(look)), dim=-1)
        rotation = torch.stack((right, torch.linalg.cross(look, right), look), dim=-2)  # [B, S, 3, 3]
        turned = self.tilt[:, None] + self.pan[:, None] * (2 * t - 1) + (self.shake[:, None] * hand[..., 3:]).sum(2)
        rotation = rotation_vector_to_matrix(turned) @ rotation
        return torch.cat((rotation, -rotation @ eye[..., None]), dim=-1)

    def intrinsics(self, num_frames: int) -> Tensor:
        """In pixels, `(B, S, 3, 3)`: square pixels, the principal point at the image's centre."""
        height, width = self.image_size
        intrinsics = torch.zeros(len(self.focal), num_frames, 3, 3, dtype=torch.float64)
        intrinsics[:, :, 0, 0] = intrinsics[:, :, 1, 1] = self.focal[:, None]
        intrinsics[:, :, 0, 2], intrinsics[:, :, 1, 2], intrinsics[:, :, 2, 2] = width / 2, height / 2, 1.0
        return intrinsics


# --------------------------------------------------------------------------------------------------------------------
# Bodies


def _draw_bodies(
    draws: Draws, room: Tensor, camera: _Camera, times: Tensor, options: SyntheticOptions
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Bodies in view of the camera in the middle of the clip.

    Returns:
        linear `(B, S, N, 3, 3)`, center `(B, S, N, 3)`, half sizes `(B, N, 3)`, and which move `(B, N)`.
    """
    n = options.bodies[1]
    is_box = torch.arange(n) >= num_ellipsoids(options)
    rank = draws.uniform(0, 1, n).argsort(dim=1).argsort(dim=1)  # [B, N], of the bodies of a scene
    present = rank < options.bodies[0] + draws.choice(n - options.bodies[0] + 1)[:, None]
    # The body of rank 0, which is always present, moves in any case.
    wanted = (draws.uniform(0, 1, n) < options.moving_share) | ((rank == 0) & (options.moving_share > 0))
    moving = wanted & (draws.uniform(0, 1) >= options.still_share)[:, None]
    stands = draws.uniform(0, 1, n) < torch.where(moving, 0.5, 0.75)

    # Places in the image, in shares of its half extents, spread from left to right; and distances.
    middle = camera.extrinsics(torch.tensor([0.5], dtype=torch.float64))[:, 0]  # [B, 3, 4]
    to_world = middle[:, :, :3].transpose(-1, -2)
    eye = -(to_world @ middle[:, :, 3:]).squeeze(-1)  # [B, 3]
    order = draws.uniform(0, 1, n).argsort(dim=1).argsort(dim=1)
    x = ((order + draws.uniform(0, 1, n)) / n * 2 - 1) * torch.where(moving, 0.75, 0.95)
    y = draws.uniform(-0.65, 0.6, n)
    rays = torch.stack((x * camera.half_extent[:, :1], y * camera.half_extent[:, 1:], torch.ones_like(x)), dim=-1)
    rays = rays @ to_world.transpose(-1, -2)  # [B, N, 3]
    to_wall = ((room[:, None] - eye[:, None] * rays.sign()) / rays.abs().clamp_min(1e-9)).amin(-1)  # [B, N] z-depths
    farthest = torch.where(moving, 0.8, 0.97) * to_wall
    distance = torch.maximum(farthest * draws.uniform(0.3, 1.0, n), torch.full_like(farthest, 0.8))
    center = eye[:, None] + rays * distance[..., None]

    # Sizes by how large a body looks, as a share of the image's half extent.
    looks = draws.uniform(0.15, 0.38, n)
    radius = looks * distance * camera.half_extent.prod(-1).sqrt()[:, None]
    radius = torch.minimum(radius.clamp(0.08, 0.9), 0.4 * room[:, 1:2])
    aspect = torch.exp(draws.uniform(-0.4, 0.4, n, 3))
    aspect = aspect / aspect.prod(-1, keepdim=True) ** (1 / 3)
    half_sizes = (radius * torch.where(is_box, 0.85, 1.0))[..., None] * aspect  # [B, N, 3]

    motion = _BodyMotion(draws, moving, stands, radius, distance, to_world, camera, options)
    linear = motion.linear(times)  # [B, S, N, 3, 3]
    reach = linear * half_sizes[:, None, :, None]  # how far each axis of the body reaches along x, y and z
    support = torch.where(is_box[:, None], reach.abs().sum(-1), reach.norm(dim=-1))  # [B, S, N, 3]

    # Travel and place are such that nothing passes through a wall.
    free = (room[:, None] - support.amax(1) - 0.02).clamp_min(0)  # [B, N, 3]
    travel = torch.minimum(torch.maximum(motion.travel, -0.9 * free), 0.9 * free)
    inside = free - travel.abs()
    start = torch.minimum(torch.maximum(center, -inside), inside)
    offset = start[:, None] + travel[:, None] * motion.sway(times)[..., None]  # [B, S, N, 3]
    # Bodies that stand touch the floor with their lowest point, but for the leaps of some.
    leap = torch.minimum(motion.leap, 1.6 * free[..., 1])[:, None] * motion.bounce(times)
    floor = -room[:, None, None, 1] + support[..., 1] + leap
    height = torch.where(stands[:, None], floor, offset[..., 1])
    offset = torch.stack((offset[..., 0], height, offset[..., 2]), dim=-1)

    moves = motion.moves | (travel != 0).any(-1)
    return _without(~present, linear, offset, half_sizes, moves)


class _BodyMotion:
    """How bodies turn, deform and travel. A point `q` of a body at rest is at `Lean Stretch Turn q` from its centre."""

    def __init__(
        self,
        draws: Draws,
        moving: Tensor,
        stands: Tensor,
        radius: Tensor,
        distance: Tensor,
        to_world: Tensor,
        camera: _Camera,
        options: SyntheticOptions,
    ) -> None:
        n = moving.shape[1]
        up = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
        stands_up = (stands & (draws.uniform(0, 1, n) < 0.75))[..., None]
        self.axis = torch.where(stands_up, up, draws.directions(n))
        self.angle = draws.uniform(0, 2 * math.pi, n)
        amount = moving * options.body_motion
        self.turn = draws.uniform(-1.6, 1.6, n) * amount  # radians over the clip
        # Across the image, and less far to and fro.
        heading = draws.uniform(0, 2 * math.pi, n)
        slope = torch.where(stands, 0.0, 0.6) * torch.sin(heading)
        way = torch.stack((torch.cos(heading), slope, draws.uniform(-0.5, 0.5, n)), dim=-1) @ to_world.transpose(-1, -2)
        way = torch.where(stands[..., None], way * torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64), way)
        length = draws.uniform(0.2, 0.5, n) * distance * camera.half_extent[:, :1]
        self.travel = way * (length * amount)[..., None]  # [B, N, 3]
        self.steady = draws.uniform(0, 1, n)  # how much of the way is at a constant speed; the rest is to and fro
        self.rate, self.phase = draws.uniform(0.35, 1.0, n), draws.uniform(0, 1, n)
        leaps = stands & (draws.uniform(0, 1, n) < 0.3)
        self.leap = leaps * amount * draws.uniform(0.3, 1.5, n) * radius  # metres
        self.leap_rate = draws.uniform(1.0, 2.5, n)
        softness = (draws.uniform(0, 1, n) < 0.5) * moving * options.deformation
        self.stretch_axis = draws.directions(n)
        self.stretch = softness * draws.uniform(0.1, 0.35, n)
        self.lean = draws.uniform(-0.3, 0.3, n, 2) * softness[..., None]  # metres to x and z for each metre up
        self.pulse_rate = draws.uniform(0.5, 1.6, n)
        self.moves = (self.turn != 0) | (self.leap != 0) | (self.stretch != 0)

    def sway(self, times: Tensor) -> Tensor:
        """How far along their ways bodies are, `(B, S, N)` in [-1, 1]."""
        t = times[None, :, None]
        wave = torch.sin(2 * math.pi * (self.rate[:, None] * t + self.phase[:, None]))
        return torch.lerp(wave, 2 * t - 1, self.steady[:, None])

    def bounce(self, times: Tensor) -> Tensor:
        """How high bodies leap, `(B, S, N)` in [0, 1]."""
        return torch.sin(math.pi * (self.leap_rate[:, None] * times[None, :, None] + self.phase[:, None])).abs()

    def linear(self, times: Tensor) -> Tensor:
        """Turn, stretch and lean, `(B, S, N, 3, 3)`."""
        t = times[None, :, None]
        angle = self.angle[:, None] + self.turn[:, None] * t
        turn = rotation_vector_to_matrix(self.axis[:, None] * angle[..., None])
        pulse = 2 * math.pi * (self.pulse_rate[:, None] * t + self.phase[:, None])
        length = 1 + self.stretch[:, None] * torch.sin(pulse)  # along one axis; across it, so that the volume stays
        along = self.stretch_axis[..., :, None] * self.stretch_axis[..., None, :]  # [B, N, 3, 3]
        across, identity = length**-0.5, torch.eye(3, dtype=torch.float64)
        stretch = across[..., None, None] * identity + (length - across)[..., None, None] * along[:, None]
        lean = identity.expand_as(stretch).clone()
        lean[..., 0::2, 1] = self.lean[:, None] * torch.cos(pulse)[..., None]
        return lean @ stretch @ turn


def _without(
    left_out: Tensor, linear: Tensor, center: Tensor, half_sizes: Tensor, moves: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The bodies, with those that are left out `(B, N)` where no ray meets them."""
    center = torch.where(left_out[:, None, :, None], torch.tensor(ABSENT, dtype=torch.float64), center)
    linear = torch.where(left_out[:, None, :, None, None], torch.eye(3, dtype=torch.float64), linear)
    half_sizes = torch.where(left_out[..., None], ABSENT_SIZE, half_sizes)
    return linear, center, half_sizes, moves & ~left_out


def _clearance(eye: Tensor, linear: Tensor, center: Tensor, half_sizes: Tensor, ellipsoids: int) -> Tensor:
    """At least how far `(B, S, N)` points `(B, S, 3)` are from the surfaces of bodies; negative inside."""
    axes = linear * half_sizes[:, None, :, None]
    unit = torch.linalg.solve(axes, (eye[:, :, None] - center)[..., None]).squeeze(-1)
    reach = torch.cat((unit[:, :, :ellipsoids].norm(dim=-1), unit[:, :, ellipsoids:].abs().amax(-1)), dim=2)
    # A step of one length in the body's own coordinates is at least the smallest singular value in the world; for a
    # cube, where it is the largest component that counts, too.
    smallest: Tensor = torch.linalg.svdvals(axes)[..., -1]
    return (reach - 1) * smallest


# --------------------------------------------------------------------------------------------------------------------
# Light


def _draw_lamps(
    draws: Draws, room: Tensor, warm: Tensor, options: SyntheticOptions
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Two lamps under the ceiling, and light from all sides; `warm` `(B,)` in [-1, 1] is their colour."""
    place = draws.uniform(-0.75, 0.75, 2, 3) * room[:, None]
    place[..., 1] = (room[:, 1] - 0.08)[:, None]
    tint = torch.stack((1 + 0.12 * warm, torch.ones_like(warm), 1 - 0.15 * warm), dim=-1)  # [B, 3]
    exposure = torch.exp(draws.uniform(-0.35, 0.35))
    main, fill = options.light * draws.uniform(0.7, 1.3), options.light * draws.uniform(0, 0.4)
    ambient = draws.uniform(0.3, 0.6) + 0.7 * (1 - options.light)
    colors = torch.stack((main[:, None] * tint, fill[:, None] * tint.flip(-1)), dim=1) * exposure[:, None, None]
    return place, colors, room.mean(-1), ambient[:, None] * exposure[:, None] * (0.5 + 0.5 * tint)


def rotation_vector_to_matrix(vectors: Tensor) -> Tensor:
    """Rotations `(..., 3, 3)` about vectors `(..., 3)` by their lengths in radians."""
    angle = vectors.norm(dim=-1, keepdim=True)
    return rotation_about(vectors / angle.clamp_min(1e-12), angle.squeeze(-1))
