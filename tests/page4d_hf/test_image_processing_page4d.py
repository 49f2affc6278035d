"""The image processor: equal to the release's preprocessing, and back to the images' own pixels."""

import weakref
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pillow_heif
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import InterpolationMode
from transformers.image_processing_backends import TorchvisionBackend

from page4d_hf.geometry import pose_encoding_to_cameras
from page4d_hf.image_processing_page4d import Page4DImageProcessor
from page4d_hf.modeling_page4d import Page4DOutput
from page4d_hf.pillow_page4d import to_8_bits

LEVEL = 1 / 255 + 1e-6  # one level of 8 bits, with room for the float that holds it


@pytest.fixture(scope="module")
def reference(shared):
    with np.load(shared / "reference" / "image_preprocessing.npz") as archive:
        images = {key.split("/")[1].rsplit("_", 2)[0]: archive[key] for key in archive if key.startswith("in/")}
        return images, {key[4:]: archive[key] for key in archive if key.startswith("out/")}


@pytest.fixture
def processor():
    return Page4DImageProcessor()


def random_image(height, width, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def assert_equal_to_one_level(pixel_values, expected):
    assert pixel_values.shape == expected.shape
    np.testing.assert_allclose(pixel_values, expected, rtol=0, atol=LEVEL)


# ---------------------------------------------------------------------------------------------------------------
# The release's preprocessing


@pytest.mark.parametrize("mode", ["crop", "pad"])
@pytest.mark.parametrize("name", ["landscape", "portrait", "rgba", "tiny"])
def test_an_image_becomes_what_the_release_makes_of_it(processor, reference, name, mode):
    images, expected = reference
    pixel_values = processor(images[name], mode=mode).pixel_values
    assert_equal_to_one_level(pixel_values[0], expected[f"{name}/{mode}"])


def test_images_of_different_sizes_become_what_the_release_makes_of_them(processor, reference):
    images, expected = reference
    pixel_values = processor([images["landscape"], images["rgba"]]).pixel_values
    assert_equal_to_one_level(pixel_values[0], expected["mixed_landscape_rgba/crop"])


def test_the_square_mode_gives_the_release_s_pixels_and_rectangle(processor, reference):
    images, expected = reference
    inputs = processor(images["rgba"], mode="square", size=224)
    assert_equal_to_one_level(inputs.pixel_values[0], expected["rgba/square224"])
    x0, y0, x1, y1, width, height = expected["rgba/square224_coords"][0]
    np.testing.assert_allclose(inputs.image_boxes[0, 0], (x0, y0, x1, y1), rtol=1e-6)
    assert inputs.original_sizes[0, 0].tolist() == [height, width]


def test_a_centre_crop_gives_the_pixels_of_the_release_s_evaluation(processor, reference):
    images, expected = reference
    pixel_values = processor(images["landscape"], do_center_crop=True, crop_size=210).pixel_values
    assert_equal_to_one_level(pixel_values[0], expected["landscape/eval_crop_210"])


def test_the_squashed_input_of_the_release_s_evaluation_follows_from_the_crop(processor, reference):
    images, expected = reference
    cropped = processor(images["landscape"]).pixel_values[0]
    squashed = torch.nn.functional.interpolate(cropped, size=(518, 518), mode="bilinear", align_corners=False)
    assert_equal_to_one_level(squashed, expected["landscape/eval_518x518"])


def test_transparency_is_laid_over_white_as_pillow_does_it_for_every_colour_and_alpha(processor):
    color, alpha = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8))
    rgba = np.stack((color, color, color, alpha), axis=-1)
    white = Image.new("RGBA", (256, 256), (255, 255, 255, 255))
    expected = np.asarray(Image.alpha_composite(white, Image.fromarray(rgba)).convert("RGB"))
    actual = processor(rgba, do_resize=False, do_rescale=False).pixel_values[0, 0].permute(1, 2, 0)
    np.testing.assert_array_equal(actual, expected)


