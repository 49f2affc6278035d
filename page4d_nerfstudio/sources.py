"""What `page4d-data` reads, before it becomes nerfstudio's: images, cameras, times, splits and points of one scene.

The data are a scene folder, a capture, or plain frames (a video or images). A folder of another program with
nerfstudio's `transforms.json` counts as a capture. Cameras and points come from the capture or from PAGE-4D. Everything
here is in one world with OpenCV axes, and raises `Page4DError` where the data are not as they should be.
"""

from __future__ import annotations

import glob
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import torch

from page4d_hf.captures import LAYOUTS, Capture, PinholeFrames, as_pinhole, detect_layout, read_capture
from page4d_hf.captures.nerfstudio import capture_of_scene
from page4d_hf.errors import CaptureError, FrameError, Page4DError
from page4d_hf.frames import IMAGE_SUFFIXES, VIDEO_SUFFIXES, Frames, frame_files, read_frames
from page4d_hf.geometry import Similarity, align_sim3, invert_extrinsics
from page4d_hf.scene import Scene, read_scene

from .console import note
from .ready_reconstruction import ready_reconstruction
from .reconstruction_cache import digest_files, reconstruct_once
from .seed_points import SeedPoints, evenly, points_from_depth, random_points, spread_over_frames

if TYPE_CHECKING:
    from .dataparser import Page4DDataParserConfig

MAX_AUTO_SIDE = 1600  # pixels; what nerfstudio's own dataparsers use

# Radians that a rotation by a Sim(3) may be uncertain by: at 10 degrees a view and its render share little.
MOST_UNKNOWN_TURN = np.radians(10)
# Share of the path's extent (RMSE) that may be left after a Sim(3). Two paths that have nothing to do with one another
# come to nearly 1, and a scale near 0 that has no meaning: a camera that stands still has such a path, of errors alone.
MOST_PATH_ERROR = 0.95
# PAGE-4D's dynamics above which a pixel counts as moving when points are shared out; what Gaussians do of themselves is
# the model's `dynamics_threshold`.
LIKELY_MOVES = 0.5
_WITHOUT_ALIGNMENT = (
    "What needs no alignment: --cameras page4d with --points page4d (and --held-out-cameras page4d), or the capture's "
    "cameras with --points capture or random."
)


FrameDepth = Callable[[int], np.ndarray | None]
"""z-depth of a frame by its index, `(h, w)` float32 over exactly its image, in the unit of the cameras' world; 0 or NaN
where it is not known, None where that is everywhere. Reads files."""


@dataclass
class PosedFrames:
    """The frames of one scene with all that training needs to know of them, in one world with OpenCV axes."""

    images: PinholeFrames  # undistorted and scaled images and masks, read when asked for
    image_paths: list[Path]  # what `images` reads
    extrinsics: np.ndarray  # [N, 3, 4] float64, world-to-camera
    intrinsics: np.ndarray  # [N, 3, 3] float64, in pixels of the images that `images` gives
    times: np.ndarray  # [N] float64 in [0, 1]
    train: np.ndarray  # [n] int, indices of the frames to train on
    evaluation: np.ndarray  # [m] int, indices of the held-out frames
    points: SeedPoints
    depth: FrameDepth | None = None  # of those frames of which it is known
    path_error: float | None = None  # where PAGE-4D's cameras were aligned with a capture's: RMSE over their extent


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
    if config.points == "random" or scene.points is None or scene.point_colors is None:
        return _read_scene(scene, None, config)
    stored = SeedPoints(scene.points, scene.point_colors, scene.point_times, scene.point_dynamics)
    return _read_scene(scene, stored, config)


def find_source(data: Path, layout: str = "auto") -> Source:
    """Tell what lies at a path, or what to take it for.

    Args:
        data: a file, a folder or a glob.
        layout: "auto" looks; "scene", "frames" or the name of a capture's layout is taken at its word.

    Raises:
        Page4DError: nothing is there, or nothing of a known kind.
    """
    is_glob = glob.has_magic(str(data))
    if not data.exists() and not is_glob:
        raise Page4DError(f"There is no {data}; --data names a scene folder, a capture, a video or images.")
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


def hold_out(frames: np.ndarray, interval: int) -> tuple[np.ndarray, np.ndarray]:
    """Split frames into those to train on and every `interval`-th, held out.

    The first held-out frame lies half an interval in: a video's first moment has no neighbour to be told from.

    Args:
        frames: at least 2 indices, in order of time.
        interval: 0 holds nothing out and evaluates on the frames that are trained on.
    """
    if interval == 0:
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
        frames.points = _seen_at(points, scene.times, train).thinned(config.max_points)
    elif config.points == "random":
        frames.points = _random_points(frames, config, known=scene.points)
    else:
        frames.points = _points_of_depth(scene, train, 1.0, frames, config)
    return frames


