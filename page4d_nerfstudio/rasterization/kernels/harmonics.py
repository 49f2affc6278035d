"""View-dependent colours by spherical harmonics, and their gradient."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

Array = npt.NDArray[Any]  # float32 or float64

_C0 = 0.5 * math.sqrt(1 / math.pi)
_C1 = math.sqrt(3 / (4 * math.pi))
_C2, _C20 = 0.5 * math.sqrt(15 / math.pi), 0.25 * math.sqrt(5 / math.pi)
_C33, _C32 = 0.25 * math.sqrt(35 / (2 * math.pi)), 0.25 * math.sqrt(105 / math.pi)
_C31, _C30 = 0.25 * math.sqrt(21 / (2 * math.pi)), 0.25 * math.sqrt(7 / math.pi)
_C44, _C43 = 3 / 16 * math.sqrt(35 / math.pi), 3 / 4 * math.sqrt(35 / (2 * math.pi))
_C42, _C41 = 3 / 8 * math.sqrt(5 / math.pi), 3 / 4 * math.sqrt(5 / (2 * math.pi))
_C40 = 3 / 16 * math.sqrt(1 / math.pi)


@njit(cache=True, nogil=True, error_model="numpy")
def _bases(x: float, y: float, z: float, degree: int, b: Array) -> None:
    """Fills b with the (degree + 1)^2 real spherical harmonics of a unit vector.

    With the Condon-Shortley phase, by degree l and then by order from -l to l, as 3D Gaussian Splatting and its files
    have them. Written as polynomials: Sloan, "Efficient Spherical Harmonic Evaluation", JCGT 2013, appendix A.
    """
    b[0] = _C0
    if degree < 1:
        return
    b[1], b[2], b[3] = -_C1 * y, _C1 * z, -_C1 * x
    if degree < 2:
        return
    xx, yy, zz = x * x, y * y, z * z
    b[4], b[5], b[6] = _C2 * x * y, -_C2 * y * z, _C20 * (3.0 * zz - 1.0)
    b[7], b[8] = -_C2 * x * z, 0.5 * _C2 * (xx - yy)
    if degree < 3:
        return
    b[9], b[10], b[11] = -_C33 * y * (3.0 * xx - yy), 2.0 * _C32 * x * y * z, -_C31 * y * (5.0 * zz - 1.0)
    b[12] = _C30 * z * (5.0 * zz - 3.0)
    b[13], b[14], b[15] = -_C31 * x * (5.0 * zz - 1.0), _C32 * z * (xx - yy), -_C33 * x * (xx - 3.0 * yy)
    if degree < 4:
        return
    b[16], b[17] = 4.0 * _C44 * x * y * (xx - yy), -_C43 * y * z * (3.0 * xx - yy)
    b[18], b[19] = 2.0 * _C42 * x * y * (7.0 * zz - 1.0), -_C41 * y * z * (7.0 * zz - 3.0)
    b[20] = _C40 * (35.0 * zz * zz - 30.0 * zz + 3.0)
    b[21], b[22] = -_C41 * x * z * (7.0 * zz - 3.0), _C42 * (xx - yy) * (7.0 * zz - 1.0)
    b[23], b[24] = -_C43 * x * z * (xx - 3.0 * yy), _C44 * (xx * (xx - 3.0 * yy) - yy * (3.0 * xx - yy))


@njit(cache=True, nogil=True, error_model="numpy")
def _bases_gradient(x: float, y: float, z: float, degree: int, g: Array) -> tuple[float, float, float]:
    """The gradient in (x, y, z) of sum_k g[k] b[k], with b the polynomials of `_bases`."""
    gx, gy, gz = 0.0, 0.0, 0.0
    if degree >= 1:
        gx, gy, gz = -_C1 * g[3], -_C1 * g[1], _C1 * g[2]
    if degree >= 2:
        gx += _C2 * (y * g[4] - z * g[7] + x * g[8])
        gy += _C2 * (x * g[4] - z * g[5] - y * g[8])
        gz += _C2 * (-y * g[5] - x * g[7]) + 6.0 * _C20 * z * g[6]
    if degree >= 3:
        xx, yy, zz, xy, xz, yz = x * x, y * y, z * z, x * y, x * z, y * z
        gx += -6.0 * _C33 * xy * g[9] + 2.0 * _C32 * yz * g[10] - _C31 * (5.0 * zz - 1.0) * g[13]
        gx += 2.0 * _C32 * xz * g[14] - 3.0 * _C33 * (xx - yy) * g[15]
        gy += -3.0 * _C33 * (xx - yy) * g[9] + 2.0 * _C32 * xz * g[10] - _C31 * (5.0 * zz - 1.0) * g[11]
        gy += -2.0 * _C32 * yz * g[14] + 6.0 * _C33 * xy * g[15]
        gz += 2.0 * _C32 * xy * g[10] - 10.0 * _C31 * yz * g[11] + _C30 * (15.0 * zz - 3.0) * g[12]
        gz += -10.0 * _C31 * xz * g[13] + _C32 * (xx - yy) * g[14]
        if degree >= 4:
            gx += 4.0 * _C44 * y * (3.0 * xx - yy) * g[16] - 6.0 * _C43 * xy * z * g[17]
            gx += 2.0 * _C42 * y * (7.0 * zz - 1.0) * g[18] - _C41 * z * (7.0 * zz - 3.0) * g[21]
            gx += 2.0 * _C42 * x * (7.0 * zz - 1.0) * g[22] - 3.0 * _C43 * z * (xx - yy) * g[23]
            gx += 4.0 * _C44 * x * (xx - 3.0 * yy) * g[24]
            gy += 4.0 * _C44 * x * (xx - 3.0 * yy) * g[16] - 3.0 * _C43 * z * (xx - yy) * g[17]
            gy += 2.0 * _C42 * x * (7.0 * zz - 1.0) * g[18] - _C41 * z * (7.0 * zz - 3.0) * g[19]
            gy += -2.0 * _C42 * y * (7.0 * zz - 1.0) * g[22] + 6.0 * _C43 * xy * z * g[23]
            gy += -4.0 * _C44 * y * (3.0 * xx - yy) * g[24]
            gz += -_C43 * y * (3.0 * xx - yy) * g[17] + 28.0 * _C42 * xy * z * g[18]
            gz += -_C41 * y * (21.0 * zz - 3.0) * g[19] + _C40 * z * (140.0 * zz - 60.0) * g[20]
            gz += -_C41 * x * (21.0 * zz - 3.0) * g[21] + 14.0 * _C42 * z * (xx - yy) * g[22]
            gz += -_C43 * x * (xx - 3.0 * yy) * g[23]
    return gx, gy, gz


@njit(cache=True, nogil=True, error_model="numpy")
def shade(
    first: int,
    last: int,
    means: Array,  # [N, 3]
    camera_centres: Array,  # [C, 3]
    coefficients: Array,  # [1 or C, N, K, 3]
    radii: Array,  # [C, N]
    degree: int,
    colors: Array,  # [C, N, 3] out; zeros come in
) -> None:
    """Colours of Gaussians `first` to `last` for the cameras that see them."""
    n_bases = (degree + 1) ** 2
    b = np.empty(n_bases)
    for n in range(first, last):
        for c in range(radii.shape[0]):
            if radii[c, n] <= 0:
                continue
            x = np.float64(means[n, 0]) - camera_centres[c, 0]
            y = np.float64(means[n, 1]) - camera_centres[c, 1]
            z = np.float64(means[n, 2]) - camera_centres[c, 2]
            length = math.sqrt(x * x + y * y + z * z)
            _bases(x / length, y / length, z / length, degree, b)
            of_camera = coefficients[c if coefficients.shape[0] > 1 else 0, n]
            red, green, blue = 0.0, 0.0, 0.0
            for k in range(n_bases):
                red += b[k] * of_camera[k, 0]
                green += b[k] * of_camera[k, 1]
                blue += b[k] * of_camera[k, 2]
            colors[c, n, 0] = max(np.float32(0.0), np.float32(red) + np.float32(0.5))
            colors[c, n, 1] = max(np.float32(0.0), np.float32(green) + np.float32(0.5))
            colors[c, n, 2] = max(np.float32(0.0), np.float32(blue) + np.float32(0.5))


@njit(cache=True, nogil=True, error_model="numpy")
def shade_backward(
    first: int,
    last: int,
    chunk: int,  # Gaussians that share one entry of `grad_centres`
    means: Array,  # [N, 3]
    camera_centres: Array,  # [C, 3]
    coefficients: Array,  # [1 or C, N, K, 3]
    radii: Array,  # [C, N]
    degree: int,
    grad_colors: Array,  # [C, N, 3]
    grad_means: Array,  # [N, 3] out, as all below; zeros come in
    grad_centres: Array,  # [ceil(N / chunk), C, 3]
    grad_coefficients: Array,  # [1 or C, N, K, 3]
) -> None:
    """Gradients of Gaussians `first` to `last` and, in the entry of their chunk, of the cameras' centres."""
    n_bases = (degree + 1) ** 2
    b, grad_bases = np.empty(n_bases), np.empty(n_bases)
    grad_color = np.empty(3)
    for n in range(first, last):
        for c in range(radii.shape[0]):
            if radii[c, n] <= 0:
                continue
            x = np.float64(means[n, 0]) - camera_centres[c, 0]
            y = np.float64(means[n, 1]) - camera_centres[c, 1]
            z = np.float64(means[n, 2]) - camera_centres[c, 2]
            length = math.sqrt(x * x + y * y + z * z)
            x, y, z = x / length, y / length, z / length
            _bases(x, y, z, degree, b)
            which = c if coefficients.shape[0] > 1 else 0
            for channel in range(3):
                total = 0.0
                for k in range(n_bases):
                    total += b[k] * coefficients[which, n, k, channel]
                # Rounded as in forward, so that both agree on what shows.
                shows = np.float32(total) + np.float32(0.5) >= np.float32(0.0)
                grad_color[channel] = grad_colors[c, n, channel] if shows else 0.0
            for k in range(n_bases):
                total = 0.0
                for channel in range(3):
                    grad_coefficients[which, n, k, channel] += b[k] * grad_color[channel]
                    total += grad_color[channel] * coefficients[which, n, k, channel]
                grad_bases[k] = total
            gx, gy, gz = _bases_gradient(x, y, z, degree, grad_bases)
            along = gx * x + gy * y + gz * z
            gx, gy, gz = (gx - along * x) / length, (gy - along * y) / length, (gz - along * z) / length
            grad_means[n, 0] += gx
            grad_means[n, 1] += gy
            grad_means[n, 2] += gz
            grad_centres[first // chunk, c, 0] -= gx
            grad_centres[first // chunk, c, 1] -= gy
            grad_centres[first // chunk, c, 2] -= gz
