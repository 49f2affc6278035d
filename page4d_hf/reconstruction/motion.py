"""Geometric motion masks: pixels whose optical flow no static point explains.

Flow to earlier and later frames says where each pixel goes. For each pixel the depth of a static point is fitted to all
of its flow, with the depth map as a prior. The residual, in units of each pair's own noise, is the pixel's score.
Scores are pooled along the flow, because moving things may rest for a while, and smoothed up to image edges.

This unites epipolar and depth residuals: no depth reduces a residual across the epipolar line, and along it the prior
and the other frames hold the depth.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, cast, get_args

import cv2
import numpy as np
import numpy.typing as npt

from ..errors import Page4DError
from ..frames import Frames
from ..geometry import resized_intrinsics
from ..scene.folder import MARK
from ..utils.folders import MANIFEST
from .dense_flow import DenseFlow
from .mask_folders import MaskFolder

logger = logging.getLogger(__name__)

MotionKind = Literal["off", "head", "geometry", "both"]

GAPS = (1, 2, 4, 8)  # frames between the two of a pair; each but the first is twice the one before
GRID_WIDTH = 192  # pixels, at most, of the images that flow is computed on; lengths below are in these pixels
DEPTH_SPREAD = 0.15  # standard deviation of the logarithm of prior depth
LARGEST_CORRECTION = 1.5  # of the logarithm of depth
LEAST_Z, LARGEST_SLOPE = 0.05, 20.0  # of a point in the other camera, whose ray had z = 1 in its own; of its new ray
ROUNDS = 3  # of fitting poses and depth
LEAST_NOISE = 0.05  # pixels
NOISE_QUANTILE = 0.4  # of a pair's residuals: the share that is taken for static at the least
ROUND_TRIP = 0.5, 0.05  # pixels, and share of the flow's length: how far forth and back may lead from the start
NOISE_OF_GREY = 3.0  # levels of 255 that images differ by where nothing moves: what has less contrast has no flow
HIDDEN_VARIANCE = 1e6  # squared pixels: flow that says nothing
CONTRAST_REACH = 3  # pixels: radius in which contrast is measured
POSE_STRIDE = 3  # every third row and column fits poses
FEWEST_PIXELS = 200  # of a pair that fits its own pose
REACH = 5  # pixels: radius of the guided filter
EDGE = 0.03  # of the range of grey: contrast above it is an edge
HALF_SCORE, SCORE_SCALE = 1.9, 0.45  # score that is as likely to move as not, and the slope there

# Folders of masks that page4d writes, for COLMAP and nerfstudio: 0 where something moves, or is to be left out.
WRITTEN = ("motion_masks", "masks")
IMPLAUSIBLE = 0.75  # of a user's masks that moves: nothing would be left to find cameras by

FloatArray = npt.NDArray[np.float32]
Size = tuple[int, int]  # (height, width)


def resolve_motion(motion: str | os.PathLike[str] | None, has_head: bool) -> MotionKind | os.PathLike[str] | str | None:
    """Check the source of the motion mask before frames are read: a kind, a folder of masks, or None for the best."""
    if motion is None:
        return None
    if motion in get_args(MotionKind):
        if motion in ("head", "both") and not has_head:
            raise Page4DError(f"Motion by {motion!r} needs a model with a mask head, and this has none; take geometry.")
    elif not os.path.isdir(motion):
        kinds = ", ".join(get_args(MotionKind))
        raise Page4DError(f"Expected motion by {kinds} or a folder of masks, got {os.fspath(motion)!r}.")
    elif _is_written(Path(os.path.realpath(motion))):
        raise Page4DError(
            f"Expected masks that are 0 where nothing moves; page4d wrote {os.fspath(motion)}, for programs that want "
            "0 where something does. Give a copy with black and white exchanged."
        )
    return motion


def _is_written(folder: Path) -> bool:
    """Whether masks are of a scene folder or an export."""
    return folder.name in WRITTEN and any((folder.parent / mark).is_file() for mark in (MARK, MANIFEST))


def shows_geometry(frames: Frames) -> bool:
    """Whether frames can show motion by geometry: several, of one size."""
    return len(frames) > 1 and len(set(frames.sizes)) == 1


def motion_source(motion: str | os.PathLike[str] | None, frames: Frames) -> MotionKind | MaskFolder | None:
    """What tells motion in some frames, of what `resolve_motion` gives.

    Raises:
        Page4DError: a folder's masks are not of these frames, or geometry cannot show motion in them.
    """
    if motion in ("geometry", "both") and not shows_geometry(frames):
        seen = "a single frame" if len(frames) == 1 else f"frames of {len(set(frames.sizes))} sizes"
        raise Page4DError(f"Geometry shows motion between frames of one size, and this is {seen}.")
    if motion is None or motion in get_args(MotionKind):
        return cast(MotionKind | None, motion)
    return MaskFolder(motion, frames)


def motion_masks(
    motion: MotionKind | MaskFolder | None,
    frames: Frames,
    extrinsics: npt.NDArray[Any],
    intrinsics: npt.NDArray[Any],
    depth: Sequence[npt.NDArray[Any]],
    head: list[npt.NDArray[Any]] | None,
    *,
    hidden: list[npt.NDArray[Any]] | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> list[npt.NDArray[Any]] | None:
    """The motion masks of a reconstruction.

    Args:
        motion: as `motion_source` gives it. None: head and geometry, as far as there are.
        frames: S frames.
        extrinsics, intrinsics, depth: as in `geometric_motion`.
        head: the network's motion mask, `(h, w)` float32 each, of the same sizes as the depth.
        hidden: `(h, w)` bool each, pixels that take no part.
        progress: told how many frames are done.

    Returns:
        `(h, w)` float32 of each frame, 0 static to 1 moving, NaN where depth is or hidden; None where nothing tells.
    """
    masks = None
    if motion == "head" or (motion is None and not shows_geometry(frames)):
        masks = head
    elif motion in (None, "geometry", "both"):
        masks = geometric_motion(frames.images, extrinsics, intrinsics, depth, hidden=hidden, progress=progress)
        if motion != "geometry" and head is not None:
            masks = combine(masks, head)
        masks = _without(masks, map(np.isnan, depth))
    elif isinstance(motion, MaskFolder):
        masks = motion.over_maps(depth)
        moving = np.mean([mask.mean() for mask in masks])
        if moving > IMPLAUSIBLE:
            logger.warning(
                "%.0f %% of the pixels move by the masks in %s, which should be 0 where nothing moves; where they are "
                "the other way round, give a copy with black and white exchanged.",
                100 * moving, motion.files[0].parent,
            )  # fmt: skip
        masks = _without(masks, map(np.isnan, depth))
    return masks if masks is None or hidden is None else _without(masks, hidden)


def _without(masks: Iterable[npt.NDArray[Any]], left_out: Iterable[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
    """Masks `(h, w)` float32 each, NaN at the pixels `(h, w)` bool that are left out."""
    return [np.where(off, np.float32(np.nan), mask) for off, mask in zip(left_out, masks, strict=True)]


def geometric_motion(
    images: Sequence[npt.NDArray[Any]],
    extrinsics: npt.NDArray[Any],
    intrinsics: npt.NDArray[Any],
    depth: Sequence[npt.NDArray[Any]],
    *,
    hidden: Sequence[npt.NDArray[Any]] | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> list[npt.NDArray[Any]]:
    """Motion masks from optical flow that contradicts a static scene; memory does not grow with the number of frames.

    Args:
        images: S frames `(H, W, 3)` uint8 of one size, in their order; each is looked at once.
        extrinsics: `(S, 3, 4)` world-to-camera, OpenCV axes. Errors that a pair of frames can correct do no harm.
        intrinsics: `(S, 3, 3)` in pixels of the images, the first pixel's centre at (0.5, 0.5).
        depth: z-depth, `(h, w)` float32 each over exactly the image, in the scale of the cameras; NaN where unknown.
        hidden: `(h, w)` bool each, pixels whose flow says nothing.
        progress: told how many frames are done.

    Returns:
        `(h, w)` float32 of each frame, from 0 static to 1 moving; 0 in a clip of a single frame.
    """
    count, lag = len(images), GAPS[-1]
    flow = _Flow()
    guides: dict[int, FloatArray] = {}
    scores: dict[int, FloatArray] = {}
    masks: list[npt.NDArray[Any]] = []
    progress(0)
    # Scores of a frame need flow to the frames after it, and pooling needs their scores.
    for newest in range(count + 2 * lag):
        if newest < count:
            gray = cv2.cvtColor(np.ascontiguousarray(images[newest][..., :3]), cv2.COLOR_RGB2GRAY)
            image_size = gray.shape[0], gray.shape[1]
            guides[newest] = _resized(gray, depth[newest].shape).astype(np.float32) / 255
            width = min(GRID_WIDTH, gray.shape[1])
            small = _resized(gray, (max(8, round(gray.shape[0] * width / gray.shape[1])), max(8, width)))
            flow.add(newest, small, None if hidden is None else hidden[newest])
        scored = newest - lag
        if 0 <= scored < count:
            scores[scored] = _scores(scored, flow, extrinsics, intrinsics, depth[scored], image_size)
        pooled = newest - 2 * lag
        if 0 <= pooled < count:
            masks.append(_mask(pooled, flow, scores, guides.pop(pooled)))
            flow.forget(pooled)
            scores.pop(pooled - lag, None)
            progress(pooled + 1)
    return masks


def combine(masks: Sequence[npt.NDArray[Any]], others: Sequence[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
    """Two motion masks `(h, w)` of each frame as one: the mean of their log-odds."""

    def logit(mask: npt.NDArray[Any]) -> npt.NDArray[Any]:
        likely = np.clip(mask.astype(np.float64), 1e-4, 1 - 1e-4)
        return np.log(likely / (1 - likely))

    return [_sigmoid((logit(one) + logit(other)) / 2) for one, other in zip(masks, others, strict=True)]


class _Flow:
    """Flow between frames that are `GAPS` apart, both ways, and where it does not lead back."""

    def __init__(self) -> None:
        self._dense = DenseFlow(finest_scale=0)
        self._images: dict[int, npt.NDArray[Any]] = {}
        self._flow: dict[tuple[int, int], FloatArray] = {}
        self.variance: dict[int, FloatArray] = {}  # [H, W] squared error that flow has for want of contrast
        self.size: Size = (0, 0)
        self.grid: FloatArray = np.zeros((0, 0, 2), np.float32)  # [H, W, 2], the first pixel at 0

    def add(self, frame: int, image: npt.NDArray[Any], hidden: npt.NDArray[Any] | None = None) -> None:
        """Take the next frame, `(H, W)` uint8, and which of its pixels are hidden, `(h, w)` bool."""
        self._images[frame] = image
        if not frame:
            self.size = image.shape[0], image.shape[1]
            self.grid = np.stack(np.meshgrid(*(np.arange(n, dtype=np.float32) for n in self.size[::-1])), axis=-1)
        across, down = (cv2.Sobel(image, cv2.CV_32F, *axis, scale=1 / 8) for axis in ((1, 0), (0, 1)))
        side = 2 * CONTRAST_REACH + 1
        self.variance[frame] = NOISE_OF_GREY**2 / (cv2.blur(across**2 + down**2, (side, side)) + 1e-3)
        if hidden is not None:
            self.variance[frame][_resized(hidden.astype(np.float32), self.size) > 0] = HIDDEN_VARIANCE
        for gap in GAPS:
            if frame < gap:
                break
            for pair in ((frame - gap, frame), (frame, frame - gap)):
                # Over more than one frame, flow starts from that by way of the frame in the middle.
                first = None
                if gap > 1:
                    middle = sum(pair) // 2
                    half = self._flow[pair[0], middle]
                    first = half + sampled(self._flow[middle, pair[1]], self.grid + half)
                self._flow[pair] = self._dense.calc(self._images[pair[0]], self._images[pair[1]], first).copy()

    def forget(self, frame: int) -> None:
        """Drop what no frame after this one asks for."""
        self._images.pop(frame - GAPS[-1], None)
        self.variance.pop(frame, None)
        for gap in GAPS:
            for pair in ((frame - gap, frame), (frame, frame - gap)):
                self._flow.pop(pair, None)

    def partners(self, frame: int) -> list[int]:
        """The frames to which there is flow from a frame."""
        return [other for gap in GAPS for other in (frame - gap, frame + gap) if (frame, other) in self._flow]

    def targets(self, frame: int, other: int) -> tuple[FloatArray, FloatArray]:
        """Where the pixels of a frame are in another, `(H, W, 2)`, and how far from itself each comes back, `(H, W)`:
        infinite where it leaves the image or is taken for hidden."""
        flow = self._flow[frame, other]
        targets = self.grid + flow
        error = np.linalg.norm(flow + sampled(self._flow[other, frame], targets), axis=-1)
        height, width = self.size
        lost = ((targets < 0) | (targets > (width - 1, height - 1))).any(axis=-1)
        lost |= error > ROUND_TRIP[0] + ROUND_TRIP[1] * np.linalg.norm(flow, axis=-1)
        return targets, np.where(lost, np.inf, error).astype(np.float32)


@np.errstate(over="ignore", invalid="ignore")
def _scores(
    frame: int,
    flow: _Flow,
    extrinsics: npt.NDArray[Any],
    intrinsics: npt.NDArray[Any],
    depth: npt.NDArray[Any],
    image_size: Size,
) -> FloatArray:
    """Residual of flow against a static scene, `(H, W)`: the mean over pairs of log(1 + r^2 / noise^2)."""
    height, width = flow.size
    partners = flow.partners(frame)
    if not partners:
        return np.zeros(flow.size, np.float32)
    cameras = resized_intrinsics(intrinsics[[frame, *partners]], (width / image_size[1], height / image_size[0]))
    pixels = flow.grid.reshape(-1, 2).T + 0.5
    rays = np.linalg.inv(cameras[0]) @ np.concatenate((pixels, np.ones((1, pixels.shape[1]))))  # [3, N], z = 1
    rays = rays.astype(np.float32)
    prior = _log_inverse_depth(depth, flow.size).ravel()
    found = [flow.targets(frame, other) for other in partners]
    targets = np.stack([each.reshape(-1, 2).T for each, _ in found]) + 0.5  # [P, 2, N]
    errors = np.stack([error.ravel() for _, error in found])  # [P, N]
    seen = np.isfinite(errors)
    vague = flow.variance[frame].ravel()
    # A point X in this frame is R X + t in the other, and with inverse depth e^u a point on the ray (ray + 0) / e^u.
    rotation = extrinsics[partners, :, :3] @ extrinsics[frame, :, :3].T
    translation = extrinsics[partners, :, 3] - rotation @ extrinsics[frame, :, 3]
    focal = np.stack([np.diagonal(camera)[:2] for camera in cameras[1:]])[:, :, None].astype(np.float32)
    center = cameras[1:, :2, 2, None].astype(np.float32)
    log_inverse = prior
    for round_ in range(ROUNDS + 1):
        # 1. Residuals, in units of each pair's noise and of what each pixel's way back says of its own.
        inverse = np.exp(log_inverse)
        moved = translation.astype(np.float32)[:, :, None]
        points = rotation.astype(np.float32) @ rays + moved * inverse  # [P, 3, N], times inverse depth
        seen = seen & (points[:, 2] > LEAST_Z)
        z = np.maximum(points[:, 2:], LEAST_Z)
        plane = np.clip(points[:, :2] / z, -LARGEST_SLOPE, LARGEST_SLOPE)
        residual = targets - (focal * plane + center)
        squared = (residual**2).sum(axis=1)
        noise: Any = [np.quantile(s[m], NOISE_QUANTILE) if m.any() else 1.0 for s, m in zip(squared, seen, strict=True)]
        noise = np.maximum(np.array(noise, np.float32), LEAST_NOISE**2)[:, None]
        variance = noise + np.where(seen, errors, 0) ** 2 / 4 + vague
        ratio = squared / variance
        if round_ == ROUNDS:
            break
        weight = seen / (variance * (1 + ratio / 4))  # of a Cauchy loss
        # 2. Poses, each by all pixels: Gauss-Newton on rotation and translation.
        rotation, translation = _nudged(
            rotation, translation, points, inverse, z, plane, focal, residual, weight, flow.size
        )
        # 3. Depth, each pixel by all pairs: Gauss-Newton on its logarithm.
        slope = focal * (moved[:, :2] - plane * moved[:, 2:]) * inverse / z
        gradient = (weight * (slope * residual).sum(axis=1)).sum(axis=0) + (prior - log_inverse) / DEPTH_SPREAD**2
        curvature = (weight * (slope**2).sum(axis=1)).sum(axis=0) + 1 / DEPTH_SPREAD**2
        log_inverse = log_inverse + np.clip(gradient / curvature, -0.5, 0.5)
        log_inverse = np.clip(log_inverse, prior - LARGEST_CORRECTION, prior + LARGEST_CORRECTION)
    total = np.where(seen, np.log1p(ratio), 0).sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
    # Cameras of an untrained network are beyond float32.
    return cast(FloatArray, np.nan_to_num(total, nan=0.0, posinf=0.0).reshape(flow.size).astype(np.float32))


def _nudged(
    rotation: npt.NDArray[Any],  # [P, 3, 3]
    translation: npt.NDArray[Any],  # [P, 3]
    points: npt.NDArray[Any],  # [P, 3, N], times inverse depth
    inverse: npt.NDArray[Any],  # [N]
    z: npt.NDArray[Any],  # [P, 1, N]
    plane: npt.NDArray[Any],  # [P, 2, N]
    focal: npt.NDArray[Any],  # [P, 2, 1]
    residual: npt.NDArray[Any],  # [P, 2, N]
    weight: npt.NDArray[Any],  # [P, N]
    size: Size,
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Poses after a step that makes the weighted residuals smaller: p becomes exp(w) p + v for small w and v."""
    some = np.zeros(size, bool)
    some[::POSE_STRIDE, ::POSE_STRIDE] = True
    chosen = some.ravel()
    p, q = points[:, :, chosen], plane[:, :, chosen]
    zero = np.zeros_like(p[:, 0])
    rho = np.broadcast_to(inverse[chosen], zero.shape)
    # Columns of dp: cross products of the axes with p, and the axes times inverse depth.
    x, y, d = p[:, 0], p[:, 1], p[:, 2]
    columns = np.stack(
        [
            np.stack((zero, -d, y), axis=1),
            np.stack((d, zero, -x), axis=1),
            np.stack((-y, x, zero), axis=1),
            *(np.stack([rho if axis == k else zero for k in range(3)], axis=1) for axis in range(3)),
        ],
        axis=1,
    )  # [P, 6, 3, N]
    jacobian = (columns[:, :, :2] - q[:, None] * columns[:, :, 2:]) * (focal / z[:, :, chosen])[:, None]
    weighted = jacobian * weight[:, None, None, chosen]
    normal = np.einsum("pikn,pjkn->pij", weighted, jacobian)
    right = np.einsum("pikn,pkn->pi", weighted, residual[:, :, chosen])
    scale = np.einsum("pii->pi", normal)
    normal = normal + (1e-4 * scale + 1e-12)[:, :, None] * np.eye(6)
    step = np.linalg.solve(normal, right[..., None])[..., 0]
    step[(weight[:, chosen] > 0).sum(axis=1) < FEWEST_PIXELS / POSE_STRIDE**2] = 0
    turn = np.stack([cv2.Rodrigues(each)[0] for each in step[:, :3]])
    return turn @ rotation, (turn @ translation[..., None])[..., 0] + step[:, 3:]


