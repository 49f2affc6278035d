"""What `page4d-data` reads, before it becomes nerfstudio's: images, cameras, times, splits and points of one scene.

The data are a scene folder, a capture, or plain frames (a video or images). A folder of another program with
nerfstudio's `transforms.json` counts as a capture. Cameras and points come from the capture or from PAGE-4D. Everything
here is in one world with OpenCV axes, and raises `Page4DError` where the data are not as they should be.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from page4d_hf.captures import LAYOUTS, Capture, PinholeFrames, as_pinhole, detect_layout, read_capture
from page4d_hf.captures.layouts.nerfstudio import capture_of_scene
from page4d_hf.errors import CaptureError, FrameError, Page4DError
from page4d_hf.frames import IMAGE_SUFFIXES, VIDEO_SUFFIXES, Frames, frame_files, read_frames
from page4d_hf.scene.folder import Scene, read_scene

from ..console import note
from ..ranges import ENDLESS, FINITE, check_ranges
from .path_alignment import align_paths
from .posed_frames import FrameDepth, PosedFrames
from .ready_reconstruction import ready_reconstruction
from .reconstruction_cache import digest_files, reconstruct_once
from .seed_points import SeedPoints
from .starting_points import (
    points_before_cameras,
    points_of_capture,
    points_of_capture_depth,
    points_of_reconstruction,
    points_seen_in,
)

if TYPE_CHECKING:
    from .dataparser import Page4DDataParserConfig

MAX_AUTO_SIDE = 1600  # pixels; what nerfstudio's own dataparsers use


FARTHEST = 1e9  # units from the origin, of cameras and points: single precision takes their squares

# Least and most of options that are numbers.
RANGES = {
    "downscale_factor": (1, FINITE),
    "max_points": (1, ENDLESS),
    "num_random_points": (1, 10**7),
    "eval_interval": (0, ENDLESS),
    "max_frames": (1, ENDLESS),
    "scale_factor": (1e-9, 1e9),
    "scene_scale": (1e-9, 1e9),
}


class Source(NamedTuple):
    """What lies at a path."""

    kind: Literal["scene", "capture", "frames"]
    layout: str | None = None  # of a capture


def read_source(config: Page4DDataParserConfig) -> PosedFrames:
    """Read the data that a configuration names.

    Raises:
        Page4DError: the data are missing or damaged, or the options do not fit them.
    """
    _check_options(config)
    source = find_source(config.data, config.layout)
    frames = _read(source, config)
    _refuse_far_cameras(frames.extrinsics, frames.intrinsics, config.data)  # PAGE-4D's, or moved by a Sim(3)
    reached = _in_reach(frames.points.positions, config.data)
    if not reached.all():
        frames.points = frames.points.take(reached)
    return frames


def _read(source: Source, config: Page4DDataParserConfig) -> PosedFrames:
    if source.kind == "frames":
        return _read_frames(config)
    if source.kind == "capture":
        capture = read_capture(config.data, source.layout, _whole(config.downscale_factor))
        factor = _downscale_factor(config, capture)
        if factor > capture.image_downscale:  # there may be smaller images to start from
            capture = read_capture(config.data, source.layout, factor)
        for sentence in capture.notes:
            note(sentence)
        return _read_capture(capture, capture.times, config)
    scene = read_scene(config.data)
    if not scene.info:
        return _read_capture(capture_of_scene(scene), scene.times, config)
    scene = _without_far_points(scene)
    if config.points == "random" or scene.points is None or scene.point_colors is None:
        return _read_scene(scene, None, config)
    stored = SeedPoints(scene.points, scene.point_colors, scene.point_times, scene.point_dynamics)
    return _read_scene(scene, stored, config)


def _without_far_points(data: Any) -> Any:
    """A `Capture` or `Scene` without those of its points that are too far away to compute with.

    Raises:
        CaptureError: all of them are, or a camera is.
    """
    _refuse_far_cameras(data.extrinsics, data.intrinsics, data.root)
    if data.points is None:
        return data
    reached = _in_reach(data.points, data.root)
    if reached.all():
        return data
    names = ("points", "point_colors", "point_dynamics", "point_times", "point_confidence")
    known = {name: getattr(data, name, None) for name in names}
    return replace(data, **{name: values[reached] for name, values in known.items() if values is not None})


def _refuse_far_cameras(extrinsics: np.ndarray, intrinsics: np.ndarray, where: Path) -> None:
    far = ~(np.abs(extrinsics[:, :3, 3]) <= FARTHEST).all(axis=1)
    if far.any():
        raise CaptureError(
            f"Camera {int(far.argmax())} of {where} is more than {FARTHEST:g} units from the origin; scale the data."
        )
    if not (np.abs(intrinsics) <= FARTHEST).all():
        raise CaptureError(f"A camera of {where} has a focal length or centre of more than {FARTHEST:g} pixels.")


def _in_reach(points: np.ndarray, where: Path) -> np.ndarray:
    """Which points [M] are near enough to compute with; says how many are not, and raises where none is."""
    reached: np.ndarray = (np.abs(points) <= FARTHEST).all(axis=1)
    if len(points) > 0 and not reached.any():
        raise CaptureError(f"All points of {where} are more than {FARTHEST:g} units from the origin; scale the data.")
    if not reached.all():
        note(f"{int((~reached).sum())} points of {where} are left out: more than {FARTHEST:g} units from the origin")
    return reached


def find_source(data: Path, layout: str = "auto") -> Source:
    """Tell what lies at a path, or what to take it for.

    Args:
        data: a file, a folder or a glob.
        layout: "auto" looks; "scene", "frames" or the name of a capture's layout is taken at its word.

    Raises:
        Page4DError: nothing is there, or nothing of a known kind.
    """
    _require(data)
    if layout == "scene":
        return Source("scene")
    if layout == "auto" and data.is_file() and data.suffix.lower() not in VIDEO_SUFFIXES | IMAGE_SUFFIXES:
        raise Page4DError(f"Cannot tell what {data} is: neither a video nor an image of a kind that is read.")
    if layout == "frames" or (layout == "auto" and not data.is_dir()):
        return Source("frames")
    if layout != "auto":
        return Source("capture", layout)
    if (data / "transforms.json").is_file():
        return Source("scene")
    found = detect_layout(data)
    if found is not None:
        return Source("capture", found)
    try:
        frame_files(data)
    except FrameError as error:
        raise Page4DError(
            f"Cannot tell what {data} is: expected a scene folder (with transforms.json), a capture "
            f"({'; '.join(layout.looks for layout in LAYOUTS.values())}), a video, or a folder of images. {error}"
        ) from error
    return Source("frames")


def place_of(data: Path) -> Path:
    """Where data lie: themselves, or the folder of the images that a glob names."""
    while glob.has_magic(str(data)) and not data.exists():
        data = data.parent
    return data


def absolute(data: Path) -> Path:
    """Where data lie, said so that it holds from any folder, as in a training's config.yml.

    A link keeps its name, and a glob its stars.

    Raises:
        Page4DError: nothing is there.
    """
    place = Path(os.path.abspath(data.expanduser()))
    _require(place)
    return place


def _require(data: Path) -> None:
    try:
        there = os.path.lexists(data) and data.exists()
    except (OSError, ValueError) as error:  # too long, a null byte, a loop of links
        raise Page4DError(f"{str(data)!r:.200} is no name that data can have: {error}.") from error
    if not there and not glob.has_magic(str(data)):
        raise Page4DError(f"There is no {data}; name a scene folder, a capture, a video or images.")


def hold_out(frames: np.ndarray, interval: int) -> tuple[np.ndarray, np.ndarray]:
    """Split frames into those to train on and every `interval`-th, held out.

    The first held-out frame lies half an interval in: a video's first moment has no neighbour to be told from.

    Args:
        frames: at least 2 indices, in order of time.
        interval: 0 holds nothing out and evaluates on the frames that are trained on. So do fewer than 3 frames,
            whatever it is: a single image would be left to train on.
    """
    if interval == 0 or len(frames) < 3:
        return frames, frames
    held_out = np.arange(min(interval // 2, len(frames) // 2), len(frames), interval)
    return np.delete(frames, held_out), frames[held_out]


# --------------------------------------------------------------------------------------------------------------------
# Scene folders, videos and images: PAGE-4D's cameras


def _read_frames(config: Page4DDataParserConfig) -> PosedFrames:
    _refuse_capture("--cameras", config.cameras, "a video or plain images have no cameras of their own")
    files = frame_files(config.data)
    if files[0].suffix.lower() not in VIDEO_SUFFIXES:
        _refuse_a_single_frame(len(files), config.data)
    digest = digest_files(files, [path.name for path in files], config.fps, config.max_frames)

    def read() -> Frames:
        frames = read_frames(config.data, fps=config.fps, max_frames=config.max_frames)
        _refuse_a_single_frame(len(frames), config.data)
        return frames

    return _read_scene(_reconstructed(read, digest, config), None, config)


def _read_scene(scene: Scene, points: SeedPoints | None, config: Page4DDataParserConfig) -> PosedFrames:
    """A scene of PAGE-4D's, with the points that it stores or, where None are given, those of its depth or random."""
    _refuse_capture("--cameras", config.cameras, "the cameras of a scene folder are PAGE-4D's")
    _refuse_capture("--points", config.points, "only a capture has points of its own")
    _refuse_a_single_frame(len(scene), config.data)
    capture = capture_of_scene(scene)
    images = as_pinhole(capture, _downscale_factor(config, capture))
    train, evaluation = hold_out(np.arange(len(scene)), config.eval_interval)
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
    if points is not None:
        frames.points = points_seen_in(points, scene.times, train).thinned(config.max_points)
    elif config.points == "random":
        frames.points = points_before_cameras(frames, config, known=scene.points)
    else:
        frames.points = points_of_reconstruction(scene, train, 1.0, frames, config)
    return frames


