"""Exports, each read back by the library of its format: a known pixel lands where it was."""

import json
import shutil
import tracemalloc

import numpy as np
import pycolmap
import pytest
import trimesh
from PIL import Image
from plyfile import PlyData
from small_scene import FOCAL, PRINCIPAL, SIZE, ball_folder, grid_pixels, projected

from page4d_hf import cli
from page4d_hf.captures.image_files import read_image_mask
from page4d_hf.captures.pinhole import distort
from page4d_hf.errors import Page4DError, SceneError
from page4d_hf.scene import read_scene
from page4d_hf.scene.export import FOLDERS, export_scene
from page4d_hf.scene.folder import frames_at

FORMATS = ("colmap", "glb", "ply", "npz", "nerfstudio", "html")
Y_DOWN = np.diag([1.0, -1.0, -1.0])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return ball_folder(tmp_path_factory.mktemp("ball") / "scene")


@pytest.fixture(scope="module")
def scene(folder):
    return read_scene(folder)


def edited(folder, target, edit):
    """A scene folder of another program, as it were: cameras and points alone, after an edit of transforms.json."""
    export_scene(read_scene(folder), target, "nerfstudio")
    path = target / "transforms.json"
    meta = json.loads(path.read_text())
    edit(meta)
    path.write_text(json.dumps(meta))
    return read_scene(target)


# ---------------------------------------------------------------------------------------------------------------
# COLMAP


@pytest.fixture(scope="module")
def model(scene, tmp_path_factory):
    target = tmp_path_factory.mktemp("colmap") / "model"
    export_scene(scene, target, "colmap")
    return target, pycolmap.Reconstruction(str(target / "sparse" / "0"))


def test_a_colmap_camera_projects_each_point_to_the_pixel_that_it_was_lifted_from(scene, model):
    _, colmap = model
    for i, path in enumerate(scene.image_paths):
        pixels, points = grid_pixels(i, scene)
        image = colmap.find_image_with_name(path.name)
        found = np.array([image.project_point(point) for point in points.astype(np.float64)])
        np.testing.assert_allclose(found, pixels, atol=1e-3)


def test_frames_of_one_lens_share_a_pinhole_of_the_images_size(scene, model):
    target, colmap = model
    (camera,) = colmap.cameras.values()
    assert (camera.model_name, camera.width, camera.height) == ("PINHOLE", *SIZE)
    np.testing.assert_allclose(camera.params, [*FOCAL, *PRINCIPAL])
    for path in scene.image_paths:
        assert (target / "images" / path.name).read_bytes() == path.read_bytes()


def test_colmap_tracks_are_those_of_the_scene_that_two_frames_see(scene, model):
    _, colmap = model
    tracks = scene.load_tracks()
    used = tracks.visible.sum(axis=1) >= 2
    points = [point for point in colmap.points3D.values() if point.track.length()]
    assert len(points) == used.sum() > 20
    assert colmap.compute_num_observations() == tracks.visible[used].sum()
    for point in points:
        for element in point.track.elements:
            image = colmap.image(element.image_id)
            np.testing.assert_allclose(
                image.project_point(point.xyz), image.points2D[element.point2D_idx].xy, atol=1e-3
            )
        assert 0 <= point.error < 1e-3


def test_points_of_depth_keep_their_colours_and_have_no_track(scene, model):
    _, colmap = model
    free = [point for _, point in sorted(colmap.points3D.items()) if not point.track.length()]
    np.testing.assert_allclose([point.xyz for point in free], scene.points)
    np.testing.assert_array_equal([point.color for point in free], scene.point_colors)


def test_tracks_have_the_colour_of_the_image_that_first_sees_them(scene, model):
    _, colmap = model
    images = [np.asarray(Image.open(path)) for path in scene.image_paths]
    for point in colmap.points3D.values():
        if point.track.length():
            first = min(point.track.elements, key=lambda element: element.image_id)
            x, y = np.floor(colmap.image(first.image_id).points2D[first.point2D_idx].xy).astype(int)
            np.testing.assert_array_equal(point.color, images[first.image_id - 1][y, x])


