"""Cameras refined by tracks, on scenes that are rendered with exact truth."""

from __future__ import annotations

import functools

import cv2
import numpy as np
import pytest
import torch
from moving_room import FOCAL, SIZE, moving_room

from page4d_hf.errors import Page4DError
from page4d_hf.geometry import camera_centers
from page4d_hf.reconstruction.cameras.bundle_adjustment import projections
from page4d_hf.reconstruction.cameras.depth import sample_maps
from page4d_hf.reconstruction.cameras.refinement import refine
from page4d_hf.reconstruction.tracks import Tracks, as_point_tracks, checked_tracks, joined_tracks, track_points
from page4d_hf.scene import PointTracks
from page4d_hf.synthetic.scene import rotation_about

FRAMES = 12
CENTER = np.array(SIZE)[::-1] / 2


def clip(scene: str = "rigid", **camera: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frames of a room: images `(S, H, W, 3)` uint8, true cameras `(S, 3, 4)` and z-depth `(S, H, W)`."""
    room = moving_room(scene, **camera)
    return room.images, room.extrinsics, room.depth


def disturbed(extrinsics: np.ndarray, *, degrees: float = 1.0, share: float = 0.2) -> np.ndarray:
    """Cameras as a network might give them: turned and moved at random, by a share of the path's extent."""
    rng = np.random.default_rng(0)
    centers = camera_centers(extrinsics)
    extent = np.linalg.norm(centers - centers.mean(0), axis=1).max() or 1.0
    out = extrinsics.copy()
    for i in range(1, len(out)):
        axis = torch.from_numpy(rng.normal(size=3))
        turn = rotation_about(axis / axis.norm(), torch.tensor([np.radians(degrees)], dtype=torch.float64))[0].numpy()
        out[i, :, :3] = turn @ extrinsics[i, :, :3]
        out[i, :, 3] = -out[i, :, :3] @ (centers[i] + share * extent * rng.normal(size=3) / np.sqrt(3))
    return out


def path_error(extrinsics: np.ndarray, truth: np.ndarray) -> float:
    """RMS distance of camera centres after a Sim(3), over the RMS extent of the path."""
    a, b = (camera_centers(e) for e in (extrinsics, truth))
    a, b = a - a.mean(0), b - b.mean(0)
    u, singular, vt = np.linalg.svd(b.T @ a)
    sign = np.diag([1, 1, np.sign(np.linalg.det(u @ vt))])
    scale = (np.diag(singular) @ sign).trace() / (a**2).sum()
    return float(np.sqrt(((scale * a @ (u @ sign @ vt).T - b) ** 2).sum() / (b**2).sum()))


def rotation_error(extrinsics: np.ndarray, truth: np.ndarray) -> float:
    """Mean error of rotations from frame to frame, degrees."""
    turns = [e[1:, :, :3] @ e[:-1, :, :3].transpose(0, 2, 1) for e in (extrinsics, truth)]
    cosines = (np.einsum("sij,sij->s", *turns) - 1) / 2
    return float(np.degrees(np.arccos(cosines.clip(-1, 1))).mean())


@pytest.mark.slow
def test_tracks_follow_points_of_the_scene():
    images, extrinsics, depth = clip()
    tracks = track_points(images)
    assert len(tracks) > 100
    assert (tracks.lengths() >= 3).all()
    _, first = np.unique(tracks.track, return_index=True)  # observations come in the order of frames
    frame, (x, y) = tracks.frame[first], tracks.xy[first].T
    z = depth[frame, y.astype(int), x.astype(int)]
    seen = np.stack(((x - SIZE[1] / 2) / FOCAL * z, (y - SIZE[0] / 2) / FOCAL * z, z), axis=1)
    points = np.einsum("tji,tj->ti", extrinsics[frame, :, :3], seen - extrinsics[frame, :, 3])
    errors = np.linalg.norm(FOCAL * projections(tracks, extrinsics, points) + CENTER - tracks.xy, axis=1)
    assert np.median(errors) < 0.5  # pixels, things that move and edges included


@pytest.mark.slow
@pytest.mark.parametrize("scene", ["rigid", "deforming"])
def test_cameras_come_near_the_truth_although_things_move(scene):
    images, truth, depth = clip(scene)
    start = disturbed(truth)
    refined = refine(list(images), start, FOCAL, list(depth))
    assert refined.report["outcome"] == "refined"
    assert path_error(refined.extrinsics, truth) < min(0.05, 0.3 * path_error(start, truth))
    assert rotation_error(refined.extrinsics, truth) < 0.15  # degrees: 0.3 pixels
    assert refined.report["inlier_share_after"] > refined.report["inlier_share_before"]


@pytest.mark.slow
@pytest.mark.parametrize(("degrees", "share"), [(60, 10), (170, 40)])  # one camera is lost; all are
@pytest.mark.filterwarnings("error::RuntimeWarning")  # of tracks that get no point
def test_cameras_too_far_off_to_start_from_are_found_from_the_tracks_alone(degrees, share):
    images, truth, depth = clip()
    start = disturbed(truth, degrees=degrees, share=share)
    refined = refine(list(images), start, FOCAL, [np.full_like(depth[0], 3.0)] * FRAMES)
    assert path_error(start, truth) > 0.9
    assert path_error(refined.extrinsics, truth) < 0.03
    np.testing.assert_allclose(refined.extrinsics[0], start[0], atol=1e-6)  # the world stays that of the first camera


@pytest.mark.slow
def test_a_focal_length_that_is_far_off_is_found_out():
    images, truth, depth = clip()
    refined = refine(list(images), disturbed(truth, share=0.1), 1.4 * FOCAL, list(depth))
    assert refined.focal == pytest.approx(FOCAL, rel=0.08)


@pytest.mark.slow
def test_depth_of_another_scale_in_each_frame_is_brought_to_the_cameras():
    images, truth, depth = clip()
    scales = np.linspace(0.85, 1.15, FRAMES)[:, None, None]
    refined = refine(list(images), truth, FOCAL, list((scales * depth).astype(np.float32)))
    ratios = np.array([np.median(after / before) for after, before in zip(refined.depth, depth, strict=True)])
    assert np.ptp(ratios / ratios.mean()) < 0.1


def relative_error(depth, truth) -> float:
    """Mean |depth / truth - 1| after one scale for all frames."""
    ratios = np.stack(depth) / truth
    return float(np.abs(ratios / np.median(ratios) - 1).mean())


@pytest.mark.slow
def test_depth_that_is_wrong_smoothly_is_mended_by_a_field():
    images, truth, depth = clip()
    bent = (depth * np.linspace(0.7, 1.3, SIZE[1])).astype(np.float32)  # from left to right
    refined = refine(list(images), truth, FOCAL, list(bent))
    assert refined.report["depth_correction"] == "field"
    assert relative_error(refined.depth, depth) < 0.6 * relative_error(bent, depth)


@pytest.mark.slow
def test_depth_that_is_wrong_everywhere_gets_no_worse_and_a_sentence_says_so():
    images, truth, depth = clip()
    blobs = cv2.GaussianBlur(np.random.default_rng(0).normal(size=SIZE), (0, 0), 2)
    wrong = (depth * np.exp(0.6 * blobs / blobs.std())).astype(np.float32)
    refined = refine(list(images), truth, FOCAL, list(wrong))
    assert refined.report["depth_correction"] == "scale"
    assert "The network's depth is off by" in refined.report["note"]
    assert relative_error(refined.depth, depth) == pytest.approx(relative_error(wrong, depth))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("made", "outcome", "told"),
    [
        ({"camera_stands": True, "scene": "deforming"}, "held still", "The camera does not move"),
        ({"camera_turns": True}, "rotations refined", "the clip does not show how far the camera moves"),
    ],
)
def test_what_a_clip_does_not_show_is_said(made, outcome, told):
    images, truth, depth = clip(**made)
    start = disturbed(truth, degrees=0.5, share=0.0)
    refined = refine(list(images), start, FOCAL, list(depth))
    assert refined.report["outcome"] == outcome
    assert told in refined.report["note"]
    assert rotation_error(refined.extrinsics, truth) <= rotation_error(start, truth)
    assert np.isnan(refined.point_tracks.points).all()  # how far away they are is not known


