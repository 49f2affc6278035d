"""The robust box, the HexPlane field against its formula, and the heads."""

import pytest
import torch
from interpolation import UNIT_BOX, interpolate

from page4d_nerfstudio.gaussians.deformation import (
    DeformationConfig,
    DeformationError,
    DeformationField,
    HexPlane,
    RobustBox,
    samples_along_time,
)


def small_field(box: RobustBox = UNIT_BOX, **options) -> DeformationField:
    torch.manual_seed(0)
    config = DeformationConfig(features=2, resolution=4, multires=(1, 2), width=8, **options)
    return DeformationField(config, box, n_training_frames=10, sh_bases=4)


def with_random_last_layers(field: DeformationField) -> DeformationField:
    for parameter in field.last.parameters():
        torch.nn.init.normal_(parameter)
    return field


# --- box


def test_far_outliers_do_not_stretch_the_box():
    cloud = torch.rand(1000, 3)
    strays = torch.tensor([[1e4, -1e4, 1e4]]).repeat(10, 1)

    box = RobustBox.around(torch.cat([cloud, strays]), quantile=0.02, margin=0.1)

    assert torch.all(box.half_extent < 0.7)
    assert torch.allclose(box.centre, torch.full((3,), 0.5), atol=0.05)


def test_the_box_spans_the_quantiles_and_a_margin():
    along = torch.linspace(-1, 3, 101)
    cloud = torch.stack([along, 2 * along, along], dim=-1)

    box = RobustBox.around(cloud, quantile=0.25, margin=0.5)

    assert torch.allclose(box.centre, torch.tensor([1.0, 2.0, 1.0]))
    assert torch.allclose(box.half_extent, torch.tensor([2.0, 4.0, 2.0]))


def test_a_flat_cloud_gets_a_box_with_an_inside():
    cloud = torch.rand(100, 3) * torch.tensor([1.0, 1.0, 0.0])

    box = RobustBox.around(cloud, 0.02, 0.1)

    assert torch.all(box.half_extent > 0)


@pytest.mark.parametrize("cloud", [torch.zeros(0, 3), torch.tensor([[0.0, float("nan"), 0.0]])])
def test_a_box_of_nothing_or_of_nan_is_refused(cloud):
    with pytest.raises(DeformationError, match="finite points"):
        RobustBox.around(cloud, 0.02, 0.1)


def test_all_of_space_has_its_own_place_on_the_grid_in_order():
    field = HexPlane(UNIT_BOX, features=1, resolution=2, time_resolution=2, multires=(1,))
    x = torch.tensor([-1e6, -5.0, -1.001, -1.0, -0.5, 0.0, 0.5, 1.0, 1.001, 5.0, 1e4])

    grid = field.to_grid(x[:, None].repeat(1, 3))[:, 0]

    assert torch.all(grid.diff() > 0)
    assert grid.abs().max() <= 1.0
    assert torch.allclose(grid[[3, 4, 5, 6, 7]], torch.tensor([-0.9, -0.45, 0.0, 0.45, 0.9]))


def test_the_grid_is_continuous_where_the_box_ends():
    field = HexPlane(UNIT_BOX, features=1, resolution=2, time_resolution=2, multires=(1,)).double()
    edge = torch.tensor([[1.0 - 1e-9], [1.0 + 1e-9]], dtype=torch.float64).repeat(1, 3)

    inside, outside = field.to_grid(edge)

    assert torch.allclose(inside, outside, atol=1e-8)


def test_gradients_of_the_grid_are_finite_everywhere():
    field = HexPlane(UNIT_BOX, features=1, resolution=2, time_resolution=2, multires=(1,))
    positions = torch.tensor([[0.0, 1.0, -1e8]], requires_grad=True)

    field.to_grid(positions).sum().backward()

    assert torch.isfinite(positions.grad).all()


# --- planes


