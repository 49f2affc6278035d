"""PAGE-4D's cameras laid over a capture's: the Sim(3) between the two, refused where none is determined."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from page4d_hf.errors import CaptureError
from page4d_hf.geometry import Similarity, align_sim3, camera_centers

from ..console import note

# Radians that a rotation by a Sim(3) may be uncertain by: at 10 degrees a view and its render share little.
MOST_UNKNOWN_TURN = np.radians(10)
# Share of the path's extent (RMSE) that may be left after a Sim(3). Two paths that have nothing to do with one another
# come to nearly 1, and a scale near 0 that has no meaning: a camera that stands still has such a path, of errors alone.
MOST_PATH_ERROR = 0.95
_WITHOUT_ALIGNMENT = (
    "What needs no alignment: --cameras page4d with --points page4d (and --held-out-cameras page4d), or the capture's "
    "cameras with --points capture or random."
)


def align_paths(source: npt.NDArray[Any], target: npt.NDArray[Any], *, turns: bool = False) -> tuple[Similarity, float]:
    """The Sim(3) that carries the centres of some cameras onto those of others, `(N, 3, 4)` world-to-camera each.

    Args:
        source, target: the cameras.
        turns: whether the rotation is needed, and not the scale alone. A short path turns by what its centres are off,
            and one on a line leaves the rotation around it open. Where the directions of the cameras tell the rotation
            better, it is the mean of those between single cameras, and scale and translation follow.

    Returns:
        The Sim(3); and what it leaves of the distance between the paths, RMSE as a share of the target's extent.

    Raises:
        CaptureError: the paths are degenerate, so that scale or rotation remain unknown: directions that differ by
            more than 10 degrees (RMS) tell no rotation either.
    """
    centres = [camera_centers(cameras) for cameras in (source, target)]
    try:
        similarity = align_sim3(*centres)
    except ValueError as error:
        raise CaptureError(
            f"PAGE-4D's cameras cannot be aligned with the capture's: {error} {_WITHOUT_ALIGNMENT}"
        ) from error
    extents = np.linalg.svd(centres[1] - centres[1].mean(axis=0), compute_uv=False)
    distance = _distance(similarity, *centres)
    error_share = distance / float(np.linalg.norm(extents))
    if error_share > MOST_PATH_ERROR:
        raise CaptureError(
            f"PAGE-4D's cameras cannot be aligned with the capture's: laid over it as well as can be, PAGE-4D's camera "
            f"path is off by {error_share:.0%} of its extent, which determines no scale. The camera hardly moves, or "
            f"the reconstruction has failed. {_WITHOUT_ALIGNMENT}"
        )
    if turns:
        similarity = _with_rotation(similarity, distance / extents[1], source, target)
        error_share = _distance(similarity, *centres) / float(np.linalg.norm(extents))
    note(f"after Sim(3), PAGE-4D's camera path is off the capture's by {error_share:.1%} of its extent (RMSE)")
    if error_share > 0.5:
        note("so far off, PAGE-4D's points help little; --points capture or random may start better")
    return similarity, error_share


def _distance(similarity: Similarity, source_centres: npt.NDArray[Any], target_centres: npt.NDArray[Any]) -> float:
    """What a Sim(3) leaves between two paths: the root of the sum of the squared distances."""
    return float(np.linalg.norm(similarity.apply_to_points(source_centres) - target_centres))


def _with_rotation(
    by_centres: Similarity, turn: float, source: npt.NDArray[Any], target: npt.NDArray[Any]
) -> Similarity:
    """The Sim(3) by centres, or by directions where these tell its rotation better.

    Args:
        by_centres: of least squared distance between the centres.
        turn: what `by_centres` leaves of the distance over the second largest extent. A centre that is off by e turns
            the path around its longest axis by e / (its distance from there); so the rotation is known to about this
            angle over the root of their number. That of directions is known to their RMS angle over the same.
        source, target: the cameras.
    """
    by_directions, spread = _align_directions(source, target)
    if spread < min(turn, MOST_UNKNOWN_TURN) and by_directions.scale > 0:
        note(f"turned by the directions of the cameras, which differ by {np.degrees(spread):.1f} degrees (RMS)")
        return by_directions
    turn /= np.sqrt(len(source))
    if turn > MOST_UNKNOWN_TURN:
        raise CaptureError(
            "PAGE-4D's cameras cannot be aligned with the capture's: the camera's path is too near to a line or a "
            f"point for what the two differ by, which leaves the rotation around it open by about "
            f"{min(np.degrees(turn), 180):.0f} degrees, and the directions in which they look differ by "
            f"{np.degrees(spread):.0f} degrees (RMS). {_WITHOUT_ALIGNMENT}"
        )
    return by_centres


def _align_directions(source: npt.NDArray[Any], target: npt.NDArray[Any]) -> tuple[Similarity, float]:
    """The Sim(3) whose rotation is the mean of those between single cameras; and their RMS angle from it, in radians.

    Scale and translation are those of least squared distance between the centres, given the rotation.
    """
    turns = Rotation.from_matrix(np.swapaxes(target[:, :, :3], 1, 2) @ source[:, :, :3])  # from world to world
    mean = turns.mean()
    spread = float(np.sqrt(np.square((mean.inv() * turns).magnitude()).mean()))
    turned, target_centres = camera_centers(source) @ mean.as_matrix().T, camera_centers(target)
    turned_mean, target_mean = turned.mean(axis=0), target_centres.mean(axis=0)
    offsets = turned - turned_mean
    scale = float((offsets * (target_centres - target_mean)).sum() / np.square(offsets).sum())
    return Similarity(scale, mean.as_matrix(), target_mean - scale * turned_mean), spread
