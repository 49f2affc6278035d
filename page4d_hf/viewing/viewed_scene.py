"""What there is to look at: cameras, and the points of each time with what is known of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt

from ..captures import Capture, as_pinhole
from ..captures.layouts.nerfstudio import capture_of_scene
from ..captures.pinhole import PinholeFrames
from ..frames import WHITE, over
from ..geometry import camera_centers, extrinsics_at
from ..scene.drawing import scene_radius
from ..scene.folder import Scene
from ..scene.lifting import points_from_depth, some_of
from ..utils.evenly import evenly, one_of_each_stretch
from ..utils.progress import Progress

TRAIL = 8  # instants over which a track is drawn
MOST_TRACKS = 400
FAR = 1000  # of the scene's radius, from which float32 is too coarse
POINT_SHARE = 0.004  # of the scene's radius: the size of points that are not of a depth map; those fill its pixels


@dataclass(frozen=True)
class Cloud:
    """Points in the world, with NaN for what is not known of one."""

    points: npt.NDArray[Any]  # [M, 3] float32
    colors: npt.NDArray[Any]  # [M, 3] uint8
    depth: npt.NDArray[Any]  # [M] float32, z in the camera that saw the point
    confidence: npt.NDArray[Any]  # [M] float32
    motion: npt.NDArray[Any]  # [M] float32, 0 static to 1 moving

    def __len__(self) -> int:
        return len(self.points)

    def take(self, index: npt.NDArray[Any]) -> Cloud:
        """Some of the points."""
        return Cloud(*(getattr(self, field.name)[index] for field in fields(self)))

    @staticmethod
    def joined(clouds: list[Cloud]) -> Cloud:
        """The points of several clouds; none of none."""
        if not clouds:
            return Cloud.of(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint8))
        return Cloud(*(np.concatenate([getattr(cloud, field.name) for cloud in clouds]) for field in fields(Cloud)))

    @staticmethod
    def of(
        points: npt.NDArray[Any],
        colors: npt.NDArray[Any],
        depth: npt.NDArray[Any] | None = None,
        confidence: npt.NDArray[Any] | None = None,
        motion: npt.NDArray[Any] | None = None,
    ) -> Cloud:
        """A cloud of what is known; None becomes NaN."""
        unknown = np.full(len(points), np.nan, np.float32)
        known = [unknown if values is None else values.astype(np.float32) for values in (depth, confidence, motion)]
        return Cloud(points.astype(np.float32), colors, *known)


@dataclass(frozen=True)
class Maps:
    """What is known of each pixel of an image, over exactly the image: `(h, w)`, at any resolution, or None."""

    depth: npt.NDArray[Any] | None = None  # z; not finite or 0 where not known
    confidence: npt.NDArray[Any] | None = None
    motion: npt.NDArray[Any] | None = None


@dataclass
class ViewedScene:
    """Cameras and points to look at; frames are in the order of time."""

    name: str
    extrinsics: npt.NDArray[Any]  # [N, 3, 4] float64, world-to-camera, OpenCV axes
    intrinsics: npt.NDArray[Any]  # [N, 3, 3] float64, in pixels of what `load_image` gives
    image_sizes: npt.NDArray[Any]  # [N, 2] int, (width, height)
    times: npt.NDArray[Any]  # [N] float64 in [0, 1]
    camera_ids: npt.NDArray[Any]  # [N] int, the device of each frame
    clouds: list[Cloud]  # T: the points of each instant
    timeless: Cloud  # points that are of no instant
    point_size: float  # in the world's unit
    load_image: Callable[[int], npt.NDArray[Any]]  # [H, W, 3] uint8
    load_maps: Callable[[int], Maps]
    all_frames: int  # before thinning
    all_points: int
    # [K, T, 3] float32, where tracks of what moves are at each instant; NaN: unknown
    paths: npt.NDArray[Any] | None = None

    def __len__(self) -> int:
        return len(self.extrinsics)

    @property
    def instants(self) -> npt.NDArray[Any]:
        """`(T,)` times at which there are frames, rising."""
        return cast(npt.NDArray[Any], np.unique(self.times))

    def frames_at(self, instant: int) -> npt.NDArray[Any]:
        """The frames of an instant, by its place among `instants`."""
        return np.flatnonzero(self.times == self.instants[instant])

    def nearest_instant(self, time: float) -> int:
        """The place among `instants` of the one that is nearest to a time."""
        return int(np.abs(self.instants - time).argmin())

    def instant_of(self, frame: int) -> int:
        """The place of a frame's time among `instants`."""
        return int(np.searchsorted(self.instants, self.times[frame]))

    def trails(self, instant: int) -> npt.NDArray[Any]:
        """The last TRAIL steps of the tracks up to an instant, [n, 2, 3] ends of segments."""
        if self.paths is None:
            return np.zeros((0, 2, 3), np.float32)
        steps = self.paths[:, max(instant - TRAIL, 0) : instant + 1]
        segments = np.stack((steps[:, :-1], steps[:, 1:]), axis=2).reshape(-1, 2, 3)
        return cast(npt.NDArray[Any], segments[np.isfinite(segments).all(axis=(1, 2))])

    @property
    def everything(self) -> Cloud:
        """All points of all times."""
        return Cloud.joined([*self.clouds, self.timeless])


