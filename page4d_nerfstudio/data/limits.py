"""Checks for data of every kind: at least two frames, positions within numeric range, images of a reasonable size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from page4d_hf.captures import Capture
from page4d_hf.errors import CaptureError, FrameError
from page4d_hf.scene.folder import POINT_ARRAYS

from ..console import note

MAX_AUTO_SIDE = 1600  # pixels; what nerfstudio's own dataparsers use
FARTHEST = 1e9  # units from the origin, of cameras and points: single precision takes their squares


def without_far_points(data: Any) -> Any:
    """A `Capture` or `Scene` without those of its points that are too far away to compute with."""
    refuse_far_cameras(data.extrinsics, data.intrinsics, data.root)
    if data.points is None:
        return data
    reached = in_reach(data.points, data.root)
    if reached.all():
        return data
    known = {name: getattr(data, name, None) for name in POINT_ARRAYS}
    return replace(data, **{name: values[reached] for name, values in known.items() if values is not None})


def refuse_far_cameras(extrinsics: npt.NDArray[Any], intrinsics: npt.NDArray[Any], where: Path) -> None:
    far = ~(np.abs(extrinsics[:, :3, 3]) <= FARTHEST).all(axis=1)
    if far.any():
        raise CaptureError(
            f"Camera {int(far.argmax())} of {where} is more than {FARTHEST:g} units from the origin; scale the data."
        )
    if not (np.abs(intrinsics) <= FARTHEST).all():
        raise CaptureError(f"A camera of {where} has a focal length or centre of more than {FARTHEST:g} pixels.")


def in_reach(points: npt.NDArray[Any], where: Path) -> npt.NDArray[Any]:
    """Which points [M] are near enough to compute with; says how many are not, and raises where none is."""
    reached: npt.NDArray[Any] = (np.abs(points) <= FARTHEST).all(axis=1)
    if len(points) > 0 and not reached.any():
        raise CaptureError(f"All points of {where} are more than {FARTHEST:g} units from the origin; scale the data.")
    if not reached.all():
        note(f"{int((~reached).sum())} points of {where} are left out: more than {FARTHEST:g} units from the origin")
    return reached


def refuse_a_single_frame(count: int, source: Path) -> None:
    if count < 2:
        raise FrameError(
            f"A 4D scene is trained on at least 2 frames, and {source} gives {count}; "
            "add frames, or use `page4d reconstruct` alone."
        )


def size_factor(capture: Capture, given: int | None) -> int:
    """How many times smaller than a capture's full size its images are taken: as given, or to fit `MAX_AUTO_SIDE`."""
    if given is not None:
        return given
    factor = 1
    while capture.image_sizes.max() / factor > MAX_AUTO_SIDE:
        factor *= 2
    return factor * capture.image_downscale