# ---------------------------------------------------------------------------------------------------------------
# What it accepts


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pillow_numpy_and_torch_images_give_the_same_pixels(processor, channels):
    array = random_image(40, 60, channels)
    image = Image.fromarray(array.squeeze(-1) if channels == 1 else array)
    expected = processor(image).pixel_values
    torch.testing.assert_close(processor(array).pixel_values, expected, rtol=0, atol=0)
    torch.testing.assert_close(
        processor(torch.from_numpy(array).permute(2, 0, 1)).pixel_values, expected, rtol=0, atol=0
    )


def test_images_are_read_whatever_the_base_class_converts_before_it_makes_tensors(processor, monkeypatch):
    images = [random_image(28, 28, 4), Image.fromarray(random_image(28, 28, 4))]
    expected = processor(images, size=28).pixel_values

    def process_image(self, image, do_convert_rgb=None, **kwargs):  # as transformers 5.17 to 5.20 begin
        return self.convert_to_rgb(image) if do_convert_rgb else image

    monkeypatch.setattr(TorchvisionBackend, "process_image", process_image)
    assert torch.equal(processor(images, size=28).pixel_values, expected)


@pytest.mark.parametrize("convert", [np.asarray, torch.from_numpy])
def test_gray_images_come_with_or_without_an_axis_of_channels(processor, convert):
    video = random_image(2, 40, 60)  # two frames
    expected = processor(video[..., None]).pixel_values
    assert torch.equal(processor([convert(gray) for gray in video]).pixel_values, expected)
    assert torch.equal(processor(convert(video[0])).pixel_values, expected[:, :1])


def test_floats_in_0_to_1_are_not_rescaled_again(processor):
    array = random_image(28, 28)
    expected = processor(array, size=28).pixel_values
    actual = processor(array.astype(np.float32) / 255, size=28).pixel_values
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("channels", [3, 4])
def test_floats_that_a_resize_rounded_beyond_0_to_1_are_clamped(processor, channels):
    array = np.full((28, 28, channels), 1.0005, np.float32)
    array[:14, :, :3] = -0.0005
    pixel_values = processor(array, size=28).pixel_values
    assert pixel_values.min() == 0
    assert pixel_values.max() == 1


def test_an_array_seen_backwards_gives_the_pixels_that_it_shows(processor):
    video = random_image(2, 40, 60)[..., None].repeat(3, axis=-1)
    seen = video[:, ::-1, ::-1, ::-1]
    assert torch.equal(processor(seen, size=56).pixel_values, processor(seen.copy(), size=56).pixel_values)


def test_pixel_values_stay_in_0_to_1_where_the_bicubic_filter_overshoots(processor):
    stripes = np.tile(np.array([0, 1], np.float32).repeat(3), (20, 5))[..., None].repeat(3, axis=-1)
    pixel_values = processor(stripes).pixel_values
    assert pixel_values.min() == 0
    assert pixel_values.max() == 1


def test_a_list_of_images_is_one_video_and_a_list_of_lists_is_a_batch(processor):
    images = [random_image(30, 40, seed=seed) for seed in range(6)]
    assert processor(images[0], size=56).pixel_values.shape == (1, 1, 3, 42, 56)
    video = processor(images, size=56).pixel_values
    batch = processor([images[:3], images[3:]], size=56).pixel_values
    assert video.shape == (1, 6, 3, 42, 56)
    assert batch.shape == (2, 3, 3, 42, 56)
    torch.testing.assert_close(batch.flatten(0, 1), video[0], rtol=0, atol=0)


def test_arrays_of_a_video_and_of_a_batch_of_videos_are_taken_apart(processor):
    batch = np.stack([random_image(30, 40, seed=seed) for seed in range(6)]).reshape(2, 3, 30, 40, 3)
    expected = processor([list(video) for video in batch], size=56).pixel_values
    torch.testing.assert_close(processor(batch, size=56).pixel_values, expected, rtol=0, atol=0)
    torch.testing.assert_close(processor(batch[0], size=56).pixel_values, expected[:1], rtol=0, atol=0)


