"""Captures in the layout of Nerfies: what is read, and what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from damaging import check_refused, gone, holds, load_frame
from fuzzing import check_reader
from PIL import Image

from page4d_hf.captures.layouts.nerfies import read_nerfies
from page4d_hf.errors import CaptureError
from page4d_hf.geometry import camera_centers


def project(capture: Any, i: int, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixels and depth of points in frame `i`, lens distortion left aside."""
    in_camera = points @ capture.extrinsics[i, :, :3].T + capture.extrinsics[i, :, 3]
    in_image = in_camera @ capture.intrinsics[i].T
    return in_image[:, :2] / in_image[:, 2:], in_camera[:, 2]


# --------------------------------------------------------------------------------------------------------------------
# Cameras and points


def test_a_camera_sees_what_the_formula_of_nerfies_says(small_capture: Any) -> None:
    capture = read_nerfies(small_capture.root)
    for i, frame_id in enumerate(small_capture.ids):
        camera = small_capture.cameras[frame_id]
        # Nerfies: local = R (x - position); then y = f * aspect * y / z + cy and x = f * x / z + skew * y / z + cx.
        local = (small_capture.points - np.array(camera["position"])) @ np.array(camera["orientation"]).T
        x, y = local[:, 0] / local[:, 2], local[:, 1] / local[:, 2]
        pixels = np.stack((40.0 * x + 0.5 * y + 25.0, 40.0 * 1.25 * y + 15.0), axis=-1)
        ours, depth = project(capture, i, capture.points)
        np.testing.assert_allclose(ours, pixels, rtol=1e-4)
        np.testing.assert_allclose(depth, 0.25 * local[:, 2], atol=1e-6)  # the scale of scene.json


def test_cameras_and_points_are_centred_and_scaled_as_scene_json_says(small_capture: Any) -> None:
    capture = read_nerfies(small_capture.root)
    centres = camera_centers(capture.extrinsics)
    stored = np.array([small_capture.cameras[frame_id]["position"] for frame_id in small_capture.ids])
    center = np.array([0.5, -1.0, 2.0])
    np.testing.assert_allclose(centres, (stored - center) * 0.25, atol=1e-12)
    np.testing.assert_allclose(capture.points, (small_capture.points - center) * 0.25, atol=1e-6)
    assert (capture.near, capture.far) == (0.1, 2.0)  # stored in the scaled world already


def test_distortion_comes_in_opencvs_order(small_capture: Any) -> None:
    capture = read_nerfies(small_capture.root)
    np.testing.assert_array_equal(capture.distortion[0], [0.01, -0.02, 0.001, -0.002, 0.03])


def test_the_old_key_of_tangential_distortion_is_read(small_capture: Any) -> None:
    small_capture.drop("camera/left_000.json", "tangential_distortion")
    small_capture.edit("camera/left_000.json", tangential=[0.003, 0.004])
    np.testing.assert_array_equal(read_nerfies(small_capture.root).distortion[0, 2:4], [0.003, 0.004])


def test_a_camera_without_lens_terms_is_a_pinhole(small_capture: Any) -> None:
    for key in ("skew", "pixel_aspect_ratio", "radial_distortion", "tangential_distortion"):
        small_capture.drop("camera/left_000.json", key)
    capture = read_nerfies(small_capture.root)
    np.testing.assert_array_equal(capture.intrinsics[0], [[40, 0, 25], [0, 40, 15], [0, 0, 1]])
    np.testing.assert_array_equal(capture.distortion[0], np.zeros(5))


def test_colours_and_motion_of_points_are_read_beside_the_format(small_capture: Any) -> None:
    colors = np.arange(60, dtype=np.uint8).reshape(20, 3)
    np.save(small_capture.root / "points_rgb.npy", colors)
    np.save(small_capture.root / "points_motion.npy", np.linspace(0, 1, 20))
    capture = read_nerfies(small_capture.root)
    np.testing.assert_array_equal(capture.point_colors, colors)
    np.testing.assert_allclose(capture.point_motion, np.linspace(0, 1, 20), rtol=1e-6)


