"""Shards that are whole or absent, and runs that go on where they were."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq
import pytest
from file_limits import largest_file
from folder_contents import contents
from launching import AS_COMMAND
from stored_frames import stored_capture

from page4d_hf.clips import clip_features
from page4d_hf.clips.encoding import EncodedClip, Skip, encode_clip, plan_clips
from page4d_hf.clips.writing import FOOTER, RECORD, ClipWriter
from page4d_hf.errors import ClipError, Page4DError
from page4d_hf.utils.folders import LOCK

Clips = dict[tuple[str, str], list[EncodedClip]]  # by split and sequence


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Clips:
    """Clips of three sequences; the last of `c` is one that was left out."""
    found: Clips = {}
    for split, name in (("train", "a"), ("train", "b"), ("validation", "c")):
        capture = stored_capture(tmp_path_factory.mktemp(name), 10, sequence=name)
        plans, _ = plan_clips(capture, "test", frames_per_clip=2)
        found[split, name] = [encode_clip(plan) for plan in plans]
    left_out = Skip("clip", "test/c/0099", "it is broken")
    found["validation", "c"].append(EncodedClip("test/c/0099", None, [left_out]))
    return found


def write(
    output: Path, clips: Clips, *, stop_after: int | None = None, options: dict[str, Any] | None = None, seed: int = 0
) -> ClipWriter:
    """Write what is not done; stop without an end after so many clips."""
    sequences: dict[str, list[str]] = {}
    for split, name in clips:
        sequences.setdefault(split, []).append(name)
    with ClipWriter(
        output, options=options or {"stride": 1}, sequences=sequences, seed=seed, max_shard_bytes=20_000
    ) as writer:
        added = 0
        for (split, name), encoded in clips.items():
            for clip in encoded:
                if writer.is_done(clip.clip_id):
                    continue
                if added == stop_after:
                    return writer
                writer.add(split, clip)
                added += 1
            if not writer.sequence_is_done(name):
                writer.end_sequence(split, name, [Skip("frame", f"test/{name}", "it is dark")])
        writer.finish("Test clips")
    return writer


def ids(folder: Path, split: str) -> list[str]:
    loaded = datasets.load_dataset(str(folder), split=split)
    return loaded["clip_id"][:]


def test_load_dataset_reads_the_folder_as_it_is(tmp_path, clips):
    write(tmp_path / "out", clips)
    loaded = datasets.load_dataset(str(tmp_path / "out"))
    assert {split: len(rows) for split, rows in loaded.items()} == {"train": 10, "validation": 5}
    assert loaded["train"].features == clip_features()


def test_every_clip_is_written_once_and_in_random_order(tmp_path, clips):
    write(tmp_path / "out", clips)
    written = ids(tmp_path / "out", "train")
    in_order = [clip.clip_id for name in "ab" for clip in clips["train", name]]
    assert sorted(written) == in_order
    assert written != in_order


@pytest.mark.slow
def test_the_seed_draws_the_order(tmp_path, clips):
    write(tmp_path / "one", clips)
    write(tmp_path / "same", clips)
    write(tmp_path / "other", clips, seed=1)
    assert contents(tmp_path / "one") == contents(tmp_path / "same")
    assert ids(tmp_path / "one", "train") != ids(tmp_path / "other", "train")


def test_a_shard_ends_as_soon_as_it_is_large_enough(tmp_path, clips):
    write(tmp_path / "out", clips)
    shards = sorted((tmp_path / "out" / "data").glob("train-*.parquet"))
    assert len(shards) > 2
    assert all(20_000 < shard.stat().st_size < 40_000 for shard in shards[:-1])


@pytest.mark.parametrize("stop_after", [0, 1, 4, 5, 9, 11, 15])
def test_an_interrupted_run_goes_on_to_the_same_files(tmp_path, clips, stop_after):
    whole = write(tmp_path / "whole", clips)
    write(tmp_path / "resumed", clips, stop_after=stop_after)
    resumed = write(tmp_path / "resumed", clips)
    assert contents(tmp_path / "resumed") == contents(tmp_path / "whole")
    assert resumed.skipped == whole.skipped
    assert resumed.splits == whole.splits


def test_what_was_left_out_is_listed(tmp_path, clips):
    write(tmp_path / "out", clips)
    assert (tmp_path / "out" / "skipped.txt").read_text().splitlines() == [
        "frame test/a: it is dark",
        "frame test/b: it is dark",
        "clip test/c/0099: it is broken",
        "frame test/c: it is dark",
    ]


def test_a_run_that_has_ended_says_so(tmp_path, clips):
    first = write(tmp_path / "out", clips)
    sequences = {"train": ["a", "b"], "validation": ["c"]}
    with ClipWriter(
        tmp_path / "out", options={"stride": 1}, sequences=sequences, seed=0, max_shard_bytes=20_000
    ) as again:
        assert again.complete
        assert again.splits == first.splits
        assert again.num_skipped == 4


def disk_full_at(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the disk be full when the file of the given number is made to last."""
    calls = iter(range(1000))
    fsync: Callable[[int], None] = os.fsync

    def fail(descriptor: int) -> None:
        if next(calls) >= count:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fail)


