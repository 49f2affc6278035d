"""Train scenes that differ in one thing by nerfstudio's own commands, and compare their held-out views in one table.

    python evaluation/compare.py methods --data capture/ another/ --output methods/ --methods static page4d-4dgs
    python evaluation/compare.py initialisations --data capture/ --model page4d --output table4/
    python evaluation/compare.py tracks --data capture/ another/ --model page4d --output tracks/
    python evaluation/compare.py novel-views --model page4d --scenes nerfies/broom nerfies/curls --output novel-views/

Each run is an ns-train and an ns-eval of its own. The same command again leaves out what is done and goes on with the
rest; captures, rows and seeds may be added.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from evaluator.compare import novel_views as paper_table
from evaluator.compare import variants as rows_of
from evaluator.compare.comparison import TABLE, Kind, compare
from evaluator.compare.comparison_tables import check_outcome, markdown
from evaluator.compare.variants import (
    MOTIONS,
    CameraSource,
    Initialisation,
    Motion,
    Reconstructions,
    Variant,
    captures_by_name,
)
from tyro.conf import OmitArgPrefixes

from page4d_hf.errors import Page4DError
from page4d_hf.utils.programs import input_errors_end_the_program


@dataclass
class Runs:
    """What all rows have in common."""

    output: Path
    """The folder for the runs, table.md, runs.csv (each run) and means.csv (means and deviations over seeds)."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of the runs of each row."""
    steps: int = 17_000
    """Steps of each training."""
    data_options: str = ""
    """Further options of page4d-data, in quotes: --data-options="--downscale 4 --max-points 15000"."""
    train_options: str = ""
    """Further options of ns-train, in quotes behind the sign = too."""

    def compare(self, variants: list[Variant], kind: Kind) -> None:
        """Train and evaluate what is not done yet, and print the table."""
        variants = rows_of.with_options(variants, self.data_options, self.train_options)
        rows = compare(variants, self.output, self.seeds, self.steps, kind)
        print(markdown(rows))
        check_outcome(rows, self.output / TABLE)
        print(f"Wrote {self.output / TABLE}, runs.csv and means.csv beside it.")


def methods(
    data: tuple[Path, ...],
    runs: OmitArgPrefixes[Runs],
    methods: tuple[str, ...] = ("static", "page4d-4dgs-original", "page4d-4dgs"),
) -> None:
    """Train several methods on several captures and compare the held-out views.

    Args:
        data: the captures.
        runs: what all rows have in common.
        methods: as ns-train knows them; static is page4d-4dgs without deformation.
    """
    runs.compare(rows_of.methods(captures_by_name(data), methods), "methods")


def initialisations(
    data: Path,
    runs: OmitArgPrefixes[Runs],
    model: str | None = None,
    reconstruction: Path | None = None,
    unmasked_reconstruction: Path | None = None,
    initialisations: tuple[Initialisation, ...] = ("page4d", "unmasked", "capture", "random"),
    cameras: tuple[CameraSource, ...] = ("capture", "page4d"),
    method: str = "page4d-4dgs",
) -> None:
    """Train the same method from several initialisations and compare the held-out views.

    The experiment of PAGE-4D's Table 4 on any capture. Seeds decide the order of views and how Gaussians split; seed
    points are the same for all.

    Args:
        data: the capture.
        runs: what all rows have in common.
        model: PAGE-4D's weights, a folder or a name on the Hub. Each reconstruction is made once and kept.
        reconstruction: a scene folder that `page4d reconstruct` made of the capture's images, in place of the model.
        unmasked_reconstruction: the same by a network without the mask, for the row unmasked.
        initialisations: where Gaussians start. page4d: PAGE-4D's depth and what it says of motion; unmasked: its depth
            without its mask, which is how VGGT works; depth: the capture's own depth and motion masks, which of a
            synthetic capture are as exact as a perfect reconstruction's; capture: its points; random: chance.
        cameras: the capture's, with PAGE-4D's depth scaled by the Sim(3) between both sets of camera centres; or
            PAGE-4D's, into whose world the held-out cameras are carried by that Sim(3).
        method: what is trained.
    """
    (capture,) = captures_by_name([data]).values()
    sources = Reconstructions(model, reconstruction, unmasked_reconstruction)
    runs.compare(rows_of.initialisations(capture, sources, initialisations, cameras, method), "initialisations")


def tracks(
    data: tuple[Path, ...],
    runs: OmitArgPrefixes[Runs] = Runs(tyro.MISSING, steps=1000),  # noqa: B008
    model: str | None = None,
    reconstructions: tuple[Path, ...] = (),
    motions: tuple[Motion, ...] = tuple(MOTIONS),
    cameras: tuple[CameraSource, ...] = ("capture", "page4d"),
) -> None:
    """Train page4d-4dgs with motion that starts from tracks of different sources, and without tracks.

    Args:
        data: the captures.
        runs: what all rows have in common.
        model: PAGE-4D's weights, a folder or a name on the Hub, for its cameras and tracks.
        reconstructions: scene folders that `page4d reconstruct` made of the images to train on, in place of the model:
            one for each capture, in their order.
        motions: original: 4DGS as published; off: no tracks; auto, with PAGE-4D's cameras: what page4d-data takes by
            default; capture: the capture's, exact those of `page4d synth`;
            page4d: by optical flow on what moves, lifted by PAGE-4D's depth; -noise: of both, 30 % of the tracks are
            at a random place in each frame.
        cameras: the capture's, with its points; or PAGE-4D's, with its depth.
    """
    captures = captures_by_name(data)
    if reconstructions and len(reconstructions) != len(captures):
        raise Page4DError(
            f"--reconstructions expects a folder for each of the {len(captures)} captures, got {len(reconstructions)}."
        )
    ready = reconstructions or (None,) * len(captures)
    sources = {name: Reconstructions(model, folder) for name, folder in zip(captures, ready, strict=True)}
    runs.compare(rows_of.tracks(captures, sources, motions, cameras, runs.output / "tracks"), "tracks")


def novel_views(options: OmitArgPrefixes[paper_table.NovelViews]) -> None:
    """Make PAGE-4D's Table 4: novel views of several scenes by page4d-4dgs from each initialisation."""
    paper_table.run(options)


COMMANDS: dict[str, Callable[..., Any]] = {
    "methods": methods,
    "initialisations": initialisations,
    "tracks": tracks,
    "novel-views": novel_views,
}


def main(arguments: list[str] | None = None) -> None:
    """Entry point: errors about the input are one sentence on stderr and exit code 1."""
    with input_errors_end_the_program("compare", "the same command goes on with what is left."):
        tyro.extras.subcommand_cli_from_dict(COMMANDS, prog="compare.py", description=__doc__, args=arguments)


if __name__ == "__main__":
    main()
