"""Motion masks from flow that contradicts a static scene, on rooms that are rendered with exact truth."""

from __future__ import annotations

import numpy as np
import pytest
from image_folders import write_images
from moving_room import moving_room
from PIL import Image
from small_scene import ball_scene

from page4d_hf.errors import Page4DError
from page4d_hf.frames import Frames
from page4d_hf.reconstruction.motion import combine, geometric_motion, motion_masks, motion_source, resolve_motion
from page4d_hf.scene.folder import write_scene
from page4d_hf.utils.folders import MANIFEST
from page4d_hf.utils.ranking import auroc


def masks_of(room, **changes):
    room = room._replace(**changes)
    return np.stack(geometric_motion(room.images, room.extrinsics, room.intrinsics, list(room.depth)))


def as_frames(images, names=None):
    names = names or [f"{i}.png" for i in range(len(images))]
    return Frames(list(images), names, np.arange(len(images), dtype=float), None, "a test")


@pytest.mark.slow
@pytest.mark.parametrize("camera_stands", [False, True])
def test_what_moves_stands_out(camera_stands):
    room = moving_room(camera_stands=camera_stands)
    masks = masks_of(room)
    assert auroc(masks, room.moving) > 0.93  # some bodies rest for most of so short a clip
    assert (masks[~room.moving] < 0.5).mean() > 0.95


@pytest.mark.slow
def test_cameras_that_pairs_of_frames_can_correct_do_no_harm():
    room = moving_room()
    rng = np.random.default_rng(0)
    extrinsics = room.extrinsics.copy()
    extrinsics[:, :, 3] += 0.01 * rng.normal(size=(len(extrinsics), 3))
    exact = auroc(masks_of(room), room.moving)
    disturbed = auroc(masks_of(room, extrinsics=extrinsics), room.moving)
    assert disturbed > exact - 0.02


@pytest.mark.slow
def test_the_scale_of_cameras_and_depth_is_without_meaning():
    room = moving_room()
    extrinsics = np.concatenate((room.extrinsics[:, :, :3], 50 * room.extrinsics[:, :, 3:]), axis=2)
    np.testing.assert_allclose(masks_of(room, extrinsics=extrinsics, depth=50 * room.depth), masks_of(room), atol=0.05)


@pytest.mark.slow
def test_what_flow_says_of_a_wall_without_contrast_is_not_believed():
    room = moving_room(camera_stands=True)
    rng = np.random.default_rng(0)
    noisy = np.clip(128 + rng.normal(0, 1, room.images.shape), 0, 255).astype(np.uint8)
    assert masks_of(room, images=noisy).max() < 0.5


@pytest.mark.slow
def test_masks_have_the_size_of_depth_and_are_unknown_where_it_is():
    room = moving_room(frames=3)
    depth = [np.full((10, 14), 2.0, np.float32) for _ in room.images]
    depth[1][0, 0] = np.nan
    masks = motion_masks("geometry", as_frames(room.images), room.extrinsics, room.intrinsics, depth, None)
    assert [mask.shape for mask in masks] == [(10, 14)] * 3
    assert np.isnan(masks[1][0, 0])
    assert np.isfinite(np.stack(masks)).sum() == 3 * 140 - 1


def test_masks_that_agree_are_surer_than_masks_that_do_not():
    one, other = np.array([[0.9, 0.9, 0.1]], np.float32), np.array([[0.9, 0.1, 0.1]], np.float32)
    np.testing.assert_allclose(combine([one], [other])[0], [[0.9, 0.5, 0.1]], atol=1e-6)


def test_a_users_masks_are_taken_by_name_else_in_natural_order(tmp_path):
    moving = [np.zeros((6, 8), bool), np.ones((6, 8), bool)]
    depth, cameras = [np.ones((3, 4), np.float32)] * 2, (np.zeros((2, 3, 4)), np.zeros((2, 3, 3)))
    frames = as_frames(np.zeros((2, 6, 8, 3), np.uint8), ["b.jpg", "a.jpg"])
    for names in (["b.png", "a.png"], ["b.jpg.png", "a.jpg.png"], ["9.png", "10.png"]):
        folder = write_images(tmp_path / names[0], moving)
        for number, name in enumerate(names):
            (folder / f"{number}.png").rename(folder / name)
        masks = motion_masks(motion_source(str(folder), frames), frames, *cameras, depth, None)
        assert [mask.mean() for mask in masks] == [0, 1]


def test_written_masks_are_black_where_something_moves_and_of_the_images_sizes(tmp_path):
    moving, maps = np.zeros((6, 8), np.float32), [np.ones((6, 8), np.float32)]
    moving[:, :4] = 0.9
    frames = as_frames(np.zeros((1, 12, 16, 3), np.uint8))
    made = ball_scene(1, frames=frames, depth=maps, depth_conf=maps, motion=[moving], tracks=None)
    scene = write_scene(tmp_path / "scene", made, motion_masks=True)
    mask = np.asarray(Image.open(scene / "motion_masks" / "frame_00001.png.png"))
    assert mask.shape == (12, 16)
    assert (mask[:, :7] == 0).all()
    assert (mask[:, 9:] == 255).all()
    made.motion = None
    with pytest.raises(Page4DError, match="no motion masks to write"):
        write_scene(tmp_path / "other", made, motion_masks=True)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("folder", "mark"), [("motion_masks", "page4d/info.json"), ("masks", MANIFEST)], ids=["scene", "export"]
)
def test_masks_that_page4d_wrote_the_other_way_round_are_refused(tmp_path, folder, mark):
    (tmp_path / folder).mkdir()
    assert resolve_motion(tmp_path / folder, has_head=False)  # of nobody knows whom
    (tmp_path / mark).parent.mkdir(exist_ok=True)
    (tmp_path / mark).write_text("{}")
    with pytest.raises(Page4DError, match=rf"page4d wrote .*/{folder}, .* black and white exchanged"):
        resolve_motion(tmp_path / folder, has_head=False)


def test_masks_by_which_nearly_everything_moves_are_doubted(tmp_path, caplog):
    depth, cameras = [np.ones((6, 8), np.float32)], (np.zeros((1, 3, 4)), np.zeros((1, 3, 3)))
    frames = as_frames(np.zeros((1, 6, 8, 3), np.uint8))
    moving = np.zeros((6, 8), bool)
    moving[0] = True
    masks = motion_source(write_images(tmp_path / "masks", [moving]), frames)
    motion_masks(masks, frames, *cameras, depth, None)
    assert not caplog.messages
    inverse = motion_source(write_images(tmp_path / "inverse", [~moving]), frames)
    motion_masks(inverse, frames, *cameras, depth, None)
    assert "83 % of the pixels move" in caplog.text


def test_what_cannot_tell_motion_is_refused_or_left_out(tmp_path):
    assert resolve_motion(None, has_head=False) is None
    with pytest.raises(Page4DError, match="this has none; take geometry"):
        resolve_motion("both", has_head=False)
    with pytest.raises(Page4DError, match=r"head, geometry, both or a folder of masks, got 'tracks'"):
        resolve_motion("tracks", has_head=True)
    single = as_frames(np.zeros((1, 6, 8, 3), np.uint8))
    cameras, depth = (np.zeros((1, 3, 4)), np.zeros((1, 3, 3))), [np.ones((3, 4), np.float32)]
    assert motion_masks(None, single, *cameras, depth, None) is None
    with pytest.raises(Page4DError, match="a single frame"):
        motion_source("geometry", single)
