"""The reference backend: the three stages in plain PyTorch, differentiated by autograd.

It is meant to be read beside the formulas, to check the compiled backend, to differentiate in float64, and to serve
where numba is not installed. The order of the tests at each pixel is that of gsplat's CUDA source.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable

import torch
from torch import Tensor

from .pipeline import TILE_SIZE
from .spherical_harmonics import spherical_harmonics

# Alpha is kept below 1, so that (1 - alpha) can be divided by.
MAX_ALPHA = 0.999
# Below half a step of an 8-bit image nothing is drawn.
MIN_ALPHA = 1.0 / 255.0
# A pixel is done before the Gaussian that would bring its transmittance here or below.
MIN_TRANSMITTANCE = 1e-4
# The largest float32 that is also an int32; a radius beyond it covers any image just as well.
_MAX_RADIUS = float(2**31 - 128)
# Gaussians that are composited in one go: small enough to stop early where a tile is opaque.
_GAUSSIANS_AT_ONCE = 256


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
    """See `pipeline.Stages.project`. Computed in float64, since determinants of long thin Gaussians cancel."""
    n_cameras, n_gaussians = viewmats.shape[0], means.shape[0]
    everything = (means.double(), quats.double(), scales.double(), viewmats.double(), Ks.double())
    with torch.no_grad():
        cameras = torch.arange(n_cameras, device=means.device).repeat_interleave(n_gaussians)
        gaussians = torch.arange(n_gaussians, device=means.device).repeat(n_cameras)
        means2d, depths, covars2d = _project_pairs(*everything, cameras, gaussians, width, height, eps2d)
        radius = _radius(covars2d)
        kept = (
            (depths >= near_plane)
            & (depths <= far_plane)
            & (_determinant(covars2d) > 0)
            & ((means2d + radius[:, None] > 0).all(dim=-1))
            & (means2d[:, 0] - radius < width)
            & (means2d[:, 1] - radius < height)
            & torch.isfinite(means2d).all(dim=-1)
            & torch.isfinite(radius)
            & torch.isfinite(opacities)[gaussians]
        )
        radii = torch.where(kept, radius.clamp(max=_MAX_RADIUS), 0.0).to(torch.int32)

    # Only what is kept enters the graph: beside or behind a camera, derivatives overflow, and 0 * inf is NaN.
    kept_pairs = kept.nonzero()[:, 0]
    means2d, depths, covars2d = _project_pairs(
        *everything, cameras[kept_pairs], gaussians[kept_pairs], width, height, eps2d
    )
    xx, xy, yy = covars2d.unbind(dim=-1)
    conics = torch.stack([yy, -xy, xx], dim=-1) / _determinant(covars2d)[:, None]

    def spread(kept_values: Tensor) -> Tensor:
        """[kept pairs, ...] to [C, N, ...], 0 elsewhere."""
        values = kept_values.new_zeros(n_cameras * n_gaussians, *kept_values.shape[1:])
        values = values.index_copy(0, kept_pairs, kept_values)
        return values.reshape(n_cameras, n_gaussians, *kept_values.shape[1:]).to(means.dtype)

    return radii.reshape(n_cameras, n_gaussians), spread(means2d), spread(depths), spread(conics)


def _project_pairs(
    means: Tensor,  # [N, 3]
    quats: Tensor,  # [N, 4]
    scales: Tensor,  # [N, 3]
    viewmats: Tensor,  # [C, 4, 4]
    Ks: Tensor,  # [C, 3, 3]
    cameras: Tensor,  # [P] indices
    gaussians: Tensor,  # [P] indices
    width: int,
    height: int,
    eps2d: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Image-plane mean [P, 2], depth [P] and covariance (xx, xy, yy) [P, 3] of Gaussians seen by cameras."""
    rotations, translations = viewmats[:, :3, :3], viewmats[:, :3, 3]
    x, y, z = (torch.einsum("pij,pj->pi", rotations[cameras], means[gaussians]) + translations[cameras]).unbind(
        dim=-1
    )  # [P] each, camera coordinates
    fx, fy = Ks[cameras, 0, 0], Ks[cameras, 1, 1]
    cx, cy = Ks[cameras, 0, 2], Ks[cameras, 1, 2]
    means2d = torch.stack([fx * x / z + cx, fy * y / z + cy], dim=-1)

    # The Jacobian of the projection, at a point no further out than 0.15 of the image's size beyond its border:
    # the linearisation grows without bound towards the camera's plane.
    margin_x, margin_y = 0.3 * 0.5 * width / fx, 0.3 * 0.5 * height / fy
    x = z * torch.clamp(x / z, min=-(cx / fx + margin_x), max=(width - cx) / fx + margin_x)
    y = z * torch.clamp(y / z, min=-(cy / fy + margin_y), max=(height - cy) / fy + margin_y)
    zero = torch.zeros_like(z)
    jacobians = torch.stack(
        [
            torch.stack([fx / z, zero, -fx * x / z**2], dim=-1),
            torch.stack([zero, fy / z, -fy * y / z**2], dim=-1),
        ],
        dim=-2,
    )  # [P, 2, 3]

    # J W R S (J W R S)^T, with the world-to-camera rotation W (Zwicker et al. 2001, eq. 31; Kerbl et al. 2023, eq. 5).
    axes = _rotation_matrices(quats[gaussians]) * scales[gaussians][:, None, :]  # [P, 3, 3]
    roots = jacobians @ rotations[cameras] @ axes  # [P, 2, 3]
    covars2d = roots @ roots.transpose(-1, -2)
    covars2d = torch.stack([covars2d[:, 0, 0] + eps2d, covars2d[:, 0, 1], covars2d[:, 1, 1] + eps2d], dim=-1)
    return means2d, z, covars2d


