"""A small moving scene, exactly known: bodies, what they do over time, and the cameras that watch them.

World: metres, x right, y up, z towards the cameras; the floor is y = 0. Time runs from 0 to 1 over the clip. Every body
is a sphere or a cube seen through a transform that changes over time and is affine, so that a point of a body is known
at all times: it keeps its own coordinates while the body moves, turns, stretches and leans.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from .textures import Texture, random_texture


@dataclass(frozen=True)
class Motion:
    """Motion of a body, a sum of terms; a term with amplitude 0 is still.

    With `sway(t) = sin(2 pi (rate * t + phase))`, a point that lies at `q` (metres from the centre) in the body at rest
    lies at `Lean(t) Stretch(t) Turn(t) q + centre(t)`.
    """

    center: Tensor  # [3] metres; where `on_ground`, y is the height of what the body stands on
    travel: Tensor  # [3] metres: centre(t) = center + travel * sway(t)
    axis: Tensor  # [3] unit vector, of the turn
    rate: float = 1.0  # sways over the clip
    phase: float = 0.0  # in sways
    turn: float = 0.0  # radians: angle(t) = turn + roll * sway(t) + 2 pi spin t
    roll: float = 0.0  # radians
    spin: float = 0.0  # turns over the clip
    squash: float = 0.0  # the height is times 1 + squash * pulse(t), of the same volume
    lean: float = 0.0  # metres sideways for each metre up, times the pulse a quarter later
    pulse_rate: float = 2.0  # pulse(t) is like sway(t), with this rate
    on_ground: bool = False  # the lowest point of the body stays at `center`'s height

    @property
    def is_still(self) -> bool:
        """Whether the body keeps its place and shape."""
        return not (self.travel.any() or self.roll or self.spin or self.squash or self.lean)


@dataclass(frozen=True)
class Body:
    """A sphere or a cube, seen through its half sizes and its motion."""

    name: str
    shape: Literal["sphere", "cube"]
    half_sizes: Tensor  # [3] metres, at rest
    motion: Motion
    texture: Texture

    @property
    def moves(self) -> bool:
        """Whether the body moves at all during the clip."""
        return not self.motion.is_still

    def transform(self, times: Tensor) -> tuple[Tensor, Tensor]:
        """`linear (F, 3, 3)` and `center (F, 3)` at times `(F,)` in [0, 1], with `x = linear @ q + center`."""
        motion = self.motion
        sway = torch.sin(2 * math.pi * (motion.rate * times + motion.phase))
        angle = motion.turn + motion.roll * sway + 2 * math.pi * motion.spin * times
        pulse = 2 * math.pi * (motion.pulse_rate * times + motion.phase)
        height = 1 + motion.squash * torch.sin(pulse)
        deformation = torch.diag_embed(torch.stack((height**-0.5, height, height**-0.5), dim=-1))
        deformation[:, 0, 1] = motion.lean * torch.cos(pulse) * height
        linear = deformation @ rotation_about(motion.axis, angle)
        center = motion.center + motion.travel * sway[:, None]
        if motion.on_ground:
            reach = linear[:, 1] * self.half_sizes  # [F, 3]
            # How far the body reaches down: the support function of a unit sphere, or of a unit cube.
            below = reach.norm(dim=-1) if self.shape == "sphere" else reach.abs().sum(-1)
            center = torch.stack((center[:, 0], center[:, 1] + below, center[:, 2]), dim=-1)
        return linear, center


@dataclass(frozen=True)
class CameraPath:
    """A hand-held camera: it sways from side to side, up and down, to and fro, and looks at one place."""

    eye: Tensor  # [3] the middle of the path
    travel: Tensor  # [3] metres: how far it sways along each axis
    target: Tensor  # [3] what it looks at
    phase: float = 0.0
    rate: float = 1.0  # sways over the clip

    def extrinsics(self, times: Tensor) -> Tensor:
        """World-to-camera `(F, 3, 4)`, OpenCV axes, at times `(F,)` in [0, 1]."""
        # Once from side to side, twice up and down: a lying figure of eight.
        around = 2 * math.pi * (self.rate * times + self.phase)
        sway = torch.stack((torch.sin(around), torch.sin(2 * around), torch.cos(around)), dim=-1)
        eye = self.eye + self.travel * sway
        up = eye.new_tensor([0.0, 1.0, 0.0]).expand_as(eye)
        forward = torch.nn.functional.normalize(self.target - eye, dim=-1)
        right = torch.nn.functional.normalize(torch.linalg.cross(forward, up), dim=-1)
        rotation = torch.stack((right, torch.linalg.cross(forward, right), forward), dim=-2)
        return torch.cat((rotation, -rotation @ eye[..., None]), dim=-1)


@dataclass(frozen=True)
class Scene:
    """A room with bodies in it, a lamp, and two cameras. All tensors are in float64 on the CPU."""

    room_center: Tensor  # [3]
    room_half_sizes: Tensor  # [3]
    room_texture: Texture
    bodies: tuple[Body, ...]
    lamp_center: Tensor  # [3] a square lamp that shines down
    lamp_half_size: float  # metres
    camera: CameraPath
    held_out_camera: CameraPath

    def world_points(self, body: Tensor, position: Tensor, times: Tensor) -> Tensor:
        """Follow points of bodies through time.

        Args:
            body: `(N,)` int: 0 for the room, i for `bodies[i - 1]`.
            position: `(N, 3)` in the body's coordinates at rest (of the room: in the world).
            times: `(F,)` in [0, 1].

        Returns:
            `(F, N, 3)` where the points are at each of the times.
        """
        points = position.expand(len(times), -1, -1).clone()
        for number, one in enumerate(self.bodies, start=1):
            chosen = body == number
            linear, center = one.transform(times)
            points[:, chosen] = position[chosen] @ linear.transpose(-1, -2) + center[:, None]
        return points


def rotation_about(axis: Tensor, angle: Tensor) -> Tensor:
    """Rotations `(..., 3, 3)` about unit vectors `(3,)` or `(..., 3)` by `(...)` radians (Rodrigues' formula)."""
    x, y, z = axis.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), dim=-1).view(*x.shape, 3, 3)
    identity = torch.eye(3, dtype=axis.dtype, device=axis.device)
    sine, cosine = torch.sin(angle)[..., None, None], torch.cos(angle)[..., None, None]
    return identity + sine * cross + (1 - cosine) * (cross @ cross)


