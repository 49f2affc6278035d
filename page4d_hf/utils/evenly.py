"""Take some of many things, evenly."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def evenly(count: int, limit: int | None) -> npt.NDArray[Any]:
    """At most `limit` of `count` indices in rising order, equally far apart, the first and the last among them.

    `None` takes all.
    """
    if limit is None or count <= limit:
        return np.arange(count)
    return np.linspace(0, count - 1, limit).round().astype(np.int64)


def one_of_each_stretch(count: int, limit: int, rng: np.random.Generator) -> npt.NDArray[Any]:
    """At most `limit` of `count` indices in rising order, one drawn from each of `limit` equal stretches.

    For the pixels of an image: a plain stride would take whole columns where it divides the width.
    """
    if count <= limit or limit == 0:
        return np.arange(min(count, limit))
    edges = np.arange(limit + 1) * count // limit
    return rng.integers(edges[:-1], edges[1:])
