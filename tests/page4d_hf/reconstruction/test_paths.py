import tracemalloc

import numpy as np
import pytest
from ball_on_plane import BALL
from small_scene import SIZE, ball_scene, projected
from turning_ball import FRAMES, turning_ball

from page4d_hf.reconstruction.paths import FrameCameras, complete_paths, lift_tracks, tracks_of_motion
from page4d_hf.scene import PointTracks


def test_tracks_are_lifted_to_where_depth_says():
    scene = ball_scene(4)
    points = np.float32([[0.1, 0.2, 0.0], [-0.3, 0.1, 0.0]]) + BALL
    z = [pose[2, :3] @ points.T + pose[2, 3] for pose in scene.extrinsics]
    xy = np.stack([projected(points, *camera) for camera in zip(scene.extrinsics, scene.intrinsics, strict=True)], 1)
    visible = np.ones(xy.shape[:2], bool)
    visible[0, 2] = False
    tracks = PointTracks(xy.astype(np.float32), visible, np.full((2, 3), np.nan))
    depth = [np.full(SIZE[::-1], each[0], np.float32) for each in z]
    paths = lift_tracks(tracks, depth, FrameCameras(scene.extrinsics, scene.intrinsics, np.tile(SIZE, (4, 1))))
    np.testing.assert_allclose(paths[0][visible[0]], np.tile(points[0], (3, 1)), atol=1e-4)
    assert np.isnan(paths[0, 2]).all()


@pytest.mark.parametrize("unknown", [0.0, np.nan])
def test_tracks_are_not_lifted_at_edges_of_depth_nor_where_it_is_unknown(unknown):
    depth = np.full((10, 10), 2.0, np.float32)
    depth[:, 5:] = 3.0
    depth[0] = unknown
    xy = np.float32([[2.5, 5.5], [5.0, 5.5], [8.5, 5.5], [2.5, 0.5]])[:, None]
    tracks = PointTracks(xy, np.ones((4, 1), bool), np.full((4, 3), np.nan))
    camera = FrameCameras(np.eye(4)[None, :3], np.diag([10.0, 10, 1])[None], np.array([[10, 10]]))
    paths = lift_tracks(tracks, [depth], camera)
    assert np.isfinite(paths[:, 0]).all(axis=1).tolist() == [True, False, True, False]


def test_a_dense_grid_of_tracks_is_lifted():
    count = 40_000  # more than cv2.remap takes in a row
    xy = np.random.default_rng(0).uniform(2, 8, (count, 1, 2)).astype(np.float32)
    tracks = PointTracks(xy, np.ones((count, 1), bool), np.full((count, 3), np.nan))
    depth, camera = [np.full((10, 10), 2.0, np.float32)], (np.eye(4)[None, :3], np.diag([10.0, 10, 1])[None])
    paths = lift_tracks(tracks, depth, FrameCameras(*camera, np.array([[10, 10]])))
    np.testing.assert_allclose(paths[:, 0], np.concatenate((xy[:, 0] / 5, np.full((count, 1), 2)), axis=1), rtol=1e-5)


def test_paths_are_carried_by_their_neighbours_while_they_are_hidden():
    true = turning_ball()
    seen = true.copy()
    hidden = true[..., 2] > np.linspace(4, 4.5, FRAMES)  # the half of the ball that is turned away
    seen[hidden] = np.nan
    kept = (~hidden).sum(axis=1) >= 3
    complete = complete_paths(seen)
    assert len(complete) == kept.sum()
    off = np.linalg.norm(complete - true[kept], axis=2)
    assert np.isfinite(complete).all()
    assert np.median(off[~hidden[kept]]) < 0.005
    assert np.median(off[hidden[kept]]) < 0.03  # of a ball 0.6 across that goes 1.1


