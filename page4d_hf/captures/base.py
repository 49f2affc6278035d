"""What every capture reader gives, frames with cameras and times in one form, and how it is entered in the registry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import CaptureError
from ..frames import natural_key
from ..geometry import resized_intrinsics
from ..scene.tracks import PointTracks
from .depth_files import read_npy_depth
from .image_files import read_image, read_image_mask, read_image_size

# The fields of `Capture` that have an entry for each frame.
PER_FRAME = (
    "frame_ids", "image_paths", "extrinsics", "intrinsics", "distortion", "image_sizes", "time_ids", "camera_ids",
    "timestamps", "instants", "motion_mask_paths", "use_paths", "depth_paths", "covisible_paths", "fisheye",
)  # fmt: skip


@dataclass
class Capture:
    """A capture that lies on disk, read but with no image opened yet.

    Cameras and points are in one world, with the layout's own centring and scaling already applied. Axes: OpenCV,
    world-to-camera. Pixels: the first pixel's centre is at (0.5, 0.5).
    """

    layout: str  # the reader's name, for example "nerfies"
    root: Path
    frame_ids: list[str]
    image_paths: list[Path]
    extrinsics: npt.NDArray[Any]  # [N, 3, 4] float64, world-to-camera
    intrinsics: npt.NDArray[Any]  # [N, 3, 3] float64, in pixels of the image at `image_paths`; [0, 1] is the skew
    # [N, D] float64, zeros for a pinhole: OpenCV's k1, k2, p1, p2, k3 and, with 8 columns, k4, k5, k6; of a fisheye
    # k1, k2, k3, k4.
    distortion: npt.NDArray[Any]
    image_sizes: npt.NDArray[Any]  # [N, 2] int, (width, height) of the image at `image_paths`
    time_ids: npt.NDArray[Any]  # [N] int, the instant of each frame; frames of equal id were taken at the same time
    camera_ids: npt.NDArray[Any]  # [N] int, the device of each frame
    splits: dict[str, npt.NDArray[Any]] = field(default_factory=dict)  # "train", "val": [n] int indices of frames
    scale: str = "arbitrary"  # "arbitrary" or "metres": the unit of the world
    near: float | None = None  # in the world's unit
    far: float | None = None
    # [M, 3] float32 in the world; float64 where files are, for worlds far from 0
    points: npt.NDArray[Any] | None = None
    point_colors: npt.NDArray[Any] | None = None  # [M, 3] uint8
    motion_mask_paths: list[Path | None] | None = (
        None  # per frame, for `read_motion_mask_file`; None where there is none
    )
    depth_paths: list[Path | None] | None = None  # per frame, for `read_depth_file`; None where there is none
    depth_scale: float = 1.0  # what stored depth is multiplied by to be in the world's unit
    image_downscale: int = 1  # the images at `image_paths` have 1 / image_downscale of the full size
    point_motion: npt.NDArray[Any] | None = None  # [M] float32, 0 for a point that stands still to 1 for one that moves
    notes: list[str] = field(default_factory=list)  # what the reader had to choose, one sentence each
    sequence: str = ""  # the capture's name within its data set
    ordered: bool = True  # False: no order in time, any frames make a clip; else those of one device are a video
    fps: float | None = None  # frames per second
    timestamps: npt.NDArray[Any] | None = None  # [N] float64 seconds
    skipped: list[str] = field(default_factory=list)  # frames left out: one sentence each, with the file and the reason
    covisible_paths: list[Path | None] | None = None  # per frame: an image, non-zero where the training frames see too
    use_paths: list[Path | None] | None = None  # per frame: an image, 0 where nothing is to be learned from
    # [N] float64 in [0, 1], where instants are no whole steps; `time_ids` rank them
    instants: npt.NDArray[Any] | None = None
    evaluation_split: str = "val"  # the split that published figures are of
    tracks: PointTracks | None = None  # through the N frames, of what moves
    fisheye: npt.NDArray[Any] | None = None  # [N] bool: lenses of OpenCV's fisheye model; None: none is
    background: tuple[int, int, int] | None = None  # RGB from 0 to 255 that transparent images are laid over
    # What decodes the files above; module-level functions or partials of such, so that captures can be pickled. Depth:
    # (path, intrinsics of the image) to (H, W) z-depth in the stored unit, which need not have the image's size; what
    # is 0, negative or not finite is not known. Mask: path to (H, W) bool, true where something moves. Image: path to
    # (H, W, 3) uint8, or (H, W, 4) where transparency is part of what was filmed.
    read_depth_file: Callable[[Path, npt.NDArray[Any]], npt.NDArray[Any]] = read_npy_depth
    read_motion_mask_file: Callable[[Path], npt.NDArray[Any]] = read_image_mask
    read_image_file: Callable[[Path], npt.NDArray[Any]] = read_image

    def __len__(self) -> int:
        return len(self.frame_ids)

    @property
    def times(self) -> npt.NDArray[Any]:
        """`(N,)` float64 times in [0, 1]: `instants`, or else the first of `time_ids` is 0 and the last is 1."""
        if self.instants is not None:
            return np.asarray(self.instants, np.float64)
        first, last = int(self.time_ids.min()), int(self.time_ids.max())
        return (self.time_ids - first) / max(last - first, 1)

    def select(self, frames: npt.ArrayLike) -> Capture:
        """A capture of some of the frames, indices of which none comes twice, in that order; `splits` name them by
        their new places.
        """
        chosen = np.asarray(frames, np.int64)
        places = np.full(len(self), -1)
        places[chosen] = np.arange(len(chosen))
        splits = {name: places[indices] for name, indices in self.splits.items()}

        def pick(values: Any) -> Any:
            return values[chosen] if isinstance(values, np.ndarray) else values and [values[i] for i in chosen]

        return replace(
            self,
            **{name: pick(getattr(self, name)) for name in PER_FRAME},
            splits={name: indices[indices >= 0] for name, indices in splits.items()},
            tracks=None if self.tracks is None else self.tracks.of_frames(chosen),
            notes=list(self.notes),
            skipped=list(self.skipped),
        )


class FolderLayout(NamedTuple):
    """Layout of a folder that holds one capture, for `read_capture`.

    `read` takes the folder and a downscale, see `read_capture`; layouts that store one size don't use the latter.
    """

    read: Callable[[Path, int | None], Capture]
    detect: Callable[[Path], bool]  # whether a folder is of this layout, judged by its entries' names alone
    looks: str  # what such a folder holds, for messages


class DatasetLayout(NamedTuple):
    """Layout of a folder that holds many sequences, for `find_sequences` and `read_sequence`.

    The root is an existing folder, the split None or one of `splits`, and the sequence's name a path inside the root.
    """

    sequences: Callable[[Path, str | None], list[str]]  # (root, split) to sorted names; None: all there is to train on
    read: Callable[[Path, str], Capture]  # (root, name of a sequence)
    looks: str  # what lies in the root, in one line
    published: str  # where it is published and under which licence
    splits: tuple[str, ...] = ()
    # (name of a sequence) to that of the scene that it shows: eyes of a stereo pair and cameras of a rig share one.
    scene: Callable[[str], str] = str


class Layout(NamedTuple):
    """One layout in which captures are published: what its module in `layouts` gives to the registry as `LAYOUT`.

    Its readers raise a CaptureError where a file is missing or broken or contradicts another. The reader of a data set
    leaves a frame that cannot be used out instead and names it in `Capture.skipped`, unless no frame is left.
    """

    name: str
    folder: FolderLayout | None = None  # None: it is read as a data set alone
    dataset: DatasetLayout | None = None  # None: it is read a folder at a time


def fit_to_stored(
    image_path: Path, intrinsics: npt.NDArray[Any], full_size: npt.ArrayLike, downscale: int, source: object
) -> tuple[tuple[int, int], npt.NDArray[np.float64]]:
    """(width, height) of an image at 1/downscale of its full size, rounded either way, and the intrinsics `(3, 3)` in
    its pixels of the camera that `source` has for the full size."""
    size, full = read_image_size(image_path), np.array(full_size)
    expected = full / downscale
    if (np.abs(expected - size) > np.maximum(1.0, 0.01 * expected)).any():
        raise CaptureError(
            f"{image_path} is {size[0]}x{size[1]} but {source} says {full[0]}x{full[1]} at full size, so "
            f"{expected[0]:g}x{expected[1]:g} here; correct the one that is wrong."
        )
    return size, resized_intrinsics(intrinsics, size / full)


def devices_by_folder(folders: Sequence[str], time_ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The device `(N,)` of each frame, by its folder and its instant: frames of one instant in several folders are
    those of a rig, each folder a camera; otherwise all are of one device."""
    names = sorted(set(folders), key=natural_key)
    devices = np.array([names.index(folder) for folder in folders], np.int64)
    views = np.unique(np.stack((time_ids, devices), axis=1), axis=0)
    is_rig = len(views) > len(np.unique(time_ids))
    return devices if is_rig else np.zeros_like(devices)
