"""Density control by sampling: the relocation against the equation's meaning, the cap, the flag, and the noise."""

import math

import pytest
import torch
from small_gaussians import HEIGHT, WIDTH, cameras, make_model, optimizers_of, train_step
from splats import IN_MOTION, N, Splats

from page4d_nerfstudio.gaussians.mcmc import MotionAwareMCMC, relocated


def after(opacity: float, copies: int) -> tuple[float, float]:
    """Opacity, and factor to the scales, in double precision."""
    double = torch.float64
    opacities, scales = relocated(
        torch.tensor([opacity], dtype=double), torch.ones(1, 3, dtype=double), torch.tensor([copies])
    )
    assert torch.equal(scales[0, :1].expand(3), scales[0])
    return float(opacities), float(scales[0, 0])


CASES = [(opacity, copies) for opacity in (0.01, 0.3, 0.9, 0.999) for copies in (1, 2, 3, 10, 51)]


@pytest.mark.parametrize(("opacity", "copies"), CASES)
def test_the_equation_is_that_of_the_paper(opacity, copies):
    new = 1 - (1 - opacity) ** (1 / copies)
    total = sum(
        math.comb(i - 1, k) * (-1) ** k * new ** (k + 1) / math.sqrt(k + 1)
        for i in range(1, copies + 1)
        for k in range(i)
    )

    assert after(opacity, copies) == pytest.approx((new, opacity / total), rel=1e-6)


def test_one_copy_is_what_it_was_and_more_than_51_count_as_51():
    assert after(0.7, 1) == pytest.approx((0.7, 1.0))
    assert after(0.7, 1000) == after(0.7, 51)


def test_the_equation_stays_finite_for_opacities_at_both_ends():
    opacities = torch.tensor([0.0, 1e-9, 1.0 - 1e-9, 1.0])

    new, scales = relocated(opacities, torch.ones(4, 3), torch.full((4,), 51))

    assert torch.isfinite(new).all()
    assert torch.all(torch.isfinite(scales) & (scales > 0))


def splats(**options) -> Splats:
    options = {"refine_start_iter": 0, "refine_every": 10, "noise_lr": 0.0} | options
    return Splats(MotionAwareMCMC(**options))


def kill(scene: Splats, *which: int) -> None:
    with torch.no_grad():
        scene.params["opacities"][list(which)] = -20.0


def test_faint_gaussians_go_where_others_are_and_move_if_those_do():
    torch.manual_seed(0)
    scene = splats(growth=0.0)
    kill(scene, 0, 1, 4)

    scene.step(10, [0] * N)

    assert len(scene.marks) == N
    assert set(scene.marks) <= {2, 3, 5}
    assert scene.state["in_motion"].tolist() == [IN_MOTION[mark] for mark in scene.marks]
    scene.assert_in_step()


def test_new_gaussians_move_if_those_do_that_they_come_from():
    torch.manual_seed(0)
    scene = splats(growth=5.0)

    scene.step(10, [0] * N)

    assert len(scene.marks) == 6 * N
    assert scene.state["in_motion"].tolist() == [IN_MOTION[mark] for mark in scene.marks]
    scene.assert_in_step()


def test_all_that_share_a_place_get_the_opacity_and_scale_of_the_equation():
    scene = splats(growth=0.0)
    kill(scene, *range(1, N))
    before = scene.params["opacities"][0].detach().sigmoid()

    scene.step(10, [0] * N)

    opacities, scales = relocated(before, torch.full((1, 3), -6.0).exp(), torch.tensor([N]))
    assert torch.allclose(scene.params["opacities"].sigmoid(), opacities.expand(N, 1))
    assert torch.allclose(scene.params["scales"], scales.log().expand(N, 3))
    assert scene.marks == [0] * N


def test_gaussians_that_are_not_finite_are_relocated():
    scene = splats(growth=0.0)
    with torch.no_grad():
        scene.params["scales"][1, 2] = float("nan")
        scene.params["opacities"][4] = float("nan")

    scene.step(10, [0] * N)

    assert all(torch.isfinite(value).all() for value in scene.params.values())
    assert len(scene.marks) == N


def test_moments_of_optimizers_begin_anew_for_what_was_relocated():
    scene = splats(growth=0.0)
    kill(scene, *range(1, N))

    scene.step(10, [0] * N)

    for name, optimizer in scene.optimizers.items():
        assert torch.count_nonzero(optimizer.state[scene.params[name]]["exp_avg"]) == 0


