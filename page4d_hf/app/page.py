"""The page: upload, reconstruct, look, download, and optionally a short training.

Every visit has a folder of its own, which is removed after some time; see `visits`. What a video can break is done in
processes of their own, one at a time; see `jobs`.
"""

from __future__ import annotations

import html
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..errors import Page4DError
from ..frames import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from ..utils.programs import one_line
from ..weights.shipped import TINY
from .jobs import run_apart, run_command
from .visits import Visits
from .work import Result, name_of, reconstruct_upload

# Read as gradio is imported: it tells nobody that it runs.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

INTRODUCTION = """# PAGE-4D
Upload a short video, and look around in it: cameras, depth, motion and points through time. Only you see your files;
they are removed {minutes:g} minutes after the last work on them."""
STYLE = """
.gradio-container { max-width: 1240px !important; margin: auto; }
.framed { width: 100%; height: min(62vh, 540px); border: 0; border-radius: 12px; background: #15171c; display: block; }
p.framed { display: grid !important; place-items: center; margin: 0; color: #c9ccd3 !important; text-align: center; }
#points .html-container, #scene .html-container { padding: 0; }
@media (max-width: 640px) { p.framed { height: 160px; } .framed { border-radius: 8px; } }
"""
EMPTY = '<p class="framed">{sentence}</p>'
HERE, TRAINED = "Your scene comes here, through time.", "The trained scene comes here."
WAITING = 16  # visitors in the queue; more are asked to come again


@dataclass(frozen=True)
class Limits:
    """What one visitor may ask for."""

    upload_megabytes: float = 100
    frames: int = 48
    seconds: float = 600  # of a reconstruction, and of a training
    train_steps: int = 0  # of the short training; 0: none is offered
    keep_minutes: float = 60  # files of a visit


def build(models: list[str], limits: Limits, visits: Visits) -> Any:
    """The app, a `gradio.Blocks`: models are "tiny" for the one in the package, folders, or repositories on the Hub."""
    import gradio as gr

    names = names_of(models)

    def reconstruct(
        uploads: list[str] | None,
        model: int,
        frames: float,
        visit: str | None,
        bar: Any = gr.Progress(),  # noqa: B008
    ) -> tuple[Any, ...]:
        weights = str(TINY) if models[model] == "tiny" else models[model]
        # A visitor's names are their own, the server's are nobody's business.
        known = {upload: Path(upload).name for upload in uploads or ()} | {weights: names[model]}
        with told_to_the_visitor(gr, visits, known):
            if not uploads:
                raise Page4DError("Choose a video first.")
            check_size(uploads, limits.upload_megabytes)
            visits.end(visit)
            folder = visits.begin()
            try:
                with visits.work_on(folder):
                    made: Result = run_apart(
                        reconstruct_upload,
                        uploads,
                        weights,
                        int(frames),
                        folder,
                        seconds=limits.seconds,
                        progress=lambda stage, done, total: bar((done, total), desc=stage),
                    )
            except Page4DError:
                visits.end(folder)
                raise
        return (
            folder,
            made.summary,
            framed(made.page),
            gr.update(value=made.preview, visible=True),
            gr.update(value=made.downloads, visible=True),
            gr.update(visible=limits.train_steps > 0),
            EMPTY.format(sentence=TRAINED),
            gr.update(value=None, visible=False),
        )

    def train(visit: str | None, bar: Any = gr.Progress()) -> tuple[str, Any]:  # noqa: B008
        with told_to_the_visitor(gr, visits), visits.work_on(visit) as folder:
            bar(0.0, desc="training")
            page = train_and_share(folder, limits)
        return framed(str(page)), gr.update(value=str(page), visible=True)

    with gr.Blocks(title="PAGE-4D", delete_cache=(60, int(60 * limits.keep_minutes))) as app:
        visit = gr.State(None)
        gr.Markdown(INTRODUCTION.format(minutes=limits.keep_minutes))
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                upload = gr.File(
                    label=f"Video or images, up to {limits.upload_megabytes:g} MiB",
                    file_types=sorted(VIDEO_SUFFIXES | IMAGE_SUFFIXES),
                    file_count="multiple",
                    height=150,
                    elem_id="upload",
                )
                model = gr.Dropdown(
                    names, value=names[0], type="index", label="Model", visible=len(names) > 1, elem_id="model"
                )
                frames = gr.Slider(2, limits.frames, min(24, limits.frames), step=1, label="Frames of the clip")
                start = gr.Button("Reconstruct", variant="primary", elem_id="reconstruct")
                summary = gr.Textbox(label="Result", elem_id="summary", interactive=False)
            with gr.Column(scale=5, min_width=320):
                points = gr.HTML(EMPTY.format(sentence=HERE), elem_id="points", padding=False)
                preview = gr.Image(show_label=False, elem_id="preview", interactive=False, visible=False)
                downloads = gr.Files(label="Downloads", elem_id="downloads", interactive=False, visible=False)
        with gr.Row(visible=False) as training:
            with gr.Column(scale=2, min_width=300):
                again = gr.Button(f"Train a 4D scene, {limits.train_steps} steps", elem_id="train")
                trained = gr.File(label="The scene as one web page", visible=False, elem_id="shared", interactive=False)
            with gr.Column(scale=5, min_width=320):
                scene = gr.HTML(EMPTY.format(sentence=TRAINED), elem_id="scene", padding=False)
        outputs = [visit, summary, points, preview, downloads, training, scene, trained]
        # One at a time, of all visitors: a model takes the machine for itself.
        job: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "work", "api_visibility": "private"}
        start.click(reconstruct, [upload, model, frames, visit], outputs, show_progress_on=summary, **job)
        again.click(train, [visit], [scene, trained], show_progress_on=scene, **job)
    app.queue(max_size=WAITING)
    return app


