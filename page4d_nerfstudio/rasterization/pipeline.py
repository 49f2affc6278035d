"""The stages of rasterisation on a CPU, in gsplat's order, whatever computes them."""

from __future__ import annotations

import math
from typing import Any, Protocol

import torch
from torch import Tensor

# Side of a tile, in pixels: gsplat's default. It is part of the semantics, since a Gaussian ends where its tiles end.
TILE_SIZE = 16


class Stages(Protocol):
    """What a CPU backend supplies. Entries of Gaussians with radius 0 are 0 in every output, and have gradient 0."""

    def project(
        self,
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
        """Radii [C, N] int32, means2d [C, N, 2], depths [C, N] and conics [C, N, 3] of the projected Gaussians."""
        ...

    def shade(
        self,
        means: Tensor,  # [N, 3]
        camera_centres: Tensor,  # [C, 3]
        coefficients: Tensor,  # [(C,) N, K, 3]
        radii: Tensor,  # [C, N]
        degree: int,
    ) -> Tensor:
        """Colours [C, N, 3] of the spherical harmonics towards each Gaussian: max(0, 0.5 + sum)."""
        ...

    def composite(
        self,
        means2d: Tensor,  # [C, N, 2]
        conics: Tensor,  # [C, N, 3]
        opacities: Tensor,  # [C, N]
        colors: Tensor,  # [C, N, D]
        depths: Tensor,  # [C, N], for the order alone
        radii: Tensor,  # [C, N]
        backgrounds: Tensor | None,  # [C, D]
        width: int,
        height: int,
        absgrad: bool,
    ) -> tuple[Tensor, Tensor]:
        """Images [C, H, W, D] and alphas [C, H, W, 1]. With `absgrad`, backward sets `means2d.absgrad` [C, N, 2]."""
        ...


def rasterize_on_cpu(
    stages: Stages,
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
    """`rasterize` on a CPU by the given stages; arguments (already checked) and results are documented there."""
    n_cameras = viewmats.shape[0]
    radii, means2d, depths, conics = stages.project(
        means, quats, scales, opacities, viewmats, Ks.detach(), width, height, near_plane, far_plane, eps2d
    )
    opacities = opacities.expand(n_cameras, -1)

    if "RGB" not in render_mode:
        channels = depths[..., None]
        backgrounds = None
    else:
        if sh_degree is None:
            channels = colors.expand(n_cameras, -1, -1)
        else:
            # The inverse, not the transposed rotation, as in gsplat: a pose that is being refined may leave SO(3).
            camera_centres = torch.linalg.inv(viewmats)[:, :3, 3]
            channels = stages.shade(means, camera_centres, colors, radii, sh_degree)
        if render_mode != "RGB":
            channels = torch.cat([channels, depths[..., None]], dim=-1)
            if backgrounds is not None:
                backgrounds = torch.nn.functional.pad(backgrounds, (0, 1))

    render, alpha = stages.composite(
        means2d, conics, opacities, channels, depths.detach(), radii, backgrounds, width, height, absgrad
    )
    if render_mode.endswith("ED"):
        expected_depth = render[..., -1:] / alpha.clamp(min=1e-10)
        render = torch.cat([render[..., :-1], expected_depth], dim=-1)

    info = {
        "camera_ids": None,
        "gaussian_ids": None,
        "radii": radii,
        "means2d": means2d,
        "depths": depths,
        "conics": conics,
        "opacities": opacities,
        "width": width,
        "height": height,
        "n_cameras": n_cameras,
        "tile_size": TILE_SIZE,
        "tile_width": math.ceil(width / TILE_SIZE),
        "tile_height": math.ceil(height / TILE_SIZE),
    }
    return render, alpha, info
