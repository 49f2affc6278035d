"""A reconstruction's points as one HTML file: in a browser each camera sees at each time what it filmed."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from browser import chromium, header_of, screenshot, unpacked
from PIL import Image
from small_scene import SIZE, ball_folder, ball_scene

from page4d_hf.scene import read_scene
from page4d_hf.scene.export import export_scene
from page4d_hf.scene.web_page import CHUNK, Keyframes, pack, points_page

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


def sizes(header, arrays, group):
    """Standard deviations of a page's Gaussians."""
    low, high = header["ranges"]["scale"]
    return np.exp(low + arrays[group, "scale"] / 255 * (high - low))


def test_pixels_that_move_alone_are_no_wider_than_what_is_around_them(tmp_path):
    motion = ball_scene().motion
    for frame, others in ((1, slice(1, None)), (2, slice(1, -1))):  # a single one, and two that are far apart
        pixels = np.flatnonzero(motion[frame] == 1)
        motion[frame].flat[pixels[others]] = 0
    scene = read_scene(ball_folder(tmp_path / "ball", motion=motion))

    header, arrays = unpacked(points_page(scene, "a")[0].decode())

    moving = np.sort(sizes(header, arrays, "moving")[0, 0])
    assert moving[-1] < 3 * max(moving[-4], sizes(header, arrays, "still").max())
    assert (moving > sizes(header, arrays, "still").max()).sum() == 2  # of the two alone


@pytest.mark.parametrize(("unit", "origin"), [(1, (5e5, 5.3e6, 300)), (1e-4, (0, 0, 0)), (1e5, (0, 0, 0))])
def test_a_page_is_the_same_in_any_unit_and_place_of_the_world(folder, unit, origin):
    scene = replace(read_scene(folder), info={})  # of another program
    extrinsics = scene.extrinsics.copy()
    extrinsics[:, :, 3] = unit * extrinsics[:, :, 3] - extrinsics[:, :, :3] @ origin
    elsewhere = replace(scene, extrinsics=extrinsics, points=unit * scene.points.astype(np.float64) + origin)

    (header, arrays), (other, same) = (unpacked(points_page(one, "a")[0].decode()) for one in (scene, elsewhere))

    assert header["distance"] == other["distance"] == 1
    np.testing.assert_allclose(other["poses"], header["poses"], atol=1e-6)
    for group in ("moving", "still"):
        places, others = (np.sort(placed(*page, group), axis=1) for page in ((header, arrays), (other, same)))
        np.testing.assert_allclose(others, places, atol=1e-4)
        np.testing.assert_allclose(
            np.sort(sizes(other, same, group), axis=None), np.sort(sizes(header, arrays, group), axis=None), rtol=0.05
        )


def placed(header, arrays, group):
    """Where a page's Gaussians are at the first keyframe, [3, N]."""
    boxes = np.repeat(header["boxes"][group], CHUNK, axis=0)[: header[group]].T
    return boxes[:3] + arrays[group, "position"][0] / (2**16 - 1) * boxes[3:]


def test_a_title_is_no_part_of_the_page_s_html(folder):
    page = points_page(read_scene(folder), "</title><b>")[0].decode()
    assert "<title>&lt;/title&gt;&lt;b&gt;</title>" in page
    assert "<b>" not in page


def test_what_only_turns_is_moving():
    """Of three Gaussians one turns, one grows, and one stays."""
    rotation = np.tile([[0.0], [0.0], [0.0], [1.0]], (2, 1, 3))
    rotation[1, :, 0] = 0, 0, 0.6, 0.8
    scale = np.zeros((2, 3, 3))
    scale[1, 2, 1] = 0.5
    opacity, colour, harmonics = np.ones((2, 1, 3)), np.ones((2, 3, 3)), np.zeros((1, 0, 3))
    moving = Keyframes(np.zeros((2, 3, 3)), rotation, scale, opacity, colour, harmonics).changes()
    assert moving.tolist() == [True, True, False]


def test_a_small_thing_of_a_vivid_colour_keeps_it():
    rng = np.random.default_rng(0)
    colours = rng.integers(90, 140, (10_000, 3))
    colours[-5:] = RED
    count = len(colours)
    still = Keyframes(
        position=rng.uniform(size=(1, 3, count)),
        rotation=np.tile([[0.0], [0.0], [0.0], [1.0]], (1, 1, count)),
        scale=np.zeros((1, 3, count)),
        opacity=np.ones((1, 1, count)),
        colour=colours.T[None] / 255,
        harmonics=np.zeros((1, 0, count)),
    )
    still.colour[0, :, 0] = 7, -7, 7  # brighter and darker than anything that is displayed

    low, high = pack(np.zeros(1), still.select(np.zeros(0, int)), still, 0).header["ranges"]["colour"]

    assert (low, high) == (0, 1)
