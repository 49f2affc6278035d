"""`page4d reconstruct`: what it writes and prints, and how bad commands end."""

import fcntl
import re
import shlex
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from page4d_hf.cli import main
from page4d_hf.errors import CheckpointError
from page4d_hf.geometry import project_points
from page4d_hf.image_processing_page4d import Page4DImageProcessor
from page4d_hf.scene import read_scene
from page4d_hf.synthetic import write_synthetic_capture
from page4d_hf.utils.folders import whole_folder
from page4d_hf.weights.identity import fingerprint
from page4d_hf.weights.loading import load_config
from page4d_hf.weights.shipped import pull_tiny


def command(*arguments):
    main(["reconstruct", *map(str, arguments)])


@pytest.fixture(scope="module")
def tiny_room(tmp_path_factory):
    """A small rendered capture, and the folder of page4d-tiny."""
    room, model = tmp_path_factory.mktemp("room") / "room", tmp_path_factory.mktemp("weights") / "tiny"
    write_synthetic_capture(
        room, num_frames=16, held_out_every=16, width=128, height=96, supersampling=2, num_points=100
    )
    pull_tiny(model)
    return room, model


@pytest.mark.slow
def test_cameras_are_refined_from_a_video_to_the_tracks_in_its_scene(tmp_path, capsys, tiny_room):
    room, model = tiny_room
    command(room / "video.mp4", "--model", model, "--output", tmp_path / "scene", "--max-frames", 16)
    scene = read_scene(tmp_path / "scene")
    told, tracks = scene.info["refinement"], scene.load_tracks()
    assert told["outcome"] == "refined"
    assert told["inlier_share_after"] > told["inlier_share_before"]
    printed = capsys.readouterr().out
    assert f"Cameras: refined. {told['tracks']:,} tracks, {told['static_tracks']:,} of them static;" in printed
    assert tracks.xy[told["tracks"] :].size > 0  # of what moves, tracked a second time
    assert np.isfinite(tracks.paths).all(axis=2).any(axis=1)[told["tracks"] :].any()
    assert not np.isfinite(tracks.paths).all(axis=2)[~tracks.visible].any()
    assert np.isfinite(tracks.points).all(axis=1).sum() == told["static_tracks"]
    known = np.isfinite(tracks.points).all(axis=1)
    assert known.sum() > 100
    for frame in (0, 15):
        seen = known & tracks.visible[:, frame]
        camera = torch.from_numpy(scene.extrinsics[frame]), torch.from_numpy(scene.intrinsics[frame])
        xy = project_points(torch.from_numpy(tracks.points[seen]).double(), *camera)[0].numpy()
        assert np.median(np.linalg.norm(xy - tracks.xy[seen, frame], axis=1)) < 0.3  # pixels


def test_the_command_writes_a_scene_and_says_what_to_do_next(clip, model_folder, tmp_path, capsys):
    scene_folder = tmp_path / "scene"
    command(clip, "--model", model_folder, "--output", scene_folder, "--resolution", 56, "--max-frames", 4)
    scene = read_scene(scene_folder)
    np.testing.assert_allclose(scene.times, [0, 4 / 11, 7 / 11, 1])
    assert scene.load_depth(3).shape == (28, 56)
    assert scene.info["model"] == str(model_folder)
    assert scene.info["weights"] == fingerprint(model_folder)
    assert scene.info["options"]["resolution"] == 56
    said = capsys.readouterr()
    assert re.search(rf"Wrote {scene_folder}: 4 frames and [\d,]+ points", said.out)
    assert re.search(r"It took [\d.]+ s and at most [\d.]+ GiB", said.out)
    assert f"Next: ns-train page4d-4dgs --data {scene_folder}" in said.out
    assert not any(path.name.startswith(".") for path in tmp_path.iterdir())


@pytest.mark.slow
def test_commands_that_are_printed_can_be_given_to_a_shell(clip, model_folder, tmp_path, capsys):
    scene_folder = tmp_path / "it's my scene"
    command(clip, "--model", model_folder, "--output", scene_folder, "--resolution", 56, "--max-frames", 2)
    line = capsys.readouterr().out.splitlines()[-1]
    assert shlex.split(line.removeprefix("Next: ")) == ["ns-train", "page4d-4dgs", "--data", str(scene_folder)]
    with pytest.raises(CheckpointError) as refused:
        load_config(tmp_path / "no model")
    pull = re.search("`(page4d pull .*?)`", str(refused.value))
    assert shlex.split(pull[1])[-1] == str(tmp_path / "no model")
    (tmp_path / "a file.pt").touch()
    with pytest.raises(CheckpointError, match=r"`page4d convert '.*/a file\.pt' OUT`"):
        load_config(tmp_path / "a file.pt")


