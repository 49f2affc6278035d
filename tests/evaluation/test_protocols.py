"""A protocol says all that decides a figure."""

from __future__ import annotations

import dataclasses
import pickle

import pytest
from evaluator.protocols import PROTOCOLS, DepthProtocol, Protocol

ALL = [protocol for by_task in PROTOCOLS.values() for protocol in by_task.values()]


def depth_protocol(name: str, task: str) -> DepthProtocol:
    protocol = PROTOCOLS[name][task]
    assert isinstance(protocol, DepthProtocol)
    return protocol


@pytest.mark.parametrize("name", ["page4d", "cut3r"])
def test_there_is_a_protocol_for_every_task(name: str) -> None:
    assert tuple(PROTOCOLS[name]) == ("video-depth", "mono-depth", "pose", "points")
    assert all((protocol.name, protocol.task) == (name, task) for task, protocol in PROTOCOLS[name].items())


@pytest.mark.parametrize("protocol", ALL, ids=lambda protocol: f"{protocol.name}-{protocol.task}")
def test_a_protocol_cannot_be_changed_and_travels_between_processes(protocol: Protocol) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        protocol.name = "mine"  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(protocol)) == protocol
    assert hash(protocol) == hash(dataclasses.replace(protocol))


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("video-depth", ["z in the first frame's camera", "Weiszfeld", "Adam", "below 70", "cubic", "22 sequences"]),
        ("mono-depth", ["ratio of the medians", "clipped at 70", "23 sequences", "images 30 to 139", "one at a time"]),
        ("pose", ["Umeyama", "root mean square", "14 sequences", "10 frames", "the first 90", "does not move"]),
        ("points", ["Sub-sampling: at most 500,000", "Sim(3)", "accuracy", "completion", "mean and median"]),
    ],
)
def test_a_protocol_is_printed_in_plain_words(task: str, words: list[str]) -> None:
    text = str(PROTOCOLS["page4d"][task])
    assert [word for word in words if word not in text] == []


def test_any_other_choice_is_printed_differently() -> None:
    protocol = depth_protocol("page4d", "video-depth")
    changes = {"alignment": "median", "more_alignments": (), "aligned": "frame", "camera": "own", "shift_floor": None}
    texts = {str(dataclasses.replace(protocol, **{name: value})) for name, value in changes.items()}  # type: ignore[arg-type]
    assert len(texts | {str(protocol)}) == 1 + len(changes)


def test_video_depth_is_the_first_cameras_in_page4d_and_each_frames_own_in_cut3r() -> None:
    assert depth_protocol("page4d", "video-depth").camera == "first"
    assert depth_protocol("cut3r", "video-depth").camera == "own"


def test_depth_without_a_maximum_is_dychecks_in_mono_depth() -> None:
    protocol = depth_protocol("page4d", "mono-depth")
    assert protocol.limits_of("dycheck").max_depth is None
    assert (protocol.limits_of("sintel").max_depth, protocol.limits_of("sintel").clip) == (70, 70)
    assert (protocol.limits_of("bonn").max_depth, protocol.limits_of("bonn").clip) == (70, None)
    assert protocol.limits_of("tum") == protocol.limits_of("point-odyssey")
