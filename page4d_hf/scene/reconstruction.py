"""A reconstruction in memory, before it is written to a scene folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt

from ..frames import Frames
from .tracks import PointTracks


@dataclass
class Reconstruction:
    """What PAGE-4D sees in S frames: one world, that of the first camera (OpenCV axes), arbitrary scale or
    metres; or the world and scale of the cameras that the user knew.

    Maps cover exactly their image, at the network's resolution, so that their size may differ where that of the images
    does. What a crop left out of the network's input is NaN, and has confidence 0.
    """

    extrinsics: npt.NDArray[Any]  # [S, 3, 4] float64, world-to-camera
    intrinsics: npt.NDArray[Any]  # [S, 3, 3] float64, in pixels of the original images, first pixel's centre at 0.5
    depth: list[npt.NDArray[Any]]  # S of [h, w] float32, z-depth
    depth_conf: list[npt.NDArray[Any]]  # S of [h, w] float32
    motion: list[npt.NDArray[Any]] | None  # S of [h, w] float32, 0 static to 1 moving; None of a model without a mask
    points: npt.NDArray[Any]  # [M, 3] float32 in the world
    point_colors: npt.NDArray[Any]  # [M, 3] uint8
    point_times: npt.NDArray[Any]  # [M] float32 in [0, 1]
    point_motion: npt.NDArray[Any] | None  # [M] float32, 0 static to 1 moving
    point_confidence: npt.NDArray[Any]  # [M] float32
    frames: Frames  # that it was made of
    info: dict[str, Any] = field(default_factory=dict)  # how: the model and the options, for `page4d/info.json`
    tracks: PointTracks | None = None  # that the cameras were refined by
    visible: Sequence[npt.NDArray[Any]] | None = None  # S of [H, W] bool, false where the user hides the image
    point_maps: list[npt.NDArray[Any]] | None = None  # S of [h, w, 3] float32 in the world, where they were asked for

    def __len__(self) -> int:
        return len(self.extrinsics)

    @property
    def scale(self) -> str:
        """The unit of the world: "arbitrary", "metres", or "cameras": that of the cameras that the user knew."""
        return str(self.info.get("scale", "arbitrary"))