def _rotation_matrices(quats: Tensor) -> Tensor:
    """[N, 4] wxyz of any length but 0 to [N, 3, 3]."""
    w, x, y, z = (quats / quats.norm(dim=-1, keepdim=True)).unbind(dim=-1)
    return torch.stack(
        [
            torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], dim=-1),
            torch.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], dim=-1),
            torch.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], dim=-1),
        ],
        dim=-2,
    )


def _determinant(covars2d: Tensor) -> Tensor:
    xx, xy, yy = covars2d.unbind(dim=-1)
    return xx * yy - xy * xy


def _radius(covars2d: Tensor) -> Tensor:
    """Three standard deviations along the longer axis, in whole pixels."""
    xx, _, yy = covars2d.unbind(dim=-1)
    half_trace = 0.5 * (xx + yy)
    largest_eigenvalue = half_trace + (half_trace**2 - _determinant(covars2d)).clamp(min=0.01).sqrt()
    return torch.ceil(3.0 * largest_eigenvalue.sqrt())


def shade(means: Tensor, camera_centres: Tensor, coefficients: Tensor, radii: Tensor, degree: int) -> Tensor:
    """See `pipeline.Stages.shade`."""
    n_cameras, n_gaussians = radii.shape
    cameras, gaussians = (radii > 0).nonzero(as_tuple=True)
    directions = torch.nn.functional.normalize(means[gaussians] - camera_centres[cameras], dim=-1)
    bases = spherical_harmonics(directions, degree)  # [P, (degree + 1)^2]
    per_camera = coefficients.dim() == 4
    used = (coefficients[cameras, gaussians] if per_camera else coefficients[gaussians])[:, : bases.shape[1]]
    shown = torch.clamp_min(torch.einsum("pk,pkd->pd", bases, used) + 0.5, 0.0)
    colors = shown.new_zeros(n_cameras * n_gaussians, 3)
    return colors.index_copy(0, cameras * n_gaussians + gaussians, shown).reshape(n_cameras, n_gaussians, 3)


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
    """See `pipeline.Stages.composite`. Tile by tile; within a tile, all pixels and many Gaussians at once."""
    n_cameras, n_channels = colors.shape[0], colors.shape[2]
    absolute = None
    if absgrad and means2d.requires_grad:
        absolute = torch.zeros_like(means2d).reshape(-1, 2)
        means2d.register_hook(_absolute_gradient_setter(means2d, absolute))

    tiles_x, tiles_y = math.ceil(width / TILE_SIZE), math.ceil(height / TILE_SIZE)
    reaching = _gaussians_of_tiles(means2d.detach(), depths, radii, tiles_x, tiles_y)
    flat_means2d, flat_conics = means2d.reshape(-1, 2), conics.reshape(-1, 3)
    flat_opacities, flat_colors = opacities.reshape(-1), colors.reshape(-1, n_channels)
    # Cells are padded to whole tiles and cut at the end: a tile at the border costs no special case.
    tiles, transmittances = [], []
    for tile, gaussians in enumerate(reaching):
        corner_y, corner_x = divmod(tile % (tiles_x * tiles_y), tiles_x)
        tile_colors, transmittance = _composite_tile(
            corner_x * TILE_SIZE,
            corner_y * TILE_SIZE,
            flat_means2d[gaussians],
            flat_conics[gaussians],
            flat_opacities[gaussians],
            flat_colors[gaussians],
            gaussians,
            absolute,
        )
        tiles.append(tile_colors)
        transmittances.append(transmittance)

    def assemble(values: list[Tensor]) -> Tensor:
        """Tiles [16 * 16, D] to images [C, H, W, D]."""
        images = torch.stack(values).reshape(n_cameras, tiles_y, tiles_x, TILE_SIZE, TILE_SIZE, -1)
        images = images.transpose(2, 3).reshape(n_cameras, tiles_y * TILE_SIZE, tiles_x * TILE_SIZE, -1)
        return images[:, :height, :width]

    render, transmittance = assemble(tiles), assemble(transmittances)
    if backgrounds is not None:
        render = render + transmittance * backgrounds[:, None, None, :]
    return render, 1.0 - transmittance


