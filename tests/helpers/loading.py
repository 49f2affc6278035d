"""Everything that a capture gives, for tests of what damaged files do."""

from page4d_hf.captures import Capture, as_pinhole


def load_frame(capture: Capture, index: int = 0) -> None:
    """Decode all files of a frame."""
    frames = as_pinhole(capture)
    index = min(index, len(frames) - 1)
    for load in (frames.load_image, frames.load_motion_mask, frames.load_depth, frames.load_use, frames.load_covisible):
        load(index)
