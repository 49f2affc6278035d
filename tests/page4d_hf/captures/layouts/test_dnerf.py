"""The scenes of D-NeRF: what is read, and what is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ball_on_plane import camera_to_world_opengl, check_cameras, render, views
from damaging import check_refused, cut, gone, holds, load_frame
from fuzzing import check_reader
from PIL import Image

from page4d_hf.captures import as_pinhole, read_capture
from page4d_hf.captures.layouts.dnerf import read_dnerf

SIZE = (48, 40)
ANGLE = 0.9
COUNTS = {"train": 4, "val": 2, "test": 3}


class SmallScene:
    """A scene named bouncingballs as it is published: 4 views to train on, 2 and 3 held out."""

    def __init__(self, root: Path, name: str = "bouncingballs") -> None:
        self.folder = root / name
        self.views = dict(zip([(s, i) for s, n in COUNTS.items() for i in range(n)], views(9), strict=True))
        focal = 0.5 * SIZE[0] / math.tan(0.5 * ANGLE)
        for split, count in COUNTS.items():
            (self.folder / split).mkdir(parents=True)
            frames = []
            for i in range(count):
                view = self.views[split, i]
                image = np.full((SIZE[1], SIZE[0], 4), 255, np.uint8)
                image[..., :3] = render(view, (focal, focal), (SIZE[0] / 2, SIZE[1] / 2), SIZE)
                Image.fromarray(image).save(self.folder / split / f"r_{i:03d}.png")
                frames.append(
                    {
                        "file_path": f"./{split}/r_{i:03d}",
                        "rotation": 0.0314,
                        "time": i / (count - 1),
                        "transform_matrix": camera_to_world_opengl(view).tolist(),
                    }
                )
            self.write(split, {"camera_angle_x": ANGLE, "frames": frames})

    def write(self, split: str, value: Any) -> None:
        (self.folder / f"transforms_{split}.json").write_text(json.dumps(value))

    def edit(self, split: str, change: Callable[[Any], Any]) -> None:
        value = json.loads((self.folder / f"transforms_{split}.json").read_text())
        change(value)
        self.write(split, value)


@pytest.fixture
def small(tmp_path: Path) -> SmallScene:
    return SmallScene(tmp_path)


def test_rays_through_the_pixels_hit_what_the_pixels_show(small: SmallScene) -> None:
    capture = read_capture(small.folder)
    order = list(small.views)
    check_cameras(capture, lambda index: small.views[order[index]], tolerance=0.1)
    assert (capture.layout, len(capture), capture.distortion.any()) == ("dnerf", 9, False)
    assert capture.frame_ids[0] == "train/r_000"


def test_the_focal_length_follows_the_stored_width(small: SmallScene) -> None:
    """Many use the scenes at half their size; the angle of view stays."""
    for path in small.folder.glob("*/*.png"):
        Image.open(path).resize((24, 20)).save(path)
    intrinsics = read_dnerf(small.folder).intrinsics[0]
    np.testing.assert_allclose(intrinsics[[0, 1], [0, 1]], 12 / math.tan(ANGLE / 2))
    np.testing.assert_allclose(intrinsics[:2, 2], [12, 10])


def test_times_are_the_files_own_whichever_views_a_split_has(small: SmallScene) -> None:
    times = read_dnerf(small.folder).times
    np.testing.assert_allclose(times, [0, 1 / 3, 2 / 3, 1, 0, 1, 0, 0.5, 1])


def test_instants_are_ranked_over_all_views(small: SmallScene) -> None:
    assert read_dnerf(small.folder).time_ids.tolist() == [0, 1, 3, 4, 0, 4, 0, 2, 4]


def test_without_times_a_file_s_views_are_spread_evenly_over_them(small: SmallScene) -> None:
    for split in COUNTS:
        small.edit(split, lambda value: [frame.pop("time") for frame in value["frames"]])
    np.testing.assert_allclose(read_dnerf(small.folder).times, [0, 1 / 3, 2 / 3, 1, 0, 1, 0, 0.5, 1])


def test_times_that_fill_a_part_of_0_to_1_are_scaled_to_it_over_all_files(small: SmallScene) -> None:
    for split in COUNTS:
        small.edit(split, lambda value: [frame.update(time=0.01 + 0.05 * frame["time"]) for frame in value["frames"]])
    capture = read_dnerf(small.folder)
    np.testing.assert_allclose(capture.times, [0, 1 / 3, 2 / 3, 1, 0, 1, 0, 0.5, 1], atol=1e-12)
    assert "go from 0.01 to 0.06" in capture.notes[0]


def test_test_views_are_held_out(small: SmallScene) -> None:
    capture = read_dnerf(small.folder)
    assert {name: frames.tolist() for name, frames in capture.splits.items()} == {
        "train": [0, 1, 2, 3], "val": [4, 5], "test": [6, 7, 8]
    }  # fmt: skip
    assert capture.evaluation_split == "test"


def test_of_lego_the_validation_views_are_held_out(tmp_path: Path) -> None:
    """Its test views show the shovel elsewhere than its training."""
    capture = read_dnerf(SmallScene(tmp_path, "lego").folder)
    assert capture.evaluation_split == "val"
    assert "is evaluated on its validation views" in capture.notes[0]


def test_of_the_static_lego_of_nerf_the_test_views_are_held_out(tmp_path: Path) -> None:
    scene = SmallScene(tmp_path, "lego")
    for split in COUNTS:
        scene.edit(split, lambda value: [frame.pop("time") for frame in value["frames"]])
    capture = read_dnerf(scene.folder)
    assert (capture.evaluation_split, capture.notes) == ("test", [])


@pytest.mark.parametrize(("left", "expected"), [("val", "val"), ("test", "test")])
def test_where_one_held_out_split_is_lacking_the_other_takes_its_place(
    small: SmallScene, left: str, expected: str
) -> None:
    for split in {"val", "test"} - {left}:
        (small.folder / f"transforms_{split}.json").unlink()
    capture = read_dnerf(small.folder)
    assert (set(capture.splits), capture.evaluation_split) == ({"train", left}, expected)


def test_what_is_transparent_is_white(small: SmallScene) -> None:
    path = small.folder / "train" / "r_000.png"
    image = np.zeros((SIZE[1], SIZE[0], 4), np.uint8)
    image[:10] = (100, 50, 0, 255)
    image[10:20] = (100, 50, 0, 102)
    image[20:] = (100, 50, 0, 0)
    Image.fromarray(image).save(path)
    capture = read_dnerf(small.folder)
    loaded = as_pinhole(capture).load_image(0)
    assert loaded.shape == (SIZE[1], SIZE[0], 3)
    assert loaded[[0, 15, 30], 0].tolist() == [[100, 50, 0], [193, 173, 153], [255, 255, 255]]
    assert capture.background == (255, 255, 255)


def test_edges_keep_the_colour_of_white_when_scaled_down(small: SmallScene) -> None:
    """Laid over white first and averaged then: averaging apart would let hidden colours through."""
    path = small.folder / "train" / "r_000.png"
    image = np.zeros((SIZE[1], SIZE[0], 4), np.uint8)  # hidden: black
    image[::2] = (255, 255, 255, 255)
    Image.fromarray(image).save(path)
    assert (as_pinhole(read_dnerf(small.folder), 2).load_image(0) == 255).all()


def looking_at(target: np.ndarray, centre: np.ndarray) -> list[list[float]]:
    backward = (centre - target) / np.linalg.norm(centre - target)
    right = np.cross([0.0, 0.0, 1.0], backward)
    right /= np.linalg.norm(right)
    matrix = np.column_stack((right, np.cross(backward, right), backward, centre))
    return [*matrix.tolist(), [0.0, 0.0, 0.0, 1.0]]


@pytest.mark.parametrize("target", [(0.0, 0.0, 0.0), (3.0, -1.0, 2.0)])
def test_from_the_published_distance_of_4_the_scene_lies_between_2_and_6(
    small: SmallScene, target: tuple[float, float, float]
) -> None:
    """Wherever it is that the cameras look at."""
    rng = np.random.default_rng(0)
    for split in COUNTS:

        def turn(value: Any) -> None:
            for frame in value["frames"]:
                offset = rng.normal(size=3)
                centre = np.array(target) + 4 * offset / np.linalg.norm(offset)
                frame["transform_matrix"] = looking_at(np.array(target), centre)

        small.edit(split, turn)
    capture = read_dnerf(small.folder)
    assert (capture.near, capture.far) == pytest.approx((2, 6))


def test_cameras_that_look_at_nothing_in_common_tell_no_depths(small: SmallScene) -> None:
    for split in COUNTS:
        small.edit(split, lambda value: [f.update(transform_matrix=np.eye(4).tolist()) for f in value["frames"]])
    capture = read_dnerf(small.folder)
    assert (capture.near, capture.far) == (None, None)


# --------------------------------------------------------------------------------------------------------------------
# What is refused: each in one sentence that names the file


def set_frame(**values: Any) -> Callable[[SmallScene], None]:
    return lambda small: small.edit("train", lambda value: value["frames"][1].update(values))


NAN = float("nan")
DAMAGE: dict[str, tuple[Callable[[SmallScene], Any], str]] = {
    "no training views": (gone("transforms_train.json"), r"transforms_train\.json is missing"),
    "no image": (gone("train/r_001.png"), r"train/r_001\.png is missing"),
    "no held-out image": (gone("test/r_001.png"), r"test/r_001\.png is missing"),
    "an image cut short": (holds("train/r_001.png", b"\x89PNG\r\n"), r"train/r_001\.png"),
    "an image that is broken further in": (cut("train/r_001.png", -200), r"r_001\.png cannot be read"),
    "JSON cut short": (holds("transforms_test.json", b'{"frames": ['), r"transforms_test\.json cannot be read"),
    "a list for an object": (holds("transforms_test.json", b"[]"), r"transforms_test\.json .* an object"),
    "no frames": (
        lambda s: s.edit("val", lambda v: v.update(frames=[])),
        r"transforms_val\.json .* at frames: it should",
    ),
    "a frame that is none": (lambda s: s.edit("val", lambda v: v.update(frames=[3])), r"transforms_val\.json"),
    "no angle of view": (lambda s: s.edit("train", lambda v: v.pop("camera_angle_x")), r"camera_angle_x.*_train\.json"),
    "an angle of 0": (
        lambda s: s.edit("train", lambda v: v.update(camera_angle_x=0)),
        r"_train\.json .* camera_angle_x.* got 0",
    ),
    "an angle of NaN": (
        lambda s: s.edit("train", lambda v: v.update(camera_angle_x=NAN)),
        r"_train\.json .* camera_angle_x",
    ),
    "NaN in a matrix": (
        set_frame(transform_matrix=[[NAN] * 4] * 4),
        r"_train\.json .*1\.transform_matrix\.0\.0: it should be a finite number",
    ),
    "a matrix of 2 rows": (
        set_frame(transform_matrix=np.eye(4)[:2].tolist()),
        r"_train\.json .*1\.transform_matrix: it .* not 2",
    ),
    "a scaled matrix": (set_frame(transform_matrix=(2 * np.eye(4)).tolist()), r"r_001.*does not hold a rotation"),
    "a time of NaN": (set_frame(time=NAN), r"_train\.json .* frames\.1\.time: it should be a finite number"),
    "a time beyond 1": (set_frame(time=2), r"_train\.json: the time of ./train/r_001 .* got 2"),
    "a time in words": (set_frame(time="noon"), r"_train\.json .* frames\.1\.time: .* got 'noon'"),
    "a time left out": (
        lambda s: s.edit("train", lambda v: v["frames"][1].pop("time")),
        r"_train\.json gives the time of 3 of its 4 frames",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_scene_is_refused_with_one_sentence_that_names_the_file(small: SmallScene, name: str) -> None:
    check_refused(small, *DAMAGE[name], read_capture, "dnerf")


def test_damaged_files_end_in_a_capture_or_a_sentence(small: SmallScene) -> None:
    names = ("transforms_train.json", "transforms_train.json", "transforms_val.json", "train/r_000.png")
    check_reader(lambda: load_frame(read_dnerf(small.folder)), [small.folder / name for name in names], rounds=100)
