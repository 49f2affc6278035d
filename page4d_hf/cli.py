"""The `page4d` command: `pull`, `reconstruct`, `view` and so on, and what other packages add to it.

One function a subcommand; tyro makes the options from its signature and the help from its docstring. Imports that
take seconds (torch, transformers) stand inside the functions, so that `page4d --help` answers at once.

Packages that build on this one, as page4d_nerfstudio does, add subcommands by entry points of the group
`page4d.commands`: this package needs to know none of them, and works where they or what they need are not installed.
"""

from __future__ import annotations

import inspect
import json
import os
import shlex
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from .errors import CheckpointError, Page4DError
from .package_version import page4d_version
from .utils.programs import counted, input_errors_end_the_program, not_installed, say_next
from .utils.progress import progress_bar
from .utils.ranges import FINITE, check_ranges

if TYPE_CHECKING:
    from .scene.reconstruction import Reconstruction

DESCRIPTION = (
    "PAGE-4D: cameras, depth, points and motion of a moving scene, from its video or images in one pass. "
    "page4d --version prints the version."
)

COMMAND_GROUP = "page4d.commands"  # entry points: a subcommand's name, and its function


def convert(
    checkpoint: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="CHECKPOINT")],
    output: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUTPUT")],
    dtype: Literal["float32", "bfloat16"] = "float32",
    mask: Literal["on", "off"] | None = None,
    set: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE ...")] = (),
    overwrite: bool = False,
) -> None:
    """Convert a published checkpoint of PAGE-4D or VGGT to a folder for from_pretrained.

    All sizes of the network are read off the tensors, every tensor but those of a track head must fit, and the result
    is read back and compared before it gets its name. What tensors do not show is assumed, and printed. No code in the
    checkpoint is run.

    Args:
        checkpoint: the file, .pt or .safetensors.
        output: the folder to write; it must not exist yet, or be empty.
        dtype: precision in which encoder and aggregator are written; bfloat16 halves their size. The heads are float32.
        mask: whether the model uses the mask head that the checkpoint holds. By default the file's name tells: off if
            it says nomask, on if it says mask; otherwise --mask is asked for.
        set: values of Page4DConfig that the tensors do not show, as camera_num_attention_heads and
            encoder_num_attention_heads (by default as many as the aggregator's), mask_strength, head_layers.
        overwrite: replace a model in the output folder that page4d pull or convert wrote. Where the folder holds
            anything else, or a file that was changed since, nothing is replaced.
    """
    from .utils.folders import claimed_folder

    started = time.perf_counter()
    overrides = _parse_values(set)
    with claimed_folder(output, overwrite=overwrite, inputs=(checkpoint,)):
        if not os.path.exists(checkpoint):
            raise CheckpointError(f"There is no checkpoint {str(checkpoint)!r:.200}.")
        print(f"Converting {checkpoint}", flush=True)

        from transformers.utils import logging as transformers_logging

        from .weights.convert_checkpoint import convert_checkpoint

        transformers_logging.disable_progress_bar()
        config = convert_checkpoint(
            checkpoint, output, dtype=dtype, mask=mask, overwrite=overwrite, overrides=overrides, note=print
        )
    _print_converted(config, output, time.perf_counter() - started)


