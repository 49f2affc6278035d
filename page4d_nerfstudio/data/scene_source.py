"""A scene that PAGE-4D has reconstructed, with its cameras: a scene folder, or what was made of a video or images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from page4d_hf.captures import as_pinhole
from page4d_hf.captures.layouts.nerfstudio import capture_of_scene
from page4d_hf.scene.folder import Scene

from ..console import note
from .limits import refuse_a_single_frame, size_factor, without_far_points
from .motion_tracks import tracks_of_scene
from .posed_frames import PosedFrames, hold_out
from .seed_points import SeedPoints
from .starting_points import (
    SeedOptions,
    points_before_cameras,
    points_of_reconstruction,
    points_of_tracks_or_random,
    points_seen_in,
)


@dataclass(frozen=True)
class SceneOptions:
    """What `page4d-data` asks of a scene; see the options of the same names."""

    seeds: SeedOptions
    downscale_factor: int | None = None
    eval_interval: int = 8
    tracks: str = "auto"


def frames_of_scene(scene: Scene, options: SceneOptions, *, with_points: bool = True) -> PosedFrames:
    """The frames of a scene, every so many of them held out, with the points that it stores or those of its depth."""
    for sentence in scene.notes:
        note(sentence)
    scene = without_far_points(scene)
    refuse_a_single_frame(len(scene), scene.root)
    capture = capture_of_scene(scene)
    images = as_pinhole(capture, size_factor(capture, options.downscale_factor))
    train, evaluation = hold_out(np.argsort(scene.times, kind="stable"), options.eval_interval)
    frames = PosedFrames(
        images,
        scene.image_paths,
        scene.extrinsics,
        images.intrinsics,
        scene.times,
        train,
        evaluation,
        SeedPoints.none(),
        depth=scene.load_depth,
    )
    if options.tracks in ("auto", "page4d"):
        frames.tracks = tracks_of_scene(scene, train, 1.0, frames)
        frames.tracks_asked_for = options.tracks == "page4d"
    seeds = options.seeds
    if seeds.points == "random":
        frames.points = points_before_cameras(frames, seeds.num_random_points, known=scene.points)
    elif seeds.points == "tracks":
        frames.points = points_of_tracks_or_random(frames, capture.camera_ids, seeds)
    elif with_points and scene.points is not None and scene.point_colors is not None:
        stored = SeedPoints(scene.points, scene.point_colors, scene.point_times, scene.point_motion)
        frames.points = points_seen_in(stored, scene.times, train).thinned(seeds.max_points)
    else:
        frames.points = points_of_reconstruction(scene, train, 1.0, frames, seeds)
    return frames
