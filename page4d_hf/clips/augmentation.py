"""From the frames of a clip to what the network sees: crop, scale, reversal and colour, with cameras and depth in step.

Geometry first. PAGE-4D's pose encoding holds translation, rotation and two fields of view, but no principal point:
decoding puts it at the image's centre. So every crop is centred on the frame's principal point, which then IS the
centre, and what the encoding leaves out is not a fault of the labels. Crops lie between pixels (one resampling takes
them out and scales them), so this holds exactly and not to the nearest pixel. All frames of a clip are cropped to the
same size, so that focal lengths which are equal stay equal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as tvF

from ..errors import ClipError, SamplingError
from ..utils.ranges import check_ranges
from .schema import ClipFrames

# What a factor of 1 leaves as it is.
FACTORS = {
    "brightness": tvF.adjust_brightness,
    "contrast": tvF.adjust_contrast,
    "saturation": tvF.adjust_saturation,
}
MOST_CHANGE = 100  # of these
# A crop around a principal point nearer to a side than this share of the image would show next to nothing of it.
NEAREST_PRINCIPAL_POINT = 1 / 8


@dataclass(frozen=True)
class AugmentationConfig:
    """Random changes of a sample that leave its geometry true."""

    crop_min: float = 0.8
    """Smallest part of the image's width and height that a crop takes, drawn uniformly and apart for each. What is
    drawn above 1 counts as 1, so with the defaults half of the draws cut nothing."""
    crop_max: float = 1.2
    """Upper end of that draw."""
    reverse_probability: float = 0.0
    """How often the frames come in reverse order."""
    brightness: float = 0.5
    """Factors of brightness are drawn from [1 - this, 1 + this]; 0 leaves it as it is."""
    contrast: float = 0.5
    """The same of contrast."""
    saturation: float = 0.5
    """The same of saturation."""
    hue: float = 0.1
    """Shifts of hue are drawn from [-this, this], in turns of the colour circle; at most 0.5."""
    jitter_probability: float = 0.9
    """How often brightness, contrast, saturation and hue are changed at all."""
    shared_probability: float = 0.7
    """How often all frames of a sample share one draw of colours, as of one camera; otherwise each has its own."""
    grey_probability: float = 0.05
    """How often colours are taken away."""

    def __post_init__(self) -> None:
        if not 0 < self.crop_min <= self.crop_max < math.inf:
            raise SamplingError(f"Expected 0 < crop_min <= crop_max, got {self.crop_min} and {self.crop_max}.")
        shares = ("reverse_probability", "jitter_probability", "shared_probability", "grey_probability")
        ranges = {**dict.fromkeys(FACTORS, (0, MOST_CHANGE)), "hue": (0, 0.5), **dict.fromkeys(shares, (0, 1))}
        check_ranges(self, ranges, prefix="", error=SamplingError)


NO_AUGMENTATION = AugmentationConfig(crop_min=1, crop_max=1, jitter_probability=0, grey_probability=0)
"""The largest crop of the wanted aspect around the principal point, colours as they are: for evaluation."""


@dataclass
class AugmentedClip:
    """A sample as the network sees it: S frames of H x W pixels. The world and its unit are the clip's own."""

    images: Tensor  # [S, 3, H, W] float32 in [0, 1]; a view of channels-last memory
    depth: npt.NDArray[np.float32] | None  # [S, H, W] z-depth, 0 where it is not known
    motion_mask: npt.NDArray[np.bool_] | None  # [S, H, W]
    intrinsics: npt.NDArray[np.float64] | None  # [S, 3, 3] in pixels, principal point at (W / 2, H / 2)
    extrinsics: npt.NDArray[np.float64] | None  # [S, 3, 4] world-to-camera
    frame_ids: list[str]


