"""Registers PAGE-4D with the Auto classes of transformers; to import this module does it."""

from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoModelForDepthEstimation

from .configuration_page4d import Page4DConfig
from .image_processing_page4d import Page4DImageProcessor
from .modeling_page4d import Page4DForDepthEstimation, Page4DModel

AutoConfig.register("page4d", Page4DConfig, exist_ok=True)
AutoModel.register(Page4DConfig, Page4DModel, exist_ok=True)
AutoModelForDepthEstimation.register(Page4DConfig, Page4DForDepthEstimation, exist_ok=True)
AutoImageProcessor.register(Page4DConfig, fast_image_processor_class=Page4DImageProcessor, exist_ok=True)
