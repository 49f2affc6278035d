"""COLMAP folders: what is read, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
import pytest
from ball_on_plane import cast, check_cameras, colors, pixel_rays, render, surface_distance, views, world_to_camera
from damaging import check_refused, gone, holds
from PIL import Image
from small_captures import write_capture

from page4d_hf.captures import Capture, read_capture
from page4d_hf.captures.layouts.nerfies import read_nerfies
from page4d_hf.geometry import Similarity

SIZE, FOCAL, CENTRE = (56, 42), (50.0, 52.0), (27.0, 22.0)
VIEWS = views(11)
PLAIN = pycolmap.Camera(model="SIMPLE_PINHOLE", width=40, height=30, params=[44, 20, 15], camera_id=1)


def names_of(capture: Capture) -> list[str]:
    return [f"{frame_id}.png" for frame_id in capture.frame_ids]


def write_model(
    folder: Path, camera: pycolmap.Camera, names: list[str], poses: Sequence[np.ndarray], points: np.ndarray
) -> None:
    """A sparse model of images of one camera, with the colours of the surfaces at its points."""
    model = pycolmap.Reconstruction()
    model.add_camera_with_trivial_rig(camera)
    for number, (name, pose) in enumerate(zip(names, poses, strict=True), start=1):
        image = pycolmap.Image(name=name, keypoints=np.zeros((0, 2)), camera_id=1, image_id=number)
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(pose))
    for point, color in zip(points, colors(points), strict=True):
        model.add_point3D(point, pycolmap.Track(), color)
    folder.mkdir(parents=True, exist_ok=True)
    model.write_binary(str(folder))


class SmallColmap:
    """11 frames, listed in an order that is none, and points on the surfaces."""

    def __init__(self, root: Path, names: list[str] | None = None) -> None:
        self.root = root
        self.names = names or [f"{i}.png" for i in range(len(VIEWS))]
        for name, view in zip(self.names, VIEWS, strict=True):
            (root / "images" / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(render(view, FOCAL, CENTRE, SIZE)).save(root / "images" / name)
        directions = pixel_rays(VIEWS[2], FOCAL, CENTRE, SIZE)[::6, ::6].reshape(-1, 3)
        self.points = VIEWS[2].centre + cast(VIEWS[2].centre, directions)[0][:, None] * directions
        self.write()

    def write(self, model: str = "PINHOLE", extra: tuple[float, ...] = (), to: str = "sparse/0") -> None:
        params = [*FOCAL, *CENTRE, *extra]
        camera = pycolmap.Camera(model=model, width=SIZE[0], height=SIZE[1], params=params, camera_id=1)
        order = np.random.default_rng(0).permutation(len(VIEWS))
        poses = [world_to_camera(VIEWS[i])[:3] for i in order]
        write_model(self.root / to, camera, [self.names[i] for i in order], poses, self.points)


@pytest.fixture
def small(tmp_path: Path) -> SmallColmap:
    return SmallColmap(tmp_path / "clip")


def test_rays_through_the_pixels_hit_what_the_pixels_show_in_the_order_of_names(small: SmallColmap) -> None:
    capture = read_capture(small.root)
    assert (capture.layout, capture.frame_ids) == ("colmap", [str(i) for i in range(11)])
    np.testing.assert_allclose(capture.times, np.arange(11) / 10)
    check_cameras(capture, lambda index: VIEWS[index], tolerance=0.1)


def test_points_and_their_colours_are_the_model_s(small: SmallColmap) -> None:
    capture = read_capture(small.root)
    assert capture.points is not None
    assert capture.point_colors is not None
    assert surface_distance(capture.points.astype(float)).max() < 1e-5
    order = np.lexsort(capture.points.T), np.lexsort(small.points.T)
    np.testing.assert_array_equal(capture.points[order[0]], small.points[order[1]])  # to the last bit
    np.testing.assert_array_equal(capture.point_colors[order[0]], colors(small.points)[order[1]])


@pytest.mark.parametrize(
    ("model", "extra", "distortion", "fisheye"),
    [
        ("OPENCV", (0.1, -0.02, 0.01, 0.02), (0.1, -0.02, 0.01, 0.02, 0, 0, 0, 0), False),
        ("FULL_OPENCV", (1, 2, 3, 4, 5, 6, 7, 8), (1, 2, 3, 4, 5, 6, 7, 8), False),
        ("OPENCV_FISHEYE", (0.1, 0.2, 0.3, 0.4), (0.1, 0.2, 0.3, 0.4, 0, 0, 0, 0), True),
    ],
)
def test_lenses_are_those_of_the_model_s_cameras(
    small: SmallColmap, model: str, extra: tuple[float, ...], distortion: tuple[float, ...], fisheye: bool
) -> None:
    small.write(model, extra)
    capture = read_capture(small.root)
    np.testing.assert_array_equal(capture.distortion[0], distortion)
    assert capture.fisheye is not None
    assert capture.fisheye.tolist() == [fisheye] * 11
    np.testing.assert_array_equal(
        capture.intrinsics[0], [[FOCAL[0], 0, CENTRE[0]], [0, FOCAL[1], CENTRE[1]], [0, 0, 1]]
    )


def test_smaller_images_are_taken_where_they_are_asked_for(small: SmallColmap) -> None:
    (small.root / "images_2").mkdir()
    for path in (small.root / "images").iterdir():
        Image.open(path).resize((28, 21)).save(small.root / "images_2" / path.name)
    capture = read_capture(small.root, downscale=3)
    assert capture.image_downscale == 2
    np.testing.assert_allclose(capture.intrinsics[0], [[25, 0, 13.5], [0, 26, 11], [0, 0, 1]])
    assert read_capture(small.root).image_downscale == 1


def test_frames_of_the_same_name_in_several_folders_are_of_one_instant(tmp_path: Path) -> None:
    names = [f"{camera}/{i}.png" for camera in ("left", "right") for i in range(5)] + ["left/10.png"]
    capture = read_capture(SmallColmap(tmp_path / "rig", names).root)
    seen = list(zip(capture.frame_ids, capture.time_ids.tolist(), capture.camera_ids.tolist(), strict=True))
    assert seen[:4] == [("left/0", 0, 0), ("right/0", 0, 1), ("left/1", 1, 0), ("right/1", 1, 1)]
    assert seen[-1] == ("left/10", 5, 0)


def test_points_of_a_model_beside_a_nerfies_capture_are_brought_into_its_world(tmp_path: Path) -> None:
    """The model's world is another one: the same cameras and points, turned, moved and scaled."""
    root = write_capture(tmp_path / "capture", points=0)
    capture = read_nerfies(root)
    assert capture.points is None
    angle = 0.4
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    to_model = Similarity(3.0, turn, np.array([1.0, -2.0, 0.5]))
    truth = np.random.default_rng(0).normal(size=(20, 3))
    poses = to_model.apply_to_extrinsics(capture.extrinsics)
    write_model(root / "colmap/sparse/0", PLAIN, names_of(capture), list(poses), to_model.apply_to_points(truth))

    points = read_nerfies(root).points
    assert points is not None
    np.testing.assert_allclose(points[np.lexsort(points.T)], truth[np.lexsort(truth.T)], atol=1e-5)


