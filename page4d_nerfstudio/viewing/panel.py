"""What nerfstudio's viewer offers beside a moving scene: its time playing, only what moves or only what is static.

None of it costs anything in training, nor in a rendering that nobody asks for it.
"""

from __future__ import annotations

import math
import threading
import time
from typing import Any

import numpy as np
from nerfstudio.viewer.viewer import VISER_NERFSTUDIO_SCALE_RATIO
from nerfstudio.viewer.viewer_elements import ViewerCheckbox, ViewerControl, ViewerDropdown, ViewerSlider
from torch import Tensor, nn
from viser.transforms import SO3

from ..gaussians.model import Page4DGaussiansModel
from ..gaussians.outputs import rendering_for_the_viewer

PLAYED_FPS = 15  # how often a second time goes on while it plays


class Panel(nn.Module):
    """Elements of the viewer's control panel, which finds them among the attributes of a pipeline's modules.

    Fills in the model's `looked_at`: which Gaussians the viewer's user wants to see.
    """

    def __init__(self, model: Page4DGaussiansModel) -> None:
        super().__init__()
        extent = model.scene_extent
        kinds = "Show all Gaussians, or only those that are static or move. Training and evaluation always use all."
        least = (
            "How far a Gaussian goes over the clip to count as moving, in percent of the scene's radius "
            f"({extent:.3g} units). 0: all that may move"
        )
        self.shown_gaussians = ViewerDropdown("Gaussians", "all", ["all", "static", "moving"], hint=kinds)
        self.shown_moving_from = ViewerSlider("Moving from (%)", 1.0, 0.0, 20.0, 0.5, hint=least)
        self.training_cameras = TrainingCameras()
        self.plays = ViewerCheckbox("Play", False, cb_hook=self._play, hint="Let time run, over and over.")
        self.seconds = ViewerSlider("Seconds per clip", 5.0, 1.0, 60.0, 1.0, hint="How long time takes from 0 to 1.")
        self.clock: threading.Thread | None = None  # what makes time run
        self._model = (model,)  # in a tuple, as its parameters are not the panel's
        model.looked_at = self.chosen

    def chosen(self) -> Tensor | None:
        """Which Gaussians [N] bool the user wants to see; None is all of them."""
        if self.shown_gaussians.value == "all" or not rendering_for_the_viewer():
            return None
        (model,) = self._model
        moving = model.in_motion & (model.motion_over_clip() >= self.shown_moving_from.value / 100 * model.scene_extent)
        return moving if self.shown_gaussians.value == "moving" else ~moving

    def _play(self, checkbox: ViewerCheckbox) -> None:
        if checkbox.value and (self.clock is None or not self.clock.is_alive()):
            self.clock = threading.Thread(target=self._run_time, daemon=True)
            self.clock.start()

    def _run_time(self) -> None:
        slider = self.training_cameras.viewer.control_panel
        last = time.monotonic()
        while self.plays.value:
            time.sleep(1 / PLAYED_FPS)
            now = time.monotonic()
            slider.time = (slider.time + (now - last) / self.seconds.value) % 1.0
            last = now


class TrainingCameras(ViewerControl):
    """The training cameras in the viewer: who opens it looks through the first of them, and they can be hidden while
    they are still being drawn.

    nerfstudio draws them last, one by one as their images are read. Its button that hides them reads an attribute that
    the viewer has from then on only, and goes through it while it grows, with a lock held that an error never releases.
    It finds this among the attributes of the model.
    """

    def _setup(self, viewer: Any) -> None:
        super()._setup(viewer)
        if not hasattr(viewer, "camera_handles"):
            viewer.camera_handles = {}
        viewer.set_camera_visibility = self.set_visible
        viewer.viser_server.on_client_connect(self.look_through_the_first)

    def set_visible(self, visible: bool) -> None:
        """Show or hide those training cameras that are drawn already."""
        handles = dict(self.viewer.camera_handles).values()  # copied in one step, whoever adds to it meanwhile
        with self.viser_server.atomic():
            for handle in handles:
                handle.visible = visible

    def look_through_the_first(self, client: Any) -> None:
        """Place a client's camera at the first training camera, in the order of time, with its field of view."""
        dataset = getattr(self.viewer.pipeline.datamanager, "train_dataset", None)
        if dataset is None or not len(dataset.cameras):
            return
        cameras = dataset.cameras
        first = cameras[0 if cameras.times is None else int(cameras.times.argmin())]
        pose = first.camera_to_worlds.detach().cpu().double().numpy()
        # viser's cameras look along z with y down.
        turned = SO3.from_matrix(pose[:, :3]) @ SO3.from_x_radians(np.pi)
        client.camera.wxyz = turned.wxyz
        client.camera.position = pose[:, 3] * VISER_NERFSTUDIO_SCALE_RATIO
        client.camera.fov = 2 * math.atan(float(first.height) / 2 / float(first.fy))
