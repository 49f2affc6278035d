"""Points of depth maps, with the colours of the images that they belong to."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch

from ..frames import WHITE, over
from ..geometry import resized_intrinsics, unproject_depth
from ..utils.evenly import one_of_each_stretch


def some_of(pixels: npt.NDArray[Any], limit: int, rng: np.random.Generator) -> npt.NDArray[Any]:
    """At most `limit` pixels of an `(h, w)` bool map, as many of each part of it; a map like it."""
    chosen = np.zeros(pixels.shape, bool)
    places = np.flatnonzero(pixels)
    chosen.flat[places[one_of_each_stretch(len(places), limit, rng)]] = True
    return chosen


def points_from_depth(
    depth: npt.NDArray[Any],
    keep: npt.NDArray[Any],
    image: npt.NDArray[Any],
    extrinsics: npt.NDArray[Any],
    intrinsics: npt.NDArray[Any],
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Lift one depth map into the world.

    Args:
        depth: `(h, w)` z-depth in the scale of the extrinsics; any size, of the same field of view as the image.
        keep: `(h, w)` bool, which pixels to lift.
        image: `(H, W, 3 or 4)` uint8.
        extrinsics: `(3, 4)` world-to-camera, OpenCV axes.
        intrinsics: `(3, 3)` in pixels of the image, first pixel's centre at 0.5.

    Returns:
        positions `(n, 3)` float32 and colours `(n, 3)` uint8, the mean over each pixel kept of the
        image over white, row by row.
    """
    (height, width), (image_height, image_width) = depth.shape, image.shape[:2]
    positions = unproject_depth(
        torch.from_numpy(depth.astype(np.float64)),
        torch.from_numpy(np.asarray(extrinsics, np.float64)),
        torch.from_numpy(resized_intrinsics(intrinsics, (width / image_width, height / image_height))),
        pixel_center=0.5,
    ).numpy()
    colors = cv2.resize(over(image, WHITE), (width, height), interpolation=cv2.INTER_AREA)
    with np.errstate(over="ignore"):  # what is too far away is infinite, and whoever reads the data leaves it out
        return positions[keep].astype(np.float32), colors[keep]
