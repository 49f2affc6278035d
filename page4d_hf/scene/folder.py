"""The scene folder: what a reconstruction leaves on disk, and what nerfstudio and the splatting start from.

    scene/
        transforms.json     cameras and times, as `nerfstudio-data` reads them (so do most radiance-field tools)
        images/             frame_00001.png, ...: copies of the frames, upright, at their own sizes
        points.ply          x y z, red green blue, and time, motion, confidence as further properties
        preview.jpg         contact sheet: frames, depth, motion, the camera's path from above (not always there)
        masks/              frame_00001.png.png, ...: of the user, 0 where nothing is to be learned (not always there)
        motion_masks/       frame_00001.png.png, ...: where asked for, 0 where something moves and 255 elsewhere
        page4d/
            info.json       the model and its weights, the options, the version of page4d, where the frames came from
            depth/          frame_00001.npy, ...: `[h, w]` float32 z-depth, NaN where the network did not see the image
            confidence/     the same for the depth's confidence, 0 where the network did not see the image
            motion/         the same for the motion mask, NaN where the network did not see the image
            tracks.npz      point tracks that the cameras were refined by: tracks, visible, points, images

In `transforms.json` cameras are camera-to-world with OpenGL axes (nerfstudio's convention), in a world whose axes are
those of the first camera in OpenCV's convention (x right, y down, z forward); points are in the same world. Pixels
count from 0 at the image's left upper corner, so that the first pixel's centre is at (0.5, 0.5). The maps under
`page4d/` cover exactly their image, at the network's resolution. The scale is arbitrary. Where the user gave cameras,
world and scale are theirs. Where nothing tells what moves, all that is named motion is left out.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from plyfile import PlyData, PlyElement
from pydantic import Field

from ..errors import SceneError
from ..frames import Frames, normalized_times
from ..geometry import camera_to_world_opengl, extrinsics_from_camera_to_world_opengl
from ..package_version import page4d_version
from ..utils.folders import whole_folder
from ..utils.json_files import Record, read_json
from .reconstruction import Reconstruction
from .tracks import TRACKS, PointTracks, read_tracks, tracks_bytes
from .transforms_json import (
    CAMERA_MODELS,
    FISHEYE_MODELS,
    TIME_STEP,
    Transforms,
    find_file,
    frame_times,
    read_transforms,
    read_transforms_camera,
    spread_times,
    times_by_name,
    with_slashes,
)

FORMAT = 1  # of page4d/info.json; counts up when a reader must know
MARK = "page4d/info.json"  # what makes a folder a scene of page4d
MAPS = ("depth", "confidence", "motion")  # the last is left out by models without a mask
COLORS = ("red", "green", "blue")
SPLITS = ("train", "val", "test")
MOVES = 0.5  # motion from which a pixel or a point counts as moving
EXIF_ORIENTATION = 0x0112
# Fields of a `Scene` that have an entry for each frame, or for each point.
FRAME_ARRAYS = (
    "image_paths", "extrinsics", "intrinsics", "distortion", "image_sizes", "times", "use_paths", "depth_paths",
    "fisheye",
)  # fmt: skip
POINT_ARRAYS = ("points", "point_colors", "point_times", "point_motion", "point_confidence")


@dataclass
class Scene:
    """A scene folder, read and checked, with no image opened yet.

    One world, OpenCV axes, world-to-camera; pixels with the first one's centre at (0.5, 0.5).
    """

    root: Path
    image_paths: list[Path]
    extrinsics: npt.NDArray[Any]  # [N, 3, 4] float64, world-to-camera
    intrinsics: npt.NDArray[Any]  # [N, 3, 3] float64, in pixels of the images
    distortion: npt.NDArray[Any]  # [N, 5] float64, as in a `Capture`; zeros in scenes by page4d
    image_sizes: npt.NDArray[Any]  # [N, 2] int, (width, height)
    times: npt.NDArray[Any]  # [N] float64 in [0, 1]
    points: npt.NDArray[Any] | None = None  # [M, 3] float32; float64 of another program's file in double precision
    point_colors: npt.NDArray[Any] | None = None  # [M, 3] uint8
    point_times: npt.NDArray[Any] | None = None  # [M] float32 in [0, 1]
    point_motion: npt.NDArray[Any] | None = None  # [M] float32, 0 static to 1 moving
    point_confidence: npt.NDArray[Any] | None = None  # [M] float32
    # "train", "val", "test": indices, where files say so
    splits: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    use_paths: list[Path | None] | None = None  # per frame: an image, 0 where nothing is to be learned from
    depth_paths: list[Path | None] | None = None  # per frame: z-depth of another program, as nerfstudio has it
    fisheye: npt.NDArray[Any] | None = None  # [N] bool, as in a `Capture`
    notes: list[str] = field(default_factory=list)  # what the reader had to choose, one sentence each
    info: dict[str, Any] = field(default_factory=dict)  # page4d/info.json; empty for a folder of another program

    def __len__(self) -> int:
        return len(self.image_paths)

    def take(self, indices: npt.NDArray[Any]) -> Scene:
        """Some of the frames, in this order, with all points and without `splits`."""
        arrays = {name: _some_of(getattr(self, name), indices) for name in FRAME_ARRAYS}
        frames = {"frames": _some_of(self.info["frames"], indices)} if "frames" in self.info else {}
        return replace(self, **arrays, splits={}, info={**self.info, **frames})

    def take_points(self, indices: npt.NDArray[Any]) -> Scene:
        """All of the frames with some of the points, by their indices or a mask."""
        return replace(self, **{name: _some_of(getattr(self, name), indices) for name in POINT_ARRAYS})

    @property
    def scale(self) -> str:
        """The unit of the world: "arbitrary", "metres", or "cameras": that of the cameras that the user knew."""
        return str(self.info.get("scale", "arbitrary"))

    def load_depth(self, index: int) -> npt.NDArray[Any]:
        """z-depth of frame `index`, `(h, w)` float32 over exactly the image; NaN where the network did not see it."""
        return self._load_map("depth", index)

    def load_confidence(self, index: int) -> npt.NDArray[Any]:
        """Confidence of the depth of frame `index`, `(h, w)` float32; 0 where the network did not see the image."""
        return self._load_map("confidence", index)

    @property
    def has_motion(self) -> bool:
        """Whether the model that made the scene gave a motion mask."""
        return (self.root / "page4d" / "motion").is_dir()

    def load_motion(self, index: int) -> npt.NDArray[Any]:
        """Motion of frame `index`, `(h, w)` float32, 0 static to 1 moving; NaN where the network did not see it."""
        return self._load_map("motion", index)

    def load_tracks(self) -> PointTracks | None:
        """The point tracks that the cameras were refined by, in the scene's frames; None where there are none."""
        path = self.root / TRACKS
        if not path.is_file():
            return None
        tracks, images = read_tracks(path)
        places = {name: place for place, name in enumerate(images or ())}
        missing = next((image.name for image in self.image_paths if image.name not in places), None)
        if missing is not None:
            raise SceneError(f"{path} says nothing of {missing}; make the scene anew with `page4d reconstruct`.")
        return tracks.of_frames(np.array([places[image.name] for image in self.image_paths]))

    def _load_map(self, name: str, index: int) -> npt.NDArray[Any]:
        path = _map_path(self.root, name, self.image_paths[index].stem)
        try:
            with path.open("rb") as file:
                array: npt.NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
        except Exception as error:  # MemoryError and tokenize.TokenError among it: the header is a piece of Python
            raise SceneError(
                f"Cannot read {path}: {_told(error)}; make the scene anew with `page4d reconstruct`."
            ) from error
        if array.ndim != 2 or array.dtype != np.float32:
            raise SceneError(
                f"Expected a map of two dimensions of float32 in {path}, got {array.dtype} of the shape {array.shape}; "
                "make the scene anew with `page4d reconstruct`."
            )
        if name != "depth" and array.shape != (shape := self._load_map("depth", index).shape):
            raise SceneError(
                f"Expected a map of the depth's shape {shape} in {path}, got {array.shape}; make the scene anew with "
                "`page4d reconstruct`."
            )
        return array


