"""Frames from videos, folders, globs and lists."""

import errno
import io
import random
import struct
import weakref
import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pillow_heif
import pytest
from PIL import Image

import page4d_hf.frames
from page4d_hf.errors import FrameError
from page4d_hf.frames import frame_files, read_frames, read_image
from page4d_hf.utils import lazy_images


def write_image(path, value=0, size=(8, 6), mode="RGB", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, (value,) * len(mode)).save(path, **options)
    return path


def write_video(path, times=range(0, 1200, 100), options=None, aspect=None):
    """64 x 48 pixels, frames at the given times in ms: frame i is gray of level 10 i, its left upper quarter red.

    `aspect` is the width of a pixel by its height.
    """
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        for i, time in enumerate(times):
            image = np.full((48, 64, 3), 10 * i % 250, np.uint8)
            image[:24, :32] = (255, 0, 0)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def numbers(frames):
    """Which frames of `write_video` these are, by their gray."""
    return [round(float(image[-1, -1].mean()) / 10) for image in frames.images]


# ---------------------------------------------------------------------------------------------------------------
# Videos


def test_a_video_gives_all_of_its_frames_in_order_with_their_times(tmp_path):
    frames = read_frames(write_video(tmp_path / "clip.mp4"))
    assert numbers(frames) == list(range(12))
    np.testing.assert_allclose(frames.times, np.arange(12) / 10)
    assert frames.in_seconds
    assert frames.take(np.arange(3)).in_seconds
    assert frames.images[0].shape == (48, 64, 3)
    assert frames.images[0].dtype == np.uint8
    assert (frames.paths, frames.names[3]) == (None, "frame_00003")


def test_frames_of_a_raw_stream_which_has_no_timestamps_follow_each_other_evenly(tmp_path):
    raw = write_video(tmp_path / "clip.h264")
    frames = read_frames(raw.rename(tmp_path / "clip.mp4"))
    assert numbers(frames) == list(range(12))
    np.testing.assert_allclose(frames.times, np.arange(12) / 25)  # FFmpeg's rate for streams that tell none


def test_a_frame_a_rounding_error_before_its_target_is_taken(tmp_path):
    assert 0.29 * 100 < 29
    assert numbers(read_frames(write_video(tmp_path / "clip.mp4", [0, 280, 290]), fps=100)) == [0, 1, 2]


def test_a_frame_rate_picks_frames_by_their_timestamps_not_by_their_number(tmp_path):
    times = [0, 20, 40, 60, 80, 500, 980, 1000, 1500, 2000]
    frames = read_frames(write_video(tmp_path / "clip.mp4", times), fps=2)
    np.testing.assert_allclose(frames.times, [0, 0.5, 1.0, 1.5, 2.0], atol=1e-3)
    assert numbers(frames) == [0, 5, 7, 8, 9]


def test_a_frame_rate_above_the_video_s_repeats_no_frame(tmp_path):
    assert numbers(read_frames(write_video(tmp_path / "clip.mp4"), fps=240)) == list(range(12))


@pytest.mark.parametrize(("fps", "count"), [(1e6, 12), (1e-300, 1)])
def test_a_frame_rate_far_from_the_video_s_takes_no_more_memory_than_its_frames(tmp_path, fps, count):
    path = write_video(tmp_path / "clip.mkv", [*range(0, 1100, 100), 10**7])  # its last frame is 3 hours on
    assert len(read_frames(path, fps=fps)) == count


def test_a_limit_spreads_frames_evenly_over_the_whole_clip(tmp_path):
    path = write_video(tmp_path / "clip.mp4")
    assert numbers(read_frames(path, max_frames=4)) == [0, 4, 7, 11]
    assert numbers(read_frames(path, max_frames=1)) == [0]
    assert numbers(read_frames(path, fps=5, max_frames=3)) == [0, 4, 10]
    assert len(read_frames(path, max_frames=99)) == 12


