"""The app in a real browser: a video goes up, and depth, motion, points through time and files come back."""

import json
import socket
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import odd_jobs
import pytest
from browser import chromium
from forked_python import ForkedPython
from PIL import Image

from page4d_hf.app.jobs import JobError, run_apart, run_command
from page4d_hf.app.page import Limits, build, check_size
from page4d_hf.app.visits import Visits
from page4d_hf.app.work import Result, reconstruct_upload
from page4d_hf.cli import app as app_command
from page4d_hf.errors import Page4DError
from page4d_hf.scene import read_scene
from page4d_hf.synthetic import write_synthetic_capture
from page4d_hf.weights.shipped import TINY


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def answers(port: int) -> bool:
    """Whether a server of web pages is there."""
    with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}") as answer:
        return answer.status == 200
    return False


@contextmanager
def served(python: ForkedPython, temporary: Path, **options: object):
    """An app in a process of its own: that, and its address."""
    pytest.importorskip("gradio", reason="the app needs gradio, which is not installed")
    words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)]
    log = temporary.with_suffix(".log")
    for _ in range(5):  # a free port may be taken by another program before the app takes it
        port = free_port()
        process = python.start("page4d", "app", "--port", port, *words, cwd=temporary, log=log, TMPDIR=str(temporary))
        while process.poll() is None and not answers(port):
            time.sleep(0.2)
        if process.poll() is None:
            break
    try:
        assert process.poll() is None, log.read_text()
        yield process, f"http://127.0.0.1:{port}"
    finally:
        python.kill(process)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def address(place, forking_python):
    limits = {"max_upload": 1, "max_frames": 4, "keep_minutes": 5, "train_steps": 10}
    with served(forking_python, place, **limits) as (process, address):
        yield address
        assert process.poll() is None  # whatever was sent to it


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("app") / "capture"
    write_synthetic_capture(folder, num_frames=6, width=56, height=42, supersampling=1, num_points=50)
    return folder / "video.mp4"


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


@contextmanager
def visit(browser, address):
    # No scene plays by itself: it would take the processor from what is tested.
    context = browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    page = context.new_page()
    page.set_default_timeout(240_000)
    page.goto(address)
    yield page
    context.close()


@pytest.fixture
def page(browser, address):
    with visit(browser, address) as page:
        yield page


def send(page, path: Path) -> None:
    page.set_input_files("#upload input[type=file]", str(path))
    page.wait_for_selector(f"#upload :text('{path.stem}')")


@pytest.fixture(scope="module")
def visited(browser, address, video):
    """A visit in which a video was reconstructed."""
    with visit(browser, address) as page:
        send(page, video)
        assert not page.is_visible("#train")
        page.click("#reconstruct")
        done = "document.querySelector('#summary textarea').value || document.querySelector('.toast-body')"
        page.wait_for_function(f"() => {done}")
        assert page.input_value("#summary textarea").startswith("4 frames"), page.inner_text(".toast-body")
        yield page


def scene_in(page, where: str):
    """The page of a scene within the app's, once it shows something."""
    frame = page.wait_for_selector(f"{where} iframe").content_frame()
    frame.wait_for_selector("html[data-ready]")
    return frame


@pytest.mark.slow
def test_a_video_becomes_points_through_time_pictures_and_downloads(visited, tmp_path):
    visited.wait_for_selector("#preview img")
    points = scene_in(visited, "#points")
    points.fill("#time", "0.75")
    assert points.evaluate("() => page4d.time") == 0.75
    assert points.evaluate("() => page4d.renderer.gaussians.count") > 1000
    names = {}
    for link in visited.query_selector_all("#downloads a[download]"):
        with visited.expect_download() as download:
            link.click()
        names[download.value.suggested_filename] = tmp_path / download.value.suggested_filename
        download.value.save_as(names[download.value.suggested_filename])
    assert set(names) == {"scene.html", "scene.glb", "scene.ply", "colmap.zip", "scene.zip"}
    assert "sparse/0/cameras.bin" in zipfile.ZipFile(names["colmap.zip"]).namelist()
    assert "transforms.json" in zipfile.ZipFile(names["scene.zip"]).namelist()


