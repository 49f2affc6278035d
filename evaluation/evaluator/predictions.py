"""A method's predictions for a sequence: depth, cameras, points and motion, in memory and as a file.

The file is a NumPy archive, `DIR/<sequence>.npz`, so that any program can write one. It has the fields of `Predictions`
as arrays; docs/evaluation.md says what they hold.
"""

from __future__ import annotations

import zipfile
from collections import Counter
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from page4d_hf.geometry import is_rotation
from page4d_hf.utils.folders import whole_file
from page4d_hf.utils.npz_files import read_npz

from .metrics.scores import ExclusionError
from .sequences import EvaluatedSequence

# Shapes after [S], and the dtype in memory; h and w are free but equal in all maps.
SHAPES: dict[str, tuple[int | None, ...]] = {
    "depth": (None, None),
    "extrinsics": (3, 4),
    "intrinsics": (3, 3),
    "points": (None, None, 3),
    "motion": (None, None),
}
CAMERAS = ("extrinsics", "intrinsics")
MOST_BYTES = 2**33  # of all arrays of a file, unpacked; 1,000 frames of 640x480 with all maps have 6 GiB
MOST_FRAMES = 100_000


class PredictionsError(ExclusionError):
    """Predictions that are missing, cannot be read, or don't fit their sequence."""


@dataclass
class Predictions:
    """A method's predictions for S frames; None for what it does not predict."""

    frame_ids: list[str]
    depth: np.ndarray | None = None  # [S, h, w] float32 z-depth in each frame's own camera; <= 0 or NaN: none given
    extrinsics: np.ndarray | None = None  # [S, 3, 4] float64 world-to-camera, OpenCV axes, scale of depth and points
    intrinsics: np.ndarray | None = None  # [S, 3, 3] float64 in pixels of the sequence's images, first centre at 0.5
    points: np.ndarray | None = None  # [S, h, w, 3] float32 in the world of the extrinsics; not finite: none given
    motion: np.ndarray | None = None  # [S, h, w] float32, 0 static to 1 moving

    def __len__(self) -> int:
        return len(self.frame_ids)

    def select(self, rows: list[int]) -> Predictions:
        """The predictions of some frames, in the given order."""
        arrays = {name: getattr(self, name) for name in SHAPES}
        return replace(
            self,
            frame_ids=[self.frame_ids[i] for i in rows],
            **{name: None if array is None else array[rows] for name, array in arrays.items()},
        )


def predictions_path(folder: Path, sequence: str) -> Path:
    """Path of a sequence's predictions, such as `folder/final/alley_2.npz`."""
    return folder / f"{sequence}.npz"


def save_predictions(path: Path, predictions: Predictions) -> None:
    """Write predictions in the format of this module, compressed. The file is whole or absent."""
    check_predictions(predictions, str(path))
    arrays = {"frame_ids": np.array(predictions.frame_ids, np.str_)}
    arrays |= {name: array for name in SHAPES if (array := getattr(predictions, name)) is not None}
    # Not `np.savez_compressed`, which leaves its archive open where the disk is full.
    with whole_file(path, overwrite=True) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, np.asanyarray(array), allow_pickle=False)


def load_predictions(path: Path) -> Predictions:
    """Read predictions in the format of this module. No code in the file is run."""
    names = [field.name for field in fields(Predictions)]
    arrays = read_npz(
        path, names, most_bytes=MOST_BYTES, error=PredictionsError, remedy="write the predictions again", only=True
    )
    if "frame_ids" not in arrays:
        raise PredictionsError(f"{path} lacks frame_ids, which say what its frames are.")
    ids = arrays.pop("frame_ids")
    if ids.ndim != 1 or ids.dtype.kind not in "US":
        raise PredictionsError(f"{path}: frame_ids must be [S] strings, got {ids.dtype} {list(ids.shape)}.")
    if len(ids) > MOST_FRAMES:
        raise PredictionsError(f"{path} has {len(ids):,} frames; at most {MOST_FRAMES:,} are read.")
    for name, array in arrays.items():
        if array.dtype.kind not in "fiu":
            raise PredictionsError(f"{path}: {name} must hold numbers, got {array.dtype}.")
        with np.errstate(over="ignore"):  # what is too large is infinite, and counts as not given
            arrays[name] = array.astype(np.float64 if name in CAMERAS else np.float32, copy=False)
    try:
        frame_ids = ids.astype(np.str_).tolist()
    except UnicodeDecodeError as error:
        raise PredictionsError(f"{path}: frame_ids must be [S] strings; bytes that are not ASCII are none.") from error
    predictions = Predictions(frame_ids, **arrays)
    check_predictions(predictions, str(path))
    return predictions


def check_predictions(predictions: Predictions, where: str) -> None:
    """Refuse predictions that contradict themselves."""
    count = len(predictions)
    if not count:
        raise PredictionsError(f"{where} has no frames.")
    twice = sorted(name for name, times in Counter(predictions.frame_ids).items() if times > 1)
    if twice:
        raise PredictionsError(f"{where} names frames twice, {twice[0]!r:.60} the first; each frame has one row.")
    sizes: dict[str, tuple[int, ...]] = {}
    for name, shape in SHAPES.items():
        array = getattr(predictions, name)
        if array is None:
            continue
        fits = array.ndim == 1 + len(shape) and len(array) == count and 0 not in array.shape
        if not fits or any(side is not None and side != got for side, got in zip(shape, array.shape[1:], strict=True)):
            words = ", ".join(letter if side is None else str(side) for side, letter in zip(shape, "hw3", strict=False))
            raise PredictionsError(
                f"{where}: {name} must be [{count}, {words}] for its {count} frames, got {list(array.shape)}."
            )
        if name not in CAMERAS:
            sizes[name] = array.shape[1:3]
    if len(set(sizes.values())) > 1:
        words = ", ".join(f"{name} {height}x{width}" for name, (height, width) in sizes.items())
        raise PredictionsError(f"{where}: all maps must have one size, got {words}.")
    for name in CAMERAS:
        array = getattr(predictions, name)
        if array is None:
            continue
        broken = ~np.isfinite(array).all(axis=(1, 2))
        if name == "extrinsics":
            broken |= ~is_rotation(array[:, :, :3])
        if broken.any():
            what = "is not finite" if name == "intrinsics" else "is no camera: not finite, or its 3x3 is no rotation"
            first = predictions.frame_ids[int(broken.argmax())]
            raise PredictionsError(
                f"{where}: {name} of {int(broken.sum())} frames, {first!r:.60} the first, {what}; leave those frames "
                "out or correct them."
            )


def match_predictions(predictions: Predictions, sequence: EvaluatedSequence, where: str) -> Predictions:
    """The predictions of a sequence's frames, in its order, of predictions of these and perhaps others in any order."""
    wanted = sequence.frames.capture.frame_ids
    rows = {name: i for i, name in enumerate(predictions.frame_ids)}
    missing = [name for name in wanted if name not in rows]
    if missing:
        raise PredictionsError(
            f"{where} has no frame {missing[0]!r}, nor {len(missing) - 1} others of the {len(wanted)} frames of "
            f"{sequence.name}; its own are {predictions.frame_ids[0]!r:.60} to {predictions.frame_ids[-1]!r:.60}. "
            "frame_ids must be the data set's names."
        )
    return predictions.select([rows[name] for name in wanted])
