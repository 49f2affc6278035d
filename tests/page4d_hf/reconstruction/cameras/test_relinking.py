"""Tracks that are looked for again, in images whose motion is known exactly."""

import cv2
import numpy as np
import pytest

from page4d_hf.reconstruction.cameras.bundle_adjustment import Adjusted
from page4d_hf.reconstruction.cameras.relinking import relink
from page4d_hf.reconstruction.tracks import Tracks

SIZE = (60, 80)
FOCAL = 80.0
SHIFTS = np.array([0.0, 1.3, -2.6, 3.45, 0.5])  # pixels to the right, of each frame
INTRINSICS = np.tile(np.array([[FOCAL, 0, 40], [0, FOCAL, 30], [0, 0, 1.0]]), (len(SHIFTS), 1, 1))


def warped_textures(rng, warps):
    """Images of a soft texture that is warped."""
    patches = rng.uniform(0, 255, (15, 20, 3)).astype(np.float32)
    texture = cv2.resize(patches, SIZE[::-1], interpolation=cv2.INTER_CUBIC)
    images = [cv2.warpAffine(texture, np.float32(warp), SIZE[::-1], flags=cv2.INTER_CUBIC) for warp in warps]
    return [image.clip(0, 255).astype(np.uint8) for image in images]


def cameras_before(extrinsics, corners):
    """Exact cameras, and points at distance 2 that the first sees in corners [T, 2]."""
    points = np.concatenate(((corners - (40, 30)) / FOCAL, np.ones((len(corners), 1))), axis=1) * 2
    return Adjusted(extrinsics, FOCAL, points, np.ones(len(corners), bool))


@pytest.fixture
def wall():
    """A wall at distance 2 before a camera that moves sideways, tracked in the first three frames with errors of a
    quarter of a pixel: images, tracks, the truth [T, S, 2] and cameras that are exact."""
    rng = np.random.default_rng(0)
    images = warped_textures(rng, [[[1, 0, shift], [0, 1, 0]] for shift in SHIFTS])
    corners = np.stack(np.meshgrid(np.arange(12.5, 70, 8), np.arange(12.5, 50, 8)), axis=-1).reshape(-1, 2)
    truth = corners[:, None] + SHIFTS[:, None] * (1, 0)
    extrinsics = np.tile(np.eye(3, 4), (len(SHIFTS), 1, 1))
    extrinsics[:, 0, 3] = 2 * SHIFTS / FOCAL
    frame, track = np.divmod(np.arange(3 * len(corners)), len(corners))
    xy = truth[track, frame] + np.where(frame == 1, 0, rng.normal(scale=0.25, size=(2, len(frame)))).T
    tracks = Tracks(track, frame, xy.astype(np.float32), len(corners))
    return images, tracks, truth, cameras_before(extrinsics, corners)


def errors(tracks, truth):
    return np.linalg.norm(tracks.xy - truth[tracks.track, tracks.frame], axis=1)


def test_tracks_are_found_in_frames_that_they_had_been_lost_in_and_nearer_to_the_truth(wall):
    images, tracks, truth, solution = wall
    longer = relink(images, tracks, solution, INTRINSICS)
    assert np.mean(longer.lengths() == len(images)) > 0.8
    assert np.median(errors(longer, truth)) < 0.05 < 0.2 < np.median(errors(tracks, truth)[tracks.frame != 1])
    assert (np.diff(longer.frame) >= 0).all()


def test_points_are_found_though_cameras_are_off_by_a_pixel(wall):
    images, tracks, truth, solution = wall
    solution.extrinsics[3:, 1, 3] += 2 / FOCAL
    longer = relink(images, tracks, solution, INTRINSICS)
    assert np.median(errors(longer, truth)[longer.frame >= 3]) < 0.05


def test_what_looks_different_is_not_taken_for_the_same(wall):
    images, tracks, _, solution = wall
    images[4] = np.random.default_rng(1).integers(0, 255, images[4].shape).astype(np.uint8)
    longer = relink(images, tracks, solution, INTRINSICS)
    assert (longer.frame == 3).any()
    assert not (longer.frame == 4).any()


def test_tracks_out_of_use_stay_as_they_were(wall):
    images, tracks, _, solution = wall
    solution.used[::2] = False
    longer = relink(images, tracks, solution, INTRINSICS)
    for number in (0, 2):
        np.testing.assert_array_equal(longer.xy[longer.track == number], tracks.xy[tracks.track == number])


def test_nothing_is_found_in_pixels_that_are_hidden(wall):
    images, tracks, _, solution = wall
    visible = np.ones((len(images), *SIZE), bool)
    visible[3, :, :40] = False
    longer = relink(images, tracks, solution, INTRINSICS, visible)
    assert longer.xy[longer.frame == 3, 0].min() >= 40
    assert longer.xy[longer.frame == 4, 0].min() < 40


def test_a_template_turns_and_grows_as_the_camera_does():
    """The camera comes nearer and rolls by 15 degrees."""
    frames = 3
    zooms, rolls = np.array([1, 1.15, 1.3]), np.radians([0, 7.5, 15])
    extrinsics = np.tile(np.eye(3, 4), (frames, 1, 1))
    warps, truth = [], []
    corners = np.stack(np.meshgrid(np.arange(28.5, 55, 8), np.arange(20.5, 45, 8)), axis=-1).reshape(-1, 2)
    for frame, (zoom, roll) in enumerate(zip(zooms, rolls, strict=True)):
        turn = np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
        extrinsics[frame, :2, :2] = turn
        extrinsics[frame, 2, 3] = 2 / zoom - 2
        middle = np.array([39.5, 29.5])  # of the image, the first pixel at 0
        warps.append(np.column_stack((zoom * turn, middle - zoom * turn @ middle)))
        truth.append((corners - (40, 30)) @ (zoom * turn).T + (40, 30))
    count = len(corners)
    frame, track = np.divmod(np.arange(frames * count), count)
    tracks = Tracks(track, frame, np.concatenate(truth).astype(np.float32), count)
    images = warped_textures(np.random.default_rng(0), warps)
    longer = relink(images, tracks, cameras_before(extrinsics, corners), INTRINSICS[:frames])
    found = np.bincount(longer.frame, minlength=frames)
    assert (found > 0.7 * count).all()
    assert np.median(errors(longer, np.stack(truth, axis=1))) < 0.1
