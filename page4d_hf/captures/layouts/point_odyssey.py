"""PointOdyssey (Zheng et al., ICCV 2023), version 1.2: rendered videos with long point tracks.

    {train,val,test}/<sequence>/
        rgbs/rgb_%05d.jpg
        depths/depth_%05d.png       16-bit, metres = value / 65535 * 1000; 65535 is the sky and what is beyond 1 km
        masks/mask_%05d.png         a colour for each instance, black for the background
        anno.npz                    row i is file i: intrinsics, extrinsics (world-to-camera), tracks
        info.npz, scene_info.json   not read

Sequences that one renders oneself have `annotations.npz`, whose `visibilities` is 1 for a visible point and below 2 for
a valid one, and cameras in float16. Principal points are those of the renderer, whose first pixel's centre is at
(0.5, 0.5). The frame rate is that of the rendering script.

What moves: an instance over half of whose tracks change their place in the world. Masks tell what moves in the video,
whether or not in that frame. Some older sequences have no tracks in the world (`trajs_3d` is [None]) and get no masks.
"""

from __future__ import annotations

import math
import re
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import CaptureError
from ...utils.evenly import evenly
from ...utils.image_bounds import MOST_SIDE
from ...utils.npz_files import read_array_header
from ..base import Capture, DatasetLayout, Layout
from ..depth_files import read_png16
from ..files import MOST_BYTES, decoding
from ..image_files import read_image
from ..sequences import FrameList, list_sequences, read_first_image_size

SPLITS = ("train", "val", "test")
# Sequences of one scene are named by it and then by the camera, as in seminar_h52_3rd, _ego1, _ego2, girl_egocentric,
# or by how it was rendered once more, as in character2, character2_, character2_f.
RENDERED_AGAIN = re.compile(r"(_(3rd\d*|ego\d*|egocentric|new|f|s)?)+$")
FRAMES_PER_SECOND = 30.0
TOO_FAR = 65535  # the stored depth of the sky and of what is beyond a kilometre
DEPTH_SCALE = 1000 / 65535  # metres
NPZ = "a NumPy archive"
ANNOTATIONS = ("anno.npz", "annotations.npz")
MOVED_DISTANCE = 1e-2  # metres; of a resting point, numerical noise and float16 leave less
ROWS_FOR_MOTION = 64  # a point that moves is elsewhere in one of so many instants
ROWS_FOR_COLORS = 16  # masks that are opened to learn the colours of instances
MOST_MEMBER_BYTES = 2**34  # of an array in the archive, unpacked; tracks of the longest videos have some gigabytes


def point_odyssey_sequences(root: Path, split: str | None = None) -> list[str]:
    """Names of the sequences, such as "train/ani", in a folder with or without folders of splits.

    Those that were published without annotations, as ani_new_2 in version 1.2, are among them: reading them says so.
    """
    return list_sequences(root, split, SPLITS, lambda path: (path / "rgbs").is_dir() or _annotations(path) is not None)


def point_odyssey_scene(sequence: str) -> str:
    """The scene of a sequence: other cameras in it, and other renderings of it, have the same, of whatever split."""
    return RENDERED_AGAIN.sub("", sequence.rpartition("/")[2])


