"""Dynamic Replica: what is read, and what is refused."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ball_on_plane import View, cast, check_geometry, colors, shifted, views
from fuzzing import check_reader
from loading import load_frame
from PIL import Image

from page4d_hf.captures import as_pinhole
from page4d_hf.captures.layouts.dynamic_replica import dynamic_replica_sequences, read_dynamic_replica
from page4d_hf.errors import CaptureError

SIZE = (64, 36)
NAME = "009850-3_obj"
LEFT, RIGHT = f"{NAME}_source_left", f"{NAME}_source_right"
FOCAL, PRINCIPAL = (2.2, 2.2), (0.1, -0.06)


def viewpoint(view: View, kind: str) -> dict[str, Any]:
    """PyTorch3D multiplies rows and its axes are left, up and forward: they are the columns of R."""
    rotation = np.stack((-view.right, -view.down, view.forward), axis=1)
    return {
        "R": rotation.tolist(),
        "T": (-view.centre @ rotation).tolist(),
        "focal_length": list(FOCAL),
        "principal_point": list(PRINCIPAL),
        "intrinsics_format": kind,
    }


def rays(view: View, kind: str, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Directions of PyTorch3D's pixels: NDC is +1 at the left and upper edge, of the shorter side if isotropic."""
    j, i = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    x, y = 1 - 2 * (j + 0.5) / size[0], 1 - 2 * (i + 0.5) / size[1]
    if kind == "ndc_isotropic":
        x, y = x * size[0] / min(size), y * size[1] / min(size)
    x, y = (x - PRINCIPAL[0]) / FOCAL[0], (y - PRINCIPAL[1]) / FOCAL[1]
    return x[..., None] * -view.right + y[..., None] * -view.down + view.forward


def write_depth(path: Path, depth: np.ndarray) -> None:
    """float16 as the bits of a 16-bit PNG."""
    Image.fromarray(depth.astype("<f2").view("<u2")).save(path)


class Folder:
    """Three frames of a stereo sequence."""

    def __init__(self, root: Path, folder: str = "train", split: str = "train", kind: str = "ndc_isotropic") -> None:
        self.root, self.folder = root, root / folder
        self.annotation_file = self.folder / f"frame_annotations_{split}.jgz"
        self.entries: list[dict[str, Any]] = []
        for eye in ("left", "right"):
            name = f"{NAME}_source_{eye}"
            for part in ("images", "depths", "masks"):
                (self.folder / name / part).mkdir(parents=True, exist_ok=True)
            for i, left in enumerate(views(3)):
                view = left if eye == "left" else shifted(left, 0.3)
                directions = rays(view, kind)
                depth, on_ball = cast(view.centre, directions)  # the directions have z = 1
                paths = {
                    "image": f"{name}/images/{name}-{i:04d}.png",
                    "depth": f"{name}/depths/{name}_{i:04d}.geometric.png",
                    "mask": f"{name}/masks/{name}_{i:04d}.png",
                }
                image = colors(view.centre + depth[..., None] * directions)
                Image.fromarray(image).save(self.folder / paths["image"])
                depth[0, :4] = [np.inf, np.nan, 0, -1]
                write_depth(self.folder / paths["depth"], depth)
                Image.fromarray((on_ball * 255).astype(np.uint8)).save(self.folder / paths["mask"])
                self.entries.append(
                    {
                        "sequence_name": NAME,
                        "camera_name": eye,
                        "frame_number": i,
                        "frame_timestamp": 2 + i / 30,
                        "image": {"path": paths["image"], "size": [SIZE[1], SIZE[0]]},
                        "depth": {"path": paths["depth"]},
                        "mask": {"path": paths["mask"]},
                        "flow_forward": {"path": None},
                        "viewpoint": viewpoint(view, kind),
                    }
                )
        self.on_ball = on_ball
        self.save()

    def save(self) -> None:
        # The order of the entries says nothing.
        with gzip.open(self.annotation_file, "wt") as file:
            json.dump(self.entries[::-1], file)


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
    mask = as_pinhole(read_dynamic_replica(folder.root, f"train/{RIGHT}")).load_mask(2)
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


def test_a_split_that_is_absent_is_refused(folder: Folder) -> None:
    with pytest.raises(CaptureError, match="has no folder test"):
        dynamic_replica_sequences(folder.root, "test")


# --------------------------------------------------------------------------------------------------------------------
# Frames that are left out


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda folder, entry: (folder / entry["image"]["path"]).unlink(), "the image is missing"),
        (lambda folder, entry: (folder / entry["depth"]["path"]).unlink(), "its depth"),
        (
            lambda folder, entry: entry["viewpoint"].update(T=[np.nan, 0, 0]),
            "its viewpoint does not hold what it should at T.0: it should be a finite number, got nan",
        ),
        (lambda folder, entry: entry["viewpoint"].update(R=[[2, 0, 0], [0, 1, 0], [0, 0, 1]]), "is no rotation"),
        (lambda folder, entry: entry["viewpoint"].update(R=[[-1, 0, 0], [0, 1, 0], [0, 0, 1]]), "is no rotation"),
        (lambda folder, entry: entry["viewpoint"].update(focal_length=[0, 1]), "the focal lengths of its camera"),
        (
            lambda folder, entry: entry["viewpoint"].update(intrinsics_format="px"),
            "its viewpoint does not hold what it should at intrinsics_format",
        ),
        (
            lambda folder, entry: entry.update(viewpoint=None),
            "its viewpoint does not hold what it should: it should be an object, got None",
        ),
    ],
)
def test_a_frame_that_cannot_be_used_is_named_and_left_out(
    folder: Folder, damage: Callable[[Path, dict[str, Any]], Any], named: str
) -> None:
    damage(folder.folder, folder.entries[1])
    folder.save()
    capture = read_dynamic_replica(folder.root, f"train/{LEFT}")
    assert len(capture) == 2
    (sentence,) = capture.skipped
    assert named in sentence
    assert f"{LEFT}-0001.png was left out: " in sentence


