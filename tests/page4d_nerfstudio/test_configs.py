"""The entry points, what loading them costs, and what a run's length does to the schedules."""

import dataclasses
import subprocess
import sys
from importlib.metadata import entry_points

import pytest
import torch
import tyro
from nerfstudio.engine.schedulers import ExponentialDecaySchedulerConfig

from page4d_hf.errors import Page4DError
from page4d_nerfstudio import configs
from page4d_nerfstudio.configs import page4d_4dgs
from page4d_nerfstudio.engine.trainer import (
    FusedAdamConfig,
    HoldThenDecaySchedulerConfig,
    Page4DTrainer,
    Page4DTrainerConfig,
    learning_rate_factor,
    scale_group,
)
from page4d_nerfstudio.gaussians.density_control import density_control

CONFIG = page4d_4dgs.config


def parse(*arguments: str) -> Page4DTrainerConfig:
    """The configuration that `ns-train page4d-4dgs` makes of arguments."""
    return tyro.cli(Page4DTrainerConfig, default=CONFIG, args=arguments)


def test_both_entry_points_are_what_nerfstudio_looks_for():
    from nerfstudio.plugins.registry_dataparser import DataParserSpecification
    from nerfstudio.plugins.types import MethodSpecification

    method = entry_points(group="nerfstudio.method_configs")["page4d-4dgs"].load()
    data = entry_points(group="nerfstudio.dataparser_configs")["page4d-data"].load()

    assert isinstance(method, MethodSpecification)
    assert isinstance(data, DataParserSpecification)
    assert method.config.method_name == "page4d-4dgs"


@pytest.mark.parametrize("name", configs.METHODS)
def test_the_viewer_of_a_training_is_closed_to_other_machines(name):
    assert getattr(configs, name).config.viewer.websocket_host == "127.0.0.1"


@pytest.mark.slow
def test_loading_the_entry_points_imports_nothing_heavy_that_nerfstudio_does_not():
    program = """
import sys
sys.argv = ["/usr/bin/ns-train"]
from importlib.metadata import entry_points
from nerfstudio.configs.method_configs import all_methods
assert "page4d-4dgs" in all_methods
print(sorted({"transformers", "numba", "torchmetrics", "sklearn", "gsplat.cuda._backend"} & set(sys.modules)))
"""

    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip().splitlines()[-1] == "[]"


def test_without_a_gpu_the_device_is_the_cpu():
    assert CONFIG.machine.device_type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_wrong_option_ends_the_command_with_one_sentence(capsys):
    with pytest.raises(SystemExit) as ended:
        parse("--machine.device-type", "cuda").setup()

    assert ended.value.code == 1
    assert "no CUDA device" in capsys.readouterr().out


@pytest.mark.parametrize("option", ["mixed_precision", "use_grad_scaler"])
def test_mixed_precision_is_refused(option):
    config = dataclasses.replace(parse("--machine.device-type", "cpu"), **{option: True})

    with pytest.raises(Page4DError, match="trains in float32"):
        Page4DTrainer(config)


def test_splitting_by_size_on_the_screen_stops_at_a_step_that_scales_with_the_run():
    model = parse("--max-num-iterations", "1700", "--pipeline.model.stop-screen-size-at", "4000").pipeline.model

    assert density_control(model, model.schedule(), n_views=7).refine_scale2d_stop_iter == 400


def test_the_reference_run_has_the_schedule_of_4dgs():
    schedule = parse().pipeline.model.schedule()

    assert (schedule.coarse_steps, schedule.densify_from, schedule.densify_until) == (3000, 500, 13000)


@pytest.mark.parametrize(
    ("options", "coarse_steps"),
    [
        (("--max-num-iterations", "1700"), 300),
        (("--max-num-iterations", "1700", "--pipeline.model.coarse-steps", "1000"), 100),
        (("--max-num-iterations", "100", "--schedule-length", "1700"), 300),  # which is resumed
    ],
)
def test_a_short_run_is_a_scaled_run(options, coarse_steps):
    schedule = parse(*options).pipeline.model.schedule()

    assert (schedule.coarse_steps, schedule.densify_from, schedule.densify_until) == (coarse_steps, 50, 1300)
    assert schedule.sh_degree_interval == 100


def test_times_grow_over_the_share_of_the_fine_stage_that_is_asked_for():
    schedule = parse("--max-num-iterations", "1700", "--pipeline.model.time-growth", "0.5").pipeline.model.schedule()

    assert (schedule.coarse_steps, schedule.all_times_from) == (300, 1000)
    assert [round(schedule.span_at(step), 3) for step in (0, 299, 300, 650, 1000)] == [0.5, 0.5, 0.06, 0.28, 0.5]


