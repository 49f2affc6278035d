"""Initial values of networks trained from scratch; loaded weights replace them.

The published network began with pretrained weights. A small one that begins with random weights says for a long time
that the camera stands still: attention is spread over all patches of all frames, and what tells a motion, the product
of what a place looks like and of how it changes, has to be come upon by chance.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from transformers import initialization as init

from .modeling_page4d_heads import Page4DCameraHead
from .modeling_page4d_layers import Page4DLayer

FIELD_OF_VIEW = math.radians(60)
SAME_PLACE_DROP = 7.5  # nats by which the logit of the next patch lies below that of the same place
SAME_PLACE_CONTRAST = 10.0  # how much larger the constant part of queries and keys is than what depends on the image
COLOUR_SHARE = 0.4  # of a filter's differences between channels, beside what it has of all alike
CHANGES_SHARE = 0.8  # of the mean over the frames that is taken off


@torch.no_grad()
def start_still(head: Page4DCameraHead, std: float) -> None:
    """Let a camera head say at first that every camera is the first one and sees 60 degrees.

    Random cameras would differ by more than the motion that there is to learn, and for long the errors of its own
    making would be all that the head learns from.
    """
    pose = torch.tensor((0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, FIELD_OF_VIEW, FIELD_OF_VIEW))
    output = head.pose_mlp.fc2
    init.normal_(output.weight, std=0.1 * std)
    init.copy_(output.bias, pose.to(output.bias) / head.num_iterations)  # every iteration adds its output


@torch.no_grad()
def start_smooth(embedding: nn.Conv2d) -> None:
    """Let a patch embedding see coarse patterns more than fine ones, as trained ones do.

    Of filters that are white noise, most see what is as fine as a pixel. Moved by two pixels that is something else,
    and the products of what a patch looks like and of how it changes tell nothing of the motion. These filters are
    random sums of the patch's cosines (DCT-II) of amplitude 1 / (1 + f^2), f in half periods per side, mostly of
    brightness.

    Args:
        embedding: of a new network; kernel and stride are the patch. Its filters keep their mean norm.
    """
    weight = embedding.weight  # [C, 3, P, P]
    count, channels, height, width = weight.shape
    norm = weight.flatten(1).norm(dim=1).mean()
    frequencies = torch.arange(height)[:, None] ** 2 + torch.arange(width) ** 2
    amplitudes = 1 / (1 + frequencies)
    spectra = torch.empty(count, height, width)
    colours = torch.empty(count, channels)
    brightness = torch.empty(count, 1)
    for values in (spectra, colours, brightness):
        init.normal_(values)
    patterns = torch.einsum("nij,iy,jx->nyx", spectra * amplitudes, _cosines(height), _cosines(width))
    filters = ((brightness + COLOUR_SHARE * colours)[..., None, None] * patterns[:, None]).to(weight)
    filters *= norm / filters.flatten(1).norm(dim=1)[:, None, None, None]
    init.copy_(weight, filters)


def _cosines(size: int) -> Tensor:
    """The orthonormal cosines of a side, `[frequency, place]`."""
    places = torch.arange(size) + 0.5
    cosines = torch.cos(math.pi / size * torch.arange(size)[:, None] * places)
    return cast(Tensor, cosines / cosines.norm(dim=1, keepdim=True))


@torch.no_grad()
def start_at_same_place(layer: Page4DLayer, std: float, rope_theta: float) -> None:
    """Let every patch attend to the patches at its own place, in all frames alike.

    Queries and keys start as one constant, which the rotary embedding turns by the place, so that their product falls
    with the distance between two patches: by `SAME_PLACE_DROP` over the first one. What is seen there adds a little,
    from which the network learns to attend otherwise. Convolution is the like start of vision transformers (ConViT,
    arXiv 2103.10697).
    """
    attention = layer.attention
    quarter = attention.head_dim // 4  # frequencies of one axis
    # Fast frequencies tell neighbours apart. The fastest alone would take places 2 pi apart for the same.
    used = max(1, round(0.375 * quarter))
    pattern = torch.zeros(2, 2, quarter)  # [axis, first or second of a pair, frequency]
    pattern[:, 0, :used], pattern[:, 1, :used] = 1.0, -1.0  # of mean 0, which is what the norm takes off
    frequencies = rope_theta ** (-torch.arange(used) / quarter)
    lost = (1 - frequencies.cos().mean()) / 2  # of the product, by one patch along one axis
    gain = (SAME_PLACE_DROP / (lost * attention.head_dim**0.5)).sqrt()  # of queries and of keys, of norm sqrt(head_dim)
    width = attention.num_heads * attention.head_dim
    constant = SAME_PLACE_CONTRAST * std * width**0.5 * pattern.flatten().repeat(attention.num_heads)
    for projection, norm in ((attention.q_proj, attention.q_norm), (attention.k_proj, attention.k_norm)):
        init.copy_(projection.bias, constant.to(projection.bias))
        init.constant_(norm.get_parameter("weight"), float(gain))


@torch.no_grad()
def start_with_changes(layer: Page4DLayer) -> None:
    """Let a block take off most of the mean of what it attends to, and so show how a frame differs from the others.

    The product of values and output is -`CHANGES_SHARE` times the identity: Trockman & Kolter, Mimetic Initialization
    of Self-Attention Layers (arXiv 2305.09828).
    """
    attention = layer.attention
    init.orthogonal_(attention.v_proj.weight)
    init.copy_(attention.o_proj.weight, -CHANGES_SHARE / layer.layerscale_value * attention.v_proj.weight.T)
