"""Motion that is known from tracks: rigid motions of some nodes, blended over the space around them.

A node stands for the tracks near it, and moves as a rigid body fits them best. Between nodes motion is blended with
weights that fall off with the distance in canonical space (linear blend skinning). The deformation field then learns
what is left. Nodes after MoSca (Lei et al., CVPR 2025) and SC-GS (Huang et al., CVPR 2024), trajectories of SE(3) after
Shape of Motion (Wang et al., ICCV 2025).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from gsplat.utils import normalized_quat_to_rotmat
from scipy.spatial.transform import Rotation
from torch import Tensor, nn

from page4d_hf.reconstruction.paths import rotations_between

from ..console import note
from .schedule import CANONICAL_TIME

# Of a dataparser's metadata: paths [K, T, 3] of points that move, in the world, and their times [T] in [0, 1].
TRACKED_KEY, TRACKS_KEY, TRACK_TIMES_KEY = "tracked", "tracks_xyz", "tracks_times"

FEWEST_TRACKS = 10  # fewer say too little about how things move
MOST_NODES = 64
TRACKS_OF_NODE = 12  # that its motion is fitted to
REACH = 1.5  # distance to the node's nearest other, over the scale at which its weight falls off


def motion_scaffold(metadata: dict[str, Any]) -> MotionScaffold | None:
    """The scaffold of a data set's tracks; None where it has none, or does not say which points move.

    What stands still beside what moves would be carried along.
    """
    if TRACKS_KEY not in metadata:
        return None
    if metadata.get("points3D_motion") is None:
        note("tracks are left out: nothing tells which seed points move (motion masks do)")
        return None
    return MotionScaffold.of_paths(metadata[TRACKS_KEY].cpu().numpy(), metadata[TRACK_TIMES_KEY].cpu().numpy())


class MotionScaffold(nn.Module):
    """Rigid motions of B nodes over T times, from canonical space.

    A point x of canonical space is at `sum_b w_b(x) (R_b(t) (x - c_b) + p_b(t))` at time t, with weights
    `w_b(x) ~ exp(-|x - c_b|^2 / (2 s_b^2))` that sum to 1.
    """

    centres: Tensor  # [B, 3] of the nodes, in canonical space
    scales: Tensor  # [B] s_b
    times: Tensor  # [T] in [0, 1], rising
    quats: Tensor  # [B, T, 4] wxyz, each within half a turn of the one before
    positions: Tensor  # [B, T, 3] of the nodes

    def __init__(self, n_nodes: int, n_times: int) -> None:
        super().__init__()
        shapes = {
            "centres": (n_nodes, 3),
            "scales": (n_nodes,),
            "times": (n_times,),
            "quats": (n_nodes, n_times, 4),
            "positions": (n_nodes, n_times, 3),
        }
        for name, shape in shapes.items():
            self.register_buffer(name, torch.zeros(shape))

    @classmethod
    def of_paths(cls, paths: npt.NDArray[Any], times: npt.NDArray[Any]) -> MotionScaffold:
        """The nodes of some tracks.

        Args:
            paths: `(K, T, 3)` in the world, finite.
            times: `(T,)` in [0, 1], rising.
        """
        paths = np.asarray(paths, np.float64)
        canonical = _at(paths, times, CANONICAL_TIME)  # [K, 3]
        apart = _spread(paths, MOST_NODES)
        nearest = np.argsort(apart, axis=1)[:, :TRACKS_OF_NODE]  # [B, N]
        distance = np.take_along_axis(apart, nearest, 1)
        weight = np.exp(-0.5 * (distance / np.maximum(np.median(distance, axis=1, keepdims=True), 1e-9)) ** 2)
        weight /= weight.sum(axis=1, keepdims=True)
        rest = canonical[nearest]  # [B, N, 3]
        centres = np.einsum("bn,bni->bi", weight, rest)
        moved = paths[nearest]  # [B, N, T, 3]
        positions = np.einsum("bn,bnti->bti", weight, moved)
        turned = rotations_between(
            (weight[..., None] * (rest - centres[:, None]))[:, None],
            (moved - positions[:, None]).swapaxes(1, 2),
        )  # [B, T, 3, 3]
        quats = Rotation.from_matrix(turned.reshape(-1, 3, 3)).as_quat()[:, [3, 0, 1, 2]].reshape(*turned.shape[:2], 4)
        for t in range(1, quats.shape[1]):
            quats[:, t] *= np.where((quats[:, t] * quats[:, t - 1]).sum(axis=1) < 0, -1.0, 1.0)[:, None]
        between = np.linalg.norm(centres[:, None] - centres, axis=2) + np.diag(np.full(len(centres), np.inf))
        near = np.sort(between, axis=1)[:, 0] if len(centres) > 1 else np.ones(1)
        # Nodes that coincide, as of two tracks at one place, still have a reach.
        scales = np.maximum(near, 0.25 * np.median(near)) / REACH
        scaffold = cls(len(centres), len(times))
        values = {"centres": centres, "scales": scales, "times": times, "quats": quats, "positions": positions}
        for name, value in values.items():
            getattr(scaffold, name).copy_(torch.as_tensor(value, dtype=torch.float32))
        return scaffold

    def forward(self, points: Tensor, time: float) -> tuple[Tensor, Tensor]:
        """Where points [N, 3] of canonical space are at a time in [0, 1], [N, 3], and how they are turned, [N, 4] wxyz.

        The motions are constants: gradients reach the points alone.
        """
        quats, positions = self._at(time)
        rotations = normalized_quat_to_rotmat(quats)  # [B, 3, 3]
        shifts = positions - (rotations @ self.centres[..., None])[..., 0]  # [B, 3]
        weights = self._weights(points.detach(), self.centres)
        blended = weights @ torch.cat((rotations.flatten(1), shifts), dim=1)  # [N, 12]
        moved = (blended[:, :9].view(-1, 3, 3) @ points[..., None])[..., 0] + blended[:, 9:]
        strongest = quats[weights.argmax(dim=1)]  # a quaternion and its negative are one rotation
        same_side = torch.where(strongest @ quats.T < 0, -weights, weights)
        return moved, F.normalize(same_side @ quats, dim=-1)

    @torch.no_grad()
    def to_canonical(self, points: Tensor, time: float) -> Tensor:
        """Where points [N, 3] seen at a time in [0, 1] are in canonical space, by the nodes that are near them then."""
        quats, positions = self._at(time)
        back = normalized_quat_to_rotmat(quats).transpose(1, 2)
        shifts = self.centres - (back @ positions[..., None])[..., 0]
        blended = self._weights(points, positions) @ torch.cat((back.flatten(1), shifts), dim=1)
        return (blended[:, :9].view(-1, 3, 3) @ points[..., None])[..., 0] + blended[:, 9:]

    def _weights(self, points: Tensor, centres: Tensor) -> Tensor:
        """Weights of the nodes [N, B] at points [N, 3], not finite ones taken for 0, by `centres` [B, 3]."""
        squared = (points.nan_to_num()[:, None] - centres).square().sum(dim=-1)
        return torch.softmax(-0.5 * squared / self.scales.square(), dim=1)

    def _at(self, time: float) -> tuple[Tensor, Tensor]:
        """Rotations [B, 4] and positions [B, 3] of the nodes at a time, interpolated linearly."""
        last = len(self.times) - 1
        place = np.interp(time, self.times.cpu().numpy(), np.arange(last + 1))
        before = min(int(place), max(last - 1, 0))
        after, fraction = min(before + 1, last), float(place - before)
        quats, positions = (
            torch.lerp(values[:, before], values[:, after], fraction) for values in (self.quats, self.positions)
        )
        return F.normalize(quats, dim=-1), positions


def _at(paths: npt.NDArray[Any], times: npt.NDArray[Any], time: float) -> npt.NDArray[Any]:
    """Places [K, 3] of paths [K, T, 3] at a time."""
    place = np.interp(time, times, np.arange(len(times)))
    before = min(int(place), max(len(times) - 2, 0))
    after = min(before + 1, len(times) - 1)
    between: npt.NDArray[Any] = paths[:, before] + (place - before) * (paths[:, after] - paths[:, before])
    return between


def _spread(paths: npt.NDArray[Any], limit: int) -> npt.NDArray[Any]:
    """The distances [B, K] to all paths from at most `limit` of them, each the farthest from those before it.

    The distance of two paths is the largest over time: what touches now and then is not near.
    """
    rows = [_apart(paths, 0)]
    nearest = rows[0]
    while len(rows) < min(limit, len(paths)):
        rows.append(_apart(paths, int(nearest.argmax())))
        nearest = np.minimum(nearest, rows[-1])
    return np.stack(rows)


def _apart(paths: npt.NDArray[Any], one: int) -> npt.NDArray[Any]:
    farthest: npt.NDArray[Any] = np.linalg.norm(paths - paths[one], axis=2).max(axis=1)
    return farthest


def turned(quats: Tensor, by: Tensor) -> Tensor:
    """Rotations [N, 4] wxyz, turned by others [N, 4]: the product `by * quats`."""
    w, x, y, z = by.unbind(-1)
    a, b, c, d = quats.unbind(-1)
    return torch.stack(
        (
            w * a - x * b - y * c - z * d,
            w * b + x * a + y * d - z * c,
            w * c - x * d + y * a + z * b,
            w * d + x * c - y * b + z * a,
        ),
        dim=-1,
    )
