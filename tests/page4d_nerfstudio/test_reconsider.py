"""Gaussians taken for static that move: what images say against them, and that they are found."""

import pytest
import torch
from test_model import HEIGHT, WIDTH, cameras, fine, make_model, optimizers_of, render, train_step

from page4d_hf.errors import Page4DError
from page4d_nerfstudio.configs import page4d_4dgs
from page4d_nerfstudio.gaussians.reconsider import ReconsiderConfig, footprint_errors, gather, judge
from page4d_nerfstudio.rasterization import rasterize


def view(n: int = 5) -> dict:
    torch.manual_seed(0)
    return {
        "means": torch.randn(n, 3) * 0.5 + torch.tensor([0.0, 0.0, 4.0]),
        "quats": torch.randn(n, 4),
        "scales": torch.rand(n, 3) * 0.3 + 0.1,
        "opacities": torch.rand(n) * 0.5 + 0.3,
        "viewmats": torch.eye(4)[None],
        "Ks": torch.tensor([[[20.0, 0.0, 8.0], [0.0, 20.0, 6.0], [0.0, 0.0, 1.0]]]),
        "width": 16,
        "height": 12,
    }


def test_footprints_are_what_each_gaussian_makes_up_of_the_pixels():
    error = torch.randn(12, 16, 3)

    errors, weight = footprint_errors(view(), error)

    for i in range(5):
        alone = torch.zeros(5, 1)
        alone[i] = 1.0
        share = rasterize(**view(), colors=alone)[0][0]  # w_ip of each pixel
        assert torch.allclose(weight[i], share.sum(), rtol=1e-4)
        assert torch.allclose(errors[i], (share * error).sum(dim=(0, 1)) / share.sum(), atol=1e-5)


def test_a_gaussian_that_does_not_show_has_no_error():
    unseen = view()
    unseen["means"][2, 2] = -4.0

    errors, weight = footprint_errors(unseen, torch.ones(12, 16, 3))

    assert weight[2] == 0
    assert torch.equal(errors[2], torch.zeros(3))


def test_errors_that_change_their_sign_over_time_do_not_cancel():
    state = {"dynamic": torch.zeros(2, dtype=torch.bool)}
    for sign in (1.0, -1.0):
        gather(state, torch.tensor([[0.2 * sign] * 3, [0.0] * 3]), torch.tensor([4.0, 4.0]))

    assert torch.allclose(state["error"] / state["error_weight"], torch.tensor([3 * 0.04, 0.0]))


def gathered(errors: list[float], dynamic: list[bool], weight: float = 10.0) -> dict:
    state = {"dynamic": torch.tensor(dynamic)}
    gather(state, torch.tensor(errors)[:, None].repeat(1, 3), torch.full((len(errors),), weight))
    return state


def test_the_worst_static_gaussians_begin_to_move_up_to_their_share():
    errors = [0.1] * 8 + [0.9, 0.8, 0.7, 0.95]
    state = gathered(errors, [False] * 11 + [True])

    assert judge(state, share=0.2, factor=4.0) == 2  # of 11 static ones
    assert torch.where(state["dynamic"])[0].tolist() == [8, 9, 11]


def test_errors_like_those_of_all_the_others_say_nothing():
    state = gathered([0.5, 0.51, 0.52, 0.9], [False] * 4)

    assert judge(state, share=1.0, factor=4.0) == 0
    assert not state["dynamic"].any()


def test_what_was_hardly_seen_is_not_judged():
    state = gathered([0.1] * 8 + [0.9], [False] * 9, weight=0.5)

    assert judge(state, share=1.0, factor=2.0) == 0


def test_each_judgement_begins_anew():
    state = gathered([0.1] * 8 + [0.9], [False] * 9)

    judge(state, share=0.2, factor=4.0)

    assert torch.count_nonzero(state["error"]) == torch.count_nonzero(state["error_weight"]) == 0
    assert judge(state, share=0.2, factor=4.0) == 0


def test_there_is_nothing_to_judge_before_anything_was_seen():
    assert judge({"dynamic": torch.zeros(3, dtype=torch.bool)}, 1.0, 1.0) == 0


@pytest.mark.parametrize("option", [{"every": -1}, {"sample_every": 0}, {"share": 0.0}, {"factor": 0.5}])
def test_options_out_of_range_are_refused(option):
    with pytest.raises(Page4DError, match="reconsider"):
        make_model(reconsider=ReconsiderConfig(**option))