def _some_of(values: Any, indices: npt.NDArray[Any]) -> Any:
    """Of an array or a list, what stands at some indices; nothing of nothing."""
    return values[indices] if isinstance(values, np.ndarray) else values and [values[i] for i in indices]


# ---------------------------------------------------------------------------------------------------------------
# Writing


def write_scene(
    target: str | Path,
    reconstruction: Reconstruction,
    *,
    preview: bool = False,
    motion_masks: bool = False,
    overwrite: bool = False,
) -> Path:
    """Write a scene folder, whole or not at all.

    Args:
        target: the folder to make; it may exist if it is empty.
        reconstruction: of its frames, files that nerfstudio would read the same way are copied, and others are written
            as PNG. Its `info` becomes part of `page4d/info.json`.
        preview: write `preview.jpg`, a contact sheet.
        motion_masks: write `motion_masks/<image's name>.png` too, as COLMAP names masks: 0 where something moves.
        overwrite: replace a folder that page4d wrote, see `whole_folder`.

    Returns:
        `target` as a path.

    Raises:
        SceneError: a camera is not finite, or nothing tells what moves and motion masks are asked for.
        Page4DError: the folder is in the way or cannot be written, see `whole_folder`.
    """
    frames = reconstruction.frames
    if len(frames) != len(reconstruction.extrinsics):
        raise SceneError(f"Expected as many cameras as the {len(frames)} frames, got {len(reconstruction.extrinsics)}.")
    for name, extrinsics, intrinsics in zip(
        frames.names, reconstruction.extrinsics, reconstruction.intrinsics, strict=True
    ):
        if not (np.isfinite(extrinsics).all() and np.isfinite(intrinsics).all()):
            raise SceneError(f"The camera of frame {name} is not finite; the reconstruction failed.")

    if motion_masks and reconstruction.motion is None:
        raise SceneError("Nothing tells what moves in these frames, so that there are no motion masks to write.")

    with whole_folder(target, overwrite=overwrite) as folder:
        (folder / "images").mkdir()
        stems = [f"frame_{i + 1:05d}" for i in range(len(frames))]
        images = [_write_image(frames, i, folder / "images" / stem) for i, stem in enumerate(stems)]
        maps = (reconstruction.depth, reconstruction.depth_conf, reconstruction.motion)
        for name, arrays in zip(MAPS, maps, strict=True):
            if arrays is None:
                continue
            (folder / "page4d" / name).mkdir(parents=True)
            for stem, array in zip(stems, arrays, strict=True):
                _write_array(_map_path(folder, name, stem), array)
        if motion_masks and reconstruction.motion is not None:
            (folder / "motion_masks").mkdir()
            for image, size, motion in zip(images, frames.sizes, reconstruction.motion, strict=True):
                write_mask(folder / "motion_masks" / f"{image}.png", ~moving_pixels(motion, size))
        if reconstruction.visible is not None:
            (folder / "masks").mkdir()
            for image, mask in zip(images, reconstruction.visible, strict=True):
                write_mask(folder / "masks" / f"{image}.png", mask)
        if reconstruction.tracks is not None:
            (folder / TRACKS).write_bytes(tracks_bytes(reconstruction.tracks, images))
        write_points(folder / "points.ply", reconstruction)
        if preview:
            from .preview import contact_sheet

            sheet = Image.fromarray(contact_sheet(reconstruction, normalized_times(frames.times)))
            sheet.save(folder / "preview.jpg", quality=90)
        sources = [
            {"image": f"images/{image}", "source": name, "source_time": float(time)}
            for image, name, time in zip(images, frames.names, frames.times, strict=True)
        ]
        record = {
            "format": FORMAT,
            "page4d_version": page4d_version(),
            **reconstruction.info,
            "scale": reconstruction.scale,
            "source": frames.source,
            "frames": sources,
        }
        write_json(folder / MARK, record)
        files, sizes = [f"images/{image}" for image in images], np.array(frames.sizes)[:, ::-1]
        meta = transforms_json(files, reconstruction, sizes, normalized_times(frames.times))
        if reconstruction.visible is not None:
            for entry, image in zip(meta["frames"], images, strict=True):
                entry["mask_path"] = f"masks/{image}.png"
        write_json(folder / "transforms.json", meta)
    return Path(target)


