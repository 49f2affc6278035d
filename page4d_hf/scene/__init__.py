"""The scene folder, which stands between a reconstruction and everything that trains on it: what a reconstruction is,
how it is written, and how it, or any folder with nerfstudio's transforms.json, is read.
"""

from .folder import Scene, read_scene, write_scene
from .reconstruction import Reconstruction
from .tracks import PointTracks, read_tracks

__all__ = ["PointTracks", "Reconstruction", "Scene", "read_scene", "read_tracks", "write_scene"]
