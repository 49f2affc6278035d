"""Where a clip cuts to another shot, and what is made of it."""

from __future__ import annotations

import functools
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from image_folders import write_images
from small_networks import save_small_network

from page4d_hf import cli, reconstruct, split_at_cuts
from page4d_hf.app.work import reconstruct_upload
from page4d_hf.frames import read_frames
from page4d_hf.reconstruction.cuts import find_cuts, longest_shot
from page4d_hf.synthetic import SCENES, render_clip


@functools.cache
def _shot(scene: str, seed: int, count: int) -> tuple[np.ndarray, ...]:
    """Frames `(90, 120, 3)` of a synthetic scene."""
    made = SCENES[scene](seed)
    times = 0.02 * torch.arange(count, dtype=torch.float64)
    intrinsics = torch.tensor([[102.0, 0, 60], [0, 102, 45], [0, 0, 1]], dtype=torch.float64).expand(count, 3, 3)
    images = render_clip(made, made.camera.extrinsics(times), intrinsics, times, (90, 120), supersampling=1)["images"]
    return tuple((255 * images).round().to(torch.uint8).numpy())


def _elsewhere(count: int) -> tuple[np.ndarray, ...]:
    """A shot of another place: the room of another seed, as a mirror and a negative have it."""
    return tuple(255 - image[:, ::-1] for image in _shot("living-room", 5, count))


def _lit(image: np.ndarray, gain: float, more: float = 0.0) -> np.ndarray:
    return (gain * image.astype(float) + more).clip(0, 255).astype(np.uint8)


@pytest.mark.slow
def test_cuts_are_found_where_they_are() -> None:
    film = [*_shot("living-room", 0, 10), *_elsewhere(14), *_shot("rigid", 9, 4)]

    assert find_cuts(film) == [10, 24]


@pytest.mark.slow
def test_a_shot_of_a_single_frame_at_the_end_is_found() -> None:
    assert find_cuts([*_shot("living-room", 0, 10), _elsewhere(14)[0]]) == [10]


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        lambda clip: clip,
        lambda clip: clip[::4],
        lambda clip: [*clip[:6], np.full_like(clip[6], 255), *clip[7:]],
        lambda clip: [*clip[:6], np.zeros_like(clip[6]), np.zeros_like(clip[7]), *clip[8:]],
        lambda clip: [*clip[:6], _lit(clip[6], 1, 120), *clip[7:]],
        lambda clip: [*clip[:6], *(_lit(image, 0.5) for image in clip[6:])],
        lambda clip: [clip[0]] * 5,
        lambda clip: clip[:1],
        lambda clip: [],
    ],
    ids=["as it is", "every fourth frame", "white", "black", "flash", "darker", "still", "one frame", "no frame"],
)
@pytest.mark.parametrize("scene", ["living-room", "fast-camera"])
def test_a_shot_is_not_cut(scene: str, change) -> None:
    assert find_cuts(change(list(_shot(scene, 0, 16)))) == []


@pytest.mark.slow
def test_images_may_differ_in_size() -> None:
    upright = [np.ascontiguousarray(np.rot90(image)) for image in _elsewhere(10)]
    assert find_cuts([*_shot("living-room", 0, 10), *upright]) == [10]


@pytest.mark.slow
def test_a_camera_that_is_turned_upright_goes_on_with_its_shot() -> None:
    clip = _shot("living-room", 0, 16)
    turned = [np.ascontiguousarray(np.rot90(image)) for image in clip[8:]]
    assert find_cuts([*clip[:8], *turned]) == []


def test_frames_of_another_place_each_are_not_shots() -> None:
    rng = np.random.default_rng(0)
    noise = list(rng.integers(0, 255, (6, 90, 120, 3), dtype=np.uint8))
    places = [_shot("living-room", seed, 1)[0] for seed in range(5)]

    assert find_cuts(noise) == []
    assert find_cuts(places) == []


@pytest.mark.slow
def test_the_longest_shot_is_taken_and_the_note_says_where_the_clip_cuts() -> None:
    film = read_frames([*_shot("living-room", 0, 4), *_elsewhere(7), *_shot("rigid", 9, 3)])
    film.in_seconds = True

    taken, report = longest_shot(film)

    assert report is not None
    assert report["frames"] == [4, 11]
    assert report["seconds"] == [4, 11]  # as of a video of one frame a second
    assert report["taken"] == [4, 11]
    assert report["note"] == (
        "The clip cuts at image_00004 (4.00 s) and image_00011 (11.00 s): only the longest shot is taken, image_00004 "
        "to image_00010."
    )
    assert np.array_equal(taken.times, film.times[4:11])