def read_point_odyssey(root: Path, sequence: str) -> Capture:
    """Read a sequence, in metres."""
    folder = root / sequence
    path = _annotations(folder)
    if path is None:
        raise CaptureError(
            f"{folder / ANNOTATIONS[0]} is missing; version 1.2 was published without that of ani_new_2: leave the "
            "sequence out, or fetch it again."
        )
    frames = FrameList("point-odyssey", root, sequence)
    with decoding(path, NPZ):
        archive = zipfile.ZipFile(path)
    with archive:
        intrinsics = _read_camera_array(archive, "intrinsics", (3, 3))
        extrinsics = _read_camera_array(archive, "extrinsics", (4, 4))
        if len(intrinsics) != len(extrinsics):
            raise CaptureError(
                f"{path} must hold as many intrinsics as extrinsics, got {len(intrinsics)} and {len(extrinsics)}; "
                "fetch it again."
            )
        count = len(intrinsics)
        images = [_image(folder, i) for i in range(count)]
        masks = [folder / "masks" / f"mask_{i:05d}.png" for i in range(count)]
        moving = _moving_colors(archive, masks)
    if moving is None:
        frames.notes.append(f"{folder} has no masks of what moves: it lacks masks, or tracks in the world to tell.")
    has_depth = frames.has(folder / "depths")
    size = read_first_image_size(images)
    for i, image in enumerate(images):
        frames.add(
            image,
            extrinsics[i],
            intrinsics[i],
            size,
            i,
            timestamp=i / FRAMES_PER_SECOND,
            frame_id=f"{i:05d}",
            depth_path=folder / "depths" / f"depth_{i:05d}.png" if has_depth else None,
            motion_mask_path=None if moving is None else masks[i],
        )
    surplus = _image(folder, count)
    if surplus.is_file():
        frames.skip(surplus, f"{path} has {count} cameras only")
    return frames.capture(
        scale="metres",
        depth_scale=DEPTH_SCALE,
        fps=FRAMES_PER_SECOND,
        read_depth_file=read_point_odyssey_depth,
        read_motion_mask_file=partial(read_color_mask, moving=moving or ()),
    )


