"""Predictions as files: what is kept, and what is refused."""

from __future__ import annotations

import io
import random
import zipfile
from pathlib import Path

import numpy as np
import pytest
from evaluator import predictions as module
from evaluator.predictions import (
    Predictions,
    PredictionsError,
    load_predictions,
    match_predictions,
    predictions_path,
    save_predictions,
)
from evaluator.sequences import EvaluatedSequence
from file_limits import largest_file
from scipy.spatial.transform import Rotation
from small_tum import NAME, START

from page4d_hf.errors import Page4DError

COUNT, SIZE = 4, (6, 8)


def some_predictions() -> Predictions:
    rng = np.random.default_rng(0)
    rotations = Rotation.random(COUNT, random_state=0).as_matrix()
    return Predictions(
        [f"{i:04d}" for i in range(COUNT)],
        depth=rng.uniform(1, 2, (COUNT, *SIZE)).astype(np.float32),
        extrinsics=np.concatenate((rotations, rng.normal(size=(COUNT, 3, 1))), axis=2),
        intrinsics=np.tile(np.diag([50.0, 50.0, 1.0]), (COUNT, 1, 1)),
        points=rng.normal(size=(COUNT, *SIZE, 3)).astype(np.float32),
        motion=rng.uniform(size=(COUNT, *SIZE)).astype(np.float32),
    )


def save_raw(path: Path, **changes: object) -> Path:
    """Write an archive as another program would, some of its arrays changed; None leaves one out."""
    arrays = {**vars(some_predictions()), **changes}
    np.savez(path, **{name: np.asarray(value) for name, value in arrays.items() if value is not None})
    return path


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path = predictions_path(tmp_path, "final/alley_2")
    saved = some_predictions()
    saved.depth[0, 0, :2] = np.nan, 0  # type: ignore[index]  # no depth given
    save_predictions(path, saved)
    loaded = load_predictions(path)
    assert path == tmp_path / "final" / "alley_2.npz"
    for name, value in vars(saved).items():
        np.testing.assert_array_equal(getattr(loaded, name), value)


def test_any_part_but_the_names_of_frames_may_be_left_out(tmp_path: Path) -> None:
    path = save_raw(tmp_path / "a.npz", extrinsics=None, intrinsics=None, points=None, motion=None)
    loaded = load_predictions(path)
    assert loaded.extrinsics is None
    assert loaded.depth is not None


def test_numbers_of_other_kinds_are_converted(tmp_path: Path) -> None:
    path = save_raw(tmp_path / "a.npz", depth=np.full((COUNT, *SIZE), 3, np.int16))
    assert load_predictions(path).depth.dtype == np.float32  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"frame_ids": None}, "lacks frame_ids"),
        ({"disparity": np.ones(3)}, "holds disparity"),
        ({"frame_ids": np.arange(COUNT)}, "frame_ids must be .S. strings"),
        ({"frame_ids": ["0000", "0001", "0001", "0003"]}, "names frames twice, '0001' the first"),
        ({"frame_ids": np.array([], np.str_)}, "has no frames"),
        ({"depth": np.ones((COUNT + 1, *SIZE))}, r"depth must be \[4, h, w\] for its 4 frames, got \[5, 6, 8\]"),
        ({"depth": np.ones((COUNT, *SIZE, 1))}, r"depth must be \[4, h, w\]"),
        ({"depth": np.ones((COUNT, 0, 8))}, r"depth must be \[4, h, w\]"),
        ({"depth": np.full((COUNT, *SIZE), "far")}, "depth must hold numbers"),
        ({"depth": np.ones((COUNT, 3, 4))}, "all maps must have one size, got depth 3x4, points 6x8"),
        ({"points": np.ones((COUNT, *SIZE))}, r"points must be \[4, h, w, 3\]"),
        ({"extrinsics": np.tile(np.eye(4), (COUNT, 1, 1))}, r"extrinsics must be \[4, 3, 4\]"),
        ({"extrinsics": np.full((COUNT, 3, 4), np.nan)}, "extrinsics of 4 frames, '0000' the first, is no camera"),
        ({"extrinsics": np.tile(2 * np.eye(3, 4), (COUNT, 1, 1))}, "its 3x3 is no rotation"),
        ({"extrinsics": np.tile(-np.eye(3, 4), (COUNT, 1, 1))}, "its 3x3 is no rotation"),
        ({"extrinsics": np.full((COUNT, 3, 4), 1e300)}, "its 3x3 is no rotation"),
        ({"frame_ids": np.array([b"\xff", b"1", b"2", b"3"])}, "bytes that are not ASCII"),
        ({"intrinsics": np.full((COUNT, 3, 3), np.inf)}, "intrinsics of 4 frames, '0000' the first, is not finite"),
    ],
)
def test_what_contradicts_the_format_is_refused(tmp_path: Path, changes: dict[str, object], reason: str) -> None:
    with pytest.raises(PredictionsError, match=reason):
        load_predictions(save_raw(tmp_path / "a.npz", **changes))


