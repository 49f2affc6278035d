"""Frames in; cameras, depth, points and motion out."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch

from ..errors import Page4DError
from ..frames import Frames, Source, normalized_times, read_frames
from ..geometry import camera_centers
from ..image_processing_page4d import Mode, Page4DImageProcessor
from ..scene.reconstruction import Reconstruction
from ..scene.tracks import PointTracks, read_tracks
from ..utils.progress import Progress
from ..weights.identity import fingerprint
from ..weights.loading import (
    image_processor_for,
    load_config,
    load_image_processor,
    load_network,
    resolve_device,
    resolve_dtype,
)
from .cameras.known_cameras import KnownCameras, depth_by_paths, known_cameras, read_cameras, read_intrinsics
from .cuts import Report as CutReport
from .cuts import longest_shot
from .lenses import LEAST_BEND, Lenses, UndistortedFrames
from .mask_folders import FrameMasks, MaskFolder, ShownPixels
from .metric import load_metric_model, metric_scale
from .motion import MotionKind, motion_masks, motion_source, resolve_motion
from .network import NetworkOptions, Points, Prediction, needed_heads, resolve_resolution
from .points import choose_points
from .tracks import check_number_of_frames, joined_tracks
from .windows import WINDOW, predict_in_windows, resolve_overlap, window_spans

if TYPE_CHECKING:
    from ..configuration_page4d import Page4DConfig
    from ..modeling_page4d import Page4DModel
    from .cameras.known_cameras import CameraFile
    from .cameras.refinement import Refinement

logger = logging.getLogger(__name__)

LEAST_SEEN = 0.95  # of a frame, below which what a crop hides is told

Refine = Literal["auto", "off"]
Distortion = Literal["none", "radial"]
Tracker = Literal["flow", "head"]


@torch.inference_mode()
def reconstruct(
    images: Source,
    model: Page4DModel | str | os.PathLike[str],
    *,
    image_processor: Page4DImageProcessor | None = None,
    fps: float | None = None,
    max_frames: int | None = None,
    window: int | None = WINDOW,
    overlap: int | None = None,
    resolution: int | None = None,
    mode: Mode | None = None,
    mask_strength: float | None = None,
    points: Points = "depth",
    confidence_percentile: float = 20.0,
    max_points: int = 100_000,
    keep_point_maps: bool = False,
    refine: Refine = "auto",
    tracks: str | os.PathLike[str] | None = None,
    tracker: Tracker = "flow",
    motion: str | os.PathLike[str] | None = None,
    cameras: str | os.PathLike[str] | None = None,
    intrinsics: str | os.PathLike[str] | None = None,
    distortion: Distortion = "none",
    masks: str | os.PathLike[str] | None = None,
    metric_depth: str | os.PathLike[str] | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    progress: Progress | None = None,
) -> Reconstruction:
    """Run PAGE-4D on a sequence of frames: all at once where they fit one window, or else in windows that overlap.

    Options are checked before a frame is read or weights are loaded.

    ```python
    >>> from page4d_hf import reconstruct

    >>> scene = reconstruct("clip.mp4", "page4d", max_frames=50)
    >>> scene.extrinsics.shape, scene.depth[0].shape
    ((50, 3, 4), (294, 518))
    ```

    Args:
        images: S >= 1 frames: a video, a folder of images, a glob, image files, PIL images, arrays `[H, W, 3]` uint8,
            or `Frames`; see `read_frames`. Where they cut from one shot to another, the longest is taken, and
            `info["cuts"]` says where; see `split_at_cuts`. `Frames`, and frames for which there are `tracks`,
            `cameras`, `masks`, a folder of `motion` or `intrinsics` of several lenses, are all taken.
        model: folder of the weights, or their repository on the Hub; or a model, on the device and in the dtype that it
            shall run in. It runs as in evaluation, and is left as it was.
        image_processor: how frames become network input. By default that of the model's folder, or of a model without
            one, one that fits.
        fps: frames per second to take of a video; see `read_frames`. By default all of them.
        max_frames: at most so many frames, spread evenly over the clip.
        window: at most so many frames go through the network at once, which bounds memory. None takes all at once.
        overlap: frames, at least, that a window shares with the one before it, to which it is aligned; by default a
            quarter of the window.
        resolution: width of the network's input in pixels, a multiple of the patch size; its height is at most that.
            By default, or at the image processor's own width, width and height are as the image processor has them.
        mode: the image processor's mode; the default is its own.
        mask_strength: from 0, which makes the network VGGT with other weights, to 1. By default the model's own.
        points: "depth": depth maps lifted by the predicted cameras; "world": the point head's points.
        confidence_percentile: percentage of all pixels, from the least confident, that give no point. 0 keeps all.
        max_points: upper limit of the number of points, spread evenly over the frames.
        keep_point_maps: give the points of all pixels too, as maps.
        refine: "auto": adjust cameras to point tracks, and depth to them, as far as the clip shows them; what it does
            not is logged, and stands in `info["refinement"]["note"]`. "off": take the network's.
        tracks: file of tracks to refine by, instead of optical flow; see `scene.read_tracks`.
        tracker: what follows points, where no tracks are given. "flow": optical flow, to a fraction of a pixel, with
            new points in each frame. "head": the network's track head, which follows points of each window's first
            frame and sees no pixel finer than its input's; it needs weights that have one, as VGGT's.
        motion: what tells motion: "head", the network's mask head; "geometry", flow that contradicts a static scene;
            "both"; "off": nothing; or a folder with an image for each frame, 0 where nothing moves and non-zero where
            something does, the opposite of the masks that `write_scene` writes, by which cameras are refined too. By
            default both, as far as the model has a head, and frames are several and of one size.
        cameras: known poses, and intrinsics where the file has them: a transforms.json, a folder with a COLMAP model,
            or a trajectory as TUM's; see `read_cameras`. They are held; depth and points come in their world and scale.
            Where their lenses distort, frames are undistorted first.
        intrinsics: known intrinsics, held: `fx,fy,cx,cy` in pixels of the frames, or a file as of `cameras`.
        distortion: of the lens. "none": a pinhole, or what the known cameras say. "radial": one coefficient (k1 of
            COLMAP's SIMPLE_RADIAL) is adjusted with the cameras to tracks; the frames are undistorted by it and seen
            by the network once more. `info["lens"]` says what came of it.
        masks: folder with an image for each frame, 0 where pixels are to be left out of tracks, points, depth's scale,
            motion and training; see `MaskFolder`. The network's cameras do not look there in the layers of its mask;
            its depth sees the whole images. What is fully transparent is left out of the same, but for training.
        metric_depth: folder or Hub repository of a metric model for depth estimation of transformers, such as
            apple/DepthPro-hf, by which the scene is scaled to metres; see `metric_scale`. By default its scale is
            arbitrary, or that of known cameras.
        device: where to load the model of a folder; by default a GPU where there is one.
        dtype: precision to load it in; by default bfloat16 where the GPU has it, else float16 on a GPU and float32 on
            a CPU. The heads are always float32.
        progress: told how far the work is.

    Returns:
        The reconstruction, with its frames, and in `info` the model, its fingerprint and the options in full, for
        `write_scene`.

    Raises:
        FrameError: the frames cannot be read.
        CheckpointError: the model, or that for metric depth, cannot be loaded.
        Page4DError: an option out of its range, known cameras that do not fit the frames or contradict them, a model
            that lacks a head that is needed, too little memory, or cameras that are not finite.
    """
    report = progress or (lambda stage, done, total: None)
    # What is wrong with the options is told before the work begins.
    weights = _weights(model, image_processor, device, dtype)
    options = _Options(
        fps=fps,
        max_frames=max_frames,
        window=window,
        overlap=resolve_overlap(window, overlap),
        resolution=resolve_resolution(resolution, weights.image_processor, weights.config.patch_size),
        mode=mode or weights.image_processor.mode,
        mask_strength=mask_strength,
        points=points,
        confidence_percentile=confidence_percentile,
        max_points=max_points,
        refine=refine,
        tracks=tracks,
        tracker=tracker,
        motion=resolve_motion(motion, weights.config.mask_form is not None),
        cameras=cameras,
        intrinsics=intrinsics,
        distortion=distortion,
        masks=masks,
        metric_depth=metric_depth,
    )
    options.check()
    if tracker == "head" and not weights.config.enable_track:
        raise Page4DError("Tracks by the track head need a model that has one, and this has none; take --tracker flow.")
    heads = needed_heads(weights.config, points)
    given_tracks = None if tracks is None else read_tracks(Path(tracks))[0]
    given_cameras = None if cameras is None else read_cameras(cameras)
    given_intrinsics = None if intrinsics is None else read_intrinsics(intrinsics)

    all_frames = given_for_each_frame(given_intrinsics, tracks, cameras, masks, motion)
    frames, cuts = _read_frames(images, options, report, all_frames=all_frames)
    if given_tracks is not None:
        check_number_of_frames(given_tracks, len(frames))
    known = known_cameras(given_cameras, given_intrinsics, frames)
    lenses = known.lenses
    if lenses is not None and distortion != "none":
        raise Page4DError(f"The distortion is known, from {lenses.path}: leave out --distortion {distortion}.")
    visible = None if masks is None else MaskFolder(masks, frames)
    clip = _Clip(frames, given_tracks, known, visible, motion_source(options.motion, frames), report)
    network = weights.load(report)
    metric = None if metric_depth is None else load_metric_model(metric_depth, network.device)
    spans = window_spans(len(frames), window, options.overlap)
    asked = NetworkOptions(options.resolution, options.mode, heads, mask_strength, follow=tracker == "head")

    def look() -> None:
        clip.seen = predict_in_windows(
            network, weights.image_processor, clip.frames.images, spans, asked, report, clip.visible
        )

    if lenses is None:
        look()
        if distortion == "radial":
            lenses = clip.find_lenses()
    if lenses is not None:
        clip.undistort(lenses)
        look()
    clip.tell_of_crop()
    hidden = clip.hide()
    cameras_by, kept_tracks = clip.settle_cameras(options)
    seen, frames = clip.seen, clip.frames
    seen.motion = motion_masks(
        clip.motion,
        frames,
        seen.extrinsics,
        seen.intrinsics,
        seen.depth,
        seen.motion,
        hidden=hidden,
        progress=lambda done: report("motion", done, len(frames)),
    )
    scale: dict[str, Any] = {"scale": "arbitrary" if cameras is None else "cameras"}
    if metric is not None:
        found = metric_scale(
            metric,
            frames,
            seen.depth,
            seen.depth_conf,
            seen.motion,
            progress=lambda done, total: report("metric depth", done, total),
        )
        kept_tracks = _scaled(seen, kept_tracks, found.scale)
        scale = {"scale": "metres", "metric_depth": found.as_info(str(metric_depth))}
    if kept_tracks is not None and seen.motion is not None:
        kept_tracks = clip.paths_of_motion(kept_tracks)
    return Reconstruction(
        extrinsics=seen.extrinsics,
        intrinsics=seen.intrinsics,
        depth=seen.depth,
        depth_conf=seen.depth_conf,
        motion=seen.motion,
        **clip.cloud(options),
        point_maps=[seen.point_map(index) for index in range(len(frames))] if keep_point_maps else None,
        frames=frames,
        tracks=kept_tracks,
        visible=clip.visible,
        info={
            "model": str(weights.source or weights.config.name_or_path),
            "weights": None if weights.source is None else fingerprint(weights.source),
            "options": {
                **options.as_info(),
                "device": str(network.device),
                "dtype": str(network.dtype).removeprefix("torch."),
            },
            **scale,
            **({} if cameras_by is None else {"refinement": cameras_by}),
            **({} if cuts is None else {"cuts": cuts}),
            **({} if lenses is None else {"lens": lenses.as_info()}),
        },
    )


@dataclass(frozen=True)
class _Weights:
    """A model, which may be loaded only when it is needed, and what is known of it before."""

    source: Path | str | None  # where it is loaded from
    config: Page4DConfig
    image_processor: Page4DImageProcessor
    load: Callable[[Progress], Any]  # gives the model


def _weights(
    model: Page4DModel | str | os.PathLike[str],
    image_processor: Page4DImageProcessor | None,
    device: str | torch.device | None,
    dtype: str | torch.dtype | None,
) -> _Weights:
    if not isinstance(model, (str, os.PathLike)):
        if device is not None or dtype is not None:
            raise Page4DError("device and dtype are of a model that is loaded; move the model itself: model.to(...).")
        return _Weights(None, model.config, image_processor or image_processor_for(model.config), lambda report: model)
    source = Path(model) if isinstance(model, os.PathLike) else model
    there = resolve_device(device)
    precision = resolve_dtype(dtype, there)
    config = load_config(source)

    def load(report: Progress) -> Any:
        report("loading the model", 0, 1)
        network: Any = load_network(source, config, precision)
        network.to(there).eval()
        report("loading the model", 1, 1)
        return network

    return _Weights(source, config, image_processor or load_image_processor(source, config), load)


@dataclass(frozen=True)
class _Options:
    """The options of a reconstruction, with defaults resolved; see `reconstruct`."""

    fps: float | None
    max_frames: int | None
    window: int | None
    overlap: int
    resolution: int
    mode: Mode
    mask_strength: float | None
    points: Points
    confidence_percentile: float
    max_points: int
    refine: Refine
    tracks: str | os.PathLike[str] | None
    tracker: Tracker
    motion: str | os.PathLike[str] | None
    cameras: str | os.PathLike[str] | None
    intrinsics: str | os.PathLike[str] | None
    distortion: Distortion
    masks: str | os.PathLike[str] | None
    metric_depth: str | os.PathLike[str] | None

    def check(self) -> None:
        """Raises Page4DError where one is out of range, or two exclude each other."""
        if not 0 <= self.confidence_percentile < 100:
            raise Page4DError(
                f"Expected a confidence percentile from 0 to below 100, got {self.confidence_percentile:g}."
            )
        if self.max_points < 1:
            raise Page4DError(f"Expected a limit of at least 1 point, got {self.max_points}.")
        for name, kinds in (("refine", Refine), ("distortion", Distortion), ("tracker", Tracker)):
            got = getattr(self, name)
            if got not in get_args(kinds):
                raise Page4DError(f"Expected {name} to be {' or '.join(get_args(kinds))}, got {got!r}.")
        if self.distortion != "none" and (self.refine == "off" or self.points == "world"):
            raise Page4DError("Distortion is adjusted to tracks: it takes --refine auto and --points depth.")
        if self.tracker == "head" and (self.refine == "off" or self.points == "world" or self.tracks is not None):
            raise Page4DError("The track head refines: it takes --refine auto, --points depth and no --tracks.")
        if self.tracks is not None and (self.refine == "off" or self.points == "world"):
            raise Page4DError("Tracks refine cameras and depth: they take --refine auto and --points depth.")
        if self.points == "world" and (self.cameras is not None or self.intrinsics is not None):
            raise Page4DError("Points of the point head do not follow known cameras: these take --points depth.")
        if self.metric_depth is not None and self.cameras is not None:
            raise Page4DError("Known cameras have a scale of their own: leave out --metric-depth, or --cameras.")
        if self.masks is not None and not os.path.isdir(self.masks):
            raise Page4DError(
                f"Expected a folder of masks, 0 where pixels are hidden; there is no folder {str(self.masks)!r}."
            )

    def as_info(self) -> dict[str, Any]:
        """The options for `page4d/info.json`."""
        plain = (bool, int, float, type(None))
        return {name: value if isinstance(value, plain) else str(value) for name, value in vars(self).items()}


def given_for_each_frame(
    intrinsics: CameraFile | None,
    tracks: str | os.PathLike[str] | None,
    cameras: str | os.PathLike[str] | None,
    masks: str | os.PathLike[str] | None,
    motion: str | os.PathLike[str] | None,
) -> bool:
    """Whether one of the options of `reconstruct` is of each frame, so that none can be left out at a cut."""
    folder = None if motion in get_args(MotionKind) else motion
    if any(given is not None for given in (tracks, cameras, masks, folder)):
        return True
    return intrinsics is not None and not intrinsics.of_one_lens


def _read_frames(
    images: Source, options: _Options, report: Progress, *, all_frames: bool
) -> tuple[Frames, CutReport | None]:
    """The frames to reconstruct, and where the clip cuts that they are a shot of, unless `all_frames` are taken."""
    if isinstance(images, Frames):
        return read_frames(images, fps=options.fps, max_frames=options.max_frames), None
    report("reading frames", 0, 1)
    frames = read_frames(images, fps=options.fps, max_frames=options.max_frames)
    report("reading frames", 1, 1)
    if all_frames:
        return frames, None
    count = len(frames)
    report("looking for cuts", 0, count)
    frames, cuts = longest_shot(frames, progress=lambda done: report("looking for cuts", done, count))
    if cuts is not None:
        logger.warning("%s", cuts["note"])
    return frames, cuts


@dataclass
class _Clip:
    """A clip on its way to a reconstruction: its frames, what the user gave for them, and what was seen in them."""

    frames: Frames
    tracks: PointTracks | None  # the user's
    known: KnownCameras
    visible: MaskFolder | None
    motion: MotionKind | MaskFolder | None  # what tells it
    report: Progress
    seen: Prediction = field(init=False)  # set, and set anew, when the network has seen the frames

    def tell_of_crop(self) -> None:
        """Say how much of a frame the image processor's crop leaves to the network, where it hides much."""
        seen = min(1 - float(np.isnan(depth).mean()) for depth in self.seen.depth)
        if seen < LEAST_SEEN:
            logger.warning("The network sees the middle %.0f %% of a frame; --mode balanced shows it all.", 100 * seen)

    def undistort(self, lenses: Lenses) -> None:
        """Frames, masks, tracks and known intrinsics as a pinhole has them; the network is to see the frames anew."""
        self.frames = UndistortedFrames.of(self.frames, lenses)
        if self.visible is not None:
            self.visible = self.visible.of(self.frames)
        if isinstance(self.motion, MaskFolder):
            self.motion = self.motion.of(self.frames)
        if self.tracks is not None:
            self.tracks = lenses.tracks(self.tracks)
        if self.known.intrinsics is not None:
            self.known = replace(self.known, intrinsics=lenses.pinholes)

    def find_lenses(self) -> Lenses | None:
        """A radial distortion of all frames by which tracks agree better; None where there is none to speak of."""
        if self._of_several_sizes():
            logger.warning("Images are not undistorted: tracks need frames of one size, and these differ.")
            return None
        refined = self._refined(distortion="radial")
        if refined.radial is None:
            logger.warning("Images are not undistorted: no distortion was found that makes tracks agree better.")
            return None
        lenses = Lenses.radial(refined.intrinsics, refined.radial, self.frames.sizes)
        return None if lenses.bend < LEAST_BEND else lenses

    @property
    def shown(self) -> FrameMasks | None:
        """Where frames are neither transparent nor hidden by the user; None where they are not anywhere."""
        return ShownPixels(self.frames, self.visible) if self.frames.transparent else self.visible

    def hide(self) -> list[npt.NDArray[Any]] | None:
        """Take confidence from pixels that are not `shown`; gives them, `(h, w)` bool of each frame, or None."""
        shown = self.shown
        if shown is None:
            return None
        hidden = shown.hides(self.seen.depth)
        if all(off.all() for off in hidden):
            if self.visible is None:
                raise Page4DError("All pixels of all frames are transparent: their alpha is 0. Give images without it.")
            raise Page4DError(
                f"The masks in {self.visible.files[0].parent} hide all of all frames: 0 hides, other values show; "
                "invert them."
            )
        for confidences in (self.seen.depth_conf, self.seen.points_conf or []):
            for scores, off in zip(confidences, hidden, strict=bool(confidences)):
                scores[off] = 0
        return hidden

    def settle_cameras(self, options: _Options) -> tuple[dict[str, Any] | None, PointTracks | None]:
        """Put known cameras, or those that tracks agree with, in place of the network's, and bring depth to them.

        Returns:
            A report, None where the network's cameras are taken as they are, and the tracks to keep.
        """
        seen, known = self.seen, self.known
        if known.intrinsics is not None:
            seen.intrinsics = known.intrinsics
        told: dict[str, Any]
        kept_tracks = None
        if known.extrinsics is not None and (options.refine == "off" or self._of_several_sizes()):
            seen.depth, note = depth_by_paths(seen.depth, seen.extrinsics, known.extrinsics)
            seen.extrinsics = known.extrinsics
            told = {"outcome": "known", "note": f"The known cameras are taken unchecked. {note}"}
        elif options.refine == "off":
            return None, None
        else:
            from .cameras.refinement import not_refined

            if options.points == "world":
                told = not_refined("points of the point head do not follow them")
            elif self._of_several_sizes():
                told = not_refined("tracks need frames of one size, and these differ")
            else:
                refined = self._refined()
                told, kept_tracks = refined.report, refined.point_tracks
                if refined.changed:
                    seen.extrinsics, seen.depth = refined.extrinsics, refined.depth
                    seen.intrinsics = refined.intrinsics
        if told["note"]:
            logger.warning("%s", told["note"])
        return told, kept_tracks

    def paths_of_motion(self, tracks: PointTracks) -> PointTracks:
        """The tracks, with where those that move go in the world; with many more of these, unless tracks were given.

        Depth of what moves is settled by them.
        """
        from .paths import FrameCameras, lift_tracks, tracks_of_motion
        from .settling import noise_of_depth, settle_paths, settled_depth

        seen, frames = self.seen, self.frames
        assert seen.motion is not None
        tracks, moving = tracks_of_motion(
            frames.images,
            seen.motion,
            tracks,
            dense=self.tracks is None,
            visible=self.shown,
            progress=lambda done: self.report("tracks of motion", done, len(frames)),
        )
        sizes = np.array([(width, height) for height, width in frames.sizes])
        cameras = FrameCameras(seen.extrinsics, seen.intrinsics, sizes)
        paths = lift_tracks(replace(tracks, visible=moving), seen.depth, cameras)
        settled = settle_paths(paths, camera_centers(seen.extrinsics), noise_of_depth(tracks, seen.depth, cameras))
        seen.depth = [
            settled_depth(*maps, paths[:, frame], settled[:, frame], cameras.of(frame))
            for frame, maps in enumerate(zip(seen.depth, seen.motion, strict=True))
        ]
        return replace(tracks, paths=settled)

    def cloud(self, options: _Options) -> dict[str, Any]:
        """The points of a `Reconstruction`, and what goes with them."""
        seen, count = self.seen, len(self.frames)
        self.report("points", 0, count)
        confidence = seen.points_conf or seen.depth_conf
        chosen = choose_points(seen.points or seen.depth, confidence, options.confidence_percentile, options.max_points)

        def gather(maps: Iterable[npt.NDArray[Any]]) -> npt.NDArray[Any]:
            return np.concatenate([m.reshape(-1, *m.shape[2:])[index] for m, index in zip(maps, chosen, strict=True)])

        times = normalized_times(self.frames.times)
        self.report("points", count, count)
        return {
            "points": gather(map(seen.point_map, range(count))),
            "point_colors": gather(seen.colors),
            "point_times": np.repeat(times, [len(index) for index in chosen]).astype(np.float32),
            "point_motion": gather(seen.motion) if seen.motion is not None else None,
            "point_confidence": gather(confidence),
        }

    def _of_several_sizes(self) -> bool:
        return len(set(self.frames.sizes)) > 1

    def _refined(self, distortion: Distortion = "none") -> Refinement:
        from .cameras.refinement import refine  # pycolmap and SciPy, for those who need it

        seen, known = self.seen, self.known
        intrinsics = seen.intrinsics if known.intrinsics is None else known.intrinsics
        motion = self.motion.over_maps(seen.depth) if isinstance(self.motion, MaskFolder) else seen.motion
        return refine(
            self.frames.images,
            seen.extrinsics,
            float(np.sqrt(np.median(intrinsics[:, 0, 0]) * np.median(intrinsics[:, 1, 1]))),
            seen.depth,
            motion,
            given=self.tracks,
            followed=None if seen.followed is None else joined_tracks(seen.followed),
            known=known,
            visible=self.shown,
            distortion=distortion,
            progress=self.report,
        )


def _scaled(seen: Prediction, tracks: PointTracks | None, scale: float) -> PointTracks | None:
    """Bring cameras, depth and points to another unit; gives the tracks with their points in it."""
    seen.extrinsics = np.concatenate((seen.extrinsics[:, :, :3], scale * seen.extrinsics[:, :, 3:]), axis=2)
    seen.depth = [(scale * each).astype(np.float32) for each in seen.depth]
    seen.points = seen.points and [(scale * each).astype(np.float32) for each in seen.points]
    return None if tracks is None else replace(tracks, points=(scale * tracks.points).astype(np.float32))
