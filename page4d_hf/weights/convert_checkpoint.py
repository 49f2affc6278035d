"""Turns the published checkpoints of PAGE-4D and of VGGT into folders for `from_pretrained`.

The published files say nothing about the network but its weights: every size is read off the tensors, and
`Page4DConfig`'s defaults stand for what shapes do not show.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from itertools import groupby
from math import isqrt
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor
from transformers.utils import logging

from ..configuration_page4d import Page4DConfig
from ..errors import CheckpointError
from ..image_processing_page4d import Page4DImageProcessor
from ..model_card import model_card
from ..modeling_page4d import Page4DModel
from ..utils.folders import make_readable, whole_folder
from ..utils.programs import counted, one_line
from .checkpoint_files import read_checkpoint
from .loading import image_processor_for

logger = logging.get_logger(__name__)

# The dtypes that the aggregator and the encoder can be written in. The heads stay in float32 in any case.
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}

# Published files by their names, as values of `Page4DConfig.base_weights`.
_FILE_NAMES = {
    "checkpoint_mask.pt": "page4d",
    "checkpoint_nomask.pt": "page4d",
    "vggt_1B_commercial.pt": "vggt-commercial",
}
_TRACK_HEAD = "track_head."
# What no tensor shows, and which part of the network it is of.
_NOT_SHOWN = {
    "encoder_num_attention_heads": None, "camera_num_attention_heads": "enable_camera",
    "camera_num_iterations": "enable_camera", "head_layers": None, "mask_layer": "mask_form",
    "masked_layers": "mask_form", "mask_scale": "mask_form", "track_num_attention_heads": "enable_track",
    "track_num_iterations": "enable_track", "track_corr_radius": "enable_track",
}  # fmt: skip
# The dtypes that weights are published in.
_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)

# ---------------------------------------------------------------------------------------------------------------
# Names

# From a parameter's name here to its published name. Every rule is applied, in this order.
_DENSE = r"^(depth_head|point_head|track_head\.feature_extractor)\."
_TRACK = r"^track_head\."
_UPDATE = r"^track_head\.transformer\."
_UPDATER = "track_head.tracker.updateformer."
_PUBLISHED_NAMES: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    # Encoder
    (r"^encoder\.embeddings\.patch_embeddings\.", "aggregator.patch_embed.patch_embed.proj."),
    (r"^encoder\.embeddings\.position_embeddings$", "aggregator.patch_embed.pos_embed"),
    (r"^encoder\.embeddings\.", "aggregator.patch_embed."),
    (r"^encoder\.layers\.", "aggregator.patch_embed.blocks."),
    (r"^encoder\.norm\.", "aggregator.patch_embed.norm."),
    # Aggregator
    (r"^aggregator\.special_tokens\.(camera|register)$", r"aggregator.\1_token"),
    (r"^aggregator\.(frame|global)_layers\.", r"aggregator.\1_blocks."),
    (r"^aggregator\.mask_head\.depthwise\.", "aggregator.spatial_mask_head.head0.0."),
    (r"^aggregator\.mask_head\.pointwise\.", "aggregator.spatial_mask_head.head0.2."),
    (r"^aggregator\.mask_head\.output\.", "aggregator.spatial_mask_head.head0.4."),
    # Camera head
    (r"^camera_head\.empty_pose$", "camera_head.empty_pose_tokens"),
    (r"^camera_head\.pose_embedding\.", "camera_head.embed_pose."),
    (r"^camera_head\.modulation\.", "camera_head.poseLN_modulation.1."),
    (r"^camera_head\.layers\.", "camera_head.trunk."),
    (r"^camera_head\.norm\.", "camera_head.trunk_norm."),
    (r"^camera_head\.pose_mlp\.", "camera_head.pose_branch."),
    # Depth head, point head, and the track head's features
    (_DENSE + r"projections\.", r"\1.projects."),
    (_DENSE + r"level_convs\.(\d+)\.", lambda m: f"{m[1]}.scratch.layer{int(m[2]) + 1}_rn."),
    (_DENSE + r"fusion_layers\.(\d+)\.", lambda m: f"{m[1]}.scratch.refinenet{int(m[2]) + 1}."),
    (r"(refinenet\d+)\.skip_unit\.", r"\1.resConfUnit1."),
    (r"(refinenet\d+)\.unit\.", r"\1.resConfUnit2."),
    (r"(refinenet\d+)\.projection\.", r"\1.out_conv."),
    (_DENSE + r"output_conv1\.", r"\1.scratch.output_conv1."),
    (_DENSE + r"output_conv2\.", r"\1.scratch.output_conv2.0."),
    (_DENSE + r"output_conv3\.", r"\1.scratch.output_conv2.2."),
    # Track head
    (_TRACK + r"feature_norm\.", "track_head.tracker.fmap_norm."),
    (_TRACK + r"correlation_mlp\.", "track_head.tracker.corr_mlp."),
    (_TRACK + r"frame_tokens$", "track_head.tracker.query_ref_token"),
    (_TRACK + r"update_norm\.", "track_head.tracker.ffeat_norm."),
    (_TRACK + r"update_projection\.", "track_head.tracker.ffeat_updater.0."),
    (_TRACK + r"visibility\.", "track_head.tracker.vis_predictor.0."),
    (_TRACK + r"confidence\.", "track_head.tracker.conf_predictor.0."),
    (_UPDATE + r"(.*)\.attention\.[qkv]_proj\.", r"track_head.transformer.\1.attention.in_proj_"),
    (_UPDATE + r"(.*)\.attention\.o_proj\.", r"track_head.transformer.\1.attention.out_proj."),
    (_UPDATE + r"input_norm\.", _UPDATER + "input_norm."),
    (_UPDATE + r"input_projection\.", _UPDATER + "input_transform."),
    (_UPDATE + r"virtual_tracks$", _UPDATER + "virual_tracks"),  # spelled so there
    (_UPDATE + r"time_layers\.(\d+)\.attention\.", _UPDATER + r"time_blocks.\1.attn."),
    (_UPDATE + r"time_layers\.", _UPDATER + "time_blocks."),
    (_UPDATE + r"space_layers\.(\d+)\.mix\.attention\.", _UPDATER + r"space_virtual_blocks.\1.attn."),
    (_UPDATE + r"space_layers\.(\d+)\.mix\.", _UPDATER + r"space_virtual_blocks.\1."),
    (_UPDATE + r"space_layers\.(\d+)\.gather\.", _UPDATER + r"space_virtual2point_blocks.\1."),
    (_UPDATE + r"space_layers\.(\d+)\.scatter\.", _UPDATER + r"space_point2virtual_blocks.\1."),
    (r"(2(?:point|virtual)_blocks\.\d+)\.context_norm\.", r"\1.norm_context."),
    (r"(2(?:point|virtual)_blocks\.\d+)\.attention\.", r"\1.cross_attn."),
    (_UPDATE + r"output_norm\.", _UPDATER + "output_norm."),
    (_UPDATE + r"output_projection\.", _UPDATER + "flow_head."),
    # Transformer blocks
    (r"\.attention\.[qkv]_proj\.", ".attn.qkv."),
    (r"\.attention\.o_proj\.", ".attn.proj."),
    (r"\.attention\.([qk])_norm\.", r".attn.\1_norm."),
    (r"\.layer_scale([12])$", r".ls\1.gamma"),
)

_UNPUBLISHED = "aggregator.mask_schedule.step"  # counts training steps, from 0


def published_name(name: str) -> str:
    """The name in the published checkpoints of one of `Page4DModel`'s parameters.

    Queries, keys and values are one tensor there, in thirds along the first axis: their three parameters here have
    one name there.
    """
    for pattern, replacement in _PUBLISHED_NAMES:
        name = re.sub(pattern, replacement, name)
    return name


def _third(name: str) -> int | None:
    """Which third of its published tensor a parameter is: 0, 1, 2 of queries, keys, values; `None` for all of it."""
    found = re.search(r"\.attention\.([qkv])_proj\.", name)
    return "qkv".index(found[1]) if found else None


# ---------------------------------------------------------------------------------------------------------------
# Sizes


def infer_config(weights: Mapping[str, Tensor], **overrides: Any) -> Page4DConfig:
    """Read a network's sizes off its published weights.

    Shapes do not show everything. Attention without qk-norm has any number of heads: the encoder and the camera head
    are taken to have as many as the aggregator, which is so in all published networks (16). Iterations, epsilons, the
    layers that the heads read and those that are masked are `Page4DConfig`'s defaults, which are those of the published
    depth: for a network with fewer layers they must be given.

    Where a tensor is missing or its shape does not tell, the default stands too: `convert_state_dict` then names it.

    Args:
        weights: state dict with published names.
        overrides: values of `Page4DConfig` that are known better.
    """
    for name in overrides:
        if name not in Page4DConfig.__annotations__:
            similar = get_close_matches(name, Page4DConfig.__annotations__)
            meant = f"did you mean {' or '.join(similar)}?" if similar else "its documentation lists what it has."
            raise CheckpointError(f"Page4DConfig has no value {name}; {meant}")

    def size(pattern: str, axis: int) -> int | None:
        """The extent that most tensors of that name have along an axis: one damaged tensor does not outvote them."""
        found = re.compile(pattern)
        extents = Counter(
            tensor.shape[axis]
            for name, tensor in weights.items()
            if found.fullmatch(name) and tensor.ndim > max(axis, -1 - axis)
        )
        return extents.most_common(1)[0][0] if extents else None

    def count(pattern: str) -> int | None:
        """How many layers there are: one beyond the highest index, unless that is a stray one."""
        found = re.compile(pattern)
        indices = {int(m[1]) for m in map(found.match, weights) if m and len(m[1]) < 7}
        return min(max(indices) + 1, 2 * len(indices)) if indices else None

    def has(prefix: str) -> bool:
        return any(name.startswith(prefix) for name in weights)

    def known(name: str) -> Any:
        """A value that is not read off the tensors; of an override of another type the configuration will complain."""
        default = getattr(Page4DConfig, name)
        value = overrides.get(name, default)
        return value if isinstance(value, (list, tuple) if isinstance(default, (list, tuple)) else int) else default

    encoder, update = r"aggregator\.patch_embed\.", r"track_head\.tracker\.updateformer\."
    blocks = r"aggregator\.(?:frame|global)_blocks\.(\d+)\."
    dense = r"(?:depth_head|point_head|track_head\.feature_extractor)\."
    hidden_size = size(blocks + r"norm1\.weight", 0) or size(r"aggregator\.(camera|register)_token", -1)
    head_dim = size(blocks + r"attn\.[qk]_norm\.weight", 0)
    num_heads = hidden_size // head_dim if hidden_size and head_dim and hidden_size % head_dim == 0 else None
    mlp_size = size(blocks + r"mlp\.fc1\.weight", 0)
    patch_size = size(encoder + r"patch_embed\.proj\.weight", -1)
    positions = size(encoder + r"pos_embed", 1)
    grid_size = isqrt(positions - 1) if positions is not None and positions > 1 else None
    correlations = size(r"track_head\.tracker\.corr_mlp\.fc1\.weight", 1)
    radius = known("track_corr_radius")
    has_mask = has("aggregator.spatial_mask_head.")
    # Layers that are read or masked must be there: if they are not, keys are missing.
    used = [*known("head_layers"), *(known("masked_layers") if has_mask else ())]

    read: dict[str, Any] = {
        "hidden_size": hidden_size,
        "mlp_ratio": mlp_size / hidden_size if mlp_size and hidden_size else None,
        "patch_size": patch_size,
        "num_channels": size(encoder + r"patch_embed\.proj\.weight", 1),
        "image_size": grid_size * (patch_size or Page4DConfig.patch_size) if grid_size else None,
        "encoder_num_hidden_layers": count(encoder + r"blocks\.(\d+)\."),
        "encoder_num_attention_heads": num_heads,
        "encoder_num_register_tokens": size(encoder + r"register_tokens", 1),
        "num_hidden_layers": max([count(blocks) or 0, *(layer + 1 for layer in used if isinstance(layer, int))]),
        "num_attention_heads": num_heads,
        "num_register_tokens": size(r"aggregator\.register_token", 2),
        # A mask head is trained to be used. `mask_strength=0` as an override keeps it and does not use it.
        "mask_form": "release" if has_mask else None,
        "mask_strength": 1.0 if has_mask else 0.0,
        "mask_hidden_size": size(r"aggregator\.spatial_mask_head\.head0\.2\.weight", 0),
        "enable_camera": has("camera_head."),
        "enable_depth": has("depth_head."),
        "enable_point": has("point_head."),
        "enable_track": has("track_head."),
        "camera_num_hidden_layers": count(r"camera_head\.trunk\.(\d+)\."),
        "camera_num_attention_heads": num_heads,
        "dense_hidden_size": size(r"(?:depth|point)_head\.scratch\.layer\d_rn\.weight", 0),
        "dense_channels": [size(dense + rf"projects\.{level}\.weight", 0) for level in range(4)],
        "dense_output_channels": size(r"(?:depth|point)_head\.scratch\.output_conv2\.0\.weight", 0),
        "track_hidden_size": size(r"track_head\.tracker\.fmap_norm\.weight", 0),
        "track_transformer_size": size(update + r"input_transform\.weight", 0),
        "track_num_hidden_layers": count(update + r"time_blocks\.(\d+)\."),
        "track_num_virtual_tracks": size(update + r"virual_tracks", 1),
        # A window of radius r has (2 r + 1)^2 correlations, at each of the levels.
        "track_corr_levels": correlations // (2 * radius + 1) ** 2 if correlations else None,
    }
    if None in read["dense_channels"]:
        read["dense_channels"] = None
    # None is a value of `mask_form`, not the want of one.
    values = {name: value for name, value in read.items() if value is not None or name == "mask_form"}
    try:
        return Page4DConfig(**{**values, **overrides})
    except (StrictDataclassError, TypeError, ValueError) as error:  # Page4DError is a ValueError
        reason = one_line(error.__cause__ or error).removesuffix(".")  # without the wrapping of the class's decorator
        raise CheckpointError(
            f"No network can be built from the sizes in the checkpoint: {reason}. "
            "Values that tensors do not show can be set (page4d convert --set NAME=VALUE)."
        ) from error


# ---------------------------------------------------------------------------------------------------------------
# Weights


def convert_state_dict(
    weights: Mapping[str, Tensor], model: Page4DModel, source: str = "The checkpoint"
) -> dict[str, Tensor]:
    """Rename published weights to the names of a model, and check that they are all it needs and no more.

    The model may be on any device, as its own weights are not looked at. Tensors are the given ones or views of them;
    nothing is copied. `source` is what an error calls the checkpoint.
    """
    shapes = published_shapes_of(model)
    missing = [name for name in shapes if name not in weights]
    unexpected = [name for name in weights if name not in shapes]
    misshapen = [name for name in shapes if name in weights and tuple(weights[name].shape) != shapes[name]]
    if len(missing) > len(shapes) // 2:
        if "encoder.embeddings.position_embeddings" in weights:
            raise CheckpointError(f"{source} has been converted already; load its folder by `from_pretrained`.")
        raise CheckpointError(
            f"{source} is of another network, not of PAGE-4D or VGGT: of the {len(shapes)} keys of such a network it "
            f"has {len(shapes) - len(missing)}. Its keys are such as {_key_list(list(weights)[:3])}; "
            f"expected were such as {_key_list(missing[:3])}."
        )
    faults = []
    if missing:
        faults.append(f"{counted(len(missing), 'key')} missing ({_key_list(missing)})")
    if unexpected:
        faults.append(f"{counted(len(unexpected), 'key')} unexpected ({_key_list(unexpected)})")
    if misshapen:
        remarks = {name: f" is {list(weights[name].shape)}, not {list(shapes[name])}" for name in misshapen}
        faults.append(f"{counted(len(misshapen), 'key')} of another shape ({_key_list(misshapen, remarks)})")
    if faults:
        raise CheckpointError(f"{source} does not fit the network that its sizes tell of: {'; '.join(faults)}.")
    broken = [name for name, tensor in weights.items() if tensor.dtype not in _FLOATS or not tensor.isfinite().all()]
    if broken:
        raise CheckpointError(
            f"{source} has values that are no finite numbers in {counted(len(broken), 'key')} ({_key_list(broken)})."
        )

    converted = {}
    for name, like in model.state_dict().items():
        if name == _UNPUBLISHED:
            converted[name] = torch.zeros(like.shape, dtype=like.dtype)
        else:
            tensor, third = weights[published_name(name)], _third(name)
            converted[name] = tensor if third is None else tensor.chunk(3)[third]
    return converted


def published_shapes_of(model: Page4DModel) -> dict[str, tuple[int, ...]]:
    """The shapes of all weights of a model, by their published names."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, tensor in model.state_dict().items():
        if name != _UNPUBLISHED:
            shape = tuple(tensor.shape)
            shapes[published_name(name)] = shape if _third(name) is None else (3 * shape[0], *shape[1:])
    return shapes