def flash(images: np.ndarray) -> None:
    images[6] = 255


def two_black_frames(images: np.ndarray) -> None:
    images[5:7] = 0


def blur(images: np.ndarray) -> None:
    images[6] = cv2.blur(images[6], (25, 5))


def another_exposure(images: np.ndarray) -> None:
    images[6:] = images[6:] // 2 + 120


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (flash, "1 of 12 frames, the first of them 6 counted from 0"),
        (two_black_frames, "2 of 12 frames, the first of them 5"),
        (blur, ""),
        (another_exposure, ""),
    ],
)
def test_a_frame_that_shows_nothing_does_not_tear_the_path(damage, told):
    images, truth, depth = clip()
    images = images.copy()
    damage(images)
    refined = refine(images, disturbed(truth), FOCAL, list(depth))
    assert told in refined.report["note"]
    assert "may not fit" not in refined.report["note"]
    assert path_error(refined.extrinsics, truth) < 0.03


@pytest.mark.slow
def test_parts_that_no_track_joins_are_told():
    """Images show nothing here, so that no point is found again behind the gap."""
    truth, points, rng = clip()[1], np.zeros((300, 3)), np.random.default_rng(0)
    points[:] = rng.uniform((-1, -1, 2), (1, 1, 4), points.shape) @ truth[0, :, :3] + camera_centers(truth[0])
    seen = []
    for frame, pose in enumerate(truth):
        there = points @ pose[:, :3].T + pose[:, 3]
        xy = FOCAL * there[:, :2] / there[:, 2:] + CENTER
        names = np.flatnonzero(((xy > 0) & (xy < SIZE[::-1])).all(axis=1))
        seen.append((names + len(points) * (frame > 5), xy[names]))
    blank, depth = np.zeros((len(truth), *SIZE, 3), np.uint8), [np.full(SIZE, 3.0, np.float32)] * len(truth)
    refined = refine(blank, disturbed(truth), FOCAL, depth, followed=joined_tracks(seen))
    assert "both up to frame 5 and behind it: the two parts may not fit" in refined.report["note"]


