"""What `rasterize` accepts, on any device."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from page4d_hf.errors import Page4DError

RenderMode = Literal["RGB", "D", "ED", "RGB+D", "RGB+ED"]
RENDER_MODES = get_args(RenderMode)

# The harmonics are written out up to this degree, as they are in gsplat.
MAX_SH_DEGREE = 4


class RasterizationError(Page4DError):
    """Gaussians, cameras or options that cannot be rasterised."""


def check_inputs(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colors: Tensor,
    viewmats: Tensor,
    Ks: Tensor,
    width: int,
    height: int,
    *,
    sh_degree: int | None,
    near_plane: float,
    far_plane: float,
    eps2d: float,
    backgrounds: Tensor | None,
    render_mode: str,
) -> None:
    """Raises `RasterizationError` with the name, the expected and the given value of the first argument that is off.

    Only shapes, types, devices and options are looked at, never the values of tensors: that would make CUDA wait.
    """
    if render_mode not in RENDER_MODES:
        raise RasterizationError(f"render_mode must be one of {', '.join(RENDER_MODES)}, got {render_mode!r}.")
    if width < 1 or height < 1:
        raise RasterizationError(f"The image must be at least 1x1 pixels, got width={width}, height={height}.")
    if not 0.0 < near_plane < far_plane:
        raise RasterizationError(
            f"Expected 0 < near_plane < far_plane, got near_plane={near_plane}, far_plane={far_plane}."
        )
    if eps2d < 0.0:
        raise RasterizationError(f"eps2d widens the projected Gaussians (px^2) and can't be negative, got {eps2d}.")

    if means.dim() != 2 or means.shape[1] != 3:
        raise RasterizationError(f"means must have the shape [N, 3], got {list(means.shape)}.")
    if viewmats.dim() != 3 or viewmats.shape[1:] != (4, 4) or len(viewmats) == 0:
        raise RasterizationError(f"viewmats must have the shape [C, 4, 4], C at least 1, got {list(viewmats.shape)}.")
    n, c = means.shape[0], viewmats.shape[0]
    _expect_shape("quats", quats, (n, 4), "[N, 4]")
    _expect_shape("scales", scales, (n, 3), "[N, 3]")
    _expect_shape("opacities", opacities, (n,), "[N]")
    _expect_shape("Ks", Ks, (c, 3, 3), "[C, 3, 3]")
    channels = _check_colors(colors, n, c, sh_degree)
    if backgrounds is not None:
        _expect_shape("backgrounds", backgrounds, (c, channels), "[C, D]")

    named = {"quats": quats, "scales": scales, "opacities": opacities, "colors": colors, "viewmats": viewmats, "Ks": Ks}
    if backgrounds is not None:
        named["backgrounds"] = backgrounds
    if means.dtype != torch.float32:
        raise RasterizationError(f"means must be float32, got {means.dtype}: convert with .float().")
    if means.device.type not in ("cpu", "cuda"):
        raise RasterizationError(f"means must be on a CPU or CUDA, got {means.device}.")
    for name, tensor in named.items():
        if tensor.dtype != means.dtype:
            raise RasterizationError(f"{name} must be of the type of means, {means.dtype}, got {tensor.dtype}.")
        if tensor.device != means.device:
            raise RasterizationError(f"{name} must be on the device of means, {means.device}, got {tensor.device}.")


def _check_colors(colors: Tensor, n: int, c: int, sh_degree: int | None) -> int:
    """The number of channels D that `colors` renders to."""
    if sh_degree is None:
        if colors.dim() not in (2, 3) or colors.shape[-1] < 1:
            raise RasterizationError(
                f"Without sh_degree, colors must have the shape [N, D] or [C, N, D], got {list(colors.shape)}."
            )
        _expect_shape("colors", colors, (n, colors.shape[-1]) if colors.dim() == 2 else (c, n, colors.shape[-1]), "")
        return colors.shape[-1]
    if not 0 <= sh_degree <= MAX_SH_DEGREE:
        raise RasterizationError(f"sh_degree must be from 0 to {MAX_SH_DEGREE}, got {sh_degree}.")
    if colors.dim() not in (3, 4) or colors.shape[-1] != 3:
        raise RasterizationError(
            f"With sh_degree, colors must have the shape [N, K, 3] or [C, N, K, 3], got {list(colors.shape)}."
        )
    bases = colors.shape[-2]
    _expect_shape("colors", colors, (n, bases, 3) if colors.dim() == 3 else (c, n, bases, 3), "")
    if (sh_degree + 1) ** 2 > bases:
        raise RasterizationError(
            f"sh_degree={sh_degree} needs {(sh_degree + 1) ** 2} coefficients per channel, colors has {bases}."
        )
    return 3


def _expect_shape(name: str, tensor: Tensor, shape: tuple[int, ...], meaning: str) -> None:
    if tuple(tensor.shape) != shape:
        meaning = f"{meaning} = " if meaning else ""
        raise RasterizationError(f"{name} must have the shape {meaning}{list(shape)}, got {list(tensor.shape)}.")