# --------------------------------------------------------------------------------------------------------------------
# The scene


def living_room(seed: int = 0) -> Scene:
    """A living room in which a ball rolls, a toy block turns, a balloon drifts and a jelly wobbles.

    The seed draws colours, textures, sides (left or right), speeds and phases. Each body has a place of its own, so
    that none ever runs into another.
    """
    generator = torch.Generator().manual_seed(seed)

    def vector(*values: float) -> Tensor:
        return torch.tensor(values, dtype=torch.float64)

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))

    def either() -> float:
        return 1.0 if uniform(0, 1) < 0.5 else -1.0

    def choice(options: list[list[str]]) -> list[str]:
        return options[int(uniform(0, len(options)))]

    side = either()  # mirrors the whole layout
    up, still = vector(0, 1, 0), vector(0, 0, 0)

    def place(x: float, y: float, z: float) -> Tensor:
        return vector(side * x, y, z)

    def standing(x: float, height: float, z: float) -> Motion:
        return Motion(place(x, height, z), still, up, on_ground=True)

    ball_radius, ball_travel = 0.3, side * uniform(0.6, 0.72)
    bodies = (
        Body(
            "ball",
            "sphere",
            vector(ball_radius, ball_radius, ball_radius),
            Motion(
                place(-0.4, 0.0, 0.35),
                vector(ball_travel, 0, 0),
                vector(0, 0, -1),
                phase=uniform(0, 1),
                turn=uniform(0, 2 * math.pi),
                roll=ball_travel / ball_radius,  # it rolls and does not slip
                on_ground=True,
            ),
            random_texture("panels", ["#f6f1e4", *choice(BALLS)], generator),
        ),
        Body(
            "block",
            "cube",
            vector(0.25, 0.25, 0.25),
            Motion(
                place(-0.7, 0.0, -0.75),
                vector(0.4, 0, 0.15),
                up,
                phase=uniform(0, 1),
                turn=uniform(0, 2 * math.pi),
                spin=either() * uniform(0.5, 0.8),
                on_ground=True,
            ),
            random_texture("toy block", ["#f3ead6", *choice(BLOCKS)], generator),
        ),
        Body(
            "jelly",
            "sphere",
            vector(0.3, 0.36, 0.3),
            Motion(
                place(0.9, 0.6, -0.45),
                still,
                up,
                phase=uniform(0, 1),
                turn=uniform(0, 2 * math.pi),
                squash=uniform(0.22, 0.28),
                lean=either() * uniform(0.24, 0.32),
                pulse_rate=2.0,
                on_ground=True,
            ),
            random_texture("marbled", choice(JELLIES), generator, wavelength=0.45),
        ),
        Body(
            "balloon",
            "sphere",
            vector(0.24, 0.3, 0.24),
            Motion(
                place(1.35, 1.75, -1.5),
                vector(side * uniform(0.3, 0.4), uniform(0.22, 0.3), 0.1),
                up,
                phase=uniform(0, 1),
                turn=uniform(0, 2 * math.pi),
                spin=either() * uniform(0.2, 0.4),
            ),
            random_texture("bands", choice(BALLOONS), generator),
        ),
        Body(
            "cabinet",
            "cube",
            vector(0.8, 0.42, 0.32),
            standing(-1.55, 0.0, -2.05),
            random_texture("cabinet", ["#b07a45", "#7d4f28", "#e8d9a8"], generator),
        ),
        Body(
            "vase",
            "sphere",
            vector(0.2, 0.3, 0.2),
            standing(-1.75, 0.84, -2.0),
            random_texture("bands", choice(VASES), generator),
        ),
        Body(
            "pedestal",
            "cube",
            vector(0.36, 0.3, 0.36),
            standing(0.9, 0.0, -0.45),
            random_texture("plain", ["#d9d2c5"], generator, wavelength=0.4),
        ),
        Body(
            "pouf",
            "sphere",
            vector(0.45, 0.3, 0.45),
            standing(2.05, 0.0, -1.7),
            random_texture("marbled", choice(POUFS), generator, wavelength=0.5),
        ),
    )
    phase = uniform(0, 1)
    target = place(0.05, 0.72, -0.6)
    return Scene(
        room_center=vector(0, 1.4, 0.6),
        room_half_sizes=vector(2.9, 1.4, 3.0),
        room_texture=random_texture(
            "room", [*FLOOR, *choice(PAPERS), "#efe8da", "#f4f1ea", *choice(RUGS), *choice(ART)], generator, 0.9
        ),
        bodies=bodies,
        lamp_center=place(0.7, 2.78, 0.9),
        lamp_half_size=0.35,
        camera=CameraPath(place(0.0, 1.35, 3.0), vector(1.1, 0.22, 0.25), target, phase),
        # Seen from the other side at each instant, and within the reach of what the first camera saw by and by.
        held_out_camera=CameraPath(place(0.0, 1.4, 2.9), vector(0.6, 0.12, 0.1), target, phase + 0.5),
    )


