"""Micro-batches: complete, labelled, and the same whoever makes them."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clip_folders import noise_clip, row, write_shards
from clip_plans import plan_of
from datasets import load_dataset

from page4d_hf.clips import batches, decode_frames
from page4d_hf.clips.augmentation import AugmentationConfig, augment_clip
from page4d_hf.clips.batches import MicroBatches, micro_batch_loader
from page4d_hf.clips.sampling import SamplingConfig, SourceConfig, keyed_generator
from page4d_hf.errors import ClipError, SamplingError
from page4d_hf.synthetic import SyntheticOptions

pytestmark = pytest.mark.slow

TINY = SamplingConfig(frames_min=2, frames_max=4, frame_budget=8, width=28, aspect_min=0.5)
SHARDS = (3, 1, 2, 2, 4)  # rows of each


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Twelve clips in five shards; clip 4 has broken images, clip 7 is too short for more than two frames."""
    rows = []
    for i in range(sum(SHARDS)):
        rows.append(row(noise_clip(f"noise/{i:02d}", 2 if i == 7 else 5 + i)))
    rows[4]["images"] = [{"bytes": b"no image", "path": None}] * 9
    cuts = np.cumsum((0, *SHARDS))
    shards = [rows[first:last] for first, last in itertools.pairwise(cuts)]
    return write_shards(tmp_path_factory.mktemp("clips"), shards)


def of(*sources: SourceConfig, seed: int = 0, **options: Any) -> MicroBatches:
    return MicroBatches(sources, options.pop("sampling", TINY), seed=seed, **options)


def made_of(clips: str, kind: str) -> MicroBatches:
    mapped = SourceConfig(path=clips, name="mapped")
    streamed = SourceConfig(path=clips, name="streamed", streaming=True, lanes=3)
    synthetic = SourceConfig(path="synthetic", weight=0.4)
    return of(*{"mapped": [mapped], "streamed": [streamed], "mixed": [mapped, streamed, synthetic]}[kind])


def assert_same(first: Any, second: Any) -> None:
    """Whether two batches are equal in all they hold, bit for bit."""
    assert type(first) is type(second)
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            assert_same(first[key], second[key])
    elif isinstance(first, torch.Tensor):
        assert first.dtype == second.dtype
        assert torch.equal(first, second)
    else:
        assert first == second


# --------------------------------------------------------------------------------------------------------------------
# What a batch holds


def test_a_micro_batch_holds_what_the_training_needs(clips: str) -> None:
    dataset = made_of(clips, "mapped")
    for index in range(5):
        plan, batch = plan_of(dataset, index), dataset[index]
        b, s, (h, w) = len(plan.samples), plan.num_frames, plan.image_size
        assert set(batch) == {"pixel_values", "labels", "clip_ids", "skips"}
        shapes = {name: (tuple(value.shape), value.dtype) for name, value in batch["labels"].items()}
        assert shapes == {
            "extrinsics": ((b, s, 3, 4), torch.float32),
            "intrinsics": ((b, s, 3, 3), torch.float32),
            "depth": ((b, s, h, w), torch.float32),
            "motion_mask": ((b, s, h, w), torch.bool),
            "has_pose": ((b,), torch.bool),
            "has_depth": ((b,), torch.bool),
            "has_motion": ((b,), torch.bool),
        }
        pixels = batch["pixel_values"]
        assert (pixels.shape, pixels.dtype, pixels.is_contiguous()) == ((b, s, 3, h, w), torch.float32, True)
        assert 0 <= pixels.min() < 0.2 < 0.8 < pixels.max() <= 1 + 1e-6
        assert batch["labels"]["has_pose"].all()
        assert batch["labels"]["has_depth"].all()
        assert batch["labels"]["has_motion"].all()
        assert len(batch["clip_ids"]) == b


def test_a_sample_is_the_planned_window_of_the_planned_clip_augmented_by_the_planned_seed(clips: str) -> None:
    dataset = of(SourceConfig(path=clips, depth_percentile=90), seed=3)
    rows = load_dataset(clips, split="train")
    compared = 0
    for index in range(4):
        plan, batch = plan_of(dataset, index), dataset[index]
        for i, sample in enumerate(plan.samples):
            if sample.row == 4:
                continue  # the broken one
            clip = decode_frames(rows[sample.row], sample.frames)
            expected = augment_clip(
                clip, plan.image_size, AugmentationConfig(), keyed_generator(sample.seed), depth_percentile=90
            )
            assert batch["clip_ids"][i] == f"{clip.clip_id} (frames {', '.join(map(str, sample.frames))})"
            assert torch.equal(batch["pixel_values"][i], expected.images)
            for name in ("depth", "motion_mask", "intrinsics", "extrinsics"):
                values = torch.from_numpy(getattr(expected, name))
                assert torch.equal(batch["labels"][name][i], values.to(batch["labels"][name].dtype))
            compared += 1
    assert compared >= 8