@pytest.mark.parametrize("name", ["image.png", "image.bmp", "image.tif", "image.webp"])
@pytest.mark.parametrize("kind", [str, Path])
def test_paths_of_every_kind_of_file_are_loaded(processor, tmp_path, name, kind):
    Image.fromarray(random_image(30, 40)).save(tmp_path / name, **({"lossless": True} if "webp" in name else {}))
    expected = processor(random_image(30, 40), size=56).pixel_values
    for images in (kind(tmp_path / name), [[kind(tmp_path / name)]]):
        assert torch.equal(processor(images, size=56).pixel_values, expected)


@pytest.mark.parametrize("name", ["photo.heic", "photo.HEIF"])
def test_photos_of_phones_are_read(processor, tmp_path, name):
    image = Image.new("RGB", (40, 30), (200, 100, 50))
    pillow_heif.from_pillow(image).save(tmp_path / name)
    found, expected = (processor(each, size=56).pixel_values for each in (str(tmp_path / name), image))
    torch.testing.assert_close(found, expected, rtol=0, atol=0.05)


def test_files_are_read_one_after_the_other_and_none_is_kept_in_its_full_size(processor, tmp_path, monkeypatch):
    for i in range(3):
        Image.fromarray(random_image(30, 40, seed=i)).save(tmp_path / f"{i}.png")
    kept = []
    read = Page4DImageProcessor.process_image

    def watched(self, image, **kwargs):
        assert not any(frame() is not None for frame in kept)
        frame = read(self, image, **kwargs)
        kept.append(weakref.ref(frame))
        return frame

    monkeypatch.setattr(Page4DImageProcessor, "process_image", watched)
    files = [tmp_path / f"{i}.png" for i in range(3)]
    found = processor(files, size=56).pixel_values
    assert len(kept) == 3
    assert torch.equal(found, processor([random_image(30, 40, seed=i) for i in range(3)], size=56).pixel_values)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_pillow_images_of_16_bits_are_scaled_to_8_from_memory_as_from_a_path(processor, tmp_path, dtype):
    gray = random_image(30, 40, 1).squeeze(-1)
    deep = Image.fromarray(gray.astype(dtype) * 257)
    deep.save(tmp_path / "image.tif")
    expected = processor(Image.fromarray(gray), size=56).pixel_values
    for image in (deep, tmp_path / "image.tif"):
        assert torch.equal(processor(image, size=56).pixel_values, expected)


def test_every_value_of_16_bits_is_rounded_to_the_nearest_of_8():
    deep = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    np.testing.assert_array_equal(to_8_bits(Image.fromarray(deep)), np.round(deep / 257))


def test_frames_of_different_sizes_are_padded_white_with_a_warning(processor, library_log):
    wide, narrow = np.zeros((20, 80, 3), np.uint8), np.zeros((40, 60, 3), np.uint8)
    inputs = processor([wide, narrow], size=84)
    assert "different sizes" in library_log.text
    assert inputs.pixel_values.shape[-2:] == (56, 84)
    assert inputs.image_boxes[0, 0].tolist() == [0, 14, 84, 42]
    assert (inputs.pixel_values[0, 0, :, :14] == 1).all()
    assert (inputs.pixel_values[0, 0, :, 14:42] == 0).all()
    assert (inputs.pixel_values[0, 0, :, 42:] == 1).all()


@pytest.mark.parametrize(("do_rescale", "white"), [(True, 1), (False, 255)])
def test_the_white_of_a_frame_is_that_of_its_own_kind(processor, do_rescale, white):
    kinds = [np.zeros((20, 80, 3), np.uint8), np.zeros((20, 80, 3), np.float32), np.zeros((40, 60, 3), np.uint8)]
    pixel_values = processor(kinds, size=84, do_rescale=do_rescale).pixel_values[0]
    assert (pixel_values[0, :, :14] == white).all()
    assert (pixel_values[1, :, :14] == 1).all()


def test_a_very_wide_image_still_has_a_row_of_patches(processor):
    assert processor(random_image(2, 400), size=56).pixel_values.shape[-2:] == (14, 56)


@pytest.fixture
def pixels_of_resizes(processor, monkeypatch):
    """How many pixels every resizing reads and writes."""
    pixels = []
    resize = Page4DImageProcessor._resize

    def counted(self, image, size, resample):
        pixels.append(max(image.shape[-2] * image.shape[-1], size[0] * size[1]))
        return resize(self, image, size, resample)

    monkeypatch.setattr(Page4DImageProcessor, "_resize", counted)
    return pixels


