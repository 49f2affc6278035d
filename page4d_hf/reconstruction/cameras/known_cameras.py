"""Known cameras: reading them, matching them to frames, and checking them against tracks."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import pdist

from ...captures.files import readable
from ...captures.layouts.colmap import FILES, find_model, read_model_cameras
from ...captures.layouts.rgbd_lists import MOST_APART, match_nearest, read_trajectory
from ...errors import Page4DError
from ...frames import Frames, natural_key
from ...geometry import camera_centers
from ...scene.folder import read_scene
from ...utils.evenly import evenly
from ..lenses import COEFFICIENTS, LEAST_BEND, Lenses
from ..tracks import REFERENCE_WIDTH, Tracks

GAPS = (1, 4, 8)  # frames between the two of a pair
TOLERANCE = 2.0  # pixels from the epipolar line, for images of the reference width: measured poses are off by that
LEAST_MOTION = 4.0  # pixels, for images of the reference width: matches that move less agree with any cameras
FEWEST_MATCHES = 50
MOST_MATCHES = 50_000
AGREEING = 0.5  # share of the matches below which cameras contradict the images
CLEARLY_BETTER = 0.8  # of another reading's share: where the given reading has less, the other is meant
FOCAL_FACTORS = np.exp(np.linspace(-0.9, 0.9, 19))  # of the network's focal length, where none is known
SAME_ASPECT = 0.01
FOCAL_RANGE = (0.05, 1000.0)  # of the longer side: from 169 degrees to a twentieth of one
FARTHEST = 1e9  # units from the origin, of cameras: single precision takes their squares
LEAST_PATH = 1e-6  # of the distance between two cameras, relative to the longest: others have no length to compare
MOST_COMPARED = 200  # cameras of a path

FloatArray = npt.NDArray[np.float64]
Direction = Literal["world-to-camera", "camera-to-world"]
Axes = Literal["OpenCV", "OpenGL"]
Convention = tuple[Direction, Axes]
CONVENTIONS: tuple[Convention, ...] = (
    ("world-to-camera", "OpenCV"),
    ("camera-to-world", "OpenCV"),
    ("world-to-camera", "OpenGL"),
    ("camera-to-world", "OpenGL"),
)
_FLIP = np.diag([1.0, -1.0, -1.0, 1.0])  # from OpenCV's axes to OpenGL's and back


@dataclass(frozen=True)
class CameraFile:
    """Cameras from a file or an option, before they are matched to frames."""

    path: str
    convention: Convention = CONVENTIONS[0]  # of the file's matrices
    names: list[str] | None = None  # of each camera's image
    names_of_videos: bool = False  # whether they name a video's frames as `Frames` does
    times: FloatArray | None = None  # [N] seconds
    extrinsics: FloatArray | None = None  # [N, 3, 4] world-to-camera, OpenCV axes
    intrinsics: FloatArray | None = None  # [N, 3, 3] in pixels, the first one's centre at (0.5, 0.5)
    distortion: FloatArray | None = None  # [N, D] OpenCV's coefficients, or of a fisheye k1 to k4
    fisheye: npt.NDArray[Any] | None = None  # [N] bool
    sizes: npt.NDArray[Any] | None = None  # [N, 2] (width, height) that the intrinsics are for; None: the frames'
    images: Path | None = None  # of a scene by page4d: the folder of its images,
    sources: list[str] | None = None  # the frame that each was made from,
    lens: Mapping[str, Any] | None = None  # and of those the first one's lens, where it was undone

    def __len__(self) -> int:
        known = self.extrinsics if self.extrinsics is not None else self.intrinsics
        assert known is not None
        return len(known)

    @property
    def of_one_lens(self) -> bool:
        """Whether all intrinsics are the same."""
        alike = [each for each in (self.intrinsics, self.distortion, self.fisheye, self.sizes) if each is not None]
        return all(np.allclose(each, each[:1]) for each in alike)

    def of(self, frames: Frames) -> CameraFile:
        """The cameras of a scene's images, where the frames are those, or else of what they were made from."""
        if self.sources is None or {path.parent.resolve() for path in frames.paths or ()} == {self.images}:
            return self
        of_sources = replace(self, names=self.sources, names_of_videos=True)
        return of_sources if self.lens is None else _distorted(of_sources, self.lens)


