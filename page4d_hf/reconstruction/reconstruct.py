"""Frames in; cameras, depth, points and motion out."""

from __future__ import annotations

import logging
import math
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from ..configuration_page4d import Page4DConfig
from ..errors import Page4DError
from ..frames import Frames, Source, normalized_times, read_frames
from ..geometry import pose_encoding_to_cameras, unproject_depth
from ..image_processing_page4d import Mode, Page4DImageProcessor, intrinsics_to_original, resample_to_original
from ..scene.reconstruction import Reconstruction
from ..scene.tracks import read_tracks
from ..utils.evenly import one_of_each_stretch
from ..utils.progress import Progress
from ..weights.identity import fingerprint
from ..weights.loading import (
    image_processor_for,
    load_config,
    load_image_processor,
    load_network,
    resolve_device,
    resolve_dtype,
)

if TYPE_CHECKING:
    from ..modeling_page4d import Page4DModel, Page4DOutput

logger = logging.getLogger(__name__)

Points = Literal["depth", "world"]
Refine = Literal["auto", "off"]

# No camera has a field of view beyond these, in radians: the prediction failed.
LEAST_FOV, GREATEST_FOV = math.radians(1), math.radians(175)
USUAL_FOV = math.radians(60)
MANY_FRAMES = 200  # the full network at 518 x 518 then takes about 40 GB of a GPU
GREATEST_RESOLUTION = 4096  # eight times what the network was trained at
FRAMES_PER_CHUNK = 16  # full-size frames that are resized at once
LARGEST_MAP = 16  # times the network's pixels: what a map of a whole image may have, most of it cropped away


def resolve_resolution(resolution: int | None, image_processor: Page4DImageProcessor, patch_size: int) -> int:
    """Width of a network's input in pixels: `resolution`, or by default that of the model's image processor.

    Raises:
        Page4DError: it is not a multiple of the patch size, or above `GREATEST_RESOLUTION`.
    """
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


