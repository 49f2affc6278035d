"""DyCheck's iPhone captures: what is read, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ball_on_plane import check_geometry
from PIL import Image
from small_dycheck import FULL_SIZE, IDS, SCALE, SCENE_CENTER, TRAIN, VAL, SmallCapture

from page4d_hf.captures import as_pinhole, detect_layout, find_sequences, read_capture, read_sequence
from page4d_hf.captures.layouts.dycheck import dycheck_sequences, read_dycheck, read_dycheck_folder
from page4d_hf.captures.layouts.nerfies import read_nerfies
from page4d_hf.errors import CaptureError
from page4d_hf.geometry import camera_centers


@pytest.fixture
def small(tmp_path: Path) -> SmallCapture:
    return SmallCapture(tmp_path)


# --------------------------------------------------------------------------------------------------------------------
# What is read


def centres(capture: Any) -> np.ndarray:
    return camera_centers(capture.extrinsics)


def test_a_data_set_is_read_in_metres(small: SmallCapture) -> None:
    """The scale of scene.json is undone; its centre stays the origin."""
    capture = read_dycheck(small.root, "paper-windmill/0")
    expected = np.array([small.views[frame_id].centre for frame_id in TRAIN]) - SCENE_CENTER
    np.testing.assert_allclose(centres(capture), expected, atol=1e-12)
    assert (capture.scale, capture.depth_scale) == ("metres", 1.0)
    np.testing.assert_allclose([capture.near, capture.far], [0.1 / SCALE, 0.5 / SCALE])


@pytest.mark.parametrize("downscale", [1, 2])
def test_depth_and_cameras_put_the_pixels_on_the_surfaces(small: SmallCapture, downscale: int) -> None:
    """At half the size, too, for which the stored cameras, of the full size, are halved."""
    capture = read_dycheck_folder(small.folder, downscale).select(range(3))
    assert capture.image_downscale == downscale
    # Back from the world of scene.json to that of the rays.
    rotations = capture.extrinsics[:, :, :3]
    capture.extrinsics[:, :, 3] = capture.extrinsics[:, :, 3] / SCALE - rotations @ SCENE_CENTER
    capture.depth_scale = 1.0
    check_geometry(capture, tolerance=1e-5, color_tolerance=1.0)


def test_in_the_scaled_world_depth_is_scaled_as_the_cameras(small: SmallCapture) -> None:
    capture, metric = read_dycheck_folder(small.folder), read_dycheck(small.root, "paper-windmill")
    np.testing.assert_allclose(centres(capture), SCALE * centres(metric))
    np.testing.assert_allclose(as_pinhole(capture).load_depth(1), SCALE * as_pinhole(metric).load_depth(1), rtol=1e-6)
    assert (capture.scale, capture.near, capture.far) == ("arbitrary", 0.1, 0.5)


def test_pixels_without_a_lidar_return_have_no_depth(small: SmallCapture) -> None:
    """Where alpha is 0, whatever the depth file holds."""
    capture = read_dycheck(small.root, "paper-windmill/0")
    assert (np.load(capture.depth_paths[0])[small.no_return] > 0).any()
    depth = as_pinhole(capture).load_depth(0)
    assert (depth[small.no_return] == 0).all()
    assert (depth[~small.no_return] > 0).mean() > 0.5


def test_what_the_lidar_missed_is_still_in_the_image(small: SmallCapture) -> None:
    """Alpha is the lidar's: nothing may be laid under these pixels."""
    capture = read_dycheck_folder(small.folder)
    image = as_pinhole(capture).load_image(0)
    assert image.shape == (*FULL_SIZE[::-1], 3)
    with Image.open(capture.image_paths[0]) as stored:
        np.testing.assert_array_equal(image, np.array(stored)[..., :3])


def test_only_the_moving_phone_has_depth(small: SmallCapture) -> None:
    capture = read_dycheck(small.root, "paper-windmill")
    assert [path is not None for path in capture.depth_paths] == [True] * 3 + [False] * 3


def test_each_phone_is_a_video_of_its_own(small: SmallCapture) -> None:
    assert dycheck_sequences(small.root) == find_sequences("dycheck", small.root, "train") == ["paper-windmill/0"]
    assert find_sequences("dycheck", small.root, "val") == ["paper-windmill/1", "paper-windmill/2"]
    capture = read_sequence("dycheck", small.root, "paper-windmill/1")
    assert capture.frame_ids == ["1_00000", "1_00002"]
    assert (capture.layout, capture.sequence, capture.ordered) == ("dycheck", "paper-windmill/1", True)
    assert capture.splits["val"].tolist() == [0, 1]
    assert capture.splits["train"].tolist() == []
    np.testing.assert_allclose(capture.timestamps, [0, 2 / 30])


def test_a_capture_by_its_name_alone_has_the_frames_of_all_phones(small: SmallCapture) -> None:
    capture = read_dycheck(small.root, "paper-windmill")
    assert capture.frame_ids == IDS
    assert capture.camera_ids.tolist() == [0, 0, 0, 1, 1, 2]
    assert capture.splits["train"].tolist() == [0, 1, 2]
    assert capture.splits["val"].tolist() == [3, 4, 5]


