"""A reconstruction's points as one HTML file: in a browser each camera sees at each time what it filmed."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from browser import chromium, header_of, screenshot
from PIL import Image
from small_scene import SIZE, ball_folder

from page4d_hf.scene import read_scene
from page4d_hf.scene.export import export_scene
from page4d_hf.scene.web_page import points_page

LARGER = 8  # the window, times the images
RED = (250, 20, 20)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return ball_folder(tmp_path_factory.mktemp("points") / "ball")


@pytest.mark.slow
def test_each_camera_sees_what_it_filmed_at_its_time_and_not_what_it_filmed_later(tmp_path):
    scene = read_scene(ball_folder(tmp_path / "ball"))
    image = np.array(Image.open(scene.image_paths[3]).convert("RGB"))
    image[scene.load_motion(3) == 1] = RED  # the ball, in the end
    Image.fromarray(image).save(scene.image_paths[3])
    export_scene(scene, tmp_path / "ball.html", "html")
    width, height = (LARGER * side for side in SIZE)
    with chromium() as browser:
        context = browser.new_context(viewport={"width": width, "height": height}, offline=True)
        page = context.new_page()
        wrong = []
        page.on("pageerror", lambda error: wrong.append(str(error)))

        def look(view, time):
            page.goto(f"{(tmp_path / 'ball.html').as_uri()}#bare&view={view}&time={time}")
            page.reload()
            page.wait_for_selector("html[data-ready]")
            page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
            return cv2.resize(screenshot(page), SIZE, interpolation=cv2.INTER_AREA).astype(float)

        for k, other in ((0, 3), (3, 0)):
            # The page leaves the principal point out; the scene's is off the centre.
            shift = np.array(SIZE) / 2 - scene.intrinsics[k, :2, 2]
            matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]])
            image = np.asarray(Image.open(scene.image_paths[k]).convert("RGB"))
            filmed = cv2.warpAffine(image, matrix, SIZE).astype(float)
            moving = cv2.warpAffine(scene.load_motion(k), matrix, SIZE) > 0.5
            moving = cv2.erode(moving.astype(np.uint8), np.ones((3, 3))) > 0
            assert moving.sum() > 20
            inside = (slice(6, -6), slice(6, -6))
            picture = look(k, scene.times[k])
            # Of static pixels one in 16 has a point: they are alike where they are smooth.
            coarse = [cv2.GaussianBlur(seen, (0, 0), 3)[inside] for seen in (picture, filmed)]
            assert np.abs(coarse[0] - coarse[1]).mean() < 12
            assert np.abs(picture - filmed)[moving].mean() < 10
            assert np.abs(look(k, scene.times[other]) - filmed)[moving].mean() > 40
        assert not wrong


def test_a_page_shows_pixels_that_are_not_square_as_wide_as_they_are(folder):
    scene = read_scene(folder)
    wide = replace(scene, intrinsics=scene.intrinsics * np.array([0.8, 1, 1])[:, None])
    header, wider = (header_of(points_page(one, "a")[0].decode()) for one in (scene, wide))
    assert wider["focals"] == header["focals"]
    assert wider["size"] == [round(header["size"][0] / 0.8), header["size"][1]]


def test_moving_points_are_those_of_the_depth_maps_unless_points_are_limited(folder):
    scene = read_scene(folder)
    moving = sum(int((scene.load_motion(i) == 1).sum()) for i in range(len(scene)))
    still = int((scene.point_motion < 0.5).sum())
    assert points_page(scene, "a")[1] == still + moving
    assert points_page(scene, "a", dense=False)[1] == len(scene.points)
