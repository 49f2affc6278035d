"""Tracks of what moves: from a capture, a reconstruction or the user to the frames that are trained on."""

import json
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from ball_on_plane import BALL
from perfect_page4d import frames_of, outputs_of, project
from PIL import Image
from small_captures import CENTER, SIZE, write_capture
from small_layouts import write_dnerf
from small_scene import ball_folder, ball_scene, projected

from page4d_hf.captures import read_capture
from page4d_hf.errors import CaptureError, Page4DError
from page4d_hf.geometry import camera_centers
from page4d_hf.scene import PointTracks, read_scene
from page4d_hf.scene.tracks import tracks_bytes
from page4d_nerfstudio.data.motion_tracks import error_of_prediction, motion_paths, tracks_of_scene, tracks_of_user

FRAMES = 8


def going_sideways(count: int = 30, frames: int = FRAMES) -> np.ndarray:
    """Paths [K, S, 3] around the origin, all the same but for where they start."""
    start = np.random.default_rng(0).uniform(-0.2, 0.2, (count, 1, 3))
    return (start + np.linspace((-0.3, 0, 0), (0.3, 0.1, 0), frames)).astype(np.float32)


def tracks_of(paths: np.ndarray, capture: Path) -> PointTracks:
    """What a capture's cameras see of paths in its own world."""
    read = read_capture(capture)
    in_camera = np.einsum("sij,ksj->ksi", read.extrinsics[:, :, :3], paths) + read.extrinsics[:, :, 3]
    in_image = np.einsum("sij,ksj->ksi", read.intrinsics, in_camera)
    xy = (in_image[..., :2] / in_image[..., 2:]).astype(np.float32)
    visible = ((xy > 0) & (xy < SIZE)).all(axis=2)
    return PointTracks(xy, visible, np.full((len(paths), 3), np.nan))


@pytest.fixture
def capture(tmp_path):
    """A capture of 8 frames, the fourth of them held out, with tracks of what moves in the stored world."""
    folder = write_capture(tmp_path / "capture", frames=FRAMES)
    paths = going_sideways()
    tracks = PointTracks(np.zeros((30, FRAMES, 2)), np.ones((30, FRAMES), bool), np.full((30, 3), np.nan), paths)
    (folder / "tracks.npz").write_bytes(tracks_bytes(tracks, read_capture(folder).frame_ids))
    return folder


def test_a_capture_s_tracks_come_in_its_world_at_the_times_of_the_training_frames(capture):
    outputs = outputs_of(capture, "train")
    metadata = outputs.metadata
    assert (metadata["tracks_xyz"].dtype, metadata["tracks_xyz"].shape) == (torch.float32, (30, FRAMES - 1, 3))
    assert metadata["tracks_times"].tolist() == pytest.approx([i / 7 for i in range(8) if i != 3])
    assert "tracks_xyz" not in outputs_of(capture, "val").metadata
    # What is seen of them is what is seen of the stored ones.
    own = read_capture(capture)
    expected = (going_sideways() - CENTER) * 0.5
    in_camera = expected[:, 0] @ own.extrinsics[0, :, :3].T + own.extrinsics[0, :, 3]
    in_image = in_camera @ own.intrinsics[0].T
    pixels = project(outputs.cameras, metadata["tracks_xyz"][:, 0])[0]
    np.testing.assert_allclose(pixels, in_image[:, :2] / in_image[:, 2:], atol=0.2)


def test_held_out_frames_do_not_reach_the_paths(capture):
    tracks = read_capture(capture).tracks
    tracks.paths[:, 3] += 100.0
    frames = frames_of(capture)
    frames.tracks = tracks
    assert np.abs(motion_paths(frames).positions).max() < 10


def test_tracks_can_be_left_out(capture):
    metadata = outputs_of(capture, "train", tracks="off").metadata
    assert not {"tracks_xyz", "tracked"} & metadata.keys()


