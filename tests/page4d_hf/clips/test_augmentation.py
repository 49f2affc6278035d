"""Random changes of samples, checked by what they must leave true."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from clip_folders import noise_clip
from scipy.spatial.transform import Rotation
from torchvision.transforms.v2 import functional as tvF

from page4d_hf.clips import ClipFrames
from page4d_hf.clips.augmentation import (
    NO_AUGMENTATION,
    AugmentationConfig,
    AugmentedClip,
    augment_clip,
    cut_far_depth,
    jitter_colors,
    shift_hue,
)
from page4d_hf.errors import ClipError, SamplingError
from page4d_hf.geometry import project_points, unproject_depth

GEOMETRY_ALONE = AugmentationConfig(jitter_probability=0, grey_probability=0)
PLANE = np.array([0.1, -0.2, 1.0, -4.0])  # n x + d = 0 in the world
SIZE = (96, 140)  # of the clips' frames, (height, width)


def generator(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def cameras(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Intrinsics whose principal points differ and lie off the centre, and extrinsics that look at the plane."""
    draws = generator(seed)
    intrinsics = np.zeros((count, 3, 3))
    intrinsics[:, 0, 0], intrinsics[:, 1, 1], intrinsics[:, 2, 2] = 120, 126, 1
    intrinsics[:, :2, 2] = np.array(SIZE[::-1]) / 2 + draws.uniform(-9, 9, (count, 2))
    rotations = Rotation.from_rotvec(draws.uniform(-0.04, 0.04, (count, 3))).as_matrix()
    return intrinsics, np.concatenate((rotations, draws.uniform(-0.2, 0.2, (count, 3, 1))), axis=-1)


