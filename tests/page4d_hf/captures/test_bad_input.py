"""What every reader of a data set makes of bad input: one sentence that names the file, or a frame left out by name."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import re
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
from ball_on_plane import world_to_camera
from damaging import Damage, check_refused, cut, edited, gone, holds, load_frame
from fuzzing import check_reader
from PIL import Image
from small_bonn import SmallBonn
from small_co3d import NAME as CO3D_NAME
from small_co3d import Category, write_jgz
from small_dycheck import TRAIN
from small_dycheck import SmallCapture as SmallDycheck
from small_dynamic_replica import LEFT as REPLICA_LEFT
from small_dynamic_replica import Folder as SmallReplica
from small_kubric import Scene as SmallKubric
from small_point_odyssey import Sequence as SmallOdyssey
from small_sintel import SmallSintel, write_camera, write_floats
from small_spring import Scene as SmallSpring
from small_spring import write_hdf5
from small_tum import SmallSequence as SmallTum

from page4d_hf.captures import DATASETS, as_pinhole, find_sequences
from page4d_hf.errors import Page4DError

# By layout, a sequence on disk: `folder`, `read()`, and `save()` where what it holds in memory is to be written anew.
SMALL: dict[str, Callable[[Path], Any]] = {
    "kubric": SmallKubric, "spring": SmallSpring, "co3d": Category, "dynamic-replica": SmallReplica,
    "point-odyssey": SmallOdyssey, "sintel": SmallSintel, "tum": SmallTum, "bonn": SmallBonn, "dycheck": SmallDycheck,
}  # fmt: skip
NAN = float("nan")


def image(name: str, *new: Any) -> Damage:
    """An image is another: its mode and size."""
    return lambda small: Image.new(*new).save(small.folder / name)


def frame(index: int, part: str, **values: Any) -> Damage:
    """A part of a frame's annotation in CO3D or Dynamic Replica is changed."""
    return edited(lambda small: small.entries[index][part].update(values))


def frame_file(index: int, part: str, key: str = "path") -> Callable[[Any], Path]:
    return lambda small: small.base / small.entries[index][part][key]


def second_form(value: Any) -> Damage:
    """CO3D's second form of annotations holds something else."""
    return lambda small: (small.to_second_form(small.root), write_jgz(small.root / "apple_train.jgz", value))


def without_file_paths(small: Category) -> None:
    mapping = small.to_second_form(small.root)
    del mapping[CO3D_NAME][0]["filepath"]
    write_jgz(small.root / "apple_train.jgz", mapping)


def huge_tiff(small: SmallKubric) -> None:
    with tifffile.TiffWriter(small.folder / "depth_00001.tiff") as file:
        file.write(np.zeros((4, 4), np.float32), tile=(16, 16), compression="zlib")
    claim(small, ("ImageWidth", "ImageLength"), 60_000)


def swelling_tiff(small: SmallKubric) -> None:
    path = small.folder / "depth_00001.tiff"
    tifffile.imwrite(path, np.zeros((2000, 2000), np.float32), compression="zlib", rowsperstrip=2000)
    claim(small, ("ImageWidth", "ImageLength", "RowsPerStrip"), 8)


def claim(small: SmallKubric, tags: tuple[str, ...], value: int) -> None:
    with tifffile.TiffFile(small.folder / "depth_00001.tiff", mode="r+b") as file:
        for tag in tags:
            file.pages.first.tags[tag].overwrite(value)


def huge_hdf5(shape: tuple[int, int], chunks: tuple[int, int]) -> Damage:
    def damage(small: SmallSpring) -> None:
        with h5py.File(small.folder / "disp1_left/disp1_left_0002.dsp5", "w") as file:
            file.create_dataset("disparity", shape, "<f4", maxshape=(None, None), chunks=chunks, compression="gzip")

    return damage