def _gaussians_of_tiles(means2d: Tensor, depths: Tensor, radii: Tensor, tiles_x: int, tiles_y: int) -> list[Tensor]:
    """The Gaussians that reach each of the C * tiles_y * tiles_x tiles (indices into [C * N]), front to back."""
    n_cameras, n_gaussians = radii.shape
    in_depth_order = torch.argsort(depths.reshape(-1), stable=True)
    visible = in_depth_order[radii.reshape(-1)[in_depth_order] > 0]
    centre = means2d.reshape(-1, 2)[visible].double() / TILE_SIZE
    extent = radii.reshape(-1, 1)[visible].double() / TILE_SIZE
    limits = torch.tensor([tiles_x, tiles_y], device=means2d.device)
    first = torch.floor(centre - extent).clamp(min=0).minimum(limits).long()  # [V, 2]
    last = torch.ceil(centre + extent).clamp(min=0).minimum(limits).long()  # exclusive

    columns, rows = (last - first).unbind(dim=-1)
    pairs = torch.arange(len(visible), device=means2d.device).repeat_interleave(columns * rows)
    within = torch.arange(len(pairs), device=means2d.device)
    within = within - (torch.cumsum(columns * rows, dim=0) - columns * rows)[pairs]  # 0, 1, ... for each Gaussian
    tile_x = first[pairs, 0] + within % columns[pairs]
    tile_y = first[pairs, 1] + within // columns[pairs]
    tiles = (visible[pairs] // n_gaussians * tiles_y + tile_y) * tiles_x + tile_x

    # Pairs are in the order of depth, and a stable sort by tile leaves them so within each.
    tiles, order = torch.sort(tiles, stable=True)
    counts = torch.bincount(tiles, minlength=n_cameras * tiles_y * tiles_x)
    return list(visible[pairs[order]].split(counts.tolist()))


def _composite_tile(
    left: int,
    top: int,
    means2d: Tensor,  # [L, 2], front to back
    conics: Tensor,  # [L, 3]
    opacities: Tensor,  # [L]
    colors: Tensor,  # [L, D]
    gaussians: Tensor,  # [L] where their absolute gradients go
    absolute: Tensor | None,  # [C * N, 2]
) -> tuple[Tensor, Tensor]:
    """Colours [256, D] and transmittances [256, 1] of a tile's pixels, row by row."""
    within = torch.arange(TILE_SIZE * TILE_SIZE, device=means2d.device)
    pixel_x = (left + within % TILE_SIZE + 0.5).to(means2d.dtype)[:, None]  # [256, 1]
    pixel_y = (top + within // TILE_SIZE + 0.5).to(means2d.dtype)[:, None]
    tile_colors = means2d.new_zeros(len(within), colors.shape[1])
    transmittance = means2d.new_ones(len(within), 1)
    done = torch.zeros(len(within), 1, dtype=torch.bool, device=means2d.device)

    # Once at least, so that an empty tile too hangs in the graph, and an empty image can be differentiated.
    for start in range(0, max(1, len(gaussians)), _GAUSSIANS_AT_ONCE):
        these = slice(start, start + _GAUSSIANS_AT_ONCE)
        dx = means2d[these, 0] - pixel_x  # [256, L']
        dy = means2d[these, 1] - pixel_y
        if absolute is not None:
            # Each entry of dx and dy belongs to one pixel and one Gaussian, so their gradients are the summands.
            dx.register_hook(_absolute_adder(absolute, gaussians[these], 0))
            dy.register_hook(_absolute_adder(absolute, gaussians[these], 1))
        xx, xy, yy = conics[these].unbind(dim=-1)
        sigma = 0.5 * (xx * dx * dx + yy * dy * dy) + xy * dx * dy
        alpha = (opacities[these] * torch.exp(-sigma)).clamp(max=MAX_ALPHA)

        with torch.no_grad():
            drawn = (sigma >= 0) & (alpha >= MIN_ALPHA) & ~done
            # The transmittance falls from Gaussian to Gaussian, so that all behind the first that ends the pixel fail.
            after = transmittance * torch.cumprod(torch.where(drawn, 1.0 - alpha, 1.0), dim=1)
            drawn &= after > MIN_TRANSMITTANCE
            done |= (after <= MIN_TRANSMITTANCE).any(dim=1, keepdim=True)
        alpha = torch.where(drawn, alpha, 0.0)
        after = transmittance * torch.cumprod(1.0 - alpha, dim=1)
        transmittances = torch.cat([transmittance, after], dim=1)  # before the first, ..., behind the last
        tile_colors = tile_colors + (alpha * transmittances[:, :-1]) @ colors[these]
        transmittance = transmittances[:, -1:]
        if done.all():
            break
    return tile_colors, transmittance


def _absolute_adder(absolute: Tensor, gaussians: Tensor, axis: int) -> Callable[[Tensor], None]:
    """A hook that adds the absolute gradient [pixels, L'] of one axis to its Gaussians' sums."""

    def add(gradient: Tensor) -> None:
        absolute[:, axis].index_add_(0, gaussians, gradient.abs().sum(dim=0))

    return add


def _absolute_gradient_setter(means2d: Tensor, absolute: Tensor) -> Callable[[Tensor], None]:
    """A hook on `means2d`, whose gradient is whole only after those of all tiles: hands the sums over, starts anew."""
    owner = weakref.ref(means2d)  # the graph, and so the hook, must not keep alive the tensor that keeps it alive

    def hand_over(_: Tensor) -> None:
        tensor = owner()
        if tensor is not None:
            tensor.absgrad = absolute.reshape(tensor.shape).clone()  # type: ignore[attr-defined]
        absolute.zero_()

    return hand_over
