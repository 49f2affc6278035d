import cv2
import numpy as np
import pytest

from page4d_hf.reconstruction.moving_tracks import MOST_AT_ONCE, track_motion

CENTER, TURN, GO = np.array((60.0, 50.0)), 0.06, np.array((2.0, 0.5))  # pixels, radians a frame, pixels a frame


def turning_disc(frames: int = 6, zoom: int = 1) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """A disc of soft patches of colour that turns and goes, before stripes that stand still; and where it is."""
    rng = np.random.default_rng(0)
    patches = cv2.resize(
        rng.integers(0, 255, (9, 9, 3), dtype=np.uint8), (61 * zoom, 61 * zoom), interpolation=cv2.INTER_CUBIC
    )
    size = 160 * zoom, 100 * zoom
    stripes = np.tile((127 + 120 * np.sin(np.arange(size[0]) / zoom))[None, :, None], (size[1], 1, 3)).astype(np.uint8)
    disc = cv2.circle(np.zeros((61 * zoom, 61 * zoom), np.uint8), (30 * zoom, 30 * zoom), 26 * zoom, (1,), -1)
    images, masks = [], []
    for frame in range(frames):
        cos, sin = np.cos(TURN * frame), np.sin(TURN * frame)
        turn = np.array([[cos, -sin], [sin, cos]])
        middle = zoom * (CENTER + GO * frame) - 0.5
        warp = np.concatenate((turn, (middle - turn @ (30.5 * zoom - 0.5, 30.5 * zoom - 0.5))[:, None]), axis=1)
        mask = cv2.warpAffine(disc, warp, size, flags=cv2.INTER_NEAREST) > 0
        images.append(np.where(mask[..., None], cv2.warpAffine(patches, warp, size), stripes))
        masks.append(mask)
    return images, masks


def errors(tracks, zoom: int = 1) -> np.ndarray:
    """How far each observation is from where the disc carries the track's first."""
    first = np.full((len(tracks), 2), np.nan)
    start = np.zeros(len(tracks), int)
    order = np.argsort(tracks.frame, kind="stable")[::-1]
    first[tracks.track[order]], start[tracks.track[order]] = tracks.xy[order], tracks.frame[order]
    cos, sin = (f(TURN * (tracks.frame - start[tracks.track])) for f in (np.cos, np.sin))
    x, y = (first[tracks.track] / zoom - (CENTER + GO * start[tracks.track, None])).T
    turned = np.stack((cos * x - sin * y, sin * x + cos * y), axis=1)
    return np.linalg.norm(tracks.xy / zoom - (CENTER + GO * tracks.frame[:, None] + turned), axis=1)


@pytest.mark.parametrize("zoom", [1, pytest.param(3, marks=pytest.mark.slow)])  # 480 pixels wide: shrunk at first
def test_what_turns_and_goes_is_followed_to_its_border(zoom):
    images, masks = turning_disc(zoom=zoom)
    tracks = track_motion(images, masks)
    assert len(tracks) > 60
    assert np.median(tracks.lengths()) == len(images)
    off = errors(tracks, zoom)
    assert np.median(off) < 0.3
    assert np.mean(off > 1.5) < 0.1
    # Whatever moves is near a track, in each frame.
    for frame, mask in enumerate(masks):
        seen = np.ones(mask.shape, np.uint8)
        for x, y in tracks.xy[tracks.frame == frame].astype(int):
            seen[y, x] = 0
        assert cv2.distanceTransform(seen, cv2.DIST_L2, 5)[mask].max() < 12 * zoom


@pytest.mark.slow
def test_tracks_end_where_what_they_follow_is_covered():
    images, masks = turning_disc()
    for image, mask in zip(images[3:], masks[3:], strict=True):
        image[:, 60:] = 90
        mask[:, 60:] = False
    tracks = track_motion(images, masks)
    assert not ((tracks.frame >= 3) & (tracks.xy[:, 0] > 62)).any()


@pytest.mark.slow
def test_large_regions_have_points_farther_apart():
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (240, 320, 3), dtype=np.uint8)] * 3
    tracks = track_motion(images, [np.ones((240, 320), bool)] * 3)
    assert 0.3 * MOST_AT_ONCE < len(tracks) < 1.3 * MOST_AT_ONCE


def test_tracks_are_placed_by_each_axis_s_own_scale():
    """Of images 480 x 101 that are looked at in 320 x 67."""
    image = np.random.default_rng(0).integers(0, 255, (101, 480, 3), dtype=np.uint8)
    moving = np.zeros((101, 480), bool)
    moving[60:, 200:260] = True
    tracks = track_motion([image] * 3, [moving] * 3)
    in_small = tracks.xy[tracks.frame == 0] * (320 / 480, 67 / 101)
    assert len(in_small) > 10
    np.testing.assert_allclose(in_small % 1, 0.5, atol=1e-3)  # tracks start at centres of pixels


def test_nothing_is_followed_where_nothing_moves():
    images, masks = turning_disc(4)
    assert len(track_motion(images, [np.zeros_like(mask) for mask in masks])) == 0
