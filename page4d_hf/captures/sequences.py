"""Shared by readers of multi-sequence data sets: finding sequences, and gathering a sequence's frames.

A frame that cannot be used, be it that a file is missing or that its camera is no camera, is left out and named in
`Capture.skipped`; a sequence without any frame left is refused.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import CaptureError, Page4DError
from ..geometry import is_rotation
from ..utils.programs import not_installed
from .base import Capture
from .image_files import read_image_size
from .schemas import LARGEST


def import_decoder(name: str) -> ModuleType:
    """Import a package that only some data sets need, and that the extra `training` brings.

    Raises:
        Page4DError: it is not installed. (Not a CaptureError: nothing is wrong with the capture.)
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise Page4DError(not_installed(f"Reading this data set needs the package {name}", "training")) from error


def list_sequences(
    root: Path, split: str | None, splits: Sequence[str], is_sequence: Callable[[Path], bool]
) -> list[str]:
    """Names of the sequences in `<root>/<split>/<sequence>` or `<root>/<sequence>`.

    Args:
        root: the data set's folder.
        split: one of `splits`; None takes "train" or, where there is no such folder, what lies in the root itself.
        splits: names of the folders that may lie between the root and the sequences.
        is_sequence: whether a folder holds a sequence.

    Returns:
        Sorted names relative to `root`, such as "train/0001".
    """
    if split is not None and not (root / split).is_dir():
        raise CaptureError(f"{root} has no folder {split}; name another split or the folder that holds it.")
    if split is None and "train" in splits and (root / "train").is_dir():
        split = "train"
    folder = root / (split or "")
    return sorted(path.relative_to(root).as_posix() for path in folder.iterdir() if path.is_dir() and is_sequence(path))


def sequence_folder(root: Path, name: str) -> Path:
    """The folder of a sequence."""
    if not (root / name).is_dir():
        raise CaptureError(f"There is no folder {root / name}; name one of the sequences in {root}.")
    return root / name


def video_of_camera(capture: Capture, camera: str) -> Capture:
    """The frames of one camera in order of time; all frames where `camera` is ""."""
    if not camera:
        return capture
    frames = np.flatnonzero(capture.camera_ids.astype(str) == camera)
    if not len(frames):
        known = ", ".join(map(str, np.unique(capture.camera_ids)))
        raise CaptureError(f"{capture.root} has no frames of a camera {camera}; its cameras are {known}.")
    return capture.select(frames[np.argsort(capture.time_ids[frames], kind="stable")])


