"""What cameras do to images."""

from __future__ import annotations

import pytest
import torch

from page4d_hf.clips import random_clips
from page4d_hf.synthetic import SyntheticOptions
from page4d_hf.synthetic.image_effects import photographed


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(24, 2, 3, 21, 112, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.25


def test_no_photography_changes_no_bit(images: torch.Tensor) -> None:
    assert torch.equal(photographed(images, range(24), 0.0), images)


def test_photographs_differ_in_exposure_and_sharpness_and_stay_in_range(images: torch.Tensor) -> None:
    taken = photographed(images, range(24), 1.0)
    assert taken.shape == images.shape
    assert taken.min() >= 0
    assert taken.max() <= 1
    brightness = taken.flatten(1).mean(1)
    assert brightness.max() - brightness.min() > 0.2
    steps = taken.diff(dim=-1).abs().flatten(1).mean(1) / taken.flatten(1).std(1)
    assert steps.max() > 1.5 * steps.min()  # from blurred to sharp


def test_a_photograph_depends_on_its_seed_alone(images: torch.Tensor) -> None:
    whole = photographed(images, range(24), 1.0)
    alone = photographed(images[7:8], [7], 1.0)
    torch.testing.assert_close(alone[0], whole[7], rtol=0, atol=1e-6)


def test_photography_leaves_the_geometry_alone() -> None:
    plain, taken = (
        random_clips([1, 2], 2, (16, 24), options=SyntheticOptions(photography=amount)) for amount in (0.0, 1.0)
    )
    assert torch.equal(plain.depth, taken.depth)
    assert not torch.equal(plain.images, taken.images)
