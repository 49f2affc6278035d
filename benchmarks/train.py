"""Times steps of training, and what they wait for their data.

    python benchmarks/train.py
    python benchmarks/train.py --networks full --clips 1 --frames 2 --rounds 2
    python benchmarks/train.py --networks full --device cuda --precision bf16 --frames 16 --height 392 --width 518
    python benchmarks/train.py --networks page4d-tiny --train all --checkpointing off --attention sdpa eager \
        --precision no bf16
    python benchmarks/train.py --data

Every configuration has a process of its own, so that its peak memory is its own. They take turns, a step each, so that
whatever else the machine does falls on all of them alike; the table gives the median of the rounds and the best. A step
is what training/finetune.py does with one micro-batch: forward, loss, backward, clipping, AdamW.

`--data` writes clips of 518 x 392 pixels as Parquet, times how long a worker takes to make a micro-batch of them, and
then trains on them with `--workers` workers, for the share of a step that waits for its micro-batch.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

# Threads that spin while they wait take the cores from other processes.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
import tyro
from torch import Tensor

from page4d_hf.utils.programs import input_errors_end_the_program

sys.path.append(str(Path(__file__).resolve().parents[1] / "training"))

# Values of Page4DConfig; the full network is their defaults, and page4d-tiny is the one that comes with the package.
NETWORKS: dict[str, dict[str, Any]] = {
    "tiny": {
        "hidden_size": 96,
        "encoder_num_hidden_layers": 4,
        "encoder_num_attention_heads": 4,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "mask_layer": 1,
        "masked_layers": range(2, 5),
        "head_layers": [1, 2, 4, 5],
        "camera_num_hidden_layers": 2,
        "camera_num_attention_heads": 4,
        "dense_hidden_size": 32,
        "dense_channels": [32, 64, 96, 96],
    },
    "small": {
        "hidden_size": 384,
        "encoder_num_hidden_layers": 12,
        "encoder_num_attention_heads": 6,
        "num_hidden_layers": 12,
        "num_attention_heads": 6,
        "mask_layer": 4,
        "masked_layers": range(5, 10),
        "head_layers": [2, 5, 8, 11],
        "camera_num_attention_heads": 6,
        "dense_hidden_size": 128,
        "dense_channels": [96, 192, 384, 384],
    },
    "full": {},
}
Configuration = tuple[str, str, str, str, str]  # an entry of each of AXES
AXES = ("networks", "train", "checkpointing", "attention", "precision")


@dataclass
class TrainingOptions:
    """Times steps of training, and what they wait for their data."""

    networks: tuple[Literal["tiny", "small", "full", "page4d-tiny"], ...] = ("tiny", "small")
    """Networks to time."""
    train: tuple[Literal["default", "all"], ...] = ("default", "all")
    """What is trained: the masked layers and the mask head, or all. AdamW's moments and gradients of all of the full
    network take 14 GiB."""
    checkpointing: tuple[Literal["off", "on"], ...] = ("off", "on")
    """Whether activations are kept, or computed twice."""
    attention: tuple[Literal["sdpa", "eager"], ...] = ("sdpa",)
    """Implementations of attention."""
    precision: tuple[Literal["no", "bf16"], ...] = ("no",)
    """Whether matrix products are in bfloat16."""
    clips: int = 2
    """Clips of a micro-batch."""
    frames: int = 4
    """Frames of a clip."""
    height: int = 112
    """Height of the images, in pixels."""
    width: int = 112
    """Width of the images, in pixels."""
    rounds: int = 5
    """Measured steps of each configuration; one more goes ahead of them."""
    device: str = "cpu"
    """Where to run."""
    threads: int = 2
    """Threads of PyTorch on the CPU; 0 leaves PyTorch's default."""
    data: bool = False
    """Time the data instead: one training of the first of --networks on clips from Parquet."""
    workers: int = 2
    """With --data: processes that make micro-batches; 0 makes them in the training's own."""
    frame_budget: int = 8
    """With --data: frames of a micro-batch. What a step takes and what its data take both grow with it."""
    steps: int = 10
    """With --data: steps; the first two are not counted."""


def configuration(network: str) -> Any:
    """The `Page4DConfig` of one of `NETWORKS`, or of page4d-tiny."""
    from page4d_hf import Page4DConfig
    from page4d_hf.weights.shipped import TINY

    return Page4DConfig.from_pretrained(TINY) if network == "page4d-tiny" else Page4DConfig(**NETWORKS[network])


