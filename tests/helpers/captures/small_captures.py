"""Small captures on disk, with everything known about them."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (40, 30)  # width, height
CENTER = np.array([0.3, -0.2, 0.1])
SCALE = 0.5  # from the raw world to the capture's


def camera_path(count, rng):
    """`count` raw-world cameras on a curved path, looking at the origin: rotations (world to camera) and centres."""
    angles = np.linspace(-0.6, 0.6, count)
    centres = np.stack((3 * np.sin(angles), 0.3 * np.cos(5 * angles), -3 * np.cos(angles)), axis=-1)
    centres += rng.normal(scale=0.02, size=centres.shape)
    rotations = []
    for centre in centres:
        forward = -centre / np.linalg.norm(centre)
        right = np.cross([0, 1, 0], forward)
        right /= np.linalg.norm(right)
        rotations.append(np.stack((right, np.cross(forward, right), forward)))
    return np.stack(rotations), centres


def write_capture(
    root: Path,
    frames=8,
    val=(3,),
    size=SIZE,
    distortion=(0.0, 0.0, 0.0),
    points=200,
    masks=False,
    seed=0,
    centres=None,
):
    """Write a Nerfies capture whose images are smooth random colours; returns `root`."""
    rng = np.random.default_rng(seed)
    root = Path(root)
    for folder in ("camera", "rgb/1x") + (("motion_mask/1x",) if masks else ()):
        (root / folder).mkdir(parents=True)
    ids = [f"{i:06d}" for i in range(frames)]
    rotations, path = camera_path(frames, rng)
    path = path if centres is None else centres
    for i, frame_id in enumerate(ids):
        camera = {
            "orientation": rotations[i].tolist(),
            "position": path[i].tolist(),
            "focal_length": 1.1 * size[0],
            "principal_point": [size[0] / 2 + 1.5, size[1] / 2 - 0.5],
            "radial_distortion": list(distortion),
            "image_size": list(size),
        }
        (root / "camera" / f"{frame_id}.json").write_text(json.dumps(camera))
        coarse = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8))
        coarse.resize(size, Image.Resampling.BICUBIC).save(root / "rgb/1x" / f"{frame_id}.png")
        if masks:
            mask = np.zeros(size[::-1], np.uint8)
            mask[: size[1] // 2, i : i + 10] = 255
            Image.fromarray(mask).save(root / "motion_mask/1x" / f"{frame_id}.png")
    held_out = [ids[i] for i in val]
    dataset = {"ids": ids, "train_ids": [i for i in ids if i not in held_out], "val_ids": held_out}
    (root / "dataset.json").write_text(json.dumps(dataset))
    metadata = {name: {"warp_id": i, "appearance_id": i, "camera_id": 0} for i, name in enumerate(ids)}
    (root / "metadata.json").write_text(json.dumps(metadata))
    scene = {"scale": SCALE, "center": CENTER.tolist(), "near": 0.5, "far": 3.0}
    (root / "scene.json").write_text(json.dumps(scene))
    if points:
        np.save(root / "points.npy", rng.normal(scale=0.4, size=(points, 3)))
        np.save(root / "points_rgb.npy", rng.integers(0, 256, (points, 3), dtype=np.uint8))
    return root
