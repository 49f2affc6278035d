"""Runs of training that take a second: a network a few numbers wide on images of 28 x 28 pixels."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import small_networks
import torch
from accelerate.state import AcceleratorState
from finetuning.network import grouped
from finetuning.options import Options, from_json
from finetuning.run import Finetuning
from torch import Tensor

from page4d_hf import Page4DConfig, Page4DModel
from page4d_hf.clips import clip_features
from page4d_hf.clips.encoding import encode_synthetic_clips

REPOSITORY = Path(__file__).resolve().parents[3]
PROGRAM = REPOSITORY / "training" / "finetune.py"

NETWORK: dict[str, Any] = {
    **small_networks.NETWORK,
    "initializer_range": 0.02,
    "initialization": {"layerscale_value": 0.5},
    "camera_num_hidden_layers": 1,
    "camera_num_iterations": 2,
    "enable_point": False,
}
# What is trained by default.
MIDDLE = ("aggregator.frame_layers.2-3", "aggregator.global_layers.2-3", "aggregator.mask_head")
SAMPLING: dict[str, Any] = {
    "frames_min": 2,
    "frames_max": 2,
    "frame_budget": 4,
    "width": 28,
    "aspect_min": 1.0,
    "aspect_max": 1.0,
}
CONSTANT: dict[str, Any] = {"mask_hold_start": None, "mask_hold_end": None}  # the mask has no schedule
EVALUATION: dict[str, Any] = {"steps": 1, "micro_batches": 1, "frames": 3, "aspect": 1.0}
GROUP: dict[str, Any] = {"learning_rate": 1e-3, "weight_decay": 0.01, "warmup_steps": 0.0}


def small_network(**changes: Any) -> Page4DModel:
    """The network, the same at every call; keywords override values of its configuration."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Page4DModel(Page4DConfig(**grouped({**NETWORK, **changes}))).train()


def labels_of(pixel_values: Tensor) -> dict[str, Tensor]:
    """Labels of clips `[B, S, 3, H, W]`: a camera that moves aside, and depth by brightness."""
    batch_size, num_frames = pixel_values.shape[:2]
    extrinsics = torch.eye(3, 4).repeat(batch_size, num_frames, 1, 1)
    extrinsics[:, :, 0, 3] = torch.linspace(0, 1, num_frames)
    return {
        "extrinsics": extrinsics,
        "intrinsics": torch.tensor([[30.0, 0, 14], [0, 30, 14], [0, 0, 1]]).repeat(batch_size, num_frames, 1, 1),
        "depth": 1 + pixel_values.mean(2),
    }


def write_options(folder: Path, network: dict[str, Any] | None = None, **changes: Any) -> Path:
    """A file for `--options` in a folder, of a run in `folder/run`; keywords override options."""
    folder.mkdir(exist_ok=True)
    (folder / "network.json").write_text(json.dumps(grouped({**NETWORK, **(network or {})})))
    values = {
        "output": str(folder / "run"),
        "network": str(folder / "network.json"),
        "dataset": ["synthetic"],
        "train": list(MIDDLE),
        "max_train_steps": 3,
        "sampling": SAMPLING,
        **GROUP,
        "mask_head": GROUP,
        "evaluation": {**EVALUATION, "steps": 0},
        "gradient_checkpointing": False,
        "report_to": [],
        "dataloader_num_workers": 0,
        **changes,
    }
    path = folder / "options.json"
    path.write_text(json.dumps({name: value for name, value in values.items() if value is not None}))
    return path


def small_options(folder: Path, network: dict[str, Any] | None = None, **changes: Any) -> Options:
    """The options in such a file."""
    return from_json(write_options(folder, network, **changes))


def begin(options: Options) -> Finetuning:
    """A run in this process, as if the process were a new one."""
    AcceleratorState._reset_state(True)
    return Finetuning(options)


def train(options: Options) -> Finetuning:
    """Begin a run, or go on with it, to its end."""
    run = begin(options)
    run.run()
    return run


def weights(folder: Path) -> dict[str, Tensor]:
    """Of the model in a folder."""
    return Page4DModel.from_pretrained(folder).state_dict()


def history(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's history; `folder` is the run's."""
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]


def steps(folder: Path) -> list[dict[str, Any]]:
    """Those of steps, without what a clock says."""
    return [
        {name: value for name, value in entry.items() if "seconds" not in name}
        for entry in history(folder)
        if "loss" in entry
    ]


class Changed:
    """Micro-batches of which one is changed before it is used.

    Args:
        data: the micro-batches.
        index: which one.
        change: what is done with it; it may raise.
    """

    def __init__(self, data: Any, index: int, change: Any) -> None:
        self.data, self.index, self.change, self.notes = data, index, change, data.notes

    def __getitem__(self, index: int) -> dict[str, Any]:
        batch = self.data[index]
        if index == self.index:
            self.change(batch)
        return batch


def stop(batch: dict[str, Any]) -> None:
    """Stop the process, for `Changed`."""
    raise KeyboardInterrupt


def poison(batch: dict[str, Any]) -> None:
    """Make pixels of the second clip NaN, for `Changed`."""
    batch["pixel_values"][1, 0, :, 3] = math.nan


def write_clips(folder: Path, split: str = "train", frames: int = 3, **changes: Any) -> Path:
    """A data set of two clips of 28 x 28 pixels; keywords replace columns, or leave them out if they are `None`.

    Args:
        folder: of the data set.
        split: to write; others that the folder has stay.
        frames: of each clip.
        changes: a value for all clips, a function of a clip's row, or `None`.
    """
    from datasets import Dataset

    rows = []
    for clip in encode_synthetic_clips([7, 8], num_frames=frames, image_size=(28, 28)):
        assert clip.row is not None
        row = dict(clip.row)
        for name, value in changes.items():
            row[name] = value(row) if callable(value) else value
        rows.append(row)
    features = clip_features()
    clips = Dataset.from_list(rows, features=features if "width" not in changes else None)
    clips = clips.remove_columns([name for name, value in changes.items() if value is None])
    (folder / "data").mkdir(parents=True, exist_ok=True)
    clips.to_parquet(folder / "data" / f"{split}-00000.parquet")
    return folder
