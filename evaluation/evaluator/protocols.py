"""Protocols: all that decides a figure, by name and task; `str(protocol)` prints it in plain words.

The same weights score very differently under different protocols, so no figure is printed without its own.

    page4d   as PAGE-4D's release evaluates: images squashed, and video depth taken in the first camera
    cut3r    as CUT3R's scripts do: each frame's own depth, no sequence of Sintel left out
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from .inference import Inference
from .metrics import alignment as fits
from .metrics.alignment import AlignmentName
from .metrics.depth import DepthLimits
from .sequences import SELECTIONS, Selection

OTHERS = "other data sets"  # the key of what holds for data sets that are not named

_ALIGNMENT_WORDS: dict[AlignmentName, str] = {
    "median": "scale: the ratio of the medians, of an even number of pixels the lower of the middle two",
    "scale": (
        f"scale of least absolute differences: the ratio of the means, then {fits.WEISZFELD_STEPS} steps of Weiszfeld, "
        f"at least {fits.SMALLEST_SCALE:g}"
    ),
    "scale&shift": (
        "scale and shift that lessen the sum of absolute differences: from the ratio of the medians and shift 0 by "
        f"Adam, learning rate {fits.LEARNING_RATE:g}, at most {fits.ADAM_STEPS} steps, until the sum changes by less "
        f"than {fits.ADAM_TOLERANCE:g}"
    ),
}


@dataclass(frozen=True)
class DepthProtocol:
    """How depth is compared, of single frames or of whole videos."""

    name: str
    task: Literal["video-depth", "mono-depth"]
    selections: Mapping[str, Selection] = field(hash=False)  # data set: its sequences and frames
    limits: Mapping[str, DepthLimits] = field(hash=False)  # data set, or `OTHERS`: which pixels count
    inference: Inference  # how the model is run, unless another resolution is asked for
    alignment: AlignmentName  # whose figures have the plain names, such as "abs_rel"
    more_alignments: tuple[AlignmentName, ...] = ()  # whose figures are named such as "scale&shift/abs_rel"
    aligned: Literal["frame", "sequence"] = "sequence"  # what shares one alignment
    camera: Literal["own", "first"] = "own"  # in which depth is measured: each frame's own, or the sequence's first
    shift_floor: float | None = None  # what predictions below are raised to before scale and shift are fitted

    def limits_of(self, dataset: str) -> DepthLimits:
        """Which pixels of a data set count."""
        return self.limits[dataset if dataset in self.limits else OTHERS]

    def __str__(self) -> str:
        if self.camera == "first":
            camera = (
                "Depth: of each pixel's point, unprojected with the predicted cameras, the z in the first frame's "
                "camera; compared with the true depth of the frame itself."
            )
        else:
            camera = "Depth: z in each frame's own camera."
        alone = "Each frame is aligned by itself" if self.aligned == "frame" else "All frames are aligned as one"
        lines = [
            _title(self),
            _input_words(self.inference),
            camera,
            "Predicted depth is brought to the size of the true depth by cubic interpolation; pixels that would be "
            "interpolated from pixels without a prediction have none, do not count, and are counted apart.",
            f"Alignment: {alone}. {_sentence(_ALIGNMENT_WORDS[self.alignment])}",
        ]
        lines += [f"Also, as {name}/...: {_ALIGNMENT_WORDS[name]}." for name in self.more_alignments]
        if self.shift_floor is not None:
            lines.append(f"Before scale and shift are fitted, predictions below {self.shift_floor:g} become that.")
        lines += [f"Pixels, {dataset}: {limits}." for dataset, limits in self.limits.items()]
        each = "frames by their pixels that count, then sequences" if self.aligned == "frame" else "sequences"
        lines.append(
            f"Averages: of {each} by their pixels that count; figures of static and dynamic regions, where motion "
            "masks exist, by the pixels of the region, after the alignment of the whole."
        )
        return _lines(lines, self.selections)


@dataclass(frozen=True)
class PoseProtocol:
    """How camera trajectories are compared."""

    name: str
    selections: Mapping[str, Selection] = field(hash=False)
    inference: Inference
    task: Literal["pose"] = "pose"

    def __str__(self) -> str:
        lines = [
            _title(self),
            _input_words(self.inference),
            "Alignment: the Sim(3) of least squared distance between camera centres (Umeyama), by evo.",
            "Figures: root mean squares of the distance between centres (ATE) and of the relative pose error from each "
            "frame to the next, its translation and its angle in degrees (RPE).",
            "Excluded and counted apart: fewer than 3 poses, a camera that does not move, a camera that moves along "
            "one line.",
            "Averages: every sequence counts the same.",
        ]
        return _lines(lines, self.selections)


@dataclass(frozen=True)
class PointsProtocol:
    """How point maps are compared."""

    name: str
    selections: Mapping[str, Selection] = field(hash=False)
    limits: Mapping[str, DepthLimits] = field(hash=False)
    inference: Inference
    alignment: Literal["sim3", "none"] = "sim3"
    max_points: int = 500_000  # of a sequence, true and predicted each
    task: Literal["points"] = "points"

    def limits_of(self, dataset: str) -> DepthLimits:
        """Which pixels of a data set count."""
        return self.limits[dataset if dataset in self.limits else OTHERS]

    def __str__(self) -> str:
        alignment = {
            "sim3": "the Sim(3) of least squared distance between the predicted and the true points of the same pixels "
            "(Umeyama), one for the sequence",
            "none": "none: points must be in the world of the ground truth",
        }[self.alignment]
        lines = [
            _title(self),
            _input_words(self.inference),
            "Points: of all pixels of the true depth that count; the predicted point of a pixel is that of the nearest "
            "pixel of the predicted map. Predicted depth and cameras stand in where there are no points.",
            *(f"Pixels, {dataset}: {limits.words_of_truth()}." for dataset, limits in self.limits.items()),
            f"Sub-sampling: at most {self.max_points:,} pixels of a sequence, spread evenly over those that count in "
            "the order of frames, rows and columns; the same for true and predicted points.",
            f"Alignment: {alignment}, fitted to the points that are left.",
            "Figures: accuracy, the distance of a predicted point from the nearest true one of the sequence; "
            "completion, of a true point from the nearest predicted one; overall, the mean of the two; mean and median "
            "over points. Those of static and dynamic regions, where motion masks exist, are over the points of their "
            "pixels, with neighbours among all.",
            "Averages: every sequence counts the same.",
            "The published figures of this task do not say how points were aligned and sub-sampled.",
        ]
        return _lines(lines, self.selections)


Protocol = DepthProtocol | PoseProtocol | PointsProtocol


def _title(protocol: Protocol) -> str:
    return f"Protocol {protocol.name}, {protocol.task}."


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."


def _input_words(inference: Inference) -> str:
    words = str(inference)
    return f"Where the model is run, and unless another resolution is asked for: {words[0].lower()}{words[1:]}"


def _lines(lines: list[str], selections: Mapping[str, Selection]) -> str:
    return "\n".join([*lines, *(f"Frames, {dataset}: {selection}" for dataset, selection in selections.items())])


# --------------------------------------------------------------------------------------------------------------------
# The two

# The scripts clip what is predicted for Sintel, whose sky is far beyond 70, and nothing else.
# Captures of Nerfies are in units of their own, in which no number is a limit.
_BELOW_70 = {"sintel": DepthLimits(70, clip=70), "nerfies": DepthLimits(), OTHERS: DepthLimits(70)}
_MONO = {**_BELOW_70, "bonn": DepthLimits(70), "dycheck": DepthLimits()}
_POINTS = {"nerfies": DepthLimits(), OTHERS: DepthLimits(70)}


def _protocols(name: Literal["page4d", "cut3r"]) -> dict[str, Protocol]:
    is_page4d = name == "page4d"
    selections = SELECTIONS[name]
    inference = Inference(fit="squash" if is_page4d else "crop")
    return {
        "video-depth": DepthProtocol(
            name,
            "video-depth",
            selections["video-depth"],
            _BELOW_70,
            inference,
            alignment="scale",
            more_alignments=("scale&shift",),
            camera="first" if is_page4d else "own",
            # The scripts for videos raise what is below 0 before they fit a shift, and in no other case.
            shift_floor=0.0,
        ),
        "mono-depth": DepthProtocol(
            name,
            "mono-depth",
            selections["mono-depth"],
            _MONO,
            replace(inference, one_by_one=True),
            alignment="median",
            aligned="frame",
        ),
        "pose": PoseProtocol(name, selections["pose"], inference),
        "points": PointsProtocol(name, selections["points"], _POINTS, replace(inference, points="depth")),
    }


PROTOCOLS: dict[str, dict[str, Protocol]] = {"page4d": _protocols("page4d"), "cut3r": _protocols("cut3r")}
