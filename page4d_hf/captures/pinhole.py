"""A capture's images as a pinhole camera would have taken them: undistorted and scaled in one resampling.

What renders (splatting) and what estimates (PAGE-4D) knows pinhole cameras alone, so lens distortion and skew are taken
out of the images. The pinhole camera is chosen such that each of its pixels was seen: the largest upright rectangle
whose sides the undistorted image's edges don't cross (as OpenCV's `alpha=0`), at the size of the image that was
undistorted. Where nothing is to do, the pixels are those of the file.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt
from numpy.polynomial import Polynomial

from ..errors import CaptureError
from ..geometry import resized_intrinsics
from .base import Capture
from .image_files import read_image, read_image_mask, read_opaque_image

# Of a fisheye, a pinhole sees at most so far to each side: further out a plane image is all rim.
FISHEYE_SIDE = math.radians(60)
FISHEYE_REACH = math.radians(85)  # angle from the axis to which rays are told apart
LEAST_REACH = math.radians(45)  # what a lens model must not turn back on itself before
MAPS_KEPT = 4  # a capture has one lens for each of its devices, mostly; maps are as large as several images


@dataclass
class PinholeFrames:
    """Images, masks and depth of a capture, undistorted and scaled when they are asked for.

    Extrinsics are those of the capture. Pixels: the first pixel's centre is at (0.5, 0.5), no skew, no distortion.
    """

    capture: Capture
    intrinsics: npt.NDArray[Any]  # [N, 3, 3] float64, in pixels of what the loaders give
    image_sizes: npt.NDArray[Any]  # [N, 2] int, (width, height) of what the loaders give

    def __len__(self) -> int:
        return len(self.capture)

    def resamples(self, index: int) -> bool:
        """Whether the image of a frame is undistorted or scaled, and so differs from its file."""
        scaled = (self.image_sizes[index] != self.capture.image_sizes[index]).any()
        return bool(scaled) or not self._is_plain(index)

    @property
    def differs_from_files(self) -> bool:
        """Whether other programs would read other images from the files: not resampled, or with an alpha."""
        reads_colours = self.capture.read_image_file is read_opaque_image
        resampled = any(self.resamples(index) for index in range(len(self)))
        return resampled or (reads_colours and read_image(self.capture.image_paths[0]).shape[2] == 4)

    def load_image(self, index: int) -> npt.NDArray[np.uint8]:
        """The image of a frame.

        Scaling down averages over each new pixel's area, so that fine detail does not alias. Where there is
        transparency, colours count by their alpha (see `resampled`).

        Returns:
            `(H, W, 3)`, or `(H, W, 4)` where the file has transparency.
        """
        path = self.capture.image_paths[index]
        image = self.capture.read_image_file(path)
        size = tuple(int(side) for side in self.capture.image_sizes[index])
        if (image.shape[1], image.shape[0]) != size:
            raise CaptureError(
                f"{path} is {image.shape[1]}x{image.shape[0]} but was {size[0]}x{size[1]} when the capture was read."
            )
        target = tuple(int(side) for side in self.image_sizes[index])
        if self._is_plain(index):
            return image if target == size else resampled(image, partial(_mean_over_areas, size=target))
        # Each new pixel is the mean of a grid of samples as dense as the pixels of the file: the area that the pixel
        # covers in the file, followed through the distortion.
        grid = max(math.ceil(size[0] / target[0] - 0.01), math.ceil(size[1] / target[1] - 0.01), 1)
        x, y = self._source_positions(index, grid)
        # Linear interpolation would blur where nothing is averaged.
        interpolation = cv2.INTER_CUBIC if grid == 1 else cv2.INTER_LINEAR

        def undistorted(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
            sampled = cv2.remap(pixels, x, y, interpolation, borderMode=cv2.BORDER_REPLICATE)
            return sampled if grid == 1 else _mean_over_areas(sampled, target)

        return resampled(image, undistorted)

    def load_motion_mask(self, index: int) -> npt.NDArray[np.bool_] | None:
        """The motion mask of a frame, `(H, W)`, true where something moves; None where the capture has none."""
        return self._load(self.capture.motion_mask_paths, index, self.capture.read_motion_mask_file)

    def load_use(self, index: int) -> npt.NDArray[np.bool_] | None:
        """Which pixels of a frame are to be learned from, `(H, W)`; None where the capture does not say."""
        return self._load(self.capture.use_paths, index, read_image_mask)

    def load_covisible(self, index: int) -> npt.NDArray[np.bool_] | None:
        """Which pixels of a frame the training frames see too, `(H, W)`; None where the capture does not say."""
        return self._load(self.capture.covisible_paths, index, read_image_mask)

    def load_depth(self, index: int) -> npt.NDArray[np.float32] | None:
        """The z-depth of a frame, `(H, W)`, in the unit of the capture's world, 0 where it is not known; None where
        the capture has none.
        """
        intrinsics = self.capture.intrinsics[index]
        depth = self._load(self.capture.depth_paths, index, lambda path: self.capture.read_depth_file(path, intrinsics))
        if depth is None:
            return None
        depth = depth.astype(np.float64) * self.capture.depth_scale
        return np.where(np.isfinite(depth) & (depth > 0), depth, 0).astype(np.float32)

    def _load(
        self, paths: list[Path | None] | None, index: int, read: Callable[[Path], npt.NDArray[Any]]
    ) -> npt.NDArray[Any] | None:
        path = None if paths is None else paths[index]
        return None if path is None else self._nearest(read(path), index)

    def _is_plain(self, index: int) -> bool:
        return not needs_undistortion(
            self.capture.intrinsics[index], self.capture.distortion[index], self._is_fisheye(index)
        )

    def _is_fisheye(self, index: int) -> bool:
        return self.capture.fisheye is not None and bool(self.capture.fisheye[index])

    def _nearest(self, values: npt.NDArray[Any], index: int) -> npt.NDArray[Any]:
        """Labels or depth `(h, w)` at the centre of each new pixel; the file need not have the image's size."""
        height, width = values.shape
        if self._is_plain(index) and (width, height) == tuple(self.image_sizes[index]):
            return values
        x, y = self._source_positions(index, 1) + np.float32(0.5)  # OpenCV's first centre is at 0
        image_width, image_height = self.capture.image_sizes[index]
        # A centre on the line between two pixels takes the lower one, whichever way its last bit was rounded.
        columns = np.ceil(x * (width / image_width) - 1e-3).astype(np.int64) - 1
        rows = np.ceil(y * (height / image_height) - 1e-3).astype(np.int64) - 1
        return cast(npt.NDArray[Any], values[rows.clip(0, height - 1), columns.clip(0, width - 1)])

    def _source_positions(self, index: int, grid: int) -> npt.NDArray[np.float32]:
        """Where in the file's image the new image's samples lie: x and y in its pixels as OpenCV counts them, from 0 at
        the first centre, `(2, grid * H, grid * W)`."""
        finer = resized_intrinsics(self.intrinsics[index], (grid, grid))
        source, lens, target = (
            np.asarray(part, np.float64).tobytes()
            for part in (self.capture.intrinsics[index], self.capture.distortion[index], finer)
        )
        width, height = (int(side) * grid for side in self.image_sizes[index])
        return _kept_map(source, lens, target, (width, height), self._is_fisheye(index))


