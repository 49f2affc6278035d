"""Clips for the mask study: at the network's resolution, with motion masks and exact cameras."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from page4d_hf import Page4DImageProcessor
from page4d_hf.clips import random_clips
from page4d_hf.reconstruction.network import resolve_resolution
from page4d_hf.synthetic import SyntheticOptions

from ..metrics.scores import ExclusionError

if TYPE_CHECKING:
    from ..sequences import EvaluatedSequence


@dataclass(frozen=True)
class StudyClip:
    """S frames as the network gets them, with what is true of them."""

    name: str
    pixel_values: Tensor  # [S, 3, H, W] float32 in [0, 1]
    depth: Tensor  # [S, H, W] float32 z-depth in the unit of the extrinsics; 0: not known, or not of the image
    moving: Tensor  # [S, H, W] bool
    extrinsics: np.ndarray  # [S, 3, 4] float64 world-to-camera, OpenCV axes
    frames_left_out: int = 0  # for want of a motion mask
    intrinsics: np.ndarray | None = None  # [S, 3, 3] float64 in pixels, first pixel's centre at (0.5, 0.5)

    def moving_patches(self, patch_size: int, min_share: float) -> Tensor:
        """Patches of which at least a share of the pixels moves, `[S, h, w]` bool."""
        shares = nn.functional.avg_pool2d(self.moving[:, None].float(), patch_size)[:, 0]
        return shares >= min_share


@dataclass
class Synthetic:
    """Synthetic clips."""

    clips: int = 20
    """Number of clips."""
    frames: int = 8
    """Frames of each clip."""
    image_size: tuple[int, int] | None = None
    """Height and width in pixels; by default a square as wide as the model's image processor says."""
    seed: int = 1_000_000
    """Seed of the first clip; those of the others follow. Those that training draws are spread over 63 bits."""
    scenes: SyntheticOptions = field(default_factory=SyntheticOptions)
    """What they are like."""

    def size_for(self, processor: Page4DImageProcessor, patch_size: int) -> tuple[int, int]:
        """Height and width of the images for a model with this image processor."""
        width: int = processor.size["width"]
        size = self.image_size or (width, width)
        for side in size:
            resolve_resolution(side, processor, patch_size)
        return size

    def words(self, size: tuple[int, int]) -> str:
        """What decides the clips, in a sentence; `size` is height and width."""
        return (
            f"Synthetic clips: {self.clips} of {self.frames} frames of {size[1]}x{size[0]} pixels, seeds from "
            f"{self.seed}, {self.scenes}."
        )


def synthetic_clips(made: Synthetic, size: tuple[int, int]) -> Iterator[StudyClip]:
    """Random scenes with exact motion masks, of a size (height, width) in whole patches: see `random_clips`."""
    for number in range(made.seed, made.seed + made.clips):
        clip = random_clips([number], made.frames, size, options=made.scenes)
        yield StudyClip(
            name=f"synthetic-{number}",
            pixel_values=clip.images[0],
            depth=clip.depth[0],
            moving=clip.motion_mask[0],
            extrinsics=clip.extrinsics[0].double().numpy(),
            intrinsics=clip.intrinsics[0].double().numpy(),
        )


def clip_of_sequence(
    sequence: EvaluatedSequence, processor: Page4DImageProcessor, resolution: int, patch_size: int
) -> StudyClip:
    """A sequence's images as the network gets them; depth and masks are taken at the centres of its pixels.

    Images are cropped, whatever the processor's own mode is: patches of padding would count as static ones. Frames
    without a mask, such as Sintel's last ones (its masks come from optical flow to the next frame), are left out and
    counted.

    Raises:
        ExclusionError: no frame has a motion mask, or none of those has depth.
        CaptureError: a file is missing or broken.
    """
    frames = sequence.frames
    masks = {i: mask for i in range(len(frames)) if (mask := frames.load_motion_mask(i)) is not None}
    if not masks:
        raise ExclusionError(
            f"{sequence.name} has no motion mask of any of its {len(frames)} frames; without, it cannot be said what "
            "moves."
        )
    features = processor.preprocess(
        [frames.load_image(i) for i in masks],
        size=resolution,
        patch_size=patch_size,
        mode="crop",
        return_tensors="pt",
    )
    pixel_values, boxes = features["pixel_values"][0], features["image_boxes"][0].tolist()
    size = (pixel_values.shape[-2], pixel_values.shape[-1])
    moving = [at_network_pixels(mask, box, size) for mask, box in zip(masks.values(), boxes, strict=True)]
    depths = []
    for i, box in zip(masks, boxes, strict=True):
        depth = frames.load_depth(i)
        depths.append(np.zeros(size, np.float32) if depth is None else at_network_pixels(depth, box, size))
    known = np.stack(depths)
    if not (known > 0).any():
        raise ExclusionError(f"{sequence.name} has no known depth in any of its {len(masks)} frames.")
    return StudyClip(
        name=sequence.name,
        pixel_values=pixel_values,
        depth=torch.from_numpy(known),
        moving=torch.from_numpy(np.stack(moving)),
        extrinsics=np.asarray(frames.capture.extrinsics[list(masks)], np.float64),
        frames_left_out=len(frames) - len(masks),
    )


def at_network_pixels(values: np.ndarray, box: list[float], size: tuple[int, int]) -> np.ndarray:
    """A map over an image at the centres of the network's pixels, the nearest value of each.

    Args:
        values: `[h, w]`, over exactly the image.
        box: (left, top, right, bottom) of the image in the network's pixels.
        size: (height, width) of the network's input.

    Returns:
        `[height, width]` of the same dtype; 0 (False) where there is no image.
    """
    height, width = values.shape
    x = (np.arange(size[1]) + 0.5 - box[0]) / (box[2] - box[0]) * width
    y = (np.arange(size[0]) + 0.5 - box[1]) / (box[3] - box[1]) * height
    columns, rows = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    seen = ((rows >= 0) & (rows < height))[:, None] & (columns >= 0) & (columns < width)
    sampled = values[rows.clip(0, height - 1)[:, None], columns.clip(0, width - 1)]
    return np.where(seen, sampled, np.zeros((), values.dtype))
