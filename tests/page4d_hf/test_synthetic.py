"""Synthetic scenes: is the ground truth true, and does the capture on disk hold it?"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
import pytest
import torch
from file_limits import largest_file
from folder_contents import contents
from PIL import Image
from torch import Tensor

from page4d_hf.captures import Capture, as_pinhole, read_capture
from page4d_hf.cli import main
from page4d_hf.errors import Page4DError
from page4d_hf.frames import read_frames
from page4d_hf.geometry import invert_extrinsics, project_points, unproject_depth
from page4d_hf.synthetic import SCENES, Body, Motion, Scene, living_room, render_clip, write_synthetic_capture
from page4d_hf.synthetic.capture import H264Video
from page4d_hf.synthetic.raycast import STRAY_LIGHT, PosedScene, camera_rays

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = (36, 48)  # height, width
SEEDS = range(6)
AXIS = torch.tensor([0.6, 0.0, 0.8], dtype=torch.float64)


def intrinsics(size: tuple[int, int] = SIZE, count: int = 1) -> Tensor:
    height, width = size
    focal = 0.85 * width
    matrix = [[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]]
    return torch.tensor(matrix, dtype=torch.float64).expand(count, 3, 3)


def instants(count: int) -> Tensor:
    return torch.linspace(0, 1, count, dtype=torch.float64)


@pytest.fixture(scope="module")
def scene() -> Scene:
    return living_room(0)


@pytest.fixture(scope="module")
def clip(scene: Scene) -> dict[str, Tensor]:
    """Six frames, with their cameras and times."""
    times = instants(6)
    extrinsics = scene.camera.extrinsics(times)
    rendered = render_clip(scene, extrinsics, intrinsics(count=6), times, SIZE, supersampling=1)
    return {**rendered, "extrinsics": extrinsics, "times": times}


def is_inside(body: Body, points: Tensor, time: Tensor) -> Tensor:
    """How far within a body points `(..., 3)` lie at a time `()`, or `(T, N, 3)` at times `(T,)`: below 1 is inside."""
    linear, center = body.transform(time.reshape(-1))
    unit = (points - center[:, None]) @ torch.linalg.inv(linear).mT / body.half_sizes
    reach = unit.norm(dim=-1) if body.shape == "sphere" else unit.abs().amax(-1)
    return reach.reshape(points.shape[:-1])


def surface_points(body: Body) -> Tensor:
    """Points `(N, 3)` all over a body, in its own coordinates at rest."""
    directions = torch.nn.functional.normalize(
        torch.randn(400, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64), dim=-1
    )
    if body.shape == "cube":
        directions = directions / directions.abs().amax(-1, keepdim=True)
    return directions * body.half_sizes


# --------------------------------------------------------------------------------------------------------------------
# Geometry


def test_depth_unprojected_is_where_the_surface_is(clip: dict[str, Tensor]) -> None:
    points = unproject_depth(clip["depth"], clip["extrinsics"], intrinsics(count=6), pixel_center=0.5)
    torch.testing.assert_close(points, clip["world_points"], rtol=0, atol=1e-12)


def test_every_pixel_shows_a_point_on_the_surface_of_its_body(scene: Scene, clip: dict[str, Tensor]) -> None:
    on_room = (clip["world_points"][clip["body"] == 0] - scene.room_center) / scene.room_half_sizes
    torch.testing.assert_close(on_room.abs().amax(-1), torch.ones(len(on_room), dtype=torch.float64))
    seen = set()
    for number, body in enumerate(scene.bodies, start=1):
        unit = clip["position"][clip["body"] == number] / body.half_sizes
        reach = unit.norm(dim=-1) if body.shape == "sphere" else unit.abs().amax(-1)
        torch.testing.assert_close(reach, torch.ones_like(reach), rtol=0, atol=1e-12)
        seen.update([body.name] if len(unit) else [])
    assert seen == {body.name for body in scene.bodies}


def test_a_body_carries_its_points_to_where_they_are_seen(scene: Scene, clip: dict[str, Tensor]) -> None:
    for i in range(6):
        body, position = clip["body"][i].flatten(), clip["position"][i].flatten(0, 1)
        points = scene.world_points(body, position, clip["times"][i : i + 1])[0]
        torch.testing.assert_close(points, clip["world_points"][i].flatten(0, 1), rtol=0, atol=1e-12)


@pytest.mark.slow
def test_nothing_stands_between_the_camera_and_what_it_sees(scene: Scene, clip: dict[str, Tensor]) -> None:
    """By stepping along the rays, and by no formula that the ray caster uses."""
    eyes = invert_extrinsics(clip["extrinsics"])[:, :, 3]
    for i in range(6):
        for share in np.linspace(0.02, 0.995, 60):
            points = eyes[i] + share * (clip["world_points"][i] - eyes[i])
            assert ((points - scene.room_center).abs() < scene.room_half_sizes).all()
            for body in scene.bodies:
                # Steps of 3 cm may pass through a thin edge, but never deep into a body.
                assert is_inside(body, points, clip["times"][i]).min() > 0.995


def test_the_motion_mask_is_where_the_surface_moves(scene: Scene, clip: dict[str, Tensor]) -> None:
    times = instants(50)
    for i in range(6):
        body, position = clip["body"][i].flatten(), clip["position"][i].flatten(0, 1)
        travelled = scene.world_points(body, position, times).diff(dim=0).norm(dim=-1).sum(0)
        mask = clip["motion_mask"][i].flatten()
        assert (travelled[~mask] == 0).all()
        assert travelled[mask].min() > 0.1  # metres
        assert 0.05 < mask.double().mean() < 0.3


def test_a_still_point_has_one_depth_and_one_colour_from_everywhere(scene: Scene) -> None:
    """Without bodies that move, that is: their shadows do too."""
    still = replace(scene, bodies=tuple(body for body in scene.bodies if not body.moves))
    times = instants(5)
    eyes = scene.camera.extrinsics(times)
    posed = PosedScene(still, times)
    lamp = posed.lamp_points(1)[0]
    first = PosedScene(still, times[:1])
    origin = invert_extrinsics(eyes)[:, :, 3]
    hits = first.cast(origin[:1], camera_rays(eyes[:1], intrinsics(), SIZE))
    color = first.shade(hits, lamp)

    towards = hits.points - origin.T[..., None]  # from each of the eyes to the points that the first one sees
    again = posed.cast(origin, towards)
    visible = again.distance > 1 - 1e-9
    assert visible[1:].double().mean(dim=1).min() > 0.7
    torch.testing.assert_close(again.distance[visible], torch.ones(int(visible.sum()), dtype=torch.float64))
    difference = (posed.shade(again, lamp) - color).abs()[:, visible]
    # A shadow's edge may fall on either side of a point.
    assert (difference.amax(0) < 1e-9).double().mean() > 0.998


def test_a_moving_point_is_met_again_where_the_motion_takes_it(scene: Scene, clip: dict[str, Tensor]) -> None:
    moving = clip["motion_mask"][0].flatten()
    body, position = clip["body"][0].flatten()[moving], clip["position"][0].flatten(0, 1)[moving]
    points = scene.world_points(body, position, clip["times"])  # [6, N, 3]
    origin = invert_extrinsics(clip["extrinsics"])[:, :, 3]
    posed = PosedScene(scene, clip["times"])
    hits = posed.cast(origin, points.movedim(-1, 0) - origin.T[..., None])
    visible = hits.distance > 1 - 1e-9
    assert visible[0].all()
    assert visible[1:].double().mean() > 0.2  # bodies turn their backs
    for i in range(6):
        assert (hits.body[i] == body)[visible[i]].all()
        met = hits.position[:, i].T[visible[i]]
        torch.testing.assert_close(met, position[visible[i]], rtol=0, atol=1e-9)


def test_the_ball_rolls_without_slipping(scene: Scene) -> None:
    """The point that touches the floor is at rest for a moment."""
    ball = next(body for body in scene.bodies if body.name == "ball")
    times, step = instants(20), 1e-5
    linear, center = ball.transform(times)
    bottom = center - torch.tensor([0, 0.3, 0], dtype=torch.float64)
    touching = (torch.linalg.inv(linear) @ (bottom - center)[..., None]).squeeze(-1)
    speeds = []
    for sign in (-1, 1):
        linear, center = ball.transform(times + sign * step)
        speeds.append(sign * ((linear @ touching[..., None]).squeeze(-1) + center) / (2 * step))
    torch.testing.assert_close(sum(speeds), torch.zeros(20, 3, dtype=torch.float64), rtol=0, atol=1e-5)
    assert bottom[:, 1].abs().max() < 1e-12


@pytest.mark.parametrize("seed", SEEDS)
def test_rigid_bodies_stay_rigid_and_the_jelly_keeps_its_volume(seed: int) -> None:
    times = instants(30)
    for body in living_room(seed).bodies:
        linear, _ = body.transform(times)
        torch.testing.assert_close(torch.linalg.det(linear), torch.ones(30, dtype=torch.float64))
        stretch = (linear.transpose(-1, -2) @ linear - torch.eye(3, dtype=torch.float64)).abs().max()
        assert (stretch > 0.3) if body.name == "jelly" else (stretch < 1e-12)


def changes_of_shape(scene: Scene) -> dict[str, float]:
    """By moving body: how far it is from rigid."""
    identity = torch.eye(3, dtype=torch.float64)
    stretched = {body.name: body.transform(instants(30))[0] for body in scene.bodies if body.moves}
    return {name: float((linear.mT @ linear - identity).abs().max()) for name, linear in stretched.items()}


@pytest.mark.parametrize("seed", SEEDS)
def test_what_moves_in_the_rigid_scene_keeps_its_shape(seed: int) -> None:
    shapes = changes_of_shape(SCENES["rigid"](seed))
    assert set(shapes) == {"ball", "block", "jelly", "balloon"}
    assert max(shapes.values()) < 1e-12


@pytest.mark.parametrize("seed", SEEDS)
def test_what_moves_in_the_deforming_scene_changes_its_shape_and_keeps_its_place(seed: int) -> None:
    scene = SCENES["deforming"](seed)
    shapes = changes_of_shape(scene)
    assert set(shapes) == {"ball", "block", "jelly", "balloon"}
    assert min(shapes.values()) > 0.3
    for body in scene.bodies:
        _, center = body.transform(instants(30))
        assert (center[:, [0, 2]] == center[:1, [0, 2]]).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_the_fast_camera_moves_more_than_four_times_as_far_in_an_instant(seed: int) -> None:
    def length(scene: Scene) -> float:
        eyes = invert_extrinsics(scene.camera.extrinsics(instants(48)))[:, :, 3]
        return float((eyes[1:] - eyes[:-1]).norm(dim=-1).sum())

    assert length(SCENES["fast-camera"](seed)) > 4 * length(living_room(seed))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_orbit_sees_the_room_from_all_sides_and_ends_where_it_began(seed: int) -> None:
    camera = SCENES["orbit"](seed).camera
    extrinsics = camera.extrinsics(instants(48))
    torch.testing.assert_close(extrinsics[0], extrinsics[-1])
    looks = extrinsics[:, 2, [0, 2]]  # along the floor
    turns = torch.atan2(looks[:, 0], looks[:, 1]).numpy()
    assert abs(np.unwrap(turns)[-1] - turns[0]) == pytest.approx(2 * np.pi, abs=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_what_moves_in_the_crowded_room_fills_a_third_to_a_half_of_the_image(seed: int) -> None:
    scene, times = SCENES["crowded"](seed), instants(8)
    camera = torch.tensor([[34.0, 0, 20], [0, 34, 15], [0, 0, 1]], dtype=torch.float64).expand(8, 3, 3)
    moves = render_clip(scene, scene.camera.extrinsics(times), camera, times, (30, 40), supersampling=1)["motion_mask"]
    assert 0.3 < moves.double().mean() < 0.55


def body_with(shape: Literal["sphere", "cube"], scene: Scene, **motion: Any) -> Body:
    still = Motion(torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64), AXIS)
    half_sizes = torch.tensor([0.2, 0.3, 0.1], dtype=torch.float64)
    return Body("test", shape, half_sizes, replace(still, **motion), scene.bodies[0].texture)


@pytest.mark.parametrize("shape", ["sphere", "cube"])
def test_a_body_on_the_ground_touches_it_however_it_turns_and_stretches(
    scene: Scene, shape: Literal["sphere", "cube"]
) -> None:
    body = body_with(shape, scene, spin=1.3, squash=0.3, lean=0.4, on_ground=True)
    linear, center = body.transform(instants(20))
    if shape == "cube":
        corners = torch.cartesian_prod(*torch.tensor([[-1.0, 1.0]] * 3, dtype=torch.float64)) * body.half_sizes
        lowest = (corners @ linear.mT + center[:, None])[..., 1].amin(1)
    else:
        around = surface_points(body)
        lowest = (around @ linear.mT + center[:, None])[..., 1].amin(1)
        assert (lowest > 0).all()  # of 400 points none is the lowest of all
        downward = -linear[:, 1] * body.half_sizes
        downward = downward / downward.norm(dim=-1, keepdim=True) * body.half_sizes
        lowest = (linear @ downward[..., None]).squeeze(-1)[:, 1] + center[:, 1]
    torch.testing.assert_close(lowest, torch.zeros(20, dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "motion",
    [{"travel": AXIS}, {"roll": 0.1}, {"spin": 0.1}, {"squash": 0.1}, {"lean": 0.1}],
    ids=lambda m: next(iter(m)),
)
def test_a_body_moves_if_any_term_of_its_motion_does(scene: Scene, motion: dict[str, Any]) -> None:
    assert body_with("cube", scene, **motion).moves
    assert not body_with("cube", scene, turn=0.3, phase=0.2, on_ground=True).moves


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", SCENES)
def test_bodies_never_run_into_one_another_or_the_room(name: str, seed: int) -> None:
    scene = SCENES[name](seed)
    times = instants(24)
    for number, body in enumerate(scene.bodies, start=1):
        surface = surface_points(body)
        points = scene.world_points(torch.full((len(surface),), number), surface, times)  # [24, N, 3]
        assert ((points - scene.room_center).abs() < scene.room_half_sizes + 1e-9).all(), body.name
        for other in scene.bodies:
            if other is not body:
                assert is_inside(other, points, times).min() > 1 - 1e-9, (body.name, other.name)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", SCENES)
def test_cameras_look_at_the_scene_from_inside_the_room_and_never_through_a_body(name: str, seed: int) -> None:
    scene = SCENES[name](seed)
    times = instants(48)
    for path in (scene.camera, scene.held_out_camera):
        extrinsics = path.extrinsics(times)
        rotation = extrinsics[:, :, :3]
        torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3, dtype=torch.float64).expand(48, 3, 3))
        assert (torch.linalg.det(rotation) > 0).all()
        pixels, depth = project_points(path.target.expand(48, 1, 3), extrinsics, intrinsics(count=48))
        torch.testing.assert_close(pixels[:, 0], torch.tensor([24.0, 18.0], dtype=torch.float64).expand(48, 2))
        assert (depth > 2).all()
        up = rotation[:, 1, 1]  # how far the camera's down goes along the world's up
        assert (up < -0.9).all()
        eyes = invert_extrinsics(extrinsics)[:, :, 3]
        assert ((eyes - scene.room_center).abs() < scene.room_half_sizes - 0.1).all()
        for body in scene.bodies:
            assert is_inside(body, eyes[:, None], times).min() > 2


@pytest.mark.parametrize("seed", SEEDS)
def test_there_is_enough_motion_and_parallax_to_tell_methods_apart(seed: int) -> None:
    scene = living_room(seed)
    times = instants(48)
    extrinsics = scene.camera.extrinsics(times)
    eyes, held_out = (
        invert_extrinsics(path.extrinsics(times))[:, :, 3] for path in (scene.camera, scene.held_out_camera)
    )
    distance = float((scene.camera.eye - scene.camera.target).norm())
    assert torch.cdist(eyes, eyes).max() > 0.5 * distance
    assert torch.cdist(eyes, eyes).diagonal(offset=1).max() < 0.05 * distance  # a smooth path
    apart = (eyes - held_out).norm(dim=-1)
    assert apart.mean() > 0.25 * distance
    assert apart.max() < 0.7 * distance
    for number, body in enumerate(scene.bodies, start=1):
        if not body.moves:
            continue
        # On the screen, seen by a camera that stands still, points of the body move by several pixels of 160.
        points = scene.world_points(torch.full((400,), number), surface_points(body), times)
        pixels, _ = project_points(points, extrinsics[:1].expand(48, 3, 4), intrinsics((120, 160), 48))
        path_length = pixels.diff(dim=0).norm(dim=-1).sum(0)
        assert path_length.median() > 15, body.name


# --------------------------------------------------------------------------------------------------------------------
# Images


@pytest.mark.slow
def test_a_surface_is_lit_where_the_lamp_sees_it(scene: Scene, clip: dict[str, Tensor]) -> None:
    posed = PosedScene(scene, clip["times"][:1])
    eye = invert_extrinsics(clip["extrinsics"][:1])[:, :, 3]
    hits = posed.cast(eye, camera_rays(clip["extrinsics"][:1], intrinsics(), SIZE))
    lamp = posed.lamp_points(1)[0]
    lit = (posed.shade(hits, lamp) - hits.albedo * STRAY_LIGHT * posed._openness(hits))[:, 0].sum(0)

    points = hits.points[:, 0].T
    facing = ((lamp - points) * hits.normals[:, 0].T).sum(-1) > 0
    facing &= points[:, 1] < lamp[1]  # it shines down
    depth = torch.full_like(lit, torch.inf)  # how deep the straight way to the lamp leads into bodies
    for share in np.linspace(0.002, 1, 400):
        for body in scene.bodies:
            depth = torch.minimum(depth, is_inside(body, points + share * (lamp - points), clip["times"][0]))
    shaded, free = facing & (depth < 0.95), facing & (depth > 1.01)
    assert (lit[shaded] < 1e-12).all()
    assert (lit[free] > 0).all()
    assert (lit[~facing] < 1e-12).all()
    assert min(shaded.sum(), free.sum(), (~facing).sum()) > 20


def test_images_are_bright_colourful_and_not_clipped(clip: dict[str, Tensor]) -> None:
    images = clip["images"]
    assert 0.35 < images.mean() < 0.7
    assert (images >= 1).double().mean() < 0.01
    assert (images.amax(-1) - images.amin(-1)).mean() > 0.1


def test_no_pixel_depends_on_how_many_rays_are_cast_at_once(
    scene: Scene, clip: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("page4d_hf.synthetic.raycast.RAYS_AT_ONCE", 1)
    together = render_clip(scene, clip["extrinsics"], intrinsics(count=6), clip["times"], SIZE, supersampling=1)
    for key, value in together.items():
        if value.is_floating_point():
            torch.testing.assert_close(value, clip[key], rtol=0, atol=1e-9)
        else:
            assert torch.equal(value, clip[key]), key


def test_an_even_number_of_samples_leaves_the_geometry_as_it_is(scene: Scene, clip: dict[str, Tensor]) -> None:
    twice = render_clip(scene, clip["extrinsics"][:1], intrinsics(), clip["times"][:1], SIZE, supersampling=2)
    torch.testing.assert_close(twice["depth"], clip["depth"][:1], rtol=0, atol=0)
    torch.testing.assert_close(twice["position"], clip["position"][:1], rtol=0, atol=0)


# --------------------------------------------------------------------------------------------------------------------
# On disk

OPTIONS = {"num_frames": 5, "held_out_every": 2, "width": 48, "height": 36, "supersampling": 2, "num_points": 500}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_synthetic_capture(tmp_path_factory.mktemp("synthetic") / "capture", seed=3, **OPTIONS)


@pytest.fixture(scope="module")
def capture(written: Path) -> Capture:
    return read_capture(written)


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
def test_a_seed_gives_the_same_bytes(written: Path, tmp_path: Path, threads: int) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(threads)  # of no effect
    again = contents(write_synthetic_capture(tmp_path / "again", seed=3, **OPTIONS))
    assert torch.get_num_threads() == threads
    before = contents(written)
    assert again.keys() == before.keys()
    assert [name for name in before if before[name] != again[name]] == []


@pytest.mark.slow
def test_another_seed_gives_another_scene(written: Path, tmp_path: Path) -> None:
    other = contents(write_synthetic_capture(tmp_path / "other", seed=4, **OPTIONS))
    before = contents(written)
    assert other.keys() == before.keys()
    assert all(other[name] != before[name] for name in before if name.startswith(("rgb", "depth", "points")))


def test_the_capture_has_a_training_camera_and_a_held_out_one_at_the_same_instants(capture: Capture) -> None:
    assert capture.frame_ids == ["0_00000", "0_00001", "0_00002", "0_00003", "0_00004", "1_00000", "1_00002", "1_00004"]
    assert capture.splits["train"].tolist() == [0, 1, 2, 3, 4]
    assert capture.splits["val"].tolist() == [5, 6, 7]
    assert capture.camera_ids.tolist() == [0] * 5 + [1] * 3
    assert capture.times.tolist() == [0, 0.25, 0.5, 0.75, 1, 0, 0.5, 1]
    assert capture.image_sizes.tolist() == [[48, 36]] * 8
    assert capture.notes == []


def test_depth_on_disk_belongs_to_the_cameras_on_disk(capture: Capture) -> None:
    """Unprojected, all frames' still pixels lie on the six walls of one room and on the bodies that stand in it."""
    scene = living_room(3)
    frames = as_pinhole(capture)
    for i in range(len(capture)):
        depth, mask = frames.load_depth(i), frames.load_motion_mask(i)
        points = unproject_depth(
            torch.from_numpy(depth.astype(np.float64)),
            torch.from_numpy(capture.extrinsics[i]),
            torch.from_numpy(frames.intrinsics[i]),
            pixel_center=0.5,
        )[~torch.from_numpy(mask)]
        metres = points / 0.25 + scene.room_center  # what scene.json says, undone
        to_wall = ((metres - scene.room_center).abs() / scene.room_half_sizes).amax(-1) - 1
        still = [body for body in scene.bodies if not body.moves]
        to_body = torch.stack([is_inside(body, metres, torch.zeros((), dtype=torch.float64)) for body in still]) - 1
        nearest = torch.cat((to_wall[None], to_body)).abs().amin(0)
        assert nearest.max() < 1e-5
        assert capture.near < depth.min()
        assert depth.max() < capture.far


