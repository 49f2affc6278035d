"""What nerfstudio's viewer offers beside a moving scene: only what moves or only what is static.

None of it costs anything in training, nor in a rendering that nobody asks for it.
"""

from __future__ import annotations

from typing import Any

from nerfstudio.viewer.viewer_elements import ViewerControl, ViewerDropdown, ViewerSlider
from torch import Tensor, nn

from ..gaussians.model import Page4DGaussiansModel
from ..gaussians.outputs import rendering_for_the_viewer


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
        self._model = (model,)  # in a tuple, as its parameters are not the panel's
        model.looked_at = self.chosen

    def chosen(self) -> Tensor | None:
        """Which Gaussians [N] bool the user wants to see; None is all of them."""
        if self.shown_gaussians.value == "all" or not rendering_for_the_viewer():
            return None
        (model,) = self._model
        moving = model.in_motion & (model.motion_over_clip() >= self.shown_moving_from.value / 100 * model.scene_extent)
        return moving if self.shown_gaussians.value == "moving" else ~moving


class TrainingCameras(ViewerControl):
    """Has the button that hides the training cameras do nothing until they are drawn.

    nerfstudio draws them last, when all images have been read, and its viewer has the attribute that the button reads
    from then on only. It finds this among the attributes of the model.
    """

    def _setup(self, viewer: Any) -> None:
        super()._setup(viewer)
        if not hasattr(viewer, "camera_handles"):
            viewer.camera_handles = {}
