"""The contact sheet of a scene: frames, depth and motion, the camera's path from above, and an overview."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ..frames import WHITE, over
from ..utils.evenly import evenly
from .drawing import (
    camera_corners,
    camera_lines,
    colored,
    draw,
    from_above,
    frustum_depth,
    inverse_depth,
    overview,
    path_lines,
    range_of,
)
from .reconstruction import Reconstruction

WIDTH = 1440  # of the sheet, in pixels
COLUMNS = 6  # frames, at most
WORLD_HEIGHT = 420  # of the two views of the world
GAP = 6
FRUSTUMS = 16  # at most
INK, PAPER = (60, 60, 60), (255, 255, 255)


def contact_sheet(scene: Reconstruction, times: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A picture of what a reconstruction found, `(H, WIDTH, 3)` RGB uint8.

    In rows: some frames, their depth (near is red), their motion where the model tells it; below, the points of all
    times with the path and some of the cameras, from above and from behind.
    """
    chosen = evenly(len(scene), COLUMNS)
    column = (WIDTH - GAP * (COLUMNS + 1)) // COLUMNS
    images = [over(scene.frames.images[i], WHITE) for i in chosen]
    shapes = np.array([image.shape[:2] for image in images])
    row = int(np.clip(round(column * np.median(shapes[:, 0] / shapes[:, 1])), 40, 2 * column))

    inverse = [inverse_depth(scene.depth[i]) for i in chosen]
    low, high = range_of(np.concatenate([part.ravel() for part in inverse]))
    rows = {"": images, "depth": [colored(part, low, high) for part in inverse]}
    if scene.motion is not None:
        rows["motion"] = [colored(scene.motion[i], 0, 1, cv2.COLORMAP_INFERNO) for i in chosen]
    height = GAP + len(rows) * (row + GAP) + WORLD_HEIGHT + GAP
    sheet = np.full((height, WIDTH, 3), PAPER, np.uint8)
    for place, (name, cells) in enumerate(rows.items()):
        for k, (i, image) in enumerate(zip(chosen, cells, strict=True)):
            top, left = GAP + place * (row + GAP), GAP + k * (column + GAP)
            cell = sheet[top : top + row, left : left + column]
            _fit(cell, image)
            if not name:
                _label(cell, f"t = {times[i]:.2f}")
            elif k == 0:
                _label(cell, name)
    _worlds(sheet[height - WORLD_HEIGHT - GAP : height - GAP], scene, times)
    return sheet


def _fit(cell: npt.NDArray[Any], image: npt.NDArray[Any]) -> None:
    """Put an image into a cell as large as fits."""
    scale = min(cell.shape[0] / image.shape[0], cell.shape[1] / image.shape[1])
    size = tuple(max(round(scale * side), 1) for side in image.shape[1::-1])
    shrunk = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    top, left = (cell.shape[0] - size[1]) // 2, (cell.shape[1] - size[0]) // 2
    cell[top : top + size[1], left : left + size[0]] = shrunk[: cell.shape[0], : cell.shape[1]]


def _label(cell: npt.NDArray[Any], text: str) -> None:
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, 0.45
    (width, height), below = cv2.getTextSize(text, font, scale, 1)
    cell[: height + below + 6, : width + 10] = PAPER
    cv2.putText(cell, text, (5, height + 4), font, scale, INK, 1, cv2.LINE_AA)


def _worlds(strip: npt.NDArray[Any], scene: Reconstruction, times: npt.NDArray[Any]) -> None:
    """The world from above on the left, and from behind the cameras on the right."""
    extrinsics, points = scene.extrinsics, scene.points
    sizes = np.array(scene.frames.sizes)[:, ::-1]
    depth = frustum_depth(extrinsics, points)
    corners = camera_corners(extrinsics, scene.intrinsics, sizes, depth)
    some = evenly(len(scene), FRUSTUMS)
    frustums = camera_lines(extrinsics[some], corners[some], times[some])
    left, right = (strip.shape[1] - 3 * GAP) // 2, (strip.shape[1] - 3 * GAP + 1) // 2
    edge = GAP
    for width, look_from, name in ((left, from_above, "from above"), (right, overview, "from behind")):
        look = look_from(extrinsics, points, width / strip.shape[0], corners)
        lines = path_lines(extrinsics, times) + frustums
        cell = strip[:, edge : edge + width]
        cell[:] = draw(look, (width, strip.shape[0]), points, scene.point_colors, lines=lines, point_size=2)
        _label(cell, name)
        edge += width + GAP
