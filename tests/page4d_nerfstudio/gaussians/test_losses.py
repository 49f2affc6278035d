"""The planes' penalties against their formulas in plain autograd, and the error of depth."""

import pytest
import torch

from page4d_nerfstudio.gaussians.losses import acceleration, relative_depth_error, time_sparsity, total_variation

CASES = {
    total_variation: lambda p: sum(
        (plane[:, 1:] - plane[:, :-1]).square().mean() + (plane[:, :, 1:] - plane[:, :, :-1]).square().mean()
        for plane in p
    ),
    acceleration: lambda p: sum((plane[:, 2:] - 2 * plane[:, 1:-1] + plane[:, :-2]).square().mean() for plane in p),
    time_sparsity: lambda p: sum((1 - plane).abs().mean() for plane in p),
}


@pytest.fixture
def planes() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.rand(3, 4, 6, 5, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("penalty", CASES, ids=lambda penalty: penalty.__name__)
def test_each_penalty_and_its_gradient_are_the_formulas(penalty, planes):
    expected = CASES[penalty](planes)
    (expected_gradient,) = torch.autograd.grad(3.0 * expected, planes)

    actual = penalty(planes)
    (gradient,) = torch.autograd.grad(3.0 * actual, planes)

    assert torch.allclose(actual, expected)
    assert torch.allclose(gradient, expected_gradient)


def test_two_samples_along_time_have_no_acceleration():
    assert acceleration(torch.rand(3, 2, 2, 4)) == 0


def test_the_depth_error_is_relative_and_of_the_pixels_that_count_and_are_known():
    depth = torch.tensor([1.5, 3.0, 9.0, 9.0])[:, None, None].requires_grad_()
    expected = torch.tensor([1.0, 4.0, 0.0, 1.0])[:, None, None]
    counts = torch.tensor([True, True, True, False])[:, None, None]

    error = relative_depth_error(depth, expected, counts)
    error.backward()

    assert error.item() == pytest.approx((0.5 + 0.25) / 2)
    assert depth.grad.flatten().tolist() == pytest.approx([0.5, -0.125, 0.0, 0.0])


def test_where_no_depth_is_known_there_is_no_error():
    depth = torch.rand(2, 2, 1, requires_grad=True)

    error = relative_depth_error(depth, torch.zeros(2, 2, 1), torch.ones(2, 2, 1, dtype=torch.bool))
    error.backward()

    assert error == 0
    assert (depth.grad == 0).all()
