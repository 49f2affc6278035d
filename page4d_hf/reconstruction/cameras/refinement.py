"""Camera refinement: point tracks, consensus between pairs of frames, bundle adjustment.

No single start is safe. Several cheap ones are adjusted, and the solution with the most inliers among all observations
is taken. The network's own cameras compete too, so the result never has fewer inliers than they have. The points of the
solution are then searched for in all frames, and cameras are adjusted to these longer tracks. Where an adjustment has
far fewer inliers than pairs of frames agree on, its start was too far off: the tracks are then mapped from scratch.
Known camera poses are held, and tracks only give depth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ...geometry import camera_centers, extrinsics_at
from ...scene.tracks import PointTracks
from ..tracks import (
    FEWEST_FRAMES,
    REFERENCE_WIDTH,
    Tracks,
    as_point_tracks,
    checked_tracks,
    track_points,
    without_hidden,
)
from .bundle_adjustment import (
    FEWEST_OBSERVATIONS,
    LOSS_SCALES,
    Adjusted,
    adjust,
    rays_of,
    reprojection_errors,
    triangulated,
)
from .consensus import agree_on_motion
from .depth import POOR, correct_depth, sample_maps
from .known_cameras import KnownCameras, check_against_tracks, depth_by_paths
from .long_clips import MOST_AT_ONCE, adjust_clip, poses_between
from .mapping import map_tracks
from .relinking import relink

INLIER = 1.0  # pixels, for images of the reference width: an observation that is explained
LIKELY_MOVES = 0.7  # of the motion mask, above which a track is left out where the mask is believed
FEWEST_TRACKS = 50
LEAST_DISPLACEMENT = 0.5  # pixels, for images of the reference width: where tracks get less far, the camera stands
FLAT_PAIRS = 0.5  # share of pairs that a homography explains, from which on a camera may only turn
LEAST_GAIN = 0.1  # of the share of inliers, that a camera's path must bring over one that only turns,
LEAST_RATIO = 1.5  # or else in the median error
AT_INFINITY = 1e5  # in the unit of the network's depth
TURNING_ROUNDS = 50
FEWEST_TO_TURN = 3  # points that tell a rotation
TOO_FAR = 0.8  # of the share that pairs of frames agree on: where adjustment reaches less, its start was too far off
LOST = 0.5  # the same of a single frame, whose camera then never came near
LEAST_GAIN_OF_DISTORTION = 0.02  # of the robust cost of static tracks: noise of their positions brings less
LEAST_PARALLAX = np.radians(1.0)  # of a track between known cameras, to tell depth
POOR_SHARE = 0.5  # of inliers: below it the user is told
MOST_LOST = 0.05  # of inliers: longer tracks that cost more have led astray

Report = dict[str, float | int | str]


def not_refined(reason: str) -> Report:
    """The report of cameras that are kept before tracks were looked at."""
    return {"outcome": "kept", "note": f"Cameras are the network's, unrefined: {reason}."}


@dataclass(frozen=True)
class Refinement:
    """Refined cameras and what they were refined by."""

    extrinsics: npt.NDArray[Any]  # [S, 3, 4] float64 world-to-camera, OpenCV axes
    focal: float  # pixels
    depth: list[npt.NDArray[Any]]  # [h, w] float32 each, corrected
    tracks: Tracks
    points: npt.NDArray[Any]  # [T, 3] float64
    inlier: npt.NDArray[Any]  # [T] bool: tracks of the static scene
    intrinsics: npt.NDArray[Any]  # [S, 3, 3], pixels of the images
    report: Report
    radial: float | None = None  # k1 of all frames' lens, where it was asked for and the clip shows it

    @property
    def changed(self) -> bool:
        """Whether cameras and depth differ from the network's."""
        return self.report["outcome"] != "kept"

    @property
    def point_tracks(self) -> PointTracks | None:
        """The tracks to keep beside the cameras, with the points of static ones; None where there are none."""
        observed = self.report["outcome"] in ("refined", "known")
        known = self.inlier if observed else np.zeros(len(self.tracks), bool)
        points = np.where(known[:, None], self.points, np.nan)
        return as_point_tracks(self.tracks, points, len(self.extrinsics)) if len(self.tracks) else None


