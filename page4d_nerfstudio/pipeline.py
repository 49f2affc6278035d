"""Nerfstudio's pipeline, with what a moving scene asks of it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
import torchvision.utils
from nerfstudio.pipelines.base_pipeline import VanillaPipeline, VanillaPipelineConfig
from nerfstudio.utils import profiler
from rich.progress import track

from .console import input_errors_end_the_command
from .datamanager import Page4DDatamanager
from .model import Page4DGaussiansModel


@dataclass
class Page4DPipelineConfig(VanillaPipelineConfig):
    """Data and model of page4d-4dgs."""

    _target: type = field(default_factory=lambda: Page4DPipeline)

    def setup(self, **kwargs: Any) -> Any:
        # Every ns-* command builds its pipeline here.
        with input_errors_end_the_command():
            return super().setup(**kwargs)


class Page4DPipeline(VanillaPipeline):
    """Joins model and data: training cameras one way, the schedule the other; averages metrics not all images have."""

    config: Page4DPipelineConfig

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if isinstance(self.model, Page4DGaussiansModel):
            self.model.set_training_views(self.datamanager.train_dataset.cameras)  # type: ignore[union-attr]
            if isinstance(self.datamanager, Page4DDatamanager):
                self.datamanager.schedule = self.model.schedule

    @profiler.time_function
    def get_average_image_metrics(
        self,
        data_loader: Any,
        image_prefix: str,
        step: int | None = None,
        output_path: Path | None = None,
        get_std: bool = False,
    ) -> dict[str, float]:
        """Each metric's mean over the images that have it (an image where nothing moves has no `psnr_moving`).

        Args:
            data_loader: Pairs of a camera and its batch.
            image_prefix: Of the names of the images written.
            step: Not used; nerfstudio's signature has it.
            output_path: Folder for each image's truth and render side by side, made if it is missing.
            get_std: Whether to add `<metric>_std`, 0 for a single image.

        Returns:
            Means by name, `num_rays_per_sec` and `fps` of rendering among them.
        """
        self.eval()
        if output_path is not None:
            output_path.mkdir(parents=True, exist_ok=True)
        values: dict[str, list[float]] = defaultdict(list)
        for index, (camera, batch) in enumerate(track(data_loader, "Evaluating all images", transient=True)):
            started = perf_counter()
            outputs = self.model.get_outputs_for_camera(camera=camera)
            seconds = perf_counter() - started
            metrics, images = self.model.get_image_metrics_and_images(outputs, batch)
            for name, image in images.items() if output_path is not None else ():
                file = output_path / f"{image_prefix}_{name}_{index:04d}.png"  # type: ignore[operator]
                torchvision.utils.save_image(image.permute(2, 0, 1).cpu(), file)
            metrics["num_rays_per_sec"] = int(camera.height * camera.width) / seconds
            metrics["fps"] = 1.0 / seconds
            for name, value in metrics.items():
                values[name].append(float(value))
        self.train()
        averages = {}
        for name, each in values.items():
            averages[name] = float(torch.tensor(each, dtype=torch.float64).mean())
            if get_std:
                averages[f"{name}_std"] = float(torch.tensor(each, dtype=torch.float64).std()) if len(each) > 1 else 0.0
        return averages
