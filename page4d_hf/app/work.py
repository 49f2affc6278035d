"""What the app does with an upload, in a process of its own: see `jobs.run_apart`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..scene.export import export_scene
from ..scene.folder import read_scene, write_scene
from ..utils.progress import Progress


class Result(NamedTuple):
    """Files of a reconstruction, for the visitor."""

    summary: str
    preview: str  # JPEG: frames, depth, motion, path
    glb: str
    downloads: list[str]


def reconstruct_upload(upload: str, model: str, frames: int, folder: str, *, progress: Progress) -> Result:
    """Reconstruct a video into `folder/scene`, and export it.

    Args:
        upload: the video.
        model: folder of the weights, or their repository.
        frames: at most so many.
        folder: of the visitor, empty.
        progress: told how far the work is.

    Raises:
        Page4DError: as of `reconstruct`.
    """
    from ..reconstruction.reconstruct import reconstruct

    place = Path(folder)
    made = reconstruct(upload, model, max_frames=frames, progress=progress)
    progress("exporting", 0, 4)
    write_scene(place / "scene", made, preview=True)
    scene = read_scene(place / "scene")
    export_scene(scene, place / "scene.glb", "glb")
    progress("exporting", 1, 4)
    export_scene(scene, place / "scene.ply", "ply")
    progress("exporting", 2, 4)
    export_scene(scene, place / "colmap", "colmap")
    progress("exporting", 3, 4)
    archives = [shutil.make_archive(str(place / name), "zip", place / name) for name in ("colmap", "scene")]
    progress("exporting", 4, 4)
    moving = "" if made.point_dynamics is None else f", {np.mean(made.point_dynamics >= 0.5):.0%} of them moving"
    return Result(
        f"{len(made)} frames, {len(made.points):,} points{moving}.",
        str(place / "scene" / "preview.jpg"),
        str(place / "scene.glb"),
        [str(place / "scene.glb"), str(place / "scene.ply"), *archives],
    )
