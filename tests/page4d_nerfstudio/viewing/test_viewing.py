"""What the viewer shows of motion: the colouring, the choice of Gaussians, and that nothing else pays for them."""

import contextlib
import math
import threading
import time
from types import SimpleNamespace

import pytest
import torch
from nerfstudio.configs.base_config import ViewerConfig
from nerfstudio.data.scene_box import OrientedBox
from nerfstudio.utils.colormaps import ColormapOptions, apply_colormap
from nerfstudio.viewer.render_state_machine import RenderStateMachine
from nerfstudio.viewer.utils import parse_object
from nerfstudio.viewer.viewer import Viewer
from nerfstudio.viewer.viewer_elements import ViewerElement
from small_gaussians import HEIGHT, WIDTH, cameras, fine, half_moving, make_model, optimizers_of, train_step

from page4d_nerfstudio.gaussians import motion
from page4d_nerfstudio.gaussians.deformation import Offsets
from page4d_nerfstudio.gaussians.motion import path_diameter
from page4d_nerfstudio.viewing.panel import Panel


def outputs_of(model, time=0.7, **options):
    model.eval()
    with torch.no_grad():
        return model.get_outputs_for_camera(cameras([time]), **options)


class ViewerThread(RenderStateMachine):
    """A thread of the viewer's kind that runs one function."""

    def __init__(self, function):
        threading.Thread.__init__(self)
        self.function = function

    def run(self):
        self.result = self.function()


def seen_in_viewer(model, **options):
    thread = ViewerThread(lambda: outputs_of(model, **options))
    thread.start()
    thread.join()
    return thread.result


class Swing(torch.nn.Module):
    """A field that swings everything along x and back, `amplitude` to each side, three times over the clip."""

    amplitude = 0.25

    def forward(self, positions, time):
        shift = self.amplitude * torch.sin(torch.tensor(time * 6 * torch.pi))
        return Offsets(shift * torch.eye(3)[0].expand(len(positions), 3), None, None, None, None)


# --- how far things go


def test_motion_is_the_extent_of_a_path_and_not_its_length():
    assert path_diameter(Swing(), torch.rand(5, 3), samples=200).numpy() == pytest.approx(0.5, rel=1e-3)


def test_motion_does_not_depend_on_where_the_canonical_place_is():
    class Elsewhere(Swing):
        def forward(self, positions, time):
            offsets = super().forward(positions, time)
            return offsets._replace(position=offsets.position + 10.0)

    points = torch.rand(5, 3)
    torch.testing.assert_close(path_diameter(Elsewhere(), points), path_diameter(Swing(), points))


def test_motion_of_a_model_is_the_largest_distance_between_its_gaussians_places():
    model = fine(half_moving())
    with torch.no_grad():
        places = torch.stack([model.gaussians_at(i / 23).means for i in range(24)])  # [T, N, 3]
        expected = (places[:, None] - places[None]).norm(dim=-1).amax(dim=(0, 1))

    torch.testing.assert_close(model.motion_over_clip(), expected)
    assert (expected[:20] > 0).all()
    assert not expected[20:].any()


@pytest.mark.parametrize("still", ["static model", "coarse stage", "no Gaussian moves", "positions do not"])
def test_what_cannot_move_has_no_motion(still):
    if still == "static model":
        model = fine(make_model(use_deformation=False))
    elif still == "coarse stage":
        model = make_model()
    elif still == "no Gaussian moves":
        model = fine(make_model(motion=torch.zeros(40)))
    else:
        model = make_model()
        model.config.deformation.position = False
        model = fine(make_model(deformation=model.config.deformation))

    assert torch.equal(model.motion_over_clip(), torch.zeros(40))
    assert torch.equal(outputs_of(model)["motion"], torch.zeros(HEIGHT, WIDTH, 1))


def test_motion_follows_the_model_as_it_changes():
    model = fine(half_moving())
    before = model.motion_over_clip()
    assert model.motion_over_clip() is before  # computed once

    with torch.no_grad():
        model.deformation.last["position"].weight.mul_(2)
        model.deformation.last["position"].bias.mul_(2)
    torch.testing.assert_close(model.motion_over_clip(), 2 * before)

    model.strategy_state["in_motion"] = ~model.in_motion
    assert not model.motion_over_clip()[:20].any()


# --- the output


