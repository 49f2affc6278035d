"""Points triangulated from tracks, for captures that have cameras and no points."""

import json
import shutil

import numpy as np
import pytest
from perfect_page4d import frames_of
from PIL import Image
from scipy.ndimage import maximum_filter, minimum_filter

from page4d_hf.captures import as_pinhole, read_capture
from page4d_hf.synthetic import write_synthetic_capture

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def without_points(tmp_path_factory):
    """A moving scene with exact cameras and depth, whose points are gone."""
    out = tmp_path_factory.mktemp("synthetic") / "room"
    write_synthetic_capture(out, num_frames=12, width=128, height=96, supersampling=2, num_points=10)
    for path in out.glob("points*.npy"):
        path.unlink()
    return out


@pytest.fixture(scope="module")
def frames(without_points):
    (without_points / "depth").rename(without_points / "true_depth")
    frames = frames_of(without_points)
    (without_points / "true_depth").rename(without_points / "depth")
    return frames


def seen(frames, index):
    """Of the points that fall into a frame: which they are, how deep they lie, and their rows and columns."""
    extrinsics, intrinsics = frames.extrinsics[index], frames.intrinsics[index]
    in_camera = frames.points.positions @ extrinsics[:, :3].T + extrinsics[:, 3]
    pixels = in_camera @ intrinsics.T
    column, row = np.floor(pixels[:, :2] / pixels[:, 2:]).astype(int).T
    width, height = frames.images.image_sizes[index]
    inside = (column >= 0) & (row >= 0) & (column < width) & (row < height) & (in_camera[:, 2] > 0)
    return inside, in_camera[inside, 2], (row[inside], column[inside])


def test_they_lie_on_the_surfaces_that_the_cameras_see(frames, without_points):
    """To 3 % of the depth, of the pixel that shows a point or of one beside it: many corners are on edges."""
    truth = as_pinhole(read_capture(without_points))
    hits, views = (np.zeros(len(frames.points)) for _ in range(2))
    for index in frames.train:
        inside, depth, place = seen(frames, index)
        true_depth = truth.load_depth(index)
        nearest, farthest = minimum_filter(true_depth, 3)[place], maximum_filter(true_depth, 3)[place]
        hits[inside] += (depth > 0.97 * nearest) & (depth < 1.03 * farthest)
        views[inside] += 1
    assert len(frames.points) >= 100
    assert (hits >= 0.5 * views).mean() > 0.85  # 0.90; the rest is mostly on what moves


def test_they_have_the_colours_of_what_they_lie_on(frames):
    index = frames.train[0]
    image = frames.images.load_image(index).astype(int)
    inside, _, place = seen(frames, index)
    off = np.abs(image[place] - frames.points.colors[inside]).mean(axis=1)
    assert np.median(off) < 15


def test_they_are_kept_for_the_next_command(without_points, frames, monkeypatch):
    def nothing(*args, **kwargs):
        raise AssertionError("tracked again")

    monkeypatch.setattr("page4d_hf.reconstruction.tracks.track_points", nothing)
    again = frames_of(without_points, points="tracks")
    np.testing.assert_array_equal(again.points.positions, frames.points.positions)


def test_smaller_images_to_train_on_start_from_points_of_the_large_ones(without_points, frames):
    small = frames_of(without_points, points="tracks", downscale_factor=2)
    np.testing.assert_allclose(small.points.positions, frames.points.positions, atol=1e-4)


def test_images_may_have_transparency(without_points, frames, tmp_path):
    folder = tmp_path / "transparent"
    shutil.copytree(without_points, folder)
    for path in folder.glob("rgb/*/*.png"):
        Image.open(path).convert("RGBA").save(path)
    transparent = frames_of(folder, points="tracks")
    assert transparent.images.load_image(0).shape[2] == 4
    np.testing.assert_array_equal(transparent.points.positions, frames.points.positions)
    np.testing.assert_array_equal(transparent.points.colors, frames.points.colors)


def test_masked_pixels_give_no_points_and_other_masks_others(tmp_path):
    """A camera passes a textured wall; masks leave out the left half of each image."""
    size, focal, step, depth = (128, 96), 120.0, 4, 5.0
    pattern = np.random.default_rng(0).integers(0, 255, (24, 60, 3), dtype=np.uint8)
    wall = np.array(Image.fromarray(pattern).resize((240, 96), Image.Resampling.BICUBIC))
    (tmp_path / "images").mkdir()
    left = np.arange(size[0]) < size[0] // 2
    frames = []
    for i in range(9):
        Image.fromarray(wall[:, step * i : step * i + size[0]]).save(tmp_path / f"images/{i}.png")
        pose = np.eye(4)
        pose[0, 3] = step * i * depth / focal
        frames.append({"file_path": f"images/{i}.png", "transform_matrix": pose.tolist(), "mask_path": "mask.png"})
    meta = {"fl_x": focal, "frames": frames}
    (tmp_path / "transforms.json").write_text(json.dumps(meta))

    def points(mask):
        Image.fromarray(np.tile(mask, (size[1], 1))).save(tmp_path / "mask.png")
        return frames_of(tmp_path, points="tracks", eval_interval=0)

    def seen_on_the_left_alone(found):
        alone = np.ones(len(found.points), bool)
        for index in range(9):
            inside, _, (_, column) = seen(found, index)
            alone[inside] &= left[column]
        return int(alone.sum())

    whole, half = points(np.ones(size[0], bool)), points(~left)
    assert seen_on_the_left_alone(whole) > 100
    assert seen_on_the_left_alone(half) == 0
    assert len(half.points) >= 100
