"""A video's reconstruction and training as `page4d splat` runs them, with options that suit the machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import tyro
from transformers import set_seed

from page4d_hf import cli
from page4d_hf.captures.sources import find_source
from page4d_hf.errors import Page4DError
from page4d_hf.model_card import TERMS
from page4d_hf.scene.folder import read_scene
from page4d_hf.utils.programs import command
from page4d_hf.weights.loading import load_config
from page4d_hf.weights.shipped import TINY

from .configs import page4d_4dgs
from .data.limits import refuse_a_single_frame

FRAMES = {"cpu": 48, "cuda": 200}  # at most
SIDE_ON_CPU = 220  # pixels: of the longer side of images to train on, about
STEPS_ON_CPU, POINTS_ON_CPU = 1000, 20_000


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def reconstructed(
    source: Path, output: Path, model: str | None, max_frames: int | None, *, overwrite: bool = False
) -> Path:
    """The scene folder of a video or images, with the output's name without the ending; of a scene folder, itself."""
    folder = output.with_suffix("")
    found = find_source(source)
    if found.kind == "scene" and read_scene(source).info:
        return source
    if found.kind != "frames":
        train = command("ns-train", "page4d-4dgs", "--data", source)
        raise Page4DError(f"{source} is a capture with cameras of its own; train on it by `{train}`.")
    if folder.is_dir() and source.exists() and folder.samefile(source):
        raise Page4DError(
            f"The scene folder has the output's name without the ending, and {folder} is what is read; give --output "
            "another name."
        )
    if (folder / "transforms.json").is_file() and not overwrite:
        again = command("page4d", "splat", folder, "--output", output)
        raise Page4DError(f"There is a scene in {folder}: `{again}` trains on it; --overwrite makes it anew.")
    if model is None:
        model = "page4d"
        if Path(model, "config.json").is_file():
            what = TERMS[load_config(model).base_weights].what
            print(f"Weights in the folder {model}: {what}; --model names others.")
        else:
            model = str(TINY)
            print("The model is page4d-tiny, for a first look; `page4d pull nomask` fetches the published weights.")
    frames = FRAMES[_device()] if max_frames is None else max_frames
    words = ("--model", model, "--max-frames", frames, "--output", folder, *["--overwrite"] * overwrite)
    print(f"$ {command('page4d', 'reconstruct', source, *words)}", flush=True)
    cli.reconstruct((str(source),), model=model, max_frames=frames, output=folder, overwrite=overwrite)
    return folder


def trained(scene: Path, downscale: int | None, steps: int | None) -> Path:
    """Train page4d-4dgs on a scene folder, in nerfstudio's folder outputs/.

    Returns:
        The training's config.yml.

    Raises:
        FrameError: the scene has a single frame.
        SystemExit: the training could not go on; what is wrong has been said.
    """
    read = read_scene(scene)
    refuse_a_single_frame(len(read), scene)
    words: list[object] = ["--data", scene, "--vis", "tensorboard"]
    of_data: list[object] = []
    if _device() == "cpu":
        steps = STEPS_ON_CPU if steps is None else steps
        if downscale is None:
            downscale = max(1, round(int(read.image_sizes.max()) / SIDE_ON_CPU))
        of_data = ["--max-points", POINTS_ON_CPU]
    if steps is not None:
        words += ["--max-num-iterations", steps]
    if downscale is not None:
        of_data = ["--downscale", downscale, *of_data]
    words += ["page4d-data", *of_data]
    print(f"$ {command('ns-train', 'page4d-4dgs', *words)}", flush=True)
    method: Any = page4d_4dgs.config
    config = tyro.cli(type(method), default=method, args=list(map(str, words)))
    config.pipeline.datamanager.data = config.data
    config.set_timestamp()
    config.save_config()
    set_seed(config.machine.seed)
    # As ns-train does in one process; nerfstudio.scripts.train, which imports all methods, takes seconds to load.
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    trainer.train()
    return Path(config.get_base_dir()) / "config.yml"
