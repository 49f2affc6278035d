"""The points that Gaussians start from: chosen, thinned, made from depth or drawn at random."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from page4d_hf.geometry import invert_extrinsics
from page4d_hf.scene.lifting import some_of
from page4d_hf.utils.evenly import one_of_each_stretch

from ..gaussians.schedule import CANONICAL_TIME, FIRST_SPAN

# What moves covers a small part of the images and is most of what has to be learned: it gets at least this share of
# the points, if it has so many pixels. Half of them come from around the canonical time, where training starts.
LEAST_MOVING_SHARE = 0.2


@dataclass
class SeedPoints:
    """Points in the world of the cameras."""

    positions: npt.NDArray[Any]  # [M, 3] float32 or float64
    colors: npt.NDArray[Any]  # [M, 3] uint8
    times: npt.NDArray[Any] | None = None  # [M] float32 in [0, 1], when each point was seen
    motion: npt.NDArray[Any] | None = None  # [M] float32, 0 static to 1 moving

    def __len__(self) -> int:
        return len(self.positions)

    def take(self, indices: npt.NDArray[Any]) -> SeedPoints:
        """The points at `indices` (integers or a boolean mask)."""
        taken: list[Any] = [None if values is None else values[indices] for values in vars(self).values()]
        return SeedPoints(*taken)

    @classmethod
    def none(cls) -> SeedPoints:
        """No points."""
        return cls(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint8))

    @classmethod
    def joined(cls, parts: list[SeedPoints]) -> SeedPoints:
        """All points of some parts, in order; what not every part knows of its points, the whole does not know."""

        columns: Any = zip(*(vars(part).values() for part in parts), strict=True)
        joined: list[Any] = [None if any(each is None for each in own) else np.concatenate(own) for own in columns]
        return cls(*joined)

    def thinned(self, limit: int) -> SeedPoints:
        """At most `limit` points, spread evenly over the order in which they come."""
        return self.take(evenly(len(self), limit))


def evenly(count: int, limit: int) -> npt.NDArray[Any]:
    """At most `limit` of `count` indices, in order and spread evenly, the same at every call.

    Pixels of depth maps come frame by frame and row by row, so that an even choice takes as much from every frame and
    from every part of an image.
    """
    return one_of_each_stretch(count, limit, np.random.default_rng(0))


def spread_over_frames(
    pixels_of: Callable[[int], tuple[npt.NDArray[Any], npt.NDArray[Any]]], times: npt.NDArray[Any], limit: int
) -> Iterator[npt.NDArray[Any]]:
    """Choose pixels to make points of: as many of each frame and each part of an image, and more of what moves.

    Args:
        pixels_of: of a frame by its index, two `(h, w)` bool maps: which pixels may be chosen, and which show something
            that moves. Called twice for each frame, as no more than one frame's maps are kept.
        times: `(S,)` in [0, 1], of the frames.
        limit: most pixels in all.

    Yields:
        For each frame an `(h, w)` bool map of the pixels chosen.
    """
    counts = np.zeros((2, len(times)), np.int64)  # of what stands still, and of what moves
    for index in range(len(times)):
        usable, moves = pixels_of(index)
        counts[:, index] = (usable & ~moves).sum(), (usable & moves).sum()
    still, moving = counts
    from_middle = np.abs(times - CANONICAL_TIME)
    near = from_middle <= max(FIRST_SPAN, from_middle.min())

    share = max(LEAST_MOVING_SHARE, moving.sum() / max(counts.sum(), 1))
    of_moving = min(round(share * limit), int(moving.sum()))
    chosen_near = _allot(moving * near, max(of_moving // 2, of_moving - int((moving * ~near).sum())))
    chosen_moving = chosen_near + _allot(moving * ~near, of_moving - int(chosen_near.sum()))
    chosen_still = _allot(still, limit - int(chosen_moving.sum()))
    for index in range(len(times)):
        usable, moves = pixels_of(index)
        kinds = (usable & ~moves, chosen_still[index]), (usable & moves, chosen_moving[index])
        yield np.logical_or(*(some_of(kind, int(quota), np.random.default_rng(0)) for kind, quota in kinds))


def _allot(counts: npt.NDArray[Any], limit: int) -> npt.NDArray[Any]:
    """At most `limit` of things of which there are `counts`, in proportion to them."""
    ends = counts.cumsum()
    if len(counts) == 0 or ends[-1] <= limit:
        return counts
    return np.diff(ends * limit // ends[-1], prepend=0)


def random_points(
    count: int,
    extrinsics: npt.NDArray[Any],
    intrinsics: npt.NDArray[Any],
    image_sizes: npt.NDArray[Any],
    near: float,
    far: float,
) -> SeedPoints:
    """Points spread evenly through what the cameras see, in random colours; the same at every call."""
    rng = np.random.default_rng(0)
    cameras = rng.integers(len(extrinsics), size=count)
    pixels = rng.random((count, 2)) * image_sizes[cameras]
    # Evenly in the volume of a frustum, whose cross-section grows with the square of the depth.
    depth = np.cbrt(rng.uniform(near**3, far**3, size=count))[:, None]
    rays = np.concatenate((pixels, np.ones((count, 1))), axis=1)
    in_camera = np.einsum("nij,nj->ni", np.linalg.inv(intrinsics)[cameras], rays) * depth
    camera_to_world = invert_extrinsics(torch.from_numpy(extrinsics)).numpy()[cameras]
    positions = np.einsum("nij,nj->ni", camera_to_world[:, :, :3], in_camera) + camera_to_world[:, :, 3]
    return SeedPoints(positions, rng.integers(256, size=(count, 3), dtype=np.uint8))