def test_a_frame_without_a_mask_stays(folder: Folder) -> None:
    (folder.folder / folder.entries[1]["mask"]["path"]).unlink()
    capture = read_dynamic_replica(folder.root, f"train/{LEFT}")
    assert [path is None for path in capture.mask_paths] == [False, True, False]


def test_images_alone_can_be_fetched(folder: Folder) -> None:
    for part in ("depths", "masks"):
        for path in (folder.folder / LEFT / part).iterdir():
            path.unlink()
        (folder.folder / LEFT / part).rmdir()
    capture = read_dynamic_replica(folder.root, f"train/{LEFT}")
    assert len(capture) == 3
    assert capture.depth_paths is None
    assert capture.mask_paths is None
    assert len(capture.notes) == 2


# --------------------------------------------------------------------------------------------------------------------
# What is refused


def test_missing_annotations_are_refused(folder: Folder) -> None:
    folder.annotation_file.unlink()
    with pytest.raises(CaptureError, match=r"frame_annotations_<split>\.jgz is missing"):
        read_dynamic_replica(folder.root, f"train/{LEFT}")


def test_annotations_that_are_cut_short_are_refused(folder: Folder) -> None:
    folder.annotation_file.write_bytes(folder.annotation_file.read_bytes()[:-300])
    with pytest.raises(CaptureError, match=r"frame_annotations_train\.jgz cannot be read as JSON"):
        read_dynamic_replica(folder.root, f"train/{LEFT}")


@pytest.mark.parametrize("text", ["{}", "[1, 2]", "[{}", ""])
def test_annotations_of_another_form_are_refused(folder: Folder, text: str) -> None:
    folder.annotation_file.write_bytes(gzip.compress(text.encode()))
    with pytest.raises(CaptureError, match=r"frame_annotations_train\.jgz (must hold|cannot be read)"):
        read_dynamic_replica(folder.root, f"train/{LEFT}")


@pytest.mark.parametrize("number", [None, "1", 1.5])
def test_a_frame_without_a_number_is_refused(folder: Folder, number: Any) -> None:
    folder.entries[0]["frame_number"] = number
    folder.save()
    with pytest.raises(
        CaptureError,
        match=r"frame_annotations_train\.jgz, in an entry of .* at frame_number: it should be a valid integer",
    ):
        read_dynamic_replica(folder.root, f"train/{LEFT}")


def test_a_frame_without_a_path_is_named(folder: Folder) -> None:
    folder.entries[1]["image"] = "none"
    folder.save()
    capture = read_dynamic_replica(folder.root, f"train/{LEFT}")
    assert len(capture) == 2
    assert "frame 1 was left out: " in capture.skipped[0]
    assert "its image does not hold what it should: it should be an object, got 'none'" in capture.skipped[0]


def test_a_sequence_that_the_annotations_lack_is_refused(folder: Folder) -> None:
    with pytest.raises(CaptureError, match=r"frame_annotations_train\.jgz has no frame of other, camera left"):
        read_dynamic_replica(folder.root, "train/other_source_left")


def test_a_name_without_an_eye_is_refused(folder: Folder) -> None:
    with pytest.raises(CaptureError, match="expected <name>_source_left or _right"):
        read_dynamic_replica(folder.root, "train/other")


def test_depth_of_8_bits_is_refused_when_it_is_loaded(folder: Folder) -> None:
    path = folder.folder / folder.entries[1]["depth"]["path"]
    Image.new("L", SIZE).save(path)
    frames = as_pinhole(read_dynamic_replica(folder.root, f"train/{LEFT}"))
    with pytest.raises(CaptureError, match=r"_0001\.geometric\.png must be a grey image of 16 bits"):
        frames.load_depth(1)


def test_annotations_that_were_written_anew_are_read_anew(folder: Folder) -> None:
    assert len(read_dynamic_replica(folder.root, f"train/{LEFT}")) == 3
    del folder.entries[1]
    folder.save()
    assert len(read_dynamic_replica(folder.root, f"train/{LEFT}")) == 2


def test_damaged_files_end_in_a_capture_or_a_sentence(folder: Folder) -> None:
    files = [folder.annotation_file] * 3
    files += [folder.folder / folder.entries[0][part]["path"] for part in ("image", "depth", "mask")]

    def read() -> None:
        dynamic_replica_sequences(folder.root, "train")
        load_frame(read_dynamic_replica(folder.root, f"train/{LEFT}"))

    check_reader(read, files, rounds=120)
