"""Averages over images that do not all have the same metrics, and images kept without CUDA."""

import json

import pytest
import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.datamanagers.full_images_datamanager import FullImageDatamanager

from page4d_hf.errors import Page4DError
from page4d_nerfstudio.datamanager import Page4DDatamanager
from page4d_nerfstudio.pipeline import Page4DPipeline, Page4DPipelineConfig


class StubModel(torch.nn.Module):
    """Renders nothing, and gives each image the metrics that its batch holds."""

    device = torch.device("cpu")

    def get_outputs_for_camera(self, camera):
        return {}

    def get_image_metrics_and_images(self, outputs, batch):
        return dict(batch["metrics"]), {"img": torch.zeros(4, 6, 3)}


@pytest.fixture
def pipeline() -> Page4DPipeline:
    bare = Page4DPipeline.__new__(Page4DPipeline)
    torch.nn.Module.__init__(bare)
    bare._model = StubModel()
    return bare


def loader(*metrics: dict[str, float]) -> list:
    camera = Cameras(torch.eye(4)[None, :3], 5.0, 5.0, 3.0, 2.0, width=6, height=4)
    return [(camera, {"metrics": each}) for each in metrics]


def test_each_metric_is_the_mean_over_the_images_that_have_it(pipeline):
    images = loader({"psnr": 20.0}, {"psnr": 30.0, "psnr_moving": 10.0}, {"psnr": 40.0, "psnr_moving": 16.0})

    averages = pipeline.get_average_image_metrics(images, "eval")

    assert averages["psnr"] == 30.0
    assert averages["psnr_moving"] == 13.0


def test_deviations_are_numbers_even_of_a_single_image(pipeline):
    averages = pipeline.get_average_image_metrics(
        loader({"psnr": 20.0}, {"psnr": 24.0, "psnr_moving": 10.0}), "eval", get_std=True
    )

    assert averages["psnr_std"] == pytest.approx(8.0**0.5)
    assert averages["psnr_moving_std"] == 0.0
    assert "NaN" not in json.dumps(averages)


def test_the_speed_of_rendering_is_among_the_averages(pipeline):
    averages = pipeline.get_average_image_metrics(loader({"psnr": 20.0}), "eval")

    assert averages["num_rays_per_sec"] == pytest.approx(24 * averages["fps"])


def test_each_image_is_written_on_request(pipeline, tmp_path):
    pipeline.get_average_image_metrics(loader({"psnr": 1.0}, {"psnr": 2.0}), "eval", output_path=tmp_path / "images")

    assert sorted(file.name for file in (tmp_path / "images").iterdir()) == [
        "eval_img_0000.png",
        "eval_img_0001.png",
    ]


def test_wrong_input_ends_the_command_with_one_sentence(capsys):
    class Broken:
        def __init__(self, config, **kwargs):
            raise Page4DError("expected frames, got none: name another folder.")

    with pytest.raises(SystemExit) as ended:
        Page4DPipelineConfig(_target=Broken).setup(device="cpu")

    assert ended.value.code == 1
    assert "expected frames, got none" in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="with CUDA, images may be pinned")
def test_images_are_not_pinned_where_there_is_no_cuda(monkeypatch):
    asked = []
    monkeypatch.setattr(
        FullImageDatamanager, "_load_images", lambda self, split, cache_images_device: asked.append(cache_images_device)
    )

    Page4DDatamanager.__new__(Page4DDatamanager)._load_images("train", "cpu")

    assert asked == ["gpu"]
