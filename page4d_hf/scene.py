"""The scene folder: what a reconstruction leaves on disk, and what nerfstudio and the splatting start from.

    scene/
        transforms.json     cameras and times, as `nerfstudio-data` reads them (so do most radiance-field tools)
        images/             frame_00001.png, ...: copies of the frames, upright, at their own sizes
        points.ply          x y z, red green blue, and time, dynamics, confidence as further properties
        page4d/
            info.json       the model, its options, the version of page4d, where the frames came from, the scale
            depth/          frame_00001.npy, ...: `[h, w]` float32 z-depth, NaN where the network did not see the image
            confidence/     the same for the depth's confidence, 0 where the network did not see the image
            dynamics/       the same for the dynamics mask, NaN where the network did not see the image

In `transforms.json` cameras are camera-to-world with OpenGL axes (nerfstudio's convention), in a world whose axes are
those of the first camera in OpenCV's convention (x right, y down, z forward); points are in the same world. Pixels
count from 0 at the image's left upper corner, so that the first pixel's centre is at (0.5, 0.5). The maps under
`page4d/` cover exactly their image, at the network's resolution. The scale is arbitrary. A model without a mask leaves
out all that is named dynamics.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from plyfile import PlyData, PlyElement, PlyParseError

from .errors import SceneError
from .folders import check_output_folder, whole_folder
from .geometry import camera_to_world_opengl, extrinsics_from_camera_to_world_opengl
from .package_version import page4d_version
from .transforms_json import CAMERA_MODELS, numbers_of, read_transforms_camera

if TYPE_CHECKING:
    from .frames import Frames
    from .reconstruct import Reconstruction

FORMAT = 1  # of page4d/info.json; counts up when a reader must know
MARK = "page4d/info.json"  # what makes a folder a scene of page4d
MAPS = ("depth", "confidence", "dynamics")  # the last is left out by models without a mask
COLORS = ("red", "green", "blue")
SPLITS = ("train", "val", "test")
EXIF_ORIENTATION = 0x0112


@dataclass
class Scene:
    """A scene folder, read and checked, with no image opened yet.

    One world, OpenCV axes, world-to-camera; pixels with the first one's centre at (0.5, 0.5).
    """

    root: Path
    image_paths: list[Path]
    extrinsics: np.ndarray  # [N, 3, 4] float64, world-to-camera
    intrinsics: np.ndarray  # [N, 3, 3] float64, in pixels of the images
    distortion: np.ndarray  # [N, 5] float64, OpenCV's k1, k2, p1, p2, k3; zeros in scenes by page4d
    image_sizes: np.ndarray  # [N, 2] int, (width, height)
    times: np.ndarray  # [N] float64 in [0, 1]
    points: np.ndarray | None = None  # [M, 3] float32
    point_colors: np.ndarray | None = None  # [M, 3] uint8
    point_times: np.ndarray | None = None  # [M] float32 in [0, 1]
    point_dynamics: np.ndarray | None = None  # [M] float32, 0 static to 1 moving
    point_confidence: np.ndarray | None = None  # [M] float32
    splits: dict[str, np.ndarray] = field(default_factory=dict)  # "train", "val", "test": indices, where files say so
    use_paths: list[Path | None] | None = None  # per frame: an image, 0 where nothing is to be learned from
    info: dict[str, Any] = field(default_factory=dict)  # page4d/info.json; empty for a folder of another program

    def __len__(self) -> int:
        return len(self.image_paths)

    @property
    def scale(self) -> str:
        """The unit of the world: "arbitrary" or "metres"."""
        return str(self.info.get("scale", "arbitrary"))

    def load_depth(self, index: int) -> np.ndarray:
        """z-depth of frame `index`, `(h, w)` float32 over exactly the image; NaN where the network did not see it."""
        return self._load_map("depth", index)

    def load_confidence(self, index: int) -> np.ndarray:
        """Confidence of the depth of frame `index`, `(h, w)` float32; 0 where the network did not see the image."""
        return self._load_map("confidence", index)

    @property
    def has_dynamics(self) -> bool:
        """Whether the model that made the scene gave a dynamics mask."""
        return (self.root / "page4d" / "dynamics").is_dir()

    def load_dynamics(self, index: int) -> np.ndarray:
        """Dynamics of frame `index`, `(h, w)` float32, 0 static to 1 moving; NaN where the network did not see it."""
        return self._load_map("dynamics", index)

    def _load_map(self, name: str, index: int) -> np.ndarray:
        path = _map_path(self.root, name, self.image_paths[index].stem)
        try:
            array = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise SceneError(f"Cannot read {path}: {error}; make the scene anew with `page4d reconstruct`.") from error
        if array.ndim != 2:
            raise SceneError(f"Expected a map of two dimensions in {path}, got the shape {array.shape}.")
        return array


# ---------------------------------------------------------------------------------------------------------------
# Writing


def check_target(target: str | Path, *, overwrite: bool = False) -> None:
    """Refuse a place that a scene cannot be written to; to be asked before the work whose result goes there.

    Raises:
        Page4DError: see `check_output_folder`. With `overwrite`, nothing but a scene of page4d is ever replaced.
    """
    check_output_folder(target, overwrite=overwrite)


def write_scene(
    target: str | Path,
    frames: Frames,
    reconstruction: Reconstruction,
    info: Mapping[str, Any],
    *,
    overwrite: bool = False,
) -> Path:
    """Write a scene folder, whole or not at all.

    Args:
        target: the folder to make; it may exist if it is empty.
        frames: N frames. Files that nerfstudio would read the same way are copied; other frames are written as PNG.
        reconstruction: of these frames.
        info: what `page4d/info.json` shall hold beside what is known here: the model, its revision, the options.
        overwrite: replace a scene of page4d that is there already.

    Returns:
        `target` as a path.

    Raises:
        SceneError: a camera is not finite.
        Page4DError: see `check_target`; or the folder cannot be written, be it that the disk is full.
    """
    if len(frames) != len(reconstruction.extrinsics):
        raise SceneError(f"Expected as many cameras as the {len(frames)} frames, got {len(reconstruction.extrinsics)}.")
    for name, extrinsics, intrinsics in zip(
        frames.names, reconstruction.extrinsics, reconstruction.intrinsics, strict=True
    ):
        if not (np.isfinite(extrinsics).all() and np.isfinite(intrinsics).all()):
            raise SceneError(f"The camera of frame {name} is not finite; the reconstruction failed.")

    with whole_folder(target, overwrite=overwrite) as folder:
        (folder / "images").mkdir()
        stems = [f"frame_{i + 1:05d}" for i in range(len(frames))]
        images = [_write_image(frames, i, folder / "images" / stem) for i, stem in enumerate(stems)]
        maps = (reconstruction.depth, reconstruction.depth_conf, reconstruction.dynamics)
        for name, arrays in zip(MAPS, maps, strict=True):
            if arrays is None:
                continue
            (folder / "page4d" / name).mkdir(parents=True)
            for stem, array in zip(stems, arrays, strict=True):
                _write_array(_map_path(folder, name, stem), array)
        _write_points(folder / "points.ply", reconstruction)
        sources = [
            {"image": f"images/{image}", "source": name, "source_time": float(time)}
            for image, name, time in zip(images, frames.names, frames.times, strict=True)
        ]
        record = {
            "format": FORMAT,
            "page4d_version": page4d_version(),
            **info,
            "scale": "arbitrary",
            "source": frames.source,
            "frames": sources,
        }
        _write_json(folder / MARK, record)
        _write_json(folder / "transforms.json", _transforms(images, frames, reconstruction))
    return Path(target)


def normalized_times(times: np.ndarray) -> np.ndarray:
    """Times or indices `(N,)` to [0, 1]: the first instant is 0, the last 1; a single instant is 0."""
    times = np.asarray(times, np.float64)
    span = times.max() - times.min()
    return (times - times.min()) / (span if span > 0 else 1.0)


def _transforms(images: list[str], frames: Frames, reconstruction: Reconstruction) -> dict[str, Any]:
    poses = camera_to_world_opengl(torch.as_tensor(np.asarray(reconstruction.extrinsics, np.float64))).tolist()
    entries = []
    for i, time in enumerate(normalized_times(frames.times)):
        height, width = frames.images[i].shape[:2]
        intrinsics = np.asarray(reconstruction.intrinsics[i], np.float64)
        entries.append(
            {
                "file_path": f"images/{images[i]}",
                "time": float(time),
                "fl_x": float(intrinsics[0, 0]),
                "fl_y": float(intrinsics[1, 1]),
                "cx": float(intrinsics[0, 2]),
                "cy": float(intrinsics[1, 2]),
                "w": width,
                "h": height,
                "transform_matrix": [*poses[i], [0.0, 0.0, 0.0, 1.0]],
            }
        )
    return {"camera_model": "OPENCV", "ply_file_path": "points.ply", "frames": entries}


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
    """Whether a program that knows nothing of EXIF, palettes or 16 bits reads the image as we did."""
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        return False
    with Image.open(path) as image:
        upright = image.getexif().get(EXIF_ORIENTATION, 1) == 1
        return upright and image.mode in ("RGB", "RGBA") and image.info.get("transparency") is None


def _write_points(path: Path, reconstruction: Reconstruction) -> None:
    columns = {
        **{name: reconstruction.points[:, i].astype("<f4") for i, name in enumerate("xyz")},
        **{name: reconstruction.point_colors[:, i] for i, name in enumerate(COLORS)},
        "time": reconstruction.point_times.astype("<f4"),
        "confidence": reconstruction.point_confidence.astype("<f4"),
    }
    if reconstruction.point_dynamics is not None:
        columns["dynamics"] = reconstruction.point_dynamics.astype("<f4")
    vertices = np.empty(len(reconstruction.points), dtype=[(name, column.dtype) for name, column in columns.items()])
    for name, column in columns.items():
        vertices[name] = column
    ply = PlyData([PlyElement.describe(vertices, "vertex")], byte_order="<", comments=["scale: arbitrary"])
    buffer = io.BytesIO()
    ply.write(buffer)
    path.write_bytes(buffer.getvalue())


def _write_array(path: Path, array: np.ndarray) -> None:
    # np.save straight to a file does not say why it could not write, which a full disk must.
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(array, np.float32))
    path.write_bytes(buffer.getvalue())


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _map_path(root: Path, name: str, stem: str) -> Path:
    return root / "page4d" / name / f"{stem}.npy"


# ---------------------------------------------------------------------------------------------------------------
# Reading


def read_scene(root: str | Path) -> Scene:
    """Read a scene folder, or any folder with nerfstudio's `transforms.json`, and check all of it but the pixels.

    A folder of another program may hold its intrinsics once for all frames, `camera_angle_x` instead of a focal length,
    distortion, no image sizes, no times (the frames' places then stand for them) and no points. Its points are in the
    world of its cameras: `applied_transform` and `applied_scale`, which say what was done to both before they were
    written, change nothing here. `train_filenames`, `val_filenames` and `test_filenames` are the splits.

    Args:
        root: the folder, or its `transforms.json`.

    Raises:
        SceneError: the folder or a file is missing, is malformed, or holds a camera that is none.
    """
    root = Path(root)
    if root.is_file():
        root = root.parent
    if not root.is_dir():
        raise SceneError(f"No such folder: {root}.")
    meta = _read_json(root / "transforms.json")
    info = _read_json(root / MARK) if (root / MARK).is_file() else {}
    if info.get("format", FORMAT) != FORMAT:
        raise SceneError(
            f"{root} is a scene of format {info['format']}, and this page4d reads {FORMAT}; update page4d."
        )
    where = root / "transforms.json"
    if meta.get("camera_model", "OPENCV") not in CAMERA_MODELS:
        raise SceneError(f"{where} has cameras of the model {meta['camera_model']}; undistort its images to a pinhole.")
    frames = meta.get("frames")
    if not isinstance(frames, list) or not frames:
        raise SceneError(f"{where} lists no frames.")

    cameras = [read_transforms_camera(meta, frame, root, where) for frame in frames]
    poses = np.stack([camera.camera_to_world for camera in cameras])
    masks = [camera.mask_path for camera in cameras]
    scene = Scene(
        root=root,
        image_paths=[camera.image_path for camera in cameras],
        extrinsics=extrinsics_from_camera_to_world_opengl(torch.from_numpy(poses)).numpy(),
        intrinsics=np.stack([camera.intrinsics for camera in cameras]),
        distortion=np.stack([camera.distortion for camera in cameras]),
        image_sizes=np.array([camera.image_size for camera in cameras]),
        times=_read_times(frames, where),
        splits=_read_splits(meta, root, [camera.image_path for camera in cameras], where),
        use_paths=masks if any(masks) else None,
        info=info,
    )
    if "ply_file_path" in meta:
        _read_points(scene, root / str(meta["ply_file_path"]))
    if info:
        for name in MAPS if scene.has_dynamics else MAPS[:2]:
            for path in scene.image_paths:
                if not _map_path(root, name, path.stem).is_file():
                    raise SceneError(f"The scene lacks {_map_path(root, name, path.stem)}; make it anew.")
    return scene


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SceneError(f"{path.parent} is no scene: it has no {path.name}.") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise SceneError(f"{path} is not valid JSON ({error}).") from error
    if not isinstance(content, dict):
        raise SceneError(f"Expected an object in {path}, got {type(content).__name__}.")
    return content


def _read_times(frames: list[dict[str, Any]], where: Path) -> np.ndarray:
    given = ["time" in frame for frame in frames]
    if not any(given):
        return normalized_times(np.arange(len(frames)))
    if not all(given):
        raise SceneError(f"{where} gives the time of {sum(given)} of its {len(frames)} frames; give all or none.")
    times = numbers_of([frame["time"] for frame in frames], f"the times in {where}")
    if times.ndim != 1:
        raise SceneError(f"Expected one number as the time of each frame in {where}.")
    return times if times.min() >= 0 and times.max() <= 1 else normalized_times(times)


def _read_splits(meta: dict[str, Any], root: Path, image_paths: list[Path], where: Path) -> dict[str, np.ndarray]:
    """nerfstudio's `<split>_filenames`, by their places among the frames; empty where there are none."""
    splits = {}
    places = {path: i for i, path in enumerate(image_paths)}
    for split in SPLITS:
        key = f"{split}_filenames"
        if key not in meta:
            continue
        if not isinstance(meta[key], list) or not all(isinstance(name, str) for name in meta[key]):
            raise SceneError(f"Expected {key} in {where} to be a list of file paths.")
        unknown = [name for name in meta[key] if root / name not in places]
        if unknown:
            raise SceneError(f"{where} lists {unknown[0]} in {key}, which none of its frames has as file_path.")
        splits[split] = np.array(sorted({places[root / name] for name in meta[key]}), np.int64)
    if splits and not len(splits.get("train", ())):
        raise SceneError(f"{where} lists frames to hold out but none in train_filenames; list those to train on.")
    return splits


def _read_points(scene: Scene, path: Path) -> None:
    """Fill in the points of a PLY file; times, dynamics and confidence are there only if page4d wrote it."""
    if not path.is_file():
        raise SceneError(f"The point cloud {path} is missing, which {scene.root / 'transforms.json'} names.")
    try:
        vertices = PlyData.read(str(path), mmap=False)["vertex"].data
        points = np.stack([vertices[name] for name in "xyz"], axis=-1).astype(np.float32)
    except (PlyParseError, KeyError, ValueError, EOFError) as error:
        raise SceneError(f"Cannot read the point cloud {path}: {error}.") from error
    if not np.isfinite(points).all():
        raise SceneError(f"The point cloud {path} holds points that are not finite.")
    names = vertices.dtype.names
    scene.points = points
    if set(COLORS) <= set(names):
        scene.point_colors = np.stack([vertices[name] for name in COLORS], axis=-1).astype(np.uint8)
    else:
        scene.point_colors = np.full((len(points), 3), 128, np.uint8)
    for name in ("time", "dynamics", "confidence"):
        if name in names:
            attribute = "point_times" if name == "time" else f"point_{name}"
            setattr(scene, attribute, np.ascontiguousarray(vertices[name], dtype=np.float32))
