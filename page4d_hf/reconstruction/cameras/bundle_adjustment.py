"""Bundle adjustment of a clip's cameras and points over tracks, by pycolmap.

All frames share one camera: a pinhole, or with radial distortion (COLMAP's SIMPLE_RADIAL), which is adjusted. Known
intrinsics are held. Each adjustment holds the focal length: left free, it drifts where parallax is small, because
tracking errors then outweigh what tracks tell of it. `focal_length` compares adjustments at several focal lengths
instead, with a prior around the network's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from ...captures.pinhole import undistort
from ...geometry import Similarity, camera_centers, extrinsics_at
from ..tracks import REFERENCE_WIDTH, Tracks

if TYPE_CHECKING:
    import pycolmap

LOSS_SCALES = (4.0, 2.0, 1.0, 0.3)  # pixels, for images of the reference width: from one round to the next
FOCAL_LOSS_SCALE = 1.0
OUTLIER_FACTOR = 4.0  # tracks whose median error is so many times that of all are left out of the next round
LEAST_OUTLIER = 0.5  # pixels, for images of the reference width: below it no track is one
FEWEST_OBSERVATIONS = 8  # of a frame whose camera is adjusted
FOCAL_STEP = 0.22  # of the logarithm: how far apart focal lengths are that are compared at first
FOCAL_RANGE = 1.2  # of the logarithm: how far they go from the network's
FOCAL_PRIOR_SPREAD = 0.05  # of the logarithm
FOCAL_PRIOR_WEIGHT = 0.05
TRACKS_FOR_FOCAL_LENGTH = 1500
TRACKS_PER_FRAME_FOR_FOCAL_LENGTH = 10  # at least, of a long clip


@dataclass(frozen=True)
class Adjusted:
    """Cameras and points that explain tracks."""

    extrinsics: npt.NDArray[Any]  # [S, 3, 4] float64 world-to-camera, OpenCV axes
    focal: float  # pixels
    points: npt.NDArray[Any]  # [T, 3] float64, a point for each track; NaN where none was found
    used: npt.NDArray[Any]  # [T] bool: tracks that the cameras were adjusted to
    radial: float | None = None  # k1: a ray (x, y, 1) is seen at (x, y) (1 + k1 (x^2 + y^2)); None: a pinhole, held

    def carried(self, change: Similarity) -> Adjusted:
        """The same in another world."""
        extrinsics, points = change.apply_to_extrinsics(self.extrinsics), change.apply_to_points(self.points)
        return replace(self, extrinsics=extrinsics, points=points)


def reprojection_errors(tracks: Tracks, solution: Adjusted, image_size: tuple[int, int]) -> npt.NDArray[Any]:
    """Distance of each observation from its point's projection, [O] in pixels; infinite behind the camera."""
    plane = projections(tracks, solution.extrinsics, solution.points)
    if solution.radial is not None:
        plane = plane * (1 + solution.radial * (plane**2).sum(axis=1, keepdims=True))
    xy = solution.focal * plane + _center(image_size)
    errors = np.linalg.norm(xy - tracks.xy, axis=1)
    return np.where(np.isfinite(errors), errors, np.inf)


