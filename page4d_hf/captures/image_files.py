"""Decoders of 8-bit image files: colour, masks, and sizes without decoding."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..errors import CaptureError
from ..frames import not_black, over
from ..pillow_page4d import let_pillow_read
from ..utils.image_bounds import check_pixels
from .files import decoding


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """Open an image of a size within bounds, to be decoded in the `with` statement."""
    with decoding(path, "an image"):
        let_pillow_read(path)
        with Image.open(path) as image:
            check_pixels(*image.size, path, CaptureError)
            yield image


def read_image(path: Path, keep_grey: bool = False) -> npt.NDArray[np.uint8]:
    """Decode an 8-bit image: `(H, W, 3)`, or `(H, W, 4)` with transparency. With `keep_grey` a grey image, or the
    indices of a palette, come as `(H, W)`."""
    with open_image(path) as image:
        if image.mode in ("RGB", "RGBA") or (keep_grey and image.mode in ("L", "P")):
            return np.array(image)
        if image.mode == "1":
            return np.array(image.convert("L" if keep_grey else "RGB"))
        if image.mode in ("L", "P", "LA", "PA", "CMYK", "YCbCr"):
            transparent = image.mode in ("LA", "PA") or "transparency" in image.info
            return np.array(image.convert("RGBA" if transparent else "RGB"))
        raise CaptureError(f"{path} has {image.mode} pixels; convert it to 8-bit colour.")


def read_opaque_image(path: Path) -> npt.NDArray[np.uint8]:
    """The colours `(H, W, 3)` of an 8-bit image whose transparency says something else (DyCheck's: lidar returns)."""
    return np.ascontiguousarray(read_image(path)[..., :3])


def read_image_over(path: Path, background: tuple[int, int, int]) -> npt.NDArray[np.uint8]:
    """An 8-bit image `(H, W, 3)` laid over a colour (0 to 255): alpha * image + (1 - alpha) * background."""
    return over(read_image(path), background)


def read_image_mask(path: Path) -> npt.NDArray[np.bool_]:
    """Where an image is not black, or a palette image's index is not 0: `(H, W)`."""
    with open_image(path) as image:
        return not_black(image)


def check_same_size(path: Path, values: npt.NDArray[Any], other_path: Path, others: npt.NDArray[Any]) -> None:
    """Refuse values of pixels `(H, W, ...)` that two files have for one image, but in different sizes."""
    if values.shape[:2] != others.shape[:2]:
        raise CaptureError(
            f"{path} is {values.shape[1]}x{values.shape[0]} but {other_path} is {others.shape[1]}x{others.shape[0]}; "
            "fetch them again."
        )


def read_image_size(path: Path) -> tuple[int, int]:
    """(width, height) of an image, from its head alone."""
    with open_image(path) as image:
        return image.size