@pytest.mark.slow
def test_a_camera_that_moves_straight_ahead_is_refined():
    images, truth, depth = clip(camera_advances=True)
    start = disturbed(truth)
    refined = refine(list(images), start, FOCAL, list(depth))
    assert refined.report["outcome"] == "refined"
    assert path_error(refined.extrinsics, truth) < 0.5 * path_error(start, truth)


@pytest.mark.parametrize(
    ("count", "change", "told"),
    [
        (FRAMES, lambda images: np.full_like(images, 128), "only 0 points could be followed"),
        (FRAMES, lambda images: np.random.default_rng(0).integers(0, 256, images.shape, np.uint8), "points could be"),
        (2, lambda images: images, "tracks take 3 frames, got 2"),
    ],
    ids=["no texture", "noise", "two frames"],
)
def test_cameras_that_nothing_can_refine_are_kept_with_a_word(count, change, told):
    images, truth, depth = clip()
    refined = refine(list(change(images[:count])), truth[:count], FOCAL, list(depth[:count]))
    assert refined.report["outcome"] == "kept"
    assert not refined.changed
    assert told in refined.report["note"]
    np.testing.assert_array_equal(refined.extrinsics, truth[:count])


def test_of_one_frame_again_and_again_all_cameras_are_the_first():
    images, truth, depth = clip()
    refined = refine([images[0]] * FRAMES, disturbed(truth), FOCAL, [depth[0]] * FRAMES)
    assert refined.report["outcome"] == "held still"
    assert refined.report["inlier_share_after"] > 0.99
    np.testing.assert_array_equal(refined.extrinsics, truth[:1].repeat(FRAMES, axis=0))


@pytest.mark.slow
def test_where_two_motions_fill_the_image_the_result_is_no_worse_than_the_start():
    images, truth, depth = clip()
    both = np.concatenate((images[:, :, :64], images[::-1, :, 64:]), axis=2)  # half of it runs backwards
    start = disturbed(truth, share=0.1)
    refined = refine(list(both), start, FOCAL, list(depth))
    assert refined.report["inlier_share_after"] >= refined.report["inlier_share_before"]
    assert np.isfinite(refined.extrinsics).all()
    assert all(np.isfinite(each).all() for each in refined.depth)


# ---------------------------------------------------------------------------------------------------------------
# Tracks as files


@functools.cache
def kept_tracks() -> PointTracks:
    """The clip's own tracks in the form of a file, without points."""
    tracks = track_points(clip()[0])
    return as_point_tracks(tracks, np.full((len(tracks), 3), np.nan), FRAMES)


def test_of_a_long_clip_s_tracks_the_longest_of_each_start_are_kept(monkeypatch):
    tracks = track_points(clip()[0])
    monkeypatch.setattr("page4d_hf.reconstruction.tracks.MOST_CELLS", 50 * FRAMES)
    kept = as_point_tracks(tracks, np.zeros((len(tracks), 3)), FRAMES)
    assert len(kept) == 50
    starts = kept.visible.argmax(axis=1)
    assert len(set(starts)) > 3
    assert kept.visible[starts == 0].all()  # some go through the whole clip


@pytest.mark.slow
def test_a_user_s_tracks_are_refined_by():
    images, truth, depth = clip()
    start = disturbed(truth)
    refined = refine(list(images), start, FOCAL, list(depth), given=kept_tracks())
    assert refined.report["tracks"] == len(kept_tracks())
    assert path_error(refined.extrinsics, truth) < 0.3 * path_error(start, truth)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda t: t.of_frames(np.arange(FRAMES - 1)), "Expected tracks through the clip's 12 frames, got 11"),
        (lambda t: PointTracks(t.xy + 60, t.visible, t.points), "outside of the images, which are 128x96"),
        (lambda t: PointTracks(t.xy, t.visible & (np.arange(FRAMES) < 2), t.points), "No track is visible in 3 frames"),
        (lambda t: PointTracks(np.abs(t.xy - (SIZE[1], 0)), t.visible, t.points), "of another clip"),
    ],
)
def test_tracks_that_do_not_fit_the_clip_are_refused(change, told):
    with pytest.raises(Page4DError, match=told):
        checked_tracks(change(kept_tracks()), list(clip()[0]))


def test_maps_are_read_at_the_tracks_of_a_dense_grid():
    count = 40_000  # more than cv2.remap takes in a row
    xy = np.random.default_rng(0).uniform(1, 9, (count, 2)).astype(np.float32)
    tracks = Tracks(np.arange(count), np.zeros(count, np.int64), xy, count)
    columns = np.tile(np.arange(0.5, 10, dtype=np.float32), (10, 1))
    np.testing.assert_allclose(sample_maps([columns], tracks, (10, 10)), xy[:, 0], atol=1 / 32)
