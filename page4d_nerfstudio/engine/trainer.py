"""The trainer's configuration: one length for everything, and learning rates in units of the scene."""

from __future__ import annotations

import copy
import math
import shutil
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackLocation
from nerfstudio.engine.optimizers import AdamOptimizerConfig, Optimizers
from nerfstudio.engine.schedulers import Scheduler, SchedulerConfig
from nerfstudio.engine.trainer import Trainer, TrainerConfig
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from page4d_hf.captures.sources import place_of
from page4d_hf.errors import CheckpointError, Page4DError
from page4d_hf.utils.folders import working_folder
from page4d_hf.utils.programs import say_next

from ..checkpoints import UNREADABLE, check_checkpoint, publish, saved_steps, step_to_load
from ..console import input_errors_end_the_command, say
from ..gaussians.schedule import REFERENCE_STEPS, scale_steps
from .health import TrainingError, check_parameters
from .pipeline import Page4DPipeline

# Groups whose learning rates are in units of the scene's extent.
IN_UNITS_OF_EXTENT = ("means",)

# Groups that learn the motion, from nothing. How far Adam carries a parameter is about learning rate times steps, so in
# a run of fewer steps these get a higher rate, by as much as the run is shorter: otherwise it ends before things moved.
LEARN_MOTION = ("planes", "heads")
MOST_GAIN = 30.0  # tried up to here

# Folder, in that of the run, in which a checkpoint is until it is whole.
UNFINISHED = "unfinished_checkpoint"


@dataclass
class Page4DTrainerConfig(TrainerConfig):
    """Training of page4d-4dgs.

    All other numbers of steps, in the model's schedules and the learning rates' decay, are for a run of 17,000 steps
    and scale with --max-num-iterations. Learning rates of the deformation (planes, heads) rise by as much as the run is
    shorter, up to 30 times. On a CPU, 1500 to 3000 steps at a width of 160 to 250 pixels take some minutes.
    """

    _target: type = field(default_factory=lambda: Page4DTrainer)

    max_num_iterations: int = REFERENCE_STEPS
    """Number of training steps. All schedules scale with it: static stage, densification, spherical harmonics, learning
    rates."""
    schedule_length: int | None = None
    """Length of the run that schedules scale to. Give the length of the whole run here when resuming; by default
    max_num_iterations."""

    def setup(self, **kwargs: Any) -> Any:
        with input_errors_end_the_command():
            return super().setup(**kwargs)

    def __post_init__(self) -> None:
        length = self.max_num_iterations if self.schedule_length is None else self.schedule_length
        if length < 1:
            raise Page4DError(f"A training needs at least one step, got a length of {length}.")
        model: Any = self.pipeline.model
        model.run_length = length

    def save_config(self) -> None:
        """Save it as the commands that load the run's own checkpoints need it: without a step of another run's.

        Where another training works in the folder, its configuration stays as it is.
        """
        load_step, self.load_step = self.load_step, None
        try:
            with input_errors_end_the_command(), ExitStack() as stack:
                try:
                    if self.get_base_dir().is_dir():
                        stack.enter_context(working_folder(self.get_base_dir()))
                    super().save_config()
                except (OSError, ValueError) as error:  # before anything is read; a null byte is a ValueError
                    reason = error.strerror if isinstance(error, OSError) else error
                    raise Page4DError(
                        f"Cannot write the training's folder {str(self.get_base_dir())!r:.300}: {reason}; choose "
                        "another --output-dir, --experiment-name or --timestamp."
                    ) from error
        finally:
            self.load_step = load_step

    def set_experiment_name(self) -> None:
        """Name it after the data. nerfstudio names a video after its folder, and images by a glob after the stars."""
        if self.experiment_name is None:
            datamanager: Any = self.pipeline.datamanager
            data = self.data or datamanager.data or datamanager.dataparser.data
            self.experiment_name = place_of(Path(data).resolve()).stem or "unnamed"


