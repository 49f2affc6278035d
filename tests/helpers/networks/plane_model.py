"""A network that makes no error, and frames for it."""

import numpy as np
import torch
from torch import nn

from page4d_hf.configuration_page4d import Page4DConfig
from page4d_hf.frames import Frames
from page4d_hf.geometry import Similarity, cameras_to_pose_encoding, quaternion_to_matrix
from page4d_hf.modeling_page4d import Page4DOutput
from page4d_hf.reconstruction.reconstruct import reconstruct

PLANE = torch.tensor([0.2, -0.1, 1.0, -5.0], dtype=torch.float64)  # a x + b y + c z + d = 0
WORLD_POINT = torch.tensor([7.0, 8.0, 9.0])


class PlaneModel(nn.Module):
    """Looks at a plane from known cameras, and gives exactly what a perfect network would.

    Where frames come in windows, `spans`, it gives each in a world of its own: that of its first camera, in another
    unit.
    """

    def __init__(self, num_frames, spans=None):
        super().__init__()
        self.config = Page4DConfig()
        self.camera_head, self.depth_head, self.point_head = nn.Identity(), nn.Identity(), nn.Identity()
        self.device, self.dtype = torch.device("cpu"), torch.float32
        rng = np.random.default_rng(0)
        turns = torch.from_numpy(np.concatenate((0.1 * rng.normal(size=(num_frames, 3)), np.ones((num_frames, 1))), 1))
        positions = torch.from_numpy(0.3 * rng.normal(size=(num_frames, 3, 1)))
        self.extrinsics = torch.cat((quaternion_to_matrix(turns), positions), dim=-1)
        self.change = lambda output: None
        self.spans, self.calls = spans or [range(num_frames)], 0

    def forward(self, pixel_values, mask_strength, heads, return_dict, query_points=None, visible=None):
        self.asked_for = {"mask_strength": mask_strength, "heads": heads}
        height, width = pixel_values.shape[-2:]
        focal = 0.9 * width
        intrinsics = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]], dtype=torch.float64)
        span = self.spans[self.calls % len(self.spans)]
        unit = 1 if len(self.spans) == 1 else [1.0, 0.4, 2.5][self.calls % 3]
        world = Similarity(1.0, np.eye(3), np.zeros(3))
        if len(self.spans) > 1:
            first = self.extrinsics[span.start].numpy()
            world = Similarity(unit, first[:, :3], unit * first[:, 3])
        extrinsics = self.extrinsics[span.start : span.stop]
        self.calls += 1
        assert len(extrinsics) == pixel_values.shape[1]
        intrinsics = intrinsics.expand(len(extrinsics), 3, 3)
        v, u = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
        rays = torch.stack(((u - width / 2) / focal, (v - height / 2) / focal, torch.ones_like(u)), -1).double()
        depth = []
        for rotation, translation in zip(extrinsics[:, :, :3], extrinsics[:, :, 3], strict=True):
            normal = rotation @ PLANE[:3]  # the plane in the camera: normal . x + offset = 0
            depth.append(-unit * (PLANE[3] - normal @ translation) / (rays @ normal))
        depth = torch.stack(depth)[None].float()
        ramp = torch.arange(height * width).reshape(height, width).expand_as(depth)  # grows by rows
        output = Page4DOutput(
            pose_enc=cameras_to_pose_encoding(
                torch.from_numpy(world.apply_to_extrinsics(extrinsics.numpy())), intrinsics, (height, width)
            )[None],
            depth=depth[..., None],
            depth_conf=1 + ramp / (height * width),
            dynamics_mask=(pixel_values.mean(dim=2) > 0.5).float(),
        )
        if "point" in heads:
            output.world_points = WORLD_POINT.expand(*depth.shape, 3)
            output.world_points_conf = 2 - ramp / (height * width)
        self.change(output)
        return output


def make_frames(sizes, times=None):
    """Frame i is all of gray level 20 i, with a white left upper corner."""
    images = [np.full((*size, 3), 20 * i, np.uint8) for i, size in enumerate(sizes)]
    for image in images:
        image[: len(image) // 3, : image.shape[1] // 3] = 255
    times = np.arange(len(sizes)) if times is None else times
    return Frames(images, [str(i) for i in range(len(sizes))], np.asarray(times, np.float64), None, "test")


def reconstruct_plane(sizes=((30, 50),) * 3, change=None, times=None, **options):
    """A perfect network, and what is reconstructed by it from frames of these sizes `(height, width)`."""
    model = PlaneModel(len(sizes))
    model.change = change or model.change
    options = {"resolution": 56, "confidence_percentile": 0, "refine": "off", **options}
    return model, reconstruct(make_frames(sizes, times), model, **options)
