"""HEIC and HEIF, the photos of phones, for Pillow."""

from __future__ import annotations

from pathlib import Path

HEIF_SUFFIXES = frozenset({".heic", ".heif"})


def let_pillow_read(path: Path) -> None:
    """Before `Image.open`: teach Pillow the format of a file, if it is one that it does not know by itself."""
    if path.suffix.lower() in HEIF_SUFFIXES:
        from pillow_heif import register_heif_opener

        register_heif_opener()