def transforms_json(
    files: Sequence[str],
    cameras: Reconstruction | Scene,
    sizes: npt.NDArray[Any],
    times: npt.NDArray[Any],
) -> dict[str, Any]:
    """Contents of nerfstudio's `transforms.json` for frames with a pinhole camera each and points in points.ply.

    `files` are the frames' images, from the file's folder; `sizes` `[N, 2]` are (width, height), `times` in [0, 1].
    """
    poses = camera_to_world_opengl(torch.as_tensor(np.asarray(cameras.extrinsics, np.float64))).tolist()
    intrinsics = np.asarray(cameras.intrinsics, np.float64).tolist()
    entries = [
        {
            "file_path": file,
            "time": time,
            "fl_x": fl_x,
            "fl_y": fl_y,
            "cx": cx,
            "cy": cy,
            "w": width,
            "h": height,
            "transform_matrix": [*pose, [0.0, 0.0, 0.0, 1.0]],
        }
        for file, pose, ((fl_x, _, cx), (_, fl_y, cy), _), (width, height), time in zip(
            files, poses, intrinsics, sizes.tolist(), times.tolist(), strict=True
        )
    ]
    return {"camera_model": "OPENCV", "ply_file_path": "points.ply", "frames": entries}


def moving_pixels(motion: npt.NDArray[Any], size: tuple[int, int]) -> npt.NDArray[Any]:
    """Where something moves, `(H, W)` bool at the image's size (height, width); what the network did not see stands
    still."""
    known = Image.fromarray(np.nan_to_num(motion).astype(np.float32))
    return np.asarray(known.resize(size[::-1], Image.Resampling.BILINEAR)) >= MOVES


