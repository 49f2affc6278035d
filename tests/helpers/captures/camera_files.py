"""The cameras of the moving room in files of three kinds."""

from __future__ import annotations

import json

import numpy as np
import pycolmap
from moving_room import FOCAL, SIZE, moving_room
from scipy.spatial.transform import Rotation

FLIP = np.diag([1.0, -1.0, -1.0, 1.0])
HEIGHT, WIDTH = SIZE


def written(extrinsics: np.ndarray, direction: str, axes: str) -> np.ndarray:
    """World-to-camera matrices of OpenCV's axes as a file of another convention holds them, [S, 4, 4]."""
    matrices = np.insert(extrinsics, 3, [0, 0, 0, 1], axis=1)
    matrices = FLIP @ matrices if axes == "OpenGL" else matrices
    return np.linalg.inv(matrices) if direction == "camera-to-world" else matrices


def write_transforms(folder, *, convention=("camera-to-world", "OpenGL"), order=None, **changes):
    room = moving_room()
    poses = written(room.extrinsics, *convention)
    meta = {"fl_x": FOCAL, "fl_y": FOCAL, "cx": WIDTH / 2, "cy": HEIGHT / 2, "w": WIDTH, "h": HEIGHT, **changes}
    listed = range(len(poses)) if order is None else order
    meta["frames"] = [{"file_path": f"images/view{i}.png", "transform_matrix": poses[i].tolist()} for i in listed]
    (folder / "transforms.json").write_text(json.dumps(meta))
    return folder / "transforms.json"


def write_colmap(folder, *, model="PINHOLE", params=(FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2), scale=1, size=SIZE):
    made = pycolmap.Reconstruction()
    camera = pycolmap.Camera(
        model=model, width=scale * size[1], height=scale * size[0], params=[scale * p for p in params], camera_id=1
    )
    made.add_camera_with_trivial_rig(camera)
    for i, pose in enumerate(moving_room().extrinsics):
        image = pycolmap.Image(name=f"view{i}.png", keypoints=np.zeros((0, 2)), camera_id=1, image_id=i + 1)
        made.add_image_with_trivial_frame(image, pycolmap.Rigid3d(pose))
    (folder / "sparse" / "0").mkdir(parents=True)
    made.write(str(folder / "sparse" / "0"))
    return folder


def write_trajectory(folder, stamps=None):
    poses = written(moving_room().extrinsics, "camera-to-world", "OpenCV")
    stamps = range(len(poses)) if stamps is None else stamps
    quaternions = Rotation.from_matrix(poses[:, :3, :3]).as_quat()
    rows = [[t, *pose[:3, 3], *q] for t, pose, q in zip(stamps, poses, quaternions, strict=True)]
    path = folder / "trajectory.txt"
    path.write_text(
        "# timestamp tx ty tz qx qy qz qw\n" + "".join(" ".join(f"{v:.9f}" for v in r) + "\n" for r in rows)
    )
    return path
