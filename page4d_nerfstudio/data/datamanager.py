"""Nerfstudio's datamanager of whole images, over page4d's dataset, in an order that suits what moves."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.datamanagers.full_images_datamanager import FullImageDatamanager, FullImageDatamanagerConfig
from torch import Tensor

from page4d_hf.captures.sources import place_of

from ..gaussians.schedule import CANONICAL_TIME, Schedule
from .dataset import Page4DDataset


@dataclass
class Page4DDatamanagerConfig(FullImageDatamanagerConfig):
    """Whole images, one at a time."""

    _target: type = field(default_factory=lambda: Page4DDatamanager)


class Page4DDatamanager(FullImageDatamanager[Page4DDataset]):
    """Whole images of a capture, with motion masks where there are any, on any machine."""

    schedule: Schedule | None = None
    """Which times a step may see: the pipeline tells it, as the model knows. None is all times at every step."""

    def next_train(self, step: int) -> tuple[Cameras, dict[str, Any]]:
        """The next training image, of a time that the schedule lets this step see, and its camera.

        Once times have begun to grow, every other image is one of those drawn least often since: the ends of a capture,
        which come last, catch up with its middle, and meanwhile the middle is not forgotten.
        """
        if self.schedule is not None and self.schedule.times_grow and step >= self.schedule.coarse_steps:
            seen = self._within(self.schedule.span_at(step))
            unseen = [index for index in self.train_unseen_cameras if seen[index]]
            self.train_unseen_cameras = unseen or random.sample(np.flatnonzero(seen).tolist(), int(seen.sum()))
            if self.draws.sum() % 2 == 1:
                fewest = self.draws[seen].min()
                rarest = random.choice(np.flatnonzero(seen & (self.draws == fewest)).tolist())
                self.train_unseen_cameras.insert(0, rarest)
            self.draws[self.train_unseen_cameras[0]] += 1
        return super().next_train(step)

    def _within(self, span: float) -> npt.NDArray[Any]:
        """Which training images [N] bool were taken within `span` of the canonical time; at least the nearest."""
        # The dataset's: those of this class exist once images are read, and a resumed training starts right here.
        times = self.train_dataset.cameras.times
        assert times is not None
        distance = np.abs(times.reshape(-1).cpu().numpy() - CANONICAL_TIME)
        return np.asarray(distance <= max(span, float(distance.min())))

    @cached_property
    def draws(self) -> npt.NDArray[Any]:
        """How often each training image was drawn since times began to grow."""
        return np.zeros(len(self.train_dataset), np.int64)

    def order(self) -> dict[str, Any]:
        """How far the training has come through its images, and its evaluation through the held-out ones."""
        state: dict[str, Any] = {
            "sizes": [len(self.train_dataset), len(self.eval_dataset)],
            "train_unseen_cameras": list(self.train_unseen_cameras),
            "eval_unseen_cameras": list(self.eval_unseen_cameras),
            "draws": self.draws.tolist(),
        }
        if hasattr(self, "random_generator"):
            state["random_generator"] = self.random_generator.getstate()
        if hasattr(self, "train_unsampled_epoch_count"):
            state["train_unsampled_epoch_count"] = self.train_unsampled_epoch_count.tolist()
        return state

    def set_order(self, state: dict[str, Any]) -> None:
        """Go on from what `order` gave; of other images than these it says nothing, and is left aside."""
        if state["sizes"] != [len(self.train_dataset), len(self.eval_dataset)]:
            return
        self.train_unseen_cameras = list(state["train_unseen_cameras"])
        self.eval_unseen_cameras = list(state["eval_unseen_cameras"])
        self.draws = np.array(state["draws"], np.int64)
        if "random_generator" in state and hasattr(self, "random_generator"):
            self.random_generator.setstate(state["random_generator"])
        if "train_unsampled_epoch_count" in state:
            self.train_unsampled_epoch_count = np.array(state["train_unsampled_epoch_count"])

    def training_views(self, count: int) -> Iterator[tuple[Cameras, dict[str, Any]]]:
        """At most `count` training views, the same at every call and spread evenly over the capture's time.

        Yields:
            A camera, of shape (1,) and with its `cam_idx` in its metadata, and its batch. Only these images are read,
            if not all of them are in memory.
        """
        cameras = self.train_dataset.cameras
        order = np.arange(len(cameras))
        if cameras.times is not None:
            order = np.argsort(cameras.times.reshape(-1).cpu().numpy(), kind="stable")
        count = min(count, len(order))
        middles = (2 * np.arange(count) + 1) * len(order) // (2 * count)  # of equal stretches
        for index in order[middles].tolist():
            # nerfstudio takes distortion out of images, and changes their cameras, when it reads all of them.
            distortion = cameras.distortion_params
            if "cached_train" in self.__dict__ or (distortion is not None and bool(distortion.any())):
                batch = self.cached_train[index].copy()
            else:
                batch = self.train_dataset.get_data(index, image_type=self.config.cache_images_type)
            batch["image"] = batch["image"].to(self.device)
            camera = self.train_dataset.cameras[index : index + 1].to(self.device)
            camera.metadata = {**(camera.metadata or {}), "cam_idx": index}
            yield camera, batch

    def _load_images(
        self, split: Literal["train", "eval"], cache_images_device: Literal["cpu", "gpu"]
    ) -> list[dict[str, Tensor]]:
        # "cpu" pins memory, which needs CUDA, and nerfstudio chooses it by itself for more than 500 images. "gpu" only
        # means the device that trains.
        if not torch.cuda.is_available():
            cache_images_device = "gpu"
        return super()._load_images(split, cache_images_device)

    def get_datapath(self) -> Path:
        """Where the viewer keeps camera paths: with the data; beside the images that a glob names."""
        return place_of(super().get_datapath())
