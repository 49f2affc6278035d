"""Damage to the files of a capture on disk: functions of it, or of its folder, for tables of bad input."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from page4d_hf.captures import Capture, as_pinhole, detect_layout
from page4d_hf.errors import CaptureError

Damage = Callable[[Any], Any]


def gone(name: str) -> Damage:
    """A file or folder is missing."""

    def damage(capture: Any) -> None:
        path = _folder(capture) / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return damage


def holds(name: str, content: bytes | str) -> Damage:
    """A file holds something else."""
    data = content.encode() if isinstance(content, str) else content
    return lambda capture: (_folder(capture) / name).write_bytes(data)


def cut(name: str, end: int) -> Damage:
    """A file is cut short."""
    return lambda capture: (_folder(capture) / name).write_bytes((_folder(capture) / name).read_bytes()[:end])


def edited(change: Damage) -> Damage:
    """What is held in memory is changed and written."""
    return lambda capture: (change(capture), capture.save())


def load_frame(capture: Capture, index: int = 0) -> None:
    """Decode all files of a frame."""
    frames = as_pinhole(capture)
    index = min(index, len(frames) - 1)
    for load in (frames.load_image, frames.load_motion_mask, frames.load_depth, frames.load_use, frames.load_covisible):
        load(index)


def check_refused(
    small: Any, damage: Damage, message: str, read: Callable[[Path], Capture], layout: str | None = None
) -> None:
    """Where a capture is damaged, reading its folder, or loading its second frame, ends in one sentence; what it is is
    told all the same."""
    damage(small)
    if layout is not None:
        assert detect_layout(_folder(small)) == layout
    with pytest.raises(CaptureError, match=message) as error:
        load_frame(read(_folder(small)), 1)
    assert "\n" not in str(error.value)


def _folder(capture: Any) -> Path:
    return capture if isinstance(capture, Path) else getattr(capture, "folder", None) or capture.root
