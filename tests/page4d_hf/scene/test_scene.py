"""The scene folder: written whole, read back, read by nerfstudio, and refused where it is damaged."""

import errno
import io
import json
import shutil
import struct
import zlib
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from file_limits import largest_file
from fuzzing import check_reader
from PIL import Image
from plyfile import PlyData, PlyElement
from small_scene import SIZE, ball_scene

from page4d_hf.errors import Page4DError, SceneError
from page4d_hf.frames import read_frames
from page4d_hf.scene import read_scene, read_tracks, write_scene
from page4d_hf.scene.folder import frames_at

NUM_FRAMES = 11  # more than nine: their names must still sort in time
BALL = ball_scene(NUM_FRAMES)
BALL.intrinsics[:, 0, 0] += np.arange(NUM_FRAMES)


def make_reconstruction(**changes):
    return replace(deepcopy(BALL), **changes)


@pytest.fixture
def scene_folder(tmp_path):
    return write_scene(tmp_path / "scene", make_reconstruction())


def edit_transforms(folder, edit):
    path = folder / "transforms.json"
    meta = json.loads(path.read_text())
    edit(meta)
    path.write_text(json.dumps(meta))


# ---------------------------------------------------------------------------------------------------------------
# Writing and reading back


def test_tracks_are_read_back_in_the_frames_that_are_left(tmp_path):
    made = make_reconstruction()
    visible = made.tracks.visible
    paths = np.random.default_rng(0).normal(size=(*visible.shape, 3)).astype(np.float32)
    made.tracks = replace(made.tracks, xy=np.where(visible[..., None], made.tracks.xy, 0), paths=paths)
    folder = write_scene(tmp_path / "tracked", made)
    edit_transforms(folder, lambda meta: meta["frames"].reverse() or meta["frames"].pop(0))
    tracks = read_scene(folder).load_tracks()
    written_by_name = vars(made.tracks)
    for got, written in ((value, written_by_name[name]) for name, value in vars(tracks).items() if name != "points"):
        np.testing.assert_array_equal(got, written[:, -2::-1])
    np.testing.assert_array_equal(tracks.points, made.tracks.points)


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"tracks": np.zeros((5, 4, 2))}, "Expected tracks .* and visible"),
        ({"tracks": np.zeros((5, 4, 3)), "visible": np.ones((5, 4), bool)}, r"got \[5, 4, 3\]"),
        (
            {"tracks": np.full((5, 4, 2), np.nan), "visible": np.ones((5, 4), bool)},
            "20 visible positions .* not finite",
        ),
        ({"tracks": np.array([None]), "visible": np.ones((5, 4), bool)}, "cannot be read as a NumPy archive"),
        (None, "cannot be read as a NumPy archive"),
    ],
)
def test_tracks_that_are_none_are_refused(tmp_path, arrays, told):
    path = tmp_path / "tracks.npz"
    if arrays is None:
        path.write_bytes(b"PK\x03\x04 no archive")
    else:
        np.savez(path, **arrays)
    with pytest.raises(SceneError, match=told):
        read_tracks(path)


def test_a_file_of_tracks_is_read_or_refused_in_a_sentence(tmp_path):
    path = tmp_path / "tracks.npz"
    np.savez_compressed(path, tracks=np.ones((5, 4, 2)), visible=np.ones((5, 4), bool))
    check_reader(lambda: read_tracks(path), [path], rounds=300)


@pytest.mark.parametrize("name", ["absent.npz", "x" * 300, "a\0b"])
def test_tracks_that_no_file_holds_are_named(tmp_path, name):
    with pytest.raises(SceneError, match=r"give an \.npz with tracks"):
        read_tracks(tmp_path / name)


def test_tracks_that_unpack_to_more_than_is_read_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("page4d_hf.scene.tracks.MOST_BYTES", 100)
    np.savez_compressed(tmp_path / "tracks.npz", tracks=np.zeros((5, 4, 2)), visible=np.zeros((5, 4), bool))
    with pytest.raises(SceneError, match=r"unpacks to .* GiB; at most"):
        read_tracks(tmp_path / "tracks.npz")