# --------------------------------------------------------------------------------------------------------------------
# Captures: their own cameras, or PAGE-4D's


def _read_capture(capture: Capture, times: np.ndarray, config: Page4DDataParserConfig) -> PosedFrames:
    capture = _without_far_points(capture)
    train, evaluation = _splits(capture, config)
    has_depth = capture.depth_paths is not None and any(capture.depth_paths[i] is not None for i in train)
    if config.points == "capture" and capture.points is None and not has_depth:
        raise CaptureError(
            f"The capture {capture.root} has no points of its own and no depth; pass --points page4d or random."
        )
    if config.points == "depth" and not has_depth:
        raise CaptureError(f"The capture {capture.root} has no depth; pass --points capture, page4d or random.")
    images = as_pinhole(capture, _downscale_factor(config, capture))
    by_page4d = config.cameras == "page4d"
    kind = config.points
    if kind == "auto":
        kind = "page4d" if by_page4d else _available_points(capture, has_depth, config)

    extrinsics, intrinsics, depth_scale, seen = capture.extrinsics, images.intrinsics, 1.0, train
    depth: FrameDepth | None = images.load_depth if has_depth and not by_page4d else None
    path_error = None
    if by_page4d and config.held_out_cameras == "capture":
        scene = _reconstructed_capture(capture, times, images, train, config)
        seen = np.arange(len(train))
        similarity, path_error = align_paths(extrinsics[train], scene.extrinsics, turns=True)
        extrinsics, intrinsics = similarity.apply_to_extrinsics(extrinsics), intrinsics.copy()
        extrinsics[train], intrinsics[train] = scene.extrinsics, scene.intrinsics
    elif by_page4d:
        # All frames get a camera, so that the held-out ones can be compared; points come from the others alone.
        scene = _reconstructed_capture(capture, times, images, np.arange(len(capture)), config)
        extrinsics, intrinsics = scene.extrinsics, scene.intrinsics
    elif kind == "page4d":
        scene = _reconstructed_capture(capture, times, images, train, config)
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
        path_error,
    )
    if kind == "page4d":
        frames.points = points_of_reconstruction(scene, seen, depth_scale, frames, config)
    elif kind == "random" and by_page4d:
        frames.points = points_before_cameras(frames, config, known=scene.points)
    elif kind == "random":
        near_far = None if capture.near is None or capture.far is None else (capture.near, capture.far)
        frames.points = points_before_cameras(frames, config, depth_range=near_far, known=capture.points)
    else:
        if capture.points is not None and kind != "depth":
            frames.points = points_of_capture(capture).thinned(config.max_points)
        else:
            frames.points = points_of_capture_depth(capture, images, times, train, config)
        if by_page4d:
            similarity, frames.path_error = align_paths(capture.extrinsics[train], extrinsics[train], turns=True)
            moved = similarity.apply_to_points(frames.points.positions.astype(np.float64))
            frames.points.positions = moved.astype(np.float32)
    return frames


