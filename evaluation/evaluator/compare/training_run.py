"""One training of a comparison, in nerfstudio's own layout of folders, done by nerfstudio's own commands.

    <output>/<variant>/<method>/seed-<n>/
        settings.json       what the run was told; written first, so that what is deleted is known to be ours
        train.log           all that ns-train said
        config.yml          nerfstudio's, as are its checkpoints beside
        trained.json        how long the training took; written when it has ended well
        eval.log, eval.json ns-eval's
        run.json            the result: a run that has it is finished, and never run again

Each command is a process of its own: whatever ends it, the other runs go on. A run that was killed starts anew, so that
its time and its random numbers are those of a whole one; only a finished training is not trained again.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sysconfig
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AllowInfNan

from page4d_hf.errors import Page4DError
from page4d_hf.utils.folders import whole_file
from page4d_hf.utils.json_files import Record, read_json
from page4d_hf.utils.programs import install_command

from .variants import Variant

NEVER = str(10**9)  # steps between evaluations during the training, whose time would count as the training's
POLL_SECONDS = 0.5
LAST_LINES = 64 << 10  # bytes at a log's end, in which its last words are
STEP_LINE = re.compile(rb"^\s*(\d+) \(\d+\.\d+%\)", re.MULTILINE)  # of nerfstudio's local writer
ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
PROFILE = "Printing profiling stats, from longest to shortest duration in seconds"  # what ns-train ends with


# A figure of quality may be infinite, of a render that is exact, or NaN.
Figure = Annotated[float, AllowInfNan(True)]


@dataclass
class Result:
    """What came out of one run, or why nothing did."""

    variant: Variant
    seed: int
    status: Literal["done", "refused", "failed"]
    reason: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)  # ns-eval's, as they are
    seconds: float | None = None  # of ns-train, from its start to its end
    steps_per_second: float | None = None
    gaussians: int | None = None
    static_share: float | None = None  # of the Gaussians; None where nothing is deformed
    facts: Mapping[str, Any] = field(default_factory=dict)  # of the data, see `variant_data.Facts`


class _Trained(Record):
    """`trained.json`."""

    seconds: float
    steps_per_second: float | None


class _Evaluated(Record):
    """What is read of ns-eval's `eval.json`."""

    results: dict[str, Figure]


class _Done(Record):
    """`run.json`, which becomes a `Result`."""

    figures: dict[str, Figure]
    seconds: float
    steps_per_second: float | None
    gaussians: int | None
    static_share: float | None
    facts: dict[str, Any]


class RunFailed(Exception):
    """A command that ended badly; the message says how, and where its log is."""


