"""Random clips: is their ground truth true, do their images show it, and do the options do what they say?

Of both kinds of scenes: rooms with bodies, and places that are laid out like life.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from page4d_hf.clips import SyntheticClips, random_clips
from page4d_hf.clips import rendered as training_clips_module
from page4d_hf.errors import Page4DError
from page4d_hf.geometry import invert_extrinsics, project_points, unproject_depth
from page4d_hf.synthetic import SyntheticOptions, props
from page4d_hf.synthetic.batched_raycast import FrameScenes, cast
from page4d_hf.synthetic.random_bodies import num_ellipsoids
from page4d_hf.synthetic.random_scenes import RandomScenes, draw_scenes

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = (36, 48)  # height, width
FRAMES = 3
SEEDS = range(12)
OPTIONS = SyntheticOptions()
LIFELIKE = SyntheticOptions(lifelike=1.0)
KINDS = {"rooms": (SEEDS, SIZE, OPTIONS), "places": (range(16), (30, 40), LIFELIKE)}


@cache
def clips_of(kind: str) -> SyntheticClips:
    seeds, size, options = KINDS[kind]
    return random_clips(seeds, FRAMES, size, dtype=torch.float64, options=options)


@cache
def scenes_of(kind: str) -> RandomScenes:
    seeds, size, options = KINDS[kind]
    return draw_scenes(seeds, FRAMES, size, options)


@pytest.fixture
def clips() -> SyntheticClips:
    return clips_of("rooms")


@pytest.fixture
def places() -> SyntheticClips:
    return clips_of("places")


@pytest.fixture(scope="module")
def many() -> SyntheticClips:
    """Two hundred small clips."""
    return random_clips(range(200), FRAMES, (15, 20))


@pytest.fixture(scope="module")
def many_places() -> SyntheticClips:
    return random_clips(range(100), FRAMES, (12, 16), options=LIFELIKE)


def pairs() -> list[tuple[int, int]]:
    return [(a, b) for a in range(FRAMES) for b in range(FRAMES) if a != b]


def sample(maps: Tensor, pixels: Tensor) -> Tensor:
    """Maps `(B, C, H, W)` at pixels `(B, N, 2)`, between the pixels' centres linearly: `(B, C, N)`."""
    size = pixels.new_tensor([maps.shape[-1], maps.shape[-2]])
    grid = (pixels / size * 2 - 1)[:, None]
    return torch.nn.functional.grid_sample(maps, grid, align_corners=False, padding_mode="border")[:, :, 0]


def is_inside_image(pixels: Tensor, depth: Tensor, size: tuple[int, int] = SIZE) -> Tensor:
    u, v = pixels.unbind(-1)
    return (depth > 0) & (u > 0.5) & (u < size[1] - 0.5) & (v > 0.5) & (v < size[0] - 0.5)


def outwardness(scenes: RandomScenes, points: Tensor, frame: int) -> Tensor:
    """How far outside of each body points `(B, ..., 3)` are, `(B, N + 1, ...)`: 0 on the surface, negative within."""
    axes = scenes.linear[:, frame] * scenes.half_sizes[:, :, None]
    flat = points.flatten(1, -2)[:, None] - scenes.center[:, frame, :, None]  # [B, N + 1, P, 3]
    unit = flat @ torch.linalg.inv(axes).transpose(-1, -2)
    out = unit.abs().amax(-1) - 1
    ellipsoids, turned = slices(scenes)[::2]
    out[:, ellipsoids] = unit[:, ellipsoids].norm(dim=-1) - 1
    x, y, z = unit[:, turned].unbind(-1)
    a, b, c = scenes.profile[..., None].unbind(2)
    side = x.square() + z.square() - (a + b * y + c * y.square())
    out[:, turned] = torch.maximum(side, y.abs() - 1)
    return out.unflatten(2, points.shape[1:-1])


def slices(scenes: RandomScenes) -> tuple[slice, slice, slice]:
    """Which of the numbers are ellipsoids, boxes and turned solids."""
    count = scenes.half_sizes.shape[1]
    first, last = 1 + scenes.num_ellipsoids, count - scenes.profile.shape[1]
    return slice(1, first), slice(first, last), slice(last, count)