def pull(
    name: tyro.conf.Positional[Literal["nomask", "mask", "vggt", "vggt-commercial", "tiny"]],
    output: Path = Path("page4d"),
    revision: str | None = None,
    dtype: Literal["float32", "bfloat16"] = "float32",
    overwrite: bool = False,
) -> None:
    """Fetch published weights from the Hugging Face Hub and convert them to a folder for from_pretrained.

    The download of about 5 GB stays in the Hub's cache (HF_HOME), so that a second time nothing is fetched. The small
    model tiny comes with this package instead, and is copied out of it.

    Licences: VGGT-1B is under CC-BY-NC-4.0, for non-commercial use. PAGE-4D's release states none for its weights,
    which derive from VGGT-1B: take them to be non-commercial too. Only VGGT-1B-Commercial is under the VGGT licence
    (commercial use, but not military). tiny is under Apache-2.0.

    Args:
        name: nomask is PAGE-4D without its dynamics-aware mask, which its authors suggest; mask is PAGE-4D with it, and
            tells what moves. vggt is VGGT-1B. vggt-commercial is VGGT-1B-Commercial, which is gated: accept its
            conditions on huggingface.co/facebook/VGGT-1B-Commercial, wait for access, and log in by hf auth login. tiny
            is a small PAGE-4D, trained on rendered scenes, for a first look; it needs no network.
        output: the folder to write; it must not exist yet, or be empty.
        revision: branch, tag or commit of the repository on the Hub. The newest by default.
        dtype: precision in which encoder and aggregator are written; bfloat16 halves their size. The heads are float32.
        overwrite: replace a model in the output folder that page4d pull or convert wrote. Where the folder holds
            anything else, or a file that was changed since, nothing is replaced.
    """
    from .utils.folders import claimed_folder

    started = time.perf_counter()
    with claimed_folder(output, overwrite=overwrite):
        if name == "tiny" and revision is not None:
            raise Page4DError("--revision is of repositories on the Hub; tiny is the one that came with this page4d.")
        if name != "tiny":
            print(f"Fetching {name}", flush=True)

        from transformers.utils import logging as transformers_logging

        from .weights import hub

        transformers_logging.disable_progress_bar()  # those of reading and writing; the download keeps its own
        if name == "tiny":
            from .weights.shipped import pull_tiny

            pull_tiny(output, dtype=dtype, overwrite=overwrite)
            print(f"Wrote {output} in {time.perf_counter() - started:.1f} s: page4d-tiny, see {output / 'README.md'}.")
            print(f"Next: page4d reconstruct VIDEO --model {shlex.quote(str(output))}")
            return
        config = hub.pull(name, output, revision=revision, dtype=dtype, overwrite=overwrite, note=print)
    _print_converted(config, output, time.perf_counter() - started)


def _parse_values(assignments: tuple[str, ...]) -> dict[str, Any]:
    """`("mask_layer=7", ...)` as a dictionary; values are JSON where they can be, and words otherwise."""
    values: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not (name and equals and value):
            raise Page4DError(f"--set wants NAME=VALUE, as in mask_strength=0; it got {assignment!r}.")
        try:
            values[name] = json.loads(value)
        except ValueError:
            values[name] = value
    return values


def _print_converted(config: Any, output: Path, seconds: float) -> None:
    """Say what has been made, and under which licence it is."""
    from .model_card import licence

    heads = ", ".join(head for head in ("camera", "depth", "point", "track") if getattr(config, f"enable_{head}"))
    masked = config.mask_form is not None
    mask = f"mask of the {config.mask_form} form at strength {config.mask_strength:g}" if masked else "no mask"
    print(f"Wrote {output} in {seconds:.1f} s: {heads} heads, {mask}, {config.dtype}; read back and equal.")
    print(f"Licence: {licence(config)}")
    print(
        f"Next: page4d reconstruct VIDEO --model {shlex.quote(str(output))}, or "
        f"page4d_hf.Page4DModel.from_pretrained({str(output)!r})"
    )


