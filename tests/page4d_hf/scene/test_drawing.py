"""Pictures of points and cameras: every place is drawn at the pixel that it projects to."""

import cv2
import numpy as np
import pytest
from ball_on_plane import views, world_to_camera
from small_scene import SIZE, projected

from page4d_hf.geometry import camera_centers
from page4d_hf.scene.drawing import (
    PALE,
    Line,
    Look,
    Poster,
    camera_corners,
    colored,
    draw,
    from_above,
    frustum_depth,
    overview,
)

RED, BLUE, BLACK = (255, 0, 0), (0, 0, 255), (0, 0, 0)
PICTURE = (120, 80)
LOOK = Look(world_to_camera(views()[0])[:3], 1.25, 4.0)
INTRINSICS = np.array([[100.0, 0, 60], [0, 100, 40], [0, 0, 1]])  # focal length 1.25 heights
CAMERAS = np.stack([world_to_camera(view)[:3] for view in views(6)])
NO_POINTS = np.zeros((0, 3))


def before(x, y, z):
    """The place that LOOK sees at a pixel and a depth."""
    seen = z * np.linalg.inv(INTRINSICS) @ [x, y, 1]
    return (seen - LOOK.extrinsics[:, 3]) @ LOOK.extrinsics[:, :3]


def centre_of(picture, color):
    """The mean position of the pixels of a colour."""
    ys, xs = np.nonzero((picture == color).all(axis=-1))
    return np.array([xs.mean(), ys.mean()]) + 0.5


def test_a_point_is_a_square_around_the_pixel_that_it_projects_to():
    picture = draw(LOOK, PICTURE, before(30.5, 20.5, 3)[None], np.array([RED], np.uint8), point_size=5)
    assert ((picture == RED).all(axis=-1)).sum() == 25
    np.testing.assert_allclose(centre_of(picture, RED), [30.5, 20.5])


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_a_nearer_point_hides_one_behind_it(order):
    points = np.stack((before(30.5, 20.5, 3), before(30.5, 20.5, 5)))[order]
    picture = draw(LOOK, PICTURE, points, np.array([RED, BLUE], np.uint8)[order])
    assert (picture[20, 30] == RED).all()
    assert not (picture == BLUE).all(axis=-1).any()


def test_points_behind_the_camera_and_beside_the_picture_are_not_drawn():
    points = np.stack((before(30, 20, -3), before(-30, 20, 3), before(30, 500, 3)))
    picture = draw(LOOK, PICTURE, points, np.zeros((3, 3), np.uint8))
    assert (picture == PALE).all()


def test_an_image_lies_between_its_corners_and_over_points():
    image = np.zeros((10, 20, 3), np.uint8)
    image[:, 10:] = RED
    corners = np.stack([before(*place, 3) for place in ((20, 10), (60, 10), (60, 30), (20, 30))])
    point = before(30, 20, 2)[None]
    picture = draw(LOOK, PICTURE, point, np.array([BLUE], np.uint8), posters=[Poster(image, corners)])
    assert (picture[11:29, 21:39] == BLACK).all()
    assert (picture[11:29, 42:59] == RED).all()
    assert (picture[:9] == picture[0, 0]).all()


def test_a_line_joins_the_pixels_of_its_ends_and_is_cut_at_the_camera():
    inside = Line(np.stack((before(10, 40.5, 3), before(110, 40.5, 6))), BLACK)
    picture = draw(LOOK, PICTURE, NO_POINTS, NO_POINTS.astype(np.uint8), lines=[inside])
    assert (picture[40, 12:108] < 60).all()
    assert (picture[:35] == picture[0, 0]).all()
    # Towards the camera's own place and beyond, a line ends at the border of the picture.
    through = Line(
        np.stack((before(60, 40, 3), before(60, 40, 3) + 10 * (before(0, 40, -3) - before(60, 40, 3)))), BLACK
    )
    cut = draw(LOOK, PICTURE, NO_POINTS, NO_POINTS.astype(np.uint8), lines=[through])
    assert (cut[40] < 100).any()
    assert (cut[:35] == cut[0, 0]).all()


def test_a_frustum_ends_at_the_corners_of_its_image():
    (corners,) = camera_corners(LOOK.extrinsics[None], INTRINSICS[None], np.array([PICTURE]), 2.5)
    np.testing.assert_allclose(
        projected(corners, LOOK.extrinsics, INTRINSICS), [[0, 0], [120, 0], [120, 80], [0, 80]], atol=1e-9
    )
    np.testing.assert_allclose((corners - camera_centers(LOOK.extrinsics)) @ LOOK.extrinsics[2, :3], 2.5)


@pytest.mark.parametrize("look_from", [overview, from_above])
@pytest.mark.parametrize("cameras", [CAMERAS, CAMERAS[:1]], ids=["path", "one"])
@pytest.mark.parametrize("count", [0, 500])
def test_a_view_of_the_world_holds_all_cameras_and_nine_in_ten_points(look_from, cameras, count):
    points = np.random.default_rng(0).normal([0, 0, 4], 1, (count, 3))
    depth = frustum_depth(cameras, points)
    intrinsics = np.array([[50.0, 0, 24], [0, 50, 18], [0, 0, 1]])
    corners = camera_corners(cameras, np.tile(intrinsics, (len(cameras), 1, 1)), np.array([SIZE] * len(cameras)), depth)
    look = look_from(cameras, points, 1.5, corners)
    lens = np.array([[look.focal, 0, 0.75], [0, look.focal, 0.5], [0, 0, 1]])

    def inside(places):
        pixels = projected(places, look.extrinsics, lens)
        before_it = places @ look.extrinsics[2, :3] + look.extrinsics[2, 3] > 0
        return ((pixels > 0) & (pixels < [1.5, 1])).all(axis=1) & before_it

    assert inside(np.concatenate((camera_centers(cameras), *corners))).all()
    if count:
        assert inside(points).mean() >= 0.9


def test_cameras_that_look_ahead_look_up_in_the_picture_from_above():
    look = from_above(CAMERAS, NO_POINTS, 1.0, NO_POINTS)
    ahead = CAMERAS[:, 2, :3].mean(axis=0) @ look.extrinsics[:, :3].T
    assert ahead[1] < -0.9 * np.linalg.norm(ahead)


def test_values_run_through_the_palette_and_what_is_not_known_is_grey():
    colors = colored(np.array([[0.0, 1.0], [np.nan, 7.0]]), 0, 1, cv2.COLORMAP_HOT)
    assert colors[0, 0].tolist() == [0, 0, 0]
    assert colors[0, 1].tolist() == colors[1, 1].tolist() == [255, 255, 255]
    assert colors[1, 0].tolist() == [128, 128, 128]
