"""Motion masks by the mask head, by geometry and by both, against a capture's own; and cameras refined by each.

page4d pull tiny --output page4d
page4d synth room
python benchmarks/motion.py --model page4d --captures room
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import tyro

from page4d_hf.utils.programs import input_errors_end_the_program

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "evaluation"))  # its metrics


@dataclass
class MotionOptions:
    """Reconstructs each capture's training frames, and compares motion masks at their own resolution.

    Cameras are refined from the network's once by each mask, of which the refinement makes what it always does: it is
    left aside where tracks agree better without.
    """

    captures: tuple[Path, ...]
    """Captures with motion masks, in any layout that page4d reads."""
    model: str = "page4d"
    """Folder of the weights, or their repository on the Hub. Without a mask head, geometry alone is compared."""


def main(options: MotionOptions) -> None:
    from evaluator.metrics.trajectories import camera_figures, score_still_camera

    from page4d_hf import reconstruct
    from page4d_hf.captures import as_pinhole, read_capture
    from page4d_hf.errors import CaptureError
    from page4d_hf.frames import Frames
    from page4d_hf.reconstruction.cameras.refinement import refine
    from page4d_hf.reconstruction.motion import combine, geometric_motion
    from page4d_hf.utils.ranking import auroc

    columns = ("AUROC", "IoU at .5", "best IoU", "share above .5", "seconds of CPU", "ATE refined by it", "of the path")
    print("| " + " | ".join(("capture", "mask of", *columns)) + " |")
    print("| --- " * (len(columns) + 2) + "|")
    for path in options.captures:
        capture = read_capture(path)
        chosen = capture.splits.get("train", np.arange(len(capture)))
        paths = [None if capture.motion_mask_paths is None else capture.motion_mask_paths[i] for i in chosen]
        if None in paths:
            raise CaptureError(f"{path} has no motion mask for each of its training frames.")
        images, names = as_pinhole(capture, 1), [capture.frame_ids[i] for i in chosen]
        frames = Frames([images.load_image(i) for i in chosen], names, capture.times[chosen], None, str(path))
        head = "head" if _has_head(options.model) else "off"
        network = reconstruct(frames, options.model, refine="off", motion=head)
        focal = float(np.sqrt(np.median(network.intrinsics[:, 0, 0]) * np.median(network.intrinsics[:, 1, 1])))
        refined = partial(refine, frames.images, network.extrinsics, focal, network.depth)

        by_head = refined(network.motion)
        started = time.process_time()
        geometry = geometric_motion(frames.images, by_head.extrinsics, by_head.intrinsics, by_head.depth)
        seconds = time.process_time() - started
        size = geometry[0].shape[::-1]
        read = capture.read_motion_mask_file
        shares = [cv2.resize(read(p).astype(np.float32), size, interpolation=cv2.INTER_AREA) for p in paths if p]
        truth = np.stack(shares) >= 0.5
        masks: dict[str, list[np.ndarray] | None] = {"none": None, "geometry": geometry}
        if network.motion is not None:
            masks |= {"head": network.motion, "both": combine(network.motion, geometry)}
        masks["truth"] = list(truth.astype(np.float32))

        expected = capture.extrinsics[chosen]
        extent = score_still_camera(expected)["ate"]
        for name, mask in masks.items():
            cells = [""] * 5
            if name == "truth":
                cells[3] = f"{truth.mean():.1%}"
            elif mask is not None:
                values = np.nan_to_num(np.stack(mask))
                best = max(_iou(values > threshold, truth) for threshold in np.linspace(0.05, 0.95, 19))
                cells = [f"{value:.3f}" for value in (auroc(values, truth), _iou(values > 0.5, truth), best)]
                cells += [f"{(values > 0.5).mean():.1%}", f"{seconds:.1f}" if name == "geometry" else ""]
            found = by_head if mask is network.motion else refined(mask)
            ate = camera_figures(found.extrinsics, expected)["ate"]
            print("| " + " | ".join((path.name, name, *cells, f"{ate:.4f}", f"{ate / extent:.2%}")) + " |", flush=True)


def _has_head(model: str) -> bool:
    from page4d_hf.weights.loading import load_config

    return load_config(model).mask_form is not None


def _iou(mask: np.ndarray, truth: np.ndarray) -> float:
    return float((mask & truth).sum() / max((mask | truth).sum(), 1))


if __name__ == "__main__":
    with input_errors_end_the_program("motion"):
        main(tyro.cli(MotionOptions))
