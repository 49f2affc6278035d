"""What knowing which Gaussians move is worth: their share, speed, and PSNR, beside deforming all of them.

    python benchmarks/known_motion.py                                # a synthetic scene, made for it
    python benchmarks/known_motion.py --data capture/ --steps 2000   # any data that say what moves
    python benchmarks/known_motion.py --mislabel 0.5                 # half of what moves is taken for static on purpose

The trainings take turns, step by step, so that whatever else the machine does falls on all of them alike. All of them
start from the same points. "flagged" differs from "all deform" in which Gaussians pass the deformation field, and in
the box that its grid spans, alone. "hidden" is the method as it is: what is flagged also stays out of the static stage,
and times grow from the middle of the capture.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import tyro
from rasterize import one_step, set_up, trainer_config

from page4d_hf.utils.measuring import timed
from page4d_hf.utils.programs import input_errors_end_the_program

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "evaluation"))  # its tables

if TYPE_CHECKING:
    from nerfstudio.engine.trainer import Trainer


@dataclass
class StaticFlagOptions:
    """Trains page4d-4dgs with static Gaussians and with none, and compares them."""

    data: Path | None = None
    """What to train on: a capture or scene folder whose points say what moves. A synthetic one by default."""
    steps: int = 600
    """Steps of each training."""
    width: int = 80
    """Width of the synthetic scene's images, in pixels."""
    height: int = 60
    """Height of the synthetic scene's images, in pixels."""
    points: int = 5000
    """Seed points, at most."""
    mislabel: float = 0.0
    """Share of the moving seed points that is taken for static on purpose, in the trainings that have static ones."""
    threads: int = 0
    """Threads of PyTorch; 0 leaves its default."""
    seed: int = 0
    """Seed of the synthetic scene, of the trainings and of what is mislabelled."""


def make_trainer(options: StaticFlagOptions, data: Path, output: Path, name: str) -> Trainer:
    config = trainer_config("page4d-4dgs", data, output, name, options.steps)
    config.machine.seed = options.seed
    config.pipeline.datamanager.dataparser.max_points = options.points
    if name == "all deform":
        config.pipeline.model.motion_threshold = float("-inf")
    if name == "flagged":
        config.pipeline.model.hide_motion_at_first = False
    trainer = set_up(config)
    model = trainer.pipeline.model
    if name != "all deform" and options.mislabel > 0:
        moving = torch.where(model.in_motion)[0]
        wrong = torch.randperm(len(moving), generator=torch.Generator().manual_seed(options.seed))
        model.in_motion[moving[wrong[: round(options.mislabel * len(moving))]]] = False
    return trainer


@torch.no_grad()
def render_seconds(trainer: Trainer) -> float:
    """Median seconds of rendering a held-out view."""
    render = trainer.pipeline.model.eval().get_outputs_for_camera
    views, device = trainer.pipeline.datamanager.fixed_indices_eval_dataloader, torch.device(trainer.device)
    return statistics.median(timed(partial(render, camera), device) for camera, _ in views)


def compare(options: StaticFlagOptions, folder: Path) -> None:
    from evaluator.reporting.formats import pandas_library

    pd = pandas_library()
    data = options.data
    if data is None:
        from page4d_hf.synthetic import write_synthetic_capture

        data = write_synthetic_capture(
            folder / "capture",
            width=options.width,
            height=options.height,
            num_points=options.points,
            seed=options.seed,
        )
    names = ["all deform", "flagged", "hidden"]
    trainers = {name: make_trainer(options, data, folder / "output", name) for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for step in range(options.steps):
        for name, trainer in trainers.items():
            seconds[name].append(one_step(trainer, step))

    fine = next(iter(trainers.values())).pipeline.model.schedule.coarse_steps
    rows = {}
    for name, trainer in trainers.items():
        metrics = trainer.pipeline.get_average_eval_image_metrics()
        model = trainer.pipeline.model
        rows[name] = {
            "Gaussians": f"{model.num_points}",
            "static": f"{100 * (1 - model.in_motion.float().mean().item()):.1f} %",
            "step, deforming": f"{1e3 * statistics.median(seconds[name][fine:]):.1f} ms",
            "all steps": f"{sum(seconds[name]):.0f} s",
            "render": f"{1e3 * render_seconds(trainer):.1f} ms",
            **{
                column: f"{metrics[column]:.2f}"
                for column in ("psnr", "psnr_moving", "psnr_static")
                if column in metrics
            },
        }
    columns = list(rows[names[0]])
    print(f"\n{data.name}, {options.steps} steps, {torch.get_num_threads()} threads, {trainers[names[0]].device}")
    print(pd.DataFrame.from_dict(rows, orient="index").to_markdown(disable_numparse=True))
    every = statistics.median(seconds["all deform"][fine:])
    for name in names[1:]:
        ours = statistics.median(seconds[name][fine:])
        gains = [
            f"{column} {float(rows[name][column]) - float(rows['all deform'][column]):+.2f} dB"
            for column in columns
            if column.startswith("psnr")
        ]
        print(f"\n{name} against all: deforming steps {every / ours:.2f} times as fast; " + ", ".join(gains))


def main(options: StaticFlagOptions) -> None:
    if options.threads:
        torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        compare(options, Path(folder))


if __name__ == "__main__":
    with input_errors_end_the_program("known_motion"):
        main(tyro.cli(StaticFlagOptions))
