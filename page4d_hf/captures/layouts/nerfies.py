"""Captures in the layout of Nerfies (Park et al., ICCV 2021), which HyperNeRF and DyCheck share.

    dataset.json            ids, train_ids, val_ids
    metadata.json           per id: warp_id, camera_id, appearance_id and perhaps time_id
    scene.json              scale, center, near, far
    camera/<id>.json        one camera a frame, at full size
    rgb/<n>x/<id>.png       images at 1/n of the full size
    points.npy              (M, 3) points, perhaps; without it those of a COLMAP model are taken, as in colmap/sparse/0

and, beside the format, read where they are present:

    points_rgb.npy          (M, 3) uint8 colours of the points
    points_motion.npy       (M,) 0 for points that stand still to 1 for those that move
    motion_mask/<n>x/<id>.png   non-zero where something moves
    tracks.npz              point tracks of what moves, as `scene.read_tracks` has them; `paths` in the stored world
    depth/<n>x/<id>.npy     z-depth in the unit of the cameras as stored, 0 where it is not known (as in DyCheck)

As a data set, a folder of captures, or one alone, is a video for each camera. The published captures have cameras and
no depth; `page4d synth` writes exact depth and motion masks too.

Cameras and points are stored in a raw world; the capture's own world is `(x - center) * scale`, and `near` and `far`
belong to the latter.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from posixpath import dirname
from typing import Annotated, Any, cast

import numpy as np
import numpy.typing as npt
from annotated_types import Len
from pydantic import AliasChoices, Field

from ...errors import CaptureError, SceneError
from ...geometry import extrinsics_at
from ...scene.tracks import PointTracks, read_tracks
from ...utils.json_files import Record, read_json
from ..base import Capture, DatasetLayout, FolderLayout, Layout, fit_to_stored
from ..files import numbered_folders, read_array
from ..schemas import Number, Positive, RelativePath, Rotation, Side, Vector2, Vector3, Whole
from ..sequences import sequence_folder, video_of_camera
from .colmap import points_beside

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")  # the first of two of one name is taken
SPLITS = ("train", "val")
SIZE_FOLDER = r"([1-9]\d{0,8})x"


def looks_like_nerfies(root: Path) -> bool:
    """Whether a folder has at least two of the entries that make the layout."""
    entries = (root / "dataset.json", root / "metadata.json", root / "scene.json", root / "camera")
    return sum(entry.exists() for entry in entries) >= 2


def read_nerfies(root: Path, downscale: int | None = None, *, skip_broken: bool = False) -> Capture:
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
    """
    if downscale is not None and downscale < 1:
        raise CaptureError(f"The downscale must be a whole number from 1 up, got {downscale}.")
    notes: list[str] = []
    ids, splits = _read_ids(root / "dataset.json", notes)
    time_ids, camera_ids = _read_metadata(root / "metadata.json", ids, notes)
    world = _read_world(root / "scene.json")
    center = np.array(world.center)
    image_downscale, files = _find_images(root, downscale)

    frames = []
    skipped: list[str] = []
    for i, frame_id in enumerate(ids):
        try:
            image_path = _image_of(root, frame_id, files, image_downscale)
            camera_path = root / "camera" / f"{frame_id}.json"
            camera = _read_camera(root, frame_id, camera_path)
            size, matrix = fit_to_stored(
                image_path, camera.intrinsics(), camera.image_size, image_downscale, camera_path
            )
        except CaptureError as error:
            if not skip_broken:
                raise
            skipped.append(f"The frame {frame_id!r} was left out: {error}")
            continue
        (k1, k2, k3), (p1, p2) = camera.radial_distortion, camera.tangential_distortion
        extrinsics = camera.extrinsics(center, world.scale)
        frames.append((i, image_path, extrinsics, matrix, [k1, k2, p1, p2, k3], size))
    if not frames:
        raise CaptureError(f"{root} has no frame that can be used (the first of {len(skipped)}: {skipped[0]})")
    kept, image_paths, all_extrinsics, intrinsics, distortion, image_sizes = map(list, zip(*frames, strict=True))
    places = np.full(len(ids), -1)
    places[kept] = np.arange(len(kept))
    ids = [ids[i] for i in kept]

    points, colors, motion = _read_points(root, notes)
    capture = Capture(
        layout="nerfies",
        root=root,
        frame_ids=ids,
        image_paths=image_paths,
        extrinsics=np.stack(all_extrinsics),
        intrinsics=np.stack(intrinsics),
        distortion=np.array(distortion),
        image_sizes=np.array(image_sizes, np.int64),
        time_ids=time_ids[kept],
        camera_ids=camera_ids[kept],
        splits={name: places[frames][places[frames] >= 0] for name, frames in splits.items()},
        near=world.near,
        far=world.far,
        points=None if points is None else ((points - center) * world.scale).astype(np.float32),
        point_colors=colors,
        point_motion=motion,
        motion_mask_paths=find_beside(root / "motion_mask", ids, image_downscale, IMAGE_SUFFIXES),
        depth_paths=find_beside(root / "depth", ids, image_downscale, (".npy",)),
        depth_scale=world.scale,
        image_downscale=image_downscale,
        tracks=_read_tracks(root / "tracks.npz", ids, center, world.scale),
        notes=notes,
        skipped=skipped,
    )
    if points is None and (found := points_beside(capture)) is not None:
        capture.points, capture.point_colors = found
    return capture


