"""Camera paths with a time for each frame: where the cameras are, when, and that nerfstudio reads them so."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from nerfstudio.cameras.camera_paths import get_path_from_json
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.datamanagers.full_images_datamanager import _undistort_image
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from scipy.spatial.transform import Rotation
from small_captures import SIZE, write_capture
from small_layouts import HEIGHT, WIDTH, write_nerfstudio

from page4d_hf import cli
from page4d_hf.errors import Page4DError
from page4d_nerfstudio.commands import camera_path
from page4d_nerfstudio.configs import page4d_4dgs
from page4d_nerfstudio.viewing.camera_paths import CameraPathError, Views, along, circle, make_path, read_views


def some_views(count: int = 5, seed: int = 0) -> Views:
    """Views from z = 4 towards a cloud around the origin, turned a little each, at uneven times."""
    rng = np.random.default_rng(seed)
    poses = np.zeros((count, 3, 4))
    poses[:, :, :3] = Rotation.from_rotvec(rng.normal(scale=0.1, size=(count, 3))).as_matrix()
    poses[:, :, 3] = rng.normal(scale=0.2, size=(count, 3)) + np.array([0, 0, 4])
    times = np.concatenate([[0.0], np.sort(rng.uniform(size=count - 2)), [1.0]])
    return Views(
        poses, times, np.full(count, 40.0), np.tile([32, 24], (count, 1)), rng.normal(scale=0.3, size=(200, 3))
    )


def outputs_of(
    width: int, height: int, fx: float, fy: float, count: int = 2, points=None, **options
) -> DataparserOutputs:
    """Cameras in one place whose principal points are in the middle, and seed points."""
    poses = torch.eye(4)[None, :3].repeat(count, 1, 1)
    cameras = Cameras(poses, fx, fy, width / 2, height / 2, width=width, height=height, **options)
    return DataparserOutputs([], cameras, metadata={} if points is None else {"points3D_xyz": torch.tensor(points)})


def is_rotation(poses: np.ndarray) -> bool:
    matrices = poses[:, :, :3]
    return bool(np.allclose(matrices @ matrices.transpose(0, 2, 1), np.eye(3)) and (np.linalg.det(matrices) > 0).all())


# --- where


def test_only_a_circle_needs_seed_points():
    views = Views.of(outputs_of(40, 30, 30.0, 30.0))

    assert len(make_path(views, "training", None, 1.0, 5.0, 0, 0.1)["camera_path"]) == 5
    with pytest.raises(CameraPathError, match="no seed points"):
        make_path(views, "circle", None, 1.0, 5.0, 0, 0.1)


def test_a_path_along_the_views_passes_each_at_its_time():
    views = some_views()
    views = views._replace(times=np.array([0.0, 0.1, 0.4, 0.7, 1.0]))

    poses, _ = along(views, 101)

    np.testing.assert_allclose(poses[[0, 10, 40, 70, 100]], views.poses, atol=1e-12)
    assert is_rotation(poses)


def test_between_two_views_a_path_keeps_to_the_straight_line():
    views = some_views()
    poses, _ = along(views, 200)
    for time, pose in zip(np.linspace(0, 1, 200), poses, strict=True):
        after = min(max(int(np.searchsorted(views.times, time)), 1), 4)
        ends = views.poses[after - 1 : after + 1, :, 3]
        detour = np.linalg.norm(ends - pose[:, 3], axis=1).sum() - np.linalg.norm(ends[1] - ends[0])
        assert detour == pytest.approx(0, abs=1e-9)


def test_of_a_rigs_views_at_one_instant_one_is_passed():
    views = some_views()
    twice = views._replace(
        **{name: getattr(views, name).repeat(2, axis=0) for name in ("poses", "times", "fov", "sizes")}
    )
    for ours, theirs in zip(along(twice, 30), along(views, 30), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-12)


def test_views_of_one_instant_make_no_path():
    with pytest.raises(CameraPathError, match="take --path circle or still"):
        along(some_views()._replace(times=np.full(5, 0.5)), 10)


@pytest.mark.parametrize("radius", [0.05, 0.8])
def test_a_circle_goes_around_a_view_and_looks_at_what_it_looks_at(radius):
    views = some_views()
    poses = circle(views, 2, radius, 36)

    centre, back = views.poses[2, :, 3], views.poses[2, :, 2]
    from_centre = poses[:, :, 3] - centre
    depth = np.linalg.norm(from_centre, axis=1) / radius
    np.testing.assert_allclose(depth, depth[0])
    assert 3.0 < depth[0] < 5.0  # the cloud is 4 away
    np.testing.assert_allclose(from_centre @ back, 0, atol=1e-9)
    np.testing.assert_allclose(from_centre.mean(axis=0), 0, atol=1e-9)
    focus = centre - depth[0] * back
    distance = np.linalg.norm(poses[:, :, 3] - focus, axis=1, keepdims=True)
    np.testing.assert_allclose(poses[:, :, 3] - distance * poses[:, :, 2], np.tile(focus, (36, 1)), atol=1e-9)
    assert is_rotation(poses)


def test_a_circle_around_a_view_of_nothing_is_refused():
    views = some_views()
    behind = views._replace(points=views.points + np.array([0, 0, 100]))
    with pytest.raises(CameraPathError, match="View 1 sees none of the seed points; take another --view"):
        circle(behind, 1, 0.1, 10)


def test_a_path_of_pixels_that_are_not_square_sees_what_the_camera_saw():
    views = Views.of(outputs_of(60, 30, 30.0, 40.0, count=1, times=torch.zeros(1, 1)))

    path = get_path_from_json(make_path(views, "still", (0.0, 0.0), 1.0, 1.0, 0, 0.1))

    assert float(path.fx[0]) == pytest.approx(40, rel=1e-5)
    assert float(path.fy[0]) == pytest.approx(40, rel=1e-5)
    assert (int(path.width[0]), int(path.height[0])) == (80, 30)


def test_a_path_of_a_lens_that_nerfstudio_undistorts_sees_what_was_trained():
    lens = torch.tensor([[-0.2, 0.05, 0.01, 0.0, 0.002, -0.001], [0.0] * 6])
    outputs = outputs_of(100, 60, 50.0, 50.0, distortion_params=lens)
    cameras = outputs.cameras
    intrinsics = cameras[0].get_intrinsics_matrices().numpy()
    blank = np.zeros((60, 100, 3), np.uint8)
    trained, _, _ = _undistort_image(cameras[0], lens[0].numpy(), {}, blank, intrinsics)

    views = Views.of(outputs)

    height = 60 / 2 / np.tan(np.radians(views.fov) / 2)
    assert height == pytest.approx([trained[1, 1], 50], rel=0.01)
    assert trained[1, 1] < 48
    assert views.sizes[:, 0] == pytest.approx([100 * trained[1, 1] / trained[0, 0], 100], abs=2)


def test_a_path_has_the_size_and_field_of_view_of_its_own_view():
    views = some_views()._replace(
        times=np.linspace(0, 1, 5),
        fov=np.array([20.0, 30.0, 40.0, 50.0, 60.0]),
        sizes=np.array([[32, 24], [24, 32], [40, 40], [32, 24], [32, 24]]),
    )

    still = make_path(views, "still", None, 1.0, 5.0, 1, 0.1)
    training = make_path(views, "training", None, 1.0, 9.0, 1, 0.1)

    assert (still["render_width"], still["render_height"]) == (24, 32)
    assert [frame["fov"] for frame in still["camera_path"]] == [30.0] * 5
    assert [frame["fov"] for frame in training["camera_path"]] == pytest.approx(np.linspace(20, 60, 9))


# --- when


@pytest.mark.parametrize("kind", ["training", "circle", "still"])
@pytest.mark.parametrize("times", [(0.3, 0.3), (0.0, 1.0), (1.0, 0.25)])
def test_nerfstudio_reads_places_times_and_focal_lengths(kind, times):
    views = some_views()

    content = json.loads(json.dumps(make_path(views, kind, times, 2.0, 5.0, 2, 0.1)))

    cameras = get_path_from_json(content)
    assert len(cameras) == 10
    assert cameras.times.reshape(-1).numpy() == pytest.approx(np.linspace(*times, 10))
    assert (int(cameras.width[0]), int(cameras.height[0])) == (32, 24)
    assert cameras.fy.numpy() == pytest.approx(12 / np.tan(np.radians(20)))
    if kind == "still":
        np.testing.assert_allclose(cameras.camera_to_worlds, np.tile(views.poses[2], (10, 1, 1)), atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "times"), [("training", (0.25, 0.75)), ("held-out", (0.25, 0.75)), ("circle", (0, 1)), ("still", (0, 1))]
)
def test_by_default_a_path_along_views_has_their_times_and_one_at_a_view_all(kind, times):
    views = some_views()._replace(times=np.linspace(0.25, 0.75, 5))
    path = make_path(views, kind, None, 1.0, 5.0, 2, 0.1)["camera_path"]
    assert [frame["render_time"] for frame in path] == pytest.approx(np.linspace(*times, 5))


def test_a_video_lasts_as_long_as_its_frames():
    content = make_path(some_views(), "still", (0.0, 1.0), 0.31, 10.0, 0, 0.1)
    assert (len(content["camera_path"]), content["seconds"]) == (3, pytest.approx(0.3))


@pytest.mark.parametrize("times", [None, torch.tensor([[1.0], [0.0]])])
def test_views_have_even_sides_for_video_and_times_in_order(times):
    views = Views.of(outputs_of(33, 25, 20.0, 20.0, times=times))
    assert views.sizes.tolist() == [[32, 24]] * 2
    assert views.times.tolist() == [0.0, 1.0]


@pytest.mark.parametrize("kind", ["training", "circle", "still"])
def test_where_data_have_no_times_a_path_stays_at_the_one_that_was_trained(kind):
    outputs = outputs_of(32, 24, 20.0, 20.0, points=[[0.0, 0.0, -1.0]])

    def times_of(views: Views, chosen: tuple[float, float] | None = None) -> list[float]:
        return [frame["render_time"] for frame in make_path(views, kind, chosen, 1.0, 3.0, 0, 0.1)["camera_path"]]

    assert times_of(Views.of(outputs)) == [0.0, 0.0, 0.0]
    assert times_of(Views.of(outputs, only_time=0.4)) == [0.4, 0.4, 0.4]
    assert times_of(Views.of(outputs), (0.0, 1.0)) == [0.0, 0.5, 1.0]  # as asked


# --- the command


@pytest.fixture
def config(tmp_path: Path, monkeypatch) -> Path:
    """config.yml of a training of a capture of 8 frames, two of them held out, that has not left a checkpoint yet."""
    write_capture(tmp_path / "capture", val=(3, 5))
    monkeypatch.chdir(tmp_path)
    settings = yaml.load(yaml.dump(page4d_4dgs.config), Loader=yaml.Loader)
    settings.pipeline.datamanager.data = Path("capture")
    (tmp_path / "config.yml").write_text(yaml.dump(settings))
    return tmp_path / "config.yml"


def test_a_training_of_data_without_times_is_viewed_at_its_default_time(tmp_path, monkeypatch):
    meta = write_nerfstudio(tmp_path / "processed") / "transforms.json"
    lens = {"cx": WIDTH / 2, "cy": HEIGHT / 2, "w": WIDTH, "h": HEIGHT}
    meta.write_text(json.dumps(json.loads(meta.read_text()) | lens))
    monkeypatch.chdir(tmp_path)
    settings = yaml.load(yaml.dump(page4d_4dgs.config), Loader=yaml.Loader)
    settings.pipeline.datamanager.dataparser = NerfstudioDataParserConfig(data=Path("processed"), load_3D_points=False)
    settings.pipeline.model.default_time = 0.25
    (tmp_path / "config.yml").write_text(yaml.dump(settings))

    views = read_views(tmp_path / "config.yml", "train")

    assert views.only_time == 0.25
    assert views.times.tolist() == pytest.approx(np.linspace(0, 1, 4))


def test_views_are_those_of_the_training_in_the_order_of_time(config):
    training, held_out = read_views(config, "train"), read_views(config, "val")

    np.testing.assert_allclose(training.times, np.array([0, 1, 2, 4, 6, 7]) / 7, atol=1e-6)
    np.testing.assert_allclose(held_out.times, np.array([3, 5]) / 7, atol=1e-6)
    assert (training.sizes == SIZE).all()
    assert len(training.points) > 0


@pytest.mark.parametrize(
    ("options", "frames", "times"),
    [
        (["--path", "circle", "--time", "0.5"], 10, (0.5, 0.5)),
        (["--path", "still", "--time", "0", "1", "--view", "5"], 10, (0.0, 1.0)),
        (["--path", "held-out", "--time", "1", "0", "--seconds", "2"], 20, (1.0, 0.0)),
        (["--path", "circle"], 10, (0.0, 1.0)),
        ([], 10, (0.0, 1.0)),
        (["--path", "held-out", "--seconds", "0.3"], 3, (3 / 7, 5 / 7)),  # as filmed
    ],
)
def test_the_command_writes_a_path(config, capsys, options, frames, times):
    words = ["--load-config", "config.yml", "--output", "my path.json", "--seconds", "1", "--fps", "10"]
    cli.main(["camera-path", *words, *options])

    path = json.loads(Path("my path.json").read_text())
    assert [frame["render_time"] for frame in path["camera_path"]] == pytest.approx(np.linspace(*times, frames))
    said = capsys.readouterr().out
    assert "ns-render camera-path --load-config config.yml --camera-path-filename 'my path.json'" in said


WRONG_OPTIONS = {
    "three times": ({"time": (0.0, 0.5, 1.0)}, "got 0 0.5 1"),
    "a time after the last": ({"time": (0.0, 1.5)}, "got 0 1.5"),
    "no number": ({"time": (float("nan"),)}, "got nan"),
    "no length": ({"seconds": 0.0}, "--seconds must be a positive number, got 0"),
    "a negative speed": ({"fps": -1.0}, "--fps must be from 0.1 to 1,000, got -1"),
    "a speed that nobody sees": ({"fps": 0.0004}, "--fps must be from 0.1 to 1,000, got 0.0004"),
    "an endless radius": ({"radius": float("inf")}, "--radius must be a positive number, got inf"),
    "a radius beyond all scenes": ({"radius": 1e300}, "--radius must be at most 1000 times .*, got 1e\\+300"),
    "a length that is no number": ({"seconds": float("nan")}, "--seconds must be a positive number, got nan"),
    "a speed beyond all screens": ({"fps": 1e300, "seconds": 1e300}, "--fps must be from 0.1 to 1,000, got 1e\\+300"),
    "frames without end": ({"seconds": 1e300}, "at most 100,000 frames, and --seconds 1e\\+300 at --fps 24"),
}


@pytest.mark.parametrize("wrong", WRONG_OPTIONS)
def test_wrong_options_are_refused_before_anything_is_read(wrong):
    options, message = WRONG_OPTIONS[wrong]
    with pytest.raises(Page4DError, match=message):
        camera_path(Path("nowhere.yml"), Path("path.json"), **options)


def test_a_view_that_is_not_there_is_refused(config):
    with pytest.raises(Page4DError, match="--view must be from 0 to 5, the last of the cameras, got 6"):
        camera_path(config, Path("path.json"), path="still", view=6)


def test_a_file_in_the_way_is_refused(config):
    Path("path.json").write_text("")
    with pytest.raises(Page4DError, match="exists; name another one, or pass --overwrite"):
        camera_path(config, Path("path.json"))
    camera_path(config, Path("path.json"), overwrite=True, seconds=0.1)
    assert Path("path.json").stat().st_size > 0
