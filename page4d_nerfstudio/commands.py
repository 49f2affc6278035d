"""The subcommands that this package adds to `page4d`, by the entry points `page4d.commands`.

The command's help loads this file, so nerfstudio, torch and what else takes seconds is imported inside the functions.
"""

from __future__ import annotations

import os
from collections.abc import Sized
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from page4d_hf.errors import Page4DError
from page4d_hf.utils.programs import command, counted, goes_on_by_itself, not_installed, say_next
from page4d_hf.utils.ranges import ENDLESS, check_ranges

from .viewing import PathKind

MOST_FRAMES, MOST_RADIUS = 100_000, 1000  # of a camera path: an hour of video, at most
LEAST_FPS, MOST_FPS, MOST_GIF_FPS = 0.1, 1000, 50  # browsers slow a GIF down that has less than 1/50 s between frames
MOST_KEYFRAMES, MOST_WIDTH = 1000, 8192  # of a page, and of a video in pixels
SENT_EASILY = 10 * 2**20  # bytes that mail and chat take

# Of a path, unless options say others.
SECONDS, FPS, RADIUS = 5.0, 24.0, 0.1

# What share writes, and those of its options that not all outputs take.
OF_VIDEOS = ("path", "time", "seconds", "fps", "view", "radius", "width")
OUTPUTS = {
    ".html": ("a web page", ("title", "sh_degree", "keyframes", "seconds", "view")),
    ".mp4": ("a video", OF_VIDEOS),
    ".gif": ("a video", OF_VIDEOS),
    "": ("a folder of PLY files", ("time",)),
}


def splat(
    input: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="INPUT")],
    output: Path = Path("scene.html"),
    model: str | None = None,
    max_frames: int | None = None,
    downscale: int | None = None,
    steps: int | None = None,
    overwrite: bool = False,
) -> None:
    """Make a moving scene of a video that anybody can open: reconstruct it, train 4D Gaussians, share them as one file.

    It is three commands in one, each printed before it runs, to be repeated with options of its own: page4d reconstruct
    into a scene folder beside the output, ns-train page4d-4dgs on it, and page4d share. Where the training was broken
    off, name the scene folder as INPUT: it is not reconstructed again. Ctrl-C prints the command that goes on.

    Args:
        input: a video, a folder of images, a glob (in quotes), or a scene folder that page4d reconstruct wrote.
        output: what to write, as of page4d share: scene.html, a page to look around in; scene.mp4 or scene.gif, a
            video along the camera's path. The scene folder has its name without the ending.
        model: folder of the weights, or their repository on the Hub. By default the folder page4d where it holds some,
            and otherwise page4d-tiny, the small model of the package, for a first look.
        max_frames: at most so many frames, spread evenly over the whole clip. By default 48 on a CPU, 200 on a GPU.
        downscale: whole factor by which images are made smaller for the training. By default their longer side is about
            220 pixels on a CPU, and at most 1600 on a GPU.
        steps: length of the training in steps. By default 1,000 on a CPU and 17,000 on a GPU.
        overwrite: replace the file at the output, which may not be the input, and what page4d wrote in the scene
            folder. Nothing else is ever replaced.
    """
    if output.suffix.lower() not in (".html", ".mp4", ".gif"):
        raise Page4DError(f"--output must end in .html, .mp4 or .gif; got {output}.")
    given = {"max_frames": max_frames, "downscale": downscale, "steps": steps}
    check_ranges(given, {"max_frames": (2, ENDLESS), "downscale": (1, ENDLESS), "steps": (1, ENDLESS)})
    if find_spec("nerfstudio") is None:
        raise Page4DError(not_installed("splat trains with nerfstudio", "nerfstudio"))
    from page4d_hf.frames import frame_files
    from page4d_hf.utils.folders import check_output_file

    # What is wrong with the names is found out first, before the seconds of imports.
    check_output_file(output, overwrite=overwrite, inputs=(input,) if os.path.isfile(input) else ())
    if not os.path.isdir(input):
        frame_files(input)

    from .splat import reconstructed, trained

    of_training = {"--downscale": downscale, "--steps": steps}
    options = [word for name, value in of_training.items() if value is not None for word in (name, value)]
    written = ["--output", output, *["--overwrite"] * overwrite]
    with goes_on_by_itself():
        scene = reconstructed(input, output, model, max_frames, overwrite=overwrite)
        rest = command("page4d", "splat", scene, *options, *written)
        try:
            config = trained(scene, downscale, steps)
            rest = command("page4d", "share", "--load-config", config, *written)
            print(f"$ {rest}", flush=True)
            share((config,), output, overwrite=overwrite)
        except KeyboardInterrupt as interrupt:
            raise KeyboardInterrupt(f"what was finished is kept, and `{rest}` goes on from it.") from interrupt


