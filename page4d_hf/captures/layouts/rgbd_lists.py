"""Sequences of RGB-D cameras in the layout of the TUM benchmark (Sturm et al., IROS 2012), which Bonn's share.

    rgb.txt, depth.txt      timestamp path
    groundtruth.txt         timestamp tx ty tz qx qy qz qw, camera-to-world

`#` starts a comment. The three are recorded by their own clocks' ticks: each image takes the depth and the pose that
are nearest in time, if near enough, so that a gap in one of the lists shifts nothing. A depth map is that of one image:
where the sensor dropped a map, its image has none. Instead of the first two there
may be an `associations.txt` of matched pairs, `timestamp rgb timestamp depth`, and instead of motion capture the poses
of another method, in `reference_poses.txt`.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from ...errors import CaptureError
from ..base import Capture
from ..depth_files import read_uint16_png
from ..files import read_text
from ..schemas import LARGEST, LATEST, check_relative_path
from ..sequences import FrameList, read_first_image_size

DEPTH_LEVELS_PER_METRE = 5000
FRAMES_PER_SECOND = 30.0
MOST_APART = 0.02  # seconds, the benchmark's own; images and depth come every 0.033 s, poses every 0.01 s
QUATERNION_TOLERANCE = 1e-2  # of the norm; poses are written with four digits
POSE_FILES = ("groundtruth.txt", "reference_poses.txt")


class Lens(NamedTuple):
    """A camera as calibrated: pixels whose first centre is at (0, 0), as OpenCV counts."""

    focal_and_center: tuple[float, float, float, float]  # fx, fy, cx, cy in pixels
    distortion: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0, 0.0)  # OpenCV's k1, k2, p1, p2, k3
    image_size: tuple[int, int] | None = None  # (width, height) that the calibration is for; None where it isn't said

    @property
    def intrinsics(self) -> npt.NDArray[np.float64]:
        """`(3, 3)` in pixels whose first centre is at (0.5, 0.5)."""
        fx, fy, cx, cy = self.focal_and_center
        return np.array([[fx, 0, cx + 0.5], [0, fy, cy + 0.5], [0, 0, 1]])


class Trajectory(NamedTuple):
    """Poses as stored; some may be no poses."""

    path: Path
    times: npt.NDArray[Any]  # [N] float64 seconds
    positions: npt.NDArray[Any]  # [N, 3]
    quaternions: npt.NDArray[Any]  # [N, 4], (x, y, z, w)
    lines: npt.NDArray[Any]  # [N] int, the line of the file, from 1

    def camera_to_world(self, row: int) -> npt.NDArray[np.float64]:
        """A pose, `(4, 4)`.

        Raises:
            ValueError: it is not finite or its quaternion is none of a rotation.
        """
        position, quaternion = self.positions[row], self.quaternions[row]
        where = f"its pose in line {self.lines[row]} of {self.path}"
        if not (np.isfinite(position).all() and np.isfinite(quaternion).all()):
            raise ValueError(f"{where} holds NaN or infinity")
        norm = float(np.linalg.norm(quaternion))
        if abs(norm - 1) > QUATERNION_TOLERANCE:
            raise ValueError(f"{where} is no rotation: its quaternion has the norm {norm:.3g} instead of 1")
        pose = np.eye(4)
        pose[:3, :3] = Rotation.from_quat(quaternion).as_matrix()
        pose[:3, 3] = position
        return pose


def looks_like_rgbd_lists(folder: Path) -> bool:
    """Whether a folder has images in `rgb`, and at least one of the lists."""
    lists = ("rgb.txt", "depth.txt", "associations.txt", "groundtruth.txt")
    return (folder / "rgb").is_dir() and any((folder / name).is_file() for name in lists)


def named_by_folder(read: Callable[[Path, str], Capture]) -> Callable[[Path, int | None], Capture]:
    """A reader of one sequence by its folder, whatever the downscale, from one by the root and the sequence's name."""

    def read_folder(folder: Path, downscale: int | None = None) -> Capture:
        folder = folder.resolve()
        return read(folder.parent, folder.name)

    return read_folder


