"""A step of fine-tuning the full-size network: how many frames fit, and how long it takes, for each way to do it.

The masked layers and the mask head are trained, by AdamW, with matrix products in bfloat16.
"""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable
from typing import Any

import torch
from train import make_batch, make_step

from page4d_hf.utils.measuring import peak_memory, timed

from .session import Session

FRAMES, TOY_FRAMES = (2, 4, 8, 12, 16, 24, 32, 48, 64), (2,)
MOST_RENDERED = 8
SIZE, TOY_SIZE = (294, 518), (28, 42)


def run(session: Session) -> None:
    device = torch.device(session.device)
    counts, size = (TOY_FRAMES, TOY_SIZE) if session.toy else (FRAMES, SIZE)
    session.needs(0 if session.toy else 20, "making the network and its clips")
    # What is in the frames does not change the time: a few are made, and repeated.
    images, labels = make_batch(1, min(max(counts), MOST_RENDERED), size, device)
    repeated = [index % images.shape[1] for index in range(max(counts))]
    batch = images[:, repeated], {name: label[:, repeated] for name, label in labels.items()}
    for kind in ("checkpointing", "no checkpointing"):
        torch.manual_seed(0)
        step, trained = make_step(
            "tiny" if session.toy else "full",
            "default",
            checkpointing=kind == "checkpointing",
            attention="sdpa",
            bf16=True,
            batch=batch,
            device=device,
        )
        climb(session, kind, step, counts, device, trained)
        del step
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()


def climb(
    session: Session,
    kind: str,
    step: Callable[..., None],
    counts: tuple[int, ...],
    device: torch.device,
    trained: int,
) -> None:
    """More and more frames, until they no longer fit."""
    expected = 0.0
    for frames in counts:
        name = f"{frames} frames, {kind}"
        figures = session.row(name)
        if figures is None:
            session.needs(4 * 3 * expected, name)  # at most twice as many frames, with attention over all of them
            try:
                figures = measure(step, frames, device) | {"trained parameters": trained}
            except torch.OutOfMemoryError:
                figures = {"note": "out of memory"}
            session.add(name, **figures)
        if "note" in figures:
            return
        expected = figures["seconds"]


def measure(step: Callable[..., None], frames: int, device: torch.device) -> dict[str, Any]:
    """Seconds of a step, the median of two after one that sets things up, and peak memory."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    seconds = [timed(lambda: step(frames), device) for _ in range(3)][1:]
    return {"seconds": statistics.median(seconds), "peak, GiB": peak_memory(device) / 2**30}
