"""Spring (Mehl et al., CVPR 2023): stereo scenes of an animated film.

    {train,test}/<%04d>/frame_{left,right}/frame_left_%04d.png      1920x1080, files from 1
    .../disp1_left/disp1_left_%04d.dsp5                             HDF5 `disparity`, 3840x2160
    .../flow_FW_left/flow_FW_left_%04d.flo5                         HDF5 `flow`, 3840x2160
    .../maps/{skymap_left,rigidmap_FW_left,rigidmap_BW_left}/...png (also read where `maps/` is left out)
    .../cam_data/{intrinsics,extrinsics}.txt                        row i belongs to frame i + 1

Disparity and flow have four values for each pixel of the image but are in units of the image's pixels: every second one
of every second row is taken. The extrinsics are the left camera's, world-to-camera; the right one is 0.065 m beside it.
Depth is fx * 0.065 / disparity; sky and pixels without disparity have none. Each eye is a sequence of its own. The test
split is published without extrinsics and cannot be read.

What a rigidity map marks is not documented by its authors: it is taken to be what moves, unless the flow of a frame
shows that the marked pixels are those that follow the camera's motion.
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from posixpath import dirname
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ...errors import CaptureError
from ...utils.evenly import evenly
from ...utils.image_bounds import MOST_PIXELS, check_pixels
from ..base import Capture, DatasetLayout, Layout
from ..files import decoding, read_text
from ..flow import still_flow
from ..image_files import read_image_mask
from ..sequences import FrameList, check_camera, import_decoder, list_sequences, read_first_image_size

BASELINE = 0.065  # metres
FRAMES_PER_SECOND = 24.0  # of the film; the authors do not say
RIGID_ERROR = 0.5  # pixels; flow that the camera alone causes is met much closer
MIN_SHARE = 0.01  # of a frame's pixels, to judge a kind of pixels by
EYES = ("left", "right")


def spring_sequences(root: Path, split: str | None = None) -> list[str]:
    """Names of the sequences that have cameras, one for each eye, such as "train/0001/left"."""
    if split == "test":
        raise CaptureError(f"{root / 'test'} is published without extrinsics and cannot be read; use the split train.")
    scenes = list_sequences(root, split, ("train",), lambda path: any((path / f"frame_{eye}").is_dir() for eye in EYES))
    return [f"{scene}/{eye}" for scene in scenes for eye in EYES if (root / scene / f"frame_{eye}").is_dir()]


def read_spring(root: Path, sequence: str) -> Capture:
    """Read one eye of a scene, in metres."""
    scene, eye = (root / sequence).parent, Path(sequence).name
    if eye not in EYES:
        raise CaptureError(f"{sequence!r} is no sequence of Spring: expected <split>/<scene>/left or .../right.")
    import_decoder("h5py")  # now, not at the first frame
    cameras = scene / "cam_data"
    if (cameras / "intrinsics.txt").is_file() and not (cameras / "extrinsics.txt").is_file():
        raise CaptureError(
            f"{cameras / 'extrinsics.txt'} is missing: the test split is published without extrinsics and cannot be "
            "read; for a scene of the train split, fetch the file again."
        )
    intrinsics = _read_rows(cameras / "intrinsics.txt", 4)
    extrinsics = _read_rows(cameras / "extrinsics.txt", 16).reshape(-1, 4, 4)
    if eye == "right":
        extrinsics[:, 0, 3] -= BASELINE
    matrices = np.zeros((len(intrinsics), 3, 3))
    matrices[:, (0, 1, 0, 1, 2), (0, 1, 2, 2, 2)] = np.insert(intrinsics, 4, 1, axis=1)

    files = {path.stem.rsplit("_", 1)[1]: path for path in (scene / f"frame_{eye}").glob(f"frame_{eye}_*.png")}
    images = {int(number): path for number, path in files.items() if number.isdecimal() and len(number) < 10}
    rows = min(len(matrices), len(extrinsics))
    # A row without an image is as much a missing frame as an image without a row.
    numbers = sorted({*images, *range(1, rows + 1)})
    paths = {number: scene / f"frame_{eye}" / f"frame_{eye}_{number:04d}.png" for number in numbers} | images
    size = read_first_image_size([paths[number] for number in numbers])
    frames = FrameList("spring", root, sequence)
    has_depth = frames.has(scene / f"disp1_{eye}")
    for number in numbers:
        if not 1 <= number <= rows:
            frames.skip(paths[number], f"{cameras} has no row {number} in its files, only {rows}")
            continue
        frames.add(
            paths[number],
            extrinsics[number - 1],
            matrices[number - 1],
            size,
            number,
            timestamp=(number - 1) / FRAMES_PER_SECOND,
            frame_id=f"{number:04d}",
            depth_path=scene / f"disp1_{eye}" / f"disp1_{eye}_{number:04d}.dsp5" if has_depth else None,
            motion_mask_path=_rigidity_map(scene, eye, number),
        )
    capture = frames.capture(scale="metres", fps=FRAMES_PER_SECOND, read_depth_file=read_spring_depth)
    if capture.motion_mask_paths is not None:
        marked_moves = _marked_pixels_move(scene, eye, matrices, extrinsics)
        if marked_moves is None:
            capture.notes.append("The rigidity maps are taken to mark what moves: no flow was found to check it by.")
        capture.read_motion_mask_file = partial(read_rigidity_map, marked_moves=marked_moves is not False)
    return capture


def read_spring_depth(path: Path, intrinsics: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Z-depth `(H, W)` in metres of a file of disparities, half as high and wide as the file; 0 in the sky, which a map
    beside it tells, and where there is no disparity."""
    disparity = _read_hdf5(path, "disparity", 2)[::2, ::2]
    with np.errstate(invalid="ignore"):
        valid = np.isfinite(disparity) & (disparity > 0)
    _, eye, number = path.stem.split("_")
    sky_path = _map_path(path.parents[1], f"skymap_{eye}", number)
    if sky_path is not None:
        valid &= ~_nearest(read_image_mask(sky_path), disparity.shape)
    return np.where(valid, intrinsics[0, 0] * BASELINE / np.where(valid, disparity, 1), 0).astype(np.float32)


