"""Kubric scenes: what is read, and what is refused."""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from ball_on_plane import cast, check_geometry, colors, views
from fuzzing import check_reader
from loading import load_frame
from PIL import Image
from scipy.spatial.transform import Rotation

from page4d_hf.captures import as_pinhole
from page4d_hf.captures.layouts.kubric import kubric_sequences, read_kubric
from page4d_hf.errors import CaptureError, Page4DError

SIZE = (64, 48)
FOCAL, SENSOR = 35.0, 32.0  # mm
STILL, TURN = [1.0, 0.0, 0.0, 0.0], [0.9689124, 0.2474040, 0.0, 0.0]


def rays(view: Any) -> np.ndarray:
    """Unit directions of Blender's pixels: the sensor is as wide as the image, y is up, the camera looks along -z."""
    j, i = np.meshgrid(np.arange(SIZE[0]), np.arange(SIZE[1]))
    x = ((j + 0.5) / SIZE[0] - 0.5) * SENSOR / FOCAL
    y = -((i + 0.5) / SIZE[1] - 0.5) * SENSOR / FOCAL * SIZE[1] / SIZE[0]
    directions = x[..., None] * view.right - y[..., None] * view.down + view.forward
    return directions / np.linalg.norm(directions, axis=-1, keepdims=True)


