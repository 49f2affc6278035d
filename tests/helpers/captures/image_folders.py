"""Folders of images."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from PIL import Image


def write_images(folder: Path, images: Iterable[Any], name: str = "{}.png") -> Path:
    """Write arrays `(H, W)`, uint8 or bool, or `(H, W, C)` uint8, under their numbers, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / name.format(number))
    return folder
