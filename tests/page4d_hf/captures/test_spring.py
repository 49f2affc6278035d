"""Spring: what is read, and what is refused."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from ball_on_plane import cast, check_geometry, colors, pixel_rays, shifted, views, world_to_camera
from fuzzing import check_reader
from loading import load_frame
from PIL import Image

from page4d_hf.captures import as_pinhole
from page4d_hf.captures.layouts.spring import read_spring, spring_sequences
from page4d_hf.errors import CaptureError, Page4DError

SIZE = (64, 36)
FOCAL, PRINCIPAL = (60.0, 61.0), (33.0, 17.0)
COUNT = 3
BALL_MOVES = np.array([0.2, 0.1, 0.0])  # each frame, in the flow alone


def write_hdf5(path: Path, key: str, values: np.ndarray) -> None:
    """Values of each pixel at twice the size; what lies between them is not to be read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    doubled = np.full((2 * values.shape[0], 2 * values.shape[1], *values.shape[2:]), 1e4, np.float32)
    doubled[::2, ::2] = values
    with h5py.File(path, "w") as file:
        file.create_dataset(key, data=doubled, compression="gzip")


def write_map(path: Path, mask: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((mask * 255).astype(np.uint8)).save(path)


def project(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    in_camera = points @ matrix[:3, :3].T + matrix[:3, 3]
    return in_camera[..., :2] / in_camera[..., 2:] * FOCAL + PRINCIPAL


class Scene:
    """Three stereo frames, the ball being what moves, and sky along the upper edge."""

    def __init__(self, root: Path, maps: str = "maps/", marked: str = "moving", moves: bool = True) -> None:
        self.root, self.folder = root, root / "train" / "0007"
        left_views = views(COUNT)
        self.on_ball: dict[str, list[np.ndarray]] = {"left": [], "right": []}
        for eye in ("left", "right"):
            eye_views = [view if eye == "left" else shifted(view, 0.065) for view in left_views]
            (self.folder / f"frame_{eye}").mkdir(parents=True)
            for number, view in enumerate(eye_views, start=1):
                rays = pixel_rays(view, FOCAL, PRINCIPAL, SIZE)
                depth, on_ball = cast(view.centre, rays)
                points = view.centre + depth[..., None] * rays
                on_ball &= moves
                Image.fromarray(colors(points)).save(self.folder / f"frame_{eye}/frame_{eye}_{number:04d}.png")
                disparity = FOCAL[0] * 0.065 / depth
                disparity[1, :3] = [np.nan, 0, -1]
                write_hdf5(self.folder / f"disp1_{eye}/disp1_{eye}_{number:04d}.dsp5", "disparity", disparity)
                sky = np.zeros(depth.shape, bool)
                sky[0] = True
                write_map(self.folder / f"{maps}skymap_{eye}/skymap_{eye}_{number:04d}.png", sky)
                way = "FW" if number < COUNT else "BW"
                shown = on_ball if marked == "moving" else ~on_ball
                write_map(self.folder / f"{maps}rigidmap_{way}_{eye}/rigidmap_{way}_{eye}_{number:04d}.png", shown)
                if number < COUNT:
                    after = project(points + on_ball[..., None] * BALL_MOVES, world_to_camera(eye_views[number]))
                    u, v = np.meshgrid(np.arange(SIZE[0]) + 0.5, np.arange(SIZE[1]) + 0.5)
                    flow = after - np.stack((u, v), axis=-1)
                    write_hdf5(self.folder / f"flow_FW_{eye}/flow_FW_{eye}_{number:04d}.flo5", "flow", flow)
                self.on_ball[eye].append(on_ball)
        (self.folder / "cam_data").mkdir()
        self.extrinsics = [world_to_camera(view).ravel() for view in left_views]
        self.intrinsics = [[*FOCAL, *PRINCIPAL]] * COUNT
        self.save()

    def save(self) -> None:
        for name, rows in (("intrinsics", self.intrinsics), ("extrinsics", self.extrinsics)):
            text = "\n".join(" ".join(f"{value:.17g}" for value in row) for row in rows)
            (self.folder / "cam_data" / f"{name}.txt").write_text(text + "\n")

    def remove(self, pattern: str) -> None:
        for path in self.folder.glob(pattern):
            path.unlink()


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


@pytest.mark.parametrize("eye", ["left", "right"])
def test_points_of_all_frames_lie_on_the_scenes_surfaces(scene: Scene, eye: str) -> None:
    capture = read_spring(scene.root, f"train/0007/{eye}")
    assert capture.frame_ids == ["0001", "0002", "0003"]
    check_geometry(capture, tolerance=1e-5, color_tolerance=0.6)
    assert capture.scale == "metres"
    assert not capture.skipped
    assert not capture.notes


def test_sky_and_pixels_without_disparity_have_no_depth(scene: Scene) -> None:
    depth = as_pinhole(read_spring(scene.root, "train/0007/left")).load_depth(0)
    assert (depth[0] == 0).all()
    assert depth[1, :3].tolist() == [0, 0, 0]
    assert (depth[2:] > 0).all()


def test_maps_may_lie_in_the_scene_itself(tmp_path: Path) -> None:
    scene = Scene(tmp_path, maps="")
    frames = as_pinhole(read_spring(tmp_path, "train/0007/left"))
    assert (frames.load_depth(1)[0] == 0).all()
    np.testing.assert_array_equal(frames.load_mask(1), scene.on_ball["left"][1])


@pytest.mark.parametrize("marked", ["moving", "rigid"])
def test_the_flow_tells_whether_rigidity_maps_mark_what_moves(tmp_path: Path, marked: str) -> None:
    scene = Scene(tmp_path, marked=marked)
    for eye in ("left", "right"):
        capture = read_spring(tmp_path, f"train/0007/{eye}")
        assert not capture.notes
        frames = as_pinhole(capture)
        for i in range(COUNT):  # the last frame's map is that of the way back
            np.testing.assert_array_equal(frames.load_mask(i), scene.on_ball[eye][i])


@pytest.mark.parametrize("marked", ["moving", "rigid"])
def test_in_a_scene_where_nothing_moves_no_mask_says_otherwise(tmp_path: Path, marked: str) -> None:
    Scene(tmp_path, marked=marked, moves=False)
    frames = as_pinhole(read_spring(tmp_path, "train/0007/left"))
    assert not any(frames.load_mask(i).any() for i in range(COUNT))


def test_without_flow_what_is_marked_is_taken_to_move_and_a_note_says_so(scene: Scene) -> None:
    scene.remove("flow_FW_*/*")
    capture = read_spring(scene.root, "train/0007/left")
    assert any("taken to mark what moves" in note for note in capture.notes)
    np.testing.assert_array_equal(as_pinhole(capture).load_mask(0), scene.on_ball["left"][0])


def test_without_rigidity_maps_there_are_no_masks(scene: Scene) -> None:
    scene.remove("maps/rigidmap*/*")
    capture = read_spring(scene.root, "train/0007/left")
    assert capture.mask_paths is None
    assert not capture.notes


def test_images_and_cameras_alone_can_be_fetched(scene: Scene) -> None:
    for eye in ("left", "right"):
        scene.remove(f"disp1_{eye}/*")
        (scene.folder / f"disp1_{eye}").rmdir()
    capture = read_spring(scene.root, "train/0007/left")
    assert len(capture) == COUNT
    assert capture.depth_paths is None
    assert any("disp1_left is missing" in note for note in capture.notes)


def test_a_capture_goes_to_another_process(scene: Scene) -> None:
    frames = as_pinhole(read_spring(scene.root, "train/0007/left"))
    there = pickle.loads(pickle.dumps(frames))
    np.testing.assert_array_equal(there.load_depth(1), frames.load_depth(1))
    np.testing.assert_array_equal(there.load_mask(1), frames.load_mask(1))


# --------------------------------------------------------------------------------------------------------------------
# Where the sequences are


def test_each_eye_is_a_sequence(scene: Scene) -> None:
    assert spring_sequences(scene.root) == ["train/0007/left", "train/0007/right"]
    assert spring_sequences(scene.root / "train") == ["0007/left", "0007/right"]
    assert len(read_spring(scene.root / "train", "0007/right")) == COUNT


def test_an_eye_that_was_not_fetched_is_not_listed(scene: Scene) -> None:
    scene.remove("frame_right/*")
    (scene.folder / "frame_right").rmdir()
    assert spring_sequences(scene.root, "train") == ["train/0007/left"]


def test_the_test_split_is_refused(scene: Scene) -> None:
    with pytest.raises(CaptureError, match="test is published without extrinsics and cannot be read"):
        spring_sequences(scene.root, "test")
    (scene.folder / "cam_data" / "extrinsics.txt").unlink()
    with pytest.raises(CaptureError, match=r"extrinsics\.txt is missing: the test split is published without"):
        read_spring(scene.root, "train/0007/left")


# --------------------------------------------------------------------------------------------------------------------
# Frames that are left out


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda scene: scene.remove("frame_left/*2.png"), "the image is missing"),
        (lambda scene: scene.remove("disp1_left/*2.dsp5"), "its depth"),
        (lambda scene: scene.extrinsics[1].__setitem__(3, np.nan), "its camera holds NaN"),
        (lambda scene: scene.extrinsics[1].__setitem__(slice(0, 3), 0), "is no rotation"),
        (lambda scene: scene.intrinsics.__setitem__(1, [0, 60, 32, 18]), "the focal lengths of its camera"),
    ],
)
def test_a_frame_that_cannot_be_used_is_named_and_left_out(
    scene: Scene, damage: Callable[[Scene], Any], named: str
) -> None:
    damage(scene)
    scene.save()
    capture = read_spring(scene.root, "train/0007/left")
    assert capture.frame_ids == ["0001", "0003"]
    (sentence,) = capture.skipped
    assert named in sentence
    assert "frame_left_0002.png was left out: " in sentence
    np.testing.assert_allclose(capture.timestamps, [0, 2 / 24])


