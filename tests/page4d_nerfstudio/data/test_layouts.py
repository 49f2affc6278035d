"""Captures in the layouts of published data sets, all the way to what nerfstudio trains and evaluates on."""

import json

import numpy as np
import pytest
import torch
from nerfstudio.data.datasets.base_dataset import InputDataset
from perfect_page4d import PerfectPage4D, dataset_of, frames_of, outputs_of, splits_of
from plyfile import PlyData, PlyElement
from small_layouts import (
    HEIGHT,
    WALL,
    WIDTH,
    colour,
    save,
    write_dnerf,
    write_dycheck,
    write_nerfstudio,
    write_nvidia,
)

from page4d_hf.errors import CaptureError, Page4DError
from page4d_nerfstudio.data.dataset import Page4DDataset
from page4d_nerfstudio.gaussians.model import Page4DGaussiansModelConfig

WRITERS = {"dnerf": write_dnerf, "nvidia": write_nvidia, "nerfstudio": write_nerfstudio, "dycheck": write_dycheck}


def wall_colours(dataset, i, outputs_scale, transform):
    """What camera i of a dataset sees of the wall, by its own pose and intrinsics in nerfstudio's conventions."""
    cameras = dataset.cameras
    pose = cameras.camera_to_worlds[i].double().numpy()
    rotation, shift = transform[:, :3].double().numpy(), transform[:, 3].double().numpy()
    u, v = np.meshgrid(np.arange(int(cameras.width[i])) + 0.5, np.arange(int(cameras.height[i])) + 0.5)
    x, y = (u - float(cameras.cx[i])) / float(cameras.fx[i]), (v - float(cameras.cy[i])) / float(cameras.fy[i])
    rays = np.stack((x, -y, -np.ones_like(x)), axis=-1) @ pose[:, :3].T
    # Back into the world of the files.
    centre, rays = rotation.T @ (pose[:, 3] / outputs_scale - shift), rays @ rotation
    return colour(centre + rays * ((WALL - centre[2]) / rays[..., 2])[..., None])


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["dnerf", "nvidia", "nerfstudio"])
@pytest.mark.parametrize("named", [False, True])
def test_each_camera_sees_the_wall_as_its_image_shows_it(tmp_path, layout, named):
    root = WRITERS[layout](tmp_path / "scene")
    for outputs in splits_of(root, layout=layout if named else "auto", num_random_points=10):
        dataset = Page4DDataset(outputs)
        for i in range(0, len(dataset), 5):
            expected = wall_colours(dataset, i, outputs.dataparser_scale, outputs.dataparser_transform)[5:]
            shown = np.asarray(dataset.get_data(i, "uint8")["image"])[5:, :, :3].astype(float)
            assert np.abs(shown - expected).mean() < 0.8  # of JPEGs


# --------------------------------------------------------------------------------------------------------------------
# D-NeRF


def names(dataset):
    return ["/".join(path.parts[-2:]) for path in dataset.image_filenames]


@pytest.mark.parametrize(
    ("name", "held_out", "split"),
    [
        ("hook", "auto", "test"),
        ("hook", "val", "val"),
        ("hook", "test", "test"),
        ("lego", "auto", "val"),
        ("lego", "test", "test"),
    ],
)
def test_the_split_to_evaluate_on_is_the_published_one_or_the_one_named(tmp_path, name, held_out, split):
    root = write_dnerf(tmp_path / name)
    evaluation = dataset_of(root, "test", held_out=held_out, num_random_points=10)
    assert names(evaluation) == [f"{split}/r_{k:03d}.png" for k in range({"val": 2, "test": 3}[split])]
    assert names(dataset_of(root, num_random_points=10)) == [f"train/r_{k:03d}.png" for k in range(4)]


def test_a_split_that_is_not_there_is_refused(tmp_path):
    root = write_dnerf(tmp_path / "hook", (("train", 4), ("test", 3)))
    with pytest.raises(CaptureError, match=r"no frames of the split 'val' for --held-out; it has: train, test"):
        frames_of(root, held_out="val")


def test_where_all_views_train_some_are_held_out(tmp_path):
    root = write_dnerf(tmp_path / "hook", (("train", 8),))
    assert len(dataset_of(root, "val", eval_interval=4, num_random_points=10)) == 2


def test_transparent_pixels_are_white_for_every_method_and_ours_is_told(tmp_path):
    outputs = outputs_of(write_dnerf(tmp_path / "hook"), num_random_points=10)
    dataset = Page4DDataset(outputs)
    image = dataset.get_data(0, "uint8")["image"]
    assert tuple(image.shape) == (HEIGHT, WIDTH, 3)
    assert (image[:5] == 255).all()
    assert dataset.metadata["background_color"].tolist() == [1, 1, 1]
    assert torch.equal(InputDataset(outputs).get_data(0)["image"], dataset.get_data(0)["image"])


