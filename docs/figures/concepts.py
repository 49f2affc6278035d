"""Draws the figures of docs/concepts: conventions.svg, mask.svg, and refinement.svg of a capture with cameras.

python docs/figures/concepts.py
python docs/figures/concepts.py --capture path/to/hand-on-shelf --model page4d
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np
import tyro
from how_it_works import FIELD, IMAGE, INK, MOVING, PALE, STATIC, arrow, box
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Polygon, Rectangle

IMAGES = Path(__file__).parents[1] / "images"
AXIS = {"x": MOVING, "y": IMAGE, "z": FIELD}
LOOK = {"x": (0.5, -0.22), "y": (0.0, -0.62), "z": (0.62, 0.3)}  # how a camera's axes are drawn


@dataclass
class Figures:
    """Draw the figures that need no data; with a capture, that of refinement instead."""

    capture: Path | None = None
    """A capture with cameras of its own, in any layout that page4d reads."""
    model: str = "page4d"
    """Folder of the weights that reconstruct it."""

    def main(self) -> None:
        # Letters as shapes: the same on every machine. No date and no random names: the same file at every run.
        mpl.rcParams.update({"font.family": "DejaVu Sans", "svg.fonttype": "path", "svg.hashsalt": "page4d"})
        if self.capture is None:
            save(conventions(), "conventions")
            save(mask(), "mask")
        else:
            save(refinement(self.capture, self.model), "refinement")


def save(figure: plt.Figure, name: str) -> None:
    path = IMAGES / f"{name}.svg"
    figure.savefig(path, metadata={"Date": None}, facecolor="white")
    plt.close(figure)
    print(f"Wrote {path}, {path.stat().st_size / 1000:.0f} kB.")


def canvas(width: float, height: float) -> tuple[plt.Figure, Axes]:
    """A figure whose units are inches, without a frame."""
    figure, axes = plt.subplots(figsize=(width, height))
    axes.set(xlim=(0, width), ylim=(0, height), aspect="equal")
    axes.axis("off")
    figure.subplots_adjust(0, 0, 1, 1)
    return figure, axes


def words(axes: Axes, x: float, y: float, text: str, size: float = 8, color: str = INK, **style: object) -> None:
    axes.text(x, y, text, size=size, color=color, **{"ha": "center", "va": "center", "linespacing": 1.35, **style})


def camera(axes: Axes, x: float, y: float, signs: tuple[int, int], title: str, where: str) -> None:
    """A camera at (x, y) and its axes; with signs of -1, y and z point the other way."""
    toward = {name: np.array(direction) for name, direction in LOOK.items()}
    size = 0.95 * toward["x"], 0.75 * toward["y"]
    corners = [1.6 * toward["z"] + i * size[0] + j * size[1] for i, j in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    axes.add_patch(Polygon([corner + np.array((x, y)) for corner in corners], fc=PALE, ec=STATIC, lw=1))
    for dx, dy in corners:
        axes.plot([x, x + dx], [y, y + dy], color=STATIC, lw=0.7)
    for (name, direction), sign in zip(toward.items(), (1, *signs), strict=True):
        tip = (x, y) + sign * direction
        arrow(axes, (x, y), tuple(tip), AXIS[name])
        words(axes, *(tip + sign * 0.12 * direction / np.hypot(*direction)), name, 9, AXIS[name], style="italic")
    words(axes, x + 0.5, 2.82, title, 9.5, weight="bold")
    words(axes, x + 0.5, 0.24, where, 7.8)


def conventions() -> plt.Figure:
    """Camera axes in page4d and in transforms.json; where pixels lie; what depth is."""
    figure, axes = canvas(10.6, 3.05)
    camera(axes, 0.9, 1.5, (1, 1), "OpenCV", "everywhere in page4d;\nextrinsics are world-to-camera")
    camera(axes, 3.9, 1.5, (-1, -1), "OpenGL", "in transforms.json only;\ncamera-to-world")

    left, bottom, side = 6.2, 0.95, 0.42
    top, middle = bottom + 3 * side, left + 2 * side
    for row in range(3):
        for column in range(4):
            corner = (left + side * column, bottom + side * row)
            axes.add_patch(Rectangle(corner, side, side, fc=PALE, ec=STATIC, lw=0.8))
    axes.plot(left + side / 2, top - side / 2, "o", color=MOVING, ms=4)
    words(axes, left + 1.08 * side, top - side / 2, "(0.5, 0.5)", 7.5, MOVING, ha="left")
    words(axes, left, top + 0.13, "(0, 0)", 7.5)
    words(axes, left + 4 * side, bottom - 0.13, "(width, height)", 7.5)
    words(axes, middle, 2.82, "Pixels", 9.5, weight="bold")
    words(axes, middle, 0.24, "of intrinsics, tracks\nand all image positions", 7.8)

    (x, y), point = (8.75, 1.05), (10.15, 2.15)
    axes.plot([x, point[0]], [y, point[1]], color=STATIC, lw=1, ls="--")
    axes.plot([point[0]] * 2, [y, point[1]], color=STATIC, lw=0.8, ls=":")
    arrow(axes, (x, y), (point[0], y), FIELD)
    axes.plot(*point, "o", color=MOVING, ms=5)
    axes.plot(x, y, "o", color=INK, ms=4)
    words(axes, 9.45, y - 0.17, "depth: along z", 7.8, FIELD)
    words(axes, 9.33, 1.72, "not the distance", 7.5, STATIC, rotation=38)
    words(axes, 9.45, 2.82, "Depth", 9.5, weight="bold")
    words(axes, 9.45, 0.24, "in the scale of\ncameras and points", 7.8)
    return figure


def mask() -> plt.Figure:
    """Which layers have the mask, and which queries it hides what from."""
    figure, axes = canvas(10.6, 4.3)
    steps = [
        (0.1, 1.15, "Frames", INK, "S images"),
        (1.65, 1.3, "Encoder", INK, "patch tokens"),
        (3.35, 1.6, "Layers 0 to 9", FIELD, "in a frame, then\nover all frames"),
        (5.75, 1.7, "Layers 10 to 19", MOVING, "the same,\nwith the mask"),
        (7.85, 1.1, "20 to 23", FIELD, "as before"),
        (9.35, 1.15, "Heads", IMAGE, "cameras,\ndepth, points"),
    ]
    for (x, width, *_), (following, *_) in pairwise(steps):
        arrow(axes, (x + width, 3.7), (following, 3.7))
    for x, width, *label in steps:
        box(axes, x, 3.22, width, 0.95, *label)
    box(axes, 4.35, 1.85, 1.6, 0.95, "Mask head", MOVING, "how much does\neach patch move?")
    arrow(axes, (5.35, 3.7), (5.2, 2.8), MOVING)
    arrow(axes, (5.95, 2.4), (6.6, 3.22), MOVING)

    # Queries are rows, keys columns: camera and registers in one cell, then twelve patches, of two frames.
    left, bottom, cell, moving = 6.45, 0.3, 0.096, (5, 6, 10, 11)
    size = 26 * cell
    axes.add_patch(Rectangle((left, bottom), size, size, fc="#e6ebf1", ec="none"))
    for frame in range(2):
        row = bottom + size - (13 * frame + 1) * cell
        axes.add_patch(Rectangle((left, row), size, cell, fc="#b9d0e8", ec="none"))
        for column in moving:
            for other in range(2):
                axes.add_patch(Rectangle((left + (13 * other + column) * cell, row), cell, cell, fc=MOVING, ec="none"))
        words(axes, left + size + 0.12, row + cell / 2, "camera and register queries", 7.5, ha="left")
        words(axes, left + size + 0.12, row - 6 * cell, "patch queries", 7.5, ha="left")
        words(axes, left + (6.5 + 13 * frame) * cell, bottom - 0.13, f"keys of frame {frame + 1}", 7.2, STATIC)
    for i in range(27):
        width = 1.6 if i == 13 else 0.4
        axes.plot([left + i * cell] * 2, [bottom, bottom + size], color="white", lw=width)
        axes.plot([left, left + size], [bottom + i * cell] * 2, color="white", lw=width)
    words(axes, 1.95, 2.1, "The mask hides moving patches from the\nqueries that tell the cameras.", 8.5, MOVING)
    words(axes, 1.95, 1.45, "Patches still attend to all patches:\nthe depth of what moves needs them.", 8.5)
    return figure


def refinement(folder: Path, model: str) -> plt.Figure:
    """The camera's path as the network predicts it and after bundle adjustment, beside the capture's own."""
    from page4d_hf import reconstruct
    from page4d_hf.captures import as_pinhole, read_capture
    from page4d_hf.geometry import align_sim3
    from page4d_hf.scene.drawing import camera_centers

    capture = read_capture(folder)
    chosen = capture.splits.get("train", np.arange(len(capture)))
    images = as_pinhole(capture, 1)
    frames = [np.asarray(images.load_image(i)) for i in chosen]
    truth = camera_centers(capture.extrinsics[chosen])
    extent = np.sqrt(((truth - truth.mean(axis=0)) ** 2).sum(axis=1).mean())
    axes_of_the_path = np.linalg.svd(truth - truth.mean(axis=0))[2][:2]

    figure, panels = plt.subplots(1, 2, figsize=(10.6, 3.6), sharex=True, sharey=True)
    for panel, refine, title in zip(panels, ("off", "auto"), ("The network's cameras", "Refined"), strict=True):
        scene = reconstruct(frames, model, refine=refine, motion="off")
        found = camera_centers(scene.extrinsics)
        found = align_sim3(found, truth).apply_to_points(found)
        error = np.sqrt(((found - truth) ** 2).sum(axis=1).mean()) / extent
        for places, color, name in ((truth, STATIC, "the capture's"), (found, MOVING, "page4d")):
            across, along = axes_of_the_path @ (places - truth.mean(axis=0)).T / extent
            panel.plot(across, along, "o-", color=color, ms=2.5, lw=1.2, label=name)
        panel.set_title(f"{title}: ATE {error:.1%} of the path's extent", size=10, color=INK)
        panel.set_aspect("equal")
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=8)
    panels[0].legend(frameon=False, fontsize=8.5)
    figure.tight_layout()
    return figure


if __name__ == "__main__":
    tyro.cli(Figures, description=__doc__).main()
