"""Captures in the layout of Nerfies (Park et al., ICCV 2021), which HyperNeRF and DyCheck share.

    dataset.json            ids, train_ids, val_ids
    metadata.json           per id: warp_id, camera_id, appearance_id and perhaps time_id
    scene.json              scale, center, near, far
    camera/<id>.json        one camera a frame, at full size
    rgb/<n>x/<id>.png       images at 1/n of the full size
    points.npy              (M, 3) points, perhaps

and, beside the format, read where they are present:

    points_rgb.npy          (M, 3) uint8 colours of the points
    points_dynamics.npy     (M,) 0 for points that stand still to 1 for those that move
    motion_mask/<n>x/<id>.png   non-zero where something moves
    depth/<n>x/<id>.npy     z-depth in the unit of the cameras as stored, 0 where it is not known (as in DyCheck)

Cameras and points are stored in a raw world; the capture's own world is `(x - center) * scale`, and `near` and `far`
belong to the latter.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import CaptureError
from .base import Capture
from .image_files import read_image_size

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")  # the first of two of one name is taken
SIZE_FOLDER = re.compile(r"([1-9]\d*)x")


def looks_like_nerfies(root: Path) -> bool:
    """Whether a folder has at least two of the entries that make the layout."""
    entries = (root / "dataset.json", root / "metadata.json", root / "scene.json", root / "camera")
    return sum(entry.exists() for entry in entries) >= 2


def read_nerfies(root: str | Path, downscale: int | None = None, *, skip_broken: bool = False) -> Capture:
    """Read a capture in the layout of Nerfies, HyperNeRF or DyCheck.

    The instant of a frame is its `warp_id`. It is its `time_id` in a capture whose metadata have no warp_id, and in a
    rig of several cameras that gives each frame a warp_id of its own: only `time_id` then tells what was filmed at the
    same time. Rigs of two cameras name their frames `left1_*` and `right1_*`; where there is no `camera_id`, that tells
    the cameras apart. Where `val_ids` is empty, the frames are split as 4DGS does it: every 4th of `ids` trains, and
    the one two after it is held out.

    Args:
        root: the capture's folder.
        downscale: take `rgb/<downscale>x`; where that is absent, the smallest images that are larger. None takes the
            largest there are.
        skip_broken: leave out a frame whose image or camera is missing or broken, and name it in `skipped`.

    Returns:
        The capture: one frame for each of `ids`, in their order. `notes` says what was chosen.

    Raises:
        CaptureError: a file is missing, broken or contradicts another.
    """
    root = Path(root)
    if downscale is not None and downscale < 1:
        raise CaptureError(f"The downscale must be a whole number from 1 up, got {downscale}.")
    notes: list[str] = []
    dataset = read_object(root / "dataset.json")
    metadata = read_object(root / "metadata.json")
    scene = read_object(root / "scene.json")
    ids, splits = _read_ids(root / "dataset.json", dataset, notes)
    time_ids, camera_ids = _read_metadata(root / "metadata.json", metadata, ids, notes)
    world_scale, center, near, far = _read_scene(root / "scene.json", scene)
    image_downscale, files = _find_images(root, downscale)

    kept: list[int] = []
    skipped: list[str] = []
    image_paths, extrinsics, intrinsics, distortion, image_sizes = [], [], [], [], []
    for i, frame_id in enumerate(ids):
        try:
            image_path = _image_of(root, frame_id, files, image_downscale)
            rotation, position, intrinsic, lens, image_size = _read_frame(root, frame_id, image_path, image_downscale)
        except CaptureError as error:
            if not skip_broken:
                raise
            skipped.append(f"The frame {frame_id!r} was left out: {error}")
            continue
        kept.append(i)
        image_paths.append(image_path)
        extrinsics.append(np.column_stack((rotation, -rotation @ ((position - center) * world_scale))))
        intrinsics.append(intrinsic)
        distortion.append(lens)
        image_sizes.append(image_size)
    if not kept:
        raise CaptureError(f"{root} has no frame that can be used (the first of {len(skipped)}: {skipped[0]})")
    if skipped:
        places = np.full(len(ids), -1)
        places[kept] = np.arange(len(kept))
        splits = {name: places[frames][places[frames] >= 0] for name, frames in splits.items()}
        ids, time_ids, camera_ids = [ids[i] for i in kept], time_ids[kept], camera_ids[kept]

    points, colors, dynamics = _read_points(root, notes)
    if points is not None:
        points = ((points - center) * world_scale).astype(np.float32)
    return Capture(
        layout="nerfies",
        root=root,
        frame_ids=ids,
        image_paths=image_paths,
        extrinsics=np.stack(extrinsics),
        intrinsics=np.stack(intrinsics),
        distortion=np.stack(distortion),
        image_sizes=np.array(image_sizes, np.int64),
        time_ids=time_ids,
        camera_ids=camera_ids,
        splits=splits,
        near=near,
        far=far,
        points=points,
        point_colors=colors,
        point_dynamics=dynamics,
        mask_paths=_find_beside(root / "motion_mask", ids, image_downscale, IMAGE_SUFFIXES),
        depth_paths=_find_beside(root / "depth", ids, image_downscale, (".npy",)),
        depth_scale=world_scale,
        image_downscale=image_downscale,
        notes=notes,
        skipped=skipped,
    )


# --------------------------------------------------------------------------------------------------------------------
# JSON


def read_object(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds.

    Raises:
        CaptureError: the file is missing, broken, or holds something else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CaptureError(
            f"{path} is missing; a Nerfies or HyperNeRF capture has dataset.json, metadata.json and scene.json."
        ) from error
    except (OSError, ValueError) as error:
        raise CaptureError(f"{path} cannot be read as JSON ({error}); write it anew or fetch it again.") from error
    if not isinstance(value, dict):
        raise CaptureError(f"{path} must hold a JSON object, got a {type(value).__name__}; write it anew.")
    return value


def _numbers(path: Path, values: dict[str, Any], key: str, shape: tuple[int, ...], default: Any = None) -> np.ndarray:
    """A float64 array of the given shape from a JSON object; finite."""
    value = values.get(key, default)
    if value is None:
        raise CaptureError(f"{path} has no {key!r}; write it anew or fetch it again.")
    try:
        array = np.array(value, np.float64)
    except (TypeError, ValueError) as error:
        raise CaptureError(f"{path}: {key!r} must be numbers of shape {shape}, got {value!r}.") from error
    if array.shape != shape:
        raise CaptureError(f"{path}: {key!r} must have the shape {shape}, got {array.shape}; correct the file.")
    if not np.isfinite(array).all():
        raise CaptureError(
            f"{path}: {key!r} holds NaN or infinity; correct the file, or take the frame out of dataset.json."
        )
    return array


def _read_ids(path: Path, dataset: dict[str, Any], notes: list[str]) -> tuple[list[str], dict[str, np.ndarray]]:
    lists: dict[str, list[str]] = {}
    for key in ("ids", "train_ids", "val_ids"):
        values = dataset.get(key, [] if key == "val_ids" else None)
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise CaptureError(f"{path}: {key!r} must be a list of frame ids (strings), got {values!r:.80}.")
        if len(set(values)) != len(values):
            twice = next(value for value in values if values.count(value) > 1)
            raise CaptureError(f"{path}: {key!r} lists the frame {twice!r} twice; leave one of them out.")
        lists[key] = values
    ids = lists["ids"]
    if not ids:
        raise CaptureError(f"{path}: 'ids' is empty, so the capture has no frames; list them.")
    index = {frame_id: i for i, frame_id in enumerate(ids)}
    for key in ("train_ids", "val_ids"):
        unknown = [frame_id for frame_id in lists[key] if frame_id not in index]
        if unknown:
            raise CaptureError(f"{path}: {key!r} lists {unknown[0]!r}, which is not in 'ids'; make the lists agree.")
    if not lists["train_ids"]:
        raise CaptureError(f"{path}: 'train_ids' is empty, so there is nothing to train on; list the training frames.")
    if lists["val_ids"]:
        train = np.array([index[frame_id] for frame_id in lists["train_ids"]], np.int64)
        val = np.array([index[frame_id] for frame_id in lists["val_ids"]], np.int64)
        shared = np.intersect1d(train, val)
        if len(shared):
            notes.append(f"{len(shared)} frames are both in train_ids and val_ids: figures on val flatter.")
    else:
        train = np.arange(0, len(ids), 4)
        val = train[train + 2 < len(ids)] + 2
        notes.append("val_ids is empty: every 4th frame trains and the one two after it is held out, as in 4DGS.")
    return ids, {"train": train, "val": val}


def _read_metadata(
    path: Path, metadata: dict[str, Any], ids: list[str], notes: list[str]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The instant and the device of each frame."""
    for frame_id in ids:
        if not isinstance(metadata.get(frame_id), dict):
            raise CaptureError(
                f"dataset.json lists the frame {frame_id!r} but {path} has no entry for it; make the two files agree."
            )

    def whole_numbers(key: str) -> npt.NDArray[np.int64]:
        return np.array([_whole_number(path, frame_id, metadata[frame_id].get(key), key) for frame_id in ids], np.int64)

    def have(key: str) -> bool:
        return all(key in metadata[frame_id] for frame_id in ids)

    if any("camera_id" in metadata[frame_id] for frame_id in ids):
        for frame_id in ids:
            metadata[frame_id].setdefault("camera_id", 0)
        camera_ids = whole_numbers("camera_id")
    else:
        camera_ids = np.array([frame_id.startswith("right") for frame_id in ids], np.int64)
    # One rule for the whole capture: instants of two kinds could not be compared.
    if not have("warp_id"):
        notes.append("metadata.json lacks warp_id: the instants are its time_id.")
        return whole_numbers("time_id"), camera_ids
    time_ids = whole_numbers("warp_id")
    if have("time_id") and not _is_shared(time_ids, camera_ids):
        others = whole_numbers("time_id")
        if _is_shared(others, camera_ids):
            notes.append("warp_id differs between the cameras of the rig: the instants are time_id.")
            return others, camera_ids
    return time_ids, camera_ids