class TrainingRun:
    """One variant with one seed."""

    def __init__(self, output: Path, variant: Variant, seed: int, steps: int) -> None:
        self.variant = variant
        self.seed = seed
        # What makes the run the run that it is, as it is read back.
        self.settings: dict[str, Any] = {
            "data": str(variant.data),
            "method": variant.method,
            "seed": seed,
            "steps": steps,
            "training_options": list(variant.training_options),
            "data_options": list(variant.data_options),
        }
        self._output = output
        self.folder = output / variant.name / variant.method / f"seed-{seed}"

    def finished(self) -> Result | None:
        """The result of the run, if it has been done."""
        if not self.folder.exists() or not any(self.folder.iterdir()):
            return None
        if not (self.folder / "settings.json").is_file():
            raise Page4DError(f"{self.folder} holds something else than a run of a comparison; name another --output.")
        told = _read(self.folder / "settings.json", dict[str, Any])
        for name, value in self.settings.items():
            if told.get(name) != value:
                raise Page4DError(
                    f"{self.folder} holds a run with other settings ({name.replace('_', ' ')}: {_words(told.get(name))}"
                    f", now {_words(value)}); name another --output."
                )
        if not (self.folder / "run.json").is_file():
            return None
        record = _read(self.folder / "run.json", _Done)
        return Result(self.variant, self.seed, "done", **record.model_dump())

    def execute(self, facts: Mapping[str, Any], at_step: Callable[[int], None], inherit: tuple[int, ...]) -> Result:
        """Train and evaluate. `facts` are kept with the result; the commands keep the file descriptors of `inherit`
        open.

        Raises:
            RunFailed: one of the commands ended badly.
        """
        if (self.folder / "trained.json").is_file():
            trained = _read(self.folder / "trained.json", _Trained).model_dump()
        else:
            self._remove()  # of a run that was killed; see `finished`
            self.folder.mkdir(parents=True)
            _write_json(self.folder / "settings.json", self.settings)
            started = time.monotonic()
            reached: dict[int, float] = {}  # when each step was first seen

            def passed(step: int) -> None:
                reached.setdefault(step, time.monotonic())
                at_step(step)

            self._command(self.train_words(), "train.log", inherit, passed)
            trained = {"seconds": time.monotonic() - started, "steps_per_second": steps_per_second(reached)}
            self._checkpoint()
            _write_json(self.folder / "trained.json", trained)
        evaluation = self.folder / "eval.json"
        config = self.folder / "config.yml"
        words = ["ns-eval", "--load-config", str(config), "--output-path", str(evaluation)]
        # nerfstudio's own methods save NumPy's numbers, which PyTorch takes for programs; this run has made the file.
        trusted = {} if self.variant.method.startswith("page4d-") else {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}
        self._command(words, "eval.log", inherit, more=trusted)
        record = {
            "figures": _read(evaluation, _Evaluated).results,
            **trained,
            **gaussians_in(self._checkpoint()),
            "facts": dict(facts),
        }
        _write_json(self.folder / "run.json", record)
        return Result(self.variant, self.seed, "done", **record)

    def _remove(self) -> None:
        """Remove the folder, by a name that the next start sweeps away: half of one would be nobody's."""
        stale = self.folder.with_name(f".{self.folder.name}.partial-removed")
        shutil.rmtree(stale, ignore_errors=True)
        if self.folder.exists():
            self.folder.rename(stale)
            shutil.rmtree(stale, ignore_errors=True)

    def train_words(self) -> list[str]:
        """The training, as it would be typed."""
        variant, settings = self.variant, self.settings
        return [
            *("ns-train", variant.method, "--data", settings["data"], "--vis", "tensorboard"),
            *("--max-num-iterations", str(settings["steps"]), "--machine.seed", str(self.seed)),
            *("--output-dir", str(self._output), "--experiment-name", variant.name),
            *("--timestamp", self.folder.name, "--logging.local-writer.max-log-size", "0"),
            *("--steps-per-eval-image", NEVER, "--steps-per-eval-all-images", NEVER),
            *variant.training_options,
            *("page4d-data", *variant.data_options),
        ]

    def _command(
        self,
        words: list[str],
        log: str,
        inherit: tuple[int, ...],
        at_step: Callable[[int], None] | None = None,
        more: Mapping[str, str] | None = None,
    ) -> None:
        """Run a command to its end, its output into a file, with `more` in its environment."""
        path = self.folder / log
        environment = os.environ | {"COLUMNS": "300", "PYTHONUNBUFFERED": "1", **(more or {})}
        with open(path, "wb") as file:
            file.write(f"{shlex.join(words)}\n".encode())
            file.flush()
            process = subprocess.Popen(
                [program(words[0]), *words[1:]],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=environment,
                pass_fds=inherit,
            )
            try:
                while True:
                    try:
                        code = process.wait(POLL_SECONDS)
                        break
                    except subprocess.TimeoutExpired:
                        steps = STEP_LINE.findall(_end_of(path)) if at_step is not None else []
                        if steps and at_step is not None:
                            at_step(int(steps[-1]))
            finally:
                if process.poll() is None:
                    process.kill()  # this program is being ended
                    process.wait()
        if code != 0:
            how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            raise RunFailed(f"{words[0]} {how}: {_last_words(path)} (all of it: {path})")

    def _checkpoint(self) -> Path:
        checkpoints = sorted((self.folder / "nerfstudio_models").glob("step-*.ckpt"))
        if not checkpoints:
            raise RunFailed(f"ns-train left no checkpoint in {self.folder}; see {self.folder / 'train.log'}")
        return checkpoints[-1]


def steps_per_second(reached: Mapping[int, float]) -> float | None:
    """Steps per second between the first and the last of some steps, by when each was reached."""
    first, last = min(reached, default=0), max(reached, default=0)
    return (last - first) / (reached[last] - reached[first]) if last > first else None


def gaussians_in(checkpoint: Path) -> dict[str, Any]:
    """How many Gaussians a checkpoint of nerfstudio's holds, and which share of them never moves.

    Returns:
        `gaussians`, None for a model that has none; `static_share`, None where there is no deformation.
    """
    from page4d_nerfstudio.checkpoints import read_checkpoint

    state = read_checkpoint(checkpoint, mmap=True)["pipeline"]
    means = state.get("_model.gauss_params.means")
    share = None
    if any(name.startswith("_model.deformation.") for name in state):
        flags = state.get("_model._extra_state", {}).get("strategy", {}).get("in_motion")
        share = None if flags is None or not len(flags) else 1.0 - float(flags.double().mean())
    return {"gaussians": None if means is None else len(means), "static_share": share}


def program(name: str) -> str:
    """The path of one of nerfstudio's commands: the one of this Python's environment, else the one on PATH."""
    path = os.pathsep.join((sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)))
    found = shutil.which(name, path=path)
    if found is None:
        raise Page4DError(f"There is no program {name}; `{install_command('nerfstudio')}` brings it.")
    return found


def _last_words(log: Path) -> str:
    lines = ESCAPES.sub("", _end_of(log).decode("utf8", "replace")).splitlines()
    said = [line.strip() for line in lines[1:] if line.strip(" ─-│╭╰╮╯")]
    if PROFILE in said:
        said = said[: said.index(PROFILE)]
    return said[-1] if said else "it said nothing"


def _end_of(path: Path) -> bytes:
    with open(path, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - LAST_LINES))
        return file.read()


def _read(path: Path, schema: Any) -> Any:
    return read_json(path, schema, error=Page4DError, remedy=f"remove the folder {path.parent} to run it again")


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    with whole_file(path, overwrite=True) as partial:
        partial.write_text(json.dumps(content, indent=2), "utf8")


def _words(value: Any) -> str:
    return shlex.join(value) if isinstance(value, list) else str(value)
