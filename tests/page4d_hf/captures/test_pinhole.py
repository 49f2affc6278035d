"""Images as a pinhole camera would have taken them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from page4d_hf.captures import Capture, as_pinhole
from page4d_hf.captures.pinhole import distort, pinhole_intrinsics, undistort
from page4d_hf.errors import CaptureError

SIZE = (160, 120)
LENSES: dict[str, tuple[np.ndarray, np.ndarray]] = {
    "barrel": (np.array([[110.0, 0, 80], [0, 110, 60], [0, 0, 1]]), np.array([-0.2, 0.05, 0, 0, -0.01])),
    "pincushion": (np.array([[110.0, 0, 80], [0, 110, 60], [0, 0, 1]]), np.array([0.15, 0.02, 0, 0, 0.01])),
    "tilted and off centre": (
        np.array([[120.0, 0, 88], [0, 105, 52], [0, 0, 1]]),
        np.array([-0.1, 0.03, 0.01, -0.015, 0.0]),
    ),
    "skewed": (np.array([[115.0, 6, 79], [0, 118, 63], [0, 0, 1]]), np.zeros(5)),
    "all at once": (np.array([[100.0, -4, 75], [0, 108, 66], [0, 0, 1]]), np.array([-0.25, 0.1, 0.004, -0.006, -0.02])),
}


def capture_of(
    folder: Path,
    image: np.ndarray,
    intrinsics: np.ndarray | None = None,
    distortion: np.ndarray | None = None,
    **others: Any,
) -> Capture:
    """A capture of one image."""
    path = folder / "image.png"
    Image.fromarray(image).save(path)
    height, width = image.shape[:2]
    if intrinsics is None:
        intrinsics = np.array([[100.0, 0, width / 2], [0, 100, height / 2], [0, 0, 1]])
    return Capture(
        layout="test",
        root=folder,
        frame_ids=["image"],
        image_paths=[path],
        extrinsics=np.eye(4)[None, :3],
        intrinsics=intrinsics[None],
        distortion=np.zeros((1, 5)) if distortion is None else distortion[None],
        image_sizes=np.array([[width, height]]),
        time_ids=np.zeros(1, np.int64),
        camera_ids=np.zeros(1, np.int64),
        **others,
    )


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def pixels_to_rays(pixels: np.ndarray, intrinsics: np.ndarray, distortion: np.ndarray) -> np.ndarray:
    """Rays (x / z, y / z) of pixels `(N, 2)` whose first centre is at 0.5."""
    return undistort((pixels - intrinsics[:2, 2]) @ np.linalg.inv(intrinsics[:2, :2]).T, distortion)


def pixel_centres(size: tuple[int, int]) -> np.ndarray:
    """`(H, W, 2)`."""
    return np.stack(np.meshgrid(np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5), axis=-1)


# --------------------------------------------------------------------------------------------------------------------
# The lens


@pytest.mark.parametrize("name", LENSES)
def test_the_lens_model_is_opencvs(name: str) -> None:
    rays = np.random.default_rng(0).uniform(-0.6, 0.6, (50, 2))
    ours = distort(rays, LENSES[name][1])
    points = np.column_stack((rays, np.ones(50)))
    reference = cv2.projectPoints(points, np.zeros(3), np.zeros(3), np.eye(3), LENSES[name][1])[0][:, 0]
    np.testing.assert_allclose(ours, reference, atol=1e-14)


@pytest.mark.parametrize("name", LENSES)
def test_undistorting_undoes_distorting(name: str) -> None:
    rays = np.random.default_rng(0).uniform(-0.6, 0.6, (50, 2))
    np.testing.assert_allclose(undistort(distort(rays, LENSES[name][1]), LENSES[name][1]), rays, atol=1e-8)


@pytest.mark.parametrize(
    "lens",
    [
        (0.1, -0.3, 0, 0, 0.4),
        (0.2, 0.2, 0.01, -0.02, 0),
        (0.3, 0.3, 0, 0, 0, 0.1, 0.02, 0),
    ],
)
def test_strong_lenses_are_undone_as_far_as_they_can_be(lens: tuple[float, ...]) -> None:
    """Where OpenCV's own iteration, to a fixed point, swings ever wider."""
    distortion = np.array(lens)
    rays = np.stack(np.meshgrid(np.linspace(-0.9, 0.9, 25), np.linspace(-0.5, 0.5, 15)), axis=-1).reshape(-1, 2)
    np.testing.assert_allclose(undistort(distort(rays, distortion), distortion), rays, atol=1e-7)


