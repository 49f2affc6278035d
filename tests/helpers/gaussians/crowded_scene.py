"""Scenes of many Gaussians for the rasteriser, and how near images and gradients are."""

from __future__ import annotations

import torch

NAMES = ["means", "quats", "scales", "opacities", "colors", "viewmats"]


def make_scene(
    n=30, width=53, height=27, n_cameras=2, n_channels=3, seed=0, dtype=torch.float32, max_opacity=1.0, scale=0.2
):
    """Gaussians of all shapes in front of cameras that look at them; some lie off the image, some behind a camera.

    Many and opaque enough that pixels end early, and that alpha is clamped at some.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    means = normal(n, 3) * torch.tensor([1.2, 1.0, 1.0])
    quats = normal(n, 4)
    scales = scale * torch.exp(0.6 * normal(n, 3))
    opacities = max_opacity * torch.sigmoid(2.0 * normal(n) + 1.5)
    opacities[: n // 4] = max_opacity
    colors = torch.sigmoid(normal(n, n_channels))
    viewmats = torch.eye(4, dtype=torch.float64).repeat(n_cameras, 1, 1)
    for c in range(n_cameras):
        viewmats[c, :3, :3] = torch.linalg.matrix_exp(
            torch.cross(0.3 * normal(1, 3).expand(3, 3), torch.eye(3).double(), dim=1)
        )
        viewmats[c, :3, 3] = torch.tensor([0.0, 0.1, 2.5]) + 0.2 * normal(3)
    Ks = torch.tensor([[0.9 * width, 0, 0.52 * width], [0, 0.95 * width, 0.47 * height], [0, 0, 1]])
    Ks = Ks.double().repeat(n_cameras, 1, 1)
    tensors = [means, quats, scales, opacities, colors, viewmats]
    return [tensor.to(dtype).requires_grad_(True) for tensor in tensors] + [Ks.to(dtype), width, height]


def make_weights(shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gradients_of(loss, tensors):
    return torch.autograd.grad(loss, tensors, retain_graph=True)


def assert_close_to_scale(actual, expected, tolerance, name):
    """Within `tolerance` of the largest expected value: where parts cancel, their rounding stays."""
    error = (actual.double() - expected).abs().max() / expected.abs().max()
    assert error <= tolerance, f"{name} is off by {error:.2e} of its largest value"