def huge_npz(small: SmallOdyssey) -> None:
    with zipfile.ZipFile(small.folder / "anno.npz", "w") as archive:
        for key in ("intrinsics", "extrinsics"):
            head = io.BytesIO()
            description = {"descr": "<f8", "fortran_order": False, "shape": (10**12, 3, 3)}
            np.lib.format.write_array_header_1_0(head, description)
            archive.writestr(f"{key}.npy", head.getvalue() + bytes(72))


def zeros_in(name: str) -> Damage:
    def damage(small: Any) -> None:
        data = bytearray((small.folder / name).read_bytes())
        data[200:400] = bytes(200)
        (small.folder / name).write_bytes(data)

    return damage


def sintel_camera(change: Callable[[np.ndarray, np.ndarray], Any]) -> Damage:
    """The second camera is changed: (extrinsics, intrinsics)."""

    def damage(small: SmallSintel) -> None:
        extrinsics, intrinsics = world_to_camera(small.views[1])[:3], small.intrinsics.copy()
        change(extrinsics, intrinsics)
        write_camera(small.path("camdata_left", 1, ".cam"), intrinsics, extrinsics)

    return damage


def tum_pose(*pose: float) -> Damage:
    """The second image's pose is another."""

    def damage(small: SmallTum) -> None:
        small.poses[int(np.abs(small.pose_times - small.times[1]).argmin())] = list(pose)
        small.write_poses()

    return damage


def poses_of_another_time(small: SmallTum) -> None:
    small.pose_times += 100
    small.write_poses()


def tum_list(name: str, *rows: str) -> Damage:
    return lambda small: small.write(name, *rows)


def dycheck_split(**values: Any) -> Damage:
    return lambda small: small.write("splits/train.json", values)


def dycheck_camera(**changes: Any) -> Damage:
    def damage(small: SmallDycheck) -> None:
        path = small.folder / "camera/0_00001.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return damage


DPT, CAM, DEPTH = "depth/alley_2/frame_0002.dpt", "camdata_left/alley_2/frame_0002.cam", "disp1_left/disp1_left_0002"
SHOULD = "does not hold what it should"

