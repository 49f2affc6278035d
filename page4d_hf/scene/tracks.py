"""Point tracks as files: `page4d/tracks.npz` of a scene folder, and a user's own for `--tracks`."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import SceneError
from ..utils.npz_files import read_npz

TRACKS = "page4d/tracks.npz"  # in a scene folder
ARRAYS = ("tracks", "visible", "points", "paths", "images")  # of a file
MOST_BYTES = 2**32  # of a file, unpacked; 100,000 tracks through 1,000 frames have 1 GB, and their paths as much


@dataclass(frozen=True)
class PointTracks:
    """Where K points are seen in S frames."""

    xy: npt.NDArray[Any]  # [K, S, 2] float32 in pixels, the first pixel's centre at 0.5; anything where not visible
    visible: npt.NDArray[Any]  # [K, S] bool
    points: npt.NDArray[Any]  # [K, 3] float32 in the world; NaN of tracks that move, or whose point is unknown
    # [K, S, 3] float32 in the world: where points that move are in each frame; NaN where unknown, and of static tracks.
    paths: npt.NDArray[Any] | None = None

    def __len__(self) -> int:
        return len(self.xy)

    def of_frames(self, indices: npt.NDArray[Any]) -> PointTracks:
        """The same tracks in some of the frames, or in another order."""
        paths = None if self.paths is None else self.paths[:, indices]
        return PointTracks(self.xy[:, indices], self.visible[:, indices], self.points, paths)


def tracks_bytes(tracks: PointTracks, images: list[str]) -> bytes:
    """The content of a tracks file; `images` [S] names the frames."""
    buffer = io.BytesIO()
    xy = np.where(tracks.visible[..., None], tracks.xy, 0).astype(np.float32)  # zeros compress to nothing
    arrays = {"tracks": xy, "visible": tracks.visible, "points": tracks.points.astype(np.float32)}
    if tracks.paths is not None:
        arrays["paths"] = tracks.paths.astype(np.float32)
    np.savez_compressed(buffer, images=np.array(images), **arrays)
    return buffer.getvalue()


def read_tracks(path: str | Path) -> tuple[PointTracks, list[str] | None]:
    """Read and check a file of tracks.

    Args:
        path: an `.npz` with `tracks` [K, S, 2] and `visible` [K, S]; `points` [K, 3], `paths` [K, S, 3] and `images`
            [S] may be left out.

    Returns:
        The tracks, and the frames' names where the file has them.

    Raises:
        SceneError: the file is missing, damaged or of other shapes, or a visible position is not finite.
    """
    path = Path(path)
    arrays = read_npz(
        path,
        ARRAYS,
        most_bytes=MOST_BYTES,
        error=SceneError,
        remedy="give an .npz with tracks [K, S, 2] and visible [K, S]",
    )
    if not {"tracks", "visible"} <= arrays.keys():
        raise SceneError(
            f"Expected tracks [K, S, 2] and visible [K, S] in {path}; got {', '.join(arrays) or 'neither'}."
        )
    xy, visible = arrays["tracks"], arrays["visible"]
    count = len(xy) if xy.ndim else 0
    points = arrays.get("points", np.full((count, 3), np.nan, np.float32))
    paths = arrays.get("paths", np.zeros((*xy.shape[:2], 3), np.float32))
    if (
        xy.ndim != 3
        or xy.shape[2] != 2
        or visible.shape != xy.shape[:2]
        or points.shape != (len(xy), 3)
        or paths.shape != (*xy.shape[:2], 3)
        or not all(array.dtype.kind in "fiub" for array in (xy, visible, points, paths))
    ):
        raise SceneError(
            f"Expected tracks [K, S, 2], visible [K, S], points [K, 3] and paths [K, S, 3] in {path}; got "
            f"{', '.join(str(list(array.shape)) for array in (xy, visible, points, paths))}."
        )
    visible = visible.astype(bool)
    broken = int((~np.isfinite(xy).all(axis=2) & visible).sum())
    if broken:
        raise SceneError(f"{broken} visible positions in {path} are not finite; mark them as not visible.")
    images = arrays.get("images")
    names = None if images is None or images.shape != xy.shape[1:2] else [str(name) for name in images]
    known = paths.astype(np.float32) if "paths" in arrays else None
    return PointTracks(xy.astype(np.float32), visible, points.astype(np.float32), known), names
