"""The fast backend of the CPU: the three stages as kernels compiled by numba, with their gradients derived by hand.

Same results as `torch_cpu` up to the rounding of float32, and the same bits whatever the number of threads.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from .kernels import compositing, harmonics, projection
from .pipeline import TILE_SIZE
from .threads import share

# Work that a thread takes at once. Part of the results too: gradients of cameras are summed chunk by chunk.
_GAUSSIANS_AT_ONCE = 1024
_TILES_AT_ONCE = 4


def project(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    viewmats: Tensor,
    Ks: Tensor,
    width: int,
    height: int,
    near_plane: float,
    far_plane: float,
    eps2d: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """See `pipeline.Stages.project`."""
    return _Project.apply(
        means, quats, scales, opacities.detach(), viewmats, Ks, width, height, near_plane, far_plane, eps2d
    )


def shade(means: Tensor, camera_centres: Tensor, coefficients: Tensor, radii: Tensor, degree: int) -> Tensor:
    """See `pipeline.Stages.shade`."""
    if coefficients.dim() == 3:
        coefficients = coefficients[None]
    return _Shade.apply(means, camera_centres, coefficients, radii, degree)


def composite(
    means2d: Tensor,
    conics: Tensor,
    opacities: Tensor,
    colors: Tensor,
    depths: Tensor,
    radii: Tensor,
    backgrounds: Tensor | None,
    width: int,
    height: int,
    absgrad: bool,
) -> tuple[Tensor, Tensor]:
    """See `pipeline.Stages.composite`."""
    if backgrounds is None:
        backgrounds = colors.new_zeros(colors.shape[0], colors.shape[2])
    return _Composite.apply(means2d, conics, opacities, colors, backgrounds, depths, radii, width, height, absgrad)


def _array(tensor: Tensor) -> np.ndarray:
    """The tensor's numbers as a contiguous array: kernels are compiled once, for that layout."""
    return tensor.detach().contiguous().numpy()


class _Project(Function):
    @staticmethod
    def forward(
        ctx: Any,
        means: Tensor,
        quats: Tensor,
        scales: Tensor,
        opacities: Tensor,
        viewmats: Tensor,
        Ks: Tensor,
        width: int,
        height: int,
        near_plane: float,
        far_plane: float,
        eps2d: float,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        n_cameras, n_gaussians = viewmats.shape[0], means.shape[0]
        radii = torch.zeros(n_cameras, n_gaussians, dtype=torch.int32)
        means2d = torch.zeros(n_cameras, n_gaussians, 2)
        depths = torch.zeros(n_cameras, n_gaussians)
        conics = torch.zeros(n_cameras, n_gaussians, 3)
        share(
            projection.project,
            n_gaussians,
            _GAUSSIANS_AT_ONCE,
            *map(_array, (means, quats, scales, opacities, viewmats, Ks)),
            width,
            height,
            float(near_plane),
            float(far_plane),
            float(eps2d),
            *map(_array, (radii, means2d, depths, conics)),
        )
        ctx.save_for_backward(means, quats, scales, viewmats, Ks, radii, conics)
        ctx.size = width, height
        ctx.mark_non_differentiable(radii)
        return radii, means2d, depths, conics

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, _: Tensor, grad_means2d: Tensor, grad_depths: Tensor, grad_conics: Tensor) -> tuple:
        means, quats, scales, viewmats, Ks, radii, conics = ctx.saved_tensors
        n_gaussians = means.shape[0]
        grad_means, grad_quats, grad_scales = (torch.zeros(tensor.shape) for tensor in (means, quats, scales))
        grad_viewmats = torch.zeros(_n_chunks(n_gaussians), *viewmats.shape, dtype=torch.float64)
        share(
            projection.project_backward,
            n_gaussians,
            _GAUSSIANS_AT_ONCE,
            _GAUSSIANS_AT_ONCE,
            *map(_array, (means, quats, scales, viewmats, Ks)),
            *ctx.size,
            *map(_array, (radii, conics, grad_means2d, grad_depths, grad_conics)),
            *map(_array, (grad_means, grad_quats, grad_scales, grad_viewmats)),
        )
        return grad_means, grad_quats, grad_scales, None, grad_viewmats.sum(dim=0).float(), *[None] * 6


class _Shade(Function):
    @staticmethod
    def forward(
        ctx: Any, means: Tensor, camera_centres: Tensor, coefficients: Tensor, radii: Tensor, degree: int
    ) -> Tensor:
        colors = torch.zeros(*radii.shape, 3)
        share(
            harmonics.shade,
            means.shape[0],
            _GAUSSIANS_AT_ONCE,
            *map(_array, (means, camera_centres, coefficients, radii)),
            degree,
            _array(colors),
        )
        ctx.save_for_backward(means, camera_centres, coefficients, radii)
        ctx.degree = degree
        return colors

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_colors: Tensor) -> tuple:
        means, camera_centres, coefficients, radii = ctx.saved_tensors
        grad_means, grad_coefficients = torch.zeros(means.shape), torch.zeros(coefficients.shape)
        grad_centres = torch.zeros(_n_chunks(means.shape[0]), *camera_centres.shape, dtype=torch.float64)
        share(
            harmonics.shade_backward,
            means.shape[0],
            _GAUSSIANS_AT_ONCE,
            _GAUSSIANS_AT_ONCE,
            *map(_array, (means, camera_centres, coefficients, radii)),
            ctx.degree,
            *map(_array, (grad_colors, grad_means, grad_centres, grad_coefficients)),
        )
        return grad_means, grad_centres.sum(dim=0).float(), grad_coefficients, None, None


