"""Rasterisation on a CPU: three stages in gsplat's order, as kernels compiled by numba with gradients derived by hand.

The same bits whatever the number of threads. Entries of Gaussians with radius 0 are 0 in every output of a stage, and
have gradient 0.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from .kernels import compositing, harmonics, projection
from .threads import share

# Work that a thread takes at once. Part of the results too: gradients of cameras are summed chunk by chunk.
_GAUSSIANS_AT_ONCE = 1024
_TILES_AT_ONCE = 4


def rasterize_on_cpu(
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
    absgrad: bool,
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """`rasterize` on a CPU; arguments (already checked) and results are documented there."""
    n_cameras = viewmats.shape[0]
    radii, means2d, depths, conics = _Project.apply(
        means, quats, scales, opacities.detach(), viewmats, Ks, width, height, near_plane, far_plane, eps2d
    )

    if "RGB" not in render_mode:
        channels = depths[..., None]
        backgrounds = None
    else:
        if sh_degree is None:
            channels = colors.expand(n_cameras, -1, -1)
        else:
            # The inverse, not the transposed rotation, as in gsplat: a pose that is being refined may leave SO(3).
            camera_centres = torch.linalg.inv(viewmats)[:, :3, 3]
            coefficients = colors if colors.dim() == 4 else colors[None]
            channels = _Shade.apply(means, camera_centres, coefficients, radii, sh_degree)
        if render_mode != "RGB":
            channels = torch.cat([channels, depths[..., None]], dim=-1)
            if backgrounds is not None:
                backgrounds = torch.nn.functional.pad(backgrounds, (0, 1))

    if backgrounds is None:
        backgrounds = channels.new_zeros(n_cameras, channels.shape[2])
    opacities = opacities.expand(n_cameras, -1)
    render, alpha = _Composite.apply(
        means2d, conics, opacities, channels, backgrounds, depths.detach(), radii, width, height, absgrad
    )
    if render_mode.endswith("ED"):
        expected_depth = render[..., -1:] / alpha.clamp(min=1e-10)
        render = torch.cat([render[..., :-1], expected_depth], dim=-1)

    info = {
        "radii": radii,
        "means2d": means2d,
        "depths": depths,
        "conics": conics,
        "width": width,
        "height": height,
        "n_cameras": n_cameras,
    }
    return render, alpha, info


def _array(tensor: Tensor) -> npt.NDArray[Any]:
    """The tensor's numbers as a contiguous array: kernels are compiled once, for that layout."""
    return tensor.detach().contiguous().numpy()


class _Project(Function):
    """Radii [C, N] int32, means2d [C, N, 2], depths [C, N] and conics [C, N, 3] of the projected Gaussians."""

    @staticmethod
    def forward(
        ctx: Any,
        means: Tensor,  # [N, 3]
        quats: Tensor,  # [N, 4]
        scales: Tensor,  # [N, 3]
        opacities: Tensor,  # [N]
        viewmats: Tensor,  # [C, 4, 4]
        Ks: Tensor,  # [C, 3, 3]
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
    def backward(
        ctx: Any, _: Tensor, grad_means2d: Tensor, grad_depths: Tensor, grad_conics: Tensor
    ) -> tuple[Tensor | None, ...]:
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
    """Colours [C, N, 3] of the spherical harmonics towards each Gaussian: max(0, 0.5 + sum).

    From cameras at [C, 3], with coefficients [1 or C, N, K, 3] and radii [C, N].
    """

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
    def backward(ctx: Any, grad_colors: Tensor) -> tuple[Tensor | None, ...]:
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
    """Images [C, H, W, D] and alphas [C, H, W, 1]. With `absgrad`, backward sets `means2d.absgrad` [C, N, 2]."""

    @staticmethod
    def forward(
        ctx: Any,
        means2d: Tensor,  # [C, N, 2]
        conics: Tensor,  # [C, N, 3]
        opacities: Tensor,  # [C, N]
        colors: Tensor,  # [C, N, D]
        backgrounds: Tensor,  # [C, D]
        depths: Tensor,  # [C, N], for the order alone
        radii: Tensor,  # [C, N]
        width: int,
        height: int,
        absgrad: bool,
    ) -> tuple[Tensor, Tensor]:
        n_cameras, n_gaussians, n_channels = colors.shape
        tiles_x, tiles_y = math.ceil(width / compositing.TILE_SIZE), math.ceil(height / compositing.TILE_SIZE)
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
    def backward(ctx: Any, grad_render: Tensor, grad_alphas: Tensor) -> tuple[Tensor | None, ...]:
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


def _flat(means2d: Tensor, conics: Tensor, opacities: Tensor, colors: Tensor) -> tuple[npt.NDArray[Any], ...]:
    """[C, N, ...] to arrays [C * N, ...]."""
    return (
        _array(means2d).reshape(-1, 2),
        _array(conics).reshape(-1, 3),
        _array(opacities).reshape(-1),
        _array(colors).reshape(-1, colors.shape[2]),
    )


def _front_to_back(depths: npt.NDArray[Any], radii: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The visible of [C * N] in the order of their depth, ties by index.

    Both in one key, as positive floats sort like their bits: sorting numbers takes a fraction of an argsort.
    """
    visible = np.flatnonzero(radii > 0)
    keys = depths[visible].view(np.int32).astype(np.int64) << 32 | visible
    keys.sort()
    return keys & 0xFFFFFFFF


def _n_chunks(n_gaussians: int) -> int:
    return -(-n_gaussians // _GAUSSIANS_AT_ONCE)