def projections(tracks: Tracks, extrinsics: npt.NDArray[Any], points: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """x / z and y / z [O, 2] of each observation's point [T, 3] in its camera `(S, 3, 4)`; NaN behind it."""
    pose = extrinsics[tracks.frame]
    seen = np.einsum("oij,oj->oi", pose[:, :, :3], points[tracks.track]) + pose[:, :, 3]
    return cast(npt.NDArray[Any], seen[:, :2] / np.where(seen[:, 2:] > 0, seen[:, 2:], np.nan))


def depths(tracks: Tracks, solution: Adjusted) -> npt.NDArray[Any]:
    """z [O] of each observation's point in its camera."""
    pose = solution.extrinsics[tracks.frame]
    return cast(npt.NDArray[Any], np.einsum("oj,oj->o", pose[:, 2, :3], solution.points[tracks.track]) + pose[:, 2, 3])


def triangulate(
    tracks: Tracks,
    rays: npt.NDArray[Any],
    extrinsics: npt.NDArray[Any],
    near: npt.NDArray[Any] | None = None,
    rounds: int = 5,
) -> npt.NDArray[Any]:
    """Points `[T, 3]` nearest to the rays of each track, by least absolute distances as seen from the cameras.

    Args:
        tracks: which observation is of which track and frame; their positions are not looked at.
        rays: `[O, 2]`, x / z and y / z of each observation in its camera.
        extrinsics: `(S, 3, 4)` world-to-camera, OpenCV axes.
        near: `[T, 3]`, to which points tend whose rays hardly differ; by default, and where it is NaN, the origin.
        rounds: of reweighting.
    """
    pose = extrinsics[tracks.frame]
    rotation, center = pose[:, :, :3], camera_centers(pose)
    ray = np.einsum("oji,oj->oi", rotation, np.concatenate((rays, np.ones((len(rays), 1))), axis=1))
    ray /= np.linalg.norm(ray, axis=1, keepdims=True)
    across = np.eye(3) - ray[:, :, None] * ray[:, None, :]
    weight = np.ones(len(ray))
    points = known = np.zeros((len(tracks), 3)) if near is None else np.where(np.isfinite(near), near, 0)
    for _ in range(rounds):
        matrix, right = np.zeros((len(tracks), 3, 3)), np.zeros((len(tracks), 3))
        np.add.at(matrix, tracks.track, weight[:, None, None] * across)
        np.add.at(right, tracks.track, weight[:, None] * np.einsum("oij,oj->oi", across, center))
        scale = np.trace(matrix, axis1=1, axis2=2)[:, None, None]
        # A touch of the point that is known keeps rays that hardly differ from running to infinity.
        touch = 1e-6 * scale * np.eye(3)
        points = np.linalg.solve(matrix + touch, (right + (touch @ known[..., None])[..., 0])[..., None])[..., 0]
        offset = points[tracks.track] - center
        distance = np.linalg.norm(offset, axis=1)
        angle = np.linalg.norm(np.einsum("oij,oj->oi", across, offset), axis=1) / np.maximum(distance, 1e-12)
        weight = 1 / (np.maximum(distance, 1e-12) ** 2 * np.maximum(angle, 1e-4))
    return points


def triangulated(tracks: Tracks, cameras: Adjusted, image_size: tuple[int, int]) -> Adjusted:
    """Cameras with the points that suit them best.

    Raises:
        ValueError: the cameras' distortion cannot be undone at one of the observations.
    """
    rays = rays_of(tracks, cameras.focal, image_size, cameras.radial)
    return replace(cameras, points=triangulate(tracks, rays, cameras.extrinsics, cameras.points))


def rays_of(tracks: Tracks, focal: float, image_size: tuple[int, int], radial: float | None = None) -> npt.NDArray[Any]:
    """x / z and y / z [O, 2] of the tracks' observations in their cameras."""
    plane = (tracks.xy - _center(image_size)) / focal
    return undistort(plane, np.array([radial, 0, 0, 0])) if radial and len(plane) else plane


def adjust(
    tracks: Tracks,
    start: Adjusted,
    image_size: tuple[int, int],
    *,
    scales: Sequence[float] = LOSS_SCALES,
    hold_focal: bool = False,
    hold_poses: bool = False,
) -> Adjusted:
    """Adjust cameras and points in rounds of a falling loss scale, leaving out tracks that do not fit.

    Args:
        tracks: of what stands still, for the most part.
        start: where to begin; its `used` says which tracks to begin with.
        image_size: (height, width).
        scales: of the loss, of each round in turn; the focal length is found before it falls to `FOCAL_LOSS_SCALE`.
        hold_focal, hold_poses: the focal length, or the extrinsics, are known and stay as they are.

    Returns:
        Cameras in the world and scale of the start: the first camera that was adjusted keeps its pose, and points their
        median depth.
    """
    unit = image_size[1] / REFERENCE_WIDTH
    solution = start
    for scale in scales:
        if scale == FOCAL_LOSS_SCALE and not hold_focal:
            focal = focal_length(tracks, solution, start.focal, image_size, hold_poses=hold_poses)
            solution = replace(solution, focal=focal)
        solution = adjust_once(tracks, solution, image_size, scale * unit, hold_poses=hold_poses)
        solution = without_outliers(tracks, solution, image_size)
    return solution


def focal_length(
    tracks: Tracks, solution: Adjusted, prior: float, image_size: tuple[int, int], *, hold_poses: bool = False
) -> float:
    """The focal length at which tracks fit best, by how well they fit at several, and a prior, the network's.

    Minimises log C(f) + w log(1 + (log(f / prior) / s)^2), with the robust cost C of an adjustment at f. The prior has
    heavy tails: a few percent of evidence do not move it, and a network that is wrong by half gives way.
    """
    unit = image_size[1] / REFERENCE_WIDTH
    lengths = np.where(solution.used, tracks.lengths(), 0)
    most = max(TRACKS_FOR_FOCAL_LENGTH, TRACKS_PER_FRAME_FOR_FOCAL_LENGTH * len(solution.extrinsics))
    if (lengths > 0).sum() > most:
        longest = np.argsort(-lengths, kind="stable")[:most]
        solution = replace(solution, used=solution.used & np.isin(np.arange(len(tracks)), longest))

    def score(log_factor: float) -> float:
        trial = replace(solution, focal=prior * math.exp(log_factor))
        trial = adjust_once(tracks, trial, image_size, unit, 25, hold_poses=hold_poses)
        errors = reprojection_errors(tracks, trial, image_size)[solution.used[tracks.track]]
        scale = LOSS_SCALES[-1] * unit
        cost = float(np.log1p((np.minimum(errors, 1e3 * unit) / scale) ** 2).mean())
        return math.log(cost + 1e-9) + FOCAL_PRIOR_WEIGHT * math.log1p((log_factor / FOCAL_PRIOR_SPREAD) ** 2)

    scores = {0.0: score(0.0)}
    for step in (FOCAL_STEP, FOCAL_STEP / 3, FOCAL_STEP / 9):
        while True:
            best = min(scores, key=scores.__getitem__)
            around = (x for x in (best - step, best + step) if abs(x) < FOCAL_RANGE)
            untried = [x for x in around if all(abs(x - tried) >= 1e-6 for tried in scores)]
            if not untried:
                break
            scores |= {x: score(x) for x in untried}
    return prior * math.exp(_lowest(scores))


def _lowest(scores: dict[float, float]) -> float:
    """Where the parabola through the least score and its two neighbours is lowest."""
    places = np.array(sorted(scores))
    middle = min(max(int(np.argmin([scores[x] for x in places])), 1), len(places) - 2)
    near = places[middle - 1 : middle + 2]
    curvature, slope, _ = np.polyfit(near - near[1], [scores[x] for x in near], 2)
    offset = -slope / (2 * curvature) if curvature > 0 else 0.0
    return float(np.clip(near[1] + offset, near[0], near[2]))


def without_outliers(tracks: Tracks, solution: Adjusted, image_size: tuple[int, int]) -> Adjusted:
    """The same without the use of tracks that fit much worse than the others."""
    errors = tracks.medians(reprojection_errors(tracks, solution, image_size))
    if not solution.used.any():
        return solution
    most = max(
        OUTLIER_FACTOR * float(np.median(errors[solution.used])), LEAST_OUTLIER * image_size[1] / REFERENCE_WIDTH
    )
    return replace(solution, used=solution.used & (errors < most))


def adjust_once(
    tracks: Tracks,
    start: Adjusted,
    image_size: tuple[int, int],
    loss_scale: float,
    iterations: int = 50,
    *,
    hold_poses: bool = False,
    hold_points: bool = False,
    held: npt.NDArray[Any] | None = None,
) -> Adjusted:
    """One round of `adjust`; cameras with fewer than `FEWEST_OBSERVATIONS`, and those that are `held` [S] bool, stay
    where they are."""
    import pycolmap

    used = start.used & np.isfinite(start.points).all(axis=1)
    counts = np.bincount(tracks.frame[used[tracks.track]], minlength=len(start.extrinsics))
    adjusted = counts >= FEWEST_OBSERVATIONS
    if adjusted.sum() < 2:
        return start
    model, ids = _model(tracks, replace(start, used=used), image_size, adjusted)
    options = pycolmap.BundleAdjustmentOptions()
    options.print_summary = False
    options.refine_focal_length = False
    options.refine_extra_params = start.radial is not None and not hold_points
    options.ceres.loss_function_type = pycolmap.LossFunctionType.CAUCHY
    options.ceres.loss_function_scale = loss_scale
    options.ceres.solver_options.max_num_iterations = iterations
    options.ceres.solver_options.function_tolerance = 1e-5
    config = pycolmap.BundleAdjustmentConfig()
    for image in model.images:
        config.add_image(image)
    first = int(adjusted.argmax())
    if held is None:
        held = np.full(len(adjusted), hold_poses)
        held[first] |= not hold_points  # which nothing else would hold
    for image in np.flatnonzero(adjusted & held) + 1:
        config.set_constant_rig_from_world_pose(model.images[image].frame_id)
    for identity in ids.values() if hold_points else ():
        config.add_constant_point(identity)
    pycolmap.logging.minloglevel = pycolmap.logging.ERROR.value  # steps that fail are tried again, shorter
    pycolmap.create_default_bundle_adjuster(options, config, model).solve()

    extrinsics = start.extrinsics.copy()
    for frame in np.flatnonzero(adjusted):
        extrinsics[frame] = model.images[int(frame) + 1].cam_from_world().matrix()
    if hold_points:
        return replace(start, extrinsics=extrinsics)
    points = start.points.copy()
    for track, identity in ids.items():
        points[track] = model.points3D[identity].xyz
    radial = None if start.radial is None else float(model.cameras[1].params[3])
    if hold_poses:
        return replace(start, points=points, radial=radial)
    extrinsics, points = _in_scale_of(start, extrinsics, points, used, first)
    return replace(start, extrinsics=extrinsics, points=points, radial=radial)


def _model(
    tracks: Tracks, start: Adjusted, image_size: tuple[int, int], adjusted: npt.NDArray[Any]
) -> tuple[pycolmap.Reconstruction, dict[int, int]]:
    """A COLMAP model of cameras that are adjusted and of the tracks in use; gives its points' ids by track."""
    import pycolmap

    model = pycolmap.Reconstruction()
    model.add_camera_with_trivial_rig(colmap_camera(start.focal, image_size, start.radial))
    place = np.zeros(len(tracks.track), np.int64)  # of each observation among those of its frame
    for frame, rows in enumerate(tracks.rows_of_frames(len(adjusted))):
        if not adjusted[frame]:
            continue
        place[rows] = np.arange(rows.stop - rows.start)
        keypoints = tracks.xy[rows].astype(np.float64)
        image = pycolmap.Image(name=str(frame), keypoints=keypoints, camera_id=1, image_id=frame + 1)
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(start.extrinsics[frame]))
    order = np.argsort(tracks.track, kind="stable")
    order = order[adjusted[tracks.frame[order]]]
    edges = np.searchsorted(tracks.track[order], np.arange(len(tracks) + 1))
    black = np.zeros(3, np.uint8)
    ids = {}
    for track in np.flatnonzero(start.used):
        rows = order[edges[track] : edges[track + 1]]
        if len(rows) < 2:
            continue
        elements = pycolmap.Track()
        for row in rows:
            elements.add_element(int(tracks.frame[row]) + 1, int(place[row]))
        ids[int(track)] = model.add_point3D(start.points[track], elements, black)
    return model, ids


