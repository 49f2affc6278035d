"""Cameras as nerfstudio's `transforms.json` and Blender's data sets before it write them, one frame at a time.

Matrices are camera-to-world with OpenGL axes (x right, y up, z backward). Pixels count from 0 at the image's left upper
corner, so that the first pixel's centre is at (0.5, 0.5).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .errors import SceneError

# nerfstudio's names of camera models that are a pinhole with OpenCV's radial and tangential distortion, or less.
CAMERA_MODELS = frozenset({"SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV"})
DISTORTION = ("k1", "k2", "p1", "p2", "k3")  # OpenCV's order


@dataclass
class TransformsCamera:
    """The camera of one frame."""

    image_path: Path
    image_size: tuple[int, int]  # (width, height)
    camera_to_world: np.ndarray  # [3, 4], OpenGL axes
    intrinsics: np.ndarray  # [3, 3]
    distortion: np.ndarray  # [5]
    mask_path: Path | None  # an image, 0 where nothing is to be learned from


def read_transforms_camera(meta: dict[str, Any], frame: Any, root: Path, where: Path) -> TransformsCamera:
    """The camera of a frame, checked, and its image's size.

    Args:
        meta: the file's object; what it says for all frames goes before a frame's own, as in nerfstudio.
        frame: one of its `frames`: `file_path` (".png" may be left out), `transform_matrix`, and intrinsics as
            `fl_x fl_y cx cy w h`, distortion as `k1 k2 k3 p1 p2`, or `camera_angle_x`, the horizontal angle of view;
            perhaps `mask_path`.
        root: the folder that file paths start from.
        where: the file, for messages.

    Raises:
        SceneError: the image is missing or broken, its mask is missing, or the camera is malformed or none.
    """
    if not isinstance(frame, dict) or not isinstance(frame.get("file_path"), str):
        raise SceneError(f"Expected every frame in {where} to be an object with a file_path.")
    image_path = _find_image(root, frame["file_path"], where)
    of = f"of {frame['file_path']} in {where}"

    matrix = numbers_of(frame.get("transform_matrix"), f"transform_matrix {of}")
    if matrix.shape not in ((4, 4), (3, 4)):
        raise SceneError(f"Expected a 4 x 4 transform_matrix {of}, got the shape {matrix.shape}.")
    rotation = matrix[:3, :3]
    if np.abs(rotation @ rotation.T - np.eye(3)).max() > 1e-2 or np.linalg.det(rotation) < 0:
        raise SceneError(f"The transform_matrix {of} does not hold a rotation.")

    def number(key: str) -> float | None:
        value = meta.get(key, frame.get(key))
        if value is None:
            return None
        found = numbers_of(value, f"{key} {of}")
        if found.ndim != 0:
            raise SceneError(f"Expected one number as {key} {of}, got the shape {found.shape}.")
        return float(found)

    try:
        with Image.open(image_path) as image:
            actual_size = image.size
    except OSError as error:
        raise SceneError(f"Cannot read the image {image_path}; it is broken or no image.") from error
    width, height = (number("w") or actual_size[0], number("h") or actual_size[1])
    if (width, height) != actual_size:
        raise SceneError(
            f"The image {image_path} is {actual_size[0]} x {actual_size[1]}, but {where} says {width:g} x {height:g}."
        )
    focal_x, focal_y = number("fl_x"), number("fl_y")
    angle_x, angle_y = number("camera_angle_x"), number("camera_angle_y")
    for angle in (angle_x, angle_y):
        if angle is not None and not 0 < angle < math.pi:
            raise SceneError(f"Expected angles of view between 0 and pi {of}, got {angle:g}.")
    if focal_x is None and angle_x is not None:
        focal_x = width / 2 / math.tan(angle_x / 2)
    if focal_y is None:
        focal_y = focal_x if angle_y is None else height / 2 / math.tan(angle_y / 2)
    if focal_x is None or focal_y is None:
        raise SceneError(f"There is no focal length (fl_x, or camera_angle_x) {of}.")
    if focal_x <= 0 or focal_y <= 0:
        raise SceneError(f"Expected focal lengths above 0 {of}, got {focal_x:g} and {focal_y:g}.")
    center_x, center_y = number("cx"), number("cy")
    intrinsics = np.array(
        [
            [focal_x, 0, width / 2 if center_x is None else center_x],
            [0, focal_y, height / 2 if center_y is None else center_y],
            [0, 0, 1],
        ]
    )
    if number("k4"):
        raise SceneError(f"The distortion {of} has a fourth radial term, which is a fisheye's; undistort the images.")
    distortion = np.array([number(key) or 0.0 for key in DISTORTION])
    mask_path = frame.get("mask_path")
    if mask_path is not None:
        if not isinstance(mask_path, str) or not (root / mask_path).is_file():
            raise SceneError(f"The mask_path {of} is {mask_path!r}, and there is no such file.")
        mask_path = root / mask_path
    return TransformsCamera(image_path, actual_size, matrix[:3], intrinsics, distortion, mask_path)


def _find_image(root: Path, file_path: str, where: Path) -> Path:
    path = root / file_path
    if not path.is_file():  # Blender's synthetic scenes leave the suffix out
        png = path.with_name(f"{path.name}.png")
        path = png if png.is_file() or not path.suffix else path
    if not path.is_file():
        raise SceneError(f"The image {path} is missing, which {where} names.")
    return path


def numbers_of(value: Any, what: str) -> np.ndarray:
    """A float64 array of numbers from JSON, all finite.

    Raises:
        SceneError: it holds something else; `what` names it.
    """
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise SceneError(f"Expected numbers as {what}.") from error
    if not np.isfinite(array).all():  # None becomes NaN here: a value that is missing
        raise SceneError(f"There is a value missing or not finite in {what}.")
    return array
