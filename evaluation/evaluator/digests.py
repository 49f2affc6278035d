"""Digests of files and data, by which a run tells what its scores are of."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .sequences import EvaluatedSequence

MISSING = "missing"


def file_digest(path: Path) -> str:
    """SHA-256 of a file, its first 16 digits; "missing" for what cannot be read."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as stream:
            while block := stream.read(1 << 22):
                digest.update(block)
    except OSError:
        return MISSING
    return digest.hexdigest()[:16]


def json_digest(value: Any) -> str:
    """SHA-256 of a JSON value, its first 16 digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def data_digest(sequence: EvaluatedSequence) -> str:
    """SHA-256 of all that figures of a sequence come from, its first 16 digits; the same wherever the data lie.

    These are the chosen frames' names and cameras as they were read, and the bytes of their images, depth and masks.
    """
    capture = sequence.frames.capture
    columns: list[list[Path | None]] = [list(capture.image_paths)]
    columns += [paths for paths in (capture.depth_paths, capture.motion_mask_paths) if paths is not None]
    readers, others = [], []
    for reader in (capture.read_image_file, capture.read_depth_file, capture.read_motion_mask_file):
        words, beside = _parameters(reader)
        readers.append(words)
        others += beside
    files = {path for path in (*others, *(path for column in columns for path in column)) if path is not None}

    def relative(path: Path | None) -> str | None:
        return None if path is None else os.path.relpath(path, capture.root)

    cameras = (capture.extrinsics, capture.intrinsics, capture.distortion, capture.image_sizes)
    return json_digest(
        {
            "frames": [capture.frame_ids, *([relative(path) for path in column] for column in columns)],
            "cameras": [np.asarray(array).tolist() for array in cameras],
            "unit": [capture.scale, capture.depth_scale],
            "readers": readers,
            "files": {str(relative(path)): file_digest(path) for path in files},
        }
    )


def _parameters(reader: Callable[..., Any]) -> tuple[list[Any], list[Path]]:
    """What decodes a kind of file, and the files in the folders that it looks into beside the one that it is given."""
    if not isinstance(reader, partial):
        return [reader.__name__], []
    words: list[Any] = [reader.func.__name__]
    files: list[Path] = []
    for name, value in sorted(reader.keywords.items()):
        if isinstance(value, Path):
            files += [path for path in value.glob("*") if path.is_file()]
        else:
            words.append(f"{name}={value}")
    return words, files
