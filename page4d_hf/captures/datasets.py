"""Data sets of many sequences, each read from the layout in which it is published.

for name in find_sequences("sintel", root):
    capture = read_sequence("sintel", root, name)
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ..errors import CaptureError
from .base import Capture


class DatasetLayout(NamedTuple):
    """One data set as it is published."""

    sequences: Callable[[Path, str | None], list[str]]  # (root, split) to sorted names; None: all there is to train on
    read: Callable[[Path, str], Capture]  # (root, name of a sequence)
    splits: tuple[str, ...]  # what `sequences` takes as split; empty where the data set has none
    looks: str  # what lies in the root, in one line
    published: str  # where it is published and under which licence


DATASETS: dict[str, DatasetLayout] = {}


def find_sequences(name: str, root: str | Path, split: str | None = None) -> list[str]:
    """The sequences of a data set that lie in a folder.

    Args:
        name: a key of `DATASETS`.
        root: the data set's folder.
        split: one of the data set's `splits`; None takes all that there is to train on.

    Returns:
        Names for `read_sequence`, sorted; at least one.

    Raises:
        CaptureError: the data set or the split is not known, the folder is missing, or it holds no sequence.
    """
    layout = _layout(name)
    root = _folder(name, layout, root)
    if split is not None and split not in layout.splits:
        known = f"it has {', '.join(layout.splits)}" if layout.splits else "it has none"
        raise CaptureError(f"The data set {name} has no split {split!r}; {known}.")
    sequences = layout.sequences(root, split)
    if not sequences:
        where = f"{root} holds no sequence of {name}" + (f" of the split {split}" if split else "")
        raise CaptureError(f"{where}; it must hold {layout.looks}. {layout.published}")
    return sequences


def read_sequence(name: str, root: str | Path, sequence: str) -> Capture:
    """Read one sequence of a data set.

    Args:
        name: a key of `DATASETS`.
        root: the data set's folder.
        sequence: a name that `find_sequences` gave.

    Returns:
        The capture; `skipped` names the frames that were left out.

    Raises:
        CaptureError: the data set is not known, the folder is missing, or the sequence is not as its layout promises.
    """
    layout = _layout(name)
    return layout.read(_folder(name, layout, root), sequence)


def _layout(name: str) -> DatasetLayout:
    if name not in DATASETS:
        raise CaptureError(f"The data set {name!r} is not known; known are {', '.join(DATASETS)}.")
    return DATASETS[name]


def _folder(name: str, layout: DatasetLayout, root: str | Path) -> Path:
    root = Path(root)
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise CaptureError(
            f"The folder {root} of the data set {name} {what}; it must hold {layout.looks}. {layout.published}"
        )
    return root
