"""The options of a training run: one dataclass, which the command line fills and the run keeps beside its results."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import MISSING, dataclass, field, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import tyro
from pydantic import ConfigDict, Field, ValidationError, create_model
from pydantic_core import to_jsonable_python

from page4d_hf.clips.augmentation import AugmentationConfig
from page4d_hf.clips.sampling import MOST_ASPECT, MOST_FRAMES, SYNTHETIC, SamplingConfig, SourceConfig, source_named
from page4d_hf.errors import Page4DError
from page4d_hf.synthetic import SyntheticOptions
from page4d_hf.utils.json_files import Record, explain, read_json

# Options that a run may go on with changed: they decide where and how fast it runs, not what it computes.
MAY_CHANGE = frozenset(
    {
        "output",
        "dataloader_num_workers",
        "dataloader_prefetch_factor",
        "scene_device",
        "checkpointing_steps",
        "checkpoints_total_limit",
        "report_to",
        "push_to_hub",
        "hub_model_id",
        "hub_private_repo",
    }
)


AUTO = "auto"  # of options whose best value depends on the machine; run.json has what it came to

MOST_STEPS = 10**9
Count = Annotated[int, Field(ge=1, le=10**6)]
Step = Annotated[int, Field(ge=0, le=MOST_STEPS)]
Steps = Annotated[int, Field(ge=1, le=MOST_STEPS)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]  # NumPy's global generator takes no greater one
Weight = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class OptionsError(Page4DError):
    """Options that do not fit each other, the model or the run that they shall continue."""

    in_all_processes = True


class _Checked:
    """Options that are refused outside of the ranges that their types name."""

    def __post_init__(self) -> None:
        kind: type = type(self)
        try:
            _schema(kind).model_validate(vars(self))
        except ValidationError as broken:
            raise OptionsError(f"The command line {explain(broken)}.") from broken


@dataclass(kw_only=True)
class GroupOptions(_Checked):
    """Optimisation of a parameter group: linear warm-up, cosine decay, decoupled weight decay."""

    learning_rate: Weight = 1e-5
    """Learning rate at the end of the warm-up."""
    weight_decay: Weight = 0.01
    """Share of the weights, times the learning rate, that a step takes off them."""
    warmup_steps: Weight = 0.05
    """Steps in which the learning rate rises linearly; below 1, their share of all steps."""
    warmup_lr: Weight = 1e-8
    """Learning rate at the first step, where the warm-up begins."""
    min_lr: Weight = 1e-8
    """Learning rate that the cosine ends at."""


@dataclass(frozen=True)
class EvaluationOptions(_Checked):
    """Evaluation on clips that are never trained on."""

    steps: Step = 500
    """Steps from one evaluation to the next; the last step is always followed by one. 0 evaluates never."""
    micro_batches: Count = 16
    """How many micro-batches of held-out clips; the same ones every time."""
    frames: Annotated[int, Field(ge=1, le=MOST_FRAMES)] = 8
    """Frames of each held-out sample."""
    aspect: Annotated[float, Field(gt=0, le=MOST_ASPECT)] = 0.75
    """Height / width of the images."""
    seed: Seed = 1_000_003
    """Which windows of the held-out clips are taken, and which synthetic scenes are held out."""


@dataclass(kw_only=True)
class Options(GroupOptions):
    """Everything that decides what a training run computes. The defaults are the recipe of PAGE-4D.

    Learning rate, weight decay and warm-up are those of all parameters but the mask head's, which has its own.

    A dataset is a folder or a Hub id of clips (docs/datasets.md), or `synthetic` for random scenes that are rendered on
    the fly. `point-odyssey=clips/odyssey` names the source too, and so takes the paper's mixing weight and strides.
    """

    output: Path
    """Folder of the run: checkpoints, the trained model, logs. A run that is in it goes on where it stopped."""
    dataset: Annotated[tuple[str, ...], Field(min_length=1)]
    """Clips to train on: one or more of FOLDER, HUB_ID, NAME=FOLDER or synthetic."""
    model: str | None = None
    """Where training starts: a folder for from_pretrained, or a Hub id."""
    network: Path | None = None
    """Or: a JSON file with values of Page4DConfig, to start from random weights."""
    weights: tuple[float, ...] = ()
    """Mixing weights of the datasets, one each. By default the paper's for its sources, and 1 for others."""
    held_out: tuple[str, ...] = ()
    """Clips to evaluate on, named like --dataset: their split `validation` or, where there is no such split, the only
    one. By default the split `validation` of those of --dataset that have one; of `synthetic` other scenes."""
    streaming: bool = False
    """Read the datasets front to back over the network instead of copying them first."""

    train: tuple[str, ...] | None = None
    """What is trained: names of modules, with ranges as in aggregator.frame_layers.10-19; or `all`. The rest is
    frozen. By default the masked layers and the mask head: of the published network the middle ten frame and global
    layers, 252 million parameters."""
    max_train_steps: Steps = 20_000
    """Optimizer steps of the whole run."""
    gradient_accumulation_steps: Count = 2
    """Micro-batches of an optimizer step, over all processes; a multiple of their number. Each process accumulates the
    gradients of its share, so that the result does not depend on how many there are."""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    """Frames and sizes of the micro-batches."""
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    """Random changes of the samples."""
    scenes: SyntheticOptions = field(default_factory=SyntheticOptions)
    """What the scenes of the dataset `synthetic` are made of, in training and in evaluation."""
    mask_head: GroupOptions = field(
        default_factory=lambda: GroupOptions(learning_rate=2e-5, weight_decay=0.02, warmup_steps=0.15)
    )
    """Optimisation of the mask head."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """What makes the steps. muon is for training from nothing: it updates the matrices of transformer layers by Muon,
    with updates of AdamW's size, and the rest by AdamW. Not with sharded weights."""
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    """Gradients are scaled down to this norm, all groups together."""
    camera_loss_weight: Weight | None = None
    """Weight of the loss on cameras beside that on depth. By default as the model's configuration says: 5 of the
    published network."""
    depth_loss_weight: Weight | None = None
    """Weight of the loss on depth; with 0 the depth head is not run in training. By default as the model's
    configuration says: 1 of the published network."""
    fov_loss_weight: Weight | None = None
    """Weight of the fields of view in the loss on cameras, beside rotation and translation. By default as the model's
    configuration says: 0.5 of the published network."""
    mask_form: Literal["release", "paper"] | None = None
    """The mask's form. By default as the model's configuration says; a mask of another form, or of a model without
    one, begins with random weights."""
    mask_strength: Share | None = None
    """The mask's strength, from 0 (off, VGGT) to 1, wherever no schedule runs: in training without one, in evaluation,
    and of the trained model. By default as the model's configuration says."""
    mask_loss_weight: Weight | None = None
    """Weight of a loss on the mask head from labels of what moves. By default as the model's configuration says: 0 of
    the published network."""
    mask_hold_start: Step | None = None
    """The mask's strength is 1 until this optimizer step. By default as the model's configuration says."""
    mask_hold_end: Step | None = None
    """From there it falls to 0 in a half cosine until this step."""
    mixed_precision: Literal["no", "bf16", "fp16", "auto"] | None = None
    """Precision of the network's matrix products; by default as `accelerate launch` was told. auto: bf16 where the
    device has units for it (CUDA from Ampere on, CPUs with AMX), no elsewhere. The heads and the loss are in float32
    always."""
    attn_implementation: str | None = None
    """How attention is computed: sdpa, eager, flash_attention_2 or another that transformers knows. By default what
    the model chooses, sdpa. auto: eager for bf16 on a CPU, where small networks are trained fastest by it, sdpa
    elsewhere."""
    gradient_checkpointing: bool = True
    """Compute activations twice instead of keeping them."""
    seed: Seed = 0
    """Seed of the data and of random weights."""
    evaluation: EvaluationOptions = field(default_factory=EvaluationOptions)
    """Evaluation on held-out clips."""

    dataloader_num_workers: Annotated[int, Field(ge=0, le=1000)] = 4
    """Processes that load data, for each training process."""
    dataloader_prefetch_factor: Annotated[int, Field(ge=1, le=1000)] = 2
    """Micro-batches that each of them keeps ready."""
    scene_device: str = "cpu"
    """Where synthetic scenes are rendered: cuda needs --dataloader-num-workers 0, and pays for large images."""
    checkpointing_steps: Steps = 500
    """Steps from one checkpoint to the next; the last step always makes one."""
    checkpoints_total_limit: Steps | None = 2
    """How many of the newest checkpoints are kept; None keeps all."""
    report_to: tuple[str, ...] = ("tensorboard",)
    """Where curves go: tensorboard, wandb, or another tracker of accelerate; all takes those that are installed, and
    none draws no curves."""
    push_to_hub: bool = False
    """Upload the trained model to the Hub, at the end."""
    hub_model_id: str | None = None
    """Its name there. By default that of the output folder."""
    hub_private_repo: bool = True
    """Whether that repository is private, if it does not exist yet."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.model is None) == (self.network is None):
            raise OptionsError(
                "Give either --model (pretrained weights) or --network (a configuration, random weights)."
            )
        if self.weights and len(self.weights) != len(self.dataset):
            raise OptionsError(f"--weights has {len(self.weights)} values for {len(self.dataset)} datasets.")
        if self.scene_device != "cpu" and self.dataloader_num_workers:
            raise OptionsError(
                f"--scene-device {self.scene_device} needs --dataloader-num-workers 0: a GPU renders in one process "
                "only."
            )
        if (self.mask_hold_start is None) != (self.mask_hold_end is None):
            raise OptionsError("Give both --mask-hold-start and --mask-hold-end, or none.")
        rendered = SYNTHETIC in {source.path for source in self.held_out_sources() if source.weight > 0}
        if rendered and self.evaluation.steps and self.seed == self.evaluation.seed:
            raise OptionsError(
                f"--seed and --evaluation.seed are both {self.seed}, so that held-out scenes would be those of the "
                "training; give another."
            )

    def sources(self) -> list[SourceConfig]:
        """The datasets to train on, with their settings."""
        return self._sources(self.dataset, "train", self.weights)

    def held_out_sources(self) -> list[SourceConfig]:
        """The datasets to evaluate on: those named, or the split `validation` of those that are trained on."""
        if self.held_out:
            return self._sources(self.held_out, "validation", ())
        return self._sources(self.dataset, "validation", self.weights)

    def _sources(self, names: tuple[str, ...], split: str, weights: tuple[float, ...]) -> list[SourceConfig]:
        sources = []
        for index, word in enumerate(names):
            name, found, path = word.partition("=")
            source = source_named(name, path) if found else source_named("", word)
            changes: dict[str, Any] = {"split": split}
            if self.streaming and source.path != SYNTHETIC:
                changes["streaming"] = True
            if weights:
                changes["weight"] = weights[index]
            sources.append(replace(source, **changes))
        return sources


# ---------------------------------------------------------------------------------------------------------------
# As JSON

REQUIRED = {f.name for f in fields(Options) if f.default is MISSING and f.default_factory is MISSING}


class _File(Record):
    model_config = ConfigDict(extra="forbid")

    # What run.json holds beside the options.
    versions: Any = None
    configuration: Any = None


@lru_cache
def _schema(kind: type) -> type[_File]:
    """Any of a dataclass's fields, in the types and ranges that they have in Python."""
    hints: dict[str, Any] = {name: (hint, None) for name, hint in get_type_hints(kind, include_extras=True).items()}
    return create_model(kind.__name__, __base__=_File, **hints)