@pytest.mark.parametrize("option", [{"use_deformation": False}, {"time_growth": 0.0}])
def test_times_do_not_grow_without_deformation_or_growth(option):
    model = parse("--max-num-iterations", "1700").pipeline.model

    assert dataclasses.replace(model, **option).schedule().span_at(300) == 0.5


def test_times_do_not_grow_where_what_moves_was_tracked_unless_that_is_asked_for():
    model = parse("--max-num-iterations", "1700").pipeline.model

    assert model.schedule().all_times_from == 1420
    assert model.schedule(tracked=True).all_times_from == 300
    assert dataclasses.replace(model, time_growth=0.5).schedule(tracked=True).all_times_from == 1000


def test_a_run_of_no_steps_is_refused():
    with pytest.raises(Page4DError, match="at least one step"):
        Page4DTrainerConfig(max_num_iterations=0)


def test_the_length_of_a_run_is_given_in_one_way_alone():
    with pytest.raises(SystemExit):
        parse("--pipeline.model.run-length", "100")


# --- learning rates


def learning_rates(scheduler, lr: float, steps: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    schedule = scheduler.setup().get_scheduler(optimizer, lr)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


@pytest.mark.parametrize(
    ("options", "lr", "expected"),
    [
        ({"hold_steps": 2, "max_steps": 4}, 1e-1, [1e-1, 1e-1, 1e-1, 1e-2, 1e-3, 1e-3, 1e-3]),
        ({"hold_steps": 2, "max_steps": 6, "starts_anew": True}, 1e-1, [1e-1, 10**-1.5, 1e-1, 10**-1.5, 1e-2]),
        ({}, 0.0, [0.0, 0.0, 0.0]),  # which freezes the parameters
    ],
)
def test_a_learning_rate_holds_then_decays_exponentially_then_stays(options, lr, expected):
    rates = learning_rates(HoldThenDecaySchedulerConfig(lr_final=1e-3, **options), lr, len(expected))

    assert rates == pytest.approx(expected)


def test_a_decay_to_nothing_is_refused():
    with pytest.raises(Page4DError, match=r"goes from one above 0 to another, got lr=0\.1 and lr_final=0"):
        learning_rates(HoldThenDecaySchedulerConfig(lr_final=0.0), 1e-1, 1)


def test_a_rate_holds_as_long_as_the_static_stage_by_default():
    group = {"optimizer": FusedAdamConfig(), "scheduler": HoldThenDecaySchedulerConfig()}

    scaled = scale_group(group, factor=1.0, run_length=1700, coarse_steps=10_000)

    assert scaled["scheduler"].hold_steps == 1000


def test_the_decay_is_nerfstudios_where_nothing_is_held():
    ours = learning_rates(HoldThenDecaySchedulerConfig(lr_final=1e-4, max_steps=50), 1e-2, 60)
    theirs = learning_rates(ExponentialDecaySchedulerConfig(lr_final=1e-4, max_steps=50), 1e-2, 60)

    assert ours == pytest.approx(theirs)


def group(lr: float = 1e-2) -> dict:
    scheduler = HoldThenDecaySchedulerConfig(lr_final=lr / 100, hold_steps=3000, max_steps=17_000)
    return {"optimizer": FusedAdamConfig(lr=lr), "scheduler": scheduler}


def test_a_factor_applies_to_the_learning_rate_from_first_to_last():
    scaled = scale_group(group(), factor=5.0, run_length=1700)

    assert scaled["optimizer"].lr == pytest.approx(5e-2)
    assert scaled["scheduler"].lr_final == pytest.approx(5e-4)


def test_decay_spans_the_run_and_starts_with_the_deformation():
    scaled = scale_group(group(), factor=1.0, run_length=170)

    assert (scaled["scheduler"].hold_steps, scaled["scheduler"].max_steps) == (30, 170)


def test_scaling_leaves_the_configuration_itself_alone():
    original = group()

    scale_group(original, factor=5.0, run_length=170)

    assert original == group()


def test_a_learning_rate_without_scheduler_stays_without():
    assert scale_group(group() | {"scheduler": None}, 2.0, 170)["scheduler"] is None


def test_positions_learn_in_units_of_the_extent():
    assert learning_rate_factor("means", extent=5.0, run_length=1700) == 5.0
    assert learning_rate_factor("scales", extent=5.0, run_length=1700) == 1.0


@pytest.mark.parametrize(("run_length", "factor"), [(17_000, 1.0), (34_000, 1.0), (1700, 10.0), (17, 30.0)])
@pytest.mark.parametrize("name", ["planes", "heads"])
def test_the_deformation_learns_as_much_faster_as_the_run_is_shorter(name, run_length, factor):
    assert learning_rate_factor(name, extent=5.0, run_length=run_length) == pytest.approx(factor)
