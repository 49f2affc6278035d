"""Depth of what moves, settled by tracks: things go slowly and evenly.

Depth networks see moving things at distances that are off by a tenth or two, and differently from frame to frame, while
an image shows to a fraction of a pixel in which direction a point lies. Where the camera moves, a wrong distance makes
a thing sway against it. So each observation of a track may move along its ray, together with its neighbours, and the
depth maps follow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from scipy.spatial import cKDTree

from ..scene.folder import MOVES
from ..scene.tracks import PointTracks
from ..utils.evenly import evenly
from .paths import FEWEST_FRAMES, MOST_PATHS, FrameCameras, lift_tracks

DEPTH_NOISE = 0.1  # of the logarithm of depth along a track of what moves, where no static tracks tell it
LEAST_NOISE = 0.01
NOISE_OF_MOTION = 4.0  # times that of static tracks: depth of what moves is off by twice as much, for frames on end
# What is usual, of the distance from the camera or of its logarithm:
VELOCITY = 0.005  # from frame to frame
ACCELERATION = 0.004  # from frame to frame twice
OFF_AS_A_WHOLE = 0.2  # by which all depth of a track may be off
OFF_BY_ITSELF = 0.03  # from its neighbours, in one frame
NEIGHBOURS = 3
MOST_STEPS = 150  # of the search
AS_NEAR = 0.1  # of depth: pixels follow the tracks that are as near, in the world


def noise_of_depth(tracks: PointTracks, depth: Sequence[npt.NDArray[Any] | None], cameras: FrameCameras) -> float:
    """How much the logarithm of depth varies along tracks of what moves, by static ones, whose `points` are known."""
    static = np.isfinite(tracks.points).all(axis=1)
    known = PointTracks(tracks.xy[static], tracks.visible[static], tracks.points[static])
    lifted = lift_tracks(known, depth, cameras)
    ratio = np.full(lifted.shape[:2], np.nan)
    for frame, pose in enumerate(cameras.extrinsics):
        there, expected = (points @ pose[2, :3] + pose[2, 3] for points in (lifted[:, frame], known.points))
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio[:, frame] = np.log(there / expected)
    ratio = ratio[np.isfinite(ratio).sum(axis=1) >= FEWEST_FRAMES]
    if not len(ratio):
        return DEPTH_NOISE
    within = 1.4826 * np.nanmedian(np.abs(ratio - np.nanmedian(ratio, axis=1, keepdims=True)))  # as of a normal one
    return max(NOISE_OF_MOTION * float(within), LEAST_NOISE)


@torch.inference_mode(False)  # where reconstruct runs in it
@torch.enable_grad()
def settle_paths(
    paths: npt.NDArray[Any], centers: npt.NDArray[Any], noise: float = DEPTH_NOISE
) -> npt.NDArray[np.float32]:
    """Paths whose depth is settled: they go slowly and evenly.

    Each observation may move along its ray by a factor of its distance, for the least sum of robust costs, each in
    units of what is usual: velocity and acceleration over the distance; the logarithm of the factor, as the mean of a
    track and as what differs from that; and how neighbours in a frame differ in it. Over the distance, because motion
    would else be least at the camera. Where the camera stands still, nothing but noise is settled.

    Args:
        paths: `(K, S, 3)` in the world, NaN where unknown.
        centers: `(S, 3)` of the cameras.
        noise: of the logarithm of depth along a track, see `noise_of_depth`.

    Returns:
        `(K, S, 3)` float32. Of more than `MOST_PATHS` that are known in three frames, some, and the others as NaN.
    """
    settled = np.full(paths.shape, np.nan, np.float32)
    usable = np.flatnonzero(np.isfinite(paths).all(axis=2).sum(axis=1) >= FEWEST_FRAMES)
    usable = usable[evenly(len(usable), MOST_PATHS)]
    if not len(usable):
        return settled
    rays = paths[usable].astype(np.float64) - centers
    known = np.isfinite(rays).all(axis=2)
    row = np.cumsum(known).reshape(known.shape) - 1  # of each observation

    def rows(frames_apart: int) -> list[torch.Tensor]:
        """The observations of each run of so many frames and one more, by their place in the run."""
        count = known.shape[1] - frames_apart
        runs = np.logical_and.reduce([known[:, k : k + count] for k in range(frames_apart + 1)])
        return [torch.from_numpy(row[:, k : k + count][runs]) for k in range(frames_apart + 1)]

    (start, end), (before, here, after) = rows(1), rows(2)
    pairs = torch.from_numpy(
        np.concatenate([_neighbours(rays[:, frame], row[:, frame]) for frame in range(len(centers))])
    )
    track = torch.from_numpy(np.nonzero(known)[0])
    length = torch.bincount(track)
    center = torch.from_numpy(np.broadcast_to(centers, rays.shape)[known]).double()
    ray = torch.from_numpy(rays[known])
    distance = ray.norm(dim=1).clamp_min(1e-9)
    factor = torch.zeros_like(distance).requires_grad_()  # its logarithm
    search = torch.optim.LBFGS([factor], max_iter=MOST_STEPS, history_size=20, line_search_fn="strong_wolfe")

    def cost(values: torch.Tensor) -> torch.Tensor:
        return F.huber_loss(values, torch.zeros_like(values), reduction="sum")

    def length_of(vectors: torch.Tensor) -> torch.Tensor:
        return (vectors.square().sum(dim=1) + 1e-12).sqrt()  # of which there is a slope at 0

    def closure() -> torch.Tensor:
        search.zero_grad()
        points, far = center + ray * factor.exp()[:, None], distance * factor.exp()
        velocity = length_of(points[end] - points[start]) / far[start]
        acceleration = length_of(points[after] - 2 * points[here] + points[before]) / far[here]
        mean = torch.zeros(len(length), dtype=factor.dtype).index_add(0, track, factor) / length
        loss = cost(velocity / VELOCITY) + cost(acceleration / ACCELERATION)
        loss = loss + cost((factor - mean[track]) / noise) + cost(mean / OFF_AS_A_WHOLE)
        loss = loss + cost((factor[pairs[:, 0]] - factor[pairs[:, 1]]) / OFF_BY_ITSELF)
        loss.backward()
        return loss

    search.step(closure)
    found = np.full(rays.shape, np.nan, np.float32)
    found[known] = (center + ray * factor.detach().exp()[:, None]).numpy()
    settled[usable] = found
    return settled


def _neighbours(points: npt.NDArray[Any], row: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Pairs [P, 2] of the rows [K] of points [K, 3] that are near each other; not finite ones have none."""
    known = np.flatnonzero(np.isfinite(points).all(axis=1))
    if len(known) < 2:
        return np.zeros((0, 2), np.int64)
    _, near = cKDTree(points[known]).query(points[known], k=min(NEIGHBOURS + 1, len(known)))
    return np.stack((np.repeat(row[known], near.shape[1] - 1), row[known[near[:, 1:]]].ravel()), axis=1)


