"""Seed points of each kind of source: a capture's points, its depth, PAGE-4D's depth, or random points."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from page4d_hf.captures import Capture, PinholeFrames
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


def points_seen_in(points: SeedPoints, times: np.ndarray, chosen: np.ndarray) -> SeedPoints:
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


def points_of_capture_depth(capture: Capture, images: PinholeFrames, train: np.ndarray, max_points: int) -> SeedPoints:
    """A capture's own depth of the frames to train on, as much from each of them, placed by its own cameras.

    Pixels that masks leave out give none. With motion masks the points know whether they move.
    """
    assert capture.depth_paths is not None
    times = capture.times
    seen = [int(j) for j in train if capture.depth_paths[j] is not None]
    seen = [seen[i] for i in evenly(len(seen), max_points)]

    def depth_of(i: int) -> np.ndarray:
        depth = images.load_depth(seen[i])
        assert depth is not None
        return depth

    def pixels_of(i: int) -> tuple[np.ndarray, np.ndarray]:
        usable = _left_in(depth_of(i) > 0, images, seen[i])
        moves = images.load_motion_mask(seen[i])
        return usable, np.zeros_like(usable) if moves is None else moves

    parts = []
    for i, keep in enumerate(spread_over_frames(pixels_of, times[seen], max_points)):
        j = seen[i]
        positions, colors = points_from_depth(
            depth_of(i), keep, images.load_image(j), capture.extrinsics[j], images.intrinsics[j]
        )
        mask = images.load_motion_mask(j)
        motion = None if mask is None else mask[keep].astype(np.float32)
        parts.append(SeedPoints(positions, colors, np.full(len(positions), times[j], np.float32), motion))
    points = SeedPoints.joined(parts)
    if len(points) == 0:
        raise CaptureError(f"The depth of {capture.root} is known nowhere; pass --points page4d or random.")
    return points


def _left_in(usable: npt.NDArray[np.bool_], images: PinholeFrames, index: int) -> npt.NDArray[np.bool_]:
    """Of the usable pixels of a frame's map `(h, w)`, of any size over its image, those that no mask leaves out."""
    use = images.load_use(index)
    if use is None:
        return usable
    return usable & (cv2.resize(use.view(np.uint8), usable.shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT) > 0)


def points_of_reconstruction(
    scene: Scene, seen: np.ndarray, depth_scale: float, frames: PosedFrames, seeds: SeedOptions
) -> SeedPoints:
    """PAGE-4D's depth of the frames to train on, `seen` in the scene, placed by these frames' cameras.

    Pixels that masks leave out give no points. `depth_scale` is from the reconstruction's scale to that of the cameras.
    """
    # It is 0 where the network did not see the image. The percentile of very many pixels is that of some of them.
    stride = 1 + len(seen) * scene.load_confidence(seen[0]).size // MOST_SCORES
    confidence = (scene.load_confidence(i) for i in seen)
    known = np.concatenate([each[each > 0][::stride].copy() for each in confidence])  # a view would hold the map
    threshold = np.percentile(known, seeds.confidence_percentile) if len(known) else np.inf

    def pixels_of(k: int) -> tuple[np.ndarray, np.ndarray]:
        usable = (scene.load_confidence(seen[k]) >= threshold) & (scene.load_depth(seen[k]) > 0)  # not of NaN
        usable = _left_in(usable, frames.images, frames.train[k])
        if not scene.has_motion:
            return usable, np.zeros_like(usable)
        return usable, scene.load_motion(seen[k]) > LIKELY_MOVES

    parts = []
    chosen = spread_over_frames(pixels_of, frames.times[frames.train], seeds.max_points)
    for i, j, keep in zip(seen, frames.train, chosen, strict=True):
        depth = scene.load_depth(i) * depth_scale
        image = frames.images.load_image(j)
        positions, colors = points_from_depth(depth, keep, image, frames.extrinsics[j], frames.intrinsics[j])
        times = np.full(len(positions), frames.times[j], np.float32)
        motion = scene.load_motion(i)[keep] if scene.has_motion else None
        parts.append(SeedPoints(positions, colors, times, motion))
    return SeedPoints.joined(parts)


def points_of_tracks_or_random(
    frames: PosedFrames, camera_ids: np.ndarray, seeds: SeedOptions, depth_range: tuple[float, float] | None = None
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
    known: np.ndarray | None = None,
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
