"""Which sequences and frames are evaluated, of small data sets in their published layouts."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import small_bonn
import small_dycheck
import small_point_odyssey
import small_sintel
import small_tum
from evaluator.metrics.scores import EvaluationError, ExclusionError
from evaluator.sequences import (
    SELECTIONS,
    SINTEL_SEQUENCES,
    Dataset,
    Selection,
    choose_frames,
    choose_sequences,
    load_sequence,
    select,
)

from page4d_hf.captures import DATASETS, as_pinhole, find_sequences, read_sequence
from page4d_hf.captures.layouts.sintel import sintel_sequences
from page4d_hf.errors import CaptureError


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of each data set, with one sequence."""
    roots = {name: tmp_path_factory.mktemp(name) for name in get_args(Dataset)}
    small_sintel.SmallSintel(roots["sintel"])
    small_bonn.SmallBonn(roots["bonn"])
    small_tum.SmallSequence(roots["tum"])
    small_dycheck.SmallCapture(roots["dycheck"])
    small_point_odyssey.Sequence(roots["point-odyssey"], "test/ani")
    return roots


EXPECTED = {
    "sintel": ("final/alley_2", 4),
    "tum": (small_tum.NAME, 4),
    "dycheck": ("paper-windmill/0", 3),
    "point-odyssey": ("test/ani", 4),
}


@pytest.mark.parametrize("dataset", EXPECTED)
def test_each_data_set_is_read_in_its_published_layout(roots: dict[str, Path], dataset: str) -> None:
    name, count = EXPECTED[dataset]
    selection = select("page4d", "video-depth", dataset)
    chosen, _ = choose_sequences(dataset, roots[dataset], selection)
    assert chosen == [name]
    sequence, _ = load_sequence(dataset, roots[dataset], name, selection)
    assert len(sequence.frames) == count
    own = as_pinhole(read_sequence(dataset, roots[dataset], name))  # what training reads
    for i in range(count):
        np.testing.assert_array_equal(sequence.frames.load_image(i), own.load_image(i))
        np.testing.assert_array_equal(sequence.frames.load_depth(i), own.load_depth(i))
    np.testing.assert_array_equal(sequence.frames.capture.extrinsics, own.capture.extrinsics)


def test_bonn_depth_is_of_the_images_as_they_were_taken(roots: dict[str, Path]) -> None:
    """As published: no lens distortion is taken out, neither of images nor of depth."""
    own = as_pinhole(read_sequence("bonn", roots["bonn"], small_bonn.NAME))
    straightened, _ = load_sequence("bonn", roots["bonn"], small_bonn.NAME, Selection())
    taken, _ = load_sequence("bonn", roots["bonn"], small_bonn.NAME, Selection(undistort=False))
    np.testing.assert_array_equal(straightened.frames.load_image(0), own.load_image(0))
    stored = own.capture.read_image_file(own.capture.image_paths[0])
    np.testing.assert_array_equal(taken.frames.load_image(0), stored)
    assert not select("page4d", "video-depth", "bonn").undistort


def test_sintel_is_evaluated_in_its_final_pass_or_in_the_one_that_is_named(roots: dict[str, Path]) -> None:
    for split, expected in ((None, "final/alley_2"), ("clean", "clean/alley_2")):
        selection = select("page4d", "pose", "sintel", split=split)
        assert choose_sequences("sintel", roots["sintel"], selection)[0] == [expected]
    assert len(SINTEL_SEQUENCES) == 23


def test_sequences_of_the_protocol_that_are_not_there_are_named(roots: dict[str, Path]) -> None:
    """The set never gets smaller in silence."""
    _, missing = choose_sequences("sintel", roots["sintel"], select("cut3r", "video-depth", "sintel"))
    assert missing == sorted(set(SINTEL_SEQUENCES) - {"alley_2"})


def test_market_5_is_left_out_of_the_releases_video_depth_alone() -> None:
    taken = {
        (protocol, task): "market_5" in (select(protocol, task, "sintel").sequences or ())
        for protocol in SELECTIONS
        for task in ("video-depth", "mono-depth", "pose")
    }
    assert [key for key, value in taken.items() if not value] == [("page4d", "video-depth")]


def test_sequences_can_be_named_with_and_without_their_pass(roots: dict[str, Path]) -> None:
    selection = select("page4d", "pose", "sintel")
    for name in ("alley_2", "final/alley_2"):
        assert choose_sequences("sintel", roots["sintel"], selection, (name,)) == (["final/alley_2"], [])


def test_a_sequence_that_is_not_there_cannot_be_named(roots: dict[str, Path]) -> None:
    with pytest.raises(EvaluationError, match="no sequence 'alley_9' of sintel; it has final/alley_2"):
        choose_sequences("sintel", roots["sintel"], select("page4d", "pose", "sintel"), ("alley_9",))


