"""The ablation of PAGE-4D (Table 5 of the paper) in small: what is tuned, and does the mask help?

    python training/ablation.py --base runs/tiny/3-still --output runs/ablation

From one network that was trained on scenes in which nothing moves, the same further budget on moving scenes, with

    all              all layers
    middle           the middle layers: frame and global blocks of the second stage
    middle-release   the middle layers and mask attention in the form of the release
    middle-paper     the same in the form of the paper (Equations 5 and 6)

for every seed, which decides the clips and the first weights of a new mask. Each is tried on the same held-out clips.
Killed and started again, it goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any, Literal, get_args

import tyro
from finetuning.network import sampling_for
from finetuning.options import Options as RunOptions
from finetuning.options import from_json, to_json
from finetuning.parameters import ALL, MASK_HEAD, masked_layers
from finetuning.processes import REPOSITORY, TWO_PROCESSES, train
from finetuning.reports import RESULT as REPORT
from finetuning.reports import Report, check_reports, held_out_clips, read_report, report_on_held_out
from pydantic_core import to_jsonable_python

from page4d_hf import Page4DConfig
from page4d_hf.errors import Page4DError
from page4d_hf.utils.folders import whole_file, working_folder
from page4d_hf.utils.json_files import Record, read_json
from page4d_hf.utils.programs import input_errors_end_the_program
from page4d_hf.weights.identity import fingerprint
from page4d_hf.weights.loading import load_config

if TYPE_CHECKING:
    from evaluator.studies.study_clips import Synthetic

ArmName = Literal["all", "middle", "middle-release", "middle-paper"]
MaskForm = Literal["release", "paper"]
ARMS: tuple[ArmName, ...] = get_args(ArmName)
PLAIN: ArmName = "middle"  # what the mask is compared with
MASK_FORMS: dict[str, MaskForm] = {"middle-release": "release", "middle-paper": "paper"}  # of the arms that have one
TITLES: dict[str, str] = {
    "trivial": "trivial",
    "base": "before",
    "all": "all layers",
    "middle": "middle layers",
    "middle-release": "middle layers and mask, as released",
    "middle-paper": "middle layers and mask, as in the paper",
}
COLUMNS = {
    "abs_rel": "Abs Rel ↓",
    "abs_rel_static": "static",
    "abs_rel_dynamic": "moving",
    "delta_1.25": "δ < 1.25 ↑",
    "ate": "ATE (m) ↓",
    "rpe_translation": "RPE (m) ↓",
    "rpe_rotation": "RPE (°) ↓",
    "point_error": "points (m) ↓",
    "motion_auroc": "AUROC ↑",
}
OF_THE_MASK = "motion_auroc"
IDENTITY, RESULT, TABLE = "ablation.json", "result.json", "table.md"


class Identity(Record):
    """What `ablation.json` holds."""

    base: str | None  # fingerprint of the weights


@dataclass
class Options:
    """Options of an ablation."""

    base: Path
    """The network that all start from: a folder for from_pretrained. Its mask, if it has one, must have no schedule and
    must not have been trained."""
    output: Path
    """Folder of the ablation: a run and a report for every arm and seed, result.json, table.md."""
    recipe: Path = REPOSITORY / "training" / "recipes" / "ablation.json"
    """Options of the further training. What is tuned, the mask's form and strength, and the seed are the arms' own."""
    arms: tuple[ArmName, ...] = ARMS
    """Which to run."""
    seeds: tuple[int, ...] = (1, 2, 3)
    """Seeds of the runs of each arm: which clips they see, and the first weights of a mask whose form the base does not
    have. A seed that the base was trained with would show it the same rooms again."""
    accelerate: Path | None = TWO_PROCESSES
    """Configuration for `accelerate launch`; None trains in a single process."""
    clips: int = 64
    """Held-out clips."""
    frames: int = 8
    """Frames of each held-out clip."""


def run_options(options: Options, recipe: RunOptions, base: Page4DConfig, arm: ArmName, seed: int) -> RunOptions:
    """The options of one run."""
    form = MASK_FORMS.get(arm)
    # A network without a mask has no strength to set to 0.
    strength = 1.0 if form is not None else 0.0 if base.mask_form is not None else None
    return replace(
        recipe,
        output=options.output / f"{arm}-{seed}",
        model=str(options.base),
        network=None,
        train=(ALL,) if arm == "all" else (*masked_layers(base), *[MASK_HEAD] * (form is not None)),
        mask_form=form,
        mask_strength=strength,
        # Said in any case where there is a mask: what is left open is as the base has it.
        mask_loss_weight=(recipe.mask_loss_weight or 0.0) if form is not None else 0.0 if base.mask_form else None,
        seed=seed,
    )


def run(options: Options) -> dict[str, Any]:
    """Train and try what is left to do, and write the table after each run.

    Returns:
        What result.json holds.
    """
    check_reports()
    base = load_config(options.base)
    check(options, base)
    recipe = from_json(options.recipe)
    with working_folder(options.output, IDENTITY):
        enter(options)
        return _run(options, recipe, base)


def _run(options: Options, recipe: RunOptions, base: Page4DConfig) -> dict[str, Any]:
    recipe = replace(recipe, sampling=sampling_for(recipe.sampling, base, options.base))
    clips = held_out_clips(recipe, options.clips, options.frames)
    reports: dict[str, dict[int, Report]] = {"base": {0: report(options, "base", options.base, clips)}}
    result: dict[str, Any] = {}
    # Seeds outside: what there is of a table half-way is of all arms.
    runs = [(seed, arm) for seed in options.seeds for arm in options.arms]
    for number, (seed, arm) in enumerate(runs, 1):
        print(f"Run {number} of {len(runs)}: {TITLES[arm]}, seed {seed}", flush=True)
        chosen = run_options(options, recipe, base, arm, seed)
        path = options.output / f"{arm}-{seed}.json"
        with whole_file(path, overwrite=True) as partial:
            partial.write_text(json.dumps(to_json(chosen), indent=2) + "\n", encoding="utf-8")
        train(path, options.accelerate)
        reports.setdefault(arm, {})[seed] = report(options, f"{arm}-{seed}", chosen.output, clips)
        result = gather(options, recipe, clips, reports)
        for name, text in ((RESULT, json.dumps(result, indent=1) + "\n"), (TABLE, markdown(result))):
            with whole_file(options.output / name, overwrite=True) as partial:
                partial.write_text(text, encoding="utf-8")
    return result


def check(options: Options, base: Page4DConfig) -> None:
    """Refuse what cannot be compared."""
    for name, values in (("arms", options.arms), ("seeds", options.seeds)):
        if not values or len(set(values)) < len(values):
            raise Page4DError(f"--{name} must name at least one, and none twice; got {', '.join(map(str, values))}.")
    if base.training.mask_hold_start is not None:
        raise Page4DError(
            f"The configuration of {options.base} has a schedule for the mask (mask_hold_start "
            f"{base.training.mask_hold_start}), and the ablation compares a mask that is on with one that is off "
            "throughout; set mask_hold_start and mask_hold_end to null there."
        )
    if base.mask_form is not None and (base.mask_strength > 0 or base.training.mask_loss_weight > 0):
        raise Page4DError(
            f"The mask of {options.base} was trained (mask_strength {base.mask_strength:g}, mask_loss_weight "
            f"{base.training.mask_loss_weight:g} in its configuration), and the ablation asks what a mask brings to a "
            "network that had none; start from one that was trained without, such as runs/tiny/3-still."
        )
    if not base.masked_layers or max(base.masked_layers) >= base.num_hidden_layers:
        raise Page4DError(
            f"The configuration of {options.base} names no middle layers (masked_layers {list(base.masked_layers)} of "
            f"{base.num_hidden_layers})."
        )


def enter(options: Options) -> None:
    """Begin the folder, or check that what lies in it is of this base: runs compare options, and no weights."""
    path, identity = options.output / IDENTITY, Identity(base=fingerprint(options.base))
    if path.is_file():
        found = read_json(path, Identity, error=Page4DError, remedy="name another --output")
        if found != identity:
            raise Page4DError(
                f"{options.output} holds an ablation of another base (weights {found.base}, those of "
                f"{options.base} are {identity.base}); name another --output."
            )
        return
    with whole_file(path) as partial:
        partial.write_text(identity.model_dump_json() + "\n", encoding="utf-8")


def report(options: Options, name: str, model: Path, clips: Synthetic) -> Report:
    """A model's report, made unless it is there already, of these weights and clips."""
    folder = options.output / "held-out" / name
    if (folder / REPORT).is_file():
        found = read_report(folder)
        if found.settings == to_jsonable_python(clips) and found.model.weights == fingerprint(model):
            return found
    # Without its mask, the base is what all begin with.
    return report_on_held_out(model, folder, clips, 0.0 if name == "base" else None)


