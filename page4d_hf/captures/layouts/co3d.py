"""CO3D, version 2 (Reizenstein et al., ICCV 2021): photographs around objects that stand still.

    <category>/frame_annotations.jgz                cameras and paths of all frames
    <category>/sequence_annotations.jgz             quality of each sequence's cameras
    <category>/set_lists/set_lists_<subset>.json    train, val, test: [[sequence, frame number, path]]
    <category>/<sequence>/
        images/frame%06d.jpg
        depths/frame%06d.jpg.geometric.png          float16 as the bits of a 16-bit PNG, times scale_adjustment
        depth_masks/frame%06d.png                   depth counts where this is above 128

or, with the same images and depth, the annotations of VGGT and PAGE-4D, in the root or in `<root>/annotations`:

    <category>_{train,test}.jgz                     {sequence: [{filepath, extri: 3x4, intri: 3x3}]}

Cameras and depth come from structure from motion: their unit is arbitrary. Frames are an unordered set. The cameras of
the second form are OpenCV's; where their first pixel's centre lies is not documented, and is taken to be (0.5, 0.5) as
in the first (see `pytorch3d`). Nothing moves, and `masks/`, which tell the object from its surroundings, are not read.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from annotated_types import Len
from pydantic import Field

from ...errors import CaptureError
from ...utils.json_files import Fault, OrFault, Record, json_group_values, parse_json, read_json, read_json_members
from ..base import Capture, DatasetLayout, Layout
from ..depth_files import read_float16_png
from ..image_files import read_image
from ..schemas import Matrix3, RelativePath, Vector4, is_folder_in
from ..sequences import FrameList, read_first_image_size
from .pytorch3d import read_frame_annotations

SPLITS = ("train", "val", "test")
GOOD_VIEWPOINTS = 0.5  # DUSt3R trains on sequences whose viewpoint_quality_score is above this
DEPTH_MASK_THRESHOLD = 128
_DepthFiles = dict[str, tuple[Path | None, float]]  # by the path of a depth file its mask and its scale
_Row = Annotated[list[str | int], Len(1)]  # sequence, frame number, path


class _Rating(Record):
    """An entry of sequence_annotations.jgz"""

    sequence_name: str
    viewpoint_quality_score: Annotated[float, Field(allow_inf_nan=True)] | None = None


class _SetLists(Record):
    """set_lists_<subset>.json"""

    train: list[_Row] = Field(default=[])
    val: list[_Row] = Field(default=[])
    test: list[_Row] = Field(default=[])


class _SecondFormFrame(Record):
    """A frame of <category>_{train,test}.jgz"""

    filepath: RelativePath
    extri: Annotated[list[Vector4], Len(3, 4), OrFault] = Fault("is missing")  # type: ignore[assignment]
    intri: Annotated[Matrix3, OrFault] = Fault("is missing")  # type: ignore[assignment]


def co3d_sequences(root: Path, split: str | None = None) -> list[str]:
    """Names of the sequences that are on disk, such as "apple/110_13051_23361", but for those whose cameras
    sequence_annotations.jgz does not rate above `GOOD_VIEWPOINTS`; the second form has no rating.

    Args:
        root: the folder of the categories.
        split: "test" and "val": the sequences that any set list has in that part; "train": those that are in such a
            part of no list but in the train part of one. (Some lists hold out frames of sequences that others train
            on: none of a held-out sequence's frames is trained on.) None: those of no such part, which without set
            lists are all. Of the second form, the sequences of the file of that name; None takes those of "train".
    """
    names: set[str] = set()
    categories = sorted(path.parent for path in root.glob("*/frame_annotations.jgz"))
    for category in categories:
        found = {name for (name,) in json_group_values(category / "frame_annotations.jgz", "sequence_name")}
        found = _in_split(found, category, split) & _well_rated(category / "sequence_annotations.jgz")
        names |= {f"{category.name}/{name}" for name in found if is_folder_in(category, name)}
    known = {category.name for category in categories}
    for path in _second_form_files(root):
        category_name, part = path.stem.rsplit("_", 1)
        if category_name not in known and part == (split or "train"):
            names |= {
                f"{category_name}/{name}"
                for name in read_json_members(path)
                if is_folder_in(root / category_name, name)
            }
    return sorted(names)


def read_co3d(root: Path, sequence: str) -> Capture:
    """Read a sequence, not ordered and in an arbitrary unit: any that is on disk, listed by `co3d_sequences` or not."""
    category, _, name = sequence.partition("/")
    if not name:
        raise CaptureError(f"{sequence!r} is no sequence of CO3D: expected <category>/<sequence>.")
    if (root / category / "frame_annotations.jgz").is_file():
        return _read_first_form(root, sequence, category, name)
    for path in _second_form_files(root):
        if path.stem.rsplit("_", 1)[0] == category and name in (members := read_json_members(path)):
            entries = parse_json(members[name], Annotated[list[_SecondFormFrame], Len(1)], f"{path}, at {name},")
            return _read_second_form(root, sequence, path, entries)
    raise CaptureError(
        f"{root / category / 'frame_annotations.jgz'} is missing, and no {category}_train.jgz or {category}_test.jgz "
        f"in {root} or {root / 'annotations'} has the sequence {name}; fetch the annotations."
    )


def _read_first_form(root: Path, sequence: str, category: str, name: str) -> Capture:
    path = root / category / "frame_annotations.jgz"
    entries = read_frame_annotations(path, sequence_name=name)
    if not entries:
        raise CaptureError(f"{path} has no frame of the sequence {name}; fetch it again.")
    frames = FrameList("co3d", root, sequence)
    has_depth = frames.has(root / sequence / "depths")
    files: _DepthFiles = {}
    for entry in entries:
        with frames.skipping(root / entry.name, f"in {path} "):
            camera = entry.camera()
            depth_path = None
            if has_depth and entry.depth is not None and entry.depth.path is not None:
                depth_path = root / entry.depth.path
                mask_path = None if entry.depth.mask_path is None else root / entry.depth.mask_path
                files[str(depth_path)] = (mask_path, entry.depth.scale_adjustment)
            frames.add(root / entry.name, *camera, entry.frame_number, depth_path=depth_path)
    return frames.capture(ordered=False, read_depth_file=partial(read_co3d_depth, files=files))


def _read_second_form(root: Path, sequence: str, path: Path, entries: list[_SecondFormFrame]) -> Capture:
    frames = FrameList("co3d", root, sequence)
    folder = root / sequence
    has_depth = frames.has(folder / "depths")
    files: _DepthFiles = {}
    images = [root / entry.filepath for entry in entries]
    size = read_first_image_size(images)
    for number, (image, entry) in enumerate(zip(images, entries, strict=True)):
        with frames.skipping(image, f"in {path} "):
            for name, part in (("extri", entry.extri), ("intri", entry.intri)):
                if isinstance(part, Fault):
                    raise ValueError(f"its {name} {part}")
            depth_path = folder / "depths" / f"{image.name}.geometric.png" if has_depth else None
            files[str(depth_path)] = (folder / "depth_masks" / f"{image.stem}.png", 1.0)
            frames.add(image, np.array(entry.extri), np.array(entry.intri), size, number, depth_path=depth_path)
    return frames.capture(ordered=False, read_depth_file=partial(read_co3d_depth, files=files))


def read_co3d_depth(path: Path, intrinsics: npt.NDArray[Any], files: _DepthFiles) -> npt.NDArray[np.float32]:
    """Z-depth in the unit of the cameras, `(H, W)`, 0 where the depth mask does not count it."""
    mask_path, scale = files.get(str(path), (None, 1.0))
    depth = read_float16_png(path, intrinsics).astype(np.float32) * np.float32(scale)
    if mask_path is None:
        return depth
    mask = read_image(mask_path, keep_grey=True)
    if mask.shape != depth.shape:
        raise CaptureError(
            f"The depth mask {mask_path} must be grey and have the shape {depth.shape} of its depth, got {mask.shape}."
        )
    return np.where(mask > DEPTH_MASK_THRESHOLD, depth, np.float32(0))


# --------------------------------------------------------------------------------------------------------------------
# Annotations of sequences


def _well_rated(path: Path) -> set[str]:
    # A sequence without a rating, as some have, is not known to be good.
    return {
        rating.sequence_name
        for rating in read_json(path, list[_Rating])
        if (rating.viewpoint_quality_score or 0.0) > GOOD_VIEWPOINTS
    }


def _in_split(names: set[str], category: Path, split: str | None) -> set[str]:
    """Those of a category's sequences that belong to a split."""
    paths = sorted((category / "set_lists").glob("set_lists_*.json"))
    if not paths and split is not None:
        raise CaptureError(f"{category / 'set_lists'} has no set_lists_<subset>.json to tell its splits; fetch them.")
    parts: dict[str, set[str]] = {part: set() for part in SPLITS}
    for path in paths:
        lists = read_json(path, _SetLists)
        for part in SPLITS:
            parts[part] |= {str(row[0]) for row in getattr(lists, part)}
    if split in ("val", "test"):
        return names & parts[split]
    free = names - parts["val"] - parts["test"]
    return free & parts["train"] if split == "train" else free


def _second_form_files(root: Path) -> list[Path]:
    return sorted(
        path
        for folder in (root, root / "annotations")
        for path in folder.glob("*_*.jgz")
        if path.stem.rsplit("_", 1)[1] in ("train", "test")
    )


LAYOUT = Layout(
    "co3d",
    dataset=DatasetLayout(
        co3d_sequences,
        read_co3d,
        "<category>/ with frame_annotations.jgz, sequence_annotations.jgz and <sequence>/{images,depths,depth_masks}/",
        "CO3D version 2 is published at https://github.com/facebookresearch/co3d under CC BY-NC 4.0.",
        SPLITS,
    ),
)
