"""The RGB-D benchmark of TUM (Sturm et al., IROS 2012), people walking and sitting before a Kinect.

    rgbd_dataset_freiburg3_{sitting,walking}_{static,xyz,halfsphere,rpy}/
        rgb/<timestamp>.png                     640x480
        depth/<timestamp>.png                   16 bits, 5000 levels a metre, 0 = not known, registered to rgb
        rgb.txt, depth.txt, groundtruth.txt     see `rgbd_lists`

The sequences of freiburg1 and freiburg2 are read as well. Each of the three cameras has its own calibration (from the
benchmark's page on file formats), told from the folder's name; a file `intrinsics.txt` with fx fy cx cy, for images of
any size, overrules it. There are no motion masks.
"""

from __future__ import annotations

import re
from pathlib import Path

from ...errors import CaptureError
from ..base import Capture, DatasetLayout, FolderLayout, Layout
from ..sequences import FrameList, list_sequences, sequence_folder
from .rgbd_lists import Lens, looks_like_rgbd_lists, named_by_folder, read_lens, read_rgbd_lists

LENSES = {
    "freiburg1": Lens((517.3, 516.5, 318.6, 255.3), (0.2624, -0.9531, -0.0054, 0.0026, 1.1633), (640, 480)),
    "freiburg2": Lens((520.9, 521.0, 325.1, 249.7), (0.2312, -0.7849, -0.0033, -0.0001, 0.9172), (640, 480)),
    "freiburg3": Lens((535.4, 539.2, 320.1, 247.6), image_size=(640, 480)),
}
_CAMERA = re.compile("freiburg[123]")


def looks_like_tum(folder: Path) -> bool:
    """Whether a folder holds one sequence."""
    return looks_like_rgbd_lists(folder) and "bonn" not in folder.resolve().name


def tum_sequences(root: Path, split: str | None = None) -> list[str]:
    """Names of the sequences in a folder. There are no splits."""
    return list_sequences(root, split, (), looks_like_rgbd_lists)


def read_tum(root: Path, sequence: str) -> Capture:
    """Read a sequence as `rgbd_lists.read_rgbd_lists`, by the folder of the sequences and its name."""
    folder = sequence_folder(root, sequence)
    return read_rgbd_lists(folder, _find_lens(folder), FrameList("tum", root, sequence))


def _find_lens(folder: Path) -> Lens:
    path = folder / "intrinsics.txt"
    if path.is_file():
        return read_lens(path)
    camera = _CAMERA.search(folder.resolve().name)
    if camera is None:
        raise CaptureError(
            f"The name of {folder} does not tell its camera (freiburg1, freiburg2 or freiburg3); keep the published "
            f"name, or write fx fy cx cy into {path}."
        )
    return LENSES[camera[0]]


LAYOUT = Layout(
    "tum",
    FolderLayout(
        named_by_folder(read_tum), looks_like_tum, "TUM RGB-D: rgb/, depth/, rgb.txt, depth.txt, groundtruth.txt"
    ),
    DatasetLayout(
        tum_sequences,
        read_tum,
        "rgbd_dataset_freiburg3_<sequence>/ with rgb/, depth/, rgb.txt, depth.txt and groundtruth.txt",
        "The TUM RGB-D benchmark is published at https://cvg.cit.tum.de/data/datasets/rgbd-dataset under CC BY 4.0.",
    ),
)