@pytest.mark.parametrize("count", [5, 12])
def test_few_or_short_tracks_are_left_out_and_the_user_is_told(capture, capsys, count):
    tracks = read_capture(capture).tracks.of_frames(np.arange(FRAMES))
    paths = tracks.paths[:count].copy()
    if count == 12:
        paths[:, 1:] = np.nan  # of one frame
    given = PointTracks(tracks.xy[:count], tracks.visible[:count], tracks.points[:count], paths)
    (capture / "tracks.npz").write_bytes(tracks_bytes(given, read_capture(capture).frame_ids))
    metadata = outputs_of(capture, "train").metadata
    assert "tracks_xyz" not in metadata
    assert metadata["tracked"]
    assert f"of {count} tracks follow something that moves" in capsys.readouterr().out


def test_tracks_that_do_not_tell_where_each_other_go_are_left_out_and_the_user_is_told(capture, capsys):
    tracks = read_capture(capture).tracks
    directions = np.random.default_rng(1).normal(size=(len(tracks), 1, 3))
    ways = np.linspace(0, 0.5, FRAMES)[:, None] * directions / np.linalg.norm(directions, axis=2, keepdims=True)
    astray = PointTracks(tracks.xy, tracks.visible, tracks.points, (going_sideways()[:, :1] + ways).astype(np.float32))
    frames = frames_of(capture)
    centers = camera_centers(frames.extrinsics)
    assert error_of_prediction(tracks.paths, frames.times, centers) < 0.1
    assert error_of_prediction(astray.paths, frames.times, centers) > 0.6
    frames.tracks = PointTracks(tracks.xy, tracks.visible, tracks.points, astray.paths)
    assert motion_paths(frames) is None
    assert "tracks are left out" in capsys.readouterr().out


def going_and_still_with_depth(tmp_path: Path) -> tuple[Path, Path]:
    """A capture with depth of a plane, and a file of 30 tracks that go along it and 20 that stand still."""
    folder = write_capture(tmp_path / "own", frames=FRAMES, points=0)
    own = read_capture(folder)
    moving = (going_sideways() - CENTER) * 0.5
    moving[..., 2] = 0
    still = np.repeat(moving[:20, :1], FRAMES, axis=1)
    tracks = tracks_of(np.concatenate((moving, still)), folder)
    (folder / "depth/1x").mkdir(parents=True)
    x, y = np.meshgrid(np.arange(SIZE[0]) + 0.5, np.arange(SIZE[1]) + 0.5)
    for frame, pose, matrix in zip(own.frame_ids, own.extrinsics, own.intrinsics, strict=True):
        rays = np.stack((x, y, np.ones_like(x)), axis=-1) @ np.linalg.inv(matrix).T @ pose[:, :3]
        center = -pose[:, :3].T @ pose[:, 3]
        depth = -center[2] / rays[..., 2]  # of the plane z = 0
        np.save(folder / f"depth/1x/{frame}.npy", (depth[..., None] / 0.5).astype(np.float32))
    np.savez(tmp_path / "mine.npz", tracks=tracks.xy, visible=tracks.visible)
    return folder, tmp_path / "mine.npz"


def test_a_user_s_tracks_are_lifted_by_depth_and_those_that_stand_still_are_left_out(tmp_path):
    folder, mine = going_and_still_with_depth(tmp_path)
    frames = frames_of(folder, points="depth", tracks=str(mine))
    lifted = np.isfinite(frames.tracks.paths).all(axis=2).sum(axis=1) >= 3
    assert lifted[:30].mean() > 0.8
    assert not lifted[30:].any()