def test_a_scene_in_which_all_are_faint_stays_as_it_is():
    scene = splats(growth=0.0)
    kill(scene, *range(N))

    scene.step(10, [0] * N)

    assert scene.marks == list(range(N))


@pytest.mark.parametrize("cap", [N - 2, N, N + 1, 2 * N])
def test_additions_stop_at_the_cap(cap):
    scene = splats(growth=0.5, max_gaussians=cap)

    for step in range(10, 60, 10):
        scene.step(step, [0] * N)

    assert len(scene.marks) == max(cap, N)


@pytest.mark.parametrize("step", [10, 15, 100])
def test_nothing_is_relocated_or_added_outside_of_the_schedule(step):
    scene = splats(refine_start_iter=10, refine_stop_iter=100)
    kill(scene, 0)

    scene.step(step, [0] * N)

    assert scene.marks == list(range(N))


def test_hidden_gaussians_stay_as_they_are_and_nothing_comes_from_them():
    torch.manual_seed(0)
    scene = splats(growth=2.0, noise_lr=1e9)
    kill(scene, 0, 1)
    before = {name: value.detach().clone() for name, value in scene.params.items()}

    hidden = scene.state["in_motion"].clone()
    scene.strategy.step_post_backward(scene.params, scene.optimizers, scene.state, 10, [], hidden=hidden)

    for name, value in scene.params.items():
        assert torch.equal(value[:N][hidden], before[name][hidden])
    assert not scene.state["in_motion"][N:].any()


def test_noise_moves_positions_alone_by_the_covariance_and_spares_what_is_opaque():
    torch.manual_seed(0)
    n = 4000
    scene = splats()
    strategy = MotionAwareMCMC(noise_lr=2.0)
    half_turn = torch.tensor([math.sqrt(0.5), 0.0, 0.0, math.sqrt(0.5)])  # x to y
    scene.params = torch.nn.ParameterDict(
        {
            "means": torch.zeros(n, 3),
            "scales": torch.tensor([1.0, 0.1, 0.01]).log().repeat(n, 1),
            "quats": 3 * half_turn.repeat(n, 1),
            "opacities": torch.cat([torch.full((n // 2, 1), -30.0), torch.full((n // 2, 1), 1.0)]),
        }
    )
    before = {name: value.detach().clone() for name, value in scene.params.items()}
    optimizers = {"means": torch.optim.Adam([scene.params["means"]], lr=0.5)}

    strategy.step_post_backward(scene.params, optimizers, {}, 1, [])

    assert {name for name, value in scene.params.items() if not torch.equal(value, before[name])} == {"means"}
    faint, opaque = scene.params["means"].detach().split(n // 2)
    # Noise of standard deviation lr * noise_lr = 1 by the fading sigmoid(0.5), through the covariance.
    expected = torch.tensor([0.01, 1.0, 1e-4]) / (1 + math.exp(-0.5))
    assert torch.allclose(faint.std(dim=0), expected, rtol=0.06)
    assert opaque.abs().max() < 1e-20


# --- as the model uses it


def mcmc_model(**options):
    return make_model(strategy="mcmc", refine_every=2, **options)


@pytest.mark.slow
def test_a_model_grows_to_its_cap_and_never_beyond_with_either_strategy():
    for options in ({"strategy": "mcmc"}, {"strategy": "default", "densify_grad_thresh": 0.0}):
        model = make_model(refine_every=2, max_gaussians=50, **options)
        optimizers = optimizers_of(model)

        counts = []
        for step in range(40):
            train_step(model, optimizers, step, cameras([0.5]), torch.rand(HEIGHT, WIDTH, 3))
            counts.append(model.num_points)

        assert max(counts) == counts[-1] == 50
        assert len(model.in_motion) == 50


def test_the_regularisers_of_sampling_join_the_loss():
    model = mcmc_model()

    losses = train_step(model, optimizers_of(model), 0, cameras([0.5]), torch.rand(HEIGHT, WIDTH, 3))

    assert set(losses) == {"main_loss", "opacity_reg", "size_reg"}
    assert losses["opacity_reg"].item() == pytest.approx(0.01 * 0.1)


def test_what_is_hidden_at_first_does_not_fade():
    model = mcmc_model(motion=(torch.arange(40) < 20).float())
    optimizers = optimizers_of(model)
    before = model.opacities[:20].detach().clone()

    for step in range(model.schedule.coarse_steps):
        train_step(model, optimizers, step, cameras([0.5]), torch.rand(HEIGHT, WIDTH, 3))

    assert torch.equal(model.opacities[:20], before)
    assert model.num_points > 40
    assert int(model.in_motion.sum()) == 20