@pytest.mark.parametrize("count", [2, 4, 6, 8, 10, 12])
def test_a_full_disk_leaves_whole_shards_from_which_the_next_run_goes_on(tmp_path, clips, monkeypatch, count):
    write(tmp_path / "whole", clips)
    with monkeypatch.context() as patch:
        disk_full_at(count, patch)
        with pytest.raises(
            ClipError, match=r"No space left .* whole shards are kept\. Make room and run the command again to go on"
        ):
            write(tmp_path / "out", clips)
    whole = contents(tmp_path / "whole")
    left = contents(tmp_path / "out")
    assert not [name for name in left if ".partial" in name]
    assert all(whole[name] == data for name, data in left.items() if name.endswith(".parquet"))
    write(tmp_path / "out", clips)
    assert contents(tmp_path / "out") == whole


def test_other_options_are_refused_with_the_option_that_differs(tmp_path, clips):
    write(tmp_path / "out", clips, stop_after=5, options={"stride": 1, "max_side": None})
    with pytest.raises(ClipError, match=r"was begun with --max-side unset, not 518\."):
        write(tmp_path / "out", clips, options={"stride": 1, "max_side": 518})


def test_other_sequences_are_refused(tmp_path, clips):
    write(tmp_path / "out", clips, stop_after=5)
    fewer = {key: value for key, value in clips.items() if key[1] != "b"}
    with pytest.raises(ClipError, match=r"2 sequences in the split train, now there are 1.*for example b"):
        write(tmp_path / "out", fewer)


def test_a_folder_of_something_else_is_left_alone(tmp_path, clips):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("dear")
    with pytest.raises(Page4DError, match="holds something else"):
        write(tmp_path / "out", clips)
    assert contents(tmp_path / "out") == {"thesis.tex": b"dear"}


@pytest.mark.slow
def test_two_runs_at_a_time_are_refused(tmp_path, clips):
    program = AS_COMMAND + "from page4d_hf.utils.folders import working_folder\n"
    program += "with working_folder(sys.argv[1]): input(1)"
    first = subprocess.Popen(
        [sys.executable, "-c", program, tmp_path / "out"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert first.stdout is not None
    assert first.stdout.read(1) == b"1"
    with pytest.raises(Page4DError, match=f"out is being written by process {first.pid} "):
        write(tmp_path / "out", clips)
    first.communicate(b"\n")
    write(tmp_path / "out", clips)


def test_a_run_that_was_killed_before_its_record_had_its_name_is_begun_again(tmp_path, clips):
    (tmp_path / "out").mkdir()
    for name in (LOCK, f".{RECORD}.partial-x"):
        (tmp_path / "out" / name).touch()
    write(tmp_path / "out", clips)
    write(tmp_path / "whole", clips)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.parametrize("content", ["[1]", "null", '{"schema": 1, "options": {}, "sequences": [1]}', "[" * 100_000])
def test_a_damaged_record_is_named(tmp_path, clips, content):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / RECORD).write_text(content)
    with pytest.raises(ClipError, match=r"clips\.json .*; remove the folder and start again\."):
        write(tmp_path / "out", clips)


def test_a_shard_beyond_the_limit_of_a_file_s_size_is_told(tmp_path, clips):
    message = r"File too large\): its 0 whole shards are kept\. Make room"
    with largest_file(10_000), pytest.raises(ClipError, match=message):
        write(tmp_path / "out", clips)
    assert set(contents(tmp_path / "out")) == {RECORD}


def test_a_broken_shard_is_named(tmp_path, clips):
    write(tmp_path / "out", clips, stop_after=8)
    shard = tmp_path / "out" / "data" / "train-00000.parquet"
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(ClipError, match=r"train-00000.parquet is broken"):
        write(tmp_path / "out", clips)


@pytest.mark.parametrize("footer", [b"[]", b"\xff", b'{"frames": 2, "covered": [], "ended": [3], "skipped": []}'])
def test_a_shard_that_says_something_else_of_itself_is_named(tmp_path, clips, footer):
    write(tmp_path / "out", clips, stop_after=8)
    shard = tmp_path / "out" / "data" / "train-00000.parquet"
    table = pq.read_table(shard)
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, FOOTER: footer}), shard)
    with pytest.raises(ClipError, match=r"The footer of .*train-00000\.parquet .*; remove .*out and start again\."):
        write(tmp_path / "out", clips)


def test_a_missing_shard_is_named(tmp_path, clips):
    write(tmp_path / "out", clips)
    (tmp_path / "out" / "data" / "train-00001.parquet").unlink()
    with pytest.raises(ClipError, match=r"train-00001.parquet is missing"):
        write(tmp_path / "out", clips)


def test_no_two_clips_may_have_the_same_id(tmp_path, clips):
    with ClipWriter(tmp_path, options={}, sequences={"train": ["a"]}, seed=0, max_shard_bytes=10**6) as writer:
        writer.add("train", clips["train", "a"][0])
        with pytest.raises(ClipError, match="Two clips are named test/a/0000"):
            writer.add("train", clips["train", "a"][0])


def test_the_data_card_describes_splits_columns_and_options(tmp_path, clips):
    write(tmp_path / "out", clips, options={"stride": 3})
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| train | 10 | 20 |" in card
    assert all(f"| `{column}` |" in card for column in clip_features())
    assert json.dumps({"stride": 3}, indent=2) in card
