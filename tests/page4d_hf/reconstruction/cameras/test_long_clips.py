"""Bundle adjustment of long clips: keyframes, parts, and the frames between."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from page4d_hf.geometry import align_sim3, camera_centers, extrinsics_at
from page4d_hf.reconstruction.cameras import long_clips
from page4d_hf.reconstruction.cameras.bundle_adjustment import Adjusted
from page4d_hf.reconstruction.cameras.long_clips import adjust_clip, keyframes
from page4d_hf.reconstruction.tracks import FEWEST_FRAMES, Tracks, joined_tracks

SIZE, FOCAL = (240, 320), 280.0


def _cameras(centers: np.ndarray, turns: np.ndarray) -> np.ndarray:
    return extrinsics_at(Rotation.from_rotvec(turns).as_matrix(), centers)


def _walk(steps: np.ndarray, seed: int = 0) -> tuple[Tracks, np.ndarray, np.ndarray]:
    """Tracks along a wall that a camera walks past by some steps, its cameras, and the points."""
    rng = np.random.default_rng(seed)
    way = np.cumsum(steps)
    centers = np.stack((way, 0.3 * np.sin(way), 0.2 * np.cos(0.7 * way)), axis=1)
    extrinsics = _cameras(centers, np.stack((0.05 * np.cos(way), 0.1 * np.sin(way), 0 * way), axis=1))
    points = rng.uniform((way[0] - 2, -1.5, 2.5), (way[-1] + 2, 1.5, 5), size=(int(60 * (way[-1] - way[0] + 4)), 3))
    observed = []
    for pose in extrinsics:
        seen = points @ pose[:, :3].T + pose[:, 3]
        at = FOCAL * seen[:, :2] / seen[:, 2:] + (SIZE[1] / 2, SIZE[0] / 2) + rng.normal(0, 0.1, (len(points), 2))
        inside = np.flatnonzero(((at > 0) & (at < (SIZE[1], SIZE[0]))).all(axis=1))
        observed.append((inside, at[inside]))
    kept = np.bincount(np.concatenate([inside for inside, _ in observed]), minlength=len(points)) >= FEWEST_FRAMES
    return joined_tracks(observed), extrinsics, points[kept]


def _started(tracks: Tracks, truth: np.ndarray, start: np.ndarray, points: np.ndarray) -> Adjusted:
    """Cameras to start from, with points where the first that sees each has it."""
    first = np.full(len(tracks), len(truth))
    np.minimum.at(first, tracks.track, tracks.frame)
    seen = np.einsum("tij,tj->ti", truth[first, :, :3], points) + truth[first, :, 3]
    moved = np.einsum("tji,tj->ti", start[first, :, :3], seen - start[first, :, 3])
    return Adjusted(start, FOCAL, moved, np.ones(len(tracks), bool))


def _error(found: np.ndarray, truth: np.ndarray) -> float:
    """Root mean square error of the path after a Sim(3), over the path's extent."""
    source, target = camera_centers(found), camera_centers(truth)
    off = align_sim3(source, target).apply_to_points(source) - target
    return float(np.sqrt((off**2).sum(axis=1).mean() / target.var(axis=0).sum()))


def test_keyframes_are_dense_where_the_image_moves_fast_and_rare_where_it_stands() -> None:
    tracks, extrinsics, _ = _walk(np.repeat((0.01, 0.12), 40))

    chosen = keyframes(tracks, len(extrinsics), SIZE)

    assert chosen[0] == 0
    assert chosen[-1] == 79
    assert (chosen < 40).sum() <= 6
    assert (chosen >= 40).sum() >= 30


@pytest.mark.slow
def test_a_start_that_drifts_over_a_long_clip_is_mended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_clips, "MOST_AT_ONCE", 40)
    monkeypatch.setattr(long_clips, "PART", 16)
    tracks, truth, points = _walk(np.full(60, 0.08))
    drift = np.linspace(0, 1, len(truth))[:, None]
    bent = Rotation.from_rotvec(drift * (0, 0.8, 0.2)).as_matrix()
    start = np.concatenate((truth[:, :, :3] @ bent, truth[:, :, 3:] * (1 + 0.3 * drift[..., None])), axis=2)
    begun = _started(tracks, truth, start, points)

    found = adjust_clip(tracks, begun, SIZE)

    assert _error(start, truth) > 0.15
    assert _error(found.extrinsics, truth) < 0.01
    assert found.used.mean() > 0.95


