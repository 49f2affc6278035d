"""How a network is run on a sequence: part of every protocol, and of every run that changes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Fit = Literal["crop", "squash"]
PointSource = Literal["depth", "world"]


@dataclass(frozen=True)
class Inference:
    """Inference settings; `str()` puts them into words."""

    resolution: int = 518  # width of its input in pixels, a multiple of the patch size
    # "crop": the image processor's mode; "squash": what that gives, stretched to a square, bilinear, no antialias.
    fit: Fit = "crop"
    one_by_one: bool = False  # each frame by itself; else all at once
    points: PointSource | None = None  # point maps: depth lifted by the predicted cameras, or the point head's; or none

    def __str__(self) -> str:
        shape = f"scaled to a width of {self.resolution} pixels, cut to at most that height"
        if self.fit == "squash":
            shape += f", then squashed to {self.resolution}x{self.resolution} (bilinear, no antialias)"
        words = [f"Images {shape}; {'one at a time' if self.one_by_one else 'all frames of a sequence at once'}."]
        if self.points is not None:
            source = "depth lifted by the predicted cameras" if self.points == "depth" else "those of the point head"
            words.append(f"Points are {source}.")
        return " ".join(words)