def test_of_a_lens_that_turns_back_no_ray_from_behind_the_turn_is_taken() -> None:
    """x (1 - 2 x^2) is at most 0.27, at x = 0.41; beyond x = 0.71 it is negative, and reaches -0.3 at x = 0.82."""
    distortion = np.array([-2.0, 0, 0, 0, 0])
    np.testing.assert_allclose(distort(undistort(np.array([[0.27, 0.0]]), distortion), distortion), [[0.27, 0]])
    with pytest.raises(ValueError, match="cannot be undone"):
        undistort(np.array([[0.3, 0.0]]), distortion)


def test_a_pinhole_keeps_its_camera() -> None:
    intrinsics = np.array([[100.0, 0, 70], [0, 90, 66], [0, 0, 1]])
    np.testing.assert_array_equal(pinhole_intrinsics(intrinsics, np.zeros(5), SIZE), intrinsics)


@pytest.mark.parametrize("name", LENSES)
def test_every_pixel_of_the_pinhole_was_seen_and_no_side_could_be_farther_out(name: str) -> None:
    intrinsics, distortion = LENSES[name]
    pinhole = pinhole_intrinsics(intrinsics, distortion, SIZE)
    assert pinhole[0, 1] == 0
    along = np.linspace(0, 1, 1001)
    width, height = SIZE
    sides = {
        "left": np.column_stack((0 * along, height * along)),
        "right": np.column_stack((0 * along + width, height * along)),
        "top": np.column_stack((width * along, 0 * along)),
        "bottom": np.column_stack((width * along, 0 * along + height)),
    }
    reached = {}
    for side, pixels in sides.items():
        rays = (pixels - pinhole[:2, 2]) / pinhole[(0, 1), (0, 1)]
        seen = distort(rays, distortion) @ intrinsics[:2, :2].T + intrinsics[:2, 2]
        assert (seen > -1e-3).all()
        assert (seen < np.array(SIZE) + 1e-3).all()
        reached[side] = seen
    # All of the rectangle's four sides touch the edge of what the image shows, at a corner perhaps.
    assert min(reached["left"][:, 0].min(), reached["left"][:, 1].min()) < 0.5
    assert max(reached["right"][:, 0].max() - width, reached["right"][:, 1].max() - height) > -0.5
    assert min(reached["top"][:, 1].min(), reached["top"][:, 0].min()) < 0.5
    assert max(reached["bottom"][:, 1].max() - height, reached["bottom"][:, 0].max() - width) > -0.5


def test_a_lens_that_folds_the_image_is_refused(tmp_path: Path) -> None:
    capture = capture_of(tmp_path, noise(120, 160, 3), distortion=np.array([-1.2, 0, 0, 0, 0]))
    with pytest.raises(CaptureError, match=r"image\.png is out of range: its distortion cannot be undone"):
        as_pinhole(capture)


# --------------------------------------------------------------------------------------------------------------------
# Images


def test_where_nothing_is_to_do_the_pixels_are_those_of_the_file(tmp_path: Path) -> None:
    image = noise(12, 16, 3)
    frames = as_pinhole(capture_of(tmp_path, image))
    np.testing.assert_array_equal(frames.load_image(0), image)
    np.testing.assert_array_equal(frames.image_sizes, [[16, 12]])
    np.testing.assert_array_equal(frames.intrinsics, frames.capture.intrinsics)


