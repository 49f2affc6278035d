"""The trivial predictor: predictions made without looking at a sequence, the baseline for any method.

Depth is the same everywhere, so that aligning it makes it a median; the camera stands still, with a field of view of 60
degrees across the longer side of its images. A method that is no better has learned nothing of the task.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from .metrics.trajectories import rotation_error, score_still_camera
from .predictions import Predictions

WORDS = (
    "no model. Depth is the same everywhere; the camera stands still and sees 60 degrees across the longer side of its "
    "images."
)
WORDS_OF_POSE = (
    "As it has no scale that could be fitted, its ATE is taken at the mean of the true centres, where it is least."
)
FIELD_OF_VIEW = math.radians(60)
LARGEST_SIDE = 518  # of its maps, in pixels; there is no detail to lose


UNKNOWN_MOTION = np.float32(0.5)  # of every pixel


def trivial_depth(shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Depth that is the same everywhere."""
    return np.ones(shape, np.float32)


def still_camera(count: int) -> npt.NDArray[np.float64]:
    """World-to-camera `(count, 3, 4)` of a camera that stands still."""
    return np.tile(np.eye(3, 4), (count, 1, 1))


def still_camera_figures(truth: np.ndarray) -> dict[str, float]:
    """What `trajectories.camera_figures` gives of a network's cameras, of a camera that stands still.

    Raises:
        ExclusionError: the true path is on a line or in a place.
    """
    return {"rotation_error": rotation_error(still_camera(len(truth)), truth), **score_still_camera(truth)}


def trivial_predictions(frame_ids: Iterable[str], image_sizes: npt.ArrayLike) -> Predictions:
    """Depth of 1 everywhere and a camera that stands still. Maps have the shape of the first of the images' sizes
    `[S, 2]` (width, height), and at most 518 pixels on the longer side."""
    sizes = np.asarray(image_sizes, np.float64)
    count, (width, height) = len(sizes), sizes[0]
    shrink = min(1.0, LARGEST_SIDE / max(width, height))
    shape = (count, max(round(height * shrink), 1), max(round(width * shrink), 1))
    intrinsics = np.tile(np.eye(3), (count, 1, 1))
    intrinsics[:, 0, 0] = intrinsics[:, 1, 1] = sizes.max(axis=1) / (2 * math.tan(FIELD_OF_VIEW / 2))
    intrinsics[:, :2, 2] = sizes / 2
    return Predictions(
        list(frame_ids),
        depth=trivial_depth(shape),
        extrinsics=still_camera(count),
        intrinsics=intrinsics,
    )