@pytest.mark.slow
@pytest.mark.parametrize("size", [(1080, 1920), (480, 640), (500, 500), (1000, 2000)])
def test_the_balanced_mode_is_the_crop_mode_where_that_loses_nothing(processor, size):
    image = random_image(*size)
    balanced, crop = (processor(image, mode=mode) for mode in ("balanced", "crop"))
    torch.testing.assert_close(balanced.pixel_values, crop.pixel_values, rtol=0, atol=0)
    torch.testing.assert_close(balanced.image_boxes, crop.image_boxes, rtol=0, atol=0)


@pytest.mark.parametrize("size", [(192, 108), (640, 480), (500, 480), (200, 100)])
def test_the_balanced_mode_shows_all_of_a_portrait_in_no_more_pixels(processor, size):
    inputs = processor(random_image(*size), mode="balanced")
    height, width = inputs.pixel_values.shape[-2:]
    assert 0.9 * 518**2 <= height * width <= 518**2
    assert inputs.image_boxes.tolist() == [[[0, 0, width, height]]]
    assert abs(np.log(height / width * size[1] / size[0])) < 0.03


@pytest.mark.parametrize(("size", "edges"), [((300, 100), (0, 1)), ((100, 300), (1, 0))])
def test_beyond_1_to_2_the_balanced_mode_pads_with_white(processor, size, edges):
    inputs = processor(np.zeros((*size, 3), np.uint8), mode="balanced")
    pixels, (x0, y0, x1, y1) = inputs.pixel_values[0, 0], inputs.image_boxes[0, 0].long().tolist()
    assert (x0 > 0, y0 > 0) == (edges[1] == 1, edges[0] == 1)
    assert (pixels[:, y0:y1, x0:x1] == 0).all()
    assert pixels.sum() == pixels.numel() - 3 * (y1 - y0) * (x1 - x0)