@lru_cache(maxsize=MAPS_KEPT)
def _kept_map(
    source: bytes, distortion: bytes, target: bytes, size: tuple[int, int], fisheye: bool
) -> npt.NDArray[np.float32]:
    """`undistortion_map` of the bytes of float64 arrays."""
    source_array, target_array = (np.frombuffer(each).reshape(3, 3) for each in (source, target))
    return undistortion_map(source_array, np.frombuffer(distortion), target_array, size, fisheye)


def as_pinhole(capture: Capture, downscale: int | None = None) -> PinholeFrames:
    """See a capture through pinhole cameras, with its images at 1/downscale of its full size, whichever size is stored
    (`capture.image_downscale`). None keeps the stored size.
    """
    factor = 1.0 if downscale is None else downscale / capture.image_downscale
    if factor < 1:
        raise CaptureError(
            f"{capture.root} was read at a downscale of {capture.image_downscale}, too small for {downscale}; "
            f"ask for {capture.image_downscale} or more."
        )
    sizes = np.maximum(np.floor(capture.image_sizes / factor + 0.5), 1).astype(np.int64)
    kinds = np.zeros(len(capture), bool) if capture.fisheye is None else capture.fisheye
    alike = first_with_lens(capture.intrinsics, capture.distortion, kinds, capture.image_sizes)
    pinholes = {}
    for i in np.unique(alike):
        width, height = (int(side) for side in capture.image_sizes[i])
        try:
            pinholes[i] = pinhole_intrinsics(
                capture.intrinsics[i], capture.distortion[i], (width, height), bool(kinds[i])
            )
        except ValueError as error:
            raise CaptureError(f"The camera of {capture.image_paths[i]} is out of range: {error}") from error
    intrinsics = resized_intrinsics(np.stack([pinholes[i] for i in alike]), sizes / capture.image_sizes)
    return PinholeFrames(capture, intrinsics, sizes)


