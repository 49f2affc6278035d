"""Held-out cameras that are fitted to their images: nearer to the truth, and the scene stays as it is."""

import copy
from types import SimpleNamespace

import pytest
import torch
from small_gaussians import bare_pipeline, cameras, make_model

from page4d_nerfstudio.engine.fitted_cameras import fitted_camera


@pytest.fixture(scope="module")
def model():
    model = make_model(background_color="black", sh_degree=0, use_deformation=False)
    with torch.no_grad():
        model.means.mul_(0.7)
        model.scales.fill_(-1.6)
        model.opacities.fill_(2.0)
    return model.eval()


@pytest.fixture(scope="module")
def truth():
    return cameras([0.5])


@pytest.fixture(scope="module")
def batch(model, truth):
    return {"image": model.get_outputs_for_camera(truth)["rgb"].detach()}


@pytest.fixture(scope="module")
def disturbed(truth):
    camera = copy.deepcopy(truth)
    camera.camera_to_worlds[0, :, 3] += torch.tensor([0.08, -0.05, 0.0])
    return camera


@pytest.mark.slow
def test_a_disturbed_camera_is_fitted_to_its_image_and_the_scene_is_held(model, truth, batch, disturbed):
    before = copy.deepcopy(model.state_dict())
    given = disturbed.camera_to_worlds.clone()
    found = fitted_camera(model, disturbed, batch, 60)
    errors = [model.image_losses(model.get_outputs(each), batch)["main_loss"] for each in (disturbed, found)]
    assert errors[1] < 0.2 * errors[0]
    assert torch.equal(disturbed.camera_to_worlds, given)
    assert float(found.times) == 0.5
    for name, value in model.state_dict().items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, before[name]), name
    assert all(parameter.requires_grad for parameter in model.gauss_params.values())


def test_a_camera_that_fits_already_is_left_where_it_is(model, truth, batch):
    found = fitted_camera(model, truth, batch, 5)
    torch.testing.assert_close(found.camera_to_worlds, truth.camera_to_worlds, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("steps", "has_figures"), [(0, False), (40, True)])
def test_figures_of_fitted_cameras_stand_beside_those_of_the_given_ones(model, batch, disturbed, steps, has_figures):
    held_out = SimpleNamespace(fixed_indices_eval_dataloader=[(copy.deepcopy(disturbed), batch)])
    pipeline = bare_pipeline(model, held_out, num_train_views_in_eval=0, fit_held_out_cameras=steps)
    averages = pipeline.get_average_eval_image_metrics()
    assert ("fitted_psnr" in averages) == has_figures
    if has_figures:
        assert averages["fitted_psnr"] > averages["psnr"] + 3
        assert "fitted_fps" not in averages
