"""The outputs of a rendering, and whether the viewer asks for them."""

from __future__ import annotations

import threading
from collections import UserDict
from typing import Any

from nerfstudio.viewer.render_state_machine import RenderStateMachine
from torch import Tensor


class LazyOutputs(UserDict[str, Any]):
    """Outputs of a rendering; one that is a function is computed when it is first read.

    nerfstudio offers all keys for choice and reads what is chosen: one that nobody looks at costs nothing.
    """

    def __getitem__(self, name: str) -> Tensor:
        if callable(self.data[name]):
            self.data[name] = self.data[name]()
        value: Tensor = self.data[name]
        return value


def rendering_for_the_viewer() -> bool:
    """Whether this thread is one in which the viewer renders. Other renderings, as the training's evaluations between
    its steps, are of the whole scene, whatever a user has chosen to look at."""
    return isinstance(threading.current_thread(), RenderStateMachine)