def refine(
    images: Sequence[npt.NDArray[Any]],
    extrinsics: npt.NDArray[Any],
    focal: float,
    depth: list[npt.NDArray[Any]],
    motion: list[npt.NDArray[Any]] | None = None,
    *,
    given: PointTracks | None = None,
    followed: Tracks | None = None,
    known: KnownCameras | None = None,
    visible: Sequence[npt.NDArray[Any]] | None = None,
    distortion: Literal["none", "radial"] = "none",
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> Refinement:
    """Refine the cameras of a clip.

    Args:
        images: S frames `(H, W, 3)` uint8 of one size, in their order.
        extrinsics: `(S, 3, 4)` world-to-camera, OpenCV axes: the network's.
        focal: the network's focal length, pixels of the images; principal points are at the centres.
        depth: the network's z-depth, `(h, w)` float32 each over exactly the image.
        motion: the network's motion mask, or the user's, `(h, w)` float32 each, 0 static to 1 moving.
        given: a user's tracks, to refine by instead of those of optical flow.
        followed: the network's tracks, the same.
        known: what the user knows of the cameras, which is held.
        visible: `(H, W)` bool of each frame, false where tracks are not to be followed.
        distortion: "radial" looks for the lens's too, and leaves depth as it is: it is to be refined in images that
            are undistorted by the result.
        progress: told how far the work is.

    Returns:
        Cameras in the world of the first one and in the scale of the network's depth. `report["outcome"]` is "refined",
        "rotations refined" where the clip does not show a path of the camera, "held still" where it does not move, or
        "kept". Known poses keep their world and scale, and the outcome is "known". `report["note"]` says in a sentence
        what the user should know of it, and is empty where all is well.
    """
    height, width = images[0].shape[:2]
    size = (height, width)

    def tracked(done: int) -> None:
        progress("tracks", done, len(images))

    tracked(0)
    if given is not None:
        tracks = checked_tracks(given, images, progress=tracked)
    elif followed is not None:
        tracks = followed
    else:
        tracks = track_points(images, progress=tracked)
    if visible is not None:
        tracks = without_hidden(tracks, visible)
    known = known or KnownCameras()
    # Of positions, those in the images tell what maps say there; those that one ideal camera sees tell geometry.
    seen, tracks = tracks, known.idealized(tracks, size)
    focal = known.focal or focal
    lifted = _lifted(seen, tracks, extrinsics, focal, depth, size)
    start = Adjusted(np.array(extrinsics, np.float64), focal, lifted, np.isfinite(lifted).all(axis=1))
    before = _scored(tracks, start, size)
    may_relink = given is None and distortion == "none" and len(images) <= MOST_AT_ONCE
    clip = _Clip(images, seen, tracks, size, depth, motion, known, before, distortion, progress, visible, may_relink)
    return _refined(clip) if known.extrinsics is None else _with_known_poses(clip, known.extrinsics)


def _refined(clip: _Clip) -> Refinement:
    """Cameras and depth that tracks agree with, or else the network's."""
    before, start, tracks, size = clip.before, clip.before.solution, clip.tracks, clip.size
    num_frames = len(start.extrinsics)
    if num_frames < FEWEST_FRAMES:
        return _kept(clip, f"tracks take {FEWEST_FRAMES} frames, got {num_frames}")
    if start.used.sum() < FEWEST_TRACKS:
        return _kept(
            clip, f"only {int(start.used.sum())} points could be followed, of which {FEWEST_TRACKS} are needed"
        )
    clip.progress("adjustment", 0, 1)
    consensus = agree_on_motion(tracks, num_frames, size)
    if consensus.displacement < LEAST_DISPLACEMENT * clip.unit:
        still = replace(start, extrinsics=np.repeat(start.extrinsics[:1], num_frames, axis=0), used=consensus.agrees)
        held = clip.scored(triangulated(tracks, still, size))
        if held.inlier_share < before.inlier_share:
            return _kept(clip, "the camera does not move")
        note = "The camera does not move: all frames have the first one's pose, and depth is the network's."
        return clip.result(held, "held still", note)

    candidates = clip.adjusted(start, consensus.agrees)
    best = max(candidates, key=lambda candidate: candidate.inlier_share, default=before)
    too_far = best.inlier_share < TOO_FAR * consensus.inlier_share
    if (too_far or best.worst_frame < LOST * consensus.inlier_share) and num_frames <= MOST_AT_ONCE:
        candidates += _mapped(clip, consensus.agrees)
    if not candidates:
        return _kept(clip, "too few points follow one motion")
    best = max(candidates, key=lambda candidate: candidate.inlier_share)
    outcome, note = "refined", ""
    if consensus.homography_share > FLAT_PAIRS:
        turning = clip.scored(_turned(clip, best.solution))
        gains = best.inlier_share - turning.inlier_share > LEAST_GAIN
        if not gains and turning.median < LEAST_RATIO * best.median:
            best = replace(turning, solution=_with_centers_of(start, turning.solution))
            outcome = "rotations refined"
            note = "Only the rotations of the cameras are refined: the clip does not show how far the camera moves."
    if best.inlier_share <= before.inlier_share:
        return _kept(clip, "adjusted ones agree with no more of the matches")
    best = _with_unseen_between(clip, best)
    if outcome == "refined" and clip.may_relink:
        clip, best = _relinked(clip, best)
        best = _with_unseen_between(clip, best)
    told = filter(None, (note, _poor(best), _unseen(clip, best)))
    return _with_corrected_depth(clip, best, outcome, " ".join(told))


def _relinked(clip: _Clip, best: _Scored) -> tuple[_Clip, _Scored]:
    """The clip with longer tracks, and cameras adjusted to them, scored by the tracks as they were followed."""
    solution = best.solution
    seen = relink(clip.images, clip.seen, solution, clip.intrinsics(solution.focal), clip.visible)
    longer = clip.known.idealized(seen, clip.size)
    scored = clip.scored(adjust(longer, solution, clip.size, scales=LOSS_SCALES[2:], hold_focal=clip.hold_focal))
    if scored.inlier_share < (1 - MOST_LOST) * best.inlier_share or scored.solution.used.sum() < FEWEST_TRACKS:
        return clip, best
    return replace(clip, seen=seen, tracks=longer), scored


def _with_unseen_between(clip: _Clip, best: _Scored) -> _Scored:
    """The same with the cameras that no adjustment reached between those around them."""
    located = _located(clip, best)
    if located.all() or not located.any():
        return best
    frames = np.flatnonzero(located)
    extrinsics = poses_between(frames, best.solution.extrinsics[frames], len(located))
    return clip.scored(replace(best.solution, extrinsics=extrinsics))


def _located(clip: _Clip, best: _Scored) -> npt.NDArray[Any]:
    """Frames [S] bool that see enough of the static scene's tracks for their cameras to be adjusted."""
    seen = clip.tracks.frame[best.solution.used[clip.tracks.track]]
    return np.bincount(seen, minlength=len(clip.images)) >= FEWEST_OBSERVATIONS


def _unseen(clip: _Clip, best: _Scored) -> str:
    """A sentence on frames that show hardly a point of the scene, and on parts that share hardly one, if there are."""
    located, tracks = _located(clip, best), clip.tracks
    count, told = len(located), []
    if not located.all():
        told.append(
            f"{count - located.sum()} of {count} frames, the first of them {located.argmin()} counted from 0, show "
            "hardly a point of the scene: their cameras are put between those around them."
        )
    rows = best.solution.used[tracks.track]
    first, last = np.full(len(tracks), count), np.full(len(tracks), -1)
    np.minimum.at(first, tracks.track[rows], tracks.frame[rows])
    np.maximum.at(last, tracks.track[rows], tracks.frame[rows])
    begun, ended = (np.bincount(ends[last >= 0], minlength=count).cumsum() for ends in (first, last))
    inside = np.arange(count) < np.flatnonzero(located)[-1]
    apart = inside & (begun >= FEWEST_OBSERVATIONS) & (begun - ended < FEWEST_OBSERVATIONS)
    if apart.any():
        told.append(
            f"Hardly a point is seen both up to frame {apart.argmax()} and behind it: the two parts may not fit."
        )
    return " ".join(told)


def _with_known_poses(clip: _Clip, poses: npt.NDArray[Any]) -> Refinement:
    """Depth brought to known poses `(S, 3, 4)` by tracks, as far as these tell it, and else by the path's length."""
    depth, by_path = depth_by_paths(clip.depth, clip.before.solution.extrinsics, poses)
    clip = replace(clip, depth=depth)
    tracks, size = clip.tracks, clip.size
    start = replace(clip.before.solution, extrinsics=poses)

    def taken(best: _Scored, why: str) -> Refinement:
        result = clip.result(best, "known", f"Depth is not adjusted to the known cameras: {why}. {by_path}")
        return replace(result, inlier=np.zeros(len(tracks), bool))

    if len(poses) < FEWEST_FRAMES or len(tracks) < FEWEST_TRACKS:
        return taken(clip.scored(start), "too few points could be followed")
    agrees = agree_on_motion(tracks, len(poses), size).agrees
    start = replace(start, focal=check_against_tracks(clip.known, tracks, agrees, start.focal, size))
    # A network whose own cameras hardly move gives a scale that is no start: where rays tell depth, they give it.
    free = triangulated(tracks, replace(start, points=np.full((len(tracks), 3), np.nan)), size)
    lifted = _lifted(clip.seen, tracks, poses, start.focal, depth, size)
    near = np.where(_parallax(tracks, free)[:, None] > LEAST_PARALLAX, free.points, lifted)
    start = triangulated(tracks, replace(start, points=near), size)
    candidates = clip.adjusted(replace(start, used=np.ones(len(tracks), bool)), agrees)
    best = max(candidates, key=lambda candidate: candidate.inlier_share) if candidates else clip.scored(start)
    told = best.solution.used & (_parallax(tracks, best.solution) > LEAST_PARALLAX)
    if told.sum() < FEWEST_TRACKS:
        return taken(best, "they move too little for tracks to tell it")
    best = replace(best, solution=replace(best.solution, used=told))
    return _with_corrected_depth(clip, best, "known", _poor(best))


@dataclass(frozen=True)
class _Clip:
    """A clip's tracks and the network's predictions for it."""

    images: Sequence[npt.NDArray[Any]]
    seen: Tracks  # in the images: where to look up what maps say
    tracks: Tracks  # the same in one ideal camera: what cameras are adjusted to
    size: tuple[int, int]  # (height, width) of the images
    depth: list[npt.NDArray[Any]]  # [h, w] float32 each
    motion: list[npt.NDArray[Any]] | None  # [h, w] float32 each
    known: KnownCameras
    before: _Scored  # the network's cameras
    distortion: Literal["none", "radial"]
    progress: Callable[[str, int, int], None]
    visible: Sequence[npt.NDArray[Any]] | None  # (H, W) bool of each frame
    may_relink: bool

    @property
    def unit(self) -> float:
        """Pixels of the images in one of the reference width."""
        return self.size[1] / REFERENCE_WIDTH

    @property
    def hold_focal(self) -> bool:
        return self.known.focal is not None

    def intrinsics(self, focal: float) -> npt.NDArray[Any]:
        """`(S, 3, 3)` in pixels of the images: known ones, or those of one camera."""
        if self.known.intrinsics is not None:
            return self.known.intrinsics
        height, width = self.size
        matrix = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
        return np.tile(matrix, (len(self.images), 1, 1))

    def scored(self, solution: Adjusted) -> _Scored:
        return _scored(self.tracks, solution, self.size)

    def adjust(self, start: Adjusted, *, in_parts: bool = True) -> _Scored:
        """Cameras adjusted from a start, of which what is known is held."""
        holds = {"hold_focal": self.hold_focal, "hold_poses": self.known.extrinsics is not None}
        return self.scored(adjust_clip(self.tracks, start, self.size, **holds, in_parts=in_parts))

    def adjusted(self, start: Adjusted, agrees: npt.NDArray[Any]) -> list[_Scored]:
        """Adjustments from a start for each belief of what stands still: the tracks that pairs of frames agree on
        (`agrees` [T] bool), and those of them that the motion mask does not say move."""
        beliefs = [agrees]
        if self.motion is not None:
            likely = self.seen.medians(sample_maps(self.motion, self.seen, self.size))
            beliefs.append(agrees & (likely < LIKELY_MOVES))
        found = []
        for number, belief in enumerate(beliefs):
            self.progress("adjustment", number, len(beliefs))
            candidate = replace(start, used=start.used & belief)
            if candidate.used.sum() >= FEWEST_TRACKS:
                found.append(self.adjust(candidate))
        self.progress("adjustment", len(beliefs), len(beliefs))
        return found

    def result(
        self, best: _Scored, outcome: str, note: str, depth: list[npt.NDArray[Any]] | None = None, **told: float | str
    ) -> Refinement:
        """Cameras as a solution has them, with its tracks in use; `depth` is the corrected one, `told` what else the
        report says."""
        solution = best.solution
        report = _report(self.seen, self.before, best, outcome, note, self.size) | told
        return Refinement(
            solution.extrinsics,
            solution.focal,
            self.depth if depth is None else depth,
            self.seen,
            solution.points,
            solution.used,
            self.intrinsics(solution.focal),
            report,
        )


def _kept(clip: _Clip, why: str) -> Refinement:
    """The network's cameras."""
    before = clip.before
    note = str(not_refined(why)["note"])
    if len(clip.tracks) >= FEWEST_TRACKS:
        note = f"{note} {_poor(before)}".strip()
    nothing = np.zeros(len(clip.tracks), bool)
    return clip.result(replace(before, solution=replace(before.solution, used=nothing)), "kept", note)


def _mapped(clip: _Clip, agrees: npt.NDArray[Any]) -> list[_Scored]:
    """Cameras by mapping, adjusted; none where it finds too few frames."""
    start = clip.before.solution
    depth = sample_maps(clip.depth, clip.seen, clip.size)
    mapped = map_tracks(
        clip.tracks, replace(start, used=start.used & agrees), depth, clip.size, hold_focal=clip.hold_focal
    )
    return [] if mapped is None or mapped.used.sum() < FEWEST_TRACKS else [clip.adjust(mapped)]


def _with_corrected_depth(clip: _Clip, best: _Scored, outcome: str, note: str) -> Refinement:
    if clip.distortion == "radial":
        return _with_distortion(clip, best, outcome, note)
    corrected = correct_depth(clip.depth, clip.seen, best.solution, clip.size)
    remaining = corrected.errors.get(corrected.correction, 0.0)
    if remaining > POOR:
        told = f"The network's depth is off by {remaining:.0%} where tracks know it; it was only scaled."
        note = " ".join((note, told)).strip()
    return clip.result(
        best,
        outcome,
        note,
        corrected.depth,
        depth_correction=corrected.correction,
        depth_error=round(remaining, 4),
    )


def _with_distortion(clip: _Clip, best: _Scored, outcome: str, note: str) -> Refinement:
    """Cameras adjusted together with a radial distortion, where static tracks then agree clearly better."""
    unbent = clip.result(best, outcome, note)
    if outcome not in ("refined", "known"):
        return unbent
    try:
        bent = clip.adjust(replace(best.solution, radial=0.0), in_parts=False)
    except ValueError:  # a distortion that cannot be undone
        return unbent
    rows = (best.solution.used | bent.solution.used)[clip.tracks.track]
    straight, curved = (
        float(np.log1p((np.minimum(each.errors[rows], 1e3) / LOSS_SCALES[-1]) ** 2).mean()) for each in (best, bent)
    )
    if curved > (1 - LEAST_GAIN_OF_DISTORTION) * straight:
        return unbent
    return replace(clip.result(bent, outcome, note), radial=bent.solution.radial)


def _parallax(tracks: Tracks, solution: Adjusted) -> npt.NDArray[Any]:
    """The angle [T] that a track's rays span: twice the largest to their mean; 0 of a track without a point."""
    rays = solution.points[tracks.track] - camera_centers(solution.extrinsics)[tracks.frame]
    rays /= np.maximum(np.linalg.norm(rays, axis=1, keepdims=True), 1e-12)
    mean = np.zeros((len(tracks), 3))
    np.add.at(mean, tracks.track, rays)
    off = np.linalg.norm(
        rays - (mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12))[tracks.track], axis=1
    )
    angle = np.zeros(len(tracks))
    np.fmax.at(angle, tracks.track, 2 * np.arcsin(np.minimum(off / 2, 1)))
    return 2 * angle