def test_what_is_written_is_read_back(scene_folder):
    expected, scene = make_reconstruction(), read_scene(scene_folder)
    np.testing.assert_allclose(scene.extrinsics, expected.extrinsics, atol=1e-12)
    np.testing.assert_allclose(scene.intrinsics, expected.intrinsics)
    np.testing.assert_allclose(scene.times, np.arange(NUM_FRAMES) / (NUM_FRAMES - 1))
    assert scene.image_sizes.tolist() == [list(SIZE)] * NUM_FRAMES
    assert (scene.distortion == 0).all()
    for name in ("points", "point_colors", "point_times", "point_motion", "point_confidence"):
        np.testing.assert_array_equal(getattr(scene, name), getattr(expected, name))
    for i in range(NUM_FRAMES):
        np.testing.assert_array_equal(np.asarray(Image.open(scene.image_paths[i])), BALL.frames.images[i])
        np.testing.assert_array_equal(scene.load_depth(i), expected.depth[i])
        np.testing.assert_array_equal(scene.load_confidence(i), expected.depth_conf[i])
        np.testing.assert_array_equal(scene.load_motion(i), expected.motion[i])


def test_the_info_says_what_made_the_scene_and_where_each_frame_came_from(scene_folder):
    scene = read_scene(scene_folder)
    assert (scene.info["model"], scene.info["source"], scene.scale) == ("m", "a video", "arbitrary")
    assert scene.info["page4d_version"]
    assert scene.info["frames"][2] == {"image": "images/frame_00003.png", "source": "shot 2", "source_time": 2.0}


def test_a_model_without_a_mask_leaves_motion_out(tmp_path):
    folder = write_scene(tmp_path / "scene", make_reconstruction(motion=None, point_motion=None))
    scene = read_scene(folder)
    assert not scene.has_motion
    assert scene.point_motion is None
    with pytest.raises(SceneError, match=r"Cannot read .*page4d.motion"):
        scene.load_motion(0)


def test_a_cloud_without_points_can_be_written_and_read(tmp_path):
    reconstruction = make_reconstruction()
    for name in ("points", "point_colors", "point_times", "point_motion", "point_confidence"):
        setattr(reconstruction, name, getattr(reconstruction, name)[:0])
    scene = read_scene(write_scene(tmp_path / "scene", reconstruction))
    assert scene.points.shape == (0, 3)


