"""JSON as it comes from elsewhere: valid and of another shape, or not valid."""

from __future__ import annotations

import json
import random
from typing import Any

ODD: tuple[Any, ...] = (
    None, True, 0, -1, 2.5, 1e308, 10**400, "", "2", "x" * 1000, "\0", [], {}, [None], {"": None}, [[[[]]]],
    float("nan"), float("inf"),
)  # fmt: skip


def broken_json(value: Any, rng: random.Random) -> bytes:
    """A JSON value as bytes, with a member changed, removed or added, or with bytes changed or cut off."""
    data = bytearray(json.dumps(_changed(value, rng) if rng.random() < 0.7 else value).encode())
    if rng.random() < 0.3:
        place = rng.randrange(len(data))
        data[place : place + rng.randrange(3)] = rng.randbytes(rng.randrange(4))
    if rng.random() < 0.1:
        del data[rng.randrange(len(data)) :]
    if rng.random() < 0.05:
        data[:0] = rng.choice((b"\xef\xbb\xbf", b"[" * 100_000))
    return bytes(data)


def _changed(value: Any, rng: random.Random) -> Any:
    if isinstance(value, dict) and value and rng.random() < 0.85:
        changed, key = dict(value), rng.choice(list(value))
        if rng.random() < 0.15:
            del changed[key]
        else:
            changed[key] = _changed(value[key], rng)
        return changed
    if isinstance(value, list) and value and rng.random() < 0.7:
        place = rng.randrange(len(value))
        return [*value[:place], _changed(value[place], rng), *value[place + 1 :]]
    return rng.choice(ODD)
