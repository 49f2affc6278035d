"""Every documented command and snippet is run word for word on small data, or is named here with the reason why not.

What shortens the work may follow a command (`SHORTER`), `outputs/...` is a training of the test's, and what a command
is to write is removed first. Each has a folder of its own, like a checkout with weights and data in it.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from documented import ROOT, command_lines, fences
from forked_python import ForkedPython
from PIL import Image
from small_point_odyssey import Sequence
from small_sintel import SmallSintel
from small_tum import SmallSequence

from page4d_hf.synthetic.capture import write_synthetic_capture

pytestmark = [pytest.mark.slow, pytest.mark.documented]
pytest.importorskip("nerfstudio", reason="nerfstudio is not installed")

NOT_RUN = {  # what begins thus, and why
    "page4d pull nomask": "downloads published weights",
    "page4d pull mask": "downloads published weights",
    "page4d pull vggt": "downloads published weights",
    "page4d convert checkpoint_nomask.pt": "needs published weights; test_convert_checkpoint.py has small ones",
    "page4d convert full_mask.pt": "the same",
    "ns-train splatfacto": "needs a GPU",
    "python evaluation/benchmark.py --device cuda": "needs a GPU",
    "python benchmarks/train.py --networks full": "has the size of the published network",
    "python benchmarks/gpu.py": "needs a GPU; test_gpu.py runs --toy",
    "python3 benchmarks/gpu.py": "the same",
    "accelerate launch --config_file training/accelerate/ddp.yaml": "needs four GPUs",
    "python training/tiny.py": "trains for hours; test_tiny.py has small stages",
    "python training/ablation.py": "needs a stage of `make tiny`; test_ablation.py makes a small one",
    "python evaluation/evaluate.py pose --predictions": "needs a whole TUM; test_predictions.py scores small ones",
    "accelerate launch evaluation/evaluate.py pose": "needs a whole TUM; test_evaluate.py has two processes",
    "page4d reconstruct clip.mp4 --model page4d --intrinsics": "is of a video of 1920x1080",
    "ns-train page4d-4dgs --data hand-on-shelf --max-num-iterations 400": "needs more texture; test_seed_points.py",
    "python training/annotate.py": "starts a cluster; test_annotate.py has one",
    "python evaluation/compare.py": "trains many times; test_comparison.py and test_novel_views.py do so in small",
}
SHORTER = {  # what begins thus, and what follows it; the longest start counts
    "page4d synth": "--width 96 --height 54 --num-frames 12 --held-out-every 4 --supersampling 1",
    "page4d splat": "--steps 2",
    "ns-train": "--max-num-iterations 2 --vis tensorboard",
    "accelerate launch training/finetune.py": "--max-train-steps 1 --sampling.frame-budget 2 --sampling.frames-max 2 "
    "--sampling.width 56",
    "accelerate launch --config_file training/accelerate/cpu.yaml": "--max-train-steps 1 --evaluation.micro-batches 1",
    "python training/prepare.py": "--workers 0",
    "python training/prepare.py synthetic": "--workers 0 --num-clips 2 --frames-per-clip 2 --width 56 --height 56",
    "python evaluation/mask_study.py --model page4d --output": "--synthetic.clips 2 --frames 3 --pictures 1",
    "python evaluation/held_out.py": "--clips.clips 2 --clips.frames 3",
    "python evaluation/benchmark.py --model": "--frames 2 --repeats 1",
    "python evaluation/benchmark.py --mask": "--model page4d --frames 2 --repeats 1 --image-size 56 56",
    "python benchmarks/known_motion.py": "--steps 2 --points 200 --width 40 --height 32",
    "python benchmarks/rasterize.py": "--rounds 1 --gaussians 100 --width 32 --height 32",
    "python benchmarks/train.py": "--networks page4d-tiny --rounds 1 --clips 1 --frames 2 --height 48 --width 48",
    "python benchmarks/train.py --data": "--networks page4d-tiny --steps 3 --frame-budget 2 --workers 1",
}
AFTER_WHICH = ("page4d-data", "colmap")  # words that begin the options of a subcommand
SERVERS = {"page4d view": "http", "page4d app": "http", "ns-viewer": "http"}  # run until Ctrl-C, and say where before
CAPTURES = (
    "capture", "path/to/capture", "path/to/nerfies/capture", "my-capture", "captures/room", "scenes/room",
    "unseen/orbit", "room", "hand-on-shelf", "path/to/hand-on-shelf", "living-room", "rigid", "deforming",
    "fast-camera", "crowded", "orbit", "orbit640",
)  # fmt: skip


# What a page's Python stands on that it does not say.
BEFORE = {
    "docs/evaluation.md": """
        import torch

        depth, extrinsics = torch.ones(2, 4, 6).numpy(), torch.eye(4)[:3].repeat(2, 1, 1).numpy()
        """,
    "docs/mask-study.md": """
        import sys
        import torch
        from small_networks import small_network

        sys.path.insert(0, "evaluation")
        model = small_network(num_hidden_layers=13, head_layers=[0, 2, 3, 12])
        pixel_values, moving = torch.rand(1, 2, 3, 28, 42), torch.rand(1, 2, 2, 3) < 0.5
        """,
    "docs/model.md": """
        import torch
        from small_networks import small_network

        model = small_network()
        clip = {"pixel_values": torch.rand(2, 3, 28, 42), "labels": {"depth": torch.rand(2, 28, 42) + 1}}
        dataset = [clip, clip]
        """,
    "docs/results.md": """
        from page4d_hf.clips import random_clips
        from page4d_hf.synthetic import SyntheticOptions
        """,
}


def starts(line: str, beginnings: dict[str, str]) -> str | None:
    return max((start for start in beginnings if line.startswith(start)), key=len, default=None)


LINES = {shlex.join(words): page for page, words in command_lines() if "$" not in shlex.join(words)}
RUN = {line: page for line, page in LINES.items() if starts(line, NOT_RUN) is None and "-m pytest" not in line}


def link(name: Path, target: Path) -> None:
    name.parent.mkdir(parents=True, exist_ok=True)
    name.symlink_to(target)


def remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.is_dir():
        shutil.rmtree(path)


def shortened(words: list[str]) -> list[str]:
    start = starts(shlex.join(words), SHORTER)
    if start is None or "--help" in words:
        return words
    end = min((words.index(word) for word in AFTER_WHICH if word in words), default=len(words))
    return [*words[:end], *shlex.split(SHORTER[start]), *words[end:]]


class Typist:
    """Types commands in a folder."""

    def __init__(self, python: ForkedPython, folder: Path) -> None:
        self.python, self.folder = python, folder
        self.log = folder.parent / f"{folder.name}.log"

    def type(self, line: str) -> str:
        """What a command says that succeeds."""
        code, told = self.outcome(self.words(line))
        assert code == 0, told[-3000:]
        return told

    def words(self, line: str) -> list[str]:
        trained = next(iter(sorted(self.folder.glob("outputs/scene/page4d-4dgs/*/config.yml"))), None)
        words = shortened(shlex.split(line))
        if trained is not None:
            words = [word.replace("outputs/...", str(trained.parent.relative_to(self.folder))) for word in words]
        words = [found for word in words for found in ([*map(str, self.folder.glob(word))] if "*" in word else [word])]
        if "--output" in words:
            remove(self.folder / words[words.index("--output") + 1])
        if words[1] == "synth":
            remove(self.folder / words[2])
        if line == "page4d pull tiny":
            remove(self.folder / "page4d")
        if words[1] == "splat" and words[2] != "scene":
            remove(self.folder / "scene")
        return words

    def outcome(self, words: list[str]) -> tuple[int, str]:
        """Exit code and what is said; of what runs until Ctrl-C, 0 and what is said until it can be seen."""
        line = shlex.join(words)
        if words[:3] == ["accelerate", "launch", "training/finetune.py"]:
            words = ["python", *words[2:]]  # as it does for one process
        process = self.python.start(*words, cwd=self.folder, log=self.log)
        server = starts(line, SERVERS)
        if server is None or "--screenshot" in words:
            return process.wait(), self.said()
        while (running := process.poll() is None) and SERVERS[server] not in self.said():
            time.sleep(0.1)
        told = self.said()
        process.send_signal(signal.SIGINT)
        process.wait()
        return int(not running), told

    def said(self) -> str:
        return self.log.read_text() if self.log.exists() else ""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkedPython]:
    caches = {
        "PAGE4D_CACHE": str(tmp_path_factory.mktemp("cache")),
        "HF_DATASETS_CACHE": str(tmp_path_factory.mktemp("datasets")),
    }
    python = ForkedPython(tmp_path_factory.mktemp("documented") / "bin", **caches)
    yield python
    python.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, python: ForkedPython) -> Path:
    """A folder with all that documented commands name, and with what they find where they follow each other."""
    typist = Typist(python, tmp_path_factory.mktemp("place"))
    prepare(typist, tmp_path_factory.mktemp("data"))
    return typist.folder


def prepare(typist: Typist, data: Path) -> None:
    folder = typist.folder
    capture = write_synthetic_capture(
        data / "capture", num_frames=12, width=96, height=54, held_out_every=4, supersampling=1, num_points=500
    )
    for name in ("benchmarks", "evaluation", "training"):
        link(folder / name, ROOT / name)
    for name in ("page4d", "page4d-nomask", "page4d-mask", "page4d-tiny"):
        link(folder / name, ROOT / "page4d_hf/weights/tiny")
    for name in ("my-video.mp4", "clip.mp4", "long.mp4", "film.mp4", "videos/a.mp4"):
        link(folder / name, capture / "video.mp4")
    for name in CAPTURES:
        link(folder / name, capture)

    typist.type("page4d reconstruct clip.mp4 --model page4d --output scene")
    scene, images = folder / "scene", sorted((folder / "scene/images").iterdir())
    typist.type("page4d export scene --format colmap --output colmap")
    link(folder / "images", scene / "images")
    cameras = json.loads((scene / "transforms.json").read_text())
    del cameras["ply_file_path"]
    (folder / "transforms.json").write_text(json.dumps(cameras))
    for i, image in enumerate(images[:3]):
        link(folder / f"frame{i}.png", image)
    link(folder / "photo.jpg", images[0])
    for name, value in (("hidden", 255), ("motion", 0)):
        (folder / name).mkdir()
        mask = np.full((54, 96), value, np.uint8)
        mask[20:40, 20:40] = 255 - value
        for image in images:
            Image.fromarray(mask).save(folder / name / image.name)
    for name in ("rigid", "deforming", "fast-camera", "living-room"):
        link(folder / "rec" / name, scene)

    sintel, tum = SmallSintel(data / "sintel"), SmallSequence(data / "tum")
    for name in ("path/to/sintel", "sintel"):
        link(folder / name, sintel.root)
    for name in ("path/to/tum", "rgbd", "tum"):
        link(folder / name, tum.root)
    link(folder / "path/to/PointOdyssey", Sequence(data / "odyssey").root)
    (folder / "monst3r/final").mkdir(parents=True)
    for name in ("path/to/kitti", "kitti_raw"):
        drive = folder / name / "2011_09_26/2011_09_26_drive_0002_sync/image_02/data"
        drive.mkdir(parents=True)
        for i in range(2):
            cv2.imwrite(str(drive / f"{i:010d}.png"), np.full((38, 124, 3), i, np.uint8))

    for root, name in (("captures/room", "room"), ("unseen/orbit", "unseen")):
        typist.type(f"python training/prepare.py capture --root {root} --output clips/{name}")
    for name in ("clips/tum", "clips/odyssey", "clips/mine", "user/name"):
        link(folder / name, folder / "clips/room")
    for name in ("a", "b"):
        typist.type(
            f"python evaluation/evaluate.py pose --trivial --dataset nerfies --data-root scenes --output runs/{name}"
        )
    link(folder / "runs/mine", ROOT / "page4d_hf/weights/tiny")
    for name in ("capture", "scene"):
        typist.type(f"ns-train page4d-4dgs --data {name}")
    for name in ("path", "frozen"):
        typist.type(f"page4d camera-path --load-config outputs/.../config.yml --seconds 0.1 --output {name}.json")


@pytest.fixture
def typist(place: Path, python: ForkedPython, tmp_path: Path) -> Iterator[Typist]:
    yield Typist(python, copy(place, tmp_path / "checkout"))
    shutil.rmtree(tmp_path / "checkout")  # trainings are large


def copy(place: Path, folder: Path) -> Path:
    """A copy of a place, with links to its trainings."""
    shutil.copytree(place, folder, symlinks=True, ignore=shutil.ignore_patterns("20??-??-??_*"))
    for training in place.glob("outputs/*/page4d-4dgs/*"):
        link(folder / training.relative_to(place), training)
    return folder


@pytest.mark.parametrize("line", RUN, ids=[f"{page}: {line}" for line, page in RUN.items()])
def test_a_documented_command_does_what_it_is_for(typist: Typist, line: str) -> None:
    told = typist.type(line)
    assert "Traceback" not in told
    for option in ("--output", "--screenshot", "--output-path"):
        words = shlex.split(line)
        if option in words and not line.startswith("python evaluation/benchmark.py"):  # which adds an ending
            assert (typist.folder / words[words.index(option) + 1]).exists(), told


@pytest.mark.parametrize("page", sorted({page for page, _ in fences("python")}))
def test_documented_python_runs(typist: Typist, page: str) -> None:
    blocks = [re.sub(r"^>>> ", "", block, flags=re.M) for name, block in fences("python") if name == page]
    helpers = [str(folder) for folder in (ROOT / "tests/helpers").iterdir()]
    lines = [f"import sys; sys.path += {helpers!r}"]  # of what stands before
    lines += ['names = {"__name__": "page4d_hf.captures.layouts.mine", "__package__": "page4d_hf.captures.layouts"}']
    lines += [f"exec({block!r}, names)" for block in (textwrap.dedent(BEFORE.get(page, "")), *blocks)]
    if any("write_scene(" in block for block in blocks):
        remove(typist.folder / "scene")
    (typist.folder / "page.py").write_text("\n".join(lines))
    typist.type("python page.py")


def test_what_is_not_run_is_still_documented() -> None:
    for start in (*NOT_RUN, *SHORTER):
        assert any(line.startswith(start) for line in LINES), start
