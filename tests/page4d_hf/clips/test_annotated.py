"""Reconstructions as clips."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from small_scene import ball_scene

from page4d_hf.clips.annotated import Trust, clips_of_reconstruction
from page4d_hf.clips.reading import decode_frames
from page4d_hf.errors import Page4DError

GOOD = {
    "outcome": "refined",
    "note": "",
    "inlier_share_after": 0.9,
    "inlier_pixels": 1.0,  # of images 320 wide
    "error_p50_after": 0.4,
    "parallax_degrees": 5.0,
    "depth_error": 0.05,
}


def with_report(**changes):
    return replace(ball_scene(), info={"refinement": {**GOOD, **changes}})


def test_a_clip_projects_points_where_the_reconstruction_does():
    scene = ball_scene()
    [encoded] = clips_of_reconstruction(scene, "videos", "a.mp4", confidence_percentile=0)
    clip = decode_frames(encoded.row, range(len(scene)))
    height, width = scene.depth[0].shape
    assert clip.images.shape == (len(scene), height, width, 3)
    for i in range(len(scene)):
        point = np.array([0.3, -0.2, 2.0])
        in_image = scene.intrinsics[i] @ (scene.extrinsics[i] @ np.append(point, 1))
        in_clip = clip.intrinsics[i] @ (clip.extrinsics[i] @ np.append(point, 1))
        size = np.array([width, height]) / scene.frames.sizes[i][::-1]
        np.testing.assert_allclose(in_clip[:2] / in_clip[2], in_image[:2] / in_image[2] * size, rtol=1e-9)
        np.testing.assert_allclose(clip.depth[i], np.nan_to_num(scene.depth[i]), rtol=5e-4)


def test_depth_is_left_out_where_the_network_was_least_confident():
    scene = ball_scene()
    for i, conf in enumerate(scene.depth_conf):
        conf[:] = np.random.default_rng(i).random(conf.shape)
    [encoded] = clips_of_reconstruction(scene, "videos", "a", confidence_percentile=25)
    clip = decode_frames(encoded.row, range(len(scene)))
    for depth, conf in zip(clip.depth, scene.depth_conf, strict=True):
        assert (depth[conf < np.percentile(conf, 25)] == 0).all()


def test_a_clip_is_cut_to_what_the_network_saw():
    scene = ball_scene()
    whole = cut_by(scene, 0)
    cut = cut_by(scene, 8)  # a row of JPEG's blocks
    height = scene.depth[0].shape[0]
    assert cut.images.shape[1] == height - 2 * 8
    np.testing.assert_array_equal(cut.images[:, :16], whole.images[:, 8:24])
    np.testing.assert_array_equal(cut.motion_mask, whole.motion_mask[:, 8:-8])
    np.testing.assert_array_equal(cut.intrinsics[:, 1, 2], whole.intrinsics[:, 1, 2] - 8)
    for depth, conf in zip(cut.depth, scene.depth_conf, strict=True):
        np.testing.assert_array_equal(depth == 0, conf[8:-8] < np.percentile(conf[8:-8], 50))


def cut_by(scene, rows):
    """The clip of a scene of which so many rows at the top and at the bottom were cropped away."""
    for i, conf in enumerate(scene.depth_conf):
        conf[:] = 1 + np.random.default_rng(i).random(conf.shape)
        for values, unseen in ((conf, 0), (scene.depth[i], np.nan), (scene.motion[i], np.nan)):
            values[:rows] = values[len(values) - rows :] = unseen
    [encoded] = clips_of_reconstruction(scene, "videos", "a", confidence_percentile=50)
    return decode_frames(encoded.row, range(len(scene)))


def test_long_videos_become_several_clips():
    clips = clips_of_reconstruction(ball_scene(5), "videos", "a", frames_per_clip=3)
    assert [clip.row["num_frames"] for clip in clips] == [3, 2]
    assert [clip.clip_id for clip in clips] == ["videos/a/0000", "videos/a/0001"]


def test_a_frame_that_is_left_over_alone_is_named():
    scene = ball_scene(5)
    *clips, alone = clips_of_reconstruction(scene, "videos", "a", frames_per_clip=2)
    assert {clip.row["num_frames"] for clip in clips} == {2}
    assert alone.row is None
    name = scene.frames.names[-1]
    assert str(alone.skipped[0]) == f"frame videos/a {name}: it is left over alone, and a clip needs two frames"


def test_a_reconstruction_that_its_report_bears_out_is_kept():
    [encoded] = clips_of_reconstruction(with_report(), "videos", "a", trust=Trust())
    assert encoded.row is not None


@pytest.mark.parametrize(
    ("report", "reason"),
    [
        ({"outcome": "kept", "note": "Too dark."}, "could not be refined (Too dark.)"),
        ({"outcome": "rotations refined"}, "could not be refined"),
        ({"inlier_share_after": 0.5}, "explain 50% of what was tracked"),
        ({"error_p50_after": 1.5}, "reprojection error is 1.50 px"),
        ({"error_p50_after": 9, "inlier_pixels": 6.0}, "reprojection error is 1.50 px of an image 320 wide"),
        ({"parallax_degrees": 0.2}, "a parallax of 0.20 degrees"),
        ({"depth_error": 0.4}, "depth is off by 40%"),
    ],
)
def test_a_reconstruction_that_its_report_does_not_bear_out_is_left_out_with_the_reason(report, reason):
    [encoded] = clips_of_reconstruction(with_report(**report), "videos", "a", trust=Trust())
    assert encoded.row is None
    assert reason in encoded.skipped[0].reason


def test_errors_are_measured_in_pixels_of_one_image_width_whatever_the_videos():
    of_1080p = with_report(error_p50_after=0.4 * 6, inlier_pixels=6.0)
    [encoded] = clips_of_reconstruction(of_1080p, "videos", "a", trust=Trust())
    assert encoded.row is not None


def test_a_single_frame_gives_no_clip():
    [encoded] = clips_of_reconstruction(ball_scene(1), "videos", "a")
    assert encoded.row is None
    assert "one frame only" in encoded.skipped[0].reason


@pytest.mark.parametrize("name", ["min_inliers", "max_error", "min_parallax", "max_depth_error"])
def test_trust_refuses_values_that_nothing_can_have(name):
    with pytest.raises(Page4DError, match="--trust"):
        Trust(**{name: -0.1})
    with pytest.raises(Page4DError, match="--trust"):
        Trust(**{name: float("nan")})
