"""What Pillow's own conversions get wrong."""

import numpy as np
from PIL import Image


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
