"""Captures on disk, each layout read in one place, all in one form (`Capture`)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ..errors import CaptureError
from .base import Capture
from .files import readable
from .layouts.bonn import looks_like_bonn, read_bonn_folder
from .layouts.dnerf import looks_like_dnerf, read_dnerf
from .layouts.dycheck import looks_like_dycheck, read_dycheck_folder
from .layouts.nerfies import looks_like_nerfies, read_nerfies
from .layouts.nerfstudio import looks_like_nerfstudio, read_nerfstudio
from .layouts.nvidia import looks_like_nvidia, read_nvidia
from .layouts.tum import looks_like_tum, read_tum_folder
from .pinhole import PinholeFrames, as_pinhole

__all__ = ["LAYOUTS", "Capture", "Layout", "PinholeFrames", "as_pinhole", "detect_layout", "read_capture"]


class Layout(NamedTuple):
    """One way in which captures lie on disk."""

    read: Callable[[Path, int | None], Capture]  # (root, downscale)
    detect: Callable[[Path], bool]  # whether a folder is of this layout, judged by its entries' names alone
    looks: str  # what such a folder holds, for messages


LAYOUTS: dict[str, Layout] = {
    "nerfies": Layout(
        read_nerfies,
        lambda root: looks_like_nerfies(root) and not looks_like_dycheck(root),
        "Nerfies or HyperNeRF: dataset.json, metadata.json, scene.json, camera/<id>.json, rgb/<n>x/<id>.png",
    ),
    "dycheck": Layout(read_dycheck_folder, looks_like_dycheck, "DyCheck: as Nerfies, with splits/{train,val}.json"),
    "tum": Layout(read_tum_folder, looks_like_tum, "TUM RGB-D: rgb/, depth/, rgb.txt, depth.txt, groundtruth.txt"),
    "bonn": Layout(
        read_bonn_folder, looks_like_bonn, "Bonn RGB-D: as TUM, in a folder whose name begins with rgbd_bonn"
    ),
    "dnerf": Layout(read_dnerf, looks_like_dnerf, "D-NeRF: transforms_{train,val,test}.json, {train,val,test}/*.png"),
    "nvidia": Layout(
        read_nvidia,
        looks_like_nvidia,
        "NVIDIA Dynamic Scenes: poses_bounds.npy, images/, motion_masks/, as they are or in dense/ with mv_images/",
    ),
    # Last: what a folder of this kind holds besides may be anything.
    "nerfstudio": Layout(
        read_nerfstudio, looks_like_nerfstudio, "nerfstudio: transforms.json, whose frames may have a time"
    ),
}


def detect_layout(path: str | Path) -> str | None:
    """The name of the layout in which a folder holds a capture, or None where it holds none that is known.

    A damaged capture is recognised too, so that its reader can say what is missing.
    """
    root = Path(path)
    if not root.is_dir():
        return None
    return next((name for name, layout in LAYOUTS.items() if layout.detect(root)), None)


def read_capture(path: str | Path, layout: str | None = None, downscale: int | None = None) -> Capture:
    """Read a capture of any known layout.

    Args:
        path: the capture's folder.
        layout: a key of `LAYOUTS`; None looks at what the folder holds.
        downscale: the images are wanted at 1/downscale of their full size. The reader takes the stored size that is
            nearest to it and not smaller; `as_pinhole(capture, downscale)` does what is left. None takes the largest
            images that are stored.

    Returns:
        The capture, in the layout's world.

    Raises:
        CaptureError: there is no such folder, its layout is not known, or it does not hold what its layout promises.
    """
    root = Path(path)
    with readable(root):
        if not root.exists():
            raise CaptureError(f"There is no folder {root}; name the folder of a capture.")
        if not root.is_dir():
            raise CaptureError(f"{root} is a file; name the folder of a capture.")
        known = "; ".join(f"{name} ({described.looks})" for name, described in LAYOUTS.items())
        if layout is None:
            if not any(root.iterdir()):
                raise CaptureError(f"The folder {root} is empty; name the folder of a capture. Known layouts: {known}.")
            layout = detect_layout(root)
            if layout is None:
                raise CaptureError(f"The folder {root} holds no capture of a known layout. Known layouts: {known}.")
        elif layout not in LAYOUTS:
            raise CaptureError(f"The layout {layout!r} is not known. Known layouts: {known}.")
        return LAYOUTS[layout].read(root, downscale)
