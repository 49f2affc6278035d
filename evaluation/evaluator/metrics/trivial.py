"""What can be said of a sequence without looking at it: a floor under any method's figures.

Depth is the same everywhere, so that aligning it makes it a median; the camera stands still, with a field of view of 60
degrees across the longer side of its images. A method that is no better has learned nothing of the task.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike

from ..predictions import Predictions

WORDS = (
    "no model. Depth is the same everywhere; the camera stands still and sees 60 degrees across the longer side of its "
    "images."
)
WORDS_OF_POSE = (
    "As it has no scale that could be fitted, its ATE is taken at the mean of the true centres, where it is least."
)
FIELD_OF_VIEW = math.radians(60)
LARGEST_SIDE = 518  # of its maps, in pixels; there is no detail to lose


def trivial_predictions(frame_ids: Iterable[str], image_sizes: ArrayLike) -> Predictions:
    """Depth of 1 everywhere and a camera that stands still.

    Args:
        frame_ids: names of the frames.
        image_sizes: `[S, 2]` (width, height) of each in pixels. Maps have the shape of the first, and at most 518
            pixels on the longer side.
    """
    sizes = np.asarray(image_sizes, np.float64)
    count, (width, height) = len(sizes), sizes[0]
    shrink = min(1.0, LARGEST_SIDE / max(width, height))
    shape = (count, max(round(height * shrink), 1), max(round(width * shrink), 1))
    intrinsics = np.tile(np.eye(3), (count, 1, 1))
    intrinsics[:, 0, 0] = intrinsics[:, 1, 1] = sizes.max(axis=1) / (2 * math.tan(FIELD_OF_VIEW / 2))
    intrinsics[:, :2, 2] = sizes / 2
    return Predictions(
        list(frame_ids),
        depth=np.ones(shape, np.float32),
        extrinsics=np.tile(np.eye(3, 4), (count, 1, 1)),
        intrinsics=intrinsics,
    )
