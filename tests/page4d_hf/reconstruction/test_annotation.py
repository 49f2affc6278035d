"""Videos to clips, in processes that may die."""

from __future__ import annotations

from dataclasses import replace

import deadly_videos
import pytest

from page4d_hf.clips.annotated import Trust
from page4d_hf.errors import FrameError, Page4DError
from page4d_hf.reconstruction import annotation
from page4d_hf.reconstruction.annotation import Annotation, Annotator, annotate_video

ANNOTATION = Annotation("nosuch", None, None, 128, 20.0, Trust())


@pytest.fixture
def annotator(quick_programs, monkeypatch):
    monkeypatch.setattr(Annotator, "load", staticmethod(deadly_videos.load))
    monkeypatch.setattr(Annotator, "work", staticmethod(deadly_videos.work))
    return Annotator(ANNOTATION)


@pytest.mark.slow
def test_a_video_that_kills_its_process_is_named_and_the_next_has_a_new_one(annotator):
    [first] = annotator("a.mp4", "a").clips
    [dead], memory_ran_out = annotator("deadly.mp4", "deadly")
    [second] = annotator("b.mp4", "b").clips
    assert dead.row is None
    assert memory_ran_out
    assert str(dead.skipped[0]).startswith("sequence videos/deadly: its process died 3 times")
    assert first.row["process"] != second.row["process"]


@pytest.mark.slow
def test_a_video_whose_process_died_once_is_tried_again(annotator, tmp_path):
    (tmp_path / "once.mp4").touch()
    [clip] = annotator(tmp_path / "once.mp4", "once").clips
    assert clip.row is not None


@pytest.mark.slow
def test_videos_that_go_well_share_a_process(annotator):
    processes = {annotator(f"{name}.mp4", name).clips[0].row["process"] for name in "abc"}
    assert len(processes) == 1


@pytest.mark.slow
def test_a_model_that_kills_its_process_is_no_fault_of_the_video(annotator, monkeypatch):
    monkeypatch.setattr(annotator, "_annotation", replace(ANNOTATION, model="a large model"))
    with pytest.raises(Page4DError, match="loads the model a large model died 3 times"):
        annotator("a.mp4", "a")


def test_weights_that_are_not_there_are_no_fault_of_the_video(tmp_path):
    with pytest.raises(Page4DError, match="No model folder"):
        annotate_video(replace(ANNOTATION, model=str(tmp_path / "nosuch")), "a.mp4", "a")


@pytest.mark.parametrize(
    ("error", "memory_ran_out", "reason"),
    [
        (FrameError("It has no frames."), False, "It has no frames."),
        (KeyError("odd"), False, "KeyError: 'odd'"),
        (MemoryError(), True, "MemoryError: "),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), True, "RuntimeError: DefaultCPUAllocator"),
    ],
)
def test_what_is_wrong_with_a_video_is_told_from_a_memory_that_is_full(monkeypatch, error, memory_ran_out, reason):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr(annotation, "_loaded", lambda model: (None, None))
    monkeypatch.setattr(annotation, "reconstruct", fails)
    [clip], ran_out = annotate_video(ANNOTATION, "a.mp4", "a")
    assert str(clip.skipped[0]).startswith(f"sequence videos/a: {reason}".rstrip())
    assert ran_out is memory_ran_out
