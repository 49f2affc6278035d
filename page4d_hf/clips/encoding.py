"""From frames to a row of a data set of clips: files of pixels, depth and masks, and the cameras that belong to them.

What a capture stores is kept as it is where that can be: the bytes of its JPEG and PNG images where they need neither
undistortion nor resizing, and the steps of its 16-bit depth.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..captures import Capture, PinholeFrames, as_pinhole
from ..errors import CaptureError
from ..frames import WHITE, over
from ..geometry import resized_intrinsics
from ..synthetic import SyntheticOptions
from .rendered import DEFAULT_OPTIONS, random_clips
from .schema import ClipFrames, camera_defect

DEPTH_TOLERANCE = 2.0**-11  # relative; the rounding of float16, in which some data sets store their depth
PUBLISHED_DEPTH_SCALES = (1 / 5000, 1 / 1000, 1 / 256, 1000 / 65535)  # TUM and Bonn, many sensors, KITTI, PointOdyssey
JPEG_QUALITY = 95
PNG_LEVEL = 4  # of 9; more costs several times the time and saves a few per cent
ORIENTATION = 0x0112  # the EXIF tag; 1 is upright


@dataclass(frozen=True)
class Skip:
    """Something left out, and the reason."""

    kind: Literal["frame", "clip", "sequence"]
    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}: {self.reason}"


@dataclass
class ClipPlan:
    """A clip that has yet to be read: what a worker needs to know to encode it."""

    clip_id: str
    source: str
    sequence: str
    frames: PinholeFrames  # those of the clip, in their order
    timestamps: npt.NDArray[np.float64]  # [S]


@dataclass
class EncodedClip:
    """A clip as a row of the data set, or the reason why there is none."""

    clip_id: str
    row: dict[str, Any] | None
    skipped: list[Skip] = field(default_factory=list)


# --------------------------------------------------------------------------------------------------------------------
# Files


def encode_image(pixels: npt.NDArray[np.uint8], *, jpeg: bool = False) -> bytes:
    """An image `(H, W, 3)` as PNG, or as JPEG of quality 95 with all of its colour resolution."""
    if jpeg:
        return _save(Image.fromarray(pixels), format="JPEG", quality=JPEG_QUALITY, subsampling=0)
    return _save(Image.fromarray(pixels), format="PNG", compress_level=PNG_LEVEL)


def encode_mask(mask: npt.NDArray[np.bool_]) -> bytes:
    """A mask `(H, W)` as an 8-bit PNG file of 0 and 255."""
    return _save(Image.fromarray(mask.astype(np.uint8) * 255), format="PNG", compress_level=PNG_LEVEL)


def encode_depth(
    depth: npt.NDArray[np.float32], *, scales: Sequence[float] = (), tolerance: float = DEPTH_TOLERANCE
) -> tuple[bytes, float]:
    """Depth as a 16-bit PNG file where that is precise enough, and as a float32 TIFF file otherwise.

    A scale under which all of the values are whole numbers loses nothing and is taken first. Otherwise the largest
    depth becomes 65535, if half a step is then at most `tolerance` of the smallest depth.

    Args:
        depth: `(H, W)`, finite, 0 where it is not known.
        scales: what the depth may be whole multiples of, beside the scales of well-known data sets.
        tolerance: the largest relative error of a depth. 0 stores nothing but lossless files.

    Returns:
        The file, and the scale by which its values are to be multiplied (1 for a TIFF file).
    """
    known = depth[depth > 0]
    if known.size == 0:
        return _save_depth_png(depth), 1.0
    smallest, largest = float(known.min()), float(known.max())
    for scale in (*scales, *PUBLISHED_DEPTH_SCALES):
        if scale > 0 and largest / scale < 65535.5:
            steps = np.rint(depth / np.float64(scale))
            # Two units of float32's last place: a reader may have multiplied in float32.
            if np.all(np.abs(steps * scale - depth) <= 2.0**-22 * depth):
                return _save_depth_png(steps), float(scale)
    scale = largest / 65535
    if scale / 2 <= tolerance * smallest:
        return _save_depth_png(np.rint(depth / np.float64(scale))), scale
    return _save(Image.fromarray(depth), format="TIFF", compression="tiff_adobe_deflate"), 1.0


def _save_depth_png(steps: npt.NDArray[Any]) -> bytes:
    return _save(Image.fromarray(steps.astype(np.uint16)), format="PNG", compress_level=PNG_LEVEL)


def _save(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, **options)
    return buffer.getvalue()


# --------------------------------------------------------------------------------------------------------------------
# Rows


def encode_frames(
    clip: ClipFrames,
    *,
    sequence: str,
    ordered: bool = True,
    depth_tolerance: float = DEPTH_TOLERANCE,
    jpeg: bool = False,
) -> dict[str, Any]:
    """Frames as a row of a data set of clips; `decode_frames` is the inverse.

    `depth_tolerance` is the largest relative error of a depth, see `encode_depth`. Images are PNG files unless `jpeg`
    says otherwise.
    """
    files = []
    for i in range(len(clip)):
        depth = None if clip.depth is None else encode_depth(clip.depth[i], tolerance=depth_tolerance)
        mask = None if clip.motion_mask is None else encode_mask(clip.motion_mask[i])
        files.append(_FrameFiles(encode_image(clip.images[i], jpeg=jpeg), depth, mask))
    return _row(
        files,
        clip_id=clip.clip_id,
        source=clip.source,
        sequence=sequence,
        metric=clip.metric,
        ordered=ordered,
        size=(clip.images.shape[2], clip.images.shape[1]),
        intrinsics=clip.intrinsics,
        extrinsics=clip.extrinsics,
        timestamps=clip.timestamps,
        frame_ids=clip.frame_ids,
    )


@dataclass
class _FrameFiles:
    image: bytes
    depth: tuple[bytes, float] | None  # the file and its scale
    mask: bytes | None


def _row(
    files: Sequence[_FrameFiles],
    *,
    size: tuple[int, int],
    intrinsics: npt.NDArray[Any] | None,
    extrinsics: npt.NDArray[Any] | None,
    timestamps: npt.NDArray[Any],
    frame_ids: Sequence[str],
    **names: Any,
) -> dict[str, Any]:
    has_depth = any(file.depth is not None for file in files)
    has_mask = any(file.mask is not None for file in files)
    return {
        **names,
        "width": int(size[0]),
        "height": int(size[1]),
        "num_frames": len(files),
        "images": [_file(frame.image) for frame in files],
        "depth": [_file(frame.depth and frame.depth[0]) for frame in files] if has_depth else None,
        "depth_scale": [frame.depth[1] if frame.depth else 1.0 for frame in files] if has_depth else None,
        "motion_mask": [_file(frame.mask) for frame in files] if has_mask else None,
        "intrinsics": None if intrinsics is None else intrinsics.tolist(),
        "extrinsics": None if extrinsics is None else extrinsics.tolist(),
        "timestamps": timestamps.tolist(),
        "frame_ids": list(frame_ids),
    }


def _file(data: bytes | None) -> dict[str, Any] | None:
    return None if data is None else {"bytes": data, "path": None}


# --------------------------------------------------------------------------------------------------------------------
# Synthetic scenes


def encode_synthetic_clips(
    seeds: Sequence[int],
    *,
    num_frames: int,
    image_size: tuple[int, int],
    scenes: SyntheticOptions = DEFAULT_OPTIONS,
    depth_tolerance: float = DEPTH_TOLERANCE,
) -> list[EncodedClip]:
    """Clips of random scenes, one for each seed, as `random_clips` renders them; seeds become the sequences' names."""
    clips = random_clips(seeds, num_frames, image_size, options=scenes)
    encoded = []
    for i, seed in enumerate(seeds):
        frames = clips.frames(i)
        row = encode_frames(frames, sequence=str(seed), depth_tolerance=depth_tolerance)
        encoded.append(EncodedClip(frames.clip_id, row))
    return encoded


