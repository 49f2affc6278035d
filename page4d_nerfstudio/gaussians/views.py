"""Where and when a capture's images were taken: the time of cameras that have none, and how far apart cameras are."""

from __future__ import annotations

from typing import NamedTuple

import torch
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

# What a model reads in its metadata, written by the training images' dataset: how many different times the images have
# (cameras of a rig share theirs), and how far apart the cameras are, see `cameras_extent`.
INSTANTS_KEY = "instants"
CAMERAS_EXTENT_KEY = "cameras_extent"


class TrainingViews(NamedTuple):
    """The path of the training cameras, in the order of time.

    Nerfstudio's interpolated paths drop times. Such a path mostly follows the capture's own, and then the natural time
    of a camera on it is when the capture came past: the motion plays as it was filmed.
    """

    places: Tensor  # [V, 6]: position in units of the scene's extent, and viewing direction
    times: Tensor  # [V] in [0, 1], ascending
    extent: float
    size_to_center: Tensor  # [2]: (width, height) over the principal point, the median of the views
    focal_to_center: Tensor  # [2]: focal lengths over the principal point, the median of the views

    @classmethod
    def of(cls, cameras: Cameras, extent: float) -> TrainingViews | None:
        """The views of cameras with times; None if they have none. `extent`: radius of the scene, in its unit."""
        if cameras.times is None:
            return None
        times = cameras.times.detach().cpu().float().reshape(-1)
        order = times.argsort(stable=True)
        places = _place(cameras.camera_to_worlds.detach().cpu().float(), extent)
        centers = _pairs(cameras.cx, cameras.cy)
        sizes = (_pairs(cameras.width, cameras.height) / centers).median(dim=0).values
        focals = (_pairs(cameras.fx, cameras.fy) / centers).median(dim=0).values
        return cls(places[order], times[order], extent, sizes, focals)

    def size_of(self, camera: Cameras) -> tuple[int, int]:
        """(width, height) of a camera without a time; the training images', scaled, where nerfstudio has guessed it.

        Its interpolated paths drop the size too, and take twice the principal point for it. They are told from paths
        that give their own size by the training images' focal lengths.
        """
        size, center = _pairs(camera.width, camera.height)[0], _pairs(camera.cx, camera.cy)[0]
        focal = _pairs(camera.fx, camera.fy)[0]
        is_guessed = ((size - 2 * center).abs() < 1).all()
        if is_guessed and torch.allclose(focal / center, self.focal_to_center, rtol=1e-3):
            size = (center * self.size_to_center).round()
        return int(size[0]), int(size[1])

    def time_near(self, camera_to_world: Tensor) -> float:
        """The time of the point closest to a camera [3, 4] on the path, which joins each view with the next.

        Only the two pieces that meet at the nearest view are looked at, so that the time never mixes two visits of the
        same place.
        """
        place = _place(camera_to_world.detach().cpu().float()[None], self.extent)[0]
        nearest = int((self.places - place).norm(dim=-1).argmin())
        best = (float((self.places[nearest] - place).norm()), float(self.times[nearest]))
        for start in (nearest - 1, nearest):
            if 0 <= start < len(self.times) - 1:
                best = min(best, self._on_piece(place, start))
        return best[1]

    def _on_piece(self, place: Tensor, start: int) -> tuple[float, float]:
        """Distance of `place` from the piece that begins at view `start`, and the time at its closest point."""
        along = self.places[start + 1] - self.places[start]
        fraction = torch.dot(place - self.places[start], along) / torch.dot(along, along).clamp_min(1e-12)
        fraction = fraction.clamp(0.0, 1.0)
        distance = (self.places[start] + fraction * along - place).norm()
        return float(distance), float(torch.lerp(self.times[start], self.times[start + 1], fraction))


def cameras_extent(camera_to_worlds: Tensor) -> float:
    """1.1 times the largest distance of a camera from the mean of all their centres, in the unit of the world.

    The radius of a scene in 3D Gaussian Splatting (Kerbl et al. 2023) and 4DGS (Wu et al. 2024), after the
    normalisation of NeRF++ (Zhang et al. 2020). 0 where all cameras are in one place.

    Args:
        camera_to_worlds: poses of the training cameras. [V, 3, 4]
    """
    centres = camera_to_worlds[:, :3, 3].detach().double()
    return 1.1 * float((centres - centres.mean(dim=0)).norm(dim=-1).max())


def _pairs(first: Tensor, second: Tensor) -> Tensor:
    """Two fields of cameras as [V, 2] float32 on the CPU."""
    return torch.stack((first.reshape(-1), second.reshape(-1)), dim=-1).detach().cpu().float()


def _place(camera_to_worlds: Tensor, extent: float) -> Tensor:
    """Cameras [V, 3, 4] (OpenGL axes) as [V, 6]: position / extent, and the direction that they look in."""
    return torch.cat([camera_to_worlds[:, :, 3] / extent, -camera_to_worlds[:, :, 2]], dim=-1)