def reconstruct(
    input: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="INPUT", help_behavior_hint="")],
    model: str = "page4d",
    output: Path = Path("scene"),
    fps: float | None = None,
    max_frames: int | None = None,
    window: int = 100,
    overlap: int | None = None,
    resolution: int | None = None,
    mode: Literal["crop", "balanced", "pad", "square"] | None = None,
    points: Literal["depth", "world"] = "depth",
    confidence_percentile: float = 20.0,
    max_points: int = 100_000,
    refine: Literal["auto", "off"] = "auto",
    tracks: Path | None = None,
    tracker: Literal["flow", "head"] = "flow",
    motion: str | None = None,
    cameras: Path | None = None,
    intrinsics: str | None = None,
    distortion: Literal["none", "radial"] = "none",
    masks: Path | None = None,
    metric_depth: str | None = None,
    write_masks: bool = False,
    split_cuts: bool = False,
    preview: bool = True,
    device: str = "auto",
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
    overwrite: bool = False,
) -> None:
    """Reconstruct a video or images: cameras, depth, points and motion, into a scene folder.

    Every radiance-field method that reads nerfstudio's transforms.json can train on the folder. Frames of different
    sizes are padded with white to a common one. The scale of the scene is arbitrary, unless --cameras or
    --metric-depth tells it.

    Args:
        input: a video file, a folder of images, a glob (in quotes), or image files in their order.
        model: folder of the weights (see `page4d pull` and `page4d convert`), or their repository on the Hub.
        output: the folder to write; it must not exist yet, or be empty.
        fps: frames per second to take from a video, by its timestamps. All of them by default.
        max_frames: at most so many frames, spread evenly over the whole clip.
        window: frames that go through the network at once, which bounds its memory. Longer clips go in windows, each
            aligned to the last.
        overlap: frames that windows share, at least. By default a quarter of a window.
        resolution: width of the network's input in pixels, a multiple of its patch size. By default what the model's
            image processor says: 518 of the published weights.
        mode: how frames are brought to the network's size. crop: full width, and what is higher than wide loses its top
            and bottom; balanced: the whole frame, what is higher than wide in as many pixels, narrower; pad: the whole
            frame, padded with white to a square; square: padded with black. By default what the model's image processor
            says: balanced of the weights that page4d pull writes.
        points: where the point cloud comes from. depth: depth maps and cameras; world: the network's point head.
        confidence_percentile: percentage of the pixels, the least confident, that give no point.
        max_points: at most so many points, spread evenly over the frames.
        refine: auto: adjust the network's cameras to point tracks through the frames (bundle adjustment), and its depth
            to them. What the clip does not show is kept, and said. off: keep the network's.
        tracks: file of tracks to refine by, instead of optical flow: .npz with tracks [K, S, 2] in pixels and visible
            [K, S].
        tracker: what follows points to refine by. flow: optical flow. head: the track head of weights that have one, as
            VGGT's: it follows points of each window's first frame alone, so take a short --window.
        motion: what tells motion. head: the network's mask head; geometry: optical flow that contradicts a static
            scene; both; off: nothing; or a folder with an image for each frame, 0 where nothing moves and non-zero
            where something does, the opposite of --write-masks. By default both, or geometry where the model has no
            mask head.
        cameras: known cameras, which are held, and in whose scale the scene comes: a transforms.json, a folder with a
            COLMAP model, or a trajectory (timestamp tx ty tz qx qy qz qw in each line, camera-to-world).
        intrinsics: known intrinsics, which are held: fx,fy,cx,cy in pixels of the frames, or a transforms.json or
            folder with a COLMAP model.
        distortion: radial: find the lens's radial distortion (k1 of COLMAP's SIMPLE_RADIAL) while refining, undistort
            the frames, and reconstruct those; the scene's images are undistorted. none: a pinhole. Where known cameras
            have a distortion, that one is undone anyway.
        masks: folder with an image for each frame, 0 where pixels are to be left out of cameras, tracks, points,
            depth's scale, motion and training.
        metric_depth: folder or Hub repository of a metric depth model of transformers, such as apple/DepthPro-hf, that
            scales the scene to metres.
        write_masks: write motion masks as images too, motion_masks/frame_00001.png.png, 0 where something moves and 255
            elsewhere: what COLMAP takes as ImageReader.mask_path, and the opposite of a folder of --motion.
        split_cuts: where the clip cuts from one shot to another, reconstruct each, into OUTPUT/shot_01, OUTPUT/shot_02,
            and so on. By default only the longest shot is reconstructed.
        preview: write preview.jpg into the scene: frames, depth, motion and the camera's path from above.
        device: auto (a GPU where there is one), cpu, cuda or cuda:<number>.
        dtype: precision of the encoder and the aggregator. auto is bfloat16 or float16 on a GPU and float32 on a CPU.
        overwrite: replace what page4d wrote into the output folder. Where it holds anything else, or a file that was
            changed since, nothing is replaced.
    """
    from .frames import frame_files
    from .utils.folders import claimed_folder

    started = time.perf_counter()
    if not input:
        raise Page4DError("Name a video, a folder of images or a glob as INPUT; see `page4d reconstruct --help`.")
    source = input[0] if len(input) == 1 else input
    by_frame = any(given is not None for given in (tracks, cameras, masks)) or os.path.isdir(motion or "")
    if split_cuts and by_frame:
        raise Page4DError("--split-cuts takes no tracks, cameras, masks or folder of motion: they are of a whole clip.")
    # What can be wrong with the output, and then with the frames' names, is found out before the seconds of imports.
    named = (name for name in (motion, intrinsics, metric_depth) if name and os.path.exists(name))  # or they are words
    read = (*input, model, cameras, tracks, masks, *named)
    with claimed_folder(output, overwrite=overwrite, inputs=read), progress_bar() as report:
        frame_files(source)

        from transformers.utils import logging as transformers_logging

        from .reconstruction.reconstruct import reconstruct as reconstruct_frames
        from .scene.folder import write_scene

        transformers_logging.disable_progress_bar()
        run = partial(
            reconstruct_frames,
            model=model,
            window=window,
            overlap=overlap,
            resolution=resolution,
            mode=mode,
            points=points,
            confidence_percentile=confidence_percentile,
            max_points=max_points,
            refine=refine,
            tracks=tracks,
            tracker=tracker,
            motion=motion,
            cameras=cameras,
            intrinsics=intrinsics,
            distortion=distortion,
            masks=masks,
            metric_depth=metric_depth,
            device=device,
            dtype=dtype,
            progress=report,
        )
        written: list[tuple[Path, int, int, dict[str, Any]]] = []  # folder, frames, points, info
        unmasked: list[str] = []

        def write(folder: Path, name: Path, made: Reconstruction, *, masks: bool = write_masks) -> None:
            write_scene(folder, made, preview=preview, motion_masks=masks, overwrite=overwrite)
            written.append((name, len(made), len(made.points), made.info))

        if split_cuts:
            from .reconstruction.cuts import split_at_cuts
            from .reconstruction.motion import shows_geometry
            from .utils.folders import whole_folder

            shots = split_at_cuts(source, fps=fps, max_frames=max_frames)
            with whole_folder(output, overwrite=overwrite) as folder:
                for number, shot in enumerate(shots, start=1):
                    name = f"shot_{number:02}"
                    # A shot that geometry can show no motion in, as one of a single frame, must not cost the others.
                    shown = shows_geometry(shot)
                    made = run(shot, motion=motion if shown or motion not in ("geometry", "both") else None)
                    masks_of_shot = write_masks and (shown or made.motion is not None)
                    unmasked += [name] if write_masks > masks_of_shot else []
                    made.info["options"] |= {"fps": fps, "max_frames": max_frames}  # of the clip, before it was split
                    write(folder / name, output / name, made, masks=masks_of_shot)
        else:
            made = run(source, fps=fps, max_frames=max_frames)
            report("writing the scene", 0, 1)
            write(output, output, made)
            report("writing the scene", 1, 1)

    seconds = time.perf_counter() - started
    for folder, num_frames, num_points, info in written:
        _print_reconstructed(folder, num_frames, num_points, info)
    if unmasked:
        print(f"Nothing tells what moves in {', '.join(unmasked)}, of a single frame or of several sizes: no masks.")
    print(f"It took {seconds:.1f} s and at most {_peak_memory(written[0][3]['options']['device'])}.")
    longest, num_frames, _, _ = max(written, key=lambda each: each[1])
    if num_frames > 1:
        say_next("ns-train", "page4d-4dgs", "--data", longest)