def _fitting_network(
    weights: dict[str, Tensor], overrides: Mapping[str, Any], note: Callable[[str], object]
) -> tuple[dict[str, Tensor], Page4DModel]:
    """The network that weights are of, on the meta device, and the weights without what is left over of a track head.

    PAGE-4D was trained without a track head, and its release loads checkpoints whatever they hold of one: one that is
    not whole is left out, and so are keys that no track head has. `note` is told of what is left out.
    """
    with torch.device("meta"):
        model = Page4DModel(infer_config(weights, **overrides))
    shapes = published_shapes_of(model)
    lacking = [n for n in shapes if n.startswith(_TRACK_HEAD) and (n not in weights or weights[n].shape != shapes[n])]
    if lacking and "enable_track" not in overrides:
        note(
            f"The track head is left out: {counted(len(lacking), 'key')} missing or of another shape "
            f"({_key_list(lacking)}); --set enable_track=true insists on it."
        )
        others = {name: tensor for name, tensor in weights.items() if not name.startswith(_TRACK_HEAD)}
        return _fitting_network(others, overrides, note)
    extra = [name for name in weights if name.startswith(_TRACK_HEAD) and name not in shapes]
    if extra:
        note(
            f"Left out: {counted(len(extra), 'key')} of a track head that the network does not have "
            f"({_key_list(extra)})."
        )
    return {name: tensor for name, tensor in weights.items() if name not in extra}, model


