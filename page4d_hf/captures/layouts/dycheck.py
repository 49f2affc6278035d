"""The iPhone captures of DyCheck (Gao et al., NeurIPS 2022): one moving phone, and mostly two that stand still.

Laid out as Nerfies' (see `nerfies`), with ids `<camera>_%05d`, of which camera 0 moves and trains, and:

    splits/{train,val}.json         frame_names, time_ids, camera_ids
    depth/<n>x/<id>.npy             float32 (H, W, 1) z-depth in metres, 0 = not known; of the moving phone alone
    rgb/<n>x/<id>.png               RGBA; alpha is 0 where the lidar had no return
    covisible/<n>x/val/<id>.png     non-zero where the moving phone sees the pixel too: where to evaluate
    extra.json                      fps, and the size `factor` that is evaluated (2: half the full size)

The cameras are stored in metres. `read_dycheck` keeps them so; `read_dycheck_folder` scales the world as scene.json
says, as with any Nerfies capture. Some frames of the phones that stand still are missing. The sequences published as
single-camera ones have no validation frames.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from posixpath import dirname
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import CaptureError
from ...utils.json_files import Record, read_json
from ..base import Capture, DatasetLayout, FolderLayout, Layout
from ..depth_files import read_npy_depth
from ..image_files import check_same_size, open_image, read_opaque_image
from ..schemas import Positive, RelativePath, Whole
from ..sequences import sequence_folder, video_of_camera
from .nerfies import IMAGE_SUFFIXES, SPLITS, Dataset, find_beside, looks_like_nerfies, read_nerfies


class Split(Record):
    """splits/{train,val}.json, one entry a frame"""

    frame_names: list[RelativePath]
    time_ids: list[Whole]
    camera_ids: list[Whole]


class _Extra(Record):
    """extra.json"""

    fps: Positive | None = None


def looks_like_dycheck(folder: Path) -> bool:
    """Whether a folder holds one capture: a Nerfies one with DyCheck's additions."""
    return looks_like_nerfies(folder) and (folder / "splits").is_dir()


def dycheck_sequences(root: Path, split: str | None = None) -> list[str]:
    """Names of the videos, such as "apple/0": of the moving phones, or for the split "val" of those that stand."""
    names = []
    for folder in sorted(filter(looks_like_dycheck, root.iterdir())):
        path = folder / "splits" / f"{split or SPLITS[0]}.json"
        if path.is_file():
            try:
                devices = sorted(set(_read_split(path).camera_ids))
            except CaptureError:
                devices = [0]  # reading the video will tell what is wrong
            names += [f"{folder.name}/{device}" for device in devices]
    return names


def read_dycheck(root: Path, sequence: str) -> Capture:
    """Read the video of a phone, such as "apple/0", or a whole capture, "apple", in metres."""
    name, _, device = sequence.partition("/")
    capture = read_dycheck_folder(sequence_folder(root, name), skip_broken=True)
    capture = video_of_camera(in_metres(capture), device)
    if device:
        left_out = [sentence for sentence in capture.skipped if sentence.startswith(f"The frame '{device}_")]
        capture = replace(capture, skipped=left_out)
    return replace(capture, root=root, sequence=sequence)


def read_dycheck_folder(folder: Path, downscale: int | None = None, *, skip_broken: bool = False) -> Capture:
    """Read a capture by its folder alone, in the world that scene.json gives, as `read_nerfies` does.

    Its splits, instants and devices are those of `splits`.
    """
    capture = read_nerfies(folder, downscale, skip_broken=skip_broken)
    splits = _apply_splits(folder, capture)
    extra = folder / "extra.json"
    fps = read_json(extra, _Extra).fps if extra.is_file() else None
    return replace(
        capture,
        layout="dycheck",
        sequence=folder.resolve().name,
        splits=splits,
        fps=fps,
        timestamps=None if fps is None else capture.time_ids / fps,
        covisible_paths=find_beside(
            folder / "covisible", capture.frame_ids, capture.image_downscale, IMAGE_SUFFIXES, below="val"
        ),
        read_depth_file=read_lidar_depth,
        read_image_file=read_opaque_image,  # its alpha is the lidar's
    )


def in_metres(capture: Capture) -> Capture:
    """The capture with the scale of scene.json undone; the world's centre stays where it is."""
    scale = capture.depth_scale  # of the stored depth, which is in metres
    extrinsics = capture.extrinsics.copy()
    extrinsics[:, :, 3] /= scale
    return replace(
        capture,
        extrinsics=extrinsics,
        points=None if capture.points is None else (capture.points / scale).astype(np.float32),
        near=None if capture.near is None else capture.near / scale,
        far=None if capture.far is None else capture.far / scale,
        depth_scale=1.0,
        scale="metres",
    )


def read_lidar_depth(path: Path, intrinsics: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Depth from `depth/<n>x/<id>.npy`, `(H, W)`, 0 where the image beside it has no lidar return (alpha 0)."""
    depth = read_npy_depth(path, intrinsics)
    image_path = path.parents[2] / "rgb" / path.parent.name / f"{path.stem}.png"
    if not image_path.is_file():
        return depth
    with open_image(image_path) as image:
        if image.mode != "RGBA":
            return depth
        alpha = np.array(image.getchannel("A"))
    check_same_size(path, depth, image_path, alpha)
    return np.where(alpha > 0, depth, 0)


def _apply_splits(folder: Path, capture: Capture) -> dict[str, npt.NDArray[np.int64]]:
    """The splits of `splits/*.json`, whose instants and devices are written into the capture."""
    places = {frame_id: i for i, frame_id in enumerate(capture.frame_ids)}
    listed = set(read_json(folder / "dataset.json", Dataset).ids)
    splits = {}
    for name in SPLITS:
        path = folder / "splits" / f"{name}.json"
        if not path.is_file():
            if name == "train":
                raise CaptureError(f"{path} is missing; DyCheck's captures have splits/train.json.")
            continue
        split = _read_split(path)
        ids = split.frame_names
        if name == "train" and not ids:
            raise CaptureError(f"{path}: 'frame_names' is empty; there is nothing to train on.")
        unknown = next((frame_id for frame_id in ids if frame_id not in listed), None)
        if unknown is not None:
            raise CaptureError(f"{path} lists {unknown!r}, which dataset.json does not; make the two agree.")
        rows = [i for i, frame_id in enumerate(ids) if frame_id in places]  # the others were left out
        splits[name] = np.array([places[ids[i]] for i in rows], np.int64)
        capture.time_ids[splits[name]] = [split.time_ids[i] for i in rows]
        capture.camera_ids[splits[name]] = [split.camera_ids[i] for i in rows]
    return splits


def _read_split(path: Path) -> Split:
    split: Split = read_json(path, Split)
    lengths = [len(split.frame_names), len(split.time_ids), len(split.camera_ids)]
    if len(set(lengths)) != 1:
        raise CaptureError(
            f"{path}: frame_names, time_ids and camera_ids must be as long as each other, got "
            f"{', '.join(map(str, lengths))}; fetch it again."
        )
    return split


LAYOUT = Layout(
    "dycheck",
    FolderLayout(read_dycheck_folder, looks_like_dycheck, "DyCheck: as Nerfies, with splits/{train,val}.json"),
    DatasetLayout(
        dycheck_sequences,
        read_dycheck,
        "<sequence>/ with camera/, rgb/, depth/, splits/, dataset.json, metadata.json and scene.json",
        "DyCheck's iPhone captures are published at https://github.com/KAIR-BAIR/dycheck.",
        SPLITS,
        dirname,
    ),
)
