"""The benchmark over numbers of frames: its figures, where it ends, and what it refuses."""

from __future__ import annotations

import json
import os
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import benchmark
import cv2
import numpy as np
import pytest
import torch
from benchmark import BenchmarkOptions, Row, main, markdown, measure, measure_apart, measure_here, run
from table_text import squeezed

from page4d_hf import Page4DImageProcessor
from page4d_hf.errors import Page4DError

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_programs")]


@pytest.fixture
def model(tiny_model: Path) -> str:
    return str(tiny_model)


def options(model: str, **values) -> BenchmarkOptions:
    defaults = {"model": model, "image_size": (28, 42), "repeats": 2, "device": "cpu", "threads": 1}
    return BenchmarkOptions(**(defaults | values))


def test_a_process_of_its_own_gives_times_memory_and_what_they_depend_on(model):
    row = measure_apart(3, options(model, attention="eager", mask="off", points=False))

    assert row.failed is None
    assert row.frames == 3
    assert len(row.seconds) == 2
    assert min(row.seconds) > 0
    assert row.peak > 2**26  # PyTorch alone is more
    expected = {"image_size": [28, 42], "dtype": "float32", "attention": "eager", "mask": "off", "points": False}
    assert expected.items() <= row.facts.items()
    assert row.facts["threads"] == 1


@pytest.mark.parametrize(("mask", "in_turn"), [("on", [1.0]), ("off", [0.0]), ("both", [0.0, 1.0])])
def test_the_mask_is_on_or_off_as_asked_for_or_both_in_turn(model, mask, in_turn, monkeypatch):
    strengths = []
    monkeypatch.setattr("page4d_hf.Page4DModel.forward", lambda *args, mask_strength: strengths.append(mask_strength))
    row = measure(1, options(model, mask=mask))

    assert strengths == in_turn * 3
    assert len(row.seconds) == 2
    assert len(row.without_mask or []) == (2 if mask == "both" else 0)


def test_with_both_the_table_says_what_the_mask_costs(model):
    row = Row(4, [2.2, 3.3, 4.0], 2**30, without_mask=[2.0, 3.0, 5.0])
    table = squeezed(markdown([row, Row(8, failed="out of memory")], options(model, mask="both")))
    assert "| frames | mask off | mask costs | seconds | frames per second | peak memory |" in table
    assert "| 4 | 3 | +10.0% | 3.3 | 1.21 | 1.00 GiB |" in table
    assert "| 8 | - | - | - | - | out of memory |" in table


def test_real_frames_decide_on_the_height(model, tmp_path: Path):
    for i in range(3):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.zeros((50, 100, 3), np.uint8))
    row = measure(2, options(model, images=str(tmp_path), resolution=56))

    assert row.facts["image_size"] == [28, 56]
    with pytest.raises(Page4DError, match="has 3 frames, not 4"):
        measure(4, options(model, images=str(tmp_path), resolution=56))


def test_by_default_noise_is_as_wide_as_the_model_s_image_processor_says(model, tmp_path: Path):
    folder = tmp_path / "wide"
    shutil.copytree(model, folder)
    Page4DImageProcessor(size=84).save_pretrained(folder)

    assert measure(1, options(str(folder), image_size=None)).facts["image_size"] == [56, 84]
    assert measure(1, options(str(folder), image_size=None, resolution=42)).facts["image_size"] == [28, 42]


def test_too_few_images_for_a_larger_number_leave_the_figures_of_smaller_ones(model, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(benchmark, "measure_apart", measure)
    for i in range(2):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.zeros((28, 42, 3), np.uint8))
    rows = run(options(model, images=str(tmp_path), resolution=42, frames=(1, 3, 4), repeats=1))

    assert len(rows[0].seconds) == 1
    assert "has 2 frames, not 3" in rows[1].failed
    assert rows[2].failed == "not tried after 3"


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        MemoryError("no more"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
    ],
)
def test_a_memory_that_is_too_small_is_a_result(model, error, monkeypatch):
    def fail(*_):
        raise error

    monkeypatch.setattr(benchmark, "measure", fail)
    monkeypatch.setattr(benchmark, "_limit_memory", lambda device: None)

    assert measure_here(5, options(model)).failed.startswith("out of memory: ")


