"""Lens distortion: images, masks and tracks undistorted to a pinhole camera, which everything else works with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ..captures.pinhole import (
    distort,
    first_with_lens,
    pinhole_intrinsics,
    resampled,
    undistort,
    undistortion_map,
)
from ..errors import Page4DError
from ..frames import Frames
from ..scene.tracks import PointTracks
from ..utils.lazy_images import LazyImages
from .tracks import REFERENCE_WIDTH

LEAST_BEND = 0.05  # pixels, for images of the reference width: a lens that bends less is taken for a pinhole


COEFFICIENTS = {  # of a lens, by its model, in OpenCV's order
    "fisheye": ("k1", "k2", "k3", "k4"),
    "OpenCV": ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6"),
}


@dataclass(frozen=True)
class Lenses:
    """The lenses of S frames."""

    intrinsics: npt.NDArray[Any]  # [S, 3, 3] in pixels of the frames, the first pixel's centre at (0.5, 0.5)
    distortion: npt.NDArray[Any]  # [S, D] OpenCV's coefficients, or k1 to k4 of a fisheye
    fisheye: npt.NDArray[Any]  # [S] bool
    sizes: list[tuple[int, int]]  # (height, width) of the frames
    path: str  # where they are from, for messages
    _maps: dict[int, npt.NDArray[Any]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def radial(cls, intrinsics: npt.NDArray[Any], k1: float, sizes: list[tuple[int, int]]) -> Lenses:
        """One radial coefficient for all frames, COLMAP's SIMPLE_RADIAL."""
        distortion = np.tile([k1, 0.0, 0.0, 0.0], (len(sizes), 1))
        return cls(intrinsics, distortion, np.zeros(len(sizes), bool), sizes, "the clip")

    @property
    def bend(self) -> float:
        """Largest displacement by the distortion, in pixels for images of the reference width."""
        return max(map(self._bend, self._different))

    @cached_property
    def pinholes(self) -> npt.NDArray[np.float64]:
        """`[S, 3, 3]`: intrinsics of the undistorted frames, which have the same size, and each pixel of which was
        seen.
        """
        made: dict[int, npt.NDArray[np.float64]] = {}
        for place in self._different:
            height, width = self.sizes[place]
            try:
                made[place] = pinhole_intrinsics(*self._lens(place), (width, height), self._is_fisheye(place))
            except ValueError as error:
                raise Page4DError(f"The lens of {self.path} is out of range: {error}") from error
        return np.stack([made[place] for place in self._alike])

    def image(self, image: npt.NDArray[np.uint8], frame: int) -> npt.NDArray[np.uint8]:
        """An image `(H, W, 3 or 4)` undistorted."""
        x, y = self._map(frame)
        return resampled(image, lambda part: cv2.remap(part, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE))

    def mask(self, mask: npt.NDArray[Any], frame: int) -> npt.NDArray[Any]:
        """A mask `(H, W)` bool undistorted."""
        x, y = self._map(frame)
        return cv2.remap(mask.astype(np.uint8), x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE) > 0

    def tracks(self, tracks: PointTracks) -> PointTracks:
        """Tracks in the pixels of undistorted frames; what these do not show is not visible."""
        xy, visible = tracks.xy.copy(), tracks.visible.copy()
        for frame, pinhole in enumerate(self.pinholes):
            height, width = self.sizes[frame]
            inside = ((xy[:, frame] >= 0) & (xy[:, frame] <= (width, height))).all(axis=1)
            seen = np.flatnonzero(visible[:, frame] & inside)
            if len(seen):
                matrix, lens = self._lens(frame)
                plane = (xy[seen, frame] - matrix[:2, 2]) @ np.linalg.inv(matrix[:2, :2]).T
                rays = undistort(plane, lens, self._is_fisheye(frame))
                xy[seen, frame] = rays @ pinhole[:2, :2].T + pinhole[:2, 2]
                visible[seen, frame] = ((xy[seen, frame] >= 0) & (xy[seen, frame] <= (width, height))).all(axis=1)
        return replace(tracks, xy=xy, visible=visible)

    def as_info(self) -> dict[str, Any]:
        """The first frame's lens, for `page4d/info.json`; pixels are those of the frames before they were
        undistorted."""
        matrix, lens = self._lens(0)
        names = COEFFICIENTS["fisheye" if self._is_fisheye(0) else "OpenCV"]
        (height, width), bend = self.sizes[0], self._bend(0)
        return {
            "model": "fisheye" if self._is_fisheye(0) else "OpenCV",
            "fl_x": float(matrix[0, 0]),
            "fl_y": float(matrix[1, 1]),
            "cx": float(matrix[0, 2]),
            "cy": float(matrix[1, 2]),
            "w": width,
            "h": height,
            **{name: float(value) for name, value in zip(names, lens, strict=False) if value},
            "bends_by_pixels": round(bend * width / REFERENCE_WIDTH, 2),
        }

    def _lens(self, frame: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        return self.intrinsics[frame], self.distortion[frame]

    def _is_fisheye(self, frame: int) -> bool:
        return bool(self.fisheye[frame])

    @cached_property
    def _alike(self) -> list[int]:
        """The first frame [S] with the lens of each."""
        places: list[int] = first_with_lens(self.intrinsics, self.distortion, self.fisheye, self.sizes).tolist()
        return places

    @property
    def _different(self) -> list[int]:
        """A frame of each lens."""
        return sorted(set(self._alike))

    def _bend(self, frame: int) -> float:
        (height, width), (matrix, lens) = self.sizes[frame], self._lens(frame)
        corners = np.array([[x, y] for x in (0, width / 2, width) for y in (0, height / 2, height)], np.float64)
        focal = np.array([matrix[0, 0], matrix[1, 1]])
        rays = (corners - matrix[:2, 2]) / focal
        bent = np.linalg.norm((distort(rays, lens, self._is_fisheye(frame)) - rays) * focal, axis=1)
        return float(bent.max()) * REFERENCE_WIDTH / width

    def _map(self, frame: int) -> npt.NDArray[Any]:
        frame = self._alike[frame]
        if frame not in self._maps:
            height, width = self.sizes[frame]
            self._maps.clear()  # frames of one lens follow each other, mostly
            size, is_fisheye = (width, height), self._is_fisheye(frame)
            self._maps[frame] = undistortion_map(*self._lens(frame), self.pinholes[frame], size, is_fisheye)
        return self._maps[frame]


@dataclass
class UndistortedFrames(Frames):
    """Frames as pinhole cameras would have taken them, at the sizes and under the names of those that were read."""

    lenses: Lenses = field(kw_only=True)

    @classmethod
    def of(cls, frames: Frames, lenses: Lenses) -> UndistortedFrames:
        """The frames through their lenses; each is undistorted when it is asked for."""

        def undistorted(places: Sequence[int]) -> Iterator[npt.NDArray[Any]]:
            return (lenses.image(frames.images[place], place) for place in places)

        images = LazyImages(frames.sizes, range(len(frames)), undistorted, frames.transparent)
        return cls(images, frames.names, frames.times, None, frames.source, frames.in_seconds, lenses=lenses)
