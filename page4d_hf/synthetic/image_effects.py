"""What cameras do to images: exposure, contrast, tints, blur, noise, dark corners and the blocks of JPEG."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .draws import Draws

STREAM = 2  # of random numbers: a scene is the same with and without
BLOCK = 8  # pixels a side, of JPEG


def photographed(images: Tensor, seeds: Sequence[int], strength: float) -> Tensor:
    """Images as a camera of its own takes them, for each clip.

    Args:
        images: `(B, S, 3, H, W)` sRGB in [0, 1].
        seeds: of the clips.
        strength: from 0, which changes nothing, to 1.

    Returns:
        `(B, S, 3, H, W)` in [0, 1], on the device of the images.
    """
    if not strength:
        return images
    draws = Draws(seeds, STREAM)
    frames, height, width = images.shape[1], *images.shape[3:]

    def on_device(value: Tensor) -> Tensor:
        """`(B, ...)` with trailing dimensions to the images' five."""
        return value.to(images.device, images.dtype).reshape(*value.shape, *[1] * (5 - value.ndim))

    # Exposure drifts a little over a clip; what is too bright is clipped.
    gain = torch.exp(strength * (draws.uniform(-0.45, 0.6, 1) + draws.uniform(-0.06, 0.06, frames)))
    tint = torch.exp(strength * draws.uniform(-0.12, 0.12, 1, 3))
    gamma = torch.exp(strength * draws.uniform(-0.3, 0.3))
    offset = strength * draws.uniform(-0.04, 0.06)
    image = images.clamp_min(1e-4).pow(on_device(gamma)) * on_device(gain) * on_device(tint) + on_device(offset)
    y, x = (torch.linspace(-1, 1, size, device=images.device, dtype=images.dtype) for size in (height, width))
    corner = (x.square()[None, :] + y.square()[:, None]) / 2
    image = image * (1 - on_device(strength * draws.uniform(0, 0.35) * (draws.uniform(0, 1) < 0.5)) * corner)
    # Out of focus, or moved: a short line of samples in some direction, another in every frame, or all around.
    blur = strength * draws.uniform(0, 1.0) * (draws.uniform(0, 1) < 0.6)  # pixels at a width of 112
    blur = blur * max(height, width) / 112
    angle = draws.uniform(0, math.pi, frames)
    for turn in (0.0, math.pi / 2):
        image = _smeared(image, blur, angle + turn)
    noise = strength * 0.06 * draws.uniform(0, 1).square()
    grain = np.stack([one.standard_normal((frames, 3, height, width), np.float32) for one in draws.generators])
    image = image + on_device(noise) * torch.from_numpy(grain).to(images.device, images.dtype)
    image = image.clamp(0, 1)
    return _quantised(image, strength * 0.12 * draws.uniform(0, 1) * (draws.uniform(0, 1) < 0.4))


def _smeared(image: Tensor, length: Tensor, angle: Tensor) -> Tensor:
    """The mean of three images, shifted by `length` `(B,)` pixels to either side along an angle `(B, S)`."""
    count, frames, _, height, width = image.shape
    if not bool((length > 0).any()):
        return image
    flat = image.flatten(0, 1)
    shift = length[:, None, None] * torch.stack((torch.cos(angle) / width, torch.sin(angle) / height), dim=-1) * 2
    total = flat
    for sign in (-1, 1):
        theta = torch.eye(2, 3, dtype=image.dtype).repeat(count * frames, 1, 1)
        theta[:, :, 2] = sign * shift.flatten(0, 1)
        grid = F.affine_grid(theta.to(image.device), list(flat.shape), align_corners=False)
        total = total + F.grid_sample(flat, grid, padding_mode="border", align_corners=False)
    return (total / 3).view_as(image)


def _quantised(image: Tensor, step: Tensor) -> Tensor:
    """Cosine coefficients of blocks, rounded to multiples of `step` `(B,)`, coarser for finer detail, as in JPEG."""
    chosen = (step > 0).nonzero().squeeze(1)
    if not len(chosen):
        return image
    some = image[chosen]
    height, width = some.shape[-2:]
    padded = F.pad(some.flatten(0, 1), (0, -width % BLOCK, 0, -height % BLOCK), mode="replicate")
    index = torch.arange(BLOCK, dtype=image.dtype, device=image.device)
    basis = torch.cos(math.pi / BLOCK * (index[None] + 0.5) * index[:, None]) * math.sqrt(2 / BLOCK)
    basis[0] *= math.sqrt(0.5)
    blocks = padded.unflatten(-2, (-1, BLOCK)).unflatten(-1, (-1, BLOCK)).transpose(-2, -3)  # [.., h, w, 8, 8]
    coefficients = basis @ blocks @ basis.T
    frequency = 0.3 + (index[:, None] + index[None]) / BLOCK
    steps = step[chosen].to(image.device, image.dtype).repeat_interleave(some.shape[1])[:, None, None, None, None, None]
    steps = steps * frequency
    blocks = basis.T @ ((coefficients / steps).round() * steps) @ basis
    whole = blocks.transpose(-2, -3).flatten(-2).flatten(-3, -2)[..., :height, :width]
    result = image.clone()
    result[chosen] = whole.view_as(some).clamp(0, 1)
    return result
