"""`training/prepare.py`: captures to data sets of clips, in one go or in several."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import prepare
import pyarrow.parquet as pq
import pytest
from folder_contents import contents
from launching import dies_at
from PIL import Image
from small_captures import write_capture

from page4d_hf.captures import DATASETS, as_pinhole, read_capture
from page4d_hf.clips import decode_frames

pytestmark = pytest.mark.slow

PROGRAM = Path(__file__).resolve().parents[2] / "training" / "prepare.py"

# The program, killed at the moment when the second shard gets its name.
KILLED = (
    dies_at("train-00001.parquet")
    + f"""
sys.argv = ["prepare.py", *sys.argv[1:]]
runpy.run_path({str(PROGRAM)!r}, run_name="__main__")
"""
)


def write_tum(root: Path, names: list[str], count: int = 2) -> Path:
    """Sequences in the layout of TUM RGB-D, in the only size that its cameras have."""
    generator = np.random.default_rng(0)

    def noise(high: int, dtype: type, *channels: int) -> np.ndarray:
        """Coarse enough for small files."""
        return generator.integers(0, high, (24, 32, *channels)).astype(dtype).repeat(20, axis=0).repeat(20, axis=1)

    for name in names:
        folder = root / f"rgbd_dataset_freiburg3_{name}"
        for part in ("rgb", "depth"):
            (folder / part).mkdir(parents=True)
        times = [f"{1000 + i / 30:.6f}" for i in range(count)]
        for time in times:
            Image.fromarray(noise(256, np.uint8, 3)).save(folder / "rgb" / f"{time}.png")
            Image.fromarray(noise(30_000, np.uint16)).save(folder / "depth" / f"{time}.png")
        for part in ("rgb", "depth"):
            (folder / f"{part}.txt").write_text("".join(f"{time} {part}/{time}.png\n" for time in times))
        (folder / "groundtruth.txt").write_text("".join(f"{time} 0 0 {i} 0 0 0 1\n" for i, time in enumerate(times)))
    return root


def run(*arguments: object) -> None:
    prepare.main([str(argument) for argument in arguments])


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What the program says when it ends with exit code 1: a single line."""
    with pytest.raises(SystemExit) as ended:
        run(*arguments, "--workers", 0)
    assert ended.value.code == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("prepare: ")]
    assert len(lines) == 1
    return lines[0]


def rows(output: Path, split: str = "train") -> list[dict]:
    shards = sorted((output / "data").glob(f"{split}-*.parquet"))
    found = [row for shard in shards for row in pq.read_table(shard).to_pylist()]
    return sorted(found, key=lambda row: row["clip_id"])


def test_every_data_set_that_has_a_reader_can_be_named():
    assert {*DATASETS, "capture", "synthetic"} == set(get_args(prepare.Source))


def test_a_capture_comes_back_from_parquet_as_it_was(tmp_path, capsys):
    root = write_capture(tmp_path / "capture", 7, val=())
    out = tmp_path / "my clips"
    run("capture", "--root", root, "--split", "all", "--output", out, "--frames-per-clip", 4, "--workers", 0)
    said = capsys.readouterr().out
    assert "train: 2 clips, 7 frames, 1 Parquet file." in said
    assert "Left out" not in said
    assert f"Next: accelerate launch training/finetune.py --dataset '{out}' --model page4d" in said
    frames = as_pinhole(read_capture(root))
    decoded = [decode_frames(row, range(row["num_frames"])) for row in rows(out)]
    assert [len(clip) for clip in decoded] == [4, 3]
    np.testing.assert_array_equal(np.concatenate([clip.extrinsics for clip in decoded]), frames.capture.extrinsics)
    np.testing.assert_array_equal(np.concatenate([clip.intrinsics for clip in decoded]), frames.intrinsics)
    images = np.concatenate([clip.images for clip in decoded])
    np.testing.assert_array_equal(images, [frames.load_image(i) for i in range(7)])


