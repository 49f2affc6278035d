"""JSON files, read once and against a schema; plain or gzip, some of them lists too large to hold as objects at once.

A schema is a `Record` (an object with named, typed fields) or any type that pydantic knows, such as `list[Frame]`. What
does not fit it ends in one sentence that names the file, the place in it and what was expected there; code behind it
takes types and finite numbers for granted.
"""

from __future__ import annotations

import gzip
import json
import re
import reprlib
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from ..errors import CaptureError, Page4DError

GZIP_SUFFIXES = (".gz", ".jgz")
# Of one file, unpacked. What is read at once takes ten times its text as objects; CO3D's annotations have some 50 MB.
MOST_BYTES = 2**28
MOST_BYTES_IN_GROUPS = 2**31  # of a list read group by group; Dynamic Replica's frame annotations have 0.5 GB
_BYTES_AT_ONCE = 2**20

_BETWEEN = re.compile(r"[\s,]*")
_SUBJECT = re.compile("(Input|List|Tuple|Set|Dictionary|String|Value error,) ")  # what pydantic's sentences begin with


class Record(BaseModel):
    """A JSON object with known fields; others are ignored. Numbers are finite, and an integer is no 2.5 and no "2"."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False, frozen=True, protected_namespaces=())


class Fault(str):
    """Why a value that may be broken is, as the middle of a sentence, such as "lacks R"."""

    __slots__ = ()


def _or_fault(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    try:
        return validate(value)
    except ValidationError as broken:
        return Fault(explain(broken))


# `Annotated[Camera, OrFault]`: a `Fault` in place of what does not fit, so that one broken frame doesn't cost the file.
# Arrays behind it are of the type `list`: pydantic takes no strict tuple from JSON there.
OrFault = WrapValidator(_or_fault)


def parse_json(
    text: str | bytes,
    schema: Any,
    source: str | Path,
    *,
    error: type[Page4DError] = CaptureError,
    remedy: str = "fetch it again",
) -> Any:
    """The value of a JSON text, UTF-8, that fits a schema: a `Record`, or any type that pydantic knows.

    `source` is what the text is of, `error` what to raise, and `remedy` what the user can do about it.
    """
    text = text.removeprefix(b"\xef\xbb\xbf") if isinstance(text, bytes) else text.removeprefix("\ufeff")
    adapter = _adapter(schema)
    try:
        return adapter.validate_json(text, strict=True)
    except ValidationError as broken:
        raise error(f"{source} {explain(broken)}; {remedy}.") from broken


def read_json(
    path: Path, schema: Any = Any, *, error: type[Page4DError] = CaptureError, remedy: str = "fetch it again"
) -> Any:
    """The value of a JSON file that fits a schema, see `parse_json`; `.jgz` and `.gz` are unpacked."""
    return parse_json(_read(path, MOST_BYTES, error, remedy), schema, path, error=error, remedy=remedy)


class _JsonWords(reprlib.Repr):
    """Short texts of values in which null, true and false are as in the file."""

    def repr_NoneType(self, value: None, level: int) -> str:
        return "null"

    def repr_bool(self, value: bool, level: int) -> str:
        return "true" if value else "false"


def explain(broken: ValidationError) -> str:
    """The first fault that pydantic found, as what goes behind the name of a file."""
    fault = broken.errors(include_url=False)[0]
    if fault["type"] == "json_invalid":
        return f"cannot be read as JSON ({fault['ctx']['error']})"
    place = f"{'.'.join(str(part) for part in fault['loc']):.200}"
    place = place if place.isprintable() else repr(place)
    if fault["type"] == "missing":
        return f"lacks {place}"
    if fault["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"has {place}, which does not exist"
    where = f" at {place}" if place else ""
    message = _SUBJECT.sub("", fault["msg"].replace(" after validation", "")).rstrip(".")
    if fault["type"] == "value_error" and not message.startswith(("should ", "must ")):
        return f"does not hold what it should{where}: {message}"  # a validator's own sentence
    message = re.sub(r"a valid dictionary or instance of \w+", "an object", message)
    return f"does not hold what it should{where}: it {message}, got {_JsonWords().repr(fault['input']):.120}"


def read_json_group(path: Path, schema: Any, **values: str) -> list[Any]:
    """Those objects of a JSON list that have given values, for example all frames of one sequence.

    The list is read once for all calls that follow each other with the same keys; of its objects only the text is
    kept, a tenth of what they would take as Python objects.

    Args:
        path: the file.
        schema: of one of the objects.
        values: the string that each of these keys must have.

    Returns:
        The objects in the file's order; none where no object has the values.
    """
    texts = _group_json_list(path, tuple(values), _modified(path)).get(tuple(values.values()), [])
    source = f"{path}, in an entry of {', '.join(values.values())},"
    return [parse_json(text, schema, source) for text in texts]


def json_group_values(path: Path, *keys: str) -> list[tuple[str, ...]]:
    """The strings that the objects of a JSON list have under `keys`, without repetition, in the file's order."""
    return list(_group_json_list(path, keys, _modified(path)))


