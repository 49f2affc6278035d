"""PAGE-4D's own cameras beside those of a capture, reconstructions that lie ready, and the network without its mask."""

import json

import numpy as np
import pytest
import torch
from perfect_page4d import PerfectPage4D, frames_of, outputs_of, project
from scipy.spatial.transform import Rotation
from small_captures import write_capture

from page4d_hf.captures import read_capture
from page4d_hf.errors import CaptureError, Page4DError, SceneError
from page4d_hf.reconstruction.reconstruct import reconstruct
from page4d_nerfstudio.data.ready_reconstruction import ready_reconstruction


def reconstruction_of(capture, page4d, **options):
    """The scene folder that reading the capture leaves in the cache."""
    cache = capture.parent / "ready"
    frames_of(capture, cameras="page4d", model=page4d.model, cache_dir=cache, **options)
    (entry,) = (cache / "reconstructions").iterdir()
    return entry


def as_of_a_video(folder):
    """The scene as `page4d reconstruct clip.mp4` would have recorded it: its frames have numbers, and no names."""
    path = folder / "page4d" / "info.json"
    info = json.loads(path.read_text())
    info["source"] = "clip.mp4"
    for number, frame in enumerate(info["frames"]):
        frame["source"] = f"frame_{number:05d}"
    path.write_text(json.dumps(info))
    return folder


def carried(capture, page4d):
    """The capture's frames in PAGE-4D's world, to which its own held-out cameras are carried."""
    return frames_of(capture, cameras="page4d", model=page4d.model, held_out_cameras="capture")


def test_held_out_cameras_of_the_capture_are_carried_and_their_frames_not_seen(capture, page4d):
    frames = carried(capture, page4d)
    assert "000003" not in page4d.seen[0]
    expected = page4d.world.apply_to_extrinsics(read_capture(capture).extrinsics)
    np.testing.assert_allclose(frames.extrinsics, expected, atol=1e-6)
    own = read_capture(capture).intrinsics
    np.testing.assert_allclose(frames.intrinsics[frames.evaluation], own[frames.evaluation])


def taken_at(capture, instants, devices):
    """The capture with its frames at these instants, by these cameras of a rig."""
    metadata = {
        f"{number:06d}": {"warp_id": instant, "appearance_id": instant, "camera_id": device}
        for number, (instant, device) in enumerate(zip(instants, devices, strict=True))
    }
    (capture / "metadata.json").write_text(json.dumps(metadata))


@pytest.mark.parametrize(
    ("instants", "devices", "seen"),
    [
        ([5, 2, 7, 3, 0, 1, 6, 4], [0] * 8, [4, 5, 1, 3, 7, 0, 6, 2]),
        # A rig of two: what is trained on first, and each camera a video.
        ([0, 0, 1, 1, 2, 2, 3, 3], [0, 1] * 4, [0, 2, 4, 6, 1, 5, 7, 3]),
        # A video that takes its frames from three cameras in turn, of whose other frames one is held out.
        ([0, 1, 2, 2, 3, 4, 5, 6], [0, 1, 2, 1, 0, 1, 2, 0], [0, 1, 2, 4, 5, 6, 7, 3]),
    ],
)
def test_page4d_sees_frames_in_the_order_of_time_and_not_of_the_file(capture, page4d, instants, devices, seen):
    taken_at(capture, instants, devices)
    frames = frames_of(capture, cameras="page4d", model=page4d.model)
    assert page4d.seen == [[f"{number:06d}" for number in seen]]
    expected = page4d.world.apply_to_extrinsics(read_capture(capture).extrinsics)
    np.testing.assert_allclose(frames.extrinsics, expected, atol=1e-6)


def test_held_out_views_see_the_capture_s_points_where_they_see_them_in_the_capture(capture, page4d):
    carried = {"cameras": "page4d", "model": page4d.model, "held_out_cameras": "capture", "points": "capture"}
    pixels = [
        project(outputs.cameras, outputs.metadata["points3D_xyz"])
        for outputs in (outputs_of(capture, "val"), outputs_of(capture, "val", **carried))
    ]
    torch.testing.assert_close(pixels[0], pixels[1], atol=5e-3, rtol=0)


def test_held_out_cameras_get_the_lens_that_page4d_sees(capture, page4d):
    page4d.focal *= 1.1
    frames = carried(capture, page4d)
    own = read_capture(capture).intrinsics
    own[:, :2, :2] *= 1.1
    np.testing.assert_allclose(frames.intrinsics[frames.evaluation], own[frames.evaluation], rtol=1e-6)


def jittered(capture, size):
    """The capture's cameras, each off by a little."""
    extrinsics = read_capture(capture).extrinsics.copy()
    extrinsics[:, :, 3] += np.random.default_rng(0).normal(scale=size, size=(len(extrinsics), 3))
    return extrinsics


