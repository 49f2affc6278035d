"""A short clip of a synthetic room, with exact truth."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import torch

from page4d_hf.synthetic import SCENES, render_clip
from page4d_hf.synthetic.scene import rotation_about

SIZE = (96, 128)
FOCAL = 110.0


class RoomClip(NamedTuple):
    """Frames, and the truth."""

    images: np.ndarray  # [S, H, W, 3] uint8
    extrinsics: np.ndarray  # [S, 3, 4] world-to-camera
    intrinsics: np.ndarray  # [S, 3, 3]
    depth: np.ndarray  # [S, H, W] float32
    moving: np.ndarray  # [S, H, W] bool


@functools.cache
def moving_room(
    scene: str = "rigid",
    *,
    frames: int = 12,
    camera_stands: bool = False,
    camera_turns: bool = False,
    camera_advances: bool = False,
    size: tuple[int, int] = SIZE,
    focal: float = FOCAL,
    supersampling: int = 2,
) -> RoomClip:
    """A quarter of a scene of `page4d synth`; its camera may stand, turn at one place, or move straight ahead."""
    made = SCENES[scene](3)
    times = torch.linspace(0.1, 0.35, frames, dtype=torch.float64)
    extrinsics = made.camera.extrinsics(times)
    if camera_stands or camera_turns or camera_advances:
        extrinsics = extrinsics[:1].expand(frames, 3, 4).clone()
    if camera_turns:
        up = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
        extrinsics = rotation_about(up, torch.linspace(0, 0.25, frames, dtype=torch.float64)) @ extrinsics
    if camera_advances:
        extrinsics[:, 2, 3] -= torch.linspace(0, 0.5, frames, dtype=torch.float64)
    camera = torch.tensor([[focal, 0, size[1] / 2], [0, focal, size[0] / 2], [0, 0, 1]], dtype=torch.float64)
    intrinsics = camera.expand(frames, 3, 3)
    rendered = render_clip(made, extrinsics, intrinsics, times, size, supersampling=supersampling)
    return RoomClip(
        (255 * rendered["images"]).round().to(torch.uint8).numpy(),
        extrinsics.numpy(),
        intrinsics.numpy(),
        rendered["depth"].float().numpy(),
        rendered["motion_mask"].numpy(),
    )
