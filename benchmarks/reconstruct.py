"""Cameras of captures with and without refinement, against the captures' own; time and memory by number of frames.

page4d pull tiny --output page4d
page4d synth room
python benchmarks/reconstruct.py --model page4d --captures room path/to/hand-on-shelf

page4d synth orbit --scene orbit --num-frames 200 --held-out-every 200 --supersampling 1
python benchmarks/reconstruct.py --model page4d --captures orbit --frames 50 200
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro

from page4d_hf.utils.programs import input_errors_end_the_program

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "evaluation"))  # its metrics

STAGES = ("resizing", "network", "tracks", "adjustment")  # columns of seconds
COLUMNS = ("capture", "frames", "cameras", "ATE", "of the path", "drift", "rotation, degrees", *STAGES, "in all", "GiB")


@dataclass
class ReconstructOptions:
    """Reconstructs each capture's training frames, and compares cameras after a Sim(3)."""

    captures: tuple[Path, ...]
    """Captures with cameras of their own, in any layout that page4d reads."""
    model: str = "page4d"
    """Folder of the weights, or their repository on the Hub."""
    frames: tuple[int, ...] = ()
    """Numbers of frames, rising, from the first on. All of them by default."""
    window: int = 100
    """Frames that go through the network at once."""
    refine: tuple[Literal["off", "auto"], ...] = ("off", "auto")
    """The network's cameras, refined ones, or both."""
    mode: Literal["crop", "balanced", "pad", "square"] | None = None
    """How frames are brought to the network's size. By default what the model's image processor says."""
    overlap: int | None = None
    """Least number of frames that windows share. By default a quarter of a window."""


class Stages:
    """Seconds of CPU of each stage of a reconstruction; a `Progress`."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.stage, self.since = "", time.process_time()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Count what has passed since the last call towards the stage that was reported then."""
        now = time.process_time()
        self.seconds[self.stage] += now - self.since
        self.stage, self.since = stage if done < total else "", now


def drift(found: np.ndarray, expected: np.ndarray) -> float:
    """How far the way from the first of camera centres `(S, 3)` to the last is off after a Sim(3) of them all, by the
    path's length; of a loop, the gap."""
    from page4d_hf.geometry import align_sim3

    moved = align_sim3(found, expected).apply_to_points(found)
    off = (moved[-1] - moved[0]) - (expected[-1] - expected[0])
    return float(np.linalg.norm(off) / np.linalg.norm(np.diff(expected, axis=0), axis=1).sum())


def main(options: ReconstructOptions) -> None:
    from evaluator.metrics.trajectories import camera_figures, score_still_camera

    from page4d_hf import reconstruct
    from page4d_hf.captures import as_pinhole, read_capture
    from page4d_hf.frames import Frames
    from page4d_hf.geometry import camera_centers
    from page4d_hf.utils.lazy_images import LazyImages
    from page4d_hf.utils.measuring import peak_memory

    print("| " + " | ".join((*COLUMNS, "")) + " |")
    print("| --- " * (len(COLUMNS) + 1) + "|")
    for path in options.captures:
        capture = read_capture(path)
        train = capture.splits.get("train", np.arange(len(capture)))
        images = as_pinhole(capture, 1)
        for count in options.frames or (len(train),):
            chosen = train[:count]
            frames = Frames(
                LazyImages.read(chosen.tolist(), partial(map, images.load_image)),
                [capture.frame_ids[i] for i in chosen],
                capture.times[chosen],
                None,
                str(path),
            )
            truth = capture.extrinsics[chosen]
            extent = score_still_camera(truth)["ate"]
            for refine in options.refine:
                stages, started = Stages(), time.process_time()
                made = reconstruct(
                    frames,
                    options.model,
                    refine=refine,
                    window=options.window,
                    overlap=options.overlap,
                    mode=options.mode,
                    motion="off",  # which cameras do not follow
                    progress=stages,
                )
                seconds = time.process_time() - started
                figures = camera_figures(made.extrinsics, truth)
                cells = (
                    path.name,
                    len(chosen),
                    "network" if refine == "off" else "refined",
                    f"{figures['ate']:.4f}",
                    f"{figures['ate'] / extent:.2%}",
                    f"{drift(camera_centers(made.extrinsics), camera_centers(truth)):.2%}",
                    f"{figures['rpe_rotation']:.3f}",
                    *(f"{stages.seconds[stage]:.1f}" for stage in STAGES),
                    f"{seconds:.1f}",
                    f"{peak_memory(torch.device('cpu')) / 2**30:.1f}",
                    made.info["refinement"]["outcome"] if refine == "auto" else "the network's",
                )
                print("| " + " | ".join(map(str, cells)) + " |", flush=True)


if __name__ == "__main__":
    with input_errors_end_the_program("reconstruct"):
        main(tyro.cli(ReconstructOptions))
