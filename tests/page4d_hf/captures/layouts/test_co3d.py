"""CO3D: what is read, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from ball_on_plane import check_geometry
from damaging import load_frame
from fuzzing import check_reader
from small_co3d import NAME, Category, write_jgz

from page4d_hf.captures import as_pinhole
from page4d_hf.captures.layouts.co3d import co3d_sequences, read_co3d
from page4d_hf.errors import CaptureError


@pytest.fixture
def category(tmp_path: Path) -> Category:
    return Category(tmp_path)


def test_points_of_all_frames_lie_on_the_scenes_surfaces(category: Category) -> None:
    capture = category.read()
    assert capture.frame_ids == ["frame000001", "frame000004", "frame000009"]
    check_geometry(capture, tolerance=1.5e-3, color_tolerance=4)
    assert not capture.skipped
    assert not capture.notes


def test_frames_are_an_unordered_set_of_arbitrary_scale_in_which_nothing_moves(category: Category) -> None:
    capture = category.read()
    assert not capture.ordered
    assert capture.scale == "arbitrary"
    assert capture.motion_mask_paths is None
    assert capture.timestamps is None


def test_depth_counts_where_its_mask_is_above_128(category: Category) -> None:
    depth = as_pinhole(category.read()).load_depth(0)
    assert (depth[0, :4] > 0).tolist() == [False, False, True, True]
    assert (depth[1:] > 0).all()


def test_depth_is_multiplied_by_its_frames_scale(category: Category) -> None:
    before = [as_pinhole(category.read()).load_depth(i) for i in range(3)]
    for frame, scale in zip(category.entries, (1.0, 2.0, 0.5), strict=True):
        frame["depth"]["scale_adjustment"] = scale
    category.save()
    frames = as_pinhole(category.read())
    for i, scale in enumerate((1.0, 2.0, 0.5)):
        np.testing.assert_allclose(frames.load_depth(i), scale * before[i], rtol=1e-6)


# --------------------------------------------------------------------------------------------------------------------
# Where the sequences are


def test_sequences_are_listed_by_category(tmp_path: Path) -> None:
    Category(tmp_path, "pizza", ("b", "a"))
    Category(tmp_path, "apple")
    assert co3d_sequences(tmp_path) == [f"apple/{NAME}", "pizza/a", "pizza/b"]


def test_sequences_that_were_not_fetched_are_not_listed(tmp_path: Path) -> None:
    shutil.rmtree(Category(tmp_path, "pizza", ("b", "a")).folder / "a")
    assert co3d_sequences(tmp_path) == ["pizza/b"]


def test_sequences_with_badly_rated_cameras_are_not_listed(tmp_path: Path) -> None:
    category = Category(tmp_path, "pizza", ("a", "b", "c", "d"))
    for entry, score in zip(category.sequences, (0.51, 0.5, None, -3.0), strict=True):
        entry["viewpoint_quality_score"] = score
    category.save()
    assert co3d_sequences(tmp_path) == ["pizza/a"]


def test_no_sequence_is_trained_on_that_any_set_list_holds_out(tmp_path: Path) -> None:
    category = Category(tmp_path, "pizza", ("a", "b", "c", "d"))
    category.write_set_list("fewview_train", train=["a", "b"], val=["c"])
    category.write_set_list("manyview_dev_0", train=["b"], test=["b"])
    assert co3d_sequences(tmp_path, "train") == ["pizza/a"]
    assert co3d_sequences(tmp_path, "val") == ["pizza/c"]
    assert co3d_sequences(tmp_path, "test") == ["pizza/b"]
    assert co3d_sequences(tmp_path) == ["pizza/a", "pizza/d"]


def test_a_split_without_set_lists_is_refused(category: Category) -> None:
    with pytest.raises(CaptureError, match=r"set_lists has no set_lists_<subset>\.json"):
        co3d_sequences(category.root, "train")


def test_missing_ratings_are_refused(category: Category) -> None:
    (category.folder / "sequence_annotations.jgz").unlink()
    with pytest.raises(CaptureError, match=r"sequence_annotations\.jgz is missing"):
        co3d_sequences(category.root)


# --------------------------------------------------------------------------------------------------------------------
# The annotations of VGGT and PAGE-4D


@pytest.mark.parametrize("folder", [".", "annotations"])
def test_the_second_form_of_annotations_gives_the_same_cameras_and_depth(category: Category, folder: str) -> None:
    first = category.read()
    depth = as_pinhole(first).load_depth(1)
    category.to_second_form(category.root / folder)
    second = category.read()
    np.testing.assert_allclose(second.extrinsics, first.extrinsics, atol=1e-12)
    np.testing.assert_allclose(second.intrinsics, first.intrinsics, atol=1e-12)
    assert second.frame_ids == first.frame_ids
    assert not second.ordered
    np.testing.assert_array_equal(as_pinhole(second).load_depth(1), depth)
    check_geometry(second, tolerance=1.5e-3, color_tolerance=4)


def test_the_second_forms_splits_are_its_files(tmp_path: Path) -> None:
    Category(tmp_path, "apple").to_second_form(tmp_path)
    Category(tmp_path, "pizza", ("a",)).to_second_form(tmp_path, "test")
    assert co3d_sequences(tmp_path) == [f"apple/{NAME}"]
    assert co3d_sequences(tmp_path, "train") == [f"apple/{NAME}"]
    assert co3d_sequences(tmp_path, "test") == ["pizza/a"]
    assert len(read_co3d(tmp_path, "pizza/a")) == 3


def test_a_broken_camera_of_the_second_form_is_named_and_left_out(category: Category) -> None:
    mapping = category.to_second_form(category.root)
    mapping[NAME][0]["extri"][0][0] = float("nan")
    mapping[NAME][1]["intri"] = [1, 2, 3]
    write_jgz(category.root / "apple_train.jgz", mapping)
    capture = category.read()
    assert capture.frame_ids == ["frame000009"]
    assert "its extri does not hold what it should at 0.0: it should be a finite number, got nan" in capture.skipped[0]
    assert "frame000001.jpg was left out: " in capture.skipped[0]
    assert "frame000004.jpg was left out: " in capture.skipped[1]


# --------------------------------------------------------------------------------------------------------------------
# What is refused


def test_a_sequence_that_the_annotations_lack_is_refused(category: Category) -> None:
    with pytest.raises(CaptureError, match=r"frame_annotations\.jgz has no frame of the sequence other"):
        read_co3d(category.root, "apple/other")


def test_a_name_without_a_category_is_refused(category: Category) -> None:
    with pytest.raises(CaptureError, match="expected <category>/<sequence>"):
        read_co3d(category.root, NAME)


def test_damaged_files_of_the_second_form_end_in_a_capture_or_a_sentence(category: Category) -> None:
    category.to_second_form(category.root)

    def read() -> None:
        co3d_sequences(category.root)
        load_frame(category.read())

    check_reader(read, [category.root / "apple_train.jgz"], rounds=90)
