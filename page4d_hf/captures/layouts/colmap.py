"""Folders that COLMAP has worked in: its images and a sparse model of them.

    images/                 the frames; images_<n>/ at 1/n of their size, perhaps
    sparse/0/               cameras, images and points3D, as .bin or .txt; also colmap/sparse/0/, sparse/ or the folder
                            itself

Read by pycolmap. A video has become images by the time that COLMAP sees it: the natural order of their names is their
time. Where several folders below `images/` hold files of the same names, each is a camera of a rig, and frames of the
same name are of the same instant.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ...errors import CaptureError
from ...frames import natural_key
from ...geometry import align_sim3, camera_centers
from ..base import Capture, FolderLayout, Layout, devices_by_folder, fit_to_stored
from ..files import decoding, numbered_folders

if TYPE_CHECKING:
    import pycolmap

MODELS = ("sparse/0", "sparse", "colmap/sparse/0", "colmap/sparse", ".")
FILES = ("cameras", "images", "points3D")
SUFFIXES = (".bin", ".txt")
SIZE_FOLDER = r"images_([1-9]\d{0,3})"
# Which of a `Capture`'s columns k1, k2, p1, p2, k3, k4, k5, k6 the extra parameters of COLMAP's camera models are.
BROWN = {
    "SIMPLE_PINHOLE": (),
    "PINHOLE": (),
    "SIMPLE_RADIAL": (0,),
    "RADIAL": (0, 1),
    "OPENCV": (0, 1, 2, 3),
    "FULL_OPENCV": (0, 1, 2, 3, 4, 5, 6, 7),
}
FISHEYE = ("SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE", "OPENCV_FISHEYE")  # their extra parameters are k1, k2, k3, k4
SAME_PATH = 0.01  # of a path's extent, that a model's cameras may be off a capture's


def find_model(root: Path) -> Path | None:
    """The folder of a sparse model below a folder, or None."""
    for name in MODELS:
        if any(all((root / name / f"{file}{suffix}").is_file() for file in FILES) for suffix in SUFFIXES):
            return root / name
    return None


def looks_like_colmap(root: Path) -> bool:
    """Whether a folder holds a sparse model and a folder of images."""
    return find_model(root) is not None and bool(_image_folders(root))


def read_colmap(root: Path, downscale: int | None = None) -> Capture:
    """Read a COLMAP folder.

    Args:
        root: the folder that holds `images/` and the model.
        downscale: take `images_<n>` of the largest n up to this. None takes the largest images.

    Returns:
        The capture in COLMAP's world, one frame for each registered image, in the order of time. Every lens of OpenCV's
        is honoured, fisheyes among them.
    """
    folder = find_model(root)
    if folder is None:
        raise CaptureError(
            f"{root} holds no COLMAP model; expected cameras, images and points3D in {root / MODELS[0]}."
        )
    sizes = _image_folders(root)
    if not sizes:
        raise CaptureError(f"{root} has no folder images; put the images of {folder} there.")
    image_downscale = max((size for size in sizes if size <= (downscale or min(sizes))), default=min(sizes))
    model = _read_model(folder)
    cameras = _cameras(model, folder)
    time_ids, camera_ids = _instants(cameras.names)
    paths = [sizes[image_downscale] / name for name in cameras.names]
    fitted = []
    for path, matrix, full_size in zip(paths, cameras.intrinsics, cameras.image_sizes, strict=True):
        if not path.is_file():
            raise CaptureError(f"The image {path} is missing, which the COLMAP model {folder} names; put it back.")
        source = f"its camera in the COLMAP model {folder}"
        fitted.append(fit_to_stored(path, matrix, full_size, image_downscale, source))
    points, colors = _points(model)
    order = np.argsort(time_ids, kind="stable")
    capture = Capture(
        layout="colmap",
        root=root,
        frame_ids=[PurePosixPath(name).with_suffix("").as_posix() for name in cameras.names],
        image_paths=paths,
        extrinsics=cameras.extrinsics,
        intrinsics=np.stack([matrix for _, matrix in fitted]),
        distortion=cameras.distortion,
        image_sizes=np.array([size for size, _ in fitted], np.int64),
        time_ids=time_ids,
        camera_ids=camera_ids,
        points=points,
        point_colors=colors,
        image_downscale=image_downscale,
        fisheye=cameras.fisheye,
        sequence=root.resolve().name,
    )
    return capture.select(order)


class ModelCameras(NamedTuple):
    """The cameras of a model, in the natural order of their images' names."""

    names: list[str]
    extrinsics: npt.NDArray[np.float64]  # [N, 3, 4] world-to-camera, OpenCV axes
    intrinsics: npt.NDArray[np.float64]  # [N, 3, 3] in pixels, the first one's centre at (0.5, 0.5)
    distortion: npt.NDArray[np.float64]  # [N, 8] as in a `Capture`
    fisheye: npt.NDArray[np.bool_]  # [N]
    image_sizes: npt.NDArray[np.int64]  # [N, 2] (width, height)


def read_model_cameras(folder: Path) -> ModelCameras:
    """The registered images of a sparse model, of which no image need be there."""
    return _cameras(_read_model(folder), folder)


