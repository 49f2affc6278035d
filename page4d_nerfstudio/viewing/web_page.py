"""A trained scene as one HTML file; see `page4d_hf.scene.web_page`."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from nerfstudio.models.splatfacto import SH2RGB
from scipy.special import expit

from page4d_hf.geometry import extrinsics_at
from page4d_hf.scene.web_page import MOST_KEYFRAMES, Keyframes, PageCameras, distance_ahead, page_of
from page4d_hf.utils.evenly import evenly
from page4d_hf.utils.folders import whole_file
from page4d_hf.utils.progress import Progress

from .camera_paths import CameraPathError, Views, median_depth
from .export import MOST_DEGREE, Run, Splats, splats_at
from .run_config import ExportError


def keyframes_of(
    run: Run, degree: int, most: int, progress: Progress | None = None
) -> tuple[npt.NDArray[Any], Keyframes, Keyframes]:
    """Times [F], Gaussians that move, at these times, and those that do not.

    Args:
        run: the training.
        degree: of the harmonics to keep.
        most: keyframes, evenly of the instants of which there are frames; of frames without times, the one that all
            were trained at.
        progress: called with what is done.
    """
    model = run.model
    may_move = model.in_motion.cpu().numpy() if model.deforms else np.zeros(model.num_points, bool)
    times = run.times[evenly(len(run.times), most if may_move.any() else 1)]
    middle = len(times) // 2
    frames = []
    for index, time in enumerate(times):
        splats = splats_at(model, float(time))
        splats = splats._replace(rest=splats.rest[:, : (degree + 1) ** 2 - 1])
        if index == middle:
            still = _keyframes([splats.select(~may_move)])
        else:
            splats = splats._replace(rest=splats.rest[:, :0])  # as that of the middle is kept
        frames.append(splats.select(may_move))
        if progress is not None:
            progress("gathering keyframes", index + 1, len(times))
    moving = _keyframes(frames)
    moving, still = moving.select(moving.shown()), still.select(still.shown())
    changes = moving.changes()
    settled = moving.select(~changes).at(middle)
    still = Keyframes(*(np.concatenate(pair, axis=2) for pair in zip(still, settled, strict=True)))
    moving = moving.select(changes)
    if moving.amount + still.amount == 0:
        raise ExportError("No Gaussian of this training is to be seen at any time; train for longer.")
    return times, moving.neighbours_together(), still.neighbours_together()


def _keyframes(frames: list[Splats]) -> Keyframes:
    """The same Gaussians at several times, with the harmonics of the middle one."""

    def stack(name: str) -> npt.NDArray[Any]:
        return np.stack([_columns(getattr(splats, name)).T for splats in frames])

    rotation = stack("quats")[:, [1, 2, 3, 0]]
    for before, after in pairwise(rotation):
        after *= np.where((before * after).sum(axis=0) < 0, -1, 1)
    rest = frames[len(frames) // 2].rest
    return Keyframes(
        stack("means"),
        rotation,
        stack("scales"),
        expit(stack("opacities")),
        SH2RGB(stack("dc")),
        _columns(rest).T[None],
    )


def _columns(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """[N, ...] as [N, C], also of no Gaussians."""
    return values.reshape(len(values), math.prod(values.shape[1:]))


class PageSize(NamedTuple):
    """What a page holds, for people."""

    moving: int
    still: int
    keyframes: int
    size: int  # of the file, bytes


def write_page(
    path: Path,
    run: Run,
    views: Views,
    *,
    title: str,
    view: int,
    seconds: float,
    degree: int | None = None,
    keyframes: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> PageSize:
    """Write a training as an HTML file that needs nothing else; it is whole or absent.

    Args:
        path: the file.
        run: the training.
        views: of its training cameras, whose lens distortion and principal point are left out.
        title: of the page.
        view: the camera that the page opens at, in the order of time.
        seconds: that the clip takes when played.
        degree: of the harmonics to keep, at most the training's, which is the default.
        keyframes: at most so many instants, by default MOST_KEYFRAMES.
        overwrite: replace the file.
        progress: called with what is done.
    """
    degree = min(MOST_DEGREE if degree is None else degree, run.model.active_sh_degree)
    times, moving, still = keyframes_of(run, degree, MOST_KEYFRAMES if keyframes is None else keyframes, progress)
    points = np.concatenate([group.position[len(group.position) // 2].T for group in (moving, still)]).astype(
        np.float64
    )
    poses = views.poses * np.array([1.0, -1.0, -1.0, 1.0])  # of OpenCV
    try:
        distance = median_depth(views._replace(points=points), view)
    except CameraPathError:  # the view sees no Gaussian's centre
        distance = distance_ahead(extrinsics_at(poses[:, :, :3].transpose(0, 2, 1), poses[:, :, 3]), view, points)
    width, height = views.sizes[view].tolist()
    cameras = PageCameras(
        poses,
        views.times,
        height / 2 / np.tan(np.radians(views.fov) / 2),
        (width, height),
        view,
        distance,
    )
    background = run.model.background_color.tolist()
    content = page_of(title, times, moving, still, cameras, degree=degree, seconds=seconds, background=background)
    with whole_file(path, overwrite=overwrite) as partial:
        partial.write_bytes(content)
    return PageSize(moving.amount, still.amount, len(times), len(content))
