"""Finding out what a path holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_scene import ball_folder

from page4d_hf.captures import LAYOUTS, detect_layout, read_capture
from page4d_hf.captures.sources import find_source
from page4d_hf.errors import CaptureError, Page4DError


def test_a_nerfies_capture_is_told_from_its_files(small_capture: Any) -> None:
    assert detect_layout(small_capture.root) == "nerfies"
    assert read_capture(small_capture.root).layout == "nerfies"


def test_the_downscale_reaches_the_reader(small_capture: Any) -> None:
    small_capture.write_images("rgb/2x", (24, 16))
    assert read_capture(small_capture.root, downscale=2).image_downscale == 2


def test_a_capture_that_lacks_a_file_is_still_recognised(small_capture: Any) -> None:
    """So that the message says what is missing, and not that nothing is known."""
    (small_capture.root / "dataset.json").unlink()
    with pytest.raises(CaptureError, match=r"dataset\.json is missing"):
        read_capture(small_capture.root)


def test_a_folder_of_images_is_no_capture(tmp_path: Path) -> None:
    (tmp_path / "0001.png").touch()
    assert detect_layout(tmp_path) is None
    with pytest.raises(CaptureError, match=r"no capture of a known layout. Known layouts: nerfies \(.*dataset\.json"):
        read_capture(tmp_path)


def test_a_path_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    assert detect_layout(tmp_path / "nothing") is None


@pytest.mark.parametrize("layout", [None, *LAYOUTS])
def test_a_path_that_is_not_there_is_refused(tmp_path: Path, layout: str | None) -> None:
    with pytest.raises(CaptureError, match=r"There is no folder .*nothing"):
        read_capture(tmp_path / "nothing", layout)


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "loop/clip"])
def test_a_path_that_no_system_takes_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(CaptureError, match=r"cannot be read|There is no folder"):
        read_capture(tmp_path / name)


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").touch()
    with pytest.raises(CaptureError, match=r"clip\.mp4 is a file"):
        read_capture(tmp_path / "clip.mp4")


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="is empty"):
        read_capture(tmp_path)


def test_a_layout_that_is_not_known_is_refused_with_those_that_are(small_capture: Any) -> None:
    with pytest.raises(CaptureError, match=r"'polycam' is not known\. Known layouts: nerfies"):
        read_capture(small_capture.root, layout="polycam")


def test_times_run_from_zero_to_one_whatever_the_ids(small_capture: Any) -> None:
    capture = read_capture(small_capture.root)
    assert capture.times.min() == 0
    assert capture.times.max() == 1
    capture.time_ids = np.full(8, 5)
    assert (capture.times == 0).all()


def test_each_kind_of_data_is_found_out(tmp_path: Path, small_capture: Any) -> None:
    capture, video = small_capture.root, tmp_path / "clip.mp4"
    video.touch()
    assert find_source(capture) == ("capture", "nerfies")
    assert find_source(ball_folder(tmp_path / "scene")).kind == "scene"
    assert find_source(video).kind == "frames"
    assert find_source(capture / "rgb/1x").kind == "frames"
    assert find_source(capture / "rgb/1x/*.png").kind == "frames"
    assert find_source(capture, "frames").kind == "frames"
    assert find_source(video, "nerfies") == ("capture", "nerfies")


def test_what_is_unknown_is_told_what_is_known(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(Page4DError, match=r"scene folder.*Nerfies.*video.*images.*txt"):
        find_source(tmp_path)
