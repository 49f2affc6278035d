"""Training of page4d-4dgs and page4d-4dgs-original on a capture, and how fast the result is rendered."""

from __future__ import annotations

import statistics
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rasterize import set_up, train_step, trainer_config

from page4d_hf.utils.measuring import instant, timed

from .session import Session

if TYPE_CHECKING:
    from nerfstudio.engine.trainer import Trainer

METHODS = ("page4d-4dgs", "page4d-4dgs-original")
STEPS, TOY_STEPS = 3_000, 3
RENDER_SIZE, TOY_RENDER_SIZE = (960, 540), (48, 32)
EVALUATION_SECONDS = 15.0  # kept for evaluating and rendering what was trained


def run(session: Session) -> None:
    data = Path(session.data) if session.data else make_capture(session)
    steps = TOY_STEPS if session.toy else STEPS
    names = {method: f"{method}, {steps:,} steps" for method in METHODS}
    missing = [method for method in METHODS if not session.has(names[method])]
    for left, method in zip(range(len(missing), 0, -1), missing, strict=True):
        name = names[method]
        session.needs(0 if session.toy else 30, name)
        session.add(name, **train(session, data, method, steps, session.seconds_left() / left))


def make_capture(session: Session) -> Path:
    """A small synthetic capture."""
    from page4d_hf.synthetic import write_synthetic_capture

    width, height, frames = (40, 30, 6) if session.toy else (256, 192, 48)
    return write_synthetic_capture(
        session.folder / "capture",
        width=width,
        height=height,
        num_frames=frames,
        num_points=width**2 // 4,
        overwrite=True,
    )


def train(session: Session, data: Path, method: str, steps: int, seconds_to_spend: float) -> dict[str, Any]:
    """Train, evaluate and render; a training that runs out of time is evaluated where it is."""
    until = time.monotonic() + seconds_to_spend - (0.0 if session.toy else EVALUATION_SECONDS)
    trainer = make_trainer(session, data, method, steps)
    device = torch.device(trainer.device)
    warm = steps // 10
    done = 0
    begun = instant(device)
    started = begun
    while done < steps and time.monotonic() < until:
        if done == warm:  # the first steps compile and fill caches
            started = instant(device)
        train_step(trainer, done)
        done += 1
    seconds = instant(device) - begun
    speed = (done - warm) / (instant(device) - started) if done > warm else done / seconds
    model: Any = trainer.pipeline.model
    metrics = trainer.pipeline.get_average_eval_image_metrics(step=done)
    width, height = TOY_RENDER_SIZE if session.toy else RENDER_SIZE
    return {
        "steps": done,
        "cut short": done < steps,
        "seconds": seconds,
        "steps per second": speed,
        "PSNR": metrics["psnr"],
        "SSIM": metrics["ssim"],
        "PSNR, training views": metrics.get("train_psnr"),
        "Gaussians": model.num_points,
        "static share": 1.0 - model.in_motion.float().mean().item(),
        f"frames per second at {width}x{height}": 1.0 / render_seconds(trainer, width, height),
        "peak, GiB": torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else None,
    }


def make_trainer(session: Session, data: Path, method: str, steps: int) -> Trainer:
    """A trainer in a folder of its own."""
    config = trainer_config(method, data, session.folder, f"{method}-{steps}-{time.time():.0f}", steps)
    config.machine.device_type, config.experiment_name = session.device, "training"
    trainer = set_up(config)
    if session.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    return trainer


@torch.no_grad()
def render_seconds(trainer: Trainer, width: int, height: int) -> float:
    """Median seconds of rendering a held-out view at another size, seen as wide as before."""
    model: Any = trainer.pipeline.model.eval()
    device = torch.device(trainer.device)
    views: Any = trainer.pipeline.datamanager
    seconds = []
    for camera, _ in views.fixed_indices_eval_dataloader:
        scale = width / camera.width.item()
        camera.fx, camera.fy = camera.fx * scale, camera.fy * scale
        camera.cx, camera.cy = torch.full_like(camera.cx, width / 2), torch.full_like(camera.cy, height / 2)
        camera.width, camera.height = torch.full_like(camera.width, width), torch.full_like(camera.height, height)
        seconds.append(timed(partial(model.get_outputs_for_camera, camera.to(device)), device))
    return statistics.median(seconds)
