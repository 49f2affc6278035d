"""Seeded damage to files, for tests that a reader ends in a reading or in one sentence.

check_reader(lambda: read_capture(folder), [folder / "metadata.json", folder / "poses.npy"])
"""

from __future__ import annotations

import gzip
import json
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

from page4d_hf.errors import Page4DError

_NESTED, _LONG_NUMBER = "<nested>", "<long number>"
_RAW = {_NESTED: "[" * 100_000 + "]" * 100_000, _LONG_NUMBER: "9" * 400}  # what `json.dumps` cannot or will not write
# What stands where another value should.
ODD_VALUES: tuple[Any, ...] = (
    *(None, True, [], {}, [[]], [None], {"a": {}}, [1.5, "2"]),
    *(0, -1, 2.5, 1e300, -1e300, 1e-300, 2**31, 2**63, float("nan"), float("inf"), _LONG_NUMBER, _NESTED),
    *("", "1", "text", "a\0b", "\ud800", "../../../../etc/passwd", "/etc/passwd", "x" * 300, "x/" * 3000),
)
ODD_NUMBERS = ("", "x", "nan", "-inf", "0", "-1", "2.5", "1e300", "1e-300", "1e999", "2147483648", "9" * 400, "\0")
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


def check_reader(read: Callable[[], object], files: Sequence[Path], *, rounds: int = 60, seed: int = 0) -> None:
    """Damage one file after the other, read, and put the file back.

    Args:
        read: reads all of `files` each time that it is called.
        files: what to damage. JSON and text are also damaged value by value, inside gzip too.
        rounds: how many damages; 60 take a second where a reading takes 10 ms.
        seed: of the damages.

    Raises:
        AssertionError: a reading ended in another error than a `Page4DError`, an error's text is not one line, or no
            damage was noticed: then the files were not read.
    """
    random = Random(seed)
    noticed = 0
    for number in range(rounds):
        path = files[number % len(files)]
        original = path.read_bytes()
        what, data = damage(original, random, gzipped=path.suffix in (".gz", ".jgz"))
        path.write_bytes(data)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                read()
        except Page4DError as error:
            noticed += 1
            text = str(error)
            is_sentence = 0 < len(text) < 2000 and text.isprintable()
            assert is_sentence, f"round {number}, {path.name} with {what}: {len(text)} characters, {text!r:.500}"
        except Exception as error:
            raise AssertionError(f"round {number}, {path.name} with {what}: {error!r:.500}") from error
        finally:
            path.write_bytes(original)
    assert noticed, f"none of {rounds} damages to {[path.name for path in files]} was noticed"


def damage(data: bytes, random: Random, gzipped: bool = False) -> tuple[str, bytes]:
    """One damage to a file's content: what it is, in words, and the content with it."""
    if gzipped and random.random() < 0.7:
        what, inner = damage(gzip.decompress(data), random)
        return f"{what}, within gzip", gzip.compress(inner, 1)
    if random.random() < 0.7:
        tree = _as_json(data)
        if tree is not None:
            return _damage_json(tree, random)
        if b"\0" not in data and _NUMBER.search(data):
            return _damage_text(data, random)
    return _damage_bytes(data, random)


def _as_json(data: bytes) -> Any:
    try:
        tree = json.loads(data)
    except ValueError:
        return None
    return tree if isinstance(tree, (dict, list)) and tree else None


def _damage_json(tree: Any, random: Random) -> tuple[str, bytes]:
    value = random.choice(ODD_VALUES)
    if random.random() < 0.1:
        return f"{value!r:.40} in place of all", _dump(value)
    parent, key, path = tree, None, ""
    while key is None or (isinstance(parent[key], (dict, list)) and parent[key] and random.random() < 0.75):
        parent = tree if key is None else parent[key]
        key = random.choice(list(parent) if isinstance(parent, dict) else range(len(parent)))
        path += f"[{key!r}]"
    if random.random() < 0.2:
        del parent[key]
        return f"{path} taken away", _dump(tree)
    parent[key] = value
    return f"{value!r:.40} at {path}", _dump(tree)


def _dump(tree: Any) -> bytes:
    text = json.dumps(tree)
    for name, raw in _RAW.items():
        text = text.replace(f'"{name}"', raw)
    return text.encode()


def _damage_text(data: bytes, random: Random) -> tuple[str, bytes]:
    found = random.choice(list(_NUMBER.finditer(data)))
    number = random.choice(ODD_NUMBERS)
    return f"{number!r:.40} for {found[0]!r:.20}", data[: found.start()] + number.encode() + data[found.end() :]


def _damage_bytes(data: bytes, random: Random) -> tuple[str, bytes]:
    start = random.randrange(len(data) + 1)
    end = min(len(data), start + random.choice((1, 4, 16, 64, len(data))))
    changed = bytearray(data)
    kind = random.choice(("bits flipped", "an end cut off", "a part left out", "a part twice", "zeros", "noise", "all"))
    if kind == "bits flipped":
        for _ in range(random.choice((1, 3, 20)) if data else 0):
            # Heads are short and decide the most.
            place = random.randrange(min(len(data), random.choice((32, 256, len(data)))))
            changed[place] ^= 1 << random.randrange(8)
    elif kind == "an end cut off":
        del changed[start:]
    elif kind == "a part left out":
        del changed[start:end]
    elif kind == "a part twice":
        changed[start:start] = data[start:end]
    elif kind == "zeros":
        changed[start:end] = bytes(end - start)
    elif kind == "noise":
        changed[start:end] = random.randbytes(end - start)
    else:
        changed[:] = random.choice((b"", b"\0", b"[" * 100_000, b"\xff" * 100, b"PK\x03\x04", b"\x89PNG\r\n\x1a\n"))
    return f"{kind} at {start}", bytes(changed)
