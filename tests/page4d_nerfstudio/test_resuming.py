"""Trainings that are killed, and what goes on from what they left."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small_captures import write_capture

PROGRAM = Path(__file__).parent / "killed_trainings.py"

# A whole training in small: static and fine stage, growth, cameras that are refined, two views a step.
LENGTH, SAVED_EVERY = 60, 8
OPTIONS = (
    *("--schedule-length", LENGTH, "--steps-per-save", SAVED_EVERY, "--vis", "tensorboard", "--data", "capture"),
    *("--pipeline.views-per-step", 2, "--pipeline.model.camera-optimizer.mode", "SO3xR3"),
    *("--pipeline.model.refine-every", 4, "--pipeline.model.max-gaussians", 400),
    *("--pipeline.model.densify-grad-thresh", 1e-7, "--pipeline.model.background-color", "random"),
)
STRATEGIES = ("default", "mcmc")
FOR_EVER = 100_000


def checkpoints(workplace, name):
    return workplace / "outputs/capture/page4d-4dgs" / name / "nerfstudio_models"


def job(workplace, name, steps, *words, **how):
    words = ("page4d-4dgs", *OPTIONS, "--max-num-iterations", steps, "--timestamp", name, *words)
    place = {"log": str(workplace / f"{name}.log"), "checkpoints": str(checkpoints(workplace, name))}
    return {"words": [str(word) for word in words], **place, **how}


def saved(workplace, name):
    """The latest checkpoint of a run."""
    return torch.load(sorted(checkpoints(workplace, name).iterdir())[-1], weights_only=True)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed")
    write_capture(folder / "capture", masks=True)
    return folder


@pytest.fixture(scope="module")
def run(workplace):
    """A function from trainings to their exit codes: one after the other, each in a process of its own, one thread."""
    program = subprocess.Popen(
        [sys.executable, "-W", "ignore", str(PROGRAM)],
        cwd=workplace,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def code_of(training):
        program.stdin.write(json.dumps(training) + "\n")
        program.stdin.flush()
        return int(program.stdout.readline())

    yield lambda *trainings: [code_of(training) for training in trainings]
    program.kill()
    program.communicate()


@pytest.fixture(scope="module")
def killed(workplace, run):
    """Trainings that have ended before their time: at a random moment, while writing, and on a full disk."""
    moments = random.Random()
    jobs = {
        f"{strategy}-at-some-time": {"words": ("--pipeline.model.strategy", strategy), "kill_after": moments.random()}
        for strategy in STRATEGIES
    } | {
        "in-the-third-save": {"kill_in_save": 3},
        "in-the-first-save": {"kill_in_save": 1},
        "full-disk": {"largest_file": 20_000},
    }
    codes = run(*(job(workplace, name, FOR_EVER, *how.pop("words", ()), **how) for name, how in jobs.items()))
    return dict(zip(jobs, codes, strict=True))


def equal(ours, theirs):
    """Whether two checkpoints hold the same, digit for digit."""
    if isinstance(ours, torch.Tensor):
        return torch.equal(ours, theirs)
    if isinstance(ours, dict):
        return ours.keys() == theirs.keys() and all(equal(ours[name], theirs[name]) for name in ours)
    if isinstance(ours, list | tuple):
        return len(ours) == len(theirs) and all(map(equal, ours, theirs))
    return ours == theirs


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_what_was_killed_at_any_moment_goes_on_exactly_as_if_it_had_not_been(workplace, run, killed, strategy):
    name = f"{strategy}-at-some-time"
    assert killed[name] == -9
    left = saved(workplace, name)
    step, more = left["step"], 9
    words = ("--pipeline.model.strategy", strategy)
    codes = run(
        job(workplace, f"{strategy}-on", more, "--load-dir", checkpoints(workplace, name), *words),
        job(workplace, f"{strategy}-never-killed", step + 1 + more, *words),
    )
    assert codes == [0, 0]
    resumed, never_killed = (saved(workplace, f"{strategy}-{end}") for end in ("on", "never-killed"))
    assert resumed["step"] == step + more
    assert equal(resumed, never_killed)


def test_the_comparison_above_is_of_all_that_a_training_has(workplace, killed):
    state = saved(workplace, "default-at-some-time")
    count = len(state["pipeline"]["_model.gauss_params.means"])
    assert count > 200  # it has grown
    assert len(state["pipeline"]["_model._extra_state"]["strategy"]["dynamic"]) == count
    assert state["optimizers"]["means"]["state"][0]["exp_avg_sq"].shape == (count, 3)
    assert {"planes", "heads", "camera_opt"} <= set(state["optimizers"])
    assert state["pipeline"]["_model.camera_optimizer.pose_adjustment"].abs().max() > 0


def test_killed_while_it_writes_a_checkpoint_a_training_has_the_one_before(workplace, killed):
    assert killed["in-the-third-save"] == -9
    assert [path.name for path in checkpoints(workplace, "in-the-third-save").iterdir()] == ["step-000000016.ckpt"]
    assert saved(workplace, "in-the-third-save")["step"] == 16


def test_killed_while_it_writes_its_first_checkpoint_a_training_has_none(workplace, killed):
    assert killed["in-the-first-save"] == -9
    assert not checkpoints(workplace, "in-the-first-save").exists()


def test_a_full_disk_ends_the_training_in_one_sentence_and_leaves_no_half_checkpoint(workplace, killed):
    assert killed["full-disk"] == 1
    said = (workplace / "full-disk.log").read_text()
    assert "The checkpoint of step 8 can't be written" in said
    assert "There is no checkpoint yet" in said
    assert "Traceback" not in said
    assert not list((workplace / "outputs/capture/page4d-4dgs/full-disk").rglob("*.ckpt"))
