"""Everything that waits for a GPU, in order of worth, within a given time.

    python benchmarks/gpu.py --output gpu --minutes 9 --data hand-on-shelf
    python benchmarks/gpu.py --output gpu --minutes 9 --bundle .gpu   # where nothing can be downloaded
    python benchmarks/gpu.py --output gpu-toy --toy                   # all of it in small, on a CPU

Each phase is a process of its own and leaves every figure as soon as it is known, so that whatever ends the run, what
was measured is there: results.md, results.json, log.txt. The same command goes on with what is missing; finished phases
are not run again. A phase that would overrun the time is cut short or left out, and the results say so.

    machine     what it is, and its speed of matrix products
    network     the full-size network with random weights, beside VGGT's published figures
    rasterizer  tests that are marked `gpu`; gsplat beside our CPU rasteriser on the same Gaussians
    splatting   page4d-4dgs and page4d-4dgs-original on a capture
    finetuning  a step of the full-size network's fine-tuning
    tiny        page4d-tiny trained on, for what time is left

gsplat compiles its kernels meanwhile; a phase that needs them waits, and a later one goes ahead.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib import import_module
from pathlib import Path

# Nothing but the standard library is imported here: on a bare machine all else is yet to be installed, and takes long.
REPOSITORY = Path(__file__).resolve().parents[1]
sys.path += [str(REPOSITORY / folder) for folder in (".", "training", "evaluation")]

from gpu_phases.report import markdown  # noqa: E402
from gpu_phases.session import OutOfTime, Session, add_rows, rows_of  # noqa: E402

POLL_SECONDS = 0.2
RESERVE_SECONDS = 5.0  # to write the results and end
PATIENCE_OF_TOYS = 4  # times as long as a phase may take on a GPU
LARGEST_KEPT = 16 << 20  # bytes of a file that is copied to --keep
LOG_KEPT = 4 << 20  # bytes of the end of each phase's log
DONE, CUT, LEFT_OUT, FAILED = "done", "cut short", "left out", "failed"


class RunError(Exception):
    """What keeps a run from its phases; the message says what to do."""


@dataclass(frozen=True)
class Phase:
    """A phase: what it may take of the time, and what it waits for."""

    name: str
    title: str
    about: str
    least: float  # minutes below which it is not begun
    most: float  # minutes at which it is cut short
    needs_kernels: bool = False


PHASES = (
    Phase("machine", "The machine", "Versions, and the median of ten products of 8192 x 8192 matrices.", 0.3, 1),
    Phase(
        "network",
        "The network",
        "Random weights, bfloat16 but for the heads; frames x height x width. VGGT's figures are those of its README: "
        "its aggregator alone, on an H100 with flash attention 3; the paper's images are 336 x 518.",
        0.5,
        2.5,
    ),
    Phase(
        "rasterizer",
        "The rasteriser",
        "Tests marked `gpu`; then the CPU and CUDA on the same Gaussians, differences from the first of each size.",
        0.5,
        2.5,
        needs_kernels=True,
    ),
    Phase("splatting", "4D Gaussian splatting", "Held-out views of a capture.", 1, 5, needs_kernels=True),
    Phase("finetuning", "Fine-tuning", "A step on one clip of 294 x 518: the masked layers and the mask head.", 0.7, 2),
    Phase("tiny", "page4d-tiny", "Its next stage of training; figures are of held-out synthetic clips.", 1.5, 60),
)
KERNELS = Phase("kernels", "gsplat's kernels", "Compiled beside the other phases.", 0, 60)
EVERYTHING = (KERNELS, *PHASES)


@dataclass
class State:
    """What is known of a phase."""

    status: str
    reason: str = ""
    seconds: float | None = None


@dataclass
class Run:
    """A run of all phases, or of what is left of them."""

    options: argparse.Namespace
    commit: str
    states: dict[str, State] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))

    @property
    def output(self) -> Path:
        return self.options.output

    def read(self) -> None:
        """Take over what an earlier run has finished.

        Raises:
            RunError: the folder holds something else, or figures of other code.
        """
        path = self.output / "results.json"
        if not path.is_file():
            if any(self.output.iterdir()):
                raise RunError(f"{self.output} holds something else than such a run; name another --output.")
            if self.options.bundle is None or not (self.options.bundle / path.name).is_file():
                return
            path = self.options.bundle / path.name  # of an earlier machine
        earlier = json.loads(path.read_text("utf-8"))
        for name, now in (("commit", self.commit), ("toy", self.options.toy)):
            if earlier[name] != now:
                others = f"{path.parent} holds figures of another run ({name} {earlier[name]}, now {now})"
                if path.parent == self.output:
                    raise RunError(f"{others}; name another --output.")
                print(f"{others}; they are left aside.", flush=True)
                return
        for phase in earlier["phases"]:
            self.states[phase["name"]] = State(phase["status"], phase["reason"], phase["seconds"])
            if not rows_of(self.output, phase["name"]):
                add_rows(self.output, phase["name"], phase["rows"])

    def write(self) -> None:
        """Write the results as they are now, and copy to --keep what is worth it."""
        phases = []
        for phase in EVERYTHING:
            state = self.states.get(phase.name)
            if state is not None:
                about = {"name": phase.name, "title": phase.title, "about": phase.about}
                phases.append(about | vars(state) | {"rows": rows_of(self.output, phase.name)})
        results = {
            "commit": self.commit,
            "toy": self.options.toy,
            "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
            "phases": phases,
        }
        for name, text in (("results.json", json.dumps(results, indent=1)), ("results.md", markdown(results))):
            partial = self.output / f"{name}.partial"
            partial.write_text(text, "utf-8")
            partial.replace(self.output / name)
        if self.options.keep is not None:
            self._keep(self.options.keep)

    def _keep(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / "log.txt", "wb") as log:
            for phase in EVERYTHING:
                path = self.log(phase)
                if path.is_file():
                    log.write(f"==== {phase.name}\n".encode())
                    log.write(path.read_bytes()[-LOG_KEPT // len(EVERYTHING) :])
        kernels = self.output / "site" / "gsplat" / "csrc.so"
        for path in (*self.output.glob("results.*"), *self.output.glob("tiny-*"), kernels):
            if path.is_file() and path.stat().st_size <= LARGEST_KEPT:
                shutil.copy(path, folder)

    def news(self) -> tuple[dict[str, State], list[int]]:
        """What is another whenever there is more to write."""
        return dict(self.states), [path.stat().st_size for path in sorted(self.output.glob("*.jsonl"))]

    def log(self, phase: Phase) -> Path:
        return self.output / f"{phase.name}.log"


# --------------------------------------------------------------------------------------------------------------------
# Processes


@dataclass
class Process:
    """A phase that is running, with all the processes that it starts."""

    run: Run
    phase: Phase
    session: Session
    popen: subprocess.Popen[bytes]
    started: float

    @classmethod
    def start(cls, run: Run, phase: Phase, deadline: float) -> Process:
        options = run.options
        session = Session(
            phase.name,
            str(run.output.resolve()),
            deadline,
            "cpu" if options.toy else "cuda",
            options.toy,
            None if options.data is None else str(options.data.resolve()),
        )
        with open(run.log(phase), "ab") as log:
            popen = subprocess.Popen(
                command_of(session),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=run.environment,
                cwd=REPOSITORY,
                start_new_session=True,
            )
        run.states[phase.name] = State(CUT, "the run was ended")  # what it is if nothing else is written any more
        return cls(run, phase, session, popen, time.monotonic())

    def poll(self) -> bool:
        """Whether it has ended, by itself or because its time is up; its state is then known."""
        code = self.popen.poll()
        if code is None and time.time() < self.session.deadline:
            return False
        self.kill()
        seconds = time.monotonic() - self.started
        if code == 0:
            state = State(DONE)
        elif code is None:
            state = State(CUT, "its time was up")
        elif code == OUT_OF_TIME:
            state = State(CUT, last_words(self.run.log(self.phase)))
        else:
            state = State(FAILED, f"{last_words(self.run.log(self.phase))} (exit code {code})")
        state.seconds = seconds
        self.run.states[self.phase.name] = state
        print(f"{self.phase.name}: {state.status} after {seconds:.0f} s {state.reason}".rstrip(), flush=True)
        return True

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()


def command_of(session: Session) -> list[str]:
    """What runs a phase."""
    # What compiles must not take the processor from what is timed.
    low = ["nice", "-n", "10"] if session.phase == KERNELS.name else []
    return [*low, sys.executable, str(Path(__file__).resolve()), "--phase", session.as_json()]


OUT_OF_TIME = 75  # exit code of a phase that did not begin what it had no time for


def last_words(log: Path) -> str:
    """The last line of a log that says anything."""
    lines = log.read_bytes()[-4096:].decode("utf-8", "replace").splitlines() if log.is_file() else []
    said = [line.strip() for line in lines if line.strip()]
    return said[-1] if said else "it said nothing"


def run_phase(session: Session) -> None:
    """In a phase's own process."""
    threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
    from page4d_hf.errors import Page4DError

    try:
        import_module(f"gpu_phases.{session.phase}").run(session)
    except OutOfTime as error:
        print(error, file=sys.stderr)
        sys.exit(OUT_OF_TIME)
    except Page4DError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        sys.exit(1)


