"""Scenes as HTML files: in a real browser they show what our rasteriser renders, at each time."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from browser import chromium, screenshot
from nerfstudio.cameras.camera_paths import get_path_from_json
from small_gaussians import fine, make_model

from page4d_hf.errors import Page4DError
from page4d_nerfstudio.viewing.camera_paths import Views, make_path
from page4d_nerfstudio.viewing.export import ExportError, Run, splats_at
from page4d_nerfstudio.viewing.web_page import CHUNK, Keyframes, keyframes_of, pack, write_page

SIZE = (160, 120)
TIMES = np.linspace(0, 1, 9)
COUNT = 3 * CHUNK + 10  # with a chunk that is not full


def lively(**options):
    """Half of the Gaussians move; sizes, opacities and directions of colour as in a trained scene."""
    model = fine(make_model(COUNT, motion=(torch.arange(COUNT) < COUNT // 2).float(), **options))
    torch.manual_seed(2)
    with torch.no_grad():
        model.features_rest.normal_(std=0.1)
        model.opacities.uniform_(-3, 4)
        model.scales.copy_(torch.randn(model.scales.shape) * 0.7 - 2.5)
        model.quats.normal_()
        model.deformation.last["position"].weight.mul_(0.3)
    model.step = 100  # with harmonics of all degrees
    return model.eval()


def views() -> Views:
    """Three views from z = 4 towards the origin, of which the second and third are moved and turned."""
    poses = np.tile(np.eye(4)[:3], (3, 1, 1))
    poses[:, 2, 3] = 4
    poses[:, 0, 3] = -0.3, 0.0, 0.5
    angle = 0.1
    poses[2, :, :3] = [[math.cos(angle), 0, math.sin(angle)], [0, 1, 0], [-math.sin(angle), 0, math.cos(angle)]]
    return Views(poses, np.array([0.0, 0.5, 1.0]), np.full(3, 40.0), SIZE, None)


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
    write_page(path, run_of(model), views(), title='<b>"a" & b</b>', view=1, seconds=2.0)
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


@pytest.mark.parametrize(("view", "time"), [(1, 0.0), (0, 0.5), (2, 0.3), (1, 1.0)])
def test_a_browser_shows_what_the_rasteriser_renders(model, written, page, view, time):
    picture = opened(page, written, f"bare&view={view}&time={time}")
    assert picture.shape == (SIZE[1], SIZE[0], 3)
    assert psnr(picture, rendered(model, view, time)) > 35
    # Neither another time nor another camera looks like that.
    assert psnr(picture, rendered(model, view, abs(time - 0.25))) < 30
    assert psnr(picture, rendered(model, (view + 1) % 3, time)) < 25


def test_a_larger_window_shows_the_same_larger(model, written, page):
    page.set_viewport_size({"width": 3 * SIZE[0], "height": 2 * SIZE[1]})
    picture = opened(page, written, "bare&view=1&time=0.5")
    middle = picture[:, SIZE[0] // 2 : -SIZE[0] // 2].reshape(SIZE[1], 2, SIZE[0], 2, 3).mean(axis=(1, 3))
    assert psnr(middle, rendered(model, 1, 0.5)) > 30
