"""The outputs of a rendering, and whether the viewer asks for them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, MutableMapping

from nerfstudio.viewer.render_state_machine import RenderStateMachine
from torch import Tensor


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


def rendering_for_the_viewer() -> bool:
    """Whether this thread is one in which the viewer renders. Other renderings, as the training's evaluations between
    its steps, are of the whole scene, whatever a user has chosen to look at."""
    return isinstance(threading.current_thread(), RenderStateMachine)
