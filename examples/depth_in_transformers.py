"""Frames through PAGE-4D in transformers: cameras, depth and motion.

python examples/depth_in_transformers.py page4d room/rgb/1x/*.png
"""

import sys

import torch

from page4d_hf import Page4DImageProcessor, Page4DModel

weights, *images = sys.argv[1:]
model = Page4DModel.from_pretrained(weights).eval()
processor = Page4DImageProcessor.from_pretrained(weights)

inputs = processor(images[:8], return_tensors="pt")
with torch.no_grad():
    outputs = model(pixel_values=inputs["pixel_values"])
extrinsics, intrinsics = outputs.cameras()  # [1, S, 3, 4] world-to-camera (OpenCV), [1, S, 3, 3]

for i, image in enumerate(images[:8]):
    center = -extrinsics[0, i, :, :3].T @ extrinsics[0, i, :, 3]
    depth = outputs.depth[0, i, ..., 0]
    moving = (
        "" if outputs.dynamics_mask is None else f", {(outputs.dynamics_mask[0, i] > 0.5).float().mean():.0%} moves"
    )
    place = ", ".join(f"{x:.2f}" for x in center)
    print(f"{image}: camera at ({place}), depth {depth.min():.2f} to {depth.max():.2f}{moving}")