def test_an_image_without_a_camera_is_named(scene: Scene) -> None:
    scene.extrinsics.pop()
    scene.save()
    capture = read_spring(scene.root, "train/0007/left")
    assert len(capture) == 2
    assert "frame_left_0003.png was left out: " in capture.skipped[0]


# --------------------------------------------------------------------------------------------------------------------
# What is refused


def test_cameras_that_are_missing_are_refused(scene: Scene) -> None:
    (scene.folder / "cam_data" / "intrinsics.txt").unlink()
    with pytest.raises(CaptureError, match=r"intrinsics\.txt is missing"):
        read_spring(scene.root, "train/0007/left")


@pytest.mark.parametrize("text", ["1 2 3\n", "a b c d\n", "1 2 3 4\n1 2 3\n", ""])
@pytest.mark.filterwarnings("ignore:loadtxt")
def test_cameras_of_another_form_are_refused(scene: Scene, text: str) -> None:
    (scene.folder / "cam_data" / "intrinsics.txt").write_text(text)
    with pytest.raises(CaptureError, match=r"intrinsics\.txt (must hold|cannot be read)"):
        read_spring(scene.root, "train/0007/left")


def test_disparity_that_is_cut_short_is_refused_when_it_is_loaded(scene: Scene) -> None:
    path = scene.folder / "disp1_left" / "disp1_left_0002.dsp5"
    path.write_bytes(path.read_bytes()[:500])
    frames = as_pinhole(read_spring(scene.root, "train/0007/left"))
    with pytest.raises(CaptureError, match=r"disp1_left_0002\.dsp5 cannot be read as HDF5"):
        frames.load_depth(1)