def test_images_on_disk_are_what_the_renderer_gives(written: Path, capture: Capture) -> None:
    scene = living_room(3)
    times = torch.from_numpy(capture.times[6:7])
    rendered = render_clip(scene, scene.held_out_camera.extrinsics(times), intrinsics(), times, SIZE, supersampling=2)
    with Image.open(written / "rgb" / "1x" / "1_00002.png") as image:
        assert np.abs(np.array(image) - rendered["images"][0].numpy() * 255).max() <= 0.5 + 1e-9
    with Image.open(written / "motion_mask" / "1x" / "1_00002.png") as mask:
        np.testing.assert_array_equal(np.array(mask), rendered["motion_mask"][0].numpy() * 255)


def test_still_points_are_seen_where_and_as_they_are(capture: Capture) -> None:
    still = capture.point_motion == 0
    points = torch.from_numpy(capture.points[still].astype(np.float64))
    frames = as_pinhole(capture)
    as_seen = np.zeros(len(points), bool)
    for i in range(5):
        pixels, depth = project_points(
            points, torch.from_numpy(capture.extrinsics[i]), torch.from_numpy(frames.intrinsics[i])
        )
        x, y = pixels.floor().long().numpy().T
        inside = (x >= 0) & (x < 48) & (y >= 0) & (y < 36) & (depth.numpy() > 0)
        stored = np.zeros(len(points))
        stored[inside] = frames.load_depth(i)[y[inside], x[inside]]
        at_centre = ((pixels % 1 - 0.5).abs() < 1e-3).all(-1).numpy()  # in the frame that the point is from
        visible = inside & at_centre & (np.abs(stored - depth.numpy()) < 1e-6)
        same = (frames.load_image(i)[y[visible], x[visible]] == capture.point_colors[still][visible]).all(axis=-1)
        as_seen[visible] |= same
    assert as_seen.all()


