"""On a GPU, everything does what it does on a CPU, where it is tested in full."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from rasterize import INPUTS, RasterizerOptions, make_scene, train_step
from small_networks import small_network

from page4d_hf import Page4DConfig, Page4DModel
from page4d_hf.clips import random_clips
from page4d_hf.synthetic import write_synthetic_capture
from page4d_hf.weights.shipped import TINY
from page4d_nerfstudio.rasterization import rasterize

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def float32_is_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Convolutions round float32 to TF32 by default, which no CPU does."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


SCENE = make_scene(RasterizerOptions(width=96, height=64, gaussians=500))


def rendered(device: str, **options: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor], dict[str, Any]]:
    """The image of `SCENE`, the gradients of `INPUTS` and the rasteriser's info, on the CPU."""
    arguments = {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in SCENE.items()}
    inputs = {name: arguments[name].clone().requires_grad_(True) for name in INPUTS}
    image, alpha, info = rasterize(**(arguments | inputs | options))
    weights = torch.randn(image.shape, generator=torch.Generator().manual_seed(1)).to(device)
    gradients = torch.autograd.grad((image * weights).sum() + alpha.sum(), list(inputs.values()))
    return image.detach().cpu(), {n: g.cpu() for n, g in zip(inputs, gradients, strict=True)}, info


@pytest.mark.parametrize("render_mode", ["RGB", "RGB+ED"])
def test_gsplat_and_the_cpu_rasterizer_agree_in_images_and_gradients(render_mode):
    expected, expected_gradients, expected_info = rendered("cpu", render_mode=render_mode)

    image, gradients, info = rendered("cuda", render_mode=render_mode)

    # gsplat is compiled with fast math: a Gaussian at the least alpha is in or out of a pixel by rounding.
    difference = (image - expected).abs()
    assert difference.mean() < 1e-4
    assert (difference > 1e-2).float().mean() < 1e-3
    radii = info["radii"].cpu()
    assert radii.shape[:2] == expected_info["radii"].shape
    for name, gradient in gradients.items():
        error = (gradient - expected_gradients[name]).norm() / expected_gradients[name].norm()
        assert error < 1e-2, f"the gradient of {name} is off by {error:.1e} of its norm"


def pixel_values() -> torch.Tensor:
    return random_clips([3], 3, (80, 112)).images


@torch.no_grad()
def test_page4d_tiny_sees_on_cuda_what_it_sees_on_the_cpu():
    model, images = Page4DModel.from_pretrained(TINY).eval(), pixel_values()
    expected = model(images)

    output = model.to("cuda")(images.to("cuda"))

    torch.testing.assert_close(output.pose_enc.cpu(), expected.pose_enc, atol=2e-3, rtol=0)
    torch.testing.assert_close(output.depth.cpu(), expected.depth, atol=0, rtol=1e-2)
    torch.testing.assert_close(output.dynamics_mask.cpu(), expected.dynamics_mask, atol=5e-3, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("form", ["release", None])
def test_hidden_pixels_change_the_cameras_on_cuda_as_on_the_cpu(form):
    model, images = small_network(mask_form=form), torch.rand(1, 3, 3, 28, 42)
    visible = torch.ones(1, 3, 28, 42, dtype=torch.bool)
    visible[:, :2, :, 14:] = False
    plain, expected = (model(images, visible=each, heads=("camera",)).pose_enc for each in (None, visible))

    model.to("cuda")
    output = model(images.to("cuda"), visible=visible.to("cuda"), heads=("camera",))
    assert (expected - plain).abs().max() > 0.05
    torch.testing.assert_close(output.pose_enc.cpu(), expected, atol=5e-3, rtol=0)
    half = model.to(torch.bfloat16)(images.to("cuda"), visible=visible.to("cuda"), heads=("camera",))
    assert half.pose_enc.isfinite().all()


@torch.no_grad()
def test_an_aggregator_in_bfloat16_on_cuda_is_close_to_float32_on_the_cpu():
    model, images = Page4DModel.from_pretrained(TINY).eval(), pixel_values()
    expected = model(images)

    output = model.to("cuda", torch.bfloat16)(images.to("cuda"))

    assert output.depth.dtype == torch.float32
    ratio = output.depth.cpu() / expected.depth
    assert (ratio.log().abs().median()) < 0.03
    assert (output.pose_enc.cpu() - expected.pose_enc).abs().max() < 0.1


def test_a_training_step_in_bfloat16_on_cuda_has_finite_gradients():
    config = Page4DConfig.from_pretrained(TINY)
    with torch.device("cuda"):
        model = Page4DModel(config).train()
    clips = random_clips([0], 2, (80, 112), device="cuda")
    labels = {name: getattr(clips, name) for name in ("extrinsics", "intrinsics", "depth")}

    with torch.autocast("cuda", torch.bfloat16):
        loss = model(clips.images, labels=labels).loss
    loss.backward()

    gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
    assert loss.isfinite()
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("options", [{}, {"strategy": "mcmc"}])
def test_page4d_4dgs_learns_a_capture_on_cuda_and_refines_its_gaussians(tmp_path, options):
    from page4d_nerfstudio.configs import page4d_4dgs

    steps = 340  # 2 % of the schedule: 60 static steps, refinements in both stages
    config: Any = copy.deepcopy(page4d_4dgs.config)
    config.max_num_iterations = steps
    config.__post_init__()
    config.machine.device_type = "cuda"
    config.pipeline.datamanager.data = write_synthetic_capture(
        tmp_path / "capture", num_frames=8, width=64, height=48, supersampling=1, num_points=2000
    )
    config.output_dir, config.timestamp, config.vis = tmp_path / "output", "run", "tensorboard"
    config.logging.local_writer.enable = False
    config.pipeline.model.refine_every = 20
    for name, value in options.items():
        setattr(config.pipeline.model, name, value)
    trainer = config.setup()
    trainer.setup()
    before = trainer.pipeline.get_average_eval_image_metrics()["train_psnr"]
    counts = set()
    for step in range(steps):
        train_step(trainer, step)
        counts.add(trainer.pipeline.model.num_points)

    trainer.save_checkpoint(steps - 1)

    assert trainer.pipeline.model.device.type == "cuda"
    assert len(counts) > 1
    assert trainer.pipeline.get_average_eval_image_metrics()["train_psnr"] > before + 3
    state = torch.load(next(trainer.checkpoint_dir.glob("*.ckpt")), map_location="cpu", weights_only=True)
    assert state["step"] == steps - 1
