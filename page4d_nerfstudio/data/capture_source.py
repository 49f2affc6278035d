"""A capture, with cameras of its own or PAGE-4D's, whose points, depth and held-out frames it may have."""

from __future__ import annotations

import filecmp
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt

from page4d_hf.captures import Capture, PinholeFrames, as_pinhole, read_capture
from page4d_hf.errors import CaptureError
from page4d_hf.frames import Frames
from page4d_hf.scene.folder import Scene
from page4d_hf.utils.lazy_images import LazyImages

from ..console import note
from .limits import refuse_a_single_frame, size_factor, without_far_points
from .motion_tracks import tracks_of_scene
from .path_alignment import align_paths
from .posed_frames import FrameDepth, PosedFrames, hold_out
from .ready_reconstruction import ready_reconstruction
from .reconstruction_cache import Reconstruct, digest_files
from .scene_source import SceneOptions
from .seed_points import SeedPoints
from .starting_points import (
    points_before_cameras,
    points_of_capture,
    points_of_capture_depth,
    points_of_reconstruction,
    points_of_tracks_or_random,
)


@dataclass(frozen=True)
class CaptureOptions(SceneOptions):
    """What `page4d-data` asks of a capture; see the options of the same names."""

    held_out: Literal["auto", "val", "test"] = "auto"
    cameras: Literal["auto", "capture", "page4d"] = "auto"
    held_out_cameras: Literal["page4d", "capture"] = "page4d"
    reconstruction: Path | None = None
    has_model: bool = False  # whether PAGE-4D can give points where there are no others


def open_capture(data: Path, layout: str | None, downscale_factor: int | None) -> Capture:
    """Read a capture, with the smallest of its images that are large enough."""
    capture = read_capture(data, layout, downscale_factor)
    factor = size_factor(capture, downscale_factor)
    if factor > capture.image_downscale:  # there may be smaller images to start from
        capture = read_capture(data, layout, factor)
    return capture


