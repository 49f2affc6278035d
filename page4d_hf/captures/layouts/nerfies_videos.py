"""Nerfies, HyperNeRF, and captures that `page4d synth` writes, as a data set of videos: one for each camera.

    <capture>/      in the layout of `nerfies`

The published captures have cameras and no depth; `page4d synth` writes exact depth and motion masks too. Their unit is
the capture's own: the world that scene.json centres and scales.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ...errors import CaptureError
from ..base import Capture
from .nerfies import looks_like_nerfies, read_nerfies

SPLITS = ("train", "val")


def nerfies_videos(root: Path, split: str | None = None) -> list[str]:
    """Names of the videos, such as "broom/0": a capture's folder and a camera.

    Args:
        root: the folder of the captures, or a capture itself.
        split: "train" for cameras that have frames to train on (in Nerfies' and HyperNeRF's rigs all of them), "val"
            for those that have frames held out; None as "train".
    """
    root = Path(root)
    folders = [root] if _is_capture(root) else sorted(path for path in root.iterdir() if _is_capture(path))
    names = []
    for folder in folders:
        try:
            capture = read_nerfies(folder, skip_broken=True)
            cameras = np.unique(capture.camera_ids[capture.splits[split or SPLITS[0]]]).tolist()
        except CaptureError:
            cameras = [0]  # reading the video will tell what is wrong
        names += [f"{folder.resolve().name}/{camera}" for camera in cameras]
    return names


def read_nerfies_video(root: str | Path, name: str) -> Capture:
    """Read the video of one camera of a capture: all its frames, held out or not, in order of time.

    Args:
        root: the folder of the captures, or the capture itself.
        name: a name that `nerfies_videos` gives; a capture's name alone, such as "broom", has all its cameras.

    Returns:
        The capture, in the world that scene.json gives. Frames whose image or camera is missing or broken are in
        `skipped`.

    Raises:
        CaptureError: there is no such capture or camera, or a file is missing, broken or contradicts another.
    """
    root = Path(root)
    folder_name, _, camera = name.partition("/")
    folder = root if _is_capture(root) and root.resolve().name == folder_name else root / folder_name
    if not folder.is_dir():
        raise CaptureError(f"There is no folder {folder}; name one of the captures in {root}.")
    capture = read_nerfies(folder, skip_broken=True)
    frames = np.arange(len(capture))
    if camera:
        frames = np.flatnonzero(capture.camera_ids.astype(str) == camera)
        if not len(frames):
            known = ", ".join(map(str, np.unique(capture.camera_ids)))
            raise CaptureError(f"{folder} has no frames of a camera {camera}; its cameras are {known}.")
    capture = capture.select(frames[np.argsort(capture.time_ids[frames], kind="stable")])
    return replace(capture, root=root, sequence=name)


def _is_capture(folder: Path) -> bool:
    return folder.is_dir() and looks_like_nerfies(folder) and not (folder / "splits").is_dir()  # those are DyCheck's
