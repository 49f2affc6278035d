"""Data sets of clips read back, and refused where they are not what the schema says."""

from __future__ import annotations

import io
import math
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clip_folders import write_shards
from file_limits import largest_file
from PIL import Image
from stored_frames import stored_capture

from page4d_hf.clips import clip_features, decode_frames, load_clips
from page4d_hf.clips.encoding import EncodedClip, encode_clip, encode_image, plan_clips
from page4d_hf.clips.writing import ClipWriter
from page4d_hf.errors import ClipError


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Four clips."""
    plans, _ = plan_clips(stored_capture(tmp_path_factory.mktemp("capture"), 12), "test", frames_per_clip=3)
    return [encode_clip(plan).row for plan in plans]


@pytest.fixture(scope="module")
def folder(rows: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of them in several shards."""
    output = tmp_path_factory.mktemp("clips") / "out"
    with ClipWriter(output, options={}, sequences={"train": ["noise"]}, seed=0, max_shard_bytes=20_000) as writer:
        for row in rows:
            writer.add("train", EncodedClip(row["clip_id"], row))
        writer.finish("Clips")
    return output


def parquet(path: Path, rows: list[dict[str, Any]], schema: pa.Schema | None = None) -> Path:
    schema = schema or clip_features().arrow_schema
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    return path


def without(schema: pa.Schema, column: str) -> pa.Schema:
    return pa.schema([field for field in schema if field.name != column])


def replaced(schema: pa.Schema, column: str, kind: pa.DataType) -> pa.Schema:
    return pa.schema([pa.field(column, kind) if field.name == column else field for field in schema])


def plain_schema() -> pa.Schema:
    """The schema without what `datasets` notes in it."""
    return clip_features().arrow_schema.remove_metadata()


# --------------------------------------------------------------------------------------------------------------------
# Data sets


def test_streamed_clips_equal_mapped_ones(folder):
    mapped, streamed = load_clips(folder), load_clips(folder, streaming=True)
    assert len(mapped) == 4
    assert list(mapped) == list(streamed)
    assert mapped.features == streamed.features == clip_features()


def test_a_single_file_is_a_data_set_too(tmp_path, rows):
    loaded = load_clips(parquet(tmp_path / "clips.parquet", rows))
    assert loaded["clip_id"][:] == [row["clip_id"] for row in rows]


def of_one_time(folder):
    for path in [*folder.rglob("*.parquet"), *folder.rglob("README.md")]:
        os.utime(path, (1e9, 1e9))


@pytest.mark.slow
@pytest.mark.parametrize("way", ["anew", "elsewhere", "one file", "validation", "card"])
def test_clips_are_those_that_lie_there_now_whatever_was_read_before(tmp_path, rows, way):
    """`datasets` alone would give the first ones again: it tells files of one place apart by their times alone."""
    folder, split = tmp_path / "clips", "validation" if way == "validation" else "train"
    write_shards(folder, [rows[:3]])
    shard = folder / "data" / "train-00000.parquet"
    path: Path = shard if way == "one file" else folder
    if way == "validation":
        write_shards(folder, [rows[:3]], split)
    if way == "card":
        (folder / "README.md").write_text("---\nconfigs:\n- config_name: default\n  data_files: data/train-*\n---\n")
    of_one_time(tmp_path)
    assert len(load_clips(path, split)) == 3
    if way == "elsewhere":
        path = tmp_path / "other" / "clips"
        write_shards(path, [rows[:2]])
    elif way == "card":
        write_shards(folder, [rows[:2]], "few")
        card = folder / "README.md"
        card.write_text(card.read_text().replace("train-*", "few-*"))
    else:
        write_shards(folder, [rows[:2]], split)
    of_one_time(tmp_path)

    assert [row["clip_id"] for row in load_clips(path, split)] == [row["clip_id"] for row in rows[:2]]


def test_clips_that_have_not_changed_are_copied_once(tmp_path, rows, datasets_cache):
    folder = write_shards(tmp_path / "clips", [rows[:2]])
    before = load_clips(folder).cache_files
    assert load_clips(folder).cache_files == before
    assert str(datasets_cache) in before[0]["filename"]


def test_a_full_disk_under_the_copy_is_told_with_what_to_do(tmp_path, rows):
    folder = write_shards(tmp_path / "clips", [rows[:2]])
    message = "cannot be copied to the cache of datasets: File too large; make room"
    with largest_file(1000), pytest.raises(ClipError, match=message):
        load_clips(folder)
    assert len(load_clips(folder)) == 2


def test_a_file_of_another_program_is_read_if_its_columns_are_right(tmp_path, rows):
    schema = replaced(plain_schema(), "clip_id", pa.large_string())
    schema = schema.append(pa.field("weather", pa.string()))
    path = parquet(tmp_path / "clips.parquet", [{**row, "weather": "fair"} for row in rows], schema)
    for streaming in (False, True):
        row = next(iter(load_clips(path, streaming=streaming)))
        assert list(row) == list(clip_features())
        assert len(decode_frames(row, [0, 1])) == 2


