"""What is compared: the same training with other options.

`initialisations` is the experiment of PAGE-4D's Table 4: 4D Gaussian splatting (Wu et al., CVPR 2024) started from the
points, and with the cameras, of different sources. `methods` trains several methods on several captures. `tracks`
starts the motion from tracks of different sources.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NamedTuple

from page4d_hf.utils.programs import not_installed

from ..metrics.scores import EvaluationError

Initialisation = Literal["page4d", "unmasked", "depth", "capture", "random"]
Motion = Literal["original", "off", "auto", "capture", "page4d", "capture-noise", "page4d-noise"]
CameraSource = Literal["capture", "page4d"]

METHOD = "page4d-4dgs"
STATIC = "static"  # stands for METHOD without deformation

INITIALISATIONS: Mapping[Initialisation, str] = {
    "page4d": "PAGE-4D",
    "unmasked": "PAGE-4D, mask off",
    "depth": "the capture's depth",
    "capture": "the capture's points",
    "random": "random points",
}
MOTIONS: Mapping[Motion, str] = {
    "original": "none, 4DGS as published",
    "off": "none",
    "auto": "by flow, where they go far",
    "capture": "the capture's",
    "page4d": "by flow and PAGE-4D's depth",
    "capture-noise": "the capture's, 30 % of them noise",
    "page4d-noise": "by flow and PAGE-4D's depth, 30 % of them noise",
}
CAMERAS: Mapping[CameraSource, str] = {"capture": "the capture's", "page4d": "PAGE-4D's"}


class NoisyTracks(NamedTuple):
    """Tracks, a part of them replaced by noise."""

    source: str  # --tracks of page4d-data
    file: Path  # where they lie


@dataclass(frozen=True)
class Variant:
    """One row of a comparison, which is trained once with each seed."""

    name: str  # of its folder; differs between the variants of a comparison
    labels: Mapping[str, str]  # what the row says of it, by column
    data: Path
    method: str = METHOD
    training_options: tuple[str, ...] = ()  # of ns-train
    data_options: tuple[str, ...] = ()  # of page4d-data
    needs_motion: bool = False  # whether it is about seed points of which it is known if they move
    noisy_tracks: NoisyTracks | None = None  # that are made when the data are read
    refused: str | None = None  # why it cannot be trained, where that is known beforehand

    @property
    def title(self) -> str:
        """Its labels in a line."""
        return ", ".join(f"{column}: {label}" for column, label in self.labels.items())


@dataclass(frozen=True)
class Reconstructions:
    """Where PAGE-4D's reconstructions of a capture come from."""

    model: str | None = None  # weights, a folder or a name on the Hub, which are run with the mask and without
    ready: Path | None = None  # a scene folder that takes the place of the masked run
    ready_unmasked: Path | None = None  # and of the other

    def options(self, masked: bool) -> tuple[str, ...]:
        """Options of page4d-data."""
        folder = self.ready if masked else self.ready_unmasked
        if folder is not None:
            return ("--reconstruction", _absolute(folder))
        model = () if self.model is None else ("--model", _absolute(self.model))
        return model if masked else (*model, "--use-mask", "False")

    def missing(self, masked: bool) -> str | None:
        """Why there is none, where there is none."""
        if (self.model, self.ready if masked else self.ready_unmasked) != (None, None):
            return None
        return f"it needs PAGE-4D: pass --model, or --{'' if masked else 'unmasked-'}reconstruction"


def initialisations(
    data: Path,
    reconstructions: Reconstructions,
    names: Sequence[Initialisation],
    cameras: Sequence[CameraSource],
    method: str = METHOD,
) -> list[Variant]:
    """A variant for each source of cameras and each of points.

    With PAGE-4D's cameras, those of held-out frames are the capture's, carried into PAGE-4D's world: PAGE-4D never
    sees a held-out frame, whatever the row.
    """
    variants = []
    for camera_source in _each_once(cameras, "--cameras"):
        for name in _each_once(names, "--initialisations"):
            masked = name != "unmasked"
            points = "page4d" if name == "unmasked" else name
            options: tuple[str, ...] = ("--cameras", camera_source, "--held-out-cameras", "capture", "--points", points)
            refused = None
            if "page4d" in (camera_source, points):
                options += reconstructions.options(masked)
                refused = reconstructions.missing(masked)
            variants.append(
                Variant(
                    name=f"{camera_source}-cameras-{name}",
                    labels={"cameras": CAMERAS[camera_source], "initialisation": INITIALISATIONS[name]},
                    data=data,
                    method=method,
                    data_options=options,
                    needs_motion=name == "page4d",
                    refused=refused,
                )
            )
    return variants


