"""Dynamic Replica: what is read, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ball_on_plane import check_geometry
from small_dynamic_replica import LEFT, NAME, RIGHT, Folder

from page4d_hf.captures import as_pinhole
from page4d_hf.captures.layouts.dynamic_replica import dynamic_replica_sequences, read_dynamic_replica
from page4d_hf.errors import CaptureError


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.mark.parametrize("eye", ["left", "right"])
@pytest.mark.parametrize("kind", ["ndc_isotropic", "ndc_norm_image_bounds"])
def test_points_of_all_frames_lie_on_the_scenes_surfaces(tmp_path: Path, kind: str, eye: str) -> None:
    Folder(tmp_path, kind=kind)
    capture = read_dynamic_replica(tmp_path, f"train/{NAME}_source_{eye}")
    assert len(capture) == 3
    check_geometry(capture, tolerance=1.5e-3, color_tolerance=1.5)  # float16 has 11 bits
    assert capture.scale == "metres"
    assert not capture.skipped
    assert not capture.notes


def test_depth_that_is_not_known_is_zero(folder: Folder) -> None:
    depth = as_pinhole(read_dynamic_replica(folder.root, f"train/{LEFT}")).load_depth(0)
    assert depth[0, :4].tolist() == [0, 0, 0, 0]
    assert (depth[1:] > 0).all()


def test_the_mask_tells_people_and_animals(folder: Folder) -> None:
    mask = as_pinhole(read_dynamic_replica(folder.root, f"train/{RIGHT}")).load_motion_mask(2)
    np.testing.assert_array_equal(mask, folder.on_ball)


def test_frames_come_in_the_order_of_their_numbers_with_their_times(folder: Folder) -> None:
    capture = read_dynamic_replica(folder.root, f"train/{LEFT}")
    assert capture.frame_ids == [f"{LEFT}-{i:04d}" for i in range(3)]
    np.testing.assert_allclose(capture.timestamps, 2 + np.arange(3) / 30)


def test_times_that_do_not_increase_are_replaced_by_the_frame_rate(folder: Folder) -> None:
    for entry in folder.entries:
        entry["frame_timestamp"] = 0.0
    folder.save()
    np.testing.assert_allclose(read_dynamic_replica(folder.root, f"train/{LEFT}").timestamps, np.arange(3) / 30)


# --------------------------------------------------------------------------------------------------------------------
# Where the sequences are


def test_each_eye_is_a_sequence(folder: Folder) -> None:
    assert dynamic_replica_sequences(folder.root) == [f"train/{LEFT}", f"train/{RIGHT}"]
    assert dynamic_replica_sequences(folder.root, "train") == [f"train/{LEFT}", f"train/{RIGHT}"]


@pytest.mark.parametrize("name", ["val", "valid"])
@pytest.mark.parametrize("asked", ["val", "valid"])
def test_the_validation_folder_may_be_named_val(tmp_path: Path, name: str, asked: str) -> None:
    Folder(tmp_path, folder=name, split="valid")
    assert dynamic_replica_sequences(tmp_path, asked) == [f"{name}/{LEFT}", f"{name}/{RIGHT}"]
    assert len(read_dynamic_replica(tmp_path, f"{name}/{LEFT}")) == 3


def test_held_out_sequences_are_not_trained_on(tmp_path: Path) -> None:
    Folder(tmp_path)
    Folder(tmp_path, folder="test", split="test")
    assert all(name.startswith("train/") for name in dynamic_replica_sequences(tmp_path))


def test_a_folder_without_splits_is_read(tmp_path: Path) -> None:
    Folder(tmp_path, folder=".")
    assert dynamic_replica_sequences(tmp_path) == [LEFT, RIGHT]
    assert dynamic_replica_sequences(tmp_path, "train") == [LEFT, RIGHT]
    assert len(read_dynamic_replica(tmp_path, RIGHT)) == 3
    with pytest.raises(CaptureError, match=r"has no frame_annotations_valid\.jgz"):
        dynamic_replica_sequences(tmp_path, "val")


# --------------------------------------------------------------------------------------------------------------------
# Frames that are left out


def test_a_frame_without_a_mask_stays(folder: Folder) -> None:
    (folder.folder / folder.entries[1]["mask"]["path"]).unlink()
    capture = read_dynamic_replica(folder.root, f"train/{LEFT}")
    assert [path is None for path in capture.motion_mask_paths] == [False, True, False]


# --------------------------------------------------------------------------------------------------------------------
# What is refused


def test_a_sequence_that_the_annotations_lack_is_refused(folder: Folder) -> None:
    with pytest.raises(CaptureError, match=r"frame_annotations_train\.jgz has no frame of other, camera left"):
        read_dynamic_replica(folder.root, "train/other_source_left")


def test_a_name_without_an_eye_is_refused(folder: Folder) -> None:
    with pytest.raises(CaptureError, match="expected <name>_source_left or _right"):
        read_dynamic_replica(folder.root, "train/other")


def test_annotations_that_were_written_anew_are_read_anew(folder: Folder) -> None:
    assert len(read_dynamic_replica(folder.root, f"train/{LEFT}")) == 3
    del folder.entries[1]
    folder.save()
    assert len(read_dynamic_replica(folder.root, f"train/{LEFT}")) == 2
