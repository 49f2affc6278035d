"""Scenes made visible: images, and for each pixel exactly what it shows, by casting rays in batched tensors.

Nothing is approximated but the light: a surface point is where a ray meets a sphere, a cube or the room in closed form.

Vectors of many rays are laid out components first, `(3, F, R)` for F frames of R rays: sums over three neighbours in
memory are several times slower than sums of three tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from ..geometry import invert_extrinsics
from .scene import Body, Scene
from .textures import largest_component

RAYS_AT_ONCE = 20_000  # what fits a CPU's cache is fastest; no pixel depends on it
LAMP_POWER = 6.2
STRAY_LIGHT = 0.52
NEAREST = 1e-3  # lengths of a ray's direction before its origin
SHADOW_MARGIN = 1e-3  # of the way from the lamp: a surface does not shade itself


def render_clip(
    scene: Scene,
    extrinsics: Tensor,
    intrinsics: Tensor,
    times: Tensor,
    image_size: tuple[int, int],
    *,
    supersampling: int = 3,
) -> dict[str, Tensor]:
    """Render frames of a scene with their exact geometry.

    All are in float64 on the CPU. Pixels: the first one's centre is at (0.5, 0.5).

    Args:
        scene: what is to be seen.
        extrinsics: `(F, 3, 4)` world-to-camera, OpenCV axes, metres.
        intrinsics: `(F, 3, 3)` in pixels, without skew.
        times: `(F,)` in [0, 1].
        image_size: (height, width).
        supersampling: colours are means over a grid of this many by this many rays a pixel.

    Returns:
        images: `(F, H, W, 3)` sRGB in [0, 1].
        depth: `(F, H, W)` z-depth in metres of what lies at the pixel's centre; so for all that follows.
        world_points: `(F, H, W, 3)` in metres.
        body: `(F, H, W)` int64, 0 for the room and i for `scene.bodies[i - 1]`.
        position: `(F, H, W, 3)` in the body's own coordinates at rest, metres (of the room: in the world);
            `scene.world_points` follows it through time.
        motion_mask: `(F, H, W)` bool, true where the body moves at some time of the clip.
    """
    height, width = image_size
    step = max(1, RAYS_AT_ONCE // (height * width))
    chunks = [
        _render_frames(
            PosedScene(scene, times[start : start + step]),
            extrinsics[start : start + step],
            intrinsics[start : start + step],
            image_size,
            supersampling,
        )
        for start in range(0, len(times), step)
    ]
    return {key: torch.cat([chunk[key] for chunk in chunks]) for key in chunks[0]}


def _render_frames(
    posed: PosedScene, extrinsics: Tensor, intrinsics: Tensor, image_size: tuple[int, int], supersampling: int
) -> dict[str, Tensor]:
    eye = invert_extrinsics(extrinsics)[:, :, 3]  # [F, 3]
    lamps = posed.lamp_points(supersampling**2)
    radiance: Tensor | None = None
    center: Hits | None = None
    for sample in range(supersampling**2):
        offset = (sample % supersampling + 0.5) / supersampling, (sample // supersampling + 0.5) / supersampling
        hits = posed.cast(eye, camera_rays(extrinsics, intrinsics, image_size, offset))
        # Each sample sees another point of the lamp, which softens the shadows.
        light = posed.shade(hits, lamps[sample])
        radiance = light if radiance is None else radiance + light
        if offset == (0.5, 0.5):
            center = hits
    assert radiance is not None
    if center is None:  # no sample lies at the centre in a grid of even size
        center = posed.cast(eye, camera_rays(extrinsics, intrinsics, image_size, (0.5, 0.5)))
    moves = torch.tensor([False, *(body.moves for body in posed.scene.bodies)])
    per_pixel = {
        "images": ((radiance / supersampling**2).clamp(0, 1) ** (1 / 2.2)).movedim(0, -1),
        "depth": center.distance,
        "world_points": center.points.movedim(0, -1),
        "body": center.body,
        "position": center.position.movedim(0, -1),
        "motion_mask": moves[center.body],
    }
    return {key: value.unflatten(1, image_size) for key, value in per_pixel.items()}


def camera_rays(
    extrinsics: Tensor, intrinsics: Tensor, image_size: tuple[int, int], offset: tuple[float, float] = (0.5, 0.5)
) -> Tensor:
    """Directions of rays through the pixels, in the world, such that one times a direction is a z-depth of one.

    Args:
        extrinsics: `(F, 3, 4)` world-to-camera, OpenCV axes.
        intrinsics: `(F, 3, 3)` in pixels, without skew.
        image_size: (height, width).
        offset: where in each pixel, (right, down) in [0, 1].

    Returns:
        `(3, F, H * W)`.
    """
    x, y = pixel_grid(intrinsics, image_size, offset)
    x, y = x[:, None, :], y[:, :, None]
    to_world = extrinsics[:, :, :3].transpose(-1, -2)[..., None]  # [F, 3, 3, 1]
    components = [
        to_world[:, i, 0, :, None] * x + to_world[:, i, 1, :, None] * y + to_world[:, i, 2, :, None] for i in range(3)
    ]
    return torch.stack(components).flatten(2)


def pixel_grid(
    intrinsics: Tensor, image_size: tuple[int, int], offset: tuple[float, float] = (0.5, 0.5)
) -> tuple[Tensor, Tensor]:
    """Where the pixels' rays (see `camera_rays`) are at depth 1, in camera axes: x `(F, W)` and y `(F, H)`."""
    height, width = image_size
    u = torch.arange(width, dtype=intrinsics.dtype, device=intrinsics.device) + offset[0]
    v = torch.arange(height, dtype=intrinsics.dtype, device=intrinsics.device) + offset[1]
    return (u - intrinsics[:, 0, 2:]) / intrinsics[:, 0, :1], (v - intrinsics[:, 1, 2:]) / intrinsics[:, 1, 1:2]


