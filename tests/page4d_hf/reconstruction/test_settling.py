import numpy as np
import pytest
from small_scene import SIZE, ball_scene
from turning_ball import FRAMES, turning_ball

from page4d_hf.reconstruction.paths import FrameCameras
from page4d_hf.reconstruction.settling import DEPTH_NOISE, noise_of_depth, settle_paths, settled_depth
from page4d_hf.scene import PointTracks

CENTERS = np.linspace((-0.5, 0, 0), (0.5, 0, 0), FRAMES)


def motion_error(paths, true):
    """The median distance from true paths, but for where each is as a whole."""
    off = paths - true
    return float(np.nanmedian(np.linalg.norm(off - np.nanmean(off, axis=1, keepdims=True), axis=2)))


@pytest.mark.slow
@pytest.mark.parametrize(("noise", "left"), [(0.2, 0.3), (0.05, 0.5)])
def test_noise_along_the_rays_is_settled_and_hidden_frames_stay_unknown(noise, left):
    true = turning_ball()
    rng = np.random.default_rng(2)
    noisy = CENTERS + (true - CENTERS) * np.exp(noise * rng.normal(size=(*true.shape[:2], 1)))
    noisy[:, 7] = np.nan
    settled = settle_paths(noisy, CENTERS, noise)
    assert np.isnan(settled[:, 7]).all()
    assert motion_error(settled, true) < left * motion_error(noisy, true)


@pytest.mark.slow
def test_depth_that_drifts_is_not_taken_for_motion():
    true = turning_ball()
    true[..., 2] = true[:, :1, 2]  # across the rays only
    drift = 0.1 * np.sin(np.linspace(0, 6, FRAMES))[:, None]
    settled = settle_paths(CENTERS + (true - CENTERS) * np.exp(drift), CENTERS)
    assert motion_error(settled, true) < 0.3 * motion_error(CENTERS + (true - CENTERS) * np.exp(drift), true)


def test_static_tracks_tell_how_noisy_depth_is():
    scene = ball_scene(9)  # whose tracks are of the plane
    rng = np.random.default_rng(0)
    cameras = FrameCameras(scene.extrinsics, scene.intrinsics, np.tile(SIZE, (9, 1)))

    def noise(deviation):
        depth = [z * np.float32(np.exp(deviation * rng.normal())) for z in scene.depth]
        return noise_of_depth(scene.tracks, depth, cameras)

    assert noise(0.02) == pytest.approx(4 * 0.02, rel=0.5)
    assert noise(0.0) < 0.02
    none = PointTracks(scene.tracks.xy, scene.tracks.visible, np.full_like(scene.tracks.points, np.nan))
    assert noise_of_depth(none, scene.depth, cameras) == DEPTH_NOISE


def swaying(amount: float) -> np.ndarray:
    """Centres [S, 3] of a camera that sways from side to side."""
    return amount * np.sin(np.linspace(0, 12, FRAMES))[:, None] * (1.0, 0.3, 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("off", [0.85, 1.15])
def test_a_moving_camera_halves_what_depth_is_off_by_as_a_whole(off):
    true, centers = turning_ball(), swaying(0.3)
    settled = settle_paths(centers + off * (true - centers), centers)
    ratio = np.linalg.norm(settled - centers, axis=2) / np.linalg.norm(true - centers, axis=2)
    assert abs(np.median(ratio) - 1) < 0.6 * abs(off - 1)


@pytest.mark.slow
def test_a_still_camera_leaves_a_thing_where_depth_says():
    true = turning_ball()
    settled = settle_paths(true, np.zeros((FRAMES, 3)))
    ratio = np.linalg.norm(settled, axis=2) / np.linalg.norm(true, axis=2)
    assert np.median(ratio) == pytest.approx(1, abs=0.02)


def test_too_few_observations_are_left_out():
    paths = np.full((4, FRAMES, 3), np.nan)
    assert np.isnan(settle_paths(paths, CENTERS)).all()
    paths[:, :2] = 4.0
    assert np.isnan(settle_paths(paths, CENTERS)).all()
    paths[0, :3] = 4.0
    assert np.isfinite(settle_paths(paths, CENTERS)[0, :3]).all()


def test_depth_of_what_moves_follows_the_tracks_that_are_as_near():
    depth = np.full((8, 12), 2.0, np.float32)
    depth[:, 8:] = 4.0  # behind
    depth[0, 0] = np.nan
    motion = np.ones((8, 12), np.float32)
    motion[6:] = 0
    rays = (np.stack(np.meshgrid(np.arange(1, 8, 2), np.arange(1, 6, 2)), axis=-1).reshape(-1, 2) - (6, 4)) / 20
    lifted = 2.0 * np.concatenate((rays, np.ones((len(rays), 1))), axis=1)
    settled = 1.1 * lifted
    lifted[3] = np.nan  # not seen
    camera = FrameCameras(np.eye(4)[:3], np.array([[20.0, 0, 6], [0, 20, 4], [0, 0, 1]]), np.array([12, 8]))
    found = settled_depth(depth, motion, lifted, settled, camera)
    np.testing.assert_allclose(found[1:6, :8], 2.2, rtol=1e-5)
    np.testing.assert_array_equal(found[:6, 9:], 4.0)
    np.testing.assert_array_equal(found[6:], depth[6:])
    assert np.isnan(found[0, 0])
    np.testing.assert_array_equal(settled_depth(depth, motion, 0 * lifted + np.nan, settled, camera), depth)