def _print_reconstructed(folder: Path, num_frames: int, num_points: int, info: dict[str, Any]) -> None:
    """Say what has been made of a clip, or of a shot."""
    print(f"Wrote {folder}: {counted(num_frames, 'frame')} and {num_points:,} points.")
    if "cuts" in info:
        print("`page4d reconstruct --split-cuts` makes a scene of each shot.")
    if "refinement" in info:
        from .reconstruction.cameras.refinement import summary

        print(summary(info["refinement"]))
    if "lens" in info:
        lens = info["lens"]
        names = ("k1", "k2", "k3", "k4", "p1", "p2")
        values = ", ".join(f"{name} = {lens[name]:.3g}" for name in names if name in lens)
        print(f"Images are undistorted: {values}; corners moved by up to {lens['bends_by_pixels']:.1f} px.")
    if "metric_depth" in info:
        compared = info["metric_depth"]
        print(f"Metres by {compared['model']}: frames differ by {compared['spread']:.1%} in the median.")


def synth(
    output: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUTPUT")],
    scene: Literal["living-room", "rigid", "deforming", "fast-camera", "orbit", "crowded"] = "living-room",
    seed: int = 0,
    num_frames: int = 48,
    held_out_every: int = 3,
    width: int = 160,
    height: int = 120,
    supersampling: int = 3,
    num_points: int = 10_000,
    overwrite: bool = False,
) -> None:
    """Make a small moving scene with exact ground truth, as a Nerfies capture.

    A living room with rigid and deforming objects, a training camera on a smooth path and a second, held-out camera:
    images, cameras, depth, motion masks and points.

    Args:
        output: the folder to write; it must not exist yet, or be empty.
        scene: living-room; or the same room in which nothing deforms, in which what moves only deforms, with a training
            camera three times as fast, with one that goes around once (orbit), or in which what moves fills a third to
            a half of the image (crowded).
        seed: draws colours, textures, sides, speeds and phases. The same seed and options give the same bytes.
        num_frames: instants, and training frames.
        held_out_every: how many instants lie between two frames of the held-out camera.
        width: of the images, in pixels.
        height: of the images, in pixels.
        supersampling: a pixel's colour is the mean of this many by this many rays.
        num_points: how many seed points.
        overwrite: replace what page4d wrote into the output folder. Where it holds anything else, or a file that was
            changed since, nothing is replaced.
    """
    from .utils.folders import claimed_folder

    started = time.perf_counter()
    with claimed_folder(output, overwrite=overwrite), progress_bar() as report:
        from .synthetic import write_synthetic_capture

        write_synthetic_capture(
            output,
            scene=scene,
            seed=seed,
            num_frames=num_frames,
            held_out_every=held_out_every,
            width=width,
            height=height,
            supersampling=supersampling,
            num_points=num_points,
            overwrite=overwrite,
            progress=report,
        )
    held_out = len(range(0, num_frames, held_out_every))
    seconds = time.perf_counter() - started
    print(f"Wrote {output} in {seconds:.1f} s: {num_frames} training and {held_out} held-out frames, {width}x{height}.")
    say_next("ns-train", "page4d-4dgs", "--data", output)


