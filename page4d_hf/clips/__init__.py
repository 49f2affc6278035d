"""Clips for training: runs of frames with cameras, depth and motion, as rows of a Hugging Face data set.

`writing` makes data sets of them from captures and random scenes, `reading` decodes them, and `batches` makes the
micro-batches of a training run. Clips of random scenes are also rendered as they are used (`rendered`).
"""

from .reading import decode_frames, load_clips
from .rendered import SyntheticClips, random_clips
from .schema import ClipFrames, clip_features

__all__ = ["ClipFrames", "SyntheticClips", "clip_features", "decode_frames", "load_clips", "random_clips"]
