"""Cameras that the user knows: files, matching, conventions, and depth in their scale; against rendered truth."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from camera_files import FLIP, write_colmap, write_trajectory, write_transforms, written
from image_folders import write_images
from moving_room import FOCAL, SIZE, moving_room
from PIL import Image

from page4d_hf.cli import main
from page4d_hf.errors import Page4DError
from page4d_hf.frames import Frames, read_frames
from page4d_hf.reconstruction.cameras.known_cameras import (
    CONVENTIONS,
    KnownCameras,
    check_against_tracks,
    depth_by_paths,
    known_cameras,
    read_cameras,
    read_intrinsics,
)
from page4d_hf.reconstruction.cameras.refinement import refine
from page4d_hf.reconstruction.tracks import track_points
from page4d_hf.scene import read_scene

HEIGHT, WIDTH = SIZE


def network() -> tuple[np.ndarray, list[np.ndarray]]:
    """Cameras and depth of the room as a network might give them: at half the scale, and the path disturbed."""
    room = moving_room()
    extrinsics = room.extrinsics.copy()
    extrinsics[:, :, 3] *= 0.5
    extrinsics[1:, :, 3] += np.random.default_rng(0).normal(size=(len(extrinsics) - 1, 3)) * 0.03
    return extrinsics, [0.5 * depth for depth in room.depth]


@functools.cache
def room_tracks():
    return track_points(moving_room().images)


def refined(known: KnownCameras, focal: float = 150.0):
    extrinsics, depth = network()
    return refine(list(moving_room().images), extrinsics, focal, depth, known=known)


def depth_error(depth: list[np.ndarray]) -> float:
    """Median |log(z / true z)|."""
    return float(np.median(np.abs(np.log(np.stack(depth) / moving_room().depth))))


@pytest.fixture
def folder(tmp_path):
    """The room's frames as images."""
    write_images(tmp_path / "images", moving_room().images, "view{}.png")
    return tmp_path


@pytest.fixture
def frames(folder):
    return read_frames(folder / "images")


# ---------------------------------------------------------------------------------------------------------------
# Files, and which camera is of which frame


@pytest.mark.parametrize("write", [write_transforms, write_colmap, write_trajectory])
def test_files_of_three_kinds_give_the_same_extrinsics(write, folder, frames):
    known = known_cameras(read_cameras(write(folder)), None, frames)
    np.testing.assert_allclose(known.extrinsics, moving_room().extrinsics, atol=1e-6)
    if write is write_trajectory:
        assert known.intrinsics is None
    else:
        np.testing.assert_allclose(known.intrinsics, moving_room().intrinsics, atol=1e-9)


def test_cameras_do_not_need_the_points_that_lie_beside_them(folder, frames):
    known = known_cameras(read_cameras(write_transforms(folder, ply_file_path="lost.ply")), None, frames)
    np.testing.assert_allclose(known.extrinsics, moving_room().extrinsics, atol=1e-9)


def test_cameras_are_matched_by_file_name_in_whatever_order(folder, frames):
    path = write_transforms(folder, order=[5, 2, 9, 0, 1, 3, 4, 6, 7, 8, 10, 11])
    some = [3, 7, 8]
    known = known_cameras(read_cameras(path), None, frames.take(np.array(some)))
    np.testing.assert_allclose(known.extrinsics, moving_room().extrinsics[some], atol=1e-9)


def test_cameras_of_a_video_are_matched_by_order_and_not_by_a_name_that_happens_to_be_alike(folder, frames):
    file = read_cameras(write_colmap(folder))
    video = Frames(frames.images, [f"view{i + 1}" for i in range(len(frames))], frames.times, None, "clip.mp4")
    np.testing.assert_allclose(known_cameras(file, None, video).extrinsics, moving_room().extrinsics, atol=1e-9)
    with pytest.raises(Page4DError, match=r"a camera for each of the 5 frames in .*; it has 12, and none for 5"):
        known_cameras(file, None, video.take(np.arange(5)))


def test_poses_of_a_trajectory_are_matched_by_the_timestamps_that_files_are_named_by(folder, frames):
    path = write_trajectory(folder, stamps=1e5 + 0.1 * np.arange(12))
    some = np.array([2, 3, 11])
    taken = frames.take(some)
    taken.paths = [path.with_name(f"{1e5 + 0.1 * i + 0.004:.6f}.png") for i in some]
    known = known_cameras(read_cameras(path), None, taken)
    np.testing.assert_allclose(known.extrinsics, moving_room().extrinsics[some], atol=1e-6)


