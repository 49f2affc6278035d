"""Tracks that follow the scene's main motion, by RANSAC between pairs of frames; no motion mask is used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..tracks import REFERENCE_WIDTH, Tracks
from .bundle_adjustment import colmap_camera

if TYPE_CHECKING:
    import pycolmap

GAPS = (1, 4, 8)  # frames between the two of a pair
TOLERANCE = 0.5  # pixels from the epipolar line, for images of the reference width
FEWEST_MATCHES = 20  # of a pair that is asked
MOST_DISSENT = 1 / 3  # share of its pairs in which a track may be an outlier
FLAT_SHARE = 0.7  # of what a fundamental matrix explains, that a homography must, to say that there is no parallax


@dataclass(frozen=True)
class Consensus:
    """What RANSAC between pairs of frames found."""

    agrees: npt.NDArray[Any]  # [T] bool: tracks that move with the scene as far as two views can tell
    inlier_share: float  # mean over pairs
    homography_share: float  # of pairs that a homography explains: a camera that only turns, or a plane
    displacement: float  # how far tracks get from where they begin: median over the longer half of them, pixels


def two_views(
    image_size: tuple[int, int], focal: float, tolerance: float
) -> tuple[pycolmap.Camera, pycolmap.TwoViewGeometryOptions]:
    """A pinhole of a focal length in pixels, and options for the geometry of two of its images.

    `tolerance` is in pixels from the epipolar line, for images of the reference width.
    """
    import pycolmap

    options = pycolmap.TwoViewGeometryOptions()
    options.ransac.max_error = tolerance * image_size[1] / REFERENCE_WIDTH
    options.ransac.random_seed = 0
    options.detect_watermark = False
    return colmap_camera(focal, image_size), options


def agree_on_motion(tracks: Tracks, num_frames: int, image_size: tuple[int, int]) -> Consensus:
    """Ask pairs of frames, by RANSAC over fundamental matrices and homographies, which tracks follow the main motion.

    What moves along its epipolar line passes; bundle adjustment over many frames finds it out.
    """
    import pycolmap

    camera, options = two_views(image_size, focal=image_size[1], tolerance=TOLERANCE)
    # A line is easier to come near to than a point.
    loose = pycolmap.RANSACOptions(max_error=2 * options.ransac.max_error, random_seed=0)
    rows = tracks.rows_of_frames(num_frames)
    asked, dissent = np.zeros(len(tracks)), np.zeros(len(tracks))
    shares, flats = [], []
    gaps = sorted({min(gap, num_frames - 1) for gap in GAPS})
    for gap in gaps:
        for first in range(0, num_frames - gap, max(1, gap // 2)):
            one, other = rows[first], rows[first + gap]
            common, i, j = np.intersect1d(tracks.track[one], tracks.track[other], return_indices=True)
            if len(common) < FEWEST_MATCHES:
                continue
            start, end = (tracks.xy[part][index].astype(np.float64) for part, index in ((one, i), (other, j)))
            pairs = np.repeat(np.arange(len(common), dtype=np.uint32)[:, None], 2, axis=1)
            geometry = pycolmap.estimate_two_view_geometry(camera, start, camera, end, pairs, options)
            inlier = np.zeros(len(common), bool)
            inlier[np.asarray(geometry.inlier_matches, np.int64).reshape(-1, 2)[:, 0]] = True
            asked[common] += 1
            dissent[common] += ~inlier
            shares.append(inlier.mean())
            if gap == gaps[-1]:
                flat = pycolmap.estimate_homography_matrix(start, end, loose)
                flats.append(flat is not None and flat["num_inliers"] >= FLAT_SHARE * inlier.sum() > 0)
    return Consensus(
        agrees=dissent <= MOST_DISSENT * asked,
        inlier_share=float(np.mean(shares)) if shares else 0.0,
        homography_share=float(np.mean(flats)) if flats else 0.0,
        displacement=_displacement(tracks),
    )


def _displacement(tracks: Tracks) -> float:
    if not len(tracks):
        return 0.0
    xy, reach = tracks.xy.astype(np.float64), np.zeros(len(tracks))
    np.maximum.at(reach, tracks.track, np.linalg.norm(xy - xy[tracks.first_rows()], axis=1))
    lengths = tracks.lengths()
    return float(np.median(reach[lengths >= np.median(lengths)]))