# --------------------------------------------------------------------------------------------------------------------
# The lens


def first_with_lens(
    intrinsics: npt.NDArray[Any], distortion: npt.NDArray[Any], fisheye: npt.NDArray[Any], sizes: npt.ArrayLike
) -> npt.NDArray[np.int64]:
    """For each of S frames the first one `(S,)` with its lens: the same intrinsics `(S, 3, 3)`, coefficients `(S, D)`,
    kind `(S,)` and image size `(S, 2)`."""
    parts = (intrinsics, distortion, fisheye, sizes)
    table = np.concatenate([np.reshape(part, (len(intrinsics), -1)) for part in parts], axis=1)
    _, first, lens = np.unique(table, axis=0, return_index=True, return_inverse=True)
    places: npt.NDArray[np.int64] = first[lens.ravel()]
    return places


def needs_undistortion(intrinsics: npt.NDArray[Any], distortion: npt.NDArray[Any], fisheye: bool = False) -> bool:
    """Whether a camera is anything but a pinhole without skew."""
    return bool(fisheye or np.any(distortion) or intrinsics[0, 1] != 0)


def distort(rays: npt.NDArray[Any], distortion: npt.NDArray[Any], fisheye: bool = False) -> npt.NDArray[Any]:
    """Where a lens puts rays: the model of Brown (Decentering Distortion of Lenses, 1966) with OpenCV's coefficients,
    or that of Kannala and Brandt (2006) for a fisheye.

    Args:
        rays: `(..., 2)`, x / z and y / z in the camera.
        distortion: of a `Capture`'s frame.
        fisheye: which model the coefficients are of.

    Returns:
        `(..., 2)`: x / z and y / z of the pinhole rays that would fall where these do.
    """
    rays = np.asarray(rays, np.float64)
    if fisheye:
        slope = np.linalg.norm(rays, axis=-1, keepdims=True)
        radius = _fisheye_radius(distortion)(np.arctan(slope))
        return cast(npt.NDArray[Any], rays * np.divide(radius, slope, np.ones_like(slope), where=slope > 0))
    directions = np.insert(rays.reshape(-1, 2), 2, 1, axis=-1)
    pixels, _ = cv2.projectPoints(directions, np.zeros(3), np.zeros(3), np.eye(3), np.asarray(distortion, np.float64))
    return pixels.reshape(np.shape(rays))


def undistort(distorted: npt.NDArray[Any], distortion: npt.NDArray[Any], fisheye: bool = False) -> npt.NDArray[Any]:
    """The inverse of `distort` where there is one, found by iteration to 1e-9. Of a fisheye, rays end at
    `FISHEYE_REACH` from the axis.

    Args:
        distorted: `(N, 2)`.
        distortion, fisheye: as of `distort`.

    Raises:
        ValueError: no ray was found for one of the points: it lies beyond where the lens model turns back on itself.
    """
    if fisheye:
        return _undistort_fisheye(np.asarray(distorted, np.float64), distortion)
    stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 200, 1e-12)
    points = np.ascontiguousarray(distorted, np.float64)[:, None]
    same = np.eye(3)
    rays = cv2.undistortPointsIter(points, same, np.asarray(distortion, np.float64), same, same, stop)[:, 0]
    found = _falls_on(rays, distorted, distortion)
    if not found.all():  # a fixed-point iteration, which leaves strong lenses that can be undone
        rays[~found] = _undistort_by_newton(points[~found, 0], distortion)
        found = _falls_on(rays, distorted, distortion)
    if not found.all():
        raise ValueError(
            "its distortion cannot be undone over the whole image; check its coefficients "
            f"{np.asarray(distortion).tolist()}."
        )
    return rays


