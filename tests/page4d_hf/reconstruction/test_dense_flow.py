"""Optical flow between images of any size, down to those that OpenCV's DIS fails or crashes on."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from page4d_hf.reconstruction.dense_flow import DenseFlow
from page4d_hf.reconstruction.motion import geometric_motion
from page4d_hf.reconstruction.moving_tracks import track_motion
from page4d_hf.reconstruction.tracks import track_points


def sliding(height: int, width: int, count: int = 2) -> list[np.ndarray]:
    """A texture `(H, W, 3)` that goes one pixel to the left each frame."""
    noise = np.random.default_rng(0).integers(0, 256, (height // 3 + 2, width // 3 + 4, 3), np.uint8)
    wide = cv2.resize(noise, (width + count, height), interpolation=cv2.INTER_CUBIC)
    return [np.ascontiguousarray(wide[:, i : i + width]) for i in range(count)]


@pytest.mark.parametrize("preset", [cv2.DISOPTICAL_FLOW_PRESET_FAST, cv2.DISOPTICAL_FLOW_PRESET_MEDIUM])
@pytest.mark.parametrize("finest", [0, 1, 2])
def test_images_of_any_size_have_flow(preset: int, finest: int) -> None:
    for width in (8, 39, 40, 80, 160, 320):  # of a wide, low one DIS alone ends the process, as of 80x24
        for height in (7, 8, 12, 15, 24, 31):
            before, after = (image[..., 0].copy() for image in sliding(height, width))
            flow = DenseFlow(finest, preset)
            assert flow.calc(before, after).shape == flow.calc(after, before).shape == (height, width, 2)


@pytest.mark.parametrize("size", [(24, 640), (20, 960), (24, 160), (30, 80)])
def test_thin_images_have_flow(size: tuple[int, int]) -> None:
    before, after = (image[..., 0].copy() for image in sliding(*size))
    np.testing.assert_allclose(np.median(DenseFlow(2).calc(before, after), axis=(0, 1)), (-1, 0), atol=0.2)


@pytest.mark.parametrize("size", [(1, 1), (3, 300), (40, 7), (7, 40), (8, 8)])
def test_images_too_small_for_flow_have_none(size: tuple[int, int]) -> None:
    before, after = (image[..., 0].copy() for image in sliding(*size))
    assert not DenseFlow(2).calc(before, after).any()


@pytest.mark.slow
def test_points_are_followed_through_thin_images() -> None:
    images = sliding(24, 160, 4)
    moving = [np.ones((24, 160), bool)] * 4
    for tracks in (track_points(images), track_motion(images, moving)):
        first, last = tracks.rows_of_frames(4)[0], tracks.rows_of_frames(4)[3]
        _, i, j = np.intersect1d(tracks.track[first], tracks.track[last], return_indices=True)
        assert len(i) > 20
        np.testing.assert_allclose(np.median(tracks.xy[last][j] - tracks.xy[first][i], axis=0), (-3, 0), atol=0.2)


def test_an_image_of_one_pixel_shows_no_motion() -> None:
    cameras = np.tile(np.eye(3, 4), (3, 1, 1)), np.tile(np.eye(3), (3, 1, 1))
    masks = geometric_motion(sliding(1, 1, 3), *cameras, [np.ones((1, 1), np.float32)] * 3)
    assert np.max(masks) < 0.5
