"""PAGE-4D for transformers.

Importing this package makes the Auto classes know the model, and what `save_pretrained` writes then carries the code
too: `AutoModel.from_pretrained(folder)` works after `import page4d_hf`, and `AutoModel.from_pretrained(folder,
trust_remote_code=True)` in a program that never heard of it.
"""

from transformers import AutoConfig, AutoImageProcessor, AutoModel

from .configuration_page4d import Page4DConfig
from .image_processing_page4d import Page4DImageProcessor
from .modeling_page4d import Page4DModel, Page4DOutput

AutoConfig.register("page4d", Page4DConfig, exist_ok=True)
AutoModel.register(Page4DConfig, Page4DModel, exist_ok=True)
AutoImageProcessor.register(Page4DConfig, fast_image_processor_class=Page4DImageProcessor, exist_ok=True)

Page4DConfig.register_for_auto_class()
Page4DModel.register_for_auto_class("AutoModel")
Page4DImageProcessor.register_for_auto_class("AutoImageProcessor")

__all__ = ["Page4DConfig", "Page4DImageProcessor", "Page4DModel", "Page4DOutput"]