def rigid_room(seed: int = 0) -> Scene:
    """`living_room`, in which nothing changes its shape: the jelly turns on its pedestal."""
    scene = living_room(seed)
    return replace(scene, bodies=tuple(replace(body, motion=_rigid(body.motion)) for body in scene.bodies))


def _rigid(motion: Motion) -> Motion:
    deforms = bool(motion.squash or motion.lean)
    return replace(motion, squash=0.0, lean=0.0, spin=0.75 if deforms else motion.spin)


def deforming_room(seed: int = 0) -> Scene:
    """`living_room`, in which everything that moves keeps its place and changes its shape."""
    scene = living_room(seed)
    return replace(scene, bodies=tuple(replace(body, motion=_deforming(body.motion)) for body in scene.bodies))


def _deforming(motion: Motion) -> Motion:
    if motion.is_still:
        return motion
    still = torch.zeros_like(motion.travel)
    squash, lean = motion.squash or 0.25, motion.lean or 0.28
    return replace(motion, travel=still, roll=0.0, spin=0.0, squash=squash, lean=lean)


def fast_camera_room(seed: int = 0) -> Scene:
    """`living_room`, through which the training camera sways three times as fast and half as far again."""
    scene = living_room(seed)
    return replace(scene, camera=replace(scene.camera, travel=1.5 * scene.camera.travel, rate=3.0))