def end_with(parent: int) -> None:
    """End this process and those that it has started once the one that started it has ended, however that was."""
    while os.getppid() == parent:
        time.sleep(1)
    os.killpg(0, signal.SIGKILL)


# --------------------------------------------------------------------------------------------------------------------
# The whole


def install(bundle: Path, site: Path) -> dict[str, str]:
    """Install a bundle's wheels into a folder, and give the environment in which they are found.

    Raises:
        RunError: the bundle holds no wheels, or pip cannot install them.
    """
    wheels = sorted(map(str, (bundle / "wheels").glob("*.whl")))
    if not wheels:
        raise RunError(f"There are no wheels in {bundle}; make it with benchmarks/gpu_bundle.sh {bundle}.")
    if not site.is_dir():
        partial = site.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        options = ["--no-index", "--no-deps", "--no-compile", "--no-cache-dir", "--quiet", "--target", str(partial)]
        if subprocess.run([sys.executable, "-m", "pip", "install", *options, *wheels], check=False).returncode:
            raise RunError(f"pip cannot install the wheels of {bundle}; what it said stands above.")
        for info in bundle.glob("*.dist-info"):
            shutil.copytree(info, partial / info.name)  # what makes nerfstudio and page4d find this package
        if (bundle / "csrc.so").is_file():
            shutil.copy(bundle / "csrc.so", partial / "gsplat")  # kernels that an earlier run has compiled
        partial.rename(site)
    before = {name: [os.environ[name]] if os.environ.get(name) else [] for name in ("PYTHONPATH", "PATH")}
    return {
        "PYTHONPATH": os.pathsep.join([str(site), str(REPOSITORY), *before["PYTHONPATH"]]),
        "PATH": os.pathsep.join([str(site / "bin"), *before["PATH"]]),
    }