def settled_depth(
    depth: npt.NDArray[Any],
    motion: npt.NDArray[Any],
    lifted: npt.NDArray[Any],
    settled: npt.NDArray[Any],
    camera: FrameCameras,
) -> npt.NDArray[np.float32]:
    """Depth of a frame, of which what moves goes along with the tracks near it.

    Args:
        depth: z-depth over exactly the image, `(h, w)`; NaN where unknown.
        motion: the motion mask, `(h, w)`, 0 static to 1 moving.
        lifted: `(K, 3)` where tracks are in this frame by that depth; NaN where they are not seen.
        settled: `(K, 3)` the same by `settle_paths`.
        camera: of this frame.
    """
    extrinsics, intrinsics, image_size = camera
    settled_map = depth.astype(np.float32)
    known = np.isfinite(lifted).all(axis=1) & np.isfinite(settled).all(axis=1)
    row, column = np.nonzero((motion > MOVES) & (depth > 0) & np.isfinite(depth))
    if not known.any() or not len(row):
        return settled_map
    before, after = (each[known] @ extrinsics[2, :3] + extrinsics[2, 3] for each in (lifted, settled))
    z = depth[row, column].astype(np.float64)
    xy = np.stack((column + 0.5, row + 0.5), axis=1) * (image_size / np.array(depth.shape[::-1]))
    pixels = np.linalg.solve(intrinsics, np.concatenate((xy, np.ones((len(z), 1))), axis=1).T).T * z[:, None]
    tree = cKDTree(lifted[known] @ extrinsics[:, :3].T + extrinsics[:, 3])
    distance, near = tree.query(pixels, k=np.arange(1, 1 + min(NEIGHBOURS + 1, int(known.sum()))))
    weight = np.where(distance < AS_NEAR * z[:, None], 1 / (distance + 0.1 * AS_NEAR * z[:, None]), 0)
    change = (weight * np.log(after / before)[near]).sum(axis=1) / np.maximum(weight.sum(axis=1), 1e-9)
    settled_map[row, column] = z * np.exp(change)
    return settled_map
