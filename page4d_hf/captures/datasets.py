"""Data sets of many sequences, each read from the layout in which it is published.

    for name in find_sequences("sintel", root):
        capture = read_sequence("sintel", root, name)

What a data set holds beside images, which axes and units it has and what has to be corrected is said in its module.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ..errors import CaptureError
from .base import Capture
from .files import readable
from .layouts.bonn import bonn_sequences, read_bonn
from .layouts.co3d import SPLITS as CO3D_SPLITS
from .layouts.co3d import co3d_sequences, read_co3d
from .layouts.dycheck import SPLITS as DYCHECK_SPLITS
from .layouts.dycheck import dycheck_sequences, read_dycheck
from .layouts.dynamic_replica import SPLITS as DYNAMIC_REPLICA_SPLITS
from .layouts.dynamic_replica import dynamic_replica_scene, dynamic_replica_sequences, read_dynamic_replica
from .layouts.kubric import kubric_sequences, read_kubric
from .layouts.nerfies_videos import SPLITS as NERFIES_SPLITS
from .layouts.nerfies_videos import nerfies_videos, read_nerfies_video
from .layouts.point_odyssey import SPLITS as POINT_ODYSSEY_SPLITS
from .layouts.point_odyssey import point_odyssey_sequences, read_point_odyssey
from .layouts.sintel import PASSES as SINTEL_PASSES
from .layouts.sintel import read_sintel, sintel_sequences
from .layouts.spring import read_spring, spring_sequences
from .layouts.tum import read_tum, tum_sequences
from .schemas import check_relative_path


class DatasetLayout(NamedTuple):
    """One data set as it is published."""

    sequences: Callable[[Path, str | None], list[str]]  # (root, split) to sorted names; None: all there is to train on
    read: Callable[[Path, str], Capture]  # (root, name of a sequence)
    splits: tuple[str, ...]  # what `sequences` takes as split; empty where the data set has none
    looks: str  # what lies in the root, in one line
    published: str  # where it is published and under which licence
    # (name of a sequence) to that of the scene that it shows: eyes of a stereo pair and cameras of a rig share one.
    scene: Callable[[str], str] = str


def _folder_of(sequence: str) -> str:
    """The scene of a sequence that is named by its scene and a camera."""
    return sequence.rpartition("/")[0]


DATASETS: dict[str, DatasetLayout] = {
    "point-odyssey": DatasetLayout(
        point_odyssey_sequences,
        read_point_odyssey,
        POINT_ODYSSEY_SPLITS,
        "{train,val,test}/<sequence>/ with rgbs/, depths/, masks/ and anno.npz",
        "PointOdyssey 1.2 is published at https://pointodyssey.com under CC BY-NC-SA 4.0.",
    ),
    "dynamic-replica": DatasetLayout(
        dynamic_replica_sequences,
        read_dynamic_replica,
        (*DYNAMIC_REPLICA_SPLITS, "val"),
        "{train,valid,test}/ with frame_annotations_<split>.jgz and <sequence>_source_{left,right}/",
        "Dynamic Replica is published at https://dynamic-stereo.github.io under CC BY-NC 4.0.",
        scene=dynamic_replica_scene,
    ),
    "kubric": DatasetLayout(
        kubric_sequences,
        read_kubric,
        (),
        "<scene>/ with rgba_%05d.png, depth_%05d.tiff, segmentation_%05d.png and metadata.json",
        "Kubric renders such scenes: https://github.com/google-research/kubric, under Apache-2.0.",
    ),
    "spring": DatasetLayout(
        spring_sequences,
        read_spring,
        ("train",),
        "train/<scene>/ with frame_left/, disp1_left/, maps/ and cam_data/, or the same of the right eye",
        "Spring is published at https://spring-benchmark.org under CC BY 4.0.",
        scene=_folder_of,
    ),
    "co3d": DatasetLayout(
        co3d_sequences,
        read_co3d,
        CO3D_SPLITS,
        "<category>/ with frame_annotations.jgz, sequence_annotations.jgz and <sequence>/{images,depths,depth_masks}/",
        "CO3D version 2 is published at https://github.com/facebookresearch/co3d under CC BY-NC 4.0.",
    ),
    "sintel": DatasetLayout(
        sintel_sequences,
        read_sintel,
        SINTEL_PASSES,
        "training/ with {final,clean,depth,camdata_left,flow,invalid}/<sequence>/, or such in MPI-Sintel-*/training/",
        "MPI Sintel is published at http://sintel.is.tue.mpg.de; the film Sintel is under CC BY 3.0.",
    ),
    "tum": DatasetLayout(
        tum_sequences,
        read_tum,
        (),
        "rgbd_dataset_freiburg3_<sequence>/ with rgb/, depth/, rgb.txt, depth.txt and groundtruth.txt",
        "The TUM RGB-D benchmark is published at https://cvg.cit.tum.de/data/datasets/rgbd-dataset under CC BY 4.0.",
    ),
    "bonn": DatasetLayout(
        bonn_sequences,
        read_bonn,
        (),
        "rgbd_bonn_<sequence>/ with rgb/, depth/, rgb.txt, depth.txt and groundtruth.txt",
        "The Bonn RGB-D dynamic data set is published at https://www.ipb.uni-bonn.de/data/rgbd-dynamic-dataset, which "
        "names no licence.",
    ),
    "dycheck": DatasetLayout(
        dycheck_sequences,
        read_dycheck,
        DYCHECK_SPLITS,
        "<sequence>/ with camera/, rgb/, depth/, splits/, dataset.json, metadata.json and scene.json",
        "DyCheck's iPhone captures are published at https://github.com/KAIR-BAIR/dycheck.",
        scene=_folder_of,
    ),
    "nerfies": DatasetLayout(
        nerfies_videos,
        read_nerfies_video,
        NERFIES_SPLITS,
        "<capture>/ with dataset.json, metadata.json, scene.json, camera/ and rgb/<n>x/",
        "Nerfies is published at https://github.com/google/nerfies, HyperNeRF at https://github.com/google/hypernerf, "
        "both under Apache-2.0; `page4d synth` makes such captures, with exact depth and motion masks.",
        scene=_folder_of,
    ),
}


def find_sequences(name: str, root: str | Path, split: str | None = None) -> list[str]:
    """The sequences of a data set that lie in a folder.

    Args:
        name: a key of `DATASETS`.
        root: the data set's folder.
        split: one of the data set's `splits`; None takes all that there is to train on.

    Returns:
        Names for `read_sequence`, sorted; at least one.

    Raises:
        CaptureError: the data set or the split is not known, the folder is missing, or it holds no sequence.
    """
    layout = _layout(name)
    root = _folder(name, layout, root)
    if split is not None and split not in layout.splits:
        known = f"it has {', '.join(layout.splits)}" if layout.splits else "it has none"
        raise CaptureError(f"The data set {name} has no split {split!r}; {known}.")
    with readable(root):
        sequences = layout.sequences(root, split)
    if not sequences:
        where = f"{root} holds no sequence of {name}" + (f" of the split {split}" if split else "")
        raise CaptureError(f"{where}; it must hold {layout.looks}. {layout.published}")
    return sequences


def read_sequence(name: str, root: str | Path, sequence: str) -> Capture:
    """Read one sequence of a data set.

    Args:
        name: a key of `DATASETS`.
        root: the data set's folder.
        sequence: a name that `find_sequences` gave.

    Returns:
        The capture; `skipped` names the frames that were left out.

    Raises:
        CaptureError: the data set is not known, the folder is missing, or the sequence is not as its layout promises.
    """
    layout = _layout(name)
    root = _folder(name, layout, root)
    try:
        check_relative_path(sequence)
    except ValueError as error:
        raise CaptureError(f"{reprlib.repr(sequence)} is no sequence of {name}: it {error}.") from error
    with readable(root):
        return layout.read(root, sequence)


def _layout(name: str) -> DatasetLayout:
    if name not in DATASETS:
        raise CaptureError(f"The data set {name!r} is not known; known are {', '.join(DATASETS)}.")
    return DATASETS[name]


def _folder(name: str, layout: DatasetLayout, root: str | Path) -> Path:
    root = Path(root)
    with readable(root):
        if not root.is_dir():
            what = "is a file" if root.exists() else "does not exist"
            raise CaptureError(
                f"The folder {root} of the data set {name} {what}; it must hold {layout.looks}. {layout.published}"
            )
    return root
