"""From captures to rows: what is kept exactly, what is scaled consistently, and what is left out by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from stored_frames import stored_capture

from page4d_hf.captures import Capture, as_pinhole
from page4d_hf.clips import ClipFrames, decode_frames
from page4d_hf.clips.encoding import DEPTH_TOLERANCE, EncodedClip, encode_clip, encode_depth, encode_frames, plan_clips
from page4d_hf.errors import CaptureError
from page4d_hf.scene import PointTracks


def encode(capture: Capture, **options: Any) -> EncodedClip:
    """The only clip of a capture."""
    plans, _ = plan_clips(capture, "test", **{"frames_per_clip": 100, **options})
    assert len(plans) == 1
    return encode_clip(plans[0])


def frames_of(capture: Capture, **options: Any) -> ClipFrames:
    """All frames of the only clip of a capture, decoded."""
    row = encode(capture, **options).row
    return decode_frames(row, range(row["num_frames"]))


def decoded_depth(depth: np.ndarray, **options: Any) -> tuple[np.ndarray, str]:
    """Depth encoded and decoded, and the kind of file that it was in."""
    data, scale = encode_depth(depth, **options)
    image = np.zeros((1, *depth.shape, 3), np.uint8)
    frames = ClipFrames(image, None, None, None, None, np.zeros(1), "test", "clip", ["0"], False)
    row = encode_frames(frames, sequence="")
    row |= {"depth": [{"bytes": data, "path": None}], "depth_scale": [scale]}
    return decode_frames(row, [0]).depth[0], "png" if data.startswith(b"\x89PNG") else "tiff"


# --------------------------------------------------------------------------------------------------------------------
# What is kept


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_image_files_that_need_no_change_are_kept_byte_by_byte(tmp_path, suffix):
    capture = stored_capture(tmp_path, suffix=suffix)
    row = encode(capture).row
    assert [file["bytes"] for file in row["images"]] == [path.read_bytes() for path in capture.image_paths]


def test_a_clip_that_is_decoded_is_what_the_capture_holds(tmp_path):
    capture = stored_capture(tmp_path)
    frames, stored = frames_of(capture), as_pinhole(capture)
    for i in range(len(capture)):
        np.testing.assert_array_equal(frames.images[i], stored.load_image(i))
        np.testing.assert_array_equal(frames.depth[i], stored.load_depth(i))
        np.testing.assert_array_equal(frames.motion_mask[i], stored.load_motion_mask(i))
    np.testing.assert_array_equal(frames.extrinsics, capture.extrinsics)
    np.testing.assert_array_equal(frames.intrinsics, capture.intrinsics)
    assert frames.frame_ids == capture.frame_ids
    assert (frames.source, frames.clip_id, frames.metric) == ("test", "test/noise/0000", True)


@pytest.mark.parametrize(("background", "level"), [(None, 255), ((0, 0, 0), 0)])
def test_transparent_images_are_laid_over_the_capture_s_background_or_white(tmp_path, background, level):
    capture = stored_capture(tmp_path, background=background)
    colours = np.random.default_rng(1).integers(0, 256, (24, 32, 4), np.uint8)
    Image.fromarray(colours).save(capture.image_paths[0])
    expected = Image.alpha_composite(Image.new("RGBA", (32, 24), (level,) * 3 + (255,)), Image.fromarray(colours))
    np.testing.assert_allclose(frames_of(capture).images[0], np.asarray(expected)[..., :3], atol=1)


def test_an_image_that_a_viewer_would_turn_is_stored_as_it_is_read(tmp_path):
    capture = stored_capture(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(capture.image_paths[0]) as image:
        pixels = np.array(image)
        image.save(capture.image_paths[0], exif=exif)
    row = encode(capture).row
    assert row["images"][0]["bytes"] != capture.image_paths[0].read_bytes()
    np.testing.assert_array_equal(decode_frames(row, [0]).images[0], pixels)


def test_distorted_images_are_stored_undistorted_with_the_pinhole_camera(tmp_path):
    capture = stored_capture(tmp_path, distortion=np.tile([-0.2, 0.05, 0.001, 0, 0], (6, 1)))
    frames, pinhole = frames_of(capture), as_pinhole(capture)
    np.testing.assert_array_equal(frames.intrinsics, pinhole.intrinsics)
    for i in range(len(capture)):
        np.testing.assert_array_equal(frames.images[i], pinhole.load_image(i))


def test_a_frame_without_depth_among_others_has_none_that_is_known(tmp_path):
    capture = stored_capture(tmp_path)
    capture.depth_paths[2] = None
    frames = frames_of(capture)
    assert not frames.depth[2].any()
    assert frames.depth[3].any()


def test_depth_is_left_out_where_nothing_is_to_be_learned(tmp_path):
    capture = stored_capture(tmp_path)
    depth = frames_of(capture).depth
    # Any masks: here where something moves.
    frames = frames_of(replace(capture, use_paths=[capture.motion_mask_paths[0], *[None] * 5]))
    np.testing.assert_array_equal(frames.depth[0], depth[0] * frames.motion_mask[0])
    np.testing.assert_array_equal(frames.depth[1:], depth[1:])


def test_a_mask_is_given_only_where_every_frame_has_one(tmp_path):
    capture = stored_capture(tmp_path)
    capture.motion_mask_paths[2] = None
    row = encode(capture).row
    assert decode_frames(row, [1, 2]).motion_mask is None
    assert decode_frames(row, [1, 3]).motion_mask is not None


def test_a_capture_without_depth_and_masks_makes_clips_without_them(tmp_path):
    row = encode(stored_capture(tmp_path, depth_paths=None, motion_mask_paths=None)).row
    assert row["depth"] is row["depth_scale"] is row["motion_mask"] is None


def test_times_are_seconds_where_there_is_a_clock_and_frame_numbers_otherwise(tmp_path):
    capture = stored_capture(tmp_path)
    assert frames_of(capture).timestamps.tolist() == [0, 1, 2, 3, 4, 5]
    capture.fps = 4.0
    assert frames_of(capture).timestamps.tolist() == [0, 0.25, 0.5, 0.75, 1, 1.25]
    capture.timestamps = np.array([7.0, 7.1, 7.2, 7.4, 7.5, 7.6])
    assert frames_of(capture).timestamps.tolist() == capture.timestamps.tolist()


# --------------------------------------------------------------------------------------------------------------------
# Depth


@pytest.mark.parametrize("scale", [1 / 5000, 1 / 1000, 1 / 256, 1000 / 65535])
def test_depth_of_a_published_scale_is_kept_exactly_in_16_bits(scale):
    steps = np.random.default_rng(0).integers(0, 65536, (20, 30))
    depth = (steps * scale).astype(np.float32)
    decoded, kind = decoded_depth(depth)
    np.testing.assert_array_equal(decoded, depth)
    assert kind == "png"


def test_depth_of_the_captures_own_scale_is_kept_exactly_in_16_bits():
    depth = (np.random.default_rng(0).integers(0, 65536, (20, 30)) * 0.00317).astype(np.float32)
    decoded, kind = decoded_depth(depth, scales=(0.00317,))
    np.testing.assert_array_equal(decoded, depth)
    assert kind == "png"


@pytest.mark.parametrize("nearest", [0.5, 0.05, 0.001])
def test_no_depth_errs_by_more_than_the_tolerance_and_none_becomes_unknown(nearest):
    depth = np.random.default_rng(0).uniform(nearest, 20, (40, 50)).astype(np.float32)
    depth[0, 0], depth[1, 1], depth[2] = nearest, 20, 0
    decoded, _ = decoded_depth(depth)
    assert np.array_equal(decoded > 0, depth > 0)
    assert np.all(np.abs(decoded - depth) <= DEPTH_TOLERANCE * depth)


def test_depth_of_a_wide_range_is_kept_exactly_as_floats():
    depth = np.random.default_rng(0).uniform(0.001, 1000, (40, 50)).astype(np.float32)
    decoded, kind = decoded_depth(depth)
    np.testing.assert_array_equal(decoded, depth)
    assert kind == "tiff"


def test_a_tolerance_of_zero_keeps_all_depth_exactly():
    depth = np.random.default_rng(0).uniform(1, 2, (40, 50)).astype(np.float32)
    decoded, kind = decoded_depth(depth, tolerance=0)
    np.testing.assert_array_equal(decoded, depth)
    assert kind == "tiff"


# --------------------------------------------------------------------------------------------------------------------
# Resizing


def test_images_depth_masks_and_cameras_are_resized_alike(tmp_path):
    # A slanted plane z = 2 + 0.4 x in the camera, coloured by where in the world a point is. The factor is not whole,
    # nor is it the same along both axes once the sides are rounded.
    capture = stored_capture(tmp_path, count=2, size=(90, 61))
    width, height = 90, 61
    fx, fy, cx, cy = 80.0, 70.0, 41.0, 33.0
    u, v = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    x, y = (u - cx) / fx, (v - cy) / fy
    z = 2 / (1 - 0.4 * x)
    world = np.stack((x * z, y * z, z), axis=-1)
    Image.fromarray((128 + 60 * world).clip(0, 255).round().astype(np.uint8)).save(capture.image_paths[0])
    np.save(capture.depth_paths[0], z.astype(np.float32))
    Image.fromarray((world[..., 0] > 0).astype(np.uint8)).save(capture.motion_mask_paths[0])
    capture.depth_scale = 1.0
    capture.intrinsics[0] = [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]

    frames = frames_of(capture, max_side=40)
    assert frames.images.shape == (2, 27, 40, 3)
    (fx, _, cx), (_, fy, cy), _ = frames.intrinsics[0]
    u, v = np.meshgrid(np.arange(40) + 0.5, np.arange(27) + 0.5)
    x, y = (u - cx) / fx, (v - cy) / fy
    z = 2 / (1 - 0.4 * x)
    seen = np.stack((x * z, y * z, z), axis=-1)
    colours = (128 + 60 * seen).clip(0, 255)
    # Rounding twice, and the curvature of 1 / z within a pixel.
    np.testing.assert_allclose(frames.images[0].astype(float), colours, atol=1.3)
    # Depth and masks come from the nearest pixel, whose centre is at most half of one away.
    np.testing.assert_allclose(frames.depth[0], z, rtol=0.4 * 0.5 / 80 / (1 - 0.4 * 0.7) + 5e-4)
    far_from_edge = np.abs(seen[..., 0]) > 0.03
    np.testing.assert_array_equal(frames.motion_mask[0][far_from_edge], (seen[..., 0] > 0)[far_from_edge])


def test_jpeg_images_stay_jpeg_when_they_are_resized(tmp_path):
    row = encode(stored_capture(tmp_path, suffix=".jpg"), max_side=20).row
    assert all(file["bytes"].startswith(b"\xff\xd8") for file in row["images"])


# --------------------------------------------------------------------------------------------------------------------
# Runs of frames


def lengths(capture: Capture, **options: Any) -> list[list[str]]:
    plans, _ = plan_clips(capture, "test", **options)
    return [plan.frames.capture.frame_ids for plan in plans]


def test_a_sequence_is_divided_into_runs_of_about_equal_length(tmp_path):
    assert [len(run) for run in lengths(stored_capture(tmp_path, 9), frames_per_clip=4)] == [3, 3, 3]


def test_a_stride_takes_every_so_many_th_frame(tmp_path):
    runs = lengths(stored_capture(tmp_path, 6), frames_per_clip=4, stride=2)
    assert runs == [["frame0", "frame2", "frame4"]]


def test_devices_and_image_sizes_are_not_mixed_in_a_clip(tmp_path):
    capture = stored_capture(tmp_path, camera_ids=np.array([0, 1, 0, 1, 0, 1]))
    runs = lengths(capture, frames_per_clip=4)
    assert runs == [["frame0", "frame2", "frame4"], ["frame1", "frame3", "frame5"]]
    capture = stored_capture(tmp_path, image_sizes=np.array([(32, 24), (24, 32)] * 3))
    assert lengths(capture, frames_per_clip=4) == runs


def test_the_video_of_nvidia_s_cameras_is_one_clip_and_what_they_saw_is_a_clip_each(tmp_path):
    capture = stored_capture(tmp_path, layout="nvidia", camera_ids=np.array([0, 1, 2, 0, 1, 2]))
    assert lengths(capture, frames_per_clip=10) == [capture.frame_ids]
    capture.time_ids = np.array([0, 0, 0, 1, 1, 1])
    assert lengths(capture, frames_per_clip=10) == [["frame0", "frame3"], ["frame1", "frame4"], ["frame2", "frame5"]]


def test_workers_are_sent_neither_points_nor_tracks(tmp_path):
    tracks = PointTracks(np.zeros((5, 6, 2), np.float32), np.ones((5, 6), bool), np.zeros((5, 3), np.float32))
    capture = stored_capture(tmp_path, points=np.zeros((9, 3), np.float32), tracks=tracks)
    (plan,), _ = plan_clips(capture, "test", frames_per_clip=10)
    assert (plan.frames.capture.points, plan.frames.capture.tracks) == (None, None)


def test_frames_of_a_clip_follow_time(tmp_path):
    capture = stored_capture(tmp_path, timestamps=np.array([5.0, 4, 3, 2, 1, 0]))
    assert lengths(capture, frames_per_clip=10) == [[f"frame{i}" for i in (5, 4, 3, 2, 1, 0)]]


def test_a_split_of_a_capture_takes_its_frames_alone(tmp_path):
    capture = stored_capture(tmp_path, splits={"train": np.array([0, 2, 5]), "val": np.array([1])})
    assert lengths(capture, frames_per_clip=10, split="train") == [["frame0", "frame2", "frame5"]]
    with pytest.raises(CaptureError, match="no split 'test'; it has: train, val"):
        plan_clips(capture, "test", frames_per_clip=10, split="test")


# --------------------------------------------------------------------------------------------------------------------
# What is left out


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


@pytest.mark.parametrize("part", ["image_paths", "depth_paths", "motion_mask_paths"])
@pytest.mark.parametrize("damage", [truncate, Path.unlink])
def test_a_frame_with_a_broken_or_missing_file_is_named_and_skipped(tmp_path, part, damage):
    capture = stored_capture(tmp_path, size=(64, 48))
    path = getattr(capture, part)[2]
    damage(path)
    clip = encode(capture)
    assert clip.row["frame_ids"] == ["frame0", "frame1", "frame3", "frame4", "frame5"]
    (skip,) = clip.skipped
    assert str(skip).startswith("frame test/noise/0000 frame2: ")
    assert path.name in str(skip)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("extrinsics", np.diag([1.0, 1, -1, 1])[:3], "its camera has a reflection"),
        ("distortion", np.nan, "its camera has a distortion that is not finite"),
    ],
)
def test_a_frame_with_an_impossible_camera_is_named_and_skipped(tmp_path, field, value, words):
    capture = stored_capture(tmp_path)
    getattr(capture, field)[3] = value
    plans, skipped = plan_clips(capture, "test", frames_per_clip=10)
    assert "frame3" not in plans[0].frames.capture.frame_ids
    assert [skip.name for skip in skipped] == ["test/noise frame3"]
    assert words in skipped[0].reason


def test_a_sequence_without_a_usable_camera_is_named_and_skipped(tmp_path):
    capture = stored_capture(tmp_path)
    capture.intrinsics[:] = np.nan
    plans, skipped = plan_clips(capture, "test", frames_per_clip=10)
    assert not plans
    assert str(skipped[-1]) == "sequence test/noise: it has no frame that can be used"


def test_frames_that_the_reader_left_out_are_named_too(tmp_path):
    _, skipped = plan_clips(stored_capture(tmp_path, skipped=["b.png is missing."]), "test", frames_per_clip=10)
    assert [str(skip) for skip in skipped] == ["frame test/noise: b.png is missing."]


def test_a_clip_whose_depth_is_all_invalid_is_named_and_skipped(tmp_path):
    capture = stored_capture(tmp_path)
    for path in capture.depth_paths:
        np.save(path, np.full((24, 32), np.nan, np.float32))
    clip = encode(capture)
    assert clip.row is None
    assert [str(skip) for skip in clip.skipped] == ["clip test/noise/0000: its depth maps hold no valid value"]


def test_a_clip_of_which_one_frame_remains_is_named_and_skipped(tmp_path):
    capture = stored_capture(tmp_path, 2)
    capture.image_paths[0].unlink()
    clip = encode(capture)
    assert clip.row is None
    assert [skip.kind for skip in clip.skipped] == ["frame", "clip"]


def test_a_sequence_of_one_frame_is_named_and_skipped(tmp_path):
    plans, skipped = plan_clips(stored_capture(tmp_path, 1), "test", frames_per_clip=10)
    assert not plans
    assert "one frame only" in skipped[0].reason