def test_disparity_under_another_name_is_refused(scene: Scene) -> None:
    path = scene.folder / "disp1_left" / "disp1_left_0002.dsp5"
    write_hdf5(path, "depth", np.ones((36, 64)))
    frames = as_pinhole(read_spring(scene.root, "train/0007/left"))
    with pytest.raises(CaptureError, match=r"disp1_left_0002\.dsp5 cannot be read as HDF5 with a 'disparity'"):
        frames.load_depth(1)


def test_a_name_without_an_eye_is_refused(scene: Scene) -> None:
    with pytest.raises(CaptureError, match=r"expected <split>/<scene>/left or \.\.\./right"):
        read_spring(scene.root, "train/0007")


def test_without_h5py_one_is_told_what_to_install(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(Page4DError, match=r"needs the package h5py, .* pip install 'page4d\[training\]'"):
        read_spring(scene.root, "train/0007/left")


def test_damaged_files_end_in_a_capture_or_a_sentence(scene: Scene) -> None:
    names = ("cam_data/intrinsics.txt", "cam_data/extrinsics.txt", "disp1_left/disp1_left_0001.dsp5")
    more = ("flow_FW_left/flow_FW_left_0001.flo5", "maps/skymap_left/skymap_left_0001.png")
    files = [scene.folder / name for name in (*names, *more, "frame_left/frame_left_0001.png")]
    check_reader(lambda: load_frame(read_spring(scene.root, "train/0007/left")), files, rounds=120)


@pytest.mark.parametrize(
    ("shape", "chunks", "message"),
    [
        ((60_000, 60_000), (100, 100), "claims to be an image of 60000x60000 pixels"),
        ((2, 2), (20_000, 20_000), "has a 'disparity' of the shape"),
    ],
)
def test_disparity_that_claims_to_be_huge_is_refused_before_memory_is_taken(
    scene: Scene, shape: tuple[int, int], chunks: tuple[int, int], message: str
) -> None:
    with h5py.File(scene.folder / "disp1_left/disp1_left_0001.dsp5", "w") as file:
        file.create_dataset("disparity", shape, "<f4", maxshape=(None, None), chunks=chunks, compression="gzip")
    with pytest.raises(CaptureError, match=rf"disp1_left_0001\.dsp5 {message}"):
        as_pinhole(read_spring(scene.root, "train/0007/left")).load_depth(0)