# ---------------------------------------------------------------------------------------------------------------
# The table


def gather(
    options: Options, recipe: RunOptions, clips: Synthetic, reports: Mapping[str, Mapping[int, Report]]
) -> dict[str, Any]:
    """Means and spreads over the seeds that are through.

    Returns:
        `rows[arm][figure]`: `mean`, `spread` (standard deviation over seeds, where there are two or more), `values` by
        seed. `differences[arm][figure]`: the same of the differences to the middle layers without a mask, seed by seed,
        which saw the same clips. What decides them: `base`, `recipe`, `settings` and `protocol` of the clips.
    """
    rows: dict[str, dict[str, Any]] = {"trivial": {}}
    first = reports["base"][0]
    for name in COLUMNS:
        if name in first.means:
            rows["trivial"][name] = {"mean": first.means[name]["trivial"], "values": {}}
    differences: dict[str, dict[str, Any]] = {}
    for arm, by_seed in reports.items():
        rows[arm], differences[arm] = {}, {}
        for name in COLUMNS:
            if name == OF_THE_MASK and arm not in MASK_FORMS:
                continue  # a head that nothing has taught
            values = {seed: each.means[name]["model"] for seed, each in by_seed.items() if name in each.means}
            if values:
                rows[arm][name] = statistics(values)
            plain = {seed: each.means for seed, each in reports.get(PLAIN, {}).items()}
            paired = {s: value - plain[s][name]["model"] for s, value in values.items() if name in plain.get(s, {})}
            if paired and arm not in ("base", PLAIN) and name != OF_THE_MASK:
                differences[arm][name] = statistics(paired)
    return {
        "base": fingerprint(options.base),
        "seeds": list(options.seeds),
        "recipe": {
            n: v for n, v in to_json(recipe).items() if n not in ("output", "model", "network", "train", "seed")
        },
        "settings": to_jsonable_python(clips),
        "protocol": first.protocol,
        "rows": rows,
        "differences": {arm: figures for arm, figures in differences.items() if figures},
    }


