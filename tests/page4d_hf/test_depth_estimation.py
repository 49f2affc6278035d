"""Depth of single images, as transformers' depth models and its pipeline give it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModel, AutoModelForDepthEstimation, pipeline

from page4d_hf import Page4DForDepthEstimation, Page4DImageProcessor, Page4DModel
from page4d_hf.errors import Page4DError


def picture(height: int, width: int) -> Image.Image:
    rng = np.random.default_rng(height * width)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def folder(tiny_model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tiny_model(enable_track=True).save_pretrained(folder)
    Page4DImageProcessor(size=28).save_pretrained(folder)
    return folder


def test_the_pipeline_takes_one_image_and_a_list_of_frames(folder):
    estimator = pipeline("depth-estimation", model=str(folder), device="cpu")
    frames = [picture(30, 40), picture(30, 40), picture(60, 20)]  # the last is cropped

    one, several = estimator(frames[0]), estimator(frames)
    batched = estimator(frames[:2], batch_size=2)

    assert [depth["predicted_depth"].shape for depth in several] == [(30, 40), (30, 40), (60, 20)]
    assert all((depth["predicted_depth"] > 0).all() for depth in several)
    assert several[2]["depth"].size == (20, 60)
    torch.testing.assert_close(one["predicted_depth"], several[0]["predicted_depth"])
    for found, expected in zip(batched, several[:2], strict=True):
        torch.testing.assert_close(found["predicted_depth"], expected["predicted_depth"])


@pytest.mark.slow
@torch.no_grad()
def test_every_image_is_a_clip_of_its_own(folder):
    whole, single = AutoModel.from_pretrained(folder), AutoModelForDepthEstimation.from_pretrained(folder)
    images = torch.rand(1, 3, 3, 28, 42, generator=torch.Generator().manual_seed(0))

    outputs = single(images)

    assert (type(whole), type(single)) == (Page4DModel, Page4DForDepthEstimation)
    assert outputs.predicted_depth.shape == outputs.confidence.shape == (3, 28, 42)
    expected = whole(images.transpose(0, 1))
    torch.testing.assert_close(outputs.predicted_depth, expected.depth[:, 0, ..., 0])
    torch.testing.assert_close(single(images[0])[0], outputs.predicted_depth)


@pytest.mark.slow
def test_only_the_depth_head_is_loaded_and_saved(folder, tmp_path):
    model, info = Page4DForDepthEstimation.from_pretrained(folder, output_loading_info=True)
    model.save_pretrained(tmp_path)
    again, more = AutoModel.from_pretrained(tmp_path, output_loading_info=True)

    for loaded in (info, more):
        assert not any((*loaded["unexpected_keys"], *loaded["missing_keys"]))
    assert [name for name, _ in again.named_children()] == [name for name, _ in model.named_children()]
    assert model.camera_head is model.point_head is model.track_head is None


@torch.no_grad()
def test_depth_comes_back_at_any_size_without_being_told_more(folder):
    processor, model = Page4DImageProcessor.from_pretrained(folder), Page4DForDepthEstimation.from_pretrained(folder)
    inputs = processor(picture(60, 20), return_tensors="pt")
    outputs = model(**inputs)

    (own,) = processor.post_process_depth_estimation(outputs)
    (found,) = processor.post_process_depth_estimation(outputs, [(60, 20)])
    (larger,) = processor.post_process_depth_estimation(outputs, torch.tensor([[120, 40]]))

    assert own["predicted_depth"].shape == inputs.pixel_values.shape[-2:]
    assert larger["predicted_depth"].shape == (120, 40)
    seen = found["confidence"].isfinite()
    assert seen.any(1).sum() < 60  # the rest was cropped
    first = int(seen.any(1).nonzero()[0])
    assert torch.equal(found["predicted_depth"][0], found["predicted_depth"][first - 1])


@pytest.mark.slow
@torch.no_grad()
def test_what_does_not_tell_the_place_of_the_images_is_refused(folder):
    processor, model = Page4DImageProcessor.from_pretrained(folder), Page4DForDepthEstimation.from_pretrained(folder)
    inputs = processor(picture(30, 40), return_tensors="pt")

    with pytest.raises(ValueError, match="a target size for each of 1 images, got 2"):
        processor.post_process_depth_estimation(model(**inputs), [(30, 40)] * 2)
    with pytest.raises(ValueError, match="call model\\(\\*\\*inputs\\) with all"):
        processor.post_process_depth_estimation(model(inputs.pixel_values), [(30, 40)])
    with pytest.raises(ValueError, match="there is post_process_depth"):
        processor.post_process_depth_estimation(Page4DModel.from_pretrained(folder)(**inputs), [(30, 40)])


def test_a_network_without_a_depth_head_estimates_no_depth(tiny_config):
    with pytest.raises(Page4DError, match="built with enable_depth=False"):
        Page4DForDepthEstimation(tiny_config(enable_depth=False))