@pytest.mark.slow
def test_visitors_see_nothing_of_each_other(visited, page, address, place):
    assert page.input_value("#summary textarea") == ""
    assert not page.query_selector_all("#points iframe, #preview img, #downloads a[download]")
    (folder,) = place.glob("page4d-app-*/visit-*")
    assert (folder / "colmap.zip").is_file()
    for path in (folder / "colmap.zip", folder / "scene" / "transforms.json", "/etc/passwd"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{address}/gradio_api/file={path}")
        assert refused.value.code in (403, 404)


@pytest.mark.slow
def test_a_short_training_gives_the_scene_as_a_page_of_its_own(visited):
    pytest.importorskip("nerfstudio", reason="trainings need nerfstudio, which is not installed")
    visited.click("#train")
    trained = scene_in(visited, "#scene")
    assert trained.evaluate("() => page4d.renderer.gaussians.count") > 100
    with visited.expect_download() as download:
        visited.click("#shared a[download]")
    assert "<title>scene</title>" in Path(download.value.path()).read_text("utf8")


@pytest.mark.slow
def test_what_is_no_video_gets_a_sentence_and_the_app_lives_on(page, tmp_path):
    (tmp_path / "letter.mp4").write_text("Dear Sir or Madam")
    send(page, tmp_path / "letter.mp4")
    page.click("#reconstruct")
    page.wait_for_selector(":text('Cannot read the video letter.mp4')")


@pytest.mark.slow
def test_a_zip_and_a_file_that_is_too_large_are_refused_as_they_are_sent(page, tmp_path):
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        archive.writestr("a.png", "a")
    page.set_input_files("#upload input[type=file]", str(tmp_path / "images.zip"))
    page.wait_for_selector(".toast-body:has-text('Invalid file type')")
    (tmp_path / "large.mp4").write_bytes(bytes(2 * 2**20))
    page.set_input_files("#upload input[type=file]", str(tmp_path / "large.mp4"))
    page.wait_for_selector(":text('exceed the maximum allowed size')")


@pytest.mark.slow
def test_sigterm_ends_the_app_and_its_job_and_leaves_no_file(browser, video, tmp_path, forking_python):
    place = tmp_path / "served"
    place.mkdir()
    with served(forking_python, place, max_frames=6) as (process, address), visit(browser, address) as page:
        send(page, video)
        page.click("#reconstruct")
        while not list(place.glob("page4d-app-*/visit-*")):
            time.sleep(0.05)
        process.terminate()
        assert process.wait() == 0
    assert not list(place.iterdir())


@pytest.mark.slow
def test_a_port_that_is_taken_is_named():
    pytest.importorskip("gradio", reason="the app needs gradio, which is not installed")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Page4DError, match=f"Port {port} is taken by another program"):
            app_command(port=port)


# --- one visit


@pytest.fixture
def functions():
    """What the page's buttons do, by name, with limits of our choice."""
    gradio = pytest.importorskip("gradio", reason="the app needs gradio, which is not installed")

    def made(folder: Path, models: Sequence[str] = ("tiny",), **limits):
        app = build(list(models), Limits(**limits), Visits(folder, 60))
        return {each.fn.__name__: each.fn for each in app.fns.values() if each.fn is not None}

    return made, gradio.Error


def silent(*args, **options) -> None:
    """A progress bar that shows nothing."""


@pytest.mark.slow
def test_a_reconstruction_that_takes_too_long_leaves_a_sentence_and_no_file(functions, video, tmp_path):
    made, refused = functions
    with pytest.raises(refused, match="longer than"):
        made(tmp_path, seconds=0.3)["reconstruct"]([str(video)], 0, 4, None, silent)
    assert not list(tmp_path.glob("visit-*"))


def made_at_once(job, uploads, model, frames, folder, *, seconds, progress):
    """In place of a reconstruction: the files that it would make."""
    for name in ("scene.html", "preview.jpg", "scene.zip"):
        Path(folder, name).write_text(f"of {Path(uploads[0]).name}")
    return Result("done", f"{folder}/preview.jpg", f"{folder}/scene.html", [f"{folder}/scene.zip"])


@pytest.mark.slow
def test_another_reconstruction_replaces_the_files_of_the_last(functions, tmp_path, monkeypatch):
    monkeypatch.setattr("page4d_hf.app.page.run_apart", made_at_once)
    (tmp_path / "a.mp4").touch()
    made, _ = functions
    reconstruct = made(tmp_path)["reconstruct"]
    first = reconstruct([str(tmp_path / "a.mp4")], 0, 4, None, silent)[0]
    other = reconstruct([str(tmp_path / "a.mp4")], 0, 4, None, silent)[0]  # of another visitor
    again = reconstruct([str(tmp_path / "a.mp4")], 0, 4, first, silent)[0]
    assert {str(path) for path in tmp_path.glob("visit-*")} == {other, again}


@pytest.mark.slow
def test_images_become_a_scene_in_the_order_of_their_names_whichever_was_clicked_first(tmp_path):
    images = [tmp_path / name for name in ("10.png", "2.png", "9.png")]
    for k, image in enumerate(images):
        Image.new("RGB", (56, 42), (80 * k, 100, 50)).save(image)
    folder = tmp_path / "visit"
    folder.mkdir()
    made = reconstruct_upload([str(image) for image in images], str(TINY), 8, str(folder), progress=silent)
    assert made.summary.startswith("3 frames")
    paths = read_scene(folder / "scene").image_paths
    assert [Image.open(path).getpixel((0, 0)) for path in paths] == [(80, 100, 50), (160, 100, 50), (0, 100, 50)]


