"""Frame annotations of CO3D and Dynamic Replica, whose cameras are PyTorch3D's.

PyTorch3D's camera looks along +z with x to the left and y up, and multiplies row vectors: `x_camera = x_world @ R + T`.
Focal length and principal point are in normalised device coordinates (NDC), whose axes point left and up too and whose
origin is the middle of the image: a pixel is at `size / 2 - scale * ndc`. `intrinsics_format` says what one unit of NDC
is: "ndc_isotropic", half of the image's shorter side in both directions; "ndc_norm_image_bounds", half of the width in
x and half of the height in y. The first pixel's centre is at (0.5, 0.5).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from annotated_types import Len

from ...utils.json_files import Fault, OrFault, Record, read_json_group
from ..schemas import Matrix3, OptionalPath, Positive, RelativePath, Seconds, Side, Vector2, Vector3, Whole

_FLIP = np.array([-1.0, -1.0, 1.0])  # left, up, forward <-> right, down, forward
_MISSING = Fault("is missing")


class Viewpoint(Record):
    """A camera."""

    R: Matrix3
    T: Vector3
    focal_length: Vector2
    principal_point: Vector2
    intrinsics_format: Literal["ndc_isotropic", "ndc_norm_image_bounds"] = "ndc_norm_image_bounds"  # as PyTorch3D's own


class _Image(Record):
    path: RelativePath
    size: Annotated[list[Side], Len(2, 2), OrFault] = _MISSING  # type: ignore[assignment]  # height, width


class Map(Record):
    """A file of depth or of a mask."""

    path: OptionalPath = None
    scale_adjustment: Positive = 1.0
    mask_path: OptionalPath = None


class FrameAnnotation(Record):
    """What is said of a frame; a part that is broken costs this frame alone."""

    frame_number: Whole
    frame_timestamp: Annotated[Seconds | None, OrFault] = None
    image: Annotated[_Image, OrFault] = _MISSING  # type: ignore[assignment]
    depth: Annotated[Map | None, OrFault] = None
    mask: Annotated[Map | None, OrFault] = None
    viewpoint: Annotated[Viewpoint, OrFault] = _MISSING  # type: ignore[assignment]

    @property
    def name(self) -> str:
        """The path of its image; "frame 3" where there is none."""
        return f"frame {self.frame_number}" if isinstance(self.image, Fault) else self.image.path

    def camera(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any], tuple[int, int]]:
        """As `camera_from_viewpoint`, and (width, height) of the image.

        Raises:
            ValueError: a part of the annotation is broken; the message is the middle of a sentence.
        """
        for part in ("image", "depth", "mask", "viewpoint"):
            if isinstance(fault := getattr(self, part), Fault):
                raise ValueError(f"its {part} {fault}")
        if isinstance(self.image.size, Fault):
            raise ValueError(f"the size of its image {self.image.size}")
        height, width = self.image.size
        return *camera_from_viewpoint(self.viewpoint, (width, height)), (width, height)


def read_frame_annotations(path: Path, **values: str) -> list[FrameAnnotation]:
    """The annotations of a sequence's frames, by rising `frame_number`; `values` are what some keys must have."""
    return sorted(read_json_group(path, FrameAnnotation, **values), key=lambda frame: frame.frame_number)


def camera_from_viewpoint(
    viewpoint: Viewpoint, image_size: tuple[int, int]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Extrinsics `(3, 4)`, world-to-camera with OpenCV axes, and intrinsics `(3, 3)` in pixels of a viewpoint
    annotation of an image of a size (width, height)."""
    half = np.array(image_size, np.float64) / 2
    unit = np.full(2, half.min()) if viewpoint.intrinsics_format == "ndc_isotropic" else half
    fx, fy = viewpoint.focal_length * unit
    cx, cy = half - viewpoint.principal_point * unit
    # Rows times R is R^T times columns; the flip then turns the camera's axes.
    extrinsics = np.column_stack((_FLIP[:, None] * np.array(viewpoint.R).T, _FLIP * viewpoint.T))
    return extrinsics, np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
