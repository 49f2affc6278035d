"""Each kind of source is read with options of its own, whoever asks."""

import numpy as np
from small_captures import write_capture

from page4d_nerfstudio.data.capture_source import CaptureOptions, frames_of_capture, open_capture
from page4d_nerfstudio.data.starting_points import SeedOptions


def no_reconstruction(read, digest):
    raise AssertionError("nothing asked for PAGE-4D")


def test_a_capture_is_read_without_a_dataparser(tmp_path):
    capture = open_capture(write_capture(tmp_path / "capture", points=30), "nerfies", None)

    frames = frames_of_capture(capture, CaptureOptions(SeedOptions(max_points=20)), no_reconstruction)

    assert len(frames.points) == 20
    np.testing.assert_array_equal(frames.extrinsics, capture.extrinsics)
    assert set(frames.train).isdisjoint(frames.evaluation)
