"""NumPy archives (.npz) that anybody may have written: read within bounds, and no code in them is run."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import Page4DError


def read_npz(
    path: Path,
    names: Collection[str],
    *,
    most_bytes: int,
    error: type[Page4DError],
    remedy: str,
    only: bool = False,
) -> dict[str, npt.NDArray[Any]]:
    """The arrays of an archive, once what their heads say is known to be there.

    Args:
        path: the file.
        names: of the arrays to read; those that the archive lacks are left out, and others that it holds are not read.
        most_bytes: of these arrays together, unpacked.
        error: what to raise.
        remedy: what the user can do about a broken file.
        only: refuse an archive that holds other arrays too.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            found = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
            members = {name: entry for name, entry in found.items() if name in names}
            if only and (unknown := sorted(found.keys() - members.keys())):
                raise error(f"{path} holds {', '.join(unknown):.80}; expected any of {', '.join(names)}.")
            unpacked = sum(entry.file_size for entry in members.values())
            if unpacked > most_bytes:
                raise error(
                    f"{path} unpacks to {unpacked / 2**30:.3g} GiB; at most {most_bytes / 2**30:.3g} GiB are read."
                )
            for name, entry in members.items():
                with archive.open(entry) as stream:
                    shape, _, dtype = read_array_header(stream)
                    declared, held = math.prod(shape) * dtype.itemsize, entry.file_size - stream.tell()
                if not dtype.hasobject and (declared != held or not dtype.itemsize):
                    raise error(
                        f"{path}: {name} says that it is {dtype} {list(shape)!s:.60}, but has {held:,} bytes; {remedy}."
                    )
            arrays = {}
            for name, entry in members.items():
                with archive.open(entry) as stream:
                    arrays[name] = np.lib.format.read_array(stream, allow_pickle=False)
            return arrays
    except FileNotFoundError as missing:
        raise error(f"{path} is missing; {remedy}.") from missing
    except Page4DError:
        raise
    except Exception as broken:  # zipfile, its decoders and NumPy raise some dozen kinds
        raise error(f"{path!s:.200} cannot be read as a NumPy archive ({broken!s:.200}); {remedy}.") from broken


def read_array_header(stream: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether in Fortran's order, and type of the array in a .npy file, up to whose values it is then read."""
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    header: tuple[tuple[int, ...], bool, np.dtype[Any]] = read(stream)  # type: ignore[no-untyped-call]  # of numpy
    return header