def test_images_that_every_program_reads_alike_are_copied_and_others_written_anew(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    plain = Image.fromarray(BALL.frames.images[0])
    turned = plain.getexif()
    turned[0x0112] = 6
    plain.save(source / "1.png")
    plain.save(source / "2.JPG")
    plain.save(source / "3.jpg", exif=turned)
    plain.convert("L").save(source / "4.png")
    plain.convert("P").save(source / "5.png")
    plain.save(source / "6.webp", lossless=True)
    plain.convert("RGBA").save(source / "7.png")
    frames = read_frames(source)
    reconstruction = make_reconstruction(frames=frames, tracks=None)
    for name in ("extrinsics", "intrinsics", "depth", "depth_conf", "motion"):
        setattr(reconstruction, name, getattr(reconstruction, name)[: len(frames)])
    scene = read_scene(write_scene(tmp_path / "scene", reconstruction))

    names = ["1.png", "2.jpg", "3.png", "4.png", "5.png", "6.png", "7.png"]
    assert [path.name for path in scene.image_paths] == [f"frame_0000{name}" for name in names]
    for i, original in enumerate(sorted(source.iterdir())):
        copied = scene.image_paths[i].read_bytes() == original.read_bytes()
        assert copied == (i in (0, 1, 6)), original.name
        assert not scene.image_paths[i].samefile(original)
        # As a program sees it that knows nothing of orientation and palettes.
        np.testing.assert_array_equal(np.asarray(Image.open(scene.image_paths[i])), frames.images[i])
    assert scene.image_sizes[2].tolist() == [SIZE[1], SIZE[0]]


def test_names_that_are_not_utf_8_make_an_info_that_can_be_read(tmp_path):
    made = make_reconstruction()
    made.frames.source, made.frames.names[0] = "b\udcffse", "\udce4.png"
    scene = read_scene(write_scene(tmp_path / "scene", made))
    assert (scene.info["source"], scene.info["frames"][0]["source"]) == ("b?se", "?.png")


@pytest.mark.parametrize("size", [1000, 7000, 20_000])  # images are the first to be cut off, then maps, then points.ply
def test_a_limit_of_file_sizes_leaves_nothing_and_is_told_of(tmp_path, size):
    with largest_file(size), pytest.raises(Page4DError, match=r"A file grew past the limit of its size"):
        write_scene(tmp_path / "scene", make_reconstruction())
    assert list(tmp_path.iterdir()) == []


def test_a_camera_that_is_not_finite_is_not_written(tmp_path):
    reconstruction = make_reconstruction()
    reconstruction.intrinsics[3, 0, 0] = np.inf
    with pytest.raises(SceneError, match="camera of frame shot 3 is not finite"):
        write_scene(tmp_path / "scene", reconstruction)
    assert list(tmp_path.iterdir()) == []


def test_frames_and_cameras_of_different_number_are_not_written(tmp_path):
    made = make_reconstruction()
    made.frames.images.pop()
    with pytest.raises(SceneError, match="as many cameras as the 10 frames, got 11"):
        write_scene(tmp_path / "scene", made)


# ---------------------------------------------------------------------------------------------------------------
# The place that it is written to


@pytest.mark.parametrize("suffix", [".npy", ".ply", "transforms.json"])
def test_a_disk_that_fills_up_leaves_nothing_and_says_so(tmp_path, monkeypatch, suffix):
    def full(path, *args, **kwargs):
        if path.name.endswith(suffix):
            raise OSError(errno.ENOSPC, "No space left on device")
        return original[type(args[0])](path, *args, **kwargs)

    original = {bytes: Path.write_bytes, str: Path.write_text}
    monkeypatch.setattr(Path, "write_bytes", full)
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(Page4DError, match="disk filled up"):
        write_scene(tmp_path / "scene", make_reconstruction())
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------------------------------------------------
# Reading by others, and of others' folders


def test_nerfstudio_reads_the_cameras_that_were_written(scene_folder):
    pytest.importorskip("nerfstudio")
    from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig

    config = NerfstudioDataParserConfig(
        data=scene_folder, orientation_method="none", center_method="none", auto_scale_poses=False, eval_mode="all"
    )
    outputs = config.setup().get_dataparser_outputs("train")
    expected = make_reconstruction()
    cameras = outputs.cameras
    # nerfstudio sorts by name; ours are in time.
    assert [path.name for path in outputs.image_filenames] == [f"frame_{i + 1:05d}.png" for i in range(NUM_FRAMES)]
    flip = np.diag([1.0, -1.0, -1.0])  # OpenGL's axes in OpenCV's
    rotation, translation = expected.extrinsics[:, :, :3], expected.extrinsics[:, :, 3:]
    np.testing.assert_allclose(cameras.camera_to_worlds[:, :, :3], rotation.swapaxes(1, 2) @ flip, atol=1e-6)
    np.testing.assert_allclose(cameras.camera_to_worlds[:, :, 3:], -rotation.swapaxes(1, 2) @ translation, atol=1e-6)
    np.testing.assert_allclose(cameras.get_intrinsics_matrices(), expected.intrinsics, rtol=1e-6)
    assert cameras.width.flatten().tolist() == [SIZE[0]] * NUM_FRAMES
    assert cameras.height.flatten().tolist() == [SIZE[1]] * NUM_FRAMES
    assert not cameras.distortion_params.any()


@pytest.mark.slow
def test_nerfstudio_reads_the_points_that_were_written(scene_folder):
    pytest.importorskip("nerfstudio")
    try:
        import open3d  # noqa: F401
    except (ImportError, OSError) as error:
        pytest.skip(f"nerfstudio reads points by open3d, which lacks a system library here: {error}")
    from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig

    config = NerfstudioDataParserConfig(
        data=scene_folder, orientation_method="none", center_method="none", auto_scale_poses=False, load_3D_points=True
    )
    metadata = config.setup().get_dataparser_outputs("train").metadata
    np.testing.assert_allclose(metadata["points3D_xyz"], make_reconstruction().points, atol=1e-6)
    np.testing.assert_array_equal(metadata["points3D_rgb"], make_reconstruction().point_colors)


def make_foreign_folder(tmp_path, meta, frame, count=3):
    folder = tmp_path / "foreign"
    (folder / "images").mkdir(parents=True)
    frames = []
    for i in range(count):
        Image.new("RGB", SIZE).save(folder / "images" / f"{i}.png")
        matrix = np.eye(4)
        matrix[:3, 3] = i
        frames.append({"file_path": f"images/{i}.png", "transform_matrix": matrix.tolist(), **frame})
    (folder / "transforms.json").write_text(json.dumps({**meta, "frames": frames}))
    return folder


def test_a_folder_by_nerfstudio_s_own_tools_is_read(tmp_path):
    """Intrinsics once for all frames, OpenCV distortion, no times, no points."""
    meta = {"camera_model": "OPENCV", "fl_x": 20.0, "fl_y": 21.0, "cx": 12.5, "cy": 8.5, "w": SIZE[0], "h": SIZE[1]}
    meta |= {"k1": 0.1, "k2": -0.2, "p1": 0.01, "p2": 0.02, "k3": 0.3}
    scene = read_scene(make_foreign_folder(tmp_path, meta, {}))
    np.testing.assert_array_equal(scene.intrinsics[2], [[20, 0, 12.5], [0, 21, 8.5], [0, 0, 1]])
    np.testing.assert_array_equal(scene.distortion[1], [0.1, -0.2, 0.01, 0.02, 0.3])
    assert scene.times.tolist() == [0, 0.5, 1]
    assert scene.points is None
    assert scene.info == {}
    # x right, y up, z backward at (2, 2, 2): in OpenCV's axes the world's origin is left, below and behind.
    np.testing.assert_allclose(scene.extrinsics[2] @ [0, 0, 0, 1], [-2, 2, 2])


def test_a_value_for_all_frames_goes_before_a_frame_s_own_as_in_nerfstudio(tmp_path):
    scene = read_scene(make_foreign_folder(tmp_path, {"fl_x": 20.0}, {"fl_x": 99.0, "fl_y": 21.0}))
    assert scene.intrinsics[0, 0, 0] == 20
    assert scene.intrinsics[0, 1, 1] == 21


def test_a_folder_with_an_angle_of_view_and_names_without_suffix_is_read(tmp_path):
    folder = make_foreign_folder(tmp_path, {"camera_angle_x": np.pi / 2}, {})
    edit_transforms(folder, lambda meta: [frame.update(file_path=frame["file_path"][:-4]) for frame in meta["frames"]])
    scene = read_scene(folder / "transforms.json")
    np.testing.assert_allclose(scene.intrinsics[0], [[24, 0, 24], [0, 24, 18], [0, 0, 1]])
    assert scene.image_paths[1].name == "1.png"


def test_times_that_fill_a_part_of_0_to_1_are_scaled_to_all_of_it_and_said(tmp_path):
    folder = make_foreign_folder(tmp_path, {"fl_x": 20}, {})
    edit_transforms(folder, lambda meta: [frame.update(time=0.01 + i / 40) for i, frame in enumerate(meta["frames"])])
    scene = read_scene(folder)
    np.testing.assert_allclose(scene.times, [0, 0.5, 1])
    assert "go from 0.01 to 0.06 (images/0.png to images/2.png)" in scene.notes[0]


def test_points_of_frames_that_were_taken_out_are_left_out_and_those_of_the_others_keep_their_frame(scene_folder):
    whole = read_scene(scene_folder)
    edit_transforms(scene_folder, lambda meta: meta["frames"].pop(0))
    scene = read_scene(scene_folder)
    own = whole.point_times > 0  # those of the first frame are at 0
    assert 0 < own.sum() < len(own)
    np.testing.assert_array_equal(scene.points, whole.points[own])
    np.testing.assert_array_equal(scene.point_motion, whole.point_motion[own])
    frames = [frames_at(each.point_times, each.times) for each in (scene, whole)]
    np.testing.assert_array_equal(frames[0] + 1, frames[1][own])
    np.testing.assert_allclose(scene.point_times, scene.times[frames[0]], atol=1e-6)
    assert f"{(~own).sum()} points are left out" in scene.notes[-1]


@pytest.mark.parametrize("step", [0.25, -0.25], ids=["in seconds", "backwards"])
def test_points_keep_their_frame_where_the_user_gives_frames_other_times(scene_folder, step):
    """Some of these are also times of the points."""
    whole = read_scene(scene_folder)
    edit_transforms(scene_folder, lambda meta: [frame.update(time=step * i) for i, frame in enumerate(meta["frames"])])
    scene = read_scene(scene_folder)
    np.testing.assert_array_equal(scene.points, whole.points)
    frames = [frames_at(each.point_times, each.times) for each in (scene, whole)]
    np.testing.assert_array_equal(*frames)
    np.testing.assert_allclose(scene.point_times, scene.times[frames[0]], atol=1e-6)


def test_points_of_removed_frames_are_left_out_where_the_others_have_other_times_too(scene_folder):
    whole = read_scene(scene_folder)

    def last_two(meta):
        meta["frames"] = meta["frames"][-2:]
        for i, frame in enumerate(meta["frames"]):
            frame["time"] = i  # 0 and 1, as the first and the last of the points have

    edit_transforms(scene_folder, last_two)
    scene = read_scene(scene_folder)
    own = frames_at(whole.point_times, whole.times) >= len(whole.times) - 2
    np.testing.assert_array_equal(scene.points, whole.points[own])


def test_times_of_points_that_are_those_of_no_frame_are_not_taken_for_theirs(tmp_path):
    """Of another program's cloud, as of a scanner's seconds since 1970."""
    folder = make_foreign_folder(tmp_path, {"fl_x": 20, "ply_file_path": "scan.ply"}, {})
    vertices = np.zeros(4, dtype=[(name, "f8") for name in ("x", "y", "z", "time")])
    vertices["time"] = 1.7e9 + np.arange(4)
    PlyData([PlyElement.describe(vertices, "vertex")]).write(str(folder / "scan.ply"))
    by_name = read_scene(folder)
    edit_transforms(folder, lambda meta: [frame.update(time=i / 2) for i, frame in enumerate(meta["frames"])])
    for scene in (by_name, read_scene(folder)):
        assert scene.point_times is None
        assert len(scene.points) == 4


def test_without_times_the_natural_order_of_names_is_time(tmp_path):
    """COLMAP lists its images in the order in which it registered them."""
    folder = make_foreign_folder(tmp_path, {"fl_x": 20}, {}, count=12)
    edit_transforms(folder, lambda meta: meta["frames"].sort(key=lambda frame: frame["file_path"]))  # 0, 1, 10, 11, 2
    scene = read_scene(folder)
    np.testing.assert_allclose(scene.times * 11, [int(path.stem) for path in scene.image_paths])


@pytest.mark.parametrize(
    ("kind", "values"), [("f4", (0.0, 0.5, 1.0)), ("f8", (0.0, 128.0, 255.0)), ("u2", (0, 32896, 65535))]
)
def test_colours_of_any_type_become_8_bits(tmp_path, kind, values):
    folder = make_foreign_folder(tmp_path, {"fl_x": 20, "ply_file_path": "sparse.ply"}, {})
    vertices = np.zeros(2, dtype=[(name, "f4") for name in "xyz"] + [(name, kind) for name in ("red", "green", "blue")])
    vertices["red"], vertices["green"], vertices["blue"] = values
    PlyData([PlyElement.describe(vertices, "vertex")]).write(str(folder / "sparse.ply"))
    assert read_scene(folder).point_colors.tolist() == [[0, 128, 255]] * 2


def test_a_point_cloud_without_colours_is_gray(tmp_path):
    folder = make_foreign_folder(tmp_path, {"fl_x": 20, "ply_file_path": "sparse.ply"}, {})
    vertices = np.zeros(2, dtype=[("x", "f8"), ("y", "f8"), ("z", "f8")])
    PlyData([PlyElement.describe(vertices, "vertex")], text=True).write(str(folder / "sparse.ply"))
    scene = read_scene(folder)
    assert scene.point_colors.tolist() == [[128, 128, 128]] * 2
    assert scene.point_times is None


def test_backslashes_in_paths_separate_folders_where_no_file_has_them_in_its_name(tmp_path):
    meta = {"fl_x": 20, "ply_file_path": r"points\sparse.ply", "train_filenames": ["images/0.png", r"images\1.png"]}
    folder = make_foreign_folder(tmp_path, meta, {"mask_path": r"images\0.png"})
    edit_transforms(folder, lambda meta: meta["frames"][1].update(file_path=r"images\1.png"))
    edit_transforms(folder, lambda meta: meta["frames"][2].update(file_path=r"odd\2.png"))
    (folder / "images" / "2.png").rename(folder / r"odd\2.png")
    (folder / "points").mkdir()
    vertices = np.zeros(2, dtype=[("x", "f4"), ("y", "f4"), ("z", "f4")])
    PlyData([PlyElement.describe(vertices, "vertex")]).write(str(folder / "points" / "sparse.ply"))
    scene = read_scene(folder)
    assert scene.image_paths == [folder / "images" / "0.png", folder / "images" / "1.png", folder / r"odd\2.png"]
    assert scene.splits["train"].tolist() == [0, 1]
    assert scene.use_paths == [folder / "images" / "0.png"] * 3
    assert scene.points is not None


def test_sources_belong_to_the_frames_that_transforms_json_still_has(scene_folder):
    edit_transforms(scene_folder, lambda meta: meta["frames"].pop(0))
    scene = read_scene(scene_folder)
    assert [frame["source"] for frame in scene.info["frames"][:2]] == ["shot 1", "shot 2"]


# ---------------------------------------------------------------------------------------------------------------
# Damage


def frame(**changes):
    return lambda meta: meta["frames"][1].update(changes)


def pose(row, column, value):
    def edit(meta):
        meta["frames"][1]["transform_matrix"][row][column] = value

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda meta: meta.update(frames=[]), "at frames: it should have at least 1 item, not 0"),
        (lambda meta: meta.pop("frames"), "transforms.json lacks frames"),
        (lambda meta: meta["frames"][1].pop("file_path"), "lacks frames.1.file_path"),
        (lambda meta: meta["frames"].append(3), "at frames.11: it should be an object, got 3"),
        (lambda meta: meta["frames"][1].pop("transform_matrix"), "lacks frames.1.transform_matrix"),
        (
            frame(transform_matrix=[[1, 2], [3, 4]]),
            r"frames.1.transform_matrix.0: it should have at least 4 items, not 2, got \[1, 2\]",
        ),
        (frame(transform_matrix="x"), "frames.1.transform_matrix: it should be a valid array, got 'x'"),
        (pose(0, 3, float("nan")), "frames.1.transform_matrix.0.3: it should be a finite number, got nan"),
        (pose(0, 0, None), "frames.1.transform_matrix.0.0: it should be a valid number, got null"),
        (pose(0, 0, 7.0), "does not hold a rotation"),
        (frame(fl_x=float("inf")), "frames.1.fl_x: it should be a finite number, got inf"),
        (frame(fl_x=0), "frames.1.fl_x: it should be greater than 0"),
        (lambda meta: meta["frames"][1].pop("fl_x"), "no focal length"),
        (frame(w=99), "frame_00002.png is 48 x 36, but .* says 99 x 36"),
        (frame(k4=0.1), "fourth radial term"),
        (lambda meta: meta["frames"][1].pop("time"), "the time of 10 of its 11 frames"),
        (frame(time=float("nan")), "frames.1.time: it should be a finite number, got nan"),
        (lambda meta: meta.update(camera_model="EQUIRECTANGULAR"), "'EQUIRECTANGULAR'; undistort"),
        (frame(file_path="images/gone.png"), "gone.png is missing"),
        (frame(file_path="images/" + "x" * 5000), "frames.1.file_path: it should have at most 4096"),
        (frame(file_path="images/" + "x" * 300), "xxx.png is missing"),
        (frame(file_path="images/a\0.png"), r"frames.1.file_path: it should match pattern .*, got .images/a\\x00"),
        (frame(mask_path="x" * 300), "there is no such file"),
        (frame(fl_x=10**400), "frames.1.fl_x: it should be a finite number"),
        (frame(fl_x=True), "frames.1.fl_x: it should be a valid number"),
        (frame(w=10**30), "frames.1.w: it should be less than"),
        (pose(0, 3, 1e300), "frames.1.transform_matrix.0.3: it should be less than"),
        (frame(time=10**400), "frames.1.time: it should be a finite number"),
        (frame(time=-1e308), "frames.1.time: it should be greater than"),
        (frame(time=[0.5]), "frames.1.time: it should be a valid number"),
        (lambda meta: meta.update(ply_file_path=7), "ply_file_path: it should be a valid string"),
        (lambda meta: meta.update(camera_model=["PINHOLE"]), "camera_model: it should be a valid string"),
        (lambda meta: meta.update(ply_file_path="gone.ply"), "point cloud .*gone.ply is missing"),
    ],
)
def test_a_damaged_transforms_file_is_refused_by_what_is_wrong_in_it(scene_folder, edit, message):
    edit_transforms(scene_folder, edit)
    with pytest.raises(SceneError, match=message):
        read_scene(scene_folder)