@pytest.mark.parametrize("mode", ["crop", "balanced", "pad", "square"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("size", [(5000, 1), (2, 5000), (60000, 2)])
def test_an_image_of_any_aspect_takes_few_pixels_on_its_way(processor, pixels_of_resizes, size, dtype, mode):
    image = np.zeros((*size, 3), dtype)
    image[size[0] // 2 - 3 : size[0] // 2 + 3] = 1  # the middle is bright
    inputs = processor(image, size=224, mode=mode)

    balanced = (308, 154), (112, 224)
    assert inputs.pixel_values[0, 0].shape[-2:] in (balanced if mode == "balanced" else ((224, 224), (14, 224)))
    assert max(pixels_of_resizes) <= 17 * 224 * 224
    x0, y0, x1, y1 = inputs.image_boxes[0, 0].tolist()
    height, width = inputs.pixel_values.shape[-2:]
    assert (x0 + x1, y0 + y1) == (pytest.approx(width, abs=1), pytest.approx(height, abs=1))
    if mode == "crop" and size[0] > size[1]:
        assert (x1 - x0, y1 - y0) == (224, pytest.approx(224 * size[0] / size[1], rel=2e-3))
        assert np.ptp(inputs.pixel_values) < 1e-5


def test_what_is_cropped_away_before_the_resizing_changes_nothing_in_the_middle(processor, monkeypatch):
    image = random_image(2000, 20)
    cut = processor(image, size=112)
    monkeypatch.setattr("page4d_hf.image_processing_page4d.MAX_GROWTH", 2000)
    whole = processor(image, size=112)

    torch.testing.assert_close(cut.pixel_values, whole.pixel_values, rtol=0, atol=2 * LEVEL)
    torch.testing.assert_close(cut.image_boxes, whole.image_boxes, rtol=2e-3, atol=0)


@pytest.mark.parametrize(
    ("size", "options"),
    [((8, 8), {"size": 14 * 1000}), ((8, 8), {"size": 14 * 10**8}), ((2, 5000), {"do_resize": False})],
)
def test_a_network_input_of_too_many_pixels_is_refused(processor, size, options):
    images = [random_image(*size), random_image(*size[::-1])]
    with pytest.raises(ValueError, match="Expected at most 16,777,216 pixels in a frame of the network's input, got"):
        processor(images, **options)


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        (random_image(8, 8), {"size": 500}, "multiple of the patch size 14, got 500; the nearest are 490 and 504"),
        (random_image(8, 8), {"size": {"height": 14, "width": 7}}, "width that is a multiple"),
        (random_image(8, 8), {"do_center_crop": True, "crop_size": 30}, "crop height that is a multiple"),
        (random_image(8, 8), {"do_center_crop": True}, "crop_size"),
        (random_image(8, 8), {"size": {"shortest_edge": 28}}, "'height' and 'width'"),
        (random_image(8, 8), {"mode": "square", "size": {"height": 14, "width": 28}}, "equal height and width"),
        (random_image(8, 8).astype(np.float32), {}, r"floating-point images in \[0, 1\]"),
        (random_image(8, 8).astype(np.float32), {}, "divide by 255 or pass uint8"),
        (np.full((8, 8, 3), 1.2, np.float32), {}, r"from 1.2 to 1.2; clamp\(0, 1\)"),
        (np.full((8, 8, 4), 1.2, np.float32), {}, r"from 1.2 to 1.2; clamp\(0, 1\)"),
        (np.full((8, 8, 3), -2.0, np.float32), {}, "from -2 to -2; scale them"),
        (np.full((8, 8, 3), np.nan, np.float32), {}, r"floating-point images in \[0, 1\]"),
        (random_image(8, 8), {"do_normalize": True, "image_mean": 0.5, "image_std": 0.5}, "the model normalises"),
        (random_image(8, 8), {"do_pad": True, "pad_size": 28}, "mode='pad' pads"),
        (random_image(8, 8).astype(np.int64), {}, "8-bit or floating-point"),
        (Image.new("I", (8, 8), 70000), {}, "got values from 70000 to 70000"),
        (Image.new("F", (8, 8), 0.5), {}, "floating-point pixels"),
        ([[random_image(8, 8)], [random_image(8, 8)] * 2], {}, r"equal length in a batch, got \[1, 2\]"),
        ([[], []], {}, "at least one image"),
        ([[[random_image(8, 8)]]], {}, r"a list of lists of images \(videos\)"),
        (random_image(8, 8, 4).astype(np.int32), {}, "8-bit or floating-point"),
        (random_image(0, 8).astype(np.float32), {}, r"at least one pixel, got \(3, 0, 8\)"),
        (random_image(0, 8), {}, r"at least one pixel, got \(3, 0, 8\)"),
        (random_image(8, 8, 1), {"do_convert_rgb": False}, r"3 channels .*, got \(1, 8, 8\).*do_convert_rgb=True"),
        (random_image(8, 8).astype(np.float32) / 255, {"resample": 4}, "resample=4, which takes only 8-bit images"),
    ],
)
def test_what_cannot_be_processed_is_refused_by_name(processor, images, options, message):
    with pytest.raises(ValueError, match=message):
        processor(images, **options)


def test_a_filter_has_torchvision_s_name_or_pillow_s(processor):
    image = random_image(40, 60)
    expected = processor(image, size=56, resample=Image.Resampling.BILINEAR).pixel_values
    assert torch.equal(processor(image, size=56, resample=InterpolationMode.BILINEAR).pixel_values, expected)


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="crop, balanced, pad, square; got 'stretch'"):
        Page4DImageProcessor(mode="stretch")


@pytest.mark.parametrize("option", ["do_normalize", "do_pad"])
def test_an_option_that_the_model_or_a_mode_stands_for_is_refused(option):
    with pytest.raises(ValueError, match=f"Expected no {option}"):
        Page4DImageProcessor(**{option: True})
    Page4DImageProcessor(**{option: False})


# ---------------------------------------------------------------------------------------------------------------
# Back to the images' own pixels

