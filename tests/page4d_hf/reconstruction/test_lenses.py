"""Lens distortion: undone where it is known, found where it is asked for; against rendered truth bent by a lens."""

from __future__ import annotations

import functools
import json

import cv2
import numpy as np
import pytest
from camera_files import write_colmap, write_trajectory, write_transforms
from image_folders import write_images
from moving_room import RoomClip, moving_room
from PIL import Image
from small_networks import small_network
from small_scene import ball_folder

from page4d_hf.captures.pinhole import distort, undistort
from page4d_hf.cli import main
from page4d_hf.errors import Page4DError
from page4d_hf.frames import read_frames
from page4d_hf.reconstruction.cameras.known_cameras import (
    KnownCameras,
    known_cameras,
    read_cameras,
    read_intrinsics,
)
from page4d_hf.reconstruction.cameras.refinement import refine
from page4d_hf.reconstruction.lenses import Lenses, UndistortedFrames
from page4d_hf.reconstruction.mask_folders import MaskFolder
from page4d_hf.reconstruction.reconstruct import reconstruct
from page4d_hf.reconstruction.windows import predict_in_windows
from page4d_hf.scene import read_scene
from page4d_hf.scene.tracks import PointTracks

K1 = -0.25
SIZE = HEIGHT, WIDTH = 192, 256
WIDE, LONG = 200.0, 255.0  # pixels: focal lengths of a pinhole and of a lens, whose images are part of the pinhole's
CENTER = np.array([WIDTH / 2, HEIGHT / 2])
MATRIX = np.array([[LONG, 0, WIDTH / 2], [0, LONG, HEIGHT / 2], [0, 0, 1]])


def room() -> RoomClip:
    return moving_room(size=SIZE, focal=WIDE, supersampling=1)


PINHOLE = {"fl_x": LONG, "fl_y": LONG, "cx": WIDTH / 2, "cy": HEIGHT / 2, "w": WIDTH, "h": HEIGHT}


@functools.cache
def bent_room(k1: float = K1) -> tuple[np.ndarray, np.ndarray]:
    """Images and depth of the room as seen through a lens."""
    pixels = np.stack(np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5), axis=-1)
    rays = undistort(((pixels - CENTER) / LONG).reshape(-1, 2), np.array([k1, 0, 0, 0]))
    x, y = np.moveaxis((WIDE * rays + CENTER - 0.5).reshape(*SIZE, 2).astype(np.float32), -1, 0)
    assert min(x.min(), y.min(), WIDTH - 1 - x.max(), HEIGHT - 1 - y.max()) > 0
    images = np.stack([cv2.remap(image, x, y, cv2.INTER_CUBIC) for image in room().images])
    return images, np.stack([cv2.remap(depth, x, y, cv2.INTER_NEAREST) for depth in room().depth])


def intrinsics(count: int = 12) -> np.ndarray:
    return np.tile(MATRIX, (count, 1, 1))


def network(k1: float) -> tuple[np.ndarray, list[np.ndarray]]:
    """Cameras and depth as a network might give them."""
    extrinsics = room().extrinsics.copy()
    extrinsics[1:, :, 3] += np.random.default_rng(0).normal(size=(len(extrinsics) - 1, 3)) * 0.06
    return extrinsics, list(bent_room(k1)[1])


def lenses(k1: float = K1) -> Lenses:
    return Lenses.radial(intrinsics(), k1, [SIZE] * 12)


