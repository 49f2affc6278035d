"""Averages over images that do not all have the same metrics, and images kept without CUDA."""

import json
from types import SimpleNamespace

import pytest
import torch
from nerfstudio.cameras.camera_optimizers import CameraOptimizerConfig
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.datamanagers.full_images_datamanager import FullImageDatamanager
from small_gaussians import bare_pipeline, half_moving, make_model

from page4d_hf.errors import Page4DError
from page4d_nerfstudio.data.datamanager import Page4DDatamanager
from page4d_nerfstudio.engine.pipeline import Page4DPipeline, Page4DPipelineConfig


class StubModel(torch.nn.Module):
    """Renders nothing, and gives each image the metrics that its batch holds."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        super().__init__()
        self.camera_optimizer = CameraOptimizerConfig(mode="off").setup(num_cameras=2, device="cpu")

    def get_outputs_for_camera(self, camera):
        return {}

    def get_image_metrics_and_images(self, outputs, batch):
        return dict(batch["metrics"]), {"img": torch.zeros(4, 6, 3)}


@pytest.fixture
def pipeline() -> Page4DPipeline:
    return bare_pipeline(StubModel())


def loader(*metrics: dict[str, float]) -> list:
    return [
        (Cameras(torch.eye(4)[None, :3], 5.0, 5.0, 3.0, 2.0, width=6, height=4), {"metrics": each}) for each in metrics
    ]


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


def with_views(pipeline, *, views: int = 8, same_views: bool = False) -> Page4DPipeline:
    held_out = loader({"psnr": 20.0, "lpips": 0.5, "mpsnr": 18.0}, {"psnr": 22.0, "lpips": 0.3})
    trained = loader({"psnr": 30.0, "lpips": 0.1, "psnr_moving": 25.0}, {"psnr": 26.0, "lpips": 0.2})
    pipeline.config = Page4DPipelineConfig(num_train_views_in_eval=views)
    pipeline.datamanager = SimpleNamespace(
        fixed_indices_eval_dataloader=held_out,
        training_views=lambda count: trained[:count],
        eval_dataset=SimpleNamespace(image_filenames=["a"]),
        train_dataset=SimpleNamespace(image_filenames=["a", "b"] if same_views else ["b"]),
    )
    return pipeline


def test_the_gap_is_what_training_views_have_more_than_held_out_ones(pipeline):
    averages = with_views(pipeline).get_average_eval_image_metrics(get_std=True)

    assert (averages["psnr"], averages["train_psnr"], averages["gap_psnr"]) == (21.0, 28.0, 7.0)
    assert averages["gap_lpips"] == pytest.approx(-0.25)
    compared = {name for name in averages if name.startswith(("train_", "gap_"))}
    assert compared == {"train_psnr", "gap_psnr", "train_lpips", "gap_lpips"}


def test_so_many_training_views_are_evaluated_as_asked_for(pipeline):
    assert with_views(pipeline, views=1).get_average_eval_image_metrics()["train_psnr"] == 30.0
    assert "train_psnr" not in with_views(pipeline, views=0).get_average_eval_image_metrics()


def test_where_no_view_is_held_out_there_is_no_gap(pipeline):
    assert "gap_psnr" not in with_views(pipeline, same_views=True).get_average_eval_image_metrics()


def test_training_views_are_not_among_the_images_written(pipeline, tmp_path):
    with_views(pipeline).get_average_eval_image_metrics(output_path=tmp_path)

    assert len(list(tmp_path.iterdir())) == 2


def test_training_views_are_rendered_with_their_refined_poses(pipeline):
    rendered = []
    pipeline._model.camera_optimizer.apply_to_camera = lambda camera: camera.camera_to_worlds + 1.0
    pipeline._model.get_outputs_for_camera = lambda camera: rendered.append(camera.camera_to_worlds[0, 0, 3].item())

    with_views(pipeline).get_average_eval_image_metrics()

    assert rendered == [0.0, 0.0, 1.0, 1.0]


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


@pytest.mark.parametrize(
    ("made", "warned"),
    [
        (make_model, True),
        (half_moving, False),  # a motion mask says what moves
        (lambda: make_model(use_deformation=False), False),
    ],
)
def test_few_views_without_a_motion_mask_are_warned_of(pipeline, capsys, made, warned):
    pipeline._model = made()
    pipeline._warn_of_few_views()
    assert ("no motion mask: a deformation of all Gaussians may cost more than it brings" in said(capsys)) == warned


def said(capsys) -> str:
    """What was printed, without the terminal's line breaks."""
    return " ".join(capsys.readouterr().out.split())