def commit_of(bundle: Path | None) -> str:
    """The state of the code: what the bundle says it was made of, else git's word."""
    if bundle is not None and (bundle / "commit").is_file():
        return (bundle / "commit").read_text("utf-8").strip()
    command = ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty", "--exclude=*", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def run_all(run: Run, end: float) -> None:
    """Run the phases that are missing, until `end` (as time.time() has it) at the latest."""
    options = run.options
    # The machine is looked at each time: another one's figures must not get among these.
    pending = [
        phase
        for phase in PHASES
        if phase.name not in options.skip
        and (phase.name == "machine" or run.states.get(phase.name, State(LEFT_OUT)).status != DONE)
    ]
    if all(phase.name == "machine" and phase.name in run.states for phase in pending):
        return
    kernels: Process | None = None
    running: Process | None = None
    written = None
    try:
        if any(phase.needs_kernels for phase in pending) and not options.toy:
            run.states.pop(KERNELS.name, None)
            kernels = Process.start(run, KERNELS, end)
        while pending or running:
            if kernels is not None and kernels.poll():
                kernels = None
            if running is not None and running.poll():
                if running.phase.name == "machine" and run.states["machine"].status == FAILED:
                    raise RunError(run.states["machine"].reason)
                running = None
            if running is None:
                running = start_next(run, pending, kernels, end)
            if written != (news := run.news()):
                run.write()
                written = news
            time.sleep(POLL_SECONDS)
    finally:
        for process in (kernels, running):
            if process is not None:
                process.kill()
        run.write()


