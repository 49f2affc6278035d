"""The network that a run starts from: loaded or with random weights, with what the options change of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from page4d_hf import Page4DConfig, Page4DImageProcessor, Page4DModel
from page4d_hf.clips.sampling import SamplingConfig
from page4d_hf.configuration_page4d import Page4DTrainingConfig
from page4d_hf.errors import CheckpointError, Page4DError
from page4d_hf.utils.json_files import read_json
from page4d_hf.utils.programs import one_line
from page4d_hf.weights.loading import (
    image_processor_for,
    load_config,
    load_image_processor,
    load_network,
    model_source,
)

from .options import Options, OptionsError
from .parameters import MASK_HEAD

# Options that are values of the network's configuration, and replace those that it has.
OF_MASK = ("mask_form", "mask_strength", "mask_hold_start", "mask_hold_end", "mask_loss_weight")
SCHEDULE = "aggregator.mask_schedule"
CONFIGURED = ("camera_loss_weight", "depth_loss_weight", "fov_loss_weight", *OF_MASK)


def starting_network(options: Options) -> Page4DModel:
    """Make the network of a run, before its first step. A mask of a form that `--model` lacks has random weights."""
    chosen = {name: value for name in CONFIGURED if (value := getattr(options, name)) is not None}
    changes = grouped(chosen)
    network = _from_file(options, changes) if options.network is not None else _pretrained(options, changes)
    of_mask = chosen.keys() & set(OF_MASK)
    if network.aggregator.mask_head is None and of_mask:
        raise OptionsError(
            f"--{min(of_mask).replace('_', '-')} says how a mask acts, and the network has none; --mask-form release "
            "or paper gives it one."
        )
    if options.attn_implementation is not None:
        try:
            network.set_attn_implementation(options.attn_implementation)
        except (ValueError, ImportError) as error:
            raise OptionsError(
                f"--attn-implementation {options.attn_implementation} cannot be used: {one_line(error)}"
            ) from error
    return network


def grouped(values: dict[str, Any]) -> dict[str, Any]:
    """Values of a configuration, of which those that only training needs are named without their group."""
    training = {name: values[name] for name in values if name in Page4DTrainingConfig.__annotations__}
    network = {name: value for name, value in values.items() if name not in training}
    return {**network, "training": {**network.get("training", {}), **training}}


def sampling_for(sampling: SamplingConfig, config: Page4DConfig, model: str | Path | None) -> SamplingConfig:
    """The sizes of images that a network is trained with: what options leave open, its image processor decides."""
    if sampling.patch_size not in (None, config.patch_size):
        raise OptionsError(f"--sampling.patch-size is {sampling.patch_size}, the model's is {config.patch_size}.")
    width = sampling.width
    if width is None:
        width = int(starting_processor(config, model).size["width"])
    return replace(sampling, width=width, patch_size=config.patch_size)


def starting_processor(config: Page4DConfig, model: str | Path | None) -> Page4DImageProcessor:
    """The image processor in `model`; one for the network's own size where training starts from random weights."""
    return image_processor_for(config) if model is None else load_image_processor(model, config)


def _from_file(options: Options, changes: dict[str, Any]) -> Page4DModel:
    assert options.network is not None
    values = read_json(options.network, dict[str, Any], error=OptionsError, remedy="correct it")
    # The library takes any value, in silence.
    known = {*Page4DConfig().to_dict(), "auto_map"}
    if unknown := sorted(values.keys() - known):
        raise OptionsError(
            f"--network {options.network} has values that no configuration of Page4D has: {', '.join(unknown)}."
        )
    changes = {**changes, **changes["training"], "training": values.get("training", {})}
    try:
        return Page4DModel(Page4DConfig(**grouped(values | changes)))
    except Exception as error:  # the library's validation has exceptions of its own, with the reason behind them
        raise OptionsError(
            f"--network {options.network} is no configuration of Page4D: {error.__cause__ or error}"
        ) from error


def _pretrained(options: Options, changes: dict[str, Any]) -> Page4DModel:
    assert options.model is not None
    try:
        own = load_config(options.model)
        if getattr(own, "quantization_config", None) is not None:
            raise OptionsError(
                f"--model {options.model} is quantized, and quantized weights cannot be trained; give the model that "
                "it was made of."
            )
        config = Page4DConfig.from_pretrained(model_source(options.model), **changes)
        if options.mask_form in (None, own.mask_form):
            # The count of steps of a schedule that the options bring starts at 0.
            return load_network(options.model, config, torch.float32, may_lack=(SCHEDULE,))
        found = load_network(options.model, own, torch.float32)
    except CheckpointError as error:
        raise OptionsError(f"--model {options.model} cannot be loaded: {error}") from error
    network = Page4DModel(config)
    weights = {name: value for name, value in found.state_dict().items() if not name.startswith(MASK_HEAD)}
    left = network.load_state_dict(weights, strict=False)
    missing = [name for name in left.missing_keys if not name.startswith((MASK_HEAD, SCHEDULE))]
    if missing or left.unexpected_keys:
        raise Page4DError(
            f"--model {options.model} does not fit its own configuration: {', '.join(missing + left.unexpected_keys)}."
        )
    return network