# By layout and case: the damage, and the sentence that reading the sequence, or its second frame, ends in.
REFUSED: dict[str, dict[str, tuple[Damage, str]]] = {
    "kubric": {
        "no metadata": (gone("metadata.json"), r"metadata\.json is missing"),
        "metadata cut short": (cut("metadata.json", 200), r"metadata\.json cannot be read as JSON"),
        **{
            f"a camera without {key}": (
                edited(lambda s, key=key: s.metadata["camera"].pop(key)), rf"metadata\.json lacks camera\.{key}"
            )
            for key in ("focal_length", "sensor_width", "positions", "quaternions")
        },
        "no camera that is one": (
            edited(lambda s: s.metadata["camera"].update(positions=[[NAN] * 3] * 4)),
            r"0001 has no frame that can be used .*the first of 4: .*rgba_00000",
        ),
        "depth cut short": (cut("depth_00001.tiff", 100), r"depth_00001\.tiff"),
        "depth in colour": (
            lambda s: tifffile.imwrite(
                s.folder / "depth_00001.tiff", np.zeros((48, 64, 3), np.uint8), photometric="rgb"
            ),
            r"depth_00001\.tiff must hold float depth of the shape",
        ),
        "depth that claims to be huge": (huge_tiff, r"00001\.tiff claims to be an image of 60000x60000 pixels"),
        "depth that unpacks to more": (swelling_tiff, r"00001\.tiff has more bytes packed than unpacked"),
        "a mask in colour": (
            image("segmentation_00001.png", "RGB", (64, 48)), r"segmentation_00001\.png must be a palette image"
        ),
    },
    "spring": {
        "no cameras": (gone("cam_data/intrinsics.txt"), r"intrinsics\.txt is missing"),
        **{
            f"cameras {text!r}": (holds("cam_data/intrinsics.txt", text), r"intrinsics\.txt (must hold|cannot be read)")
            for text in ("1 2 3\n", "a b c d\n", "1 2 3 4\n1 2 3\n", "")
        },
        "disparity cut short": (cut(f"{DEPTH}.dsp5", 500), r"disp1_left_0002\.dsp5 cannot be read as HDF5"),
        "disparity under another name": (
            lambda s: write_hdf5(s.folder / f"{DEPTH}.dsp5", "depth", np.ones((36, 64))),
            r"disp1_left_0002\.dsp5 cannot be read as HDF5 with a 'disparity'",
        ),
        "disparity that claims to be huge": (
            huge_hdf5((60_000, 60_000), (100, 100)), r"0002\.dsp5 claims to be an image of 60000x60000 pixels"
        ),
        "disparity of huge chunks": (
            huge_hdf5((2, 2), (20_000, 20_000)), r"0002\.dsp5 has a 'disparity' of the shape"
        ),
    },
    "co3d": {
        "no annotations": (
            gone("frame_annotations.jgz"), r"frame_annotations\.jgz is missing, and no apple_train\.jgz"
        ),
        "no depth mask": (
            lambda s: frame_file(1, "depth", "mask_path")(s).unlink(), r"depth_masks/frame000004\.png is missing"
        ),
        "a depth mask of another size": (
            lambda s: Image.new("L", (3, 3)).save(frame_file(1, "depth", "mask_path")(s)),
            r"depth_masks/frame000004\.png must be grey and have the shape",
        ),
        "a second form without file paths": (
            without_file_paths, rf"apple_train\.jgz, at {CO3D_NAME}, lacks 0\.filepath"
        ),
        **{
            f"a second form that is {value}": (second_form(value), rf"apple_train\.jgz.*{message}")
            for value, message in (
                ([], "it should be an object"),
                ({CO3D_NAME: "frames"}, f", at {CO3D_NAME}, {SHOULD}: it should be a valid array"),
                ({CO3D_NAME: []}, f", at {CO3D_NAME}, {SHOULD}: it should have at least 1 item"),
                ({CO3D_NAME: [{"filepath": "../../secret.jpg"}]}, "it should stay inside the folder"),
            )
        },
    },
    "dynamic-replica": {
        "no annotations": (
            gone("frame_annotations_train.jgz"), r"frame_annotations_<split>\.jgz is missing"
        ),
        "annotations cut short": (cut("frame_annotations_train.jgz", -300), r"_train\.jgz cannot be read as JSON"),
        **{
            f"annotations {text!r}": (
                holds("frame_annotations_train.jgz", gzip.compress(text.encode())),
                r"frame_annotations_train\.jgz (must hold|cannot be read)",
            )
            for text in ("{}", "[1, 2]", "[{}", "")
        },
        **{
            f"the frame number {number!r}": (
                edited(lambda s, number=number: s.entries[0].update(frame_number=number)),
                r"train\.jgz, in an entry of .* at frame_number: it should be a valid integer",
            )
            for number in (None, "1", 1.5)
        },
        "depth of 8 bits": (
            lambda s: Image.new("L", (64, 36)).save(frame_file(1, "depth")(s)),
            r"_0001\.geometric\.png must be a grey image of 16 bits",
        ),
    },
    "point-odyssey": {
        "annotations cut short": (cut("anno.npz", -400), r"anno\.npz cannot be read as a NumPy archive"),
        "annotations with damaged bytes": (zeros_in("anno.npz"), r"anno\.npz"),
        **{
            f"annotations without {key}": (
                edited(lambda s, key=key: s.arrays.pop(key)), rf"anno\.npz must hold {key} of the shape"
            )
            for key in ("intrinsics", "extrinsics")
        },
        "fewer intrinsics than extrinsics": (
            edited(lambda s: s.arrays.update(intrinsics=s.arrays["intrinsics"][:3])),
            "as many intrinsics as extrinsics, got 3 and 4",
        ),
        "depth of 8 bits": (
            image("depths/depth_00001.png", "L", (64, 36)), r"depth_00001\.png must be a grey image of 16 bits"
        ),
        "arrays that claim more than they hold": (
            huge_npz, r"anno\.npz cannot .*intrinsics\.npy is cut short: it claims the shape"
        ),
    },
    "sintel": {
        "no cameras": (gone("camdata_left"), r"has no training/camdata_left/alley_2; cameras and depth are in"),
        "no images": (
            lambda s: [path.unlink() for path in (s.folder / "final/alley_2").iterdir()],
            r"alley_2 has no images frame_%04d\.png",
        ),
        "empty depth": (holds(DPT, b""), r"frame_0002\.dpt is no \.dpt file"),
        "depth with another tag": (
            holds(DPT, struct.pack("<fii", 1.0, 2, 2) + bytes(16)), r"frame_0002\.dpt is no \.dpt file"
        ),
        "depth of a negative width": (
            holds(DPT, struct.pack("<fii", 202021.25, -2, 2) + bytes(16)), "claims to be an image of -2x2 pixels"
        ),
        "depth a byte short": (
            holds(DPT, struct.pack("<fii", 202021.25, 2, 2) + bytes(15)), "must have 28 bytes for 2x2 pixels, got 27"
        ),
        "depth in the other order of bytes": (
            holds(DPT, struct.pack(">fii", 202021.25, 2, 2) + bytes(16)), r"frame_0002\.dpt is no \.dpt file"
        ),
        "depth that claims to be huge": (
            holds(DPT, struct.pack("<fii", 202021.25, 60_000, 60_000)),
            r"frame_0002\.dpt claims to be an image of 60000x60000 pixels, and at most",
        ),
        "flow of another size": (
            lambda s: write_floats(s.path("flow", 1, ".flo"), np.zeros((14, 32, 2))),
            r"frame_0002\.dpt is 64x28 but .*frame_0002\.flo is 32x14",
        ),
    },
    "tum": {
        **{
            f"{name} without rows": (tum_list(name, "# nothing"), rf"{name} has no rows")
            for name in ("rgb.txt", "depth.txt", "groundtruth.txt")
        },
        **{
            f"{name} with {row!r:.40}": (tum_list(name, "# timestamp", row), rf"{name}, line 2: {message}")
            for name, row, message in (
                ("rgb.txt", "yesterday rgb/1.png", "'yesterday' is no number"),
                ("rgb.txt", "1341846434.0", "expected a timestamp and a path"),
                ("depth.txt", "nan depth/1.png", "the timestamp nan is no time"),
                ("groundtruth.txt", "1341846434.0 1 2 3", "expected 'timestamp tx ty tz qx qy qz qw'"),
                ("groundtruth.txt", "1341846434.0 1 2 3 0 0 O 1", "'O' is no number"),
                *(("rgb.txt", f"{t} rgb/1.png", "the timestamp .* is no time") for t in ("nan", "1e300", "-inf")),
                ("rgb.txt", f"{'9' * 400} rgb/1.png", "the timestamp .* is no time"),
            )
        },
        **{
            f"the path {path!r:.20}": (
                tum_list("rgb.txt", f"1341846434.0 {path}"), rf"rgb\.txt, line 1: '.*' {why}; correct the file"
            )
            for path, why in (
                ("../../secret.png", "should stay inside the folder that it starts from"),
                ("/etc/passwd", "should stay inside the folder that it starts from"),
                ("rgb/a\0.png", "should be the path of a file"),
                ("rgb/" + "x" * 300, "should be the path of a file"),
                ("x/" * 3000, "should be the path of a file"),
            )
        },
        **{
            f"the lens {text}": (tum_list("intrinsics.txt", text), r"intrinsics\.txt must hold fx fy cx cy")
            for text in ("535 539 320", "0 539 320 240", "535 nan 320 240", "535 539 320 240 0.1")
        },
        "poses of another time": (
            poses_of_another_time, r"has no frame that can be used .*groundtruth\.txt has no pose within"
        ),
        "images of another size than the lens": (
            gone("intrinsics.txt"), "are 80x60 but the camera is calibrated for 640x480"
        ),
        "depth cut short": (
            lambda s: s.depth(1).write_bytes(s.depth(1).read_bytes()[:300]), r"png cannot be read as an image"
        ),
        "depth of 8 bits": (
            lambda s: Image.new("L", s.size).save(s.depth(1)),
            "must be a grey image of 16 bits to hold depth, got L pixels",
        ),
    },
    "dycheck": {
        "no cameras": (
            lambda s: [path.unlink() for path in (s.folder / "camera").iterdir()],
            r"has no frame that can be used .*0_00000\.json is missing",
        ),
        **{
            f"a split of {split}": (dycheck_split(**split), rf"train\.json.*{message}")
            for split, message in (
                (
                    {"frame_names": ["0_00009"], "time_ids": [9], "camera_ids": [0]},
                    "lists '0_00009', which dataset.json does",
                ),
                ({"frame_names": TRAIN, "time_ids": [0], "camera_ids": [0] * 3}, "as long as each other, got 3, 1, 3"),
                ({"frame_names": TRAIN, "camera_ids": [0, 0, 0]}, "lacks time_ids"),
                (
                    {"frame_names": [1], "time_ids": [0], "camera_ids": [0]},
                    rf"{SHOULD} at frame_names\.0: it should be a valid string, got 1",
                ),
                ({"frame_names": [], "time_ids": [], "camera_ids": []}, "'frame_names' is empty"),
            )
        },
        "no training split": (gone("splits/train.json"), r"train\.json is missing"),
        "depth of another size": (
            lambda s: np.save(s.folder / "depth/1x/0_00001.npy", np.ones((3, 4, 1), np.float32)),
            r"0_00001\.npy is 4x3 but .*0_00001\.png is 48x64",
        ),
        "depth that is none": (holds("depth/1x/0_00001.npy", "no array"), r"0_00001\.npy cannot be read as a NumPy"),
    },
}  # fmt: skip

