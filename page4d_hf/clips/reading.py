"""Data sets of clips, from a folder, a file or the Hub, and the frames of a clip, decoded."""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError
from pydantic import ValidationError

from ..errors import ClipError
from ..frames import WHITE, over
from ..utils.folders import FULL
from ..utils.json_files import Record, explain
from ..utils.programs import one_line
from .schema import COLUMNS, NULLABLE, ClipFrames, clip_features

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

LISTS = [name for name, (kind, _) in COLUMNS.items() if kind.startswith("list of ")]  # with an entry for each frame
REPO_ID = re.compile(r"[\w.-]+/[\w.-]+")  # of the Hub
MOST_PIXELS = 1_000_000_000  # that are decoded at once; with depth, they take 8 GB


class ClipHeader(Record):
    """Columns of a row with one value each."""

    clip_id: str
    source: str
    metric: bool
    ordered: bool
    width: int
    height: int
    num_frames: int


def load_clips(
    path_or_hub_id: str | Path, split: str = "train", streaming: bool = False
) -> datasets.Dataset | datasets.IterableDataset:
    """Open a data set of clips.

    Args:
        path_or_hub_id: a folder as `training/prepare.py` writes it (or another that `datasets.load_dataset` reads), a
            single Parquet file, or a repository on the Hub.
        split: `train` or `validation`, as a rule. A single file has the split `train` alone.
        streaming: read the rows one after the other as they are asked for. Otherwise the rows are copied once to the
            cache of `datasets` (`HF_HOME`), which takes as much space again, and can be read in any order. Files that
            have changed since, in size or time, are copied anew.

    Returns:
        The rows, with the columns of `clip_features` and no others. Rows for `decode_frames` are cheapest to take from
        a mapped data set as `clips.with_format("arrow")[i]`, which reads the frames that are decoded and no others.
    """
    expected = clip_features()
    import datasets

    name = str(path_or_hub_id)
    where = _where(path_or_hub_id)
    found = _splits(name, where)
    if split not in found:
        raise ClipError(f"{name} has no split {split!r}; it has: {', '.join(map(str, found))}.")
    columns = found[split].features
    if columns is None:
        raise ClipError(f"{name} does not say of which types its columns are; expected Parquet files of clips.")
    _check_columns(name, split, columns, expected)
    # One row at a time: it can be tens of megabytes.
    where |= {"split": split, "batch_size": 1}
    try:
        ids = datasets.load_dataset(**where, streaming=True, columns=["clip_id"])
        empty = next(iter(ids), None) is None
        if not empty:
            # Types that were inferred (a column of nulls, a file that was never told that it is an image) become the
            # schema's own.
            clips = datasets.load_dataset(**where, streaming=streaming, features=expected, columns=list(expected))
    except Exception as error:
        if isinstance(deepest := _deepest(error), OSError) and deepest.errno in FULL:
            raise ClipError(
                f"The split {split!r} of {name} cannot be copied to the cache of datasets: {deepest.strerror}; make "
                "room, set HF_HOME to another disk, or read it without a copy (streaming)."
            ) from error
        raise ClipError(f"The split {split!r} of {name} cannot be read: {one_line(_deepest(error))}") from error
    if empty:
        raise ClipError(f"The split {split!r} of {name} is empty; expected at least one clip.")
    return clips


def split_names(path_or_hub_id: str | Path) -> list[str]:
    """The splits of a data set of clips."""
    clip_features()  # says so where `datasets` is missing
    return [str(split) for split in _splits(str(path_or_hub_id), _where(path_or_hub_id))]


def _splits(name: str, where: dict[str, Any]) -> datasets.IterableDatasetDict:
    import datasets

    try:
        return datasets.load_dataset(**where, streaming=True)
    except Exception as error:
        absent = f"There is no folder {name} (training/prepare.py makes such folders), and on the Hub "
        absent = "" if Path(name).exists() else absent
        raise ClipError(f"{absent}{name} cannot be read as a data set of clips: {one_line(_deepest(error))}") from error


def _where(path_or_hub_id: str | Path) -> dict[str, Any]:
    """The arguments by which `load_dataset` finds a data set, and where it keeps its copy."""
    path = Path(path_or_hub_id)
    try:
        if path.is_dir():
            files = sorted(path.rglob("*.parquet"))
            if not files:
                raise ClipError(f"The folder {path} holds no Parquet files; write clips with training/prepare.py.")
            return {"path": str(path), "cache_dir": _cache_of(files)}
        if path.is_file():
            if path.suffix != ".parquet":
                raise ClipError(f"{path} is no Parquet file; name a .parquet file, or a folder of them.")
            return {"path": "parquet", "data_files": {"train": str(path)}, "cache_dir": _cache_of([path])}
    except OSError as error:
        raise ClipError(f"{os.fspath(path)!r:.200} cannot be read: {error.strerror}; name another.") from error
    name = str(path_or_hub_id)
    # A name below a folder that exists is a file's; the Hub would be asked for it again and again.
    if path.is_absolute() or name.startswith((".", "~")) or path.parent.is_dir() or not REPO_ID.fullmatch(name):
        raise ClipError(
            f"There is no data set of clips {name}; name a folder, as training/prepare.py makes it, a Parquet file, or "
            "user/name on the Hub."
        )
    return {"path": name}