def augment_clip(
    clip: ClipFrames,
    image_size: tuple[int, int],
    config: AugmentationConfig,
    generator: np.random.Generator,
    *,
    depth_percentile: float = 98.0,
) -> AugmentedClip:
    """Crop and scale a clip's frames to one size, at random within the settings, and change order and colours.

    Images are resampled bicubically over the area that a new pixel covers; depth and masks take the value at the new
    pixel's centre, so no depth is made up between a foreground and its background. The pixel of the file that depth is
    taken from lies up to half a pixel of the file from the new pixel's centre, along each axis.

    Args:
        clip: the frames.
        image_size: (height, width) wanted.
        config: the settings.
        generator: all that is random comes from it, in a fixed order.
        depth_percentile: see `SourceConfig.depth_percentile`.

    Raises:
        ClipError: the clip has depth but no valid value in the crop, depth that is not finite, or a principal point so
            near a side of the image, or beyond it, that no crop can be centred on it.
    """
    reverse = generator.random() < config.reverse_probability
    order = slice(None, None, -1 if reverse else 1)
    crop_scales = np.minimum(generator.uniform(config.crop_min, config.crop_max, 2), 1.0)
    origins, zoom = _crops(clip, image_size, crop_scales)
    origins = origins[order]

    pixels = np.empty((len(clip), *image_size, 3), np.float32)
    for frame, origin, out in zip(clip.images[order], origins, pixels, strict=True):
        np.divide(_resize(frame, origin, zoom, image_size), np.float32(255), out=out)
    jitter_colors(pixels, config, generator)

    depth = motion_mask = intrinsics = extrinsics = None
    if clip.depth is not None:
        depth = _take_nearest(clip.depth[order], origins, zoom, image_size)
        _check_depth(depth, clip.clip_id)
        cut_far_depth(depth, depth_percentile)
    if clip.motion_mask is not None:
        motion_mask = _take_nearest(clip.motion_mask[order], origins, zoom, image_size)
    if clip.intrinsics is not None and clip.extrinsics is not None:
        # u' = zoom * (u - origin): both conventions have the first pixel's centre at 0.5, so no half pixel is lost.
        intrinsics = clip.intrinsics[order].copy()
        intrinsics[:, :2, 2] -= origins
        intrinsics[:, :2] *= zoom
        extrinsics = clip.extrinsics[order].copy()
    return AugmentedClip(
        torch.from_numpy(pixels).permute(0, 3, 1, 2), depth, motion_mask, intrinsics, extrinsics, clip.frame_ids[order]
    )


def cut_far_depth(depth: npt.NDArray[np.float32], percentile: float) -> None:
    """Set to 0, in place, what lies beyond a percentile of each frame's valid depth `(S, H, W)`, 0 where unknown."""
    if percentile >= 100:
        return
    for frame in depth:
        valid = frame[frame > 0]
        if valid.size:
            frame[frame > np.percentile(valid, percentile)] = 0


# --------------------------------------------------------------------------------------------------------------------
# Colours


def jitter_colors(images: npt.NDArray[np.float32], config: AugmentationConfig, generator: np.random.Generator) -> None:
    """Change brightness, contrast, saturation and hue of images `(S, H, W, 3)` in [0, 1] in random order, and take
    colours away, in place."""
    shared = generator.random() < config.shared_probability
    changes = _draw_changes(config, generator)
    for number, image in enumerate(images):
        if number and not shared:
            changes = _draw_changes(config, generator)
        for name, amount in changes:
            if name == "hue":
                shift_hue(image, amount)
                continue
            tensor = torch.from_numpy(image).permute(2, 0, 1)  # a view: [3, H, W]
            if name == "grey":
                tensor.copy_(tvF.rgb_to_grayscale(tensor, num_output_channels=3))
            else:
                tensor.copy_(FACTORS[name](tensor, amount))


def _draw_changes(config: AugmentationConfig, generator: np.random.Generator) -> list[tuple[str, float]]:
    """What is done to an image, in order, with its factor (or the hue's shift)."""
    # Everything is drawn whatever comes of it, so that a change of one setting does not change the other draws.
    jitter, grey = generator.random(2) < (config.jitter_probability, config.grey_probability)
    spreads = {name: getattr(config, name) for name in FACTORS}
    amounts = {name: float(generator.uniform(max(0.0, 1 - by), 1 + by)) for name, by in spreads.items()}
    amounts["hue"] = float(generator.uniform(-config.hue, config.hue))
    order = generator.permutation(sorted(amounts))
    changes = [(str(name), amounts[name]) for name in order if jitter and amounts[name] != float(name in FACTORS)]
    return [*changes, ("grey", 1.0)] if grey else changes