def _splits(capture: Capture, config: Page4DDataParserConfig) -> tuple[np.ndarray, np.ndarray]:
    train = capture.splits.get("train", np.arange(len(capture)))
    _refuse_a_single_frame(len(train), capture.root)
    chosen = capture.evaluation_split if config.held_out == "auto" else config.held_out
    evaluation = capture.splits.get(chosen)
    if evaluation is not None and len(evaluation) > 0:
        return train, evaluation
    if config.held_out != "auto":
        known = ", ".join(name for name, frames in capture.splits.items() if len(frames)) or "no splits"
        raise CaptureError(f"{capture.root} has no frames of the split {chosen!r} for --held-out; it has: {known}.")
    rest, evaluation = hold_out(train, config.eval_interval)
    if len(rest) == len(train):
        note(f"{capture.root} names no frames to evaluate on, and none is held out: what is trained on is evaluated")
    else:
        note(f"{capture.root} names no frames to evaluate on; every {config.eval_interval}th of the others is held out")
    return rest, evaluation


def _available_points(
    capture: Capture, has_depth: bool, config: Page4DDataParserConfig
) -> Literal["capture", "page4d", "random"]:
    if capture.points is not None:
        return "capture"
    if has_depth:
        note(f"{capture.root} has no points of its own; starting from its depth")
        return "capture"
    kind: Literal["page4d", "random"] = "page4d" if config.model else "random"
    note(f"{capture.root} has no points of its own; starting from {kind} points")
    return kind


