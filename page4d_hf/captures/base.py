"""What every capture reader gives: frames with cameras and times, in one form."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np


@dataclass
class Capture:
    """A capture that lies on disk, read but with no image opened yet.

    Cameras and points are in one world, with the layout's own centring and scaling already applied. Axes: OpenCV,
    world-to-camera. Pixels: the first pixel's centre is at (0.5, 0.5).
    """

    layout: str  # the reader's name, for example "nerfies"
    root: Path
    frame_ids: list[str]
    image_paths: list[Path]
    extrinsics: np.ndarray  # [N, 3, 4] float64, world-to-camera
    intrinsics: np.ndarray  # [N, 3, 3] float64, in pixels of the image at `image_paths`; [0, 1] is the skew
    distortion: np.ndarray  # [N, 5] float64, OpenCV's k1, k2, p1, p2, k3; zeros for a pinhole
    image_sizes: np.ndarray  # [N, 2] int, (width, height) of the image at `image_paths`
    time_ids: np.ndarray  # [N] int, the instant of each frame; frames of equal id were taken at the same time
    camera_ids: np.ndarray  # [N] int, the device of each frame
    splits: dict[str, np.ndarray] = field(default_factory=dict)  # "train", "val": [n] int indices of frames
    scale: str = "arbitrary"  # "arbitrary" or "metres": the unit of the world
    near: float | None = None  # in the world's unit
    far: float | None = None
    points: np.ndarray | None = None  # [M, 3] float32 in the world
    point_colors: np.ndarray | None = None  # [M, 3] uint8
    mask_paths: list[Path | None] | None = None  # per frame: non-zero where something moves; None where there is none
    depth_paths: list[Path | None] | None = None  # per frame: (H, W) or (H, W, 1) z-depth, 0 where it is not known
    depth_scale: float = 1.0  # what stored depth is multiplied by to be in the world's unit
    image_downscale: int = 1  # the images at `image_paths` have 1 / image_downscale of the full size
    point_dynamics: np.ndarray | None = None  # [M] float32, 0 for a point that stands still to 1 for one that moves
    notes: list[str] = field(default_factory=list)  # what the reader had to choose, one sentence each

    def __len__(self) -> int:
        return len(self.frame_ids)

    @property
    def times(self) -> np.ndarray:
        """`(N,)` float64 times in [0, 1]: the first instant of the whole capture is 0, the last is 1."""
        first, last = int(self.time_ids.min()), int(self.time_ids.max())
        return (self.time_ids - first) / max(last - first, 1)