# --------------------------------------------------------------------------------------------------------------------
# JSON


class Dataset(Record):
    """dataset.json"""

    ids: Annotated[list[RelativePath], Len(1)]
    train_ids: Annotated[list[RelativePath], Len(1)]
    val_ids: list[RelativePath] = Field(default=[])


class _Moment(Record):
    """An entry of metadata.json"""

    warp_id: Whole | None = None
    time_id: Whole | None = None
    camera_id: Whole | None = None


class _World(Record):
    """scene.json"""

    scale: Positive
    center: Vector3
    near: Annotated[Number, Field(ge=0)] | None = None
    far: Number | None = None


class _Camera(Record):
    """camera/<id>.json, one at full size"""

    orientation: Rotation  # world-to-camera
    position: Vector3
    focal_length: Positive
    principal_point: Vector2
    image_size: Annotated[list[Side], Len(2, 2)]
    pixel_aspect_ratio: Positive = 1.0
    skew: Number = 0.0
    radial_distortion: Vector3 = Field([0.0, 0.0, 0.0])
    # Nerfies wrote `tangential` at first.
    tangential_distortion: Vector2 = Field(
        [0.0, 0.0], validation_alias=AliasChoices("tangential_distortion", "tangential")
    )

    def extrinsics(self, center: npt.NDArray[Any], scale: float) -> npt.NDArray[np.float64]:
        """World-to-camera `(3, 4)` in the world that is centred and scaled."""
        return extrinsics_at(np.array(self.orientation), (np.array(self.position) - center) * scale)

    def intrinsics(self) -> npt.NDArray[np.float64]:
        """`(3, 3)` in pixels of the full size."""
        focal, (cx, cy) = self.focal_length, self.principal_point
        # Nerfies undoes skew in pixels, x = (u - cx - y * skew) / f, with y already normalised: as in this matrix.
        return np.array([[focal, self.skew, cx], [0, focal * self.pixel_aspect_ratio, cy], [0, 0, 1]])


def _read_ids(path: Path, notes: list[str]) -> tuple[list[str], dict[str, npt.NDArray[Any]]]:
    dataset = read_json(path, Dataset)
    lists = {"ids": dataset.ids, "train_ids": dataset.train_ids, "val_ids": dataset.val_ids}
    index = {frame_id: i for i, frame_id in enumerate(dataset.ids)}
    for key, values in lists.items():
        if len(set(values)) != len(values):
            twice = next(value for value in values if values.count(value) > 1)
            raise CaptureError(f"{path}: {key!r} lists the frame {twice!r} twice; leave one of them out.")
        unknown = [frame_id for frame_id in values if frame_id not in index]
        if unknown:
            raise CaptureError(f"{path}: {key!r} lists {unknown[0]!r}, which is not in 'ids'; make the lists agree.")
    if dataset.val_ids:
        train, val = (
            np.array([index[frame_id] for frame_id in lists[key]], np.int64) for key in ("train_ids", "val_ids")
        )
        shared = np.intersect1d(train, val)
        if len(shared):
            notes.append(f"{len(shared)} frames are both in train_ids and val_ids: figures on val flatter.")
    else:
        train = np.arange(0, len(dataset.ids), 4)
        val = train[train + 2 < len(dataset.ids)] + 2
        notes.append("val_ids is empty: every 4th frame trains and the one two after it is held out, as in 4DGS.")
    return dataset.ids, {"train": train, "val": val}