def statistics(values: Mapping[int, float]) -> dict[str, Any]:
    """Mean and, of two or more, standard deviation."""
    numbers = list(values.values())
    spread = {"spread": stdev(numbers)} if len(numbers) > 1 else {}
    return {"mean": fmean(numbers), **spread, "values": {str(seed): value for seed, value in values.items()}}


def markdown(result: Mapping[str, Any]) -> str:
    """The tables, with what decides them underneath."""
    rows, differences, recipe = result["rows"], result["differences"], result["recipe"]
    columns = [name for name in COLUMNS if any(name in figures for figures in rows.values())]
    lines = [
        "# What is tuned, and does the mask help?",
        "",
        f"{recipe['max_train_steps']:,} steps from one network (weights {result['base']}), seeds "
        f"{', '.join(map(str, result['seeds']))}. Means over seeds ± their standard deviation.",
        "",
        _table(rows, columns, ".4g"),
        "",
    ]
    if differences:
        lines += [
            "Differences to the middle layers without a mask, seed by seed:",
            "",
            _table(differences, columns, "+.2g"),
            "",
        ]
    return "\n".join([*lines, f"Held-out clips: {json.dumps(result['settings'])}.", "", result["protocol"], ""])


def _table(rows: Mapping[str, Any], columns: Sequence[str], form: str) -> str:
    # Found once `finetuning` has been imported; in the order of the imports above it would come first.
    from evaluator.reporting.formats import markdown_table, spread

    body = []
    for arm, figures in rows.items():
        runs = max((len(figure["values"]) for figure in figures.values()), default=0)
        found = [figures.get(name, {}) for name in columns]
        cells = [spread(figure.get("mean"), form, figure.get("spread")) for figure in found]
        body.append([TITLES[arm], str(runs) if arm in ARMS else "", *cells])
    return markdown_table(["", "runs", *(COLUMNS[name] for name in columns)], body)


def main(arguments: list[str] | None = None) -> None:
    """Entry point: errors about the input are one sentence on stderr and exit code 1."""
    with input_errors_end_the_program("ablation", "the same command goes on from the newest checkpoint."):
        options = tyro.cli(Options, args=arguments, description=__doc__)
        run(options)
    print((options.output / TABLE).read_text(encoding="utf-8"))
    print(f"Wrote {options.output}.")


if __name__ == "__main__":
    main()
