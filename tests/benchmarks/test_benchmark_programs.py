"""What the programs of `benchmarks/` say of input that they cannot use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import train

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_programs")]

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("reconstruct", ["--captures", "nosuch"]),
        ("motion", ["--captures", "nosuch"]),
        ("known_motion", ["--data", "nosuch"]),
        ("gpu_capture", ["nosuch", "out"]),
    ],
)
def test_a_capture_that_is_not_there_is_one_sentence(tmp_path: Path, program: str, words: list[str]) -> None:
    script = str(BENCHMARKS / f"{program}.py")
    ended = subprocess.run([sys.executable, script, *words], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert "nosuch" in ended.stdout + ended.stderr


def test_data_are_timed_at_the_networks_own_size_without_workers_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = train.parquet_clips((42, 56))  # those of the benchmark take a minute
    monkeypatch.setattr(train, "parquet_clips", lambda size: small)
    train.main(
        train.TrainingOptions(data=True, networks=("page4d-tiny",), steps=3, frame_budget=2, workers=0, threads=0)
    )
    assert "images 56 wide, in patches of 8;" in capsys.readouterr().out


@pytest.mark.parametrize("program", sorted(path.stem for path in BENCHMARKS.glob("*.py")))
def test_help_needs_no_library_of_tables(program: str) -> None:
    run = "import runpy, sys; sys.modules['pandas'] = None; "
    run += f"runpy.run_module({program!r}, run_name='__main__', alter_sys=True)"
    words = [sys.executable, "-c", run, "--help"]  # the folder of -c is the working folder
    ended = subprocess.run(words, capture_output=True, text=True, cwd=BENCHMARKS, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "usage:" in ended.stdout