def test_numbers_of_images_are_no_timestamps_unless_poses_are_at_whole_seconds(folder, frames):
    taken = frames.take(np.arange(5))
    taken.paths = [frames.paths[0].with_name(f"{i:05}.png") for i in range(5)]
    half_seconds = write_trajectory(folder, stamps=0.5 * np.arange(12))
    with pytest.raises(Page4DError, match="a camera for each of the 5 frames"):
        known_cameras(read_cameras(half_seconds), None, taken)
    seconds = write_trajectory(folder, stamps=np.arange(12.0))
    known = known_cameras(read_cameras(seconds), None, taken)
    np.testing.assert_allclose(known.extrinsics, moving_room().extrinsics[:5], atol=1e-6)


def test_intrinsics_of_larger_images_are_scaled_to_the_frames(folder, frames):
    known = known_cameras(None, read_intrinsics(write_colmap(folder, scale=3)), frames)
    assert known.extrinsics is None
    np.testing.assert_allclose(known.intrinsics, moving_room().intrinsics, atol=1e-9)


def test_cameras_too_far_away_to_compute_with_are_refused(folder, frames):
    path = write_trajectory(folder)
    path.write_text("".join(f"{i} 1e12 {i} 0 0 0 0 1\n" for i in range(len(frames))))
    with pytest.raises(Page4DError, match=r"A camera of .*trajectory.txt is over 1e\+09 units from the origin"):
        known_cameras(read_cameras(path), None, frames)


@pytest.mark.parametrize("name", ["absent.json", ".", "x" * 300, "a\0b"])  # the last two can be of no file
def test_a_path_without_cameras_is_refused(name, tmp_path):
    with pytest.raises(
        Page4DError, match=r"Expected cameras in a transforms.json, a folder with a COLMAP model, or|cannot be read"
    ):
        read_cameras(tmp_path / name)


def test_intrinsics_are_given_as_four_numbers(frames):
    known = known_cameras(None, read_intrinsics("100,101.5,64,50"), frames)
    np.testing.assert_array_equal(known.intrinsics, [[[100, 0, 64], [0, 101.5, 50], [0, 0, 1]]] * len(frames))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("100,100,64", r"intrinsics as fx,fy,cx,cy in pixels, or .*; got '100,100,64', and there is no such file"),
        ("0,100,64,48", r"focal lengths above 0, got 0,100,64,48"),
        ("100,nan,64,48", r"finite intrinsics .* got 100,nan,64,48"),
        ("1e300,1e300,64,48", r"No camera sees .* with the focal lengths of --intrinsics, 1e\+300 and 1e\+300"),
        ("1e-9,100,64,48", r"No camera sees .* with the focal lengths of --intrinsics, 1e-09 and 100"),
        ("100,100,640,480", r"principal point of --intrinsics, \(640, 480\), is outside of frame view0.png, which is"),
    ],
)
def test_intrinsics_that_are_none_are_refused(given, message, frames):
    with pytest.raises(Page4DError, match=message):
        known_cameras(None, read_intrinsics(given), frames)


# ---------------------------------------------------------------------------------------------------------------
# Held in the adjustment, and depth scaled to them


@pytest.mark.slow
def test_known_cameras_are_held_and_depth_comes_in_their_scale():
    room = moving_room()
    result = refined(KnownCameras(room.extrinsics, room.intrinsics))
    assert result.report["outcome"] == "known"
    np.testing.assert_array_equal(result.extrinsics, room.extrinsics)
    np.testing.assert_array_equal(result.intrinsics, room.intrinsics)
    assert depth_error(result.depth) < 0.01  # the network's is off by log 2


@pytest.mark.slow
def test_a_network_whose_cameras_hardly_move_does_not_spoil_known_ones():
    room, noise = moving_room(), np.random.default_rng(0)
    still = np.repeat(room.extrinsics[:1], len(room.extrinsics), axis=0)
    still[:, :, 3] += 1e-6 * noise.normal(size=(len(still), 3))
    known = KnownCameras(room.extrinsics, room.intrinsics)
    refined = refine(list(room.images), still, FOCAL, list(room.depth), known=known)
    assert refined.report["inlier_share_after"] > 0.75
    assert depth_error(refined.depth) < 0.05


@pytest.mark.slow
def test_a_focal_length_that_is_unknown_is_found_from_known_poses():
    result = refined(KnownCameras(moving_room().extrinsics))
    np.testing.assert_array_equal(result.extrinsics, moving_room().extrinsics)
    assert abs(result.focal / FOCAL - 1) < 0.03
    assert depth_error(result.depth) < 0.02


