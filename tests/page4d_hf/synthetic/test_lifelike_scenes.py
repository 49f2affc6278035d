"""Places that are laid out like life: is their ground truth true, and are they as varied as they should be?"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from page4d_hf.clips import SyntheticClips, random_clips
from page4d_hf.geometry import invert_extrinsics, project_points, unproject_depth
from page4d_hf.synthetic import SyntheticOptions, props
from page4d_hf.synthetic.layouts import LAYOUTS, SLOTS
from page4d_hf.synthetic.random_scenes import RandomScenes, draw_scenes

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = (30, 40)
FRAMES = 3
SEEDS = range(16)
OPTIONS = SyntheticOptions(lifelike=1.0)


@pytest.fixture(scope="module")
def clips() -> SyntheticClips:
    return random_clips(SEEDS, FRAMES, SIZE, dtype=torch.float64, options=OPTIONS)


@pytest.fixture(scope="module")
def scenes() -> RandomScenes:
    return draw_scenes(SEEDS, FRAMES, SIZE, OPTIONS)


@pytest.fixture(scope="module")
def many() -> SyntheticClips:
    return random_clips(range(100), FRAMES, (12, 16), options=OPTIONS)


def outwardness(scenes: RandomScenes, points: Tensor, frame: int) -> Tensor:
    """How far outside of each body points `(B, ..., 3)` are, `(B, N + 1, ...)`: 0 on the surface, negative within."""
    axes = scenes.linear[:, frame] * scenes.half_sizes[:, :, None]
    flat = points.flatten(1, -2)[:, None] - scenes.center[:, frame, :, None]
    unit = flat @ torch.linalg.inv(axes).transpose(-1, -2)  # [B, N + 1, P, 3]
    out = unit.abs().amax(-1) - 1
    round_ones = slice(1, 1 + SLOTS[0])
    out[:, round_ones] = unit[:, round_ones].norm(dim=-1) - 1
    x, y, z = unit[:, 1 + SLOTS[0] + SLOTS[1] :].unbind(-1)
    a, b, c = scenes.profile[..., None].unbind(2)
    side = x.square() + z.square() - (a + b * y + c * y.square())
    out[:, 1 + SLOTS[0] + SLOTS[1] :] = torch.maximum(side, y.abs() - 1)
    return out.unflatten(2, points.shape[1:-1])


@pytest.mark.slow
def test_every_pixel_but_those_of_the_sky_shows_the_surface_of_its_body(
    clips: SyntheticClips, scenes: RandomScenes
) -> None:
    for frame in range(FRAMES):
        out = outwardness(scenes, clips.world_points[:, frame], frame)
        own = out.gather(1, clips.body[:, None, frame]).squeeze(1)
        torch.testing.assert_close(own, torch.zeros_like(own), rtol=0, atol=1e-7)
    seen = set(clips.body.unique().tolist())
    for first, slots in zip((1, 1 + SLOTS[0], 1 + SLOTS[0] + SLOTS[1]), SLOTS, strict=True):
        assert seen & set(range(first, first + slots))


@pytest.mark.slow
def test_nothing_stands_before_what_a_pixel_shows(clips: SyntheticClips, scenes: RandomScenes) -> None:
    """By stepping along the rays, and by no formula that the ray caster uses."""
    eye = invert_extrinsics(clips.extrinsics)[:, 1, None, None, :, 3]
    way = clips.world_points[:, 1, ::3, ::3] - eye
    for share in np.linspace(0.01, 0.998, 40):
        out = outwardness(scenes, eye + share * way, 1)
        assert (out[:, 0] < 0).all()
        assert (out[:, 1:] > -1e-9).all()


def test_depth_unprojected_is_where_the_points_are(clips: SyntheticClips) -> None:
    points = unproject_depth(clips.depth, clips.extrinsics, clips.intrinsics, pixel_center=0.5)
    known = clips.depth > 0
    torch.testing.assert_close(points[known], clips.world_points[known], rtol=0, atol=1e-9)


def test_only_the_sky_has_no_depth(clips: SyntheticClips, scenes: RandomScenes) -> None:
    unknown = clips.depth == 0
    assert (clips.body[unknown] == 0).all()
    assert not clips.motion_mask[unknown].any()
    under_sky = scenes.open_air[:, None, None, None].expand_as(unknown)
    assert (unknown & under_sky).any()
    assert not (unknown & ~under_sky).any()


def test_the_limbs_of_people_move_with_the_points_that_are_followed(clips: SyntheticClips) -> None:
    moving = 0
    for first, second in ((0, 1), (1, 2)):
        there = clips.follow(first, second)
        mask = clips.motion_mask[:, first]
        moved = (there - clips.world_points[:, first]).norm(dim=-1)
        assert moved[~mask].max() < 1e-9
        pixels, depth = project_points(there.flatten(1, 2), clips.extrinsics[:, second], clips.intrinsics[:, second])
        u, v = (pixels.round() - 0.5).clamp_min(0).long().unbind(-1)
        inside = (depth > 0.3) & (u < SIZE[1]) & (v < SIZE[0]) & (pixels > 0).all(-1) & mask.flatten(1)
        seen = clips.depth[:, second].flatten(1).gather(1, (v * SIZE[1] + u).clamp(0, SIZE[0] * SIZE[1] - 1))
        agrees = ((seen / depth - 1).abs() < 0.05)[inside]
        moving += int(inside.sum())
        assert agrees.double().mean() > 0.5  # the others are hidden, or beside an outline
    assert moving > 100


def test_masks_hold_no_part_that_stands_still_in_all_frames(clips: SyntheticClips) -> None:
    for first in range(clips.depth.shape[1]):
        here, mask = clips.world_points[:, first], clips.motion_mask[:, first]
        moved = torch.stack([(clips.follow(first, other) - here).norm(dim=-1) for other in range(clips.depth.shape[1])])
        assert moved.amax(0)[mask].min() > 1e-9


def test_all_layouts_occur_and_from_none_to_two_fifths_of_the_image_moves(many: SyntheticClips) -> None:
    share = many.motion_mask.double().mean((1, 2, 3))
    assert 0.05 < (share == 0).double().mean() < 0.35
    assert share.quantile(0.97) > 0.3
    nearest = many.depth.masked_fill(many.depth == 0, torch.inf).flatten(1).amin(1)
    assert nearest.min() > 0.05
    assert len(LAYOUTS) == 5
    assert (many.depth == 0).flatten(1).any(1).double().mean() > 0.08  # streets and open country
    assert (many.depth.flatten(1).median(1).values < 1.2).double().mean() > 0.05  # desk tops


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"still_share": 1.0}, {"body_motion": 0.0}])
def test_nothing_moves_where_scenes_shall_be_still(options: dict[str, float]) -> None:
    clips = random_clips(range(12), 3, (12, 16), options=SyntheticOptions(lifelike=1.0, **options))  # type: ignore[arg-type]
    assert not clips.motion_mask.any()
    assert torch.equal(clips.center, clips.center[:, :1].expand_as(clips.center))


@pytest.mark.slow
def test_a_clip_is_the_same_beside_clips_of_the_other_kind() -> None:
    mixed = SyntheticOptions(lifelike=0.5)
    together = random_clips(range(6), 2, SIZE, options=mixed)
    kinds = together.center.shape[2] - (together.center[:, 0, :, 1] == -100).sum(1)
    assert kinds.min() <= 1 + mixed.bodies[1] < kinds.max()  # rooms with bodies, and places
    for seed in range(6):
        alone = random_clips([seed], 2, SIZE, options=mixed)
        for name in ("depth", "body", "motion_mask", "extrinsics", "linear", "center"):
            assert torch.equal(getattr(alone, name)[0], getattr(together, name)[seed]), name
        torch.testing.assert_close(alone.images[0], together.images[seed], rtol=0, atol=1e-6)


def test_rooms_with_bodies_are_the_same_where_some_scenes_are_lifelike() -> None:
    usual = random_clips(range(8), 2, SIZE)
    mixed = random_clips(range(8), 2, SIZE, options=SyntheticOptions(lifelike=0.5))
    same = (usual.depth == mixed.depth).flatten(1).all(1)
    assert 0 < int(same.sum()) < 8
    torch.testing.assert_close(usual.images[same], mixed.images[same], rtol=0, atol=1e-6)


def test_stretched_pixels_change_the_focal_length_down_and_nothing_else_of_the_scene() -> None:
    options = SyntheticOptions(lifelike=1.0, pixel_aspect=(1.2, 1.4))
    stretched = random_clips(range(4), 1, (20, 20), options=options)
    ratio = stretched.intrinsics[..., 1, 1] / stretched.intrinsics[..., 0, 0]
    assert ((ratio > 1.2) & (ratio < 1.4)).all()
    square = random_clips(range(4), 1, (20, 20), options=OPTIONS)
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


@pytest.mark.slow
def test_pixels_of_lifelike_scenes_are_computed_on_the_given_device_alone() -> None:
    """A meta tensor holds no numbers, and meets tensors of another device as little as a GPU's does."""
    options = SyntheticOptions(lifelike=1.0, photography=1.0)
    clips = random_clips(range(4), 2, (9, 12), device="meta", options=options)
    assert {value.device.type for value in vars(clips).values() if isinstance(value, Tensor)} == {"meta"}