def _whole_number(path: Path, frame_id: str, value: Any, key: str) -> int:
    is_whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if not is_whole or isinstance(value, bool):
        raise CaptureError(f"{path}: the frame {frame_id!r} must have a whole number as {key!r}, got {value!r}.")
    return int(value)


def _is_shared(instants: np.ndarray, camera_ids: np.ndarray) -> bool:
    """Whether two cameras filmed at any one instant."""
    pairs = np.unique(np.column_stack((instants, camera_ids)), axis=0)
    return len(pairs) > len(np.unique(instants))


def _read_scene(path: Path, scene: dict[str, Any]) -> tuple[float, np.ndarray, float | None, float | None]:
    scale = float(_numbers(path, scene, "scale", ()))
    center = _numbers(path, scene, "center", (3,))
    if scale <= 0:
        raise CaptureError(f"{path}: 'scale' must be above 0, got {scale}; correct the file.")
    near, far = (float(_numbers(path, scene, key, ())) if key in scene else None for key in ("near", "far"))
    if near is not None and far is not None and not 0 <= near < far:
        raise CaptureError(f"{path}: 'near' must be at least 0 and below 'far', got {near} and {far}.")
    return scale, center, near, far


# --------------------------------------------------------------------------------------------------------------------
# Cameras


def _read_frame(
    root: Path, frame_id: str, image_path: Path, downscale: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, tuple[int, int]]:
    """World-to-camera rotation `(3, 3)`, centre `(3,)`, intrinsics `(3, 3)` in pixels of the image, distortion `(5,)`
    and the image's size."""
    camera_path = root / "camera" / f"{frame_id}.json"
    if not camera_path.is_file():
        raise CaptureError(
            f"{root / 'dataset.json'} lists the frame {frame_id!r} but its camera {camera_path} is missing; "
            "add the file, or take the frame out of dataset.json."
        )
    rotation, position, intrinsic, lens, full_size = _read_camera(camera_path)
    image_size = read_image_size(image_path)
    return (
        rotation,
        position,
        _fit_to_image(intrinsic, full_size, image_size, downscale, camera_path, image_path),
        lens,
        image_size,
    )