def test_what_a_clip_lacks_is_said_and_filled(tmp_path: Path) -> None:
    full = noise_clip("full", 4)
    lacking = [
        row(full),
        row(noise_clip("no depth", 4, depth=None)),
        row(noise_clip("no pose", 4, intrinsics=None, extrinsics=None)),
        row(noise_clip("no mask", 4, motion_mask=None)),
    ]
    path = write_shards(tmp_path / "clips", [lacking])
    dataset = of(SourceConfig(path=path), sampling=SamplingConfig(4, 4, 16, 28, 0.5))
    seen = set()
    for index in range(10):
        batch = dataset[index]
        names = [clip.partition(" (")[0] for clip in batch["clip_ids"]]
        seen.update(names)
        labels = batch["labels"]
        assert labels["has_depth"].tolist() == [name != "no depth" for name in names]
        assert labels["has_pose"].tolist() == [name != "no pose" for name in names]
        assert labels["has_motion"].tolist() == [name != "no mask" for name in names]
        for i, name in enumerate(names):
            assert (name == "no mask") == (not labels["motion_mask"][i].any())
            assert (name == "no depth") == (not labels["depth"][i].any())
            assert (name == "no pose") == torch.equal(labels["extrinsics"][i], torch.eye(3, 4).expand(4, 3, 4))
            assert (name == "no pose") == torch.equal(labels["intrinsics"][i], torch.eye(3).expand(4, 3, 3))
    assert len(seen) == 4


def test_where_no_sample_has_a_motion_mask_the_batch_has_none(tmp_path: Path) -> None:
    path = write_shards(tmp_path / "clips", [[row(noise_clip("no mask", 4, motion_mask=None))]])
    labels = of(SourceConfig(path=path), sampling=SamplingConfig(4, 4, 16, 28, 0.5))[0]["labels"]
    assert not {"motion_mask", "has_motion"} & set(labels)


def test_synthetic_scenes_are_made_of_what_is_asked_for() -> None:
    source = SourceConfig(path="synthetic")
    still = of(source, scenes=SyntheticOptions(still_share=1.0))

    assert not any(still[i]["labels"]["motion_mask"].any() for i in range(3))
    assert any(of(source)[i]["labels"]["motion_mask"].any() for i in range(3))


def test_synthetic_clips_come_in_the_size_of_the_batch_with_all_their_labels() -> None:
    dataset = of(SourceConfig(path="synthetic"))
    batch = dataset[0]
    plan = plan_of(dataset, 0)
    assert batch["pixel_values"].shape == (len(plan.samples), plan.num_frames, 3, *plan.image_size)
    assert (batch["labels"]["depth"] > 0).all()
    assert batch["labels"]["has_pose"].all()
    assert batch["clip_ids"][0].startswith(f"synthetic/{plan.samples[0].seed} (frames 0, 1")
    assert batch["skips"] == []
    assert not torch.equal(batch["pixel_values"][0], batch["pixel_values"][1])


# --------------------------------------------------------------------------------------------------------------------
# Skips


@pytest.mark.parametrize("kind", ["mapped", "streamed"])
def test_clips_that_cannot_be_used_are_named_and_others_take_their_places(clips: str, kind: str) -> None:
    dataset = made_of(clips, kind)
    skips = []
    for index in range(20):
        batch = dataset[index]
        assert len(batch["clip_ids"]) == len(plan_of(dataset, index).samples)
        assert not any("noise/04" in clip for clip in batch["clip_ids"])
        skips += batch["skips"]
    assert any("clip noise/04" in skip for skip in skips)
    # Only of a stream it is not known beforehand.
    assert any("Clip noise/07 has 2 frames, too few for" in skip for skip in skips) is (kind == "streamed")
    told = "1 clip has fewer than 4 frames, of the 12 of mapped: samples of more frames come from the others."
    assert dataset.notes == ([told] if kind == "mapped" else [])


