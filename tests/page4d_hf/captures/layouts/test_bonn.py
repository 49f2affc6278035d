"""Sequences of Bonn's RGB-D data set: poses of markers, a lens, and TUM's lists."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ball_on_plane import check_geometry, views, world_to_camera
from small_bonn import CENTER, DISTORTION, NAME, SmallBonn

from page4d_hf.captures import detect_layout, find_sequences, read_capture, read_sequence
from page4d_hf.captures.layouts.bonn import read_bonn


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds rgbd_bonn_dataset with one sequence of 3 distorted images."""
    return SmallBonn(tmp_path_factory.mktemp("bonn")).root


def test_poses_are_those_of_the_camera_and_not_of_its_markers(published: Path) -> None:
    capture = read_bonn(published, NAME)
    for i, view in enumerate(views(3)):
        np.testing.assert_allclose(capture.extrinsics[i], world_to_camera(view)[:3], atol=1e-5)


def test_rotations_are_orthonormal_though_the_published_correction_is_scaled(published: Path) -> None:
    rotations = read_bonn(published, NAME).extrinsics[:, :, :3]
    np.testing.assert_allclose(rotations @ rotations.transpose(0, 2, 1), np.tile(np.eye(3), (3, 1, 1)), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(rotations), 1)


@pytest.mark.slow
def test_undistorted_depth_and_images_agree_with_the_cameras(published: Path) -> None:
    """Depth takes the nearest pixel, half a pixel away at most: 1.1 mm in the median. With the lens left in, 2 mm."""
    capture = read_bonn(published, NAME)
    check_geometry(capture, tolerance=1.5e-3)
    capture.distortion[:] = 0
    with pytest.raises(AssertionError):
        check_geometry(capture, tolerance=1.5e-3)


def test_the_lens_is_left_in_the_images(published: Path) -> None:
    capture = read_bonn(published, NAME)
    np.testing.assert_array_equal(capture.distortion[1], DISTORTION)
    np.testing.assert_allclose(capture.intrinsics[1, :2, 2], CENTER + 0.5)
    assert (capture.layout, capture.scale, capture.depth_scale) == ("bonn", "metres", 1 / 5000)


def test_a_sequence_is_found_with_or_without_the_outer_folder(published: Path) -> None:
    assert find_sequences("bonn", published) == find_sequences("bonn", published / "rgbd_bonn_dataset") == [NAME]
    assert len(read_sequence("bonn", published / "rgbd_bonn_dataset", NAME)) == 3


def test_a_folder_of_a_sequence_is_told_from_tums_by_its_name(published: Path) -> None:
    folder = published / "rgbd_bonn_dataset" / NAME
    assert detect_layout(folder) == "bonn"
    assert read_capture(folder).layout == "bonn"
