"""KITTI's videos as plain frames: published tables time networks on them (Geiger et al., IJRR 2013).

    <date>/<date>_drive_<number>_sync/image_02/data/<10 digits>.png     raw data, left colour camera
    sequences/<2 digits>/image_2/<6 digits>.png                         odometry benchmark, left colour camera

Neither cameras nor laser points are read.
"""

from __future__ import annotations

from pathlib import Path

from page4d_hf.errors import CaptureError

LOOKS = "<date>/<date>_drive_<number>_sync/image_02/data/, or sequences/<number>/image_2/ of the odometry benchmark"
PUBLISHED = "KITTI is published at https://www.cvlibs.net/datasets/kitti under CC BY-NC-SA 3.0."
PATTERNS = ("*/*_drive_*_sync/image_02/data", "sequences/*/image_2", "dataset/sequences/*/image_2")


def kitti_drives(root: Path) -> dict[str, Path]:
    """Folders of images by the drive's name, such as "2011_09_26_drive_0002_sync" or "00", in order."""
    if not root.is_dir():
        raise CaptureError(f"There is no folder {root}; it must hold {LOOKS}. {PUBLISHED}")
    folders = [folder for pattern in PATTERNS for folder in sorted(root.glob(pattern)) if folder.is_dir()]
    if not folders:
        raise CaptureError(f"{root} holds no drive of KITTI; it must hold {LOOKS}. {PUBLISHED}")
    return {(folder.parents[1] if folder.name == "data" else folder.parent).name: folder for folder in folders}


def kitti_images(root: Path, drive: str | None = None) -> list[Path]:
    """The images of a drive, in order; None takes the first drive."""
    drives = kitti_drives(root)
    name = next(iter(drives)) if drive is None else drive
    if name not in drives:
        raise CaptureError(f"{root} has no drive {name!r}; it has {', '.join(drives)}.")
    images = sorted(drives[name].glob("*.png"))
    if not images:
        raise CaptureError(f"{drives[name]} holds no images (<number>.png). {PUBLISHED}")
    return images
