"""A trained scene along a camera path as MP4 or GIF, by PyAV: no program ffmpeg is needed."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from nerfstudio.cameras.camera_paths import get_path_from_json

from page4d_hf.utils.folders import whole_file
from page4d_hf.utils.progress import Progress

from ..gaussians.model import Page4DGaussiansModel


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

    Raises:
        Page4DError: the file is in the way, or cannot be written.
    """
    rate = Fraction(camera_path["fps"]).limit_denominator(1000)
    frames = _frames(model, camera_path, progress)
    with whole_file(path, overwrite=overwrite) as partial:
        if path.suffix.lower() == ".gif":
            return _write_gif(partial, frames, rate)
        return _write_mp4(partial, frames, rate)


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


def _write_mp4(path: Path, frames: Iterator[av.VideoFrame], rate: Fraction) -> int:
    count = 0
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "17"})
        for frame in frames:
            if count == 0:
                stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, "yuv420p"
                # Said in the file: players guess otherwise, by its size.
                stream.codec_context.colorspace = Colorspace.ITU709
                stream.codec_context.color_primaries = ColorPrimaries.BT709
                stream.codec_context.color_trc = ColorTrc.BT709
                stream.codec_context.color_range = ColorRange.MPEG
            converted = frame.reformat(
                format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
            )
            container.mux(stream.encode(converted))
            count += 1
        container.mux(stream.encode(None))
    return count


def _write_gif(path: Path, frames: Iterator[av.VideoFrame], rate: Fraction) -> int:
    count = 0
    with av.open(str(path), "w", format="gif", options={"loop": "0"}) as container:
        stream = container.add_stream("gif", rate=rate)
        graph: av.filter.Graph | None = None
        for frame in frames:
            if graph is None:
                stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, "pal8"
                graph = _palette_graph(frame.width, frame.height, rate)
            frame.time_base = 1 / rate
            graph.push(frame)
            count += 1
        assert graph is not None
        graph.push(None)
        while True:
            try:
                coloured = graph.pull()
            except (av.BlockingIOError, av.EOFError):
                break
            assert isinstance(coloured, av.VideoFrame)
            container.mux(stream.encode(coloured))
        container.mux(stream.encode(None))
    return count


def _palette_graph(width: int, height: int, rate: Fraction) -> av.filter.Graph:
    """Of all frames one palette, in whose colours they are then drawn: none flickers."""
    graph = av.filter.Graph()
    source = graph.add_buffer(width=width, height=height, format=av.VideoFormat("rgb24"), time_base=1 / rate)
    split = graph.add("split")
    palette, drawn = graph.add("palettegen", "stats_mode=full"), graph.add("paletteuse", "dither=bayer:bayer_scale=4")
    source.link_to(split)
    split.link_to(drawn, 0, 0)
    split.link_to(palette, 1, 0)
    palette.link_to(drawn, 0, 1)
    drawn.link_to(graph.add("buffersink"))
    graph.configure()
    return graph
