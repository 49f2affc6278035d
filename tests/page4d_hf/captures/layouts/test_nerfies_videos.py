"""Nerfies' captures as a data set of videos."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from page4d_hf.captures import find_sequences, read_sequence
from page4d_hf.captures.layouts.nerfies import read_nerfies
from page4d_hf.errors import CaptureError


@pytest.fixture
def root(small_capture: Any, tmp_path: Path) -> Path:
    """Two captures; the frames of `broom` are listed backwards."""
    shutil.copytree(small_capture.root, tmp_path / "captures/curls")
    ids = small_capture.ids
    small_capture.edit("dataset.json", ids=ids[::-1])
    shutil.copytree(small_capture.root, tmp_path / "captures/broom")
    return tmp_path / "captures"


def test_a_video_is_that_of_one_camera_and_the_split_says_of_which(root: Path) -> None:
    assert find_sequences("nerfies", root) == ["broom/0", "curls/0"]
    assert find_sequences("nerfies", root, "val") == ["broom/1", "curls/1"]


def test_a_video_has_all_frames_of_its_camera_in_order_of_time(root: Path) -> None:
    video = read_sequence("nerfies", root, "broom/1")
    assert video.frame_ids == [f"right_{i:03d}" for i in range(4)]
    assert video.sequence == "broom/1"
    whole = read_nerfies(root / "broom")
    places = [whole.frame_ids.index(name) for name in video.frame_ids]
    np.testing.assert_array_equal(video.extrinsics, whole.extrinsics[places])


def test_the_folder_of_one_capture_is_a_data_set_of_one(root: Path) -> None:
    assert find_sequences("nerfies", root / "curls") == ["curls/0"]
    alone = read_sequence("nerfies", root / "curls", "curls/0")
    np.testing.assert_array_equal(alone.extrinsics, read_sequence("nerfies", root, "curls/0").extrinsics)


def test_a_capture_that_is_linked_has_the_name_of_its_link(root: Path, tmp_path: Path) -> None:
    links = tmp_path / "links"
    links.mkdir()
    (links / "scene").symlink_to(root / "curls")
    assert find_sequences("nerfies", links) == find_sequences("nerfies", links / "scene") == ["scene/0"]
    for place in (links, links / "scene"):
        assert len(read_sequence("nerfies", place, "scene/0")) == 4


def test_a_rig_whose_cameras_take_turns_in_training_has_a_video_for_each(root: Path) -> None:
    ids = json.loads((root / "curls/dataset.json").read_text())["ids"]
    (root / "curls/dataset.json").write_text(json.dumps({"ids": ids, "train_ids": ids[::3], "val_ids": ids[1::3]}))
    assert find_sequences("nerfies", root / "curls") == ["curls/0", "curls/1"]


def test_a_broken_capture_is_listed_and_its_reader_says_what_is_wrong(root: Path) -> None:
    (root / "broom/scene.json").write_text("{")
    assert find_sequences("nerfies", root) == ["broom/0", "curls/0"]
    with pytest.raises(CaptureError, match=r"scene\.json cannot be read"):
        read_sequence("nerfies", root, "broom/0")


def test_a_camera_that_is_not_there_is_refused_with_those_that_are(root: Path) -> None:
    with pytest.raises(CaptureError, match="has no frames of a camera 7; its cameras are 0, 1"):
        read_sequence("nerfies", root, "curls/7")
