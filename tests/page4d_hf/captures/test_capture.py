"""What a capture does by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from page4d_hf.captures import as_pinhole
from page4d_hf.captures.layouts.nerfies import read_nerfies


def test_selected_frames_keep_all_that_is_theirs(small_capture: Any) -> None:
    capture = read_nerfies(small_capture.root)
    capture.timestamps = np.arange(8) / 10
    capture.depth_paths = [Path(f"{i}.npy") for i in range(8)]
    capture.covisible_paths = [None] * 7 + [Path("7.png")]
    chosen = [7, 0, 4]
    selected = capture.select(chosen)
    assert len(selected) == 3
    assert selected.frame_ids == [capture.frame_ids[i] for i in chosen]
    assert selected.depth_paths == [Path("7.npy"), Path("0.npy"), Path("4.npy")]
    assert selected.covisible_paths == [Path("7.png"), None, None]
    assert selected.motion_mask_paths is None
    for name in (
        "extrinsics", "intrinsics", "distortion", "image_sizes", "time_ids", "camera_ids", "timestamps"
    ):  # fmt: skip
        np.testing.assert_array_equal(getattr(selected, name), getattr(capture, name)[chosen], err_msg=name)
    np.testing.assert_array_equal(selected.points, capture.points)


def test_splits_follow_the_selected_frames(small_capture: Any) -> None:
    selected = read_nerfies(small_capture.root).select([7, 0, 4])
    assert selected.splits["train"].tolist() == [1]  # of frames 0 to 3
    assert selected.splits["val"].tolist() == [2, 0]  # of frames 4 to 7, in the split's order


def stored_inverse(path: Path, intrinsics: np.ndarray) -> np.ndarray:
    """Inverse depth times the focal length, as disparity is."""
    return intrinsics[0, 0] / np.load(path)


def left_half(path: Path) -> np.ndarray:
    mask = np.zeros((32, 48), bool)
    mask[:, :24] = True
    return mask


def test_a_captures_own_decoders_are_used(small_capture: Any) -> None:
    """The intrinsics are those of the image; what is not finite is not known; the scale is applied after."""
    capture = read_nerfies(small_capture.root)
    capture.intrinsics[0, 0, 1] = 0  # no skew, no distortion: pixels as stored
    capture.distortion[:] = 0
    disparity = np.full((32, 48), 10.0)
    disparity[0, :3] = [0, np.nan, -1]
    np.save(small_capture.root / "disparity.npy", disparity)
    capture.depth_paths = [small_capture.root / "disparity.npy"] * 8
    capture.motion_mask_paths = [small_capture.root / "any"] * 8
    capture.read_depth_file, capture.read_motion_mask_file = stored_inverse, left_half
    with np.errstate(divide="ignore"):
        depth = as_pinhole(capture).load_depth(0)
    assert depth[0, :3].tolist() == [0, 0, 0]
    assert depth[1:] == pytest.approx(capture.intrinsics[0, 0, 0] / 10 * capture.depth_scale)
    np.testing.assert_array_equal(as_pinhole(capture).load_motion_mask(0), left_half(Path()))
