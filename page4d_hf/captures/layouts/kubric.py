"""Kubric (Greff et al., CVPR 2022): rendered videos of falling objects, in the folders that its MOVi workers write.

    <scene>/rgba_%05d.png                   8-bit
    <scene>/depth_%05d.tiff                 float32 distance along the ray, in the scene's unit
    <scene>/segmentation_%05d.png           palette; the index is 0 for the background, i for instances[i - 1]
    <scene>/metadata.json                   camera, instances and frame rate

Frame i of `metadata.json` is file i, from 0. Cameras look along -z with y up (Blender) and their quaternions are
(w, x, y, z), camera-to-world. The sensor is as wide as the image, pixels are square and the principal point is the
image's middle. An instance moves if it is dynamic or if its pose changes: static objects get hit. Masks tell what moves
in the video, whether or not in that frame. The scenes in TFDS form (MOVi's records) are not read.
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from annotated_types import Len
from scipy.spatial.transform import Rotation

from ...errors import CaptureError
from ...geometry import extrinsics_at
from ...utils.image_bounds import MOST_PIXELS, check_pixels
from ...utils.json_files import Fault, OrFault, Record, read_json
from ..base import Capture, DatasetLayout, Layout
from ..files import decoding
from ..image_files import read_image
from ..schemas import Positive, Vector3, Vector4
from ..sequences import FrameList, import_decoder, list_sequences, read_first_image_size

NOTHING_HIT = 1e9  # in the scene's unit; no scene is as large
# Of a resting object the simulated pose is constant but for numerical noise.
MOVED_DISTANCE = 1e-2  # in the scene's unit; objects are about 1 large
MOVED_ANGLE = 1e-2  # radians


class _Video(Record):
    frame_rate: Positive


class _Camera(Record):
    focal_length: Positive
    sensor_width: Positive
    positions: Annotated[list[Annotated[Vector3, OrFault]], Len(1)]
    quaternions: list[Annotated[Vector4, OrFault]]


class _Instance(Record):
    positions: Annotated[list[Vector3], Len(1)]
    quaternions: Annotated[list[Vector4], Len(1)]
    is_dynamic: bool = False


class _Metadata(Record):
    """metadata.json"""

    metadata: _Video
    camera: _Camera
    instances: list[_Instance]


def kubric_sequences(root: Path, split: str | None = None) -> list[str]:
    """Names of the scenes: the folders in `root` that have rgba images or metadata.json. There are no splits."""
    names = ("metadata.json", "rgba_00000.png")
    return list_sequences(root, split, (), lambda path: any((path / name).is_file() for name in names))


def read_kubric(root: Path, sequence: str) -> Capture:
    """Read a scene, in its own unit."""
    folder = root / sequence
    path = folder / "metadata.json"
    import_decoder("tifffile")  # now, not at the first frame
    metadata = read_json(path, _Metadata)
    camera, rate = metadata.camera, metadata.metadata.frame_rate
    focal, positions, quaternions = camera.focal_length / camera.sensor_width, camera.positions, camera.quaternions
    if len(positions) != len(quaternions):
        raise CaptureError(
            f"{path} must hold as many positions as quaternions of the camera, got {len(positions)} and "
            f"{len(quaternions)}; fetch the scene again."
        )
    moving = _moving_instances(metadata.instances)

    images = [folder / f"rgba_{i:05d}.png" for i in range(len(positions))]
    surplus = folder / f"rgba_{len(positions):05d}.png"
    width, height = read_first_image_size(images)
    intrinsics = np.array([[focal * width, 0, width / 2], [0, focal * width, height / 2], [0, 0, 1]])
    frames = FrameList("kubric", root, sequence)
    has_depth = any(folder.glob("depth_*.tiff"))
    if not has_depth:
        frames.notes.append(f"{folder} has no depth_*.tiff.")
    for i, image in enumerate(images):
        with frames.skipping(image):
            frames.add(
                image,
                _extrinsics(positions[i], quaternions[i]),
                intrinsics,
                (width, height),
                i,
                timestamp=i / rate,
                frame_id=f"{i:05d}",
                depth_path=folder / f"depth_{i:05d}.tiff" if has_depth else None,
                motion_mask_path=folder / f"segmentation_{i:05d}.png",
            )
    if surplus.is_file():
        frames.skip(surplus, f"{path} has {len(positions)} cameras only")
    return frames.capture(
        fps=rate,
        read_depth_file=partial(read_radial_tiff, image_size=(width, height)),
        read_motion_mask_file=partial(read_palette_mask, moving=moving),
    )


def read_radial_tiff(path: Path, intrinsics: npt.NDArray[Any], image_size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Z-depth from a float TIFF of distances along the ray: z = distance / |(x, y, 1)| of the pixel's ray.

    Args:
        path: the file, `(H, W)` or `(H, W, 1)`.
        intrinsics: `(3, 3)` in pixels of the image, the first pixel's centre at (0.5, 0.5).
        image_size: (width, height) of the image, which may be of another size than the depth.

    Returns:
        `(H, W)`, 0 where the ray hits nothing.
    """
    tifffile = import_decoder("tifffile")
    with decoding(path, "a TIFF"), tifffile.TiffFile(path) as file:
        page = file.pages.first
        check_pixels(page.imagewidth, page.imagelength, path, CaptureError)
        # Memory is taken by the head: for all pages and samples, for a tile, and for what a tile unpacks to.
        declared = page.imagewidth * page.imagelength
        if file.series[0].size != declared or math.prod(page.chunks) > MOST_PIXELS:
            raise CaptureError(f"{path} must hold float depth of the shape (H, W), got {file.series[0].shape}.")
        if sum(page.databytecounts) > 2 * declared * page.dtype.itemsize + 4096:
            raise CaptureError(f"{path} has more bytes packed than unpacked; fetch it again.")
        distance = np.asarray(file.asarray())
    if distance.ndim == 3 and 1 in (distance.shape[0], distance.shape[-1]):
        distance = distance[..., 0] if distance.shape[-1] == 1 else distance[0]
    if distance.ndim != 2 or distance.dtype.kind != "f" or distance.size == 0:
        raise CaptureError(f"{path} must hold float depth of the shape (H, W), got {distance.dtype} {distance.shape}.")
    height, width = distance.shape
    u = (np.arange(width) + 0.5) * (image_size[0] / width)
    v = (np.arange(height) + 0.5) * (image_size[1] / height)
    # Blender stores 1e10 where a ray hits nothing.
    distance = np.where(distance < NOTHING_HIT, distance, 0)
    x = (u - intrinsics[0, 2]) / intrinsics[0, 0]
    y = (v - intrinsics[1, 2]) / intrinsics[1, 1]
    return np.asarray(distance / np.sqrt(x * x + (y * y)[:, None] + 1), np.float32)