def test_points_that_are_not_finite_are_left_out_with_their_colours(small_capture: Any) -> None:
    small_capture.points[3] = np.nan
    np.save(small_capture.root / "points.npy", small_capture.points)
    np.save(small_capture.root / "points_rgb.npy", np.arange(60, dtype=np.uint8).reshape(20, 3))
    capture = read_nerfies(small_capture.root)
    assert len(capture.points) == len(capture.point_colors) == 19
    assert capture.point_colors[3].tolist() == [12, 13, 14]
    assert any("1 points" in note for note in capture.notes)


# --------------------------------------------------------------------------------------------------------------------
# Image sizes


def test_without_a_downscale_the_largest_images_are_taken(small_capture: Any) -> None:
    small_capture.write_images("rgb/2x", (24, 16))
    capture = read_nerfies(small_capture.root)
    assert capture.image_downscale == 1
    assert capture.image_paths[0].parent.name == "1x"


def test_the_asked_size_is_taken_where_it_is_stored(small_capture: Any) -> None:
    small_capture.write_images("rgb/2x", (24, 16))
    small_capture.write_images("rgb/4x", (12, 8))
    capture = read_nerfies(small_capture.root, downscale=2)
    assert capture.image_downscale == 2
    assert capture.image_sizes.tolist() == [[24, 16]] * 8
    np.testing.assert_allclose(capture.intrinsics[0], [[20, 0.25, 12.5], [0, 25, 7.5], [0, 0, 1]])


def test_a_size_that_is_not_stored_is_made_from_the_next_larger(small_capture: Any) -> None:
    small_capture.write_images("rgb/2x", (24, 16))
    small_capture.write_images("rgb/16x", (3, 2))
    assert read_nerfies(small_capture.root, downscale=8).image_downscale == 2


def test_intrinsics_follow_an_image_size_that_was_rounded(small_capture: Any) -> None:
    """48 / 5 and 32 / 5 have no whole size; the file's own is what counts."""
    shutil.rmtree(small_capture.root / "rgb")
    small_capture.write_images("rgb/5x", (10, 6))
    capture = read_nerfies(small_capture.root)
    np.testing.assert_allclose(capture.intrinsics[0, 0], np.array([40, 0.5, 25]) * 10 / 48)
    np.testing.assert_allclose(capture.intrinsics[0, 1], np.array([0, 50, 15]) * 6 / 32)


def test_images_may_be_jpeg(small_capture: Any) -> None:
    shutil.rmtree(small_capture.root / "rgb")
    small_capture.write_images("rgb/1x", (48, 32), ".JPG")
    assert read_nerfies(small_capture.root).image_paths[0].name == "left_000.JPG"


def test_masks_and_depth_of_the_images_size_are_found(small_capture: Any) -> None:
    small_capture.write_images("rgb/2x", (24, 16))
    for size, shape in (("1x", (48, 32)), ("2x", (24, 16))):
        small_capture.write_images(f"motion_mask/{size}", shape)
    (small_capture.root / "depth" / "2x").mkdir(parents=True)
    np.save(small_capture.root / "depth" / "2x" / "left_002.npy", np.ones((16, 24, 1), np.float32))
    capture = read_nerfies(small_capture.root, downscale=2)
    assert [path.parent.name for path in capture.motion_mask_paths] == ["2x"] * 8
    assert [path is not None for path in capture.depth_paths] == [False, False, True] + [False] * 5
    assert capture.depth_scale == 0.25


# --------------------------------------------------------------------------------------------------------------------
# Times, devices, splits


def test_warp_id_is_the_instant_even_where_there_is_a_time_id(small_capture: Any) -> None:
    moments = {frame_id: {"warp_id": 10 + i % 4, "time_id": 90 - i % 4} for i, frame_id in enumerate(small_capture.ids)}
    small_capture.write("metadata.json", moments)
    np.testing.assert_array_equal(read_nerfies(small_capture.root).time_ids, [10, 11, 12, 13] * 2)


def test_time_id_is_the_instant_where_warp_ids_are_lacking(small_capture: Any) -> None:
    moments = {frame_id: {"warp_id": i, "time_id": 30 + 3 * (i % 4)} for i, frame_id in enumerate(small_capture.ids)}
    small_capture.write("metadata.json", {**moments, "right_002": {"time_id": 36}})
    capture = read_nerfies(small_capture.root)
    np.testing.assert_array_equal(capture.time_ids, [30, 33, 36, 39] * 2)
    assert any("time_id" in note for note in capture.notes)


