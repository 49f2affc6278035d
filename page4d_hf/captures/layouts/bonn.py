"""The RGB-D dynamic data set of Bonn (Palazzolo et al., ReFusion, IROS 2019): people, balloons and boxes, moving.

    rgbd_bonn_dataset/rgbd_bonn_<sequence>/     lists as TUM's (see `rgbd_lists`)
        rgb/<timestamp>.png                     640x480, distorted
        depth/<timestamp>.png                   16 bits, 5000 levels a metre, 0 = not known, registered to rgb

`groundtruth.txt` has the poses of the markers on the camera, in the axes of the motion capture; the camera's own pose
is T_ROS^-1 T T_ROS T_m. The published T_m is scaled by 1.059: the rotation nearest to it is taken, and its
translation as it is. Images are as taken: the lens is in `Capture.distortion`. There are no motion masks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..base import Capture, DatasetLayout, FolderLayout, Layout
from ..sequences import FrameList, list_sequences, sequence_folder
from .rgbd_lists import Lens, looks_like_rgbd_lists, named_by_folder, read_rgbd_lists

LENS = Lens(
    (542.822841, 542.576870, 315.593520, 237.756098), (0.039903, -0.099343, -0.000730, -0.000144, 0.0), (640, 480)
)
T_ROS = np.array([[-1.0, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
T_M = np.array(
    [
        [1.0157, 0.1828, -0.2389, 0.0113],
        [0.0009, -0.8431, -0.6413, -0.0098],
        [-0.3009, 0.6147, -0.8085, 0.0111],
        [0, 0, 0, 1],
    ]
)
# By which depth is evaluated: the images of these ranks, counted by `Capture.time_ids`, of these sequences.
DEPTH_SEQUENCES = (
    "rgbd_bonn_balloon2", "rgbd_bonn_crowd2", "rgbd_bonn_crowd3", "rgbd_bonn_person_tracking2", "rgbd_bonn_synchronous",
)  # fmt: skip
DEPTH_RANKS = range(30, 140)
_WHOLE = "rgbd_bonn_dataset"


def looks_like_bonn(folder: Path) -> bool:
    """Whether a folder holds one sequence; TUM's look the same but for their names."""
    return looks_like_rgbd_lists(folder) and "bonn" in folder.resolve().name


def bonn_sequences(root: Path, split: str | None = None) -> list[str]:
    """Names of the sequences in a folder, or in its `rgbd_bonn_dataset`. There are no splits."""
    return list_sequences(_base(root), split, (), looks_like_rgbd_lists)


def read_bonn(root: Path, sequence: str) -> Capture:
    """Read a sequence as `rgbd_lists.read_rgbd_lists`, by its name and the folder of the sequences or the one above.

    `time_ids` are the images' ranks, by which the published evaluation chooses (`DEPTH_RANKS`).
    """
    folder = sequence_folder(_base(root), sequence)
    return read_rgbd_lists(folder, LENS, FrameList("bonn", root, sequence), camera_of_markers)


def camera_of_markers(pose: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """The camera's camera-to-world pose `(4, 4)` where the markers have the stored pose `(4, 4)`."""
    u, _, vt = np.linalg.svd(T_M[:3, :3])
    markers_from_camera = T_M.copy()
    markers_from_camera[:3, :3] = u @ vt  # Orthogonal Procrustes; its determinant is +1
    return np.asarray(np.linalg.inv(T_ROS) @ pose @ T_ROS @ markers_from_camera)


def _base(root: Path) -> Path:
    return root / _WHOLE if (root / _WHOLE).is_dir() else root


LAYOUT = Layout(
    "bonn",
    FolderLayout(
        named_by_folder(read_bonn), looks_like_bonn, "Bonn RGB-D: as TUM, in a folder whose name begins with rgbd_bonn"
    ),
    DatasetLayout(
        bonn_sequences,
        read_bonn,
        "rgbd_bonn_<sequence>/ with rgb/, depth/, rgb.txt, depth.txt and groundtruth.txt",
        "The Bonn RGB-D dynamic data set is published at https://www.ipb.uni-bonn.de/data/rgbd-dynamic-dataset, which "
        "names no licence.",
    ),
)
