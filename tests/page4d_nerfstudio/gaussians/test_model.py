"""The model: what moves and what does not, times, checkpoints, metrics, and that motion is learned."""

import inspect

import pytest
import torch
from gsplat.strategy.ops import duplicate
from nerfstudio.cameras.camera_optimizers import CameraOptimizerConfig
from nerfstudio.data.scene_box import OrientedBox
from nerfstudio.models.splatfacto import get_viewmat
from small_gaussians import (
    HEIGHT,
    WIDTH,
    cameras,
    fine,
    half_moving,
    make_model,
    optimizers_of,
    small_field,
    train_step,
)

from page4d_nerfstudio.gaussians.deformation import DeformationConfig
from page4d_nerfstudio.gaussians.model import (
    ModelError,
    Page4DGaussiansModel,
    Page4DGaussiansModelConfig,
    world_to_camera,
)


def render(model: Page4DGaussiansModel, time: float | None = None) -> torch.Tensor:
    model.eval()
    return model.get_outputs_for_camera(cameras(None if time is None else [time]))["rgb"]


# --- what moves


def test_the_fine_stage_begins_with_the_static_render():
    model = make_model()
    static = render(model, 0.7)

    assert torch.allclose(render(fine(model, trained=False), 0.7), static, atol=1e-6)


@pytest.mark.parametrize("still", ["without deformation", "coarse stage", "nothing moves"])
def test_time_changes_nothing_where_nothing_can_move(still):
    motion = torch.zeros(40) if still == "nothing moves" else None
    model = fine(make_model(motion=motion, use_deformation=still != "without deformation"))
    model.step -= still == "coarse stage"

    assert torch.equal(render(model, 0.0), render(model, 1.0))
    assert {"planes", "heads"}.isdisjoint(model.get_param_groups()) == (still == "without deformation")


def coloured(model: Page4DGaussiansModel, step: int = 0, **masks) -> torch.Tensor:
    """Which Gaussians a step, by default of the static stage, changes the colour of, [N] bool."""
    train_step(model, optimizers_of(model), step, cameras([0.5]), torch.rand(HEIGHT, WIDTH, 3), **masks)
    return model.features_dc.grad.abs().sum(-1) > 0


def test_the_static_stage_leaves_out_gaussians_that_move():
    reached = coloured(half_moving())

    assert not reached[:20].any()
    assert reached[20:].any()


