"""Predictions as files: what is kept, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from evaluator.predictions import (
    Predictions,
    PredictionsError,
    load_predictions,
    match_predictions,
    predictions_path,
    save_predictions,
)
from evaluator.sequences import Sequence
from scipy.spatial.transform import Rotation
from small_tum import NAME, START, SmallSequence

from page4d_hf.captures import as_pinhole
from page4d_hf.captures.tum import read_tum

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
        dynamics=rng.uniform(size=(COUNT, *SIZE)).astype(np.float32),
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
    path = save_raw(tmp_path / "a.npz", extrinsics=None, intrinsics=None, points=None, dynamics=None)
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


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PredictionsError, match=r"no predictions .*b\.npz"):
        load_predictions(tmp_path / "b.npz")


# --------------------------------------------------------------------------------------------------------------------
# Matched to a sequence


@pytest.fixture
def sequence(tmp_path: Path) -> Sequence:
    return Sequence(NAME, as_pinhole(read_tum(SmallSequence(tmp_path).root, NAME)))


def test_frames_are_matched_by_name_whatever_their_order(sequence: Sequence) -> None:
    ids = sequence.frames.capture.frame_ids
    shuffled = [ids[2], "another", ids[0], ids[3], ids[1]]
    depth = np.arange(5, dtype=np.float32)[:, None, None] * np.ones((1, *SIZE), np.float32)
    matched = match_predictions(Predictions(shuffled, depth=depth), sequence, "here")
    assert matched.frame_ids == ids
    assert matched.depth[:, 0, 0].tolist() == [2, 4, 0, 3]  # type: ignore[index]


def test_timestamps_that_do_not_match_are_never_matched_by_their_order(sequence: Sequence) -> None:
    ids = [f"{float(name) + 0.001:.6f}" for name in sequence.frames.capture.frame_ids]
    depth = np.ones((4, *SIZE), np.float32)
    with pytest.raises(PredictionsError, match=f"no frame '{START:.6f}', nor 3 others of the 4 frames of {NAME}"):
        match_predictions(Predictions(ids, depth=depth), sequence, "here")
