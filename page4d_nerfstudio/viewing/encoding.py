"""Frames as MP4 or GIF, by PyAV: no program ffmpeg is needed."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc


def write_mp4(path: Path, frames: Iterator[av.VideoFrame], rate: Fraction) -> int:
    """Write RGB frames as H.264 with BT.709 colours, and return how many there were.

    Colour has half the resolution, as all players know it, unless a side is odd.
    """
    count, format = 0, "yuv420p"
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "17"})
        for frame in frames:
            if count == 0:
                if frame.width % 2 or frame.height % 2:
                    format = "yuv444p"
                stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, format
                # Said in the file: players guess otherwise, by its size.
                stream.codec_context.colorspace = Colorspace.ITU709
                stream.codec_context.color_primaries = ColorPrimaries.BT709
                stream.codec_context.color_trc = ColorTrc.BT709
                stream.codec_context.color_range = ColorRange.MPEG
            converted = frame.reformat(format=format, dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG)
            container.mux(stream.encode(converted))
            count += 1
        container.mux(stream.encode(None))
    return count


def write_gif(path: Path, frames: Iterator[av.VideoFrame], rate: Fraction) -> int:
    """Write RGB frames of one palette, repeated for ever, and return how many there were.

    All are held in memory until the last one: only then is the palette known.
    """
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