def nearest_rotation(matrix: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """The rotation with the least squared distance to a `(3, 3)` matrix that is nearly one.

    Raises:
        ValueError: the matrix is not finite, or is not a rotation within what few stored digits explain.
    """
    if not np.isfinite(matrix).all():
        raise ValueError("its camera holds NaN or infinity")
    matrix = np.asarray(matrix, np.float64)
    if not is_rotation(matrix):
        raise ValueError("the rotation of its camera is no rotation")
    u, _, vt = np.linalg.svd(matrix)
    return np.asarray(u @ vt)


def check_camera(
    extrinsics: npt.NDArray[Any], intrinsics: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """A camera, extrinsics `(3, 4)` or `(4, 4)`, as float64 extrinsics `(3, 4)` and intrinsics `(3, 3)`, its rotation
    orthonormal to the last digit.

    Raises:
        ValueError: what is wrong with the camera, as the middle of a sentence.
    """
    extrinsics, intrinsics = np.asarray(extrinsics, np.float64)[:3], np.array(intrinsics, np.float64)
    values = np.concatenate((extrinsics.ravel(), intrinsics.ravel()))
    if not np.isfinite(values).all():
        raise ValueError("its camera holds NaN or infinity")
    if np.abs(values).max() > LARGEST:
        raise ValueError(f"its camera holds {values[np.abs(values).argmax()]:g}, where numbers go to {LARGEST:g}")
    if min(intrinsics[0, 0], intrinsics[1, 1]) < 1 / LARGEST:
        raise ValueError(f"the focal lengths of its camera, {intrinsics[0, 0]:g} and {intrinsics[1, 1]:g}, are not > 0")
    if intrinsics[1, 0] or not np.array_equal(intrinsics[2], [0, 0, 1]):
        raise ValueError(f"the intrinsics of its camera, {intrinsics.tolist()}, are not [fx s cx; 0 fy cy; 0 0 1]")
    return np.column_stack((nearest_rotation(extrinsics[:, :3]), extrinsics[:, 3])), intrinsics


def read_first_image_size(paths: Sequence[Path]) -> tuple[int, int]:
    """(width, height) of the first image that can be read: the images of a video are all of one size."""
    faults: list[CaptureError] = []
    for path in [path for path in paths if path.is_file()] or paths:
        try:
            return read_image_size(path)
        except CaptureError as error:
            faults.append(error)
    raise faults[0] if faults else CaptureError("There is no image to take the size from.")


class FrameList:
    """Frames of one sequence in their order, from which a `Capture` is made."""

    def __init__(self, layout: str, root: Path, sequence: str) -> None:
        self.layout, self.root, self.sequence = layout, root, sequence
        self.notes: list[str] = []
        self.skipped: list[str] = []
        self._frames: list[dict[str, Any]] = []

    def has(self, folder: Path) -> bool:
        """Whether a folder of the sequence was fetched; a note names the one that was not."""
        if not folder.is_dir():
            self.notes.append(f"{folder} is missing.")
        return folder.is_dir()

    def skip(self, image_path: Path, why: str) -> None:
        """Leave a frame out."""
        self.skipped.append(f"{image_path} was left out: {why}.")

    @contextmanager
    def skipping(self, image_path: Path, where: str = "") -> Iterator[None]:
        """Leave a frame out where a ValueError in the `with` statement says why, as the middle of a sentence."""
        try:
            yield
        except ValueError as error:
            self.skip(image_path, where + str(error).rstrip("."))

    def add(
        self,
        image_path: Path,
        extrinsics: npt.NDArray[Any],  # [3, 4] or [4, 4] world-to-camera, OpenCV axes
        intrinsics: npt.NDArray[Any],  # [3, 3] pixels, first pixel's centre at (0.5, 0.5)
        image_size: tuple[int, int],  # (width, height)
        time_id: int,
        *,
        timestamp: float | None = None,  # seconds
        frame_id: str | None = None,  # None takes the image's name
        depth_path: Path | None = None,
        motion_mask_path: Path | None = None,
    ) -> None:
        """Append a frame, unless its image, its depth or its camera is missing or broken: then it is left out.

        A frame whose mask is missing stays, without a mask.
        """
        with self.skipping(image_path):
            if not image_path.is_file():
                raise ValueError("the image is missing")
            if depth_path is not None and not depth_path.is_file():
                raise ValueError(f"its depth {depth_path} is missing")
            extrinsics, intrinsics = check_camera(extrinsics, intrinsics)
            self._frames.append(
                {
                    "frame_ids": image_path.stem if frame_id is None else frame_id,
                    "image_paths": image_path,
                    "extrinsics": extrinsics,
                    "intrinsics": intrinsics,
                    "image_sizes": image_size,
                    "time_ids": time_id,
                    "timestamps": timestamp,
                    "depth_paths": depth_path,
                    "motion_mask_paths": motion_mask_path if motion_mask_path and motion_mask_path.is_file() else None,
                }
            )

    def capture(self, **fields: Any) -> Capture:
        """The capture of the frames that were added, with further fields of `Capture`."""
        if not self._frames:
            first = f" (the first of {len(self.skipped)}: {self.skipped[0]})" if self.skipped else ""
            raise CaptureError(
                f"{self.root / self.sequence} has no frame that can be used{first}; fetch the sequence again or leave "
                "it out."
            )

        columns: dict[str, Any] = {name: [frame[name] for frame in self._frames] for name in self._frames[0]}
        for name, values in columns.items():
            if all(value is None for value in values):
                columns[name] = None
            elif name in ("extrinsics", "intrinsics", "image_sizes", "time_ids", "timestamps"):
                columns[name] = np.array(values)
        return Capture(
            layout=self.layout,
            root=self.root,
            sequence=self.sequence,
            distortion=np.zeros((len(self._frames), 5)),
            camera_ids=np.zeros(len(self._frames), np.int64),
            notes=self.notes,
            skipped=self.skipped,
            **columns,
            **fields,
        )