@pytest.mark.slow
def test_known_intrinsics_are_held_though_their_pixels_are_not_square():
    """The room's images, cropped and stretched: a principal point off the centre, and two focal lengths."""
    room = moving_room()
    stretched = [np.asarray(Image.fromarray(image[:, 24:]).resize((156, 96))) for image in room.images]
    matrix = np.array([[1.5 * FOCAL, 0, 1.5 * (WIDTH / 2 - 24)], [0, FOCAL, HEIGHT / 2], [0, 0, 1]])
    known = KnownCameras(room.extrinsics, np.tile(matrix, (len(room.images), 1, 1)))
    extrinsics, depth = network()
    result = refine(stretched, extrinsics, 100.0, [each[:, 24:] for each in depth], known=known)
    np.testing.assert_array_equal(result.intrinsics, known.intrinsics)
    assert np.median(np.abs(np.log(np.stack(result.depth) / room.depth[:, :, 24:]))) < 0.01
    intrinsics_alone = refine(
        stretched, extrinsics, 100.0, [each[:, 24:] for each in depth], known=KnownCameras(None, known.intrinsics)
    )
    assert intrinsics_alone.report["outcome"] == "refined"
    np.testing.assert_array_equal(intrinsics_alone.intrinsics, known.intrinsics)
    assert intrinsics_alone.report["error_p50_after"] < 0.2  # pixels


@pytest.mark.slow
def test_cameras_that_stand_still_leave_the_scale_of_depth():
    room = moving_room(camera_stands=True)
    _, depth = network()
    known = KnownCameras(room.extrinsics, room.intrinsics)
    result = refine(list(room.images), room.extrinsics, FOCAL, depth, known=known)
    assert "Depth has the network's scale, as the cameras do not move." in result.report["note"]
    np.testing.assert_array_equal(result.depth, depth)


def test_without_tracks_the_length_of_the_path_scales_depth():
    room = moving_room()
    centers = room.extrinsics.copy()
    centers[:, :, 3] *= 0.25
    depth, _ = depth_by_paths([0.25 * each for each in room.depth], centers, room.extrinsics)
    np.testing.assert_allclose(depth, room.depth, rtol=1e-5)


# ---------------------------------------------------------------------------------------------------------------
# Conventions


def checked(known: KnownCameras) -> float:
    seen = room_tracks()
    return check_against_tracks(
        known, known.idealized(seen, SIZE), np.ones(len(seen), bool), known.focal or 150.0, SIZE
    )


@pytest.mark.parametrize("meant", CONVENTIONS)
@pytest.mark.parametrize("taken", CONVENTIONS)
def test_cameras_of_another_convention_are_named(taken, meant):
    room = moving_room()
    matrices = written(room.extrinsics, *meant)
    if taken[0] == "camera-to-world":
        matrices = np.linalg.inv(matrices)
    misread = (FLIP @ matrices if taken[1] == "OpenGL" else matrices)[:, :3]
    if taken == meant:
        np.testing.assert_allclose(misread, room.extrinsics, atol=1e-9)
        assert checked(KnownCameras(misread, room.intrinsics, "FILE", taken)) == pytest.approx(FOCAL)
        assert checked(KnownCameras(misread, None, "FILE", taken)) == pytest.approx(FOCAL, rel=0.1)  # of a grid
        return
    for intrinsics in (room.intrinsics, None):
        with pytest.raises(
            Page4DError, match=f"The cameras of FILE look like {meant[0]} matrices with {meant[1]} axes"
        ):
            checked(KnownCameras(misread, intrinsics, "FILE", taken))


def test_cameras_that_contradict_the_images_are_refused():
    room = moving_room()
    for wrong in (room.extrinsics[::-1], room.extrinsics[[0, 5, 10, 3, 8, 1, 6, 11, 4, 9, 2, 7]]):
        with pytest.raises(Page4DError, match=r"The cameras of FILE contradict the images: only \d+% of the matches"):
            checked(KnownCameras(wrong, room.intrinsics, "FILE"))


# ---------------------------------------------------------------------------------------------------------------
# The command


@pytest.mark.slow
@pytest.mark.parametrize("refinement", ["auto", "off"])
def test_the_command_writes_a_scene_with_the_known_cameras_and_in_their_scale(
    refinement, folder, model_folder, tmp_path, capsys
):
    output = tmp_path / "scene"
    options = ["--model", str(model_folder), "--output", str(output), "--resolution", "56", "--no-preview"]
    cameras = ["--cameras", str(write_transforms(folder)), "--refine", refinement]
    main(["reconstruct", str(folder / "images"), *options, *cameras])
    scene = read_scene(output)
    np.testing.assert_allclose(scene.extrinsics, moving_room().extrinsics, atol=1e-9)
    np.testing.assert_allclose(scene.intrinsics, moving_room().intrinsics, atol=1e-9)
    assert scene.scale == "cameras"
    assert scene.info["refinement"]["outcome"] == "known"
    assert scene.info["options"]["cameras"] == str(folder / "transforms.json")
    assert "Cameras: known." in capsys.readouterr().out
