"""Bytes, text and arrays of numbers from a capture's files, within bounds and with one sentence for what is wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import CaptureError, Page4DError
from ..utils.programs import one_line

MOST_BYTES = 2**31  # of a file that is read at once; flow of the most pixels that an image may have takes half of it


@contextmanager
def readable(folder: Path) -> Iterator[None]:
    """Turn errors of the file system in the block, such as denied access or a name that is too long, into one sentence.

    Raises:
        CaptureError: instead of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise CaptureError(f"{folder!s:.200} cannot be read ({one_line(error):.300}); name another folder.") from error


@contextmanager
def decoding(path: Path, kind: str) -> Iterator[None]:
    """Turn whatever a file's decoder raises in the block into a `CaptureError`; `kind` is what the file should be: "an
    image".

    Decoders raise what they happen to meet in a broken file: SyntaxError, IndexError, struct.error, zlib.error.
    """
    try:
        yield
    except Page4DError:
        raise
    except FileNotFoundError as error:
        raise CaptureError(f"{path} is missing; put it back.") from error
    except Exception as error:
        raise CaptureError(f"{path} cannot be read as {kind} ({one_line(error):.300}); replace the file.") from error


def read_bytes(path: Path) -> bytes:
    """A whole file of a capture."""
    with decoding(path, "a file"):
        if path.exists() and not path.is_file():  # a device or a pipe need not end
            raise CaptureError(f"{path} is a folder or a device, not a file; replace it.")
        _check_bytes(path, path.stat().st_size)
        return path.read_bytes()


def read_text(path: Path) -> str:
    """A whole text file of a capture, UTF-8, with or without a byte order mark."""
    with decoding(path, "text"):
        return read_bytes(path).decode("utf-8-sig")


def read_array(path: Path) -> npt.NDArray[Any]:
    """The numbers in a `.npy` file. No more memory is taken than the file has bytes, whatever shape its head claims."""
    with decoding(path, "a NumPy array"):
        mapped = np.lib.format.open_memmap(path, mode="r")
    if mapped.dtype.kind not in "fiub":
        raise CaptureError(f"{path} must hold an array of numbers, got {mapped.dtype}; replace the file.")
    _check_bytes(path, mapped.nbytes)
    return np.array(mapped)


def numbered_folders(folder: Path, pattern: str) -> dict[int, Path]:
    """The folders in a folder whose names fit a pattern, by the number in it, rising: by the product of several. There
    are none where there is no folder."""
    found = [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    matches = [(match, path) for path in found if (match := re.fullmatch(pattern, path.name))]
    return dict(sorted((prod(map(int, match.groups())), path) for match, path in matches))


def _check_bytes(path: Path, count: int) -> None:
    if count > MOST_BYTES:
        raise CaptureError(f"{path} is larger than the {MOST_BYTES >> 20} MiB that are read; replace the file.")