@torch.inference_mode()
def reconstruct(
    images: Source,
    model: Page4DModel | str | os.PathLike[str],
    *,
    image_processor: Page4DImageProcessor | None = None,
    fps: float | None = None,
    max_frames: int | None = None,
    resolution: int | None = None,
    mode: Mode | None = None,
    mask_strength: float | None = None,
    points: Points = "depth",
    confidence_percentile: float = 20.0,
    max_points: int = 100_000,
    keep_point_maps: bool = False,
    refine: Refine = "auto",
    tracks: str | os.PathLike[str] | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    progress: Progress | None = None,
) -> Reconstruction:
    """Run PAGE-4D on a sequence of frames, all at once.

    Options are checked before a frame is read or weights are loaded.

    ```python
    >>> from page4d_hf import reconstruct

    >>> scene = reconstruct("clip.mp4", "page4d", max_frames=50)
    >>> scene.extrinsics.shape, scene.depth[0].shape
    ((50, 3, 4), (294, 518))
    ```

    Args:
        images: S >= 1 frames: a video, a folder of images, a glob, image files, PIL images, arrays `[H, W, 3]` uint8,
            or `Frames`; see `read_frames`.
        model: folder of the weights, or their repository on the Hub; or a model, on the device and in the dtype that it
            shall run in. It runs as in evaluation, and is left as it was.
        image_processor: how frames become network input. By default that of the model's folder, or of a model without
            one, one that fits.
        fps, max_frames: which frames of a video, or how many of images, to take; see `read_frames`.
        resolution: width of the network's input in pixels, a multiple of the patch size; its height is at most that.
            By default, or at the image processor's own width, width and height are as the image processor has them.
        mode: the image processor's mode; the default is its own.
        mask_strength: from 0, which makes the network VGGT with other weights, to 1. By default the model's own.
        points: "depth": depth maps lifted by the predicted cameras; "world": the point head's points.
        confidence_percentile: percentage of all pixels, from the least confident, that give no point. 0 keeps all.
        max_points: upper limit of the number of points, spread evenly over the frames.
        keep_point_maps: give the points of all pixels too, as maps.
        refine: "auto": adjust cameras to point tracks, and depth to them, as far as the clip shows them; what it does
            not is logged, and stands in `info["refinement"]["note"]`. "off": take the network's.
        tracks: file of tracks to refine by, instead of optical flow; see `scene.read_tracks`.
        device, dtype: where and in which precision to load the model of a folder; see `resolve_device` and
            `resolve_dtype`.
        progress: told how far the work is.

    Returns:
        The reconstruction, with its frames, and in `info` the model, its fingerprint and the options in full, for
        `write_scene`.

    Raises:
        FrameError: the frames cannot be read.
        CheckpointError: the model cannot be loaded.
        Page4DError: an option out of its range, a model that lacks a head that is needed, too little memory, or cameras
            that are not finite.
    """
    report = progress or (lambda stage, done, total: None)

    # 1. What is wrong with the options is told before the work begins.
    source = None
    if isinstance(model, (str, os.PathLike)):
        source = Path(model) if isinstance(model, os.PathLike) else model
        device = resolve_device(device)
        dtype = resolve_dtype(dtype, device)
        config = load_config(source)
        image_processor = image_processor or load_image_processor(source, config)
    else:
        if device is not None or dtype is not None:
            raise Page4DError("device and dtype are of a model that is loaded; move the model itself: model.to(...).")
        config = model.config
        image_processor = image_processor or image_processor_for(config)
    heads = _needed_heads(config, points)
    if not 0 <= confidence_percentile < 100:
        raise Page4DError(f"Expected a confidence percentile from 0 to below 100, got {confidence_percentile:g}.")
    if max_points < 1:
        raise Page4DError(f"Expected a limit of at least 1 point, got {max_points}.")
    if refine not in get_args(Refine):
        raise Page4DError(f"Expected refine to be {' or '.join(get_args(Refine))}, got {refine!r}.")
    if tracks is not None and (refine == "off" or points == "world"):
        raise Page4DError(
            "Tracks are what cameras are refined by, with points from depth; leave out what turns it off."
        )
    given_tracks = None if tracks is None else read_tracks(Path(tracks))[0]
    resolution = resolve_resolution(resolution, image_processor, config.patch_size)
    mode = mode or image_processor.mode

    # 2. The frames and the network.
    if not isinstance(images, Frames):
        report("reading frames", 0, 1)
    frames = read_frames(images, fps=fps, max_frames=max_frames)
    if not isinstance(images, Frames):
        report("reading frames", 1, 1)
    if len(frames) > MANY_FRAMES:
        logger.warning(
            "All %d frames go through the network at once, and memory grows with their number; "
            "fewer of them (--fps, --max-frames) or a smaller --resolution take less.", len(frames),
        )  # fmt: skip
    network: Any = model
    if source is not None:
        assert isinstance(device, torch.device)
        assert isinstance(dtype, torch.dtype)
        report("loading the model", 0, 1)
        network = load_network(source, config, dtype)
        network.to(device).eval()
        report("loading the model", 1, 1)

    # 3. Frames to the network's input, which is of its own patch size whatever the image processor's file says.
    pixel_values, sizes, boxes = _prepare(
        frames,
        image_processor,
        {
            "mode": mode,
            "size": dict(image_processor.size) if resolution == image_processor.size["width"] else resolution,
            "patch_size": config.patch_size,
            "do_resize": True,
            "do_rescale": True,
        },
        report,
    )

    # 4. The network.
    try:
        with _in_evaluation(network), _layers_reported(network, heads, report):
            output = network(
                pixel_values[None].to(network.device), mask_strength=mask_strength, heads=heads, return_dict=True
            )
    except RuntimeError as error:
        # PyTorch has a class of its own for a GPU's memory alone.
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        raise Page4DError(
            f"The memory of {network.device} does not hold {len(frames)} frames at a width of {resolution}; "
            "take fewer frames (--max-frames) or a smaller --resolution."
        ) from error
    report("points", 0, len(frames))

    # 5. Its outputs to the images, and points from them.
    extrinsics, intrinsics = _cameras(output, (pixel_values.shape[-2], pixel_values.shape[-1]))
    original_intrinsics = intrinsics_to_original(intrinsics, sizes, boxes).numpy()
    depth = _to_images(output.depth[0].squeeze(-1), boxes)
    depth_conf = _to_images(output.depth_conf[0], boxes, unseen=0.0)
    dynamics = _to_images(output.dynamics_mask[0], boxes) if output.dynamics_mask is not None else None
    network_depth = output.depth[0].squeeze(-1)
    world_points: list[np.ndarray] | None = None
    if points == "world":
        world_points = _to_images(output.world_points[0], boxes)
        confidence = _to_images(output.world_points_conf[0], boxes, unseen=0.0)
    else:
        confidence = depth_conf
    colors = [np.round(255 * image).astype(np.uint8) for image in _to_images(pixel_values.movedim(1, -1), boxes, 1)]
    del output

    # 6. Cameras that tracks agree with, and depth in their scale.
    refinement: dict[str, Any] | None = None
    kept_tracks = None
    if refine == "auto":
        from .refinement import not_refined  # pycolmap and SciPy, for those who need it
        from .refinement import refine as refine_cameras

        if points == "world":
            refinement = not_refined("points of the point head do not follow them")
        elif len({image.shape[:2] for image in frames.images}) > 1:
            refinement = not_refined("tracks need frames of one size, and these differ")
        else:
            focal = float(np.sqrt(np.median(original_intrinsics[:, 0, 0]) * np.median(original_intrinsics[:, 1, 1])))
            refined = refine_cameras(
                frames.images, extrinsics.numpy(), focal, depth, dynamics, given=given_tracks, progress=report
            )
            refinement, kept_tracks = refined.report, refined.point_tracks
            if refined.changed:
                extrinsics, depth = torch.from_numpy(refined.extrinsics), refined.depth
                original_intrinsics = np.tile(refined.intrinsics, (len(frames), 1, 1))
                world_points = _lifted_over_images(depth, refined.extrinsics, refined.intrinsics, refined.image_size)
        if refinement["note"]:
            logger.warning("%s", refinement["note"])
    if world_points is None:
        world_points = _to_images(_lifted(network_depth, extrinsics, intrinsics), boxes)

    chosen = _choose(world_points, confidence, confidence_percentile, max_points)
    times = normalized_times(frames.times)

    def gather(maps: list[np.ndarray]) -> np.ndarray:
        return np.concatenate([maps[i].reshape(-1, *maps[i].shape[2:])[index] for i, index in enumerate(chosen)])

    report("points", len(frames), len(frames))
    return Reconstruction(
        extrinsics=extrinsics.numpy(),
        intrinsics=original_intrinsics,
        depth=depth,
        depth_conf=depth_conf,
        dynamics=dynamics,
        points=gather(world_points),
        point_colors=gather(colors),
        point_times=np.repeat(times, [len(index) for index in chosen]).astype(np.float32),
        point_dynamics=gather(dynamics) if dynamics is not None else None,
        point_confidence=gather(confidence),
        point_maps=world_points if keep_point_maps else None,
        frames=frames,
        tracks=kept_tracks,
        info={
            "model": str(source or config.name_or_path),
            "weights": None if source is None else fingerprint(source),
            "options": {
                "fps": fps,
                "max_frames": max_frames,
                "resolution": resolution,
                "mode": str(mode),
                "mask_strength": mask_strength,
                "points": points,
                "confidence_percentile": confidence_percentile,
                "max_points": max_points,
                "refine": refine,
                "tracks": None if tracks is None else str(tracks),
                "device": str(network.device),
                "dtype": str(network.dtype).removeprefix("torch."),
            },
            **({} if refinement is None else {"refinement": refinement}),
        },
    )


