"""Cameras from tracks alone, by pycolmap's incremental mapping, for when the network's are no usable start."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ...geometry import Similarity
from ..tracks import Tracks
from .bundle_adjustment import Adjusted, depths
from .consensus import two_views

if TYPE_CHECKING:
    import pycolmap

GAPS = (1, 2, 4, 8, 16)  # frames between the two of a pair
FEWEST_MATCHES = 20  # of a pair
TOLERANCE = 0.7  # pixels from the epipolar line, for images of the reference width
LEAST_REGISTERED = 0.5  # of the frames
FEWEST_POINTS = 6  # that a frame is located by


def map_tracks(
    tracks: Tracks, start: Adjusted, depth: npt.NDArray[Any], image_size: tuple[int, int], *, hold_focal: bool = False
) -> Adjusted | None:
    """Structure from motion of the tracks in use, without a look at the cameras that are there.

    Args:
        tracks: of the clip.
        start: `used` says which tracks take part, `focal` where the search for a focal length begins; the result comes
            in the world of its first camera.
        depth: of each observation, [O]: the result comes in its scale.
        image_size: (height, width).
        hold_focal: the focal length is known.

    Returns:
        Cameras and points, NaN where the mapping made none; or None where it found too few of the frames.
    """
    import pycolmap

    pycolmap.logging.minloglevel = pycolmap.logging.ERROR.value
    num_frames = len(start.extrinsics)
    with tempfile.TemporaryDirectory(prefix="page4d-mapping-") as folder:
        database = Path(folder) / "database.db"
        numbers = _write_database(database, tracks, start, image_size)
        options = pycolmap.IncrementalPipelineOptions()
        options.multiple_models = options.extract_colors = False
        options.num_threads, options.random_seed = 1, 0
        options.ba_refine_focal_length = not hold_focal
        models = pycolmap.incremental_mapping(database, folder, folder, options)
    model = max(models.values(), key=lambda each: each.num_reg_images(), default=None)
    if model is None or model.num_reg_images() < max(2, LEAST_REGISTERED * num_frames):
        return None

    extrinsics = np.full((num_frames, 3, 4), np.nan)
    for identity in model.reg_image_ids():
        extrinsics[identity - 1] = model.images[identity].cam_from_world().matrix()
    points, lengths = np.full((len(tracks), 3), np.nan), np.zeros(len(tracks), int)
    for point in model.points3D.values():
        element = point.track.elements[0]
        track = numbers[element.image_id - 1][element.point2D_idx]
        if point.track.length() > lengths[track]:  # mapping may have torn a track
            points[track], lengths[track] = point.xyz, point.track.length()
    camera = model.cameras[1]
    locate_by_points(extrinsics, points, tracks, camera)
    mapped = Adjusted(extrinsics, float(camera.params[0]), points, start.used & np.isfinite(points).all(axis=1))
    return _in_world_of(start, mapped, tracks, depth)


def _write_database(path: Path, tracks: Tracks, start: Adjusted, image_size: tuple[int, int]) -> list[npt.NDArray[Any]]:
    """Keypoints and two-view geometries of the tracks in use; gives the track of each keypoint, by frame."""
    import pycolmap

    camera, options = two_views(image_size, focal=start.focal, tolerance=TOLERANCE)
    numbers, keypoints = [], []
    for rows in tracks.rows_of_frames(len(start.extrinsics)):
        chosen = start.used[tracks.track[rows]]
        numbers.append(tracks.track[rows][chosen])
        keypoints.append(tracks.xy[rows][chosen].astype(np.float64))
    with pycolmap.Database.open(path) as database:
        database.write_camera(camera, use_camera_id=True)
        rig = pycolmap.Rig(rig_id=1)
        rig.add_ref_sensor(camera.sensor_id)
        database.write_rig(rig, use_rig_id=True)
        for identity, points in enumerate(keypoints, start=1):
            image = pycolmap.Image(name=f"{identity:06d}", camera_id=1, image_id=identity)
            database.write_image(image, use_image_id=True)
            frame = pycolmap.Frame(frame_id=identity, rig_id=1)
            frame.add_data_id(image.data_id)
            database.write_frame(frame, use_frame_id=True)
            database.write_keypoints(identity, points.astype(np.float32))
        for gap in GAPS:
            for first in range(len(numbers) - gap):
                second = first + gap
                _, i, j = np.intersect1d(numbers[first], numbers[second], return_indices=True)
                if len(i) < FEWEST_MATCHES:
                    continue
                matches = np.stack((i, j), axis=1).astype(np.uint32)
                geometry = pycolmap.estimate_two_view_geometry(
                    camera, keypoints[first], camera, keypoints[second], matches, options
                )
                database.write_matches(first + 1, second + 1, matches)
                database.write_two_view_geometry(first + 1, second + 1, geometry)
    return numbers


def locate_by_points(
    extrinsics: npt.NDArray[Any], points: npt.NDArray[Any], tracks: Tracks, camera: pycolmap.Camera
) -> None:
    """Fill in cameras `(S, 3, 4)` that are NaN: by the points [T, 3] they see, or else as the nearest frame's."""
    import pycolmap

    found = np.flatnonzero(np.isfinite(extrinsics).all(axis=(1, 2)))
    known = np.isfinite(points).all(axis=1)
    for frame, rows in enumerate(tracks.rows_of_frames(len(extrinsics))):
        if frame in found:
            continue
        seen = known[tracks.track[rows]]
        answer = None
        if seen.sum() >= FEWEST_POINTS:
            xy, xyz = tracks.xy[rows][seen].astype(np.float64), points[tracks.track[rows][seen]]
            answer = pycolmap.estimate_and_refine_absolute_pose(xy, xyz, camera)
        nearest = found[np.abs(found - frame).argmin()]
        extrinsics[frame] = extrinsics[nearest] if answer is None else answer["cam_from_world"].matrix()


def _in_world_of(start: Adjusted, mapped: Adjusted, tracks: Tracks, depth: npt.NDArray[Any]) -> Adjusted | None:
    """The same cameras and points with the first camera where the start has it, in the scale of the depth."""
    z = depths(tracks, mapped)
    both = mapped.used[tracks.track] & (z > 0) & (depth > 0)
    if not both.any():
        return None
    scale = float(np.median(depth[both] / z[both]))
    return mapped.carried(Similarity.between(mapped.extrinsics[0], start.extrinsics[0], scale))
