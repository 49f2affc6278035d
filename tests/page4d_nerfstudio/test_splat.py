"""`page4d splat`: from a video, images or a scene folder to one file."""

import json
import shutil
import sys

import pytest
from small_captures import write_capture
from small_scene import ball_folder

from page4d_hf import cli
from page4d_hf.errors import Page4DError
from page4d_hf.scene import read_scene
from page4d_hf.weights.shipped import TINY
from page4d_nerfstudio import commands
from page4d_nerfstudio import splat as splat_steps
from page4d_nerfstudio.commands import camera_path, export_splats, splat
from page4d_nerfstudio.splat import reconstructed

pytestmark = pytest.mark.usefixtures("fresh_nerfstudio")


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return ball_folder(tmp_path_factory.mktemp("ball") / "ball", count=6)


@pytest.fixture
def there(tmp_path, monkeypatch):
    """An empty folder to type commands in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def printed(told):
    """The commands that it says it runs, as words."""
    return [line.split()[1:] for line in told.splitlines() if line.startswith("$ ")]


@pytest.mark.slow
def test_images_become_a_scene_folder_a_training_and_a_page(there, scene, capsys):
    shutil.copytree(scene / "images", there / "photos")
    splat(there / "photos", there / "mine.html", max_frames=5, steps=4)
    told = capsys.readouterr().out
    assert "Next:" not in told  # it goes on by itself
    reconstruct, train, share = printed(told)
    assert reconstruct[:2] == ["page4d", "reconstruct"]
    assert reconstruct[-4:] == ["--max-frames", "5", "--output", str(there / "mine")]
    assert train[:4] == ["ns-train", "page4d-4dgs", "--data", str(there / "mine")]
    assert train[train.index("--max-num-iterations") + 1] == "4"
    assert share[:2] == ["page4d", "share"]
    assert len(read_scene(there / "mine")) == 5
    assert (there / share[3]).is_file()  # config.yml, from here
    assert "<html" in (there / "mine.html").read_text()[:200]


@pytest.mark.slow
def test_a_scene_folder_is_trained_on_as_it_is(there, scene, capsys):
    before = {path: path.stat().st_mtime_ns for path in scene.rglob("*")}
    splat(scene, there / "ball.gif", steps=3, downscale=2)
    train, _ = printed(capsys.readouterr().out)
    assert train[train.index("--downscale") + 1] == "2"
    assert (there / "ball.gif").read_bytes()[:3] == b"GIF"
    assert {path: path.stat().st_mtime_ns for path in scene.rglob("*")} == before


@pytest.mark.parametrize("name", ["mine.html", "my.clip.mp4"])
def test_a_scene_that_is_there_already_is_not_made_again_in_silence(there, scene, name):
    folder = (there / name).with_suffix("")
    shutil.copytree(scene, folder)
    with pytest.raises(Page4DError) as refused:
        splat(scene / "images", there / name)
    assert f"`page4d splat {folder} --output {there / name}` trains on it; --overwrite" in str(refused.value)


@pytest.mark.parametrize("step", ["trained", "share"])
def test_an_interrupt_says_by_which_command_to_go_on(there, scene, monkeypatch, step):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(splat_steps, "trained", lambda *arguments: there / "config.yml")
    monkeypatch.setattr(splat_steps if step == "trained" else commands, step, interrupted)
    rest = {
        "trained": f"page4d splat {scene} --steps 3 --output {there / 'a.html'} --overwrite",
        "share": f"page4d share --load-config {there / 'config.yml'} --output {there / 'a.html'} --overwrite",
    }
    with pytest.raises(KeyboardInterrupt) as interrupt:
        splat(scene, there / "a.html", steps=3, overwrite=True)
    assert str(interrupt.value) == f"what was finished is kept, and `{rest[step]}` goes on from it."


def test_a_scene_of_a_single_frame_is_refused_before_a_training_is_begun(there):
    one = ball_folder(there / "one", count=1)
    with pytest.raises(Page4DError, match=r"trained on at least 2 frames, and .*one gives 1"):
        splat(one, there / "mine.html")
    assert [path.name for path in there.iterdir()] == ["one"]


@pytest.mark.parametrize("name", ["nosuch.mp4", "nosuch/*.png"])
def test_an_input_that_is_not_there_is_found_out_before_the_seconds_of_imports(there, monkeypatch, name):
    monkeypatch.setitem(sys.modules, "page4d_nerfstudio.splat", None)
    with pytest.raises(Page4DError, match=r"No such file or folder|Nothing matches"):
        splat(there / name, there / "mine.html")


def test_a_folder_named_page4d_without_weights_is_no_model(there, scene, monkeypatch):
    (there / "page4d").mkdir()
    asked = {}
    monkeypatch.setattr(cli, "reconstruct", lambda *args, **options: asked.update(options))
    reconstructed(scene / "images", there / "mine", None, 4)
    assert asked["model"] == str(TINY)


def test_the_folder_page4d_is_taken_and_said_what_weights_it_has(there, scene, monkeypatch, capsys):
    (there / "page4d").mkdir()
    config = json.loads((TINY / "config.json").read_text())
    (there / "page4d/config.json").write_text(json.dumps(config | {"base_weights": "vggt"}))
    (there / "page4d/model.safetensors").symlink_to(TINY / "model.safetensors")
    asked = {}
    monkeypatch.setattr(cli, "reconstruct", lambda *args, **options: asked.update(options))
    reconstructed(scene / "images", there / "mine", None, 4)
    assert asked["model"] == "page4d"
    assert "Weights in the folder page4d: VGGT-1B; --model names others." in capsys.readouterr().out


@pytest.mark.parametrize("name", ["empty", "notes"])
def test_a_folder_in_the_place_of_the_scene_is_left_to_page4d_reconstruct(there, scene, monkeypatch, name):
    (there / name).mkdir()
    if name == "notes":
        (there / name / "todo.txt").write_text("mine")
    made = []
    monkeypatch.setattr(cli, "reconstruct", lambda *args, output, **options: made.append(output))
    assert reconstructed(scene / "images", there / name, None, None) == there / name
    assert made == [there / name]


def test_the_scene_folder_is_not_the_folder_of_the_images(there, scene):
    shutil.copytree(scene / "images", there / "photos")
    with pytest.raises(Page4DError, match=r"photos is what is read; give --output another name"):
        splat(there / "photos", there / "photos.html")


def test_the_output_never_replaces_the_input(there):
    (there / "clip.mp4").write_bytes(b"video")
    with pytest.raises(Page4DError, match=r"output .*clip.mp4 is a file of what is read"):
        splat(there / "clip.mp4", there / "clip.mp4", overwrite=True)


def test_a_capture_is_for_ns_train(there):
    write_capture(there / "capture")
    with pytest.raises(Page4DError, match=r"capture with cameras of its own.*`ns-train page4d-4dgs --data .*capture`"):
        splat(there / "capture", there / "mine.html")


@pytest.mark.parametrize(
    ("output", "options", "message"),
    [
        ("scene", {}, "--output must end in .html, .mp4 or .gif; got scene"),
        ("scene.html", {"max_frames": 1}, "--max-frames must be at least 2, got 1"),
        ("scene.html", {"downscale": 0}, "--downscale must be at least 1, got 0"),
        ("scene.html", {"steps": 0}, "--steps must be at least 1, got 0"),
        ("taken.html", {}, "taken.html exists"),
        ("scene.html", {"model": "nowhere"}, "No model folder nowhere"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(there, scene, output, options, message):
    (there / "taken.html").write_text("mine")
    with pytest.raises(Page4DError, match=message):
        splat(scene / "images", there.relative_to(there) / output, **options)
    assert sorted(path.name for path in there.iterdir()) == ["taken.html"]


@pytest.mark.parametrize(("command", "options"), [(splat, {}), (export_splats, {"time": 0.5}), (camera_path, {})])
def test_without_nerfstudio_a_command_says_how_to_get_it(monkeypatch, there, command, options):
    monkeypatch.setattr(commands, "find_spec", lambda name: None)
    with pytest.raises(Page4DError, match=r"nerfstudio, which is not installed; `pip install .*\[nerfstudio\]"):
        command(there / "config.yml", there / "mine.html", **options)