@dataclass(frozen=True)
class _Scored:
    solution: Adjusted
    errors: npt.NDArray[Any]  # [O] pixels for images of the reference width
    inlier_share: float
    worst_frame: float  # its share of inliers

    @property
    def median(self) -> float:
        return float(np.median(self.errors))


def _scored(tracks: Tracks, solution: Adjusted, size: tuple[int, int]) -> _Scored:
    """Cameras by how many of all observations they explain, each track with the point that suits them best."""
    both = (triangulated(tracks, solution, size), solution)
    errors = np.minimum(*(reprojection_errors(tracks, each, size) for each in both))
    errors = errors * REFERENCE_WIDTH / size[1]
    inlier = errors < INLIER
    frames = [inlier[rows] for rows in tracks.rows_of_frames(len(solution.extrinsics))]
    worst = min((float(frame.mean()) for frame in frames if len(frame)), default=0.0)
    return _Scored(solution, errors, float(inlier.mean()) if len(errors) else 0.0, worst)


def _turned(clip: _Clip, best: Adjusted) -> Adjusted:
    """Cameras that only turn, all where the first one starts, and points far away that suit them.

    Rotations and directions of points in turn, each in closed form given the other, under a Cauchy loss; from the
    rotations of the best cameras, with their focal length.
    """
    tracks, first = clip.tracks, clip.before.solution.extrinsics[0]
    frame, track, counts = tracks.frame, tracks.track, best.used[tracks.track]
    rays = np.concatenate((rays_of(tracks, best.focal, clip.size), np.ones((len(frame), 1))), axis=1)
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    rotation, weight = best.extrinsics[:, :, :3].copy(), np.ones(len(rays))
    directions, scale = np.zeros((len(tracks), 3)), LOSS_SCALES[-1] * clip.unit / best.focal
    for _ in range(TURNING_ROUNDS):
        there = np.einsum("oji,oj->oi", rotation[frame], rays)
        total = np.zeros_like(directions)
        np.add.at(total, track, weight[:, None] * there)
        directions = total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)
        weight = 1 / (1 + ((there - directions[track]) ** 2).sum(axis=1) / scale**2)
        matrix = np.zeros_like(rotation)
        np.add.at(matrix, frame, (counts * weight)[:, None, None] * rays[:, :, None] * directions[track][:, None, :])
        seen = np.bincount(frame[counts], minlength=len(rotation)) >= FEWEST_TO_TURN
        u, _, vt = np.linalg.svd(matrix[seen])
        u[:, :, 2] *= np.linalg.det(u @ vt)[:, None]
        rotation[seen] = u @ vt
    back = rotation[0].T @ first[:, :3]  # the world stays that of the first camera
    rotation, directions = rotation @ back, directions @ back
    center = -first[:, :3].T @ first[:, 3]
    extrinsics = np.concatenate((rotation, -(rotation @ center)[..., None]), axis=2)
    return replace(best, extrinsics=extrinsics, points=center + AT_INFINITY * directions)


