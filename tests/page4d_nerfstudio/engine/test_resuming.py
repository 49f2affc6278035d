"""Trainings that are killed, and what goes on from what they left."""

import random
import signal
import time

import pytest
import torch
from small_captures import write_capture

pytestmark = pytest.mark.slow

# A whole training in small: static and fine stage, growth, cameras that are refined, two views a step.
LENGTH, SAVED_EVERY = 60, 8
OPTIONS = (
    *("--schedule-length", LENGTH, "--steps-per-save", SAVED_EVERY, "--vis", "tensorboard", "--data", "capture"),
    *("--pipeline.views-per-step", 2, "--pipeline.model.camera-optimizer.mode", "SO3xR3"),
    *("--pipeline.model.refine-every", 4, "--pipeline.model.max-gaussians", 400),
    *("--pipeline.model.densify-grad-thresh", 1e-7, "--pipeline.model.background-color", "random"),
)
FOR_EVER = 100_000


def checkpoints(workplace, name):
    return workplace / "outputs/capture/page4d-4dgs" / name / "nerfstudio_models"


def words(name, steps, *more):
    return ("ns-train", "page4d-4dgs", *OPTIONS, "--max-num-iterations", steps, "--timestamp", name, *more)


def saved(workplace, name):
    """The latest checkpoint of a run."""
    return torch.load(sorted(checkpoints(workplace, name).iterdir())[-1], weights_only=True)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed")
    write_capture(folder / "capture", masks=True)
    return folder


@pytest.fixture(scope="module")
def train(forking_python, workplace):
    """A function from a run's name, steps and options to the exit code of its training, which code may go before."""

    def run(name, steps, *more, after=""):
        program, *options = words(name, steps, *more)
        code = f"{after}\nfrom nerfstudio.scripts.train import entrypoint\nentrypoint()"
        first = ("python", "-c", code) if after else (program,)
        return forking_python.run(*first, *options, cwd=workplace, log=workplace / f"{name}.log")

    return run


def dies_in_save(number):
    """Code that lets the `number`-th checkpoint come half to the disk, and then kills the process."""
    return f"""
import itertools, os, signal, torch
whole, count = torch.save, itertools.count(1)

def save(state, path, *args, **options):
    whole(state, path, *args, **options)
    if next(count) == {number}:
        os.truncate(path, os.path.getsize(path) // 2)
        os.kill(os.getpid(), signal.SIGKILL)

torch.save = save
"""


FULL_DISK = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
"""


def kill_some_time_after_a_checkpoint(python, workplace, name, *more):
    """Start a training, and end it by SIGKILL at a random moment."""
    process = python.start(*words(name, FOR_EVER, *more), cwd=workplace, log=workplace / f"{name}.log")
    while not list(checkpoints(workplace, name).glob("*.ckpt")):
        assert process.poll() is None, (workplace / f"{name}.log").read_text()
        time.sleep(0.01)
    time.sleep(random.SystemRandom().random())
    return python.kill(process)


def equal(ours, theirs):
    """Whether two checkpoints hold the same, digit for digit."""
    if isinstance(ours, torch.Tensor):
        return torch.equal(ours, theirs)
    if isinstance(ours, dict):
        return ours.keys() == theirs.keys() and all(equal(ours[name], theirs[name]) for name in ours)
    if isinstance(ours, list | tuple):
        return len(ours) == len(theirs) and all(map(equal, ours, theirs))
    return ours == theirs


@pytest.mark.parametrize("strategy", ["default", "mcmc"])
def test_what_was_killed_at_any_moment_goes_on_exactly_as_if_it_had_not_been(
    workplace, forking_python, train, strategy
):
    name, option = f"{strategy}-killed", ("--pipeline.model.strategy", strategy)
    assert kill_some_time_after_a_checkpoint(forking_python, workplace, name, *option) == -signal.SIGKILL
    left = saved(workplace, name)
    step, more = left["step"], 9
    assert train(f"{strategy}-on", more, "--load-dir", checkpoints(workplace, name), *option) == 0
    assert train(f"{strategy}-never-killed", step + 1 + more, *option) == 0
    resumed, never_killed = (saved(workplace, f"{strategy}-{end}") for end in ("on", "never-killed"))
    assert resumed["step"] == step + more
    assert equal(resumed, never_killed)
    # And that is of all that there is.
    count = len(left["pipeline"]["_model.gauss_params.means"])
    assert count > 200  # it has grown
    assert len(left["pipeline"]["_model._extra_state"]["strategy"]["in_motion"]) == count
    assert left["optimizers"]["means"]["state"][0]["exp_avg_sq"].shape == (count, 3)
    assert {"planes", "heads", "camera_opt"} <= set(left["optimizers"])
    assert left["pipeline"]["_model.camera_optimizer.pose_adjustment"].abs().max() > 0


def test_killed_while_it_writes_a_checkpoint_a_training_has_the_one_before(workplace, train):
    assert train("in-the-third-save", FOR_EVER, after=dies_in_save(3)) == -signal.SIGKILL
    assert [path.name for path in checkpoints(workplace, "in-the-third-save").iterdir()] == ["step-000000016.ckpt"]
    assert saved(workplace, "in-the-third-save")["step"] == 16


def test_killed_while_it_writes_its_first_checkpoint_a_training_has_none(workplace, train):
    assert train("in-the-first-save", FOR_EVER, after=dies_in_save(1)) == -signal.SIGKILL
    assert not checkpoints(workplace, "in-the-first-save").exists()


def test_a_full_disk_ends_the_training_in_one_sentence_and_leaves_no_half_checkpoint(workplace, train):
    assert train("full-disk", FOR_EVER, after=FULL_DISK) == 1
    said = (workplace / "full-disk.log").read_text()
    assert "The checkpoint of step 8 can't be written" in said
    assert "There is no checkpoint yet" in said
    assert "Traceback" not in said
    assert not list((workplace / "outputs/capture/page4d-4dgs/full-disk").rglob("*.ckpt"))
