"""Videos to clips, in processes that may die."""

from __future__ import annotations

import deadly_videos
import pytest

from page4d_hf.clips.annotated import Trust
from page4d_hf.reconstruction.annotation import Annotation, Annotator, annotate_video

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_programs")]


@pytest.fixture
def annotator(monkeypatch):
    monkeypatch.setattr(Annotator, "work", staticmethod(deadly_videos.work))
    return Annotator("not read by such work")


def test_a_video_that_kills_its_process_is_named_and_the_next_has_a_new_one(annotator):
    [first] = annotator("a.mp4", "a")
    [dead] = annotator("deadly.mp4", "deadly")
    [second] = annotator("b.mp4", "b")
    assert dead.row is None
    assert str(dead.skipped[0]).startswith("sequence videos/deadly: its process died 3 times")
    assert first.row["process"] != second.row["process"]


def test_a_video_whose_process_died_once_is_tried_again(annotator, tmp_path):
    (tmp_path / "once.mp4").touch()
    [clip] = annotator(tmp_path / "once.mp4", "once")
    assert clip.row is not None


def test_videos_that_go_well_share_a_process(annotator):
    processes = {annotator(f"{name}.mp4", name)[0].row["process"] for name in "abc"}
    assert len(processes) == 1


def test_weights_that_are_not_there_are_named(tmp_path):
    annotation = Annotation(str(tmp_path / "nosuch"), None, None, 128, 20.0, Trust())
    [clip] = annotate_video(annotation, "a.mp4", "a")
    assert "No model folder" in str(clip.skipped[0])
