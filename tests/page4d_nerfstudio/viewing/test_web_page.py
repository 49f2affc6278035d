"""Scenes as HTML files: in a real browser they show what our rasteriser renders, at each time."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from browser import another, chromium, header_of, screenshot
from nerfstudio.cameras.camera_paths import get_path_from_json
from small_gaussians import fine, make_model

from page4d_hf.errors import Page4DError
from page4d_hf.scene.web_page import CHUNK
from page4d_nerfstudio.commands import share
from page4d_nerfstudio.viewing.camera_paths import Views, make_path
from page4d_nerfstudio.viewing.export import ExportError, Run
from page4d_nerfstudio.viewing.web_page import keyframes_of, write_page

SIZE = (160, 120)
TIMES = np.linspace(0, 1, 9)
COUNT = 3 * CHUNK + 10  # with a chunk that is not full


def lively(**options):
    """Half of the Gaussians move; sizes, opacities and directions of colour as in a trained scene."""
    model = fine(make_model(COUNT, **{"motion": (torch.arange(COUNT) < COUNT // 2).float(), **options}))
    torch.manual_seed(2)
    with torch.no_grad():
        model.features_rest.normal_(std=0.1)
        model.opacities.uniform_(-3, 4)
        model.scales.copy_(torch.randn(model.scales.shape) * 0.7 - 2.5)
        model.quats.normal_()
        for planes in model.deformation.hexplane.time:
            planes.uniform_(0, 3)  # much of the motion over time
        for layer in (model.deformation.hidden, model.deformation.last["position"]):
            layer.bias.zero_()
    model.step = 100  # with harmonics of all degrees
    return model.eval()


def views() -> Views:
    """Three views from z = 4 towards the origin, each moved, the third turned, of different fields of view."""
    poses = np.tile(np.eye(4)[:3], (3, 1, 1))
    poses[:, 2, 3] = 4
    poses[:, 0, 3] = -0.3, 0.0, 0.5
    angle = 0.1
    poses[2, :, :3] = [[math.cos(angle), 0, math.sin(angle)], [0, 1, 0], [-math.sin(angle), 0, math.cos(angle)]]
    return Views(poses, np.array([0.0, 0.5, 1.0]), np.array([36.0, 40.0, 44.0]), np.tile(SIZE, (3, 1)), None)


def run_of(model) -> Run:
    return Run(model, TIMES, np.eye(3, 4), 1.0)


def rendered(model, view: int, time: float, size=SIZE) -> np.ndarray:
    """What the rasteriser shows, [H, W, 3] in [0, 1]."""
    path = make_path(views(), "still", (time, time), 1.0, 1.0, view, 0.1)
    path |= {"render_width": size[0], "render_height": size[1]}
    with torch.no_grad():
        return model.get_outputs_for_camera(get_path_from_json(path)[0:1])["rgb"].numpy()


def psnr(picture: np.ndarray, truth: np.ndarray) -> float:
    return -10 * math.log10(np.mean((picture / 255 - truth) ** 2))


@pytest.fixture(scope="module")
def model():
    return lively()


@pytest.fixture(scope="module")
def written(model, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("pages") / "a scene.html"
    write_page(path, run_of(model), views(), title='<b>"a" & b</title>', view=1, seconds=2.0)
    return path


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


@pytest.fixture
def page(browser):
    """A page without a network, on which no script may fail."""
    context = browser.new_context(viewport={"width": SIZE[0], "height": SIZE[1]}, offline=True)
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    page.on("request", lambda request: wrong.append(request.url) if not request.url.startswith("file:") else None)
    yield page
    context.close()
    assert not [text for text in wrong if "GPU stall due to ReadPixels" not in text]


def opened(page, path: Path, fragment: str) -> np.ndarray:
    page.goto(f"{path.as_uri()}#{fragment}")
    page.wait_for_selector("html[data-ready]")
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return screenshot(page)


@pytest.mark.slow
@pytest.mark.parametrize(("view", "time"), [(1, 0.0), (0, 0.5), (2, 0.3), (1, 1.0)])
def test_a_browser_shows_what_the_rasteriser_renders(model, written, page, view, time):
    picture = opened(page, written, f"bare&view={view}&time={time}")
    assert picture.shape == (SIZE[1], SIZE[0], 3)
    assert psnr(picture, rendered(model, view, time)) > 35
    # Neither another time nor another camera looks like that.
    assert psnr(picture, rendered(model, view, abs(time - 0.25))) < 28
    assert psnr(picture, rendered(model, (view + 1) % 3, time)) < 28


@pytest.mark.slow
def test_a_larger_window_shows_the_same_larger(model, written, page):
    page.set_viewport_size({"width": 3 * SIZE[0], "height": 2 * SIZE[1]})
    picture = opened(page, written, "bare&view=1&time=0.5")
    middle = picture[:, SIZE[0] // 2 : -SIZE[0] // 2].reshape(SIZE[1], 2, SIZE[0], 2, 3).mean(axis=(1, 3))
    assert psnr(middle, rendered(model, 1, 0.5)) > 30


@pytest.mark.slow
def test_the_page_plays_pauses_and_goes_to_a_time(written, page):
    page.set_viewport_size({"width": 480, "height": 320})
    opened(page, written, "")  # plays by itself
    assert page.title() == '<b>"a" & b</title>'
    page.wait_for_function("() => page4d.playing && page4d.time > 0.1")
    page.click("#play")
    paused = page.evaluate("() => page4d.time")
    before = screenshot(page)
    assert page.evaluate("() => [page4d.playing, page4d.time]") == [False, paused]
    other = 0.75 if paused < 0.5 else 0.25  # far from the time on the screen, wherever it was paused
    page.fill("#time", str(other))
    page.wait_for_function("() => !page4d.stale")
    assert page.text_content("#clock") == f"{2 * other:.1f} s"  # of a clip of two seconds
    assert (np.abs(screenshot(page).astype(int) - before)[:200] > 16).any()


@pytest.mark.slow
def test_mouse_wheel_and_touch_move_the_camera(written, browser):
    context = browser.new_context(viewport={"width": 400, "height": 300}, has_touch=True)
    page = context.new_page()
    opened(page, written, "time=0")

    def eye() -> np.ndarray:
        return np.array(page.evaluate("() => page4d.orbit.eye"))

    target = np.array(page.evaluate("() => page4d.orbit.target"))
    start = eye()
    page.mouse.move(200, 100)
    page.mouse.down()
    page.mouse.move(260, 100, steps=3)
    page.mouse.up()
    orbited = eye()
    assert orbited[0] < start[0] - 0.1  # the scene follows the hand to the right
    assert np.linalg.norm(orbited - target) == pytest.approx(np.linalg.norm(start - target))
    page.mouse.wheel(0, -100)
    page.wait_for_function(f"() => page4d.orbit.distance < {0.99 * np.linalg.norm(start - target)}")
    page.click("#reset")
    np.testing.assert_allclose(eye(), start)

    session = context.new_cdp_session(page)
    for kind, apart in (("touchStart", 40), ("touchMove", 60), ("touchMove", 80), ("touchEnd", None)):
        points = [] if apart is None else [{"x": 200 - apart, "y": 100, "id": 0}, {"x": 200 + apart, "y": 100, "id": 1}]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    assert np.linalg.norm(eye() - target) == pytest.approx(np.linalg.norm(start - target) / 2, rel=0.05)  # a pinch
    context.close()


@pytest.mark.slow
def test_the_camera_that_filmed_can_be_followed(model, written, page):
    opened(page, written, "bare&time=0.5")
    page.evaluate("() => { document.getElementById('filmed').checked = true; page4d.show(1.0); }")
    page.wait_for_function("() => !page4d.stale")
    assert psnr(screenshot(page), rendered(model, 2, 1.0)) > 35


@pytest.mark.slow
def test_the_camera_that_filmed_stands_still_while_a_rig_films(model, page, tmp_path):
    """Of a rig's cameras at one instant the first is followed, between instants too; each can be opened at."""
    rig = views()
    twice = {name: np.concatenate([getattr(rig, name)] * 2) for name in ("poses", "fov", "sizes")}
    rig = rig._replace(times=np.repeat([0.0, 1.0], 3), **twice)
    write_page(tmp_path / "rig.html", run_of(model), rig, title="rig", view=1, seconds=1.0)
    opened(page, tmp_path / "rig.html", "view=2&time=0")
    assert page.evaluate("() => page4d.orbit.eye") == pytest.approx(rig.poses[2, :, 3])
    page.keyboard.press("c")
    for time in (0.0, 0.1, 0.5, 0.9, 1.0):
        page.evaluate(f"() => page4d.show({time})")
        assert page.evaluate("() => page4d.orbit.eye") == pytest.approx(rig.poses[0, :, 3])