def view_scene(scene: Scene, *, max_frames: int, max_points: int, progress: Progress | None = None) -> ViewedScene:
    """A scene folder to look at: of page4d with the points of its depth maps, of another program as a capture, or with
    its own points where it has no depth."""
    capture = _near_origin(replace(capture_of_scene(scene), tracks=scene.load_tracks()))
    if not scene.info and scene.depth_paths is not None:
        return view_capture(capture, max_frames=max_frames, max_points=max_points, progress=progress)
    order = _frames(capture, max_frames)

    def maps(index: int) -> Maps:
        if not scene.info:
            return Maps()
        frame = int(order[index])
        motion = scene.load_motion(frame) if scene.has_motion else None
        return Maps(scene.load_depth(frame), scene.load_confidence(frame), motion)

    stored = None
    if capture.points is not None and scene.point_colors is not None:
        stored = Cloud.of(
            capture.points, scene.point_colors, confidence=scene.point_confidence, motion=scene.point_motion
        )
    return _viewed(capture, order, maps, bool(scene.info), stored, scene.point_times, max_points, progress)


def view_capture(
    capture: Capture, *, max_frames: int, max_points: int, progress: Progress | None = None
) -> ViewedScene:
    """A capture to look at: with the points of its depth or, where it has none, its own."""
    capture = _near_origin(capture)
    order = _frames(capture, max_frames)
    frames = as_pinhole(capture.select(order))

    def maps(index: int) -> Maps:
        mask = frames.load_motion_mask(index)
        return Maps(frames.load_depth(index), None, None if mask is None else mask.astype(np.float32))

    stored = None
    if capture.points is not None:
        grey = np.full((len(capture.points), 3), 128, np.uint8)
        colors = grey if capture.point_colors is None else capture.point_colors
        stored = Cloud.of(capture.points, colors, motion=capture.point_motion)
    has_depth = capture.depth_paths is not None and any(capture.depth_paths[i] for i in order)
    return _viewed(capture, order, maps, has_depth, stored, None, max_points, progress)


def _near_origin(capture: Capture) -> Capture:
    """A capture whose world is moved to its cameras where it is so far away, as in geographic coordinates, that
    float32, in which points are shown, would put them onto a lattice."""
    points = capture.points
    centers = camera_centers(capture.extrinsics)
    origin = centers.mean(axis=0)
    if np.linalg.norm(origin) < FAR * scene_radius(capture.extrinsics, np.zeros((0, 3)) if points is None else points):
        return capture
    extrinsics = extrinsics_at(capture.extrinsics[:, :, :3], centers - origin)
    tracks = capture.tracks
    if tracks is not None:
        paths = None if tracks.paths is None else tracks.paths - origin
        tracks = replace(tracks, points=tracks.points - origin, paths=paths)
    return replace(capture, extrinsics=extrinsics, points=None if points is None else points - origin, tracks=tracks)


def _frames(capture: Capture, limit: int) -> npt.NDArray[Any]:
    """The frames to show, in the order of time; of one instant, by their devices."""
    order = np.lexsort((capture.camera_ids, capture.times))
    return cast(npt.NDArray[Any], order[evenly(len(order), limit)])