PLACEMENTS = [
    ((48, 96), {"mode": "crop", "size": 56}),
    ((100, 60), {"mode": "crop", "size": 56}),  # loses its top and bottom
    ((100, 60), {"mode": "pad", "size": 56}),
    ((100, 60), {"mode": "balanced", "size": 112}),
    ((150, 30), {"mode": "balanced", "size": 112}),  # padded to 1:2
    ((45, 71), {"mode": "square", "size": 56}),  # the image's edges fall between pixels
    ((48, 96), {"mode": "crop", "size": 112, "do_center_crop": True, "crop_size": 28}),
]


def network_coordinates(inputs):
    """Depth maps that hold the x coordinate of each pixel's centre, and points of (x, y, 1)."""
    height, width = inputs.pixel_values.shape[-2:]
    x = (torch.arange(width) + 0.5).expand(height, width)
    y = (torch.arange(height) + 0.5)[:, None].expand(height, width)
    maps = {"depth": x[None, None, ..., None], "depth_conf": y[None, None], "dynamics_mask": (x + y)[None, None]}
    points = torch.stack((x, y, torch.ones_like(x)), dim=-1)[None, None]
    return SimpleNamespace(**maps, world_points=points, world_points_conf=x[None, None])


@pytest.mark.parametrize(("size", "options"), PLACEMENTS)
def test_maps_come_back_to_the_pixels_that_they_were_seen_at(processor, size, options):
    """A map of network coordinates, brought back, must hold where each original pixel's centre lies in the network."""
    inputs = processor(random_image(*size), **options)
    outputs = network_coordinates(inputs)
    frame = processor.post_process_depth(outputs, inputs.original_sizes, inputs.image_boxes)[0][0]
    x0, y0, x1, y1 = inputs.image_boxes[0, 0]
    height, width = inputs.pixel_values.shape[-2:]
    x = x0 + (torch.arange(size[1]) + 0.5) * (x1 - x0) / size[1]
    y = y0 + (torch.arange(size[0]) + 0.5) * (y1 - y0) / size[0]
    inside = ((x > 0) & (x < width)) & ((y > 0) & (y < height))[:, None]
    assert frame["predicted_depth"].shape == frame["confidence"].shape == size
    torch.testing.assert_close(frame["predicted_depth"].isfinite(), inside)
    torch.testing.assert_close(frame["confidence"].isfinite(), inside)
    # Nearer to the edge, sampling has one whole pixel to look at: behind a mixed one (up to 1), half of the next.
    deep = inside & (x > max(x0, 0) + 1.5) & (x < min(x1, width) - 1.5)
    deep &= ((y > max(y0, 0) + 1.5) & (y < min(y1, height) - 1.5))[:, None]
    torch.testing.assert_close(frame["predicted_depth"][deep], x.expand(size)[deep], rtol=0, atol=1e-3)
    torch.testing.assert_close(frame["confidence"][deep], y[:, None].expand(size)[deep], rtol=0, atol=1e-3)


@pytest.mark.parametrize(("size", "options"), PLACEMENTS)
def test_points_come_back_unmixed(processor, size, options):
    """Nearest sampling: every point that comes back is one that the network gave."""
    inputs = processor(random_image(*size), **options)
    outputs = network_coordinates(inputs)
    frame = processor.post_process_world_points(outputs, inputs.original_sizes, inputs.image_boxes)[0][0]
    points = frame["world_points"][frame["confidence"].isfinite()]
    assert frame["world_points"].shape == (*size, 3)
    given = {tuple(point) for point in outputs.world_points.flatten(0, -2).tolist()}
    assert {tuple(point) for point in points.tolist()} <= given


def test_padding_does_not_bleed_into_the_image(processor):
    inputs = processor(random_image(30, 90), mode="pad", size=56)
    dynamics = torch.zeros(1, 1, 56, 56)
    _, top, _, bottom = (int(edge) for edge in inputs.image_boxes[0, 0])
    dynamics[..., :top, :] = dynamics[..., bottom:, :] = 1
    outputs = SimpleNamespace(dynamics_mask=dynamics)
    frame = processor.post_process_motion(outputs, inputs.original_sizes, inputs.image_boxes)[0][0]
    assert frame["motion"].max() == 0


