"""What of frames is shown: masks that a user brings, a folder with an image for each frame, and transparency."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ..captures.image_files import open_image, read_image_mask
from ..errors import Page4DError
from ..frames import VIDEO_SUFFIXES, Frames, frame_files
from .lenses import UndistortedFrames


class FrameMasks(Sequence[npt.NDArray[Any]]):
    """A mask `(H, W)` bool of each frame, made when it is asked for."""

    def hides(self, maps: Sequence[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        """Which pixels of maps `(h, w)`, one of each frame, are 0 in the mask over half of their area: bool."""
        return [share < 0.5 for share in self.over_maps(maps)]

    def over_maps(self, maps: Sequence[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        """The share of each pixel of maps `(h, w)`, one of each frame, that the mask covers: float32 in [0, 1]."""
        return [
            cv2.resize(mask.astype(np.float32), each.shape[1::-1], interpolation=cv2.INTER_AREA)
            for mask, each in zip(self, maps, strict=True)
        ]


class MaskFolder(FrameMasks):
    """The masks of some frames, `(H, W)` bool each, true where an image is not 0; decoded when they are asked for.

    Args:
        folder: holds an image for each of the frames, of the frame's size. Files are matched by name (`a.png` or
            COLMAP's `a.jpg.png` to the frame `a.jpg`) where all frames have one, and else by their natural order.
        frames: whose masks they are. Those of `UndistortedFrames` are of the frames that were read, and undistorted.
    """

    def __init__(self, folder: str | os.PathLike[str], frames: Frames):
        if not os.path.isdir(folder):
            raise Page4DError(
                f"Expected a folder of masks, one for each frame; there is no folder {os.fspath(folder)!r}."
            )
        files = frame_files(folder)
        by_name = {file.name: file for file in files} | {file.stem: file for file in files}
        named = [by_name.get(name, by_name.get(Path(name).stem)) for name in frames.names]
        self.files = [file for file in named if file is not None]
        if len(self.files) < len(frames):
            self.files = files
        if len(self.files) != len(frames) or self.files[0].suffix.lower() in VIDEO_SUFFIXES:
            raise Page4DError(
                f"Expected {len(frames)} masks in {os.fspath(folder)}, one for each frame, got {len(files)}; give as "
                "many, or name them as the frames are."
            )
        for file, (height, width) in zip(self.files, frames.sizes, strict=True):
            with open_image(file) as image:
                if image.size != (width, height):
                    raise Page4DError(
                        f"Expected masks of the frames' size, {width}x{height}, got {image.width}x{image.height} in "
                        f"{file}; resize it, by the nearest pixel."
                    )

        self.lenses = frames.lenses if isinstance(frames, UndistortedFrames) else None

    def of(self, frames: UndistortedFrames) -> MaskFolder:
        """The same masks as the undistorted frames have them."""
        return MaskFolder(self.files[0].parent, frames)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> npt.NDArray[Any]:  # type: ignore[override]  # no slices
        mask = read_image_mask(self.files[index])
        return mask if self.lenses is None else self.lenses.mask(mask, index)


class ShownPixels(FrameMasks):
    """Where frames have something to see, `(H, W)` bool each: they are not fully transparent, and no mask hides them.

    Args:
        frames: some of which have transparency.
        masks: the user's, if any.
    """

    def __init__(self, frames: Frames, masks: MaskFolder | None):
        self.images, self.masks = frames.images, masks

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> npt.NDArray[Any]:  # type: ignore[override]  # no slices
        image = self.images[index]
        shown = image[..., 3] > 0 if image.shape[2] == 4 else np.ones(image.shape[:2], bool)
        return shown if self.masks is None else shown & self.masks[index]
