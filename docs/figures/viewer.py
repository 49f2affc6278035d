"""A picture of nerfstudio's viewer on a page4d-4dgs training, made in a headless browser.

    pip install playwright && playwright install chromium
    make demo
    python docs/figures/viewer.py --config demo-out/training/page4d-4dgs/true/config.yml

The panel is worked in the page, as a user works it. Only the camera is set from here, to that of a held-out view.
"""

from __future__ import annotations

import io
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
import viser.transforms as vtf
from nerfstudio.utils.eval_utils import eval_setup
from nerfstudio.utils.writer import setup_local_writer
from nerfstudio.viewer.viewer import VISER_NERFSTUDIO_SCALE_RATIO, Viewer
from PIL import Image
from playwright.sync_api import Page, sync_playwright

# WebGL without a graphics card.
CHROMIUM = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-sandbox")
TITLE_BAR = 51  # pixels; it has nerfstudio's logo, from the network


@dataclass
class Picture:
    """Start the viewer on a training, work its panel, and save what the page shows."""

    config: Path
    """config.yml of the training, from the folder where that was started."""
    output: Path = Path("docs/images/viewer.jpg")
    """The picture."""
    time: float = 0.8
    """Where the time slider is put."""
    gaussians: str = "all"
    """Which Gaussians are shown: all, static, moving."""
    view: int = 8
    """Number of the held-out view that is seen."""
    size: tuple[int, int] = (1280, 820)
    """Width and height of the page."""
    chromium: str | None = None
    """A browser other than Playwright's own."""

    def main(self) -> None:
        viewer, pipeline = start_viewer(self.config)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=self.chromium, args=list(CHROMIUM))
            page = browser.new_page(viewport={"width": self.size[0], "height": self.size[1]})
            page.goto(f"http://127.0.0.1:{viewer.viser_server.get_port()}")
            page.get_by_text("Connected", exact=True).wait_for()
            page.get_by_text("Hide Train Cams").click()
            (client,) = viewer.viser_server.get_clients().values()
            look_through(client, pipeline.datamanager.eval_dataset.cameras[self.view : self.view + 1])
            wait_for_image(viewer)

            page.get_by_label("Enable", exact=True).first.check()  # of the split screen
            choose(page, "Output render split", "motion")
            choose(page, "Gaussians", self.gaussians)
            type_number(page, "Time", self.time)
            for folder in ("Split Screen", "Crop Viewport"):
                page.get_by_text(folder, exact=True).click()  # folds it
            page.mouse.move(self.size[0] / 3, self.size[1] / 2)
            wait_for_image(viewer)
            picture = Image.open(io.BytesIO(page.screenshot()))
            browser.close()
        self.output.parent.mkdir(parents=True, exist_ok=True)
        picture.crop((0, TITLE_BAR, *self.size)).convert("RGB").save(self.output, quality=85, optimize=True)
        print(f"Wrote {self.output}, {self.output.stat().st_size / 1000:.0f} kB.")


def start_viewer(config_path: Path) -> tuple[Viewer, Any]:
    """What `ns-viewer` starts, in this process."""
    config, pipeline, _, step = eval_setup(config_path, test_mode="test")
    config.viewer.websocket_host = "127.0.0.1"
    folder = config.get_base_dir()
    viewer = Viewer(
        config.viewer,
        log_filename=folder / config.viewer.relative_log_filename,
        datapath=pipeline.datamanager.get_datapath(),
        pipeline=pipeline,
        train_lock=threading.Lock(),
    )
    config.logging.local_writer.enable = False
    setup_local_writer(config.logging, max_iter=config.max_num_iterations, banner_messages=viewer.viewer_info)
    viewer.init_scene(pipeline.datamanager.train_dataset, "completed", pipeline.datamanager.eval_dataset)
    viewer.update_scene(step=step)
    return viewer, pipeline


def look_through(client: Any, camera: Any) -> None:
    """Give the browser's camera the place and the angle of one of nerfstudio's."""
    pose = camera.camera_to_worlds[0].numpy()
    with client.atomic():
        client.camera.wxyz = (vtf.SO3.from_matrix(pose[:, :3]) @ vtf.SO3.from_x_radians(np.pi)).wxyz
        client.camera.position = pose[:, 3] * VISER_NERFSTUDIO_SCALE_RATIO
        client.camera.fov = float(2 * np.arctan(camera.height[0, 0] / (2 * camera.fy[0, 0])))


def wait_for_image(viewer: Viewer) -> None:
    """Until the last change is rendered in full resolution, and the browser has shown it."""
    time.sleep(3)
    while any(machine.state != "high" for machine in viewer.render_statemachines.values()):
        time.sleep(0.2)
    time.sleep(5)


def choose(page: Page, label: str, value: str) -> None:
    """An option of a dropdown."""
    page.get_by_label(label, exact=True).click()
    page.get_by_role("option", name=value, exact=True).click()


def type_number(page: Page, label: str, value: float) -> None:
    """Into the field beside a slider."""
    field = page.locator(f"//label[text()='{label}']/following::input[not(@type='hidden')][1]")
    field.fill(str(value))
    field.press("Enter")


if __name__ == "__main__":
    tyro.cli(Picture, description=__doc__).main()