@pytest.mark.slow
def test_keys_work_whatever_was_clicked_last_and_with_caps_lock(written, page):
    page.set_viewport_size({"width": 480, "height": 320})
    opened(page, written, "time=0")
    is_filmed = "() => document.getElementById('filmed').checked"
    page.click("#time")
    page.keyboard.press(" ")
    assert page.evaluate("() => page4d.playing")
    page.keyboard.press("C")
    assert page.evaluate(is_filmed)
    page.check("#filmed")
    page.uncheck("#filmed")
    page.keyboard.press("c")
    assert page.evaluate(is_filmed)
    page.keyboard.press(" ")  # of the box itself, and of it alone
    assert not page.evaluate(is_filmed)
    assert page.evaluate("() => page4d.playing")
    page.click("#play")
    page.keyboard.press(" ")  # of the button itself, once
    assert page.evaluate("() => page4d.playing")
    other_layouts = [("\u0441", "KeyC", True), ("j", "KeyC", True), ("\u0627", "KeyH", True), ("c", "KeyI", False)]
    for key, code, checked in other_layouts:
        event = f"new KeyboardEvent('keydown', {{key: '{key}', code: '{code}', bubbles: true}})"
        page.evaluate(f"() => document.body.dispatchEvent({event})")
        assert page.evaluate(is_filmed) == checked
    page.keyboard.down("c")
    page.keyboard.down("c")  # held
    assert page.evaluate(is_filmed)
    page.evaluate("() => { document.getElementById('whole').hidden = true; }")  # as where it cannot be had
    page.keyboard.press("f")
    assert not page.evaluate("() => document.fullscreenElement")