@pytest.mark.parametrize("chosen", ["random", "white"])
def test_renders_have_the_background_of_the_images(chosen):
    seeds = (torch.rand(10, 3), torch.zeros(10, 3, dtype=torch.uint8))
    config = Page4DGaussiansModelConfig(background_color=chosen, use_deformation=False)
    model = config.setup(
        scene_box=None, num_train_data=2, metadata={"background_color": torch.ones(3)}, seed_points=seeds
    )
    for training in (True, False):
        assert model.train(training)._get_background_color().tolist() == [1, 1, 1]


def test_a_background_that_the_images_are_not_laid_over_is_refused(tmp_path):
    metadata = dataset_of(write_dnerf(tmp_path / "hook"), num_random_points=10).metadata
    config = Page4DGaussiansModelConfig(background_color="black")
    with pytest.raises(Page4DError, match=r"background-color black does not fit the data, .* colour 1 1 1; leave"):
        config.setup(scene_box=None, num_train_data=2, metadata=metadata)


# --------------------------------------------------------------------------------------------------------------------
# NVIDIA Dynamic Scenes


def test_other_cameras_of_each_instant_are_evaluated_on_with_their_masks(tmp_path):
    root = write_nvidia(tmp_path / "Balloon1-2", count=4)
    train, val = map(Page4DDataset, splits_of(root, num_random_points=10))
    torch.testing.assert_close(train.cameras.times.flatten(), torch.arange(4) / 3)
    torch.testing.assert_close(val.cameras.times.flatten(), (torch.arange(4) / 3).repeat_interleave(3))
    assert [int(train.get_data(i)["motion_mask"].sum()) for i in range(4)] == [0, HEIGHT, 2 * HEIGHT, 3 * HEIGHT]
    assert int(val.get_data(7)["motion_mask"].sum()) == 2 * HEIGHT


# --------------------------------------------------------------------------------------------------------------------
# nerfstudio's transforms.json


