"""NVIDIA's Dynamic Scenes in both published forms: what is read, and what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ball_on_plane import check_cameras, render, views
from damaging import check_refused, gone, holds, load_frame
from fuzzing import check_reader
from PIL import Image

from page4d_hf.captures import as_pinhole, detect_layout, read_capture
from page4d_hf.captures.layouts.nvidia import read_nvidia
from page4d_hf.errors import CaptureError

SIZE = (64, 36)  # of the images
STORED_SIZE, FOCAL = (128, 72), 110.0  # that poses_bounds.npy is for
RIG = views(12)


def poses_bounds(count: int) -> np.ndarray:
    """Rows of `count` frames, each from the next camera of the rig, as LLFF lays them out."""
    rows = []
    for i in range(count):
        view = RIG[i % 12]
        matrix = np.empty((3, 5))
        matrix[:, 0], matrix[:, 1], matrix[:, 2] = view.down, view.right, -view.forward
        matrix[:, 3], matrix[:, 4] = view.centre, (STORED_SIZE[1], STORED_SIZE[0], FOCAL)
        rows.append([*matrix.ravel(), 1.5 + 0.01 * i, 20.0 - 0.1 * i])
    return np.array(rows, np.float64)


def draw(camera: int, size: tuple[int, int] = SIZE) -> Image.Image:
    scale = size[0] / STORED_SIZE[0]
    return Image.fromarray(render(RIG[camera], (FOCAL * scale,) * 2, (size[0] / 2, size[1] / 2), size))


def mask_of(instant: int) -> Image.Image:
    mask = np.zeros(SIZE[::-1], np.uint8)
    mask[:, : 2 * instant + 1] = 1  # anything above 0 moves
    return Image.fromarray(mask)


def write_dynamicnerf(root: Path) -> Path:
    """A scene in the form of DynamicNeRF: 12 frames."""
    for name in ("images", "images_colmap", "disp", "motion_masks", "flow"):
        (root / name).mkdir(parents=True)
    np.save(root / "poses_bounds.npy", poses_bounds(12))
    for i in range(12):
        draw(i).save(root / "images" / f"{i:03d}.png")
        draw(i, STORED_SIZE).save(root / "images_colmap" / f"{i:03d}.jpg")
        np.save(root / "disp" / f"{i:03d}.npy", np.ones(SIZE[::-1], np.float32))
        mask_of(i).save(root / "motion_masks" / f"{i:03d}.png")
    return root


def write_nsff(root: Path, count: int = 24) -> Path:
    """A scene in the form of Neural Scene Flow Fields: 24 frames, and what all 12 cameras saw."""
    dense = root / "dense"
    for name in ("images", "images_64x36", "disp", "motion_masks"):
        (dense / name).mkdir(parents=True)
    np.save(dense / "poses_bounds.npy", poses_bounds(count))
    drawn, small = [draw(camera) for camera in range(12)], [draw(camera, (32, 18)) for camera in range(12)]
    for i in range(count):
        drawn[i % 12].save(dense / "images" / f"{i:05d}.png")
        small[i % 12].save(dense / "images_64x36" / f"{i:05d}.png")
        mask_of(i).save(dense / "motion_masks" / f"{i:05d}.png")
        (dense / "mv_images" / f"{i:05d}").mkdir(parents=True)
        (dense / "mv_masks" / f"{i:05d}").mkdir(parents=True)
        for camera in range(12):
            drawn[camera].save(dense / "mv_images" / f"{i:05d}" / f"cam{camera + 1:02d}.jpg", quality=98, subsampling=0)
            mask_of(i).save(dense / "mv_masks" / f"{i:05d}" / f"cam{camera + 1:02d}.png")
    return root


@pytest.fixture
def dynamicnerf(tmp_path: Path) -> Path:
    return write_dynamicnerf(tmp_path / "Balloon1")


@pytest.fixture(scope="session")
def nsff_scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not to be changed."""
    return write_nsff(tmp_path_factory.mktemp("nsff") / "Balloon1-2")


@pytest.fixture
def small_nsff(tmp_path: Path) -> Path:
    """The first two frames alone, to be damaged; views of cameras beyond them are left unread."""
    return write_nsff(tmp_path / "Skating-2", count=2)


# --------------------------------------------------------------------------------------------------------------------
# What is read


