"""TUM's RGB-D benchmark in small, in its published layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ball_on_plane import cast, colors, pixel_rays, views, world_to_camera
from PIL import Image
from scipy.spatial.transform import Rotation

from page4d_hf.captures import Capture
from page4d_hf.captures.layouts.tum import read_tum

NAME = "rgbd_dataset_freiburg3_walking_xyz"
START = 1341846434.0
SIZE = (640, 480)
SMALL = (80, 60)  # images, where an intrinsics.txt says so
SMALL_FOCAL, SMALL_CENTER = (67.0, 68.0), (40.2, 30.7)  # as OpenCV counts: first centre at 0


class SmallSequence:
    """A sequence of 4 images, ray-cast, with its lists as TUM writes them."""

    def __init__(self, root: Path, size: tuple[int, int] = SMALL) -> None:
        self.root, self.folder, self.size = root, root / NAME, size
        self.views = views(4)
        self.times = START + np.arange(4) / 30
        focal, center = (SMALL_FOCAL, SMALL_CENTER) if size == SMALL else ((535.4, 539.2), (320.1, 247.6))
        for name in ("rgb", "depth"):
            (self.folder / name).mkdir(parents=True)
        for time, view in zip(self.times, self.views, strict=True):
            directions = pixel_rays(view, focal, (center[0] + 0.5, center[1] + 0.5), size)
            depth, _ = cast(view.centre, directions)
            image = colors(view.centre + depth[..., None] * directions)
            Image.fromarray(image).save(self.folder / "rgb" / f"{time:.6f}.png", compress_level=1)
            levels = np.where(depth < 13, np.round(depth * 5000), 0).astype(np.uint16)
            Image.fromarray(levels).save(self.folder / "depth" / f"{time + 0.004:.6f}.png", compress_level=1)
        self.write_list("rgb", self.times, 0.0)
        self.write_list("depth", self.times, 0.004)
        if size == SMALL:
            self.write("intrinsics.txt", "# fx fy cx cy", " ".join(map(str, SMALL_FOCAL + SMALL_CENTER)))
        # Motion capture at 100 Hz, off the images' clock; between images the camera stands where the nearest is.
        self.pose_times = START - 0.0496 + np.arange(25) / 100
        self.poses = [self.pose(int(np.abs(self.times - time).argmin())) for time in self.pose_times]
        self.write_poses()

    def pose(self, i: int) -> list[float]:
        """tx ty tz qx qy qz qw of an image, camera-to-world."""
        camera_to_world = np.linalg.inv(world_to_camera(self.views[i]))
        return [*camera_to_world[:3, 3], *Rotation.from_matrix(camera_to_world[:3, :3]).as_quat()]

    def write(self, name: str, *lines: str) -> None:
        (self.folder / name).write_text("\n".join(lines) + "\n")

    def write_list(self, kind: str, times: np.ndarray, offset: float) -> None:
        rows = [f"{time + offset:.6f} {kind}/{time + offset:.6f}.png" for time in times]
        self.write(f"{kind}.txt", f"# {kind} images", "# file: 'x.bag'", "# timestamp filename", *rows)

    def write_poses(self, name: str = "groundtruth.txt") -> None:
        rows = zip(self.pose_times, self.poses, strict=True)
        lines = [f"{time:.4f} " + " ".join(f"{number:.6f}" for number in pose) for time, pose in rows]
        self.write(name, "# ground truth trajectory", "# timestamp tx ty tz qx qy qz qw", *lines)

    def image(self, i: int) -> Path:
        return self.folder / "rgb" / f"{self.times[i]:.6f}.png"

    def depth(self, i: int) -> Path:
        return self.folder / "depth" / f"{self.times[i] + 0.004:.6f}.png"

    def read(self) -> Capture:
        return read_tum(self.root, NAME)
