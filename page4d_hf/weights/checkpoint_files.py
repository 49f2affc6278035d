"""Reads the tensors of a checkpoint that somebody else wrote, without trusting it."""

from __future__ import annotations

import os
import pickletools
import re
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from mmap import ACCESS_READ, mmap
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, cast

import torch
from safetensors.torch import load_file
from torch import Tensor

from ..errors import CheckpointError
from ..utils.programs import one_line

# Where training programs put the weights among the other things they save.
WEIGHT_ENTRIES = ("model", "state_dict")

# The first bytes of a zip archive, which `torch.save` writes, and of the pickle that it wrote before torch 1.6.
_ZIP_START = b"PK\x03\x04"
_LEGACY_START = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."

# An archive of torch.save is not compressed, and its table of objects is small: what unpacks to this many bytes more
# than its file has, or has a larger table, was made to take memory.
MOST_UNPACKED = 64 * 2**20
# The one function that torch lets a pickle call with a size of memory to take, as a pickle names it.
_BYTEARRAY = b"\nbytearray\n"


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """Read the state dict in a `.pt` or `.safetensors` file.

    Pickles are read by `torch.load(weights_only=True)` only, so that no code in them runs. Where the format allows it
    the tensors are mapped into memory: what they hold is read from disk when it is looked at.

    Args:
        path: a file of `torch.save` or of safetensors. A pickle may hold the state dict itself, or hold it under the
            key `model` or `state_dict` beside other things (an optimizer, a step count), which are left out.

    Returns:
        Tensors on the CPU by name. A prefix `module.` or `_orig_mod.` that all names share, as data-parallel training
        and `torch.compile` leave it, is taken off.
    """
    path = Path(path)
    if os.path.isdir(path):
        raise CheckpointError(f"{path} is a folder; name the checkpoint file itself, a .pt or a .safetensors file.")
    if not os.path.exists(path):  # also where no file can have that name
        raise CheckpointError(f"There is no checkpoint {str(path)!r:.200}.")
    if not path.is_file():
        raise CheckpointError(
            f"{path} is no regular file; name the checkpoint file itself, a .pt or a .safetensors file."
        )
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError as error:
        raise CheckpointError(f"The checkpoint {path} cannot be read: {error.strerror}.") from error
    if not start:
        raise CheckpointError(f"The checkpoint {path} is empty (0 bytes); download it again.")
    if start.startswith(b"version https://"):
        raise CheckpointError(
            f"{path} is only a Git LFS pointer to a checkpoint; fetch the file that it points to, as by `git lfs pull`."
        )
    # safetensors: 8 bytes with the length of a JSON header, then the header.
    content = _read_safetensors(path) if start[8:9] == b"{" else _read_pickle(path, start)
    return _without_prefixes(_weights_in(content, path))


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except Exception as error:  # SafetensorError, and what else a damaged header makes fail
        raise CheckpointError(
            f"The checkpoint {path} is incomplete or damaged ({_sentence(error)}); download it again."
        ) from error


def _read_pickle(path: Path, start: bytes) -> Any:
    is_zip = start.startswith(_ZIP_START)
    if is_zip:
        _check_archive(path)
    else:
        with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
            if content.find(_BYTEARRAY) >= 0:
                raise CheckpointError(_takes_memory(path))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols: what matters ends in an error
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except Exception as error:  # torch.load lets out whatever the damage made fail, KeyError and EOFError among them
        code = _code_in(path, error)
        if code:
            raise CheckpointError(
                f"The checkpoint {path} is refused: it asks to run code ({', '.join(code)}), and weights need none. "
                "Nothing of it was run; get the weights from their publisher."
            ) from error
        if is_zip or start.startswith(_LEGACY_START):
            raise CheckpointError(f"The checkpoint {path} is incomplete or damaged; download it again.") from error
        raise CheckpointError(
            f"{path} is not a checkpoint: neither a file of torch.save (.pt) nor one of safetensors."
        ) from error


def _code_in(path: Path, error: Exception) -> list[str]:
    """What a pickle that was refused asks to import or run; empty if it was refused for another reason."""
    if "TorchScript" in str(error):
        return ["a TorchScript program"]
    if not isinstance(error, UnpicklingError):
        return []
    named = re.search(r"GLOBAL ([\w.]+)", str(error))
    if named:
        return [named[1]]
    # torch stops at the first opcode that weights have no need of, which may come before the code.
    found: list[str] = []
    with suppress(Exception), path.open("rb") as file:  # what is no pickle fails anywhere
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                for name in archive.namelist():
                    if name.endswith("data.pkl"):
                        found.extend(_imports(archive.open(name)))
        else:
            file.seek(0)
            found.extend(_imports(file))
    harmless = ("torch.", "collections.OrderedDict")
    return list(dict.fromkeys(name for name in found if not name.startswith(harmless)))


