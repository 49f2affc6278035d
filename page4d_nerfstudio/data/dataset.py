"""Images for nerfstudio, undistorted and scaled as they are read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.data.datasets.base_dataset import InputDataset

from page4d_hf.captures import PinholeFrames
from page4d_hf.captures.pinhole import resampled
from page4d_hf.errors import Page4DError

from ..console import input_errors_end_the_command
from ..gaussians.views import CAMERAS_EXTENT_KEY, INSTANTS_KEY, cameras_extent
from .posed_frames import FrameDepth

# What `page4d-data` puts into its outputs' metadata for this dataset: `SplitImages`, and a `RefusesOtherDatasets` where
# others would read other pixels than this one.
IMAGES_KEY = "page4d_images"
REFUSAL_KEY = "page4d_refusal"

OTHER_IMAGES = (
    "page4d-data would have to undistort or scale these images, or leave out an alpha channel that is no transparency, "
    "which only the methods page4d-* have done: others would train on other images. Store the capture's images "
    "undistorted, opaque and in the size that is wanted (--downscale 1 takes them as large as they are), or train one "
    "of page4d-*."
)
OTHER_MASKS = (
    "Only some of these images have a mask, which only the methods page4d-* take: nerfstudio's own read masks of all "
    "images or of none. Give the others white masks, or train one of page4d-*."
)


class SplitImages(NamedTuple):
    """What a split's images are read with."""

    frames: PinholeFrames  # of the whole scene
    indices: npt.NDArray[np.int64]  # which of them are the split's
    depth: FrameDepth | None
    depth_scale: float  # from the unit of `depth` to that of nerfstudio's world


@dataclass(frozen=True)
class RefusesOtherDatasets:
    """Ends the command where a dataset is made that would train on other pixels than `Page4DDataset`.

    nerfstudio does not tell a dataparser who asks, but every dataset of its copies the outputs' metadata deeply.
    """

    reason: str

    def __deepcopy__(self, memo: dict[int, Any]) -> RefusesOtherDatasets:
        with input_errors_end_the_command():
            raise Page4DError(self.reason)


class Page4DDataset(InputDataset):
    """The images of one split, as a pinhole camera would have taken them, and what is known of their pixels.

    A batch has, beside nerfstudio's keys and where the capture has such masks, `(H, W, 1)` bool each: "motion_mask",
    true where something moves, "covisible_mask", true where the training frames see too (of held-out frames), and
    "mask", true where there is something to learn from (nerfstudio's `mask_path`). Where depth is known, and
    `with_depth` is set before the images are read, it also has "depth", `(H, W, 1)` float32 z-depth in the unit of the
    cameras, 0 where it is not known. What another dataparser gives is read as nerfstudio reads it.

    Args:
        dataparser_outputs: of `page4d-data`, or any other.
        scale_factor: by which images and cameras are scaled beyond what the dataparser does.
    """

    def __init__(self, dataparser_outputs: DataparserOutputs, scale_factor: float = 1.0) -> None:
        metadata = {name: value for name, value in dataparser_outputs.metadata.items() if name != REFUSAL_KEY}
        outputs = replace(dataparser_outputs, metadata=metadata)
        if IMAGES_KEY in metadata:
            outputs = replace(outputs, mask_filenames=None)  # `get_metadata` reads masks, as images are read
        super().__init__(outputs, scale_factor)
        # nerfstudio keeps this list on the class, and --masks-on-gpu removes from it, for later datasets too.
        self.exclude_batch_keys_from_device = list(self.exclude_batch_keys_from_device)
        # The model is handed what is left of the metadata; how images are read is not its business.
        self._images: SplitImages | None = self.metadata.pop(IMAGES_KEY, None)
        self.with_depth = False
        self.metadata[CAMERAS_EXTENT_KEY] = torch.tensor(cameras_extent(self.cameras.camera_to_worlds))
        if self.cameras.times is not None:
            self.metadata[INSTANTS_KEY] = torch.tensor(len(self.cameras.times.unique()))

    def get_numpy_image(self, image_idx: int) -> npt.NDArray[np.uint8]:
        """The image `(H, W, 3)`, or `(H, W, 4)` with transparency; ends the command where its file is broken."""
        if self._images is None:
            return super().get_numpy_image(image_idx)
        with input_errors_end_the_command():
            image = self._images.frames.load_image(int(self._images.indices[image_idx]))
        return self._to_camera_size(image, image_idx, cv2.INTER_AREA)

    def get_metadata(self, data: dict[str, Any]) -> dict[str, Any]:
        """What a batch has beyond its image: the masks that there are."""
        if self._images is None:
            return super().get_metadata(data)
        frames, indices, depth_of, depth_scale = self._images
        index, frame = data["image_idx"], int(indices[data["image_idx"]])
        with input_errors_end_the_command():
            masks = {
                "motion_mask": frames.load_motion_mask(frame),
                "covisible_mask": frames.load_covisible(frame),
                "mask": frames.load_use(frame),
            }
            depth = depth_of(frame) if self.with_depth and depth_of is not None else None
        found = {
            name: torch.from_numpy(self._to_camera_size(mask.astype(np.uint8), index, cv2.INTER_NEAREST) > 0)[..., None]
            for name, mask in masks.items()
            if mask is not None
        }
        if depth is not None:
            found["depth"] = torch.from_numpy(self._depth_map(depth * depth_scale, index))[..., None]
        return found

    def _depth_map(self, depth: npt.NDArray[Any], image_idx: int) -> npt.NDArray[np.float32]:
        """Depth at the camera's size, each pixel's at its centre: means across an edge would lie in the air."""
        camera = self.cameras[image_idx]
        size = (int(camera.width), int(camera.height))
        depth = cv2.resize(depth, size, interpolation=cv2.INTER_NEAREST_EXACT) if depth.shape[::-1] != size else depth
        return np.where(np.isfinite(depth) & (depth > 0), depth, 0).astype(np.float32)

    @property
    def knows_depth(self) -> bool:
        """Whether the data have depth of any frame."""
        return self._images is not None and self._images.depth is not None

    def _to_camera_size(self, image: npt.NDArray[Any], image_idx: int, interpolation: int) -> npt.NDArray[Any]:
        """Scale an image `(H, W, 3 or 4)` or a mask `(H, W)` as `scale_factor` has scaled its camera."""
        if self.scale_factor == 1.0:
            return image
        camera = self.cameras[image_idx]
        resize = partial(cv2.resize, dsize=(int(camera.width), int(camera.height)), interpolation=interpolation)
        return resize(image) if image.ndim == 2 else resampled(image, resize)