def test_no_code_in_a_file_is_run(tmp_path: Path) -> None:
    with pytest.raises(PredictionsError, match="cannot be read"):
        load_predictions(save_raw(tmp_path / "a.npz", depth=np.array([print] * COUNT, object)))


@pytest.mark.parametrize("kept", [0, 10, 300, -1])
def test_a_file_that_is_cut_off_is_refused(tmp_path: Path, kept: int) -> None:
    path = save_raw(tmp_path / "a.npz")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(PredictionsError, match=r"a\.npz"):
        load_predictions(path)


def head(shape: tuple[int, ...], dtype: type = np.float32) -> bytes:
    """What a .npy file of an array begins with."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape})
    return stream.getvalue()


@pytest.mark.parametrize("shape", [(COUNT, 10**6, 10**6), (10**30,), (COUNT, 2, 2), (-1, 8)])
def test_an_array_that_says_it_is_larger_than_it_is_is_refused_before_memory_is_taken(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    path = save_raw(tmp_path / "a.npz", depth=None)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("depth.npy", head(shape) + bytes(8))
    with pytest.raises(PredictionsError, match=r"depth says that it is float32 \[.* but has 8 bytes; write the pred"):
        load_predictions(path)


def test_a_file_that_unpacks_to_more_than_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_raw(tmp_path / "a.npz")
    monkeypatch.setattr(module, "MOST_BYTES", 1000)
    monkeypatch.setattr(np.lib.format, "read_array", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(PredictionsError, match=r"unpacks to .* GiB; at most"):
        load_predictions(path)


def test_more_frames_than_are_read_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_FRAMES", COUNT - 1)
    with pytest.raises(PredictionsError, match=r"has 4 frames; at most 3 are read"):
        load_predictions(save_raw(tmp_path / "a.npz"))


@pytest.mark.parametrize("content", [b"", b"PK", b"x" * 100, head((4, 2, 2)) + bytes(64)])
def test_a_file_that_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(PredictionsError, match="cannot be read as a NumPy archive"):
        load_predictions(tmp_path / "a.npz")


@pytest.mark.slow
def test_whatever_is_in_a_file_is_taken_or_refused_in_a_sentence(tmp_path: Path) -> None:
    path = save_raw(tmp_path / "a.npz")
    whole, rng, refused = path.read_bytes(), random.Random(0), 0
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for _ in range(400):
        if rng.random() < 0.5:
            path.write_bytes(damaged(whole, rng))
        else:  # what NumPy reads, within an archive that is whole
            with zipfile.ZipFile(path, "w") as archive:
                chosen = rng.choice(list(members))
                for name, data in members.items():
                    archive.writestr(name, damaged(data, rng) if name == chosen else data)
        try:
            load_predictions(path)
        except PredictionsError:
            refused += 1
    assert refused > 200


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Some bytes changed, most of them among the first, or the end cut off."""
    changed = bytearray(data)
    for _ in range(rng.randrange(1, 5)):
        place = rng.randrange(min(len(changed), 120) if rng.random() < 0.7 else len(changed))
        changed[place] = rng.choice((rng.randrange(256), *b"0([,'{9"))
    if rng.random() < 0.2:
        del changed[rng.randrange(1, len(changed)) :]
    return bytes(changed)


def test_a_full_disk_is_told_in_a_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    with largest_file(1000), pytest.raises(Page4DError, match=r"grew past the limit of its size .*a\.npz"):
        save_predictions(tmp_path / "a.npz", some_predictions())
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PredictionsError, match=r"b\.npz is missing; write the predictions again"):
        load_predictions(tmp_path / "b.npz")


# --------------------------------------------------------------------------------------------------------------------
# Matched to a sequence


def test_frames_are_matched_by_name_whatever_their_order(sequence: EvaluatedSequence) -> None:
    ids = sequence.frames.capture.frame_ids
    shuffled = [ids[2], "another", ids[0], ids[3], ids[1]]
    depth = np.arange(5, dtype=np.float32)[:, None, None] * np.ones((1, *SIZE), np.float32)
    matched = match_predictions(Predictions(shuffled, depth=depth), sequence, "here")
    assert matched.frame_ids == ids
    assert matched.depth[:, 0, 0].tolist() == [2, 4, 0, 3]  # type: ignore[index]


def test_timestamps_that_do_not_match_are_never_matched_by_their_order(sequence: EvaluatedSequence) -> None:
    ids = [f"{float(name) + 0.001:.6f}" for name in sequence.frames.capture.frame_ids]
    depth = np.ones((4, *SIZE), np.float32)
    with pytest.raises(PredictionsError, match=f"no frame '{START:.6f}', nor 3 others of the 4 frames of {NAME}"):
        match_predictions(Predictions(ids, depth=depth), sequence, "here")
