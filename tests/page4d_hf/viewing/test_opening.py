"""What is opened to look at: points where they are, of the time that they were seen at."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from ball_on_plane import colors, surface_distance
from PIL import Image
from small_captures import write_capture
from small_layouts import HEIGHT, WALL, WIDTH, write_nerfstudio
from small_scene import SIZE, projected

from page4d_hf import cli
from page4d_hf.errors import Page4DError
from page4d_hf.geometry import camera_centers, extrinsics_at
from page4d_hf.scene import read_scene
from page4d_hf.scene.export import export_scene
from page4d_hf.scene.tracks import PointTracks, tracks_bytes
from page4d_hf.synthetic import write_synthetic_capture
from page4d_hf.viewing.display import Palette
from page4d_hf.viewing.opening import open_input
from page4d_hf.viewing.viewed_scene import view_scene
from page4d_hf.weights.shipped import TINY


def opened(path, max_frames=100, max_points=10**6, **options):
    return open_input(str(path), max_frames=max_frames, max_points=max_points, **options)


def test_each_pixel_with_depth_becomes_a_point_on_the_surfaces_in_its_colour(scene):
    assert len(scene.clouds) == 4
    for i, cloud in enumerate(scene.clouds):
        maps = scene.load_maps(i)
        assert len(cloud) == np.isfinite(maps.depth).sum()
        assert np.median(surface_distance(cloud.points)) < 1e-5
        assert np.abs(cloud.colors.astype(float) - colors(cloud.points)).mean() < 2
        y, x = np.nonzero(np.isfinite(maps.depth))
        pixels = projected(cloud.points.astype(np.float64), scene.extrinsics[i], scene.intrinsics[i])
        np.testing.assert_allclose(pixels, np.stack((x, y), axis=1) + 0.5, atol=1e-3)
        np.testing.assert_array_equal(cloud.motion, maps.motion[y, x])


def test_points_are_thinned_evenly_over_frames_and_told_of(folder):
    scene = opened(folder, max_points=1000)
    assert [len(cloud) for cloud in scene.clouds] == [250] * 4
    assert scene.all_points > 1000


def test_frames_are_thinned_evenly_over_time(folder):
    scene = opened(folder, max_frames=2)
    assert (len(scene), scene.all_frames) == (2, 4)
    np.testing.assert_allclose(scene.times, [0, 1])
    np.testing.assert_array_equal(scene.load_maps(1).depth, read_scene(folder).load_depth(3))


def test_a_folder_of_another_program_shows_its_own_points_at_their_times(folder, tmp_path):
    stored = read_scene(folder)
    export_scene(stored, tmp_path / "other", "nerfstudio")
    scene = opened(tmp_path / "other")
    for k, time in enumerate(scene.instants):
        np.testing.assert_array_equal(scene.clouds[k].points, stored.points[np.isclose(stored.point_times, time)])
        seen = scene.clouds[k].points @ stored.extrinsics[k, 2, :3] + stored.extrinsics[k, 2, 3]
        np.testing.assert_allclose(scene.clouds[k].depth, seen, rtol=1e-5)
    assert not len(scene.timeless)


def test_a_scene_in_geographic_coordinates_is_shown_as_anywhere_else(folder):
    stored = replace(read_scene(folder), info={})
    tracks = PointTracks(np.zeros((5, 4, 2)), np.ones((5, 4), bool), np.full((5, 3), np.nan), np.ones((5, 4, 3)))
    origin = np.array([5e5, 5.3e6, 300])
    far = replace(
        stored,
        extrinsics=extrinsics_at(stored.extrinsics[:, :, :3], camera_centers(stored.extrinsics) + origin),
        points=stored.points.astype(np.float64) + origin,
    )
    far.load_tracks = lambda: replace(tracks, paths=tracks.paths + origin)
    stored.load_tracks = lambda: tracks
    near, shown = (view_scene(scene, max_frames=100, max_points=10**6) for scene in (stored, far))
    middle = camera_centers(near.extrinsics).mean(axis=0)
    np.testing.assert_allclose(shown.everything.points, near.everything.points - middle, atol=1e-5)
    np.testing.assert_allclose(camera_centers(shown.extrinsics), camera_centers(near.extrinsics) - middle, atol=1e-5)
    np.testing.assert_allclose(shown.paths, near.paths - middle, atol=1e-5)
    np.testing.assert_allclose(shown.everything.depth, near.everything.depth, rtol=1e-4)


def test_a_folder_of_another_program_shows_the_points_of_its_depth(tmp_path):
    scene = opened(write_nerfstudio(tmp_path / "other", depth=True))
    assert [len(cloud) for cloud in scene.clouds] == [WIDTH * HEIGHT] * 6
    np.testing.assert_allclose(scene.everything.points[:, 2], WALL, atol=2e-3)  # depth in whole millimetres
    assert scene.load_maps(0).depth.shape == (HEIGHT, WIDTH)


def test_a_colmap_folder_shows_its_points_at_all_times(folder, tmp_path):
    made = export_scene(read_scene(folder), tmp_path / "model", "colmap")
    scene = opened(tmp_path / "model")
    assert (len(scene), len(scene.timeless), scene.all_points) == (4, made.points, made.points)
    assert np.median(surface_distance(scene.timeless.points)) < 1e-5
    for i, view in enumerate(read_scene(folder).extrinsics):
        np.testing.assert_allclose(scene.extrinsics[i], view, atol=1e-6)
        assert scene.load_image(i).shape == (*SIZE[::-1], 3)


def test_transparent_pixels_of_an_image_are_shown_white(folder, tmp_path):
    export_scene(read_scene(folder), tmp_path / "clear", "nerfstudio")
    for path in (tmp_path / "clear" / "images").iterdir():
        Image.new("RGBA", SIZE, (0, 0, 0, 0)).save(path)
    assert opened(tmp_path / "clear").load_image(1).min() == 255


def test_a_capture_without_depth_shows_its_points_thinned_at_all_times(tmp_path):
    scene = opened(write_capture(tmp_path / "capture", distortion=(0.1, 0.0, 0.0)), max_points=150)
    assert (len(scene.timeless), scene.all_points) == (150, 200)
    assert sum(map(len, scene.clouds)) == 0
    assert scene.load_image(0).shape[1::-1] == tuple(scene.image_sizes[0])


def test_cameras_of_one_instant_are_frames_of_one_time(tmp_path):
    capture = write_capture(tmp_path / "capture", frames=6)
    path = capture / "metadata.json"
    metadata = json.loads(path.read_text())
    for i, entry in enumerate(metadata.values()):
        entry.update(warp_id=i // 2, camera_id=i % 2)
    path.write_text(json.dumps(metadata))
    scene = opened(capture)
    assert len(scene.instants) == 3
    assert scene.frames_at(1).tolist() == [2, 3]
    assert scene.camera_ids.tolist() == [0, 1] * 3
    assert scene.instant_of(4) == 2


def test_images_are_reconstructed_with_a_model_and_the_temporary_folder_goes_with_the_scene(
    folder, tmp_path, monkeypatch
):
    from small_scene import ball_scene

    given = {}

    def reconstruct(source, model, **options):
        given.update(source=source, model=model, max_frames=options["max_frames"])
        return ball_scene()

    monkeypatch.setattr("page4d_hf.reconstruction.reconstruct.reconstruct", reconstruct)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    scene = opened(folder / "images", model="weights", max_frames=7)
    assert given == {"source": str(folder / "images"), "model": "weights", "max_frames": 7}
    assert scene.load_image(3).shape == (*SIZE[::-1], 3)
    assert list(tmp_path.iterdir())
    del scene
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_video_is_reconstructed_with_the_small_model(tmp_path):
    write_synthetic_capture(tmp_path / "capture", num_frames=5, width=56, height=42, supersampling=1, num_points=50)
    scene = opened(tmp_path / "capture" / "video.mp4", model=str(TINY), max_frames=3)
    assert (len(scene), len(scene.clouds)) == (3, 3)
    assert all(len(cloud) > 100 for cloud in scene.clouds)
    assert Palette(scene).colors() == ["image", "depth", "confidence", "motion", "time"]


@pytest.mark.parametrize(
    ("source", "options", "expected"),
    [
        ("nowhere", {}, "nowhere"),
        ("x" * 300, {}, "xxx"),
        ("ball/images", {}, "no scene and no capture but images; name a model"),
        ("ball", {"max_points": 0}, "--max-points must be at least 1, got 0"),
        ("ball", {"max_frames": 0}, "--max-frames must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_opened_is_refused_in_a_sentence(folder, source, options, expected):
    with pytest.raises(Page4DError, match=expected):
        opened(folder.parent / source, **options)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--time", "2"], "--time must be from 0"),
        (["--screenshot", "out.gif"], r"ends in \.png or \.jpg"),
        (["--screenshot", "out.png", "--size", "0", "10"], "64 to 8192 pixels"),
        (["--port", "0"], "port from 1 to 65535"),
        (["--host", "203.0.113.7"], r"Cannot listen at 203\.0\.113\.7"),
        (["--host", "x" * 300], r"Cannot listen at x{200}, port"),
    ],
)
def test_the_command_refuses_options_out_of_range(folder, capsys, arguments, expected):
    with pytest.raises(SystemExit) as ended:
        cli.main(["view", str(folder), *arguments])
    assert ended.value.code == 1
    assert re.search(expected, capsys.readouterr().err)


def test_the_picture_does_not_replace_an_image_of_the_scene(folder, capsys):
    image = next((folder / "images").iterdir())
    pixels = image.read_bytes()
    with pytest.raises(SystemExit):
        cli.main(["view", str(folder), "--screenshot", str(image), "--overwrite"])
    assert f"{image.name} is a file of what is read" in capsys.readouterr().err
    assert image.read_bytes() == pixels


def test_trails_are_the_last_steps_of_tracks_that_move_and_leave_out_what_is_unknown(tmp_path):
    data = write_capture(tmp_path / "capture", frames=12)
    paths = np.full((3, 12, 3), np.nan, np.float32)
    paths[0] = np.arange(12)[:, None] * (1, 0, 0)
    paths[1, 4] = 0  # known at one instant only; the third has no path: it stands still
    tracks = PointTracks(np.zeros((3, 12, 2)), np.ones((3, 12), bool), paths[:, 0], paths)
    (data / "tracks.npz").write_bytes(tracks_bytes(tracks, [f"{frame:06d}" for frame in range(12)]))
    scene = opened(data)
    assert scene.paths.shape == (1, 12, 3)
    steps = np.diff(scene.trails(10), axis=1)
    assert len(steps) == 8
    np.testing.assert_allclose(steps, np.broadcast_to(steps[0], steps.shape), atol=1e-5)
    np.testing.assert_allclose(scene.trails(10)[-1, 1], scene.paths[0, 10])
    assert len(scene.trails(0)) == 0
    assert opened(data, max_frames=4).paths.shape == (1, 4, 3)
