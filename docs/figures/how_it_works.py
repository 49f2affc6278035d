"""Draws docs/images/how-it-works.svg: from a capture to an image at time t.

python docs/figures/how_it_works.py
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Circle, Ellipse, FancyArrowPatch, FancyBboxPatch, Polygon

OUTPUT = Path(__file__).parents[1] / "images/how-it-works.svg"
INK, PALE = "#26303c", "#f3f5f8"
STATIC, MOVING, FIELD, IMAGE = "#8a97a8", "#d9663a", "#3c7dbd", "#4c9a6a"


def box(axes: Axes, x: float, y: float, width: float, height: float, title: str, color: str, lines: str = "") -> None:
    """A titled box with its lower left corner at (x, y)."""
    shape = FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0,rounding_size=0.12", fc=PALE, ec=color, lw=1.4)
    axes.add_patch(shape)
    axes.text(x + width / 2, y + height - 0.24, title, ha="center", va="center", size=9.5, weight="bold", color=INK)
    axes.text(
        x + width / 2, y + height / 2 - 0.18, lines, ha="center", va="center", size=7.9, color=INK, linespacing=1.4
    )


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], color: str = INK, **style: object) -> None:
    axes.add_patch(
        FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=11, lw=1.4, color=color, shrinkA=0, **style)
    )


def gaussians(axes: Axes, centre: tuple[float, float], color: str, count: int, seed: int, spread: float) -> None:
    """A handful of ellipses."""
    rng = np.random.default_rng(seed)
    for place in rng.uniform(-1, 1, size=(count, 2)) * (spread, 0.26):
        width, height = rng.uniform(0.12, 0.34), rng.uniform(0.07, 0.14)
        angle = rng.uniform(0, 180)
        axes.add_patch(Ellipse(place + centre, width, height, angle=angle, fc=color, ec="white", lw=0.5, alpha=0.75))


def planes(axes: Axes, x: float, y: float) -> None:
    """Six planes: three over space, three over space and time."""
    for index, name in enumerate(("xy", "xz", "yz", "xt", "yt", "zt")):
        left, bottom = x + 0.56 * (index % 3), y + 0.62 * (index < 3)
        corners = [(0, 0), (0.36, 0), (0.48, 0.4), (0.12, 0.4)]
        shape = [(left + dx, bottom + dy) for dx, dy in corners]
        axes.add_patch(Polygon(shape, fc=FIELD if index < 3 else MOVING, alpha=0.25, ec=INK, lw=0.8))
        for step in (1, 2, 3):
            ends = ((0.09 * step, 0.0), (0.09 * step + 0.12, 0.4)), ((0.03 * step, 0.1 * step),) * 2
            axes.plot([left + dx for dx, _ in ends[0]], [bottom + dy for _, dy in ends[0]], color=INK, lw=0.3)
            level = 0.1 * step
            axes.plot([left + 0.3 * level, left + 0.36 + 0.3 * level], [bottom + level] * 2, color=INK, lw=0.3)
        axes.text(left + 0.24, bottom + 0.2, name, ha="center", va="center", size=7.5, color=INK, style="italic")


def main() -> None:
    # Letters as shapes: the same on every machine. No date and no random names: the same file at every run.
    mpl.rcParams.update({"font.family": "DejaVu Sans", "svg.fonttype": "path", "svg.hashsalt": "page4d"})
    figure, axes = plt.subplots(figsize=(10.6, 4.0))
    axes.set(xlim=(0, 10.6), ylim=(0.25, 4.25), aspect="equal")
    axes.axis("off")
    figure.subplots_adjust(0, 0, 1, 1)

    box(
        axes,
        0.1,
        1.15,
        1.75,
        2.2,
        "Capture",
        INK,
        "images, times,\ncameras, points,\nwhat moves\n\n(of a plain video\nby PAGE-4D)",
    )
    box(axes, 2.35, 0.35, 1.85, 3.8, "Canonical Gaussians", INK)
    gaussians(axes, (3.27, 3.25), MOVING, 9, 4, 0.6)
    axes.text(3.27, 2.72, "moving", ha="center", size=8.5, color=MOVING, weight="bold")
    gaussians(axes, (3.27, 1.5), STATIC, 12, 7, 0.65)
    axes.text(3.27, 0.97, "static", ha="center", size=8.5, color=STATIC, weight="bold")
    axes.text(3.27, 0.5, "the flag follows splits,\nclones and prunes", ha="center", size=7, color=INK)

    box(axes, 4.75, 2.25, 2.0, 1.9, "HexPlane", FIELD)
    planes(axes, 4.95, 2.66)
    axes.text(5.75, 2.36, "multiplied, at several scales", ha="center", size=7, color=INK)
    box(axes, 7.1, 2.25, 1.3, 1.9, "Heads", FIELD, "Δ position\nΔ scale\nΔ rotation\n(Δ opacity,\nΔ colour)")
    box(axes, 7.1, 0.35, 1.3, 1.3, "At time t", MOVING, "all Gaussians,\nthose that move\nwhere they are")
    box(axes, 8.9, 0.35, 1.6, 1.3, "Rasteriser", IMAGE, "gsplat on CUDA,\ncompiled code\non a CPU")
    box(
        axes,
        8.9,
        2.25,
        1.6,
        1.9,
        "Image at t",
        IMAGE,
        "against the frame:\nL1 (and D-SSIM);\nits gradients grow\nand prune Gaussians",
    )

    arrow(axes, (1.85, 2.25), (2.35, 2.25))
    arrow(axes, (4.2, 3.2), (4.75, 3.2), MOVING)
    axes.add_patch(Circle((5.75, 1.72), 0.19, fc="white", ec=MOVING, lw=1.4))
    axes.text(5.75, 1.715, "t", ha="center", va="center", size=10, style="italic", color=MOVING)
    arrow(axes, (5.75, 1.91), (5.75, 2.25), MOVING)
    arrow(axes, (6.75, 3.2), (7.1, 3.2))
    arrow(axes, (7.75, 2.25), (7.75, 1.65), MOVING)
    arrow(axes, (4.2, 1.0), (7.1, 1.0), STATIC)
    axes.text(5.6, 0.8, "as they are: never deformed", ha="center", size=8, color=STATIC)
    arrow(axes, (8.4, 1.0), (8.9, 1.0))
    arrow(axes, (9.7, 1.65), (9.7, 2.25))
    figure.savefig(OUTPUT, metadata={"Date": None}, facecolor="white")
    print(f"Wrote {OUTPUT}, {OUTPUT.stat().st_size / 1000:.0f} kB.")


if __name__ == "__main__":
    main()
