"""Points of a reconstruction: which pixels give one, and what it carries."""

import tracemalloc

import numpy as np
import pytest
from plane_model import WORLD_POINT, reconstruct_plane

from page4d_hf.reconstruction import points as points_module
from page4d_hf.reconstruction.points import choose_points, even_quotas


def test_points_carry_the_time_and_the_motion_of_their_pixel():
    _, result = reconstruct_plane(((30, 50),) * 3, times=[10, 11, 15], motion="head")
    assert np.unique(result.point_times).tolist() == [0, np.float32(0.2), 1]
    gray = result.point_colors[:, 0]
    assert set(np.unique(gray[result.point_times == np.float32(0.2)])) >= {20, 255}
    np.testing.assert_array_equal(result.point_motion, gray > 127)


def test_the_least_confident_pixels_give_no_point():
    _, result = reconstruct_plane(((28, 56),), confidence_percentile=25)
    # Confidence grows by rows: a quarter of 28 rows of 56 pixels is gone.
    assert len(result.points) == 21 * 56
    assert result.point_confidence.min() == np.float32(1 + 7 / 28)


def test_pixels_that_are_not_finite_give_no_point():
    def change(output):
        output.depth[0, 0, :3] = np.inf
        output.depth[0, 0, 3:5] = np.nan
        output.depth_conf[0, 0, 5:7] = np.inf

    _, result = reconstruct_plane(((28, 56),), change)
    assert len(result.points) == (28 - 7) * 56
    assert np.isfinite(result.points).all()


def test_a_network_that_gives_no_finite_point_gives_an_empty_cloud_and_says_so(caplog):
    _, result = reconstruct_plane(change=lambda output: output.depth.fill_(np.inf))
    assert result.points.shape == (0, 3)
    assert len(result.point_times) == len(result.point_colors) == len(result.point_motion) == 0
    assert "point cloud is empty" in caplog.text


def test_the_same_frames_give_the_same_points():
    np.testing.assert_array_equal(
        reconstruct_plane(max_points=99)[1].points, reconstruct_plane(max_points=99)[1].points
    )


def test_quotas_are_as_equal_as_what_each_frame_has_to_give_allows():
    rng = np.random.default_rng(0)
    for _ in range(200):
        counts = rng.integers(0, 50, rng.integers(1, 12)).tolist()
        limit = int(rng.integers(1, 400))
        quotas = even_quotas(counts, limit)
        assert sum(quotas) == min(limit, sum(counts))
        assert all(0 <= quota <= count for quota, count in zip(quotas, counts, strict=True))
        # Whoever could give more gets no less than any other, up to the one that does not divide.
        for quota, count in zip(quotas, counts, strict=True):
            assert quota == count or quota >= max(quotas) - 1


def test_the_point_head_s_points_are_taken_on_request():
    _, result = reconstruct_plane(points="world", confidence_percentile=50)
    assert (result.points == WORLD_POINT.numpy()).all()
    assert result.point_confidence.min() > 1.4  # its confidence falls by rows where the depth's grows
    assert len(result.points) == pytest.approx(3 * 28 * 56 / 2, abs=2)


def test_points_of_a_long_clip_are_chosen_in_less_memory_than_its_maps_take(monkeypatch):
    monkeypatch.setattr(points_module, "MOST_SCORES", 1 << 15)
    maps = [np.random.default_rng(frame).random((100, 100), np.float32) for frame in range(100)]
    tracemalloc.start()
    chosen = choose_points(maps, maps, 25, 1000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sum(map(len, chosen)) == 1000
    assert np.mean([values.flat[index].min() > 0.24 for values, index in zip(maps, chosen, strict=True)]) > 0.9
    assert peak < 100 * maps[0].nbytes
