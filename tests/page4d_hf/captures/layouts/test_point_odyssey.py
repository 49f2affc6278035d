"""PointOdyssey: what is read, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ball_on_plane import check_geometry
from small_point_odyssey import COUNT, Sequence

from page4d_hf.captures import as_pinhole
from page4d_hf.captures.layouts.point_odyssey import point_odyssey_sequences
from page4d_hf.errors import CaptureError


@pytest.fixture
def sequence(tmp_path: Path) -> Sequence:
    return Sequence(tmp_path)


def test_points_of_all_frames_lie_on_the_scenes_surfaces(sequence: Sequence) -> None:
    capture = sequence.read()
    assert capture.frame_ids == ["00000", "00001", "00002", "00003"]
    check_geometry(capture, tolerance=6e-3, color_tolerance=4)  # depth is stored to 15 mm
    assert capture.scale == "metres"
    assert not capture.skipped
    assert not capture.notes


def test_sky_has_no_depth(sequence: Sequence) -> None:
    depth = as_pinhole(sequence.read()).load_depth(0)
    np.testing.assert_allclose(depth[0, :3], [0, 0, 65534 / 65535 * 1000], rtol=1e-6)


def test_frames_have_the_times_of_the_frame_rate(sequence: Sequence) -> None:
    np.testing.assert_allclose(sequence.read().timestamps, np.arange(COUNT) / 30)


# --------------------------------------------------------------------------------------------------------------------
# What moves


@pytest.mark.parametrize("compressed", [True, False])
def test_the_mask_shows_instances_whose_tracks_move(sequence: Sequence, compressed: bool) -> None:
    sequence.save(compressed=compressed)
    np.testing.assert_array_equal(sequence.mask(), sequence.on_ball)


def test_broken_track_points_do_not_make_an_instance_move(sequence: Sequence) -> None:
    sequence.arrays["trajs_3d"][1, 30:40] = np.nan
    sequence.arrays["trajs_3d"][2, 30:40] = np.inf
    sequence.arrays["trajs_3d"][3, 40:50] = 77  # at a place that is not valid
    sequence.arrays["valids"][3, 40:50] = False
    sequence.save()
    np.testing.assert_array_equal(sequence.mask(), sequence.on_ball)


def test_hidden_tracks_say_nothing_about_a_pixel(sequence: Sequence) -> None:
    sequence.arrays["trajs_2d"][:, :25] = [2.5, 33.5]  # on the block, which hides the ball's
    sequence.arrays["visibs"][:, :25] = False
    sequence.save()
    np.testing.assert_array_equal(sequence.mask(), sequence.on_ball)


def test_tracks_beyond_the_image_are_left_aside(sequence: Sequence) -> None:
    sequence.arrays["trajs_2d"][:, 0] = [64.0, 3.0]
    sequence.arrays["trajs_2d"][:, 1] = [3.0, -0.2]
    sequence.arrays["trajs_2d"][:, 2] = np.nan
    sequence.save()
    np.testing.assert_array_equal(sequence.mask(), sequence.on_ball)


def test_arrays_in_fortran_order_are_read(sequence: Sequence) -> None:
    sequence.arrays = {key: np.asfortranarray(values) for key, values in sequence.arrays.items()}
    sequence.save()
    check_geometry(sequence.read(), tolerance=6e-3)
    np.testing.assert_array_equal(sequence.mask(), sequence.on_ball)


@pytest.mark.parametrize("tracks", [np.array([None]), np.array(None), np.zeros((COUNT, 0, 3)), None])
def test_without_tracks_in_the_world_there_are_no_masks(sequence: Sequence, tracks: np.ndarray | None) -> None:
    if tracks is None:
        del sequence.arrays["trajs_3d"]
    else:
        sequence.arrays["trajs_3d"] = tracks
    sequence.save()
    capture = sequence.read()
    assert len(capture) == COUNT
    assert capture.motion_mask_paths is None
    assert "no masks of what moves" in capture.notes[0]


def test_a_frame_without_a_mask_stays(sequence: Sequence) -> None:
    (sequence.folder / "masks" / "mask_00001.png").unlink()
    assert sequence.mask(1) is None
    np.testing.assert_array_equal(sequence.mask(), sequence.on_ball)


def test_sequences_that_one_renders_oneself_are_read(sequence: Sequence) -> None:
    (sequence.folder / "anno.npz").unlink()
    del sequence.arrays["valids"], sequence.arrays["visibs"]
    for key in ("intrinsics", "extrinsics"):
        sequence.arrays[key] = sequence.arrays[key].astype(np.float16)
    states = np.ones((COUNT, 100), np.uint8)
    states[:, :25] = 0  # hidden but valid: the other five of the ball's tell its colour
    states[3, 40:50] = 2
    sequence.arrays["trajs_3d"][3, 40:50] = 77
    sequence.arrays["trajs_2d"][:, :25] = [2.5, 33.5]
    sequence.arrays["visibilities"] = states
    sequence.save("annotations.npz")
    capture = sequence.read()
    check_geometry(capture, tolerance=8e-3)
    rotations = capture.extrinsics[:, :, :3]
    np.testing.assert_allclose(rotations @ rotations.transpose(0, 2, 1), np.tile(np.eye(3), (COUNT, 1, 1)), atol=1e-12)
    np.testing.assert_array_equal(sequence.mask(), sequence.on_ball)


# --------------------------------------------------------------------------------------------------------------------
# Where the sequences are


def test_sequences_are_found_in_their_splits(tmp_path: Path) -> None:
    Sequence(tmp_path, "train/b")
    Sequence(tmp_path, "train/a")
    Sequence(tmp_path, "val/c")
    assert point_odyssey_sequences(tmp_path) == ["train/a", "train/b"]
    assert point_odyssey_sequences(tmp_path, "val") == ["val/c"]
    assert point_odyssey_sequences(tmp_path / "val") == ["c"]
    with pytest.raises(CaptureError, match="has no folder test"):
        point_odyssey_sequences(tmp_path, "test")


def test_a_sequence_without_annotations_is_listed_and_says_so_when_it_is_read(sequence: Sequence) -> None:
    (sequence.folder / "anno.npz").unlink()
    assert point_odyssey_sequences(sequence.root) == ["train/ani"]
    with pytest.raises(CaptureError, match=r"ani/anno\.npz is missing; version 1\.2 was published without"):
        sequence.read()


# --------------------------------------------------------------------------------------------------------------------
# What is refused


def test_an_archive_that_unpacks_without_end_is_refused(sequence: Sequence, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("page4d_hf.captures.layouts.point_odyssey.MOST_MEMBER_BYTES", 64)
    with pytest.raises(CaptureError, match=r"anno\.npz cannot .*intrinsics\.npy unpacks to more than"):
        sequence.read()
