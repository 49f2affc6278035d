"""Steps of several views: the loss is their mean, and density control sees each of them at its full size."""

import re

import pytest
import torch
from small_gaussians import HEIGHT, WIDTH, bare_pipeline, cameras, fine, make_model, optimizers_of

from page4d_nerfstudio.engine.pipeline import Page4DPipeline, Page4DPipelineConfig
from page4d_nerfstudio.gaussians.model import Page4DGaussiansModelConfig

TIMES = (0.2, 0.9)


class TwoViews:
    """A datamanager that gives two views in turn."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(3)
        self.images = [torch.rand(HEIGHT, WIDTH, 3, generator=generator) for _ in TIMES]
        self.drawn = 0

    def next_train(self, step):
        index = self.drawn % 2
        self.drawn += 1
        camera = cameras([TIMES[index]])
        camera.metadata = {"cam_idx": index}
        return camera, {"image": self.images[index]}


def pipeline_of(model, views: int) -> Page4DPipeline:
    return bare_pipeline(model, TwoViews(), views_per_step=views)


def step_of(model, pipeline: Page4DPipeline, step: int) -> tuple[dict, dict, dict[str, torch.Tensor]]:
    """Losses, what is logged, and the gradients, after a step whose optimizers do nothing."""
    model.train()
    model.zero_grad()
    model.step_cb(optimizers_of(model), step)
    _, losses, metrics = pipeline.get_train_loss_dict(step)
    sum(losses.values()).backward()
    gradients = {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}
    return losses, metrics, gradients


@pytest.mark.slow
def test_a_step_of_two_views_is_the_mean_of_two_steps_of_one():
    model = make_model(background_color="black")
    step = model.schedule.coarse_steps
    both = step_of(model, pipeline_of(model, 2), step)
    alone = pipeline_of(model, 1)
    each = [step_of(model, alone, step) for _ in TIMES]

    for name, loss in both[0].items():
        assert torch.allclose(loss, (each[0][0][name] + each[1][0][name]) / 2)
    assert float(both[1]["psnr"]) == pytest.approx(float(each[0][1]["psnr"] + each[1][1]["psnr"]) / 2)
    for name, gradient in both[2].items():
        assert torch.allclose(gradient, (each[0][2][name] + each[1][2][name]) / 2, atol=1e-7)


def test_things_are_held_to_their_size_at_the_instants_of_all_views():
    model = fine(make_model(background_color="black"))
    step = model.schedule.coarse_steps

    both, _, _ = step_of(model, pipeline_of(model, 2), step)
    alone = pipeline_of(model, 1)
    first, second = (step_of(model, alone, step)[0]["size"].item() for _ in TIMES)

    assert first != pytest.approx(second, rel=0.01)
    assert both["size"].item() == pytest.approx((first + second) / 2, rel=1e-5)


def test_density_control_gathers_the_same_from_two_views_at_once_as_one_after_the_other():
    model = make_model(background_color="black")
    step_of(model, pipeline_of(model, 2), 1)
    model.step_post_backward(1)
    at_once = {name: model.strategy_state[name].clone() for name in ("grad2d", "count")}
    for value in model.strategy_state.values():
        if torch.is_tensor(value) and value.is_floating_point():
            value.zero_()
    alone = pipeline_of(model, 1)
    for _ in TIMES:
        step_of(model, alone, 1)
        model.step_post_backward(1)

    assert at_once["grad2d"].sum() > 0
    assert torch.equal(at_once["count"], model.strategy_state["count"])
    assert torch.allclose(at_once["grad2d"], model.strategy_state["grad2d"], rtol=1e-4)


def test_gradients_of_a_step_are_those_of_its_views_added_up():
    """As in 4DGS: the norm of the mean over the views, one for each step in which any of them sees the Gaussian."""
    model = make_model(background_color="black", densify_gradient="step")
    step_of(model, pipeline_of(model, 2), 1)
    views = [(view["means2d"].grad[0].clone(), view["radii"][0] > 0) for view in model.views_of_step]
    model.step_post_backward(1)

    pixels = torch.tensor([WIDTH / 2, HEIGHT / 2])
    seen = views[0][1] | views[1][1]
    expected = ((views[0][0] + views[1][0]) * pixels).norm(dim=-1) * seen
    assert expected.max() > 0
    assert torch.allclose(model.strategy_state["grad2d"], expected, rtol=1e-5, atol=1e-12)
    assert torch.equal(model.strategy_state["count"], seen.float())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"views_per_step": 0}, "--pipeline.views-per-step must be from 1 to 64, got 0"),
        ({"views_per_step": -1}, "--pipeline.views-per-step must be from 1 to 64, got -1"),
        ({"views_per_step": 1_000_000}, "--pipeline.views-per-step must be from 1 to 64, got 1,000,000"),
        ({"num_train_views_in_eval": -1}, "--pipeline.num-train-views-in-eval must be at least 0, got -1"),
        ({"model": Page4DGaussiansModelConfig(refine_every=0)}, "--pipeline.model.refine-every must be at least 1"),
    ],
)
def test_views_beyond_all_memory_are_refused_before_data_are_read(monkeypatch, capsys, options, message):
    monkeypatch.setattr(Page4DPipeline, "__init__", lambda *args, **kwargs: pytest.fail("built"))

    with pytest.raises(SystemExit) as exit_info:
        Page4DPipelineConfig(**options).setup(device="cpu", test_mode="val")

    assert exit_info.value.code == 1
    assert re.search(message, capsys.readouterr().out)
