"""Things that scenes are furnished with, put together from ellipsoids, boxes and turned solids.

A prop stands on y = 0 of its own coordinates, metres, y up, and faces +z. Parts share the prop's few materials.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Rng = np.random.Generator

ELLIPSOID, BOX, TURNED = range(3)
# Turned solids: x^2 + z^2 = a + b y + c y^2 for |y| <= 1, at most 1 (up to the half sizes).
CYLINDER = (1.0, 0.0, 0.0)
DOME = (0.75, -0.5, -0.25)
BARREL = (1.0, 0.0, -0.6)
WAIST = (0.3, 0.0, 0.7)  # concave
CONE = (0.25, -0.5, 0.25)
SHADE = (0.5625, -0.375, 0.0625)  # half as wide at the top as at the bottom
FLARED = (0.5625, 0.375, 0.0625)  # the other way round


@dataclass
class Prop:
    """P parts; where the prop moves within itself, center and turn have a leading dimension of S frames."""

    shape: list[int] = field(default_factory=list)
    half_sizes: list[Sequence[float]] = field(default_factory=list)
    center: list[Sequence[float] | Array] = field(default_factory=list)  # [3] or [S, 3]
    turn: list[Array] = field(default_factory=list)  # [3, 3] or [S, 3, 3]
    profile: list[tuple[float, float, float]] = field(default_factory=list)
    material: list[int] = field(default_factory=list)  # which of the prop's
    top: tuple[float, float, float] | None = None  # half width, half depth and height of what other things stand on
    bends: bool = False  # parts move against each other

    def add(
        self,
        shape: int,
        half_sizes: Sequence[float],
        center: Sequence[float] | Array,
        material: int = 0,
        turn: Array | None = None,
        profile: tuple[float, float, float] = CYLINDER,
    ) -> Prop:
        """Add a part."""
        self.shape.append(shape)
        self.half_sizes.append(half_sizes)
        self.center.append(center)
        self.turn.append(np.eye(3) if turn is None else turn)
        self.profile.append(profile)
        self.material.append(material)
        return self

    @property
    def radius(self) -> float:
        """How far it reaches sideways, about."""
        centers, half_sizes = self.centers(), np.array(self.half_sizes)[:, ::2]
        return float((np.hypot(centers[..., 0], centers[..., 2]).max(1) + half_sizes.max(1)).max())

    def centers(self) -> Array:
        """Where the parts are, `(P, S, 3)`; S is 1 unless they move against each other."""
        return _stacked(self.center) if self.bends else np.array(self.center, np.float64)[:, None]

    def turns(self) -> Array:
        """How the parts are turned, `(P, S, 3, 3)`."""
        return _stacked(self.turn) if self.bends else np.array(self.turn)[:, None]


def _stacked(items: Sequence[Sequence[float] | Array]) -> Array:
    """Items, of which some are given for each of S frames, as `(P, S, ...)`."""
    arrays = [np.asarray(item, np.float64) for item in items]
    most = max(arrays, key=lambda array: array.ndim)
    return np.stack([np.broadcast_to(array, most.shape) for array in arrays])


def about(axis: int, angle: float | Array) -> Array:
    """Rotations `(3, 3)` or `(S, 3, 3)` about x, y or z by angles in radians."""
    angle = np.asarray(angle, np.float64)
    cosine, sine = np.cos(angle), np.sin(angle)
    rotation = np.zeros((*angle.shape, 3, 3))
    i, j = (axis + 1) % 3, (axis + 2) % 3
    rotation[..., axis, axis] = 1
    rotation[..., i, i] = rotation[..., j, j] = cosine
    rotation[..., j, i], rotation[..., i, j] = sine, -sine
    return rotation


# --------------------------------------------------------------------------------------------------------------------
# Furniture


def table(rng: Rng) -> Prop:
    """A table or desk."""
    w, d, h = rng.uniform(0.4, 1.0), rng.uniform(0.3, 0.5), rng.uniform(0.4, 0.78)
    thick = rng.uniform(0.012, 0.03)
    prop = Prop(top=(w, d, h)).add(BOX, (w, thick, d), (0, h - thick, 0))
    kind, leg = rng.integers(3), rng.uniform(0.02, 0.045)
    if kind == 0:  # a panel at each end, and one behind
        for side in (-1, 1):
            prop.add(BOX, (leg * 0.7, h / 2, d * 0.9), (side * (w - 0.06), h / 2, 0), 1)
        prop.add(BOX, (w, 0.015, 0.2), (0, h - 0.3, -d + 0.05), 1)
    elif kind == 1 and w < 0.7:  # one foot
        prop.add(TURNED, (0.06, h / 2, 0.06), (0, h / 2, 0), 1, profile=WAIST)
        prop.add(TURNED, (d * 0.7, 0.02, d * 0.7), (0, 0.02, 0), 1)
    else:
        for x, z in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
            prop.add(BOX, (leg, h / 2, leg), (x * (w - 0.05), h / 2, z * (d - 0.05)), 1)
    return prop


def chair(rng: Rng) -> Prop:
    """A chair with four legs or on a column."""
    w, h = rng.uniform(0.18, 0.26), rng.uniform(0.42, 0.5)
    back = rng.uniform(0.15, 0.32)
    prop = Prop().add(BOX, (w, 0.025, w), (0, h, 0))
    lean = about(0, rng.uniform(-0.25, 0.0))
    prop.add(BOX, (w, back * 0.7, 0.02), (0, h + back + 0.08, -w), 0, turn=lean)
    if rng.random() < 0.5:
        for x, z in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
            prop.add(BOX, (0.018, h / 2, 0.018), (x * (w - 0.02), h / 2, z * (w - 0.02)), 1)
    else:
        prop.add(TURNED, (0.03, h / 2, 0.03), (0, h / 2, 0), 1)
        prop.add(TURNED, (w, 0.04, w), (0, 0.04, 0), 1, profile=CONE)
    return prop


def cupboard(rng: Rng) -> Prop:
    """A closed cupboard, chest or fridge; low ones carry things."""
    w, d, h = rng.uniform(0.25, 0.9), rng.uniform(0.18, 0.35), rng.uniform(0.3, 1.1)
    prop = Prop(top=(w, d, 2 * h) if h < 0.65 else None).add(BOX, (w, h, d), (0, h, 0))
    if rng.random() < 0.6:
        prop.add(BOX, (w * 0.46, h * 0.9, 0.012), (-w / 2, h, d), 1)
        prop.add(BOX, (w * 0.46, h * 0.9, 0.012), (w / 2, h, d), 1)
    return prop


def bookcase(rng: Rng) -> Prop:
    """Open shelves with some books."""
    w, d, h = rng.uniform(0.3, 0.7), rng.uniform(0.12, 0.2), rng.uniform(0.5, 1.05)
    boards = int(rng.integers(3, 6))
    prop = Prop().add(BOX, (w, h, 0.01), (0, h, -d), 1)
    for side in (-1, 1):
        prop.add(BOX, (0.015, h, d), (side * w, h, 0))
    for height in np.linspace(0.05, 2 * h - 0.02, boards):
        prop.add(BOX, (w, 0.012, d), (0, height, 0))
        if rng.random() < 0.6:
            bw, bh = rng.uniform(0.05, 0.6 * w), min(rng.uniform(0.06, 0.14), h / boards * 0.8)
            at = rng.uniform(-w + bw, w - bw)
            prop.add(BOX, (bw, bh, d * 0.8), (at, height + 0.012 + bh, 0), int(rng.integers(2, 4)))
    return prop


def sofa(rng: Rng) -> Prop:
    """A sofa or armchair."""
    w, d, h = rng.uniform(0.35, 1.0), rng.uniform(0.35, 0.45), rng.uniform(0.18, 0.24)
    prop = Prop().add(BOX, (w, h, d), (0, h, 0))
    prop.add(BOX, (w, rng.uniform(0.18, 0.26), 0.1), (0, 2 * h + 0.15, -d + 0.08))
    for side in (-1, 1):
        prop.add(BOX, (0.08, h + 0.1, d), (side * w, h + 0.1, 0))
    for at in rng.uniform(-0.6, 0.6, int(rng.integers(0, 3))):
        prop.add(ELLIPSOID, (0.22, 0.2, 0.09), (at * w, 2 * h + 0.17, -d + 0.26), 1, turn=about(0, -0.3))
    return prop


def bed(rng: Rng) -> Prop:
    """A bed with pillows."""
    w, d, h = rng.uniform(0.45, 0.9), rng.uniform(0.95, 1.05), rng.uniform(0.15, 0.25)
    prop = Prop().add(BOX, (w, h, d), (0, h, 0), 1)
    prop.add(BOX, (w, 0.06, d * 0.75), (0, 2 * h + 0.03, 0.25 * d))
    prop.add(BOX, (w, 0.45, 0.03), (0, 0.45, -d), 1)
    for side in (-0.5, 0.5):
        prop.add(ELLIPSOID, (0.3, 0.08, 0.2), (side * w, 2 * h + 0.06, -d * 0.78), 2)
    return prop


def floor_lamp(rng: Rng) -> Prop:
    """A lamp on a thin pole."""
    h, r = rng.uniform(0.5, 0.85), rng.uniform(0.12, 0.25)
    prop = Prop().add(TURNED, (0.015, h, 0.015), (0, h, 0), 1)
    prop.add(TURNED, (r * 0.8, 0.015, r * 0.8), (0, 0.015, 0), 1)
    prop.add(TURNED, (r, r * 0.8, r), (0, 2 * h, 0), 0, profile=SHADE if rng.random() < 0.6 else DOME)
    return prop


def plant(rng: Rng) -> Prop:
    """A plant in its pot."""
    h, r = rng.uniform(0.1, 0.2), rng.uniform(0.1, 0.2)
    prop = Prop().add(TURNED, (r, h, r), (0, h, 0), 1, profile=FLARED)
    for _ in range(int(rng.integers(4, 8))):
        length, azimuth, lean = rng.uniform(0.15, 0.4), rng.uniform(0, 2 * math.pi), rng.uniform(0.1, 0.9)
        leaf = about(1, azimuth) @ about(0, lean)
        tip = leaf @ np.array((0, length, 0))
        prop.add(ELLIPSOID, (0.06, length, 0.03), (tip[0], 2 * h + tip[1], tip[2]), 0, turn=leaf)
    return prop


def partition(rng: Rng) -> Prop:
    """A screen between desks, a whiteboard on legs, or a wall that ends."""
    w, h = rng.uniform(0.5, 1.6), rng.uniform(0.55, 1.1)
    prop = Prop()
    lift = rng.choice([0.0, 0.15])
    prop.add(BOX, (w, h - lift / 2, rng.uniform(0.015, 0.06)), (0, h + lift / 2, 0))
    if lift:
        for side in (-0.9, 0.9):
            prop.add(BOX, (0.02, 0.1, 0.15), (side * w, 0.1, 0), 1)
    if rng.random() < 0.5:
        prop.add(BOX, (w * rng.uniform(0.15, 0.4), h * 0.4, 0.01), (w * rng.uniform(-0.5, 0.5), h * 1.2, 0.06), 2)
    return prop


def pillar(rng: Rng) -> Prop:
    """A column up to the ceiling, or a beam that stands."""
    r = rng.uniform(0.06, 0.3)
    return Prop().add(TURNED if rng.random() < 0.4 else BOX, (r, 4, r), (0, 4, 0))


def bin_(rng: Rng) -> Prop:
    """A bin, drum or stool."""
    h, r = rng.uniform(0.12, 0.35), rng.uniform(0.1, 0.25)
    return Prop(top=(r * 0.6, r * 0.6, 2 * h)).add(
        TURNED, (r, h, r), (0, h, 0), profile=(CYLINDER, FLARED, BARREL, WAIST)[int(rng.integers(4))]
    )


def cartons(rng: Rng) -> Prop:
    """Boxes on and beside each other."""
    prop, height = Prop(), 0.0
    for _ in range(int(rng.integers(1, 4))):
        w, h, d = rng.uniform(0.1, 0.35, 3)
        prop.add(BOX, (w, h, d), (rng.uniform(-0.1, 0.1), height + h, rng.uniform(-0.1, 0.1)), 0,
                 turn=about(1, rng.uniform(-0.5, 0.5)))  # fmt: skip
        height += 2 * h if rng.random() < 0.7 else 0.0
    return prop


# --------------------------------------------------------------------------------------------------------------------
# Small things, for tables


def trinket(rng: Rng) -> Prop:
    """A ball, cup, bottle, bowl, book, can or toy."""
    kind, size = int(rng.integers(7)), rng.uniform(0.03, 0.09)
    prop = Prop()
    if kind == 0:
        prop.add(ELLIPSOID, (size, size, size), (0, size, 0))
    elif kind == 1:
        prop.add(TURNED, (size * 0.6, size, size * 0.6), (0, size, 0), profile=FLARED)
    elif kind == 2:
        prop.add(TURNED, (size * 0.55, size * 1.3, size * 0.55), (0, size * 1.3, 0))
        prop.add(TURNED, (size * 0.3, size * 0.8, size * 0.3), (0, size * 3.2, 0), 1, profile=SHADE)
    elif kind == 3:
        flipped = (DOME[0], -DOME[1], DOME[2])
        prop.add(TURNED, (size * 1.4, size * 0.7, size * 1.4), (0, size * 0.7, 0), profile=flipped)
    elif kind == 4:
        prop.add(BOX, (size * 1.6, size * 0.3, size * 1.2), (0, size * 0.3, 0), turn=about(1, rng.uniform(-1, 1)))
    elif kind == 5:
        prop.add(BOX, tuple(rng.uniform(0.5, 1.5, 3) * size), (0, size, 0))
    else:
        prop.add(ELLIPSOID, (size, size * 1.2, size * 0.9), (0, size * 1.2, 0))
        prop.add(ELLIPSOID, (size * 0.7, size * 0.7, size * 0.7), (0, size * 2.8, 0), 1)
    return prop


def monitor(rng: Rng) -> Prop:
    """A screen on its foot, or a laptop."""
    w, h = rng.uniform(0.15, 0.35), rng.uniform(0.1, 0.2)
    prop = Prop()
    if rng.random() < 0.7:
        prop.add(BOX, (w, h, 0.02), (0, h + 0.12, 0))
        prop.add(BOX, (0.03, 0.08, 0.015), (0, 0.08, -0.03), 1)
        prop.add(BOX, (0.11, 0.01, 0.08), (0, 0.01, 0), 1)
    else:
        prop.add(BOX, (w, 0.01, h), (0, 0.01, 0.1))
        prop.add(BOX, (w, h, 0.008), (0, h, -h), 0, turn=about(0, -0.2))
    return prop


def hand(rng: Rng, phase: Array) -> Prop:
    """A forearm with a hand and fingers that reaches in from +z and closes to and fro; phase `(S,)` in radians."""
    prop = Prop(bends=True).add(ELLIPSOID, (0.045, 0.045, 0.24), (0, 0.08, 0.3), 1)
    prop.add(ELLIPSOID, (0.045, 0.022, 0.055), (0, 0.07, 0.05))
    bend = 0.5 + 0.4 * np.sin(phase)
    for x in (-0.03, -0.01, 0.01, 0.03):
        turn = about(0, bend)
        reach = turn @ np.array((0.0, 0.0, -0.04))
        prop.add(ELLIPSOID, (0.01, 0.01, 0.042), np.array((x, 0.07, 0.0)) + reach, turn=turn)
    prop.add(ELLIPSOID, (0.012, 0.012, 0.04), (-0.05, 0.06, 0.03), turn=about(1, 0.6))
    return prop


# --------------------------------------------------------------------------------------------------------------------
# People and animals


def person(rng: Rng, phase: Array, *, walks: bool, sits: bool = False) -> Prop:
    """A person; materials: skin, hair, top, trousers. `phase` `(S,)` in radians: of steps, or of small gestures."""
    prop = Prop(bends=True)
    tall, wide = rng.uniform(0.85, 1.08), rng.uniform(0.85, 1.2)
    thigh, shin, trunk = 0.42 * tall, 0.44 * tall, 0.52 * tall
    swing = rng.uniform(0.3, 0.6) if walks else rng.uniform(0.0, 0.06)
    bow = rng.uniform(0.0, 0.5 if sits else 0.12) + 0.03 * np.sin(phase)  # forwards
    hips = np.zeros((len(phase), 3))
    hips[:, 1] = 0.5 * tall if sits else thigh + shin + 0.03 * np.abs(np.sin(phase)) * walks
    spine = about(0, bow)

    def limb(start: Array, turn: Array, length: float, thick: float, material: int) -> Array:
        """An ellipsoid that hangs from a joint; returns its other end."""
        end: Array = start + turn @ np.array((0.0, -length, 0.0))
        prop.add(ELLIPSOID, (thick, length * 0.56, thick), (start + end) / 2, material, turn=turn)
        return end

    for side in (-1, 1):
        stride = side * swing * np.sin(phase)
        hip = hips + np.array((side * 0.09 * wide, 0, 0))
        up = about(0, np.full(len(phase), -1.45) if sits else -stride)
        knee = limb(hip, up, thigh, 0.075 * wide, 3)
        down = about(
            0,
            np.full(len(phase), rng.uniform(-0.2, 0.3))
            if sits
            else -stride + swing * (0.5 - 0.5 * np.cos(phase + side)),
        )
        foot = limb(knee, down, shin, 0.055 * wide, 3)
        prop.add(ELLIPSOID, (0.045, 0.04, 0.12), foot + np.array((0, 0.02, 0.05)), 1)
    chest = hips + spine @ np.array((0.0, trunk * 0.55, 0.0))
    prop.add(ELLIPSOID, (0.19 * wide, trunk * 0.58, 0.12 * wide), chest, 2, turn=spine)
    neck = hips + spine @ np.array((0.0, trunk * 1.08, 0.0))
    nod = spine @ about(0, 0.1 * np.sin(phase * 0.7))
    head = neck + nod @ np.array((0.0, 0.12, 0.02))
    prop.add(ELLIPSOID, (0.075, 0.115, 0.095), head, 0, turn=nod)
    prop.add(ELLIPSOID, (0.082, 0.1, 0.1), head + nod @ np.array((0.0, 0.035, -0.02)), 1, turn=nod)
    raised = rng.uniform(-1.6, 0.2, 2) * (rng.random(2) < (0.8 if sits else 0.4))
    for side, lift in zip((-1, 1), raised, strict=True):
        shoulder = hips + spine @ np.array((side * 0.2 * wide, trunk * 0.95, 0.0))
        angle = lift + side * swing * np.sin(phase) + 0.08 * np.sin(phase * 0.6 + side)
        up = about(2, np.full(len(phase), side * 0.15)) @ about(0, angle)
        elbow = limb(shoulder, up, 0.29 * tall, 0.05 * wide, 2)
        limb(
            elbow,
            up @ about(0, np.full(len(phase), -rng.uniform(0.1, 1.4))),
            0.3 * tall,
            0.04,
            0 if rng.random() < 0.5 else 2,
        )
    return prop


def animal(rng: Rng, phase: Array) -> Prop:
    """A dog, cow or the like, that walks towards +z."""
    prop = Prop(bends=True)
    size = rng.uniform(0.3, 1.1)
    body = size * 0.75
    prop.add(ELLIPSOID, (size * 0.22, size * 0.25, size * 0.55), (0, body, 0))
    prop.add(ELLIPSOID, (size * 0.12, size * 0.14, size * 0.22), (0, body + size * 0.35, size * 0.65))
    prop.add(ELLIPSOID, (size * 0.1, size * 0.25, size * 0.1), (0, body + size * 0.18, size * 0.5), turn=about(0, 0.6))
    for number, (x, z) in enumerate(((-1, -1), (1, 1), (-1, 1), (1, -1))):
        turn = about(0, (1 if number < 2 else -1) * 0.5 * np.sin(phase))
        joint = np.array((x * size * 0.14, body, z * size * 0.4))
        prop.add(
            ELLIPSOID,
            (size * 0.06, size * 0.4, size * 0.06),
            joint + turn @ np.array((0, -size * 0.38, 0)),
            1,
            turn=turn,
        )
    return prop


# --------------------------------------------------------------------------------------------------------------------
# Outdoors


def building(rng: Rng) -> Prop:
    """A house or block; +z is its front."""
    w, d, h = rng.uniform(3, 9), rng.uniform(3, 6), rng.uniform(2, 10)
    prop = Prop().add(BOX, (w, h, d), (0, h, 0))
    if rng.random() < 0.6:
        prop.add(BOX, (w * 1.04, 0.2, d * 1.04), (0, 2 * h, 0), 1)
    elif h < 5:  # a pitched roof: a box on its edge
        prop.add(BOX, (w, d * 0.72, d * 0.72), (0, 2 * h, 0), 1, turn=about(0, math.pi / 4))
    for at in rng.uniform(-0.8, 0.8, int(rng.integers(0, 3))):
        prop.add(BOX, (rng.uniform(0.4, 1.2), rng.uniform(0.9, 1.3), 0.08), (at * w, 1.2, d), 2)
    return prop


def tree(rng: Rng) -> Prop:
    """A broad-leaved tree or a conifer."""
    h, r = rng.uniform(0.8, 2.2), rng.uniform(0.08, 0.25)
    prop = Prop().add(TURNED, (r, h, r), (0, h, 0), 1, profile=SHADE)
    if rng.random() < 0.3:
        for number in range(3):
            size = (1.5 - 0.4 * number) * h * 0.6
            prop.add(TURNED, (size, h * 0.55, size), (0, h * (1.3 + 0.7 * number), 0), profile=CONE)
        return prop
    for _ in range(int(rng.integers(3, 6))):
        size = rng.uniform(0.5, 0.9) * h
        x, z = rng.uniform(-0.6, 0.6, 2) * h
        prop.add(ELLIPSOID, (size, size * rng.uniform(0.6, 1.0), size), (x, 2 * h + rng.uniform(0, 0.8) * h, z))
    return prop


def car(rng: Rng) -> Prop:
    """A car, van or lorry that drives towards +z."""
    w, d, h = rng.uniform(0.75, 1.0), rng.uniform(1.8, 2.6), rng.uniform(0.32, 0.45)
    prop = Prop().add(BOX, (w, h, d), (0, 0.3 + h, 0))
    cabin = rng.uniform(0.25, 0.7)
    prop.add(
        BOX,
        (w * 0.9, cabin, d * rng.uniform(0.45, 0.8)),
        (0, 0.3 + 2 * h + cabin * 0.9, -0.15 * d),
        int(rng.integers(2)),
    )
    for x, z in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
        prop.add(TURNED, (0.32, 0.12, 0.32), (x * w, 0.32, z * d * 0.62), 2, turn=about(2, math.pi / 2))
    return prop


def post(rng: Rng) -> Prop:
    """A street lamp, sign or bollard."""
    h = rng.uniform(0.4, 3.0)
    prop = Prop().add(TURNED, (0.06, h, 0.06), (0, h, 0))
    if rng.random() < 0.6:
        prop.add(BOX, (rng.uniform(0.15, 0.5), rng.uniform(0.05, 0.3), 0.05), (0, 2 * h, 0.05), 1)
    return prop


def fence(rng: Rng) -> Prop:
    """A fence or low wall."""
    w, h = rng.uniform(1.5, 4.0), rng.uniform(0.35, 0.8)
    prop = Prop()
    if rng.random() < 0.4:
        return prop.add(BOX, (w, h, 0.1), (0, h, 0))
    for height in (0.7 * h, 1.6 * h):
        prop.add(BOX, (w, 0.06, 0.03), (0, height, 0))
    for at in np.linspace(-w, w, 4):
        prop.add(BOX, (0.05, h, 0.05), (at, h, 0), 1)
    return prop


def rocks(rng: Rng) -> Prop:
    """Rocks or bushes."""
    prop = Prop()
    for _ in range(int(rng.integers(1, 5))):
        size = rng.uniform(0.2, 0.9)
        x, z = rng.uniform(-0.8, 0.8, 2)
        prop.add(
            ELLIPSOID, tuple(size * rng.uniform(0.6, 1.2, 3)), (x, size * 0.4, z), turn=about(1, rng.uniform(0, 3))
        )
    return prop


def hill(rng: Rng) -> Prop:
    """A wide, flat rise of the ground."""
    r = rng.uniform(6, 25)
    return Prop().add(ELLIPSOID, (r, r * rng.uniform(0.1, 0.35), r * rng.uniform(0.6, 1.4)), (0, -0.05 * r, 0))


Maker = Callable[[Rng], Prop]
AT_WALLS: tuple[Maker, ...] = (cupboard, cupboard, bookcase, sofa, bed, table, partition, floor_lamp, plant)
ON_FLOORS: tuple[Maker, ...] = (table, table, chair, chair, cartons, bin_, plant, sofa, partition, floor_lamp)
ON_DESKS: tuple[Maker, ...] = (*(trinket,) * 8, monitor, plant)
IN_HALLS: tuple[Maker, ...] = (table, table, table, chair, chair, partition, partition, pillar, cupboard, cartons, bin_)
IN_STREETS: tuple[Maker, ...] = (tree, car, car, post, post, fence, rocks)
IN_NATURE: tuple[Maker, ...] = (tree, tree, tree, rocks, rocks, rocks, fence, post, hill, hill, building)