def _seen_at(points: SeedPoints, times: np.ndarray, chosen: np.ndarray) -> SeedPoints:
    """The points that the chosen ones of frames saw; `times` of the frames all differ.

    What only a held-out frame shows must not reach the training.
    """
    if points.times is None:
        return points
    order = np.argsort(times)
    middles = (times[order][1:] + times[order][:-1]) / 2
    frame = order[np.searchsorted(middles, points.times)]
    return points.take(np.isin(frame, chosen))


# --------------------------------------------------------------------------------------------------------------------
# Captures: their own cameras, or PAGE-4D's


def _read_capture(capture: Capture, times: np.ndarray, config: Page4DDataParserConfig) -> PosedFrames:
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
        similarity, path_error = _align(extrinsics[train], scene.extrinsics, turns=True)
        extrinsics, intrinsics = similarity.apply_to_extrinsics(extrinsics), intrinsics.copy()
        extrinsics[train], intrinsics[train] = scene.extrinsics, scene.intrinsics
    elif by_page4d:
        # All frames get a camera, so that the held-out ones can be compared; points come from the others alone.
        scene = _reconstructed_capture(capture, times, images, np.arange(len(capture)), config)
        extrinsics, intrinsics = scene.extrinsics, scene.intrinsics
    elif kind == "page4d":
        scene = _reconstructed_capture(capture, times, images, train, config)
        seen = np.arange(len(train))
        similarity, path_error = _align(scene.extrinsics, extrinsics[train])
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
        frames.points = _points_of_depth(scene, seen, depth_scale, frames, config)
    elif kind == "random" and by_page4d:
        frames.points = _random_points(frames, config, known=scene.points)
    elif kind == "random":
        near_far = None if capture.near is None or capture.far is None else (capture.near, capture.far)
        frames.points = _random_points(frames, config, depth_range=near_far, known=capture.points)
    else:
        if capture.points is not None and kind != "depth":
            frames.points = _capture_points(capture).thinned(config.max_points)
        else:
            frames.points = _points_of_capture_depth(capture, images, times, train, config)
        if by_page4d:
            similarity, frames.path_error = _align(capture.extrinsics[train], extrinsics[train], turns=True)
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
    note(f"{capture.root} names no frames to evaluate on; every {config.eval_interval}th of the others is held out")
    return hold_out(train, config.eval_interval)


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


def _capture_points(capture: Capture) -> SeedPoints:
    assert capture.points is not None
    colors = capture.point_colors
    if colors is None:
        colors = np.full((len(capture.points), 3), 128, np.uint8)  # gray: learned within a few steps
    return SeedPoints(capture.points.astype(np.float32), colors, dynamics=capture.point_dynamics)


def _reconstructed_capture(
    capture: Capture, times: np.ndarray, images: PinholeFrames, chosen: np.ndarray, config: Page4DDataParserConfig
) -> Scene:
    """PAGE-4D's reconstruction of the chosen frames, undistorted and scaled; or the one that was given."""
    if config.reconstruction is not None:
        ids = [capture.frame_ids[i] for i in chosen]
        return ready_reconstruction(config.reconstruction, ids, images.image_sizes[chosen])
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


def _align(source: np.ndarray, target: np.ndarray, *, turns: bool = False) -> tuple[Similarity, float]:
    """The Sim(3) that carries the centres of some cameras onto those of others, `(N, 3, 4)` world-to-camera each.

    Args:
        source, target: the cameras.
        turns: whether the rotation is needed, and not the scale alone. Then a path that is a line, but for what the two
            differ by, is refused as one that is exactly a line.

    Returns:
        The Sim(3); and what it leaves of the distance between the paths, RMSE as a share of the target's extent.

    Raises:
        CaptureError: the paths are degenerate, so that scale or rotation remain unknown.
    """
    centres = [invert_extrinsics(torch.from_numpy(cameras))[:, :, 3].numpy() for cameras in (source, target)]
    try:
        similarity = align_sim3(*centres)
    except ValueError as error:
        raise CaptureError(
            f"PAGE-4D's cameras cannot be aligned with the capture's: {error} {_WITHOUT_ALIGNMENT}"
        ) from error
    residuals = similarity.apply_to_points(centres[0]) - centres[1]
    extents = np.linalg.svd(centres[1] - centres[1].mean(axis=0), compute_uv=False)
    error_share = float(np.linalg.norm(residuals) / np.linalg.norm(extents))
    if error_share > MOST_PATH_ERROR:
        raise CaptureError(
            f"PAGE-4D's cameras cannot be aligned with the capture's: laid over it as well as can be, PAGE-4D's camera "
            f"path is off by {error_share:.0%} of its extent, which determines no scale. The camera hardly moves, or "
            f"the reconstruction has failed. {_WITHOUT_ALIGNMENT}"
        )
    # A centre that is off by e turns the path around its longest axis by e / (its distance from there); so the angle is
    # known to about the RMS of the one over the RMS of the other, over the root of their number.
    turn = np.linalg.norm(residuals) / extents[1] / np.sqrt(len(residuals))
    if turns and turn > MOST_UNKNOWN_TURN:
        raise CaptureError(
            "PAGE-4D's cameras cannot be aligned with the capture's: the camera's path is too near to a line or a "
            f"point for what the two differ by, which leaves the rotation around it open by about "
            f"{min(np.degrees(turn), 180):.0f} degrees. {_WITHOUT_ALIGNMENT}"
        )
    note(f"after Sim(3), PAGE-4D's camera path is off the capture's by {error_share:.1%} of its extent (RMSE)")
    if error_share > 0.5:
        note("so far off, PAGE-4D's points help little; --points capture or random may start better")
    return similarity, error_share


