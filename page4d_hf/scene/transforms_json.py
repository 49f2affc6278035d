"""Cameras as nerfstudio's `transforms.json` and Blender's data sets before it write them, one frame at a time.

Matrices are camera-to-world with OpenGL axes (x right, y up, z backward). Pixels count from 0 at the image's left upper
corner, so that the first pixel's centre is at (0.5, 0.5).
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydantic import Field

from ..errors import Page4DError, SceneError
from ..frames import IMAGE_SUFFIXES, natural_key, normalized_times
from ..geometry import is_rotation
from ..pillow_page4d import let_pillow_read
from ..utils.json_files import Record, read_json

# nerfstudio's names of camera models that are a pinhole with OpenCV's radial and tangential distortion, or less.
CAMERA_MODELS = frozenset({"SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV"})
FISHEYE_MODELS = frozenset({"OPENCV_FISHEYE"})
DISTORTION = ("k1", "k2", "p1", "p2", "k3")  # OpenCV's order
FISHEYE_DISTORTION = ("k1", "k2", "k3", "k4")
TIME_STEP = 1e-6  # of their span, in which times are one instant: files are of few digits
LARGEST = 1e19  # of any number: in float32, too, its square is finite

Number = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]
FileName = Annotated[str, Field(max_length=4096, pattern=r"^[^\x00]*$")]  # what systems take
Row = Annotated[list[Number], Field(min_length=4, max_length=4)]


class Lens(Record):
    """Intrinsics, for all frames or for one; what is absent or null is not said."""

    fl_x: Annotated[Number, Field(gt=0)] | None = None  # focal lengths and principal point, in pixels
    fl_y: Annotated[Number, Field(gt=0)] | None = None
    cx: Number | None = None
    cy: Number | None = None
    w: Number | None = None  # the image's size; whole numbers, some programs write them as 640.0
    h: Number | None = None
    camera_angle_x: Annotated[float, Field(gt=0, lt=math.pi)] | None = None  # angles of view, in radians
    camera_angle_y: Annotated[float, Field(gt=0, lt=math.pi)] | None = None
    k1: Number | None = None
    k2: Number | None = None
    k3: Number | None = None
    k4: Number | None = None
    p1: Number | None = None
    p2: Number | None = None
    is_fisheye: bool | None = None  # instant-ngp's word for what nerfstudio calls OPENCV_FISHEYE


class TransformsFrame(Lens):
    """One of the file's `frames`."""

    file_path: FileName  # from the file's folder; ".png" may be left out
    transform_matrix: Annotated[list[Row], Field(min_length=3, max_length=4)]  # [4, 4], or without the last row
    mask_path: FileName | None = None
    depth_file_path: FileName | None = None
    time: Number | None = None


class Transforms(Lens):
    """The file: what it says for all frames goes before a frame's own, as in nerfstudio."""

    frames: Annotated[list[TransformsFrame], Field(min_length=1)]
    camera_model: str | None = None
    ply_file_path: FileName | None = None
    train_filenames: list[FileName] | None = None
    val_filenames: list[FileName] | None = None
    test_filenames: list[FileName] | None = None


@dataclass
class TransformsCamera:
    """The camera of one frame."""

    image_path: Path
    image_size: tuple[int, int]  # (width, height)
    camera_to_world: npt.NDArray[Any]  # [3, 4], OpenGL axes
    intrinsics: npt.NDArray[Any]  # [3, 3]
    distortion: npt.NDArray[Any]  # [5]: OpenCV's k1, k2, p1, p2, k3; of a fisheye k1, k2, k3, k4 and 0
    fisheye: bool
    mask_path: Path | None  # an image, 0 where nothing is to be learned from
    depth_path: Path | None  # z-depth


def read_transforms(path: Path, *, error: type[Page4DError] = SceneError) -> Transforms:
    """Read a file against its schema."""
    meta: Transforms = read_json(path, Transforms, error=error, remedy="correct the file, or write it anew")
    return meta


def frame_times(meta: Transforms, where: Path) -> npt.NDArray[Any] | None:
    """The frames' times `(N,)` float64 as they are written; None where there are none."""
    times = [frame.time for frame in meta.frames if frame.time is not None]
    if times and len(times) < len(meta.frames):
        raise SceneError(f"{where} gives the time of {len(times)} of its {len(meta.frames)} frames; give all or none.")
    return np.array(times, np.float64) if times else None


def times_by_name(meta: Transforms) -> npt.NDArray[Any]:
    """Times `(N,)` in [0, 1] by the natural order of file names: COLMAP lists frames in any."""
    order = sorted(range(len(meta.frames)), key=lambda i: natural_key(with_slashes(meta.frames[i].file_path)))
    return normalized_times(np.argsort(order))


def spread_times(times: npt.NDArray[Any], where: Path, names: Sequence[str]) -> tuple[npt.NDArray[Any], str | None]:
    """Times `(N,)` of all frames, of whatever split, that span [0, 1], and a sentence where they were brought to it.

    The deformation, `--time` and the viewer take 0 for the first instant of a capture and 1 for its last. Times of one
    instant, of a rig's cameras for example, come out equal.
    """
    first, last = float(times.min()), float(times.max())
    if last - first <= TIME_STEP:  # a single instant
        return np.zeros_like(times), None
    times = _of_instants(times, TIME_STEP * (last - first))
    if max(abs(first), abs(last - 1)) <= TIME_STEP:
        return times, None
    ends = f"{names[int(times.argmin())]} to {names[int(times.argmax())]}"
    note = f"The times of {where} go from {first:g} to {last:g} ({ends}); they are scaled to go from 0 to 1."
    return normalized_times(times), note