def plane_depth(intrinsics: np.ndarray, extrinsics: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """z-depth of the plane at every pixel's centre, `(S, H, W)`."""
    u, v = np.meshgrid(np.arange(size[1]) + 0.5, np.arange(size[0]) + 0.5)
    rays = np.stack((u, v, np.ones_like(u)), axis=-1) @ np.linalg.inv(intrinsics).swapaxes(-1, -2)[:, None]
    rotations, translations = extrinsics[:, :, :3], extrinsics[:, :, 3]
    # n . R^T (z ray - t) + d = 0
    normals = rotations @ PLANE[:3]  # [S, 3]
    offsets = PLANE[3] - (normals * translations).sum(-1)
    return -offsets[:, None, None] / np.einsum("shwi,si->shw", rays, normals)


def clip_of_plane(count: int = 4, **changes: Any) -> ClipFrames:
    intrinsics, extrinsics = cameras(count)
    draws = generator(1)
    values = {
        "images": draws.integers(0, 256, (count, *SIZE, 3), np.uint8),
        "depth": plane_depth(intrinsics, extrinsics, SIZE).astype(np.float32),
        "motion_mask": draws.random((count, *SIZE)) < 0.3,
        "intrinsics": intrinsics,
        "extrinsics": extrinsics,
    }
    return noise_clip("test/plane/0000", count, **{**values, **changes})


def augmented(clip: ClipFrames, size: tuple[int, int] = (56, 84), seed: int = 0, **options: Any) -> AugmentedClip:
    options.setdefault("config", GEOMETRY_ALONE)
    return augment_clip(clip, size, options.pop("config"), generator(seed), depth_percentile=100, **options)


# --------------------------------------------------------------------------------------------------------------------
# Geometry


@pytest.mark.parametrize("size", [(42, 84), (84, 84), (112, 168), (42, 28)])
@pytest.mark.parametrize("seed", range(3))
def test_a_point_keeps_to_its_pixel_in_every_frame(size: tuple[int, int], seed: int) -> None:
    """A point of the world is drawn as a spot; where the spot comes to lie, the new cameras must see the point."""
    intrinsics, extrinsics = cameras(3)
    point = np.array([[0.2, 0.1, 3.8]])
    v, u = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    images = np.zeros((3, *SIZE, 3), np.uint8)
    for image, k, e in zip(images, intrinsics, extrinsics, strict=True):
        (x, y), _ = (t[0].numpy() for t in project_points(*map(torch.from_numpy, (point, e, k))))
        image[:] = np.rint(255 * np.exp(-((u - x) ** 2 + (v - y) ** 2) / (2 * 3.0**2)))[..., None]
    clip = clip_of_plane(3, images=images, intrinsics=intrinsics, extrinsics=extrinsics)
    sample = augmented(clip, size, seed)
    v, u = np.mgrid[: size[0], : size[1]] + 0.5
    for image, k, e in zip(sample.images, sample.intrinsics, sample.extrinsics, strict=True):
        expected = project_points(*map(torch.from_numpy, (point, e, k)))[0][0].numpy()
        weights = image[0].numpy().astype(np.float64)
        seen = np.array([(weights * u).sum(), (weights * v).sum()]) / weights.sum()
        # A twentieth of a pixel is what rounding to 8 bits may take from the centre of mass.
        assert np.abs(seen - expected).max() < 0.05


@pytest.mark.parametrize("size", [(28, 84), (84, 84), (112, 168)])
@pytest.mark.parametrize("seed", range(3))
def test_depth_cameras_and_points_stay_consistent(size: tuple[int, int], seed: int) -> None:
    sample = augmented(clip_of_plane(), size, seed)
    depth, intrinsics, extrinsics = sample.depth, sample.intrinsics, sample.extrinsics
    exact = plane_depth(intrinsics, extrinsics, size)
    # Depth is that of a pixel of the file whose centre is up to half of such a pixel away along each axis.
    zoom = intrinsics[0, 0, 0] / 120
    step_v, step_u = (np.abs(np.gradient(exact, axis=axis)).max() for axis in (1, 2))
    assert np.abs(depth - exact).max() <= 1.01 * (step_u + step_v) * zoom / 2 + 1e-5

    # The same bound, as pixels: points of one frame seen in another lie where that frame's depth map has them.
    points = unproject_depth(
        torch.from_numpy(depth[:1]).double(), *map(torch.from_numpy, (extrinsics[:1], intrinsics[:1])), pixel_center=0.5
    ).reshape(1, -1, 3)
    for frame in range(1, 4):
        k, e = torch.from_numpy(intrinsics[frame]), torch.from_numpy(extrinsics[frame])
        pixels, seen_depth = (t[0].numpy() for t in project_points(points, e[None], k[None]))
        u, v = np.floor(pixels).astype(int).T
        inside = (u >= 0) & (v >= 0) & (u < size[1]) & (v < size[0])
        assert inside.mean() > 0.3
        difference = depth[frame, v[inside], u[inside]] - seen_depth[inside]
        # Half a pixel of the file in either frame, and half a new pixel from the rounding to the nearest.
        assert np.abs(difference).max() <= 1.1 * (step_u + step_v) * (zoom + 0.5)


def test_the_principal_point_becomes_the_centre_as_the_pose_encoding_wants_it() -> None:
    for seed in range(5):
        sample = augmented(clip_of_plane(), (56, 84), seed)
        centres = sample.intrinsics[:, :2, 2]
        np.testing.assert_allclose(centres, np.tile([42.0, 28.0], (4, 1)), rtol=0, atol=1e-9)


def test_all_frames_are_enlarged_alike() -> None:
    intrinsics = augmented(clip_of_plane()).intrinsics
    np.testing.assert_array_equal(intrinsics[:, 0, 0], intrinsics[:1, 0, 0].repeat(4))
    np.testing.assert_allclose(intrinsics[:, 1, 1] / intrinsics[:, 0, 0], 126 / 120)


def test_crops_stay_inside_the_image_and_take_what_the_scale_says() -> None:
    """At most the largest rectangle around the principal point, and half of the time just that."""
    clip = clip_of_plane(1)
    reach = np.minimum(clip.intrinsics[0, :2, 2], np.array(SIZE[::-1]) - clip.intrinsics[0, :2, 2])  # type: ignore[index]
    shares = []
    for seed in range(400):
        zoom = augmented(clip, (8, 8), seed).intrinsics[0, 0, 0] / 120
        shares.append(8 / zoom / (2 * reach.min()))  # a square is bound by the shorter side
    assert 0.8 <= min(shares) < 0.82
    assert max(shares) == pytest.approx(1)
    assert np.isclose(shares, 1).mean() == pytest.approx(0.5, abs=0.1)


def test_without_augmentation_a_crop_of_the_same_shape_is_the_image_itself() -> None:
    intrinsics, _ = cameras(4)
    intrinsics[:, :2, 2] = SIZE[1] / 2, SIZE[0] / 2
    clip = clip_of_plane(intrinsics=intrinsics)
    sample = augment_clip(clip, SIZE, NO_AUGMENTATION, generator(0), depth_percentile=100)
    np.testing.assert_array_equal((sample.images.permute(0, 2, 3, 1).numpy() * 255).round(), clip.images)
    for name in ("depth", "motion_mask", "intrinsics", "extrinsics"):
        np.testing.assert_array_equal(getattr(sample, name), getattr(clip, name))
    assert sample.frame_ids == clip.frame_ids


def test_depth_and_masks_are_never_mixed_across_an_edge() -> None:
    depth = np.where(generator(3).random((4, *SIZE)) < 0.5, 1, 9).astype(np.float32)
    sample = augmented(clip_of_plane(depth=depth, motion_mask=depth > 5))
    assert set(np.unique(sample.depth)) == {1, 9}
    np.testing.assert_array_equal(sample.motion_mask, sample.depth > 5)


def test_images_are_antialiased() -> None:
    """Stripes finer than the new pixels become their mean."""
    images = np.zeros((1, 300, 420, 3), np.uint8)
    images[:, :, ::2] = 255
    clip = clip_of_plane(1, images=images, depth=None, motion_mask=None, intrinsics=None, extrinsics=None)
    assert np.abs(augmented(clip, (28, 42)).images.numpy() - 0.5).max() < 0.02


def test_reversal_turns_the_order_of_everything() -> None:
    clip = clip_of_plane()
    forwards = augmented(clip)
    settings = AugmentationConfig(reverse_probability=1, jitter_probability=0, grey_probability=0)
    backwards = augmented(clip, config=settings)
    assert backwards.frame_ids == ["3", "2", "1", "0"]
    assert torch.equal(backwards.images, forwards.images.flip(0))
    for name in ("depth", "motion_mask", "intrinsics", "extrinsics"):
        np.testing.assert_array_equal(getattr(backwards, name), getattr(forwards, name)[::-1])


def test_a_clip_without_labels_is_cropped_around_its_centre() -> None:
    images = np.zeros((1, *SIZE, 3), np.uint8)
    images[:, 48:, 70:] = 255
    clip = clip_of_plane(1, images=images, depth=None, motion_mask=None, intrinsics=None, extrinsics=None)
    sample = augmented(clip, (40, 60))
    assert (sample.depth, sample.motion_mask, sample.intrinsics, sample.extrinsics) == (None,) * 4
    assert sample.images[0, 0, 22:, 32:].min() > 0.99
    assert max(sample.images[0, 0, :18].max(), sample.images[0, 0, :, :28].max()) < 0.01


def test_a_principal_point_at_the_side_of_the_image_is_named() -> None:
    intrinsics, _ = cameras(4)
    intrinsics[2, 0, 2] = 139
    with pytest.raises(ClipError, match=r"principal point \(139.0, .*\) of frame 2 of clip test/plane/0000"):
        augmented(clip_of_plane(intrinsics=intrinsics))


# --------------------------------------------------------------------------------------------------------------------
# Depth


def test_depth_that_is_unknown_everywhere_is_named() -> None:
    with pytest.raises(ClipError, match="No depth of clip test/plane/0000 is valid"):
        augmented(clip_of_plane(depth=np.zeros((4, *SIZE), np.float32)))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_depth_that_is_not_finite_is_named(value: float) -> None:
    depth = np.ones((4, *SIZE), np.float32)
    depth[1] = value
    with pytest.raises(ClipError, match="test/plane/0000 holds values that are not finite"):
        augmented(clip_of_plane(depth=depth))


def test_the_farthest_two_per_cent_of_each_frame_count_as_unknown() -> None:
    depth = np.zeros((2, 100, 100), np.float32)
    depth[0, :50] = np.arange(1, 5001).reshape(50, 100)
    depth[1] = 7
    cut_far_depth(depth, 98)
    assert depth[0].max() == 4900
    assert (depth[0] > 0).sum() == 4900
    assert (depth[1] == 7).all()


def test_a_frame_without_depth_is_left_alone_by_the_cut() -> None:
    depth = np.zeros((1, 4, 4), np.float32)
    cut_far_depth(depth, 98)
    assert not depth.any()


# --------------------------------------------------------------------------------------------------------------------
# Colours


def pictures(count: int = 3) -> np.ndarray:
    return generator(0).random((count, 20, 30, 3)).astype(np.float32)


@pytest.mark.parametrize("shift", [-0.5, -0.1, -0.03, 0.04, 0.1, 0.5])
def test_the_hue_turns_as_torchvision_turns_it(shift: float) -> None:
    image = pictures()[0]
    image[0] = image[0, :, :1]  # greys have no hue
    image[1, :3] = np.eye(3)
    expected = tvF.adjust_hue(torch.from_numpy(image.copy()).permute(2, 0, 1), shift)
    shift_hue(image, shift)
    np.testing.assert_allclose(image, expected.permute(1, 2, 0).numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("brightness", tvF.adjust_brightness),
        ("contrast", tvF.adjust_contrast),
        ("saturation", tvF.adjust_saturation),
    ],
)
def test_each_change_of_colour_is_torchvisions_with_a_factor_of_the_range(name: str, change: Any) -> None:
    spreads = {**dict.fromkeys(("brightness", "contrast", "saturation", "hue"), 0.0), name: 0.5}
    config = AugmentationConfig(**spreads, jitter_probability=1, shared_probability=1, grey_probability=0)
    images = pictures(1)
    before = torch.from_numpy(images[0].copy()).permute(2, 0, 1)
    jitter_colors(images, config, generator(2))
    after = torch.from_numpy(images[0]).permute(2, 0, 1)
    factors = np.linspace(0.5, 1.5, 2001)
    errors = [(change(before, float(factor)) - after).abs().max().item() for factor in factors]
    assert min(errors) < 5e-4
    assert abs(factors[int(np.argmin(errors))] - 1) > 0.01