def read_rgbd_lists(
    folder: Path,
    lens: Lens,
    frames: FrameList,
    to_camera: Callable[[npt.NDArray[Any]], npt.NDArray[Any]] | None = None,
) -> Capture:
    """Read a sequence.

    Args:
        folder: the sequence's folder.
        lens: the colour camera; depth is registered to it.
        frames: none yet, of the sequence.
        to_camera: makes the `(4, 4)` camera-to-world pose of the camera from the stored one; None takes it as stored.

    Returns:
        The capture in metres. `time_ids` count the images that are listed, those left out included; `timestamps` are
        the images'. Images without a pose are in `skipped`; those without depth stay, and `notes` counts them.
    """
    pairs = folder / "associations.txt"
    paired = pairs.is_file() and not (folder / "rgb.txt").is_file()
    times, images = _read_stamped_files(pairs if paired else folder / "rgb.txt", 0)
    depth_times, depths = _read_stamped_files(pairs, 2) if paired else _read_stamped_files(folder / "depth.txt", 0)
    trajectory = read_trajectory(folder)
    size = read_first_image_size(images)
    if lens.image_size is not None and size != lens.image_size:
        raise CaptureError(
            f"The images of {folder} are {size[0]}x{size[1]} but the camera is calibrated for {lens.image_size[0]}x"
            f"{lens.image_size[1]}; take the images as published."
        )
    pose_rows = match_nearest(times, trajectory.times, MOST_APART)
    depth_rows = match_once(times, depth_times, MOST_APART)
    without_depth: list[Path] = []
    for i, (time, path) in enumerate(zip(times, images, strict=True)):
        with frames.skipping(path):
            if pose_rows[i] < 0:
                nearest = np.abs(trajectory.times - time).min()
                raise ValueError(
                    f"{trajectory.path} has no pose within {MOST_APART} s (the nearest is {nearest:.3g} s away)"
                )
            pose = trajectory.camera_to_world(int(pose_rows[i]))
            if depth_rows[i] < 0:
                without_depth.append(path)
            frames.add(
                path,
                np.linalg.inv(pose if to_camera is None else to_camera(pose)),
                lens.intrinsics,
                size,
                i,
                timestamp=float(time),
                depth_path=depths[depth_rows[i]] if depth_rows[i] >= 0 else None,
            )
    if without_depth:
        frames.notes.append(
            f"{len(without_depth)} images have no depth within {MOST_APART} s, {without_depth[0]} the first."
        )
    if trajectory.path.name != POSE_FILES[0]:
        frames.notes.append(f"There is no {POSE_FILES[0]}: the poses are those of {trajectory.path.name}.")
    capture = frames.capture(
        scale="metres",
        fps=FRAMES_PER_SECOND,
        depth_scale=1 / DEPTH_LEVELS_PER_METRE,
        read_depth_file=read_uint16_png,
    )
    capture.distortion[:] = lens.distortion
    return capture


def match_nearest(
    times: npt.NDArray[Any], candidates: npt.NDArray[Any], max_difference: float
) -> npt.NDArray[np.int64]:
    """For each time `(N,)` the index of the nearest candidate `(M,)`, in any order, in seconds; -1 where none is within
    `max_difference`."""
    if len(candidates) == 0:
        return np.full(len(times), -1, np.int64)
    order = np.argsort(candidates, kind="stable")
    ordered = candidates[order]
    after = np.searchsorted(ordered, times).clip(0, len(ordered) - 1)
    before = (after - 1).clip(0)
    nearest = np.where(np.abs(ordered[before] - times) <= np.abs(ordered[after] - times), before, after)
    # Seconds since 1970 in float64 are known to 2e-7.
    return np.where(np.abs(ordered[nearest] - times) <= max_difference + 1e-6, order[nearest], -1).astype(np.int64)