def to_json(options: Options) -> dict[str, Any]:
    """Options as JSON values, the same that `from_json` reads."""
    values: dict[str, Any] = to_jsonable_python(options)
    return values


def from_json(path: Path) -> Options:
    """Options that `to_json` wrote; those that are missing have their defaults."""
    values = _values(path)
    if missing := sorted(REQUIRED - values.keys()):
        raise OptionsError(f"{path} lacks {', '.join(missing)}; add them.")
    return Options(**values)


def defaults_from_json(path: Path, replaced: Collection[str] = ()) -> Options:
    """Defaults of the command line from a file of options, but for those that the command line replaces by others.

    Where the file lacks required ones, those are `tyro.MISSING`, and it is not checked yet whether options fit each
    other.
    """
    values = {name: value for name, value in _values(path).items() if name not in replaced}
    if values.keys() >= REQUIRED and not replaced:
        return Options(**values)
    options = object.__new__(Options)
    for f in fields(Options):
        default = tyro.MISSING if f.default is MISSING else f.default
        value = f.default_factory() if f.default_factory is not MISSING else default
        setattr(options, f.name, values.get(f.name, value))
    return options


def _values(path: Path) -> dict[str, Any]:
    """The options in a file, in the types that they have in Python."""
    found = read_json(path, _schema(Options), error=OptionsError, remedy="correct it")
    return {name: getattr(found, name) for name in found.model_fields_set - _File.model_fields.keys()}


def check_same_run(old: dict[str, Any], new: Options, configuration: dict[str, Any], path: Path) -> None:
    """Refuse to go on with a run, whose `run.json` is given, under options, or with a network, that would compute
    something else.
    """
    now = to_json(new)
    network, network_now = old.get("configuration", {}), json.loads(json.dumps(configuration))
    compared = [(name, old.get(name), now[name]) for name in now if name not in MAY_CHANGE]
    compared += [
        (f"the network's {name}", network.get(name), network_now.get(name))
        for name in sorted(network.keys() | network_now.keys())
    ]
    differing = [
        f"{name} (was {json.dumps(before)}, now {json.dumps(after)})"
        for name, before, after in compared
        if before != after
    ]
    if differing:
        raise OptionsError(
            f"{path.parent} holds a run with other options: {'; '.join(differing)}. Go on with those of {path}, or "
            "name another --output."
        )
