"""Bonn's RGB-D data set in small, in its published layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ball_on_plane import View, cast, colors, views, world_to_camera
from PIL import Image
from scipy.linalg import polar
from scipy.spatial.transform import Rotation

from page4d_hf.captures import Capture
from page4d_hf.captures.layouts.bonn import read_bonn
from page4d_hf.captures.pinhole import undistort

NAME = "rgbd_bonn_balloon2"
FOCAL, CENTER = np.array([542.822841, 542.576870]), np.array([315.593520, 237.756098])
DISTORTION = np.array([0.039903, -0.099343, -0.000730, -0.000144, 0])
T_ROS = np.array([[-1, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]])
T_M_ROTATION = np.array([[1.0157, 0.1828, -0.2389], [0.0009, -0.8431, -0.6413], [-0.3009, 0.6147, -0.8085]])
T_M_TRANSLATION = np.array([0.0113, -0.0098, 0.0111])


def marker_pose(view: View) -> np.ndarray:
    """What motion capture writes for a camera: `T_ROS c2w T_m^-1 T_ROS^-1`."""
    camera_of_markers = np.eye(4)
    camera_of_markers[:3, :3] = polar(T_M_ROTATION)[0]
    camera_of_markers[:3, 3] = T_M_TRANSLATION
    return T_ROS @ np.linalg.inv(world_to_camera(view)) @ np.linalg.inv(camera_of_markers) @ np.linalg.inv(T_ROS)


class SmallBonn:
    """`rgbd_bonn_dataset` with one sequence of 3 distorted images."""

    def __init__(self, root: Path) -> None:
        self.root, self.folder = root, root / "rgbd_bonn_dataset" / NAME
        (self.folder / "rgb").mkdir(parents=True)
        (self.folder / "depth").mkdir()
        u, v = np.meshgrid(np.arange(640), np.arange(480))  # as the calibration counts
        rays = undistort((np.stack((u, v), -1).reshape(-1, 2) - CENTER) / FOCAL, DISTORTION).reshape(480, 640, 2)
        lists: dict[str, list[str]] = {"rgb": [], "depth": [], "groundtruth": []}
        for i, view in enumerate(views(3)):
            directions = rays[..., :1] * view.right + rays[..., 1:] * view.down + view.forward
            depth, _ = cast(view.centre, directions)
            time = 1548266469.88236 + i / 30
            lists["rgb"].append(f"{time:.5f} rgb/{time:.5f}.png")
            lists["depth"].append(f"{time + 0.011:.5f} depth/{time + 0.011:.5f}.png")
            Image.fromarray(colors(view.centre + depth[..., None] * directions)).save(
                self.folder / lists["rgb"][-1].split()[1], compress_level=1
            )
            levels = np.where(depth < 13, np.round(depth * 5000), 0).astype(np.uint16)
            Image.fromarray(levels).save(self.folder / lists["depth"][-1].split()[1], compress_level=1)
            pose = marker_pose(view)
            numbers = (*pose[:3, 3], *Rotation.from_matrix(pose[:3, :3]).as_quat())
            lists["groundtruth"].append(f"{time - 0.003:.5f} " + " ".join(f"{number:.6f}" for number in numbers))
        for name, rows in lists.items():
            (self.folder / f"{name}.txt").write_text("\n".join(["# comment", *rows]) + "\n")

    def read(self) -> Capture:
        return read_bonn(self.root, NAME)
