"""Times the rasteriser, forward and backward, on a CPU and on CUDA in one run.

    python benchmarks/rasterize.py
    python benchmarks/rasterize.py --width 960 --height 540 --gaussians 300000 --devices cpu
    python benchmarks/rasterize.py --cold    # with numba's compilation, as on a fresh machine
    python benchmarks/rasterize.py --step    # whole training steps of page4d-4dgs

Devices take turns, so that whatever else the machine does falls on all of them alike; the table gives the median of
the rounds, and the best, which a busy machine disturbs least.
"""

from __future__ import annotations

import copy
import os
import platform
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
import tyro
from torch import Tensor

from page4d_hf.utils.measuring import instant, timed
from page4d_hf.utils.programs import input_errors_end_the_program
from page4d_nerfstudio.rasterization import rasterize

if TYPE_CHECKING:
    from nerfstudio.engine.trainer import Trainer

Device = Literal["cpu", "cuda"]

INPUTS = ("means", "quats", "scales", "opacities", "colors", "viewmats")


@dataclass
class RasterizerOptions:
    """Times forward and backward of the rasteriser on random Gaussians."""

    width: int = 160
    """Width of the image, in pixels."""
    height: int = 120
    """Height of the image, in pixels."""
    gaussians: int = 10_000
    """Number of Gaussians, all in front of the camera."""
    sh_degree: int = 3
    """Degree of the spherical harmonics."""
    rounds: int = 20
    """Measured rounds; one more goes ahead of them."""
    threads: int = 0
    """Threads of PyTorch and of the rasteriser; 0 leaves PyTorch's default."""
    devices: tuple[Device, ...] = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
    """Where to time it; whole training steps on the last of them."""
    step: bool = False
    """Time whole steps of training (data, deformation, rasteriser, losses, backward, optimizers, density control's
    statistics) on a synthetic capture of that size instead, in the static and in the deforming stage."""
    cold: bool = False
    """Ignore what numba compiled before: the first round then says what a fresh machine waits for."""
    seed: int = 0
    """Seed of the Gaussians and of the synthetic capture."""


def make_scene(options: RasterizerOptions) -> dict[str, Any]:
    """Gaussians that fill the view between 2 and 6 units of depth, as large as they are far apart, seen with 60°."""
    generator = torch.Generator().manual_seed(options.seed)
    n, width, height = options.gaussians, options.width, options.height
    focal = 0.5 * width / 0.577
    depth = 2.0 + 4.0 * torch.rand(n, generator=generator)
    pixels = torch.rand(n, 2, generator=generator) * torch.tensor([width, height])
    across = (pixels - torch.tensor([width / 2, height / 2])) / focal * depth[:, None]
    spacing = (4.0**3 / n) ** (1 / 3)
    return {
        "means": torch.cat([across, depth[:, None]], dim=1),
        "quats": torch.randn(n, 4, generator=generator),
        "scales": 0.4 * spacing * torch.exp(0.5 * torch.randn(n, 3, generator=generator)),
        "opacities": torch.sigmoid(1.5 * torch.randn(n, generator=generator)),
        "colors": 0.3 * torch.randn(n, (options.sh_degree + 1) ** 2, 3, generator=generator),
        "viewmats": torch.eye(4)[None],
        "Ks": torch.tensor([[[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]]]),
        "width": width,
        "height": height,
        "sh_degree": options.sh_degree,
        "backgrounds": torch.zeros(1, 3),
    }


def one_round(device: Device, scene: dict[str, Any], weights: Tensor) -> tuple[float, float, Tensor, list[Tensor], Any]:
    """Seconds forward and backward, the image, the gradients of `INPUTS` and the rasteriser's `info`."""
    place = torch.device(device)
    arguments: dict[str, Any] = {
        name: value.to(place) if isinstance(value, Tensor) else value for name, value in scene.items()
    }
    inputs = [arguments[name].detach().requires_grad_(True) for name in INPUTS]
    arguments |= dict(zip(INPUTS, inputs, strict=True))
    weights = weights.to(place)
    start = instant(place)
    render, _, info = rasterize(**arguments)
    middle = instant(place)
    gradients = torch.autograd.grad(render, inputs, weights)  # no loss in between: its time is not the rasteriser's
    end = instant(place)
    return middle - start, end - middle, render.detach().cpu(), [gradient.cpu() for gradient in gradients], info


def describe_machine(options: RasterizerOptions) -> str:
    return (
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, "
        f"PyTorch {torch.__version__}, {options.rounds} rounds, milliseconds"
    )


@dataclass
class Figures:
    """Of one device; seconds are medians of the rounds."""

    device: Device
    forward: float
    backward: float
    both: float
    best: float
    first: float  # of the round that goes ahead, with whatever had to be imported and compiled
    image: float  # largest difference of a value from the first device's
    gradients: float  # the same of the gradients, relative to each tensor's largest value