def show_by(path, a, b, c, d):
    """Give an MP4 a display matrix, by which a pixel (p, q) is shown at (a p + c q, b p + d q)."""
    data = bytearray(path.read_bytes())
    # In the track header: after the box's type, version and flags (4), times, id and duration (20) and layer, volume
    # and reserved (16).
    matrix = (a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    struct.pack_into(">9i", data, data.find(b"tkhd") + 4 + 4 + 20 + 16, *matrix)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("matrix", "shape", "red"),
    [
        ((1, 0, 0, 1), (48, 64), (0, 0)),
        ((-1, 0, 0, -1), (48, 64), (1, 1)),
        ((-1, 0, 0, 1), (48, 64), (0, 1)),
        ((1, 0, 0, -1), (48, 64), (1, 0)),
        ((0, 1, -1, 0), (64, 48), (0, 1)),
        ((0, -1, 1, 0), (64, 48), (1, 0)),
        ((0, 1, 1, 0), (64, 48), (0, 0)),
        ((0, -1, -1, 0), (64, 48), (1, 1)),
    ],
)
def test_a_video_turned_and_mirrored_by_its_metadata_comes_as_it_is_shown(tmp_path, matrix, shape, red):
    path = write_video(tmp_path / "selfie.mp4")
    show_by(path, *matrix)
    frames = read_frames(path)
    image = frames.images[0]
    assert frames.sizes[0] == image.shape[:2] == shape
    corners = {(row, column): image[-10 * row or 10, -10 * column or 10] for row in (0, 1) for column in (0, 1)}
    np.testing.assert_allclose(corners.pop(red), (255, 0, 0), atol=8)
    np.testing.assert_allclose(list(corners.values()), 0, atol=8)


def test_a_turned_video_of_pixels_that_are_not_square_comes_upright(tmp_path):
    path = write_video(tmp_path / "phone.mp4", aspect=Fraction(3, 2))
    show_by(path, 0, 1, -1, 0)  # a quarter turn clockwise, as phones write it
    image = read_frames(path).images[0]
    assert image.shape == (96, 48, 3)
    np.testing.assert_allclose(image[10, -10], (255, 0, 0), atol=8)  # the red quarter went from left to right
    np.testing.assert_allclose(image[10, 10], 0, atol=8)