# By layout: damage to the second frame, and why it is left out.
LEFT_OUT: dict[str, list[tuple[Damage, str]]] = {
    "kubric": [
        (gone("rgba_00001.png"), "the image is missing"),
        (gone("depth_00001.tiff"), "its depth .*depth_00001.tiff is missing"),
        (
            edited(lambda s: s.metadata["camera"]["positions"].__setitem__(1, [NAN, 0, 0])),
            "the position of its camera .* at 0: it should be a finite number, got nan",
        ),
        (edited(lambda s: s.metadata["camera"]["quaternions"].__setitem__(1, [0] * 4)), "the quaternion of its camera"),
    ],
    "spring": [
        (gone("frame_left/frame_left_0002.png"), "the image is missing"),
        (gone(f"{DEPTH}.dsp5"), "its depth"),
        (edited(lambda s: s.extrinsics[1].__setitem__(3, NAN)), "its camera holds NaN"),
        (edited(lambda s: s.extrinsics[1].__setitem__(slice(0, 3), 0)), "is no rotation"),
        (edited(lambda s: s.intrinsics.__setitem__(1, [0, 60, 32, 18])), "the focal lengths of its camera"),
    ],
    "co3d": [
        (lambda s: frame_file(1, "image")(s).unlink(), "the image is missing"),
        (lambda s: frame_file(1, "depth")(s).unlink(), "its depth"),
        (
            frame(1, "viewpoint", T=[NAN, 0, 0]),
            rf"its viewpoint {SHOULD} at T\.0: it should be a finite number, got nan",
        ),
        (frame(1, "viewpoint", R=[[2, 0, 0], [0, 1, 0], [0, 0, 1]]), "is no rotation"),
        (
            frame(1, "depth", scale_adjustment=0),
            f"its depth {SHOULD} at scale_adjustment: it should be greater than 0, got 0",
        ),
        (frame(1, "image", size=[2e9, 36]), f"the size of its image {SHOULD} at 0: it should be less"),
        (frame(1, "depth", path="../x"), "at path: it should stay inside the folder that it starts from, got '../x'"),
        (
            frame(1, "viewpoint", focal_length=[1e300, 1]),
            rf"its viewpoint {SHOULD} at focal_length\.0: it should be less",
        ),
        (frame(1, "image", size=[36]), r"it should have at least 2 items, not 1, got \[36\]"),
    ],
    "dynamic-replica": [
        (lambda s: frame_file(1, "image")(s).unlink(), "the image is missing"),
        (lambda s: frame_file(1, "depth")(s).unlink(), "its depth"),
        (
            frame(1, "viewpoint", T=[NAN, 0, 0]),
            rf"its viewpoint {SHOULD} at T\.0: it should be a finite number, got nan",
        ),
        (frame(1, "viewpoint", R=[[2, 0, 0], [0, 1, 0], [0, 0, 1]]), "is no rotation"),
        (frame(1, "viewpoint", R=[[-1, 0, 0], [0, 1, 0], [0, 0, 1]]), "is no rotation"),
        (frame(1, "viewpoint", focal_length=[0, 1]), "the focal lengths of its camera"),
        (frame(1, "viewpoint", intrinsics_format="px"), f"its viewpoint {SHOULD} at intrinsics_format"),
        (
            edited(lambda s: s.entries[1].update(viewpoint=None)),
            f"its viewpoint {SHOULD}: it should be an object, got null",
        ),
        (edited(lambda s: s.entries[1].update(image="none")), f"its image {SHOULD}: it should be an obj.*, got 'none'"),
    ],
    "point-odyssey": [
        (gone("rgbs/rgb_00001.jpg"), "the image is missing"),
        (gone("depths/depth_00001.png"), "its depth"),
        (edited(lambda s: s.arrays["extrinsics"][1].fill(NAN)), "its camera holds NaN"),
        (edited(lambda s: s.arrays["extrinsics"][1].fill(0)), "is no rotation"),
        (edited(lambda s: s.arrays["intrinsics"][1].fill(0)), "the focal lengths of its camera"),
    ],
    "sintel": [
        (gone(DPT), r"its depth .*frame_0002\.dpt is missing"),
        (gone(CAM), r"frame_0002\.cam is missing"),
        (cut(CAM, -8), r"frame_0002\.cam is no \.cam file: it must have 172 bytes"),
        (holds(CAM, b"PIEG" + bytes(168)), r"frame_0002\.cam is no \.cam file"),
        (sintel_camera(lambda e, i: e.__setitem__((1, 3), NAN)), r"frame_0002\.cam .*holds NaN or infinity"),
        (sintel_camera(lambda e, i: e.__setitem__((2, slice(3)), e[1, :3])), r"frame_0002\.cam .*is no rotation"),
        (sintel_camera(lambda e, i: e.__setitem__((0, slice(3)), -e[0, :3])), r"frame_0002\.cam .*is no rotation"),
        (sintel_camera(lambda e, i: i.__setitem__((0, 0), 0)), r"frame_0002\.cam .*focal lengths .* are not > 0"),
    ],
    "tum": [
        (lambda s: s.image(1).unlink(), "the image is missing"),
        (lambda s: s.depth(1).unlink(), "its depth .* is missing"),
        (tum_pose(0, NAN, 0, 0, 0, 0, 1), r"in line \d+ of .*groundtruth\.txt holds NaN or infinity"),
        (tum_pose(0, 0, 0, 0, np.inf, 0, 1), r"in line \d+ of .*groundtruth\.txt holds NaN or infinity"),
        (tum_pose(0, 0, 0, 0, 0, 0, 0), r"in line \d+ of .*\.txt is no rotation: its quaternion has the norm 0"),
        (tum_pose(0, 0, 0, 0.5, 0.5, 0.5, 0.9), r"in line \d+ of .*groundtruth\.txt is no rotation"),
    ],
    "dycheck": [
        (
            dycheck_camera(position=[0, NAN, 0]),
            rf"camera/0_00001\.json {SHOULD} at position\.1: it should be a finite number, got nan",
        ),
        (
            dycheck_camera(orientation=[[1, 0, 0], [0, 1, 0], [0, 1, 0]]),
            r"0_00001\.json .* at orientation: it should be a rotation",
        ),
        (
            dycheck_camera(orientation=[[1, 0, 0], [0, 1, 0], [0, 0, -1]]),
            r"0_00001\.json .* at orientation: it should be a rotation",
        ),
        (
            dycheck_camera(focal_length=0),
            rf"0_00001\.json {SHOULD} at focal_length: it should be greater than 0, got 0",
        ),
    ],
}  # fmt: skip