def _log_inverse_depth(depth: npt.NDArray[Any], size: Size) -> npt.NDArray[Any]:
    """The logarithm of inverse depth at a size; where depth is unknown, its median."""
    known = np.isfinite(depth) & (depth > 0)
    values = -np.log(np.where(known, depth, 1)).astype(np.float32)
    values = np.where(known, values, np.median(values[known]) if known.any() else 0)
    return _resized(values, size)


def _mask(frame: int, flow: _Flow, scores: dict[int, FloatArray], guide: FloatArray) -> npt.NDArray[Any]:
    """Scores of a frame and of where its pixels go, pooled, as a mask of the guide's size."""
    total, weight = scores[frame].copy(), np.ones(flow.size, np.float32)
    for other in flow.partners(frame):
        targets, error = flow.targets(frame, other)
        seen = np.isfinite(error)
        total += np.where(seen, sampled(scores[other], targets), 0)
        weight += seen
    total /= weight
    # What has no contrast takes the score of its surroundings.
    smooth = _edges_kept(total, 1 / (1 + flow.variance[frame]), guide)
    return _sigmoid((smooth - HALF_SCORE) / SCORE_SCALE)


def _edges_kept(values: FloatArray, weight: FloatArray, guide: FloatArray) -> FloatArray:
    """Weighted values `(h, w)` smoothed over a guide `(H, W)` of any size, up to its edges: He and Sun, Fast Guided
    Filter, 2015."""
    size = values.shape
    small = _resized(guide, size)

    def blurred(field: FloatArray) -> FloatArray:
        side = 2 * REACH + 1
        return cast(FloatArray, cv2.blur(field, (side, side), borderType=cv2.BORDER_REFLECT))

    def mean(field: FloatArray) -> FloatArray:
        return blurred(weight * field) / total

    total = blurred(weight)
    middle, level = mean(small), mean(values)
    slope = (mean(small * values) - middle * level) / (mean(small * small) - middle**2 + EDGE**2)
    offset = level - slope * middle
    slope, offset = (_resized(blurred(each), guide.shape) for each in (slope, offset))
    return cast(FloatArray, slope * guide + offset)


def sampled(field: npt.NDArray[Any], targets: npt.NDArray[Any]) -> FloatArray:
    """A field `(H, W)` or `(H, W, C)` at places `(h, w, 2)`, of which (0, 0) is the first pixel's centre."""
    x, y = np.ascontiguousarray(targets[..., 0]), np.ascontiguousarray(targets[..., 1])
    return cast(FloatArray, cv2.remap(field, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))


def _resized(field: npt.NDArray[Any], size: tuple[int, ...]) -> npt.NDArray[Any]:
    shrinks = size[0] < field.shape[0]
    return cv2.resize(field, (size[1], size[0]), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def _sigmoid(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return cast(npt.NDArray[Any], (1 / (1 + np.exp(-values))).astype(np.float32))
