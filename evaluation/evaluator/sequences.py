"""Which sequences and frames of a data set are evaluated, and how they are read: by the readers that training uses.

`SELECTIONS[protocol][task][dataset]` is a `Selection`; `str(selection)` says all of it in plain words. What the release
or the papers do not evaluate on can be evaluated all the same; such selections say that they are this project's own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from page4d_hf.captures import DATASETS, PinholeFrames, as_pinhole, find_sequences, read_sequence
from page4d_hf.captures.layouts.bonn import DEPTH_RANKS, DEPTH_SEQUENCES
from page4d_hf.captures.layouts.sintel import POSE_SEQUENCES
from page4d_hf.errors import CaptureError
from page4d_hf.utils.evenly import evenly
from page4d_hf.utils.programs import counted

from .metrics.scores import EvaluationError, ExclusionError

Dataset = Literal["sintel", "bonn", "tum", "dycheck", "point-odyssey", "nerfies"]
PAPERS_POSE_FRAMES = 10
SINTEL_SEQUENCES = (
    "alley_1", "alley_2", "ambush_2", "ambush_4", "ambush_5", "ambush_6", "ambush_7", "bamboo_1", "bamboo_2",
    "bandage_1", "bandage_2", "cave_2", "cave_4", "market_2", "market_5", "market_6", "mountain_1", "shaman_2",
    "shaman_3", "sleeping_1", "sleeping_2", "temple_2", "temple_3",
)  # fmt: skip
# TUM's "dynamic objects" of freiburg3, which MonST3R made the benchmark of cameras in moving scenes.
TUM_SEQUENCES = tuple(
    f"rgbd_dataset_freiburg3_{people}_{motion}"
    for people in ("sitting", "walking")
    for motion in ("halfsphere", "rpy", "static", "xyz")
)
# The video of the moving phone of each capture. The paper has 13 sequences and does not say which one it leaves out.
DYCHECK_SEQUENCES = tuple(
    f"{name}/0"
    for name in (
        "apple", "backpack", "block", "creeper", "handwavy", "haru-sit", "mochi-high-five", "paper-windmill", "pillow",
        "space-out", "spin", "sriracha-tree", "teddy", "wheel",
    )
)  # fmt: skip


@dataclass(frozen=True)
class EvaluatedSequence:
    """Frames of one sequence of a data set, with its ground truth."""

    name: str  # as the data set names it
    frames: PinholeFrames  # only the chosen frames, in order; images, depth, masks and cameras come from it


@dataclass(frozen=True)
class Selection:
    """Sequences of a data set and frames of each of them."""

    sequences: tuple[str, ...] | None = None  # None: all that there are
    split: str | None = None  # of the data set: for Sintel the pass
    ranks: tuple[int, int] | None = None  # (first, last) of the images as the data set counts them
    stride: int = 1  # of the frames that can be used
    first: int | None = None  # so many frames at most, from the first
    spread: int | None = None  # so many of those at most, spread evenly, ends included
    undistort: bool = True  # take the lens's distortion out of images and depth
    published: bool = True  # False: this project's choice, with no published figures to compare to
    remark: str = ""  # what else is to be known, one sentence

    def only(self, sequences: tuple[str, ...]) -> Selection:
        """The same of other sequences, of which nothing is published."""
        return replace(self, sequences=sequences, published=False)

    def __str__(self) -> str:
        names = counted(len(self.sequences), "sequence") if self.sequences else "all sequences"
        words = [names + (f" of the split {self.split}" if self.split else "")]
        if self.ranks:
            words.append(f"images {self.ranks[0]} to {self.ranks[1]}, counted from 0")
        if self.stride > 1:
            words.append(f"one in {self.stride} of the frames that have a pose")
        if self.first:
            words.append(f"the first {self.first} of them" if self.stride > 1 else f"the first {self.first} frames")
        if self.spread:
            words.append(f"of these {self.spread}, spread evenly")
        if not (self.ranks or self.first or self.spread or self.stride > 1):
            words.append("all frames")
        if not self.undistort:
            words.append("images and depth as taken, lens distortion included")
        sentence = ", ".join(words) + "."
        if not self.published:
            sentence += " This choice is the project's own: no published figures are of it."
        return f"{sentence} {self.remark}".strip()


# --------------------------------------------------------------------------------------------------------------------
# What the protocols take

_SINTEL = Selection(SINTEL_SEQUENCES, split="final")
_BONN = Selection(DEPTH_SEQUENCES, ranks=(DEPTH_RANKS[0], DEPTH_RANKS[-1]), undistort=False)
_DYCHECK = Selection(
    DYCHECK_SEQUENCES,
    remark="The paper has 13 of these 14 sequences and does not say which.",
)
_TUM = Selection(TUM_SEQUENCES)
_ODYSSEY = Selection(split="test", published=False)
_NERFIES = Selection(first=120, published=False, remark="All that is measured is in the captures' own units.")
_WITHOUT_MARKET_5 = tuple(name for name in SINTEL_SEQUENCES if name != "market_5")

# All frames of a video go through the network at once: 120 are what the release takes.
_OWN_VIDEOS = {
    "sintel": replace(_SINTEL, published=False),
    "bonn": replace(_BONN, undistort=True, published=False),
    "tum": replace(_TUM, first=120, published=False),
    "dycheck": replace(_DYCHECK, first=120, published=False),
    "point-odyssey": replace(_ODYSSEY, first=120),
    "nerfies": _NERFIES,
}
_POSE = {
    **_OWN_VIDEOS,
    "sintel": Selection(
        POSE_SEQUENCES,
        split="final",
        remark=f"The paper says {PAPERS_POSE_FRAMES} frames, spread evenly; the release takes all (--frames "
        f"{PAPERS_POSE_FRAMES} takes the paper's).",
    ),
    "tum": replace(_TUM, stride=3, first=90),
}
_MONO = {
    **{name: replace(selection, first=None) for name, selection in _OWN_VIDEOS.items()},
    "sintel": _SINTEL,
    "bonn": _BONN,
}
SELECTIONS: dict[str, dict[str, dict[str, Selection]]] = {
    "page4d": {
        "video-depth": {
            **_OWN_VIDEOS,
            "sintel": replace(_SINTEL, sequences=_WITHOUT_MARKET_5, first=120),
            "bonn": replace(_BONN, first=120),
            "dycheck": replace(_DYCHECK, first=120),
        },
        "mono-depth": {**_MONO, "dycheck": _DYCHECK},
        "pose": _POSE,
        "points": {
            **_OWN_VIDEOS,
            "dycheck": replace(
                _DYCHECK,
                first=120,
                remark=f"{_DYCHECK.remark} Nor does it say which frames; these are those of its video depth.",
            ),
        },
    },
    "cut3r": {
        "video-depth": {**_OWN_VIDEOS, "sintel": _SINTEL, "bonn": _BONN},
        "mono-depth": _MONO,
        "pose": _POSE,
        "points": _OWN_VIDEOS,
    },
}


def select(protocol: str, task: str, dataset: str, *, split: str | None = None, frames: int | None = None) -> Selection:
    """A protocol's selection of a data set; a `split`, such as Sintel's pass "clean", is taken instead of the
    protocol's own, and of its `frames` at most so many, spread evenly.
    """
    by_task = SELECTIONS[protocol]
    if task not in by_task or dataset not in by_task[task]:
        known = ", ".join(by_task.get(task, {})) or "none"
        raise EvaluationError(
            f"{task} of the protocol {protocol} is not evaluated on {dataset}; data sets for it: {known}."
        )
    selection = by_task[task][dataset]
    if split is not None and split != selection.split:
        if split not in DATASETS[dataset].splits:
            known = ", ".join(DATASETS[dataset].splits) or "none"
            raise EvaluationError(f"The data set {dataset} has no split {split!r}; it has {known}.")
        # Only Sintel's passes have the same sequences.
        sequences = selection.sequences if dataset == "sintel" else None
        selection = replace(selection, split=split, sequences=sequences, published=False)
    if frames is not None:
        if frames < 1:
            raise EvaluationError(f"--frames must be at least 1, got {frames}.")
        published = selection.published and (task, frames) == ("pose", PAPERS_POSE_FRAMES)
        selection = replace(selection, spread=frames, published=published)
    return selection


# --------------------------------------------------------------------------------------------------------------------
# What a folder has of them


def choose_sequences(
    dataset: str, root: Path, selection: Selection, names: tuple[str, ...] = ()
) -> tuple[list[str], list[str]]:
    """Sorted names for `load_sequence` of what to evaluate, and those of the selection's sequences that `root` lacks.

    Sequences of `names`, with or without the split before them, are taken instead of the selection's.
    """
    layout = DATASETS[dataset]
    try:
        found = find_sequences(dataset, root, selection.split)
    except CaptureError as error:
        if layout.published in str(error):
            raise
        raise CaptureError(f"{error} The data set {dataset} must hold {layout.looks}. {layout.published}") from error
    by_name = {name: name for name in found}
    if selection.split:
        by_name |= {name.removeprefix(f"{selection.split}/"): name for name in found}
    if names:
        unknown = [name for name in names if name not in by_name]
        if unknown:
            raise EvaluationError(
                f"{root} has no sequence {unknown[0]!r} of {dataset}; it has {_few(found)}. Name some of these, or "
                "leave --sequences out."
            )
        return sorted({by_name[name] for name in names}), []
    if selection.sequences is None:
        return found, []
    chosen = sorted(by_name[name] for name in selection.sequences if name in by_name)
    if not chosen:
        raise EvaluationError(
            f"None of the protocol's sequences ({_few(selection.sequences)}) lies in {root}, which has {_few(found)}; "
            f"name those by --sequences to evaluate on them. {layout.published}"
        )
    return chosen, sorted(name for name in selection.sequences if name not in by_name)


def load_sequence(dataset: str, root: Path, name: str, selection: Selection) -> tuple[EvaluatedSequence, list[str]]:
    """Read the chosen frames of a sequence that `choose_sequences` named; no image is opened yet.

    Returns:
        The sequence, and what is to be known of it: frames that the reader left out, fewer frames than the protocol
        takes.

    Raises:
        CaptureError: the sequence is not as its layout promises.
        ExclusionError: none of its frames is among the chosen ones.
    """
    capture = read_sequence(dataset, root, name)
    indices = choose_frames(capture.time_ids, selection)
    if not len(indices):
        raise ExclusionError(f"{name} has none of the frames that the protocol takes: it has only {len(capture)}.")
    notes = [_relative(sentence, root) for sentence in capture.notes]
    if capture.skipped:
        notes.append(
            f"The reader left out {len(capture.skipped)} of its frames; the first: "
            f"{_relative(capture.skipped[0], root)}"
        )
    wanted = _wanted(selection)
    if wanted is not None and len(indices) < wanted:
        notes.append(f"It has {len(indices)} of the {wanted} frames that the protocol takes.")
    chosen = capture.select(indices)
    if not selection.undistort:
        chosen = replace(chosen, distortion=np.zeros_like(chosen.distortion), fisheye=None)
    return EvaluatedSequence(name, as_pinhole(chosen)), notes


def choose_frames(time_ids: npt.ArrayLike, selection: Selection) -> npt.NDArray[np.int64]:
    """Indices of the chosen frames, which are in order of time; `time_ids` `(N,)` are what `ranks` chooses by."""
    ids = np.asarray(time_ids, np.int64)
    indices = np.arange(len(ids))
    if selection.ranks is not None:
        indices = indices[(ids >= selection.ranks[0]) & (ids <= selection.ranks[1])]
    indices = indices[:: selection.stride][: selection.first]
    return indices if selection.spread is None else indices[evenly(len(indices), selection.spread)]


def _wanted(selection: Selection) -> int | None:
    """The number of frames that a selection takes of a long enough sequence; None without a fixed number."""
    if selection.spread is not None:
        return selection.spread
    if selection.ranks is not None:
        return len(range(selection.ranks[0], selection.ranks[1] + 1, selection.stride))
    return selection.first if selection.stride > 1 else None


def _relative(sentence: str, root: Path) -> str:
    """Without the data set's place, which says nothing of the data."""
    return sentence.replace(f"{root}/", "")


def _few(names: tuple[str, ...] | list[str]) -> str:
    shown = ", ".join(names[:6])
    return shown if len(names) <= 6 else f"{shown} and {len(names) - 6} others"
