"""What a clip is: a row of a data set of clips, and the frames that are decoded from it.

Conventions are those of `page4d_hf.geometry`: OpenCV camera axes, world-to-camera extrinsics, intrinsics in pixels
with the first pixel's centre at (0.5, 0.5), z-depth with 0 where it is not known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import ClipError
from ..geometry import is_rotation
from ..utils.programs import not_installed

if TYPE_CHECKING:
    import datasets

SCHEMA_VERSION = 1

FILES, NUMBERS, MATRICES = "list of file", "list of float64", "list of list of list of float64"  # one for each frame
# The type of each column, and what it holds, for the data card.
COLUMNS: dict[str, tuple[str, str]] = {
    "clip_id": ("string", "unique in the data set"),
    "source": ("string", "the data set that the clip was taken from, for example `tum`"),
    "sequence": ("string", "the sequence's name in its data set"),
    "metric": ("bool", "whether depth and translations are in metres; otherwise in a unit of the sequence's own"),
    "ordered": ("bool", "whether the frames follow each other in time; otherwise any of them make a clip"),
    "width": ("int32", "of every frame, in pixels"),
    "height": ("int32", "of every frame, in pixels"),
    "num_frames": ("int32", "the length of the lists below"),
    "images": (FILES, "JPEG or PNG files, 8-bit RGB"),
    "depth": (
        FILES,
        "z-depth, 0 where it is not known: 16-bit PNG or float32 TIFF files; null where a frame has none",
    ),
    "depth_scale": (NUMBERS, "per frame: depth is the stored value times this"),
    "motion_mask": (
        FILES,
        "8-bit PNG files, 255 where something moves, 0 elsewhere; null where it is not known for a frame",
    ),
    "intrinsics": (MATRICES, "3x3 in pixels; the first pixel's centre is at (0.5, 0.5)"),
    "extrinsics": (MATRICES, "3x4 world-to-camera, OpenCV axes (x right, y down, z forward)"),
    "timestamps": (NUMBERS, "in seconds, or the frame's number where there is no clock"),
    "frame_ids": ("list of string", "the frames' names in their data set"),
}
NULLABLE = ("depth", "depth_scale", "motion_mask", "intrinsics", "extrinsics")  # a clip may lack these


def clip_features() -> datasets.Features:
    """The columns and types of a data set of clips.

    A row is a run of frames of one sequence. `depth` and `depth_scale`, `motion_mask`, and `intrinsics` and
    `extrinsics` are null for a clip that has none; what each column holds is said in `COLUMNS`.
    """
    try:
        from datasets import Features, Image, List, Value
    except ImportError as error:
        raise ClipError(not_installed("Data sets of clips need the package datasets", "training")) from error

    def feature(kind: str) -> Any:
        if (of := kind.removeprefix("list of ")) != kind:
            return List(feature(of))
        return Image(decode=False) if kind == "file" else Value(kind)

    return Features({name: feature(kind) for name, (kind, _) in COLUMNS.items()})


@dataclass
class ClipFrames:
    """Frames of one clip, decoded. S frames of H x W pixels; the world and its unit are the clip's own.

    Raises:
        ClipError: shapes or types that are not those below, or a camera that is none (see `camera_defect`).
    """

    images: npt.NDArray[np.uint8]  # [S, H, W, 3]
    depth: npt.NDArray[np.float32] | None  # [S, H, W] z-depth in the world's unit, 0 where it is not known
    motion_mask: npt.NDArray[np.bool_] | None  # [S, H, W], true where something moves
    intrinsics: npt.NDArray[np.float64] | None  # [S, 3, 3], in pixels, first pixel's centre at (0.5, 0.5)
    extrinsics: npt.NDArray[np.float64] | None  # [S, 3, 4] world-to-camera, OpenCV axes
    timestamps: npt.NDArray[np.float64]  # [S], seconds, or frame numbers where there is no clock
    source: str  # the data set, for example "tum"
    clip_id: str
    frame_ids: list[str]
    metric: bool  # whether the world's unit is the metre

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.shape[-1] != 3 or 0 in self.images.shape:
            raise ClipError(f"The images of clip {self.clip_id} must be (S, H, W, 3), got {self.images.shape}.")
        count, height, width, _ = self.images.shape
        expected: dict[str, tuple[tuple[int, ...], type[np.generic]]] = {
            "images": ((count, height, width, 3), np.uint8),
            "depth": ((count, height, width), np.float32),
            "motion_mask": ((count, height, width), np.bool_),
            "intrinsics": ((count, 3, 3), np.float64),
            "extrinsics": ((count, 3, 4), np.float64),
            "timestamps": ((count,), np.float64),
        }
        for name, (shape, dtype) in expected.items():
            values = getattr(self, name)
            if values is not None and (values.shape != shape or values.dtype != dtype):
                raise ClipError(
                    f"{name} of clip {self.clip_id} must be {np.dtype(dtype)} of the shape {shape}, "
                    f"got {values.dtype} of {values.shape}."
                )
        if len(self.frame_ids) != count:
            raise ClipError(f"Clip {self.clip_id} has {count} images but {len(self.frame_ids)} frame ids.")
        if (self.intrinsics is None) != (self.extrinsics is None):
            raise ClipError(f"Clip {self.clip_id} must have both intrinsics and extrinsics, or neither.")
        if self.intrinsics is not None and self.extrinsics is not None:
            for frame_id, intrinsics, extrinsics in zip(self.frame_ids, self.intrinsics, self.extrinsics, strict=True):
                defect = camera_defect(intrinsics, extrinsics)
                if defect is not None:
                    raise ClipError(f"The camera of frame {frame_id} of clip {self.clip_id} {defect}.")

    def __len__(self) -> int:
        return len(self.images)


def camera_defect(intrinsics: npt.NDArray[Any], extrinsics: npt.NDArray[Any]) -> str | None:
    """Why intrinsics `(3, 3)` and extrinsics `(3, 4)` cannot be used, as the end of a sentence, or None."""
    if not (np.isfinite(intrinsics).all() and np.isfinite(extrinsics).all()):
        return "is not finite"
    rotation = extrinsics[:, :3]
    if not is_rotation(rotation):
        determinant = np.linalg.det(rotation)
        kind = "no rotation" if determinant > 1e-6 else "a reflection" if determinant < -1e-6 else "a singular matrix"
        error = np.abs(rotation @ rotation.T - np.eye(3)).max()
        return f"has {kind} where a rotation was expected (R R^T differs from the identity by {error:.2g})"
    if not (intrinsics[0, 0] > 0 and intrinsics[1, 1] > 0):
        return f"has the focal lengths {intrinsics[0, 0]:g} and {intrinsics[1, 1]:g}, which must be positive"
    if not np.array_equal(intrinsics[2], (0, 0, 1)):
        return f"has intrinsics whose last row is {intrinsics[2].tolist()} and not [0, 0, 1]"
    return None
