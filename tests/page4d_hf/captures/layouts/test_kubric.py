"""Kubric scenes: what is read, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from ball_on_plane import check_geometry
from small_kubric import Scene

from page4d_hf.captures import as_pinhole
from page4d_hf.captures.layouts.kubric import kubric_sequences, read_kubric


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_points_of_all_frames_lie_on_the_scenes_surfaces(scene: Scene, tmp_path: Path) -> None:
    capture = read_kubric(tmp_path, "0001")
    assert len(capture) == 4
    check_geometry(capture, tolerance=1e-5, color_tolerance=0.6)
    assert capture.scale == "arbitrary"
    assert not capture.skipped


def test_pixels_are_square_and_the_principal_point_is_the_middle(scene: Scene, tmp_path: Path) -> None:
    intrinsics = read_kubric(tmp_path, "0001").intrinsics[0]
    np.testing.assert_allclose(intrinsics, [[70, 0, 32], [0, 70, 24], [0, 0, 1]])


def test_what_is_dynamic_or_changes_its_pose_moves(scene: Scene, tmp_path: Path) -> None:
    mask = as_pinhole(read_kubric(tmp_path, "0001")).load_motion_mask(3)
    expected = scene.on_ball.copy()
    expected[[0, 0, -1, -1], [0, -1, 0, -1]] = [False, True, True, False]  # resting, dynamic, turning, trembling
    np.testing.assert_array_equal(mask, expected)


def test_frames_have_the_times_of_the_frame_rate(scene: Scene, tmp_path: Path) -> None:
    capture = read_kubric(tmp_path, "0001")
    assert capture.fps == 12
    np.testing.assert_allclose(capture.timestamps, np.arange(4) / 12)
    assert capture.frame_ids == ["00000", "00001", "00002", "00003"]


def test_depth_of_half_the_size_is_still_radial(scene: Scene, tmp_path: Path) -> None:
    path = scene.folder / "depth_00001.tiff"
    whole = as_pinhole(read_kubric(tmp_path, "0001")).load_depth(1)
    # Distances at the centres of 2 x 2 pixels, of a wall at z = 2.
    u, v = np.meshgrid(np.arange(1, 64, 2), np.arange(1, 48, 2))
    distance = 2 * np.sqrt(((u - 32) / 70) ** 2 + ((v - 24) / 70) ** 2 + 1)
    tifffile.imwrite(path, distance.astype(np.float32))
    depth = as_pinhole(read_kubric(tmp_path, "0001")).load_depth(1)
    assert depth.shape == whole.shape
    np.testing.assert_allclose(depth, 2, rtol=1e-6)


def test_where_a_ray_hits_nothing_there_is_no_depth(scene: Scene, tmp_path: Path) -> None:
    distance = np.full((48, 64), 3.0, np.float32)
    distance[0, :3] = [1e10, np.inf, np.nan]
    tifffile.imwrite(scene.folder / "depth_00001.tiff", distance)
    depth = as_pinhole(read_kubric(tmp_path, "0001")).load_depth(1)
    assert depth[0, :3].tolist() == [0, 0, 0]
    assert (depth[1:] > 0).all()


def test_scenes_are_found_by_name(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    assert kubric_sequences(tmp_path) == ["0001"]
