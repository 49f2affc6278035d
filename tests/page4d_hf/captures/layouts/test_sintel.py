"""Sequences of MPI Sintel: its byte formats, what is read, and what is refused."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from ball_on_plane import check_geometry, world_to_camera
from PIL import Image
from small_sintel import NAME, SIZE, SmallSintel, write_camera, write_floats

from page4d_hf.captures import as_pinhole, find_sequences, read_sequence
from page4d_hf.captures.depth_files import read_sintel_floats
from page4d_hf.captures.layouts.sintel import PASSES, POSE_SEQUENCES, read_sintel, sintel_sequences
from page4d_hf.errors import CaptureError


@pytest.fixture
def sintel(tmp_path: Path) -> SmallSintel:
    return SmallSintel(tmp_path)


# --------------------------------------------------------------------------------------------------------------------
# What is read


@pytest.mark.parametrize("render_pass", PASSES)
def test_depth_and_cameras_put_the_pixels_on_the_surfaces(sintel: SmallSintel, render_pass: str) -> None:
    capture = read_sintel(sintel.root, f"{render_pass}/{NAME}")
    assert capture.image_paths[0].parts[-3:] == (render_pass, NAME, "frame_0001.png")
    check_geometry(capture, tolerance=1e-5, color_tolerance=1.0)


def test_the_principal_point_counts_from_the_first_corner(sintel: SmallSintel) -> None:
    """The middle of the image, stored as 31.5 and 13.5."""
    assert read_sintel(sintel.root, NAME).intrinsics[0, :2, 2].tolist() == [32, 14]


def test_cameras_are_world_to_camera_as_stored(sintel: SmallSintel) -> None:
    capture = read_sintel(sintel.root, NAME)
    for extrinsics, view in zip(capture.extrinsics, sintel.views[:4], strict=True):
        np.testing.assert_allclose(extrinsics, world_to_camera(view)[:3], atol=1e-12)


def test_what_moves_is_told_from_flow_depth_and_cameras(sintel: SmallSintel) -> None:
    frames = as_pinhole(read_sintel(sintel.root, NAME))
    for i in range(3):
        assert 10 < sintel.balls[i].sum() < sintel.balls[i].size / 2
        np.testing.assert_array_equal(frames.load_motion_mask(i), sintel.balls[i])
    assert frames.load_motion_mask(3) is None


def test_the_threshold_of_motion_is_in_pixels(sintel: SmallSintel) -> None:
    """The ball's flow is off by 3 pixels in u and in v."""
    for threshold, moving in ((4.2, True), (4.3, False)):
        mask = as_pinhole(read_sintel(sintel.root, NAME, motion_threshold=threshold)).load_motion_mask(1)
        assert mask.any() == moving


def test_a_zoom_is_no_motion(sintel: SmallSintel) -> None:
    """The next frame's focal length differs: flow and cameras both say so."""
    flow = read_sintel_floats(sintel.path("flow", 0, ".flo"), 2).astype(np.float64)
    v, u = np.indices(flow.shape[:2])
    target = np.stack((u, v), -1) + flow
    zoomed = (target - [31.5, 13.5]) * 1.2 + [31.5, 13.5]
    write_floats(sintel.path("flow", 0, ".flo"), zoomed - np.stack((u, v), -1))
    write_camera(
        sintel.path("camdata_left", 1, ".cam"),
        sintel.intrinsics * [[1.2, 1, 1], [1, 1.2, 1], [1, 1, 1]],
        world_to_camera(sintel.views[1])[:3],
    )
    np.testing.assert_array_equal(as_pinhole(read_sintel(sintel.root, NAME)).load_motion_mask(0), sintel.balls[0])


def test_pixels_without_flow_do_not_move(sintel: SmallSintel) -> None:
    invalid = np.zeros(SIZE[::-1], np.uint8)
    invalid[:, 30:34] = 255
    Image.fromarray(invalid).save(sintel.path("invalid", 0, ".png"))
    mask = as_pinhole(read_sintel(sintel.root, NAME)).load_motion_mask(0)
    np.testing.assert_array_equal(mask, sintel.balls[0] & (invalid == 0))
    assert mask.sum() < sintel.balls[0].sum()


