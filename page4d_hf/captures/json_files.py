"""JSON files of data sets, plain or gzip, some of them lists too large to hold as objects all at once."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..errors import CaptureError

GZIP_SUFFIXES = (".gz", ".jgz")
_BETWEEN = re.compile(r"[\s,]*")


def read_json(path: Path) -> Any:
    """The value of a JSON file; `.jgz` and `.gz` are unpacked.

    Raises:
        CaptureError: the file is missing or broken.
    """
    try:
        return json.loads(_read_text(path))
    except ValueError as error:
        if isinstance(error, CaptureError):
            raise
        raise _broken(path, error) from error


def read_json_group(path: Path, **values: str) -> list[dict[str, Any]]:
    """Those objects of a JSON list that have given values, for example all frames of one sequence.

    The list is read once for all calls that follow each other with the same keys; of its objects only the text is
    kept, a tenth of what they would take as Python objects.

    Args:
        path: the file.
        values: the value that each of these keys must have.

    Returns:
        The objects in the file's order; none where no object has the values.

    Raises:
        CaptureError: the file is missing or broken, or holds no list of objects.
    """
    texts = _group_json_list(path, tuple(values), _modified(path)).get(tuple(values.values()), [])
    return [json.loads(text) for text in texts]


def json_group_values(path: Path, *keys: str) -> list[tuple[Any, ...]]:
    """The values of `keys` that the objects of a JSON list have, without repetition, in the file's order.

    Raises:
        CaptureError: as `read_json_group`.
    """
    return list(_group_json_list(path, keys, _modified(path)))


def read_json_members(path: Path) -> dict[str, str]:
    """The members of a JSON object, each as JSON text, read once for all calls that follow each other.

    Raises:
        CaptureError: the file is missing or broken, or holds no object.
    """
    return _split_json_object(path, _modified(path))


@lru_cache(maxsize=2)
def _split_json_object(path: Path, modified: int) -> dict[str, str]:
    value = read_json(path)
    if not isinstance(value, dict):
        raise CaptureError(f"{path} must hold a JSON object, got a {type(value).__name__}; fetch the file again.")
    return {key: json.dumps(member) for key, member in value.items()}


@lru_cache(maxsize=2)
def _group_json_list(path: Path, keys: tuple[str, ...], modified: int) -> dict[tuple[Any, ...], list[str]]:
    text = _read_text(path)
    decode = json.JSONDecoder().raw_decode
    groups: dict[tuple[Any, ...], list[str]] = {}
    position = _skip_separators(text, 0)
    if text[position : position + 1] != "[":
        raise CaptureError(f"{path} must hold a JSON list, but starts with {text[:20]!r}; fetch the file again.")
    position += 1
    while True:
        position = _skip_separators(text, position)
        if text[position : position + 1] == "]":
            return groups
        start = position
        try:
            value, position = decode(text, position)
        except ValueError as error:
            raise _broken(path, error) from error
        if not isinstance(value, dict) or any(key not in value for key in keys):
            raise CaptureError(f"{path} must hold a list of objects with {' and '.join(keys)}, got {value!r:.80}.")
        groups.setdefault(tuple(str(value[key]) for key in keys), []).append(text[start:position])


def _skip_separators(text: str, position: int) -> int:
    match = _BETWEEN.match(text, position)
    return match.end() if match else position


def _modified(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0  # reading it will tell


def _read_text(path: Path) -> str:
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if path.suffix in GZIP_SUFFIXES else data).decode("utf-8")
    except FileNotFoundError as error:
        raise CaptureError(f"{path} is missing; fetch it again.") from error
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise _broken(path, error) from error


def _broken(path: Path, error: Exception) -> CaptureError:
    return CaptureError(f"{path} cannot be read as JSON ({error}); fetch the file again.")
