"""Captures of each layout with something missing or broken: one sentence that names the file ends the command.

Through the dataparser and the images of both splits, as a training reads them. What each reader finds wrong by itself
is tested with the reader.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_captures import write_capture
from small_layouts import HEIGHT, WIDTH, save, shot, write_dnerf, write_dycheck, write_nerfstudio, write_nvidia

from page4d_nerfstudio.data.dataparser import Page4DDataParserConfig
from page4d_nerfstudio.data.dataset import Page4DDataset

NAN = float("nan")


def write_tum(root, name="rgbd_dataset_freiburg3_small", size=(WIDTH, HEIGHT)):
    """4 images with depth, poses, and a camera that intrinsics.txt names."""
    root = root.with_name(name)
    poses, lists = [], {"rgb": [], "depth": []}
    for i in range(4):
        time = f"{100 + i / 10:.6f}"
        pixels = np.asarray(Image.fromarray(shot(i)[0]).resize(size))
        save(pixels, root / f"rgb/{time}.png")
        (root / "depth").mkdir(exist_ok=True)
        Image.fromarray(np.full(size[::-1], 10_000, np.uint16)).save(root / f"depth/{time}.png")
        for kind, rows in lists.items():
            rows.append(f"{time} {kind}/{time}.png")
        poses.append(f"{time} {0.1 * i} 0 0 0 0 0 1")
    for kind, rows in lists.items():
        (root / f"{kind}.txt").write_text("# list\n" + "\n".join(rows) + "\n")
    (root / "groundtruth.txt").write_text("# poses\n" + "\n".join(poses) + "\n")
    (root / "intrinsics.txt").write_text("44 44 20 15\n")
    return root


def write_bonn(root):
    # Its camera is calibrated for this size alone.
    return write_tum(root, "rgbd_bonn_small", (640, 480))


def write_rig(root):
    """A capture of HyperNeRF: two eyes, of which one is held out."""
    root = write_capture(root, val=(1, 3, 5, 7))
    eyes = {f"{i:06d}": f"{('left', 'right')[i % 2]}1_{i // 2:06d}" for i in range(8)}
    for old, new in eyes.items():
        (root / f"camera/{old}.json").rename(root / f"camera/{new}.json")
        (root / f"rgb/1x/{old}.png").rename(root / f"rgb/1x/{new}.png")
    edit(root / "dataset.json", lambda d: {key: [eyes[i] for i in ids] for key, ids in d.items()})
    metadata = {new: {"warp_id": int(old) // 2, "camera_id": int(old) % 2} for old, new in eyes.items()}
    (root / "metadata.json").write_text(json.dumps(metadata))
    return root


WRITERS = {
    "nerfies": lambda root: write_capture(root, masks=True),
    "hypernerf": write_rig,
    "dycheck": write_dycheck,
    "dnerf": write_dnerf,
    "nvidia": lambda root: write_nvidia(root, count=3),
    "nerfstudio": write_nerfstudio,
    "tum": write_tum,
    "bonn": write_bonn,
}


def edit(path, change):
    value = json.loads(path.read_text())
    path.write_text(json.dumps(change(value) or value))


def remove(name):
    return name, lambda path: path.unlink()


def cut(name):
    """The first half of a file."""
    return name, lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def changed(name, change):
    """A JSON file after a change of its object."""
    return name, lambda path: edit(path, change)


def array(name, change):
    """A .npy file after a change of its array."""
    return name, lambda path: np.save(path, change(np.load(path)))


def resized(name):
    """An image of a quarter of its size."""
    return name, lambda path: Image.open(path).resize((WIDTH // 4, HEIGHT // 4)).save(path)


def line(name, number, text):
    """A text file with another line."""

    def change(path):
        lines = path.read_text().splitlines()
        lines[number] = text
        path.write_text("\n".join(lines) + "\n")

    return name, change


def first_frame(**values):
    return lambda meta: meta["frames"][0].update(values)


def with_nan(values):
    values = np.array(values, dtype=np.float64)
    values.flat[-3] = NAN
    return values.tolist()


# The file that is damaged, and how.
DAMAGES = {
    "nerfies": [
        remove("rgb/1x/000004.png"),
        remove("camera/000004.json"),
        remove("metadata.json"),
        remove("scene.json"),
        cut("rgb/1x/000004.png"),
        cut("rgb/1x/000003.png"),  # held out
        cut("motion_mask/1x/000004.png"),
        cut("camera/000004.json"),
        cut("dataset.json"),
        cut("points.npy"),
        cut("points_rgb.npy"),
        resized("rgb/1x/000004.png"),
        changed("camera/000004.json", lambda c: c.update(position=[0, NAN, 0])),
        changed("camera/000004.json", lambda c: c.update(orientation=[[1, 0, 0], [0, 1, 0]])),
        changed("metadata.json", lambda m: m["000004"].update(warp_id=NAN)),
        changed("dataset.json", lambda d: d.update(train_ids=[])),
        array("points.npy", lambda points: points[:, :2]),
        array("points.npy", lambda points: points * NAN),
    ],
    "hypernerf": [
        remove("rgb/1x/right1_000001.png"),
        remove("camera/right1_000001.json"),
        cut("rgb/1x/right1_000001.png"),
        cut("metadata.json"),
        changed("camera/right1_000001.json", lambda c: c.update(position=[0, NAN, 0])),
        changed("metadata.json", lambda m: m["right1_000001"].update(warp_id=NAN)),
        changed("dataset.json", lambda d: d.update(train_ids=[])),
    ],
    "dycheck": [
        remove("rgb/1x/0_00002.png"),
        remove("camera/0_00002.json"),
        remove("splits/train.json"),
        cut("rgb/1x/0_00002.png"),
        cut("depth/1x/0_00002.npy"),
        cut("splits/val.json"),
        cut("covisible/2x/val/1_00003.png"),
        array("depth/1x/0_00002.npy", lambda depth: depth[:5]),
        array("depth/1x/0_00002.npy", lambda depth: depth[..., 0, 0]),
        changed("camera/0_00002.json", lambda c: c.update(position=[0, NAN, 0])),
        changed("splits/train.json", lambda s: s.update(time_ids=[0, NAN, 2, 3])),
        changed("splits/train.json", lambda s: s.update(frame_names=[], time_ids=[], camera_ids=[])),
    ],
    "dnerf": [
        remove("train/r_001.png"),
        remove("test/r_001.png"),
        remove("transforms_train.json"),
        cut("train/r_001.png"),
        cut("test/r_001.png"),
        cut("transforms_train.json"),
        changed("transforms_train.json", first_frame(transform_matrix=with_nan(np.eye(4)))),
        changed("transforms_train.json", first_frame(transform_matrix=np.eye(4)[:2].tolist())),
        changed("transforms_train.json", first_frame(time=NAN)),
        changed("transforms_train.json", lambda meta: meta.update(frames=[])),
    ],
    "nvidia": [
        remove("dense/poses_bounds.npy"),
        remove("dense/mv_images/00001/cam03.jpg"),
        remove("dense/motion_masks/00001.png"),
        cut("dense/images/00001.png"),
        cut("dense/mv_images/00001/cam03.jpg"),
        cut("dense/motion_masks/00001.png"),
        cut("dense/mv_masks/00001/cam03.png"),
        remove("dense/mv_masks/00001/cam03.png"),
        cut("dense/poses_bounds.npy"),
        array("dense/poses_bounds.npy", lambda rows: rows[:, :16]),
        array("dense/poses_bounds.npy", lambda rows: rows[:-1]),
        array("dense/poses_bounds.npy", lambda rows: np.where(np.arange(17) == 3, NAN, rows)),
        array("dense/poses_bounds.npy", lambda rows: rows[:0]),
    ],
    "nerfstudio": [
        remove("images/1.png"),
        remove("images/5.png"),
        cut("images/1.png"),
        cut("images/5.png"),
        cut("transforms.json"),
        changed("transforms.json", first_frame(transform_matrix=with_nan(np.eye(4)))),
        changed("transforms.json", first_frame(transform_matrix=np.eye(4)[:2].tolist())),
        changed("transforms.json", first_frame(time=NAN)),
        changed("transforms.json", lambda meta: meta.update(frames=[])),
        changed("transforms.json", lambda meta: meta.update(train_filenames=[])),
    ],
    "tum": [
        remove("groundtruth.txt"),
        remove("rgb.txt"),
        cut("rgb/100.100000.png"),
        cut("depth/100.100000.png"),
        line("intrinsics.txt", 0, "44 nan 20 15"),
        line("rgb.txt", 2, "nan rgb/100.100000.png"),
        line("groundtruth.txt", 2, "100.1 0 0"),
    ],
    "bonn": [
        remove("groundtruth.txt"),
        cut("rgb/100.100000.png"),
        resized("rgb/100.100000.png"),
        line("groundtruth.txt", 2, "100.1 0 0"),
    ],
}


def read_all(root):
    """Cameras, points and images of a capture, as a training and its evaluation read them."""
    parser = Page4DDataParserConfig(data=Path(root), num_random_points=10).setup()
    for split in ("train", "val"):
        dataset = Page4DDataset(parser.get_dataparser_outputs(split))
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
    [(layout, *damage) for layout, damages in DAMAGES.items() for damage in damages],
    ids=lambda value: value if isinstance(value, str) else "",
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
