"""Metrics of what moves, and the metric that may be absent."""

import math
from urllib.error import URLError

import pytest
import torch
from pytorch_msssim import ssim as reference_ssim

from page4d_nerfstudio.metrics import LazyLPIPS, image_metrics


@pytest.fixture
def truth() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.rand(40, 50, 3) * 0.5


@pytest.fixture
def moving() -> torch.Tensor:
    mask = torch.zeros(40, 50, 1, dtype=torch.bool)
    mask[15:25, 20:30] = True
    return mask


def test_an_error_where_something_moves_shows_there_alone(truth, moving):
    predicted = torch.where(moving, truth + 0.1, truth)

    metrics = image_metrics(predicted, truth, moving)

    assert metrics["psnr_moving"] == pytest.approx(20.0, abs=1e-4)
    assert math.isinf(metrics["psnr_static"])
    assert metrics["psnr"] == pytest.approx(20.0 + 10 * math.log10(40 * 50 / 100), abs=1e-4)


def test_an_error_far_from_what_moves_leaves_its_figures_perfect(truth, moving):
    predicted = truth.clone()
    predicted[:5] += 0.1

    metrics = image_metrics(predicted, truth, moving)

    assert math.isinf(metrics["psnr_moving"])
    assert metrics["ssim_moving"] == pytest.approx(1.0)
    assert metrics["psnr"] < 40


def test_whole_image_ssim_is_the_one_that_splatfacto_reports(truth):
    predicted = (truth + 0.1 * torch.randn_like(truth)).clamp(0, 1)

    expected = reference_ssim(predicted.permute(2, 0, 1)[None], truth.permute(2, 0, 1)[None], data_range=1.0)

    assert image_metrics(predicted, truth)["ssim"] == pytest.approx(float(expected), abs=1e-5)


def test_moving_ssim_of_the_inner_image_is_whole_image_ssim(truth):
    predicted = (truth + 0.1 * torch.randn_like(truth)).clamp(0, 1)
    inside = torch.zeros(40, 50, dtype=torch.bool)
    inside[5:-5, 5:-5] = True

    metrics = image_metrics(predicted, truth, inside)

    assert metrics["ssim_moving"] == pytest.approx(metrics["ssim"], abs=1e-6)


def test_without_a_mask_nothing_is_said_about_motion(truth):
    assert set(image_metrics(truth, truth)) == {"psnr", "ssim"}


def test_an_empty_region_is_left_out(truth, moving):
    nothing = image_metrics(truth, truth, torch.zeros_like(moving))
    everything = image_metrics(truth, truth, torch.ones_like(moving))

    assert "psnr_moving" not in nothing
    assert "ssim_moving" not in nothing
    assert "psnr_static" not in everything


def test_all_figures_are_floats(truth, moving):
    assert all(type(value) is float for value in image_metrics(truth, truth.flip(0), moving).values())


def test_lpips_without_weights_is_tried_once_and_left_out(truth, monkeypatch):
    tries = []

    def no_network(*args, **kwargs):
        tries.append(args)
        raise URLError("no network")

    monkeypatch.setattr("torchmetrics.image.lpip.LearnedPerceptualImagePatchSimilarity", no_network)
    lpips = LazyLPIPS()

    assert lpips(truth, truth) is None
    assert lpips(truth, truth) is None
    assert len(tries) == 1


def test_lpips_is_not_built_before_it_is_asked_for(monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError("built")

    monkeypatch.setattr("torchmetrics.image.lpip.LearnedPerceptualImagePatchSimilarity", fail)

    LazyLPIPS()
