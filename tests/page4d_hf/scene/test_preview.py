"""The contact sheet of a scene."""

import json

import numpy as np
import pytest
from PIL import Image
from small_scene import SIZE, ball_scene

from page4d_hf.frames import Frames
from page4d_hf.scene import read_scene
from page4d_hf.scene.preview import COLUMNS, GAP, WIDTH, WORLD_HEIGHT, contact_sheet

COLUMN = (WIDTH - GAP * (COLUMNS + 1)) // COLUMNS
ROW = round(COLUMN * SIZE[1] / SIZE[0])


def sheet_of(scene):
    return contact_sheet(scene, np.linspace(0, 1, len(scene)))


def cell(sheet, row, column):
    top, left = GAP + row * (ROW + GAP), GAP + column * (COLUMN + GAP)
    return sheet[top : top + ROW, left : left + COLUMN].astype(float)


def test_the_scene_holds_the_sheet_among_the_files_that_page4d_wrote(tmp_path):
    from page4d_hf.scene import write_scene

    folder = write_scene(tmp_path / "scene", ball_scene(), preview=True)
    assert Image.open(folder / "preview.jpg").size[0] == WIDTH
    assert "preview.jpg" in json.loads((folder / ".page4d-files.json").read_text())["files"]
    write_scene(folder, ball_scene(), overwrite=True)
    assert not (folder / "preview.jpg").exists()
    assert len(read_scene(folder)) == 4


def test_transparent_pixels_are_shown_white_whatever_lies_beneath():
    scene = ball_scene(12)
    clear = [np.concatenate((image, np.zeros_like(image[..., :1])), axis=2) for image in scene.frames.images]
    scene.frames.images = clear
    assert cell(sheet_of(scene), 0, 0)[40:].min() == 255  # below the label


def test_columns_show_frames_spread_over_the_clip_with_their_depth_and_motion():
    scene = ball_scene(12)
    sheet = sheet_of(scene)
    assert sheet.shape == (GAP + 3 * (ROW + GAP) + WORLD_HEIGHT + GAP, WIDTH, 3)
    for column, frame in ((0, 0), (COLUMNS - 1, 11)):
        image = np.asarray(Image.fromarray(scene.frames.images[frame]).resize((COLUMN, ROW)), float)
        shown = cell(sheet, 0, column)
        assert np.abs(image - shown)[40:].mean() < 3  # below the label
        depth, moves = (
            np.asarray(Image.fromarray(maps[frame]).resize((COLUMN, ROW)))[40:] for maps in (scene.depth, scene.motion)
        )
        colors = cell(sheet, 1, column)[40:]
        near, far = (depth < np.percentile(depth, 20)), (depth > np.percentile(depth, 80))
        assert (colors[near, 0] - colors[near, 2]).mean() > 50 + (colors[far, 0] - colors[far, 2]).mean()
        bright = cell(sheet, 2, column)[40:].sum(axis=-1)
        assert bright[moves > 0.5].mean() > 5 * max(bright[moves < 0.5].mean(), 10)


@pytest.mark.parametrize(
    ("changes", "rows"),
    [
        ({"motion": None}, 2),
        ({name: np.zeros((0, 3), np.uint8) for name in ("points", "point_colors")}, 3),
        ({"depth": [np.full((4, 6), np.nan, np.float32)] * 4}, 3),
        ({"extrinsics": np.tile(np.eye(4)[:3], (4, 1, 1))}, 3),
    ],
    ids=["no mask", "no points", "no depth", "still camera"],
)
def test_a_scene_that_lacks_something_has_a_sheet_without_it(changes, rows):
    assert sheet_of(ball_scene(**changes)).shape[0] == GAP + rows * (ROW + GAP) + WORLD_HEIGHT + GAP


def test_a_single_frame_has_a_sheet():
    assert sheet_of(ball_scene(1)).shape[1] == WIDTH


def test_frames_of_all_sizes_are_shown_whole():
    scene = ball_scene()
    images = [np.full((h, w, 3), 80 * i, np.uint8) for i, (h, w) in enumerate([(30, 40), (40, 30), (2, 500), (500, 2)])]
    scene.frames = Frames(images, scene.frames.names, scene.frames.times, None, "images")
    sheet = sheet_of(scene)
    for i in (1, 2, 3):
        assert (sheet == 80 * i).all(axis=-1).sum() >= 40
