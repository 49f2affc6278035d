"""Cameras of random scenes: where they are, where they go, and how the hand that holds them trembles."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .draws import Draws
from .options import SyntheticOptions
from .scene import rotation_about

CAMERA_TO_WALL = 0.25  # metres
ASPECT_STREAM = 3  # of random numbers: all else is the same whatever the shape of pixels


def draw_focal_lengths(draws: Draws, image_size: tuple[int, int], options: SyntheticOptions) -> Tensor:
    """Focal lengths `(B,)` in pixels."""
    least, greatest = (math.radians(angle) for angle in options.field_of_view)
    return max(image_size) / 2 / torch.tan(draws.uniform(least, greatest) / 2)


def stand_in_room(draws: Draws, room: Tensor) -> tuple[Tensor, Tensor]:
    """Where cameras stand in rooms of half sizes `(B, 3)`, not in the middle, and what they look at: `(B, 3)` twice."""
    azimuth = draws.uniform(0, 2 * math.pi)
    across, along = torch.cos(azimuth), torch.sin(azimuth)
    inside = room - CAMERA_TO_WALL
    to_wall = torch.minimum(inside[:, 0] / across.abs(), inside[:, 2] / along.abs())
    distance = to_wall * draws.uniform(0.5, 0.95)
    eye_height = draws.uniform(0.55, 1.0) * (room[:, 1] * 2 - 0.4).clamp_max(2.2) - room[:, 1]
    eye = torch.stack((across * distance, eye_height, along * distance), dim=-1)
    # What it looks at lies beyond the middle of the room, to one side, and mostly lower than the camera.
    reach, aside = -to_wall * draws.uniform(-0.1, 0.5), to_wall * draws.uniform(-0.25, 0.25)
    target_height = draws.uniform(0.25, 1.25) - room[:, 1]
    return eye, torch.stack((across * reach - along * aside, target_height, along * reach + across * aside), dim=-1)


class CameraPaths:
    """Cameras on paths through their rooms, each looking at a place of its own. One for each scene."""

    def __init__(
        self,
        draws: Draws,
        eye: Tensor,  # [B, 3] about where they are
        target: Tensor,  # [B, 3] what they look at
        focal: Tensor,  # [B] pixels
        room: Tensor,  # [B, 3] half sizes, which they do not leave
        image_size: tuple[int, int],
        options: SyntheticOptions,
    ) -> None:
        self.eye, self.target, self.focal, self.room, self.image_size = eye, target, focal, room, image_size
        height, width = image_size
        # How much longer focal lengths are in pixels down than in pixels across.
        self.aspect = Draws(draws.seeds, ASPECT_STREAM).uniform(*options.pixel_aspect)
        extent = width / 2 / focal, height / 2 / (focal * self.aspect)
        self.half_extent = torch.stack(extent, dim=-1)  # [B, 2] at depth 1
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
        phase = self.hand_rate[:, None] * t[..., None] + self.hand_phase[:, None]
        hand = torch.sin(2 * math.pi * phase)  # [B, S, 2, 6]
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
        """In pixels, `(B, S, 3, 3)`: the principal point is at the image's centre."""
        height, width = self.image_size
        intrinsics = torch.zeros(len(self.focal), num_frames, 3, 3, dtype=torch.float64)
        intrinsics[:, :, 0, 0] = self.focal[:, None]
        intrinsics[:, :, 1, 1] = (self.focal * self.aspect)[:, None]
        intrinsics[:, :, 0, 2], intrinsics[:, :, 1, 2], intrinsics[:, :, 2, 2] = width / 2, height / 2, 1.0
        return intrinsics


def rotation_vector_to_matrix(vectors: Tensor) -> Tensor:
    """Rotations `(..., 3, 3)` about vectors `(..., 3)` by their lengths in radians."""
    angle = vectors.norm(dim=-1, keepdim=True)
    return rotation_about(vectors / angle.clamp_min(1e-12), angle.squeeze(-1))
