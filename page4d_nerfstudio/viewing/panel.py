"""What nerfstudio's viewer shows of motion: how far things go, and only what moves or only what stands still.

None of it costs anything in training, nor in a rendering that nobody asks for it.
"""

from __future__ import annotations

import operator
import threading
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from nerfstudio.viewer.render_state_machine import RenderStateMachine
from nerfstudio.viewer.viewer_elements import ViewerControl, ViewerDropdown, ViewerSlider
from torch import Tensor

if TYPE_CHECKING:
    from ..gaussians.deformation import DeformationField

# Instants of the clip between which a Gaussian's places are compared.
MOTION_SAMPLES = 24


class LazyOutputs(MutableMapping[str, Tensor]):
    """Outputs of a rendering, some of which are computed when they are first read.

    nerfstudio offers all keys for choice and reads what is chosen: one that nobody looks at costs nothing.
    """

    def __init__(self, ready: Mapping[str, Tensor], **later: Callable[[], Tensor]) -> None:
        self._ready = dict(ready)
        self._later = later

    def __getitem__(self, name: str) -> Tensor:
        if name in self._later:
            self._ready[name] = self._later[name]()
            del self._later[name]
        return self._ready[name]

    def __setitem__(self, name: str, value: Tensor) -> None:
        self._later.pop(name, None)
        self._ready[name] = value

    def __delitem__(self, name: str) -> None:
        if self._later.pop(name, None) is None:
            del self._ready[name]

    def __contains__(self, name: object) -> bool:  # a Mapping would read it to see
        return name in self._ready or name in self._later

    def __iter__(self) -> Iterator[str]:
        return iter([*self._ready, *self._later])

    def __len__(self) -> int:
        return len(self._ready) + len(self._later)


class ShownGaussians(NamedTuple):
    """Elements of the viewer's control panel, which finds them among the attributes of the model."""

    kind: ViewerDropdown[str]  # all, static or moving
    moving_from: ViewerSlider[float]  # percent of the scene's extent

    @classmethod
    def controls(cls, extent: float) -> ShownGaussians:
        """The elements for a scene of a radius of `extent`, in its unit."""
        kinds = "Show all Gaussians, or only those that stand still or move. Training and evaluation always use all."
        least = (
            "How far a Gaussian goes over the clip to count as moving, in percent of the scene's radius "
            f"({extent:.3g} units). 0: all that may move"
        )
        return cls(
            ViewerDropdown("Gaussians", "all", ["all", "static", "moving"], hint=kinds),
            ViewerSlider("Moving from (%)", 1.0, 0.0, 20.0, 0.5, hint=least),
        )

    def chosen(self, dynamic: Tensor, motion: Callable[[], Tensor], extent: float) -> Tensor | None:
        """Which Gaussians [N] bool the user wants to see; None is all of them.

        Args:
            dynamic: which may move, [N] bool.
            motion: gives how far each goes, [N], see `ClipMotion`.
            extent: radius of the scene, in the unit of `motion`.
        """
        if self.kind.value == "all" or not rendering_for_the_viewer():
            return None
        moving = dynamic & (motion() >= self.moving_from.value / 100 * extent)
        return moving if self.kind.value == "moving" else ~moving


def rendering_for_the_viewer() -> bool:
    """Whether this thread is one in which the viewer renders. Other renderings, as the training's evaluations between
    its steps, are of the whole scene, whatever a user has chosen to look at."""
    return isinstance(threading.current_thread(), RenderStateMachine)


class TrainingCameras(ViewerControl):
    """Has the button that hides the training cameras do nothing until they are drawn.

    nerfstudio draws them last, when all images have been read, and its viewer has the attribute that the button reads
    from then on only. It finds this among the attributes of the model.
    """

    def _setup(self, viewer: Any) -> None:
        super()._setup(viewer)
        if not hasattr(viewer, "camera_handles"):
            viewer.camera_handles = {}


class ClipMotion:
    """How far each Gaussian goes over the clip; kept until the model has changed."""

    def __init__(self) -> None:
        self._sources: tuple[Tensor, ...] = ()  # held, so that none of their identities is another's
        self._state: tuple[int, ...] = ()
        self._motion: Tensor | None = None

    @torch.no_grad()
    def of(self, field: DeformationField | None, means: Tensor, dynamic: Tensor, step: int) -> Tensor:
        """The largest distance between any two places of each Gaussian's centre in the clip.

        Args:
            field: the deformation; None where nothing is deformed.
            means: canonical positions, [N, 3].
            dynamic: which pass the deformation, [N] bool.
            step: of the training.

        Returns:
            [N] in the unit of `means`; 0 for what does not move.
        """
        if field is None:
            return means.new_zeros(len(means))
        sources = (means, dynamic, *field.parameters())
        state = (step, *(source._version for source in sources))
        same = len(sources) == len(self._sources) and all(map(operator.is_, sources, self._sources))
        if self._motion is None or not same or state != self._state:
            motion = means.new_zeros(len(means))
            if dynamic.any():
                motion[dynamic] = path_diameter(field, means[dynamic])
            self._sources, self._state, self._motion = sources, state, motion
        return self._motion


def path_diameter(field: DeformationField, positions: Tensor, samples: int = MOTION_SAMPLES) -> Tensor:
    """The largest distance [M] between two of the places that a field gives `positions` [M, 3] at `samples` instants.

    Unlike the length of the path, it does not grow with jitter, and unlike the distance from the canonical position it
    does not depend on where that happens to be.
    """
    offsets = [field(positions, index / (samples - 1)).position for index in range(samples)]
    largest = positions.new_zeros(len(positions))
    for index, one in enumerate(offsets):
        for other in offsets[index + 1 :]:
            if one is not None and other is not None:
                largest = torch.maximum(largest, (one - other).norm(dim=-1))
    return largest