def shift_hue(image: npt.NDArray[np.float32], shift: float) -> None:
    """Turn the hue of `image`, `(H, W, 3)` in [0, 1], by `shift` of the colour circle, in place.

    The same values as torchvision's `adjust_hue` to 1e-5, in a ninth of its time, which was most of the time of a
    whole batch.
    """
    hsv: npt.NDArray[np.float32] = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2HSV), np.float32)
    hue = hsv[..., 0]  # in degrees
    hue += np.float32(360 * shift)
    # OpenCV turns back a hue outside of [0, 360) in its scalar code, not in its vectorised code.
    hue[hue < 0] += 360
    hue[hue >= 360] -= 360
    image[:] = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


# --------------------------------------------------------------------------------------------------------------------
# Crops


def _crops(
    clip: ClipFrames, image_size: tuple[int, int], crop_scales: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], float]:
    """Left upper corners `(S, 2)` of the frames' crops in their pixels, as (x, y), and how much they are enlarged."""
    count, height, width, _ = clip.images.shape
    size = np.array((width, height), np.float64)
    target = np.array(image_size[::-1], np.float64)
    centres = np.tile(size / 2, (count, 1)) if clip.intrinsics is None else clip.intrinsics[:, :2, 2]
    reach = np.minimum(centres, size - centres)  # [S, 2], from the centre to the nearer side
    if (reach < NEAREST_PRINCIPAL_POINT * size).any():
        frame = int((reach / size).min(axis=1).argmin())
        x, y = centres[frame]
        raise ClipError(
            f"The principal point ({x:.1f}, {y:.1f}) of frame {clip.frame_ids[frame]} of clip {clip.clip_id} is too "
            f"near a side of the image of {width} x {height}, so no crop can be centred on it; check the intrinsics."
        )
    window = 2 * reach.min(axis=0) * crop_scales
    zoom = float((target / window).max())
    return centres - target / (2 * zoom), zoom


def _resize(
    image: npt.NDArray[np.uint8], origin: npt.NDArray[np.float64], zoom: float, image_size: tuple[int, int]
) -> npt.NDArray[np.uint8]:
    """The crop at `origin` of an image `(h, w, 3)`, enlarged to `image_size` by `zoom`."""
    height, width = image.shape[:2]
    target_height, target_width = image_size
    x, y = origin
    # A crop that ends at the image's side may end beyond it by a rounding, which Pillow refuses.
    box = (max(x, 0.0), max(y, 0.0), min(x + target_width / zoom, width), min(y + target_height / zoom, height))
    resized = Image.fromarray(image).resize((target_width, target_height), Image.Resampling.BICUBIC, box=box)
    return np.asarray(resized)


def _take_nearest(
    values: npt.NDArray[Any], origins: npt.NDArray[np.float64], zoom: float, image_size: tuple[int, int]
) -> npt.NDArray[Any]:
    """The values `(S, h, w)` at the centres of the crops' pixels: `(S, H, W)`."""
    height, width = values.shape[1:]
    columns = (origins[:, :1] + (np.arange(image_size[1]) + 0.5) / zoom).astype(np.intp).clip(0, width - 1)  # [S, W]
    rows = (origins[:, 1:] + (np.arange(image_size[0]) + 0.5) / zoom).astype(np.intp).clip(0, height - 1)  # [S, H]
    taken = np.empty((len(values), *image_size), values.dtype)
    for frame, row, column, out in zip(values, rows, columns, taken, strict=True):
        np.take(frame[row], column, axis=1, out=out, mode="clip")  # "raise" would go by way of a buffer
    return taken


def _check_depth(depth: npt.NDArray[np.float32], clip_id: str) -> None:
    if not np.isfinite(depth).all():
        raise ClipError(f"The depth of clip {clip_id} holds values that are not finite; mark them as unknown with 0.")
    if not (depth > 0).any():
        raise ClipError(
            f"No depth of clip {clip_id} is valid in the frames drawn; leave depth out where there is none."
        )
