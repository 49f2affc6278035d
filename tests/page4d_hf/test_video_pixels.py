"""The pixels of video frames: colour matrices, HDR, interlaced fields."""

import logging
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from page4d_hf.frames import read_frames
from page4d_hf.video_pixels import FROM_2020, HLG, PQ, REFERENCE_WHITE, tone_mapped

FAILURES = Path(__file__).parents[3] / "shared" / "failures"
COLOR = (200, 60, 30)


def write_color(path, size, matrix, tagged):
    """Two frames of one colour, by a colour matrix that the file names or not."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "2"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        if tagged:
            stream.codec_context.colorspace = {"ITU709": 1, "ITU601": 5}[matrix]
        image = np.full((size[1], size[0], 3), COLOR, np.uint8)
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace=matrix, dst_color_range="MPEG")
        for i in range(2):
            frame.pts, frame.time_base = i, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("size", "matrix", "tagged"),
    [
        ((1280, 720), "ITU709", False),
        ((720, 1280), "ITU709", False),
        ((1280, 720), "ITU709", True),
        ((1280, 720), "ITU601", True),
        ((640, 360), "ITU601", False),
        ((640, 360), "ITU709", True),
    ],
)
def test_colours_are_decoded_by_the_matrix_that_is_tagged_or_by_what_the_size_says(tmp_path, size, matrix, tagged):
    image = read_frames(write_color(tmp_path / "clip.mp4", size, matrix, tagged)).images[0]
    assert np.abs(image[8, 8].astype(int) - COLOR).max() <= 3


def test_an_hlg_clip_is_tone_mapped_to_the_colours_that_it_was_made_of_and_said_once(caplog):
    if not FAILURES.is_dir():
        pytest.skip("shared/failures/hlg.mov is not there")
    with caplog.at_level(logging.WARNING):
        frames = read_frames(FAILURES / "hlg.mov", max_frames=2)
    truth = np.array(Image.open(FAILURES / "hlg-truth.png").convert("RGB")).astype(int)
    off = np.abs(frames.images[0].astype(int) - truth)[45::90, 40::80]  # the middle of each patch
    assert off.max() <= 7  # of white, which is compressed a little to leave room for what is brighter
    assert np.median(off) <= 1
    assert [record.message.count("is HDR (HLG)") for record in caplog.records] == [1]


def code_of(nits):
    """The PQ signal (SMPTE ST 2084, Eq. 4.1) of a luminance."""
    power = (nits / 10_000) ** (2610 / 16384)
    return ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)


def test_pq_s_reference_white_is_nearly_sdr_s_and_mid_grey_stays():
    levels = np.array([0.0, 0.2158 * REFERENCE_WHITE, REFERENCE_WHITE, 10_000.0])
    codes = np.rint(65535 * code_of(levels)).astype(np.uint16)
    black, grey, white, peak = tone_mapped(np.repeat(codes[None, :, None], 3, axis=2), PQ)[0, :, 0].tolist()
    assert (black, peak) == (0, 255)
    assert abs(grey - 128) <= 1
    assert 240 <= white < peak


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_greys_stay_grey_and_brighter_stays_brighter(transfer):
    ramp = np.repeat(np.linspace(0, 65535, 1000).astype(np.uint16)[None, :, None], 3, axis=2)
    mapped = tone_mapped(ramp, transfer)[0].astype(int)
    assert np.ptp(mapped, axis=1).max() <= 1
    assert (np.diff(mapped[:, 0]) >= 0).all()


def test_the_gamut_keeps_white():
    np.testing.assert_allclose(FROM_2020.sum(axis=1), 1, atol=2e-4)


def write_interlaced(path, shift=8):
    """A bar that moves by `shift` pixels between the two fields of a frame, top field first."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg2video", rate=25, options={"flags": "+ilme+ildct", "qscale": "1"})
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for i in range(3):
            image = np.zeros((96, 128, 3), np.uint8)
            image[0::2, 40:60] = 200
            image[1::2, 40 + shift : 60 + shift] = 200
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p", interpolation="POINT")
            frame.pts, frame.time_base = i, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_an_interlaced_video_shows_the_moment_of_one_field(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        image = read_frames(write_interlaced(tmp_path / "clip.mpg")).images[0].astype(int)
    combing = np.abs(image[10:-10:2] - image[11:-9:2]).mean()
    assert combing < 2  # 25 where the fields are woven into each other
    assert "is interlaced" in caplog.text
