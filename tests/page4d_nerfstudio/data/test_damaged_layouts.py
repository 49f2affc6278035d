"""Captures with something missing or broken: one sentence that names the file ends the command.

Through the dataparser and the images of both splits, as a training reads them. What each reader finds wrong by itself
is tested with the reader.
"""

import json

import numpy as np
import pytest
from perfect_page4d import splits_of
from PIL import Image
from small_captures import write_capture
from small_layouts import write_dnerf, write_dycheck, write_nerfstudio, write_nvidia
from small_tum import SmallSequence

from page4d_nerfstudio.data.dataset import Page4DDataset

WRITERS = {
    "nerfies": lambda root: write_capture(root, masks=True),
    "dycheck": write_dycheck,
    "dnerf": write_dnerf,
    "nvidia": lambda root: write_nvidia(root, count=3),
    "nerfstudio": write_nerfstudio,
    "tum": lambda root: SmallSequence(root).folder,
}


def removed(path):
    path.unlink()


def halved(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def resized(path):
    Image.open(path).resize((10, 7)).save(path)


def not_finite(path):
    if path.suffix == ".npy":
        np.save(path, np.load(path) * np.nan)
    else:
        path.write_text(json.dumps(json.loads(path.read_text()) | {"position": [0, float("nan"), 0]}))


def of_another_shape(path):
    np.save(path, np.load(path)[:5, ..., 0])


# The file that is damaged, and how.
DAMAGES = {
    "nerfies": [
        ("rgb/1x/000004.png", removed, halved, resized),
        ("rgb/1x/000003.png", halved),  # held out
        ("motion_mask/1x/000004.png", halved),
        ("camera/000004.json", removed, halved, not_finite),
        ("metadata.json", removed),
        ("points.npy", halved, of_another_shape, not_finite),
        ("points_rgb.npy", halved),
    ],
    "dycheck": [
        ("splits/train.json", removed),
        ("depth/1x/0_00002.npy", halved, of_another_shape),
        ("covisible/2x/val/1_00003.png", halved),
    ],
    "dnerf": [
        ("train/r_001.png", removed, halved),
        ("test/r_001.png", removed, halved),
        ("transforms_train.json", halved),
    ],
    "nvidia": [("dense/mv_images/00001/cam03.jpg", removed, halved), ("dense/poses_bounds.npy", halved, not_finite)],
    "nerfstudio": [("images/1.png", removed, halved), ("images/5.png", removed, halved), ("transforms.json", halved)],
    "tum": [("groundtruth.txt", removed), ("rgb.txt", removed), ("rgb/1341846434.033333.png", halved)],
}


def read_all(root):
    """Cameras, points and images of a capture, as a training and its evaluation read them."""
    for dataset in map(Page4DDataset, splits_of(root, num_random_points=10)):
        for i in range(len(dataset)):
            dataset.get_data(i, "uint8")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Each layout, written once."""
    folder = tmp_path_factory.mktemp("layouts")
    return {layout: writer(folder / layout / "scene") for layout, writer in WRITERS.items()}


@pytest.mark.parametrize("layout", WRITERS)
def test_a_capture_that_is_whole_is_read(whole, layout):
    read_all(whole[layout])


@pytest.mark.parametrize(
    ("layout", "name", "damage"),
    [(layout, name, how) for layout, damages in DAMAGES.items() for name, *hows in damages for how in hows],
)
def test_what_is_missing_or_broken_is_named_in_one_sentence(whole, capsys, layout, name, damage):
    path = whole[layout] / name
    before = path.read_bytes()
    try:
        damage(path)
        with pytest.raises(SystemExit) as exit_info:
            read_all(whole[layout])
    finally:
        path.write_bytes(before)
    assert exit_info.value.code == 1
    said = capsys.readouterr().out.split(" Error ")[1].strip("─\n ")
    assert "\n" not in said
    assert path.name in said