def test_moving_points_lie_on_their_bodies_at_the_middle_instant(capture: Capture) -> None:
    scene = living_room(3)
    assert set(capture.point_motion) == {0, 1}
    assert 0.15 < capture.point_motion.mean() < 0.25
    metres = torch.from_numpy(capture.points[capture.point_motion == 1] / 0.25) + scene.room_center
    middle = torch.tensor(0.5, dtype=torch.float64)
    moving = [body for body in scene.bodies if body.moves]
    reach = torch.stack([is_inside(body, metres.double(), middle) for body in moving])
    assert (reach - 1).abs().amin(0).max() < 1e-5
    assert ((reach - 1).abs() < 1e-5).any(1).all()  # each of the bodies has some


def test_tracks_lie_where_depth_says_while_they_are_visible_and_on_their_bodies_always(
    written: Path, capture: Capture
) -> None:
    train = capture.splits["train"]
    tracks = capture.select(train).tracks
    assert np.isfinite(tracks.paths).all()
    assert 0.3 < tracks.visible.mean() < 1
    images = as_pinhole(capture, 1)
    off = []
    for place, frame in enumerate(train):
        pose, matrix = capture.extrinsics[frame], capture.intrinsics[frame]
        at = tracks.paths[:, place] @ pose[:, :3].T + pose[:, 3]
        in_image = at @ matrix.T
        seen = tracks.visible[:, place]
        np.testing.assert_allclose((in_image[:, :2] / in_image[:, 2:])[seen], tracks.xy[seen, place], atol=0.02)
        depth, (column, row) = images.load_depth(frame), tracks.xy[:, place].astype(int).T
        off.append(np.abs(depth[row[seen], column[seen]] / at[seen, 2] - 1))
    assert np.median(np.concatenate(off)) < 0.02  # a pixel's own depth is that of its centre


