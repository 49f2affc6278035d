"""Frames through the network: cameras, depth, confidence and motion on the images."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ..configuration_page4d import Page4DConfig
from ..errors import Page4DError
from ..geometry import pose_encoding_to_cameras
from ..image_processing_page4d import (
    Mode,
    Page4DImageProcessor,
    intrinsics_to_original,
    pad_to_common_size,
    resample_to_original,
)
from ..utils.measuring import memory_ran_out
from ..utils.progress import Progress
from .tracks import Corners, new_corners

if TYPE_CHECKING:
    from ..modeling_page4d import Page4DOutput

logger = logging.getLogger(__name__)

Points = Literal["depth", "world"]

# No camera has a field of view beyond these, in radians: the prediction failed.
LEAST_FOV, GREATEST_FOV = math.radians(1), math.radians(175)
USUAL_FOV = math.radians(60)
GREATEST_RESOLUTION = 4096  # eight times what the network was trained at
MOST_FOLLOWED = 1024  # points that the track head follows at once
LEAST_VISIBLE = 0.5  # probability that a followed point is not occluded
LARGEST_MAP = 16  # times the network's pixels: what a map of a whole image may have, most of it cropped away


@dataclass(frozen=True)
class NetworkOptions:
    """Preprocessing and heads of a forward pass."""

    resolution: int  # pixels, the width of its input
    mode: Mode  # of the image processor
    heads: tuple[str, ...]
    mask_strength: float | None
    follow: bool = False  # whether the track head follows corners of the first frame


@dataclass(frozen=True)
class NetworkInput:
    """A frame as the network takes it."""

    pixel_values: Tensor  # [3, h, w] float32 in [0, 1]
    image_size: tuple[int, int]  # (height, width) of the frame
    box: list[float]  # where the whole frame is in the input: left, top, right, bottom
    white: float  # 1, unless an image processor scales otherwise
    visible: Tensor | None = None  # [h, w] bool, false where the user hides the frame


@dataclass
class Prediction:
    """The network's predictions for S frames, in one world. Maps cover exactly their image."""

    extrinsics: npt.NDArray[Any]  # [S, 3, 4] float64 world-to-camera, OpenCV axes
    intrinsics: npt.NDArray[Any]  # [S, 3, 3] float64 in pixels of the original images
    depth: list[npt.NDArray[Any]]  # S of [h, w] float32, z-depth
    depth_conf: list[npt.NDArray[Any]]  # S of [h, w] float32
    motion: list[npt.NDArray[Any]] | None  # S of [h, w] float32
    points: list[npt.NDArray[Any]] | None  # S of [h, w, 3] float32 in the world, of the point head where it was asked
    points_conf: list[npt.NDArray[Any]] | None  # S of [h, w] float32
    colors: list[npt.NDArray[Any]]  # S of [h, w, 3] uint8
    # S of [h, w, 2] float32: where in the original image each value was seen, in pixels
    seen_at: list[npt.NDArray[Any]]

    # S of numbers [N] int and positions [N, 2] in pixels of the original image, of what the track head follows
    followed: list[tuple[npt.NDArray[Any], npt.NDArray[Any]]] | None = None

    def __len__(self) -> int:
        return len(self.extrinsics)

    def lifted(self, index: int) -> npt.NDArray[Any]:
        """The depth of a frame as points in the world, `(h, w, 3)` float32."""
        depth, camera = self.depth[index].astype(np.float64), self.intrinsics[index]
        rays = (self.seen_at[index] - camera[:2, 2]) / camera[[0, 1], [0, 1]]
        seen = np.concatenate((rays * depth[..., None], depth[..., None]), axis=-1)
        pose = self.extrinsics[index]
        with np.errstate(invalid="ignore", over="ignore"):  # where depth is not finite, points are not
            points: npt.NDArray[Any] = ((seen - pose[:, 3]) @ pose[:, :3]).astype(np.float32)
        return points

    def point_map(self, index: int) -> npt.NDArray[Any]:
        """The points of a frame in the world, `(h, w, 3)` float32: the point head's, or else depth's."""
        return self.lifted(index) if self.points is None else self.points[index]


