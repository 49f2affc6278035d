"""Clips of any length through the network: in windows that overlap, each aligned to the last.

Memory holds one window of frames at the network's size, whatever the length of the clip, and the maps of all frames.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import fields
from itertools import repeat
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import Page4DError
from ..geometry import Similarity, align_sim3_robustly, camera_centers
from ..image_processing_page4d import Page4DImageProcessor
from ..utils.progress import Progress
from .network import NetworkInput, NetworkOptions, Prediction, predict, prepare

WINDOW = 100  # frames that go through the network at once: the full one takes 20 GB of a GPU for them
STATIC = 0.5  # of the motion mask, up to which a pixel counts as static
PIXELS_PER_FRAME = 1000  # of an overlap that are compared
CAMERAS_SHARE = 0.5  # of the weight of an alignment, that camera centres have beside points


def resolve_overlap(window: int | None, overlap: int | None) -> int:
    """Least number of frames that windows share: `overlap`, or by default a quarter of a window."""
    if window is None:
        return 0
    if window < 4:
        raise Page4DError(f"Expected windows of at least 4 frames, got {window}; take a larger --window.")
    if overlap is None:
        return max(window // 4, 2)
    if not 2 <= overlap <= window // 2:
        raise Page4DError(
            f"Expected an overlap from 2 frames to half of a window of {window}, got {overlap}; change --overlap or "
            "--window."
        )
    return overlap


def window_spans(count: int, window: int | None, overlap: int) -> list[range]:
    """Windows of equal length over `count` frames, which overlap by at least `overlap`; one where all frames fit."""
    if window is None or count <= window:
        return [range(count)]
    number = math.ceil((count - overlap) / (window - overlap))
    starts = np.linspace(0, count - window, number).round().astype(int).tolist()
    return [range(start, start + window) for start in starts]


def predict_in_windows(
    network: Any,
    processor: Page4DImageProcessor,
    images: Iterable[npt.NDArray[Any]],
    spans: list[range],
    options: NetworkOptions,
    report: Progress,
    visible: Iterable[npt.NDArray[Any]] | None = None,
) -> Prediction:
    """Run the network on a clip, in the world of its first frame.

    `spans` are the frames of each window, see `window_spans`. Images, and `visible`, `(H, W)` bool of each frame, false
    where the network's cameras are not to look, are gone through once.
    """
    stream = zip(images, repeat(None) if visible is None else visible, strict=False)
    inputs: list[NetworkInput] = []
    whole: Prediction | None = None
    for number, span in enumerate(spans):
        if whole is not None:
            inputs = inputs[span.start - len(whole) :]  # of the frames that both windows have
        while len(inputs) < len(span):
            report("resizing", span.start + len(inputs), spans[-1].stop)
            image, shown = next(stream)
            inputs.append(prepare(image, processor, network.config.patch_size, options, shown))
        report("resizing", span.stop, spans[-1].stop)
        if len(spans) > 1:
            report("windows", number, len(spans))
        seen = predict(network, inputs, options, report)
        whole = seen if whole is None else join(whole, seen, span.start)
    if len(spans) > 1:
        report("windows", len(spans), len(spans))
    assert whole is not None
    return whole


def join(before: Prediction, after: Prediction, start: int) -> Prediction:
    """Two windows as one, in the world of the first; each gives its own half of the overlap, which begins at frame
    `start`.
    """
    overlap = len(before) - start
    change = align_windows(before, after, start)
    moved = {
        "extrinsics": change.apply_to_extrinsics(after.extrinsics),
        "depth": [(change.scale * depth).astype(np.float32) for depth in after.depth],
        "followed": _numbered_on(before, after),
        "points": after.points and [change.apply_to_points(points).astype(np.float32) for points in after.points],
    }
    kept, left = start + overlap // 2, overlap // 2
    joined: dict[str, Any] = {}
    for name in (field.name for field in fields(Prediction)):
        one: Any = getattr(before, name)
        other: Any = moved.get(name, getattr(after, name))
        if isinstance(one, np.ndarray):
            joined[name] = np.concatenate((one[:kept], other[left:]))
        else:
            joined[name] = None if one is None else one[:kept] + other[left:]
    return Prediction(**joined)


def _numbered_on(before: Prediction, after: Prediction) -> list[tuple[npt.NDArray[Any], npt.NDArray[Any]]] | None:
    """What a window follows, with numbers that the windows before have not given."""
    if before.followed is None or after.followed is None:
        return None
    taken = 1 + max((int(numbers.max()) for numbers, _ in before.followed if len(numbers)), default=-1)
    return [(numbers + taken, xy) for numbers, xy in after.followed]


def align_windows(before: Prediction, after: Prediction, start: int) -> Similarity:
    """The Sim(3) from the world of one window to that of another, by what both see in the frames of their overlap.

    Camera centres and the points of confident static pixels are carried onto each other; see `align_sim3_robustly`.
    `start` is where `after` begins.
    """
    source, target, distances = [], [], []
    for place in range(len(before) - start):
        pixels = _comparable(before, start + place, after, place)
        target.append(before.lifted(start + place).reshape(-1, 3)[pixels])
        source.append(after.lifted(place).reshape(-1, 3)[pixels])
        distances.append(before.depth[start + place].reshape(-1)[pixels])
    frames = len(source)
    if sum(map(len, source)) < 3:
        raise Page4DError(
            f"Frames {start} to {len(before) - 1} show nothing that aligns the windows on both sides of them; take a "
            "larger --overlap or --window."
        )
    typical = float(np.median(np.concatenate(distances)))
    centers = [camera_centers(each.extrinsics) for each in (after, before)]
    points = (np.concatenate(source), np.concatenate(target), np.concatenate(distances), 1 - CAMERAS_SHARE)
    cameras = (centers[0][:frames], centers[1][start:], np.full(frames, typical), CAMERAS_SHARE)  # which are much surer
    return align_sim3_robustly((points, cameras))


def _comparable(before: Prediction, i: int, after: Prediction, j: int) -> npt.NDArray[Any]:
    """Flat indices of pixels whose points in two windows can be compared: confident, static, spread over the frame."""
    depths = before.depth[i], after.depth[j]
    if depths[0].shape != depths[1].shape:  # frames of several sizes are padded by the largest of their window
        return np.zeros(0, np.int64)
    known = (np.isfinite(depths[0]) & np.isfinite(depths[1]) & (depths[0] > 0) & (depths[1] > 0)).reshape(-1)
    static = known.copy()
    for prediction, frame in ((before, i), (after, j)):
        if prediction.motion is not None:
            static &= prediction.motion[frame].reshape(-1) < STATIC
    if static.sum() < 0.05 * known.sum():
        static = known  # a mask that leaves nothing says nothing
    confidence = np.minimum(before.depth_conf[i], after.depth_conf[j]).reshape(-1)
    chosen = np.flatnonzero(static)
    if len(chosen):
        chosen = chosen[confidence[chosen] >= np.median(confidence[chosen])]
    return chosen[:: 1 + len(chosen) // PIXELS_PER_FRAME]