def make_step(
    network: str,
    train: str,
    *,
    checkpointing: bool,
    attention: str,
    bf16: bool,
    batch: tuple[Tensor, dict[str, Tensor]],
    device: torch.device,
) -> tuple[Callable[..., None], int]:
    """What training/finetune.py does with one micro-batch, as a function, and how many parameters it trains.

    `network` is one of `NETWORKS`, or page4d-tiny with its trained weights' configuration; `train` is "default" (the
    masked layers and the mask head) or "all". The function takes the first so many frames of the batch, or all.
    """
    from finetuning.options import GroupOptions
    from finetuning.parameters import freeze_all_but, masked_stage, parameter_groups
    from finetuning.run import enable_checkpointing
    from transformers import AutoModel

    config = configuration(network)
    with device:  # random weights of the full network take half a minute on a CPU
        model = AutoModel.from_config(config, attn_implementation=attention).train()
    trained = freeze_all_but(model, ["all"] if train == "all" else masked_stage(config))
    if checkpointing:
        enable_checkpointing(model)
    group = GroupOptions(learning_rate=1e-5, weight_decay=0.01, warmup_steps=0.0)
    optimizer = torch.optim.AdamW(parameter_groups(trained, group, group)[0], fused=device.type == "cuda")
    pixel_values, labels = batch

    def step(frames: int | None = None) -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss = model(
                pixel_values[:, :frames], labels={name: label[:, :frames] for name, label in labels.items()}
            ).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained.values(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step, sum(parameter.numel() for parameter in trained.values())


def make_batch(
    clips: int, frames: int, image_size: tuple[int, int], device: torch.device
) -> tuple[Tensor, dict[str, Tensor]]:
    """Synthetic clips as a micro-batch: `pixel_values` [B, S, 3, H, W] and labels."""
    from page4d_hf.clips import random_clips

    made = random_clips(range(clips), frames, image_size)
    labels = {name: getattr(made, name).to(device) for name in ("extrinsics", "intrinsics", "depth")}
    return made.images.to(device), labels


def answer(pipe: Connection, name: Configuration, options: TrainingOptions) -> None:
    """Send how many parameters are trained, the seconds of each step that is asked for, and at last the peak in GiB."""
    from page4d_hf.utils.measuring import peak_memory, timed

    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    device = torch.device(options.device)
    network, train, checkpointing, attention, precision = name
    step, trained = make_step(
        network,
        train,
        checkpointing=checkpointing == "on",
        attention=attention,
        bf16=precision == "bf16",
        batch=make_batch(options.clips, options.frames, (options.height, options.width), device),
        device=device,
    )
    pipe.send(trained)
    while pipe.recv():
        pipe.send(timed(step, device))
    pipe.send(peak_memory(device) / 2**30)


def time_steps(options: TrainingOptions) -> None:
    """Print the table of configurations."""
    import pandas as pd

    names: list[Configuration] = list(product(*(getattr(options, axis) for axis in AXES)))
    context = multiprocessing.get_context("spawn")
    pipes: list[Connection] = []
    rows = []
    for name in names:
        pipe, theirs = context.Pipe()
        context.Process(target=answer, args=(theirs, name, options), daemon=True).start()
        theirs.close()
        rows.append({**dict(zip(AXES, name, strict=True)), "parameters": f"{pipe.recv():,}"})
        pipes.append(pipe)
    seconds: list[list[float]] = [[] for _ in pipes]
    for _ in range(1 + options.rounds):
        for pipe, of_one in zip(pipes, seconds, strict=True):
            pipe.send(True)
            of_one.append(pipe.recv())
    for pipe, row, (_, *measured) in zip(pipes, rows, seconds, strict=True):  # the first step sets things up
        pipe.send(False)
        median = statistics.median(measured)
        row |= {
            "step": f"{median:.3f} s",
            "best": f"{min(measured):.3f} s",
            "clips / s": f"{options.clips / median:.2f}",
        }
        row["peak"] = f"{pipe.recv():.2f} GiB"
    print(
        f"{options.clips} clips of {options.frames} x {options.height} x {options.width}, {options.rounds} steps each; "
        "peak with weights, gradients, moments and PyTorch itself"
    )
    print(pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True))


# --------------------------------------------------------------------------------------------------------------------
# Data