@pytest.mark.usefixtures("quick_programs")
def test_a_run_that_was_killed_goes_on_to_the_same_files(tmp_path, capsys):
    # Noise of 83 KB an image: five clips of three images make a shard.
    root, generator = write_capture(tmp_path / "capture", 36, val=(), size=(192, 144)), np.random.default_rng(0)
    for path in sorted((root / "rgb/1x").iterdir()):
        Image.fromarray(generator.integers(0, 256, (144, 192, 3), np.uint8)).save(path)
    options = ["--root", root, "--split", "all", "--frames-per-clip", 3, "--shard-megabytes", 1]
    run("capture", "--output", tmp_path / "whole", *options, "--workers", 0)
    arguments = [str(part) for part in ("capture", "--output", tmp_path / "out", *options, "--workers", 1)]
    killed = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    whole, left = contents(tmp_path / "whole"), contents(tmp_path / "out")
    assert [name for name in left if name.endswith(".parquet")] == ["data/train-00000.parquet"]
    assert [name for name in left if name.startswith("data/.train-00001.parquet.partial-")]
    capsys.readouterr()
    run("capture", "--output", tmp_path / "out", *options, "--workers", 0)
    assert f"Going on with {tmp_path / 'out'}, which has 5 clips." in capsys.readouterr().out
    assert contents(tmp_path / "out") == whole
    assert len([name for name in whole if name.endswith(".parquet")]) == 3
    assert len({row["clip_id"] for row in rows(tmp_path / "out")}) == 12


@pytest.mark.usefixtures("quick_programs")
def test_the_number_of_workers_does_not_show(tmp_path):
    root = write_tum(tmp_path / "tum", ["walking_xyz", "sitting_rpy", "sitting_xyz"])
    options = ["tum", "--root", root]
    run(*options, "--output", tmp_path / "none", "--workers", 0)
    command = [sys.executable, PROGRAM, *options, "--output", tmp_path / "two", "--workers", 2]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "none") == contents(tmp_path / "two")


def test_sequences_are_divided_as_wholes(tmp_path):
    names = [f"walking_{i}" for i in range(6)]
    root = write_tum(tmp_path / "tum", names)
    run("tum", "--root", root, "--output", tmp_path / "out", "--validation-share", 0.3, "--workers", 0)
    train, validation = rows(tmp_path / "out"), rows(tmp_path / "out", "validation")
    sequences = [{row["sequence"] for row in part} for part in (train, validation)]
    assert (len(train), len(validation)) == (4, 2)
    assert not sequences[0] & sequences[1]
    assert len(sequences[1]) == 2


@pytest.mark.parametrize(("words", "taken"), [((), {0, 1, 2, 4, 5}), (("--split", "all"), set(range(6)))])
def test_held_out_frames_of_a_capture_are_taken_only_where_that_is_asked_for(tmp_path, words, taken):
    root, out = write_capture(tmp_path / "capture", 6, val=(3,)), tmp_path / "out"
    run("capture", "--root", root, "--output", out, "--workers", 0, *words)
    assert {int(frame) for row in rows(out) for frame in row["frame_ids"]} == taken


def test_a_capture_is_held_out_with_all_cameras_of_its_rig(tmp_path):
    for name in ("broom", "curls", "tail"):
        root = write_capture(tmp_path / "rigs" / name, 8, val=())
        metadata = json.loads((root / "metadata.json").read_text())
        for number, entry in enumerate(metadata.values()):
            entry["camera_id"] = number // 4
        (root / "metadata.json").write_text(json.dumps(metadata))
    options = ["nerfies", "--root", tmp_path / "rigs", "--validation-share", 0.3, "--workers", 0]
    run(*options, "--output", tmp_path / "out")
    parts = [{row["sequence"] for row in rows(tmp_path / "out", part)} for part in ("train", "validation")]
    assert [len(part) for part in parts] == [4, 2]
    train, validation = ({name.split("/")[0] for name in part} for part in parts)
    assert not train & validation


@pytest.mark.parametrize("source", ["spring", "dynamic-replica"])
def test_both_eyes_of_a_scene_are_held_out_together(source):
    ending = {"spring": "/{}", "dynamic-replica": "_source_{}"}[source]
    names = [f"train/{i:04d}" + ending.format(eye) for i in range(10) for eye in ("left", "right")]
    parts = prepare.divide_sequences(names, 0.2, 0, DATASETS[source].scene)
    assert [len(part) for part in parts.values()] == [16, 4]
    train, validation = ({name[: len("train/0000")] for name in part} for part in parts.values())
    assert not train & validation


