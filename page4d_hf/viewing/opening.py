"""Opening what a user names: a scene folder, a capture, or a video or images that are reconstructed first."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from pathlib import Path

from ..captures import read_capture
from ..captures.sources import find_source
from ..errors import Page4DError
from ..frames import frame_files
from ..scene.folder import read_scene, write_scene
from ..utils.programs import command
from ..utils.progress import Progress
from ..utils.ranges import ENDLESS, check_ranges
from .viewed_scene import ViewedScene, view_capture, view_scene


def open_input(
    source: str, model: str | None = None, *, max_frames: int, max_points: int, progress: Progress | None = None
) -> ViewedScene:
    """Read a scene folder, a capture of any known layout or, with a model, a video or images.

    Args:
        source: a path, or a glob of images.
        model: folder of the weights, or their repository on the Hub. The reconstruction is refined, and lies in a
            temporary folder as long as the scene is in use.
        max_frames: at most so many frames, spread evenly over the clip.
        max_points: at most so many points, spread evenly over frames and pixels.
        progress: told of the frames that are read.
    """
    limits = {"max_frames": max_frames, "max_points": max_points}
    check_ranges(limits, dict.fromkeys(limits, (1, ENDLESS)))
    root = Path(os.path.expanduser(source))  # as frame_files does
    found = find_source(root)
    if found.kind == "scene":
        return view_scene(read_scene(root), max_frames=max_frames, max_points=max_points, progress=progress)
    if found.kind == "capture":
        capture = read_capture(root, found.layout)
        return view_capture(capture, max_frames=max_frames, max_points=max_points, progress=progress)
    files = frame_files(source)
    if model is None:
        example = command("page4d", "view", source, "--model", "page4d")
        raise Page4DError(
            f"{source} is no scene and no capture but {'a video' if len(files) == 1 else 'images'}; name a model to "
            f"reconstruct it with: {example}."
        )
    from ..reconstruction.reconstruct import reconstruct

    made = reconstruct(source, model, max_frames=max_frames, progress=progress)
    folder = Path(tempfile.mkdtemp(prefix="page4d-view-"))
    try:
        scene = read_scene(write_scene(folder / (root.stem or "scene"), made))
        viewed = view_scene(scene, max_frames=max_frames, max_points=max_points, progress=progress)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    weakref.finalize(viewed, shutil.rmtree, folder, ignore_errors=True)  # images are read when they are shown
    return viewed