def _reconstructed_capture(
    capture: Capture, times: np.ndarray, images: PinholeFrames, chosen: np.ndarray, config: Page4DDataParserConfig
) -> Scene:
    """PAGE-4D's reconstruction of the chosen frames, undistorted and scaled; or the one that was given."""
    if config.reconstruction is not None:
        ids = [capture.frame_ids[i] for i in chosen]
        return ready_reconstruction(config.reconstruction, ids, times[chosen], images.image_sizes[chosen])
    digest = digest_files(
        [capture.image_paths[i] for i in chosen],
        [capture.frame_ids[i] for i in chosen],
        [values[chosen].tolist() for values in (capture.intrinsics, capture.distortion, times)],
        images.image_sizes[chosen].tolist(),
    )

    def read() -> Frames:
        return Frames(
            images=[images.load_image(i) for i in chosen],
            names=[capture.frame_ids[i] for i in chosen],
            times=times[chosen],
            paths=None,  # the files hold distorted images
            source=str(capture.root),
        )

    return _reconstructed(read, digest, config)


@dataclass(frozen=True)
class _ReconstructedDepth:
    """PAGE-4D's depth as a capture's `FrameDepth`. A class and no closure: data sets are pickled."""

    scene: Scene
    places: dict[int, int]  # from a frame of the capture to one of the scene
    scale: float

    def __call__(self, index: int) -> np.ndarray | None:
        if index not in self.places:
            return None
        return self.scene.load_depth(self.places[index]) * np.float32(self.scale)


# --------------------------------------------------------------------------------------------------------------------
# What the parts above share


def _reconstructed(read: Callable[[], Frames], digest: str, config: Page4DDataParserConfig) -> Scene:
    return reconstruct_once(
        read,
        digest,
        model=config.model,
        resolution=config.resolution,
        use_mask=config.use_mask,
        cache_dir=config.cache_dir,
    )


def _downscale_factor(config: Page4DDataParserConfig, capture: Capture) -> int:
    """How many times smaller than the capture's full size images shall be."""
    if config.downscale_factor is not None:
        return int(config.downscale_factor)
    factor = 1
    while capture.image_sizes.max() / factor > MAX_AUTO_SIDE:
        factor *= 2
    return factor * capture.image_downscale


def _whole(factor: float | None) -> int | None:
    return None if factor is None else int(factor)


def _check_options(config: Page4DDataParserConfig) -> None:
    check_ranges(config, RANGES)
    # `ns-render dataset --downscale-factor` hands over a float.
    if config.downscale_factor is not None and config.downscale_factor != int(config.downscale_factor):
        raise Page4DError(f"--downscale-factor must be a whole number, got {config.downscale_factor}.")
    if not 0 <= config.confidence_percentile < 100:
        raise Page4DError(f"--confidence-percentile must be from 0 to below 100, got {config.confidence_percentile:g}.")
    if config.reconstruction is not None and not config.use_mask:
        raise Page4DError(
            "--use-mask False says how --model is run, and --reconstruction has been made: name one that was made so."
        )
    if config.eval_interval == 1:
        raise Page4DError("--eval-interval 1 would hold out every frame; take 2 or more, or 0 to hold out none.")


def _refuse_a_single_frame(count: int, source: Path) -> None:
    if count < 2:
        raise FrameError(
            f"A 4D scene is trained on at least 2 frames, and {source} gives {count}; "
            "add frames, or use `page4d reconstruct` alone."
        )


def _refuse_capture(option: str, value: str, reason: str) -> None:
    if value == "capture":
        raise Page4DError(f"{option} capture does not fit the data: {reason}; leave it at auto.")