def huge_png():
    """The header of an image of 100,000 x 100,000 pixels."""
    file = io.BytesIO()
    Image.new("RGB", (1, 1)).save(file, "png")
    header = b"IHDR" + struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    data = file.getvalue()
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]


PLY = b"""ply
format ascii 1.0
element vertex 1
property float x
property float y
property float z
end_header
"""


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("transforms.json", None, "is no scene: it has no transforms.json"),
        ("transforms.json", b"{", "cannot be read as JSON"),
        ("transforms.json", b"\xff\xfe", "cannot be read as JSON"),
        ("transforms.json", b"[]", r"it should be an object, got \[\]"),
        ("page4d/info.json", b"{,", "info.json cannot be read as JSON"),
        ("transforms.json", b"[" * 100_000, "cannot be read as JSON"),
        ("page4d/info.json", b'{"format": 9}', "format 9.*update page4d"),
        ("page4d/info.json", b"null", "should be an object, got null"),
        ("page4d/info.json", b'{"format": "1"}', "at format: it should be a valid integer"),
        ("page4d/info.json", b'{"frames": {}}', "at frames: it should be a valid array"),
        ("page4d/info.json", b'{"frames": [{"image": "x"}]}', "lacks frames.0.source"),
        ("page4d/info.json", b'{"frames": [{"image": "x", "source": "y"}]}', "does not say where .*frame_00001.png"),
        ("images/frame_00003.png", None, "frame_00003.png is missing"),
        ("images/frame_00003.png", b"", "Cannot read the image .*frame_00003.png"),
        ("points.ply", b"ply\nformat", "Cannot read the point cloud"),
        ("images/frame_00003.png", huge_png(), "Cannot read the image .*frame_00003.png.* decompression bomb"),
        ("points.ply", b"", "Cannot read the point cloud"),
        ("points.ply", PLY.replace(b"element vertex 1", b"element vertex 9" + b"9" * 30), "Cannot read the point"),
        ("points.ply", PLY.replace(b"float x", b"list uchar float x") + b"2 1 1 1 1", "Cannot read the point cloud"),
        ("page4d/depth/frame_00003.npy", None, "lacks .*depth/frame_00003.npy"),
        ("page4d/motion/frame_00003.npy", None, "lacks .*page4d/motion/frame_00003.npy"),
    ],
)
def test_a_missing_or_broken_file_of_a_scene_is_named(scene_folder, name, content, message):
    path = scene_folder / name
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(SceneError, match=message):
        read_scene(scene_folder)