def test_splits_are_those_of_dataset_json(small_capture: Any) -> None:
    small_capture.edit("dataset.json", train_ids=["right_001", "left_002"], val_ids=["left_000"])
    splits = read_nerfies(small_capture.root).splits
    assert splits["train"].tolist() == [5, 2]
    assert splits["val"].tolist() == [0]


def test_without_val_ids_every_fourth_frame_trains_and_the_one_two_later_is_held_out(small_capture: Any) -> None:
    small_capture.edit("dataset.json", val_ids=[])
    capture = read_nerfies(small_capture.root)
    assert capture.splits["train"].tolist() == [0, 4]
    assert capture.splits["val"].tolist() == [2, 6]
    assert any("val_ids is empty" in note for note in capture.notes)


def test_frames_in_both_splits_are_pointed_out(small_capture: Any) -> None:
    small_capture.edit("dataset.json", val_ids=["left_000", "right_000"])
    assert any(note.startswith("1 frames are both") for note in read_nerfies(small_capture.root).notes)


# --------------------------------------------------------------------------------------------------------------------
# Rigs of several cameras


class Rig:
    """A validation rig of two eyes, 4 instants, as published: they take turns in training, the other eye is held out.

    The eyes stand 0.2 apart, side by side, and see a point of the scene each at the place that the formula of Nerfies
    gives.
    """

    def __init__(self, capture: Any) -> None:
        self.capture = capture
        self.ids = [f"{eye}1_{instant:06d}" for instant in range(4) for eye in ("left", "right")]
        self.train = [f"{'left' if instant % 2 == 0 else 'right'}1_{instant:06d}" for instant in range(4)]
        self.val = [frame_id for frame_id in self.ids if frame_id not in self.train]
        capture.ids = self.ids
        shutil.rmtree(capture.root / "rgb")
        capture.write_images("rgb/1x", (48, 32))
        for frame_id in self.ids:
            camera = {**capture.cameras["left_000"], "skew": 0.0, "pixel_aspect_ratio": 1.0}
            camera["orientation"] = np.eye(3).tolist()
            camera["position"] = [0.2 * frame_id.startswith("right"), 0.1 * int(frame_id[-1]), 0.0]
            capture.write(f"camera/{frame_id}.json", camera)
        capture.write("dataset.json", {"count": 8, "ids": self.ids, "train_ids": self.train, "val_ids": self.val})
        self.write_metadata(lambda frame_id, i: {"warp_id": i // 2, "appearance_id": i // 2, "camera_id": i % 2})

    def write_metadata(self, entry: Callable[[str, int], dict[str, Any]]) -> None:
        self.capture.write("metadata.json", {frame_id: entry(frame_id, i) for i, frame_id in enumerate(self.ids)})

    def read(self) -> Any:
        return read_nerfies(self.capture.root)


@pytest.fixture
def rig(small_capture: Any) -> Rig:
    return Rig(small_capture)


def test_the_eyes_of_a_rig_take_turns_in_training_and_the_other_is_held_out(rig: Rig) -> None:
    capture = rig.read()
    assert [capture.frame_ids[i] for i in capture.splits["train"]] == rig.train
    assert [capture.frame_ids[i] for i in capture.splits["val"]] == rig.val
    for split in ("train", "val"):
        np.testing.assert_allclose(capture.times[capture.splits[split]], [0, 1 / 3, 2 / 3, 1])
    assert capture.camera_ids[capture.splits["train"]].tolist() == [0, 1, 0, 1]
    assert capture.camera_ids[capture.splits["val"]].tolist() == [1, 0, 1, 0]
    assert capture.notes == []


def test_both_eyes_see_a_point_where_their_distance_puts_it(rig: Rig) -> None:
    """The disparity is f * baseline / depth, to the left in the right eye."""
    capture = rig.read()
    point = np.array([[0.1, 0.2, 2.0]])
    in_world = (point - np.array([0.5, -1.0, 2.0])) * 0.25
    left, right = (
        project(capture, capture.frame_ids.index(f"{eye}1_000002"), in_world)[0] for eye in ("left", "right")
    )
    np.testing.assert_allclose(left, [[40 * 0.1 / 2 + 25, 40 * (0.2 - 0.2) / 2 + 15]])
    np.testing.assert_allclose(left - right, [[40 * 0.2 / 2, 0]], atol=1e-9)


def test_a_rig_whose_frames_have_a_warp_each_has_its_instants_in_time_id(rig: Rig) -> None:
    """Only time_id then tells what the two eyes saw at once."""
    rig.write_metadata(lambda frame_id, i: {"warp_id": i, "camera_id": i % 2, "time_id": 5 * (i // 2)})
    capture = rig.read()
    np.testing.assert_allclose(capture.times, np.repeat([0, 1 / 3, 2 / 3, 1], 2))
    assert any("instants are time_id" in sentence for sentence in capture.notes)


def test_a_single_camera_keeps_its_warps_as_instants(rig: Rig) -> None:
    """Times that no two cameras share prove nothing."""
    rig.write_metadata(lambda frame_id, i: {"warp_id": i, "camera_id": 0, "time_id": 100 + i // 2})
    assert rig.read().time_ids.tolist() == list(range(8))


def test_without_camera_ids_the_names_tell_the_eyes_apart(rig: Rig) -> None:
    rig.write_metadata(lambda frame_id, i: {"warp_id": i // 2})
    assert rig.read().camera_ids.tolist() == [0, 1] * 4


def test_a_capture_of_one_camera_needs_no_camera_ids(small_capture: Any) -> None:
    ids = [f"{i:06d}" for i in range(8)]
    for old, new in zip(small_capture.ids, ids, strict=True):
        (small_capture.root / "camera" / f"{old}.json").rename(small_capture.root / "camera" / f"{new}.json")
        (small_capture.root / "rgb" / "1x" / f"{old}.png").rename(small_capture.root / "rgb" / "1x" / f"{new}.png")
    small_capture.write("dataset.json", {"ids": ids, "train_ids": ids, "val_ids": []})
    small_capture.write("metadata.json", {frame_id: {"warp_id": i} for i, frame_id in enumerate(ids)})
    capture = read_nerfies(small_capture.root)
    assert capture.camera_ids.tolist() == [0] * 8
    assert (capture.splits["train"].tolist(), capture.splits["val"].tolist()) == ([0, 4], [2, 6])


# --------------------------------------------------------------------------------------------------------------------
# What is refused: each in one sentence that names the file


def set_camera(**values: Any) -> Callable[[Any], None]:
    return lambda capture: capture.edit("camera/left_001.json", **values)


def set_dataset(**values: Any) -> Callable[[Any], None]:
    return lambda capture: capture.edit("dataset.json", **values)


NAN = float("nan")
CAMERA, DATASET = (rf"{name}\.json does not hold what it should at" for name in ("left_001", "dataset"))
DAMAGE: dict[str, tuple[Callable[[Any], Any], str]] = {
    "no dataset.json": (gone("dataset.json"), r"dataset\.json is missing"),
    "no metadata.json": (gone("metadata.json"), r"metadata\.json is missing"),
    "no scene.json": (gone("scene.json"), r"scene\.json is missing"),
    "no camera file": (gone("camera/left_001.json"), r"'left_001'.*left_001\.json is missing"),
    "no image": (gone("rgb/1x/left_001.png"), r"'left_001'.*left_001\.png is missing"),
    "no rgb folder": (gone("rgb"), r"rgb has no image folder"),
    "dataset.json cut short": (holds("dataset.json", b'{"ids": ["left'), r"dataset\.json cannot be read as JSON"),
    "a camera cut short": (holds("camera/left_001.json", b"{"), r"left_001\.json cannot be read as JSON"),
    "a camera that is a list": (
        holds("camera/left_001.json", b"[]"),
        r"left_001\.json does not hold what it should: it should be an object, got \[\]",
    ),
    "binary in place of JSON": (holds("scene.json", b"\x93\xff\x00"), r"scene\.json cannot be read as JSON"),
    "an image cut short": (holds("rgb/1x/left_001.png", b"\x89PNG\r\n"), r"left_001\.png cannot be read as an image"),
    "an image that is text": (holds("rgb/1x/left_001.png", b"hello"), r"left_001\.png cannot be read as an image"),
    "points that are no array": (holds("points.npy", b"hello"), r"points\.npy cannot be read"),
    "an instant of 20 digits": (
        lambda c: c.edit("metadata.json", left_001={"warp_id": 10**19}),
        r"at left_001\.warp_id: it should be less",
    ),
    "a world that nests deep": (holds("scene.json", b"[" * 100_000), r"scene\.json cannot be read as JSON"),
    "no focal length": (lambda c: c.drop("camera/left_001.json", "focal_length"), r"left_001\.json lacks focal_length"),
    "a wrong image size": (
        set_camera(image_size=[480, 320]),
        r"left_001\.png is 48x32 but .*left_001\.json says 480x320",
    ),
    "no train_ids": (lambda c: c.drop("dataset.json", "train_ids"), r"dataset\.json lacks train_ids"),
    "an id twice": (
        set_dataset(val_ids=["left_000", "left_000"]),
        r"dataset\.json: 'val_ids' lists .*'left_000' twice",
    ),
    "a train id that is no id": (
        set_dataset(train_ids=["left_9"]),
        r"'train_ids' lists 'left_9', which is not in 'ids'",
    ),
    "an id without metadata": (
        lambda c: c.drop("metadata.json", "left_001"),
        r"'left_001' but .*metadata\.json has no",
    ),
    "an id without a time": (
        lambda c: c.edit("metadata.json", left_001={"camera_id": 0}),
        r"metadata\.json has no 'time_id' for the frame 'left_000', and no 'warp_id' for 'left_001'",
    ),
    "half an instant": (
        lambda c: c.edit("metadata.json", left_001={"warp_id": 0.5}),
        r"metadata\.json does not hold what it should at left_001\.warp_id: it should be a valid integer, got 0\.5",
    ),
    "a camera that has no number": (
        lambda c: c.edit("metadata.json", left_001={"warp_id": 0, "camera_id": "right"}),
        r"metadata\.json .* at left_001\.camera_id: it should be a valid integer, got 'right'",
    ),
    "a time of NaN": (
        lambda c: c.edit("metadata.json", left_001={"warp_id": 0, "time_id": NAN}),
        r"metadata\.json does not hold what it should at left_001\.time_id: it should be .*, got nan",
    ),
    "a scale of zero": (
        lambda c: c.edit("scene.json", scale=0.0),
        r"scene\.json does not hold what it should at scale: it should be greater than 0, got 0\.0",
    ),
    "no center": (lambda c: c.drop("scene.json", "center"), r"scene\.json lacks center"),
    "near beyond far": (lambda c: c.edit("scene.json", near=3.0), r"scene\.json: 'near'"),
    "points in a plane": (lambda c: np.save(c.root / "points.npy", np.ones((5, 2))), r"points\.npy .*shape \(M, 3\)"),
    "points of objects": (
        lambda c: np.save(c.root / "points.npy", np.array([[None] * 3]), allow_pickle=True),
        r"points\.npy cannot be read",
    ),
    "colours of other points": (
        lambda c: np.save(c.root / "points_rgb.npy", np.zeros((3, 3), np.uint8)),
        r"points_rgb\.npy must have the shape \(20, 3\)",
    ),
    "colours in floats": (
        lambda c: np.save(c.root / "points_rgb.npy", np.zeros((20, 3))),
        r"points_rgb\.npy must hold uint8",
    ),
    **{
        f"a camera of {key} {value!r:.30}": (set_camera(**{key: value}), f"{CAMERA} {key}{why}")
        for key, value, why in (
            ("orientation", [[NAN] * 3] * 3, r"\.0\.0: it should be a finite number, got nan"),
            ("position", [0, NAN, 0], r"\.1: it should be a finite number, got nan"),
            ("focal_length", float("inf"), ": it should be a finite number, got inf"),
            ("orientation", np.diag([1, 1, -1]).tolist(), ": it should be a rotation"),
            ("orientation", (2 * np.eye(3)).tolist(), ": it should be a rotation"),
            ("orientation", np.eye(3)[:2].tolist(), ": it should have at least 3 items, not 2, got"),
            ("position", ["a", "b", "c"], r"\.0: it should be a valid number, got 'a'"),
            ("focal_length", 1e300, r": it should be less .*, got 1e\+300"),
            ("focal_length", 1e-300, ": it should be at least 1e-09, got 1e-300"),
            ("image_size", [0, 32], r"\.0: it should be greater .*, got 0"),
            ("image_size", [48, 2e9], r"\.1: it should be less .*, got 2000000000\.0"),
            ("focal_length", -1.0, r": it should be greater than 0, got -1\.0"),
        )
    },
    **{
        f"a dataset of {key} {value!r:.30}": (set_dataset(**{key: value}), f"{DATASET} {key}{why}")
        for key, value, why in (
            ("ids", ["../left_000"], r"\.0: it should stay inside .*, got '\.\./left_000'"),
            ("ids", ["left\0"], r"\.0: it should be the path of a file, got 'left\\x00'"),
            ("ids", ["x" * 300], r"\.0: it should be the path of a file, got .*"),
            ("ids", [], r": it should have at least 1 item, not 0, got \[\]"),
            ("train_ids", [], r": it should have at least 1 item, not 0, got \[\]"),
            ("ids", [1, 2], r"\.0: it should be a valid string, got 1"),
        )
    },
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_capture_is_refused_with_one_sentence_that_names_the_file(small_capture: Any, name: str) -> None:
    check_refused(small_capture, *DAMAGE[name], read_nerfies)


def test_a_downscale_finer_than_any_stored_images_is_refused(small_capture: Any) -> None:
    (small_capture.root / "rgb" / "1x").rename(small_capture.root / "rgb" / "2x")
    with pytest.raises(CaptureError, match="has 2x only, too small for a downscale of 1; ask for 2 or more"):
        read_nerfies(small_capture.root, downscale=1)


def test_a_downscale_below_one_is_refused(small_capture: Any) -> None:
    with pytest.raises(CaptureError, match="from 1 up, got 0"):
        read_nerfies(small_capture.root, downscale=0)


# --------------------------------------------------------------------------------------------------------------------
# Real captures


@pytest.mark.slow
def test_the_points_of_a_real_capture_lie_before_its_cameras_and_in_their_images(shared: Path) -> None:
    capture = read_nerfies(shared / "data" / "hand-on-shelf")
    assert len(capture) == 86
    assert len(capture.splits["train"]) == 75
    assert len(capture.splits["val"]) == 11
    assert capture.points is not None
    seen = np.zeros(len(capture.points), int)
    in_front = []
    for i in range(len(capture)):
        pixels, depth = project(capture, i, capture.points)
        inside = (depth > 0) & (pixels >= 0).all(1) & (pixels < capture.image_sizes[i]).all(1)
        seen += inside
        in_front.append((depth > 0).mean())
    assert min(in_front) > 0.99
    assert (seen >= 2).mean() > 0.99  # a point is triangulated from two images or more


def test_points_of_a_real_capture_have_the_colours_of_the_pixels_that_see_them(shared: Path) -> None:
    """Mirrored or shifted axes would send points to pixels of other colours."""
    capture = read_nerfies(shared / "data" / "hand-on-shelf")
    differences, shuffled = [], []
    rng = np.random.default_rng(0)
    for i in range(0, 86, 10):
        pixels, depth = project(capture, i, capture.points)
        inside = (depth > 0) & (pixels >= 0).all(1) & (pixels < capture.image_sizes[i]).all(1)
        with Image.open(capture.image_paths[i]) as image:
            colors = np.array(image.convert("RGB")).astype(float)
        x, y = pixels[inside].astype(int).T
        expected = capture.point_colors[inside].astype(float)
        differences.append(np.abs(colors[y, x] - expected).mean())
        shuffled.append(np.abs(rng.permutation(colors[y, x]) - expected).mean())
    assert np.mean(differences) < 0.5 * np.mean(shuffled)


@pytest.mark.slow
def test_damaged_files_end_in_a_capture_or_a_sentence(small_capture: Any) -> None:
    root = small_capture.root
    for name in ("motion_mask/1x", "depth/1x"):
        small_capture.write_images(name, (48, 32))
    np.save(root / "depth" / "1x" / "left_000.npy", np.ones((32, 48, 1), np.float32))
    np.save(root / "points_rgb.npy", np.zeros((20, 3), np.uint8))
    np.save(root / "points_motion.npy", np.zeros(20, np.float32))
    names = ("dataset.json", "metadata.json", "scene.json", "camera/left_000.json", "points.npy", "points_rgb.npy")
    more = ("points_motion.npy", "depth/1x/left_000.npy", "rgb/1x/left_000.png", "motion_mask/1x/left_000.png")
    check_reader(lambda: load_frame(read_nerfies(root)), [root / name for name in (*names, *names, *more)], rounds=160)
