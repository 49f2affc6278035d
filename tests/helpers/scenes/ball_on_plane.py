"""A ball above a slanted plane, ray-cast in NumPy: what the folders that tests write show.

Nothing in the scene is symmetric, so that a flipped axis, a transposed rotation or a wrong pixel centre puts the points
of a frame off the two surfaces.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from page4d_hf.captures import as_pinhole

BALL, RADIUS = np.array([0.3, -0.2, 4.0]), 0.7
NORMAL, OFFSET = np.array([-0.25, -0.62, -0.74]) / np.linalg.norm([-0.25, -0.62, -0.74]), -4.6  # NORMAL . x = OFFSET


class View(NamedTuple):
    """A camera by its centre and its axes in the world."""

    centre: np.ndarray
    right: np.ndarray
    down: np.ndarray
    forward: np.ndarray


def views(count: int = 4) -> list[View]:
    """Cameras on a path around the ball, each turned and rolled a little."""
    found = []
    for i in range(count):
        centre = np.array([-0.8 + 0.5 * i, 0.3 - 0.25 * i, 0.2 * i - 0.5])
        forward = BALL + np.array([0.1 * i, 0.1, 0.3]) - centre
        forward /= np.linalg.norm(forward)
        right = np.cross([0.1 + 0.05 * i, 1.0, 0.2], forward)
        right /= np.linalg.norm(right)
        found.append(View(centre, right, np.cross(forward, right), forward))
    return found


def shifted(view: View, distance: float) -> View:
    """The view from beside, to the right."""
    return view._replace(centre=view.centre + distance * view.right)


def world_to_camera(view: View) -> np.ndarray:
    """`(4, 4)`, OpenCV axes."""
    matrix = np.eye(4)
    matrix[:3, :3] = [view.right, view.down, view.forward]
    matrix[:3, 3] = -matrix[:3, :3] @ view.centre
    return matrix


def cast(centre: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many of its own lengths each direction `(..., 3)` goes until it hits, and whether it hits the ball."""
    to_plane = (OFFSET - NORMAL @ centre) / (directions @ NORMAL)
    to_plane = np.where(to_plane > 0, to_plane, np.inf)
    a, b = (directions**2).sum(-1), directions @ (centre - BALL)
    root = b * b - a * (((centre - BALL) ** 2).sum() - RADIUS**2)
    to_ball = np.where(root > 0, (-b - np.sqrt(np.maximum(root, 0))) / a, np.inf)
    return np.minimum(to_plane, to_ball), to_ball < to_plane


def colors(points: np.ndarray) -> np.ndarray:
    """Smooth colours of points in the world, uint8."""
    waves = np.array([[0.9, 0.4, 0.3], [-0.3, 0.8, 0.5], [0.5, -0.6, 0.9]])
    return np.round(127 + 100 * np.sin(points @ waves.T)).astype(np.uint8)


def pixel_rays(view: View, focal: Sequence[float], principal: Sequence[float], size: tuple[int, int]) -> np.ndarray:
    """Directions `(H, W, 3)` with z = 1 in the camera, of pixels whose first centre is at (0.5, 0.5)."""
    u, v = np.meshgrid(np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5)
    x, y = (u - principal[0]) / focal[0], (v - principal[1]) / focal[1]
    return x[..., None] * view.right + y[..., None] * view.down + view.forward


def surface_distance(points: np.ndarray) -> np.ndarray:
    """How far points are from the nearer of the two surfaces."""
    return np.minimum(np.abs(np.linalg.norm(points - BALL, axis=-1) - RADIUS), np.abs(points @ NORMAL - OFFSET))


def unproject(capture: Any, frames: Any, index: int) -> tuple[np.ndarray, np.ndarray]:
    """World points `(H, W, 3)` of a frame as it is loaded, and where its depth is known."""
    depth = frames.load_depth(index).astype(np.float64)
    (fx, _, cx), (_, fy, cy), _ = frames.intrinsics[index]
    v, u = np.indices(depth.shape) + 0.5
    in_camera = np.stack(((u - cx) / fx, (v - cy) / fy, np.ones_like(depth)), axis=-1) * depth[..., None]
    rotation, translation = capture.extrinsics[index, :, :3], capture.extrinsics[index, :, 3]
    return (in_camera - translation) @ rotation, depth > 0


def check_geometry(capture: Any, tolerance: float, color_tolerance: float = 4.0) -> None:
    """Every frame's pixels unproject onto the surfaces, at places that have the pixels' colours.

    Args:
        capture: what a reader gave.
        tolerance: the median distance from the surfaces that the precision of the stored depth allows.
        color_tolerance: the mean difference of colour that the images' compression allows, of 255.
    """
    frames = as_pinhole(capture)
    for index in range(len(capture)):
        points, known = unproject(capture, frames, index)
        assert known.mean() > 0.5
        assert np.median(surface_distance(points[known])) < tolerance
        image = frames.load_image(index)[..., :3].astype(float)
        assert np.abs(image[known] - colors(points[known])).mean() < color_tolerance


def camera_to_world_opengl(view: View) -> np.ndarray:
    """`(4, 4)`, OpenGL axes: right, up, backward."""
    matrix = np.eye(4)
    matrix[:3] = np.column_stack((view.right, -view.down, -view.forward, view.centre))
    return matrix


def render(view: View, focal: Sequence[float], principal: Sequence[float], size: tuple[int, int]) -> np.ndarray:
    """An image `(H, W, 3)` of the scene."""
    directions = pixel_rays(view, focal, principal, size)
    return colors(view.centre + cast(view.centre, directions)[0][..., None] * directions)


def check_cameras(capture: Any, view_of: Any, tolerance: float) -> None:
    """The rays of a capture's cameras through the pixels of its images hit places that have the pixels' colours.

    Args:
        capture: what a reader gave; its world is that of the scene.
        view_of: gives the View of the frame at an index, for the camera's own axes to be compared.
        tolerance: the largest mean difference of colour, of 255, that the images' compression or resampling allows.
    """
    frames = as_pinhole(capture)
    for index in range(len(capture)):
        rotation, translation = capture.extrinsics[index, :, :3], capture.extrinsics[index, :, 3]
        np.testing.assert_allclose(capture.extrinsics[index], world_to_camera(view_of(index))[:3], atol=1e-5)
        seen = View(-rotation.T @ translation, *rotation)
        (fx, _, cx), (_, fy, cy), _ = frames.intrinsics[index]
        image = frames.load_image(index)
        expected = render(seen, (fx, fy), (cx, cy), (image.shape[1], image.shape[0]))
        difference = np.abs(image.astype(float) - expected)
        smooth = difference[difference < 20]  # at the ball's edge, colours jump
        assert len(smooth) > 0.97 * difference.size
        assert smooth.mean() < tolerance
