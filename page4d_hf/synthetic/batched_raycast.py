"""Ray casting of many random scenes in batched tensors.

Rays of a frame leave one point through a regular grid of pixels, so what they meet has simple forms. With the direction
d = (x, y, 1) in camera axes, whose length is one unit of z-depth, a body whose coordinates are `start + depth * A d`
(the unit sphere, or the cube [-1, 1]^3), and w = 1 / depth:

- a plane n . p = 1 is met at w = n . A d / (1 - n . start), which is linear in x and y;
- the unit sphere is met first at w = (sqrt((start . A d)^2 - c |A d|^2) - start . A d) / c with c = |start|^2 - 1, the
  root of a quadratic polynomial in x and y plus a linear one; so are other quadrics.

The largest w is what is seen. The polynomials' coefficients belong to the frames: for a pixel, an ellipsoid costs eight
operations. Shading is in camera axes, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from ..geometry import invert_extrinsics
from .batched_textures import albedo
from .random_materials import COLUMNS
from .random_scenes import RandomScenes, moved
from .raycast import dot, pixel_grid, through_cube

PIXELS_AT_ONCE = 15_000  # on a CPU; a GPU wants all
FLOOR = 2  # of the room's faces
NEVER = 1e9  # inverse depth in front of everything: planes that do not bound a body from the front
PENUMBRA = 0.25  # how much wider than a body its shadow fades, as a share of the body's size
SHADOW_MARGIN = 0.995  # of the way from the lamp: a surface does not shade itself


@dataclass(frozen=True)
class FrameScenes:
    """Frames of scenes, ready for rays: F frames with N bodies each, and the room as number 0."""

    x: Tensor  # [F, W] of the pixels' rays at depth 1, camera axes
    y: Tensor  # [F, H]
    rotation: Tensor  # [F, 3, 3] world-to-camera
    eye: Tensor  # [F, 3] world
    pixel: Tensor  # [F] size of a pixel at depth 1
    start: Tensor  # [F, N + 1, 3] the eye in the bodies' unit coordinates
    along: Tensor  # [F, N + 1, 3, 3] from camera axes to the bodies' unit coordinates
    planes: Tensor  # [F, 6, 3] the room's walls: w as coefficients of (x, y, 1)
    squares: Tensor  # [F, E, 5] ellipsoids: coefficients of (x^2, x, 1 and y^2, y) under the root
    mixed: Tensor  # [F, E] and of x y
    lines: Tensor  # [F, E, 3] and of (x, y, 1) outside of the root
    fronts: Tensor  # [F, N - E, 3, 3] boxes: the faces that look to the eye, w as coefficients of (x, y, 1)
    backs: Tensor  # [F, N - E, 6, 3] boxes: the faces that look away
    turned_squares: Tensor  # [F, T, 5] turned solids: as of ellipsoids
    turned_mixed: Tensor  # [F, T]
    turned_lines: Tensor  # [F, T, 3]
    turned_within: Tensor  # [F, T] bool: the eye is within the solid, did it go on above and below
    caps: Tensor  # [F, T, 3] the flat end that looks to the eye, w as coefficients of (x, y, 1)
    profile: Tensor  # [F, T, 3]
    half_sizes: Tensor  # [F, N + 1, 3] metres
    lamps: Tensor  # [F, 2, 3] camera axes
    lamps_on_body: Tensor  # [F, N + 1, 3] the first lamp in the bodies' unit coordinates
    lamp_colors: Tensor  # [F, 2, 3]
    lamp_reach: Tensor  # [F]
    ambient: Tensor  # [F, 3]
    scene: Tensor  # [F] int64, a row of `materials`
    materials: Tensor  # [B, 6 + N, K]
    num_ellipsoids: int
    open_air: Tensor  # [F] bool
    windows: Tensor  # [F, N, 4] int64, on the CPU: first and last but one row and column where a body can be seen
    shades: Tensor  # [F, N] bool, on the CPU

    @classmethod
    def of(
        cls, scenes: RandomScenes, image_size: tuple[int, int], device: torch.device, dtype: torch.dtype
    ) -> FrameScenes:
        """All frames of scenes. Coefficients are worked out as the scenes are, in float64 on the CPU, then moved."""
        count, frames = scenes.times.shape
        of_frames = {  # what is the same in all frames of a scene
            name: getattr(scenes, name).repeat_interleave(frames, dim=0)
            for name in ("half_sizes", "profile", "lamps", "lamp_colors", "lamp_reach", "ambient", "open_air")
        }
        half_sizes, profile, lamps = (of_frames[name] for name in ("half_sizes", "profile", "lamps"))
        extrinsics, intrinsics = scenes.extrinsics.flatten(0, 1), scenes.intrinsics.flatten(0, 1)
        rotation, eye = extrinsics[:, :, :3], invert_extrinsics(extrinsics)[..., 3]
        linear, center = scenes.linear.flatten(0, 1), scenes.center.flatten(0, 1)  # [F, N + 1, 3, 3], [F, N + 1, 3]
        to_unit = torch.linalg.inv(linear * half_sizes[:, :, None])
        along = to_unit @ rotation[:, None].transpose(-1, -2)
        start = (to_unit @ (eye[:, None] - center)[..., None]).squeeze(-1)

        ellipsoids = slice(1, 1 + scenes.num_ellipsoids)
        turned = slice(half_sizes.shape[1] - profile.shape[1], None)
        boxes = slice(ellipsoids.stop, turned.start)
        squares, mixed, lines = _sphere_coefficients(start[:, ellipsoids], along[:, ellipsoids])
        positive, negative = _plane_coefficients(start, along)  # [F, N + 1, 3, 3] each
        x, y = pixel_grid(intrinsics, image_size)
        tensors = {
            "x": x,
            "y": y,
            "rotation": rotation,
            "eye": eye,
            "pixel": 1 / intrinsics[:, 0, 0],
            "start": start,
            "along": along,
            "planes": torch.cat((positive[:, 0], negative[:, 0]), dim=1),
            "squares": squares,
            "mixed": mixed,
            "lines": lines,
            "fronts": _facing(start, positive, negative, NEVER)[:, boxes],
            "backs": _facing_away(start, positive, negative)[:, boxes],
            **_turned_coefficients(start[:, turned], along[:, turned], profile),
            "caps": _facing(start, positive, negative, -NEVER)[:, turned, 1],
            **of_frames,
            "lamps": lamps @ rotation.transpose(-1, -2) + extrinsics[:, None, :, 3],
            "lamps_on_body": (to_unit @ (lamps[:, :1] - center)[..., None]).squeeze(-1),
            "scene": torch.arange(count).repeat_interleave(frames),
            "materials": scenes.materials,
        }
        windows = _windows(extrinsics, linear, center, half_sizes, x, y)
        return cls(
            **moved(tensors, device, dtype),
            num_ellipsoids=scenes.num_ellipsoids,
            windows=windows * scenes.present.repeat_interleave(frames, dim=0)[..., None],
            shades=scenes.shades.repeat_interleave(frames, dim=0),
        )

    def frames(self, rows: slice) -> FrameScenes:
        """Some of the frames."""
        whole = ("materials", "num_ellipsoids")
        parts = {name: value if name in whole else value[rows] for name, value in vars(self).items()}
        return FrameScenes(**parts)

    @property
    def first_turned(self) -> int:
        """The number of the first of the turned solids, which follow the boxes."""
        return self.half_sizes.shape[1] - self.profile.shape[1]

    def bodies(self) -> list[int]:
        """The numbers of the bodies that can be seen in some of the frames."""
        return [int(i) + 1 for i in (self.windows[..., 1] > 0).any(0).nonzero()]

    def window(self, number: int) -> tuple[slice, slice]:
        """The rows and columns beyond which a body is seen in none of the frames."""
        windows = self.windows[:, number - 1]
        windows = windows[windows[:, 1] > 0]
        (top, _, left, _), (_, bottom, _, right) = windows.amin(0).tolist(), windows.amax(0).tolist()
        return slice(top, bottom), slice(left, right)

    def clips(self) -> list[slice]:
        """The frames of each scene."""
        counts = self.scene.unique_consecutive(return_counts=True)[1].cumsum(0).tolist()
        return [slice(first, last) for first, last in zip([0, *counts], counts, strict=False)]

    def shading_bodies(self) -> list[int]:
        """The numbers of those that throw shadows."""
        return [int(i) + 1 for i in self.shades.any(0).nonzero()]


def _windows(extrinsics: Tensor, linear: Tensor, center: Tensor, half_sizes: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Where bodies can be seen, as `FrameScenes.windows`; zeros where they cannot.

    A ball around the body is seen within the slopes of the corners of the cube around that ball.
    """
    middle = center[:, 1:] @ extrinsics[:, :, :3].mT + extrinsics[:, None, :, 3]  # [F, N, 3] camera axes
    radius = (linear[:, 1:] * half_sizes[:, 1:, None]).norm(dim=-2).sum(-1)  # that of a box, at most
    near, far = middle[..., 2] - radius, middle[..., 2] + radius
    sides = []
    for axis, at in ((1, y), (0, x)):
        low, high = middle[..., axis] - radius, middle[..., axis] + radius
        least = torch.where(near > 0, torch.minimum(low / near, low / far), -torch.inf)
        most = torch.where(near > 0, torch.maximum(high / near, high / far), torch.inf)
        first = torch.searchsorted(at, least.contiguous())
        last = torch.searchsorted(at, most.contiguous(), right=True)
        sides += [first, last]
    windows = torch.stack(sides, dim=-1)
    seen = (far > 0) & (windows[..., 1] > windows[..., 0]) & (windows[..., 3] > windows[..., 2])
    return windows.masked_fill_(~seen[..., None], 0)


