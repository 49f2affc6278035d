"""Density control: the flag of what moves, the cap, and what is never done."""

import pytest
import torch
from splats import N, Splats

from page4d_nerfstudio.gaussians.density_control import density_control
from page4d_nerfstudio.gaussians.model import Page4DGaussiansModelConfig
from page4d_nerfstudio.gaussians.strategy import MotionAwareStrategy


def splats(**options) -> Splats:
    options = {"refine_start_iter": 0, "refine_every": 10, "grow_grad2d": 1.0, "grow_scale3d": 0.01} | options
    return Splats(MotionAwareStrategy(**options))


def test_a_clone_moves_if_its_parent_does():
    scene = splats()

    scene.step(10, [2, 2, 0, 0, 0, 0])

    assert scene.marks == [0, 1, 2, 3, 4, 5, 0, 1]
    assert scene.state["in_motion"].tolist() == [True, False, True, False, False, True, True, False]
    scene.assert_in_step()


def test_both_halves_of_a_split_move_if_their_parent_does():
    scene = splats()
    with torch.no_grad():
        scene.params["scales"].fill_(0.0)  # as large as the scene: split, not cloned

    scene.step(10, [0, 0, 2, 2, 0, 0])

    assert scene.marks == [0, 1, 4, 5, 2, 3, 2, 3]
    assert scene.state["in_motion"].tolist() == [True, False, False, True, True, False, True, False]
    scene.assert_in_step()


def test_a_prune_takes_the_flag_along():
    scene = splats(prune_above=0)
    with torch.no_grad():
        scene.params["opacities"][[0, 3]] = -20.0

    scene.step(10, [0] * N)

    assert scene.marks == [1, 2, 4, 5]
    assert scene.state["in_motion"].tolist() == [False, True, False, True]
    scene.assert_in_step()


def test_faint_gaussians_stay_while_there_are_few():
    scene = splats(prune_above=N)
    with torch.no_grad():
        scene.params["opacities"].fill_(-20.0)

    scene.step(10, [0] * N)

    assert len(scene.marks) == N


@pytest.mark.parametrize(("cap", "above"), [(360_000, 200_000), (90_000, 50_000), (1_000_000, 200_000)])
def test_faint_gaussians_make_room_under_any_cap(cap, above):
    model = Page4DGaussiansModelConfig(max_gaussians=cap)

    assert density_control(model, model.schedule(), n_views=7).prune_above == above


def test_resets_leave_steps_to_refine_in_however_many_views_there_are():
    model = Page4DGaussiansModelConfig(reset_alpha_every=30)

    few, many = (density_control(model, model.schedule(), n_views=n) for n in (50, 5000))

    assert (few.reset_every, few.pause_refine_after_reset) == (3000, 150)
    assert many.pause_refine_after_reset == 1500


def test_gaussians_that_are_not_finite_go():
    scene = splats()
    with torch.no_grad():
        scene.params["scales"][1, 2] = float("nan")
        scene.params["means"][4, 0] = float("inf")

    scene.step(10, [0] * N)

    assert scene.marks == [0, 2, 3, 5]


def test_there_are_never_more_than_the_cap_and_the_highest_gradients_grow():
    scene = splats(max_gaussians=8)

    scene.step(10, [2, 5, 3, 9, 2, 2])

    assert scene.marks == [0, 1, 2, 3, 4, 5, 1, 3]
    scene.assert_in_step()


@pytest.mark.parametrize("already", [N, N - 2])
def test_a_scene_at_or_over_the_cap_does_not_grow(already):
    scene = splats(max_gaussians=already)

    scene.step(10, [9] * N)

    assert len(scene.marks) == N


@pytest.mark.parametrize("step", [0, 10, 3000])
def test_opacities_are_not_reset(step):
    scene = splats()

    scene.step(step, [0] * N)

    assert torch.all(scene.params["opacities"] > 1.9)


def test_opacities_are_reset_on_request_but_not_at_the_first_step():
    scene = splats(reset_every=20, prune_opa=0.005)
    scene.step(0, [0] * N)
    assert torch.all(scene.params["opacities"] > 1.9)

    scene.step(20, [0] * N)

    assert torch.allclose(scene.params["opacities"].sigmoid(), torch.tensor(0.01))


def test_in_a_small_image_it_takes_a_larger_gradient_to_grow():
    gradients = [1.9, 2.1, 0, 0, 0, 0]  # the images here are 2x2 pixels

    as_given, for_larger = splats(reference_size=2.0), splats(reference_size=4.0)
    as_given.step(10, gradients)
    for_larger.step(10, gradients)

    assert as_given.marks == [0, 1, 2, 3, 4, 5, 0, 1]
    assert for_larger.marks == [0, 1, 2, 3, 4, 5, 1]


def test_in_a_large_image_the_threshold_is_as_given():
    scene = splats(reference_size=0.1)

    scene.step(10, [0.9, 1.1, 0, 0, 0, 0])

    assert scene.marks == [0, 1, 2, 3, 4, 5, 1]


@pytest.mark.parametrize("step", [10, 15, 100])
def test_nothing_grows_outside_of_the_schedule(step):
    scene = splats(refine_start_iter=10, refine_stop_iter=100)

    scene.step(step, [9] * N)

    assert len(scene.marks) == N


def test_statistics_begin_anew_after_a_refinement():
    scene = splats()

    scene.step(9, [0.4] * N)
    assert torch.all(scene.state["grad2d"] > 0)
    scene.step(10, [0.4] * N)

    assert torch.all(scene.state["grad2d"] == 0)
    assert torch.all(scene.state["count"] == 0)


@pytest.mark.parametrize("along_each_axis", [False, True])
def test_radii_are_read_as_any_gsplat_gives_them(along_each_axis):
    """`[C, N]` up to gsplat 1.4 and from the CPU's rasterisers, `[C, N, 2]` since gsplat 1.5."""
    scene = splats(refine_scale2d_stop_iter=1000)
    radii = torch.tensor([[2, 0, 4, 6, 0, 1]], dtype=torch.int32)
    if along_each_axis:
        # Seen is what has an extent along both.
        radii = torch.stack([radii, torch.tensor([[1, 3, 4, 5, 0, 1]], dtype=torch.int32)], dim=-1)

    scene.step(5, [0.5] * N, radii)
    scene.step(6, [0.5] * N, radii)

    assert scene.state["count"].tolist() == [2, 0, 2, 2, 0, 2]
    assert scene.state["grad2d"].tolist() == [1, 0, 1, 1, 0, 1]
    assert scene.state["radii"].tolist() == [1, 0, 2, 3, 0, 0.5]  # in units of an image of 2x2 pixels
