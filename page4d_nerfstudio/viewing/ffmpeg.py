"""What ns-render asks of the program ffmpeg, by PyAV: raw RGB frames on the input become an H.264 video.

nerfstudio looks for the program on the PATH, and mediapy runs it. Where there is none, `offer` puts this one there, for
the process that renders alone. Of anything else it says that it takes the real program.
"""

from __future__ import annotations

import atexit
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

NAME = "ffmpeg"
REFUSAL = (
    "page4d: there is no program ffmpeg here, and without it only videos of RGB frames are written; install it with "
    "`apt install ffmpeg`, `conda install ffmpeg` or from https://ffmpeg.org/download.html."
)


def offer() -> None:
    """Put this program on the PATH of this process, the last on it, if that has no ffmpeg."""
    if shutil.which(NAME) is not None:
        return
    folder = Path(tempfile.mkdtemp(prefix="page4d-ffmpeg-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    program = folder / NAME
    program.write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, str(Path(__file__).resolve())])} "$@"\n')
    program.chmod(0o755)
    os.environ["PATH"] = os.pathsep.join(filter(None, (os.environ.get("PATH"), str(folder))))


def main(arguments: list[str]) -> int:
    """Run as mediapy runs it: `... -pix_fmt rgb24 -s WIDTHxHEIGHT -r FPS -i - ... -vcodec h264 ... -y FILE`."""
    values = dict(pairwise(arguments))
    raw = "rgb24" in arguments and values.get("-f") == "rawvideo" and values.get("-i") == "-"
    if not raw or values.get("-vcodec") != "h264":
        print(REFUSAL, file=sys.stderr)
        return 1
    import av
    import numpy as np

    from page4d_nerfstudio.viewing.encoding import write_mp4

    width, height = map(int, values["-s"].split("x"))

    def frames() -> Iterator[av.VideoFrame]:
        count = 0
        while len(data := sys.stdin.buffer.read(3 * width * height)) == 3 * width * height:
            frame = av.VideoFrame.from_ndarray(np.frombuffer(data, np.uint8).reshape(height, width, 3), format="rgb24")
            frame.pts = count
            count += 1
            yield frame

    write_mp4(Path(arguments[-1]), frames(), Fraction(values["-r"]).limit_denominator(1000))
    return 0


if __name__ == "__main__":
    sys.path.pop(0)  # this folder, where "export" and "video" are
    sys.path.append(str(Path(__file__).resolve().parents[2]))
    sys.exit(main(sys.argv[1:]))