@dataclass(frozen=True)
class KnownCameras:
    """Known poses and intrinsics of S frames, which are held fixed."""

    extrinsics: FloatArray | None = None  # [S, 3, 4] world-to-camera, OpenCV axes
    intrinsics: FloatArray | None = None  # [S, 3, 3] in pixels of the frames
    path: str = ""  # of the poses, for messages
    convention: Convention = CONVENTIONS[0]  # of the matrices in that file
    lenses: Lenses | None = None  # where images have to be undistorted first

    @property
    def focal(self) -> float | None:
        """One focal length for all frames, in pixels: that of `idealized`."""
        if self.intrinsics is None:
            return None
        return float(np.median(np.sqrt(self.intrinsics[:, 0, 0] * self.intrinsics[:, 1, 1])))

    def idealized(self, tracks: Tracks, image_size: tuple[int, int]) -> Tracks:
        """Tracks as one camera would see them with square pixels, `focal`, and its principal point at the centre."""
        if self.intrinsics is None:
            return tracks
        matrix = self.intrinsics[tracks.frame]
        rays = (tracks.xy - matrix[:, :2, 2]) / np.stack((matrix[:, 0, 0], matrix[:, 1, 1]), axis=1)
        return replace(tracks, xy=(self.focal * rays + (image_size[1] / 2, image_size[0] / 2)).astype(np.float32))


# ---------------------------------------------------------------------------------------------------------------
# Reading


def read_intrinsics(given: str | os.PathLike[str]) -> CameraFile:
    """Intrinsics as an option gives them: the text `fx,fy,cx,cy` in pixels of the frames, or a file of cameras."""
    if os.path.exists(given):
        found = read_cameras(given)
        if found.intrinsics is None:
            raise Page4DError(f"{found.path} holds poses alone; give --intrinsics fx,fy,cx,cy in pixels.")
        return replace(found, extrinsics=None)
    try:
        fx, fy, cx, cy = (float(number) for number in os.fspath(given).split(","))
    except ValueError as error:
        raise Page4DError(
            f"Expected intrinsics as fx,fy,cx,cy in pixels, or a transforms.json or COLMAP model; got "
            f"{os.fspath(given)!r:.200}, and there is no such file."
        ) from error
    if not (np.isfinite([fx, fy, cx, cy]).all() and min(fx, fy) > 0):
        raise Page4DError(f"Expected finite intrinsics with focal lengths above 0, got {os.fspath(given)}.")
    return CameraFile("--intrinsics", intrinsics=np.array([[[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]]]))


def read_cameras(path: str | os.PathLike[str]) -> CameraFile:
    """Cameras of nerfstudio's transforms.json or its folder, of a folder with a COLMAP model, or of a trajectory, which
    holds no intrinsics (TUM's: `timestamp tx ty tz qx qy qz qw` in each line, camera-to-world)."""
    path = Path(path)
    with readable(path):
        return _of_any(path)


def _of_any(path: Path) -> CameraFile:
    if path.is_file() and path.stem in FILES and path.suffix in (".bin", ".txt"):
        path = path.parent
    if path.suffix.lower() == ".json" and path.is_file():
        if path.name != "transforms.json":
            raise Page4DError(f"Expected cameras in a file transforms.json, got {path}; rename it.")
        return _of_transforms(path)
    if path.is_file():
        return _of_trajectory(path)
    if (path / "transforms.json").is_file():
        return _of_transforms(path / "transforms.json")
    model = find_model(path)
    if model is not None:
        return _of_colmap(model)
    if (path / "groundtruth.txt").is_file():
        return _of_trajectory(path / "groundtruth.txt")
    raise Page4DError(
        f"Expected cameras in a transforms.json, a folder with a COLMAP model, or a trajectory "
        f"(timestamp tx ty tz qx qy qz qw); got {str(path)!r:.200}, which is none of these."
    )


def _of_transforms(path: Path) -> CameraFile:
    scene = read_scene(path, cameras_only=True)
    order = np.argsort(scene.times, kind="stable")
    fisheye = np.zeros(len(scene), bool) if scene.fisheye is None else scene.fisheye
    sources = scene.info.get("frames")
    return CameraFile(
        str(path),
        convention=("camera-to-world", "OpenGL"),
        names=[scene.image_paths[i].name for i in order],
        extrinsics=scene.extrinsics[order],
        intrinsics=scene.intrinsics[order],
        distortion=scene.distortion[order],
        fisheye=fisheye[order],
        sizes=scene.image_sizes[order],
        images=scene.image_paths[0].parent.resolve(),
        sources=None if sources is None else [sources[i]["source"] for i in order],
        lens=scene.info.get("lens"),
    )


