"""Cameras of captures with and without refinement, against the captures' own.

page4d pull tiny --output page4d
page4d synth room
python benchmarks/reconstruct.py --model page4d --captures room path/to/hand-on-shelf
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "evaluation"))  # its metrics


@dataclass
class ReconstructOptions:
    """Reconstructs each capture's training frames twice, and compares cameras after a Sim(3)."""

    captures: tuple[Path, ...]
    """Captures with cameras of their own, in any layout that page4d reads."""
    model: str = "page4d"
    """Folder of the weights, or their repository on the Hub."""


def main(options: ReconstructOptions) -> None:
    from evaluator.metrics.trajectories import camera_figures, camera_to_world

    from page4d_hf import reconstruct
    from page4d_hf.captures import as_pinhole, read_capture
    from page4d_hf.frames import Frames

    print("| capture | frames | cameras | ATE | of the path | rotation, degrees | seconds of CPU | |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for path in options.captures:
        capture = read_capture(path)
        chosen = capture.splits.get("train", np.arange(len(capture)))
        images, times = as_pinhole(capture, 1), capture.times[chosen]
        names = [capture.frame_ids[i] for i in chosen]
        frames = Frames([images.load_image(i) for i in chosen], names, times, None, str(path))
        truth = capture.extrinsics[chosen]
        centers = camera_to_world(truth)[:, :3, 3]
        extent = np.sqrt(((centers - centers.mean(axis=0)) ** 2).sum(axis=1).mean())
        for refine in ("off", "auto"):
            started = time.process_time()
            made = reconstruct(frames, options.model, refine=refine)
            seconds = time.process_time() - started
            figures = camera_figures(made.extrinsics, truth)
            told = made.info["refinement"]["outcome"] if refine == "auto" else "the network's"
            print(
                f"| {path.name} | {len(chosen)} | {'network' if refine == 'off' else 'refined'} | {figures['ate']:.4f} "
                f"| {figures['ate'] / extent:.2%} | {figures['rpe_rotation']:.3f} | {seconds:.1f} | {told} |",
                flush=True,
            )


if __name__ == "__main__":
    main(tyro.cli(ReconstructOptions))