class Page4DTrainer(Trainer):
    """Nerfstudio's trainer, with optimizers that know the scene's extent and the run's length.

    Killed at any moment, a training goes on from its last checkpoint as it would have gone on without.
    """

    config: Page4DTrainerConfig
    pipeline: Page4DPipeline

    def __init__(self, config: Page4DTrainerConfig, local_rank: int = 0, world_size: int = 1) -> None:
        if config.machine.device_type == "cuda" and not torch.cuda.is_available():
            raise Page4DError(
                "--machine.device-type cuda was asked for, but PyTorch finds no CUDA device: leave it out to train "
                "on the CPU."
            )
        if world_size > 1:
            raise Page4DError(f"page4d-4dgs trains on one device, got --machine.num-devices {world_size}.")
        if config.mixed_precision or config.use_grad_scaler:
            raise Page4DError(
                "page4d-4dgs trains in float32: density control reads gradients, and a GradScaler would multiply them. "
                "Leave out --mixed-precision and --use-grad-scaler."
            )
        super().__init__(config, local_rank, world_size)

    def setup_optimizers(self) -> Optimizers:
        model = self.pipeline.model
        extent, length = model.scene_extent, model.config.run_length
        # What moves Gaussians in the world's unit learns in units of the scene's extent, as positions do.
        motion_extent = 1.0 if model.deformation is None or model.deformation.in_units_of_box else extent
        groups = {
            name: scale_group(
                group, learning_rate_factor(name, extent, length, motion_extent), length, model.config.coarse_steps
            )
            for name, group in self.config.optimizers.items()
        }
        with input_errors_end_the_command():
            return Optimizers(groups, self.pipeline.get_param_groups())

    def train(self) -> None:
        """Train; where the training cannot go on, end the command with what is wrong and what is kept.

        One at a time in a folder: another of the same name and timestamp is refused.
        """
        with input_errors_end_the_command(), working_folder(self.base_dir):
            try:
                super().train()
            except TrainingError as error:
                steps = saved_steps(self.checkpoint_dir)
                kept = f"The checkpoint of step {steps[-1]} is kept" if steps else "There is no checkpoint yet"
                raise TrainingError(f"{error} {kept}, in {self.checkpoint_dir}.") from error

    def _after_train(self) -> None:
        """Say how to share the scene, once it is saved and before the viewer waits for Ctrl-C."""
        self.callbacks.append(TrainingCallback([TrainingCallbackLocation.AFTER_TRAIN], self._say_what_is_next))
        super()._after_train()

    def _say_what_is_next(self, step: int) -> None:
        page = f"{self.config.experiment_name}.html"
        say_next("page4d", "share", "--load-config", self.base_dir / "config.yml", "--output", page, say=say)

    def _load_checkpoint(self) -> None:
        config = self.config
        source = config.load_checkpoint
        with input_errors_end_the_command():
            if config.load_dir is not None:
                # nerfstudio takes whatever lies in the folder for a checkpoint.
                config.load_step = step_to_load(config.load_dir, config.load_step)
                source = config.load_dir / f"step-{config.load_step:09d}.ckpt"
            elif source is not None and not source.is_file():
                raise CheckpointError(f"There is no checkpoint --load-checkpoint {source}.")
            if source is not None:
                check_checkpoint(source)
            try:
                super()._load_checkpoint()
                if source is not None:
                    self._check_length()
                    self.pipeline.resume()
            except Page4DError:
                raise
            except UNREADABLE as error:
                raise CheckpointError(
                    f"{source} is not a whole checkpoint of such a training ({type(error).__name__}: {error})."
                ) from error

    def _check_length(self) -> None:
        """Take the schedules of the run's length, and raise CheckpointError where that was not given.

        --max-num-iterations is the number of further steps, which is no length of a run.
        """
        loaded, config = self.pipeline.model.loaded_run_length, self.config
        if loaded is None:
            return
        if config.schedule_length is None:
            left = loaded - self._start_step
            completed = (
                f"--max-num-iterations {left} --schedule-length {loaded} complete it" if left > 0 else "it is over"
            )
            raise CheckpointError(
                f"This checkpoint has {self._start_step:,} steps of a run of {loaded:,}: {completed}. To train for "
                "longer, give the length of the whole run by --schedule-length."
            )
        if loaded != config.schedule_length:
            self._set_learning_rates()

    def _set_learning_rates(self) -> None:
        """Set the learning rates that this run has at its step, in place of those of the loaded one."""
        for name, optimizer in self.optimizers.optimizers.items():
            rate, factor = self.optimizers.config[name]["optimizer"].lr, 1.0
            scheduler = self.optimizers.schedulers.get(name)
            if isinstance(scheduler, LambdaLR):
                scheduler.base_lrs = [rate]
                factor = scheduler.lr_lambdas[0](scheduler.last_epoch)
            for group in optimizer.param_groups:
                group["lr"], group["initial_lr"] = rate * factor, rate

    def save_checkpoint(self, step: int) -> None:
        """Save model and optimizers: whole or not at all, and nothing that a training could not go on from.

        Killed at any moment, the run still has its last checkpoint. It is written to a folder of its own first, as
        nerfstudio and its other commands take any file beside checkpoints for one.
        """
        check_parameters(self.pipeline.model, step)
        place = self.checkpoint_dir
        unfinished = self.base_dir / UNFINISHED
        shutil.rmtree(unfinished, ignore_errors=True)  # of a run that was killed
        self.checkpoint_dir = unfinished
        try:
            super().save_checkpoint(step)
            place.mkdir(parents=True, exist_ok=True)
            for file in unfinished.iterdir():
                publish(file, place / file.name)
        except (OSError, RuntimeError) as error:  # PyTorch's writer raises the latter where a disk is full
            raise TrainingError(f"The checkpoint of step {step} can't be written: {error}.") from error
        finally:
            self.checkpoint_dir = place
            shutil.rmtree(unfinished, ignore_errors=True)
        if self.config.save_only_latest_checkpoint:
            for other in saved_steps(place):
                if other != step:
                    (place / f"step-{other:09d}.ckpt").unlink()