def test_the_motion_image_composites_motion_as_colours_are_composited():
    """All Gaussians go equally far: the image is that distance times the accumulation."""
    model = fine(make_model())
    with torch.no_grad():
        model.opacities.uniform_(-2, 3)
    model.deformation.forward = Swing().forward

    outputs = outputs_of(model)

    distance = model.motion_over_clip()[0]
    assert distance > 0.4
    torch.testing.assert_close(outputs["motion"], distance * outputs["accumulation"], atol=1e-5, rtol=1e-5)
    colored = apply_colormap(outputs["motion"], ColormapOptions(normalize=True))
    assert colored.shape == (HEIGHT, WIDTH, 3)


def test_motion_is_an_output_that_costs_nothing_until_it_is_read(monkeypatch):
    model = fine(half_moving())
    monkeypatch.setattr(motion, "path_diameter", lambda *args: pytest.fail("computed"))

    outputs = outputs_of(model)

    assert {"rgb", "depth", "accumulation", "background", "motion"} == set(outputs)
    assert outputs["rgb"].shape == (HEIGHT, WIDTH, 3)
    assert "motion" in outputs


def test_training_has_no_such_output():
    model = fine(half_moving()).train()
    model.step_cb(optimizers_of(model), model.step)
    camera = cameras([0.5])
    camera.metadata = {"cam_idx": 0}
    assert set(model.get_outputs(camera)) == {"rgb", "accumulation", "background"}


def test_a_view_can_be_coloured_when_the_training_has_gone_on_since():
    model = fine(half_moving())
    expected = outputs_of(model)["motion"]
    outputs = outputs_of(model)

    for name, parameter in list(model.gauss_params.items()):  # density control puts new, longer ones in their place
        model.gauss_params[name] = torch.nn.Parameter(torch.cat([parameter, parameter[:3]]).detach())
    model.strategy_state["in_motion"] = torch.cat([model.in_motion, model.in_motion[:3]])

    torch.testing.assert_close(outputs["motion"], expected)


# --- the training cameras


class Captured:
    """A data set of two images."""

    cameras = cameras([0.0, 1.0])

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return {"image": torch.rand(HEIGHT, WIDTH, 3)}


@pytest.fixture
def viewer(tmp_path):
    """nerfstudio's viewer, which has not drawn anything yet."""
    pipeline = torch.nn.Module()
    pipeline.datamanager, pipeline.model = SimpleNamespace(includes_time=True), make_model()
    pipeline.panel = Panel(pipeline.model)
    viewer = Viewer(ViewerConfig(websocket_host="127.0.0.1"), tmp_path / "log" / "viewer.txt", tmp_path, pipeline)
    yield viewer
    viewer.viser_server.stop()


@pytest.mark.slow
def test_the_button_that_hides_cameras_does_nothing_until_they_are_drawn(viewer):
    viewer.set_camera_visibility(False)

    viewer.init_scene(Captured(), "completed")
    assert [camera.visible for camera in viewer.camera_handles.values()] == [True, True]
    viewer.set_camera_visibility(False)
    assert [camera.visible for camera in viewer.camera_handles.values()] == [False, False]


@pytest.mark.slow
def test_cameras_can_be_hidden_while_others_are_being_drawn(viewer):
    """Which nerfstudio does in a thread of its own."""

    class DrawnMeanwhile:
        @property
        def visible(self):
            return self.shown

        @visible.setter
        def visible(self, shown):
            self.shown = shown
            viewer.camera_handles[len(viewer.camera_handles)] = SimpleNamespace()

    first = DrawnMeanwhile()
    viewer.camera_handles = {0: first}
    viewer.set_camera_visibility(False)
    assert first.visible is False
    assert len(viewer.camera_handles) == 2


@pytest.mark.slow
def test_who_opens_the_viewer_looks_through_the_first_training_camera(viewer):
    data = Captured()
    data.cameras = cameras([1.0, 0.0])
    data.cameras.camera_to_worlds[1, :, 3] = torch.tensor([0.5, -0.25, 3.0])
    viewer.pipeline.datamanager.train_dataset = data
    client = SimpleNamespace(atomic=contextlib.nullcontext, camera=SimpleNamespace(aspect=WIDTH / HEIGHT))

    viewer.pipeline.panel.training_cameras.look_through_the_first(client)

    state = viewer.get_camera_state(client)
    torch.testing.assert_close(state.c2w.float(), data.cameras.camera_to_worlds[1])
    assert HEIGHT / 2 / math.tan(state.fov / 2) == pytest.approx(30.0)


