"""Nerfstudio's pipeline, extended for moving scenes."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torchvision.utils
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes, TrainingCallbackLocation
from nerfstudio.pipelines.base_pipeline import VanillaPipeline, VanillaPipelineConfig
from nerfstudio.utils import profiler
from rich.progress import track

from page4d_hf.errors import CheckpointError, Page4DError
from page4d_hf.utils.measuring import instant
from page4d_hf.utils.ranges import ENDLESS, check_ranges
from page4d_hf.viewing.guarded_server import guard_servers

from ..console import input_errors_end_the_command, note
from ..data.datamanager import Page4DDatamanager
from ..gaussians.model import Page4DGaussiansModel, Page4DGaussiansModelConfig
from ..viewing import ffmpeg
from ..viewing.panel import Panel
from .fitted_cameras import fitted_camera
from .health import check_count, check_losses, check_parameters
from .randomness import random_state, set_random_state

# Each view's image, Gaussians and gradients stay in memory until the step ends. 4DGS takes 2 to 4.
MOST_VIEWS_PER_STEP = 64

# Of a training without a motion mask, in which every Gaussian may move: so few views tell motion from shape badly.
# On 12 frames of real clips deformation brought 3.8 and 1.9 dB, and cost .4.
FEW_VIEWS = 16

# Averages that say how fast a view was rendered, not how well.
SPEEDS = ("num_rays_per_sec", "fps")


@dataclass
class Page4DPipelineConfig(VanillaPipelineConfig):
    """Data and model of page4d-4dgs."""

    _target: type = field(default_factory=lambda: Page4DPipeline)

    views_per_step: int = 2
    """Training views per step, at most 64, whose losses are averaged, as in 4DGS. All of them are in memory at once. 1
    takes about half as long."""
    num_train_views_in_eval: int = 8
    """Number of training views, spread evenly over time, to evaluate beside the held-out views, for the gap between the
    two. 0 evaluates none."""
    fit_held_out_cameras: int = 0
    """Steps over which each held-out camera is fitted to its image with the scene held, for figures `fitted_...` beside
    those of the cameras as they are: for refined cameras, into whose world the held-out ones are carried. 0 fits none;
    100 are enough for a few pixels."""

    def check(self) -> None:
        """Raises Page4DError where an option is out of range, of the model too."""
        ranges = {"views_per_step": (1, MOST_VIEWS_PER_STEP), "num_train_views_in_eval": (0, ENDLESS)}
        ranges["fit_held_out_cameras"] = (0, ENDLESS)
        check_ranges(self, ranges, "--pipeline.")
        if isinstance(self.model, Page4DGaussiansModelConfig):
            self.model.check()

    def setup(self, **kwargs: Any) -> Any:
        # Every ns-* command builds its pipeline here.
        with input_errors_end_the_command():
            self.check()  # before data are read
            guard_servers()  # nerfstudio's viewer, which comes after the pipeline, may be open to other machines
            if kwargs.get("test_mode") in ("test", "inference"):
                ffmpeg.offer()  # to ns-render, which looks for it next
            return super().setup(**kwargs)


class Page4DPipeline(VanillaPipeline):
    """Joins model and data: training cameras one way, the schedule the other; averages metrics not all images have."""

    config: Page4DPipelineConfig
    datamanager: Page4DDatamanager
    _state_to_resume: dict[str, Any] | None = None

    @property
    def model(self) -> Page4DGaussiansModel:
        model: Page4DGaussiansModel = super().model
        return model

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.panel = Panel(self.model)
        dataset, weight = self.datamanager.train_dataset, self.model.config.depth_weight
        self.model.set_training_views(dataset.cameras)
        self.datamanager.schedule = self.model.schedule
        if weight > 0 and not dataset.knows_depth:
            raise Page4DError(
                f"--pipeline.model.depth-weight {weight:g} needs depth, and the data have none: give a scene folder of "
                "`page4d reconstruct`, a capture with depth, or --points page4d with a --model; or leave it at 0."
            )
        dataset.with_depth = weight > 0  # nobody else needs the memory

    def _warn_of_few_views(self) -> None:
        model = self.model
        if model.deformation is not None and bool(model.in_motion.all()) and model.num_train_data <= FEW_VIEWS:
            note(
                f"{model.num_train_data} views to train on and no motion mask: a deformation of all Gaussians may cost "
                "more than it brings; compare with --pipeline.model.use-deformation False, or give more frames"
            )

    def get_extra_state(self) -> dict[str, Any]:
        """RNG and sampler state, for exact resume."""
        return {"random": random_state(), "order": self.datamanager.order()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        # For `resume` only: evaluating a checkpoint draws nothing that the training would have.
        self._state_to_resume = state

    def resume(self) -> None:
        """Restore RNG and sampler state of the loaded checkpoint, for exact resume."""
        state = self._state_to_resume
        if state is None:
            raise CheckpointError("The checkpoint holds no RNG and sampler state: it is not of a page4d-4dgs training.")
        set_random_state(state["random"])
        self.datamanager.set_order(state["order"])
        check_count(self.model, self.model.step)
        self.datamanager.schedule = self.model.schedule  # as the checkpoint may have changed it

    def get_training_callbacks(
        self, training_callback_attributes: TrainingCallbackAttributes
    ) -> list[TrainingCallback]:
        """The datamanager's and the model's, and a look at what density control has left."""
        self._warn_of_few_views()
        callbacks = super().get_training_callbacks(training_callback_attributes)
        callbacks.append(TrainingCallback([TrainingCallbackLocation.AFTER_TRAIN_ITERATION], self._check_model))
        return callbacks

    def _check_model(self, step: int) -> None:
        # Density control may have mended or removed what was not finite; nothing is known between its refinements.
        check = check_count if step % self.model.config.refine_every else check_parameters
        check(self.model, step)

    def get_train_loss_dict(self, step: int) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        """Outputs of the step's last view, and means over its views of losses and of what is logged.

        What does not depend on the view, like the planes' regularisers, is evaluated once. Raises TrainingError where a
        loss is not finite.
        """
        outputs, losses, metrics = self._train_losses(step)
        check_losses(losses, self.model, step)
        return outputs, losses, metrics

    @profiler.time_function
    def _train_losses(self, step: int) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        count, model = self.config.views_per_step, self.model
        terms: dict[str, list[Any]] = defaultdict(list)
        metrics: dict[str, list[Any]] = defaultdict(list)
        for _ in range(count):
            camera, batch = self.datamanager.next_train(step)
            outputs = model(camera)
            for name, value in model.get_metrics_dict(outputs, batch).items():
                metrics[name].append(value)
            for name, value in model.image_losses(outputs, batch).items():
                terms[name].append(value)
        losses = {name: sum(values) / count for name, values in terms.items()} | model.regularizers()
        return outputs, losses, {name: sum(values) / count for name, values in metrics.items()}

    @profiler.time_function
    def get_average_eval_image_metrics(
        self, step: int | None = None, output_path: Path | None = None, get_std: bool = False
    ) -> dict[str, float]:
        """Means over the held-out views, and how they compare with training views.

        Returns:
            What `get_average_image_metrics` gives for the held-out views; and, for each of its figures of quality that
            training views have too, `train_<figure>`, its mean over `num_train_views_in_eval` of these, and
            `gap_<figure>`, that mean minus the one of the held-out views. Without the latter two where no view is held
            out. With `fit_held_out_cameras`, `fitted_<figure>` of the held-out views from cameras that were fitted to
            them.
        """
        averages: dict[str, float] = super().get_average_eval_image_metrics(step, output_path, get_std)
        for name, value in self._training_metrics(step).items():
            if name in averages and name not in SPEEDS:
                averages[f"train_{name}"] = value
                averages[f"gap_{name}"] = value - averages[name]
        if self.config.fit_held_out_cameras:
            averages |= {f"fitted_{name}": value for name, value in self._fitted_metrics(step).items()}
        return averages

    def _fitted_metrics(self, step: int | None) -> dict[str, float]:
        """Means over the held-out views, each from the camera that fits its image best."""
        self.eval()
        views = (
            (fitted_camera(self.model, camera, batch, self.config.fit_held_out_cameras), batch)
            for camera, batch in self.datamanager.fixed_indices_eval_dataloader
        )
        found = self.get_average_image_metrics(views, "fitted", step)
        return {name: value for name, value in found.items() if name not in SPEEDS}

    def _training_metrics(self, step: int | None) -> dict[str, float]:
        """Means over some training views, as they were trained: with their camera's refined pose, if it has one."""
        count, manager = self.config.num_train_views_in_eval, self.datamanager
        if count < 1 or set(manager.eval_dataset.image_filenames) <= set(manager.train_dataset.image_filenames):
            return {}
        views = []
        for camera, batch in manager.training_views(count):
            with torch.no_grad():
                camera.camera_to_worlds = self.model.camera_optimizer.apply_to_camera(camera)
            views.append((camera, batch))
        return self.get_average_image_metrics(views, "train", step)

    @profiler.time_function
    def get_average_image_metrics(
        self,
        data_loader: Any,
        image_prefix: str,
        step: int | None = None,
        output_path: Path | None = None,
        get_std: bool = False,
    ) -> dict[str, float]:
        """Each metric's mean over the images that have it (an image where nothing moves has no `psnr_moving`), and
        `num_rays_per_sec` and `fps` of rendering.

        Each image's truth and render go side by side to `output_path`, if there is one; `get_std` adds `<metric>_std`,
        0 for a single image. `step` is nerfstudio's, and not used.
        """
        self.eval()
        if output_path is not None:
            output_path.mkdir(parents=True, exist_ok=True)
        values: dict[str, list[float]] = defaultdict(list)
        for index, (camera, batch) in enumerate(track(data_loader, "Evaluating all images", transient=True)):
            started = instant(self.device)
            outputs = self.model.get_outputs_for_camera(camera=camera)
            seconds = instant(self.device) - started
            metrics, images = self.model.get_image_metrics_and_images(outputs, batch)
            if output_path is not None:
                for name, image in images.items():
                    file = output_path / f"{image_prefix}_{name}_{index:04d}.png"
                    torchvision.utils.save_image(image.permute(2, 0, 1).cpu(), file)
            metrics["num_rays_per_sec"] = int(camera.height * camera.width) / seconds
            metrics["fps"] = 1.0 / seconds
            for name, value in metrics.items():
                values[name].append(float(value))
        self.train()
        averages = {}
        for name, each in values.items():
            figures = torch.tensor(each, dtype=torch.float64)
            averages[name] = float(figures.mean())
            if get_std:
                averages[f"{name}_std"] = float(figures.std()) if len(each) > 1 else 0.0
        return averages
