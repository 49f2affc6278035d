"""The demo's commands: in order within a series, side by side between them, and all ended by one that fails."""

import sys
from pathlib import Path

import pytest
from commands import CommandFailed, run, run_side_by_side


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


def test_series_run_side_by_side_each_in_its_order(tmp_path: Path) -> None:
    """Each of two waits for what the other writes: one after the other they would wait for ever."""

    def meets(mine: str, other: str) -> tuple[str, ...]:
        return python(
            f"import pathlib, time\nfolder = pathlib.Path({str(tmp_path)!r})\n"
            f"(folder / {mine!r}).touch()\nwhile not (folder / {other!r}).exists(): time.sleep(.01)\nprint('met')"
        )

    series = {"a": [meets("1", "2"), python("print('second')")], "b": [meets("2", "1")]}
    run_side_by_side(series, logs=tmp_path / "logs", at_once=2)
    assert (tmp_path / "logs" / "a.log").read_text() == "met\nsecond\n"
    assert (tmp_path / "logs" / "b.log").read_text() == "met\n"


def test_a_series_that_fails_ends_the_others_and_names_its_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = tmp_path / "done"
    series = {
        "long": [python(f"import time, pathlib; time.sleep(600); pathlib.Path({str(done)!r}).touch()")],
        "bad": [python("import sys; print('what went wrong'); sys.exit(3)"), python("print('never')")],
        "never": [python("print('never')")],
    }
    with pytest.raises(CommandFailed, match=r"ended with exit code 3; .*bad\.log says why"):
        run_side_by_side(series, logs=tmp_path / "logs", at_once=2)
    assert not done.exists()
    assert "what went wrong" in capsys.readouterr().out
    assert not (tmp_path / "logs" / "never.log").exists()


def test_cores_are_shared_by_those_that_run_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(6)))
    tell = python("import os; print(os.environ.get('OMP_NUM_THREADS'))")
    run_side_by_side({"a": [tell], "b": [tell], "c": [tell]}, logs=tmp_path, at_once=2)
    assert [(tmp_path / f"{name}.log").read_text() for name in "abc"] == ["3\n"] * 3


def test_a_command_that_fails_is_named_with_its_exit_code() -> None:
    with pytest.raises(CommandFailed, match="ended with exit code 7"):
        run(*python("import sys; sys.exit(7)"))
