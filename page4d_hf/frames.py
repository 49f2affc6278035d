"""Frames in order: of a video file, a folder of images, a glob, image files, or images in memory."""

from __future__ import annotations

import glob
import logging
import os
import re
import struct
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from .errors import FrameError
from .pillow_page4d import let_pillow_read, to_8_bits
from .utils.evenly import evenly
from .utils.image_bounds import MOST_PIXELS
from .utils.lazy_images import LazyImages
from .video_pixels import remarks, to_rgb

if TYPE_CHECKING:
    import av

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".jp2", ".avif", ".heic", ".heif"}
    | {".jfif", ".jpe"}  # JPEG, as browsers on Windows save it
)
VIDEO_SUFFIXES = frozenset(
    {".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".mts", ".m2ts", ".ts", ".wmv", ".flv", ".3gp"}
    | {".ogv", ".gif", ".3g2", ".f4v", ".vob", ".mxf"}
)
GREATEST_FPS = 1e6
WHITE = (255, 255, 255)  # what the network sees behind transparency


@dataclass
class Frames:
    """Frames in the order in which they were taken, upright, at their own sizes."""

    # each [H, W, 3] or, with transparency, [H, W, 4] uint8; of files, decoded when asked
    images: Sequence[npt.NDArray[Any]]
    names: list[str]  # file name of each image; for a video "frame_<number in the video, from 0>"
    times: npt.NDArray[Any]  # [N] float64: seconds from a video's first frame, or places in the sequence of images
    paths: list[Path] | None  # the image files; None for a video
    source: str  # what the frames were read from, as it was given
    in_seconds: bool = False  # whether times are seconds, as of a video

    def __len__(self) -> int:
        return len(self.images)

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """(height, width) of each image, for which none is decoded."""
        if isinstance(self.images, LazyImages):
            return self.images.sizes
        return [(image.shape[0], image.shape[1]) for image in self.images]

    @property
    def transparent(self) -> bool:
        """Whether images may have transparency, for which none is decoded."""
        if isinstance(self.images, LazyImages):
            return self.images.transparent
        return any(image.shape[2:] == (4,) for image in self.images)

    def take(self, indices: npt.NDArray[Any]) -> Frames:
        """The frames at `indices`, with their times."""
        kept = indices.tolist()
        return replace(
            self,
            images=self.images.take(kept) if isinstance(self.images, LazyImages) else [self.images[i] for i in kept],
            names=[self.names[i] for i in kept],
            times=self.times[indices],
            paths=None if self.paths is None else [self.paths[i] for i in kept],
        )


FileSource = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
Source = FileSource | Frames | Image.Image | npt.NDArray[Any] | Sequence[Image.Image] | Sequence[npt.NDArray[Any]]


def normalized_times(times: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Times or indices `(N,)` to [0, 1]: the first instant is 0, the last 1; a single instant is 0."""
    times = np.asarray(times, np.float64)
    span = times.max() - times.min()
    return cast(npt.NDArray[Any], (times - times.min()) / (span if span > 0 else 1.0))


def read_frames(
    source: Source,
    *,
    fps: float | None = None,
    max_frames: int | None = None,
) -> Frames:
    """Read a video or still images as a sequence of frames.

    Files are gone through once, so that what is wrong with them is known; their images are decoded again when they are
    asked for, unless they are few enough to be held (see `LazyImages`).

    Args:
        source: one of

            - a video file; its metadata turn and mirror it, and pixels that are not square are made so.
            - an image file: one frame.
            - a folder: its image files (not those of its subfolders) in natural order, so that `9.png` comes before
              `10.png`. Hidden files and files of other kinds are passed over.
            - a glob pattern such as `clip/*.jpg`: the image files that match, in natural order (or one video).
            - a list of image files, taken in that order (or of one video).
            - PIL images or uint8 arrays `[H, W]`, `[H, W, 3]` or `[H, W, 4]`: one, a list, or an array `[S, H, W, 3]`.
            - `Frames`, which pass through but for `max_frames`.

            EXIF orientation is applied to images.
        fps: frames per second to take from a video, by its timestamps: to every multiple of 1/fps the frame nearest in
            time, none of them twice. The default takes every frame.
        max_frames: upper limit of the number of frames. They are spread evenly over the whole sequence, first and last
            frame included (after `fps`), because a reconstruction wants to see all of a clip rather than its start.

    Raises:
        FrameError: the source does not exist, holds no images, matches nothing, is of another kind or broken, is
            several files of which any is a video, or arrays of another type or shape; `fps` is given for images, which
            have no timestamps; or a frame has more than `MOST_PIXELS`.
    """
    if fps is not None and not 0 < fps <= GREATEST_FPS:
        raise FrameError(f"Expected a frame rate above 0 and up to {GREATEST_FPS:,.0f}, got {fps:g}.")
    if max_frames is not None and max_frames < 1:
        raise FrameError(f"Expected a limit of at least 1 frame, got {max_frames}.")

    frames = _in_memory(source)
    if frames is not None:
        if not len(frames):
            raise FrameError("Expected at least one image, got none.")
        if fps is not None:
            raise FrameError(_no_timestamps(frames.source))
        return frames.take(evenly(len(frames), max_frames))
    files = frame_files(cast(FileSource, source))
    name = str(source) if isinstance(source, (str, os.PathLike)) else "a list of images"
    if files[0].suffix.lower() in VIDEO_SUFFIXES:
        return _read_video(files[0], name, fps, max_frames)
    return _read_images(files, name, fps, max_frames)


def frame_files(source: FileSource) -> list[Path]:
    """The files that `read_frames` reads from a source, in order, none of them opened yet: one video, or images."""
    if not isinstance(source, (str, os.PathLike)):
        files = [Path(path) for path in source]
        if not files:
            raise FrameError("Expected at least one image, got an empty list.")
        videos = [path for path in files if path.suffix.lower() in VIDEO_SUFFIXES]
        if videos and len(files) > 1:
            raise FrameError(f"A list of {len(files)} files holds videos; name one of them alone, such as {videos[0]}.")
        return files
    path = Path(os.path.expanduser(source))
    # os.path's tests, unlike pathlib's, are false of what cannot be a file's name.
    if os.path.isdir(path):
        return _images_of_folder(path)
    if os.path.exists(path):
        return [path]
    if glob.has_magic(str(path)) and "\0" not in str(path):
        return _images_or_video_of_glob(str(path))
    raise FrameError(f"No such file or folder: {path}.")


def natural_key(path: str | os.PathLike[str]) -> list[tuple[int, int, str]]:
    """Sort key that takes runs of digits as numbers: `img9.png` before `img10.png`."""
    parts = re.split(r"(\d+)", os.fspath(path))
    # The digits themselves break ties such as 1 and 01.
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts if part]


# ---------------------------------------------------------------------------------------------------------------
# Images


def _images_of_folder(folder: Path) -> list[Path]:
    try:
        entries = list(folder.iterdir())
    except OSError as error:
        raise FrameError(f"The folder {folder} cannot be read: {error.strerror}.") from error
    files = [path for path in entries if os.path.isfile(path) and not path.name.startswith(".")]
    images = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]
    if not images:
        videos = sorted(path.name for path in files if path.suffix.lower() in VIDEO_SUFFIXES)
        others = sorted({path.suffix or path.name for path in files})
        if videos:
            raise FrameError(f"The folder {folder} holds no images; to read its video, name it: {folder / videos[0]}.")
        if others:
            raise FrameError(
                f"The folder {folder} holds no images that can be read, only {', '.join(others[:5])} files."
            )
        if any(os.path.isdir(path) for path in entries):
            raise FrameError(f"The folder {folder} itself holds no images; name the subfolder that does.")
        raise FrameError(f"The folder {folder} is empty; expected images in it.")
    return sorted(images, key=lambda path: natural_key(path.name))


def _images_or_video_of_glob(pattern: str) -> list[Path]:
    matches = [Path(match) for match in glob.glob(pattern, recursive=True)]
    files = sorted((path for path in matches if os.path.isfile(path)), key=natural_key)
    if not files:
        raise FrameError(
            f"Nothing matches {pattern}; check the pattern, and quote it so that the shell leaves it alone."
        )
    images = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]
    videos = [path for path in files if path.suffix.lower() in VIDEO_SUFFIXES]
    if images:
        return images
    if len(videos) == 1:
        return videos
    if videos:
        raise FrameError(f"{pattern} matches {len(videos)} videos; name one of them, such as {videos[0]}.")
    raise FrameError(f"No image and no video matches {pattern}; the first of what does is {files[0]}.")


def _read_images(paths: list[Path], source: str, fps: float | None, max_frames: int | None) -> Frames:
    if fps is not None:
        raise FrameError(_no_timestamps(source))
    indices = evenly(len(paths), max_frames)
    paths = [paths[i] for i in indices]
    images = LazyImages.read(paths, lambda files: map(read_image, files))
    return Frames(images, [path.name for path in paths], indices.astype(np.float64), paths, source)


def read_image(path: str | os.PathLike[str]) -> npt.NDArray[Any]:
    """Read an image file upright (EXIF orientation applied).

    Args:
        path: an image file of 8 or 16 bits, gray, palette, colour or CMYK.

    Returns:
        `[H, W, 3]` uint8, or `[H, W, 4]` where the file has transparency.

    Raises:
        FrameError: no such file, another kind of file, a broken image, several images in one file, or floating-point
            pixels.
    """
    path = Path(path)
    if not os.path.isfile(path):  # false, too, of what cannot be a file's name
        raise FrameError(f"No such image: {path}.")
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        raise FrameError(
            f"{path} is no image or video of a kind that is read: images are {_kinds(IMAGE_SUFFIXES)}, "
            f"videos {_kinds(VIDEO_SUFFIXES)}."
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what matters, Pillow makes an error
            let_pillow_read(path)
            with Image.open(path) as image:
                # Beside the photograph, MPO and HEIF have previews of it, or what a second lens saw.
                count = 1 if image.format in ("MPO", "HEIF") else getattr(image, "n_frames", 1)
                if count == 1:
                    image.load()
                    upright = ImageOps.exif_transpose(image)
    # Pillow's decoders raise what they happen to meet in a broken file, SyntaxError and struct.error among it.
    except Exception as error:
        raise FrameError(f"Cannot read the image {path}; it is broken or no image ({error}).") from error
    if count > 1:
        raise FrameError(
            f"{path} holds {count} images, and one was expected; make a video of them, or a folder of single images."
        )
    return _pixels(upright, path)


def over(image: npt.NDArray[np.uint8], background: tuple[int, int, int]) -> npt.NDArray[np.uint8]:
    """An image `(H, W, 3)` as it is; one `(H, W, 4)` laid over a colour, alpha * image + (1 - alpha) * background."""
    if image.shape[2] == 3:
        return image
    alpha = image[..., 3:].astype(np.float32) / 255
    return cast(
        npt.NDArray[np.uint8],
        np.rint(alpha * image[..., :3] + (1 - alpha) * np.array(background, np.float32)).astype(np.uint8),
    )


def not_black(image: Image.Image) -> npt.NDArray[np.bool_]:
    """Where a mask image shows: it is not black, or a palette's index is not 0, as nerfstudio reads it; `(H, W)`."""
    pixels = np.asarray(image.convert("RGB") if image.mode in ("LA", "PA", "CMYK", "YCbCr") else image)
    return (pixels[..., :3].max(axis=-1) if pixels.ndim == 3 else pixels) > 0


def _pixels(image: Image.Image, name: object) -> npt.NDArray[Any]:
    """`[H, W, 3 or 4]` uint8."""
    try:
        image = to_8_bits(image)
    except ValueError as error:
        raise FrameError(f"{name}: {error}") from error
    return np.array(image.convert("RGBA" if image.has_transparency_data else "RGB"))


def _in_memory(source: Any) -> Frames | None:
    """Frames of images that somebody else has read, with their places for times; None where `source` names files."""
    if isinstance(source, Frames):
        return source
    if isinstance(source, Image.Image) or (isinstance(source, np.ndarray) and source.ndim < 4):
        source = [source]
    if isinstance(source, (str, os.PathLike)):
        return None
    if not (isinstance(source, np.ndarray) or any(isinstance(image, (Image.Image, np.ndarray)) for image in source)):
        return None
    read = []
    for number, image in enumerate(source):
        name = f"Image {number}"
        if isinstance(image, Image.Image):
            try:
                upright = ImageOps.exif_transpose(image)
            except Exception as error:  # decoded only now, and broken
                raise FrameError(f"{name} cannot be read; it is broken ({error}).") from error
            image = _pixels(upright, name)
        if not isinstance(image, np.ndarray):
            raise FrameError(
                f"Expected either image files or PIL images and arrays, got {type(image).__name__} as {name.lower()}."
            )
        if image.dtype != np.uint8 or not (image.ndim == 2 or image.shape[2:] in ((3,), (4,))) or not image.size:
            raise FrameError(
                f"Expected an array [H, W, 3] of uint8 as {name.lower()}, got {image.dtype} of shape {image.shape}; "
                "scale values to 0 to 255 and put the channels last."
            )
        read.append(image if image.ndim == 3 else np.stack([image] * 3, axis=-1))
    return Frames(read, [f"image_{i:05d}" for i in range(len(read))], np.arange(float(len(read))), None, "memory")


def _no_timestamps(source: str) -> str:
    return f"A frame rate needs a video, and {source} holds images without timestamps; limit their number."


def _kinds(suffixes: frozenset[str]) -> str:
    return ", ".join(sorted(suffix[1:] for suffix in suffixes))


# ---------------------------------------------------------------------------------------------------------------
# Video


def _read_video(path: Path, source: str, fps: float | None, max_frames: int | None) -> Frames:
    # Only decoding tells how many frames there are and when; containers are often wrong about both.
    read, sizes = [], []
    for time, frame, stream in _decode(path):
        width, height = _square_size(frame, stream.sample_aspect_ratio)
        if width * height > MOST_PIXELS:
            raise FrameError(
                f"A frame of {source} has {width} x {height} pixels, and up to {MOST_PIXELS:,} are read; scale the "
                "video down."
            )
        read.append(time)
        sizes.append((width, height) if _Turn.of(frame, path).sideways else (height, width))
    times = np.array(read)
    kept = _at_rate(times, fps) if fps is not None else np.arange(len(times))
    kept = kept[evenly(len(kept), max_frames)]
    numbers = kept.tolist()
    images = LazyImages([sizes[i] for i in numbers], numbers, lambda wanted: _images_of_video(path, wanted))
    return Frames(images, [f"frame_{number:05d}" for number in numbers], times[kept], None, source, True)


def _images_of_video(path: Path, numbers: Sequence[int]) -> Iterator[npt.NDArray[Any]]:
    """The frames of some numbers, `[H, W, 3]` uint8 upright with square pixels, as far as the numbers rise."""
    wanted = iter(numbers)
    number = next(wanted)
    for place, (_, frame, stream) in enumerate(_decode(path)):
        if place == number:
            yield _upright(frame, _square_size(frame, stream.sample_aspect_ratio), path)
            number = next(wanted, -1)
            if number <= place:
                return


def _decode(path: Path) -> Iterator[tuple[float, av.VideoFrame, av.VideoStream]]:
    """The frames of a video's best stream with their times in seconds from the first, and the stream; at least one,
    or FrameError."""
    import av

    count, first, end = 0, 0.0, 0.0
    try:
        with av.open(str(path)) as container:
            stream = container.streams.best("video")
            # The cover of a song is a video stream too, which the best one is where there is no other.
            if not isinstance(stream, av.VideoStream) or stream.disposition & av.stream.Disposition.attached_pic:
                kinds = ("a cover picture" if isinstance(s, av.VideoStream) else s.type for s in container.streams)
                raise FrameError(f"{path} holds no video, only {' and '.join(dict.fromkeys(kinds)) or 'nothing'}.")
            stream.thread_type = "AUTO"
            period = 1 / float(stream.average_rate or 25)
            for frame in container.decode(stream):
                assert isinstance(frame, av.VideoFrame)
                # Raw streams come without timestamps: frames are then taken to follow each other at the average rate.
                if count == 0:
                    for sentence in remarks(frame):
                        _remark(f"The video {path} {sentence}.")
                time = frame.time if frame.time is not None else count * period
                first = time if count == 0 else first
                yield time - first, frame, stream
                count += 1
                shown_for = float(frame.duration * frame.time_base) if frame.duration and frame.time_base else period
                end = max(end, time - first + shown_for)
            duration = _duration_told(stream)
    except FrameError:
        raise
    except Exception as error:  # FFmpegError, UnicodeDecodeError, and what else a broken file leads PyAV to
        raise _broken_video(path, f"broken after {count} frames" if count else "broken or no video", error) from error
    if count == 0:
        raise FrameError(f"The video {path} holds no frames.")
    # A file that was cut off (a download that stopped) decodes without an error as far as it goes.
    if duration is not None and duration - end > max(0.5, 0.05 * duration):
        raise FrameError(
            f"The video {path} breaks off: it says that it is {duration:.1f} s long, but its last frame ends at "
            f"{end:.1f} s; copy it anew, or cut it there with a video tool."
        )


@lru_cache
def _remark(sentence: str) -> None:
    """Say what a user should know; once, though a video is decoded twice."""
    logger.warning(sentence)


def _duration_told(stream: av.VideoStream) -> float | None:
    """How many seconds long a stream says that it is; None where nothing says so."""
    import av

    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    container = stream.container
    assert isinstance(container, av.container.InputContainer)
    return container.duration / av.time_base if container.duration and len(container.streams) == 1 else None


def _square_size(frame: av.VideoFrame, aspect: Fraction | None) -> tuple[int, int]:
    """(width, height) of a frame with square pixels; `aspect` is the width of a pixel by its height."""
    ratio = float(aspect) if aspect is not None and aspect > 0 else 1.0
    # The side that the pixels are too short along is stretched, so that nothing is lost.
    return round(frame.width * max(ratio, 1)), round(frame.height / min(ratio, 1))


def _upright(frame: av.VideoFrame, size: tuple[int, int], path: Path) -> npt.NDArray[Any]:
    """`[H, W, 3]` uint8, scaled to `size`, then turned and mirrored as the video's display matrix says."""
    try:
        image = to_rgb(frame, size)
    except Exception as error:
        raise _broken_video(path, "broken", error) from error
    return _Turn.of(frame, path).applied(image)


class _Turn(NamedTuple):
    """How a video's display matrix turns and mirrors a frame: it is transposed first, then mirrored."""

    sideways: bool = False
    mirrored_x: bool = False
    mirrored_y: bool = False

    @classmethod
    def of(cls, frame: av.VideoFrame, path: Path) -> _Turn:
        """By the nearest quarter turn; a frame without a matrix is as it is shown."""
        try:
            stored: Any = frame.side_data.get("DISPLAYMATRIX")
            # ISO/IEC 14496-12, 6.2.2: a pixel (p, q) is shown at (a p + c q + x, b p + d q + y).
            a, b, _, c, d, *_ = (1, 0, 0, 0, 1) if stored is None else struct.unpack("=9i", bytes(stored))
        except Exception as error:
            raise _broken_video(path, "broken", error) from error
        return cls(True, c < 0, b < 0) if abs(b) + abs(c) > abs(a) + abs(d) else cls(False, a < 0, d < 0)

    def applied(self, image: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """An image `(H, W, 3)` as it is shown."""
        if not any(self):
            return image
        image = image.swapaxes(0, 1) if self.sideways else image
        return np.ascontiguousarray(image[:: -1 if self.mirrored_y else 1, :: -1 if self.mirrored_x else 1])


def _broken_video(path: Path, how: str, error: Exception) -> FrameError:
    reason = getattr(error, "strerror", None) or error
    return FrameError(f"Cannot read the video {path}; it is {how} ({reason}).")


def _at_rate(times: npt.NDArray[Any], fps: float) -> npt.NDArray[Any]:
    """Indices of the frames nearest in time to 0, 1/fps, 2/fps, ..., each once."""
    order = np.argsort(times, kind="stable")
    # To a target between two frames the first one is nearer up to halfway, the last one to all that follow; a frame is
    # taken if there is a target in its stretch. Times are multiples of a container's clock tick: with 1e-3, a target
    # a rounding error beyond a stretch counts as in it.
    ends = np.append((times[order][1:] + times[order][:-1]) / 2, times.max())
    passed = np.floor(ends * fps + 1e-3)  # the last target up to each end
    return np.sort(order[np.diff(passed, prepend=-1) > 0])