@pytest.mark.parametrize("downscale", [None, 2])
def test_pixels_that_mask_path_leaves_out_are_left_out_of_the_batches_mask(tmp_path, downscale):
    write_nerfstudio(tmp_path)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[:, WIDTH // 2 :] = 255
    save(mask, tmp_path / "masks/0.png")
    file = tmp_path / "transforms.json"
    content = json.loads(file.read_text())
    content["frames"][0]["mask_path"] = "masks/0.png"
    file.write_text(json.dumps(content))
    outputs = outputs_of(tmp_path, downscale_factor=downscale)

    first, second = (Page4DDataset(outputs).get_data(index) for index in range(2))

    assert first["mask"].dtype == torch.bool
    assert first["mask"].shape == (*first["image"].shape[:2], 1)
    half = first["mask"].shape[1] // 2
    assert first["mask"][:, half:].all()
    assert not first["mask"][:, :half].any()
    assert "mask" not in second


@pytest.mark.parametrize("points", ["depth", "page4d"])
def test_no_gaussian_starts_at_a_pixel_that_a_mask_leaves_out(tmp_path, monkeypatch, points):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[:, WIDTH // 2 :] = 255
    root = write_nerfstudio(tmp_path / "processed", depth=True, mask=mask)
    page4d = PerfectPage4D(monkeypatch, tmp_path, root)

    frames = frames_of(root, points=points, model=page4d.model, confidence_percentile=0)

    # PAGE-4D's maps have half the image's size.
    assert len(frames.points) == {"depth": 4 * HEIGHT * WIDTH // 2, "page4d": 4 * 15 * 10}[points]
    for i in frames.train:
        own = frames.points.positions[frames.points.times == np.float32(frames.times[i])].astype(np.float64)
        in_camera = own @ frames.extrinsics[i, :, :3].T + frames.extrinsics[i, :, 3]
        columns = in_camera[:, 0] / in_camera[:, 2] * frames.intrinsics[i, 0, 0] + frames.intrinsics[i, 0, 2]
        assert columns.min() > WIDTH / 2


def test_frames_are_held_out_in_the_order_of_time_whatever_the_file_s(tmp_path):
    path = write_dnerf(tmp_path / "scene", counts=(("train", 9),)) / "transforms_train.json"
    meta = json.loads(path.read_text())
    meta["frames"] = [meta["frames"][i] for i in (4, 8, 1, 5, 0, 3, 7, 2, 6)]
    path.write_text(json.dumps(meta))
    train, val = splits_of(tmp_path / "scene", num_random_points=10)
    assert val.cameras.times.flatten().tolist() == [0.5]
    assert train.cameras.times.flatten().tolist() == [i / 8 for i in range(9) if i != 4]


def test_times_and_splits_are_those_of_transforms_json(tmp_path):
    root = write_nerfstudio(tmp_path / "processed")
    expected = {"auto": 5, "test": 5, "val": 4}
    for held_out, frame in expected.items():
        train, val = splits_of(root, held_out=held_out, num_random_points=10)
        torch.testing.assert_close(train.cameras.times.flatten(), torch.tensor([0, 1, 4, 9]) / 25)
        torch.testing.assert_close(val.cameras.times.flatten(), torch.tensor([frame**2]) / 25)
        assert [path.name for path in val.image_filenames] == [f"{frame}.png"]


def test_points_of_a_world_in_geographic_coordinates_keep_their_places_before_the_cameras(tmp_path):
    """Millions of metres from its origin, where float32 has steps of half a metre."""
    offset = np.array([4_075_000.3, 931_000.7, 4_801_000.1])
    points = np.random.default_rng(0).uniform(-1, 1, (50, 3)) + offset
    root = write_nerfstudio(tmp_path / "earth")
    meta = json.loads((root / "transforms.json").read_text())
    for frame in meta["frames"]:
        for row, shift in zip(frame["transform_matrix"], offset, strict=False):
            row[3] += shift
    (root / "transforms.json").write_text(json.dumps(meta | {"ply_file_path": "points.ply"}))
    vertices = np.array([tuple(point) for point in points], [(axis, "<f8") for axis in "xyz"])
    PlyData([PlyElement.describe(vertices, "vertex")]).write(root / "points.ply")

    outputs = outputs_of(root)
    center = outputs.cameras.camera_to_worlds[0, :, 3].numpy()
    transform = outputs.dataparser_transform.numpy()[:, :3]
    seen = (outputs.metadata["points3D_xyz"].numpy() - center) @ transform / outputs.dataparser_scale
    expected = points - np.array(meta["frames"][0]["transform_matrix"])[:3, 3]
    np.testing.assert_allclose(seen, expected, atol=1e-5)


# --------------------------------------------------------------------------------------------------------------------
# DyCheck


def test_the_phones_that_stand_still_are_evaluated_on_at_their_instants(tmp_path):
    root = write_dycheck(tmp_path / "spin")
    train, val = splits_of(root)
    assert [path.stem for path in val.image_filenames] == ["1_00001", "1_00003", "2_00001", "2_00003"]
    torch.testing.assert_close(val.cameras.times.flatten(), torch.tensor([1, 3, 1, 3]) / 3)
    torch.testing.assert_close(train.cameras.times.flatten(), torch.arange(4) / 3)


def test_without_points_its_depth_gives_them(tmp_path):
    """They lie on the wall, in its colours, at the times of the training frames, and nowhere the lidar missed."""
    root = write_dycheck(tmp_path / "spin")
    outputs = outputs_of(root, orientation_method="none", max_points=1200)
    positions, rgb = outputs.metadata["points3D_xyz"].double().numpy(), outputs.metadata["points3D_rgb"].numpy()
    transform = outputs.dataparser_transform.double().numpy()
    scaled = (positions / outputs.dataparser_scale - transform[:, 3]) @ transform[:, :3]
    points = scaled / 0.4 + np.array([0.2, -0.1, 1.0])
    assert len(points) == 1200
    np.testing.assert_allclose(points[:, 2], WALL, atol=1e-4)
    assert np.abs(colour(points).astype(float) - rgb).max() <= 1
    times = outputs.metadata["points3D_times"]
    assert np.unique((3 * times).round(), return_counts=True)[1].tolist() == [300] * 4
    unthinned = outputs_of(root).metadata["points3D_xyz"]
    assert len(unthinned) == 4 * HEIGHT * (WIDTH - 4)


def test_points_of_depth_know_from_masks_whether_they_move(tmp_path):
    root = write_dycheck(tmp_path / "spin")
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[:, WIDTH // 2 :] = 255
    for i in range(4):
        save(mask, root / "motion_mask/1x" / f"0_{i:05d}.png")
    motion = outputs_of(root).metadata["points3D_motion"]
    assert motion.sum() == 4 * HEIGHT * WIDTH // 2
    assert set(motion.tolist()) == {0.0, 1.0}


def test_its_points_go_before_its_depth(tmp_path):
    root = write_dycheck(tmp_path / "spin")
    np.save(root / "points.npy", np.random.default_rng(0).normal(size=(7, 3)))
    assert len(outputs_of(root).metadata["points3D_xyz"]) == 7


def test_depth_that_is_known_nowhere_is_refused(tmp_path):
    root = write_dycheck(tmp_path / "spin")
    for path in (root / "depth/1x").iterdir():
        np.save(path, np.full((HEIGHT, WIDTH), np.nan, np.float32))
    with pytest.raises(Page4DError, match=r"The depth of .*spin is known nowhere; pass --points page4d or random"):
        frames_of(root)


def test_what_held_out_frames_share_with_the_training_comes_with_them(tmp_path):
    root = write_dycheck(tmp_path / "spin")
    covisible = dataset_of(root, "val").get_data(2)["covisible_mask"]
    assert (covisible.dtype, tuple(covisible.shape)) == (torch.bool, (HEIGHT, WIDTH, 1))
    assert covisible[:20].all()
    assert not covisible[20:].any()
    assert "covisible_mask" not in dataset_of(root).get_data(0)
