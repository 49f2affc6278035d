"""`training/annotate.py`: videos to clips, over the workers of a Ray cluster."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from folder_contents import contents
from forked_python import ForkedPython
from launching import dies_at

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed (the extra scale)"),
]

TRAINING = Path(__file__).resolve().parents[2] / "training"
TINY = TRAINING.parent / "page4d_hf" / "weights" / "tiny"
BESIDE = os.pathsep.join(filter(None, (str(TRAINING), os.environ.get("PYTHONPATH"))))
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": BESIDE}  # workers import the programs below

# The program, killed at the moment when the second file gets its name.
KILLED = dies_at("train-00001.parquet") + "import annotate\nannotate.main(sys.argv[1:])\n"


@pytest.fixture(scope="module")
def cluster(forking_python: ForkedPython) -> Iterator[str]:
    """The address of a cluster of this machine alone, with two cores to give, whose workers are forked."""
    python = str(forking_python.executable)
    command = [python, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--port=0"]  # any free one
    command += ["--num-cpus=2", "--include-dashboard=false", "--disable-usage-stats"]
    head = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ENVIRONMENT)
    assert head.stdout is not None
    told = []
    for line in head.stdout:
        told.append(line)
        if found := re.search(r"--address='([^']+)'", line):
            break
    else:
        pytest.fail(f"Ray did not start: {''.join(told)}")
    yield found[1]
    head.terminate()
    head.communicate()


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three videos of rooms, and one that is broken."""
    from page4d_hf.synthetic.capture import write_synthetic_capture

    folder = tmp_path_factory.mktemp("videos")
    (folder / "below").mkdir()
    for name, seed in (("a.mp4", 0), ("below/b b.mp4", 1), ("c.mp4", 2)):
        room = tmp_path_factory.mktemp("video") / "room"
        write_synthetic_capture(room, seed=seed, num_frames=12, width=112, height=84, supersampling=1, num_points=100)
        shutil.copy(room / "video.mp4", folder / name)
    (folder / "broken.mp4").write_text("no video")
    return folder


@pytest.fixture(scope="module")
def run(forking_python: ForkedPython) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Of the program in training/, or of another with its options."""
    return partial(ended_run, forking_python.executable)


def ended_run(python: Path, program: str | None, *options: object) -> subprocess.CompletedProcess[str]:
    how = [str(TRAINING / "annotate.py")] if program is None else ["-c", program]
    words = [python, *how, *map(str, options)]
    # Not in the folder of the cluster's workers: a path that is relative here is another one there.
    return subprocess.run(words, capture_output=True, text=True, check=False, env=ENVIRONMENT, cwd=TINY.parent)


def options(videos: Path, output: Path, cluster: str) -> list[object]:
    """Anything that could be refined is kept, in files of one or two videos."""
    lenient = ["--trust.min-inliers", 0, "--trust.max-error", 100, "--trust.min-parallax", 0]
    lenient += ["--trust.max-depth-error", 10, "--shard-megabytes", 0.05]
    return [videos, "--model", TINY.name, "--output", output, "--address", cluster, *lenient]


@pytest.fixture(scope="module")
def by_one_worker(run, videos: Path, cluster: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The data set that one worker makes, and what the program printed."""
    output = tmp_path_factory.mktemp("clips") / "one"
    ended = run(None, *options(videos, output, cluster), "--workers", 1)
    assert ended.returncode == 0, ended.stderr
    return output, ended.stdout


def test_videos_become_clips_with_depth_and_cameras(by_one_worker):
    output, _ = by_one_worker
    rows = [row for path in (output / "data").iterdir() for row in pq.read_table(path).to_pylist()]
    assert {row["sequence"] for row in rows} == {"a.mp4", "below/b b.mp4", "c.mp4"}
    assert all(row["num_frames"] == 12 and row["depth"] and row["extrinsics"] for row in rows)


def test_broken_videos_are_named_and_counted(by_one_worker):
    output, printed = by_one_worker
    left_out = (output / "skipped.txt").read_text()
    assert "sequence videos/broken.mp4: Cannot read the video" in left_out
    assert "Left out: 1 sequence;" in printed


def test_a_run_that_was_killed_goes_on_with_more_workers_to_the_same_files(
    run, videos, cluster, by_one_worker, tmp_path
):
    words = [*options(videos, tmp_path / "out", cluster), "--workers", 2]
    killed = run(KILLED, *words)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not json.loads((tmp_path / "out" / "clips.json").read_text())["complete"]
    again = run(None, *words)
    assert again.returncode == 0, again.stderr
    assert f"Going on with {tmp_path / 'out'}" in again.stdout
    assert contents(tmp_path / "out") == contents(by_one_worker[0])