def export(
    scene: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SCENE")],
    format: Literal["colmap", "glb", "ply", "npz", "nerfstudio", "html"],
    output: Path | None = None,
    static_only: bool = False,
    max_points: int | None = None,
    overwrite: bool = False,
) -> None:
    """Write a reconstruction in the files of other programs.

    Cameras keep the sizes and intrinsics of the written images; world and scale are the scene's, but that GLB has y up.

    Args:
        scene: a folder that page4d reconstruct wrote, or any folder with nerfstudio's transforms.json.
        format: colmap: images and a binary model in sparse/0, with point tracks where the cameras were refined by some;
            glb: points and frustums, for Blender and browsers; ply: points with time, confidence and motion; npz:
            cameras, depth, confidence, motion, points and tracks; nerfstudio: images, transforms.json and points; html:
            one page that shows the points through time in any browser, and needs no network and no other file.
        output: the file to write or, of colmap and nerfstudio, the folder; it must not exist yet. By default it stands
            beside the scene: SCENE-colmap, SCENE.glb.
        static_only: leave out points that move, and write masks of what moves beside the images of colmap and
            nerfstudio.
        max_points: at most so many points, spread evenly.
        overwrite: replace the file, or a folder that page4d wrote.
    """
    from .utils.folders import check_output_file, claimed_folder

    started = time.perf_counter()
    is_folder = format in ("colmap", "nerfstudio")
    if output is None:
        place = Path(os.path.abspath(scene))
        output = place.parent / (f"{place.name}-{format}" if is_folder else f"{place.name}.{format}")
    with ExitStack() as stack:
        if is_folder:
            stack.enter_context(claimed_folder(output, overwrite=overwrite, inputs=(scene,)))
        else:
            check_output_file(output, overwrite=overwrite, inputs=(scene,))

        from .geometry import camera_moves
        from .scene.export import export_scene
        from .scene.folder import read_scene

        read = read_scene(scene)
        made = export_scene(read, output, format, static_only=static_only, max_points=max_points, overwrite=overwrite)
    tracked = f", {made.tracks:,} with tracks" if format == "colmap" else ""
    masked = f", {made.masks} masks" if made.masks else ""
    seconds = time.perf_counter() - started
    print(f"Wrote {output} in {seconds:.1f} s: {len(read)} cameras, {made.points:,} points{tracked}{masked}.")
    if is_folder:
        # nerfstudio divides by the extent of the cameras, which is 0 where the camera was held still.
        unscaled = () if camera_moves(read.extrinsics) else ("--auto-scale-poses", "False")
        reader: tuple[str, ...] = ("nerfstudio-data", *unscaled) if unscaled else ()
        if format == "colmap":
            masks = ("--masks-path", "masks") if made.masks else ()
            reader = ("colmap", "--colmap-path", "sparse/0", *masks, *unscaled)
        say_next("ns-train", "splatfacto", "--data", output, *reader)


