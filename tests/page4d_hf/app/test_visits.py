"""The files of a visit: kept during work on them, removed some time after it."""

import os
import threading
import time
from pathlib import Path

import pytest

from page4d_hf.app import visits as visiting
from page4d_hf.app.visits import Visits, workplace
from page4d_hf.errors import Page4DError


def last_used(folder: Path, minutes: float) -> Path:
    """A folder on which the last work was so many minutes ago."""
    folder.mkdir(exist_ok=True)
    then = time.time() - 60 * minutes
    os.utime(folder, (then, then))
    return folder


def test_files_of_a_visit_expire_and_those_of_others_stay(tmp_path):
    for name, minutes in (("visit-old", 61), ("visit-new", 59), ("another", 500)):
        last_used(tmp_path / name, minutes)
    Visits(tmp_path, 60).sweep()
    assert {path.name for path in tmp_path.iterdir()} == {"visit-new", "another"}


def test_files_at_work_are_kept_and_their_time_counts_from_its_end(tmp_path):
    visits = Visits(tmp_path, 60)
    folder = last_used(tmp_path / "visit-a", 59)
    with visits.work_on(str(folder)) as at_work:
        last_used(at_work, 500)
        visits.sweep()
        assert folder.is_dir()
    visits.sweep()
    assert folder.is_dir()
    last_used(folder, 61)
    visits.sweep()
    assert not folder.exists()


@pytest.mark.parametrize("visit", [None, "gone"])
def test_work_on_a_visit_whose_files_are_gone_is_refused(tmp_path, visit):
    with pytest.raises(Page4DError, match="files are gone"), Visits(tmp_path, 60).work_on(visit and f"{tmp_path}/gone"):
        pass


def test_files_expire_though_nobody_comes_again(tmp_path, monkeypatch):
    monkeypatch.setattr(visiting, "SWEEP", 0.001)
    folder = last_used(tmp_path / "visit-a", 61)
    threads = threading.active_count()
    with Visits(tmp_path, 60).swept():
        while folder.exists():
            time.sleep(0.001)
    assert threading.active_count() == threads


def test_the_apps_folder_ends_with_it():
    with workplace() as place:
        (place / "visit-a").mkdir()
        assert Path(os.environ["GRADIO_TEMP_DIR"]).parent == place
    assert not place.exists()
