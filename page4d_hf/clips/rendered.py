"""Clips of random scenes for training: images with exact cameras, depth, points and motion, made as they are used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import Page4DError
from ..synthetic.batched_raycast import FrameScenes, render
from ..synthetic.image_effects import photographed
from ..synthetic.options import SyntheticOptions
from ..synthetic.random_scenes import draw_scenes, moved
from .schema import ClipFrames

# Pixels that are rendered at once. On a CPU, what fits its caches is fastest; a GPU wants millions.
PIXELS_AT_ONCE = {"cpu": 40_000, "other": 4_000_000}
# Of all clips that are made together. With all that is known of them, pixels take 50 bytes, and twice that on the way.
MOST_PIXELS, MOST_FRAMES = 200_000_000, 100_000
DEFAULT_OPTIONS = SyntheticOptions()


@dataclass(frozen=True)
class SyntheticClips:
    """B clips of S frames with H x W pixels: what is seen, and where every seen point is at every time.

    Lengths are in metres. The world's y axis points up; its origin is the centre of the room. Camera axes, pixels and
    depth are as in `page4d_hf.geometry`, with the first pixel's centre at (0.5, 0.5). What lies behind a pixel is what
    lies behind its centre.
    """

    images: Tensor  # [B, S, 3, H, W] sRGB in [0, 1]
    depth: Tensor  # [B, S, H, W] z-depth, 0 in the sky
    extrinsics: Tensor  # [B, S, 3, 4] world-to-camera, OpenCV axes
    intrinsics: Tensor  # [B, S, 3, 3] in pixels: principal point at the image's centre
    world_points: Tensor  # [B, S, H, W, 3]
    motion_mask: Tensor  # [B, S, H, W] bool, true where the body moves at some time of the clip
    body: Tensor  # [B, S, H, W] int64, 0 for the room
    position: Tensor  # [B, S, H, W, 3] on the body at rest; of the room: in the world
    times: Tensor  # [B, S] in [0, 1] over the clip
    linear: Tensor  # [B, S, N + 1, 3, 3] a point at `position` of a body is at `linear @ position + center`
    center: Tensor  # [B, S, N + 1, 3]
    seeds: tuple[int, ...]  # B

    def __len__(self) -> int:
        return len(self.seeds)

    def follow(self, frame: int, to_frame: int) -> Tensor:
        """Where the points that a frame sees are at the time of another, `(B, H, W, 3)` in the world, metres.

        The same frame gives `world_points`, up to rounding. Whether a point is also seen then, only its depth tells.
        """
        clip, body = torch.arange(len(self), device=self.body.device)[:, None, None], self.body[:, frame]
        linear, center = self.linear[clip, to_frame, body], self.center[clip, to_frame, body]
        return (linear @ self.position[:, frame, ..., None]).squeeze(-1) + center

    def frames(self, index: int) -> ClipFrames:
        """One of the clips as decoded frames, as `page4d_hf.clips` reads and writes them.

        Returns:
            8-bit images; the clip's id is its seed, and its timestamps count frames.
        """
        count = self.times.shape[1]
        return ClipFrames(
            images=(self.images[index] * 255).round().to(torch.uint8).movedim(1, -1).cpu().numpy(),
            depth=self.depth[index].to(torch.float32).cpu().numpy(),
            motion_mask=self.motion_mask[index].cpu().numpy(),
            intrinsics=self.intrinsics[index].to("cpu", torch.float64).numpy(),
            extrinsics=self.extrinsics[index].to("cpu", torch.float64).numpy(),
            timestamps=np.arange(count, dtype=np.float64),
            source="synthetic",
            clip_id=f"synthetic-{self.seeds[index]:08d}",
            frame_ids=[f"{frame:05d}" for frame in range(count)],
            metric=True,
        )


def check_size(num_clips: int, num_frames: int, image_size: tuple[int, int]) -> None:
    """Refuse clips that are too large to be made together, before any memory is taken."""
    height, width = image_size
    frames = num_clips * num_frames
    if frames > MOST_FRAMES or frames * height * width > MOST_PIXELS:
        raise Page4DError(
            f"Synthetic clips may have {MOST_FRAMES:,} frames and {MOST_PIXELS:,} pixels, all that are made together; "
            f"got {num_clips} of {num_frames:,} frames of {width} x {height}: lower one of them."
        )


def random_clips(
    seeds: Sequence[int],
    num_frames: int,
    image_size: tuple[int, int],
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    options: SyntheticOptions = DEFAULT_OPTIONS,
) -> SyntheticClips:
    """Make clips of random scenes, with exact ground truth.

    Rooms, materials, lamps, bodies (ellipsoids and boxes that stand, float, travel, turn, leap, stretch and lean),
    camera paths and focal lengths all differ from clip to clip. Nothing is approximated but the light: a pixel's depth
    is where its ray meets an ellipsoid, a box or the room in closed form.

    A clip depends on its seed, `num_frames`, `image_size` and `options` alone. Scenes are drawn on the CPU in float64.
    What else is in the batch changes no bit of a clip's geometry on a CPU, and its images by rounding only (1e-7).
    Another device or floating point type gives the same up to rounding, which may turn single pixels on the outline of
    a body to what lies beside it.

    Args:
        seeds: one for each clip, not negative.
        num_frames: at equal steps over the clip. Motions span the clip, so fewer frames are farther apart.
        image_size: (height, width).
        device: where pixels are computed, and where the results are.
        dtype: float32 or float64.
        options: what scenes are like.
    """
    height, width = image_size
    if not len(seeds) or min(seeds) < 0:
        raise Page4DError(f"random_clips needs at least one seed, none of them negative, got {list(seeds)}.")
    if num_frames < 1 or height < 1 or width < 1:
        raise Page4DError(
            f"random_clips needs at least one frame and one pixel, got {num_frames} frames of {height} x {width}."
        )
    check_size(len(seeds), num_frames, image_size)
    if dtype not in (torch.float32, torch.float64):
        raise Page4DError(f"random_clips computes in float32 or float64, got {dtype}.")
    device = torch.device(device)
    with torch.no_grad():
        scenes = draw_scenes(seeds, num_frames, image_size, options)
        frames = FrameScenes.of(scenes, image_size, device, dtype)
        count = len(frames.x)
        pixels = PIXELS_AT_ONCE["cpu" if device.type == "cpu" else "other"]
        step = max(1, pixels // (height * width))
        parts = [render(frames.frames(slice(first, first + step))) for first in range(0, count, step)]
        whole = {
            name: torch.cat([getattr(part, name) for part in parts]).unflatten(0, (len(seeds), num_frames))
            for name in ("images", "depth", "world_points", "body", "position")
        }
        whole["images"] = photographed(whole["images"], seeds, options.photography)
        names = ("extrinsics", "intrinsics", "times", "linear", "center", "moves")
        known = moved({name: getattr(scenes, name) for name in names}, device, dtype)
        clip = torch.arange(len(seeds), device=device)[:, None, None, None]
        motion_mask = known.pop("moves")[clip, whole["body"]]
        return SyntheticClips(**whole, **known, motion_mask=motion_mask, seeds=tuple(map(int, seeds)))