def through_pinhole(image: np.ndarray, pinhole: np.ndarray) -> np.ndarray:
    """An image of the room as a camera of other intrinsics sees it."""
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])  # OpenCV's first pixel is at 0
    change = np.linalg.inv(half) @ pinhole @ np.linalg.inv(room().intrinsics[0]) @ half
    return cv2.warpAffine(image, change[:2], (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC)


@pytest.fixture
def folder(tmp_path):
    """The bent frames as images."""
    write_images(tmp_path / "images", bent_room()[0], "view{}.png")
    return tmp_path


def test_undistorted_frames_are_what_a_pinhole_camera_sees(folder):
    frames, lens = read_frames(folder / "images"), lenses()
    undone = UndistortedFrames.of(frames, lens)
    assert undone.names == frames.names
    assert undone.sizes == frames.sizes
    expected = through_pinhole(room().images[3], lens.pinholes[3]).astype(int)
    inner = slice(4, -4), slice(4, -4)
    off = np.abs(undone.images[3].astype(int) - expected)[inner].mean()
    assert off < 2.5
    assert off < 0.3 * np.abs(frames.images[3].astype(int) - expected)[inner].mean()


def test_masks_and_tracks_are_undistorted_as_images_are(tmp_path):
    """Squares that are white in images and masks, and tracks of their centres."""
    images = np.zeros((3, *SIZE, 3), np.uint8)
    centers = np.array([[40, 32], [128, 96], [220, 160]])
    for frame, (x, y) in enumerate(centers):
        images[frame, y - 8 : y + 8, x - 8 : x + 8] = 255
    write_images(tmp_path / "images", images)
    lens = Lenses.radial(intrinsics(3), K1, [SIZE] * 3)
    frames = UndistortedFrames.of(read_frames(tmp_path / "images"), lens)
    masks = MaskFolder(tmp_path / "images", frames)
    xy = np.repeat(centers[None].astype(np.float32), 2, axis=0)
    xy[1] = 0.5  # the images' corner, which undistorted images do not show
    tracks = lens.tracks(PointTracks(xy, np.ones((2, 3), bool), np.full((2, 3), np.nan, np.float32)))
    assert not tracks.visible[1].any()
    for frame in range(3):
        white = frames.images[frame][..., 0] > 127
        assert (masks[frame] == white).mean() > 0.99
        rows, columns = np.nonzero(white)
        middle = np.array([columns.mean(), rows.mean()]) + 0.5
        np.testing.assert_allclose(tracks.xy[0, frame], middle, atol=0.5)
        assert frame == 1 or np.abs(middle - centers[frame]).max() > 1


def test_tracks_of_another_number_of_frames_are_refused_before_they_are_undistorted(folder):
    cameras = write_transforms(folder, k1=K1, **PINHOLE)
    np.savez(folder / "tracks.npz", tracks=np.full((3, 5, 2), 50, np.float32), visible=np.ones((3, 5), bool))
    with pytest.raises(Page4DError, match=r"Expected tracks through the clip's 12 frames, got 5"):
        reconstruct(folder / "images", small_network(), cameras=cameras, tracks=folder / "tracks.npz", resolution=56)


@pytest.mark.slow
def test_given_tracks_are_undistorted_with_the_frames(folder, monkeypatch):
    class EnoughError(Exception):
        pass

    def refined(*args, given, **kwargs):
        lens = Lenses.radial(intrinsics(2), K1, [SIZE] * 2)
        expected = lens.tracks(PointTracks(bent, visible, np.full((8, 3), np.nan, np.float32)))
        np.testing.assert_allclose(given.xy, expected.xy, atol=1e-3)
        assert np.abs(given.xy - bent).max() > 1
        raise EnoughError

    bent = np.random.default_rng(0).uniform((9, 9), (WIDTH - 9, HEIGHT - 9), (8, 2, 2)).astype(np.float32)
    visible = np.ones((8, 2), bool)
    np.savez(folder / "tracks.npz", tracks=bent, visible=visible)
    monkeypatch.setattr("page4d_hf.reconstruction.cameras.refinement.refine", refined)
    images = [folder / "images" / f"view{i}.png" for i in range(2)]
    given = {"cameras": write_transforms(folder, k1=K1, **PINHOLE), "tracks": folder / "tracks.npz"}
    with pytest.raises(EnoughError):
        reconstruct(images, small_network(), resolution=28, motion="off", **given)


@pytest.fixture
def undistorted_scene(folder):
    """A scene of the bent frames, which were undistorted, with known cameras."""
    frames, lens = read_frames(folder / "images"), lenses()
    cameras = {"extrinsics": room().extrinsics, "intrinsics": lens.pinholes, "tracks": None}
    undone = UndistortedFrames.of(frames, lens)
    return ball_folder(folder / "scene", len(frames), **cameras, frames=undone, info={"lens": lens.as_info()})


def test_cameras_of_an_undistorted_scene_have_its_lens_in_the_frames_it_was_made_of(folder, undistorted_scene):
    frames, file = read_frames(folder / "images"), read_cameras(undistorted_scene)
    again = known_cameras(file, None, frames)
    np.testing.assert_allclose(again.extrinsics, room().extrinsics, atol=1e-9)
    np.testing.assert_allclose(again.lenses.intrinsics, intrinsics())
    np.testing.assert_allclose(again.intrinsics, lenses().pinholes)
    undone = UndistortedFrames.of(frames, again.lenses)
    with Image.open(undistorted_scene / "images" / "frame_00004.png") as stored:
        np.testing.assert_array_equal(undone.images[3], np.asarray(stored))
    alone = known_cameras(None, read_intrinsics(undistorted_scene), frames.take(np.array([0, 5])))
    np.testing.assert_allclose(alone.lenses.intrinsics, intrinsics(2))


def test_cameras_of_an_undistorted_scene_are_pinholes_in_its_own_images(undistorted_scene):
    images = read_frames(undistorted_scene / "images")
    known = known_cameras(read_cameras(undistorted_scene), None, images.take(np.arange(2, 9)))
    assert known.lenses is None
    np.testing.assert_allclose(known.intrinsics, lenses().pinholes[2:9])
    np.testing.assert_allclose(known.extrinsics, room().extrinsics[2:9], atol=1e-9)


def test_a_scene_that_several_lenses_were_undone_in_does_not_say_those_of_its_source(folder, undistorted_scene):
    path = undistorted_scene / "transforms.json"
    meta = json.loads(path.read_text())
    meta["frames"][3]["fl_x"] *= 1.1
    path.write_text(json.dumps(meta))
    with pytest.raises(Page4DError, match=r"undistorted by several lenses, of which it keeps one; give .*images as"):
        known_cameras(read_cameras(undistorted_scene), None, read_frames(folder / "images"))


@pytest.mark.slow
def test_a_radial_distortion_is_found_with_the_cameras_and_the_focal_length():
    extrinsics, depth = network(K1)
    images = list(bent_room()[0])
    plain, refined = (refine(images, extrinsics, 0.95 * LONG, depth, distortion=each) for each in ("none", "radial"))
    # What counts is where the lens puts things: the coefficient and the focal length trade with each other.
    rays = CENTER[None] / LONG
    true = LONG * distort(rays, np.array([K1, 0, 0, 0]))
    found = refined.focal * distort(rays * LONG / refined.focal, np.array([refined.radial, 0, 0, 0]))
    assert np.linalg.norm(found - true) < 0.15 * np.linalg.norm(true - CENTER)
    assert refined.report["error_p50_after"] < 0.85 * plain.report["error_p50_after"]


@pytest.mark.slow
def test_no_distortion_is_found_where_there_is_none():
    extrinsics, depth = network(0.0)
    refined = refine(list(bent_room(0.0)[0]), extrinsics, 0.95 * LONG, depth, distortion="radial")
    assert refined.report["outcome"] == "refined"
    assert refined.radial is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "extra", "fisheye"),
    [
        ("SIMPLE_RADIAL", (K1,), False),
        ("RADIAL", (K1, 0.05), False),
        ("OPENCV", (K1, 0.05, 0.002, -0.001), False),
        ("OPENCV_FISHEYE", (0.05, 0.01, -0.01, 0.002), True),
    ],
)
def test_lenses_of_colmap_models_are_taken(model, extra, fisheye, folder):
    focal = (LONG,) if model in ("SIMPLE_RADIAL", "RADIAL") else (LONG, LONG)
    write_colmap(folder, model=model, params=(*focal, WIDTH / 2, HEIGHT / 2, *extra), size=SIZE)
    known = known_cameras(read_cameras(folder), None, read_frames(folder / "images"))
    assert known.lenses.fisheye.all() == fisheye
    np.testing.assert_allclose(known.lenses.distortion[0, : len(extra)], extra)
    np.testing.assert_allclose(known.intrinsics, known.lenses.pinholes)
    # Every ray of the undistorted image's corners is one of the distorted image.
    corners = (np.array([[0, 0], [WIDTH, HEIGHT]]) - known.intrinsics[0, :2, 2]) / known.intrinsics[0, [0, 1], [0, 1]]
    seen = LONG * distort(corners, known.lenses.distortion[0], fisheye) + CENTER
    assert (seen > -0.6).all()
    assert (seen < np.array([WIDTH, HEIGHT]) + 0.6).all()