def read_point_odyssey_depth(path: Path, intrinsics: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Z-depth of a 16-bit PNG, `(H, W)`, in units of `DEPTH_SCALE` metres; 0 for the sky and what is too far."""
    values = read_png16(path)
    return np.where(values == TOO_FAR, 0, values).astype(np.float32)


def read_color_mask(path: Path, moving: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Where an image has one of the colours `moving` (red * 65536 + green * 256 + blue), `(H, W)`."""
    return np.isin(_read_colors(path), moving)


# --------------------------------------------------------------------------------------------------------------------
# Which instances move


def _moving_colors(archive: zipfile.ZipFile, masks: list[Path]) -> tuple[int, ...] | None:
    """Colours of the instances that move; None where masks or tracks in the world are missing."""
    places = _member_shape(archive, "trajs_3d")
    pixels = _member_shape(archive, "trajs_2d")
    rows_with_masks = [i for i, mask in enumerate(masks) if mask.is_file()]
    if places is None or places[2:] != (3,) or pixels != (*places[:2], 2) or not rows_with_masks:
        return None
    total, tracks = places[:2]
    rows = evenly(total, ROWS_FOR_MOTION)
    valid = _read_flags(archive, "valids", rows, (total, tracks), below=2)
    points = _read_rows(archive, "trajs_3d", rows).astype(np.float64)
    points[~(valid & np.isfinite(points).all(-1))] = np.nan  # published tracks hold NaN and infinity
    known = (~np.isnan(points[..., 0])).sum(0) >= 2
    points = points[:, known]
    extent = np.nanmax(points, axis=0) - np.nanmin(points, axis=0) if known.any() else np.zeros((0, 3))
    moves = np.zeros(tracks, bool)
    moves[known] = np.linalg.norm(extent, axis=-1) > MOVED_DISTANCE

    candidates = np.array([row for row in rows_with_masks if row < total], int)
    if not len(candidates):
        return None
    rows = candidates[evenly(len(candidates), ROWS_FOR_COLORS)]
    visible = _read_flags(archive, "visibs", rows, (total, tracks), below=None)
    tracks_2d = _read_rows(archive, "trajs_2d", rows).astype(np.float64)
    votes: dict[int, npt.NDArray[Any]] = {}  # colour: tracks that move, tracks
    for row, seen, positions in zip(rows, visible, tracks_2d, strict=True):
        colors = _read_colors(masks[row])
        seen = seen & known & np.isfinite(positions).all(-1)
        at = np.floor(np.where(seen[:, None], positions, -1).clip(-1, MOST_SIDE)).astype(int)
        inside = seen & (at >= 0).all(-1) & (at < colors.shape[::-1]).all(-1)
        found = colors[at[inside, 1], at[inside, 0]]
        for color in np.unique(found):
            of_color = moves[inside][found == color]
            votes.setdefault(int(color), np.zeros(2, int))[:] += [of_color.sum(), len(of_color)]
    return tuple(sorted(color for color, (moving, every) in votes.items() if color and 2 * moving > every))


def _read_colors(path: Path) -> npt.NDArray[np.int32]:
    """`(H, W)` colours as one number."""
    rgb = read_image(path).astype(np.int32)
    return rgb[..., 0] << 16 | rgb[..., 1] << 8 | rgb[..., 2]


# --------------------------------------------------------------------------------------------------------------------
# Files


def _annotations(folder: Path) -> Path | None:
    return next((folder / name for name in ANNOTATIONS if (folder / name).is_file()), None)


def _image(folder: Path, number: int) -> Path:
    png = folder / "rgbs" / f"rgb_{number:05d}.png"
    return png if png.is_file() and not png.with_suffix(".jpg").is_file() else png.with_suffix(".jpg")


def _read_camera_array(archive: zipfile.ZipFile, key: str, shape: tuple[int, int]) -> npt.NDArray[np.float64]:
    found = _member_shape(archive, key)
    if found is None or found[1:] != shape or not found[0]:
        raise CaptureError(f"{archive.filename} must hold {key} of the shape (T, {shape[0]}, {shape[1]}), got {found}.")
    return _read_rows(archive, key, np.arange(found[0])).astype(np.float64)


def _read_flags(
    archive: zipfile.ZipFile, key: str, rows: npt.NDArray[Any], shape: tuple[int, int], below: int | None
) -> npt.NDArray[np.bool_]:
    """`valids` or `visibs`, else what `visibilities` says of them: below `below`, or equal to 1; else all."""
    for name in (key, "visibilities"):
        if _member_shape(archive, name) == shape:
            values = _read_rows(archive, name, rows)
            if name == key:
                return values.astype(bool)
            return values < below if below is not None else values == 1
    return np.ones((len(rows), shape[1]), bool)


def _member_shape(archive: zipfile.ZipFile, key: str) -> tuple[int, ...] | None:
    """The shape of an array of numbers; None where there is none, or one of objects such as [None]."""
    if f"{key}.npy" not in archive.namelist():
        return None
    with decoding(Path(archive.filename or ""), NPZ), archive.open(f"{key}.npy") as member:
        shape, _, dtype = _read_header(archive, member)
    return shape if dtype.kind in "fiub" and shape else None


def _read_rows(archive: zipfile.ZipFile, key: str, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Some rows, in rising order, of an array that may be too large to hold: tracks take a gigabyte in long videos."""
    with decoding(Path(archive.filename or ""), NPZ), archive.open(f"{key}.npy") as member:
        shape, fortran_order, dtype = _read_header(archive, member)
        size = math.prod(shape[1:]) * dtype.itemsize
        if size * (shape[0] if fortran_order else len(rows)) > MOST_BYTES:
            raise ValueError(f"{key} takes more than {MOST_BYTES >> 20} MiB")
        if fortran_order:
            return np.asarray(np.frombuffer(member.read(), dtype).reshape(shape, order="F")[rows])
        start = member.tell()
        parts = []
        for row in rows:
            member.seek(start + int(row) * size)
            parts.append(member.read(size))
        return np.frombuffer(b"".join(parts), dtype).reshape(len(rows), *shape[1:]).copy()


def _read_header(archive: zipfile.ZipFile, member: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and type; no more is declared than the archive says that it holds."""
    shape, fortran_order, dtype = read_array_header(member)
    held = archive.getinfo(member.name).file_size
    if min(shape, default=0) < 0 or (not dtype.hasobject and math.prod(shape) * dtype.itemsize > held):
        raise ValueError(f"{member.name} is cut short: it claims the shape {shape} of {dtype} and has {held} bytes")
    if held > MOST_MEMBER_BYTES:
        raise ValueError(f"{member.name} unpacks to more than the {MOST_MEMBER_BYTES >> 30} GiB that are read")
    return shape, fortran_order, dtype


LAYOUT = Layout(
    "point-odyssey",
    dataset=DatasetLayout(
        point_odyssey_sequences,
        read_point_odyssey,
        "{train,val,test}/<sequence>/ with rgbs/, depths/, masks/ and anno.npz",
        "PointOdyssey 1.2 is published at https://pointodyssey.com under CC BY-NC-SA 4.0.",
        SPLITS,
        point_odyssey_scene,
    ),
)