@pytest.mark.parametrize(
    ("coefficients", "name"), [({"k1": 0.1, "p2": -0.01}, "OPENCV"), ({"k1": 0.1, "k3": 0.02}, "FULL_OPENCV")]
)
def test_lens_distortion_becomes_the_simplest_of_colmaps_models_that_holds_it(folder, tmp_path, coefficients, name):
    scene = edited(folder, tmp_path / "bent", lambda meta: meta.update(coefficients))
    export_scene(scene, tmp_path / "model", "colmap")
    (camera,) = pycolmap.Reconstruction(str(tmp_path / "model" / "sparse" / "0")).cameras.values()
    assert camera.model_name == name
    # Where OpenCV's formula puts a ray, from the coefficients alone.
    x, y = 0.2, -0.3
    k1, k3, p2 = (coefficients.get(key, 0) for key in ("k1", "k3", "p2"))
    r = x * x + y * y
    radial = 1 + k1 * r + k3 * r**3
    bent = np.array([x * radial + p2 * (r + 2 * x * x), y * radial + 2 * p2 * x * y])
    np.testing.assert_allclose(camera.img_from_cam(np.array([x, y, 1.0])), bent * FOCAL + PRINCIPAL, atol=1e-9)


FISHEYE = {"camera_model": "OPENCV_FISHEYE", "k1": 0.1, "k2": -0.02, "k3": 0.01, "k4": 0.005}


def test_a_fisheye_is_one_in_a_colmap_model(folder, tmp_path):
    scene = edited(folder, tmp_path / "bent", lambda meta: meta.update(FISHEYE))
    export_scene(scene, tmp_path / "model", "colmap")
    (camera,) = pycolmap.Reconstruction(str(tmp_path / "model" / "sparse" / "0")).cameras.values()
    assert camera.model_name == "OPENCV_FISHEYE"
    rays = np.array([[0.2, -0.3], [0.5, 0.1]])
    found = [camera.img_from_cam(np.array([*ray, 1.0])) for ray in rays]
    np.testing.assert_allclose(found, distort(rays, scene.distortion[0], True) * FOCAL + PRINCIPAL, atol=1e-9)


@pytest.mark.parametrize("coefficients", [FISHEYE, {"camera_model": "OPENCV_FISHEYE"}])
def test_a_fisheye_is_one_in_a_nerfstudio_folder_and_in_arrays(folder, tmp_path, coefficients):
    scene = edited(folder, tmp_path / "bent", lambda meta: meta.update(coefficients))
    export_scene(scene, tmp_path / "again", "nerfstudio")
    read = read_scene(tmp_path / "again")
    assert read.fisheye is not None
    assert read.fisheye.all()
    np.testing.assert_array_equal(read.distortion, scene.distortion)
    export_scene(scene, tmp_path / "arrays.npz", "npz")
    with np.load(tmp_path / "arrays.npz") as arrays:
        assert arrays["fisheye"].all()
        np.testing.assert_array_equal(arrays["distortion"], scene.distortion)


def test_stock_nerfstudio_reads_the_colmap_folder(scene, model):
    """Its `colmap` dataparser, without its own turn and scale of the world."""
    parsers = pytest.importorskip("nerfstudio.data.dataparsers.colmap_dataparser")
    target, _ = model
    config = parsers.ColmapDataParserConfig(
        data=target,
        colmap_path="sparse/0",
        downscale_factor=1,
        orientation_method="none",
        center_method="none",
        auto_scale_poses=False,
        assume_colmap_world_coordinate_convention=False,
        eval_mode="all",
    )
    outputs = config.setup().get_dataparser_outputs("train")
    cameras = outputs.cameras
    assert [path.name for path in outputs.image_filenames] == [path.name for path in scene.image_paths]
    stored = outputs.metadata["points3D_xyz"].numpy()
    for i in range(len(scene)):
        pixels, points = grid_pixels(i, scene)
        # Each of the frame's points is among those that nerfstudio has.
        nearest = stored[np.linalg.norm(stored[None] - points[:, None], axis=2).argmin(axis=1)]
        to_world = cameras.camera_to_worlds[i].numpy().astype(np.float64)
        seen = (nearest - to_world[:, 3]) @ to_world[:, :3] * [1, -1, -1]
        focal = [cameras.fx[i].item(), cameras.fy[i].item()]
        centre = [cameras.cx[i].item(), cameras.cy[i].item()]
        np.testing.assert_allclose(seen[:, :2] / seen[:, 2:] * focal + centre, pixels, atol=1e-2)