# --------------------------------------------------------------------------------------------------------------------
# Points


def _points_of_capture_depth(
    capture: Capture, images: PinholeFrames, times: np.ndarray, train: np.ndarray, config: Page4DDataParserConfig
) -> SeedPoints:
    """A capture's own depth of the frames to train on, as much from each of them, placed by its own cameras.

    With motion masks the points know whether they move.
    """
    assert capture.depth_paths is not None
    seen = [int(j) for j in train if capture.depth_paths[j] is not None]
    seen = [seen[i] for i in evenly(len(seen), config.max_points)]

    def depth_of(i: int) -> np.ndarray:
        depth = images.load_depth(seen[i])
        assert depth is not None
        return depth

    def pixels_of(i: int) -> tuple[np.ndarray, np.ndarray]:
        usable, moves = depth_of(i) > 0, images.load_mask(seen[i])
        return usable, np.zeros_like(usable) if moves is None else moves

    parts = []
    for i, keep in enumerate(spread_over_frames(pixels_of, times[seen], config.max_points)):
        j = seen[i]
        positions, colors = points_from_depth(
            depth_of(i), keep, images.load_image(j), capture.extrinsics[j], images.intrinsics[j]
        )
        mask = images.load_mask(j)
        dynamics = None if mask is None else mask[keep].astype(np.float32)
        parts.append(SeedPoints(positions, colors, np.full(len(positions), times[j], np.float32), dynamics))
    points = SeedPoints.joined(parts)
    if len(points) == 0:
        raise CaptureError(f"The depth of {capture.root} is known nowhere; pass --points page4d or random.")
    return points


def _points_of_depth(
    scene: Scene, seen: np.ndarray, depth_scale: float, frames: PosedFrames, config: Page4DDataParserConfig
) -> SeedPoints:
    """PAGE-4D's depth of the frames to train on, placed by these frames' cameras.

    Args:
        scene: the reconstruction; its frames `seen` are the frames to train on.
        depth_scale: from the reconstruction's scale to that of the cameras.
        frames: their cameras and images.
    """
    confidence = [scene.load_confidence(i) for i in seen]
    threshold = np.nanpercentile(np.concatenate([c.ravel() for c in confidence]), config.confidence_percentile)

    def pixels_of(k: int) -> tuple[np.ndarray, np.ndarray]:
        usable = (confidence[k] >= threshold) & (scene.load_depth(seen[k]) > 0)  # not of NaN
        if not scene.has_dynamics:
            return usable, np.zeros_like(usable)
        return usable, scene.load_dynamics(seen[k]) > LIKELY_MOVES

    parts = []
    chosen = spread_over_frames(pixels_of, frames.times[frames.train], config.max_points)
    for i, j, keep in zip(seen, frames.train, chosen, strict=True):
        depth = scene.load_depth(i) * depth_scale
        image = frames.images.load_image(j)
        positions, colors = points_from_depth(depth, keep, image, frames.extrinsics[j], frames.intrinsics[j])
        times = np.full(len(positions), frames.times[j], np.float32)
        dynamics = scene.load_dynamics(i)[keep] if scene.has_dynamics else None
        parts.append(SeedPoints(positions, colors, times, dynamics))
    return SeedPoints.joined(parts)


def _random_points(
    frames: PosedFrames,
    config: Page4DDataParserConfig,
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
        centres = invert_extrinsics(torch.from_numpy(extrinsics))[:, :, 3].numpy()
        extent = float(np.linalg.norm(centres - centres.mean(axis=0), axis=-1).max()) or 1.0
        depth_range = 0.5 * extent, 10 * extent
    sizes = frames.images.image_sizes[frames.train]
    return random_points(config.num_random_points, extrinsics, intrinsics, sizes, *depth_range)


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
    # `ns-render dataset --downscale-factor` hands over a float.
    if config.downscale_factor is not None and config.downscale_factor != int(config.downscale_factor):
        raise Page4DError(f"--downscale-factor must be a whole number, got {config.downscale_factor}.")
    least = {"downscale_factor": 1, "max_points": 1, "num_random_points": 1, "eval_interval": 0}
    for name, value in least.items():
        given = getattr(config, name)
        if given is not None and given < value:
            raise Page4DError(f"--{name.replace('_', '-')} must be at least {value}, got {given}.")
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