def write_mask(path: Path, use: npt.NDArray[Any]) -> None:
    """Write a mask `(H, W)` bool as an image: 255 where it holds, 0 elsewhere."""
    Image.fromarray(np.where(use, 255, 0).astype(np.uint8)).save(path)


def _write_image(frames: Frames, index: int, target: Path) -> str:
    """Put one frame beside the cameras; returns its file name."""
    path = frames.paths[index] if frames.paths is not None else None
    if path is not None and _reads_the_same_everywhere(path):
        # A copy, not a link: who edits the scene's images must not change the originals.
        target = target.with_suffix(path.suffix.lower())
        shutil.copyfile(path, target)
    else:
        target = target.with_suffix(".png")
        Image.fromarray(frames.images[index]).save(target, compress_level=1)
    return target.name


def _reads_the_same_everywhere(path: Path) -> bool:
    """Whether a program without support for EXIF, palettes or 16 bits reads the same pixels."""
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        return False
    with Image.open(path) as image:
        upright = image.getexif().get(EXIF_ORIENTATION, 1) == 1
        return upright and image.mode in ("RGB", "RGBA") and image.info.get("transparency") is None


def write_points(path: Path, cloud: Reconstruction | Scene) -> None:
    """Write the points of a scene as PLY: x y z, red green blue, and what is known of time, confidence, motion."""
    assert cloud.points is not None
    assert cloud.point_colors is not None
    columns = {
        **{name: cloud.points[:, i].astype("<f4") for i, name in enumerate("xyz")},
        **{name: cloud.point_colors[:, i] for i, name in enumerate(COLORS)},
    }
    optional = {"time": cloud.point_times, "confidence": cloud.point_confidence, "motion": cloud.point_motion}
    for name, values in optional.items():
        if values is not None:
            columns[name] = values.astype("<f4")
    vertices = np.empty(len(cloud.points), dtype=[(name, column.dtype) for name, column in columns.items()])
    for name, column in columns.items():
        vertices[name] = column
    element = PlyElement.describe(vertices, "vertex")
    ply = PlyData([element], byte_order="<", comments=[f"scale: {cloud.scale}"])
    buffer = io.BytesIO()
    ply.write(buffer)
    path.write_bytes(buffer.getvalue())