def test_a_column_of_nulls_is_read_where_a_clip_may_lack_it(tmp_path, rows):
    schema = replaced(plain_schema(), "motion_mask", pa.null())
    path = parquet(tmp_path / "clips.parquet", [{**row, "motion_mask": None} for row in rows], schema)
    for streaming in (False, True):
        row = next(iter(load_clips(path, streaming=streaming)))
        assert decode_frames(row, [0]).motion_mask is None


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("column", ["images", "depth", "extrinsics", "timestamps"])
def test_a_missing_column_is_named(tmp_path, rows, column, streaming):
    path = parquet(tmp_path / "clips.parquet", rows, without(plain_schema(), column))
    with pytest.raises(ClipError, match=rf"has no column '{column}' of the type list<"):
        load_clips(path, streaming=streaming)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("column", "kind"),
    [
        ("intrinsics", pa.list_(pa.float64())),
        ("timestamps", pa.list_(pa.float32())),
        ("metric", pa.string()),
        ("images", pa.null()),
    ],
)
def test_a_column_of_another_type_is_named_with_both_types(tmp_path, rows, column, kind, streaming):
    odd = [{**row, column: None} for row in rows]
    path = parquet(tmp_path / "clips.parquet", odd, replaced(plain_schema(), column, kind))
    with pytest.raises(ClipError, match=rf"column '{column}' .* must be .*, got {str(kind).split('<')[0]}"):
        load_clips(path, streaming=streaming)


@pytest.mark.parametrize("streaming", [False, True])
def test_an_empty_split_is_refused(tmp_path, streaming):
    with pytest.raises(ClipError, match=r"The split 'train' of .* is empty"):
        load_clips(parquet(tmp_path / "clips.parquet", []), streaming=streaming)


def test_a_split_that_is_not_there_is_refused_with_those_that_are(folder):
    with pytest.raises(ClipError, match=r"has no split 'validation'; it has: train"):
        load_clips(folder, split="validation")


def test_a_folder_without_parquet_files_is_refused(tmp_path):
    with pytest.raises(ClipError, match=r"holds no Parquet files"):
        load_clips(tmp_path)


@pytest.mark.parametrize("name", ["clips/absent", "a/b/absent", "absent", "my clips/absent", "clips?/absent"])
def test_a_folder_that_is_not_there_is_refused_without_asking_the_hub(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clips").mkdir()
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: pytest.fail("the Hub was asked"))
    for path in (name, tmp_path / name):
        with pytest.raises(ClipError, match=r"There is no data set of clips .*absent"):
            load_clips(path)


def test_a_file_that_is_no_parquet_is_refused(tmp_path):
    (tmp_path / "clips.csv").write_text("clip_id\n")
    with pytest.raises(ClipError, match=r"clips.csv is no Parquet file"):
        load_clips(tmp_path / "clips.csv")
    (tmp_path / "clips.parquet").write_text("not at all")
    with pytest.raises(ClipError, match=r"clips.parquet cannot be read"):
        load_clips(tmp_path / "clips.parquet")


def test_a_package_that_is_not_installed_is_named(monkeypatch, folder):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ClipError, match=r"need the package datasets, .*pip install .*\[training\]"):
        load_clips(folder)


# --------------------------------------------------------------------------------------------------------------------
# Frames


def test_frames_come_in_the_order_that_is_asked_for(rows):
    every, some = decode_frames(rows[0], range(3)), decode_frames(rows[0], [2, 0, 2])
    for name in ("images", "depth", "motion_mask", "intrinsics", "extrinsics", "timestamps"):
        np.testing.assert_array_equal(getattr(some, name), getattr(every, name)[[2, 0, 2]])
    assert some.frame_ids == ["frame2", "frame0", "frame2"]


def test_a_row_as_an_arrow_table_gives_the_same_frames(folder):
    for streaming in (False, True):
        clips = load_clips(folder, streaming=streaming)
        as_objects = decode_frames(next(iter(clips)), [1, 2])
        as_table = decode_frames(next(iter(clips.with_format("arrow"))), [1, 2])
        assert as_table.frame_ids == as_objects.frame_ids
        for name in ("images", "depth", "motion_mask", "intrinsics", "extrinsics", "timestamps"):
            np.testing.assert_array_equal(getattr(as_table, name), getattr(as_objects, name))


def test_nulls_of_an_arrow_table_are_nulls(rows):
    bare = {**rows[0], "depth": None, "depth_scale": None, "motion_mask": None, "intrinsics": None, "extrinsics": None}
    frames = decode_frames(pa.Table.from_pylist([bare], schema=plain_schema()), [0, 1])
    assert frames.depth is frames.motion_mask is frames.intrinsics is frames.extrinsics is None


def test_images_that_lie_beside_the_data_set_are_read(tmp_path, rows):
    path = tmp_path / "image.png"
    path.write_bytes(rows[0]["images"][0]["bytes"])
    row = {**rows[0], "images": [{"bytes": None, "path": str(path)}, *rows[0]["images"][1:]]}
    np.testing.assert_array_equal(decode_frames(row, [0]).images, decode_frames(rows[0], [0]).images)


