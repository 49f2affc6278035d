"""A trained scene as one HTML file: Gaussians over time, and the WebGL 2 program that shows them (`page/`).

Static Gaussians are stored once, moving ones at keyframes between which the page interpolates. Numbers are quantised:

    position    3 x 16 bits of the box of a chunk of neighbours over all keyframes
    rotation    4 x 12 bits, quaternion xyzw, which changes its sign from no keyframe to the next
    scale       3 x 8 bits of the range of the logarithms
    opacity     8 bits
    colour      3 x 8 bits of the range: 0.5 and the harmonic of degree 0
    harmonics   8 bits of the range, of degrees from 1 on; they do not change over time

Each array is [keyframes, channels, Gaussians], as differences from one keyframe to the next. Of numbers wider than a
byte all low bytes come first. All arrays together are packed by zlib.
"""

from __future__ import annotations

import base64
import html
import json
import math
import zlib
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from page4d_hf.package_version import page4d_version
from page4d_hf.utils.evenly import evenly
from page4d_hf.utils.folders import whole_file
from page4d_hf.utils.progress import Progress

from .camera_paths import Views, median_depth
from .export import Run, Splats, splats_at
from .run_config import ExportError

MOST_KEYFRAMES = 64  # of a page; between them positions are linear
MOST_DEGREE = 3  # of the harmonics that the page knows
CHUNK = 256  # Gaussians that share a box, in which positions are quantised
FAINTEST = 1 / 255  # the rasteriser draws nothing fainter
SCALE_SPAN = 12.0  # a Gaussian e^12 times smaller than the largest is a point
OUTLIERS = 0.001  # share of colours, at either end, that are cut to the range of the others
DEGREE_0 = 0.28209479177387814  # the harmonic of degree 0

# A moving Gaussian is stored once where over the clip it changes by less: of its size, of the logarithms of scales and
# the components of the quaternion, of opacity and colour.
LEAST_MOVE, LEAST_TURN, LEAST_SHADE = 0.1, 0.03, 1 / 128