def colmap_camera(focal: float, image_size: tuple[int, int], radial: float | None = None) -> pycolmap.Camera:
    """COLMAP's camera that all frames share."""
    import pycolmap

    height, width = image_size
    name, distortion = ("SIMPLE_PINHOLE", []) if radial is None else ("SIMPLE_RADIAL", [radial])
    params = [focal, *_center(image_size), *distortion]
    return pycolmap.Camera(model=name, width=width, height=height, params=params, camera_id=1)


def _in_scale_of(
    start: Adjusted, extrinsics: npt.NDArray[Any], points: npt.NDArray[Any], used: npt.NDArray[Any], first: int
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Undo the drift of scale, which nothing fixes, about the centre of the first camera."""
    center = camera_centers(extrinsics[first])
    before = np.median(np.linalg.norm(start.points[used] - center, axis=1))
    after = np.median(np.linalg.norm(points[used] - center, axis=1))
    scale = before / after if after > 0 and np.isfinite(after) and np.isfinite(before) else 1.0
    points = center + scale * (points - center)
    centers = center + scale * (camera_centers(extrinsics) - center)
    return extrinsics_at(extrinsics[:, :, :3], centers), points


def _center(image_size: tuple[int, int]) -> npt.NDArray[Any]:
    height, width = image_size
    return np.array([width / 2, height / 2])
