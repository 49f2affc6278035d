"""PAGE-4D for transformers.

Importing this package registers the model with the Auto classes: `AutoModel`, `AutoConfig`, `AutoImageProcessor` and
`AutoModelForDepthEstimation`, and with it `pipeline("depth-estimation")`. What `save_pretrained` writes carries
the code too, for `trust_remote_code=True` where this package is not installed.
"""

import sys
from importlib import import_module
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from .package_version import page4d_version

if TYPE_CHECKING:
    from .configuration_page4d import Page4DConfig, Page4DInitializationConfig, Page4DTrainingConfig
    from .image_processing_page4d import Page4DImageProcessor
    from .modeling_page4d import Page4DForDepthEstimation, Page4DModel, Page4DOutput
    from .reconstruction.cuts import split_at_cuts
    from .reconstruction.reconstruct import reconstruct
    from .trainer_page4d import Page4DDataCollator, Page4DMaskScheduleCallback

__version__ = page4d_version()

_MODULES = {
    "Page4DConfig": "configuration_page4d",
    "Page4DDataCollator": "trainer_page4d",
    "Page4DForDepthEstimation": "modeling_page4d",
    "Page4DImageProcessor": "image_processing_page4d",
    "Page4DInitializationConfig": "configuration_page4d",
    "Page4DMaskScheduleCallback": "trainer_page4d",
    "Page4DModel": "modeling_page4d",
    "Page4DOutput": "modeling_page4d",
    "Page4DTrainingConfig": "configuration_page4d",
    "reconstruct": "reconstruction.reconstruct",
    "split_at_cuts": "reconstruction.cuts",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f".{_MODULES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# transformers takes seconds to import. `page4d` and nerfstudio's `ns-*` commands use no Auto class, and import parts of
# this package for no more than their help.
_program = PurePath(sys.argv[0] if sys.argv else "").name.removesuffix(".exe")
if _program != "page4d" and not (_program.startswith("ns-") and "." not in _program):
    from . import auto_classes as auto_classes

__all__ = [
    "Page4DConfig",
    "Page4DDataCollator",
    "Page4DForDepthEstimation",
    "Page4DImageProcessor",
    "Page4DInitializationConfig",
    "Page4DMaskScheduleCallback",
    "Page4DModel",
    "Page4DOutput",
    "Page4DTrainingConfig",
    "reconstruct",
    "split_at_cuts",
]
