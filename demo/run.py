"""From a plain video to a 4D scene, on a scene that needs no download: make it, reconstruct it, train on it, compare.

Every step is a command that a user would type, printed before it runs. The video is all that page4d-tiny, the small
model in the package, gets to see: its cameras, points and motion are what the first 4D scene is trained on. Beside it
stand the same training on the true cameras and points, with deformation (4D) and without (static). The held-out camera
is the same for all three; into the world of page4d-tiny it is carried by the Sim(3) between the two camera paths.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

METRICS = {
    "psnr": "PSNR",
    "ssim": "SSIM",
    "psnr_moving": "PSNR, moving",
    "ssim_moving": "SSIM, moving",
    "psnr_static": "PSNR, static",
}
# Of the reconstruction, by task of evaluation/run.py. Lengths are in the capture's unit, after a Sim(3).
FIGURES = {
    "pose": {"ate": "camera path, ATE", "rpe_rotation": "turn from frame to frame, degrees"},
    "points": {"accuracy_mean": "points, accuracy", "completion_mean": "points, completion"},
}
PREDICTORS = ("page4d-tiny", "trivial")  # flat depth, a camera that stands still
EVALUATION = Path(__file__).resolve().parents[1] / "evaluation" / "run.py"
VARIANTS = {
    "video": "4D, from the video alone (page4d-tiny)",
    "true": "4D, true cameras and points",
    "static": "the same, without deformation",
}
console = Console()


@dataclass
class Demo:
    """Make a moving scene, reconstruct its video by page4d-tiny, train page4d-4dgs on that and on the truth, evaluate
    all, and render a novel view."""

    output: Path = Path("demo-out")
    """Folder for everything that is made. A former demo in it is replaced."""
    steps: int = 2000
    """Training steps of each of the three runs; schedules scale with it (the method's own default is 17,000)."""
    seed: int = 0
    """Seed of the synthetic scene."""

    def main(self) -> None:
        started = time.monotonic()
        capture, scene, model = (self.output / name for name in ("capture", "scene", "page4d-tiny"))
        self._clear()
        self.output.mkdir(parents=True, exist_ok=True)
        (self.output / ".page4d-demo").touch()
        run("page4d", "synth", capture, "--seed", self.seed)
        run("page4d", "pull", "tiny", "--output", model)
        run("page4d", "reconstruct", capture / "video.mp4", "--model", model, "--output", scene)
        for task in FIGURES:
            data = ("--dataset", "nerfies", "--data-root", self.output, "--sequences", "capture/0")
            for name in PREDICTORS:
                chosen = ("--trivial",) if name == "trivial" else ("--model", model)
                folder = self.output / "evaluation" / task / name
                words = ("python", EVALUATION, task, *chosen, *data, "--output", folder)
                run(*words, log=self.output / "evaluation.log")
        # Of the capture, the first training takes images and the held-out camera; cameras and points are the scene's.
        # As many points as the capture has, 10,000, are enough for images of this size.
        reconstructed = (
            *("page4d-data", "--cameras", "page4d", "--points", "page4d", "--reconstruction", scene),
            *("--max-points", 10_000, "--held-out-cameras", "capture"),
        )
        for name in VARIANTS:
            config = self._config(name)
            run(
                *("ns-train", "page4d-4dgs", "--data", capture, "--vis", "tensorboard"),
                *("--max-num-iterations", self.steps),
                *(("--pipeline.model.use-deformation", "False") if name == "static" else ()),
                *("--output-dir", self.output, "--experiment-name", "training", "--timestamp", name),
                *(reconstructed if name == "video" else ()),
            )
            run("ns-eval", "--load-config", config, "--output-path", self._results(name))
            run(
                *("ns-render", "dataset", "--load-config", config, "--split", "val", "--image-format", "png"),
                *("--rendered-output-names", "gt-rgb", "rgb", "--output-path", self.output / "renders" / name),
            )
        gif = self._animate()
        self._report(gif, time.monotonic() - started)

    def _config(self, name: str) -> Path:
        return self.output / "training" / "page4d-4dgs" / name / "config.yml"

    def _results(self, name: str) -> Path:
        return self.output / f"eval-{name}.json"

    def _clear(self) -> None:
        """Remove a former demo, and nothing that is not one."""
        if self.output.exists() and any(self.output.iterdir()):
            if not (self.output / ".page4d-demo").exists():
                sys.exit(f"demo: {self.output} holds something else than a former demo; name another --output.")
            shutil.rmtree(self.output)

    def _animate(self) -> Path:
        """The held-out camera through time: what it saw, and the three scenes side by side."""
        columns = [self._renders("true", "gt-rgb"), *(self._renders(name, "rgb") for name in VARIANTS)]
        gap = np.full((columns[0][0].shape[0], 4, 3), 255, np.uint8)
        frames = []
        for images in zip(*columns, strict=True):
            parts = [part for image in images for part in (image, gap)]
            frames.append(np.concatenate(parts[:-1], axis=1))
        path = self.output / "novel-view.gif"
        # Forth and back, so that the loop has no jump.
        iio.imwrite(path, np.stack(frames + frames[-2:0:-1]), duration=80, loop=0)
        return path

    def _renders(self, name: str, kind: str) -> list[np.ndarray]:
        paths = sorted((self.output / "renders" / name / "val" / kind).rglob("*.png"))
        return [iio.imread(path)[..., :3] for path in paths]

    def _report(self, gif: Path, seconds: float) -> None:
        table = Table(title="What page4d-tiny makes of the training camera's frames, beside the truth")
        for column in ("", *PREDICTORS):
            table.add_column(column, justify="right" if column else "left")
        for task, figures in FIGURES.items():
            folder = self.output / "evaluation" / task
            averages = [json.loads((folder / name / "result.json").read_text())["averages"] for name in PREDICTORS]
            for key, label in figures.items():
                table.add_row(label, *(f"{values[key]:.3f}" for values in averages))
        console.print(table)
        results = {name: json.loads(self._results(name).read_text())["results"] for name in VARIANTS}
        table = Table(title=f"Held-out camera of the synthetic scene, {self.steps} steps")
        table.add_column("")
        for label in METRICS.values():
            table.add_column(label, justify="right")
        for name, label in VARIANTS.items():
            table.add_row(label, *(f"{results[name][key]:.3f}" for key in METRICS))
        console.print(table)
        console.print(f"Novel view through time (truth | {' | '.join(VARIANTS)}): {gif}")
        console.print(f"Look around in it: {shlex.join(['ns-viewer', '--load-config', str(self._config('video'))])}")
        console.print(f"Done in {seconds / 60:.1f} minutes.")


def run(*command: object, log: Path | None = None) -> None:
    """Print a command and run it, with the programs of this Python's environment found first.

    Args:
        command: its words.
        log: a file that takes what it says, in place of the terminal.
    """
    words = [str(word) for word in command]
    console.print(f"[bold]$ {shlex.join(words)}[/bold]", soft_wrap=True)
    environment = os.environ | {
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", ""))),
        # Threads that wait for each other by spinning make small operations many times slower on a busy machine.
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "passive"),
    }
    with nullcontext() if log is None else open(log, "a", encoding="utf-8") as output:
        code = subprocess.run(words, env=environment, stdout=output, stderr=output, check=False).returncode
    if code != 0:
        where = "above" if log is None else f"in {log}"
        sys.exit(f"demo: `{shlex.join(words)}` ended with exit code {code}; its last lines {where} say why.")


if __name__ == "__main__":
    tyro.cli(Demo, description=__doc__).main()
