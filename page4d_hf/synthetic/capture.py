"""A synthetic scene on disk: a Nerfies capture, with the exact ground truth beside the format."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from ..errors import Page4DError
from ..geometry import invert_extrinsics
from ..scene.tracks import PointTracks, tracks_bytes
from ..utils.evenly import evenly
from ..utils.folders import whole_folder
from ..utils.ranges import check_ranges
from .raycast import PosedScene, render_clip
from .scene import SCENES, CameraPath, Scene

FOCAL_LENGTH = 0.85  # of the image's longer side: 61 degrees across
WORLD_SCALE = 0.25  # from metres to the capture's world: the room is about as large as the unit cube
FRAME_RATE = 24  # of the video, and what the speeds of the scene are made for
SHARE_OF_MOVING_POINTS = 0.2  # twice their share of the pixels: what moves is what one looks at
RECORD = "synthetic.json"  # how the capture was made
NUM_TRACKS = 600  # of what moves
LEAST_HIDDEN = 1e-3  # of the way from the camera, by which a point lies behind what hides it
MOST_PIXELS = 2**22  # of an image: one takes half a kilobyte of memory while it is rendered
RANGES = {
    "seed": (0, 2**63 - 1),
    "num_frames": (1, 10_000),
    "held_out_every": (1, 10_000),
    "width": (16, 4096),
    "height": (16, 4096),
    "supersampling": (1, 16),
    "num_points": (1, 10_000_000),
}
MOST_RAYS = 10**10  # of a capture: hours on a CPU


def write_synthetic_capture(
    out: str | Path,
    *,
    scene: str = "living-room",
    seed: int = 0,
    num_frames: int = 48,
    held_out_every: int = 3,
    width: int = 160,
    height: int = 120,
    supersampling: int = 3,
    num_points: int = 10_000,
    overwrite: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> Path:
    """Write a small moving scene with exact ground truth as a Nerfies capture.

    The training camera takes all instants, the held-out camera every `held_out_every`-th of them from elsewhere. In
    the folder, beside what `read_nerfies` describes:

    - `rgb/1x`, `camera`, `dataset.json`, `metadata.json`, `scene.json`: ids are `<camera>_<instant>`, with camera 0
      for training and 1 held out. Cameras, depth and points are stored in metres; the capture's own world, after
      `scene.json`, is a quarter of that.
    - `depth/1x/<id>.npy`: `(H, W, 1)` float32 z-depth in metres, at pixel centres.
    - `motion_mask/1x/<id>.png`: 255 where the pixel's centre shows a body that moves during the clip.
    - `points.npy`, `points_rgb.npy`, `points_motion.npy`: points that training frames see, those that move
      (motion 1) where they are at the middle instant.
    - `tracks.npz`: tracks of points on bodies that move, through the training frames, as `scene.read_tracks` has them;
      `paths`, in metres, are known while a point is hidden too.
    - `video.mp4`: what the training camera sees.
    - `synthetic.json`: the options.

    Args:
        out: the folder to write; it must not exist yet, or be empty.
        scene: one of `SCENES`.
        seed: draws colours, textures, sides, speeds and phases. The same seed and options give the same bytes.
        num_frames: instants, and training frames.
        held_out_every: how many instants lie between two frames of the held-out camera.
        width: of the images, in pixels.
        height: of the images, in pixels.
        supersampling: a pixel's colour is the mean of this many by this many rays.
        num_points: how many seed points.
        overwrite: replace a folder that page4d wrote, see `whole_folder`.
        progress: told (stage, frames done, frames in all).

    Returns:
        The folder.
    """
    options = {name: value for name, value in locals().items() if name in RANGES}
    check_ranges(options, RANGES, whole=True)
    if width * height > MOST_PIXELS:
        raise Page4DError(f"An image may have {MOST_PIXELS:,} pixels, and --width by --height is {width * height:,}.")
    if scene not in SCENES:
        raise Page4DError(f"--scene must be one of {', '.join(SCENES)}, got {scene!r}.")
    out = Path(out)
    room = SCENES[scene](seed)
    instants = range(num_frames)
    held_out = instants[::held_out_every]
    frames = [(0, room.camera, instant) for instant in instants]
    frames += [(1, room.held_out_camera, instant) for instant in held_out]
    rays = len(frames) * width * height * supersampling**2
    if rays > MOST_RAYS:
        raise Page4DError(
            f"{len(frames):,} frames (held-out ones among them) of {width} x {height} pixels with {supersampling**2} "
            f"rays each take {rays:.1e} rays, and {MOST_RAYS:.0e} is the limit; make fewer or smaller ones."
        )
    focal = FOCAL_LENGTH * max(width, height)
    intrinsics = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]], dtype=torch.float64)
    points = _SeedPoints(room, num_points, num_frames, seed)

    with _one_thread(), whole_folder(out, overwrite=overwrite) as folder:
        for part in ("rgb/1x", "depth/1x", "motion_mask/1x", "camera"):
            (folder / part).mkdir(parents=True)
        nearest, farthest = np.inf, 0.0
        with H264Video(folder / "video.mp4", width, height) as video:
            for done, (camera, path, instant) in enumerate(frames):
                if progress is not None:
                    progress("rendering", done, len(frames))
                frame_id = _frame_id(camera, instant)
                times = torch.tensor([instant / max(num_frames - 1, 1)], dtype=torch.float64)
                extrinsics = path.extrinsics(times)
                clip = render_clip(
                    room, extrinsics, intrinsics[None], times, (height, width), supersampling=supersampling
                )
                image = (clip["images"][0] * 255).round().to(torch.uint8)
                depth = clip["depth"][0].to(torch.float32).numpy()
                mask = clip["motion_mask"][0].to(torch.uint8).numpy() * 255
                Image.fromarray(image.numpy()).save(folder / "rgb" / "1x" / f"{frame_id}.png")
                np.save(folder / "depth" / "1x" / f"{frame_id}.npy", depth[..., None])
                Image.fromarray(mask).save(folder / "motion_mask" / "1x" / f"{frame_id}.png")
                _write_json(folder / "camera" / f"{frame_id}.json", _camera(extrinsics[0], focal, width, height))
                nearest, farthest = min(nearest, float(depth.min())), max(farthest, float(depth.max()))
                if camera == 0:
                    video.add(image.numpy())
                    points.add(clip, image)
        if progress is not None:
            progress("rendering", len(frames), len(frames))

        points.write(folder)
        train_ids = [_frame_id(0, instant) for instant in instants]
        if (tracks := points.tracks(room.camera, intrinsics, (height, width))) is not None:
            (folder / "tracks.npz").write_bytes(tracks_bytes(tracks, train_ids))
        val_ids = [_frame_id(1, instant) for instant in held_out]
        counts = {"count": len(frames), "num_exemplars": len(train_ids)}
        ids = {"ids": train_ids + val_ids, "train_ids": train_ids, "val_ids": val_ids}
        _write_json(folder / "dataset.json", counts | ids)
        metadata = {
            _frame_id(camera, instant): {"warp_id": instant, "appearance_id": instant, "camera_id": camera}
            for camera, _, instant in frames
        }
        _write_json(folder / "metadata.json", metadata)
        bounds = {"near": 0.9 * nearest * WORLD_SCALE, "far": 1.1 * farthest * WORLD_SCALE}
        world = {"scale": WORLD_SCALE, "center": room.room_center.tolist()}
        _write_json(folder / "scene.json", world | bounds)
        _write_json(folder / RECORD, {"scene": scene, "unit": "metres", **options})
    return out


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let PyTorch use one thread: frames are too small to share, and how they are shared shows in the last bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _frame_id(camera: int, instant: int) -> str:
    return f"{camera}_{instant:05d}"


def _camera(extrinsics: Tensor, focal: float, width: int, height: int) -> dict[str, Any]:
    """A camera as Nerfies stores it, of world-to-camera extrinsics `(3, 4)`."""
    return {
        "orientation": extrinsics[:, :3].tolist(),
        "position": invert_extrinsics(extrinsics)[:, 3].tolist(),
        "focal_length": focal,
        "principal_point": [width / 2, height / 2],
        "skew": 0.0,
        "pixel_aspect_ratio": 1.0,
        "radial_distortion": [0.0, 0.0, 0.0],
        "tangential_distortion": [0.0, 0.0],
        "image_size": [width, height],
    }


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


class _SeedPoints:
    """Points as structure from motion would find them: of what the frames see, and with the colours they see."""

    def __init__(self, scene: Scene, count: int, num_frames: int, seed: int) -> None:
        self.scene = scene
        self.times = torch.arange(num_frames, dtype=torch.float64) / max(num_frames - 1, 1)
        self.quotas = np.diff(np.linspace(0, count, num_frames + 1).round().astype(int)).tolist()  # of each frame
        self.middle = torch.tensor([(num_frames // 2) / max(num_frames - 1, 1)], dtype=torch.float64)
        self.generator = torch.Generator().manual_seed(seed)
        self.parts: list[tuple[Tensor, Tensor, Tensor]] = []
        self.on_bodies: list[tuple[Tensor, Tensor]] = []  # those that move: number of the body, place on it

    def add(self, clip: dict[str, Tensor], image: Tensor) -> None:
        """Take points at random pixels of a frame, of which `clip` is what `render_clip` gives."""
        quota = self.quotas[len(self.parts)]
        moving = clip["motion_mask"].flatten()
        # An empty kind has no pixel for its share to be divided among.
        shares = (1 - SHARE_OF_MOVING_POINTS) / (~moving).sum(), SHARE_OF_MOVING_POINTS / moving.sum()
        weight = torch.where(moving, shares[1], shares[0]).double()
        # Pixels may repeat, which matters only where more points are asked for than there are pixels.
        chosen = torch.searchsorted(
            weight.cumsum(0) / weight.sum(), torch.rand(quota, generator=self.generator, dtype=torch.float64)
        ).clamp_max(len(weight) - 1)
        body, position = clip["body"].flatten()[chosen], clip["position"].flatten(0, 2)[chosen]
        positions = self.scene.world_points(body, position, self.middle)[0]
        self.parts.append((positions, image.flatten(0, 1)[chosen], moving[chosen]))
        self.on_bodies.append((body[moving[chosen]], position[moving[chosen]]))

    def tracks(self, camera: CameraPath, intrinsics: Tensor, image_size: tuple[int, int]) -> PointTracks | None:
        """At most `NUM_TRACKS` of the points that move, seen by a camera; None where nothing moves."""
        body, position = (torch.cat(column) for column in zip(*self.on_bodies, strict=True))
        if len(body) == 0:
            return None
        chosen = torch.from_numpy(evenly(len(body), NUM_TRACKS))
        body, position = body[chosen], position[chosen]
        extrinsics = camera.extrinsics(self.times)
        paths = self.scene.world_points(body, position, self.times)  # [S, K, 3]
        eye = invert_extrinsics(extrinsics)[:, :, 3]
        in_camera = paths @ extrinsics[:, :, :3].transpose(-1, -2) + extrinsics[:, None, :, 3]
        in_image = in_camera @ intrinsics.T
        xy = in_image[..., :2] / in_image[..., 2:]
        # A ray to each point, one of its own length long, ends there unless something is in its way.
        hits = PosedScene(self.scene, self.times).cast(eye, (paths - eye[:, None]).movedim(-1, 0))
        size = xy.new_tensor(image_size).flip(0)
        visible = (hits.distance > 1 - LEAST_HIDDEN) & (in_camera[..., 2] > 0) & ((xy >= 0) & (xy <= size)).all(-1)
        return PointTracks(
            xy.movedim(0, 1).numpy().astype(np.float32),
            visible.T.numpy(),
            np.full((len(body), 3), np.nan, np.float32),
            paths.movedim(0, 1).numpy().astype(np.float32),
        )

    def write(self, folder: Path) -> None:
        """Write points, colours and motion."""
        positions, colors, moving = (torch.cat(column) for column in zip(*self.parts, strict=True))
        np.save(folder / "points.npy", positions.to(torch.float32).numpy())
        np.save(folder / "points_rgb.npy", colors.numpy())
        np.save(folder / "points_motion.npy", moving.to(torch.float32).numpy())


class H264Video:
    """H.264 in MP4 with colours by BT.601, the same bytes for the same frames."""

    def __init__(self, path: Path, width: int, height: int) -> None:
        import av  # only here: everything else works where no video can be written
        from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

        # Bit-exact: no encoder's version in the container. One thread: no rate control that depends on timing. No
        # macroblock tree: x264 165 makes other files of the same frames with it, from run to run.
        self.container = av.open(str(path), "w", container_options={"fflags": "+bitexact"})
        self.stream = self.container.add_stream("libx264", rate=Fraction(FRAME_RATE))
        self.stream.width, self.stream.height = width, height
        even = width % 2 == 0 and height % 2 == 0
        self.stream.pix_fmt = "yuv420p" if even else "yuv444p"  # the former, which all players know, halves the sides
        self.stream.options = {"crf": "14", "threads": "1", "x264-params": "mbtree=0"}
        self.colors = {"dst_colorspace": Colorspace.ITU601, "dst_color_range": ColorRange.MPEG}
        # Said in the file: readers guess otherwise, and take large images for BT.709.
        context = self.stream.codec_context
        context.colorspace, context.color_range = Colorspace.ITU601, ColorRange.MPEG
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709

    def __enter__(self) -> H264Video:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self.container.mux(self.stream.encode(None))
        finally:
            self.container.close()

    def add(self, image: npt.NDArray[Any]) -> None:
        """Append a frame, `(H, W, 3)` uint8."""
        import av

        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        self.container.mux(self.stream.encode(frame.reformat(format=self.stream.pix_fmt, **self.colors)))
