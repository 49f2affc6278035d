"""From a plain video to a 4D scene, on a scene that needs no download: make it, reconstruct it, train on it, compare.

Every step is a command that a user would type, printed before it runs. The video is all that page4d-tiny, the small
model in the package, gets to see: its cameras, points and motion are what the first 4D scene is trained on. Beside it
stand the same training on the true cameras and points, with deformation (4D) and without (static). The held-out camera
is the same for all three; into the world of page4d-tiny it is carried by the Sim(3) between its cameras and the true
ones of the same frames.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import tyro
from commands import Command, CommandFailed, console, run, run_side_by_side
from rich.table import Table

from page4d_hf.captures import read_sequence
from page4d_hf.scene import read_scene
from page4d_hf.utils.programs import command

METRICS = {
    "psnr": "PSNR",
    "ssim": "SSIM",
    "psnr_moving": "PSNR, moving",
    "ssim_moving": "SSIM, moving",
    "psnr_static": "PSNR, static",
}
# Of the reconstruction, by task of evaluation/evaluate.py. Lengths are in the capture's unit, after a Sim(3).
FIGURES = {
    "pose": {"ate": "camera path, ATE", "rpe_rotation": "turn from frame to frame, degrees"},
    "points": {"accuracy_mean": "points, accuracy", "completion_mean": "points, completion"},
}
# The network's own cameras and depth; those of the scene, refined; flat depth and a camera that stands still.
PREDICTORS = ("page4d-tiny", "refined", "trivial")
SEQUENCE = "capture/0"  # the video's camera
EVALUATION = Path(__file__).resolve().parents[1] / "evaluation" / "evaluate.py"
VARIANTS = {
    "video": "4D, from the video alone (page4d-tiny)",
    "true": "4D, true cameras and points",
    "static": "the same, without deformation",
}


@dataclass
class Demo:
    """Make a moving scene, reconstruct its video by page4d-tiny, train page4d-4dgs on that and on the truth, evaluate
    all, render a novel view, and write a web page of the scene."""

    output: Path = Path("demo-out")
    """Folder for everything that is made. A former demo in it is replaced."""
    steps: int = 1000
    """Training steps of each of the three runs; schedules scale with it (the method's own default is 17,000)."""
    seed: int = 0
    """Seed of the synthetic scene."""
    at_once: int = 2
    """How many of the trainings run at a time; they share the processor's cores."""

    def main(self) -> None:
        started = time.monotonic()
        if self.at_once < 1:
            sys.exit(f"demo: --at-once must be 1 or more; got {self.at_once}.")
        capture, scene, model = (self.output / name for name in ("capture", "scene", "page4d-tiny"))
        self._clear()
        self.output.mkdir(parents=True, exist_ok=True)
        (self.output / ".page4d-demo").touch()
        run("page4d", "synth", capture, "--seed", self.seed)
        run("page4d", "pull", "tiny", "--output", model)
        run("page4d", "reconstruct", capture / "video.mp4", "--model", model, "--output", scene)
        # The longest first, so that no core waits at the end.
        series = {name: self._training(name, capture, scene) for name in VARIANTS}
        self._keep_predictions(scene)
        series["evaluation"] = self._evaluation(model)
        run_side_by_side(series, logs=self.output / "logs", at_once=self.at_once)
        run("page4d", "share", "--load-config", self._config("video"), "--output", self.output / "scene.html")
        gif = self._animate()
        self._report(gif, time.monotonic() - started)

    def _training(self, name: str, capture: Path, scene: Path) -> list[Command]:
        """The commands that train one variant, evaluate it and render the held-out camera."""
        config = self._config(name)
        train: list[object] = ["ns-train", "page4d-4dgs", "--data", capture, "--vis", "tensorboard"]
        train += ["--max-num-iterations", self.steps]
        if name == "static":
            train += ["--pipeline.model.use-deformation", "False"]
        train += ["--output-dir", self.output, "--experiment-name", "training", "--timestamp", name]
        if name == "video":
            # Of the capture, this training takes images and the held-out camera; cameras and points are the scene's.
            # As many points as the capture has, 10,000, are enough for images of this size.
            train += ["page4d-data", "--cameras", "page4d", "--points", "page4d", "--reconstruction", scene]
            train += ["--max-points", 10_000, "--held-out-cameras", "capture"]
        render = ("ns-render", "dataset", "--load-config", config, "--split", "val", "--image-format", "png")
        return [
            train,
            ("ns-eval", "--load-config", config, "--output-path", self._results(name)),
            (*render, "--rendered-output-names", "gt-rgb", "rgb", "--output-path", self.output / "renders" / name),
        ]

    def _evaluation(self, model: Path) -> list[Command]:
        """The commands that score the reconstruction, and beside it none."""
        data = ("--dataset", "nerfies", "--data-root", self.output, "--sequences", SEQUENCE)
        predictions = ("--predictions", self.output / "predictions", "--method", "refined")
        sources = zip(PREDICTORS, (("--model", model), predictions, ("--trivial",)), strict=True)
        return [
            ("python", EVALUATION, task, *chosen, *data, "--output", self.output / "evaluation" / task / name)
            for name, chosen in sources
            for task in FIGURES
        ]

    def _keep_predictions(self, folder: Path) -> None:
        """Write a scene's cameras and depth as evaluation/evaluate.py takes predictions."""
        scene, capture = read_scene(folder), read_sequence("nerfies", self.output, SEQUENCE)
        path = self.output / "predictions" / f"{SEQUENCE}.npz"
        path.parent.mkdir(parents=True)
        np.savez(
            path,
            frame_ids=[capture.frame_ids[index] for index in np.argsort(capture.time_ids)],  # the video's frames
            depth=np.stack([scene.load_depth(index) for index in range(len(scene))]),
            extrinsics=scene.extrinsics,
            intrinsics=scene.intrinsics,
        )

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
        table = Table(title="What page4d-tiny makes of the video, before and after refinement, beside the truth")
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
        console.print(f"Look around in it: open {self.output / 'scene.html'} in a browser, or run")
        console.print(command("ns-viewer", "--load-config", self._config("video")), soft_wrap=True, highlight=False)
        console.print(f"Done in {seconds / 60:.1f} minutes.")


if __name__ == "__main__":
    try:
        tyro.cli(Demo, description=__doc__).main()
    except CommandFailed as error:
        sys.exit(f"demo: {error}")
