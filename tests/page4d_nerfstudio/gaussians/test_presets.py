"""The methods beside page4d-4dgs: their settings, how nerfstudio finds them, and 4DGS as it was published."""

import copy
import dataclasses
from pathlib import Path

import pytest
import torch
import tyro
import yaml
from interpolation import UNIT_BOX, interpolate
from setuptools.config.pyprojecttoml import read_configuration
from small_captures import write_capture
from small_gaussians import fine, make_model

from page4d_nerfstudio import configs
from page4d_nerfstudio.engine.trainer import learning_rate_factor
from page4d_nerfstudio.gaussians import losses
from page4d_nerfstudio.gaussians.deformation import DeformationConfig, samples_along_time
from page4d_nerfstudio.gaussians.initial_gaussians import scene_extent
from page4d_nerfstudio.gaussians.model import Page4DGaussiansModelConfig
from page4d_nerfstudio.gaussians.presets import presets
from page4d_nerfstudio.gaussians.published import PublishedDeformationField, published
from page4d_nerfstudio.gaussians.views import CAMERAS_EXTENT_KEY, cameras_extent

PYPROJECT = Path(__file__).parents[3] / "pyproject.toml"
NAMES = tuple(presets())


def config_of(name: str):
    return getattr(configs, name.replace("-", "_")).config


# --- as nerfstudio finds them


def test_the_package_declares_every_preset_as_a_method():
    declared = read_configuration(PYPROJECT)["project"]["entry-points"]["nerfstudio.method_configs"]

    assert declared == {name: f"page4d_nerfstudio.configs:{name.replace('-', '_')}" for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_preset_is_the_same_when_it_is_read(name):
    config = tyro.cli(type(config_of(name)), default=config_of(name), args=["--max-num-iterations", "500"])

    again = yaml.load(yaml.dump(config), Loader=yaml.Loader)

    assert dataclasses.asdict(again) == dataclasses.asdict(config)


# --- settings


def test_the_default_method_is_the_default_model():
    assert config_of("page4d-4dgs").pipeline.model == Page4DGaussiansModelConfig()


def test_dnerf_has_its_length_resolutions_and_width():
    config = config_of("page4d-4dgs-dnerf")

    assert config.max_num_iterations == config.pipeline.model.run_length == 20_000
    assert (config.pipeline.model.deformation.multires, config.pipeline.model.deformation.width) == ((1, 2), 64)


def test_several_cameras_change_opacity_and_colour():
    deformation = config_of("page4d-4dgs-multicam").pipeline.model.deformation

    assert dataclasses.replace(deformation, opacity=False, color=False) == DeformationConfig()
    assert deformation.opacity
    assert deformation.color


@pytest.mark.parametrize("name", NAMES)
def test_a_step_has_two_views_and_splits_from_the_same_gradient_whatever_the_size_of_images(name):
    config = config_of(name)

    assert (config.pipeline.views_per_step, config.pipeline.model.densify_reference_size) == (2, 0.0)


def test_the_original_has_all_times_from_the_start():
    schedule = config_of("page4d-4dgs-original").pipeline.model.schedule()

    assert (schedule.coarse_steps, schedule.span_at(schedule.coarse_steps)) == (3000, 0.5)


def test_rates_of_the_original_end_at_seven_tenths_of_their_decay_and_start_anew_with_the_deformation():
    scheduler = config_of("page4d-4dgs-original").optimizers["means"]["scheduler"]
    lr = 1.6e-4
    optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=lr)
    rate = dataclasses.replace(scheduler, hold_steps=3000).setup().get_scheduler(optimizer, lr).lr_lambdas[0]

    assert [rate(step) for step in (0, 3000)] == [1.0, 1.0]
    assert [rate(step) for step in (2999.9999, 17_000)] == pytest.approx([0.01**0.15, 0.01**0.7], rel=1e-5)


def test_the_original_counts_gradients_by_steps_and_smooths_planes_along_one_axis():
    options, ours = (config_of(name).pipeline.model for name in ("page4d-4dgs-original", "page4d-4dgs"))

    assert (options.densify_gradient, options._target.space_penalty) == ("step", losses.acceleration)
    assert (ours.densify_gradient, ours._target.space_penalty) == ("view", losses.total_variation)