def _imports(file: Any) -> Iterator[str]:
    """The dotted names that a pickle imports, read off its opcodes without running them."""
    strings: list[str] = []
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name in ("GLOBAL", "INST"):
            yield str(argument).replace(" ", ".")
        elif opcode.name == "STACK_GLOBAL":
            yield ".".join(strings[-2:])
        elif isinstance(argument, str):
            strings.append(argument)


def _check_archive(path: Path) -> None:
    """Refuse a zip archive that is cut off, is none of torch.save, or would take far more memory than it has bytes."""
    size = path.stat().st_size
    try:
        # A zip archive has its table of contents at the end.
        if not zipfile.is_zipfile(path):
            raise CheckpointError(
                f"The checkpoint {path} is incomplete: its end is missing after {size:,} bytes; download it again."
            )
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            tables = [entry for entry in entries if entry.filename.endswith("/data.pkl")]
            if not tables:
                raise CheckpointError(
                    f"{path} is a zip archive, but not one of torch.save; a .pt or a .safetensors file is needed."
                )
            unpacked, table = sum(entry.file_size for entry in entries), max(entry.file_size for entry in tables)
            if unpacked > size + MOST_UNPACKED or table > MOST_UNPACKED:
                raise CheckpointError(
                    f"The checkpoint {path} is refused: its {size:,} bytes unpack to {unpacked:,}, {table:,} of them a "
                    f"table of objects, and torch.save packs nothing and makes tables of {MOST_UNPACKED:,} bytes at "
                    "most; get the weights from their publisher."
                )
            takes_memory = any(_BYTEARRAY in archive.read(entry) for entry in tables)
    except CheckpointError:
        raise
    except Exception as error:  # BadZipFile, NotImplementedError, UnicodeDecodeError and others, by what is damaged
        raise CheckpointError(
            f"The checkpoint {path} is incomplete or damaged ({_sentence(error)}); download it again."
        ) from error
    if takes_memory:
        raise CheckpointError(_takes_memory(path))


def _takes_memory(path: Path) -> str:
    return (
        f"The checkpoint {path} is refused: it asks for memory of a size that it names (bytearray), and weights need "
        "none of that; get the weights from their publisher."
    )


def _weights_in(content: Any, path: Path) -> dict[str, Tensor]:
    """The state dict in what a checkpoint file holds."""
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path} holds {_article(type(content).__name__)}, not a state dict or a dict with one under 'model'."
        )
    for entry in WEIGHT_ENTRIES:
        if isinstance(content.get(entry), dict):
            content = content[entry]
            break
    if not content:
        raise CheckpointError(f"{path} holds no weights: its state dict is empty.")
    others = [str(name) for name, value in content.items() if not (isinstance(name, str) and isinstance(value, Tensor))]
    if others:
        raise CheckpointError(
            f"{path} holds no state dict: expected tensors by name, under 'model' or at the top level, but "
            f"{_short_list(others)} {'is no tensor' if len(others) == 1 else 'are no tensors'}."
        )
    strange = [name for name, tensor in content.items() if not _is_plain(tensor)]
    if strange:
        raise CheckpointError(
            f"{path} holds tensors that are sparse, quantized or larger than what is stored of them "
            f"({_short_list(strange)}); plain ones are needed."
        )
    return cast(dict[str, Tensor], content)


def _is_plain(tensor: Tensor) -> bool:
    """Whether every value of a tensor has a place of its own in the file: working with it takes no more memory."""
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_nested or tensor.device.type != "cpu":
        return False
    return tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()


def _without_prefixes(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in ("module.", "_orig_mod.", "module."):  # either may be around the other
        if all(name.startswith(prefix) for name in weights):
            weights = {name.removeprefix(prefix): tensor for name, tensor in weights.items()}
    return weights


def _short_list(names: list[str], limit: int = 5) -> str:
    quoted = ", ".join(repr(name) for name in names[:limit])
    return quoted if len(names) <= limit else f"{quoted} and {len(names) - limit} more"


def _sentence(error: Exception) -> str:
    return f"{type(error).__name__}: {one_line(error)}"


def _article(noun: str) -> str:
    return f"an {noun}" if noun[:1].lower() in "aeiou" else f"a {noun}"