def view(
    input: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="INPUT")],
    model: str | None = None,
    color: Literal["image", "depth", "confidence", "motion", "time"] = "image",
    points: Literal["one", "all", "static"] = "one",
    tracks: bool = True,
    time: float = 0.0,
    max_frames: int = 200,
    max_points: int = 1_000_000,
    host: str = "127.0.0.1",
    port: int | None = None,
    screenshot: Path | None = None,
    size: tuple[int, int] = (1600, 1000),
    overwrite: bool = False,
) -> None:
    """Look at a scene, a capture or a video: cameras and points through time, in the browser or as a picture.

    Ctrl-C ends it. Larger scenes are thinned for display only.

    Args:
        input: a scene folder, a capture of any known layout or, with --model, what page4d reconstruct takes.
        model: folder of the weights, or their repository on the Hub, to reconstruct a video or images with first.
        color: what points are coloured by. depth: near is red; confidence and motion: high is bright; time: blue at the
            first time to red at the last.
        points: one: those of one time; all: of all times; static: of one time, and the static ones of all times.
        tracks: draw the tracks of what moves, where there are some.
        time: the time to start at, from 0, the first, to 1, the last.
        max_frames: at most so many frames, spread evenly over the clip.
        max_points: at most so many points, spread evenly over frames and pixels.
        host: address to listen at. By default other machines cannot connect; 0.0.0.0 lets all of them.
        port: where to listen. By default 8080, or the next that is free.
        screenshot: write a picture to this .png or .jpg instead, for which no browser is needed.
        size: width and height of the picture, in pixels.
        overwrite: replace the picture.
    """
    from .utils.folders import check_output_file, whole_file

    check_ranges({"time": time}, {"time": (0, 1)})
    if screenshot is not None:
        if screenshot.suffix.lower() not in (".png", ".jpg", ".jpeg"):
            raise Page4DError(f"Expected a picture's name that ends in .png or .jpg, got {screenshot}.")
        if not all(64 <= side <= 8192 for side in size):
            raise Page4DError(f"Expected a picture of 64 to 8192 pixels a side, got {size[0]}x{size[1]}.")
        check_output_file(screenshot, overwrite=overwrite, inputs=(input, model))

    from .viewing.display import Display, Palette
    from .viewing.opening import open_input

    if screenshot is None:
        from .utils.addresses import check_address

        port = check_address(host, port)
    with progress_bar() as report:
        scene = open_input(input, model, max_frames=max_frames, max_points=max_points, progress=report)
    display = Display(color=color, times=points, tracks=tracks)
    Palette(scene).check(display)
    instant = scene.nearest_instant(time)
    shown = scene.everything
    print(f"{scene.name}: {len(scene)} of {scene.all_frames} frames, {len(shown):,} of {scene.all_points:,} points.")
    if not len(shown):
        print("No points and no depth are known: only the cameras are shown.")
    if screenshot is not None:
        from PIL import Image

        from .viewing.picture import picture_of

        with whole_file(screenshot, overwrite=overwrite) as file:
            kind = "png" if screenshot.suffix.lower() == ".png" else "jpeg"
            Image.fromarray(picture_of(scene, display, instant, size)).save(file, kind, quality=92)
        print(f"Wrote {screenshot}.")
        return

    from .viewing.viewer import serve

    assert port is not None
    serve(scene, display, instant, host, port)


