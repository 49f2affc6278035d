"""A PAGE-4D that makes no error, and what the dataparser gives of it."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from safetensors.torch import save_file

from page4d_hf.captures import read_capture
from page4d_hf.geometry import Similarity, quaternion_to_matrix
from page4d_hf.image_processing_page4d import Page4DImageProcessor
from page4d_hf.scene import Reconstruction
from page4d_nerfstudio.data import reconstruction_cache
from page4d_nerfstudio.data.dataparser import Page4DDataParserConfig, read_source
from page4d_nerfstudio.data.dataset import Page4DDataset

DEPTH = 2.5  # of the plane in front of each camera that PAGE-4D is made to see below


def frames_of(data, **options):
    """What `page4d-data` reads, in its own world."""
    return read_source(Page4DDataParserConfig(data=data, **options))


def splits_of(data, **options):
    """Outputs to train and to evaluate on, of data that are read once."""
    parser = Page4DDataParserConfig(data=data, **options).setup()
    return [parser.get_dataparser_outputs(split) for split in ("train", "val")]


def outputs_of(data, split="train", **options):
    return Page4DDataParserConfig(data=data, **options).setup().get_dataparser_outputs(split)


def dataset_of(data, split="train", scale_factor=1.0, **options):
    return Page4DDataset(outputs_of(data, split, **options), scale_factor)


def project(cameras, points):
    """Pixels `(N, M, 2)` of points in nerfstudio's world, by nerfstudio's cameras (OpenGL axes)."""
    rotation, centre = cameras.camera_to_worlds[:, :, :3].double(), cameras.camera_to_worlds[:, :, 3].double()
    in_camera = torch.einsum("nji,nmj->nmi", rotation, points.double()[None] - centre[:, None])
    depth = -in_camera[..., 2]
    u = cameras.fx.double() * in_camera[..., 0] / depth + cameras.cx.double()
    v = -cameras.fy.double() * in_camera[..., 1] / depth + cameras.cy.double()
    return torch.stack((u, v), dim=-1)


class PerfectPage4D:
    """Stands in for the network: a capture's cameras, or those given for its frames, moved into a world of its own, and
    a plane before each of them.
    """

    def __init__(self, monkeypatch, tmp_path, capture, extrinsics=None):
        self.world = Similarity(
            0.4, quaternion_to_matrix(torch.tensor([0.1, 0.5, -0.3, 0.8], dtype=torch.float64)).numpy(), np.ones(3)
        )
        read = read_capture(capture)
        self.extrinsics = dict(zip(read.frame_ids, read.extrinsics if extrinsics is None else extrinsics, strict=True))
        self.focal = 44.0  # that of the tests' captures
        self.seen = []
        self.cropped = False
        (tmp_path / "weights").mkdir()
        (tmp_path / "weights" / "config.json").write_text("{}")
        save_file({"weight": torch.ones(1)}, tmp_path / "weights" / "model.safetensors")
        self.model = str(tmp_path / "weights")
        monkeypatch.setenv(reconstruction_cache.CACHE_VARIABLE, str(tmp_path / "cache"))
        network = SimpleNamespace(config=SimpleNamespace(patch_size=14))
        monkeypatch.setattr("page4d_hf.weights.loading.load_model", lambda path: (network, Page4DImageProcessor()))
        monkeypatch.setattr("page4d_hf.reconstruction.reconstruct.reconstruct", self.reconstruct)

    def reconstruct(self, frames, model, *, progress, **options):
        self.seen.append(frames.names)
        count = len(frames)
        focal = np.array(
            [[self.focal, 0, frames.images[0].shape[1] / 2], [0, self.focal, frames.images[0].shape[0] / 2], [0, 0, 1]]
        )
        depth = np.full((15, 20), self.world.scale * DEPTH, np.float32)
        confidence = np.ones((15, 20), np.float32)
        confidence[:3] = 0.5  # a fifth
        depth[0, 0], confidence[0, 0] = np.nan, 0
        if self.cropped:  # to the right half, as the images of a video that is taller than wide lose top and bottom
            depth[:, :10], confidence[:, :10] = np.nan, 0
        points = np.zeros((3, 3), np.float32)
        true = np.stack([self.extrinsics[Path(name).stem] for name in frames.names])
        return Reconstruction(
            extrinsics=self.world.apply_to_extrinsics(true),
            intrinsics=np.tile(focal, (count, 1, 1)),
            depth=[depth] * count,
            depth_conf=[confidence] * count,
            motion=[np.full((15, 20), 0.1 * i, np.float32) for i in range(count)],
            points=points,
            point_colors=np.zeros((3, 3), np.uint8),
            point_times=np.zeros(3, np.float32),
            point_motion=np.zeros(3, np.float32),
            point_confidence=np.ones(3, np.float32),
            frames=frames,
        )