def _read_camera(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """World-to-camera rotation `(3, 3)`, centre `(3,)`, full-size intrinsics `(3, 3)`, distortion `(5,)` in OpenCV's
    order and image size `(2,)`."""
    camera = read_object(path)
    rotation = _numbers(path, camera, "orientation", (3, 3))
    position = _numbers(path, camera, "position", (3,))
    focal = float(_numbers(path, camera, "focal_length", ()))
    aspect = float(_numbers(path, camera, "pixel_aspect_ratio", (), default=1.0))
    cx, cy = _numbers(path, camera, "principal_point", (2,))
    skew = float(_numbers(path, camera, "skew", (), default=0.0))
    k1, k2, k3 = _numbers(path, camera, "radial_distortion", (3,), default=(0.0, 0.0, 0.0))
    # Nerfies wrote `tangential` at first.
    tangential = "tangential_distortion" if "tangential_distortion" in camera else "tangential"
    p1, p2 = _numbers(path, camera, tangential, (2,), default=(0.0, 0.0))
    size = _numbers(path, camera, "image_size", (2,))
    # Cameras are stored in float32, and rounded to fewer digits by some tools.
    if np.abs(rotation @ rotation.T - np.eye(3)).max() > 1e-3 or np.linalg.det(rotation) < 0:
        raise CaptureError(
            f"{path}: 'orientation' is not a rotation; it must be the orthonormal world-to-camera rotation."
        )
    if focal <= 0 or aspect <= 0:
        raise CaptureError(f"{path}: focal length and pixel aspect ratio must be above 0, got {focal} and {aspect}.")
    if (size < 1).any():
        raise CaptureError(f"{path}: 'image_size' must be width and height in pixels, got {size.tolist()}.")
    # Nerfies undoes skew in pixels, x = (u - cx - y * skew) / f, with y already normalised: as in this matrix.
    intrinsics = np.array([[focal, skew, cx], [0, focal * aspect, cy], [0, 0, 1]])
    return rotation, position, intrinsics, np.array([k1, k2, p1, p2, k3]), size


def _fit_to_image(
    intrinsics: np.ndarray,
    full_size: np.ndarray,
    image_size: tuple[int, int],
    downscale: int,
    camera_path: Path,
    image_path: Path,
) -> np.ndarray:
    """Carry full-size intrinsics over to the stored image, whose size may have been rounded either way."""
    expected = full_size / downscale
    if (np.abs(expected - image_size) > np.maximum(1.0, 0.01 * expected)).any():
        raise CaptureError(
            f"{image_path} is {image_size[0]}x{image_size[1]} but {camera_path} says {full_size[0]:g}x{full_size[1]:g} "
            f"at full size, so {expected[0]:g}x{expected[1]:g} here; correct the one that is wrong."
        )
    width, height = image_size / full_size
    return intrinsics * np.array([[width], [height], [1.0]])


# --------------------------------------------------------------------------------------------------------------------
# Files


def size_folders(folder: Path) -> dict[int, Path]:
    """The `<n>x` folders that hold anything, by n."""
    if not folder.is_dir():
        return {}
    found = ((SIZE_FOLDER.fullmatch(path.name), path) for path in folder.iterdir() if path.is_dir())
    sizes = {int(match[1]): path for match, path in found if match and any(path.iterdir())}
    return dict(sorted(sizes.items()))


def files_by_id(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """The files of a folder that have one of the suffixes, by their names without it."""
    files: dict[str, Path] = {}
    for path in folder.iterdir():
        if path.suffix.lower() not in suffixes:
            continue
        other = files.get(path.stem)
        if other is None or suffixes.index(path.suffix.lower()) < suffixes.index(other.suffix.lower()):
            files[path.stem] = path
    return files


def _find_images(root: Path, downscale: int | None) -> tuple[int, dict[str, Path]]:
    """The size that is taken, and its files by the frames' ids."""
    sizes = size_folders(root / "rgb")
    if not sizes:
        raise CaptureError(f"{root / 'rgb'} has no image folder such as 1x, 2x or 4x; put the images into one.")
    if downscale is None:
        chosen = min(sizes)
    else:
        chosen = max((size for size in sizes if size <= downscale), default=0)
        if chosen == 0:
            raise CaptureError(
                f"{root / 'rgb'} has {', '.join(f'{size}x' for size in sizes)} only, too small for a downscale of "
                f"{downscale}; ask for {min(sizes)} or more."
            )
    return chosen, files_by_id(sizes[chosen], IMAGE_SUFFIXES)


def _image_of(root: Path, frame_id: str, files: dict[str, Path], downscale: int) -> Path:
    if frame_id not in files:
        raise CaptureError(
            f"{root / 'dataset.json'} lists the frame {frame_id!r} but its image "
            f"{root / 'rgb' / f'{downscale}x' / frame_id}.png is missing; add the file, or take the frame out of "
            "dataset.json."
        )
    return files[frame_id]


def _find_beside(folder: Path, ids: list[str], downscale: int, suffixes: tuple[str, ...]) -> list[Path | None] | None:
    """Masks or depth of the images' size, else of the largest size there is; None for a frame that has none."""
    sizes = size_folders(folder)
    if not sizes:
        return None
    files = files_by_id(sizes.get(downscale, sizes[min(sizes)]), suffixes)
    found = [files.get(frame_id) for frame_id in ids]
    return found if any(found) else None


def _read_points(
    root: Path, notes: list[str]
) -> tuple[np.ndarray | None, npt.NDArray[np.uint8] | None, npt.NDArray[np.float32] | None]:
    """Points `(M, 3)` in the raw world, their colours `(M, 3)` and dynamics `(M,)`."""
    path = root / "points.npy"
    if not path.exists():
        return None, None, None
    points = _load_array(path)
    if points.ndim != 2 or points.shape[1] != 3:
        raise CaptureError(f"{path} must hold points of the shape (M, 3), got {points.shape}; replace or remove it.")
    finite = np.isfinite(points).all(axis=1)
    if not finite.any():
        raise CaptureError(f"{path} holds no finite point; replace or remove it.")
    if not finite.all():
        notes.append(f"{(~finite).sum()} points of points.npy are not finite and were left out.")

    def beside(name: str, shape: tuple[int, ...]) -> np.ndarray | None:
        other = root / name
        if not other.exists():
            return None
        values = _load_array(other)
        if values.shape != shape:
            raise CaptureError(f"{other} must have the shape {shape} to fit points.npy, got {values.shape}.")
        return values[finite]

    colors = beside("points_rgb.npy", points.shape)
    if colors is not None and colors.dtype != np.uint8:
        raise CaptureError(f"{root / 'points_rgb.npy'} must hold uint8 colours, got {colors.dtype}; convert it.")
    dynamics = beside("points_dynamics.npy", points.shape[:1])
    return points[finite].astype(np.float64), colors, None if dynamics is None else dynamics.astype(np.float32)


def _load_array(path: Path) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise CaptureError(f"{path} cannot be read as a NumPy array ({error}); replace or remove it.") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
        raise CaptureError(f"{path} must hold one array of numbers; replace or remove it.")
    return array
