"""The most pixels that an image may have, asked of its head before memory is taken for them."""

from __future__ import annotations

from pathlib import Path

from ..errors import Page4DError

MOST_SIDE = 2**16  # of an image, in pixels; JPEG knows no longer ones
MOST_PIXELS = 178_956_970  # what Pillow takes for an attack; photographs of telephones have 108 million


def check_pixels(width: int, height: int, path: str | Path, error: type[Page4DError]) -> None:
    """Refuse a size that no image has, as the file's head says it, by an error of a kind."""
    if width < 1 or height < 1:
        raise error(f"{path} claims to be an image of {width}x{height} pixels, which has none; replace the file.")
    if width * height > MOST_PIXELS or max(width, height) > MOST_SIDE:
        raise error(
            f"{path} claims to be an image of {width}x{height} pixels, and at most {MOST_PIXELS / 1e6:.0f} million "
            f"with sides of at most {MOST_SIDE} are read; replace the file, or scale it down."
        )
