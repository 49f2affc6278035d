"""KITTI's videos in their two published layouts."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from benchmark import BenchmarkOptions, measure
from evaluator.kitti import kitti_drives, kitti_images

from page4d_hf import Page4DImageProcessor
from page4d_hf.errors import CaptureError, Page4DError

DRIVES = ("2011_09_26_drive_0002_sync", "2011_09_28_drive_0037_sync")


def write_images(folder: Path, digits: int, count: int) -> None:
    folder.mkdir(parents=True)
    for i in range(count):
        cv2.imwrite(str(folder / f"{i:0{digits}d}.png"), np.full((38, 124, 3), i, np.uint8))


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    for drive in DRIVES:
        for camera in ("image_00", "image_02", "image_03"):
            write_images(tmp_path / "raw" / drive[:10] / drive / camera / "data", 10, 3)
        (tmp_path / "raw" / drive[:10] / drive / "image_02/timestamps.txt").touch()
        (tmp_path / "raw" / drive[:10] / "calib_cam_to_cam.txt").touch()
    return tmp_path / "raw"


def test_raw_data_have_a_drive_for_each_recording_and_images_of_the_left_colour_camera(raw: Path) -> None:
    assert tuple(kitti_drives(raw)) == DRIVES
    images = kitti_images(raw, DRIVES[1])
    assert [path.name for path in images] == [f"{i:010d}.png" for i in range(3)]
    assert {path.parent for path in images} == {raw / "2011_09_28" / DRIVES[1] / "image_02/data"}


@pytest.mark.parametrize("place", ["sequences", "dataset/sequences"])
def test_the_odometry_benchmark_has_its_sequences(tmp_path: Path, place: str) -> None:
    for name in ("00", "01"):
        for camera in ("image_0", "image_2"):
            write_images(tmp_path / place / name / camera, 6, 2)
    assert tuple(kitti_drives(tmp_path)) == ("00", "01")
    assert kitti_images(tmp_path)[1] == tmp_path / place / "00/image_2/000001.png"


def test_what_is_missing_is_said_with_the_layout_and_where_it_is_published(raw: Path, tmp_path: Path) -> None:
    for folder in (tmp_path / "nothing", raw / "2011_09_26" / DRIVES[0]):
        with pytest.raises(CaptureError, match=r"must hold <date>/.*https://www\.cvlibs\.net"):
            kitti_images(folder)
    with pytest.raises(CaptureError, match=f"no drive '07'; it has {DRIVES[0]}, "):
        kitti_images(raw, "07")
    for path in kitti_images(raw):
        path.unlink()
    with pytest.raises(CaptureError, match="holds no images"):
        kitti_images(raw)


@pytest.mark.slow
def test_a_network_is_timed_on_a_drives_first_frames_without_padding(raw: Path, tiny_model: Path) -> None:
    model = shutil.copytree(tiny_model, raw.parent / "model")
    Page4DImageProcessor(mode="balanced").save_pretrained(model)
    given = BenchmarkOptions(str(model), kitti=raw, drive=DRIVES[1], resolution=84, repeats=1, device="cpu")
    row = measure(2, given)
    assert row.facts is not None
    assert row.facts["image_size"] == [28, 84]
    with pytest.raises(Page4DError, match="has 3 frames, not 4"):
        measure(4, given)


def test_frames_come_from_one_place(raw: Path, tiny_model: Path) -> None:
    with pytest.raises(Page4DError, match="--images or --kitti"):
        BenchmarkOptions(str(tiny_model), kitti=raw, images="frames/")
    with pytest.raises(Page4DError, match="--drive"):
        BenchmarkOptions(str(tiny_model), drive="00")