def test_the_number_of_points_is_what_was_asked_for(capture: Capture) -> None:
    assert len(capture.points) == 500


def test_the_video_shows_the_training_frames(written: Path) -> None:
    with av.open(str(written / "video.mp4")) as container:
        video = [frame.to_ndarray(format="rgb24").astype(float) for frame in container.decode(video=0)]
    assert len(video) == 5
    for i, shown in enumerate(video):
        with Image.open(written / "rgb" / "1x" / f"0_{i:05d}.png") as image:
            psnr = -10 * math.log10(((np.array(image) - shown) ** 2).mean() / 255**2)
        assert psnr > 28  # halved colour planes cost most of it


@pytest.mark.parametrize("width", [64, 1040])
def test_a_video_has_the_colours_of_its_frames_whatever_its_size(tmp_path: Path, width: int) -> None:
    """Readers take videos of more than 1024 pixels for BT.709, unless they say what they are."""
    colours = np.array([(200, 40, 40), (40, 180, 60), (50, 60, 200), (220, 210, 30)], np.uint8)
    image = np.tile(np.repeat(colours, width // 4, axis=0), (32, 1, 1))
    with H264Video(tmp_path / "video.mp4", width, 32) as video:
        video.add(image)
    shown = read_frames(tmp_path / "video.mp4").images[0][:, width // 8 :: width // 4]
    np.testing.assert_allclose(shown.astype(int), np.tile(colours, (32, 1, 1)), atol=3)


@pytest.mark.slow
def test_a_video_of_the_same_frames_has_the_same_bytes(tmp_path: Path) -> None:
    """Of 48 frames with some detail: x264's defaults differ from run to run here."""
    rows, columns = np.indices((120, 160))
    written = set()
    for run in range(4):
        with H264Video(tmp_path / f"{run}.mp4", 160, 120) as video:
            for i in range(48):
                wave = 127 + 60 * np.sin(rows / (5 + i / 9)) + 60 * np.cos((columns + 3 * i) / 7)
                video.add(np.stack((wave, wave[::-1], wave[:, ::-1]), axis=-1).astype(np.uint8))
        written.add((tmp_path / f"{run}.mp4").read_bytes())
    assert len(written) == 1


def test_odd_sizes_and_single_frames_are_written(tmp_path: Path) -> None:
    options = {"width": 17, "height": 19, "supersampling": 1, "num_points": 3}
    folder = write_synthetic_capture(tmp_path / "odd", num_frames=1, **options)
    assert read_capture(folder).image_sizes.tolist() == [[17, 19]] * 2


def test_the_options_are_on_record(written: Path) -> None:
    record = json.loads((written / "synthetic.json").read_text())
    assert record == {"scene": "living-room", "unit": "metres", "seed": 3, **OPTIONS}


# --------------------------------------------------------------------------------------------------------------------
# What is refused


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("seed", -1),
        ("num_frames", 0),
        ("num_frames", 100_000),
        ("held_out_every", 0),
        ("width", 8),
        ("width", 2_000_000_000),
        ("height", 10_000),
        ("height", 36.5),
        ("num_points", 0),
    ],
)
def test_an_option_out_of_range_is_refused(tmp_path: Path, option: str, value: int) -> None:
    with pytest.raises(Page4DError, match=f"--{option.replace('_', '-')} must be a whole number from .* got {value:,}"):
        write_synthetic_capture(tmp_path / "out", **{**OPTIONS, option: value})
    assert list(tmp_path.iterdir()) == []


def test_more_than_can_be_rendered_in_hours_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Page4DError, match=r"An image may have 4,194,304 pixels, .* is 16,777,216"):
        write_synthetic_capture(tmp_path / "out", width=4096, height=4096)
    with pytest.raises(
        Page4DError, match=r"^13,334 frames .* of 640 x 480 pixels with 9 rays each take 3\.7e\+10 rays"
    ):
        write_synthetic_capture(tmp_path / "out", num_frames=10_000, width=640, height=480)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("size", [100, 2000, 6000])
