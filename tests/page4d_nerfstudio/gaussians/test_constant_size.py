"""That things keep their size: what the penalty is of known deformations, and which Gaussians are neighbours."""

import pytest
import torch
from small_gaussians import cameras, fine, make_model, optimizers_of, train_step

from page4d_nerfstudio.gaussians.constant_size import MOST, SMALL_CHANGE, Neighbourhoods, change_of_size

EXTENT = 0.2  # no two of the cloud are so near that the least distance counts


@pytest.fixture
def cloud() -> torch.Tensor:
    """In the unit cube."""
    return torch.rand(400, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture
def groups(cloud) -> torch.Tensor:
    return Neighbourhoods().of(cloud, 1)


def turned(cloud: torch.Tensor) -> torch.Tensor:
    rotation, _ = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1), dtype=cloud.dtype))
    return cloud @ rotation.T + 5.0


def test_a_rigid_motion_changes_no_size(cloud, groups):
    assert change_of_size(cloud, turned(cloud), groups, EXTENT) < 1e-12


@pytest.mark.parametrize("growth", [-0.3, 0.3, 0.02])
def test_the_penalty_of_growing_is_huber_s_of_the_logarithm_of_the_factor(cloud, groups, growth):
    assert change_of_size(cloud, cloud, groups, EXTENT) == 0
    apart = (cloud[groups[:, :1]] - cloud[groups[:, 1:]]).norm(dim=-1)
    assert apart.min() > 0.02 * EXTENT  # farther than what counts as the least distance, shrunk too

    expected = growth**2 / 2 / SMALL_CHANGE if abs(growth) < SMALL_CHANGE else abs(growth) - SMALL_CHANGE / 2
    grown = torch.tensor(growth, dtype=torch.float64).exp() * turned(cloud)
    assert change_of_size(cloud, grown, groups, EXTENT).item() == pytest.approx(expected)


def test_to_stretch_at_equal_volume_costs_little_beside_growing_as_much(cloud, groups):
    stretch = torch.tensor([1.25**-0.5, 1.25, 1.25**-0.5], dtype=torch.float64)
    stretched, grown = (change_of_size(cloud, factor * cloud, groups, EXTENT) for factor in (stretch, 1.25))

    assert stretched < 0.15 * grown


def test_places_at_a_time_are_drawn_to_their_size_in_canonical_space_and_not_these_to_those(cloud, groups):
    canonical, deformed = cloud.clone().requires_grad_(), (1.5 * cloud).requires_grad_()

    change_of_size(canonical, deformed, groups, EXTENT).backward()

    assert canonical.grad is None
    moved = deformed - 0.1 * deformed.grad
    assert change_of_size(cloud, moved, groups, EXTENT) < change_of_size(cloud, deformed, groups, EXTENT)


def test_gaussians_in_one_place_have_a_finite_penalty_and_gradient(groups):
    same = torch.zeros(400, 3, dtype=torch.float64)
    deformed = same.clone().requires_grad_()

    value = change_of_size(same, deformed, groups, EXTENT)
    value.backward()

    assert value == 0
    assert deformed.grad.isfinite().all()


@pytest.mark.parametrize("known_before", [True, False])
def test_broken_gaussians_have_no_part_in_it(cloud, known_before):
    broken = cloud.clone()
    broken[7], broken[100, 1] = float("nan"), float("inf")
    groups = Neighbourhoods().of(broken if known_before else cloud, 1)
    assert {7, 100}.isdisjoint(groups.flatten().tolist()) == known_before
    deformed = (1.3 * broken).requires_grad_()

    value = change_of_size(cloud, deformed, groups, EXTENT)
    value.backward()

    assert value.item() == pytest.approx(torch.tensor(1.3).log().item() - SMALL_CHANGE / 2)
    assert deformed.grad.isfinite().all()


def test_neighbours_belong_to_the_same_thing_where_two_are_apart(cloud):
    groups = Neighbourhoods().of(torch.cat((cloud, cloud + 10.0)), 1)

    assert groups.shape == (800, 17)
    first, others = groups[:, :1], groups[:, 1:]
    assert set(first.flatten().tolist()) == set(range(800))
    assert torch.equal(first.expand_as(others) < 400, others < 400)
    assert (first != others).all()


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_few_gaussians_have_few_neighbours(count):
    groups = Neighbourhoods().of(torch.rand(count, 3), 1)

    assert groups.shape == ((count, count) if count > 1 else (0, 1))
    assert change_of_size(torch.rand(count, 3), torch.rand(count, 3), groups, EXTENT).isfinite()


def test_neighbours_stay_for_a_hundred_steps_unless_gaussians_come_or_go(cloud):
    neighbourhoods = Neighbourhoods()
    found = neighbourhoods.of(cloud, 101)

    assert neighbourhoods.of(cloud.flip(0), 200) is found
    assert neighbourhoods.of(cloud[:50], 150).max() < 50
    assert not torch.equal(neighbourhoods.of(cloud.flip(0), 201), found)


def test_neighbours_are_found_anew_once_gaussians_were_moved_to_others():
    model = fine(make_model(strategy="mcmc", refine_every=7, max_gaussians=40))
    optimizers = optimizers_of(model)
    positions = model.means.detach()
    before, at = (model.neighbourhoods.of(positions, step) for step in (48, 49))
    assert before is at
    with torch.no_grad():
        model.opacities[:10] = -10.0  # so faint that they go to others

    model.step_cb(optimizers, 48)
    model.step_post_backward(48)
    assert model.neighbourhoods.of(positions, 49) is at
    model.step_cb(optimizers, 49)
    model.step_post_backward(49)

    assert model.num_points == 40
    assert not torch.equal(model.neighbourhoods.of(model.means.detach(), 50), at)


def test_of_very_many_gaussians_only_some_are_looked_at():
    groups = Neighbourhoods().of(torch.rand(MOST + 500, 3), 1)

    assert len(groups) == len(groups[:, 0].unique()) == MOST


def test_a_resumed_training_goes_on_with_the_neighbours_that_it_had():
    model = fine(make_model())
    train_step(model, optimizers_of(model), model.step + 1, cameras([0.9]), torch.rand(24, 32, 3))
    resumed = make_model()

    resumed.load_state_dict(model.state_dict())

    groups, found_for = model.neighbourhoods.state
    assert groups is not None
    assert torch.equal(resumed.neighbourhoods.state[0], groups)
    assert resumed.neighbourhoods.state[1] == found_for


def test_only_gaussians_that_move_are_held_to_their_size():
    model = fine(make_model(motion=(torch.arange(40) < 20).float()))
    losses = train_step(model, optimizers_of(model), model.step + 1, cameras([0.9]), torch.rand(24, 32, 3))

    assert losses["size"] > 0
    assert model.neighbourhoods.state[0].max() < 20


def test_without_a_weight_nothing_is_held_to_its_size():
    model = fine(make_model(size_weight=0.0))
    losses = train_step(model, optimizers_of(model), model.step + 1, cameras([0.9]), torch.rand(24, 32, 3))

    assert "size" not in losses
