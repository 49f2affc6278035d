"""Gaussians over time as one HTML file, with the WebGL 2 program that shows them (`page/`).

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
import zlib
from collections.abc import Sequence
from importlib.resources import files
from string import Template
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from ..errors import SceneError
from ..frames import read_frames
from ..geometry import camera_centers
from ..package_version import page4d_version
from ..utils.evenly import evenly
from .drawing import scene_radius
from .folder import MOVES, Scene
from .lifting import points_from_depth, some_of

MOST_KEYFRAMES = 64  # of a page; between them positions are linear
CHUNK = 256  # Gaussians that share a box, in which positions are quantised
FAINTEST = 1 / 255  # the rasteriser draws nothing fainter
SCALE_SPAN = 12.0  # a Gaussian e^12 times smaller than the largest is a point
OUTLIERS = 0.001  # share of harmonics, and of colours beyond [0, 1], at either end, that are cut to the others' range

# Of points: what they are drawn as, and how they play.
OPACITY, NEIGHBOURS, WIDTH = 0.9, 6, 0.5
WIDEST = 4  # times as wide as most of the scene: points that move alone are no balloons
MOVING_POINTS = 3000  # of a time, at most
PLAYED_FPS, PLAYED_SECONDS = 12, (2.0, 10.0)
DARK = (0.11, 0.12, 0.15)  # behind points, most of which are light

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
    # What can be displayed stays, however little there is of it: a small red thing is red.
    least, most = _range([group.colour for group in groups.values()], 0.0)
    low, high = ranges["colour"]
    ranges["colour"] = [min(low, max(least, 0.0)), max(high, min(most, 1.0))]
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


class PageCameras(NamedTuple):
    """The cameras that filmed, in the order of time, which the page can look through."""

    poses: npt.NDArray[Any]  # [V, 3, 4], camera to world, OpenCV axes
    times: npt.NDArray[Any]  # [V], rising
    focals: npt.NDArray[Any]  # [V], in pixels of an image of `size`, which are square
    size: tuple[int, int]  # width, height in pixels
    open: int  # the camera that the page opens at
    distance: float  # from that camera to what it looks at, around which the page turns


def page_of(
    title: str,
    times: npt.NDArray[Any],
    moving: Keyframes,
    still: Keyframes,
    cameras: PageCameras,
    *,
    degree: int,
    seconds: float,
    background: Sequence[float],
) -> bytes:
    """The HTML file, in UTF-8; it needs nothing else.

    `times` [F] are those of the keyframes of `moving`, rising; the clip takes so many `seconds` when played.
    """
    header, arrays = pack(times, moving, still, degree)
    header |= {
        "background": list(background),
        "seconds": seconds,
        "poses": cameras.poses.reshape(-1, 12).tolist(),
        "poseTimes": cameras.times.tolist(),
        "size": cameras.size,
        "focals": cameras.focals.tolist(),
        "open": cameras.open,
        "distance": cameras.distance,
    }
    page = files(__package__) / "page"
    return (
        Template((page / "page.html").read_text("utf8"))
        .substitute(
            title=html.escape(title),
            version=page4d_version(),
            style=(page / "page.css").read_text("utf8"),
            script=(page / "viewer.js").read_text("utf8"),
            # No "</script>" can come of it.
            header=json.dumps(header, separators=(",", ":")).replace("<", "\\u003c"),
            scene=base64.b64encode(zlib.compress(arrays, 9)).decode("ascii"),
        )
        .encode()
    )


# ---------------------------------------------------------------------------------------------------------------
# A reconstruction's points, before any training


def points_page(scene: Scene, title: str, *, dense: bool = True) -> tuple[bytes, int]:
    """The page of a scene's points: static ones of all frames, moving ones at their times, round and as large as the
    gaps between them.

    Where it is not known what moves, all points are shown at their times alone. The page's world has its origin among
    the cameras and the distance that the page opens at as its unit, so that float32 holds any scene.

    Args:
        scene: with points.
        title: of the page.
        dense: take moving points from the depth maps, where there are any: of the scene's own, which are thinned and
            confident, few move.

    Returns:
        The HTML file, in UTF-8, and how many points it holds.
    """
    if scene.points is None or scene.point_colors is None or not len(scene.points):
        raise SceneError(f"{scene.root} has no points to show.")
    instants, instant = np.unique(scene.times, return_inverse=True)
    chosen = evenly(len(instants), MOST_KEYFRAMES)
    cameras = _cameras(scene, scene.points)
    origin, unit = cameras.poses[:, :, 3].mean(axis=0), cameras.distance
    placed = cameras.poses.copy()
    placed[:, :, 3] = (placed[:, :, 3] - origin) / unit
    cameras = cameras._replace(poses=placed, distance=1.0)
    own = Points(((scene.points - origin) / unit).astype(np.float32), scene.point_colors)
    static, moving = own, [own.take(np.zeros(0, np.int64)) for _ in chosen]
    if scene.point_times is not None and len(chosen) > 1:
        moves = np.full(len(scene.points), True)
        if scene.point_motion is not None:
            moves = scene.point_motion >= MOVES
        static = own.take(np.flatnonzero(~moves))
        for k, time in enumerate(instants[chosen]):
            if dense and moves.any() and scene.info and scene.has_motion:
                frames = np.flatnonzero(instant == chosen[k])
                limit = MOVING_POINTS // len(frames)
                moving[k] = Points.joined([_moving_points(scene, int(i), limit, origin, unit) for i in frames])
            else:
                moving[k] = own.take(np.flatnonzero(moves & (np.abs(scene.point_times - time) < 1e-6)))
    spacings = [_spacing(points.places) for points in (static, *moving)]
    known = np.concatenate(spacings)
    known = known[np.isfinite(known)]
    usual = float(np.percentile(known, 90)) if len(known) else 1.0
    still, *parts = [
        _round_gaussians(points, spacing, usual) for points, spacing in zip((static, *moving), spacings, strict=True)
    ]
    shown = np.zeros((len(chosen), 1, sum(part.amount for part in parts)), np.float32)
    ends = np.cumsum([part.amount for part in parts])
    for opacity, part, end in zip(shown, parts, ends, strict=True):
        opacity[:, end - part.amount : end] = OPACITY
    joined = Keyframes(*(np.concatenate(values, axis=2) for values in zip(*parts, strict=True)))
    content = page_of(
        title,
        instants[chosen],
        joined._replace(opacity=shown).neighbours_together(),
        still.neighbours_together(),
        cameras,
        degree=0,
        seconds=float(np.clip(len(instants) / PLAYED_FPS, *PLAYED_SECONDS)),
        background=DARK,
    )
    return content, len(static.places) + joined.amount


class Points(NamedTuple):
    """Places and their colours."""

    places: npt.NDArray[Any]  # [N, 3] float32
    colors: npt.NDArray[Any]  # [N, 3] uint8

    @classmethod
    def joined(cls, parts: Sequence[Points]) -> Points:
        """All points of some."""
        return cls(*(np.concatenate(values) for values in zip(*parts, strict=True)))

    def take(self, index: npt.NDArray[Any]) -> Points:
        """Some of the points."""
        return Points(self.places[index], self.colors[index])


def _moving_points(scene: Scene, frame: int, limit: int, origin: npt.NDArray[Any], unit: float) -> Points:
    """Of a frame's depth map what moves, at most so many points, in the page's world."""
    depth = scene.load_depth(frame)
    moves = np.isfinite(depth) & (depth > 0) & (np.nan_to_num(scene.load_motion(frame)) >= MOVES)
    keep = some_of(moves, limit, np.random.default_rng(0))
    image = read_frames([scene.image_paths[frame]]).images[0]
    pose = scene.extrinsics[frame].astype(np.float64)
    pose[:, 3] = (pose[:, 3] + pose[:, :3] @ origin) / unit
    return Points(*points_from_depth(depth / unit, keep, image, pose, scene.intrinsics[frame]))


def _spacing(places: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The mean distance of each point to its nearest neighbours, [N]; infinite of a single one."""
    count = len(places)
    if count < 2:
        return np.full(count, np.inf)
    spacing: npt.NDArray[Any] = cKDTree(places).query(places, min(NEIGHBOURS + 1, count))[0][:, 1:].mean(axis=1)
    return spacing