@pytest.mark.slow
def test_after_a_single_frame_no_training_is_suggested_and_no_figures_of_tracks_are_given(
    clip, model_folder, tmp_path, capsys
):
    command(clip, "--model", model_folder, "--output", tmp_path / "scene", "--resolution", 56, "--max-frames", 1)
    said = capsys.readouterr().out
    assert "Next:" not in said
    assert ": 1 frame and " in said
    assert "Cameras: kept.\n" in said


@pytest.mark.slow
def test_several_images_on_the_command_line_are_taken_in_their_order(clip, model_folder, tmp_path):
    command(clip / "7.png", clip / "3.png", "--model", model_folder, "--output", tmp_path / "scene", "--resolution", 56)
    assert [frame["source"] for frame in read_scene(tmp_path / "scene").info["frames"]] == ["7.png", "3.png"]


@pytest.mark.slow
def test_frames_of_different_sizes_are_reconstructed_with_a_note(clip, model_folder, tmp_path, library_log):
    Image.fromarray(np.zeros((50, 50, 3), np.uint8)).save(clip / "12.png")
    command(clip, "--model", model_folder, "--output", tmp_path / "scene", "--resolution", 56, "--max-frames", 3)
    assert "different sizes (28 x 56, 56 x 56 after resizing, height x width) are padded with white" in library_log.text
    scene = read_scene(tmp_path / "scene")
    assert scene.image_sizes.tolist() == [[50, 30], [50, 30], [50, 50]]
    assert [scene.load_depth(i).shape for i in range(3)] == [(28, 56), (28, 56), (56, 56)]


@pytest.mark.slow
def test_the_command_follows_the_mode_of_the_model_s_image_processor(clip, own_model_folder, tmp_path):
    Page4DImageProcessor(mode="pad").save_pretrained(own_model_folder)
    options = ("--model", own_model_folder, "--resolution", 56, "--max-frames", 1)
    command(clip, *options, "--output", tmp_path / "default")
    command(clip, *options, "--output", tmp_path / "crop", "--mode", "crop")
    assert [read_scene(tmp_path / name).info["options"]["mode"] for name in ("default", "crop")] == ["pad", "crop"]