def test_flow_is_read_by_rows_u_before_v(tmp_path: Path) -> None:
    path = tmp_path / "frame_0001.flo"
    path.write_bytes(struct.pack("<fii12f", 202021.25, 3, 2, *range(12)))
    np.testing.assert_array_equal(read_sintel_floats(path, 2), np.arange(12.0).reshape(2, 3, 2))


def test_a_capture_tells_its_sequence_and_its_times(sintel: SmallSintel) -> None:
    capture = read_sintel(sintel.root, f"clean/{NAME}")
    assert (capture.layout, capture.sequence, capture.scale) == ("sintel", f"clean/{NAME}", "metres")
    assert capture.frame_ids == ["frame_0001", "frame_0002", "frame_0003", "frame_0004"]
    assert capture.time_ids.tolist() == [1, 2, 3, 4]  # as the files are numbered
    np.testing.assert_allclose(capture.timestamps, np.arange(4) / 24)
    assert (capture.skipped, capture.notes) == ([], [])


def test_each_pass_has_its_own_sequences_and_the_final_one_is_meant_if_none_is_named(sintel: SmallSintel) -> None:
    assert find_sequences("sintel", sintel.root) == sintel_sequences(sintel.root) == [f"final/{NAME}"]
    assert find_sequences("sintel", sintel.root, "clean") == [f"clean/{NAME}"]
    assert read_sequence("sintel", sintel.root, f"clean/{NAME}").image_paths[0].parts[-3] == "clean"
    assert read_sintel(sintel.root, NAME).sequence == f"final/{NAME}"


def test_archives_may_lie_side_by_side(sintel: SmallSintel) -> None:
    expected = as_pinhole(read_sintel(sintel.root, NAME))
    image, depth, mask = expected.load_image(0), expected.load_depth(0), expected.load_motion_mask(0)
    for folder, kinds in (
        ("MPI-Sintel-training_images", PASSES),
        ("MPI-Sintel-depth-training-20150305", ("depth", "camdata_left")),
        ("MPI-Sintel-training_extras", ("flow", "occlusions", "invalid")),
    ):
        (sintel.root / folder / "training").mkdir(parents=True)
        for kind in kinds:
            (sintel.training / kind).rename(sintel.root / folder / "training" / kind)
    sintel.training.rmdir()
    assert sintel_sequences(sintel.root) == [f"final/{NAME}"]
    frames = as_pinhole(read_sintel(sintel.root, NAME))
    np.testing.assert_array_equal(frames.load_image(0), image)
    np.testing.assert_array_equal(frames.load_depth(0), depth)
    np.testing.assert_array_equal(frames.load_motion_mask(0), mask)


def test_the_root_may_be_the_training_folder(sintel: SmallSintel) -> None:
    assert sintel_sequences(sintel.training) == [f"final/{NAME}"]
    assert len(read_sintel(sintel.training, NAME)) == 4


def test_without_flow_there_are_no_masks(sintel: SmallSintel) -> None:
    (sintel.training / "flow").rename(sintel.root / "elsewhere")
    capture = read_sintel(sintel.root, NAME)
    assert capture.motion_mask_paths is None
    assert "has no training/flow/alley_2: what moves is not known" in capture.notes[0]


def test_without_depth_there_are_cameras_still(sintel: SmallSintel) -> None:
    (sintel.training / "depth").rename(sintel.root / "elsewhere")
    capture = read_sintel(sintel.root, NAME)
    assert (len(capture), capture.depth_paths, capture.motion_mask_paths) == (4, None, None)
    assert "has no training/depth/alley_2" in capture.notes[0]


def test_cameras_are_evaluated_on_fourteen_sequences() -> None:
    assert len(set(POSE_SEQUENCES)) == 14


# --------------------------------------------------------------------------------------------------------------------
# What is left out, and what is refused


def test_a_sequence_that_is_not_there_is_refused(sintel: SmallSintel) -> None:
    with pytest.raises(CaptureError, match=r"has no training/final/cave_2"):
        read_sintel(sintel.root, "cave_2")
    with pytest.raises(CaptureError, match=r"has no training/sharp/alley_2"):
        read_sintel(sintel.root, "sharp/alley_2")