@pytest.mark.slow
@pytest.mark.parametrize("downscale", [1, 2, 3])
@pytest.mark.parametrize("name", LENSES)
def test_points_appear_where_the_pinhole_projects_them(tmp_path: Path, name: str, downscale: int) -> None:
    """A board of soft dots, seen through the lens; the dots' centres in the result are compared."""
    intrinsics, distortion = LENSES[name]
    scale = 2 * downscale
    intrinsics = np.diag([scale, scale, 1.0]) @ intrinsics
    size = (SIZE[0] * scale, SIZE[1] * scale)
    spacing, radius = 0.11, 0.013  # on a board at a distance of 1
    rays = pixels_to_rays(pixel_centres(size).reshape(-1, 2), intrinsics, distortion)
    from_dot = rays - spacing * np.round(rays / spacing)
    image = np.exp(-(from_dot**2).sum(-1) / (2 * radius**2)).reshape(size[1], size[0])
    capture = capture_of(tmp_path, np.round(image * 255).astype(np.uint8), intrinsics, distortion)

    frames = as_pinhole(capture, downscale)
    found = frames.load_image(0)[..., 0].astype(float)
    focal, principal = frames.intrinsics[0, (0, 1), (0, 1)], frames.intrinsics[0, :2, 2]
    centres = pixel_centres((found.shape[1], found.shape[0]))
    reach = spacing / 2 * focal
    errors = []
    for column, row in np.ndindex(13, 13):
        dot = spacing * (np.array([column, row]) - 6) * focal + principal
        if (dot > reach).all() and (dot < np.array(found.shape[::-1]) - reach).all():
            (left, top), (right, bottom) = (dot - reach).astype(int), np.ceil(dot + reach).astype(int)
            around = np.s_[top:bottom, left:right]
            weight = found[around] * (np.abs(centres[around] - dot) < reach).all(-1)
            errors.append((weight[..., None] * centres[around]).sum((0, 1)) / weight.sum() - dot)
    assert len(errors) >= 20
    assert np.abs(errors).max() < 0.1  # pixels
    assert np.abs(np.mean(errors, axis=0)).max() < 0.02  # where the first pixel's centre lies is beyond doubt


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_a_smooth_picture_is_the_same_through_the_pinhole(tmp_path: Path, factor: int) -> None:
    intrinsics, distortion = LENSES["all at once"]

    def pattern(rays: np.ndarray) -> np.ndarray:
        x, y = rays[..., 0], rays[..., 1]
        return 127 + 60 * np.sin(9 * x + 2) + 50 * np.cos(8 * y - 5 * x)

    rays = pixels_to_rays(pixel_centres(SIZE).reshape(-1, 2), intrinsics, distortion)
    image = np.round(pattern(rays)).astype(np.uint8).reshape(SIZE[1], SIZE[0])
    frames = as_pinhole(capture_of(tmp_path, image, intrinsics, distortion), factor)
    width, height = frames.image_sizes[0]
    assert (width, height) == (round(160 / factor), 120 / factor)
    through_pinhole = pixels_to_rays(
        pixel_centres((width, height)).reshape(-1, 2), frames.intrinsics[0], np.zeros(5)
    ).reshape(height, width, 2)
    difference = frames.load_image(0)[..., 0] - pattern(through_pinhole)
    assert np.abs(difference).mean() < 0.6  # of 255; rounding alone gives 0.25
    assert np.abs(difference).max() < 3.5


def test_scaling_down_is_the_mean_over_each_new_pixel(tmp_path: Path) -> None:
    image = noise(12, 18, 3)
    frames = as_pinhole(capture_of(tmp_path, image), downscale=3)
    means = image.reshape(4, 3, 6, 3, 3).mean(axis=(1, 3))
    assert np.abs(frames.load_image(0) - means).max() <= 0.5 + 1e-6
    np.testing.assert_allclose(frames.intrinsics[0], [[100 / 3, 0, 3], [0, 100 / 3, 2], [0, 0, 1]])


@pytest.mark.parametrize("name", [None, *LENSES])
def test_detail_too_fine_for_the_new_size_does_not_alias(tmp_path: Path, name: str | None) -> None:
    """A board of single black and white pixels is grey from afar; every fourth of its pixels would make a pattern."""
    board = (np.indices((240, 320)).sum(0) % 2 * 255).astype(np.uint8)
    intrinsics, distortion = (None, None) if name is None else LENSES[name]
    if intrinsics is not None:
        intrinsics = np.diag([2.0, 2.0, 1.0]) @ intrinsics
    image = as_pinhole(capture_of(tmp_path, board, intrinsics, distortion), downscale=4).load_image(0)
    assert np.abs(image.astype(float) - 127.5).mean() < 8
    assert image.std() < 12
    assert board[::4, ::4].std() < 1e-9  # what taking every fourth pixel gives: one of the two, all over
    assert abs(board[::4, ::4].mean() - 127.5) > 100


def test_the_downscale_counts_from_full_size_whichever_size_is_stored(tmp_path: Path) -> None:
    capture = capture_of(tmp_path, noise(12, 16, 3), image_downscale=2)
    frames = as_pinhole(capture, downscale=4)
    np.testing.assert_array_equal(frames.image_sizes, [[8, 6]])
    np.testing.assert_allclose(frames.intrinsics[0, 0, 0], 50)
    np.testing.assert_array_equal(as_pinhole(capture).image_sizes, [[16, 12]])


