"""The layouts by name, and the way in: a capture in a folder of its own, or the sequences of a data set.

capture = read_capture(folder)
captures = (read_sequence("sintel", root, name) for name in find_sequences("sintel", root))
"""

from __future__ import annotations

import reprlib
from importlib import import_module
from pathlib import Path

from ..errors import CaptureError
from .base import Capture, DatasetLayout, Layout
from .files import readable
from .schemas import check_relative_path

# Modules of `layouts`. A folder is of the first that takes it for its own; nerfstudio's and COLMAP's may hold anything
# besides.
MODULES = (
    *("nerfies", "dycheck", "tum", "bonn", "dnerf", "nvidia"),
    *("point_odyssey", "dynamic_replica", "kubric", "spring", "co3d", "sintel", "nerfstudio", "colmap"),
)
_ROWS: list[Layout] = [import_module(f".layouts.{name}", __package__).LAYOUT for name in MODULES]
LAYOUTS = {row.name: row.folder for row in _ROWS if row.folder is not None}
DATASETS = {row.name: row.dataset for row in _ROWS if row.dataset is not None}


def detect_layout(path: str | Path) -> str | None:
    """The name of the layout in which a folder holds a capture, or None where it holds none that is known.

    A damaged capture is recognised too, so that its reader can say what is missing.
    """
    root = Path(path)
    if not root.is_dir():
        return None
    return next((name for name, layout in LAYOUTS.items() if layout.detect(root)), None)


def read_capture(path: str | Path, layout: str | None = None, downscale: int | None = None) -> Capture:
    """Read a capture of any known layout.

    Args:
        path: the capture's folder.
        layout: a key of `LAYOUTS`; None looks at what the folder holds.
        downscale: the images are wanted at 1/downscale of their full size. The reader takes the stored size that is
            nearest to it and not smaller; `as_pinhole(capture, downscale)` does what is left. None takes the largest
            images that are stored.

    Returns:
        The capture, in the layout's world.
    """
    root = Path(path)
    with readable(root):
        if not root.exists():
            raise CaptureError(f"There is no folder {root}; name the folder of a capture.")
        if not root.is_dir():
            raise CaptureError(f"{root} is a file; name the folder of a capture.")
        known = "; ".join(f"{name} ({described.looks})" for name, described in LAYOUTS.items())
        if layout is None:
            if not any(root.iterdir()):
                raise CaptureError(f"The folder {root} is empty; name the folder of a capture. Known layouts: {known}.")
            layout = detect_layout(root)
            if layout is None:
                raise CaptureError(f"The folder {root} holds no capture of a known layout. Known layouts: {known}.")
        elif layout not in LAYOUTS:
            raise CaptureError(f"The layout {layout!r} is not known. Known layouts: {known}.")
        return LAYOUTS[layout].read(root, downscale)


def find_sequences(name: str, root: str | Path, split: str | None = None) -> list[str]:
    """Names for `read_sequence`, sorted and at least one, of the sequences of a data set, a key of `DATASETS`, in a
    folder.

    Without a split, one of the data set's `splits`, they are all that there is to train on.
    """
    layout, root = _dataset(name, root)
    if split is not None and split not in layout.splits:
        known = f"it has {', '.join(layout.splits)}" if layout.splits else "it has none"
        raise CaptureError(f"The data set {name} has no split {split!r}; {known}.")
    with readable(root):
        sequences = layout.sequences(root, split)
    if not sequences:
        where = f"{root} holds no sequence of {name}" + (f" of the split {split}" if split else "")
        raise CaptureError(f"{where}; it must hold {layout.looks}. {layout.published}")
    return sequences


def read_sequence(name: str, root: str | Path, sequence: str) -> Capture:
    """Read one sequence that `find_sequences` named; `skipped` of the capture names the frames that were left out."""
    layout, root = _dataset(name, root)
    try:
        check_relative_path(sequence)
    except ValueError as error:
        raise CaptureError(f"{reprlib.repr(sequence)} is no sequence of {name}: it {error}.") from error
    with readable(root):
        return layout.read(root, sequence)


def _dataset(name: str, root: str | Path) -> tuple[DatasetLayout, Path]:
    if name not in DATASETS:
        raise CaptureError(f"The data set {name!r} is not known; known are {', '.join(DATASETS)}.")
    layout, root = DATASETS[name], Path(root)
    with readable(root):
        if not root.is_dir():
            what = "is a file" if root.exists() else "does not exist"
            raise CaptureError(
                f"The folder {root} of the data set {name} {what}; it must hold {layout.looks}. {layout.published}"
            )
    return layout, root
