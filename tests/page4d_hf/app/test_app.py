"""The app in a real browser: a video goes up, and depth, motion, points and files come back."""

import multiprocessing
import os
import signal
import socket
import time
import zipfile
from pathlib import Path

import pytest
from browser import chromium

from page4d_hf.app.jobs import JobError, run_apart, run_command
from page4d_hf.cli import app as app_command
from page4d_hf.errors import Page4DError
from page4d_hf.synthetic import write_synthetic_capture


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def serve(port: int) -> None:
    app_command(port=port, max_upload=1.0, max_frames=4, keep_minutes=5.0)


@pytest.fixture(scope="module")
def address():
    pytest.importorskip("gradio", reason="the app needs gradio, which is not installed")
    port = free_port()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(port,))
    process.start()
    while True:
        assert process.is_alive()
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except OSError:
            time.sleep(0.2)
    yield f"http://127.0.0.1:{port}"
    assert process.is_alive()  # whatever was sent to it
    os.kill(process.pid, signal.SIGINT)
    process.join(20)
    process.kill()


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("app") / "capture"
    write_synthetic_capture(folder, num_frames=6, width=56, height=42, supersampling=1, num_points=50)
    return folder / "video.mp4"


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


@pytest.fixture
def page(browser, address):
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(240_000)
    page.goto(address)
    yield page
    context.close()


def send(page, path: Path) -> None:
    page.set_input_files("#upload input[type=file]", str(path))


@pytest.mark.slow
def test_a_video_becomes_pictures_points_and_downloads(page, video, tmp_path):
    send(page, video)
    page.wait_for_selector("#upload :text('video')")
    page.click("#reconstruct")
    page.wait_for_function("() => document.querySelector('#summary textarea').value.includes('4 frames')")
    page.wait_for_selector("#preview img")
    names = {}
    for link in page.query_selector_all("#downloads a[download]"):
        with page.expect_download() as download:
            link.click()
        names[download.value.suggested_filename] = tmp_path / download.value.suggested_filename
        download.value.save_as(names[download.value.suggested_filename])
    assert set(names) == {"scene.glb", "scene.ply", "colmap.zip", "scene.zip"}
    assert "sparse/0/cameras.bin" in zipfile.ZipFile(names["colmap.zip"]).namelist()
    assert "transforms.json" in zipfile.ZipFile(names["scene.zip"]).namelist()


@pytest.mark.slow
def test_what_is_no_video_gets_a_sentence_and_the_app_lives_on(page, tmp_path):
    (tmp_path / "letter.mp4").write_text("Dear Sir or Madam")
    send(page, tmp_path / "letter.mp4")
    page.wait_for_selector("#upload :text('letter')")
    page.click("#reconstruct")
    page.wait_for_selector(":text('Cannot read the video letter.mp4')")


@pytest.mark.slow
def test_an_upload_that_is_too_large_is_refused(page, tmp_path):
    (tmp_path / "large.mp4").write_bytes(bytes(2 * 2**20))
    send(page, tmp_path / "large.mp4")
    page.wait_for_selector(":text('exceed the maximum allowed size')")


# --- work in a process of its own


def die(progress):
    os._exit(9)


def refuse(sentence, progress):
    raise Page4DError(sentence)


def wait(progress):
    time.sleep(600)


def count(number, progress):
    for i in range(number):
        progress("counting", i + 1, number)
    return number


@pytest.mark.slow
def test_a_job_that_dies_is_refused_or_takes_too_long_says_so():
    with pytest.raises(JobError, match="ended with code 9"):
        run_apart(die, seconds=60, progress=print)
    with pytest.raises(JobError, match=r"^no cat$"):
        run_apart(refuse, "no cat", seconds=60, progress=print)
    with pytest.raises(JobError, match="longer than"):
        run_apart(wait, seconds=0.5, progress=print)


@pytest.mark.slow
def test_a_job_tells_how_far_it_is_and_gives_its_result():
    told = []
    assert run_apart(count, 2, seconds=600, progress=lambda *stage: told.append(stage)) == 2
    assert told == [("counting", 1, 2), ("counting", 2, 2)]


def test_a_program_that_fails_or_takes_too_long_says_so(tmp_path):
    with pytest.raises(JobError, match="exit code 3: no dog"):
        run_command(["sh", "-c", "echo no dog; exit 3"], tmp_path / "log", seconds=60)
    with pytest.raises(JobError, match="longer than"):
        run_command(["sh", "-c", "sleep 60"], tmp_path / "log", seconds=0.2)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"models": ()}, "--models"), ({"max_frames": 1}, "at least 2"), ({"max_upload": 0.0}, "max-upload"),
     ({"port": 0}, "got 0"), ({"train_steps": -1}, "got -1"), ({"models": ("tiny", "nothing")}, "folder nothing")],
)  # fmt: skip
def test_wrong_options_are_refused(options, message):
    with pytest.raises(Page4DError, match=message):
        app_command(**options)
