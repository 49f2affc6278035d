"""The page: upload, reconstruct, look, download, and optionally a short training.

Every visit has a folder of its own, which is removed when the visit ends or after some time. What a video can break is
done in processes of their own, one at a time; see `jobs`.
"""

from __future__ import annotations

import html
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import Page4DError
from ..weights.shipped import TINY
from .jobs import run_apart, run_command
from .work import Result, reconstruct_upload

# Read as gradio is imported: it tells nobody that it runs.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

INTRODUCTION = """# PAGE-4D
Cameras, depth, points and motion of a moving scene, from a short video. An upload and all that is made of it are in a
folder of their own, and are removed {minutes:.0f} minutes after your visit."""
VIDEOS = [".mp4", ".mov", ".m4v", ".webm", ".mkv", ".avi"]
DARK = (0.149, 0.165, 0.216, 1.0)  # behind points, most of which are light
WAITING = 16  # visitors in the queue; more are asked to come again


@dataclass(frozen=True)
class Limits:
    """What one visitor may ask for."""

    upload_megabytes: float = 100
    frames: int = 48
    seconds: float = 600  # of a reconstruction, and of a training
    train_steps: int = 0  # of the short training; 0: none is offered
    keep_minutes: float = 60  # files of a visit


@contextmanager
def workplace() -> Iterator[Path]:
    """A folder for all visits, which ends with the app; gradio's own copies are in it too."""
    with tempfile.TemporaryDirectory(prefix="page4d-app-") as name:
        before = os.environ.get("GRADIO_TEMP_DIR")
        os.environ["GRADIO_TEMP_DIR"] = os.path.join(name, "served")
        try:
            yield Path(name)
        finally:
            if before is None:
                del os.environ["GRADIO_TEMP_DIR"]
            else:
                os.environ["GRADIO_TEMP_DIR"] = before


def build(models: list[str], limits: Limits, place: Path) -> Any:
    """The app, a `gradio.Blocks`.

    Args:
        models: to choose from: "tiny" for the one in the package, folders, repositories on the Hub.
        limits: for each visitor.
        place: of `workplace`.
    """
    import gradio as gr

    def begin() -> str:
        sweep(place, limits.keep_minutes)
        return tempfile.mkdtemp(prefix="visit-", dir=place)

    def reconstruct(
        upload: str | None,
        model: str,
        frames: float,
        visit: str | None,
        bar: Any = gr.Progress(),  # noqa: B008
    ) -> tuple[Any, ...]:
        with told_to_the_visitor(gr):
            if not upload:
                raise Page4DError("Choose a video first.")
            end(visit)
            folder = begin()
            weights = str(TINY) if model == "tiny" else model
            try:
                made: Result = run_apart(
                    reconstruct_upload,
                    upload,
                    weights,
                    int(frames),
                    folder,
                    seconds=limits.seconds,
                    progress=shown(bar),
                )
            except Page4DError as error:
                end(folder)
                # A visitor's names are their own, the server's are nobody's business.
                raise Page4DError(str(error).replace(upload, Path(upload).name).replace(folder, "")) from error
        return folder, made.summary, made.preview, made.glb, made.downloads, gr.update(interactive=True), "", None

    def train(visit: str | None, bar: Any = gr.Progress()) -> tuple[str, str]:  # noqa: B008
        with told_to_the_visitor(gr):
            if not visit or not Path(visit, "scene").is_dir():
                raise Page4DError("Reconstruct a video first; the last one's files are gone.")
            bar(0.0, desc="training")
            page = train_and_share(Path(visit), limits)
        content = html.escape(page.read_text("utf8"), quote=True)
        frame = f'<iframe sandbox="allow-scripts" srcdoc="{content}" style="width:100%;height:480px;border:0"></iframe>'
        return frame, str(page)

    kept = limits.keep_minutes * 60
    with gr.Blocks(title="PAGE-4D", delete_cache=(60, int(kept))) as app:
        visit = gr.State(None, time_to_live=kept, delete_callback=end)
        gr.Markdown(INTRODUCTION.format(minutes=limits.keep_minutes))
        with gr.Row():
            with gr.Column(scale=1):
                label = f"Video, at most {limits.upload_megabytes:g} MB"
                upload = gr.File(label=label, file_types=VIDEOS, elem_id="upload")
                model = gr.Dropdown(models, value=models[0], label="Model", elem_id="model")
                frames = gr.Slider(2, limits.frames, min(24, limits.frames), step=1, label="Frames, evenly of the clip")
                start = gr.Button("Reconstruct", variant="primary", elem_id="reconstruct")
            with gr.Column(scale=2):
                summary = gr.Textbox(label="Result", elem_id="summary", interactive=False)
                preview = gr.Image(label="Frames, depth, motion, path", elem_id="preview", interactive=False)
        points = gr.Model3D(label="Points and cameras", elem_id="points", interactive=False, clear_color=DARK)
        downloads = gr.Files(label="Downloads: GLB, PLY, COLMAP, nerfstudio", elem_id="downloads", interactive=False)
        offered = limits.train_steps > 0
        again = gr.Button(
            f"Train a 4D scene, {limits.train_steps} steps", visible=offered, interactive=False, elem_id="train"
        )
        scene = gr.HTML(visible=offered, elem_id="scene")
        shared = gr.File(label="The scene as one web page", visible=offered, elem_id="shared", interactive=False)
        outputs = [visit, summary, preview, points, downloads, again, scene, shared]
        # One at a time, of all visitors: a model takes the machine for itself.
        job: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "work", "api_visibility": "private"}
        start.click(reconstruct, [upload, model, frames, visit], outputs, **job)
        again.click(train, [visit], [scene, shared], **job)
    app.queue(max_size=WAITING)
    return app


def train_and_share(visit: Path, limits: Limits) -> Path:
    """A short training on the scene of a visit, as one web page.

    Raises:
        Page4DError: a command failed, or took too long.
    """
    end_of_time = time.monotonic() + limits.seconds
    shutil.rmtree(visit / "training", ignore_errors=True)
    run = visit / "training" / "run" / "page4d-4dgs" / "run"
    train: list[object] = [Path(sys.executable).parent / "ns-train", "page4d-4dgs", "--data", visit / "scene"]
    train += ["--max-num-iterations", limits.train_steps, "--vis", "tensorboard"]
    train += ["--output-dir", visit / "training", "--experiment-name", "run", "--timestamp", "run"]
    share: list[object] = [sys.executable, "-m", "page4d_hf.cli", "share", "--load-config", run / "config.yml"]
    share += ["--output", visit / "scene.html", "--title", "scene", "--overwrite"]
    for words in (train, share):
        run_command(words, visit / "training.log", seconds=end_of_time - time.monotonic())
    return visit / "scene.html"


def shown(bar: Any) -> Any:
    """gradio's progress bar as a `Progress`."""
    return lambda stage, done, total: bar((done, total), desc=stage)


@contextmanager
def told_to_the_visitor(gr: Any) -> Iterator[None]:
    """Say a `Page4DError` in the page."""
    try:
        yield
    except Page4DError as error:
        raise gr.Error(html.escape(" ".join(str(error).split())), duration=None, print_exception=False) from error


def end(visit: str | None) -> None:
    """Remove the files of a visit."""
    if visit:
        shutil.rmtree(visit, ignore_errors=True)


def sweep(place: Path, minutes: float) -> None:
    """Remove the files of visits that ended without a word, as where a browser was closed."""
    for folder in place.glob("visit-*"):
        if time.time() - folder.stat().st_mtime > 60 * minutes:
            end(str(folder))
