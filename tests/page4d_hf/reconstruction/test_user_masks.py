"""Pixels that the user hides: left out of tracks, points and motion, and named for the training."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch
from image_folders import write_images
from moving_room import FOCAL, moving_room
from PIL import Image
from small_networks import small_network

from page4d_hf.cli import main
from page4d_hf.errors import Page4DError
from page4d_hf.frames import read_frames
from page4d_hf.reconstruction.cameras.refinement import refine
from page4d_hf.reconstruction.mask_folders import MaskFolder, ShownPixels
from page4d_hf.reconstruction.motion import geometric_motion
from page4d_hf.reconstruction.network import NetworkOptions, predict, prepare
from page4d_hf.reconstruction.reconstruct import reconstruct
from page4d_hf.reconstruction.tracks import FEWEST_FRAMES, track_points, without_hidden
from page4d_hf.reconstruction.windows import predict_in_windows
from page4d_hf.scene import read_scene
from page4d_hf.scene.lifting import points_from_depth
from page4d_hf.weights.loading import image_processor_for


def test_no_track_is_seen_in_a_hidden_pixel_and_the_others_stay_as_they_were():
    room = moving_room()
    visible = np.ones_like(room.moving)
    visible[:, :, 40:80] = False
    tracks = track_points(room.images)
    left = without_hidden(tracks, visible)
    column = left.xy[:, 0].astype(int)
    assert len(left)
    assert ((column < 40) | (column >= 80)).all()
    assert (left.lengths() >= FEWEST_FRAMES).all()
    everything = {(f, *xy) for f, xy in zip(tracks.frame.tolist(), tracks.xy.tolist(), strict=True)}
    assert {(f, *xy) for f, xy in zip(left.frame.tolist(), left.xy.tolist(), strict=True)} < everything
    whole = without_hidden(tracks, np.ones_like(room.moving))
    np.testing.assert_array_equal(whole.xy, tracks.xy)


@pytest.mark.slow
def test_with_what_moves_hidden_all_observations_agree_with_the_cameras():
    room = moving_room()
    margin = np.ones((7, 7), np.uint8)
    visible = [cv2.dilate(moving.astype(np.uint8), margin) == 0 for moving in room.moving]
    everything, hidden = (
        refine(list(room.images), room.extrinsics, FOCAL, list(room.depth), visible=masks).report
        for masks in (None, visible)
    )
    assert hidden["inlier_share_after"] > 0.9 > everything["inlier_share_after"]


@pytest.mark.slow
def test_what_is_hidden_does_not_spread_its_motion():
    room = moving_room()
    hidden = [cv2.dilate(moving.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0 for moving in room.moving]
    cameras = room.extrinsics, room.intrinsics, list(room.depth)
    without, masked = (
        np.stack(geometric_motion(list(room.images), *cameras, hidden=masks)) for masks in (None, hidden)
    )
    ring = np.stack([cv2.dilate(off.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0 for off in hidden])
    ring &= ~np.stack(hidden)
    assert masked[ring].mean() < 0.7 * without[ring].mean()


@pytest.mark.parametrize("mode", ["crop", "balanced", "pad"])
@pytest.mark.parametrize("size", [(60, 90), (90, 40)])
def test_the_network_sees_a_mask_where_it_sees_the_masked_pixels(mode, size):
    """Of frames of several sizes, of which one is black where it is hidden and white elsewhere."""
    visible = np.ones(size, bool)
    visible[10:35, 8:30] = False
    images = [np.repeat(np.where(visible, 255, 0).astype(np.uint8)[..., None], 3, axis=2), np.full((70, 70, 3), 255)]
    network, seen = small_network(), []
    processor = image_processor_for(network.config)
    options = NetworkOptions(56, mode, ("camera", "depth"), None)
    network.register_forward_pre_hook(lambda _, args, kwargs: seen.append((args[0], kwargs)), with_kwargs=True)
    inputs = [
        prepare(image.astype(np.uint8), processor, 14, options, shown)
        for image, shown in zip(images, (visible, None), strict=True)
    ]
    with torch.no_grad():
        predict(network, inputs, options, lambda *_: None)
    pixels, masks = seen[0][0][0], seen[0][1]["visible"][0]
    bright = pixels.mean(dim=1) > 0.5
    assert masks.shape == bright.shape
    assert (~masks[0]).float().mean() > 0.05
    assert (masks == bright).float().mean() > 0.97  # all but the hidden rectangle's edges


def test_masks_that_hide_nothing_leave_the_network_as_it_is():
    images, network = [np.zeros((56, 56, 3), np.uint8)] * 2, small_network()
    processor, options = image_processor_for(network.config), NetworkOptions(56, "crop", ("camera", "depth"), None)
    with torch.no_grad():
        with_masks, without = (
            predict_in_windows(network, processor, images, [range(2)], options, lambda *_: None, masks)
            for masks in ([np.ones((56, 56), bool)] * 2, None)
        )
    np.testing.assert_array_equal(with_masks.extrinsics, without.extrinsics)


@pytest.fixture
def folder(tmp_path):
    """The room's frames, and masks that hide a third of each."""
    room = moving_room()
    visible = np.ones(room.moving.shape, bool)
    visible[:, :, :43] = False
    write_images(tmp_path / "images", room.images)
    write_images(tmp_path / "masks", visible, "{}.png.png")
    return tmp_path