def _falls_on(
    rays: npt.NDArray[Any], distorted: npt.NDArray[Any], distortion: npt.NDArray[Any]
) -> npt.NDArray[np.bool_]:
    return cast(npt.NDArray[np.bool_], np.isclose(distort(rays, distortion), distorted, rtol=0, atol=1e-9).all(axis=1))


def _undistort_by_newton(distorted: npt.NDArray[Any], distortion: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Rays `(N, 2)` of points, started from what the radial terms alone say; NaN beyond where these turn back."""
    lens = np.asarray(distortion, np.float64)
    radial = lens.copy()
    radial[2:4] = 0
    grid = np.linspace(0, math.tan(FISHEYE_REACH), 20_000)
    grid, radii = _rising(grid, distort(np.column_stack((grid, np.zeros_like(grid))), radial)[:, 0])
    radius = np.linalg.norm(distorted, axis=1)
    start = np.interp(radius, radii, grid)
    rays = distorted * np.divide(start, radius, out=np.ones_like(radius), where=radius > 0)[:, None]
    zero, same = np.zeros(3), np.eye(3)
    with np.errstate(all="ignore"):
        for _ in range(20):
            seen, slopes = cv2.projectPoints(np.insert(rays, 2, 1, axis=1), zero, zero, same, lens)
            (xx, xy), (yx, yy) = slopes[:, 3:5].reshape(-1, 2, 2).transpose(1, 2, 0)  # by the ray: as by a shift
            dx, dy = (seen[:, 0] - distorted).T
            rays = rays - np.column_stack((yy * dx - xy * dy, xx * dy - yx * dx)) / (xx * yy - xy * yx)[:, None]
        inside = (np.linalg.norm(rays, axis=1) <= grid[-1]) & ((rays * distorted).sum(axis=1) >= 0)
    return np.where(inside[:, None], rays, np.nan)


def _rising(grid: npt.NDArray[Any], values: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """A grid and its values up to where these first fall."""
    rises = np.append(np.diff(values) > 0, False)
    return grid[: rises.argmin() + 1], values[: rises.argmin() + 1]


def _fisheye_radius(distortion: npt.NDArray[Any]) -> Polynomial:
    """Distance from the centre at focal length 1, by a ray's angle from the axis (Kannala and Brandt, Eq. 6)."""
    k1, k2, k3, k4 = distortion[:4]
    return Polynomial((0, 1, 0, k1, 0, k2, 0, k3, 0, k4))


def _undistort_fisheye(distorted: npt.NDArray[Any], distortion: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    radius_at = _fisheye_radius(distortion)
    grid, radii = _rising(*radius_at.linspace(2000, (0, FISHEYE_REACH)))
    radius = np.linalg.norm(distorted, axis=1)
    # Polynomials are fitted to what was seen of the pattern, and often fall beyond it.
    if grid[-1] < LEAST_REACH and radius.max(initial=0) > radii[-1]:
        raise ValueError(
            "its distortion cannot be undone over the whole image; check the coefficients k1, k2, k3, k4 "
            f"= {np.asarray(distortion[:4]).tolist()}."
        )
    angle = np.interp(radius, radii, grid)  # rays beyond the reach end there
    inside = radius < radii[-1]
    for _ in range(5):  # Newton, from a start that is good to 1e-6
        angle = np.where(inside, angle - (radius_at(angle) - radius) / radius_at.deriv()(angle), angle)
    factor = np.divide(np.tan(angle), radius, out=np.ones_like(radius), where=radius > 0)
    return cast(npt.NDArray[np.float64], distorted * factor[:, None])


def undistortion_map(
    source: npt.NDArray[Any],
    distortion: npt.NDArray[Any],
    target: npt.NDArray[Any],
    size: tuple[int, int],
    fisheye: bool = False,
) -> npt.NDArray[np.float32]:
    """Where in an image the pixels of a pinhole camera lie: x and y as OpenCV counts them, from 0 at the first centre.

    Args:
        source: `(3, 3)` intrinsics of the image, in pixels; [0, 1] is the skew.
        distortion, fisheye: as of `distort`.
        target: `(3, 3)` intrinsics of the pinhole camera, in its pixels.
        size: (width, height) of the pinhole camera's image.

    Returns:
        `(2, height, width)`.
    """
    from_zero = np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
    matrix = source - from_zero
    make, coefficients = (
        (cv2.fisheye.initUndistortRectifyMap, distortion[:4]) if fisheye else (cv2.initUndistortRectifyMap, distortion)
    )
    maps = np.array(make(matrix, coefficients, np.eye(3), target - from_zero, size, cv2.CV_32FC1), np.float32)
    maps[0] += source[0, 1] / source[1, 1] * (maps[1] - matrix[1, 2])  # OpenCV leaves skew out
    return maps


def pinhole_intrinsics(
    intrinsics: npt.NDArray[Any], distortion: npt.NDArray[Any], image_size: tuple[int, int], fisheye: bool = False
) -> npt.NDArray[np.float64]:
    """The pinhole camera without skew that sees all that an upright rectangle can hold of a distorted image.

    Args:
        intrinsics: `(3, 3)`, in pixels; [0, 1] is the skew.
        distortion, fisheye: as of `distort`.
        image_size: (width, height) in pixels, of the distorted image and of the pinhole camera's.

    Returns:
        `(3, 3)`, in pixels. `intrinsics` itself where there is no distortion and no skew.

    Raises:
        ValueError: the distortion cannot be undone.
    """
    if not needs_undistortion(intrinsics, distortion, fisheye):
        return np.array(intrinsics, np.float64)
    width, height = image_size
    inverse = np.linalg.inv(intrinsics[:2, :2])

    def edge(x: npt.ArrayLike, y: npt.ArrayLike) -> npt.NDArray[Any]:
        """Rays through places on the edge of the image."""
        pixels = np.column_stack(np.broadcast_arrays(x, y))
        return undistort((pixels - intrinsics[:2, 2]) @ inverse.T, distortion, fisheye)

    along_x, along_y = np.linspace(0, width, 2 * width + 1), np.linspace(0, height, 2 * height + 1)
    # As `cv2.getOptimalNewCameraMatrix`, which however looks at nine places of each edge and at no skew.
    left, right = edge(0, along_y)[:, 0].max(), edge(width, along_y)[:, 0].min()
    top, bottom = edge(along_x, 0)[:, 1].max(), edge(along_x, height)[:, 1].min()
    if fisheye:
        side = math.tan(FISHEYE_SIDE)
        left, right, top, bottom = max(left, -side), min(right, side), max(top, -side), min(bottom, side)
    if not (left < right and top < bottom):
        raise ValueError("its undistorted image holds no upright rectangle; check skew and distortion.")
    fx, fy = width / (right - left), height / (bottom - top)
    return np.array([[fx, 0, -left * fx], [0, fy, -top * fy], [0, 0, 1]])


# --------------------------------------------------------------------------------------------------------------------
# Pixels


def resampled(
    image: npt.NDArray[np.uint8], resample: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]
) -> npt.NDArray[np.uint8]:
    """An image resampled such that what cannot be seen of it has no part in its colours.

    Of an image with transparency, colours are multiplied by alpha before and divided by it afterwards. Laid over any
    background, it is then the same as had it been laid over that first. Otherwise the colour of transparent pixels,
    mostly black, would show as a rim around what is opaque.

    Args:
        image: `(H, W, 3)` or `(H, W, 4)`, alpha last and not multiplied in.
        resample: filters all channels alike: uint8 in and out, and float32 in and out.
    """
    if image.shape[2] == 3:
        return resample(image).astype(np.uint8, copy=False)
    alpha = image[..., 3:].astype(np.float32)
    seen = resample(np.concatenate((image[..., :3] * (alpha / 255), alpha), axis=-1))
    alpha = seen[..., 3:]
    colors = np.divide(255 * seen[..., :3], alpha, out=np.zeros_like(seen[..., :3]), where=alpha > 0)
    return cast(npt.NDArray[np.uint8], np.rint(np.concatenate((colors, alpha), axis=-1)).clip(0, 255).astype(np.uint8))


def _mean_over_areas(image: npt.NDArray[Any], size: tuple[int, ...]) -> npt.NDArray[Any]:
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
