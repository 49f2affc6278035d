"""`page4d-data`: cameras, times, splits and points of every kind of source, in nerfstudio's terms."""

import json
import re
import shutil
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch
from nerfstudio.data.dataparsers.base_dataparser import transform_poses_to_original_space
from nerfstudio_training import training_config
from perfect_page4d import DEPTH, PerfectPage4D, frames_of, outputs_of, project, splits_of
from PIL import Image
from small_captures import SIZE, write_capture
from small_layouts import write_dnerf
from small_scene import PRINCIPAL, ball_folder, ball_scene

from page4d_hf.captures import LAYOUTS, as_pinhole, read_capture
from page4d_hf.errors import CaptureError, CheckpointError, Page4DError
from page4d_hf.geometry import camera_to_world_opengl, project_points
from page4d_nerfstudio.data.dataparser import Page4DDataParserConfig, read_source
from page4d_nerfstudio.data.posed_frames import hold_out


@pytest.fixture
def scene(tmp_path):
    return ball_folder(tmp_path / "scene", 9)


# --------------------------------------------------------------------------------------------------------------------
# Captures


@pytest.mark.parametrize("orientation", ["none", "up", "vertical", "pca"])
@pytest.mark.parametrize("center", ["poses", "focus", "none"])
def test_points_fall_on_the_same_pixels_as_in_the_capture(capture, orientation, center):
    """One transform for cameras and points, whatever it is."""
    outputs = outputs_of(capture, orientation_method=orientation, center_method=center, scale_factor=1.7)
    read = read_capture(capture)
    train = read.splits["train"]
    expected, _ = project_points(
        torch.from_numpy(read.points).double()[None],
        torch.from_numpy(read.extrinsics[train]),
        torch.from_numpy(as_pinhole(read).intrinsics[train]),
    )
    torch.testing.assert_close(project(outputs.cameras, outputs.metadata["points3D_xyz"]), expected, atol=2e-3, rtol=0)


@pytest.mark.parametrize("orientation", ["none", "up", "pca"])
def test_the_transform_and_scale_lead_back_to_the_capture(capture, orientation):
    outputs = outputs_of(capture, orientation_method=orientation)
    read = read_capture(capture)
    poses = transform_poses_to_original_space(
        outputs.cameras.camera_to_worlds, outputs.dataparser_transform, outputs.dataparser_scale, "opengl"
    )
    expected = camera_to_world_opengl(torch.from_numpy(read.extrinsics[read.splits["train"]])).float()
    torch.testing.assert_close(poses, expected, atol=1e-5, rtol=0)


def test_cameras_lie_within_one_around_the_origin(capture):
    centres = torch.cat([outputs.cameras.camera_to_worlds[:, :, 3] for outputs in splits_of(capture)])
    assert centres.abs().max() == pytest.approx(1, abs=1e-6)
    torch.testing.assert_close(centres.mean(dim=0), torch.zeros(3), atol=1e-6, rtol=0)


def test_up_is_z_unless_the_axes_are_to_be_kept(capture):
    up = outputs_of(capture).cameras.camera_to_worlds[:, :, 1].mean(dim=0)
    torch.testing.assert_close(up / up.norm(), torch.tensor([0.0, 0.0, 1.0]), atol=0.05, rtol=0)
    kept = outputs_of(capture, orientation_method="none").dataparser_transform[:, :3]
    torch.testing.assert_close(kept, torch.eye(3))


def test_a_camera_that_stands_still_does_not_blow_up_the_scene(tmp_path):
    scene = ball_folder(tmp_path / "scene", 9, extrinsics=np.tile(ball_scene(1).extrinsics, (9, 1, 1)))
    outputs = outputs_of(scene)
    distance = outputs.metadata["points3D_xyz"].norm(dim=-1).median()
    assert distance == pytest.approx(10, rel=0.05)  # 1 / LEAST_EXTENT_TO_DISTANCE
    assert torch.isfinite(outputs.cameras.camera_to_worlds).all()


def test_times_go_from_0_to_1_over_all_frames_and_follow_each_split(capture):
    assert Page4DDataParserConfig(data=capture).setup().includes_time
    train, val = (outputs.cameras.times for outputs in splits_of(capture))
    torch.testing.assert_close(train, torch.tensor([0, 1, 2, 4, 5, 6, 7])[:, None] / 7)
    torch.testing.assert_close(val, torch.tensor([[3 / 7]]))


