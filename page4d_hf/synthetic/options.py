"""What random scenes are made of."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import Page4DError


@dataclass(frozen=True)
class SyntheticOptions:
    """What random scenes are made of. The defaults are for training; a curriculum may begin with still scenes."""

    bodies: tuple[int, int] = (5, 9)
    """Fewest and most bodies in a scene. Two of three are ellipsoids, the rest are boxes."""
    still_share: float = 0.0
    """Share of the scenes in which no body moves, from 0 to 1. With 1, only the camera moves."""
    moving_share: float = 0.4
    """Share of the bodies that move, from 0 to 1, in the scenes that are not still; at least one does."""
    body_motion: float = 1.0
    """How far bodies travel, bounce and turn: a factor. At 1 a body crosses a fifth to a half of the image."""
    deformation: float = 1.0
    """How much bodies stretch and lean: a factor. At 1 half of the moving bodies change their length by 10 to 35 %."""
    camera_motion: float = 1.0
    """How far the camera travels and turns: a factor. At 1 it travels 0.1 to 0.3 of the way to what it looks at; 0.2 is
    a small motion, and 0 leaves the trembling of a hand unless that is switched off too."""
    hand_held: float = 1.0
    """How much the camera trembles: a factor. At 1 by about a centimetre and a degree."""
    field_of_view: tuple[float, float] = (42.0, 85.0)
    """Least and greatest field of view across the image's longer side, in degrees."""
    pixel_aspect: tuple[float, float] = (1.0, 1.0)
    """Least and greatest height of the image's content after scaling, over its width: 4/3 in square images is what a
    4:3 photo looks like when it is squashed to a square."""
    light: float = 1.0
    """Contrast of the light, from 0 (the same from all sides, no shadows) to 1 (lamps and their shadows)."""
    lifelike: float = 0.0
    """Share of the scenes that are laid out like life, from 0 to 1: furnished rooms, halls, desk tops, streets and open
    country with people, in place of rooms with ellipsoids and boxes. `bodies` and `deformation` do not concern them."""
    photography: float = 0.0
    """How much cameras do to images, from 0 (nothing) to 1: exposure, tints, blur, noise, dark corners, JPEG."""

    def __post_init__(self) -> None:
        for name in ("still_share", "moving_share", "light", "lifelike", "photography"):
            if not 0 <= getattr(self, name) <= 1:
                raise Page4DError(f"The option {name} must be from 0 to 1, got {getattr(self, name)}.")
        for name, high in (("body_motion", 3), ("deformation", 2), ("camera_motion", 3), ("hand_held", 5)):
            if not 0 <= getattr(self, name) <= high:
                raise Page4DError(f"The option {name} must be from 0 to {high}, got {getattr(self, name)}.")
        fewest, most = self.bodies
        if not 1 <= fewest <= most <= 64:
            raise Page4DError(
                f"The option bodies must be two numbers from 1 to 64, the lesser first, got {self.bodies}."
            )
        low, wide = self.pixel_aspect
        if not 0.5 <= low <= wide <= 2:
            raise Page4DError(
                f"The option pixel_aspect must be two numbers from 0.5 to 2, the lesser first, got {self.pixel_aspect}."
            )
        least, greatest = self.field_of_view
        if not 5 <= least <= greatest <= 140:
            raise Page4DError(
                f"The option field_of_view must be two angles from 5 to 140 degrees, the lesser first, got "
                f"{self.field_of_view}."
            )