def app(
    models: tuple[str, ...] = ("tiny",),
    host: str = "127.0.0.1",
    port: int = 7860,
    max_upload: float = 100.0,
    max_frames: int = 48,
    max_minutes: float = 10.0,
    keep_minutes: float = 60.0,
    train_steps: int = 0,
) -> None:
    """Serve a web page on which visitors reconstruct videos of their own.

    Each visit has files of its own, which are removed; one job runs at a time, in a process of its own.

    Args:
        models: weights to choose from: tiny, which comes with the package, folders, or repositories on the Hub.
        host: 127.0.0.1 serves this machine alone, 0.0.0.0 its network too.
        port: port of the page.
        max_upload: largest upload, all files together, in MiB.
        max_frames: most frames of a video that are reconstructed.
        max_minutes: time limit of a reconstruction, and of a training.
        keep_minutes: time after which the files of a visit are removed.
        train_steps: offer a training of so many steps, whose result is a web page; needs the extra nerfstudio. 0: none.
    """
    from importlib.util import find_spec

    if not models:
        raise Page4DError("Name at least one of --models, such as tiny.")
    limits = {"max_upload": max_upload, "max_minutes": max_minutes, "keep_minutes": keep_minutes}
    check_ranges(limits, dict.fromkeys(limits, (0.001, FINITE)))
    least = {"max_frames": (2, FINITE), "train_steps": (0, FINITE)}
    check_ranges({"max_frames": max_frames, "train_steps": train_steps}, least)
    if find_spec("gradio") is None:
        raise Page4DError(not_installed("The app needs gradio", "app"))
    if train_steps and find_spec("nerfstudio") is None:
        raise Page4DError(not_installed("--train-steps needs nerfstudio", "nerfstudio"))

    from .app.launch import launch
    from .app.page import Limits

    launch(list(models), Limits(max_upload, max_frames, 60 * max_minutes, train_steps, keep_minutes), host, port)


def _peak_memory(device: str) -> str:
    """The most memory that the process and the GPU have had in use, in words."""
    import torch

    from .utils.measuring import peak_memory

    words = f"{peak_memory(torch.device('cpu')) / 2**30:.1f} GiB of memory"
    if device != "cpu":
        words += f" and {peak_memory(torch.device(device)) / 2**30:.1f} GiB on the GPU"
    return words


COMMANDS: dict[str, Callable[..., Any]] = {
    "pull": pull,
    "reconstruct": reconstruct,
    "view": view,
    "export": export,
    "app": app,
    "synth": synth,
    "convert": convert,
}


def added_commands() -> dict[str, Callable[..., Any]]:
    """Subcommands of other packages; one that cannot be loaded is named on stderr and left out."""
    from importlib.metadata import entry_points

    found = {}
    for point in entry_points(group=COMMAND_GROUP):
        try:
            found[point.name] = point.load()
        except Exception as error:  # whatever a package does wrong, the other subcommands work
            print(f"page4d: the subcommand {point.name} ({point.value}) is left out: {error}", file=sys.stderr)
    return found


def _in_a_sentence(function: Callable[..., Any]) -> Callable[..., Any]:
    """A stand-in that has only the first sentence of a subcommand's help."""

    def stand_in() -> None: ...

    stand_in.__doc__ = (inspect.getdoc(function) or "").partition("\n\n")[0]
    return stand_in


def main(args: list[str] | None = None) -> None:
    """Entry point of the console script: errors about the input are one sentence on stderr and exit code 1."""
    if not sys.warnoptions:  # of what a library will do differently some day, a user of the command can change nothing
        warnings.simplefilter("ignore", FutureWarning)
    with input_errors_end_the_program("page4d", "nothing was kept of what was being written."):
        first = next(iter(sys.argv[1:] if args is None else args), "--help")
        if first == "--version":
            print(f"page4d {page4d_version()}")
            return
        commands = {**COMMANDS, **added_commands(), **COMMANDS}  # ours come first, and no other takes their names
        if first in ("-h", "--help"):
            commands = {name: _in_a_sentence(command) for name, command in commands.items()}
        tyro.extras.subcommand_cli_from_dict(commands, prog="page4d", description=DESCRIPTION, args=args)


if __name__ == "__main__":
    main()
