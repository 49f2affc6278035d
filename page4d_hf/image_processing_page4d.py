"""Image processor of PAGE-4D: images or video frames to `pixel_values`, and outputs back to the images' own pixels."""

import math
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torchvision.transforms.v2 import functional as tvF
from transformers.feature_extraction_utils import BatchFeature
from transformers.image_processing_backends import TorchvisionBackend
from transformers.image_utils import (
    ChannelDimension,
    ImageInput,
    PILImageResampling,
    SizeDict,
    infer_channel_dimension_format,
    load_image,
    torch_pil_interpolation_mapping,
)
from transformers.processing_utils import ImagesKwargs, Unpack
from transformers.utils import logging
from transformers.utils.generic import TensorType

from .errors import telling_how_to_get
from .pillow_page4d import let_pillow_read, to_8_bits

logger = logging.get_logger(__name__)

Mode = Literal["crop", "balanced", "pad", "square"]
LONGEST_ASPECT = 2.0  # in mode "balanced", of what is not padded

RANGE_TOLERANCE = 1e-3  # how far beyond [0, 1] a resize may round
MAX_PIXELS = 2**24  # of a frame of the network's input: 4096 x 4096, 60 times what the published models were trained on
MAX_GROWTH = 16  # times the pixels of an image, or of the network's input, that an image between the two may have


class Page4DImageProcessorKwargs(ImagesKwargs, total=False):
    """What [`Page4DImageProcessor`] takes beside the arguments of every image processor."""

    mode: Mode
    patch_size: int


class Page4DBatchFeature(BatchFeature):
    """What the image processor gives. `.to(device, dtype)` leaves `image_boxes` in float32, as they are coordinates.

    A half precision would move the edges of an image by whole pixels.
    """

    def to(self, *args: Any, **kwargs: Any) -> BatchFeature:
        boxes = self.data.get("image_boxes")
        super().to(*args, **kwargs)
        if isinstance(boxes, torch.Tensor):
            self.data["image_boxes"] = boxes.to(self.data["image_boxes"].device)
        return self