def _mask_strength(
    checkpoint: Path, config: Page4DConfig, mask: str | None, overrides: Mapping[str, Any]
) -> tuple[float, str]:
    """At what strength a mask head that a checkpoint holds is used, and who says so.

    The release builds a mask head in every network, so that the weights alone do not tell whether it is to be used.
    """
    if "mask_strength" in overrides:
        if mask is not None:
            raise CheckpointError(f"--mask {mask} and --set mask_strength exclude each other; give one of them.")
        return config.mask_strength, "as set"
    who = "as --mask says"
    if mask is None:
        who = "as the file's name says"
        name = checkpoint.name.lower()
        if "mask" not in name:
            raise CheckpointError(
                f"The checkpoint {checkpoint} holds a mask head, and neither its name nor its weights tell whether it "
                "is to be used: pass --mask on (PAGE-4D's masked checkpoint) or --mask off (its unmasked one)."
            )
        mask = "off" if re.search(r"(no|non|un|without)[-_]?mask", name) else "on"
    return (1.0 if mask == "on" else 0.0), who


def convert_checkpoint(
    checkpoint: str | Path,
    output: str | Path,
    *,
    dtype: str = "float32",
    mask: Literal["on", "off"] | None = None,
    source: str | None = None,
    overwrite: bool = False,
    overrides: Mapping[str, Any] | None = None,
    note: Callable[[str], object] = logger.warning,
) -> Page4DConfig:
    """Convert a published checkpoint to a folder for `from_pretrained`.

    The folder holds the weights as safetensors, the configuration with an `auto_map`, the image processor, the code
    that the `auto_map` names, and a model card. It is read back and compared, tensor for tensor, before it gets its
    name. The checkpoint's tensors stay mapped from disk until they are written; at full size (4.8 GB) the process
    peaked at 10.7 GiB, mapped pages included.

    Args:
        checkpoint: `.pt` or `.safetensors` file with the weights of PAGE-4D, with or without its mask, or of VGGT.
        output: the folder to make.
        dtype: `"float32"`, or `"bfloat16"` for the encoder and the aggregator; the heads are float32 in either case.
        mask: whether a mask head that the checkpoint holds is to be used. By default the file's name tells.
        source: where the checkpoint comes from, for the model card. Its file name by default.
        overwrite: replace an earlier model in `output`, if nothing else is there (see `whole_folder`).
        overrides: values of `Page4DConfig` that the tensors do not show, see `infer_config`.
        note: is called with a sentence on what was assumed, and on what was left out.

    Returns:
        The configuration of the converted model.
    """
    if dtype not in DTYPES:
        raise CheckpointError(f"dtype is {dtype!r}; it must be one of {', '.join(DTYPES)}.")
    if mask not in ("on", "off", None):
        raise CheckpointError(f"mask is {mask!r}; it must be on, off, or None.")
    checkpoint = Path(checkpoint)
    with whole_folder(output, overwrite=overwrite) as folder:
        logger.info(f"Reading {checkpoint}")
        weights = read_checkpoint(checkpoint)
        values = {"base_weights": _FILE_NAMES.get(checkpoint.name), **(overrides or {})}
        weights, model = _fitting_network(weights, values, note)
        config = model.config
        converted = convert_state_dict(weights, model, source=f"The checkpoint {checkpoint}")
        if config.mask_form is not None:
            config.mask_strength, who = _mask_strength(checkpoint, config, mask, values)
            note(f"The mask head is used at strength {config.mask_strength:g}, {who}.")
        elif mask == "on":
            raise CheckpointError(f"The checkpoint {checkpoint} holds no mask head; --mask on needs one.")
        assumed = {
            name: getattr(config, name)
            for name, part in _NOT_SHOWN.items()
            if name not in values and (part is None or getattr(config, part))
        }
        if assumed:
            told = ", ".join(f"{name}={value}" for name, value in assumed.items())
            note(f"Assumed, as tensors do not show it: {told}. For a network with other values, --set them.")
        # `assign` puts the mapped tensors themselves in the place of the meta device's.
        model.load_state_dict(converted, assign=True)
        # float() first: what stays in float32 is not made so from a half precision.
        model.float().to(DTYPES[dtype])  # type: ignore[no-untyped-call]  # of the library

        logger.info(f"Writing {output}")
        model.save_pretrained(folder)
        for file in folder.glob("*.safetensors"):
            make_readable(file)  # safetensors writes for the owner only
        image_processor_for(config).save_pretrained(folder)
        card = model_card(config, num_parameters=model.num_parameters(), source=source or checkpoint.name)
        (folder / "README.md").write_text(card, encoding="utf-8")

        logger.info(f"Checking {output}")
        check_conversion(folder, converted, model)
        return config


