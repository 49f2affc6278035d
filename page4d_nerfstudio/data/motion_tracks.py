"""Tracks of moving things, from a capture, a reconstruction or the user, at the training frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from page4d_hf.errors import Page4DError
from page4d_hf.geometry import camera_centers, project_points
from page4d_hf.reconstruction.paths import FEWEST_FRAMES, FrameCameras, complete_paths, lift_tracks
from page4d_hf.scene.folder import Scene
from page4d_hf.scene.tracks import PointTracks, read_tracks
from page4d_hf.scene.transforms_json import with_slashes

from ..console import note
from ..gaussians.scaffold import FEWEST_TRACKS, MotionScaffold
from .posed_frames import PosedFrames

TRACK_SOURCES = ("auto", "capture", "page4d", "off")  # values of --tracks that are no file
# Pixels, for images 320 wide: a track moves that no fixed point explains within them, in the median over its frames.
MOVES = 1.5
# See `error_of_prediction`. Above it motion starts worse than from nothing: of four scenes, those of .46 and .56 gained
# 1.7 dB in moving regions, those of .70 and .99 lost.
MOST_ERROR = 0.6
AHEAD = 3, 8  # frames
FAR = 0.05  # radians
# Of the distance from the cameras: the mean way from its middle that a reconstruction's tracks go, to be taken unasked.
# The demo's go .1 and gain; where they went .04, less than depth is off by, motion that colour alone found was better.
LEAST_WAY = 0.06
MOST_OFF = 16.0  # of what a file says of its tracks' places in the world, in the same pixels


class MotionPaths(NamedTuple):
    """Paths of points that move, smooth and without gaps."""

    positions: npt.NDArray[Any]  # [K, T, 3] float32 in the world of the cameras
    times: npt.NDArray[Any]  # [T] in [0, 1], rising


def motion_paths(frames: PosedFrames) -> MotionPaths | None:
    """The paths of what moves, by what the frames to train on show; None where too few tracks say it."""
    tracks = frames.tracks
    if tracks is None:
        return None
    times, instant = np.unique(frames.times[frames.train], return_inverse=True)
    paths = np.zeros((len(tracks), len(times), 3))
    seen = np.zeros((len(tracks), len(times), 1))
    if tracks.paths is not None:
        for place, frame in zip(instant, frames.train, strict=True):  # cameras of a rig share instants
            known = np.isfinite(tracks.paths[:, frame]).all(axis=1)
            paths[known, place] += tracks.paths[known, frame]
            seen[known, place] += 1
    paths = np.where(seen > 0, paths / np.maximum(seen, 1), np.nan)
    complete = complete_paths(paths)
    if len(complete) < FEWEST_TRACKS:
        note(
            f"{len(complete)} of {len(tracks)} tracks follow something that moves through {FEWEST_FRAMES} frames, and "
            f"{FEWEST_TRACKS} are needed: going on without tracks"
        )
        return None
    centers = camera_centers(frames.extrinsics[frames.train])
    centers = np.stack([centers[instant == t].mean(0) for t in range(len(times))])
    if not frames.tracks_asked_for and (way := _mean_way(complete, centers)) < LEAST_WAY:
        note(
            f"tracks are left out: what moves goes {way:.1%} of its distance from the camera, and {LEAST_WAY:.0%} "
            "is where they begin to help; `page4d-data --tracks page4d` takes them anyway"
        )
        return None
    error = error_of_prediction(paths, times, centers)
    if error > MOST_ERROR:
        note(
            f"tracks are left out: they predict each other with an error of {error:.0%} of standing still, and at "
            f"most {MOST_ERROR:.0%} helps: they are too short, or depth is too poor"
        )
        return None
    note(f"motion starts from {len(complete):,} tracks")
    return MotionPaths(complete, times)


def error_of_prediction(paths: npt.NDArray[Any], times: npt.NDArray[Any], centers: npt.NDArray[Any]) -> float:
    """How well half of the tracks tell where the others go (cross-validation): what noise alone does not.

    Args:
        paths: `(K, T, 3)` in the world, NaN where unknown.
        times: `(T,)` in [0, 1], rising.
        centers: `(T, 3)` of the cameras.

    Returns:
        The mean error over a few frames, as cameras see it and of at most `FAR` radians, over that of standing still; 0
        where tracks are too few to tell.
    """
    known = np.isfinite(paths).all(axis=2)
    usable = np.flatnonzero(known.sum(axis=1) >= FEWEST_FRAMES)
    errors: list[npt.NDArray[Any]] = []
    for half in (0, 1):
        complete, others = complete_paths(paths[usable[half::2]]), usable[1 - half :: 2]
        if len(complete) < FEWEST_TRACKS:
            return 0.0
        scaffold = MotionScaffold.of_paths(complete, times)
        for start in range(0, len(times) - 1, 2):
            for end in {min(start + ahead, len(times) - 1) for ahead in AHEAD}:
                both = others[known[others, start] & known[others, end]]
                before, after, center = (
                    torch.from_numpy(places).float() for places in (paths[both, start], paths[both, end], centers[end])
                )
                moved, _ = scaffold(scaffold.to_canonical(before, float(times[start])), float(times[end]))
                ray = F.normalize(after - center, dim=1)
                off = [(F.normalize(points - center, dim=1) - ray).norm(dim=1) for points in (moved, before)]
                errors.append(torch.stack(off).clamp(max=FAR).numpy())
    predicted, still = np.concatenate(errors, axis=1).sum(axis=1) if errors else (0.0, 0.0)
    return float(predicted / max(still, 1e-12))


def _mean_way(paths: npt.NDArray[Any], centers: npt.NDArray[Any]) -> float:
    """How far points go from the middle of their paths `(K, T, 3)`, over their distance from cameras at `(T, 3)`."""
    way = np.linalg.norm(paths - np.median(paths, axis=1, keepdims=True), axis=2)
    return float((way / np.linalg.norm(paths - centers, axis=2)).mean())


def tracks_of_scene(
    scene: Scene, seen: npt.NDArray[Any], depth_scale: float, frames: PosedFrames
) -> PointTracks | None:
    """A reconstruction's tracks, placed by the cameras of the frames to train on, which are its frames `seen`.

    Depth is along the rays of the frame that saw it: what lies before a camera stays before it and at its pixel,
    whatever pose and lens the camera has. Pixels that masks leave out give no path, as they give no points.
    `depth_scale` is from the reconstruction's scale to that of the cameras.
    """
    tracks = scene.load_tracks()
    if tracks is None or tracks.paths is None:
        return None
    count = len(frames.times)
    paths = np.full((len(tracks), count, 3), np.nan)
    for index, frame in zip(seen, frames.train, strict=True):
        old, new = scene.extrinsics[index], frames.extrinsics[frame]
        size = frames.images.image_sizes[frame]
        factor = size / scene.image_sizes[index]
        same_pixel = np.linalg.solve(frames.intrinsics[frame], np.diag([*factor, 1]) @ scene.intrinsics[index])
        in_camera = (tracks.paths[:, index] @ old[:, :3].T + old[:, 3]) @ same_pixel.T * depth_scale
        use = frames.images.load_use(frame)
        if use is not None:
            column, row = np.nan_to_num(tracks.xy[:, index] * factor).astype(int).clip(0, size - 1).T
            in_camera[~use[row, column]] = np.nan
        paths[:, frame] = (in_camera - new[:, 3]) @ new[:, :3]
    return PointTracks(np.zeros((len(tracks), count, 2)), np.isfinite(paths).all(axis=2), tracks.points, paths)


def tracks_of_user(path: Path, frames: PosedFrames) -> PointTracks:
    """A user's file of tracks through all frames or those to train on, lifted by the data's depth.

    Positions are in pixels of the images that are trained on.
    """
    given, names = read_tracks(path)
    total, train, count = len(frames.times), frames.train, given.visible.shape[1]
    if names is not None:
        places = _places_of(names, frames.image_paths, path)
    elif count in (total, len(train)):
        places = np.arange(total) if count == total else train
    else:
        raise Page4DError(
            f"Expected tracks through the data's {total} frames or the {len(train)} to train on, and {path} has "
            f"{count}; track these frames, or name them in `images`."
        )
    xy, visible = np.zeros((len(given), total, 2), np.float32), np.zeros((len(given), total), bool)
    xy[:, places], visible[:, places] = given.xy, given.visible
    outside = visible & ((xy < 0) | (xy > frames.images.image_sizes)).any(axis=2)
    if outside.any():
        raise Page4DError(
            f"{int(outside.sum())} visible positions in {path} are outside of the images that are trained on; give "
            "pixels of these, and mark what left them as not visible."
        )
    paths = np.full((len(given), total, 3), np.nan, np.float32)
    tracks = PointTracks(xy, visible, given.points, paths)
    cameras = FrameCameras(frames.extrinsics, frames.intrinsics, frames.images.image_sizes)
    if given.paths is not None:
        paths[:, places] = given.paths
        off = _pixels_off(tracks, paths, cameras)
        usual = float(np.median(off[np.isfinite(off)])) if np.isfinite(off).any() else 0.0
        if usual > MOST_OFF:
            raise Page4DError(
                f"The `paths` in {path} are not where its `tracks` are seen: {usual:.0f} pixels off in the median, for "
                "images 320 wide; give them in the world of the data's cameras, or leave them out."
            )
        return tracks
    depth_of = frames.depth
    if depth_of is None:
        raise Page4DError(
            f"{path} has no `paths` [K, S, 3], and the data have no depth to lift its tracks by; give depth, or "
            "--points page4d with a --model."
        )
    trained = set(train.tolist())
    depth = (depth_of(index) if index in trained else None for index in range(total))  # one map at a time
    lifted = lift_tracks(tracks, depth, cameras)
    return replace(tracks, paths=np.where(_moves(tracks, lifted, cameras)[:, None, None], lifted, np.nan))


def _places_of(names: Sequence[str], image_paths: Sequence[Path], where: Path) -> npt.NDArray[np.int64]:
    """The frame that each name means: one of the same stem, with the most folders above it in common."""
    like: dict[str, list[int]] = {}
    for place, image in enumerate(image_paths):
        like.setdefault(image.stem, []).append(place)

    found: dict[int, str] = {}
    for name in names:
        path = Path(with_slashes(name))
        places = like.get(path.stem)
        if places is None:
            raise Page4DError(f"{where} has tracks through {name}, which is no frame of the data; track its frames.")
        common = [_folders_in_common(path, image_paths[place]) for place in places]
        if common.count(max(common)) > 1:
            raise Page4DError(
                f"{where} has tracks through {name}, which {common.count(max(common))} frames of the data are called; "
                "name its images with their folders."
            )
        place = places[common.index(max(common))]
        if place in found:
            raise Page4DError(
                f"{where} has tracks through {found[place]} and {name}, which are one frame of the data, "
                f"{image_paths[place]}; name each frame once."
            )
        found[place] = name
    return np.array(list(found), np.int64)


def _folders_in_common(path: Path, other: Path) -> int:
    """How many folders above two files have the same names, counted from the files."""
    pairs = zip(reversed(path.parts[:-1]), reversed(other.parts[:-1]), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _moves(tracks: PointTracks, paths: npt.NDArray[Any], cameras: FrameCameras) -> npt.NDArray[Any]:
    """Which tracks [K] bool move: the middle of their path does not explain where they are seen."""
    known = np.isfinite(paths).all(axis=2, keepdims=True)
    some = known.any(axis=(1, 2))
    middle = np.full((len(paths), 1, 3), np.nan)
    middle[some] = np.nanmedian(paths[some], axis=1, keepdims=True)
    errors = _pixels_off(tracks, np.where(known, middle, np.nan), cameras)
    moves = np.zeros(len(paths), bool)
    some &= np.isfinite(errors).any(axis=1)
    moves[some] = np.nanmedian(errors[some], axis=1) > MOVES
    return moves


def _pixels_off(tracks: PointTracks, paths: npt.NDArray[Any], cameras: FrameCameras) -> npt.NDArray[Any]:
    """How far from paths [K, N, 3] tracks are seen, [K, N] in pixels of images 320 wide; NaN where not visible."""
    seen, _ = project_points(*(torch.from_numpy(each).double() for each in (paths.swapaxes(0, 1), *cameras[:2])))
    off = np.linalg.norm(seen.numpy().swapaxes(0, 1) - tracks.xy, axis=2) * 320 / cameras.image_sizes[:, 0]
    return np.where(tracks.visible, off, np.nan)
