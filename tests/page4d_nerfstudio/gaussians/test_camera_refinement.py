"""nerfstudio's camera optimizer with this model: poses that are wrong come closer to the truth."""

import math

import pytest
import torch
from nerfstudio.cameras.camera_optimizers import CameraOptimizerConfig
from nerfstudio.cameras.cameras import Cameras
from small_gaussians import HEIGHT, WIDTH, Page4DGaussiansModel, make_model, optimizers_of, train_step

SHIFT = torch.tensor([0.15, -0.1, 0.0])
TURN = math.radians(2.0)


def views() -> list[Cameras]:
    """Four cameras around what they look at, the first of them in front of it."""
    each = []
    for angle in (0.0, 0.35, -0.35, 0.6):
        pose = torch.eye(4)[None, :3].clone()
        cos, sin = math.cos(angle), math.sin(angle)
        pose[0, :, :3] = torch.tensor([[cos, 0.0, sin], [0.0, 1.0, 0.0], [-sin, 0.0, cos]])
        pose[0, :, 3] = 4.0 * pose[0, :, 2]
        camera = Cameras(
            pose, 30.0, 30.0, WIDTH / 2, HEIGHT / 2, width=WIDTH, height=HEIGHT, times=torch.tensor([[0.5]])
        )
        camera.metadata = {"cam_idx": len(each)}
        each.append(camera)
    return each


def disturbed(camera: Cameras) -> Cameras:
    """The camera beside where it was, and turned about its viewing axis."""
    cos, sin = math.cos(TURN), math.sin(TURN)
    roll = torch.tensor([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
    camera.camera_to_worlds[0, :, :3] = roll @ camera.camera_to_worlds[0, :, :3]
    camera.camera_to_worlds[0, :, 3] += SHIFT
    return camera


def misplaced(model: Page4DGaussiansModel, points: torch.Tensor, camera: Cameras, truth: Cameras) -> float:
    """Mean distance in pixels between where the refined camera sees points [P, 3] and where they are in truth.

    A turn and a shift of a camera look much alike from afar, so neither alone says how wrong a pose is.
    """
    places = []
    for pose in (model.camera_optimizer.apply_to_camera(camera)[0].detach(), truth.camera_to_worlds[0]):
        inside = (points - pose[:, 3]) @ pose[:, :3]
        places.append(30.0 * inside[:, :2] / inside[:, 2:])
    return float((places[0] - places[1]).norm(dim=-1).mean())


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["SO3xR3", "SE3"])
def test_the_pose_of_a_disturbed_camera_moves_towards_the_truth(mode):
    model = make_model(
        background_color="black",
        sh_degree=0,
        densify_grad_thresh=1e9,
        camera_optimizer=CameraOptimizerConfig(mode=mode),
        use_deformation=False,
        run_length=1000,
    )
    with torch.no_grad():
        model.means.mul_(0.7)
        model.scales.fill_(-1.6)
        model.opacities.fill_(2.0)
    truths = views()
    model.eval()
    images = [model.get_outputs_for_camera(camera)["rgb"].detach() for camera in truths]
    given = views()
    disturbed(given[0])
    optimizers = optimizers_of(model)
    optimizers.optimizers["camera_opt"].param_groups[0]["lr"] = 5e-3
    points = model.means.detach().clone()
    before = misplaced(model, points, given[0], truths[0])

    for step in range(80):
        index = 0 if step % 2 == 0 else 1 + step // 2 % 3
        train_step(model, optimizers, step, given[index], images[index])

    assert misplaced(model, points, given[0], truths[0]) < 0.4 * before
