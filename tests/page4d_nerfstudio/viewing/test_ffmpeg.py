"""The program that stands in for ffmpeg, as mediapy runs it."""

import shutil

import av
import mediapy
import numpy as np
import pytest
from nerfstudio.utils.install_checks import check_ffmpeg_installed

from page4d_nerfstudio.viewing import ffmpeg


@pytest.fixture
def without(monkeypatch):
    """A PATH on which there is no ffmpeg until it is offered."""
    monkeypatch.setenv("PATH", "/bin-of-nobody")
    with pytest.raises(SystemExit):
        check_ffmpeg_installed()
    ffmpeg.offer()
    check_ffmpeg_installed()


@pytest.mark.slow
@pytest.mark.parametrize("size", [(32, 48), (31, 45)])
def test_a_video_of_mediapy_has_its_frames_size_and_rate(without, tmp_path, size):
    ramp = np.linspace(40, 200, size[1]).astype(np.uint8)
    frames = [
        np.stack([np.broadcast_to(ramp, size), np.full(size, 20 * k), np.full(size, 90)], axis=-1) for k in range(6)
    ]
    with mediapy.VideoWriter(tmp_path / "a.mp4", size, fps=7.5) as writer:
        for frame in frames:
            writer.add_image(frame.astype(np.uint8))
    with av.open(str(tmp_path / "a.mp4")) as video:
        assert float(video.streams.video[0].average_rate) == 7.5
        read = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    assert len(read) == len(frames)
    for image, frame in zip(read, frames, strict=True):
        assert np.abs(image.astype(int) - frame).mean() < 4


@pytest.mark.slow
def test_what_it_cannot_do_is_said_with_how_to_get_the_program(without, tmp_path):
    with pytest.raises(RuntimeError, match="apt install ffmpeg"):
        mediapy.write_video(tmp_path / "a.gif", np.zeros((2, 8, 8, 3), np.uint8), fps=5, codec="gif")


def test_an_ffmpeg_that_is_there_is_left_alone(tmp_path, monkeypatch):
    (tmp_path / "ffmpeg").write_text("#!/bin/sh\n")
    (tmp_path / "ffmpeg").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    ffmpeg.offer()
    assert shutil.which("ffmpeg") == str(tmp_path / "ffmpeg")