def frames_of_capture(capture: Capture, options: CaptureOptions, reconstruct: Reconstruct) -> PosedFrames:
    """The frames of a capture, with its own cameras or PAGE-4D's; the reader's notes are told."""
    for sentence in capture.notes:
        note(sentence)
    capture = without_far_points(capture)
    times, seeds = capture.times, options.seeds
    train, evaluation = _splits(capture, options)
    has_depth = capture.depth_paths is not None and any(capture.depth_paths[i] is not None for i in train)
    if seeds.points == "capture" and capture.points is None and not has_depth:
        raise CaptureError(
            f"The capture {capture.root} has no points of its own and no depth; pass --points tracks, page4d or random."
        )
    if seeds.points == "depth" and not has_depth:
        raise CaptureError(f"The capture {capture.root} has no depth; pass --points capture, tracks, page4d or random.")
    images = as_pinhole(capture, size_factor(capture, options.downscale_factor))
    by_page4d = options.cameras == "page4d"
    kind = seeds.points
    if kind == "auto":
        kind = "page4d" if by_page4d else _available_points(capture, has_depth, options.has_model)

    if options.tracks == "capture" and (capture.tracks is None or by_page4d):
        raise CaptureError(
            f"--tracks capture does not fit the data: {capture.root} has "
            f"{'no tracks' if capture.tracks is None else 'tracks in the world of its own cameras'}; leave it at auto."
        )

    def reconstructed(chosen: npt.NDArray[Any]) -> Scene:
        order = _as_videos(capture, chosen, train)
        scene = _reconstructed(capture, images, chosen[order], options.reconstruction, reconstruct)
        return scene.take(np.argsort(order))

    extrinsics, intrinsics, depth_scale, seen = capture.extrinsics, images.intrinsics, 1.0, train
    depth: FrameDepth | None = images.load_depth if has_depth and not by_page4d else None
    path_error = None
    if by_page4d and options.held_out_cameras == "capture":
        scene = reconstructed(train)
        seen = np.arange(len(train))
        similarity, path_error = align_paths(extrinsics[train], scene.extrinsics, turns=True)
        extrinsics, intrinsics = similarity.apply_to_extrinsics(extrinsics), intrinsics.copy()
        # Where PAGE-4D sees a longer lens than the capture's, its world is seen right by a longer one.
        intrinsics[:, :2, :2] *= np.median(scene.intrinsics[:, 0, 0] / intrinsics[train, 0, 0])
        extrinsics[train], intrinsics[train] = scene.extrinsics, scene.intrinsics
    elif by_page4d:
        # All frames get a camera, so that the held-out ones can be compared; points come from the others alone.
        scene = reconstructed(np.arange(len(capture)))
        extrinsics, intrinsics = scene.extrinsics, scene.intrinsics
    elif kind == "page4d" or options.tracks == "page4d":
        scene = reconstructed(train)
        seen = np.arange(len(train))
        similarity, path_error = align_paths(scene.extrinsics, extrinsics[train])
        depth_scale = similarity.scale

    if depth is None and (by_page4d or kind == "page4d"):
        depth = _ReconstructedDepth(scene, dict(zip(train.tolist(), seen.tolist(), strict=True)), depth_scale)
    frames = PosedFrames(
        images,
        capture.image_paths,
        extrinsics,
        intrinsics,
        times,
        train,
        evaluation,
        SeedPoints.none(),
        depth,
        path_error=path_error,
    )
    if options.tracks == "page4d" or (options.tracks == "auto" and by_page4d):
        frames.tracks = tracks_of_scene(scene, seen, depth_scale, frames)
        frames.tracks_asked_for = options.tracks == "page4d"
    elif options.tracks in ("auto", "capture"):
        frames.tracks = capture.tracks
    near, far = (None, None) if by_page4d else (capture.near, capture.far)
    depth_range = None if near is None or far is None else (near, far)
    if kind == "page4d":
        frames.points = points_of_reconstruction(scene, seen, depth_scale, frames, seeds)
    elif kind == "tracks":
        frames.points = points_of_tracks_or_random(frames, capture.camera_ids, seeds, depth_range)
    elif kind == "random":
        known = scene.points if by_page4d else capture.points
        frames.points = points_before_cameras(frames, seeds.num_random_points, depth_range=depth_range, known=known)
    else:
        if capture.points is not None and kind != "depth":
            frames.points = points_of_capture(capture).thinned(seeds.max_points)
        else:
            frames.points = points_of_capture_depth(capture, frames, seeds.max_points)
        if by_page4d:
            similarity, frames.path_error = align_paths(capture.extrinsics[train], extrinsics[train], turns=True)
            frames.points.positions = similarity.apply_to_points(frames.points.positions.astype(np.float64))
    return frames


def _splits(capture: Capture, options: CaptureOptions) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    train = capture.splits.get("train", np.argsort(capture.times, kind="stable"))
    refuse_a_single_frame(len(train), capture.root)
    chosen = capture.evaluation_split if options.held_out == "auto" else options.held_out
    evaluation = capture.splits.get(chosen)
    if evaluation is not None and len(evaluation) > 0:
        shared = _seen_in_training(capture, train, evaluation)
        if shared:
            note(
                f"{shared} of the {len(evaluation)} frames to evaluate on are trained on too (the same image, camera "
                "and time): figures of `ns-eval` do not say how well new views are rendered"
            )
        return train, evaluation
    if options.held_out != "auto":
        known = ", ".join(name for name, frames in capture.splits.items() if len(frames)) or "no splits"
        raise CaptureError(f"{capture.root} has no frames of the split {chosen!r} for --held-out; it has: {known}.")
    in_time = train[np.argsort(capture.times[train], kind="stable")]  # files list them in any order
    rest, evaluation = hold_out(in_time, options.eval_interval)
    if len(rest) == len(train):
        note(f"{capture.root} names no frames to evaluate on, and none is held out: what is trained on is evaluated")
    else:
        note(
            f"{capture.root} names no frames to evaluate on; every {options.eval_interval}th of the others is held out"
        )
    return rest, evaluation