def _round_gaussians(points: Points, spacing: npt.NDArray[Any], usual: float) -> Keyframes:
    """A Gaussian for each point, as wide as a share of its spacing; a single one has the `usual` spacing."""
    places, colors = points
    count = len(places)
    spacing = np.where(np.isfinite(spacing), spacing.clip(1e-6, max(WIDEST * usual, 1e-6)), usual)
    if count:
        spacing = spacing.clip(None, np.percentile(spacing, 90))  # strays are no balloons
    rotation = np.zeros((1, 4, count), np.float32)
    rotation[:, 3] = 1
    return Keyframes(
        position=places.T[None].astype(np.float32),
        rotation=rotation,
        scale=np.tile(np.log(WIDTH * spacing).astype(np.float32), (1, 3, 1)),
        opacity=np.full((1, 1, count), OPACITY, np.float32),
        colour=(colors.T[None] / 255).astype(np.float32),
        harmonics=np.zeros((1, 0, count), np.float32),
    )


def _cameras(scene: Scene, points: npt.NDArray[Any]) -> PageCameras:
    """A scene's cameras; the page opens at the one in the middle. Lens distortion and principal point are left out.

    Pixels are made square: where fx and fy differ, the width does.
    """
    order = np.argsort(scene.times, kind="stable")
    extrinsics = scene.extrinsics[order]
    poses = np.concatenate((extrinsics[:, :, :3].transpose(0, 2, 1), camera_centers(extrinsics)[:, :, None]), axis=2)
    middle = len(order) // 2
    width, height = scene.image_sizes[order[middle]].tolist()
    fx, fy = scene.intrinsics[order[middle]].diagonal()[:2]
    return PageCameras(
        poses,
        scene.times[order],
        scene.intrinsics[order, 1, 1] * height / scene.image_sizes[order, 1],
        (max(1, round(width * fy / fx)), height),
        middle,
        distance_ahead(extrinsics, middle, points),
    )


def distance_ahead(extrinsics: npt.NDArray[Any], view: int, points: npt.NDArray[Any]) -> float:
    """The median depth of the points before one of the cameras [V, 3, 4], or the scene's radius where none is."""
    depth = points @ extrinsics[view, 2, :3] + extrinsics[view, 2, 3]
    ahead = depth[depth > 0]
    return float(np.median(ahead)) if len(ahead) else scene_radius(extrinsics, points)
