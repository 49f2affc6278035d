"""Scenes in the files of other programs: COLMAP models, GLB, PLY, NumPy, nerfstudio, and a web page.

Images are copied as they are, so sizes, intrinsics and lens distortion are those of the written images. All formats but
GLB keep the scene's world and scale; GLB has y up.
"""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from ..errors import SceneError
from ..frames import not_black
from ..geometry import resized_intrinsics
from ..utils.folders import whole_file, whole_folder
from .colmap import evenly_drawn, write_colmap
from .drawing import camera_corners, frustum_depth, frustum_lines
from .folder import (
    MAPS,
    MOVES,
    POINT_ARRAYS,
    Scene,
    frames_at,
    moving_pixels,
    transforms_json,
    write_json,
    write_mask,
    write_points,
)
from .tracks import PointTracks
from .transforms_json import DISTORTION, FISHEYE_DISTORTION
from .web_page import points_page

Format = Literal["colmap", "glb", "ply", "npz", "nerfstudio", "html"]
FOLDERS = ("colmap", "nerfstudio")  # the formats that are folders; the others are files
TO_Y_UP = np.diag([1.0, -1.0, -1.0, 1.0])  # from x right, y down, z forward to glTF's x right, y up, z backward


class Exported(NamedTuple):
    """Frames and points of an export."""

    points: int
    tracks: int  # of COLMAP, how many of the points have one
    masks: int


def export_scene(
    scene: Scene,
    target: str | Path,
    format: Format,
    *,
    static_only: bool = False,
    max_points: int | None = None,
    overwrite: bool = False,
) -> Exported:
    """Write a scene for other programs, whole or not at all.

    Args:
        scene: of `page4d reconstruct`, or of any folder with nerfstudio's `transforms.json`.
        target: the file or, of the formats in `FOLDERS`, the folder to make.
        format: "colmap": `images/` and a binary model in `sparse/0`, with point tracks where the scene has them; "glb":
            points and frustums in a node for each frame; "ply": the points; "npz": cameras, maps, points and tracks as
            arrays; "nerfstudio": images, `transforms.json` and `points.ply`; "html": a page that shows the points
            through time, in any browser and without a network.
        static_only: leave out points that move and, of COLMAP and nerfstudio, write `masks/`, 0 where something moves.
        max_points: at most so many points, spread evenly.
        overwrite: replace the file, or a folder that page4d wrote.
    """
    if format not in get_args(Format):
        raise SceneError(f"Expected a format of {', '.join(get_args(Format))}, got {format!r}.")
    if max_points is not None and max_points < 1:
        raise SceneError(f"Expected a limit of at least 1 point, got {max_points}.")
    if static_only and not scene.has_motion and scene.point_motion is None:
        raise SceneError(
            f"{scene.root} does not say what moves, as its model has no mask; leave out --static-only, or reconstruct "
            "it with a model that has one."
        )
    chosen = chosen_points(scene, static_only=static_only, max_points=max_points)
    points = 0 if chosen.points is None else len(chosen.points)
    tracks = scene.load_tracks() if format in ("colmap", "npz") else None
    if format in ("ply", "html") and not points:
        raise SceneError(f"{scene.root} has no points{' that stand still' if static_only else ''} to write.")
    if format not in FOLDERS:
        with whole_file(target, overwrite=overwrite) as file:
            if format == "ply":
                write_points(file, chosen)
            elif format == "glb":
                file.write_bytes(_glb(chosen))
            elif format == "html":
                content, points = points_page(chosen, Path(target).stem, dense=max_points is None)
                file.write_bytes(content)
            else:
                _write_npz(file, chosen, tracks)
        return Exported(points, 0 if tracks is None else len(tracks), 0)

    names = _image_names(scene)
    tracked, masked = 0, static_only or scene.use_paths is not None
    with whole_folder(target, overwrite=overwrite) as folder:
        (folder / "images").mkdir()
        for source, name in zip(scene.image_paths, names, strict=True):
            shutil.copyfile(source, folder / "images" / name)
        if format == "colmap":
            points, tracked = write_colmap(folder / "sparse" / "0", chosen, names, tracks, max_points)
        else:
            _write_nerfstudio(folder, chosen, names, masked=masked)
        if masked:
            (folder / "masks").mkdir()
            for i, name in enumerate(names):
                write_mask(folder / "masks" / _mask_name(name), _use_mask(scene, i, static_only))
    return Exported(points, tracked, len(scene) if masked else 0)


def chosen_points(scene: Scene, *, static_only: bool = False, max_points: int | None = None) -> Scene:
    """The scene with some of its points: those that stand still, and of these at most so many."""
    if scene.points is None:
        return scene
    index = np.arange(len(scene.points))
    if static_only and scene.point_motion is not None:
        index = index[scene.point_motion < MOVES]
    return scene.take_points(index[evenly_drawn(len(index), max_points)])


def _image_names(scene: Scene) -> list[str]:
    """A file name for each image: its own, unless images of several folders share one."""
    names = [path.name for path in scene.image_paths]
    if len({Path(name).stem for name in names}) == len(names):
        return names
    return [f"frame_{i + 1:05d}{path.suffix}" for i, path in enumerate(scene.image_paths)]


def _mask_name(image: str) -> str:
    return f"{Path(image).stem}.png"


def _use_mask(scene: Scene, index: int, static_only: bool) -> npt.NDArray[Any]:
    """A frame's mask, `(H, W)` bool: false where nothing is to be learned from."""
    width, height = scene.image_sizes[index].tolist()
    use = np.full((height, width), True)
    if static_only and scene.has_motion:
        use = ~moving_pixels(scene.load_motion(index), (height, width))
    path = None if scene.use_paths is None else scene.use_paths[index]
    if path is not None:
        try:
            with Image.open(path) as image:
                given = not_black(image).view(np.uint8)
        except Exception as error:  # whatever Pillow meets in a broken file
            raise SceneError(f"Cannot read the mask {path}; replace the file.") from error
        use &= cv2.resize(given, (width, height), interpolation=cv2.INTER_NEAREST) > 0
    return use