def test_instants_and_phones_are_those_of_the_splits(small: SmallCapture) -> None:
    small.write_split("val", VAL[::-1], [7, 9, 8], [4, 3, 3])
    capture = read_dycheck_folder(small.folder)
    assert capture.time_ids.tolist() == [0, 1, 2, 8, 9, 7]
    assert capture.camera_ids.tolist() == [0, 0, 0, 3, 3, 4]
    assert capture.splits["val"].tolist() == [5, 4, 3]


def test_where_to_evaluate_is_told_for_frames_that_are_held_out(small: SmallCapture) -> None:
    capture = read_dycheck_folder(small.folder)
    assert [path and path.name for path in capture.covisible_paths] == [None] * 3 + [f"{i}.png" for i in VAL]


def test_a_capture_of_one_phone_has_no_validation(small: SmallCapture) -> None:
    (small.folder / "splits" / "val.json").unlink()
    small.write("dataset.json", {"ids": TRAIN, "train_ids": TRAIN, "val_ids": []})
    assert set(read_dycheck(small.root, "paper-windmill/0").splits) == {"train"}
    assert dycheck_sequences(small.root, "val") == []


def test_a_folder_is_told_from_other_captures_of_nerfies(small: SmallCapture) -> None:
    assert detect_layout(small.folder) == "dycheck"
    assert read_capture(small.folder).layout == "dycheck"
    shutil.rmtree(small.folder / "splits")
    assert detect_layout(small.folder) == "nerfies"


@pytest.mark.slow
def test_a_published_capture_is_read(shared: Path, tmp_path: Path) -> None:
    """Its JSON files, with one image for all frames."""
    published = shared / "data" / "dycheck-paper-windmill-cameras"
    folder = tmp_path / "paper-windmill"
    shutil.copytree(published, folder)
    (folder / "rgb" / "1x").mkdir(parents=True)
    ids = json.loads((published / "dataset.json").read_text())["ids"]
    first = folder / "rgb" / "1x" / f"{ids[0]}.png"
    Image.new("RGBA", (720, 960)).save(first)
    for frame_id in ids[1:]:
        os.link(first, first.with_name(f"{frame_id}.png"))

    assert dycheck_sequences(tmp_path) == ["paper-windmill/0"]
    assert dycheck_sequences(tmp_path, "val") == ["paper-windmill/1", "paper-windmill/2"]
    capture = read_dycheck(tmp_path, "paper-windmill")
    assert (len(capture), capture.skipped, capture.fps) == (696, [], 30.0)
    nerfies = read_nerfies(folder)
    assert {k: v.tolist() for k, v in capture.splits.items()} == {k: v.tolist() for k, v in nerfies.splits.items()}
    np.testing.assert_array_equal(capture.time_ids, nerfies.time_ids)
    # The phones that stand still do so, and the moving one moves by tens of centimetres.
    position = centres(capture)
    assert np.ptp(position[capture.camera_ids == 1], axis=0).max() < 1e-6
    assert np.ptp(position[capture.camera_ids == 2], axis=0).max() < 1e-6
    assert 0.1 < np.ptp(position[capture.camera_ids == 0], axis=0).max() < 3


# --------------------------------------------------------------------------------------------------------------------
# What is left out, and what is refused


def test_a_frame_whose_image_is_missing_or_broken_is_left_out_and_named(small: SmallCapture) -> None:
    missing, broken = (small.folder / "rgb" / "1x" / f"{i}.png" for i in ("0_00000", "1_00002"))
    missing.unlink()
    broken.write_bytes(b"no image")
    capture = read_dycheck(small.root, "paper-windmill")
    assert capture.frame_ids == ["0_00001", "0_00002", "1_00000", "2_00001"]
    assert [path and path.stem for path in capture.depth_paths] == ["0_00001", "0_00002", None, None]
    assert f"its image {missing} is missing" in capture.skipped[0]
    assert f"{broken} cannot be read as an image" in capture.skipped[1]
    assert [len(read_dycheck(small.root, f"paper-windmill/{i}").skipped) for i in (0, 1, 2)] == [1, 1, 0]


def test_a_capture_read_by_its_folder_must_be_whole(small: SmallCapture) -> None:
    (small.folder / "camera" / "0_00001.json").unlink()
    with pytest.raises(CaptureError, match=r"its camera .*0_00001\.json is missing"):
        read_dycheck_folder(small.folder)


def test_a_split_file_that_is_broken_hides_no_sequence(small: SmallCapture) -> None:
    """Its name is still there to be asked for, and reading it says what is wrong."""
    (small.folder / "splits" / "train.json").write_text("{")
    assert dycheck_sequences(small.root) == ["paper-windmill/0"]
    with pytest.raises(CaptureError, match=r"train\.json cannot be read as JSON"):
        read_dycheck(small.root, "paper-windmill/0")


@pytest.mark.parametrize("fps", [0, -1, "30", float("nan")])
def test_a_frame_rate_that_is_none_is_refused(small: SmallCapture, fps: Any) -> None:
    small.write("extra.json", {"fps": fps})
    with pytest.raises(CaptureError, match=r"extra\.json does not hold what it should at fps: it should be .*, got"):
        read_dycheck_folder(small.folder)


def test_a_capture_or_phone_that_is_not_there_is_refused(small: SmallCapture) -> None:
    with pytest.raises(CaptureError, match=r"There is no folder .*apple"):
        read_dycheck(small.root, "apple/0")
    with pytest.raises(CaptureError, match=r"has no frames of a camera 5; its cameras are 0, 1, 2"):
        read_dycheck(small.root, "paper-windmill/5")
