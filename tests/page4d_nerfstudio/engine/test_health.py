"""Trainings that cannot go on: what is said, and what is kept."""

import re

import nerfstudio_training
import pytest
import torch
from small_captures import write_capture
from small_gaussians import make_model

from page4d_nerfstudio.engine.health import TrainingError, check_count, check_losses
from page4d_nerfstudio.gaussians.model import Page4DGaussiansModel

pytestmark = pytest.mark.usefixtures("fresh_nerfstudio")

SPOILED, REFINED_EVERY = 12, 5  # the step before which it is spoiled; saved as often as refined
NOTHING_SPLITS = ("--pipeline.model.densify-grad-thresh", 1e9)


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    return write_capture(tmp_path_factory.mktemp("health") / "capture")


@pytest.fixture
def train(capture, tmp_path, monkeypatch):
    """A function that trains with options, and gives the folder of its checkpoints."""
    monkeypatch.chdir(tmp_path)

    def run(*options, name="run"):
        words = (
            *("page4d-4dgs", "--data", capture, "--vis", "tensorboard", "--timestamp", name, "--schedule-length", 20),
            *("--steps-per-save", REFINED_EVERY, "--pipeline.model.refine-every", REFINED_EVERY, *options),
        )
        nerfstudio_training.train(*words)
        return tmp_path / "outputs/capture/page4d-4dgs" / name / "nerfstudio_models"

    return run


@pytest.fixture
def sentence(capsys):
    """A function that gives the sentence that a command has ended with."""

    def said():
        text = capsys.readouterr().out.split(" Error ")[1].strip("─\n ")
        first, _, rest = text.partition("\n")
        assert not rest or rest.strip().startswith("Printing profiling stats")
        return first

    return said


def spoil(monkeypatch, change):
    """Change a model in the middle of its training."""
    before_step = Page4DGaussiansModel.step_cb

    def step_cb(self, optimizers, step):
        before_step(self, optimizers, step)
        if step == SPOILED:
            with torch.no_grad():
                change(self)

    monkeypatch.setattr(Page4DGaussiansModel, "step_cb", step_cb)


