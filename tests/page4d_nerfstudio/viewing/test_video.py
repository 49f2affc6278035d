"""Videos of a trained scene: their frames are what the model renders along the path."""

import av
import numpy as np
import pytest
import torch
from av.video.reformatter import ColorRange, Colorspace
from nerfstudio.cameras.camera_paths import get_path_from_json
from small_gaussians import fine, half_moving

from page4d_nerfstudio.viewing.camera_paths import Views, make_path
from page4d_nerfstudio.viewing.video import write_video

SIZE = (64, 48)


@pytest.fixture(scope="module")
def model():
    model = fine(half_moving())
    torch.manual_seed(2)
    with torch.no_grad():
        model.opacities.uniform_(0, 3)
        model.scales.fill_(-1.5)
    return model.eval()


@pytest.fixture(scope="module")
def path():
    poses = np.eye(4)[None, :3].repeat(2, axis=0)
    poses[:, 2, 3] = 4
    views = Views(poses, np.array([0.0, 1.0]), np.full(2, 40.0), np.tile(SIZE, (2, 1)), np.zeros((1, 3)))
    return make_path(views, "circle", None, 1.0, 10.0, 0, 0.3)


@pytest.fixture(scope="module")
def truth(model, path):
    cameras = get_path_from_json(path)
    with torch.no_grad():
        views = [model.get_outputs_for_camera(cameras[i : i + 1])["rgb"] for i in range(len(cameras))]
    return (255 * torch.stack(views)).numpy()


def pixels(frame: av.VideoFrame) -> np.ndarray:
    """RGB of a frame, [H, W, 3]. From YUV by BT.709's formula, as FFmpeg's own conversion is off by up to 2."""
    if frame.format.name != "yuv420p":
        return frame.to_ndarray(format="rgb24")
    assert (frame.colorspace, frame.color_range) == (Colorspace.ITU709, ColorRange.MPEG)
    height, width = frame.height, frame.width
    y, u, v = np.split(frame.to_ndarray().reshape(-1).astype(float), np.array([4, 5]) * (height * width // 4))
    y = (y.reshape(height, width) - 16) / 219
    u, v = ((c.reshape(height // 2, -1).repeat(2, axis=0).repeat(2, axis=1) - 128) / 224 for c in (u, v))
    red, blue = y + 2 * (1 - 0.2126) * v, y + 2 * (1 - 0.0722) * u
    green = (y - 0.2126 * red - 0.0722 * blue) / 0.7152
    return 255 * np.stack([red, green, blue], axis=-1)


@pytest.mark.parametrize(("name", "codec", "error"), [("a.mp4", "h264", 4.0), ("a.gif", "gif", 6.0)])
def test_frames_are_what_the_model_renders(tmp_path, model, path, truth, name, codec, error):
    stages = []
    assert write_video(tmp_path / name, model, path, progress=lambda *stage: stages.append(stage)) == 10

    with av.open(str(tmp_path / name)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        assert stream.codec_context.name == codec
        assert float(stream.average_rate) == pytest.approx(10)
    images = np.stack([pixels(frame) for frame in frames])
    assert images.shape == truth.shape
    errors = np.abs(images - truth).mean(axis=(1, 2, 3))
    assert errors.max() < error
    assert np.abs(images[0] - truth[5]).mean() > 1.5 * errors.max()  # of another frame
    assert np.abs((images - truth).mean(axis=(0, 1, 2))).max() < 1.0  # no channel is brighter or darker
    assert stages[-1] == ("rendering", 10, 10)


def test_a_video_that_fails_leaves_nothing(tmp_path, model, path):
    def fail(*stage):
        raise RuntimeError("bug")

    with pytest.raises(RuntimeError):
        write_video(tmp_path / "a.gif", model, path, progress=fail)
    assert list(tmp_path.iterdir()) == []
