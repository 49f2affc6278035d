"""The image of a few Gaussians straight from the equations: float64, Gaussian after Gaussian over whole images.

Shares no code and no trick with the backends it checks: covariances are built from a quaternion product and a Jacobian
by automatic differentiation, there are no lists of tiles, and what ends a pixel is kept as a mask.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Evaluation:
    render: Tensor  # [C, H, W, D]
    alpha: Tensor  # [C, H, W, 1]
    radii: Tensor  # [C, N]
    means2d_by_pixel: list[Tensor]  # per camera [N, H, W, 2]: the image-plane means once for each pixel
    ambiguous: Tensor  # [C, H, W]: rounding in float32 may decide whether something is drawn here

    def means2d_gradients(self, loss: Tensor) -> tuple[Tensor, Tensor]:
        """The gradient of the image-plane means, and the sum over pixels of its absolute values, [C, N, 2] each."""
        by_pixel = torch.stack(torch.autograd.grad(loss, self.means2d_by_pixel, retain_graph=True))  # [C, N, H, W, 2]
        return by_pixel.sum(dim=(2, 3)), by_pixel.abs().sum(dim=(2, 3))


def rotation_matrix(quat: Tensor) -> Tensor:
    """The matrix of v -> q v q^-1, from the matrices of left and right multiplication of quaternions."""
    w, x, y, z = quat / quat.norm()
    left = torch.stack([w, -x, -y, -z, x, w, -z, y, y, z, w, -x, z, -y, x, w]).reshape(4, 4)
    right_of_inverse = torch.stack([w, x, y, z, -x, w, -z, y, -y, z, w, -x, -z, -y, x, w]).reshape(4, 4)
    return (left @ right_of_inverse)[1:, 1:]


def evaluate(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colors: Tensor,  # [N, D] or [C, N, D], to be rendered as they are
    viewmats: Tensor,
    Ks: Tensor,
    width: int,
    height: int,
    *,
    near_plane: float = 0.01,
    far_plane: float = 1e10,
    eps2d: float = 0.3,
    backgrounds: Tensor | None = None,
    depth: bool = False,
    expected_depth: bool = False,
    margin: float = 1e-4,
) -> Evaluation:
    """`depth` appends the depth as last channel, divided by alpha where it is `expected_depth`.

    `margin` is relative: how close to one of its thresholds alpha or the transmittance makes a pixel ambiguous.
    """
    means, quats, scales, opacities, colors, viewmats, Ks = (
        tensor.double() for tensor in (means, quats, scales, opacities, colors, viewmats, Ks)
    )
    images = [
        _evaluate_camera(
            means, quats, scales, opacities, colors if colors.dim() == 2 else colors[c], viewmats[c], Ks[c],
            width, height, near_plane, far_plane, eps2d, depth, margin,
        )
        for c in range(len(viewmats))
    ]  # fmt: skip
    render, transmittance, radii, ambiguous = (torch.stack(values) for values in list(zip(*images, strict=True))[:4])
    if backgrounds is not None:
        behind = backgrounds.double()
        if depth:
            behind = torch.cat([behind, behind.new_zeros(len(behind), 1)], dim=1)
        render = render + transmittance[..., None] * behind[:, None, None, :]
    alpha = 1 - transmittance[..., None]
    if expected_depth:
        render = torch.cat([render[..., :-1], render[..., -1:] / alpha.clamp(min=1e-10)], dim=-1)
    return Evaluation(render, alpha, radii, [image[4] for image in images], ambiguous)


def _evaluate_camera(
    means, quats, scales, opacities, colors, viewmat, K, width, height, near_plane, far_plane, eps2d, depth, margin
):
    rotation, translation = viewmat[:3, :3], viewmat[:3, 3]
    focal, centre = torch.stack([K[0, 0], K[1, 1]]), torch.stack([K[0, 2], K[1, 2]])
    size = torch.tensor([width, height], dtype=torch.float64)

    def to_image(point: Tensor) -> Tensor:
        return focal * point[:2] / point[2] + centre

    def to_image_inside_limits(point: Tensor) -> Tensor:
        """The point at which the projection is linearised, kept within 0.15 of the image's size of its border."""
        slope = point[:2] / point[2]
        lowest, highest = -centre / focal - 0.15 * size / focal, (size - centre) / focal + 0.15 * size / focal
        return torch.cat([point[2] * torch.minimum(torch.maximum(slope, lowest), highest), point[2:]])

    points = means @ rotation.T + translation
    radii = torch.zeros(len(means), dtype=torch.int32)
    means2d, precisions, boxes = [], [], []
    for point, quat, scale in zip(points, quats, scales, strict=True):
        if not near_plane <= point[2] <= far_plane:
            means2d.append(torch.zeros(2, dtype=torch.float64))
            precisions.append(torch.eye(2, dtype=torch.float64))
            boxes.append((0, 0, 0, 0))
            continue
        jacobian = torch.autograd.functional.jacobian(to_image, to_image_inside_limits(point), create_graph=True)
        root = rotation_matrix(quat) @ torch.diag(scale)
        covariance = jacobian @ rotation @ root @ root.T @ rotation.T @ jacobian.T + eps2d * torch.eye(
            2, dtype=torch.float64
        )
        mean2d = to_image(point)
        half_trace, determinant = torch.trace(covariance).item() / 2, torch.det(covariance).item()
        largest = half_trace + math.sqrt(max(0.01, half_trace**2 - determinant))
        radius = math.ceil(3 * math.sqrt(largest))
        x, y = mean2d.tolist()
        if x + radius > 0 and x - radius < width and y + radius > 0 and y - radius < height:
            radii[len(means2d)] = radius
        means2d.append(mean2d)
        precisions.append(torch.linalg.inv(covariance))
        boxes.append(tuple(16 * round_(edge / 16) for edge, round_ in (
            (x - radius, math.floor), (x + radius, math.ceil), (y - radius, math.floor), (y + radius, math.ceil)
        )))  # fmt: skip

    all_means2d = torch.stack(means2d) if means2d else torch.zeros(0, 2, dtype=torch.float64)
    by_pixel = all_means2d[:, None, None, :].expand(-1, height, width, -1).clone()  # [N, H, W, 2]
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pixels = torch.stack([columns, rows], dim=-1) + 0.5
    if depth:
        colors = torch.cat([colors, points[:, 2:]], dim=1)

    render = torch.zeros(height, width, colors.shape[1], dtype=torch.float64)
    transmittance = torch.ones(height, width, dtype=torch.float64)
    done = torch.zeros(height, width, dtype=torch.bool)
    ambiguous = torch.zeros(height, width, dtype=torch.bool)
    for n in torch.argsort(points[:, 2], stable=True).tolist():
        if radii[n] == 0:
            continue
        left, right, top, bottom = boxes[n]
        reached = (columns >= left) & (columns < right) & (rows >= top) & (rows < bottom)
        offset = by_pixel[n] - pixels
        sigma = 0.5 * torch.einsum("hwi,ij,hwj->hw", offset, precisions[n], offset)
        unclamped = opacities[n] * torch.exp(-sigma)
        alpha = unclamped.clamp(max=0.999)
        seen = reached & ~done & (sigma >= 0) & (alpha >= 1 / 255)
        behind = transmittance * (1 - alpha)
        ends = seen & (behind <= 1e-4)
        drawn = seen & ~ends
        for value, threshold, where in (
            (alpha, 1 / 255, reached & ~done),
            (unclamped, 0.999, reached & ~done),
            (behind, 1e-4, seen),
        ):
            ambiguous |= where & ((value - threshold).abs() < margin * threshold).detach()
        weight = torch.where(drawn, alpha * transmittance, 0.0)
        render = render + weight[..., None] * colors[n]
        transmittance = torch.where(drawn, behind, transmittance)
        done = done | ends
    return render, transmittance, radii, ambiguous, by_pixel