def test_images_are_never_enlarged(tmp_path: Path) -> None:
    capture = capture_of(tmp_path, noise(12, 16, 3), image_downscale=4)
    with pytest.raises(CaptureError, match="read at a downscale of 4, too small for 2; ask for 4 or more"):
        as_pinhole(capture, downscale=2)


def test_sizes_that_do_not_divide_are_rounded_and_the_camera_with_them(tmp_path: Path) -> None:
    frames = as_pinhole(capture_of(tmp_path, noise(13, 18, 3)), downscale=4)
    assert frames.load_image(0).shape == (3, 5, 3)
    np.testing.assert_allclose(frames.intrinsics[0], [[100 * 5 / 18, 0, 2.5], [0, 100 * 3 / 13, 1.5], [0, 0, 1]])


def test_transparency_is_kept(tmp_path: Path) -> None:
    image = noise(12, 16, 4)
    np.testing.assert_array_equal(as_pinhole(capture_of(tmp_path, image)).load_image(0), image)


def over(image: np.ndarray, background: int) -> np.ndarray:
    """An image `(H, W, 4)` laid over a grey."""
    alpha = image[..., 3:] / 255
    return alpha * image[..., :3] + (1 - alpha) * background


@pytest.mark.parametrize("name", [None, "barrel"])
@pytest.mark.parametrize("background", [0, 255])
def test_what_is_transparent_has_no_part_in_colours(tmp_path: Path, name: str | None, background: int) -> None:
    image = np.full((120, 160, 4), 200, np.uint8)
    image[..., 3] = np.indices((120, 160)).sum(0) // 9 % 2 * 255
    image[image[..., 3] == 0] = 0
    laid = over(image, background).astype(np.uint8)
    (tmp_path / "laid").mkdir()

    seen, expected = (
        as_pinhole(capture_of(folder, pixels, *LENSES.get(name or "", (None, None))), downscale=2).load_image(0)
        for folder, pixels in ((tmp_path, image), (tmp_path / "laid", laid))
    )

    assert 0 < (seen[..., 3] % 255 > 0).mean() < 1
    np.testing.assert_allclose(over(seen, background), expected, atol=2)


def test_a_grey_image_becomes_colour(tmp_path: Path) -> None:
    image = noise(12, 16)
    np.testing.assert_array_equal(as_pinhole(capture_of(tmp_path, image)).load_image(0), image[..., None].repeat(3, -1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-99]), r"image\.png cannot be read as an image"),
        (Path.unlink, r"image\.png is missing"),
        (lambda path: Image.fromarray(noise(6, 8, 3)).save(path), r"image\.png is 8x6 but was 16x12"),
        (lambda path: Image.fromarray(np.zeros((12, 16), np.uint16)).save(path), "convert it to 8-bit"),
    ],
)
def test_an_image_that_has_changed_is_refused_when_it_is_loaded(
    tmp_path: Path, change: Callable[[Path], Any], message: str
) -> None:
    frames = as_pinhole(capture_of(tmp_path, noise(12, 16, 3)))
    change(tmp_path / "image.png")
    with pytest.raises(CaptureError, match=message):
        frames.load_image(0)


# --------------------------------------------------------------------------------------------------------------------
# Masks and depth


def mask_file(folder: Path, mask: np.ndarray) -> Path:
    Image.fromarray(mask).save(folder / "mask.png")
    return folder / "mask.png"


def depth_file(folder: Path, depth: np.ndarray) -> Path:
    np.save(folder / "depth.npy", depth)
    return folder / "depth.npy"


def test_a_capture_without_masks_or_depth_gives_none(tmp_path: Path) -> None:
    frames = as_pinhole(capture_of(tmp_path, noise(12, 16, 3)))
    assert frames.load_motion_mask(0) is None
    assert frames.load_depth(0) is None


def test_masks_and_depth_are_those_of_the_files_where_nothing_is_to_do(tmp_path: Path) -> None:
    mask = noise(12, 16) // 128 * 255
    depth = np.random.default_rng(0).uniform(1, 2, (12, 16, 1)).astype(np.float32)
    paths = {"motion_mask_paths": [mask_file(tmp_path, mask)], "depth_paths": [depth_file(tmp_path, depth)]}
    frames = as_pinhole(capture_of(tmp_path, noise(12, 16, 3), **paths))
    np.testing.assert_array_equal(frames.load_motion_mask(0), mask > 0)
    np.testing.assert_array_equal(frames.load_depth(0), depth[..., 0])


