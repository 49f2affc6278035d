"""Novel views: the paper's Table 4, 4D Gaussian splatting of each scene from each initialisation.

Every scene is a comparison of its own (`page4d compare-initialisations`), in a folder of its own under the output:

    <output>/run.json           says that the folder is one of novel views
    <output>/<scene>/           the comparison: runs, ns-eval's JSON of each, table.md, runs.csv, means.csv
    <output>/result.json        all figures, with what they were made with
    <output>/table.md, .tex     the table

Runs that are done are not run again; scenes, initialisations and seeds may be added.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Literal

from page4d_hf.errors import Page4DError
from page4d_hf.utils.folders import whole_file, working_folder

from .protocols import LPIPSNetwork, NovelViewsProtocol
from .reporting.markup import latex_text, markdown_line
from .reporting.paper_figures import REMARKS, paper_rows
from .runs import RUN, RunFolder
from .scores import EvaluationError

Initialisation = Literal["page4d", "unmasked", "depth", "capture", "random"]
Cameras = Literal["capture", "page4d"]

FIGURES = {"psnr": ("PSNR", "↑", 3), "ssim": ("SSIM", "↑", 3), "lpips": ("LPIPS", "↓", 3)}  # decimals as the paper's
AVERAGE = "Avg"
NOTHING = "-"
PAPERS_TABLE = ("novel-views", "nerfies")
PROTOCOL = NovelViewsProtocol("page4d")
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
    cameras: tuple[Cameras, ...] = ("page4d", "capture")
    """Whose cameras are trained with: PAGE-4D's, into whose world held-out ones are carried, or the capture's."""
    seeds: tuple[int, ...] = PROTOCOL.seeds
    """Of the runs of each row."""
    steps: int = PROTOCOL.iterations
    """Of each training; the paper's number."""
    method: str = PROTOCOL.method
    """What is trained, as ns-train knows it."""
    lpips_network: LPIPSNetwork = PROTOCOL.lpips_network
    """Whose features LPIPS compares."""
    data_options: str = ""
    """Further options of page4d-data, in quotes: --data-options="--downscale 4"."""
    train_options: str = ""
    """Further options of ns-train, in quotes behind the sign = too."""

    def __str__(self) -> str:
        """The protocol in plain words, and what is changed."""
        protocol = replace(
            PROTOCOL, method=self.method, iterations=self.steps, seeds=self.seeds, lpips_network=self.lpips_network
        )
        more = f"\nOptions of page4d-data: {self.data_options}." if self.data_options else ""
        more += f"\nOptions of ns-train: {self.train_options}." if self.train_options else ""
        return f"{protocol}{more}"


def run(options: NovelViews) -> dict[str, Any]:
    """Train and evaluate what is not done yet, and write the table.

    Args:
        options: what to train.

    Returns:
        What result.json holds.

    Raises:
        Page4DError: scenes of one name, options that are wrong, a folder that holds something else, cannot be written
            or has another process at work in it, or nerfstudio is missing. Runs that fail raise nothing: their cells
            are empty, and a note says why.
    """
    if find_spec("nerfstudio") is None:
        raise EvaluationError(
            'Novel views are trained with nerfstudio: install it with pip install "page4d[nerfstudio]".'
        )
    scenes = _named(options.scenes)
    with working_folder(options.output, RUN):
        # Scenes, initialisations and seeds may be added: the task is all that must be the same.
        RunFolder(options.output, {"task": PROTOCOL.task}).enter()
        return _run(scenes, options)


def _run(scenes: dict[str, Path], options: NovelViews) -> dict[str, Any]:
    from page4d_nerfstudio.comparison.compare import compare
    from page4d_nerfstudio.comparison.variants import Reconstructions, initialisations, with_options

    gathered: dict[str, Sequence[Any]] = {}
    result: dict[str, Any] = {}
    for name, data in scenes.items():
        variants = initialisations(
            data, Reconstructions(options.model), options.initialisations, options.cameras, options.method
        )
        network = f"--pipeline.model.lpips-network {options.lpips_network}"
        variants = with_options(variants, options.data_options, f"{network} {options.train_options}")
        gathered[name] = compare(variants, options.output / name, options.seeds, options.steps, "initialisations")
        # Written after every scene: what is interrupted has a table of what there is.
        result = gather(gathered, list(scenes), options)
        for file, text in (
            ("result.json", json.dumps(result, indent=1)),
            ("table.md", markdown(result)),
            ("table.tex", latex(result)),
        ):
            with whole_file(options.output / file, overwrite=True) as partial:
                partial.write_text(text, "utf8")
    return result


def _named(places: Sequence[Path]) -> dict[str, Path]:
    """Captures by their names.

    Raises:
        Page4DError: no scenes, two of one name, or one where nothing is.
    """
    from page4d_nerfstudio.data.sources import absolute, place_of

    if not places:
        raise EvaluationError("Name at least one scene.")
    scenes: dict[str, Path] = {}
    for place in places:
        name = place_of(place).resolve().name
        if name in scenes:
            raise EvaluationError(f"Two scenes are called {name}; scenes of one table need different names.")
        scenes[name] = absolute(place)
    return scenes


