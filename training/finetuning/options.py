"""The options of a training run: one dataclass, which the command line fills and the run keeps beside its results."""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_type_hints

import tyro
from pydantic import ConfigDict, create_model

from page4d_hf.clips.augmentation import AugmentationConfig
from page4d_hf.clips.sampling import MOST_ASPECT, MOST_FRAMES, SYNTHETIC, SamplingConfig, SourceConfig, source_named
from page4d_hf.errors import Page4DError
from page4d_hf.synthetic import SyntheticOptions
from page4d_hf.utils.json_files import Record, read_json

# Options that a run may go on with changed: they decide where and how fast it runs, not what it computes.
MAY_CHANGE = frozenset(
    {
        "output",
        "workers",
        "scene_device",
        "prefetch",
        "checkpoint_every",
        "keep_checkpoints",
        "trackers",
        "push_to_hub",
        "private",
    }
)


AUTO = "auto"  # of options whose best value depends on the machine; run.json has what it came to


MOST_STEPS = 10**9
LAST_SEED = 2**32 - 1  # the greatest that NumPy's global generator takes


class OptionsError(Page4DError):
    """Options that do not fit each other, the model or the run that they shall continue."""

    in_all_processes = True


def _check_range(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise OptionsError(f"{name} must be from {low} to {high}, got {value!r:.40}.")


def _check_weight(name: str, value: float) -> None:
    if not 0 <= value < math.inf:
        raise OptionsError(f"{name} must be a number that is not negative, got {value}.")


@dataclass(frozen=True)
class GroupOptions:
    """How a group of parameters is optimised: linear warm-up and cosine decay of the learning rate, decoupled weight
    decay."""

    learning_rate: float
    """Learning rate at the end of the warm-up."""
    weight_decay: float
    """Share of the weights, times the learning rate, that a step takes off them."""
    warmup: float
    """Share of the steps in which the learning rate rises linearly."""
    start: float = 1e-8
    """Learning rate at the first step."""
    final: float = 1e-8
    """Learning rate that the cosine ends at."""

    def __post_init__(self) -> None:
        if not 0 <= self.warmup < 1:
            raise OptionsError(f"A warm-up is a share of the steps in [0, 1), got {self.warmup}.")
        for name in ("learning_rate", "weight_decay", "start", "final"):
            _check_weight(name, getattr(self, name))


@dataclass(frozen=True)
class EvaluationOptions:
    """Evaluation on clips that are never trained on."""

    every: int = 500
    """Steps from one evaluation to the next; the last step is always followed by one. 0 evaluates never."""
    micro_batches: int = 16
    """How many micro-batches of held-out clips; the same ones every time."""
    frames: int = 8
    """Frames of each held-out sample."""
    aspect: float = 0.75
    """Height / width of the images."""
    seed: int = 1_000_003
    """Which windows of the held-out clips are taken, and which synthetic scenes are held out."""

    def __post_init__(self) -> None:
        for name, low, high in (
            ("every", 0, MOST_STEPS),
            ("micro_batches", 1, 10**6),
            ("frames", 1, MOST_FRAMES),
            ("seed", 0, LAST_SEED),
        ):
            _check_range(f"evaluation.{name}", getattr(self, name), low, high)
        if not 0 < self.aspect <= MOST_ASPECT:
            raise OptionsError(f"evaluation.aspect must be above 0 and at most {MOST_ASPECT}, got {self.aspect}.")


@dataclass
class Options:
    """Everything that decides what a training run computes. The defaults are the recipe of PAGE-4D.

    A dataset is a folder or a Hub id of clips (docs/datasets.md), or `synthetic` for random scenes that are rendered on
    the fly. `point-odyssey=clips/odyssey` names the source too, and so takes the paper's mixing weight and strides.
    """

    output: Path
    """Folder of the run: checkpoints, the trained model, logs. A run that is in it goes on where it stopped."""
    dataset: tuple[str, ...]
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
    steps: int = 20_000
    """Optimizer steps of the whole run."""
    micro_batches: int = 2
    """Micro-batches of an optimizer step, over all processes; a multiple of their number. Each process accumulates the
    gradients of its share."""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    """Frames and sizes of the micro-batches."""
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    """Random changes of the samples."""
    scenes: SyntheticOptions = field(default_factory=SyntheticOptions)
    """What the scenes of the dataset `synthetic` are made of, in training and in evaluation."""
    layers: GroupOptions = field(default_factory=lambda: GroupOptions(1e-5, weight_decay=0.01, warmup=0.05))
    """Optimisation of everything but the mask head."""
    mask_head: GroupOptions = field(default_factory=lambda: GroupOptions(2e-5, weight_decay=0.02, warmup=0.15))
    """Optimisation of the mask head."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """What makes the steps. muon is for training from nothing: it updates the matrices of transformer layers by Muon,
    with updates of AdamW's size, and the rest by AdamW. Not with sharded weights."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm, all groups together."""
    camera_loss_weight: float | None = None
    """Weight of the loss on cameras beside that on depth. By default as the model's configuration says: 5 of the
    published network."""
    depth_loss_weight: float | None = None
    """Weight of the loss on depth; with 0 the depth head is not run in training. By default as the model's
    configuration says: 1 of the published network."""
    fov_loss_weight: float | None = None
    """Weight of the fields of view in the loss on cameras, beside rotation and translation. By default as the model's
    configuration says: 0.5 of the published network."""
    mask_form: Literal["release", "paper"] | None = None
    """The mask's form. By default as the model's configuration says; a mask of another form, or of a model without
    one, begins with random weights."""
    mask_strength: float | None = None
    """The mask's strength, from 0 (off, VGGT) to 1, wherever no schedule runs: in training without one, in evaluation,
    and of the trained model. By default as the model's configuration says."""
    mask_loss_weight: float | None = None
    """Weight of a loss on the mask head from labels of what moves. By default as the model's configuration says: 0 of
    the published network."""
    mask_hold_start: int | None = None
    """The mask's strength is 1 until this optimizer step. By default as the model's configuration says."""
    mask_hold_end: int | None = None
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
    seed: int = 0
    """Of the data and of random weights."""
    evaluation: EvaluationOptions = field(default_factory=EvaluationOptions)
    """Evaluation on held-out clips."""

    workers: int = 4
    """Processes that load data, for each training process."""
    scene_device: str = "cpu"
    """Where those scenes are rendered: cuda needs --workers 0, and pays for large images."""
    prefetch: int = 2
    """Micro-batches that each of them keeps ready."""
    checkpoint_every: int = 500
    """Steps from one checkpoint to the next; the last step always makes one."""
    keep_checkpoints: int = 2
    """How many of the newest checkpoints stay; 0 keeps all."""
    trackers: tuple[str, ...] = ("tensorboard",)
    """Where curves go: tensorboard, wandb, or whatever else accelerate knows; all takes those that are installed."""
    push_to_hub: str | None = None
    """Hub id to upload the trained model to, at the end."""
    private: bool = True
    """Whether that repository is private, if it does not exist yet."""

    def __post_init__(self) -> None:
        self.output = Path(self.output)
        if (self.model is None) == (self.network is None):
            raise OptionsError(
                "Give either --model (pretrained weights) or --network (a configuration, random weights)."
            )
        if not self.dataset:
            raise OptionsError("--dataset needs at least one folder or Hub id of clips, or `synthetic`.")
        if self.weights and len(self.weights) != len(self.dataset):
            raise OptionsError(f"--weights has {len(self.weights)} values for {len(self.dataset)} datasets.")
        for name, low, high in (
            ("steps", 1, MOST_STEPS),
            ("micro_batches", 1, 10**6),
            ("checkpoint_every", 1, MOST_STEPS),
            ("keep_checkpoints", 0, MOST_STEPS),
            ("prefetch", 1, 1000),
            ("workers", 0, 1000),
            ("seed", 0, LAST_SEED),
            ("mask_hold_start", 0, MOST_STEPS),
            ("mask_hold_end", 0, MOST_STEPS),
        ):
            if (value := getattr(self, name)) is not None:
                _check_range(name, value, low, high)
        if self.scene_device != "cpu" and self.workers:
            raise OptionsError(
                f"--scene-device {self.scene_device} needs --workers 0: a GPU renders in one process only."
            )
        if not self.max_grad_norm > 0:
            raise OptionsError(f"max_grad_norm must be positive, got {self.max_grad_norm}.")
        if (self.mask_hold_start is None) != (self.mask_hold_end is None):
            raise OptionsError("Give both --mask-hold-start and --mask-hold-end, or none.")
        if self.mask_strength is not None and not 0 <= self.mask_strength <= 1:
            raise OptionsError(f"mask_strength must lie in [0, 1], got {self.mask_strength}.")
        for name in ("camera_loss_weight", "depth_loss_weight", "fov_loss_weight", "mask_loss_weight"):
            if (weight := getattr(self, name)) is not None:
                _check_weight(name, weight)

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
            sources.append(_replaced(source, changes))
        return sources


def _replaced(source: SourceConfig, changes: dict[str, Any]) -> SourceConfig:
    return SourceConfig(**{f.name: changes.get(f.name, getattr(source, f.name)) for f in fields(source)})


# ---------------------------------------------------------------------------------------------------------------
# As JSON

_kinds = get_type_hints(Options)
REQUIRED = {f.name for f in fields(Options) if f.default is MISSING and f.default_factory is MISSING}


def to_json(options: Options) -> dict[str, Any]:
    """Options as JSON values, the same that `from_json` reads."""

    return plain(options)


def plain(value: Any) -> Any:
    """A value of an option as JSON has it."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


class _File(Record):
    model_config = ConfigDict(extra="forbid")

    # What run.json holds beside the options.
    versions: Any = None
    configuration: Any = None


# A file of options: any of them, in the types that they have in Python.
_fields: dict[str, Any] = {name: (kind, None) for name, kind in _kinds.items()}
OptionsFile = create_model("OptionsFile", __base__=_File, **_fields)


def from_json(path: Path) -> Options:
    """Options that `to_json` wrote; those that are missing have their defaults.

    Raises:
        OptionsError: no such file, no JSON object, or values that are no options or do not fit each other.
    """
    values = _values(path)
    if missing := sorted(REQUIRED - values.keys()):
        raise OptionsError(f"{path} lacks {', '.join(missing)}; add them.")
    return Options(**values)


def defaults_from_json(path: Path, replaced: Collection[str] = ()) -> Options:
    """What a file of options gives a command line to start from.

    Args:
        path: of the file.
        replaced: options of the file that the command line replaces by others.

    Returns:
        The options. Where the file lacks required ones, those are `tyro.MISSING`, and nothing has been checked yet.

    Raises:
        OptionsError: no such file, no JSON object, or values that are no options or do not fit each other.
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
    found = read_json(path, OptionsFile, error=OptionsError, remedy="correct it")
    return {name: getattr(found, name) for name in found.model_fields_set & _kinds.keys()}


def check_same_run(old: dict[str, Any], new: Options, configuration: dict[str, Any], path: Path) -> None:
    """Refuse to go on with a run under options, or with a network, that would compute something else.

    Args:
        old: the run's `run.json`.
        new: the options now.
        configuration: the network's values now, with plain numbers.
        path: where `old` was read, for the message.

    Raises:
        OptionsError: naming each option that differs.
    """
    now = json.loads(json.dumps(to_json(new)))
    compared = [(name, old.get(name), now[name]) for name in now if name not in MAY_CHANGE]
    network, network_now = old.get("configuration", {}), json.loads(json.dumps(configuration))
    for name in sorted({*network, *network_now}):
        compared.append((f"the network's {name}", network.get(name), network_now.get(name)))
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
