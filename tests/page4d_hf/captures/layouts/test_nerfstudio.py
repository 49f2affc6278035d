"""nerfstudio's transforms.json as a capture: what is read, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from ball_on_plane import (
    camera_to_world_opengl,
    cast,
    check_cameras,
    colors,
    pixel_rays,
    render,
    surface_distance,
    views,
)
from damaging import check_refused, cut, gone, load_frame
from fuzzing import check_reader
from PIL import Image

from page4d_hf.captures import as_pinhole, read_capture
from page4d_hf.captures.layouts.nerfstudio import read_nerfstudio
from page4d_hf.errors import CaptureError

SIZE, FOCAL, CENTER = (56, 42), (50.0, 52.0), (27.0, 22.0)
VIEWS = views(5)
# What `ns-process-data` does to COLMAP's world before it writes cameras and points.
APPLIED = [[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, -1.0, 0.0, 0.0]]


class SmallFolder:
    """5 frames with times, intrinsics once for all, and points on the surfaces."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "images").mkdir(parents=True)
        frames = []
        for i, view in enumerate(VIEWS):
            Image.fromarray(render(view, FOCAL, CENTER, SIZE)).save(root / "images" / f"frame_{i:05d}.png")
            frames.append(
                {
                    "file_path": f"images/frame_{i:05d}.png",
                    "time": [0.0, 0.1, 0.5, 0.5, 1.0][i],
                    "transform_matrix": camera_to_world_opengl(view).tolist(),
                }
            )
        self.meta: dict[str, Any] = {
            "camera_model": "OPENCV",
            "fl_x": FOCAL[0], "fl_y": FOCAL[1], "cx": CENTER[0], "cy": CENTER[1], "w": SIZE[0], "h": SIZE[1],
            "applied_transform": APPLIED,
            "ply_file_path": "sparse_pc.ply",
            "frames": frames,
        }  # fmt: skip
        self.write()
        directions = pixel_rays(VIEWS[2], FOCAL, CENTER, SIZE)[::6, ::6].reshape(-1, 3)
        self.points = VIEWS[2].centre + cast(VIEWS[2].centre, directions)[0][:, None] * directions
        self.write_points(self.points)

    def write(self) -> None:
        (self.root / "transforms.json").write_text(json.dumps(self.meta))

    def write_points(self, points: np.ndarray) -> None:
        """As nerfstudio's own tools do, in ASCII."""
        head = ["ply", "format ascii 1.0", f"element vertex {len(points)}"]
        head += [f"property float {axis}" for axis in "xyz"] + [f"property uint8 {c}" for c in ("red", "green", "blue")]
        rows = [
            f"{x:8f} {y:8f} {z:8f} {r} {g} {b}"
            for (x, y, z), (r, g, b) in zip(points, colors(np.nan_to_num(points)), strict=True)
        ]
        (self.root / "sparse_pc.ply").write_text("\n".join([*head, "end_header", *rows]) + "\n")


@pytest.fixture
def small(tmp_path: Path) -> SmallFolder:
    return SmallFolder(tmp_path / "processed")


def test_rays_through_the_pixels_hit_what_the_pixels_show(small: SmallFolder) -> None:
    capture = read_capture(small.root)
    assert (capture.layout, len(capture)) == ("nerfstudio", 5)
    check_cameras(capture, lambda index: VIEWS[index], tolerance=0.1)


def test_intrinsics_may_be_each_frame_s_own(small: SmallFolder) -> None:
    expected = read_nerfstudio(small.root).intrinsics
    shared = {key: small.meta.pop(key) for key in ("fl_x", "fl_y", "cx", "cy", "w", "h")}
    for i, frame in enumerate(small.meta["frames"]):
        frame.update(shared, fl_x=FOCAL[0] + i)
    small.write()
    capture = read_nerfstudio(small.root)
    np.testing.assert_allclose(capture.intrinsics[:, 0, 0], FOCAL[0] + np.arange(5))
    np.testing.assert_allclose(capture.intrinsics[:, 1:], expected[:, 1:])


