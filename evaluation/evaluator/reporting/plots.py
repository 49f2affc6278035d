"""Pictures of what a method says of a sequence, beside the truth."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from page4d_hf.geometry import align_sim3, camera_centers
from page4d_hf.utils.evenly import evenly

from ..predictions import Predictions
from ..sequences import EvaluatedSequence

SHOWN = 4  # frames in a picture of some frames
DPI = 100
GREATEST_ERROR = 0.5  # |d - d*| / d* that error maps end at
FRAMES_PER_SECOND = 12
VIDEO_HEIGHT = 240
VIDEO_NAME = "depth.mp4"


def draw_sequence(folder: Path, sequence: EvaluatedSequence, predictions: Predictions) -> list[str]:
    """Draw all that predictions and ground truth of the same frames give: trajectory.png, errors.png, motion.png and
    `VIDEO_NAME`. Gives the names of those that were written.
    """
    drawn = {
        "trajectory.png": lambda path: draw_trajectory(path, sequence, predictions),
        "errors.png": lambda path: draw_errors(path, sequence, predictions),
        "motion.png": lambda path: draw_motion(path, sequence, predictions),
        VIDEO_NAME: lambda path: write_depth_video(path, sequence, predictions),
    }
    return [name for name, draw in drawn.items() if draw(folder / name)]


def draw_trajectory(path: Path, sequence: EvaluatedSequence, predictions: Predictions) -> bool:
    """Camera centres from above and from the side, the predicted ones aligned by a Sim(3).

    Returns:
        Whether there was anything to draw: no predicted cameras, or a path that determines no Sim(3), draws nothing.
    """
    if predictions.extrinsics is None:
        return False
    truth, predicted = map(camera_centers, (sequence.frames.capture.extrinsics, predictions.extrinsics))
    try:
        predicted = align_sim3(predicted, truth).apply_to_points(predicted)
    except ValueError:
        return False
    # The two directions in which the path is widest come first, whichever way the world is turned.
    _, _, axes = np.linalg.svd(truth - truth.mean(0), full_matrices=True)
    truth, predicted = (truth - truth.mean(0)) @ axes.T, (predicted - truth.mean(0)) @ axes.T
    figure = Figure(figsize=(9, 4), layout="constrained")
    unit = "m" if sequence.frames.capture.scale == "metres" else "world unit"
    for place, (across, up) in enumerate(((0, 1), (0, 2))):
        plot = figure.add_subplot(1, 2, place + 1)
        plot.plot(truth[:, across], truth[:, up], "-o", color="0.4", markersize=3, label="ground truth")
        plot.plot(
            predicted[:, across], predicted[:, up], "-o", color="tab:red", markersize=3, label="predicted, Sim(3)"
        )
        for pair in np.stack((truth, predicted), axis=1):
            plot.plot(pair[:, across], pair[:, up], color="tab:red", linewidth=0.5, alpha=0.5)
        plot.set_aspect("equal", adjustable="datalim")
        plot.set_xlabel(f"principal axis {across + 1} ({unit})")
        plot.set_ylabel(f"principal axis {up + 1} ({unit})")
    plot.legend(fontsize="small")
    figure.suptitle(f"{sequence.name}; predicted cameras aligned by a Sim(3)")
    figure.savefig(path, dpi=DPI)
    return True


def draw_errors(path: Path, sequence: EvaluatedSequence, predictions: Predictions) -> bool:
    """Some frames with their true depth, the predicted depth and its relative error.

    The predicted depth is scaled by the median ratio over all of the sequence's pixels, which need not be the
    protocol's alignment.

    Returns:
        Whether there was anything to draw: no predicted depth or no true depth draws nothing.
    """
    if predictions.depth is None:
        return False
    truths = {i: depth for i in range(len(sequence.frames)) if (depth := sequence.frames.load_depth(i)) is not None}
    ratios = []
    for i, truth in truths.items():
        predicted = _resized(predictions.depth[i], truth.shape)
        valid = (truth > 0) & _given(predicted)
        ratios.append(truth[valid] / predicted[valid])
    if not sum(map(len, ratios)):
        return False
    scale = float(np.median(np.concatenate(ratios)))
    shown = [list(truths)[place] for place in evenly(len(truths), SHOWN)]
    known = np.concatenate([truths[i][truths[i] > 0] for i in shown])
    low, high = np.percentile(known, (2, 98)) if len(known) else (0.0, 1.0)
    figure = Figure(figsize=(3 * len(shown) + 1, 8), layout="constrained")
    panels = _panels(figure, 4, len(shown))
    for column, i in enumerate(shown):
        truth, predicted = truths[i], scale * _resized(predictions.depth[i], truths[i].shape)
        valid = (truth > 0) & _given(predicted)
        error = np.where(valid, np.abs(predicted - truth) / np.where(valid, truth, 1), np.nan)
        image, true_depth, predicted_depth, errors = panels[:, column]
        image.set_title(sequence.frames.capture.frame_ids[i], fontsize="small")
        image.imshow(_rgb(sequence, i))
        depths = {true_depth: np.where(truth > 0, truth, np.nan)}
        depths[predicted_depth] = np.where(_given(predicted), predicted, np.nan)
        for panel, values in depths.items():
            depth_colours = panel.imshow(values, cmap="viridis", vmin=low, vmax=high)
        error_colours = errors.imshow(error, cmap="magma", vmin=0, vmax=GREATEST_ERROR)
    figure.colorbar(depth_colours, ax=list(panels[1]), label="true depth")
    figure.colorbar(depth_colours, ax=list(panels[2]), label="predicted depth")
    figure.colorbar(error_colours, ax=list(panels[3]), label="relative error")
    figure.suptitle(f"{sequence.name}; predicted depth times {scale:.4g}, the median ratio")
    figure.savefig(path, dpi=DPI)
    return True


def draw_motion(path: Path, sequence: EvaluatedSequence, predictions: Predictions) -> bool:
    """Some frames with the predicted motion laid over them, and the outline of what moves in truth.

    Returns:
        Whether there was anything to draw: neither predicted motion nor true masks draw nothing.
    """
    frames = sequence.frames
    shown = evenly(len(frames), SHOWN)
    masks = [frames.load_motion_mask(i) for i in shown]
    if predictions.motion is None and all(mask is None for mask in masks):
        return False
    figure = Figure(figsize=(4 * len(shown) + 1, 3.5), layout="constrained")
    panels = _panels(figure, 1, len(shown))
    for panel, i, mask in zip(panels[0], shown, masks, strict=True):
        panel.set_title(frames.capture.frame_ids[i], fontsize="small")
        image = _rgb(sequence, i)
        panel.imshow(image)
        if predictions.motion is not None:
            motion = _resized(predictions.motion[i], image.shape[:2])
            colours = panel.imshow(motion, cmap="inferno", vmin=0, vmax=1, alpha=0.55)
        if mask is not None and mask.any() and not mask.all():
            panel.contour(mask, levels=[0.5], colors="cyan", linewidths=1)
    if predictions.motion is not None:
        figure.colorbar(colours, ax=list(panels[0]), label="predicted motion")
    figure.suptitle(f"{sequence.name}; outlined: what moves in truth")
    figure.savefig(path, dpi=DPI)
    return True


def write_depth_video(path: Path, sequence: EvaluatedSequence, predictions: Predictions) -> bool:
    """The frames and, beside them, the predicted depth, as a video. Near is bright; the colours' range is one for all.

    Returns:
        Whether there was anything to write: no predicted depth writes nothing.
    """
    depth = predictions.depth
    if depth is None or not _given(depth).any():
        return False
    inverse = np.where(_given(depth), 1 / np.where(_given(depth), depth, 1), np.nan)
    low, high = np.nanpercentile(inverse, (2, 98))
    colormap = matplotlib.colormaps["inferno"]

    sizes = sequence.frames.image_sizes  # a video has one size: narrower frames get black beside them
    widths = np.maximum(np.round(sizes[:, 0] / sizes[:, 1] * VIDEO_HEIGHT / 2).astype(int) * 2, 2)

    def pictures() -> Iterator[npt.NDArray[np.uint8]]:
        for i, (values, width) in enumerate(zip(inverse, widths.tolist(), strict=True)):
            shares = np.nan_to_num((values - low) / max(high - low, 1e-12))
            coloured = np.round(255 * colormap(shares.clip(0, 1))[..., :3]).astype(np.uint8)
            picture = np.zeros((VIDEO_HEIGHT, 2 * widths.max(), 3), np.uint8)
            for half, part in zip(np.split(picture, 2, axis=1), (_rgb(sequence, i), coloured), strict=True):
                left = (half.shape[1] - width) // 2
                half[:, left : left + width] = cv2.resize(part, (width, VIDEO_HEIGHT), interpolation=cv2.INTER_AREA)
            yield picture

    with av.open(str(path), "w") as container:
        stream = None
        for picture in pictures():
            if stream is None:
                stream = container.add_stream("libx264", rate=Fraction(FRAMES_PER_SECOND))
                stream.width, stream.height, stream.pix_fmt = picture.shape[1], picture.shape[0], "yuv420p"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        assert stream is not None
        container.mux(stream.encode())
    return True


def _given(depth: np.ndarray) -> npt.NDArray[np.bool_]:
    return np.isfinite(depth) & (depth > 0)


def _resized(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return cv2.resize(values.astype(np.float32), (shape[1], shape[0]), interpolation=cv2.INTER_NEAREST)


def _rgb(sequence: EvaluatedSequence, index: int) -> npt.NDArray[np.uint8]:
    return np.ascontiguousarray(sequence.frames.load_image(index)[..., :3])


def _panels(figure: Figure, rows: int, columns: int) -> np.ndarray:
    """Axes `(rows, columns)` for images."""
    panels = figure.subplots(rows, columns, squeeze=False)
    for panel in panels.flat:
        panel.set_axis_off()
    return panels