def read_rigidity_map(path: Path, marked_moves: bool) -> npt.NDArray[np.bool_]:
    """The motion mask of a rigidity map, `(H, W)`."""
    return np.asarray(read_image_mask(path) == marked_moves)


# --------------------------------------------------------------------------------------------------------------------
# Which pixels a rigidity map marks


def _marked_pixels_move(
    scene: Path, eye: str, intrinsics: npt.NDArray[Any], extrinsics: npt.NDArray[Any]
) -> bool | None:
    """Whether the pixels that rigidity maps mark disagree more than the others with the flow that the camera alone
    causes; None where that cannot be told."""
    last = min(len(intrinsics), len(extrinsics)) - 1
    for number in 1 + evenly(max(last, 0), 5):
        flow_path = scene / f"flow_FW_{eye}" / f"flow_FW_{eye}_{number:04d}.flo5"
        depth_path = scene / f"disp1_{eye}" / f"disp1_{eye}_{number:04d}.dsp5"
        map_path = _map_path(scene, f"rigidmap_FW_{eye}", f"{number:04d}")
        if map_path is None or not (flow_path.is_file() and depth_path.is_file()):
            continue
        try:
            first, second = (check_camera(extrinsics[i], intrinsics[i]) for i in (number - 1, number))
            depth = read_spring_depth(depth_path, first[1])
            flow = _read_hdf5(flow_path, "flow", 3)[::2, ::2]
            marked = _nearest(read_image_mask(map_path), depth.shape)
        except ValueError:
            continue  # another frame may tell; this one is refused where it is loaded
        for _, matrix in (first, second):
            matrix[:2, 2] -= 0.5  # from the first corner to the first centre
        with np.errstate(invalid="ignore"):
            error = np.linalg.norm(flow - still_flow(depth, first, second), axis=-1)
        valid = np.isfinite(error)
        kinds = {kind: valid & (marked == kind) for kind in (True, False)}
        medians = {kind: np.median(error[chosen]) for kind, chosen in kinds.items() if chosen.mean() > MIN_SHARE}
        if len(medians) == 2:
            return bool(medians[True] > medians[False])
        for kind, median in medians.items():
            if median < RIGID_ERROR:
                return not kind  # all pixels are of one kind, and it is the one that follows the camera
    return None


# --------------------------------------------------------------------------------------------------------------------
# Files


def _read_rows(path: Path, columns: int) -> npt.NDArray[np.float64]:
    with decoding(path, "rows of numbers"):
        rows = np.loadtxt(read_text(path).splitlines(), ndmin=2)
    if rows.shape[1] != columns or not len(rows):
        raise CaptureError(
            f"{path} must hold rows of {columns} numbers, got {len(rows)} of {rows.shape[1]}; fetch it again."
        )
    return rows


def _read_hdf5(path: Path, key: str, dimensions: int) -> npt.NDArray[Any]:
    h5py = import_decoder("h5py")
    with decoding(path, f"HDF5 with a {key!r}"), h5py.File(path, "r") as file:
        data = file[key]
        if not isinstance(data, h5py.Dataset) or data.ndim != dimensions or data.dtype.kind != "f":
            raise CaptureError(
                f"{path} must hold a {key!r} of floats of {dimensions} dimensions, got {data!r:.99}; fetch it."
            )
        check_pixels(data.shape[1], data.shape[0], path, CaptureError)
        if data.shape[2:] not in ((), (2,)) or math.prod(data.chunks or ()) > MOST_PIXELS:
            raise CaptureError(f"{path} has a {key!r} of the shape {data.shape}; fetch it again.")
        return np.asarray(data)


def _map_path(scene: Path, kind: str, number: str) -> Path | None:
    """The file of a map, in `maps/` or directly in the scene; None where it is absent."""
    candidates = (scene / "maps" / kind / f"{kind}_{number}.png", scene / kind / f"{kind}_{number}.png")
    return next((path for path in candidates if path.is_file()), None)


def _rigidity_map(scene: Path, eye: str, number: int) -> Path | None:
    """The map towards the next frame or, of the last frame, towards the one before."""
    found = (_map_path(scene, f"rigidmap_{way}_{eye}", f"{number:04d}") for way in ("FW", "BW"))
    return next((path for path in found if path is not None), None)


def _nearest(values: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """A map at another size, nearest neighbours."""
    size = (shape[1], shape[0])
    return cv2.resize(values.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST_EXACT).astype(bool)


LAYOUT = Layout(
    "spring",
    dataset=DatasetLayout(
        spring_sequences,
        read_spring,
        "train/<scene>/ with frame_left/, disp1_left/, maps/ and cam_data/, or the same of the right eye",
        "Spring is published at https://spring-benchmark.org under CC BY 4.0.",
        ("train",),
        dirname,
    ),
)