def _with_centers_of(start: Adjusted, turned: Adjusted) -> Adjusted:
    """Cameras with the rotations of one solution, and the centres and points of another."""
    extrinsics = extrinsics_at(turned.extrinsics[:, :, :3], camera_centers(start.extrinsics))
    return replace(turned, extrinsics=extrinsics, points=start.points)


def _lifted(
    seen: Tracks,
    tracks: Tracks,
    extrinsics: npt.NDArray[Any],
    focal: float,
    depth: list[npt.NDArray[Any]],
    size: tuple[int, int],
) -> npt.NDArray[Any]:
    """The median over each track of where the network's depth puts it, [T, 3]; NaN where it is not known."""
    z = sample_maps(depth, seen, size).astype(np.float64)
    rays = rays_of(tracks, focal, size)
    points = np.concatenate((rays, np.ones((len(rays), 1))), axis=1) * z[:, None]
    pose = extrinsics[tracks.frame]
    return tracks.medians(np.einsum("oji,oj->oi", pose[:, :, :3], points - pose[:, :, 3]))


def _poor(best: _Scored) -> str:
    """A sentence on cameras that explain too little, if they do."""
    if best.inlier_share >= POOR_SHARE:
        return ""
    return (
        f"Cameras disagree with {1 - best.inlier_share:.0%} of the matches between frames, by over a pixel in an image "
        f"{REFERENCE_WIDTH} wide: much of the clip moves, or the cameras are wrong."
    )


