"""What random scenes are made of."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import Page4DError
from ..utils.ranges import check_ranges


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
        shares = ("still_share", "moving_share", "light", "lifelike", "photography")
        factors = {"body_motion": (0, 3), "deformation": (0, 2), "camera_motion": (0, 3), "hand_held": (0, 5)}
        pairs = {"bodies": (1, 64), "pixel_aspect": (0.5, 2), "field_of_view": (5, 140)}
        check_ranges(self, {**dict.fromkeys(shares, (0, 1)), **factors, **pairs}, prefix="The option ")
        for name in pairs:
            least, most = getattr(self, name)
            if least > most:
                raise Page4DError(f"The option {name} must be two numbers, the lesser first, got {least} and {most}.")