class _Composite(Function):
    @staticmethod
    def forward(
        ctx: Any,
        means2d: Tensor,
        conics: Tensor,
        opacities: Tensor,
        colors: Tensor,
        backgrounds: Tensor,
        depths: Tensor,
        radii: Tensor,
        width: int,
        height: int,
        absgrad: bool,
    ) -> tuple[Tensor, Tensor]:
        n_cameras, n_gaussians, n_channels = colors.shape
        tiles_x, tiles_y = math.ceil(width / TILE_SIZE), math.ceil(height / TILE_SIZE)
        gaussians = _flat(means2d, conics, opacities, colors)
        flat_means2d, flat_conics, flat_opacities, _ = gaussians
        flat_radii = _array(radii).reshape(-1)
        order = _front_to_back(_array(depths).reshape(-1), flat_radii)
        rows = np.zeros((n_cameras * n_gaussians, 2), np.int32)
        starts, listed, firsts, entries = compositing.bin_gaussians(
            order,
            flat_means2d,
            flat_conics,
            flat_opacities,
            flat_radii,
            n_gaussians,
            n_cameras,
            tiles_x,
            tiles_y,
            rows,
        )
        render = torch.empty(n_cameras, height, width, n_channels)
        alphas = torch.empty(n_cameras, height, width, 1)
        transmittances = np.empty((n_cameras, height, width), np.float32)
        last_drawn = np.empty((n_cameras, height, width), np.int32)
        share(
            compositing.composite,
            n_cameras * tiles_x * tiles_y,
            _TILES_AT_ONCE,
            starts,
            listed,
            rows,
            *gaussians,
            _array(backgrounds),
            width,
            height,
            render.numpy(),
            alphas[..., 0].numpy(),
            transmittances,
            last_drawn,
        )
        ctx.save_for_backward(means2d, conics, opacities, colors, backgrounds)
        ctx.lists = order, starts, listed, firsts, entries, rows
        ctx.pixels = transmittances, last_drawn
        ctx.size = width, height
        ctx.absgrad = absgrad
        return render, alphas

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_render: Tensor, grad_alphas: Tensor) -> tuple:
        means2d, conics, opacities, colors, backgrounds = ctx.saved_tensors
        order, starts, listed, firsts, entries, rows = ctx.lists
        transmittances, last_drawn = ctx.pixels
        n_channels = colors.shape[2]
        shares = np.zeros((len(listed), compositing.SHARES_BEFORE_COLORS + n_channels), np.float32)
        share(
            compositing.composite_backward,
            len(starts) - 1,
            _TILES_AT_ONCE,
            starts,
            listed,
            rows,
            *_flat(means2d, conics, opacities, colors),
            _array(backgrounds),
            *ctx.size,
            transmittances,
            last_drawn,
            _array(grad_render),
            _array(grad_alphas[..., 0]),
            ctx.absgrad,
            shares,
        )
        grads = [torch.zeros(tensor.shape) for tensor in (means2d, conics, opacities, colors)]
        absolute = torch.zeros(means2d.shape)
        flat_grads = _flat(*grads)
        share(
            compositing.gather_shares,
            len(order),
            _GAUSSIANS_AT_ONCE,
            order,
            firsts,
            entries,
            shares,
            *flat_grads[:3],
            absolute.reshape(-1, 2).numpy(),
            flat_grads[3],
        )
        if ctx.absgrad:
            means2d.absgrad = absolute
        grad_backgrounds = None
        if ctx.needs_input_grad[4]:
            grad_backgrounds = torch.einsum("chwd,chw->cd", grad_render, torch.from_numpy(transmittances))
        return *grads, grad_backgrounds, *[None] * 5


def _flat(means2d: Tensor, conics: Tensor, opacities: Tensor, colors: Tensor) -> tuple[np.ndarray, ...]:
    """[C, N, ...] to arrays [C * N, ...]."""
    return (
        _array(means2d).reshape(-1, 2),
        _array(conics).reshape(-1, 3),
        _array(opacities).reshape(-1),
        _array(colors).reshape(-1, colors.shape[2]),
    )


def _front_to_back(depths: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """The visible of [C * N] in the order of their depth, ties by index.

    Both in one key, as positive floats sort like their bits: sorting numbers takes a fraction of an argsort.
    """
    visible = np.flatnonzero(radii > 0)
    keys = depths[visible].view(np.int32).astype(np.int64) << 32 | visible
    keys.sort()
    return keys & 0xFFFFFFFF


def _n_chunks(n_gaussians: int) -> int:
    return -(-n_gaussians // _GAUSSIANS_AT_ONCE)
