"""The JSON files of a model folder beside its configuration, checked before the library reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from ..errors import CheckpointError
from ..utils.json_files import Record, read_json

PROCESSOR_FILE = "preprocessor_config.json"
INDEX_FILE = "model.safetensors.index.json"
MOST_PIXELS = 2**14  # a side of the network's input
REMEDY = "fetch or convert the model again"

Side = Annotated[int, Field(ge=1, le=MOST_PIXELS)]
Size = Side | dict[str, Side | None]


class ProcessorFile(Record):
    """Fields of an image processor's file that `Page4DImageProcessor` reads."""

    patch_size: Side = 14
    size: Size | None = None
    crop_size: Size | None = None
    mode: str | None = None
    resample: Annotated[int, Field(ge=0, le=5)] | None = None  # of PIL
    rescale_factor: float | None = None
    do_resize: bool | None = None
    do_rescale: bool | None = None
    do_convert_rgb: bool | None = None
    do_center_crop: bool | None = None


class IndexFile(Record):
    """Index of tensors by file."""

    metadata: dict[str, Any]
    weight_map: Annotated[dict[str, Annotated[str, Field(pattern=r"^[\w.-]+\.safetensors$")]], Field(min_length=1)]


def check_model_files(folder: Path) -> None:
    """Refuse a folder whose image processor or index of weights is of another shape; it may have neither."""
    for name, schema in ((PROCESSOR_FILE, ProcessorFile), (INDEX_FILE, IndexFile)):
        if (folder / name).exists():
            read_json(folder / name, schema, error=CheckpointError, remedy=REMEDY)