@dataclass
class Hits:
    """First intersections of rays, and the surfaces there."""

    distance: Tensor  # [F, R] in lengths of the ray's direction
    points: Tensor  # [3, F, R] in the world
    body: Tensor  # [F, R] int64, 0 for the room
    normals: Tensor  # [3, F, R] unit vectors in the world, on the side that is seen
    albedo: Tensor  # [3, F, R] linear RGB
    position: Tensor  # [3, F, R] the same points in the coordinates of their bodies at rest; of the room: in the world


class PosedScene:
    """A scene at some times, one for each frame, ready for rays. Rays of a frame have one origin."""

    def __init__(self, scene: Scene, times: Tensor) -> None:
        self.scene = scene
        # Of each body: from offsets in the world to the unit sphere or cube, and the centre.
        self.inverses: list[Tensor] = []  # [F, 3, 3]
        self.centers: list[Tensor] = []  # [F, 3]
        for body in scene.bodies:
            linear, center = body.transform(times)
            self.inverses.append(torch.linalg.inv(linear * body.half_sizes))
            self.centers.append(center)

    def cast(self, origin: Tensor, directions: Tensor) -> Hits:
        """Find what rays of any length `(3, F, R)` meet first, from points `(F, 3)` inside the room and outside of all
        bodies."""
        scene = self.scene
        distance = _leave_cube(
            (origin - scene.room_center) / scene.room_half_sizes, directions / scene.room_half_sizes[:, None, None]
        )
        which = torch.zeros_like(distance, dtype=torch.int64)
        for index, body in enumerate(scene.bodies):
            entry = self._enter(index, body, origin, directions)
            closer = (entry > NEAREST) & (entry < distance)
            distance = torch.where(closer, entry, distance)
            which = torch.where(closer, index + 1, which)
        points = origin.T[..., None] + distance * directions
        return Hits(distance, points, which, *self._surfaces(points, which))

    def _enter(self, index: int, body: Body, origin: Tensor, directions: Tensor) -> Tensor:
        """Where rays enter a body, `(F, R)` in lengths of their directions; negative or NaN where they do not."""
        inverse = self.inverses[index]
        start = (inverse @ (origin - self.centers[index])[..., None]).squeeze(-1)  # [F, 3]
        along = [dot(row, directions) for row in inverse.movedim(0, -1)[..., None]]
        return (_enter_sphere if body.shape == "sphere" else _enter_cube)(start.T[..., None], along)

    def _surfaces(self, points: Tensor, which: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Normals, albedo and position on their bodies of points on surfaces."""
        scene = self.scene
        normals, albedo, position = torch.empty_like(points), torch.empty_like(points), points.clone()
        frame, ray = (which == 0).nonzero(as_tuple=True)
        offset = points[:, frame, ray] - scene.room_center[:, None]
        normals[:, frame, ray] = -_cube_normals(offset / scene.room_half_sizes[:, None])  # seen from inside
        albedo[:, frame, ray] = scene.room_texture.color(offset, scene.room_half_sizes)
        for index, body in enumerate(scene.bodies):
            frame, ray = (which == index + 1).nonzero(as_tuple=True)
            inverse = self.inverses[index][frame]  # [N, 3, 3]
            offset = points[:, frame, ray].T - self.centers[index][frame]
            unit = (inverse @ offset[..., None]).squeeze(-1).T  # [3, N]
            position[:, frame, ray] = at_rest = unit * body.half_sizes[:, None]
            outward = unit if body.shape == "sphere" else _cube_normals(unit)
            # Normals go by the inverse transpose of what points go by.
            normal = (outward.T[:, None] @ inverse).squeeze(1).T
            normals[:, frame, ray] = normal / normal.norm(dim=0)
            albedo[:, frame, ray] = body.texture.color(at_rest, body.half_sizes)
        return normals, albedo, position

    def shade(self, hits: Hits, lamp: Tensor) -> Tensor:
        """Light of a point of the lamp `(3,)` that leaves surfaces, `(3, F, R)` linear RGB: all are matt, so it is the
        same in all directions."""
        ways = hits.points - lamp[:, None, None]
        squared = dot(ways, ways)
        # Cosines at the surface and at the lamp, which shines down, over the squared distance.
        light = -dot(ways, hits.normals).clamp_max(0) * (-ways[1]).clamp_min(0) / squared.square()
        origin = lamp.expand(ways.shape[1], 3)
        for index, body in enumerate(self.scene.bodies):
            entry = self._enter(index, body, origin, ways)
            light = light.masked_fill((entry > 0) & (entry < 1 - SHADOW_MARGIN), 0.0)
        return hits.albedo * (LAMP_POWER * light + STRAY_LIGHT * self._openness(hits))

    def lamp_points(self, count: int) -> Tensor:
        """Points `(count, 3)` spread over the lamp."""
        center = self.scene.lamp_center
        index = torch.arange(count, dtype=center.dtype)
        # The R2 sequence (Roberts, 2018), even at any length, from the centre on.
        across = torch.stack((index * 0.7548776662466927, torch.zeros_like(index), index * 0.5698402909980532), dim=-1)
        return center + center.new_tensor([1.0, 0.0, 1.0]) * ((across + 0.5) % 1 * 2 - 1) * self.scene.lamp_half_size

    def _openness(self, hits: Hits) -> Tensor:
        """Share of the room's ambient light that reaches a surface: less in corners and near bodies."""
        scene = self.scene
        x, y, z = scene.room_half_sizes[:, None, None] - (hits.points - scene.room_center[:, None, None]).abs()
        openness = 0.85 + 0.15 * hits.normals[1]
        for to_wall, normal in zip((x, y, z), hits.normals, strict=True):
            # A surface's own wall, at distance 0, darkens it nowhere: it is the others that hem it in.
            openness = openness * (1 - 0.4 * torch.exp(to_wall * (-1 / 0.4)) * (1 - normal.abs()))
        for index, body in enumerate(scene.bodies):
            offset = self.centers[index].T[..., None] - hits.points
            squared = dot(offset, offset)
            # The share of a hemisphere that a sphere covers, weighted by the cosine: exact where it is all in view.
            cosine = dot(offset, hits.normals).clamp_min(0) * squared.rsqrt()
            covered = cosine * (body.half_sizes.square().mean() / squared).clamp_max(1)
            openness = openness * (1 - 0.8 * covered.masked_fill(hits.body == index + 1, 0.0))
        return openness


# --------------------------------------------------------------------------------------------------------------------
# Vectors with components first, and unit shapes


def dot(first: Tensor | Sequence[Tensor], second: Tensor | Sequence[Tensor]) -> Tensor:
    """`(3, ...)`, or three components, and the same to `(...)`."""
    return torch.addcmul(torch.addcmul(first[0] * second[0], first[1], second[1]), first[2], second[2])


def _enter_sphere(start: Tensor, along: list[Tensor]) -> Tensor:
    """Where rays from outside `(3, F, 1)` along three components `(F, R)` enter the unit sphere: the lower root of
    |start + t along|^2 = 1; NaN if there is none."""
    a, b = dot(along, along), dot(start, along)
    c = (start * start).sum(0) - 1
    discriminant = b * b - a * c
    # c / (sqrt - b) is the same root as (-b - sqrt) / a, without the cancellation for small spheres far away.
    entry = c / (discriminant.clamp_min(0).sqrt() - b)
    return entry.masked_fill(discriminant < 0, torch.nan)


def _enter_cube(start: Tensor, along: list[Tensor]) -> Tensor:
    """Where rays from outside enter the cube [-1, 1]^3; NaN if they do not."""
    entry, exit_ = through_cube(start, along)
    return entry.masked_fill(entry > exit_, torch.nan)


def through_cube(start: Sequence[Tensor] | Tensor, along: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Where lines enter the last of the three slabs of the cube [-1, 1]^3, and leave the first: outside of it, before
    they enter."""
    enter, leave = [], []
    for begin, component in zip(start, along, strict=True):
        inverse = component.reciprocal()
        first, second = (-1 - begin) * inverse, (1 - begin) * inverse
        enter.append(torch.minimum(first, second))
        leave.append(torch.maximum(first, second))
    return reduce(torch.maximum, enter), reduce(torch.minimum, leave)


def _leave_cube(start: Tensor, along: Tensor) -> Tensor:
    """Where rays from inside `(F, 3)` along `(3, F, R)` leave the cube [-1, 1]^3."""
    x, y, z = ((1 - start[:, i : i + 1] * along[i].sign()) / along[i].abs() for i in range(3))
    return torch.minimum(torch.minimum(x, y), z)


def _cube_normals(position: Tensor) -> Tensor:
    """Outward normals `(3, N)` of the cube [-1, 1]^3 at points on its surface."""
    axis = largest_component(position)
    return torch.stack([torch.where(axis == i, position[i].sign(), 0.0) for i in range(3)])
