"""The frames of a scene as the dataparser hands them on, wherever they come from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from page4d_hf.captures import PinholeFrames
from page4d_hf.scene.tracks import PointTracks

from .seed_points import SeedPoints

FrameDepth = Callable[[int], npt.NDArray[Any] | None]
"""z-depth of a frame by its index, `(h, w)` float32 over exactly its image, in the unit of the cameras' world; 0 or NaN
where it is not known, None where that is everywhere. Reads files."""


@dataclass
class PosedFrames:
    """The frames of one scene with all that training needs to know of them, in one world with OpenCV axes."""

    images: PinholeFrames  # undistorted and scaled images and masks, read when asked for
    image_paths: list[Path]  # what `images` reads
    extrinsics: npt.NDArray[Any]  # [N, 3, 4] float64, world-to-camera
    intrinsics: npt.NDArray[Any]  # [N, 3, 3] float64, in pixels of the images that `images` gives
    times: npt.NDArray[Any]  # [N] float64 in [0, 1]
    train: npt.NDArray[Any]  # [n] int, indices of the frames to train on
    evaluation: npt.NDArray[Any]  # [m] int, indices of the held-out frames
    points: SeedPoints
    depth: FrameDepth | None = None  # of those frames of which it is known
    tracks: PointTracks | None = None  # through all N frames, with the `paths` of what moves
    tracks_asked_for: bool = True  # otherwise they are taken only if what they follow goes far
    path_error: float | None = None  # where PAGE-4D's cameras were aligned with a capture's: RMSE over their extent


def hold_out(frames: npt.NDArray[Any], interval: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Split frames into those to train on and every `interval`-th, held out.

    The first held-out frame lies half an interval in: a video's first moment has no neighbour to be told from.

    Args:
        frames: at least 2 indices, in order of time.
        interval: 0 holds nothing out and evaluates on the frames that are trained on. So do fewer than 3 frames,
            whatever it is: a single image would be left to train on.
    """
    if interval == 0 or len(frames) < 3:
        return frames, frames
    held_out = np.arange(min(interval // 2, len(frames) // 2), len(frames), interval)
    return np.delete(frames, held_out), frames[held_out]
