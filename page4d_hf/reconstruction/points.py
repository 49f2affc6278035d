"""Selection of the pixels that become points of the cloud."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..utils.evenly import one_of_each_stretch

logger = logging.getLogger(__name__)

MOST_SCORES = 1 << 25


def choose_points(
    maps: Iterable[npt.NDArray[Any]], confidence: Sequence[npt.NDArray[Any]], percentile: float, limit: int
) -> list[npt.NDArray[Any]]:
    """For each frame the flat indices of the pixels that give a point, in rising order.

    Args:
        maps: of depth `(h, w)` or points `(h, w, 3)`; what is not finite there gives none.
        confidence: `(h, w)` each.
        percentile: of all pixels, from the least confident, that give no point.
        limit: of the number of points.
    """
    known = [
        np.isfinite(values).reshape(*score.shape, -1).all(axis=-1) & np.isfinite(score) & (score > 0)
        for values, score in zip(maps, confidence, strict=True)
    ]
    # The percentile of very many pixels is that of some of them.
    stride = 1 + sum(mask.size for mask in known) // MOST_SCORES
    each = zip(confidence, known, strict=True)
    scores = np.concatenate([score[mask][::stride].copy() for score, mask in each])  # a view would hold all of a frame
    if not len(scores):
        logger.warning("The network gave no finite point at all; the point cloud is empty.")
        return [np.zeros(0, np.int64)] * len(known)
    threshold = np.percentile(scores, percentile)
    kept = [mask & (score >= threshold) for mask, score in zip(known, confidence, strict=True)]
    quotas = even_quotas([int(mask.sum()) for mask in kept], limit)
    rng = np.random.default_rng(0)  # the same frames give the same points
    indices = map(np.flatnonzero, kept)  # of one frame at a time: they are larger than its maps
    return [index[one_of_each_stretch(len(index), quota, rng)] for index, quota in zip(indices, quotas, strict=True)]


def even_quotas(counts: list[int], limit: int) -> list[int]:
    """Shares of `limit`, as equal as what each has to give allows."""
    quotas = [0] * len(counts)
    left = min(limit, sum(counts))
    # Whoever has least is served first: what it cannot fill is shared by those after it.
    for place, i in enumerate(sorted(range(len(counts)), key=lambda i: counts[i])):
        quotas[i] = min(counts[i], left // (len(counts) - place))
        left -= quotas[i]
    return quotas