def resolve_resolution(resolution: int | None, image_processor: Page4DImageProcessor, patch_size: int) -> int:
    """Width of a network's input in pixels: `resolution`, or by default that of the model's image processor."""
    width: int = image_processor.size["width"] if resolution is None else resolution
    if width > GREATEST_RESOLUTION:
        raise Page4DError(
            f"Expected a resolution of up to {GREATEST_RESOLUTION}, got {width}; the published weights were trained at "
            "518."
        )
    if width < patch_size or width % patch_size:
        lower = max(width // patch_size, 1) * patch_size
        raise Page4DError(
            f"Expected a resolution that is a multiple of the patch size {patch_size}, got {width}; "
            f"the nearest are {lower} and {lower + patch_size}."
        )
    return width


def needed_heads(config: Page4DConfig, points: Points) -> tuple[str, ...]:
    """The heads to run for points of a kind."""
    if points not in get_args(Points):
        raise Page4DError(f"Expected points from {' or '.join(get_args(Points))}, got {points!r}.")
    heads = ("camera", "depth", "point") if points == "world" else ("camera", "depth")
    for head in heads:
        if not getattr(config, f"enable_{head}"):
            raise Page4DError(
                f"A reconstruction with points from {points!r} needs a {head} head, and this model was built with "
                f"enable_{head}=False."
            )
    return heads


def prepare(
    image: npt.NDArray[Any],
    processor: Page4DImageProcessor,
    patch_size: int,
    options: NetworkOptions,
    visible: npt.NDArray[Any] | None = None,
) -> NetworkInput:
    """A frame `(H, W, 3 or 4)` uint8 as network input, which is of the network's own patch size whatever the image
    processor's file says; `visible` `(H, W)` bool is false where the user hides the frame."""
    made = processor.preprocess(
        [image],
        mode=options.mode,
        size=dict(processor.size) if options.resolution == processor.size["width"] else options.resolution,
        patch_size=patch_size,
        do_resize=True,
        do_rescale=True,
        input_data_format="channels_last",  # a frame one pixel high would otherwise be taken for channels first
        return_tensors="pt",
    )
    size, box = (image.shape[0], image.shape[1]), made["image_boxes"][0, 0].tolist()
    values = made["pixel_values"][0, 0]
    seen = None if visible is None else _in_box(visible, box, (values.shape[1], values.shape[2]))
    return NetworkInput(values, size, box, 255 * processor.rescale_factor, seen)


def _in_box(visible: npt.NDArray[Any], box: list[float], network_size: tuple[int, int]) -> Tensor:
    """A mask of a whole frame at the pixels of the network's input, true beside the frame."""
    left, top, right, bottom = box
    columns, rows = (
        np.floor((np.arange(count) + 0.5 - start) / (end - start) * side).astype(int)
        for count, start, end, side in (
            (network_size[1], left, right, visible.shape[1]),
            (network_size[0], top, bottom, visible.shape[0]),
        )
    )
    inside = np.ix_((rows >= 0) & (rows < visible.shape[0]), (columns >= 0) & (columns < visible.shape[1]))
    seen = np.ones(network_size, bool)
    seen[inside] = visible[np.ix_(rows[inside[0].ravel()], columns[inside[1].ravel()])]
    return torch.from_numpy(seen)


def _visible(inputs: Sequence[NetworkInput], boxes: list[list[float]], network_size: tuple[int, int]) -> Tensor | None:
    """Which pixels of the network's input the user shows, `[1, S, H, W]` bool; None where it is all."""
    if all(each.visible is None or bool(each.visible.all()) for each in inputs):
        return None
    masks = torch.ones((1, len(inputs), *network_size), dtype=torch.bool)
    for number, (each, box) in enumerate(zip(inputs, boxes, strict=True)):
        if each.visible is not None:
            left, top = round(box[0] - each.box[0]), round(box[1] - each.box[1])
            masks[0, number, top : top + each.visible.shape[0], left : left + each.visible.shape[1]] = each.visible
    return masks


def predict(network: Any, inputs: Sequence[NetworkInput], options: NetworkOptions, report: Progress) -> Prediction:
    """Run the network on frames, all at once; it runs as in evaluation, and is left as it was."""
    values, corners = pad_to_common_size(
        [each.pixel_values for each in inputs], [each.box for each in inputs], [each.white for each in inputs]
    )
    pixel_values, boxes = torch.stack(values), torch.tensor(corners, dtype=torch.float32)
    network_size = pixel_values.shape[-2], pixel_values.shape[-1]
    sizes = torch.tensor([each.image_size for each in inputs])
    queries = _corners(pixel_values[0], corners[0]).to(network.device) if options.follow else None
    try:
        with _in_evaluation(network), _layers_reported(network, options.heads, report):
            output = network(
                pixel_values[None].to(network.device),
                mask_strength=options.mask_strength,
                heads=options.heads,
                query_points=queries,
                visible=_visible(inputs, corners, network_size),
                return_dict=True,
            )
    except RuntimeError as error:
        if not memory_ran_out(error):
            raise
        raise Page4DError(
            f"The memory of {network.device} does not hold {len(inputs)} frames at a width of {options.resolution}; "
            "take a smaller --window or --resolution, or fewer frames (--max-frames)."
        ) from error

    extrinsics, intrinsics = _cameras(output, network_size)
    with_points = "point" in options.heads
    return Prediction(
        extrinsics=extrinsics.numpy(),
        intrinsics=intrinsics_to_original(intrinsics, sizes, boxes).numpy(),
        depth=_to_images(output.depth[0].squeeze(-1), boxes),
        depth_conf=_to_images(output.depth_conf[0], boxes, unseen=0.0),
        motion=None if output.dynamics_mask is None else _to_images(output.dynamics_mask[0], boxes),
        points=_to_images(output.world_points[0], boxes) if with_points else None,
        points_conf=_to_images(output.world_points_conf[0], boxes, unseen=0.0) if with_points else None,
        colors=[np.round(255 * image).astype(np.uint8) for image in _to_images(pixel_values.movedim(1, -1), boxes, 1)],
        seen_at=_seen_at(network_size, sizes, boxes),
        followed=None if queries is None else _followed(output, sizes, boxes),
    )


def _corners(image: Tensor, box: list[float]) -> Tensor:
    """Corners `[1, N, 2]` of an image `[3, H, W]` in [0, 1] within a box, as the track head counts pixels: the first
    one's centre is at 0."""
    gray = (255 * image.mean(dim=0)).clamp(0, 255).to(torch.uint8).numpy()
    xy = new_corners(gray, np.zeros((0, 2), np.float32), Corners(most=MOST_FOLLOWED))
    xy = xy[((xy > box[:2]) & (xy < box[2:])).all(axis=1)]
    if not len(xy):
        xy = np.array([[(box[0] + box[2]) / 2, (box[1] + box[3]) / 2]], np.float32)  # the head wants a point
    return torch.from_numpy(xy - np.float32(0.5))[None]


def _followed(output: Page4DOutput, sizes: Tensor, boxes: Tensor) -> list[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
    """The track head's points in each frame, in pixels of the original images."""
    assert output.tracks is not None
    assert output.track_visibility is not None
    found = []
    shown = output.track_visibility[0].cpu() > LEAST_VISIBLE  # [S, N]
    for xy, visible, size, box in zip(output.tracks[0].float().cpu(), shown, sizes, boxes, strict=True):
        places = (xy + 0.5 - box[:2]) / (box[2:] - box[:2]) * size.flip(0)
        kept = visible & ((places > 0) & (places < size.flip(0))).all(dim=1)
        found.append((kept.nonzero().flatten().numpy(), places[kept].numpy()))
    return found


@contextmanager
def _in_evaluation(model: nn.Module) -> Iterator[None]:
    """In training a mask would be as strong as its schedule says."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def _layers_reported(model: nn.Module, heads: Iterable[str], report: Progress) -> Iterator[None]:
    """Progress each layer of the encoder and the aggregator, and each head, as it is done.

    A GPU works through its queue after Python has gone through the layers: there the bar runs ahead.
    """
    layers = r"encoder\.layers\.\d+|aggregator\.(frame|global)_layers\.\d+|aggregator\.mask_head"
    names = re.compile(f"{layers}|({'|'.join(heads)})_head")
    modules = [module for name, module in model.named_modules() if names.fullmatch(name)]
    done = 0

    def count(*_: object) -> None:
        nonlocal done
        done += 1
        report("network", done, len(modules))

    handles = [module.register_forward_hook(count) for module in modules]
    report("network", 0, len(modules))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
    report("network", len(modules), len(modules))


def _cameras(output: Page4DOutput, network_size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Extrinsics `[S, 3, 4]` and intrinsics `[S, 3, 3]` in pixels of the network's input, float64 on the CPU."""
    assert output.pose_enc is not None
    encoding = output.pose_enc[0].to("cpu", torch.float64)  # [S, 9]
    encoding = torch.cat((encoding[:, :7], _usable_fov(encoding[:, 7:], network_size)), dim=-1)
    extrinsics, intrinsics = pose_encoding_to_cameras(encoding, network_size)
    broken = (~extrinsics.isfinite()).flatten(1).any(dim=1).nonzero().flatten().tolist()
    if broken:
        raise Page4DError(
            f"The network gave no finite camera for {len(broken)} of {len(encoding)} frames (first: {broken[0]}); "
            "a half precision may have overflowed: try --dtype float32."
        )
    return extrinsics, intrinsics


def _usable_fov(fov: Tensor, network_size: tuple[int, int]) -> Tensor:
    """Vertical and horizontal fields of view `[S, 2]`, with those that no camera has replaced."""
    usable = ((fov > LEAST_FOV) & (fov < GREATEST_FOV)).all(dim=-1)  # NaN compares as false
    if usable.all():
        return fov
    if usable.any():
        replacement, by = fov[usable].median(dim=0).values, "the median of the others"
    else:
        height, width = network_size
        horizontal = torch.tensor(USUAL_FOV, dtype=fov.dtype)
        replacement = torch.stack((2 * torch.atan(torch.tan(horizontal / 2) * height / width), horizontal))
        by = "a usual one, 60 degrees"
    logger.warning(
        "The network gave no possible field of view for %d of %d frames; %s stands in. Was the model trained?",
        int((~usable).sum()), len(fov), by,
    )  # fmt: skip
    return torch.where(usable[:, None], fov, replacement)


def _seen_at(network_size: tuple[int, int], sizes: Tensor, boxes: Tensor) -> list[npt.NDArray[Any]]:
    """Where in the original images the values of `_to_images` were seen, `[h, w, 2]` each; one array for frames alike.

    Values are taken from the nearest pixel of the network's input, whose centre need not lie at that of a map's pixel.
    """
    height, width = network_size
    rows, columns = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    alike: dict[tuple[float, ...], npt.NDArray[Any]] = {}
    for size, box in zip(sizes, boxes, strict=True):
        key = (*size.tolist(), *box.tolist())
        if key not in alike:
            at = (torch.stack((columns, rows), dim=-1) - box[:2]) / (box[2:] - box[:2]) * size.flip(0)
            alike[key] = _to_images([at], box[None])[0]
    return [alike[(*size.tolist(), *box.tolist())] for size, box in zip(sizes, boxes, strict=True)]


def _to_images(maps: Iterable[Tensor], boxes: Tensor, unseen: float = math.nan) -> list[npt.NDArray[Any]]:
    """Maps `[H, W(, C)]` of the network's input to arrays `[h, w(, C)]` that cover exactly their image.

    They keep the network's resolution: where the image's edges fall on whole pixels, they are a cut-out. `unseen`
    fills what a crop left out. Of an image of which a crop left almost nothing, they are coarser.
    """
    images = []
    for frame, box in zip(maps, boxes.tolist(), strict=True):
        height, width = box[3] - box[1], box[2] - box[0]
        shrink = max(1.0, math.sqrt(height * width / (LARGEST_MAP * frame.shape[0] * frame.shape[1])))
        size = (max(round(height / shrink), 1), max(round(width / shrink), 1))
        image = resample_to_original(frame.cpu(), size, box, "nearest")
        images.append(torch.nan_to_num(image, nan=unseen, posinf=math.inf, neginf=-math.inf).numpy())
    return images
