"""Points of depth maps, and the choice of those that a cloud takes."""

from __future__ import annotations

import logging

import numpy as np
import torch

from ..geometry import unproject_depth
from ..utils.evenly import one_of_each_stretch

logger = logging.getLogger(__name__)


def lift_over_images(
    depth: list[np.ndarray], extrinsics: np.ndarray, intrinsics: np.ndarray, image_size: tuple[int, int]
) -> list[np.ndarray]:
    """Points `[h, w, 3]` float32 of depth maps that cover images of a size (height, width)."""
    points = []
    for frame, pose in zip(depth, extrinsics, strict=True):
        to_map = np.diag([frame.shape[1] / image_size[1], frame.shape[0] / image_size[0], 1.0])
        camera = torch.from_numpy(pose), torch.from_numpy(to_map @ intrinsics)
        points.append(unproject_depth(torch.from_numpy(frame).double(), *camera, pixel_center=0.5).float().numpy())
    return points


def choose_points(
    points: list[np.ndarray], confidence: list[np.ndarray], percentile: float, limit: int
) -> list[np.ndarray]:
    """For each frame the flat indices of the pixels that give a point, in rising order."""
    valid = [
        np.isfinite(xyz).all(axis=-1) & np.isfinite(score) & (score > 0)
        for xyz, score in zip(points, confidence, strict=True)
    ]
    scores = np.concatenate([score[mask] for score, mask in zip(confidence, valid, strict=True)])
    if not len(scores):
        logger.warning("The network gave no finite point at all; the point cloud is empty.")
        return [np.zeros(0, np.int64)] * len(points)
    threshold = np.percentile(scores, percentile)
    kept = [np.flatnonzero(mask & (score >= threshold)) for mask, score in zip(valid, confidence, strict=True)]
    quotas = even_quotas([len(index) for index in kept], limit)
    rng = np.random.default_rng(0)  # the same frames give the same points
    return [index[one_of_each_stretch(len(index), quota, rng)] for index, quota in zip(kept, quotas, strict=True)]


def even_quotas(counts: list[int], limit: int) -> list[int]:
    """Shares of `limit`, as equal as what each has to give allows."""
    quotas = [0] * len(counts)
    left = min(limit, sum(counts))
    # Whoever has least is served first: what it cannot fill is shared by those after it.
    for place, i in enumerate(sorted(range(len(counts)), key=lambda i: counts[i])):
        quotas[i] = min(counts[i], left // (len(counts) - place))
        left -= quotas[i]
    return quotas
