"""Field types for capture metadata in a `Record`: bounded numbers, vectors, and paths."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import numpy as np
from annotated_types import Len
from pydantic import AfterValidator, BeforeValidator, Field

from ..geometry import is_rotation
from ..utils.image_bounds import MOST_SIDE

# Of a coordinate or focal length, whatever its unit, and of what must be above 0 its inverse the least: what is
# computed of them stays within float32.
LARGEST = 1e9
LATEST = 1e12  # seconds; those since 1970 are above 1e9
LONGEST_NAME, LONGEST_PATH = 255, 2048  # bytes; what file systems take, the capture's own folder left room for

_NO_PATH = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")  # control characters, and halves of characters


def check_relative_path(path: str) -> str:
    """A path of a capture's file, as metadata name it, which stays in the folder that it starts from.

    Raises:
        ValueError: it leads out of the folder, or is none; the message goes behind the path.
    """
    parts = [part.encode(errors="replace") for part in PurePosixPath(path).parts]
    is_path = parts and not _NO_PATH.search(path)
    if not is_path or max(map(len, parts)) > LONGEST_NAME or sum(map(len, parts)) > LONGEST_PATH:
        raise ValueError("should be the path of a file")
    if path.startswith("/") or ".." in PurePosixPath(path).parts:
        raise ValueError("should stay inside the folder that it starts from")
    return path


def is_folder_in(folder: Path, name: str) -> bool:
    """Whether a folder holds another of a name that metadata give."""
    try:
        return (folder / check_relative_path(name)).is_dir()
    except ValueError:
        return False


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _not_tiny(value: float) -> float:
    if value < 1 / LARGEST:
        raise ValueError(f"should be at least {1 / LARGEST:g}")
    return value


def _rotation(value: list[list[float]]) -> list[list[float]]:
    if not is_rotation(np.array(value)):
        raise ValueError("should be a rotation, whose rows are orthonormal and which mirrors nothing")
    return value


Seconds = Annotated[float, Field(ge=-LATEST, le=LATEST)]
Number = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]
Positive = Annotated[float, Field(gt=0, le=LARGEST), AfterValidator(_not_tiny)]
Whole = Annotated[int, BeforeValidator(_whole), Field(ge=-(2**31), lt=2**31)]  # some programs write 3 as 3.0
Side = Annotated[Whole, Field(ge=1, le=MOST_SIDE)]
RelativePath = Annotated[str, AfterValidator(check_relative_path)]
OptionalPath = Annotated[RelativePath | None, BeforeValidator(lambda value: value or None)]  # "" where there is none

Vector2 = Annotated[list[Number], Len(2, 2)]
Vector3 = Annotated[list[Number], Len(3, 3)]
Vector4 = Annotated[list[Number], Len(4, 4)]
Matrix3 = Annotated[list[Vector3], Len(3, 3)]
Rotation = Annotated[Matrix3, AfterValidator(_rotation)]