def _distorted(cameras: CameraFile, lens: Mapping[str, Any]) -> CameraFile:
    """Cameras of undistorted images as they were before, with the lens that `page4d/info.json` keeps."""
    if not cameras.of_one_lens:
        raise Page4DError(
            f"The images of {cameras.path} were undistorted by several lenses, of which it keeps one; give "
            f"{cameras.images} as input, or the cameras that those lenses are from."
        )
    count, coefficients = len(cameras), COEFFICIENTS[lens["model"]]
    matrix = np.array([[lens["fl_x"], 0, lens["cx"]], [0, lens["fl_y"], lens["cy"]], [0, 0, 1.0]])
    return replace(
        cameras,
        intrinsics=np.tile(matrix, (count, 1, 1)),
        distortion=np.tile([float(lens.get(name, 0)) for name in coefficients], (count, 1)),
        fisheye=np.full(count, lens["model"] == "fisheye"),
        sizes=np.tile([lens["w"], lens["h"]], (count, 1)),
    )


def _of_colmap(folder: Path) -> CameraFile:
    model = read_model_cameras(folder)
    return CameraFile(
        str(folder),
        names=[Path(name).name for name in model.names],
        extrinsics=model.extrinsics,
        intrinsics=model.intrinsics,
        distortion=model.distortion,
        fisheye=model.fisheye,
        sizes=model.image_sizes,
    )


def _of_trajectory(path: Path) -> CameraFile:
    trajectory = read_trajectory(path)
    try:
        poses = [trajectory.camera_to_world(row) for row in range(len(trajectory.times))]
    except ValueError as error:
        raise Page4DError(f"Cannot take cameras from {path}: {error}.") from error
    return CameraFile(
        str(path),
        convention=("camera-to-world", "OpenCV"),
        times=trajectory.times,
        extrinsics=np.linalg.inv(np.stack(poses))[:, :3],
    )


# ---------------------------------------------------------------------------------------------------------------
# Matching


def known_cameras(cameras: CameraFile | None, intrinsics: CameraFile | None, frames: Frames) -> KnownCameras:
    """Match known cameras to frames: poses of `cameras`, and intrinsics of `intrinsics` or else of `cameras`.

    Where lenses distort, intrinsics are those of the undistorted frames.
    """
    cameras, intrinsics = (None if file is None else file.of(frames) for file in (cameras, intrinsics))
    known = KnownCameras()
    file = intrinsics or cameras
    if file is not None and file.intrinsics is not None:
        known = _intrinsics_of(file, frames)
    if cameras is None:
        return known
    assert cameras.extrinsics is not None
    poses = cameras.extrinsics[_matched(cameras, frames)]
    if not (np.abs(poses[:, :, 3]) <= FARTHEST).all():
        raise Page4DError(f"A camera of {cameras.path} is over {FARTHEST:g} units from the origin; scale its world.")
    return replace(known, extrinsics=poses, path=cameras.path, convention=cameras.convention)


def _intrinsics_of(lens: CameraFile, frames: Frames) -> KnownCameras:
    assert lens.intrinsics is not None
    rows = np.zeros(len(frames), np.int64) if lens.of_one_lens else _matched(lens, frames)
    matrices = lens.intrinsics[rows].astype(np.float64)
    for place, (height, width) in enumerate(frames.sizes):
        if lens.sizes is not None:
            scale = np.array([width, height]) / lens.sizes[rows[place]]
            if abs(scale[0] / scale[1] - 1) > SAME_ASPECT:
                made = "x".join(str(side) for side in lens.sizes[rows[place]])
                raise Page4DError(
                    f"The intrinsics of {lens.path} are for images of {made}, and frame {frames.names[place]} is "
                    f"{width}x{height}; give those of the frames."
                )
            matrices[place, :2] *= scale[:, None]
        focal, side = np.array([matrices[place, 0, 0], matrices[place, 1, 1]]), max(width, height)
        if not ((focal >= FOCAL_RANGE[0] * side) & (focal <= FOCAL_RANGE[1] * side)).all():
            raise Page4DError(
                f"No camera sees {width}x{height} pixels, frame {frames.names[place]}, with the focal lengths of "
                f"{lens.path}, {focal[0]:g} and {focal[1]:g}; give intrinsics in pixels of the frames."
            )
        center = matrices[place, :2, 2]
        if not ((center > 0) & (center < (width, height))).all():
            raise Page4DError(
                f"The principal point of {lens.path}, ({center[0]:g}, {center[1]:g}), is outside of frame "
                f"{frames.names[place]}, which is {width}x{height}; give intrinsics in pixels of the frames."
            )
    if lens.distortion is not None and lens.fisheye is not None:
        lenses = Lenses(matrices, lens.distortion[rows], lens.fisheye[rows], frames.sizes, lens.path)
        if lenses.bend >= LEAST_BEND:
            return KnownCameras(intrinsics=lenses.pinholes, lenses=lenses)
    return KnownCameras(intrinsics=matrices)


