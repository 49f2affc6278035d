"""Folders with nerfstudio's `transforms.json`, of any program, whose frames may have a `time`.

    transforms.json     per frame or for all: fl_x fl_y cx cy w h, k1 k2 k3 p1 p2 (of a fisheye k1 k2 k3 k4); per
                        frame: file_path, transform_matrix and perhaps time, mask_path, depth_file_path;
                        camera_model; ply_file_path; {train,val,test}_filenames
    images/             the frames
    depth/*.png, *.npy  z-depth, perhaps; in 1/1000 of the world's unit, as in nerfstudio
    *.ply               points in the world of the cameras, perhaps

`page4d_hf.scene.folder` reads the file; here it becomes a `Capture`.
"""

from __future__ import annotations

from os.path import relpath
from pathlib import Path

import numpy as np

from ...errors import CaptureError, SceneError
from ...scene.folder import Scene, read_scene
from ..base import Capture, FolderLayout, Layout, devices_by_folder
from ..depth_files import read_npy_or_png_depth

FILE_NAME = "transforms.json"
DEPTH_UNIT = 1e-3  # nerfstudio's default of `depth_unit_scale_factor`, of PNG and NumPy files alike


def looks_like_nerfstudio(root: Path) -> bool:
    """Whether a folder has nerfstudio's file of cameras."""
    return (root / FILE_NAME).is_file()


def read_nerfstudio(root: Path, downscale: int | None = None) -> Capture:
    """Read a folder with nerfstudio's `transforms.json`, a scene folder of `page4d reconstruct` among them.

    Where no frame has a time, the natural order of file names is their time. Where frames of several folders share
    instants, each folder is a camera of a rig. Held out are `test_filenames` or, where
    the file has none, `val_filenames`. Images are taken in the one size that the file names, whatever `downscale`.
    """
    try:
        return capture_of_scene(read_scene(root))
    except SceneError as error:
        raise CaptureError(str(error)) from error


def capture_of_scene(scene: Scene) -> Capture:
    """A scene folder as a capture: its cameras, times, splits and points."""
    names = [path.stem for path in scene.image_paths]
    if len(set(names)) < len(names):  # of several folders
        names = [Path(relpath(path, scene.root)).with_suffix("").as_posix() for path in scene.image_paths]
    time_ids = np.unique(scene.times, return_inverse=True)[1].astype(np.int64)
    return Capture(
        layout="nerfstudio",
        root=scene.root,
        frame_ids=names,
        image_paths=scene.image_paths,
        extrinsics=scene.extrinsics,
        intrinsics=scene.intrinsics,
        distortion=scene.distortion,
        image_sizes=scene.image_sizes,
        time_ids=time_ids,
        camera_ids=devices_by_folder([path.parent.as_posix() for path in scene.image_paths], time_ids),
        splits=scene.splits,
        scale=scene.scale,
        points=scene.points,
        point_colors=scene.point_colors,
        point_motion=scene.point_motion,
        instants=scene.times,
        evaluation_split="test" if len(scene.splits.get("test", ())) else "val",
        use_paths=scene.use_paths,
        depth_paths=scene.depth_paths,
        depth_scale=DEPTH_UNIT,
        read_depth_file=read_npy_or_png_depth,
        fisheye=scene.fisheye,
        notes=list(scene.notes),
    )


LAYOUT = Layout(
    "nerfstudio",
    FolderLayout(read_nerfstudio, looks_like_nerfstudio, "nerfstudio: transforms.json, whose frames may have a time"),
)
