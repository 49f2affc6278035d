"""Motion masks by the mask head, by geometry and by both, against a capture's own.

page4d pull tiny --output page4d
page4d synth room
python benchmarks/motion.py --model page4d --captures room
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tyro


@dataclass
class MotionOptions:
    """Reconstructs each capture's training frames, and compares motion masks at their own resolution."""

    captures: tuple[Path, ...]
    """Captures with motion masks, in any layout that page4d reads."""
    model: str = "page4d"
    """Folder of the weights, or their repository on the Hub. Without a mask head, geometry alone is compared."""


def main(options: MotionOptions) -> None:
    from page4d_hf import reconstruct
    from page4d_hf.captures import as_pinhole, read_capture
    from page4d_hf.errors import CaptureError
    from page4d_hf.frames import Frames
    from page4d_hf.reconstruction.motion import combine, geometric_motion
    from page4d_hf.utils.ranking import auroc

    print("| capture | truly moving | mask of | AUROC | IoU at .5 | best IoU | share above .5 | seconds of CPU |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for path in options.captures:
        capture = read_capture(path)
        chosen = capture.splits.get("train", np.arange(len(capture)))
        paths = [None if capture.motion_mask_paths is None else capture.motion_mask_paths[i] for i in chosen]
        if None in paths:
            raise CaptureError(f"{path} has no motion mask for each of its training frames.")
        images, names = as_pinhole(capture, 1), [capture.frame_ids[i] for i in chosen]
        frames = Frames([images.load_image(i) for i in chosen], names, capture.times[chosen], None, str(path))
        made = reconstruct(frames, options.model, motion="head" if _has_head(options.model) else "geometry")
        started = time.process_time()
        geometry = geometric_motion(frames.images, made.extrinsics, made.intrinsics, made.depth)
        seconds = time.process_time() - started
        masks = {"geometry": geometry}
        if _has_head(options.model) and made.motion is not None:
            masks = {"head": made.motion, **masks, "both": combine(made.motion, geometry)}
        size = geometry[0].shape[::-1]
        read = capture.read_motion_mask_file
        shares = [cv2.resize(read(p).astype(np.float32), size, interpolation=cv2.INTER_AREA) for p in paths if p]
        truth = np.stack(shares) >= 0.5
        for name, mask in masks.items():
            values = np.nan_to_num(np.stack(mask))
            best = max(_iou(values > threshold, truth) for threshold in np.linspace(0.05, 0.95, 19))
            cost = f"{seconds:.1f}" if name == "geometry" else ""
            print(
                f"| {path.name} | {truth.mean():.1%} | {name} | {auroc(values, truth):.3f} "
                f"| {_iou(values > 0.5, truth):.3f} | {best:.3f} | {(values > 0.5).mean():.1%} | {cost} |",
                flush=True,
            )


def _has_head(model: str) -> bool:
    from page4d_hf.weights.loading import load_config

    return load_config(model).mask_form is not None


def _iou(mask: np.ndarray, truth: np.ndarray) -> float:
    return float((mask & truth).sum() / max((mask | truth).sum(), 1))


if __name__ == "__main__":
    main(tyro.cli(MotionOptions))