@pytest.mark.slow
def test_images_have_places_and_no_seconds_though_some_are_left_out() -> None:
    film = read_frames([*_shot("living-room", 0, 8), *_elsewhere(14)], max_frames=11)
    assert film.times[-1] == 21

    _, report = longest_shot(film)

    assert report is not None
    assert report["seconds"] is None
    assert report["note"].startswith(f"The clip cuts at {film.names[report['frames'][0]]}: only the longest")


@pytest.mark.slow
def test_shots_together_are_the_clip() -> None:
    film = [*_shot("living-room", 0, 4), *_elsewhere(7)]

    shots = split_at_cuts(film)

    assert [len(shot) for shot in shots] == [4, 7]
    assert all(map(np.array_equal, [image for shot in shots for image in shot.images], film))
    assert [shot.names for shot in shots] == [read_frames(film).names[:4], read_frames(film).names[4:]]


@pytest.fixture
def film(tmp_path: Path) -> Path:
    return write_images(tmp_path / "film", [*_shot("living-room", 0, 3), *_elsewhere(4)])


@pytest.mark.slow
def test_a_reconstruction_is_of_the_longest_shot(
    film: Path, model_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        made = reconstruct(film, model_folder, resolution=70, refine="off")
    whole = reconstruct(read_frames(film), model_folder, resolution=70, refine="off")

    assert made.frames.names == ["3.png", "4.png", "5.png", "6.png"]
    assert made.info["cuts"]["frames"] == [3]
    assert "cuts at 3.png: only the longest shot is taken, 3.png to 6.png" in caplog.text
    assert len(whole) == 7
    assert "cuts" not in whole.info


@pytest.mark.slow
def test_what_is_given_for_all_frames_keeps_them(film: Path, model_folder: Path, tmp_path: Path) -> None:
    masks = write_images(tmp_path / "masks", np.ones((7, 90, 120), bool))

    made = reconstruct(film, model_folder, masks=masks, refine="off", resolution=70)

    assert len(made) == 7


@pytest.mark.slow
@pytest.mark.parametrize(("focal", "taken"), [(None, 4), (110.0, 4), (100.0, 7)])
def test_intrinsics_of_one_lens_leave_the_search_for_cuts(
    focal: float | None, taken: int, film: Path, model_folder: Path, tmp_path: Path
) -> None:
    given = "110,110,60,45"
    if focal is not None:
        lens = {"cx": 60, "cy": 45, "transform_matrix": np.eye(4).tolist()}
        focals = [110.0, 110.0, focal, *[110.0] * 4]
        frames = [{"file_path": str(film / f"{i}.png"), "fl_x": focal, **lens} for i, focal in enumerate(focals)]
        given = str(tmp_path / "transforms.json")
        Path(given).write_text(json.dumps({"frames": frames}))

    made = reconstruct(film, model_folder, intrinsics=given, refine="off", resolution=28)

    assert len(made) == taken


def split(film: Path, model: str, scenes: Path, **options: Any) -> None:
    """`page4d reconstruct --split-cuts`."""
    options |= {"resolution": 28, "refine": "off", "preview": False, "split_cuts": True, "overwrite": True}
    cli.reconstruct((str(film),), model, scenes, **options)


@pytest.mark.slow
def test_split_cuts_makes_a_scene_of_each_shot(
    film: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        split(film, str(model_folder), tmp_path / "scenes", max_frames=7)

    shots = [tmp_path / "scenes" / name for name in ("shot_01", "shot_02")]
    assert [len(json.loads((shot / "transforms.json").read_text())["frames"]) for shot in shots] == [3, 4]
    infos = [json.loads((shot / "page4d" / "info.json").read_text()) for shot in shots]
    assert [info["options"]["max_frames"] for info in infos] == [7, 7]
    assert f"--data {shots[1]}" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("motion", ["geometry", None])
def test_a_shot_of_a_single_frame_does_not_cost_the_others(
    motion: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    film = write_images(tmp_path / "film", [*_shot("living-room", 0, 10), _elsewhere(14)[0]])
    model = save_small_network(tmp_path / "model", mask_form=None)

    split(film, str(model), tmp_path / "scenes", write_masks=True, motion=motion)

    masks = [len(list((tmp_path / "scenes" / shot).glob("motion_masks/*"))) for shot in ("shot_01", "shot_02")]
    assert masks == [10, 0]
    assert "Nothing tells what moves in shot_02" in capsys.readouterr().out


@pytest.mark.slow
def test_a_visitor_of_the_app_is_told_where_a_clip_cuts(film: Path, model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "visit").mkdir()

    made = reconstruct_upload([str(film)], str(model_folder), 7, str(tmp_path / "visit"), progress=lambda *_: None)

    first, cut, cameras = made.summary.splitlines()
    assert first.startswith("4 frames")
    assert cut.startswith("The clip cuts at 3.png")
    assert cameras.startswith("Cameras: ")