# ---------------------------------------------------------------------------------------------------------------
# The other formats


def test_glb_has_a_node_for_each_frame_with_y_up(scene, tmp_path):
    export_scene(scene, tmp_path / "scene.glb", "glb")
    read = trimesh.load_scene(tmp_path / "scene.glb")
    assert set(read.graph.nodes_geometry) == {
        f"{kind}_{i + 1:05d}" for kind in ("points", "camera") for i in range(len(scene))
    }
    for i in range(len(scene)):
        pixels, points = grid_pixels(i, scene)
        transform, name = read.graph[f"points_{i + 1:05d}"]
        cloud = trimesh.transform_points(read.geometry[name].vertices, transform) @ Y_DOWN
        np.testing.assert_allclose(cloud, points, atol=1e-5)
        np.testing.assert_allclose(projected(cloud, scene.extrinsics[i], scene.intrinsics[i]), pixels, atol=1e-2)


def test_colours_of_a_glb_are_linear_and_of_many_levels_as_gltf_has_them(scene, tmp_path):
    """By sRGB's curve they are those of the points; viewers such as three.js show sRGB bytes too bright."""
    export_scene(scene, tmp_path / "scene.glb", "glb")
    content = (tmp_path / "scene.glb").read_bytes()
    length = int.from_bytes(content[12:16], "little")
    meta, data = json.loads(content[20 : 20 + length]), content[28 + length :]
    meshes = {mesh["name"]: mesh["primitives"][0]["attributes"] for mesh in meta["meshes"]}
    for i in range(len(scene)):
        accessor = meta["accessors"][meshes[f"points_{i + 1:05d}"]["COLOR_0"]]
        assert (accessor["componentType"], accessor["type"], accessor.get("normalized", False)) == (5126, "VEC3", False)
        start = meta["bufferViews"][accessor["bufferView"]]["byteOffset"]
        linear = np.frombuffer(data, "<f4", 3 * accessor["count"], start).reshape(-1, 3).astype(np.float64)
        shown = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
        own = np.isclose(scene.point_times, scene.times[i])
        np.testing.assert_allclose(255 * shown, scene.point_colors[own], atol=0.01)


def test_glb_frustums_start_at_the_cameras_centre_and_end_at_its_images_corners(scene, tmp_path):
    export_scene(scene, tmp_path / "scene.glb", "glb")
    read = trimesh.load_scene(tmp_path / "scene.glb")
    for i in range(len(scene)):
        transform, name = read.graph[f"camera_{i + 1:05d}"]
        places = np.unique(np.round(trimesh.transform_points(read.geometry[name].vertices, transform), 6), axis=0)
        seen = places @ Y_DOWN @ scene.extrinsics[i, :, :3].T + scene.extrinsics[i, :, 3]
        at_centre = np.linalg.norm(seen, axis=1) < 1e-5
        assert at_centre.sum() == 1
        pixels = seen[~at_centre] @ scene.intrinsics[i].T
        corners = np.unique(np.round(pixels[:, :2] / pixels[:, 2:], 2) + 0.0, axis=0)
        np.testing.assert_allclose(corners, [[0, 0], [0, SIZE[1]], [SIZE[0], 0], list(SIZE)], atol=1e-2)


def test_points_of_a_long_clip_find_their_frames_without_a_table_of_all_of_both():
    rng = np.random.default_rng(0)
    of_frames = np.repeat(rng.permutation(200) / 199, 2)  # of two cameras
    times = of_frames[rng.integers(len(of_frames), size=20_000)].astype(np.float32)
    tracemalloc.start()
    frames = frames_at(times, of_frames)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(frames, np.abs(times[:, None] - of_frames).argmin(axis=1))
    assert peak < 2**21  # bytes, of 2**26 of the table


def test_ply_holds_the_points_with_what_is_known_of_them(scene, tmp_path):
    export_scene(scene, tmp_path / "scene.ply", "ply")
    vertices = PlyData.read(str(tmp_path / "scene.ply"))["vertex"]
    np.testing.assert_array_equal(np.stack([vertices[axis] for axis in "xyz"], axis=-1), scene.points)
    np.testing.assert_array_equal(vertices["motion"], scene.point_motion)
    np.testing.assert_array_equal(vertices["time"], scene.point_times)