# By layout: the files of the first frame and of the sequence.
FILES: dict[str, tuple[str, ...]] = {
    "kubric": ("metadata.json", "metadata.json", "depth_00000.tiff", "rgba_00000.png", "segmentation_00000.png"),
    "spring": (
        "cam_data/intrinsics.txt", "cam_data/extrinsics.txt", "disp1_left/disp1_left_0001.dsp5",
        "flow_FW_left/flow_FW_left_0001.flo5", "maps/skymap_left/skymap_left_0001.png",
        "frame_left/frame_left_0001.png",
    ),
    "point-odyssey": (
        *("anno.npz",) * 3, "rgbs/rgb_00000.jpg", "depths/depth_00000.png", "masks/mask_00000.png",
    ),
    "sintel": tuple(
        f"{kind}/alley_2/frame_0001{suffix}"
        for kind, suffix in (
            ("camdata_left", ".cam"), ("depth", ".dpt"), ("flow", ".flo"), ("invalid", ".png"), ("final", ".png")
        )
    ),
    "tum": ("rgb.txt", "depth.txt", "groundtruth.txt", "intrinsics.txt", "rgb/1341846434.000000.png",
            "depth/1341846434.004000.png"),
    "co3d": (
        *("frame_annotations.jgz",) * 2, "sequence_annotations.jgz", "set_lists/set_lists_fewview.json",
        f"{CO3D_NAME}/images/frame000001.jpg", f"{CO3D_NAME}/depths/frame000001.jpg.geometric.png",
    ),
    "dynamic-replica": (
        *("frame_annotations_train.jgz",) * 3, f"{REPLICA_LEFT}/images/{REPLICA_LEFT}-0000.png",
        f"{REPLICA_LEFT}/depths/{REPLICA_LEFT}_0000.geometric.png", f"{REPLICA_LEFT}/masks/{REPLICA_LEFT}_0000.png",
    ),
    "bonn": ("rgb.txt", "depth.txt", "groundtruth.txt"),
    "dycheck": (
        "extra.json", "splits/train.json", "splits/val.json", "camera/0_00000.json", "depth/1x/0_00000.npy",
        "rgb/1x/0_00000.png",
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:loadtxt")
@pytest.mark.parametrize(("layout", "case"), [(layout, case) for layout, cases in REFUSED.items() for case in cases])
def test_bad_input_ends_in_one_sentence_that_names_the_file(tmp_path: Path, layout: str, case: str) -> None:
    small = SMALL[layout](tmp_path)
    check_refused(small, *REFUSED[layout][case], lambda _: small.read())


@pytest.mark.parametrize(("layout", "case"), [(name, i) for name, cases in LEFT_OUT.items() for i in range(len(cases))])
def test_a_frame_that_cannot_be_used_is_left_out_by_name_and_the_others_keep_their_cameras(
    tmp_path: Path, layout: str, case: int
) -> None:
    small = SMALL[layout](tmp_path)
    before = small.read()
    damage, why = LEFT_OUT[layout][case]
    damage(small)
    capture = small.read()
    kept = [0, *range(2, len(before))]
    assert capture.frame_ids == [before.frame_ids[i] for i in kept]
    for name in ("extrinsics", "intrinsics", "time_ids"):
        np.testing.assert_array_equal(getattr(capture, name), getattr(before, name)[kept])
    assert (capture.timestamps is None) or capture.timestamps.tolist() == before.timestamps[kept].tolist()
    (sentence,) = capture.skipped
    assert re.search(f" was left out: .*{why}", sentence)
    assert before.frame_ids[1] in sentence or "frame 1 " in sentence or before.image_paths[1].name in sentence


@pytest.mark.parametrize(
    ("layout", "damage"),
    [
        ("kubric", edited(lambda s: [s.metadata["camera"][key].pop() for key in ("positions", "quaternions")])),
        ("spring", edited(lambda s: s.extrinsics.pop())),
        (
            "point-odyssey",
            edited(lambda s: s.arrays.update({key: s.arrays[key][:-1] for key in ("intrinsics", "extrinsics")})),
        ),
    ],
)
def test_an_image_without_a_camera_is_left_out_by_name(tmp_path: Path, layout: str, damage: Damage) -> None:
    small = SMALL[layout](tmp_path)
    before = small.read()
    damage(small)
    capture = small.read()
    assert capture.frame_ids == before.frame_ids[:-1]
    assert f"{before.image_paths[-1].name} was left out: " in capture.skipped[0]


@pytest.mark.parametrize(
    ("layout", "parts"),
    [
        ("kubric", ["depth_*.tiff"]),
        ("spring", ["disp1_left"]),
        ("co3d", [f"{CO3D_NAME}/depths"]),
        ("dynamic-replica", [f"{REPLICA_LEFT}/depths", f"{REPLICA_LEFT}/masks"]),
        ("point-odyssey", ["depths", "masks"]),
    ],
)
def test_depth_and_masks_need_not_be_fetched(tmp_path: Path, layout: str, parts: list[str]) -> None:
    small = SMALL[layout](tmp_path)
    count = len(small.read())
    for part in parts:
        for path in small.folder.glob(part):
            gone(path.relative_to(small.folder).as_posix())(small)
    capture = small.read()
    assert (len(capture), capture.depth_paths) == (count, None)
    assert len(parts) < 2 or capture.motion_mask_paths is None
    assert all(any(part.rpartition("/")[2] in note for note in capture.notes) for part in parts)


@pytest.mark.parametrize(("layout", "package"), [("kubric", "tifffile"), ("spring", "h5py")])
def test_without_its_decoder_one_is_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str, package: str
) -> None:
    small = SMALL[layout](tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(Page4DError, match=rf"needs the package {package}, .*pip install .*\[training\]"):
        small.read()


@pytest.mark.slow
@pytest.mark.parametrize("layout", FILES)
def test_damaged_files_end_in_a_capture_or_a_sentence(tmp_path: Path, layout: str) -> None:
    small = SMALL[layout](tmp_path)
    if layout == "co3d":
        small.write_set_list("fewview", train=[CO3D_NAME])

    split = "train" if "train" in DATASETS[layout].splits else None

    def read() -> None:
        load_frame(small.read())
        find_sequences(layout, tmp_path, split)

    check_reader(read, [small.folder / name for name in FILES[layout]], rounds=120)


@pytest.mark.slow
@pytest.mark.parametrize("layout", SMALL)
def test_a_capture_goes_to_another_process(tmp_path: Path, layout: str) -> None:
    frames = as_pinhole(SMALL[layout](tmp_path).read())
    there = pickle.loads(pickle.dumps(frames))
    for load in ("load_image", "load_depth", "load_motion_mask"):
        np.testing.assert_array_equal(getattr(there, load)(1), getattr(frames, load)(1))