@pytest.mark.parametrize(
    "changes",
    [
        {"depth": np.zeros((5, 30, 40), np.float32)},
        {"intrinsics": np.tile(np.array([[35.0, 0, 40], [0, 36, 14], [0, 0, 1]]), (5, 1, 1))},
    ],
    ids=["depth all unknown", "principal point at the side"],
)
def test_a_clip_whose_frames_show_to_be_unusable_is_named(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = write_shards(tmp_path / "clips", [[row(noise_clip("good", 5)), row(noise_clip("bad", 5, **changes))]])
    dataset = of(SourceConfig(path=path))
    made = [dataset[i] for i in range(6)]
    assert all(clip.startswith("good") for batch in made for clip in batch["clip_ids"])
    skips = [skip for batch in made for skip in batch["skips"]]
    assert skips
    assert all("bad" in skip for skip in skips)


SMALL = SamplingConfig(frames_min=2, frames_max=2, frame_budget=2, width=28)
UNLABELLED: dict[str, Any] = {"depth": None, "depth_scale": None, "intrinsics": None, "extrinsics": None}


@pytest.mark.parametrize("kind", ["mapped", "streamed"])
def test_clips_that_nothing_can_be_learned_from_end_in_an_error_that_names_what_they_have(tmp_path, kind) -> None:
    folder = write_shards(tmp_path / "clips", [[row(noise_clip("bare", 8), **UNLABELLED)]])
    source = SourceConfig(path=folder, streaming=kind == "streamed")
    message = "bare has images and motion masks, but none of what the loss learns from: depth, cameras"
    with pytest.raises(ClipError, match=message):
        MicroBatches([source], SMALL)[0]
    assert MicroBatches([source], SMALL, labels=["motion_mask"])[0]["labels"]["has_motion"].all()


@pytest.mark.parametrize("kind", ["mapped", "streamed"])
def test_a_shard_that_breaks_off_is_told_in_one_sentence(tmp_path, kind) -> None:
    folder = write_shards(tmp_path, [[row(noise_clip(name, 8)) for name in "ab"]])
    shard = tmp_path / "data" / "train-00000.parquet"
    data = bytearray(shard.read_bytes())
    data[1000:-20_000] = bytes(len(data) - 21_000)
    shard.write_bytes(data)
    with pytest.raises(ClipError, match=r"^[^\n]+ cannot be read as a data set of clips: [^\n]+\Z"):
        MicroBatches([SourceConfig(path=folder, streaming=kind == "streamed")], SMALL)[0]


def test_no_damage_to_a_file_raises_anything_but_a_clip_error(tmp_path) -> None:
    folder = write_shards(tmp_path / "clips", [[row(noise_clip(name, 3)) for name in "ab"]])
    shard = tmp_path / "clips" / "data" / "train-00000.parquet"
    whole, generator = shard.read_bytes(), np.random.default_rng(0)
    ended = []
    for number in range(24):
        damaged = bytearray(whole)
        # The last of a file says where all else is.
        for place in generator.integers(0 if number % 3 else len(whole) - 6000, len(whole), 1 + number % 4):
            damaged[place] = generator.integers(256)
        shard.write_bytes(damaged[: -generator.integers(1, 100)] if number % 8 == 7 else damaged)
        try:
            MicroBatches([SourceConfig(path=folder, streaming=bool(number % 4))], SMALL)[0]
            ended.append("well")
        except ClipError:
            ended.append("refused")
    assert set(ended) == {"well", "refused"}


@pytest.mark.parametrize("column", ["num_frames", "ordered", "clip_id"])
def test_a_column_that_lacks_values_is_named(tmp_path, column) -> None:
    folder = write_shards(tmp_path / "clips", [[row(noise_clip("a", 8), **{column: None})]])
    with pytest.raises(ClipError, match=f"The column '{column}' of .* lacks values"):
        MicroBatches([SourceConfig(path=folder)], SMALL)
    with pytest.raises(ClipError, match=f"at {column}: it should be a valid"):
        MicroBatches([SourceConfig(path=folder, streaming=True)], SMALL)[0]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_source_of_broken_clips_ends_in_an_error_that_names_it(
    tmp_path: Path, streaming: bool, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "TRIES", 5)
    broken = row(noise_clip("broken", 5), images=[{"bytes": b"no image", "path": None}] * 5)
    path = write_shards(tmp_path / "clips", [[broken]])
    dataset = of(SourceConfig(path=path, name="mine", streaming=streaming))
    with pytest.raises(ClipError, match=r"^5 clips of mine .* cannot be used; the last: .*clip broken"):
        next(micro_batch_loader(dataset, workers=workers))


def test_a_source_whose_clips_are_all_too_short_is_refused_before_training(tmp_path: Path) -> None:
    path = write_shards(tmp_path / "clips", [[row(noise_clip("short", 3))]])
    with pytest.raises(ClipError, match="No clip of mine has 4 frames, the longest has 3"):
        of(SourceConfig(path=path, name="mine"))


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(SamplingError, match="got -1"):
        of(SourceConfig(path="synthetic"), seed=-1)


# --------------------------------------------------------------------------------------------------------------------
# The same batches whoever makes them


@pytest.mark.parametrize("kind", ["mapped", "streamed", "mixed"])
@pytest.mark.parametrize(("processes", "workers"), [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2)])
def test_neither_workers_nor_processes_change_what_comes(clips: str, kind: str, processes: int, workers: int) -> None:
    alone = made_of(clips, kind)
    expected = [alone[i] for i in range(8)]
    for process in range(processes):
        loader = micro_batch_loader(
            made_of(clips, kind),
            process_index=process,
            num_processes=processes,
            micro_batches=4,
            workers=workers,
        )
        for index in range(process, 8, processes):
            assert_same(next(loader), expected[index])


