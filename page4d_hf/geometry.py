"""Cameras, the 9-D pose encoding, unprojection and Sim(3): the one place for every convention.

Conventions inside `page4d_hf`, everywhere:

- Camera axes are OpenCV's: x right, y down, z forward.
- Extrinsics are world-to-camera, `[R | t]` of shape `(..., 3, 4)`: `x_camera = R @ x_world + t`.
- Intrinsics are `[[fx, 0, cx], [0, fy, cy], [0, 0, 1]]` in pixels of the image they belong to.
- Depth is the camera-space z coordinate, not the distance along the ray.
- The scale is that of the world: arbitrary for PAGE-4D's own output (unless a caller says metres).
- Quaternions are `(x, y, z, w)`, scalar last, with `w >= 0`.

nerfstudio wants camera-to-world with OpenGL axes: `camera_to_world_opengl` converts, and
`extrinsics_from_camera_to_world_opengl` converts back; nothing else in the project flips axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

# ---------------------------------------------------------------------------------------------------------------
# Rotations

# Files hold rotations with few digits, and half precisions round them: R R^T may differ so much from the identity.
ROTATION_TOLERANCE = 1e-2


def is_rotation(matrix: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Which of some matrices `(..., 3, 3)` are rotations, `(...)` bool: orthogonal within `ROTATION_TOLERANCE`, and no
    reflections. What is not finite is none."""
    matrix = np.asarray(matrix, np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.abs(matrix @ matrix.swapaxes(-1, -2) - np.eye(3)).max(axis=(-2, -1))
        return np.asarray((error <= ROTATION_TOLERANCE) & (np.linalg.det(matrix) > 0))


def quaternion_to_matrix(quaternion: Tensor) -> Tensor:
    """Rotation matrices `(..., 3, 3)` of quaternions `(..., 4)`, (x, y, z, w), of any norm (of none: NaN)."""
    x, y, z, w = quaternion.unbind(-1)
    # 2 / |q|^2 makes the formula for unit quaternions hold for all of them.
    s = 2.0 / (quaternion * quaternion).sum(-1)
    rows = (
        1 - s * (y * y + z * z), s * (x * y - z * w), s * (x * z + y * w),
        s * (x * y + z * w), 1 - s * (x * x + z * z), s * (y * z - x * w),
        s * (x * z - y * w), s * (y * z + x * w), 1 - s * (x * x + y * y),
    )  # fmt: skip
    return cast(Tensor, torch.stack(rows, dim=-1).unflatten(-1, (3, 3)))


def matrix_to_quaternion(matrix: Tensor) -> Tensor:
    """Unit quaternions `(..., 4)`, (x, y, z, w) with w >= 0, of rotation matrices `(..., 3, 3)`.

    Each of the four components could be found from the diagonal and the others from it, which loses all precision
    where that component is small (a half turn has w = 0). All four candidates are formed and the one that divides by
    the largest component is taken.
    """
    m00, m01, m02, m10, m11, m12, m20, m21, m22 = matrix.flatten(-2).unbind(-1)
    # Four times the square of each component.
    squares = torch.stack(
        (1 + m00 - m11 - m22, 1 - m00 + m11 - m22, 1 - m00 - m11 + m22, 1 + m00 + m11 + m22), dim=-1
    )  # [..., 4]
    candidates = torch.stack(
        (
            torch.stack((squares[..., 0], m01 + m10, m02 + m20, m21 - m12), dim=-1),
            torch.stack((m01 + m10, squares[..., 1], m12 + m21, m02 - m20), dim=-1),
            torch.stack((m02 + m20, m12 + m21, squares[..., 2], m10 - m01), dim=-1),
            torch.stack((m21 - m12, m02 - m20, m10 - m01, squares[..., 3]), dim=-1),
        ),
        dim=-2,
    )  # [..., 4, 4]: row i is the quaternion times 4 * q_i
    best = squares.argmax(dim=-1)[..., None, None].expand(*squares.shape[:-1], 1, 4)
    quaternion = torch.nn.functional.normalize(candidates.gather(-2, best).squeeze(-2), dim=-1)
    return torch.where(quaternion[..., 3:] < 0, -quaternion, quaternion)


# ---------------------------------------------------------------------------------------------------------------
# The 9-D pose encoding: translation (3), quaternion xyzw (4), vertical and horizontal field of view (2)


def cameras_to_pose_encoding(extrinsics: Tensor, intrinsics: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Encode cameras as the network predicts them.

    The principal point is not encoded: decoding puts it at the image's centre.

    Args:
        extrinsics: `(..., 3, 4)` world-to-camera, OpenCV axes.
        intrinsics: `(..., 3, 3)` in pixels.
        image_size: (height, width) of the image that the intrinsics belong to.

    Returns:
        `(..., 9)`: translation, quaternion (x, y, z, w), vertical and horizontal field of view in radians.
    """
    height, width = image_size
    fov_y = 2 * torch.atan((height / 2) / intrinsics[..., 1, 1])
    fov_x = 2 * torch.atan((width / 2) / intrinsics[..., 0, 0])
    quaternion = matrix_to_quaternion(extrinsics[..., :3, :3])
    return torch.cat((extrinsics[..., :3, 3], quaternion, fov_y[..., None], fov_x[..., None]), dim=-1)


def pose_encoding_to_cameras(pose_encoding: Tensor, image_size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Decode the network's cameras.

    Args:
        pose_encoding: `(..., 9)`; the quaternion need not have unit norm.
        image_size: (height, width) in pixels of the image that the intrinsics shall belong to.

    Returns:
        extrinsics `(..., 3, 4)` world-to-camera, OpenCV axes, and intrinsics `(..., 3, 3)` in pixels with the
        principal point at (width / 2, height / 2). A field of view of zero gives an infinite focal length.
    """
    height, width = image_size
    rotation = quaternion_to_matrix(pose_encoding[..., 3:7])
    extrinsics = torch.cat((rotation, pose_encoding[..., :3, None]), dim=-1)
    focal_y = (height / 2) / torch.tan(pose_encoding[..., 7] / 2)
    focal_x = (width / 2) / torch.tan(pose_encoding[..., 8] / 2)
    zero, one = torch.zeros_like(focal_x), torch.ones_like(focal_x)
    rows = (focal_x, zero, one * (width / 2), zero, focal_y, one * (height / 2), zero, zero, one)
    return extrinsics, torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


# ---------------------------------------------------------------------------------------------------------------
# Rigid transforms and points


def invert_extrinsics(extrinsics: Tensor) -> Tensor:
    """Invert rigid transforms `(..., 3, 4)`, world-to-camera to camera-to-world or the other way round.

    `[R | t]` becomes `[R^T | -R^T t]`; of a world-to-camera transform the last column is then the camera's centre.
    """
    rotation = extrinsics[..., :3, :3].transpose(-1, -2)
    return torch.cat((rotation, -rotation @ extrinsics[..., :3, 3:]), dim=-1)


def camera_centers(extrinsics: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Centres `(..., 3)` in the world of world-to-camera extrinsics `(..., 3, 4)`."""
    centers: npt.NDArray[Any] = -np.einsum("...ji,...j->...i", extrinsics[..., :3], extrinsics[..., 3])
    return centers


def camera_moves(extrinsics: npt.NDArray[Any]) -> bool:
    """Whether cameras `(N, 3, 4)`, world-to-camera, are in several places, as far as single precision tells."""
    centers = camera_centers(np.asarray(extrinsics, np.float64))
    return bool(np.ptp(centers, axis=0).max() > 1e-6 * max(1.0, np.abs(centers).max()))


def extrinsics_at(rotation: npt.NDArray[Any], centers: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """World-to-camera extrinsics `(..., 3, 4)` of rotations `(..., 3, 3)` and centres `(..., 3)` in the world."""
    return np.concatenate((rotation, -(rotation @ centers[..., None])), axis=-1)


def resized_intrinsics(intrinsics: npt.NDArray[Any], scale: npt.ArrayLike) -> npt.NDArray[Any]:
    """Intrinsics `(..., 3, 3)` of images that are resized by factors `(..., 2)` along x and y, in the new pixels."""
    factors = np.asarray(scale, np.float64)
    factors = np.concatenate((factors, np.ones_like(factors[..., :1])), axis=-1)
    resized: npt.NDArray[Any] = intrinsics * factors[..., None]
    return resized


def unproject_depth(depth: Tensor, extrinsics: Tensor, intrinsics: Tensor, *, pixel_center: float = 0.0) -> Tensor:
    """Lift depth maps to points in the world.

    Args:
        depth: `(..., H, W)` z-depth, in the scale of the extrinsics.
        extrinsics: `(..., 3, 4)` world-to-camera, OpenCV axes.
        intrinsics: `(..., 3, 3)` in pixels of the depth map.
        pixel_center: where the first pixel's centre lies. The published models count from 0; renderers (and Nerfies
            and COLMAP cameras) put it at 0.5.

    Returns:
        `(..., H, W, 3)` points in the world.
    """
    height, width = depth.shape[-2:]
    v = torch.arange(height, dtype=depth.dtype, device=depth.device)[:, None] + pixel_center  # [H, 1]
    u = torch.arange(width, dtype=depth.dtype, device=depth.device)[None, :] + pixel_center  # [1, W]
    fx, fy = intrinsics[..., 0, 0, None, None], intrinsics[..., 1, 1, None, None]
    cx, cy = intrinsics[..., 0, 2, None, None], intrinsics[..., 1, 2, None, None]
    camera_points = torch.stack(((u - cx) / fx * depth, (v - cy) / fy * depth, depth), dim=-1)  # [..., H, W, 3]
    # R^T (x - t): a row vector times R is R^T applied to the column.
    rotation, translation = extrinsics[..., :3, :3], extrinsics[..., :3, 3]
    return (camera_points - translation[..., None, None, :]) @ rotation[..., None, :, :]


def project_points(points: Tensor, extrinsics: Tensor, intrinsics: Tensor) -> tuple[Tensor, Tensor]:
    """Project points of the world into an image.

    Args:
        points: `(..., N, 3)` in the world.
        extrinsics: `(..., 3, 4)` world-to-camera, OpenCV axes.
        intrinsics: `(..., 3, 3)` in pixels.

    Returns:
        pixels `(..., N, 2)` as (u, v) in the intrinsics' convention of pixel centres, and depth `(..., N)`. Points
        with depth <= 0 lie behind the camera and their pixels mean nothing.
    """
    camera_points = points @ extrinsics[..., :3, :3].transpose(-1, -2) + extrinsics[..., None, :3, 3]
    projected = camera_points @ intrinsics.transpose(-1, -2)
    return projected[..., :2] / projected[..., 2:], camera_points[..., 2]


def camera_to_world_opengl(extrinsics: Tensor) -> Tensor:
    """World-to-camera extrinsics `(..., 3, 4)`, OpenCV axes, as nerfstudio has them: camera-to-world `(..., 3, 4)` with
    OpenGL axes (x right, y up, z backward). The world's own axes stay as they are."""
    return invert_extrinsics(extrinsics) * extrinsics.new_tensor([1.0, -1.0, -1.0, 1.0])


def extrinsics_from_camera_to_world_opengl(camera_to_world: Tensor) -> Tensor:
    """The inverse of `camera_to_world_opengl`, which takes `(..., 4, 4)` too."""
    return invert_extrinsics(camera_to_world[..., :3, :] * camera_to_world.new_tensor([1.0, -1.0, -1.0, 1.0]))


# ---------------------------------------------------------------------------------------------------------------
# Sim(3)


@dataclass(frozen=True)
class Similarity:
    """A similarity transform of the world, `x -> scale * rotation @ x + translation`, in float64."""

    scale: float
    rotation: npt.NDArray[Any]  # [3, 3]
    translation: npt.NDArray[Any]  # [3]

    def apply_to_points(self, points: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Map points `(..., 3)`."""
        return np.asarray(self.scale * points @ self.rotation.T + self.translation)

    def apply_to_extrinsics(self, extrinsics: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Carry world-to-camera extrinsics `(..., 3, 4)` along, so that what they see of a mapped point is what they
        saw of the point, with depth times `scale`."""
        rotation = extrinsics[..., :3, :3] @ self.rotation.T
        translation = self.scale * extrinsics[..., :3, 3] - rotation @ self.translation
        return np.concatenate((rotation, translation[..., None]), axis=-1)

    @classmethod
    def between(cls, here: npt.NDArray[Any], there: npt.NDArray[Any], scale: float = 1.0) -> Similarity:
        """What carries the camera `here` onto `there`, extrinsics `(3, 4)` both, with its depth times `scale`."""
        rotation = there[:, :3].T @ here[:, :3]
        return cls(scale, rotation, there[:, :3].T @ (scale * here[:, 3] - there[:, 3]))

    def inverse(self) -> Similarity:
        """The transform that undoes this one."""
        rotation = self.rotation.T
        return Similarity(1 / self.scale, rotation, -(rotation @ self.translation) / self.scale)


def align_sim3(
    source: npt.NDArray[Any], target: npt.NDArray[Any], weights: npt.NDArray[Any] | None = None
) -> Similarity:
    """The Sim(3) that carries `source` onto `target` with the least squared distance (Umeyama, TPAMI 1991, Eq. 39-42).

    Args:
        source: `(N, 3)` points, for example camera centres.
        target: `(N, 3)` the points that they correspond to.
        weights: `(N,)` of the squared distances, from 0; by default they count alike.

    Raises:
        ValueError: fewer than 3 points, shapes that differ, values that are not finite, or points that lie in one
            place or on one line, which leaves a rotation free.
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    if source.shape != target.shape or source.ndim != 2 or source.shape[1] != 3 or len(source) < 3:
        raise ValueError(f"Expected two arrays (N, 3) with N >= 3, got {source.shape} and {target.shape}.")
    if not (np.isfinite(source).all() and np.isfinite(target).all()):
        raise ValueError("Cannot align points that are not finite.")
    share = np.full(len(source), 1 / len(source)) if weights is None else np.asarray(weights) / np.sum(weights)
    source_mean, target_mean = share @ source, share @ target
    source_centred, target_centred = source - source_mean, target - target_mean
    for name, centred in (("source", source_centred), ("target", target_centred)):
        extent = np.linalg.svd(np.sqrt(share)[:, None] * centred, compute_uv=False)
        if extent[1] <= 1e-6 * extent[0] or extent[0] == 0:
            raise ValueError(f"The {name} points lie on one line or in one place: no Sim(3) is determined.")
    covariance = target_centred.T @ (share[:, None] * source_centred)  # Eq. 38
    u, singular, vt = np.linalg.svd(covariance)
    sign = np.ones(3)
    if np.linalg.det(u) * np.linalg.det(vt) < 0:
        sign[2] = -1  # a reflection would fit better; it is not a rotation (Eq. 39)
    rotation = u * sign @ vt  # Eq. 40
    scale = float((singular * sign).sum() / (share @ source_centred**2).sum())  # Eq. 42
    return Similarity(scale, rotation, target_mean - scale * rotation @ source_mean)  # Eq. 41


def align_sim3_robustly(
    groups: Sequence[tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any], float]], rounds: int = 20
) -> Similarity:
    """The Sim(3) that carries points onto others of which many are wrong, by iteratively reweighted least squares.

    Residuals count by their distance from the camera, with Cauchy's weights, whose unit is each group's own.

    Args:
        groups: of points that are equally sure: source and target `(N, 3)`, distances `(N,)`, and the share that the
            group has in the fit.
        rounds: of reweighting.

    Raises:
        ValueError: see `align_sim3`.
    """
    source, target, distance = (np.concatenate([group[i] for group in groups]).astype(np.float64) for i in range(3))
    prior = np.concatenate([np.full(len(group[2]), group[3] / max(len(group[2]), 1)) for group in groups])
    number = np.repeat(np.arange(len(groups)), [len(group[2]) for group in groups])
    change = align_sim3(source, target, prior / distance**2)
    for _ in range(rounds):
        residual = np.linalg.norm(change.apply_to_points(source) - target, axis=1) / distance
        unit = np.array([np.median(residual[number == i]) if (number == i).any() else 0 for i in range(len(groups))])
        robust = 1 / (1 + (residual / (1.4826 * unit + 1e-9)[number]) ** 2)
        change = align_sim3(source, target, prior * robust / distance**2)
    return change