@pytest.mark.slow
def test_a_view_of_the_address_ends_the_look_through_the_camera_that_filmed(written, page):
    opened(page, written, "time=0")
    page.keyboard.press("c")
    page.evaluate("() => { location.hash = 'time=0&view=2'; }")
    page.wait_for_function(f"() => Math.abs(page4d.orbit.eye[0] - {views().poses[2, 0, 3]}) < 1e-9")
    assert not page.evaluate("() => document.getElementById('filmed').checked")


@pytest.mark.slow
def test_where_nothing_moves_time_passes_for_the_camera_that_filmed_alone(page, tmp_path):
    still = lively(motion=torch.zeros(COUNT))
    page.set_viewport_size({"width": 480, "height": 320})
    write_page(tmp_path / "a.html", run_of(still), views(), title="a", view=1, seconds=1.0)
    opened(page, tmp_path / "a.html", "")
    for key in (" ", "c", "r"):
        page.keyboard.press(key)
        assert [page.is_visible(f"#{name}") for name in ("play", "time", "clock")] == [key == "c"] * 3
        assert not page.evaluate("() => page4d.playing")
    page.keyboard.press("c")
    page.fill("#time", "1")
    assert page.evaluate("() => page4d.orbit.eye") == pytest.approx(views().poses[2, :, 3])
    assert page.text_content("#clock") == "1.0 s"
    page.click("#play")
    page.wait_for_function("() => page4d.time > 0 && page4d.time < 1")
    page.keyboard.press("r")
    assert not page.evaluate("() => page4d.playing")


