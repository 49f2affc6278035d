"""Novel views: the paper's Table 4, 4D Gaussian splatting of each scene from each initialisation.

Every scene is a comparison of its own, in a folder of its own under the output:

    <output>/run.json           says that the folder is one of novel views
    <output>/<scene>/           the comparison: runs, ns-eval's JSON of each, table.md, runs.csv, means.csv
    <output>/result.json        all figures, with what they were made with
    <output>/table.md, .tex     the table

Runs that are done are not run again; scenes, initialisations and seeds may be added.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from page4d_hf.package_version import versions_of
from page4d_hf.utils.folders import whole_file
from page4d_hf.utils.programs import counted

from ..reporting.formats import NOTHING, latex_table, latex_text, markdown_table, spread
from ..reporting.paper_figures import REMARKS, paper_rows
from ..run_folder import entered_folder
from . import comparison
from .comparison_tables import NO_LPIPS, Row, check_outcome, deviation, why_missing
from .variants import (
    METHOD,
    CameraSource,
    Initialisation,
    Reconstructions,
    captures_by_name,
    initialisations,
    with_options,
)

FIGURES = {"psnr": ("PSNR", "↑", 3), "ssim": ("SSIM", "↑", 3), "lpips": ("LPIPS", "↓", 3)}  # decimals as the paper's
AVERAGE = "Avg"
TASK = "novel-views"
PAPERS_TABLE = (TASK, "nerfies")
PACKAGES = ("page4d", "nerfstudio", "gsplat", "torch")


@dataclass
class NovelViews:
    """What to train, and from what."""

    scenes: tuple[Path, ...]
    """Captures with held-out views; their folders' names are the scenes'."""
    output: Path
    """The folder to make, or to go on with."""
    model: str | None = None
    """PAGE-4D's weights, a folder or a name on the Hub. Without, rows that need it say so."""
    initialisations: tuple[Initialisation, ...] = ("page4d", "unmasked", "capture", "random")
    """Where Gaussians start: PAGE-4D's depth, the same with its mask off (which is how VGGT works), the capture's own
    depth, the capture's points, chance."""
    cameras: tuple[CameraSource, ...] = ("page4d", "capture")
    """Whose cameras are trained with: PAGE-4D's, into whose world held-out ones are carried, or the capture's."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of the runs of each row."""
    steps: int = 14_000
    """Steps of each training; by default the paper's."""
    method: str = METHOD
    """What is trained, as ns-train knows it."""
    lpips_network: Literal["vgg", "alex"] = "vgg"
    """Whose features LPIPS compares."""
    data_options: str = ""
    """Further options of page4d-data, in quotes: --data-options="--downscale 4"."""
    train_options: str = ""
    """Further options of ns-train, in quotes behind the sign = too."""

    def __str__(self) -> str:
        """The protocol in plain words, and what is changed."""
        from page4d_nerfstudio.gaussians.metrics import LPIPS_NETWORKS

        seeds = f"{counted(len(self.seeds), 'seed')} ({', '.join(map(str, self.seeds))})"
        lines = [
            f"Protocol page4d, {TASK}.",
            f"Each scene: {self.method} from the initialisation named, {self.steps:,} steps, {seeds}.",
            f"Figures: PSNR, SSIM and LPIPS (of {LPIPS_NETWORKS[self.lpips_network]}) of ns-eval, means over the "
            "scene's held-out views at the size that is trained on.",
            "Averages: over seeds, then over scenes, each of which counts the same.",
        ]
        for program, more in (("page4d-data", self.data_options), ("ns-train", self.train_options)):
            lines += [f"Options of {program}: {more}."] if more else []
        return "\n".join(lines)


def run(options: NovelViews) -> dict[str, Any]:
    """Train and evaluate what is not done yet, and write and print the table.

    Returns:
        What result.json holds.
    """
    scenes = captures_by_name(options.scenes)
    # Scenes, initialisations and seeds may be added: the task is all that must be the same.
    with entered_folder(options.output, {"task": TASK}):
        gathered: dict[str, Sequence[Row]] = {}
        result: dict[str, Any] = {}
        network = f"--pipeline.model.lpips-network {options.lpips_network}"
        for name, data in scenes.items():
            variants = initialisations(
                data, Reconstructions(options.model), options.initialisations, options.cameras, options.method
            )
            variants = with_options(variants, options.data_options, f"{network} {options.train_options}")
            folder = options.output / name
            gathered[name] = comparison.compare(variants, folder, options.seeds, options.steps, "initialisations")
            # Written after every scene: what is interrupted has a table of what there is.
            result = gather(gathered, list(scenes), options)
            for file, text in (
                ("result.json", json.dumps(result, indent=1)),
                ("table.md", markdown(result)),
                ("table.tex", latex(result)),
            ):
                with whole_file(options.output / file, overwrite=True) as partial:
                    partial.write_text(text, "utf8")
    print(markdown(result), end="")
    check_outcome([row for rows in gathered.values() for row in rows], options.output / "table.md")
    print(f"Wrote {options.output}: table.md, table.tex and result.json.")
    return result