def gather(gathered: dict[str, Sequence[Any]], scenes: Sequence[str], options: NovelViews) -> dict[str, Any]:
    """All figures of the comparisons.

    Args:
        gathered: by scene, the rows of its comparison (`page4d_nerfstudio.comparison.table.Row`).
        scenes: all scenes of the table, those that are still to come included.
        options: what was run.

    Returns:
        `protocol`, `scenes`, `versions`; `rows`, each with its labels, `scenes[name][figure]` (`mean`, `std` over
        seeds where there are several, `runs`), and `average[figure]` where every scene has the figure; `notes`, which
        say of every missing figure why it is missing.
    """
    rows: dict[str, dict[str, Any]] = {}
    notes: list[str] = []
    for scene in scenes:
        for row in gathered.get(scene, ()):
            labels = dict(row.variant.labels)
            entry = rows.setdefault(row.variant.title, {"labels": labels, "scenes": {}, "average": {}})
            entry["scenes"][scene] = _means([result.figures for result in row.done])
            notes += [f"{scene}: {note}" for note in _why_missing(row)]
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
        "versions": {name: _version(name) for name in PACKAGES},
    }


def _means(runs: Sequence[Any]) -> dict[str, dict[str, float]]:
    """Of each figure over the runs, where all of them have it."""
    means = {}
    for figure in FIGURES:
        values = [run[figure] for run in runs if figure in run]
        if values and len(values) == len(runs):
            means[figure] = {"mean": fmean(values), "runs": len(values)}
            if len(values) > 1:
                means[figure]["std"] = stdev(values)
    return means


def _why_missing(row: Any) -> list[str]:
    notes = []
    for result in row.results:
        if result.status == "refused":
            notes.append(f"{row.variant.title}: not to be had: {result.reason}")
        elif result.status == "failed":
            notes.append(f"{row.variant.title}, seed {result.seed}: failed: {result.reason}")
        elif "lpips" not in result.figures:
            notes.append(result.without_lpips or "LPIPS is left out: ns-eval gives none (are the images too small?)")
    return notes


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


# --------------------------------------------------------------------------------------------------------------------
# Tables


def _cells(result: dict[str, Any]) -> list[tuple[list[str], list[str]]]:
    """Rows of the table: labels, and figures of all scenes and of the average. The paper's come first."""
    scenes = result["scenes"]
    labels = list(result["rows"][0]["labels"]) if result["rows"] else []
    lines = []
    for published in paper_rows(*PAPERS_TABLE):
        average = [_number(published.figures.get(figure), figure) for figure in FIGURES]
        words = [*[NOTHING] * (len(labels) - 1), f"{published.method} (paper)"]
        lines.append((words, [NOTHING] * (len(FIGURES) * len(scenes)) + average))
    for row in result["rows"]:
        cells = [
            _number(row["scenes"].get(scene, {}).get(figure, {}).get("mean"), figure)
            for scene in scenes
            for figure in FIGURES
        ]
        cells += [_number(row["average"].get(figure), figure) for figure in FIGURES]
        lines.append((list(row["labels"].values()), cells))
    return lines


def _number(value: float | None, figure: str) -> str:
    return NOTHING if value is None else f"{value:.{FIGURES[figure][2]}f}"


def _notes(result: dict[str, Any]) -> list[str]:
    paper = [
        "(paper): as published, the average of chess4, dvd, hand8, laptop8 and tomato-mark8, not measured here",
        *(remark.rstrip(".") for remark in REMARKS[PAPERS_TABLE]),
    ]
    return [*(line.rstrip(".") for line in result["protocol"].splitlines()), *paper, *result["notes"]]


def markdown(result: dict[str, Any]) -> str:
    """The table in Markdown, with its protocol and what it lacks underneath."""
    labels = list(result["rows"][0]["labels"]) if result["rows"] else []
    heads = [
        f"{scene} {title} {arrow}" for scene in (*result["scenes"], AVERAGE) for title, arrow, _ in FIGURES.values()
    ]
    lines = [markdown_line([*labels, *heads]), markdown_line(["---"] * len(labels) + ["---:"] * len(heads))]
    lines += [markdown_line([*words, *cells]) for words, cells in _cells(result)]
    return "\n".join([*lines, "", *(f"- {note}" for note in _notes(result))]) + "\n"


def latex(result: dict[str, Any]) -> str:
    """The table in LaTeX (booktabs), scenes over their figures as in the paper; what it lacks as comments."""
    labels = list(result["rows"][0]["labels"]) if result["rows"] else []
    groups = [*result["scenes"], AVERAGE]
    heads = [latex_text(f"{title} {arrow}") for _ in groups for title, arrow, _ in FIGURES.values()]
    lines = [
        *(f"% {note}" for note in _notes(result)),
        rf"\begin{{tabular}}{{{'l' * len(labels)}{'c' * len(heads)}}}",
        r"\toprule",
        " & ".join([*[""] * len(labels), *(rf"\multicolumn{{{len(FIGURES)}}}{{c}}{{{latex_text(g)}}}" for g in groups)])
        + r" \\",
        " & ".join([*map(latex_text, labels), *heads]) + r" \\",
        r"\midrule",
        *(" & ".join([*map(latex_text, words), *cells]) + r" \\" for words, cells in _cells(result)),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def main(options: NovelViews) -> None:
    """Run, print the table, and say which runs failed.

    Raises:
        Page4DError: as `run`; or some runs failed, after all others are done.
    """
    result = run(options)
    print(markdown(result), end="")
    failed = sum(": failed: " in note for note in result["notes"])
    if failed:
        raise Page4DError(
            f"{failed} runs failed, see under the table (also in {options.output / 'table.md'}); the same command "
            "again tries them once more."
        )
    if not any(figures for row in result["rows"] for figures in row["scenes"].values()):
        raise Page4DError(f"None of the rows can be had; why is said under the table (also in {options.output}).")
    print(f"Wrote {options.output}: table.md, table.tex and result.json.")
