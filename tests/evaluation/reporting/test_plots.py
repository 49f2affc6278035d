"""Pictures of predictions beside the truth."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from evaluator.predictions import Predictions
from evaluator.reporting.plots import VIDEO_NAME, draw_sequence, draw_trajectory, write_depth_video
from evaluator.sequences import EvaluatedSequence
from file_limits import largest_file
from PIL import Image
from small_sintel import SmallSintel
from small_tum import NAME, SmallSequence

from page4d_hf.captures import Capture, PinholeFrames, as_pinhole
from page4d_hf.captures.layouts.sintel import read_sintel
from page4d_hf.errors import Page4DError
from page4d_hf.utils.folders import whole_folder

PICTURES = ("trajectory.png", "errors.png", "motion.png")


@pytest.fixture(scope="module")
def sintel(tmp_path_factory: pytest.TempPathFactory) -> EvaluatedSequence:
    """4 frames with depth, cameras and, but for the last, motion masks."""
    return EvaluatedSequence(
        "final/alley_2", on_an_arc(read_sintel(SmallSintel(tmp_path_factory.mktemp("a")).root, "alley_2"))
    )


def on_an_arc(capture: Capture) -> PinholeFrames:
    """The frames, with cameras that don't stand on one line, along which no Sim(3) is determined."""
    capture.extrinsics[:, 1, 3] += 0.1 * np.arange(len(capture)) ** 2
    return as_pinhole(capture)


def true_predictions(sequence: EvaluatedSequence, scale: float = 1.0) -> Predictions:
    frames = sequence.frames
    depth = np.stack([frames.load_depth(i) for i in range(len(frames))])  # type: ignore[arg-type]
    extrinsics = frames.capture.extrinsics.copy()
    extrinsics[:, :, 3] *= scale
    moving = np.full_like(depth, 0.5)
    return Predictions(frames.capture.frame_ids, scale * depth, extrinsics, frames.intrinsics, motion=moving)


@pytest.fixture(scope="module")
def drawn(sintel: EvaluatedSequence, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the plots of the truth."""
    folder = tmp_path_factory.mktemp("plots")
    assert set(draw_sequence(folder, sintel, true_predictions(sintel))) == {*PICTURES, VIDEO_NAME}
    return folder


@pytest.mark.slow
def test_all_that_is_known_is_drawn(drawn: Path) -> None:
    for name in PICTURES:
        with Image.open(drawn / name) as picture:
            assert len(np.unique(np.array(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 50


@pytest.mark.slow
def test_the_video_has_a_picture_of_every_frame(sintel: EvaluatedSequence, drawn: Path) -> None:
    with av.open(str(drawn / VIDEO_NAME)) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(pictures) == 4
    image = sintel.frames.load_image(0)
    half = pictures[0].shape[1] // 2
    assert np.abs(pictures[0][:, :half].mean((0, 1)) - image.mean((0, 1))).max() < 6  # the frame is on the left


def test_frames_of_other_shapes_keep_theirs_in_the_video(tmp_path: Path) -> None:
    """Of a camera that was turned: white frames of 40x20 and 20x40, each with depth beside it."""
    for i, size in enumerate([(40, 20), (20, 40)]):
        Image.new("RGB", size, "white").save(tmp_path / f"{i}.png")
    capture = Capture(
        layout="turned",
        root=tmp_path,
        frame_ids=["0", "1"],
        image_paths=[tmp_path / "0.png", tmp_path / "1.png"],
        extrinsics=np.tile(np.eye(3, 4), (2, 1, 1)),
        intrinsics=np.array([[[40.0, 0, 20], [0, 40, 10], [0, 0, 1]], [[40, 0, 10], [0, 40, 20], [0, 0, 1]]]),
        distortion=np.zeros((2, 5)),
        image_sizes=np.array([[40, 20], [20, 40]]),
        time_ids=np.arange(2),
        camera_ids=np.zeros(2, np.int64),
    )
    sequence = EvaluatedSequence("turned", as_pinhole(capture))
    write_depth_video(tmp_path / VIDEO_NAME, sequence, Predictions(["0", "1"], depth=np.ones((2, 8, 8), np.float32)))
    with av.open(str(tmp_path / VIDEO_NAME)) as container:
        wide, tall = (frame.to_ndarray(format="rgb24").mean(-1) for frame in container.decode(video=0))
    assert wide.shape == tall.shape == (240, 960)
    assert (wide[:, :480] > 200).mean() > 0.98
    assert (tall[:, :480] > 200).mean() == pytest.approx(0.25, abs=0.02)


@pytest.mark.slow
def test_what_is_not_predicted_is_not_drawn(sintel: EvaluatedSequence, tmp_path: Path) -> None:
    """Motion is drawn all the same: there are true masks."""
    nothing = Predictions(sintel.frames.capture.frame_ids)
    assert draw_sequence(tmp_path, sintel, nothing) == ["motion.png"]
    assert [path.name for path in tmp_path.iterdir()] == ["motion.png"]


def test_a_camera_that_stands_still_has_no_trajectory(sintel: EvaluatedSequence, tmp_path: Path) -> None:
    still = true_predictions(sintel)
    still.extrinsics = np.tile(np.eye(3, 4), (4, 1, 1))
    assert not draw_trajectory(tmp_path / "trajectory.png", sintel, still)
    assert not (tmp_path / "trajectory.png").exists()


@pytest.mark.slow
def test_depth_of_nan_and_zero_is_left_blank(tmp_path: Path) -> None:
    sequence = EvaluatedSequence(NAME, on_an_arc(SmallSequence(tmp_path / "tum").read()))
    predictions = true_predictions(sequence)
    predictions.depth[0] = 0  # type: ignore[index]
    predictions.depth[1, :30] = np.nan  # type: ignore[index]
    predictions.motion = None
    assert set(draw_sequence(tmp_path, sequence, predictions)) == {"trajectory.png", "errors.png", VIDEO_NAME}
    predictions.depth[:] = np.nan  # type: ignore[index]
    assert draw_sequence(tmp_path, sequence, predictions) == ["trajectory.png"]


@pytest.mark.parametrize("size", [10, 1000])
def test_a_video_that_does_not_fit_on_the_disk_is_told_in_a_sentence(
    sintel: EvaluatedSequence, tmp_path: Path, size: int
) -> None:
    predictions = true_predictions(sintel)
    with (
        largest_file(size),
        pytest.raises(Page4DError, match="A file grew past the limit of its size"),
        whole_folder(tmp_path / "plots") as folder,
    ):
        write_depth_video(folder / VIDEO_NAME, sequence=sintel, predictions=predictions)
    assert list(tmp_path.iterdir()) == []