def test_npz_depth_lifts_by_the_intrinsics_of_its_maps_to_the_points(scene, tmp_path):
    export_scene(scene, tmp_path / "scene.npz", "npz")
    with np.load(tmp_path / "scene.npz") as arrays:
        for i in range(len(scene)):
            pixels, points = grid_pixels(i, scene)
            width, height = arrays["map_sizes"][i]
            x, y = np.floor(pixels / SIZE * [width, height]).astype(int).T
            z = arrays["depth"][i, y, x]
            rays = np.stack((x + 0.5, y + 0.5, np.ones(len(x))), axis=1) @ np.linalg.inv(arrays["map_intrinsics"][i]).T
            pose = arrays["extrinsics"][i]
            np.testing.assert_allclose((rays * z[:, None] - pose[:, 3]) @ pose[:, :3], points, atol=1e-4)
        np.testing.assert_array_equal(arrays["track_visible"], scene.load_tracks().visible)
        assert arrays["scale"] == "arbitrary"


def test_npz_fills_up_maps_of_smaller_images_with_nan(tmp_path):
    maps = {name: [np.ones((3, 2 + i), np.float32) for i in range(4)] for name in ("depth", "depth_conf", "motion")}
    scene = read_scene(ball_folder(tmp_path / "scene", **maps))
    export_scene(scene, tmp_path / "scene.npz", "npz")
    with np.load(tmp_path / "scene.npz") as arrays:
        assert arrays["depth"].shape == (4, 3, 5)
        assert np.isnan(arrays["depth"][1]).any(axis=0).tolist() == [False, False, False, True, True]
        assert arrays["map_sizes"].tolist() == [[2, 3], [3, 3], [4, 3], [5, 3]]
        smaller = arrays["map_sizes"][:, :, None] / arrays["image_sizes"][:, :, None]
        np.testing.assert_allclose(arrays["map_intrinsics"][:, :2], smaller * scene.intrinsics[:, :2])


def test_a_nerfstudio_folder_reads_back_as_the_scene(scene, tmp_path):
    export_scene(scene, tmp_path / "scene", "nerfstudio")
    read = read_scene(tmp_path / "scene")
    for name in ("extrinsics", "intrinsics", "image_sizes", "times", "points", "point_motion"):
        np.testing.assert_allclose(getattr(read, name), getattr(scene, name), atol=1e-12)
    assert not read.info  # no maps, nothing that only page4d reads


def test_a_nerfstudio_folder_keeps_distortion_splits_and_masks(folder, tmp_path):
    mask = np.full(SIZE[::-1], 255, np.uint8)
    mask[:10] = 0

    def edit(meta):
        names = [frame["file_path"] for frame in meta["frames"]]
        meta.update(k1=0.1, p1=0.01, train_filenames=names[:3], test_filenames=names[3:])
        meta["frames"][1]["mask_path"] = "mask.png"
        Image.fromarray(mask).save(tmp_path / "given" / "mask.png")

    scene = edited(folder, tmp_path / "given", edit)
    export_scene(scene, tmp_path / "again", "nerfstudio")
    read = read_scene(tmp_path / "again")
    np.testing.assert_allclose(read.distortion, scene.distortion)
    assert {name: split.tolist() for name, split in read.splits.items()} == {"train": [0, 1, 2], "test": [3]}
    np.testing.assert_array_equal(np.asarray(Image.open(read.use_paths[1])), mask)
    assert np.asarray(Image.open(read.use_paths[0])).min() == 255


@pytest.mark.parametrize("mode", ["P", "L", "RGB", "LA"])
def test_an_exported_mask_shows_what_training_is_shown(mode, folder, tmp_path):
    """Of a palette of colours too dark to tell apart, too: its index counts, as in nerfstudio."""
    kept = np.zeros(SIZE[::-1], np.uint8)
    kept[:, :5] = 1
    mask = Image.fromarray(kept, "P")
    mask.putpalette([0, 0, 0, 0, 0, 1] + 254 * [9, 9, 9])

    def edit(meta):
        meta["frames"][1]["mask_path"] = "mask.png"
        (mask if mode == "P" else Image.fromarray(kept).convert(mode)).save(tmp_path / "given" / "mask.png")

    scene = edited(folder, tmp_path / "given", edit)
    export_scene(scene, tmp_path / "again", "nerfstudio")
    with Image.open(read_scene(tmp_path / "again").use_paths[1]) as written:
        np.testing.assert_array_equal(np.asarray(written) > 0, read_image_mask(tmp_path / "given" / "mask.png"))
        np.testing.assert_array_equal(np.asarray(written), 255 * kept)


