"""What the readers of data sets of many sequences share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from page4d_hf.captures.sequences import (
    FrameList,
    check_camera,
    list_sequences,
    nearest_rotation,
    read_first_image_size,
)
from page4d_hf.errors import CaptureError

INTRINSICS = np.array([[50.0, 0, 8], [0, 50, 6], [0, 0, 1]])


# --------------------------------------------------------------------------------------------------------------------
# Folders


def test_sequences_are_those_to_train_on_where_there_are_splits(tmp_path: Path) -> None:
    for name in ("train/b", "train/a", "val/c", "loose"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "train" / "file.txt").touch()
    assert list_sequences(tmp_path, None, ("train", "val"), lambda path: True) == ["train/a", "train/b"]
    assert list_sequences(tmp_path, "val", ("train", "val"), lambda path: True) == ["val/c"]
    assert list_sequences(tmp_path, None, (), lambda path: path.name == "loose") == ["loose"]


def test_a_split_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="has no folder val"):
        list_sequences(tmp_path, "val", ("train", "val"), lambda path: True)


def test_the_size_is_that_of_the_first_image_that_can_be_read(tmp_path: Path) -> None:
    broken, good = tmp_path / "0.png", tmp_path / "1.png"
    broken.write_bytes(b"no image")
    Image.new("RGB", (16, 12)).save(good)
    assert read_first_image_size([broken, good]) == (16, 12)
    with pytest.raises(CaptureError, match=r"0\.png cannot be read as an image"):
        read_first_image_size([broken])


# --------------------------------------------------------------------------------------------------------------------
# Cameras


def test_a_rotation_of_few_digits_becomes_orthonormal_without_being_turned() -> None:
    rotation = Rotation.from_rotvec((0.3, -1.2, 0.8)).as_matrix()
    found = nearest_rotation(rotation.astype(np.float16))
    np.testing.assert_allclose(found @ found.T, np.eye(3), atol=1e-14)
    assert Rotation.from_matrix(found @ rotation.T).magnitude() < 5e-4


@pytest.mark.parametrize(
    "matrix", [1.01 * np.eye(3), np.diag([1.0, 1.0, -1.0]), np.zeros((3, 3)), np.full((3, 3), np.inf)]
)
def test_what_is_no_rotation_is_refused(matrix: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"is no rotation|NaN or infinity"):
        nearest_rotation(matrix)


# --------------------------------------------------------------------------------------------------------------------
# Frames


def test_frames_that_stay_keep_their_order_and_those_left_out_are_named(tmp_path: Path) -> None:
    frames = FrameList("test", tmp_path, "scene")
    for i in range(4):
        path = tmp_path / f"{i}.png"
        if i != 2:
            path.touch()
        extrinsics = np.eye(4) * (0 if i == 1 else 1)
        frames.add(path, extrinsics, INTRINSICS, (16, 12), i, timestamp=0.5 * i)
    capture = frames.capture(scale="metres")
    assert capture.frame_ids == ["0", "3"]
    assert capture.time_ids.tolist() == [0, 3]
    assert capture.timestamps.tolist() == [0, 1.5]
    assert capture.skipped == [
        f"{tmp_path / '1.png'} was left out: the rotation of its camera is no rotation.",
        f"{tmp_path / '2.png'} was left out: the image is missing.",
    ]
    assert (capture.sequence, capture.scale, capture.depth_paths, capture.motion_mask_paths) == (
        "scene",
        "metres",
        None,
        None,
    )


def test_a_sequence_without_frames_is_refused_with_the_first_reason(tmp_path: Path) -> None:
    frames = FrameList("test", tmp_path, "scene")
    with pytest.raises(CaptureError, match="scene has no frame that can be used; fetch the sequence again"):
        frames.capture()
    frames.add(tmp_path / "0.png", np.eye(4), INTRINSICS, (16, 12), 0)
    frames.add(tmp_path / "1.png", np.eye(4), INTRINSICS, (16, 12), 1)
    with pytest.raises(CaptureError, match=r"the first of 2: .*0\.png was left out: the image is missing"):
        frames.capture()


@pytest.mark.parametrize(
    ("place", "value", "why"),
    [
        ((0, 0), 1e300, r"holds 1e\+300, where numbers go to 1e\+09"),
        ((0, 0), 1e-300, "the focal lengths of its camera, 1e-300 and 50, are not > 0"),
        ((0, 2), np.nan, "holds NaN or infinity"),
        ((1, 0), 3.0, r"are not \[fx s cx; 0 fy cy; 0 0 1\]"),
        ((2, 2), 2.0, r"are not \[fx s cx; 0 fy cy; 0 0 1\]"),
    ],
)
def test_intrinsics_beyond_reason_are_no_camera(place: tuple[int, int], value: float, why: str) -> None:
    intrinsics = INTRINSICS.copy()
    intrinsics[place] = value
    with pytest.raises(ValueError, match=why):
        check_camera(np.eye(4)[:3], intrinsics)


def test_a_camera_beyond_reason_is_no_camera() -> None:
    extrinsics = np.eye(4)[:3]
    extrinsics[1, 3] = -1e300
    with pytest.raises(ValueError, match=r"holds -1e\+300, where numbers go to 1e\+09"):
        check_camera(extrinsics, INTRINSICS)