def captures_by_name(data: Sequence[Path]) -> dict[str, Path]:
    """Captures by the names of their folders, as paths that hold from any folder."""
    if find_spec("nerfstudio") is None:
        raise EvaluationError(not_installed("Scenes are trained with nerfstudio", "nerfstudio"))
    from page4d_hf.captures.sources import absolute, place_of

    if not data:
        raise EvaluationError("Name at least one capture.")
    captures: dict[str, Path] = {}
    for path in data:
        name = place_of(path).resolve().name
        if name in captures:
            raise EvaluationError(f"Two captures are called {name}; captures of one comparison need different names.")
        captures[name] = absolute(path)
    return captures


def methods(captures: Mapping[str, Path], names: Sequence[str]) -> list[Variant]:
    """A variant for each capture, by its name, and each method; `static` is page4d-4dgs without deformation."""
    for name in names:
        if not name or name == ".." or Path(name).name != name or "\0" in name:
            raise EvaluationError(f"--methods names methods as ns-train knows them, got {name!r:.200}.")
    known = {point.name for point in entry_points(group="nerfstudio.method_configs")}
    variants = []
    for place, path in captures.items():
        for name in _each_once(names, "--methods"):
            method = METHOD if name == STATIC else name
            # Of nerfstudio's own methods only nerfstudio knows; ours are told apart without loading it.
            missing = method.startswith("page4d-") and method not in known and method != METHOD
            variants.append(
                Variant(
                    name=f"{place}-{name}",
                    labels={"capture": place, "method": name},
                    data=path,
                    method=method,
                    training_options=("--pipeline.model.use-deformation", "False") if name == STATIC else (),
                    refused=f"this installation has no method {method}" if missing else None,
                )
            )
    return variants


def tracks(
    captures: Mapping[str, Path],
    reconstructions: Mapping[str, Reconstructions],
    motions: Sequence[Motion],
    cameras: Sequence[CameraSource],
    output: Path,
) -> list[Variant]:
    """A variant for each capture, source of cameras and source of tracks, from the same seed points in each pair.

    With the capture's cameras: from its points. With PAGE-4D's, which see no held-out frame: from its depth. Files of
    tracks that are partly noise are made in the folder `output`.
    """
    variants = []
    for place, path in captures.items():
        sources = reconstructions[place]
        for camera_source in _each_once(cameras, "--cameras"):
            for motion in _each_once(motions, "--motions"):
                by_page4d, source = camera_source == "page4d", motion.removesuffix("-noise")
                # A capture's tracks are in the world of its own cameras, and by default taken with them.
                if source == ("capture" if by_page4d else "auto"):
                    continue
                name = f"{place}-{camera_source}-cameras-{motion}"
                given, noisy = "off" if motion == "original" else motion, None
                if source != motion:
                    noisy = NoisyTracks(source, Path(os.path.realpath(output), f"{name}.npz"))
                    given = str(noisy.file)
                options: tuple[str, ...] = ("--cameras", camera_source, "--held-out-cameras", "capture")
                options += ("--points", camera_source)
                options += ("--tracks", given)
                needs_page4d = by_page4d or source == "page4d"
                variants.append(
                    Variant(
                        name=name,
                        labels={"capture": place, "cameras": CAMERAS[camera_source], "tracks": MOTIONS[motion]},
                        data=path,
                        method=f"{METHOD}-original" if motion == "original" else METHOD,
                        data_options=options + (sources.options(True) if needs_page4d else ()),
                        noisy_tracks=noisy,
                        refused=sources.missing(True) if needs_page4d else None,
                    )
                )
    return variants


def with_options(variants: Sequence[Variant], data_options: str, train_options: str) -> list[Variant]:
    """The same variants with further options of page4d-data and of ns-train, as they are typed in a shell."""
    more_data, more_training = _split("--data-options", data_options), _split("--train-options", train_options)
    return [
        replace(
            variant,
            data_options=more_data + variant.data_options,
            training_options=more_training + variant.training_options,
        )
        for variant in variants
    ]


def _split(option: str, words: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(words))
    except ValueError as error:
        raise EvaluationError(f"{option} cannot be split into words: {error}.") from error


def _each_once(names: Sequence[str], option: str) -> list:
    if not names:
        raise EvaluationError(f"{option} names nothing to compare; name at least one.")
    return list(dict.fromkeys(names))


def _absolute(path: str | Path) -> str:
    """A folder's absolute path, so that config.yml can be used from anywhere; a name on the Hub as it is."""
    place = Path(path).expanduser()
    return str(place.resolve()) if place.exists() else str(path)