class Keyframes(NamedTuple):
    """Gaussians over time, in float32; F is 1 for those that are stored once."""

    position: npt.NDArray[Any]  # [F, 3, N]
    rotation: npt.NDArray[Any]  # [F, 4, N], xyzw, unit
    scale: npt.NDArray[Any]  # [F, 3, N], logarithms
    opacity: npt.NDArray[Any]  # [F, 1, N], in [0, 1]
    colour: npt.NDArray[Any]  # [F, 3, N]
    harmonics: npt.NDArray[Any]  # [1, 3 (K - 1), N], coefficient by coefficient

    @classmethod
    def of(cls, frames: list[Splats]) -> Keyframes:
        """Those of the same Gaussians at several times, with the harmonics of the middle one."""

        def stack(name: str) -> npt.NDArray[Any]:
            return np.stack([_columns(getattr(splats, name)).T for splats in frames])

        rotation = stack("quats")[:, [1, 2, 3, 0]]
        for before, after in pairwise(rotation):
            after *= np.where((before * after).sum(axis=0) < 0, -1, 1)
        rest = frames[len(frames) // 2].rest
        return cls(
            stack("means"),
            rotation,
            stack("scales"),
            expit(stack("opacities")),
            0.5 + DEGREE_0 * stack("dc"),
            _columns(rest).T[None],
        )

    @property
    def amount(self) -> int:
        """How many Gaussians there are."""
        return self.position.shape[2]

    def select(self, which: npt.NDArray[Any]) -> Keyframes:
        """Those of `which`, indices or [N] bool."""
        return Keyframes(*(values[..., which] for values in self))

    def at(self, frame: int) -> Keyframes:
        """Those of one keyframe."""
        return Keyframes(*(values[frame : frame + 1] if len(values) > 1 else values for values in self))

    def shown(self) -> npt.NDArray[Any]:
        """Which are finite throughout, and at some time not too faint to be drawn: [N] bool."""
        finite = np.all([np.isfinite(values).all(axis=(0, 1)) for values in self], axis=0)
        shown: npt.NDArray[np.bool_] = finite & (self.opacity.max(axis=(0, 1)) >= FAINTEST)
        return shown

    def changes(self) -> npt.NDArray[Any]:
        """Which change visibly over the keyframes: [N] bool."""

        def range_of(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
            largest: npt.NDArray[Any] = np.ptp(values, axis=0).max(axis=0)
            return largest

        size = np.exp(self.scale.max(axis=(0, 1)))
        move = np.linalg.norm(np.ptp(self.position, axis=0), axis=0) > LEAST_MOVE * size
        turn = np.maximum(range_of(self.rotation), range_of(self.scale)) > LEAST_TURN
        shade = np.maximum(range_of(self.opacity), range_of(self.colour)) > LEAST_SHADE
        changes: npt.NDArray[np.bool_] = move | turn | shade
        return changes

    def neighbours_together(self) -> Keyframes:
        """The same along a Morton curve through their places in the middle, by rank, so that strays stretch nothing."""
        ranks = self.position[len(self.position) // 2].argsort(axis=1).argsort(axis=1)  # [3, N]
        cells = (ranks * 1024 // max(1, ranks.shape[1])).astype(np.int64)
        bits = [(cells[axis] >> bit & 1) << (3 * bit + axis) for axis in range(3) for bit in range(10)]
        return self.select(np.argsort(np.sum(bits, axis=0), kind="stable"))


def keyframes_of(
    run: Run, degree: int, most: int, progress: Progress | None = None
) -> tuple[npt.NDArray[Any], Keyframes, Keyframes]:
    """Times [F], Gaussians that move, at these times, and those that do not.

    Args:
        run: the training.
        degree: of the harmonics to keep.
        most: keyframes, evenly of the instants of which there are frames.
        progress: called with what is done.

    Raises:
        ExportError: no Gaussian is to be seen at any time.
    """
    model = run.model
    may_move = model.in_motion.cpu().numpy() if model.deforms else np.zeros(model.num_points, bool)
    times = run.times if len(run.times) else np.linspace(0, 1, most)
    times = times[evenly(len(times), most if may_move.any() else 1)]
    middle = len(times) // 2
    frames = []
    for index, time in enumerate(times):
        splats = splats_at(model, float(time))
        splats = splats._replace(rest=splats.rest[:, : (degree + 1) ** 2 - 1])
        if index == middle:
            still = Keyframes.of([_select(splats, ~may_move)])
        else:
            splats = splats._replace(rest=splats.rest[:, :0])  # as that of the middle is kept
        frames.append(_select(splats, may_move))
        if progress is not None:
            progress("gathering keyframes", index + 1, len(times))
    moving = Keyframes.of(frames)
    moving, still = moving.select(moving.shown()), still.select(still.shown())
    changes = moving.changes()
    settled = moving.select(~changes).at(middle)
    still = Keyframes(*(np.concatenate(pair, axis=2) for pair in zip(still, settled, strict=True)))
    moving = moving.select(changes)
    if moving.amount + still.amount == 0:
        raise ExportError("No Gaussian of this training is to be seen at any time; train for longer.")
    return times, moving.neighbours_together(), still.neighbours_together()


def _columns(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """[N, ...] as [N, C], also of no Gaussians."""
    return values.reshape(len(values), math.prod(values.shape[1:]))


def _select(splats: Splats, which: npt.NDArray[Any]) -> Splats:
    return Splats(*(part[which] for part in splats))


class Packed(NamedTuple):
    """What a page holds: a header, as JSON has it, and the arrays that it lists, not yet packed by zlib."""

    header: dict[str, Any]
    arrays: bytes


def pack(times: npt.NDArray[Any], moving: Keyframes, still: Keyframes, degree: int) -> Packed:
    """Quantise Gaussians; `page/viewer.js` reads the result."""
    groups = {"moving": moving, "still": still}
    ranges = {
        name: _range([getattr(group, name) for group in groups.values()], cut)
        for name, cut in (("scale", 0.0), ("colour", OUTLIERS), ("harmonics", OUTLIERS))
    }
    ranges["scale"][0] = max(ranges["scale"][0], ranges["scale"][1] - SCALE_SPAN)
    header: dict[str, Any] = {"times": times.tolist(), "degree": degree, "chunk": CHUNK, "ranges": ranges}
    header |= {"boxes": {}, "arrays": []}
    data = []
    for name, group in groups.items():
        boxes = _boxes(group.position)  # [6, chunks]
        header[name] = group.amount
        header["boxes"][name] = boxes.T.tolist()
        lower, side = np.repeat(boxes, CHUNK, axis=1)[:, : group.amount].reshape(2, 3, group.amount)
        shares = {
            "position": ((group.position - lower) / side, 2**16 - 1),
            "rotation": ((group.rotation + 1) / 2, 2**12 - 1),
            "opacity": (group.opacity, 255),
        }
        for what, (low, high) in ranges.items():
            shares[what] = ((getattr(group, what) - low) / (high - low), 255)
        for what, (values, most) in shares.items():
            if np.array_equal(values, np.broadcast_to(values[:1], values.shape)):
                values = values[:1]
            frames, channels, _ = values.shape
            wide = most > 255
            numbers = np.round(values.clip(0, 1) * most).astype(np.uint16 if wide else np.uint8)
            numbers[1:] -= numbers[:-1].copy()  # wraps around, as it does where it is read
            planes = (numbers & 255, numbers >> 8) if wide else (numbers,)
            data += [plane.astype(np.uint8).tobytes() for plane in planes]
            entry = {"group": name, "name": what, "frames": frames, "channels": channels, "most": most}
            header["arrays"].append(entry)
    return Packed(header, b"".join(data))


def _range(parts: list[npt.NDArray[Any]], cut: float) -> list[float]:
    """The range of numbers, without a share of them at either end; never an empty one."""
    values = np.concatenate([part.reshape(-1) for part in parts])
    low, high = np.quantile(values, (cut, 1 - cut)).tolist() if len(values) else (0.0, 0.0)
    return [low, max(high, low + 1e-6)]


def _boxes(positions: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Lower corners and sides [6, chunks] of positions [F, 3, N] over all keyframes."""
    starts = np.arange(0, positions.shape[2], CHUNK)
    if len(starts) == 0:
        return np.zeros((6, 0))
    lower = np.minimum.reduceat(positions.min(axis=0), starts, axis=1).astype(np.float64)
    upper = np.maximum.reduceat(positions.max(axis=0), starts, axis=1).astype(np.float64)
    return np.concatenate([lower, np.maximum(upper - lower, 1e-9)])


class PageSize(NamedTuple):
    """What a page holds, for people."""

    moving: int
    still: int
    keyframes: int
    size: int  # of the file, bytes


def write_page(
    path: Path,
    run: Run,
    views: Views,
    *,
    title: str,
    view: int,
    seconds: float,
    degree: int | None = None,
    keyframes: int = MOST_KEYFRAMES,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> PageSize:
    """Write a training as an HTML file that needs nothing else; it is whole or absent.

    Args:
        path: the file.
        run: the training.
        views: of its training cameras, whose lens distortion and principal point are left out.
        title: of the page.
        view: the camera that the page opens at, in the order of time.
        seconds: that the clip takes when played.
        degree: of the harmonics to keep, at most the training's, which is the default.
        keyframes: at most so many instants.
        overwrite: replace the file.
        progress: called with what is done.

    Raises:
        Page4DError: no Gaussian is to be seen, or none by the camera that the page opens at; the file is in the way, or
            cannot be written.
    """
    degree = min(MOST_DEGREE if degree is None else degree, run.model.active_sh_degree)
    times, moving, still = keyframes_of(run, degree, keyframes, progress)
    header, arrays = pack(times, moving, still, degree)
    points = np.concatenate([group.position[len(group.position) // 2].T for group in (moving, still)])
    height = views.size[1]
    to_opencv = np.array([1.0, -1.0, -1.0, 1.0])
    header |= {
        "background": run.model.background_color.tolist(),
        "seconds": seconds,
        "poses": (views.poses * to_opencv).reshape(-1, 12).tolist(),  # camera to world
        "poseTimes": views.times.tolist(),
        "size": views.size,
        "focals": (height / 2 / np.tan(np.radians(views.fov) / 2)).tolist(),  # pixels, of each view
        "open": view,
        "distance": median_depth(views._replace(points=points.astype(np.float64)), view),
    }
    page = files(__package__) / "page"
    content = Template((page / "page.html").read_text("utf8")).substitute(
        title=html.escape(title),
        version=page4d_version(),
        style=(page / "page.css").read_text("utf8"),
        script=(page / "viewer.js").read_text("utf8"),
        # No "</script>" can come of it.
        header=json.dumps(header, separators=(",", ":")).replace("<", "\\u003c"),
        scene=base64.b64encode(zlib.compress(arrays, 9)).decode("ascii"),
    )
    with whole_file(path, overwrite=overwrite) as partial:
        partial.write_text(content, "utf8")
    return PageSize(moving.amount, still.amount, len(times), len(content.encode("utf8")))