# ---------------------------------------------------------------------------------------------------------------
# nerfstudio, GLB, NumPy


def _write_nerfstudio(folder: Path, scene: Scene, names: list[str], *, masked: bool) -> None:
    meta = transforms_json([f"images/{name}" for name in names], scene, scene.image_sizes, scene.times)
    coefficients: tuple[str, ...] = DISTORTION
    if scene.fisheye is not None:  # of all frames: their file names one model
        meta["camera_model"], coefficients = "OPENCV_FISHEYE", FISHEYE_DISTORTION
    for name, frame, lens in zip(names, meta["frames"], scene.distortion, strict=True):
        frame.update({key: float(value) for key, value in zip(coefficients, lens, strict=False) if value})
        if masked:
            frame["mask_path"] = f"masks/{_mask_name(name)}"
    for split, indices in scene.splits.items():
        meta[f"{split}_filenames"] = [f"images/{names[i]}" for i in indices]
    if scene.points is None:
        del meta["ply_file_path"]
    else:
        write_points(folder / "points.ply", scene)
    write_json(folder / "transforms.json", meta)


def _glb(scene: Scene) -> bytes:
    """Points and frustums, a node each for every frame: `points_00001`, `camera_00001`."""
    import trimesh

    shown = trimesh.Scene(base_frame="world")
    points = np.zeros((0, 3), np.float32) if scene.points is None else scene.points
    if len(points):
        assert scene.point_colors is not None
        frame = np.zeros(len(points), np.int64)
        if scene.point_times is not None:
            frame = frames_at(scene.point_times, scene.times)
        for i in np.unique(frame):
            of_frame = frame == i
            cloud = trimesh.PointCloud(points[of_frame], scene.point_colors[of_frame])
            name = "points" if scene.point_times is None else f"points_{i + 1:05d}"
            shown.add_geometry(cloud, node_name=name, geom_name=name)
    depth = frustum_depth(scene.extrinsics, points)
    corners = camera_corners(scene.extrinsics, scene.intrinsics, scene.image_sizes, depth)
    for i, edges in enumerate(frustum_lines(scene.extrinsics, corners)):
        name = f"camera_{i + 1:05d}"
        shown.add_geometry(trimesh.load_path(edges), node_name=name, geom_name=name)
    shown.apply_transform(TO_Y_UP)
    content: bytes = shown.export(file_type="glb", buffer_postprocessor=_linear_colors)
    return content


def _linear_colors(buffers: dict[Any, bytes], tree: dict[str, Any]) -> None:
    """Make colours of vertices, which trimesh writes as sRGB bytes, linear, as glTF 2.0 defines COLOR_0.

    They become floats: of linear bytes few are dark, and not every program (trimesh itself) reads 16 bits.
    """
    from trimesh.visual.color import srgb_to_linear

    keys, accessors = list(buffers), list(tree["accessors"].values())
    primitives = [primitive["attributes"] for mesh in tree["meshes"] for primitive in mesh["primitives"]]
    for index in {attributes["COLOR_0"] for attributes in primitives if "COLOR_0" in attributes}:
        accessor = accessors[index]
        key = keys[accessor["bufferView"]]
        colors = np.frombuffer(buffers[key], np.uint8)[: 4 * accessor["count"]].reshape(-1, 4)[:, :3]
        linear = srgb_to_linear(colors / 255).astype("<f4")
        buffers[key] = linear.tobytes()
        del accessor["normalized"]
        ends = {"min": linear.min(axis=0).tolist(), "max": linear.max(axis=0).tolist()}
        accessor |= {"componentType": 5126, "type": "VEC3", **ends}  # FLOAT


def _write_npz(file: Path, scene: Scene, tracks: PointTracks | None) -> None:
    arrays: dict[str, Any] = {
        "images": np.array([path.name for path in scene.image_paths]),
        "extrinsics": scene.extrinsics,
        "intrinsics": scene.intrinsics,
        "distortion": scene.distortion,
        "fisheye": np.zeros(len(scene), bool) if scene.fisheye is None else scene.fisheye,
        "image_sizes": scene.image_sizes,
        "times": scene.times,
        "scale": np.array(scene.scale),
    }
    for name in POINT_ARRAYS:
        if getattr(scene, name) is not None:
            arrays[name] = getattr(scene, name)
    if scene.info:
        for name in MAPS if scene.has_motion else MAPS[:2]:
            load = getattr(scene, f"load_{name}")
            arrays[name], sizes = _stacked([load(i) for i in range(len(scene))])
        arrays["map_sizes"] = sizes
        arrays["map_intrinsics"] = resized_intrinsics(scene.intrinsics, sizes / scene.image_sizes)
    if tracks is not None:
        arrays |= {"track_xy": tracks.xy, "track_visible": tracks.visible, "track_points": tracks.points}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    file.write_bytes(buffer.getvalue())


def _stacked(maps: list[npt.NDArray[Any]]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Maps as one array, those of smaller images filled up with NaN to the right and below, and their sizes (w, h)."""
    sizes = np.array([frame.shape[::-1] for frame in maps])
    width, height = sizes.max(axis=0)
    stack = np.full((len(maps), height, width), np.nan, np.float32)
    for row, frame in zip(stack, maps, strict=True):
        row[: frame.shape[0], : frame.shape[1]] = frame
    return stack, sizes