def read_palette_mask(path: Path, moving: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Where a palette (or grey) image has one of the indices `moving`, `(H, W)`."""
    indices = read_image(path, keep_grey=True)
    if indices.ndim != 2:
        raise CaptureError(f"{path} must be a palette image of instance indices, got colours; fetch it again.")
    return np.isin(indices, moving)


def _moving_instances(instances: list[_Instance]) -> tuple[int, ...]:
    """Palette indices of the instances that are dynamic or whose pose changes."""
    return tuple(i for i, instance in enumerate(instances, 1) if instance.is_dynamic or _pose_changes(instance))


def _pose_changes(instance: _Instance) -> bool:
    positions, quaternions = np.array(instance.positions), np.array(instance.quaternions)
    distance = np.linalg.norm(positions - positions[:1], axis=1).max()
    # q and -q are the same rotation; the angle between two is 2 arccos |q . p|.
    norms = np.linalg.norm(quaternions, axis=1)
    cosine = np.abs(quaternions @ quaternions[0]) / np.maximum(norms * norms[0], 1e-12)
    return bool(distance > MOVED_DISTANCE or 2 * np.arccos(cosine.clip(max=1).min()) > MOVED_ANGLE)


def _extrinsics(position: list[float] | Fault, quaternion: list[float] | Fault) -> npt.NDArray[np.float64]:
    """World-to-camera with OpenCV axes, `(3, 4)`.

    Raises:
        ValueError: the position or the quaternion is none; the message is the middle of a sentence.
    """
    for name, part in (("position", position), ("quaternion", quaternion)):
        if isinstance(part, Fault):
            raise ValueError(f"the {name} of its camera {part}")
    if abs(np.linalg.norm(quaternion) - 1) > 1e-2:
        raise ValueError(f"the quaternion of its camera, {quaternion}, has not the norm 1 of a rotation")
    rotation = Rotation.from_quat(np.roll(quaternion, -1)).as_matrix()  # SciPy wants the scalar last
    return extrinsics_at((rotation * [1, -1, -1]).T, np.asarray(position))


LAYOUT = Layout(
    "kubric",
    dataset=DatasetLayout(
        kubric_sequences,
        read_kubric,
        "<scene>/ with rgba_%05d.png, depth_%05d.tiff, segmentation_%05d.png and metadata.json",
        "Kubric renders such scenes: https://github.com/google-research/kubric, under Apache-2.0.",
    ),
)