def _cache_of(files: Iterable[Path]) -> str:
    """A place for the copy of these files as they are now.

    `datasets` tells files of one place apart by their times alone, which copies and archives keep, and would give the
    clips that lay there before. What lies on the Hub it tells apart by its revision.
    """
    import datasets

    states = [(os.path.realpath(file), (state := file.stat()).st_size, state.st_mtime_ns) for file in files]
    key = hashlib.sha256(repr(states).encode(errors="surrogateescape")).hexdigest()[:16]
    return str(Path(datasets.config.HF_DATASETS_CACHE) / "page4d" / key)


def _check_columns(name: str, split: str, columns: datasets.Features, expected: datasets.Features) -> None:
    import pyarrow as pa

    for column in expected:
        wanted = expected.arrow_schema.field(column).type
        if column not in columns:
            raise ClipError(
                f"The split {split!r} of {name} has no column {column!r} of the type {wanted}; "
                f"it has: {', '.join(columns)}."
            )
        wanted = _without_large(wanted)
        got = _without_large(columns.arrow_schema.field(column).type)
        if got != wanted and not (column in NULLABLE and pa.types.is_null(got)):
            raise ClipError(f"The column {column!r} of {name} must be {wanted}, got {got}.")


def _without_large(kind: pa.DataType) -> pa.DataType:
    """A type with 32-bit offsets for 64-bit ones, and without names for a list's elements: the same values."""
    import pyarrow as pa

    if pa.types.is_large_string(kind):
        return pa.string()
    if pa.types.is_large_binary(kind):
        return pa.binary()
    if pa.types.is_struct(kind):
        # Fields in any order.
        fields = sorted(kind, key=lambda field: field.name)
        return pa.struct([(field.name, _without_large(field.type)) for field in fields])
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return pa.list_(_without_large(kind.value_type))
    return kind