# --------------------------------------------------------------------------------------------------------------------
# Captures


def plan_clips(
    capture: Capture,
    source: str,
    sequence: str | None = None,
    *,
    frames_per_clip: int,
    stride: int = 1,
    max_side: int | None = None,
    split: str | None = None,
) -> tuple[list[ClipPlan], list[Skip]]:
    """Divide a capture into clips, without opening an image.

    A clip is a run of frames of one device and one image size, in the order of time. Runs are of about equal length,
    and no longer than `frames_per_clip`. Frames whose camera cannot be used are left out and named.

    Args:
        capture: any capture.
        source: the data set's name.
        sequence: the sequence's name in it; None takes the capture's own, or its folder's.
        frames_per_clip: the most frames of a clip, at least 2.
        stride: every how many-th frame to take.
        max_side: images whose longer side is longer are scaled down to it, with cameras, depth and masks. None keeps
            their size.
        split: only frames of this split of the capture.

    Returns:
        The clips, and what was left out.
    """
    sequence = sequence or capture.sequence or capture.root.name
    name = f"{source}/{sequence}"
    skipped = [Skip("frame", name, sentence) for sentence in capture.skipped]
    usable = []
    for i in _frames_of_split(capture, split):
        defect = camera_defect(capture.intrinsics[i], capture.extrinsics[i])
        if defect is None and not np.isfinite(capture.distortion[i]).all():
            defect = "has a distortion that is not finite"
        if defect is None:
            usable.append(int(i))
        else:
            skipped.append(Skip("frame", f"{name} {capture.frame_ids[i]}", f"its camera {defect}"))
    if not usable:
        skipped.append(Skip("sequence", name, "it has no frame that can be used"))
        return [], skipped

    capture = _take_frames(capture, usable)
    timestamps = _timestamps(capture)
    frames = _fit_into(as_pinhole(capture), max_side)
    groups: dict[tuple[int, ...], list[int]] = {}
    order = np.argsort(timestamps, kind="stable") if capture.ordered else np.arange(len(capture))
    # NVIDIA's video takes each frame from the next of its cameras.
    one = not capture.ordered or (capture.layout == "nvidia" and len(set(timestamps)) == len(timestamps))
    for i in order.tolist():
        device = 0 if one else int(capture.camera_ids[i])
        groups.setdefault((device, *map(int, frames.image_sizes[i])), []).append(i)
    plans: list[ClipPlan] = []
    for group in groups.values():
        chosen = np.array(group[::stride])
        for run in np.array_split(chosen, -(-len(chosen) // frames_per_clip)):
            if len(run) < 2:
                frame_id = capture.frame_ids[run[0]]
                skipped.append(Skip("clip", f"{name} {frame_id}", "it has one frame only, and a clip needs two"))
                continue
            plans.append(
                ClipPlan(
                    clip_id=f"{name}/{len(plans):04d}",
                    source=source,
                    sequence=sequence,
                    frames=PinholeFrames(_take_frames(capture, run), frames.intrinsics[run], frames.image_sizes[run]),
                    timestamps=timestamps[run],
                )
            )
    return plans, skipped


def encode_clip(plan: ClipPlan, depth_tolerance: float = DEPTH_TOLERANCE) -> EncodedClip:
    """Read the files of a clip and make a row of them.

    A frame of which a file is missing or broken is left out and named. A clip is left out if fewer than 2 frames
    remain, or if its depth maps hold no valid value at all. Depth is left out where the capture's masks say that
    nothing is to be learned.
    """
    frames, capture = plan.frames, plan.frames.capture
    kept: list[int] = []
    files: list[_FrameFiles] = []
    skipped: list[Skip] = []
    any_depth = False
    for i in range(len(frames)):
        try:
            image = _image_file(frames, i)
            depth, mask, use = frames.load_depth(i), frames.load_motion_mask(i), frames.load_use(i)
        except CaptureError as error:
            skipped.append(Skip("frame", f"{plan.clip_id} {capture.frame_ids[i]}", str(error)))
            continue
        if depth is not None and use is not None:
            depth = np.where(use, depth, np.float32(0))
        any_depth = any_depth or (depth is not None and bool(depth.any()))
        encoded = (
            None if depth is None else encode_depth(depth, scales=(capture.depth_scale,), tolerance=depth_tolerance)
        )
        files.append(_FrameFiles(image, encoded, None if mask is None else encode_mask(mask)))
        kept.append(i)
    reason = None
    if len(kept) < 2:
        reason = f"{len(kept)} of its {len(frames)} frames can be read, and a clip needs 2"
    elif any(file.depth is not None for file in files) and not any_depth:
        reason = "its depth maps hold no valid value"
    if reason is not None:
        return EncodedClip(plan.clip_id, None, [*skipped, Skip("clip", plan.clip_id, reason)])
    width, height = frames.image_sizes[0]
    row = _row(
        files,
        clip_id=plan.clip_id,
        source=plan.source,
        sequence=plan.sequence,
        metric=capture.scale == "metres",
        ordered=capture.ordered,
        size=(int(width), int(height)),
        intrinsics=frames.intrinsics[kept],
        extrinsics=np.asarray(capture.extrinsics[kept], np.float64),
        timestamps=plan.timestamps[kept],
        frame_ids=[capture.frame_ids[i] for i in kept],
    )
    return EncodedClip(plan.clip_id, row, skipped)


def encode_clips(plans: Sequence[ClipPlan], depth_tolerance: float = DEPTH_TOLERANCE) -> list[EncodedClip]:
    """`encode_clip` for each of several clips."""
    return [encode_clip(plan, depth_tolerance) for plan in plans]


def _image_file(frames: PinholeFrames, index: int) -> bytes:
    """The file of a frame's image: the capture's own where it holds just the pixels that are wanted."""
    capture, path = frames.capture, frames.capture.image_paths[index]
    pixels = frames.load_image(index)  # in any case: a truncated file shows only when it is decoded
    try:
        with Image.open(path) as image:
            kind = image.format
            upright = image.getexif().get(ORIENTATION, 1) == 1
            kept = kind in ("JPEG", "PNG") and image.mode == "RGB" and upright and not frames.resamples(index)
        if kept:
            return path.read_bytes()
    except OSError as error:
        raise CaptureError(f"{path} cannot be read as an image ({error}); replace the file.") from error
    return encode_image(over(pixels, capture.background or WHITE), jpeg=kind in ("JPEG", "MPO"))


def _frames_of_split(capture: Capture, split: str | None) -> npt.NDArray[np.int64]:
    if split is None:
        return np.arange(len(capture))
    if split not in capture.splits:
        known = ", ".join(sorted(capture.splits)) or "none"
        raise CaptureError(f"{capture.root} has no split {split!r}; it has: {known}.")
    return np.sort(np.asarray(capture.splits[split], np.int64))


def _take_frames(capture: Capture, indices: npt.ArrayLike) -> Capture:
    """A capture of some of the frames, without what a worker would be sent in vain."""
    unused: dict[str, Any] = dict.fromkeys(("points", "point_colors", "point_motion", "tracks"))
    return dataclasses.replace(capture.select(indices), splits={}, notes=[], skipped=[], **unused)


def _timestamps(capture: Capture) -> npt.NDArray[np.float64]:
    """`(N,)` seconds, or the instants' numbers where the capture knows no clock."""
    if capture.timestamps is not None:
        return np.asarray(capture.timestamps, np.float64)
    return capture.time_ids / (capture.fps or 1.0)


def _fit_into(frames: PinholeFrames, max_side: int | None) -> PinholeFrames:
    """Scale down what is larger than `max_side`, each axis by the ratio of its whole numbers of pixels."""
    if max_side is None:
        return frames
    sizes = frames.image_sizes
    factors = np.minimum(1.0, max_side / sizes.max(axis=1))
    scaled = np.maximum(np.floor(sizes * factors[:, None] + 0.5), 1).astype(np.int64)
    return PinholeFrames(frames.capture, resized_intrinsics(frames.intrinsics, scaled / sizes), scaled)
