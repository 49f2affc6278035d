"""That neighbours keep their distance: what the penalty is of known motions, and which Gaussians are neighbours."""

import pytest
import torch
from test_model import cameras, fine, make_model, optimizers_of, train_step

from page4d_nerfstudio.rigidity import MOST, SMALL_STRAIN, Neighbours, strain

EXTENT = 2.0


@pytest.fixture
def cloud() -> torch.Tensor:
    return torch.rand(60, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture
def pairs(cloud) -> torch.Tensor:
    return Neighbours().of(cloud, 1)


def turned(cloud: torch.Tensor) -> torch.Tensor:
    rotation, _ = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1), dtype=cloud.dtype))
    return cloud @ rotation.T + 5.0


def test_a_rigid_motion_is_no_strain(cloud, pairs):
    assert strain(cloud, turned(cloud), pairs, EXTENT) < 1e-12


@pytest.mark.parametrize(
    ("scale", "expected"),
    [(0.7, 0.3 - SMALL_STRAIN / 2), (1.3, 0.3 - SMALL_STRAIN / 2), (1.02, 0.02**2 / 2 / SMALL_STRAIN)],
)
def test_the_strain_of_growing_is_huber_s_of_the_share_by_which_it_grows(cloud, pairs, scale, expected):
    apart = (cloud[pairs[0]] - cloud[pairs[1]]).norm(dim=-1)
    assert apart.min() > 0.01 * EXTENT  # where the strain is relative to the distance

    assert strain(cloud, scale * turned(cloud), pairs, EXTENT).item() == pytest.approx(expected)


def test_places_at_a_time_are_drawn_to_their_distances_in_canonical_space_and_not_these_to_those(cloud, pairs):
    canonical, deformed = cloud.clone().requires_grad_(), (1.5 * cloud).requires_grad_()

    strain(canonical, deformed, pairs, EXTENT).backward()

    assert canonical.grad is None
    moved = deformed - 1e-4 * deformed.grad
    assert strain(cloud, moved, pairs, EXTENT) < strain(cloud, deformed, pairs, EXTENT)


def test_gaussians_in_one_place_have_a_finite_strain_and_gradient(pairs):
    same = torch.zeros(60, 3, dtype=torch.float64)
    deformed = same.clone().requires_grad_()

    value = strain(same, deformed, pairs, EXTENT)
    value.backward()

    assert value == 0
    assert deformed.grad.isfinite().all()


def test_neighbours_belong_to_the_same_thing_where_two_are_apart(cloud):
    both = torch.cat((cloud, cloud + 10.0))

    first, second = Neighbours().of(both, 1)

    assert torch.equal(first < 60, second < 60)
    assert set(first.tolist()) == set(range(120))
    assert (first != second).all()


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_few_gaussians_have_few_neighbours(count):
    pairs = Neighbours().of(torch.rand(count, 3), 1)

    assert pairs.shape == (2, count * (count - 1))
    assert strain(torch.rand(count, 3), torch.rand(count, 3), pairs, EXTENT).isfinite()


def test_neighbours_stay_for_a_hundred_steps_unless_gaussians_come_or_go(cloud):
    neighbours = Neighbours()
    found = neighbours.of(cloud, 101)

    assert neighbours.of(cloud.flip(0), 200) is found
    assert neighbours.of(cloud[:50], 150).max() < 50
    assert not torch.equal(neighbours.of(cloud.flip(0), 201), found)


def test_of_very_many_gaussians_only_some_are_looked_at():
    first, _ = Neighbours().of(torch.rand(MOST + 500, 3), 1)

    assert len(first.unique()) == MOST


def test_a_resumed_training_goes_on_with_the_neighbours_that_it_had():
    model = fine(make_model())
    image = torch.rand(24, 32, 3)
    train_step(model, optimizers_of(model), model.step + 1, cameras([0.9]), image)
    resumed = make_model()

    resumed.load_state_dict(model.state_dict())

    pairs, found_for = model.neighbours.state
    assert pairs is not None
    assert torch.equal(resumed.neighbours.state[0], pairs)
    assert resumed.neighbours.state[1] == found_for


def test_only_gaussians_that_move_are_held_together():
    model = fine(make_model(dynamics=(torch.arange(40) < 20).float()))
    losses = train_step(model, optimizers_of(model), model.step + 1, cameras([0.9]), torch.rand(24, 32, 3))

    assert losses["rigidity"] > 0
    assert model.neighbours.state[0].max() < 20


def test_without_a_weight_nothing_is_held_together():
    model = fine(make_model(rigidity_weight=0.0))
    losses = train_step(model, optimizers_of(model), model.step + 1, cameras([0.9]), torch.rand(24, 32, 3))

    assert "rigidity" not in losses