def test_the_static_stage_leaves_out_pixels_that_move_and_those_that_an_image_s_mask_leaves_out():
    model = half_moving()
    assert not coloured(model, motion_mask=torch.ones(HEIGHT, WIDTH, 1, dtype=torch.bool)).any()
    left, right = torch.zeros(2, HEIGHT, WIDTH, 1, dtype=torch.bool)
    left[:, : WIDTH // 2], right[:, WIDTH // 2 :] = True, True

    assert not coloured(model, mask=left, motion_mask=left).any()
    assert coloured(model, mask=left, motion_mask=right).any()


def test_motion_is_shown_from_the_start_where_that_is_asked_for_or_nothing_is_known_of_it():
    assert coloured(half_moving(hide_motion_at_first=False))[:20].any()
    assert coloured(make_model())[:20].any()


def test_what_moves_is_rendered_in_evaluation_during_the_static_stage_too():
    model = half_moving()
    with torch.no_grad():
        model.opacities[20:] = -100.0

    assert model.eval().get_outputs_for_camera(cameras([0.5]))["accumulation"].max() > 0


def test_the_fine_stage_shows_what_moves():
    model = fine(half_moving())

    assert coloured(model, model.schedule.coarse_steps)[:20].any()


def test_moving_seed_points_are_those_of_the_middle_of_the_capture():
    n = 600
    moving, times = (torch.arange(n) % 2).float(), torch.linspace(0, 1, n)
    few = make_model(n, moving, times=times)
    assert few.num_points == n  # fewer than a hundred of them would not make a thing

    n = 6000
    moving, times = (torch.arange(n) % 2).float(), torch.linspace(0, 1, n)
    near = (times - 0.5).abs() <= 0.06
    many = make_model(n, moving, times=times)
    assert int(many.in_motion.sum()) == int((near & (moving > 0)).sum())
    assert int((~many.in_motion).sum()) == n // 2


def test_all_seed_points_are_kept_where_times_do_not_grow():
    n = 6000
    moving, times = (torch.arange(n) % 2).float(), torch.linspace(0, 1, n)

    assert make_model(n, moving, times=times, time_growth=0.0).num_points == n
    assert make_model(n, moving, times=times, use_deformation=False).num_points == n


def test_a_growth_of_times_that_was_asked_for_in_vain_is_told(capsys):
    for make, options in ((make_model, {}), (half_moving, {"hide_motion_at_first": False})):
        assert not make(time_growth=0.8, **options).schedule.times_grow
        assert "--pipeline.model.time-growth 0.8 has no effect" in capsys.readouterr().out
        make(**options)  # nobody asked for it
        make(time_growth=0.0, **options)
    half_moving(time_growth=0.8)
    assert "no effect" not in capsys.readouterr().out


def test_times_grow_where_it_is_known_what_moves():
    model = half_moving()
    assert model.schedule.span_at(model.schedule.coarse_steps) < 0.5

    nothing_moves = make_model(motion=torch.zeros(40))
    for other in (make_model(), half_moving(hide_motion_at_first=False), nothing_moves):
        assert other.schedule.span_at(other.schedule.coarse_steps) == 0.5


def test_without_a_mask_every_gaussian_moves():
    model = fine(make_model())

    assert model.in_motion.all()
    assert torch.all(model.gaussians_at(0.2).means != model.means)


def test_only_what_the_motion_weights_mark_moves():
    motion = torch.arange(40) / 40
    model = fine(make_model(motion=motion, motion_threshold=0.5))

    gaussians = model.gaussians_at(0.2)

    moves = motion > 0.5
    assert torch.equal(model.in_motion, moves)
    assert torch.all((gaussians.means != model.means).any(dim=-1) == moves)
    assert torch.all((gaussians.scales != model.scales).any(dim=-1) == moves)
    assert torch.equal(gaussians.opacities, model.opacities)


def test_static_gaussians_have_the_gradients_of_a_static_model():
    motion = torch.tensor([0.0] * 20 + [1.0] * 20)
    model = fine(make_model(motion=motion))

    model.gaussians_at(0.2).means.sum().backward()

    assert torch.equal(model.means.grad[:20], torch.ones(20, 3))
    assert torch.any(model.means.grad[20:] != 1)


def test_the_grid_is_laid_around_what_moves():
    motion = torch.zeros(1000)
    motion[:200] = 1.0
    model = make_model(n=1000, motion=motion)
    with torch.no_grad():
        moving = model.means[:200]

    centre = model.deformation.hexplane.centre

    assert torch.allclose(centre, moving.quantile(0.02, dim=0) / 2 + moving.quantile(0.98, dim=0) / 2, atol=1e-5)
    assert model.deformation.hexplane.half_extent.norm() != model.scene_extent


def test_weights_that_are_not_one_for_each_point_are_refused():
    with pytest.raises(ModelError, match="40 points, 39 weights"):
        make_model(motion=torch.zeros(39))


# --- time


def test_a_camera_is_rendered_at_its_time():
    model = fine(make_model())

    assert not torch.allclose(render(model, 0.0), render(model, 1.0), atol=1e-3)


def test_a_camera_without_time_is_rendered_at_the_default_or_when_the_capture_came_past_or_at_the_start():
    by_default = fine(make_model(default_time=0.6))
    assert torch.allclose(render(by_default, None), render(by_default, 0.6), atol=1e-5)

    model = fine(make_model())
    assert torch.equal(render(model, None), render(model, 0.0))
    there = cameras([0.3, 0.9])
    there.camera_to_worlds[1, 0, 3] = 5.0
    model.set_training_views(there)
    assert torch.allclose(render(model, None), render(model, 0.3), atol=1e-5)


# --- as a nerfstudio model


def test_evaluation_has_the_outputs_that_nerfstudio_shows():
    model = make_model().eval()

    outputs = model.get_outputs_for_camera(cameras([0.5]))

    shapes = {name: tuple(value.shape) for name, value in outputs.items()}
    assert shapes == {
        "rgb": (HEIGHT, WIDTH, 3),
        "depth": (HEIGHT, WIDTH, 1),
        "accumulation": (HEIGHT, WIDTH, 1),
        "background": (HEIGHT, WIDTH, 3),
        "motion": (HEIGHT, WIDTH, 1),
    }


def test_depth_is_the_distance_along_the_view():
    model = make_model(n=1)
    with torch.no_grad():
        model.means.zero_()
        model.scales.fill_(-1.0)
        model.opacities.fill_(5.0)
    model.eval()

    outputs = model.get_outputs_for_camera(cameras([0.5]))
    depth, empty = outputs["depth"], outputs["accumulation"] == 0

    assert depth[HEIGHT // 2, WIDTH // 2, 0] == pytest.approx(4.0, abs=1e-4)
    assert empty.any()
    assert (depth[empty] == depth[~empty].max()).all()  # as far as anything: not in front of it


def test_a_crop_shows_what_is_inside_at_that_time():
    model = make_model().eval()
    far_away = OrientedBox(R=torch.eye(3), T=torch.full((3,), 50.0), S=torch.ones(3))

    assert model.get_outputs_for_camera(cameras([0.5]), obb_box=far_away)["accumulation"].max() == 0
    everything = OrientedBox(R=torch.eye(3), T=torch.zeros(3), S=torch.full((3,), 10.0))
    cropped = model.get_outputs_for_camera(cameras([0.5]), obb_box=everything)["rgb"]
    assert torch.equal(cropped, model.get_outputs_for_camera(cameras([0.5]))["rgb"])


def test_the_view_matrix_is_splatfactos():
    poses = torch.linalg.qr(torch.randn(3, 3, 3))[0]
    poses = torch.cat([poses, torch.randn(3, 3, 1)], dim=2)

    # Unwrapped: nerfstudio compiles its function, which needs a compiler.
    assert torch.allclose(world_to_camera(poses), inspect.unwrap(get_viewmat)(poses), atol=1e-6)


def test_the_camera_optimizer_gets_gradients_through_the_rasteriser():
    model = make_model(camera_optimizer=CameraOptimizerConfig(mode="SO3xR3"))
    optimizers = optimizers_of(model)

    train_step(model, optimizers, 0, cameras([0.5]), torch.rand(HEIGHT, WIDTH, 3))

    assert torch.all(model.camera_optimizer.pose_adjustment.grad[0] != 0)
    assert "camera_opt" in model.get_param_groups()


def test_an_image_with_transparency_is_laid_over_the_background():
    model = make_model(background_color="white").eval()
    clear = torch.zeros(HEIGHT, WIDTH, 4, dtype=torch.uint8)

    outputs = model.get_outputs_for_camera(cameras([0.5]))
    metrics, images = model.get_image_metrics_and_images(outputs, {"image": clear})

    assert torch.all(images["img"][:, :WIDTH] == 1.0)
    assert metrics["psnr"] > 0


@pytest.mark.parametrize(
    ("mask", "figures"),
    [
        ("motion_mask", {"psnr", "ssim", "psnr_moving", "ssim_moving", "psnr_static"}),
        ("covisible_mask", {"mpsnr", "mssim"}),
    ],
)
def test_masks_in_the_batch_give_figures_of_what_moves_and_those_of_dycheck(mask, figures):
    model = make_model().eval()
    inside = torch.zeros(HEIGHT, WIDTH, 1, dtype=torch.bool)
    inside[8:16, 8:16] = True

    outputs = model.get_outputs_for_camera(cameras([0.5]))
    metrics, _ = model.get_image_metrics_and_images(outputs, {"image": torch.rand(HEIGHT, WIDTH, 3), mask: inside})

    assert figures <= set(metrics)
    assert ("psnr_moving" in metrics) == (mask == "motion_mask")
    assert all(type(value) is float for value in metrics.values())


def test_regularisers_join_the_loss_when_the_deformation_starts():
    model = make_model()
    optimizers = optimizers_of(model)
    image = torch.rand(HEIGHT, WIDTH, 3)

    coarse = train_step(model, optimizers, 0, cameras([0.5]), image)
    fine_stage = train_step(model, optimizers, model.schedule.coarse_steps, cameras([0.5]), image)

    assert set(coarse) == {"main_loss"}
    assert set(fine_stage) == {"main_loss", "size", "plane_tv", "time_smoothness", "time_sparsity"}


def test_an_offset_that_has_run_away_leaves_the_others_their_gradients():
    model = fine(make_model())
    with torch.no_grad():
        model.scales[3] = 200.0  # whose exponential is infinite
    train_step(model, optimizers_of(model), model.step, cameras([0.9]), torch.rand(HEIGHT, WIDTH, 3))

    for name, parameter in model.named_parameters():
        assert parameter.isfinite().all(), name


def test_regularisers_that_are_evaluated_rarely_count_as_often():
    each_step, each_fifth = make_model(regularize_every=1), make_model(regularize_every=5)
    image = torch.rand(HEIGHT, WIDTH, 3)
    start = each_step.schedule.coarse_steps

    always = train_step(each_step, optimizers_of(each_step), start, cameras([0.5]), image)
    first = train_step(each_fifth, optimizers_of(each_fifth), start, cameras([0.5]), image)
    second = train_step(each_fifth, optimizers_of(each_fifth), start + 1, cameras([0.5]), image)

    assert first["plane_tv"].item() == pytest.approx(5 * always["plane_tv"].item())
    assert set(second) == {"main_loss", "size"}


def test_pixels_outside_of_a_mask_do_not_count():
    model = make_model()
    outputs = {"rgb": torch.zeros(HEIGHT, WIDTH, 3), "background": torch.zeros(3)}
    image = torch.full((HEIGHT, WIDTH, 3), 0.25)
    image[:, : WIDTH // 2] = 1.0
    mask = torch.ones(HEIGHT, WIDTH, 1, dtype=torch.bool)
    mask[:, : WIDTH // 2] = False

    loss = model.get_loss_dict(outputs, {"image": image, "mask": mask})["main_loss"]

    assert loss == pytest.approx(0.25)


def test_more_seed_points_than_the_cap_are_thinned():
    assert make_model(n=50, max_gaussians=30).num_points == 30


def test_points_that_coincide_start_with_a_finite_size():
    config = Page4DGaussiansModelConfig(deformation=DeformationConfig(features=1, resolution=2, multires=(1,)))
    points = torch.cat([torch.zeros(10, 3), torch.ones(10, 3)])
    model = config.setup(
        scene_box=None, num_train_data=2, metadata={}, seed_points=(points, torch.zeros(20, 3, dtype=torch.uint8))
    )

    assert torch.isfinite(model.scales).all()


def test_an_unknown_way_of_rasterising_is_refused():
    with pytest.raises(ModelError, match="classic"):
        make_model(rasterize_mode="antialiased")


def test_a_bilateral_grid_is_trained():
    model = make_model(use_bilateral_grid=True)
    optimizers = optimizers_of(model)
    train_step(model, optimizers, 0, cameras([0.5]), torch.rand(HEIGHT, WIDTH, 3))

    assert model.bil_grids.grids.grad[0].abs().sum() > 0
    assert model.bil_grids.grids.grad[1:].abs().max() < model.bil_grids.grids.grad[0].abs().max()


@pytest.mark.parametrize("strategy", ["default", "mcmc"])
def test_density_control_finds_its_state_where_the_gaussians_are(strategy, monkeypatch):
    model = make_model(use_deformation=False, strategy=strategy).to("meta")  # stands for another device
    seen = []
    monkeypatch.setattr(
        model.strategy, "step_post_backward", lambda params, optimizers, state, *_, **__: seen.append(dict(state))
    )

    model.step_cb(optimizers_of(model), 0)
    model.step_post_backward(0)

    assert seen[0]["in_motion"].device == model.means.device == torch.device("meta")


def test_gradients_are_clipped_of_the_gaussians_that_density_control_has_made():
    model = make_model(use_deformation=False)
    optimizers = optimizers_of(model)
    model.step_cb(optimizers, 0)
    duplicate(model.gauss_params, optimizers.optimizers, {}, torch.arange(model.num_points) < 5)

    model.step_cb(optimizers, 1)

    for name, parameter in model.gauss_params.items():
        assert optimizers.parameters[name][0] is parameter


# --- checkpoints


def test_a_checkpoint_loads_into_a_model_of_another_number_of_gaussians(tmp_path):
    motion = (torch.arange(60) % 3 == 0).float()
    trained = fine(make_model(n=60, motion=motion))
    trained.step = 123
    torch.save(trained.state_dict(), tmp_path / "checkpoint")

    fresh = make_model(n=7)
    fresh.load_state_dict(torch.load(tmp_path / "checkpoint", weights_only=True))

    assert fresh.step == 123
    assert torch.equal(fresh.in_motion, motion > 0.5)
    assert torch.equal(render(fresh, 0.3), render(trained, 0.3))


def test_optimizers_made_before_a_checkpoint_was_loaded_train_what_it_held():
    trained = make_model(n=60)
    resumed = make_model(n=7)
    optimizers = optimizers_of(resumed)

    resumed.load_state_dict(trained.state_dict())
    before = resumed.means.detach().clone()
    train_step(resumed, optimizers, 0, cameras([0.5]), torch.rand(HEIGHT, WIDTH, 3))

    assert len(before) == 60
    assert not torch.equal(resumed.means, before)


def test_a_run_that_is_made_longer_does_not_go_back_to_its_static_stage():
    motion = (torch.arange(40) % 3 == 0).float()
    trained = make_model(motion=motion)
    trained.step = trained.schedule.all_times_from
    longer = make_model(motion=motion, run_length=20 * trained.config.run_length)
    assert trained.step < longer.schedule.coarse_steps

    longer.load_state_dict(trained.state_dict())

    assert longer.deforms
    assert longer.schedule.span_at(longer.step) == 0.5
    # And so it is read by whatever opens its own checkpoints.
    opened = make_model(motion=motion, run_length=longer.config.run_length)
    opened.load_state_dict(longer.state_dict())
    assert opened.schedule == longer.schedule


def test_a_run_that_is_made_longer_in_its_static_stage_keeps_to_the_longer_one():
    trained = make_model()
    trained.step = trained.schedule.coarse_steps - 1
    longer = make_model(run_length=20 * trained.config.run_length)
    schedule = longer.schedule

    longer.load_state_dict(trained.state_dict())

    assert longer.schedule == schedule


def test_statistics_of_density_control_survive_a_checkpoint():
    model = make_model()
    train_step(model, optimizers_of(model), 1, cameras([0.5]), torch.rand(HEIGHT, WIDTH, 3))
    resumed = make_model(n=7)

    resumed.load_state_dict(model.state_dict())

    assert model.strategy_state["grad2d"].sum() > 0
    assert torch.equal(resumed.strategy_state["grad2d"], model.strategy_state["grad2d"])


OTHER_OPTIONS = {
    "fewer harmonics": ({"sh_degree": 1}, "sh-degree 3"),
    "more harmonics": ({"sh_degree": 4}, "sh-degree 3"),
    "no deformation": ({"use_deformation": False}, "use-deformation True"),
    "refined cameras": ({"camera_optimizer": CameraOptimizerConfig(mode="SO3xR3")}, r"camera-optimizer\.mode off"),
    "colours by view": ({"use_bilateral_grid": True}, "use-bilateral-grid False"),
    "other planes": ({"deformation": small_field(multires=(1, 4))}, r"deformation\.multires 1 2"),
    "another head": ({"deformation": small_field(opacity=True)}, r"deformation\.opacity False"),
}


@pytest.mark.parametrize("other", OTHER_OPTIONS)
def test_a_checkpoint_of_another_model_is_refused_with_the_options_that_it_was_trained_with(tmp_path, other):
    options, named = OTHER_OPTIONS[other]
    torch.save(make_model().state_dict(), tmp_path / "checkpoint")
    model = make_model(n=7, **options)
    with pytest.raises(ModelError, match=f"was trained with --pipeline\\.model\\.{named}: repeat that"):
        model.load_state_dict(torch.load(tmp_path / "checkpoint", weights_only=True))
    assert model.num_points == 7


@pytest.mark.parametrize("recorded", [True, False])
def test_a_checkpoint_loads_into_a_model_whose_other_options_differ(recorded):
    state = make_model(size_weight=0.1).state_dict()
    if not recorded:
        del state["_extra_state"]["options"]
    model = make_model(n=7, size_weight=0.0, max_gaussians=50, use_tracks=False)
    model.load_state_dict(state)
    assert model.num_points == 40


def test_a_checkpoint_without_gaussians_is_refused():
    with pytest.raises(ModelError, match="lacks gauss_params"):
        make_model().load_state_dict({})


# --- training


def moving_blob(model: Page4DGaussiansModel) -> list[torch.Tensor]:
    """Images of the model's Gaussians as they travel one unit to the right during the clip."""
    images = []
    rest = model.means.detach().clone()
    with torch.no_grad():
        for time in TIMES:
            model.means.copy_(rest + torch.tensor([time - 0.5, 0.0, 0.0]))
            images.append(render(model, time))
        model.means.copy_(rest)
    return images


TIMES = [i / 9 for i in range(10)]


def blob(**options) -> Page4DGaussiansModel:
    model = make_model(n=12, run_length=400, densify_grad_thresh=1e9, background_color="black", sh_degree=0, **options)
    with torch.no_grad():
        model.means.mul_(0.3)
        model.scales.fill_(-1.8)
        model.opacities.fill_(3.0)
    return model


@pytest.mark.slow
@pytest.mark.parametrize("share_that_moves", [1.0, 0.5])
def test_a_moving_blob_is_learned_better_than_a_static_model_can(share_that_moves):
    images = moving_blob(blob(use_deformation=False))
    # Whatever moves has to be marked: here the marked half can stand in for the other.
    motion = (torch.arange(12) < 12 * share_that_moves).float()

    errors = {}
    for deforms in (True, False):
        model = blob(use_deformation=deforms, motion=motion)
        optimizers = optimizers_of(model)
        for step in range(model.config.run_length):
            i = step * 7 % 10
            train_step(model, optimizers, step, cameras([TIMES[i]]), images[i])
        errors[deforms] = torch.stack(
            [(render(model, time) - image).square().mean() for time, image in zip(TIMES, images, strict=True)]
        ).mean()

    assert errors[True] < 0.5 * errors[False]


def test_the_flag_stays_with_the_gaussians_through_training():
    motion = (torch.arange(40) < 20).float()
    model = make_model(
        motion=motion,
        densify_grad_thresh=0.0,
        refine_every=5,
        deformation=DeformationConfig(features=1, resolution=2, multires=(1,), width=2),
    )
    optimizers = optimizers_of(model)
    with torch.no_grad():
        # Colour tells them apart from now on: what moves is red.
        model.features_dc.zero_()
        model.features_dc[:20, 0] = 1.0
    optimizers.optimizers["features_dc"].param_groups[0]["lr"] = 0.0

    for step in range(12):
        train_step(model, optimizers, step, cameras([0.5]), torch.rand(HEIGHT, WIDTH, 3))

    assert model.num_points > 40
    assert torch.equal(model.in_motion, model.features_dc[:, 0] > 0.5)