def test_a_scene_of_point_odyssey_is_held_out_with_all_cameras_and_renderings():
    scenes = {
        "kg": ["kg", "kg_ego1", "kg_ego2"],
        "scene_j716": ["scene_j716_3rd", "scene_j716_ego1", "scene_j716_ego2"],
        "scene1_0129": ["scene1_0129", "scene1_0129_ego"],
        "dancingroom1": ["dancingroom1_3rd1", "dancingroom1_3rd2"],
        "girl": ["girl", "girl_egocentric"],
        "character2": ["character2", "character2_", "character2_f"],
        "character3": ["character3_f"],
        "r0": ["r0_new", "r0_new_", "r0_new_f", "r0_new_f_"],
        "ani10": ["ani10_new_", "ani10_new_f"],
    }
    scene_of = {f"train/{name}": scene for scene, names in scenes.items() for name in names}
    for seed in range(5):
        parts = prepare.divide_sequences(list(scene_of), 0.3, seed, DATASETS["point-odyssey"].scene)
        train, validation = ({scene_of[name] for name in part} for part in parts.values())
        assert len(validation) == 3
        assert not train & validation


def test_sequences_come_in_a_random_order_folder_by_folder():
    names = [f"{category}/{i}" for category in ("apple", "ball", "car", "donut") for i in range(5)]
    parts = prepare.divide_sequences(names, 0.2, 0)
    train, validation = parts["train"], parts["validation"]
    assert len(validation) == 4
    assert sorted(train + validation) == names
    assert train != sorted(train)
    for part in (train, validation):
        folders = [name.split("/")[0] for name in part]
        changes = sum(one != other for one, other in itertools.pairwise(folders))
        assert changes == len(set(folders)) - 1
    assert prepare.divide_sequences(names[::-1], 0.2, 0) == parts
    assert prepare.divide_sequences(names, 0.2, 1) != parts


def test_sequences_can_be_chosen_by_pattern(tmp_path, capsys):
    root = write_tum(tmp_path / "tum", ["walking_xyz", "walking_rpy", "sitting_xyz"])
    run("tum", "--root", root, "--output", tmp_path / "out", "--sequences", "*walking*", "--workers", 0)
    assert len(rows(tmp_path / "out")) == 2
    said = refusal(capsys, "tum", "--root", root, "--output", tmp_path / "other", "--sequences", "running")
    assert "has no sequence 'running'; it has 3, for example" in said
    assert not (tmp_path / "other").exists()


def test_broken_frames_clips_and_sequences_are_named_counted_and_left_out(tmp_path, capsys):
    root = write_tum(tmp_path / "tum", ["a", "b", "c"], count=3)
    paths = {name: root / f"rgbd_dataset_freiburg3_{name}" for name in "abc"}
    broken = sorted((paths["a"] / "rgb").iterdir())[1]
    broken.write_bytes(broken.read_bytes()[:-300])
    for depth in (paths["b"] / "depth").iterdir():
        Image.fromarray(np.zeros((480, 640), np.uint16)).save(depth)
    (paths["c"] / "groundtruth.txt").write_text("nothing\n")
    run("tum", "--root", root, "--output", tmp_path / "out", "--workers", 0)
    said = capsys.readouterr().out
    assert "train: 1 clip, 2 frames, 1 Parquet file." in said
    listed = (tmp_path / "out" / "skipped.txt").read_text().splitlines()
    kinds = {line.split()[0]: line for line in listed}
    assert broken.name in kinds["frame"]
    assert "its depth maps hold no valid value" in kinds["clip"]
    assert "freiburg3_c" in kinds["sequence"]
    assert len(listed) == 3
    assert "Left out: " in said
    for kind in ("frame", "clip", "sequence"):
        assert f"1 {kind}" in said


def test_a_source_of_which_nothing_can_be_used_is_refused(tmp_path, capsys):
    root = write_capture(tmp_path / "capture", 4, val=())
    for image in (root / "rgb" / "1x").iterdir():
        image.write_bytes(image.read_bytes()[:-300])
    said = refusal(capsys, "capture", "--root", root, "--output", tmp_path / "out")
    assert "No clip of capture could be written" in said
    assert "000000.png" in said