class Scene:
    """A scene of four frames. Instance 1 is the ball; 2 to 5 are seen in the image's corners."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "0001"
        self.folder.mkdir(parents=True)
        all_views = views(4)
        poses = [np.stack((view.right, -view.down, -view.forward), axis=1) for view in all_views]  # columns: GL axes
        quaternions = [Rotation.from_matrix(pose).as_quat() for pose in poses]
        self.metadata: dict[str, Any] = {
            "metadata": {"resolution": list(SIZE), "frame_rate": 12, "num_frames": 4, "num_instances": 5},
            "camera": {
                "focal_length": FOCAL,
                "sensor_width": SENSOR,
                "field_of_view": 2 * np.arctan(SENSOR / 2 / FOCAL),
                "positions": [view.centre.tolist() for view in all_views],
                "quaternions": [[float(q[i]) for i in (3, 0, 1, 2)] for q in quaternions],
            },
            "instances": [
                {"positions": [[0, 0, i] for i in range(4)], "quaternions": [STILL] * 4, "is_dynamic": False},
                {"positions": [[1, 2, 3]] * 4, "quaternions": [STILL] * 4, "is_dynamic": False},
                {"positions": [[1, 2, 3]] * 4, "quaternions": [STILL] * 4, "is_dynamic": True},
                {"positions": [[1, 2, 3]] * 4, "quaternions": [STILL, STILL, STILL, TURN]},
                {"positions": [[1, 2, 3 + 1e-4 * i] for i in range(4)], "quaternions": [STILL] * 4},
            ],
        }
        self.save()
        for i, view in enumerate(all_views):
            directions = rays(view)
            distance, on_ball = cast(view.centre, directions)
            image = colors(view.centre + distance[..., None] * directions)
            opaque = np.concatenate((image, np.full((*image.shape[:2], 1), 255, np.uint8)), axis=-1)
            Image.fromarray(opaque).save(self.folder / f"rgba_{i:05d}.png")
            tifffile.imwrite(self.folder / f"depth_{i:05d}.tiff", distance[..., None].astype(np.float32))
            indices = on_ball.astype(np.uint8)
            for instance, (row, column) in enumerate([(0, 0), (0, -1), (-1, 0), (-1, -1)], start=2):
                indices[row, column] = instance
            segmentation = Image.fromarray(indices, "P")
            # Colours say nothing: the palette is such that index 1 is black.
            segmentation.putpalette([200, 10, 10, 0, 0, 0, 1, 2, 3, 0, 0, 0, 9, 9, 9, 80, 0, 0])
            segmentation.save(self.folder / f"segmentation_{i:05d}.png")
            self.on_ball = on_ball

    def save(self) -> None:
        (self.folder / "metadata.json").write_text(json.dumps(self.metadata))


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_points_of_all_frames_lie_on_the_scenes_surfaces(scene: Scene, tmp_path: Path) -> None:
    capture = read_kubric(tmp_path, "0001")
    assert len(capture) == 4
    check_geometry(capture, tolerance=1e-5, color_tolerance=0.6)
    assert capture.scale == "arbitrary"
    assert not capture.skipped


def test_pixels_are_square_and_the_principal_point_is_the_middle(scene: Scene, tmp_path: Path) -> None:
    intrinsics = read_kubric(tmp_path, "0001").intrinsics[0]
    np.testing.assert_allclose(intrinsics, [[70, 0, 32], [0, 70, 24], [0, 0, 1]])


def test_what_is_dynamic_or_changes_its_pose_moves(scene: Scene, tmp_path: Path) -> None:
    mask = as_pinhole(read_kubric(tmp_path, "0001")).load_mask(3)
    expected = scene.on_ball.copy()
    expected[[0, 0, -1, -1], [0, -1, 0, -1]] = [False, True, True, False]  # resting, dynamic, turning, trembling
    np.testing.assert_array_equal(mask, expected)


def test_frames_have_the_times_of_the_frame_rate(scene: Scene, tmp_path: Path) -> None:
    capture = read_kubric(tmp_path, "0001")
    assert capture.fps == 12
    np.testing.assert_allclose(capture.timestamps, np.arange(4) / 12)
    assert capture.frame_ids == ["00000", "00001", "00002", "00003"]


def test_a_capture_goes_to_another_process(scene: Scene, tmp_path: Path) -> None:
    frames = as_pinhole(read_kubric(tmp_path, "0001"))
    there = pickle.loads(pickle.dumps(frames))
    np.testing.assert_array_equal(there.load_depth(1), frames.load_depth(1))
    np.testing.assert_array_equal(there.load_mask(1), frames.load_mask(1))


def test_depth_of_half_the_size_is_still_radial(scene: Scene, tmp_path: Path) -> None:
    path = scene.folder / "depth_00001.tiff"
    whole = as_pinhole(read_kubric(tmp_path, "0001")).load_depth(1)
    # Distances at the centres of 2 x 2 pixels, of a wall at z = 2.
    u, v = np.meshgrid(np.arange(1, 64, 2), np.arange(1, 48, 2))
    distance = 2 * np.sqrt(((u - 32) / 70) ** 2 + ((v - 24) / 70) ** 2 + 1)
    tifffile.imwrite(path, distance.astype(np.float32))
    depth = as_pinhole(read_kubric(tmp_path, "0001")).load_depth(1)
    assert depth.shape == whole.shape
    np.testing.assert_allclose(depth, 2, rtol=1e-6)


def test_where_a_ray_hits_nothing_there_is_no_depth(scene: Scene, tmp_path: Path) -> None:
    distance = np.full((48, 64), 3.0, np.float32)
    distance[0, :3] = [1e10, np.inf, np.nan]
    tifffile.imwrite(scene.folder / "depth_00001.tiff", distance)
    depth = as_pinhole(read_kubric(tmp_path, "0001")).load_depth(1)
    assert depth[0, :3].tolist() == [0, 0, 0]
    assert (depth[1:] > 0).all()


def test_scenes_are_found_by_name(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    assert kubric_sequences(tmp_path) == ["0001"]


def test_a_scene_without_depth_is_read_with_a_note(scene: Scene, tmp_path: Path) -> None:
    for path in scene.folder.glob("depth_*.tiff"):
        path.unlink()
    capture = read_kubric(tmp_path, "0001")
    assert capture.depth_paths is None
    assert any("has no depth" in note for note in capture.notes)


# --------------------------------------------------------------------------------------------------------------------
# Frames that are left out


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda scene: (scene.folder / "rgba_00002.png").unlink(), "rgba_00002.png was left out: the image is missing"),
        (
            lambda scene: (scene.folder / "depth_00002.tiff").unlink(),
            r"rgba_00002.png was left out: its depth .*depth_00002.tiff is missing",
        ),
        (
            lambda scene: scene.metadata["camera"]["positions"].__setitem__(2, [np.nan, 0, 0]),
            r"rgba_00002\.png was left out: the position of its camera .* at 0: it should be a finite number, got nan",
        ),
        (
            lambda scene: scene.metadata["camera"]["quaternions"].__setitem__(2, [0, 0, 0, 0]),
            "rgba_00002.png was left out: the quaternion of its camera",
        ),
    ],
)
def test_a_frame_that_cannot_be_used_is_named_and_left_out(
    scene: Scene, tmp_path: Path, damage: Callable[[Scene], Any], named: str
) -> None:
    damage(scene)
    scene.save()
    capture = read_kubric(tmp_path, "0001")
    assert capture.frame_ids == ["00000", "00001", "00003"]
    assert len(capture.skipped) == 1
    with pytest.raises(AssertionError, match=named):
        raise AssertionError(capture.skipped[0])
    np.testing.assert_allclose(capture.timestamps, np.array([0, 1, 3]) / 12)


def test_an_image_without_a_camera_is_named(scene: Scene, tmp_path: Path) -> None:
    for key in ("positions", "quaternions"):
        scene.metadata["camera"][key].pop()
    scene.save()
    capture = read_kubric(tmp_path, "0001")
    assert len(capture) == 3
    assert "rgba_00003.png was left out" in capture.skipped[0]


# --------------------------------------------------------------------------------------------------------------------
# What is refused


def test_a_scene_without_metadata_is_refused(scene: Scene, tmp_path: Path) -> None:
    (scene.folder / "metadata.json").unlink()
    with pytest.raises(CaptureError, match=r"metadata\.json is missing"):
        read_kubric(tmp_path, "0001")


def test_metadata_that_are_cut_short_are_refused(scene: Scene, tmp_path: Path) -> None:
    path = scene.folder / "metadata.json"
    path.write_text(path.read_text()[:200])
    with pytest.raises(CaptureError, match=r"metadata\.json cannot be read as JSON"):
        read_kubric(tmp_path, "0001")


@pytest.mark.parametrize("key", ["focal_length", "sensor_width", "positions", "quaternions"])
def test_metadata_without_a_part_of_the_camera_are_refused(scene: Scene, tmp_path: Path, key: str) -> None:
    del scene.metadata["camera"][key]
    scene.save()
    with pytest.raises(CaptureError, match=rf"metadata\.json lacks camera\.{key}"):
        read_kubric(tmp_path, "0001")


def test_a_scene_without_any_usable_frame_is_refused(scene: Scene, tmp_path: Path) -> None:
    scene.metadata["camera"]["positions"] = [[np.nan] * 3] * 4
    scene.save()
    with pytest.raises(CaptureError, match=r"0001 has no frame that can be used .*the first of 4: .*rgba_00000"):
        read_kubric(tmp_path, "0001")


def test_depth_that_is_cut_short_is_named_when_it_is_loaded(scene: Scene, tmp_path: Path) -> None:
    path = scene.folder / "depth_00001.tiff"
    path.write_bytes(path.read_bytes()[:100])
    frames = as_pinhole(read_kubric(tmp_path, "0001"))
    with pytest.raises(CaptureError, match=r"depth_00001\.tiff"):
        frames.load_depth(1)


def test_depth_in_colour_is_refused(scene: Scene, tmp_path: Path) -> None:
    tifffile.imwrite(scene.folder / "depth_00001.tiff", np.zeros((48, 64, 3), np.uint8), photometric="rgb")
    frames = as_pinhole(read_kubric(tmp_path, "0001"))
    with pytest.raises(CaptureError, match=r"depth_00001\.tiff must hold float depth of the shape"):
        frames.load_depth(1)


def test_a_segmentation_in_colour_is_refused(scene: Scene, tmp_path: Path) -> None:
    Image.new("RGB", SIZE).save(scene.folder / "segmentation_00001.png")
    frames = as_pinhole(read_kubric(tmp_path, "0001"))
    with pytest.raises(CaptureError, match=r"segmentation_00001\.png must be a palette image"):
        frames.load_mask(1)


def test_without_tifffile_one_is_told_what_to_install(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(Page4DError, match=r"needs the package tifffile, .* pip install 'page4d\[training\]'"):
        read_kubric(tmp_path, "0001")


def test_damaged_files_end_in_a_capture_or_a_sentence(scene: Scene, tmp_path: Path) -> None:
    names = ("metadata.json", "metadata.json", "depth_00000.tiff", "rgba_00000.png", "segmentation_00000.png")
    check_reader(lambda: load_frame(read_kubric(tmp_path, "0001")), [scene.folder / name for name in names], rounds=120)


def test_depth_that_claims_to_be_huge_is_refused_before_memory_is_taken(scene: Scene, tmp_path: Path) -> None:
    path = scene.folder / "depth_00001.tiff"
    with tifffile.TiffWriter(path) as file:
        file.write(np.zeros((4, 4), np.float32), tile=(16, 16), compression="zlib")
    with tifffile.TiffFile(path, mode="r+b") as file:
        for tag in ("ImageWidth", "ImageLength"):
            file.pages.first.tags[tag].overwrite(60_000)
    with pytest.raises(CaptureError, match=r"depth_00001\.tiff claims to be an image of 60000x60000 pixels"):
        as_pinhole(read_kubric(tmp_path, "0001")).load_depth(1)


def test_depth_that_unpacks_to_more_than_it_claims_is_refused(scene: Scene, tmp_path: Path) -> None:
    path = scene.folder / "depth_00001.tiff"
    tifffile.imwrite(path, np.zeros((2000, 2000), np.float32), compression="zlib", rowsperstrip=2000)
    with tifffile.TiffFile(path, mode="r+b") as file:
        for tag in ("ImageWidth", "ImageLength", "RowsPerStrip"):
            file.pages.first.tags[tag].overwrite(8)
    with pytest.raises(CaptureError, match=r"depth_00001\.tiff has more bytes packed than unpacked"):
        as_pinhole(read_kubric(tmp_path, "0001")).load_depth(1)
