"""Frames in; cameras, depth, points and motion out."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor, nn
from transformers import PreTrainedConfig

from ..configuration_page4d import Page4DConfig
from ..errors import CheckpointError, Page4DError
from ..frames import Frames
from ..geometry import pose_encoding_to_cameras, unproject_depth
from ..image_processing_page4d import Mode, Page4DImageProcessor, intrinsics_to_original, resample_to_original
from ..model_card import OF_CARD
from ..scene.folder import normalized_times
from ..utils.programs import command
from ..weights.model_files import check_model_files

if TYPE_CHECKING:
    from ..modeling_page4d import Page4DModel, Page4DOutput

logger = logging.getLogger(__name__)

Points = Literal["depth", "world"]
Progress = Callable[[str, int, int], None]
"""Called as `progress(stage, done, total)`; a stage begins with `done` at 0 and ends with `done == total`."""

# A field of view outside of these, in radians, is no camera's: the network has not learnt this image, or anything.
LEAST_FOV, GREATEST_FOV = math.radians(1), math.radians(175)
USUAL_FOV = math.radians(60)
MANY_FRAMES = 200  # the full network at 518 x 518 then takes about 40 GB of a GPU
GREATEST_RESOLUTION = 4096  # eight times what the network was trained at
FRAMES_PER_CHUNK = 16  # full-size frames that are resized at once


@dataclass
class Reconstruction:
    """What PAGE-4D sees in S frames: one world, that of the first camera (OpenCV axes), arbitrary scale.

    Maps cover exactly their image, at the network's resolution, so that their size may differ where that of the images
    does. What a crop left out of the network's input is NaN, and has confidence 0.
    """

    extrinsics: np.ndarray  # [S, 3, 4] float64, world-to-camera
    intrinsics: np.ndarray  # [S, 3, 3] float64, in pixels of the original images, first pixel's centre at 0.5
    depth: list[np.ndarray]  # S of [h, w] float32, z-depth
    depth_conf: list[np.ndarray]  # S of [h, w] float32
    dynamics: list[np.ndarray] | None  # S of [h, w] float32, 0 static to 1 moving; None of a model without a mask
    points: np.ndarray  # [M, 3] float32 in the world
    point_colors: np.ndarray  # [M, 3] uint8
    point_times: np.ndarray  # [M] float32 in [0, 1]
    point_dynamics: np.ndarray | None  # [M] float32, 0 static to 1 moving
    point_confidence: np.ndarray  # [M] float32
    point_maps: list[np.ndarray] | None = None  # S of [h, w, 3] float32 in the world, where they were asked for

    def __len__(self) -> int:
        return len(self.extrinsics)


# ---------------------------------------------------------------------------------------------------------------
# The model


def resolve_device(device: str | torch.device | None = "auto") -> torch.device:
    """The device of a name: "auto" (or None) is a GPU where there is one, else the CPU.

    Raises:
        Page4DError: no such device, or none of that kind on this machine.
    """
    if device is None or device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:(0|[1-9]\d?))?", str(device)):  # torch.device fails on others, or takes 300 as 44
        raise Page4DError(f"Expected the device auto, cpu, cuda or cuda:<number>, got {device}.")
    resolved = torch.device(device)
    if resolved.type == "cuda":
        if not torch.cuda.is_available():
            raise Page4DError(
                f"The device {device} was asked for, but PyTorch finds no CUDA GPU here; use --device cpu."
            )
        if (resolved.index or 0) >= torch.cuda.device_count():
            raise Page4DError(
                f"The device {device} was asked for, but there are only {torch.cuda.device_count()} GPUs."
            )
    return resolved


def resolve_dtype(dtype: str | torch.dtype | None, device: torch.device) -> torch.dtype:
    """The dtype of the encoder and the aggregator; the heads are always float32.

    Args:
        dtype: "auto" (or None): bfloat16 where the GPU has it, else float16 on a GPU and float32 on the CPU. Or
            "float32", "bfloat16", "float16".
        device: where the model is to run.

    Raises:
        Page4DError: another dtype.
    """
    if dtype is None or dtype == "auto":
        if device.type == "cpu":
            return torch.float32
        return torch.bfloat16 if torch.cuda.get_device_capability(device)[0] >= 8 else torch.float16
    known = {name: getattr(torch, name) for name in ("float32", "bfloat16", "float16")}
    resolved = known.get(dtype, dtype) if isinstance(dtype, str) else dtype
    if resolved not in known.values():
        raise Page4DError(f"Expected the dtype auto, {', '.join(known)}, got {dtype}.")
    return resolved


def load_config(path: str | Path) -> Page4DConfig:
    """Read the configuration in a model folder (or of a Hub repository), and check that it is one of PAGE-4D.

    Raises:
        CheckpointError: there is no model there, or one of another kind, or a JSON file beside it is broken.
    """
    folder = Path(os.path.expanduser(path))
    pull, convert = command("page4d", "pull", "nomask", "--output", path), command("page4d", "convert", path, "OUT")
    how = f"fetch the published weights by `{pull}`, or convert some by `page4d convert`"
    if os.path.isfile(folder):
        raise CheckpointError(f"{path} is a file, not a model folder; `{convert}` makes one of a checkpoint.")
    # A Hub repository is named owner/name; everything else is meant as a folder.
    if not os.path.isdir(folder) and not re.fullmatch(r"[\w.-]+/[\w.-]+", str(path)):
        raise CheckpointError(f"No model folder {path}; {how}.")
    if os.path.isdir(folder) and not (folder / "config.json").is_file():
        raise CheckpointError(f"{path} is no model folder: it has no config.json; {how}.")
    source = model_source(path)
    try:
        kind = Page4DConfig.get_config_dict(source)[0].get("model_type")
    except (OSError, ValueError) as error:
        if folder.is_dir():
            raise CheckpointError(f"Cannot read {folder / 'config.json'}: {_first_line(error)}") from error
        raise CheckpointError(f"There is no folder {path}, nor can it be had from the Hub; {how}.") from error
    if kind != Page4DConfig.model_type:
        raise CheckpointError(f"{path} holds a model of type {kind!s:.50}, not {Page4DConfig.model_type}.")
    if folder.is_dir():
        check_model_files(folder)
    try:
        return Page4DConfig.from_pretrained(source)
    except (TypeError, ValueError, StrictDataclassError) as error:
        reason = str(error).strip().split("\n")[-1].strip()  # the library's own words go before
        raise CheckpointError(f"The configuration in {path} is not valid: {reason}") from error


def load_model(
    path: str | Path,
    *,
    device: str | torch.device | None = "auto",
    dtype: str | torch.dtype | None = "auto",
) -> tuple[Page4DModel, Page4DImageProcessor]:
    """Load a model folder for inference, with its image processor.

    Args:
        path: a folder that `page4d pull`, `page4d convert` or `save_pretrained` wrote, or the name of a Hub repository.
        device, dtype: see `resolve_device` and `resolve_dtype`.

    Raises:
        CheckpointError: there is no model, it is of another kind, or its weights are broken, missing or misshapen.
        Page4DError: no such device or dtype.
    """
    resolved_device = resolve_device(device)
    config = load_config(path)
    network: Any = load_network(path, config, resolve_dtype(dtype, resolved_device))
    model = network.to(resolved_device).eval()
    return model, load_image_processor(path, config)


def load_image_processor(path: str | Path, config: Page4DConfig) -> Page4DImageProcessor:
    """The image processor in a model folder (or of a Hub repository); one for the network where there is none.

    Args:
        path: as of `load_model`.
        config: of the network.

    Raises:
        CheckpointError: it cannot be read.
    """
    folder = Path(os.path.expanduser(path))
    if folder.is_dir() and not (folder / "preprocessor_config.json").is_file():
        return image_processor_for(config)
    try:
        return Page4DImageProcessor.from_pretrained(model_source(path))
    except (ArithmeticError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
        # What a file from the Hub, which was not checked, makes fail in the library.
        raise CheckpointError(f"Cannot read the image processor in {path}: {_first_line(error)}") from error


def load_network(
    path: str | Path, config: Page4DConfig, dtype: torch.dtype, *, may_lack: tuple[str, ...] = ()
) -> Page4DModel:
    """Build a network and give it the weights of a model folder (or of a Hub repository).

    Args:
        path: as of `load_model`.
        config: of the network.
        dtype: of its weights.
        may_lack: beginnings of the names of tensors that need not be among the weights; those start as in a new
            network.

    Raises:
        CheckpointError: the weights are broken, missing or misshapen.
    """
    from safetensors import SafetensorError

    from ..modeling_page4d import Page4DModel

    try:
        loaded: Any = Page4DModel.from_pretrained(
            model_source(path), config=config, dtype=dtype, use_safetensors=True, output_loading_info=True
        )
    except SafetensorError as error:
        raise CheckpointError(
            f"The weights in {path} are broken or cut off ({error}); fetch or convert them anew."
        ) from error
    except (AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
        # Also what values of the configuration that are the library's own make fail in it.
        raise CheckpointError(f"Cannot load the weights in {path}: {_first_line(error)}") from error
    network, loading = loaded
    missing = sorted(key for key in loading["missing_keys"] if not key.startswith(may_lack))
    if missing:
        raise CheckpointError(
            f"The weights in {path} lack {len(missing)} tensors of the network, such as {missing[0]}; make them anew."
        )
    return network


def model_source(path: str | Path) -> str:
    """What from_pretrained takes for a model: its folder, if there is one, or else the name of a Hub repository."""
    folder = Path(os.path.expanduser(path))
    return str(folder if os.path.isdir(folder) else path)


def image_processor_for(config: PreTrainedConfig) -> Page4DImageProcessor:
    """The image processor of a network that comes without one."""
    side = max(config.image_size // config.patch_size, 1) * config.patch_size
    return Page4DImageProcessor(patch_size=config.patch_size, size=side)


def fingerprint(path: str | Path) -> str | None:
    """A name for the weights in a model folder: SHA-256 over its configuration and its safetensors files, 16 digits.

    Reads all of the weights (seconds for the full network). None for what is not a folder.

    Raises:
        CheckpointError: the folder holds no model, or one of another kind.
    """
    folder = Path(os.path.expanduser(path))
    if not os.path.isdir(folder):
        return None
    load_config(folder)
    # As the file has it: with the defaults of the installed version, the same weights would change their name with it.
    values = json.loads((folder / "config.json").read_text("utf8"))
    for name in ("transformers_version", *OF_CARD):
        values.pop(name, None)
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode())
    for file in sorted(folder.glob("*.safetensors")):
        with open(file, "rb") as stream:
            while block := stream.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()[:16]


def check_resolution(resolution: int, patch_size: int) -> None:
    """Refuse a width that is not made of whole patches, or beyond `GREATEST_RESOLUTION`.

    Raises:
        Page4DError: with the nearest valid widths.
    """
    if resolution > GREATEST_RESOLUTION:
        raise Page4DError(
            f"Expected a resolution of up to {GREATEST_RESOLUTION}, got {resolution}; the published weights were "
            "trained at 518."
        )
    if resolution < patch_size or resolution % patch_size:
        lower = max(resolution // patch_size, 1) * patch_size
        raise Page4DError(
            f"Expected a resolution that is a multiple of the patch size {patch_size}, got {resolution}; "
            f"the nearest are {lower} and {lower + patch_size}."
        )


def resolve_resolution(resolution: int | None, image_processor: Page4DImageProcessor, patch_size: int) -> int:
    """Width of a network's input in pixels: the one asked for, or that of the model's image processor.

    Raises:
        Page4DError: it is not made of whole patches.
    """
    width: int = image_processor.size["width"] if resolution is None else resolution
    check_resolution(width, patch_size)
    return width


def check_options(config: Page4DConfig, *, points: Points, confidence_percentile: float, max_points: int) -> None:
    """Refuse options of `reconstruct` that are out of their range, or need a head that a model does not have.

    Args:
        config: of the model.
        points, confidence_percentile, max_points: as of `reconstruct`.

    Raises:
        Page4DError: with what was expected.
    """
    if not 0 <= confidence_percentile < 100:
        raise Page4DError(f"Expected a confidence percentile from 0 to below 100, got {confidence_percentile:g}.")
    if max_points < 1:
        raise Page4DError(f"Expected a limit of at least 1 point, got {max_points}.")
    needed = ("camera", "depth", "point") if points == "world" else ("camera", "depth")
    for head in needed:
        if not getattr(config, f"enable_{head}"):
            raise Page4DError(
                f"A reconstruction with points from {points!r} needs a {head} head, and this model was built with "
                f"enable_{head}=False."
            )


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0]


# ---------------------------------------------------------------------------------------------------------------
# Reconstruction


@torch.inference_mode()
def reconstruct(
    frames: Frames,
    model: Page4DModel,
    image_processor: Page4DImageProcessor | None = None,
    *,
    resolution: int | None = None,
    mode: Mode | None = None,
    points: Points = "depth",
    confidence_percentile: float = 20.0,
    max_points: int = 100_000,
    keep_point_maps: bool = False,
    progress: Progress | None = None,
) -> Reconstruction:
    """Run PAGE-4D on a sequence of frames, all at once.

    Args:
        frames: S >= 1 frames.
        model: on the device and in the dtype that it shall run in (see `load_model`). It runs as in evaluation, and is
            left as it was.
        image_processor: how frames become network input; the default is a `Page4DImageProcessor` for this model.
        resolution: width of the network's input in pixels, a multiple of the patch size; its height is at most that.
            By default, or at the image processor's own width, width and height are as the image processor has them.
        mode: the image processor's mode; the default is its own.
        points: "depth": depth maps lifted by the predicted cameras; "world": the point head's points.
        confidence_percentile: percentage of all pixels, from the least confident, that give no point. 0 keeps all.
        max_points: upper limit of the number of points, spread evenly over the frames.
        keep_point_maps: give the points of all pixels too, as maps.
        progress: told how far the work is.

    Raises:
        Page4DError: an option out of its range, no frames, a model that lacks a head that is needed, or cameras that
            are not finite.
    """
    if not len(frames):
        raise Page4DError("Expected at least one frame, got none.")
    check_options(model.config, points=points, confidence_percentile=confidence_percentile, max_points=max_points)
    processor = image_processor or image_processor_for(model.config)
    resolution = resolve_resolution(resolution, processor, model.config.patch_size)
    if len(frames) > MANY_FRAMES:
        logger.warning(
            "All %d frames go through the network at once, and memory grows with their number; "
            "fewer of them (--fps, --max-frames) or a smaller --resolution take less.", len(frames),
        )  # fmt: skip
    report = progress or (lambda stage, done, total: None)

    # The network decides on the patch size, whatever the image processor in its folder says.
    options = {
        "mode": mode or processor.mode,
        "size": dict(processor.size) if resolution == processor.size["width"] else resolution,
        "patch_size": model.config.patch_size,
        "do_resize": True,
        "do_rescale": True,
    }
    pixel_values, sizes, boxes = _prepare(frames, processor, options, report)
    try:
        with (
            _in_evaluation(model),
            _layers_reported(model, report),
            _without_point_head(model, keep=points == "world"),
        ):
            output = model(pixel_values[None].to(model.device), return_dict=True)
    except RuntimeError as error:
        # PyTorch has a class of its own for a GPU's memory alone.
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        raise Page4DError(
            f"The memory of {model.device} does not hold {len(frames)} frames at a width of {resolution}; "
            "take fewer frames (--max-frames) or a smaller --resolution."
        ) from error
    report("points", 0, len(frames))

    extrinsics, intrinsics = _cameras(output, (pixel_values.shape[-2], pixel_values.shape[-1]))
    depth = _to_images(output.depth[0].squeeze(-1), boxes)
    depth_conf = _to_images(output.depth_conf[0], boxes, unseen=0.0)
    dynamics = _to_images(output.dynamics_mask[0], boxes) if output.dynamics_mask is not None else None
    if points == "world":
        world_points = _to_images(output.world_points[0], boxes)
        confidence = _to_images(output.world_points_conf[0], boxes, unseen=0.0)
    else:
        world_points = _to_images(_lifted(output.depth[0].squeeze(-1), extrinsics, intrinsics), boxes)
        confidence = depth_conf
    colors = [np.round(255 * image).astype(np.uint8) for image in _to_images(pixel_values.movedim(1, -1), boxes, 1)]
    del output

    chosen = _choose(world_points, confidence, confidence_percentile, max_points)
    times = normalized_times(frames.times)

    def gather(maps: list[np.ndarray]) -> np.ndarray:
        return np.concatenate([maps[i].reshape(-1, *maps[i].shape[2:])[index] for i, index in enumerate(chosen)])

    report("points", len(frames), len(frames))
    return Reconstruction(
        extrinsics=extrinsics.numpy(),
        intrinsics=intrinsics_to_original(intrinsics, sizes, boxes).numpy(),
        depth=depth,
        depth_conf=depth_conf,
        dynamics=dynamics,
        points=gather(world_points),
        point_colors=gather(colors),
        point_times=np.repeat(times, [len(index) for index in chosen]).astype(np.float32),
        point_dynamics=gather(dynamics) if dynamics is not None else None,
        point_confidence=gather(confidence),
        point_maps=world_points if keep_point_maps else None,
    )


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
        parts.append(processor.preprocess(chosen, **options, return_tensors="pt"))
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
def _layers_reported(model: nn.Module, report: Progress) -> Iterator[None]:
    """Report each layer of the encoder and the aggregator, and each head, as it is done.

    A GPU works through its queue after Python has gone through the layers: there the bar runs ahead.
    """
    names = re.compile(r"encoder\.layers\.\d+|aggregator\.(frame|global)_layers\.\d+|\w+_head")
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


@contextmanager
def _without_point_head(model: Page4DModel, keep: bool) -> Iterator[None]:
    """Leave out the point head, as costly as the depth head, where nobody asks for its points."""
    head = model.point_head
    if not keep:
        model.point_head = None
    try:
        yield
    finally:
        model.point_head = head


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


def _to_images(maps: Iterable[Tensor], boxes: Tensor, unseen: float = math.nan) -> list[np.ndarray]:
    """Maps `[H, W(, C)]` of the network's input to arrays `[h, w(, C)]` that cover exactly their image.

    They keep the network's resolution: where the image's edges fall on whole pixels, they are a cut-out. `unseen`
    fills what a crop left out.
    """
    images = []
    for frame, box in zip(maps, boxes.tolist(), strict=True):
        size = (max(round(box[3] - box[1]), 1), max(round(box[2] - box[0]), 1))
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
    return [_spread(index, quota, rng) for index, quota in zip(kept, quotas, strict=True)]


def _even_quotas(counts: list[int], limit: int) -> list[int]:
    """Shares of `limit`, as equal as what each has to give allows."""
    quotas = [0] * len(counts)
    left = min(limit, sum(counts))
    # Whoever has least is served first: what it cannot fill is shared by those after it.
    for place, i in enumerate(sorted(range(len(counts)), key=lambda i: counts[i])):
        quotas[i] = min(counts[i], left // (len(counts) - place))
        left -= quotas[i]
    return quotas


def _spread(index: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` of the indices, one from each of as many equal stretches."""
    edges = np.arange(count + 1) * len(index) // max(count, 1)
    # At random within its stretch: a plain stride would take whole columns of the image where it divides the width.
    return index[rng.integers(edges[:-1], edges[1:])] if count else index[:0]
