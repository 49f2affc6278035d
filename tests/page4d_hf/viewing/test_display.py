"""Which points are shown and in which colours, in the browser as in a picture."""

from dataclasses import replace

import numpy as np
import pytest
from ball_on_plane import BALL
from PIL import Image
from small_layouts import write_nerfstudio
from small_scene import ball_folder

from page4d_hf import cli
from page4d_hf.errors import Page4DError
from page4d_hf.viewing.display import TRACK, Display, Palette
from page4d_hf.viewing.opening import open_input
from page4d_hf.viewing.picture import CURRENT, picture_of

EVERYTHING = {"least_confident": 0}


def shown(scene, instant=1, **options):
    return Palette(scene).shown(Display(**{**EVERYTHING, **options}), instant)


def test_points_are_of_one_time_or_of_all(scene):
    np.testing.assert_array_equal(shown(scene).points, scene.clouds[1].points)
    assert len(shown(scene, times="all")) == sum(map(len, scene.clouds))


def test_static_points_of_all_times_stand_beside_the_moving_ones_of_one(scene):
    cloud = shown(scene, times="static")
    moving = [(part.motion >= 0.5).sum() for part in scene.clouds]
    assert (cloud.motion >= 0.5).sum() == moving[1] > 0
    assert (cloud.motion < 0.5).sum() == sum(map(len, scene.clouds)) - sum(moving)


@pytest.mark.parametrize("kind", ["static", "moving"])
def test_only_what_moves_or_stands_still_is_shown_if_asked_for(scene, kind):
    cloud = shown(scene, moving=kind)
    assert len(cloud)
    assert ((cloud.motion >= 0.5) == (kind == "moving")).all()


def test_the_least_confident_share_of_all_points_is_hidden(tmp_path):
    ramp = [np.linspace(1, 2, 36 * 48, dtype=np.float32).reshape(36, 48) + i for i in range(4)]
    scene = open_input(str(ball_folder(tmp_path / "ball", depth_conf=ramp)), max_frames=9, max_points=10**6)
    everything, half = shown(scene, times="all"), shown(scene, times="all", least_confident=50)
    assert abs(len(half) - len(everything) / 2) < 5
    assert half.confidence.min() >= np.median(everything.confidence) - 1e-3


def test_colours_follow_depth_motion_and_time(scene):
    near_far = shown(scene, color="depth")
    order = np.argsort(near_far.depth)
    reddish = near_far.colors[order, 0].astype(int) - near_far.colors[order, 2]
    assert reddish[:100].mean() > 50 + reddish[-100:].mean()
    cloud = shown(scene, color="motion")
    assert cloud.colors[cloud.motion == 1].sum(axis=1).min() > cloud.colors[cloud.motion == 0].sum(axis=1).max()
    first, last = (shown(scene, k, color="time").colors[0].astype(int) for k in (0, 3))
    assert last[0] - last[2] > first[0] - first[2]


def test_a_colour_that_the_points_do_not_have_is_refused(tmp_path):
    folder = ball_folder(tmp_path / "ball", motion=None, point_motion=None)
    scene = open_input(str(folder), max_frames=9, max_points=100)
    palette = Palette(scene)
    assert palette.colors() == ["image", "depth", "confidence", "time"]
    with pytest.raises(Page4DError, match="cannot be coloured by motion; it has image, depth, confidence, time"):
        palette.check(Display(color="motion"))
    with pytest.raises(Page4DError, match="does not say what moves"):
        palette.check(Display(times="static"))


# ---------------------------------------------------------------------------------------------------------------
# Pictures


def test_a_picture_shows_the_points_and_marks_the_cameras_of_its_time(scene):
    size = (480, 320)
    pictures = [picture_of(scene, Display(**EVERYTHING), k, size) for k in (0, 3)]
    for picture in pictures:
        assert picture.shape == (320, 480, 3)
        orange = (np.abs(picture.astype(int) - CURRENT).max(axis=-1) < 30).sum()
        assert orange > 30
    assert np.abs(pictures[0].astype(int) - pictures[1]).mean() > 1


def test_a_picture_shows_the_tracks_of_what_moves_unless_they_are_left_out(scene):
    rising = BALL.astype(np.float32) + np.float32([[0, -1, 0], [0, 1, 0]])
    scene = replace(scene, paths=np.stack((*rising, *rising))[None])
    with_tracks, without = (picture_of(scene, Display(tracks=shown), 3, (320, 200)) for shown in (True, False))
    assert ((with_tracks == TRACK).all(axis=2) & (without != TRACK).any(axis=2)).any()


def test_a_scene_without_points_has_a_picture_of_its_cameras(tmp_path):
    blind = [np.full((36, 48), np.nan, np.float32)] * 4
    scene = open_input(str(ball_folder(tmp_path / "ball", depth=blind)), max_frames=9, max_points=100)
    picture = picture_of(scene, Display(), 0, (200, 100))
    assert (picture != picture[0, 0]).any()


@pytest.mark.slow
def test_the_command_says_where_there_is_no_point_to_show(tmp_path, capsys):
    cli.main(["view", str(write_nerfstudio(tmp_path / "bare")), "--screenshot", str(tmp_path / "out.png")])
    assert "No points and no depth are known: only the cameras are shown." in capsys.readouterr().out


def test_the_command_writes_a_picture_and_says_what_was_thinned(folder, tmp_path, capsys):
    target = tmp_path / "out.png"
    options = ["--screenshot", str(target), "--size", "320", "200", "--max-points", "1000", "--points", "all"]
    cli.main(["view", str(folder), *options])
    assert Image.open(target).size == (320, 200)
    assert "4 of 4 frames, 1,000 of" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        cli.main(["view", str(folder), *options])
    assert "--overwrite" in capsys.readouterr().err
