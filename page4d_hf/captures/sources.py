"""What lies at a path: a scene folder, a capture, or plain frames (a video or images).

A folder of another program with nerfstudio's `transforms.json` is found as a scene.
"""

from __future__ import annotations

import glob
import os
from pathlib import Path
from typing import Literal, NamedTuple

from ..errors import FrameError, Page4DError
from ..frames import IMAGE_SUFFIXES, VIDEO_SUFFIXES, frame_files
from .files import readable
from .registry import LAYOUTS, detect_layout


class Source(NamedTuple):
    """What lies at a path."""

    kind: Literal["scene", "capture", "frames"]
    layout: str | None = None  # of a capture


def find_source(data: Path, layout: str = "auto") -> Source:
    """Tell what lies at a path ("auto"), or take it for "scene", "frames" or a capture of a layout as told."""
    _require(data)
    if layout == "scene":
        return Source("scene")
    if layout == "auto" and data.is_file() and data.suffix.lower() not in VIDEO_SUFFIXES | IMAGE_SUFFIXES:
        raise Page4DError(f"Cannot tell what {data} is: neither a video nor an image of a kind that is read.")
    if layout == "frames" or (layout == "auto" and not data.is_dir()):
        return Source("frames")
    if layout != "auto":
        return Source("capture", layout)
    with readable(data):
        if (data / "transforms.json").is_file():
            return Source("scene")
        found = detect_layout(data)
    if found is not None:
        return Source("capture", found)
    try:
        frame_files(data)
    except FrameError as error:
        raise Page4DError(
            f"Cannot tell what {data} is: expected a scene folder (with transforms.json), a capture "
            f"({'; '.join(layout.looks for layout in LAYOUTS.values())}), a video, or a folder of images. {error}"
        ) from error
    return Source("frames")


def place_of(data: Path) -> Path:
    """Where data lie: themselves, or the folder of the images that a glob names."""
    while glob.has_magic(str(data)) and not data.exists():
        data = data.parent
    return data


def absolute(data: Path) -> Path:
    """Where data lie, said so that it holds from any folder, as in a training's config.yml.

    A link keeps its name, and a glob its stars.
    """
    place = Path(os.path.abspath(data.expanduser()))
    _require(place)
    return place


def _require(data: Path) -> None:
    try:
        there = os.path.lexists(data) and data.exists()
    except (OSError, ValueError) as error:  # too long, a null byte, a loop of links
        raise Page4DError(f"{str(data)!r:.200} is no name that data can have: {error}.") from error
    if not there and not glob.has_magic(str(data)):
        raise Page4DError(f"There is no {data}; name a scene folder, a capture, a video or images.")