@pytest.mark.parametrize(
    ("name", "told"),
    [("points", "position"), ("point_times", "time"), ("point_motion", "motion"), ("point_confidence", "conf")],
)
def test_points_that_are_not_finite_are_refused(tmp_path, name, told):
    reconstruction = make_reconstruction()
    getattr(reconstruction, name)[3] = np.nan
    folder = write_scene(tmp_path / "scene", reconstruction)
    with pytest.raises(SceneError, match=f"points whose {told}.* is not finite"):
        read_scene(folder)


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npz(array):
    file = io.BytesIO()
    np.savez(file, array)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"Cannot read .*frame_00003\.npy"),
        (b"garbage", r"Cannot read .*frame_00003\.npy"),
        (npz(np.zeros((2, 2))), "Cannot read"),
        (npy(np.zeros((4, 6), np.float32)).replace(b"(4, 6), }", b"(4, 6, ( "), "Cannot read"),
        (npy(np.zeros((4, 6), np.float32)).replace(b"(4, 6)", b"(4" + b"0" * 17 + b", 6)"), "Cannot read"),
        (npy(np.zeros((4, 6), np.float32)).replace(b"'<f4'", b"'<i4'"), "Expected a map .*frame_00003.npy, got int32"),
        (npy(np.zeros(24, np.float32)), r"Expected a map .*frame_00003.npy, .* shape \(24,\)"),
    ],
)
def test_a_broken_map_is_named_when_it_is_loaded(scene_folder, content, message):
    scene = read_scene(scene_folder)
    (scene_folder / "page4d" / "depth" / "frame_00003.npy").write_bytes(content)
    with pytest.raises(SceneError, match=message):
        scene.load_depth(2)


