"""Frames in; cameras, depth, points and motion out."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch

from ..errors import Page4DError
from ..frames import Frames, Source, normalized_times, read_frames
from ..image_processing_page4d import Mode, Page4DImageProcessor
from ..scene.reconstruction import Reconstruction
from ..scene.tracks import read_tracks
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
from .known_cameras import depth_by_paths, known_cameras, read_cameras, read_intrinsics
from .mask_folders import MaskFolder
from .motion import motion_masks, resolve_motion
from .network import NetworkOptions, Points, needed_heads, resolve_resolution
from .points import choose_points
from .windows import WINDOW, predict_in_windows, resolve_overlap, window_spans

if TYPE_CHECKING:
    from ..modeling_page4d import Page4DModel

logger = logging.getLogger(__name__)

Refine = Literal["auto", "off"]


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
    motion: str | os.PathLike[str] | None = None,
    cameras: str | os.PathLike[str] | None = None,
    intrinsics: str | os.PathLike[str] | None = None,
    masks: str | os.PathLike[str] | None = None,
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
            or `Frames`; see `read_frames`.
        model: folder of the weights, or their repository on the Hub; or a model, on the device and in the dtype that it
            shall run in. It runs as in evaluation, and is left as it was.
        image_processor: how frames become network input. By default that of the model's folder, or of a model without
            one, one that fits.
        fps, max_frames: which frames of a video, or how many of images, to take; see `read_frames`.
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
        motion: what tells motion: "head", the network's mask head; "geometry", flow that contradicts a static scene;
            "both"; "off": nothing; or a folder with an image for each frame, not 0 where something moves. By default
            both, as far as the model has a head, and frames are several and of one size.
        cameras: known poses, and intrinsics where the file has them: a transforms.json, a folder with a COLMAP model,
            or a trajectory as TUM's; see `read_cameras`. They are held; depth and points come in their world and scale.
        intrinsics: known intrinsics, held: `fx,fy,cx,cy` in pixels of the frames, or a file as of `cameras`.
        masks: folder with an image for each frame, 0 where pixels are to be left out of tracks, points, depth's scale,
            motion and training; see `MaskFolder`. The network sees them all the same.
        device, dtype: where and in which precision to load the model of a folder; see `resolve_device` and
            `resolve_dtype`.
        progress: told how far the work is.

    Returns:
        The reconstruction, with its frames, and in `info` the model, its fingerprint and the options in full, for
        `write_scene`.

    Raises:
        FrameError: the frames cannot be read.
        CheckpointError: the model cannot be loaded.
        Page4DError: an option out of its range, known cameras that do not fit the frames or contradict them, a model
            that lacks a head that is needed, too little memory, or cameras that are not finite.
    """
    report = progress or (lambda stage, done, total: None)

    # 1. What is wrong with the options is told before the work begins.
    source = None
    if isinstance(model, (str, os.PathLike)):
        source = Path(model) if isinstance(model, os.PathLike) else model
        device = resolve_device(device)
        dtype = resolve_dtype(dtype, device)
        config = load_config(source)
        image_processor = image_processor or load_image_processor(source, config)
    else:
        if device is not None or dtype is not None:
            raise Page4DError("device and dtype are of a model that is loaded; move the model itself: model.to(...).")
        config = model.config
        image_processor = image_processor or image_processor_for(config)
    heads = needed_heads(config, points)
    if not 0 <= confidence_percentile < 100:
        raise Page4DError(f"Expected a confidence percentile from 0 to below 100, got {confidence_percentile:g}.")
    if max_points < 1:
        raise Page4DError(f"Expected a limit of at least 1 point, got {max_points}.")
    if refine not in get_args(Refine):
        raise Page4DError(f"Expected refine to be {' or '.join(get_args(Refine))}, got {refine!r}.")
    if tracks is not None and (refine == "off" or points == "world"):
        raise Page4DError("Tracks refine cameras and depth: they take --refine auto and --points depth.")
    given_tracks = None if tracks is None else read_tracks(Path(tracks))[0]
    if points == "world" and (cameras is not None or intrinsics is not None):
        raise Page4DError("Points of the point head do not follow known cameras: these take --points depth.")
    camera_file = None if cameras is None else read_cameras(cameras)
    intrinsics_file = None if intrinsics is None else read_intrinsics(intrinsics)
    if masks is not None and not os.path.isdir(masks):
        raise Page4DError(f"Expected a folder of masks, 0 where pixels are hidden; there is no folder {str(masks)!r}.")
    motion = resolve_motion(motion, config.mask_form is not None)
    overlap = resolve_overlap(window, overlap)
    resolution = resolve_resolution(resolution, image_processor, config.patch_size)
    mode = mode or image_processor.mode

    # 2. The frames and the network.
    if not isinstance(images, Frames):
        report("reading frames", 0, 1)
    frames = read_frames(images, fps=fps, max_frames=max_frames)
    if not isinstance(images, Frames):
        report("reading frames", 1, 1)
    visible = None if masks is None else MaskFolder(masks, frames)
    known = known_cameras(camera_file, intrinsics_file, frames)
    network: Any = model
    if source is not None:
        assert isinstance(device, torch.device)
        assert isinstance(dtype, torch.dtype)
        report("loading the model", 0, 1)
        network = load_network(source, config, dtype)
        network.to(device).eval()
        report("loading the model", 1, 1)

    # 3. What the network sees.
    asked = NetworkOptions(resolution, mode, heads, mask_strength)
    spans = window_spans(len(frames), window, overlap)
    seen = predict_in_windows(network, image_processor, frames.images, spans, asked, report)

    hidden = None if visible is None else visible.hides(seen.depth)
    if hidden is not None:
        for confidences in (seen.depth_conf, seen.points_conf or []):
            for scores, off in zip(confidences, hidden, strict=bool(confidences)):
                scores[off] = 0

    # 4. What is known of the cameras, cameras that tracks agree with, and depth in their scale.
    refinement: dict[str, Any] | None = None
    kept_tracks = None
    if known is not None and known.intrinsics is not None:
        seen.intrinsics = known.intrinsics
    if known is not None and known.extrinsics is not None and (refine == "off" or len(set(frames.sizes)) > 1):
        seen.depth, note = depth_by_paths(seen.depth, seen.extrinsics, known.extrinsics)
        seen.extrinsics = known.extrinsics
        refinement = {"outcome": "known", "note": f"The known cameras are taken unchecked. {note}"}
        logger.warning("%s", refinement["note"])
    elif refine == "auto":
        from .refinement import not_refined  # pycolmap and SciPy, for those who need it
        from .refinement import refine as refine_cameras

        if points == "world":
            refinement = not_refined("points of the point head do not follow them")
        elif len(set(frames.sizes)) > 1:
            refinement = not_refined("tracks need frames of one size, and these differ")
        else:
            refined = refine_cameras(
                frames.images,
                seen.extrinsics,
                float(np.sqrt(np.median(seen.intrinsics[:, 0, 0]) * np.median(seen.intrinsics[:, 1, 1]))),
                seen.depth,
                seen.dynamics,
                given=given_tracks,
                known=known,
                visible=visible,
                progress=report,
            )
            refinement, kept_tracks = refined.report, refined.point_tracks
            if refined.changed:
                seen.extrinsics, seen.depth = refined.extrinsics, refined.depth
                seen.intrinsics = refined.intrinsics
        if refinement["note"]:
            logger.warning("%s", refinement["note"])

    # 5. What moves.
    seen.dynamics = motion_masks(
        motion,
        frames,
        seen.extrinsics,
        seen.intrinsics,
        seen.depth,
        seen.dynamics,
        hidden=hidden,
        progress=lambda done: report("motion", done, len(frames)),
    )

    # 6. Where what moves goes.
    if kept_tracks is not None and seen.dynamics is not None:
        from .paths import lift_tracks, settle_paths, tracks_of_motion

        kept_tracks, moving = tracks_of_motion(
            frames.images,
            seen.dynamics,
            kept_tracks,
            dense=given_tracks is None,
            progress=lambda done: report("tracks of motion", done, len(frames)),
        )
        sizes = np.array([(width, height) for height, width in frames.sizes])
        cameras = seen.extrinsics, seen.intrinsics, sizes
        paths = lift_tracks(replace(kept_tracks, visible=moving), seen.depth, *cameras)
        centers = -np.einsum("sji,sj->si", seen.extrinsics[:, :, :3], seen.extrinsics[:, :, 3])
        kept_tracks = replace(kept_tracks, paths=settle_paths(paths, centers))

    # 7. The choice of points.
    report("points", 0, len(frames))
    confidence = seen.points_conf or seen.depth_conf
    chosen = choose_points(seen.points or seen.depth, confidence, confidence_percentile, max_points)
    times = normalized_times(frames.times)

    def points_of(index: int) -> np.ndarray:
        return seen.lifted(index) if seen.points is None else seen.points[index]

    def gather(maps: Iterable[np.ndarray]) -> np.ndarray:
        return np.concatenate([m.reshape(-1, *m.shape[2:])[index] for m, index in zip(maps, chosen, strict=True)])

    report("points", len(frames), len(frames))
    return Reconstruction(
        extrinsics=seen.extrinsics,
        intrinsics=seen.intrinsics,
        depth=seen.depth,
        depth_conf=seen.depth_conf,
        dynamics=seen.dynamics,
        points=gather(map(points_of, range(len(frames)))),
        point_colors=gather(seen.colors),
        point_times=np.repeat(times, [len(index) for index in chosen]).astype(np.float32),
        point_dynamics=gather(seen.dynamics) if seen.dynamics is not None else None,
        point_confidence=gather(confidence),
        point_maps=list(map(points_of, range(len(frames)))) if keep_point_maps else None,
        frames=frames,
        tracks=kept_tracks,
        visible=visible,
        info={
            "model": str(source or config.name_or_path),
            "weights": None if source is None else fingerprint(source),
            "options": {
                "fps": fps,
                "max_frames": max_frames,
                "window": window,
                "overlap": overlap,
                "resolution": resolution,
                "mode": str(mode),
                "mask_strength": mask_strength,
                "points": points,
                "confidence_percentile": confidence_percentile,
                "max_points": max_points,
                "refine": refine,
                "tracks": None if tracks is None else str(tracks),
                "motion": None if motion is None else str(motion),
                "cameras": None if cameras is None else str(cameras),
                "intrinsics": None if intrinsics is None else str(intrinsics),
                "masks": None if masks is None else str(masks),
                "device": str(network.device),
                "dtype": str(network.dtype).removeprefix("torch."),
            },
            "scale": "arbitrary" if cameras is None else "cameras",
            **({} if refinement is None else {"refinement": refinement}),
        },
    )
