"""Random clips: is their ground truth true, do their images show it, and do the options do what they say?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from page4d_hf.clips import SyntheticClips, random_clips
from page4d_hf.clips import rendered as training_clips_module
from page4d_hf.errors import Page4DError
from page4d_hf.geometry import invert_extrinsics, project_points, unproject_depth
from page4d_hf.synthetic import SyntheticOptions
from page4d_hf.synthetic.batched_raycast import FrameScenes, cast
from page4d_hf.synthetic.random_bodies import num_ellipsoids
from page4d_hf.synthetic.random_scenes import RandomScenes, draw_scenes

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = (36, 48)  # height, width
FRAMES = 3
SEEDS = range(12)
OPTIONS = SyntheticOptions()


@pytest.fixture(scope="module")
def clips() -> SyntheticClips:
    return random_clips(SEEDS, FRAMES, SIZE, dtype=torch.float64)


@pytest.fixture(scope="module")
def many() -> SyntheticClips:
    """Two hundred small clips."""
    return random_clips(range(200), FRAMES, (15, 20))


@pytest.fixture(scope="module")
def scenes() -> RandomScenes:
    return draw_scenes(SEEDS, FRAMES, SIZE, OPTIONS)


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


def unit_positions(scenes: RandomScenes, points: Tensor, frame: int) -> Tensor:
    """Points `(B, ..., 3)` of the world as `(B, N + 1, ..., 3)` in the bodies' own unit coordinates."""
    axes = scenes.linear[:, frame] * scenes.half_sizes[:, :, None]
    flat = points.flatten(1, -2)[:, None] - scenes.center[:, frame, :, None]  # [B, N + 1, P, 3]
    unit = flat @ torch.linalg.inv(axes).transpose(-1, -2)
    return unit.unflatten(2, points.shape[1:-1])


def reach(unit: Tensor) -> Tensor:
    """How far out points `(B, N + 1, ..., 3)` in unit coordinates are: 1 on the surface, less inside."""
    boxes = unit.abs().amax(-1)
    round_ones = slice(1, 1 + num_ellipsoids(OPTIONS))
    boxes[:, round_ones] = unit[:, round_ones].norm(dim=-1)
    return boxes


# --------------------------------------------------------------------------------------------------------------------
# Geometry


def test_depth_unprojected_is_where_the_points_are(clips: SyntheticClips) -> None:
    points = unproject_depth(clips.depth, clips.extrinsics, clips.intrinsics, pixel_center=0.5)
    torch.testing.assert_close(points, clips.world_points, rtol=0, atol=1e-12)


def test_points_project_to_the_pixels_that_see_them(clips: SyntheticClips) -> None:
    pixels, depth = project_points(clips.world_points.flatten(2, 3), clips.extrinsics, clips.intrinsics)
    v, u = torch.meshgrid(torch.arange(SIZE[0]) + 0.5, torch.arange(SIZE[1]) + 0.5, indexing="ij")
    grid = torch.stack((u, v), dim=-1).flatten(0, 1).double()
    torch.testing.assert_close(pixels, grid.expand_as(pixels), rtol=0, atol=1e-9)
    torch.testing.assert_close(depth, clips.depth.flatten(2, 3), rtol=0, atol=1e-12)


def test_every_pixel_shows_a_point_on_the_surface_of_its_body(clips: SyntheticClips, scenes: RandomScenes) -> None:
    for frame in range(FRAMES):
        out = reach(unit_positions(scenes, clips.world_points[:, frame], frame))
        own = out.gather(1, clips.body[:, None, frame]).squeeze(1)
        torch.testing.assert_close(own, torch.ones_like(own), rtol=0, atol=1e-9)
    assert set(clips.body.unique().tolist()) == set(range(1 + OPTIONS.bodies[1]))


@pytest.mark.slow
def test_nothing_stands_between_the_camera_and_what_it_sees(clips: SyntheticClips, scenes: RandomScenes) -> None:
    """By stepping along the rays, and by no formula that the ray caster uses."""
    eyes = invert_extrinsics(clips.extrinsics)[..., 3]
    for frame in range(FRAMES):
        eye = eyes[:, frame, None, None]
        for share in np.linspace(0.02, 0.995, 40):
            out = reach(unit_positions(scenes, eye + share * (clips.world_points[:, frame] - eye), frame))
            assert (out[:, 0] < 1).all()
            # Steps of 10 cm may pass through a thin edge, but never deep into a body.
            assert out[:, 1:].min() > 0.97


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
    scenes = draw_scenes(clips.seeds, FRAMES, SIZE, OPTIONS)
    frames = FrameScenes.of(scenes, SIZE, torch.device("cpu"), torch.float64)
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
        out = reach(unit_positions(scenes, eyes[:, frame, None], frame))[..., 0]
        assert (out[:, 0] < 1).all()
        assert (out[:, 1:] > 1).all()


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


def test_still_scenes_have_no_moving_pixel_and_their_points_stay() -> None:
    clips = random_clips(range(20), 3, (12, 16), options=SyntheticOptions(still_share=1))
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
    assert frames.depth is not None
    assert frames.extrinsics is not None
    assert frames.motion_mask is not None
    np.testing.assert_allclose(frames.images / 255, clips.images[2].movedim(1, -1).numpy(), atol=0.5 / 255 + 1e-9)
    np.testing.assert_array_equal(frames.depth, clips.depth[2].float().numpy())
    np.testing.assert_array_equal(frames.extrinsics, clips.extrinsics[2].numpy())
    np.testing.assert_array_equal(frames.motion_mask, clips.motion_mask[2].numpy())


@pytest.mark.slow
def test_pixels_are_computed_on_the_given_device_alone() -> None:
    """A meta tensor holds no numbers, and meets tensors of another device as little as a GPU's does."""
    clips = random_clips([0, 1], 2, (9, 12), device="meta")
    assert {value.device.type for value in vars(clips).values() if isinstance(value, Tensor)} == {"meta"}