def _seen_in_training(capture: Capture, train: npt.NDArray[Any], evaluation: npt.NDArray[Any]) -> int:
    """How many frames to evaluate on are also among those to train on, as the same files or as copies of them."""

    def view(index: int) -> bytes:
        return b"".join((capture.extrinsics[index].round(6).tobytes(), capture.times[index].round(6).tobytes()))

    trained: dict[bytes, list[Path]] = {}
    for index in train:
        trained.setdefault(view(index), []).append(capture.image_paths[index])
    return sum(
        any(path.samefile(other) or filecmp.cmp(path, other, shallow=False) for other in trained.get(view(index), ()))
        for index, path in ((index, capture.image_paths[index]) for index in evaluation)
    )


def _available_points(capture: Capture, has_depth: bool, has_model: bool) -> Literal["capture", "page4d", "tracks"]:
    if capture.points is not None:
        return "capture"
    if has_depth:
        note(f"{capture.root} has no points of its own; starting from its depth")
        return "capture"
    if has_model:
        note(f"{capture.root} has no points of its own; starting from PAGE-4D's")
    return "page4d" if has_model else "tracks"


def _as_videos(capture: Capture, frames: npt.NDArray[Any], train: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Places `(n,)` of frames in the order in which PAGE-4D sees them: that of time, as tracks, motion and windows go
    from each frame to the next.

    Of a rig, whose cameras share instants, the frames to train on come first, and each camera is a video of its own.
    """
    times, held_out = capture.times[frames], ~np.isin(frames, train)
    if not _shares_instants(times):
        return np.argsort(times, kind="stable")
    device = capture.camera_ids[frames].copy()
    for part in (held_out, ~held_out):
        if not _shares_instants(times[part]):  # such as a video that takes its frames from the cameras in turn
            device[part] = 0
    return cast(npt.NDArray[Any], np.lexsort((times, device, held_out)))


def _shares_instants(times: npt.NDArray[Any]) -> bool:
    return len(np.unique(times)) < len(times)


def _reconstructed(
    capture: Capture, images: PinholeFrames, chosen: npt.NDArray[Any], ready: Path | None, reconstruct: Reconstruct
) -> Scene:
    """PAGE-4D's reconstruction of the chosen frames, undistorted and scaled; or the one that lies there ready."""
    times = capture.times
    if ready is not None:
        ids = [capture.frame_ids[i] for i in chosen]
        return ready_reconstruction(ready, ids, times[chosen], images.image_sizes[chosen])
    fisheye = () if capture.fisheye is None else (capture.fisheye,)
    digest = digest_files(
        [capture.image_paths[i] for i in chosen],
        [capture.frame_ids[i] for i in chosen],
        [values[chosen].tolist() for values in (capture.intrinsics, capture.distortion, times, *fisheye)],
        images.image_sizes[chosen].tolist(),
    )

    def read() -> Frames:
        return Frames(
            images=LazyImages.read(chosen.tolist(), lambda indices: map(images.load_image, indices)),
            names=[capture.frame_ids[i] for i in chosen],
            times=times[chosen],
            paths=None,  # the files hold distorted images
            source=str(capture.root),
        )

    return reconstruct(read, digest)


@dataclass(frozen=True)
class _ReconstructedDepth:
    """PAGE-4D's depth as a capture's `FrameDepth`. A class and no closure: data sets are pickled."""

    scene: Scene
    places: dict[int, int]  # from a frame of the capture to one of the scene
    scale: float

    def __call__(self, index: int) -> npt.NDArray[Any] | None:
        if index not in self.places:
            return None
        return self.scene.load_depth(self.places[index]) * np.float32(self.scale)
