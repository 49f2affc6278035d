"""The viewer: what its server sends, and what a browser shows."""

import http.client
import math
import socket
import time
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from browser import chromium, screenshot
from scipy.spatial.transform import Rotation
from small_scene import ball_folder

from page4d_hf.errors import Page4DError
from page4d_hf.geometry import camera_centers
from page4d_hf.utils.addresses import check_address
from page4d_hf.viewing.display import Display
from page4d_hf.viewing.opening import open_input
from page4d_hf.viewing.viewed_scene import Maps
from page4d_hf.viewing.viewer import Viewer

HOST = "127.0.0.1"


@contextmanager
def viewer_of(scene, **display):
    viewer = Viewer(scene, Display(**display), 0, HOST, check_address(HOST, None))
    try:
        yield viewer
    finally:
        viewer.stop()


def visible(viewer):
    return {key for key, handle in viewer._clouds.items() if handle.visible}


def until(holds):
    """Wait for what viser's threads do."""
    while not holds():
        time.sleep(0.001)


def status(viewer, path):
    connection = http.client.HTTPConnection(HOST, viewer.server.get_port())
    connection.request("GET", path)
    return connection.getresponse().status


def test_the_server_answers_with_the_page_and_with_no_file_outside_of_it(scene):
    with viewer_of(scene) as viewer:
        assert status(viewer, "/") == 200
        assert status(viewer, "/../../../../../../../../../../../../etc/passwd") == 404


def test_the_time_slider_shows_the_points_of_its_time(scene):
    with viewer_of(scene) as viewer:
        assert visible(viewer) == {("all", 0)}
        viewer._time.value = 2
        until(lambda: "time 0.667" in viewer._told.content)
        assert viewer.instant == 2
        assert visible(viewer) == {("all", 2)}


def test_all_times_and_static_points_of_all_times(scene):
    with viewer_of(scene, times="all") as viewer:
        assert visible(viewer) == {("all", k) for k in range(4)}
        viewer._times.value = "static of all times"
        until(lambda: visible(viewer) == {*(("static", k) for k in range(4)), ("moving", 0)})


def test_playing_goes_on_to_the_next_times_and_round(scene):
    with viewer_of(scene) as viewer:
        viewer._fps.value = 30
        seen = set()
        viewer._playing.value = True
        until(lambda: seen.add(viewer.instant) or seen == {0, 1, 2, 3})


def test_playing_is_no_faster_than_showing(scene):
    with viewer_of(scene) as viewer:
        show, seen = viewer.show, []

        def watched(instant):
            seen.append((int(viewer._time.value), instant))
            show(instant)

        viewer.show = watched
        viewer._fps.value = 30
        viewer._playing.value = True
        until(lambda: len(seen) >= 8)
        assert all(instant == (slider + 1) % 4 for slider, instant in seen)


@pytest.mark.parametrize(
    ("control", "values", "job", "work"),
    [("_time", (3, 2, 3), "_slide", "show"), ("_size", (2.0, 3.0, 2.5), "_restart", "_add_cloud")],
)
def test_of_many_changes_of_a_control_the_last_is_shown_once(scene, control, values, job, work):
    with viewer_of(scene) as viewer:
        jobs, works = [], []
        for name, calls in ((job, jobs), (work, works)):
            setattr(viewer, name, counted(getattr(viewer, name), calls))
        with viewer._lock:
            for value in values:
                getattr(viewer, control).value = value
        until(lambda: len(jobs) == 3)
        assert len(works) == 1
        if control == "_time":
            assert viewer.instant == 3


def counted(function, calls):
    """A function that tells of each call once it has ended."""

    def called(*given):
        result = function(*given)
        calls.append(given)
        return result

    return called


def test_tracks_end_at_the_time_that_is_shown_and_can_be_switched_off(scene):
    paths = np.linspace(0, 1, 4, dtype=np.float32)[None, :, None] * np.ones((2, 1, 3), np.float32)
    with viewer_of(replace(scene, paths=paths)) as viewer:
        assert viewer._trails is None  # no track has come from anywhere at the first time
        viewer._time.value = 2
        until(lambda: viewer._trails is not None)
        viewer._tracks.value = False
        until(lambda: viewer._trails is None)


def test_a_frame_that_is_looked_through_sets_the_time_and_clears_the_view(scene):
    with viewer_of(scene) as viewer:
        viewer._look_through(None, 3)
        until(lambda: (viewer.instant, viewer.frame) == (3, 3))
        assert not viewer._frustums.value