def test_noise_of_short_tracks_does_not_turn_what_they_carry():
    rng = np.random.default_rng(3)
    still = rng.uniform(-0.3, 0.3, (60, 1, 3)) + np.array((0, 0, 4))
    seen = np.repeat(still, FRAMES, axis=1) + 0.03 * rng.normal(size=(60, FRAMES, 3))
    for track, first in enumerate(rng.integers(0, FRAMES - 4, 60)):
        seen[track, :first] = seen[track, first + 4 :] = np.nan
    complete = complete_paths(seen)
    assert len(complete) > 50
    assert np.linalg.norm(complete[:, -1] - complete[:, 0], axis=1).mean() < 0.1  # .13 where noise may turn


def test_tracks_of_noise_are_left_out():
    true = turning_ball()
    rng = np.random.default_rng(1)
    wrong = rng.random(len(true)) < 0.3
    paths = np.where(wrong[:, None, None], 4 + rng.uniform(-1, 1, true.shape), true)
    complete = complete_paths(paths)
    assert len(complete) == (~wrong).sum()
    np.testing.assert_allclose(complete, true[~wrong], atol=0.02)


def test_tracks_without_company_are_no_reason_to_leave_out_those_that_go_together():
    rng = np.random.default_rng(4)
    paths = np.full((50, 60, 3), np.nan)
    paths[:20, :6] = rng.uniform(-0.3, 0.3, (20, 1, 3)) + rng.normal(0, 0.02, (20, 6, 3))
    for track in range(20, 50):  # seven at a time: fewer neighbours than half of those that are asked
        first = 6 + 12 * (track // 7 - 2) + 2 * (track % 7 > 3)
        paths[track, first : first + 3] = rng.uniform(-0.3, 0.3, 3)
    assert len(complete_paths(paths)) >= 15


def test_no_path_is_left_of_tracks_that_are_too_short_or_alone():
    paths = np.full((20, FRAMES, 3), np.nan)
    paths[:, :2] = 1.0
    assert len(complete_paths(paths)) == 0
    assert len(complete_paths(np.zeros((1, FRAMES, 3)))) == 0
    assert len(complete_paths(np.zeros((0, FRAMES, 3)))) == 0


def test_what_moves_is_tracked_and_what_stands_still_keeps_its_tracks():
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 255, (60, 80, 3), dtype=np.uint8)
    patch = rng.integers(0, 255, (24, 24, 3), dtype=np.uint8)
    images, masks = [], []
    for step in range(6):
        image, mask = texture.copy(), np.zeros((30, 40), np.float32)
        image[20:44, 10 + 2 * step : 34 + 2 * step] = patch
        mask[10:22, 5 + step : 17 + step] = 1
        images.append(image)
        masks.append(mask)
    static = PointTracks(np.full((1, 6, 2), 70.0, np.float32), np.ones((1, 6), bool), np.ones((1, 3)))
    tracks, moving = tracks_of_motion(images, masks, static)
    assert not moving[0].any()
    assert moving[1:].any(axis=1).mean() > 0.8
    ends = moving[:, 0] & moving[:, 5]
    assert ends.any()
    np.testing.assert_allclose(np.median(tracks.xy[ends, 5] - tracks.xy[ends, 0], axis=0), (10, 0), atol=0.2)
    assert len(tracks_of_motion(images, masks, static, dense=False)[0]) == 1


def test_masks_of_a_long_clip_are_not_all_held_at_the_size_of_its_images(monkeypatch):
    monkeypatch.setattr("page4d_hf.utils.lazy_images.MOST_HELD", 2**20)
    count, size = 40, (300, 400)
    images = [np.zeros((*size, 3), np.uint8)] * count
    tracks = PointTracks(np.full((1, count, 2), 5, np.float32), np.ones((1, count), bool), np.zeros((1, 3)))
    tracemalloc.start()
    _, moving = tracks_of_motion(images, [np.ones((30, 40), np.float32)] * count, tracks, dense=False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert moving.all()
    assert peak < 10 * size[0] * size[1]  # bytes, of 40 times that