def _plane_coefficients(start: Tensor, along: Tensor) -> tuple[Tensor, Tensor]:
    """Where rays meet the planes of cubes: w as coefficients `(..., 3 axes, 3)` of (x, y, 1), at +1 and at -1."""
    # A camera exactly in the plane of a face sees that face as a line, far out of the image or not at all.
    ahead, behind = (_not_zero(distance)[..., None] for distance in (1 - start, 1 + start))
    return along / ahead, -along / behind


def _not_zero(value: Tensor) -> Tensor:
    return torch.where(value.abs() < 1e-9, 1e-9, value)


def _sphere_coefficients(start: Tensor, along: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where rays meet unit spheres, of `start (F, E, 3)` and `along (F, E, 3, 3)`: see `FrameScenes`."""
    c = start.square().sum(-1) - 1  # [F, E], positive since the eye is outside
    outer = start[..., :, None] * start[..., None, :] - c[..., None, None] * torch.eye(3, dtype=start.dtype)
    form = along.transpose(-1, -2) @ outer @ along / c[..., None, None].square()  # [F, E, 3, 3]
    lines = -(along.transpose(-1, -2) @ start[..., None]).squeeze(-1) / c[..., None]
    return *_quadratic_coefficients(form), lines


def _quadratic_coefficients(form: Tensor) -> tuple[Tensor, Tensor]:
    """Quadratic forms `(..., 3, 3)` of rays (x, y, 1): coefficients of (x^2, x, 1 and y^2, y) `(..., 5)`, of x y."""
    squares = form[..., 0, 0], 2 * form[..., 0, 2], form[..., 2, 2], form[..., 1, 1], 2 * form[..., 1, 2]
    return torch.stack(squares, dim=-1), 2 * form[..., 0, 1]


def _facing(start: Tensor, positive: Tensor, negative: Tensor, none: float) -> Tensor:
    """The faces of cubes that look to the eye, `(F, N, 3, 3)`; along an axis on which it sees neither, w is `none`."""
    beyond, before = (start > 1)[..., None], (start < -1)[..., None]
    return torch.where(beyond, positive, torch.where(before, negative, positive.new_tensor([0.0, 0.0, none])))


def _facing_away(start: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """The faces of cubes that look away from the eye, `(F, N, 6, 3)`: along an axis both, or one of them twice."""
    beyond, before = (start > 1)[..., None], (start < -1)[..., None]
    return torch.cat((torch.where(beyond, negative, positive), torch.where(before, positive, negative)), dim=2)


def _turned_coefficients(start: Tensor, along: Tensor, profile: Tensor) -> dict[str, Tensor]:
    """Where rays meet turned solids x^2 + z^2 = a + b y + c y^2 of `profile (F, T, 3)`: see `FrameScenes`.

    With homogeneous points h = w (start, 1) + (A d, 0), the solid is where h^T Q h <= 0, which is a quadratic in w.
    """
    a, b, c = profile.unbind(-1)
    form = torch.zeros(*profile.shape[:-1], 4, 4, dtype=start.dtype)
    form[..., 0, 0] = form[..., 2, 2] = 1
    form[..., 1, 1], form[..., 3, 3] = -c, -a
    form[..., 1, 3] = form[..., 3, 1] = -b / 2
    at = torch.cat((start, torch.ones_like(start[..., :1])), dim=-1)[..., None]  # [F, T, 4, 1]
    way = torch.cat((along, torch.zeros_like(along[..., :1, :])), dim=-2)  # [F, T, 4, 3]
    square = _not_zero((at.mT @ form @ at).squeeze((-1, -2)))  # negative where the eye is within
    line = (way.mT @ form @ at).squeeze(-1)  # [F, T, 3]
    under = (line[..., :, None] * line[..., None, :] - square[..., None, None] * (way.mT @ form @ way)) / square[
        ..., None, None
    ].square()
    squares, mixed = _quadratic_coefficients(under)
    return {
        "turned_squares": squares,
        "turned_mixed": mixed,
        "turned_lines": -line / square[..., None],
        "turned_within": square < 0,
    }


# --------------------------------------------------------------------------------------------------------------------
# Per pixel. Everything is (F, H, W), or a list of three of these.


def cast(frames: FrameScenes) -> tuple[Tensor, Tensor]:
    """First intersections of the rays of all pixels.

    Returns:
        depth `(F, H, W)` and body `(F, H, W)` int64, 0 for the room.
    """
    inverse_depth = reduce(torch.maximum, (_linear(frames.planes[:, i], frames.x, frames.y) for i in range(6)))
    body = torch.zeros(inverse_depth.shape, dtype=torch.int64, device=inverse_depth.device)
    # A body is sought where it can be in the frames of one clip, unless that is too little to be done at once.
    clips = frames.clips() if body.device.type == "cpu" else []
    if len(clips) * PIXELS_AT_ONCE > body.numel() or not clips:
        clips = [slice(0, len(body))]
    for clip in clips:
        some = frames.frames(clip)
        for number in some.bodies():
            rows, columns = some.window(number)
            x, y = some.x[:, columns], some.y[:, rows]
            if number <= frames.num_ellipsoids:
                w = _enter_ellipsoid(some, number, x, y)
            elif number < frames.first_turned:
                w = _enter_box(some, number, x, y)
            else:
                w = _enter_turned(some, number, x, y)
            seen = inverse_depth[clip, rows, columns]
            closer = w > seen
            seen.copy_(torch.where(closer, w, seen))
            body[clip, rows, columns].masked_fill_(closer, number)
    return inverse_depth.reciprocal_(), body


# Where rays through pixels at `x (F, W)` and `y (F, H)` enter a body: w, and what is less than 0 or NaN if they do not.


def _enter_ellipsoid(frames: FrameScenes, number: int, x: Tensor, y: Tensor) -> Tensor:
    i = number - 1
    root = _quadratic(frames.squares[:, i], frames.mixed[:, i], x, y).sqrt_()
    return root.add_(_linear(frames.lines[:, i], x, y))


def _enter_box(frames: FrameScenes, number: int, x: Tensor, y: Tensor) -> Tensor:
    i = number - 1 - frames.num_ellipsoids
    front = reduce(torch.minimum, (_linear(frames.fronts[:, i, axis], x, y) for axis in range(3)))
    back = reduce(torch.maximum, (_linear(frames.backs[:, i, face], x, y) for face in range(6)))
    return front.masked_fill_((front <= back).logical_or_(front >= NEVER / 2), -NEVER)


def _enter_turned(frames: FrameScenes, number: int, x: Tensor, y: Tensor) -> Tensor:
    i = number - frames.first_turned
    root = _quadratic(frames.turned_squares[:, i], frames.turned_mixed[:, i], x, y).sqrt_()
    line = _linear(frames.turned_lines[:, i], x, y)
    upwards = _linear(frames.along[:, number, 1], x, y)
    height = frames.start[:, number, 1, None, None]
    nearest = torch.full_like(root, -NEVER)
    # The farther of the two first. Both are on the endless solid, and count between its ends.
    for w in (line - root, line + root):
        valid = torch.addcmul(upwards, w, height).abs_() <= w
        nearest = torch.where(valid, w, nearest)
    cap = _linear(frames.caps[:, i], x, y)
    between = (cap - line).abs_() < root  # within the solid or, where the eye is within, without
    return torch.where(between ^ frames.turned_within[:, i, None, None], torch.maximum(nearest, cap), nearest)


def _quadratic(squares: Tensor, mixed: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """a x^2 + b x + c + d y^2 + e y of `squares (F, 5)`, and f x y of `mixed (F)`: `(F, H, W)`."""
    a, b, c, d, e = (coefficient[:, None] for coefficient in squares.unbind(-1))
    total = _outer_sum(a * x.square() + b * x + c, d * y.square() + e * y)
    return total.addcmul_((mixed[:, None] * x)[:, None], y[:, :, None])


@dataclass
class Rendered:
    """Images, depth and surface points of frames."""

    images: Tensor  # [F, 3, H, W] sRGB in [0, 1]
    depth: Tensor  # [F, H, W], 0 in the sky
    body: Tensor  # [F, H, W] int64
    world_points: Tensor  # [F, H, W, 3]
    position: Tensor  # [F, H, W, 3] metres, on the body at rest


def render(frames: FrameScenes) -> Rendered:
    """Images of frames, and what lies behind each pixel's centre."""
    depth, body = cast(frames)
    count, bodies = frames.start.shape[:2]
    point = [depth * frames.x[:, None], depth * frames.y[:, :, None], depth]  # camera axes

    # What each pixel needs to know about its body in its frame.
    table = torch.cat((frames.start, frames.along.flatten(2), frames.half_sizes), dim=-1).flatten(0, 1)
    row = body + torch.arange(count, device=body.device)[:, None, None] * bodies
    known = _look_up(table, row)
    start, along, half_sizes = known[:3], known[3:12].unflatten(0, (3, 3)), known[12:15]
    unit = [torch.addcmul(start[i], along[i, 0], point[0]) for i in range(3)]
    for i in range(3):
        unit[i].addcmul_(along[i, 1], point[1]).addcmul_(along[i, 2], point[2])
    position = [one * half for one, half in zip(unit, half_sizes, strict=True)]

    in_room = body == 0
    flat = in_room | ((body > frames.num_ellipsoids) & (body < frames.first_turned))
    x_size, y_size, z_size = (one.abs() for one in unit)
    on_x = (x_size >= y_size) & (x_size >= z_size)
    on_y = (y_size >= z_size) & ~on_x
    outward = _outward(unit, flat, on_x, on_y, in_room)
    _turn_outward(frames, unit, body, outward)
    # Normals go by the inverse transpose of what points go by, and `along` is the inverse.
    normal = [dot([along[0, i], along[1, i], along[2, i]], outward) for i in range(3)]
    length = dot(normal, normal).rsqrt_()
    for component in normal:
        component.mul_(length)

    # A pixel covers more of a surface that is seen at a grazing angle, but only in one direction.
    way = dot(point, point).sqrt_()
    cosine = dot(point, normal).abs_().div_(way)
    footprint = (depth * frames.pixel[:, None, None]).mul_(cosine.clamp_min_(0.08).rsqrt())
    face = torch.where(on_x, 0, torch.where(on_y, 2, 4)) + (_pick(unit, on_x, on_y) > 0)
    material = torch.where(in_room, face, body + 5)
    material = material + frames.scene[:, None, None] * frames.materials.shape[1]
    properties = _look_up(frames.materials.flatten(0, 1), material)
    surface, stretch = _surface(position, unit, flat, on_x, on_y)
    colors = albedo(properties, position, surface, stretch, footprint)
    light = _light(frames, point, normal, body, unit)
    sky = in_room & frames.open_air[:, None, None] & (face != FLOOR)
    glow = properties[COLUMNS["glow"]][0]
    light = [one.masked_fill_(sky, 0.0).add_(glow) for one in light]
    images = torch.stack([color.mul_(one) for color, one in zip(colors, light, strict=True)], dim=1)
    # Bright light saturates softly, as on film.
    images = (1 - torch.exp(images.mul_(-1.5))).pow_(1 / 2.2)

    world = [
        dot([frames.rotation[:, i, j, None, None] for i in range(3)], point).add_(frames.eye[:, j, None, None])
        for j in range(3)
    ]
    depth = depth.masked_fill(sky, 0.0)
    return Rendered(images, depth, body, torch.stack(world, dim=-1), torch.stack(position, dim=-1))


def _outward(unit: list[Tensor], flat: Tensor, on_x: Tensor, on_y: Tensor, in_room: Tensor) -> list[Tensor]:
    """Normals in unit coordinates: of the sphere its points, of cubes their faces'; the room is seen from inside."""
    sign = torch.where(in_room, -1.0, 1.0).to(unit[0].dtype)
    on_z = ~(on_x | on_y)
    return [
        torch.where(flat, one.sign().mul_(sign).mul_(on), one) for one, on in zip(unit, (on_x, on_y, on_z), strict=True)
    ]


def _turn_outward(frames: FrameScenes, unit: list[Tensor], body: Tensor, outward: list[Tensor]) -> None:
    """Put the normals of turned solids in place of those of spheres."""
    for number in (number for number in frames.bodies() if number >= frames.first_turned):
        here = body == number
        _, b, c = (one[:, None, None] for one in frames.profile[:, number - frames.first_turned].unbind(-1))
        end = unit[1].abs() > 1 - 1e-4
        side = -(b / 2 + c * unit[1])
        outward[1] = torch.where(here, torch.where(end, unit[1], side), outward[1])
        for i in (0, 2):
            outward[i] = outward[i].masked_fill(here & end, 0.0)


def _pick(vector: list[Tensor], on_x: Tensor, on_y: Tensor) -> Tensor:
    return torch.where(on_x, vector[0], torch.where(on_y, vector[1], vector[2]))


def _surface(
    position: list[Tensor], unit: list[Tensor], flat: Tensor, on_x: Tensor, on_y: Tensor
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Two coordinates on surfaces, the second one upwards, and how many of each there are in a metre.

    On boxes metres; on ellipsoids turns about the vertical, and half the height in half sizes.
    """
    x, y, z = position
    turns = torch.atan2(unit[2], unit[0]).mul_(1 / (2 * torch.pi))
    first = torch.where(flat, torch.where(on_x, z, x), turns)
    second = torch.where(flat, torch.where(on_y, z, y), unit[1] * 0.5)
    around = torch.hypot(x, z).clamp_min_(1e-3).reciprocal_().mul_(1 / (2 * torch.pi))
    one = torch.ones((), dtype=x.dtype, device=x.device)
    # Half a size in a metre: |y| / |unit y| is the half size.
    upwards = (unit[1] / y).nan_to_num_(0.0).abs_().clamp_max_(20).mul_(0.5)
    return (first, second), (torch.where(flat, one, around), torch.where(flat, one, upwards))


def _light(
    frames: FrameScenes, point: list[Tensor], normal: list[Tensor], body: Tensor, unit: list[Tensor]
) -> list[Tensor]:
    """Light on matt surfaces, linear RGB: two lamps, of which the first throws shadows, and light from all sides."""
    up = frames.rotation[:, :, 1, None, None]  # in camera axes
    openness = dot([up[:, i] for i in range(3)], normal).mul_(0.12).add_(0.88)
    lit = torch.ones_like(openness)
    depth = point[2]
    for number in frames.shading_bodies():
        # The points in this body's unit coordinates.
        there = [
            _linear(frames.along[:, number, i], frames.x, frames.y)
            .mul_(depth)
            .add_(frames.start[:, number, i, None, None])
            for i in range(3)
        ]
        lamp = [frames.lamps_on_body[:, number, i, None, None] for i in range(3)]
        from_lamp = [one - two for one, two in zip(there, lamp, strict=True)]
        in_the_way = _past_cube if frames.num_ellipsoids < number < frames.first_turned else _past_sphere
        lit.mul_(in_the_way(lamp, from_lamp))
        # Nearby bodies hold off some of the light from all sides.
        squared = dot(there, there).clamp_min_(1.0)
        openness.mul_((0.45 / squared.square_()).masked_fill_(body == number, 0.0).neg_().add_(1))
    # So do the other walls in the corners of a room.
    in_room = body == 0
    for i, one in enumerate(unit):
        size = frames.half_sizes[:, 0, i, None, None]
        to_wall = (1 - one.abs()) * size
        # A surface's own wall, at distance 0, is not in its way: it is what counts as half closed in any case.
        openness.mul_(torch.where(in_room, torch.exp(to_wall.mul_(-1 / 0.35)).mul_(-0.3).add_(1), 0.85))

    light = [openness * frames.ambient[:, i, None, None] for i in range(3)]
    for number in range(2):
        to_lamp = [frames.lamps[:, number, i, None, None] - one for i, one in enumerate(point)]
        squared = dot(to_lamp, to_lamp)
        # Light falls off with the square of the distance, but for what is close to the lamp.
        reach = frames.lamp_reach[:, None, None].square()
        cosine = dot(to_lamp, normal).clamp_min_(0).mul_(squared.rsqrt())
        strength = cosine.mul_((reach * 1.5) / (squared + reach * 0.5))
        if number == 0:
            strength.mul_(lit)
        for i in range(3):
            light[i].addcmul_(strength, frames.lamp_colors[:, number, i, None, None])
    return light


def _past_sphere(lamp: list[Tensor], way: list[Tensor]) -> Tensor:
    """How much light of a lamp passes the unit sphere on its way to points, in [0, 1]."""
    squared = dot(way, way)
    inwards = -dot(lamp, way)
    # The squared distance of the way from the centre, as far as a half shadow goes.
    from_center = dot(lamp, lamp) - inwards.square().div_(squared)
    passed = ((from_center - (1 - PENUMBRA)) * (1 / (2 * PENUMBRA))).clamp_(0, 1)
    # Beyond it the sphere is in the way only of points behind its middle.
    return passed.masked_fill_((inwards <= 0).logical_or_(inwards >= squared * SHADOW_MARGIN), 1.0)


def _past_cube(lamp: list[Tensor], way: list[Tensor]) -> Tensor:
    """How much light of a lamp passes the cube [-1, 1]^3 on its way to points, in [0, 1]."""
    entry, exit_ = through_cube(lamp, way)
    through = (exit_ - entry).mul_(12).clamp_(0, 1)
    through.masked_fill_((entry >= SHADOW_MARGIN).logical_or_(entry <= 0), 0.0)
    return 1 - through


def _linear(coefficients: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """a x + b y + c of coefficients `(F, 3)`, `(F, H, W)`."""
    a, b, c = (coefficients[:, i, None] for i in range(3))
    return _outer_sum(a * x + c, b * y)


def _outer_sum(rows: Tensor, columns: Tensor) -> Tensor:
    """Of `(F, W)` and `(F, H)`: `(F, H, W)`."""
    return rows[:, None, :] + columns[:, :, None]


def _look_up(table: Tensor, rows: Tensor) -> Tensor:
    """Rows `(...)` of a table `(M, K)`: `(K, ...)`."""
    return table.T.contiguous().index_select(1, rows.flatten()).view(-1, *rows.shape)
