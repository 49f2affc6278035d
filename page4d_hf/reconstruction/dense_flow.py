"""Dense optical flow (DIS, Kroeger et al., 2016) between grey images of any size."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

PATCH = 8  # pixels, side of what DIS matches
LEAST_SIDES = (8, 12)  # pixels, of the shorter and the longer side: DIS refuses smaller images
UNIT = 20  # pixels of width per coarsest scale where OpenCV chooses it: floor(log2(width / UNIT))


class DenseFlow:
    """Flow between images of one size, with which OpenCV's DIS neither fails nor reads beyond the image.

    Where an image has too few scales for the finest one that is asked for, OpenCV chooses scales by the width alone. Of
    a wide, low image these do not hold one patch, and DIS then reads memory that is not its own. Such images get flow
    down to their full resolution.

    Args:
        finest_scale: the scale at which DIS stops, 0 for the full resolution; None for the preset's.
        preset: of OpenCV.
    """

    def __init__(self, finest_scale: int | None = None, preset: int = cv2.DISOPTICAL_FLOW_PRESET_MEDIUM) -> None:
        self._dis: Any = cv2.DISOpticalFlow.create(preset)  # OpenCV's types want its first guess
        if finest_scale is not None:
            self._dis.setFinestScale(finest_scale)

    def calc(
        self, before: npt.NDArray[Any], after: npt.NDArray[Any], first: npt.NDArray[Any] | None = None
    ) -> npt.NDArray[Any]:
        """Where the pixels of an image `(H, W)` uint8 go in another, `(H, W, 2)` float32 in pixels.

        `first` is where the search starts, of the same shape. Images that are too small for DIS have no flow: it is 0.
        """
        height, width = before.shape
        if any(side < least for side, least in zip(sorted(before.shape), LEAST_SIDES, strict=True)):
            return np.zeros((height, width, 2), np.float32)
        coarsest = min(self._dis.getFinestScale(), max(0, (width // UNIT).bit_length() - 1))
        if min(height, width) < PATCH << coarsest:
            self._dis.setFinestScale(0)
        flow: npt.NDArray[Any] = self._dis.calc(before, after, first)
        return flow