def check_conversion(folder: str | Path, converted: Mapping[str, Tensor], model: Page4DModel) -> None:
    """Read a converted folder back and compare it with the checkpoint's weights, in the dtypes of `model`."""
    result: Any = Page4DModel.from_pretrained(folder, output_loading_info=True)
    loaded, info = result
    faults = [f"{kind}: {_key_list(sorted(map(str, keys)))}" for kind, keys in info.items() if keys]
    dtypes = {name: tensor.dtype for name, tensor in model.state_dict().items()}
    read = loaded.state_dict()
    changed = [
        name
        for name, tensor in converted.items()
        if name not in read or read[name].dtype != dtypes[name] or not torch.equal(read[name], tensor.to(dtypes[name]))
    ]
    if changed:
        faults.append(f"not as written: {_key_list(changed)}")
    if loaded.config.to_diff_dict() != model.config.to_diff_dict():
        faults.append("the configuration is not as written")
    Page4DImageProcessor.from_pretrained(folder)
    if faults:
        raise CheckpointError(
            f"The converted weights did not read back as they were written ({'; '.join(faults)}); nothing was kept. "
            "Check the disk and try again."
        )


# ---------------------------------------------------------------------------------------------------------------
# Words


def _key_list(names: list[str], remarks: Mapping[str, str] | None = None, limit: int = 20) -> str:
    """Names with what is remarked of them; of many, those that differ in one layer number are written as one."""
    names = [name if name.isprintable() else ascii(name) for name in names]
    remarks = remarks or {}
    if len(names) <= limit:
        return ", ".join(name + remarks.get(name, "") for name in names)
    groups: dict[tuple[str, str], list[str]] = {}
    for name in names:
        pattern = re.sub(r"(?<=\.)\d+(?=\.)", "#", name, count=1)
        groups.setdefault((pattern, remarks.get(name, "")), []).append(name)
    return ", ".join(_with_range(pattern, members) + remark for (pattern, remark), members in groups.items())


def _with_range(pattern: str, members: list[str]) -> str:
    """`a.#.b` with the numbers that stand in its members: `a.{0-3,7}.b`."""
    if len(members) == 1:
        return members[0]
    before = pattern.index("#")
    numbers = sorted(int(re.match(r"\d+", name[before:])[0]) for name in members)  # type: ignore[index]
    # Numbers that follow each other are as far ahead of their places.
    runs = [[number for _, number in run] for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])]
    ranges = ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
    return pattern.replace("#", f"{{{ranges}}}", 1)
