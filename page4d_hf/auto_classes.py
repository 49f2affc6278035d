"""Makes transformers' Auto classes know PAGE-4D as soon as they are there, and imports nothing before.

Importing transformers' modelling code takes seconds, and every `ns-*` command of nerfstudio, and `page4d --help`,
imports this package. So the two are introduced to each other when both have been imported, whoever imports them and in
whichever order.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

AUTO_MODULE = "transformers.models.auto."

# Each module of this package with the class that its Auto class is to know, and where that Auto class comes from.
PAIRS = (
    ("configuration_page4d", "Page4DConfig", "configuration_auto", "AutoConfig"),
    ("modeling_page4d", "Page4DModel", "modeling_auto", "AutoModel"),
    ("image_processing_page4d", "Page4DImageProcessor", "image_processing_auto", "AutoImageProcessor"),
)
OWN_MODULES = f"{__package__}."
WATCHED = {AUTO_MODULE + auto for _, _, auto, _ in PAIRS}

# Modules of this package in the middle of their import. They may import the Auto classes, and nothing that imports
# them again can follow before they are done.
_in_progress: set[str] = set()


def _catch_up() -> None:
    """Do what can be done with what is imported by now; done again, it changes nothing."""
    for own_module, own_name, auto_module, auto_name in PAIRS:
        auto_class = getattr(sys.modules.get(AUTO_MODULE + auto_module), auto_name, None)
        own = sys.modules.get(f"{__package__}.{own_module}")
        if own is None and auto_class is not None:
            own = importlib.import_module(f".{own_module}", __package__)
        own_class = getattr(own, own_name, None)
        if own_class is None:  # not asked for yet
            continue
        # Has `save_pretrained` copy the code and write an `auto_map`, for programs that never heard of this package.
        own_class.register_for_auto_class(auto_name)
        if auto_class is not None:
            _introduce(auto_class, own_class)


def _introduce(auto_class: Any, own_class: type) -> None:
    from .configuration_page4d import Page4DConfig

    if own_class is Page4DConfig:
        auto_class.register("page4d", own_class, exist_ok=True)
    elif auto_class.__name__ == "AutoImageProcessor":
        auto_class.register(Page4DConfig, fast_image_processor_class=own_class, exist_ok=True)
    else:
        auto_class.register(Page4DConfig, own_class, exist_ok=True)


class _Finder(MetaPathFinder):
    """Finds those modules as Python itself would, and has this module catch up after their import."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in WATCHED and not fullname.startswith(OWN_MODULES):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(Loader):
    """A loader of Python's, and what is to be done after it."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__name__.startswith(OWN_MODULES):
            _in_progress.add(module.__name__)
        try:
            self.loader.exec_module(module)
        finally:
            _in_progress.discard(module.__name__)
        if not _in_progress:
            _catch_up()

    def __getattr__(self, name: str) -> object:  # get_source and the like, for tracebacks and inspection
        # Copying and pickling ask for special methods, and of an object whose __init__ has not run.
        if name == "loader" or name.startswith("__"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.loader, name)


def register() -> None:
    """Have the Auto classes know PAGE-4D: at once those that are imported, the others when they are."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    _catch_up()