@pytest.mark.slow
def test_the_command_leaves_hidden_pixels_out_of_the_scene_and_names_the_masks(folder, model_folder):
    options = ("--model", model_folder, "--output", folder / "scene", "--resolution", 56, "--no-preview")
    hiding = ("--motion", "geometry", "--masks", folder / "masks", "--confidence-percentile", 0)
    main(["reconstruct", *map(str, (folder / "images", *options, *hiding))])
    scene = read_scene(folder / "scene")
    for index in range(len(scene)):
        width = scene.load_depth(index).shape[1]
        hidden, seen = slice(0, width // 3 - 1), slice(width // 3 + 2, None)
        assert (scene.load_confidence(index)[:, hidden] == 0).all()
        assert (scene.load_confidence(index)[:, seen] > 0).all()
        assert np.isnan(scene.load_motion(index)[:, hidden]).all()
        assert np.isfinite(scene.load_motion(index)[:, seen]).all()
        with Image.open(scene.use_paths[index]) as mask:
            np.testing.assert_array_equal(np.asarray(mask)[0], [0] * 43 + [255] * 85)
        first = scene.points[np.isclose(scene.point_times, scene.times[index])].astype(np.float64)
        in_camera = first @ scene.extrinsics[index, :, :3].T + scene.extrinsics[index, :, 3]
        pixels = in_camera @ scene.intrinsics[index].T
        assert len(first)
        assert (pixels[:, 0] / pixels[:, 2] > 41).all()  # a pixel of depth covers over two of the image
    entries = json.loads((folder / "scene" / "transforms.json").read_text())["frames"]
    assert entries[0]["mask_path"] == "masks/frame_00001.png.png"
    tracks = scene.load_tracks()
    assert (tracks.xy[tracks.visible][:, 0] >= 43).all()


@pytest.mark.parametrize("option", ["masks", "motion"])
@pytest.mark.parametrize(
    ("count", "size", "told"),
    [
        (1, (96, 128), "Expected 2 masks .*, got 1"),
        (2, (48, 64), "Expected masks of the frames' size, 128x96, got 64x48 in .*; resize it"),
        (2, None, r"0\.png cannot be read as an image"),
    ],
)
def test_masks_that_do_not_fit_are_refused_before_the_network_runs(option, count, size, told, tmp_path, monkeypatch):
    masks = tmp_path / "masks"
    write_images(masks, np.zeros((count, *(size or (1, 1))), bool))
    if size is None:
        (masks / "0.png").write_bytes(b"no image")
    monkeypatch.setattr("page4d_hf.reconstruction.reconstruct.predict_in_windows", no_network)
    with pytest.raises(Page4DError, match=told):
        reconstruct(list(moving_room().images[:2]), small_network(), **{option: masks})


def no_network(*args, **kwargs):
    raise AssertionError("the network was run")


def test_motion_by_geometry_is_refused_of_several_sizes_before_the_network_runs(monkeypatch):
    monkeypatch.setattr("page4d_hf.reconstruction.reconstruct.predict_in_windows", no_network)
    images = [moving_room().images[0], moving_room().images[1][:60]]
    with pytest.raises(Page4DError, match="one size, and this is frames of 2 sizes"):
        reconstruct(images, small_network(), motion="geometry")


def test_masks_that_hide_everything_are_refused(tmp_path):
    write_images(tmp_path, np.zeros((2, 96, 128), bool))
    options = {"motion": "off", "refine": "off", "masks": tmp_path}
    with pytest.raises(Page4DError, match="hide all of all frames: 0 hides, other values show; invert them"):
        reconstruct(list(moving_room().images[:2]), small_network(), resolution=56, **options)


def test_cameras_are_refined_by_the_user_s_motion_masks_rather_than_the_network_s(tmp_path, monkeypatch):
    class Asked(Exception):
        pass

    def asked(images, extrinsics, focal, depth, motion, **others):
        raise Asked(motion)

    moving = np.zeros((2, 96, 128), bool)
    moving[1, :, :64] = True
    write_images(tmp_path, moving)
    monkeypatch.setattr("page4d_hf.reconstruction.cameras.refinement.refine", asked)
    with pytest.raises(Asked) as told:
        reconstruct(list(moving_room().images[:2]), small_network(), resolution=56, motion=tmp_path)
    assert [mask.mean() for mask in told.value.args[0]] == [0, 0.5]


def cut_out(room) -> list[np.ndarray]:
    """The room's frames with all but a third transparent, and black there."""
    alpha = np.zeros((*room.images.shape[1:3], 1), np.uint8)
    alpha[:, 43:] = 255
    return [np.concatenate((image * (alpha > 0), alpha), axis=2) for image in room.images]


@pytest.mark.slow
def test_transparent_pixels_give_no_points_and_no_tracks_and_do_not_move():
    images = cut_out(moving_room())
    made = reconstruct(images, small_network(), resolution=56, confidence_percentile=0, motion="geometry")
    for confidence, motion in zip(made.depth_conf, made.motion, strict=True):
        hidden, seen = slice(0, confidence.shape[1] // 3 - 1), slice(confidence.shape[1] // 3 + 2, None)
        assert (confidence[:, hidden] == 0).all()
        assert (confidence[:, seen] > 0).all()
        assert np.isnan(motion[:, hidden]).all()
        assert np.isfinite(motion[:, seen]).all()
    assert len(made.points) == sum((confidence > 0).sum() for confidence in made.depth_conf)
    assert made.visible is None  # training learns what is transparent
    assert (made.tracks.xy[made.tracks.visible][:, 0] >= 43).all()


def test_transparent_pixels_give_no_points_of_the_point_head_either():
    images = cut_out(moving_room())[:2]
    options = {"points": "world", "refine": "off", "motion": "off", "confidence_percentile": 0}
    made = reconstruct(images, small_network(), resolution=28, **options)
    assert 0 < len(made.points) == sum((confidence > 0).sum() for confidence in made.depth_conf)


def test_masks_and_transparency_hide_together(tmp_path):
    images = cut_out(moving_room())[:2]
    visible = np.ones(images[0].shape[:2], bool)
    visible[:20] = False
    write_images(tmp_path, [visible] * 2)
    frames = read_frames(images)
    shown = ShownPixels(frames, MaskFolder(tmp_path, frames))
    np.testing.assert_array_equal(shown[1], visible & (images[1][..., 3] > 0))
    assert 0.2 < np.mean(shown.hides([np.zeros((12, 16))] * 2)) < 0.6


def test_images_that_are_transparent_everywhere_are_refused():
    images = [np.zeros((30, 50, 4), np.uint8)] * 2
    with pytest.raises(Page4DError, match="All pixels of all frames are transparent"):
        reconstruct(images, small_network(), resolution=56, motion="off", refine="off")


def test_whether_images_are_transparent_is_known_of_files_and_of_some_of_them(tmp_path):
    for number, mode in enumerate(("RGB", "RGBA")):
        Image.new(mode, (8, 6)).save(tmp_path / f"{number}.png")
    frames = read_frames(tmp_path)
    assert frames.transparent
    assert frames.take(np.array([1])).transparent
    assert not read_frames(tmp_path / "0.png").transparent
    assert not read_frames([np.zeros((6, 8, 3), np.uint8)]).transparent


def test_points_of_a_half_transparent_image_have_its_colours_over_white():
    image = np.full((4, 6, 4), (200, 0, 100, 128), np.uint8)
    camera = np.eye(3, 4), np.array([[6.0, 0, 3], [0, 6, 2], [0, 0, 1]])
    _, colors = points_from_depth(np.ones((2, 3), np.float32), np.ones((2, 3), bool), image, *camera)
    np.testing.assert_array_equal(colors, np.tile((227, 127, 177), (6, 1)))