CAN_NOT_GO_ON = {
    "NaN in all colours": (
        lambda model: model.features_dc.fill_(float("nan")),
        r"Parameters are not finite after step 15: features_dc of 200 of 200 Gaussians\.",
        "default",
    ),
    "an infinite weight of the field": (
        lambda model: model.deformation.head_parameters()[0].view(-1)[0].fill_(float("inf")),
        r"Parameters are not finite after step 15: .*values of deformation\.",
        "default",
    ),
    "NaN in a plane of the field": (
        lambda model: model.deformation.plane_parameters()[0].view(-1)[0].fill_(float("nan")),
        r"The loss is not finite at step 12: .* is nan.*; parameters that are not: 1 of \d+ values of deformation\.",
        "default",
    ),
    "NaN at all places": (
        lambda model: model.means.fill_(float("nan")),
        r"Parameters are not finite after step 15: means of (\d+) of \1 Gaussians\.",
        "mcmc",
    ),
    "all faint": (
        lambda model: model.opacities.fill_(-20.0),
        r"The scene has emptied: after step 15 all \d+ Gaussians are fainter than an opacity of 0\.005\.",
        "mcmc",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("cause", CAN_NOT_GO_ON)
def test_a_training_that_cannot_go_on_says_why_and_keeps_its_last_checkpoint(
    train, monkeypatch, sentence, cause, tmp_path
):
    change, message, strategy = CAN_NOT_GO_ON[cause]
    spoil(monkeypatch, change)
    with pytest.raises(SystemExit) as exit_info:
        # None is split before, so that what is said can name their number.
        train("--max-num-iterations", 20, "--pipeline.model.strategy", strategy, *NOTHING_SPLITS)
    assert exit_info.value.code == 1
    said = sentence()
    assert re.search(message, said)
    assert "The checkpoint of step 10 is kept, in " in said
    (checkpoint,) = tmp_path.rglob("*.ckpt")
    state = torch.load(checkpoint, weights_only=True)
    assert state["step"] == 10
    assert all(value.isfinite().all() for value in state["pipeline"].values() if isinstance(value, torch.Tensor))


@pytest.mark.slow
def test_a_few_broken_gaussians_are_removed_and_the_training_goes_on(train, monkeypatch):
    def break_two(model):
        model.means[:2] = float("nan")

    spoil(monkeypatch, break_two)
    (checkpoint,) = train("--max-num-iterations", 16, "--schedule-length", 40, *NOTHING_SPLITS).iterdir()
    state = torch.load(checkpoint, weights_only=True)
    assert len(state["pipeline"]["_model.gauss_params.means"]) == 198


WRONG_CHECKPOINTS = {
    "no folder": (lambda folder: folder / "nowhere", (), "There is no checkpoint in --load-dir .*nowhere"),
    "no such step": (lambda folder: folder, ("--load-step", 7), r"There is no checkpoint of step 7 in .*; it has: 5\."),
    "half a file": (
        lambda folder: half(folder / "step-000000005.ckpt"),
        (),
        r"step-000000005\.ckpt is broken",
    ),
    "not a checkpoint": (
        lambda folder: torch.save({"weights": 1}, folder / "step-000000005.ckpt") or folder,
        (),
        r"step-000000005\.ckpt is not a whole checkpoint of such a training",
    ),
    "no random states": (
        lambda folder: without_random_states(folder / "step-000000005.ckpt"),
        (),
        "The checkpoint holds no RNG and sampler state",
    ),
    "another model": (
        lambda folder: folder,
        ("--pipeline.model.sh-degree", 1, "--pipeline.model.deformation.multires", 1, 2),
        r"was trained with --pipeline\.model\.sh-degree 3 --pipeline\.model\.deformation\.multires 1 2 4: repeat that",
    ),
    "more Gaussians than the cap": (
        lambda folder: folder,
        ("--pipeline.model.max-gaussians", 50),
        r"There are 200 Gaussians at step 5, more than --pipeline\.model\.max-gaussians 50 allows",
    ),
}


def half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path.parent


def without_random_states(path):
    state = torch.load(path, weights_only=True)
    del state["pipeline"]["_extra_state"]
    torch.save(state, path)
    return path.parent


@pytest.fixture(scope="module")
def trained(capture, tmp_path_factory):
    """The checkpoint of a training of 6 steps."""
    words = ("page4d-4dgs", "--data", capture, "--vis", "tensorboard", "--max-num-iterations", 6)
    words += ("--output-dir", tmp_path_factory.mktemp("trained"), "--timestamp", "run")
    return nerfstudio_training.train(*words).get_checkpoint_dir() / "step-000000005.ckpt"


@pytest.mark.slow
@pytest.mark.parametrize("wrong", WRONG_CHECKPOINTS)
def test_what_a_training_cannot_resume_from_is_named(train, trained, sentence, wrong, tmp_path):
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved/step-000000005.ckpt").write_bytes(trained.read_bytes())
    spoil, options, message = WRONG_CHECKPOINTS[wrong]
    with pytest.raises(SystemExit) as exit_info:
        train("--max-num-iterations", 2, "--load-dir", spoil(tmp_path / "saved"), *options)
    assert exit_info.value.code == 1
    assert re.search(message, sentence())


@pytest.mark.slow
def test_other_files_beside_checkpoints_are_left_aside(train, trained, tmp_path):
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved/step-000000005.ckpt").write_bytes(trained.read_bytes())
    (tmp_path / "saved/.notes").touch()
    (tmp_path / "saved/step-000000009.ckpt.partial").touch()
    (checkpoint,) = train("--max-num-iterations", 2, "--load-dir", tmp_path / "saved").iterdir()
    assert checkpoint.name == "step-000000007.ckpt"


# --- the checks themselves


def test_each_term_of_the_loss_that_is_not_finite_is_named():
    losses = {"one": torch.tensor(1.0), "two": torch.tensor(float("nan")), "three": torch.tensor(float("inf"))}
    with pytest.raises(TrainingError, match=r"at step 3: two is nan, three is inf, though all parameters are\."):
        check_losses(losses, make_model(), 3)


def test_no_gaussians_are_an_empty_scene():
    model = make_model()
    model.gauss_params["means"] = torch.nn.Parameter(model.means[:0])
    with pytest.raises(TrainingError, match="after step 3 no Gaussian is left"):
        check_count(model, 3)
