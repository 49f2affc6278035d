"""PAGE-4D on a sequence's frames."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from transformers import BatchFeature

from page4d_hf import Page4DImageProcessor, Page4DModel
from page4d_hf.errors import Page4DError
from page4d_hf.frames import Frames
from page4d_hf.reconstruction.reconstruct import reconstruct
from page4d_hf.utils.measuring import memory_ran_out
from page4d_hf.utils.progress import Progress
from page4d_hf.weights.identity import fingerprint
from page4d_hf.weights.loading import load_model

from .inference import Inference
from .metrics.scores import EvaluationError
from .predictions import Predictions, PredictionsError
from .sequences import EvaluatedSequence

Mask = Literal["on", "off"]


@dataclass(frozen=True)
class EvaluatedModel:
    """A model that is ready to run, and what it is."""

    model: Page4DModel
    processor: Page4DImageProcessor
    mask_strength: float
    facts: dict[str, Any]  # for the run's record: where from, which revision, mask, device, dtype


class SquashingProcessor(Page4DImageProcessor):
    """The image processor, and what it gives stretched to a square of the given size, bilinear, without antialias.

    So the release of PAGE-4D feeds its network in evaluation. `image_boxes` follow, so that maps and cameras come back
    to the images' own pixels as always.
    """

    def preprocess(self, images: Any, **kwargs: Any) -> BatchFeature:
        """See `Page4DImageProcessor.preprocess`; of `size`, its width is taken."""
        size = kwargs.pop("size")
        side = size if isinstance(size, int) else size["width"]
        features = super().preprocess(images, size=side, **kwargs)
        pixels = features["pixel_values"]
        height, width = pixels.shape[-2:]
        features["pixel_values"] = F.interpolate(
            pixels.flatten(0, 1), (side, side), mode="bilinear", align_corners=False
        ).unflatten(0, pixels.shape[:2])
        scale = torch.tensor([side / width, side / height] * 2)
        features["image_boxes"] = features["image_boxes"] * scale
        return features


def load_evaluated_model(name: str, *, mask: Mask, device: str, dtype: str) -> EvaluatedModel:
    """Load a model for evaluation, as `load_model` does; with the mask "off" it runs at mask strength 0, as VGGT."""
    model, processor = load_model(name, device=device, dtype=dtype)
    strength = float(model.config.mask_strength) if mask == "on" else 0.0
    folder = Path(name).expanduser()
    commit = getattr(model.config, "_commit_hash", None)
    revision = fingerprint(folder) if folder.is_dir() else commit
    if revision is None:
        raise EvaluationError(f"The revision of the model {name} cannot be told; download it and name its folder.")
    facts = {
        "name": folder.resolve().name if folder.is_dir() else name,
        "revision": f"weights {revision}" if folder.is_dir() else f"commit {revision}",
        "mask": words_of_mask(model.config.mask_form, strength),
        "device": model.device.type,
        "dtype": str(next(model.aggregator.parameters()).dtype).removeprefix("torch."),
    }
    return EvaluatedModel(model, processor, strength, facts)


def words_of_mask(form: str | None, strength: float) -> str:
    """How strong the mask of a network is as it is run: on, off, at a strength between the two, or none."""
    return "none" if form is None else {0.0: "off", 1.0: "on"}.get(strength, f"at strength {strength:g}")


def predict(
    sequence: EvaluatedSequence,
    evaluated: EvaluatedModel,
    inference: Inference,
    *,
    progress: Progress | None = None,
) -> Predictions:
    """Run a model on the frames of a sequence.

    Returns:
        Depth, cameras and motion, in the network's resolution over exactly the image, in the world of the first camera.
        Frames that are fed one by one have no common world: then there are neither extrinsics nor points. Motion is
        given by a model with its mask on alone.
    """
    frames = sequence.frames
    ids = frames.capture.frame_ids
    if len(np.unique(frames.image_sizes, axis=0)) > 1:
        raise PredictionsError(f"The images of {sequence.name} are of different sizes; they must have one.")
    processor = evaluated.processor
    if inference.fit == "squash":
        processor = SquashingProcessor.from_dict(processor.to_dict())
    times = np.arange(len(frames), dtype=np.float64)
    together = not inference.one_by_one
    batches = [list(range(len(frames)))] if together else [[i] for i in range(len(frames))]
    # What is kept of each: not its images.
    depth: list[np.ndarray] = []
    motion: list[np.ndarray] = []
    intrinsics: list[np.ndarray] = []
    for done, batch in enumerate(batches):
        if progress is not None and inference.one_by_one:
            progress("frames", done, len(batches))
        images = [frames.load_image(i) for i in batch]
        try:
            result = reconstruct(
                Frames(images, [ids[i] for i in batch], times[batch], None, sequence.name),
                evaluated.model,
                image_processor=processor,
                resolution=inference.resolution,
                window=None,
                refine="off",  # the network alone is scored
                motion="off" if evaluated.model.config.mask_form is None else "head",
                mode="crop",
                mask_strength=None if evaluated.model.config.mask_form is None else evaluated.mask_strength,
                points=inference.points or "depth",
                max_points=1,  # the sparse cloud is not looked at
                keep_point_maps=inference.points is not None,
                progress=progress if together else None,
            )
        except Page4DError as error:
            if memory_ran_out(error):
                raise EvaluationError(f"{sequence.name}: {error}") from error
            raise PredictionsError(str(error)) from error
        depth += result.depth
        motion += result.motion or []
        intrinsics.append(result.intrinsics)
    return Predictions(
        list(ids),
        depth=np.stack(depth).astype(np.float32),
        extrinsics=result.extrinsics if together else None,
        intrinsics=np.concatenate(intrinsics),
        points=np.stack(result.point_maps).astype(np.float32) if together and result.point_maps else None,
        motion=np.stack(motion) if motion and evaluated.mask_strength > 0 else None,
    )
