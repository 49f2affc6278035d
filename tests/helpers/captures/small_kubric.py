"""Kubric scenes in small, in their published layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from ball_on_plane import cast, colors, views
from PIL import Image
from scipy.spatial.transform import Rotation

from page4d_hf.captures.layouts.kubric import read_kubric

SIZE = (64, 48)
FOCAL, SENSOR = 35.0, 32.0  # mm
STILL, TURN = [1.0, 0.0, 0.0, 0.0], [0.9689124, 0.2474040, 0.0, 0.0]


def rays(view: Any) -> np.ndarray:
    """Unit directions of Blender's pixels: the sensor is as wide as the image, y is up, the camera looks along -z."""
    j, i = np.meshgrid(np.arange(SIZE[0]), np.arange(SIZE[1]))
    x = ((j + 0.5) / SIZE[0] - 0.5) * SENSOR / FOCAL
    y = -((i + 0.5) / SIZE[1] - 0.5) * SENSOR / FOCAL * SIZE[1] / SIZE[0]
    directions = x[..., None] * view.right - y[..., None] * view.down + view.forward
    return directions / np.linalg.norm(directions, axis=-1, keepdims=True)


class Scene:
    """A scene of four frames. Instance 1 is the ball; 2 to 5 are seen in the image's corners."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "0001"
        self.folder.mkdir(parents=True)
        all_views = views(4)
        poses = [np.stack((view.right, -view.down, -view.forward), axis=1) for view in all_views]  # columns: GL axes
        quaternions = [Rotation.from_matrix(pose).as_quat() for pose in poses]
        self.metadata: dict[str, Any] = {
            "metadata": {"resolution": list(SIZE), "frame_rate": 12, "num_frames": 4, "num_instances": 5},
            "camera": {
                "focal_length": FOCAL,
                "sensor_width": SENSOR,
                "field_of_view": 2 * np.arctan(SENSOR / 2 / FOCAL),
                "positions": [view.centre.tolist() for view in all_views],
                "quaternions": [[float(q[i]) for i in (3, 0, 1, 2)] for q in quaternions],
            },
            "instances": [
                {"positions": [[0, 0, i] for i in range(4)], "quaternions": [STILL] * 4, "is_dynamic": False},
                {"positions": [[1, 2, 3]] * 4, "quaternions": [STILL] * 4, "is_dynamic": False},
                {"positions": [[1, 2, 3]] * 4, "quaternions": [STILL] * 4, "is_dynamic": True},
                {"positions": [[1, 2, 3]] * 4, "quaternions": [STILL, STILL, STILL, TURN]},
                {"positions": [[1, 2, 3 + 1e-4 * i] for i in range(4)], "quaternions": [STILL] * 4},
            ],
        }
        self.save()
        for i, view in enumerate(all_views):
            directions = rays(view)
            distance, on_ball = cast(view.centre, directions)
            image = colors(view.centre + distance[..., None] * directions)
            opaque = np.concatenate((image, np.full((*image.shape[:2], 1), 255, np.uint8)), axis=-1)
            Image.fromarray(opaque).save(self.folder / f"rgba_{i:05d}.png")
            tifffile.imwrite(self.folder / f"depth_{i:05d}.tiff", distance[..., None].astype(np.float32))
            indices = on_ball.astype(np.uint8)
            for instance, (row, column) in enumerate([(0, 0), (0, -1), (-1, 0), (-1, -1)], start=2):
                indices[row, column] = instance
            segmentation = Image.fromarray(indices, "P")
            # Colours say nothing: the palette is such that index 1 is black.
            segmentation.putpalette([200, 10, 10, 0, 0, 0, 1, 2, 3, 0, 0, 0, 9, 9, 9, 80, 0, 0])
            segmentation.save(self.folder / f"segmentation_{i:05d}.png")
            self.on_ball = on_ball

    def save(self) -> None:
        (self.folder / "metadata.json").write_text(json.dumps(self.metadata))

    def read(self) -> Any:
        return read_kubric(self.folder.parent, "0001")
