"""Metric scale: a reconstruction's depth compared with that of a metric single-image model."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from ..errors import CheckpointError, Page4DError
from ..frames import WHITE, Frames, over
from ..scene.folder import MOVES
from ..utils.evenly import evenly
from ..utils.programs import first_line

MOST_FRAMES = 16  # that the model sees, spread evenly
FEWEST_PIXELS = 100  # of a frame
RELATIVE = ("dpt", "page4d")  # kinds of models whose depth has no unit


@dataclass(frozen=True)
class MetricScale:
    """Metres per unit of a reconstruction."""

    scale: float
    spread: float  # of the logarithm, from frame to frame: median distance from the median
    frames: int  # that were compared

    def as_info(self, model: str) -> dict[str, Any]:
        """For `page4d/info.json`."""
        return {"model": model, "scale": self.scale, "spread": round(self.spread, 4), "frames": self.frames}


def load_metric_model(name: str | os.PathLike[str], device: torch.device) -> Any:
    """A pipeline of transformers for metric depth in float32, of a folder or a repository on the Hub."""
    from transformers import pipeline

    try:
        made = pipeline("depth-estimation", model=os.fspath(name), device=device, dtype=torch.float32)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise CheckpointError(
            f"Cannot load {os.fspath(name)!r:.200} for metric depth; name a folder or a Hub repository of a model for "
            f"depth estimation ({first_line(error):.300})."
        ) from error
    config: Any = made.model.config
    if getattr(config, "depth_estimation_type", None) == "relative" or config.model_type in RELATIVE:
        raise Page4DError(
            f"The depth of {os.fspath(name)!r:.200} is relative, and has no metres; name a metric model, such as "
            "apple/DepthPro-hf."
        )
    return made


def metric_scale(
    model: Callable[[Image.Image], Any],
    frames: Frames,
    depth: Sequence[npt.NDArray[Any]],
    confidence: Sequence[npt.NDArray[Any]],
    motion: Sequence[npt.NDArray[Any]] | None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> MetricScale:
    """The scale by which a metric model's depth and that of a reconstruction agree.

    The median over frames of the median ratio of each, over static pixels of which the network is at least as sure as
    of half of the frame.

    Args:
        model: of `load_metric_model`: a PIL image to a dictionary with `predicted_depth`, metres over the image.
        frames: S frames.
        depth: z-depth, `(h, w)` float32 each over exactly the image; NaN where it is unknown.
        confidence: `(h, w)` each; what has none takes no part.
        motion: `(h, w)` each from 0, static, to 1, moving; None where nothing tells.
        progress: told how many of how many frames are done.
    """
    chosen, found = evenly(len(frames), MOST_FRAMES), []
    for done, index in enumerate(chosen.tolist()):
        progress(done, len(chosen))
        image = Image.fromarray(over(frames.images[index], WHITE))
        metric: Any = np.asarray(model(image)["predicted_depth"], np.float32)
        ours, sure = depth[index], confidence[index]
        metric = cv2.resize(metric.squeeze(), ours.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        usable = (ours > 0) & np.isfinite(ours) & (metric > 0) & np.isfinite(metric) & (sure > 0)
        if motion is not None:
            usable &= motion[index] < MOVES
        if usable.any():
            usable &= sure >= np.median(sure[usable])
        if usable.sum() >= FEWEST_PIXELS:
            found.append(np.median(np.log(metric[usable] / ours[usable].astype(np.float64))))
    progress(len(chosen), len(chosen))
    if not found:
        raise Page4DError(
            f"No frame has {FEWEST_PIXELS} static pixels of known depth to compare with metric depth; leave out "
            "--metric-depth, or let --motion be off."
        )
    middle = float(np.median(found))
    return MetricScale(float(np.exp(middle)), float(np.median(np.abs(np.array(found) - middle))), len(found))