def _write_array(path: Path, array: npt.NDArray[Any]) -> None:
    # np.save straight to a file does not say why it could not write, which a full disk must.
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(array, np.float32))
    path.write_bytes(buffer.getvalue())


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file of UTF-8. A file's name need not be UTF-8: what is not becomes a question mark."""
    text = json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    path.write_bytes(text.encode("utf-8", "replace"))


def _map_path(root: Path, name: str, stem: str) -> Path:
    return root / "page4d" / name / f"{stem}.npy"


# ---------------------------------------------------------------------------------------------------------------
# Reading


def read_scene(root: str | Path, *, cameras_only: bool = False) -> Scene:
    """Read a scene folder, or any folder with nerfstudio's `transforms.json`, and check all of it but the pixels.

    A folder of another program may hold its intrinsics once for all frames, `camera_angle_x` instead of a focal length,
    distortion, no image sizes, no times (the natural order of file names then stands for them, as in nerfstudio) and
    no points. Times that do not span [0, 1] are scaled to it. Its points are in the world of its cameras:
    `applied_transform` and `applied_scale`, which say what was done to both before they were written, change nothing
    here. `train_filenames`, `val_filenames` and `test_filenames` are the splits.

    Args:
        root: the folder, or its `transforms.json`.
        cameras_only: neither read its points nor ask for its depth maps.

    Raises:
        SceneError: the folder or a file is missing, is malformed, or holds a camera that is none.
    """
    root = Path(root)
    if root.is_file():
        if root.name != "transforms.json":
            raise SceneError(f"Expected a scene's folder or its transforms.json, got the file {root}.")
        root = root.parent
    if not root.is_dir():
        raise SceneError(f"No such folder: {root}.")
    where = root / "transforms.json"
    if not where.is_file():
        raise SceneError(f"{root} is no scene: it has no transforms.json.")
    meta = read_transforms(where)
    if (meta.camera_model or "OPENCV") not in CAMERA_MODELS | FISHEYE_MODELS:
        raise SceneError(
            f"{where} has cameras of the model {meta.camera_model!r:.40}; undistort its images to a pinhole."
        )

    cameras = [read_transforms_camera(meta, frame, root, where) for frame in meta.frames]
    image_paths = [camera.image_path for camera in cameras]
    poses = np.stack([camera.camera_to_world for camera in cameras])
    masks, depth = ([getattr(camera, key) for camera in cameras] for key in ("mask_path", "depth_path"))
    given = frame_times(meta, where)
    names = [frame.file_path for frame in meta.frames]
    times, note = (times_by_name(meta), None) if given is None else spread_times(given, where, names)
    info, written = _read_info(root / MARK, image_paths)
    scene = Scene(
        root=root,
        image_paths=image_paths,
        extrinsics=extrinsics_from_camera_to_world_opengl(torch.from_numpy(poses)).numpy(),
        intrinsics=np.stack([camera.intrinsics for camera in cameras]),
        distortion=np.stack([camera.distortion for camera in cameras]),
        image_sizes=np.array([camera.image_size for camera in cameras]),
        times=times,
        splits=_read_splits(meta, root, image_paths, where),
        use_paths=masks if any(masks) else None,
        depth_paths=depth if any(depth) else None,
        fisheye=np.array([camera.fisheye for camera in cameras]) if any(camera.fisheye for camera in cameras) else None,
        notes=[] if note is None else [note],
        info=info,
    )
    if cameras_only:
        return scene
    if meta.ply_file_path is not None:
        _read_points(scene, meta.ply_file_path)
        if scene.point_times is not None and len(scene.point_times):
            scene = _with_points_of_frames(scene, scene.point_times, given, written)
    if scene.info:
        for name in MAPS if scene.has_motion else MAPS[:2]:
            for path in image_paths:
                if not _map_path(root, name, path.stem).is_file():
                    raise SceneError(f"The scene lacks {_map_path(root, name, path.stem)}; make it anew.")
    return scene


