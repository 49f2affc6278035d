"""Decoders of depth: bytes to numbers."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from page4d_hf.captures.depth_files import read_dpt, read_float16_png, read_npy_depth, read_png16, read_uint16_png
from page4d_hf.errors import CaptureError

NO_CAMERA = np.eye(3)
LEVELS = np.array([[0, 1, 255, 256], [5000, 32767, 32768, 65535]], np.uint16)


def png_bytes(levels: np.ndarray) -> bytes:
    """A grey 16-bit PNG by OpenCV, which reads and writes them without Pillow."""
    return bytes(cv2.imencode(".png", levels)[1])


def test_levels_of_a_16_bit_png_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "depth.png"
    path.write_bytes(png_bytes(LEVELS))
    np.testing.assert_array_equal(read_png16(path), LEVELS)
    depth = read_uint16_png(path, NO_CAMERA)
    np.testing.assert_array_equal(depth, LEVELS)
    assert depth.dtype == np.float32


def test_the_bits_of_a_float16_png_are_numbers(tmp_path: Path) -> None:
    numbers = np.array([[0.0, 1.0, 2.5], [np.inf, np.nan, 65504.0]], np.float16)
    assert numbers[0, 1:2].view(np.uint16) == 0x3C00  # 1.0 in IEEE 754
    path = tmp_path / "depth.geometric.png"
    path.write_bytes(png_bytes(numbers.view(np.uint16)))
    np.testing.assert_array_equal(read_float16_png(path, NO_CAMERA), numbers.astype(np.float32))


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "1", "I", "F"])
def test_an_image_of_other_than_16_bits_holds_no_depth(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (4, 3)).save(tmp_path / "depth.tif")
    with pytest.raises(CaptureError, match=rf"depth\.tif must be a grey image of 16 bits .* got {mode} pixels"):
        read_png16(tmp_path / "depth.tif")


def test_a_dpt_file_is_read_by_rows(tmp_path: Path) -> None:
    path = tmp_path / "frame_0001.dpt"
    path.write_bytes(b"PIEH" + struct.pack("<ii6f", 3, 2, *range(6)))  # the tag, 202021.25, spelt
    np.testing.assert_array_equal(read_dpt(path, NO_CAMERA), [[0, 1, 2], [3, 4, 5]])


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 1)])
def test_depth_of_numpy_may_have_a_channel(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "depth.npy", np.arange(6, dtype=np.float32).reshape(shape))
    np.testing.assert_array_equal(read_npy_depth(tmp_path / "depth.npy", NO_CAMERA), [[0, 1, 2], [3, 4, 5]])


@pytest.mark.parametrize("array", [np.zeros(3), np.zeros((2, 3, 2)), np.zeros((0, 3)), np.array([["1", "2"]])])
def test_an_array_that_is_no_depth_is_refused(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "depth.npy", array)
    with pytest.raises(
        CaptureError,
        match=r"depth\.npy must hold (depth of the shape \(H, W\) or \(H, W, 1\)|an array of numbers, got <U1)",
    ):
        read_npy_depth(tmp_path / "depth.npy", NO_CAMERA)


@pytest.mark.parametrize(
    ("read", "name"),
    [(read_npy_depth, "d.npy"), (read_uint16_png, "d.png"), (read_float16_png, "d.png"), (read_dpt, "d.dpt")],
)
def test_a_file_that_is_missing_cut_short_or_something_else_is_named(
    tmp_path: Path, read: Callable[[Path, np.ndarray], np.ndarray], name: str
) -> None:
    path = tmp_path / name
    with pytest.raises(CaptureError, match=rf"{name}"):
        read(path, NO_CAMERA)
    for data in (b"", b"something else altogether", png_bytes(LEVELS)[:50]):
        path.write_bytes(data)
        with pytest.raises(CaptureError, match=rf"{name}"):
            read(path, NO_CAMERA)
    path.unlink()
    path.mkdir()
    with pytest.raises(CaptureError, match=rf"{name}"):
        read(path, NO_CAMERA)