def test_in_the_original_everything_moves_and_nothing_hides():
    motion = (torch.arange(40) < 20).float()
    options = config_of("page4d-4dgs-original").pipeline.model

    model = make_model(
        motion=motion,
        motion_threshold=options.motion_threshold,
        hide_motion_at_first=options.hide_motion_at_first,
    )

    assert model.in_motion.all()
    assert not model.hides_known_motion


def cameras_at(*centres: tuple[float, float, float]) -> torch.Tensor:
    """Poses [V, 3, 4] of cameras at these places, none of them turned."""
    poses = torch.eye(4)[None, :3].repeat(len(centres), 1, 1)
    poses[:, :, 3] = torch.tensor(centres)
    return poses


def radius_of(points: torch.Tensor, poses: torch.Tensor, name: str = "page4d-4dgs-original", **options) -> float:
    """The scene's radius in a method, with an evaluation's and a resumed training's metadata as with a training's."""
    metadata = {CAMERAS_EXTENT_KEY: torch.tensor(cameras_extent(poses))}
    return scene_extent(dataclasses.replace(config_of(name).pipeline.model, **options), points, metadata)


# Their mean is at (1, 1, 2) and the last of them is 3 away from it.
FOUR_CAMERAS = cameras_at((0.0, 0.0, 2.0), (1.0, 0.0, 2.0), (2.0, 0.0, 2.0), (1.0, 4.0, 2.0))


def test_the_extent_of_cameras_is_that_of_nerf_plus_plus():
    assert cameras_extent(FOUR_CAMERAS) == pytest.approx(1.1 * 3.0)


def test_in_the_original_the_cameras_say_how_large_the_scene_is():
    points = torch.rand(500, 3, generator=torch.Generator().manual_seed(0)) * 20
    stray = torch.cat([points, torch.tensor([[1e4, 0.0, 0.0]])])

    assert radius_of(points, FOUR_CAMERAS) == radius_of(stray, FOUR_CAMERAS) == pytest.approx(3.3)
    assert radius_of(points, FOUR_CAMERAS, "page4d-4dgs") > 10


def test_a_radius_that_is_named_comes_before_that_of_the_cameras():
    assert radius_of(torch.rand(50, 3), FOUR_CAMERAS, scene_extent=7.0) == 7.0


@pytest.mark.usefixtures("fresh_nerfstudio")
def test_learning_rates_of_the_original_are_in_units_of_the_cameras_extent(tmp_path):
    config = copy.deepcopy(config_of("page4d-4dgs-original"))
    config.pipeline.datamanager.data = write_capture(tmp_path / "capture")
    config.output_dir, config.vis, config.machine.device_type = tmp_path / "out", "tensorboard", "cpu"
    config.set_timestamp()

    trainer = config.setup()
    trainer.setup()

    extent = cameras_extent(trainer.pipeline.datamanager.train_dataset.cameras.camera_to_worlds)
    rates = {name: optimizer.param_groups[0]["lr"] for name, optimizer in trainer.optimizers.optimizers.items()}
    assert trainer.pipeline.model.strategy_state["scene_scale"] == pytest.approx(extent)
    assert rates["means"] == pytest.approx(1.6e-4 * extent)
    assert rates["planes"] == pytest.approx(1.6e-3 * extent)
    assert rates["features_dc"] == 2.5e-3


def test_a_camera_that_stands_still_leaves_the_scene_the_extent_of_its_points(capsys):
    points = torch.rand(500, 3, generator=torch.Generator().manual_seed(0))
    trembling = cameras_at((0.0, 0.0, 4.0), (0.0, 0.0, 4.0 + 1e-6))

    radius = radius_of(points, trembling)

    assert 0.7 < radius < 1.1
    assert "cameras stand still" in capsys.readouterr().out


# --- the deformation field as published


def published_field(**changes) -> PublishedDeformationField:
    torch.manual_seed(0)
    sizes = {"features": 2, "resolution": 4, "time_resolution": 5, "multires": (1, 2), "width": 8}
    config = dataclasses.replace(published().deformation, **(sizes | changes))
    return config.build(UNIT_BOX, n_training_frames=10, sh_bases=4)