def _deepest(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


# --------------------------------------------------------------------------------------------------------------------
# Frames


def decode_frames(row: Mapping[str, Any] | pa.Table, indices: Iterable[int]) -> ClipFrames:
    """Decode frames of a clip.

    A frame without depth in a clip that has some is one in which no depth is known (zeros). Motion masks are given if
    all of the frames have one: nothing says of a frame without a mask that it stands still.

    Args:
        row: a row of `load_clips`, as Python objects or as an Arrow table of one row. Of the latter nothing is copied
            but the frames that are asked for.
        indices: of frames in the row, in any order; a frame may come more than once.

    Raises:
        ClipError: the row has no such frame, lists of unequal lengths, a file that is broken or of another size, a
            camera that is none (see `camera_defect`), or other values than the columns are for; or the frames have
            more than `MOST_PIXELS`.
    """
    try:
        return _decode_frames(row, [int(i) for i in indices])
    except ClipError:
        raise
    # What a damaged row raises depends on where it is damaged: Arrow, NumPy and Pillow have their own.
    except Exception as error:
        reason = one_line(_deepest(error))
        raise ClipError(f"A row of clips cannot be decoded ({reason}); write the clips again.") from error


def clip_header(row: Mapping[str, Any] | pa.Table) -> ClipHeader:
    """A row's description of its clip, without the frames."""
    clip = _Row(row)
    try:
        return ClipHeader.model_validate({name: clip.value(name) for name in ClipHeader.model_fields})
    except ValidationError as error:
        raise ClipError(f"A row of clips {explain(error)}; write the clips again.") from error
    except UnicodeDecodeError as error:
        raise ClipError(f"A row of clips has text that is not UTF-8 ({error}); write the clips again.") from error


def _decode_frames(row: Mapping[str, Any] | pa.Table, chosen: list[int]) -> ClipFrames:
    clip, header = _Row(row), clip_header(row)
    clip_id, count = header.clip_id, header.num_frames
    if not chosen or not all(0 <= i < count for i in chosen):
        raise ClipError(f"Clip {clip_id} has the frames 0 to {count - 1}, got {chosen}.")
    for column in LISTS:
        if (length := clip.length(column)) not in (None, count):
            raise ClipError(f"Clip {clip_id} has {count} frames but {length} entries in {column!r}.")
    frame_ids = [str(name) for name in clip.entries("frame_ids", chosen) or []]
    size = (header.width, header.height)
    if len(chosen) * size[0] * size[1] > MOST_PIXELS:
        raise ClipError(
            f"{len(chosen)} frames of {size[0]}x{size[1]} of clip {clip_id} have more than the {MOST_PIXELS:,} pixels "
            "that are decoded at once; take fewer, or write smaller ones (prepare.py --max-side)."
        )

    def decode(column: str, kind: str) -> list[npt.NDArray[Any] | None] | None:
        entries = clip.entries(column, chosen)
        if entries is None:
            return None
        decoded: list[npt.NDArray[Any] | None] = []
        for i, entry in zip(chosen, entries, strict=True):
            if entry is None:
                decoded.append(None)
                continue
            try:
                decoded.append(_decode(entry, kind, size))
            except UnidentifiedImageError as error:
                # Pillow's own words name the buffer's address, which differs from run to run.
                raise ClipError(
                    f"{column!r} of frame {i} of clip {clip_id} cannot be decoded: it is no image file."
                ) from error
            except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
                raise ClipError(f"{column!r} of frame {i} of clip {clip_id} cannot be decoded: {error}") from error
        return decoded

    images = decode("images", "image")
    if images is None or any(image is None for image in images):
        raise ClipError(f"Clip {clip_id} has frames without an image.")
    depth_files, masks = decode("depth", "depth"), decode("motion_mask", "mask")
    depth = None
    if depth_files is not None:
        scales = clip.entries("depth_scale", chosen)
        if scales is None:
            raise ClipError(f"Clip {clip_id} has depth but no depth_scale.")
        depth = np.zeros((len(chosen), size[1], size[0]), np.float32)
        for target, stored, scale in zip(depth, depth_files, scales, strict=True):
            if stored is not None:
                values = stored * np.float64(scale)
                target[:] = np.where(np.isfinite(values) & (values > 0), values, 0)
    return ClipFrames(
        images=np.stack([image for image in images if image is not None]),
        depth=depth,
        motion_mask=None
        if masks is None or any(m is None for m in masks)
        else np.stack([m for m in masks if m is not None]),
        intrinsics=_matrices(clip.entries("intrinsics", chosen), 3, clip_id, "intrinsics"),
        extrinsics=_matrices(clip.entries("extrinsics", chosen), 4, clip_id, "extrinsics"),
        timestamps=np.array(clip.entries("timestamps", chosen), np.float64),
        source=header.source,
        clip_id=clip_id,
        frame_ids=frame_ids,
        metric=header.metric,
    )


def _matrices(entries: list[Any] | None, columns: int, clip_id: str, name: str) -> npt.NDArray[np.float64] | None:
    if entries is None:
        return None
    try:
        return np.array(entries, np.float64).reshape(len(entries), 3, columns)
    except (ValueError, TypeError) as error:
        raise ClipError(f"{name} of clip {clip_id} must be 3x{columns} numbers for each frame: {error}.") from error


def _decode(entry: Mapping[str, Any], kind: str, size: tuple[int, int]) -> npt.NDArray[Any]:
    """The pixels of a file: `(H, W, 3)` uint8, `(H, W)` uint16 or float32 depth, or `(H, W)` bool."""
    data, path = entry["bytes"], entry["path"]
    if data is None and path is None:
        raise ValueError("there is neither a file nor a path.")
    with Image.open(path if data is None else io.BytesIO(data)) as image:
        if image.size != size:
            raise ValueError(f"it is {image.size[0]}x{image.size[1]} and the clip {size[0]}x{size[1]}.")
        if kind == "image":
            if image.mode == "RGB":
                return np.array(image)
            return over(np.array(image.convert("RGBA" if image.has_transparency_data else "RGB")), WHITE)
        if kind == "mask":
            return np.array(image.convert("L")) > 127
        if image.mode not in ("I;16", "I;16L", "I;16B", "I", "F"):
            raise ValueError(f"expected a 16-bit PNG or a float32 TIFF file, got {image.mode} pixels.")
        return np.array(image)


class _Row:
    """A row as Python objects or as an Arrow table of one row; of the latter only what is asked for is converted."""

    def __init__(self, row: Any) -> None:
        self._row = row
        self._is_mapping = isinstance(row, Mapping)

    def _column(self, name: str) -> Any:
        try:
            column = self._row[name]
        except KeyError as error:
            raise ClipError(f"A row of clips must have the column {name!r}.") from error
        return column if self._is_mapping else column[0]

    def value(self, name: str) -> Any:
        value = self._column(name)
        return value if self._is_mapping else value.as_py()

    def length(self, name: str) -> int | None:
        column = self._column(name)
        if self._is_mapping:
            return None if column is None else len(column)
        return len(column) if column.is_valid else None

    def entries(self, name: str, indices: list[int]) -> list[Any] | None:
        column = self._column(name)
        if self._is_mapping:
            return None if column is None else [column[i] for i in indices]
        return [column[i].as_py() for i in indices] if column.is_valid else None