@pytest.mark.slow
def test_a_scene_to_download_does_not_say_where_the_server_has_its_files(video, tmp_path):
    folder = tmp_path / "visit"
    folder.mkdir()
    reconstruct_upload([str(video)], str(TINY), 4, str(folder), progress=silent)
    info = read_scene(folder / "scene").info
    assert (info["source"], info["model"]) == (video.name, TINY.name)
    told = (folder / "scene" / "page4d" / "info.json").read_text()
    assert not any(str(place.parent) in told for place in (video, TINY, folder))


@pytest.mark.slow
def test_visitors_do_not_read_where_the_server_has_its_models(functions, tmp_path, monkeypatch):
    gradio = pytest.importorskip("gradio")
    models = [tmp_path / "private" / "a" / "page4d", tmp_path / "private" / "b" / "page4d"]
    for model in models:
        model.mkdir(parents=True)
    (tmp_path / "video.mp4").touch()

    def refused_at_once(job, uploads, model, frames, folder, *, seconds, progress):
        raise Page4DError(f"{model}/config.json is damaged, for {uploads[0]} in {folder}/scene.")

    monkeypatch.setattr("page4d_hf.app.page.run_apart", refused_at_once)
    app = build([*map(str, models), "tiny"], Limits(), Visits(tmp_path, 60))
    assert str(tmp_path) not in json.dumps(app.get_config_file(), default=str)
    [choice] = [block for block in app.blocks.values() if isinstance(block, gradio.Dropdown)]
    assert [choice.preprocess(name) for name in ("page4d (1)", "page4d (2)", "tiny")] == [0, 1, 2]
    made, refused = functions
    with pytest.raises(refused, match=r"^'page4d \(2\)/config.json is damaged, for video.mp4 in scene\.'$"):
        made(tmp_path, [*map(str, models)])["reconstruct"]([str(tmp_path / "video.mp4")], 1, 4, None, silent)


@pytest.mark.slow
def test_a_training_without_a_scene_is_refused(functions, tmp_path):
    made, refused = functions
    with pytest.raises(refused, match="files are gone"):
        made(tmp_path, train_steps=5)["train"](str(tmp_path / "visit-gone"), silent)


def test_files_that_are_too_large_together_are_refused(tmp_path):
    files = [tmp_path / f"{k}.png" for k in range(3)]
    for file in files:
        file.write_bytes(bytes(2**19))
    check_size([str(file) for file in files[:2]], 1)
    with pytest.raises(Page4DError, match=r"1\.5 MiB together, and 1 are allowed"):
        check_size([str(file) for file in files], 1)


# --- work in a process of its own


@pytest.mark.slow
@pytest.mark.usefixtures("quick_programs")
def test_a_job_that_dies_is_refused_or_takes_too_long_says_so():
    with pytest.raises(JobError, match="ended with code 9"):
        run_apart(odd_jobs.die, seconds=600, progress=print)
    with pytest.raises(JobError, match=r"^no cat$"):
        run_apart(odd_jobs.refuse, "no cat", seconds=600, progress=print)
    with pytest.raises(JobError, match="longer than"):
        run_apart(odd_jobs.wait, seconds=0.5, progress=print)


@pytest.mark.slow
@pytest.mark.usefixtures("quick_programs")
def test_a_job_tells_how_far_it_is_and_gives_its_result():
    told = []
    assert run_apart(odd_jobs.count, 2, seconds=600, progress=lambda *stage: told.append(stage)) == 2
    assert told == [("counting", 1, 2), ("counting", 2, 2)]


def test_a_program_that_fails_or_takes_too_long_says_so(tmp_path):
    with pytest.raises(JobError, match="exit code 3: no dog"):
        run_command(["sh", "-c", "echo no dog; exit 3"], tmp_path, tmp_path / "log", seconds=600)
    with pytest.raises(JobError, match="longer than"):
        run_command(["sh", "-c", "sleep 600; true"], tmp_path, tmp_path / "log", seconds=0.2)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"models": ()}, "--models"), ({"max_frames": 1}, "at least 2"), ({"max_upload": 0.0}, "max-upload"),
     ({"port": 0}, "got 0"), ({"train_steps": -1}, "got -1"), ({"models": ("tiny", "nothing")}, "folder nothing")],
)  # fmt: skip
def test_wrong_options_are_refused(options, message):
    with pytest.raises(Page4DError, match=message):
        app_command(**options)