def _viewed(
    capture: Capture,
    order: npt.NDArray[Any],
    maps: Callable[[int], Maps],
    has_depth: bool,
    stored: Cloud | None,
    stored_times: npt.NDArray[Any] | None,
    max_points: int,
    progress: Progress | None,
) -> ViewedScene:
    report = progress or (lambda *_: None)
    frames = as_pinhole(capture.select(order))
    times = capture.times[order]
    instants, instant = np.unique(times, return_inverse=True)
    clouds: list[list[Cloud]] = [[] for _ in instants]
    timeless, count, spacing = Cloud.joined([]), 0, 0.0
    rng = np.random.default_rng(0)  # the same scene looks the same
    if has_depth:
        spacings = []
        report("points", 0, len(frames))
        for i in range(len(frames)):
            share = max_points * (i + 1) // len(frames) - max_points * i // len(frames)
            cloud, known = _lifted(frames, i, maps(i), share, rng)
            count += known
            if len(cloud):
                width, height = frames.image_sizes[i]
                covered = width * height / (frames.intrinsics[i, 0, 0] * frames.intrinsics[i, 1, 1])
                spacings.append(float(np.median(cloud.depth)) * np.sqrt(covered / len(cloud)))
            clouds[instant[i]].append(cloud)
            report("points", i + 1, len(frames))
        spacing = float(np.median(spacings)) if spacings else 0.0
    elif stored is not None:
        count = len(stored)
        kept = one_of_each_stretch(len(stored), max_points, rng)
        stored = stored.take(kept)
        if stored_times is None:
            timeless = stored
        else:
            nearest = np.abs(stored_times[kept][:, None] - instants).argmin(axis=1)
            for k in range(len(instants)):
                cloud, pose = stored.take(nearest == k), frames.capture.extrinsics[np.argmax(instant == k)]
                depth = cloud.points @ pose[2, :3] + pose[2, 3]
                clouds[k].append(replace(cloud, depth=np.where(depth > 0, depth, np.nan).astype(np.float32)))
    joined = [Cloud.joined(parts) for parts in clouds]
    radius = scene_radius(frames.capture.extrinsics, Cloud.joined([*joined, timeless]).points)
    return ViewedScene(
        name=capture.root.resolve().name,
        extrinsics=frames.capture.extrinsics,
        intrinsics=frames.intrinsics,
        image_sizes=frames.image_sizes,
        times=times,
        camera_ids=frames.capture.camera_ids,
        clouds=joined,
        timeless=timeless,
        point_size=spacing or POINT_SHARE * radius,
        load_image=lambda index: over(frames.load_image(index), WHITE),
        load_maps=maps,
        all_frames=len(capture),
        all_points=count,
        paths=_paths(frames.capture, instant, len(instants)),
    )


def _paths(capture: Capture, instant: npt.NDArray[Any], instants: int) -> npt.NDArray[Any] | None:
    """Where at most MOST_TRACKS tracks are at each instant, by that of each frame `(N,)`; None where nothing moves."""
    if capture.tracks is None or capture.tracks.paths is None:
        return None
    of_frames = capture.tracks.paths
    moving = np.flatnonzero(np.isfinite(of_frames).all(axis=2).sum(axis=1) > 1)
    moving = moving[evenly(len(moving), MOST_TRACKS)]
    if not len(moving):
        return None
    paths = np.full((len(moving), instants, 3), np.nan, np.float32)
    for frame, place in enumerate(instant):
        known = np.isfinite(of_frames[moving, frame]).all(axis=1)
        paths[known, place] = of_frames[moving[known], frame]
    return paths


def _lifted(frames: PinholeFrames, index: int, maps: Maps, limit: int, rng: np.random.Generator) -> tuple[Cloud, int]:
    """Points of a frame's depth map, at most so many, and how many there are in all."""
    if maps.depth is None:
        return Cloud.joined([]), 0
    depth = maps.depth
    known = np.isfinite(depth) & (depth > 0)
    if maps.confidence is not None:
        known &= maps.confidence > 0
    chosen = some_of(known, limit, rng)
    points, colors = points_from_depth(
        depth, chosen, frames.load_image(index), frames.capture.extrinsics[index], frames.intrinsics[index]
    )
    motion = maps.motion
    if motion is not None and motion.shape != depth.shape:
        motion = cv2.resize(motion, depth.shape[::-1], interpolation=cv2.INTER_NEAREST)
    confidence, motion = (None if values is None else values[chosen] for values in (maps.confidence, motion))
    return Cloud.of(points, colors, depth[chosen], confidence, motion), int(known.sum())