def test_rays_through_the_pixels_hit_what_the_pixels_show(dynamicnerf: Path) -> None:
    capture = read_capture(dynamicnerf)
    assert (capture.layout, capture.sequence, len(capture)) == ("nvidia", "Balloon1", 12)
    check_cameras(capture, lambda index: RIG[index], tolerance=0.1)


def test_the_focal_length_is_for_the_stored_size_and_follows_the_image(dynamicnerf: Path) -> None:
    intrinsics = read_nvidia(dynamicnerf).intrinsics[3]
    np.testing.assert_allclose(intrinsics, [[FOCAL / 2, 0, 32], [0, FOCAL / 2, 18], [0, 0, 1]])


def test_each_frame_is_of_the_next_instant_and_camera(dynamicnerf: Path) -> None:
    capture = read_nvidia(dynamicnerf)
    assert capture.time_ids.tolist() == list(range(12))
    assert capture.camera_ids.tolist() == list(range(12))
    assert capture.splits["train"].tolist() == list(range(12))
    assert "val" not in capture.splits


def test_what_moves_is_read_from_its_masks(dynamicnerf: Path) -> None:
    frames = as_pinhole(read_nvidia(dynamicnerf))
    mask = frames.load_motion_mask(4)
    assert mask is not None
    assert mask.sum(axis=1).tolist() == [9] * SIZE[1]


def test_a_scene_without_masks_has_none(dynamicnerf: Path) -> None:
    shutil.rmtree(dynamicnerf / "motion_masks")
    assert read_nvidia(dynamicnerf).motion_mask_paths is None


def test_the_scene_lies_between_the_extremes_of_all_bounds(dynamicnerf: Path) -> None:
    capture = read_nvidia(dynamicnerf)
    assert (capture.near, capture.far) == pytest.approx((1.5, 20.0))


@pytest.mark.parametrize("named", [".", "dense"])
def test_what_the_other_cameras_saw_is_held_out(nsff_scene: Path, named: str) -> None:
    capture = read_capture(nsff_scene / named)
    assert capture.sequence == "Balloon1-2"
    assert capture.splits["train"].tolist() == list(range(24))
    assert capture.splits["val"].tolist() == list(range(24, 24 + 24 * 11))
    assert capture.camera_ids[:24].tolist() == [i % 12 for i in range(24)]
    seen = {(int(t), int(c)) for t, c in zip(capture.time_ids, capture.camera_ids, strict=True)}
    assert seen == {(t, c) for t in range(24) for c in range(12)}  # each once, none of the video's again
    assert len(capture) == 24 * 12
    at_14 = capture.frame_ids.index("00014/cam12")
    assert (capture.time_ids[at_14], capture.camera_ids[at_14]) == (14, 11)
    assert capture.times[at_14] == pytest.approx(14 / 23)


def test_cameras_of_held_out_views_see_what_these_show(nsff_scene: Path) -> None:
    capture = read_nvidia(nsff_scene)
    some = capture.select([0, 13, *range(24, len(capture), 17)])
    check_cameras(some, lambda index: RIG[some.camera_ids[index]], tolerance=1.0)  # of JPEGs


def test_masks_of_held_out_views_are_of_their_instants(nsff_scene: Path) -> None:
    capture = read_nvidia(nsff_scene)
    frames = as_pinhole(capture)
    for index in (24, 100, 287):
        mask = frames.load_motion_mask(index)
        assert mask is not None
        assert mask[0].sum() == 2 * capture.time_ids[index] + 1


def test_where_there_are_no_full_images_the_largest_others_are_taken(small_nsff: Path) -> None:
    """All at one size, of which the name tells."""
    shutil.rmtree(small_nsff / "dense" / "images")
    capture = read_nvidia(small_nsff)
    assert capture.image_paths[0].parent.name == "images_64x36"
    np.testing.assert_allclose(capture.intrinsics[0, 0], [FOCAL / 4, 0, 16])


def test_cameras_that_the_video_does_not_have_are_left_out(small_nsff: Path) -> None:
    capture = read_nvidia(small_nsff)
    assert capture.frame_ids[2:] == ["00000/cam02", "00001/cam01"]