def test_transparent_images_of_another_program_are_laid_over_white(rows):
    hidden = np.zeros((24, 32, 4), np.uint8)
    hidden[:, 16:, 3] = 255  # its left half is transparent, all of it is black
    file = io.BytesIO()
    Image.fromarray(hidden).save(file, "PNG")
    row = {**rows[0], "images": [{"bytes": file.getvalue(), "path": None}, *rows[0]["images"][1:]]}
    image = decode_frames(row, [0]).images[0]
    assert (image[:, :16] == 255).all()
    assert (image[:, 16:] == 0).all()


@pytest.mark.parametrize("indices", [[], [3], [0, -1]])
def test_a_frame_that_is_not_there_is_refused(rows, indices):
    with pytest.raises(ClipError, match=r"Clip test/noise/0000 has the frames 0 to 2"):
        decode_frames(rows[0], indices)


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("images", b"not an image", r"'images' of frame 1 of clip test/noise/0000 cannot be decoded"),
        ("images", encode_image(np.zeros((5, 6, 3), np.uint8)), r"it is 6x5 and the clip 32x24"),
        ("depth", encode_image(np.zeros((24, 32, 3), np.uint8)), r"expected a 16-bit PNG or a float32 TIFF"),
        ("motion_mask", b"", r"'motion_mask' of frame 1"),
    ],
)
def test_a_broken_file_is_named(rows, column, value, words):
    files = list(rows[0][column])
    files[1] = {"bytes": value, "path": None}
    with pytest.raises(ClipError, match=words):
        decode_frames({**rows[0], column: files}, [0, 1])


@pytest.mark.parametrize("column", ["images", "depth", "depth_scale", "extrinsics", "timestamps", "frame_ids"])
def test_lists_of_unequal_length_are_refused(rows, column):
    with pytest.raises(ClipError, match=rf"has 3 frames but 2 entries in '{column}'"):
        decode_frames({**rows[0], column: rows[0][column][:2]}, [0])


def test_a_singular_matrix_is_refused(rows):
    extrinsics = [np.zeros((3, 4)).tolist(), *rows[0]["extrinsics"][1:]]
    with pytest.raises(ClipError, match=r"frame frame0 of clip test/noise/0000 has a singular matrix"):
        decode_frames({**rows[0], "extrinsics": extrinsics}, [0])


def test_matrices_of_another_shape_are_refused(rows):
    with pytest.raises(ClipError, match=r"extrinsics of clip test/noise/0000 must be 3x4"):
        decode_frames({**rows[0], "extrinsics": [[[1.0, 0, 0]] * 3] * 3}, [0])


def test_frames_of_more_pixels_than_are_decoded_at_once_are_refused_before_memory_is_taken(rows):
    with pytest.raises(ClipError, match=r"2 frames of 30000x30000 of clip .* have more than the 1,000,000,000 pixels"):
        decode_frames({**rows[0], "width": 30_000, "height": 30_000}, [0, 1])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_frames": None}, "at num_frames: it should be a valid integer, got null"),
        ({"clip_id": 3}, "at clip_id: it should be a valid string, got 3"),
        ({"images": 7}, "cannot be decoded"),
        ({"images": [7, 7, 7]}, "cannot be decoded"),
        ({"timestamps": ["a", "b", "c"]}, "cannot be decoded"),
        ({"depth_scale": [[], {}, "x"]}, "cannot be decoded"),
    ],
    ids=str,
)
def test_values_of_another_kind_are_told_in_one_sentence(rows, changes, words):
    with pytest.raises(ClipError, match=words):
        decode_frames({**rows[0], **changes}, [0, 1])


def test_text_that_is_not_utf_8_is_told_in_one_sentence(rows):
    table = pa.Table.from_pylist([rows[0]], schema=clip_features().arrow_schema)
    broken = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.array([0, 2], pa.int32()).buffers()[1], pa.py_buffer(b"\xff\xfe")]
    )
    with pytest.raises(ClipError, match="has text that is not UTF-8"):
        decode_frames(table.set_column(0, "clip_id", broken), [0])


def test_no_value_in_a_row_raises_anything_but_a_clip_error(rows):
    generator = np.random.default_rng(0)
    junk = [None, "", "\0", -1, 0, 2**31, 1e300, math.nan, b"\xff", [], [None] * 3, [[]] * 3, {}, {"bytes": b"x"}]
    for _ in range(300):
        row = dict(rows[0])
        for column in generator.choice(list(row), 2):
            value = junk[generator.integers(len(junk))]
            whole = not isinstance(row[column], list) or generator.random() < 0.3
            row[column] = value if whole else [value, *row[column][1:]]
        with suppress(ClipError):
            decode_frames(row, [0, 2])


def test_depth_that_is_not_finite_is_unknown(rows):
    scales = [float("nan"), *rows[0]["depth_scale"][1:]]
    assert not decode_frames({**rows[0], "depth_scale": scales}, [0]).depth.any()


def test_a_folder_that_is_not_there_and_no_data_set_of_the_hub_is_told_with_how_to_make_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ClipError, match=r"There is no folder clips/tum \(training/prepare\.py makes such folders\)"):
        load_clips("clips/tum")
