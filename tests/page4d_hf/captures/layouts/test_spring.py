"""Spring: what is read, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ball_on_plane import check_geometry
from small_spring import COUNT, Scene

from page4d_hf.captures import as_pinhole
from page4d_hf.captures.layouts.spring import read_spring, spring_sequences
from page4d_hf.errors import CaptureError


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


@pytest.mark.parametrize("eye", ["left", "right"])
def test_points_of_all_frames_lie_on_the_scenes_surfaces(scene: Scene, eye: str) -> None:
    capture = read_spring(scene.root, f"train/0007/{eye}")
    assert capture.frame_ids == ["0001", "0002", "0003"]
    check_geometry(capture, tolerance=1e-5, color_tolerance=0.6)
    assert capture.scale == "metres"
    assert not capture.skipped
    assert not capture.notes


def test_sky_and_pixels_without_disparity_have_no_depth(scene: Scene) -> None:
    depth = as_pinhole(read_spring(scene.root, "train/0007/left")).load_depth(0)
    assert (depth[0] == 0).all()
    assert depth[1, :3].tolist() == [0, 0, 0]
    assert (depth[2:] > 0).all()


def test_maps_may_lie_in_the_scene_itself(tmp_path: Path) -> None:
    scene = Scene(tmp_path, maps="")
    frames = as_pinhole(read_spring(tmp_path, "train/0007/left"))
    assert (frames.load_depth(1)[0] == 0).all()
    np.testing.assert_array_equal(frames.load_motion_mask(1), scene.on_ball["left"][1])


@pytest.mark.parametrize("marked", ["moving", "rigid"])
def test_the_flow_tells_whether_rigidity_maps_mark_what_moves(tmp_path: Path, marked: str) -> None:
    scene = Scene(tmp_path, marked=marked)
    for eye in ("left", "right"):
        capture = read_spring(tmp_path, f"train/0007/{eye}")
        assert not capture.notes
        frames = as_pinhole(capture)
        for i in range(COUNT):  # the last frame's map is that of the way back
            np.testing.assert_array_equal(frames.load_motion_mask(i), scene.on_ball[eye][i])


@pytest.mark.parametrize("marked", ["moving", "rigid"])
def test_in_a_scene_where_nothing_moves_no_mask_says_otherwise(tmp_path: Path, marked: str) -> None:
    Scene(tmp_path, marked=marked, moves=False)
    frames = as_pinhole(read_spring(tmp_path, "train/0007/left"))
    assert not any(frames.load_motion_mask(i).any() for i in range(COUNT))


def test_without_flow_what_is_marked_is_taken_to_move_and_a_note_says_so(scene: Scene) -> None:
    scene.remove("flow_FW_*/*")
    capture = read_spring(scene.root, "train/0007/left")
    assert any("taken to mark what moves" in note for note in capture.notes)
    np.testing.assert_array_equal(as_pinhole(capture).load_motion_mask(0), scene.on_ball["left"][0])


def test_without_rigidity_maps_there_are_no_masks(scene: Scene) -> None:
    scene.remove("maps/rigidmap*/*")
    capture = read_spring(scene.root, "train/0007/left")
    assert capture.motion_mask_paths is None
    assert not capture.notes


# --------------------------------------------------------------------------------------------------------------------
# Where the sequences are


def test_each_eye_is_a_sequence(scene: Scene) -> None:
    assert spring_sequences(scene.root) == ["train/0007/left", "train/0007/right"]
    assert spring_sequences(scene.root / "train") == ["0007/left", "0007/right"]
    assert len(read_spring(scene.root / "train", "0007/right")) == COUNT


def test_an_eye_that_was_not_fetched_is_not_listed(scene: Scene) -> None:
    scene.remove("frame_right/*")
    (scene.folder / "frame_right").rmdir()
    assert spring_sequences(scene.root, "train") == ["train/0007/left"]


def test_the_test_split_is_refused(scene: Scene) -> None:
    with pytest.raises(CaptureError, match="test is published without extrinsics and cannot be read"):
        spring_sequences(scene.root, "test")
    (scene.folder / "cam_data" / "extrinsics.txt").unlink()
    with pytest.raises(CaptureError, match=r"extrinsics\.txt is missing: the test split is published without"):
        read_spring(scene.root, "train/0007/left")


# --------------------------------------------------------------------------------------------------------------------
# What is refused


def test_a_name_without_an_eye_is_refused(scene: Scene) -> None:
    with pytest.raises(CaptureError, match=r"expected <split>/<scene>/left or \.\.\./right"):
        read_spring(scene.root, "train/0007")
