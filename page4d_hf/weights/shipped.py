"""The small trained model that comes with the package."""

from __future__ import annotations

import shutil
from pathlib import Path

from ..configuration_page4d import Page4DConfig
from ..utils.folders import make_readable, whole_folder
from .loading import load_model

TINY = Path(__file__).resolve().parent / "tiny"


def pull_tiny(output: str | Path = "page4d", *, dtype: str = "float32", overwrite: bool = False) -> Page4DConfig:
    """Copy page4d-tiny out of the package to a folder for `from_pretrained`; options as of `convert_checkpoint`."""
    with whole_folder(output, overwrite=overwrite) as folder:
        model, processor = load_model(TINY, device="cpu", dtype=dtype)
        model.config.base_weights, model.config.trained_on = "page4d-tiny", []
        # Not a plain copy: the folder gets the code with it that works without this package.
        model.save_pretrained(folder)
        for path in folder.glob("*.safetensors"):
            make_readable(path)  # safetensors writes for the owner only
        processor.save_pretrained(folder)
        shutil.copyfile(TINY / "README.md", folder / "README.md")
    return model.config
