"""The training run: data to steps, steps to checkpoints, the same in one process or in many."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import torch
from accelerate.utils import DistributedType, gather_object, set_seed
from evaluator.metrics.trajectories import evo_core
from torch import Tensor
from torch.distributed.tensor import DTensor
from transformers.utils import logging as transformers_logging

from page4d_hf import Page4DConfig, Page4DImageProcessor, Page4DModel
from page4d_hf.clips.augmentation import NO_AUGMENTATION
from page4d_hf.clips.batches import MicroBatches, micro_batch_loader
from page4d_hf.clips.reading import split_names
from page4d_hf.clips.sampling import SYNTHETIC, SamplingConfig, SourceConfig
from page4d_hf.errors import ClipError, Page4DError
from page4d_hf.model_card import OF_CARD, data_name
from page4d_hf.utils.folders import make_durable
from page4d_hf.utils.programs import command
from page4d_hf.utils.progress import progress_bar

from .checkpoints import (
    STATE,
    History,
    RunFolderError,
    enter_run_folder,
    load_weights_apart,
    quiet_threads,
    read_history,
    save_checkpoint,
    save_model,
    telling_of_a_full_disk,
    what_is_left,
)
from .held_out import LABELS, TRIVIAL, clip_figures, mean_figures
from .hub import create_repository, push
from .machine import fastest_attention, make_accelerator, start_trackers
from .network import sampling_for, starting_network, starting_processor
from .optimizers import make_optimizers
from .options import AUTO, Options, OptionsError, to_json
from .parameters import freeze_all_but, masked_stage


class TrainingError(Page4DError):
    """A training that cannot go on."""

    in_all_processes = True


class Finetuning:
    """A run of training.

    The state is a step count, the weights, the optimizers' moments and the learning rates. All else follows from the
    options and the step: which clips come, how they are augmented, how strong the mask is.
    """

    def __init__(self, options: Options) -> None:
        set_seed(options.seed)  # random weights are the same in every process
        self.accelerator = accelerator = make_accelerator(options)
        # What `accelerate launch` was told decides what is computed, and so belongs to the run's options.
        self.options = options = replace(options, mixed_precision=accelerator.mixed_precision)
        micro_batches = options.gradient_accumulation_steps
        if micro_batches % accelerator.num_processes:
            raise OptionsError(
                f"--gradient-accumulation-steps {micro_batches} cannot be shared by {accelerator.num_processes} "
                f"processes; set it to a multiple of {accelerator.num_processes}."
            )
        self.accumulate = micro_batches // accelerator.num_processes
        if options.optimizer == "muon" and accelerator.distributed_type == DistributedType.FSDP:
            raise OptionsError("--optimizer muon needs whole matrices, and FSDP shards them; use adamw.")
        if options.optimizer == "muon" and accelerator.mixed_precision == "fp16":
            # Each optimizer's step would divide the gradients by the factor of fp16, and change it, for itself.
            raise OptionsError("--optimizer muon is a pair of optimizers, which fp16 cannot scale; use bf16.")
        if options.attn_implementation == AUTO:
            fastest = fastest_attention(accelerator.device, accelerator.mixed_precision)
            self.options = options = replace(options, attn_implementation=fastest)
        network = starting_network(options)
        sampling = sampling_for(options.sampling, network.config, options.model)
        width, patch_size = sampling.sizes
        self.image_processor = Page4DImageProcessor.from_dict(
            starting_processor(network.config, options.model).to_dict()
            | {"size": {"height": width, "width": width}, "patch_size": patch_size}
        )
        train = options.train or masked_stage(network.config)
        # What the options leave to the model is the run's from here on.
        self.options = options = replace(options, sampling=sampling, train=train)
        self.trained = freeze_all_but(network, train)
        if not self.trained:
            raise OptionsError("--train leaves nothing to be trained.")
        self.trained_count = sum(parameter.numel() for parameter in self.trained.values())
        if options.gradient_checkpointing:
            enable_checkpointing(network)
        if not accelerator.is_main_process:
            transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()
        self._making: dict[str, Any] = {
            "scenes": options.scenes,
            "scene_device": self._scene_device(),
            "labels": learned_from(network.config),
        }
        self.data = MicroBatches(options.sources(), sampling, options.augmentation, options.seed, **self._making)
        self.held_out = self._held_out_clips()

        # One process begins the folder, so that the others find it begun.
        with accelerator.main_process_first():
            self.step = enter_run_folder(options, configuration_of(network))
        names = [source.name or data_name(source.path) for source in options.sources()]
        network.config.trained_on = [*network.config.trained_on, *names]  # for its card
        found: list[int] = gather_object([self.step])
        if len(set(found)) > 1:
            raise OptionsError(
                f"Processes find different checkpoints in {options.output} (after steps "
                f"{', '.join(map(str, sorted(set(found))))}): --output must be on storage that all machines share."
            )
        # One call: FSDP's sharding replaces parameters, and the optimizers have to follow.
        optimizers, schedules = make_optimizers(self.trained, options, accelerator.device)
        self.model, *prepared = accelerator.prepare(network, *optimizers, *schedules)
        self.optimizers, self.schedules = prepared[: len(optimizers)], prepared[len(optimizers) :]
        load_weights_apart(accelerator)
        if self.step:
            folder = options.output / f"checkpoint-{self.step}"
            try:
                accelerator.load_state(str(folder / STATE))
            # What a damaged file raises depends on where it is damaged: a dozen kinds of exceptions.
            except Exception as error:
                raise RunFolderError(
                    f"{folder} cannot be read ({type(error).__name__}: {' '.join(str(error).split())}). Remove it to "
                    "go on from the checkpoint before it, or from the start if there is none."
                ) from error
        self.network: Page4DModel = accelerator.unwrap_model(self.model, keep_torch_compile=False)

    def _scene_device(self) -> torch.device:
        """Where synthetic scenes are rendered; a kind of device without a number is that of this process."""
        try:
            wanted, own = torch.device(self.options.scene_device), self.accelerator.device
            device = own if wanted.type == own.type and wanted.index is None else wanted
            torch.empty(1, device=device)
        except (RuntimeError, AssertionError) as error:
            raise OptionsError(f"--scene-device {self.options.scene_device} cannot be used: {error}") from error
        return device

    def _held_out_clips(self) -> MicroBatches | None:
        options, evaluation = self.options, self.options.evaluation
        if not evaluation.steps:
            return None
        evo_core()  # refused now if it is missing, not at the first evaluation
        sampling = SamplingConfig(
            frames_min=evaluation.frames,
            frames_max=evaluation.frames,
            frame_budget=max(options.sampling.frame_budget, evaluation.frames),
            width=options.sampling.width,
            aspect_min=evaluation.aspect,
            aspect_max=evaluation.aspect,
            patch_size=options.sampling.patch_size,
        )
        sources = [
            replace(source, depth_percentile=100)  # what is scored is all that is known
            for each in options.held_out_sources()
            if each.weight > 0 and (source := self._held_out_source(each)) is not None
        ]
        if not sources:
            return None
        try:
            return MicroBatches(sources, sampling, NO_AUGMENTATION, evaluation.seed, **self._making)
        except ClipError as error:
            raise ClipError(
                f"The held-out clips cannot be used, of which --evaluation.frames {evaluation.frames} are taken each: "
                f"{error}"
            ) from error

    def _held_out_source(self, source: SourceConfig) -> SourceConfig | None:
        """A source with the split to evaluate on; `None` if it is trained on and has none."""
        if source.path == SYNTHETIC:
            return source
        splits = split_names(source.path)
        if source.split in splits:
            return source
        if not self.options.held_out:
            return None
        if len(splits) > 1:
            return source  # reading it will tell which splits there are
        trained = ((os.path.realpath(each.path), each.split) for each in self.options.sources())
        if (os.path.realpath(source.path), splits[0]) in trained:
            raise OptionsError(
                f"--held-out {source.path} has no split {source.split}, only {splits[0]}, which is trained on; name "
                "other clips."
            )
        return replace(source, split=splits[0])

    # -----------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Train to the last step, evaluate, and write the model."""
        options = self.options
        if options.push_to_hub and self.accelerator.is_main_process:
            # What fails, fails before the training.
            self.repository = create_repository(
                options.hub_model_id or options.output.resolve().name, options.hub_private_repo
            )
        # The history, the curves: all that is written beside the checkpoints, which have their own message.
        cannot = f"The run in {options.output} cannot write its files"
        with telling_of_a_full_disk(cannot, options.output), quiet_threads():
            self._train()
            self._finish()
            self.accelerator.end_training()

    def _train(self) -> None:
        """Train from the step where the run is to the last, with evaluations and checkpoints on the way."""
        accelerator, options = self.accelerator, self.options
        history = History(options.output, self.step) if accelerator.is_main_process else None
        start_trackers(accelerator, options.output, self.step, _flat(to_json(options)))
        accelerator.print(
            f"{options.output}: {self.trained_count:,} of {sum(p.numel() for p in self.network.parameters()):,} "
            f"parameters are trained, {options.gradient_accumulation_steps} micro-batches a step on "
            f"{accelerator.num_processes} process(es) of {accelerator.device}"
            + (f", from step {self.step} on." if self.step else ".")
        )
        for note in self.data.notes:
            accelerator.print(note)
        for note in self.held_out.notes if self.held_out is not None else ():
            accelerator.print(f"Held out: {note}")
        if self.held_out is None and options.evaluation.steps:
            accelerator.print(
                "No clips are held out: none of the datasets has a split `validation`. Nothing is evaluated; name some "
                "with --held-out."
            )
        batches = micro_batch_loader(
            self.data,
            start=self.step * options.gradient_accumulation_steps,
            process_index=accelerator.process_index,
            num_processes=accelerator.num_processes,
            micro_batches=options.gradient_accumulation_steps,
            workers=options.dataloader_num_workers,
            prefetch=options.dataloader_prefetch_factor,
            pin_memory=accelerator.device.type == "cuda",
        )
        with (
            closing(history) if history is not None else nullcontext(),
            progress_bar(shown=accelerator.is_local_main_process) as report,
        ):
            report("training", self.step, options.max_train_steps)
            while self.step < options.max_train_steps:
                started = time.perf_counter()
                entry = self._step([next(batches) for _ in range(self.accumulate)], time.perf_counter() - started)
                self.step += 1
                entry = {"step": self.step, **entry, "seconds": round(time.perf_counter() - started, 4)}
                if history is not None:
                    history.add(entry)
                accelerator.log({f"train/{k}": v for k, v in entry.items() if isinstance(v, float)}, step=self.step)
                report("training", self.step, options.max_train_steps, f"loss {entry['loss']:.4f}")
                last = self.step == options.max_train_steps
                every = options.evaluation.steps
                evaluates = self.held_out is not None and (last or self.step % every == 0)
                saves = last or self.step % options.checkpointing_steps == 0
                if evaluates or saves:
                    self._check_weights()
                if evaluates:
                    self._evaluate(history)
                if saves:
                    if history is not None:
                        history.make_durable()
                    save_checkpoint(
                        accelerator,
                        self.model,
                        options.output,
                        self.step,
                        processor=self.image_processor,
                        keep=options.checkpoints_total_limit,
                    )

    def _step(self, batches: list[dict[str, Any]], waited: float) -> dict[str, Any]:
        """One optimizer step on this process's micro-batches; figures are means over all processes."""
        accelerator, options = self.accelerator, self.options
        self.model.train()
        # The mask's strength follows the count of optimizer steps, which is saved with the weights.
        self.network.set_training_step(self.step)
        sums: dict[str, Tensor] = {}
        losses: list[Tensor] = []  # of the micro-batches
        skips = [batch["skips"] for batch in batches]
        sums["skips"] = torch.tensor(float(sum(map(len, skips))), device=accelerator.device)
        moving = sum("motion_mask" in batch["labels"] for batch in batches) / len(batches)
        sums["moving"] = torch.tensor(moving, device=accelerator.device)
        for number, batch in enumerate(batches):
            frames = batch["pixel_values"].new_tensor(
                batch["pixel_values"].shape[:2].numel() * accelerator.num_processes
            )
            sums["frames"] = sums.get("frames", 0.0) + frames.to(accelerator.device)
            last = number == len(batches) - 1
            # Gradients are exchanged between processes once a step, with the last micro-batch.
            with nullcontext() if last else accelerator.no_sync(self.model):
                output = self.model(
                    batch["pixel_values"].to(accelerator.device, non_blocking=True), labels=self._labels(batch)
                )
                accelerator.backward(output.loss / len(batches))
            losses.append(output.loss.detach())
            for name, value in {"loss": output.loss, **output.loss_terms}.items():
                sums[name] = sums.get(name, 0.0) + value.detach() / len(batches)
        norm = accelerator.clip_grad_norm_(self.model.parameters(), options.max_grad_norm)
        means = accelerator.reduce(torch.stack([value.float() for value in sums.values()]), "mean").tolist()
        entry: dict[str, Any] = dict(zip(sums, means, strict=True))
        skipped = self._skipped(skips) if entry.pop("skips") else []
        share, mask = entry.pop("moving"), entry.pop("mask", None)
        if share and mask is not None:  # else it is of nothing, and not of a mask head that is always right
            entry["mask"] = mask / share
        # Before a step that would spoil the weights. All processes see the same figures, and stop together.
        if not math.isfinite(entry["loss"]):
            self._stop(f"loss is {entry['loss']}", batches, losses)
        # fp16 meets infinite gradients now and then, makes no step then, and goes on with a smaller factor.
        if norm is not None and not math.isfinite(norm) and accelerator.mixed_precision != "fp16":
            self._stop(f"gradient's norm is {float(norm)}", batches, losses)
        # Groups of one name have one rate, in whichever optimizer they are.
        rates = {
            f"learning_rate/{g['name']}": float(g["lr"])
            for optimizer in self.optimizers
            for g in optimizer.param_groups
        }
        for stepping in (*self.optimizers, *self.schedules):
            stepping.step()
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        entry |= rates | {"data_seconds": round(waited, 4), "frames": round(entry["frames"])}
        if norm is not None and math.isfinite(norm):  # JSON has no infinity
            entry["gradient_norm"] = float(norm)
        if self.network.aggregator.mask_schedule is not None:
            entry["mask_strength"] = float(self.network.aggregator.mask_schedule())
        return entry | ({"skipped": skipped} if skipped else {})

    def _skipped(self, skips: list[list[str]]) -> list[str]:
        """Why clips of all processes' micro-batches were replaced; prints it. All processes call it with their own."""
        everyone: list[list[list[str]]] = gather_object([skips])
        # Micro-batch m of a step belongs to process m modulo their number.
        skipped = [sentence for turn in zip(*everyone, strict=True) for some in turn for sentence in some]
        if self.accelerator.is_main_process:
            for sentence in skipped:
                print(f"skipped: {sentence}", flush=True)
        return skipped

    def _labels(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        return {name: value.to(self.accelerator.device, non_blocking=True) for name, value in batch["labels"].items()}

    def _stop(self, what: str, batches: list[dict[str, Any]], losses: list[Tensor]) -> NoReturn:
        """Say which clips spoil a step, in all processes alike."""
        clips: list[str] = []
        for batch, loss in zip(batches, losses, strict=True):
            if not torch.isfinite(loss):
                clips += self._spoiling(batch) or batch["clip_ids"]
        everyone: list[str] = gather_object(clips)
        if not everyone:  # each loss by itself is finite, and their gradients are not
            everyone = gather_object([clip for batch in batches for clip in batch["clip_ids"]])
        folder = self.options.output
        raise TrainingError(
            f"Step {self.step + 1} was not made, because its {what}. Clips: {'; '.join(everyone)}. "
            f"{what_is_left(folder)}. Look at those clips, or lower the learning rate, and start another run; with "
            f"{command('--model', folder / 'checkpoint-N')} it begins where this one was."
        )

    @torch.no_grad()
    def _spoiling(self, batch: dict[str, Any]) -> list[str]:
        """Those clips of a micro-batch whose loss is not finite by itself."""
        if self.accelerator.distributed_type == DistributedType.FSDP:
            return []  # sharded layers compute in all processes or in none
        found = []
        for i, clip in enumerate(batch["clip_ids"]):
            labels = {name: value[i : i + 1] for name, value in self._labels(batch).items()}
            output = self.network(batch["pixel_values"][i : i + 1].to(self.accelerator.device), labels=labels)
            if not torch.isfinite(output.loss):
                found.append(clip)
        return found

    def _check_weights(self) -> None:
        """Refuse weights that a step made too large to be used: their loss is only seen with the next one."""
        trained = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        if not math.isfinite(norm_of(trained)):
            raise TrainingError(
                f"The weights after step {self.step} are not finite: the learning rate is too high. "
                f"{what_is_left(self.options.output)}."
            )

    # -----------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _evaluate(self, history: History | None) -> None:
        assert self.held_out is not None
        accelerator, options = self.accelerator, self.options
        self.model.eval()
        clips: list[dict[str, float] | None] = []
        count = options.evaluation.micro_batches
        batches = micro_batch_loader(
            self.held_out,
            process_index=accelerator.process_index,
            num_processes=accelerator.num_processes,
            micro_batches=accelerator.num_processes,
            workers=min(options.dataloader_num_workers, 2),
        )
        skips: list[list[str]] = []
        # Rounded up: with sharded weights all processes have to make the same calls. What is over does not count.
        for number in range(-(-count // accelerator.num_processes)):
            batch = next(batches)
            labels = self._labels(batch)
            # The strength that the model is used with afterwards, whatever that of training is at this step.
            output = self.model(batch["pixel_values"].to(accelerator.device), labels=labels)
            counts = number * accelerator.num_processes + accelerator.process_index < count
            if counts:
                clips += clip_figures(output, labels, tuple(batch["pixel_values"].shape[-2:]))
            skips.append(batch["skips"] if counts else [])
        skipped = self._skipped(skips)
        clips = gather_object(clips)
        figures, left_out = mean_figures(clips), clips.count(None)
        accelerator.log({f"held_out/{name}": value for name, value in figures.items()}, step=self.step)
        if history is not None:
            notes = {name: count for name, count in (("left_out", left_out), ("skipped", skipped)) if count}
            history.add({"step": self.step, "held_out": figures} | notes)
            without = f"; {left_out} clips left out, of which something is not finite" if left_out else ""
            print(f"step {self.step}, held out: {_sentence(figures)}{without}", flush=True)
        self.model.train()

    def _finish(self) -> None:
        """Write the trained model to the run's folder, and upload it if asked to."""
        accelerator, options = self.accelerator, self.options
        with telling_of_a_full_disk(f"The model could not be written to {options.output}", options.output):
            save_model(accelerator, self.model, options.output, self.image_processor)
            if accelerator.is_main_process:
                make_durable(options.output)
        if accelerator.is_main_process:
            if self.held_out is not None:
                print_table(options.output)
            if options.push_to_hub:
                push(options.output, self.repository)
        accelerator.wait_for_everyone()


@torch.no_grad()
def norm_of(tensors: Sequence[Tensor]) -> float:
    """The norm of all of them together, be they sharded or whole."""
    norm = torch.nn.utils.get_total_norm(tensors)
    return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)


def configuration_of(network: Page4DModel) -> dict[str, Any]:
    """The values of a network's configuration, those of the library for any network and those of its card left out."""
    values = network.config.to_dict()
    own = {name: values[name] for name in Page4DConfig.__annotations__ if name not in OF_CARD}
    return {**own, **own.pop("initialization"), **own.pop("training")}


def learned_from(config: Page4DConfig) -> list[str]:
    """The columns of clips that a network's loss learns from."""
    loss = config.training
    weights = {
        "depth": config.enable_depth * loss.depth_loss_weight + config.enable_point * loss.point_loss_weight,
        "extrinsics": config.enable_camera * loss.camera_loss_weight,
        "motion_mask": 0.0 if config.mask_form is None else loss.mask_loss_weight,
    }
    if not any(weights.values()):
        raise OptionsError(
            "The loss has no part that weighs anything: a head of the network must be enabled and its loss have a "
            "weight above 0 (--camera-loss-weight, --depth-loss-weight, --mask-loss-weight)."
        )
    return [name for name, weight in weights.items() if weight]


def enable_checkpointing(network: Page4DModel) -> None:
    """Compute activations twice instead of keeping them, in the network's layers and dense heads.

    The non-reentrant form is what works where inputs need no gradient, as behind frozen layers.
    """
    # transformers 5.23 renames it.
    enable = getattr(network, "activation_checkpointing_enable", network.gradient_checkpointing_enable)
    name = "activation" if enable != network.gradient_checkpointing_enable else "gradient"
    enable(**{f"{name}_checkpointing_kwargs": {"use_reentrant": False}})


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested options as one level of plain values, which is what trackers take."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value if isinstance(value, int | float | str | bool) else str(value)
    return flat


def _sentence(figures: dict[str, float]) -> str:
    return ", ".join(
        f"{name} {value:.4f}"
        + (f" ({trivial:.4f})" if (trivial := figures.get(f"{TRIVIAL}/{name}")) is not None else "")
        for name, value in figures.items()
        if not name.startswith(TRIVIAL)
    )


def print_table(folder: Path) -> None:
    """Print the last evaluation of a run beside the trivial predictors (median depth, still camera)."""
    from rich.console import Console
    from rich.table import Table

    evaluations = [(line.step, line.held_out) for line in read_history(folder) if line.held_out is not None]
    if not evaluations:
        return
    step, figures = evaluations[-1]
    table = Table(title=f"Held-out clips after {step} steps")
    for column in ("", "model", "trivial"):
        table.add_column(column, justify="left" if not column else "right")
    for name, label in LABELS.items():
        if name in figures:
            trivial = figures.get(f"{TRIVIAL}/{name}")
            table.add_row(label, f"{figures[name]:.4f}", "" if trivial is None else f"{trivial:.4f}")
    Console().print(table)