def learning_rate_factor(name: str, extent: float, run_length: int, motion_extent: float = 1.0) -> float:
    """By how much a group's learning rate differs from the configured one, in a scene of this extent and such a run.

    `motion_extent`: the extent for what learns the motion, 1 where it works in units of its box.
    """
    if name in IN_UNITS_OF_EXTENT:
        return extent
    if name in LEARN_MOTION:
        return motion_extent * min(max(REFERENCE_STEPS / run_length, 1.0), MOST_GAIN)
    return 1.0


def scale_group(group: dict[str, Any], factor: float, run_length: int, coarse_steps: int = 0) -> dict[str, Any]:
    """A copy of an optimizer's and its scheduler's configuration, whose steps are for a run of 17,000, for one of this
    length.

    `factor` is of learning rates. Of a run of 17,000 steps, `coarse_steps` are the static stage's: how long a scheduler
    holds that does not say it itself.
    """
    group = copy.deepcopy(group)
    group["optimizer"].lr *= factor
    scheduler = group["scheduler"]
    if isinstance(scheduler, HoldThenDecaySchedulerConfig):
        scheduler.lr_final *= factor
        hold_steps = coarse_steps if scheduler.hold_steps is None else scheduler.hold_steps
        scheduler.hold_steps = scale_steps(hold_steps, run_length)
        scheduler.max_steps = max(scale_steps(scheduler.max_steps, run_length), scheduler.hold_steps + 1)
    return group


@dataclass
class FusedAdamConfig(AdamOptimizerConfig):
    """Adam in PyTorch's fused form: one pass over memory for each parameter, five times as fast on a CPU."""

    eps: float = 1e-15
    """The epsilon value to use."""
    fused: bool = True
    """Whether to use the fused form."""


@dataclass
class HoldThenDecaySchedulerConfig(SchedulerConfig):
    """A learning rate that stays as it is for the static stage, and then decays exponentially."""

    _target: type = field(default_factory=lambda: HoldThenDecayScheduler)

    lr_final: float = 1.6e-6
    """Learning rate at the end."""
    hold_steps: int | None = None
    """Steps before it decays, of a run of 17,000: by default the model's coarse_steps."""
    max_steps: int = REFERENCE_STEPS
    """Step at which it ends, of a run of 17,000."""
    starts_anew: bool = False
    """Whether it decays from the first step on and starts anew after hold_steps, as in 4DGS, where each stage has a
    schedule of its own."""


class HoldThenDecayScheduler(Scheduler):
    """lr(step) = lr^(1 - s) lr_final^s, where s goes from 0 at `hold_steps` to 1 at `max_steps`.

    Before `hold_steps` s is 0 or, where the schedule starts anew, what it is as many steps after them.
    """

    config: HoldThenDecaySchedulerConfig

    def get_scheduler(self, optimizer: Optimizer, lr_init: float) -> LambdaLR:
        """The scheduler of an optimizer whose learning rate is `lr_init`; at 0, its parameters stay as they are."""
        if lr_init == 0:
            return LambdaLR(optimizer, lr_lambda=lambda _: 1.0)
        if not self.config.lr_final > 0 or not lr_init > 0:
            raise Page4DError(
                f"A learning rate that decays goes from one above 0 to another, got lr={lr_init:g} and "
                f"lr_final={self.config.lr_final:g}."
            )
        hold, end, anew = self.config.hold_steps or 0, self.config.max_steps, self.config.starts_anew
        log_ratio = math.log(self.config.lr_final / lr_init)

        def factor(step: int) -> float:
            # A Python float: a checkpoint with numpy's scalars in it is refused by torch.load since PyTorch 2.6.
            since = step if anew and step < hold else step - hold
            return math.exp(log_ratio * min(max(since / (end - hold), 0.0), 1.0))

        return LambdaLR(optimizer, lr_lambda=factor)