def _matched(cameras: CameraFile, frames: Frames) -> npt.NDArray[np.int64]:
    """The camera of each frame: by name, by the timestamp that is a file's name, or by order."""
    rows = np.full(len(frames), -1, np.int64)
    if cameras.names is not None and (frames.paths is not None or cameras.names_of_videos):
        rows = _by_name(cameras.names, frames.names)
    elif cameras.times is not None and frames.paths is not None:
        stamps = _timestamps([path.stem for path in frames.paths], cameras.times)
        if stamps is not None:
            rows = match_nearest(stamps, cameras.times, MOST_APART)
    if (rows >= 0).all():
        return rows
    if len(cameras) == len(frames):
        if cameras.names is None or cameras.names_of_videos:
            return np.arange(len(frames))
        return np.array(sorted(range(len(cameras)), key=lambda row: natural_key(cameras.names[row])))  # type: ignore[index]
    missing = [name for name, row in zip(frames.names, rows, strict=True) if row < 0]
    raise Page4DError(
        f"Expected a camera for each of the {len(frames)} frames in {cameras.path}; it has {len(cameras)}, and "
        f"none for {len(missing)} of the frames ({missing[0]} the first): name images as it does, leave out frames "
        "without a camera, or give as many."
    )


def _timestamps(names: Sequence[str], times: FloatArray) -> FloatArray | None:
    """The seconds that files are named by, as the poses of a trajectory are at `times`; None where they are none, as
    `00012` is, the place of an image, beside poses of which not all are at whole seconds."""
    try:
        stamps = np.array([float(name) for name in names])
    except ValueError:
        return None
    counted = all(name.isdecimal() for name in names) and not np.array_equal(times, np.round(times))
    return None if counted else stamps


def _by_name(names: Sequence[str], frames: Sequence[str]) -> npt.NDArray[np.int64]:
    """Places of frames among names, by the whole name or else without the suffix; -1 where a name is not there once."""
    for wanted, offered in (
        (list(frames), list(names)),
        ([Path(n).stem for n in frames], [Path(n).stem for n in names]),
    ):
        places = {name: place for place, name in enumerate(offered)}
        if len(places) == len(offered) and all(name in places for name in wanted):
            break
    if len(places) < len(offered):
        return np.full(len(frames), -1, np.int64)
    return np.array([places.get(name, -1) for name in wanted], np.int64)


# ---------------------------------------------------------------------------------------------------------------
# Comparing with the images


def check_against_tracks(
    known: KnownCameras, tracks: Tracks, static: npt.NDArray[Any], focal: float, image_size: tuple[int, int]
) -> float:
    """Refuse poses that contradict the images, and name the convention that agrees with them, where one does.

    A match agrees with two cameras where it is near the half of its epipolar line that lies in front of both.

    Args:
        known: poses; where intrinsics are known too, the tracks are `idealized` and the focal length theirs.
        tracks: of the clip.
        static: [T] bool, tracks to ask.
        focal: pixels.
        image_size: (height, width).

    Returns:
        The focal length: the known one, or the one that agrees best.
    """
    assert known.extrinsics is not None
    frames, others, start, end = _matches(tracks, static, len(known.extrinsics), image_size)
    if len(frames) < FEWEST_MATCHES:
        return focal  # what hardly moves agrees with any cameras
    unit = image_size[1] / REFERENCE_WIDTH
    center = np.array([image_size[1] / 2, image_size[0] / 2])
    focals = focal * (np.ones(1) if known.intrinsics is not None else FOCAL_FACTORS)
    shares: dict[Convention, tuple[float, float]] = {}
    for convention in CONVENTIONS:
        extrinsics = _read_as(known.extrinsics, known.convention, convention)
        each = [
            float(
                np.mean(
                    _off_epipolar(extrinsics[frames], extrinsics[others], start - center, end - center, f)
                    < TOLERANCE * unit
                )
            )
            for f in focals
        ]
        best = int(np.argmax(each))
        shares[convention] = each[best], float(focals[best])
    share, found = shares[known.convention]
    best_convention = max(shares, key=lambda each: shares[each][0])
    if shares[best_convention][0] < AGREEING:
        raise Page4DError(
            f"The cameras of {known.path} contradict the images: only {share:.0%} of the matches between frames agree "
            "with them, and no more with their inverses or other axes; check that they are of these frames, in this "
            "order, and that intrinsics are in pixels of the frames."
        )
    if share < CLEARLY_BETTER * shares[best_convention][0]:
        direction, axes = best_convention
        expected = " matrices with ".join(known.convention)
        raise Page4DError(
            f"The cameras of {known.path} look like {direction} matrices with {axes} axes, with which "
            f"{shares[best_convention][0]:.0%} of the matches between frames agree; such a file holds {expected} axes, "
            f"with which {share:.0%} do: convert them."
        )
    return found