# --------------------------------------------------------------------------------------------------------------------
# Geometry


@pytest.mark.parametrize(("kind", "error"), [("rooms", 1e-12), ("places", 1e-9)])
def test_depth_unprojected_is_where_the_points_are(kind: str, error: float) -> None:
    clips = clips_of(kind)
    points = unproject_depth(clips.depth, clips.extrinsics, clips.intrinsics, pixel_center=0.5)
    known = clips.depth > 0
    assert known.all() == (kind == "rooms")
    torch.testing.assert_close(points[known], clips.world_points[known], rtol=0, atol=error)


def test_points_project_to_the_pixels_that_see_them(clips: SyntheticClips) -> None:
    pixels, depth = project_points(clips.world_points.flatten(2, 3), clips.extrinsics, clips.intrinsics)
    v, u = torch.meshgrid(torch.arange(SIZE[0]) + 0.5, torch.arange(SIZE[1]) + 0.5, indexing="ij")
    grid = torch.stack((u, v), dim=-1).flatten(0, 1).double()
    torch.testing.assert_close(pixels, grid.expand_as(pixels), rtol=0, atol=1e-9)
    torch.testing.assert_close(depth, clips.depth.flatten(2, 3), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("kind", "error"), [("rooms", 1e-9), pytest.param("places", 1e-7, marks=pytest.mark.slow)])
def test_every_pixel_shows_a_point_on_the_surface_of_its_body(kind: str, error: float) -> None:
    clips, scenes = clips_of(kind), scenes_of(kind)
    for frame in range(FRAMES):
        out = outwardness(scenes, clips.world_points[:, frame], frame)
        own = out.gather(1, clips.body[:, None, frame]).squeeze(1)
        torch.testing.assert_close(own, torch.zeros_like(own), rtol=0, atol=error)
    seen, numbers = set(clips.body.unique().tolist()), range(scenes.half_sizes.shape[1])
    assert all(seen & set(numbers[shape]) for shape in slices(scenes) if numbers[shape])
    assert kind == "places" or seen == set(numbers)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "frames", "every"), [("rooms", range(FRAMES), 1), ("places", [1], 3)])
def test_nothing_stands_between_the_camera_and_what_it_sees(kind: str, frames: list[int], every: int) -> None:
    """By stepping along the rays, and by no formula that the ray caster uses."""
    clips, scenes = clips_of(kind), scenes_of(kind)
    eyes = invert_extrinsics(clips.extrinsics)[..., 3]
    for frame in frames:
        eye = eyes[:, frame, None, None]
        way = clips.world_points[:, frame, ::every, ::every] - eye
        for share in np.linspace(0.01, 0.998, 40):
            out = outwardness(scenes, eye + share * way, frame)
            assert (out[:, 0] < 0).all()
            assert (out[:, 1:] > -1e-9).all()


def test_follow_gives_the_points_themselves_at_their_own_time(clips: SyntheticClips) -> None:
    for frame in range(FRAMES):
        torch.testing.assert_close(clips.follow(frame, frame), clips.world_points[:, frame], rtol=0, atol=1e-12)


def test_still_points_stay_where_they_are_and_moving_ones_do_not(clips: SyntheticClips) -> None:
    for first, second in pairs():
        moved = (clips.follow(first, second) - clips.world_points[:, first]).norm(dim=-1)
        mask = clips.motion_mask[:, first]
        assert moved[~mask].max() < 1e-12
        assert (moved[mask] > 1e-4).double().mean() > 0.99


@pytest.mark.slow
def test_followed_points_are_where_another_frame_sees_them(clips: SyntheticClips) -> None:
    """The other frame, cast anew along the rays to those points, meets them exactly, unless something is in the way."""
    for first, second in pairs():
        there = clips.follow(first, second)
        pixels, depth = project_points(there.flatten(1, 2), clips.extrinsics[:, second], clips.intrinsics[:, second])
        inside = is_inside_image(pixels, depth)
        met, body = cast_at(clips, second, pixels)
        same = inside & (body == clips.body[:, first].flatten(1))
        front = met < depth - 1e-6
        # Whatever is met is the point or before it; a convex body hides its own other side.
        assert (met <= depth + 1e-6)[inside].all()
        seen = same & ~front
        assert seen.double().mean() > 0.15
        moving = clips.motion_mask[:, first].flatten(1)
        assert (seen & moving).any()
        torch.testing.assert_close(met[seen], depth[seen], rtol=0, atol=1e-6)