def _cameras(model: pycolmap.Reconstruction, folder: Path) -> ModelCameras:
    images = sorted((model.images[i] for i in model.reg_image_ids()), key=lambda image: natural_key(image.name))
    if not images:
        raise CaptureError(f"The COLMAP model {folder} has no registered image; run COLMAP's mapper again.")
    cameras = [model.cameras[image.camera_id] for image in images]
    lenses = [_lens(camera, folder) for camera in cameras]
    return ModelCameras(
        [image.name for image in images],
        np.stack([image.cam_from_world().matrix() for image in images]),
        np.stack([camera.calibration_matrix() for camera in cameras]),
        np.stack([coefficients for coefficients, _ in lenses]),
        np.array([is_fisheye for _, is_fisheye in lenses]),
        np.array([(camera.width, camera.height) for camera in cameras], np.int64),
    )


def points_beside(capture: Capture) -> tuple[npt.NDArray[Any], npt.NDArray[Any]] | None:
    """The points of a COLMAP model that lies beside a capture of another layout, in the capture's world.

    Many captures keep the model that their cameras are of. Its world is brought to the capture's by the Sim(3) between
    the centres of cameras of the same name.

    Returns:
        Points `(M, 3)` float32 and colours `(M, 3)` uint8; None where there is no model, it has no points, or its
        cameras are not the capture's, which is added to the capture's notes.
    """
    folder = find_model(capture.root)
    if folder is None or folder == capture.root:
        return None
    model = _read_model(folder)
    points, colors = _points(model)
    if points is None or colors is None:
        return None
    places = {Path(frame_id).name: i for i, frame_id in enumerate(capture.frame_ids)}
    images = [model.images[i] for i in model.reg_image_ids()]
    shared = [(image, places[Path(image.name).stem]) for image in images if Path(image.name).stem in places]
    centers = camera_centers(capture.extrinsics)
    try:
        ours = centers[[place for _, place in shared]]
        theirs = np.array([image.projection_center() for image, _ in shared]).reshape(-1, 3)
        similarity = align_sim3(theirs, ours)
    except ValueError as error:
        capture.notes.append(f"The COLMAP model {folder} is passed over: {error}")
        return None
    off = np.sqrt(((similarity.apply_to_points(theirs) - ours) ** 2).sum(axis=1).mean())
    extent = np.sqrt(((ours - ours.mean(axis=0)) ** 2).sum(axis=1).mean())
    if off > SAME_PATH * extent:
        capture.notes.append(
            f"The COLMAP model {folder} is passed over: its cameras are off the capture's by {off / extent:.0%} of "
            "their extent."
        )
        return None
    capture.notes.append(f"The capture has no points of its own; those of the COLMAP model {folder} are taken.")
    return similarity.apply_to_points(points).astype(np.float32), colors


def _image_folders(root: Path) -> dict[int, Path]:
    """The folders of images by how many times smaller they are."""
    full = {1: root / "images"} if (root / "images").is_dir() else {}
    return full | numbered_folders(root, SIZE_FOLDER)


def _read_model(folder: Path) -> pycolmap.Reconstruction:
    import pycolmap

    with decoding(folder, "a COLMAP model"):
        return pycolmap.Reconstruction(str(folder))


def _instants(names: list[str]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The instant and the device of each image, by its name below `images/`."""
    paths = [PurePosixPath(name) for name in names]
    folders, files = [str(path.parent) for path in paths], [path.stem for path in paths]
    is_rig = len(set(folders)) > 1 and len(set(files)) < len(files)
    keys = files if is_rig else names
    rank = {key: i for i, key in enumerate(sorted(set(keys), key=natural_key))}
    time_ids = np.array([rank[key] for key in keys], np.int64)
    return time_ids, devices_by_folder(folders, time_ids)


def _lens(camera: pycolmap.Camera, folder: Path) -> tuple[npt.NDArray[np.float64], bool]:
    """Distortion `(8,)` as in a `Capture`, and whether it is a fisheye's."""
    kind, extra = camera.model_name, camera.params[camera.extra_params_idxs()]
    coefficients = np.zeros(8)
    if kind in FISHEYE:
        coefficients[: len(extra)] = extra
    elif kind in BROWN:
        coefficients[list(BROWN[kind])] = extra
    else:
        raise CaptureError(
            f"The COLMAP model {folder} has cameras of the model {kind}, and {', '.join((*BROWN, *FISHEYE))} are read; "
            "run `colmap image_undistorter`."
        )
    return coefficients, kind in FISHEYE


def _points(model: pycolmap.Reconstruction) -> tuple[npt.NDArray[Any] | None, npt.NDArray[Any] | None]:
    if not model.points3D:
        return None, None
    points = model.points3D.values()
    return np.array([p.xyz for p in points], np.float64), np.array([p.color for p in points], np.uint8)


LAYOUT = Layout(
    "colmap",
    FolderLayout(read_colmap, looks_like_colmap, "COLMAP: images/, sparse/0/{cameras,images,points3D}.bin or .txt"),
)