def _of_instants(times: npt.NDArray[Any], step: float) -> npt.NDArray[Any]:
    """Times `(N,)` of which those that differ by no more than a step are made equal."""
    order = np.argsort(times, kind="stable")
    rising = times[order]
    starts = np.append(True, np.diff(rising) > step)
    instants = np.empty_like(times)
    instants[order] = rising[starts][np.cumsum(starts) - 1]
    return instants


def read_transforms_camera(meta: Transforms, frame: TransformsFrame, root: Path, where: Path) -> TransformsCamera:
    """The camera of a frame, checked, and its image's size.

    Args:
        meta: the file.
        frame: one of its frames. Its intrinsics are `fl_x fl_y cx cy w h`, with distortion as `k1 k2 k3 p1 p2`, or
            `camera_angle_x`, the horizontal angle of view. A fisheye, by the file's `camera_model` OPENCV_FISHEYE or
            by instant-ngp's `is_fisheye`, has `k1 k2 k3 k4`.
        root: the folder that file paths start from.
        where: the file, for messages.
    """
    png = f"{frame.file_path}.png"  # Blender's scenes leave the suffix out
    others = [f"{frame.file_path}{suffix}" for suffix in sorted(IMAGE_SUFFIXES - {".png"})]
    image_path = find_file(root, frame.file_path, png, *others)
    if image_path is None:
        expected = root / (frame.file_path if Path(frame.file_path).suffix else png)
        raise SceneError(f"The image {expected} is missing, which {where} names.")
    of = f"of {frame.file_path} in {where}"

    matrix = np.array(frame.transform_matrix)
    if not is_rotation(matrix[:3, :3]):
        raise SceneError(f"The transform_matrix {of} does not hold a rotation.")

    def number(key: str, otherwise: float | None = None) -> Any:
        values = getattr(meta, key), getattr(frame, key), otherwise
        return next((value for value in values if value is not None), None)

    try:
        let_pillow_read(image_path)
        with Image.open(image_path) as image:
            actual_size = image.size
    except Exception as error:  # whatever Pillow meets in a broken file
        raise SceneError(f"Cannot read the image {image_path}; it is broken or no image ({error}).") from error
    width, height = (number("w") or actual_size[0], number("h") or actual_size[1])
    if (width, height) != actual_size:
        raise SceneError(
            f"The image {image_path} is {actual_size[0]} x {actual_size[1]}, but {where} says {width:g} x {height:g}."
        )
    focal_x, focal_y = number("fl_x"), number("fl_y")
    angle_x, angle_y = number("camera_angle_x"), number("camera_angle_y")
    if focal_x is None and angle_x is not None:
        focal_x = width / 2 / math.tan(angle_x / 2)
    if focal_y is None:
        focal_y = focal_x if angle_y is None else height / 2 / math.tan(angle_y / 2)
    if focal_x is None or focal_y is None:
        raise SceneError(f"There is no focal length (fl_x, or camera_angle_x) {of}.")
    intrinsics = np.array([[focal_x, 0, number("cx", width / 2)], [0, focal_y, number("cy", height / 2)], [0, 0, 1]])
    named = None if meta.camera_model is None else meta.camera_model in FISHEYE_MODELS
    flagged: bool | None = number("is_fisheye")
    if named is not None and flagged is not None and named != flagged:
        raise SceneError(
            f"The lens {of} is of the camera_model {meta.camera_model}, and its is_fisheye says "
            f"{str(flagged).lower()}; correct one of them."
        )
    fisheye = bool(named or flagged)
    if number("k4") and not fisheye:
        raise SceneError(
            f"The distortion {of} has a fourth radial term, which only a fisheye has; set camera_model to "
            "OPENCV_FISHEYE, or undistort the images."
        )
    distortion = np.zeros(5)
    coefficients = FISHEYE_DISTORTION if fisheye else DISTORTION
    distortion[: len(coefficients)] = [number(key, 0.0) for key in coefficients]

    def beside(key: str) -> Path | None:
        name = getattr(frame, key)
        path = None if name is None else find_file(root, name)
        if name is not None and path is None:
            raise SceneError(f"The {key} {of} is {name!r}, and there is no such file.")
        return path

    return TransformsCamera(
        image_path,
        actual_size,
        matrix[:3],
        intrinsics,
        distortion,
        fisheye,
        mask_path=beside("mask_path"),
        depth_path=beside("depth_file_path"),
    )


def find_file(root: Path, *names: str) -> Path | None:
    """The first of some files in a folder that is there; None where none is.

    Windows' backslashes separate folders too, where no file has them in its name.
    """
    for name in names:
        for path in (root / name, root / with_slashes(name)):
            if os.path.isfile(path):  # false, too, of a name that is too long for a file
                return path
    return None


def with_slashes(name: str) -> str:
    """A file's name with its folders separated by slashes."""
    return name.replace("\\", "/")
