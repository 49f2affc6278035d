"""The network's track head as what follows points: small ones with random weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from moving_room import moving_room
from small_networks import small_network

from page4d_hf.reconstruction import network as network_module
from page4d_hf.reconstruction.network import NetworkOptions, Prediction, predict, prepare
from page4d_hf.reconstruction.reconstruct import reconstruct
from page4d_hf.reconstruction.tracks import joined_tracks
from page4d_hf.weights.loading import image_processor_for


def prediction(images: list[np.ndarray], monkeypatch: pytest.MonkeyPatch) -> tuple[Prediction, dict]:
    """What a network with a track head says, and what it was asked and answered."""
    monkeypatch.setattr(network_module, "LEAST_VISIBLE", 0.0)
    model, seen = small_network(enable_track=True), {}

    def keep(_, args, kwargs, output):
        seen.update(queries=kwargs["query_points"], tracks=output.tracks)

    model.register_forward_hook(keep, with_kwargs=True)
    options = NetworkOptions(70, "balanced", ("camera", "depth"), None, follow=True)
    processor = image_processor_for(model.config)
    inputs = [prepare(image, processor, 14, options) for image in images]
    with torch.no_grad():
        made = predict(model, inputs, options, lambda *_: None)
    return made, seen | {"boxes": [each.box for each in inputs]}


def test_corners_of_the_first_frame_are_followed_in_pixels_of_the_original_images(monkeypatch):
    images = [image[:, :100] for image in moving_room().images[:4]]
    made, seen = prediction(images, monkeypatch)
    count = seen["queries"].shape[1]
    assert count > 20
    for frame, (numbers, xy) in enumerate(made.followed):
        left, top, right, bottom = seen["boxes"][frame]
        places = (seen["tracks"][0, frame].numpy() + 0.5 - (left, top)) / (right - left, bottom - top) * (100, 96)
        inside = ((places > 0) & (places < (100, 96))).all(axis=1)
        np.testing.assert_array_equal(numbers, np.flatnonzero(inside))
        np.testing.assert_allclose(xy, places[inside], rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(seen["tracks"][0, 0], seen["queries"][0], atol=1e-3)
    assert count == len(made.followed[0][0])


def test_an_image_without_corners_is_followed_at_its_middle(monkeypatch):
    made, seen = prediction([np.full((56, 56, 3), 90, np.uint8)] * 3, monkeypatch)
    assert seen["queries"].shape == (1, 1, 2)
    assert len(made.followed) == 3


@pytest.mark.slow
def test_windows_give_tracks_numbers_of_their_own(monkeypatch):
    monkeypatch.setattr(network_module, "LEAST_VISIBLE", 0.0)
    kept = []
    monkeypatch.setattr(
        "page4d_hf.reconstruction.reconstruct.joined_tracks", lambda seen: kept.append(seen) or joined_tracks(seen)
    )
    reconstruct(
        list(moving_room().images),
        small_network(enable_track=True),
        tracker="head",
        window=6,
        overlap=2,
        resolution=70,
        motion="off",
    )
    numbers = [set(each[0].tolist()) for each in kept[0]]
    assert len(numbers) == 12
    # Windows begin at frames 0, 3 and 6 and each gives its half of what it shares.
    assert numbers[0] & numbers[3]
    assert not numbers[0] & numbers[11]


@pytest.mark.slow
def test_cameras_are_refined_by_the_tracks_of_the_head_and_no_flow_is_computed(monkeypatch):
    def unwanted(*args, **kwargs):
        raise AssertionError("optical flow was asked for tracks")

    monkeypatch.setattr("page4d_hf.reconstruction.cameras.refinement.track_points", unwanted)
    monkeypatch.setattr(network_module, "LEAST_VISIBLE", 0.0)
    made = reconstruct(
        list(moving_room().images), small_network(enable_track=True), tracker="head", resolution=70, motion="off"
    )
    assert made.info["options"]["tracker"] == "head"
    assert made.info["refinement"]["tracks"] == len(made.tracks) > 20
    xy = made.tracks.xy[made.tracks.visible]
    assert ((xy > 0) & (xy < (128, 96))).all()
