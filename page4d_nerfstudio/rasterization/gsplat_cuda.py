"""The backend on CUDA: gsplat's own kernels, called and nothing else."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def rasterize_with_gsplat(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colors: Tensor,
    viewmats: Tensor,
    Ks: Tensor,
    width: int,
    height: int,
    **options: Any,
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """`gsplat.rasterization` with `packed=False`; arguments and results as `rasterize` has them.

    gsplat builds its kernels the first time that one of them is called, which takes minutes and needs a compiler, so
    that nothing but this function, on CUDA tensors, may call one.
    """
    from gsplat.rendering import rasterization

    rendered: tuple[Tensor, Tensor, dict[str, Any]] = rasterization(
        means,
        quats,
        scales,
        opacities,
        colors,
        viewmats,
        Ks.detach(),
        width,
        height,
        packed=False,
        **options,
    )
    return rendered
