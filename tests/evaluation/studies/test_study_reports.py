"""What all programs of studies do with their folder, before and after the study itself."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import held_out
import mask_study
import pytest

from page4d_hf.errors import Page4DError
from page4d_hf.utils.locks import is_held

PROGRAMS = pytest.mark.parametrize("program", [held_out, mask_study])


@PROGRAMS
def test_an_output_that_cannot_be_written_is_named_before_anything_runs(program: ModuleType, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        program.main(["--model", "nowhere", "--output", "/proc/report"])
    assert ended.value.code == 1
    assert "Cannot write /proc/report" in capsys.readouterr().err


@PROGRAMS
def test_the_folder_is_locked_before_the_model_is_loaded(program: ModuleType, tmp_path: Path, monkeypatch) -> None:
    def looked_at(*_, **__):
        assert is_held(tmp_path / ".out.lock")
        raise Page4DError("That will do.")

    monkeypatch.setattr("evaluator.predict.load_model", looked_at)  # first: importing it takes the other by its name
    monkeypatch.setattr("page4d_hf.weights.loading.load_model", looked_at)
    with pytest.raises(Page4DError, match="That will do"):
        program.run(program.options_from(["--model", "nowhere", "--output", str(tmp_path / "out")]))
    assert list(tmp_path.iterdir()) == []
