"""The data sets by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from page4d_hf.captures import DATASETS, LAYOUTS, find_sequences, layouts, read_sequence
from page4d_hf.captures.registry import MODULES
from page4d_hf.errors import CaptureError


def test_the_published_data_sets_are_known() -> None:
    assert set(DATASETS) == {
        "point-odyssey", "dynamic-replica", "kubric", "spring", "co3d", "sintel", "tum", "bonn", "dycheck",
        "nerfies",
    }  # fmt: skip


def test_every_module_that_reads_a_layout_is_registered_and_none_knows_the_registry() -> None:
    sources = {path.stem: path.read_text() for path in Path(layouts.__path__[0]).glob("*.py")}
    assert sorted(MODULES) == sorted(name for name, source in sources.items() if "\nLAYOUT = " in source)
    assert {*LAYOUTS, *DATASETS} == {name.replace("_", "-") for name in MODULES}
    assert not any("registry import" in source for source in sources.values())


def test_a_data_set_that_is_not_known_is_refused_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match=r"'kitti' is not known; known are .*tum.*sintel"):
        find_sequences("kitti", tmp_path)
    with pytest.raises(CaptureError, match="'kitti' is not known"):
        read_sequence("kitti", tmp_path, "0001")


@pytest.mark.parametrize("name", DATASETS)
def test_a_folder_that_is_missing_is_refused_with_where_to_get_the_data_set(tmp_path: Path, name: str) -> None:
    with pytest.raises(CaptureError, match=r"nothing of the data set .* does not exist; it must hold .*https?://"):
        find_sequences(name, tmp_path / "nothing")
    with pytest.raises(CaptureError, match=r"nothing of the data set .* does not exist"):
        read_sequence(name, tmp_path / "nothing", "0001")


@pytest.mark.parametrize("name", DATASETS)
def test_a_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "data.zip").touch()
    with pytest.raises(CaptureError, match=r"data\.zip of the data set .* is a file"):
        find_sequences(name, tmp_path / "data.zip")


@pytest.mark.parametrize("name", DATASETS)
def test_a_folder_without_sequences_is_refused_with_what_it_must_hold(tmp_path: Path, name: str) -> None:
    (tmp_path / "papers").mkdir()
    (tmp_path / "README").touch()
    with pytest.raises(CaptureError, match=rf"holds no sequence of {name}; it must hold .*https?://"):
        find_sequences(name, tmp_path)


@pytest.mark.parametrize("name", DATASETS)
def test_a_split_that_a_data_set_has_not_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(CaptureError, match=rf"The data set {name} has no split 'night'; it has "):
        find_sequences(name, tmp_path, "night")


@pytest.mark.parametrize("name", DATASETS)
def test_every_split_of_the_registry_is_one_that_the_reader_knows(tmp_path: Path, name: str) -> None:
    for split in DATASETS[name].splits:
        (tmp_path / split).mkdir()
        assert DATASETS[name].sequences(tmp_path, split) == []


@pytest.mark.parametrize("name", DATASETS)
@pytest.mark.parametrize("sequence", ["../secret", "/etc", "a\0b", "x" * 300, "x/" * 3000, ""])
def test_a_sequence_outside_of_the_root_is_refused(tmp_path: Path, name: str, sequence: str) -> None:
    with pytest.raises(CaptureError, match=rf"is no sequence of {name}: it should"):
        read_sequence(name, tmp_path, sequence)


@pytest.mark.parametrize("name", DATASETS)
def test_a_root_whose_name_no_system_takes_is_refused(tmp_path: Path, name: str) -> None:
    for root in (tmp_path / ("x" * 300), tmp_path / "a\0b"):
        with pytest.raises(CaptureError, match=r"cannot be read|does not exist"):
            find_sequences(name, root)


@pytest.mark.parametrize("name", DATASETS)
def test_a_sequence_that_is_not_there_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(CaptureError, match=r"^There is no folder|is missing|is no sequence of|has no training/nowhere"):
        read_sequence(name, tmp_path, "nowhere/at_all")