def orbited_room(seed: int = 0) -> Scene:
    """`living_room`, around whose middle the training camera goes once, back to where it began."""
    scene = living_room(seed)
    vector = scene.room_center.new_tensor
    path = CameraPath(vector([0, 1.85, 0.8]), vector([1.85, 0.03, 1.85]), vector([0, 1.05, 0.8]))
    return replace(scene, camera=path)


def crowded_room(seed: int = 0) -> Scene:
    """`living_room`, in which what moves is larger and closer to the cameras: a third to a half of the image."""
    scene = living_room(seed)

    def grown(body: Body, factor: float, nearer: float, lower: float = 0.0) -> Body:
        motion, shift = body.motion, body.half_sizes.new_tensor([0.0, -lower, nearer])
        grown_motion = replace(motion, center=motion.center + shift, roll=motion.roll / factor)
        return replace(body, half_sizes=factor * body.half_sizes, motion=grown_motion)

    changes = {"ball": (1.8, 1.1), "balloon": (2.0, 2.4, 0.2), "block": (1.8, 0.3), "jelly": (1.3, 0.0)}
    bodies = tuple(grown(body, *changes[body.name]) if body.name in changes else body for body in scene.bodies)
    return replace(scene, bodies=bodies)


SCENES: dict[str, Callable[[int], Scene]] = {
    "living-room": living_room,
    "rigid": rigid_room,
    "deforming": deforming_room,
    "fast-camera": fast_camera_room,
    "orbit": orbited_room,
    "crowded": crowded_room,
}


# sRGB palettes that go together.
BALLS = [["#d8382f", "#2467b8", "#f0b429"], ["#1f9e77", "#e8662c", "#7257a8"], ["#e0457b", "#2aa4c8", "#f2c230"]]
BLOCKS = [["#2d73b9", "#cf3f35", "#3f9a55"], ["#8e5bb0", "#e08a1e", "#2b9aa0"], ["#c33c6e", "#3a7fc4", "#e0a526"]]
JELLIES = [["#2f9a4b", "#86cf5a", "#f3e27a"], ["#b23a7a", "#ef7fae", "#ffe08a"], ["#22799f", "#58c0d8", "#f6e6a2"]]
BALLOONS = [["#e5533d", "#f8d9c4"], ["#4169c2", "#d5e1f7"], ["#8b49a6", "#f0dcf3"]]
VASES = [["#2f5d8a", "#e9e4d4"], ["#3f7d5f", "#efe6cf"], ["#a5492f", "#f0dfc4"]]
POUFS = [["#8f3b46", "#b9656b", "#e2b9a9"], ["#44688a", "#7fa0bb", "#d5dfe4"], ["#7a6a35", "#a8995d", "#ddd3a4"]]
FLOOR = ["#a87b4f", "#c79a68"]
PAPERS = [["#bcd0cf", "#dbe4de"], ["#dccfae", "#efe5cc"], ["#c7c5dc", "#e2e0ee"]]
RUGS = [["#8a3d3a", "#e3cfae"], ["#3c5d80", "#dfd9c6"], ["#4f6b45", "#e6dcc0"]]
ART = [["#2b4c7e", "#e9c46a", "#d1495b"], ["#264653", "#e9a15f", "#2a9d8f"], ["#5a3d6b", "#e8b7a0", "#4d9078"]]