@contextmanager
def parquet_clips(size: tuple[int, int]) -> Iterator[Path]:
    """A data set of synthetic clips, stored as clips of cameras are: JPEG images, 16-bit depth."""
    from datasets import Dataset

    from page4d_hf.clips import clip_features
    from page4d_hf.clips.encoding import encode_synthetic_clips

    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "data").mkdir()
        for shard in range(2):
            rows = []
            for clip in encode_synthetic_clips(range(4 * shard, 4 * shard + 4), num_frames=16, image_size=size):
                assert clip.row is not None
                rows.append(clip.row | {"images": [as_jpeg(image["bytes"]) for image in clip.row["images"]]})
            path = Path(name) / "data" / f"train-{shard:05d}-of-00002.parquet"
            Dataset.from_list(rows, features=clip_features()).to_parquet(path)
        yield Path(name)


def as_jpeg(png: bytes) -> dict[str, Any]:
    """An image of a row, as JPEG."""
    import io

    import numpy as np
    from PIL import Image

    from page4d_hf.clips.encoding import encode_image

    return {"bytes": encode_image(np.asarray(Image.open(io.BytesIO(png))), jpeg=True), "path": None}


def time_data(options: TrainingOptions) -> None:
    """Print how long micro-batches take to make, and what a training waits for them."""
    import datasets
    from finetuning.options import EvaluationOptions
    from finetuning.options import Options as RunOptions
    from finetuning.run import Finetuning

    from page4d_hf.clips.sampling import SamplingConfig

    datasets.disable_progress_bars()
    if options.threads:
        torch.set_num_threads(options.threads)
    sampling = SamplingConfig(frames_max=max(2, options.frame_budget // 2), frame_budget=options.frame_budget)
    with parquet_clips((392, 518)) as folder, tempfile.TemporaryDirectory() as output:
        network = Path(output) / "network.json"
        network.write_text(configuration(options.networks[0]).to_json_string())
        run = Finetuning(
            RunOptions(
                output=Path(output) / "run",
                dataset=(str(folder),),
                network=network,
                train=("all",),
                max_train_steps=options.steps,
                gradient_accumulation_steps=1,
                sampling=sampling,
                evaluation=EvaluationOptions(steps=0),
                mixed_precision=options.precision[0],
                dataloader_num_workers=options.workers,
                checkpointing_steps=options.steps,
                report_to=(),
            )
        )
        torch.set_num_threads(1)  # as in a worker
        making = []
        for index in range(options.steps):
            start = time.process_time()  # of one thread: what else the machine does leaves it as it is
            batch = run.data[index]
            making.append((time.process_time() - start) / batch["pixel_values"].shape[:2].numel())
        if options.threads:
            torch.set_num_threads(options.threads)
        start = time.process_time()
        run.run()
        own = time.process_time() - start
        lines = [json.loads(line) for line in (Path(output) / "run" / "history.jsonl").read_text().splitlines()]
    per_frame, budget = statistics.median(making), options.frame_budget
    waited, seconds, frames = (sum(line[name] for line in lines[2:]) for name in ("data_seconds", "seconds", "frames"))
    step = (seconds - waited) / frames
    computed = own / sum(line["frames"] for line in lines)
    width, patch_size = run.options.sampling.sizes
    print(
        f"images {width} wide, in patches of {patch_size}; {options.networks[0]} network, all of it trained, about "
        f"{budget} frames a step"
    )
    print(f"making a micro-batch: {per_frame:.3f} s of CPU per frame, one thread (median of {len(making)})")
    print(f"computing a step: {computed:.3f} s of CPU per frame; {step:.3f} s on the clock")
    print(
        f"{options.workers} workers: {100 * waited / seconds:.1f} % of a step waits for data ({len(lines) - 2} steps)"
    )
    if options.workers:
        enough = 0.9 * per_frame / options.workers
        print(
            f"no more than 10 % waits where a step takes {enough:.3f} s per frame or longer, if "
            f"{options.workers} cores are there for the workers"
        )


def main(options: TrainingOptions) -> None:
    """Print a table."""
    place = torch.cuda.get_device_name() if options.device == "cuda" else f"{platform.machine()} CPU"
    print(f"{place}, {options.threads or 'default'} threads, torch {torch.__version__}", flush=True)
    (time_data if options.data else time_steps)(options)


if __name__ == "__main__":
    with input_errors_end_the_program("train"):
        main(tyro.cli(TrainingOptions))
