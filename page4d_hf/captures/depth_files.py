"""Decoders of depth files.

Each takes a file and the intrinsics of its frame's image, `(3, 3)` in pixels, which formats that store the distance
along the ray need to give z-depth, and gives `(H, W)` z-depth in the stored unit, which `Capture.depth_scale` brings to
the world's. What is not known may be 0, negative or not finite. A decoder of further parameters becomes a capture's
`read_depth_file` by `functools.partial`. All raise a CaptureError where the file is missing, broken or of another
format.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import CaptureError
from ..utils.image_bounds import check_pixels
from .files import read_array, read_bytes
from .image_files import open_image

SINTEL_TAG = 202021.25  # as a little-endian float32 it reads "PIEH"


def read_npy_depth(path: Path, intrinsics: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Depth of the shape (H, W) or (H, W, 1) from a NumPy file."""
    depth = read_array(path)
    if depth.ndim == 3 and depth.shape[-1] == 1:
        depth = depth[..., 0]
    if depth.ndim != 2 or depth.dtype.kind not in "fiu" or depth.size == 0:
        raise CaptureError(f"{path} must hold depth of the shape (H, W) or (H, W, 1), got {depth.shape}.")
    return depth


def read_uint16_png(path: Path, intrinsics: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Depth from a grey 16-bit PNG, in units of one grey level."""
    return read_png16(path).astype(np.float32)


def read_npy_or_png_depth(path: Path, intrinsics: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Depth from a NumPy file by its suffix `.npy`, and else from a grey 16-bit PNG."""
    return (read_npy_depth if path.suffix.lower() == ".npy" else read_uint16_png)(path, intrinsics)


def read_float16_png(path: Path, intrinsics: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Depth from a grey 16-bit PNG whose levels are the bits of float16 numbers (Dynamic Replica, CO3D)."""
    return read_png16(path).view(np.float16).astype(np.float32)


def read_dpt(path: Path, intrinsics: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Depth from a `.dpt` file of MPI Sintel: float32 tag 202021.25, int32 width and height, float32 depth by rows,
    all little-endian.
    """
    return read_sintel_floats(path, channels=1)[..., 0]


def read_sintel_floats(path: Path, channels: int) -> npt.NDArray[np.float32]:
    """The common form of Sintel's `.dpt` (1 channel) and `.flo` (2 channels, u and v in pixels, interleaved):
    `(H, W, channels)`."""
    data = read_bytes(path)
    kind = path.suffix or "Sintel"
    if len(data) < 12 or np.frombuffer(data, "<f4", 1)[0] != SINTEL_TAG:
        raise CaptureError(f"{path} is no {kind} file: it must start with the float {SINTEL_TAG}; fetch it again.")
    width, height = (int(side) for side in np.frombuffer(data, "<i4", 2, offset=4))
    check_pixels(width, height, path, CaptureError)
    expected = 12 + 4 * width * height * channels
    if len(data) != expected:
        raise CaptureError(
            f"{path} must have {expected} bytes for {width}x{height} pixels, got {len(data)}; fetch it again."
        )
    return np.frombuffer(data, "<f4", offset=12).reshape(height, width, channels).astype(np.float32)


def read_png16(path: Path) -> npt.NDArray[np.uint16]:
    """The grey levels of a 16-bit PNG, `(H, W)`."""
    with open_image(path) as image:
        if not image.mode.startswith("I;16"):
            raise CaptureError(
                f"{path} must be a grey image of 16 bits to hold depth, got {image.mode} pixels; replace it."
            )
        return np.array(image, np.uint16)
