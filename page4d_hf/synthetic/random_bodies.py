"""Rooms with bodies: ellipsoids and boxes that stand, float, move and deform before a camera."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..geometry import invert_extrinsics
from .draws import Draws
from .options import SyntheticOptions
from .random_cameras import CameraPaths, rotation_vector_to_matrix

ABSENT = (0.0, -100.0, 0.0)  # where the bodies lie that a scene does not have: under its floor, too small to be met
ABSENT_SIZE = 0.01  # metres


def num_ellipsoids(options: SyntheticOptions) -> int:
    """How many of the bodies' places are for ellipsoids."""
    return math.ceil(options.bodies[1] * 2 / 3)


def draw_bodies(
    draws: Draws, room: Tensor, camera: CameraPaths, times: Tensor, options: SyntheticOptions
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
    to_world, eye = invert_extrinsics(middle).split((3, 1), dim=-1)
    eye = eye.squeeze(-1)  # [B, 3]
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
    return without(~present, linear, offset, half_sizes, moves)


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
        camera: CameraPaths,
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


def without(
    left_out: Tensor, linear: Tensor, center: Tensor, half_sizes: Tensor, moves: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The bodies, with those that are left out `(B, N)` where no ray meets them."""
    center = torch.where(left_out[:, None, :, None], torch.tensor(ABSENT, dtype=torch.float64), center)
    linear = torch.where(left_out[:, None, :, None, None], torch.eye(3, dtype=torch.float64), linear)
    half_sizes = torch.where(left_out[..., None], ABSENT_SIZE, half_sizes)
    return linear, center, half_sizes, moves & ~left_out


def clearance(eye: Tensor, linear: Tensor, center: Tensor, half_sizes: Tensor, ellipsoids: int) -> Tensor:
    """At least how far `(B, S, N)` points `(B, S, 3)` are from the surfaces of bodies; negative inside."""
    axes = linear * half_sizes[:, None, :, None]
    unit = torch.linalg.solve(axes, (eye[:, :, None] - center)[..., None]).squeeze(-1)
    reach = torch.cat((unit[:, :, :ellipsoids].norm(dim=-1), unit[:, :, ellipsoids:].abs().amax(-1)), dim=2)
    # A step of one length in the body's own coordinates is at least the smallest singular value in the world; for a
    # cube, where it is the largest component that counts, too.
    smallest: Tensor = torch.linalg.svdvals(axes)[..., -1]
    return (reach - 1) * smallest
