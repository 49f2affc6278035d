"""The loss and its gradients, sharded over processes by Accelerate's own code, beside those of the whole network.

To be started by `accelerate launch --config_file training/accelerate/fsdp.yaml`, which puts that file's settings into
the environment. Accelerate's `prepare` leaves CPUs out of FSDP, so this calls what it calls on a GPU. The first process
writes what it found to results.json in the folder that is its argument.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import DistributedType
from accelerate.utils.fsdp_utils import fsdp2_prepare_model
from finetuning.checkpoints import save_model
from finetuning.machine import sharding
from finetuning.parameters import freeze_all_but
from finetuning.run import enable_checkpointing, norm_of
from small_training import MIDDLE, labels_of, small_network
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from page4d_hf import Page4DModel
from page4d_hf.weights.loading import image_processor_for


def network() -> Page4DModel:
    model = small_network()
    freeze_all_but(model, MIDDLE)
    enable_checkpointing(model)
    return model


def loss_of(model: Page4DModel, clip: int, precision: str) -> torch.Tensor:
    pixel_values = torch.rand(2, 2, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    labels = {name: value[clip : clip + 1] for name, value in labels_of(pixel_values).items()}
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        return model(pixel_values[clip : clip + 1], labels=labels).loss


def gradients(model: Page4DModel) -> dict[str, torch.Tensor]:
    found = {}
    for name, parameter in model.named_parameters():
        gradient = parameter.grad
        if gradient is not None:
            found[name] = gradient.full_tensor() if isinstance(gradient, DTensor) else gradient
    return found


def compare(precision: str, folder: Path) -> dict[str, Any]:
    rank = dist.get_rank()
    # Every process has a clip of its own; the whole network sees both, and averages.
    whole = network()
    losses = [loss_of(whole, clip, precision) for clip in range(2)]
    torch.stack(losses).mean().backward()
    expected = gradients(whole)

    plugin = sharding()
    assert plugin is not None
    accelerator: Any = SimpleNamespace(
        state=SimpleNamespace(fsdp_plugin=plugin),
        distributed_type=DistributedType.FSDP,
        is_fsdp2=True,
        get_state_dict=lambda model: Accelerator.get_state_dict(accelerator, model),
        unwrap_model=lambda model, keep_torch_compile: model,
        mixed_precision=precision,
        is_main_process=rank == 0,
        device=torch.device("cpu"),
    )
    sharded: Any = fsdp2_prepare_model(accelerator, network())
    loss = loss_of(sharded, rank, precision)
    loss.backward()
    found = gradients(sharded)
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    save_model(accelerator, sharded, folder / precision, image_processor_for(whole.config))
    dist.barrier()
    saved = Page4DModel.from_pretrained(folder / precision).state_dict()
    norms = [norm_of(list(model.parameters())) for model in (sharded, whole)]
    return {
        "loss": [loss.item(), losses[rank].item()],
        "saved": all(torch.equal(value, saved[name]) for name, value in whole.state_dict().items()),
        "norm": norms,
        "same names": set(found) == set(expected),
        "gradients": max(float((found[name] - expected[name]).abs().max()) for name in expected) / largest,
        "units": sorted(name for name, module in sharded.named_modules() if isinstance(module, FSDPModule)),
        "sharded": sum(isinstance(p, DTensor) and p.to_local().numel() < p.numel() for p in sharded.parameters()),
        "parameters": len(list(sharded.parameters())),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    folder = Path(sys.argv[1])
    results = {precision: compare(precision, folder) for precision in ("no", "bf16")}
    if dist.get_rank() == 0:
        (folder / "results.json").write_text(json.dumps(results))
    dist.destroy_process_group()