@pytest.mark.parametrize(
    ("aspect", "shape"), [(Fraction(3, 2), (48, 96)), (Fraction(2, 3), (72, 64)), (Fraction(1), (48, 64))]
)
def test_pixels_of_a_video_that_are_not_square_are_made_so(tmp_path, aspect, shape):
    frames = read_frames(write_video(tmp_path / "anamorphic.mp4", aspect=aspect))
    image = frames.images[0]
    assert image.shape == (*shape, 3)
    assert numbers(frames) == list(range(12))
    np.testing.assert_allclose(image[shape[0] // 2 - 5, shape[1] // 2 - 5], (255, 0, 0), atol=8)
    np.testing.assert_allclose(image[shape[0] // 2 + 5, shape[1] // 2 + 5], 0, atol=8)


def test_an_animated_gif_is_a_video(tmp_path):
    images = [Image.fromarray(np.full((20, 30, 3), 40 * i, np.uint8)) for i in range(5)]
    images[0].save(tmp_path / "x.gif", save_all=True, append_images=images[1:], duration=100)
    assert len(read_frames(tmp_path / "x.gif")) == 5


def test_a_video_cut_off_on_its_way_is_named_broken(tmp_path):
    path = write_video(tmp_path / "clip.mp4", range(0, 6000, 100), options={"movflags": "faststart"})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(FrameError, match=r"clip\.mp4 breaks off: it says that it is 6\.0 s long"):
        read_frames(path)


def images_alive(monkeypatch, function):
    """A list that tells after each of `read_frames`' images how many of them are in memory."""
    alive, counts = weakref.WeakValueDictionary(), []
    original = getattr(page4d_hf.frames, function)

    def watched(*arguments):
        image = original(*arguments)
        alive[id(image)] = image
        counts.append(len(alive))
        return image

    monkeypatch.setattr(page4d_hf.frames, function, watched)
    return counts


@pytest.mark.parametrize("kind", ["video", "folder"])
@pytest.mark.parametrize("held", [64 * 48 * 4 * 12, 1])
def test_of_a_long_clip_few_images_are_in_memory_and_of_a_short_one_each_is_decoded_once(
    tmp_path, monkeypatch, kind, held
):
    monkeypatch.setattr(lazy_images, "MOST_HELD", held)
    counts = images_alive(monkeypatch, "_upright" if kind == "video" else "read_image")
    if kind == "video":
        frames = read_frames(write_video(tmp_path / "clip.mp4"))
    else:
        for i in range(12):
            write_image(tmp_path / f"{i}.png", 10 * i, size=(64, 48))
        frames = read_frames(tmp_path)
    assert frames.sizes == [(48, 64)] * 12
    assert numbers(frames) == numbers(frames) == list(range(12))
    assert (max(counts), len(counts)) == (12, 12) if held > 1 else max(counts) <= lazy_images.RECENT + 1


def test_frames_of_a_long_video_come_in_any_order(tmp_path, monkeypatch):
    monkeypatch.setattr(lazy_images, "MOST_HELD", 1)
    frames = read_frames(write_video(tmp_path / "clip.mp4"))
    for i in (7, 3, 3, 11, -1, 0):
        assert frames.images[i][-1, -1].mean() == pytest.approx(10 * (i % 12), abs=2)
    assert numbers(frames.take(np.array([8, 2, 4]))) == [8, 2, 4]


def png_of(width, height):
    """A PNG file whose header declares a size, and whose data are of one pixel."""
    file = io.BytesIO()
    Image.new("RGB", (1, 1)).save(file, "png")
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return file.getvalue()[:12] + header + struct.pack(">I", zlib.crc32(header)) + file.getvalue()[33:]


def test_an_image_of_more_pixels_than_are_read_is_refused_by_its_header(tmp_path):
    (tmp_path / "a.png").write_bytes(png_of(100_000, 100_000))
    with pytest.raises(
        FrameError, match=r"Cannot read the image .*a\.png; .*\(Image size \(10000000000 pixels\) exceeds"
    ):
        read_frames(tmp_path)


def test_a_video_whose_pixels_are_so_wide_that_a_frame_is_huge_is_refused(tmp_path):
    path = write_video(tmp_path / "clip.mp4", aspect=Fraction(3, 2))
    data = bytearray(path.read_bytes())
    struct.pack_into(">II", data, data.find(b"pasp") + 4, 10**6, 1)  # width and height of a pixel
    path.write_bytes(data)
    with pytest.raises(FrameError, match=r"A frame of .*clip\.mp4 has 64000000 x 48 pixels, and up to 178,956,970 are"):
        read_frames(path)


@pytest.mark.parametrize("suffix", [".3g2", ".f4v", ".mxf", ".vob"])
def test_videos_of_rarer_containers_are_read(tmp_path, suffix):
    with av.open(str(tmp_path / f"clip{suffix}"), "w") as container:
        stream = container.add_stream("mpeg2video" if suffix in (".mxf", ".vob") else "libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8))))
        container.mux(stream.encode())
    assert len(read_frames(tmp_path / f"clip{suffix}")) == 3


@pytest.mark.parametrize(("has_cover", "kinds"), [(False, "audio"), (True, "audio and a cover picture")])
def test_sound_without_pictures_or_with_a_cover_is_no_video(tmp_path, has_cover, kinds):
    with av.open(str(tmp_path / "song.mp4"), "w") as container:
        sound = container.add_stream("aac", rate=44100)
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        samples.sample_rate = 44100
        streams = [(sound, samples)]
        if has_cover:
            cover = container.add_stream("mjpeg", rate=1)
            cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
            cover.disposition = av.stream.Disposition.attached_pic
            streams.append((cover, av.VideoFrame(64, 48, "yuvj420p")))
        for stream, frame in streams:
            container.mux(stream.encode(frame))
            container.mux(stream.encode())
    with pytest.raises(FrameError, match=f"holds no video, only {kinds}"):
        read_frames(tmp_path / "song.mp4")


# ---------------------------------------------------------------------------------------------------------------
# Images


def test_a_folder_is_read_in_natural_order(tmp_path):
    for i in (10, 9, 1, 100):
        write_image(tmp_path / f"img{i}.png", i)
    frames = read_frames(tmp_path)
    assert frames.names == ["img1.png", "img9.png", "img10.png", "img100.png"]
    assert [int(image[0, 0, 0]) for image in frames.images] == [1, 9, 10, 100]
    assert frames.times.tolist() == [0, 1, 2, 3]
    assert frames.paths is not None
    assert frames.paths[0] == tmp_path / "img1.png"


@pytest.mark.parametrize("suffix", [".jfif", ".JPE"])
def test_jpeg_is_read_by_its_other_endings(tmp_path, suffix):
    write_image(tmp_path / f"a{suffix}", 9, format="JPEG")
    assert read_frames(tmp_path).images[0].shape == (6, 8, 3)


def test_hidden_files_and_other_files_in_a_folder_are_passed_over(tmp_path):
    write_image(tmp_path / "a.jpg")
    write_image(tmp_path / "sub" / "b.jpg")
    (tmp_path / "._a.jpg").write_bytes(b"resource fork")
    (tmp_path / "notes.txt").write_text("x")
    assert read_frames(tmp_path).names == ["a.jpg"]


def test_a_limit_on_images_keeps_their_places_as_times(tmp_path):
    for i in range(7):
        write_image(tmp_path / f"{i}.png", i)
    frames = read_frames(tmp_path, max_frames=3)
    assert frames.names == ["0.png", "3.png", "6.png"]
    assert frames.times.tolist() == [0, 3, 6]
    assert not frames.in_seconds


def test_a_glob_takes_the_images_that_match(tmp_path):
    for name in ("a1.png", "a2.png", "b1.png"):
        write_image(tmp_path / name)
    (tmp_path / "a3.txt").write_text("x")
    assert read_frames(str(tmp_path / "a*")).names == ["a1.png", "a2.png"]


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path):
    write_image(tmp_path / "shot[1].png", 7)
    assert int(read_frames(tmp_path / "shot[1].png").images[0][0, 0, 0]) == 7


def test_a_list_of_images_keeps_its_order(tmp_path):
    paths = [write_image(tmp_path / f"{i}.png", i) for i in (3, 1, 2)]
    assert [int(image[0, 0, 0]) for image in read_frames(paths).images] == [3, 1, 2]


def test_the_files_of_a_source_are_known_without_reading_them(tmp_path):
    for name in ("10.png", "9.png"):
        (tmp_path / name).write_bytes(b"not read")
    assert frame_files(tmp_path) == [tmp_path / "9.png", tmp_path / "10.png"]
    (tmp_path / "clip.mp4").write_bytes(b"not read")
    assert frame_files(str(tmp_path / "*.mp4")) == frame_files(tmp_path / "clip.mp4") == [tmp_path / "clip.mp4"]


def test_exif_orientation_is_applied(tmp_path):
    image = Image.new("RGB", (40, 20))
    image.paste((255, 0, 0), (0, 0, 20, 20))
    exif = image.getexif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    image.save(tmp_path / "a.jpg", exif=exif, quality=95)
    upright = read_image(tmp_path / "a.jpg")
    assert upright.shape == (40, 20, 3)
    assert upright[5, 10, 0] > 200
    assert upright[35, 10, 0] < 50


def test_sixteen_bits_become_eight_by_scaling_not_by_clipping(tmp_path):
    Image.fromarray(np.array([[0, 257, 32896, 65535]], np.uint16)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[0, :, 1].tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize(("mode", "channels"), [("L", 3), ("LA", 4), ("P", 3), ("RGBA", 4), ("1", 3), ("LAB", 3)])
def test_images_of_every_mode_become_rgb_or_rgba(tmp_path, mode, channels):
    path = tmp_path / ("a.tif" if mode == "LAB" else "a.png")
    Image.new("RGB", (6, 4), (255, 255, 255)).convert(mode).save(path)
    image = read_image(path)
    assert (image.shape, image.dtype) == ((4, 6, channels), np.uint8)
    assert image.min() >= 254


def test_palette_transparency_is_kept(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putdata([0, 1])
    image.save(tmp_path / "a.png", transparency=1)
    assert read_image(tmp_path / "a.png")[0].tolist() == [[10, 20, 30, 255], [40, 50, 60, 0]]


# ---------------------------------------------------------------------------------------------------------------
# What cannot be read


def test_each_thing_that_holds_no_frames_is_refused_with_a_sentence_of_its_own(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("x")
    (tmp_path / "nested" / "deep").mkdir(parents=True)
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "clip.mp4").write_bytes(b"x")
    (tmp_path / "videos" / "clop.mp4").write_bytes(b"x")
    cases = {
        tmp_path / "absent": "No such file or folder: .*absent",
        tmp_path / "empty": "empty is empty",
        tmp_path / "texts": r"holds no images that can be read, only \.txt files",
        tmp_path / "nested": "name the subfolder",
        tmp_path / "videos": r"to read its video, name it: .*clip\.mp4",
        tmp_path
        / "texts"
        / "a.txt": r"a\.txt is no image or video of a kind that is read: images are .*jpg.* videos .*mp4",
        tmp_path / "*.png": r"Nothing matches .*\*\.png",
        tmp_path / "texts" / "*": "No image and no video matches",
        tmp_path / "videos" / "*": "matches 2 videos; name one",
    }
    for source, message in cases.items():
        with pytest.raises(FrameError, match=message):
            read_frames(source)
    with pytest.raises(FrameError, match="an empty list"):
        read_frames([])
    with pytest.raises(FrameError, match=r"No such image: .*gone\.png"):
        read_frames([tmp_path / "gone.png"])


@pytest.mark.parametrize("name", ["x" * 300, "a\0.png", "a\0/*", "~no-such-user/a.png", "{}/loop", "{}/\udcff.png"])
def test_what_cannot_be_a_file_s_name_is_no_file(tmp_path, name):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for source in (name.format(tmp_path), [name.format(tmp_path)]):
        with pytest.raises(FrameError, match=r"No such (file or folder|image)"):
            read_frames(source)


@pytest.mark.parametrize("names", [["a.mp4", "b.mp4"], ["a.png", "b.mp4"], ["b.mp4", "a.png"]])
def test_a_list_in_which_a_video_is_not_alone_is_refused(names):
    with pytest.raises(FrameError, match=f"A list of 2 files holds videos.*such as {min(set(names) - {'a.png'})}"):
        frame_files(names)


def test_a_folder_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(FrameError, match="cannot be read: Permission denied"):
        read_frames(tmp_path)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp", "bmp"])
def test_a_broken_image_is_named(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    for i in range(3):
        Image.fromarray(noise).save(tmp_path / f"{i}.{suffix}")
    whole = (tmp_path / f"1.{suffix}").read_bytes()
    for content in (whole[: len(whole) // 2], whole[:10], b"", b"garbage" * 99):
        (tmp_path / f"1.{suffix}").write_bytes(content)
        with pytest.raises(FrameError, match=rf"Cannot read the image .*1\.{suffix}; it is broken"):
            read_frames(tmp_path)


@pytest.mark.parametrize("suffix", ["webp", "png", "tif"])
def test_several_images_in_one_file_are_refused(tmp_path, suffix):
    images = [Image.new("RGB", (8, 6), (level,) * 3) for level in (0, 100, 200)]
    images[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=images[1:])
    with pytest.raises(FrameError, match=rf"a\.{suffix} holds 3 images, and one was expected; make a video of them"):
        read_frames(tmp_path)


def test_a_photograph_with_a_preview_beside_it_is_that_photograph(tmp_path):
    images = [Image.new("RGB", size, (255, 255, 255)) for size in ((8, 6), (4, 3))]
    images[0].save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=images[1:])
    assert read_image(tmp_path / "a.jpg").shape == (6, 8, 3)


def test_pixels_that_eight_bits_cannot_hold_are_refused(tmp_path):
    Image.fromarray(np.full((2, 2), 0.5, np.float32)).save(tmp_path / "depth.tiff")
    with pytest.raises(FrameError, match=r"depth\.tiff: Expected .* got floating-point pixels"):
        read_image(tmp_path / "depth.tiff")
    Image.fromarray(np.full((2, 2), 1 << 20, np.int32)).save(tmp_path / "labels.tiff")
    with pytest.raises(FrameError, match=r"labels\.tiff: Expected an image of 8 or 16 bits, got values from 1048576"):
        read_image(tmp_path / "labels.tiff")


def test_a_frame_rate_for_images_is_refused(tmp_path):
    write_image(tmp_path / "a.png")
    for source, name in ((tmp_path, tmp_path.name), (np.zeros((2, 6, 8, 3), np.uint8), "memory")):
        with pytest.raises(FrameError, match=f"{name} holds images without timestamps"):
            read_frames(source, fps=2)


@pytest.mark.parametrize(
    "options",
    [{"fps": 0}, {"fps": 1e300}, {"fps": float("inf")}, {"fps": float("nan")}, {"fps": -1}, {"max_frames": 0}],
)
def test_rates_and_limits_that_leave_nothing_are_refused(tmp_path, options):
    write_image(tmp_path / "a.png")
    with pytest.raises(FrameError, match="Expected a"):
        read_frames(tmp_path, **options)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.webp", "a.bmp", "a.mp4", "a.gif"])
def test_a_fuzzed_file_is_read_or_refused_in_a_sentence(tmp_path, name):
    """No other exception, and no more memory than its pixels take."""
    path = tmp_path / name
    if name == "a.mp4":
        write_video(path, range(0, 500, 100))
    else:
        noise = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
        image, exif = Image.fromarray(noise), Image.Exif()
        exif[0x0112] = 6
        image.save(path, **({"exif": exif} if name in ("a.png", "a.jpg", "a.webp") else {}))
    whole = path.read_bytes()
    draw = random.Random(0)
    for _ in range(60):
        damaged = bytearray(whole)
        for _ in range(draw.randrange(1, 4)):
            damaged[draw.randrange(min(len(whole), 700))] = draw.randrange(256)  # among the headers, most of the time
        path.write_bytes(damaged[: draw.randrange(len(whole))] if draw.random() < 0.2 else damaged)
        try:
            frames = read_frames(path, fps=5 if name == "a.mp4" and draw.random() < 0.5 else None)
        except FrameError as error:
            assert "Cannot read" in str(error) or "hold" in str(error) or "breaks off" in str(error)  # noqa: PT017
            continue
        assert all(image.dtype == np.uint8 and image.shape[2] in (3, 4) for image in frames.images)


# ---------------------------------------------------------------------------------------------------------------
# Images in memory


def test_images_in_memory_become_frames_in_their_order(tmp_path):
    gray, transparent = np.full((6, 8), 7, np.uint8), np.full((4, 4, 4), 9, np.uint8)
    photo = Image.open(write_image(tmp_path / "a.png", 5))
    turned = Image.new("RGB", (8, 6))
    turned.getexif()[0x0112] = 6  # a quarter turn
    frames = read_frames([gray, transparent, photo, turned])
    assert [image.shape for image in frames.images] == [(6, 8, 3), (4, 4, 4), (6, 8, 3), (8, 6, 3)]
    assert [image[0, 0, 0] for image in frames.images] == [7, 9, 5, 0]
    assert frames.paths is None
    assert frames.times.tolist() == [0, 1, 2, 3]
    assert len(read_frames(photo)) == len(read_frames(gray)) == 1
    assert len(read_frames(np.zeros((3, 6, 8, 3), np.uint8))) == 3


def test_frames_pass_through_but_for_a_limit_of_their_number(tmp_path):
    frames = read_frames([write_image(tmp_path / f"{i}.png", i) for i in range(5)])
    some = read_frames(frames, max_frames=3)
    assert some.names == ["0.png", "2.png", "4.png"]
    assert [path.name for path in some.paths] == some.names
    assert some.times.tolist() == [0, 2, 4]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([np.zeros((6, 8, 3), np.float32)], r"array \[H, W, 3\] of uint8 as image 0, got float32 of shape \(6, 8, 3\)"),
        ([np.zeros((3, 6, 8), np.uint8)], r"got uint8 of shape \(3, 6, 8\); scale values .* channels last"),
        ([np.zeros((0, 8, 3), np.uint8)], r"shape \(0, 8, 3\)"),
        (np.zeros((0, 6, 8, 3), np.uint8), "at least one image"),
        ([np.zeros((6, 8, 3), np.uint8), "a.png"], "either image files or PIL images and arrays, got str as image 1"),
        ([Image.new("F", (4, 4))], "Image 0: "),
    ],
)
def test_an_image_in_memory_that_is_none_is_refused_by_its_place(images, message):
    with pytest.raises(FrameError, match=message):
        read_frames(images)


@pytest.mark.parametrize("suffix", [".heic", ".HEIF", ".avif"])
def test_photos_of_phones_are_read_upright(tmp_path, suffix):
    """AVIF is turned by EXIF; in HEIF a property of the file counts, which its decoder applies, and EXIF does not."""
    pillow_heif.register_heif_opener()
    ramp = np.linspace(0, 200, 64 * 48).reshape(48, 64, 1).repeat(3, axis=2).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    kind = "AVIF" if suffix == ".avif" else "HEIF"
    Image.fromarray(ramp).save(tmp_path / f"IMG_1{suffix}", format=kind, quality=95, exif=exif)
    image = read_frames(tmp_path).images[0].astype(int)
    upright = np.rot90(ramp, -1) if kind == "AVIF" else ramp
    assert image.shape == upright.shape
    assert np.abs(image - upright).max() <= 6