@pytest.mark.slow
def test_a_browser_without_webgl_2_gets_a_sentence(written, browser):
    with another(browser, "--disable-3d-apis") as without:
        page = without.new_page()
        page.goto(written.as_uri())
        page.wait_for_function("() => document.getElementById('message').textContent.includes('needs WebGL 2')")
        assert not page.is_visible("#controls")


@pytest.mark.slow
def test_a_context_that_is_lost_while_the_page_opens_is_told_as_such(written, browser):
    with browser.new_context() as context:
        context.add_init_script(
            """const get = HTMLCanvasElement.prototype.getContext;
            HTMLCanvasElement.prototype.getContext = function (kind, options) {
              const context = get.call(this, kind, options);
              context.getExtension("WEBGL_lose_context")?.loseContext();
              return context;
            };"""
        )
        page = context.new_page()
        page.goto(written.as_uri())
        page.wait_for_function("() => document.getElementById('message').textContent.includes('dropped this page')")


@pytest.mark.slow
def test_a_preview_without_scripts_and_a_browser_that_cannot_read_them_get_a_sentence(written, browser, tmp_path):
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(written.as_uri())
        assert "this preview runs no scripts" in page.text_content("#message")
    unread = tmp_path / "unread.html"
    unread.write_text(written.read_text().replace("class Page {", "class Page { static ?"))
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(unread.as_uri())
        assert "needs a browser from 2023 or later" in page.text_content("#message")


# --- what is stored


