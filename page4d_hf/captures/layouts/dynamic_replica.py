"""Dynamic Replica (Karaev et al., DynamicStereo, CVPR 2023): synthetic stereo videos of people and animals in rooms.

    <split>/frame_annotations_<split>.jgz           cameras and paths of all frames; split: train, valid or test
    <split>/<sequence>_source_{left,right}/         D, one eye of a sequence
        images/D-%04d.png
        depths/D_%04d.geometric.png                 metres, float16 as the bits of a 16-bit PNG
        masks/D_%04d.png                            0 or 255, what can move: people and animals

Also read: the folder `valid` under the name `val`, and everything in one folder without splits. Each eye is a sequence
of its own. Cameras: see `pytorch3d`. The frame rate, 30 Hz, is not documented by the authors and is used only where
the annotations have no increasing timestamps. Flow, trajectories and instances are not read.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from ...errors import CaptureError
from ...utils.json_files import json_group_values
from ..base import Capture, DatasetLayout, Layout
from ..depth_files import read_float16_png
from ..schemas import is_folder_in
from ..sequences import FrameList, list_sequences
from .pytorch3d import FrameAnnotation, read_frame_annotations

SPLITS = ("train", "valid", "test")
EYES = ("left", "right")
FRAMES_PER_SECOND = 30.0
_ALIASES = {"valid": "val", "val": "valid"}


def dynamic_replica_sequences(root: Path, split: str | None = None) -> list[str]:
    """Names of the sequences, one for each eye, such as "train/009850-3_obj_source_left".

    Args:
        root: the data set's folder.
        split: "train", "valid" (or "val") or "test"; None takes what there is to train on, which in a folder without
            splits is all.
    """
    if split is not None and _annotation_files(root):
        path = next((path for path in _annotation_files(root) if path.stem.endswith(f"_{_official(split)}")), None)
        if path is None:
            raise CaptureError(f"{root} has no frame_annotations_{_official(split)}.jgz; name another split.")
        pairs = json_group_values(path, "sequence_name", "camera_name")
        return sorted(name for pair in pairs if is_folder_in(root, name := "_source_".join(pair)))
    if split is not None and not (root / split).is_dir() and (root / _ALIASES.get(split, split)).is_dir():
        split = _ALIASES[split]
    return list_sequences(root, split, SPLITS, lambda path: _split_name(path.name) is not None)


def dynamic_replica_scene(sequence: str) -> str:
    """The scene that a sequence shows to one eye, such as "train/009850-3_obj"."""
    names = _split_name(sequence)
    return names[0] if names else sequence


def read_dynamic_replica(root: Path, sequence: str) -> Capture:
    """Read one eye of a sequence, in metres; masks tell people and animals from the room."""
    folder = root / sequence
    names = _split_name(folder.name)
    if names is None:
        raise CaptureError(f"{sequence!r} is no sequence of Dynamic Replica: expected <name>_source_left or _right.")
    annotation_files = _annotation_files(folder.parent)
    if not annotation_files:
        raise CaptureError(f"{folder.parent / 'frame_annotations_<split>.jgz'} is missing; fetch it again.")
    for annotation_file in annotation_files:
        entries = read_frame_annotations(annotation_file, sequence_name=names[0], camera_name=names[1])
        if entries:
            break
    else:
        raise CaptureError(f"{annotation_files[0]} has no frame of {names[0]}, camera {names[1]}; fetch it again.")

    frames = FrameList("dynamic-replica", root, sequence)
    has_depth, has_masks = frames.has(folder / "depths"), frames.has(folder / "masks")
    for entry, time in zip(entries, _times(entries), strict=True):
        image_path = folder.parent / entry.name
        with frames.skipping(image_path, f"in {annotation_file} "):
            camera = entry.camera()
            depth_path, mask_path = (
                folder.parent / part.path if fetched and part is not None and part.path is not None else None
                for part, fetched in ((entry.depth, has_depth), (entry.mask, has_masks))
            )
            frames.add(
                image_path,
                *camera,
                entry.frame_number,
                timestamp=time,
                depth_path=depth_path,
                motion_mask_path=mask_path,
            )
    return frames.capture(scale="metres", fps=FRAMES_PER_SECOND, read_depth_file=read_float16_png)


def _official(split: str) -> str:
    return "valid" if split == "val" else split


def _annotation_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("frame_annotations_*.jgz"))


def _split_name(name: str) -> tuple[str, str] | None:
    """Name and eye of a sequence's folder."""
    for eye in EYES:
        if name.endswith(f"_source_{eye}"):
            return name.removesuffix(f"_source_{eye}"), eye
    return None


def _times(entries: list[FrameAnnotation]) -> list[float]:
    """Seconds: the annotations' where they increase, else by the frame rate."""
    known = [entry.frame_timestamp for entry in entries if isinstance(entry.frame_timestamp, float)]
    if len(known) == len(entries) and all(before < after for before, after in pairwise(known)):
        return known
    return [entry.frame_number / FRAMES_PER_SECOND for entry in entries]


LAYOUT = Layout(
    "dynamic-replica",
    dataset=DatasetLayout(
        dynamic_replica_sequences,
        read_dynamic_replica,
        "{train,valid,test}/ with frame_annotations_<split>.jgz and <sequence>_source_{left,right}/",
        "Dynamic Replica is published at https://dynamic-stereo.github.io under CC BY-NC 4.0.",
        (*SPLITS, "val"),
        dynamic_replica_scene,
    ),
)
