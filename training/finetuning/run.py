"""The training run: data to steps, steps to checkpoints, the same in one process or in many."""

from __future__ import annotations

import json
import math
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, set_seed
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from tqdm.auto import tqdm
from transformers.utils import logging as transformers_logging

from page4d_hf import Page4DConfig, Page4DModel
from page4d_hf.clips.augmentation import NO_AUGMENTATION
from page4d_hf.clips.batches import MicroBatches, micro_batch_loader
from page4d_hf.clips.sampling import SYNTHETIC, SamplingConfig
from page4d_hf.errors import ClipError, Page4DError

from .checkpoints import (
    STATE,
    History,
    RunFolderError,
    enter_run_folder,
    is_disk_error,
    load_weights_apart,
    make_durable,
    save_checkpoint,
    save_model,
)
from .held_out import LABELS, TRIVIAL, Means, add_figures
from .options import Options, OptionsError, to_json
from .parameters import freeze_all_but, parameter_groups, schedule_of


class TrainingError(Page4DError):
    """A training that cannot go on."""


class Finetuning:
    """A run of training.

    The state is a step count, the weights, AdamW's moments and the learning rates. All else follows from the options
    and the step: which clips come, how they are augmented, how strong the mask is.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        set_seed(options.seed)  # random weights are the same in every process
        self.accelerator = accelerator = Accelerator(
            # Without this, processes on CPUs take themselves for single ones unless MPI started them.
            cpu=not torch.accelerator.is_available(),
            mixed_precision=options.mixed_precision,
            log_with=list(options.trackers) or None,
            project_dir=str(options.output),
            step_scheduler_with_optimizer=False,
        )
        if options.micro_batches % accelerator.num_processes:
            raise OptionsError(
                f"--micro-batches {options.micro_batches} cannot be shared by {accelerator.num_processes} processes; "
                f"set it to a multiple of {accelerator.num_processes}."
            )
        self.accumulate = options.micro_batches // accelerator.num_processes
        network = self._network()
        sampling = options.sampling
        if sampling.patch_size != network.config.patch_size:
            raise OptionsError(
                f"--sampling.patch-size is {sampling.patch_size}, the model's is {network.config.patch_size}."
            )
        self.trains_all = freeze_all_but(network, options.train)
        groups, group_options = parameter_groups(self.trains_all, options.layers, options.mask_head)
        if not groups:
            raise OptionsError("--train leaves nothing to be trained.")
        self.trained_count = sum(parameter.numel() for parameter in self.trains_all.values())
        if options.gradient_checkpointing:
            enable_checkpointing(network)
        if not accelerator.is_main_process:
            transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()
        self.data = MicroBatches(options.sources(), sampling, options.augmentation, options.seed)
        self.held_out = self._held_out_clips()

        # One process begins the folder, so that the others find it begun.
        with accelerator.main_process_first():
            self.step = enter_run_folder(options)
        accelerator.wait_for_everyone()
        # One call: FSDP's sharding replaces parameters, and the optimizer has to follow.
        optimizer = torch.optim.AdamW(groups, fused=accelerator.device.type == "cuda")
        schedule = LambdaLR(optimizer, [schedule_of(group, options.steps) for group in group_options])
        self.model, self.optimizer, self.schedule = accelerator.prepare(network, optimizer, schedule)
        load_weights_apart(accelerator)
        if self.step:
            folder = options.output / f"checkpoint-{self.step}"
            try:
                accelerator.load_state(str(folder / STATE))
            except (OSError, RuntimeError, ValueError, KeyError) as error:
                raise RunFolderError(f"{folder} cannot be read ({error}); remove it to go on from an earlier one.") from error
        self.network: Page4DModel = accelerator.unwrap_model(self.model, keep_torch_compile=False)

    def _network(self) -> Page4DModel:
        options = self.options
        changes: dict[str, Any] = {}
        if options.mask_hold_start is not None:
            changes = {"mask_hold_start": options.mask_hold_start, "mask_hold_end": options.mask_hold_end}
        if options.network is not None:
            try:
                values = json.loads(options.network.read_text(encoding="utf-8"))
                config = Page4DConfig(**(values | changes))
            except (OSError, ValueError, TypeError) as error:
                raise OptionsError(f"--network {options.network} is no configuration of Page4D: {error}") from error
            return Page4DModel(config)
        try:
            return Page4DModel.from_pretrained(options.model, dtype=torch.float32, **changes)
        except OSError as error:
            raise OptionsError(
                f"--model {options.model} cannot be loaded: {' '.join(str(error).split())} `page4d pull mask --output "
                "page4d` fetches the published weights, `page4d convert` turns a downloaded file into such a folder."
            ) from error

    def _held_out_clips(self) -> MicroBatches | None:
        options, evaluation = self.options, self.options.evaluation
        if not evaluation.every:
            return None
        sampling = SamplingConfig(
            frames_min=evaluation.frames,
            frames_max=evaluation.frames,
            frame_budget=max(options.sampling.frame_budget, evaluation.frames),
            width=options.sampling.width,
            aspect_min=evaluation.aspect,
            aspect_max=evaluation.aspect,
            patch_size=options.sampling.patch_size,
        )
        sources = options.held_out_sources()
        if not options.held_out:
            # Sources without a validation split are trained on all the same.
            sources = [source for source in sources if source.path == SYNTHETIC or _can_read(source)]
        return MicroBatches(sources, sampling, NO_AUGMENTATION, evaluation.seed) if sources else None

    # -----------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Train to the last step, evaluate, and write the model.

        Raises:
            TrainingError: a loss or gradient that is not finite.
            ClipError: data that no micro-batch can be made of.
            RunFolderError: a checkpoint that cannot be written.
        """
        accelerator, options = self.accelerator, self.options
        history = History(options.output, self.step) if accelerator.is_main_process else None
        accelerator.init_trackers(
            "logs",
            config=_flat(to_json(options)),
            init_kwargs={"tensorboard": {"purge_step": self.step + 1}} if "tensorboard" in options.trackers else {},
        )
        accelerator.print(
            f"{options.output}: {self.trained_count:,} of {sum(p.numel() for p in self.network.parameters()):,} "
            f"parameters are trained, {options.micro_batches} micro-batches a step on {accelerator.num_processes} "
            f"process(es) of {accelerator.device}" + (f", from step {self.step} on." if self.step else ".")
        )
        if self.held_out is None and options.evaluation.every:
            accelerator.print(
                "No clips are held out: none of the datasets has a split `validation`. Nothing is evaluated; name some "
                "with --held-out."
            )
        batches = micro_batch_loader(
            self.data,
            start=self.step * options.micro_batches,
            process_index=accelerator.process_index,
            num_processes=accelerator.num_processes,
            micro_batches=options.micro_batches,
            workers=options.workers,
            prefetch=options.prefetch,
            pin_memory=accelerator.device.type == "cuda",
        )
        bar = tqdm(
            total=options.steps, initial=self.step, desc="training", disable=not accelerator.is_local_main_process
        )
        try:
            while self.step < options.steps:
                started = time.perf_counter()
                entry = self._step([next(batches) for _ in range(self.accumulate)], time.perf_counter() - started)
                self.step += 1
                entry = {"step": self.step, **entry, "seconds": round(time.perf_counter() - started, 4)}
                if history is not None:
                    history.add(entry)
                accelerator.log({f"train/{k}": v for k, v in entry.items() if isinstance(v, float)}, step=self.step)
                bar.set_postfix(loss=f"{entry['loss']:.4f}", refresh=False)
                bar.update()
                last = self.step == options.steps
                every = options.evaluation.every
                if self.held_out is not None and (last or self.step % every == 0):
                    self._evaluate(history)
                if last or self.step % options.checkpoint_every == 0:
                    save_checkpoint(
                        accelerator, self.model, options.output, self.step, options.keep_checkpoints
                    )
        finally:
            bar.close()
            if history is not None:
                history.close()
        self._finish()
        accelerator.end_training()

    def _step(self, batches: list[dict[str, Any]], waited: float) -> dict[str, Any]:
        """One optimizer step on this process's micro-batches; figures are means over all processes."""
        accelerator, options = self.accelerator, self.options
        self.model.train()
        # The mask's strength follows the count of optimizer steps, which is saved with the weights.
        self.network.set_training_step(self.step)
        sums: dict[str, Tensor] = {}
        skipped: list[str] = []
        frames = 0
        for number, batch in enumerate(batches):
            skipped += batch["skips"]
            frames += batch["pixel_values"].shape[0] * batch["pixel_values"].shape[1]
            last = number == len(batches) - 1
            # Gradients are exchanged between processes once a step, with the last micro-batch.
            with nullcontext() if last else accelerator.no_sync(self.model):
                output = self.model(
                    batch["pixel_values"].to(accelerator.device, non_blocking=True), labels=self._labels(batch)
                )
                self._check_finite(output.loss, output.loss_terms, batch["clip_ids"])
                accelerator.backward(output.loss / len(batches))
            for name, value in {"loss": output.loss.detach(), **output.loss_terms}.items():
                sums[name] = sums.get(name, 0.0) + value.detach() / len(batches)
        norm = accelerator.clip_grad_norm_(self.model.parameters(), options.max_grad_norm)
        if norm is not None and accelerator.mixed_precision != "fp16":  # which meets infinity now and then, and goes on
            self._check_finite(norm, {}, [clip for batch in batches for clip in batch["clip_ids"]], "gradient")
        rates = {f"learning_rate/{g['name']}": float(g["lr"]) for g in self.optimizer.param_groups}
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        means = accelerator.reduce(torch.stack([value.float() for value in sums.values()]), "mean").tolist()
        entry: dict[str, Any] = dict(zip(sums, means, strict=True))
        entry |= rates | {"data_seconds": round(waited, 4), "frames": frames}
        if norm is not None:
            entry["gradient_norm"] = float(norm)
        if self.network.aggregator.mask_schedule is not None:
            entry["mask_strength"] = float(self.network.aggregator.mask_schedule())
        if skipped:
            entry["skipped"] = skipped
            for sentence in skipped:
                tqdm.write(f"skipped: {sentence}")
        return entry

    def _labels(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        return {name: value.to(self.accelerator.device, non_blocking=True) for name, value in batch["labels"].items()}

    def _check_finite(self, value: Tensor, terms: dict[str, Tensor], clip_ids: list[str], what: str = "loss") -> None:
        """Stop before a step that would spoil the weights. Every process looks at its own and all stop."""
        value = value.detach()
        if math.isfinite(float(value)):
            return
        broken = [name for name, term in terms.items() if not math.isfinite(float(term))]
        raise TrainingError(
            f"The {what} of step {self.step + 1} is {float(value)}"
            + (f" (terms: {', '.join(broken)})" if broken else "")
            + f", on the clips {'; '.join(clip_ids)}. Nothing was changed by it: the newest checkpoint in "
            f"{self.options.output} is intact. Look at those clips, or lower the learning rate."
        )

    # -----------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _evaluate(self, history: History | None) -> None:
        assert self.held_out is not None
        accelerator, options = self.accelerator, self.options
        self.model.eval()
        means = Means()
        count = options.evaluation.micro_batches
        batches = micro_batch_loader(
            self.held_out,
            process_index=accelerator.process_index,
            num_processes=accelerator.num_processes,
            micro_batches=accelerator.num_processes,
            workers=min(options.workers, 2),
        )
        # Rounded up: with sharded weights all processes have to make the same calls.
        for _ in range(-(-count // accelerator.num_processes)):
            batch = next(batches)
            labels = self._labels(batch)
            # The strength that the model is used with afterwards, whatever that of training is at this step.
            output = self.model(batch["pixel_values"].to(accelerator.device), labels=labels)
            add_figures(means, output, labels, tuple(batch["pixel_values"].shape[-2:]))
        everyone = gather_object([means.sums])
        total = Means()
        for sums in everyone:
            one = Means()
            one.sums = sums
            total.merge([one])
        figures = total.result()
        accelerator.log({f"held_out/{name}": value for name, value in figures.items()}, step=self.step)
        if history is not None:
            history.add({"step": self.step, "held_out": figures})
            tqdm.write(f"step {self.step}, held out: " + _sentence(figures))
        self.model.train()

    def _finish(self) -> None:
        """Write the trained model to the run's folder, and upload it if asked to."""
        accelerator, options = self.accelerator, self.options
        try:
            save_model(accelerator, self.model, options.output)
            if accelerator.is_main_process:
                make_durable(options.output, deep=False)
        except Exception as error:
            if not is_disk_error(error):
                raise
            raise RunFolderError(
                f"The model could not be written to {options.output} ({error}); checkpoint-{self.step} is intact. Make "
                "room and run the same command again."
            ) from error
        if accelerator.is_main_process:
            if self.held_out is not None:
                print_table(options.output)
            if options.push_to_hub:
                push(options.output, options.push_to_hub, options.private)
        accelerator.wait_for_everyone()


def enable_checkpointing(network: Page4DModel) -> None:
    """Compute activations twice instead of keeping them, in the network's layers and dense heads.

    The non-reentrant form is what works where inputs need no gradient, as behind frozen layers.
    """
    # transformers 5.23 renames it.
    enable = getattr(network, "activation_checkpointing_enable", network.gradient_checkpointing_enable)
    name = "activation" if enable != network.gradient_checkpointing_enable else "gradient"
    enable(**{f"{name}_checkpointing_kwargs": {"use_reentrant": False}})


def _can_read(source: Any) -> bool:
    """Whether a source has the split that it names."""
    from page4d_hf.clips.reading import load_clips

    try:
        load_clips(source.path, source.split, streaming=True)
    except ClipError:
        return False
    return True


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
        f"{name} {value:.4f}" + (f" ({trivial:.4f})" if (trivial := figures.get(f"{TRIVIAL}/{name}")) is not None else "")
        for name, value in figures.items()
        if not name.startswith(TRIVIAL)
    )


def print_table(folder: Path) -> None:
    """Print the last evaluation of a run beside the trivial predictors (median depth, still camera)."""
    from rich.console import Console
    from rich.table import Table

    from .checkpoints import HISTORY_FILE

    entries = [json.loads(line) for line in (folder / HISTORY_FILE).read_text(encoding="utf-8").splitlines()]
    evaluations = [entry for entry in entries if "held_out" in entry]
    if not evaluations:
        return
    figures = evaluations[-1]["held_out"]
    table = Table(title=f"Held-out clips after {evaluations[-1]['step']} steps")
    for column in ("", "model", "trivial"):
        table.add_column(column, justify="left" if not column else "right")
    for name, label in LABELS.items():
        if name in figures:
            trivial = figures.get(f"{TRIVIAL}/{name}")
            table.add_row(label, f"{figures[name]:.4f}", "" if trivial is None else f"{trivial:.4f}")
    Console().print(table)


def push(folder: Path, repository: str, private: bool) -> None:
    """Upload the model in a folder, without its checkpoints, to the Hub."""
    from huggingface_hub import HfApi

    api = HfApi()
    api.create_repo(repository, private=private, exist_ok=True)
    api.upload_folder(
        repo_id=repository,
        folder_path=folder,
        ignore_patterns=["checkpoint-*", "logs/*", "*.partial"],
        commit_message="Upload a trained PAGE-4D",
    )


__all__ = ["Finetuning", "TrainingError", "print_table", "push"]