def _report(tracks: Tracks, before: _Scored, after: _Scored, outcome: str, note: str, size: tuple[int, int]) -> Report:
    """The refinement's entry in `page4d/info.json`; lengths in pixels of the images."""
    unit = size[1] / REFERENCE_WIDTH
    report: Report = {
        "outcome": outcome,
        "note": note,
        "tracks": len(tracks),
        "static_tracks": int(after.solution.used.sum()),
        "observations": len(tracks.track),
        "inlier_pixels": INLIER * unit,
        "focal_before": before.solution.focal,
        "focal_after": after.solution.focal,
    }
    static = _parallax(tracks, after.solution)[after.solution.used]
    report["parallax_degrees"] = round(float(np.degrees(np.median(static))), 3) if len(static) else 0.0
    for name, scored in (("before", before), ("after", after)):
        report[f"inlier_share_{name}"] = round(scored.inlier_share, 4)
        known = scored.errors[np.isfinite(scored.errors)]
        for percentile in (50, 90):
            value = unit * float(np.percentile(known, percentile)) if len(known) else 0.0
            report[f"error_p{percentile}_{name}"] = round(value, 4)
    return report


def summary(report: Report) -> str:
    """A report in one line, for a terminal."""
    if not report.get("tracks"):
        return f"Cameras: {report['outcome']}."
    was = report["outcome"] != "kept"

    def change(name: str, form: str) -> str:
        before, after = (format(report[f"{name}_{when}"], form) for when in ("before", "after"))
        return f"{after} (before: {before})" if was else after

    return (
        f"Cameras: {report['outcome']}. {report['tracks']:,} tracks, {report['static_tracks']:,} of them static; "
        f"inliers {change('inlier_share', '.0%')}, reprojection error {change('error_p50', '.2f')} px in the median, "
        f"{change('error_p90', '.2f')} px at 90 %, focal length {change('focal', '.0f')} px."
    )