def test_a_folder_of_clips_is_not_gone_on_with_from_another_root(tmp_path, capsys):
    """Whose captures may well have the same names."""
    roots = [write_capture(tmp_path / place / "scene", 4, val=()) for place in ("here", "there")]
    out = tmp_path / "out"
    run("capture", "--root", roots[0], "--output", out, "--workers", 0)
    said = refusal(capsys, "capture", "--root", roots[1], "--output", out, "--workers", 0)
    assert "was begun with --root" in said
    assert str(tmp_path) not in (out / "README.md").read_text()  # which may be published


def test_a_data_set_that_is_missing_is_said_where_to_find(tmp_path, capsys):
    for name, layout in DATASETS.items():
        said = refusal(capsys, name, "--root", tmp_path / "absent", "--output", tmp_path / "out")
        assert " ".join(layout.published.split()) in said
        assert " ".join(layout.looks.split()) in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("tum",), "Name the folder of tum with --root"),
        (("capture", "--root", "{root}", "--frames-per-clip", 1), "--frames-per-clip must be from 2"),
        (("capture", "--root", "{root}", "--stride", 0), "--stride must be from 1"),
        (("capture", "--root", "{root}", "--max-side", 3), "--max-side must be from 14"),
        (("capture", "--root", "{root}", "--split", "test"), "has no split 'test'"),
        (("capture", "--root", "{root}", "--validation-share", 0.5), "there is only capture; leave it out"),
        (("capture", "--root", "{root}/rgb"), "holds no capture of a known layout"),
        (("synthetic", "--root", "{root}"), "synthetic takes no --root"),
        (("synthetic", "--num-clips", 0), "--num-clips must be from 1"),
        (
            ("synthetic", "--width", 8192, "--height", 8192),
            "200,000,000 pixels, all that are made together; got 1 of 16",
        ),
        (("synthetic", "--frames-per-clip", 100_000), "got 1 of 100,000 frames of 224 x 168: lower one of them"),
    ],
)
def test_a_wrong_option_is_refused_in_one_sentence(tmp_path, capsys, arguments, words):
    root = write_capture(tmp_path / "capture", 2, val=())
    arguments = [str(argument).replace("{root}", str(root)) for argument in arguments]
    assert words in refusal(capsys, *arguments, "--output", tmp_path / "out")


def test_synthetic_scenes_become_clips(tmp_path):
    options = ["synthetic", "--num-clips", 10, "--frames-per-clip", 2, "--width", 28, "--height", 14, "--workers", 0]
    run(*options, "--validation-share", 0.2, "--output", tmp_path / "out")
    train, validation = rows(tmp_path / "out"), rows(tmp_path / "out", "validation")
    assert (len(train), len(validation)) == (8, 2)
    frames = decode_frames(train[0], [0, 1])
    assert frames.images.shape == (2, 14, 28, 3)
    assert frames.metric
    assert (frames.depth > 0).all()


def test_a_real_sequence_is_converted_with_its_depth_exact(shared, tmp_path):
    root = shared / "data" / "tum-walking-halfsphere"
    run("capture", "--root", root, "--output", tmp_path / "out", "--stride", 15, "--workers", 0)
    (row,) = rows(tmp_path / "out")
    clip = decode_frames(row, range(row["num_frames"]))
    frames = as_pinhole(read_capture(root))
    chosen = [frames.capture.frame_ids.index(frame_id) for frame_id in clip.frame_ids]
    assert chosen == list(range(0, len(frames), 15))
    assert (row["source"], clip.metric) == ("tum", True)
    for place, i in enumerate(chosen):
        assert row["images"][place]["bytes"] == frames.capture.image_paths[i].read_bytes()
        np.testing.assert_array_equal(clip.depth[place], frames.load_depth(i))
    np.testing.assert_array_equal(clip.extrinsics, frames.capture.extrinsics[chosen])
    np.testing.assert_array_equal(clip.intrinsics, frames.intrinsics[chosen])
    np.testing.assert_array_equal(clip.timestamps, frames.capture.timestamps[chosen])
