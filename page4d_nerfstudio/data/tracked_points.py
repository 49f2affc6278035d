"""Points for captures that have cameras and no points: tracks of corners, triangulated by the capture's cameras."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from page4d_hf.captures import as_pinhole
from page4d_hf.errors import Page4DError
from page4d_hf.geometry import camera_centers
from page4d_hf.package_version import page4d_version
from page4d_hf.utils.folders import whole_file

from ..console import note
from .posed_frames import PosedFrames
from .reconstruction_cache import cache_folder, digest_files
from .seed_points import SeedPoints

if TYPE_CHECKING:
    from page4d_hf.reconstruction.tracks import Tracks

WIDTH = 640  # pixels that are tracked in, about: more takes longer and finds the same
# Weaker corners, and closer to each other, than those that cameras are adjusted to.
QUALITY, SPACING, MOST_CORNERS = 0.0005, 3, 4000
FEWEST_FRAMES = 8  # of a camera that films
LEAST_PARALLAX = np.radians(1.0)  # between two rays of a track
MOST_ERROR = 1.0  # pixels for images 320 wide, the median over a track: what moves is left out by it
FEWEST_POINTS = 100  # worth starting from


def points_of_tracks(frames: PosedFrames, camera_ids: npt.NDArray[Any], cache_dir: Path | None) -> SeedPoints | None:
    """Static points that the frames to train on see, where their own cameras put them; None where there are few.

    Pixels that masks leave out give none. Every `ns-*` command reads its data anew, so the points are kept in the
    cache, by the bytes of the frames and their masks, and by their cameras. Frames of one device, by `camera_ids`, are
    taken for a video in the order of time.
    """
    train, videos = frames.train, _videos(frames, camera_ids)
    if not videos:
        return None
    use_paths = frames.images.capture.use_paths
    masks = [None if use_paths is None else use_paths[i] for i in train]
    digest = digest_files(
        [*(frames.image_paths[i] for i in train), *(mask for mask in masks if mask is not None)],
        page4d_version(),
        [mask is not None for mask in masks],
        [values[train].tolist() for values in (frames.extrinsics, frames.intrinsics, frames.times, camera_ids)],
        frames.images.image_sizes[train].tolist(),
    )
    path = cache_folder(cache_dir, "tracked_points") / f"{digest}.npz"
    if path.is_file():
        try:
            with np.load(path, allow_pickle=False) as stored:
                points = SeedPoints(stored["positions"], stored["colors"])
        except Exception as error:  # cut off, or not ours
            note(f"{path} is damaged and is made anew ({error})")
        else:
            return points if len(points) >= FEWEST_POINTS else None
    note("tracking corners through the frames and triangulating them with the capture's cameras")
    points = SeedPoints.joined([SeedPoints.none(), *(_of_video(frames, video) for video in videos)])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path, overwrite=True) as temporary, open(temporary, "wb") as file:
            np.savez(file, positions=points.positions, colors=points.colors)
    except (OSError, Page4DError) as error:
        note(f"the points cannot be kept in {path.parent}: {error}")
    return points if len(points) >= FEWEST_POINTS else None


def _videos(frames: PosedFrames, camera_ids: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    """The frames to train on of each camera, in the order of time, where they are enough and of one size."""
    in_time = frames.train[np.argsort(frames.times[frames.train], kind="stable")]
    videos = [in_time[camera_ids[in_time] == camera] for camera in np.unique(camera_ids[in_time])]
    sizes = frames.images.image_sizes
    return [video for video in videos if len(video) >= FEWEST_FRAMES and (sizes[video] == sizes[video[0]]).all()]


def _of_video(frames: PosedFrames, video: npt.NDArray[Any]) -> SeedPoints:
    from page4d_hf.reconstruction.cameras.bundle_adjustment import projections, triangulate
    from page4d_hf.reconstruction.tracks import REFERENCE_WIDTH, Corners, track_points, without_hidden

    # Tracks are of the capture's own images, however small those are that are trained on.
    capture = frames.images.capture
    factor = max(1, round(int(capture.image_sizes[video[0], 0]) / WIDTH)) * capture.image_downscale
    images = as_pinhole(capture, factor)
    scale = frames.images.image_sizes[video[0]] / images.image_sizes[video[0]]
    width = frames.images.image_sizes[video[0], 0]
    tracks = track_points((images.load_image(index) for index in video), choice=Corners(QUALITY, SPACING, MOST_CORNERS))
    tracks = without_hidden(tracks, (images.load_use(index) for index in video))
    if not len(tracks):
        return SeedPoints.none()
    matrices, extrinsics = frames.intrinsics[video][tracks.frame], frames.extrinsics[video]
    focal, center = matrices[:, [0, 1], [0, 1]], matrices[:, :2, 2]
    rays = (tracks.xy * scale - center) / focal
    points = triangulate(tracks, rays, extrinsics)
    errors = np.linalg.norm(projections(tracks, extrinsics, points) - rays, axis=1)
    errors *= focal.mean(axis=1) * (REFERENCE_WIDTH / width)
    kept = (
        np.isfinite(points).all(axis=1)
        & (tracks.medians(errors) <= MOST_ERROR)
        & np.isfinite(np.bincount(tracks.track, errors, len(tracks)))  # in front of every camera
        & (_angle_to_first_ray(tracks, extrinsics, points) >= LEAST_PARALLAX)
    )
    colors = np.zeros((len(tracks), 3), np.uint8)
    first = np.unique(tracks.first_rows())
    for place, index in enumerate(video):
        rows = first[tracks.frame[first] == place]
        x, y = tracks.xy[rows].astype(int).T
        colors[tracks.track[rows]] = images.load_image(index)[y, x, :3]
    return SeedPoints(points[kept], colors[kept])


def _angle_to_first_ray(tracks: Tracks, extrinsics: npt.NDArray[Any], points: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The greatest angle between a track's first ray and another of its rays, [T] in radians."""
    toward = points[tracks.track] - camera_centers(extrinsics)[tracks.frame]
    toward /= np.linalg.norm(toward, axis=1, keepdims=True)
    cosine = np.einsum("oi,oi->o", toward, toward[tracks.first_rows()])
    angles = np.zeros(len(points))
    np.maximum.at(angles, tracks.track, np.arccos(cosine.clip(-1, 1)))
    return angles
