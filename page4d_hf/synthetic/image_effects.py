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
    """Images `(B, S, 3, H, W)` sRGB in [0, 1] as a camera of each clip's own takes them, at a strength from 0, which
    changes nothing, to 1."""
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
    # Out of focus or moved, more along one axis than along the other.
    soft = strength * draws.uniform(0, 1 / 3, 2) * (draws.uniform(0, 1, 1) < 0.6)
    for axis in (-1, -2):
        image = _softened(image, on_device(soft[:, axis]), axis)
    noise = strength * 0.06 * draws.uniform(0, 1).square()
    grain = np.stack([one.standard_normal((frames, 3, height, width), np.float32) for one in draws.generators])
    image = image + on_device(noise) * torch.from_numpy(grain).to(images.device, images.dtype)
    image = image.clamp(0, 1)
    return _quantised(image, strength * 0.12 * draws.uniform(0, 1) * (draws.uniform(0, 1) < 0.4))


def _softened(image: Tensor, share: Tensor, axis: int) -> Tensor:
    """Pixels that give a share of themselves to each of their two neighbours along an axis; at borders they keep it."""
    step = image.diff(dim=axis).mul_(share)  # what a pixel gains of its next one, which that one loses
    count = image.shape[axis]
    softened = image.clone()
    softened.narrow(axis, 0, count - 1).add_(step)
    softened.narrow(axis, 1, count - 1).sub_(step)
    return softened


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
