"""Plans of micro-batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from clip_plans import plan_micro_batch

from page4d_hf.clips.sampling import (
    PAPER_SOURCES,
    ClipTable,
    SamplingConfig,
    Source,
    SourceConfig,
    draw_window,
    keyed_generator,
    plan_sample,
    plan_shape,
    shorter_clips,
    source_named,
)
from page4d_hf.errors import ClipError, SamplingError


def source(lengths: list[int], ordered: bool = True, **settings: Any) -> Source:
    settings.setdefault("name", "films")
    table = ClipTable(np.array(lengths), np.full(len(lengths), ordered), [f"clip-{i}" for i in range(len(lengths))])
    return Source(SourceConfig(**settings), table)


def test_the_plan_of_a_seed_does_not_change_from_machine_to_machine() -> None:
    plan = plan_micro_batch(7, 3, SamplingConfig(), [source([40, 30, 50]), source([25, 80], ordered=False)])
    assert (plan.num_frames, plan.image_size) == (5, (196, 518))
    assert [(s.source, s.row, s.frames) for s in plan.samples] == [
        (1, 0, (22, 12, 14, 7, 0)),
        (0, 2, (34, 35, 36, 37, 38)),
        (0, 1, (12, 15, 18, 21, 24)),
        (0, 2, (13, 14, 15, 16, 17)),
        (1, 1, (53, 52, 48, 76, 70)),
        (1, 1, (55, 38, 46, 78, 59)),
    ]


def test_all_numbers_of_frames_come_equally_often_and_fill_the_budget() -> None:
    shapes = [plan_shape(0, i, SamplingConfig(), np.ones(1)) for i in range(3000)]
    counts = np.bincount([shape.num_frames for shape in shapes], minlength=17)
    assert not counts[:2].any()
    assert (np.abs(counts[2:] - 200) < 5 * np.sqrt(200)).all()
    assert all(len(shape.sources) == 32 // shape.num_frames for shape in shapes)


def test_a_sample_larger_than_the_budget_comes_alone() -> None:
    shape = plan_shape(0, 0, SamplingConfig(frames_min=9, frames_max=9, frame_budget=8), np.ones(1))
    assert (shape.num_frames, len(shape.sources)) == (9, 1)


def test_heights_are_multiples_of_the_patch_size_over_the_whole_range_of_aspects() -> None:
    sizes = {plan_shape(0, i, SamplingConfig(), np.ones(1)).image_size for i in range(2000)}
    assert {width for _, width in sizes} == {518}
    assert {height for height, _ in sizes} == set(range(168, 519, 14))


def test_sources_come_as_often_as_their_weights_say() -> None:
    weights = np.array([14.6, 22.9, 0.0, 10.4, 52.1, 0.0])
    drawn = np.concatenate([plan_shape(0, i, SamplingConfig(), weights).sources for i in range(4000)])
    counts = np.bincount(drawn, minlength=6)
    expected = weights / weights.sum() * len(drawn)
    assert (np.abs(counts - expected) <= 5 * np.sqrt(expected)).all()


def test_windows_have_a_fixed_stride_of_the_range_and_lie_anywhere_in_the_clip() -> None:
    config = SourceConfig(stride_min=2, stride_max=5)
    windows = np.array([draw_window(keyed_generator(i), 30, 4, config, ordered=True) for i in range(2000)])
    strides = np.diff(windows, axis=1)
    assert (strides == strides[:, :1]).all()
    assert set(strides[:, 0]) == {2, 3, 4, 5}
    for stride in (2, 3, 4, 5):
        assert set(windows[strides[:, 0] == stride, 0]) == set(range(30 - 3 * stride))


def test_the_stride_falls_to_what_a_short_clip_allows() -> None:
    config = SourceConfig(stride_min=4, stride_max=8)
    windows = {draw_window(keyed_generator(i), 8, 4, config, ordered=True) for i in range(50)}
    assert windows == {(0, 2, 4, 6), (1, 3, 5, 7)}
    assert draw_window(keyed_generator(0), 4, 4, config, ordered=True) == (0, 1, 2, 3)


def test_one_frame_may_be_any_of_the_clip() -> None:
    windows = {draw_window(keyed_generator(i), 3, 1, SourceConfig(), ordered=True) for i in range(50)}
    assert windows == {(0,), (1,), (2,)}


def test_frames_of_an_unordered_clip_are_distinct_and_in_any_order() -> None:
    windows = [draw_window(keyed_generator(i), 6, 4, SourceConfig(), ordered=False) for i in range(300)]
    assert all(len(set(window)) == 4 for window in windows)
    assert {window[0] for window in windows} == set(range(6))
    assert any(list(window) != sorted(window) for window in windows)


def test_the_settings_of_a_source_overrule_what_its_clips_say_of_their_order() -> None:
    ordered = draw_window(keyed_generator(0), 9, 4, SourceConfig(ordered=True, stride_max=1), ordered=False)
    assert ordered == tuple(range(ordered[0], ordered[0] + 4))
    unordered = {draw_window(keyed_generator(i), 9, 4, SourceConfig(ordered=False), ordered=True) for i in range(9)}
    assert any(list(window) != sorted(window) for window in unordered)


def test_clips_that_are_too_short_are_not_drawn_and_the_others_equally_often() -> None:
    sources = [source([3, 20, 3, 30])]
    rows = np.bincount([plan_sample(0, i, 0, 0, 8, 0, sources).row or 0 for i in range(2000)], minlength=4)
    assert rows[[0, 2]].sum() == 0
    assert abs(rows[1] - 1000) < 5 * np.sqrt(500)


def test_clips_that_are_too_short_for_some_samples_are_counted() -> None:
    config, table = source([3, 20, 3, 30])
    assert shorter_clips(config, table, 3) is None
    told = shorter_clips(config, table, 20)
    assert told == "2 clips have fewer than 20 frames, of the 4 of films: samples of more frames come from the others."


def test_a_source_without_a_clip_that_is_long_enough_is_an_error_that_says_what_fits() -> None:
    with pytest.raises(ClipError, match="No clip of films has 8 frames, the longest has 5; lower frames_max to 5"):
        plan_sample(0, 0, 0, 0, 8, 0, [source([3, 5])])


def test_another_attempt_draws_again_from_the_same_source() -> None:
    sources = [source([50] * 100), source([60] * 100)]
    attempts = [plan_sample(0, 0, 0, attempt, 4, 1, sources) for attempt in range(20)]
    assert {attempt.source for attempt in attempts} == {1}
    assert len({attempt.row for attempt in attempts}) > 10
    assert len({attempt.seed for attempt in attempts}) == 20


def test_the_sources_of_the_paper_have_its_weights_and_strides() -> None:
    known = {name: (s.weight, s.stride_min, s.stride_max, s.ordered) for name, s in PAPER_SOURCES.items()}
    assert known == {
        "point-odyssey": (14.6, 1, 8, None),
        "dynamic-replica": (22.9, 1, 4, None),
        "kubric": (10.4, 1, 1, None),
        "spring": (10.4, 1, 3, None),
        "co3d": (20.8, 1, 4, False),
        "waymo": (20.8, 1, 4, None),
    }
    assert source_named("spring", "/clips").path == "/clips"
    assert source_named("spring", "/clips").stride_max == 3
    assert source_named("mine", "/clips") == SourceConfig(path="/clips", name="mine")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"frames_min": 5, "frames_max": 4}, "frames_min"),
        ({"frame_budget": 0}, "frame_budget"),
        ({"width": 500, "patch_size": 14}, "multiple of the patch size 14, got 500"),
        ({"width": 0}, "width must be from 1 to 32768, got 0"),
        ({"aspect_min": 0.0}, "aspect_min"),
        ({"frames_max": 10**400}, "frames_max <= 10000, got 2 and 1000"),
        ({"frame_budget": 10**9}, "frame_budget must be from 1 to 10000"),
        ({"aspect_max": 1e300}, "aspect_max <= 100, got"),
        ({"frames_max": 5000, "width": 518}, "5000 frames of 518x518 has more than the 500,000,000 pixels"),
    ],
)
def test_settings_of_sampling_that_cannot_be_met_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SamplingError, match=message):
        SamplingConfig(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weight": -1}, "weight of films"),
        ({"weight": float("nan")}, "weight of films"),
        ({"stride_min": 0}, "stride_min"),
        ({"stride_min": 5}, "got 5 and 4"),
        ({"depth_percentile": 0}, "depth_percentile"),
        ({"lanes": 0}, "lane"),
    ],
)
def test_settings_of_a_source_that_cannot_be_met_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SamplingError, match=message):
        SourceConfig(name="films", **settings)


@pytest.mark.parametrize("sources", [[], [source([9], weight=0)]])
def test_no_source_to_draw_from_is_an_error(sources: list[Source]) -> None:
    with pytest.raises(SamplingError, match="at least one source"):
        plan_micro_batch(0, 0, SamplingConfig(), sources)
