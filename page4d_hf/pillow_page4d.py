"""What Pillow does not read by itself, and what its own conversions get wrong."""

import os

import numpy as np
from PIL import Image


def let_pillow_read(path: str | os.PathLike[str]) -> None:
    """Before `Image.open`: teach Pillow HEIC and HEIF, the photos of phones, if a file is one."""
    if os.fspath(path).lower().endswith((".heic", ".heif")):
        try:  # not `suppress`: transformers asks for whatever the code of a folder imports outside of a `try`
            from pillow_heif import register_heif_opener
        except ImportError:
            return
        register_heif_opener()


def to_8_bits(image: Image.Image) -> Image.Image:
    """An image of 16 bits scaled to 8, which Pillow saturates; one of 8 bits as it is.

    Raises:
        ValueError: floating-point pixels, or integers beyond 16 bits.
    """
    if image.mode == "F":
        raise ValueError("Expected an image of 8 or 16 bits, got floating-point pixels; convert it to 8 bits.")
    if not image.mode.startswith("I"):  # 16 bits, or 32 that hold 16
        return image
    gray = np.asarray(image)
    if gray.min() < 0 or gray.max() > 65535:
        raise ValueError(
            f"Expected an image of 8 or 16 bits, got values from {gray.min()} to {gray.max()}; convert it to 8 bits."
        )
    # Rounded in integers, which take half the memory of floats: 257 is odd, so that no value lies half way.
    return Image.fromarray(((gray.astype(np.uint32) + 128) // 257).astype(np.uint8))
