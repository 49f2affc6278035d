"""Clips for training: runs of frames with cameras, depth and motion, as rows of a Hugging Face data set."""

from .reading import decode_frames, load_clips
from .schema import ClipFrames, clip_features

__all__ = ["ClipFrames", "clip_features", "decode_frames", "load_clips"]