def test_folders_whose_frames_share_instants_are_cameras_of_a_rig(small: SmallFolder) -> None:
    """Of which one wrote its times in single precision."""
    frames = small.meta["frames"]
    for i, frame in enumerate(frames[:4]):
        source, camera, instant = small.root / frame["file_path"], i % 2, i // 2
        frame["file_path"] = f"cam{(1, 10)[camera]}/{instant}.png"
        frame["time"] = float((np.float64, np.float32)[camera]((1 + instant) / 3))
        (small.root / frame["file_path"]).parent.mkdir(exist_ok=True)
        source.rename(small.root / frame["file_path"])
    del frames[4]
    small.write()
    capture = read_nerfstudio(small.root)
    assert capture.camera_ids.tolist() == [0, 1, 0, 1]
    assert capture.time_ids.tolist() == [0, 0, 1, 1]
    assert capture.times.tolist() == [0, 0, 1, 1]
    assert capture.frame_ids == ["cam1/0", "cam10/0", "cam1/1", "cam10/1"]


def test_folders_of_other_instants_are_of_one_camera(small: SmallFolder) -> None:
    (small.root / "more").mkdir()
    small.meta["frames"][4]["file_path"] = "more/frame_00004.png"
    (small.root / "images/frame_00004.png").rename(small.root / "more/frame_00004.png")
    small.write()
    capture = read_nerfstudio(small.root)
    assert capture.time_ids.tolist() == [0, 1, 2, 2, 3]
    assert not capture.camera_ids.any()


def draw(small: SmallFolder, rays: np.ndarray) -> None:
    """The views along rays `(H, W, 2)` of the pixels."""
    for i, view in enumerate(VIEWS):
        directions = rays[..., :1] * view.right + rays[..., 1:] * view.down + view.forward
        hit = view.centre + cast(view.centre, directions)[0][..., None] * directions
        Image.fromarray(colors(hit)).save(small.root / "images" / f"frame_{i:05d}.png")


def test_a_distorted_image_is_undone_to_what_a_pinhole_sees(small: SmallFolder) -> None:
    """Drawn by following each pixel's ray back through OpenCV's lens."""
    lens = {"k1": 0.3, "k2": -0.05, "p1": 0.01, "p2": -0.015}
    matrix = np.array([[FOCAL[0], 0, CENTER[0] - 0.5], [0, FOCAL[1], CENTER[1] - 0.5], [0, 0, 1]])
    u, v = np.meshgrid(np.arange(SIZE[0], dtype=float), np.arange(SIZE[1], dtype=float))
    rays = cv2.undistortPointsIter(
        np.stack((u, v), axis=-1).reshape(-1, 1, 2), matrix, np.array([*lens.values(), 0.0]), np.eye(3), np.eye(3),
        (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 100, 1e-12),
    ).reshape(SIZE[1], SIZE[0], 2)  # fmt: skip
    draw(small, rays)
    small.meta.update(lens)
    small.write()
    capture = read_nerfstudio(small.root)
    np.testing.assert_allclose(capture.distortion, [[0.3, -0.05, 0.01, -0.015, 0.0]] * 5)
    check_cameras(capture, lambda index: VIEWS[index], tolerance=0.65)  # of interpolated colours, rounded twice


def draw_fisheye(small: SmallFolder, focal: float, lens: tuple[float, float, float, float]) -> None:
    """The views through OpenCV's fisheye, drawn by following each pixel's ray, whose angle a grid inverts."""
    u, v = np.meshgrid(np.arange(SIZE[0]) + 0.5 - CENTER[0], np.arange(SIZE[1]) + 0.5 - CENTER[1])
    radius = np.hypot(u, v) / focal
    angles = np.linspace(0, 1.55, 200_000)
    theta = np.interp(radius, angles * (1 + sum(k * angles ** (2 * i + 2) for i, k in enumerate(lens))), angles)
    rays = np.stack((u, v), axis=-1) / focal * (np.tan(theta) / np.maximum(radius, 1e-12))[..., None]
    draw(small, rays)
    small.meta.update(camera_model="OPENCV_FISHEYE", fl_x=focal, fl_y=focal)
    small.meta.update(zip(("k1", "k2", "k3", "k4"), lens, strict=True))
    small.write()


def test_a_fisheye_s_image_is_undone_to_what_a_pinhole_sees(small: SmallFolder) -> None:
    draw_fisheye(small, 60.0, (0.1, -0.03, 0.02, -0.01))
    check_cameras(read_nerfstudio(small.root), lambda index: VIEWS[index], tolerance=0.65)