def test_what_moves_is_stored_over_time_and_the_rest_once(model):
    times, moving, still = keyframes_of(run_of(model), 3, 5)
    np.testing.assert_array_equal(times, TIMES[::2])
    assert moving.position.shape[0] == 5
    assert still.position.shape[0] == 1
    assert 0.9 * (COUNT // 2) < moving.amount <= COUNT // 2
    assert moving.amount + still.amount == COUNT


@pytest.mark.parametrize("default_time", [None, 0.4])
def test_a_training_without_times_is_stored_at_the_one_that_it_was_trained_at(default_time):
    model = lively(default_time=default_time)
    only = default_time or 0.0

    times, moving, still = keyframes_of(run_of(model)._replace(times=np.array([only]), only_time=only), 0, 5)

    assert (times.tolist(), moving.amount, still.amount) == ([only], 0, COUNT)
    with torch.no_grad():
        means = model.gaussians_at(only).means.numpy()
    np.testing.assert_allclose(np.sort(still.position[0], axis=1), np.sort(means.T, axis=1), atol=1e-6)


def test_a_page_has_square_pixels_and_the_size_of_the_view_that_it_opens_at(model, tmp_path):
    turned = views()._replace(sizes=np.array([SIZE, (200, 80), SIZE]))
    write_page(tmp_path / "a.html", run_of(model), turned, title="a", view=1, seconds=1.0)
    header = header_of((tmp_path / "a.html").read_text())
    assert header["size"] == [200, 80]
    assert header["focals"] == pytest.approx((40 / np.tan(np.radians([18, 20, 22]))).tolist())


def test_what_may_move_and_does_not_is_stored_once():
    model = lively()
    for layer in model.deformation.last.values():
        torch.nn.init.zeros_(layer.weight)
    _, moving, still = keyframes_of(run_of(model), 0, 5)
    assert (moving.amount, still.amount) == (0, COUNT)


@pytest.mark.slow
@pytest.mark.parametrize("moving", [0, COUNT])
def test_a_scene_may_be_all_static_or_all_in_motion(moving, page, tmp_path):
    model = lively(motion=(torch.arange(COUNT) < moving).float())
    write_page(tmp_path / "a.html", run_of(model), views(), title="a", view=1, seconds=1.0)
    assert psnr(opened(page, tmp_path / "a.html", "bare&time=0.5"), rendered(model, 1, 0.5)) > 35


def test_broken_and_invisible_gaussians_are_left_out(tmp_path):
    model = lively()
    with torch.no_grad():
        model.means[3, 1] = float("nan")
        model.scales[-1, 0] = float("inf")
        model.opacities[[5, -5]] = -9.0  # fainter than a 255th
    page = write_page(tmp_path / "a.html", run_of(model), views(), title="a", view=0, seconds=1.0)
    assert page.moving + page.still == COUNT - 4
    with torch.no_grad():
        model.opacities.fill_(-9.0)
    with pytest.raises(ExportError, match="No Gaussian"):
        write_page(tmp_path / "b.html", run_of(model), views(), title="b", view=0, seconds=1.0)
    assert [path.name for path in tmp_path.iterdir()] == ["a.html"]


def test_a_page_may_open_where_no_gaussian_is_seen(model, tmp_path):
    away = views()
    away.poses[1, :, :3] = np.diag([-1.0, 1, -1])
    write_page(tmp_path / "a.html", run_of(model), away, title="a", view=1, seconds=1.0)
    assert 0 < header_of((tmp_path / "a.html").read_text())["distance"] < 10


def test_fewer_harmonics_and_keyframes_make_a_smaller_file(model, written, tmp_path):
    def size(**options) -> int:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.html"
        return write_page(path, run_of(model), views(), title="a", view=1, seconds=1.0, **options).size

    assert written.stat().st_size > size(degree=1) > size(degree=0) > size(degree=0, keyframes=3)


# --- the command

WRONG_OPTIONS = {
    "another kind of file": ({"output": Path("a.webm")}, "must end in .html, .mp4 or .gif"),
    "a degree that the page does not know": ({"sh_degree": 4}, "from 0 to 3, got 4"),
    "one keyframe": ({"keyframes": 1}, "from 2 to 1,000, got 1"),
    "no width": ({"output": Path("a.mp4"), "width": 0}, "got 0"),
    "no length": ({"seconds": 0.0}, "--seconds must be a positive number"),
    "three times": ({"output": Path("a.mp4"), "time": (0.0, 0.5, 1.0)}, "--time takes one instant"),
    "a GIF that no browser plays": (
        {"output": Path("a.gif"), "fps": 60.0},
        "--fps of a GIF must be at most 50, which browsers play, got 60",
    ),
    "a page along a path": (
        {"path": "training", "time": (0.0,)},
        "a web page, which takes other options: leave out --path, --time",
    ),
    "a video of keyframes": ({"output": Path("a.mp4"), "keyframes": 9}, "a.mp4 is a video, .* leave out --keyframes"),
    "a folder of a degree": (
        {"output": Path("a"), "sh_degree": 0},
        "a is a folder of PLY files, .* leave out --sh-degree",
    ),
    "a folder from one instant to another": (
        {"output": Path("a"), "time": (0.0, 1.0)},
        "holds each instant, or the one that --time names; got 2",
    ),
}


@pytest.mark.parametrize("wrong", WRONG_OPTIONS)
def test_wrong_options_are_refused_before_anything_is_read(wrong):
    options, message = WRONG_OPTIONS[wrong]
    with pytest.raises(Page4DError, match=message):
        share(**({"load_config": (Path("nowhere.yml"),), "output": Path("a.html")} | options))


def test_an_output_in_the_way_is_refused_before_anything_is_read(tmp_path):
    (tmp_path / "a.html").write_text("")
    with pytest.raises(Page4DError, match="exists; name another one, or pass --overwrite"):
        share((Path("nowhere.yml"),), tmp_path / "a.html")
