"""The main job on a scene that needs no download: make it, train on it, measure it, render it.

Every step is a command that a user would type, printed before it runs. Two trainings differ in one option alone: with
deformation (4D) and without (static), so that the table shows what the fourth dimension brings. Cameras and seed
points are the capture's own, not PAGE-4D's; the output says so.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
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
VARIANTS = {
    "deformed": ("4D, with deformation", ()),
    "static": ("static, without deformation", ("--pipeline.model.use-deformation", "False")),
}
console = Console()


@dataclass
class Demo:
    """Make a moving scene, train page4d-4dgs on it with and without deformation, evaluate both, render a novel view."""

    output: Path = Path("demo-out")
    """Folder for everything that is made. A former demo in it is replaced."""
    steps: int = 2000
    """Training steps of each of the two runs; schedules scale with it (the method's own default is 17,000)."""
    seed: int = 0
    """Seed of the synthetic scene."""

    def main(self) -> None:
        started = time.monotonic()
        scene = self.output / "scene"
        self._clear()
        self.output.mkdir(parents=True, exist_ok=True)
        (self.output / ".page4d-demo").touch()
        run("page4d", "synth", scene, "--seed", self.seed)
        for name, (_, options) in VARIANTS.items():
            config = self._config(name)
            run(
                *("ns-train", "page4d-4dgs", "--data", scene, "--vis", "tensorboard"),
                *("--max-num-iterations", self.steps, *options),
                *("--output-dir", self.output, "--experiment-name", "training", "--timestamp", name),
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
        """The held-out camera through time: what it saw, the 4D scene and the static one, side by side."""
        columns = [self._renders("deformed", "gt-rgb"), *(self._renders(name, "rgb") for name in VARIANTS)]
        gap = np.full((columns[0][0].shape[0], 4, 3), 255, np.uint8)
        frames = [
            np.concatenate((truth, gap, deformed, gap, static), axis=1)
            for truth, deformed, static in zip(*columns, strict=True)
        ]
        path = self.output / "novel-view.gif"
        # Forth and back, so that the loop has no jump.
        iio.imwrite(path, np.stack(frames + frames[-2:0:-1]), duration=80, loop=0)
        return path

    def _renders(self, name: str, kind: str) -> list[np.ndarray]:
        paths = sorted((self.output / "renders" / name / "val" / kind).rglob("*.png"))
        return [iio.imread(path)[..., :3] for path in paths]

    def _report(self, gif: Path, seconds: float) -> None:
        results = {name: json.loads(self._results(name).read_text())["results"] for name in VARIANTS}
        table = Table(title=f"Held-out camera of the synthetic scene, {self.steps} steps")
        table.add_column("")
        for label in METRICS.values():
            table.add_column(label, justify="right")
        for name, (label, _) in VARIANTS.items():
            table.add_row(label, *(f"{results[name][key]:.3f}" for key in METRICS))
        console.print(table)
        console.print("Cameras and seed points are the capture's own, not PAGE-4D's.")
        console.print(f"Novel view through time (truth | 4D | static): {gif}")
        console.print(f"Look around in it: {shlex.join(['ns-viewer', '--load-config', str(self._config('deformed'))])}")
        console.print(f"Done in {seconds / 60:.1f} minutes.")


def run(*command: object) -> None:
    """Print a command and run it, with the programs of this Python's environment found first."""
    words = [str(word) for word in command]
    console.print(f"[bold]$ {shlex.join(words)}[/bold]", soft_wrap=True)
    environment = os.environ | {
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", ""))),
        # Threads that wait for each other by spinning make small operations many times slower on a busy machine.
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "passive"),
    }
    code = subprocess.run(words, env=environment, check=False).returncode
    if code != 0:
        sys.exit(f"demo: `{shlex.join(words)}` ended with exit code {code}; its last lines above say why.")


if __name__ == "__main__":
    tyro.cli(Demo, description=__doc__).main()