def export_splats(
    load_config: Path,
    output: Path,
    time: float | None = None,
    all_frames: bool = False,
    static_once: bool = False,
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
        static_once: write Gaussians that never move once, to splats_static.ply, and those that move to the file of each
            instant: a ninth of the size where a tenth of them moves. Show an instant by loading both files.
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
    if static_once and to_file:
        raise Page4DError(f"--static-once writes several files: name a folder as --output, not {output}.")
    if find_spec("nerfstudio") is None:
        raise Page4DError(not_installed("export-splats reads a training by nerfstudio", "nerfstudio"))
    from page4d_hf.utils.progress import progress_bar

    if time is not None and to_file:
        check_output_file(output, overwrite=overwrite, inputs=(load_config,))
        from .viewing.export import read_run, write_splat

        count = write_splat(output, read_run(load_config), time, world, overwrite=overwrite)
        print(f"Wrote {output}: {count:,} Gaussians at time {time:g}.")
        return
    with claimed_folder(output, overwrite=overwrite, inputs=(load_config,)):
        from .viewing.export import LISTING, read_run, write_splats

        run = read_run(load_config)
        with progress_bar() as report:
            times = list(run.times) if time is None else [time]
            write_splats(output, run, times, world, static_once=static_once, overwrite=overwrite, progress=report)
    print(f"Wrote {output}: {len(times)} file{'s' * (len(times) > 1)}; their times are in {LISTING}.")


def camera_path(
    load_config: Path,
    output: Path,
    path: PathKind = "training",
    time: Annotated[tuple[float, ...], tyro.conf.arg(metavar="TIME | FIRST LAST")] = (),
    seconds: float = SECONDS,
    fps: float = FPS,
    view: int | None = None,
    radius: float = RADIUS,
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
            them to the last, and others run from 0 to 1; where the data have no times, time stands still.
        seconds: length of the video.
        fps: its frames a second.
        view: which camera, for circle and still: its number among the training cameras in the order of time, from 0.
            By default the one in the middle.
        radius: of the circle, as a share of the distance to what is seen.
        overwrite: replace the file.
    """
    from page4d_hf.utils.folders import check_output_file

    _check_path(time, seconds, fps, radius)
    if find_spec("nerfstudio") is None:
        raise Page4DError(not_installed("camera-path reads a training by nerfstudio", "nerfstudio"))
    check_output_file(output, overwrite=overwrite, inputs=(load_config,))

    from .viewing.camera_paths import make_path, read_views, write_path

    views = read_views(load_config, "val" if path == "held-out" else "train")
    times = (time[0], time[-1]) if time else None
    content = make_path(views, path, times, seconds, fps, _view_of(views.times, view), radius)
    write_path(output, content, overwrite=overwrite)
    print(f"Wrote {output}: {len(content['camera_path'])} frames.")
    say_next("ns-render", "camera-path", "--load-config", load_config, "--camera-path-filename", output)


def share(
    load_config: tuple[Path, ...],
    output: Path,
    title: str | None = None,
    sh_degree: int | None = None,
    keyframes: int | None = None,
    path: PathKind | None = None,
    time: Annotated[tuple[float, ...], tyro.conf.arg(metavar="TIME | FIRST LAST")] = (),
    seconds: float | None = None,
    fps: float | None = None,
    view: int | None = None,
    radius: float | None = None,
    width: int | None = None,
    overwrite: bool = False,
) -> None:
    """Write a trained page4d-4dgs scene as one web page, a video, or PLY files, for people who install nothing.

    As in ns-render, config.yml names data and checkpoints as the training was told them: start the command in the same
    folder. The command runs no code that config.yml or a checkpoint may hold, and needs no program ffmpeg.

    Args:
        load_config: config.yml in the training's output folder; of several, as a shell finds for *, the newest that has
            a checkpoint.
        output: what to write, by its name. scene.html: a page to look around in, with time, which needs no network and
            no other file. scene.mp4, scene.gif: a video along a camera path. A name without an ending: a folder with a
            PLY for each instant, as export-splats --all-frames. It must not exist yet. Options of another output are
            refused.
        title: of the page. By default the output's name.
        sh_degree: of the page: degree of the spherical harmonics to keep, from 0 to 3; less makes a smaller file. By
            default the training's.
        keyframes: of the page: at how many instants at most to store what moves; less makes a smaller file. By default
            64.
        path: of a video: training, the default, or held-out: along these cameras, in the order of time; circle: around
            one of the training cameras, looking at what it looks at; still: at one of them.
        time: of a video: one number: time stands still at it; two: it runs from the first to the second. From 0, the
            capture's first instant, to 1, its last. Of a folder: the only instant to write.
        seconds: length of the video, or of the clip as the page plays it. By default 5.
        fps: frames a second of the video, of a GIF at most 50. By default 24.
        view: which camera circle and still are at and the page opens at: its number among the training cameras in the
            order of time, from 0. By default the one in the middle.
        radius: of the circle, as a share of the distance to what is seen. By default 0.1.
        width: of the video, in pixels. By default that of the training's images.
        overwrite: replace the file, or the folder of an earlier export. Nothing else is ever replaced.
    """
    from page4d_hf.utils.folders import check_output_file

    kind = output.suffix.lower()
    if kind not in OUTPUTS:
        raise Page4DError(
            f"--output must end in .html, .mp4 or .gif, or have no ending, for a folder of PLY files; got {output}."
        )
    given: dict[str, Any] = {"title": title, "sh_degree": sh_degree, "keyframes": keyframes, "path": path}
    given |= {"time": time or None, "seconds": seconds, "fps": fps, "view": view, "radius": radius, "width": width}
    _check_fits(output, [name for name, value in given.items() if value is not None])
    if not kind and len(time) > 1:
        raise Page4DError(f"A folder holds each instant, or the one that --time names; got {len(time)} of them.")
    path = path or "training"
    seconds, fps, radius = (
        default if value is None else value for value, default in ((seconds, SECONDS), (fps, FPS), (radius, RADIUS))
    )
    _check_path(time, seconds, fps, radius)
    if kind == ".gif" and fps > MOST_GIF_FPS:
        raise Page4DError(f"--fps of a GIF must be at most {MOST_GIF_FPS}, which browsers play, got {fps:g}.")
    check_ranges(given, {"sh_degree": (0, 3), "keyframes": (2, MOST_KEYFRAMES), "width": (2, MOST_WIDTH)})
    if find_spec("nerfstudio") is None:
        raise Page4DError(not_installed("share reads a training by nerfstudio", "nerfstudio"))
    if kind:
        check_output_file(output, overwrite=overwrite, inputs=load_config)
    config = _newest(load_config)
    if not kind:
        export_splats(config, output, time[0] if time else None, all_frames=not time, overwrite=overwrite)
        return

    from page4d_hf.utils.progress import progress_bar

    from .viewing.camera_paths import make_path
    from .viewing.export import read_run

    run = read_run(config)
    views = run.views("val" if path == "held-out" and kind != ".html" else "train")
    chosen = _view_of(views.times, view)
    if kind == ".html":
        from .viewing.web_page import write_page

        with progress_bar() as report:
            page = write_page(
                output,
                run,
                views,
                title=title or output.stem,
                view=chosen,
                seconds=seconds,
                degree=sh_degree,
                keyframes=keyframes,
                overwrite=overwrite,
                progress=report,
            )
        print(
            f"Wrote {output}, {page.size / 1e6:.1f} MB: {counted(page.moving, 'Gaussian')} at "
            f"{counted(page.keyframes, 'instant')} and {page.still:,} that stand still. Open it in a browser."
        )
        if page.size > SENT_EASILY:
            print("A smaller file: --sh-degree 0 and fewer --keyframes.")
        return

    from .viewing.video import write_video

    content = make_path(views, path, (time[0], time[-1]) if time else None, seconds, fps, chosen, radius)
    if width is not None:
        height = width * content["render_height"] / content["render_width"]
        content |= {"render_width": width // 2 * 2, "render_height": max(2, round(height / 2) * 2)}
    with progress_bar() as report:
        frames = write_video(output, run.model, content, overwrite=overwrite, progress=report)
    print(f"Wrote {output}: {frames} frames of {content['render_width']}x{content['render_height']} pixels.")


def _newest(configs: tuple[Path, ...]) -> Path:
    """Of several trainings the newest that has a checkpoint; the newest of all where none has."""
    if not configs:
        raise Page4DError("--load-config names no training's config.yml.")
    newest_first = sorted(configs, key=lambda config: config.stat().st_mtime if config.is_file() else 0.0, reverse=True)
    if len(configs) > 1:
        from .viewing.export import checkpoints_of

        for config in newest_first:
            if checkpoints_of(config).steps:
                print(f"Of {len(configs)} trainings, the newest with a checkpoint: {config}.")
                return config
    return newest_first[0]


def _check_fits(output: Path, names: list[str]) -> None:
    """Refuse options that say nothing of what is written."""
    what, takes = OUTPUTS[output.suffix.lower()]
    misfits = [f"--{name.replace('_', '-')}" for name in names if name not in takes]
    if misfits:
        raise Page4DError(f"{output} is {what}, which takes other options: leave out {', '.join(misfits)}.")


def _check_path(time: tuple[float, ...], seconds: float, fps: float, radius: float) -> None:
    """Refuse options of a camera path that are out of range."""
    if len(time) > 2 or not all(0.0 <= t <= 1.0 for t in time):
        raise Page4DError(
            "--time takes one instant, where time stands still, or two, between which it runs, each from 0, the "
            f"capture's first, to 1, its last; got {' '.join(f'{t:g}' for t in time)}."
        )
    for name, value in (("seconds", seconds), ("radius", radius)):
        if not 0.0 < value < float("inf"):
            raise Page4DError(f"--{name} must be a positive number, got {value:g}.")
    check_ranges({"fps": fps}, {"fps": (LEAST_FPS, MOST_FPS)})
    if not radius <= MOST_RADIUS:
        raise Page4DError(f"--radius must be at most {MOST_RADIUS} times the distance to what is seen, got {radius:g}.")
    if not seconds * fps <= MOST_FRAMES:
        raise Page4DError(
            f"A path has at most {MOST_FRAMES:,} frames, and --seconds {seconds:g} at --fps {fps:g} asks for more."
        )


def _view_of(times: Sized, view: int | None) -> int:
    """The camera that --view names, of those with these times; by default the one in the middle."""
    if view is None:
        return len(times) // 2
    if not 0 <= view < len(times):
        raise Page4DError(f"--view must be from 0 to {len(times) - 1}, the last of the cameras, got {view}.")
    return view
