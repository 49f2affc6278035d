"""Every example runs as its first lines say, at toy size."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from page4d_hf import Page4DImageProcessor
from page4d_hf.synthetic.capture import write_synthetic_capture
from page4d_hf.weights.loading import load_model

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_programs")]
REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with weights and a capture, as the examples' first lines name them."""
    folder = tmp_path_factory.mktemp("examples")
    shutil.copytree(REPOSITORY / "page4d_hf" / "weights" / "tiny", folder / "page4d")
    room = folder / "captures" / "room"
    write_synthetic_capture(room, num_frames=12, width=84, height=56, supersampling=1, num_points=500)
    for name in ("evaluation", "examples"):
        (folder / name).symlink_to(REPOSITORY / name)
    return folder


def run(place: Path, *words: str) -> str:
    beside = str(Path(sys.executable).parent)  # where `page4d` and `ns-train` lie
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": f"{beside}{os.pathsep}{os.environ['PATH']}"}
    ended = subprocess.run(words, cwd=place, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-2000:]
    return ended.stdout


def test_depth_in_transformers_tells_cameras_and_depth_of_each_frame(place):
    images = sorted(str(path) for path in (place / "captures/room/rgb/1x").glob("0_*.png"))[:3]
    told = run(place, sys.executable, "examples/depth_in_transformers.py", "page4d", *images)
    assert [line.split(": ")[0] for line in told.splitlines()] == images


def test_reconstruct_in_python_writes_a_scene_and_a_colmap_model(place):
    run(place, sys.executable, "examples/reconstruct_in_python.py", "page4d", "captures/room/video.mp4", "scene")
    assert (place / "scene/transforms.json").is_file()
    assert (place / "scene-colmap/sparse/0/cameras.bin").is_file()


def test_video_to_web_page_writes_one_file(place):
    run(place, "examples/video_to_web_page.sh", "page4d", "captures/room/video.mp4", "out", "20")
    assert (place / "out/scene.html").read_text().lstrip().lower().startswith("<!doctype html>")


def test_train_with_transformers_saves_a_model_that_is_opened_at_the_resolution_of_its_start(place):
    run(place, sys.executable, "examples/train_with_transformers.py", "page4d", "runs/trainer", "2")
    _, processor = load_model(place / "runs/trainer", device="cpu", dtype="float32")
    start = Page4DImageProcessor.from_pretrained(place / "page4d").size
    assert processor.size == Page4DImageProcessor.from_pretrained(place / "runs/trainer").size == start


def test_evaluate_on_a_capture_writes_tables_beside_trivial_predictors(place):
    run(place, "examples/evaluate_on_a_capture.sh", "page4d", "captures", "runs/evaluation")
    for task in ("video-depth", "pose"):
        assert "trivial" in (place / f"runs/evaluation/{task}/page4d/table.md").read_text().lower()


def test_every_example_has_a_test():
    known = {path.name for path in (REPOSITORY / "examples").iterdir() if path.suffix in (".py", ".sh")}
    tested = Path(__file__).read_text()
    assert all(f"examples/{name}" in tested for name in known)
