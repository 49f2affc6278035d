"""PAGE-4D for transformers.

Importing this package makes the Auto classes know the model, and what `save_pretrained` writes then carries the code
too: `AutoModel.from_pretrained(folder)` works after `import page4d_hf`, and `AutoModel.from_pretrained(folder,
trust_remote_code=True)` in a program that never heard of it. transformers itself is imported at the first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .auto_classes import register

if TYPE_CHECKING:
    from .configuration_page4d import Page4DConfig
    from .image_processing_page4d import Page4DImageProcessor
    from .modeling_page4d import Page4DModel, Page4DOutput
    from .reconstruction.reconstruct import reconstruct
    from .trainer_page4d import Page4DMaskScheduleCallback

_MODULES = {
    "Page4DConfig": "configuration_page4d",
    "Page4DImageProcessor": "image_processing_page4d",
    "Page4DMaskScheduleCallback": "trainer_page4d",
    "Page4DModel": "modeling_page4d",
    "Page4DOutput": "modeling_page4d",
    "reconstruct": "reconstruction.reconstruct",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f".{_MODULES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


register()

__all__ = [
    "Page4DConfig",
    "Page4DImageProcessor",
    "Page4DMaskScheduleCallback",
    "Page4DModel",
    "Page4DOutput",
    "reconstruct",
]