def test_depth_is_in_the_worlds_unit_and_zero_where_it_is_not_known(tmp_path: Path) -> None:
    depth = np.ones((12, 16), np.float32)
    depth[0, :4] = [np.nan, np.inf, -1, 0]
    capture = capture_of(tmp_path, noise(12, 16, 3), depth_paths=[depth_file(tmp_path, depth)], depth_scale=0.25)
    loaded = as_pinhole(capture).load_depth(0)
    assert loaded[0, :4].tolist() == [0, 0, 0, 0]
    assert (loaded[1:] == 0.25).all()


@pytest.mark.parametrize("downscale", [1, 2])
@pytest.mark.parametrize("name", LENSES)
def test_masks_and_depth_follow_the_lens(tmp_path: Path, name: str, downscale: int) -> None:
    """Depth of a slanted plane, and a mask of half of what is seen: known for every ray."""
    intrinsics, distortion = LENSES[name]
    rays = pixels_to_rays(pixel_centres(SIZE).reshape(-1, 2), intrinsics, distortion).reshape(SIZE[1], SIZE[0], 2)
    depth = (2 / (1 + 0.3 * rays[..., 0])).astype(np.float32)
    mask = (rays @ np.array([0.6, 0.8]) > 0.05).astype(np.uint8) * 255
    paths = {"motion_mask_paths": [mask_file(tmp_path, mask)], "depth_paths": [depth_file(tmp_path, depth)]}
    frames = as_pinhole(capture_of(tmp_path, noise(120, 160, 3), intrinsics, distortion, **paths), downscale)
    width, height = frames.image_sizes[0]
    seen = (pixel_centres((width, height)) - frames.intrinsics[0, :2, 2]) / frames.intrinsics[0, (0, 1), (0, 1)]
    # The nearest pixel of the file is at most 0.71 of its pixels away, each about 1 / 100 wide as a ray.
    assert np.abs(frames.load_depth(0) - 2 / (1 + 0.3 * seen[..., 0])).max() < 0.015
    beyond = seen @ np.array([0.6, 0.8]) - 0.05
    sure = np.abs(beyond) > 0.012
    np.testing.assert_array_equal(frames.load_motion_mask(0)[sure], beyond[sure] > 0)


@pytest.mark.parametrize(("distortion", "downscale"), [(0.0, None), (0.2, 2)])
def test_what_is_covisible_is_undistorted_and_scaled_as_motion_masks_are(tmp_path: Path, distortion, downscale) -> None:
    distortion = np.array([distortion, 0, 0, 0, 0])
    mask = noise(12, 16) // 128 * 255
    file = mask_file(tmp_path, mask)
    capture = capture_of(
        tmp_path, noise(12, 16, 3), distortion=distortion, motion_mask_paths=[file], covisible_paths=[file]
    )
    frames = as_pinhole(capture, downscale)
    np.testing.assert_array_equal(frames.load_covisible(0), frames.load_motion_mask(0))


def test_a_frame_of_which_nothing_is_known_to_be_covisible_gives_none(tmp_path: Path) -> None:
    for known in ({}, {"covisible_paths": [None]}):
        assert as_pinhole(capture_of(tmp_path, noise(12, 16, 3), **known)).load_covisible(0) is None


def test_a_mask_may_be_smaller_than_the_image(tmp_path: Path) -> None:
    mask = np.zeros((6, 8), np.uint8)
    mask[2, 3] = 255
    frames = as_pinhole(capture_of(tmp_path, noise(12, 16, 3), motion_mask_paths=[mask_file(tmp_path, mask)]))
    np.testing.assert_array_equal(frames.load_motion_mask(0), (mask > 0).repeat(2, 0).repeat(2, 1))


def test_a_coloured_mask_is_set_where_any_colour_is(tmp_path: Path) -> None:
    mask = np.zeros((12, 16, 3), np.uint8)
    mask[4, 5] = [0, 0, 9]
    frames = as_pinhole(capture_of(tmp_path, noise(12, 16, 3), motion_mask_paths=[mask_file(tmp_path, mask)]))
    assert np.argwhere(frames.load_motion_mask(0)).tolist() == [[4, 5]]