def cast_at(clips: SyntheticClips, frame: int, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Depth and body `(B, N)` at any pixels `(B, N, 2)`, each of them a frame of one pixel."""
    frames = FrameScenes.of(scenes_of("rooms"), SIZE, torch.device("cpu"), torch.float64)
    depths, bodies = [], []
    for clip in range(len(clips)):
        row = clip * FRAMES + frame
        one = frames.frames(slice(row, row + 1))
        u, v = pixels[clip].unbind(-1)
        focal = clips.intrinsics[clip, frame, 0, 0]
        count = len(u)
        many_frames = {
            name: value.expand(count, *value.shape[1:]) if name not in ("materials", "num_ellipsoids") else value
            for name, value in vars(one).items()
        }
        many_frames["x"] = ((u - SIZE[1] / 2) / focal)[:, None]
        many_frames["y"] = ((v - SIZE[0] / 2) / focal)[:, None]
        many_frames["windows"] = torch.tensor([0, 1, 0, 1]).expand(one.windows.shape[1], 4).expand(count, -1, -1)
        depth, body = cast(FrameScenes(**many_frames))
        depths.append(depth.flatten())
        bodies.append(body.flatten())
    return torch.stack(depths), torch.stack(bodies)


def test_no_camera_is_within_a_body_or_outside_of_its_room() -> None:
    scenes = draw_scenes(range(300), 5, SIZE, OPTIONS)
    eyes = invert_extrinsics(scenes.extrinsics)[..., 3]
    for frame in range(5):
        out = outwardness(scenes, eyes[:, frame, None], frame)[..., 0]
        assert (out[:, 0] < 0).all()
        assert (out[:, 1:] > 0).all()


def test_bodies_stay_in_their_rooms() -> None:
    scenes = draw_scenes(range(100), 5, SIZE, OPTIONS)
    there = scenes.half_sizes[:, 1:, 0] > 0.011
    axes = scenes.linear * scenes.half_sizes[:, None, :, None]
    below = torch.where(
        torch.arange(OPTIONS.bodies[1]) < num_ellipsoids(OPTIONS),
        axes[:, :, 1:].norm(dim=-1)[..., 1],
        axes[:, :, 1:].abs().sum(-1)[..., 1],
    )
    lowest = scenes.center[:, :, 1:, 1] - below + scenes.half_sizes[:, None, :1, 1]
    assert lowest.movedim(1, -1)[there].min() > -1e-9
    assert (lowest.movedim(1, -1)[there].amin(-1).abs() < 1e-9).double().mean() > 0.4  # they stand on the floor


# --------------------------------------------------------------------------------------------------------------------
# Images


@pytest.mark.slow
def test_texture_sticks_to_surfaces_as_they_and_the_camera_move() -> None:
    """Between nearby frames colours at corresponding pixels agree far better than colours at the same pixel."""
    options = SyntheticOptions(light=0)  # shadows do not stick to bodies
    size = (96, 128)
    clips = random_clips(range(8), 33, size, options=options)
    corresponding, unmoved = [], []
    for first, second in ((0, 1), (16, 17)):
        there = clips.follow(first, second)
        pixels, depth = project_points(there.flatten(1, 2), clips.extrinsics[:, second], clips.intrinsics[:, second])
        depth_seen = sample(clips.depth[:, second, None], pixels)[:, 0]
        visible = is_inside_image(pixels, depth, size) & ((depth_seen / depth - 1).abs() < 0.01)
        chosen = visible & clips.motion_mask[:, first].flatten(1)
        assert chosen.float().mean() > 0.03
        colors = clips.images[:, first].flatten(2)
        for other, differences in (
            (sample(clips.images[:, second], pixels), corresponding),
            (clips.images[:, second].flatten(2), unmoved),
        ):
            differences.append((colors - other).abs().mean(1)[chosen])
    followed, fixed = torch.cat(corresponding), torch.cat(unmoved)
    assert followed.median() < 0.02
    assert followed.mean() < 0.5 * fixed.mean()


def test_frames_are_rich_in_texture(many: SyntheticClips) -> None:
    contrast = many.images.mean(2).flatten(1).std(1)
    assert contrast.quantile(0.05) > 0.08
    brightness = many.images.flatten(1).mean(1)
    assert brightness.min() > 0.15
    assert brightness.max() < 0.8


def test_two_hundred_scenes_have_no_value_that_is_not_finite(many: SyntheticClips) -> None:
    for name in ("images", "depth", "world_points", "position", "extrinsics", "intrinsics", "linear", "center"):
        assert torch.isfinite(getattr(many, name)).all(), name
    assert many.depth.min() > 0.05
    assert many.images.min() >= 0
    assert many.images.max() <= 1


# --------------------------------------------------------------------------------------------------------------------
# What a clip depends on


def assert_same(first: SyntheticClips, second: SyntheticClips) -> None:
    """All but the images is equal to the last bit; sines and exponentials round by where in memory they lie."""
    for name in ("depth", "world_points", "body", "position", "motion_mask", "extrinsics", "intrinsics", "linear"):
        assert torch.equal(getattr(first, name), getattr(second, name)), name
    torch.testing.assert_close(first.images, second.images, rtol=0, atol=5e-7)


def test_a_clip_does_not_depend_on_the_batch_that_it_is_in() -> None:
    together = random_clips([5, 6, 7], 3, (33, 47))
    for index, seed in enumerate((5, 6, 7)):
        parts = {name: value[index : index + 1] for name, value in vars(together).items()}
        assert_same(random_clips([seed], 3, (33, 47)), SyntheticClips(**parts))


def test_a_clip_does_not_depend_on_how_many_pixels_are_rendered_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = random_clips([1, 2], 4, (17, 23))
    monkeypatch.setitem(training_clips_module.PIXELS_AT_ONCE, "cpu", 500)
    assert_same(random_clips([1, 2], 4, (17, 23)), whole)


def test_the_same_seed_gives_the_same_clip_and_another_gives_another() -> None:
    first, again, other = (random_clips([seed], 2, (16, 16)) for seed in (3, 3, 3 + 2**32))
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)


def test_single_and_double_precision_agree_but_for_outlines(clips: SyntheticClips) -> None:
    single = random_clips(SEEDS, FRAMES, SIZE)
    difference = (single.depth / clips.depth - 1).abs()
    assert (difference < 1e-4).double().mean() > 0.999
    assert (single.images - clips.images).abs().mean() < 1e-4
    points = unproject_depth(single.depth, single.extrinsics, single.intrinsics, pixel_center=0.5)
    torch.testing.assert_close(points, single.world_points, rtol=0, atol=2e-5)


@pytest.mark.gpu
def test_a_gpu_gives_the_same_clips_up_to_rounding(clips: SyntheticClips) -> None:
    there = random_clips(SEEDS, FRAMES, SIZE, device="cuda", dtype=torch.float64)
    assert there.images.device.type == "cuda"
    assert (there.body.cpu() == clips.body).double().mean() > 0.9999
    assert ((there.depth.cpu() / clips.depth - 1).abs() < 1e-9).double().mean() > 0.9999
    assert ((there.images.cpu() - clips.images).abs() < 1e-6).double().mean() > 0.999


# --------------------------------------------------------------------------------------------------------------------
# Options


def test_in_most_moving_clips_a_twentieth_to_two_fifths_of_the_pixels_move(many: SyntheticClips) -> None:
    share = many.motion_mask.double().mean((1, 2, 3))
    assert ((share > 0.05) & (share < 0.4)).double().mean() > 0.75
    assert 0.08 < share.median() < 0.25
    assert (share == 0).double().mean() < 0.05


@pytest.mark.parametrize(
    "options",
    [
        {"still_share": 1},
        pytest.param({"still_share": 1, "lifelike": 1.0}, marks=pytest.mark.slow),
        pytest.param({"body_motion": 0, "lifelike": 1.0}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_still_scenes_have_no_moving_pixel_and_their_points_stay(options: dict[str, float]) -> None:
    clips = random_clips(range(12 if "lifelike" in options else 20), 3, (12, 16), options=SyntheticOptions(**options))
    assert not clips.motion_mask.any()
    assert torch.equal(clips.center, clips.center[:, :1].expand_as(clips.center))
    assert torch.equal(clips.linear, clips.linear[:, :1].expand_as(clips.linear))


def test_no_body_moves_where_none_shall() -> None:
    assert not random_clips(range(20), 3, (12, 16), options=SyntheticOptions(moving_share=0)).motion_mask.any()


def test_bodies_without_motion_and_deformation_are_not_marked_as_moving() -> None:
    options = SyntheticOptions(moving_share=1, body_motion=0, deformation=0)
    assert not random_clips(range(10), 2, (12, 16), options=options).motion_mask.any()


def test_half_of_the_scenes_are_still_where_half_shall_be() -> None:
    clips = random_clips(range(200), 2, (10, 12), options=SyntheticOptions(still_share=0.5))
    assert 0.4 < (~clips.motion_mask.flatten(1).any(1)).double().mean() < 0.6


def test_a_still_camera_is_still_and_a_small_motion_is_small() -> None:
    def travelled(options: SyntheticOptions) -> Tensor:
        eyes = invert_extrinsics(draw_scenes(range(40), 9, SIZE, options).extrinsics)[..., 3]
        return eyes.diff(dim=1).norm(dim=-1).sum(1)

    assert travelled(SyntheticOptions(camera_motion=0, hand_held=0)).max() < 1e-12
    whole, small = (travelled(SyntheticOptions(camera_motion=amount, hand_held=0)) for amount in (1, 0.2))
    moving = whole > 0.1
    assert moving.double().mean() > 0.7
    assert (small / whole)[moving].median() == pytest.approx(0.2, abs=0.05)


def test_fields_of_view_are_in_their_range_across_the_longer_side() -> None:
    options = SyntheticOptions(field_of_view=(50, 60))
    for size in ((30, 40), (40, 30)):
        clips = random_clips(range(20), 1, size, options=options)
        angles = torch.rad2deg(2 * torch.atan(20 / clips.intrinsics[:, 0, 0, 0]))
        assert angles.min() > 50
        assert angles.max() < 60
        assert torch.equal(clips.intrinsics[:, 0, 0, 0], clips.intrinsics[:, 0, 1, 1])
        assert (clips.intrinsics[:, 0, :2, 2] == torch.tensor([size[1] / 2, size[0] / 2])).all()


def test_bodies_deform_only_where_they_shall() -> None:
    def deviation(options: SyntheticOptions) -> Tensor:
        linear = draw_scenes(range(30), 5, SIZE, options).linear
        return (linear @ linear.transpose(-1, -2) - torch.eye(3, dtype=torch.float64)).abs().amax((-1, -2))

    assert deviation(SyntheticOptions(deformation=0)).max() < 1e-12
    assert (deviation(SyntheticOptions(moving_share=1)) > 0.05).double().mean() > 0.2


@pytest.mark.parametrize(
    "wrong",
    [
        {"moving_share": 1.5},
        {"still_share": -0.1},
        {"light": 2},
        {"bodies": (5, 3)},
        {"bodies": (0, 3)},
        {"camera_motion": -1},
        {"field_of_view": (60, 50)},
        {"field_of_view": (60, 170)},
        {"photography": 2.0},
        {"lifelike": -0.1},
        {"pixel_aspect": (1.2, 1.0)},
    ],
)
def test_an_option_out_of_range_is_named(wrong: dict[str, object]) -> None:
    with pytest.raises(Page4DError, match=next(iter(wrong))):
        replace(OPTIONS, **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seeds", "frames", "size", "dtype", "says"),
    [
        ([], 2, (8, 8), torch.float32, "at least one seed"),
        ([-1], 2, (8, 8), torch.float32, "negative"),
        ([0], 0, (8, 8), torch.float32, "0 frames"),
        ([0], 1, (0, 8), torch.float32, "0 x 8"),
        ([0], 1, (8, 8), torch.float16, "float16"),
        ([0], 2, (100, 10**9), torch.float32, r"got 1 of 2 frames of 1000000000 x 100: lower one of them"),
        ([0, 1], 100_000, (1, 1), torch.float32, r"may have 100,000 frames and 200,000,000 pixels"),
    ],
)
def test_a_clip_that_cannot_be_is_refused(
    seeds: list[int], frames: int, size: tuple[int, int], dtype: torch.dtype, says: str
) -> None:
    with pytest.raises(Page4DError, match=says):
        random_clips(seeds, frames, size, dtype=dtype)


def test_the_shape_of_a_batch_depends_on_no_seed() -> None:
    clips = random_clips([1, 10**12], 1, (5, 7))
    assert clips.images.shape == (2, 1, 3, 5, 7)
    assert clips.world_points.shape == (2, 1, 5, 7, 3)
    assert clips.motion_mask.dtype == torch.bool
    assert clips.center.shape == (2, 1, 1 + OPTIONS.bodies[1], 3)


def test_a_clip_becomes_frames_of_a_data_set(clips: SyntheticClips) -> None:
    frames = clips.frames(2)
    assert frames.clip_id == "synthetic-00000002"
    assert frames.metric
    assert frames.images.shape == (FRAMES, *SIZE, 3)
    np.testing.assert_allclose(frames.images / 255, clips.images[2].movedim(1, -1).numpy(), atol=0.5 / 255 + 1e-9)
    np.testing.assert_array_equal(frames.depth, clips.depth[2].float().numpy())
    np.testing.assert_array_equal(frames.extrinsics, clips.extrinsics[2].numpy())
    np.testing.assert_array_equal(frames.motion_mask, clips.motion_mask[2].numpy())


@pytest.mark.slow
@pytest.mark.parametrize("options", [OPTIONS, SyntheticOptions(lifelike=1.0, photography=1.0)], ids=["rooms", "places"])
def test_pixels_are_computed_on_the_given_device_alone(options: SyntheticOptions) -> None:
    """A meta tensor holds no numbers, and meets tensors of another device as little as a GPU's does."""
    clips = random_clips(range(4), 2, (9, 12), device="meta", options=options)
    assert {value.device.type for value in vars(clips).values() if isinstance(value, Tensor)} == {"meta"}


# --------------------------------------------------------------------------------------------------------------------
# Places that are laid out like life


def test_only_the_sky_has_no_depth(places: SyntheticClips) -> None:
    unknown = places.depth == 0
    assert (places.body[unknown] == 0).all()
    assert not places.motion_mask[unknown].any()
    under_sky = scenes_of("places").open_air[:, None, None, None].expand_as(unknown)
    assert (unknown & under_sky).any()
    assert not (unknown & ~under_sky).any()


def test_the_limbs_of_people_move_with_the_points_that_are_followed(places: SyntheticClips) -> None:
    moving, (height, width) = 0, places.depth.shape[-2:]
    for first, second in ((0, 1), (1, 2)):
        there = places.follow(first, second)
        mask = places.motion_mask[:, first]
        moved = (there - places.world_points[:, first]).norm(dim=-1)
        assert moved[~mask].max() < 1e-9
        pixels, depth = project_points(there.flatten(1, 2), places.extrinsics[:, second], places.intrinsics[:, second])
        u, v = (pixels.round() - 0.5).clamp_min(0).long().unbind(-1)
        inside = (depth > 0.3) & (u < width) & (v < height) & (pixels > 0).all(-1) & mask.flatten(1)
        seen = places.depth[:, second].flatten(1).gather(1, (v * width + u).clamp(0, height * width - 1))
        agrees = ((seen / depth - 1).abs() < 0.05)[inside]
        moving += int(inside.sum())
        assert agrees.double().mean() > 0.5  # the others are hidden, or beside an outline
    assert moving > 100


def test_masks_hold_no_part_that_stands_still_in_all_frames(places: SyntheticClips) -> None:
    for first in range(FRAMES):
        here, mask = places.world_points[:, first], places.motion_mask[:, first]
        moved = torch.stack([(places.follow(first, other) - here).norm(dim=-1) for other in range(FRAMES)])
        assert moved.amax(0)[mask].min() > 1e-9


@pytest.mark.slow
def test_all_layouts_occur_and_from_none_to_two_fifths_of_the_image_moves(many_places: SyntheticClips) -> None:
    share = many_places.motion_mask.double().mean((1, 2, 3))
    assert 0.05 < (share == 0).double().mean() < 0.35
    assert share.quantile(0.97) > 0.3
    depth = many_places.depth.flatten(1)
    assert depth[depth > 0].min() > 0.05
    assert (depth == 0).any(1).double().mean() > 0.08  # streets and open country
    assert (depth.median(1).values < 1.2).double().mean() > 0.05  # desk tops


@pytest.mark.slow
def test_a_clip_is_the_same_beside_clips_of_the_other_kind() -> None:
    mixed = SyntheticOptions(lifelike=0.5)
    together = random_clips(range(6), 2, (30, 40), options=mixed)
    kinds = together.center.shape[2] - (together.center[:, 0, :, 1] == -100).sum(1)
    assert kinds.min() <= 1 + mixed.bodies[1] < kinds.max()  # rooms with bodies, and places
    for seed in range(6):
        alone = random_clips([seed], 2, (30, 40), options=mixed)
        for name in ("depth", "body", "motion_mask", "extrinsics", "linear", "center"):
            assert torch.equal(getattr(alone, name)[0], getattr(together, name)[seed]), name
        torch.testing.assert_close(alone.images[0], together.images[seed], rtol=0, atol=1e-6)


def test_rooms_with_bodies_are_the_same_where_some_scenes_are_lifelike() -> None:
    usual = random_clips(range(8), 2, (30, 40))
    mixed = random_clips(range(8), 2, (30, 40), options=SyntheticOptions(lifelike=0.5))
    same = (usual.depth == mixed.depth).flatten(1).all(1)
    assert 0 < int(same.sum()) < 8
    torch.testing.assert_close(usual.images[same], mixed.images[same], rtol=0, atol=1e-6)


def test_stretched_pixels_change_the_focal_length_down_and_nothing_else_of_the_scene() -> None:
    options = SyntheticOptions(lifelike=1.0, pixel_aspect=(1.2, 1.4))
    stretched = random_clips(range(4), 1, (20, 20), options=options)
    ratio = stretched.intrinsics[..., 1, 1] / stretched.intrinsics[..., 0, 0]
    assert ((ratio > 1.2) & (ratio < 1.4)).all()
    square = random_clips(range(4), 1, (20, 20), options=LIFELIKE)
    assert torch.equal(square.extrinsics, stretched.extrinsics)
    assert torch.equal(square.intrinsics[..., 0, :], stretched.intrinsics[..., 0, :])


@pytest.mark.parametrize(
    "make",
    sorted(
        {*props.AT_WALLS, *props.ON_FLOORS, *props.IN_HALLS, *props.IN_STREETS} - {props.rocks},
        key=lambda one: one.__name__,
    ),
)
def test_props_stand_on_the_floor_and_have_a_size(make: props.Maker) -> None:
    for seed in range(5):
        prop = make(np.random.default_rng(seed))
        lowest = min(
            float(np.asarray(center)[..., 1].min()) - float(np.abs(turn[..., 1, :] * np.asarray(half)).sum(-1).max())
            for center, turn, half in zip(prop.center, prop.turn, prop.half_sizes, strict=True)
        )
        assert -0.25 < lowest < 0.06
        assert 0.03 < prop.radius < 10


def test_a_walking_person_keeps_its_limbs_joined() -> None:
    phase = np.linspace(0, 2 * np.pi, 9)
    person = props.person(np.random.default_rng(3), phase, walks=True)
    thigh, shin = person.center[0], person.center[1]
    distance = np.linalg.norm(np.asarray(thigh) - np.asarray(shin), axis=-1)
    assert np.ptp(np.asarray(thigh)[:, 2]) > 0.05  # it swings
    assert (distance > 0.3).all()
    assert (distance < 0.5).all()
