"""Depth that a training is held to: where it comes from, in which unit, and that it is learned."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from perfect_page4d import DEPTH, PerfectPage4D, outputs_of
from small_captures import write_capture
from small_gaussians import HEIGHT, WIDTH, cameras, make_model, optimizers_of, train_step

from page4d_hf.captures import read_capture
from page4d_hf.synthetic import write_synthetic_capture
from page4d_nerfstudio.configs import page4d_4dgs
from page4d_nerfstudio.data.dataset import Page4DDataset
from page4d_nerfstudio.gaussians.model import ModelError, Page4DGaussiansModelConfig


@pytest.fixture
def capture(tmp_path):
    return write_capture(tmp_path / "capture")


@pytest.fixture
def page4d(monkeypatch, tmp_path, capture):
    read = read_capture(capture)
    return PerfectPage4D(monkeypatch, tmp_path, dict(zip(read.frame_ids, read.extrinsics, strict=True)))


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory):
    out = tmp_path_factory.mktemp("synthetic") / "scene"
    return write_synthetic_capture(out, num_frames=4, width=24, height=18, supersampling=1, num_points=50)


def depth_of(outputs, scale_factor=1.0):
    dataset = Page4DDataset(outputs, scale_factor)
    dataset.with_depth = True
    return [dataset.get_data(i)["depth"] for i in range(len(dataset))]


def assert_plane(depths, distance):
    """A plane before each camera, but for the one corner that the network does not know."""
    for depth in depths:
        known = depth > 0
        assert 0.9 < known.float().mean() < 1
        torch.testing.assert_close(depth[known], torch.full_like(depth[known], distance), atol=1e-4, rtol=1e-5)


def test_a_capture_s_own_depth_is_that_of_its_files_in_the_unit_of_the_cameras(synthetic):
    outputs = outputs_of(synthetic)
    depths = depth_of(outputs)
    assert len(depths) == 4
    for path, depth in zip(outputs.image_filenames, depths, strict=True):
        stored = np.load(synthetic / "depth" / "1x" / f"{path.stem}.npy")
        expected = torch.from_numpy(stored) * read_capture(synthetic).depth_scale * outputs.dataparser_scale
        torch.testing.assert_close(depth, expected, rtol=1e-5, atol=0)


def test_page4d_s_depth_has_the_unit_of_the_capture_s_cameras(capture, page4d):
    outputs = outputs_of(capture, points="page4d", model=page4d.model)
    assert_plane(depth_of(outputs), DEPTH * outputs.dataparser_scale)


@pytest.mark.parametrize("held_out_cameras", ["page4d", "capture"])
def test_page4d_s_depth_has_the_unit_of_its_own_cameras(capture, page4d, held_out_cameras):
    options = {"cameras": "page4d", "model": page4d.model, "held_out_cameras": held_out_cameras}
    outputs = outputs_of(capture, **options)
    assert_plane(depth_of(outputs), page4d.world.scale * DEPTH * outputs.dataparser_scale)


def test_a_scene_folder_has_depth(capture, page4d, tmp_path):
    outputs_of(capture / "rgb" / "1x", model=page4d.model)
    (scene,) = (tmp_path / "cache" / "reconstructions").iterdir()
    outputs = outputs_of(scene)
    assert_plane(depth_of(outputs), page4d.world.scale * DEPTH * outputs.dataparser_scale)


def test_depth_follows_the_size_of_the_camera(synthetic):
    (full, *_), (half, *_) = depth_of(outputs_of(synthetic)), depth_of(outputs_of(synthetic), 0.5)
    assert half.shape == (9, 12, 1)
    assert set(half.flatten().tolist()) <= set(full.flatten().tolist())  # none between a thing and what is behind it


def test_depth_is_read_only_where_a_training_asks_for_it(synthetic):
    assert "depth" not in Page4DDataset(outputs_of(synthetic)).get_data(0)


def pipeline_of(data, weight):
    config = deepcopy(page4d_4dgs.config.pipeline)
    config.datamanager.dataparser.data = data
    config.model.depth_weight = weight
    return config.setup(device="cpu", test_mode="val")


@pytest.mark.parametrize("weight", [0.0, 0.1])
def test_the_weight_of_depth_has_it_read(synthetic, weight):
    assert pipeline_of(synthetic, weight).datamanager.train_dataset.with_depth == (weight > 0)


def test_a_weight_of_depth_is_refused_where_there_is_none(capture, capsys):
    with pytest.raises(SystemExit):
        pipeline_of(capture, 0.1)
    assert "needs depth, and the data have none" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("extent", [0.0, -1.0, float("nan"), float("inf")])
def test_an_extent_that_is_none_is_refused(extent):
    with pytest.raises(ModelError, match="scene_extent is a length above 0"):
        Page4DGaussiansModelConfig(scene_extent=extent).check()


@pytest.mark.slow
def test_depth_is_learned():
    model = make_model(n=200, use_deformation=False, depth_weight=1.0)
    optimizers = optimizers_of(model)
    image, depth = torch.full((HEIGHT, WIDTH, 3), 0.5), torch.full((HEIGHT, WIDTH, 1), 4.5)
    losses = [train_step(model, optimizers, step, cameras([0.5]), image, depth=depth) for step in range(60)]
    assert losses[-1]["depth_loss"] < 0.5 * losses[0]["depth_loss"]


def test_in_the_static_stage_the_depth_of_what_moves_does_not_count():
    moving = torch.zeros(HEIGHT, WIDTH, 1, dtype=torch.bool)
    moving[:, : WIDTH // 2] = True
    depth = torch.full((HEIGHT, WIDTH, 1), 4.0)
    losses = []
    for each in (depth, torch.where(moving, 400.0, depth)):
        model = make_model(motion=(torch.arange(40) < 20).float(), depth_weight=1.0)
        image, maps = torch.zeros(HEIGHT, WIDTH, 3), {"depth": each, "motion_mask": moving}
        losses.append(train_step(model, optimizers_of(model), 0, cameras([0.5]), image, **maps)["depth_loss"])
    assert losses[0] == losses[1] > 0
