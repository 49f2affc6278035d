"""Metrics of what moves and of what is covisible, and the metric that may be absent."""

import math
from urllib.error import URLError

import numpy as np
import pytest
import torch
from pytorch_msssim import ssim as reference_ssim
from torchmetrics.functional.image.lpips import _NoTrainLpips

from page4d_nerfstudio.gaussians.metrics import LPIPS_LEAST_SIDES, LazyLPIPS, image_metrics, masked_ssim


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


def test_an_evaluation_with_lpips_leaves_what_a_training_draws_as_it_was(truth, monkeypatch):
    def network_of_first_weights(*args, **kwargs):
        torch.nn.Linear(3, 3)
        raise URLError("no network")

    monkeypatch.setattr("torchmetrics.image.lpip.LearnedPerceptualImagePatchSimilarity", network_of_first_weights)
    before = torch.get_rng_state()

    LazyLPIPS()(truth, truth)

    assert torch.equal(torch.get_rng_state(), before)


# --- DyCheck's figures


@pytest.fixture
def covisible() -> torch.Tensor:
    """Two thirds of the image, with a ragged border and holes."""
    torch.manual_seed(1)
    mask = torch.rand(40, 50, 1) < 0.9
    mask[:, 33:] = False
    return mask


def noisy(image: torch.Tensor) -> torch.Tensor:
    return (image + 0.1 * torch.randn_like(image)).clamp(0, 1)


