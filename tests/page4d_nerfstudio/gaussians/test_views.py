"""Times of cameras that have none, from where the training cameras went."""

import pytest
import torch
from nerfstudio.cameras.camera_paths import get_interpolated_camera_path
from nerfstudio.cameras.cameras import Cameras

from page4d_nerfstudio.gaussians.views import TrainingViews


def camera_at(*position: float) -> torch.Tensor:
    """Camera-to-world [3, 4] there, looking along -z."""
    return torch.cat([torch.eye(3), torch.tensor(position)[:, None]], dim=1)


def path(positions: list[tuple[float, float, float]], times: list[float] | None) -> Cameras:
    poses = torch.stack([camera_at(*position) for position in positions])
    clock = None if times is None else torch.tensor(times)[:, None]
    return Cameras(poses, 1.0, 1.0, 1.0, 1.0, width=2, height=2, times=clock)


@pytest.fixture
def there_and_back() -> TrainingViews:
    """To x = 3 and, higher up, back again; given out of the order of time."""
    positions = [(0, 0, 0), (2, 0, 0), (1, 0, 0), (3, 0, 0), (2, 1, 0), (1, 1, 0), (0, 1, 0)]
    times = [0.0, 0.2, 0.1, 0.3, 0.8, 0.9, 1.0]
    return TrainingViews.of(path([tuple(map(float, p)) for p in positions], times), extent=1.0)


def test_at_a_training_camera_it_is_that_cameras_time(there_and_back):
    assert there_and_back.time_near(camera_at(1, 1, 0)) == pytest.approx(0.9)


def test_between_two_training_cameras_the_time_is_between_theirs(there_and_back):
    assert there_and_back.time_near(camera_at(1.25, 0, 0)) == pytest.approx(0.125)


def test_beside_the_path_the_time_is_that_of_the_closest_point(there_and_back):
    assert there_and_back.time_near(camera_at(1.25, -0.3, 0)) == pytest.approx(0.125)


def test_beyond_the_ends_the_time_stays_within_the_capture(there_and_back):
    assert there_and_back.time_near(camera_at(-5, 1, 0)) == 1.0
    assert there_and_back.time_near(camera_at(-5, -1, 0)) == 0.0


def test_two_visits_of_a_place_are_not_mixed(there_and_back):
    assert there_and_back.time_near(camera_at(1, 0.45, 0)) == pytest.approx(0.1)
    assert there_and_back.time_near(camera_at(1, 0.55, 0)) == pytest.approx(0.9)


def test_the_direction_tells_cameras_at_one_place_apart():
    turned = camera_at(0, 0, 0)
    turned[:, :3] = torch.tensor([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])
    poses = torch.stack([camera_at(0, 0, 0), turned])
    cameras = Cameras(poses, 1.0, 1.0, 1.0, 1.0, width=2, height=2, times=torch.tensor([[0.0], [1.0]]))
    views = TrainingViews.of(cameras, extent=1.0)

    assert views.time_near(turned) == 1.0


def test_training_cameras_without_times_tell_nothing():
    assert TrainingViews.of(path([(0.0, 0.0, 0.0)], None), extent=1.0) is None


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_on_an_interpolated_path_images_have_the_training_images_size(scale):
    """nerfstudio takes twice the principal point for the size of cameras between others."""
    poses = torch.stack([camera_at(float(i), 0.0, 0.0) for i in range(3)])
    cameras = Cameras(poses, 50.0, 50.0, 27.0, 22.0, width=60, height=40, times=torch.tensor([[0.0], [0.5], [1.0]]))
    views = TrainingViews.of(cameras, extent=1.0)
    between = get_interpolated_camera_path(cameras, steps=4, order_poses=False)
    between.rescale_output_resolution(scale)

    assert views.size_of(between[1:2]) == (60 * scale, 40 * scale)


def test_a_camera_of_another_size_keeps_it():
    cameras = Cameras(camera_at(0, 0, 0)[None], 50.0, 50.0, 27.0, 22.0, width=60, height=40, times=torch.zeros(1, 1))
    views = TrainingViews.of(cameras, extent=1.0)
    other = Cameras(camera_at(0, 0, 0)[None], 50.0, 50.0, 50.0, 50.0, width=80, height=70)

    assert views.size_of(other) == (80, 70)