def test_flags_stay_by_default():
    assert page4d_4dgs.config.pipeline.model.reconsider.every == 0


# --- in a training

ALWAYS = ReconsiderConfig(every=300, sample_every=1, share=0.08)
N_BACK, N_BLOB, STEPS = 60, 10, 150
TIMES = [i / 9 for i in range(10)]


def scene_with_a_blob(reconsider: ReconsiderConfig):
    """A wall of still Gaussians, a blob in front of it, and one known mover: the blob was taken for static."""
    n = N_BACK + N_BLOB + 1
    dynamics = torch.zeros(n)
    dynamics[-1] = 1.0
    model = make_model(
        n=n, dynamics=dynamics, run_length=1700, densify_grad_thresh=1e9, background_color="black", sh_degree=0,
        hide_motion_at_first=False, reconsider=reconsider,
    )  # fmt: skip
    torch.manual_seed(5)
    with torch.no_grad():
        model.means[:N_BACK, 2] = -0.6
        model.means[:N_BACK, :2] *= 1.6
        model.means[N_BACK:] = torch.randn(N_BLOB + 1, 3) * 0.12 + torch.tensor([0.0, 0.0, 0.6])
        model.scales.fill_(-1.9)
        model.scales[:N_BACK] = -1.3
        model.opacities.fill_(3.0)
        model.features_dc[:N_BACK] = -1.0 + 0.3 * torch.randn(N_BACK, 3)
        model.features_dc[N_BACK:] = 2.0
    return model


@pytest.fixture(scope="module")
def after_a_training():
    """The model after it learned a blob that travels in front of the wall, and its error over all times."""
    truth = scene_with_a_blob(ReconsiderConfig())
    rest = truth.means.detach().clone()
    images = []
    with torch.no_grad():
        for time in TIMES:
            truth.means[N_BACK:] = rest[N_BACK:] + torch.tensor([1.6 * (time - 0.5), 0.0, 0.0])
            images.append(render(truth, time))

    results = {}
    for name, options in (("kept", ReconsiderConfig()), ("reconsidered", ALWAYS)):
        model = scene_with_a_blob(options)
        optimizers = optimizers_of(model)
        first = model.schedule.coarse_steps
        for step in range(first, first + STEPS):
            i = step * 7 % 10
            train_step(model, optimizers, step, cameras([TIMES[i]]), images[i])
        with torch.no_grad():
            error = sum((render(model, t) - image).square().mean() for t, image in zip(TIMES, images, strict=True))
        results[name] = (model, float(error))
    return results


def test_a_mover_that_was_taken_for_static_is_found_and_most_of_the_wall_is_left_still(after_a_training):
    model, _ = after_a_training["reconsidered"]

    wall, blob = model.dynamic[:N_BACK], model.dynamic[N_BACK:-1]

    # What the mover covers and uncovers is wrong at times too, so some of the wall comes along.
    assert blob.float().mean() >= 0.6
    assert wall.float().mean() < 0.3


def test_a_mover_that_was_found_is_learned(after_a_training):
    assert after_a_training["reconsidered"][1] < 0.8 * after_a_training["kept"][1]


def test_without_reconsideration_flags_stay_as_they_were(after_a_training):
    model, _ = after_a_training["kept"]

    assert int(model.dynamic.sum()) == 1
    assert "error" not in model.strategy_state


def test_what_was_gathered_survives_a_checkpoint(after_a_training):
    model, _ = after_a_training["reconsidered"]
    resumed = make_model(n=7)

    resumed.load_state_dict(model.state_dict())

    assert torch.equal(resumed.dynamic, model.dynamic)
    assert torch.equal(resumed.strategy_state["error_weight"], model.strategy_state["error_weight"])


@pytest.mark.parametrize("strategy", ["default", "mcmc"])
def test_marks_stay_with_the_gaussians_through_density_control(strategy):
    model = make_model(
        dynamics=(torch.arange(40) < 20).float(),
        strategy=strategy,
        densify_grad_thresh=0.0,
        refine_every=4,
        hide_motion_at_first=False,
        reconsider=ReconsiderConfig(every=10_000, sample_every=1),
    )
    optimizers = optimizers_of(fine(model, trained=False))
    for step in range(32, 45):
        train_step(model, optimizers, step, cameras([0.5]), torch.rand(HEIGHT, WIDTH, 3))

    assert model.num_points > 40
    assert len(model.strategy_state["error"]) == len(model.dynamic) == model.num_points
