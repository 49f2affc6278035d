"""The full-size network with random weights: time, peak memory, and how near the aggregator is to what the device can.

Encoder and aggregator are in bfloat16, the heads in float32.
"""

from __future__ import annotations

import math
import statistics
from typing import Any

import torch
from benchmark import time_in_turns
from torch.utils.flop_counter import FlopCounterMode
from train import NETWORKS

from page4d_hf import Page4DConfig, Page4DModel
from page4d_hf.utils.measuring import instant, peak_memory

from .machine import matrix_product_rate
from .session import Session

SIZE, SIZE_OF_VGGT = (294, 518), (336, 518)
SHAPES = (
    *((frames, *SIZE) for frames in (1, 2, 8, 32, 64, 100, 200)),
    *((frames, *SIZE_OF_VGGT) for frames in (1, 2, 8, 100, 200)),
    *((frames, *SIZE) for frames in (300, 400)),
)
MORE_ROUNDS, MORE_SECONDS = 5, 4.0  # at most, after the first round
TOY_SHAPES = ((1, 28, 42), (2, 28, 42))
# Seconds and GB of VGGT's aggregator on an H100 with flash attention 3, by number of frames (its README).
VGGT = {1: (0.04, 1.88), 2: (0.05, 2.07), 8: (0.11, 3.23), 100: (3.12, 21.15), 200: (8.75, 40.63)}
VGGT_OMEGA = {100: 13.4}  # GB


def run(session: Session) -> None:
    torch.manual_seed(0)
    device = torch.device(session.device)
    config = Page4DConfig(**NETWORKS["tiny"]) if session.toy else Page4DConfig()
    with device:
        model = Page4DModel(config).eval().requires_grad_(False).to(torch.bfloat16)
    limit = matrix_product_rate(device, 256 if session.toy else 8192)
    clock, flops = AggregatorClock(model, device), AggregatorFlops(config)
    expected, pixels = 0.0, 1  # of the size before
    for shape in TOY_SHAPES if session.toy else SHAPES:
        name = " x ".join(map(str, shape))
        figures = session.row(name)
        if figures is None:
            # Attention over all tokens grows with their square, all else more slowly.
            session.needs(2 * expected * (math.prod(shape) / pixels) ** 2 + MORE_SECONDS, name)
            try:
                figures = measure(model, clock, shape, flops.of(*shape), limit)
            except torch.OutOfMemoryError:
                figures = {"note": "out of memory"}
            session.add(name, **figures)
        if "note" in figures:
            break
        expected, pixels = figures["seconds, mask on"], math.prod(shape)


class AggregatorClock:
    """Keeps the seconds of encoder and aggregator of every forward pass, and their peak memory since the last reset."""

    def __init__(self, model: Page4DModel, device: torch.device) -> None:
        self.device = device
        self.seconds: list[float] = []
        self.peak = 0
        model.encoder.register_forward_pre_hook(self._start)
        model.aggregator.register_forward_hook(self._stop)

    def _start(self, *_: Any) -> None:
        self._started = instant(self.device)

    def _stop(self, *_: Any) -> None:
        self.seconds.append(instant(self.device) - self._started)
        self.peak = max(self.peak, peak_memory(self.device))


def measure(
    model: Page4DModel, clock: AggregatorClock, shape: tuple[int, int, int], flops: int, limit: float
) -> dict[str, Any]:
    """Medians over passes with the mask off and on.

    The first pass of each sets things up, and counts only where there is no time for another.

    Args:
        model: on its device.
        clock: the model's.
        shape: frames, height, width.
        flops: of encoder and aggregator.
        limit: FLOP/s of matrix products.
    """
    frames, height, width = shape
    device = clock.device
    pixel_values = torch.rand(1, frames, 3, height, width, device=device)
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    clock.seconds.clear()
    clock.peak = 0
    off, on = time_in_turns(model, pixel_values, (0.0, 1.0), 1)
    if more := min(MORE_ROUNDS, int(MORE_SECONDS / (off[0] + on[0]))):
        clock.seconds.clear()
        off, on = time_in_turns(model, pixel_values, (0.0, 1.0), more)
    aggregator_on = statistics.median(clock.seconds[1::2])
    peak = peak_memory(device)
    published = VGGT.get(frames, (None, None)) if (height, width) == SIZE_OF_VGGT else (None, None)
    return {
        "seconds, mask off": statistics.median(off),
        "seconds, mask on": statistics.median(on),
        "peak, GiB": peak / 2**30,
        "weights, GiB": sum(weight.nbytes for weight in model.state_dict().values()) / 2**30,
        "aggregator, seconds": aggregator_on,
        "aggregator, peak GB": clock.peak / 1e9,
        "aggregator, TFLOP": flops / 1e12,
        "share of the limit": flops / aggregator_on / limit,
        "VGGT's aggregator, seconds": published[0],
        "VGGT's aggregator, GB": published[1],
        "VGGT-Omega, GB": VGGT_OMEGA.get(frames) if height >= SIZE[0] else None,
    }


class AggregatorFlops:
    """Floating-point operations of the matrix products in encoder and aggregator, mask on, counted without data.

    Of S frames they are a S + b S^2, so that those of one and of two frames tell them all.
    """

    def __init__(self, config: Page4DConfig) -> None:
        with torch.device("meta"):
            self._model = Page4DModel(config).eval().requires_grad_(False)
        self._of_size: dict[tuple[int, int], tuple[int, int]] = {}

    def of(self, frames: int, height: int, width: int) -> int:
        if (height, width) not in self._of_size:
            self._of_size[height, width] = (self._count(1, height, width), self._count(2, height, width))
        one, two = self._of_size[height, width]
        quadratic = (two - 2 * one) / 2
        return round(frames * (one - quadratic) + frames**2 * quadratic)

    def _count(self, frames: int, height: int, width: int) -> int:
        counter = FlopCounterMode(display=False)
        with torch.no_grad(), counter:
            self._model(torch.rand(1, frames, 3, height, width, device="meta"), mask_strength=1.0)
        counts = counter.get_flop_counts()
        return sum(sum(counts[f"Page4DModel.{name}"].values()) for name in ("encoder", "aggregator"))