def test_a_user_s_tracks_are_lifted_with_one_map_of_depth_after_the_other(tmp_path):
    folder, mine = going_and_still_with_depth(tmp_path)
    frames = frames_of(folder, points="depth")
    depth, read, held = frames.depth, [], []

    def counted(index):
        held.append(sum(each() is not None for each in read))
        made = depth(index)
        read.append(weakref.ref(made))
        return made

    frames.depth = counted
    tracks_of_user(mine, frames)
    assert len(read) == len(frames.train)
    assert max(held) <= 1


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"tracks": np.full((4, 5, 2), 3.0), "visible": np.ones((4, 5), bool)}, "through the data's 8 frames or the 7"),
        ({"tracks": np.full((4, 8, 2), 99.0), "visible": np.ones((4, 8), bool)}, "32 visible positions .* are outside"),
        ({"images": np.array([f"{i}.png" for i in range(8)])}, "no frame of the data"),
        ({}, "no depth to lift its tracks by"),
        ({"tracks": np.full((4, 8, 2), np.nan)}, "32 visible positions .* are not finite"),
        ({"paths": np.full((4, 8, 3), 0.25)}, "`paths` .* are not where its `tracks` are seen"),
    ],
)
def test_a_user_s_tracks_that_do_not_fit_are_refused(tmp_path, change, told):
    folder = write_capture(tmp_path / "own", frames=FRAMES)
    arrays = {"tracks": np.full((4, 8, 2), 3.0), "visible": np.ones((4, 8), bool)} | change
    np.savez(tmp_path / "mine.npz", **arrays)
    with pytest.raises(Page4DError, match=told):
        frames_of(folder, tracks=str(tmp_path / "mine.npz"))


def test_a_user_s_own_paths_are_taken_in_the_world_of_the_cameras(tmp_path):
    folder = write_capture(tmp_path / "own", frames=FRAMES)
    paths = (going_sideways() - CENTER) * 0.5
    tracks = tracks_of(paths, folder)
    np.savez(tmp_path / "mine.npz", tracks=tracks.xy, visible=tracks.visible, paths=paths)
    frames = frames_of(folder, tracks=str(tmp_path / "mine.npz"))
    np.testing.assert_allclose(frames.tracks.paths, paths, atol=1e-6)


def tracks_through(tmp_path: Path, images: list[str]) -> list[str]:
    """The frames of a D-NeRF scene, as they lie in it, in which a user's tracks through named images are visible."""
    write_dnerf(tmp_path / "scene")  # its train, val and test views have the same names
    count = len(images)
    arrays = {"tracks": np.full((2, count, 2), 3.0), "visible": np.ones((2, count), bool)}
    arrays |= {"paths": np.full((2, count, 3), np.nan), "images": np.array(images)}
    np.savez(tmp_path / "mine.npz", **arrays)
    frames = frames_of(tmp_path / "scene", points="random", tracks=str(tmp_path / "mine.npz"))
    seen = np.flatnonzero(frames.tracks.visible.any(axis=0))
    return [frames.image_paths[i].relative_to(tmp_path / "scene").as_posix() for i in seen]


def test_images_of_one_name_are_told_apart_by_their_folders(tmp_path):
    assert tracks_through(tmp_path, ["train/r_001.png", "/else/where/train/r_000.jpg", "test\\r_001.png"]) == [
        "train/r_000.png",
        "train/r_001.png",
        "test/r_001.png",
    ]
    assert tracks_through(tmp_path, ["r_003.png"]) == ["train/r_003.png"]  # the only one of its name


@pytest.mark.parametrize(
    ("images", "told"),
    [
        (["r_000.png"], r"r_000\.png, which 3 frames of the data are called; name its images with their folders"),
        (["elsewhere/r_000.png"], r"elsewhere/r_000\.png, which 3 frames"),
        (["train/r_000.png", "train/r_000"], r"train/r_000\.png and train/r_000, which are one frame of the data"),
    ],
)
def test_names_that_several_frames_have_or_that_name_one_twice_are_refused(tmp_path, images, told):
    with pytest.raises(Page4DError, match=told):
        tracks_through(tmp_path, images)