@pytest.mark.parametrize("of", ["the file", "frames"])
def test_the_flag_of_instant_ngp_makes_a_lens_a_fisheye(small: SmallFolder, of: str) -> None:
    """Its program for COLMAP writes a lens once, or with several cameras into each frame, and no `camera_model`."""
    draw_fisheye(small, 60.0, (0.1, -0.03, 0.0, 0.0))
    lens = {key: small.meta.pop(key) for key in ("fl_x", "fl_y", "cx", "cy", "w", "h", "k1", "k2", "k3", "k4")}
    del small.meta["camera_model"]
    for entry in [small.meta] if of == "the file" else small.meta["frames"]:
        entry.update(lens, p1=0, p2=0, is_fisheye=True)
    small.write()
    check_cameras(read_nerfstudio(small.root), lambda index: VIEWS[index], tolerance=0.65)


def test_of_a_fisheye_a_pinhole_sees_60_degrees_to_each_side_at_most(small: SmallFolder) -> None:
    """Whose image is 2 * 1.4 radians wide, and wider in its corners."""
    small.meta.update(camera_model="OPENCV_FISHEYE", fl_x=20.0, fl_y=20.0, cx=SIZE[0] / 2, cy=SIZE[1] / 2)
    small.write()
    pinhole = as_pinhole(read_nerfstudio(small.root)).intrinsics[0]
    np.testing.assert_allclose(np.degrees(np.arctan(SIZE[0] / 2 / pinhole[0, 0])), 60)
    np.testing.assert_allclose(np.arctan(SIZE[1] / 2 / pinhole[1, 1]), min(SIZE[1] / 2 / 20, np.radians(60)), rtol=1e-6)


def test_a_fisheye_whose_model_turns_back_on_itself_is_refused(small: SmallFolder) -> None:
    small.meta.update(camera_model="OPENCV_FISHEYE", k1=-3.0)
    small.write()
    with pytest.raises(CaptureError, match=r"frame_00000\.png is out of range: its distortion cannot be undone"):
        as_pinhole(read_nerfstudio(small.root))


@pytest.mark.parametrize("suffix", [".png", ".npy"])
def test_depth_is_in_thousandths_of_the_world_s_unit(small: SmallFolder, suffix: str) -> None:
    """As nerfstudio reads it, of images and arrays alike."""
    (small.root / "depth").mkdir()
    truth = []
    for i, (view, frame) in enumerate(zip(VIEWS, small.meta["frames"], strict=True)):
        depth = cast(view.centre, pixel_rays(view, FOCAL, CENTER, SIZE))[0]
        levels = np.rint(1000 * np.where(np.isfinite(depth), depth, 0)).astype(np.uint16)
        truth.append(levels / 1000)
        path = small.root / "depth" / f"{i}{suffix}"
        Image.fromarray(levels).save(path) if suffix == ".png" else np.save(path, levels.astype(np.float32))
        frame["depth_file_path"] = f"depth/{path.name}"
    small.write()
    frames = as_pinhole(read_nerfstudio(small.root))
    for i in range(5):
        np.testing.assert_allclose(frames.load_depth(i), truth[i], rtol=1e-6)


@pytest.mark.parametrize("applied", [True, False])
def test_points_are_in_the_world_of_the_cameras_whatever_was_applied_to_both(small: SmallFolder, applied: bool) -> None:
    if not applied:
        del small.meta["applied_transform"]
        small.write()
    capture = read_nerfstudio(small.root)
    assert capture.points is not None
    assert surface_distance(capture.points.astype(float)).max() < 1e-5
    np.testing.assert_array_equal(capture.point_colors, colors(small.points))


def test_times_are_the_file_s(small: SmallFolder) -> None:
    capture = read_nerfstudio(small.root)
    np.testing.assert_allclose(capture.times, [0.0, 0.1, 0.5, 0.5, 1.0])
    assert capture.time_ids.tolist() == [0, 1, 2, 2, 3]


def test_splits_are_those_that_the_file_names(small: SmallFolder) -> None:
    names = [frame["file_path"] for frame in small.meta["frames"]]
    small.meta.update(train_filenames=[names[3], names[0], "./" + names[1]], val_filenames=[names[4]])
    small.write()
    capture = read_nerfstudio(small.root)
    assert {split: frames.tolist() for split, frames in capture.splits.items()} == {"train": [0, 1, 3], "val": [4]}
    assert capture.evaluation_split == "val"
    small.meta["test_filenames"] = []
    small.write()
    assert read_nerfstudio(small.root).evaluation_split == "val"
    small.meta["test_filenames"] = [names[2]]
    small.write()
    assert read_nerfstudio(small.root).evaluation_split == "test"