def _needed_heads(config: Page4DConfig, points: Points) -> tuple[str, ...]:
    """The heads to run for points of a kind.

    Raises:
        Page4DError: the model lacks one, or there is no such kind.
    """
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


def _prepare(
    frames: Frames, processor: Page4DImageProcessor, options: dict[str, Any], report: Progress
) -> tuple[Tensor, Tensor, Tensor]:
    """`pixel_values [S, 3, H, W]`, original sizes `[S, 2]` and boxes `[S, 4]`."""
    # Frames of one size can be resized a few at a time, without a second copy of the full-size video in memory.
    same_size = len({image.shape[:2] for image in frames.images}) == 1
    chunk = FRAMES_PER_CHUNK if same_size else len(frames)
    parts = []
    for start in range(0, len(frames), chunk):
        report("resizing", start, len(frames))
        chosen = frames.images[start : start + chunk]
        # A frame one pixel high would otherwise be taken for one with its channels first.
        parts.append(processor.preprocess(chosen, **options, input_data_format="channels_last", return_tensors="pt"))
    report("resizing", len(frames), len(frames))
    pixel_values, sizes, boxes = (
        torch.cat([part[name][0] for part in parts]) for name in ("pixel_values", "original_sizes", "image_boxes")
    )
    return pixel_values, sizes, boxes


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