def train_and_share(visit: Path, limits: Limits) -> Path:
    """A short training on the scene of a visit, as one web page."""
    shutil.rmtree(visit / "outputs", ignore_errors=True)
    words = (sys.executable, "-m", "page4d_hf.cli", "splat", "scene", "--output", "scene.html", "--overwrite")
    run_command((*words, "--steps", limits.train_steps), visit, visit / "training.log", seconds=limits.seconds)
    return visit / "scene.html"


def check_size(uploads: list[str], megabytes: float) -> None:
    """Refuse an upload of several files that are too large together; of a single one gradio does."""
    size = sum(os.path.getsize(upload) for upload in uploads)
    if size > megabytes * 2**20:
        raise Page4DError(f"The files have {size / 2**20:.1f} MiB together, and {megabytes:g} are allowed; take fewer.")


def framed(page: str) -> str:
    """A page of ours within the app's, from which it is kept apart."""
    content = html.escape(Path(page).read_text("utf8"), quote=True)
    return f'<iframe class="framed" sandbox="allow-scripts" allow="fullscreen" srcdoc="{content}"></iframe>'


@contextmanager
def told_to_the_visitor(gr: Any, visits: Visits, known: Mapping[str, str] = MappingProxyType({})) -> Iterator[None]:
    """Say a `Page4DError` in the page, without the folders of visits, and by names of its own for what is `known`."""
    try:
        yield
    except Page4DError as error:
        sentence = re.sub(rf"{re.escape(str(visits.place))}/visit-[^/\s]*/?", "", one_line(error))
        for path in sorted(known, key=len, reverse=True):
            sentence = sentence.replace(path, known[path])
        raise gr.Error(html.escape(sentence), duration=None, print_exception=False) from error


def names_of(models: Sequence[str]) -> list[str]:
    """What visitors read of models, each once: nothing of where the server has its files."""
    names = [name_of(model) for model in models]
    return [name if names.count(name) == 1 else f"{name} ({k})" for k, name in enumerate(names, 1)]
