"""Points of a ball that turns and goes sideways."""

import numpy as np
from scipy.spatial.transform import Rotation

FRAMES = 24


def turning_ball(count: int = 80, radius: float = 0.3) -> np.ndarray:
    """Paths [K, S, 3] of points of a ball that turns and goes sideways."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(count, 3))
    points *= radius / np.linalg.norm(points, axis=1, keepdims=True)
    turns = Rotation.from_rotvec(np.linspace(0, 2, FRAMES)[:, None] * (0.0, 1.0, 0.0)).as_matrix()
    return np.einsum("sij,kj->ksi", turns, points) + np.linspace((0, 0, 4), (1, 0.2, 4.5), FRAMES)