def test_a_run_that_stopped_between_its_last_file_and_its_record_is_finished(tmp_path, monkeypatch):
    import annotate

    from page4d_hf.clips.encoding import encode_synthetic_clips
    from page4d_hf.reconstruction.annotation import Outcome

    def annotated(todo, *_):
        assert todo
        clips = encode_synthetic_clips([0], num_frames=2, image_size=(28, 28))
        return [(name, Outcome(clips)) for name, _ in todo]

    monkeypatch.setattr(annotate, "run_on_ray", annotated)
    (tmp_path / "a.mp4").write_text("video")
    output = tmp_path / "out"
    words = [str(tmp_path / "a.mp4"), "--model", str(TINY), "--output", str(output)]
    annotate.main(words)
    whole = contents(output)
    (output / "README.md").unlink()
    (output / "clips.json").write_text(json.dumps({**json.loads(whole["clips.json"]), "complete": False}))
    annotate.main(words)
    assert contents(output) == whole


def test_videos_for_which_memory_ran_out_are_tried_once_more_one_at_a_time(tmp_path, monkeypatch):
    import annotate

    from page4d_hf.clips.encoding import EncodedClip, Skip, encode_synthetic_clips
    from page4d_hf.reconstruction.annotation import Outcome

    asked = []

    def annotated(todo, annotation, workers, address):
        asked.append((sorted(name for name, _ in todo), workers))
        for name, _ in todo:
            if name != "a.mp4" and (workers != 1 or name == "c.mp4"):
                yield name, Outcome([EncodedClip(name, None, [Skip("sequence", name, "too long")])], True)
            else:
                yield name, Outcome(encode_synthetic_clips([ord(name[0])], num_frames=2, image_size=(28, 28)))

    monkeypatch.setattr(annotate, "run_on_ray", annotated)
    for name in "abc":
        (tmp_path / f"{name}.mp4").write_text("video")
    annotate.main([str(tmp_path), "--model", str(TINY), "--output", str(tmp_path / "out"), "--workers", "2"])
    assert asked == [(["a.mp4", "b.mp4", "c.mp4"], 2), (["b.mp4", "c.mp4"], 1)]
    rows = [row for path in (tmp_path / "out" / "data").iterdir() for row in pq.read_table(path).to_pylist()]
    assert len(rows) == 2
    assert (tmp_path / "out" / "skipped.txt").read_text().splitlines() == ["sequence c.mp4: too long"]


def test_a_model_that_a_worker_cannot_load_ends_the_run(run, videos, cluster, tmp_path):
    """And no video counts as done. No thread of Ray Data is left that could end the process before its sentence."""
    program = "import ray, threading\nshut_down = ray.shutdown\n"
    program += "ray.shutdown = lambda: (print(*threading.enumerate()), shut_down())\n"
    program += "from page4d_hf.weights import loading\nloading.load_config = lambda model: None\n"
    program += "from page4d_hf.weights import identity\nidentity.fingerprint = str\n"
    program += "import sys, annotate\nannotate.main(sys.argv[1:])\n"
    ended = run(program, videos, "--model", "nosuch", "--output", tmp_path / "out", "--address", cluster)
    assert ended.returncode == 1
    assert "annotate: No model folder" in ended.stderr
    assert "MainThread" in ended.stdout
    assert not re.search("StreamingExecutor|map_tp", ended.stdout)
    assert not list((tmp_path / "out").glob("data/*"))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "Name video files"),
        (["nosuch"], "there is no nosuch"),
        (["empty"], "Found no video in empty"),
        (["a.mp4", "copy/a.mp4"], "Two videos are named a.mp4"),
        (["a.mp4", "--workers", "0"], "--workers"),
        (["a.mp4", "--fps", "0"], "--fps must be from 0.0001 to 1e+06, got 0"),
        (["a.mp4", "--max-frames", "2"], "--max-frames must be from 3"),
        (["a.mp4", "--address", "127.0.0.1:9"], "Found no Ray cluster at 127.0.0.1:9"),
    ],
)
def test_what_cannot_be_is_told_in_a_sentence(tmp_path, monkeypatch, capsys, words, sentence):
    import annotate

    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "copy").mkdir()
    for name in ("a.mp4", "copy/a.mp4"):
        (tmp_path / name).write_text("video")
    with pytest.raises(SystemExit) as ended:
        annotate.main([*words, "--model", str(TINY), "--output", "out"])
    assert ended.value.code == 1
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists() or "--address" in words