@pytest.mark.slow
def test_a_lens_that_hardly_bends_is_a_pinhole(folder):
    write_transforms(folder, k1=1e-4, **PINHOLE)
    known = known_cameras(read_cameras(folder), None, read_frames(folder / "images"))
    assert known.lenses is None
    np.testing.assert_allclose(known.intrinsics[0], MATRIX)


def test_a_distortion_that_cannot_be_undone_is_refused(folder):
    write_transforms(folder, k1=-2.0, **PINHOLE)
    with pytest.raises(Page4DError, match=r"The lens of .* is out of range: its distortion cannot be undone"):
        known_cameras(read_cameras(folder), None, read_frames(folder / "images"))


@pytest.mark.slow
def test_a_distortion_is_not_looked_for_where_it_is_known(folder):
    write_transforms(folder, k1=K1, **PINHOLE)
    with pytest.raises(Page4DError, match=r"The distortion is known, from .*: leave out --distortion radial"):
        reconstruct(folder / "images", small_network(), cameras=folder, distortion="radial")


@pytest.mark.slow
@pytest.mark.parametrize(("k1", "times"), [(0.0, 1), (K1, 2)])
def test_the_network_sees_a_clip_once_more_only_where_a_distortion_is_found(k1, times, tmp_path, monkeypatch):
    runs = []

    def counted(*args):
        runs.append(args)
        return predict_in_windows(*args)

    monkeypatch.setattr("page4d_hf.reconstruction.reconstruct.predict_in_windows", counted)
    known = {"cameras": write_trajectory(tmp_path), "intrinsics": f"{LONG},{LONG},{WIDTH / 2},{HEIGHT / 2}"}
    options = {"distortion": "radial", "motion": "off", "resolution": 56}
    made = reconstruct(list(bent_room(k1)[0]), small_network(), **known, **options)
    assert len(runs) == times
    assert ("lens" in made.info) == (k1 != 0)


