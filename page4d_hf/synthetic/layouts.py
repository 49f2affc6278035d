"""Places as one finds them: furnished rooms, halls, desk tops, streets and open country, with people in them.

A place is drawn around a camera that is already there: most of what it is furnished with lies ahead of the camera.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from . import props
from .props import Array, Maker, Prop, Rng
from .random_bodies import ABSENT, ABSENT_SIZE

LAYOUTS = ("room", "hall", "desk", "street", "nature")
SHARES = (0.34, 0.26, 0.16, 0.12, 0.12)
OUTDOORS = (3, 4)
MATERIALS = 24  # of a scene; the first ones are for what has colours of its own
SKIN, HAIR, LEAVES, GLOW = SPECIAL = range(4)
UNPAINTED: Mapping[int, int] = {}
MOVES = 1e-9  # of what a part's axes and its place, in metres, change by; rounding is far less
SLOTS = (44, 44, 14)  # most ellipsoids, boxes and turned solids in a place


Motion = tuple[Array, Array]  # offsets [S, 3] in the world, and turns [S] about the vertical


@dataclass(frozen=True)
class View:
    """Where a place is looked at from, in the middle of the clip."""

    kind: int  # index into LAYOUTS
    room: Array  # [3] half sizes, metres; the floor is at y = -room[1]
    eyes: Array  # [S, 3] of all frames
    heading: float  # azimuth, 0 along +z, towards +x
    half_angle: float  # of the view, to either side, radians
    target: Array  # [3]


@dataclass(frozen=True)
class Place:
    """The parts of a place over S frames, in slots: ellipsoids, then boxes, then turned solids."""

    linear: Array  # [S, N, 3, 3]
    center: Array  # [S, N, 3]
    half_sizes: Array  # [N, 3]
    profile: Array  # [N, 3]
    material: npt.NDArray[np.int64]  # [N]
    moves: npt.NDArray[np.bool_]  # [N]


class _Builder:
    """Puts props into a place as long as there is room for them."""

    def __init__(self, rng: Rng, view: View, times: Array, still: bool, speed: float, near: float) -> None:
        self.rng, self.view, self.times, self.still, self.speed, self.near = rng, view, times, still, speed, near
        self.taken: list[tuple[float, float, float]] = []  # x, z and radius of what stands on the floor
        self.parts: tuple[list[tuple[Array, Array, Array, Array, int, bool]], ...] = ([], [], [])
        self.floor = -float(view.room[1])

    def ahead(self, nearest: float, farthest: float, spread: float = 1.0) -> tuple[float, float]:
        """A place on the floor in view, at a distance that is even in its logarithm."""
        rng, view = self.rng, self.view
        distance = nearest * (farthest / nearest) ** rng.random() if farthest > nearest else nearest
        angle = view.heading + rng.uniform(-1, 1) * view.half_angle * spread
        eye = view.eyes[len(view.eyes) // 2]
        x, z = eye[0] + distance * math.sin(angle), eye[2] + distance * math.cos(angle)
        edge_x, edge_z = view.room[0] - 0.2, view.room[2] - 0.2
        return float(np.clip(x, -edge_x, edge_x)), float(np.clip(z, -edge_z, edge_z))

    def is_free(self, x: float, z: float, radius: float) -> bool:
        return all(math.hypot(x - a, z - b) > 0.8 * (radius + r) for a, b, r in self.taken)

    def put(
        self,
        prop: Prop,
        x: float,
        height: float,
        z: float,
        yaw: float,
        motion: Motion | None = None,
        *,
        floor: bool = True,
        paint: Mapping[int, int] = UNPAINTED,
    ) -> bool:
        """Put a prop at a place, `height` above the floor, unless slots or the camera are in the way.

        Args:
            motion: offsets `(S, 3)` in the world and further turns `(S,)` about the vertical.
            floor: nothing else on the floor may overlap it.
            paint: materials of the scene for some of the prop's; the others are drawn.
        """
        counts = [prop.shape.count(kind) for kind in range(3)]
        if any(len(have) + more > most for have, more, most in zip(self.parts, counts, SLOTS, strict=True)):
            return False
        frames = len(self.times)
        offset, further = (np.zeros((frames, 3)), np.zeros(frames)) if motion is None else motion
        place = np.array((x, self.floor + height, z)) + offset  # [S, 3]
        turn = props.about(1, yaw + further)  # [S, 3, 3]
        half = np.array(prop.half_sizes, np.float64)  # [P, 3]
        linear = turn @ prop.turns()  # [P, S, 3, 3]
        middle = place + (turn @ prop.centers()[..., None])[..., 0]  # [P, S, 3]
        # The eye in the parts' own axes: is it within their boxes, about?
        eye = (linear.swapaxes(-1, -2) @ (self.view.eyes - middle)[..., None])[..., 0]
        if (np.abs(eye) < half[:, None] + self.near).all(-1).any():
            return False
        moves = np.full(len(half), motion is not None or (prop.bends and not self.still))
        if frames > 1:  # the trunk of one who only waves stands still
            moves &= (np.ptp(linear, axis=1).max(axis=(1, 2)) > MOVES) | (np.ptp(middle, axis=1).max(axis=1) > MOVES)
        palette = [paint.get(i, int(drawn)) for i, drawn in enumerate(self.rng.integers(len(SPECIAL), MATERIALS, 4))]
        for i, (shape, profile, material) in enumerate(zip(prop.shape, prop.profile, prop.material, strict=True)):
            part = (linear[i], middle[i], half[i], np.array(profile), palette[material], bool(moves[i]))
            self.parts[shape].append(part)
        if floor:
            self.taken.append((x, z, prop.radius))
        return True

    # ----------------------------------------------------------------------------------------------------------------

    def scatter(self, makers: tuple[Maker, ...], count: int, nearest: float, farthest: float) -> None:
        """Props on the floor, those with a top with things on it."""
        rng = self.rng
        for _ in range(count):
            prop = makers[int(rng.integers(len(makers)))](rng)
            for _attempt in range(4):
                x, z = self.ahead(nearest, farthest)
                if self.is_free(x, z, prop.radius):
                    # About parallel to the walls, but for some.
                    yaw = math.pi / 2 * rng.integers(4) + (rng.uniform(-0.8, 0.8) if rng.random() < 0.4 else 0.0)
                    if self.put(prop, x, 0.0, z, yaw, paint=self.leaves(prop)):
                        self.load(prop, x, z, yaw)
                    break

    def leaves(self, prop: Prop) -> Mapping[int, int]:
        """Green for most plants, which are what is made of three ellipsoids and more."""
        green = prop.shape.count(props.ELLIPSOID) >= 3 and self.rng.random() < 0.75
        return {0: LEAVES} if green else UNPAINTED

    def load(self, prop: Prop, x: float, z: float, yaw: float, most: int = 4, height: float = 0.0) -> None:
        """Small things on a prop."""
        if prop.top is None:
            return
        rng = self.rng
        w, d, top = prop.top
        for _ in range(int(rng.integers(0, most + 1))):
            small = props.monitor(rng) if w > 0.5 and rng.random() < 0.3 else props.trinket(rng)
            a, b = rng.uniform(-0.8, 0.8) * w, rng.uniform(-0.8, 0.8) * d
            at = props.about(1, yaw) @ np.array((a, 0.0, b))
            motion = self.nudge() if rng.random() < 0.15 else None
            self.put(small, x + at[0], height + top, z + at[2], yaw + rng.uniform(-0.6, 0.6), motion, floor=False)

    def line_walls(self, count: int) -> None:
        """Furniture along the walls that are in view, and pictures, windows and doors on them."""
        rng, view = self.rng, self.view
        eye = view.eyes[len(view.eyes) // 2]
        for number in range(count):
            angle = view.heading + rng.uniform(-1.1, 1.1) * view.half_angle
            way = np.array((math.sin(angle), math.cos(angle)))
            reach = [
                (math.copysign(view.room[i], w) - eye[i]) / (w if abs(w) > 1e-6 else 1e-6)
                for i, w in ((0, way[0]), (2, way[1]))
            ]
            axis = 0 if reach[0] < reach[1] else 2
            side = math.copysign(1.0, way[0] if axis == 0 else way[1])
            along = float((eye[2] if axis == 0 else eye[0]) + min(reach) * (way[1] if axis == 0 else way[0]))
            yaw = {(0, 1.0): -math.pi / 2, (0, -1.0): math.pi / 2, (2, 1.0): math.pi, (2, -1.0): 0.0}[axis, side]

            def at(depth: float, axis: int = axis, side: float = side, along: float = along) -> tuple[float, float]:
                wall = side * (float(view.room[axis]) - depth)
                return (wall, along) if axis == 0 else (along, wall)

            if number % 2:
                self.hang(*at(0.015), yaw)
                continue
            prop = props.AT_WALLS[int(rng.integers(len(props.AT_WALLS)))](rng)
            depth = float((np.abs(prop.centers()[:, 0, 2]) + np.array(prop.half_sizes)[:, 2]).max())
            x, z = at(depth + 0.02)
            if self.is_free(x, z, prop.radius) and self.put(prop, x, 0.0, z, yaw, paint=self.leaves(prop)):
                self.load(prop, x, z, yaw)

    def hang(self, x: float, z: float, yaw: float) -> None:
        """A picture, window, door or shelf on a wall."""
        rng = self.rng
        kind = int(rng.integers(4))
        tall = 2 * float(self.view.room[1])
        prop = Prop()
        if kind == 0:  # a door
            prop.add(props.BOX, (0.45, 1.0, 0.02), (0, 1.0, 0))
        elif kind == 1:  # a bright window
            w, h = rng.uniform(0.3, 1.0), rng.uniform(0.3, min(0.7, 0.35 * tall))
            prop.add(props.BOX, (w, h, 0.01), (0, 1.0 + h, 0))
        elif kind == 2:
            w, h = rng.uniform(0.15, 0.7), rng.uniform(0.15, 0.5)
            prop.add(props.BOX, (w, h, 0.01), (0, rng.uniform(1.2, 1.7), 0))
        else:
            prop.add(props.BOX, (rng.uniform(0.3, 0.8), 0.015, 0.1), (0, rng.uniform(1.1, 1.6), 0.1))
        self.put(prop, x, 0.0, z, yaw, floor=False, paint={0: GLOW} if kind == 1 else UNPAINTED)

    def ceiling(self) -> None:
        """Lamps under the ceiling, or beams."""
        rng = self.rng
        tall = 2 * float(self.view.room[1])
        for _ in range(int(rng.integers(1, 5))):
            x, z = self.ahead(0.5, float(self.view.room.max()) * 1.2)
            prop = Prop()
            if rng.random() < 0.6:
                prop.add(props.BOX, (rng.uniform(0.1, 0.7), 0.03, rng.uniform(0.06, 0.3)), (0, -0.04, 0))
            else:
                prop.add(props.BOX, (0.06, 0.1, 6), (0, -0.12, 0), 1)
            self.put(prop, x, tall, z, math.pi / 2 * rng.integers(2), floor=False, paint={0: GLOW})

    def people(self, count: int, nearest: float, farthest: float) -> None:
        """People who stand, sit or walk, nearly all of them in motion."""
        rng = self.rng
        for _ in range(count):
            x, z = self.ahead(nearest, farthest, 0.85)
            walks = rng.random() < 0.5
            sits = not walks and rng.random() < 0.5
            phase = self.phase(0.5, 2.5)
            is_animal = rng.random() < 0.08
            person = props.animal(rng, phase) if is_animal else props.person(rng, phase, walks=walks, sits=sits)
            yaw = rng.uniform(-math.pi, math.pi)
            motion = None
            if walks and not self.still:
                length = rng.uniform(0.3, 1.8) * self.speed
                motion = self.walk(yaw, length, rng.uniform(-0.6, 0.6) * self.speed)
            elif not self.still and rng.random() < 0.5:
                motion = (np.zeros((len(self.times), 3)), 0.5 * self.speed * np.sin(phase * 0.5))
            self.put(person, x, 0.0, z, yaw, motion, paint={0: SKIN, 1: HAIR})

    def phase(self, slowest: float, fastest: float) -> Array:
        """Radians `(S,)` of a gesture that is repeated so many times in a clip; one of them where nothing moves."""
        rate = 0.0 if self.still else self.rng.uniform(slowest, fastest) * self.speed
        return 2 * math.pi * (self.rng.random() + rate * self.times)

    def walk(self, yaw: float, length: float, curve: float) -> Motion:
        """Straight ahead, on an arc."""
        turn = curve * (self.times - 0.5)
        steps = np.stack((np.sin(yaw + turn), np.zeros_like(turn), np.cos(yaw + turn)), axis=-1)
        return steps * (length * (self.times - 0.5))[:, None], turn

    def nudge(self) -> Motion | None:
        """Slid, lifted or turned as by a hand."""
        if self.still:
            return None
        rng = self.rng
        way = np.array((rng.uniform(-0.25, 0.25), rng.uniform(0, 0.2) * (rng.random() < 0.5), rng.uniform(-0.25, 0.25)))
        sway = 0.5 - 0.5 * np.cos(2 * math.pi * (rng.uniform(0.4, 1.2) * self.times + rng.random()))
        return way * (self.speed * sway)[:, None], rng.uniform(-2, 2) * self.speed * sway

    def drive(self, count: int, nearest: float, farthest: float, streets: float) -> None:
        """Cars that drive along the street."""
        rng = self.rng
        for _ in range(count):
            _, z = self.ahead(nearest, farthest)
            side = 1.0 if rng.random() < 0.5 else -1.0
            prop, yaw = props.car(rng), 0.0 if side < 0 else math.pi
            x = side * rng.uniform(0.25, 0.5) * streets
            moves = not self.still and rng.random() < 0.6
            motion = self.walk(yaw, rng.uniform(1, 6) * self.speed, 0.0) if moves else None
            if self.is_free(x, z, prop.radius):
                self.put(prop, x, 0.0, z, yaw, motion)

    def place(self) -> Place:
        """All parts, in their slots."""
        frames = len(self.times)
        total = sum(SLOTS)
        linear = np.tile(np.eye(3), (frames, total, 1, 1))
        center = np.tile(np.array(ABSENT), (frames, total, 1))
        half_sizes, profile = np.full((total, 3), ABSENT_SIZE), np.tile(np.array(props.CYLINDER), (total, 1))
        material, moves = np.zeros(total, np.int64), np.zeros(total, np.bool_)
        first = 0
        for parts, slots in zip(self.parts, SLOTS, strict=True):
            # Large ones first: the first slots are those that throw shadows.
            for slot, part in enumerate(sorted(parts, key=lambda part: -float(part[2].max()))):
                i = first + slot
                linear[:, i], center[:, i], half_sizes[i], profile[i], material[i], moves[i] = part
            first += slots
        return Place(linear, center, half_sizes, profile, material, moves)


def furnish(rng: Rng, view: View, times: Array, *, still: bool, speed: float, crowd: float, near: float) -> Place:
    """Furnish a place.

    Args:
        rng: draws everything.
        view: of the place.
        times: `(S,)` in [0, 1].
        still: nothing moves.
        speed: a factor of how far things move.
        crowd: a factor of how many people there are.
        near: metres: no part comes closer to a camera.
    """
    build = _Builder(rng, view, times, still or speed == 0, speed, near)
    kind = LAYOUTS[view.kind]
    depth = float(view.room[2])

    def some(low: int, high: int) -> int:
        return int(rng.integers(low, high + 1))

    # Now and then people stand close, and fill half of the image.
    close = crowd > 0 and rng.random() < 0.3
    people = int(rng.poisson(1.2 * crowd)) + some(1, 3) * close
    nearest = 0.7 if close else 1.1
    if kind == "room":
        build.people(people, nearest, 2.0 if close else 3.5)
        build.scatter(props.ON_FLOORS, some(2, 6), 0.9, 1.5 * depth)
        build.line_walls(some(4, 10))
        build.ceiling()
    elif kind == "hall":
        build.people(people, nearest, 2.5 if close else 6.0)
        build.scatter(props.IN_HALLS, some(4, 11), 1.2, 1.2 * depth)
        build.line_walls(some(2, 6))
        build.ceiling()
    elif kind == "desk":
        _desk(build, some(3, 9))
        build.people(min(people, 1), nearest, 2.5)
        build.scatter(props.ON_FLOORS, some(0, 3), 1.6, 1.5 * depth)
        build.line_walls(some(2, 6))
    elif kind == "street":
        street = rng.uniform(6, 16)
        for side in (-1, 1):
            z = float(view.eyes[0, 2]) + rng.uniform(-6, 4)
            for _ in range(some(2, 4)):
                prop = props.building(rng)
                w, d = prop.half_sizes[0][0], prop.half_sizes[0][2]
                setback = street / 2 + rng.uniform(1.5, 4)
                build.put(prop, side * (setback + d), 0.0, z + w, -side * math.pi / 2)
                z += 2 * w + rng.uniform(0, 5)
        build.people(people, nearest, 3.0 if close else 12.0)
        build.drive(some(1, 5), 4.0, 30.0, street)
        build.scatter(props.IN_STREETS, some(2, 7), 3.0, 25.0)
    else:
        build.people(people, nearest, 3.0 if close else 10.0)
        build.scatter(props.IN_NATURE, some(5, 14), 2.5, 45.0)
    return build.place()


def _desk(build: _Builder, count: int) -> None:
    """A table under the camera with things on it, of which some are moved."""
    rng, view = build.rng, build.view
    x, _, z = (float(value) for value in view.target)
    top = float(view.target[1]) - build.floor
    prop = Prop(top=(rng.uniform(0.5, 1.0), rng.uniform(0.35, 0.6), top))
    assert prop.top is not None
    prop.add(props.BOX, (prop.top[0], 0.02, prop.top[1]), (0, top - 0.02, 0))
    prop.add(props.BOX, (prop.top[0] * 0.9, top / 2 - 0.03, 0.02), (0, top / 2 - 0.03, 0), 1)
    yaw = view.heading + rng.uniform(-0.6, 0.6)
    if not build.put(prop, x, 0.0, z, yaw):
        return
    for _ in range(count):
        small = props.ON_DESKS[int(rng.integers(len(props.ON_DESKS)))](rng)
        a, b = rng.uniform(-0.35, 0.35), rng.uniform(-0.3, 0.3)
        motion = build.nudge() if rng.random() < 0.2 else None
        build.put(small, x + a, top, z + b, rng.uniform(0, 6), motion, floor=False)
    if rng.random() < 0.5:
        arm = props.hand(rng, build.phase(0.4, 1.5))
        a, b = rng.uniform(-0.2, 0.2, 2)
        yaw = view.heading + math.pi + rng.uniform(-1.2, 1.2)
        height = top + rng.uniform(0, 0.1)
        build.put(arm, x + a, height, z + b, yaw, build.nudge(), floor=False, paint={0: SKIN})
