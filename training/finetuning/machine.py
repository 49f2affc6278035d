"""The machine that a run is on, as `accelerate launch` set it up, and what it computes fastest there."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate.accelerator import Accelerator
from accelerate.state import PartialState
from accelerate.tracking import TensorBoardTracker, get_available_trackers
from accelerate.utils import FullyShardedDataParallelPlugin, parse_flag_from_env
from torch.distributed.fsdp import MixedPrecisionPolicy

from page4d_hf.utils.folders import folder_of_all_processes
from page4d_hf.utils.programs import install_command, one_line

from .checkpoints import RUN_FILE, disk_error
from .options import AUTO, Options, OptionsError

PROJECT = "page4d"  # that trackers know runs under


def on_cpu() -> bool:
    """Whether to compute on the CPU. Unless told, processes there take themselves for single ones."""
    return parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()


def run_folder(output: Path) -> AbstractContextManager[None]:
    """Keep other trainings out of a run's folder.

    Ranks outlive an `accelerate launch` that is killed; a second training is refused as long as the first of them
    lives. The others end with it.

    Raises:
        OptionsError: the folder cannot be used, or `accelerate launch` was told to shard by what is not supported: told
            before any of it is set up.
    """
    for name in ("deepspeed", "megatron_lm"):
        if parse_flag_from_env(f"ACCELERATE_USE_{name.upper()}"):
            raise OptionsError(f"Expected accelerate launch without --use_{name}; shard weights by --use_fsdp.")
    return folder_of_all_processes(PartialState(cpu=on_cpu()), output, RUN_FILE, error=OptionsError)


def make_accelerator(options: Options) -> Accelerator:
    """Accelerate's view of the machine, as `accelerate launch` set it up."""
    available = [str(tracker) for tracker in get_available_trackers()]
    trackers = available if "all" in options.report_to else [] if options.report_to == ("none",) else options.report_to
    for tracker in trackers:
        if tracker not in available:
            raise OptionsError(
                f"--report-to {tracker} is not installed or unknown to accelerate; there are: "
                f"{', '.join(available) or 'none'}; `{install_command('training')}` brings tensorboard."
            )
    cpu = on_cpu()
    precision: str | None = options.mixed_precision
    try:
        if precision == AUTO:
            precision = fastest_precision(PartialState(cpu=cpu).device)
        return Accelerator(
            cpu=cpu,
            mixed_precision=precision,
            fsdp_plugin=sharding(),
            log_with=list(trackers) or None,
            project_dir=str(options.output),
            step_scheduler_with_optimizer=False,
        )
    except ValueError as error:
        raise OptionsError(f"Accelerate cannot be set up: {one_line(error)}") from error


def start_trackers(accelerator: Accelerator, output: Path, step: int, values: dict[str, Any]) -> None:
    """Begin the curves of a run, or go on with them after `step` optimizer steps.

    TensorBoard's lie in `logs` in the run's folder; others are of a project `page4d`, and of wandb the run is named as
    the folder is.
    """
    names = ", ".join(map(str, accelerator.log_with))
    try:
        accelerator.log_with = [
            TensorBoardTracker("logs", output, purge_step=step + 1) if str(tracker) == "tensorboard" else tracker
            for tracker in accelerator.log_with
        ]
        accelerator.init_trackers(PROJECT, values, {"wandb": {"name": output.resolve().name}})
    except Exception as error:  # each has exceptions of its own
        if disk_error(error):
            raise
        raise OptionsError(
            f"--report-to {names}: one does not start ({type(error).__name__}: {one_line(error)}); set it "
            "up or leave it out."
        ) from error


def sharding() -> FullyShardedDataParallelPlugin | None:
    """How weights are sharded, as `accelerate launch` was told; `None` if they are not."""
    if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() != "true":
        return None
    # Accelerate's own policy would cast all weights to bf16, those of the float32 heads and of the mask head too, which
    # then meet float32 images of themselves and fail. With weights gathered in float32, autocast does what it does
    # without sharding.
    return FullyShardedDataParallelPlugin(mixed_precision_policy=MixedPrecisionPolicy())


def fastest_precision(device: torch.device) -> Literal["bf16", "no"]:
    """bf16 where a device multiplies matrices of it in hardware: CUDA from Ampere on, CPUs with matrix units (AMX).

    Elsewhere it is emulated: a small network's step on a CPU with AVX2 takes nine times as long as in float32.
    """
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    return "bf16" if device.type == "cpu" and torch.cpu._is_amx_tile_supported() else "no"


def fastest_attention(device: torch.device, precision: str) -> str:
    """Plain attention for bf16 on a CPU, where PyTorch's own is slower at a small network's sizes; that elsewhere."""
    return "eager" if device.type == "cpu" and precision == "bf16" else "sdpa"
