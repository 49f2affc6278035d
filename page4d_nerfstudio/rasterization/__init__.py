"""Rasterisation of 3D Gaussians, behind one function, on CUDA by gsplat and on a CPU by this package.

    rasterize(...)          checks its input, and goes by the device
      gsplat.rasterization  on CUDA
      compiled_cpu          on a CPU: kernels compiled by numba, with derived gradients

On a CPU it computes what gsplat 1.4.0's `rasterization(packed=False)` computes on CUDA, as its CUDA source has it
(gsplat 1.5 bounds a Gaussian more tightly, along each axis and by its opacity, which leaves out what hardly shows):

- projection by the local affine approximation of Zwicker et al. (EWA splatting, 2001; 3D Gaussian Splatting, Kerbl et
  al. 2023, eq. 5) with the Jacobian evaluated no further out than 1.3 times the field of view, the image plane
  covariance widened by `eps2d`, and a radius of 3 standard deviations along the longer axis, rounded up;
- a Gaussian reaches only those tiles of 16x16 pixels that the square of its radius touches, and in a tile they are
  composited in the order of their depth, ties by index;
- at a pixel centre (x + 0.5, y + 0.5), alpha = min(0.999, opacity * exp(-sigma)); a Gaussian is passed over where
  alpha < 1/255 or sigma < 0, and the pixel ends before the Gaussian that would bring its transmittance to 1e-4 or less.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .inputs import RasterizationError, RenderMode, check_inputs

__all__ = ["RasterizationError", "RenderMode", "rasterize"]


def rasterize(
    means: Tensor,  # [N, 3]
    quats: Tensor,  # [N, 4]
    scales: Tensor,  # [N, 3]
    opacities: Tensor,  # [N]
    colors: Tensor,  # [(C,) N, D] or [(C,) N, K, 3]
    viewmats: Tensor,  # [C, 4, 4]
    Ks: Tensor,  # [C, 3, 3]
    width: int,
    height: int,
    *,
    sh_degree: int | None = None,
    near_plane: float = 0.01,
    far_plane: float = 1e10,
    eps2d: float = 0.3,
    backgrounds: Tensor | None = None,  # [C, D]
    render_mode: RenderMode = "RGB",
    absgrad: bool = False,
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Renders N Gaussians into C cameras; differentiable in everything but the intrinsics.

    Args:
        means: Centres, in world coordinates (scale: the caller's). [N, 3]
        quats: Orientations, wxyz; need not be normalised. [N, 4]
        scales: Standard deviations along the three axes, in the unit of `means` (not their logarithms). [N, 3]
        opacities: In [0, 1] (not their logits). [N]
        colors: Values to render, [N, D] or per camera [C, N, D]; with `sh_degree`, coefficients of spherical
            harmonics, [N, K, 3] or [C, N, K, 3], that are evaluated in the direction from the camera to the Gaussian,
            and 0.5 added and negative values set to 0.
        viewmats: World to camera, OpenCV axes (x right, y down, z forward). Get gradients too, for refining poses.
            [C, 4, 4]
        Ks: Intrinsics in pixels, the centre of the first pixel at (0.5, 0.5). Taken as constants. [C, 3, 3]
        width: Of the image, in pixels.
        height: Of the image, in pixels.
        sh_degree: Highest degree of the harmonics to use, 0 to 4; may be less than `colors` has coefficients for.
        near_plane: Gaussians whose centre is nearer (z of the camera) are left out.
        far_plane: Gaussians whose centre is farther are left out.
        eps2d: Added to the diagonal of the projected covariance, px^2: nothing is rendered thinner than a pixel.
        backgrounds: Colour behind everything; depth has 0 behind everything. [C, D]
        render_mode: "RGB" (the colours, whatever they are), "D" (accumulated depth), "ED" (expected depth: accumulated
            divided by alpha), or "RGB+D", "RGB+ED" with the depth as last channel. Depth is z of the camera.
        absgrad: Also sum the absolute gradients of the image-plane means over pixels (AbsGS, Ye et al. 2024), left in
            `info["means2d"].absgrad` by the backward pass. [C, N, 2]

    Returns:
        `(render, alpha, info)`: render [C, height, width, D], with depth as the mode says; alpha [C, height, width, 1];
        info for density control, as gsplat names it: `means2d` [C, N, 2] in pixels, which can retain its gradient,
        `radii` [C, N] int32 in pixels (0 = not rendered; on CUDA with gsplat 1.5 or later [C, N, 2], along x and y),
        `depths` [C, N], `conics` [C, N, 3] (inverse of the projected covariance: xx, xy, yy), `width`, `height` and
        `n_cameras`. gsplat's has more.

        On the CPU, a Gaussian whose projection or opacity is not finite (NaN or infinite parameters, a quaternion of
        length 0) has radius 0 and gradient 0; a colour that is not finite shows in the tiles that it reaches. Entries
        of Gaussians with radius 0 are 0 on the CPU and undefined with gsplat.

    Raises:
        RasterizationError: wrong shapes, types, devices or options.
    """
    gaussians_and_cameras = (means, quats, scales, opacities, colors, viewmats, Ks.detach(), width, height)
    options: dict[str, Any] = {
        "sh_degree": sh_degree,
        "near_plane": near_plane,
        "far_plane": far_plane,
        "eps2d": eps2d,
        "backgrounds": backgrounds,
        "render_mode": render_mode,
    }
    check_inputs(*gaussians_and_cameras, **options)
    rendered: tuple[Tensor, Tensor, dict[str, Any]]
    if means.device.type == "cuda":
        # gsplat builds its kernels at the first call of one, which takes minutes and needs a compiler.
        from gsplat.rendering import rasterization

        rendered = rasterization(*gaussians_and_cameras, **options, absgrad=absgrad, packed=False)
        return rendered
    try:
        from .compiled_cpu import rasterize_on_cpu
    except ImportError as error:  # it does not fit the NumPy that is installed, say
        raise RasterizationError(f"Rasterising on a CPU needs numba, which can't be imported: {error}") from error
    return rasterize_on_cpu(*gaussians_and_cameras, **options, absgrad=absgrad)