def frames_at(times: npt.NDArray[Any], of_frames: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The frame [M] nearest to each of some times [M], of frames at times [N]; the first of those at one instant."""
    instants, first = np.unique(of_frames, return_index=True)
    nearest: npt.NDArray[Any] = first[np.searchsorted((instants[1:] + instants[:-1]) / 2, times)]
    return nearest


class _Version(Record):
    format: int = FORMAT


class _InfoFrame(Record, extra="allow"):
    image: str  # its file, from the scene's root
    source: str  # file name of the image that it was made from, or frame of a video
    source_time: float | None = None  # in any unit


class _InfoLens(Record, extra="allow"):
    """The lens that images were undistorted by: OpenCV's coefficients, or those of a fisheye."""

    model: Literal["OpenCV", "fisheye"]
    fl_x: float
    fl_y: float
    cx: float
    cy: float
    w: int
    h: int
    k1: float = 0
    k2: float = 0
    k3: float = 0
    k4: float = 0
    k5: float = 0
    k6: float = 0
    p1: float = 0
    p2: float = 0


class _Info(Record, extra="allow"):
    """Fields of `page4d/info.json` that readers rely on."""

    scale: str = "arbitrary"
    model: str | None = None
    source: str | None = None
    frames: list[_InfoFrame] = Field(default_factory=list)
    lens: _InfoLens | None = None


class _Written(NamedTuple):
    """Times at which a scene was written, which the user may have changed since."""

    of_frames: npt.NDArray[Any]  # [N], of the frames that the scene has now
    of_all: npt.NDArray[Any]  # of these and of frames that were removed since


def _read_info(path: Path, image_paths: list[Path]) -> tuple[dict[str, Any], _Written | None]:
    """`page4d/info.json`, with a source for each of the images, and the times that frames were written with; empty and
    None where there is none."""
    if not path.is_file():
        return {}, None
    remedy = "make the scene anew"
    version = read_json(path, _Version, error=SceneError, remedy=remedy).format
    if version != FORMAT:
        raise SceneError(f"{path} is of format {version}, and this page4d reads {FORMAT}; update page4d.")
    info: dict[str, Any] = read_json(path, _Info, error=SceneError, remedy=remedy).model_dump(exclude_unset=True)
    written = None
    if "frames" in info:  # transforms.json may have lost some since, or have them in another order
        sources = {path.parents[1] / frame["image"]: frame for frame in info["frames"]}
        unknown = next((image for image in image_paths if image not in sources), None)
        if unknown is not None:
            raise SceneError(f"{path} does not say where {unknown} came from; {remedy}.")
        if sources and all(frame.get("source_time") is not None for frame in sources.values()):
            times = normalized_times(np.array([frame["source_time"] for frame in sources.values()]))
            at = dict(zip(sources, times, strict=True))
            written = _Written(np.array([at[image] for image in image_paths]), times)
        info["frames"] = [sources[image] for image in image_paths]
    return info, written


def _read_splits(meta: Transforms, root: Path, image_paths: list[Path], where: Path) -> dict[str, npt.NDArray[Any]]:
    """nerfstudio's `<split>_filenames`, by their places among the frames; empty where there are none."""
    splits = {}
    places = {root / with_slashes(frame.file_path): i for i, frame in enumerate(meta.frames)}
    places |= {path: i for i, path in enumerate(image_paths)}
    for split in SPLITS:
        names = getattr(meta, f"{split}_filenames")
        if names is None:
            continue
        unknown = next((name for name in names if root / with_slashes(name) not in places), None)
        if unknown is not None:
            raise SceneError(
                f"{where} lists {unknown} in {split}_filenames, which none of its frames has as file_path."
            )
        splits[split] = np.array(sorted({places[root / with_slashes(name)] for name in names}), np.int64)
    if splits and not len(splits.get("train", ())):
        raise SceneError(f"{where} lists frames to hold out but none in train_filenames; list those to train on.")
    return splits


def _read_points(scene: Scene, name: str) -> None:
    """Fill in the points of a PLY file, with times, motion and confidence where it has them, as those by page4d do."""
    path = find_file(scene.root, name)
    if path is None:
        raise SceneError(
            f"The point cloud {scene.root / name} is missing, which {scene.root / 'transforms.json'} names."
        )
    columns: dict[str, npt.NDArray[Any]] = {}
    try:
        vertices = PlyData.read(str(path), mmap="c")["vertex"].data
        with np.errstate(over="ignore"):  # an infinity is refused below
            given = np.stack([vertices[name] for name in "xyz"], axis=-1)
            points = given.astype(np.float32)
            for name in ("time", "motion", "confidence"):
                if name in vertices.dtype.names:
                    columns[name] = np.ascontiguousarray(vertices[name], dtype=np.float32)
        if set(COLORS) <= set(vertices.dtype.names):
            colors = _to_8_bits(np.stack([vertices[name] for name in COLORS], axis=-1))
        else:
            colors = np.full((len(points), 3), 128, np.uint8)
    except Exception as error:  # plyfile raises what it happens to meet, MemoryError and TypeError among it
        raise SceneError(f"Cannot read the point cloud {path}: {_told(error)}.") from error
    for name, values in {"position": points, **columns}.items():
        if not np.isfinite(values).all():
            raise SceneError(f"The point cloud {path} holds points whose {name} is not finite; make it anew.")
    # Of a world in geographic coordinates, float32 would leave steps of half a metre.
    scene.points, scene.point_colors = given.astype(np.float64) if given.dtype.char == "d" else points, colors
    scene.point_times = columns.get("time")
    scene.point_motion, scene.point_confidence = columns.get("motion"), columns.get("confidence")


def _with_points_of_frames(
    scene: Scene, times: npt.NDArray[Any], given: npt.NDArray[Any] | None, written: _Written | None
) -> Scene:
    """The scene with `times` of points brought to those of its frames, and without points of frames that were removed.

    Points whose times are all those that frames were written with are of these; others are of frames whose times [N] in
    the file, `given`, are theirs. Times that are those of no frame are of another kind: there are none.
    """
    of_frames = given
    if written is not None and _nearest(times, written.of_all)[1].all():
        of_frames = written.of_frames
    if of_frames is None:
        return replace(scene, point_times=None)
    frame, left = _nearest(times, of_frames)
    if not left.any():
        return replace(scene, point_times=None)
    if not left.all():
        where = scene.root / "transforms.json"
        scene.notes.append(f"{(~left).sum():,} points are left out, of frames that {where} does not have.")
    return replace(scene, point_times=scene.times[frame].astype(np.float32)).take_points(left)


def _nearest(times: npt.NDArray[Any], of_frames: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """The frame [M] nearest to each of some times [M], of frames at times [N], and whether the time [M] bool is its."""
    nearest = frames_at(times, of_frames)
    return nearest, np.abs(times - of_frames[nearest]) <= TIME_STEP * max(1, np.abs(of_frames).max())


def _to_8_bits(colors: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Colours of a PLY file, from 0 to 255; floating-point ones go from 0 to 1, save in files that have greater."""
    if colors.dtype.kind == "f":
        colors = np.nan_to_num(colors, posinf=255)
        return cast(
            npt.NDArray[Any], np.rint(colors * (255 if colors.max(initial=0) <= 1 else 1)).clip(0, 255).astype(np.uint8)
        )
    return (colors // 257 if colors.dtype.itemsize == 2 else colors).clip(0, 255).astype(np.uint8)


def _told(error: Exception) -> str:
    return str(error).rstrip(".") or type(error).__name__
