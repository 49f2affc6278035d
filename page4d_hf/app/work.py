"""What the app does with an upload, in a process of its own: see `jobs.run_apart`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..frames import natural_key
from ..scene.export import Format, export_scene
from ..scene.folder import read_scene, write_scene
from ..utils.programs import counted
from ..utils.progress import Progress


class Result(NamedTuple):
    """Files of a reconstruction, for the visitor."""

    summary: str
    preview: str  # JPEG: frames, depth, motion, path
    page: str  # HTML: points through time
    downloads: list[str]


def reconstruct_upload(uploads: list[str], model: str, frames: int, folder: str, *, progress: Progress) -> Result:
    """Reconstruct a video or images into `folder/scene`, and export it.

    Args:
        uploads: the video, or the images, in any order: browsers begin with the one that was clicked last. They are
            taken in the natural order of their names, as those of a folder.
        model: folder of the weights, or their repository.
        frames: at most so many.
        folder: of the visitor, empty.
        progress: told how far the work is.
    """
    from ..reconstruction.cameras.refinement import summary as cameras_summary
    from ..reconstruction.reconstruct import reconstruct

    place = Path(folder)
    files = sorted(uploads, key=lambda upload: natural_key(Path(upload).name))
    made = reconstruct(files[0] if len(files) == 1 else files, model, max_frames=frames, progress=progress)
    # A visitor downloads the scene with what made it, and where the server has its files is nobody's business.
    made.frames.source = Path(made.frames.source).name
    made.info["model"] = name_of(model)
    formats: dict[str, Format] = {"scene.html": "html", "scene.glb": "glb", "scene.ply": "ply", "colmap": "colmap"}
    progress("exporting", 0, len(formats))
    write_scene(place / "scene", made, preview=True)
    scene = read_scene(place / "scene")
    for step, (name, format) in enumerate(formats.items(), start=1):
        export_scene(scene, place / name, format)
        progress("exporting", step, len(formats))
    archives = [shutil.make_archive(str(place / name), "zip", place / name) for name in ("colmap", "scene")]
    moving = "" if made.point_motion is None else f", {np.mean(made.point_motion >= 0.5):.0%} of them moving"
    sentences = [f"{counted(len(made), 'frame')}, {len(made.points):,} points{moving}."]
    if "cuts" in made.info:
        sentences.append(made.info["cuts"]["note"])
    if "refinement" in made.info:
        sentences.append(cameras_summary(made.info["refinement"]))
    return Result(
        "\n".join(sentences),
        str(place / "scene" / "preview.jpg"),
        str(place / "scene.html"),
        [*(str(place / name) for name in formats if name != "colmap"), *archives],
    )


def name_of(model: str) -> str:
    """What visitors read of a model: a folder's last name, or a repository's whole one."""
    return Path(model).resolve().name if Path(model).exists() else model
