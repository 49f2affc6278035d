"""Captures on disk: frames with cameras, depth and motion masks, each published layout read into one form, `Capture`.

A file in `layouts` reads one layout, `registry` finds it by name or by a folder's entries, and `as_pinhole` shows what
was read as a pinhole camera would have taken it. Nothing here downloads, and no image is opened before it is asked for.
"""

from .base import Capture
from .pinhole import PinholeFrames, as_pinhole
from .registry import DATASETS, LAYOUTS, detect_layout, find_sequences, read_capture, read_sequence

__all__ = [
    "DATASETS",
    "LAYOUTS",
    "Capture",
    "PinholeFrames",
    "as_pinhole",
    "detect_layout",
    "find_sequences",
    "read_capture",
    "read_sequence",
]
