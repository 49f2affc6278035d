"""nerfstudio's own commands on page4d-4dgs, from the training to the viewer, as a user types them."""

import contextlib
import fcntl
import http.client
import io
import json
import os
import re
import shutil
import time
from importlib import import_module
from pathlib import Path

import av
import msgpack
import numpy as np
import pytest
import torch
import tyro
import websockets.sync.client
from nerfstudio.cameras.camera_paths import get_path_from_json
from nerfstudio.utils.colormaps import apply_colormap
from nerfstudio_training import train, training_config
from PIL import Image
from plyfile import PlyData
from scipy.spatial import cKDTree
from small_captures import write_capture
from small_scene import ball_folder

from page4d_hf import cli
from page4d_hf.scene import read_scene
from page4d_hf.scene.export import export_scene
from page4d_hf.utils.folders import LOCK, MANIFEST
from page4d_nerfstudio.commands import camera_path as camera_path_command
from page4d_nerfstudio.gaussians.model import Page4DGaussiansModel
from page4d_nerfstudio.viewing.export import read_run

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("fresh_nerfstudio")]

VAL = (3, 5)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with a capture of 8 frames in it."""
    folder = tmp_path_factory.mktemp("work")
    write_capture(folder / "capture", masks=True, val=VAL)
    return folder


@pytest.fixture(scope="module")
def trained(workplace, forking_python):
    """config.yml of a training of 20 steps, typed as the README has it."""
    code = forking_python.run(
        *("ns-train", "page4d-4dgs", "--data", "capture", "--max-num-iterations", 20, "--vis", "tensorboard"),
        *("--timestamp", "run"),
        cwd=workplace,
        log=workplace / "train.log",
    )
    assert code == 0, (workplace / "train.log").read_text()
    return workplace / "outputs/capture/page4d-4dgs/run/config.yml"


@pytest.fixture
def in_workplace(workplace, trained, monkeypatch):
    """Be where the training was started: config.yml names data and outputs from there."""
    monkeypatch.chdir(workplace)
    return trained


def test_training_ends_with_the_command_that_shares_its_scene(trained, workplace):
    lines = (workplace / "train.log").read_text().splitlines()
    assert f"Next: page4d share --load-config {trained.relative_to(workplace)} --output capture.html" in lines


def test_eval_writes_the_metrics_of_the_held_out_frames(in_workplace, tmp_path):
    from nerfstudio.scripts.eval import ComputePSNR

    args = ["--load-config", str(in_workplace), "--output-path", str(tmp_path / "metrics.json")]
    tyro.cli(ComputePSNR, args=[*args, "--render-output-path", str(tmp_path / "views")]).main()
    results = json.loads((tmp_path / "metrics.json").read_text())["results"]
    for name in ("psnr", "ssim", "psnr_moving", "psnr_static"):
        assert np.isfinite(results[name])
        assert results[f"gap_{name}"] == pytest.approx(results[f"train_{name}"] - results[name])
    assert len(list((tmp_path / "views").iterdir())) == len(VAL)


def render(*words):
    from nerfstudio.scripts.render import Commands

    tyro.cli(Commands, args=[str(word) for word in words]).main()


def images_in(folder):
    return {path.stem: np.array(Image.open(path)) for path in sorted(folder.iterdir())}


def test_render_dataset_renders_the_held_out_frames_beside_the_truth(in_workplace, workplace, tmp_path):
    render(
        "dataset", "--load-config", in_workplace, "--output-path", tmp_path, "--split", "val", "--image-format", "png"
    )
    truth, rendered = images_in(tmp_path / "val/gt-rgb"), images_in(tmp_path / "val/rgb")
    assert list(truth) == list(rendered) == ["000003", "000005"]
    for name, image in truth.items():
        np.testing.assert_array_equal(image, np.array(Image.open(workplace / f"capture/rgb/1x/{name}.png")))
        assert rendered[name].shape == image.shape
    assert {path.name for path in (tmp_path / "val").iterdir()} >= {"accumulation", "depth", "motion"}


def test_render_interpolate_needs_no_times(in_workplace, tmp_path):
    options = ("--pose-source", "train", "--interpolation-steps", 2, "--output-format", "images")
    render("interpolate", "--load-config", in_workplace, "--output-path", tmp_path / "path", *options)
    assert len(images_in(tmp_path / "path")) == 2 * 5  # between 6 cameras


def camera_path(times):
    """What the viewer writes: one camera, at several times."""
    pose = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]
    cameras = [{"camera_to_world": pose, "fov": 50, "aspect": 4 / 3} for _ in range(3)]
    if times is not None:
        cameras = [camera | {"render_time": at} for camera, at in zip(cameras, times, strict=True)]
    return {"render_height": 24, "render_width": 32, "seconds": 1, "camera_path": cameras, "camera_type": "perspective"}


@pytest.mark.parametrize("times", [None, (0.0, 0.5, 1.0)])
def test_render_camera_path_renders_at_the_times_that_it_gives(in_workplace, tmp_path, monkeypatch, times):
    rendered = []
    gaussians_at = Page4DGaussiansModel.gaussians_at
    monkeypatch.setattr(
        Page4DGaussiansModel, "gaussians_at", lambda self, at: rendered.append(at) or gaussians_at(self, at)
    )
    (tmp_path / "path.json").write_text(json.dumps(camera_path(times)))
    options = ("--camera-path-filename", tmp_path / "path.json", "--output-format", "images", "--image-format", "png")
    render("camera-path", "--load-config", in_workplace, "--output-path", tmp_path / "frames", *options)
    frames = images_in(tmp_path / "frames")
    assert [image.shape for image in frames.values()] == [(24, 32, 3)] * 3
    if times is not None:
        assert rendered == pytest.approx(times)
    else:
        assert len(set(rendered)) == 1  # one place, one time


def test_render_writes_a_video_without_the_program_ffmpeg(in_workplace, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    (tmp_path / "path.json").write_text(json.dumps(camera_path((0.0, 0.5, 1.0))))
    options = ("--camera-path-filename", tmp_path / "path.json", "--output-path", tmp_path / "scene.mp4")
    render("camera-path", "--load-config", in_workplace, *options)
    with av.open(str(tmp_path / "scene.mp4")) as video:
        assert [frame.to_ndarray(format="rgb24").shape for frame in video.decode(video=0)] == [(24, 32, 3)] * 3
        assert video.streams.video[0].average_rate == 3


@pytest.mark.parametrize(("path", "time"), [("circle", [0.8]), ("still", [0.0, 1.0]), ("held-out", [1.0, 0.2])])
def test_frames_of_a_camera_path_are_what_the_model_shows_there_and_then(in_workplace, tmp_path, path, time):
    options = {"load_config": in_workplace, "output": tmp_path / "path.json", "path": path, "seconds": 1.0, "fps": 3.0}
    camera_path_command(**options, time=tuple(time))
    options = ("--output-path", tmp_path / "frames", "--output-format", "images", "--image-format", "png")
    names = ("--rendered-output-names", "rgb", "motion")
    path_options = ("--camera-path-filename", tmp_path / "path.json", *options, *names)
    render("camera-path", "--load-config", in_workplace, *path_options)

    model = read_run(in_workplace).model.eval()
    cameras = get_path_from_json(json.loads((tmp_path / "path.json").read_text()))
    for index, image in enumerate(images_in(tmp_path / "frames").values()):
        camera = cameras[index : index + 1]
        assert float(camera.times) == pytest.approx(np.linspace(time[0], time[-1], 3)[index])
        with torch.no_grad():
            expected = model.get_outputs_for_camera(camera)
        views = torch.cat([apply_colormap(expected[name]) for name in ("rgb", "motion")], dim=1)
        np.testing.assert_allclose(image, (255 * views).numpy(), atol=1.0)


def positions_in(ply):
    vertices = PlyData.read(ply)["vertex"]
    return np.stack([vertices[axis] for axis in "xyz"], axis=1)


def test_export_writes_a_ply_for_each_frame(in_workplace, tmp_path):
    cli.main(
        ["export-splats", "--load-config", str(in_workplace), "--all-frames", "--output", str(tmp_path / "splats")]
    )
    listing = json.loads((tmp_path / "splats/splats.json").read_text())
    assert [entry["time"] for entry in listing["splats"]] == pytest.approx(np.arange(8) / 7)
    assert {len(positions_in(tmp_path / "splats" / entry["file"])) for entry in listing["splats"]} == {
        entry["gaussians"] for entry in listing["splats"]
    }
    files = {path.name for path in (tmp_path / "splats").iterdir()}
    assert files == {entry["file"] for entry in listing["splats"]} | {"splats.json", MANIFEST}


def test_export_in_the_datas_world_undoes_what_nerfstudio_does_to_it(in_workplace, tmp_path):
    for world in ("training", "data"):
        output = str(tmp_path / f"{world}.ply")
        cli.main(
            ["export-splats", "--load-config", str(in_workplace), "--time", "0.3", "--world", world, "--output", output]
        )
    normalisation = json.loads((in_workplace.parent / "dataparser_transforms.json").read_text())
    transform, scale = np.array(normalisation["transform"]), normalisation["scale"]
    placed = scale * (positions_in(tmp_path / "data.ply") @ transform[:, :3].T + transform[:, 3])
    np.testing.assert_allclose(placed, positions_in(tmp_path / "training.ply"), atol=1e-5)


def test_share_writes_a_page_a_video_and_a_folder(in_workplace, tmp_path, capsys):
    for name, options in (
        ("a.html", ()),
        ("a.mp4", ("--width", "48", "--fps", "4", "--path", "held-out")),
        ("a", ()),
        ("b", ("--time", "0.5")),
    ):
        cli.main(["share", "--load-config", str(in_workplace), "--output", str(tmp_path / name), *options])
    said = capsys.readouterr().out
    assert "at 8 instants" in said
    assert "20 frames of 48x" in said
    assert "<title>a</title>" in (tmp_path / "a.html").read_text("utf8")
    written = {name: json.loads((tmp_path / name / "splats.json").read_text())["splats"] for name in "ab"}
    assert len(written["a"]) == 8
    assert [splats["time"] for splats in written["b"]] == [0.5]


def test_share_takes_the_newest_of_several_trainings(in_workplace, tmp_path, capsys):
    older = tmp_path / "config.yml"
    older.write_text("")
    os.utime(older, (0, 0))
    words = ("--load-config", str(older), str(in_workplace), "--output", str(tmp_path / "a.html"), "--keyframes", "2")
    cli.main(["share", *words])
    assert f"Of 2 trainings, the newest with a checkpoint: {in_workplace}." in capsys.readouterr().out


def test_nerfstudios_own_export_of_what_moves_is_refused_with_the_right_command(in_workplace, tmp_path, capsys):
    exporter = pytest.importorskip(
        "nerfstudio.scripts.exporter", reason="it needs open3d's libraries", exc_type=ImportError
    )
    with pytest.raises(SystemExit) as exit_info:
        exporter.ExportGaussianSplat(load_config=in_workplace, output_dir=tmp_path / "splats").main()
    assert exit_info.value.code == 1
    assert "`page4d export-splats --load-config" in capsys.readouterr().out
    assert not any((tmp_path / "splats").glob("*"))


def test_a_colmap_export_of_a_scene_is_trained_on(tmp_path, monkeypatch):
    scene = read_scene(ball_folder(tmp_path / "scene", count=6))
    made = export_scene(scene, tmp_path / "model", "colmap")
    monkeypatch.chdir(tmp_path)
    options = ("--max-num-iterations", 5, "--vis", "tensorboard", "--timestamp", "run")
    train("page4d-4dgs", "--data", "model", *options)
    run = read_run(tmp_path / "outputs/model/page4d-4dgs/run/config.yml")
    assert run.model.num_points == made.points
    # The points were not moved far by five steps: they are the scene's, in the training's world.
    places = torch.from_numpy(scene.points).double().numpy()
    placed = run.scale * (places @ run.transform[:, :3].T + run.transform[:, 3])
    nearest = cKDTree(run.model.means.detach().double().numpy()).query(placed)[0]
    assert np.median(nearest) < 0.01 * np.ptp(placed, axis=0).max()


def test_a_training_goes_on_from_its_checkpoint(in_workplace, tmp_path):
    from nerfstudio.utils.eval_utils import eval_setup

    checkpoints = in_workplace.parent / "nerfstudio_models"
    train(
        *("page4d-4dgs", "--data", "capture", "--load-dir", checkpoints, "--load-step", 19),
        *("--max-num-iterations", 2, "--schedule-length", 20),
        *("--vis", "tensorboard", "--output-dir", tmp_path, "--timestamp", "on"),
    )
    run = tmp_path / "capture/page4d-4dgs/on"
    (checkpoint,) = (run / "nerfstudio_models").iterdir()
    assert checkpoint.name == "step-000000021.ckpt"
    # Commands that load what it has made look for its own last step, not for the one that it began at.
    assert eval_setup(run / "config.yml", test_mode="test")[-1] == 21


def test_a_training_does_not_go_on_with_schedules_of_another_length_unless_told_to(in_workplace, tmp_path, capsys):
    with pytest.raises(SystemExit) as exit_info:
        train(
            *("page4d-4dgs", "--data", "capture", "--load-dir", in_workplace.parent / "nerfstudio_models"),
            *("--max-num-iterations", 20, "--vis", "tensorboard", "--output-dir", tmp_path),
        )
    assert exit_info.value.code == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "has 20 steps of a run of 20: it is over" in said


def test_a_training_that_goes_on_for_longer_has_the_learning_rates_of_that_length(in_workplace, tmp_path):
    train(
        *("page4d-4dgs", "--data", "capture", "--load-dir", in_workplace.parent / "nerfstudio_models"),
        *("--load-step", 19, "--max-num-iterations", 1, "--schedule-length", 17_000, "--vis", "tensorboard"),
        *("--output-dir", tmp_path, "--timestamp", "longer"),
    )
    checkpoint = tmp_path / "capture/page4d-4dgs/longer/nerfstudio_models/step-000000020.ckpt"
    optimizers = torch.load(checkpoint, weights_only=True)["optimizers"]
    as_given = training_config("page4d-4dgs", "--data", "capture").optimizers
    for name in ("planes", "heads"):  # higher in a shorter run
        assert optimizers[name]["param_groups"][0]["lr"] == pytest.approx(as_given[name]["optimizer"].lr)


# --------------------------------------------------------------------------------------------------------------------
# The viewer


@contextlib.contextmanager
def viewer_of(python, config, workplace):
    """A client that is connected to a running `ns-viewer`."""
    log = workplace / "viewer.log"
    words = ("--load-config", config, "--viewer.websocket-host", "127.0.0.1")
    process = python.start("ns-viewer", *words, cwd=workplace, log=log)
    try:
        while not (address := re.search(r"ws://127\.0\.0\.1:\d+", log.read_text())):  # it listens there by then
            assert process.poll() is None, log.read_text()
            time.sleep(0.5)
        with websockets.sync.client.connect(address[0], max_size=None) as client:
            yield client
    finally:
        python.kill(process)


def messages_of(client):
    """What the viewer tells its client, one message after the other."""
    while True:
        yield from msgpack.unpackb(client.recv())


def test_the_viewer_has_time_motion_and_a_choice_of_gaussians(in_workplace, workplace, forking_python):
    with viewer_of(forking_python, in_workplace, workplace) as client:
        camera = {
            "type": "ViewerCameraMessage", "wxyz": [1, 0, 0, 0], "position": [0, 0, 0], "fov": 1.0, "aspect": 1.3,
            "look_at": [0, 0, 1], "up_direction": [0, -1, 0],
        }  # fmt: skip
        client.send(msgpack.packb(camera))
        elements: dict[str, dict] = {}
        offered = chosen = False
        for message in messages_of(client):
            if message["type"] == "SetCameraFovMessage":  # a browser tells where its camera is once it was moved
                client.send(msgpack.packb(camera))
            if message["type"].startswith("GuiAdd") and "label" in message:
                elements[message["label"]] = message
            if message["type"] == "GuiUpdateMessage" and "options" in message["updates"]:
                offered = offered or "motion" in message["updates"]["options"]
            if message["type"] != "BackgroundImageMessage":
                continue
            if offered and not chosen:  # there was a first image
                choices = (("Output type", "motion"), ("Gaussians", "static"))
                for label, value in choices:
                    update = {"type": "GuiUpdateMessage", "id": elements[label]["id"], "updates": {"value": value}}
                    client.send(msgpack.packb(update))
                chosen = True
            elif chosen and is_of_one_colour(message, TURBO_OF_0):  # what stands still has no motion
                break
        assert (elements["Time"]["min"], elements["Time"]["max"]) == (0.0, 1.0)
        assert elements["Time"]["visible"]
        assert tuple(elements["Gaussians"]["options"]) == ("all", "static", "moving")
        assert "Moving from (%)" in elements


def test_the_viewer_hands_out_its_page_and_no_file_outside_of_it(in_workplace, workplace, forking_python):
    with viewer_of(forking_python, in_workplace, workplace) as client:
        statuses = []
        for path in ("/", "/../../../../../../../../../../../../etc/passwd"):
            connection = http.client.HTTPConnection(*client.remote_address)
            connection.request("GET", path)
            statuses.append(connection.getresponse().status)
    assert statuses == [200, 404]


TURBO_OF_0 = (48, 18, 59)  # the first colour of the map that nerfstudio's viewer takes by default


def is_of_one_colour(message, colour):
    image = np.array(Image.open(io.BytesIO(message["rgb_bytes"])).convert("RGB")).astype(int)
    return np.abs(image - colour).max() < 8


# --------------------------------------------------------------------------------------------------------------------
# Wrong input


WRONG = {
    "no such path": (lambda capture: shutil.rmtree(capture), "There is no capture"),
    "a file of another kind": (
        lambda capture: (shutil.rmtree(capture), capture.write_text("text")),
        "neither a video nor an image",
    ),
    "a missing camera": (lambda capture: (capture / "camera/000004.json").unlink(), "camera/000004.json is missing"),
    "a broken image": (
        lambda capture: (capture / "rgb/1x/000004.png").write_bytes((capture / "rgb/1x/000004.png").read_bytes()[:400]),
        "rgb/1x/000004.png cannot be read as an image",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_data_end_the_training_in_one_sentence(tmp_path, monkeypatch, capsys, wrong):
    spoil, message = WRONG[wrong]
    spoil(write_capture(tmp_path / "capture", val=VAL))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit_info:
        train("page4d-4dgs", "--data", "capture", "--max-num-iterations", 2, "--vis", "tensorboard")
    assert exit_info.value.code == 1
    error = capsys.readouterr().out.split(" Error ")[1].strip("─\n ")
    # A broken image is met when the training has begun: nerfstudio prints its profile behind the sentence.
    sentence, _, rest = error.partition("\n")
    assert message in sentence
    assert not rest or rest.strip().startswith("Printing profiling stats")


def test_the_shell_sees_no_traceback_and_exit_code_1(tmp_path, forking_python):
    words = ("ns-train", "page4d-4dgs", "--data", "nowhere", "--vis", "tensorboard")
    assert forking_python.run(*words, cwd=tmp_path, log=tmp_path / "log") == 1
    output = (tmp_path / "log").read_text()
    assert "There is no nowhere" in output.splitlines()[-1]
    assert "Traceback" not in output


def test_two_trainings_do_not_write_one_folder(workplace, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(workplace)
    run = tmp_path / "capture/page4d-4dgs/run"
    run.mkdir(parents=True)
    options = ("--output-dir", tmp_path, "--timestamp", "run", "--vis", "tensorboard", "--max-num-iterations", 2)
    with open(run / LOCK, "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(SystemExit) as exit_info:
            train("page4d-4dgs", "--data", "capture", *options)
    assert exit_info.value.code == 1
    assert not (run / "config.yml").exists()
    assert "run is being written by another process" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("place", ["/proc/x", "capture/dataset.json", "a" * 300, "a\0b"])
def test_a_folder_that_cannot_be_written_ends_the_training_before_data_are_read(workplace, monkeypatch, capsys, place):
    monkeypatch.chdir(workplace)
    with pytest.raises(SystemExit) as exit_info:
        train("page4d-4dgs", "--data", "capture", "--output-dir", place, "--vis", "tensorboard")
    assert exit_info.value.code == 1
    assert "Cannot write the training's folder" in capsys.readouterr().out


def test_the_subcommands_are_those_of_the_entry_points():
    tomllib = pytest.importorskip("tomllib", reason="it came with Python 3.11")
    entries = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["entry-points"]
    for name, value in entries["page4d.commands"].items():
        module, _, function = value.partition(":")
        assert getattr(import_module(module), function).__name__ == name.replace("-", "_")