class Page4DImageProcessor(TorchvisionBackend):
    r"""
    Constructs a PAGE-4D image processor.

    It resizes and rescales to [0, 1]; the ImageNet normalisation is the model's own first step. A flat list of images
    (or a 4-dimensional array) is one video; a list of such lists (or a 5-dimensional array) is a batch of videos.
    Transparency is laid over white. Floating-point images must lie in [0, 1], all others are 8-bit, or PIL images or
    files of 16 bits.

    With `size = {"height": H, "width": W}`:

    - `"crop"`: the width becomes W, the height follows the aspect ratio, rounded to a multiple of `patch_size`; what is
      higher than H loses its top and bottom equally.
    - `"balanced"`: as `"crop"`, but of what is higher than H nothing is lost: the height follows the aspect ratio and
      the width shrinks, so that the network's input has no more than H x W pixels. Beyond 1:2 and 2:1 the image is
      padded to that aspect ratio with white.
    - `"pad"`: the image is fitted into H x W, its shorter side rounded to a multiple of `patch_size`, and padded to
      H x W with white. Nothing is lost.
    - `"square"`: the image is first padded to a square with black, then resized; H must equal W. The aspect ratio is
      kept exactly (of an image much longer than wide to a pixel of the network's input), and nothing is lost.

    A frame of the network's input has at most 2^24 pixels, and no step on the way to it takes more than 16 times the
    pixels of the image or of the network's input, whatever the image's aspect ratio.
    With `do_center_crop`, what `crop_size` leaves of that in the middle is kept.

    Frames that still differ in size (images of different aspect ratio in mode `"crop"`) are padded with white, centred,
    to the largest height and width among them, with a warning.

    Args:
        mode (`str`, *optional*, defaults to `"crop"`):
            One of `"crop"`, which the published models were released with, `"balanced"`, `"pad"`, `"square"`.
        size (`dict[str, int]` or `int`, *optional*, defaults to 518 x 518):
            Bounds of the network's input in pixels, multiples of `patch_size`. An int stands for a square.
        patch_size (`int`, *optional*, defaults to 14):
            Patch size of the model.
        resample (`PILImageResampling`, *optional*, defaults to `BICUBIC`):
            Filter of the resizing, antialiased.
        do_center_crop, crop_size (`dict[str, int]` or `int`):
            A centre crop after the resizing, off by default; its sides too are multiples of `patch_size`.
        kwargs:
            `do_resize`, `do_rescale`, `rescale_factor` and `do_convert_rgb`, as in every image processor of
            transformers. Its `do_normalize` and `do_pad` are refused: the model normalises by itself, and `"pad"` pads.
    """

    valid_kwargs = Page4DImageProcessorKwargs
    model_input_names = ["pixel_values"]  # noqa: RUF012 - the base class declares it so
    # A folder written by `save_pretrained` carries this file and an `auto_map` that names it.
    _auto_class = "AutoImageProcessor"

    mode: Mode = "crop"
    size = {"height": 518, "width": 518}  # noqa: RUF012
    patch_size = 14
    resample = PILImageResampling.BICUBIC
    do_resize = True
    do_rescale = True
    rescale_factor = 1 / 255
    do_convert_rgb = True

    def __init__(self, **kwargs: Unpack[Page4DImageProcessorKwargs]) -> None:
        super().__init__(**kwargs)  # type: ignore[misc]  # the base takes every key of `valid_kwargs`

    @classmethod
    def get_image_processor_dict(cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any) -> Any:
        """As in every image processor of transformers; what is missing is said to be so, with how to get it.

        Raises:
            OSError: there is no such folder, and no such repository that can be reached.
        """
        with telling_how_to_get(pretrained_model_name_or_path):
            return super().get_image_processor_dict(pretrained_model_name_or_path, **kwargs)

    # -----------------------------------------------------------------------------------------------------------
    # Images to network input

    def preprocess(self, images: ImageInput, **kwargs: Unpack[Page4DImageProcessorKwargs]) -> BatchFeature:
        """
        Preprocess an image, a video (a list of frames) or a batch of videos (a list of lists, of equal length).

        Args:
            images (`ImageInput`):
                PIL images, numpy arrays or torch tensors, channels first or last, gray, RGB or RGBA; a gray image may
                come without its axis of channels. Paths and URLs are loaded, upright, those from URLs without their
                transparency. S images give one video of S frames.
            kwargs:
                Any argument of the constructor, for this call, and `return_tensors` and `device`.

        Returns:
            [`BatchFeature`] with

            - **pixel_values** `(batch_size, num_frames, 3, height, width)` float32 in [0, 1].
            - **original_sizes** `(batch_size, num_frames, 2)` int64, (height, width) of the images as they came.
            - **image_boxes** `(batch_size, num_frames, 4)` float32, (x0, y0, x1, y1): the rectangle that the whole
              original image takes in the network's input, in pixels from its left upper corner. It reaches beyond the
              input where the image was cropped. The `post_process_*` methods need the last two; `.to(device, dtype)`
              casts neither.

        Raises:
            ValueError: videos of different length in a batch, no frames at all, a size that is no multiple of
                `patch_size`, a network input of more than 2^24 pixels a frame, pixel values that are neither 8-bit
                (16-bit in PIL images) nor floats in [0, 1], or an option that there is not (`do_normalize`, `do_pad`).
        """
        return cast(BatchFeature, super().preprocess(images, **kwargs))

    def fetch_images(self, image_url_or_urls: Any) -> Any:
        """Images for paths (`str` or `os.PathLike`) and URLs, alone or in nested lists; images stay as they are."""
        source = image_url_or_urls
        if isinstance(source, os.PathLike) or (isinstance(source, str) and os.path.isfile(source)):
            # The library's own reading loses transparency, and knows fewer kinds of files.
            let_pillow_read(source)
            with Image.open(source) as image:
                return ImageOps.exif_transpose(image)
        if isinstance(source, str):
            return load_image(source)
        return super().fetch_images(source)

    def _prepare_image_like_inputs(
        self, images: Any, *args: Any, expected_ndims: int = 3, **kwargs: Any
    ) -> list[list[Callable[[], torch.Tensor]]]:
        """Functions that give the frames of videos, so that only one at a time is in memory in its full size."""
        videos = self._prepare_images_structure(images)
        return [[partial(self.process_image, image, *args, **kwargs) for image in video] for video in videos]

    def _prepare_images_structure(self, images: Any, expected_ndims: int = 3) -> Any:
        """Videos of frames: images, or paths of files that are not read yet."""
        images = self._fetch_all_but_files(images)
        if _is_frame(images):
            return [[images]]
        videos = [images] if _is_video(images) else images
        if getattr(videos, "ndim", 5) == 5 and all(_is_video(video) for video in videos):
            return [list(video) for video in videos]
        raise ValueError("Expected an image, a list of images (a video) or a list of lists of images (videos).")

    def _fetch_all_but_files(self, images: Any) -> Any:
        if isinstance(images, (list, tuple)):
            return [self._fetch_all_but_files(each) for each in images]
        if isinstance(images, os.PathLike) or (isinstance(images, str) and os.path.isfile(images)):
            return Path(images)
        return self.fetch_images(images)

    def process_image(
        self,
        image: ImageInput,
        do_convert_rgb: bool | None = None,
        input_data_format: str | ChannelDimension | None = None,
        device: torch.device | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """One image of any accepted kind to an RGB tensor `(3, height, width)`, uint8 or floating in [0, 1]."""
        if isinstance(image, os.PathLike):
            image = self.fetch_images(image)
        if isinstance(image, Image.Image):
            image = to_8_bits(image)
            if do_convert_rgb:
                image = image.convert("RGBA" if image.has_transparency_data else "RGB")
            tensor, input_data_format = tvF.pil_to_tensor(image), ChannelDimension.FIRST
        elif isinstance(image, np.ndarray):
            tensor = torch.from_numpy(np.ascontiguousarray(image))  # torch knows no views that run backwards
        else:
            tensor = cast(torch.Tensor, image)
        # Not the base class's own conversion: its versions differ in what they convert, and in what they call for it.
        if tensor.ndim == 2:
            tensor, input_data_format = tensor[None], ChannelDimension.FIRST
        if tensor.ndim != 3:
            raise ValueError(f"Expected images of 2 or 3 dimensions, got {tuple(tensor.shape)}; give them one by one.")
        if input_data_format is None:
            input_data_format = infer_channel_dimension_format(tensor, num_channels=(1, 3, 4))
        if input_data_format == ChannelDimension.LAST:
            tensor = tensor.permute(2, 0, 1)
        if tensor.dtype == torch.bool or not (tensor.dtype == torch.uint8 or tensor.is_floating_point()):
            raise ValueError(f"Expected 8-bit or floating-point images, got {tensor.dtype}; convert them to uint8.")
        if tensor.shape[0] not in ((1, 3, 4) if do_convert_rgb else (3,)) or tensor.numel() == 0:
            raise ValueError(
                f"Expected images of 3 channels and at least one pixel, got {tuple(tensor.shape)} (channels, height, "
                "width); leave do_convert_rgb=True for gray and transparent ones."
            )
        if tensor.is_floating_point():
            tensor = _in_range(tensor)
        return _to_rgb(tensor).contiguous().to(device=device)

    def _standardize_kwargs(self, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        kwargs = super()._standardize_kwargs(**kwargs)
        size, patch_size, mode = kwargs["size"], kwargs["patch_size"], kwargs["mode"]
        kwargs["resample"] = torch_pil_interpolation_mapping.get(kwargs["resample"], kwargs["resample"])
        if mode not in get_args(Mode):
            raise ValueError(f"Expected a mode among {', '.join(get_args(Mode))}; got {mode!r}.")
        height, width = _height_width(size, "size")
        lengths = {"height": height, "width": width}
        if kwargs["do_center_crop"]:
            lengths["crop height"], lengths["crop width"] = _height_width(kwargs["crop_size"], "crop_size")
        for name, length in lengths.items():
            if length % patch_size or length < patch_size:
                lower = max(length // patch_size, 1) * patch_size
                raise ValueError(
                    f"Expected a {name} that is a multiple of the patch size {patch_size}, got {length}; "
                    f"the nearest are {lower} and {lower + patch_size}."
                )
        _check_pixels(height, width, "as size")
        if mode == "square" and height != width:
            raise ValueError(f"Mode 'square' needs equal height and width, got {height} and {width}.")
        if kwargs["do_normalize"]:
            raise ValueError("Expected no do_normalize: the model normalises by itself; leave it out.")
        if kwargs["do_pad"]:
            raise ValueError("Expected no do_pad; mode='pad' pads images to a size that the network takes.")
        return kwargs

    def _preprocess(  # type: ignore[override]
        self,
        images: list[list[Callable[[], torch.Tensor]]],
        do_resize: bool,
        size: SizeDict,
        resample: PILImageResampling | int | None,
        do_center_crop: bool | None,
        crop_size: SizeDict,
        do_rescale: bool,
        rescale_factor: float,
        mode: Mode,
        patch_size: int,
        return_tensors: str | TensorType | None,
        **kwargs: Any,
    ) -> BatchFeature:
        lengths = sorted({len(video) for video in images})
        if not images or lengths[0] == 0:
            raise ValueError("Expected at least one image, got none.")
        if len(lengths) > 1:
            raise ValueError(f"Expected videos of equal length in a batch, got {lengths} frames.")

        # One frame at a time: full-size frames are then never together in memory.
        frames, sizes, boxes, whites = [], [], [], []
        for load in (load for video in images for load in video):
            image = load()
            frame, box = image, _whole(image.shape[-2:])
            if do_resize:
                frame, box = self._fit(image, _height_width(size, "size"), resample, mode, patch_size)
            if do_center_crop:
                crop_height, crop_width = _height_width(crop_size, "crop_size")
                frame, box = _crop_centred(frame, box, crop_height, crop_width)
            white = 1.0
            if not frame.is_floating_point():
                white = 255 * rescale_factor if do_rescale else 255.0
                frame = self.rescale(frame.to(torch.float32), rescale_factor) if do_rescale else frame
            whites.append(white)
            frames.append(frame.to(torch.float32))
            sizes.append(tuple(image.shape[-2:]))
            boxes.append(box)
            del image

        frames, boxes = pad_to_common_size(frames, boxes, whites)
        video_shape = (len(images), lengths[0])
        data = {
            "pixel_values": torch.stack(frames).unflatten(0, video_shape),
            "original_sizes": torch.tensor(sizes).unflatten(0, video_shape),
            "image_boxes": torch.tensor(boxes, dtype=torch.float32).unflatten(0, video_shape),
        }
        return Page4DBatchFeature(data=data, tensor_type=return_tensors)

    def _fit(
        self,
        image: torch.Tensor,
        bounds: tuple[int, int],
        resample: PILImageResampling | int | None,
        mode: Mode,
        patch_size: int,
    ) -> tuple[torch.Tensor, list[float]]:
        """Resize one image `(3, h, w)` within (height, width) as the mode says; returns it with its box."""
        height, width = image.shape[-2:]
        max_height, max_width = bounds

        def to_patches(length: float) -> int:
            return max(round(length / patch_size), 1) * patch_size

        if mode == "square":
            side = max(height, width)
            if side**2 > MAX_GROWTH * max(height * width, max_height * max_width):
                # Nearly all of the square would be padding: that is added after the resizing.
                size = max(round(height * max_width / side), 1), max(round(width * max_width / side), 1)
                return _pad_centred(self._resize(image, size, resample), _whole(size), *bounds, 0)
            image, box = _pad_centred(image, _whole((height, width)), side, side, 0)
            return self._resize(image, bounds, resample), [max_width / side * edge for edge in box]
        if mode == "pad":
            if width * max_height < height * max_width:
                size = max_height, min(to_patches(width * (max_height / height)), max_width)
            else:
                size = min(to_patches(height * (max_width / width)), max_height), max_width
            fill = 1 if image.is_floating_point() else 255
            return _pad_centred(self._resize(image, size, resample), _whole(size), max_height, max_width, fill)
        if mode == "balanced":
            shape = _balanced(height, width, bounds, patch_size)
            size = shape
            if width * LONGEST_ASPECT < height:
                size = shape[0], min(to_patches(shape[0] * width / height), shape[1])
            elif height * LONGEST_ASPECT < width:
                size = min(to_patches(shape[1] * height / width), shape[0]), shape[1]
            fill = 1 if image.is_floating_point() else 255
            return _pad_centred(self._resize(image, size, resample), _whole(size), *shape, fill)
        # Of an image so high that nearly all of it is cropped away, only the middle is resized.
        rows = math.ceil(MAX_GROWTH * max_height * width / max_width)
        cut = max(height - rows, 0) // 2  # above, and as much below
        size = to_patches((height - 2 * cut) * (max_width / width)), max_width
        image = self._resize(image[:, cut : height - cut], size, resample)
        image, box = _crop_centred(image, _whole(size), max_height, max_width)
        beyond = cut * size[0] / (height - 2 * cut)
        return image, [box[0], box[1] - beyond, box[2], box[3] + beyond]

    def _resize(
        self, image: torch.Tensor, size: tuple[int, int], resample: PILImageResampling | int | None
    ) -> torch.Tensor:
        if image.is_floating_point() and resample in (Image.Resampling.BOX, Image.Resampling.HAMMING):
            raise ValueError(
                f"Expected another filter for floating-point images than resample={int(resample)}, which takes only "
                "8-bit images."
            )
        if image.device.type == "cpu" and image.dtype == torch.uint8 and resample is not None:
            # torchvision's 8-bit filter is up to two levels off Pillow's, which the published models were trained with.
            picture = Image.fromarray(image.permute(1, 2, 0).numpy()).resize(
                (size[1], size[0]), Image.Resampling(resample)
            )
            return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()
        resized = self.resize(image, SizeDict(height=size[0], width=size[1]), resample=resample)
        # The bicubic filter overshoots at edges; the uint8 path already saturates.
        return resized.clamp(0, 1) if resized.is_floating_point() else resized

    # -----------------------------------------------------------------------------------------------------------
    # Network output to the images' own pixels

    def post_process_depth_estimation(
        self, outputs: Any, target_sizes: Sequence[tuple[int, int]] | torch.Tensor | None = None
    ) -> list[dict[str, torch.Tensor]]:
        """
        Depth of single images, from what [`Page4DForDepthEstimation`] gives.

        Args:
            outputs ([`Page4DDepthEstimatorOutput`]):
                Raw outputs of the model.
            target_sizes (`list[tuple[int, int]]`, *optional*):
                (height, width) for each image, usually its own. By default that of the network's input, with its
                padding and without what was cropped away.

        Returns:
            For each image a dictionary of `predicted_depth` and `confidence`, both `(height, width)`. Where the image
            was cropped away, the depth is that of the nearest pixel that was not, and the confidence is NaN.

        Raises:
            ValueError: as many sizes as images were expected, or the outputs do not tell where the images are.
        """
        depth, boxes = getattr(outputs, "predicted_depth", None), getattr(outputs, "image_boxes", None)
        if depth is None:
            raise ValueError(
                "Expected outputs of Page4DForDepthEstimation; for those of Page4DModel there is post_process_depth."
            )
        if target_sizes is None:
            return [{"predicted_depth": d, "confidence": c} for d, c in zip(depth, outputs.confidence, strict=True)]
        if len(target_sizes) != len(depth):
            raise ValueError(f"Expected a target size for each of {len(depth)} images, got {len(target_sizes)}.")
        if boxes is None:
            raise ValueError(
                "The outputs do not tell where the images are in the network's input: call model(**inputs) with all "
                "that the image processor gave, its image_boxes included."
            )
        sizes = [(int(height), int(width)) for height, width in target_sizes]
        return [
            {
                "predicted_depth": resample_to_original(d, size, box, "bilinear", cropped_is_nan=False),
                "confidence": resample_to_original(c, size, box, "bilinear"),
            }
            for d, c, size, box in zip(depth, outputs.confidence, sizes, boxes.tolist(), strict=True)
        ]

    def post_process_depth(
        self,
        outputs: Any,
        original_sizes: torch.Tensor,
        image_boxes: torch.Tensor,
        resample: str = "bilinear",
    ) -> list[list[dict[str, torch.Tensor]]]:
        """
        Depth and its confidence at the size of the original images.

        Args:
            outputs ([`Page4DOutput`]):
                Raw outputs of the model.
            original_sizes, image_boxes (`torch.Tensor`):
                As [`~Page4DImageProcessor.preprocess`] returned them.
            resample (`str`, *optional*, defaults to `"bilinear"`):
                `"bilinear"` or `"nearest"`; the latter invents no depth between an object and what lies behind it.

        Returns:
            For each video, for each frame, a dictionary of `predicted_depth` `(height, width)`, z-depth in the
            arbitrary scale of the prediction, and `confidence` `(height, width)`. Both are NaN where the image was
            cropped away.

        Raises:
            ValueError: the model has no head for it, as in all `post_process_*` methods.
        """
        maps = {"predicted_depth": "depth", "confidence": "depth_conf"}
        return self._to_original(outputs, maps, original_sizes, image_boxes, resample)

    def post_process_world_points(
        self,
        outputs: Any,
        original_sizes: torch.Tensor,
        image_boxes: torch.Tensor,
        resample: str = "nearest",
    ) -> list[list[dict[str, torch.Tensor]]]:
        """
        The point head's points and their confidence at the size of the original images. Arguments are those of
        [`~Page4DImageProcessor.post_process_depth`].

        Args:
            resample (`str`, *optional*, defaults to `"nearest"`):
                Points between two surfaces belong to neither, so that interpolating is not the default.

        Returns:
            For each video, for each frame, a dictionary of `world_points` `(height, width, 3)` in the axes of the
            first frame's camera (OpenCV), arbitrary scale, and `confidence` `(height, width)`. Both are NaN where the
            image was cropped away.
        """
        maps = {"world_points": "world_points", "confidence": "world_points_conf"}
        return self._to_original(outputs, maps, original_sizes, image_boxes, resample)

    def post_process_motion(
        self,
        outputs: Any,
        original_sizes: torch.Tensor,
        image_boxes: torch.Tensor,
        resample: str = "bilinear",
    ) -> list[list[dict[str, torch.Tensor]]]:
        """
        The motion mask at the size of the original images. Arguments are those of
        [`~Page4DImageProcessor.post_process_depth`].

        Returns:
            For each video, for each frame, a dictionary of `motion` `(height, width)`, low where the scene is static
            and high where it moves, as `dynamics_mask` of [`Page4DOutput`]; NaN where the image was cropped away.
        """
        return self._to_original(outputs, {"motion": "dynamics_mask"}, original_sizes, image_boxes, resample)

    def post_process_cameras(
        self, outputs: Any, original_sizes: torch.Tensor, image_boxes: torch.Tensor
    ) -> list[dict[str, torch.Tensor]]:
        """
        The cameras of the original images. Arguments are those of [`~Page4DImageProcessor.post_process_depth`].

        Returns:
            For each video a dictionary of `extrinsics` `(num_frames, 3, 4)`, world-to-camera with OpenCV axes, and
            `intrinsics` `(num_frames, 3, 3)` in pixels of the original images, the first pixel's centre at (0.5, 0.5).
            The network's principal point is the centre of its input; here it lies where that centre falls in the
            original image.
        """
        extrinsics, intrinsics = outputs.cameras()
        original = intrinsics_to_original(intrinsics, original_sizes, image_boxes)
        return [{"extrinsics": e, "intrinsics": i} for e, i in zip(extrinsics, original, strict=True)]

    def _to_original(
        self,
        outputs: Any,
        maps: dict[str, str],
        original_sizes: torch.Tensor,
        image_boxes: torch.Tensor,
        resample: str,
    ) -> list[list[dict[str, torch.Tensor]]]:
        """Fields of the outputs `(B, S, H, W)` or `(B, S, H, W, C)`, for each video and frame in the original pixels.

        `maps` gives each field under the name that it is to have.
        """
        fields = {}
        for name, of_output in maps.items():
            field = getattr(outputs, of_output)
            if field is None:
                cause = {
                    "depth": "enable_depth=False, or heads= left it out",
                    "world_points": "enable_point=False, or heads= left them out",
                    "dynamics_mask": "mask_form=None",
                }
                raise ValueError(
                    f"There is no {of_output} in the outputs: the model was built with {cause[of_output]}."
                )
            if field.shape[:2] != original_sizes.shape[:2] or field.shape[:2] != image_boxes.shape[:2]:
                raise ValueError(
                    f"Expected sizes and boxes for {tuple(field.shape[:2])} videos and frames, got "
                    f"{tuple(original_sizes.shape[:2])} and {tuple(image_boxes.shape[:2])}."
                )
            fields[name] = field.squeeze(4) if field.ndim == 5 else field  # depth comes as [B, S, H, W, 1]

        def frame(video: int, index: int) -> dict[str, torch.Tensor]:
            height, width = original_sizes[video, index].tolist()
            box = image_boxes[video, index].tolist()
            return {
                name: resample_to_original(field[video, index], (height, width), box, resample)
                for name, field in fields.items()
            }

        videos, frames = original_sizes.shape[:2]
        return [[frame(video, index) for index in range(frames)] for video in range(videos)]


def intrinsics_to_original(
    intrinsics: torch.Tensor, original_sizes: torch.Tensor, image_boxes: torch.Tensor
) -> torch.Tensor:
    """Intrinsics in pixels of the network's input to intrinsics in pixels of the original images.

    Args:
        intrinsics: `(..., 3, 3)`.
        original_sizes: `(..., 2)`, (height, width).
        image_boxes: `(..., 4)`, (x0, y0, x1, y1) of the original image in the network's input, which may be cropped.
    """
    sizes, boxes = (torch.as_tensor(each).to(intrinsics) for each in (original_sizes, image_boxes))
    scale = (boxes[..., 2:] - boxes[..., :2]) / sizes.flip(-1)  # [..., 2]: network pixels per original pixel, x and y
    result = intrinsics.clone()
    result[..., :2, 2] -= boxes[..., :2]
    result[..., :2, :] /= scale[..., None]
    return result


def visible_region(box: Sequence[float], network_size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The pixels of the network's input that show nothing but the image.

    Args:
        box: (x0, y0, x1, y1) of the original image in the network's input.
        network_size: (height, width) of the network's input.

    Returns:
        (left, top, right, bottom), right and bottom exclusive. Pixels that mix image and padding are left out.
    """
    height, width = network_size
    x0, y0, x1, y1 = box
    slack = 1e-3  # boxes are float32; an edge that far from a whole pixel is that pixel's
    left, top = max(math.ceil(x0 - slack), 0), max(math.ceil(y0 - slack), 0)
    right, bottom = min(int(x1 + slack), width), min(int(y1 + slack), height)
    return left, top, max(right, left + 1), max(bottom, top + 1)


def _is_frame(image: Any) -> bool:
    return isinstance(image, (Image.Image, Path)) or getattr(image, "ndim", None) in (2, 3)


def _is_video(images: Any) -> bool:
    if isinstance(images, (list, tuple)):
        return all(_is_frame(image) for image in images)
    return getattr(images, "ndim", None) == 4


def _in_range(image: torch.Tensor) -> torch.Tensor:
    """A floating-point image in [0, 1], without what its resizing has rounded beyond that."""
    low, high = (bound.item() for bound in image.aminmax())
    if low >= 0 and high <= 1:
        return image
    if low >= -RANGE_TOLERANCE and high <= 1 + RANGE_TOLERANCE:
        return image.clamp(0, 1)
    if low > -1 and high < 2:
        remedy = "clamp(0, 1) them if a filter overshot"
    elif low >= 0 and high <= 255:
        remedy = "divide by 255 or pass uint8"
    else:
        remedy = "scale them or pass uint8"
    raise ValueError(f"Expected floating-point images in [0, 1], got values from {low:g} to {high:g}; {remedy}.")


def _to_rgb(image: torch.Tensor) -> torch.Tensor:
    """`(1, 3 or 4, height, width)`, uint8 or floating in [0, 1], to RGB over white, rounded as by Pillow."""
    if image.shape[0] != 4:
        return image.expand(3, -1, -1)
    if image.dtype == torch.uint8:
        color, alpha = image[:3].to(torch.int32), image[3:].to(torch.int32)
        return ((color * alpha + 255 * (255 - alpha) + 127) // 255).to(torch.uint8)
    color, alpha = image[:3].to(torch.float32), image[3:].to(torch.float32)
    return (color * alpha + (1 - alpha)).to(image.dtype)


def _height_width(size: SizeDict | None, name: str) -> tuple[int, int]:
    if size is None or not size.height or not size.width:
        raise ValueError(f"Expected {name} as a number or with 'height' and 'width', got {size}.")
    return size.height, size.width


def _balanced(height: int, width: int, bounds: tuple[int, int], patch_size: int) -> tuple[int, int]:
    """(height, width) of the network's input for a whole image, of no more pixels than the bounds hold.

    As wide as the bounds where the image is then no higher than they are; else the number of rows and columns of
    patches that is nearest to the aspect ratio.
    """
    aspect = min(max(width / height, 1 / LONGEST_ASPECT), LONGEST_ASPECT)
    rows, columns = (bound // patch_size for bound in bounds)
    wanted = max(round(columns / aspect), 1)
    if wanted <= rows:
        return wanted * patch_size, columns * patch_size
    most = math.sqrt(rows * columns * aspect)
    fits = [
        (r, c)
        for c in (max(math.floor(most), 1), math.ceil(most))
        for r in (max(math.floor(c / aspect), 1), math.ceil(c / aspect))
        if r * c <= rows * columns
    ] or [(1, 1)]
    rows, columns = min(fits, key=lambda shape: (abs(math.log(shape[1] / shape[0] / aspect)), -shape[0] * shape[1]))
    return rows * patch_size, columns * patch_size


def _check_pixels(height: int, width: int, what: str) -> None:
    if height * width > MAX_PIXELS:
        raise ValueError(
            f"Expected at most {MAX_PIXELS:,} pixels in a frame of the network's input, got {height} x {width} {what}; "
            "choose a smaller size."
        )


def _whole(size: Sequence[int]) -> list[float]:
    return [0.0, 0.0, float(size[1]), float(size[0])]


def resample_to_original(
    frame: torch.Tensor,
    original_size: tuple[int, int],
    box: list[float],
    resample: str,
    *,
    cropped_is_nan: bool = True,
) -> torch.Tensor:
    """Resample one map of the network's input to the frame of the original image.

    Args:
        frame: `(H, W)` or `(H, W, C)` over the network's input.
        original_size: (h, w) of the grid to lay over the original image, for example its own size.
        box: (x0, y0, x1, y1) of the original image in the network's input.
        resample: `"bilinear"` or `"nearest"`.
        cropped_is_nan: what stands where the image was cropped away: NaN, or the value of the nearest pixel.

    Returns:
        `(h, w)` or `(h, w, C)` float32.
    """
    height, width = original_size
    x0, y0, x1, y1 = box
    left, top, right, bottom = visible_region(box, (frame.shape[0], frame.shape[1]))
    # Padding must not bleed into the image's border, so it is cut off before sampling.
    region = frame[top:bottom, left:right].to(torch.float32)
    u = torch.arange(width, dtype=torch.float32, device=frame.device) + 0.5
    v = torch.arange(height, dtype=torch.float32, device=frame.device) + 0.5
    x, y = x0 + (x1 - x0) / width * u, y0 + (y1 - y0) / height * v  # original pixel centres in the network's input
    grid = torch.stack(
        torch.meshgrid(2 * (x - left) / (right - left) - 1, 2 * (y - top) / (bottom - top) - 1, indexing="xy"), dim=-1
    )  # [h, w, 2]
    channels_first = region[None, None] if region.ndim == 2 else region.permute(2, 0, 1)[None]
    sampled = F.grid_sample(channels_first, grid[None], mode=resample, padding_mode="border", align_corners=False)[0]
    if cropped_is_nan:
        outside = ((x < 0) | (x > frame.shape[1]))[None, :] | ((y < 0) | (y > frame.shape[0]))[:, None]  # [h, w]
        sampled = sampled.masked_fill(outside, torch.nan)
    return sampled[0] if region.ndim == 2 else sampled.permute(1, 2, 0)


def pad_to_common_size(
    frames: list[torch.Tensor], boxes: list[list[float]], whites: list[float]
) -> tuple[list[torch.Tensor], list[list[float]]]:
    """Frames `(3, h, w)` padded with white, centred, to the greatest height and width of them; moves their boxes along.

    Raises:
        ValueError: the common size has more pixels than an image may have.
    """
    height, width = (max(frame.shape[axis] for frame in frames) for axis in (-2, -1))
    _check_pixels(height, width, "of frames that are not resized")
    shapes = sorted({(frame.shape[-2], frame.shape[-1]) for frame in frames})
    if len(shapes) > 1:
        logger.warning(
            "Frames of different sizes (%s after resizing, height x width) are padded with white to %d x %d.",
            ", ".join(f"{h} x {w}" for h, w in shapes),
            height,
            width,
        )
    padded = [_pad_centred(*each[:2], height, width, each[2]) for each in zip(frames, boxes, whites, strict=True)]
    return [frame for frame, _ in padded], [box for _, box in padded]


def _pad_centred(
    image: torch.Tensor, box: list[float], height: int, width: int, value: float
) -> tuple[torch.Tensor, list[float]]:
    """Pad `(3, h, w)` to `(3, height, width)`, the odd pixel going right and below; the box moves along."""
    left, top = (width - image.shape[-1]) // 2, (height - image.shape[-2]) // 2
    right, bottom = width - image.shape[-1] - left, height - image.shape[-2] - top
    if left or top or right or bottom:
        image = tvF.pad(image, [left, top, right, bottom], fill=value)
    return image, [box[0] + left, box[1] + top, box[2] + left, box[3] + top]


def _crop_centred(image: torch.Tensor, box: list[float], height: int, width: int) -> tuple[torch.Tensor, list[float]]:
    """The middle `(3, height, width)` of `(3, h, w)`, or less where the image is smaller; the box moves along."""
    height, width = min(height, image.shape[-2]), min(width, image.shape[-1])
    left, top = (image.shape[-1] - width) // 2, (image.shape[-2] - height) // 2
    image = image[:, top : top + height, left : left + width]
    return image, [box[0] - left, box[1] - top, box[2] - left, box[3] - top]


__all__ = ["Page4DImageProcessor"]
