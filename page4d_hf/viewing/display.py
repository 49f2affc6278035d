"""Which points are shown, and in which colours: the same for the browser and for pictures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from ..errors import Page4DError
from ..scene.drawing import colored, inverse_depth, range_of
from ..scene.folder import MOVES
from .viewed_scene import Cloud, Maps, ViewedScene

Color = Literal["image", "depth", "confidence", "motion", "time"]
Times = Literal["one", "all", "static"]
Moving = Literal["all", "static", "moving"]

TRACK = (230, 0, 150)  # of tracks


@dataclass
class Display:
    """What the user asked to see."""

    color: Color = "image"
    times: Times = "one"  # points of one time, of all times, or of one time with the static ones of all times
    moving: Moving = "all"
    moves_from: float = MOVES  # motion from which a point counts as moving
    least_confident: float = 20.0  # percentage of all points, the least confident, that are not shown
    tracks: bool = True  # whether tracks of what moves are drawn, up to the time that is shown


class Palette:
    """Colours and thresholds of a scene, by what all its points hold together."""

    def __init__(self, scene: ViewedScene) -> None:
        everything = scene.everything
        self.scene = scene
        self.confidence = np.sort(everything.confidence[np.isfinite(everything.confidence)])
        self.inverse_depth = range_of(inverse_depth(everything.depth))
        self.has_motion = bool(np.isfinite(everything.motion).any())

    def colors(self) -> list[Color]:
        """What points of this scene can be coloured by."""
        known: dict[Color, bool] = {
            "image": True,
            "depth": bool(np.isfinite(self.inverse_depth).all()),
            "confidence": len(self.confidence) > 0,
            "motion": self.has_motion,
            "time": len(self.scene.instants) > 1,
        }
        return [color for color, is_known in known.items() if is_known]

    def check(self, display: Display) -> None:
        """Refuse to show what the scene does not hold."""
        if display.color not in self.colors():
            raise Page4DError(
                f"{self.scene.name} cannot be coloured by {display.color}; it has {', '.join(self.colors())}."
            )
        if (display.times == "static" or display.moving != "all") and not self.has_motion:
            raise Page4DError(f"{self.scene.name} does not say what moves; show the points of one time or of all.")

    def shown(self, display: Display, instant: int) -> Cloud:
        """The points to show at an instant, in their colours."""
        scene = self.scene
        if display.times == "one":
            parts = [self.part(display, instant)]
        elif display.times == "all":
            parts = [self.part(display, k) for k in range(len(scene.clouds))]
        else:
            parts = [self.part(display, k, "static") for k in range(len(scene.clouds))]
            parts.append(self.part(display, instant, "moving"))
        return Cloud.joined([*parts, self.part(display, None)])

    def part(self, display: Display, instant: int | None, moving: Moving = "all") -> Cloud:
        """Points of an instant, or of none, that pass the thresholds, in their colours.

        Args:
            display: what to show.
            instant: its place among the scene's; None for the points that are of no time.
            moving: of these, all, the static or the moving ones.
        """
        cloud = self.scene.timeless if instant is None else self.scene.clouds[instant]
        kept = np.ones(len(cloud), bool)
        if len(self.confidence) and display.least_confident > 0:
            place = min(int(display.least_confident / 100 * len(self.confidence)), len(self.confidence) - 1)
            kept &= ~(cloud.confidence < self.confidence[place])  # what is not known is shown
        for wanted in (moving, display.moving):
            if wanted != "all":
                moves = cloud.motion >= display.moves_from
                kept &= moves if wanted == "moving" else ~moves
        cloud = cloud.take(np.flatnonzero(kept))
        return replace(cloud, colors=self._colors(display.color, cloud, instant))

    def _colors(self, color: Color, cloud: Cloud, instant: int | None) -> npt.NDArray[Any]:
        if color == "depth":
            return colored(inverse_depth(cloud.depth), *self.inverse_depth)
        if color == "confidence":
            return colored(cloud.confidence, *range_of(self.confidence), cv2.COLORMAP_VIRIDIS)
        if color == "motion":
            return colored(cloud.motion, 0, 1, cv2.COLORMAP_INFERNO)
        if color == "time":
            time = np.nan if instant is None else self.scene.instants[instant]
            return colored(np.full(len(cloud), time), 0, 1)
        return cloud.colors

    def pictures(self, maps: Maps) -> dict[str, npt.NDArray[Any]]:
        """Depth and motion of a frame as images, as far as they are known."""
        found = {}
        if maps.depth is not None:
            inverse = inverse_depth(maps.depth)
            own = self.inverse_depth if np.isfinite(self.inverse_depth).all() else range_of(inverse)
            found["depth"] = colored(inverse, *own)
        if maps.motion is not None:
            found["motion"] = colored(maps.motion, 0, 1, cv2.COLORMAP_INFERNO)
        return found