def test_test_is_val(capture):
    names = [outputs_of(capture, split).image_filenames for split in ("val", "test")]
    assert names[0] == names[1] == [capture / "rgb/1x/000003.png"]


def test_a_distorted_capture_becomes_pinhole_cameras(tmp_path):
    capture = write_capture(tmp_path / "capture", distortion=(0.1, 0.02, 0.0))
    outputs = outputs_of(capture)
    assert outputs.cameras.distortion_params is None
    pinhole = as_pinhole(read_capture(capture))
    assert outputs.cameras.fx[0].item() == pytest.approx(pinhole.intrinsics[0, 0, 0], rel=1e-6)
    assert outputs.cameras.fx[0].item() != pytest.approx(1.1 * SIZE[0], rel=1e-3)


def test_downscaling_scales_cameras(capture):
    full, half = outputs_of(capture).cameras, outputs_of(capture, downscale_factor=2).cameras
    assert (half.width[0], half.height[0]) == (SIZE[0] // 2, SIZE[1] // 2)
    torch.testing.assert_close(half.fx, full.fx / 2)
    torch.testing.assert_close(half.cy, full.cy / 2)


def test_large_images_are_scaled_down_by_themselves(tmp_path):
    capture = write_capture(tmp_path / "capture", frames=3, val=(1,), size=(3600, 20))
    cameras = outputs_of(capture).cameras
    assert (cameras.width[0], cameras.height[0]) == (900, 5)


def test_a_stored_size_is_preferred_to_scaling(tmp_path):
    capture = write_capture(tmp_path / "capture")
    shutil.copytree(capture / "rgb/1x", capture / "rgb/2x")
    for path in (capture / "rgb/2x").iterdir():
        Image.open(path).resize((SIZE[0] // 2, SIZE[1] // 2)).save(path)
    assert outputs_of(capture, downscale_factor=2).image_filenames[0].parent.name == "2x"


def test_a_capture_without_held_out_frames_gets_some(capture):
    dataset = json.loads((capture / "dataset.json").read_text())
    (capture / "dataset.json").write_text(json.dumps(dataset | {"val_ids": []}))
    train, val = (outputs.image_filenames for outputs in splits_of(capture))
    assert train
    assert val
    assert not set(train) & set(val)


# --------------------------------------------------------------------------------------------------------------------
# Points


def test_the_capture_s_points_come_with_colours_and_no_motion(capture):
    metadata = outputs_of(capture).metadata
    np.testing.assert_array_equal(metadata["points3D_rgb"], np.load(capture / "points_rgb.npy"))
    assert metadata["points3D_rgb"].dtype == torch.uint8
    assert metadata["points3D_xyz"].dtype == torch.float32
    assert "points3D_motion" not in metadata


def test_points_are_thinned_evenly_and_the_same_each_time(capture):
    once, again = (outputs_of(capture, max_points=50).metadata for _ in range(2))
    torch.testing.assert_close(once["points3D_xyz"], again["points3D_xyz"], atol=0, rtol=0)
    everything = outputs_of(capture).metadata["points3D_rgb"].tolist()
    places = [everything.index(color) for color in once["points3D_rgb"].tolist()]
    assert [place // 4 for place in places] == list(range(50))  # one of each four, in order


def test_random_points_are_seen_and_lie_between_near_and_far(capture):
    outputs = outputs_of(capture, points="random", num_random_points=500)
    points = outputs.metadata["points3D_xyz"]
    assert points.shape == (500, 3)
    pixels = project(outputs.cameras, points)
    inside = ((pixels >= 0) & (pixels <= torch.tensor(SIZE))).all(dim=-1)
    rotation, centre = outputs.cameras.camera_to_worlds[:, :, :3], outputs.cameras.camera_to_worlds[:, :, 3]
    depth = -torch.einsum("nji,nmj->nmi", rotation, points[None] - centre[:, None])[..., 2] / outputs.dataparser_scale
    assert (inside & (depth > 0.499) & (depth < 3.001)).any(dim=0).all()


def test_a_capture_without_points_in_which_nothing_can_be_tracked_starts_from_random_ones(tmp_path, capsys):
    capture = write_capture(tmp_path / "capture", points=0, frames=12)
    assert len(outputs_of(capture, num_random_points=123).metadata["points3D_xyz"]) == 123
    assert "starting from random points" in capsys.readouterr().out
    with pytest.raises(CaptureError, match="--points tracks does not fit the data"):
        frames_of(capture, points="tracks")


@pytest.mark.parametrize("copied", [False, True])
def test_frames_that_are_evaluated_and_trained_on_are_counted(tmp_path, capsys, copied):
    """In three files of views that are one and the same, as in some copies of Balloon1."""
    root = write_dnerf(tmp_path / "scene")
    train = (root / "transforms_train.json").read_text()
    for split in ("val", "test"):
        if copied:
            shutil.rmtree(root / split)
            shutil.copytree(root / "train", root / split)
        (root / f"transforms_{split}.json").write_text(train.replace("train/", f"{split}/") if copied else train)
    count = len(json.loads(train)["frames"])
    frames_of(root, points="random")
    assert f"{count} of the {count} frames to evaluate on are trained on too" in capsys.readouterr().out


def test_frames_that_are_evaluated_alone_need_no_word(tmp_path, capsys):
    frames_of(write_dnerf(tmp_path / "scene"), points="random")
    assert "trained on too" not in capsys.readouterr().out


# --------------------------------------------------------------------------------------------------------------------
# Scene folders, and those of other programs


def test_a_scene_folder_gives_its_cameras_times_and_points(scene):
    train, val = splits_of(scene)
    torch.testing.assert_close(val.cameras.times, torch.tensor([[0.5]]))
    assert len(train.cameras) == 8
    assert train.cameras.cx[0] == PRINCIPAL[0]
    assert {"points3D_motion", "points3D_times"} <= set(train.metadata)


def test_of_a_scene_whose_file_lists_frames_in_any_order_moments_are_held_out_evenly(scene):
    path = scene / "transforms.json"
    meta = json.loads(path.read_text())
    meta["frames"] = [meta["frames"][i] for i in (3, 0, 7, 5, 1, 8, 2, 6, 4)]
    path.write_text(json.dumps(meta))
    frames = frames_of(scene, eval_interval=3)
    assert (8 * frames.times[frames.evaluation]).round().tolist() == [1, 4, 7]


def test_points_that_only_held_out_frames_saw_are_left_out(scene):
    times = outputs_of(scene).metadata["points3D_times"]
    assert sorted({round(8 * time) for time in times.tolist()}) == [0, 1, 2, 3, 5, 6, 7, 8]


def test_a_folder_of_nerfstudio_s_is_read_with_its_times(scene):
    shutil.rmtree(scene / "page4d")
    outputs = outputs_of(scene, "val")
    torch.testing.assert_close(outputs.cameras.times, torch.tensor([[0.5]]))


def test_every_frame_is_trained_on_or_held_out():
    for count in range(3, 40):
        for interval in range(2, 12):
            train, evaluation = hold_out(np.arange(100, 100 + count), interval)
            assert len(train) > 1
            assert len(evaluation) > 0
            assert sorted([*train, *evaluation]) == list(range(100, 100 + count))
            assert 100 in train  # nothing comes before it


def test_of_two_frames_none_is_held_out():
    train, evaluation = hold_out(np.array([4, 9]), 8)

    assert train.tolist() == evaluation.tolist() == [4, 9]


def test_with_interval_0_all_frames_are_trained_on_and_evaluated(scene):
    assert [len(outputs.cameras) for outputs in splits_of(scene, eval_interval=0)] == [9, 9]


# --------------------------------------------------------------------------------------------------------------------
# Cameras and points by PAGE-4D


def depth_in_own_camera(outputs, points_per_frame):
    rotation, centre = outputs.cameras.camera_to_worlds[:, :, :3], outputs.cameras.camera_to_worlds[:, :, 3]
    points = outputs.metadata["points3D_xyz"].reshape(len(rotation), points_per_frame, 3)
    return -torch.einsum("nji,nmj->nmi", rotation, points - centre[:, None])[..., 2]


def test_page4d_s_depth_is_placed_in_the_capture_s_world_at_its_scale(capture, page4d):
    outputs = outputs_of(capture, points="page4d", model=page4d.model)
    depth = depth_in_own_camera(outputs, 240)  # the confident four fifths of 15 x 20
    torch.testing.assert_close(depth / outputs.dataparser_scale, torch.full_like(depth, DEPTH), atol=1e-4, rtol=0)


def test_page4d_s_points_lie_on_the_pixels_whose_colour_they_have(capture, page4d):
    outputs = outputs_of(capture, points="page4d", model=page4d.model)
    pixels = project(outputs.cameras, outputs.metadata["points3D_xyz"])
    for i, path in enumerate(outputs.image_filenames):
        # Depth has half the image's size: a pixel of its has the mean colour of four.
        colors = np.array(Image.open(path)).reshape(15, 2, 20, 2, 3).mean(axis=(1, 3))
        own = slice(240 * i, 240 * (i + 1))
        u, v = (pixels[i, own] / 2).floor().long().unbind(-1)
        np.testing.assert_allclose(outputs.metadata["points3D_rgb"][own], colors[v, u], atol=0.51)


def test_the_least_confident_are_a_share_of_the_pixels_that_page4d_saw(capture, page4d):
    page4d.cropped = True
    outputs = outputs_of(capture, points="page4d", model=page4d.model)
    assert len(outputs.metadata["points3D_xyz"]) == 7 * 120  # the confident four fifths of 15 x 10


def test_held_out_frames_give_no_points_and_page4d_does_not_see_them(capture, page4d):
    outputs = outputs_of(capture, points="page4d", model=page4d.model)
    assert page4d.seen == [["000000", "000001", "000002", "000004", "000005", "000006", "000007"]]
    assert 3 not in {round(7 * time) for time in outputs.metadata["points3D_times"].tolist()}
    assert outputs.metadata["points3D_motion"].unique().tolist() == pytest.approx([0.1 * i for i in range(7)])


def test_page4d_s_points_are_thinned_evenly_over_frames_with_a_fifth_for_what_moves(capture, page4d):
    metadata = outputs_of(capture, points="page4d", model=page4d.model, max_points=700).metadata
    moves = metadata["points3D_motion"] > 0.5  # all of the last of 7 frames
    assert (len(moves), int(moves.sum())) == (700, 140)
    still = np.unique((7 * metadata["points3D_times"][~moves]).round(), return_counts=True)[1]
    assert (len(still), set(still.tolist())) == (6, {93, 94})


def test_page4d_s_cameras_keep_the_capture_s_times_and_splits(capture, page4d):
    train, val = splits_of(capture, cameras="page4d", model=page4d.model)
    torch.testing.assert_close(val.cameras.times, torch.tensor([[3 / 7]]))
    assert val.image_filenames == [capture / "rgb/1x/000003.png"]
    assert train.cameras.cx[0] == SIZE[0] / 2  # PAGE-4D's, not the capture's
    poses = transform_poses_to_original_space(
        train.cameras.camera_to_worlds, train.dataparser_transform, train.dataparser_scale, "opengl"
    )
    true = np.stack([page4d.extrinsics[path.stem] for path in train.image_filenames])
    expected = camera_to_world_opengl(torch.from_numpy(page4d.world.apply_to_extrinsics(true))).float()
    torch.testing.assert_close(poses, expected, atol=1e-5, rtol=0)
    depth = depth_in_own_camera(train, 240) / train.dataparser_scale
    torch.testing.assert_close(depth, torch.full_like(depth, page4d.world.scale * DEPTH), atol=1e-4, rtol=0)
    assert 3 not in {round(7 * time) for time in train.metadata["points3D_times"].tolist()}


def test_the_capture_s_points_follow_page4d_s_cameras(capture, page4d):
    """What PAGE-4D's cameras see of them is what the capture's own see, but for the intrinsics."""
    outputs = outputs_of(capture, cameras="page4d", points="capture", model=page4d.model)
    read = read_capture(capture)
    intrinsics = torch.tensor([[44.0, 0, SIZE[0] / 2], [0, 44.0, SIZE[1] / 2], [0, 0, 1]], dtype=torch.float64)
    extrinsics = torch.from_numpy(read.extrinsics[read.splits["train"]])
    expected, _ = project_points(torch.from_numpy(read.points).double()[None], extrinsics, intrinsics[None])
    torch.testing.assert_close(project(outputs.cameras, outputs.metadata["points3D_xyz"]), expected, atol=5e-3, rtol=0)


def test_cameras_on_one_line_cannot_be_aligned_and_the_error_says_what_to_do(tmp_path, monkeypatch):
    centres = np.linspace([0, 0, -3], [0.5, 0, -3], 8)
    capture = write_capture(tmp_path / "capture", centres=centres)
    page4d = PerfectPage4D(monkeypatch, tmp_path, capture)
    with pytest.raises(CaptureError, match=r"one line.*--cameras page4d"):
        frames_of(capture, points="page4d", model=page4d.model)


@pytest.mark.parametrize("as_glob", [False, True])
def test_plain_images_are_reconstructed_and_start_from_depth(capture, page4d, as_glob):
    data = capture / "rgb/1x"
    train, val = splits_of(data / "*.png" if as_glob else data, model=page4d.model, eval_interval=4)
    torch.testing.assert_close(val.cameras.times.flatten(), torch.tensor([2, 6]) / 7)
    depth = depth_in_own_camera(train, 240) / train.dataparser_scale
    torch.testing.assert_close(depth, torch.full_like(depth, page4d.world.scale * DEPTH), atol=1e-4, rtol=0)


def test_what_is_known_of_plain_images_reaches_the_reconstruction(capture, page4d, monkeypatch, tmp_path):
    """And makes a reconstruction of its own, which is not that without it."""
    asked = []

    def watched(*args, **options):
        asked.append(options)
        return page4d.reconstruct(*args, **options)

    monkeypatch.setattr("page4d_hf.reconstruction.reconstruct.reconstruct", watched)
    (tmp_path / "transforms.json").write_text("{}")
    known = {
        "cameras": str(tmp_path / "transforms.json"),
        "intrinsics": "44,44,10,10",
        "distortion": "radial",
        "masks": capture / "rgb/1x",
        "motion": "geometry",
        "metric_depth": "some/model",
    }
    for options in ({}, known, known):
        frames_of(capture / "rgb/1x", model=page4d.model, **options)
    assert len(asked) == 2
    assert [asked[0][name] for name in known] == [None, None, "none", None, None, None]
    assert [str(asked[1][name]) for name in known] == [str(value) for value in known.values()]


@pytest.mark.parametrize(
    ("options", "taken"),
    [
        ({}, 4),
        ({"intrinsics": "44,44,20,15"}, 4),
        ({"tracks": "off"}, 4),
        ({"masks": "rgb/1x"}, 8),
        ({"motion": "rgb/1x"}, 8),
        ({"tracks": "tracks.npz"}, 8),
    ],
)
def test_what_is_given_for_each_frame_keeps_the_frames_before_and_after_a_cut(
    capture, page4d, monkeypatch, options, taken
):
    monkeypatch.setattr(
        "page4d_hf.reconstruction.cuts.longest_shot", lambda frames: (frames.take(np.arange(4)), {"note": "it cuts"})
    )
    monkeypatch.setattr("page4d_nerfstudio.data.dataparser.tracks_of_user", lambda path, frames: None)
    options = {name: str(capture / value) if name in ("masks", "motion") else value for name, value in options.items()}
    frames_of(capture / "rgb/1x", model=page4d.model, **options)
    assert len(page4d.seen[0]) == taken


# --------------------------------------------------------------------------------------------------------------------
# What cannot be read, and what does not fit


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": "nowhere"}, "There is no nowhere"),
        ({"data": __file__}, "neither a video nor an image"),
        ({"downscale_factor": 0}, "--downscale-factor must be at least 1, got 0"),
        ({"downscale_factor": 1.5}, "--downscale-factor must be a whole number, got 1.5"),
        ({"eval_interval": 1}, "would hold out every frame"),
        ({"eval_interval": -1}, "--eval-interval must be at least 0"),
        ({"cameras": "page4d"}, "page4d pull nomask"),
        ({"points": "page4d"}, "page4d pull nomask"),
        ({"points": "page4d", "model": "no/such/folder"}, "No model folder no/such/folder"),
        ({"points": "page4d", "model": "x", "confidence_percentile": 100}, "--confidence-percentile"),
        ({"layout": "scene"}, "transforms.json"),
        (
            {"cameras": "nowhere.json"},
            "--cameras must be auto, capture, page4d or a file of cameras, got 'nowhere.json'",
        ),
        ({"cameras": "/"}, "--cameras as given is for a video or images: a capture has frames, cameras"),
        ({"masks": Path("/")}, "--masks as given is for a video or images: a capture has frames, cameras and masks"),
        ({"distortion": "radial"}, "--distortion as given is for a video or images"),
        ({"motion": "/"}, "--motion as given is for a video or images"),
        ({"max_frames": 3}, "--max-frames as given is for a video or images: a capture has frames"),
        ({"fps": 2.0}, "--fps as given is for a video or images"),
        ({"motion": "head", "use_mask": False}, "leave out --motion"),
    ],
)
def test_options_that_cannot_be_met_are_refused_in_a_sentence(capture, tmp_path, options, message):
    config = Page4DDataParserConfig(**{"data": capture, "cache_dir": tmp_path / "cache", **options})
    config.data = Path(config.data)
    with pytest.raises(Page4DError, match=message):
        read_source(config)


@pytest.mark.parametrize(
    "options",
    [
        {"downscale_factor": float("nan")},
        {"downscale_factor": float("inf")},
        {"scale_factor": float("nan")},
        {"scale_factor": 0.0},
        {"scene_scale": -1.0},
        {"num_random_points": 10**12, "points": "random"},
        {"max_points": -5},
        {"max_frames": 0},
    ],
)
def test_numbers_beyond_all_bounds_are_refused_before_data_are_read(tmp_path, options):
    (name, *_) = options
    with pytest.raises(Page4DError, match=rf"--{name.replace('_', '-')} must be "):
        frames_of(tmp_path / "nowhere", **options)


@pytest.mark.parametrize("data", ["a" * 300, "a\0b", "file/below"])
def test_data_of_a_name_that_none_can_have_end_in_a_sentence(tmp_path, data):
    (tmp_path / "file").touch()
    with pytest.raises(Page4DError, match=r"There is no|no name"):
        frames_of(tmp_path / data)


@pytest.mark.parametrize("points", ["capture", "random"])
@pytest.mark.parametrize("far", [1e12, 1e30, 1e38, 1e300, -1e300])
@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning")
def test_points_too_far_away_to_compute_with_are_left_out(tmp_path, capsys, points, far):
    capture = write_capture(tmp_path / "capture")
    positions = np.load(capture / "points.npy").astype(np.float64)
    positions[[3, 5], [0, 2]] = far
    np.save(capture / "points.npy", positions)

    frames = frames_of(capture, points=points, num_random_points=50)

    assert len(frames.points) == (len(positions) - 2 if points == "capture" else 50)
    assert np.abs(frames.points.positions).max() < 1e3
    assert "2 points of " in capsys.readouterr().out


def test_data_all_of_which_are_too_far_away_are_refused(tmp_path):
    capture = write_capture(tmp_path / "capture")
    positions = np.load(capture / "points.npy").astype(np.float64)
    np.save(capture / "points.npy", positions + 1e20)
    with pytest.raises(CaptureError, match=r"All points of .* are more than 1e\+09 units from the origin; scale"):
        frames_of(capture)
    np.save(capture / "points.npy", positions)
    camera = json.loads((capture / "camera/000002.json").read_text())
    (capture / "camera/000002.json").write_text(json.dumps(camera | {"position": [1e30, 0, 0]}))
    with pytest.raises(
        CaptureError, match=r"000002.json .* at position.0: it should be less than or equal to 1000000000, got 1e\+30"
    ):
        frames_of(capture)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_whatever_numbers_a_capture_holds_it_is_read_or_refused(tmp_path):
    """Numbers of cameras and points, in any place: seeded, and the same at each run."""
    capture = write_capture(tmp_path / "capture", frames=4, val=(3,))
    texts = {path: path.read_text() for path in sorted((capture / "camera").iterdir())}
    positions = np.load(capture / "points.npy").astype(np.float64)
    rng = np.random.default_rng(0)
    extreme = [0, -1, 1e-300, 1e9, 1e19, 1e39, 1e300, -1e300, 10**18, float("nan")]
    for _ in range(60):
        path = rng.choice(list(texts))
        numbers = list(re.finditer(r"-?\d+\.?\d*(e-?\d+)?", texts[path]))
        if numbers:
            number = numbers[rng.integers(len(numbers))]
            value = json.dumps(extreme[rng.integers(len(extreme))])
            path.write_text(texts[path][: number.start()] + value + texts[path][number.end() :])
        spoilt = positions.copy()
        spoilt.flat[rng.integers(spoilt.size)] = float(extreme[rng.integers(8)])
        np.save(capture / "points.npy", spoilt)
        parser = Page4DDataParserConfig(data=capture, points=rng.choice(["capture", "random"]), num_random_points=9)
        try:
            read_source(parser)
        except Page4DError:
            pass
        else:
            outputs = parser.setup().get_dataparser_outputs("train")
            assert outputs.cameras.camera_to_worlds.isfinite().all()
            assert outputs.metadata["points3D_xyz"].isfinite().all()
        path.write_text(texts[path])


@pytest.mark.parametrize("data", ["scene", "images"])
def test_what_only_a_capture_has_is_refused_where_there_is_no_capture(capture, data, scene):
    folder = capture / "rgb/1x" if data == "images" else scene
    given = dict.fromkeys(("cameras", "held_out_cameras", "points", "tracks"), "capture")
    for option, value in (given | {"held_out": "val", "reconstruction": Path("made")}).items():
        with pytest.raises(Page4DError, match=rf"--{option.replace('_', '-')}( capture| val)? does not fit the data: "):
            frames_of(folder, model="m", **{option: value})


@pytest.mark.parametrize("option", ["fps", "max_frames", "use_mask"])
def test_how_a_video_is_reconstructed_is_refused_where_that_has_been_done(option, scene):
    with pytest.raises(Page4DError, match=rf"--{option.replace('_', '-')} .* has been reconstructed"):
        frames_of(scene, **{option: False if option == "use_mask" else 4})


def test_the_capture_s_points_are_refused_where_it_has_neither_points_nor_depth(tmp_path):
    capture = write_capture(tmp_path / "capture", points=0)
    with pytest.raises(CaptureError, match="no points of its own"):
        frames_of(capture, points="capture")


def test_a_single_frame_cannot_be_trained_on(tmp_path, page4d):
    capture = write_capture(tmp_path / "two", frames=2, val=(1,))
    with pytest.raises(Page4DError, match=r"at least 2 frames.*gives 1"):
        frames_of(capture)
    image = capture / "rgb/1x/000000.png"
    with pytest.raises(Page4DError, match=r"at least 2 frames.*gives 1"):
        frames_of(image, model=page4d.model)
    assert page4d.seen == []


def test_without_the_weights_the_error_comes_before_the_video_is_read(tmp_path):
    video = tmp_path / "clip.mp4"
    video.write_bytes(b"no video at all")
    with pytest.raises(CheckpointError, match="page4d pull"):
        frames_of(video, model=str(tmp_path / "weights"))


def test_at_nerfstudio_s_border_an_error_is_one_sentence_and_exit_code_1(tmp_path, capsys):
    empty = tmp_path / "[red]empty"  # would be markup to rich
    empty.mkdir()
    with pytest.raises(SystemExit) as exit_info:
        outputs_of(empty)
    assert exit_info.value.code == 1
    out, err = capsys.readouterr()
    assert f"The folder {empty} is empty" in out
    assert "Traceback" not in out + err


# --------------------------------------------------------------------------------------------------------------------
# The command line and config.yml


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "name"), [("capture", "capture"), ("clip.mp4", "clip"), ("frames/*.png", "frames"), (".", "work")]
)
def test_outputs_are_named_after_the_data(tmp_path, monkeypatch, data, name):
    work = tmp_path / "work"
    (work / "capture").mkdir(parents=True)
    (work / "clip.mp4").touch()
    monkeypatch.chdir(work)
    for args in (["--data", data], ["page4d-data", "--data", data]):
        config = training_config("page4d-4dgs", *args)
        assert config.get_base_dir().parts[:3] == ("outputs", name, "page4d-4dgs")


@pytest.mark.slow
def test_any_method_takes_the_dataparser_by_its_name(tmp_path):
    for method in ("page4d-4dgs", "splatfacto"):
        args = [method, "--data", str(tmp_path), "page4d-data", "--cameras", "page4d", "--downscale", "4"]
        parser = training_config(*args).pipeline.datamanager.dataparser
        assert (parser.cameras, parser.downscale_factor) == ("page4d", 4)


def test_every_layout_of_a_capture_can_be_named():
    known = get_args(get_type_hints(Page4DDataParserConfig)["layout"])

    assert set(known) == {"auto", "scene", "frames", *LAYOUTS}