def test_a_frame_that_sees_nothing_is_no_keyframe_and_others_follow_it() -> None:
    tracks, truth, _ = _walk(np.full(60, 0.1))
    seen = tracks.frame != 30
    blank = Tracks(tracks.track[seen], tracks.frame[seen], tracks.xy[seen], len(tracks))

    chosen = keyframes(blank, len(truth), SIZE)

    assert 30 not in chosen
    assert (chosen > 30).sum() >= (keyframes(tracks, len(truth), SIZE) > 30).sum() - 1


@pytest.mark.slow
def test_frames_between_keyframes_are_located_by_the_points_of_these(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_clips, "MOST_AT_ONCE", 40)
    tracks, truth, points = _walk(np.where(np.arange(60) % 6 == 0, 0.06, 0.015))  # a gait that keyframes do not show

    found = adjust_clip(tracks, _started(tracks, truth, truth, points), SIZE)

    chosen = keyframes(tracks, len(truth), SIZE)
    assert len(chosen) < 30
    evenly = long_clips.poses_between(chosen, truth[chosen], len(truth))
    assert _error(found.extrinsics, truth) < 0.3 * _error(evenly, truth)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 4])  # the adjustment finds all but one camera; it fails, and the part is mapped
def test_a_part_whose_start_is_far_off_is_found(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setattr(long_clips, "MOST_AT_ONCE", 40)
    monkeypatch.setattr(long_clips, "PART", 20)
    tracks, truth, points = _walk(np.full(44, 0.1))
    rng = np.random.default_rng(seed)
    start = truth.copy()
    start[24:] = _cameras(camera_centers(truth)[24:] + rng.normal(0, 1, (20, 3)), rng.normal(0, 0.6, (20, 3)))

    found = adjust_clip(tracks, _started(tracks, truth, start, points), SIZE, hold_focal=True)

    assert _error(found.extrinsics, truth) < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 27])
def test_a_keyframe_that_starts_behind_what_it_sees_is_located_by_the_points(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(long_clips, "MOST_AT_ONCE", 40)
    tracks, truth, points = _walk(np.full(44, 0.1))
    start = truth.copy()
    start[[number]] = _cameras(camera_centers(truth)[[number]] + np.array((0, 0, 8)), np.array([[0, 0.1, 0]]))

    found = adjust_clip(tracks, _started(tracks, truth, start, points), SIZE, hold_focal=True, in_parts=False)

    assert _error(found.extrinsics, truth) < 0.02
    np.testing.assert_allclose(found.extrinsics[0], start[0], atol=1e-6)


@pytest.mark.slow
def test_a_lens_s_distortion_is_found_in_a_long_clip_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_clips, "MOST_AT_ONCE", 40)
    tracks, truth, points = _walk(np.full(44, 0.08))
    middle = np.array((SIZE[1] / 2, SIZE[0] / 2))
    plane = (tracks.xy - middle) / FOCAL
    bent = middle + FOCAL * plane * (1 - 0.2 * (plane**2).sum(axis=1, keepdims=True))
    begun = replace(_started(tracks, truth, truth, points), radial=0.0)

    found = adjust_clip(replace(tracks, xy=bent.astype(np.float32)), begun, SIZE, hold_focal=True)

    assert found.radial == pytest.approx(-0.2, abs=0.03)


def test_each_keyframe_has_a_bounded_number_of_tracks_all_over_its_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_clips, "TRACKS_PER_CELL", 2)
    tracks, extrinsics, _ = _walk(np.full(30, 0.1))

    kept = tracks.select(long_clips._thinned(tracks, np.ones(len(tracks), bool), SIZE))

    cells = long_clips.CELLS**2 * SIZE[0] / SIZE[1]
    for rows in kept.rows_of_frames(len(extrinsics)):
        assert 0.5 * cells < rows.stop - rows.start < 2 * 2 * cells
        assert (np.histogram(kept.xy[rows, 0], 4, (0, SIZE[1]))[0] > 0).all()


def test_the_median_over_a_track_is_numpys() -> None:
    rng = np.random.default_rng(0)
    track = rng.integers(0, 20, 90)
    track = track[track != 7]
    values = rng.normal(size=(len(track), 2))
    values[3, 1], values[5, 0] = np.nan, np.inf
    tracks = Tracks(track, np.arange(len(track)), np.zeros((len(track), 2), np.float32), 20)

    found = tracks.medians(values)

    for number in np.unique(track):
        np.testing.assert_allclose(found[number], np.median(values[track == number], axis=0))
    assert np.isnan(found[7]).all()