def near_a_line(tmp_path):
    """A capture on a line that is narrower than the errors which the tests add to its cameras."""
    wobble = np.random.default_rng(1).normal(scale=1e-3, size=(8, 3))
    return write_capture(tmp_path / "capture", centres=np.linspace([0, 0, -3], [0.5, 0, -3], 8) + wobble)


@pytest.mark.parametrize("needs_rotation", [{"held_out_cameras": "capture"}, {"points": "capture"}])
def test_of_a_path_that_is_nearly_a_line_the_directions_of_the_cameras_tell_the_rotation(
    tmp_path, monkeypatch, needs_rotation
):
    capture = near_a_line(tmp_path)
    page4d = PerfectPage4D(monkeypatch, tmp_path, capture, jittered(capture, 5e-3))
    frames = frames_of(capture, cameras="page4d", model=page4d.model, **needs_rotation)
    read = read_capture(capture)
    expected = page4d.world.apply_to_extrinsics(read.extrinsics)
    held_out = frames.evaluation
    np.testing.assert_allclose(frames.extrinsics[held_out, :, :3], expected[held_out, :, :3], atol=1e-6)
    if "points" in needs_rotation:
        moved = page4d.world.apply_to_points(read.points.astype(np.float64))
        np.testing.assert_allclose(frames.points.positions, moved, atol=0.05 * page4d.world.scale)


def test_directions_tell_the_rotation_where_they_are_better_than_the_path(tmp_path, monkeypatch, capture):
    page4d = PerfectPage4D(monkeypatch, tmp_path, capture, jittered(capture, 0.02))
    frames = carried(capture, page4d)
    expected = page4d.world.apply_to_extrinsics(read_capture(capture).extrinsics)
    held_out = frames.evaluation
    np.testing.assert_allclose(frames.extrinsics[held_out, :, :3], expected[held_out, :, :3], atol=1e-6)


def test_the_path_tells_the_rotation_where_it_is_better_than_directions(tmp_path, monkeypatch, capture):
    read = read_capture(capture)
    turns = Rotation.from_rotvec(np.random.default_rng(3).normal(scale=0.05, size=(len(read), 3)))
    cameras = turns.as_matrix() @ read.extrinsics  # about their own centres
    page4d = PerfectPage4D(monkeypatch, tmp_path, capture, cameras)
    frames = carried(capture, page4d)
    expected = page4d.world.apply_to_extrinsics(read.extrinsics)
    np.testing.assert_allclose(frames.extrinsics[frames.evaluation], expected[frames.evaluation], atol=1e-6)


@pytest.mark.parametrize("needs_rotation", [{"held_out_cameras": "capture"}, {"points": "capture"}])
def test_a_path_that_is_nearly_a_line_and_directions_that_differ_leave_no_cameras_or_points_to_carry(
    tmp_path, monkeypatch, needs_rotation
):
    capture = near_a_line(tmp_path)
    turns = Rotation.from_rotvec(np.random.default_rng(3).normal(scale=0.2, size=(8, 3)))
    cameras = turns.as_matrix() @ jittered(capture, 5e-3)  # about their own centres
    page4d = PerfectPage4D(monkeypatch, tmp_path, capture, cameras)
    with pytest.raises(CaptureError, match=r"too near to a line.*directions .* differ by .*What needs no alignment"):
        frames_of(capture, cameras="page4d", model=page4d.model, **needs_rotation)


def test_a_path_that_is_nearly_a_line_still_gives_depth_its_scale(tmp_path, monkeypatch):
    capture = near_a_line(tmp_path)
    page4d = PerfectPage4D(monkeypatch, tmp_path, capture, jittered(capture, 5e-3))
    assert len(frames_of(capture, points="page4d", model=page4d.model).points)


def test_a_camera_that_stands_still_but_for_errors_gives_depth_no_scale(tmp_path, monkeypatch):
    errors = np.random.default_rng(1).normal(scale=1e-3, size=(40, 3))
    capture = write_capture(tmp_path / "capture", frames=40, size=(8, 6), centres=np.array([0, 0, -3]) + errors)
    extrinsics = read_capture(capture).extrinsics
    extrinsics[:, :, 3] = extrinsics[:1, :, 3] + np.random.default_rng(2).normal(scale=1e-3, size=(40, 3))
    page4d = PerfectPage4D(monkeypatch, tmp_path, capture, extrinsics)
    with pytest.raises(CaptureError, match=r"determines no scale. The camera hardly moves.*What needs no alignment"):
        frames_of(capture, points="page4d", model=page4d.model)


