"""CO3D: what is read, and what is refused."""

from __future__ import annotations

import gzip
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ball_on_plane import View, cast, check_geometry, colors, pixel_rays, views, world_to_camera
from fuzzing import check_reader
from loading import load_frame
from PIL import Image

from page4d_hf.captures import as_pinhole
from page4d_hf.captures.layouts.co3d import co3d_sequences, read_co3d
from page4d_hf.errors import CaptureError

SIZE = (36, 64)
NAME = "110_13051_23361"
FOCAL, PRINCIPAL = (1.9, 1.9), (-0.05, 0.08)  # ndc_isotropic
FILES = (1, 4, 9)  # numbers in the files' names; the frames' own numbers are 0, 1, 2
UNIT = min(SIZE) / 2
PIXEL_FOCAL = (FOCAL[0] * UNIT, FOCAL[1] * UNIT)
PIXEL_PRINCIPAL = (SIZE[0] / 2 - PRINCIPAL[0] * UNIT, SIZE[1] / 2 - PRINCIPAL[1] * UNIT)


def write_jgz(path: Path, value: Any) -> None:
    with gzip.open(path, "wt") as file:
        json.dump(value, file)


def viewpoint(view: View) -> dict[str, Any]:
    """PyTorch3D multiplies rows and its axes are left, up and forward: they are the columns of R."""
    rotation = np.stack((-view.right, -view.down, view.forward), axis=1)
    return {
        "R": rotation.tolist(),
        "T": (-view.centre @ rotation).tolist(),
        "focal_length": list(FOCAL),
        "principal_point": list(PRINCIPAL),
        "intrinsics_format": "ndc_isotropic",
    }


class Category:
    """Sequences of three frames of one category."""

    def __init__(self, root: Path, name: str = "apple", sequences: tuple[str, ...] = (NAME,)) -> None:
        self.root, self.folder, self.name = root, root / name, name
        self.frames: list[dict[str, Any]] = []
        self.sequences = [{"sequence_name": sequence, "viewpoint_quality_score": 0.9} for sequence in sequences]
        for sequence in sequences:
            for part in ("images", "depths", "depth_masks", "masks"):
                (self.folder / sequence / part).mkdir(parents=True)
            for number, (file, view) in enumerate(zip(FILES, views(3), strict=True)):
                rays = pixel_rays(view, PIXEL_FOCAL, PIXEL_PRINCIPAL, SIZE)
                depth, _ = cast(view.centre, rays)
                paths = {
                    "image": f"{name}/{sequence}/images/frame{file:06d}.jpg",
                    "depth": f"{name}/{sequence}/depths/frame{file:06d}.jpg.geometric.png",
                    "depth_mask": f"{name}/{sequence}/depth_masks/frame{file:06d}.png",
                }
                image = colors(view.centre + depth[..., None] * rays)
                Image.fromarray(image).save(root / paths["image"], quality=95, subsampling=0)
                Image.fromarray(depth.astype("<f2").view("<u2")).save(root / paths["depth"])
                mask = np.full(depth.shape, 255, np.uint8)
                mask[0, :4] = [0, 128, 129, 200]
                Image.fromarray(mask).save(root / paths["depth_mask"])
                self.frames.append(
                    {
                        "sequence_name": sequence,
                        "frame_number": number,
                        "frame_timestamp": -1.0,
                        "image": {"path": paths["image"], "size": [SIZE[1], SIZE[0]]},
                        "depth": {"path": paths["depth"], "scale_adjustment": 1.0, "mask_path": paths["depth_mask"]},
                        "mask": {"path": paths["image"].replace("images", "masks")},
                        "viewpoint": viewpoint(view),
                    }
                )
        self.save()

    def save(self) -> None:
        write_jgz(self.folder / "frame_annotations.jgz", self.frames[::-1])
        write_jgz(self.folder / "sequence_annotations.jgz", self.sequences)

    def write_set_list(self, subset: str, **parts: list[str]) -> None:
        (self.folder / "set_lists").mkdir(exist_ok=True)
        lists = {part: [[name, 0, "path"] for name in parts.get(part, [])] for part in ("train", "val", "test")}
        (self.folder / "set_lists" / f"set_lists_{subset}.json").write_text(json.dumps(lists))

    def to_second_form(self, folder: Path, split: str = "train", shift: float = 0.0) -> dict[str, Any]:
        """Replace the annotations by those of VGGT and PAGE-4D."""
        mapping: dict[str, Any] = {}
        for i, frame in enumerate(self.frames):
            matrix = world_to_camera(views(3)[i % 3])[:3]
            focal, principal = PIXEL_FOCAL, PIXEL_PRINCIPAL
            mapping.setdefault(frame["sequence_name"], []).append(
                {
                    "filepath": frame["image"]["path"],
                    "extri": matrix.tolist(),
                    "intri": [[focal[0], 0, principal[0]], [0, focal[1], principal[1]], [0, 0, 1]],
                }
            )
        for path in self.folder.glob("*.jgz"):
            path.unlink()
        folder.mkdir(exist_ok=True)
        write_jgz(folder / f"{self.name}_{split}.jgz", mapping)
        return mapping

    def read(self) -> Any:
        return read_co3d(self.root, f"{self.name}/{NAME}")


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
    assert capture.mask_paths is None
    assert capture.timestamps is None


