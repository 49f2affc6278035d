"""Metric scale by a depth model of transformers: small ones with random weights, and one that says what it is told."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from image_folders import write_images
from small_networks import small_network
from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config, DPTImageProcessor

from page4d_hf.cli import main
from page4d_hf.errors import CheckpointError, Page4DError
from page4d_hf.frames import Frames, read_frames
from page4d_hf.reconstruction.metric import load_metric_model, metric_scale
from page4d_hf.reconstruction.reconstruct import reconstruct
from page4d_hf.scene import read_scene

SIZE = (40, 56)


def frames(count: int = 3) -> Frames:
    images = np.random.default_rng(0).integers(0, 255, (count, *SIZE, 3), dtype=np.uint8)
    return read_frames(list(images))


def save_depth_model(folder, kind: str = "metric"):
    backbone = Dinov2Config(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
        out_features=["stage1", "stage2"],
        reshape_hidden_states=False,
        apply_layernorm=True,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=16,
        reassemble_factors=[1, 0.5],
        neck_hidden_sizes=[8, 8],
        fusion_hidden_size=8,
        head_hidden_size=4,
        depth_estimation_type=kind,
        max_depth=20,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        DepthAnythingForDepthEstimation(config).save_pretrained(folder)
    DPTImageProcessor(size={"height": 28, "width": 28}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def metric_model(tmp_path_factory):
    return save_depth_model(tmp_path_factory.mktemp("metric"))


def says(depth: np.ndarray):
    """A model that gives one depth map, whatever it sees."""
    return lambda image: {"predicted_depth": torch.from_numpy(depth.astype(np.float32))}


def test_the_scale_is_that_of_confident_static_pixels_alone():
    depth = np.random.default_rng(1).uniform(1, 5, (20, 28)).astype(np.float32)
    metric = 2.5 * depth
    confidence, motion = np.full(depth.shape, 2.0), np.zeros(depth.shape)
    metric[:6], confidence[:6] = 40.0, 1.0  # not sure; as many as are
    metric[6:12], motion[6:12] = 90.0, 0.9  # moving
    metric[12, :], depth[13, :] = np.nan, np.nan
    full = np.repeat(np.repeat(metric, 2, axis=0), 2, axis=1)
    found = metric_scale(says(full), frames(), [depth] * 3, [confidence] * 3, [motion] * 3)
    assert found.scale == pytest.approx(2.5, rel=1e-5)
    assert (found.frames, found.spread) == (3, 0)
    everything = metric_scale(says(full), frames(), [depth] * 3, [np.ones_like(depth)] * 3, None)
    assert everything.scale != pytest.approx(2.5, rel=1e-5)


def test_one_frame_in_three_that_is_wrong_does_not_change_the_scale():
    depth = np.full((20, 28), 2.0, np.float32)
    answers = iter((6.0, 90.0, 6.0))

    def model(image):
        return {"predicted_depth": torch.full(SIZE, next(answers))}

    found = metric_scale(model, frames(), [depth] * 3, [np.ones_like(depth)] * 3, None)
    assert found.scale == pytest.approx(3.0)


def test_a_clip_in_which_everything_moves_is_refused():
    depth = np.ones((20, 28), np.float32)
    with pytest.raises(Page4DError, match="No frame has 100 static pixels of known depth"):
        metric_scale(says(np.ones(SIZE)), frames(), [depth] * 3, [depth] * 3, [depth] * 3)


def test_a_folder_without_a_depth_model_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"Cannot load .* for metric depth; name a folder"):
        load_metric_model(tmp_path, torch.device("cpu"))


def test_a_model_of_relative_depth_is_refused(tmp_path):
    folder = save_depth_model(tmp_path / "relative", "relative")
    with pytest.raises(Page4DError, match="is relative, and has no metres; name a metric model"):
        load_metric_model(folder, torch.device("cpu"))


@pytest.mark.slow
@pytest.mark.parametrize("points", ["depth", "world"])
def test_cameras_depth_and_points_are_scaled_alike(points, metric_model):
    options = {"points": points, "refine": "off", "motion": "off", "keep_point_maps": True}
    plain = reconstruct(frames(), small_network(), **options)
    metric = reconstruct(frames(), small_network(), metric_depth=metric_model, **options)
    scale = metric.info["metric_depth"]["scale"]
    assert metric.scale == "metres"
    assert plain.scale == "arbitrary"
    assert abs(np.log(scale)) > 0.1
    np.testing.assert_array_equal(metric.extrinsics[:, :, :3], plain.extrinsics[:, :, :3])
    np.testing.assert_allclose(metric.extrinsics[:, :, 3], scale * plain.extrinsics[:, :, 3])
    np.testing.assert_allclose(metric.depth, scale * np.stack(plain.depth), rtol=1e-6)
    np.testing.assert_allclose(metric.points, scale * plain.points, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(metric.point_maps, scale * np.stack(plain.point_maps), rtol=1e-4, atol=1e-4)
    model = load_metric_model(metric_model, torch.device("cpu"))
    again = metric_scale(model, metric.frames, metric.depth, metric.depth_conf, metric.motion)
    assert again.scale == pytest.approx(1, rel=1e-4)


@pytest.mark.slow
def test_the_command_writes_a_scene_in_metres(tmp_path, model_folder, metric_model, capsys):
    images, scene = write_images(tmp_path / "images", frames().images), tmp_path / "scene"
    options = ("--model", model_folder, "--output", scene, "--metric-depth", metric_model)
    main(["reconstruct", *map(str, (images, *options))])
    assert f"Metres by {metric_model}" in capsys.readouterr().out
    assert read_scene(scene).scale == "metres"
    assert json.loads((scene / "page4d" / "info.json").read_text())["metric_depth"]["frames"] == 3
