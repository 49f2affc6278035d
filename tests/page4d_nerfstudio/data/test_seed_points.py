"""Which pixels become points."""

import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest

from page4d_nerfstudio.data import starting_points
from page4d_nerfstudio.data.seed_points import LEAST_MOVING_SHARE, spread_over_frames
from page4d_nerfstudio.data.starting_points import SeedOptions, points_of_reconstruction
from page4d_nerfstudio.gaussians.schedule import CANONICAL_TIME, FIRST_SPAN

TIMES = np.linspace(0, 1, 21)
NEAR = np.abs(TIMES - CANONICAL_TIME) <= FIRST_SPAN


def chosen_of(maps, limit, times=TIMES):
    return list(spread_over_frames(lambda i: maps[i], times, limit))


def video(moving_pixels, size=(20, 30)):
    """Frames of which the first pixels move and every seventh can't be used."""
    usable = np.arange(size[0] * size[1]) % 7 > 0
    moves = np.arange(size[0] * size[1]) < moving_pixels
    return [(usable.reshape(size), moves.reshape(size))] * len(TIMES)


def test_only_usable_pixels_are_chosen_and_no_more_than_asked_for():
    maps = video(60)
    for limit in (1, 10, 333, 5000):
        chosen = chosen_of(maps, limit)
        assert sum(keep.sum() for keep in chosen) == limit
        assert not any((keep & ~usable).any() for keep, (usable, _) in zip(chosen, maps, strict=True))


def test_all_pixels_are_chosen_where_there_are_not_more_than_asked_for():
    maps = video(60)
    chosen = chosen_of(maps, 21 * 600)
    assert all((keep == usable).all() for keep, (usable, _) in zip(chosen, maps, strict=True))


def test_what_stands_still_is_spread_evenly_over_frames_and_images():
    chosen = chosen_of(video(0), 2100)
    assert {int(keep.sum()) for keep in chosen} == {100}
    halves = np.array([(keep[:10].sum(), keep[10:].sum()) for keep in chosen])
    assert (np.abs(halves - 50) <= 2).all()


def test_little_that_moves_gets_a_fifth_half_of_it_from_around_the_canonical_time():
    maps = video(40)
    of_moving = np.array([(keep & moves).sum() for keep, (_, moves) in zip(chosen_of(maps, 500), maps, strict=True)])
    assert of_moving.sum() == LEAST_MOVING_SHARE * 500
    assert of_moving[NEAR].sum() == of_moving[~NEAR].sum()
    assert np.ptp(of_moving[NEAR]) <= 1
    assert np.ptp(of_moving[~NEAR]) <= 1


def test_much_that_moves_gets_its_share():
    maps = video(300)
    of_moving = sum((keep & moves).sum() for keep, (_, moves) in zip(chosen_of(maps, 1000), maps, strict=True))
    assert of_moving == pytest.approx(500, abs=5)


def test_what_moves_at_other_times_alone_gets_all_that_is_for_what_moves():
    maps = [(usable, moves & (i < 3)) for i, (usable, moves) in enumerate(video(100))]
    of_moving = sum((keep & moves).sum() for keep, (_, moves) in zip(chosen_of(maps, 1000), maps, strict=True))
    assert of_moving == 200


def test_without_a_frame_around_the_canonical_time_the_nearest_stands_in_for_it():
    maps = video(40)[:3]
    of_moving = [
        int((keep & moves).sum())
        for keep, (_, moves) in zip(chosen_of(maps, 100, np.array([0.0, 0.2, 1.0])), maps, strict=True)
    ]
    assert of_moving == [5, 10, 5]


def test_the_least_confident_pixels_of_a_long_clip_are_left_out_and_few_maps_are_held(monkeypatch):
    monkeypatch.setattr(starting_points, "MOST_SCORES", 1 << 15)
    count, size = 150, 100
    ranks = np.random.default_rng(0).permutation(size * size).reshape(size, size).astype(np.float32) + 1
    scene = SimpleNamespace(
        has_motion=False,
        load_confidence=lambda i: ranks.copy(),
        load_depth=lambda i: np.where(ranks > size * size / 4, 2, np.float32(3)),  # the least confident are the farther
    )
    camera = np.tile(np.eye(4)[:3], (count, 1, 1)), np.tile(np.diag([100.0, 100, 1]), (count, 1, 1))
    images = SimpleNamespace(load_image=lambda i: np.zeros((size, size, 3), np.uint8), load_use=lambda i: None)
    times, train = np.linspace(0, 1, count), np.arange(count)
    frames = SimpleNamespace(images=images, extrinsics=camera[0], intrinsics=camera[1], times=times, train=train)
    tracemalloc.start()
    points = points_of_reconstruction(scene, train, 1.0, frames, SeedOptions(max_points=4000, confidence_percentile=25))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(points) == 4000
    assert (points.positions[:, 2] == 2).mean() > 0.97
    assert peak < 100 * ranks.nbytes
