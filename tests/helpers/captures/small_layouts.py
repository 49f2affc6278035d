"""A wall with a pattern, as a capture in each published layout."""

import json
import math

import numpy as np
from PIL import Image

WIDTH, HEIGHT, FOCAL = 40, 30, 44.0


WALL = 5.0  # the scene is a coloured wall at z = WALL


def camera(i):
    """Centre and axes (right, down, forward) of a camera before the wall, turned and rolled a little."""
    a, b = 0.1 * math.sin(i), 0.15 * math.cos(2 * i)
    forward = np.array([math.sin(a), 0.05 * i / 10, math.cos(a)])
    forward /= np.linalg.norm(forward)
    right = np.cross([math.sin(b), math.cos(b), 0], forward)
    right /= np.linalg.norm(right)
    return np.array([0.3 * math.cos(i), 0.2 * i / 5, 0.1 * math.sin(3 * i)]), right, np.cross(forward, right), forward


def colour(points):
    return np.round(127 + 100 * np.sin(points @ np.array([[0.9, -0.3, 0.5], [0.4, 0.8, -0.6], [0, 0, 0]]))).astype(
        np.uint8
    )


def shot(i, scale=1):
    """Colours (h, w, 3) and z-depth (h, w) of camera i's image, at 1/scale of the full size."""
    centre, right, down, forward = camera(i)
    u, v = np.meshgrid(np.arange(WIDTH // scale) + 0.5, np.arange(HEIGHT // scale) + 0.5)
    x, y = (u * scale - WIDTH / 2) / FOCAL, (v * scale - HEIGHT / 2) / FOCAL
    rays = x[..., None] * right + y[..., None] * down + forward
    depth = (WALL - centre[2]) / rays[..., 2]
    return colour(centre + depth[..., None] * rays), depth


def save(pixels, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"quality": 98, "subsampling": 0} if path.suffix == ".jpg" else {}
    Image.fromarray(pixels).save(path, **options)


def opengl(i):
    centre, right, down, forward = camera(i)
    return [*np.column_stack((right, -down, -forward, centre)).tolist(), [0, 0, 0, 1]]


def write_dnerf(root, counts=(("train", 4), ("val", 2), ("test", 3))):
    first = 0
    for split, count in counts:
        frames = []
        for k in range(count):
            pixels = np.full((HEIGHT, WIDTH, 4), 255, np.uint8)
            pixels[..., :3] = shot(first + k)[0]
            pixels[:5] = 0  # transparent
            save(pixels, root / split / f"r_{k:03d}.png")
            matrix = opengl(first + k)
            frames.append({"file_path": f"./{split}/r_{k:03d}", "time": k / (count - 1), "transform_matrix": matrix})
        first += count
        meta = {"camera_angle_x": 2 * math.atan(WIDTH / 2 / FOCAL), "frames": frames}
        (root / f"transforms_{split}.json").write_text(json.dumps(meta))
    return root


def write_nvidia(root, count=12):
    rows = []
    for i in range(count):
        centre, right, down, forward = camera(i % 12)
        hwf = np.array([HEIGHT, WIDTH, FOCAL])
        rows.append([*np.column_stack((down, right, -forward, centre, hwf)).ravel(), 3.0, 8.0])
        save(shot(i % 12)[0], root / "dense/images" / f"{i:05d}.png")
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        mask[:, :i] = 255
        save(mask, root / "dense/motion_masks" / f"{i:05d}.png")
        for c in range(12):
            save(shot(c)[0], root / "dense/mv_images" / f"{i:05d}" / f"cam{c + 1:02d}.jpg")
            save(mask, root / "dense/mv_masks" / f"{i:05d}" / f"cam{c + 1:02d}.png")
    np.save(root / "dense/poses_bounds.npy", np.array(rows))
    return root


def write_nerfstudio(root, count=6, depth=False, mask=None):
    """Frames, each with its depth in millimetres if asked for, and with the mask `(h, w)` uint8 if given."""
    frames = []
    for i in range(count):
        pixels, z = shot(i)
        save(pixels, root / f"images/{i}.png")
        frames.append({"file_path": f"images/{i}.png", "time": i**2 / 25, "transform_matrix": opengl(i)})
        if depth:
            save(np.rint(1000 * z).astype(np.uint16), root / f"depth/{i}.png")
            frames[-1]["depth_file_path"] = f"depth/{i}.png"
        if mask is not None:
            save(mask, root / f"masks/{i}.png")
            frames[-1]["mask_path"] = f"masks/{i}.png"
    meta = {"fl_x": FOCAL, "fl_y": FOCAL, "frames": frames}
    meta |= {"train_filenames": [f"images/{i}.png" for i in range(4)], "test_filenames": ["images/5.png"]}
    (root / "transforms.json").write_text(json.dumps(meta | {"val_filenames": ["images/4.png"]}))
    return root


def write_dycheck(root):
    """4 frames of a moving phone with depth, and 2 of each of two that stand still; no points."""
    centre_of_scene, scale = np.array([0.2, -0.1, 1.0]), 0.4
    ids = [f"0_{t:05d}" for t in range(4)] + [f"{c}_{t:05d}" for c in (1, 2) for t in (1, 3)]
    for name in ("camera", "splits", "depth/1x"):
        (root / name).mkdir(parents=True)
    for n, frame_id in enumerate(ids):
        centre, right, down, forward = camera(n)
        stored = {
            "orientation": [right.tolist(), down.tolist(), forward.tolist()],
            "position": centre.tolist(),
            "focal_length": FOCAL,
            "principal_point": [WIDTH / 2, HEIGHT / 2],
            "image_size": [WIDTH, HEIGHT],
        }
        (root / "camera" / f"{frame_id}.json").write_text(json.dumps(stored))
        pixels = np.full((HEIGHT, WIDTH, 4), 255, np.uint8)
        pixels[..., :3], depth = shot(n)
        if n < 4:
            pixels[:, :4, 3] = 0  # no lidar return
            np.save(root / "depth/1x" / f"{frame_id}.npy", depth.astype(np.float32)[..., None])
        else:
            covisible = np.zeros((HEIGHT // 2, WIDTH // 2), np.uint8)
            covisible[:10] = 255
            save(covisible, root / "covisible/2x/val" / f"{frame_id}.png")
        save(pixels, root / "rgb/1x" / f"{frame_id}.png")
    for split, own in (("train", ids[:4]), ("val", ids[4:])):
        columns = {"time_ids": [int(i[2:]) for i in own], "camera_ids": [int(i[0]) for i in own]}
        (root / "splits" / f"{split}.json").write_text(json.dumps({"frame_names": own, **columns}))
    (root / "dataset.json").write_text(json.dumps({"ids": ids, "train_ids": ids[:4], "val_ids": ids[4:]}))
    metadata = {i: {"warp_id": int(i[2:]), "appearance_id": 0, "camera_id": int(i[0])} for i in ids}
    (root / "metadata.json").write_text(json.dumps(metadata))
    scene = {"scale": scale, "center": centre_of_scene.tolist(), "near": 0.5, "far": 4.0}
    (root / "scene.json").write_text(json.dumps(scene))
    return root
