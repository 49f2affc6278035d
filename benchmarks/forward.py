"""Times the full-size network with random weights, mask off and on, beside the authors' release.

    python benchmarks/forward.py
    python benchmarks/forward.py --shapes 1x518x518 10x518x518 --device cuda --dtype bfloat16

Every shape has a process of its own, so that its peak memory is its own. Mask off and on take turns, so that whatever
else the machine does falls on both alike; a table gives the medians, the best, and the median of what the mask costs
in each turn. The release was timed with the mask on, in float32, on 2 cores of the kind that
`RELEASE_ON_TWO_CORES` was measured on: its figures mean something beside others from such a machine alone.
"""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
import tyro
from torch import Tensor

from page4d_hf.utils.measuring import peak_memory, timed

if TYPE_CHECKING:
    from page4d_hf import Page4DModel

# Seconds, and peak memory in GiB (5.4 of them weights), by frames x height x width.
RELEASE_ON_TWO_CORES = {"2x224x224": (6.9, 5.9), "4x224x224": (13.9, 6.1), "2x392x518": (34.0, 6.8)}


@dataclass
class ForwardOptions:
    """Times the full-size network with random weights, mask off and on."""

    shapes: tuple[str, ...] = tuple(RELEASE_ON_TWO_CORES)
    """Sequences to time, as frames x height x width in pixels."""
    repeats: int = 5
    """Measured forward passes, with the mask off and with it on each; one more of each goes ahead of them."""
    device: str = "cpu"
    """Where to run."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Precision of the encoder and the aggregator; the heads are in float32 always."""
    threads: int = 2
    """Threads of PyTorch on the CPU; 0 leaves PyTorch's default."""
    mask_form: Literal["release", "paper"] = "release"
    """Which mask."""
    as_json: bool = False
    """Print the figures of the shapes as JSON, one a line, from this process itself."""


@dataclass
class Figures:
    """Of one shape."""

    shape: str
    off: list[float]  # seconds of every forward pass with the mask off
    on: list[float]  # the same with the mask on, in turn with those
    weights: float  # GiB
    peak: float  # GiB, weights included


def measure(shape: str, options: ForwardOptions) -> Figures:
    """Time one shape in this process."""
    from page4d_hf import Page4DConfig, Page4DModel

    num_frames, height, width = (int(number) for number in shape.split("x"))
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    device, dtype = torch.device(options.device), getattr(torch, options.dtype)
    model = Page4DModel(Page4DConfig(mask_form=options.mask_form)).eval().to(device=device, dtype=dtype)
    pixel_values = torch.rand(1, num_frames, 3, height, width, device=device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()

    off, on = time_in_turns(model, pixel_values, 1 + options.repeats)
    return Figures(shape, off[1:], on[1:], weights_of(model) / 2**30, peak_memory(device) / 2**30)


def time_in_turns(model: Page4DModel, pixel_values: Tensor, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of forward passes of `pixel_values` [1, S, 3, H, W] with the mask off and with it on, in turn."""
    times: dict[float, list[float]] = {0.0: [], 1.0: []}
    with torch.inference_mode():
        for _ in range(rounds):
            for strength, seconds in times.items():
                seconds.append(
                    timed(lambda strength=strength: model(pixel_values, mask_strength=strength), pixel_values.device)
                )
    return times[0.0], times[1.0]


def weights_of(model: Page4DModel) -> int:
    """Bytes of all weights."""
    return sum(weight.nbytes for weight in model.state_dict().values())


def measure_apart(shape: str, options: ForwardOptions) -> Figures:
    """Time one shape in a process of its own."""
    command = [sys.executable, __file__, "--shapes", shape, "--as-json"]
    for name in ("repeats", "device", "dtype", "threads", "mask_form"):
        command += ["--" + name.replace("_", "-"), str(getattr(options, name))]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return Figures(**json.loads(done.stdout.splitlines()[-1]))


def row(figures: Figures, with_release: bool) -> str:
    """A line of the table."""
    off, on = statistics.median(figures.off), statistics.median(figures.on)
    cost = statistics.median(b / a - 1 for a, b in zip(figures.off, figures.on, strict=True))
    cells = [
        f"{figures.shape:>12}",
        f"{off:8.2f} s",
        f"{on:8.2f} s",
        f"{min(figures.off):8.2f} s",
        f"{min(figures.on):8.2f} s",
        f"{100 * cost:+8.1f} %",
        f"{figures.peak:7.1f} GiB",
    ]
    if with_release:
        release = RELEASE_ON_TWO_CORES.get(figures.shape)
        cells += [f"{release[0]:8.1f} s", f"{on / release[0]:8.2f}", f"{release[1]:7.1f} GiB"] if release else ["-"]
    return " | ".join(cells)


def main(options: ForwardOptions) -> None:
    """Print a table, or JSON for one."""
    if options.as_json:
        for shape in options.shapes:
            print(json.dumps(vars(measure(shape, options))), flush=True)
        return
    with_release = options.device == "cpu" and options.dtype == "float32"
    place = torch.cuda.get_device_name() if options.device == "cuda" else f"{platform.machine()} CPU"
    print(f"{place}, {options.threads or 'default'} threads, {options.dtype}, torch {torch.__version__}")
    print(f"{options.repeats} forward passes each; weights included in the peak")
    head = [f"{'S x H x W':>12}", "  mask off", "   mask on", "  best off", "   best on", "mask costs", "       peak"]
    if with_release:
        head += ["   release", "ours / it", "  its peak"]
    print(" | ".join(head))
    for shape in options.shapes:
        print(row(measure_apart(shape, options), with_release), flush=True)


if __name__ == "__main__":
    main(tyro.cli(ForwardOptions))