def test_a_folder_with_other_sequences_alone_is_refused(tmp_path: Path) -> None:
    small_tum.SmallSequence(tmp_path).folder.rename(tmp_path / "rgbd_dataset_freiburg3_teddy")
    with pytest.raises(EvaluationError, match=r"which has rgbd_dataset_freiburg3_teddy; name those by --sequences"):
        choose_sequences("tum", tmp_path, select("page4d", "pose", "tum"))


@pytest.mark.parametrize("dataset", get_args(Dataset))
@pytest.mark.parametrize("exists", [True, False])
def test_a_missing_data_set_says_where_it_is_published_and_how_it_looks(
    tmp_path: Path, dataset: str, exists: bool
) -> None:
    root = tmp_path if exists else tmp_path / "nothing"
    with pytest.raises(CaptureError) as caught:
        choose_sequences(dataset, root, select("page4d", "pose", dataset))
    assert DATASETS[dataset].looks in str(caught.value)
    assert DATASETS[dataset].published in str(caught.value)


def test_the_names_of_the_protocols_are_those_that_the_readers_give(roots: dict[str, Path]) -> None:
    assert sintel_sequences(roots["sintel"])[0].removeprefix("final/") in SINTEL_SEQUENCES
    for dataset in ("bonn", "tum", "dycheck"):
        sequences = select("page4d", "video-depth", dataset).sequences
        assert set(find_sequences(dataset, roots[dataset])) <= set(sequences or ())


# --------------------------------------------------------------------------------------------------------------------
# Frames


def test_bonn_depth_takes_the_images_of_ranks_30_to_139() -> None:
    ids = np.delete(np.arange(200), [10, 35])  # two images that the reader left out keep their ranks
    chosen = ids[choose_frames(ids, select("page4d", "mono-depth", "bonn"))]
    assert (chosen[0], chosen[-1], len(chosen)) == (30, 139, 109)


def test_tum_cameras_are_90_frames_at_stride_3() -> None:
    chosen = choose_frames(np.arange(1000), select("page4d", "pose", "tum"))
    np.testing.assert_array_equal(chosen, np.arange(0, 270, 3))


def test_video_depth_takes_the_first_120_frames() -> None:
    chosen = choose_frames(np.arange(400), select("page4d", "video-depth", "dycheck"))
    np.testing.assert_array_equal(chosen, np.arange(120))


def test_ten_frames_are_spread_evenly_with_both_ends() -> None:
    chosen = choose_frames(np.arange(50), select("page4d", "pose", "sintel", frames=10))
    assert len(chosen) == 10
    assert (chosen[0], chosen[-1]) == (0, 49)
    assert set(np.diff(chosen)) <= {5, 6}


def test_more_frames_than_there_are_take_each_once() -> None:
    np.testing.assert_array_equal(choose_frames(np.arange(5), Selection(spread=10)), np.arange(5))


def test_a_sequence_shorter_than_the_protocol_takes_says_so(roots: dict[str, Path]) -> None:
    _, notes = load_sequence("tum", roots["tum"], small_tum.NAME, select("page4d", "pose", "tum"))
    assert notes == ["It has 2 of the 90 frames that the protocol takes."]


def test_frames_that_the_reader_left_out_are_told(tmp_path: Path) -> None:
    sequence = small_tum.SmallSequence(tmp_path)
    sequence.image(1).unlink()
    _, notes = load_sequence("tum", tmp_path, small_tum.NAME, Selection())
    assert len(notes) == 1
    assert notes[0].startswith(f"The reader left out 1 of its frames; the first: {small_tum.NAME}/rgb/")


def test_a_sequence_with_none_of_the_frames_is_excluded(roots: dict[str, Path]) -> None:
    with pytest.raises(ExclusionError, match="has none of the frames that the protocol takes"):
        load_sequence("bonn", roots["bonn"], small_bonn.NAME, select("page4d", "mono-depth", "bonn"))


# --------------------------------------------------------------------------------------------------------------------
# In words, and refused


def test_a_selection_says_all_that_it_takes() -> None:
    text = str(select("page4d", "pose", "tum", frames=10))
    assert (
        text
        == "8 sequences, one in 3 of the frames that have a pose, the first 90 of them, of these 10, spread evenly."
    )
    assert "images 30 to 139" in str(select("cut3r", "mono-depth", "bonn"))
    assert "no published figures" in str(select("page4d", "pose", "bonn"))


def test_no_two_selections_of_a_data_set_have_the_same_words() -> None:
    every = {
        selection for tasks in SELECTIONS.values() for datasets in tasks.values() for selection in datasets.values()
    }
    assert len({(selection.sequences, str(selection)) for selection in every}) == len(every)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"dataset": "spring"}, "pose of the protocol page4d is not evaluated on spring"),
        ({"dataset": "sintel", "split": "night"}, "sintel has no split 'night'; it has final, clean, albedo"),
        ({"dataset": "tum", "split": "final"}, "tum has no split 'final'; it has none"),
        ({"dataset": "tum", "frames": 0}, "--frames must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_selected_is_refused(arguments: dict[str, object], reason: str) -> None:
    with pytest.raises(EvaluationError, match=reason):
        select("page4d", "pose", **arguments)  # type: ignore[arg-type]