def _read_metadata(path: Path, ids: list[str], notes: list[str]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The instant and the device of each frame."""
    metadata = read_json(path, dict[str, _Moment])
    missing = next((frame_id for frame_id in ids if frame_id not in metadata), None)
    if missing is not None:
        raise CaptureError(
            f"dataset.json lists the frame {missing!r} but {path} has no entry for it; make the two files agree."
        )
    moments = [metadata[frame_id] for frame_id in ids]
    warps, times, cameras = (
        [getattr(moment, key) for moment in moments] for key in ("warp_id", "time_id", "camera_id")
    )
    if all(camera is None for camera in cameras):
        cameras = [frame_id.startswith("right") for frame_id in ids]
    camera_ids = np.array([camera or 0 for camera in cameras], np.int64)
    # One rule for the whole capture: instants of two kinds could not be compared.
    if None in warps:
        if None in times:
            raise CaptureError(
                f"{path} has no 'time_id' for the frame {ids[times.index(None)]!r}, and no 'warp_id' for "
                f"{ids[warps.index(None)]!r}; give all frames one of the two."
            )
        notes.append("metadata.json lacks warp_id: the instants are its time_id.")
        return np.array(times, np.int64), camera_ids
    time_ids = np.array(warps, np.int64)
    if None not in times and not _is_shared(time_ids, camera_ids):
        others = np.array(times, np.int64)
        if _is_shared(others, camera_ids):
            notes.append("warp_id differs between the cameras of the rig: the instants are time_id.")
            return others, camera_ids
    return time_ids, camera_ids


def _is_shared(instants: npt.NDArray[Any], camera_ids: npt.NDArray[Any]) -> bool:
    """Whether two cameras filmed at any one instant."""
    pairs = np.unique(np.column_stack((instants, camera_ids)), axis=0)
    return len(pairs) > len(np.unique(instants))


def _read_world(path: Path) -> _World:
    world: _World = read_json(path, _World)
    if world.near is not None and world.far is not None and not world.near < world.far:
        raise CaptureError(f"{path}: 'near' must be below 'far', got {world.near} and {world.far}; correct the file.")
    return world


def _read_camera(root: Path, frame_id: str, path: Path) -> _Camera:
    if not path.is_file():
        raise CaptureError(
            f"{root / 'dataset.json'} lists the frame {frame_id!r} but its camera {path} is missing; "
            "add the file, or take the frame out of dataset.json."
        )
    camera: _Camera = read_json(path, _Camera, remedy="correct the file, or take the frame out of dataset.json")
    return camera


# --------------------------------------------------------------------------------------------------------------------
# Files


def _size_folders(folder: Path) -> dict[int, Path]:
    """The `<n>x` folders that hold anything, by n."""
    return {size: path for size, path in numbered_folders(folder, SIZE_FOLDER).items() if any(path.iterdir())}


def files_by_id(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """The files of a folder that have one of the suffixes, by their names without it; none where there is no folder."""
    paths = folder.iterdir() if folder.is_dir() else ()
    found = [path for path in paths if path.suffix.lower() in suffixes]
    return {path.stem: path for path in sorted(found, key=lambda path: -suffixes.index(path.suffix.lower()))}


def _find_images(root: Path, downscale: int | None) -> tuple[int, dict[str, Path]]:
    """The size that is taken, and its files by the frames' ids."""
    sizes = _size_folders(root / "rgb")
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


def find_beside(
    folder: Path, ids: list[str], downscale: int, suffixes: tuple[str, ...], below: str = "."
) -> list[Path | None] | None:
    """Files in `<n>x/<below>` of the images' size, else of the largest there is; None for a frame that has none."""
    sizes = _size_folders(folder)
    if not sizes:
        return None
    files = files_by_id(sizes.get(downscale, sizes[min(sizes)]) / below, suffixes)
    found = [files.get(frame_id) for frame_id in ids]
    return found if any(found) else None


def _read_points(
    root: Path, notes: list[str]
) -> tuple[npt.NDArray[Any] | None, npt.NDArray[np.uint8] | None, npt.NDArray[np.float32] | None]:
    """Points `(M, 3)` in the raw world, their colours `(M, 3)` and motion `(M,)`."""
    path = root / "points.npy"
    if not path.exists():
        return None, None, None
    points = read_array(path)
    if points.ndim != 2 or points.shape[1] != 3:
        raise CaptureError(f"{path} must hold points of the shape (M, 3), got {points.shape}; replace or remove it.")
    finite = np.isfinite(points).all(axis=1)
    if not finite.any():
        raise CaptureError(f"{path} holds no finite point; replace or remove it.")
    if not finite.all():
        notes.append(f"{(~finite).sum()} points of points.npy are not finite and were left out.")

    def beside(name: str, shape: tuple[int, ...]) -> npt.NDArray[Any] | None:
        other = root / name
        if not other.exists():
            return None
        values = read_array(other)
        if values.shape != shape:
            raise CaptureError(f"{other} must have the shape {shape} to fit points.npy, got {values.shape}.")
        return cast(npt.NDArray[Any], values[finite])

    colors = beside("points_rgb.npy", points.shape)
    if colors is not None and colors.dtype != np.uint8:
        raise CaptureError(f"{root / 'points_rgb.npy'} must hold uint8 colours, got {colors.dtype}; convert it.")
    motion = beside("points_motion.npy", points.shape[:1])
    return points[finite].astype(np.float64), colors, None if motion is None else motion.astype(np.float32)


def _read_tracks(path: Path, ids: list[str], center: npt.NDArray[Any], scale: float) -> PointTracks | None:
    """Tracks through the frames, in the capture's own world; frames that the file does not name see none of them."""
    if not path.is_file():
        return None
    try:
        tracks, names = read_tracks(path)
    except SceneError as error:
        raise CaptureError(str(error)) from error
    if names is None or not set(names) & set(ids):
        raise CaptureError(f"Expected {path} to name the capture's frames in `images`; it names none of them.")
    none = len(names)  # a further frame, which sees nothing
    tracks = PointTracks(
        np.concatenate((tracks.xy, np.zeros((len(tracks), 1, 2), np.float32)), axis=1),
        np.concatenate((tracks.visible, np.zeros((len(tracks), 1), bool)), axis=1),
        (tracks.points - center).astype(np.float32) * np.float32(scale),
        None
        if tracks.paths is None
        else np.concatenate(((tracks.paths - center) * scale, np.full((len(tracks), 1, 3), np.nan)), axis=1),
    )
    place_of = {name: place for place, name in enumerate(names)}
    return tracks.of_frames(np.array([place_of.get(frame_id, none) for frame_id in ids], np.int64))


# --------------------------------------------------------------------------------------------------------------------
# Captures as videos, one for each camera


def nerfies_videos(root: Path, split: str | None = None) -> list[str]:
    """Names of the videos, such as "broom/0": a capture's folder and a camera.

    Args:
        root: the folder of the captures, or a capture itself.
        split: "train" for cameras that have frames to train on (in Nerfies' and HyperNeRF's rigs all of them), "val"
            for those that have frames held out; None as "train".
    """
    names = []
    for folder in [root] if _is_nerfies(root) else sorted(filter(_is_nerfies, root.iterdir())):
        try:
            capture = read_nerfies(folder, skip_broken=True)
            cameras = np.unique(capture.camera_ids[capture.splits[split or SPLITS[0]]]).tolist()
        except CaptureError:
            cameras = [0]  # reading the video will tell what is wrong
        names += [f"{_name(folder)}/{camera}" for camera in cameras]
    return names


def read_nerfies_video(root: Path, name: str) -> Capture:
    """Read all frames of a camera of a capture, such as "broom/0", or of all its cameras, "broom", held out or not, in
    the world that scene.json gives."""
    folder_name, _, camera = name.partition("/")
    folder = root if _is_nerfies(root) and _name(root) == folder_name else sequence_folder(root, folder_name)
    capture = read_nerfies(folder, skip_broken=True)
    if not camera:
        capture = capture.select(np.argsort(capture.time_ids, kind="stable"))
    return replace(video_of_camera(capture, camera), root=root, sequence=name)


def _is_nerfies(folder: Path) -> bool:
    return looks_like_nerfies(folder) and not (folder / "splits").is_dir()  # those are DyCheck's


def _name(folder: Path) -> str:
    return Path(os.path.abspath(folder)).name  # of a link its own, by which it is found again


LAYOUT = Layout(
    "nerfies",
    FolderLayout(
        read_nerfies,
        _is_nerfies,
        "Nerfies or HyperNeRF: dataset.json, metadata.json, scene.json, camera/<id>.json, rgb/<n>x/<id>.png",
    ),
    DatasetLayout(
        nerfies_videos,
        read_nerfies_video,
        "<capture>/ with dataset.json, metadata.json, scene.json, camera/ and rgb/<n>x/",
        "Nerfies is published at https://github.com/google/nerfies, HyperNeRF at https://github.com/google/hypernerf, "
        "both under Apache-2.0; `page4d synth` makes such captures, with exact depth and motion masks.",
        SPLITS,
        dirname,
    ),
)