def test_a_model_beside_a_capture_of_other_cameras_is_passed_over_and_said(tmp_path: Path) -> None:
    root = write_capture(tmp_path / "capture", points=0)
    capture = read_nerfies(root)
    poses = capture.extrinsics.copy()
    poses[3, :, 3] += 1
    write_model(root / "sparse", PLAIN, names_of(capture), list(poses), np.zeros((20, 3)))
    capture = read_nerfies(root)
    assert capture.points is None
    assert "cameras are off the capture's" in capture.notes[-1]


DAMAGE: dict[str, tuple[Callable[[SmallColmap], Any], str]] = {
    "an image is gone": (gone("images/3.png"), r"images/3\.png is missing, which the COLMAP model"),
    "an image is broken": (holds("images/3.png", b"no image"), r"3\.png cannot be read as an image"),
    "the model is empty": (
        lambda s: [path.write_bytes(b"") for path in (s.root / "sparse/0").iterdir()],
        r"sparse/0 has no registered image",
    ),
    "the model is broken": (holds("sparse/0/images.bin", b"\1" * 40), r"sparse/0 cannot be read as a COLMAP model"),
    "a lens of another kind": (
        lambda s: s.write("THIN_PRISM_FISHEYE", (0.0,) * 8),
        r"cameras of the model THIN_PRISM_FISHEYE",
    ),
    "images of another size": (
        lambda s: Image.new("RGB", (30, 30)).save(s.root / "images/3.png"),
        r"3\.png is 30x30 but its camera in the COLMAP model .* says 56x42",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_folder_is_refused_with_one_sentence(small: SmallColmap, name: str) -> None:
    check_refused(small, *DAMAGE[name], read_capture, "colmap")