# ---------------------------------------------------------------------------------------------------------------
# Fewer points


@pytest.mark.parametrize("format", FORMATS)
def test_static_only_leaves_out_what_moves(scene, tmp_path, format):
    made = export_scene(scene, tmp_path / f"out.{format}", format, static_only=True)
    still = int((scene.point_motion == 0).sum())
    assert 0 < still < len(scene.points)
    assert made.points - made.tracks * (format == "colmap") == still


@pytest.mark.parametrize("format", FOLDERS)
def test_static_only_masks_the_moving_pixels_of_each_image(scene, tmp_path, format):
    export_scene(scene, tmp_path / "out", format, static_only=True)
    for i, path in enumerate(scene.image_paths):
        mask = np.asarray(Image.open(tmp_path / "out" / "masks" / f"{path.stem}.png"))
        np.testing.assert_array_equal(mask == 0, scene.load_motion(i) == 1)


@pytest.mark.parametrize("format", FORMATS)
def test_max_points_limits_the_points_and_spreads_them_over_all_frames(scene, tmp_path, format):
    assert export_scene(scene, tmp_path / f"out.{format}", format, max_points=100).points == 100
    if format == "ply":
        times = PlyData.read(str(tmp_path / "out.ply"))["vertex"]["time"]
        assert len(np.unique(times)) == len(scene)


def test_tracks_come_first_where_points_are_limited(scene, tmp_path):
    made = export_scene(scene, tmp_path / "out", "colmap", max_points=10)
    assert (made.points, made.tracks) == (10, 10)


# ---------------------------------------------------------------------------------------------------------------
# Bad input


@pytest.fixture
def without_points(folder, tmp_path):
    return edited(folder, tmp_path / "bare", lambda meta: meta.pop("ply_file_path"))


@pytest.mark.parametrize("format", [name for name in FORMATS if name not in ("ply", "html")])
def test_a_scene_without_points_gives_its_cameras(without_points, tmp_path, format):
    made = export_scene(without_points, tmp_path / f"out.{format}", format)
    assert made.points == 0
    assert (tmp_path / f"out.{format}").exists()


@pytest.mark.parametrize("format", ["ply", "html"])
def test_a_scene_without_points_makes_no_file_of_points(without_points, tmp_path, format):
    with pytest.raises(SceneError, match="has no points to write"):
        export_scene(without_points, tmp_path / f"out.{format}", format)
    assert not (tmp_path / f"out.{format}").exists()


def test_static_only_needs_to_know_what_moves(without_points, tmp_path):
    with pytest.raises(SceneError, match=r"does not say what moves.*--static-only"):
        export_scene(without_points, tmp_path / "out.glb", "glb", static_only=True)


def test_a_scene_of_one_frame_is_written(tmp_path):
    scene = read_scene(ball_folder(tmp_path / "scene", count=1))
    for format in FORMATS:
        export_scene(scene, tmp_path / f"out.{format}", format)
    assert pycolmap.Reconstruction(str(tmp_path / "out.colmap" / "sparse" / "0")).num_images() == 1


@pytest.mark.parametrize("format", FORMATS)
def test_an_output_that_exists_is_kept_unless_it_may_be_replaced(scene, tmp_path, format):
    target = tmp_path / f"out.{format}"
    export_scene(scene, target, format)
    with pytest.raises(Page4DError, match="--overwrite"):
        export_scene(scene, target, format)
    export_scene(scene, target, format, overwrite=True)


@pytest.mark.parametrize(
    ("options", "expected"), [({"max_points": 0}, "at least 1 point, got 0"), ({"format": "obj"}, "got 'obj'")]
)
def test_options_out_of_range_are_refused_before_anything_is_written(scene, tmp_path, options, expected):
    with pytest.raises(SceneError, match=expected):
        export_scene(scene, tmp_path / "out", **{"format": "glb", **options})
    assert not list(tmp_path.iterdir())