def _lifted(depth: Tensor, extrinsics: Tensor, intrinsics: Tensor) -> Iterator[Tensor]:
    """Points `[H, W, 3]` float32 of each of the depth maps `[S, H, W]`, by cameras in pixels of the maps."""
    for frame, *camera in zip(depth, extrinsics, intrinsics, strict=True):
        # Pixel centres at 0.5, as renderers have them; the network's training counted from 0, half a pixel off.
        yield unproject_depth(frame.to("cpu", torch.float64), *camera, pixel_center=0.5).to(torch.float32)


def _lifted_over_images(
    depth: list[np.ndarray], extrinsics: np.ndarray, intrinsics: np.ndarray, image_size: tuple[int, int]
) -> list[np.ndarray]:
    """Points `[h, w, 3]` float32 of depth maps that cover images of a size (height, width)."""
    points = []
    for frame, pose in zip(depth, extrinsics, strict=True):
        to_map = np.diag([frame.shape[1] / image_size[1], frame.shape[0] / image_size[0], 1.0])
        camera = torch.from_numpy(pose), torch.from_numpy(to_map @ intrinsics)
        points.append(unproject_depth(torch.from_numpy(frame).double(), *camera, pixel_center=0.5).float().numpy())
    return points


def _to_images(maps: Iterable[Tensor], boxes: Tensor, unseen: float = math.nan) -> list[np.ndarray]:
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


def _choose(points: list[np.ndarray], confidence: list[np.ndarray], percentile: float, limit: int) -> list[np.ndarray]:
    """For each frame the flat indices of the pixels that give a point, in rising order."""
    valid = [
        np.isfinite(xyz).all(axis=-1) & np.isfinite(score) & (score > 0)
        for xyz, score in zip(points, confidence, strict=True)
    ]
    scores = np.concatenate([score[mask] for score, mask in zip(confidence, valid, strict=True)])
    if not len(scores):
        logger.warning("The network gave no finite point at all; the point cloud is empty.")
        return [np.zeros(0, np.int64)] * len(points)
    threshold = np.percentile(scores, percentile)
    kept = [np.flatnonzero(mask & (score >= threshold)) for mask, score in zip(valid, confidence, strict=True)]
    quotas = _even_quotas([len(index) for index in kept], limit)
    rng = np.random.default_rng(0)  # the same frames give the same points
    return [index[one_of_each_stretch(len(index), quota, rng)] for index, quota in zip(kept, quotas, strict=True)]


def _even_quotas(counts: list[int], limit: int) -> list[int]:
    """Shares of `limit`, as equal as what each has to give allows."""
    quotas = [0] * len(counts)
    left = min(limit, sum(counts))
    # Whoever has least is served first: what it cannot fill is shared by those after it.
    for place, i in enumerate(sorted(range(len(counts)), key=lambda i: counts[i])):
        quotas[i] = min(counts[i], left // (len(counts) - place))
        left -= quotas[i]
    return quotas
