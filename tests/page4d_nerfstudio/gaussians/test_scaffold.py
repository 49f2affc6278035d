import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from small_gaussians import cameras, fine, make_model

from page4d_nerfstudio.gaussians.scaffold import MotionScaffold, turned

TIMES = np.linspace(0, 1, 11)


def two_bodies(count: int = 60) -> np.ndarray:
    """Paths [K, T, 3] of two cubes: the first turns about its middle, the second moves away from it."""
    rng = np.random.default_rng(0)
    points = rng.uniform(-0.2, 0.2, (count, 3))
    turns = Rotation.from_rotvec((TIMES[:, None] - 0.5) * (0, 2.0, 0)).as_matrix()
    first = np.einsum("tij,kj->kti", turns, points) - np.array((0.6, 0, 0))
    second = points[:, None] + (0.6, 0, 0) + (TIMES[:, None] - 0.5) * (0, 1.0, 0)
    return np.concatenate((first, second))


def test_points_between_tracks_move_with_them():
    paths = two_bodies()
    scaffold = MotionScaffold.of_paths(paths[::2], TIMES)
    others = torch.from_numpy(paths[1::2]).float()
    for index in (0, 3, 10):
        moved, _ = scaffold(others[:, 5], TIMES[index])
        assert float((moved - others[:, index]).norm(dim=1).max()) < 0.02


def test_nothing_moves_at_the_canonical_time():
    points = torch.from_numpy(two_bodies()[:, 5]).float()
    moved, turn = MotionScaffold.of_paths(two_bodies(), TIMES)(points, 0.5)
    torch.testing.assert_close(moved, points, atol=1e-4, rtol=0)
    torch.testing.assert_close(turn[:, 0].abs(), torch.ones(len(points)), atol=1e-4, rtol=0)


def test_points_go_back_to_where_they_were_at_the_canonical_time():
    paths = two_bodies()
    scaffold = MotionScaffold.of_paths(paths, TIMES)
    back = scaffold.to_canonical(torch.from_numpy(paths[:, 9]).float(), TIMES[9])
    assert float((back - torch.from_numpy(paths[:, 5]).float()).norm(dim=1).max()) < 0.02


def test_times_between_frames_are_interpolated():
    paths = two_bodies()
    moved, _ = MotionScaffold.of_paths(paths, TIMES)(torch.from_numpy(paths[:, 5]).float(), 0.85)
    between = torch.from_numpy((paths[:, 8] + paths[:, 9]) / 2).float()
    assert float((moved - between).norm(dim=1).max()) < 0.02


def test_gaussians_are_turned_as_the_body_is():
    paths = two_bodies()
    _, turn = MotionScaffold.of_paths(paths, TIMES)(torch.from_numpy(paths[:60, 5]).float(), 1.0)
    expected = Rotation.from_rotvec((0, 1.0, 0))
    start = Rotation.random(60, random_state=0)
    quats = torch.from_numpy(start.as_quat()[:, [3, 0, 1, 2]]).float()
    got = Rotation.from_quat(turned(quats, turn).numpy()[:, [1, 2, 3, 0]])
    assert (got * (expected * start).inv()).magnitude().max() < 0.02


def test_points_far_away_and_not_finite_do_no_harm():
    points = torch.tensor([[1e4, 0.0, 0.0], [torch.nan, 0.0, 0.0]], requires_grad=True)
    moved, turn = MotionScaffold.of_paths(two_bodies(), TIMES)(points, 0.0)
    assert moved[0].isfinite().all()
    assert turn.isfinite().all()
    moved[0].sum().backward()
    assert points.grad[0].isfinite().all()


def tracks_metadata() -> dict[str, torch.Tensor]:
    return {"tracks_xyz": torch.from_numpy(two_bodies()).float(), "tracks_times": torch.from_numpy(TIMES).float()}


def half_moving(**options):
    motion = (torch.arange(40) % 2).float()
    return make_model(motion=motion, tracks=tracks_metadata(), **options)


def test_what_moves_follows_the_tracks_before_anything_is_learned():
    model = fine(half_moving(), trained=False)
    gaussians = model.gaussians_at(1.0)
    moved, _ = model.deformation.scaffold(model.means[model.in_motion], 1.0)
    torch.testing.assert_close(gaussians.means[model.in_motion], moved)
    torch.testing.assert_close(gaussians.means[~model.in_motion], model.means[~model.in_motion])
    assert model.eval()(cameras([1.0]))["rgb"].isfinite().all()


@pytest.mark.parametrize("options", [{"use_tracks": False}, {"use_deformation": False}])
def test_tracks_are_an_option(options):
    model = half_moving(**options)
    assert model.deformation is None or model.deformation.scaffold is None


def test_tracks_are_left_out_where_nothing_tells_what_moves(capsys):
    assert make_model(tracks=tracks_metadata()).deformation.scaffold is None
    assert "nothing tells which seed points move" in capsys.readouterr().out


def test_seeds_of_all_times_are_carried_to_the_canonical_one():
    motion, times = (torch.arange(40) % 2).float(), torch.linspace(0, 1, 40)
    model = make_model(motion=motion, times=times, tracks=tracks_metadata())
    plain = make_model(motion=motion, times=times)
    assert len(model.means) == 40
    carried = (model.means - plain.means).norm(dim=1) > 1e-3
    assert carried[motion.bool() & ((times - 0.5).abs() > 0.2)].all()
    assert not carried[~motion.bool()].any()


def test_a_checkpoint_brings_its_motions_with_it():
    saved, other = half_moving(), make_model(motion=(torch.arange(40) % 2).float())
    other.load_state_dict(saved.state_dict())
    points = torch.rand(5, 3)
    for got, expected in zip(
        other.deformation.scaffold(points, 0.2), saved.deformation.scaffold(points, 0.2), strict=True
    ):
        torch.testing.assert_close(got, expected)
    saved.load_state_dict(make_model(motion=(torch.arange(40) % 2).float()).state_dict())
    assert saved.deformation.scaffold is None


@pytest.mark.filterwarnings("ignore:.*meta parameter:UserWarning")
@pytest.mark.parametrize("has_tracks", [True, False])
def test_a_checkpoint_brings_its_motions_to_the_device_of_the_model(has_tracks):
    saved = half_moving()
    model = saved if has_tracks else make_model(motion=(torch.arange(40) % 2).float())
    state = saved.state_dict()
    model.to("meta")
    model.load_state_dict(state)
    assert {buffer.device.type for buffer in model.deformation.scaffold.buffers()} == {"meta"}