@pytest.mark.parametrize(("size", "options"), PLACEMENTS)
def test_a_pixel_of_the_original_image_has_the_ray_of_its_place_in_the_network_input(processor, size, options):
    inputs = processor(random_image(*size), **options)
    network_size = tuple(inputs.pixel_values.shape[-2:])
    encoding = torch.tensor([[[0.1, -0.2, 0.3, 0.0, 0.1, 0.2, 0.9, 0.8, 1.1]]])
    cameras = pose_encoding_to_cameras(encoding, network_size)
    outputs = SimpleNamespace(cameras=lambda: cameras)
    result = processor.post_process_cameras(outputs, inputs.original_sizes, inputs.image_boxes)[0]
    torch.testing.assert_close(result["extrinsics"], cameras[0][0])

    u, v = torch.tensor([0.0, 13.3, size[1]]), torch.tensor([0.0, 21.7, size[0]])
    x0, y0, x1, y1 = inputs.image_boxes[0, 0]
    network = torch.stack((x0 + u * (x1 - x0) / size[1], y0 + v * (y1 - y0) / size[0], torch.ones(3)))
    ray = torch.linalg.solve(cameras[1][0, 0], network)
    torch.testing.assert_close(torch.linalg.solve(result["intrinsics"][0], torch.stack((u, v, torch.ones(3)))), ray)


def test_sizes_and_boxes_may_be_of_numpy(processor):
    arrays, tensors = (processor(random_image(40, 60), size=56, return_tensors=kind) for kind in ("np", "pt"))
    seen = Page4DOutput(
        pose_enc=torch.rand(1, 1, 9, generator=torch.Generator().manual_seed(0)),
        depth=torch.ones(1, 1, 42, 56, 1),
        depth_conf=torch.ones(1, 1, 42, 56),
    )
    for name in ("cameras", "depth"):
        found, expected = (
            getattr(processor, f"post_process_{name}")(seen, each["original_sizes"], each["image_boxes"])[0]
            for each in (arrays, tensors)
        )
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_cast_of_what_goes_into_the_network_leaves_the_boxes_exact(processor, dtype):
    inputs = processor(random_image(1080, 1920))
    boxes = inputs.image_boxes

    cast = inputs.to("cpu", dtype)

    assert cast.pixel_values.dtype == dtype
    assert cast.image_boxes.dtype == torch.float32
    assert torch.equal(cast.image_boxes, boxes)


def test_boxes_go_to_the_device_with_the_rest(processor):
    inputs = processor(random_image(28, 28), size=28).to("meta", torch.bfloat16)

    assert inputs.image_boxes.is_meta
    assert inputs.original_sizes.is_meta


def test_sizes_of_other_videos_than_the_output_s_are_refused(processor):
    inputs = processor([random_image(28, 28)] * 2, size=28)
    outputs = SimpleNamespace(dynamics_mask=torch.zeros(1, 3, 28, 28))
    with pytest.raises(ValueError, match="sizes and boxes for"):
        processor.post_process_motion(outputs, inputs.original_sizes, inputs.image_boxes)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("depth", "no depth in the outputs: the model was built with enable_depth=False, or heads= left it out"),
        (
            "world_points",
            "no world_points in the outputs: the model was built with enable_point=False, or heads= left them out",
        ),
        ("motion", "no dynamics_mask in the outputs: the model was built with mask_form=None"),
        ("cameras", "no cameras: the model was built with enable_camera=False"),
    ],
)
def test_what_the_model_has_no_head_for_is_named(processor, method, message):
    inputs = processor(random_image(28, 28), size=28)
    with pytest.raises(ValueError, match=message):
        getattr(processor, f"post_process_{method}")(Page4DOutput(), inputs.original_sizes, inputs.image_boxes)


# ---------------------------------------------------------------------------------------------------------------
# Saving and loading


def test_options_survive_saving_and_loading(tmp_path):
    Page4DImageProcessor(mode="pad", size={"height": 280, "width": 392}, patch_size=28).save_pretrained(tmp_path)
    loaded = Page4DImageProcessor.from_pretrained(tmp_path)
    assert (loaded.mode, dict(loaded.size), loaded.patch_size) == ("pad", {"height": 280, "width": 392}, 28)