@pytest.mark.slow
@pytest.mark.parametrize("known", [True, False])
def test_the_command_undistorts_the_scene_by_the_known_lens_or_the_one_that_it_finds(
    known, folder, model_folder, capsys
):
    """With poses and focal length known, the lens is all that is left to find."""
    scene = folder / "scene"
    options: list[object] = ["--cameras", write_transforms(folder, k1=K1, **PINHOLE)]
    if not known:
        given = f"{LONG},{LONG},{WIDTH / 2},{HEIGHT / 2}"
        options = ["--cameras", write_trajectory(folder), "--intrinsics", given, "--distortion", "radial"]
    fixed = ["--model", model_folder, "--output", scene, "--resolution", 56, "--motion", "off"]
    main(["reconstruct", *map(str, (folder / "images", *fixed, *options))])
    assert "Images are undistorted: k1 = -0.2" in capsys.readouterr().out
    info = json.loads((scene / "page4d" / "info.json").read_text())
    np.testing.assert_allclose(info["lens"]["k1"], K1, atol=1e-6 if known else 0.03)
    assert info["refinement"]["outcome"] == "known"
    assert info["refinement"]["inlier_share_after"] > 0.8
    made = read_scene(scene)
    np.testing.assert_allclose(made.extrinsics, room().extrinsics, atol=1e-6)
    assert not made.distortion.any()
    expected = through_pinhole(room().images[5], made.intrinsics[5]).astype(int)
    with Image.open(made.image_paths[5]) as image:
        off = np.abs(np.asarray(image).astype(int) - expected)[4:-4, 4:-4]
    assert off.mean() < 3


@pytest.mark.slow
@pytest.mark.parametrize("k1", [K1, 0.15])
def test_known_poses_hold_while_the_distortion_is_found(k1):
    poses, (extrinsics, depth) = room().extrinsics, network(k1)
    known = KnownCameras(poses, intrinsics())
    refined = refine(list(bent_room(k1)[0]), extrinsics, LONG, depth, known=known, distortion="radial")
    np.testing.assert_array_equal(refined.extrinsics, poses)
    np.testing.assert_allclose(refined.radial, k1, atol=0.02)
