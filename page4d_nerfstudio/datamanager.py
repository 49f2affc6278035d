"""Nerfstudio's datamanager of whole images, over page4d's dataset."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from nerfstudio.data.datamanagers.full_images_datamanager import FullImageDatamanager, FullImageDatamanagerConfig
from torch import Tensor

from .dataset import Page4DDataset
from .sources import place_of


@dataclass
class Page4DDatamanagerConfig(FullImageDatamanagerConfig):
    """Whole images, one a step."""

    _target: type = field(default_factory=lambda: Page4DDatamanager)


class Page4DDatamanager(FullImageDatamanager[Page4DDataset]):
    """Whole images of a capture, with motion masks where there are any, on any machine."""

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
