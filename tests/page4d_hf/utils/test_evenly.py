"""Some of many things, evenly."""

import numpy as np
import pytest

from page4d_hf.utils.evenly import evenly, one_of_each_stretch


def test_the_first_and_the_last_are_among_what_is_taken_evenly():
    assert evenly(12, 4).tolist() == [0, 4, 7, 11]
    assert evenly(3, None).tolist() == evenly(3, 5).tolist() == [0, 1, 2]
    assert evenly(5, 1).tolist() == [0]


@pytest.mark.parametrize("limit", [2, 7, 67, 99, 100, 101])
def test_what_is_taken_evenly_is_equally_far_apart(limit):
    chosen = evenly(100, limit)
    assert len(np.unique(chosen)) == len(chosen) == min(limit, 100)
    assert (chosen[0], chosen[-1]) == (0, 99)
    assert np.ptp(np.diff(chosen)) <= 1


@pytest.mark.parametrize(("count", "limit"), [(10, 10), (100, 7), (11, 10), (5, 0), (0, 0), (3, 8)])
def test_one_index_is_drawn_from_each_stretch(count, limit):
    chosen = one_of_each_stretch(count, limit, np.random.default_rng(0))
    taken = min(count, limit)
    edges = [count * i // max(taken, 1) for i in range(taken + 1)]
    assert len(chosen) == taken
    for i, value in enumerate(chosen):
        assert edges[i] <= value < edges[i + 1]