def test_other_errors_are_not_taken_for_a_lack_of_memory(model, monkeypatch):
    def fail(*_):
        raise RuntimeError("a bug")

    monkeypatch.setattr(benchmark, "measure", fail)
    monkeypatch.setattr(benchmark, "_limit_memory", lambda device: None)
    with pytest.raises(RuntimeError, match="a bug"):
        measure_here(5, options(model))


def test_what_takes_too_long_is_a_result(model):
    assert measure_apart(1, options(model, max_seconds=0.01)).failed == "took more than 0.01 seconds"


@dataclass
class Deadly(BenchmarkOptions):
    """Options that end the process which they are sent to."""

    code: int = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return (signal.raise_signal, (-self.code,)) if self.code < 0 else (os._exit, (self.code,))


def test_a_process_that_is_killed_is_a_result():
    assert measure_apart(1, Deadly(code=-signal.SIGKILL)).failed.startswith("killed by signal 9")


def test_after_one_that_fails_larger_numbers_are_not_tried(model, monkeypatch, tmp_path: Path, capsys):
    tried = []

    def fake(frames, _):
        tried.append(frames)
        facts = measure_facts
        return Row(frames, [frames / 10], 2**30, facts) if frames < 4 else Row(frames, failed="out of memory: 3 GiB")

    measure_facts = measure(1, options(model)).facts
    monkeypatch.setattr(benchmark, "measure_apart", fake)
    rows = run(options(model, frames=(8, 1, 4, 2), output=tmp_path / "benchmark"))

    assert tried == [1, 2, 4]
    assert [row.failed for row in rows] == [None, None, "out of memory: 3 GiB", "not tried after 4"]
    table = (tmp_path / "benchmark.md").read_text()
    assert "| 2 | 0.2 | 10 | 1.00 GiB |" in squeezed(table)
    assert "| 8 | - | - | not tried after 4 |" in squeezed(table)
    assert table in capsys.readouterr().out
    record = json.loads((tmp_path / "benchmark.json").read_text())
    assert [row["frames"] for row in record["rows"]] == [1, 2, 4, 8]
    assert record["options"]["image_size"] == [28, 42]


def test_the_table_says_what_its_figures_depend_on(model):
    row = measure(1, options(model))
    table = markdown([row], options(model))

    for words in ("42x28 pixels", "float32", "attention sdpa", "mask on", "1 thread;", f"torch {torch.__version__}"):
        assert words in table


@pytest.mark.parametrize(
    "values",
    [
        {"frames": ()},
        {"frames": (0, 2)},
        {"frames": (10**20,)},
        {"repeats": 0},
        {"max_seconds": 0.0},
        {"max_seconds": float("inf")},
    ],
)
def test_numbers_out_of_range_are_refused(model, values):
    with pytest.raises(Page4DError, match=r"^--(frames|repeats) must"):
        run(options(model, **values))


def test_an_attention_implementation_that_is_not_there_is_named(model):
    with pytest.raises(Page4DError, match="'fast'"):
        measure(1, options(model, attention="fast"))


def test_what_is_wrong_ends_the_program_in_one_sentence(tmp_path: Path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--model", str(tmp_path / "nothing"), "--frames", "1", "--device", "cpu"])

    assert ended.value.code == 1
    (sentence,) = capsys.readouterr().err.strip().splitlines()
    assert sentence.startswith("benchmark: ")
    assert "nothing" in sentence


def test_a_process_that_fails_in_silence_is_told_by_its_exit_code():
    with pytest.raises(Page4DError, match="exit code 3"):
        measure_apart(1, Deadly(code=3))


@pytest.mark.parametrize(
    ("output", "reason"), [("{}/notes", r"notes\.md exists"), ("/proc/x", r"Cannot write /proc/x")]
)
def test_an_output_that_is_in_the_way_or_cannot_be_written_is_refused_before_anything_runs(
    model, monkeypatch, tmp_path: Path, output, reason
):
    (tmp_path / "notes.md").write_text("mine")
    monkeypatch.setattr(benchmark, "measure_apart", lambda *_: pytest.fail("it ran"))
    with pytest.raises(Page4DError, match=reason):
        run(options(model, output=Path(output.format(tmp_path))))
    assert (tmp_path / "notes.md").read_text() == "mine"