def test_a_folder_of_images_with_masks_alone_is_another_thing(tmp_path: Path) -> None:
    for name in ("images", "motion_masks"):
        (tmp_path / name).mkdir()
        draw(0).save(tmp_path / name / "000.png")
    assert detect_layout(tmp_path) is None


# --------------------------------------------------------------------------------------------------------------------
# What is refused: each in one sentence that names the file


def edit_poses(change: Callable[[np.ndarray], Any]) -> Callable[[Path], None]:
    def damage(scene: Path) -> None:
        rows = np.load(scene / "poses_bounds.npy")
        changed = change(rows)
        np.save(scene / "poses_bounds.npy", rows if changed is None else changed)

    return damage


def put(where: Any, value: float) -> Callable[[Path], None]:
    return edit_poses(lambda rows: rows.__setitem__(where, value))


def empty_images(scene: Path) -> None:
    for path in (scene / "images").iterdir():
        path.unlink()


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no cameras": (gone("poses_bounds.npy"), r"poses_bounds\.npy is missing"),
    "cameras that are no array": (holds("poses_bounds.npy", b"hello"), r"poses_bounds\.npy cannot be read"),
    "rows of 14 numbers": (edit_poses(lambda rows: rows[:, :14]), r"poses_bounds\.npy must hold .*got \(12, 14\)"),
    "no rows": (edit_poses(lambda rows: rows[:0]), r"poses_bounds\.npy has no rows"),
    "a row too few": (edit_poses(lambda rows: rows[:11]), r"has 12 images but .*poses_bounds\.npy has 11 rows"),
    "NaN in a camera": (
        put((5, 3), float("nan")),
        r"poses_bounds\.npy holds NaN, infinity or numbers above .* in row 5",
    ),
    "an infinite depth": (
        put((2, 16), float("inf")),
        r"poses_bounds\.npy holds NaN, infinity or numbers above .* in row 2",
    ),
    "a mirrored camera": (edit_poses(lambda r: r.__setitem__((7, [1, 6, 11]), -r[7, [1, 6, 11]])), r"row 7 are no rot"),
    "a focal length of 0": (put((1, 14), 0.0), r"poses_bounds\.npy: height, width and focal length"),
    "near beyond far": (put((1, 15), 30.0), r"poses_bounds\.npy: the nearest depth"),
    "no images": (empty_images, r"images is missing or empty"),
    "an image too few": (gone("images/005.png"), r"images has 11 images"),
    "an image cut short": (holds("images/005.png", b"\x89PNG\r\n"), r"005\.png cannot be read as an image"),
    "a mask that is no image": (holds("motion_masks/001.png", b"no image"), r"001\.png cannot be read as an image"),
    "a mask too few": (gone("motion_masks/005.png"), r"motion_masks/005\.png is missing"),
    "an image of other proportions": (
        lambda scene: draw(5, (64, 64)).save(scene / "images" / "005.png"),
        r"005\.png is 64x64 but poses_bounds\.npy is for images of 128x72",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_scene_is_refused_with_one_sentence_that_names_the_file(dynamicnerf: Path, name: str) -> None:
    check_refused(dynamicnerf, *DAMAGE[name], read_capture, "nvidia")


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("mv_images/00001/cam01.jpg", "mv_images/00001/cam01.jpg"),
        ("mv_masks/00001/cam01.png", "mv_masks/00001/cam01.png"),
        ("mv_images/00001", "mv_images/00001/cam01.jpg"),
    ],
)
def test_a_held_out_view_or_mask_that_is_missing_is_named(small_nsff: Path, name: str, first: str) -> None:
    gone(f"dense/{name}")(small_nsff)
    with pytest.raises(CaptureError, match=rf"{first} is missing"):
        read_nvidia(small_nsff)


def test_views_of_an_instant_beyond_the_video_are_refused(small_nsff: Path) -> None:
    (small_nsff / "dense" / "mv_images" / "00007").mkdir()
    with pytest.raises(CaptureError, match=r"mv_images/00007 is of a time that the video of 2 frames does not have"):
        read_nvidia(small_nsff)


def test_damaged_files_end_in_a_capture_or_a_sentence(dynamicnerf: Path) -> None:
    names = ("poses_bounds.npy", "poses_bounds.npy", "images/000.png", "motion_masks/000.png")
    check_reader(lambda: load_frame(read_nvidia(dynamicnerf)), [dynamicnerf / name for name in names], rounds=80)
