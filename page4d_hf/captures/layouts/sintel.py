"""MPI Sintel (Butler et al., ECCV 2012), an animated film with depth, cameras and optical flow.

    training/{final,clean,albedo}/<sequence>/frame_%04d.png     1024x436, counted from 1
    training/depth/<sequence>/frame_%04d.dpt                    z-depth, taken as metres
    training/camdata_left/<sequence>/frame_%04d.cam             K and world-to-camera, OpenCV axes
    training/flow/<sequence>/frame_%04d.flo                     to the next frame; none for the last
    training/invalid/<sequence>/frame_%04d.png                  non-zero where there is no flow

Depth and cameras are an archive of their own, as are the extras; the root may be the one folder into which all were
unpacked, the `training` in it, or hold the archives' folders `MPI-Sintel-*/training` side by side. Cameras count pixels
from the first centre. The passes show the same motion: a sequence's name is, for example, "clean/alley_2".

Where there is flow, what moves is told from it: a pixel moves if its flow differs from that of a still point of its
depth seen by the two cameras. Flow reaches behind what occludes it, so occlusion maps are not needed for it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import CaptureError
from ..base import Capture, DatasetLayout, Layout
from ..depth_files import SINTEL_TAG, read_dpt, read_sintel_floats
from ..files import read_bytes
from ..flow import still_flow
from ..image_files import check_same_size, read_image_mask
from ..sequences import FrameList, check_camera, read_first_image_size

PASSES = ("final", "clean", "albedo")
FRAMES_PER_SECOND = 24.0
MOTION_THRESHOLD = 0.1  # pixels
# The sequences by which cameras are evaluated: in the others they mostly stand still or move along a line.
POSE_SEQUENCES = (
    "alley_2", "ambush_4", "ambush_5", "ambush_6", "cave_2", "cave_4", "market_2",
    "market_5", "market_6", "shaman_3", "sleeping_1", "sleeping_2", "temple_2", "temple_3",
)  # fmt: skip
_FRAME = re.compile(r"frame_(\d{1,9})")
_CAMERA_BYTES = 4 + 8 * (9 + 12)


def sintel_sequences(root: Path, split: str | None = None) -> list[str]:
    """Names of the sequences of one pass, such as "final/alley_2"; None takes "final"."""
    render_pass = split or PASSES[0]
    names = {path.name for folder in _kind_folders(root, render_pass) for path in folder.iterdir()}
    return sorted(f"{render_pass}/{name}" for name in names if _sequence_folder(root, render_pass, name))


def read_sintel(root: Path, sequence: str, motion_threshold: float = MOTION_THRESHOLD) -> Capture:
    """Read a sequence that `sintel_sequences` names (without a pass, "final"), in metres; `time_ids` are the files'
    numbers.

    Without flow, and in the last frame, there are no masks. A pixel moves where its flow is more than
    `motion_threshold` pixels from that of a still point.
    """
    render_pass, _, name = sequence.rpartition("/")
    render_pass = render_pass or PASSES[0]
    images_folder = _sequence_folder(root, render_pass, name)
    if images_folder is None:
        raise CaptureError(f"{root} has no training/{render_pass}/{name}; name one of the sequences there.")
    images = sorted(
        (int(match[1]), path) for path in images_folder.glob("frame_*.png") if (match := _FRAME.fullmatch(path.stem))
    )
    if not images:
        raise CaptureError(f"{images_folder} has no images frame_%04d.png; fetch the sequence again.")
    cameras = _sequence_folder(root, "camdata_left", name)
    if cameras is None:
        raise CaptureError(
            f"{root} has no training/camdata_left/{name}; cameras and depth are in the archive MPI-Sintel-depth-"
            "training, which is to be unpacked beside the images."
        )
    depths, flows = _sequence_folder(root, "depth", name), _sequence_folder(root, "flow", name)
    size = read_first_image_size([path for _, path in images])
    frames = FrameList("sintel", root, f"{render_pass}/{name}")
    for number, image in images:
        with frames.skipping(image):
            extrinsics, intrinsics = read_cam(cameras / f"{image.stem}.cam")
            intrinsics[:2, 2] += 0.5  # from the first centre to the first corner
            has_motion = depths is not None and (cameras / f"frame_{number + 1:04d}.cam").is_file()
            frames.add(
                image,
                extrinsics,
                intrinsics,
                size,
                number,
                timestamp=(number - 1) / FRAMES_PER_SECOND,
                depth_path=None if depths is None else depths / f"{image.stem}.dpt",
                motion_mask_path=flows / f"{image.stem}.flo" if flows is not None and has_motion else None,
            )
    if depths is None:
        frames.notes.append(f"{root} has no training/depth/{name}: the sequence has no depth.")
    if flows is None:
        frames.notes.append(f"{root} has no training/flow/{name}: what moves is not known.")
    mask_reader: Callable[[Path], npt.NDArray[Any]] = read_image_mask
    if depths is not None and flows is not None:
        mask_reader = partial(
            read_motion_mask,
            depths=depths,
            cameras=cameras,
            invalid=_sequence_folder(root, "invalid", name),
            threshold=motion_threshold,
        )
    return frames.capture(
        scale="metres", fps=FRAMES_PER_SECOND, read_depth_file=read_dpt, read_motion_mask_file=mask_reader
    )


def read_cam(path: Path) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """A `.cam` file: float32 tag 202021.25, float64 K by rows, float64 3x4 world-to-camera by rows, little-endian.

    Returns:
        extrinsics `(3, 4)`, OpenCV axes, and intrinsics `(3, 3)` as stored, in pixels whose first centre is at (0, 0).
    """
    data = read_bytes(path)
    if len(data) != _CAMERA_BYTES or np.frombuffer(data, "<f4", 1)[0] != SINTEL_TAG:
        raise CaptureError(
            f"{path} is no .cam file: it must have {_CAMERA_BYTES} bytes, of which the first are the float "
            f"{SINTEL_TAG}; fetch it again."
        )
    values = np.frombuffer(data, "<f8", offset=4).astype(np.float64)
    try:
        return check_camera(values[9:].reshape(3, 4), values[:9].reshape(3, 3))
    except ValueError as error:
        raise CaptureError(f"{path} holds no camera: {error}; fetch it again.") from error


def read_motion_mask(
    path: Path, depths: Path, cameras: Path, invalid: Path | None = None, threshold: float = MOTION_THRESHOLD
) -> npt.NDArray[np.bool_]:
    """Where a frame's flow differs from that of points that stand still, `(H, W)`.

    Args:
        path: the frame's `.flo` file, `frame_%04d.flo`.
        depths: the folder of the sequence's `.dpt` files.
        cameras: the folder of its `.cam` files.
        invalid: the folder of the maps of pixels without flow, if there is one; such pixels don't move.
        threshold: pixels.
    """
    flow = read_sintel_floats(path, channels=2)
    number = int(path.stem.rpartition("_")[2])
    depth_path = depths / f"{path.stem}.dpt"
    depth = read_dpt(depth_path, np.eye(3))
    check_same_size(depth_path, depth, path, flow)
    camera = read_cam(cameras / f"{path.stem}.cam")
    next_camera = read_cam(cameras / f"frame_{number + 1:04d}.cam")
    difference = np.linalg.norm(flow - still_flow(depth, camera, next_camera), axis=-1)
    moving: npt.NDArray[np.bool_] = difference > threshold  # false where either is not known
    invalid_path = None if invalid is None else invalid / f"{path.stem}.png"
    if invalid_path is not None and invalid_path.is_file():
        without_flow = read_image_mask(invalid_path)
        check_same_size(invalid_path, without_flow, path, flow)
        moving &= ~without_flow
    return moving


def _kind_folders(root: Path, kind: str) -> list[Path]:
    """The folders of one kind of file, wherever the archives were unpacked."""
    places = [root / "training", root, *sorted(path / "training" for path in root.glob("MPI-Sintel-*"))]
    return [place / kind for place in places if (place / kind).is_dir()]


def _sequence_folder(root: Path, kind: str, name: str) -> Path | None:
    return next((folder / name for folder in _kind_folders(root, kind) if (folder / name).is_dir()), None)


LAYOUT = Layout(
    "sintel",
    dataset=DatasetLayout(
        sintel_sequences,
        read_sintel,
        "training/ with {final,clean,depth,camdata_left,flow,invalid}/<sequence>/, or such in MPI-Sintel-*/training/",
        "MPI Sintel is published at http://sintel.is.tue.mpg.de; the film Sintel is under CC BY 3.0.",
        PASSES,
    ),
)
