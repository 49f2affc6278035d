"""Labels of the loss, predictions for them, and what the loss says of the two."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from page4d_hf import Page4DConfig, Page4DOutput
from page4d_hf.geometry import cameras_to_pose_encoding, quaternion_to_matrix
from page4d_hf.labels_page4d import Page4DTargets, check_labels, normalize_labels
from page4d_hf.loss_page4d import Page4DLosses, page4d_loss

DENSE_TERMS = [
    f"{kind}_{term}"
    for kind, last in (("depth", "gradient"), ("points", "normal"))
    for term in ("confidence", "error", last)
]
HEIGHT, WIDTH = 28, 42
Labels = dict[str, Any]


def make_labels(batch_size: int = 2, num_frames: int = 3, seed: int = 0, dtype: torch.dtype = torch.float32) -> Labels:
    """Wavy surfaces seen by cameras that have moved and turned a little, in a world that is none of theirs."""
    rng = torch.Generator().manual_seed(seed)
    shape = (batch_size, num_frames)
    quaternion = 0.2 * torch.randn(*shape, 4, generator=rng, dtype=torch.float64) + torch.tensor([0.0, 0, 0, 1])
    translation = torch.randn(*shape, 3, 1, generator=rng, dtype=torch.float64)
    intrinsics = torch.tensor([[40.0, 0, WIDTH / 2], [0, 40, HEIGHT / 2], [0, 0, 1]]).repeat(*shape, 1, 1)
    phase = 6 * torch.rand(*shape, 1, 1, generator=rng)
    v, u = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    return {
        "extrinsics": torch.cat((quaternion_to_matrix(quaternion), translation), -1).to(dtype),
        "intrinsics": intrinsics.to(dtype),
        "depth": (4 + torch.sin(u / 6 + phase) + torch.cos(v / 5 - phase)).to(dtype),
    }


def without(labels: Labels, *names: str) -> Labels:
    return {name: value for name, value in labels.items() if name not in names}


def targets_of(labels: Labels) -> Page4DTargets:
    return normalize_labels(labels, (HEIGHT, WIDTH))


def perfect(labels: Labels, confidence: float = 2.0) -> Page4DOutput:
    """What a network that knows everything predicts; the leaves of its graph are its fields."""
    targets = targets_of(labels)
    pose_enc = cameras_to_pose_encoding(targets.extrinsics, targets.intrinsics, (HEIGHT, WIDTH))
    conf = torch.full(targets.depth.shape, confidence)
    output = Page4DOutput()
    output.pose_enc = pose_enc.requires_grad_()
    output.depth, output.depth_conf = targets.depth[..., None].requires_grad_(), conf.clone().requires_grad_()
    output.world_points, output.world_points_conf = targets.world_points.requires_grad_(), conf.requires_grad_()
    return output


def wrong(labels: Labels, seed: int = 1, amount: float = 0.1) -> Page4DOutput:
    """What a network that does not quite know predicts."""
    rng = torch.Generator().manual_seed(seed)
    output = perfect(labels)
    for name, value in output.items():
        noise = torch.randn(value.shape, generator=rng)
        output[name] = (value.detach() + amount * (noise.abs() if "conf" in name else noise)).requires_grad_()
    return output


def part_of(values: Any, index: slice) -> Any:
    """Some samples of a batch of labels, or of predictions."""
    if isinstance(values, Page4DOutput):
        return Page4DOutput(**{name: value.detach()[index].requires_grad_() for name, value in values.items()})
    return {name: value[index] for name, value in values.items()}


def loss_of(output: Page4DOutput, labels: Any, config: Page4DConfig, **more: Any) -> Page4DLosses:
    """The loss of what a network predicts, with the cameras of every refinement if the output has them."""
    names = ("depth", "depth_conf", "world_points", "world_points_conf")
    maps = {name: output[name] for name in names if name in output}
    stages = output.pose_enc_stages or (None if output.pose_enc is None else (output.pose_enc,))
    checked = check_labels(labels, tuple(output.depth_conf.shape))
    return page4d_loss(checked, config.training, pose_enc_stages=stages, **maps, **more)


def terms_of(output: Page4DOutput, labels: Labels, config: Page4DConfig) -> dict[str, float]:
    return {name: term.item() for name, term in loss_of(output, labels, config).terms.items()}


def gradients(output: Page4DOutput, loss: Tensor) -> dict[str, Tensor]:
    return dict(zip(output, torch.autograd.grad(loss, list(output.values())), strict=True))
