"""Loads models for inference: which device and precision, the configuration, the network, its image processor."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import PreTrainedConfig
from transformers.utils import cached_file

from ..configuration_page4d import Page4DConfig
from ..errors import CheckpointError, Page4DError
from ..image_processing_page4d import Page4DImageProcessor
from ..modeling_page4d import Page4DModel
from ..utils.programs import command, first_line, one_line
from .model_files import PROCESSOR_FILE, check_model_files


def resolve_device(device: str | torch.device | None = "auto") -> torch.device:
    """The device of a name: "auto" (or None) is a GPU where there is one, else the CPU."""
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
    """Read the configuration in a model folder (or of a Hub repository), and check that it is one of PAGE-4D."""
    folder = Path(os.path.expanduser(path))
    pull, convert = command("page4d", "pull", "nomask", "--output", path), command("page4d", "convert", path, "OUT")
    tiny = command("page4d", "pull", "tiny", "--output", path)
    how = f"fetch the published weights by `{pull}`, copy the package's small ones by `{tiny}`, or convert some by "
    how += "`page4d convert`"
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
            raise CheckpointError(f"Cannot read {folder / 'config.json'}: {first_line(error)}") from error
        raise CheckpointError(one_line(error)) from error  # names the path, and says what to do
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
    """Load a model folder, or a Hub repository, for inference, with its image processor.

    `device` and `dtype` are as of `resolve_device` and `resolve_dtype`.
    """
    resolved_device = resolve_device(device)
    config = load_config(path)
    network: Any = load_network(path, config, resolve_dtype(dtype, resolved_device))
    model = network.to(resolved_device).eval()
    return model, load_image_processor(path, config)


def load_image_processor(path: str | Path, config: Page4DConfig) -> Page4DImageProcessor:
    """The image processor in a model folder or Hub repository; one for the network's sizes where there is none."""
    source = model_source(path)
    try:
        # `push_to_hub` of a model uploads none.
        if cached_file(source, PROCESSOR_FILE, _raise_exceptions_for_missing_entries=False) is None:
            return image_processor_for(config)
        return Page4DImageProcessor.from_pretrained(source)
    except (ArithmeticError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
        # What a file from the Hub, which was not checked, makes fail in the library.
        raise CheckpointError(f"Cannot read the image processor in {path}: {first_line(error)}") from error


def load_network(
    path: str | Path, config: Page4DConfig, dtype: torch.dtype, *, may_lack: tuple[str, ...] = ()
) -> Page4DModel:
    """Build a network and give it the weights of a model folder (or of a Hub repository).

    Tensors whose names begin as `may_lack` says need not be among the weights; they start as in a new network.
    """
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
        raise CheckpointError(f"Cannot load the weights in {path}: {first_line(error)}") from error
    network: Page4DModel = loaded[0]
    loading = loaded[1]
    missing = sorted(key for key in loading["missing_keys"] if not key.startswith(may_lack))
    if missing:
        raise CheckpointError(
            f"The weights in {path} lack {len(missing)} tensors of the network, such as {missing[0]}; make them anew."
        )
    return network


def model_source(path: str | Path) -> str:
    """The argument for from_pretrained: a model's folder, if there is one, or else the name of a Hub repository."""
    folder = Path(os.path.expanduser(path))
    return str(folder if os.path.isdir(folder) else path)


def image_processor_for(config: PreTrainedConfig) -> Page4DImageProcessor:
    """The image processor of a network that comes without one, and of converted weights: it shows the whole images."""
    side = max(config.image_size // config.patch_size, 1) * config.patch_size
    return Page4DImageProcessor(mode="balanced", patch_size=config.patch_size, size=side)
