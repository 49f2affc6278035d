"""Held-out cameras fitted to what a trained model renders, so that a figure is of the scene and not of the cameras.

Cameras that were refined, by bundle adjustment or in training, live in a world that the capture's held-out cameras are
carried into by a Sim(3), and a pixel that this is off by costs more than the scene does. BARF (Lin et al., ICCV 2021)
therefore fits the pose of each test view to its image before it is scored, with the scene held. What is fitted has seen
the image: such figures stand beside the others, under a name of their own.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.lie_groups import exp_map_SO3xR3
from nerfstudio.utils.poses import multiply

from ..gaussians.model import Page4DGaussiansModel

RATE = 2e-3  # of Adam at first: radians, and shares of the scene's radius


def fitted_camera(model: Page4DGaussiansModel, camera: Cameras, batch: dict[str, Any], steps: int) -> Cameras:
    """The camera whose render comes nearest to the image, by the loss of the training, in `steps` of Adam.

    It is a copy with the pose of least loss among all that were tried, the given one included. The model is in
    evaluation mode; its parameters are held.
    """
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    fitted, best, least = copy.deepcopy(camera), camera.camera_to_worlds, float("inf")
    change = torch.zeros((1, 6), device=best.device, requires_grad=True)  # translation, rotation
    unit = torch.tensor([[model.scene_extent] * 3 + [1.0] * 3], device=best.device)
    optimizer = torch.optim.Adam([change], lr=RATE)
    for parameter in learned:
        parameter.requires_grad_(False)
    try:
        with torch.enable_grad():
            for step in range(steps + 1):
                fitted.camera_to_worlds = multiply(camera.camera_to_worlds, exp_map_SO3xR3(change * unit))
                loss = model.image_losses(model.get_outputs(fitted), batch)["main_loss"]
                if (value := loss.item()) < least:
                    best, least = fitted.camera_to_worlds.detach(), value
                if step < steps:
                    optimizer.param_groups[0]["lr"] = RATE * (1 - step / steps)
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
    finally:
        for parameter in learned:
            parameter.requires_grad_(True)
    fitted.camera_to_worlds = best
    return fitted