def test_features_are_products_over_planes_side_by_side_for_each_scale():
    torch.manual_seed(0)
    field = HexPlane(UNIT_BOX, features=3, resolution=4, time_resolution=5, multires=(1, 2)).double()
    for planes in (*field.space, *field.time):
        torch.nn.init.uniform_(planes, 0.5, 1.5)
    positions = torch.rand(7, 3, dtype=torch.float64) * 3 - 1.5
    time = 0.37

    features = field(positions, time)

    for position, actual in zip(positions, features, strict=True):
        x, y, z = field.to_grid(position).tolist()
        t = 2 * time - 1
        expected = [
            interpolate(space[0], x, y)
            * interpolate(space[1], x, z)
            * interpolate(space[2], y, z)
            * interpolate(times[0], x, t)
            * interpolate(times[1], y, t)
            * interpolate(times[2], z, t)
            for space, times in zip(field.space, field.time, strict=True)
        ]
        assert torch.allclose(actual, torch.cat(expected))


@pytest.mark.parametrize(("time", "sample"), [(0.0, 0), (1.0, -1), (-0.2, 0), (1.5, -1)])
def test_time_spans_its_whole_axis(time, sample):
    field = HexPlane(UNIT_BOX, features=2, resolution=3, time_resolution=7, multires=(1,))
    with torch.no_grad():
        field.space[0].fill_(1.0)
        field.time[0].copy_(torch.arange(7.0)[:, None].expand_as(field.time[0]))

    features = field(torch.zeros(1, 3), time)

    assert torch.equal(features, (field.time[0][0, :, sample, :1] ** 3).T)


def test_every_sample_along_time_gets_a_gradient_from_some_time():
    field = HexPlane(UNIT_BOX, features=2, resolution=3, time_resolution=7, multires=(1,))

    for time in torch.linspace(0, 1, 9):
        field(torch.rand(5, 3), float(time)).sum().backward()

    assert torch.all(field.time[0].grad.abs().sum(dim=(0, 1, 3)) > 0)


def test_time_has_no_influence_before_training():
    field = HexPlane(UNIT_BOX)
    positions = torch.rand(10, 3)

    assert torch.equal(field(positions, 0.0), field(positions, 0.8))


# --- heads


def test_deformation_starts_as_the_identity():
    field = small_field(opacity=True, color=True)

    offsets = field(torch.randn(20, 3), 0.3)

    assert offsets.turn is None
    assert all(torch.count_nonzero(offset) == 0 for offset in offsets if offset is not None)


def test_an_identity_still_learns():
    field = small_field()

    field(torch.rand(5, 3), 0.3).position.sum().backward()

    assert all(layer.weight.grad.abs().sum() > 0 for layer in [field.last["position"]])


def test_a_larger_world_moves_by_as_much_more():
    positions = torch.rand(20, 3) * 2 - 1
    small = with_random_last_layers(small_field())
    large = small_field(RobustBox(torch.full((3,), 5.0), torch.full((3,), 10.0)))
    large.load_state_dict({**small.state_dict(), **{k: v for k, v in large.state_dict().items() if "extent" in k}})
    large.hexplane.centre.fill_(5.0)

    here, there = small(positions, 0.4), large(10 * positions + 5, 0.4)

    assert torch.allclose(there.position, 10 * here.position, rtol=1e-4)
    assert torch.allclose(there.scale, here.scale, atol=1e-5)
    assert torch.allclose(there.rotation, here.rotation, atol=1e-5)


def test_a_deformation_of_nothing_is_refused():
    with pytest.raises(DeformationError, match="something to deform"):
        small_field(position=False, scale=False, rotation=False)


def test_planes_of_one_sample_are_refused():
    with pytest.raises(DeformationError, match="at least 2 samples"):
        HexPlane(UNIT_BOX, resolution=1)


def test_short_captures_get_fewer_samples_along_time():
    config = DeformationConfig(time_resolution=150, frames_per_sample=2.0)

    assert [samples_along_time(config, frames) for frames in (2, 60, 1000)] == [2, 30, 150]


def test_a_position_that_is_no_number_leaves_the_others_and_the_planes_gradients_alone():
    field = with_random_last_layers(small_field())
    whole = torch.rand(7, 3)
    broken = torch.cat([whole, torch.full((1, 3), float("nan")), torch.full((1, 3), float("inf"))]).requires_grad_()

    offsets = field(broken, 0.3).position
    offsets[:7].sum().backward()

    assert torch.allclose(offsets[:7], field(whole, 0.3).position)
    assert all(plane.grad.isfinite().all() for plane in field.plane_parameters())