def _matches(
    tracks: Tracks, static: npt.NDArray[Any], num_frames: int, image_size: tuple[int, int]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], FloatArray, FloatArray]:
    """Frames of pairs, and positions [N, 2] in both, of matches that move enough."""
    rows = tracks.rows_of_frames(num_frames)
    found = []
    for gap in sorted({min(gap, num_frames - 1) for gap in GAPS}):
        for first in range(num_frames - gap):
            one, other = rows[first], rows[first + gap]
            common, i, j = np.intersect1d(tracks.track[one], tracks.track[other], return_indices=True)
            start, end = tracks.xy[one][i], tracks.xy[other][j]
            moves = np.linalg.norm(end - start, axis=1) > LEAST_MOTION * image_size[1] / REFERENCE_WIDTH
            kept = static[common] & moves
            pair = np.broadcast_to([first, first + gap], (int(kept.sum()), 2))
            found.append(np.concatenate((pair, start[kept], end[kept]), axis=1))
    table = np.concatenate(found).astype(np.float64)
    table = table[:: 1 + len(table) // MOST_MATCHES]
    return table[:, 0].astype(int), table[:, 1].astype(int), table[:, 2:4], table[:, 4:6]


def _read_as(extrinsics: FloatArray, written: Convention, meant: Convention) -> FloatArray:
    """Extrinsics, read in one convention from a file, as they would be in another."""
    turned = np.insert(extrinsics, 3, (0, 0, 0, 1), axis=1)  # [S, 4, 4]
    if written[1] == "OpenGL":
        turned = _FLIP @ turned
    if written[0] != meant[0]:
        turned = np.linalg.inv(turned)
    if meant[1] == "OpenGL":
        turned = _FLIP @ turned
    return turned[:, :3]


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def _off_epipolar(one: FloatArray, other: FloatArray, start: FloatArray, end: FloatArray, focal: float) -> FloatArray:
    """Distance [N] in pixels of a match from where the first camera's ray, in front of it, is seen by the second."""
    rotation = other[:, :, :3] @ one[:, :, :3].transpose(0, 2, 1)
    translation = other[:, :, 3] - np.einsum("nij,nj->ni", rotation, one[:, :, 3])
    ray = np.einsum("nij,nj->ni", rotation, np.concatenate((start / focal, np.ones((len(start), 1))), axis=1))
    # The image of the point at inverse depth r is that of ray + r * translation: from r = 0 along a half-line.
    infinity = focal * ray[:, :2] / ray[:, 2:]
    along = translation[:, :2] * ray[:, 2:] - ray[:, :2] * translation[:, 2:]
    length = np.linalg.norm(along, axis=1, keepdims=True)
    along = np.divide(along, length, out=np.zeros_like(along), where=length > 0)
    offset = end - infinity
    reach = np.maximum((offset * along).sum(axis=1, keepdims=True), 0)
    distance = np.linalg.norm(offset - reach * along, axis=1)
    return np.where((ray[:, 2] > 0) & np.isfinite(distance), distance, np.inf)


def depth_by_paths(
    depth: list[npt.NDArray[Any]], extrinsics: FloatArray, known: FloatArray
) -> tuple[list[npt.NDArray[Any]], str]:
    """The network's depth in the scale of known cameras `(S, 3, 4)`, and a sentence.

    It is the median ratio of distances between them and between the network's.
    """
    chosen = evenly(len(known), MOST_COMPARED)
    ours, theirs = (pdist(camera_centers(each[chosen])) for each in (extrinsics, known))
    moves = (theirs > LEAST_PATH * theirs.max(initial=0)) & (ours > LEAST_PATH * ours.max(initial=0))
    if not moves.any():
        return depth, "Depth has the network's scale, as the cameras do not move."
    scale = float(np.median(theirs[moves] / ours[moves]))
    return [(scale * each).astype(np.float32) for each in depth], "The length of the camera's path scales depth."