def test_a_limit_of_file_sizes_leaves_nothing_and_is_told_of(tmp_path: Path, size: int) -> None:
    with largest_file(size), pytest.raises(Page4DError, match="A file grew past the limit of its size"):
        write_synthetic_capture(tmp_path / "out", **OPTIONS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["/proc/x", "{}/file/x", "{}/" + "x" * 240, "{}/a\0b", "{}/\udcff", "{}/loop"])
def test_an_output_that_cannot_be_written_is_refused_before_anything_is_rendered(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    monkeypatch.setattr("page4d_hf.synthetic.capture.render_clip", lambda *_, **__: pytest.fail("a frame was rendered"))
    with pytest.raises(Page4DError, match=r"Cannot write|cannot be a name"):
        write_synthetic_capture(name.format(tmp_path), **OPTIONS)


@pytest.mark.slow
def test_overwriting_replaces_a_synthetic_capture(written: Path, tmp_path: Path) -> None:
    options = {**OPTIONS, "num_frames": 1}
    write_synthetic_capture(tmp_path / "out", **options)
    write_synthetic_capture(tmp_path / "out", seed=3, overwrite=True, **OPTIONS)
    assert contents(tmp_path / "out") == contents(written)


def test_the_command_says_what_to_do_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "my capture")
    main(["synth", out, "--num-frames", "3", "--width", "32", "--height", "24", "--supersampling", "1"])
    assert f"Next: ns-train page4d-4dgs --data '{out}'" in capsys.readouterr().out
    with pytest.raises(SystemExit) as exit_info:
        main(["synth", out])
    assert exit_info.value.code == 1
    assert "is not empty" in capsys.readouterr().err