def match_once(times: npt.NDArray[Any], candidates: npt.NDArray[Any], max_difference: float) -> npt.NDArray[np.int64]:
    """As `match_nearest`, but no candidate is matched twice: the closest pairs go first, as in the benchmark's tool."""
    order = np.argsort(candidates, kind="stable")
    ends = [np.searchsorted(candidates[order], times + side * (max_difference + 1e-6)) for side in (-1, 1)]
    counts = ends[1] - ends[0]
    of_time = np.repeat(np.arange(len(times)), counts)
    of_candidate = order[np.concatenate([np.arange(*pair) for pair in zip(*ends, strict=True)]).astype(np.int64)]
    matched, taken = np.full(len(times), -1, np.int64), np.zeros(len(candidates), bool)
    for pair in np.argsort(np.abs(times[of_time] - candidates[of_candidate]), kind="stable"):
        i, j = of_time[pair], of_candidate[pair]
        if matched[i] < 0 and not taken[j]:
            matched[i], taken[j] = j, True
    return matched


def read_trajectory(source: Path) -> Trajectory:
    """The poses of a sequence's folder, or of a file of its own, as stored."""
    files = [source] if source.is_file() else [source / name for name in POSE_FILES]
    path = next((file for file in files if file.is_file()), files[0])
    rows = _read_rows(path)
    values = np.empty((len(rows), 8))
    for i, (line, words) in enumerate(rows):
        if len(words) < 8:
            raise CaptureError(
                f"{path}, line {line}: expected 'timestamp tx ty tz qx qy qz qw', got {' '.join(words)!r:.80}."
            )
        values[i] = [_number(path, line, word) for word in words[:8]]
    return Trajectory(path, values[:, 0], values[:, 1:4], values[:, 4:], np.array([line for line, _ in rows]))


def read_lens(path: Path) -> Lens:
    """A calibration in a text file: fx fy cx cy, and perhaps k1 k2 p1 p2 k3."""
    numbers = [_number(path, line, word) for line, words in _read_rows(path) for word in words]
    if len(numbers) not in (4, 9) or not np.abs(numbers).max() <= LARGEST or min(numbers[:2]) < 1 / LARGEST:
        raise CaptureError(
            f"{path} must hold fx fy cx cy, and k1 k2 p1 p2 k3 where the lens distorts, with focal lengths above 0; "
            f"got {' '.join(f'{number:g}' for number in numbers)!r:.80}."
        )
    fx, fy, cx, cy = numbers[:4]
    return Lens((fx, fy, cx, cy), tuple(numbers[4:]) or Lens._field_defaults["distortion"])


def _read_stamped_files(path: Path, column: int) -> tuple[npt.NDArray[np.float64], list[Path]]:
    """The times in seconds, rising, and the files of a list whose rows have a timestamp at `column` and a path next."""
    found = []
    for line, words in _read_rows(path):
        if len(words) < column + 2:
            raise CaptureError(f"{path}, line {line}: expected a timestamp and a path, got {' '.join(words)!r:.80}.")
        time = _number(path, line, words[column])
        if not abs(time) <= LATEST:
            raise CaptureError(f"{path}, line {line}: the timestamp {words[column]:.40} is no time; correct the file.")
        try:
            found.append((time, path.parent / check_relative_path(words[column + 1])))
        except ValueError as error:
            raise CaptureError(
                f"{path}, line {line}: {reprlib.repr(words[column + 1])} {error}; correct the file."
            ) from error
    found.sort(key=lambda row: row[0])
    return np.array([time for time, _ in found], np.float64), [file for _, file in found]


def _read_rows(path: Path) -> list[tuple[int, list[str]]]:
    """The words of each row, with the number of its line."""
    lines = read_text(path).splitlines()
    rows = [(i, line.split()) for i, line in enumerate(lines, 1) if line.strip() and not line.lstrip().startswith("#")]
    if not rows:
        raise CaptureError(f"{path} has no rows; fetch it again.")
    return rows


def _number(path: Path, line: int, word: str) -> float:
    try:
        return float(word)
    except ValueError as error:
        raise CaptureError(f"{path}, line {line}: {word!r:.40} is no number; correct the file.") from error
