"""Frame annotations of CO3D and Dynamic Replica, whose cameras are PyTorch3D's.

PyTorch3D's camera looks along +z with x to the left and y up, and multiplies row vectors: `x_camera = x_world @ R + T`.
Focal length and principal point are in normalised device coordinates (NDC), whose axes point left and up too and whose
origin is the middle of the image: a pixel is at `size / 2 - scale * ndc`. `intrinsics_format` says what one unit of NDC
is: "ndc_isotropic", half of the image's shorter side in both directions; "ndc_norm_image_bounds", half of the width in
x and half of the height in y. The first pixel's centre is at (0.5, 0.5).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import CaptureError
from ..json_files import read_json_group

FORMATS = ("ndc_isotropic", "ndc_norm_image_bounds")
_FLIP = np.array([-1.0, -1.0, 1.0])  # left, up, forward <-> right, down, forward


def read_frame_annotations(path: Path, **values: str) -> list[dict[str, Any]]:
    """The annotations of a sequence's frames, by rising `frame_number`.

    Args:
        path: a list of annotations, gzip or plain JSON.
        values: what tells the sequence: the value that each of these keys must have.

    Returns:
        The annotations; none where no frame has the values.

    Raises:
        CaptureError: the file is missing or broken, or a frame has no number.
    """
    entries = read_json_group(path, **values)
    for entry in entries:
        if not isinstance(entry.get("frame_number"), int):
            raise CaptureError(
                f"{path}: the frame_number of every frame must be a whole number, got {entry.get('frame_number')!r} "
                f"in {', '.join(values.values())}; fetch it again."
            )
    return sorted(entries, key=lambda entry: entry["frame_number"])


def part_of(entry: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """An object within an annotation, such as its "image"; empty where there is none."""
    part = entry.get(key)
    return part if isinstance(part, Mapping) else {}


def camera_from_viewpoint(
    viewpoint: Mapping[str, Any], image_size: tuple[int, int]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Convert a viewpoint annotation.

    Args:
        viewpoint: R `(3, 3)`, T `(3,)`, focal_length `(2,)`, principal_point `(2,)` and intrinsics_format; without
            the last, the annotations' own default "ndc_norm_image_bounds".
        image_size: (width, height) of the image.

    Returns:
        extrinsics `(3, 4)`, world-to-camera with OpenCV axes, and intrinsics `(3, 3)` in pixels.

    Raises:
        ValueError: a part is missing, of another shape or no number, or the format is not known; the message is the
            middle of a sentence.
    """
    rotation, translation = _numbers(viewpoint, "R", (3, 3)), _numbers(viewpoint, "T", (3,))
    focal, principal = _numbers(viewpoint, "focal_length", (2,)), _numbers(viewpoint, "principal_point", (2,))
    kind = viewpoint.get("intrinsics_format", "ndc_norm_image_bounds")
    half = np.array(image_size, np.float64) / 2
    if kind == "ndc_isotropic":
        unit = np.full(2, half.min())
    elif kind == "ndc_norm_image_bounds":
        unit = half
    else:
        raise ValueError(f"its intrinsics_format is {kind!r}, not one of {', '.join(FORMATS)}")
    fx, fy = focal * unit
    cx, cy = half - principal * unit
    # Rows times R is R^T times columns; the flip then turns the camera's axes.
    extrinsics = np.column_stack((_FLIP[:, None] * rotation.T, _FLIP * translation))
    return extrinsics, np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])


def annotated_image_size(entry: Mapping[str, Any]) -> tuple[int, int]:
    """(width, height) of the image of a frame's annotation, which stores height first.

    Raises:
        ValueError: it has none; the message is the middle of a sentence.
    """
    size = part_of(entry, "image").get("size")
    if not isinstance(size, (list, tuple)) or len(size) != 2 or not all(isinstance(side, int) for side in size):
        raise ValueError(f"its size must be height and width in pixels, got {size!r}")
    height, width = size
    if height < 1 or width < 1:
        raise ValueError(f"its size must be height and width in pixels, got {size!r}")
    return width, height


def _numbers(viewpoint: Mapping[str, Any], key: str, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    try:
        values = np.array(viewpoint[key], np.float64)
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"its viewpoint has no {key} of {' x '.join(map(str, shape))} numbers") from None
    if values.shape != shape:
        raise ValueError(f"the {key} of its viewpoint has the shape {values.shape}, not {shape}")
    return values