def test_depth_counts_where_its_mask_is_above_128(category: Category) -> None:
    depth = as_pinhole(category.read()).load_depth(0)
    assert (depth[0, :4] > 0).tolist() == [False, False, True, True]
    assert (depth[1:] > 0).all()


def test_depth_is_multiplied_by_its_frames_scale(category: Category) -> None:
    before = [as_pinhole(category.read()).load_depth(i) for i in range(3)]
    for frame, scale in zip(category.frames, (1.0, 2.0, 0.5), strict=True):
        frame["depth"]["scale_adjustment"] = scale
    category.save()
    frames = as_pinhole(category.read())
    for i, scale in enumerate((1.0, 2.0, 0.5)):
        np.testing.assert_allclose(frames.load_depth(i), scale * before[i], rtol=1e-6)


def test_a_capture_goes_to_another_process(category: Category) -> None:
    frames = as_pinhole(category.read())
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(frames)).load_depth(1), frames.load_depth(1))


# --------------------------------------------------------------------------------------------------------------------
# Where the sequences are


def test_sequences_are_listed_by_category(tmp_path: Path) -> None:
    Category(tmp_path, "pizza", ("b", "a"))
    Category(tmp_path, "apple")
    assert co3d_sequences(tmp_path) == [f"apple/{NAME}", "pizza/a", "pizza/b"]


def test_sequences_that_were_not_fetched_are_not_listed(tmp_path: Path) -> None:
    shutil.rmtree(Category(tmp_path, "pizza", ("b", "a")).folder / "a")
    assert co3d_sequences(tmp_path) == ["pizza/b"]


def test_sequences_with_badly_rated_cameras_are_not_listed_unless_asked_for(tmp_path: Path) -> None:
    category = Category(tmp_path, "pizza", ("a", "b", "c", "d"))
    for entry, score in zip(category.sequences, (0.51, 0.5, None, -3.0), strict=True):
        entry["viewpoint_quality_score"] = score
    category.save()
    assert co3d_sequences(tmp_path) == ["pizza/a"]
    assert co3d_sequences(tmp_path, min_viewpoint_quality=None) == ["pizza/a", "pizza/b", "pizza/c", "pizza/d"]


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


def test_the_second_form_without_file_paths_is_refused(category: Category) -> None:
    mapping = category.to_second_form(category.root)
    del mapping[NAME][0]["filepath"]
    write_jgz(category.root / "apple_train.jgz", mapping)
    with pytest.raises(CaptureError, match=rf"apple_train\.jgz, at {NAME}, lacks 0\.filepath"):
        category.read()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "it should be an object"),
        ({NAME: "frames"}, f", at {NAME}, does not hold what it should: it should be a valid array"),
        ({NAME: []}, f", at {NAME}, does not hold what it should: it should have at least 1 item"),
        ({NAME: [{"filepath": "../../secret.jpg"}]}, "it should stay inside the folder"),
    ],
)
def test_the_second_form_of_another_shape_is_refused(category: Category, value: Any, message: str) -> None:
    category.to_second_form(category.root)
    write_jgz(category.root / "apple_train.jgz", value)
    with pytest.raises(CaptureError, match=rf"apple_train\.jgz.*{message}"):
        category.read()


