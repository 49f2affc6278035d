"""Reads a variant's data before it is trained: what the capture does not allow is known at once, and PAGE-4D's
reconstruction lies in the cache, so that its time is not counted as the training's.

Done in a process of its own: its memory, a GPU's above all, is free when the trainings begin.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from page4d_hf.errors import Page4DError
from page4d_hf.scene.tracks import PointTracks, tracks_bytes
from page4d_hf.utils.folders import whole_file
from page4d_hf.utils.programs import one_line

from .variants import NoisyTracks, Variant

if TYPE_CHECKING:
    from page4d_nerfstudio.data.posed_frames import PosedFrames

NOISE = 0.3  # of noisy tracks


class Facts(NamedTuple):
    """What reading a variant's data has shown."""

    train_frames: int = 0
    held_out_frames: int = 0
    seed_points: int = 0
    knows_motion: bool = False  # whether held-out frames have motion masks
    path_error: float | None = None  # of PAGE-4D's cameras after the Sim(3), as a share of the path's extent
    refused: str = ""  # why the variant cannot be trained


def check(variants: Sequence[Variant], said: Callable[[Variant, Facts], None]) -> dict[str, Facts]:
    """Read the data of variants one after the other; gives what was found by their names, and tells `said` of each."""
    found: dict[str, Facts] = {}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=_quiet) as reader:
        for variant in variants:
            if variant.refused is None:
                found[variant.name] = reader.submit(read_facts, variant).result()
            else:
                found[variant.name] = Facts(refused=variant.refused)
            said(variant, found[variant.name])
    return found


def _quiet() -> None:
    # What libraries tell their own developers; ns-train's log has it too.
    warnings.filterwarnings("ignore", category=FutureWarning)


def _read(data: Path, options: Sequence[str]) -> PosedFrames:
    """The frames that page4d-data gives."""
    import tyro

    from page4d_nerfstudio.data.dataparser import Page4DDataParserConfig, read_source

    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(errors):
            # As ns-train reads them: a switch takes True or False.
            config = tyro.cli(
                Page4DDataParserConfig, args=["--data", str(data), *options], config=(tyro.conf.FlagConversionOff,)
            )
    except SystemExit:
        raise Page4DError(f"options of page4d-data that it does not have, or not so: {' '.join(options)}") from None
    return read_source(config)


def _write_noisy_tracks(variant: Variant, noisy: NoisyTracks) -> None:
    """Write a variant's tracks as files of tracks are, NOISE of them at a random place in each frame."""
    frames = _read(variant.data, (*variant.data_options, "--tracks", noisy.source))
    paths = np.zeros((0, len(frames.times), 3)) if frames.tracks is None else frames.tracks.paths
    assert paths is not None
    paths = paths[np.isfinite(paths).any(axis=(1, 2))].astype(np.float32)
    rng = np.random.default_rng(0)
    wrong = rng.random(len(paths)) < NOISE
    if len(paths):
        places = rng.uniform(np.nanmin(paths, (0, 1)), np.nanmax(paths, (0, 1)), paths.shape)
        paths = np.where(wrong[:, None, None] & np.isfinite(paths), places, paths)
    unseen = np.zeros(paths.shape[:2], bool)  # the images do not show what is noise
    tracks = PointTracks(np.zeros((*unseen.shape, 2)), unseen, np.full((len(paths), 3), np.nan), paths)
    noisy.file.parent.mkdir(exist_ok=True)
    with whole_file(noisy.file, overwrite=True) as partial:
        partial.write_bytes(tracks_bytes(tracks, [path.stem for path in frames.image_paths]))


def read_facts(variant: Variant) -> Facts:
    """Read a variant's data, as its training will."""
    try:
        if variant.noisy_tracks is not None:
            _write_noisy_tracks(variant, variant.noisy_tracks)
        frames = _read(variant.data, variant.data_options)
    except Page4DError as error:
        return Facts(refused=one_line(error))
    masks = frames.images.capture.motion_mask_paths
    refused = ""
    if variant.needs_motion and frames.points.motion is None:
        refused = "the model has no mask, so that this is the row without it"
    elif frames.images.differs_from_files and not variant.method.startswith("page4d-"):
        refused = (
            f"{variant.method} reads images as their files are, and these have to be undistorted, scaled or made opaque"
        )
    return Facts(
        train_frames=len(frames.train),
        held_out_frames=len(frames.evaluation),
        seed_points=len(frames.points),
        knows_motion=masks is not None and any(masks[i] is not None for i in frames.evaluation),
        path_error=frames.path_error,
        refused=refused,
    )