@pytest.mark.parametrize("kind", ["confidence", "motion"])
def test_a_map_of_another_shape_than_the_depth_is_named(scene_folder, kind):
    path = scene_folder / "page4d" / kind / "frame_00003.npy"
    path.write_bytes(npy(np.ones((3, 4), np.float32)))
    with pytest.raises(SceneError, match=rf"Expected a map of the depth's shape .* in .*{kind}.*, got \(3, 4\)"):
        getattr(read_scene(scene_folder), f"load_{kind}")(2)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(SceneError, match="No such folder"):
        read_scene(tmp_path / "absent")


def test_of_the_files_of_a_scene_only_transforms_json_stands_for_it(scene_folder):
    assert len(read_scene(scene_folder / "transforms.json")) == NUM_FRAMES
    shutil.copy(scene_folder / "transforms.json", scene_folder / "transforms_train.json")
    for name in ("points.ply", "transforms_train.json"):
        with pytest.raises(SceneError, match=f"or its transforms.json, got the file .*{name}"):
            read_scene(scene_folder / name)


def test_a_scene_that_was_moved_is_still_whole(scene_folder, tmp_path):
    shutil.move(scene_folder, tmp_path / "elsewhere")
    assert len(read_scene(tmp_path / "elsewhere")) == NUM_FRAMES


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # NumPy's and Pillow's words about what is damaged
def test_a_damaged_scene_is_read_or_refused_in_a_sentence(scene_folder):
    """Whatever is in the files: no other exception, and no number that is not finite."""

    def first_two(meta):
        meta["frames"] = meta["frames"][:2]
        meta["train_filenames"] = [frame["file_path"] for frame in meta["frames"]]

    def read():
        scene = read_scene(scene_folder)
        scene.load_depth(0)
        for name in ("extrinsics", "intrinsics", "distortion", "times", "points"):
            values = getattr(scene, name)
            assert values is None or np.isfinite(values).all(), name

    edit_transforms(scene_folder, first_two)
    names = ("transforms.json", "page4d/info.json", "points.ply", "page4d/depth/frame_00001.npy")
    check_reader(read, [scene_folder / name for name in names], rounds=600)