def test_the_published_box_spans_the_extremes_of_the_cloud():
    options = published().deformation

    assert (options.box_quantile, options.box_margin) == (0.0, 0.0)


def test_the_published_planes_are_read_in_the_second_half_of_time_and_clamped_at_their_border():
    whole = published_field(features=3, multires=(1,))
    field = whole.hexplane
    for planes in (*field.space, *field.time):
        torch.nn.init.uniform_(planes, 0.5, 1.5)
    positions, time = torch.tensor([[0.2, -0.7, 1.0], [-3.0, 0.4, 7.0]]), 0.37

    features = whole.plane_features(positions, time)

    for position, actual in zip(positions, features, strict=True):
        x, y, z = position.clamp(-1, 1).tolist()
        (space,), (times,) = field.space, field.time
        expected = interpolate(space[0], x, y) * interpolate(space[1], x, z) * interpolate(space[2], y, z)
        for plane, along in zip(times, (x, y, z), strict=True):
            expected = expected * interpolate(plane, along, time)  # time as it is where -1 to 1 is expected
        assert torch.allclose(actual, expected, atol=1e-6)


def test_the_published_heads_read_a_shared_layer():
    field = published_field()
    positions = torch.rand(6, 3)

    offsets = field(positions, 0.4)

    trunk = field.shared(field.plane_features(positions, 0.4))
    hidden = field.hidden(trunk.relu()).relu().chunk(3, dim=-1)
    assert torch.allclose(offsets.position, field.last["position"](hidden[0]))
    assert torch.allclose(offsets.rotation, field.last["rotation"](hidden[2]))
    assert {id(parameter) for parameter in field.shared.parameters()} <= {id(p) for p in field.head_parameters()}


def test_the_published_heads_start_at_random_within_xaviers_bounds():
    field = published_field(width=64)

    weight = field.last["position"].weight
    hidden = field.hidden.weight[:64]

    assert 0.5 < weight.abs().max() / (6 / (64 + 3)) ** 0.5 <= 1.0
    assert 0.9 < hidden.abs().max() / (6 / (64 + 64)) ** 0.5 <= 1.0
    assert field(torch.rand(5, 3), 0.3).position.abs().max() > 0


def test_published_offsets_are_in_the_worlds_unit_and_learn_in_units_of_the_extent():
    field = published_field()
    larger = published_field()
    larger.hexplane.half_extent.mul_(10)

    assert torch.allclose(field(torch.ones(1, 3), 0.2).position, larger(10 * torch.ones(1, 3), 0.2).position)
    assert learning_rate_factor("planes", 5.0, 17_000, motion_extent=5.0) == 5.0


def test_the_published_field_has_as_many_samples_along_time_for_every_capture():
    options = published().deformation

    assert [samples_along_time(options, frames) for frames in (2, 1000)] == [150, 150]


# --- options of the deformation


@pytest.mark.parametrize("name", ["position", "scale", "rotation", "opacity", "color"])
def test_each_offset_can_be_the_only_one(name):
    switches = dict.fromkeys(("position", "scale", "rotation", "opacity", "color"), False) | {name: True}
    options = DeformationConfig(features=4, resolution=8, multires=(1,), width=16, **switches)
    model = fine(make_model(deformation=options))

    gaussians = model.gaussians_at(0.3)

    rest = {
        "position": (gaussians.means, model.means),
        "scale": (gaussians.scales, model.scales),
        "rotation": (gaussians.quats, torch.nn.functional.normalize(model.quats, dim=-1)),
        "opacity": (gaussians.opacities, model.opacities),
        "color": (gaussians.colors[:, 0], model.features_dc),
    }
    assert {kind for kind, (now, then) in rest.items() if not torch.equal(now, then)} == {name}


def test_cameras_of_a_rig_share_the_samples_along_time_of_their_instants():
    options = DeformationConfig(features=1, resolution=2, multires=(1,), width=2, frames_per_sample=1.0)

    of_images, of_instants = make_model(deformation=options), make_model(deformation=options, instants=5)

    assert of_images.deformation.hexplane.time[0].shape[2] == 10
    assert of_instants.deformation.hexplane.time[0].shape[2] == 5