def partial_convolution(values: np.ndarray, mask: np.ndarray, kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Liu et al. 2018, eq. 1 and 2, window by window, along the last axis of [H, W]."""
    height, width = values.shape
    result = np.zeros((height, width - len(kernel) + 1))
    seen = np.zeros_like(result)
    for row, column in np.ndindex(result.shape):
        window = slice(column, column + len(kernel))
        inside = mask[row, window].sum()
        if inside > 0:
            result[row, column] = kernel @ (values[row, window] * mask[row, window]) * len(kernel) / inside
            seen[row, column] = 1
    return result, seen


def masked_ssim_by_formula(predicted: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> float:
    kernel = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    kernel /= kernel.sum()

    def moment(values: np.ndarray) -> np.ndarray:
        along_rows, seen = partial_convolution(values, mask, kernel)
        return partial_convolution(along_rows.T, seen.T, kernel)[0].T

    similarities = []
    for x, y in zip(np.moveaxis(predicted, -1, 0), np.moveaxis(truth, -1, 0), strict=True):
        mean_x, mean_y = moment(x), moment(y)
        var_x, var_y = np.maximum(moment(x * x) - mean_x**2, 0), np.maximum(moment(y * y) - mean_y**2, 0)
        covariance = moment(x * y) - mean_x * mean_y
        covariance = np.sign(covariance) * np.minimum(np.sqrt(var_x * var_y), np.abs(covariance))
        luminance = (2 * mean_x * mean_y + 1e-4) / (mean_x**2 + mean_y**2 + 1e-4)
        similarities.append(luminance * (2 * covariance + 9e-4) / (var_x + var_y + 9e-4))
    return float(np.mean(similarities))


def test_masked_ssim_is_that_of_partial_convolutions(truth, covisible):
    predicted, mask = noisy(truth), covisible[..., 0]

    expected = masked_ssim_by_formula(*(part.double().numpy() for part in (predicted, truth, mask)))

    assert masked_ssim(predicted, truth, mask) == pytest.approx(expected, abs=1e-5)
    assert image_metrics(predicted, truth, covisible=covisible)["mssim"] == pytest.approx(expected, abs=1e-5)


def test_where_all_is_covisible_dychecks_figures_are_the_whole_images(truth):
    metrics = image_metrics(noisy(truth), truth, covisible=torch.ones(40, 50, dtype=torch.bool))

    assert metrics["mpsnr"] == pytest.approx(metrics["psnr"])
    assert metrics["mssim"] == pytest.approx(metrics["ssim"], abs=1e-5)


def test_what_is_not_covisible_has_no_influence(truth, covisible):
    predicted = noisy(truth)
    other = torch.where(covisible, predicted, torch.rand_like(truth))

    one, two = (image_metrics(image, truth, covisible=covisible) for image in (predicted, other))

    assert one["mpsnr"] == two["mpsnr"]
    assert one["mssim"] == pytest.approx(two["mssim"], abs=1e-6)
    assert one["ssim"] != pytest.approx(two["ssim"], abs=1e-2)


def test_masked_psnr_is_of_the_mean_error_over_the_mask(truth, covisible):
    predicted = torch.where(covisible, truth + 0.1, truth)

    assert image_metrics(predicted, truth, covisible=covisible)["mpsnr"] == pytest.approx(20.0, abs=1e-4)


# --- LPIPS of a region, with a network of random weights: the published ones are a download


def with_random_weights(name: str) -> LazyLPIPS:
    torch.manual_seed(0)
    network = _NoTrainLpips(pretrained=False, net=name, pnet_rand=True)
    for layer in network.lins:
        torch.nn.init.uniform_(layer.model[-1].weight, 0.0, 0.1)
    lazy = LazyLPIPS(name)
    lazy._distance = network
    return lazy


@pytest.fixture(scope="module")
def lpips() -> LazyLPIPS:
    return with_random_weights("alex")


def test_lpips_of_all_pixels_is_near_that_of_the_whole_image(truth, lpips):
    """It is not the same figure: each layer's map is brought to the image's size before the mean."""
    predicted = noisy(truth)

    whole, masked = lpips(predicted, truth), lpips(predicted, truth, torch.ones(40, 50, dtype=torch.bool))

    assert whole > 0.01
    assert masked == pytest.approx(whole, rel=0.1)
    assert lpips(predicted, truth) == whole


def test_lpips_of_a_region_is_of_images_that_are_black_elsewhere(truth, covisible, lpips):
    predicted = noisy(truth)
    elsewhere = torch.where(covisible, predicted, torch.rand_like(truth))
    mask = covisible[..., 0]

    assert lpips(elsewhere, truth, mask) == lpips(predicted, truth, mask)
    assert lpips(truth, torch.where(covisible, truth, 0.0), mask) == 0.0


def test_regions_have_an_lpips_where_the_image_has_one(truth, moving, covisible, lpips):
    predicted = noisy(truth)

    metrics = image_metrics(predicted, truth, moving, covisible, lpips)

    assert metrics["lpips"] == lpips(predicted, truth)
    assert metrics["lpips_moving"] == lpips(predicted, truth, moving[..., 0])
    assert metrics["mlpips"] == lpips(predicted, truth, covisible[..., 0])
    assert all(type(value) is float for value in metrics.values())


def test_an_empty_region_has_no_figures(truth, moving, lpips):
    nothing = image_metrics(truth, truth, torch.zeros_like(moving), torch.zeros_like(moving), lpips)
    everything = image_metrics(truth, truth, torch.ones_like(moving))

    assert set(nothing) == {"psnr", "ssim", "psnr_static", "lpips"}
    assert "psnr_static" not in everything


@pytest.mark.slow
@pytest.mark.parametrize("name", LPIPS_LEAST_SIDES)
def test_an_image_too_small_for_the_network_has_no_lpips(name):
    lpips, side = with_random_weights(name), LPIPS_LEAST_SIDES[name]

    image, small = torch.rand(side, 50, 3), torch.rand(side - 1, 50, 3)

    assert lpips(image, image) == 0.0
    assert lpips(small, small) is None


@pytest.mark.slow
@pytest.mark.parametrize("name", LPIPS_LEAST_SIDES)
def test_the_least_side_is_the_networks_own(name):
    small = torch.rand(1, 3, LPIPS_LEAST_SIDES[name] - 1, 50)

    with pytest.raises(RuntimeError):
        with_random_weights(name)._distance(small, small)


@pytest.mark.slow
@pytest.mark.parametrize("name", LPIPS_LEAST_SIDES)
def test_lpips_is_of_the_network_that_is_named(truth, name, monkeypatch):
    built = []

    class Network(torch.nn.Module):
        def __init__(self, net_type):
            super().__init__()
            built.append(net_type)
            self.net = _NoTrainLpips(pretrained=False, net=net_type, pnet_rand=True)

    monkeypatch.setattr("torchmetrics.image.lpip.LearnedPerceptualImagePatchSimilarity", Network)

    assert LazyLPIPS(name)(truth, truth) == 0.0
    assert built == [name]