def test_without_them_there_are_none(small: SmallFolder) -> None:
    assert read_nerfstudio(small.root).splits == {}


# --------------------------------------------------------------------------------------------------------------------
# What is refused: each in one sentence that names the file


def set_meta(**values: Any) -> Callable[[SmallFolder], None]:
    def damage(small: SmallFolder) -> None:
        small.meta.update(values)
        small.write()

    return damage


def set_frame(**values: Any) -> Callable[[SmallFolder], None]:
    def damage(small: SmallFolder) -> None:
        small.meta["frames"][1].update(values)
        small.write()

    return damage


NAN = float("nan")
DAMAGE: dict[str, tuple[Callable[[SmallFolder], Any], str]] = {
    "no image": (gone("images/frame_00001.png"), r"frame_00001\.png is missing"),
    "an image cut short": (cut("images/frame_00001.png", -99), r"frame_00001\.png cannot be read as an image"),
    "no points": (gone("sparse_pc.ply"), r"sparse_pc\.ply is missing"),
    "NaN among the points": (lambda s: s.write_points(np.full((3, 3), NAN)), r"sparse_pc\.ply .*not finite"),
    "NaN in a matrix": (
        set_frame(transform_matrix=[[NAN] * 4] * 4),
        r"transforms\.json .*1\.transform_matrix\.0\.0: .* finite",
    ),
    "a matrix of 2 rows": (
        set_frame(transform_matrix=np.eye(4)[:2].tolist()),
        r"transforms\.json .*1\.transform_matrix: .* not 2",
    ),
    "a focal length of NaN": (set_meta(fl_x=NAN), r"transforms\.json .* at fl_x: it should be a finite number"),
    "a focal length in a list": (
        set_meta(fl_x=[50.0, 50.0]),
        r"transforms\.json .* at fl_x: it should be a valid number",
    ),
    "a wrong size": (set_meta(w=560), r"frame_00000\.png is 56 x 42, but .*transforms\.json says 560 x 42"),
    "a panorama": (set_meta(camera_model="EQUIRECTANGULAR"), r"transforms\.json .*EQUIRECTANGULAR"),
    "a fisheye's term": (set_meta(k4=0.1), r"frame_00000\.png .* has a fourth radial term"),
    "a fisheye that is none": (set_meta(is_fisheye=True), r"camera_model OPENCV, and its is_fisheye says true"),
    "a pinhole that is none": (
        set_meta(camera_model="OPENCV_FISHEYE", is_fisheye=False),
        r"camera_model OPENCV_FISHEYE, and its is_fisheye says false",
    ),
    "no depth": (set_frame(depth_file_path="depth/1.png"), r"depth_file_path .*frame_00001.png .* 'depth/1\.png'"),
    "a time of NaN": (set_frame(time=NAN), r"transforms\.json .* at frames\.1\.time: it should be a finite number"),
    "a time left out": (
        lambda s: (s.meta["frames"][1].pop("time"), s.write()),
        r"transforms\.json gives the time of 4 of its 5 frames",
    ),
    "JSON cut short": (lambda s: (s.root / "transforms.json").write_text("{"), r"transforms\.json cannot be read"),
    "a split of other files": (
        set_meta(train_filenames=["images/0.png"]),
        r"transforms\.json lists images/0\.png in train_filenames",
    ),
    "a split that is no list": (
        set_meta(train_filenames="images"),
        r"transforms\.json .* at train_filenames: it should be",
    ),
    "nothing to train on": (set_meta(val_filenames=["images/frame_00001.png"]), r"none in train_filenames"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_folder_is_refused_with_one_sentence_that_names_the_file(small: SmallFolder, name: str) -> None:
    check_refused(small, *DAMAGE[name], read_capture, "nerfstudio")


def test_damaged_files_end_in_a_capture_or_a_sentence(small: SmallFolder) -> None:
    files = (
        [small.root / "transforms.json"] * 3 + sorted(small.root.glob("*.ply")) + sorted(small.root.rglob("*.png"))[:1]
    )
    check_reader(lambda: load_frame(read_nerfstudio(small.root)), files, rounds=120)
