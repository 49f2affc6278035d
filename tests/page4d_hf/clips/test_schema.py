"""What a clip must be."""

from __future__ import annotations

import numpy as np
import pytest
from clip_folders import noise_clip

from page4d_hf.clips.schema import camera_defect
from page4d_hf.errors import ClipError

INTRINSICS = np.array([[50.0, 0, 16], [0, 50, 12], [0, 0, 1]])


def test_a_clip_may_lack_depth_masks_and_cameras():
    assert len(noise_clip("bare", 2, depth=None, motion_mask=None, intrinsics=None, extrinsics=None)) == 2


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("images", np.zeros((0, 30, 40, 3), np.uint8), r"\(S, H, W, 3\)"),
        ("images", np.zeros((2, 30, 40, 3), np.float32), "must be uint8"),
        ("depth", np.ones((2, 30, 39), np.float32), r"depth of clip test/0 must be float32 of the shape \(2, 30, 40\)"),
        ("depth", np.ones((2, 30, 40)), "got float64"),
        ("motion_mask", np.zeros((2, 30, 40), np.uint8), "must be bool"),
        ("intrinsics", None, "both intrinsics and extrinsics"),
        ("extrinsics", np.tile(np.eye(4), (2, 1, 1)), r"\(2, 3, 4\)"),
        ("timestamps", np.arange(3.0), r"\(2,\)"),
        ("frame_ids", ["a"], "1 frame ids"),
    ],
)
def test_a_field_of_another_shape_or_type_is_refused(field, value, words):
    with pytest.raises(ClipError, match=words):
        noise_clip("test/0", 2, **{field: value})


@pytest.mark.parametrize(
    ("rotation", "words"),
    [
        (np.zeros((3, 3)), "singular"),
        (np.full((3, 3), np.inf), "not finite"),
        (np.eye(3) * 2, "no rotation"),
        (np.diag([1.0, -1, 1]), "reflection"),
    ],
)
def test_a_matrix_that_is_no_rotation_is_refused_with_the_frames_name(rotation, words):
    extrinsics = np.tile(np.eye(4)[:3], (2, 1, 1))
    extrinsics[1, :, :3] = rotation
    with pytest.raises(ClipError, match=f"camera of frame 1 of clip test/0 .*{words}"):
        noise_clip("test/0", 2, extrinsics=extrinsics)


def test_a_rotation_of_four_digits_is_accepted():
    cos, sin = 0.7071, 0.7071
    extrinsics = np.array([[cos, -sin, 0, 1], [sin, cos, 0, 2], [0, 0, 1, 3]])
    assert camera_defect(INTRINSICS, extrinsics) is None


@pytest.mark.parametrize(
    ("place", "value", "words"), [((0, 0), -50.0, "focal"), ((1, 1), 0.0, "focal"), ((2, 2), 2.0, "last row")]
)
def test_intrinsics_that_are_none_are_refused(place, value, words):
    intrinsics = INTRINSICS.copy()
    intrinsics[place] = value
    assert words in (camera_defect(intrinsics, np.eye(4)[:3]) or "")