def gather(gathered: Mapping[str, Sequence[Row]], scenes: Sequence[str], options: NovelViews) -> dict[str, Any]:
    """All figures of the comparisons, whose rows are given by scene; `scenes` has those that are still to come, too.

    Returns:
        `protocol`, `scenes`, `versions`; `rows`, each with its labels, `scenes[name][figure]` (`mean`, `std` over
        seeds where there are several, `runs`), and `average[figure]` where every scene has the figure; `notes`, which
        say of every missing figure why it is missing.
    """
    rows: dict[str, dict[str, Any]] = {}
    notes: list[str] = []
    for scene in scenes:
        for row in gathered.get(scene, ()):
            entry = rows.setdefault(
                row.variant.title, {"labels": dict(row.variant.labels), "scenes": {}, "average": {}}
            )
            entry["scenes"][scene] = _means([result.figures for result in row.done])
            notes += [f"{scene}: {note}" for note in why_missing(row)]
            if not all("lpips" in result.figures for result in row.done):
                notes.append(f"{scene}: {NO_LPIPS}")
    notes += [f"{scene}: not run yet" for scene in scenes if scene not in gathered]
    for entry in rows.values():
        for figure in FIGURES:
            values = [entry["scenes"].get(scene, {}).get(figure) for scene in scenes]
            if all(value is not None for value in values):
                entry["average"][figure] = fmean(value["mean"] for value in values)
    if any(set(entry["average"]) != set(FIGURES) for entry in rows.values()):
        notes.append(f"{AVERAGE}: over all {len(scenes)} scenes, or not at all")
    return {
        "protocol": str(options),
        "model": options.model,
        "scenes": list(scenes),
        "rows": list(rows.values()),
        "notes": list(dict.fromkeys(notes)),
        "versions": versions_of(PACKAGES),
    }


def _means(runs: Sequence[Any]) -> dict[str, dict[str, float]]:
    """Of each figure over the runs, where all of them have it."""
    means = {}
    for figure in FIGURES:
        values = [run[figure] for run in runs if figure in run]
        if values and len(values) == len(runs):
            means[figure] = {"mean": fmean(values), "runs": len(values)}
            if math.isfinite(std := deviation(values)):
                means[figure]["std"] = std
    return means


# --------------------------------------------------------------------------------------------------------------------
# Tables


def _labels(result: Mapping[str, Any]) -> list[str]:
    return list(result["rows"][0]["labels"]) if result["rows"] else []


def _rows(result: Mapping[str, Any]) -> list[list[str]]:
    """Labels, and figures of all scenes and of the average. The paper's come first."""

    def cells(figures: Mapping[str, float]) -> list[str]:
        return [spread(figures.get(name), f".{decimals}f") for name, (_, _, decimals) in FIGURES.items()]

    scenes, blanks = result["scenes"], [NOTHING] * max(len(_labels(result)) - 1, 0)
    lines = [
        [*blanks, f"{method} (paper)", *cells({}) * len(scenes), *cells(figures)]
        for method, figures in paper_rows(*PAPERS_TABLE).items()
    ]
    for row in result["rows"]:
        means = [{name: value["mean"] for name, value in row["scenes"].get(scene, {}).items()} for scene in scenes]
        lines.append([*row["labels"].values(), *(cell for each in (*means, row["average"]) for cell in cells(each))])
    return lines


def _notes(result: Mapping[str, Any]) -> list[str]:
    paper = [
        "(paper): as published, the average of chess4, dvd, hand8, laptop8 and tomato-mark8, not measured here",
        *(remark.rstrip(".") for remark in REMARKS[PAPERS_TABLE]),
    ]
    return [*(line.rstrip(".") for line in result["protocol"].splitlines()), *paper, *result["notes"]]


def markdown(result: Mapping[str, Any]) -> str:
    """The table in Markdown, with its protocol and what it lacks underneath."""
    labels = _labels(result)
    heads = [
        f"{scene} {title} {arrow}" for scene in (*result["scenes"], AVERAGE) for title, arrow, _ in FIGURES.values()
    ]
    table = markdown_table([*labels, *heads], _rows(result), labels=len(labels))
    return "\n".join([table, "", *(f"- {note}" for note in _notes(result))]) + "\n"


def latex(result: Mapping[str, Any]) -> str:
    """The table in LaTeX (booktabs), scenes over their figures as in the paper; what it lacks as comments."""
    labels, groups = _labels(result), [*result["scenes"], AVERAGE]
    heads = [f"{title} {arrow}" for _ in groups for title, arrow, _ in FIGURES.values()]
    lines = latex_table([*labels, *heads], _rows(result), labels=len(labels)).splitlines()
    over = [rf"\multicolumn{{{len(FIGURES)}}}{{c}}{{{latex_text(group)}}}" for group in groups]
    lines.insert(lines.index(r"\toprule") + 1, " & ".join([*[""] * len(labels), *over]) + r" \\")
    return "\n".join([*(f"% {note}" for note in _notes(result)), *lines]) + "\n"
