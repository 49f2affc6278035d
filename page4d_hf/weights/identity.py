"""Tells models apart."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from ..utils.json_files import read_json
from .model_files import PROCESSOR_FILE, REMEDY

# Values that nothing is computed with: of a configuration the version that wrote it and what the card says, of an image
# processor how its class is found.
_NOT_COMPUTED_WITH = ("transformers_version", "base_weights", "trained_on")
_NOT_PROCESSED_WITH = ("auto_map", "image_processor_type", "processor_class")
_ENDS = 2**14  # bytes that are read at each end of a tensor


def fingerprint(path: str | Path) -> str | None:
    """A name for a model, of a folder or a Hub repository: other weights, another configuration or another image
    processor have another, and a copy of them has the same.

    Of 5 GB it reads 50 MB, the JSON files and both ends of every tensor: training changes a tensor everywhere. It is 16
    digits for a folder, the commit that was fetched last for a repository, and None where there are no weights.
    """
    folder = Path(os.path.expanduser(path))
    if not os.path.isdir(folder):
        return _fetched_commit(str(path))
    files = sorted(folder.glob("*.safetensors"))
    if not files or not (folder / "config.json").is_file():
        return None
    # As the file has it: with the defaults of the installed version, the same weights would change their name with it.
    digest = hashlib.sha256(_values(folder / "config.json", _NOT_COMPUTED_WITH))
    if (folder / PROCESSOR_FILE).is_file():
        digest.update(_values(folder / PROCESSOR_FILE, _NOT_PROCESSED_WITH))
    for file in files:
        try:
            digest.update(_ends_of_tensors(file))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise CheckpointError(f"The weights in {file} are broken or cut off; {REMEDY}.") from error
    return digest.hexdigest()[:16]


def _values(file: Path, without: tuple[str, ...]) -> bytes:
    values = read_json(file, dict[str, Any], error=CheckpointError, remedy=REMEDY)
    return json.dumps({name: value for name, value in values.items() if name not in without}, sort_keys=True).encode()


def _ends_of_tensors(file: Path) -> bytes:
    """The header of a safetensors file (8 bytes with its length before it), and the ends of the tensors behind it."""
    with open(file, "rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > file.stat().st_size:
            raise ValueError(f"a header of {length} bytes")
        header = stream.read(length)
        read = [header]
        for name, tensor in json.loads(header).items():
            if name != "__metadata__":
                start, end = tensor["data_offsets"]
                for at in (start, max(start, end - _ENDS)):
                    stream.seek(8 + length + at)
                    read.append(stream.read(min(_ENDS, end - at)))
    return b"".join(read)


def _fetched_commit(name: str) -> str | None:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(name, "config.json")
    except HFValidationError:  # neither a folder nor a name that the Hub could have
        return None
    return Path(found).parent.name if isinstance(found, str) else None
