"""Sequences of TUM's RGB-D benchmark: what is read, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ball_on_plane import check_geometry, world_to_camera
from PIL import Image
from small_tum import NAME, SIZE, SMALL, SmallSequence

from page4d_hf.captures import as_pinhole, find_sequences, read_capture, read_sequence
from page4d_hf.captures.layouts.rgbd_lists import match_nearest, match_once
from page4d_hf.captures.layouts.tum import LENSES, read_tum, tum_sequences
from page4d_hf.errors import CaptureError


@pytest.fixture
def sequence(tmp_path: Path) -> SmallSequence:
    return SmallSequence(tmp_path)


# --------------------------------------------------------------------------------------------------------------------
# What is read


def test_depth_and_cameras_put_the_pixels_on_the_surfaces(sequence: SmallSequence) -> None:
    check_geometry(read_tum(sequence.root, NAME), tolerance=2e-4)


@pytest.mark.slow
def test_the_camera_of_freiburg3_is_told_from_the_name(tmp_path: Path) -> None:
    """At the published size and with no file of intrinsics; pixels of the calibration count from the first centre."""
    capture = read_tum(SmallSequence(tmp_path, SIZE).root, NAME)
    np.testing.assert_array_equal(capture.intrinsics[0], [[535.4, 0, 320.6], [0, 539.2, 248.1], [0, 0, 1]])
    check_geometry(capture, tolerance=2e-4)


@pytest.mark.slow
def test_the_cameras_of_freiburg1_and_2_distort(tmp_path: Path) -> None:
    folder = SmallSequence(tmp_path, SIZE).folder
    for name in ("freiburg1", "freiburg2"):
        folder = folder.rename(tmp_path / f"rgbd_dataset_{name}_desk")
        capture = read_capture(folder)
        assert capture.distortion[0].tolist() == list(LENSES[name].distortion)
        assert as_pinhole(capture).load_image(0).shape == (480, 640, 3)


def test_poses_are_camera_to_world_with_the_scalar_last(sequence: SmallSequence) -> None:
    capture = read_tum(sequence.root, NAME)
    for i, view in enumerate(sequence.views):
        np.testing.assert_allclose(capture.extrinsics[i], world_to_camera(view)[:3], atol=5e-6)


def test_depth_is_metres_and_zero_where_it_is_not_known(sequence: SmallSequence) -> None:
    capture = read_tum(sequence.root, NAME)
    assert capture.scale == "metres"
    levels = np.zeros(SMALL[::-1], np.uint16)
    levels[1, 2] = 5000
    Image.fromarray(levels).save(capture.depth_paths[0])
    depth = as_pinhole(capture).load_depth(0)
    assert depth[1, 2] == 1
    assert np.count_nonzero(depth) == 1


def test_a_capture_tells_its_sequence_its_clock_and_its_rate(sequence: SmallSequence) -> None:
    capture = read_tum(sequence.root, NAME)
    assert (capture.layout, capture.sequence, capture.fps, capture.ordered) == ("tum", NAME, 30.0, True)
    np.testing.assert_allclose(capture.timestamps, sequence.times, atol=1e-6)
    assert capture.frame_ids == [path.stem for path in capture.image_paths]
    assert (capture.skipped, capture.notes) == ([], [])


def test_where_the_sensor_dropped_depth_an_image_has_none(sequence: SmallSequence) -> None:
    """Paired by their order, or with what is nearest, the images in the gap would have the depth of others."""
    sequence.write_list("depth", sequence.times[[0, 3]], 0.004)
    capture = read_tum(sequence.root, NAME)
    assert capture.depth_paths == [sequence.depth(0), None, None, sequence.depth(3)]
    assert f"2 images have no depth within 0.02 s, {sequence.image(1)} the first" in capture.notes[0]
    assert as_pinhole(capture).load_depth(2) is None


def test_lists_need_not_be_in_order_of_time(sequence: SmallSequence) -> None:
    expected = read_tum(sequence.root, NAME)
    sequence.write_list("rgb", sequence.times[::-1], 0.0)
    sequence.write_list("depth", sequence.times[[2, 0, 3, 1]], 0.004)
    order = np.random.default_rng(0).permutation(len(sequence.poses))
    sequence.pose_times, sequence.poses = sequence.pose_times[order], [sequence.poses[i] for i in order]
    sequence.write_poses()
    capture = read_tum(sequence.root, NAME)
    assert capture.image_paths == expected.image_paths
    assert capture.depth_paths == expected.depth_paths
    np.testing.assert_array_equal(capture.extrinsics, expected.extrinsics)


def test_associated_pairs_stand_for_the_two_lists(sequence: SmallSequence) -> None:
    expected = read_tum(sequence.root, NAME)
    pairs = [f"{t:.6f} rgb/{t:.6f}.png {t + 0.004:.6f} depth/{t + 0.004:.6f}.png" for t in sequence.times]
    sequence.write("associations.txt", *pairs)
    (sequence.folder / "rgb.txt").unlink()
    (sequence.folder / "depth.txt").unlink()
    capture = read_tum(sequence.root, NAME)
    assert (capture.image_paths, capture.depth_paths) == (expected.image_paths, expected.depth_paths)


def test_poses_of_another_method_are_noted(sequence: SmallSequence) -> None:
    (sequence.folder / "groundtruth.txt").unlink()
    sequence.write_poses("reference_poses.txt")
    assert "the poses are those of reference_poses.txt" in read_tum(sequence.root, NAME).notes[0]


def test_a_sequence_is_found_in_its_data_set_and_told_by_its_own_files(sequence: SmallSequence) -> None:
    (sequence.root / "notes").mkdir()
    assert tum_sequences(sequence.root) == find_sequences("tum", sequence.root) == [NAME]
    one, other = read_sequence("tum", sequence.root, NAME), read_capture(sequence.folder)
    assert (one.layout, one.frame_ids) == (other.layout, other.frame_ids)


def test_the_nearest_in_time_is_matched_if_it_is_near_enough() -> None:
    rng = np.random.default_rng(0)
    times, candidates = rng.uniform(0, 2, 60), rng.uniform(0, 2, 40)
    distances = np.abs(times[:, None] - candidates)
    expected = np.where(distances.min(1) <= 0.02, distances.argmin(1), -1)
    assert (expected < 0).any()
    np.testing.assert_array_equal(match_nearest(times, candidates, 0.02), expected)
    assert match_nearest(times, candidates[:0], 0.02).tolist() == [-1] * 60


def test_matched_once_the_closest_pairs_go_first() -> None:
    times, candidates = np.array([0.06, 0.0, 0.03]), np.array([0.05, 0.016])
    assert match_once(times, candidates, 0.02).tolist() == [0, -1, 1]  # 0.0 is 0.016 away, and 0.03 is 0.014
    assert match_once(times, candidates[:0], 0.02).tolist() == [-1] * 3
    rng = np.random.default_rng(0)
    times, candidates = rng.uniform(0, 1, 60), rng.uniform(0, 1, 40)
    distances, expected = np.abs(times[:, None] - candidates), np.full(60, -1)
    while distances.min() <= 0.02:
        i, j = np.unravel_index(distances.argmin(), distances.shape)
        expected[i], distances[i], distances[:, j] = j, np.inf, np.inf
    np.testing.assert_array_equal(match_once(times, candidates, 0.02), expected)


# --------------------------------------------------------------------------------------------------------------------
# A real sequence


@pytest.mark.slow
def test_depth_of_a_real_sequence_agrees_between_its_frames(shared: Path) -> None:
    """Most pixels of the first frames show the room, which stands still: where a surface is seen again 0.4 s later, its
    depth there is what its own depth and the two poses say. With the poses left out it is not. (Later, the people who
    walk fill half of the image.)"""
    capture = read_tum(shared / "data", "tum-walking-halfsphere")
    assert (len(capture), capture.skipped) == (25, [])
    frames = as_pinhole(capture)

    def disagreement(i: int, j: int, extrinsics: np.ndarray) -> float:
        intrinsics, depth, other = frames.intrinsics[i], frames.load_depth(i), frames.load_depth(j)
        v, u = np.nonzero(depth)
        rays = np.column_stack((u + 0.5, v + 0.5, np.ones(len(u)))) @ np.linalg.inv(intrinsics).T
        points = (rays * depth[v, u, None] - extrinsics[i, :, 3]) @ extrinsics[i, :, :3]
        seen = points @ extrinsics[j, :, :3].T + extrinsics[j, :, 3]
        x, y = np.floor((seen @ intrinsics.T)[:, :2] / seen[:, 2:]).astype(int).T
        inside = (x >= 0) & (x < 640) & (y >= 0) & (y < 480) & (seen[:, 2] > 0)
        stored, expected = other[y[inside], x[inside]], seen[inside, 2]
        known = stored > 0
        return float(np.median(np.abs(expected[known] / stored[known] - 1)))

    still = np.broadcast_to(capture.extrinsics[0], capture.extrinsics.shape)
    for i in (0, 3, 6):
        assert disagreement(i, i + 6, capture.extrinsics) < 0.04
        assert disagreement(i, i + 6, capture.extrinsics) < 0.35 * disagreement(i, i + 6, still)


# --------------------------------------------------------------------------------------------------------------------
# What is left out, and what is refused


def test_an_image_without_a_pose_is_left_out_and_named(sequence: SmallSequence) -> None:
    """Motion capture loses the camera; the images before and after keep their own poses."""
    near = np.abs(sequence.pose_times - sequence.times[1]) > 0.025
    sequence.pose_times, sequence.poses = (
        sequence.pose_times[near],
        [p for p, k in zip(sequence.poses, near, strict=True) if k],
    )
    sequence.write_poses()
    capture = read_tum(sequence.root, NAME)
    assert capture.time_ids.tolist() == [0, 2, 3]
    np.testing.assert_allclose(capture.extrinsics[1], world_to_camera(sequence.views[2])[:3], atol=5e-6)
    assert len(capture.skipped) == 1
    assert str(sequence.image(1)) in capture.skipped[0]
    assert "groundtruth.txt has no pose within 0.02 s" in capture.skipped[0]


@pytest.mark.parametrize("name", ["rgb.txt", "depth.txt", "groundtruth.txt"])
def test_a_list_that_is_missing_is_refused(sequence: SmallSequence, name: str) -> None:
    (sequence.folder / name).unlink()
    with pytest.raises(CaptureError, match=rf"{name} is missing"):
        read_tum(sequence.root, NAME)


def test_a_folder_whose_name_tells_no_camera_is_refused(sequence: SmallSequence) -> None:
    (sequence.folder / "intrinsics.txt").unlink()
    sequence.folder.rename(sequence.root / "walking")
    with pytest.raises(CaptureError, match=r"does not tell its camera .* write fx fy cx cy into .*intrinsics\.txt"):
        read_tum(sequence.root, "walking")


def test_a_sequence_that_is_not_there_is_refused(sequence: SmallSequence) -> None:
    with pytest.raises(CaptureError, match=r"There is no folder .*sitting"):
        read_tum(sequence.root, "sitting")