def start_next(run: Run, pending: list[Phase], kernels: Process | None, end: float) -> Process | None:
    """Start the first phase that can be, and take it and those that never can off the list."""
    for phase in list(pending):
        left = end - time.time()
        failed = run.states.get(KERNELS.name, State(DONE))
        if left <= 0 or (left < 60 * phase.least and not run.options.toy):
            reason = f"it takes at least {phase.least:g} minutes, and {max(left, 0) / 60:.1f} were left"
        elif phase.needs_kernels and kernels is None and failed.status != DONE:
            reason = f"gsplat's kernels are missing: {failed.reason}"
        elif kernels is not None and (phase.needs_kernels or phase is PHASES[-1]):
            continue  # the last takes all the time that is left: what waits for the kernels comes before it
        else:
            pending.remove(phase)
            most = phase.most * (PATIENCE_OF_TOYS if run.options.toy else 1)
            return Process.start(run, phase, min(end, time.time() + 60 * most))
        pending.remove(phase)
        run.states[phase.name] = State(LEFT_OUT, reason)
        print(f"{phase.name}: {LEFT_OUT}, {reason}", flush=True)
    return None


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phase", help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, help="folder of the run; one that is there goes on")
    parser.add_argument("--minutes", type=float, default=9.0, help="time for everything that this call does (9)")
    parser.add_argument("--data", type=Path, help="capture to train on; by default the bundle's, else a synthetic one")
    parser.add_argument(
        "--bundle", type=Path, help="what benchmarks/gpu_bundle.sh has made, installed into OUTPUT/site"
    )
    parser.add_argument(
        "--keep", type=Path, help="folder for a copy of results and weights, in files of 16 MiB at most"
    )
    parser.add_argument(
        "--skip", nargs="*", default=[], choices=[phase.name for phase in PHASES], help="phases to skip"
    )
    parser.add_argument("--toy", action="store_true", help="run everything in small on the CPU")
    options = parser.parse_args(arguments)
    if options.phase is not None:
        return run_phase(Session(**json.loads(options.phase)))
    if options.output is None:
        parser.error("the following arguments are required: --output")
    if options.data is not None and not options.data.is_dir():
        parser.error(f"there is no capture {options.data}")
    end = time.time() + 60 * options.minutes - RESERVE_SECONDS
    try:
        options.output.mkdir(parents=True, exist_ok=True)
        run = Run(options, commit_of(options.bundle))
        run.read()
        run.write()
        if options.bundle is not None:
            run.environment |= install(options.bundle.resolve(), options.output.resolve() / "site")
            if options.data is None and (options.bundle / "capture").is_dir():
                options.data = options.bundle / "capture"
        run_all(run, end)
        print((options.output / "results.md").read_text("utf-8"))
    except (RunError, OSError) as error:
        sys.exit(f"gpu: {' '.join(str(error).split())}")


if __name__ == "__main__":
    main()
