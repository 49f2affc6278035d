"""Projection of Gaussians to the image plane, and its gradient.

With the world-to-camera rotation W and translation t, the rotation R(q) and scales s of a Gaussian, and the Jacobian J
of the perspective projection at p = W m + t:

    Q = J W R diag(s)      covariance = Q Q^T + eps2d I      conic = covariance^-1

Scalars are float64: determinants of long thin Gaussians cancel, and it costs nothing here.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

Array = npt.NDArray[Any]  # float32 or float64

# The largest float32 that is also an int32; a radius beyond it covers any image just as well.
_MAX_RADIUS = 2147483520.0


@njit(cache=True, nogil=True, error_model="numpy")
def _rotation_times_scale(quat: Array, scale: Array, rotation: Array, root: Array) -> float:
    """Fills `rotation` = R(q) and `root` = R(q) diag(s), both [3, 3]; returns the length of q."""
    w, x, y, z = np.float64(quat[0]), np.float64(quat[1]), np.float64(quat[2]), np.float64(quat[3])
    length = math.sqrt(w * w + x * x + y * y + z * z)
    w, x, y, z = w / length, x / length, y / length, z / length
    rotation[0, 0] = 1.0 - 2.0 * (y * y + z * z)
    rotation[0, 1] = 2.0 * (x * y - w * z)
    rotation[0, 2] = 2.0 * (x * z + w * y)
    rotation[1, 0] = 2.0 * (x * y + w * z)
    rotation[1, 1] = 1.0 - 2.0 * (x * x + z * z)
    rotation[1, 2] = 2.0 * (y * z - w * x)
    rotation[2, 0] = 2.0 * (x * z - w * y)
    rotation[2, 1] = 2.0 * (y * z + w * x)
    rotation[2, 2] = 1.0 - 2.0 * (x * x + y * y)
    for i in range(3):
        for j in range(3):
            root[i, j] = rotation[i, j] * scale[j]
    return length


@njit(cache=True, nogil=True, error_model="numpy")
def _view(
    mean: Array, viewmat: Array, K: Array, width: int, height: int, camera_point: Array, jacobian: Array
) -> tuple[bool, bool]:
    """Fills `camera_point` p [3] and `jacobian` J [2, 3]; returns whether x and y of J are inside its limits.

    J is taken no further out than 0.15 of the image's size beyond its border, as in gsplat.
    """
    for i in range(3):
        total = np.float64(viewmat[i, 3])
        for j in range(3):
            total += np.float64(viewmat[i, j]) * mean[j]
        camera_point[i] = total
    x, y, z = camera_point[0], camera_point[1], camera_point[2]
    fx, fy, cx, cy = np.float64(K[0, 0]), np.float64(K[1, 1]), np.float64(K[0, 2]), np.float64(K[1, 2])
    margin_x, margin_y = 0.15 * width / fx, 0.15 * height / fy
    slope_x = min((width - cx) / fx + margin_x, max(-(cx / fx + margin_x), x / z))
    slope_y = min((height - cy) / fy + margin_y, max(-(cy / fy + margin_y), y / z))
    jacobian[0, 0] = fx / z
    jacobian[0, 1] = 0.0
    jacobian[0, 2] = -fx * slope_x / z
    jacobian[1, 0] = 0.0
    jacobian[1, 1] = fy / z
    jacobian[1, 2] = -fy * slope_y / z
    return slope_x == x / z, slope_y == y / z


@njit(cache=True, nogil=True, error_model="numpy")
def _image_root(jacobian: Array, viewmat: Array, root: Array, to_image: Array, image_root: Array) -> None:
    """Fills `to_image` = J W and `image_root` = J W R diag(s), both [2, 3]."""
    for i in range(2):
        for j in range(3):
            total = 0.0
            for k in range(3):
                total += jacobian[i, k] * viewmat[k, j]
            to_image[i, j] = total
    for i in range(2):
        for j in range(3):
            total = 0.0
            for k in range(3):
                total += to_image[i, k] * root[k, j]
            image_root[i, j] = total


@njit(cache=True, nogil=True, error_model="numpy")
def project(
    first: int,
    last: int,
    means: Array,  # [N, 3]
    quats: Array,  # [N, 4]
    scales: Array,  # [N, 3]
    opacities: Array,  # [N]
    viewmats: Array,  # [C, 4, 4]
    Ks: Array,  # [C, 3, 3]
    width: int,
    height: int,
    near_plane: float,
    far_plane: float,
    eps2d: float,
    radii: Array,  # [C, N] out, as all below; zeros come in
    means2d: Array,  # [C, N, 2]
    depths: Array,  # [C, N]
    conics: Array,  # [C, N, 3]
) -> None:
    """Projects Gaussians `first` to `last`; writes only those that are kept."""
    rotation, root = np.empty((3, 3)), np.empty((3, 3))
    camera_point, jacobian = np.empty(3), np.empty((2, 3))
    to_image, image_root = np.empty((2, 3)), np.empty((2, 3))
    for n in range(first, last):
        if not math.isfinite(opacities[n]):
            continue
        _rotation_times_scale(quats[n], scales[n], rotation, root)
        for c in range(viewmats.shape[0]):
            K = Ks[c]
            _view(means[n], viewmats[c], K, width, height, camera_point, jacobian)
            depth = camera_point[2]
            if not near_plane <= depth <= far_plane:
                continue
            _image_root(jacobian, viewmats[c], root, to_image, image_root)
            xx, xy, yy = eps2d, 0.0, eps2d
            for k in range(3):
                xx += image_root[0, k] * image_root[0, k]
                xy += image_root[0, k] * image_root[1, k]
                yy += image_root[1, k] * image_root[1, k]
            determinant = xx * yy - xy * xy
            if not determinant > 0.0:
                continue
            half_trace = 0.5 * (xx + yy)
            largest_eigenvalue = half_trace + math.sqrt(max(0.01, half_trace * half_trace - determinant))
            radius = np.ceil(3.0 * math.sqrt(largest_eigenvalue))
            x = K[0, 0] * camera_point[0] / depth + K[0, 2]
            y = K[1, 1] * camera_point[1] / depth + K[1, 2]
            if not (math.isfinite(radius) and math.isfinite(x) and math.isfinite(y)):
                continue
            if x + radius <= 0.0 or x - radius >= width or y + radius <= 0.0 or y - radius >= height:
                continue
            radii[c, n] = np.int32(min(radius, _MAX_RADIUS))
            means2d[c, n, 0] = x
            means2d[c, n, 1] = y
            depths[c, n] = depth
            conics[c, n, 0] = yy / determinant
            conics[c, n, 1] = -xy / determinant
            conics[c, n, 2] = xx / determinant


@njit(cache=True, nogil=True, error_model="numpy")
def project_backward(
    first: int,
    last: int,
    chunk: int,  # Gaussians that share one entry of `grad_viewmats`
    means: Array,  # [N, 3]
    quats: Array,  # [N, 4]
    scales: Array,  # [N, 3]
    viewmats: Array,  # [C, 4, 4]
    Ks: Array,  # [C, 3, 3]
    width: int,
    height: int,
    radii: Array,  # [C, N]
    conics: Array,  # [C, N, 3]
    grad_means2d: Array,  # [C, N, 2]
    grad_depths: Array,  # [C, N]
    grad_conics: Array,  # [C, N, 3]
    grad_means: Array,  # [N, 3] out, as all below; zeros come in
    grad_quats: Array,  # [N, 4]
    grad_scales: Array,  # [N, 3]
    grad_viewmats: Array,  # [ceil(N / chunk), C, 4, 4]
) -> None:
    """Gradients of Gaussians `first` to `last` and, in the entry of their chunk, of the cameras."""
    rotation, root = np.empty((3, 3)), np.empty((3, 3))
    camera_point, jacobian = np.empty(3), np.empty((2, 3))
    to_image, image_root = np.empty((2, 3)), np.empty((2, 3))
    grad_image_root, grad_to_image = np.empty((2, 3)), np.empty((2, 3))
    grad_root, grad_jacobian, grad_point = np.empty((3, 3)), np.empty((2, 3)), np.empty(3)
    grad_rotation, unit = np.empty((3, 3)), np.empty(4)
    for n in range(first, last):
        seen = False
        for c in range(viewmats.shape[0]):
            seen |= radii[c, n] > 0
        if not seen:
            continue
        length = _rotation_times_scale(quats[n], scales[n], rotation, root)
        grad_root[:] = 0.0
        for c in range(viewmats.shape[0]):
            if radii[c, n] <= 0:
                continue
            W, K = viewmats[c], Ks[c]
            free_x, free_y = _view(means[n], W, K, width, height, camera_point, jacobian)
            _image_root(jacobian, W, root, to_image, image_root)

            # conic P = covariance^-1: d covariance = -P dP P, with half of xy's gradient at either place.
            p_xx, p_xy, p_yy = np.float64(conics[c, n, 0]), np.float64(conics[c, n, 1]), np.float64(conics[c, n, 2])
            g_xx, g_xy, g_yy = (
                np.float64(grad_conics[c, n, 0]),
                0.5 * grad_conics[c, n, 1],
                np.float64(grad_conics[c, n, 2]),
            )
            h_xx, h_xy = p_xx * g_xx + p_xy * g_xy, p_xx * g_xy + p_xy * g_yy
            h_yx, h_yy = p_xy * g_xx + p_yy * g_xy, p_xy * g_xy + p_yy * g_yy
            v_xx, v_xy, v_yy = -(h_xx * p_xx + h_xy * p_xy), -(h_xx * p_xy + h_xy * p_yy), -(h_yx * p_xy + h_yy * p_yy)

            # covariance = Q Q^T, Q = (J W) (R S)
            for k in range(3):
                grad_image_root[0, k] = 2.0 * (v_xx * image_root[0, k] + v_xy * image_root[1, k])
                grad_image_root[1, k] = 2.0 * (v_xy * image_root[0, k] + v_yy * image_root[1, k])
            for i in range(2):
                for j in range(3):
                    total = 0.0
                    for k in range(3):
                        total += grad_image_root[i, k] * root[j, k]
                    grad_to_image[i, j] = total
            for i in range(3):
                for j in range(3):
                    grad_root[i, j] += to_image[0, i] * grad_image_root[0, j] + to_image[1, i] * grad_image_root[1, j]
            for i in range(2):
                for j in range(3):
                    total = 0.0
                    for k in range(3):
                        total += grad_to_image[i, k] * W[j, k]
                    grad_jacobian[i, j] = total

            # p, by the mean's projection, the depth, and J: with tx = x inside the limits, and z times a limit beyond.
            x, y, z = camera_point[0], camera_point[1], camera_point[2]
            fx, fy = np.float64(K[0, 0]), np.float64(K[1, 1])
            grad_x, grad_y = np.float64(grad_means2d[c, n, 0]) * fx / z, np.float64(grad_means2d[c, n, 1]) * fy / z
            grad_z = grad_depths[c, n] - (grad_x * x + grad_y * y) / z
            grad_z -= (fx * grad_jacobian[0, 0] + fy * grad_jacobian[1, 1]) / (z * z)
            grad_z -= (jacobian[0, 2] * grad_jacobian[0, 2] + jacobian[1, 2] * grad_jacobian[1, 2]) / z
            if free_x:
                grad_x -= fx / (z * z) * grad_jacobian[0, 2]
                grad_z -= jacobian[0, 2] / z * grad_jacobian[0, 2]
            if free_y:
                grad_y -= fy / (z * z) * grad_jacobian[1, 2]
                grad_z -= jacobian[1, 2] / z * grad_jacobian[1, 2]
            grad_point[0], grad_point[1], grad_point[2] = grad_x, grad_y, grad_z

            # p = W m + t
            into = grad_viewmats[first // chunk, c]
            for i in range(3):
                for j in range(3):
                    grad_means[n, j] += W[i, j] * grad_point[i]
                    into[i, j] += (
                        grad_point[i] * means[n, j]
                        + jacobian[0, i] * grad_to_image[0, j]
                        + jacobian[1, i] * grad_to_image[1, j]
                    )
                into[i, 3] += grad_point[i]

        # R(q) diag(s)
        for j in range(3):
            total = 0.0
            for i in range(3):
                total += grad_root[i, j] * rotation[i, j]
                grad_rotation[i, j] = grad_root[i, j] * scales[n, j]
            grad_scales[n, j] = total
        w, x, y, z = quats[n, 0] / length, quats[n, 1] / length, quats[n, 2] / length, quats[n, 3] / length
        g = grad_rotation
        unit[0] = 2.0 * (x * (g[2, 1] - g[1, 2]) + y * (g[0, 2] - g[2, 0]) + z * (g[1, 0] - g[0, 1]))
        unit[1] = 2.0 * (
            y * (g[0, 1] + g[1, 0]) + z * (g[0, 2] + g[2, 0]) + w * (g[2, 1] - g[1, 2]) - 2.0 * x * (g[1, 1] + g[2, 2])
        )
        unit[2] = 2.0 * (
            x * (g[0, 1] + g[1, 0]) + z * (g[1, 2] + g[2, 1]) + w * (g[0, 2] - g[2, 0]) - 2.0 * y * (g[0, 0] + g[2, 2])
        )
        unit[3] = 2.0 * (
            x * (g[0, 2] + g[2, 0]) + y * (g[1, 2] + g[2, 1]) + w * (g[1, 0] - g[0, 1]) - 2.0 * z * (g[0, 0] + g[1, 1])
        )
        # q / |q| takes away what points along q
        along = unit[0] * w + unit[1] * x + unit[2] * y + unit[3] * z
        grad_quats[n, 0] = (unit[0] - along * w) / length
        grad_quats[n, 1] = (unit[1] - along * x) / length
        grad_quats[n, 2] = (unit[2] - along * y) / length
        grad_quats[n, 3] = (unit[3] - along * z) / length