@pytest.mark.slow
def test_frames_share_their_colours_seven_times_of_ten_and_are_changed_nine_times_of_ten() -> None:
    config = AugmentationConfig(grey_probability=0)
    one = generator(0).random((1, 4, 4, 3)).astype(np.float32)
    shared = changed = 0
    for seed in range(600):
        images = one.repeat(2, axis=0)
        jitter_colors(images, config, generator(seed))
        changed += not np.array_equal(images[0], one[0])
        shared += np.array_equal(images[0], images[1])
    # Frames with draws of their own are alike where neither is changed: 1 time in 100.
    assert shared / 600 == pytest.approx(0.7 + 0.3 * 0.01, abs=0.06)
    assert changed / 600 == pytest.approx(0.9, abs=0.04)


def test_colours_are_taken_away_as_often_as_the_settings_say() -> None:
    config = AugmentationConfig(grey_probability=0.2, shared_probability=1)
    grey = 0
    for seed in range(600):
        images = pictures(1)[:, :3, :3]
        jitter_colors(images, config, generator(seed))
        grey += bool(np.ptp(images, axis=-1).max() < 1e-6)
    assert grey / 600 == pytest.approx(0.2, abs=0.05)


def test_colours_stay_in_range() -> None:
    for seed in range(30):
        images = pictures()
        jitter_colors(images, AugmentationConfig(), generator(seed))
        assert images.min() >= 0
        assert images.max() <= 1 + 1e-6


@pytest.mark.parametrize(
    "settings",
    [{"crop_min": 0}, {"crop_max": 0.5}, {"hue": 0.6}, {"contrast": -1}, {"grey_probability": 1.5}],
)
def test_settings_of_augmentation_that_cannot_be_met_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(SamplingError, match=next(iter(settings))):
        AugmentationConfig(**settings)  # type: ignore[arg-type]