@pytest.mark.slow
def test_time_plays_until_it_is_stopped(viewer):
    panel, control = viewer.pipeline.panel, viewer.control_panel
    assert control.time == 0.0
    panel.plays.value = True
    while control.time == 0.0:
        time.sleep(0.01)
    panel.plays.value = False
    panel.clock.join()  # which ends


# --- the choice of Gaussians


def test_the_viewer_finds_its_elements():
    pipeline = torch.nn.Module()
    pipeline.model = fine(half_moving())
    pipeline.panel = Panel(pipeline.model)

    elements = dict(parse_object(pipeline, ViewerElement, "Custom Elements"))

    names = ["Play", "Seconds per clip", "Gaussians", "Moving from (%)"]
    assert [element.name for element in elements.values()] == names


def test_static_and_moving_gaussians_are_shown_apart():
    model = fine(half_moving())
    panel = Panel(model)
    panel.shown_moving_from.default_value = 0.0
    everything = seen_in_viewer(model)
    seen = {}
    for kind, others in (("static", slice(0, 20)), ("moving", slice(20, 40))):
        panel.shown_gaussians.default_value = kind
        seen[kind] = seen_in_viewer(model)
        alone = fine(half_moving())
        with torch.no_grad():
            alone.opacities[others] = -100.0
        torch.testing.assert_close(seen[kind]["rgb"], outputs_of(alone)["rgb"], atol=1e-5, rtol=0)
    assert not torch.allclose(everything["rgb"], seen["static"]["rgb"], atol=1e-2)
    assert seen["static"]["motion"].max() == 0.0
    assert seen["moving"]["motion"].max() > 0.0


def test_a_gaussian_moves_from_the_distance_that_the_user_says():
    model = fine(half_moving())
    panel = Panel(model)
    distances = model.motion_over_clip()[:20].sort().values
    panel.shown_gaussians.default_value = "moving"
    panel.shown_moving_from.default_value = 100 * float(distances[9] + distances[10]) / 2 / model.scene_extent

    assert model.looked_at() is None  # not in the viewer
    thread = ViewerThread(model.looked_at)
    thread.start()
    thread.join()

    assert int(thread.result.sum()) == 10
    assert not thread.result[20:].any()


def test_the_choice_changes_no_evaluation_and_no_training():
    model, free = fine(half_moving()), fine(half_moving())
    Panel(model).shown_gaussians.default_value = "static"

    torch.testing.assert_close(outputs_of(model)["rgb"], outputs_of(free)["rgb"])
    truth = torch.rand(HEIGHT, WIDTH, 3)
    losses = []
    for each in (model, free):
        torch.manual_seed(5)  # of the background
        losses.append(train_step(each, optimizers_of(each), 31, cameras([0.2]), truth)["main_loss"])
    torch.testing.assert_close(*losses)


def test_a_single_gaussian_is_shown_inside_of_a_crop_box():
    model = make_model(n=1)
    whole = OrientedBox.from_params((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), (9.0, 9.0, 9.0))

    assert torch.equal(outputs_of(model, obb_box=whole)["rgb"], outputs_of(model)["rgb"])


@pytest.mark.parametrize("own", [None, torch.ones(3)])
def test_the_background_of_the_viewer_is_that_of_its_own_frames_alone(own):
    model, free = (fine(make_model(background=own)) for _ in range(2))
    blue = torch.tensor([0.0, 0.0, 1.0])

    model.set_background(blue)  # as the viewer does before each frame

    assert torch.equal(seen_in_viewer(model)["background"][0, 0], blue)
    assert torch.equal(outputs_of(model)["background"], outputs_of(free)["background"])
    backgrounds = []
    for each in (model, free):
        torch.manual_seed(5)
        backgrounds.append(each.train()._get_background_color())
    assert torch.equal(*backgrounds)


@pytest.mark.parametrize("nothing", ["nothing moves", "nothing in the crop box"])
def test_a_view_of_nothing_has_all_outputs(nothing):
    model = fine(make_model(motion=torch.zeros(40)))
    options = {}
    if nothing == "nothing moves":
        Panel(model).shown_gaussians.default_value = "moving"
    else:
        options["obb_box"] = OrientedBox.from_params((50.0, 0.0, 0.0), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))

    outputs = seen_in_viewer(model, **options)

    shapes = {name: tuple(values.shape[2:]) for name, values in outputs.items()}
    assert shapes == {"rgb": (3,), "depth": (1,), "accumulation": (1,), "background": (3,), "motion": (1,)}
    assert not outputs["motion"].any()
    assert torch.equal(outputs["rgb"], outputs["background"])
