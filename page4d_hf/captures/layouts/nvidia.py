"""NVIDIA's Dynamic Scenes (Yoon et al., CVPR 2020): 12 cameras that stand still around a moving scene.

A video is made of them by taking each frame from the next camera: frame i comes from camera i % 12. Two forms are
published. That of DynamicNeRF (Gao et al., ICCV 2021), 12 frames:

    poses_bounds.npy                (N, 17) float64, see below
    images/%03d.png                 the frames
    motion_masks/%03d.png           non-zero where something moves

and that of Neural Scene Flow Fields (Li et al., CVPR 2021), 24 frames, all in a folder `dense`:

    dense/poses_bounds.npy
    dense/images/%05d.png           the frames; or images_<W>x<H>/
    dense/motion_masks/%05d.png
    dense/mv_images/%05d/cam%02d.jpg    by frame: what each of the cameras 01 to 12 saw at that time
    dense/mv_masks/%05d/cam%02d.png     non-zero where something moves in them

What the other cameras saw is held out. A row of poses_bounds.npy (Mildenhall et al., Local Light Field Fusion, 2019) is
a 3 x 5 matrix by rows and the nearest and farthest depth. The matrix' columns are the camera's downward, right and
backward axis and its centre, all in the world, and (height, width, focal length) in pixels. The scale is COLMAP's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ...errors import CaptureError
from ...geometry import extrinsics_at, is_rotation
from ..base import Capture, FolderLayout, Layout
from ..files import numbered_folders, read_array
from ..image_files import read_image_size
from ..schemas import LARGEST
from .nerfies import IMAGE_SUFFIXES, files_by_id

NUM_CAMERAS = 12
POSES = "poses_bounds.npy"
# What tells a folder of this set, by any two; images alone are in many others.
ENTRIES = (POSES, "motion_masks", "images_colmap", "disp", "mv_images", "mv_masks")
SIZED_IMAGES, INSTANT = r"images_(\d{1,9})x(\d{1,9})", r"(\d{1,9})"
CAMERA = re.compile(r"cam(\d{1,9})")
MOST_STRETCH = 0.02  # of an image against the size that its focal length is for: sides are rounded


def looks_like_nvidia(root: Path) -> bool:
    """Whether a folder holds a scene in one of the two forms."""
    for folder in (root, root / "dense"):
        entries = [(folder / name).exists() for name in ENTRIES]
        if sum(entries) >= 2 or (entries[0] and _image_folder(folder) is not None):
            return True
    return False


class _Frame(NamedTuple):
    name: str
    image: Path
    mask: Path | None
    instant: int
    camera: int
    row: int  # of poses_bounds.npy


def read_nvidia(root: Path, downscale: int | None = None) -> Capture:
    """Read a scene in the form of DynamicNeRF or of Neural Scene Flow Fields, by its folder or its `dense`.

    "train" is the video; "val", where the folder has `mv_images`, is what the other cameras saw at each of its times.
    The largest images that are stored are taken, whatever `downscale`.
    """
    folder = root / "dense" if (root / "dense").is_dir() else root
    # The scene's own name, also where `dense` was named.
    scene = root.resolve().parent if root.resolve().name == "dense" else root.resolve()
    rotations, centres, hwf, bounds = _read_poses(folder / POSES)

    images = _image_folder(folder)
    if images is None:
        raise CaptureError(f"{folder / 'images'} is missing or empty; put the frames of the video there.")
    files = files_by_id(images, IMAGE_SUFFIXES)
    if len(files) != len(rotations):
        raise CaptureError(
            f"{images} has {len(files)} images but {folder / POSES} has {len(rotations)} rows; they must be as many."
        )
    masks = files_by_id(folder / "motion_masks", IMAGE_SUFFIXES)
    frames = []
    for i, name in enumerate(sorted(files)):
        if name not in masks and (folder / "motion_masks").is_dir():
            raise CaptureError(f"{folder / 'motion_masks' / name}.png is missing; add it, or remove the whole folder.")
        frames.append(_Frame(name, files[name], masks.get(name), i, i % NUM_CAMERAS, i))
    splits = {"train": np.arange(len(frames))}
    multiview = next((f / "mv_images" for f in (folder, root) if (f / "mv_images").is_dir()), None)
    if multiview is not None:
        frames += _held_out_views(multiview, len(frames))
        splits["val"] = np.arange(len(splits["train"]), len(frames))

    sizes = [read_image_size(frame.image) for frame in frames]
    intrinsics = [_intrinsics(hwf[frame.row], size, frame.image) for frame, size in zip(frames, sizes, strict=True)]
    motion_mask_paths = [frame.mask for frame in frames]
    return Capture(
        layout="nvidia",
        root=root,
        frame_ids=[frame.name for frame in frames],
        image_paths=[frame.image for frame in frames],
        extrinsics=extrinsics_at(rotations, centres)[[frame.row for frame in frames]],
        intrinsics=np.stack(intrinsics),
        distortion=np.zeros((len(frames), 5)),
        image_sizes=np.array(sizes, np.int64),
        time_ids=np.array([frame.instant for frame in frames], np.int64),
        camera_ids=np.array([frame.camera for frame in frames], np.int64),
        splits=splits,
        near=float(bounds[:, 0].min()),
        far=float(bounds[:, 1].max()),
        motion_mask_paths=motion_mask_paths if any(motion_mask_paths) else None,
        sequence=scene.name,
    )


def _read_poses(path: Path) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """World-to-camera rotations `(N, 3, 3)` with OpenCV axes, centres `(N, 3)`, (height, width, focal length) `(N, 3)`
    and (near, far) `(N, 2)`."""
    rows = read_array(path)
    if rows.ndim != 2 or rows.shape[1] != 17:
        raise CaptureError(f"{path} must hold numbers of the shape (frames, 17), got {rows.shape}; fetch it again.")
    if len(rows) == 0:
        raise CaptureError(f"{path} has no rows, so the scene has no cameras; fetch it again.")
    rows = rows.astype(np.float64)
    bad = np.flatnonzero(~(np.abs(rows) <= LARGEST).all(axis=1))
    if len(bad):
        raise CaptureError(f"{path} holds NaN, infinity or numbers above {LARGEST:g} in row {bad[0]}; fetch it again.")
    matrices = rows[:, :15].reshape(-1, 3, 5)
    down, right, back = (matrices[:, :, i] for i in range(3))
    rotations = np.stack((right, down, -back), axis=1)  # world-to-camera: its rows are the camera's axes
    wrong = np.flatnonzero(~is_rotation(rotations))
    if len(wrong):
        raise CaptureError(
            f"{path}: the axes in row {wrong[0]} are no rotation; its columns must be the camera's downward, right and "
            "backward axes."
        )
    hwf, bounds = matrices[:, :, 4], rows[:, 15:]
    if hwf.min() < 1 / LARGEST:
        raise CaptureError(
            f"{path}: height, width and focal length must be above 0, got {hwf.min():g}; fetch it again."
        )
    if (bounds[:, 0] < 0).any() or (bounds[:, 0] >= bounds[:, 1]).any():
        raise CaptureError(f"{path}: the nearest depth of each row must be at least 0 and below the farthest.")
    return rotations, matrices[:, :, 3], hwf, bounds


def _image_folder(folder: Path) -> Path | None:
    """`images`, else the one with the largest images of the folders `images_<W>x<H>`."""
    full = folder / "images"
    sized = [full] if full.is_dir() else numbered_folders(folder, SIZED_IMAGES).values()
    return next((path for path in reversed(sized) if files_by_id(path, IMAGE_SUFFIXES)), None)


def _held_out_views(multiview: Path, count: int) -> Iterator[_Frame]:
    """What the cameras saw at each of `count` times, but for the frames that are in the video."""
    mask_folder = multiview.parent / "mv_masks"
    folders = numbered_folders(multiview, INSTANT)
    beyond = next((path for instant, path in folders.items() if instant >= count), None)
    if beyond is not None:
        raise CaptureError(f"{beyond} is of a time that the video of {count} frames does not have.")
    for instant in range(count):
        folder = folders.get(instant, multiview / f"{instant:05d}")
        files, masks = (files_by_id(path, IMAGE_SUFFIXES) for path in (folder, mask_folder / folder.name))
        views = {int(match[1]) - 1: stem for stem in files if (match := CAMERA.fullmatch(stem))}
        for camera in range(min(NUM_CAMERAS, count)):  # cameras beyond the video's have no row of their own
            if camera == instant % NUM_CAMERAS:
                continue
            stem = f"cam{camera + 1:02d}"
            if camera not in views:
                raise CaptureError(f"The view {folder / stem}.jpg is missing; fetch it again, or remove {multiview}.")
            if mask_folder.is_dir() and views[camera] not in masks:
                raise CaptureError(
                    f"The mask {mask_folder / folder.name / stem}.png is missing; fetch it again, or remove "
                    f"{mask_folder}."
                )
            image, mask = files[views[camera]], masks.get(views[camera])
            yield _Frame(f"{folder.name}/{stem}", image, mask, instant, camera, camera)


def _intrinsics(hwf: npt.NDArray[Any], size: tuple[int, int], path: Path) -> npt.NDArray[np.float64]:
    """`(3, 3)`, in pixels of an image that was scaled from the size that the focal length is for."""
    height, width, focal = hwf
    scale_x, scale_y = size[0] / width, size[1] / height
    if abs(scale_x / scale_y - 1) > MOST_STRETCH:
        raise CaptureError(
            f"{path} is {size[0]}x{size[1]} but {POSES} is for images of {width:g}x{height:g}, of other proportions; "
            "fetch it again."
        )
    return np.array([[focal * scale_x, 0, size[0] / 2], [0, focal * scale_y, size[1] / 2], [0, 0, 1]])


LAYOUT = Layout(
    "nvidia",
    FolderLayout(
        read_nvidia,
        looks_like_nvidia,
        "NVIDIA Dynamic Scenes: poses_bounds.npy, images/, motion_masks/, as they are or in dense/ with mv_images/",
    ),
)