def test_a_ready_reconstruction_gives_what_the_model_gave(capture, page4d):
    ready = reconstruction_of(capture, page4d)
    options = {"data": capture, "points": "page4d", "held_out_cameras": "capture"}
    for cameras in ("capture", "page4d"):
        by_model = frames_of(**options, cameras=cameras, model=page4d.model)
        by_folder = frames_of(**options, cameras=cameras, reconstruction=ready)
        np.testing.assert_allclose(by_folder.extrinsics, by_model.extrinsics, atol=1e-5)
        np.testing.assert_allclose(by_folder.intrinsics, by_model.intrinsics)
        np.testing.assert_allclose(by_folder.points.positions, by_model.points.positions, atol=1e-4)


def test_a_ready_reconstruction_s_intrinsics_follow_the_size_of_the_images(capture, page4d):
    ready = reconstruction_of(capture, page4d)
    full, half = (frames_of(capture, cameras="page4d", reconstruction=ready, downscale_factor=n) for n in (1, 2))
    np.testing.assert_allclose(2 * half.intrinsics[:, :2], full.intrinsics[:, :2])


def test_a_reconstruction_of_other_frames_is_refused_with_the_name_of_one(tmp_path, capture, page4d):
    ready = reconstruction_of(capture, page4d)
    longer = write_capture(tmp_path / "longer", frames=9)
    with pytest.raises(SceneError, match=r"lacks 1 of the 8 frames that are asked of it, such as 000008"):
        frames_of(longer, points="page4d", reconstruction=ready)


@pytest.mark.parametrize("whose", ["the reconstruction", "the capture"])
def test_frames_that_have_their_name_in_common_are_refused_rather_than_mixed_up(capture, page4d, whose):
    ready = reconstruction_of(capture, page4d)
    read = read_capture(capture)
    ids = [f"train/{name}" for name in read.frame_ids]
    if whose == "the capture":
        ids[1] = f"test/{read.frame_ids[0]}"
    else:
        path = ready / "page4d" / "info.json"
        info = json.loads(path.read_text())
        info["frames"][1]["source"] = info["frames"][0]["source"]
        path.write_text(json.dumps(info))
        del ids[1]
    times, sizes = read.times[: len(ids)], read.image_sizes[: len(ids)]
    with pytest.raises(SceneError, match=f"2 frames of {whose}.* are called 000000, .*give --model"):
        ready_reconstruction(ready, ids, times, sizes)


def test_a_reconstruction_of_a_video_of_the_training_frames_is_one_of_them(capture, page4d):
    options = {"data": capture, "cameras": "page4d", "points": "page4d", "held_out_cameras": "capture"}
    ready = reconstruction_of(capture, page4d, held_out_cameras="capture")
    by_name = frames_of(**options, reconstruction=ready)
    by_time = frames_of(**options, reconstruction=as_of_a_video(ready))
    np.testing.assert_array_equal(by_time.extrinsics, by_name.extrinsics)
    np.testing.assert_array_equal(by_time.points.positions, by_name.points.positions)


def test_a_reconstruction_of_a_video_of_other_frames_is_refused(capture, page4d):
    ready = as_of_a_video(reconstruction_of(capture, page4d))  # of all frames, and only those of training are asked for
    with pytest.raises(SceneError, match=r"lacks 7 of the 7 frames.*or of a video of just these frames"):
        frames_of(capture, cameras="page4d", held_out_cameras="capture", points="page4d", reconstruction=ready)


def test_a_ready_reconstruction_cannot_be_asked_to_leave_the_mask_out(capture, page4d):
    ready = reconstruction_of(capture, page4d)
    with pytest.raises(Page4DError, match="has been made"):
        frames_of(capture, points="page4d", reconstruction=ready, use_mask=False)


@pytest.mark.slow
def test_without_the_mask_nothing_is_known_to_move_and_the_geometry_is_the_unmasked_network_s(
    capture, tiny_model, tmp_path, monkeypatch
):
    options = {"data": capture, "points": "page4d", "model": str(tiny_model), "resolution": 70}
    options["cache_dir"] = tmp_path / "cache"
    strengths = []

    def watched(*args, mask_strength, **kwargs):
        strengths.append(mask_strength)
        return reconstruct(*args, mask_strength=mask_strength, **kwargs)

    monkeypatch.setattr("page4d_hf.reconstruction.reconstruct.reconstruct", watched)
    masked = frames_of(**options)
    unmasked = frames_of(**options, use_mask=False)
    again = frames_of(**options, use_mask=False)
    assert strengths == [None, 0.0]
    assert masked.points.motion is not None
    assert unmasked.points.motion is None
    np.testing.assert_array_equal(again.points.positions, unmasked.points.positions)


def test_points_of_the_capture_s_depth_are_refused_where_it_has_none(capture):
    with pytest.raises(CaptureError, match="has no depth"):
        frames_of(capture, points="depth")
