"""page4d-tiny trained on, with more frames and larger batches than two CPU cores can, for what time is left.

Its options are those of the last stage of training/recipes/tiny, but for what `CHANGES` says. The length is chosen for
the time: a short run comes first, which tells how long a step takes and how good the model is before it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from page4d_hf.weights.shipped import TINY

from .session import Session

REPOSITORY = Path(__file__).resolve().parents[2]
RECIPE = REPOSITORY / "training" / "recipes" / "tiny" / "5-fine.json"
CHANGES: dict[str, Any] = {
    "gradient_accumulation_steps": 1,
    "mixed_precision": "bf16",
    "checkpointing_steps": 100_000,
    "report_to": [],
    "seed": 50,
    "sampling": {"frames_max": 12, "frame_budget": 192},
    "learning_rate": 2e-4,
    "mask_head": {"learning_rate": 2e-4},
}
TOY_CHANGES: dict[str, Any] = CHANGES | {
    "mixed_precision": "no",
    "sampling": {"frames_max": 2, "frame_budget": 2, "width": 56},
    "evaluation": {"micro_batches": 1, "frames": 2},
}
MOST_WORKERS = 12
PROBE_STEPS, LEAST_STEPS = 20, 100
SLACK = 1.25  # times as long as expected; a training that is killed leaves nothing
START_SECONDS = 40.0  # of a training: imports, held-out clips before and after, writing the model
HELD_OUT = {
    "loss": "loss",
    "abs_rel": "depth Abs Rel",
    "trivial/abs_rel": "median depth's",
    "ate": "ATE",
    "trivial/ate": "still camera's",
    "rotation_error": "rotation, degrees",
    "motion_auroc": "motion AUROC",
}
WEIGHTS = ("model.safetensors", "config.json", "preprocessor_config.json")


def run(session: Session) -> None:
    before = session.row("before")
    if before is None:
        session.needs(0 if session.toy else 2 * START_SECONDS, "a short training to find the speed")
        # So small a rate leaves the weights as they were: what is evaluated is the model that comes with the package.
        before = train(session, "probe", 1 if session.toy else PROBE_STEPS, rate=1e-12)
        session.add("before", **before)
    seconds = SLACK * before["seconds per step"]
    steps = 2 if session.toy else int((session.seconds_left() - START_SECONDS) / seconds)
    if not session.toy:
        session.needs(START_SECONDS + LEAST_STEPS * seconds, f"a training of at least {LEAST_STEPS} steps")
    session.add("after", **train(session, f"stage-{steps}", steps))
    for name in WEIGHTS:
        shutil.copyfile(session.folder / f"stage-{steps}" / name, Path(session.output) / f"tiny-{name}")


def train(session: Session, name: str, steps: int, rate: float | None = None) -> dict[str, Any]:
    """Train page4d-tiny by training/finetune.py; its figures on held-out clips, and how long a step took.

    Raises:
        SystemExit: the training did not come to its end, and has said why.
    """
    output = session.folder / name
    shutil.rmtree(output, ignore_errors=True)  # of a run that was cut short, whose length was another
    options = options_for(output, steps, session, rate)
    file = session.folder / f"{name}.json"
    file.write_text(json.dumps(options, indent=2), encoding="utf-8")
    command = [sys.executable, str(REPOSITORY / "training" / "finetune.py"), "--options", str(file)]
    if subprocess.run(command, check=False, cwd=REPOSITORY).returncode:
        sys.exit(1)  # what it said last is what the results say
    history = [json.loads(line) for line in (output / "history.jsonl").read_text("utf-8").splitlines()]
    seconds = sorted(entry["seconds"] for entry in history if "seconds" in entry)
    return {
        "steps": steps,
        "seconds per step": seconds[len(seconds) // 2],
        "frames per second": sum(entry.get("frames", 0) for entry in history) / sum(seconds),
        **held_out_figures(history),
    }


def held_out_figures(history: list[dict[str, Any]]) -> dict[str, float]:
    """Figures of the last evaluation of a training, the trivial predictors' beside them."""
    figures = [entry["held_out"] for entry in history if "held_out" in entry][-1]
    return {title: figures.get(name) for name, title in HELD_OUT.items()}


def options_for(output: Path, steps: int, session: Session, rate: float | None) -> dict[str, Any]:
    """The recipe's options, changed; nested ones key by key."""
    options = json.loads(RECIPE.read_text("utf-8"))
    for key, value in (TOY_CHANGES if session.toy else CHANGES).items():
        options[key] = options[key] | value if isinstance(value, dict) else value
    # A core makes some 130 frames of this size a second; two cores stay for the training itself.
    workers = 0 if session.toy else min(MOST_WORKERS, max(1, (os.cpu_count() or 1) - 2))
    options |= {"output": str(output), "model": str(TINY), "max_train_steps": steps, "dataloader_num_workers": workers}
    options["evaluation"] |= {"steps": steps}
    for group in (options, options["mask_head"]) if rate is not None else ():
        group |= {"learning_rate": rate, "warmup_lr": rate, "min_lr": rate}
    return options
