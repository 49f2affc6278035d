"""Which images a training step may see."""

import dataclasses
import random
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from nerfstudio.cameras.cameras import Cameras
from small_captures import write_capture

from page4d_nerfstudio.data.datamanager import Page4DDatamanager, Page4DDatamanagerConfig
from page4d_nerfstudio.data.dataparser import Page4DDataParserConfig
from page4d_nerfstudio.gaussians.schedule import Schedule

FRAMES = 21
GROWING = Schedule(
    coarse_steps=100,
    all_times_from=900,
    densify_from=10,
    densify_until=500,
    screen_size_until=0,
    sh_degree_interval=1,
    resolution_interval=1,
)


class Images(SimpleNamespace):
    def __len__(self) -> int:
        return len(self.cameras)


def datamanager(times: torch.Tensor, schedule: Schedule | None) -> Page4DDatamanager:
    """One that has its images, without what nerfstudio does to load them."""
    bare = Page4DDatamanager.__new__(Page4DDatamanager)
    torch.nn.Module.__init__(bare)
    poses = torch.eye(4)[None, :3].repeat(len(times), 1, 1)
    bare.train_cameras = Cameras(poses, 5.0, 5.0, 3.0, 2.0, width=6, height=4, times=times[:, None])
    bare.train_dataset = Images(cameras=bare.train_cameras)
    bare.cached_train = [{"image": torch.zeros(4, 6, 3), "image_idx": i} for i in range(len(times))]
    bare.device = "cpu"
    bare.schedule = schedule
    bare.sample_train_cameras = lambda: random.sample(range(len(times)), len(times))
    bare.train_unseen_cameras = bare.sample_train_cameras()
    return bare


def times_seen(manager: Page4DDatamanager, step: int, draws: int = 100) -> set[float]:
    return {round(float(manager.next_train(step)[0].times), 3) for _ in range(draws)}


EVEN = torch.linspace(0, 1, FRAMES)
ALL = {round(float(time), 3) for time in EVEN}


def test_the_static_stage_sees_all_times():
    assert times_seen(datamanager(EVEN, GROWING), step=99) == ALL


def test_the_fine_stage_begins_with_the_times_around_the_middle():
    assert times_seen(datamanager(EVEN, GROWING), step=100) == {0.45, 0.5, 0.55}


def test_times_grow_from_the_middle_outwards():
    manager = datamanager(EVEN, GROWING)

    seen = [times_seen(manager, step) for step in (100, 300, 500, 700)]

    assert all(early < late for early, late in pairwise(seen))
    assert seen[2] == {time for time in ALL if abs(time - 0.5) <= 0.28}


def test_the_last_part_of_a_training_sees_all_times():
    assert times_seen(datamanager(EVEN, GROWING), step=900) == ALL


def test_without_a_schedule_all_times_are_seen():
    assert times_seen(datamanager(EVEN, None), step=100) == ALL


def draws_of_a_training(manager: Page4DDatamanager, steps: range, seed: int = 0) -> list[int]:
    """How often each image was drawn, two of them a step."""
    random.seed(seed)
    count = [0] * len(manager.train_dataset)
    for step in steps:
        for _ in range(2):
            count[manager.next_train(step)[0].metadata["cam_idx"]] += 1
    return count


def test_every_other_image_of_the_span_comes_before_any_comes_again():
    manager = datamanager(EVEN, GROWING)
    manager.train_unseen_cameras = [0]  # outside of the span: the next draw begins a new round

    drawn = [round(float(manager.next_train(100)[0].times), 3) for _ in range(12)]

    assert set(drawn[0:6:2]) == set(drawn[6:12:2]) == {0.45, 0.5, 0.55}


@pytest.mark.slow
def test_images_that_come_late_are_seen_more_than_half_as_often_as_the_mean_of_all():
    count = draws_of_a_training(datamanager(EVEN, GROWING), range(100, 1000))

    assert min(count) > sum(count) / FRAMES / 2


@pytest.mark.slow
def test_the_middle_is_not_forgotten_while_the_ends_catch_up():
    manager = datamanager(EVEN, GROWING)
    draws_of_a_training(manager, range(100, 800))

    late = draws_of_a_training(manager, range(800, 900))

    middle = sum(late[FRAMES // 3 : -FRAMES // 3])
    assert middle > 0.3 * sum(late) / 2


def test_the_static_stage_and_trainings_without_growth_draw_round_by_round():
    at_once = dataclasses.replace(GROWING, all_times_from=GROWING.coarse_steps)
    for schedule, steps in ((GROWING, range(21)), (at_once, range(100, 121)), (None, range(21))):
        assert draws_of_a_training(datamanager(EVEN, schedule), steps) == [2] * FRAMES


@pytest.mark.slow
def test_a_resumed_training_draws_what_it_would_have(tmp_path):
    parser = Page4DDataParserConfig(data=write_capture(tmp_path / "capture", frames=13))

    def manager() -> Page4DDatamanager:
        made = Page4DDatamanagerConfig(dataparser=parser).setup(device="cpu")
        made.schedule = GROWING
        return made

    whole = manager()
    draws_of_a_training(whole, range(100, 500))
    state, resumed = whole.order(), manager()
    resumed.set_order(state)

    assert draws_of_a_training(resumed, range(500, 600)) == draws_of_a_training(whole, range(500, 600))


def test_a_capture_with_a_gap_in_its_middle_begins_beside_the_gap():
    times = torch.tensor([0.0, 0.1, 0.2, 0.75, 1.0])

    assert times_seen(datamanager(times, GROWING), step=100) == {0.75}


def test_a_resumed_training_may_begin_where_times_grow(capture):
    """No step before it has made nerfstudio read the images, and with them the cameras that it keeps."""
    parser = Page4DDataParserConfig(data=capture)
    manager = Page4DDatamanagerConfig(dataparser=parser).setup(device="cpu")
    manager.schedule = GROWING

    assert abs(float(manager.next_train(100)[0].times) - 0.5) < 0.1