def compare_devices(options: RasterizerOptions) -> tuple[list[Figures], Tensor]:
    """Time and compare devices on the same Gaussians; the first is what the others are compared to.

    Returns:
        Figures of each, and the radii in pixels of the Gaussians that are seen.
    """
    scene, devices = make_scene(options), options.devices
    weights = torch.randn(
        1, options.height, options.width, 3, generator=torch.Generator().manual_seed(options.seed + 1)
    )
    first = {device: one_round(device, scene, weights) for device in devices}
    times: dict[Device, list[tuple[float, float]]] = {device: [] for device in devices}
    for _ in range(options.rounds):
        for device in devices:
            forward, backward, *_ = one_round(device, scene, weights)
            times[device].append((forward, backward))
    figures = []
    of_reference = first[devices[0]]
    for device, pairs in times.items():
        of_first = first[device]
        figures.append(
            Figures(
                device,
                *(statistics.median(column) for column in zip(*pairs, strict=True)),
                both=statistics.median(map(sum, pairs)),
                best=min(map(sum, pairs)),
                first=of_first[0] + of_first[1],
                image=(of_first[2] - of_reference[2]).abs().max().item(),
                gradients=max(
                    ((mine - theirs).abs().max() / theirs.abs().max()).item()
                    for mine, theirs in zip(of_first[3], of_reference[3], strict=True)
                ),
            )
        )
    radii = of_reference[4]["radii"]
    return figures, radii[radii > 0].float()


def time_rasterizer(options: RasterizerOptions) -> None:
    figures, seen = compare_devices(options)
    print(
        f"{options.width}x{options.height}, {options.gaussians} Gaussians ({len(seen)} visible, mean radius "
        f"{seen.mean().item():.1f} px), harmonics of degree {options.sh_degree}\n"
        f"{describe_machine(options)}\n"
    )
    reference = figures[0]
    columns = ("device", "forward", "backward", "both", "best", "per second", f"x {reference.device}", "image")
    header = f"| {' | '.join(columns)} | gradients | first |"
    print(header)
    print("|" + " --- |" * (header.count("|") - 1))
    for one in figures:
        print(
            f"| {one.device} | {1e3 * one.forward:.1f} | {1e3 * one.backward:.1f} | {1e3 * one.both:.1f} "
            f"| {1e3 * one.best:.1f} | {1 / one.both:.1f} | {reference.both / one.both:.1f} | {one.image:.1e} "
            f"| {one.gradients:.1e} | {1e3 * one.first:.0f} |"
        )
    print(
        f"\nimage: largest difference from {reference.device}; gradients: the same, relative to each tensor's largest "
        "value;\nfirst: the first round, with whatever had to be imported and compiled"
    )


def trainer_config(method: str, data: Path, output: Path, name: str, steps: int | None = None) -> Any:
    """The configuration of `ns-train METHOD --max-num-iterations STEPS --data DATA`, which writes to a run's folder of
    that name, and nothing to the terminal."""
    from page4d_nerfstudio import configs

    config: Any = copy.deepcopy(getattr(configs, method.replace("-", "_")).config)
    if steps is not None:
        config.max_num_iterations = steps
        config.__post_init__()  # schedules follow the length
    config.pipeline.datamanager.data = data
    config.output_dir, config.timestamp, config.vis = output, name, "tensorboard"
    config.logging.local_writer.enable = False
    return config


def set_up(config: Any) -> Trainer:
    """The trainer of a configuration, ready for its first step."""
    trainer = config.setup()
    trainer.setup()
    return trainer


def make_trainer(options: RasterizerOptions, folder: Path) -> Trainer:
    """A trainer of page4d-4dgs on a synthetic capture; its Gaussians never get more or less."""
    from page4d_hf.synthetic import write_synthetic_capture

    capture = write_synthetic_capture(
        folder / "capture", width=options.width, height=options.height, num_points=options.gaussians, seed=options.seed
    )
    config = trainer_config("page4d-4dgs", capture, folder / "output", "steps")
    config.pipeline.model.refine_every = 10**9
    config.machine.device_type = options.devices[-1]
    return set_up(config)


def train_step(trainer: Trainer, step: int) -> None:
    """A step of training, with all that nerfstudio's loop does in one."""
    from nerfstudio.engine.callbacks import TrainingCallbackLocation

    trainer.pipeline.train()
    for callback in trainer.callbacks:
        callback.run_callback_at_location(step, location=TrainingCallbackLocation.BEFORE_TRAIN_ITERATION)
    trainer.train_iteration(step)
    for callback in trainer.callbacks:
        callback.run_callback_at_location(step, location=TrainingCallbackLocation.AFTER_TRAIN_ITERATION)


def one_step(trainer: Trainer, step: int) -> float:
    """Seconds of a step of training."""
    return timed(lambda: train_step(trainer, step), torch.device(trainer.device))


def time_steps(options: RasterizerOptions) -> None:
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(options, Path(folder))
        model = trainer.pipeline.model
        print(
            f"\n{options.width}x{options.height}, {model.num_points} Gaussians, {int(model.in_motion.sum())} of them "
            f"moving\n{describe_machine(options)}\n"
        )
        print("| stage | device | step | best | steps per second |")
        print("| --- | --- | --- | --- | --- |")
        deforms_from = model.schedule.coarse_steps
        # Late in either stage, so that all harmonics are in use.
        for stage, first in (("static", deforms_from - 1), ("deforming", deforms_from + 3000)):
            # One step number throughout: the stage is what is timed, not the schedule.
            seconds = [one_step(trainer, first) for _ in range(options.rounds + 1)][1:]
            median, best = statistics.median(seconds), min(seconds)
            print(f"| {stage} | {trainer.device} | {1e3 * median:.1f} | {1e3 * best:.1f} | {1 / median:.1f} |")


def main(options: RasterizerOptions) -> None:
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.cold:
        os.environ["NUMBA_CACHE_DIR"] = tempfile.mkdtemp()  # read when numba is imported, which is yet to come
    if options.step:
        time_steps(options)
    else:
        time_rasterizer(options)


if __name__ == "__main__":
    with input_errors_end_the_program("rasterize"):
        main(tyro.cli(RasterizerOptions))
