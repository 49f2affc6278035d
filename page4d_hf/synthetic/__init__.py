"""Small moving scenes with exact ground truth: cameras, depth, motion masks, and where every point goes.

`living_room` and the others in `SCENES` make a scene, `render_clip` renders its frames, and
`write_synthetic_capture` writes one to disk as a Nerfies capture. Random scenes for training are drawn and rendered in
batches (`random_scenes`, `batched_raycast`), `page4d_hf.clips.random_clips` makes clips of them.

There are two ray casters because they are asked for different things. `raycast` is a reference: float64, several rays a
pixel, shadows of a lamp that has a size, every surface point traceable through time; a frame takes a second.
`batched_raycast` makes training data: float32, one ray a pixel with filtered textures and soft shadows in closed form,
thousands of frames a minute on a GPU, with more shapes. Neither could take the other's place without its images or its
speed.
"""

from .capture import write_synthetic_capture
from .options import SyntheticOptions
from .raycast import render_clip
from .scene import SCENES, Body, Motion, Scene, living_room

__all__ = [
    "SCENES",
    "Body",
    "Motion",
    "Scene",
    "SyntheticOptions",
    "living_room",
    "render_clip",
    "write_synthetic_capture",
]