def read_json_members(path: Path) -> dict[str, str]:
    """The members of a JSON object, each as JSON text, read once for all calls that follow each other."""
    return _split_json_object(path, _modified(path))


@lru_cache(maxsize=2)
def _split_json_object(path: Path, modified: int) -> dict[str, str]:
    value = read_json(path, dict[str, Any])
    return {key: json.dumps(member) for key, member in value.items()}


@lru_cache(maxsize=2)
def _group_json_list(path: Path, keys: tuple[str, ...], modified: int) -> dict[tuple[str, ...], list[str]]:
    try:
        text = _read(path, MOST_BYTES_IN_GROUPS, CaptureError, "fetch it again").decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _broken(path, error) from error
    decode = json.JSONDecoder().raw_decode
    groups: dict[tuple[str, ...], list[str]] = {}
    position = _skip_separators(text, 0)
    if text[position : position + 1] != "[":
        raise CaptureError(f"{path} must hold a JSON list, but starts with {text[:20]!r}; fetch it again.")
    position += 1
    while True:
        position = _skip_separators(text, position)
        if text[position : position + 1] == "]":
            return groups
        start = position
        try:
            value, position = decode(text, position)
        except (ValueError, RecursionError) as error:
            raise _broken(path, error) from error
        if not isinstance(value, dict) or not all(isinstance(value.get(key), str) for key in keys):
            raise CaptureError(
                f"{path} must hold a list of objects with strings as {' and '.join(keys)}, got "
                f"{reprlib.repr(value):.120}; fetch it again."
            )
        groups.setdefault(tuple(value[key] for key in keys), []).append(text[start:position])


def _skip_separators(text: str, position: int) -> int:
    match = _BETWEEN.match(text, position)
    return match.end() if match else position


def _broken(path: Path, error: Exception) -> CaptureError:
    return CaptureError(f"{path} cannot be read as JSON ({error}); fetch it again.")


def _modified(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0  # reading it will tell


@lru_cache(maxsize=64)
def _adapter(schema: Any) -> TypeAdapter[Any]:
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        return TypeAdapter(schema)
    return TypeAdapter(schema, config=ConfigDict(strict=True, allow_inf_nan=False))


def _read(path: Path, most: int, error: type[Page4DError], remedy: str) -> bytes:
    """A file's bytes, unpacked; taken piece by piece, so that a bound that is never met takes no memory."""
    data = bytearray()
    try:
        if path.exists() and not path.is_file():  # a device or a pipe need not end
            raise error(f"{path} is a folder or a device, not a file; {remedy}.")
        with gzip.open(path) if path.suffix in GZIP_SUFFIXES else path.open("rb") as stream:
            while piece := stream.read(_BYTES_AT_ONCE):
                data += piece
                if len(data) > most:
                    raise error(f"{path} holds more than the {most >> 20} MiB that are read; {remedy}.")
    except FileNotFoundError as missing:
        raise error(f"{path} is missing; {remedy}.") from missing
    except Page4DError:
        raise
    except (OSError, EOFError, zlib.error, ValueError) as broken:  # ValueError: a null byte in the path
        raise error(f"{path} cannot be read as JSON ({broken}); {remedy}.") from broken
    return bytes(data)