@pytest.mark.slow
def test_each_bad_command_ends_in_one_sentence_and_leaves_nothing_behind(clip, model_folder, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "keep.txt").write_text("x")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "0.png").write_bytes(b"x")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    fine = {"--model": model_folder, "--output": tmp_path / "scene", "--resolution": 56}
    cases = [
        (tmp_path / "absent", {}, "No such file or folder: .*absent"),
        (tmp_path / "empty", {}, "empty is empty"),
        (tmp_path / "*.mov", {}, r"Nothing matches .*\.mov"),
        (tmp_path / "broken", {}, r"Cannot read the image .*0\.png"),
        (clip, {"--resolution": 57}, "multiple of the patch size 14, got 57; the nearest are 56 and 70"),
        (clip, {"--max-frames": 0}, "at least 1 frame"),
        (clip, {"--fps": 5}, "without timestamps"),
        # Before the frames are read.
        (tmp_path / "broken", {"--tracks": tmp_path / "absent.npz"}, r"absent\.npz is missing"),
        (tmp_path / "broken", {"--tracks": tmp_path / "x.npz", "--refine": "off"}, "they take --refine auto"),
        (
            tmp_path / "broken",
            {"--split-cuts": None, "--masks": tmp_path},
            "--split-cuts takes no tracks, cameras, masks",
        ),
        (clip, {"--device": "gpu"}, "Expected the device"),
        (clip, {"--model": tmp_path / "absent"}, "page4d pull"),
        # Nothing that costs time is done, or even looked at, for a result that has no place to go.
        (tmp_path / "absent", {"--output": tmp_path / "photos", "--model": "x"}, "not empty"),
        (
            tmp_path / "absent",
            {"--output": tmp_path / "photos", "--model": "x", "--overwrite": None},
            "did not write keep.txt",
        ),
        (tmp_path / "absent", {"--output": tmp_path / "photos" / "keep.txt", "--model": "x"}, "is a file"),
        (tmp_path / "absent", {"--output": tmp_path / "photos" / "keep.txt" / "x", "--model": "x"}, "Cannot write"),
        (tmp_path / "absent", {"--output": "/proc/x", "--model": "x"}, "Cannot write /proc/x"),
        (tmp_path / "absent", {"--output": tmp_path / ("x" * 240), "--model": "x"}, "Cannot write .*name too long"),
        (tmp_path / "absent", {"--output": tmp_path / "a\0b", "--model": "x"}, "cannot be a name"),
        (tmp_path / "absent", {"--output": tmp_path / "\udcff", "--model": "x"}, "cannot be a name"),
        (tmp_path / "absent", {"--output": tmp_path / "loop", "--model": "x"}, "cannot be a name"),
        # Values far out of range.
        (clip, {"--fps": 1e300}, "frame rate above 0 and up to 1,000,000, got 1e"),
        (clip, {"--resolution": 2_000_000_012}, "resolution of up to 4096, got 2000000012"),
        (clip, {"--device": "cuda:300"}, "Expected the device"),
        (clip, {"--device": "cuda:99999999999999999999"}, "Expected the device"),
        (clip, {"--model": "x" * 5000}, "No model folder"),
        (clip, {"--model": "~no-such-user/model"}, "No model folder"),
        ("x" * 5000, {}, "No such file or folder"),
    ]
    if not torch.cuda.is_available():
        cases.append((clip, {"--device": "cuda"}, "no CUDA GPU here; use --device cpu"))
    before = sorted(tmp_path.rglob("*"))
    for source, options, message in cases:
        arguments = [word for pair in {**fine, **options}.items() for word in pair if word is not None]
        with pytest.raises(SystemExit) as ended:
            command(source, *arguments)
        said = capsys.readouterr()
        sentences = [line for line in said.err.splitlines() if line.startswith("page4d: ")]
        assert ended.value.code == 1
        assert said.out == ""
        assert len(sentences) == 1
        assert re.search(message, sentences[0]), sentences[0]
        assert "Traceback" not in said.err
        assert sorted(tmp_path.rglob("*")) == before


def test_frames_that_are_not_there_are_found_out_before_torch_is_imported(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "page4d_hf.reconstruction.reconstruct", None)
    with pytest.raises(SystemExit):
        command(tmp_path / "absent.mp4", "--model", "x", "--output", tmp_path / "scene")
    assert "No such file or folder: " in capsys.readouterr().err


@pytest.mark.slow
def test_a_scene_is_replaced_only_with_overwrite(clip, model_folder, tmp_path, capsys):
    arguments = [clip, "--model", model_folder, "--output", tmp_path / "scene", "--resolution", 56]
    command(*arguments, "--max-frames", 2)
    with pytest.raises(SystemExit):
        command(*arguments)
    assert "pass --overwrite" in capsys.readouterr().err
    assert len(read_scene(tmp_path / "scene")) == 2
    command(*arguments, "--max-frames", 3, "--overwrite")
    assert len(read_scene(tmp_path / "scene")) == 3


def test_a_second_reconstruction_into_one_folder_is_refused_before_anything_runs(tmp_path, capsys):
    with open(tmp_path / ".scene.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(SystemExit):
            command(tmp_path / "absent", "--model", "x", "--output", tmp_path / "scene")
    assert "scene is being written by another process" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["masks", "tracks", "motion", "cameras", "intrinsics", "metric-depth"])
def test_a_scene_that_an_option_reads_is_not_replaced(clip, tmp_path, capsys, option):
    with whole_folder(tmp_path / "scene") as folder:
        (folder / "read").mkdir()
        (folder / "read" / "0.png").touch()
    with pytest.raises(SystemExit):
        command(
            clip, "--model", "x", f"--{option}", tmp_path / "scene" / "read",
            "--output", tmp_path / "scene", "--overwrite",
        )  # fmt: skip
    assert f"scene is or holds what is read, {tmp_path / 'scene' / 'read'}" in capsys.readouterr().err
    assert (tmp_path / "scene" / "read" / "0.png").exists()
