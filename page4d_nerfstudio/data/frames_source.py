"""A video or plain images, which PAGE-4D reconstructs first."""

from __future__ import annotations

from pathlib import Path

from page4d_hf.frames import VIDEO_SUFFIXES, Frames, frame_files, read_frames

from ..console import note
from .limits import refuse_a_single_frame
from .motion_tracks import TRACK_SOURCES
from .posed_frames import PosedFrames
from .reconstruction_cache import Reconstruct, ReconstructionOptions, digest_files
from .scene_source import SceneOptions, frames_of_scene


def frames_of_images(
    data: Path,
    fps: float | None,
    max_frames: int | None,
    scene_options: SceneOptions,
    reconstruct: Reconstruct,
    reconstruction: ReconstructionOptions,
) -> PosedFrames:
    """The frames of a video, a folder of images or a glob, with PAGE-4D's cameras; `reconstruct` has the options
    `reconstruction`."""
    files = frame_files(data)
    if files[0].suffix.lower() not in VIDEO_SUFFIXES:
        refuse_a_single_frame(len(files), data)
    tracks = None if scene_options.tracks in TRACK_SOURCES else scene_options.tracks
    digest = digest_files(files, [path.name for path in files], fps, max_frames, tracks is not None)

    def read() -> Frames:
        from page4d_hf.reconstruction.cuts import longest_shot  # OpenCV, which a cached reconstruction does without

        frames = read_frames(data, fps=fps, max_frames=max_frames)
        if not reconstruction.of_all_frames(tracks):
            frames, cuts = longest_shot(frames)
            if cuts is not None:
                note(cuts["note"])
        refuse_a_single_frame(len(frames), data)
        return frames

    return frames_of_scene(reconstruct(read, digest), scene_options, with_points=False)