def test_a_panel_that_opened_where_maps_were_missing_shows_those_of_other_times(scene):
    lacking = replace(scene, load_maps=lambda frame: scene.load_maps(frame) if frame else Maps())
    with viewer_of(lacking) as viewer:
        contents = [{name: bool(at.content) for name, at in viewer._pictures.items()}]
        viewer.show(3)
        contents.append({name: bool(at.content) for name, at in viewer._pictures.items()})
    assert contents == [dict.fromkeys(("image", "depth", "motion"), known) | {"image": True} for known in (False, True)]


def test_the_page_shows_image_depth_and_motion_of_the_frame(scene):
    with viewer_of(scene) as viewer:
        assert list(viewer._pictures) == ["image", "depth", "motion"]
        before = {name: markdown.content for name, markdown in viewer._pictures.items()}
        assert all(content.startswith(f"![{name}](data:image/jpeg;base64,") for name, content in before.items())
        viewer.show(3)
        assert all(markdown.content != before[name] for name, markdown in viewer._pictures.items())


@pytest.mark.parametrize(("aspect", "width", "height"), [(1.6, 0.75, 1.0), (0.46, 1.0, 0.4)], ids=["screen", "phone"])
def test_who_opens_the_viewer_sees_all_beside_or_above_its_panel(scene, aspect, width, height):
    client = SimpleNamespace(camera=SimpleNamespace(aspect=aspect))
    with viewer_of(scene) as viewer:
        viewer._look_from_behind(client)
    camera = client.camera
    forward = camera.look_at - camera.position
    forward = forward / np.linalg.norm(forward)
    right = np.cross(forward, camera.up_direction)
    axes = np.stack((right / np.linalg.norm(right), np.cross(forward, right) / np.linalg.norm(right), forward))
    places = (np.concatenate((camera_centers(scene.extrinsics), scene.everything.points)) - camera.position) @ axes.T
    x, y = (places[:, :2] / places[:, 2:] / math.tan(camera.fov / 2)).T  # from -1 to 1 over the window's height
    inside = (np.abs(x) < width * aspect) & (y > -1) & (y < 2 * height - 1)
    assert (places[:, 2] > 0).all()
    assert inside[: len(scene)].all()  # the cameras
    assert inside.mean() > 0.85  # strays may be out of the picture


@pytest.mark.parametrize(
    "changes", [{"depth": [np.full((36, 48), np.nan, np.float32)]}, {}], ids=["no points", "points"]
)
def test_one_camera_can_be_looked_at(tmp_path, changes):
    folder = ball_folder(tmp_path / "one", count=1, **changes)
    with viewer_of(open_input(str(folder), max_frames=9, max_points=1000)) as viewer:
        assert status(viewer, "/") == 200
        viewer._size.value = 2.0


def test_a_port_that_is_taken_is_refused_and_the_default_goes_on_to_a_free_one():
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Page4DError, match=f"Port {port} is taken by another program"):
            check_address(HOST, port)
    assert check_address(HOST, None) >= 8080


# ---------------------------------------------------------------------------------------------------------------
# In a browser


def seen_in(page, holds):
    """Wait for what a page brings about."""
    while not holds():
        page.wait_for_timeout(100)


def settled(page):
    """What the page shows once it no longer changes."""
    before, now = None, screenshot(page)
    while (
        before is None
        or (now != before).any()
        or len(np.unique(now[:, : now.shape[1] // 2].reshape(-1, 3), axis=0)) <= 100
    ):
        page.wait_for_timeout(500)
        before, now = now, screenshot(page)
    return now


@pytest.mark.slow
@pytest.mark.parametrize("size", [(1200, 800), (800, 600)])
def test_a_browser_shows_the_scene_and_another_time_looks_different(scene, size):
    with viewer_of(scene) as viewer, chromium() as browser:
        page = browser.new_page(viewport={"width": size[0], "height": size[1]})
        errors = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"http://{HOST}:{viewer.server.get_port()}")
        first = settled(page)
        viewer._time.value = 3
        second = settled(page)
        left = slice(0, size[0] // 2)
        assert np.abs(first[:, left].astype(int) - second[:, left]).mean() > 0.5
        page.get_by_text("Look through", exact=True).click()
        seen_in(page, lambda: not viewer._frustums.value)
        (client,) = viewer.server.get_clients().values()
        seen_in(page, lambda: np.allclose(client.camera.position, camera_centers(scene.extrinsics[3]), atol=1e-5))
        seen_in(page, lambda: np.allclose(_forward(client.camera.wxyz), scene.extrinsics[3, 2, :3], atol=1e-4))
        third = settled(page)
        assert np.abs(second[:, left].astype(int) - third[:, left]).mean() > 5
        assert not errors


def _forward(wxyz):
    """The direction in which a camera with this camera-to-world rotation looks."""
    return Rotation.from_quat(np.roll(wxyz, -1)).as_matrix()[:, 2]
