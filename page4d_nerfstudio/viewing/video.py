"""A trained scene along a camera path as MP4 or GIF, by PyAV: no program ffmpeg is needed."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from nerfstudio.cameras.camera_paths import get_path_from_json

from page4d_hf.utils.folders import whole_file
from page4d_hf.utils.progress import Progress

from ..gaussians.model import Page4DGaussiansModel
from .encoding import write_gif, write_mp4


def write_video(
    path: Path,
    model: Page4DGaussiansModel,
    camera_path: dict[str, Any],
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> int:
    """Render a camera path to a file that is whole or absent.

    Args:
        path: ends in .mp4 (H.264, which all players know) or .gif (one palette for all of it, repeated for ever).
        model: in evaluation.
        camera_path: of `make_path`. Of an MP4, width and height are even.
        overwrite: replace the file.
        progress: called with how many frames are rendered.

    Returns:
        How many frames there are.
    """
    rate = Fraction(camera_path["fps"]).limit_denominator(1000)
    frames = _frames(model, camera_path, progress)
    with whole_file(path, overwrite=overwrite) as partial:
        write = write_gif if path.suffix.lower() == ".gif" else write_mp4
        return write(partial, frames, rate)


def _frames(
    model: Page4DGaussiansModel, camera_path: dict[str, Any], progress: Progress | None
) -> Iterator[av.VideoFrame]:
    cameras = get_path_from_json(camera_path).to(model.device)
    count = len(cameras)
    for index in range(count):
        with torch.no_grad():
            rgb = model.get_outputs_for_camera(cameras[index : index + 1])["rgb"]
        image = (255 * rgb.clamp(0, 1)).round().to(torch.uint8).cpu().numpy()
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame.pts = index
        yield frame
        if progress is not None:
            progress("rendering", index + 1, count)
