"""A small model of Gaussians, cameras that see it, its optimizers, and a step of training."""

import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.scene_box import SceneBox
from nerfstudio.engine.optimizers import Optimizers

from page4d_nerfstudio.configs import page4d_4dgs
from page4d_nerfstudio.engine.pipeline import Page4DPipeline, Page4DPipelineConfig
from page4d_nerfstudio.engine.trainer import learning_rate_factor, scale_group
from page4d_nerfstudio.gaussians.deformation import DeformationConfig
from page4d_nerfstudio.gaussians.model import Page4DGaussiansModel, Page4DGaussiansModelConfig

WIDTH, HEIGHT = 32, 24
RUN = 170  # 30 coarse steps


def small_field(**changes) -> DeformationConfig:
    return DeformationConfig(**({"features": 4, "resolution": 8, "multires": (1, 2), "width": 16} | changes))


def make_model(
    n: int = 40,
    motion: torch.Tensor | None = None,
    run_length: int = RUN,
    times: torch.Tensor | None = None,
    instants: int | None = None,
    background: torch.Tensor | None = None,
    tracks: dict[str, torch.Tensor] | None = None,
    **options,
):
    torch.manual_seed(0)
    points, rgb = torch.rand(n, 3) * 2 - 1, torch.randint(0, 255, (n, 3), dtype=torch.uint8)
    options.setdefault("deformation", small_field())
    metadata = {
        "points3D_motion": motion,
        "points3D_times": times,
        "instants": instants,
        "background_color": background,
        **(tracks or {}),
    }
    return Page4DGaussiansModelConfig(run_length=run_length, **options).setup(
        scene_box=SceneBox(aabb=torch.tensor([[-1.0] * 3, [1.0] * 3])),
        num_train_data=10,
        metadata={name: values for name, values in metadata.items() if values is not None},
        seed_points=(points, rgb),
    )


def cameras(times: list[float] | None = None, n: int = 1) -> Cameras:
    """Cameras 4 units in front of the origin, looking at it."""
    poses = torch.eye(4)[None, :3].repeat(n if times is None else len(times), 1, 1)
    poses[:, 2, 3] = 4.0
    clock = None if times is None else torch.tensor(times)[:, None]
    return Cameras(poses, 30.0, 30.0, WIDTH / 2, HEIGHT / 2, width=WIDTH, height=HEIGHT, times=clock)


def fine(model: Page4DGaussiansModel, trained: bool = True) -> Page4DGaussiansModel:
    """The model in its fine stage; `trained`: with a deformation that is no longer the identity."""
    model.step = model.schedule.coarse_steps
    if trained and model.deformation is not None:
        torch.manual_seed(1)
        for parameter in model.deformation.last.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        for planes in model.deformation.hexplane.time:
            torch.nn.init.uniform_(planes)
    return model


def optimizers_of(model: Page4DGaussiansModel) -> Optimizers:
    """The optimizers that the trainer makes."""
    length = model.config.run_length
    groups = {
        name: scale_group(
            group, learning_rate_factor(name, model.scene_extent, length), length, model.config.coarse_steps
        )
        for name, group in page4d_4dgs.config.optimizers.items()
    }
    return Optimizers(groups, model.get_param_groups())


def train_step(model, optimizers: Optimizers, step: int, camera: Cameras, image: torch.Tensor, **batch) -> dict:
    """The losses of a step of training; `batch` is what there is beside the image."""
    model.train()
    model.step_cb(optimizers, step)
    optimizers.zero_grad_all()
    camera.metadata = camera.metadata or {"cam_idx": 0}
    losses = model.get_loss_dict(model(camera), {"image": image} | batch)
    sum(losses.values()).backward()
    for optimizer in optimizers.optimizers.values():
        optimizer.step()
    model.step_post_backward(step)
    return losses


def bare_pipeline(model, datamanager=None, **options) -> Page4DPipeline:
    """A pipeline of the parts that are given, which has read no data."""
    bare = Page4DPipeline.__new__(Page4DPipeline)
    torch.nn.Module.__init__(bare)
    bare._model, bare.datamanager = model, datamanager
    bare.config = Page4DPipelineConfig(**options)
    return bare


def half_moving(**options) -> Page4DGaussiansModel:
    """Of 40 Gaussians the first 20 move."""
    return make_model(motion=(torch.arange(40) < 20).float(), **options)