def test_tracks_of_static_things_alone_are_left_out_and_the_user_is_told(tmp_path, capsys):
    made = ball_scene(9)  # its tracks are of the plane
    scene = ball_folder(tmp_path / "scene", 9)
    np.savez(tmp_path / "mine.npz", tracks=made.tracks.xy, visible=made.tracks.visible)
    frames = frames_of(scene, tracks=str(tmp_path / "mine.npz"))
    assert motion_paths(frames) is None
    assert f"0 of {len(made.tracks)} tracks follow something that moves" in capsys.readouterr().out


def test_a_capture_s_tracks_are_asked_of_one_that_has_some(tmp_path):
    folder = write_capture(tmp_path / "own", frames=FRAMES)
    with pytest.raises(CaptureError, match="has no tracks"):
        frames_of(folder, tracks="capture")


def scene_with_paths(folder, paths):
    """A scene folder whose last tracks have paths [K, 9, 3]."""
    made, count = ball_scene(9), len(paths)
    padded = PointTracks(
        np.concatenate((made.tracks.xy, np.zeros((count, 9, 2), np.float32))),
        np.concatenate((made.tracks.visible, np.zeros((count, 9), bool))),
        np.concatenate((made.tracks.points, np.full((count, 3), np.nan, np.float32))),
        np.concatenate((np.full((len(made.tracks), 9, 3), np.nan, np.float32), paths)).astype(np.float32),
    )
    return ball_folder(folder, 9, tracks=padded)


def test_a_scene_s_tracks_of_what_moves_are_taken_and_not_those_of_held_out_frames(tmp_path):
    paths = BALL + 2 * going_sideways(20, 9)
    scene = scene_with_paths(tmp_path / "scene", paths)
    assert frames_of(scene, tracks="off").tracks is None
    frames = frames_of(scene)
    np.testing.assert_allclose(frames.tracks.paths[-20:][:, frames.train], paths[:, frames.train], atol=1e-4)
    assert np.isnan(frames.tracks.paths[:, frames.evaluation]).all()
    assert len(motion_paths(frames).positions) == 20


def test_a_scene_s_tracks_stay_at_their_pixels_under_another_lens_and_size(tmp_path):
    folder = scene_with_paths(tmp_path / "scene", BALL + 2 * going_sideways(20, 9))
    scene = read_scene(folder)
    frames = frames_of(folder, downscale_factor=2, eval_interval=0)
    frames.intrinsics[:, :2, :2] *= 1.25  # a capture's own
    tracks = tracks_of_scene(scene, np.arange(9), 1.0, frames)
    for i in range(9):
        at, in_scene = (
            projected(paths[-20:, i], *(matrices[i] for matrices in cameras))
            for paths, *cameras in (
                (tracks.paths, frames.extrinsics, frames.intrinsics),
                (scene.load_tracks().paths, scene.extrinsics, scene.intrinsics),
            )
        )
        np.testing.assert_allclose(2 * at, in_scene, atol=0.01)


def test_a_scene_s_tracks_give_no_path_where_masks_leave_pixels_out(tmp_path):
    folder = scene_with_paths(tmp_path / "scene", BALL + 2 * going_sideways(20, 9))
    Image.new("L", (48, 36), 0).save(folder / "nothing.png")
    meta = json.loads((folder / "transforms.json").read_text())
    meta["frames"][4]["mask_path"] = "nothing.png"
    (folder / "transforms.json").write_text(json.dumps(meta))
    frames = frames_of(folder, eval_interval=0)
    known = np.isfinite(frames.tracks.paths[-20:]).all(axis=2)
    assert known.all(axis=0).tolist() == [True] * 4 + [False] + [True] * 4
    assert not known[:, 4].any()


def test_a_scene_s_tracks_that_stay_about_where_they_are_have_to_be_asked_for(tmp_path, capsys):
    scene = scene_with_paths(tmp_path / "scene", BALL + going_sideways(20, 9))
    assert motion_paths(frames_of(scene)) is None
    assert "what moves goes 4.3% of its distance" in capsys.readouterr().out
    assert len(motion_paths(frames_of(scene, tracks="page4d")).positions) == 20
