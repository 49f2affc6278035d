"""Small moving scenes with exact ground truth: cameras, depth, motion masks, and where every point goes.

`living_room` and its kin in `SCENES` make a scene, `render_clip` renders frames of it to tensors on any device, and
`write_synthetic_capture` writes one to disk as a Nerfies capture. `random_clips` makes clips of ever other
scenes, for training, much faster.
"""

from ..clips.rendered import SyntheticClips, random_clips
from .capture import write_synthetic_capture
from .random_scenes import SyntheticOptions
from .raycast import render_clip
from .scene import SCENES, Body, CameraPath, Motion, Scene, living_room
from .textures import Texture, random_texture

__all__ = [
    "SCENES",
    "Body",
    "CameraPath",
    "Motion",
    "Scene",
    "SyntheticClips",
    "SyntheticOptions",
    "Texture",
    "living_room",
    "random_clips",
    "random_texture",
    "render_clip",
    "write_synthetic_capture",
]
