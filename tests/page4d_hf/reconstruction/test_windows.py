"""Long clips in windows: which frames they have, how they are aligned, what they hold in memory."""

import weakref
from itertools import pairwise

import numpy as np
import pytest
import torch
from plane_model import PLANE, PlaneModel, make_frames

from page4d_hf.errors import Page4DError
from page4d_hf.geometry import align_sim3, camera_centers
from page4d_hf.reconstruction import windows
from page4d_hf.reconstruction.reconstruct import reconstruct
from page4d_hf.reconstruction.windows import resolve_overlap, window_spans

COUNT, WINDOW, OVERLAP = 11, 6, 3
SPANS = window_spans(COUNT, WINDOW, OVERLAP)


def run(change=None, **options):
    model = PlaneModel(COUNT, SPANS)
    model.change = change or model.change
    options = {"resolution": 56, "confidence_percentile": 0, "refine": "off", **options}
    frames = make_frames(((30, 50),) * COUNT)
    return model, reconstruct(frames, model, window=WINDOW, overlap=OVERLAP, **options)


def in_the_world_of_the_first(extrinsics):
    """World-to-camera `(S, 3, 4)` of the same cameras."""
    first = extrinsics[0]
    rotation = extrinsics[:, :, :3] @ first[:, :3].T
    return np.concatenate((rotation, extrinsics[:, :, 3:] - (rotation @ first[:, 3])[..., None]), axis=2)


def test_windows_are_of_one_length_and_overlap_enough_and_cover_all_frames():
    rng = np.random.default_rng(0)
    for _ in range(200):
        window = int(rng.integers(4, 40))
        overlap, count = int(rng.integers(2, window // 2 + 1)), int(rng.integers(1, 300))
        spans = window_spans(count, window, overlap)
        assert spans[0].start == 0
        assert spans[-1].stop == count
        assert {len(span) for span in spans} == {min(window, count)}
        assert all(one.stop - other.start >= overlap for one, other in pairwise(spans))
        assert len(spans) <= 1 + max(0, np.ceil((count - window) / (window - overlap)))


def test_an_overlap_is_a_quarter_of_a_window_unless_it_is_given():
    assert resolve_overlap(100, None) == 25
    assert resolve_overlap(4, None) == 2
    assert resolve_overlap(100, 50) == 50


def test_windows_come_together_in_the_world_of_the_first():
    model, result = run()
    assert model.calls == len(SPANS) == 3
    np.testing.assert_allclose(result.extrinsics, in_the_world_of_the_first(model.extrinsics.numpy()), atol=1e-6)
    # The plane in the world of the first camera: where a true camera sees a point, the point lies on it.
    first = model.extrinsics[0].numpy()
    normal = first[:, :3] @ PLANE[:3].numpy()
    np.testing.assert_allclose(result.points @ normal, normal @ first[:, 3] - PLANE[3].item(), atol=1e-4)
    assert len(np.unique(result.point_times)) == COUNT


@pytest.mark.slow
def test_points_of_the_point_head_are_carried_along():
    _, result = run(points="world")
    _, maps = run(points="world", keep_point_maps=True)
    assert len(maps.point_maps) == COUNT
    assert np.isfinite(result.points).all()


def test_what_moves_or_is_wrong_in_a_part_of_the_image_does_not_tilt_the_alignment():
    calls = 0

    def change(output):
        nonlocal calls
        calls += 1
        if calls > 1:
            output.depth[:, :, :, :20] *= 1.3  # a third of the width

    model, result = run(change)
    expected = in_the_world_of_the_first(model.extrinsics.numpy())
    np.testing.assert_allclose(result.extrinsics, expected, atol=1e-3)


def test_a_mask_of_motion_leaves_out_what_it_covers():
    def change(output):
        output.dynamics_mask[:] = 0
        output.dynamics_mask[:, :, :, :40] = 1
        output.depth[:, :, :, :40] *= torch.linspace(1, 2, output.depth.shape[1])[None, :, None, None, None]

    model, result = run(change)
    expected = in_the_world_of_the_first(model.extrinsics.numpy())
    np.testing.assert_allclose(result.extrinsics, expected, atol=1e-5)


def test_windows_without_anything_in_common_are_an_error_that_names_the_frames():
    with pytest.raises(Page4DError, match="Frames 2 to 5 show nothing that aligns the windows"):
        run(lambda output: output.depth.fill_(np.nan))


def test_inputs_of_one_window_are_in_memory_at_a_time(monkeypatch):
    alive, most = weakref.WeakSet(), 0
    original = windows.prepare

    def watched(*arguments):
        nonlocal most
        made = original(*arguments)
        alive.add(made.pixel_values)
        most = max(most, len(alive))
        return made

    monkeypatch.setattr(windows, "prepare", watched)
    _, result = run()
    assert len(result) == COUNT
    assert most <= WINDOW


def test_a_clip_of_one_window_is_as_without_windows():
    sizes = ((30, 50),) * 4
    options = {"resolution": 56, "refine": "off"}
    once = reconstruct(make_frames(sizes), PlaneModel(4), window=None, **options)
    windowed = reconstruct(make_frames(sizes), PlaneModel(4), window=4, **options)
    np.testing.assert_array_equal(windowed.extrinsics, once.extrinsics)
    np.testing.assert_array_equal(windowed.points, once.points)


@pytest.mark.slow
def test_noise_of_cameras_and_depth_leaves_windows_within_its_size():
    rng = np.random.default_rng(0)

    def change(output):
        output.depth *= torch.from_numpy(rng.normal(1, 0.02, output.depth.shape)).float()
        output.pose_enc[..., :3] += torch.from_numpy(rng.normal(0, 0.005, output.pose_enc[..., :3].shape)).float()

    model, result = run(change)
    found, expected = (camera_centers(e) for e in (result.extrinsics, model.extrinsics.numpy()))
    error = align_sim3(found, expected).apply_to_points(found) - expected
    assert np.sqrt((error**2).sum(axis=1).mean()) < 0.03
