"""Seed points of each kind of source: a capture's points, its depth, PAGE-4D's depth, or random points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from page4d_hf.captures import Capture
from page4d_hf.errors import CaptureError
from page4d_hf.geometry import camera_centers
from page4d_hf.scene.folder import Scene, frames_at
from page4d_hf.scene.lifting import points_from_depth

from ..console import note
from .posed_frames import PosedFrames
from .seed_points import SeedPoints, evenly, random_points, spread_over_frames
from .tracked_points import FEWEST_POINTS, points_of_tracks

# Motion weight of PAGE-4D above which a pixel counts as moving when points are shared out. The model decides by its own
# `motion_threshold`.
LIKELY_MOVES = 0.5
MOST_SCORES = 1 << 25  # of confidence, that a percentile is taken of


@dataclass(frozen=True)
class SeedOptions:
    """Where Gaussians start, and from how many points; see the options of `page4d-data` of the same names."""

    points: Literal["auto", "page4d", "capture", "depth", "tracks", "random"] = "auto"
    max_points: int = 100_000
    num_random_points: int = 50_000
    confidence_percentile: float = 20.0
    cache_dir: Path | None = None


def points_seen_in(points: SeedPoints, times: npt.NDArray[Any], chosen: npt.NDArray[Any]) -> SeedPoints:
    """The points that the chosen ones of frames saw; `times` of the frames all differ.

    What only a held-out frame shows must not reach the training.
    """
    if points.times is None:
        return points
    return points.take(np.isin(frames_at(points.times, times), chosen))


def points_of_capture(capture: Capture) -> SeedPoints:
    assert capture.points is not None
    colors = capture.point_colors
    if colors is None:
        colors = np.full((len(capture.points), 3), 128, np.uint8)  # gray: learned within a few steps
    return SeedPoints(capture.points, colors, motion=capture.point_motion)


def points_of_capture_depth(capture: Capture, frames: PosedFrames, max_points: int) -> SeedPoints:
    """A capture's own depth of the frames to train on, as much from each of them, placed by its own cameras.

    With motion masks the points know whether they move.
    """
    assert capture.depth_paths is not None
    images = frames.images
    seen = np.array([j for j in frames.train if capture.depth_paths[j] is not None])
    seen = seen[evenly(len(seen), max_points)]

    points = _points_of_depth(
        replace(frames, extrinsics=capture.extrinsics, intrinsics=images.intrinsics, train=seen),
        lambda index: images.load_depth(seen[index]),
        lambda index: images.load_motion_mask(seen[index]),
        max_points,
    )
    if len(points) == 0:
        raise CaptureError(f"The depth of {capture.root} is known nowhere; pass --points page4d or random.")
    return points


def points_of_reconstruction(
    scene: Scene, seen: npt.NDArray[Any], depth_scale: float, frames: PosedFrames, seeds: SeedOptions
) -> SeedPoints:
    """PAGE-4D's depth of the frames to train on, `seen` in the scene, placed by these frames' cameras.

    `depth_scale` is from the reconstruction's scale to that of the cameras.
    """
    # It is 0 where the network did not see the image. The percentile of very many pixels is that of some of them.
    stride = 1 + len(seen) * scene.load_confidence(seen[0]).size // MOST_SCORES
    confidence = (scene.load_confidence(i) for i in seen)
    known = np.concatenate([each[each > 0][::stride].copy() for each in confidence])  # a view would hold the map
    threshold = np.percentile(known, seeds.confidence_percentile) if len(known) else np.inf

    def depth_of(index: int) -> npt.NDArray[Any]:
        sure = scene.load_confidence(seen[index]) >= threshold
        return np.where(sure, scene.load_depth(seen[index]) * depth_scale, 0)

    return _points_of_depth(
        frames,
        depth_of,
        lambda index: scene.load_motion(seen[index]) if scene.has_motion else None,
        seeds.max_points,
    )


def _points_of_depth(
    frames: PosedFrames,
    depth_of: Callable[[int], Any],
    motion_of: Callable[[int], Any],
    max_points: int,
) -> SeedPoints:
    """Points of depth maps of the frames to train on, placed by their cameras; pixels that masks leave out give none.

    Args:
        frames: the frames.
        depth_of: a frame's z-depth by its place in `frames.train`, `(h, w)` over its image; no point where it is 0.
        motion_of: its motion, `(h, w)` too; None where that is not known.
        max_points: at most so many.
    """

    def pixels_of(index: int) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        usable, motion = depth_of(index) > 0, motion_of(index)  # not where depth is NaN
        use = frames.images.load_use(frames.train[index])
        if use is not None:
            resized = cv2.resize(use.view(np.uint8), usable.shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
            usable &= resized > 0
        return usable, np.zeros_like(usable) if motion is None else motion > LIKELY_MOVES

    parts = []
    chosen = spread_over_frames(pixels_of, frames.times[frames.train], max_points)
    for index, (j, keep) in enumerate(zip(frames.train, chosen, strict=True)):
        image = frames.images.load_image(j)
        positions, colors = points_from_depth(depth_of(index), keep, image, frames.extrinsics[j], frames.intrinsics[j])
        times = np.full(len(positions), frames.times[j], np.float32)
        motion = motion_of(index)
        parts.append(SeedPoints(positions, colors, times, None if motion is None else motion[keep].astype(np.float32)))
    return SeedPoints.joined(parts)


def points_of_tracks_or_random(
    frames: PosedFrames,
    camera_ids: npt.NDArray[Any],
    seeds: SeedOptions,
    depth_range: tuple[float, float] | None = None,
) -> SeedPoints:
    """Triangulated tracks, or random points where the frames have too few: they are no video, or lack parallax."""
    points = points_of_tracks(frames, camera_ids, seeds.cache_dir)
    if points is not None:
        note(f"starting from {len(points):,} triangulated points")
        return points.thinned(seeds.max_points)
    why = f"fewer than {FEWEST_POINTS} corners can be tracked and triangulated"
    if seeds.points == "tracks":
        raise CaptureError(f"--points tracks does not fit the data: {why}; pass --points page4d or random.")
    note(f"{why}; starting from random points")
    return points_before_cameras(frames, seeds.num_random_points, depth_range=depth_range)


def points_before_cameras(
    frames: PosedFrames,
    count: int,
    *,
    depth_range: tuple[float, float] | None = None,
    known: npt.NDArray[Any] | None = None,
) -> SeedPoints:
    """Random points before the cameras that are trained on, between the depths where the scene is likely to lie.

    Those are the given ones, else those of the points that are known, else 0.5 and 10 times the extent of the path.
    """
    extrinsics, intrinsics = frames.extrinsics[frames.train], frames.intrinsics[frames.train]
    if depth_range is None and known is not None and len(known) > 0:
        sample = known[:: max(1, len(known) // 1000)]
        depth = np.einsum("nj,mj->nm", extrinsics[:, 2, :3], sample) + extrinsics[:, 2, 3:]
        if (depth > 0).any():
            near, far = np.percentile(depth[depth > 0], (2, 98))
            depth_range = float(near), float(far)
    if depth_range is None:
        centres = camera_centers(extrinsics)
        extent = float(np.linalg.norm(centres - centres.mean(axis=0), axis=-1).max()) or 1.0
        depth_range = 0.5 * extent, 10 * extent
    sizes = frames.images.image_sizes[frames.train]
    return random_points(count, extrinsics, intrinsics, sizes, *depth_range)
