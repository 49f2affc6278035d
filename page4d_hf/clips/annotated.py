"""Reconstructions as clips: what a network saw in videos, for another to learn from (self-training)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from ..geometry import resized_intrinsics
from ..scene.folder import MOVES
from ..scene.reconstruction import Reconstruction
from ..utils.ranges import check_ranges
from .encoding import EncodedClip, Skip, encode_frames
from .schema import ClipFrames


@dataclass(frozen=True)
class Trust:
    """Thresholds on the refinement's report that a reconstruction must meet to become training data.

    Args:
        min_inliers: of all observations of tracks, the share that its cameras explain to a pixel of an image 320 wide.
        max_error: the median reprojection error, in such pixels.
        min_parallax: the angle in degrees that the rays of a static point span, in the median.
        max_depth_error: the relative error of depth where tracks know it, in the median.
    """

    min_inliers: float = 0.7
    max_error: float = 0.6
    min_parallax: float = 1.0
    max_depth_error: float = 0.25

    def __post_init__(self) -> None:
        ranges = {"min_inliers": (0, 1), "max_error": (0, 100), "min_parallax": (0, 180), "max_depth_error": (0, 10)}
        check_ranges(self, ranges, "--trust.")

    def doubt(self, scene: Reconstruction) -> str | None:
        """Why a reconstruction does not become training data, as a clause; None where it does."""
        report = scene.info.get("refinement", {})
        if report.get("outcome") != "refined":
            return f"its cameras could not be refined ({report.get('note') or 'refinement is off'})"
        inliers, error, parallax = (
            float(report[name]) for name in ("inlier_share_after", "error_p50_after", "parallax_degrees")
        )
        error /= report["inlier_pixels"]  # the reports' lengths are in pixels of the video
        if inliers < self.min_inliers:
            return f"its cameras explain {inliers:.0%} of what was tracked, below {self.min_inliers:.0%}"
        if error > self.max_error:
            return f"its reprojection error is {error:.2f} px of an image 320 wide, above {self.max_error:g}"
        if parallax < self.min_parallax:
            return f"its static points show a parallax of {parallax:.2f} degrees, below {self.min_parallax:g}"
        if (off := float(report["depth_error"])) > self.max_depth_error:
            return f"its depth is off by {off:.0%} where tracks know it, above {self.max_depth_error:.0%}"
        return None


def clips_of_reconstruction(
    scene: Reconstruction,
    source: str,
    sequence: str,
    *,
    frames_per_clip: int = 128,
    confidence_percentile: float = 20.0,
    trust: Trust | None = None,
) -> list[EncodedClip]:
    """A reconstruction as rows of a data set of clips, at the network's resolution.

    Clips are cut to what the network saw: where its input was a crop, nothing is known of the rest.
    Runs of frames are of about equal length. Depth is left out (0) where the network was least confident, and kept
    where something moves: refined cameras and corrected depth share one scale, which is the sequence's own.

    Args:
        scene: of at least 2 frames of one size.
        source: the data set's name.
        sequence: the video's name in it.
        frames_per_clip: the most frames of a clip, at least 2.
        confidence_percentile: percentage of a frame's pixels, from the least confident, whose depth is left out.
        trust: what the reconstruction must show. By default nothing is asked.

    Returns:
        Clips; or one without a row, that says why there is none.
    """
    name = f"{source}/{sequence}"
    doubt = trust.doubt(scene) if trust is not None else None
    if doubt is None and len({depth.shape for depth in scene.depth}) > 1:
        doubt = "its frames differ in size"
    if doubt is None and len(scene) < 2:
        doubt = "it has one frame only, and a clip needs two"
    if doubt is not None:
        return [EncodedClip(f"{name}/0000", None, [Skip("sequence", name, doubt)])]
    clips = []
    for number, run in enumerate(np.array_split(np.arange(len(scene)), -(-len(scene) // frames_per_clip))):
        if len(run) < 2:
            frame = f"{name} {scene.frames.names[run[0]]}"
            reason = "it is left over alone, and a clip needs two frames"
            clips.append(EncodedClip(f"{name}/{number:04d}", None, [Skip("frame", frame, reason)]))
            continue
        clip = _frames(scene, run.tolist(), f"{name}/{number:04d}", source, confidence_percentile)
        clips.append(EncodedClip(clip.clip_id, encode_frames(clip, sequence=sequence, jpeg=True)))
    return clips


def _frames(
    scene: Reconstruction, run: list[int], clip_id: str, source: str, confidence_percentile: float
) -> ClipFrames:
    height, width = scene.depth[0].shape
    seen = np.any([confidence > 0 for confidence in scene.depth_conf], axis=0)
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    inside = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    images, depths, intrinsics = [], [], []
    for i in run:
        image = scene.frames.images[i]
        images.append(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)[inside])
        depth, confidence = scene.depth[i][inside], scene.depth_conf[i][inside]
        usable = (confidence >= np.percentile(confidence, confidence_percentile)) & np.isfinite(depth) & (depth > 0)
        depths.append(np.where(usable, depth, 0).astype(np.float32))
        scale = width / image.shape[1], height / image.shape[0]
        intrinsics.append(resized_intrinsics(scene.intrinsics[i], scale))
        intrinsics[-1][:2, 2] -= columns[0], rows[0]
    masks: Any = None
    if scene.motion is not None:
        masks = np.stack([np.nan_to_num(scene.motion[i][inside]) >= MOVES for i in run])
    return ClipFrames(
        images=np.stack(images),
        depth=np.stack(depths),
        motion_mask=masks,
        intrinsics=np.stack(intrinsics).astype(np.float64),
        extrinsics=np.asarray(scene.extrinsics[run], np.float64),
        timestamps=np.asarray(scene.frames.times, np.float64)[run],
        source=source,
        clip_id=clip_id,
        frame_ids=[str(scene.frames.names[i]) for i in run],
        metric=False,
    )
