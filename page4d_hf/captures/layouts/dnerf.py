"""The synthetic scenes of D-NeRF (Pumarola et al., CVPR 2021), rendered by Blender.

    transforms_{train,val,test}.json    camera_angle_x; frames: file_path (without .png), time, transform_matrix
    {train,val,test}/r_%03d.png         RGBA

Cameras are camera-to-world with OpenGL axes; the focal length is half the width over tan(camera_angle_x / 2), and the
principal point lies in the middle. Times are in [0, 1], and scaled to span it over all files where they do not; a
file without any has frame i of n, in the natural order of names, at i / (n - 1). What is transparent is white. There
is no depth, and there are no points. Every view is from elsewhere: the frames of one file count as those of one device.
"""

from __future__ import annotations

from functools import partial
from os.path import relpath
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ...errors import CaptureError, SceneError
from ...frames import WHITE
from ...geometry import extrinsics_from_camera_to_world_opengl
from ...scene.transforms_json import (
    TransformsCamera,
    frame_times,
    read_transforms,
    read_transforms_camera,
    spread_times,
    times_by_name,
)
from ..base import Capture, FolderLayout, Layout
from ..image_files import read_image_over

SPLITS = ("train", "val", "test")
# Published figures are of the test views, save for this scene, whose test views show another scene than its training;
# those of the static scene of that name, which has no times, show the same.
EVALUATED_ON_VAL = "lego"
# The published cameras look at the origin from 4 units away, and the scenes lie between depths of 2 and 6.
NEAR_TO_DISTANCE, FAR_TO_DISTANCE = 0.5, 1.5


def looks_like_dnerf(root: Path) -> bool:
    """Whether a folder has one of the files that list a split's views."""
    return any((root / f"transforms_{split}.json").is_file() for split in SPLITS)


def read_dnerf(root: Path, downscale: int | None = None) -> Capture:
    """Read a scene, whose images are laid over white and stored in one size, whatever `downscale`.

    `splits` has those of "train", "val" and "test" that are there; `evaluation_split` is "test", but "val" for lego
    where it moves.
    """
    cameras: list[TransformsCamera] = []
    times: list[npt.NDArray[np.float64]] = []
    is_static = True
    files: list[int] = []
    splits: dict[str, npt.NDArray[np.int64]] = {}
    for place, split in enumerate(SPLITS):
        path = root / f"transforms_{split}.json"
        if split != "train" and not path.is_file():
            continue
        own_cameras, own_times, has_times = _read_views(root, path)
        splits[split] = np.arange(len(cameras), len(cameras) + len(own_cameras))
        cameras += own_cameras
        times.append(own_times)
        files += [place] * len(own_cameras)
        is_static &= not has_times

    notes = []
    evaluation = "test"
    if root.resolve().name.lower() == EVALUATED_ON_VAL and not is_static and splits.keys() == set(SPLITS):
        evaluation = "val"
        notes.append(
            f"The test views of D-NeRF's {EVALUATED_ON_VAL} show another scene than its training: by default {root} is "
            "evaluated on its validation views."
        )
    if evaluation not in splits:
        evaluation = next((split for split in ("test", "val") if split in splits), "val")
    names = [Path(relpath(camera.image_path, root)).with_suffix("").as_posix() for camera in cameras]
    instants, note = spread_times(np.concatenate(times), root, names)
    camera_to_worlds = np.stack([camera.camera_to_world for camera in cameras])
    distance = _distance_of_subject(camera_to_worlds)
    return Capture(
        layout="dnerf",
        root=root,
        frame_ids=names,
        image_paths=[camera.image_path for camera in cameras],
        extrinsics=extrinsics_from_camera_to_world_opengl(torch.from_numpy(camera_to_worlds)).numpy(),
        intrinsics=np.stack([camera.intrinsics for camera in cameras]),
        distortion=np.stack([camera.distortion for camera in cameras]),
        fisheye=np.array([camera.fisheye for camera in cameras]),
        image_sizes=np.array([camera.image_size for camera in cameras], np.int64),
        time_ids=np.unique(instants, return_inverse=True)[1].astype(np.int64),
        camera_ids=np.array(files, np.int64),
        splits=splits,
        near=None if distance is None else NEAR_TO_DISTANCE * distance,
        far=None if distance is None else FAR_TO_DISTANCE * distance,
        notes=notes if note is None else [*notes, note],
        sequence=root.resolve().name,
        instants=instants,
        evaluation_split=evaluation,
        background=WHITE,
        read_image_file=partial(read_image_over, background=WHITE),
    )


def _read_views(root: Path, path: Path) -> tuple[list[TransformsCamera], npt.NDArray[np.float64], bool]:
    """The cameras of one file, their times `(n,)` in [0, 1], and whether the file gives these."""
    meta = read_transforms(path, error=CaptureError)
    try:
        cameras = [read_transforms_camera(meta, frame, root, path) for frame in meta.frames]
        times = frame_times(meta, path)
    except SceneError as error:
        raise CaptureError(str(error)) from error
    if times is None:
        return cameras, times_by_name(meta), False
    for frame, time in zip(meta.frames, times, strict=True):
        if not 0 <= time <= 1:
            raise CaptureError(
                f"{path}: the time of {frame.file_path} must be from 0 to 1, got {time:g}; correct the file."
            )
    return cameras, times, True


def _distance_of_subject(camera_to_worlds: npt.NDArray[Any]) -> float | None:
    """How far from the cameras `(N, 3, 4)`, OpenGL axes, the point lies that their optical axes pass closest to; None
    where there is no such point before most of them."""
    forward, centres = -camera_to_worlds[:, :, 2], camera_to_worlds[:, :, 3]
    # The squared distance of x from an axis is that of what I - d d^T leaves of x - c.
    across = np.eye(3) - forward[:, :, None] * forward[:, None, :]
    total = across.sum(axis=0)
    if np.linalg.cond(total) > 1e4:  # axes that are nearly parallel meet nowhere
        return None
    point = np.linalg.solve(total, np.einsum("nij,nj->i", across, centres))
    distance = float(np.median(np.einsum("nj,nj->n", point - centres, forward)))
    return distance if distance > 0 else None


LAYOUT = Layout(
    "dnerf",
    FolderLayout(read_dnerf, looks_like_dnerf, "D-NeRF: transforms_{train,val,test}.json, {train,val,test}/*.png"),
)
