"""The subcommands that this package adds to `page4d`, by the entry points `page4d.commands`.

The command's help loads this file, so nerfstudio, torch and what else takes seconds is imported inside the functions.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import tyro

from page4d_hf.errors import Page4DError
from page4d_hf.utils.programs import command

MOST_FRAMES, MOST_FPS, MOST_RADIUS = 100_000, 1000, 1000  # of a camera path: an hour of video, at most


def export_splats(
    load_config: Path,
    output: Path,
    time: float | None = None,
    all_frames: bool = False,
    world: Literal["training", "data"] = "training",
    overwrite: bool = False,
) -> None:
    """Write a trained page4d-4dgs scene as PLY files for viewers of 3D Gaussians, one for each time.

    As in ns-eval and ns-render, config.yml names data and checkpoints as the training was told them: start the command
    in the same folder. Unlike these, the command runs no code that config.yml or a checkpoint may hold. Files of one
    export hold the same Gaussians in the same order.

    Args:
        load_config: config.yml in the training's output folder.
        output: the file to write, if it ends in .ply; else the folder, with a PLY for each time and splats.json, which
            says which is which. It must not exist yet.
        time: the instant to write, from 0, the capture's first, to 1, its last.
        all_frames: write each instant of which there is a frame, into a folder.
        world: axes and unit. training: nerfstudio's, centred and scaled, as in its viewer; data: those of the cameras
            and points that were trained on (of a capture, after the scaling that it asks for itself).
        overwrite: replace the file, or the folder, that an earlier export wrote.
    """
    from page4d_hf.utils.folders import check_output_file, claimed_folder

    if all_frames == (time is not None):
        raise Page4DError("Say which instants to write: either --time, from 0 to 1, or --all-frames.")
    if time is not None and not 0.0 <= time <= 1.0:
        raise Page4DError(f"--time must be from 0, the capture's first instant, to 1, its last; got {time:g}.")
    to_file = output.suffix.lower() == ".ply"
    if to_file and all_frames:
        raise Page4DError(f"--all-frames writes a file for each time: name a folder as --output, not {output}.")
    if find_spec("nerfstudio") is None:
        raise Page4DError(
            'export-splats reads a nerfstudio training: install it with pip install "page4d[nerfstudio]".'
        )
    from page4d_hf.utils.progress import progress_bar

    if time is not None and to_file:
        check_output_file(output, overwrite=overwrite)
        from .viewing.export import read_run, write_splat

        count = write_splat(output, read_run(load_config), time, world, overwrite=overwrite)
        print(f"Wrote {output}: {count:,} Gaussians at time {time:g}.")
        return
    with claimed_folder(output, overwrite=overwrite):
        from .viewing.export import LISTING, read_run, write_splats

        run = read_run(load_config)
        with progress_bar() as report:
            times = list(run.times) if time is None else [time]
            write_splats(output, run, times, world, overwrite=overwrite, progress=report)
    print(f"Wrote {output}: {len(times)} file{'s' * (len(times) > 1)}; their times are in {LISTING}.")


def camera_path(
    load_config: Path,
    output: Path,
    path: Literal["training", "held-out", "circle", "still"] = "training",
    time: Annotated[tuple[float, ...], tyro.conf.arg(metavar="TIME | FIRST LAST")] = (),
    seconds: float = 5.0,
    fps: float = 24.0,
    view: int | None = None,
    radius: float = 0.1,
    overwrite: bool = False,
) -> None:
    """Write a camera path with a time for each frame, which ns-render camera-path then renders.

    Needs no checkpoint. As in ns-render, config.yml names the data as the training was told it: start the command in
    the same folder.

    Args:
        load_config: config.yml in the training's output folder.
        output: the file to write, path.json. It must not exist yet.
        path: training or held-out: along these cameras, in the order of time; circle: around one of the training
            cameras, looking at what it looks at; still: at one of them.
        time: one number: time stands still at it; two: it runs from the first to the second. From 0, the capture's
            first instant, to 1, its last. By default a path along the cameras is as it was filmed, from the first of
            them to the last; others run from 0 to 1.
        seconds: length of the video.
        fps: its frames a second.
        view: which camera, for circle and still: its number among the training cameras in the order of time, from 0.
            By default the one in the middle.
        radius: of the circle, as a share of the distance to what is seen.
        overwrite: replace the file.
    """
    from page4d_hf.utils.folders import check_output_file

    if len(time) > 2 or not all(0.0 <= t <= 1.0 for t in time):
        raise Page4DError(
            "--time takes one instant, where time stands still, or two, between which it runs, each from 0, the "
            f"capture's first, to 1, its last; got {' '.join(f'{t:g}' for t in time)}."
        )
    for name, value in (("seconds", seconds), ("fps", fps), ("radius", radius)):
        if not 0.0 < value < float("inf"):
            raise Page4DError(f"--{name} must be a positive number, got {value:g}.")
    if not fps <= MOST_FPS:
        raise Page4DError(f"--fps must be at most {MOST_FPS}, got {fps:g}.")
    if not radius <= MOST_RADIUS:
        raise Page4DError(f"--radius must be at most {MOST_RADIUS} times the distance to what is seen, got {radius:g}.")
    if not seconds * fps <= MOST_FRAMES:
        raise Page4DError(
            f"A path has at most {MOST_FRAMES:,} frames, and --seconds {seconds:g} at --fps {fps:g} asks for more."
        )
    if find_spec("nerfstudio") is None:
        raise Page4DError('camera-path reads a nerfstudio training: install it with pip install "page4d[nerfstudio]".')
    check_output_file(output, overwrite=overwrite)

    from .viewing.camera_paths import make_path, read_views, write_path

    views = read_views(load_config, "val" if path == "held-out" else "train")
    count = len(views.times)
    if view is not None and not 0 <= view < count:
        raise Page4DError(f"--view must be from 0 to {count - 1}, the last of the cameras, got {view}.")
    times = (time[0], time[-1]) if time else None
    content = make_path(views, path, times, seconds, fps, count // 2 if view is None else view, radius)
    write_path(output, content, overwrite=overwrite)
    print(f"Wrote {output}: {len(content['camera_path'])} frames.")
    render = command("ns-render", "camera-path", "--load-config", load_config, "--camera-path-filename", output)
    print(f"Next: {render}")
