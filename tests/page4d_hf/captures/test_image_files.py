"""Images of captures: what is read, and what is refused by its head."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from fuzzing import check_reader
from PIL import Image

from page4d_hf.captures.image_files import read_image, read_image_size
from page4d_hf.errors import CaptureError, FrameError
from page4d_hf.utils.image_bounds import MOST_PIXELS, MOST_SIDE, check_pixels


def claim(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose head claims a size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(60_000, 60_000), (2**31 - 1, 2**31 - 1), (2**17, 1), (1, 2**17)])
def test_an_image_that_claims_to_be_huge_is_refused_by_its_head(tmp_path: Path, size: tuple[int, int]) -> None:
    (tmp_path / "a.png").write_bytes(claim(*size))
    for read in (read_image, read_image_size):
        with pytest.raises(CaptureError, match=r"a\.png (claims to be an image of|cannot be read .*Image size)"):
            read(tmp_path / "a.png")


def test_the_bound_is_the_callers_error_and_says_what_is_read() -> None:
    check_pixels(13_000, 13_000, "a.png", FrameError)
    check_pixels(MOST_SIDE, 1, "a.png", FrameError)
    assert 2 * (Image.MAX_IMAGE_PIXELS or 0) == MOST_PIXELS  # where Pillow stops
    with pytest.raises(FrameError, match=r"^a\.png claims to be an image of 20000x20000 .* at most 179 million"):
        check_pixels(20_000, 20_000, "a.png", FrameError)
    for width, height in ((0, 5), (5, -1)):
        with pytest.raises(FrameError, match="pixels, which has none"):
            check_pixels(width, height, "a.png", FrameError)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp", ".tif"])
def test_a_damaged_image_ends_in_a_reading_or_a_sentence(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)).save(path)
    check_reader(lambda: read_image(path), [path], rounds=100, seed=8)  # damages that Pillow meets in several ways
