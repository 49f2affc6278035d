"""The dataparser `page4d-data`: scene folders, captures, videos and images in nerfstudio's terms."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import numpy as np
import numpy.typing as npt
import torch
import tyro
from nerfstudio.cameras.camera_utils import auto_orient_and_center_poses
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.data.dataparsers.base_dataparser import DataParser, DataParserConfig, DataparserOutputs
from nerfstudio.data.scene_box import SceneBox
from torch import Tensor

from page4d_hf.captures.layouts.nerfstudio import capture_of_scene
from page4d_hf.captures.sources import find_source
from page4d_hf.errors import Page4DError
from page4d_hf.geometry import camera_to_world_opengl
from page4d_hf.reconstruction.motion import MotionKind
from page4d_hf.scene.folder import read_scene
from page4d_hf.utils.ranges import ENDLESS, FINITE, check_ranges

from ..console import input_errors_end_the_command
from ..gaussians.scaffold import TRACK_TIMES_KEY, TRACKED_KEY, TRACKS_KEY
from .capture_source import CaptureOptions, frames_of_capture, open_capture
from .dataset import IMAGES_KEY, OTHER_IMAGES, OTHER_MASKS, REFUSAL_KEY, RefusesOtherDatasets, SplitImages
from .frames_source import frames_of_images
from .limits import in_reach, refuse_far_cameras
from .motion_tracks import TRACK_SOURCES, motion_paths, tracks_of_user
from .posed_frames import PosedFrames
from .reconstruction_cache import ReconstructionOptions, reconstruct_once
from .scene_source import SceneOptions, frames_of_scene
from .starting_points import SeedOptions

# The cameras' extent counts as at least this share of the distance to what they see: a camera that stands still has
# none, and the scene would be blown up without limit.
LEAST_EXTENT_TO_DISTANCE = 0.1

CAMERAS = ("auto", "capture", "page4d")  # values of --cameras that are no file

# Least and most of options that are numbers.
RANGES = {
    "downscale_factor": (1, FINITE),
    "max_points": (1, ENDLESS),
    "num_random_points": (1, 10**7),
    "eval_interval": (0, ENDLESS),
    "max_frames": (1, ENDLESS),
    "window": (4, ENDLESS),
    "overlap": (2, ENDLESS),
    "scale_factor": (1e-9, 1e9),
    "scene_scale": (1e-9, 1e9),
}


@dataclass
class Page4DDataParserConfig(DataParserConfig):
    """Moving scenes: a scene folder of `page4d reconstruct`, a capture (Nerfies, HyperNeRF, DyCheck, D-NeRF, NVIDIA
    Dynamic Scenes, nerfstudio's transforms.json, COLMAP, TUM or Bonn), a video, or images."""

    _target: type = field(default_factory=lambda: Page4DDataParser)
    """target class to instantiate"""
    data: Path = Path()
    """Scene folder, capture, video, folder of images or quoted glob."""
    layout: Literal[
        "auto", "scene", "nerfies", "dycheck", "dnerf", "nvidia", "nerfstudio", "colmap", "tum", "bonn", "frames"
    ] = "auto"
    """Kind of data. auto detects it. frames: a video or images."""
    cameras: str = "auto"
    """Source of the cameras. capture: the capture's own. page4d: PAGE-4D's (needs --model). auto: the capture's, where
    there are any. Times and held-out frames always come from the capture. For a video or images also a file of known
    cameras, in whose world PAGE-4D reconstructs them: transforms.json, COLMAP model or TUM trajectory."""
    held_out_cameras: Literal["page4d", "capture"] = "page4d"
    """Source of the held-out cameras, with --cameras page4d on a capture. page4d: PAGE-4D sees the held-out frames too.
    capture: it does not; the capture's cameras are aligned with PAGE-4D's world by the Sim(3) between the training
    cameras, with their focal lengths."""
    points: Literal["auto", "page4d", "capture", "depth", "tracks", "random"] = "auto"
    """Where Gaussians start: at PAGE-4D's depth, the capture's points (its depth if it has none), the capture's depth,
    corners that are tracked through the frames and triangulated by their cameras, or random points. auto: the capture's
    with its own cameras (where it has none PAGE-4D's with --model, and tracks without), PAGE-4D's otherwise."""
    model: str | None = None
    """PAGE-4D's weights, a folder or a Hub name. Required for cameras or points from PAGE-4D, unless data is a scene
    folder. `page4d pull` writes one."""
    use_mask: bool = True
    """Whether to use PAGE-4D's motion mask. Without it the network works like VGGT: it attends to moving and static
    regions alike, and predicts no motion."""
    reconstruction: Path | None = None
    """Scene folder that `page4d reconstruct` made of the capture's images, used in place of --model."""
    downscale_factor: Annotated[int | None, tyro.conf.arg(aliases=("--downscale",))] = None
    """Integer factor by which to downscale images. By default the smallest power of 2 that brings the longest side to
    1600 pixels or less."""
    max_points: int = 100_000
    """Maximum number of seed points; more are thinned evenly."""
    num_random_points: int = 50_000
    """Number of seed points with --points random."""
    eval_interval: int = 8
    """Hold out every this many frames for evaluation, where the data have no split. 0 holds out none."""
    held_out: Literal["auto", "val", "test"] = "auto"
    """Split of a capture to evaluate on. auto: the one used for published figures, which is val; test for D-NeRF (val
    for its scene lego, whose test views show another scene) and where transforms.json has test_filenames."""
    orientation_method: Literal["pca", "up", "vertical", "none"] = "up"
    """How to rotate the world. up: the mean up direction of the cameras becomes z, which is up in the viewer. none:
    keep the axes of the data."""
    center_method: Literal["poses", "focus", "none"] = "poses"
    """Where to place the origin: at the mean camera position, at the point the cameras look at, or unchanged."""
    auto_scale_poses: bool = True
    """Whether to scale the world so that the cameras lie within +/- 1."""
    scale_factor: float = 1.0
    """Additional factor by which to scale the world."""
    scene_scale: float = 1.0
    """Half the side of the scene box, which the viewer shows and exports are cropped to."""
    fps: float | None = None
    """Frames per second to take from a video. All frames by default."""
    max_frames: int | None = None
    """Maximum number of frames to take from a video or images, spread evenly. All by default."""
    window: int = 100
    """Frames that go through PAGE-4D at once, which bounds its memory. Longer clips go in windows, each aligned to the
    last."""
    overlap: int | None = None
    """Least number of frames that windows share. By default a quarter of a window."""
    resolution: int | None = None
    """Width in pixels of PAGE-4D's input. By default that of the model's image processor, 518 for the published
    weights."""
    refine: Literal["auto", "off"] = "auto"
    """auto: adjust PAGE-4D's cameras to point tracks, and its depth to them, as far as the frames show them. off: take
    the network's."""
    motion: str | None = None
    """What tells PAGE-4D's points what moves. head: its mask head. geometry: optical flow that contradicts a static
    scene. both. off. For a video or images also a folder of masks, 0 where nothing moves and non-zero where something
    does, the opposite of page4d reconstruct --write-masks. By default both, or geometry where the model has no mask
    head."""
    intrinsics: str | None = None
    """Known intrinsics of a video or images: fx,fy,cx,cy in pixels, a transforms.json or a COLMAP model."""
    distortion: Literal["none", "radial"] = "none"
    """radial: find the lens's radial distortion of a video or images, and undistort them."""
    masks: Path | None = None
    """Folder of masks of a video or images, 0 where pixels are to be left out of reconstruction and training."""
    metric_depth: str | None = None
    """Metric depth model of transformers that scales the reconstruction of a video or images to metres."""
    confidence_percentile: float = 20.0
    """Percentage of PAGE-4D's least confident depth that gives no seed points."""
    tracks: str = "auto"
    """Tracks of what moves, which the deformation starts from, where they predict each other. auto: those of the
    cameras' source, where it has some. capture: the capture's own. page4d: those of the reconstruction, by optical flow
    and PAGE-4D's depth. off: none. Else an .npz with tracks [K, S, 2], in pixels of the images that are trained on, and
    visible [K, S], of CoTracker, TAPIR or the like, which the data's depth lifts."""
    cache_dir: Path | None = None
    """Where reconstructions and triangulated points are cached. By default $PAGE4D_CACHE, else ~/.cache/page4d."""

    def check(self) -> None:
        """Raises Page4DError where an option is out of range, whatever the data are."""
        check_ranges(self, RANGES)
        # `ns-render dataset --downscale-factor` hands over a float.
        if self.downscale_factor is not None and self.downscale_factor != int(self.downscale_factor):
            raise Page4DError(f"--downscale-factor must be a whole number, got {self.downscale_factor}.")
        if not 0 <= self.confidence_percentile < 100:
            raise Page4DError(
                f"--confidence-percentile must be from 0 to below 100, got {self.confidence_percentile:g}."
            )
        if self.cameras not in CAMERAS and not Path(self.cameras).exists():
            raise Page4DError(
                f"--cameras must be {', '.join(CAMERAS)} or a file of cameras, got {self.cameras!r:.200}, and there is "
                "no such file."
            )
        if self.motion is not None and not self.use_mask:
            raise Page4DError("--use-mask False leaves motion out: leave out --motion.")
        if self.reconstruction is not None and not self.use_mask:
            raise Page4DError(
                "--use-mask False says how --model is run, and --reconstruction has been made: name one that was made "
                "so."
            )
        if self.eval_interval == 1:
            raise Page4DError("--eval-interval 1 would hold out every frame; take 2 or more, or 0 to hold out none.")


def read_source(config: Page4DDataParserConfig) -> PosedFrames:
    """Read the data that a configuration names: in one world with OpenCV axes, before it becomes nerfstudio's."""
    config.check()
    frames = _read(config)
    refuse_far_cameras(frames.extrinsics, frames.intrinsics, config.data)  # PAGE-4D's, or moved by a Sim(3)
    if config.tracks == "page4d" and frames.tracks is None:
        raise Page4DError(
            "--tracks page4d needs a reconstruction with tracks of what moves: make one with a motion mask and "
            "refined cameras (`page4d reconstruct --refine auto`)."
        )
    if config.tracks not in TRACK_SOURCES:
        frames.tracks = tracks_of_user(Path(config.tracks), frames)
    reached = in_reach(frames.points.positions, config.data)
    if not reached.all():
        frames.points = frames.points.take(reached)
    return frames


def _read(config: Page4DDataParserConfig) -> PosedFrames:
    """Find out what the data are, and hand each kind of source the options that it has."""
    data, source = config.data, find_source(config.data, config.layout)
    factor = None if config.downscale_factor is None else int(config.downscale_factor)
    seeds = _options(SeedOptions, config)
    scene_options = _options(SceneOptions, config, seeds=seeds, downscale_factor=factor)
    capture_options = _options(
        CaptureOptions, config, seeds=seeds, downscale_factor=factor, has_model=bool(config.model)
    )
    camera_file = None if config.cameras in CAMERAS else Path(config.cameras)
    reconstruction = _options(ReconstructionOptions, config, cameras=camera_file)
    reconstruct = partial(
        reconstruct_once,
        model=config.model,
        options=reconstruction,
        use_mask=config.use_mask,
        cache_dir=config.cache_dir,
    )
    if source.kind == "capture":
        _refuse_what_frames_take(config, "a capture has frames, cameras and masks of its own")
        return frames_of_capture(open_capture(data, source.layout, factor), capture_options, reconstruct)
    if source.kind == "frames":
        _refuse_the_captures_own(config, "a video or plain images have no cameras of their own")
        return frames_of_images(data, config.fps, config.max_frames, scene_options, reconstruct, reconstruction)
    scene = read_scene(data)
    _refuse_what_frames_take(config, "a scene folder has been reconstructed, or has cameras of its own")
    if not scene.info:  # of another program
        return frames_of_capture(capture_of_scene(scene), capture_options, reconstruct)
    _refuse_the_captures_own(config, "the cameras of a scene folder are PAGE-4D's")
    if not config.use_mask:
        raise Page4DError(f"--use-mask False says how --model is run, and {data} has been reconstructed; leave it out.")
    return frames_of_scene(scene, scene_options)


Options = TypeVar("Options", SeedOptions, SceneOptions, CaptureOptions, ReconstructionOptions)


def _options(kind: type[Options], config: Page4DDataParserConfig, **others: Any) -> Options:
    """Options of a kind: `others`, and those that the configuration has by the same names."""
    names = {each.name for each in fields(kind)} - others.keys()
    return kind(**{name: getattr(config, name) for name in names}, **others)


def _refuse_what_frames_take(config: Page4DDataParserConfig, why: str) -> None:
    given = {
        "fps": config.fps is not None,
        "max-frames": config.max_frames is not None,
        "cameras": config.cameras not in CAMERAS,
        "intrinsics": config.intrinsics is not None,
        "distortion": config.distortion != "none",
        "masks": config.masks is not None,
        "metric-depth": config.metric_depth is not None,
        "motion": config.motion is not None and config.motion not in get_args(MotionKind),
    }
    for option in (name for name, is_given in given.items() if is_given):
        raise Page4DError(f"--{option} as given is for a video or images: {why}. Leave it out.")


def _refuse_the_captures_own(config: Page4DDataParserConfig, whose_cameras: str) -> None:
    reasons = {
        "cameras": whose_cameras,
        "held-out-cameras": whose_cameras,
        "points": "only a capture has points of its own",
        "tracks": "only a capture has tracks of its own",
    }
    for option, reason in reasons.items():
        if getattr(config, option.replace("-", "_")) == "capture":
            raise Page4DError(f"--{option} capture does not fit the data: {reason}; leave it out.")
    if config.held_out != "auto":
        raise Page4DError(
            f"--held-out {config.held_out} does not fit the data: only a capture has splits; take --eval-interval."
        )
    if config.reconstruction is not None:
        raise Page4DError(
            "--reconstruction does not fit the data: it stands in for --model on a capture; leave it out, or name the "
            "reconstruction as --data."
        )


@dataclass
class Page4DDataParser(DataParser):
    """Reads moving scenes; see `Page4DDataParserConfig`.

    Outputs have pinhole cameras with times in [0, 1] and no distortion. Their metadata are "points3D_xyz" `(M, 3)`
    float32, "points3D_rgb" `(M, 3)` uint8 and, where known, "points3D_times" `(M,)` float32 in [0, 1] and
    "points3D_motion" `(M,)` float32 from 0, static, to 1, moving; with tracks "tracks_xyz" `(K, T, 3)` float32, paths
    of moving points, and "tracks_times" `(T,)` in [0, 1], of the training split; "background_color" `(3,)` in [0, 1]
    where all images are laid over one; and what `Page4DDataset` reads images with. Only that dataset undistorts and
    scales images, ignores alpha that is no transparency, and knows images with masks beside images without: where this
    is needed, any other dataset is refused.
    """

    config: Page4DDataParserConfig
    includes_time: bool = True

    @cached_property
    def _frames(self) -> PosedFrames:
        # nerfstudio asks for every split; the data are read once.
        return read_source(self.config)

    def _generate_dataparser_outputs(self, split: str = "train", **kwargs: Any) -> DataparserOutputs:
        """Ends the command where the data are not as they should be: this is nerfstudio's side of the border."""
        with input_errors_end_the_command():
            frames = self._frames
        indices = frames.train if split == "train" else frames.evaluation
        transform, scale = self._normalisation
        poses = apply_transform(transform, camera_to_world_opengl(torch.from_numpy(frames.extrinsics)))
        poses[:, :, 3] *= scale

        intrinsics = torch.from_numpy(frames.intrinsics[indices]).float()
        sizes = torch.from_numpy(frames.images.image_sizes[indices].astype(np.int64))
        cameras = Cameras(
            camera_to_worlds=poses[indices].float(),
            fx=intrinsics[:, 0, 0],
            fy=intrinsics[:, 1, 1],
            cx=intrinsics[:, 0, 2],
            cy=intrinsics[:, 1, 2],
            width=sizes[:, 0],
            height=sizes[:, 1],
            camera_type=CameraType.PERSPECTIVE,
            times=torch.from_numpy(frames.times[indices]).float()[:, None],
        )
        background, masks = self._background(), self._masks(indices)
        refusal = OTHER_IMAGES if frames.images.differs_from_files else OTHER_MASKS if None in masks else None
        side = self.config.scene_scale
        return DataparserOutputs(
            image_filenames=[frames.image_paths[i] for i in indices],
            cameras=cameras,
            scene_box=SceneBox(aabb=torch.tensor([[-side] * 3, [side] * 3], dtype=torch.float32)),
            dataparser_transform=transform.float(),
            dataparser_scale=scale,
            # For datasets of others.
            alpha_color=background.get("background_color"),
            mask_filenames=[mask for mask in masks if mask is not None] or None,
            metadata={
                **self._points(),
                **(self._tracks if split == "train" else {}),
                **background,
                IMAGES_KEY: SplitImages(frames.images, indices, frames.depth, scale),
                **({} if refusal is None else {REFUSAL_KEY: RefusesOtherDatasets(refusal)}),
            },
        )

    def _masks(self, indices: npt.NDArray[Any]) -> list[Path | None]:
        """The files that say which pixels of some frames are to be learned from; empty where there are none."""
        paths = self._frames.images.capture.use_paths or []
        masks = [paths[i] for i in indices] if paths else []
        return masks if any(masks) else []

    def _background(self) -> dict[str, Tensor]:
        color = self._frames.images.capture.background
        return {} if color is None else {"background_color": torch.tensor(color) / 255}

    def _points(self) -> dict[str, Tensor]:
        points = self._frames.points
        metadata = {"points3D_xyz": self._placed(points.positions), "points3D_rgb": torch.from_numpy(points.colors)}
        if points.times is not None:
            metadata["points3D_times"] = torch.from_numpy(points.times)
        if points.motion is not None:
            metadata["points3D_motion"] = torch.from_numpy(points.motion)
        return metadata

    @cached_property
    def _tracks(self) -> dict[str, Any]:
        if self._frames.tracks is None:
            return {}
        found = motion_paths(self._frames)
        if found is None:
            return {TRACKED_KEY: True}
        times = torch.from_numpy(found.times).float()
        return {TRACKED_KEY: True, TRACKS_KEY: self._placed(found.positions), TRACK_TIMES_KEY: times}

    def _placed(self, positions: npt.NDArray[Any]) -> Tensor:
        """Positions `(..., 3)` of the data's world in nerfstudio's, float32."""
        transform, scale = self._normalisation
        return ((torch.from_numpy(positions).double() @ transform[:, :3].T + transform[:, 3]) * scale).float()

    @cached_property
    def _normalisation(self) -> tuple[Tensor, float]:
        """The rigid transform `(3, 4)` float64 of the world, and the scale that follows it."""
        poses = camera_to_world_opengl(torch.from_numpy(self._frames.extrinsics))
        # Only the transform: with "pca", the poses that nerfstudio returns beside it may be mirrored.
        bottom = poses.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(len(poses), 1, 4)
        _, transform = auto_orient_and_center_poses(
            torch.cat((poses, bottom), dim=1).float(),
            method=self.config.orientation_method,
            center_method=self.config.center_method,
        )
        transform = transform.double()
        scale = self.config.scale_factor
        if self.config.auto_scale_poses:
            centres = apply_transform(transform, poses)[:, :, 3]
            points = torch.from_numpy(self._frames.points.positions).double() @ transform[:, :3].T + transform[:, 3]
            distance = float((points - centres.mean(dim=0)).norm(dim=-1).median()) if len(points) else 0.0
            scale /= max(float(centres.abs().max()), LEAST_EXTENT_TO_DISTANCE * distance) or 1.0
        return transform, scale


def apply_transform(transform: Tensor, poses: Tensor) -> Tensor:
    """A rigid transform `(3, 4)` of the world, applied to camera-to-world matrices `(N, 3, 4)`."""
    rotation = transform[:, :3]
    return torch.cat((rotation @ poses[:, :, :3], rotation @ poses[:, :, 3:] + transform[:, 3:]), dim=-1)
