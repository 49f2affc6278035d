"""Bytes, text and arrays from a capture's files."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from fuzzing import check_reader

from page4d_hf.captures.files import read_array, read_bytes, read_text, readable
from page4d_hf.errors import CaptureError


def write_head(path: Path, shape: tuple[int, ...], data: bytes = b"") -> None:
    """A `.npy` file that claims a shape."""
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        file.write(data)


@pytest.mark.parametrize("array", [np.arange(6.0).reshape(2, 3), np.zeros((0, 3), np.uint8), np.array([True, False])])
def test_an_array_is_read_as_it_was_written(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "a.npy", array)
    read = read_array(tmp_path / "a.npy")
    assert type(read) is np.ndarray
    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize("shape", [(100_000, 100_000), (2**32, 2**32), (10**12,), (-4, -4)])
def test_an_array_that_claims_to_be_huge_is_refused_before_memory_is_taken(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    write_head(tmp_path / "a.npy", shape, bytes(64))
    tracemalloc.start()
    with pytest.raises(CaptureError, match=r"a\.npy cannot be read as a NumPy array"):
        read_array(tmp_path / "a.npy")
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


def test_an_array_beyond_the_bound_is_refused(tmp_path: Path) -> None:
    write_head(tmp_path / "a.npy", (2**30,))
    with (tmp_path / "a.npy").open("r+b") as file:
        file.truncate(2**32 + 4096)  # takes no place on the disk
    with pytest.raises(CaptureError, match=r"a\.npy is larger than the 2048 MiB that are read"):
        read_array(tmp_path / "a.npy")
    with pytest.raises(CaptureError, match=r"a\.npy is larger than the 2048 MiB that are read"):
        read_bytes(tmp_path / "a.npy")


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "zero").symlink_to("/dev/zero")
    for path in (tmp_path / "zero", tmp_path):
        with pytest.raises(CaptureError, match="is a folder or a device, not a file"):
            read_bytes(path)
    with pytest.raises(CaptureError, match="is missing; put it back"):
        read_array(tmp_path / "nothing.npy")


def test_text_may_have_a_byte_order_mark_but_must_be_utf_8(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf1 2\n")
    assert read_text(tmp_path / "a.txt") == "1 2\n"
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe1\x00")
    with pytest.raises(CaptureError, match=r"a\.txt cannot be read as text"):
        read_text(tmp_path / "a.txt")


def test_what_the_file_system_refuses_becomes_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match=r"cannot be read \(.*File name too long"), readable(tmp_path):
        (tmp_path / ("x" * 300)).stat()


def test_a_damaged_array_ends_in_a_reading_or_a_sentence(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(60.0).reshape(3, 20))
    check_reader(lambda: read_array(tmp_path / "a.npy"), [tmp_path / "a.npy"], rounds=200)