def test_images_of_several_folders_with_one_name_keep_apart(folder, tmp_path):
    def edit(meta):
        for i, frame in enumerate(meta["frames"]):
            (tmp_path / "cams" / str(i)).mkdir(parents=True)
            (tmp_path / "cams" / frame["file_path"]).rename(tmp_path / "cams" / str(i) / "image.png")
            frame["file_path"] = f"{i}/image.png"

    scene = edited(folder, tmp_path / "cams", edit)
    export_scene(scene, tmp_path / "out", "colmap")
    model = pycolmap.Reconstruction(str(tmp_path / "out" / "sparse" / "0"))
    for i, path in enumerate(scene.image_paths):
        name = model.image(i + 1).name
        assert (tmp_path / "out" / "images" / name).read_bytes() == path.read_bytes()


def test_the_command_does_not_replace_the_scene_that_it_reads(folder, capsys):
    before = sorted(folder.rglob("*"))
    with pytest.raises(SystemExit):
        cli.main(["export", str(folder), "--format", "nerfstudio", "--output", str(folder), "--overwrite"])
    assert "is or holds what is read" in capsys.readouterr().err
    assert sorted(folder.rglob("*")) == before


def test_the_command_does_not_replace_a_file_of_the_scene_that_it_reads(folder, capsys):
    points = (folder / "points.ply").read_bytes()
    with pytest.raises(SystemExit):
        cli.main(["export", str(folder), "--format", "ply", "--output", str(folder / "points.ply"), "--overwrite"])
    assert "points.ply is a file of what is read" in capsys.readouterr().err
    assert (folder / "points.ply").read_bytes() == points


def test_the_command_names_its_output_after_the_scene_and_says_what_comes_next(folder, tmp_path, capsys):
    folder = shutil.copytree(folder, tmp_path / "my scene")
    cli.main(["export", str(folder), "--format", "colmap", "--static-only"])
    told = capsys.readouterr().out
    target = folder.parent / "my scene-colmap"
    assert f"Wrote {target}" in told
    assert f"ns-train splatfacto --data '{target}' colmap --colmap-path sparse/0 --masks-path masks" in told
    cli.main(["export", str(folder), "--format", "nerfstudio"])
    assert f"ns-train splatfacto --data '{folder.parent / 'my scene-nerfstudio'}'\n" in capsys.readouterr().out
    cli.main(["export", str(folder), "--format", "glb"])
    assert (folder.parent / "my scene.glb").is_file()


@pytest.mark.slow
def test_the_command_after_a_camera_that_was_held_still_is_one_that_nerfstudio_can_run(folder, tmp_path, capsys):
    from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig

    def hold(meta):
        for frame in meta["frames"]:
            frame["transform_matrix"] = meta["frames"][0]["transform_matrix"]

    edited(folder, tmp_path / "held", hold)
    for format, reader in (("nerfstudio", "nerfstudio-data"), ("colmap", "colmap --colmap-path sparse/0")):
        cli.main(["export", str(tmp_path / "held"), "--format", format])
        assert f"held-{format} {reader} --auto-scale-poses False\n" in capsys.readouterr().out
    config = NerfstudioDataParserConfig(
        data=tmp_path / "held-nerfstudio", auto_scale_poses=False, load_3D_points=False, eval_mode="all"
    )
    poses = config.setup().get_dataparser_outputs("train").cameras.camera_to_worlds  # by default: ZeroDivisionError
    assert len(poses) == len(read_scene(folder))
    assert poses.isfinite().all()


@pytest.mark.parametrize("format", ["npz", "colmap"])
def test_the_output_stands_beside_the_scene_that_the_command_is_started_in(folder, tmp_path, monkeypatch, format):
    folder = shutil.copytree(folder, tmp_path / "scene")
    before = sorted(folder.rglob("*"))
    monkeypatch.chdir(folder)
    cli.main(["export", ".", "--format", format])
    assert (tmp_path / {"npz": "scene.npz", "colmap": "scene-colmap"}[format]).exists()
    assert sorted(folder.rglob("*")) == before
