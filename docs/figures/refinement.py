"""Draws docs/images/refinement.svg: a camera's path by the network and refined, over the capture's own.

python docs/figures/refinement.py --capture path/to/hand-on-shelf --model page4d
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
import tyro
from matplotlib import pyplot as plt

from page4d_hf import reconstruct
from page4d_hf.captures import as_pinhole, read_capture
from page4d_hf.geometry import align_sim3, camera_centers

OUTPUT = Path(__file__).parents[1] / "images/refinement.svg"
INK, STATIC, MOVING = "#26303c", "#8a97a8", "#d9663a"


def main(capture: Path, model: str = "page4d") -> None:
    """Draw the figure.

    Args:
        capture: one with cameras of its own, in any layout that page4d reads.
        model: folder of the weights that reconstruct it.
    """
    # Letters as shapes: the same on every machine. No date and no random names: the same file at every run.
    mpl.rcParams.update({"font.family": "DejaVu Sans", "svg.fonttype": "path", "svg.hashsalt": "page4d"})
    read = read_capture(capture)
    chosen = read.splits.get("train", np.arange(len(read)))
    images = as_pinhole(read, 1)
    frames = [np.asarray(images.load_image(i)) for i in chosen]
    truth = camera_centers(read.extrinsics[chosen])
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
    figure.savefig(OUTPUT, metadata={"Date": None}, facecolor="white")
    print(f"Wrote {OUTPUT}, {OUTPUT.stat().st_size / 1000:.0f} kB.")


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