# --------------------------------------------------------------------------------------------------------------------
# Frames that are left out


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda root, frame: (root / frame["image"]["path"]).unlink(), "the image is missing"),
        (lambda root, frame: (root / frame["depth"]["path"]).unlink(), "its depth"),
        (
            lambda root, frame: frame["viewpoint"].update(T=[np.nan, 0, 0]),
            "its viewpoint does not hold what it should at T.0: it should be a finite number, got nan",
        ),
        (lambda root, frame: frame["viewpoint"].update(R=[[2, 0, 0], [0, 1, 0], [0, 0, 1]]), "is no rotation"),
        (
            lambda root, frame: frame["depth"].update(scale_adjustment=0),
            "its depth does not hold what it should at scale_adjustment: it should be greater than 0, got 0",
        ),
        (
            lambda root, frame: frame["image"].update(size=[2e9, 36]),
            "the size of its image does not hold what it should at 0: it should be less",
        ),
        (
            lambda root, frame: frame["depth"].update(path="../x"),
            "at path: it should stay inside the folder that it starts from, got '../x'",
        ),
        (
            lambda root, frame: frame["viewpoint"].update(focal_length=[1e300, 1]),
            "its viewpoint does not hold what it should at focal_length.0: it should be less",
        ),
        (lambda root, frame: frame["image"].update(size=[36]), "it should have at least 2 items, not 1, got [36]"),
    ],
)
def test_a_frame_that_cannot_be_used_is_named_and_left_out(
    category: Category, damage: Callable[[Path, dict[str, Any]], Any], named: str
) -> None:
    damage(category.root, category.frames[1])
    category.save()
    capture = category.read()
    assert capture.frame_ids == ["frame000001", "frame000009"]
    (sentence,) = capture.skipped
    assert named in sentence
    assert "frame000004.jpg was left out: " in sentence


def test_a_sequence_without_depth_is_read_with_a_note(category: Category) -> None:
    shutil.rmtree(category.folder / NAME / "depths")
    capture = category.read()
    assert len(capture) == 3
    assert capture.depth_paths is None
    assert any("depths is missing" in note for note in capture.notes)


# --------------------------------------------------------------------------------------------------------------------
# What is refused


def test_missing_annotations_are_refused(category: Category) -> None:
    (category.folder / "frame_annotations.jgz").unlink()
    with pytest.raises(CaptureError, match=r"frame_annotations\.jgz is missing, and no apple_train\.jgz"):
        category.read()


def test_a_sequence_that_the_annotations_lack_is_refused(category: Category) -> None:
    with pytest.raises(CaptureError, match=r"frame_annotations\.jgz has no frame of the sequence other"):
        read_co3d(category.root, "apple/other")


def test_a_name_without_a_category_is_refused(category: Category) -> None:
    with pytest.raises(CaptureError, match="expected <category>/<sequence>"):
        read_co3d(category.root, NAME)


def test_a_depth_mask_that_is_missing_is_named_when_depth_is_loaded(category: Category) -> None:
    (category.root / category.frames[1]["depth"]["mask_path"]).unlink()
    frames = as_pinhole(category.read())
    assert frames.load_depth(0) is not None
    with pytest.raises(CaptureError, match=r"depth_masks/frame000004\.png is missing"):
        frames.load_depth(1)


def test_a_depth_mask_of_another_size_is_refused(category: Category) -> None:
    Image.new("L", (3, 3)).save(category.root / category.frames[1]["depth"]["mask_path"])
    with pytest.raises(CaptureError, match=r"depth_masks/frame000004\.png must be grey and have the shape"):
        as_pinhole(category.read()).load_depth(1)


def test_damaged_files_end_in_a_capture_or_a_sentence(category: Category) -> None:
    category.write_set_list("fewview", train=[NAME])
    names = ("frame_annotations.jgz", "frame_annotations.jgz", "sequence_annotations.jgz")
    frame = category.frames[0]
    files = [category.folder / name for name in (*names, "set_lists/set_lists_fewview.json")]
    files += [category.root / path for path in (frame["image"]["path"], frame["depth"]["path"])]

    def read() -> None:
        load_frame(category.read())
        co3d_sequences(category.root, "train")

    check_reader(read, files, rounds=120)


def test_damaged_files_of_the_second_form_end_in_a_capture_or_a_sentence(category: Category) -> None:
    category.to_second_form(category.root)

    def read() -> None:
        co3d_sequences(category.root)
        load_frame(category.read())

    check_reader(read, [category.root / "apple_train.jgz"], rounds=90)