@pytest.mark.parametrize("kind", ["mapped", "streamed", "mixed"])
@pytest.mark.parametrize("workers", [0, 2])
def test_starting_at_an_index_gives_the_tail_of_the_whole(clips: str, kind: str, workers: int) -> None:
    """Of the streamed lanes, of 5, 5 and 2 rows, several passes lie before the index."""
    whole = made_of(clips, kind)
    expected = [whole[i] for i in range(26)]
    tail = micro_batch_loader(made_of(clips, kind), start=22, workers=workers)
    for batch in expected[22:]:
        assert_same(next(tail), batch)


def test_streamed_clips_come_lane_by_lane_in_the_order_of_the_shards(tmp_path: Path) -> None:
    shards = [[row(noise_clip(f"{shard}-{i}", 4)) for i in range(count)] for shard, count in enumerate(SHARDS)]
    path = write_shards(tmp_path / "clips", shards)
    sampling = SamplingConfig(4, 4, 12, 28, 0.5)  # three samples each
    dataset = of(SourceConfig(path=path, streaming=True, lanes=2), sampling=sampling)
    lanes = [
        itertools.cycle([f"{shard}-{i}" for shard in range(lane, 5, 2) for i in range(SHARDS[shard])])
        for lane in range(2)
    ]
    for index in range(14):
        names = [clip.partition(" (")[0] for clip in dataset[index]["clip_ids"]]
        assert names == list(itertools.islice(lanes[index % 2], 3))


def test_a_substitute_does_not_move_where_the_next_micro_batch_begins(tmp_path: Path) -> None:
    rows = [row(noise_clip(name, 4)) for name in "abcdef"]
    rows[1]["images"] = [{"bytes": b"no image", "path": None}] * 4
    path = write_shards(tmp_path / "clips", [rows])
    sampling = SamplingConfig(4, 4, 8, 28, 0.5)  # two samples each
    dataset = of(SourceConfig(path=path, streaming=True), sampling=sampling)
    names = ["".join(clip[0] for clip in dataset[index]["clip_ids"]) for index in range(4)]
    assert names == ["ac", "cd", "ef", "ac"]


def test_each_row_is_read_once_where_every_lane_has_one_reader(clips: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from page4d_hf.clips import lanes

    opened = []
    rows_from = lanes._LaneReader._rows_from

    def counted(self: Any, number: int) -> Any:
        opened.append(number)
        return rows_from(self, number)

    monkeypatch.setattr(lanes._LaneReader, "_rows_from", counted)
    dataset = made_of(clips, "streamed")
    for index in range(1, 10, 3):  # lane 1 of 3 alone, as one of three workers would
        dataset[index]
    assert set(opened) == {0}  # every pass from its beginning, with nothing read over


def test_the_loader_leaves_the_random_numbers_of_the_training_alone(clips: str) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    next(micro_batch_loader(made_of(clips, "mapped")))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_processes": 2, "micro_batches": 3}, "set micro_batches to a multiple of 2"),
        ({"num_processes": 2, "process_index": 2, "micro_batches": 2}, "process from 0 to 1, got 2"),
        ({"start": -1}, "got -1"),
    ],
)
def test_shares_that_do_not_come_out_even_are_refused_at_once(options: dict[str, int], message: str) -> None:
    with pytest.raises(SamplingError, match=message):
        micro_batch_loader(of(SourceConfig(path="synthetic")), **options)
